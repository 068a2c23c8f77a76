"""What a Gradescope container runs: `python -m mi_course.grading.exports.autograder ROOT`.

Reads ROOT/submission, writes ROOT/results/results.json, whatever happens. Containers forbid namespaces as a rule: then
it marks without the sandbox, in a machine that Gradescope throws away, and the result says so.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

__all__ = ["marked"]


def marked(root: Path, scratch: Path) -> dict[str, Any]:
    """The results of the submission in `root`."""
    from mi_course.grading import grade
    from mi_course.grading.formats.gradescope import results
    from mi_course.grading.sandbox.diagnosis import sandbox_problem

    lesson = json.loads((root / "source" / "autograder.json").read_text(encoding="utf-8"))["lesson"]
    problem = sandbox_problem()
    report = grade(root / "submission", scratch, lesson=lesson, workers=1, unsandboxed=problem is not None, single=True)
    found = results(report.rows[0])
    if problem:
        found["output"] += f"\n(No sandbox here: {problem[0]}.)"
    return found


def main(root: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="mi-course-marks-") as scratch:
            found = marked(root, Path(scratch))
    except Exception as error:
        traceback.print_exc()
        found = {
            "score": 0,
            "output": f"The autograder itself failed ({type(error).__name__}: {str(error)[:500]}). "
            "This says nothing about your answers. Please tell your instructor.",
            "output_format": "text",
            "visibility": "visible",
            "stdout_visibility": "hidden",
            "tests": [],
        }
    from mi_course.grading.store import atomic_write

    folder = root / "results"
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "results.json", json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
