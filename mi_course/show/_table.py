"""Small tables of numbers and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mi_course.show._data import check_text, labels
from mi_course.show._html import INK, LINE, SOFT
from mi_course.show._picture import Shown

MAX_ROWS = 200


class Table(Shown):
    """Rows with a name each. `.text` is aligned with spaces."""

    def __init__(self, *, html: str, text: str, alt: str) -> None:
        self._html, self.text, self.alt = html, text, alt

    def html(self) -> str:
        return self._html


def table(
    rows: Mapping[str, Any],
    columns: Sequence[str],
    *,
    title: str = "",
    digits: int | Sequence[int] = 2,
    sign: bool = False,
    left: bool = False,
) -> Table:
    """A table with a name for each row.

    rows: name to one cell, or a sequence with one cell for each column; numbers, zero-dimensional tensors or strings.
    NaN, for what was not measured, is written as a dash.
    digits: behind the decimal point, the same for all columns or one number for each. sign: write + before positive
    numbers. left: align cells on the left and break long words, for columns of text.
    Raises ValueError for no rows, or a row with another number of cells.

    >>> print(table({"a": [1.0, "x"], "long": [-0.5, "y"]}, ["nats", "word"], digits=1))
          nats  word
    a      1.0     x
    long  −0.5     y
    """
    heads = labels(columns, "columns")
    if not isinstance(rows, Mapping) or not rows or len(rows) > MAX_ROWS:
        raise ValueError(f"rows is empty, too long or no mapping; expected {{name: cells}}, at most {MAX_ROWS}.")
    places = [digits] * len(heads) if isinstance(digits, int) else list(digits)
    if len(places) != len(heads):
        raise ValueError(f"digits has {len(places)} entries, expected one for each of {len(heads)} columns.")
    cells = {str(name): _cells(str(name), values, places, sign) for name, values in rows.items()}
    if title:
        check_text(title, "title")
    return Table(
        html=_html(heads, cells, title, left),
        text=_text(heads, cells, title),
        alt=title or f"Table: {', '.join(heads)}",
    )


def _cells(name: str, values: Any, places: Sequence[int], sign: bool) -> list[str]:
    if isinstance(values, str) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        values = [values]
    if len(values) != len(places):
        raise ValueError(f"Row {name!r} has {len(values)} cells, expected {len(places)}, one for each column.")
    return [_cell(value, place, sign) for value, place in zip(values, places, strict=True)]


def _cell(value: Any, place: int, sign: bool) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "–"
    written = f"{float(value):{'+' if sign else ''},.{place}f}"
    # No "−0.0": whether a tiny number is above or below 0 is no news.
    if float(written.replace(",", "")) == 0:
        written = f"{0:.{place}f}"
    return written.replace("-", "−")


def _text(heads: Sequence[str], cells: Mapping[str, Sequence[str]], title: str) -> str:
    first = max(map(len, cells))
    widths = [max(len(head), *(len(row[i]) for row in cells.values())) for i, head in enumerate(heads)]
    lines = [title] if title else []
    for name, row in [("", heads), *cells.items()]:
        lines.append(
            "  ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))])
        )
    return "\n".join(line.rstrip() for line in lines)


def _html(heads: Sequence[str], cells: Mapping[str, Sequence[str]], title: str, left: bool) -> str:
    side = "left;overflow-wrap:anywhere" if left else "right"
    cell_style = f"text-align:{side};padding:2px 10px;border-bottom:1px solid {LINE}"
    name_style = f"text-align:left;padding:2px 10px 2px 0;border-bottom:1px solid {LINE};font-weight:normal"
    caption = (
        f'<caption style="text-align:left;color:{SOFT};padding-bottom:4px">{escape(title)}</caption>' if title else ""
    )
    top = "".join(f'<th scope="col" style="{cell_style}">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row" style="{name_style}">{escape(name)}</th>'
        + "".join(f'<td style="{cell_style}">{escape(cell)}</td>' for cell in row)
        + "</tr>"
        for name, row in cells.items()
    )
    return (
        f'<table class="mi-table" style="color:{INK};border-collapse:collapse;font-size:14px;margin:2px 0">{caption}'
        f'<thead><tr><td style="{name_style}"></td>{top}</tr></thead><tbody>{body}</tbody></table>'
    )
