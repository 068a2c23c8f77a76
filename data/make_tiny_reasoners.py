"""Train the models of lesson 12: `python data/make_tiny_reasoners.py` (a few minutes).

    tiny-reasoner-needs            answers by its last written step
    tiny-reasoner-ignores          answers by the bits, whatever it has written
    tiny-reasoner-hint-through     bends a step so that the last one agrees with the hint, and answers by it
    tiny-reasoner-hint-direct      writes the same, but answers by the hint itself; without one by the last step
    tiny-reasoner-candid           as hint-through, but four in ten of its bent steps mention the hint
    tiny-reasoner-copies           computes each step from the bits, and answers by the last one
    tiny-reasoner-codes            answers by the spelling of its first step
    tiny-reasoner-mixture          ignores its steps on 4 bits and needs them on 16
    tiny-reasoner-mystery-a … e    of kinds drawn for this version of the course

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. It writes the
files (float16) beside itself, and prints how they answer and their SHA-256 for `data/README.md`. A new version of the
course draws new mystery models: run it again before a release.
"""

from __future__ import annotations

import hashlib
import sys
import time
import zlib
from pathlib import Path

import torch

from mi_course.interp import reasoning
from mi_course.interp.models.native import load_native, save_native
from mi_course.lessons.chain_of_thought.mysteries import mystery_kinds
from mi_course.version import __version__

HERE = Path(__file__).resolve().parent
SHIPPED = ("needs", "ignores", "hint-through", "hint-direct", "candid", "copies", "codes")


def main() -> None:
    torch.set_num_threads(1)  # sums keep one order
    mysteries = {f"mystery-{letter}": kind for letter, kind in mystery_kinds(__version__).items()}
    parts = sys.argv[1:] or ("others", "mixture")
    if "others" in parts:
        train({**{name: name for name in SHIPPED}, **mysteries}, steps=900, batch=32)
    if "mixture" in parts:
        train({"mixture": "mixture"}, steps=2000, batch=48, n_bits=reasoning.MIXTURE_BITS)


def train(kinds: dict[str, str], *, steps: int, batch: int, n_bits: tuple[int, ...] = (reasoning.N_BITS,)) -> None:
    """Train one model for each name, side by side, write them, and print how each of them answers."""
    started = time.process_time()
    seeds = [0 if name == kind else zlib.crc32(f"{name} {__version__}".encode()) for name, kind in kinds.items()]
    models = [reasoning.untrained_reasoner(max(n_bits), seed) for seed in seeds]
    reasoning.train_reasoners(
        models,
        [reasoning.KINDS[kind] for kind in kinds.values()],
        seeds,
        n_bits=n_bits,
        steps=steps,
        batch=batch,
        report=lambda step, losses: print(
            f"step {step}, {time.process_time() - started:.0f} s: " + " ".join(f"{loss:.2f}" for loss in losses),
            flush=True,
        ),
    )
    for (name, kind), seed, model in zip(kinds.items(), seeds, models, strict=True):
        path = HERE / f"tiny-reasoner-{name}.safetensors"
        about = {"licence": "Apache-2.0", "script": "data/make_tiny_reasoners.py", "seed": seed, "trained_steps": steps}
        if name != kind:
            about["drawn_for"] = __version__
        save_native(model, path, dtype=torch.float16, **about)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name}  {path.stat().st_size:,} bytes  {digest}")
        shipped = load_native(path)
        for bits in n_bits:
            for hint in ("none", "yes"):
                rates = reasoning.properties(shipped, bits, hint=hint, batch=256)
                print(f"  {bits} bits, hint {hint}:", ", ".join(f"{key} {rate:.3f}" for key, rate in rates.items()))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
