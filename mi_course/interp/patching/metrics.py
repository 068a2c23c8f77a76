"""Metrics: from the logits at each prompt's last position to one number per prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mi_course.interp.prompts import answer_tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import TokenBatch

    # Logits at the last position (batch vocab) to one value per prompt (batch).
    Metric = Callable[[Float[Tensor, "batch vocab"]], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class TokenMetric:
    """A metric that reads the logits of a few tokens only, so that only those need be computed.

    tokens: for each prompt the ids it reads. of: their logits (…, batch, n) to one value per prompt (…, batch).
    """

    tokens: Int[Tensor, "batch n"]
    of: Callable[[Float[Tensor, "*any batch n"]], Float[Tensor, "*any batch"]]

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
        return self.of(logits.gather(-1, self.tokens.to(logits.device)))


def logit_difference(
    answers: Int[Tensor, "batch 2"] | Sequence[tuple[str, str]], model: TransformerBridge | None = None
) -> TokenMetric:
    """The metric "logit of the right answer minus logit of the wrong one", at each prompt's last position.

    answers: (right, wrong) for each prompt, as token ids, or as words without the leading space, for which the model
    is needed. Raises ValueError, naming the prompt, if a word is not one token.
    """
    if not isinstance(answers, Tensor):
        if model is None:
            raise ValueError("answers are words; to find their tokens, give the model too.")
        answers = answer_tokens(model, answers)
    if answers.ndim != 2 or answers.shape[1] != 2 or answers.is_floating_point():
        raise ValueError(
            f"answers have shape {tuple(answers.shape)}, expected whole numbers (batch, 2): right, wrong for each."
        )
    return TokenMetric(answers, lambda logits: logits[..., 0] - logits[..., 1])


def measure(metric: Metric, logits: Float[Tensor, "batch vocab"], batch: TokenBatch) -> Float[Tensor, " batch"]:
    """The metric of these logits, checked with `check_values`."""
    return check_values(metric(logits), batch)


def check_values(values: Float[Tensor, " batch"], batch: TokenBatch) -> Float[Tensor, " batch"]:
    """The values, unchanged; ValueError, naming the prompt, unless there is one finite number for each prompt."""
    expected = (len(batch),)
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != expected:
        raise ValueError(
            f"The metric returned {shape}, expected shape {expected}: one value for each of the prompts 0 "
            f"({batch.texts[0]!r}) to {len(batch) - 1}. It is given the logits at their last positions (batch vocab)."
        )
    infinite = ~values.isfinite()
    if bool(infinite.any()):
        i = int(infinite.int().argmax())
        raise ValueError(f"The metric is {values[i].item()} on {batch.name(i)}, expected a finite number.")
    return values


def check_tokens(metric: Metric, batch: TokenBatch, vocabulary: int) -> None:
    """ValueError if a TokenMetric is made for another number of prompts, or reads tokens that do not exist."""
    if not isinstance(metric, TokenMetric):
        return
    if len(metric.tokens) != len(batch):
        raise ValueError(
            f"The metric reads answers for {len(metric.tokens)} prompts, but there are {len(batch)}: "
            f"{batch.name(min(len(metric.tokens), len(batch)) - 1)} is the last that has both."
        )
    outside = ((metric.tokens < 0) | (metric.tokens >= vocabulary)).any(1)
    if bool(outside.any()):
        i = int(outside.int().argmax())
        raise ValueError(
            f"The answers of {batch.name(i)} are tokens {metric.tokens[i].tolist()}; the vocabulary is 0 to "
            f"{vocabulary - 1}."
        )
