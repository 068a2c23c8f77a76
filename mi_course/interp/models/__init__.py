"""Loading models. Importing this imports neither torch nor transformer_lens; the names below do when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mi_course.interp.models.errors import ModelError

_HOME = {
    "load_native": "native",
    "save_native": "native",
    "load_checkpoints": "native",
    "save_checkpoints": "native",
    "load_state": "native",
    "state_of": "native",
    "small_model": "small",
    "reseed": "small",
}
__all__ = ["ModelError", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
