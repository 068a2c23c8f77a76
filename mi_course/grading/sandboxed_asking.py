"""Asks the answers of one submission in the sandbox, and keeps what was seen through any death.

A session that hangs, dies or talks nonsense is thrown away. What it was at is to blame: that cell is left out, or that
exercise is over, and a new session goes on with the rest. So each loss costs one cell or one exercise, and the number
of sessions is bounded by both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from mi_course import wire
from mi_course.asking.limits import AFTER_TIME_OUT_S
from mi_course.content import python_only
from mi_course.exercises import Plan
from mi_course.grading.sandbox import Lost, Sandbox, Session
from mi_course.submission import SETUP_POSITION, Submission
from mi_course.wire import Error, Observation, Reply

__all__ = ["CELL_S", "TOTAL_S", "Seen", "ask_all"]

CELL_S = 10.0
"""A cell that defines answers takes milliseconds; the long work of a lesson is recorded, and not repeated here."""
GRACE_S = 4.0
"""How long a session may be silent beyond a limit that it should have kept itself: it may be booting a model."""
TOTAL_S = 240.0
"""For one submission. What is not asked by then has timed out."""


@dataclass
class Seen:
    """What came of one submission in the sandbox."""

    observations: dict[str, list[Observation]] = field(default_factory=dict)
    """Exercise id -> one observation for each Ask that was reached. Absent: its name is not defined."""
    stopped: dict[int, str] = field(default_factory=dict)
    """Position of a cell -> why it stopped; 0 is the course's own setup."""
    lost: dict[str, str] = field(default_factory=dict)
    """Exercise id -> why asking it ended early."""
    sessions: int = 0


def ask_all(submission: Submission, plans: dict[str, Plan], sandbox: Sandbox, total_s: float = TOTAL_S) -> Seen:
    """Asks every exercise in `plans` what its plan asks. Raises SandboxError only."""
    seen = Seen()
    left = dict(plans)
    skip: dict[int, str] = {}
    deadline = time.monotonic() + total_s
    while left and seen.sessions <= len(submission.cells) + len(plans) + 2:
        seen.sessions += 1
        if time.monotonic() > deadline:
            break
        with sandbox.session() as session:
            defined = _run_cells(session, submission, [plan.exercise.name for plan in left.values()], skip, seen)
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
                if not _ask(session, id, plan, seen):
                    break
    for id, plan in left.items():
        if time.monotonic() > deadline:
            seen.observations[id] = [Observation(ask.id, (Reply(wire.TIMED_OUT),)) for ask in plan.asks]
            seen.lost[id] = f"the submission as a whole took more than {total_s:g} seconds"
        else:
            seen.observations[id] = [_died(ask.id, "the cells before it could not be run") for ask in plan.asks]
            seen.lost[id] = "the cells before it could not be run"
    seen.stopped.update(skip)
    return seen


def _run_cells(
    session: Session, submission: Submission, names: list[str], skip: dict[int, str], seen: Seen
) -> set[str] | None:
    """The names that are defined afterwards. None: the session is lost, and `skip` names the cell to blame."""
    cells = [[cell.position, python_only(cell.source)] for cell in submission.cells if cell.position not in skip]
    at, known = SETUP_POSITION, {SETUP_POSITION, *(position for position, _ in cells)}
    stopped: dict[int, str] = {}
    try:
        session.send({"setup": list(submission.setup), "cells": cells, "cell_s": CELL_S, "names": names})
        for _ in range(2 * (len(cells) + len(submission.setup)) + 1):
            told = session.receive(CELL_S + GRACE_S)
            if not isinstance(told, dict):
                raise Lost("garbage", "it said what no cell says")
            begun, failed = told.get("begin"), told.get("error")
            if type(begun) is int and begun in known:
                at = begun
            elif type(failed) is int and failed in known:
                stopped[failed] = str(told.get("message", ""))[:1000]
            elif isinstance(told.get("ready"), list):
                seen.stopped.update(stopped)
                return {name for name in told["ready"] if isinstance(name, str)}
        raise Lost("garbage", "it began more cells than there are")
    except Lost as lost:
        skip[at] = _why(lost, CELL_S)
        return None


def _why(lost: Lost, seconds: float) -> str:
    if lost.kind == "timed_out":
        return f"it was still running after {seconds:g} seconds, and could not be interrupted."
    if lost.kind == "died":
        return f"it ended the process ({lost.reason})."
    return f"{lost.reason}."


def _ask(session: Session, id: str, plan: Plan, seen: Seen) -> bool:
    """Asks one exercise. Returns whether the session can go on."""
    found: list[Observation] = seen.observations.setdefault(id, [])
    late = False
    current = plan.asks[0]
    try:
        session.send({"exercise": plan.exercise.name})
        for current in plan.asks:
            ask = replace(current, limit_s=min(current.limit_s, AFTER_TIME_OUT_S)) if late else current
            session.send(ask)
            reply = session.receive(ask.limit_s + GRACE_S, ask.max_reply_bytes + 2**20)
            if isinstance(reply, dict) and isinstance(reply.get("ended"), int):
                how = session.describe_exit(reply["ended"])
                _rest(found, plan, wire.DIED, how)
                seen.lost[id] = f"it ended its process ({how})"
                return True
            if not isinstance(reply, Observation) or reply.ask != ask.id:
                raise Lost("garbage", "its reply is to nothing that was asked")
            found.append(reply)
            late = late or any(one.status == wire.TIMED_OUT for one in reply.replies)
            if len(found) == 1 and reply.replies and reply.replies[0].status == wire.NOT_ATTEMPTED:
                found += [replace(reply, ask=other.id) for other in plan.asks[1:]]
                break
        session.send(None)
        told = session.receive(GRACE_S)
        return isinstance(told, dict) and "ended" in told
    except Lost as lost:
        # All was answered, and only then the session went wrong: what was answered stands.
        if len(found) < len(plan.asks):
            status = wire.TIMED_OUT if lost.kind == "timed_out" else wire.DIED
            _rest(found, plan, status, lost.reason)
            seen.lost[id] = _why(lost, current.limit_s).rstrip(".")
        return False


def _rest(found: list[Observation], plan: Plan, status: str, reason: str) -> None:
    for ask in plan.asks[len(found) :]:
        found.append(_died(ask.id, reason) if status == wire.DIED else Observation(ask.id, (Reply(status),)))


def _died(ask: str, reason: str) -> Observation:
    return Observation(ask, (Reply(wire.DIED, error=Error("Died", ("Died",), reason)),))


def claimed(plan: Plan, value: Any) -> list[Observation]:
    """A recorded value as the answer to every Ask of an outcome exercise."""
    return [Observation(ask.id, tuple(Reply(wire.RETURNED, wire.plain(value)) for _ in ask.calls)) for ask in plan.asks]
