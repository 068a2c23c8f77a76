"""What the board knows of the course: lessons, exercises, their minutes, and the messages of their mistakes.

Reading the exercises imports torch, which takes more memory than the whole server. A process of its own does it, and
ends: `python -m mi_course.workshop.catalogue` prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from mi_course.errors import CourseError

__all__ = ["Catalogue", "load"]

Catalogue = list[dict[str, Any]]
"""Per lesson: id, number, title, minutes, exercises; per exercise: id, name, minutes, task, hints (how many) and
mistakes (name to message)."""


def load() -> Catalogue:
    """The catalogue of this installation, plug-ins included. Takes seconds. Raises CourseError."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CourseError(f"The exercises could not be read: {last}. `mi-course doctor` says what is missing.")
    return list(json.loads(done.stdout.splitlines()[-1]))


def read() -> Catalogue:
    """The same, in this process. Imports torch."""
    from mi_course import lessons

    return [
        {
            "id": spec.id,
            "number": spec.number,
            "title": spec.title,
            "minutes": spec.minutes,
            "exercises": [
                {
                    "id": exercise.id,
                    "name": exercise.name,
                    "minutes": exercise.minutes,
                    "task": exercise.task,
                    "hints": len(exercise.hints),
                    "mistakes": {mistake.name: mistake.message for mistake in exercise.mistakes},
                }
                for exercise in spec.exercises
            ],
        }
        for spec in (lessons.join(info) for info in lessons.catalogue())
    ]


if __name__ == "__main__":
    print(json.dumps(read()))
