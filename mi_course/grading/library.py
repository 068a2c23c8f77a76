"""The course's own versions of what an exercise asks for: functions of `mi_course.interp` that have its name."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from mi_course import interp

__all__ = ["library_functions"]


@cache
def library_functions() -> dict[str, dict[str, ast.FunctionDef]]:
    """Function name -> {`module:name` -> definition}, for every function at top level of a module of `interp`."""
    folder = Path(interp.__file__).parent
    functions: dict[str, dict[str, ast.FunctionDef]] = {}
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(("mi_course", "interp", *path.relative_to(folder).with_suffix("").parts))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, {})[f"{module.removesuffix('.__init__')}:{node.name}"] = node
    return functions
