"""A learner's progress over all lessons: passed, tried, looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from mi_course.show._cards import STATES
from mi_course.show._data import check_text
from mi_course.show._html import INK, LINE, SOFT
from mi_course.show._picture import Live

COLUMNS = ["exercise", "state", "points", "tries", "hints", "minutes"]
BAR = "#2a8a4a"


class Overview(Live):
    """A bar and a collapsible list for each lesson; a table where widgets do not run."""

    def __init__(self, rows: list[dict[str, Any]], title: str) -> None:
        self.title, self._rows = title, rows
        self._lessons = {row["lesson"]: [r for r in rows if r["lesson"] == row["lesson"]] for row in rows}
        lines = [title]
        for lesson, group in self._lessons.items():
            lines.append(f"{lesson}: {_score(group)}")
            for row in group:
                word, mark, _ = STATES[row["status"]]
                looked = f", hints looked up: {row['hints']}" if row["hints"] else ""
                lines.append(f"  {mark} {row['exercise']}: {word}, {row['points']} of {row['max_points']}{looked}")
        if not rows:
            lines.append("  nothing tried yet")
        self.text = "\n".join(lines)
        self.alt = f"{title}. " + "; ".join(f"{lesson}: {_score(group)}" for lesson, group in self._lessons.items())

    def html(self) -> str:
        if not self._rows:
            return f'<div style="color:{INK}"><strong>{escape(self.title)}</strong><div>Nothing tried yet.</div></div>'
        blocks = "".join(
            f'<div style="margin:10px 0 2px"><strong>{escape(lesson)}</strong> '
            f'<span style="color:{SOFT}">{_score(group)}</span></div>{_bar(group)}{_table(group)}'
            for lesson, group in self._lessons.items()
        )
        heading = f'<div style="font-weight:bold;font-size:15px">{escape(self.title)}</div>'
        return f'<div class="mi-overview" style="max-width:820px;color:{INK}">{heading}{blocks}</div>'

    def widget(self) -> Any:
        import ipywidgets

        bars, tables, names = [], [], []
        for lesson, group in self._lessons.items():
            points, maximum = _sum(group)
            bar = ipywidgets.IntProgress(
                value=points,
                max=max(1, maximum),
                description=lesson,
                style={"description_width": "200px", "bar_color": BAR},
                layout={"width": "520px"},
                tooltip=f"{lesson}: {_score(group)}",
            )
            score = ipywidgets.HTML(f'<span style="color:{INK}">{_score(group)}</span>')
            bars.append(ipywidgets.HBox([bar, score]))
            tables.append(ipywidgets.HTML(_table(group)))
            names.append(f"{lesson} · {_score(group)}")
        bold = f"font-weight:bold;font-size:15px;color:{INK}"
        heading = ipywidgets.HTML(f'<div style="{bold}">{escape(self.title)}</div>')
        accordion = ipywidgets.Accordion(children=tables, titles=names)
        unfinished = [
            i for i, group in enumerate(self._lessons.values()) if any(r["status"] != "passed" for r in group)
        ]
        accordion.selected_index = unfinished[0] if unfinished else None
        box = ipywidgets.VBox([heading, *bars, accordion] if self._rows else [heading])
        box.layout.max_width = "860px"
        box.add_class("mi-live")
        return box


def progress_overview(rows: Iterable[Mapping[str, Any]], *, title: str = "Your progress") -> Overview:
    """What has been passed, tried and looked up.

    rows: one per exercise, {"lesson", "exercise", "status", "points", "max_points"} and optionally "minutes" (planned),
    "attempts" and "hints" (looked up). Lessons and exercises keep the order of the rows.
    Raises ValueError for a row without one of these, or with another status.
    """
    out = []
    for i, row in enumerate(rows):
        missing = [key for key in ("lesson", "exercise", "status", "points", "max_points") if key not in row]
        if missing:
            raise ValueError(f"rows[{i}] lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}.")
        if row["status"] not in STATES:
            raise ValueError(f"rows[{i}]['status'] is {row['status']!r}; expected one of {', '.join(STATES)}.")
        out.append({"minutes": None, "attempts": 0, "hints": 0} | dict(row))
    return Overview(out, check_text(title, "title"))


def _sum(rows: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(row["points"] for row in rows), sum(row["max_points"] for row in rows)


def _score(rows: list[dict[str, Any]]) -> str:
    passed = sum(row["status"] == "passed" for row in rows)
    points, maximum = _sum(rows)
    return f"{passed} of {len(rows)} exercises, {points} of {maximum} points"


def _bar(rows: list[dict[str, Any]]) -> str:
    points, maximum = _sum(rows)
    share = round(100 * points / maximum) if maximum else 0
    return (
        f'<div style="height:8px;border-radius:4px;background-color:rgba(127, 127, 127, 0.25);max-width:520px">'
        f'<div style="height:8px;border-radius:4px;background-color:{BAR};width:{share}%"></div></div>'
    )


def _table(rows: list[dict[str, Any]]) -> str:
    cell = f"padding:3px 12px 3px 0;text-align:left;border-bottom:1px solid {LINE};color:{INK}"
    head = "".join(f'<th style="{cell}">{column}</th>' for column in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{value}</td>' for value in _cells(row)) + "</tr>" for row in rows
    )
    return f'<table style="border-collapse:collapse;font-size:13px;margin:4px 0"><tr>{head}</tr>{body}</table>'


def _cells(row: dict[str, Any]) -> list[str]:
    word, mark, color = STATES[row["status"]]
    minutes = "" if row["minutes"] is None else f"{row['minutes']:g}"
    return [
        escape(str(row["exercise"])),
        f'<span style="color:{color};font-weight:bold" aria-hidden="true">{mark}</span> {word}',
        f"{row['points']} of {row['max_points']}",
        str(row["attempts"]),
        str(row["hints"]),
        minutes,
    ]
