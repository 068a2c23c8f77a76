"""A layer as a map: the residual stream runs down the left, and every activation has a line of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mi_course.show import _colors as colors
from mi_course.show._data import check_text, labels
from mi_course.show._html import figure
from mi_course.show._picture import Shown, describe, page, write_as

WIDTH, ROW, TOP = 860, 27, 64
STREAM_X, BRANCH_X, NAME_X, SHAPE_X, MEANS_X = 30, 74, 98, 322, 432
SANS, MONO = "system-ui, sans-serif", "ui-monospace, Menlo, Consolas, monospace"
MAX_ROWS = 60
# Where the page's theme is not known, colors are those of all pictures, which read on light and dark grounds. A file
# of its own follows the reader's light or dark mode.
THEMES = (
    "<style>text{fill:#1f2328}.soft{fill:#59636e}"
    "@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9198a1}}</style>"
)


class LayerMap(Shown):
    """An SVG with alternative text. `.save("map.svg")` writes one that follows the reader's light or dark mode."""

    def __init__(self, rows: list[dict[str, str]], title: str, caption: str) -> None:
        self.title, self.caption, self._rows = title, caption, rows
        width = max(len(row["name"]) for row in rows)
        shapes = max(len(row["shape"]) for row in rows)
        doing = {"reads": " (reads the stream)", "adds": " (added to the stream)", "is": " (is the stream)", "": ""}
        details = [
            f"{row['name']:<{width}}  {row['shape']:<{shapes}}  {row['means']}{doing[row['stream']]}" for row in rows
        ]
        self.text = describe(title, caption, details)
        steps = "; ".join(f"{row['name']} [{row['shape']}]{doing[row['stream']]}" for row in rows)
        self.alt = f"Map of a layer, from top to bottom in the order of computation: {title}. {steps}."

    @property
    def height(self) -> int:
        return TOP + ROW * len(self._rows) + 14

    def svg(self, *, themed: bool = False) -> str:
        """The drawing. themed: follow the reader's light or dark mode, for a file that stands alone."""
        marks = [_text(12, 26, self.title, size=16, bold=True)]
        heads = ((NAME_X, "activation"), (SHAPE_X, "shape"), (MEANS_X, "what it is"))
        marks += [_text(x, TOP - 12, word, soft=True, size=12) for x, word in heads]
        marks += self._groups()
        y = [TOP + ROW * (i + 0.5) for i in range(len(self._rows))]
        blue = colors.POSITIVE
        marks.append(_line(STREAM_X, TOP - 4, STREAM_X, self.height - 16, blue, 5))
        marks.append(
            f'<path d="M{STREAM_X - 8},{self.height - 18} h16 l-8,12 z" fill="{blue}"/>'  # the stream goes on
        )
        for i, row in enumerate(self._rows):
            color = _color(row["part"])
            if row["stream"] == "is":
                marks.append(_dot(STREAM_X, y[i], 7, blue))
            else:
                follows = i > 0 and self._rows[i - 1]["stream"] != "is" and self._rows[i - 1]["stream"] != "adds"
                if follows:
                    marks.append(_line(BRANCH_X, y[i - 1], BRANCH_X, y[i], color, 2))
                marks.append(_dot(BRANCH_X, y[i], 4.5, color))
            if row["stream"] == "reads":
                marks.append(_arrow(STREAM_X + 4, BRANCH_X - 7, y[i], color))
            if row["stream"] == "adds":
                marks.append(_arrow(BRANCH_X - 6, STREAM_X + 11, y[i], color))
                marks.append(f'<circle cx="{STREAM_X}" cy="{y[i]}" r="9" fill="{color}"/>')
                marks.append(_line(STREAM_X - 5, y[i], STREAM_X + 5, y[i], "#ffffff", 2))
                marks.append(_line(STREAM_X, y[i] - 5, STREAM_X, y[i] + 5, "#ffffff", 2))
            marks.append(_text(NAME_X, y[i] + 4, row["name"], mono=True, size=12.5, bold=row["stream"] == "is"))
            marks.append(_text(SHAPE_X, y[i] + 4, row["shape"], mono=True, soft=True, size=12))
            marks.append(_text(MEANS_X, y[i] + 4, row["means"], size=12.5))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img" aria-label="{escape(self.alt)}" font-family="{SANS}" '
            f'fill="{colors.INK}">{THEMES if themed else ""}{"".join(marks)}</svg>'
        )

    def _groups(self) -> list[str]:
        """A faint ground under the rows of each part that lies beside the stream, with its name."""
        marks, start = [], 0
        for i, row in enumerate(self._rows):
            if i + 1 < len(self._rows) and self._rows[i + 1]["part"] == row["part"]:
                continue
            if row["part"] != "stream":
                top, height = TOP + ROW * start + 1, ROW * (i + 1 - start) - 2
                color = _color(row["part"])
                box = f'x="{BRANCH_X - 20}" y="{top}" width="{WIDTH - BRANCH_X + 8}" height="{height}" rx="6"'
                marks.append(f'<rect {box} fill="{color}" fill-opacity="0.11"/>')
                name = row["part"]
                marks.append(_text(WIDTH - 22, top + 17, name, align="end", soft=True, size=12, bold=True))
            start = i + 1
        return marks

    def html(self) -> str:
        return figure(self.svg().encode(), width=WIDTH, alt=self.alt, caption=self.caption, kind="svg+xml")

    def save(self, path: str | Path) -> Path:
        """Write `.svg`, which follows the reader's light or dark mode, or `.html`."""
        return write_as(
            path,
            {
                ".svg": lambda: (self.svg(themed=True) + "\n").encode(),
                ".html": lambda: page(self.html(), self.alt),
            },
        )


def layer_map(rows: Sequence[Mapping[str, Any]], *, title: str, caption: str = "") -> LayerMap:
    """A layer's activations in the order of computation, beside the residual stream.

    rows: {"name", "shape", "part", "means"} each, and "stream": "is" for the stream itself, "reads" and "adds" for what
    reads it and is added to it, "" otherwise. part: rows of one part that follow each other share a ground; "stream"
    has none. Raises ValueError for no rows, a row without one of these, or another word for "stream".
    """
    if not rows or len(rows) > MAX_ROWS:
        raise ValueError(f"rows has {len(rows)} entries; expected 1 to {MAX_ROWS}.")
    out = []
    for i, row in enumerate(rows):
        missing = [key for key in ("name", "shape", "part", "means") if key not in row]
        if missing:
            raise ValueError(f"rows[{i}] lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}.")
        if row.get("stream", "") not in ("", "is", "reads", "adds"):
            raise ValueError(f"rows[{i}]['stream'] is {row['stream']!r}; expected 'is', 'reads', 'adds' or ''.")
        keys = ("name", "shape", "part", "means")
        out.append(dict(zip(keys, labels([row[key] for key in keys], f"rows[{i}]"), strict=True)))
        out[-1]["stream"] = str(row.get("stream", ""))
    return LayerMap(out, check_text(title, "title"), check_text(caption, "caption"))


PART_COLORS = {"attention": colors.SERIES[1], "MLP": colors.SERIES[2], "stream": colors.POSITIVE}


def _color(part: str) -> str:
    return PART_COLORS.get(part, colors.CONTROL)


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: float,
    mono: bool = False,
    soft: bool = False,
    bold: bool = False,
    align: str = "start",
) -> str:
    look = f' font-family="{MONO}"' if mono else ""
    look += ' class="soft"' if soft else ""
    look += ' font-weight="600"' if bold else ""
    look += f' text-anchor="{align}"' if align != "start" else ""
    return f'<text x="{x}" y="{y}" font-size="{size}"{look}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"/>'


def _dot(x: float, y: float, radius: float, color: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{color}"/>'


def _arrow(start: float, end: float, y: float, color: str) -> str:
    """A horizontal arrow from one x to another."""
    back = 6 if end < start else -6
    head = f'<path d="M{end},{y} l{back},-4.5 v9 z" fill="{color}"/>'
    return _line(start, y, end + back / 2, y, color, 2) + head
