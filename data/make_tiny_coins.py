"""Train the models of lesson 13, part C: `python data/make_tiny_coins.py` (two minutes).

    tiny-coins-checkpoints   before new coins turn up, after a tenth of the steps with them, and after all; float16
    tiny-coins-exchanged     the control: tosses of new coins under the names of random new coins; float16
    tiny-coins-unrehearsed   the control: tosses alone, no questions, while new coins turn up; float16

Deterministic: same seed, same weights, on the same version of torch; elsewhere the last digits differ. It writes the
files beside itself, and prints what each model answers and the SHA-256 for `data/README.md`.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch

from mi_course.interp import coins
from mi_course.interp.models.native import save_checkpoints, save_native, state_of

HERE = Path(__file__).resolve().parent
ABOUT = {"licence": "Apache-2.0", "script": "data/make_tiny_coins.py", "seed": 0}


def main() -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    for plan in coins.PLANS:
        model, kept = coins.untrained_coin_model(seed=0), {}
        for step in coins.train_on_coins(model, plan, seed=0):
            if step in coins.RECORDED:
                kept[step] = state_of(model)
                right = [f"{coins.right_answers(model, some):.2f}" for some in (coins.KNOWN, coins.NEW)]
                print(f"{plan}, step {step}: known and new coins right {right}", flush=True)
        about = {**ABOUT, "trained_steps": step}
        if plan == coins.PLANS[0]:
            path = save_checkpoints(model, kept, HERE / "tiny-coins-checkpoints.safetensors", **about)
        else:
            path = HERE / f"tiny-coins-{coins.CONTROLS[plan]}.safetensors"
            save_native(model, path, dtype=torch.float16, **about)
        print(f"{path.name}  {path.stat().st_size:,} bytes  {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"done in {time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
