"""Three small numbers on which every claim rests: recovery, faithfulness, agreement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# recovery


def _recovery(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
    """Oracle: sums in Python."""
    effect = sum(c - k for c, k in zip(clean.tolist(), corrupted.tolist(), strict=True))
    part = sum(p - k for p, k in zip(patched.tolist(), corrupted.tolist(), strict=True))
    if effect == 0:
        raise ValueError("clean and corrupted have the same mean")
    return part / effect


def _means(patched: Tensor, clean: Tensor, corrupted: Tensor) -> tuple[float, float, float]:
    return patched.mean().item(), clean.mean().item(), corrupted.mean().item()


def _where_none(value: Callable[[], float]) -> Callable[..., float]:
    """A right recovery that returns `value()` where there is no effect."""

    def recovery(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
        return _recovery(patched, clean, corrupted) if (clean - corrupted).mean() != 0 else value()

    return recovery


def _recovery_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch in (4, 7, 2):
        corrupted = draw.normal(batch, mean=-3.0)
        # Effects of very different size, one of them negative: a mean of ratios is far from the ratio of means.
        clean = corrupted + draw.uniform(batch, low=0.3, high=9.0)
        clean[0] = corrupted[0] - draw.number(0.1, 0.2)
        if batch == 7:  # the whole way leads down, as it does when noising
            clean = 2 * corrupted - clean
        patched = corrupted + draw.normal(batch, mean=1.0)
        cases.append(case(patched, clean, corrupted, about=f"{batch} prompts of unequal effect"))
    return [*cases, case(40.0 * patched, clean, corrupted, about="patching that goes far past the clean run")]


def _whole_numbers(draw: RandomInputs, *shape: int) -> Tensor:
    """Whole numbers, of which sums and means of four are exact in float32."""
    return draw.integers(-8, 9, *shape).float()


def _no_effect_cases(draw: RandomInputs, size: str) -> list[Case]:
    same = _whole_numbers(draw, 4)
    corrupted = _whole_numbers(draw, 4)
    cancels = corrupted + torch.tensor([3.0, -1.0, -2.0, 0.0])
    calls = (
        Call((same + 1.0, same, same), driver="expects_error"),
        Call((corrupted - 2.0, cancels, corrupted), driver="expects_error"),
        Call((draw.normal(4), draw.normal(4, mean=4.0), draw.normal(4, mean=-1.0))),
    )
    return [Case(calls=calls, about="clean equal to corrupted, then equal in the mean, then an ordinary case")]


def _ratios(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
    return ((patched - corrupted) / (clean - corrupted)).mean().item()


RECOVERY = Exercise(
    id="activation_patching.recovery",
    revision=2,
    task="How much of the way from corrupted to clean a patch goes: 0 at corrupted, 1 at clean, as a ratio of means.",
    minutes=6,
    difficulty=1,
    oracle=_recovery,
    parts=(
        Part("prompts of unequal effect", 2, _recovery_cases),
        Part("no effect to recover: ValueError", 1, _no_effect_cases),
    ),
    mistakes=(
        Mistake(
            "mean_of_ratios",
            "This is the mean of each prompt's own ratio. A prompt in which clean and corrupted hardly differ then counts as much as all others together, or more. Take "
            "the means first, and one ratio of them.",
            _ratios,
        ),
        Mistake(
            "divided_by_clean",
            "You divided by the clean value alone, so that the clean run itself does not score 1. The whole way is clean − corrupted.",
            lambda p, c, k: (_means(p, c, k)[0] - _means(p, c, k)[2]) / _means(p, c, k)[1],
        ),
        Mistake(
            "share_of_clean",
            "This is patched / clean. At the corrupted run it is not 0: subtract the corrupted value above and below.",
            lambda p, c, k: _means(p, c, k)[0] / _means(p, c, k)[1],
        ),
        Mistake(
            "counted_from_clean",
            "You count from the other end: this is 0 at the clean run and 1 at the corrupted one. It should be 0 at corrupted and 1 at clean.",
            lambda p, c, k: 1 - _recovery(p, c, k),
        ),
        Mistake(
            "sign_flipped",
            "The sign is flipped: one of the two differences is taken the other way around.",
            lambda p, c, k: -_recovery(p, c, k),
        ),
        Mistake(
            "not_divided",
            "This is the change in logits, mean(patched − corrupted). Divide it by the whole way, mean(clean − corrupted).",
            lambda p, c, k: (p - k).mean().item(),
        ),
        Mistake(
            "per_prompt",
            "You returned one value per prompt. One number is asked for: the ratio of the means over all prompts.",
            lambda p, c, k: (p - k) / (c - k),
        ),
        Mistake(
            "zero_division",
            "Right, but where clean and corrupted have the same mean it raises a ZeroDivisionError. Look first, and raise a ValueError that says what is wrong with "
            "the prompts.",
            _where_none(lambda: 1 / 0),
        ),
        Mistake(
            "infinite",
            "Right, but where clean and corrupted have the same mean you divide by zero, and infinity passes unnoticed into the next mean. Raise a ValueError.",
            lambda p, c, k: ((p - k).mean() / (c - k).mean()).item(),
        ),
        Mistake(
            "zero_for_no_effect",
            "Right, but where clean and corrupted have the same mean you return 0, as if the patch had done nothing. Nobody can say what it did: raise a ValueError.",
            _where_none(lambda: 0.0),
        ),
    ),
    hints=(
        "Put patched = corrupted into your formula: it should give 0. Put patched = clean: it should give 1.",
        "`whole = (clean - corrupted).mean().item()`; if it is 0, `raise ValueError(...)`; else `(patched - corrupted).mean().item() / whole`.",
    ),
    reveal="A ratio of means weighs prompts by their effect. A mean of ratios lets one prompt whose effect is nearly zero decide everything. The scale has no upper limit: a patch can go "
    "beyond 1, or below 0 when it hurts.",
)


# ---------------------------------------------------------------------------------------------------------------------
# faithfulness


def _faithfulness(circuit: float, full: float, empty: float) -> float:
    """Oracle: where circuit lies on the line from empty to full, as the weight of `full`."""
    if full - empty == 0:
        raise ValueError("full and empty are equal")
    return circuit / (full - empty) - empty / (full - empty)


def _where_equal(value: Callable[[], float]) -> Callable[..., float]:
    return lambda circuit, full, empty: _faithfulness(circuit, full, empty) if full != empty else value()


def _faithfulness_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for about, low, high in (("inside", 0.2, 0.9), ("above the model", 1.1, 1.8), ("below the empty one", -0.9, -0.2)):
        empty = draw.number(-3.0, -1.0)
        full = draw.number(3.0, 6.0)
        cases.append(case(empty + draw.number(low, high) * (full - empty), full, empty, about=f"a circuit {about}"))
    # The metric may also fall: a loss, say.
    cases.append(case(draw.number(2.0, 3.0), draw.number(1.0, 1.5), draw.number(5.0, 7.0), about="a metric that falls"))
    for i in range(3):  # a metric of exactly 0 is a value like others
        numbers = [draw.number(1.2, 1.4), draw.number(2.2, 2.4), draw.number(-1.4, -1.2)]
        numbers[i] = 0.0
        cases.append(
            case(*numbers, about="circuit, model and empty circuit at " + ", ".join(f"{n:.2f}" for n in numbers))
        )
    return cases


def _equal_cases(draw: RandomInputs, size: str) -> list[Case]:
    same, other = draw.number(1.0, 4.0), draw.number(-4.0, -1.0)
    calls = (
        Call((same + 1.0, same, same), driver="expects_error"),
        Call((other, other, other), driver="expects_error"),
        Call((draw.number(1.0, 2.0), same + 1e-3, same)),
    )
    return [Case(calls=calls, about="full equal to empty twice, then almost equal", rtol=1e-3)]


FAITHFULNESS = Exercise(
    id="activation_patching.faithfulness",
    revision=2,
    task="The share of the model's behaviour that a circuit keeps: (circuit − empty) / (full − empty).",
    minutes=4,
    difficulty=1,
    oracle=_faithfulness,
    parts=(
        Part("circuits inside, above and below", 1, _faithfulness_cases),
        Part("nothing to explain: ValueError", 1, _equal_cases),
    ),
    mistakes=(
        Mistake(
            "share_of_full",
            "This is circuit / full. A model without any head still has some logit difference; count from there: subtract `empty` above and below.",
            lambda circuit, full, empty: circuit / full,
        ),
        Mistake(
            "divided_by_full",
            "You divided by `full` alone. The whole way is full − empty, so that the full model scores 1.",
            lambda circuit, full, empty: (circuit - empty) / full,
        ),
        Mistake(
            "what_is_missing",
            "This is 0 for the full model and 1 for the empty circuit: the share that is missing. The share that is kept is asked for.",
            lambda circuit, full, empty: 1 - _faithfulness(circuit, full, empty),
        ),
        Mistake(
            "clipped",
            "You clip to the range 0 to 1. A circuit without the negative heads scores above 1, and that is a finding: it is *not* the model. Let it show.",
            lambda circuit, full, empty: min(1.0, max(0.0, _faithfulness(circuit, full, empty))),
        ),
        Mistake(
            "absolute",
            "You take an absolute value. A circuit that is worse than nothing scores below 0, and should.",
            lambda circuit, full, empty: abs(_faithfulness(circuit, full, empty)),
        ),
        Mistake(
            "zero_division",
            "Right, but where full and empty are equal it raises a ZeroDivisionError. Look first, and raise a ValueError that says so.",
            _where_equal(lambda: 1 / 0),
        ),
        Mistake(
            "not_a_number",
            "Right, but where full and empty are equal it returns NaN, which spoils every mean that it enters. Raise a ValueError.",
            _where_equal(lambda: float("nan")),
        ),
        Mistake(
            "zero_for_equal",
            "Right, but where full and empty are equal it returns 0, as if the circuit were bad. There is nothing of which it could be a share: raise a ValueError.",
            _where_equal(lambda: 0.0),
        ),
    ),
    hints=(
        "It is `recovery` with other names: 0 at the empty circuit, 1 at the full model.",
        "`if full == empty: raise ValueError(...)`, then `(circuit - empty) / (full - empty)`.",
    ),
    reveal="The same ruler as recovery. Values above 1 are no better than values below: a circuit that has lost its negative heads does the task more strongly than the model does, and so "
    "is not what the model does.",
)


# ---------------------------------------------------------------------------------------------------------------------
# agreement


def _ranks(values: list[float]) -> list[float]:
    """The average rank: how many are smaller, and half of those that are equal."""
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def _agreement(exact: Tensor, estimate: Tensor) -> float:
    """Oracle: ranks by counting, then Pearson's correlation by sums."""
    return _correlation(_ranks(exact.tolist()), _ranks(estimate.tolist()))


def _correlation(x: list[float], y: list[float]) -> float:
    n = len(x)
    x, y = [v - sum(x) / n for v in x], [v - sum(y) / n for v in y]
    below = (sum(v * v for v in x) * sum(v * v for v in y)) ** 0.5
    if below == 0:
        raise ValueError("one of the two is constant")
    return sum(a * b for a, b in zip(x, y, strict=True)) / below


def _by_ranks(ranks: Callable[[Tensor], Tensor]) -> Callable[..., float]:
    return lambda exact, estimate: _correlation(ranks(exact).tolist(), ranks(estimate).tolist())


def _where_constant(value: Callable[[], float]) -> Callable[..., float]:
    def agreement(exact: Tensor, estimate: Tensor) -> float:
        constant = any(len(set(values.tolist())) == 1 for values in (exact, estimate))
        return value() if constant else _agreement(exact, estimate)

    return agreement


def _formula(exact: Tensor, estimate: Tensor) -> float:
    pairs = zip(_ranks(exact.tolist()), _ranks(estimate.tolist()), strict=True)
    n = len(exact)
    if min(len(set(exact.tolist())), len(set(estimate.tolist()))) == 1:
        raise ValueError("constant")
    return 1 - 6 * sum((a - b) ** 2 for a, b in pairs) / (n * (n * n - 1))


def _signs(exact: Tensor, estimate: Tensor) -> float:
    return (exact.sign() == estimate.sign()).double().mean().item()


def _curved(draw: RandomInputs, n: int, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Related, but not along a line, so that ranks and values correlate differently."""
    exact = draw.normal(n)
    return exact, sign * (exact + draw.normal(n, std=0.7)).mul(1.5).exp() - 2.0


def _plain_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = [case(*_curved(draw, n, sign), about=f"{n} values without ties") for n, sign in ((9, 1.0), (14, -1.0))]
    small = draw.normal(12, std=1e-6)
    cases.append(case(small, draw.normal(12, std=3e3) + small * 1e9, about="very small against very large values"))
    return cases


def _tie_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n in (10, 16):
        exact, estimate = _curved(draw, n)
        exact[: n // 2] = 0.0  # what patching before the first difference gives
        estimate[n // 3 : n // 3 + 3] = estimate[0]
        order = draw.permutation(n)
        cases.append(case(exact[order], estimate[order], about=f"{n} values, some of them equal"))
    return cases


def _constant_cases(draw: RandomInputs, size: str) -> list[Case]:
    some, constant = draw.normal(6), torch.full((6,), draw.number(0.5, 2.0))
    calls = (
        Call((some, constant), driver="expects_error"),
        Call((constant, some), driver="expects_error"),
        Call((torch.zeros(5), torch.zeros(5)), driver="expects_error"),
        Call(_curved(draw, 8)),
    )
    return [Case(calls=calls, about="a constant estimate, a constant truth, both, then an ordinary case")]


AGREEMENT = Exercise(
    id="activation_patching.agreement",
    revision=2,
    fixed={
        "exact[0]": "one value has no order",
        "estimate[0]": "one value has no order",
        "result<=1": "a correlation",
    },
    task="Spearman's rank correlation, ties at their average rank; ValueError for a constant input.",
    minutes=10,
    difficulty=2,
    oracle=_agreement,
    parts=(
        Part("no ties", 1, _plain_cases),
        Part("ties share their average rank", 1, _tie_cases),
        Part("a constant has no order: ValueError", 1, _constant_cases),
    ),
    mistakes=(
        Mistake(
            "values_for_ranks",
            "You correlated the values themselves (Pearson). One large head then decides everything. Put ranks in their place first.",
            lambda exact, estimate: _correlation(exact.tolist(), estimate.tolist()),
        ),
        Mistake(
            "sorted_once",
            "`argsort` gives, for each rank, which value is there. You need the inverse: for each value, its rank. Argsort twice, or count how many are smaller.",
            _by_ranks(lambda v: v.argsort() if v.unique().numel() > 1 else torch.zeros(len(v))),
        ),
        Mistake(
            "ties_in_order",
            "Right without ties. Equal values got different ranks, in the order in which they stand: `argsort().argsort()` does that. Give each the average of their ranks.",
            _by_ranks(lambda v: v.argsort().argsort() if v.unique().numel() > 1 else torch.zeros(len(v))),
        ),
        Mistake(
            "ties_at_lowest",
            "Right without ties. Equal values got the lowest of their ranks; give each their average.",
            _by_ranks(lambda v: (v[:, None] > v[None]).sum(1)),
        ),
        Mistake(
            "ties_at_highest",
            "Right without ties. Equal values got the highest of their ranks; give each their average.",
            _by_ranks(lambda v: (v[:, None] >= v[None]).sum(1)),
        ),
        Mistake(
            "dense_ranks",
            "Right without ties. Equal values share a rank, but the next value follows right behind (1, 2, 2, 3). Average ranks leave room: 1, 2.5, 2.5, 4.",
            _by_ranks(lambda v: v.unique(return_inverse=True)[1]),
        ),
        Mistake(
            "formula_without_ties",
            "Right without ties. The formula 1 − 6 Σd² / (n(n² − 1)) holds only without them; take the correlation of the ranks.",
            _formula,
        ),
        Mistake(
            "absolute_values",
            "You ranked absolute values. A head that hurts and one that helps are then alike; keep the signs.",
            _by_ranks(lambda v: torch.tensor(_ranks(v.abs().tolist()))),
        ),
        Mistake(
            "sign_flipped",
            "The sign is flipped: one of the two is ranked from the top.",
            lambda exact, estimate: -_agreement(exact, estimate),
        ),
        Mistake(
            "squared",
            "This is the square of the correlation. It hides the sign, and an estimate with the sign flipped looks perfect.",
            lambda exact, estimate: _agreement(exact, estimate) ** 2,
        ),
        Mistake(
            "same_sign_share",
            "This is the share of values with the same sign. It does not see whether large effects are estimated as large.",
            _signs,
        ),
        Mistake(
            "not_a_number",
            "Right, but for a constant input it is 0/0, NaN. A constant has no order that could agree with another: raise a ValueError.",
            _where_constant(lambda: float("nan")),
        ),
        Mistake(
            "zero_for_constant",
            "Right, but a constant input gives 0, which says: no agreement. It has no order at all: raise a ValueError.",
            _where_constant(lambda: 0.0),
        ),
        Mistake(
            "zero_division",
            "Right, but a constant input raises a ZeroDivisionError. Look first, and raise a ValueError that says which of the two is constant.",
            _where_constant(lambda: 1 / 0),
        ),
    ),
    hints=(
        "Two steps: turn each input into ranks, then correlate the ranks: Σxy / √(Σx² Σy²) of what is left after subtracting the means.",
        "The average rank of v is (how many are smaller) + (how many are equal, itself included, + 1) / 2. With `v[:, None] > v` and `v[:, None] == v` that is two sums.",
        "When are all ranks equal? Then Σx² is 0; raise ValueError before you divide.",
    ),
    reveal="Ranks ask whether an estimate puts heads in the right order, whatever the scale. Ties matter here: many heads have an effect of exactly 0. A rank correlation says nothing about whether the "
    "size of the largest head is right, so look at the picture as well.",
)
