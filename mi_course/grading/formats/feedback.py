"""A page for each learner: what was asked, what was seen, the named mistake, hints. One file, no script, no network.

Everything in a submission is hostile here, its name too; `html` escapes it. The page shows neither inputs
(`formats.message`) nor what an answer printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from mi_course.grading.formats import WORDS, message, number
from mi_course.grading.formats.html import document, lesson_title, prose, text
from mi_course.grading.marks import ExerciseMark, Marks
from mi_course.version import __version__

if TYPE_CHECKING:
    from mi_course.exercises import Exercise

__all__ = ["MARKS", "page"]

MARKS = {"passed": "✓", "wrong": "≠", "not_attempted": "○", "crashed": "!", "timed_out": "…"}


def page(row: Marks) -> str:
    """The page of one submission."""
    lessons = list(dict.fromkeys(one.exercise.partition(".")[0] for one in row.exercises))
    body = [_header(row)]
    for lesson in lessons:
        own = [one for one in row.exercises if one.exercise.partition(".")[0] == lesson]
        body.append(f"<h2>{text(lesson_title(lesson))}</h2>")
        body += [_exercise(one) for one in own]
    body += [_reflections(row), _footer(row)]
    return document(f"Feedback: {row.submission}", "\n".join(body))


def _known(id: str) -> Exercise | None:
    from mi_course.lessons import load

    lesson, _, name = id.partition(".")
    try:
        return load(lesson).exercise(name)
    except KeyError:
        return None


# ---------------------------------------------------------------------------------------------------------------------


def _header(row: Marks) -> str:
    found = [f"<header><h1><bdi>{text(row.submission)}</bdi></h1>"]
    if row.status != "marked" and not row.exercises:
        found.append('<p class="score">Not marked</p>')
    else:
        found.append(f'<p class="score">{number(row.points)} <small>of {number(row.max_points)} points</small></p>')
    if row.exercises:
        found += [_bar(row.exercises), _legend(row.exercises)]
    if not row.sandboxed:
        found.append('<p class="warning">Marked <strong>without a sandbox</strong>.</p>')
    if row.status != "marked":
        found.append(
            f'<div class="warning"><p>{text(row.reason)}</p><p>Open the notebook in JupyterLab, save it, and hand '
            "it in again.</p></div>"
        )
    if row.comment:
        found.append(f'<p class="label">Comment</p><div class="comment">{text(row.comment)}</div>')
    return "".join(found) + "</header>"


def _bar(marks: Iterable[ExerciseMark]) -> str:
    """As wide as an exercise has points, filled as far as it earned them."""
    pieces = [
        f'<i class="{_state(one)}" style="flex:{one.max_points}"><b '
        f'style="width:{100 * one.points / (one.max_points or 1):.0f}%"></b></i>'
        for one in marks
    ]
    return f'<div class="bar" aria-hidden="true">{"".join(pieces)}</div>'


def _legend(marks: Iterable[ExerciseMark]) -> str:
    states = [_state(one) for one in marks]
    items = [
        f'<li class="{state}" data-mark="{MARKS[state]}">{states.count(state)} {WORDS[state].lower()}</li>'
        for state in WORDS
        if state in states
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _state(one: ExerciseMark) -> str:
    if one.given is not None:
        return "passed" if one.points == one.max_points else "wrong"
    return one.status if one.status in WORDS else "wrong"


def _exercise(one: ExerciseMark) -> str:
    exercise, state = _known(one.exercise), _state(one)
    name = one.exercise.partition(".")[2]
    by_hand = " · by hand" if one.given is not None else ""
    found = [
        f'<section class="card {state}"><div class="head"><h3>{text(name)}</h3>'
        f'<span class="pill" data-mark="{MARKS[state]}">{WORDS[state]}</span>'
        f'<span class="points">{number(one.points)} of {one.max_points}{by_hand}</span></div>'
    ]
    if exercise:
        found.append(f'<div class="asked">{prose(exercise.task)}</div>')
    if one.status != "passed":
        mistake = f'<p class="mistake">{text(one.mistake.replace("_", " ").capitalize())}</p>' if one.mistake else ""
        found.append(f'<h4>What was seen</h4><div class="seen">{mistake}{prose(message(one))}</div>')
    if len(one.details) > 1 and one.status != "not_attempted":
        found.append(_parts(one))
    if one.given is not None or one.comment:
        points = f"The course's own checks came to {number(one.given)}. " if one.given is not None else ""
        found.append(f'<h4>From your instructor</h4><div class="comment">{points}{text(one.comment)}</div>')
    if exercise and one.status != "passed":
        found.append(_hints(exercise.hints))
    return "".join(found) + "</section>"


def _parts(one: ExerciseMark) -> str:
    rows = []
    for part in one.details:
        full = part["earned"] == part["points"]
        mark, word = ("✓", "earned") if full else ("·", "not earned")
        rows.append(
            f'<li><span class="{"yes" if full else "no"}" role="img" aria-label="{word}">{mark}</span>'
            f'<span class="name">{text(str(part["name"]))}</span>'
            f'<span class="points">{part["earned"]} of {part["points"]}</span></li>'
        )
    return f'<h4>Parts</h4><ul class="parts">{"".join(rows)}</ul>'


def _hints(hints: tuple[str, ...]) -> str:
    """Each behind the one before it."""
    found = ""
    for i in range(len(hints), 0, -1):
        label = "A hint" if i == 1 else "Another hint"
        found = f'<details><summary>{label}</summary><div class="hint">{prose(hints[i - 1])}</div>{found}</details>'
    return found


def _reflections(row: Marks) -> str:
    if not row.reflections:
        return ""
    found = ["<h2>What you wrote</h2>"]
    for one in row.reflections:
        found.append(
            f'<section class="card"><div class="asked">{prose(one["question"])}</div>'
            f'<div class="answer">{text(one["answer"])}</div></section>'
        )
    return "".join(found)


def _footer(row: Marks) -> str:
    notes = "".join(f"<li>{text(note)}</li>" for note in row.notes)
    if row.status == "marked":
        notes = "".join(f"<li>{text(reason)}</li>" for reason in row.reasons) + notes
    content = f'<ul class="notes">{notes}</ul>' if notes else ""
    if row.status == "marked":
        where = "in a sandbox, on inputs that nobody knew" if row.sandboxed else "without a sandbox"
        content = f"<p>Marked by mi_course {escape(__version__)}, {where}.</p>{content}"
    return f"<footer>{content}</footer>" if content else ""
