"""Compares observations with the truth, and names the mistake.

    plan = exercise.plan(seed)
    observations = [run(ask) for ask in plan.asks]          # in the notebook, or in a sandbox
    verdict = judge(plan, observations, ask=observe)        # never runs the learner's code

`ask(answer, ask) -> Observation` runs only code of ours: the oracle, and each mistake's `implementation`. Within one
verdict each of these is asked each Ask at most once, and only if the verdict depends on it.

Half precision: an answer in float16 or bfloat16 passes if it agrees within the case's tolerance, as whole numbers
do. Otherwise it is wrong, since its two to four digits do not tell a right answer from a nearly right one. If it is
right to its own precision, or is judged by properties, the message says so and asks for float32, and no mistake is
named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mi_course.exercises import Case, Complaint, Exercise, PartResult, Plan, Verdict
from mi_course.judging.cases import Asker, Truths, complaint_about
from mi_course.judging.comparison import compare, degenerate, same, say
from mi_course.judging.diagnosis import name_mistake
from mi_course.wire import Observation, Ref

__all__ = ["Asker", "Truths", "compare", "complaint_about", "degenerate", "judge", "same"]

DIAGNOSIS_S = 3.0
"""Processor time that naming the mistake may take, once the answer is known to be wrong. (By the clock, a busy machine
would name fewer mistakes than an idle one.)"""


def judge(plan: Plan, observations: Sequence[Observation], ask: Asker, diagnosis_s: float = DIAGNOSIS_S) -> Verdict:
    """The verdict on one exercise.

    observations: one for each Ask of the plan, matched by id. The first for an Ask counts; an Ask without one is lost,
        and anything else in the list is ignored.
    diagnosis_s: processor time for naming the mistake; 0 names none but those that a case's judge recognizes.

    Raises RuntimeError if the oracle fails, TypeError if a case has no truth: faults of the exercise.
    """
    exercise = plan.exercise
    by_ask = {seen.ask: seen for seen in reversed(list(observations)) if isinstance(seen, Observation)}
    paired = [by_ask.get(planned.ask.id, Observation(planned.ask.id, ())) for planned in plan.cases]
    truths = Truths(plan, ask)
    complaints = _complaints(plan, paired, truths)

    details = _details(plan, complaints)
    if not any(complaints):
        return _verdict(exercise, "passed", details, _praise(exercise))
    status = _status(complaints)
    worst, complaint = _worst(complaints, status)
    mistake, message = None, complaint.message
    if status == "not_attempted":
        message = f"Not attempted yet: {_what_to_write(exercise)}, then run this cell again."
    else:
        named = name_mistake(plan, paired, complaints, truths, ask, diagnosis_s)
        if named:
            mistake, message = named.name, named.message
        else:
            message += _input(plan.cases[worst].case, exercise)
    message = message[:1].upper() + message[1:_LONGEST]
    return _verdict(exercise, status, details, message, mistake=mistake, printed=paired[worst].printed[:_LONGEST])


def _complaints(plan: Plan, observations: Sequence[Observation], truths: Truths) -> list[Complaint | None]:
    """One for each case, or None.

    Once a part is lost to a wrong value, the verdict does not depend on its other cases that are compared with a truth:
    they get the same complaint, and their truth is not computed.
    """
    complaints: list[Complaint | None] = []
    lost: dict[int, Complaint] = {}
    for i, (planned, observation) in enumerate(zip(plan.cases, observations, strict=True)):
        part = id(planned.part)
        if part in lost and planned.case.judge is None:
            complaints.append(lost[part])
            continue
        complaint = complaint_about(observation, truths, i)
        complaints.append(complaint)
        returned = any(reply.returned for reply in observation.replies)
        if complaint and returned and complaint.kind not in (*_UNFINISHED, "tidiness", "precision"):
            lost.setdefault(part, complaint)
    return complaints


_LONGEST = 4000
"""Characters of a message, or of what was printed: a forged observation may hold long ones."""


def _verdict(exercise: Exercise, status: str, details: tuple[PartResult, ...], message: str, **rest: Any) -> Verdict:
    earned = sum(part.earned for part in details)
    return Verdict(exercise.id, exercise.revision, status, earned, exercise.points, message, details=details, **rest)


def _input(case: Case, exercise: Exercise) -> str:
    """What the answer was asked with: in the case's words, and the arguments of a case with a single call."""
    about = f"\n\nAsked with {case.about}" if case.about else ""
    if len(case.calls) != 1 or exercise.kind != "function":
        return f"{about}." if about else ""
    shown = [
        f"`{name}` = {say(arg)}" if not isinstance(arg, Ref) else f"`{name}`: {_REFERENCES.get(arg.kind, arg.kind)}"
        for name, arg in zip(exercise.parameters, case.calls[0].args, strict=False)
    ]
    return f"{about or f'{chr(10) * 2}Asked'}{' (' if about else ' with '}{', '.join(shown)}{')' if about else ''}."


_REFERENCES = {
    "model": "a small model",
    "cache": "its cache",
    "hook": "a hook point",
    "optimizer": "its optimizer",
    "function": "a function",
    "sae": "an autoencoder",
    "layout": "where things stand",
}


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
    # Otherwise the first of these; where some cases are not attempted and the others right, the answer is wrong.
    return next((kind for kind in kinds if kind != "not_attempted"), "wrong")


def _worst(complaints: Sequence[Complaint | None], status: str) -> tuple[int, Complaint]:
    """The complaint that the message is about, and its case: the first that makes the status what it is."""
    numbered = [(i, complaint) for i, complaint in enumerate(complaints) if complaint]
    fitting = (pair for pair in numbered if pair[1].kind == status or pair[1].kind not in _UNFINISHED)
    return next(fitting, numbered[0])


def _details(plan: Plan, complaints: Sequence[Complaint | None]) -> tuple[PartResult, ...]:
    results = []
    for part in plan.exercise.parts:
        of_part = [complaint for planned, complaint in zip(plan.cases, complaints, strict=True) if planned.part is part]
        first = next(filter(None, of_part), None)
        earned = part.points if of_part and first is None else 0
        results.append(PartResult(part.name, part.points, earned, first.message[:_LONGEST] if first else ""))
    return tuple(results)
