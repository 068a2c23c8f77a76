"""Asks the answers of one submission in the sandbox, and keeps what was seen through any death.

A session that hangs, dies or talks nonsense is thrown away. What it was at is to blame: that cell is left out, or that
exercise is over, and a new session goes on with the rest. So each loss costs one cell or one exercise, and the number
of sessions is bounded by both.

Limits count processor time, so that neighbors do not matter, and by the clock they are `PATIENCE` times as long. One
deadline for the whole submission is handed down to everything.
"""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from mi_course import wire
from mi_course.asking.limits import AFTER_TIME_OUT_S
from mi_course.exercises import Plan
from mi_course.grading import reaching
from mi_course.grading.library import library_functions
from mi_course.grading.sandbox import Lost, Sandbox, Session
from mi_course.submission import SETUP_POSITION, Submission
from mi_course.wire import Call, Error, Observation, Ref, Reply

__all__ = ["CELL_S", "TOTAL_S", "Seen", "ask_all", "capped", "quoted"]

CELL_S = 10.0
"""A cell that defines answers takes milliseconds; the long work of a lesson is recorded, and not repeated here."""
PATIENCE = 3.0
"""How many times its limit of processor time something may take by the clock."""
GRACE_S = 4.0
"""How long a session may be silent beyond a limit that it should have kept itself: it may be booting a model."""
TOTAL_S = 240.0
"""For one submission. What is not asked by then has timed out."""
MOST_REPORTS = 200
"""Messages that answer nothing, of one session at a time."""
MOST_REASONS = 20
REASON_CHARACTERS = 400


@dataclass
class Seen:
    """What came of one submission in the sandbox."""

    observations: dict[str, list[Observation]] = field(default_factory=dict)
    """Exercise id -> one observation for each Ask that was reached. Absent: its name is not defined."""
    stopped: dict[int, str] = field(default_factory=dict)
    """Position of a cell -> why it stopped; 0 is the course's own setup."""
    lost: dict[str, str] = field(default_factory=dict)
    """Exercise id -> why asking it ended early."""
    reached: list[str] = field(default_factory=list)
    """What reached into the grader, in sentences."""
    own: list[str] = field(default_factory=list)
    """Exercises whose answer called the course's own implementation."""
    timed_out: bool = False
    waited: bool = False
    """Something timed out by the clock, having had less of the processor than its limit: others may be at fault."""
    sessions: int = 0

    @property
    def time_out(self) -> str:
        """As in `Marks.time_out`."""
        return "waiting" if self.waited else "computing" if self.timed_out else ""


class _Line:
    """A session and the submission's deadline. Sorts out the messages that answer nothing."""

    def __init__(self, session: Session, seen: Seen, names: dict[str, str], deadline: float) -> None:
        self.session, self.seen, self.names, self.deadline = session, seen, names, deadline
        self.where, self.reports = "The course's setup", 0

    def receive(self, seconds: float, most: int = 2**20) -> Any:
        """Raises Lost."""
        until = min(time.monotonic() + seconds, max(self.deadline, time.monotonic()) + 1.0)
        while True:
            message = self.session.receive(max(until - time.monotonic(), 0.001), most)
            if not (isinstance(message, dict) and ("reached" in message or set(message) == {"waited"})):
                return message
            self.reports += 1
            if self.reports > MOST_REPORTS:
                raise Lost("garbage", "it said more than was asked")
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
    """Asks every exercise in `plans` what its plan asks. Raises SandboxError only."""
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
            line = _Line(session, seen, own, deadline)
            defined = _run_cells(line, submission, [plan.exercise.name for plan in left.values()], skip)
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
                if not _ask(line, id, plan):
                    break
    for id, plan in left.items():
        if time.monotonic() > deadline:
            seen.observations[id] = [Observation(ask.id, (Reply(wire.TIMED_OUT),)) for ask in plan.asks]
            seen.lost[id] = "the time for the submission as a whole was over"
            seen.timed_out = True
        else:
            seen.observations[id] = [_died(ask.id, "the cells before it could not be run") for ask in plan.asks]
            seen.lost[id] = "the cells before it could not be run"
    seen.stopped.update(skip)
    return seen


def _run_cells(line: _Line, submission: Submission, names: list[str], skip: dict[int, str]) -> set[str] | None:
    """The names that are defined afterwards. None: the session is lost, and `skip` names the cell to blame."""
    seen = line.seen
    cells = [[cell.position, cell.source] for cell in submission.cells if cell.position not in skip]
    at, known = SETUP_POSITION, {SETUP_POSITION, *(position for position, _ in cells)}
    stopped: dict[int, str] = {}
    job = {"setup": list(submission.setup), "cells": cells, "cell_s": CELL_S, "patience": PATIENCE, "names": names}
    try:
        line.session.send({**job, "withheld": list(line.names)})
        for _ in range(2 * (len(cells) + len(submission.setup)) + 1):
            message = line.receive(CELL_S * PATIENCE + GRACE_S)
            if not isinstance(message, dict):
                raise Lost("garbage", "it said what no cell says")
            begun, failed = message.get("begin"), message.get("error")
            if type(begun) is int and begun in known:
                at = begun
                line.where = f"Cell {at}" if at else "The course's setup"
            elif type(failed) is int and failed in known:
                text = str(message.get("message", ""))
                late = text == _STILL.format(CELL_S)
                stopped[failed] = text if late else f"{quoted(text)}."
                seen.timed_out |= late
                seen.waited |= late and message.get("waited") is not False
            elif isinstance(message.get("ready"), list):
                seen.stopped.update(stopped)
                return {name for name in message["ready"] if isinstance(name, str)}
        raise Lost("garbage", "it began more cells than there are")
    except Lost as lost:
        if time.monotonic() >= line.deadline:
            seen.timed_out = True  # all of the submission is late, and no cell to blame
            return None
        skip[at] = _why(lost, CELL_S, seen)
        return None


_STILL = "it was still running after {:g} seconds."


def _why(lost: Lost, seconds: float, seen: Seen) -> str:
    if lost.kind == "timed_out" or signal.SIGXCPU.name in lost.reason:
        seen.timed_out = True
        seen.waited |= lost.kind == "timed_out"
        return f"it was still running after {seconds:g} seconds, and could not be interrupted."
    if lost.kind == "died":
        return f"it ended the process ({lost.reason})."
    return f"{lost.reason}."


def _ask(line: _Line, id: str, plan: Plan) -> bool:
    """Asks one exercise. Returns whether the session can go on."""
    seen, session = line.seen, line.session
    found: list[Observation] = seen.observations.setdefault(id, [])
    late = False
    current = plan.asks[0]
    line.where = plan.exercise.name
    try:
        session.send({"exercise": plan.exercise.name})
        for current in plan.asks:
            ask = replace(current, limit_s=min(current.limit_s, AFTER_TIME_OUT_S)) if late else current
            session.send(ask)
            reply = line.receive(ask.limit_s * PATIENCE + GRACE_S, ask.max_reply_bytes + 4 * 2**20)
            if isinstance(reply, dict) and isinstance(reply.get("ended"), int):
                how = session.describe_exit(reply["ended"])
                out_of_time = reply["ended"] == -signal.SIGXCPU
                seen.timed_out |= out_of_time
                _rest(found, plan, wire.TIMED_OUT if out_of_time else wire.DIED, how)
                seen.lost[id] = (
                    _why(Lost("died", how), current.limit_s, seen).rstrip(".")
                    if out_of_time
                    else f"it ended its process ({how})"
                )
                return True
            if not isinstance(reply, Observation) or reply.ask != ask.id:
                raise Lost("garbage", "its reply is to nothing that was asked")
            reply = _at_the_door(reply, ask.calls)
            found.append(reply)
            late = late or any(one.status == wire.TIMED_OUT for one in reply.replies)
            seen.timed_out |= late
            if len(found) == 1 and reply.replies and reply.replies[0].status == wire.NOT_ATTEMPTED:
                found += [replace(reply, ask=other.id) for other in plan.asks[1:]]
                break
        session.send(None)
        message = line.receive(GRACE_S)
        return isinstance(message, dict) and "ended" in message
    except Lost as lost:
        # All was answered, and only then the session went wrong: what was answered stands.
        if len(found) < len(plan.asks):
            status = wire.TIMED_OUT if lost.kind == "timed_out" else wire.DIED
            _rest(found, plan, status, lost.reason)
            seen.lost[id] = _why(lost, current.limit_s, seen).rstrip(".")
        return False


def _rest(found: list[Observation], plan: Plan, status: str, reason: str) -> None:
    for ask in plan.asks[len(found) :]:
        found.append(_died(ask.id, reason) if status == wire.DIED else Observation(ask.id, (Reply(status),)))


def _died(ask: str, reason: str) -> Observation:
    return Observation(ask, (Reply(wire.DIED, error=Error("Died", ("Died",), reason)),))


# ---------------------------------------------------------------------------------------------------------------------
# What is done to an observation before anybody reads it


def _at_the_door(observation: Observation, calls: tuple[Call, ...]) -> Observation:
    """Arguments are compared here, not where they were; texts of a learner's cannot pass for ours."""
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
    """A learner's text within a sentence of ours: on one line, in marks that it cannot close."""
    flat = " ".join(text[:most].split()).replace("\u201c", "'").replace("\u201d", "'").rstrip(".")
    return f"\u201c{flat}{' ...' if len(text) > most else ''}\u201d"


def capped(reasons: list[str]) -> list[str]:
    """The first of them, none of them long."""
    more = len(reasons) - MOST_REASONS
    kept = [one if len(one) <= REASON_CHARACTERS else f"{one[:REASON_CHARACTERS]} ..." for one in reasons]
    return kept[:MOST_REASONS] + ([f"And {more:,} more reasons like these."] if more > 0 else [])


def _watched(watched: dict[str, Any], call: Call) -> dict[str, Any]:
    """With the paths of those arguments that are not what they were, or None where that could not be seen."""
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
        alike = isinstance(now, torch.Tensor) and now.shape == before.shape
        return [] if alike and torch.equal(before.nan_to_num(), now.to(before.dtype).nan_to_num()) else [path]
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


def claimed(plan: Plan, value: Any) -> list[Observation]:
    """A recorded value as the answer to every Ask of an outcome exercise."""
    return [Observation(ask.id, tuple(Reply(wire.RETURNED, wire.plain(value)) for _ in ask.calls)) for ask in plan.asks]
