"""Score all heads of SmolLM2 on held-out repeated tokens, by which lesson 02 judges the learner's list of heads.

    python data/measure_smollm2_induction.py        about 20 s on 2 cores; writes data/smollm2-induction.json

The sequences come from seeds that the lesson does not use, with two periods, so that no head is judged on the sequences
that it was found on. Compatibility mode, float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import mi_course
from mi_course.interp.induction import head_scores, repeated_tokens

SETTINGS = {"periods": [30, 45], "seeds": [90_001, 90_002], "batch": 4, "low": 1000, "high": 40_000, "bos": 1}


def main() -> None:
    model = mi_course.load_model("smollm2")
    scores = {}
    for kind in ("induction", "previous_token", "duplicate_token"):
        runs = [
            head_scores(
                model,
                repeated_tokens(SETTINGS["batch"], period, SETTINGS["low"], SETTINGS["high"], SETTINGS["bos"], seed),
                period,
                kind,
            )
            for period in SETTINGS["periods"]
            for seed in SETTINGS["seeds"]
        ]
        scores[kind] = [[round(float(x), 3) for x in row] for row in torch.stack(runs).mean(0)]
    rows = {kind: [json.dumps(row) for row in table] for kind, table in scores.items()}
    body = ",\n".join(f'  "{kind}": [\n   ' + ",\n   ".join(lines) + "\n  ]" for kind, lines in rows.items())
    path = Path(__file__).with_name("smollm2-induction.json")
    path.write_text(f'{{\n "settings": {json.dumps(SETTINGS)},\n "scores": {{\n{body}\n }}\n}}\n')
    print(f"wrote {path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
