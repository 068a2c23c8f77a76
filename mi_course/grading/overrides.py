"""An instructor's own points and comments, from `OUT/overrides.toml`.

    ["ada.ipynb"]
    comment = "Handed in on paper, too."

    ["ada.ipynb"."start_here.zero_head"]
    points = 2
    comment = "Right idea; one index off."

They are applied whenever tables are written, and never stored with the marks, so they survive regrading. What cannot
be applied is reported by name, and the rest is applied.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mi_course import lessons
from mi_course.grading.marks import ExerciseMark, Marks
from mi_course.grading.text_files import escape_csv_cell

__all__ = ["FILE", "apply", "read"]

FILE = "overrides.toml"
MAX_BYTES = 8 * 2**20


def read(out: Path) -> tuple[dict[str, Any], list[str]]:
    """The tables of `out/overrides.toml` (none if it is absent), and what is wrong with it."""
    path = out / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}, [f"{path} is larger than {MAX_BYTES // 2**20} MB, and was not applied."]
        return tomllib.loads(path.read_text(encoding="utf-8-sig")), []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{path} cannot be read, and NONE of it was applied: {error}."]


def apply(rows: Sequence[Marks], out: Path) -> tuple[tuple[Marks, ...], list[str]]:
    """The rows with the overrides of `out/overrides.toml`, and what could not be applied, in sentences."""
    table, problems = read(out)
    if not table:
        return tuple(rows), problems
    # As in marks.csv; as the file is called only where that names nobody: `'=x` is how a table writes `=x`.
    names = {row.submission: row.submission for row in rows} | {
        escape_csv_cell(row.submission): row.submission for row in rows
    }
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in table.items():
        if name not in names:
            unquoted = any(known.startswith(f"{name}.") for known in names) and isinstance(entry, dict)
            hint = " Put a name with a dot in quotes." if unquoted else _suggestion(name, names)
            problems.append(f"{FILE}: there is no submission {name!r}.{hint}")
        elif not isinstance(entry, dict):
            problems.append(f"{FILE}: {name!r} is {entry!r:.60}; expected a table with points or a comment.")
        else:
            entries.setdefault(names[name], {}).update(entry)
    return tuple(_override_row(row, entries.get(row.submission, {}), problems) for row in rows), problems


def _override_row(row: Marks, entry: dict[str, Any], problems: list[str]) -> Marks:
    if not entry:
        return row
    comment, marks = row.comment, {mark.exercise: mark for mark in row.exercises}
    for key, value in _flatten(entry):
        if key == "comment":
            if isinstance(value, str):
                comment = value
            else:
                problems.append(f"{FILE}: the comment on {row.submission!r} is {value!r:.60}; expected text.")
        elif not isinstance(value, dict):
            problems.append(
                f"{FILE}: {row.submission!r} has {key} = {value!r:.60}; points belong to an exercise: "
                f'["{escape_csv_cell(row.submission)}"."lesson.exercise"].'
            )
        else:
            mark = _mark(key, row, marks, problems)
            if mark is not None:
                marks[mark.exercise] = _override_mark(mark, value, row.submission, problems)
    changed = tuple(marks.values())
    return replace(
        row,
        comment=comment,
        exercises=changed,
        points=sum(mark.points for mark in changed),
        max_points=sum(mark.max_points for mark in changed),
    )


def _flatten(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Without quotes `[name.lesson.exercise]` is a table within a table; read it as one key."""
    for key, value in entry.items():
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


def _mark(key: str, row: Marks, marks: dict[str, ExerciseMark], problems: list[str]) -> ExerciseMark | None:
    """The exercise with this id or name. One that the submission lacks is added: the file may be unreadable."""
    if key in marks:
        return marks[key]
    named = [mark for id, mark in marks.items() if id.partition(".")[2] == key]
    if len(named) == 1:
        return named[0]
    lesson, _, name = key.partition(".")
    try:
        exercise = lessons.load(lesson).exercise(name) if name else None
    except KeyError:
        exercise = None
    if exercise is None:
        known = [*marks, *(id.partition(".")[2] for id in marks)]
        problems.append(f"{FILE}: {row.submission!r} has no exercise {key!r}.{_suggestion(key, known)}")
        return None
    if exercise.id in marks:  # by a former name
        return marks[exercise.id]
    message = "The course did not mark this exercise."
    return ExerciseMark(exercise.id, exercise.revision, "not_attempted", 0, exercise.points, message)


def _override_mark(mark: ExerciseMark, entry: dict[str, Any], name: str, problems: list[str]) -> ExerciseMark:
    where = f"{FILE}: {name!r}, {mark.exercise}:"
    for key in entry:
        if key not in ("points", "comment"):
            problems.append(f"{where} there is no setting {key!r}; use points or comment.")
    points, comment = entry.get("points"), entry.get("comment", "")
    if not isinstance(comment, str):
        problems.append(f"{where} the comment is {comment!r:.60}; expected text.")
        comment = ""
    if points is None:
        return replace(mark, comment=comment)
    number = isinstance(points, int | float) and not isinstance(points, bool) and math.isfinite(points)
    if not number or not 0 <= points <= mark.max_points:
        problems.append(f"{where} points are {points!r:.60}; expected a number from 0 to {mark.max_points}.")
        return replace(mark, comment=comment)
    points = int(points) if points == int(points) else points
    return replace(mark, points=points, given=mark.points, comment=comment)


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""
