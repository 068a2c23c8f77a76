"""Directions in the residual stream: find them, add them, remove them, and compare them with controls.

    activations = collect(model, sentences, layer)               one row per sentence: activations.py
    vector = difference_of_means(activations[y], activations[~y])                      directions.py
    others = random_controls(vector, n=20, seed=0)               the effect of chance: controls.py
    generate(model, ["The film was"], [Steer(vector, layer, 1)]) add it while writing: interventions.py, generating.py
    prompt_log_odds(model, prompts, good, bad, [Steer(...)])     measure what it did:  effects.py

The functions that a learner of lesson 04 writes are here under the same names and signatures. Hooks are at
`hook_resid_post` of a layer (the residual stream after the block) unless a docstring says otherwise. With RMSNorm the
residual streams of a raw model and one in compatibility mode agree, so vectors of one SmolLM2 work in the other. With
LayerNorm they do not.
"""

from mi_course.interp.massive import massive_tokens
from mi_course.interp.prompts import token_ids, word_ids
from mi_course.interp.steering.activations import (
    activations_at,
    collect,
    last_token_index,
    ordinary_activations,
    response_activations,
    token_activations,
)
from mi_course.interp.steering.controls import (
    matched_controls,
    random_controls,
    shuffle_controls,
    shuffled_labels,
    with_norm,
)
from mi_course.interp.steering.directions import (
    cosine_similarities,
    cross_validated_accuracy,
    difference_of_means,
    logistic_probe,
    mass_mean_probe,
    pca_direction,
    probe_accuracy,
)
from mi_course.interp.steering.effects import (
    NeutralCost,
    NeutralLoss,
    SweepRow,
    WordOdds,
    band,
    control_curves,
    dose_response,
    kl_divergence,
    layer_sweep,
    log_odds,
    neutral_cost,
    prompt_log_odds,
    vectors_log_odds,
)
from mi_course.interp.steering.generating import generate, generate_ids
from mi_course.interp.steering.interventions import (
    Ablate,
    Steer,
    ablate_direction,
    add_vector,
    orthogonalize,
    orthogonalized,
    steering,
)
from mi_course.interp.steering.panel import steering_panel
from mi_course.interp.steering.scoring import different_words, preference, score_blind, variety

__all__ = [
    "Ablate",
    "NeutralCost",
    "NeutralLoss",
    "Steer",
    "SweepRow",
    "WordOdds",
    "ablate_direction",
    "activations_at",
    "add_vector",
    "band",
    "collect",
    "control_curves",
    "cosine_similarities",
    "cross_validated_accuracy",
    "difference_of_means",
    "different_words",
    "dose_response",
    "generate",
    "generate_ids",
    "kl_divergence",
    "last_token_index",
    "layer_sweep",
    "log_odds",
    "logistic_probe",
    "mass_mean_probe",
    "massive_tokens",
    "matched_controls",
    "neutral_cost",
    "ordinary_activations",
    "orthogonalize",
    "orthogonalized",
    "pca_direction",
    "preference",
    "probe_accuracy",
    "prompt_log_odds",
    "random_controls",
    "response_activations",
    "score_blind",
    "shuffle_controls",
    "shuffled_labels",
    "steering",
    "steering_panel",
    "token_activations",
    "token_ids",
    "variety",
    "vectors_log_odds",
    "with_norm",
    "word_ids",
]
