"""The base class of the course's own errors."""

from __future__ import annotations

__all__ = ["CourseError", "UnknownName"]


class CourseError(Exception):
    """An error that the user can act on.

    Its message is one paragraph: what was seen, and what to do. The command line shows it without type or traceback.
    """


class UnknownName(CourseError, KeyError):
    """No lesson, exercise or SAE has this name. Unlike KeyError, it shows its message as it is."""

    def __str__(self) -> str:
        return str(self.args[0])
