"""Train the models of lesson 13, part B: `python data/make_tiny_clock.py` (some minutes).

    tiny-clock-checkpoints   addition modulo 53 with weight decay, from its first step until long after it generalizes
    tiny-clock-memory        the same first weights and the same training pairs, without weight decay: it memorizes
    tiny-clock-mystery       another run, for the learner to take apart; a frequency that nothing reads is written into
                             its embedding
    tiny-clock-growth.json   losses (nats), accuracies and squared norms of the first two, every 50 steps

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. It writes the
files beside itself, and prints what each model can do and the SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mi_course.interp import modular
from mi_course.interp.models.native import load_state, save_checkpoints, save_native

HERE = Path(__file__).resolve().parent
NAME = "tiny-clock"
ABOUT = {"licence": "Apache-2.0", "script": "data/make_tiny_clock.py"}
EVERY = 50
RUN: dict[str, Any] = {"p": 53, "seed": 0, "share": 0.7, "weight_decay": 1.0, "lr": 0.002, "steps": 4000}
MYSTERY: dict[str, Any] = {"p": 59, "seed": 1, "share": 0.65, "weight_decay": 2.0, "lr": 0.002, "steps": 2500}
DECOY, SIZE = 7, 0.9
"""The frequency that is written into the mystery model's embedding, and its power over the strongest one's."""
KEEP = (0, 50, 100, 200, 400, 700, *range(1000, 2600, 100), 2800, 3000, 3500, 4000)
"""Steps of the checkpoints."""


def train(p: int, seed: int, share: float, weight_decay: float, lr: float, steps: int) -> tuple[Any, dict, dict]:
    """The model, its states at the steps in KEEP, and what was recorded."""
    model = modular.untrained_addition_model(p, seed=seed)
    trained_on = modular.training_pairs(p, share, seed)
    options: dict[str, Any] = {"steps": steps, "weight_decay": weight_decay, "lr": lr, "every": EVERY}
    pairs = modular.all_pairs(p)
    states: dict[int, Any] = {}
    growth: dict[str, list[float]] = {name: [] for name in ("step", *modular.Measures._fields, "squared_norm")}
    for step, _, state in modular.train_addition(model, trained_on, **options):
        logits = modular.state_logits(state, pairs[:, 0], pairs[:, 1]).unflatten(0, (p, p))
        numbers = modular.measure(logits, trained_on)
        norm = sum(float(t.square().sum()) for t in state.values())
        for name, value in zip(growth, (step, *numbers, norm), strict=True):
            growth[name].append(float(f"{value:.4g}"))
        if step in KEEP:
            states[step] = state
        if step % 250 == 0:
            train_loss, test_loss, _, right = numbers
            print(f"  {step:6d}  loss {train_loss:.1e} {test_loss:.3f}  right {right:.3f}", flush=True)
    load_state(model, state)
    return model, states, growth


def wrote(path: Path) -> None:
    print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}", flush=True)


def about(run: dict[str, Any]) -> dict[str, Any]:
    return {
        **ABOUT,
        **{name: run[name] for name in ("seed", "share", "weight_decay", "lr")},
        "trained_steps": run["steps"],
    }


def make_runs() -> None:
    """The run with checkpoints, and the one without weight decay."""
    growth = {}
    model, states, growth["weight decay"] = train(**RUN)
    print(f"  uses {modular.used_frequencies(modular.pair_logits(model))}")
    wrote(save_checkpoints(model, states, HERE / f"{NAME}-checkpoints.safetensors", **about(RUN)))
    control = {**RUN, "weight_decay": 0.0}
    model, _, growth["no weight decay"] = train(**control)
    wrote(save_native(model, HERE / f"{NAME}-memory.safetensors", **about(control)))
    path = HERE / f"{NAME}-growth.json"
    path.write_text(json.dumps({"run": RUN, **growth}) + "\n")
    wrote(path)


def make_mystery() -> None:
    model, _, _ = train(**MYSTERY)
    before = modular.used_frequencies(modular.pair_logits(model))
    modular.add_decoy(model, DECOY, SIZE)
    after = modular.used_frequencies(modular.pair_logits(model))
    print(f"  uses {before}; with the decoy {after}")
    wrote(save_native(model, HERE / f"{NAME}-mystery.safetensors", **about(MYSTERY)))


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    for name in sys.argv[1:] or ("runs", "mystery"):
        {"runs": make_runs, "mystery": make_mystery}[name]()
    print(f"done in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
