"""Lesson 08: Entities and uncertainty."""

EXERCISES = ()
