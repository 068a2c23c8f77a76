"""What stands for the course's own functions in a cell. A module of its own, so that the globals of these hold nothing
of the runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mi_course.asking.cells import InertStub


def inert(*args: Any, **options: Any) -> InertStub:
    """In the place of `load_model` and `exercise`."""
    return InertStub()


def lesson_maker(lesson: Any) -> Callable[..., Any]:
    """In the place of `mi_course.lesson`."""
    return lambda which=None: lesson
