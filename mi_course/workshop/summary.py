"""After a workshop: where the room lost time, which mistakes were made, which hints helped. CSV, JSON and a page."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from mi_course.workshop.catalogue import Catalogue
from mi_course.workshop.room import Room
from mi_course.workshop.store import Entry, Session

__all__ = ["POLICY", "Summary", "summarize", "to_csv", "to_html", "to_json"]

SLOT_S = 600
"""Width of a column in the picture of the room over time."""


@dataclass
class ExerciseSummary:
    """One exercise that someone tried. Everyone counts once."""

    id: str
    stated_minutes: int | None
    tried: int = 0
    passed: int = 0
    minutes: float | None = None
    """Median of those who passed, pauses cut at 20 minutes."""
    lost_minutes: float = 0.0
    """Beyond the stated ones, over all who tried."""
    mistakes: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, people who made it, message; the commonest first."""
    hints: list[tuple[int, int, int]] = field(default_factory=list)
    """Number of the hint, people who read it, people who then passed without another."""
    revealed: int = 0


@dataclass
class Summary:
    """One session."""

    session: Session
    room: Room
    entries: list[Entry]
    exercises: list[ExerciseSummary]
    slots: dict[str, Counter[int]]
    """Per exercise, people who worked on it in each ten minutes since the start."""
    start: float
    """Of the first event."""


def summarize(session: Session, entries: list[Entry], catalogue: Catalogue) -> Summary:
    """Computed from the log. Exercises come in the course's order, then the ones that it does not know."""
    room = Room()
    for entry in entries:
        room.apply(entry)
    stated = {exercise["id"]: exercise for lesson in catalogue for exercise in lesson["exercises"]}
    order = {id: place for place, id in enumerate(stated)}
    present = {person.id for person in room.present()}
    work = [entry for entry in entries if entry.kind in {"verdict", "hint", "reveal"} and entry.participant in present]
    start = min((entry.at for entry in work), default=session.created)
    mistakes: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    slots: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)
    for entry in work:
        who, exercise = str(entry.participant), entry.body["exercise"]
        slots[exercise].add((int((entry.at - start) // SLOT_S), who))
        if entry.body.get("mistake"):
            mistakes[exercise][entry.body["mistake"]].add(who)
    helped = _hints_that_helped(work)
    rows = []
    for id in sorted(room.exercise_rows(), key=lambda id: (order.get(id, len(order)), id)):
        counts = room.exercises[id]
        info = stated.get(id, {})
        cells = [person.cells[id] for person in room.present() if id in person.cells]
        if not cells:
            continue
        minutes = [seconds / 60 for seconds in counts.worked_s.values()]
        limit = info.get("minutes")
        rows.append(
            ExerciseSummary(
                id,
                limit,
                tried=len(cells),
                passed=counts.statuses["passed"],
                minutes=round(statistics.median(minutes), 1) if minutes else None,
                lost_minutes=round(sum(max(cell.worked_s / 60 - limit, 0) for cell in cells), 1) if limit else 0.0,
                mistakes=sorted(
                    ((name, len(who), info.get("mistakes", {}).get(name, "")) for name, who in mistakes[id].items()),
                    key=lambda row: (-row[1], row[0]),
                ),
                hints=helped.get(id, []),
                revealed=sum(cell.revealed for cell in cells),
            )
        )
    counted = {id: Counter(slot for slot, _ in pairs) for id, pairs in slots.items()}
    return Summary(session, room, entries, rows, counted, start)


def _hints_that_helped(work: Sequence[Entry]) -> dict[str, list[tuple[int, int, int]]]:
    """A hint helped whoever passed after it, before another hint or the reveal."""
    read: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    helped: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    last: dict[tuple[str, str], int | None] = {}
    passed: set[tuple[str, str]] = set()
    for entry in work:
        who, exercise = str(entry.participant), entry.body["exercise"]
        pair = (who, exercise)
        if pair in passed:
            continue
        if entry.kind == "hint":
            last[pair] = entry.body["hint"]
            read[exercise, entry.body["hint"]].add(who)
        elif entry.kind == "reveal":
            last[pair] = None
        elif entry.body["status"] == "passed":
            passed.add(pair)
            if (hint := last.get(pair)) is not None:
                helped[exercise, hint].add(who)
    found: dict[str, list[tuple[int, int, int]]] = {}
    for exercise, hint in sorted(read):
        row = (hint, len(read[exercise, hint]), len(helped[exercise, hint]))
        found.setdefault(exercise, []).append(row)
    return found


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def to_csv(summary: Summary) -> str:
    """One row for each participant and exercise."""
    out = io.StringIO()
    writer = csv.writer(out)
    head = ["name", "table", "exercise", "status", "attempts", "hints", "revealed", "mistake", "minutes", "last"]
    writer.writerow(head)
    for person in sorted(summary.room.present(), key=lambda person: person.name.casefold()):
        for id, cell in sorted(person.cells.items()):
            writer.writerow(
                [
                    _no_formula(person.name),
                    _no_formula(person.table),
                    id,
                    cell.status,
                    cell.attempts,
                    cell.hints,
                    int(cell.revealed),
                    _no_formula(cell.mistake or ""),
                    round(cell.worked_s / 60, 1),
                    _iso(cell.at),
                ]
            )
    return out.getvalue()


def _no_formula(text: str) -> str:
    """A spreadsheet takes a cell that begins like this for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def to_json(summary: Summary) -> str:
    """All that is stored, under pseudonyms, and what the page shows of it."""
    room = summary.room
    present = {person.id: person.name for person in room.present()}
    return json.dumps(
        {
            "format": 1,
            "title": summary.session.title,
            "created": _iso(summary.session.created),
            "participants": [
                {"name": person.name, "table": person.table, "joined": _iso(person.joined), "ready": person.ready}
                for person in room.present()
            ],
            "exercises": [vars(row) for row in summary.exercises],
            "events": [
                {"name": present[entry.participant], "kind": entry.kind, "at": _iso(entry.at), **entry.body}
                for entry in summary.entries
                if entry.participant in present and entry.kind in {"verdict", "hint", "reveal", "hand", "ready"}
            ],
        },
        indent=1,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The page: no script, no other file

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e8eaed); --soft: light-dark(#555d66, #a9b1ba);
  --line: light-dark(#c9ced4, #454c55); --ground: light-dark(#ffffff, #15181c); --bar: light-dark(#2f6fb3, #6fa8dc);
  --bad: light-dark(#b3470f, #f0905c); --track: light-dark(#eceff2, #262b31); }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 16px; }
h1 { font-size: 1.7em; margin: 0 0 4px; } h2 { font-size: 1.25em; margin: 2em 0 .4em; }
p.lead { color: var(--soft); margin: 0 0 1em; }
dl.numbers { display: flex; flex-wrap: wrap; gap: 12px 32px; margin: 0; }
dl.numbers div { display: flex; flex-direction: column-reverse; } dl.numbers dt { color: var(--soft); }
dl.numbers dd { margin: 0; font-size: 1.8em; font-weight: 600; line-height: 1.2; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 5px 10px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; } .scroll table { min-width: 640px; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } .bar { fill: var(--bar); } .bad { fill: var(--bad); } .track { fill: var(--track); }
.mark { stroke: var(--ink); stroke-width: 2; }
@media print { main { max-width: none; } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; form-action 'none'"


def to_html(summary: Summary) -> str:
    """A page that needs nothing else, and can be sent by mail."""
    session, rows = summary.session, summary.exercises
    present = summary.room.present()
    passed = sum(row.passed for row in rows)
    end = max((entry.at for entry in summary.entries), default=session.created)
    numbers = [
        ("people", len(present)),
        ("exercises tried", len(rows)),
        ("passed", passed),
        ("hours", f"{(end - summary.start) / 3600:.1f}"),
    ]
    body = [
        f"<h1>{escape(session.title)}</h1><p class=lead>{_iso(summary.start)[:16].replace('T', ' ')} UTC. "
        "Everyone counts once for each exercise and mistake. Verdicts were reported by the learners' own machines.</p>",
        '<dl class="numbers">'
        + "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in numbers)
        + "</dl>",
    ]
    if not rows:
        body.append("<p>Nobody has checked an exercise yet.</p>")
    else:
        body += [*_time_section(rows), *_mistakes_section(rows), *_hints_section(rows), *_timeline(summary)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(session.title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>"
    )


def _name(id: str) -> str:
    return id.replace("_", "_<wbr>").replace(".", ".<wbr>")


def _prose(text: str) -> str:
    """`code`, **strong** and *emphasis*; everything else is escaped."""
    parts = []
    for i, piece in enumerate(text.split("`")):
        if i % 2:
            parts.append(f"<code>{escape(piece)}</code>")
        else:
            strong = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", escape(piece))
            parts.append(re.sub(r"\*([^\s*][^*\n]*)\*", r"<em>\1</em>", strong))
    return "".join(parts)


def _time_section(rows: list[ExerciseSummary]) -> list[str]:
    timed = [row for row in rows if row.minutes is not None]
    lost = sorted(rows, key=lambda row: -row.lost_minutes)[:3]
    said = [f"{row.id} ({row.lost_minutes:.0f} minutes over all)" for row in lost if row.lost_minutes >= 1]
    lead = f"Most time beyond the plan: {', '.join(said)}." if said else "No exercise took longer than planned."
    parts = [f"<h2>Where the room lost time</h2><p>{escape(lead)}</p>"]
    if timed:
        most = max(max(row.minutes or 0, row.stated_minutes or 0) for row in timed) or 1
        label, width, height = 300, 560, 26
        marks = []
        for i, row in enumerate(timed):
            y, minutes = i * height, row.minutes or 0.0
            over = row.stated_minutes is not None and minutes > row.stated_minutes
            marks.append(
                f'<text x="0" y="{y + 17}">{escape(row.id[-42:])}</text>'
                f'<rect class="track" x="{label}" y="{y + 4}" width="{width}" height="16" rx="2"/>'
                f'<rect class="{"bad" if over else "bar"}" x="{label}" y="{y + 4}" '
                f'width="{width * minutes / most:.1f}" height="16" rx="2"/>'
            )
            if row.stated_minutes is not None:
                x = label + width * row.stated_minutes / most
                marks.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + 23}"/>')
            marks.append(f'<text class="soft" x="{label + width + 8}" y="{y + 17}">{minutes:.1f} min</text>')
        alt = "; ".join(f"{row.id} {row.minutes} of {row.stated_minutes or '?'} minutes" for row in timed)
        parts.append(
            f'<svg viewBox="0 0 940 {len(timed) * height}" role="img" aria-label="{escape(alt)}">{"".join(marks)}</svg>'
            "<p class=lead>Bar: the median of those who passed, pauses over 20 minutes cut. "
            "Line: the stated minutes.</p>"
        )
    cells = "".join(
        f"<tr><td><code>{_name(row.id)}</code></td><td class=n>{row.passed} of {row.tried}</td>"
        f"<td class=n>{'–' if row.minutes is None else row.minutes}</td><td class=n>{row.stated_minutes or '–'}</td>"
        f"<td class=n>{row.lost_minutes:.0f}</td><td class=n>{row.revealed}</td></tr>"
        for row in rows
    )
    parts.append(
        '<div class="scroll" tabindex="0" role="region" aria-label="Exercises"><table>'
        "<tr><th>exercise<th class=n>passed<th class=n>minutes<th class=n>stated"
        f"<th class=n>lost, all<th class=n>looked up</tr>{cells}</table></div>"
    )
    return parts


def _mistakes_section(rows: list[ExerciseSummary]) -> list[str]:
    found = sorted(
        ((count, row.id, name, message) for row in rows for name, count, message in row.mistakes),
        key=lambda item: (-item[0], item[1], item[2]),
    )
    if not found:
        return ["<h2>Mistakes</h2><p>The checker named no mistake.</p>"]
    cells = "".join(
        f"<tr><td class=n>{count}</td><td><code>{_name(id)}</code><br><strong>{escape(name)}</strong></td>"
        f"<td>{_prose(message) or 'A mistake that this installation does not know.'}</td></tr>"
        for count, id, name, message in found[:25]
    )
    return [
        '<h2>Mistakes</h2><div class="scroll" tabindex="0" role="region" aria-label="Mistakes"><table>'
        f"<tr><th class=n>people<th>mistake<th>what the checker said</tr>{cells}</table></div>"
    ]


def _hints_section(rows: list[ExerciseSummary]) -> list[str]:
    cells = "".join(
        f"<tr><td><code>{_name(row.id)}</code></td><td class=n>{hint}</td><td class=n>{read}</td>"
        f"<td class=n>{helped}</td></tr>"
        for row in rows
        for hint, read, helped in row.hints
    )
    if not cells:
        return ["<h2>Hints</h2><p>Nobody read a hint.</p>"]
    return [
        "<h2>Hints</h2><p>A hint helped whoever passed after it without another hint or the solution.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Hints"><table>'
        "<tr><th>exercise<th class=n>hint<th class=n>read by"
        f"<th class=n>helped</tr>{cells}</table></div>"
    ]


def _timeline(summary: Summary) -> list[str]:
    last = max((slot for counts in summary.slots.values() for slot in counts), default=0)
    first_shown = max(0, last - 71)
    slots = range(first_shown, last + 1)
    most = max((count for counts in summary.slots.values() for count in counts.values()), default=1)
    label, height = 300, 22
    width = 620 / len(slots)
    marks = []
    for i, row in enumerate(summary.exercises):
        counts = summary.slots.get(row.id, Counter())
        marks.append(f'<text x="0" y="{i * height + 15}">{escape(row.id[-42:])}</text>')
        for place, slot in enumerate(slots):
            opacity = counts[slot] / most
            kind = 'class="bar"' if counts[slot] else 'class="track"'
            marks.append(
                f'<rect {kind} x="{label + place * width:.1f}" y="{i * height + 2}" width="{max(width - 1.5, 1):.1f}" '
                f'height="{height - 4}" fill-opacity="{0.25 + 0.75 * opacity if counts[slot] else 1:.2f}"/>'
            )
    alt = "; ".join(f"{row.id}: at most {max(summary.slots.get(row.id, {0: 0}).values())}" for row in summary.exercises)
    return [
        "<h2>Who was where</h2>"
        f'<svg viewBox="0 0 940 {len(summary.exercises) * height}" role="img" '
        f'aria-label="People at each exercise. {escape(alt)}">'
        f"{''.join(marks)}</svg><p class=lead>Each column is ten minutes; the darkest is {most} "
        f"{'person' if most == 1 else 'people'} at once.</p>"
    ]
