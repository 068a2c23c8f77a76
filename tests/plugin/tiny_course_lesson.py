"""A lesson of two exercises, one a function and one a value."""

from __future__ import annotations

from mi_course.exercises import Exercise, Mistake, Part, case

FAVORITES = [6, 28, 496]

DOUBLE = Exercise(
    id="tiny.double",
    task="Return twice a number.",
    parts=(
        Part(
            "small numbers", 1, lambda draw, size: [case(draw.integer(3, 9), driver=way) for way in ("call", "twice")]
        ),
        Part("negative numbers", 2, lambda draw, size: [case(-draw.integer(10, 99)) for _ in range(3)]),
    ),
    mistakes=(
        Mistake("square", "That is the square.", lambda x: x * x),
        Mistake("same", "That is the number itself.", lambda x: x),
        Mistake("negative", "The sign is turned round.", lambda x: -2 * x),
        Mistake("half", "That is half of it.", lambda x: x / 2),
    ),
    hints=("Add it to itself.", "Or multiply it by two."),
    reveal="Twice means added to itself.",
    minutes=1,
    difficulty=1,
    oracle=lambda x: x + x,
)

FAVORITE = Exercise(
    id="tiny.favorites",
    task="List three perfect numbers.",
    parts=(Part("three of them", 2, lambda draw, size: [case(driver="value", truth=[FAVORITES])]),),
    mistakes=(Mistake("primes", "These are primes.", [2, 3, 5]),),
    hints=("The first is 6.", "The next is 28."),
    reveal="A perfect number is the sum of its divisors.",
    minutes=2,
    difficulty=3,
    kind="value",
    trivial=True,
)

EXERCISES = (DOUBLE, FAVORITE)
