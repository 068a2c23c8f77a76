"""Take a real language model apart, with every answer checked and every wrong answer explained.

Three names are all a notebook needs; each imports what it needs only when it is called:

    lesson = mi_course.lesson("induction_heads")
    model = mi_course.load_model()
    mi_course.exercise("induction_heads.induction_score").check(my_function)

In a workshop, `mi_course.join("CODE@ADDRESS")` reports verdicts to its board; nothing is reported before.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mi_course.version import __version__

if TYPE_CHECKING:
    from mi_course.course import ExerciseHandle, Lesson

__all__ = [
    "__version__",
    "claim",
    "exercise",
    "join",
    "leave",
    "lesson",
    "load_model",
    "lower_hand",
    "raise_hand",
    "workshop_status",
]


def lesson(which: str | int) -> Lesson:
    """The lesson with this id (`"induction_heads"`) or number (`2`)."""
    from mi_course.course import Lesson

    found = Lesson.find(which)
    _attach(found.id)
    return found


def exercise(id: str) -> ExerciseHandle:
    """One exercise by its id, `"<lesson>.<name>"`."""
    from mi_course.course import ExerciseHandle

    found = ExerciseHandle.find(id)
    _attach(found.lesson.id)
    return found


def claim(sentence: str, condition: Any) -> None:
    """Hold a sentence of a lesson against the run's numbers. For authors; see `mi_course.course.claim`."""
    from mi_course.course import claim

    claim(sentence, condition)


def load_model(name: str = "smollm2", *, compatibility: bool = True, device: Any = None, dtype: Any = None) -> Any:
    """A `TransformerBridge`, ready for hooks. See `mi_course.interp.models.load_model`."""
    from mi_course.interp.models import load_model

    return load_model(name, compatibility=compatibility, device=device, dtype=dtype)


def join(invitation: str, name: str | None = None, *, table: str = "", return_key: str | None = None) -> Any:
    """Take part in a workshop, by the invitation on the wall. See `mi_course.workshop.client.join`."""
    from mi_course.workshop import client

    return client.join(invitation, name, table=table, return_key=return_key)


def leave() -> Any:
    """Leave the workshop: nothing is reported any more."""
    from mi_course.workshop import client

    return client.leave()


def workshop_status() -> Any:
    """Whether this machine takes part in a workshop, and the last 20 events that were sent."""
    from mi_course.workshop import client

    return client.status()


def raise_hand() -> Any:
    """Ask the workshop's leads for help."""
    from mi_course.workshop import client

    return client.raise_hand()


def lower_hand() -> Any:
    """Take the hand down again."""
    from mi_course.workshop import client

    return client.lower_hand()


def _attach(lesson: str) -> None:
    """Report from this kernel if its learner has joined a workshop. Costs one look at a file otherwise."""
    if "IPython" not in sys.modules:
        return
    from mi_course.progress import home_dir

    if "MI_COURSE_WORKSHOP" in os.environ or (home_dir() / "workshop" / "membership.json").exists():
        from mi_course.workshop import client

        client.attach()
        client.lesson_notice(lesson)
