"""Runs notebook cells without a kernel: in `mi-course check`, and inside the grader's sandbox.

What only IPython understands is translated by IPython's own transformer. Magics that run Python (`%time`, `%%capture`)
run it; all others, and shell commands, do nothing.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import contextlib
import functools
import inspect
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

from mi_course.asking.limits import TimeUp, time_limit

__all__ = ["InertStub", "LessonStub", "ShellStub", "TimedOut", "main_namespace", "run_cell", "transformer"]

_FUTURES = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


def main_namespace() -> dict[str, Any]:
    """The namespace of a fresh `__main__`, as a notebook has it. `display` shows nothing."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    shell = ShellStub(namespace)
    namespace.update(
        __builtins__=builtins,
        __mi_course_futures__=0,
        display=lambda *args, **options: None,
        get_ipython=lambda: shell,
    )
    return namespace


class TimedOut(str):
    """What `run_cell` returns after a time-out: a type of its own, since the text of an error may be the same."""


def run_cell(source: str, position: int, namespace: dict[str, Any], limit_s: float | None = None) -> str:
    """Run one cell. Returns why it stopped, in one line, or "" if it did not. Raises nothing, not even SystemExit.

    position: among the notebook's cells, from 1; 0 for the course's own setup. limit_s: seconds it may take.
    """
    name = f"cell {position}" if position else "setup"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    if not _is_python(source):
        with contextlib.suppress(ImportError):
            transformer()  # before the clock starts: an import that is interrupted leaves half a module behind
    try:
        with time_limit(limit_s) if limit_s else contextlib.nullcontext():
            _execute(source, name, namespace)
    except TimeUp:
        return TimedOut(f"it was still running after {limit_s:g} seconds.")
    except BaseException as error:
        return _format_error(error, name)
    return ""


def _execute(source: str, name: str, namespace: dict[str, Any]) -> Any:
    """Run a text as IPython would. Returns the value of the last statement."""
    if "get_ipython" in source and "IPython" in source:
        _patch_ipython(namespace["get_ipython"])
    tree = compile(_translated(source), name, "exec", _flags(namespace) | ast.PyCF_ONLY_AST, dont_inherit=True)
    value = None
    for node in tree.body:  # one by one, as IPython does: `from __future__` may stand anywhere
        body = ast.Expression(node.value) if isinstance(node, ast.Expr) else ast.Module([node], [])
        mode = "eval" if isinstance(node, ast.Expr) else "exec"
        flags = _flags(namespace) | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(body, name, mode, flags, dont_inherit=True)
        namespace["__mi_course_futures__"] = flags | code.co_flags & _FUTURES  # they hold for later cells
        value = eval(code, namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            value = asyncio.run(value)
    return value


def _flags(namespace: dict[str, Any]) -> int:
    return int(namespace.get("__mi_course_futures__", 0))


def _patch_ipython(get_ipython: Any) -> None:
    """For `from IPython import get_ipython`, which returns None where no shell is running."""
    with contextlib.suppress(ImportError):
        import IPython

        IPython.get_ipython = get_ipython


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _translated(source: str) -> str:
    """The text as Python. What is Python already stays as it is."""
    if _is_python(source):
        return source
    with contextlib.suppress(ImportError, SyntaxError, ValueError, RecursionError):
        return str(transformer().transform_cell(source))
    return source  # compiling it says what is wrong with it


def transformer() -> Any:
    """IPython's. Importing it takes a second, so few processes do."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager()


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


class ShellStub(InertStub):
    """Stands for IPython's shell. Of the magics it knows those that run Python; a shell command does nothing."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self.user_ns = namespace

    def run_line_magic(self, name: str, line: str, *args: Any, **options: Any) -> Any:
        if name in ("time", "prun"):
            return _execute(_without_options(line), f"%{name}", self._namespace)
        return None

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        if name == "capture":
            target = _without_options(line).strip()
            if target:
                self._namespace[target] = InertStub()
        elif name not in ("time", "prun"):
            return None
        return _execute(cell, f"%%{name}", self._namespace)

    def magic(self, line: str) -> Any:
        return self.run_line_magic(*line.lstrip("%").partition(" ")[::2])

    def run_cell(self, cell: str, *args: Any, **options: Any) -> Any:
        return _execute(cell, "run_cell", self._namespace)

    def system(self, command: str) -> None: ...

    def getoutput(self, command: str, *args: Any, **options: Any) -> list[str]:
        return []


def _without_options(line: str) -> str:
    return re.sub(r"^(\s*-{1,2}[a-zA-Z][\w-]*(\s+\d+)?(?=\s|$))+", "", line).strip()
