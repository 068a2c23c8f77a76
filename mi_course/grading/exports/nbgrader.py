"""An nbgrader 0.9 course folder: `source/<lesson>/<notebook>.ipynb`, with solutions and hidden tests (schema 3).

nbgrader runs a learner's whole notebook in one kernel, and trusts that kernel. So there is no sandbox and no secret: an
answer can read the hidden tests, or print the number that they end in. Still, each test cell ends in the verdict's
points as a number, since nbgrader gives full marks for any other last value, and nothing is written to standard error,
for which nbgrader takes all points.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mi_course import content, lessons
from mi_course.grading.reflections import questions
from mi_course.lessons import LessonInfo

__all__ = ["assignment", "export", "points"]

SKIP = "skip-execution"
"""A tag that nbclient obeys and JupyterLab ignores."""
STUB = "...  # your turn"
"""The stub in nbgrader's notebooks: it never stops "Run All", not even in a value exercise."""
OWN_STUB = 'raise NotImplementedError("your turn")'
CONFIG = """\
# Written by `mi-course export nbgrader`. nbgrader reads it in this folder.
import os
import tempfile

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "mi_course"
c.ClearSolutions.code_stub = {"python": "@STUB@"}
# A cell that works on a model takes longer than nbgrader's 30 seconds.
c.Execute.timeout = 600
# What submissions check is none of your own progress.
os.environ.setdefault("MI_COURSE_HOME", os.path.join(tempfile.gettempdir(), "mi-course-nbgrader"))
""".replace("@STUB@", STUB)


def export(folder: Path, which: Sequence[str | int] = ()) -> list[Path]:
    """Write the folder, for these lessons or all. Returns the files.

    An existing `nbgrader_config.py` is kept. Raises FileExistsError rather than overwrite a notebook that this export
    did not write.
    """
    infos = [lessons.find(lesson) for lesson in which] or list(lessons.catalogue())
    written = []
    for info in infos:
        path = folder / "source" / info.id / f"{info.notebook}.ipynb"
        if path.exists() and not _ours(path):
            raise FileExistsError(17, "is there already and was not made by this export", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(assignment(info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    config = folder / "nbgrader_config.py"
    if not config.exists():
        config.write_text(CONFIG, encoding="utf-8")
        written.append(config)
    return written


def _ours(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["metadata"]["mi_course"]["export"] == "nbgrader")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def assignment(info: LessonInfo) -> dict[str, Any]:
    """The source notebook of one lesson."""
    spec = lessons.load(info.id)
    solved = content.answer_cells(content.read_notebook(info, solution=True))
    notebook = copy.deepcopy(content.read_notebook(info))
    notebook["metadata"].setdefault("mi_course", {})["export"] = "nbgrader"
    # Values that a learner computes rest on demonstration cells. Without such exercises these need not run.
    skippable = all(exercise.kind == "function" for exercise in spec.exercises)
    asked = questions(notebook)
    cells = []
    for cell in notebook["cells"]:
        id, exercise = cell["id"], content.exercise_of(cell)
        cells.append(cell)
        if exercise:
            cell["source"] = _with_markers(content.source(cell), solved[exercise])
            cell["metadata"]["nbgrader"] = _role(id, solution=True)
            cells.append(_test_cell(exercise, spec.exercise(exercise.partition(".")[2]).points))
        elif content.is_setup(cell):
            cell["metadata"]["nbgrader"] = _role(id, locked=True)
        elif cell["cell_type"] == "code" and skippable:
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), SKIP]
        if cell["cell_type"] == "markdown":
            cell["source"] = content.source(cell).replace(OWN_STUB, STUB)
        if id in asked:
            cells.append(_reflect_cell(id))
    notebook["cells"] = cells
    return notebook


def _with_markers(stub: str, solved: str) -> str:
    """The solved cell, with nbgrader's markers around the lines that the learner's lacks."""
    empty, full, lines = stub.splitlines(), solved.splitlines(), []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, empty, full, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += full[c:d]
            continue
        lines += [line for line in empty[a:b] if line.endswith(" = ...")]  # the name stays, so that the check finds it
        first = next((line for line in full[c:d] if line.strip()), "")
        indent = first[: len(first) - len(first.lstrip())]
        lines += [f"{indent}### BEGIN SOLUTION", *full[c:d], f"{indent}### END SOLUTION"]
    return "\n".join(lines)


def _role(id: str, *, solution: bool = False, grade: bool = False, locked: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "grade": grade,
        "grade_id": id,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
        **more,
    }


def _test_cell(exercise: str, max_points: int) -> dict[str, Any]:
    name = exercise.partition(".")[2]
    id = f"points-{name}"
    text = (
        f"# The points of {name}: {max_points}. They are given when this notebook is marked.\n"
        "### BEGIN HIDDEN TESTS\n"
        "from mi_course.grading.exports.nbgrader import points\n\n"
        f'points("{exercise}", globals())\n'
        "### END HIDDEN TESTS\n"
    )
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": id[:64],
        "metadata": {"nbgrader": _role(id, grade=True, locked=True, points=max_points)},
        "outputs": [],
        "source": text,
    }


def _reflect_cell(id: str) -> dict[str, Any]:
    """A cell for a written answer: no points, shown to whoever marks by hand."""
    own = f"{id}-answer"
    return {
        "cell_type": "markdown",
        "id": own[:64],
        "metadata": {"nbgrader": _role(own, grade=True, solution=True, points=0)},
        "source": "*Your answer:*",
    }


# ---------------------------------------------------------------------------------------------------------------------
# In the kernel that nbgrader runs


def points(exercise: str, namespace: Mapping[str, Any]) -> int:
    """The points of the answer in this namespace, as the last value of a test cell. Prints the message.

    Raises nothing, and keeps standard error empty whatever the answer writes there.
    """
    earned, message = 0, f"{exercise.partition('.')[2]} is not defined."
    with _no_standard_error():
        try:
            from mi_course.course import check_exercise

            lesson, _, name = exercise.partition(".")
            spec = lessons.load(lesson).exercise(name)
            if name in namespace:
                verdict = check_exercise(spec, namespace[name], seed=secrets.randbits(48))
                earned, message = verdict.points, verdict.message
        except BaseException as error:
            earned, message = 0, f"Marking failed: {type(error).__name__}: {str(error)[:300]}"
    print(message)
    return int(earned)


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    """Silences Python's standard error and the process's, on which libraries warn."""
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(io.StringIO()):
        kept = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
