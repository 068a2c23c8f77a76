"""Patching: exchange activations between a clean and a corrupted run, and measure what that changes.

    from mi_course.interp.patching import sweep_heads, sweep_residual, logit_difference

    metric = logit_difference([("Mary", "John")], model)
    clean, corrupted = ["Mary and John …: John gave it to"], ["Mary and John …: Mary gave it to"]
    heads = sweep_heads(model, clean, corrupted, metric)
    heads.top(5); heads.show(); heads.to_frame()

sweeps.py       every place of one kind, exactly and fast: sweep_residual, sweep_heads, sweep_keys, …
gradients.py    the same from two passes, approximately: attribution_patching, integrated_gradients
paths.py        along one path only: path_patching
ablation.py     everything outside a circuit: mean_ablation, resample_ablation, score_circuit
lesson_forms.py the functions that learners write in lesson 03, as the course writes them

Importing this imports neither torch nor transformer_lens.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "sweep": "sweeps",
    "sweep_residual": "sweeps",
    "sweep_attention_output": "sweeps",
    "sweep_mlp_output": "sweeps",
    "sweep_heads": "sweeps",
    "sweep_queries": "sweeps",
    "sweep_keys": "sweeps",
    "sweep_values": "sweeps",
    "sweep_patterns": "sweeps",
    "Sweep": "results",
    "TokenMetric": "metrics",
    "logit_difference": "metrics",
    "answer_tokens": "metrics",
    "attribution_patching": "gradients",
    "integrated_gradients": "gradients",
    "path_patching": "paths",
    "head_means": "ablation",
    "mean_ablation": "ablation",
    "resample_ablation": "ablation",
    "random_circuits": "ablation",
    "score_circuit": "ablation",
    "CircuitScore": "ablation",
    "faithfulness": "lesson_forms",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
