"""Toy models of superposition: more features than dimensions, with a ReLU.

x̂ = ReLU(Wᵀ W x + b), trained to reconstruct sparse features x through fewer hidden dimensions. Column i of W is the
direction in which feature i is written. Elhage et al. 2022, "Toy Models of Superposition" (sections 2 to 4 for the
model and its phases, "The Geometry of Superposition" for the dimensionality of a feature).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = [
    "Snapshot",
    "best_linear_loss",
    "feature_dimensionality",
    "feature_groups",
    "importance_loss",
    "interference",
    "sample_features",
    "shape_of",
    "toy_forward",
    "train_toy",
    "training",
    "upright",
]


def sample_features(batch: int, n_features: int, probability: float, seed: int) -> Float[Tensor, "batch features"]:
    """Sparse features: each present with this probability, independently, and uniform on [0, 1) when present.

    The same seed gives the same features; the global random state is left alone.

    >>> sample_features(batch=2, n_features=3, probability=0.0, seed=0).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    generator = torch.Generator().manual_seed(seed)
    return _draw((batch, n_features), probability, generator)


def _draw(shape: tuple[int, ...], probability: float | Tensor, generator: torch.Generator) -> Tensor:
    present = torch.rand(shape, generator=generator) < probability
    return torch.rand(shape, generator=generator) * present


def toy_forward(
    x: Float[Tensor, "batch features"], W: Float[Tensor, "hidden features"], b: Float[Tensor, " features"]
) -> Float[Tensor, "batch features"]:
    """ReLU(Wᵀ W x + b) for each row x."""
    return torch.relu(x @ W.T @ W + b)


def importance_loss(
    x: Float[Tensor, "batch features"],
    x_hat: Float[Tensor, "batch features"],
    importance: Float[Tensor, " features"],
) -> Float[Tensor, ""]:
    """Mean over the batch of Σ_i importance_i (x_i − x̂_i)²."""
    return (importance * (x - x_hat).square()).sum(dim=-1).mean()


def best_linear_loss(n_hidden: int, probability: float, importance: Float[Tensor, " features"]) -> float:
    """The least importance-weighted loss of any linear model with `n_hidden` dimensions and a bias.

    It reconstructs the `n_hidden` most important features and predicts the mean of the others, so what is left is their
    variance: probability/3 − probability²/4 each. No linear map of that rank does better (Eckart and Young 1936).

    >>> round(best_linear_loss(1, 1.0, torch.tensor([1.0, 0.6])), 4)  # 0.6 times a variance of 1/12
    0.05
    """
    variance = probability / 3 - probability**2 / 4
    return float(importance.sort(descending=True).values[n_hidden:].sum()) * variance


def feature_dimensionality(W: Float[Tensor, "hidden features"]) -> Float[Tensor, " features"]:
    """‖W_i‖² / Σ_j (Ŵ_i · W_j)²: the share of a dimension that feature i has to itself; 0 where W_i is 0.

    1 alone, 1/2 in an antipodal pair, 2/3 in a triangle, 3/4 in a tetrahedron, 2/5 in a pentagon.

    >>> feature_dimensionality(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 3.0]])).tolist()
    [0.5, 0.5, 1.0]
    """
    norms, unit = _unit(W)
    # Σ_j (Ŵ_i · W_j)² = Ŵ_iᵀ (W Wᵀ) Ŵ_i: a hidden × hidden matrix instead of a features × features one.
    total = (unit * (W @ W.T @ unit)).sum(dim=0)
    return torch.where(norms > 0, norms.square() / total, 0.0)


def interference(W: Float[Tensor, "hidden features"]) -> Float[Tensor, " features"]:
    """Σ_{j≠i} (Ŵ_i · W_j)²: how much of the other features lies along feature i; 0 where W_i is 0.

    >>> interference(torch.tensor([[2.0, -1.0]])).tolist()
    [1.0, 4.0]
    """
    _, unit = _unit(W)
    return (unit.T @ W).square().fill_diagonal_(0.0).sum(dim=1)


def _unit(W: Tensor) -> tuple[Tensor, Tensor]:
    norms = W.norm(dim=0)
    return norms, W / torch.where(norms > 0, norms, 1.0)


def feature_groups(W: Float[Tensor, "hidden features"], threshold: float) -> list[list[int]]:
    """Features that share dimensions: connected components of |W_i · W_j| > threshold.

    A feature with ‖W_i‖² at or below the threshold is not represented and is left out. Groups are sorted, and so are
    their members.

    >>> feature_groups(torch.tensor([[1.0, 0.0, -1.0, 0.1], [0.0, 1.0, 0.0, 0.0]]), 0.2)
    [[0, 2], [1]]
    """
    linked = (W.T @ W).abs() > threshold
    left = [i for i in range(W.shape[1]) if linked[i, i]]
    groups = []
    while left:
        group, edge = {left[0]}, [left[0]]
        while edge:
            i = edge.pop()
            new = [j for j in left if linked[i, j] and j not in group]
            group.update(new)
            edge += new
        groups.append(sorted(group))
        left = [j for j in left if j not in group]
    return groups


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train_toy(
    n_features: int, n_hidden: int, probability: float, importance: Float[Tensor, " features"], seed: int
) -> dict[str, Tensor]:
    """A trained toy model: `W` [hidden features] and `b` [features]. A few tenths of a second.

    The best of four starts, since one in a hundred ends in a poor local minimum. The same seed gives the same model;
    the global random state is left alone.
    """
    *_, last = training(n_features, n_hidden, [probability] * 4, importance, seed, steps=600, every=600, batch=256)
    x = sample_features(8192, n_features, probability, seed)
    best = min(range(4), key=lambda i: importance_loss(x, toy_forward(x, last.W[i], last.b[i]), importance))
    return {"W": last.W[best], "b": last.b[best]}


@dataclass(frozen=True)
class Snapshot:
    """Several toy models, trained together, after `step` steps."""

    step: int
    W: Float[Tensor, "model hidden features"]
    b: Float[Tensor, "model features"]
    loss: Float[Tensor, " model"]
    """On the last batch."""


def training(
    n_features: int,
    n_hidden: int,
    probabilities: Sequence[float],
    importance: Float[Tensor, " features"] | Float[Tensor, "model features"],
    seed: int,
    *,
    steps: int = 1000,
    every: int = 20,
    batch: int = 512,
    lr: float = 0.03,
    relu: bool = True,
    sample: Callable[[int, int], Float[Tensor, "rows features"]] | None = None,
) -> Iterator[Snapshot]:
    """Train one toy model for each probability, all at once; yields at the start, every `every` steps, and at the end.

    Adam, with cosine decay of the learning rate. The gradient is written out, which on models this small is several
    times as fast as autograd. relu: False trains the linear control, x̂ = Wᵀ W x + b.
    sample: from a number of rows and a seed, features for all models, instead of independent ones.
    """
    generator = torch.Generator().manual_seed(seed)
    p = torch.tensor(list(probabilities), dtype=torch.float32)[:, None, None]
    W = torch.randn(len(p), n_hidden, n_features, generator=generator) / math.sqrt(n_features)
    b = torch.zeros(len(p), 1, n_features)
    weight = 2 / batch * (importance if importance.ndim == 1 else importance[:, None])
    optimizer = torch.optim.Adam([W, b], lr=lr, fused=True)
    loss = torch.full((len(p),), torch.nan)
    # No tensor here requires a gradient. (A `no_grad` around a `yield` would leak into the caller.)
    for step in range(steps + 1):
        if sample is None:
            x = _draw((len(p), batch, n_features), p, generator)
        else:
            seed_of_step = int(torch.randint(2**31, (1,), generator=generator))
            x = sample(len(p) * batch, seed_of_step).view(len(p), batch, n_features)
        h = x @ W.mT
        z = torch.baddbmm(b, h, W)
        error = (z.relu() if relu else z) - x
        slope = weight * error
        if step % every == 0 or step == steps:
            loss = (slope * error).sum(dim=(1, 2)) / 2
            yield Snapshot(step, W.clone(), b[:, 0].clone(), loss)
        if relu:
            slope = slope * (z > 0)
        b.grad = slope.sum(dim=1, keepdim=True)
        W.grad = h.mT @ slope + (slope @ W.mT).mT @ x  # W reads and writes
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()


# ---------------------------------------------------------------------------------------------------------------------
# Describing the result


_SHAPES = {
    (1, 1): "alone",
    (2, 1): "antipodal pair",
    (3, 2): "triangle",
    (4, 2): "square",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
    (5, 3): "triangular bipyramid",
    (6, 2): "hexagon",
    (6, 3): "octahedron",
}


def shape_of(W: Float[Tensor, "hidden features"], group: Sequence[int]) -> str:
    """The shape that these features form: "pentagon", or "5 in 2" if they are not balanced around the origin.

    A shape is named by the number of features and the number of dimensions that they fill (singular values above a
    fifth of the largest), if the unit vectors add up to nearly zero.
    """
    vectors = W[:, list(group)]
    sizes = torch.linalg.svdvals(vectors)
    filled = int((sizes > sizes[0] / 5).sum())
    balanced = len(group) == 1 or float((vectors / vectors.norm(dim=0)).mean(dim=1).norm()) < 0.15
    count = f"{len(group)} in {filled}"
    return _SHAPES.get((len(group), filled), count) if balanced else count


def upright(
    W: Float[Tensor, "hidden features"], features: Sequence[int] | None = None
) -> Float[Tensor, "hidden features"]:
    """W in a basis of the hidden space in which the first of `features` points along the last axis: up.

    The model is invariant to rotations and reflections of the hidden space, since only Wᵀ W matters. features: those
    that determine the basis, in order; by default the longest first.

    >>> (upright(torch.tensor([[-3.0, 0.0], [0.0, 1.0]])) + 0.0).tolist()  # + 0.0: no −0
    [[0.0, 1.0], [3.0, 0.0]]
    """
    order = W.norm(dim=0).argsort(descending=True).tolist() if features is None else list(features)
    basis, r = torch.linalg.qr(W[:, order])
    sign = torch.where(r.diagonal() < 0, -1.0, 1.0)
    return (sign[:, None] * (basis.T @ W)).flip(0)
