"""Everything that a run leaves in OUT, beside the kept marks: overrides laid over, tables, formats, reading matter.

OUT/overrides.toml    an instructor's points and comments; read here, written once as an example, never changed
OUT/reflections.html  what learners wrote below the reflect questions, by question
OUT/similar.csv       answers that are alike, where that is asked for
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from mi_course.grading import overrides
from mi_course.grading.formats import write
from mi_course.grading.marking import Marks
from mi_course.grading.store import atomic_write, write_tables

__all__ = ["finish"]

EXAMPLE = """\
# Points and comments of yours. They are laid over what the course gave, each time, and survive regrading.
# Names stand in quotes, as in marks.csv. What cannot be applied is told, by name.
#
# ["ada.ipynb"]
# comment = "For the whole submission."
#
# ["ada.ipynb"."start_here.zero_head"]
# points = 2
# comment = "Right idea; one index off."
"""


def finish(rows: Sequence[Marks], out: Path, formats: Sequence[str]) -> tuple[tuple[Marks, ...], list[str], list[Path]]:
    """Writes all but similar.csv. Returns the rows with the overrides, what could not be applied, and the files."""
    with contextlib.suppress(OSError), open(out / overrides.FILE, "x", encoding="utf-8") as file:
        file.write(EXAMPLE)
    rows, problems = overrides.apply(rows, out)
    write_tables(out, rows)
    written = write(out, rows, formats)
    path = out / "reflections.html"
    if any(row.reflections for row in rows):
        atomic_write(path, reflections_page(rows))
        written.append(path)
    else:
        path.unlink(missing_ok=True)
    return rows, problems, written


def reflections_page(rows: Sequence[Marks]) -> str:
    """All answers to each question below one another, for reading."""
    from mi_course.grading.formats.html import document, lesson_title, prose, text

    answers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        for one in row.reflections:
            answers.setdefault((one["lesson"], one["question"]), []).append((row.submission, one["answer"]))
    intro = "For reading. No points depend on them."
    body, lesson = [f'<header><h1 class="score">Reflections</h1><p class="asked">{intro}</p></header>'], ""
    for (where, question), found in sorted(answers.items(), key=lambda item: item[0][0]):
        if where != lesson:
            lesson = where
            body.append(f"<h2>{text(lesson_title(lesson))}</h2>")
        written = "".join(
            f'<h3 class="label"><bdi>{text(name)}</bdi></h3><div class="answer">{text(answer)}</div>'
            for name, answer in found
        )
        body.append(f'<section class="card"><div class="asked">{prose(question)}</div>{written}</section>')
    return document("Reflections", "\n".join(body))
