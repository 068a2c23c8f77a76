"""The proof of our own lessons: the same that other people's lessons get. `pytest tests/test_exercises.py -k NAME`."""

from mi_course.testing.test_exercises import *  # noqa: F403
