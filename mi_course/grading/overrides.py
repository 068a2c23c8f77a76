"""An instructor's hand: `OUT/overrides.toml`, points and comments that survive regrading.

    ["ada.ipynb"]
    comment = "Handed in on paper, too."

    ["ada.ipynb"."start_here.zero_head"]
    points = 2
    comment = "Right idea; one index off."

They are laid over the marks when tables are written, and are never kept with them: regrading leaves them alone. What
cannot be applied is told, name by name, and the rest is applied.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mi_course.grading.marking import ExerciseMark, Marks
from mi_course.grading.store import escape_csv_cell

__all__ = ["FILE", "apply", "read"]

FILE = "overrides.toml"
MAX_BYTES = 8 * 2**20


def read(out: Path) -> tuple[dict[str, Any], list[str]]:
    """The tables of `out/overrides.toml` (none if it is absent), and what is wrong with it."""
    path = out / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}, [f"{path} has more than {MAX_BYTES // 2**20} MB and was not applied."]
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{path} cannot be read, and NONE of it was applied: {error}."]
    return found, []


def apply(rows: Sequence[Marks], out: Path) -> tuple[tuple[Marks, ...], list[str]]:
    """The rows with the overrides of `out/overrides.toml`, and what could not be applied, in sentences."""
    table, problems = read(out)
    if not table:
        return tuple(rows), problems
    names = {escape_csv_cell(row.submission): row.submission for row in rows} | {
        row.submission: row.submission for row in rows
    }
    wanted: dict[str, dict[str, Any]] = {}
    for name, entry in table.items():
        if name not in names:
            quote = any(one.startswith(f"{name}.") for one in names) and isinstance(entry, dict)
            hint = " A name with a dot stands in quotes." if quote else _like(name, names)
            problems.append(f"{FILE}: there is no submission {name!r}.{hint}")
        elif not isinstance(entry, dict):
            problems.append(f"{FILE}: {name!r} is {entry!r:.60}; expected a table with points or a comment.")
        else:
            wanted.setdefault(names[name], {}).update(entry)
    return tuple(_row(row, wanted.get(row.submission, {}), problems) for row in rows), problems


def _row(row: Marks, entry: dict[str, Any], problems: list[str]) -> Marks:
    if not entry:
        return row
    comment, marks = row.comment, {one.exercise: one for one in row.exercises}
    for key, value in _flat(entry):
        if key == "comment":
            if isinstance(value, str):
                comment = value
            else:
                problems.append(f"{FILE}: the comment on {row.submission!r} is {value!r:.60}; expected text.")
        elif not isinstance(value, dict):
            problems.append(
                f"{FILE}: {row.submission!r} has {key} = {value!r:.60}; points go below an exercise: "
                f'["{row.submission}"."lesson.exercise"].'
            )
        else:
            one = _exercise(key, row, marks, problems)
            if one is not None:
                marks[one.exercise] = _overridden(one, value, row.submission, problems)
    changed = tuple(marks.values())
    return replace(
        row,
        comment=comment,
        exercises=changed,
        points=sum(one.points for one in changed),
        max_points=sum(one.max_points for one in changed),
    )


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Without quotes `[name.lesson.exercise]` is a table within a table: read as it is meant."""
    for key, value in entry.items():
        nested = isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values())
        if nested:
            yield from ((f"{key}.{name}", one) for name, one in value.items())
        else:
            yield key, value


def _exercise(key: str, row: Marks, marks: dict[str, ExerciseMark], problems: list[str]) -> ExerciseMark | None:
    """The exercise of this id or name. One that the submission does not have is added: it may be unreadable."""
    from mi_course import lessons

    if key in marks:
        return marks[key]
    named = [one for id, one in marks.items() if id.partition(".")[2] == key]
    if len(named) == 1:
        return named[0]
    lesson, _, name = key.partition(".")
    try:
        exercise = lessons.load(lesson).exercise(name) if name else None
    except KeyError:
        exercise = None
    if exercise is None:
        known = [*marks, *(id.partition(".")[2] for id in marks)]
        problems.append(f"{FILE}: {row.submission!r} has no exercise {key!r}.{_like(key, known)}")
        return None
    if exercise.id in marks:  # by a former name
        return marks[exercise.id]
    message = "The course did not mark this exercise."
    return ExerciseMark(exercise.id, exercise.revision, "not_attempted", 0, exercise.points, message)


def _overridden(one: ExerciseMark, entry: dict[str, Any], name: str, problems: list[str]) -> ExerciseMark:
    where = f"{FILE}: {name!r}, {one.exercise}:"
    for key in entry:
        if key not in ("points", "comment"):
            problems.append(f"{where} there is no setting {key!r}; there are points and comment.")
    points, comment = entry.get("points"), entry.get("comment", "")
    if not isinstance(comment, str):
        problems.append(f"{where} the comment is {comment!r:.60}; expected text.")
        comment = ""
    if points is None:
        return replace(one, comment=comment)
    number = isinstance(points, int | float) and not isinstance(points, bool) and math.isfinite(points)
    if not number or not 0 <= points <= one.max_points:
        problems.append(f"{where} points are {points!r:.60}; expected a number from 0 to {one.max_points}.")
        return replace(one, comment=comment)
    points = int(points) if points == int(points) else points
    return replace(one, points=points, given=one.points, comment=comment)


def _like(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Is {close[0]!r} meant?" if close else ""
