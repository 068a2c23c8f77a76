"""The exception of this package."""

from __future__ import annotations

from mi_course.errors import CourseError


class ModelError(CourseError):
    """A model could not be found, fetched or read. The message is one paragraph: what was seen, and what to do next."""
