"""Holds observations against the truth, and names the mistake.

    plan = exercise.plan(seed)
    observations = [run(ask) for ask in plan.asks]          # in the notebook, or in a sandbox
    verdict = judge(plan, observations, ask=observe)        # never runs the learner's code

`ask(answer, ask) -> Observation` runs code of ours only: the oracle, and each mistake's `implementation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mi_course.exercises import Complaint, Exercise, PartResult, Plan, Verdict
from mi_course.judging.cases import Asker, Truths, complaint_about
from mi_course.judging.comparison import compare, degenerate, same
from mi_course.judging.diagnosis import name_mistake
from mi_course.wire import Observation

__all__ = ["compare", "degenerate", "judge", "same"]

DIAGNOSIS_SECONDS = 3.0
"""Processor time that naming the mistake may take, once the answer is known not to be right. (By the clock, a busy
machine would find fewer names than a quiet one.)"""


def judge(
    plan: Plan, observations: Sequence[Observation], ask: Asker, diagnosis_s: float = DIAGNOSIS_SECONDS
) -> Verdict:
    """The verdict on one exercise. observations: one for each Ask of the plan, in order; others are counted as lost."""
    exercise = plan.exercise
    # The first reply to an Ask counts; what answers another Ask, or is no observation, is ignored.
    seen = {one.ask: one for one in reversed(list(observations)) if isinstance(one, Observation)}
    found = [seen.get(planned.ask.id, Observation(planned.ask.id, ())) for planned in plan.cases]
    truths = Truths(plan, ask)
    paired = zip(plan.cases, found, strict=True)
    complaints = [complaint_about(planned.case, obs, truths, i) for i, (planned, obs) in enumerate(paired)]

    details = _details(plan, complaints)
    failed = [i for i, complaint in enumerate(complaints) if complaint]
    if not failed:
        return _verdict(exercise, "passed", details, _praise(exercise))
    status = _status(complaints)
    worst = _worst(complaints, status)
    mistake, message = None, complaints[worst].message
    if status == "not_attempted":
        message = f"Not attempted yet: {_what_to_write(exercise)}, then run this cell again."
    else:
        named = name_mistake(plan, found, complaints, truths, ask, diagnosis_s)
        if named:
            mistake, message = named.name, named.message
        elif status == "wrong":
            about = plan.cases[worst].case.about
            message += f"\n\nAsked with {about}." if about else ""
    message = message[:1].upper() + message[1:_LONGEST]
    return _verdict(exercise, status, details, message, mistake=mistake, printed=found[worst].printed[:_LONGEST])


_LONGEST = 4000
"""Characters of a message, or of what was printed: whoever forges an observation may make them long."""


def _verdict(exercise: Exercise, status: str, details: tuple[PartResult, ...], message: str, **rest: Any) -> Verdict:
    earned = sum(part.earned for part in details)
    return Verdict(exercise.id, exercise.revision, status, earned, exercise.points, message, details=details, **rest)


def _praise(exercise: Exercise) -> str:
    parts = {1: "every case", 2: "both parts"}.get(len(exercise.parts), f"all {len(exercise.parts)} parts")
    return f"Right in {parts}."


def _what_to_write(exercise: Exercise) -> str:
    return f"write `{exercise.name}`" if exercise.kind == "function" else f"set `{exercise.name}`"


_UNFINISHED = ("crashed", "timed_out", "not_attempted")


def _status(complaints: Sequence[Complaint | None]) -> str:
    kinds = [complaint.kind for complaint in complaints if complaint]
    if all(complaint and complaint.kind == "not_attempted" for complaint in complaints):
        return "not_attempted"
    if any(kind not in _UNFINISHED for kind in kinds):
        return "wrong"
    # Of these the first; where some cases are not attempted and the others right, the answer is wrong.
    return next((kind for kind in kinds if kind != "not_attempted"), "wrong")


def _worst(complaints: Sequence[Complaint | None], status: str) -> int:
    """The complaint that the message is about: the first that makes the status what it is."""
    fits = [i for i, c in enumerate(complaints) if c and (c.kind == status or c.kind not in _UNFINISHED)]
    return fits[0] if fits else next(i for i, c in enumerate(complaints) if c)


def _details(plan: Plan, complaints: Sequence[Complaint | None]) -> tuple[PartResult, ...]:
    results = []
    for part in plan.exercise.parts:
        own = [c for planned, c in zip(plan.cases, complaints, strict=True) if planned.part is part]
        bad = next((c for c in own if c), None)
        earned = part.points if own and bad is None else 0
        results.append(PartResult(part.name, part.points, earned, bad.message[:_LONGEST] if bad else ""))
    return tuple(results)
