"""Random directions that resemble the model's own activations: random, so judged by their properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    case,
    judge_each,
    judge_seeds,
    moved_random_state,
)
from mi_course.lessons.steering_vectors.controls import read_rows

Covariance = Callable[[Tensor], Tensor]


def _centered(activations: Tensor) -> Tensor:
    return activations - activations.mean(0)


def _noise(n: int, size: int, seed: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _scaled(rows: Tensor, length: float) -> Tensor:
    return (rows / rows.norm(dim=1, keepdim=True) * length).float()


def _matched_controls(vector: Tensor, activations: Tensor, n: int, seed: int) -> Tensor:
    """Oracle: normal numbers times a Cholesky factor of the covariance."""
    factor = torch.linalg.cholesky(torch.cov(activations.double().T))
    return _scaled(_noise(n, len(vector), seed) @ factor.T, float(vector.norm()))


def _with_covariance(root: Covariance) -> Callable[[Tensor, Tensor, int, int], Tensor]:
    """Wrong directions, of the right norm: normal numbers times another root."""

    def controls(vector: Tensor, activations: Tensor, n: int, seed: int) -> Tensor:
        factor = root(activations.double())
        return _scaled(_noise(n, factor.shape[0], seed) @ factor, float(vector.norm()))

    return controls


def _spread_only(activations: Tensor) -> Tensor:
    return torch.diag(activations.std(0))


# What other covariances a wrong answer may have: its mistake, and a root R of the covariance (rows are noise @ R).
_ROOTS: dict[str, Covariance] = {
    "isotropic": lambda x: torch.eye(x.shape[1], dtype=x.dtype),
    "not_centered": lambda x: x,
    "correlations_ignored": _spread_only,
    "covariance_twice": lambda x: torch.cov(x.T),
}


@cache
def _normal(n: int, size: int) -> Tensor:
    return _noise(n, size, 20260)


def _second_moments(root: Tensor) -> Tensor:
    """Mean of u uᵀ over unit vectors u along noise @ root, from 40,000 of them."""
    rows = _normal(40_000, root.shape[1]) @ _square_root(root)
    unit = rows / rows.norm(dim=1, keepdim=True)
    return unit.T @ unit / len(unit)


def _square_root(root: Tensor) -> Tensor:
    """The symmetric square root of rootᵀ root."""
    sizes, axes = torch.linalg.eigh(root.T @ root)
    return axes @ torch.diag(sizes.clamp(min=0).sqrt()) @ axes.T


def _norms_complaint(rows: Tensor, vector: Tensor, n: int) -> Complaint | None:
    length = float(vector.norm())
    norms = rows.double().norm(dim=1)
    if not torch.allclose(norms, torch.full_like(norms, length), rtol=1e-3):
        if torch.allclose(norms, torch.ones_like(norms), rtol=1e-3):
            return Complaint("", mistake="unit_norm")
        if n > 20 and float(norms.std() / norms.mean()) > 0.05:
            return Complaint("", mistake="not_scaled")
        i = int((norms - length).abs().argmax())
        return Complaint(f"Row {i} has norm {norms[i]:.4g}, expected {length:.4g}, the norm of the vector.")
    return None


def _complaint(value: Any, vector: Tensor, activations: Tensor, n: int) -> Complaint | None:
    """A complaint about one result, or None. The distribution is judged where there are at least 1,000 rows."""
    rows = read_rows(value, n, len(vector))
    if isinstance(rows, Complaint):
        return rows
    if problem := _norms_complaint(rows, vector, n):
        return problem
    unit = rows.double() / float(vector.norm())
    if n < 1000:
        return None
    if torch.allclose(unit, unit[:1].expand_as(unit), atol=1e-5):
        return Complaint("", mistake="one_direction")
    centered = _centered(activations.double())
    own = centered / centered.norm(dim=1, keepdim=True)
    if bool(((unit[:200] @ own.T).abs().amax(1) > 0.9999).all()):
        return Complaint("", mistake="activations_themselves")
    return _distribution_complaint(unit, activations.double())


def _distribution_complaint(unit: Tensor, activations: Tensor) -> Complaint | None:
    n = len(unit)
    seen = unit.T @ unit / n
    # Entries of the second moments spread by at most about 1/√n each; those of the mean, too. Five of them.
    bound = 5 / math.sqrt(n) * 0.6
    expected = _second_moments(_centered(activations))
    off = float((seen - expected).abs().max())
    if off > bound:
        near = {name: float((seen - _second_moments(root(activations))).abs().max()) for name, root in _ROOTS.items()}
        name = min(near, key=lambda key: near[key])
        if near[name] < bound:
            return Complaint("", mistake=name)
        return Complaint(
            f"The covariance of your directions is not that of the activations: of {n} directions scaled to length 1, the mean product of two components is off by up to {off:.2f}, "
            f"where chance allows {bound:.2f}."
        )
    if float(unit.mean(0).abs().max()) > bound:
        return Complaint("", mistake="one_side")
    # Independent rows: neighbors are as often on one side as on the other.
    along = (unit[1:] * unit[:-1]).sum(1)
    if abs(float(along.mean())) > bound or len(_lines(unit)) < 0.99 * n:
        return Complaint(
            "Some rows are the same direction or the opposite one, or follow from the row before. Draw each on its own."
        )
    return None


def _lines(unit: Tensor) -> Tensor:
    """The lines along which rows point, each once. Opposite rows share one."""
    first = unit.abs().argmax(1, keepdim=True)
    return torch.unique((unit * unit.gather(1, first).sign()).round(decimals=6), dim=0)


_judge = judge_each(_complaint, 3)


def _activations(draw: RandomInputs, tokens: int, d: int) -> Tensor:
    """Far from the origin, with axes of very different spread that lie across the coordinates."""
    mixing = torch.linalg.qr(draw.normal(d, d)).Q
    spread = torch.tensor([3.0 / (1 + i) for i in range(d)])
    return (draw.normal(tokens, d) * spread) @ mixing.T + draw.normal(d, std=3.0)


def _sized(draw: RandomInputs) -> list[Case]:
    return [
        case(
            draw.normal(d, std=3.0),
            _activations(draw, tokens, d),
            n,
            draw.seed(),
            judge=_judge,
            about=f"{n} directions from {tokens} activations of {d} components",
        )
        for n, tokens, d in ((2000, 80, 5), (2000, 300, 3), (3, 40, 7), (1, 30, 4))
    ]


def _other_inputs(draw: RandomInputs) -> list[Case]:
    """The same seed, and another vector, other activations or another number of directions."""
    vector, activations, seed, n = draw.normal(5, std=3.0), _activations(draw, 80, 5), draw.seed(), 2000
    some_zero = activations.clone()
    some_zero[::2] = 0.0
    two_kinds = torch.cat([activations[:40], 2 * activations[40:].flip(1)])  # no part of the rows has the covariance
    inputs = [
        (vector, activations, n),
        *((vector.flip(0) * factor, activations, n) for factor in (0.01, 50.0)),
        *(
            (vector, other, n)
            for other in (activations.flip(1) * 0.01, activations.flip(1) * 50.0, some_zero, two_kinds)
        ),
        (vector, activations, 1),
    ]
    calls = tuple(Call((*args, seed), watch=("arguments",)) for args in inputs)
    about = "the same seed with short and long vectors; small, large, partly zero and uneven activations; one direction"
    return [Case(calls=calls, judge=_judge, about=about)]


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    vector, activations, seed, other = draw.normal(6), _activations(draw, 60, 6), draw.seed(), draw.seed()
    calls = tuple(Call((vector, activations, 4, s), watch=("random_state", "arguments")) for s in (seed, seed, other))
    judge = judge_seeds(_judge, "directions", torch.allclose)
    return [Case(calls, judge=judge, about="the same seed twice, then another")]


def _rows_drawn(vector: Tensor, activations: Tensor, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(len(activations), (n,), generator=generator)
    return _scaled(_centered(activations)[picked], float(vector.norm()))


def _positive_weights(vector: Tensor, activations: Tensor, n: int, seed: int) -> Tensor:
    rows = _matched_controls(vector, activations, n, seed)
    return rows * (rows @ torch.linalg.eigh(torch.cov(activations.T)).eigenvectors[:, -1]).sign()[:, None]


def _global_state(vector: Tensor, activations: Tensor, n: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return _scaled(torch.randn(n, len(activations)) @ _centered(activations), float(vector.norm()))


MATCHED_CONTROLS = Exercise(
    id="steering_vectors.matched_controls",
    fixed={
        "vector": "varied by hand",
        "vector[0]": "one number has two directions",
        "activations": "varied by hand",
        "activations[0]": "one activation has no spread",
        "activations[1]": "one number has two directions",
        "result[1]": "one number has two directions",
    },
    task="n random directions with the covariance of the model's own activations, each with the norm of the vector.",
    minutes=6,
    difficulty=2,
    oracle=_matched_controls,
    parts=(
        Part(
            "the covariance of the activations, the norm of the vector",
            3,
            lambda draw, size: [*_sized(draw), *_other_inputs(draw)],
        ),
        Part("the seed decides, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "isotropic",
            "Your directions favor no direction at all: they are those of `random_controls`. They should lie where the activations vary most: mix the activations themselves.",
            _with_covariance(_ROOTS["isotropic"]),
        ),
        Mistake(
            "not_centered",
            "The mean of the activations was not subtracted. All of them share it, so your directions mostly point along it, or away from it. Center them first.",
            _with_covariance(_ROOTS["not_centered"]),
        ),
        Mistake(
            "correlations_ignored",
            "Each component has the right spread, but components vary independently in yours. In the activations they vary together: mix whole rows, or use the whole covariance matrix.",
            _with_covariance(_ROOTS["correlations_ignored"]),
        ),
        Mistake(
            "covariance_twice",
            "You multiplied noise by the covariance matrix itself. Its *square root* (a Cholesky factor, say) is what gives noise that covariance; with the matrix large axes come out too large.",
            _with_covariance(_ROOTS["covariance_twice"]),
        ),
        Mistake(
            "activations_themselves",
            "Your directions are centered activations, scaled. There are only as many as there are tokens, and each carries its token's meaning. Mix *all* of them with random weights.",
            _rows_drawn,
        ),
        Mistake(
            "one_side",
            "Your directions lie on one side: their mean is not zero. Weights drawn with `torch.rand` are all positive; `torch.randn` favors no sign.",
            _positive_weights,
        ),
        Mistake(
            "one_direction",
            "All rows are the same direction. Draw new weights for each.",
            lambda vector, activations, n, seed: _matched_controls(vector, activations, 1, seed).repeat(n, 1),
        ),
        Mistake(
            "unit_norm",
            "Your directions have norm 1. A control must be as long as what it controls.",
            lambda vector, activations, n, seed: _matched_controls(vector, activations, n, seed) / vector.norm(),
        ),
        Mistake(
            "not_scaled",
            "Your directions differ in norm. Scale each of them to the norm of the vector.",
            lambda vector, activations, n, seed: (
                _noise(n, len(activations), seed) @ _centered(activations.double()) / len(activations) ** 0.5
            ).float(),
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same directions. Give `seed` to your generator.",
            lambda vector, activations, n, seed: _matched_controls(vector, activations, n, 0),
        ),
        Mistake(
            "global_random_state",
            "The directions are right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "A sum of centered activations with random weights varies most where they vary most. How many weights does one direction need?",
        "`centered = activations - activations.mean(dim=0)`, and `weights = torch.randn(n, len(activations), generator=generator)`.",
        "`mixed = weights @ centered`; then scale every row to `vector.norm()`, as in `random_controls`.",
    ),
    reveal="If w are independent standard normal weights, Σ wᵢ xᵢ has covariance Σ xᵢ xᵢᵀ: that of the centered activations, times their number. So the d × d matrix need not even be computed, and it works with fewer tokens than dimensions. "
    "Drawing from a normal distribution with `torch.cov(activations.T)` is the same thing.",
)
