"""Other right answers to the plug-in's exercises, for `mi_course.testing`."""

from __future__ import annotations


def by_multiplying(x):
    return 2 * x


def by_shifting(x):
    return x << 1


ANSWERS = {
    "double": [by_multiplying, by_shifting],
    "favorites": [[6, 28, 496], (6.0, 28.0, 496.0)],
}
