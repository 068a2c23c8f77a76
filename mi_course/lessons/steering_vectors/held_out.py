"""What `my_steering` is judged on: SmolLM2 with prompts and synonyms that no learner worked with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mi_course.interp.models import load_model
from mi_course.interp.prompts import word_ids
from mi_course.interp.steering import texts
from mi_course.interp.steering.activations import collect
from mi_course.interp.steering.directions import difference_of_means
from mi_course.interp.steering.effects import neutral_cost, prompt_log_odds, vectors_log_odds
from mi_course.interp.steering.interventions import Steer

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


class HeldOut:
    """SmolLM2 with the held-out prompts, the synonyms and the neutral texts; the model is loaded when first needed."""

    d_model, n_layers = 576, 30

    def effects(
        self, vectors: Float[Tensor, "vector d_model"], layer: int, coefficient: float
    ) -> Float[Tensor, " vector"]:
        """By how much each vector raises the mean log-odds of the synonyms, in nats."""
        steered = vectors_log_odds(_model(), texts.HELD_OUT_PROMPTS, *_synonym_ids(), vectors, layer, coefficient)
        return steered.mean(dim=1) - _base_log_odds()

    def cost(self, vector: Float[Tensor, " d_model"], layer: int, coefficient: float) -> float:
        """Rise of the loss on neutral text, in nats per token."""
        return neutral_cost(_model(), texts.NEUTRAL, [Steer(vector, layer, coefficient)]).rise

    def direction(self, layer: int) -> Float[Tensor, " d_model"]:
        """The difference of means of the course's own sentences."""
        positive, negative = (collect(_model(), prompts, layer) for prompts in (texts.POSITIVE, texts.NEGATIVE))
        return difference_of_means(positive, negative)


@cache
def _model() -> TransformerBridge:
    """One for the process, however often the outcome is judged."""
    return load_model().requires_grad_(False)


@cache
def _synonym_ids() -> tuple[list[int], list[int]]:
    return word_ids(_model(), texts.POSITIVE_SYNONYMS), word_ids(_model(), texts.NEGATIVE_SYNONYMS)


@cache
def _base_log_odds() -> float:
    return float(prompt_log_odds(_model(), texts.HELD_OUT_PROMPTS, *_synonym_ids()).mean())


def smollm2_steering() -> tuple[Float[Tensor, " d_model"], int, float]:
    """A (vector, layer, coefficient) that the outcome accepts: half the difference of means at layer 18."""
    return HeldOut().direction(18), 18, 0.5
