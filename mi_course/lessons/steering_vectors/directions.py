"""From activations to a direction: a probe from two means, and how similar directions are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# mass_mean_probe


def _mean(rows: Tensor) -> Tensor:
    """Mean of rows by loops, in double precision."""
    return torch.tensor([sum(float(row[d]) for row in rows) / len(rows) for d in range(rows.shape[1])])


def _mass_mean_probe(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """Oracle: means by loops; the border is halfway between them."""
    up, down = ([row for row, label in zip(x, y.tolist(), strict=True) if label is wanted] for wanted in (True, False))
    if not up or not down:
        raise ValueError("both classes are needed")
    a, b = _mean(torch.stack(up)), _mean(torch.stack(down))
    middle = [(float(p) + float(q)) / 2 for p, q in zip(a, b, strict=True)]
    w = a - b
    return w, -sum(float(p) * q for p, q in zip(w, middle, strict=True))


def _probe_data(draw: RandomInputs, n: int, d: int, positive: int) -> tuple[Tensor, Tensor]:
    """Far from the origin, with classes of different size, in random order."""
    y = torch.zeros(n, dtype=torch.bool)
    y[draw.permutation(n)[:positive]] = True
    return draw.normal(n, d, mean=2.0) + y[:, None] * draw.normal(d), y


def _probe_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_probe_data(draw, n, d, positive), about=f"{n} rows of {d}, {positive} of them True")
        for n, d, positive in ((9, 4, 3), (12, 5, 8), (7, 6, 2), (90, 3, 1), (90, 3, 89))
    ]


def _empty_class_cases(draw: RandomInputs, size: str) -> list[Case]:
    x, y = _probe_data(draw, 8, 3, 3)
    calls = [(x, y), (x, torch.zeros(8, dtype=torch.bool)), (x, torch.ones(8, dtype=torch.bool))]
    return [
        Case(
            calls=tuple(Call(args, "expects_error") for args in calls),
            about="both classes, then no True label, then no False one",
        )
    ]


def _probe_with(bias: Any, scale: Any = lambda w: w) -> Any:
    """A wrong probe with another w or b, which still refuses an empty class."""

    def probe(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
        w, _ = _mass_mean_probe(x, y)
        return scale(w), float(bias(scale(w), x, x[y].mean(0), x[~y].mean(0)))

    return probe


def _half_way(w: Tensor, x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return -(w @ (up + down)) / 2


def _bias_first(x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    w, b = _mass_mean_probe(x, y)
    return b, w


def _empty_is_nan(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    up, down = x[y].mean(0), x[~y].mean(0)
    return up - down, float(_half_way(up - down, x, up, down))


MASS_MEAN_PROBE = Exercise(
    id="steering_vectors.mass_mean_probe",
    revision=2,
    fixed={
        "x[0]": "two classes take two rows",
        "y[0]": "two classes take two rows",
    },
    task="A probe from two means: w = μ₊ − μ₋ and the b that puts the border halfway; ValueError for an empty class.",
    minutes=7,
    difficulty=2,
    oracle=_mass_mean_probe,
    parts=(
        Part("classes of different size, far from the origin", 2, _probe_cases),
        Part("an empty class is refused", 1, _empty_class_cases),
    ),
    mistakes=(
        Mistake(
            "threshold_at_zero",
            "Your b is 0, so the border passes through the origin. Activations are not centred there: then nearly every row falls on one side. The border belongs "
            "halfway between the means.",
            _probe_with(lambda w, x, up, down: 0.0),
        ),
        Mistake(
            "swapped",
            "Positive and negative are swapped: your probe says True where it should say False.",
            lambda x, y: _mass_mean_probe(x, ~y),
        ),
        Mistake(
            "bias_without_its_sign",
            "Your b has the wrong sign. Halfway between the means x·w + b must be 0, so b is *minus* w·(μ₊ + μ₋)/2.",
            _probe_with(lambda w, *rest: -_half_way(w, *rest)),
        ),
        Mistake(
            "bias_not_halved",
            "Your b is twice as large as it should be: (μ₊ + μ₋)/2 is the point halfway, and you left out the 2.",
            _probe_with(lambda w, *rest: 2 * _half_way(w, *rest)),
        ),
        Mistake(
            "border_at_the_common_mean",
            "Your border passes through the mean of all rows. With classes of different size that lies nearer to the larger one. Halfway between the two means is asked for.",
            _probe_with(lambda w, x, up, down: -(w @ x.mean(0))),
        ),
        Mistake(
            "border_at_the_positive_mean",
            "Your border passes through μ₊ itself, so half of the positive rows fall on the wrong side. Halfway between the means is asked for.",
            _probe_with(lambda w, x, up, down: -(w @ up)),
        ),
        Mistake(
            "unit_length",
            "You scaled w to length 1. As a classifier it is the same, but w = μ₊ − μ₋ is asked for: the very vector that you will steer with.",
            _probe_with(_half_way, lambda w: w / w.norm()),
        ),
        Mistake(
            "bias_first",
            "The two are right but in the wrong order: (w, b) is asked for.",
            _bias_first,
        ),
        Mistake(
            "empty_class_accepted",
            "Right where both classes have examples. An empty class has no mean (yours is NaN, and so is everything that follows from it): raise ValueError.",
            _empty_is_nan,
        ),
    ),
    hints=(
        "`x[y]` are the rows labelled True, `x[~y]` the others. `w` is the difference of their means.",
        "Halfway between the means is the point m = (μ₊ + μ₋)/2. The border passes through it: w·m + b = 0. Solve for b.",
        '`if y.all() or not y.any(): raise ValueError("...")` before any mean is taken.',
    ),
    reveal="Marks and Tegmark (2023, section 5) call it a mass-mean probe. It has no training loop and no regularisation to tune, and its direction is the steering vector itself. "
    "A logistic probe may classify better, since it leans on any component that helps. That is also why its direction need not be one that the model *uses*.",
)


# ---------------------------------------------------------------------------------------------------------------------
# cosine_similarities


def _cosine_similarities(vectors: Tensor) -> Tensor:
    """Oracle: every pair, in double precision."""
    rows = vectors.double().tolist()
    lengths = [math.sqrt(sum(v * v for v in row)) for row in rows]
    out = torch.zeros(len(rows), len(rows))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if lengths[i] and lengths[j]:
                out[i, j] = sum(p * q for p, q in zip(a, b, strict=True)) / (lengths[i] * lengths[j])
    return out


def _cosine_cases(zero: bool) -> Any:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for n, d in ((4, 3), (4, 6), (5, 5)):
            vectors = draw.normal(n, d, mean=0.4) * draw.uniform(n, 1, low=0.5, high=4.0)
            # One pair points in nearly opposite directions.
            vectors[1] = -2.0 * vectors[0] + 0.1 * vectors[1]
            # And one is short, so that a guard against zero that is too wide is noticed.
            vectors[2] *= 0.05 / vectors[2].norm()
            if zero:
                vectors[-1] = 0.0
            cases.append(case(vectors, about=f"{n} vectors of {d}{', the last one zero' if zero else ''}"))
        return cases

    return cases


def _unit(vectors: Tensor, dim: int = 1) -> Tensor:
    norms = vectors.norm(dim=dim, keepdim=True)
    return vectors / torch.where(norms > 0, norms, 1.0)


def _with_ones(vectors: Tensor) -> Tensor:
    return _cosine_similarities(vectors).fill_diagonal_(1.0)


def _one_side(vectors: Tensor) -> Tensor:
    return _unit(vectors) @ vectors.T


COSINE_SIMILARITIES = Exercise(
    id="steering_vectors.cosine_similarities",
    revision=2,
    fixed={
        "result<=1": "cosines",
    },
    task="The cosine of every pair of rows; a zero vector has cosine 0 with all, itself included.",
    minutes=5,
    difficulty=1,
    oracle=_cosine_similarities,
    parts=(
        Part("vectors of different length", 2, _cosine_cases(False)),
        Part("a zero vector among them", 1, _cosine_cases(True)),
    ),
    mistakes=(
        Mistake(
            "dot_products",
            "These are dot products, which grow with the vectors' lengths. Divide by both lengths.",
            lambda vectors: vectors @ vectors.T,
        ),
        Mistake(
            "one_length_only",
            "You divided by the length of one of the two vectors. The table must be the same when turned over (`C == C.T`); yours is not.",
            _one_side,
        ),
        Mistake(
            "columns_compared",
            "You compared the columns. Each *row* is a vector: the table has one row and one column for each of them.",
            lambda vectors: _unit(vectors, 0).T @ _unit(vectors, 0),
        ),
        Mistake(
            "columns_normalized",
            "You normalised along the wrong axis: each *row* should have length 1 before rows are multiplied.",
            lambda vectors: _unit(vectors, 0) @ _unit(vectors, 0).T,
        ),
        Mistake(
            "squared_lengths",
            "You divided by the squared lengths. A vector's cosine with itself must be 1.",
            lambda vectors: _cosine_similarities(vectors) / (lambda n: n * n.T)(_safe_norms(vectors)),
        ),
        Mistake(
            "centred",
            "You subtracted each vector's mean first: that is a correlation. Directions are compared as they are.",
            lambda vectors: _cosine_similarities(vectors - vectors.mean(1, keepdim=True)),
        ),
        Mistake(
            "absolute_values",
            "You lost the sign. Opposite directions have cosine −1, and for a steering vector that is a great difference.",
            lambda vectors: _cosine_similarities(vectors).abs(),
        ),
        Mistake(
            "distance",
            "This is 1 − cosine, a distance. The cosine itself is asked for.",
            lambda vectors: 1 - _cosine_similarities(vectors),
        ),
        Mistake(
            "zero_like_itself",
            "Right but for the zero vector, which you gave cosine 1 with itself. It has no direction: 0 with all, itself included.",
            _with_ones,
        ),
        Mistake(
            "zero_divided_by_zero",
            "Right but for the zero vector: 0/0 is NaN, and one NaN spoils every mean that it enters. A zero vector has cosine 0 with all.",
            lambda vectors: (lambda u: u @ u.T)(vectors / vectors.norm(dim=1, keepdim=True)),
            degenerate=True,
        ),
    ),
    hints=(
        "Scale every row to length 1. Then the product of the matrix with its own transpose holds all cosines.",
        "Where a row's norm is 0, divide by 1 instead: `torch.where(norms > 0, norms, 1.0)`.",
    ),
    reveal="With rows of length 1, `unit @ unit.T` is the whole table at once. In 576 dimensions two random directions have a cosine of about ±1/√576 = ±0.04, so 0.3 is a lot.",
)


def _safe_norms(vectors: Tensor) -> Tensor:
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, norms, 1.0)
