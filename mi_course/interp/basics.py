"""The two functions of lesson 00: the likeliest next tokens, and a hook that zeroes one head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


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
