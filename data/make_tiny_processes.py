"""Train the small models of lesson 13, part A: `python data/make_tiny_processes.py` (some minutes).

    tiny-mess3               two layers on Mess3, whose beliefs make the fractal
    tiny-ring-checkpoints    two layers on three states in a ring, at eight steps of its training, float16
    tiny-rrxor-checkpoints   four layers on random, random, XOR, before and after training, float16
    tiny-mystery             two layers on one of three processes; which, the learner is to find out

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. It writes the
files beside itself, and prints how far each model is from a perfect predictor and the SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mi_course.interp import processes
from mi_course.interp.models.native import save_checkpoints, save_native, state_of

HERE = Path(__file__).resolve().parent
LENGTH = 10
RING_STEPS = (0, 25, 50, 100, 200, 400, 800, 2000)
RUNS: dict[str, dict[str, Any]] = {
    "tiny-mess3": {"T": processes.mess3(), "n_layers": 2, "d_model": 32, "steps": 1500, "keep": ()},
    "tiny-ring": {"T": processes.ring(), "n_layers": 2, "d_model": 48, "steps": 2000, "keep": RING_STEPS},
    "tiny-rrxor": {"T": processes.rrxor(), "n_layers": 4, "d_model": 64, "steps": 4000, "keep": (0, 4000)},
    "tiny-mystery": {"T": processes.MYSTERY["B"], "n_layers": 2, "d_model": 48, "steps": 2000, "keep": ()},
}


def train(name: str, T: torch.Tensor, n_layers: int, d_model: int, steps: int, keep: tuple[int, ...]) -> None:
    config = processes.process_config(len(T), n_layers=n_layers, d_model=d_model, length=LENGTH)
    model = processes.untrained_process_model(config, seed=0)
    about = {"licence": "Apache-2.0", "script": "data/make_tiny_processes.py", "seed": 0, "trained_steps": steps}
    kept = {0: state_of(model)}
    for step, _ in processes.train_on_process(model, T, steps=steps):
        if step in keep:
            kept[step] = state_of(model)
    if keep:
        path = save_checkpoints(model, kept, HERE / f"{name}-checkpoints.safetensors", **about)
    else:
        path = save_native(model, HERE / f"{name}.safetensors", **about)
    print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"  {processes.excess_loss(model, T):.4f} nats a token above a perfect predictor", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    for name in sys.argv[1:] or RUNS:
        train(name, **RUNS[name])
    print(f"done in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
