"""Asks the answers of one submission in the sandbox, and keeps what was observed whatever dies.

A session that hangs, dies or breaks the protocol is discarded. Whatever was running is to blame: that cell is left out,
or that exercise is over, and a new session continues with the rest. So each loss costs one cell or one exercise, and
their numbers bound the number of sessions.

Limits count processor time, so that neighbors do not matter; by the clock they are `PATIENCE` times as long. One
deadline holds for the whole submission. All but the grace are multiplied by the slowness of the machine.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from mi_course import wire
from mi_course.asking.limits import AFTER_TIME_OUT_S, slowness
from mi_course.exercises import Plan
from mi_course.grading import reaching
from mi_course.grading.library import library_functions
from mi_course.grading.sandbox import Lost, Sandbox, Session
from mi_course.judging.comparison import UNFIT, same
from mi_course.submission import SETUP_POSITION, Submission
from mi_course.wire import Ask, Call, Error, Observation, Ref, Reply

__all__ = ["CELL_S", "TOTAL_S", "Seen", "ask_all", "capped", "quoted", "shortened"]

CELL_S = 10.0
"""A cell that defines answers takes milliseconds; the long work of a lesson is recorded, and not repeated here."""
PATIENCE = 3.0
"""By the clock, something may take this many times its limit of processor time."""
GRACE_S = 4.0
"""How long a session may be silent beyond a limit that it enforces itself: it may be booting a model."""
TOTAL_S = 240.0
"""For one submission. What has not been asked by then has timed out."""
MAX_REPORTS = 200
"""Reports in one session, which are no replies."""
MAX_REASONS = 20
REASON_CHARACTERS = 400


@dataclass
class Seen:
    """What came of one submission in the sandbox."""

    observations: dict[str, list[Observation]] = field(default_factory=dict)
    """Exercise id -> one observation for each Ask that was reached. Absent: its name is not defined."""
    stopped: dict[int, str] = field(default_factory=dict)
    """Position of a cell -> why it stopped; 0 is the course's own setup."""
    late: set[int] = field(default_factory=set)
    """Positions of those that timed out."""
    lost: dict[str, str] = field(default_factory=dict)
    """Exercise id -> why asking it ended early."""
    reached: list[str] = field(default_factory=list)
    """What reached into the grader, in sentences."""
    own: list[str] = field(default_factory=list)
    """Exercises whose answer called the course's own implementation."""
    timed_out: bool = False
    waited: bool = False
    """Something timed out by the clock, with less processor time than its limit: others may be at fault."""
    sessions: int = 0

    @property
    def time_out(self) -> str:
        """As in `Marks.time_out`."""
        return "waiting" if self.waited else "computing" if self.timed_out else ""


class _Ended(Exception):
    """The process that answers has ended."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Conversation:
    """A session with the submission's deadline. Keeps the reports, which are no replies, out of the way."""

    def __init__(self, session: Session, seen: Seen, names: dict[str, str], deadline: float) -> None:
        self.session, self.seen, self.names, self.deadline = session, seen, names, deadline
        self.where, self.reports = "The course's setup", 0

    def receive(self, seconds: float, max_bytes: int = 2**20) -> Any:
        """The next reply. Raises Lost."""
        until = min(time.monotonic() + seconds, max(self.deadline, time.monotonic()) + 1.0)
        while True:
            message = self.session.receive(max(until - time.monotonic(), 0.001), max_bytes)
            if not (isinstance(message, dict) and ("reached" in message or set(message) == {"waited"})):
                return message
            self.reports += 1
            if self.reports > MAX_REPORTS:
                raise Lost("garbage", "it sent more than it was asked for")
            if "waited" in message:
                self.seen.waited = True
            else:
                self._note(message["reached"], message.get("name"))

    def _note(self, what: Any, name: Any) -> None:
        if what == "own" and isinstance(name, str) and name in self.names:
            id = self.names[name]
            if id not in self.seen.own:
                self.seen.own.append(id)
        elif isinstance(what, str) and what in reaching.WORDS:
            note = f"{self.where} reaches into the grader ({reaching.WORDS[what]})."
            if note not in self.seen.reached:
                self.seen.reached.append(note)


def ask_all(submission: Submission, plans: dict[str, Plan], sandbox: Sandbox, total_s: float = TOTAL_S) -> Seen:
    """Ask the answers all that the plans hold. Raises SandboxError only."""
    seen = Seen(reached=list(reaching.reaches(submission.cells)))
    own = {function: id for id, plan in plans.items() for function in library_functions().get(plan.exercise.name, ())}
    left = dict(plans)
    skip: dict[int, str] = {}
    deadline = time.monotonic() + total_s
    while left and seen.sessions <= len(submission.cells) + len(plans) + 2:
        seen.sessions += 1
        if time.monotonic() > deadline:
            break
        with sandbox.session() as session:
            conversation = _Conversation(session, seen, own, deadline)
            defined = _run_cells(conversation, submission, [plan.exercise.name for plan in left.values()], skip)
            if defined is None:
                if SETUP_POSITION in skip:
                    break
                continue
            for id in [id for id, plan in left.items() if plan.exercise.name not in defined]:
                del left[id]
            while left:
                id, plan = next(iter(left.items()))
                if time.monotonic() > deadline:
                    break
                del left[id]
                if not _ask(conversation, id, plan):
                    break
    for id, plan in left.items():
        if time.monotonic() > deadline:
            seen.observations[id] = [Observation(ask.id, (Reply(wire.TIMED_OUT),)) for ask in plan.asks]
            seen.lost[id] = "the time for the submission as a whole was over"
            seen.timed_out = seen.waited = True  # by the clock
        else:
            seen.observations[id] = [_died(ask.id, "the cells before it could not be run") for ask in plan.asks]
            seen.lost[id] = "the cells before it could not be run"
    seen.stopped.update(skip)
    return seen


def _run_cells(
    conversation: _Conversation, submission: Submission, names: list[str], skip: dict[int, str]
) -> set[str] | None:
    """The names that are defined afterwards. None: the session is lost, and `skip` names the cell to blame."""
    seen = conversation.seen
    cells = [[cell.position, cell.source] for cell in submission.cells if cell.position not in skip]
    at, known = SETUP_POSITION, {SETUP_POSITION, *(position for position, _ in cells)}
    stopped: dict[int, str] = {}
    cell_s = CELL_S * slowness()
    job = {"setup": list(submission.setup), "cells": cells, "cell_s": cell_s, "patience": PATIENCE, "names": names}
    try:
        conversation.session.send({**job, "withheld": list(conversation.names)})
        for _ in range(2 * (len(cells) + len(submission.setup)) + 1):
            message = conversation.receive(cell_s * PATIENCE + GRACE_S)
            if not isinstance(message, dict):
                raise Lost("garbage", "it sent what no cell sends")
            begun, failed = message.get("begin"), message.get("error")
            if type(begun) is int and begun in known:
                at = begun
                conversation.where = f"Cell {at}" if at else "The course's setup"
            elif type(failed) is int and failed in known:
                if message.get("late") is True:
                    stopped[failed] = f"it was still running after {cell_s:.3g} seconds."
                    seen.late.add(failed)
                    seen.timed_out = True
                    seen.waited |= message.get("waited") is not False
                else:
                    stopped[failed] = f"{quoted(str(message.get('message', '')))}."
            elif isinstance(message.get("ready"), list):
                seen.stopped.update(stopped)
                return {name for name in message["ready"] if isinstance(name, str)}
        raise Lost("garbage", "it began more cells than there are")
    except Lost as lost:
        if time.monotonic() >= conversation.deadline:
            return None  # the whole submission is late, and no cell is to blame
        skip[at] = _why(lost, cell_s, seen)
        if _is_late(lost):
            seen.late.add(at)
        return None


def _is_late(lost: Lost) -> bool:
    return lost.kind == "timed_out" or (lost.kind == "died" and signal.SIGXCPU.name in lost.reason)


def _why(lost: Lost, seconds: float, seen: Seen) -> str:
    if _is_late(lost):
        seen.timed_out = True
        seen.waited |= lost.kind == "timed_out"
        return f"it was still running after {seconds:.3g} seconds, and could not be interrupted."
    if lost.kind == "died":
        return f"it ended the process ({lost.reason})."
    return f"{lost.reason}."


def _ask(conversation: _Conversation, id: str, plan: Plan) -> bool:
    """Ask one exercise. Returns whether the session can continue."""
    seen, session = conversation.seen, conversation.session
    observations = seen.observations.setdefault(id, [])
    late = False
    current = plan.asks[0]
    conversation.where = plan.exercise.name
    used, then = _call_on_a_used_model(plan) or ("", None)

    def exchange(ask: Ask) -> Observation:
        session.send(ask)
        reply = conversation.receive(ask.limit_s * PATIENCE + GRACE_S, ask.max_reply_bytes + 4 * 2**20)
        if isinstance(reply, dict) and isinstance(reply.get("ended"), int):
            raise _Ended(reply["ended"])
        if not isinstance(reply, Observation) or reply.ask != ask.id:
            raise Lost("garbage", "its reply answers nothing that was asked")
        return reply

    try:
        session.send({"exercise": plan.exercise.name})
        for current in plan.asks:
            current = replace(current, limit_s=current.limit_s * slowness())
            ask = replace(current, limit_s=min(current.limit_s, AFTER_TIME_OUT_S)) if late else current
            if then and ask.id == used and not late:
                reply = exchange(replace(ask, calls=(*ask.calls, then), limit_s=2 * ask.limit_s))
                after, reply = reply.replies[len(ask.calls) :], _sanitized(reply, ask.calls)
                if after and _differ(after[0], exchange(Ask((then,), limit_s=ask.limit_s))):
                    first = replace(reply.replies[0], watched={**reply.replies[0].watched, "used_model": "differs"})
                    reply = replace(reply, replies=(first, *reply.replies[1:]))
            else:
                reply = _sanitized(exchange(ask), ask.calls)
            observations.append(reply)
            late = late or any(result.status == wire.TIMED_OUT for result in reply.replies)
            seen.timed_out |= late
            if len(observations) == 1 and reply.replies and reply.replies[0].status == wire.NOT_ATTEMPTED:
                observations += [replace(reply, ask=other.id) for other in plan.asks[1:]]
                break
        session.send(None)
        message = conversation.receive(GRACE_S)
        return isinstance(message, dict) and "ended" in message
    except _Ended as ended:
        how = session.describe_exit(ended.status)
        out_of_time = ended.status == -signal.SIGXCPU
        _rest(observations, plan, wire.TIMED_OUT if out_of_time else wire.DIED, how)
        why = _why(Lost("died", how), current.limit_s, seen).rstrip(".")
        seen.lost[id] = why if out_of_time else f"it ended its process ({how})"
        return True
    except Lost as lost:
        # If the session failed only after it had answered everything, its answers stand.
        if len(observations) < len(plan.asks):
            status = wire.TIMED_OUT if lost.kind == "timed_out" else wire.DIED
            _rest(observations, plan, status, lost.reason)
            seen.lost[id] = _why(lost, current.limit_s, seen).rstrip(".")
        return False


def _call_on_a_used_model(plan: Plan) -> tuple[str, Call] | None:
    """An Ask's id, and a call to make after its own, on the same model: one that another Ask makes, if there is one.

    Whether the model is left as it was is so seen from outside, in what that call returns. None if no call gets a model
    that it must leave as it was.
    """
    asks = [ask for ask in plan.asks if len(ask.calls) == 1 and ask.calls[0].driver == "call"]
    asks = [ask for ask in asks if "model" in ask.calls[0].watch and _models(ask.calls[0].args)]
    if not asks:
        return None
    used = _models(asks[0].calls[0].args)[0]
    for other in asks[1:]:
        found = _models(other.calls[0].args)
        if len({repr(one) for one in found}) == 1 and found[0].options.get("config") == used.options.get("config"):
            return asks[0].id, replace(other.calls[0], args=_with_model(other.calls[0].args, used), watch=())
    return asks[0].id, replace(asks[0].calls[0], watch=())


def _models(value: Any) -> list[Ref]:
    """The references to models in these arguments."""
    if isinstance(value, Ref):
        return [value] if value.kind == "model" else _models(value.options)
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in _models(item)] if isinstance(value, (list, tuple)) else []


def _with_model(value: Any, model: Ref) -> Any:
    """These arguments with this model in the place of theirs."""
    if isinstance(value, Ref):
        return model if value.kind == "model" else replace(value, options=_with_model(value.options, model))
    if isinstance(value, dict):
        return {key: _with_model(item, model) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_model(item, model) for item in value)
    return value


def _differ(reply: Reply, control: Observation) -> bool:
    """Whether both returned, and not the same. Tolerant: it is about a model that was changed."""
    other = control.replies[0] if control.replies else None
    if other is None or not reply.status == other.status == wire.RETURNED:
        return False
    with contextlib.suppress(*UNFIT):
        return not same(reply.value, other.value, rtol=1e-3, atol=1e-3)
    return False


def _rest(observations: list[Observation], plan: Plan, status: str, reason: str) -> None:
    """Add an Observation of this status for each Ask that has none."""
    for ask in plan.asks[len(observations) :]:
        observations.append(_died(ask.id, reason) if status == wire.DIED else Observation(ask.id, (Reply(status),)))


def _died(ask: str, reason: str) -> Observation:
    return Observation(ask, (Reply(wire.DIED, error=Error("Died", ("Died",), reason)),))


# ---------------------------------------------------------------------------------------------------------------------
# What is done to an Observation before it is judged


def _sanitized(observation: Observation, calls: tuple[Call, ...]) -> Observation:
    """Compare the arguments here, not in the sandbox, and make a learner's texts unable to pass for ours."""
    replies = [
        replace(reply, error=reply.error and _plain_error(reply.error), watched=_watched(reply.watched, call))
        for reply, call in zip(observation.replies, calls, strict=False)
    ]
    return replace(observation, replies=tuple(replies))


def _plain_error(error: Error) -> Error:
    kind = re.sub(r"\W", "_", error.kind)[:60] or "an_error"
    where = re.fullmatch(r"line (\d{1,7}) of (\w{1,60}|<[a-z]{1,20}>): (.*)", error.where[:400], re.DOTALL)
    place = f"line {where[1]} of {where[2]}: `{_one_line(where[3], 200)}`" if where else ""
    return replace(error, kind=kind, message=_one_line(error.message, 1000), where=place)


def _one_line(text: str, most: int) -> str:
    return " ".join(text[:most].replace("`", "'").split())


def quoted(text: str, most: int = 300) -> str:
    """A learner's text within a sentence of ours: on one line, in quotation marks that it cannot close."""
    flat = " ".join(text[:most].split()).replace("\u201c", "'").replace("\u201d", "'").rstrip(".")
    return f"\u201c{flat}{' ...' if len(text) > most else ''}\u201d"


def shortened(text: str) -> str:
    return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]} ..."


def capped(reasons: list[str]) -> list[str]:
    """The first reasons, each shortened, and how many more there are."""
    more = len(reasons) - MAX_REASONS
    return [shortened(text) for text in reasons[:MAX_REASONS]] + (
        [f"And {more:,} more reasons like these."] if more > 0 else []
    )


def _watched(watched: dict[str, Any], call: Call) -> dict[str, Any]:
    """The record with the paths of the arguments that have changed, or None where that is unknown."""
    if "arguments" not in call.watch or "arguments" not in watched:
        return watched
    record, paths = watched["arguments"], None
    if (
        isinstance(record, dict)
        and set(record) == {"differ", "now"}
        and all(isinstance(value, list) for value in record.values())
        and len(record["now"]) == len(call.args)
        and all(isinstance(path, str) for path in record["differ"])
    ):
        paths = []
        for i, (before, now) in enumerate(zip(call.args, record["now"], strict=True)):
            inside = [path[:60] for path in record["differ"] if path.startswith(f"[{i}]")]
            if inside or _holds_reference(before) or not (isinstance(now, list) and len(now) == 1):
                paths += inside
            else:
                paths += _differences(before, now[0], f"[{i}]")
    return {**watched, "arguments": paths and paths[:20]}


def _holds_reference(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Ref) or (isinstance(value, (list, tuple)) and any(map(_holds_reference, value)))


def _differences(before: Any, now: Any, path: str) -> list[str]:
    if isinstance(before, torch.Tensor):
        same_shape = isinstance(now, torch.Tensor) and now.shape == before.shape
        return [] if same_shape and torch.equal(before.nan_to_num(), now.to(before.dtype).nan_to_num()) else [path]
    if isinstance(before, (list, tuple)):
        if not isinstance(now, (list, tuple)) or len(now) != len(before):
            return [path]
        pairs = enumerate(zip(before, now, strict=True))
        return [difference for i, (b, n) in pairs for difference in _differences(b, n, f"{path}[{i}]")]
    if isinstance(before, dict):
        if not isinstance(now, dict) or set(now) != set(before):
            return [path]
        return [difference for key, b in before.items() for difference in _differences(b, now[key], f"{path}[{key!r}]")]
    return [] if before is None or before == now else [path]


def recorded_observations(plan: Plan, value: Any) -> list[Observation]:
    """A recorded value as the answer to every Ask of an outcome exercise."""
    return [Observation(ask.id, tuple(Reply(wire.RETURNED, wire.plain(value)) for _ in ask.calls)) for ask in plan.asks]
