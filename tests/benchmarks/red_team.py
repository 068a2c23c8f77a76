# ruff: noqa: E402
"""Marks the attacks of a red team, and writes their table into docs/faults.md.

python tests/benchmarks/red_team.py
"""

from __future__ import annotations

import sys
import tempfile
from datetime import date
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "grading")]

from faults.attacks import ARCHIVES, ATTACKS
from grading_kit import loaded, notebook

from mi_course.grading.intake import Entry, load
from mi_course.grading.marking import mark, prepare
from mi_course.grading.sandbox import Sandbox

PAGE = TESTS.parent / "docs" / "faults.md"
HEADING = "## What a red team tried"


def section_of(text: str) -> str:
    """What a page holds from the heading on: `grading_peers.py` keeps it."""
    return text[text.index(HEADING) :] if HEADING in text else ""


def main() -> None:
    rows = []
    with Sandbox.start() as sandbox, tempfile.TemporaryDirectory() as folder:
        prepare(sandbox)
        for name, attack in ATTACKS.items():
            row = mark(name, loaded(notebook(attack.answers, before=attack.before)), sandbox, bytes(32))
            rows.append((name, attack.deserves, row.points, attack.promise))
        for name, raw in ARCHIVES.items():
            path = Path(folder, f"{name}.zip")
            path.write_bytes(raw)
            row = mark(name, load(Entry(path.name, path)), sandbox, bytes(32))
            rows.append((f"{name}.zip", 5 if "good" in name else 0, row.points, "One bad entry is one bad row"))
    right = sum(deserves == got for _, deserves, got, _ in rows)
    lines = [
        HEADING,
        "",
        f"Written by `tests/benchmarks/red_team.py` on {date.today()} from `tests/grading/faults/attacks.py`: "
        "submissions of lesson 00 (5 points) that want points they have not earned, or to cost others theirs. "
        "[SECURITY.md](../SECURITY.md) says what is promised, and what not.",
        "",
        "| attack | deserves | got | promise |",
        "|---|---|---|---|",
        *(f"| `{name}` | {deserves} | {got:g} | {promise} |" for name, deserves, got, promise in rows),
        "",
        f"Right: {right} of {len(rows)}.",
    ]
    text = PAGE.read_text(encoding="utf-8")
    kept = text.removesuffix(section_of(text)).rstrip("\n")
    PAGE.write_text("\n".join([kept, "", *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
