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
from collections.abc import Iterable

from mi_course.grading.marks import ExerciseMark, Marks

__all__ = ["FORMATS", "WORDS", "chosen", "file_names", "number", "said", "told"]

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


def file_names(rows: Iterable[Marks]) -> dict[str, str]:
    """Submission -> a name that is safe as a file's anywhere, and different for each."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for row in rows:
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", row.submission).lstrip(".-")[:80].rstrip(".")
        if (
            not safe
            or safe != row.submission
            or safe.lower() in taken
            or re.match(r"(con|prn|aux|nul|com\d|lpt\d)\b", safe, re.I)
        ):
            told = hashlib.sha256(row.submission.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            safe = f"submission-{safe}-{told}"
        taken.add(safe.lower())
        found[row.submission] = safe
    return found


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
