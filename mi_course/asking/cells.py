"""Runs notebook cells without a kernel: in `mi-course check`, and inside the grader's sandbox."""

from __future__ import annotations

import builtins
import contextlib
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

from mi_course.asking.limits import TimeUp, time_limit

__all__ = ["InertStub", "LessonStub", "main_namespace", "run_cell"]


def main_namespace() -> dict[str, Any]:
    """The namespace of a fresh `__main__`, as a notebook has it. `display` shows nothing."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    namespace.update(__builtins__=builtins, display=lambda *args, **options: None)
    return namespace


def run_cell(source: str, position: int, namespace: dict[str, Any], limit_s: float | None = None) -> str:
    """Run one cell. Returns why it stopped, in one line, or "" if it did not. Raises nothing, not even SystemExit.

    position: among the notebook's cells, from 1; 0 for the course's own setup. limit_s: seconds it may take.
    """
    name = f"cell {position}" if position else "setup"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        with time_limit(limit_s) if limit_s else contextlib.nullcontext():
            exec(compile(source, name, "exec"), namespace)
    except TimeUp:
        return f"it was still running after {limit_s:g} seconds."
    except BaseException as error:
        return _format_error(error, name)
    return ""


def _format_error(error: BaseException, name: str) -> str:
    """The error in one line, with the line of the cell that raised it. The error may be hostile."""
    try:
        with time_limit(1.0):
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
            if isinstance(error, SyntaxError) and error.filename == name:
                lines = [error.lineno]
            where = f" (line {lines[-1]})" if lines else ""
            text = f"{type(error).__name__}: {error}"[:1000].strip().rstrip(":").splitlines()[0]
            return re.sub(r"\s+", " ", text) + where + "."
    except BaseException:
        return "it raised an error whose text cannot be read."


class InertStub:
    """Stands for what a marked answer must not need, SmolLM2 for one: every attribute, item and result is a stub."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return InertStub()

    def __call__(self, *args: Any, **options: Any) -> Any:
        return InertStub()

    def __getitem__(self, key: Any) -> Any:
        return InertStub()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        return iter((InertStub(),))


class LessonStub(InertStub):
    """Stands for `lesson`: `lesson.use(name)` is always the learner's own answer."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def use(self, name: str) -> Any:
        return self._namespace[name]

    def check(self, *args: Any, **options: Any) -> None: ...
