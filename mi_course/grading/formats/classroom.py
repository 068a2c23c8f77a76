"""GitHub Classroom: the result of one runner, as its reporter reads it.

Classroom itself sums `tests[].score`; the console has shown passed / total × max_score. Both come to the same where
each test is worth the same: so there is one test for each point of each part.
"""

from __future__ import annotations

from typing import Any

from mi_course.grading.formats import plain_text
from mi_course.grading.marks import ExerciseMark, Marks

__all__ = ["results"]

SHARES = (1, 2, 4, 10, 20, 100)
"""Tests for each point: as few as make points given by hand come out even. They are read to hundredths."""


def results(row: Marks) -> dict[str, Any]:
    """Version, status, max_score and tests; every test has a score of one point (of a fraction of it, where an
    instructor gave fractions) or of none."""
    points = [one.points for one in row.exercises]
    per_point = next((n for n in SHARES if all(abs(p * n - round(p * n)) < 1e-9 for p in points)), SHARES[-1])
    tests = [test for one in row.exercises for test in _tests(one, per_point)]
    if not tests:
        tests = [_test("submission", False, 1.0, row.reason, status="error")]
    states = {test["status"] for test in tests}
    return {
        "version": 1,
        "status": "error" if "error" in states else "fail" if "fail" in states else "pass",
        "max_score": max(row.max_points, 1) if not row.exercises else row.max_points,
        "tests": tests,
    }


def _tests(one: ExerciseMark, per_point: int) -> list[dict[str, Any]]:
    name = one.exercise.partition(".")[2]
    total, earned = one.max_points * per_point, round(one.points * per_point)
    labels = [part["name"] for part in one.details for _ in range(part["points"] * per_point)]
    passed = [k < part["earned"] * per_point for part in one.details for k in range(part["points"] * per_point)]
    if one.given is not None or len(passed) != total or sum(passed) != earned:
        labels, passed = ["by hand" if one.given is not None else ""] * total, [k < earned for k in range(total)]
    found, message = [], plain_text(one)
    for k, (label, good) in enumerate(zip(labels, passed, strict=True), 1):
        title = f"{name}: {label}" if label else name
        found.append(_test(f"{title} ({k} of {total})", good, 1 / per_point, "" if good else message))
        message = message if good else "The message stands with the first point that is missing."
    return found


def _test(name: str, good: bool, worth: float, message: str, status: str = "fail") -> dict[str, Any]:
    return {
        "name": name,
        "status": "pass" if good else status,
        "score": (int(worth) if worth == int(worth) else worth) if good else 0,
        "message": message,
        "test_code": "",
        "filename": "",
        "line_no": 0,
        "execution_time": "0s",
    }
