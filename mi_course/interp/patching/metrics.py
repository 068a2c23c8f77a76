"""Metrics: from the logits at each prompt's last position to one number per prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.prompts import Batch

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
    if not isinstance(answers, torch.Tensor):
        if model is None:
            raise ValueError("answers are words; to find their tokens, give the model too.")
        answers = answer_tokens(model, answers)
    if answers.ndim != 2 or answers.shape[1] != 2 or answers.is_floating_point():
        raise ValueError(
            f"answers have shape {tuple(answers.shape)}, expected whole numbers (batch, 2): right, wrong for each."
        )
    return TokenMetric(answers, lambda logits: logits[..., 0] - logits[..., 1])


def answer_tokens(model: TransformerBridge, answers: Sequence[tuple[str, str]]) -> Int[Tensor, "batch 2"]:
    """Token ids of (right, wrong) words, each with a leading space. ValueError if one is several tokens."""
    ids = []
    for i, words in enumerate(answers):
        for word in words:
            found = model.tokenizer.encode(f" {word.strip()}", add_special_tokens=False)
            if len(found) != 1:
                pieces = [model.tokenizer.decode([t]) for t in found]
                raise ValueError(
                    f"The answers of prompt {i} are {tuple(words)}, but {word!r} is {len(found)} tokens {pieces}: a "
                    "metric on the next token needs names of one token. Choose another name."
                )
            ids.append(found[0])
    return torch.tensor(ids, device=next(model.parameters()).device).reshape(-1, 2)


def measure(metric: Metric, logits: Float[Tensor, "batch vocab"], batch: Batch) -> Float[Tensor, " batch"]:
    """The metric's values, checked: one finite number per prompt, or a ValueError that names the prompt."""
    return checked(metric(logits), batch)


def checked(values: Float[Tensor, " batch"], batch: Batch) -> Float[Tensor, " batch"]:
    """The metric's values as they came, or a ValueError that says what is wrong with them."""
    expected = (len(batch.texts),)
    shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
    if shape != expected:
        raise ValueError(
            f"The metric returned {shape}, expected shape {expected}: one value for each of the prompts 0 "
            f"({batch.texts[0]!r}) to {expected[0] - 1}. It is given the logits at their last positions (batch vocab)."
        )
    bad = ~values.isfinite()
    if bool(bad.any()):
        i = int(bad.int().argmax())
        raise ValueError(f"The metric is {values[i].item()} on {batch.name(i)}, expected a finite number.")
    return values


def check_tokens(metric: Metric, batch: Batch, vocabulary: int) -> None:
    """ValueError if a TokenMetric is made for another number of prompts, or reads tokens that do not exist."""
    if not isinstance(metric, TokenMetric):
        return
    if len(metric.tokens) != len(batch.texts):
        raise ValueError(
            f"The metric reads answers for {len(metric.tokens)} prompts, but there are {len(batch.texts)}: "
            f"{batch.name(min(len(metric.tokens), len(batch.texts)) - 1)} is the last that has both."
        )
    wrong = ((metric.tokens < 0) | (metric.tokens >= vocabulary)).any(1)
    if bool(wrong.any()):
        i = int(wrong.int().argmax())
        raise ValueError(
            f"The answers of {batch.name(i)} are tokens {metric.tokens[i].tolist()}; the vocabulary is 0 to "
            f"{vocabulary - 1}."
        )
