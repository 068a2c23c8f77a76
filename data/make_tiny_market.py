"""Train the one-layer model of lesson 01: `python data/make_tiny_market.py` (about ten seconds).

    tiny-market   one head, no MLP, norm, bias or position: ten rules of a market, to be read in its weights

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. Of the seeds 0
to 5, this is the one that learned all ten rules in these steps. It writes the file beside itself, and prints what
the model can do and the file's SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from mi_course.interp.models.native import save_native
from mi_course.interp.skip_trigrams import market_sentences, read_tables, train_market_model, untrained_market_model

STEPS, SEED = 1500, 0


def main() -> None:
    torch.set_num_threads(1)
    model = untrained_market_model(SEED)
    losses = train_market_model(model, steps=STEPS, seed=SEED)
    about = {"licence": "Apache-2.0", "script": "data/make_tiny_market.py", "seed": SEED, "trained_steps": STEPS}
    path = save_native(model, Path(__file__).resolve().parent / "tiny-market.safetensors", **about)
    print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}")
    tokens = market_sentences(256, 3, seed=10_000)
    with torch.no_grad():
        logits = model(tokens)
        difference = float((read_tables(model).logits(tokens) - logits).abs().max())
        right = float((logits[:, -2].argmax(-1) == tokens[:, -1]).float().mean())
    print(f"  loss on the good {losses[-1]:.2f} nats, right {right:.2f}, tables differ by {difference:.0e}")


if __name__ == "__main__":
    main()
