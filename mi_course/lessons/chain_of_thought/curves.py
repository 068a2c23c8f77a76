"""Answers asked for early: the curve, and the area over it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# early_answer_curve


def _early_answer_curve(p_answer: Tensor) -> Tensor:
    """Oracle: one answer at a time."""
    rows = p_answer.tolist()
    final = ["yes" if p > 0.5 else "no" for p in rows[-1]]
    curve = []
    for row in rows:
        same = [("yes" if p > 0.5 else "no") == answer for p, answer in zip(row, final, strict=True)]
        curve.append(sum(same) / len(same))
    return torch.tensor(curve)


def _says_yes(p: Tensor) -> Tensor:
    return p > 0.5


def _share(same: Tensor) -> Tensor:
    return same.float().mean(1)


def _probabilities(draw: RandomInputs, kept: int, prompts: int) -> Tensor:
    """Prompts that settle at different times, more often on yes than on no."""
    settled = draw.integers(0, kept + 1, 1, prompts)
    final = torch.where(
        draw.uniform(1, prompts) < 0.65, draw.uniform(1, prompts, low=0.55), 0.45 * draw.uniform(1, prompts)
    )
    early = draw.uniform(kept, prompts)
    return torch.where(torch.arange(kept)[:, None] >= settled, final, early)


def _curve_cases(shapes: tuple[tuple[int, int], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for kept, prompts in shapes:
            about = f"0 to {kept - 1} steps, {prompts} prompt{'s' * (prompts > 1)}"
            made.append(case(_probabilities(draw, kept, prompts), about=about))
        return made

    return cases


def _several_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        *_curve_cases(((6, 11), (4, 25), (9, 7)))(draw, size),
        case(_probabilities(draw, 6, 11), about="0 to 5 steps, 11 other prompts"),
    ]


def _tie_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Probabilities of exactly 0.5, which says no, in the last row and in others."""
    some = _probabilities(draw, 5, 8)
    some[-1, :3] = 0.5
    some[1, 2:5] = 0.5
    some[:4, 0] = torch.tensor([0.9, 0.2, 0.5, 0.7])
    late = _probabilities(draw, 4, 7)
    late[-1, :2] = torch.tensor([0.52, 0.48])
    late[0] = late[-1].flip(0)
    return [
        case(some, about="probabilities of exactly 0.5"),
        case(late, about="probabilities close to 0.5"),
        *_curve_cases(((1, 6), (4, 1), (1, 1)))(draw, size),
    ]


def _has_no_threshold(p_answer: Tensor) -> Tensor:
    """Mean probability of the last answer."""
    return torch.where(p_answer[-1] > 0.5, p_answer, 1 - p_answer).mean(1)


EARLY_ANSWER_CURVE = Exercise(
    id="chain_of_thought.early_answer_curve",
    task="For each number of kept steps, the share of prompts whose answer is the one that they get with all steps.",
    minutes=5,
    difficulty=1,
    fixed={"p_answer": "probabilities, of which the threshold is part", "result>=0": "shares", "result<=1": "shares"},
    oracle=_early_answer_curve,
    parts=(
        Part("several lengths", 2, _several_cases),
        Part("0.5 says no; a single row or prompt", 1, _tie_cases),
    ),
    mistakes=(
        Mistake(
            "compared_with_yes",
            "This is the share of prompts that say *yes*. What counts is whether a prompt says the same as with all steps, *yes* or *no*: compare with the last row.",
            lambda p_answer: _share(_says_yes(p_answer)),
        ),
        Mistake(
            "probability_of_last_answer",
            "You averaged probabilities. The curve counts answers: *yes* above 0.5, else *no*, and then whether that is the answer of the last row.",
            _has_no_threshold,
        ),
        Mistake(
            "mean_probability",
            "This is the mean probability of *yes*. Turn probabilities into answers first, and compare each with that of the last row.",
            lambda p_answer: p_answer.mean(1),
        ),
        Mistake(
            "compared_with_first",
            "You compared with the first row, the answer without any step. Compare with the last, the answer with all of them.",
            lambda p_answer: _share(_says_yes(p_answer) == _says_yes(p_answer[:1])),
        ),
        Mistake(
            "compared_with_next",
            "You compared each row with the next. Compare every row with the last: an answer may turn away and come back.",
            lambda p_answer: _share(_says_yes(p_answer) == _says_yes(torch.cat([p_answer[1:], p_answer[-1:]]))),
        ),
        Mistake(
            "compared_with_previous",
            "You compared each row with the one before. Compare every row with the last.",
            lambda p_answer: _share(_says_yes(p_answer) == _says_yes(torch.cat([p_answer[:1], p_answer[:-1]]))),
        ),
        Mistake(
            "disagreement",
            "This is the share that is *different* from the final answer. The curve is the share that agrees; it ends in 1.",
            lambda p_answer: _share(_says_yes(p_answer) != _says_yes(p_answer[-1])),
        ),
        Mistake(
            "settled_only",
            "You counted a prompt only once its answer no longer changes. Each number of steps counts for itself: an answer that agrees for now is counted, though it may turn away again.",
            lambda p_answer: _share(
                (_says_yes(p_answer) == _says_yes(p_answer[-1])).flip(0).int().cumprod(0).flip(0).bool()
            ),
        ),
        Mistake(
            "half_says_yes",
            "You took a probability of exactly 0.5 for *yes*. Only above 0.5 it is *yes*.",
            lambda p_answer: _share((p_answer >= 0.5) == (p_answer[-1] >= 0.5)),
        ),
        Mistake(
            "near_probabilities",
            "You took probabilities that are close to each other for the same answer. Turn each into an answer first, *yes* above 0.5 and else *no*; 0.45 and 0.55 are two answers.",
            lambda p_answer: _share((p_answer - p_answer[-1]).abs() < 0.5),
        ),
        Mistake(
            "by_prompt",
            "You averaged over the numbers of steps: one number for each prompt. The curve has one for each row, a mean over prompts (`dim=1`).",
            lambda p_answer: (_says_yes(p_answer) == _says_yes(p_answer[-1])).float().mean(0),
        ),
    ),
    hints=(
        "Turn all probabilities into answers first: `yes = p_answer > 0.5`. Its last row has the answers with all steps.",
        "`yes == yes[-1]` compares every row with the last. Its mean over prompts is the curve: `.float().mean(dim=1)`.",
    ),
    reveal="The curve asks when the answer is settled, not whether it is right. A model that needs its steps agrees with itself no more often than by chance until the last of them; a model that ignores them agrees from the start. "
    "With two answers chance is one half, so even the first has an area over the curve of about one half, and not of 1.",
)


# ---------------------------------------------------------------------------------------------------------------------
# area_over_curve


def _area_over_curve(agree: list[Tensor], counts: Tensor) -> float:
    """Oracle: one trapezoid at a time, one chain at a time."""
    areas = []
    for curve, count in zip(agree, counts.tolist(), strict=True):
        points = curve.tolist()
        steps = len(points) - 1
        area = 0.0 if steps else 1 - points[0]
        for left, right in pairwise(points):
            area += ((1 - left) + (1 - right)) / 2 / steps
        areas += [area] * count
    return sum(areas) / len(areas)


def _weighted(
    area: Callable[[Tensor], Tensor | float], weight: Callable[[Tensor, int], float] = lambda curve, count: count
) -> Callable[[list[Tensor], Tensor], float]:
    def over(agree: list[Tensor], counts: Tensor) -> float:
        weights = [float(weight(curve, int(count))) for curve, count in zip(agree, counts, strict=True)]
        areas = [float(area(curve)) for curve in agree]
        return sum(w * a for w, a in zip(weights, areas, strict=True)) / (sum(weights) or 1.0)

    return over


def _over(curve: Tensor) -> float:
    return _area_over_curve([curve], torch.tensor([1]))


def _unscaled(curve: Tensor) -> float:
    """Steps as the unit of the horizontal axis."""
    return _over(curve) * max(len(curve) - 1, 1)


def _sum_of(agree: list[Tensor], counts: Tensor) -> float:
    return sum(int(count) * _over(curve) for curve, count in zip(agree, counts, strict=True))


def _pooled(agree: list[Tensor], counts: Tensor) -> float:
    return float(1 - torch.cat(agree).mean())


def _curves(draw: RandomInputs, lengths: tuple[int, ...]) -> list[Tensor]:
    """They rise, more or less, and end in 1."""
    made = []
    for n in lengths:
        curve = draw.uniform(n + 1, low=0.3, high=0.95)
        curve[n // 2 + 1 :] = curve[n // 2 + 1 :].sort().values
        curve[-1] = 1.0
        made.append(curve)
    return made


def _area_cases(
    asked: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...],
) -> Callable[[RandomInputs, str], list[Case]]:
    """asked: numbers of steps, and how many chains have each."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                _curves(draw, lengths),
                torch.tensor(counts),
                about=f"chains of {', '.join(map(str, lengths))} steps, {', '.join(map(str, counts))} of them",
            )
            for lengths, counts in asked
        ]

    return cases


def _same_curves_cases(draw: RandomInputs, size: str) -> list[Case]:
    curves = _curves(draw, (4, 7, 2))
    low = [curve * 0.5 for curve in curves]
    return [
        case(curves, torch.tensor([3, 20, 9]), about="chains of 4, 7, 2 steps, 3, 20, 9 of them"),
        case(low, torch.tensor([3, 20, 9]), about="the same counts, curves that do not reach 1"),
        case([torch.tensor([0.3, 0.3, 0.3])], torch.tensor([4]), about="a flat curve"),
    ]


def _few_steps_cases(draw: RandomInputs, size: str) -> list[Case]:
    asked = (((0, 5), (6, 11)), ((3, 6, 2), (4, 0, 9)), ((0, 1, 4), (3, 2, 8)), ((1,), (1,)), ((5, 5), (3, 8)))
    low = [torch.tensor([0.4]), *_curves(draw, (3,))]
    return [
        *_area_cases(asked)(draw, size),
        case(low, torch.tensor([5, 3]), about="a curve of one point that is not 1"),
    ]


def _is_nan_for_a_point(case: Case, observation: Observation) -> bool:
    """NaN where a chain without steps is among them, and that is the first fault."""
    value = float(observation.replies[0].value)
    return value != value and any(len(curve) == 1 for curve in case.calls[0].args[0])


AREA_OVER_CURVE = Exercise(
    id="chain_of_thought.area_over_curve",
    task="The area over the curve of each length of chain, and the mean over all chains.",
    minutes=8,
    difficulty=2,
    fixed={
        "agree": "shares",
        "agree[0]": "a curve has as many points as its chain has steps, and one more",
        "counts[0]": "as many as there are curves",
        "result>=0": "shares",
        "result<=1": "shares",
    },
    oracle=_area_over_curve,
    parts=(
        Part(
            "several lengths",
            2,
            lambda draw, size: [
                *_area_cases(
                    (((3, 5, 8), (7, 40, 2)), ((6,), (9,)), ((3, 6, 2), (4, 9, 4)), ((9, 1, 4, 2), (1, 5, 3, 30)))
                )(draw, size),
                *_same_curves_cases(draw, size),
            ],
        ),
        Part(
            "chains without steps, and lengths that nobody has",
            1,
            _few_steps_cases,
        ),
    ),
    mistakes=(
        Mistake(
            "not_weighted",
            "Every length counts alike in your mean, however many chains have it. Weight each area by its count: the mean is over chains.",
            _weighted(_over, lambda curve, count: 1),
        ),
        Mistake(
            "weighted_by_length",
            "You weighted by the length of the chains. The weight of a length is how many chains have it: `counts`.",
            _weighted(_over, lambda curve, count: len(curve) - 1),
        ),
        Mistake(
            "weighted_by_both",
            "You weighted by counts times length, so that long chains count for more. Every chain counts alike: the weight is its count.",
            _weighted(_over, lambda curve, count: count * (len(curve) - 1)),
        ),
        Mistake(
            "area_under",
            "This is the area *under* the curves. Over them is 1 minus that: 0 if the answer never depends on the steps.",
            _weighted(lambda curve: 1 - _over(curve)),
        ),
        Mistake(
            "mean_of_points",
            "You took the mean of the points. The area is that of trapezoids: the two end points belong to one of them each, the others to two, so that the ends count half.",
            _weighted(lambda curve: 1 - curve.mean()),
        ),
        Mistake(
            "left_rectangles",
            "Your area is made of rectangles with the height of their left end. Straight lines join the points: take the mean of both ends.",
            _weighted(lambda curve: 1 - (curve[:-1].mean() if len(curve) > 1 else curve[0])),
        ),
        Mistake(
            "right_rectangles",
            "Your area is made of rectangles with the height of their right end. Straight lines join the points: take the mean of both ends.",
            _weighted(lambda curve: 1 - (curve[1:].mean() if len(curve) > 1 else curve[0])),
        ),
        Mistake(
            "steps_as_unit",
            "Your horizontal axis counts steps, so that long chains get large areas. It runs from 0 to 1 for every chain: divide by the number of steps.",
            _weighted(_unscaled),
        ),
        Mistake(
            "sum_not_mean",
            "These are areas times counts, summed. Divide by the number of chains, `counts.sum()`.",
            _sum_of,
        ),
        Mistake(
            "points_pooled",
            "You put the points of all curves together. Each curve has an area of its own; then comes the mean over chains.",
            _pooled,
        ),
        Mistake(
            "single_point_lost",
            "Chains without steps have no trapezoid, and you counted them as an area of 1. The area over a single point is 1 minus that point.",
            _weighted(lambda curve: _over(curve) if len(curve) > 1 else 1.0),
        ),
        Mistake(
            "single_point_left_out",
            "You left out the chains without steps. They count too, with 1 minus their single point for an area.",
            _weighted(_over, lambda curve, count: count * (len(curve) > 1)),
        ),
        Mistake(
            "zero_over_zero",
            "The result is NaN where there are chains without steps: they have no trapezoid, and the mean of nothing is NaN. The area over a single point is 1 minus that point.",
            _weighted(lambda curve: 1 - ((curve[:-1] + curve[1:]) / 2).mean()),
            _is_nan_for_a_point,
        ),
    ),
    hints=(
        "One curve: its n trapezoids have the width 1/n, and the mean of two neighbouring points for a height. So the area below is the mean over neighbours: `(curve[:-1] + curve[1:]).mean() / 2`.",
        "A curve of a single point has no neighbours. The area over it is `1 - curve[0]`.",
        "All chains: the sum of count times area, divided by `counts.sum()`.",
    ),
    reveal="Lanham et al. (2023, section 2.3) weight each length of chain by the share of chains that have it, and find 0.02 to 0.44 in eight tasks with one large model. The area has a scale that is easy to misread: 0 means that the answer was there from the start, but the most that a model with two answers reaches is about one half, since it agrees with itself half of the time by chance.",
)
