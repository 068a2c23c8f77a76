"""Lesson 00: the likeliest next tokens, a hook that zeroes one head, and what it is measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


def top_next_tokens(logits: Float[Tensor, "pos vocab"], k: int) -> list[tuple[int, float]]:
    """The k likeliest next tokens after the last position, as (token id, probability), likeliest first.

    Probabilities are over the whole vocabulary, so the k of them sum to less than 1.

    >>> import torch
    >>> [(token, round(p, 2)) for token, p in top_next_tokens(torch.tensor([[9.0, 0.0, 0.0], [0.0, 2.0, 1.0]]), k=2)]
    [(1, 0.67), (2, 0.24)]
    """
    top = logits[-1].softmax(dim=-1).topk(k)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def zero_head(
    z: Float[Tensor, "batch pos head d_head"], hook: Any, head: int
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook for `hook_z` that zeroes one head's output at every position, and leaves the other heads unchanged.

    Fix the head with `functools.partial(zero_head, head=3)`. The tensor passed in is not changed.
    """
    z = z.clone()
    z[:, :, head] = 0.0
    return z


def logit_difference(
    model: TransformerBridge,
    text: str,
    right: str,
    wrong: str,
    hooks: Sequence[tuple[str, Callable[..., Any]]] = (),
) -> float:
    """How much higher the logit of `right` is than that of `wrong` after this text, with these hooks."""
    with torch.no_grad():
        last = model.run_with_hooks(text, fwd_hooks=list(hooks))[0, -1]
    return float(last[model.to_single_token(right)] - last[model.to_single_token(wrong)])


def draw_softmax(logits: Mapping[str, float]) -> Any:
    """The probabilities of a few tokens, from their logits."""
    from mi_course.show import bars

    scores = torch.tensor(list(logits.values()))
    return bars(
        [f"{token}, logit {logit:g}".replace("-", "−") for token, logit in logits.items()],
        scores.softmax(dim=0),
        title="Softmax: every logit counts, and the largest takes most",
        xlabel="token and its logit (an example)",
        ylabel="probability",
    )
