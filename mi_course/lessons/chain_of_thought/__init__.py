"""Lesson 12: Chain of thought."""

EXERCISES = ()
