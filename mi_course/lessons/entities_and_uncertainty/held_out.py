"""What lesson 08's outcomes are judged on: names and questions that no learner fitted on, read on SmolLM2."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from mi_course.interp import knowledge
from mi_course.interp.models import load_model

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


class HeldOutNames:
    """Famous names and names shuffled from their halves, of the ten held-out blocks."""

    d_model, n_layers = 576, 30

    @property
    def known(self) -> Bool[Tensor, " n"]:
        return torch.tensor([name.kind == "famous" for name in knowledge.matched(held_out=True)])

    @property
    def frequency(self) -> Float[Tensor, "n feature"]:
        """How many tokens a name has and how common they are, in five numbers."""
        return knowledge.token_features(_model(), knowledge.matched(held_out=True))

    def activations(self, layer: int) -> Float[Tensor, "n d_model"]:
        return knowledge.read(_model(), knowledge.matched(held_out=True), layer)


class HeldOutQuestions:
    """The stored signals of every other question."""

    own = "first-token probability"

    @property
    def signals(self) -> dict[str, Float[Tensor, " n"]]:
        return knowledge.signals(held_out=True)[0]

    @property
    def correct(self) -> Bool[Tensor, " n"]:
        return knowledge.signals(held_out=True)[1]


@cache
def _model() -> TransformerBridge:
    """One for the process, however often the outcome is judged."""
    return load_model().requires_grad_(False)


def smollm2_direction() -> tuple[Float[Tensor, " d_model"], int]:
    """A (vector, layer) that the outcome accepts: the difference of means at layer 16, on the names to fit on."""
    names = knowledge.matched(held_out=False)
    x = knowledge.read(_model(), names, 16)
    known = torch.tensor([name.kind == "famous" for name in names])
    return x[known].mean(0) - x[~known].mean(0), 16


def stored_confidence() -> dict[str, float]:
    """Weights that the outcome accepts."""
    return {"answer probability": 1.0, "samples that agree": 1.0}
