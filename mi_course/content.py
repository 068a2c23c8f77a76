"""Finds the course's files, and reads its notebooks.

One resolver serves a clone, an editable install, a wheel (which carries `mi_course/_content/`) and the folders of
plug-ins' lessons. Nothing here imports torch; notebooks are read as plain JSON.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from mi_course.errors import UnknownName
from mi_course.interp.models.where import course_root
from mi_course.interp.models.where import data_dir as data_dir  # notebooks say content.data_dir()
from mi_course.lessons import LessonInfo, catalogue, find
from mi_course.version import __version__

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
ANSWER = "answer-"
"""The id of an answer cell is this and the exercise's name."""
SETUP = "setup"
"""The id, or the tag, of a setup cell."""
ANSWER_MIME = "application/vnd.mi-course.answer+json"
"""The output in which `lesson.check` records a value, for the grader to judge."""
ANSWER_BYTES = 2**20
"""The size up to which a value is recorded."""

Notebook = Mapping[str, Any]


def root(info: LessonInfo | None = None) -> Path:
    """The folder with `notebooks/`, `solutions/` and `data/`.

    The clone's root; `mi_course/_content` in a wheel; for a plug-in's lesson the folder that it names.
    """
    if info is not None and info.folder:
        return Path(info.folder)
    return course_root()


def notebooks_dir(info: LessonInfo | None = None) -> Path:
    """The notebooks that learners open: generated, without answers."""
    return root(info) / "notebooks"


def solutions_dir(info: LessonInfo | None = None) -> Path:
    """The lessons' sources and executed solutions."""
    return root(info) / "solutions"


def releases_dir(info: LessonInfo | None = None) -> Path:
    """One `<version>.json` per released version: the source hash of each cell of each notebook."""
    if info is not None and info.folder:
        return Path(info.folder) / "releases"
    return Path(__file__).resolve().parent / "releases"


def constraints_file() -> Path:
    """The tested versions of all dependencies."""
    return root() / "constraints.txt"


# ---------------------------------------------------------------------------------------------------------------------
# Notebooks


def notebook_path(info: LessonInfo, solution: bool = False) -> Path:
    """The learner's notebook of a lesson, or its executed solution."""
    return (solutions_dir if solution else notebooks_dir)(info) / f"{info.notebook}.ipynb"


def read_notebook(info: LessonInfo, solution: bool = False) -> dict[str, Any]:
    """The notebook as JSON (nbformat 4.5). Raises FileNotFoundError if it has not been built."""
    path = notebook_path(info, solution)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing. In a clone, `mi-course build` makes it; an installed course should be installed again."
        ) from None


def source(cell: Mapping[str, Any]) -> str:
    """The text of a cell; nbformat also allows a list of lines."""
    text = cell.get("source", "")
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def code_cells(notebook: Notebook) -> Iterator[Mapping[str, Any]]:
    """The code cells, in order."""
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def exercise_of(cell: Mapping[str, Any]) -> str | None:
    """The id of the exercise that a cell of our notebooks answers, from its metadata."""
    return cell.get("metadata", {}).get("mi_course", {}).get("exercise")


def is_setup(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of our notebooks is a setup cell: code whose id is `setup`, or which has that tag."""
    return cell.get("cell_type") == "code" and (
        cell.get("id") == SETUP or SETUP in cell.get("metadata", {}).get("tags", ())
    )


def answer_cells(notebook: Notebook) -> dict[str, str]:
    """Exercise id -> source of its answer cell, in notebook order."""
    return {exercise: source(cell) for cell in code_cells(notebook) if (exercise := exercise_of(cell))}


def setup_cells(notebook: Notebook) -> list[str]:
    """The sources of the setup cells, in order."""
    return [source(cell) for cell in code_cells(notebook) if is_setup(cell)]


_CHECK_LINE = re.compile(r"^\w+\.check\(.*\)\s*;?\s*(#.*)?$")


def solution_answer(exercise_id: str) -> str:
    """The solution's answer cell, without markers and without the line that checks it.

    Raises UnknownName if the solution has no such answer, FileNotFoundError if it has not been built.
    """
    info = find(exercise_id.partition(".")[0])
    answers = answer_cells(read_notebook(info, solution=True))
    if exercise_id not in answers:
        raise UnknownName(f"solutions/{info.notebook}.ipynb holds no answer to {exercise_id}")
    return without_check(answers[exercise_id])


def solution_code(info: LessonInfo) -> list[tuple[str, str]]:
    """(cell, source) of what defines the solution's answers: its setup cells without their effects, its answer cells.

    Of a setup cell, imports, definitions and constants are kept; what calls something (`load_model()`) is left out.
    Raises FileNotFoundError if the solution has not been built.
    """
    notebook = read_notebook(info, solution=True)
    setup = [(SETUP, definitions(text)) for text in setup_cells(notebook)]
    return [*setup, *((exercise, without_check(text)) for exercise, text in answer_cells(notebook).items())]


def definitions(text: str) -> str:
    """The imports, definitions and call-free assignments of a cell."""
    tree = ast.parse(python_only(text))
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, definitions)
        or (isinstance(node, ast.Assign | ast.AnnAssign) and not any(isinstance(n, ast.Call) for n in ast.walk(node)))
    ]
    return ast.unparse(tree)


def without_check(text: str) -> str:
    """An answer cell without BEGIN and END markers, and without the top-level line `lesson.check(...)`."""
    kept = [
        line for line in text.splitlines() if line.strip() not in (BEGIN, END) and not _CHECK_LINE.match(line.rstrip())
    ]
    return "\n".join(kept).strip("\n") + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Names


@lru_cache(maxsize=256)  # all cells of a notebook: some are looked at more than once
def top_level_names(text: str) -> frozenset[str]:
    """Names that the text binds at top level: assignments, imports, definitions, loops. Empty if it does not parse.

    Lines that only IPython understands (`%matplotlib inline`, `!ls`) are dropped first.
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


_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w.*]+\?{1,2}\s*)$")
_MAGIC_VALUE = re.compile(r"^(\s*[\w., ()\[\]*\"']+=\s*)[%!].*$")
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")


def python_only(text: str) -> str:
    """The text with what only IPython understands replaced, to read what a cell defines; line numbers stay the same.

    It is not what runs (`asking.cells`): IPython's transformer would take seconds for a hostile text.
    """
    try:
        ast.parse(text)
        return text
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    magic = _CELL_MAGIC.match(text)
    if magic and magic[1] not in ("time", "capture", "prun"):
        return ""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip())]
    return "\n".join(_python_line(line.removeprefix(margin)) for line in lines)


def _python_line(line: str) -> str:
    if magic := _MAGIC.match(line):
        return f"{magic[1]}pass" if magic[1] else ""
    value = _MAGIC_VALUE.match(line)
    return f"{value[1]}None" if value else line


def demonstration_names(info: LessonInfo) -> frozenset[str]:
    """Names that only the course's demonstration cells define, not a setup or answer cell.

    An answer that reads one of them passes in the notebook and crashes in the grader, which runs no demonstrations.
    """
    notebook = read_notebook(info)
    shown: set[str] = set()
    kept = set(kept_names(info))
    for cell in code_cells(notebook):
        if not is_setup(cell) and not exercise_of(cell):
            shown |= top_level_names(source(cell))
    return frozenset(shown - kept)


def kept_names(info: LessonInfo) -> frozenset[str]:
    """Names that a lesson's setup and answer cells define: a marked answer may use them."""
    names = frozenset[str]()
    for cell in code_cells(read_notebook(info)):
        if is_setup(cell) or exercise_of(cell):
            names |= top_level_names(source(cell))
    return names


# ---------------------------------------------------------------------------------------------------------------------
# Hashes


def source_hash(text: str) -> str:
    """A hash of a cell's text that ignores line endings and trailing whitespace. 32 hex digits."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    plain = "\n".join(line.rstrip() for line in lines).strip("\n")
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cell_hashes(notebook: Notebook) -> dict[str, str]:
    """Cell id -> source hash."""
    return {cell["id"]: source_hash(source(cell)) for cell in notebook["cells"]}


def released_hashes(version: str | None = None) -> dict[str, dict[str, str]]:
    """Notebook -> cell id -> source hash, as delivered by a version of the course (None: the current one).

    Plug-ins' lessons are included where their folder has a `releases/`. Empty for an unknown version.
    """
    version = __version__ if version is None else version
    if not re.fullmatch(r"[\w.+-]{1,64}", version):
        return {}
    merged: dict[str, dict[str, str]] = {}
    for folder in dict.fromkeys(releases_dir(info) for info in (None, *catalogue())):
        merged.update(_read_release(folder / f"{version}.json"))
    return merged


def known_hashes(info: LessonInfo) -> dict[str, frozenset[str]]:
    """Cell id -> its hashes in every released version and in the current notebook."""
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
