"""The columns of W: interference, the dimension that each feature gets, and which features share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _columns(W: Tensor) -> list[list[float]]:
    return [[float(W[d, i]) for d in range(W.shape[0])] for i in range(W.shape[1])]


def _dot(u: list[float], v: list[float]) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def _overlaps(W: Tensor, i: int) -> list[float]:
    """(Ŵ_i · W_j)² for each j; zeros where W_i is 0."""
    columns = _columns(W)
    length = math.sqrt(_dot(columns[i], columns[i]))
    return [(_dot(columns[i], v) / length) ** 2 if length else 0.0 for v in columns]


def _unit(W: Tensor, dim: int = 0) -> Tensor:
    norms = W.norm(dim=dim, keepdim=True)
    return W / torch.where(norms > 0, norms, 1.0)


def _table(W: Tensor) -> Tensor:
    """Ŵ_i · W_j."""
    return _unit(W).T @ W


def _without_self(table: Tensor) -> Tensor:
    return table.clone().fill_diagonal_(0.0)


def _random_cases(shapes: list[tuple[int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        # Columns of different length, so that it matters which of the two is normalised.
        return [
            case(
                draw.normal(hidden, n) * draw.uniform(n, low=0.4, high=2.0),
                about=f"{n} random features of different length in {hidden} dimensions",
            )
            for hidden, n in shapes
        ]

    return cases


def _special_cases(draw: RandomInputs, size: str) -> list[Case]:
    W = draw.normal(3, 6)
    W[:, [1, 4]] = 0.0
    length = draw.number(0.7, 1.5)
    angles = torch.arange(5) * 2 * math.pi / 5
    pentagon = length * torch.stack([angles.cos(), angles.sin()])
    alone = torch.zeros(4, 3)
    alone[draw.integer(0, 4), 1] = draw.number(0.6, 1.8)
    twins = draw.normal(3, 5)
    twins[:, 3], twins[:, 4] = twins[:, 0], -twins[:, 0]
    return [
        case(W, about="six features in three dimensions, two of which are zero"),
        case(twins, about="two features in the same direction, and one in the opposite one"),
        case(pentagon, about=f"a regular pentagon of vectors of length {length:.2f}"),
        case(alone, about="a single feature that is not zero"),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# interference


def _interference(W: Tensor) -> Tensor:
    """Spec."""
    return torch.tensor([sum((s for j, s in enumerate(_overlaps(W, i)) if j != i), 0.0) for i in range(W.shape[1])])


INTERFERENCE = Exercise(
    id="superposition.interference",
    revision=2,
    fixed={
        "result>=0": "squares",
    },
    task="For each feature, how much of all the others lies along it: the sum over j ≠ i of (Ŵ_i · W_j)².",
    minutes=6,
    difficulty=2,
    oracle=_interference,
    parts=(
        Part("random features", 2, _random_cases([(3, 5), (4, 4), (2, 9)])),
        Part("features that are zero, a pentagon, one alone", 1, _special_cases),
    ),
    mistakes=(
        Mistake(
            "self_included",
            "The feature itself is in the sum: j = i adds its own ‖W_i‖². Interference comes from the *others*; set the diagonal to 0.",
            lambda W: _table(W).square().sum(1),
        ),
        Mistake(
            "no_square",
            "You summed |Ŵ_i · W_j| without squaring. Square each, then sum.",
            lambda W: _without_self(_table(W).abs()).sum(1),
        ),
        Mistake(
            "signed",
            "You summed Ŵ_i · W_j with its sign, so opposite features cancel. Square each first.",
            lambda W: _without_self(_table(W)).sum(1),
        ),
        Mistake(
            "square_of_the_sum",
            "You squared the sum. Features are rarely active together, so each one's disturbance counts for itself: the sum of the squares.",
            lambda W: _without_self(_table(W)).sum(1).square(),
        ),
        Mistake(
            "not_normalized",
            "Neither vector is normalised. W_i only gives the direction: divide it by its length.",
            lambda W: _without_self((W.T @ W).square()).sum(1),
        ),
        Mistake(
            "both_normalized",
            "Both vectors are normalised: these are squared cosines. W_j keeps its length, since a long feature disturbs more.",
            lambda W: _without_self((_unit(W).T @ _unit(W)).square()).sum(1),
        ),
        Mistake(
            "wrong_one_normalized",
            "You normalised W_j, the disturbing one, and kept the length of W_i; or you summed over the wrong axis. Normalise W_i, and sum over j.",
            lambda W: _without_self(_table(W).square()).sum(0),
        ),
        Mistake(
            "averaged",
            "You averaged over the features. The sum is asked for: every other feature adds its disturbance.",
            lambda W: _without_self(_table(W).square()).mean(1),
        ),
        Mistake(
            "averaged_over_the_others",
            "You averaged over the other features. The sum is asked for: every other feature adds its disturbance.",
            lambda W: _without_self(_table(W).square()).sum(1) / max(W.shape[1] - 1, 1),
        ),
        Mistake(
            "largest",
            "This is the largest disturbance. Sum over all other features.",
            lambda W: _without_self(_table(W).square()).amax(1),
        ),
        Mistake(
            "square_root",
            "You took the square root at the end. The sum of squares itself is asked for.",
            lambda W: _without_self(_table(W).square()).sum(1).sqrt(),
        ),
        Mistake(
            "rows_for_columns",
            "You treated the rows of W as features. W is [hidden, features]: feature i is *column* i, `W[:, i]`.",
            lambda W: _without_self(_table(W.T).square()).sum(1),
        ),
        Mistake(
            "zero_divided_by_zero",
            "Right but for features that are zero: 0/0 is NaN. A zero vector has no direction, so nothing lies along it: 0.",
            lambda W: _without_self(((W / W.norm(dim=0)).T @ W).square()).sum(1),
            degenerate=True,
        ),
    ),
    hints=(
        "`unit.T @ W` holds Ŵ_i · W_j at row i, column j, if the columns of `unit` have length 1. What stands on its diagonal?",
        "`norms = W.norm(dim=0)`; divide by `torch.where(norms > 0, norms, 1.0)`, so that zero stays zero. `fill_diagonal_(0.0)` takes the feature itself out. Then sum over j, the last axis.",
    ),
    reveal="Read feature i by projecting on Ŵ_i. When feature j is active with size 1, it shows up there as Ŵ_i · W_j. Squared, and summed over all j, that is the noise that feature i has to live with, apart from how often the others are active.",
)


# ---------------------------------------------------------------------------------------------------------------------
# feature_dimensionality


def _feature_dimensionality(W: Tensor) -> Tensor:
    """Spec."""
    shares = []
    for i, column in enumerate(_columns(W)):
        own, all_of_them = _dot(column, column), sum(_overlaps(W, i))
        shares.append(own / all_of_them if own > 0 else 0.0)
    return torch.tensor(shares)


def _share(W: Tensor, table: Callable[[Tensor], Tensor], own: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """‖W_i‖² over the row sums of a table; 0 where W_i is 0."""
    squared = W.square().sum(0) if own is None else own(W)
    below = table(W).sum(1)
    return torch.where(W.norm(dim=0) > 0, squared / torch.where(below != 0, below, 1.0), 0.0)


def _over_the_others(W: Tensor) -> Tensor:
    below = _without_self(_table(W).square()).sum(1)
    return torch.where(W.norm(dim=0) > 0, W.square().sum(0) / below, 0.0)


FEATURE_DIMENSIONALITY = Exercise(
    id="superposition.feature_dimensionality",
    revision=2,
    fixed={
        "result>=0": "a share",
        "result<=1": "a share",
    },
    task="The share of a dimension that each feature has: ‖W_i‖² over the sum of (Ŵ_i · W_j)² over all j, itself included; 0 where W_i is 0.",
    minutes=6,
    difficulty=2,
    oracle=_feature_dimensionality,
    parts=(
        Part("random features", 2, _random_cases([(2, 5), (5, 5), (3, 8)])),
        Part("features that are zero, a pentagon, one alone", 1, _special_cases),
    ),
    mistakes=(
        Mistake(
            "no_square",
            "The dot products in the denominator are not squared. (Ŵ_i · W_j)², then sum.",
            lambda W: _share(W, lambda W: _table(W).abs()),
        ),
        Mistake(
            "signed",
            "The dot products in the denominator are neither squared nor positive, so opposite features cancel. Square each.",
            lambda W: _share(W, _table),
        ),
        Mistake(
            "norm_not_squared",
            "The numerator is ‖W_i‖, not its square. A feature alone would then not have dimensionality 1.",
            lambda W: _share(W, lambda W: _table(W).square(), lambda W: W.norm(dim=0)),
        ),
        Mistake(
            "not_normalized",
            "W_i in the denominator is not normalised. It only gives a direction there: divide it by its length, so that scaling all of W changes nothing.",
            lambda W: _share(W, lambda W: (W.T @ W).square()),
        ),
        Mistake(
            "both_normalized",
            "You normalised W_j as well. It keeps its length, since a long feature takes up more of the shared dimension.",
            lambda W: _share(W, lambda W: (_unit(W).T @ _unit(W)).square()),
        ),
        Mistake(
            "wrong_one_normalized",
            "The hat is on the wrong vector: in the denominator you normalised W_j and kept the length of W_i, or summed over the wrong axis, or normalised everything above and below. Then a feature that is hardly represented counts like any other. "
            "Ŵ_i has the hat, and the sum runs over j.",
            lambda W: _share(W, lambda W: _table(W).square().T),
        ),
        Mistake(
            "self_excluded",
            "The feature itself is missing in the denominator, so that one alone divides by zero. Here j runs over *all* features: it is interference + ‖W_i‖².",
            _over_the_others,
            degenerate=True,
        ),
        Mistake(
            "upside_down",
            "The fraction is upside down. A feature's own share lies between 0 and 1.",
            lambda W: torch.where(
                W.norm(dim=0) > 0, _table(W).square().sum(1) / W.square().sum(0).clamp(min=1e-30), 0.0
            ),
        ),
        Mistake(
            "mean_of_all",
            "This is hidden/‖W‖²_F, the dimensions per feature of the whole model. One number for each feature is asked for, from its own neighbours.",
            lambda W: torch.full((W.shape[1],), W.shape[0] / float(W.square().sum())),
        ),
        Mistake(
            "rows_for_columns",
            "You treated the rows of W as features. W is [hidden, features]: feature i is *column* i, `W[:, i]`.",
            lambda W: _share(W.T, lambda W: _table(W).square()),
        ),
        Mistake(
            "zero_divided_by_zero",
            "Right but for features that are zero: 0/0 is NaN, and one NaN spoils every mean that it enters. A feature that is not represented has dimensionality 0.",
            lambda W: W.square().sum(0) / ((W / W.norm(dim=0)).T @ W).square().sum(1),
            degenerate=True,
        ),
    ),
    hints=(
        "The denominator is the interference plus the feature's own ‖W_i‖².",
        "`torch.where(norms > 0, norms**2 / below, 0.0)` gives 0 where a feature is zero, as long as `below` was computed without dividing by zero.",
    ),
    reveal="With A = Ŵᵀ W, it is ‖W_i‖² / Σ_j A_ij². Alone: 1. In an antipodal pair of equal lengths: 1/(1 + 1) = 1/2. If every feature were equally crowded, the shares would add up to the number of dimensions. For thousands of features never form A: "
    "the denominator is Ŵ_iᵀ (W Wᵀ) Ŵ_i.",
)
