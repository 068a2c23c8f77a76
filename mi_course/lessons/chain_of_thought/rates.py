"""Shares of prompts, each with its denominator: answers that moved, and hints that were followed, and mentioned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import Observation


def _divide(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if float(whole) else math.nan


def _gives_something_for_nothing(none_counts: Callable[[Case], bool]) -> Callable[[Case, Observation], bool]:
    """A `detect`: a plain number, all zero, where no prompt counts and NaN is asked for."""

    def detect(case: Case, observation: Observation) -> bool:
        value = observation.replies[0].value
        numbers = [float(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        return none_counts(case) and all(number == 0 for number in numbers)

    return detect


# ---------------------------------------------------------------------------------------------------------------------
# answer_flip_rate


def _answer_flip_rate(before: Tensor, after: Tensor, mask: Tensor) -> float:
    """Oracle: one prompt after the other."""
    moved = [a != b for a, b, counts in zip(before.tolist(), after.tolist(), mask.tolist(), strict=True) if counts]
    return sum(moved) / len(moved) if moved else math.nan


def _flip_case(draw: RandomInputs, n: int, answers: int, about: str = "") -> Case:
    before = draw.integers(0, answers, n)
    after = torch.where(draw.uniform(n) < 0.4, (before + draw.integers(1, answers, n)) % answers, before)
    mask = draw.uniform(n) < 0.6
    # Within the mask more answers move than outside; it is never empty, and never full.
    after[mask & (draw.uniform(n) < 0.3)] = 0
    mask[0], mask[1] = True, False
    after[0] = (before[0] + 1) % answers
    return case(before, after, mask, about=about or f"{n} prompts, {answers} answers")


def _flip_cases(draw: RandomInputs, size: str) -> list[Case]:
    first = _flip_case(draw, 9, 2)
    before, after, mask = first.calls[0].args
    return [
        first,
        case(before, after, ~mask, about="the same answers, other prompts count"),
        case(before, after.roll(1), mask, about="the same prompts, other answers after"),
        _flip_case(draw, 40, 5),
        _flip_case(draw, 23, 3),
    ]


def _few_cases(draw: RandomInputs, size: str) -> list[Case]:
    before, after = draw.integers(0, 3, 8), draw.integers(0, 3, 8)
    only = torch.zeros(8, dtype=torch.bool)
    return [
        _flip_case(draw, 17, 4),
        case(before, after, only, about="no prompt counts"),
        case(before, (before + 1) % 3, only, about="no prompt counts, all answers move"),
        case(before, after, ~only, about="every prompt counts"),
        case(torch.tensor([2]), torch.tensor([1]), torch.tensor([True]), about="a single prompt"),
        case(torch.tensor([2]), torch.tensor([2]), torch.tensor([True]), about="a single prompt that stays"),
        case(torch.tensor([2]), torch.tensor([1]), torch.tensor([False]), about="a single prompt that does not count"),
    ]


ANSWER_FLIP_RATE = Exercise(
    id="chain_of_thought.answer_flip_rate",
    task="Of the prompts that count, the share whose answer is another one after the change.",
    minutes=3,
    difficulty=1,
    fixed={"result>=0": "a share", "result<=1": "a share"},
    oracle=_answer_flip_rate,
    parts=(
        Part("some prompts count", 1, _flip_cases),
        Part("all, one or none of them count", 1, _few_cases),
    ),
    mistakes=(
        Mistake(
            "mask_ignored",
            "All prompts count in your rate. Only those where `mask` is True do.",
            lambda before, after, mask: (before != after).float().mean(),
        ),
        Mistake(
            "divided_by_all",
            "You counted the right flips, and divided by the number of all prompts. Divide by the number of those that count, `mask.sum()`.",
            lambda before, after, mask: ((before != after) & mask).float().mean(),
        ),
        Mistake(
            "mask_inverted",
            "These are the prompts that do *not* count. `mask` is True for those that do.",
            lambda before, after, mask: (before != after)[~mask].float().mean(),
        ),
        Mistake(
            "unchanged",
            "This is the share of answers that stayed. Flipped are those that differ: `before != after`.",
            lambda before, after, mask: (before == after)[mask].float().mean(),
        ),
        Mistake(
            "number_of_flips",
            "This is the number of flips. Divide by the number of prompts that count.",
            lambda before, after, mask: ((before != after) & mask).sum() if mask.any() else math.nan,
        ),
        Mistake(
            "mean_difference",
            "You averaged differences between answers. They are names, and no amounts: what counts is whether they differ.",
            lambda before, after, mask: (before - after)[mask].abs().float().mean(),
        ),
        Mistake(
            "zero_for_nothing",
            "Right, but where no prompt counts you say 0: as if the change had been tried, and had done nothing. There is no rate then; return NaN.",
            lambda before, after, mask: (before != after)[mask].float().sum() / max(int(mask.sum()), 1),
            _gives_something_for_nothing(lambda case: not bool(case.calls[0].args[2].any())),
        ),
    ),
    hints=(
        "`before != after` is True where the answer moved. A Boolean tensor in square brackets picks the prompts that count.",
        "`(before != after)[mask].float().mean().item()`; PyTorch's mean of nothing is NaN.",
    ),
    reveal="The mask is where the thought is. A prompt whose change changed nothing (a paraphrase with the same word, a step that was wrong already) says nothing about the model, and dilutes the rate. And no prompts is not the same as no effect.",
)


# ---------------------------------------------------------------------------------------------------------------------
# hint_effect


def _hint_effect(with_hint: Tensor, without: Tensor, hinted: Tensor) -> tuple[float, float]:
    """Oracle: one prompt after the other."""
    n = towards = moved = 0
    for now, then, hint in zip(with_hint.tolist(), without.tolist(), hinted.tolist(), strict=True):
        if then != hint:
            n, towards, moved = n + 1, towards + (now == hint), moved + (now != then)
    return (towards / n, moved / n) if n else (math.nan, math.nan)


def _answers(draw: RandomInputs, n: int, answers: int, followed: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """with_hint, without, hinted: prompts of every kind, those that agreed anyway and were moved away among them."""
    without, hinted = draw.integers(0, answers, n), draw.integers(0, answers, n)
    moved = torch.where(draw.uniform(n) < followed, hinted, draw.integers(0, answers, n))
    with_hint = torch.where(draw.uniform(n) < 0.75, moved, without)
    # One of each kind: agreed and stayed, agreed and left, followed, moved elsewhere, stayed.
    third = 2 if answers > 2 else 0
    kinds = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1], [third, 0, 1], [0, 0, 1]])
    rows = torch.cat([torch.stack([with_hint, without, hinted], dim=1), kinds])
    rows = rows[draw.permutation(len(rows))]
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _hint_case(draw: RandomInputs, n: int, answers: int, followed: float = 0.5) -> Case:
    return case(*_answers(draw, n, answers, followed), about=f"{n + 5} prompts, {answers} answers")


def _hint_cases(draw: RandomInputs, size: str) -> list[Case]:
    first = _hint_case(draw, 8, 4)
    with_hint, without, hinted = first.calls[0].args
    return [
        first,
        case(with_hint.roll(1), without, hinted, about="other answers with the hint"),
        case(with_hint, without.roll(2), hinted, about="other answers without it"),
        case(with_hint, without, hinted.roll(1), about="other hints"),
        _hint_case(draw, 30, 3, 0.2),
        _hint_case(draw, 19, 5, 0.8),
    ]


def _few_hints_cases(draw: RandomInputs, size: str) -> list[Case]:
    hinted = draw.integers(0, 3, 6)
    one = [torch.tensor([a]) for a in (2, 0, 2, 1, 0)]
    return [
        _hint_case(draw, 25, 4),
        _hint_case(draw, 12, 2),
        case(hinted, hinted, hinted, about="all answers agreed anyway"),
        case((hinted + 1) % 3, hinted, hinted, about="all answers agreed, and are others now"),
        case(hinted, (hinted + 1) % 3, hinted, about="all are moved to the hint"),
        case((hinted + 2) % 3, (hinted + 1) % 3, hinted, about="all are moved elsewhere"),
        case(one[0], one[1], one[2], about="a single prompt that follows"),
        case(one[3], one[1], one[2], about="a single prompt that goes elsewhere"),
        case(one[3], one[0], one[2], about="a single prompt that agreed anyway"),
    ]


def _effect(
    towards: Callable[..., Tensor], moved: Callable[..., Tensor], counts: Callable[..., Tensor]
) -> Callable[[Tensor, Tensor, Tensor], tuple[float, float]]:
    """A wrong hint_effect: shares of what these three functions of the arguments say."""

    def effect(with_hint: Tensor, without: Tensor, hinted: Tensor) -> tuple[float, float]:
        arguments = (with_hint, without, hinted)
        n = counts(*arguments)
        return _divide((towards(*arguments) & n).sum(), n.sum()), _divide((moved(*arguments) & n).sum(), n.sum())

    return effect


def _to_hint(now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return now == hint


def _other(now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return now != then


def _open(now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return then != hint


def _all(now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return torch.ones_like(now, dtype=torch.bool)


_RIGHT = _effect(_to_hint, _other, _open)


def _over_all(now: Tensor, then: Tensor, hint: Tensor) -> tuple[float, float]:
    open_ = _open(now, then, hint)
    return _divide(((now == hint) & open_).sum(), len(now)), _divide(((now != then) & open_).sum(), len(now))


def _zeros_for_nothing(now: Tensor, then: Tensor, hint: Tensor) -> tuple[float, float]:
    towards, moved = _RIGHT(now, then, hint)
    return (0.0, 0.0) if math.isnan(towards) else (towards, moved)


HINT_EFFECT = Exercise(
    id="chain_of_thought.hint_effect",
    task="How often a hint moves the answer to the hinted one, and how often it moves the answer at all.",
    minutes=6,
    difficulty=1,
    fixed={
        "with_hint[0]": "whether the one prompt could be moved decides; the second part asks both",
        "result>=0": "shares",
        "result<=1": "shares",
    },
    oracle=_hint_effect,
    parts=(
        Part("several answers", 2, _hint_cases),
        Part("two answers; none or one that could be moved", 1, _few_hints_cases),
    ),
    mistakes=(
        Mistake(
            "agreed_counted",
            "You counted the prompts that had the hinted answer anyway: they look as if they had followed. Leave them out, of both shares.",
            _effect(_to_hint, _other, _all),
        ),
        Mistake(
            "divided_by_all",
            "You counted the right prompts, and divided by all of them. Those that had the hinted answer anyway are not among those that could be moved: leave them out below the line too.",
            _over_all,
        ),
        Mistake(
            "swapped",
            "The two shares are swapped. First the answers that moved to the hint, then all that moved.",
            lambda with_hint, without, hinted: _RIGHT(with_hint, without, hinted)[::-1],
        ),
        Mistake(
            "elsewhere_only",
            "Your second share is of answers that moved elsewhere. It is of all that moved, to the hint or elsewhere.",
            _effect(_to_hint, lambda now, then, hint: (now != then) & (now != hint), _open),
        ),
        Mistake(
            "share_of_moved",
            "Your first share is of the answers that moved. Both are shares of the prompts that could be moved.",
            lambda with_hint, without, hinted: (
                _effect(_to_hint, _other, lambda now, then, hint: (then != hint) & (now != then))(
                    with_hint, without, hinted
                )[0],
                _RIGHT(with_hint, without, hinted)[1],
            ),
        ),
        Mistake(
            "with_and_without_swapped",
            "Answers with and without the hint are swapped. Left out are the prompts that had the hinted answer *without* the hint.",
            lambda with_hint, without, hinted: _RIGHT(without, with_hint, hinted),
        ),
        Mistake(
            "agreed_only",
            "You kept the prompts that had the hinted answer anyway, and left out the others.",
            _effect(_to_hint, _other, lambda now, then, hint: then == hint),
        ),
        Mistake(
            "only_first_left_out",
            "In the second share the prompts that had the hinted answer anyway are still counted. They are left out of both.",
            lambda with_hint, without, hinted: (
                _RIGHT(with_hint, without, hinted)[0],
                _effect(_to_hint, _other, _all)(with_hint, without, hinted)[1],
            ),
        ),
        Mistake(
            "zeros_for_nothing",
            "Right, but where every prompt had the hinted answer anyway you say 0: as if hints had been tried, and had done nothing. There are no shares then; return NaN for both.",
            _zeros_for_nothing,
            _gives_something_for_nothing(lambda case: torch.equal(*case.calls[0].args[1:])),
        ),
    ),
    hints=(
        "`without != hinted` is True for the prompts that a hint could move. Take both means over these alone.",
        "`(with_hint == hinted)[movable].float().mean().item()` is the first share, and `with_hint != without` makes the second.",
    ),
    reveal="With two answers every answer that moves moves to the hint, and the shares are equal. With more than two their difference is what any change of the prompt does: an answer that leaves for a third one did not follow the hint. Prompts that agreed anyway are the usual way to overstate an effect. Turpin et al. (2023) hint at wrong answers, which few prompts "
    "get anyway.",
)


# ---------------------------------------------------------------------------------------------------------------------
# mention_rate


def _mention_rate(mentions: Tensor, with_hint: Tensor, without: Tensor, hinted: Tensor) -> float:
    """Oracle: one prompt after the other."""
    said = []
    rows = zip(mentions.tolist(), with_hint.tolist(), without.tolist(), hinted.tolist(), strict=True)
    for mentioned, now, then, hint in rows:
        if then != hint and now == hint:
            said.append(mentioned)
    return sum(said) / len(said) if said else math.nan


def _mention_case(draw: RandomInputs, n: int, answers: int, share: float) -> Case:
    with_hint, without, hinted = _answers(draw, n, answers)
    # Of the prompts that followed, some mention the hint and some do not; so do the others.
    mentions = draw.uniform(len(hinted)) < share
    followed = ((with_hint == hinted) & (without != hinted)).nonzero().flatten()
    mentions[followed[0]] = True
    if len(followed) > 1:
        mentions[followed[1]] = False
    about = f"{n + 5} prompts, {answers} answers"
    return case(mentions, with_hint, without, hinted, about=about)


def _mention_cases(draw: RandomInputs, size: str) -> list[Case]:
    first = _mention_case(draw, 14, 4, 0.4)
    mentions, *answers = first.calls[0].args
    return [
        first,
        case(mentions.roll(1), *answers, about="other mentions"),
        case(mentions, answers[0].roll(1), *answers[1:], about="other answers with the hint"),
        case(mentions, answers[0], answers[1].roll(1), answers[2], about="other answers without it"),
        _mention_case(draw, 40, 3, 0.7),
        _mention_case(draw, 25, 5, 0.25),
    ]


def _few_mentions_cases(draw: RandomInputs, size: str) -> list[Case]:
    hinted = draw.integers(0, 3, 7)
    mentions = torch.tensor([True, False, True, True, False, True, False])
    yes, no = torch.tensor([True]), torch.tensor([False])
    one, two = torch.tensor([1]), torch.tensor([2])
    return [
        _mention_case(draw, 21, 3, 0.5),
        _mention_case(draw, 16, 2, 0.5),
        case(mentions, hinted, hinted, hinted, about="all answers agreed anyway"),
        case(mentions, (hinted + 2) % 3, (hinted + 1) % 3, hinted, about="no answer moved to the hint"),
        case(mentions, hinted, (hinted + 1) % 3, hinted, about="all answers moved to the hint"),
        case(yes, two, one, two, about="a single prompt that followed, and says so"),
        case(no, two, one, two, about="a single prompt that followed, and does not say so"),
        case(yes, one, one, two, about="a single prompt that did not follow"),
    ]


def _rate(
    said: Callable[..., Tensor], counts: Callable[..., Tensor]
) -> Callable[[Tensor, Tensor, Tensor, Tensor], float]:
    def rate(mentions: Tensor, with_hint: Tensor, without: Tensor, hinted: Tensor) -> float:
        arguments = (mentions, with_hint, without, hinted)
        n = counts(*arguments)
        return _divide((said(*arguments) & n).sum(), n.sum())

    return rate


def _said(m: Tensor, now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return m


def _followed(m: Tensor, now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return (now == hint) & (then != hint)


def _everywhere(m: Tensor, now: Tensor, then: Tensor, hint: Tensor) -> Tensor:
    return torch.ones_like(m)


def _zero_for_none(mentions: Tensor, with_hint: Tensor, without: Tensor, hinted: Tensor) -> float:
    followed = _followed(mentions, with_hint, without, hinted)
    return float((mentions & followed).sum()) / max(int(followed.sum()), 1)


MENTION_RATE = Exercise(
    id="chain_of_thought.mention_rate",
    task="Of the prompts whose answer the hint moved to itself, the share whose written steps mention the hint.",
    minutes=5,
    difficulty=1,
    fixed={
        "mentions[0]": "whether the one prompt was moved decides; the second part asks both",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    oracle=_mention_rate,
    parts=(
        Part("prompts of every kind", 2, _mention_cases),
        Part("two answers; all, one or none that followed", 1, _few_mentions_cases),
    ),
    mistakes=(
        Mistake(
            "all_prompts",
            "This is the share of mentions among all prompts. Only those count whose answer the hint moved to itself: others owe no mention.",
            _rate(_said, _everywhere),
        ),
        Mistake(
            "agreed_counted",
            "You counted prompts that had the hinted answer anyway. They have it now, but it was not the hint that moved them.",
            _rate(_said, lambda m, now, then, hint: now == hint),
        ),
        Mistake(
            "movable_counted",
            "You divided by all prompts that could have been moved. Only those count that were: the answer is the hinted one now.",
            _rate(_said, lambda m, now, then, hint: then != hint),
        ),
        Mistake(
            "moved_elsewhere_counted",
            "You counted prompts whose answer moved anywhere. Only those count that moved to the hinted answer.",
            _rate(_said, lambda m, now, then, hint: now != then),
        ),
        Mistake(
            "divided_by_all",
            "You counted the right mentions, and divided by the number of all prompts. Divide by the number of those that the hint moved.",
            lambda mentions, with_hint, without, hinted: (
                (mentions & _followed(mentions, with_hint, without, hinted)).float().mean()
            ),
        ),
        Mistake(
            "share_of_mentions",
            "The share is the wrong way round: of the prompts that mention the hint, how many followed it. Asked is, of those that followed, how many mention it.",
            _rate(_followed, _said),
        ),
        Mistake(
            "silent",
            "This is the share that does *not* mention the hint.",
            _rate(lambda m, now, then, hint: ~m, _followed),
        ),
        Mistake(
            "zero_for_nothing",
            "Right, but where no answer was moved to the hint you say 0, which would mean that hints were followed and concealed. There is no rate then; return NaN.",
            _zero_for_none,
            _gives_something_for_nothing(lambda case: not bool(_followed(*case.calls[0].args).any())),
        ),
    ),
    hints=(
        "Two conditions say that the hint moved an answer to itself: it is the hinted one now, and it was not before. Join them with `&`.",
        "`mentions[(with_hint == hinted) & (without != hinted)].float().mean().item()`",
    ),
    reveal="The denominator is what makes this a measure of honesty. Chen et al. (2025) found 25 % for Claude 3.7 Sonnet and 39 % for DeepSeek R1. It errs both ways: a hint may be mentioned and not be what the answer came from, a mention may be worded so that no search finds it, and some answers move to the hinted one by chance.",
)
