"""Gradescope's `results.json`: one test for each exercise, with the points that it earned."""

from __future__ import annotations

from typing import Any

from mi_course.grading.formats import plain_text
from mi_course.grading.marks import Marks

__all__ = ["results"]


def results(row: Marks) -> dict[str, Any]:
    """What an autograder leaves in /autograder/results/results.json. All texts are plain: nothing in them is markup.

    Everything is visible to the learner, but what the code printed, which Gradescope hides by itself.
    """
    tests = [
        {
            "number": str(i),
            "name": one.exercise,
            "score": one.points,
            "max_score": one.max_points,
            "status": "passed" if one.points == one.max_points else "failed",
            "output": plain_text(one),
            "output_format": "text",
            "name_format": "text",
            "visibility": "visible",
            "tags": [one.status, *([one.mistake] if one.mistake else [])],
        }
        for i, one in enumerate(row.exercises, 1)
    ]
    lines = [row.reason, *row.notes]
    if row.comment:
        lines.append(f"Comment: {row.comment}")
    return {
        "score": row.points,
        "execution_time": round(row.seconds),
        "output": "\n".join(lines),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {
            "status": row.status,
            "sandboxed": row.sandboxed,
            "max_points": row.max_points,
            "lessons": list(row.lessons),
            "reflections": list(row.reflections),
        },
    }
