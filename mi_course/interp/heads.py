"""Heads as (layer, head) pairs: how they are written, and which come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Head = tuple[int, int]


def named(head: Head) -> str:
    """A head as it is written in a text.

    >>> named((23, 3))
    '23.3'
    """
    return f"{head[0]}.{head[1]}"


def all_heads(n_layers: int, n_heads: int) -> list[Head]:
    """All heads, layer by layer."""
    return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]


def ranking(values: Float[Tensor, "layer head"]) -> list[Head]:
    """All heads, that with the largest value first."""
    return [divmod(i, values.shape[1]) for i in values.flatten().argsort(descending=True).tolist()]


def strongest(values: Float[Tensor, "layer head"], n: int) -> list[Head]:
    """The n heads with the largest values of either sign, largest first."""
    return ranking(values.abs())[:n]
