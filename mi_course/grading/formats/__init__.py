"""Marks in the forms that others read.

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

__all__ = ["FORMATS", "WORDS", "chosen", "file_names", "number", "or_failed", "said", "told"]

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
"""Characters of what a learner's code said when it stopped: it might recite its inputs."""


def chosen(text: str) -> tuple[str, ...]:
    """The formats of a list such as "junit,feedback". Raises ValueError that lists what there is."""
    found = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    unknown = [name for name in found if name not in FORMATS]
    if unknown:
        raise ValueError(f"There is no format {', '.join(map(repr, unknown))}; there are {', '.join(FORMATS)}.")
    return found


def or_failed(render: Callable[[Marks], _T], row: Marks) -> _T:
    """What `render(row)` returns or, where it raises, what it returns for a row that says so."""
    try:
        return render(row)
    except Exception as error:
        return render(failed(row.submission, f"The marks cannot be written in this form: {type(error).__name__}."))


def file_names(rows: Iterable[Marks]) -> dict[str, str]:
    """Submission -> a name that is safe for a file anywhere: some letters to read, and a hash that tells all apart."""
    return {row.submission: _file_name(row.submission) for row in rows}


def _file_name(submission: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", submission).strip("_-")[:60] or "submission"
    digest = hashlib.sha256(submission.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe}-{digest[:20]}"


def number(points: float) -> str:
    """3, or 2.5."""
    return f"{points:g}"


def said(one: ExerciseMark) -> str:
    """What a learner is told about one answer. Plain text with `code` in it."""
    short = one.message
    if one.status in ("crashed", "timed_out") and len(short) > ERROR_TEXT:
        short = short[:ERROR_TEXT].rstrip() + " […]"
    return short


def told(one: ExerciseMark) -> str:
    """All that a learner is told, where there is only plain text."""
    lines = [f"{WORDS.get(one.status, one.status)}: {number(one.points)} of {one.max_points} points.", said(one)]
    if one.mistake:
        lines.append(f"Recognised mistake: {one.mistake.replace('_', ' ')}.")
    if len(one.details) > 1:
        lines += [f"- {part['name']}: {part['earned']} of {part['points']}" for part in one.details]
    if one.given is not None:
        lines.append(f"The points were given by hand; the course's own checks came to {number(one.given)}.")
    if one.comment:
        lines.append(f"Comment: {one.comment}")
    return "\n".join(line for line in lines if line)
