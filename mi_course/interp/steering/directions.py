"""From activations to a direction: difference of means, principal differences, probes, and cosines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.steering._checks import check_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    Probe = tuple[Float[Tensor, " d"], float]


def difference_of_means(positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"]) -> Float[Tensor, " d"]:
    """Mean of the positive rows minus mean of the negative ones. ValueError for an empty class or NaN.

    >>> difference_of_means(torch.tensor([[1.0, 4.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0]])).tolist()
    [1.0, 3.0]
    """
    check_rows(positive, "positive")
    check_rows(negative, "negative")
    return positive.mean(dim=0) - negative.mean(dim=0)


def pca_direction(differences: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Unit vector along which the differences (positive − negative, pair by pair) have the largest sum of squares.

    *Not* centered: centering removes the shift that all pairs share and leaves noise (cosine 0.008 with a planted
    shift, where 1.0 is right). A principal component has no sign; this one points along the mean difference.
    ValueError if all differences are zero. Zou et al. 2023, "Representation Engineering", section 3.

    >>> pca_direction(torch.tensor([[-2.0, 0.0], [-3.0, 0.0]])).tolist()
    [-1.0, 0.0]
    """
    check_rows(differences, "differences")
    _, sizes, components = torch.linalg.svd(differences, full_matrices=False)
    if float(sizes[0]) == 0:
        raise ValueError("All differences are zero, so they have no principal direction.")
    direction = components[0]
    along = float(differences.mean(dim=0) @ direction)
    if along == 0:  # pairs that cancel: any rule will do, if it is the same each time
        along = float(direction[direction.abs().argmax()])
    return direction + 0.0 if along > 0 else 0.0 - direction  # no −0


def mass_mean_probe(x: Float[Tensor, "n d"], y: Bool[Tensor, " n"]) -> tuple[Float[Tensor, " d"], float]:
    """(w, b) with w = μ₊ − μ₋ and b = −w·(μ₊ + μ₋)/2: True where x·w + b > 0; the boundary is halfway.

    ValueError for an empty class. Marks and Tegmark 2023, "The Geometry of Truth", section 5, without the covariance.

    >>> mass_mean_probe(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([False, True, True]))
    (tensor([3.]), -7.5)
    """
    positive, negative = _classes(x, y)
    up, down = positive.mean(dim=0), negative.mean(dim=0)
    w = up - down
    return w, float(-(w @ (up + down)) / 2)


def logistic_probe(x: Float[Tensor, "n d"], y: Bool[Tensor, " n"], *, strength: float = 1.0) -> Probe:
    """(w, b) of a logistic regression with scikit-learn's L2 penalty 1/`strength`; True where x·w + b > 0.

    x is first scaled to unit mean square (by one number, so directions keep their angles) and the scale is folded back
    into w: the penalty then means the same at every layer. ValueError for an empty class.
    """
    # Imported here since it takes a second, and no other function needs it.
    from sklearn.linear_model import LogisticRegression

    _classes(x, y)
    scale = float((x - x.mean(dim=0)).pow(2).mean().sqrt()) or 1.0
    fit = LogisticRegression(C=strength, max_iter=2000).fit((x / scale).double().cpu().numpy(), y.bool().cpu().numpy())
    w = torch.as_tensor(fit.coef_[0] / scale, dtype=x.dtype, device=x.device)
    return w, float(fit.intercept_[0])


def probe_accuracy(w: Float[Tensor, " d"], b: float, x: Float[Tensor, "n d"], y: Bool[Tensor, " n"]) -> float:
    """Share of rows for which (x·w + b > 0) equals y: 0 … 1.

    >>> probe_accuracy(torch.tensor([1.0]), -2.0, torch.tensor([[1.0], [3.0]]), torch.tensor([True, True]))
    0.5
    """
    return float(((x @ w + b > 0) == y.bool()).float().mean())


def cross_validated_accuracy(
    fit: Callable[[Any, Any], Probe],
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    *,
    folds: int = 5,
    seed: int = 0,
    groups: Sequence[Any] | None = None,
) -> float:
    """Accuracy of a probe on rows it was not fitted on: each row is predicted once, by the probe of the other folds.

    fit: `mass_mean_probe`, `logistic_probe` or another function of (x, y) that returns (w, b).
    groups: rows of one group (the same entity in two sentences, say) stay in one fold. Groups of each class are spread
      evenly over the folds. ValueError if there are fewer groups than folds, or a class is empty.
    """
    _classes(x, y)
    keys = list(range(len(y))) if groups is None else list(groups)
    if len(keys) != len(y):
        raise ValueError(f"groups has {len(keys)} entries, expected one for each of the {len(y)} rows.")
    fold_of = _folds(keys, y.bool().tolist(), folds, seed)
    correct = 0
    for fold in range(folds):
        test = torch.tensor([fold_of[key] == fold for key in keys], device=x.device)
        w, b = fit(x[~test], y[~test])
        correct += round(probe_accuracy(w, b, x[test], y[test]) * int(test.sum()))
    return correct / len(y)


def cosine_similarities(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Cosine of every pair of rows: −1 … 1; a zero vector has cosine 0 with all, itself included.

    >>> cosine_similarities(torch.tensor([[2.0, 0.0], [0.0, 0.0], [-3.0, 0.0]])).tolist()
    [[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]
    """
    norms = vectors.norm(dim=1, keepdim=True)
    unit = vectors / torch.where(norms > 0, norms, torch.ones_like(norms))
    # Rounding can give a cosine just above 1. Adding 0 turns −0 into 0.
    return (unit @ unit.T).clamp(-1, 1) + 0.0


def _classes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if y.shape != x.shape[:1]:
        raise ValueError(f"y has shape {tuple(y.shape)}, expected ({x.shape[0]},): one label for each row of x.")
    y = y.bool()
    for wanted in (True, False):
        if not bool((y == wanted).any()):
            raise ValueError(f"No row is labelled {wanted}: a probe needs examples of both classes.")
    check_rows(x, "x")
    return x[y], x[~y]


def _folds(keys: list[Any], labels: list[bool], folds: int, seed: int) -> dict[Any, int]:
    """The fold of each group; groups of each class are assigned in turn, in random order."""
    labels_of: dict[Any, list[bool]] = {}
    for key, label in zip(keys, labels, strict=True):
        labels_of.setdefault(key, []).append(label)
    if not 2 <= folds <= len(labels_of):
        raise ValueError(f"{folds} folds asked of {len(labels_of)} groups; expected 2 to {len(labels_of)}.")
    names = list(labels_of)
    shuffled = [names[i] for i in torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()]
    shuffled.sort(
        key=lambda key: sum(labels_of[key]) * 2 > len(labels_of[key])
    )  # stable: the order within a class stays random
    return {key: i % folds for i, key in enumerate(shuffled)}
