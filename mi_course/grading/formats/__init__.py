"""Marks in the formats that other programs and people read.

    csv, json      OUT/marks.csv, OUT/marks.json: always
    junit          OUT/junit.xml: one suite for each submission
    gradescope     OUT/gradescope/NAME.json: the results.json of one submission
    classroom      OUT/classroom/NAME.json: the result of one runner, as GitHub Classroom's reporter reads it
    feedback       OUT/feedback/NAME.html: a page for each learner

What learners see holds no inputs: not what an answer printed, and of an error's text only the beginning.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from mi_course.grading.marks import ExerciseMark, Marks, failed

__all__ = ["FORMATS", "WORDS", "chosen", "file_names", "message", "number", "or_failed", "plain_text"]

_T = TypeVar("_T")

FORMATS = ("csv", "json", "junit", "gradescope", "classroom", "feedback")
WORDS = {
    "passed": "Passed",
    "wrong": "Not yet",
    "not_attempted": "Not attempted",
    "crashed": "Crashed",
    "timed_out": "Out of time",
}
ERROR_TEXT = 300
"""Characters of an error's text that a learner sees: it might recite the inputs."""


def chosen(text: str) -> tuple[str, ...]:
    """The formats in a list such as "junit,feedback". Raises ValueError, which lists them all, for any other name."""
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise ValueError(f"There is no format {', '.join(map(repr, unknown))}; there are {', '.join(FORMATS)}.")
    return names


def or_failed(render: Callable[[Marks], _T], row: Marks) -> _T:
    """The result of `render(row)` or, if it raises, of rendering a row that says so."""
    try:
        return render(row)
    except Exception as error:
        return render(failed(row.submission, f"The marks cannot be written in this form: {type(error).__name__}."))


def file_names(rows: Iterable[Marks]) -> dict[str, str]:
    """Submission -> a file name that is safe everywhere: some readable letters, and a hash that makes it unique."""
    return {row.submission: _file_name(row.submission) for row in rows}


def _file_name(submission: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", submission).strip("_-")[:60] or "submission"
    digest = hashlib.sha256(submission.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe}-{digest[:20]}"


def number(points: float) -> str:
    """3, or 2.5."""
    return f"{points:g}"


def message(mark: ExerciseMark) -> str:
    """The message on one answer as a learner may see it, with `code` in backticks."""
    if mark.status in ("crashed", "timed_out") and len(mark.message) > ERROR_TEXT:
        return mark.message[:ERROR_TEXT].rstrip() + " […]"
    return mark.message


def plain_text(mark: ExerciseMark) -> str:
    """All that a learner may see about one answer, as plain text."""
    points = f"{number(mark.points)} of {mark.max_points} points"
    lines = [f"{WORDS.get(mark.status, mark.status)}: {points}.", message(mark)]
    if mark.mistake:
        lines.append(f"Recognized mistake: {mark.mistake.replace('_', ' ')}.")
    if len(mark.details) > 1:
        lines += [f"- {part['name']}: {part['earned']} of {part['points']}" for part in mark.details]
    if mark.given is not None:
        lines.append(f"The points were given by hand; the course's own checks came to {number(mark.given)}.")
    if mark.comment:
        lines.append(f"Comment: {mark.comment}")
    return "\n".join(line for line in lines if line)
