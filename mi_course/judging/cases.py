"""Compares what was observed in one case with its truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mi_course import wire
from mi_course.exercises import Case, Complaint, Exercise, Plan
from mi_course.judging.comparison import UNFIT, compare, compare_error, is_half, say
from mi_course.judging.tidiness import tidy
from mi_course.wire import Ask, Observation, Reply

__all__ = ["Asker", "Truths", "complaint_about"]

Asker = Callable[[Any, Ask], Observation]


class Truths:
    """The expected replies to each case of a plan, computed when they are first needed."""

    def __init__(self, plan: Plan, ask: Asker) -> None:
        self.plan, self.ask = plan, ask
        self._known: dict[int, Sequence[Reply]] = {}

    def __getitem__(self, i: int) -> Sequence[Reply]:
        if i not in self._known:
            self._known[i] = self._compute(i)
        return self._known[i]

    def _compute(self, i: int) -> Sequence[Reply]:
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


def complaint_about(observation: Observation, truths: Truths, i: int) -> Complaint | None:
    """What is wrong with the observation of case `i` of the plan; None if it is right."""
    case, names = truths.plan.cases[i].case, truths.plan.exercise.parameters
    for reply in observation.replies[: len(case.calls)]:
        if problem := _not_returned(reply, case):
            return problem
    if len(observation.replies) < len(case.calls):
        return Complaint("The answer's process ended before it replied.", "crashed")
    if case.judge is not None:
        return _judged(case, observation, truths.plan.exercise) or tidy(case, observation, names=names)
    for call, reply, truth in zip(case.calls, observation.replies, truths[i], strict=False):
        if call.driver == "expects_error":
            problem = compare_error(reply.value, truth.value)
        else:
            problem = compare(reply.value, truth.value, rtol=case.rtol, atol=case.atol)
        if problem:
            return problem
    return tidy(case, observation, truths[i], names)


def _judged(case: Case, observation: Observation, exercise: Exercise) -> Complaint | None:
    assert case.judge is not None
    try:
        complaint = case.judge(case, observation)
    except UNFIT:
        seen = ", ".join(say(reply.value) for reply in observation.replies[:3])
        return Complaint(f"The answer, {seen}, does not have the form that is asked for: {exercise.task}", "type")
    if complaint is None:
        return None
    halves = [t for reply in observation.replies for t in wire.tensors_in(reply.value) if is_half(t)]
    if halves:
        return Complaint(
            f"The result is in {str(halves[0].dtype).removeprefix('torch.')}, which keeps too few digits to tell a "
            "right answer from a nearly right one. Return float32.",
            "precision",
        )
    return _with_message(complaint, exercise)


def _with_message(complaint: Complaint, exercise: Exercise) -> Complaint:
    """A judge that recognizes a mistake gives only its name; the message is the mistake's."""
    if complaint.mistake is None:
        return complaint
    message = next(mistake.message for mistake in exercise.mistakes if mistake.name == complaint.mistake)
    return replace(complaint, message=message)


def _not_returned(reply: Reply, case: Case) -> Complaint | None:
    if reply.returned:
        return None
    error = reply.error
    if reply.status == wire.NOT_ATTEMPTED:
        return Complaint("For this input it returns `...` or raises NotImplementedError.", "not_attempted")
    if reply.status == wire.TIMED_OUT:
        return Complaint(
            f"It was still running after {case.limit_s:g} seconds (up to four times as many on a slow machine). "
            "Look for a loop that never ends, or a loop over elements that one tensor operation could replace. If it "
            "is compiled (`torch.compile`), compiling takes the time: leave that out.",
            "timed_out",
        )
    if reply.status == wire.UNSENDABLE:
        return Complaint(
            f"{error.message[:1].upper()}{error.message[1:]}." if error else "The value cannot be checked.", "type"
        )
    if reply.status == wire.DIED:
        return Complaint(f"It ended its process: {error.message if error else 'reason unknown'}.", "crashed")
    where = f" at {error.where}" if error and error.where else ""
    kind, text = (error.kind, error.message) if error else ("an error", "")
    return Complaint(f"It raised {kind}{where}\n\n`{text}`" if text else f"It raised {kind}{where}.", "crashed")
