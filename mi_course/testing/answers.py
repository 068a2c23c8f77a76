"""The answers that the proof checks: references from solutions, stubs from notebooks, alternatives."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mi_course import content, lessons
from mi_course.asking.cells import LessonStub
from mi_course.exercises import Case, Exercise

__all__ = [
    "alternatives",
    "as_answer",
    "equivalent_kinds",
    "equivalents",
    "exercises",
    "namespace",
    "reference",
    "reference_source",
    "stub",
]


def exercises(*which: str | int) -> list[Exercise]:
    """All exercises of these lessons, by id or number; of every lesson of the course if none is named."""
    return [
        exercise
        for lesson in which or [info.id for info in lessons.OURS]
        for exercise in lessons.load(lesson).exercises
    ]


@cache
def reference_source(lesson: str) -> dict[str, str]:
    """Exercise name -> source of its answer cell, without the check: the lesson's functions."""
    return {
        exercise.name: content.solution_answer(exercise.id)
        for exercise in lessons.load(lesson).exercises
        if exercise.kind == "function"
    }


@cache
def _definitions(lesson: str) -> str:
    """What the lesson's setup cells define. What else they do (load a model) is left out."""
    cells = content.setup_cells(content.read_notebook(lessons.find(lesson), solution=True))
    return "\n".join(map(content.definitions, cells))


def namespace(lesson: str, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """What a kernel holds after the answer cells of a lesson were run in order, some with `replaced` sources."""
    space: dict[str, Any] = {"__name__": "__main__"}
    space["lesson"] = LessonStub(space)
    exec(compile(_definitions(lesson), "<setup>", "exec"), space)
    for name, source in {**reference_source(lesson), **(replaced or {})}.items():
        exec(compile(source, f"<answer {name}>", "exec"), space)
    return space


@cache
def reference(exercise_id: str) -> Any:
    """The function of the lesson's own solution."""
    lesson, _, name = exercise_id.partition(".")
    return namespace(lesson)[name]


def stub(exercise: Exercise) -> Any:
    """What the learner's notebook holds for this exercise, untouched."""
    cells = content.answer_cells(content.read_notebook(lessons.find(exercise.lesson)))
    space = namespace(exercise.lesson)
    space.pop(exercise.name, None)
    exec(compile(content.without_check(cells[exercise.id]), "<stub>", "exec"), space)
    return space[exercise.name]


@cache
def _module(lesson: str) -> ModuleType:
    if name := lessons.alternatives_module(lesson):
        return importlib.import_module(name)
    if lesson not in [info.id for info in lessons.OURS]:
        raise LookupError(f"the plug-in of lesson {lesson!r} names no module of alternatives: Plugin(alternatives=...)")
    path = content.root() / "tests" / "alternatives" / f"{lesson}.py"
    return _load(path)


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the alternatives of the course's own lessons are only in a clone")
    spec = importlib.util.spec_from_file_location(f"alternatives_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alternatives(exercise: Exercise) -> list[Any]:
    """Other right answers."""
    return list(_module(exercise.lesson).ANSWERS.get(exercise.name, ()))


def equivalents(exercise: Exercise) -> dict[str, str]:
    """Mutants of the reference that are right: changed statement -> reason."""
    return dict(getattr(_module(exercise.lesson), "EQUIVALENT", {}).get(exercise.name, {}))


def equivalent_kinds(exercise: Exercise) -> dict[str, str]:
    """Kinds (`mi_course.testing.kinds`) that are right, or that no case can show: name, perhaps with `*` -> reason."""
    return dict(getattr(_module(exercise.lesson), "EQUIVALENT_KINDS", {}).get(exercise.name, {}))


def as_answer(exercise: Exercise, answer: Any, case: Case) -> Any:
    """The answer itself; to a value exercise it may be a function that makes it from the case."""
    return answer(case) if exercise.kind == "value" and callable(answer) else answer
