"""What needs neither torch nor numpy, run by a Python that has neither (nor pytest): `python torch_free.py`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import mi_course
from mi_course import content, lessons, submission
from mi_course.errors import CourseError
from mi_course.workspace import Workspace

PACKAGE = Path(mi_course.__file__).parent
ABSENT = ("torch", "numpy", "jaxtyping", "safetensors", "nbformat", "nbclient", "pytest", "resource")
# mi-course[workshop]
ABSENT += ("httptools", "itsdangerous", "psycopg", "segno", "sse_starlette", "starlette", "uvicorn")


def import_everything() -> int:
    """How many modules can be imported. The others must lack a package that is absent, and nothing else."""
    imported = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
        if {"inside", "autograder", "__main__"} & {*parts}:
            continue  # scripts, which work when they are imported
        try:
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
            imported += 1
        except CourseError as error:
            assert "mi-course[author]" in str(error)  # noqa: PT017
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] not in ABSENT:
                raise
    return imported


def read_the_lessons() -> None:
    for info in lessons.catalogue():
        notebook = content.read_notebook(info)
        answers = content.answer_cells(notebook)
        assert len(answers) >= 2, info.id
        assert content.demonstration_names(info).isdisjoint(content.kept_names(info))
        assert content.cell_hashes(notebook).keys() == {cell["id"] for cell in notebook["cells"]}
        for exercise, stub in answers.items():
            assert exercise.partition(".")[2] in content.top_level_names(stub)
            assert exercise.partition(".")[2] in content.top_level_names(content.solution_answer(exercise))


def fill_a_folder(folder: Path) -> None:
    delivered = {change.path.name for change in Workspace(folder).update()}
    assert {f"{info.notebook}.ipynb" for info in lessons.catalogue()} <= delivered
    mine = folder / "00_start_here.ipynb"
    notebook = json.loads(mine.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = "# mine"
    mine.write_text(json.dumps(notebook), encoding="utf-8")
    Workspace(folder).update()
    assert json.loads(mine.read_text(encoding="utf-8"))["cells"][0]["source"] == "# mine"
    assert submission.read(mine).info.id == "start_here"


def tell_stubs_from_answers() -> None:
    """The bytecode that `stubs` reads differs between Pythons. Its package needs torch; the file does not."""
    spec = importlib.util.spec_from_file_location("stubs", PACKAGE / "asking" / "stubs.py")
    assert spec is not None
    assert spec.loader is not None
    stubs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stubs)

    def returned(x):
        return ...

    def assigned(x):
        result = ...
        return result

    def only_a_docstring(x):
        """Nothing is done."""

    def an_answer(x):
        return x[..., 0]

    assert [stubs.has_gaps(f) for f in (returned, assigned, an_answer)] == [True, True, False]
    assert [stubs.is_empty(f) for f in (only_a_docstring, an_answer)] == [True, False]


def remember(home: Path) -> None:
    from mi_course.progress import Progress

    Progress(home).record_hint("start_here.zero_head")
    assert Progress(home).hints_shown("start_here.zero_head") == 1


if __name__ == "__main__":
    imported = import_everything()
    assert imported >= 50, imported
    read_the_lessons()
    tell_stubs_from_answers()
    with tempfile.TemporaryDirectory() as scratch:
        fill_a_folder(Path(scratch, "mine"))
        if importlib.util.find_spec("_sqlite3"):
            remember(Path(scratch, "home"))
    print("torch-free", *sys.version_info[:2])
