"""The lessons: which there are, and where each is found. Loading one is left until it is asked for.

Other people's lessons join through the entry-point group `mi_course.lessons`. The entry point names a `Plugin`:

    [project.entry-points."mi_course.lessons"]
    our_school = "our_school.mi_lessons:PLUGIN"
"""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mi_course.exercises import LessonSpec

__all__ = ["LessonInfo", "Plugin", "alternatives_module", "asking_modules", "catalogue", "find", "load"]


@dataclass(frozen=True)
class LessonInfo:
    """A lesson before it is loaded: nothing here needs torch."""

    number: int
    id: str
    title: str
    minutes: int
    notebook: str
    """File name without ending."""
    module: str
    """Where its `LESSON`, a `LessonSpec`, is."""
    folder: str = ""
    """For a plug-in: the folder that holds `notebooks/` and `solutions/`."""


@dataclass(frozen=True)
class Plugin:
    """What other people's package offers."""

    lessons: tuple[LessonInfo, ...]
    asking: str = ""
    """A module with `REFERENCES`, `FUNCTIONS` and `DRIVERS` of its own; the sandbox gets a copy of it."""
    alternatives: str = ""
    """A module with other right answers and equivalent mutants, for `mi_course.testing`."""


OURS = (
    LessonInfo(0, "start_here", "Start here", 10, "00_start_here", "mi_course.lessons.start_here"),
    LessonInfo(2, "induction_heads", "Induction heads", 90, "02_induction_heads", "mi_course.lessons.induction_heads"),
    LessonInfo(
        3,
        "activation_patching",
        "Activation patching",
        120,
        "03_activation_patching",
        "mi_course.lessons.activation_patching",
    ),
    LessonInfo(
        4, "steering_vectors", "Steering vectors", 120, "04_steering_vectors", "mi_course.lessons.steering_vectors"
    ),
    LessonInfo(5, "superposition", "Superposition", 75, "05_superposition", "mi_course.lessons.superposition"),
    LessonInfo(
        6, "sae_training", "Training sparse autoencoders", 150, "06_sae_training", "mi_course.lessons.sae_training"
    ),
)


_RENAMED = {
    ("Exercise", "asks"): "task",
    ("Exercise", "spec"): "oracle",
    ("Exercise", "own"): "fallback",
    ("Case", "hidden"): "judge_data",
    ("Mistake", "wrong"): "implementation",
    ("Mistake", "sign"): "detect",
}
"""Fields as they were called up to version 0.1, for the message to a plug-in that still has one of them."""


def _reason(error: Exception) -> str:
    """Why a plug-in could not be loaded; where it uses a former name, with the one that took its place."""
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    new = _RENAMED.get((match[1], match[2])) if match else None
    hint = f"; the field {match[2]!r} of {match[1]} is now called {new!r}" if match and new else ""
    return f"{type(error).__name__}: {error}{hint}"


@cache
def _plugins() -> tuple[Plugin, ...]:
    found = []
    for point in entry_points(group="mi_course.lessons"):
        try:
            plugin = point.load()
        except Exception as error:  # one broken plug-in must not take the course with it
            warnings.warn(f"the lessons of {point.value!r} could not be loaded: {_reason(error)}", stacklevel=2)
            continue
        if isinstance(plugin, Plugin):
            found.append(plugin)
        else:
            warnings.warn(
                f"{point.value!r} is a {type(plugin).__name__}, expected a mi_course.lessons.Plugin", stacklevel=2
            )
    return tuple(found)


def asking_modules() -> tuple[str, ...]:
    """Modules with references and drivers that plug-ins bring."""
    return tuple(plugin.asking for plugin in _plugins() if plugin.asking)


def alternatives_module(lesson: str) -> str:
    """The module with other right answers to a plug-in's lesson; empty if it names none."""
    return next((plugin.alternatives for plugin in _plugins() for info in plugin.lessons if info.id == lesson), "")


def catalogue() -> tuple[LessonInfo, ...]:
    """All lessons, in order: ours, then other people's."""
    return tuple(sorted(OURS, key=lambda info: info.number)) + tuple(
        info for plugin in _plugins() for info in plugin.lessons
    )


def find(which: str | int) -> LessonInfo:
    """The lesson with this id, number or notebook name. Raises KeyError that lists what there is."""
    wanted = str(which)
    for info in catalogue():
        if wanted in (info.id, info.notebook, str(info.number), f"{info.number:02d}"):
            return info
    known = ", ".join(f"{info.number} {info.id}" for info in catalogue())
    raise KeyError(f"no lesson {which!r}; there are: {known}")


def load(which: str | int) -> LessonSpec:
    """The lesson itself: its exercises with cases, mistakes and hints. Imports torch.

    Raises TypeError, with the new name, where a plug-in's exercise has a field that was renamed.
    """
    try:
        return importlib.import_module(find(which).module).LESSON
    except TypeError as error:
        raise TypeError(_reason(error).removeprefix("TypeError: ")) from error
