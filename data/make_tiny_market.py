"""Train the one-layer models of lesson 01: `python data/make_tiny_market.py` (about half a minute).

    tiny-market-2heads   two heads: each takes one verb, and all ten rules can be read in its weights
    tiny-market-1head    one head: it cannot tell what a trader sells from what they buy

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. It writes the
files beside itself, and prints what each model can do and its SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch

from mi_course.interp.models.native import save_native
from mi_course.interp.skip_trigrams import (
    GOODS,
    TRUE_TRIGRAMS,
    market_sentences,
    read_tables,
    train_market_model,
    untrained_market_model,
    word_ids,
)

HERE = Path(__file__).resolve().parent
STEPS = 2000


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    for n_heads, name in ((2, "tiny-market-2heads"), (1, "tiny-market-1head")):
        model = untrained_market_model(n_heads)
        losses = train_market_model(model, steps=STEPS)
        about = {"licence": "Apache-2.0", "script": "data/make_tiny_market.py", "seed": 0, "trained_steps": STEPS}
        path = save_native(model, HERE / f"{name}.safetensors", **about)
        print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}")
        tokens = market_sentences(256, 3, seed=10_000)
        with torch.no_grad():
            logits = model(tokens)
            difference = float((read_tables(model).logits(tokens) - logits).abs().max())
            right = float((logits[:, -2].argmax(-1) == tokens[:, -1]).float().mean())
        print(f"  loss on the good {losses[-1]:.3f} nats, right {right:.2f}, tables differ by {difference:.1e}")
    print(f"done in {time.perf_counter() - started:.0f} s; {len(TRUE_TRIGRAMS)} rules, goods {word_ids(GOODS)}")


if __name__ == "__main__":
    main()
