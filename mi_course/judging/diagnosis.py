"""Naming the mistake: which wrong answer gives just what was seen?"""

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
    found: Sequence[Observation],
    complaints: Sequence[Complaint | None],
    truths: Truths,
    ask: Asker,
    seconds: float,
) -> Mistake | None:
    exercise = plan.exercise
    by_judge = next((c.mistake for c in complaints if c and c.mistake), None)
    if by_judge:
        return next((m for m in exercise.mistakes if m.name == by_judge), None)
    # Where the values are right and only tidiness is at fault, no other implementation can tell what is wrong.
    only_untidy = all(c is None or c.kind == "tidiness" for c in complaints)
    deadline = time.thread_time() + seconds
    for mistake in exercise.mistakes:
        if time.thread_time() > deadline:
            return None
        if mistake.detect is not None:
            # A sign in a later case alone would name the lesser of two faults, and call the rest right.
            bad = zip(plan.cases, found, complaints, strict=True)
            told = ((p.case, o) for p, o, c in bad if c and any(reply.returned for reply in o.replies))
            first = next(told, None)
            if first and _shows(mistake.detect, *first):
                return mistake
        elif not only_untidy and _reproduces(mistake, plan, found, truths, ask, deadline):
            return mistake
    return None


def _shows(sign: Callable[[Case, Observation], bool], case: Case, observation: Observation) -> bool:
    try:
        return bool(sign(case, observation))
    except UNFIT:
        return False  # a value of a form that the sign does not expect does not bear it


def _reproduces(
    mistake: Mistake, plan: Plan, found: Sequence[Observation], truths: Truths, ask: Asker, deadline: float
) -> bool:
    """Whether `wrong` gives what the answer gave wherever that returned a value, and differs from the truth."""
    telling = False
    for i, (planned, observation) in enumerate(zip(plan.cases, found, strict=True)):
        case = planned.case
        if case.judge is not None:
            continue
        returned = [
            (call, reply) for call, reply in zip(case.calls, observation.replies, strict=False) if reply.returned
        ]
        if not returned:
            continue
        if time.thread_time() > deadline:
            return False
        wrong = ask(_answer(mistake, plan.exercise, case), planned.ask).replies
        for j, (call, reply) in enumerate(zip(case.calls, observation.replies, strict=False)):
            if not reply.returned:
                continue
            if j >= len(wrong) or not wrong[j].returned:
                return False
            if not _alike(call.driver, reply, wrong[j], case):
                return False
            telling = telling or _tells(mistake, call.driver, wrong[j], truths[i][j], case)
    return telling


def _answer(mistake: Mistake, exercise: Exercise, case: Case) -> Any:
    """The wrong answer itself; for a value exercise it may be made from the case."""
    return (
        mistake.implementation(case)
        if exercise.kind == "value" and callable(mistake.implementation)
        else mistake.implementation
    )


def _alike(driver: str, reply: Reply, wrong: Reply, case: Case) -> bool:
    if driver == "expects_error":
        return compare_error(reply.value, wrong.value) is None
    return same(reply.value, wrong.value, rtol=case.rtol, atol=case.atol)


def _tells(mistake: Mistake, driver: str, wrong: Reply, truth: Reply, case: Case) -> bool:
    """Whether this case shows the mistake: its value is neither the truth nor something any broken answer gives."""
    if driver == "expects_error":
        return compare_error(wrong.value, truth.value) is not None
    return (mistake.degenerate or not degenerate(wrong.value)) and not same(
        wrong.value, truth.value, rtol=case.rtol, atol=case.atol
    )
