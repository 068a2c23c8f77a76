"""Train the small models of lesson 02: `python data/make_tiny_induction.py` (about two minutes).

    tiny-induction               two layers, periods 6 … 32 without 18 … 22: an induction circuit
    tiny-induction-checkpoints   checkpoints of that run, densest around the phase change, float16
    tiny-induction-seed1, -seed2 the same with other seeds
    tiny-one-layer               one layer, otherwise the same: no induction
    tiny-fixed-period            two layers, period 24 only: a positional copy, useless at any other period
    tiny-induction-growth.json   every 25 steps of all five: losses (nats) at an unseen period, scores of every head

Deterministic: same seed, same weights, on the same version of torch (the script sets the number of threads); elsewhere
the last digits differ, and the phase change may move by some steps. It writes the files beside itself and
prints what each model can do, and its SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import torch

from mi_course.interp.induction_training import TRAIN_PERIODS, measure_growth, train_induction, untrained_tiny_model
from mi_course.interp.models.native import save_checkpoints, save_native, state_of

HERE = Path(__file__).resolve().parent
STEPS = 1000
TEST_PERIOD = 20  # never trained on
# Every 25 steps where the circuit forms, fewer before and after.
KEEP = (0, 100, 200, 250, *range(300, 526, 25), 550, 600, 650, 700, 800, 1000)


def main() -> None:
    torch.set_num_threads(1)  # products this small gain nothing from a second thread, and sums then keep one order
    started = time.perf_counter()
    curves = {
        "tiny-induction": train("tiny-induction", checkpoints=True),
        "tiny-induction-seed1": train("tiny-induction-seed1", seed=1),
        "tiny-induction-seed2": train("tiny-induction-seed2", seed=2),
        "tiny-one-layer": train("tiny-one-layer", n_layers=1),
        "tiny-fixed-period": train("tiny-fixed-period", periods=(24,), steps=400),
    }
    path = HERE / "tiny-induction-growth.json"
    path.write_text(json.dumps({"test_period": TEST_PERIOD, "runs": curves}) + "\n", encoding="utf-8")
    report(path)
    print(f"done in {time.perf_counter() - started:.0f} s")


def train(
    name: str,
    *,
    n_layers: int = 2,
    seed: int = 0,
    periods: tuple[int, ...] = TRAIN_PERIODS,
    steps: int = STEPS,
    checkpoints: bool = False,
) -> dict[str, list]:
    """Train one model and write it; returns its curves, one entry per measurement."""
    model = untrained_tiny_model(n_layers, seed)
    about = {
        "licence": "Apache-2.0",
        "script": "data/make_tiny_induction.py",
        "seed": seed,
        "trained_steps": steps,
        "periods": list(periods),
    }
    kept, growths = {}, []
    for growth in train_induction(model, steps=steps, periods=periods, test_period=TEST_PERIOD, every=25, seed=seed):
        growths.append(growth)
        if checkpoints and growth.step in KEEP:
            kept[growth.step] = state_of(model)
    report(save_native(model, HERE / f"{name}.safetensors", **about))
    if checkpoints:
        report(save_checkpoints(model, kept, HERE / f"{name}-checkpoints.safetensors", **about))
    for period in (12, TEST_PERIOD, 24, 32, 40):
        g = measure_growth(model, steps, period)
        print(
            f"  period {period}: loss {g.loss_first:.2f} then {g.loss_second:.2f} nats, "
            f"induction {g.best_induction:.2f}, previous token {g.best_previous_token:.2f}",
            flush=True,
        )
    return {
        "step": [g.step for g in growths],
        "loss_first": [round(g.loss_first, 4) for g in growths],
        "loss_second": [round(g.loss_second, 4) for g in growths],
        "induction": [rounded(g.induction) for g in growths],
        "previous_token": [rounded(g.previous_token) for g in growths],
    }


def rounded(scores: torch.Tensor) -> list[list[float]]:
    return [[round(score, 3) for score in layer] for layer in scores.tolist()]


def report(path: Path) -> None:
    print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
