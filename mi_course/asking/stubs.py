"""Telling an untouched stub from an answer, by its bytecode alone: nothing of the answer's is run."""

from __future__ import annotations

import dis
import itertools
import types
from typing import Any

__all__ = ["has_gaps", "is_empty"]

_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF", "RETURN_VALUE")


def is_empty(answer: Any) -> bool:
    """Whether a function does nothing but return None: `pass`, `...`, or a docstring alone."""
    code = _code(answer)
    if code is None:
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP", "CACHE")]
    returns_none = {"RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"}
    return all(step.opname in returns_none and step.argval is None for step in steps)


def has_gaps(answer: Any) -> bool:
    """Whether `...` is assigned or returned somewhere. As an index, `x[..., 0]`, it is ordinary code."""
    code = _code(answer)
    if code is None:
        return False
    for step, following in itertools.pairwise(dis.get_instructions(code)):
        if step.opname == "LOAD_CONST" and step.argval is Ellipsis and following.opname in _STORES:
            return True
        if step.opname == "RETURN_CONST" and step.argval is Ellipsis:
            return True
    return False


def _code(answer: Any) -> types.CodeType | None:
    # Only real functions are looked into: any other object may run code of its own when it is asked for an attribute.
    if type(answer) is types.MethodType:
        answer = answer.__func__
    return answer.__code__ if type(answer) is types.FunctionType else None
