"""Finds what lessons and exercises lack, and answers that leak into the learner's notebook."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mi_course.authoring.generate import stub
from mi_course.authoring.source import BuildError, Finding, SourceCell, regions
from mi_course.content import python_only, root, source
from mi_course.exercises import Exercise, LessonSpec
from mi_course.lessons import LessonInfo

__all__ = ["leaks", "review", "review_catalogue"]

MIN_HINTS = 2
MIN_MISTAKES = 4
LONG = 20
"""Non-blank characters from which a line of an answer counts as a leak wherever it appears."""
DISTINCTIVE = 12
"""The same for a line that both calls or indexes and computes."""
NOT_WRITTEN = "not written yet"
"""What `mi-course new` writes where an author has to."""

_HOOK_NAME = re.compile(r"""\s*f?"blocks\.[\w.{}]+"\s*""")
_EXPRESSION = re.compile(r"^\s*(return\b|[\w.,\s\[\]]+?(:[^=]+)?[-+*/@]?=(?!=))")
"""The part of a line before the expression that it returns or assigns."""


def review(info: LessonInfo, spec: LessonSpec, cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """What a lesson lacks, apart from what stops the builder."""
    where = _module_file(info)
    if "title" not in {cell.id for cell in cells if cell.kind == "markdown"}:
        yield cells[0].finding('there is no markdown cell with the id "title", whose first paragraph is the promise')
    if not any(cell.is_setup for cell in cells):
        yield cells[0].finding('there is no setup cell: give it the id "setup"')
    for name, count in Counter(exercise.id for exercise in spec.exercises).items():
        if count > 1:
            yield Finding(*_line(where, name), f"{count} exercises have the id {name}")
    for exercise in spec.exercises:
        for message in _incomplete(spec, exercise):
            yield Finding(*_line(where, exercise.id, exercise.name), f"{exercise.id}: {message}")
        yield from _in_source(exercise, cells)
    yield from _unwritten(info, cells)


def review_catalogue(infos: Sequence[LessonInfo]) -> Iterator[Finding]:
    """Lessons that share an id, a number or a notebook."""
    for attribute in ("id", "number", "notebook"):
        for value, count in Counter(getattr(info, attribute) for info in infos).items():
            if count > 1:
                yield Finding("mi_course/lessons/__init__.py", 1, f"{count} lessons have the {attribute} {value!r}")


def _incomplete(spec: LessonSpec, exercise: Exercise) -> Iterator[str]:
    if exercise.lesson != spec.id or not exercise.name.isidentifier():
        yield f"the id should be {spec.id}.<the name that the learner defines>"
    if not exercise.task.strip():
        yield "`task` is empty; say in one sentence what is asked"
    if len({hint.strip() for hint in exercise.hints} - {""}) < MIN_HINTS:
        yield f"has {len(exercise.hints)} hints that differ; {MIN_HINTS} are needed"
    if len(exercise.mistakes) < MIN_MISTAKES and not exercise.trivial:
        yield f"has {len(exercise.mistakes)} mistakes; {MIN_MISTAKES} are needed, unless it is marked as trivial"
    for what in ("name", "message"):
        for value, count in Counter(getattr(mistake, what) for mistake in exercise.mistakes).items():
            if count > 1 or not value.strip():
                yield f"{count} mistakes have the {what} {value!r}; each needs its own"
    if not exercise.reveal.strip():
        yield "`reveal` is empty; give the reason behind the answer"
    if exercise.points < 1 or any(part.points < 1 for part in exercise.parts):
        yield "every part needs at least one point"
    if exercise.minutes < 1 or exercise.difficulty not in (1, 2, 3):
        yield f"minutes {exercise.minutes} and difficulty {exercise.difficulty}: expected ≥ 1, and 1 to 3"
    if exercise.kind not in ("function", "value"):
        yield f"kind is {exercise.kind!r}, expected function or value"


def _in_source(exercise: Exercise, cells: Sequence[SourceCell]) -> Iterator[Finding]:
    name = exercise.name
    at = next((i for i, cell in enumerate(cells) if cell.answers == name), None)
    if at is None:
        yield cells[0].finding(f'no cell answers {exercise.id}: give one the id "answer-{name}"')
        return
    cell = cells[at]
    badge = re.compile(r"\{\{\s*exercise\s+" + re.escape(name) + r"\s*\}\}")
    if not any(badge.search(earlier.text) for earlier in cells[:at] if earlier.kind == "markdown"):
        yield cell.finding(f"no markdown cell before it states the exercise: write {{{{exercise {name}}}}} there")
    lines = cell.text.rstrip().splitlines()
    call = _parsed(lines[-1]) if lines else None
    if not (call and re.match(rf"lesson\.check\({name}\b", lines[-1])):
        yield cell.finding(f"the last line of the cell should be lesson.check({name})", max(len(lines) - 1, 0))
    try:
        tree = _parsed(stub(cell, exercise))
    except BuildError:
        return  # the builder says so
    if exercise.kind == "value" or tree is None:
        return
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name]
    if not defined:
        yield cell.finding(f"the cell defines no function {name}")
    elif not ast.get_docstring(defined[0]):
        yield cell.finding(f"{name} has no docstring outside the region: describe arguments and result, with units")


def _unwritten(info: LessonInfo, cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """What `mi-course new` left to be written: in the lesson's source, its modules, and its alternatives."""
    for cell in cells:
        for number, line in enumerate(cell.text.splitlines()):
            if NOT_WRITTEN in line:
                yield cell.finding(f"cell {cell.id!r} is {NOT_WRITTEN}", number)
    module = _module_file(info)
    paths = [*_modules(module), root() / "tests" / "alternatives" / f"{info.id}.py"] if module else []
    for path in filter(Path.is_file, paths):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if NOT_WRITTEN in line:
                yield Finding(_relative(path), number, f"is {NOT_WRITTEN}")


def leaks(cells: Sequence[SourceCell], notebook: dict[str, Any], spec: LessonSpec) -> Iterator[Finding]:
    """Answers in the learner's notebook: a line of a region, or an exercise's function with a body."""
    texts = [(cell["id"], _bare(source(cell))) for cell in notebook["cells"]]
    by_id = {cell.id: cell for cell in cells}
    for cell in cells:
        for region in regions(cell):
            for number, line in enumerate(region.lines, region.begin + 1):
                parts = {_bare(part) for part in (line, _EXPRESSION.sub("", line)) if _reveals(part)}
                for id, text in texts:
                    if any(part in text for part in parts):
                        yield cell.finding(f"this line of the answer is also in cell {id!r} of notebooks/", number)
    names = {exercise.name for exercise in spec.exercises}
    for cell in notebook["cells"]:
        tree = _parsed(source(cell)) if cell["cell_type"] == "code" else None
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.FunctionDef) and node.name in names and not _is_stub(node):
                yield by_id[cell["id"]].finding(f"{node.name} has a body in notebooks/", node.lineno - 1)


def _bare(line: str) -> str:
    return "".join(line.split())


def _reveals(line: str) -> bool:
    """Whether a line gives part of an answer away. Imports, `with torch.no_grad():` and names of hooks do not."""
    bare = _bare(line)
    if re.match(r"\s*(import|from|with)\b", line) or _HOOK_NAME.fullmatch(line):
        return False
    if len(bare) >= LONG:
        return True
    return len(bare) >= DISTINCTIVE and bool(re.search(r"[(\[]", line)) and bool(re.search(r"[-+*/@%<>:]", line))


def _is_stub(node: ast.FunctionDef) -> bool:
    """Whether the function raises NotImplementedError, which the builder puts in place of an answer."""
    return any(isinstance(inner, ast.Raise) and "NotImplementedError" in ast.dump(inner) for inner in ast.walk(node))


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(python_only(text))
    except SyntaxError:
        return None


def _module_file(info: LessonInfo) -> Path | None:
    file = inspect.getsourcefile(importlib.import_module(info.module))
    return Path(file) if file else None


def _modules(module: Path) -> list[Path]:
    """A lesson's module, or all modules of its package."""
    return sorted(module.parent.glob("*.py")) if module.name == "__init__.py" else [module]


def _line(module: Path | None, *names: str) -> tuple[str, int]:
    """File and line where a lesson's module, or another of its package, first has one of these names in quotes."""
    if module is None:
        return "?", 1
    for name in names:
        for path in _modules(module):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if f'"{name}"' in line or f'.{name}"' in line:
                    return _relative(path), number
    return _relative(module), 1


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
