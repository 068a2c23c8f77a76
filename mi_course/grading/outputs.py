"""Writes all report files: overrides applied, tables, formats, reflections.

OUT/marks.csv         one row per submission, one column per exercise
OUT/marks.json        everything
OUT/overrides.toml    an instructor's points and comments; read here, written once as an example, never changed
OUT/reflections.html  what learners wrote below the reflect questions, by question
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mi_course import __version__
from mi_course.grading import overrides
from mi_course.grading.formats import classroom, feedback, file_names, gradescope, or_failed
from mi_course.grading.formats.html import document, lesson_title, prose, text
from mi_course.grading.formats.junit import junit
from mi_course.grading.marks import Marks
from mi_course.grading.store import FORMAT, course_fingerprint
from mi_course.grading.text_files import write_csv, write_text

__all__ = ["finish", "write_tables"]

PER_SUBMISSION: dict[str, tuple[str, Callable[[Marks], str]]] = {
    "gradescope": (".json", lambda row: json.dumps(gradescope.results(row), indent=1)),
    "classroom": (".json", lambda row: json.dumps(classroom.results(row), indent=1)),
    "feedback": (".html", feedback.page),
}
"""Formats with a file for each submission: its ending, and its text."""

EXAMPLE = """\
# Your own points and comments. They replace what the course gave, and survive regrading.
# Write names in quotes, as in marks.csv. Whatever cannot be applied is reported by name.
#
# ["ada.ipynb"]
# comment = "For the whole submission."
#
# ["ada.ipynb"."start_here.zero_head"]
# points = 2
# comment = "Right idea; one index off."
"""


def finish(rows: Sequence[Marks], out: Path, formats: Sequence[str]) -> tuple[tuple[Marks, ...], list[str], list[Path]]:
    """Write all files but similar.csv.

    Returns the rows with overrides applied, what could not be applied, and the files beyond marks.csv and marks.json.
    """
    with contextlib.suppress(OSError), open(out / overrides.FILE, "x", encoding="utf-8") as file:
        file.write(EXAMPLE)
    final, problems = overrides.apply(rows, out)
    write_tables(out, final)
    written = _write_formats(out, final, formats)
    path = out / "reflections.html"
    if any(row.reflections for row in final):
        write_text(path, reflections_page(final))
        written.append(path)
    else:
        path.unlink(missing_ok=True)
    return final, problems, written


def write_tables(out: Path, rows: Sequence[Marks]) -> None:
    """Write marks.csv and marks.json."""
    from mi_course.asking.limits import slowness  # imports torch

    exercises = list(dict.fromkeys(mark.exercise for row in rows for mark in row.exercises))
    header = ["submission", "status", "points", "max_points", *exercises]
    header += ["sandboxed", "by_hand", "comment", "reason", "notes"]
    write_csv(out / "marks.csv", header, [_cells(row, exercises) for row in rows])
    tree = {
        "format": FORMAT,
        "course_version": __version__,
        "time_factor": round(slowness(), 2),
        "fingerprint": course_fingerprint(),
        "sandboxed": all(row.sandboxed for row in rows),
        "submissions": [row.to_json() for row in rows],
    }
    write_text(out / "marks.json", json.dumps(tree, indent=1))


def _cells(row: Marks, exercises: Sequence[str]) -> list[Any]:
    points = {mark.exercise: mark.points for mark in row.exercises}
    by_hand = " ".join(mark.exercise for mark in row.exercises if mark.given is not None)
    comments = [row.comment, *(f"{mark.exercise}: {mark.comment}" for mark in row.exercises if mark.comment)]
    return [
        *(row.submission, row.status, row.points, row.max_points),
        *(points.get(exercise, "") for exercise in exercises),
        *("yes" if row.sandboxed else "NO", by_hand, " / ".join(filter(None, comments))),
        *(row.reason, " / ".join(row.notes)),
    ]


def _write_formats(out: Path, rows: Sequence[Marks], formats: Sequence[str]) -> list[Path]:
    """Returns the files, or the folder of a format with a file for each submission."""
    names, written = file_names(rows), []
    for format in formats:
        if format == "junit":
            write_text(out / "junit.xml", junit(rows))
            written.append(out / "junit.xml")
        elif format in PER_SUBMISSION:
            suffix, render = PER_SUBMISSION[format]
            (out / format).mkdir(parents=True, exist_ok=True)
            for row in rows:
                write_text(out / format / f"{names[row.submission]}{suffix}", or_failed(render, row))
            written.append(out / format)
    return written


def reflections_page(rows: Sequence[Marks]) -> str:
    """A page with each question and all answers to it."""
    answers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        for reflection in row.reflections:
            key = reflection["lesson"], reflection["question"]
            answers.setdefault(key, []).append((row.submission, reflection["answer"]))
    intro = "For reading. No points depend on them."
    body, heading = [f'<header><h1 class="score">Reflections</h1><p class="asked">{intro}</p></header>'], ""
    for (lesson, question), given in sorted(answers.items(), key=lambda item: item[0][0]):
        if lesson != heading:
            heading = lesson
            body.append(f"<h2>{text(lesson_title(lesson))}</h2>")
        cards = "".join(
            f'<h3 class="label"><bdi>{text(name)}</bdi></h3><div class="answer">{text(answer)}</div>'
            for name, answer in given
        )
        body.append(f'<section class="card"><div class="asked">{prose(question)}</div>{cards}</section>')
    return document("Reflections", "\n".join(body))
