"""Runs in a Gradescope container: `python -m mi_course.grading.exports.autograder ROOT`.

Reads ROOT/submission and writes ROOT/results/results.json, whatever happens. Containers usually forbid namespaces; it
then marks without the sandbox, on a machine that Gradescope throws away, and the result says so.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from mi_course.grading import grade
from mi_course.grading.formats.gradescope import results
from mi_course.grading.sandbox.diagnosis import sandbox_problem
from mi_course.grading.text_files import write_text

__all__ = ["marked"]


def marked(root: Path, scratch: Path) -> dict[str, Any]:
    """The results of the submission in `root`."""
    lesson = json.loads((root / "source" / "autograder.json").read_text(encoding="utf-8"))["lesson"]
    problem = sandbox_problem()
    report = grade(root / "submission", scratch, lesson=lesson, workers=1, unsandboxed=problem is not None, single=True)
    result = results(report.rows[0])
    if problem:
        result["output"] += f"\n(No sandbox here: {problem[0]}.)"
    return result


def main(root: Path) -> None:
    """Mark the submission below `root`, and write its results. Raises nothing that marking does."""
    try:
        with tempfile.TemporaryDirectory(prefix="mi-course-marks-") as scratch:
            result = marked(root, Path(scratch))
    except Exception as error:
        traceback.print_exc()
        result = {
            "score": 0,
            "output": f"The autograder itself failed ({type(error).__name__}: {str(error)[:500]}). "
            "This says nothing about your answers. Please tell your instructor.",
            "output_format": "text",
            "visibility": "visible",
            "stdout_visibility": "hidden",
            "tests": [],
        }
    folder = root / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "results.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
