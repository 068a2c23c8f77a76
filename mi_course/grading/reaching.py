"""Finds cells that reach into the grader, so that whoever reads the row also reads their code. It costs no points.

Here this is seen in the text of the cells; `sandbox/inside/reaching.py` sees it as it happens. Neither sees everything:
Python has too many ways. A note in the row is therefore a reason to look, and its absence proves nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from mi_course.content import python_only
from mi_course.submission import PARSED_CHARACTERS, SubmittedCell

__all__ = ["WORDS", "fold", "reaches"]

WORDS = {
    "import": "it imports the code that asks",
    "frames": "it looks at stack frames",
    "gc": "it looks at all objects there are",
}
"""What the sandbox may report, in words."""

MODULES = ("mi_sandbox", "mi_course.asking")
NAMES = {
    **dict.fromkeys(
        ("f_back", "f_globals", "f_locals", "tb_frame", "gi_frame", "cr_frame", "ag_frame", "_getframe"), "frames"
    ),
    **dict.fromkeys(("_current_frames", "currentframe", "settrace", "setprofile"), "frames"),
    **dict.fromkeys(("get_objects", "get_referrers", "get_referents"), "gc"),
    **dict.fromkeys(("__globals__", "__closure__"), "globals"),
}
_ALL_WORDS = {**WORDS, "globals": "it looks at the globals of functions"}


def reaches(cells: Iterable[SubmittedCell]) -> Iterator[str]:
    """A sentence for each cell whose text names the code that asks, frames, or all objects."""
    for cell in cells:
        kinds = _kinds(cell.source)
        if kinds:
            words = ", ".join(_ALL_WORDS[kind] for kind in sorted(kinds))
            yield f"Cell {cell.position} reaches into the grader ({words})."


def _kinds(source: str) -> set[str]:
    if len(source) > PARSED_CHARACTERS or not any(word in source for word in _HINTS):
        return set()
    try:
        tree = ast.parse(python_only(source))
        return {kind for node in ast.walk(tree) for text in _texts(node) for kind in _kind(text)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


_HINTS = ("mi_", "frame", "f_", "gc", "_profile", "setp", "sett", "__", "+", "join", "%", "format", "get_")
"""A text without any of these cannot name any of it, so most cells need not be parsed again."""


def _kind(text: str) -> Iterator[str]:
    if text in NAMES:
        yield NAMES[text]
    if any(text == module or text.startswith(f"{module}.") for module in MODULES):
        yield "import"


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.expr):
        text = fold(node)
        if text is not None:
            yield text


def fold(node: ast.expr, depth: int = 0) -> str | None:
    """The value of an expression that joins constant strings; None for any other expression."""
    if depth > 50:
        return None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = fold(node.left, depth + 1), fold(node.right, depth + 1)
        return left + right if left is not None and right is not None and len(left) + len(right) < 1000 else None
    if isinstance(node, ast.JoinedStr):
        parts = [fold(part.value if isinstance(part, ast.FormattedValue) else part, depth + 1) for part in node.values]
        return _join("", parts)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "join"
        and len(node.args) == 1
        and isinstance(node.args[0], (ast.List, ast.Tuple))
    ):
        glue, parts = fold(node.func.value, depth + 1), [fold(element, depth + 1) for element in node.args[0].elts]
        return _join(glue, parts)
    return None


def _join(glue: str | None, parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return glue.join(known) if glue is not None and len(known) == len(parts) else None
