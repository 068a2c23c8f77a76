"""Lesson 01: The residual stream."""

EXERCISES = ()
