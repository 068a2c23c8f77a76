"""Take a real language model apart, with every answer checked and every wrong answer explained.

Three names are all a notebook needs; each imports what it needs only when it is called:

    lesson = mi_course.lesson("induction_heads")
    model = mi_course.load_model()
    mi_course.exercise("induction_heads.induction_score").check(my_function)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mi_course.version import __version__

if TYPE_CHECKING:
    from mi_course.course import ExerciseHandle, Lesson

__all__ = ["__version__", "claim", "exercise", "lesson", "load_model"]


def lesson(which: str | int) -> Lesson:
    """The lesson with this id (`"induction_heads"`) or number (`2`)."""
    from mi_course.course import Lesson

    return Lesson.find(which)


def exercise(id: str) -> ExerciseHandle:
    """One exercise by its id, `"<lesson>.<name>"`."""
    from mi_course.course import ExerciseHandle

    return ExerciseHandle.find(id)


def claim(sentence: str, condition: Any) -> None:
    """Hold a sentence of a lesson against the run's numbers. For authors; see `mi_course.course.claim`."""
    from mi_course.course import claim

    claim(sentence, condition)


def load_model(name: str = "smollm2", *, compatibility: bool = True, device: Any = None, dtype: Any = None) -> Any:
    """A `TransformerBridge`, ready for hooks. See `mi_course.interp.models.load_model`."""
    from mi_course.interp.models import load_model

    return load_model(name, compatibility=compatibility, device=device, dtype=dtype)
