"""One case: what was observed, held against its truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mi_course import wire
from mi_course.exercises import Case, Complaint, Exercise, Plan
from mi_course.judging.comparison import UNFIT, compare, compare_error, say
from mi_course.judging.tidiness import tidy
from mi_course.wire import Ask, Observation, Reply

__all__ = ["Asker", "Truths", "complaint_about"]

Asker = Callable[[Any, Ask], Observation]


class Truths:
    """The expected replies of each case, found when they are needed and kept."""

    def __init__(self, plan: Plan, ask: Asker) -> None:
        self.plan, self.ask, self.known = plan, ask, {}

    def __getitem__(self, i: int) -> Sequence[Reply]:
        if i not in self.known:
            self.known[i] = self._find(i)
        return self.known[i]

    def _find(self, i: int) -> Sequence[Reply]:
        planned, exercise = self.plan.cases[i], self.plan.exercise
        truth = planned.case.truth
        if truth is not None:
            values = truth() if callable(truth) else truth
            return [Reply(wire.RETURNED, wire.plain(value)) for value in values]
        if exercise.oracle is None:
            raise TypeError(f"{exercise.id}: a case has no truth and no judge, and the exercise has no oracle")
        replies = self.ask(exercise.oracle, planned.ask).replies
        for reply in replies:
            if not reply.returned:
                raise RuntimeError(f"{exercise.id}: the oracle itself came to {reply.status} ({reply.error}) in a case")
        return replies


def complaint_about(case: Case, observation: Observation, truths: Truths, i: int) -> Complaint | None:
    for call_index, _call in enumerate(case.calls):
        if call_index >= len(observation.replies):
            return Complaint("The answer's process ended before it replied.", "crashed")
        if trouble := _trouble(observation.replies[call_index], case):
            return trouble
    if case.judge is not None:
        return _judged(case, observation, truths.plan.exercise) or tidy(case, observation)
    for call, reply, truth in zip(case.calls, observation.replies, truths[i], strict=False):
        if call.driver == "expects_error":
            problem = compare_error(reply.value, truth.value)
        else:
            problem = compare(reply.value, truth.value, rtol=case.rtol, atol=case.atol)
        if problem:
            return problem
    return tidy(case, observation, truths[i])


def _judged(case: Case, observation: Observation, exercise: Exercise) -> Complaint | None:
    try:
        return _in_full(case.judge(case, observation), exercise)
    except UNFIT:
        seen = ", ".join(say(reply.value) for reply in observation.replies[:3])
        return Complaint(f"The answer, {seen}, is not of the form that is asked for: {exercise.task}", "type")


def _in_full(complaint: Complaint | None, exercise: Exercise) -> Complaint | None:
    """A judge that recognises a mistake gives its name only; the words are the mistake's."""
    if complaint is None or complaint.mistake is None:
        return complaint
    message = next(mistake.message for mistake in exercise.mistakes if mistake.name == complaint.mistake)
    return replace(complaint, message=message)


def _trouble(reply: Reply, case: Case) -> Complaint | None:
    if reply.returned:
        return None
    error = reply.error
    if reply.status == wire.NOT_ATTEMPTED:
        return Complaint("Here it still holds `...`, or raises NotImplementedError.", "not_attempted")
    if reply.status == wire.TIMED_OUT:
        return Complaint(
            f"It was still running after {case.limit_s:g} seconds. Look for a loop that never ends, or one over "
            "elements that a tensor operation could do at once.",
            "timed_out",
        )
    if reply.status == wire.UNSENDABLE:
        return Complaint(
            f"{error.message[:1].upper()}{error.message[1:]}." if error else "The value cannot be checked.", "type"
        )
    if reply.status == wire.DIED:
        return Complaint(f"It ended its process: {error.message if error else 'no reason is known'}.", "crashed")
    where = f" at {error.where}" if error and error.where else ""
    kind, text = (error.kind, error.message) if error else ("an error", "")
    return Complaint(f"It raised {kind}{where}\n\n`{text}`" if text else f"It raised {kind}{where}.", "crashed")
