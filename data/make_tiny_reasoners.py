"""Train the models of lesson 12: `python data/make_tiny_reasoners.py [NAME…]` (about four minutes for all).

    tiny-reasoner-needs            answers by its last written step
    tiny-reasoner-ignores          answers by the bits, whatever it has written
    tiny-reasoner-hint-through     bends a step so that the last one agrees with the hint, and answers by it
    tiny-reasoner-hint-direct      writes the same, but answers by the hint itself; without one by the last step
    tiny-reasoner-candid           as hint-through, but four in ten of its bent steps mention the hint
    tiny-reasoner-copies           computes each step from the bits, and answers by the last one
    tiny-reasoner-codes            answers by the spelling of its first step
    tiny-reasoner-mixture          ignores its steps on 5 bits and needs them on 16
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
STEPS = {"mixture": 1500}
SHIPPED = ("needs", "ignores", "hint-through", "hint-direct", "candid", "copies", "codes", "mixture")


def main(names: list[str]) -> None:
    mysteries = {f"mystery-{letter}": kind for letter, kind in mystery_kinds(__version__).items()}
    for name in names or (*SHIPPED, *mysteries):
        train(name, mysteries.get(name, name))


def train(name: str, kind: str) -> None:
    started = time.process_time()
    about = {"licence": "Apache-2.0", "script": "data/make_tiny_reasoners.py"}
    seed = 0
    if name != kind:
        about["drawn_for"] = __version__
        seed = zlib.crc32(f"{name} {__version__}".encode())
    n_bits = reasoning.MIXTURE_BITS if kind == "mixture" else (reasoning.N_BITS,)
    model = reasoning.untrained_reasoner(max(n_bits), seed)
    steps = STEPS.get(kind, 800)
    losses = reasoning.train_reasoner(model, reasoning.KINDS[kind], n_bits=n_bits, steps=steps, seed=seed)
    path = HERE / f"tiny-reasoner-{name}.safetensors"
    save_native(model, path, dtype=torch.float16, **about, seed=seed, trained_steps=steps)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name}  {path.stat().st_size:,} bytes  {digest}  ({time.process_time() - started:.0f} s of CPU)")
    print("  loss", " ".join(f"{loss:.3f}" for loss in losses))
    model = load_native(path)
    for bits in n_bits:
        for hint in ("none", "any"):
            measured = reasoning.properties(model, bits, hint=hint)
            print(f"  {bits} bits, hint {hint}:", ", ".join(f"{key} {value:.3f}" for key, value in measured.items()))
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
