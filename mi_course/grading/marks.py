"""The marks of a submission, as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ExerciseMark", "Failure", "Marks", "failed", "printable_name"]


@dataclass(frozen=True)
class ExerciseMark:
    """One exercise of one submission."""

    exercise: str
    revision: int
    status: str
    points: float
    """A whole number, unless an instructor gave others."""
    max_points: int
    message: str = ""
    mistake: str | None = None
    details: tuple[dict[str, Any], ...] = ()
    """One per part: name, points, earned, message."""
    printed: str = ""
    """What the answer printed in the first case that failed. It may reveal inputs: for instructors only."""
    given: float | None = None
    """The course's own points, where an instructor's override replaced them."""
    comment: str = ""
    """An instructor's."""


@dataclass(frozen=True)
class Marks:
    """One row of the table: a submission, whatever it contains."""

    submission: str
    status: str
    """marked, or unreadable."""
    reason: str
    """How the points came about, in a few sentences."""
    points: float = 0
    max_points: int = 0
    exercises: tuple[ExerciseMark, ...] = ()
    lessons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sandboxed: bool = True
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    reflections: tuple[dict[str, str], ...] = ()
    """Answers to the reflect questions (lesson, question, answer). For reading; no points depend on them."""
    reasons: tuple[str, ...] = ()
    """The sentences of `reason` one by one, without the first."""
    content: str = ""
    """A hash of what was marked; empty where nothing could be read."""
    time_out: str = ""
    """"computing" where something used up its processor time, "waiting" where it did not and others may be at fault."""
    own: tuple[str, ...] = ()
    """Exercises whose answer called the course's own implementation."""
    comment: str = ""
    """An instructor's."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], submission: str | None = None) -> Marks:
        """Marks from what `to_json` returned, under another name if `submission` is given.

        Raises ValueError, TypeError, KeyError or AttributeError for anything else.
        """
        exercises = [ExerciseMark(**{**mark, "details": tuple(mark["details"])}) for mark in tree["exercises"]]
        tuples = {name: tuple(tree[name]) for name in ("lessons", "notes", "files", "reflections", "reasons", "own")}
        name = tree["submission"] if submission is None else submission
        return cls(**{**tree, **tuples, "exercises": tuple(exercises), "submission": name})


@dataclass(frozen=True)
class Failure:
    """Why the grader itself got no marks for a submission."""

    reason: str


def failed(name: str, reason: str, sandboxed: bool = True, notes: Iterable[str] = ()) -> Marks:
    """The row of a submission that cannot be marked."""
    return Marks(name, "unreadable", reason, notes=tuple(notes), sandboxed=sandboxed)


def printable_name(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 become escapes, and a backslash two, so that no two names meet."""
    return name.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode("utf-8")
