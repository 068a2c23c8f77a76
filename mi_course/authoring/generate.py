"""Makes the learner's notebook and the unexecuted solution from a lesson's source and exercises.

Both depend on their inputs alone, byte for byte: no clock, no random ids, sorted keys.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import nbformat

from mi_course.authoring.source import BuildError, Finding, SourceCell, regions
from mi_course.content import BEGIN, END, python_only, top_level_names
from mi_course.exercises import Exercise, LessonSpec
from mi_course.lessons import LessonInfo, catalogue
from mi_course.version import __version__

__all__ = ["dump", "learner_notebook", "solution_notebook", "stub"]

STUB = 'raise NotImplementedError("your turn")'
NOT_COMPARED = "nbval-ignore-output"
"""nbval's own tag: executed, and its output not compared."""

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
_PLACEHOLDER = re.compile(r"\{\{\s*([a-z]+)(?:\s+(\w+))?\s*\}\}")
_DOTS = "●●●○○○"


def learner_notebook(info: LessonInfo, spec: LessonSpec, cells: Sequence[SourceCell]) -> dict[str, Any]:
    """The notebook that learners open, without claims cells. Raises BuildError."""
    notebook = _notebook(info, spec, cells, stub)
    kept = [built for cell, built in zip(cells, notebook["cells"], strict=True) if not cell.is_claims]
    return {**notebook, "cells": kept}


def solution_notebook(info: LessonInfo, spec: LessonSpec, cells: Sequence[SourceCell]) -> dict[str, Any]:
    """The unexecuted solution, with answers and without markers. Raises BuildError."""
    notebook = _notebook(info, spec, cells, lambda cell, exercise: _without_markers(cell))
    for source, cell in zip(cells, notebook["cells"], strict=True):
        if "not-compared" in source.tags:
            cell["metadata"]["tags"] = sorted({*cell["metadata"]["tags"], NOT_COMPARED})
    return notebook


def _notebook(
    info: LessonInfo, spec: LessonSpec, cells: Sequence[SourceCell], answer: Callable[[SourceCell, Exercise], str]
) -> dict[str, Any]:
    by_name = {exercise.name: exercise for exercise in spec.exercises}
    built, findings = [], []
    for cell in cells:
        try:
            built.append(_cell(info, spec, cell, by_name, answer))
        except BuildError as error:
            findings += error.findings
    if findings:
        raise BuildError(findings)
    meta = {"lesson": info.id, "course_version": __version__, "source_hash": _source_hash(spec, cells)}
    return {"cells": built, "metadata": {**KERNEL, "mi_course": meta}, "nbformat": 4, "nbformat_minor": 5}


def _cell(
    info: LessonInfo,
    spec: LessonSpec,
    cell: SourceCell,
    by_name: dict[str, Exercise],
    answer: Callable[[SourceCell, Exercise], str],
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": sorted(cell.tags)} if cell.tags else {}
    if cell.kind != "code":
        text = _fill(info, spec, cell, by_name) if cell.kind == "markdown" else cell.text
        return {"cell_type": cell.kind, "id": cell.id, "metadata": metadata, "source": text}
    text = cell.text
    if cell.answers is not None:
        exercise = by_name.get(cell.answers)
        if exercise is None:
            raise BuildError([cell.finding(f"lesson {spec.id} has no exercise {cell.answers!r}")])
        text = answer(cell, exercise)
        metadata["mi_course"] = {"exercise": exercise.id, "revision": exercise.revision}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell.id,
        "metadata": metadata,
        "outputs": [],
        "source": text,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Stubs


def stub(cell: SourceCell, exercise: Exercise) -> str:
    """The answer cell without its answer.

    A region inside a function becomes `raise NotImplementedError("your turn")`. A region at top level belongs to an
    exercise whose answer is a value, and becomes `name = ...`. Raises BuildError.
    """
    lines: list[str] = []
    at, top = 0, 0
    source = cell.text.splitlines()
    for region in regions(cell):
        lines += source[at : region.begin]
        at = region.end + 1
        if region.indent:
            lines.append(region.indent + STUB)
            continue
        top += 1
        if exercise.kind != "value":
            raise BuildError(
                [
                    cell.finding(
                        f"the region contains all of {exercise.name}; leave `def` and docstring outside", region.begin
                    )
                ]
            )
        if exercise.name not in top_level_names("\n".join(region.lines)):
            raise BuildError([cell.finding(f"the region does not assign {exercise.name}", region.begin)])
        lines.append(f"{exercise.name} = ...")
    if at == 0:
        raise BuildError([cell.finding(f"the answer cell of {exercise.name} has no `{BEGIN}` … `{END}`")])
    if top > 1:
        raise BuildError([cell.finding(f"{exercise.name} is assigned in {top} regions; one is enough")])
    text = "\n".join(lines + source[at:])
    try:
        ast.parse(python_only(text))
    except SyntaxError as error:
        raise BuildError([cell.finding(f"the stub of {exercise.name} does not parse: {error}")]) from None
    return text


def _without_markers(cell: SourceCell) -> str:
    return "\n".join(line for line in cell.text.splitlines() if line.strip() not in (BEGIN, END))


# ---------------------------------------------------------------------------------------------------------------------
# Placeholders


def _fill(info: LessonInfo, spec: LessonSpec, cell: SourceCell, by_name: dict[str, Exercise]) -> str:
    findings: list[Finding] = []

    def value(match: re.Match[str]) -> str:
        word, name = match.groups()
        line = cell.text.count("\n", 0, match.start())
        if word == "exercise" and name in by_name:
            return badge(by_name[name])
        if word == "exercise":
            findings.append(cell.finding(f"lesson {spec.id} has no exercise {name!r}", line))
        elif word in plain and name is None:
            return plain[word]()
        else:
            known = ", ".join(["exercise NAME", *plain])
            findings.append(cell.finding(f"unknown placeholder {match.group()}; there are {known}", line))
        return match.group()

    plain: dict[str, Callable[[], str]] = {
        "lesson": lambda: spec.title,
        "number": lambda: f"{info.number:02d}",
        "minutes": lambda: str(spec.minutes),
        "points": lambda: str(sum(exercise.points for exercise in spec.exercises)),
        "exercises": lambda: str(len(spec.exercises)),
        "next": lambda: _next(info),
    }
    text = _PLACEHOLDER.sub(value, cell.text)
    if findings:
        raise BuildError(findings)
    return text


def badge(exercise: Exercise) -> str:
    """What stands above an exercise: a line with its name, points, minutes and difficulty, and its task."""
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    minutes = "1 minute" if exercise.minutes == 1 else f"{exercise.minutes} minutes"
    dots = _DOTS[3 - exercise.difficulty : 6 - exercise.difficulty]
    return f"**Exercise · `{exercise.name}`** · {points} · about {minutes} · {dots}\n\n{exercise.task}"


def _next(info: LessonInfo) -> str:
    """A link to the next lesson in the same folder; to the syllabus after the last."""
    later = [other for other in catalogue() if other.folder == info.folder and other.number > info.number]
    if not later:
        return "[the syllabus](README.md)"
    following = min(later, key=lambda other: other.number)
    return f"[{following.number:02d} · {following.title}]({following.notebook}.ipynb)"


# ---------------------------------------------------------------------------------------------------------------------
# Hash and file format


def _source_hash(spec: LessonSpec, cells: Sequence[SourceCell]) -> str:
    """A hash of what execution depends on: code cells, their order and tags, the exercises' revisions and points.

    Prose is left out, so that rewording a sentence does not execute a lesson again.
    """
    code = [[cell.id, cell.text, sorted(cell.tags)] for cell in cells if cell.kind == "code"]
    exercises = [[exercise.id, exercise.revision, exercise.points] for exercise in spec.exercises]
    return hashlib.sha256(json.dumps([code, exercises]).encode()).hexdigest()[:32]


def dump(notebook: dict[str, Any]) -> str:
    """The notebook as text: one space of indentation, sorted keys, sources as lists of lines, as nbformat writes it."""
    node = nbformat.from_dict(notebook)
    nbformat.validate(node)
    return nbformat.writes(node) + "\n"
