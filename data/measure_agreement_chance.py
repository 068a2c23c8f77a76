"""What each head of SmolLM2 is worth on lesson 01's held-out agreement sentences: what random sets are judged by.

    python data/measure_agreement_chance.py        # about five minutes on one core

Writes smollm2-agreement-chance.json beside itself. A random set is taken to cost the sum of its heads' single drops,
so that a set of any layers can be judged in no time. Beside them, for 40 random sets in the layers of the course's own
heads: that sum, and what the whole set costs when it is ablated.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mi_course.interp.agreement import layer_matched, smollm2_agreement_heads, smollm2_held_out
from mi_course.interp.attribution import PromptSet, ablation_drops

SETS, SEED = 40, 1


def main() -> None:
    task = smollm2_held_out()
    n_layers, n_heads = int(task.model.cfg.n_layers), int(task.model.cfg.n_heads)
    by_prompt = [
        ablation_drops(task.model, PromptSet(tokens, metric.tokens))[0][: n_layers * n_heads]
        for tokens, metric, _ in task.sets
    ]
    drops = torch.cat(by_prompt, dim=1).mean(1).view(n_layers, n_heads)
    sums, wholes = [], []
    for heads in layer_matched(smollm2_agreement_heads(), n_heads, SETS, SEED):
        sums.append(round(sum(float(drops[layer, head]) for layer, head in heads), 4))
        wholes.append(round(task.drop(heads), 4))
    rows = [[round(drop, 4) for drop in row] for row in drops.tolist()]
    found = {"clean": round(task.difference(), 4), "seed": SEED, "sums": sums, "wholes": wholes, "drops": rows}
    text = json.dumps(found).replace("], [", "],\n [")
    Path(__file__).with_name("smollm2-agreement-chance.json").write_text(text + "\n")
    distance = max(abs(a - b) for a, b in zip(sums, wholes, strict=True))
    print(f"logit difference {found['clean']}; sums and whole sets differ by at most {distance:.4f}")


if __name__ == "__main__":
    main()
