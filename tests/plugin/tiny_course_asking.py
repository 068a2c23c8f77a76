"""A driver of the plug-in's own. A sandbox gets a copy of this file, and nothing else of the plug-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def twice(answer: Callable[..., Any], args: list[Any]) -> Any:
    """What the answer makes of its own result."""
    return answer(answer(*args))


DRIVERS = {"twice": twice}
