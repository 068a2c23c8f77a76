"""The answers that tests check: references from solutions/, stubs from notebooks/, others from tests/alternatives/."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mi_course import content, lessons
from mi_course.exercises import Case, Exercise

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)


def every_exercise() -> list[Exercise]:
    return [exercise for info in lessons.OURS for exercise in lessons.load(info.id).exercises]


def functions() -> list[Exercise]:
    return [exercise for exercise in every_exercise() if exercise.kind == "function"]


class Inert:
    """Stands for `lesson` while answer cells are run, as in the grader."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@cache
def reference_source(lesson: str) -> dict[str, str]:
    """For each exercise of a lesson the source of its answer cell, without the check."""
    return {
        exercise.name: content.solution_answer(exercise.id)
        for exercise in lessons.load(lesson).exercises
        if exercise.kind == "function"
    }


def namespace(lesson: str, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """What a learner's kernel holds after the answer cells of a lesson were run in order."""
    space: dict[str, Any] = {"torch": torch, "lesson": Inert(), "__name__": "__main__"}
    for name, source in {**reference_source(lesson), **(replaced or {})}.items():
        exec(compile(source, f"<answer {name}>", "exec"), space)
    return space


@cache
def reference(exercise_id: str) -> Any:
    lesson, _, name = exercise_id.partition(".")
    return namespace(lesson)[name]


def stub(exercise: Exercise) -> Any:
    """What the learner's notebook holds for this exercise, untouched."""
    info = lessons.find(exercise.lesson)
    cells = content.answer_cells(content.read_notebook(info))
    tree = ast.parse(cells[exercise.id])
    tree.body = [node for node in tree.body if "lesson.check" not in ast.unparse(node)]
    space = namespace(exercise.lesson)
    space.pop(exercise.name, None)
    exec(compile(tree, "<stub>", "exec"), space)
    return space[exercise.name]


@cache
def _alternatives(lesson: str) -> dict[str, list[Any]]:
    path = HERE / "alternatives" / f"{lesson}.py"
    spec = importlib.util.spec_from_file_location(f"alternatives_{lesson}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ANSWERS


def alternatives(exercise: Exercise) -> list[Any]:
    return _alternatives(exercise.lesson)[exercise.name]


def as_answer(exercise: Exercise, thing: Any, case: Case) -> Any:
    """A value exercise's answer may depend on the case: `thing(case)`."""
    return thing(case) if exercise.kind == "value" and callable(thing) else thing
