"""The state of a workshop, computed entry by entry from its log: who is in the room, and where everyone stands."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mi_course.workshop.store import Entry

__all__ = ["Cell", "Participant", "Room"]

AWAY_S = 300.0
"""Without a sign for so long, someone is away, not stuck."""
BREAK_S = 1200.0
"""A longer pause between two events counts as this much work, since the rest was a break."""
MESSAGES = 20
RANK = {"not_attempted": 0, "timed_out": 1, "crashed": 2, "wrong": 3, "passed": 4}


@dataclass
class Cell:
    """One participant at one exercise. Times are seconds since 1970."""

    revision: int = 0
    status: str = "not_attempted"
    """Of the last verdict, or passed, if one at this revision was."""
    mistake: str | None = None
    """Of the last verdict."""
    attempts: int = 0
    hints: int = 0
    revealed: bool = False
    at: float = 0.0
    """Of the last event."""
    worked_s: float = 0.0
    """Time before it passed."""


@dataclass
class Participant:
    """Someone in the room."""

    id: str
    name: str
    table: str
    joined: float
    generation: int = 0
    """Raised when they come back on another machine; tokens of earlier ones are refused."""
    removed: bool = False
    exercise: str | None = None
    """The one they are on."""
    progress_at: float = 0.0
    """When an exercise last passed, or they joined."""
    event_at: float = 0.0
    hand_at: float | None = None
    hand_exercise: str | None = None
    hand_lead: str | None = None
    """The lead who is coming."""
    ready: dict[str, str] | None = None
    events: int = 0
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass
class Exercise:
    """One exercise in this room; everyone counts once."""

    on: int = 0
    """Participants who are on it."""
    statuses: Counter[str] = field(default_factory=Counter)
    mistakes: Counter[str] = field(default_factory=Counter)
    """Whose last verdict named it, and who have not passed since."""
    worked_s: dict[str, float] = field(default_factory=dict)
    """By participant, of those who passed."""


class Room:
    """Call `apply` with each entry in order. `dirty` names what has changed since it was last cleared."""

    def __init__(self) -> None:
        self.participants: dict[str, Participant] = {}
        self.exercises: defaultdict[str, Exercise] = defaultdict(Exercise)
        self.code = ""
        self.messages: list[dict[str, Any]] = []
        self.closed: dict[str, float | None] = {}
        """What is closed, `lesson:ID` or `reveals:ID` (`reveals:*`: all), and when it opens by itself."""
        self.timer: dict[str, Any] | None = None
        self.ended = False
        self.seen: dict[str, float] = {}
        """When each participant was last heard of."""
        self.last = 0
        """The number of the last entry."""
        self.dirty_people: set[str] = set()
        self.dirty_cells: set[tuple[str, str]] = set()
        self.dirty_controls = False

    # -- Entries ------------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        """Take in one entry. One of a kind that is not known changes nothing."""
        self.last = max(self.last, entry.number)
        change = getattr(self, f"_on_{entry.kind}", None)
        if change is None:
            return
        if entry.participant is None:
            self.dirty_controls = True
            change(entry.body, entry.at)
            return
        person = self.participants.get(entry.participant)
        if entry.kind == "joined":
            name, more = entry.body["name"], 2
            while self.find(name) is not None:  # two who joined in the same moment
                name, more = f"{entry.body['name']}-{more}", more + 1
            person = Participant(entry.participant, name, entry.body["table"], entry.at)
            person.progress_at = person.event_at = entry.at
            self.participants[entry.participant] = person
        if person is None:
            return
        self.dirty_people.add(person.id)
        self.saw(person.id, entry.at)
        change(person, entry.body, entry.at)

    def saw(self, participant: str, at: float) -> None:
        """Someone was heard of."""
        before = self.seen.get(participant, 0.0)
        self.seen[participant] = max(before, at)
        if at - before > AWAY_S:
            self.dirty_people.add(participant)

    def _on_joined(self, person: Participant, body: Mapping[str, Any], at: float) -> None: ...

    def _on_returned(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.generation = body["generation"]
        person.removed = False

    def _on_renamed(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.name, person.table = body["name"], body["table"]

    def _on_left(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        self._move(person, None)
        person.hand_at = person.hand_lead = None
        self.seen[person.id] = 0.0

    def _on_removed(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.removed = True
        person.generation += 1
        person.hand_at = person.hand_lead = None
        self._move(person, None)
        for exercise, cell in person.cells.items():
            self._count(exercise, person.id, cell, -1)
        person.cells.clear()

    def _on_forgotten(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        self._on_removed(person, body, at)
        del self.participants[person.id]
        self.seen.pop(person.id, None)

    def _on_verdict(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        if (cell := self._worked(person, body, at)) is None:
            return
        cell.attempts = max(cell.attempts, body["attempt"])
        if cell.status != "passed" and cell.revision == body["revision"]:
            cell.status, cell.mistake = body["status"], body["mistake"]
            if cell.status == "passed":
                cell.mistake = None
                person.progress_at = max(person.progress_at, at)
        self._count(body["exercise"], person.id, cell, +1)

    def _on_hint(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        if (cell := self._worked(person, body, at)) is not None:
            cell.hints = max(cell.hints, body["hint"])
            self._count(body["exercise"], person.id, cell, +1)

    def _on_reveal(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        if (cell := self._worked(person, body, at)) is not None:
            cell.revealed = True
            self._count(body["exercise"], person.id, cell, +1)

    def _on_hand(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.hand_at = at if body["up"] else None
        person.hand_exercise, person.hand_lead = body["exercise"], None

    def _on_hand_taken(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        if person.hand_at is not None:
            person.hand_lead = person.hand_lead or body["lead"]  # the first lead takes it

    def _on_hand_down(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.hand_at = person.hand_lead = None

    def _on_ready(self, person: Participant, body: Mapping[str, Any], at: float) -> None:
        person.ready = dict(body["findings"])

    def _on_code(self, body: Mapping[str, Any], at: float) -> None:
        self.code = body["code"]

    def _on_message(self, body: Mapping[str, Any], at: float) -> None:
        self.messages = [*self.messages, {**body, "at": at}][-MESSAGES:]

    def _on_message_down(self, body: Mapping[str, Any], at: float) -> None:
        self.messages = [message for message in self.messages if message["id"] != body["id"]]

    def _on_close(self, body: Mapping[str, Any], at: float) -> None:
        self.closed[body["what"]] = body["until"]

    def _on_open(self, body: Mapping[str, Any], at: float) -> None:
        self.closed.pop(body["what"], None)

    def _on_timer(self, body: Mapping[str, Any], at: float) -> None:
        self.timer = dict(body) if body.get("ends") else None

    def _on_ended(self, body: Mapping[str, Any], at: float) -> None:
        self.ended = True

    # -- Counting -----------------------------------------------------------------------------------------------------

    def _worked(self, person: Participant, body: Mapping[str, Any], at: float) -> Cell | None:
        """The cell of an event, taken out of the counts; None for an older revision than seen."""
        exercise = body["exercise"]
        cell = person.cells.get(exercise)
        if cell is not None:
            if body["revision"] < cell.revision:
                return None
            self._count(exercise, person.id, cell, -1)
        if cell is None or body["revision"] > cell.revision:
            cell = person.cells[exercise] = Cell(revision=body["revision"])
        if cell.status != "passed":
            cell.worked_s += min(max(at - person.event_at, 0.0), BREAK_S)
        cell.at = max(cell.at, at)
        person.events += 1
        if at >= person.event_at:
            person.event_at = at
            self._move(person, exercise)
        self.dirty_cells.add((person.id, exercise))
        return cell

    def _move(self, person: Participant, exercise: str | None) -> None:
        if person.exercise == exercise:
            return
        if person.exercise is not None:
            self.exercises[person.exercise].on -= 1
        if exercise is not None:
            self.exercises[exercise].on += 1
        person.exercise = exercise

    def _count(self, exercise: str, participant: str, cell: Cell, sign: int) -> None:
        counts = self.exercises[exercise]
        counts.statuses[cell.status] += sign
        if cell.mistake is not None:
            counts.mistakes[cell.mistake] += sign
            if not counts.mistakes[cell.mistake]:
                del counts.mistakes[cell.mistake]
        if cell.status == "passed":
            if sign > 0:
                counts.worked_s[participant] = cell.worked_s
            else:
                counts.worked_s.pop(participant, None)

    # -- What is shown ------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Participant | None:
        """The participant of this name, small and capital letters alike."""
        wanted = name.casefold()
        return next((p for p in self.participants.values() if p.name.casefold() == wanted), None)

    def person_row(self, person: Participant) -> dict[str, Any]:
        """A participant, as the leads' board shows them."""
        cell = person.cells.get(person.exercise or "")
        ready = None
        if person.ready is not None:
            ready = [what for what, state in person.ready.items() if state == "missing"]
        return {
            "id": person.id,
            "name": person.name,
            "table": person.table,
            "exercise": person.exercise,
            "status": cell.status if cell else None,
            "mistake": cell.mistake if cell else None,
            "attempts": cell.attempts if cell else 0,
            "progress": round(person.progress_at),
            "seen": round(self.seen.get(person.id, 0.0)),
            "passed": sum(cell.status == "passed" for cell in person.cells.values()),
            "hand": None
            if person.hand_at is None
            else {"at": round(person.hand_at), "exercise": person.hand_exercise, "lead": person.hand_lead},
            "ready": ready,
        }

    @staticmethod
    def cell_row(cell: Cell) -> list[Any]:
        """Status, attempts, hints, 1 if revealed, time, mistake."""
        return [cell.status, cell.attempts, cell.hints, int(cell.revealed), round(cell.at), cell.mistake]

    def exercise_rows(self, least: int = 1) -> dict[str, dict[str, Any]]:
        """Each exercise that someone has tried. least: mistakes of fewer people are left out."""
        rows = {}
        for exercise, counts in self.exercises.items():
            passed = counts.statuses["passed"]
            tried = sum(counts.statuses.values())
            if not tried and not counts.on:
                continue
            times = [seconds for seconds in counts.worked_s.values() if seconds > 0]
            rows[exercise] = {
                "on": counts.on,
                "passed": passed,
                "tried": tried,
                "mistakes": [pair for pair in counts.mistakes.most_common(6) if pair[1] >= least],
                "minutes": round(statistics.median(times) / 60, 1) if times else None,
            }
        return rows

    def present(self) -> list[Participant]:
        return [person for person in self.participants.values() if not person.removed]

    def class_row(self, now: float) -> dict[str, Any]:
        """The room as a number: for the projector, which shows nobody."""
        present = self.present()
        return {
            "joined": len(present),
            "here": sum(now - self.seen.get(person.id, 0.0) < AWAY_S for person in present),
            "hands": sum(person.hand_at is not None for person in present),
            "ready": sum(bool(p.ready) and "missing" not in (p.ready or {}).values() for p in present),
            "examined": sum(p.ready is not None for p in present),
        }

    def notices(self, participant: Participant, now: float) -> dict[str, Any]:
        """What the leads have to say to a learner's notebook."""
        return {
            "messages": [
                {key: message[key] for key in ("id", "text", "exercise")}
                for message in self.messages
                if message["until"] is None or message["until"] > now
            ],
            "closed": [
                {"what": what, "opens_in_s": None if until is None else round(until - now, 1)}
                for what, until in self.closed.items()
                if until is None or until > now
            ],
            "timer_s": round(self.timer["ends"] - now) if self.timer and self.timer["ends"] > now else None,
            "hand": None if participant.hand_at is None else {"lead": participant.hand_lead},
        }
