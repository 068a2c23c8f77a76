"""Cards: verdicts on answers, hints, solutions and notes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from mi_course.show._html import INK, SOFT, prose, prose_spans
from mi_course.show._picture import Shown

# Word, mark and color of each state. The colors, at least 3:1 on white and on #111111, only mark the edge of the card.
STATES = {
    "passed": ("Passed", "✓", "#2a8a4a"),
    "wrong": ("Not yet", "≠", "#c8501e"),
    "not_attempted": ("Not attempted", "○", "#7a7f87"),
    "crashed": ("Crashed", "!", "#cf3f5b"),
    "timed_out": ("Out of time", "…", "#8a6fd1"),
}
KINDS = {
    "hint": ("Hint", "?", "#a8781c"),
    "solution": ("Solution", "=", "#3b78c4"),
    "note": ("Note", "i", "#7a7f87"),
    "warning": ("Warning", "!", "#c8501e"),
}


class Card(Shown):
    """A framed note, in the colors of the reader's theme."""

    def __init__(self, *, html: str, text: str, alt: str) -> None:
        self._html, self.text, self.alt = html, text, alt

    def html(self) -> str:
        return self._html


def verdict_card(verdict: Mapping[str, Any]) -> Card:
    """The verdict on one answer.

    verdict: `status` (passed, wrong, not_attempted, crashed, timed_out), `exercise`, `points`, `max_points`, and
    optionally `message` (paragraphs, `code`, code blocks), `mistake`, `details` (one {"name", "earned", "points",
    "message"} per part) and `next` (what to do next). The text is the same on every machine: no times, no counts.
    Raises ValueError for another status, or a key that is missing.
    """
    missing = [key for key in ("status", "exercise", "points", "max_points") if key not in verdict]
    if missing:
        raise ValueError(f"verdict lacks {', '.join(missing)}; it has {', '.join(map(str, verdict)) or 'nothing'}.")
    status = verdict["status"]
    if status not in STATES:
        raise ValueError(f"verdict['status'] is {status!r}; expected one of {', '.join(STATES)}.")
    word, mark, color = STATES[status]
    name = str(verdict["exercise"]).rpartition(".")[2] or str(verdict["exercise"])
    score = f"{verdict['points']} of {verdict['max_points']}"
    message, following = str(verdict.get("message") or ""), str(verdict.get("next") or "")
    details = [dict(detail) for detail in verdict.get("details") or []]
    if message and len({str(detail.get("message") or "") for detail in details}) == 1:
        details = [{**detail, "message": ""} for detail in details]  # the message already says what all parts say

    text = [f"{word} · {name} · {score}"]
    text += [message] if message else []
    text += [line for detail in details for line in _detail_text(detail)] if len(details) > 1 else []
    text += [f"Next: {following}"] if following else []

    rows = "".join(_detail_html(detail) for detail in details) if len(details) > 1 else ""
    parts = f'<ul style="list-style:none;margin:6px 0 2px;padding:0">{rows}</ul>' if rows else ""
    next_step = f'<p style="margin:6px 0 2px"><strong>Next:</strong> {prose_spans(following)}</p>' if following else ""
    head = (
        f"{_badge(mark, color)}<strong>{word}</strong>"
        f'<span style="color:{SOFT}"> · {escape(name)} · {escape(score)}</span>'
    )
    label = f"{word}: {name}, {score} points"
    return Card(html=_frame(head, prose(message) + parts + next_step, color, label), text="\n".join(text), alt=label)


def note_card(title: str, body: str, kind: str = "hint") -> Card:
    """A hint, a solution, a note or a warning.

    body: paragraphs separated by blank lines, `code`, **strong**, and code blocks between lines of three backticks.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")
    word, mark, color = KINDS[kind]
    if title.startswith(word):  # "Hint 1 of 3 · zero_head" has its word
        word, _, title = title.partition(" · ")
    rest = f'<span style="color:{SOFT}"> · {prose_spans(title)}</span>' if title else ""
    head = f"{_badge(mark, color)}<strong>{escape(word)}</strong>{rest}"
    label = f"{word}: {title}" if title else word
    text = f"{word} · {title}" if title else word
    return Card(html=_frame(head, prose(body), color, label), text=f"{text}\n{body.strip()}", alt=label)


def _frame(head: str, body: str, color: str, label: str) -> str:
    return (
        f'<div class="mi-card" role="status" aria-label="{escape(label)}" style="border-left:5px solid {color};'
        f"background-color:rgba(127, 127, 127, 0.06);color:{INK};padding:8px 14px;margin:2px 0;border-radius:3px;"
        f'max-width:820px;font-size:14px;line-height:1.5"><div>{head}</div>{body}</div>'
    )


def _badge(mark: str, color: str) -> str:
    return (
        f'<span aria-hidden="true" style="display:inline-block;width:20px;height:20px;line-height:20px;'
        f'margin-right:8px;border-radius:10px;text-align:center;font-weight:bold;color:#ffffff;background-color:{color}">{mark}</span>'
    )


def _all_earned(detail: Mapping[str, Any]) -> bool:
    return detail.get("earned") == detail.get("points")


def _detail_text(detail: Mapping[str, Any]) -> list[str]:
    mark = "✓" if _all_earned(detail) else "·"
    line = f"  {mark} {detail.get('name', '')} ({detail.get('earned', 0)} of {detail.get('points', 0)})"
    message = " ".join(str(detail.get("message") or "").split())
    return [f"{line}: {message}" if message else line]


def _detail_html(detail: Mapping[str, Any]) -> str:
    done = _all_earned(detail)
    message = str(detail.get("message") or "")
    mark, word = ("✓", "earned") if done else ("·", "not earned")
    reason = f' <span style="color:{SOFT}">— {prose_spans(message)}</span>' if message else ""
    score = f"{detail.get('earned', 0)} of {detail.get('points', 0)}"
    return (
        f'<li style="margin:2px 0"><span aria-label="{word}" style="display:inline-block;width:18px">{mark}</span>'
        f'{prose_spans(str(detail.get("name", "")))} <span style="color:{SOFT}">({escape(score)})</span>{reason}</li>'
    )
