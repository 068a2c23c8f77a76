"""What the outcome of lesson 04 is measured on: SmolLM2 itself, prompts and synonyms that no learner worked with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mi_course.interp.steering import texts
from mi_course.interp.steering.activations import collect
from mi_course.interp.steering.directions import difference_of_means
from mi_course.interp.steering.effects import neutral_cost, prompt_log_odds, vectors_log_odds, word_ids
from mi_course.interp.steering.interventions import Steer

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

D_MODEL, N_LAYERS = 576, 30


class HeldOut:
    """SmolLM2 with the held-out prompts, the synonyms and the neutral texts; the model is loaded when first needed."""

    d_model, n_layers = D_MODEL, N_LAYERS

    def effects(
        self, vectors: Float[Tensor, "vector d_model"], layer: int, coefficient: float
    ) -> Float[Tensor, " vector"]:
        """By how much each vector raises the mean log-odds of the synonyms, in nats."""
        model = _model()
        up, down = word_ids(model, texts.POSITIVE_SYNONYMS), word_ids(model, texts.NEGATIVE_SYNONYMS)
        steered = vectors_log_odds(model, texts.HELD_OUT_PROMPTS, up, down, vectors, layer, coefficient)
        return steered.mean(dim=1) - _base()

    def cost(self, vector: Float[Tensor, " d_model"], layer: int, coefficient: float) -> float:
        """Rise of the loss on neutral text, in nats per token."""
        return neutral_cost(_model(), texts.NEUTRAL, [Steer(vector, layer, coefficient)]).rise

    def direction(self, layer: int) -> Float[Tensor, " d_model"]:
        """The difference of means of the course's own sentences."""
        up, down = (collect(_model(), prompts, layer) for prompts in (texts.POSITIVE, texts.NEGATIVE))
        return difference_of_means(up, down)


@cache
def _model() -> TransformerBridge:
    """One for the process, however often the outcome is judged."""
    from mi_course.interp.models import load_model

    return load_model().requires_grad_(False)


@cache
def _base() -> float:
    model = _model()
    up, down = word_ids(model, texts.POSITIVE_SYNONYMS), word_ids(model, texts.NEGATIVE_SYNONYMS)
    return float(prompt_log_odds(model, texts.HELD_OUT_PROMPTS, up, down).mean())


def smollm2_steering() -> tuple[Float[Tensor, " d_model"], int, float]:
    """A (vector, layer, coefficient) that the outcome accepts: half the difference of means at layer 18."""
    return HeldOut().direction(18), 18, 0.5
