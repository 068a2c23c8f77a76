"""Names the mistake: which wrong answer gives exactly what was seen?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mi_course.exercises import Case, Complaint, Exercise, Mistake, Plan
from mi_course.judging.cases import Asker, Truths
from mi_course.judging.comparison import UNFIT, compare_error, degenerate, same
from mi_course.wire import Observation, Reply

__all__ = ["name_mistake"]


def name_mistake(
    plan: Plan,
    observations: Sequence[Observation],
    complaints: Sequence[Complaint | None],
    truths: Truths,
    ask: Asker,
    seconds: float,
) -> Mistake | None:
    """The first of the exercise's mistakes that explains the observations; None if none does within `seconds`."""
    exercise = plan.exercise
    by_judge = next((c.mistake for c in complaints if c and c.mistake), None)
    if by_judge:
        return next((m for m in exercise.mistakes if m.name == by_judge), None)
    # Where only tidiness or precision is at fault, the values are right: no other implementation explains them.
    values_are_right = all(c is None or c.kind in ("tidiness", "precision") for c in complaints)
    # A detector looks at the first faulty case that returned. In a later one it might see the lesser of two faults.
    faulty = (
        (planned.case, observation)
        for planned, observation, complaint in zip(plan.cases, observations, complaints, strict=True)
        if complaint and complaint.kind != "precision" and any(reply.returned for reply in observation.replies)
    )
    first_faulty = next(faulty, None)
    deadline = time.thread_time() + seconds
    for mistake in exercise.mistakes:
        if time.thread_time() > deadline:
            return None
        if mistake.detect is not None:
            if first_faulty and _detects(mistake.detect, *first_faulty):
                return mistake
        elif not values_are_right and _reproduces(mistake, plan, observations, truths, ask, deadline):
            return mistake
    return None


def _detects(detect: Callable[[Case, Observation], bool], case: Case, observation: Observation) -> bool:
    try:
        return bool(detect(case, observation))
    except UNFIT:
        return False  # a value of a form that it does not expect


def _reproduces(
    mistake: Mistake, plan: Plan, observations: Sequence[Observation], truths: Truths, ask: Asker, deadline: float
) -> bool:
    """Whether its implementation gives what the answer gave in every case that returned, and once not the truth."""
    differs = False
    for i, (planned, observation) in enumerate(zip(plan.cases, observations, strict=True)):
        case = planned.case
        calls = list(zip(case.calls, observation.replies, strict=False))
        if case.judge is not None or not any(reply.returned for _, reply in calls):
            continue
        if time.thread_time() > deadline:
            return False
        wrong = ask(_answer(mistake, plan.exercise, case), planned.ask).replies
        for j, (call, reply) in enumerate(calls):
            if not reply.returned:
                continue
            if j >= len(wrong) or not wrong[j].returned or not _agree(call.driver, reply, wrong[j], case):
                return False
            differs = differs or _is_telling(mistake, call.driver, wrong[j], truths[i][j], case)
    return differs


def _answer(mistake: Mistake, exercise: Exercise, case: Case) -> Any:
    """The wrong answer. For a value exercise it may be a function that makes it from the case."""
    made = exercise.kind == "value" and callable(mistake.implementation)
    return mistake.implementation(case) if made else mistake.implementation


def _agree(driver: str, reply: Reply, wrong: Reply, case: Case) -> bool:
    if driver == "expects_error":
        return compare_error(reply.value, wrong.value) is None
    return same(reply.value, wrong.value, rtol=case.rtol, atol=case.atol)


def _is_telling(mistake: Mistake, driver: str, wrong: Reply, truth: Reply, case: Case) -> bool:
    """Whether this reply shows the mistake: neither the truth nor what any broken answer gives."""
    if driver == "expects_error":
        return compare_error(wrong.value, truth.value) is not None
    if degenerate(wrong.value) and not mistake.degenerate:
        return False
    return not same(wrong.value, truth.value, rtol=case.rtol, atol=case.atol)
