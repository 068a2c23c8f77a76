"""Where the course's own files are, and what stands in its notebooks.

One resolver serves a clone, an editable install and a wheel (which carries `mi_course/_content/`), and the folders of
other people's lessons. Nothing here imports torch, and notebooks are read as plain JSON. The lessons are imported where
they are needed: a sandbox, in which they are absent, finds the data too.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_course.interp.models.where import course_root
from mi_course.interp.models.where import data_dir as data_dir  # as it always was: content.data_dir()

if TYPE_CHECKING:
    from mi_course.lessons import LessonInfo

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
ANSWER = "answer-"
"""The id of an answer cell is this and the exercise's name."""
SETUP = "setup"
"""The id, or the tag, of a setup cell."""

Notebook = Mapping[str, Any]


def root(info: LessonInfo | None = None) -> Path:
    """What holds `notebooks/`, `solutions/` and `data/`.

    The clone's root; `mi_course/_content` in a wheel; for another people's lesson the folder that it names.
    """
    if info is not None and info.folder:
        return Path(info.folder)
    return course_root()


def notebooks_dir(info: LessonInfo | None = None) -> Path:
    """What a learner opens: generated, without answers."""
    return root(info) / "notebooks"


def solutions_dir(info: LessonInfo | None = None) -> Path:
    """Where lessons are written, and their executed form."""
    return root(info) / "solutions"


def releases_dir(info: LessonInfo | None = None) -> Path:
    """`<version>.json` for every released version: the source hash of each cell of each notebook."""
    if info is not None and info.folder:
        return Path(info.folder) / "releases"
    return Path(__file__).resolve().parent / "releases"


def constraints_file() -> Path:
    """The one tested set of versions."""
    return root() / "constraints.txt"


# ---------------------------------------------------------------------------------------------------------------------
# Notebooks


def notebook_path(info: LessonInfo, solution: bool = False) -> Path:
    """The learner's notebook of a lesson, or its executed solution."""
    return (solutions_dir if solution else notebooks_dir)(info) / f"{info.notebook}.ipynb"


def read_notebook(info: LessonInfo, solution: bool = False) -> dict[str, Any]:
    """The notebook as JSON (nbformat 4.5).

    Raises FileNotFoundError, with what to do, when it has not been built.
    """
    path = notebook_path(info, solution)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing. In a clone, `mi-course build` makes it; an installed course should be installed again."
        ) from None


def source(cell: Mapping[str, Any]) -> str:
    """The text of a cell, which nbformat allows to be a list of lines."""
    text = cell.get("source", "")
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def code_cells(notebook: Notebook) -> Iterator[Mapping[str, Any]]:
    """Its code cells, in order."""
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def exercise_of(cell: Mapping[str, Any]) -> str | None:
    """The exercise that a cell of our own notebooks answers, from its metadata."""
    return cell.get("metadata", {}).get("mi_course", {}).get("exercise")


def is_setup(cell: Mapping[str, Any]) -> bool:
    """Whether a code cell of our own notebooks is a setup cell: its id is `setup`, or it is tagged so."""
    return cell.get("cell_type") == "code" and (
        cell.get("id") == SETUP or SETUP in cell.get("metadata", {}).get("tags", ())
    )


def answer_cells(notebook: Notebook) -> dict[str, str]:
    """Exercise id -> source of its answer cell, in the order of the notebook."""
    return {exercise: source(cell) for cell in code_cells(notebook) if (exercise := exercise_of(cell))}


def setup_cells(notebook: Notebook) -> list[str]:
    """The sources of its setup cells, in order."""
    return [source(cell) for cell in code_cells(notebook) if is_setup(cell)]


_CHECK_LINE = re.compile(r"^\w+\.check\(.*\)\s*;?\s*(#.*)?$")


def solution_answer(exercise_id: str) -> str:
    """The answer as the solution gives it: without markers, and without the line that checks it.

    Raises KeyError when the lesson's solution has no such answer, FileNotFoundError when it has not been built.
    """
    from mi_course.lessons import find

    info = find(exercise_id.partition(".")[0])
    answers = answer_cells(read_notebook(info, solution=True))
    if exercise_id not in answers:
        raise KeyError(f"solutions/{info.notebook}.ipynb holds no answer to {exercise_id}")
    return without_check(answers[exercise_id])


def without_check(text: str) -> str:
    """An answer cell without BEGIN/END markers and without the top-level line `lesson.check(...)`."""
    kept = [
        line for line in text.splitlines() if line.strip() not in (BEGIN, END) and not _CHECK_LINE.match(line.rstrip())
    ]
    return "\n".join(kept).strip("\n") + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Names


def top_level_names(text: str) -> frozenset[str]:
    """Names that the text binds at top level: assignments, imports, functions, loops. Empty if it does not parse.

    Lines that only IPython understands (`%matplotlib inline`, `!ls`) are left out first.
    """
    try:
        tree = ast.parse(python_only(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    names: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            todo.extend(node.body)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            todo.extend(ast.iter_child_nodes(node))
    return frozenset(names)


def python_only(text: str) -> str:
    """The text with the lines that only IPython understands blanked, so that line numbers stay.

    A cell that begins with a cell magic (`%%time`) loses that line only, if what follows is Python.
    """
    lines = text.splitlines()
    magic = re.compile(r"^\s*([%!?]|[\w.]+\?{1,2}\s*$)")
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join("" if magic.match(line) else line for line in lines)
    return text


def demonstration_names(info: LessonInfo) -> frozenset[str]:
    """Names that only the course's demonstration cells assign.

    An answer that reads one of them passes at home and crashes when it is marked, because demonstration cells are not
    run there. Names that the setup cell or an answer cell defines too are left out.
    """
    notebook = read_notebook(info)
    shown: set[str] = set()
    kept = set(kept_names(info))
    for cell in code_cells(notebook):
        if not is_setup(cell) and not exercise_of(cell):
            shown |= top_level_names(source(cell))
    return frozenset(shown - kept)


def kept_names(info: LessonInfo) -> frozenset[str]:
    """Names that the setup cells and the answer cells of a lesson define, which a marked answer may rely on."""
    names = frozenset[str]()
    for cell in code_cells(read_notebook(info)):
        if is_setup(cell) or exercise_of(cell):
            names |= top_level_names(source(cell))
    return names


# ---------------------------------------------------------------------------------------------------------------------
# Hashes


def source_hash(text: str) -> str:
    """A hash of a cell's text that other editors' line ends and trailing blanks do not change. 32 hex digits."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    plain = "\n".join(line.rstrip() for line in lines).strip("\n")
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cell_hashes(notebook: Notebook) -> dict[str, str]:
    """Cell id -> source hash."""
    return {cell["id"]: source_hash(source(cell)) for cell in notebook["cells"]}


def released_versions() -> tuple[str, ...]:
    """The versions of the course whose hashes the package keeps."""
    return tuple(sorted(path.stem for path in releases_dir().glob("*.json")))


def released_hashes(version: str | None = None) -> dict[str, dict[str, str]]:
    """Notebook -> cell id -> source hash, as this version of the course delivered them (None: the present one).

    Holds other people's lessons too, where their folder has a `releases/`. Empty for a version that is not known.
    """
    from mi_course.lessons import catalogue

    if version is None:
        from mi_course import __version__ as version
    if not re.fullmatch(r"[\w.+-]{1,64}", version):
        return {}
    merged: dict[str, dict[str, str]] = {}
    for folder in dict.fromkeys(releases_dir(info) for info in (None, *catalogue())):
        merged.update(_read_release(folder / f"{version}.json"))
    return merged


def known_hashes(info: LessonInfo) -> dict[str, frozenset[str]]:
    """Cell id -> every hash under which any released version, or the notebook as it is now, delivered it."""
    known: dict[str, set[str]] = {}
    editions = [_read_release(path).get(info.notebook, {}) for path in sorted(releases_dir(info).glob("*.json"))]
    if notebook_path(info).is_file():
        editions.append(cell_hashes(read_notebook(info)))
    for edition in editions:
        for id, value in edition.items():
            known.setdefault(id, set()).add(value)
    return {id: frozenset(values) for id, values in known.items()}


@cache
def _read_release(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
