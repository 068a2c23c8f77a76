"""What a plug-in adds to asking: references, functions and drivers of its own."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from mi_course.asking.drivers import DRIVERS
from mi_course.asking.references import FUNCTIONS, REFERENCES

__all__ = ["include", "include_all"]

_REGISTRIES: dict[str, dict[str, Callable[..., Any]]] = {
    "REFERENCES": REFERENCES,
    "FUNCTIONS": FUNCTIONS,
    "DRIVERS": DRIVERS,
}
_added: dict[tuple[str, str], str] = {}
"""(registry, name) -> the module that added it; that module may replace it when it is reloaded."""


def include(module: str) -> None:
    """Add the REFERENCES, FUNCTIONS and DRIVERS of a plug-in's asking module.

    Raises ValueError, and adds nothing, if one of its names is ours or another plug-in's.
    """
    imported = importlib.import_module(module)
    additions = {
        (registry, name): entry for registry in _REGISTRIES for name, entry in getattr(imported, registry, {}).items()
    }
    taken = [key for key in additions if key[1] in _REGISTRIES[key[0]] and _added.get(key) != module]
    if taken:
        raise ValueError(f"{module} would replace {', '.join(name for _, name in taken)}; choose other names")
    for (registry, name), entry in additions.items():
        _REGISTRIES[registry][name] = entry
        _added[registry, name] = module


def include_all(modules: Iterable[str]) -> None:
    """`include` each. One that fails is warned of, and must not break the lessons of others."""
    for module in modules:
        try:
            include(module)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"the references and drivers of {module!r} could not be loaded: {reason}", stacklevel=2)
