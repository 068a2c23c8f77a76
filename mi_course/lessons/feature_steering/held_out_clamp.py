"""The full size of `my_clamp`: held-out prompts and words, on SmolLM2 with its autoencoder.

Both are loaded when a judge first asks for them, so importing this costs nothing.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mi_course.interp.models import load_model
from mi_course.interp.prompts import word_ids
from mi_course.interp.sae import clamp_choice, clamp_texts
from mi_course.interp.sae.clamp_study import Clamp, ClampStudy, Effect, comparable_latents, effects, same_norm
from mi_course.interp.sae.shipped import load_shipped

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CONTROLS, CONTROL_SEED = 60, 7
TEXT_SEED = 11


class HeldOutClamp:
    """What a clamp does on prompts, and in words, that were not used to find it."""

    n_latents = 4608

    def norm(self, index: int, value: float) -> float:
        """Of what is added where the latent is inactive."""
        return Clamp(_study().sae, index, value).norm

    def rises(self, index: int, value: float) -> Float[Tensor, " move"]:
        """By how much the log-odds of the held-out words rise, in nats: for this latent, then for the controls."""
        study, (words, texts) = _study(), _held_out()
        others = comparable_latents(study, index, texts, CONTROLS, CONTROL_SEED)
        moves = [None, Clamp(study.sae, index, value), *same_norm(study.sae, index, value, others)]
        log_odds = study.log_odds(moves, clamp_texts.HELD_OUT_PROMPTS, word_ids(study.model, words)).mean(1)
        return log_odds[1:] - log_odds[0]

    def texts(self, index: int, value: float) -> tuple[Effect, Effect]:
        """The continuations of the held-out prompts, and the unsteered ones. The log-odds are left out."""
        study, (words, _) = _study(), _held_out()
        unsteered, steered = effects(
            study,
            [Clamp(study.sae, index, value)],
            clamp_texts.HELD_OUT_PROMPTS,
            words,
            samples=clamp_choice.SAMPLES,
            max_new_tokens=clamp_choice.NEW_TOKENS,
            seed=TEXT_SEED,
            odds=False,
        )
        return steered, unsteered


@cache
def _study() -> ClampStudy:
    """One for the process, however often the outcome is judged."""
    return ClampStudy.of(load_model(compatibility=False).requires_grad_(False), load_shipped(clamp_choice.SAE_NAME))


@cache
def _held_out() -> tuple[tuple[str, ...], list[str]]:
    """The concept's held-out words; and the texts in which it is counted how often latents are active."""
    sentences = [sentence for concept in clamp_texts.CONCEPTS.values() for sentence in concept.sentences]
    return clamp_texts.CONCEPTS[clamp_choice.steered().concept].held_out, sentences


def shipped_clamp() -> tuple[int, float]:
    """An (index, value) that the outcome accepts: found on the training prompts by data/measure_steered_concepts.py."""
    chosen = clamp_choice.steered()
    return chosen.latent, chosen.value
