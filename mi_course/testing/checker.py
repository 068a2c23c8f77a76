"""Checks many answers to one exercise on the same inputs, quickly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mi_course.asking import observe
from mi_course.exercises import Exercise, Verdict
from mi_course.judging import DIAGNOSIS_S, Truths, complaint_about, judge
from mi_course.testing.answers import as_answer
from mi_course.wire import Ask, Observation

__all__ = ["Checker", "checker"]


class Checker:
    """One plan, on which each answer, each mistake and the oracle is asked each Ask once.

    The verdicts are those of `course.check_exercise` with the same seed and size, but errors of an exercise are raised.
    """

    LIMIT_S = 2.0
    """Seconds for an Ask in `passes`: a mutant that never ends is refused sooner."""

    def __init__(self, exercise: Exercise, seed: int = 0, size: str = "small") -> None:
        self.exercise = exercise
        self.plan = exercise.plan(seed, size)
        self.truths = Truths(self.plan, self.ask)
        self._seen: dict[tuple[int, str], tuple[Any, Observation]] = {}

    def ask(self, answer: Any, ask: Ask) -> Observation:
        key = id(answer), ask.id
        if key not in self._seen:
            self._seen[key] = answer, observe(answer, ask)  # keeps the answer, so that no other gets its id
        return self._seen[key][1]

    def verdict(self, answer: Any, diagnosis_s: float = DIAGNOSIS_S) -> Verdict:
        """The verdict on an answer. diagnosis_s: 0 where only points matter, which is much quicker."""
        answer = as_answer(self.exercise, answer, self.plan.cases[0].case)
        observations = [self.ask(answer, ask) for ask in self.plan.asks]
        return judge(self.plan, observations, ask=self.ask, diagnosis_s=diagnosis_s)

    def passes(self, answer: Any) -> bool:
        """Whether an answer passes. Asks no further than its first fault, nor longer than any of our answers takes."""
        asks = [replace(ask, limit_s=min(ask.limit_s, self.LIMIT_S)) for ask in self.plan.asks]
        return not any(complaint_about(observe(answer, ask), self.truths, i) for i, ask in enumerate(asks))


_recent: dict[tuple[str, int], Checker] = {}


def checker(exercise: Exercise, seed: int = 0) -> Checker:
    """A Checker on small inputs, which consecutive tests share."""
    key = exercise.id, seed
    if key not in _recent:
        if len(_recent) >= 8:
            del _recent[next(iter(_recent))]
        _recent[key] = Checker(exercise, seed)
    return _recent[key]
