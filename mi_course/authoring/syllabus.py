"""The files that cover all lessons: the syllabus, and the hashes of the current version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from mi_course.content import cell_hashes, source
from mi_course.exercises import LessonSpec
from mi_course.lessons import LessonInfo

__all__ = ["promise", "release", "syllabus"]

HEAD = """\
# Syllabus

Each lesson is a notebook. Begin with the first; every lesson names what it needs.
`lesson.status()` in a notebook, or `mi-course status` in a terminal, shows how far you are.
"""


def syllabus(lessons: Iterable[tuple[LessonInfo, LessonSpec, dict[str, Any]]]) -> str:
    """`notebooks/README.md`: each lesson's number, title, minutes, exercises, points and promise."""
    parts = [HEAD]
    for info, spec, notebook in lessons:
        points = sum(exercise.points for exercise in spec.exercises)
        numbers = f"{info.minutes} minutes · {_count(len(spec.exercises), 'exercise')} · {_count(points, 'point')}"
        heading = f"## {info.number:02d} · [{info.title}]({info.notebook}.ipynb)"
        parts.append(f"{heading}\n\n{numbers}\n\n{promise(notebook)}\n")
    return "\n".join(parts)


def promise(notebook: dict[str, Any]) -> str:
    """The first paragraph of the cell `title`: what the learner will be able to do."""
    for cell in notebook["cells"]:
        if cell["id"] == "title":
            for paragraph in re.split(r"\n\s*\n", source(cell)):
                text = " ".join(line for line in paragraph.splitlines() if not line.startswith("#")).strip()
                if text:
                    return text
    return ""


def release(notebooks: Iterable[tuple[LessonInfo, dict[str, Any]]]) -> str:
    """`releases/<version>.json`: notebook -> cell id -> source hash."""
    hashes = {info.notebook: cell_hashes(notebook) for info, notebook in notebooks}
    return json.dumps(hashes, indent=1, sort_keys=True) + "\n"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
