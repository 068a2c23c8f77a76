"""Directions in the residual stream: find them, add them, take them away, and hold them against honest controls.

activations = collect(model, sentences, layer)               one row per sentence: see collecting.py
vector = difference_of_means(activations[y], activations[~y])                       directions.py
others = random_controls(vector, n=20, seed=0)               what chance does       controls.py
generate(model, ["The film was"], [Steer(vector, layer, 1)]) add it while writing   applying.py, generating.py
prompt_log_odds(model, prompts, good, bad, [Steer(...)])     what it did            effects.py

The functions that a learner of lesson 04 writes are here under the same names and signatures. Hooks stand at
`hook_resid_post` of a layer (the residual stream after the block) unless a docstring says otherwise. Vectors may cross
between a raw SmolLM2 and one in compatibility mode: with RMSNorm the residual streams agree. On models with LayerNorm
they do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "last_token_index": "activations",
    "activations_at": "activations",
    "token_ids": "activations",
    "collect": "activations",
    "token_activations": "activations",
    "massive_tokens": "activations",
    "difference_of_means": "directions",
    "pca_direction": "directions",
    "mass_mean_probe": "directions",
    "logistic_probe": "directions",
    "probe_accuracy": "directions",
    "cross_validated_accuracy": "directions",
    "cosine_similarities": "directions",
    "random_controls": "controls",
    "matched_controls": "controls",
    "shuffled_labels": "controls",
    "shuffle_controls": "controls",
    "with_norm": "controls",
    "add_vector": "interventions",
    "ablate_direction": "interventions",
    "orthogonalize": "interventions",
    "orthogonalized": "interventions",
    "steering": "interventions",
    "Steer": "interventions",
    "Ablate": "interventions",
    "generate": "generating",
    "generate_ids": "generating",
    "log_odds": "effects",
    "kl_divergence": "effects",
    "dose_response": "effects",
    "word_ids": "effects",
    "prompt_log_odds": "effects",
    "vectors_log_odds": "effects",
    "neutral_cost": "effects",
    "NeutralCost": "effects",
    "control_curves": "effects",
    "band": "effects",
    "layer_sweep": "effects",
    "SweepRow": "effects",
    "steering_panel": "panel",
    "HeldOut": "outcome",
    "smollm2_steering": "outcome",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
