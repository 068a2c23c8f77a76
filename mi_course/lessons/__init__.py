"""The catalogue of lessons. A lesson's module is imported only when it is loaded.

Other packages add lessons through the entry-point group `mi_course.lessons`. The entry point names a `Plugin`:

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

from mi_course.errors import CourseError, UnknownName

if TYPE_CHECKING:
    from mi_course.exercises import LessonSpec

__all__ = ["LessonInfo", "Plugin", "alternatives_module", "asking_modules", "catalogue", "find", "join", "load"]


RENAMED = {
    "spec": "oracle",
    "own": "fallback",
    "asks": "task",
    "hidden": "judge_data",
    "wrong": "implementation",
    "sign": "detect",
}
"""Former fields of Exercise, Case and Mistake, which plug-ins may still name."""


@dataclass(frozen=True)
class LessonInfo:
    """What is known of a lesson before its module is imported, which needs torch."""

    number: int
    id: str
    title: str
    minutes: int
    notebook: str
    """File name without ending."""
    module: str
    """The module with its `EXERCISES`, and with `ALIASES` if some were renamed."""
    folder: str = ""
    """For a plug-in: the folder with its `notebooks/` and `solutions/`."""


@dataclass(frozen=True)
class Plugin:
    """What another package adds to the course."""

    lessons: tuple[LessonInfo, ...]
    asking: str = ""
    """A module with `REFERENCES`, `FUNCTIONS` and `DRIVERS`; it is copied into the sandbox."""
    alternatives: str = ""
    """A module with other right answers and equivalent mutants, for `mi_course.testing`."""


OURS = (
    LessonInfo(0, "start_here", "Start here", 10, "00_start_here", "mi_course.lessons.start_here"),
    LessonInfo(
        1, "residual_stream", "The residual stream", 120, "01_residual_stream", "mi_course.lessons.residual_stream"
    ),
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
    LessonInfo(
        7, "feature_steering", "Feature steering", 120, "07_feature_steering", "mi_course.lessons.feature_steering"
    ),
    LessonInfo(
        8,
        "entities_and_uncertainty",
        "Entities and uncertainty",
        120,
        "08_entities_and_uncertainty",
        "mi_course.lessons.entities_and_uncertainty",
    ),
    LessonInfo(
        12, "chain_of_thought", "Chain of thought", 100, "12_chain_of_thought", "mi_course.lessons.chain_of_thought"
    ),
    LessonInfo(
        13, "latent_structure", "Latent structure", 180, "13_latent_structure", "mi_course.lessons.latent_structure"
    ),
)


def _new_name(error: Exception) -> str:
    """What to write instead, if the error is about a field that was renamed; otherwise empty."""
    keyword = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if not isinstance(error, TypeError) or keyword is None or keyword[1] not in RENAMED:
        return ""
    return f"`{keyword[1]}` is called `{RENAMED[keyword[1]]}` now."


@cache
def _plugins() -> tuple[Plugin, ...]:
    plugins = []
    for point in entry_points(group="mi_course.lessons"):
        try:
            plugin = point.load()
        except Exception as error:  # one broken plug-in must not break the course
            reason = f"{type(error).__name__}: {error}. {_new_name(error)}".strip()
            warnings.warn(f"the lessons of {point.value!r} could not be loaded: {reason}", stacklevel=2)
            continue
        if isinstance(plugin, Plugin):
            plugins.append(plugin)
        else:
            warnings.warn(
                f"{point.value!r} is a {type(plugin).__name__}, expected a mi_course.lessons.Plugin", stacklevel=2
            )
    return tuple(plugins)


def asking_modules() -> tuple[str, ...]:
    """The plug-ins' modules with references and drivers."""
    return tuple(plugin.asking for plugin in _plugins() if plugin.asking)


def alternatives_module(lesson: str) -> str:
    """The module with other right answers to a plug-in's lesson; empty if it names none."""
    return next((plugin.alternatives for plugin in _plugins() for info in plugin.lessons if info.id == lesson), "")


def catalogue() -> tuple[LessonInfo, ...]:
    """All lessons: ours by number, then the plug-ins'."""
    return tuple(sorted(OURS, key=lambda info: info.number)) + tuple(
        info for plugin in _plugins() for info in plugin.lessons
    )


def find(which: str | int) -> LessonInfo:
    """The lesson with this id, number or notebook name. Raises UnknownName, which lists the lessons."""
    wanted = str(which)
    for info in catalogue():
        if wanted in (info.id, info.notebook, str(info.number), f"{info.number:02d}"):
            return info
    known = ", ".join(f"{info.number} {info.id}" for info in catalogue())
    raise UnknownName(f"no lesson {which!r}; there are: {known}")


def load(which: str | int) -> LessonSpec:
    """The lesson with its exercises. Imports torch. Raises UnknownName or CourseError."""
    return join(find(which))


def join(info: LessonInfo) -> LessonSpec:
    """A lesson's catalogue entry together with the exercises that its module defines.

    Raises CourseError if the module has no `EXERCISES`, and whatever importing it raises.
    """
    from mi_course.exercises import LessonSpec  # imports torch

    try:
        module = importlib.import_module(info.module)
    except TypeError as error:
        if hint := _new_name(error):
            raise CourseError(f"{info.module}: {error}. {hint}") from error
        raise
    if not hasattr(module, "EXERCISES"):
        raise CourseError(
            f"{info.module} has no EXERCISES. Define it as the tuple of the lesson's exercises; "
            "title, number and minutes stand in its LessonInfo."
        )
    aliases = getattr(module, "ALIASES", {})
    return LessonSpec(info.id, info.number, info.title, info.minutes, tuple(module.EXERCISES), info.notebook, aliases)
