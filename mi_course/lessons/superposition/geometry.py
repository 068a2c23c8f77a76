"""The columns of W: interference, the dimension that each feature gets, and which features share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case


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
    return [
        case(W, about="six features in three dimensions, two of which are zero"),
        case(pentagon, about=f"a regular pentagon of vectors of length {length:.2f}"),
        case(alone, about="a single feature that is not zero"),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# interference


def _interference(W: Tensor) -> Tensor:
    """Spec."""
    return torch.tensor([sum(s for j, s in enumerate(_overlaps(W, i)) if j != i) for i in range(W.shape[1])])


INTERFERENCE = Exercise(
    id="superposition.interference",
    revision=2,
    fixed={
        "W[1]": "one feature interferes with none",
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


# ---------------------------------------------------------------------------------------------------------------------
# feature_groups


def _components(linked: Callable[[int, int], bool], n: int) -> list[list[int]]:
    """Connected components by relabelling: each feature takes the lowest label among its links, until nothing changes."""
    label = {i: i for i in range(n) if linked(i, i)}
    moved = True
    while moved:
        moved = False
        for i in label:
            for j in label:
                if linked(i, j) and label[j] < label[i]:
                    label[i], moved = label[j], True
    return [[i for i in label if label[i] == name] for name in sorted(set(label.values()))]


def _feature_groups(W: Tensor, threshold: float) -> list[list[int]]:
    """Spec."""
    columns = _columns(W)
    return _components(lambda i, j: abs(_dot(columns[i], columns[j])) > threshold, len(columns))


def _grouped_by(dots: Callable[[Tensor], Tensor], keep_all: bool = False) -> Callable[[Tensor, float], list[list[int]]]:
    """A grouping by another table of products."""

    def groups(W: Tensor, threshold: float) -> list[list[int]]:
        table = dots(W)
        return _components(lambda i, j: float(table[i, j]) > threshold or (keep_all and i == j), W.shape[1])

    return groups


def _direct_only(W: Tensor, threshold: float) -> list[list[int]]:
    """Each ungrouped feature takes its direct neighbours, but not their neighbours."""
    linked, left, groups = (W.T @ W).abs() > threshold, list(range(W.shape[1])), []
    left = [i for i in left if linked[i, i]]
    while left:
        group = [j for j in left if j == left[0] or linked[left[0], j]]
        groups.append(group)
        left = [j for j in left if j not in group]
    return groups


def _linked_by_all(W: Tensor, threshold: float) -> list[list[int]]:
    """Features below the threshold are left out only at the end, after they have linked others."""
    linked = _grouped_by(lambda W: (W.T @ W).abs(), keep_all=True)(W, threshold)
    kept = [[i for i in group if float(W[:, i] @ W[:, i]) > threshold] for group in linked]
    return sorted(group for group in kept if group)


def _planted(draw: RandomInputs, sizes: tuple[int, ...], threshold: float) -> Tensor:
    """Groups in separate dimensions: a single feature, antipodal pairs, chains, and features that are hardly represented.

    In a chain, neighbours overlap and the ends do not. Signs and the order of the features are random.
    """
    columns, place, heads = [], 0, []
    hidden = sum(max(size - 1, 1) for size in sizes)
    for size in sizes:
        heads.append(place)
        for k in range(size):
            v = torch.zeros(hidden)
            if size <= 2:
                v[place] = (1.3 if k == 0 else -0.8) + draw.number(0, 0.2)
            else:  # a chain: member k lies in dimensions k − 1 and k of the group
                for d in (k - 1, k):
                    if 0 <= d < size - 1:
                        v[place + d] = (1.0 + draw.number(0, 0.3)) * (1 if d == k else -1)
            columns.append(v)
        place += max(size - 1, 1)
    # Hardly represented, ‖W_i‖² below the threshold: one anywhere, one that overlaps two groups.
    v, bridge = draw.normal(hidden), torch.zeros(hidden)
    bridge[heads[:2]] = math.sqrt(threshold) * 0.62
    columns += [v / v.norm() * math.sqrt(threshold) * 0.6, bridge]
    W = torch.stack(columns, dim=1)[:, draw.permutation(len(columns))]
    return W * torch.where(draw.uniform(W.shape[1]) < 0.5, -1.0, 1.0) + draw.normal(*W.shape, std=0.003)


def _between(W: Tensor, share: float) -> float:
    """A threshold at about this share of the dot products, halfway between two of them, so that rounding does not decide."""
    products = (W.T @ W).abs()[tuple(torch.triu_indices(W.shape[1], W.shape[1]))].sort().values
    middle = int(share * len(products))
    near = range(max(middle - 2, 0), min(middle + 3, len(products) - 1))
    k = max(near, key=lambda k: float(products[k + 1] - products[k]))
    return float(products[k] + products[k + 1]) / 2


def _group_cases(draw: RandomInputs, size: str) -> list[Case]:
    calls = []
    for hidden, n, share in ((5, 7, 0.75), (4, 6, 0.7), (6, 8, 0.85), (4, 7, 0.8)):
        W = draw.normal(hidden, n, std=0.7)
        calls.append(Call((W, _between(W, share)), watch=("arguments",)))
    for sizes in ((2, 1, 4), (1, 2, 2, 3), (5, 2, 1, 1)):
        threshold, scale = draw.number(0.25, 0.35), (0.4, 1.0, 2.2)[len(calls) % 3]
        calls.append(Call((scale * _planted(draw, sizes, threshold), scale**2 * threshold), watch=("arguments",)))
    return [
        Case(calls=(call,), about=f"{call.args[0].shape[1]} features, threshold {call.args[1]:.2f}") for call in calls
    ]


def _group_edges(draw: RandomInputs, size: str) -> list[Case]:
    # Quarters, so that products are exact: 0 and 1 overlap by exactly the threshold, and so does 2 with itself.
    W = torch.tensor([[1.0, 0.25, 0.0, 0.0, 1.5], [0.0, 1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
    W = torch.cat([W, torch.zeros(1, 5)])
    W[3, draw.integer(3, 5)] = 1.0
    return [
        case(W, 0.25, about="products that equal the threshold"),
        case(draw.normal(3, 7, std=0.1), 2.0, about="nothing above the threshold"),
        case(draw.normal(2, 6) + 3.0, 0.1, about="everything in one group"),
    ]


FEATURE_GROUPS = Exercise(
    id="superposition.feature_groups",
    revision=2,
    task="The features that share dimensions with one another, directly or through others: i and j are linked where |W_i · W_j| exceeds the threshold.",
    minutes=8,
    difficulty=3,
    oracle=_feature_groups,
    parts=(
        Part("random features; pairs, chains and singles in dimensions of their own", 2, _group_cases),
        Part("just at the threshold, none, all", 1, _group_edges),
    ),
    mistakes=(
        Mistake(
            "sign_ignored_features_apart",
            "Features that point *against* each other are not linked in your groups. They share a dimension all the same: take the absolute value of the dot product.",
            _grouped_by(lambda W: W.T @ W),
        ),
        Mistake(
            "direct_links_only",
            "You gathered the direct neighbours of one feature. Groups are connected *through* others too: the neighbours of the neighbours belong to it, and so on.",
            _direct_only,
        ),
        Mistake(
            "absent_features_kept",
            "Features that are hardly represented have groups of their own. A feature whose own ‖W_i‖² does not exceed the threshold is left out.",
            _grouped_by(lambda W: (W.T @ W).abs(), keep_all=True),
        ),
        Mistake(
            "absent_features_link",
            "A feature that is hardly represented, ‖W_i‖² at most the threshold, connects two of your groups. It is left out from the start: it links nothing.",
            _linked_by_all,
        ),
        Mistake(
            "singles_left_out",
            "Features that share with no other are missing. One alone is a group of one.",
            lambda W, threshold: [group for group in _feature_groups(W, threshold) if len(group) > 1],
        ),
        Mistake(
            "cosines",
            "You compared cosines. Then a feature that is hardly represented, and points anywhere, links groups that have nothing to do with each other. Take the dot product.",
            _grouped_by(lambda W: (_unit(W).T @ _unit(W)).abs()),
        ),
        Mistake(
            "squares",
            "You compared the *square* of the dot product with the threshold. Its absolute value is asked for.",
            _grouped_by(lambda W: (W.T @ W).square()),
        ),
        Mistake(
            "threshold_included",
            "A product that *equals* the threshold counted as a link. Exceeds means `>`.",
            lambda W, threshold: _feature_groups(W, threshold - 1e-6),
        ),
        Mistake(
            "sizes",
            "You returned how many features each group has. The features themselves are asked for, as lists of their numbers.",
            lambda W, threshold: [len(group) for group in _feature_groups(W, threshold)],
        ),
        Mistake(
            "largest_first",
            "The right groups in another order. They come in the order of their first members, each group ascending.",
            lambda W, threshold: sorted(_feature_groups(W, threshold), key=len, reverse=True),
        ),
        Mistake(
            "rows_for_columns",
            "You grouped the rows of W, which are hidden dimensions. W is [hidden, features]: feature i is column i.",
            lambda W, threshold: _feature_groups(W.T, threshold),
        ),
    ),
    hints=(
        "`(W.T @ W).abs() > threshold` is a table of links. A feature is linked to itself if it is represented at all. What is left is to find the connected pieces.",
        "Start a group with the first feature that is in none. Add everything linked to any member, again and again, until nothing is added. Then start the next group.",
        "`group = {i}`, and `while new := {j for j in left if any(linked[i, j] for i in group)} - group: group |= new`.",
    ),
    reveal="Groups are the connected components of the graph of overlaps. Different groups lie in subspaces at right angles to each other, so each can be looked at alone; Elhage et al. call the whole a tegum product of small polytopes. "
    "The product, not the cosine, is compared, so that a feature with hardly any length links nothing, itself included.",
)
