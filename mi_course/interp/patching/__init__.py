"""Patching: exchange activations between a clean and a corrupted run, and measure what that changes.

    from mi_course.interp.patching import sweep_heads, logit_difference

    metric = logit_difference([("Mary", "John")], model)
    clean, corrupted = ["Mary and John …: John gave it to"], ["Mary and John …: Mary gave it to"]
    heads = sweep_heads(model, clean, corrupted, metric)
    heads.top(5); heads.show(); heads.to_frame()

sweeps.py       one kind of activation, patched everywhere, exactly and fast: sweep_residual, sweep_heads, …
gradients.py    the same from two passes, approximately: attribution_patching, integrated_gradients
one_head.py     a few heads: patch_heads; why an estimate fails: attention_held, slopes
paths.py        along one path only: path_patching
ablation.py     single heads, or everything outside a circuit: ablate_each, mean_ablation, score_circuit
"""

from mi_course.interp.patching.ablation import (
    CircuitScore,
    ablate_each,
    faithfulness,
    head_means,
    mean_ablation,
    mean_ablations,
    random_circuits,
    resample_ablation,
    score_circuit,
)
from mi_course.interp.patching.gradients import attribution_patching, integrated_gradients
from mi_course.interp.patching.metrics import TokenMetric, logit_difference
from mi_course.interp.patching.one_head import attention_held, patch_heads, slopes
from mi_course.interp.patching.paths import path_patching
from mi_course.interp.patching.results import Sweep
from mi_course.interp.patching.sweeps import (
    sweep,
    sweep_attention_output,
    sweep_heads,
    sweep_keys,
    sweep_mlp_output,
    sweep_patterns,
    sweep_queries,
    sweep_residual,
    sweep_values,
)
from mi_course.interp.prompts import answer_tokens

__all__ = [
    "CircuitScore",
    "Sweep",
    "TokenMetric",
    "ablate_each",
    "answer_tokens",
    "attention_held",
    "attribution_patching",
    "faithfulness",
    "head_means",
    "integrated_gradients",
    "logit_difference",
    "mean_ablation",
    "mean_ablations",
    "patch_heads",
    "path_patching",
    "random_circuits",
    "resample_ablation",
    "score_circuit",
    "slopes",
    "sweep",
    "sweep_attention_output",
    "sweep_heads",
    "sweep_keys",
    "sweep_mlp_output",
    "sweep_patterns",
    "sweep_queries",
    "sweep_residual",
    "sweep_values",
]
