"""A learner's notebook as its answers: which of its cells are run, and which are not.

In one namespace run, in this order: the course's own setup cells (from the package, not from the notebook); then, as
they stand in the notebook, the cells that answer an exercise, the cells that the learner added, and the course's cells
that the learner changed, since people add imports there. Unchanged cells of the course are not run: answers have to
stand without them.

Nothing in a notebook is believed. A cell counts as unchanged if its text is one that some released version delivered,
whatever its id says; tags, metadata, kernel names and outputs are ignored. Where ids were lost the name of the function
finds the answer. Of several definitions of the same name the last counts, as in any Python file, and a note says so.

`mi-course check` and the grader share this module. It imports neither torch nor the lessons' truth, and runs nothing.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mi_course.content import (
    ANSWER,
    ANSWER_MIME,
    code_cells,
    exercise_of,
    is_setup,
    known_hashes,
    notebook_path,
    python_only,
    read_notebook,
    source,
    source_hash,
    top_level_names,
)
from mi_course.errors import CourseError
from mi_course.lessons import LessonInfo, catalogue, find

__all__ = [
    "NOT_RECORDED",
    "SETUP_POSITION",
    "Submission",
    "SubmissionError",
    "SubmittedCell",
    "parse",
    "read",
    "records_in",
    "select_cells",
]

NOT_RECORDED = "The notebook holds no recorded value of it: were its outputs cleared? Run it again, and save it."
SETUP_POSITION = 0
"""The position under which the course's own setup cells are reported; a notebook's cells count from 1."""
MAX_BYTES = 64 * 2**20
MAX_VALUES = 8_000_000
"""Lists, numbers and texts in a notebook's JSON, before it is read; objects count four times."""
CELL_CHARACTERS = 2**20
"""Of the source of a cell that is run."""
SOURCE_CHARACTERS = 4 * 2**20
"""Of all cells together."""
MAX_CELLS = 5_000
MAX_NOTES = 20
MAX_RECORDS = 500
"""Recorded values that are looked at: the last ones."""
PARSED_CHARACTERS = 100_000
"""Of a cell that is parsed to see what it defines: a tree takes 500 times the memory of its text."""


class SubmissionError(CourseError):
    """A file that is no notebook, or one of no lesson. The text is one paragraph: what was seen, and what to do."""


@dataclass(frozen=True)
class SubmittedCell:
    """A cell that is run."""

    position: int
    """Its place among all cells of the notebook, from 1."""
    role: str
    """answer, added or changed."""
    source: str
    answers: tuple[str, ...] = ()
    """The names of the exercises that it defines."""


@dataclass(frozen=True)
class Submission:
    """What is run of a notebook."""

    info: LessonInfo
    setup: tuple[str, ...]
    """The course's own setup cells."""
    cells: tuple[SubmittedCell, ...]
    exercises: tuple[str, ...]
    """Ids of all exercises of the lesson, in order."""
    notes: tuple[str, ...] = ()
    """What the learner, or whoever marks, should know."""
    attempted: frozenset[str] = frozenset()
    """The names of the exercises whose cell is not as it was delivered."""
    records: tuple[tuple[str, str], ...] = ()
    """(exercise id, encoded value), as `check` recorded them in the notebook: see `recorded_values`."""


def read(path: Path, lesson: str | int | None = None) -> Submission:
    """A notebook or a Python file. `lesson` says which lesson's it is; otherwise its content does.

    Raises SubmissionError.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise SubmissionError(f"{path} is a folder, expected a notebook (.ipynb) or a Python file (.py).")
        if size > MAX_BYTES:
            raise SubmissionError(
                f"{path} has {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} are read. "
                "Clear its outputs (Edit, Clear Outputs of All Cells) and save it again."
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SubmissionError(f"There is no file {path}.") from None
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read: {error.strerror or error}.") from None
    return select_cells(parse(raw, path.name), path.name, lesson)


# ---------------------------------------------------------------------------------------------------------------------
# Parsing


def parse(raw: bytes, name: str) -> dict[str, Any]:
    """The notebook, with `cells` that are dicts with `cell_type` and `source`; other things in it are dropped.

    Reads nbformat 3 too. A `.py` file becomes a notebook, by its marks for cells or else by its statements.
    Raises SubmissionError.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{name} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if name.endswith(".py"):
        text = text.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads it
        if sum(1 for _ in _MARK.finditer(text)) > MAX_CELLS:
            raise SubmissionError(f"{name} holds more than {MAX_CELLS:,} cells.")
        return {"cells": list(_python_cells(text)), "metadata": {}}
    if not text.strip():
        raise SubmissionError(f"{name} is empty.")
    if len(raw) > 2**20 and _values(raw) > MAX_VALUES:
        raise SubmissionError(f"{name} holds more than {MAX_VALUES // 10**6} million values. Clear its outputs.")
    try:
        found = json.loads(text)
    except RecursionError:
        raise SubmissionError(f"{name} is nested too deeply to be a notebook.") from None
    except ValueError as error:
        raise SubmissionError(
            f"{name} is no notebook: {error}. If saving it was interrupted, restore it from a checkpoint or a copy."
        ) from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if cells is None and isinstance(found, dict) and isinstance(found.get("worksheets"), list):
        sheets = [sheet for sheet in found["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or ()]
    if not isinstance(cells, list):
        raise SubmissionError(f"{name} is no notebook: it holds no list of cells.")
    if len(cells) > 4 * MAX_CELLS:
        raise SubmissionError(f"{name} holds more than {4 * MAX_CELLS:,} cells.")
    metadata = found.get("metadata")
    return {
        "cells": [_plain_cell(cell) for cell in cells if isinstance(cell, dict)],
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string of JSON, or the rest of the text where it is never closed. Possessive, so that it never looks back."""


def _values(raw: bytes) -> int:
    """How many values a JSON text holds, at most, in one pass over it."""
    bare = _STRING.sub(b"", raw)
    return bare.count(b"[") + 4 * bare.count(b"{") + bare.count(b",")


def _plain_cell(cell: dict[str, Any]) -> dict[str, Any]:
    text = cell.get("source", cell.get("input", ""))
    lines = text if isinstance(text, list) else [text]
    metadata = cell.get("metadata")
    return {
        "cell_type": cell["cell_type"] if isinstance(cell.get("cell_type"), str) else "raw",
        "id": cell["id"] if isinstance(cell.get("id"), str) else "",
        "metadata": metadata if isinstance(metadata, dict) else {},
        "source": "".join(line for line in lines if isinstance(line, str)),
        "malformed": not all(isinstance(line, str) for line in lines),
        "outputs": cell["outputs"] if isinstance(cell.get("outputs"), list) else [],
    }


_MARK = re.compile(r"^# ?(?:%%(.*)|In ?\[[\d *]*\]:?[ \t]*|\+(?:[ \t].*)?)\n", re.MULTILINE)
"""Where editors begin a cell: `# %%`, `#%%`, nbconvert's `# In[3]:`, jupytext's `# +`."""


def _python_cells(text: str) -> Iterator[dict[str, Any]]:
    """Cells of a Python file, so that an error in one stops only that one. A file without marks: its statements."""
    parts = _MARK.split(text + "\n")
    cells = [(header or "", body) for header, body in zip(["", *parts[1::2]], parts[::2], strict=True) if body.strip()]
    if len(text) <= 2 * PARSED_CHARACTERS and (len(cells) < 2 or _splits_a_statement(text, cells)):
        cells = [("", part) for part in _statements(text)] or cells
    for header, body in cells:
        kind = "markdown" if "[markdown]" in header or "[md]" in header else "code"
        id = re.search(r'\bid="([^"]*)"', header)
        yield _plain_cell({"cell_type": kind, "id": id[1] if id else "", "source": body.strip("\n")})


def _splits_a_statement(text: str, cells: list[tuple[str, str]]) -> bool:
    """Whether what looks like a mark stands within a statement: the whole is Python and a cell is not."""
    return _tree(text) is not None and any(
        _tree(body) is None for header, body in cells if "[markdown]" not in header and "[md]" not in header
    )


def _statements(text: str) -> list[str]:
    """The top-level statements; none if the text does not parse."""
    tree, lines = _tree(text), python_only(text).split("\n")
    starts = []
    for node in tree.body if tree else ():
        decorators = getattr(node, "decorator_list", ())
        starts.append(min([node.lineno, *(one.lineno for one in decorators)]) - 1)
    starts = sorted(set(starts))
    ends = [*starts[1:], len(lines)]
    return ["\n".join(lines[begin:end]) for begin, end in zip(starts, ends, strict=False)]


def _tree(text: str) -> ast.Module | None:
    try:
        return ast.parse(python_only(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Taking


def records_in(notebook: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """(exercise id, encoded value) of what `check` recorded in a parsed notebook."""
    records = []
    for cell in notebook["cells"]:
        for output in cell["outputs"]:
            data = output.get("data") if isinstance(output, dict) else None
            record = data.get(ANSWER_MIME) if isinstance(data, dict) else None
            if isinstance(record, dict) and record.get("format") == 1:
                exercise, value = record.get("exercise"), record.get("value")
                if isinstance(exercise, str) and isinstance(value, str):
                    records.append((exercise, value))
    return tuple(records[-MAX_RECORDS:])


def select_cells(notebook: dict[str, Any], name: str, lesson: str | int | None = None) -> Submission:
    """What is run of a parsed notebook. Raises SubmissionError when it belongs to no lesson."""
    info = _lesson(notebook, name, lesson)
    ours = read_notebook(info)
    known = known_hashes(info)
    exercises = [exercise for cell in code_cells(ours) if (exercise := exercise_of(cell))]
    names = {exercise.partition(".")[2] for exercise in exercises}
    answer_ids = {id for id in known if id.startswith(ANSWER)}
    delivered = {value for id, values in known.items() if id not in answer_ids for value in values}
    stubs = {value for id in answer_ids for value in known[id]}
    attempted: set[str] = set()
    course_ids = set(known) - answer_ids
    taken: list[SubmittedCell] = []
    places: dict[str, list[int]] = {}
    notes: list[str] = []
    room = SOURCE_CHARACTERS
    for position, cell in enumerate(notebook["cells"], 1):
        text = source(cell)
        if cell.get("malformed") and len(notes) < MAX_NOTES - 1:
            notes.append(f"the source of cell {position} is not text, or only in part")
        if cell["cell_type"] != "code" or not text.strip() or source_hash(text) in delivered:
            continue
        if len(text) > min(CELL_CHARACTERS, room) or len(taken) == MAX_CELLS:
            notes.append(
                f"cell {position} is not run: at most {CELL_CHARACTERS // 2**20} MB of source in a cell are, "
                f"{SOURCE_CHARACTERS // 2**20} MB in all, and {MAX_CELLS:,} cells"
            )
            if len(notes) == MAX_NOTES:
                break
            continue
        room -= len(text)
        defines = tuple(sorted(defined(text, names)))
        if source_hash(text) not in stubs:
            attempted.update(defines)
        for one in defines:
            places.setdefault(one, []).append(position)
        role = "changed" if cell["id"] in course_ids else "added"
        if defines or cell["id"] in answer_ids:
            role = "answer"
        taken.append(SubmittedCell(position, role, text, defines))
    notes += [
        f"{one} is defined in cells {', '.join(map(str, where[:-1][:MAX_NOTES]))} and {where[-1]}; the last counts"
        for one, where in places.items()
        if len(where) > 1
    ]
    setup = tuple(source(cell) for cell in code_cells(ours) if is_setup(cell))
    return Submission(
        info, setup, tuple(taken), tuple(exercises), tuple(notes), frozenset(attempted), records_in(notebook)
    )


def defined(text: str, names: frozenset[str] | set[str]) -> frozenset[str]:
    """Which of these names a cell binds at top level. In a long cell only what begins a line is looked at."""
    if len(text) <= PARSED_CHARACTERS:
        return top_level_names(text) & names
    return frozenset(m[1] or m[2] for m in _DEFINES.finditer(text) if (m[1] or m[2]) in names)


_DEFINES = re.compile(r"^(?:(?:(?:async +)?def|class) +(\w+)|(\w+) *(?::[^=\n]*)?=(?!=))", re.MULTILINE)


def _lesson(notebook: dict[str, Any], name: str, lesson: str | int | None) -> LessonInfo:
    if lesson is not None:
        try:
            return find(lesson)
        except KeyError as error:
            raise SubmissionError(f"{error.args[0]}.") from None
    metadata = notebook["metadata"].get("mi_course")
    claimed = metadata.get("lesson") if isinstance(metadata, dict) else None
    names = {info: _exercise_names(info) for info in catalogue()}
    counts = _definitions(notebook, frozenset[str]().union(*names.values()))

    def evidence(info: LessonInfo) -> tuple[bool, int, bool, bool]:
        """What the notebook holds counts more than what it says of itself, and the file's name least."""
        answers = sum(counts[one] for one in names[info])
        return (
            bool(answers and info.id == claimed),
            answers,
            info.id == claimed,
            Path(name).stem.startswith(info.notebook),
        )

    best = max(names, key=evidence, default=None)
    if best is None or not any(evidence(best)):
        raise SubmissionError(
            f"{name} holds no answer to any lesson of the course; there are "
            f"{', '.join(info.notebook for info in names)}. If it is one of them, say which: --lesson NN."
        )
    return best


def _definitions(notebook: dict[str, Any], wanted: frozenset[str]) -> Counter[str]:
    """How many cells define each of these names."""
    counts = Counter[str]()
    room = SOURCE_CHARACTERS
    for cell in notebook["cells"]:
        text = source(cell)
        room -= len(text)
        if room < 0:
            break
        if cell["cell_type"] == "code":
            counts.update(defined(text, wanted))
    return counts


def _exercise_names(info: LessonInfo) -> frozenset[str]:
    try:
        return _names_asked_for(info, notebook_path(info).stat().st_mtime_ns)
    except (OSError, ValueError):
        return frozenset()


@cache
def _names_asked_for(info: LessonInfo, changed: int) -> frozenset[str]:
    exercises = [exercise_of(cell) for cell in code_cells(read_notebook(info))]
    return frozenset(exercise.partition(".")[2] for exercise in exercises if exercise)
