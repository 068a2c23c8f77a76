"""Tells an untouched stub from an answer by its bytecode. Nothing of the answer runs."""

from __future__ import annotations

import dis
import itertools
import types
from typing import Any

__all__ = ["has_gaps", "is_empty"]

_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF", "RETURN_VALUE")
"""How these opcodes begin: Python 3.13 joins two into one, `STORE_FAST_LOAD_FAST` say."""


def is_empty(answer: Any) -> bool:
    """Whether a function does nothing but return None: `pass`, `...`, or only a docstring."""
    code = _code(answer)
    if code is None or code.co_names:  # disassembling takes longer than a small answer
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP", "CACHE")]
    returns_none = {"RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"}
    return all(step.opname in returns_none and step.argval is None for step in steps)


def has_gaps(answer: Any) -> bool:
    """Whether the function assigns or returns `...` somewhere. As an index, `x[..., 0]`, it is ordinary code."""
    code = _code(answer)
    if code is None or not any(constant is Ellipsis for constant in code.co_consts):
        return False
    steps = list(dis.get_instructions(code))
    return any(step.opname == "RETURN_CONST" and step.argval is Ellipsis for step in steps) or any(
        step.opname == "LOAD_CONST" and step.argval is Ellipsis and following.opname.startswith(_STORES)
        for step, following in itertools.pairwise(steps)
    )


def _code(answer: Any) -> types.CodeType | None:
    # Only real functions are inspected: reading an attribute of any other object may run its own code.
    if type(answer) is types.MethodType:
        answer = answer.__func__
    return answer.__code__ if type(answer) is types.FunctionType else None
