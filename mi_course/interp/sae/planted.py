"""Synthetic data with known features, for testing what a sparse autoencoder finds.

x = codes · dictionary + bias: each row is a sparse, nonnegative mixture of unit directions, more than there are
dimensions. SAEs assume this; whether a real model's activations are like that is another question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Planted(NamedTuple):
    """Activations, and the codes and dictionary that they were made from. G features, d dimensions."""

    x: Float[Tensor, "n d"]
    codes: Float[Tensor, "n G"]
    dictionary: Float[Tensor, "G d"]
    bias: Float[Tensor, " d"]


def planted_dictionary(n_features: int, d: int, seed: int) -> Float[Tensor, "G d"]:
    """Unit directions, uniform on the sphere. In few dimensions some are close: cosines are about 1/√d by chance.

    >>> planted_dictionary(6, 4, seed=0).norm(dim=1).round(decimals=5).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if n_features < 1 or d < 1:
        raise ValueError(f"n_features is {n_features} and d {d}, expected at least 1 each.")
    directions = torch.randn(n_features, d, generator=torch.Generator().manual_seed(seed))
    return directions / directions.norm(dim=1, keepdim=True)


def planted_activations(
    dictionary: Float[Tensor, "G d"],
    n: int,
    probability: float | Float[Tensor, " G"],
    seed: int,
    *,
    magnitude: tuple[float, float] = (0.5, 1.5),
    bias: Float[Tensor, " d"] | float = 0.0,
    noise: float = 0.0,
) -> Planted:
    """n rows in which each feature is present with this probability, independently of the others.

    probability: one for all features, or one each. magnitude: a present feature's code is uniform between these.
    bias: added to every row. noise: standard deviation of the noise on every number. A row may have no feature.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.as_tensor(probability, dtype=torch.float32)
    if bool(((chance < 0) | (chance > 1)).any()) or chance.shape not in ((), (len(dictionary),)):
        raise ValueError(f"probability is {probability}, expected a number from 0 to 1, or {len(dictionary)} of them.")
    present = torch.rand(n, len(dictionary), generator=generator) < chance
    return _mix(present, dictionary, magnitude, bias, noise, generator)


def planted_hierarchy(
    dictionary: Float[Tensor, "G d"],
    parents: Sequence[int | None],
    n: int,
    probability: float,
    given_parent: float,
    seed: int,
    *,
    magnitude: tuple[float, float] = (1.0, 1.0),
    bias: Float[Tensor, " d"] | float = 0.0,
    noise: float = 0.0,
) -> Planted:
    """As `planted_activations`, but some features are present only where their parent is: "dog" only with "animal".

    parents[i]: the parent of feature i, a smaller index, or None. Features without a parent are present with
    `probability`, others with `given_parent` in the rows that have their parent. A sparsity penalty may make the
    child's latent stand for both and leave the parent's latent inactive there: absorption (Chanin et al. 2024).
    """
    if len(parents) != len(dictionary):
        raise ValueError(f"There are {len(parents)} parents for {len(dictionary)} features, expected one each.")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(n, len(dictionary), generator=generator)
    present = torch.zeros(n, len(dictionary), dtype=torch.bool)
    for feature, parent in enumerate(parents):
        if parent is None:
            present[:, feature] = draws[:, feature] < probability
        elif 0 <= parent < feature:
            present[:, feature] = present[:, parent] & (draws[:, feature] < given_parent)
        else:
            raise ValueError(f"parents[{feature}] is {parent}, expected None or an index from 0 to {feature - 1}.")
    return _mix(present, dictionary, magnitude, bias, noise, generator)


def _mix(
    present: Tensor,
    dictionary: Tensor,
    magnitude: tuple[float, float],
    bias: Tensor | float,
    noise: float,
    generator: torch.Generator,
) -> Planted:
    low, high = magnitude
    if not 0 <= low <= high:
        raise ValueError(f"magnitude is {magnitude}, expected two numbers, 0 ≤ low ≤ high: codes are not negative.")
    codes = present * (low + (high - low) * torch.rand(present.shape, generator=generator))
    offset = torch.as_tensor(bias, dtype=torch.float32).expand(dictionary.shape[1]).clone()
    x = codes @ dictionary + offset
    if noise:
        x = x + noise * torch.randn(x.shape, generator=generator)
    return Planted(x, codes, dictionary, offset)
