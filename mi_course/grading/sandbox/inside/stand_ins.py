"""Stand-ins for the course's own functions in cells. A module of its own, so that their globals hold nothing of the
runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mi_course.asking.cells import InertStub


def inert(*args: Any, **options: Any) -> InertStub:
    """Replaces `load_model` and `exercise`."""
    return InertStub()


def lesson_maker(lesson: Any) -> Callable[..., Any]:
    """Replaces `mi_course.lesson`."""
    return lambda which=None: lesson
