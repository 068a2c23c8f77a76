"""From activations to a direction: means, a probe and its accuracy, and how similar directions are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# difference_of_means


def _mean(rows: Tensor) -> Tensor:
    """Mean of rows by loops, in double precision."""
    return torch.tensor([sum(float(row[d]) for row in rows) / len(rows) for d in range(rows.shape[1])])


def _difference_of_means(positive: Tensor, negative: Tensor) -> Tensor:
    """Spec."""
    return _mean(positive) - _mean(negative)


def _difference_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            draw.normal(n, d, mean=1.0, std=2.0),
            draw.normal(m, d, mean=-0.5),
            about=f"{n} positive and {m} negative rows of {d}",
        )
        for n, m, d in ((5, 3, 4), (2, 7, 6), (6, 4, 5))
    ]


DIFFERENCE_OF_MEANS = Exercise(
    id="steering_vectors.difference_of_means",
    revision=2,
    task="The mean of the positive rows minus the mean of the negative rows.",
    minutes=3,
    difficulty=1,
    oracle=_difference_of_means,
    parts=(Part("classes of different size", 2, _difference_cases),),
    mistakes=(
        Mistake(
            "swapped",
            "Positive and negative are swapped: your vector points from the positive examples to the negative ones, and adding it makes text gloomier.",
            lambda positive, negative: _difference_of_means(negative, positive),
        ),
        Mistake(
            "summed",
            "You subtracted sums. They grow with the number of examples, so classes of different size do not cancel what they share. Take means.",
            lambda positive, negative: positive.sum(0) - negative.sum(0),
        ),
        Mistake(
            "divided_by_all",
            "You divided both sums by the number of all examples. Each class is divided by its own number.",
            lambda positive, negative: (positive.sum(0) - negative.sum(0)) / (len(positive) + len(negative)),
        ),
        Mistake(
            "row_by_row",
            "You subtracted row by row and left out the rows without a partner. The classes need no pairs: average each, then subtract.",
            lambda positive, negative: (
                positive[: min(len(positive), len(negative))] - negative[: min(len(positive), len(negative))]
            ).mean(0),
        ),
        Mistake(
            "unit_length",
            "The direction is right, but you scaled it to length 1. The length is worth keeping: it says how far apart the classes are, and makes coefficient 1 mean "
            '"from one class to the other".',
            lambda positive, negative: torch.nn.functional.normalize(_difference_of_means(positive, negative), dim=0),
        ),
        Mistake(
            "over_components",
            "You averaged over the components of each example and kept the examples. Average over examples, the first axis, and keep d.",
            lambda positive, negative: (
                positive.mean(1)[: min(len(positive), len(negative))]
                - negative.mean(1)[: min(len(positive), len(negative))]
            ),
        ),
        Mistake(
            "one_number",
            "You averaged over everything and returned one number. Average over examples (`dim=0`) and keep the components.",
            lambda positive, negative: positive.mean() - negative.mean(),
        ),
        Mistake(
            "medians",
            "These are differences of medians. Means are asked for; the median of each component belongs to no example and no average.",
            lambda positive, negative: positive.median(0).values - negative.median(0).values,
        ),
        Mistake(
            "from_the_common_mean",
            "You subtracted the mean of *all* rows from the positive mean. That is the same direction, but shorter, and its length depends on how many examples each "
            "class has.",
            lambda positive, negative: positive.mean(0) - torch.cat([positive, negative]).mean(0),
        ),
    ),
    hints=(
        "Rows are examples, columns are components. Along which axis do you average?",
        "`positive.mean(dim=0)` has shape (d,).",
    ),
    reveal="Whatever all sentences share (that they are sentences, that they end here) is in both means and cancels. What remains is the opinion, and what went along with it by "
    "accident: hence pairs of sentences that differ in little else.",
)


# ---------------------------------------------------------------------------------------------------------------------
# mass_mean_probe


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
        for n, d, positive in ((9, 4, 3), (12, 5, 8), (7, 6, 2))
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


def _probe_with(bias: object, scale: object = lambda w: w) -> object:
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
# probe_accuracy


def _scores(w: Tensor, b: float, x: Tensor) -> list[float]:
    return [sum(float(p) * float(q) for p, q in zip(row, w, strict=True)) + b for row in x]


def _probe_accuracy(w: Tensor, b: float, x: Tensor, y: Tensor) -> float:
    """Oracle: count."""
    right = [(score > 0) == label for score, label in zip(_scores(w, b, x), y.tolist(), strict=True)]
    return sum(right) / len(right)


def _accuracy(predict: object) -> object:
    """A wrong accuracy, with predict(w, b, x, y) for which rows are True."""
    return lambda w, b, x, y: float((predict(w, b, x, y) == y).float().mean())


def _ratio(above: Tensor, below: Tensor) -> float:
    return float(above.sum()) / max(int(below.sum()), 1)


def _accuracy_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Whole numbers, so that rows can be exactly on the border; mostly wrong probes, so that a flip is noticed."""
    cases = []
    while len(cases) < 6:
        n, d = (11, 3) if len(cases) % 2 else (17, 4)
        w, x = draw.integers(-3, 4, d).float(), draw.integers(-3, 4, n, d).float()
        b = float(draw.integer(-4, 5)) or 2.0
        y = draw.uniform(n) < 0.35
        score = x @ w + b
        on_border, accuracy = (score == 0), ((score > 0) == y).float().mean()
        useful = on_border.any() and (on_border & y).any() != (on_border & ~y).any()
        differ = {
            round(float(value), 4)
            for value in (
                accuracy,
                1 - accuracy,
                ((score >= 0) == y).float().mean(),
                ((x @ w > 0) == y).float().mean(),
                ((x @ w - b > 0) == y).float().mean(),
                (score > 0).float().mean(),
            )
        }
        low = len(cases) < 3
        if useful and len(differ) == 6 and y.any() and (accuracy < 0.5) == low:
            cases.append(case(w, b, x, y, about=f"{n} rows of {d}, {int(on_border.sum())} exactly on the border"))
    return cases


PROBE_ACCURACY = Exercise(
    id="steering_vectors.probe_accuracy",
    revision=2,
    task="The share of rows on which the probe is right: (x·w + b > 0) equals the label.",
    minutes=4,
    difficulty=1,
    oracle=_probe_accuracy,
    parts=(Part("good probes, bad ones, rows on the border", 2, _accuracy_cases),),
    mistakes=(
        Mistake(
            "bias_ignored",
            "You left out b: the border then passes through the origin, and activations are not centred there.",
            _accuracy(lambda w, b, x, y: x @ w > 0),
        ),
        Mistake(
            "bias_subtracted",
            "You subtracted b. The probe says True where x·w **+** b is above 0; the minus is in b already.",
            _accuracy(lambda w, b, x, y: x @ w - b > 0),
        ),
        Mistake(
            "error_rate",
            "This is the share of rows on which the probe is *wrong*.",
            lambda w, b, x, y: 1 - _probe_accuracy(w, b, x, y),
        ),
        Mistake(
            "better_of_both",
            "You turned the probe around where it was below one half. Then even a useless probe scores above chance, and one that is wrong everywhere scores 1.",
            lambda w, b, x, y: max(_probe_accuracy(w, b, x, y), 1 - _probe_accuracy(w, b, x, y)),
        ),
        Mistake(
            "border_counts_as_true",
            "A row exactly on the border (x·w + b = 0) counts as True in yours. True is where it is *above* 0: `>`, not `>=`.",
            _accuracy(lambda w, b, x, y: x @ w + b >= 0),
        ),
        Mistake(
            "counted",
            "This is the number of rows that are right. Divide by how many there are.",
            lambda w, b, x, y: _probe_accuracy(w, b, x, y) * len(y),
        ),
        Mistake(
            "percent",
            "This is a percentage. A share between 0 and 1 is asked for.",
            lambda w, b, x, y: _probe_accuracy(w, b, x, y) * 100,
        ),
        Mistake(
            "share_predicted_true",
            "This is the share of rows that the probe calls True, whatever their labels. Compare with y.",
            lambda w, b, x, y: float((x @ w + b > 0).float().mean()),
        ),
        Mistake(
            "positives_only",
            "You looked at the rows labelled True alone (that is recall). A probe that always says True would score 1.",
            lambda w, b, x, y: _ratio((x @ w + b > 0) & y, y),
        ),
    ),
    hints=(
        "`x @ w + b` is one number for each row. Which of them are above 0?",
        "`((x @ w + b > 0) == y)` is True where the probe is right. Its mean, as floats, is the accuracy.",
    ),
    reveal="A comparison, and a mean of ones and zeros. What matters is *which* rows: on the rows a probe was fitted to, even random labels are predicted well once there are more "
    "components than rows.",
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


def _cosine_cases(zero: bool) -> object:
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
