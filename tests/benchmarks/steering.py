"""How much slower generation is with steering: 4 prompts × 40 tokens on SmolLM2. The bound is 1.3 times.

    python tests/benchmarks/steering.py

Rounds with and without steering alternate, so that a busy machine slows both; the ratio is that of the fastest rounds.
For comparison: TransformerLens's own `generate` (no steering), and steering without a cache. Exits with 1 above the
bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

BOUND = 1.3
NEW = 40


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds

    from mi_course.interp.models import load_model
    from mi_course.interp.steering import Ablate, Steer, collect, difference_of_means, generate_ids, texts, token_ids

    model = load_model("smollm2")
    vector = difference_of_means(collect(model, texts.POSITIVE, 14), collect(model, texts.NEGATIVE, 14))
    # Token ids of one length, so that TransformerLens's generate needs no padding; no row may end early.
    rows = [row[:5] for row in token_ids(model, texts.PROMPTS[:4])]
    import torch

    tokens = torch.tensor(rows)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: generate_ids(model, rows, max_new_tokens=NEW),
        "steered": lambda: generate_ids(model, rows, [Steer(vector, 14, 1.0)], max_new_tokens=NEW),
        "ablated": lambda: generate_ids(model, rows, [Ablate(vector)], max_new_tokens=NEW),
        "bridge": lambda: model.generate(
            tokens, max_new_tokens=NEW, do_sample=False, stop_at_eos=False, verbose=False, return_type="tokens"
        ),
    }
    generate_ids(model, rows, max_new_tokens=4)  # warm up
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            best[name] = min(best[name], seconds(run))
    uncached = seconds(lambda: generate_ids(model, rows, [Steer(vector, 14, 1.0)], max_new_tokens=NEW, use_cache=False))
    for name, taken in best.items():
        print(f"{name:9s} {taken:6.2f} s   {taken / best['plain']:.2f} × plain")
    print(f"uncached  {uncached:6.2f} s   {uncached / best['plain']:.2f} × plain (steered, once)")
    ratio = best["steered"] / best["plain"]
    print(f"steered / plain = {ratio:.2f}, bound {BOUND}")
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
