"""How faithful random sets of SmolLM2's heads are on lesson 03's held-out prompts, with and without the strongest one.

    python data/measure_ioi_chance.py        # about three minutes on one core

Writes smollm2-ioi-chance.json beside itself. Each set is drawn from the 269 other heads; in its twin the strongest head
takes the place of the first one drawn. So the two bands differ in that head alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mi_course.interp.ioi import STRONGEST, smollm2_held_out

SIZES, SETS, SEED = (1, 3, 10, 20, 40), 10, 0


def main() -> None:
    task = smollm2_held_out()
    others = [(layer, head) for layer in range(30) for head in range(9) if (layer, head) != STRONGEST]
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for size in SIZES:
        draws = [torch.randperm(len(others), generator=generator)[:size].tolist() for _ in range(SETS)]
        sets = [[others[i] for i in draw] for draw in draws]
        without = [round(task.score(heads), 4) for heads in sets]
        including = [round(task.score([STRONGEST, *heads[1:]]), 4) for heads in sets]
        rows.append({"size": size, "without": without, "with": including})
        print(size, max(without), max(including), flush=True)
    text = json.dumps({"strongest": list(STRONGEST), "seed": SEED, "rows": rows}, indent=None)
    Path(__file__).with_name("smollm2-ioi-chance.json").write_text(text.replace("}, {", "},\n {") + "\n")


if __name__ == "__main__":
    main()
