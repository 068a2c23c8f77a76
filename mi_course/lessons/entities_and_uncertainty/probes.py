"""Probes, how well they separate, and the two controls: what they could memorize, and what chance gives."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
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
    function_ref,
    moved_random_state,
)
from mi_course.lessons.entities_and_uncertainty.labels import _no_error
from mi_course.wire import RAISED, Observation

Probe = tuple[Tensor, float]

# ---------------------------------------------------------------------------------------------------------------------
# fit_probe


def _logistic(z: Tensor, y: Tensor, l2: float, intercept: bool = True) -> tuple[Tensor, float]:
    """scikit-learn's minimum of the mean log loss + l2/2 · ‖v‖²."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=1 / (l2 * len(z)), solver="newton-cholesky", tol=1e-9, max_iter=500, fit_intercept=intercept
    )
    model.fit(z.double().numpy(), y.numpy())
    return torch.from_numpy(model.coef_[0]), float(model.intercept_[0]) if intercept else 0.0


def _standard(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column; 1 for a column without spread."""
    x = x.double()
    varies = (x != x[:1]).any(0)
    return x.mean(0), torch.where(varies, x.std(0, correction=correction), torch.ones(()).double())


def _probe(
    x: Tensor,
    y: Tensor,
    l2: float,
    fit: Callable[[Tensor, Tensor, float], tuple[Tensor, float]] = _logistic,
    correction: int = 0,
    scaled: bool = True,
    raw: Callable[[Tensor, float, Tensor, Tensor], tuple[Tensor, float]] | None = None,
) -> Probe:
    """Oracle: scikit-learn on standardized columns. The options make the mistakes."""
    if len(set(y.tolist())) < 2:
        raise ValueError("one class")
    mean, std = _standard(x, correction)
    if not scaled:
        std = torch.ones_like(std)
    z = torch.where((x != x[:1]).any(0), (x.double() - mean) / std, torch.zeros(()).double())
    v, c = fit(z, y, l2)
    w, b = raw(v, c, mean, std) if raw else (v / std, c - float(mean @ (v / std)))
    return w.float(), b


def _fit_probe(x: Tensor, y: Tensor, l2: float) -> Probe:
    return _probe(x, y, l2)


def _penalized_bias(z: Tensor, y: Tensor, l2: float) -> tuple[Tensor, float]:
    v, _ = _logistic(torch.cat([z, torch.ones(len(z), 1).double()], 1), y, l2, intercept=False)
    return v[:-1], float(v[-1])


def _ridge(z: Tensor, y: Tensor, l2: float) -> tuple[Tensor, float]:
    sign = y.double() * 2 - 1
    v = torch.linalg.solve(z.T @ z / len(z) + l2 * torch.eye(z.shape[1]).double(), z.T @ sign / len(z))
    return v, float(sign.mean())


def _means(z: Tensor, y: Tensor, l2: float) -> tuple[Tensor, float]:
    v = z[y].mean(0) - z[~y].mean(0)
    return v, -float(v @ (z[y].mean(0) + z[~y].mean(0)) / 2)


def _constant_is_nan(x: Tensor, y: Tensor, l2: float) -> Probe:
    w, b = _probe(x, y, l2)
    constant = ~(x != x[:1]).any(0)
    w = w.masked_fill(constant, torch.nan)
    return w, b if not constant.any() else math.nan


def _sees_nan(case: Case, observation: Observation) -> bool:
    x, value = case.calls[0].args[0], observation.replies[0].value
    constant = ~(x != x[:1]).any(0)
    return bool(constant.any()) and bool(torch.as_tensor(value[0]).isnan().any())


def _one_class(x: Tensor, y: Tensor, l2: float) -> Probe:
    return _probe(x, y, l2) if len(set(y.tolist())) > 1 else (torch.zeros(x.shape[1]), 0.0)


def _rows(draw: RandomInputs, n: int, d: int, true: float, spread: float) -> tuple[Tensor, Tensor]:
    """Rows of two overlapping classes; columns of different scale, far from zero."""
    y = torch.zeros(n, dtype=torch.bool)
    y[draw.permutation(n)[: max(1, round(n * true))]] = True
    z = draw.normal(n, d) + y[:, None] * draw.normal(d, std=0.8)
    scale = torch.tensor([spread ** (i / max(1, d - 1)) for i in range(d)])[draw.permutation(d)]
    return z * scale + draw.normal(d, mean=1.5) * scale, y


def _probe_cases(
    settings: Sequence[tuple[int, int, float, float, float]],
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                *_rows(draw, n, d, true, spread),
                l2,
                about=f"{n} rows, {d} column{'s' * (d > 1)}, l2 {l2}",
                **_CLOSE,
            )
            for n, d, l2, true, spread in settings
        ]

    return cases


_CLOSE: dict[str, Any] = {"rtol": 5e-3, "atol": 2e-4, "limit_s": 15.0}
"""Importing scikit-learn or torch's optimizers for the first time takes seconds."""


def _odd_probes(draw: RandomInputs, size: str) -> list[Case]:
    x, y = _rows(draw, 24, 4, 0.4, 3.0)
    constant = torch.cat([x[:, :2], torch.full((24, 1), 0.1), x[:, 2:], torch.zeros(24, 1)], 1)
    one_class = [(x[y], y[y], 0.1), (x[~y], y[~y], 0.1), (x[:1], y[:1], 0.1)]
    cases = [
        case(constant, y, 0.2, about="two columns whose entries are all equal", **_CLOSE),
        case(torch.tensor([[1.0, 5.0], [3.0, 4.0]]), torch.tensor([True, False]), 0.3, about="two rows", **_CLOSE),
        case(x.repeat(1, 2), y, 0.1, about="every column twice", **_CLOSE),
        Case(
            tuple(Call(args, "expects_error") for args in one_class),
            about="one class, the other, a single row",
            limit_s=15.0,
        ),
    ]
    # The same rows, one thing changed at a time.
    changed = [
        (x, y, 0.1),
        (x, y, 1.0),
        (x, y, 0.04),
        (x, ~y, 0.1),
        (x, y.flip(0), 0.1),
        (-x, y, 0.1),
        (x * 50, y, 0.1),
    ]
    changed.append(((x * 2).round() / 2, y, 0.1))
    calls = tuple(Call(args, watch=("arguments",)) for args in changed)
    rare = draw.normal(130, 2)
    rare[:, 1] = 0.5
    rare[draw.integer(0, 130), 1] = 2.0
    one = torch.zeros(130, dtype=torch.bool)
    one[draw.integer(0, 130)] = True
    cases.append(case(rare, one, 0.1, about="one true row of 130; a column in which one entry differs", **_CLOSE))
    cases.append(case(rare, ~one, 0.1, about="one false row of 130", **_CLOSE))
    return [*cases, Case(calls, about="the same rows with other penalties, labels, signs and units", **_CLOSE)]


FIT_PROBE = Exercise(
    id="entities_and_uncertainty.fit_probe",
    task="Fit an L2-regularized logistic regression on standardized columns, and return its weights and bias for raw rows.",
    minutes=14,
    difficulty=3,
    fixed={
        "x[0]": "a single row has a single class",
        "y[0]": "a single row has a single class",
        "l2=0": "without a penalty the weights of separable classes grow without end",
        "l2>=0": "a penalty",
    },
    oracle=_fit_probe,
    parts=(
        Part(
            "many rows and few columns, and the other way around",
            3,
            _probe_cases(
                ((60, 5, 0.1, 0.5, 10.0), (25, 40, 0.05, 0.4, 4.0), (80, 3, 0.03, 0.2, 100.0), (40, 1, 1.0, 0.6, 1.0))
            ),
        ),
        Part("equal columns, two rows, a single class", 1, _odd_probes),
    ),
    mistakes=(
        Mistake(
            "standardized_units",
            "These are the weights in standardized units. For raw rows divide each by its column's standard deviation, and subtract `mean @ w` from the bias.",
            lambda x, y, l2: _probe(x, y, l2, raw=lambda v, c, mean, std: (v, c)),
        ),
        Mistake(
            "bias_not_moved",
            "The weights are right; the bias is still that of centered rows. `x @ w` of raw rows is larger by `mean @ w`: subtract that.",
            lambda x, y, l2: _probe(x, y, l2, raw=lambda v, c, mean, std: (v / std, c)),
        ),
        Mistake(
            "multiplied_by_std",
            "You multiplied the weights by the standard deviations. z = (x − mean) / std, so raw weights are `v / std`.",
            lambda x, y, l2: _probe(x, y, l2, raw=lambda v, c, mean, std: (v * std, c - float(mean @ (v * std)))),
        ),
        Mistake(
            "bias_penalized",
            "Your penalty pulls the bias to zero as well. Penalize the weights alone: a bias that is too small makes the larger class look smaller.",
            lambda x, y, l2: _probe(x, y, l2, _penalized_bias),
        ),
        Mistake(
            "sum_of_losses",
            "Your penalty is too weak: you added up the log losses. It is their *mean* that the penalty is weighed against, so that l2 means the same for any number of rows (for scikit-learn, C = 1 / (n · l2)).",
            lambda x, y, l2: _probe(x, y, l2 / len(x)),
        ),
        Mistake(
            "penalty_without_half",
            "Your penalty is twice as strong as it should be: it is λ/2 · ‖v‖².",
            lambda x, y, l2: _probe(x, y, 2 * l2),
        ),
        Mistake(
            "c_is_l2",
            "Your penalty goes the wrong way: scikit-learn's C is its *inverse*, C = 1 / (n · l2).",
            lambda x, y, l2: _probe(x, y, 1 / (l2 * len(x))),
        ),
        Mistake(
            "not_standardized",
            "The columns are not divided by their standard deviations, so the penalty hits columns of small scale hardest, which need large weights.",
            lambda x, y, l2: _probe(x, y, l2, scaled=False),
        ),
        Mistake(
            "sample_deviation",
            "Your standard deviation divides by n − 1, which changes what the penalty weighs. Divide by n: `std(dim=0, correction=0)`.",
            lambda x, y, l2: _probe(x, y, l2, correction=1),
        ),
        Mistake(
            "labels_reversed",
            "Weights and bias have the wrong sign: x @ w + b should be high where y is *true*.",
            lambda x, y, l2: _probe(x, ~y, l2),
        ),
        Mistake(
            "least_squares",
            "These are the weights of ridge regression on labels of ±1. Logistic regression minimizes the log loss.",
            lambda x, y, l2: _probe(x, y, l2, _ridge),
        ),
        Mistake(
            "difference_of_means",
            "This is the difference of means. It knows nothing of how columns vary together; minimize the log loss.",
            lambda x, y, l2: _probe(x, y, l2, _means),
        ),
        Mistake(
            "constant_column",
            "Where all entries of a column are equal, its standard deviation is 0, and you divide 0 by 0. Such a column says nothing: its weight is 0.",
            _constant_is_nan,
            _sees_nan,
        ),
        Mistake(
            "no_error",
            "With a single class there is nothing to separate: raise a ValueError.",
            _one_class,
            _no_error,
        ),
    ),
    hints=(
        "Standardize, minimize, go back. In float64 `torch.optim.LBFGS` with `line_search_fn='strong_wolfe'` converges in one `step`; or use scikit-learn, whose C is 1 / (n · l2).",
        "`binary_cross_entropy_with_logits(z @ v + c, y.double())` is the mean log loss.",
        "z · v + c = Σ (x − mean)/std · v + c, so `w = v / std` and `b = c - mean @ w`.",
    ),
    reveal="The problem is convex: there is one minimum, and every method that converges finds it. In standardized units the penalty treats all columns alike; the residual stream has a few whose numbers are a hundred times larger than the rest, and without standardizing they get their weights nearly for free.",
)


# ---------------------------------------------------------------------------------------------------------------------
# auroc

_TIMES = 20
"""Entries that a tensor may have for each row."""


def _auroc(scores: Tensor, labels: Tensor) -> float:
    """Oracle: scikit-learn."""
    from sklearn.metrics import roc_auc_score

    if len(set(labels.tolist())) < 2:
        raise ValueError("one class")
    return float(roc_auc_score(labels.numpy(), scores.double().numpy()))


def _ties(worth: float) -> Callable[[Tensor, Tensor], float]:
    """All pairs, in pieces; equal scores are worth this."""

    def auroc(scores: Tensor, labels: Tensor) -> float:
        true, false = scores[labels], scores[~labels].sort().values
        if not len(true) or not len(false):
            raise ValueError
        below, up_to = torch.searchsorted(false, true), torch.searchsorted(false, true, right=True)
        return float((below + worth * (up_to - below)).double().sum()) / (len(true) * len(false))

    return auroc


def _all_pairs(scores: Tensor, labels: Tensor) -> float:
    difference = scores[labels][:, None] - scores[~labels][None]
    if not difference.numel():
        raise ValueError
    return float(((difference > 0) + 0.5 * (difference == 0)).double().mean())


def _made_too_much(case: Case, observation: Observation) -> bool:
    last = observation.replies[-1]
    return last.status == RAISED and last.error is not None and last.error.kind == "TooLarge"


def _average_precision(scores: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import average_precision_score

    if len(set(labels.tolist())) < 2:
        raise ValueError
    return float(average_precision_score(labels.numpy(), scores.double().numpy()))


def _best_accuracy(scores: Tensor, labels: Tensor) -> float:
    if len(set(labels.tolist())) < 2:
        raise ValueError
    return float(((scores > scores.median()) == labels).double().mean())


def _unchecked_auroc(scores: Tensor, labels: Tensor) -> float:
    return _auroc(scores, labels) if len(set(labels.tolist())) > 1 else 0.5


def _scored(draw: RandomInputs, n: int, true: float, shift: float, levels: float = 0.0) -> tuple[Tensor, Tensor]:
    labels = torch.zeros(n, dtype=torch.bool)
    labels[draw.permutation(n)[: max(1, round(n * true))]] = True
    scores = draw.normal(n) + shift * labels - 0.4
    return (scores * levels).round() / levels if levels else scores, labels


def _auroc_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((40, 0.4, 1.0, 0.0), (57, 0.15, -0.6, 0.0), (30, 0.7, 0.3, 0.0))
    return [
        case(*_scored(draw, n, t, shift, levels), about=f"{n} rows", limit_s=15.0) for n, t, shift, levels in settings
    ]


def _tied_cases(draw: RandomInputs, size: str) -> list[Case]:
    scores, labels = _scored(draw, 50, 0.3, 0.8, 2.0)
    order = scores.argsort()
    return [
        case(scores, labels, about="many equal scores"),
        case(scores[order], labels[order], about="many equal scores, sorted"),
        case(*_scored(draw, 31, 0.55, 0.9, 1.0), about="few different scores"),
        case(torch.zeros(9), torch.arange(9) % 3 == 0, about="all scores equal"),
    ]


def _edge_aurocs(draw: RandomInputs, size: str) -> list[Case]:
    scores, labels = _scored(draw, 50_000, 0.3, 0.5, 50.0)
    errors = [(draw.normal(5), torch.ones(5, dtype=torch.bool)), (draw.normal(4), torch.zeros(4, dtype=torch.bool))]
    small = draw.normal(3), torch.tensor([True, False, True])
    return [
        case(torch.tensor([-3.0, -1.0]), torch.tensor([True, False]), about="two rows, the wrong way around"),
        case(torch.tensor([0.5, 0.5]), torch.tensor([True, False]), about="two equal rows"),
        case(draw.normal(12, mean=-8.0).sort().values, torch.arange(12) > 6, about="all true rows above all others"),
        case(draw.normal(20, std=1e-4), torch.arange(20) % 3 == 0, about="tiny scores"),
        Case(
            (Call(small), Call((scores, labels), "sparing", {"most": _TIMES * len(scores)})),
            about=f"3 rows, then {len(scores):,} and no tensor of more than {_TIMES * len(scores):,} entries",
        ),
        Case(tuple(Call(args, "expects_error") for args in errors), about="one class, then the other"),
    ]


AUROC = Exercise(
    id="entities_and_uncertainty.auroc",
    task="The area under the ROC curve: how often a true row has a higher score than a false one, equal scores counting one half.",
    minutes=10,
    difficulty=2,
    fixed={
        "scores[0]": "a single row has a single class",
        "labels[0]": "a single row has a single class",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    oracle=_auroc,
    parts=(
        Part("scores that all differ", 2, _auroc_cases),
        Part("equal scores", 1, _tied_cases),
        Part("two rows, one class, 50,000 rows", 1, _edge_aurocs),
    ),
    mistakes=(
        Mistake(
            "sign_turned",
            "The area is turned around: 1 minus what is right. Count how often the *true* row has the higher score.",
            lambda scores, labels: 1 - _auroc(scores, labels),
        ),
        Mistake(
            "never_below_half",
            "You turned values below ½ around. An AUROC of 0.3 says that the score points the wrong way, which is a finding and must be seen.",
            lambda scores, labels: max(_auroc(scores, labels), 1 - _auroc(scores, labels)),
        ),
        Mistake(
            "ties_lose",
            "Equal scores count nothing in your sum. A pair with equal scores counts one half: a constant score has an AUROC of ½.",
            _ties(0.0),
        ),
        Mistake(
            "ties_win",
            "Equal scores count as won in your sum. A pair with equal scores counts one half: a constant score has an AUROC of ½.",
            _ties(1.0),
        ),
        Mistake(
            "all_pairs",
            "Right, but you make a table of all pairs: 50,000 rows would need half a billion entries. Sort the scores; the ranks of the true rows say how many false ones lie below.",
            _all_pairs,
            _made_too_much,
        ),
        Mistake(
            "gini",
            "This is 2 · AUROC − 1, which is 0 by chance. AUROC is ½ by chance.",
            lambda scores, labels: 2 * _auroc(scores, labels) - 1,
        ),
        Mistake(
            "accuracy",
            "This is the accuracy of one threshold. AUROC needs none: it compares every true row with every false one.",
            _best_accuracy,
        ),
        Mistake(
            "average_precision",
            "This is the average precision, the area under the precision–recall curve. It depends on how common true rows are; AUROC does not.",
            _average_precision,
        ),
        Mistake(
            "no_error",
            "With a single class there are no pairs: raise a ValueError.",
            _unchecked_auroc,
            _no_error,
        ),
    ),
    hints=(
        "Give every row its rank among all, 1 for the lowest score. What is the sum of the ranks of the true rows, if all of them are at the bottom? And if one of them climbs over a false row?",
        "U = (sum of the true rows' ranks) − t(t + 1)/2 counts pairs in which the true row is higher, t being the number of true rows.",
        "Equal scores share their mean rank: `scores.unique(return_inverse=True, return_counts=True)`, and the mean rank of a value is `counts.cumsum(0) - (counts - 1) / 2`.",
    ),
    reveal="The rank sum is the statistic of Mann and Whitney; divided by the number of pairs it is the AUROC. No threshold is needed, and it makes no difference how many rows are true. But it also hides both: a probe with an AUROC of 0.9 may still be useless at the threshold that you have to choose.",
)


# ---------------------------------------------------------------------------------------------------------------------
# selectivity

Fit = Callable[[Tensor, Tensor], Probe]


def _own_fit(ref: Any) -> Fit:
    """The probe that a reference stands for, written once more."""
    lean = ref.options.get("lean", 0.0)
    if ref.options["name"] == "mass_mean":

        def mass_mean(x: Tensor, y: Tensor) -> Probe:
            high, low = x.double()[y].mean(0), x.double()[~y].mean(0)
            return high - low, float((low @ low - high @ high) / 2) - lean

        return mass_mean

    def least_squares(x: Tensor, y: Tensor) -> Probe:
        ones = torch.cat([x.double(), torch.ones(len(x), 1).double()], 1)
        penalty = ref.options["ridge"] * torch.eye(ones.shape[1]).double()
        penalty[-1, -1] = 0.0
        w = torch.linalg.solve(ones.T @ ones + penalty, ones.T @ torch.where(y, 1.0, -1.0).double())
        return w[:-1], float(w[-1]) - lean

    return least_squares


def _accuracy(x: Tensor, labels: Tensor, train: Tensor, fit: Any, test: Tensor | None = None) -> float:
    test = ~train if test is None else test
    w, b = fit(x[train], labels[train])
    right = (x[test].double() @ w.double() + b > 0) == labels[test]
    return float(right.double().mean())


def _check_entities(entities: Sequence[str], train: Tensor) -> None:
    seen = {entity for entity, t in zip(entities, train.tolist(), strict=True) if t}
    if any(entity not in seen for entity in entities):
        raise ValueError("an entity is never trained on")


def _control(
    draw_labels: Callable[[list[str], list[str], Tensor, random.Random], list[bool]] | None = None,
    accuracies: Callable[[Tensor, Tensor, Tensor, Tensor, Any], float] | None = None,
    check: bool = True,
    seeded: Callable[[int], int] = lambda seed: seed,
) -> Callable[..., float]:
    """A selectivity of which one piece is wrong."""
    labels = draw_labels or _half_of
    combine = accuracies or _difference

    def selectivity(x: Tensor, y: Tensor, entities: list[str], train: Tensor, fit: Any, seed: int) -> float:
        if check:
            _check_entities(entities, train)
        names = list(dict.fromkeys(entities))
        control = torch.tensor(labels(entities, names, y, random.Random(seeded(seed))))
        return combine(x, y, control, train, fit)

    return selectivity


def _half_of(entities: list[str], names: list[str], y: Tensor, dice: random.Random) -> list[bool]:
    true = set(dice.sample(names, len(names) // 2))
    return [entity in true for entity in entities]


def _difference(x: Tensor, y: Tensor, control: Tensor, train: Tensor, fit: Any) -> float:
    return _accuracy(x, y, train, fit) - _accuracy(x, control, train, fit)


def _one_probe(x: Tensor, y: Tensor, control: Tensor, train: Tensor, fit: Any) -> float:
    w, b = fit(x[train], y[train])
    predicted = x[~train].double() @ w.double() + b > 0
    return float((predicted == y[~train]).double().mean() - (predicted == control[~train]).double().mean())


def _per_row(entities: list[str], names: list[str], y: Tensor, dice: random.Random) -> list[bool]:
    labels = [i < len(entities) // 2 for i in range(len(entities))]
    dice.shuffle(labels)
    return labels


def _shuffled_y(entities: list[str], names: list[str], y: Tensor, dice: random.Random) -> list[bool]:
    own = [bool(y[entities.index(name)]) for name in names]
    dice.shuffle(own)
    return [own[names.index(entity)] for entity in entities]


def _more_than_half(entities: list[str], names: list[str], y: Tensor, dice: random.Random) -> list[bool]:
    true = set(dice.sample(names, (len(names) + 1) // 2))
    return [entity in true for entity in entities]


_selectivity = _control()


def _global_control(x: Tensor, y: Tensor, entities: list[str], train: Tensor, fit: Any, seed: int) -> float:
    torch.manual_seed(seed)
    return float(_selectivity(x, y, entities, train, fit, int(torch.randint(0, 2**31, (1,)))))


@cache
def _subsets(n: int, k: int) -> tuple[frozenset[int], ...]:
    return tuple(map(frozenset, itertools.combinations(range(n), k)))


class _Selective:
    """All values that one call may give, under the right control task and under wrong ones."""

    def __init__(self, x: Tensor, y: Tensor, entities: list[str], train: Tensor, ref: Any) -> None:
        self.ref, self.fit, self.x, self.y, self.entities, self.train = ref, _own_fit(ref), x, y, entities, train
        self.names = sorted(set(entities))
        self.real = _accuracy(x, y, train, self.fit)
        self.half = len(self.names) // 2
        self.right = [self.real - a for a in self.control(self.half)]

    def control(self, k: int, test: Tensor | None = None) -> list[float]:
        """The accuracies on the control task, for each choice of k true entities."""
        found = []
        for subset in _subsets(len(self.names), k):
            labels = torch.tensor([self.names.index(entity) in subset for entity in self.entities])
            found.append(_accuracy(self.x, labels, self.train, self.fit, test))
        return found

    def same_probe(self) -> list[float]:
        """The same, with the probe of the real labels scored on the control labels."""
        w, b = self.fit(self.x[self.train], self.y[self.train])
        predicted = self.x[~self.train].double() @ w.double() + b > 0
        tested = [entity for entity, t in zip(self.entities, self.train.tolist(), strict=True) if not t]
        found = []
        for subset in _subsets(len(self.names), self.half):
            labels = torch.tensor([self.names.index(entity) in subset for entity in tested])
            found.append(self.real - float((predicted == labels).double().mean()))
        return found

    def others(self) -> dict[str, list[float]]:
        """The same under each mistake."""
        in_training = _accuracy(self.x, self.y, self.train, self.fit, self.train)
        all_rows = torch.ones_like(self.train)
        trues = len({e for e, label in zip(self.entities, self.y.tolist(), strict=True) if label})
        other = {
            "no_control": [self.real] * 2,
            "control_alone": [self.real - r for r in self.right],
            "turned_around": [-r for r in self.right],
            "train_and_test_exchanged": _Selective(self.x, self.y, self.entities, ~self.train, self.ref).right,
            "ratio": [self.real / max(self.real - r, 1e-9) for r in self.right],
            "one_probe": self.same_probe(),
            "training_rows": [in_training - a for a in self.control(self.half, self.train)],
            "all_rows": [
                _accuracy(self.x, self.y, self.train, self.fit, all_rows) - a for a in self.control(self.half, all_rows)
            ],
        }
        if trues != self.half and 0 < trues < len(self.names):
            other["labels_of_y"] = [self.real - a for a in self.control(trues)]
        if len(self.names) % 2:
            other["rounded_up"] = [self.real - a for a in self.control(self.half + 1)]
        return other


def _is_one_of(value: float, expected: Sequence[float]) -> bool:
    return any(abs(value - e) < 1e-5 for e in expected)


def _fits(values: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether these are draws from the expected values, each equally likely."""
    if not all(_is_one_of(value, expected) for value in values):
        return False
    mean = sum(expected) / len(expected)
    variance = sum((e - mean) ** 2 for e in expected) / len(expected)
    return abs(sum(values) / len(values) - mean) <= 6 * (variance / len(values)) ** 0.5 + 1e-5


def _numbers(observation: Observation) -> list[float] | Complaint:
    """The replies as numbers."""
    numbers = []
    for reply in observation.replies:
        value = reply.value.item() if isinstance(reply.value, Tensor) and reply.value.numel() == 1 else reply.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return Complaint(f"The result is {value!r:.60}, expected a single number.", "type")
        if not math.isfinite(value):
            return Complaint(f"The result is {value}, expected a finite number.", "nan")
        numbers.append(float(value))
    return numbers


def _judge_selectivity(case: Case, observation: Observation) -> Complaint | None:
    """One call with many seeds; the first two have the same one."""
    values = _numbers(observation)
    if isinstance(values, Complaint):
        return values
    if len(values) > 1 and abs(values[0] - values[1]) > 1e-6:
        return Complaint("The same seed gave two different values.")
    truth = _Selective(*case.calls[0].args[:5])
    draws = values[1:]
    if _fits(draws, truth.right):
        if len(draws) > 5 and len({round(r, 5) for r in truth.right}) > 1 and len({round(v, 5) for v in draws}) == 1:
            return Complaint("", mistake="seed_ignored")
        return None
    for name, expected in truth.others().items():
        if len(draws) > 5 and _fits(draws, expected):
            return Complaint("", mistake=name)
    if len(draws) > 5 and len({round(v, 5) for v in draws}) == 1 and _is_one_of(draws[0], truth.right):
        return Complaint("", mistake="seed_ignored")
    if len(draws) > 5 and _not_memorized(draws, truth):
        return Complaint("", mistake="not_memorizable")
    possible = sorted({round(r, 4) for r in truth.right})
    odd = next((v for v in draws if not _is_one_of(v, truth.right)), None)
    if odd is None:
        return Complaint(
            f"Each value by itself is possible, but over {len(draws)} seeds their mean is {sum(draws) / len(draws):.3f}, expected about {sum(truth.right) / len(truth.right):.3f}: each half of the entities should be equally likely."
        )
    shown = ", ".join(f"{p:g}" for p in possible[:6])
    return Complaint(
        f"Selectivity is {odd:.4f}. The accuracy on the real labels is {truth.real:.4f}, and whichever half of the {len(truth.names)} entities is true, it can only be one of {shown}{' …' * (len(possible) > 6)}."
    )


def _not_memorized(draws: Sequence[float], truth: _Selective) -> bool:
    """Whether the control task was as hard as labels drawn for each row, and rarely one of those that are possible."""
    dice = random.Random(5)
    rows = [
        truth.real
        - _accuracy(truth.x, torch.tensor(_per_row(truth.entities, truth.names, truth.y, dice)), truth.train, truth.fit)
        for _ in range(200)
    ]
    mean = sum(rows) / len(rows)
    spread = (sum((r - mean) ** 2 for r in rows) / len(rows)) ** 0.5
    right = sum(truth.right) / len(truth.right)
    seen = sum(draws) / len(draws)
    apart = spread * (1 / len(draws) + 1 / len(rows)) ** 0.5
    return abs(seen - mean) < 4 * apart and abs(right - mean) > 8 * apart


def _prompts(
    draw: RandomInputs, sizes: Sequence[tuple[int, int]], d: int, noise: float, trues: int
) -> tuple[Tensor, Tensor, list[str], Tensor]:
    """Rows of entities that a probe can tell apart, (training, test) rows of each, in random order."""
    words = ["Oslo", "Rome", "Lima", "Cairo", "Quito", "Paris", "Berne"]
    names = [words[i] for i in draw.permutation(len(words))[: len(sizes)]]
    where = draw.normal(len(sizes), d, mean=0.4)
    true = draw.permutation(len(sizes))[:trues]
    rows = [(i, k < n_train) for i, (n_train, n_test) in enumerate(sizes) for k in range(n_train + n_test)]
    rows = [rows[i] for i in draw.permutation(len(rows))]
    which = torch.tensor([i for i, _ in rows])
    x = where[which] + draw.normal(len(rows), d, std=noise)
    y = torch.tensor([i in true for i, _ in rows])
    return x, y, [names[i] for i, _ in rows], torch.tensor([t for _, t in rows])


def _telling(truth: _Selective) -> bool:
    """Whether none of the ways to compute it is taken for one that is looked for earlier."""
    ways = [truth.right, *truth.others().values()]
    return not any(_fits(later, earlier) for earlier, later in itertools.combinations(ways, 2))


def _selective_cases(
    settings: Sequence[tuple[Sequence[tuple[int, int]], int, float, int, dict[str, Any]]],
    seeds: int,
    tell: Callable[[_Selective], bool] = lambda truth: True,
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for sizes, d, noise, trues, fit in settings:
            while True:
                inputs = _prompts(draw, sizes, d, noise, trues)
                if tell(_Selective(*inputs, function_ref(**fit))):
                    break
            seed = draw.seed()
            all_seeds = (seed, seed, *(draw.seed() for _ in range(seeds)))
            calls = tuple(
                Call((*inputs, function_ref(**fit), s), watch=_WATCHES[i > 2]) for i, s in enumerate(all_seeds)
            )
            about = f"{len(sizes)} entities, {len(inputs[0])} rows of {d} number{'s' * (d > 1)}, {seeds + 1} seeds"
            made.append(Case(calls, about, judge=_judge_selectivity, limit_s=10.0))
        return made

    return cases


_WATCHES = ("random_state", "arguments"), ("arguments",)
"""Of the first calls, and of the others: setting the random state takes a millisecond."""

_MASS: dict[str, Any] = {"name": "mass_mean", "lean": 0.2}
_LEAN: dict[str, Any] = {"name": "mass_mean", "lean": 0.3}
_RIDGE: dict[str, Any] = {"name": "least_squares", "ridge": 0.5, "lean": 0.25}


def _judge_each_selectivity(case: Case, observation: Observation) -> Complaint | None:
    """Calls with different arguments: is each value possible?"""
    values = _numbers(observation)
    if isinstance(values, Complaint):
        return values
    for call, value in zip(case.calls, values, strict=False):
        truth = _Selective(*call.args[:5])
        if not _is_one_of(value, truth.right):
            shown = ", ".join(f"{v:g}" for v in sorted({round(r, 4) for r in truth.right})[:6])
            return Complaint(
                f"Selectivity is {value:.4f}; whichever half of the entities is true, it can only be one of {shown}."
            )
    return None


def _until(draw_one: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    while not wanted(one := draw_one()):
        pass
    return one


def _exchanged(draw: RandomInputs) -> list[tuple[Any, ...]] | None:
    """Inputs, and the same with one argument exchanged, so that no value that was possible still is; None by bad luck."""
    x, y, entities, train = _prompts(draw, ((3, 3), (4, 3), (3, 5)), 3, 1.0, 2)
    n, fit = len(y), function_ref(**_RIDGE)
    before = _Selective(x, y, entities, train, fit).right
    found: list[tuple[Any, ...]] = [(x, y, entities, train, fit)]
    makers: tuple[Callable[[], tuple[Any, ...]], ...] = (
        lambda: (x + draw.normal(n, 3), y, entities, train, fit),
        lambda: (x, y[draw.permutation(n)], entities, train, fit),
        lambda: (x, y, [entities[i] for i in draw.permutation(n)], train, fit),
        lambda: (x, y, entities, draw.uniform(n) < draw.number(0.4, 0.8), fit),
        lambda: (x, y, entities, train, function_ref("least_squares", ridge=0.5, lean=draw.number(-1.0, 1.0))),
    )
    for make in makers:
        for _ in range(30):
            inputs = make()
            seen = {e for e, t in zip(inputs[2], inputs[3].tolist(), strict=True) if t}
            fair = seen == set(entities) and not inputs[3].all() and len(set(inputs[1][inputs[3]].tolist())) == 2
            if fair and not any(_is_one_of(r, before) for r in _Selective(*inputs).right):
                found.append(inputs)
                break
        else:
            return None
    return found


def _other_selectivities(draw: RandomInputs, size: str) -> list[Case]:
    while (inputs := _exchanged(draw)) is None:
        pass
    base = inputs[0]
    seed = draw.seed()
    small = (base[0] * 0.003, *base[1:4], function_ref("mass_mean"))
    equal = (base[0].round(), *base[1:4], function_ref("mass_mean"))
    # A test row on the boundary itself: it is not above it.
    line = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    edge = (
        line,
        torch.tensor([True, False, True, True]),
        ["Rome", "Oslo", "Rome", "Oslo"],
        torch.tensor([True, True, False, False]),
        function_ref("mass_mean"),
    )
    below = (line, ~edge[1], *edge[2:])
    large = (torch.tensor([[8.0], [40.0], [20.0], [40.0]]), torch.tensor([True, False, False, False]), *edge[2:])
    calls = tuple(Call((*args, seed), watch=("arguments",)) for args in (*inputs, small, large, equal, edge, below))
    about = "the same seed with other rows, labels, entities, training rows and probes; small, large and equal numbers; rows on the boundary"
    return [Case(calls, about, judge=_judge_each_selectivity, limit_s=10.0)]


def _untrained(draw: RandomInputs, size: str) -> list[Case]:
    x, y, entities, train = _prompts(draw, ((3, 2), (2, 2), (4, 1), (2, 3)), 4, 0.3, 2)
    errors = []
    for name in sorted(set(entities))[:2]:
        without = train & torch.tensor([entity != name for entity in entities])
        errors.append((x, y, entities, without, function_ref(**_RIDGE), draw.seed()))
    return [Case(tuple(Call(args, "expects_error") for args in errors), about="an entity without training rows")]


SELECTIVITY = Exercise(
    id="entities_and_uncertainty.selectivity",
    task="A probe's accuracy minus its accuracy on a control task, in which random labels are fixed for each entity.",
    minutes=12,
    difficulty=3,
    fixed={
        "x[0]": "there are training and test rows",
        "y[0]": "there are training and test rows",
        "train[0]": "there are training and test rows",
        "result<=1": "a difference of shares",
    },
    oracle=_selectivity,
    parts=(
        Part(
            "the difference of two accuracies on the test rows",
            3,
            _selective_cases(
                (
                    (((3, 2), (2, 3), (4, 2), (3, 4), (2, 2)), 4, 0.6, 1, _RIDGE),
                    (((3, 4), (5, 3), (2, 2), (4, 5)), 3, 0.9, 1, _MASS),
                ),
                50,
                _telling,
            ),
        ),
        Part(
            "two entities, three, one number in a row, a single test row, an entity that is never tested",
            1,
            lambda draw, size: [
                *_selective_cases(
                    (
                        (((3, 2), (4, 5)), 3, 1.5, 1, _MASS),
                        (((4, 2), (3, 3), (3, 0), (5, 4), (2, 3)), 1, 0.4, 2, _LEAN),
                        (((2, 0), (3, 1), (2, 0)), 4, 0.8, 2, _RIDGE),
                    ),
                    40,
                )(draw, size),
                *_other_selectivities(draw, size),
                *_untrained(draw, size),
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "no_control",
            "This is the accuracy alone. Subtract what the same probe reaches on labels that mean nothing.",
            _control(accuracies=lambda x, y, control, train, fit: _accuracy(x, y, train, fit)),
        ),
        Mistake(
            "control_alone",
            "This is the accuracy on the control task. Subtract it from that on the real labels.",
            _control(accuracies=lambda x, y, control, train, fit: _accuracy(x, control, train, fit)),
        ),
        Mistake(
            "turned_around",
            "The difference has the wrong sign: the accuracy on the real labels comes first.",
            _control(accuracies=lambda x, y, control, train, fit: -_difference(x, y, control, train, fit)),
        ),
        Mistake(
            "train_and_test_exchanged",
            "You fitted on the rows to test on, and measured on those to train on. `train` marks the rows to fit on.",
            _control(accuracies=lambda x, y, control, train, fit: _difference(x, y, control, ~train, fit)),
        ),
        Mistake(
            "ratio",
            "You divided the two accuracies. Selectivity is their difference.",
            _control(
                accuracies=lambda x, y, control, train, fit: (
                    _accuracy(x, y, train, fit) / max(_accuracy(x, control, train, fit), 1e-9)
                )
            ),
        ),
        Mistake(
            "one_probe",
            "You fitted one probe, on the real labels, and scored it on the control labels too. The control task is one of its own: fit again, on the control labels of the training rows.",
            _control(accuracies=_one_probe),
        ),
        Mistake(
            "training_rows",
            "You measured both accuracies on the rows that the probe was fitted on. Measure on the others, `~train`.",
            _control(
                accuracies=lambda x, y, control, train, fit: (
                    _accuracy(x, y, train, fit, train) - _accuracy(x, control, train, fit, train)
                )
            ),
        ),
        Mistake(
            "all_rows",
            "You measured both accuracies on all rows. Those that the probe was fitted on do not count: measure on `~train`.",
            _control(
                accuracies=lambda x, y, control, train, fit: (
                    _accuracy(x, y, train, fit, train | True) - _accuracy(x, control, train, fit, train | True)
                )
            ),
        ),
        Mistake(
            "labels_of_y",
            "Your control task has as many true entities as `y`: the real labels, shuffled. Half of the entities are to be true, rounded down, whatever `y` says.",
            _control(_shuffled_y),
        ),
        Mistake(
            "rounded_up",
            "One entity too many is true: half of them, rounded *down*.",
            _control(_more_than_half),
        ),
        Mistake(
            "not_memorizable",
            "Your control task is about as hard as one in which every row has a random label of its own. Its labels have to be fixed for each entity, the same in training and test rows, so that a probe that memorizes entities can solve it.",
            _control(_per_row),
        ),
        Mistake(
            "seed_ignored",
            "Every seed gave the same control labels. Draw the entities with a generator that the seed sets.",
            _control(seeded=lambda seed: 0),
        ),
        Mistake(
            "no_error",
            "An entity of the test rows has no training row, so its control label cannot be memorized: raise a ValueError.",
            _control(check=False),
            _no_error,
        ),
        Mistake(
            "global_random_state",
            "The value is right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_control,
            moved_random_state,
        ),
    ),
    hints=(
        "Write a function `accuracy(labels)` that fits on the training rows and counts on the others; call it with `y` and with the control labels.",
        "Shuffle `sorted(set(entities))` with the seed; the first `len(names) // 2` of them are true. A row's control label is that of its entity.",
    ),
    reveal="A probe with 576 weights can memorize a few hundred names. On the control task memorizing is all there is, so what it reaches there is what accuracy is worth without any meaning (Hewitt & Liang 2019, section 2). It says nothing about *generalizing*: that is what folds by group are for.",
)


# ---------------------------------------------------------------------------------------------------------------------
# permutation_p


def _own_scores(ref: Any, x: Tensor, labels: Tensor) -> Tensor:
    """The score that a reference stands for, written once more: of many labelings [labeling, row] at once."""
    if ref.options["name"] == "accuracy_of_sign":
        return ((x[:, 0] > 0) == labels).double().mean(1)
    true = labels.double()
    means = [rows @ x.double() / rows.sum(1, keepdim=True) for rows in (true, 1 - true)]
    return ((means[0] - means[1]).norm(dim=1) * 1e6).round() / 1e6


def _check_groups(y: Tensor, groups: Sequence[str]) -> dict[str, bool]:
    label: dict[str, bool] = {}
    for group, true in zip(groups, y.tolist(), strict=True):
        if label.setdefault(group, true) != true:
            raise ValueError(f"{group} has both labels")
    return label


Shuffle = Callable[[Tensor, Sequence[str], random.Random], Tensor]


def _exchange(y: Tensor, groups: Sequence[str], dice: random.Random) -> Tensor:
    label = _check_groups(y, groups)
    values = list(label.values())
    dice.shuffle(values)
    new = dict(zip(label, values, strict=True))
    return torch.tensor([new[group] for group in groups])


def _shuffled_rows(y: Tensor, groups: Sequence[str], dice: random.Random) -> Tensor:
    return y[torch.tensor(dice.sample(range(len(y)), len(y)))]


def _drawn_anew(y: Tensor, groups: Sequence[str], dice: random.Random) -> Tensor:
    label = _check_groups(y, groups)
    new = {group: dice.choice(list(label.values())) for group in label}
    return torch.tensor([new[group] for group in groups])


def _permutation(
    shuffle: Shuffle = _exchange,
    counts: Callable[[float, float], bool] = lambda score, observed: score >= observed,
    share: Callable[[int, int], float] = lambda as_good, n: (1 + as_good) / (n + 1),
    check: bool = True,
    seeded: Callable[[int], int] = lambda seed: seed,
) -> Callable[..., float]:
    """Oracle, or one of which a piece is wrong."""

    def permutation_p(x: Tensor, y: Tensor, groups: list[str], fit_score: Any, n: int, seed: int) -> float:
        if check:
            _check_groups(y, groups)
        dice, observed = random.Random(seeded(seed)), fit_score(x, y)
        as_good = sum(counts(fit_score(x, shuffle(y, groups, dice)), observed) for _ in range(n))
        return share(as_good, n)

    return permutation_p


_permutation_p = _permutation()


def _unchecked(x: Tensor, y: Tensor, groups: list[str], fit_score: Any, n: int, seed: int) -> float:
    label = dict(zip(groups, y.tolist(), strict=True))
    return float(_permutation_p(x, torch.tensor([label[group] for group in groups]), groups, fit_score, n, seed))


def _global_permutation(x: Tensor, y: Tensor, groups: list[str], fit_score: Any, n: int, seed: int) -> float:
    torch.manual_seed(seed)
    return float(_permutation_p(x, y, groups, fit_score, n, int(torch.randint(0, 2**31, (1,)))))


class _Chances:
    """How often a random labeling scores above, at and below the observed score."""

    def __init__(self, x: Tensor, y: Tensor, groups: list[str], ref: Any) -> None:
        label = _check_groups(y, groups)
        names = list(label)
        self.x, self.y, self.ref = x, y, ref
        self.which = torch.tensor([names.index(group) for group in groups])
        self.label = torch.tensor(list(label.values()))
        dealt = torch.tensor(
            [[i in subset for i in range(len(names))] for subset in _subsets(len(names), int(self.label.sum()))]
        )
        scores = _own_scores(ref, x, torch.cat([y[None], dealt[:, self.which]]))
        self.observed, scores = scores[0], scores[1:]
        self.at_least = float((scores >= self.observed).double().mean())
        self.above = float((scores > self.observed).double().mean())
        self.at_most = float((scores <= self.observed).double().mean())

    @cache  # noqa: B019 - a few of them, for as long as they are judged
    def others(self) -> dict[str, float]:
        """The same under each mistake."""
        n, k, generator = 800, len(self.label), torch.Generator().manual_seed(3)
        order = torch.rand(n, len(self.y), generator=generator).argsort(1)
        drawn = torch.randint(k, (n, k), generator=generator)
        return {
            "ties_lost": self.above,
            "lower_counted": self.at_most,
            "rows_shuffled": self._reached(self.y[order]),
            "drawn_anew": self._reached(self.label[drawn][:, self.which]),
        }

    def _reached(self, labels: Tensor) -> float:
        return float((_own_scores(self.ref, self.x, labels) >= self.observed).double().mean())


def _likely(successes: int, n: int, chance: float, extra: float = 0.0) -> bool:
    return abs(successes - n * chance) <= 5 * (n * chance * (1 - chance)) ** 0.5 + extra


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-4


class _Block:
    """What was seen of one input with many seeds."""

    def __init__(self, inputs: Sequence[Any], n: int, draws: Sequence[float]) -> None:
        self.truth, self.n, self.draws = _Chances(*inputs), n, draws
        self.total = n * len(draws)
        self.as_good = sum(round(v * (n + 1)) - 1 for v in draws)
        self.constant = len({round(v, 6) for v in draws}) == 1

    def fits(self, chance: float, extra: float = 0.0) -> bool:
        """Whether they may be draws with this chance. A value that never changes may not, where it would vary."""
        varies = self.total * chance * (1 - chance) > 20
        return _likely(self.as_good, self.total, chance, extra * self.total) and not (self.constant and varies)

    def odd(self) -> float | None:
        """A value that is no whole number of (n + 1)ths, or not one of the possible ones."""
        n = self.n
        return next((v for v in self.draws if not (_whole(v * (n + 1)) and 1 <= round(v * (n + 1)) <= n + 1)), None)


def _judge_permutation(case: Case, observation: Observation) -> Complaint | None:
    """Several inputs, each with many seeds, of which the first two are the same. A mistake is named if it explains all."""
    values = _numbers(observation)
    if isinstance(values, Complaint):
        return values
    blocks = []
    for start, end in itertools.pairwise((*case.judge_data, len(values))):
        if abs(values[start] - values[start + 1]) > 1e-6:
            return Complaint("The same seed gave two different values.")
        *inputs, n, _ = case.calls[start].args
        blocks.append(_Block(inputs, n, values[start + 1 : end]))
    if odd := next(((b.n, b.odd()) for b in blocks if b.odd() is not None), None):
        for extra in (0, 1):  # divided by n, or by n + 1
            if all(_whole(v * (b.n + extra)) and 0 <= round(v * (b.n + extra)) <= b.n for b in blocks for v in b.draws):
                return Complaint("", mistake="observed_not_counted")
        n, value = odd
        return Complaint(
            f"The result is {value:.4f}; with n = {n} it is k / {n + 1}, k a whole number from 1 to {n + 1}."
        )
    if all(b.fits(b.truth.at_least) for b in blocks):
        return None
    fitting = [name for name in blocks[0].truth.others() if all(b.fits(b.truth.others()[name], 0.01) for b in blocks)]
    if len(fitting) == 1:
        return Complaint("", mistake=fitting[0])
    if not fitting and all(b.constant and _likely(b.as_good // len(b.draws), b.n, b.truth.at_least) for b in blocks):
        return Complaint("", mistake="seed_ignored")
    b = next(b for b in blocks if not b.fits(b.truth.at_least))
    return Complaint(
        f"With {len(b.truth.label)} groups, over {len(b.draws)} seeds {b.as_good / b.total:.3f} of your shuffles score at least as well as the real labels, expected about {b.truth.at_least:.3f}. Does each group get the label of some group, and each label go to one group?"
    )


def _grouped(
    draw: RandomInputs, sizes: Sequence[int], d: int, trues: int, shift: float, mean: float = 0.0
) -> tuple[Tensor, Tensor, list[str]]:
    words = ["Oslo", "Rome", "Lima", "Cairo", "Quito", "Paris", "Berne", "Accra"]
    names = [words[i] for i in draw.permutation(len(words))[: len(sizes)]]
    true = draw.permutation(len(sizes))[:trues]
    which = [i for i, size in enumerate(sizes) for _ in range(size)]
    which = [which[i] for i in draw.permutation(len(which))]
    y = torch.tensor([i in true for i in which])
    x = draw.normal(len(sizes), d, mean=mean)[which] + draw.normal(len(which), d, std=0.3) + shift * y[:, None]
    return x, y, [names[i] for i in which]


def _is_telling(truth: _Chances, mistakes: Sequence[str]) -> bool:
    """Whether the chance is neither small nor large, and far from that of each of these mistakes."""
    others = truth.others()
    return 0.15 <= truth.at_least <= 0.5 and all(abs(others[m] - truth.at_least) >= 0.14 for m in mistakes)


def _permutation_case(draw: RandomInputs, size: str) -> list[Case]:
    """Inputs of which each shows some mistakes, and all together tell every two of them apart."""
    settings: list[tuple[Sequence[int], int, int, float, str, int, int, Sequence[str]]] = [
        ((3, 5, 2, 4, 6, 3), 2, 3, 0.0, "mean_gap", 40, 20, ("rows_shuffled", "lower_counted")),
        ((4, 1, 5, 2, 3), 3, 1, -1.0, "accuracy_of_sign", 30, 20, ("lower_counted", "drawn_anew")),
        ((9, 2, 1, 1, 3, 2), 3, 3, 0.0, "accuracy_of_sign", 40, 20, ("ties_lost", "lower_counted")),
        ((4, 5, 3, 6, 4), 1, 2, 0.0, "accuracy_of_sign", 1, 200, ("rows_shuffled", "lower_counted")),
    ]

    def inputs(setting: tuple[Any, ...]) -> tuple[Any, ...]:
        sizes, d, trues, mean, name, *_, mistakes = setting
        found: tuple[Any, ...] = _until(
            lambda: (*_grouped(draw, sizes, d, trues, 1.0, mean), function_ref(name)),
            lambda made: _is_telling(_Chances(*made), mistakes),
        )
        return found

    drawn = _until(
        lambda: [inputs(s) for s in settings], lambda all_inputs: _tells_apart([_Chances(*i) for i in all_inputs[:3]])
    )
    calls: list[Call] = []
    starts = []
    for each, setting in zip(drawn, settings, strict=True):
        n, seeds = setting[5:7]
        starts.append(len(calls))
        seed = draw.seed()
        all_seeds = (seed, seed, *(draw.seed() for _ in range(seeds)))
        calls += [Call((*each, n, s), watch=_WATCHES[i > 2]) for i, s in enumerate(all_seeds)]
    about = "5 or 6 groups of 1 to 9 rows, 1 to 40 shuffles, and many seeds"
    return [Case(tuple(calls), about, judge=_judge_permutation, judge_data=starts, limit_s=10.0)]


def _tells_apart(truths: Sequence[_Chances]) -> bool:
    chances = [truth.others() for truth in truths]
    pairs = itertools.combinations(chances[0], 2)
    return all(any(abs(c[a] - c[b]) >= 0.14 for c in chances) for a, b in pairs)


def _judge_each_permutation(case: Case, observation: Observation) -> Complaint | None:
    """Calls with different arguments: is each value likely?"""
    values = _numbers(observation)
    if isinstance(values, Complaint):
        return values
    for call, value in zip(case.calls, values, strict=False):
        *inputs, n, _ = call.args
        chance = _Chances(*inputs).at_least
        whole = _whole(value * (n + 1)) and 1 <= round(value * (n + 1)) <= n + 1
        if not whole or not _likely(round(value * (n + 1)) - 1, n, chance, 1.0):
            return Complaint(
                f"The result is {value:.4f} with n = {n}; of all ways to deal the labels out {chance:.1%} score at least as well."
            )
    return None


def _other_permutations(draw: RandomInputs, size: str) -> list[Case]:
    """The same call with one argument exchanged, so that the result changes a lot."""
    n, gap, sign = 200, function_ref("mean_gap"), function_ref("accuracy_of_sign")

    def chance(*inputs: Any) -> float:
        return _Chances(*inputs).at_least

    def grouped() -> tuple[Tensor, Tensor, list[str]]:
        """Four groups that lie far apart in the second column, which the sign of the first says nothing about."""
        x, y, groups = _grouped(draw, (5, 4, 6, 5), 2, 2, 0.0)
        x[:, 1] += 3.0 * y
        return x, y, groups

    x, y, groups = _until(grouped, lambda made: chance(*made, gap) < 0.4 and chance(*made, sign) > 0.6)
    names = sorted(set(groups))

    def other_labels() -> Tensor:
        true = {names[i] for i in draw.permutation(len(names))[:2]}
        return torch.tensor([group in true for group in groups])

    other_x = _until(lambda: draw.normal(*x.shape), lambda made: chance(made, y, groups, gap) > 0.8)
    other_y = _until(other_labels, lambda made: chance(x, made, groups, gap) > 0.6)
    halves = [f"{group} {i % 2}" for i, group in enumerate(groups)]
    odd = x.round()
    odd[draw.integer(0, len(odd))] = 0.0
    odd[0] = torch.tensor([2.0, 2.0])
    inputs = [
        (x, y, groups, gap, n),
        (other_x, y, groups, gap, n),
        (x, other_y, groups, gap, n),
        (x, y, halves, gap, n),
        (x, y, groups, sign, n),
        (x, y, groups, gap, n // 2 + 1),
        (x * 0.01, y, groups, gap, n),
        (x * 40, y, groups, gap, n),
        (odd, y, groups, sign, n),
    ]
    seed = draw.seed()
    calls = tuple(Call((*args, seed), watch=("arguments",)) for args in inputs)
    about = (
        "the same seed with other rows, labels, groups, scores and numbers of shuffles; small, large and equal numbers"
    )
    return [Case(calls, about, judge=_judge_each_permutation, limit_s=10.0)]


def _mixed_groups(draw: RandomInputs, size: str) -> list[Case]:
    x, y, groups = _grouped(draw, (3, 4, 2, 3), 2, 2, 0.5)
    errors = []
    for i in (0, len(y) - 1):
        mixed = y.clone()
        mixed[i] = ~mixed[i]
        errors.append((x, mixed, groups, function_ref("mean_gap"), 9, draw.seed()))
    return [Case(tuple(Call(args, "expects_error") for args in errors), about="a group with both labels")]


PERMUTATION_P = Exercise(
    id="entities_and_uncertainty.permutation_p",
    task="The share of random exchanges of labels between groups under which a probe scores at least as well; the real labels count as one of them.",
    minutes=10,
    difficulty=2,
    fixed={
        "x[0]": "a single row has a single label",
        "y[0]": "a single row has a single label",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    oracle=_permutation_p,
    parts=(
        Part("groups of several sizes, one shuffle and more", 3, _permutation_case),
        Part(
            "exchanged arguments, a group with both labels",
            1,
            lambda draw, size: [
                *_other_permutations(draw, size),
                *_mixed_groups(draw, size),
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "rows_shuffled",
            "You shuffled the labels of single rows. Rows of one group then disagree, no probe can score as well on them, and everything looks significant: exchange the labels of whole groups.",
            _permutation(_shuffled_rows),
        ),
        Mistake(
            "observed_not_counted",
            "The real labels are not counted. They are one of the ways to deal the labels out: (1 + as good) / (n + 1). A p-value of 0 would claim what no finite number of shuffles can show.",
            _permutation(share=lambda as_good, n: as_good / n),
        ),
        Mistake(
            "ties_lost",
            "Shuffles that score exactly as well are not counted: *at least* as well, `>=`.",
            _permutation(counts=lambda score, observed: score > observed),
        ),
        Mistake(
            "lower_counted",
            "You counted shuffles that score at most as well. A high score is good: count those that reach the real one.",
            _permutation(counts=lambda score, observed: score <= observed),
        ),
        Mistake(
            "drawn_anew",
            "Each of your groups draws a label anew, so that the number of true groups changes from shuffle to shuffle. Each label goes to exactly one group: a permutation.",
            _permutation(_drawn_anew),
        ),
        Mistake(
            "seed_ignored",
            "Every seed gave the same value. Shuffle with a generator that the seed sets.",
            _permutation(seeded=lambda seed: 0),
        ),
        Mistake(
            "no_error",
            "A group has rows with both labels: it has no label that could be exchanged. Raise a ValueError.",
            _unchecked,
            _no_error,
        ),
        Mistake(
            "global_random_state",
            "The value is right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_permutation,
            moved_random_state,
        ),
    ),
    hints=(
        "Make a list of the groups and of their labels first. A shuffle permutes the labels; then each row takes its group's.",
        "`which = torch.tensor([names.index(group) for group in groups])` turns labels of groups into labels of rows: `label[which]`.",
        "`(1 + as_good) / (n + 1)`.",
    ),
    reveal="If labels had nothing to do with the rows, the real ones would be one arrangement among all, and its score as likely to be the best as any other: hence the 1 above and below. The rows of a group are no independent evidence, and the shuffle must respect that. "
    "This says whether there is *anything*; it does not say that it is knowledge. How common a name is passes the test as well.",
)
