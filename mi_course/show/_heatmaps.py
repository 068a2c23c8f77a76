"""Heat maps: layer × head, any row × column, and several side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import HIDDEN, Axis, Cells, Chart, Frame, Mark, Numbers, Scale, Text
from mi_course.show._data import array, check_text, labels, number, short, visible
from mi_course.show._picture import Picture

MAX_CELLS = 40_000
MAX_NAMED = 1_500  # cells that carry a hover text of their own; above, the notebook would grow too large
MAX_WRITTEN = 600  # cells with a word in them
MAX_PANELS = 24
TALLEST = 2.0  # the height of a panel of `heatmaps`, for a width of one
PAGE_WIDTH = 720  # pixels that a notebook's column has for a picture


def head_heatmap(
    values: Any,
    *,
    title: str,
    caption: str = "",
    unit: str = "",
    center: float | None = 0.0,
    highlight: Sequence[tuple[int, int]] = (),
    hover: Sequence[Sequence[str]] | None = None,
) -> Picture:
    """One value per attention head.

    values: [layer, head].
    unit: what a value is, such as "attention" or "nats"; labels the color bar.
    center: the value without color in a red-to-blue scale; None for a scale from lowest to highest.
    highlight: (layer, head) pairs to frame.
    hover: [layer, head] more words for each head.
    Raises ValueError for another shape, NaN, or a highlighted head that does not exist.
    """
    table = array(values, "values", ["layer", "head"], limit=MAX_CELLS)
    layers, heads = table.shape
    framed = []
    for pair in highlight:
        layer, head = (int(number(part, "highlight")) for part in pair)
        if not (0 <= layer < layers and 0 <= head < heads):
            raise ValueError(
                f"highlight has head {layer}.{head}, but values has {layers} layers and {heads} heads per layer "
                f"(counted from 0). Give pairs (layer, head)."
            )
        framed.append((layer, head))
    details = [f"layer 0 to {layers - 1} (up), head 0 to {heads - 1} (across)"]
    return _heatmap(
        table,
        x=[str(head) for head in range(heads)],
        y=[str(layer) for layer in range(layers)],
        axis_names=("head", "layer"),
        title=title,
        caption=caption,
        unit=unit,
        center=center,
        words=_check_cells(hover, "hover", table.shape),
        hover="head {y}.{x}",
        framed=framed,
        details=details,
        cell_name=lambda row, column: f"{row}.{column}",
    )


def heatmap(
    values: Any,
    *,
    x: Sequence[Any] | None = None,
    y: Sequence[Any] | None = None,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    unit: str = "",
    center: float | None = 0.0,
    hover: Sequence[Sequence[str]] | None = None,
    text: Sequence[Sequence[str]] | None = None,
    down: bool = False,
) -> Picture:
    """One value per row and column; the first row is at the bottom, as layers are.

    values: [row, column]. x, y: names of columns and rows (tokens may repeat); their numbers by default.
    text: [row, column] a word to write into each cell; spaces and line ends are made visible, long words cut.
    down: the first row is at the top, as queries are in an attention pattern.
    xlabel, ylabel: what columns and rows are. Other arguments as in `head_heatmap`.
    """
    table = array(values, "values", ["row", "column"], limit=MAX_CELLS)
    rows, columns = table.shape
    across = [visible(label, width=24) for label in labels(range(columns) if x is None else x, "x", columns)]
    up = [visible(label, width=24) for label in labels(range(rows) if y is None else y, "y", rows)]
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")
    direction = "down" if down else "up"
    extra = _check_cells(hover, "hover", table.shape)
    named = x is not None or y is not None
    details = [f"{ylabel} 0 to {rows - 1} ({direction}), {xlabel} 0 to {columns - 1} (across)"]
    words, line = extra, f"{ylabel} {{y}}, {xlabel} {{x}}"
    if named:
        details = [f"{ylabel}: {rows}, from {up[0]} {direction} to {up[-1]}"]
        details += [f"{xlabel}: {columns}, from {across[0]} to {across[-1]}"]
    if named and table.size <= MAX_NAMED:
        places = ((f"{b}, {a} ({j})" for j, a in enumerate(across)) for b in up)
        more = extra or [[""] * columns] * rows
        words = [[f"{p}\n{m}".strip() for p, m in zip(*pair, strict=True)] for pair in zip(places, more, strict=True)]
        line = ylabel
    return _heatmap(
        table,
        x=across,
        y=up,
        axis_names=(xlabel, ylabel),
        title=title,
        caption=caption,
        unit=unit,
        center=center,
        words=words,
        hover=line,
        framed=[],
        details=details,
        down=down,
        cell_name=lambda row, column: f"{ylabel} {up[row]}, {xlabel} {across[column]}",
        text=_check_written(text, table.shape),
    )


def _heatmap(
    table: Numbers,
    *,
    x: list[str],
    y: list[str],
    axis_names: tuple[str, str],
    title: str,
    caption: str,
    unit: str,
    center: float | None,
    words: list[list[str]] | None,
    hover: str,
    framed: list[tuple[int, int]],
    details: list[str],
    cell_name: Callable[[int, int], str],
    down: bool = False,
    text: list[list[str]] | None = None,
) -> Picture:
    rows, columns = table.shape
    xlabel, ylabel = axis_names
    scale = color_scale(table, center, unit)
    details += [f"unit: {unit}"] if unit else []
    extremes = _extremes(table, cell_name)
    if framed:
        extremes.append("framed: " + "; ".join(f"{r}.{c}: {short(table[r, c])}" for r, c in framed))
    alt = f"Heat map, {ylabel} by {xlabel}: {title}. {extremes[0][0].upper()}{extremes[0][1:]}."

    width = min(46, max(5, 620 / columns, 22 if columns <= 60 else 0))
    height = min(30, max(5, 540 / rows, 16 if rows <= 60 else 0))
    if text is not None:
        width, height = 7.0 * max(len(word) for row in text for word in row) + 8, max(height, 18)
        details += [f"{ylabel} {y[i]}: " + " | ".join(row) for i, row in enumerate(text)]
    longest = max(map(len, x))
    angle = 60 if longest * 7 > width else 0
    left = 46 + 7.2 * max(map(len, y))
    bottom = 50 + (longest * 6.2 if angle else 8)
    size = int(min(1000, max(360, width * columns + left + 90))), int(min(900, max(200, height * rows + bottom + 50)))
    ends = (-0.5, rows - 0.5)
    few = columns <= 60 and rows <= 60
    cells = Cells(table, -0.5, columns - 0.5, *ends, hover + ("\n{words}" if words else ""), words, gap=few)
    frames = [Frame(c - 0.5, c + 0.5, r - 0.5, r + 0.5) for r, c in framed]
    plain: dict[str, Any] = {"line": False, "grid": False}
    words_in_cells = [
        Text(column, row, word, size=11, soft=False)
        for row, line in enumerate(text or ())
        for column, word in enumerate(line)
    ]
    chart = Chart(
        size,
        [cells, *frames, *words_in_cells],
        Axis(xlabel, {i: x[i] for i in _shown(columns, width, 14)}, angle, (-0.5, columns - 0.5), **plain),
        Axis(ylabel, {i: y[i] for i in _shown(rows, height, 13)}, 0, ends[::-1] if down else ends, **plain),
        scale,
    )
    return Picture(chart, title=title, caption=caption, alt=alt, details=[*details, *extremes])


def color_scale(table: Numbers, center: float | None, unit: str) -> Scale:
    """Colors from lowest to highest value: symmetric about `center` if there is one."""
    label = check_text(unit, "unit") or "value"
    low, high = float(table.min()), float(table.max())
    if center is None:
        return Scale(*((low, high) if high > low else (low - 0.5, high + 0.5)), colors.SEQUENTIAL, label)
    center = number(center, "center")
    reach = max(abs(low - center), abs(high - center)) or 1.0
    return Scale(center - reach, center + reach, colors.DIVERGING, label)


def _check_cells(cells: Sequence[Sequence[str]] | None, name: str, shape: tuple[int, ...]) -> list[list[str]] | None:
    if cells is None:
        return None
    if len(cells) != shape[0]:
        raise ValueError(f"{name} has {len(cells)} rows; expected {shape[0]}, one for each row of values.")
    return [labels(row, f"{name}[{i}]", shape[1]) for i, row in enumerate(cells)]


def _check_written(text: Sequence[Sequence[str]] | None, shape: tuple[int, ...]) -> list[list[str]] | None:
    cells = _check_cells(text, "text", shape)
    if cells and shape[0] * shape[1] > MAX_WRITTEN:
        raise ValueError(f"text would be written into {shape[0] * shape[1]} cells; at most {MAX_WRITTEN} can be read.")
    return cells and [[visible(word, width=9) for word in row] for row in cells]


def _extremes(table: Numbers, cell_name: Callable[[int, int], str], count: int = 5) -> list[str]:
    """The highest and lowest cells, in words."""
    order = np.argsort(table, axis=None, kind="stable")

    def describe(indices: Numbers) -> str:
        cells = [divmod(int(i), table.shape[1]) for i in indices]
        return "; ".join(f"{cell_name(r, c)}: {short(table[r, c])}" for r, c in cells)

    if table.size <= count:
        return [f"values: {describe(np.arange(table.size))}"]
    return [f"highest: {describe(order[::-1][:count])}", f"lowest: {describe(order[:2])}"]


def _shown(count: int, cell: float, least: float) -> range:
    """The cells that carry a label, so that labels stay `least` pixels apart."""
    step = max(1, int(np.ceil(least / cell)))
    return range(0, count, next((nice for nice in (1, 2, 5, 10, 20, 50, 100) if nice >= step), step))


@dataclass(frozen=True)
class Grid:
    """Where panels stand: `across` in a row, `width` by `height` units each, the first at the top left."""

    count: int
    across: int
    width: float
    height: float

    def centers(self) -> Iterator[tuple[float, float]]:
        for i in range(self.count):
            yield (i % self.across) * self.width, -(i // self.across) * self.height

    @property
    def x(self) -> tuple[float, float]:
        """The left and right end of all panels."""
        return -self.width / 2, (self.across - 0.5) * self.width

    @property
    def y(self) -> tuple[float, float]:
        rows = -(-self.count // self.across)
        return -(rows - 0.5) * self.height, self.height / 2

    def axes(self) -> tuple[Axis, Axis]:
        return replace(HIDDEN, range=self.x), replace(HIDDEN, range=self.y)


def heatmaps(
    panels: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    unit: str = "",
    center: float | None = 0.0,
    across: int | None = None,
    x: Sequence[Any] | None = None,
    y: Sequence[Any] | None = None,
    down: bool = True,
) -> Picture:
    """Tables of one shape beside each other, on one color scale.

    panels: name to [row, column]. unit: what a value is; labels the color bar. center: as in `heatmap`.
    x, y: names of columns and rows, written below the panels and left of the first. down: the first row is at the top.
    """
    if not isinstance(panels, Mapping) or not panels or len(panels) > MAX_PANELS:
        raise ValueError(f"panels is empty, no mapping, or more than {MAX_PANELS}; expected {{name: table}}.")
    tables = {
        check_text(name, "a name in panels"): array(table, f"panels[{name!r}]", ["row", "column"], limit=MAX_CELLS)
        for name, table in panels.items()
    }
    shape = next(iter(tables.values())).shape
    for name, table in tables.items():
        if table.shape != shape:
            raise ValueError(f"panels[{name!r}] has shape {table.shape}, the first one {shape}; expected all alike.")
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")
    rows, columns = shape
    scale = color_scale(np.stack(list(tables.values())), center, unit)
    details = [f"{len(tables)} tables of {rows} {ylabel} by {columns} {xlabel}"] + ([f"unit: {unit}"] if unit else [])
    details += [f"{name}: from {short(float(t.min()))} to {short(float(t.max()))}" for name, t in tables.items()]
    alt = f"Heat maps side by side, {ylabel} by {xlabel}: {title}. " + "; ".join(details[-len(tables) :]) + "."

    columns_at = [visible(name, width=16) for name in labels(range(columns) if x is None else x, "x", columns)]
    rows_at = [visible(name, width=16) for name in labels(range(rows) if y is None else y, "y", rows)]
    words = None
    if rows * columns * len(tables) <= MAX_NAMED:
        words = [[f"{ylabel} {r}, {xlabel} {c}" for c in columns_at] for r in rows_at]
    grid, marks = tables_in_grid(list(tables.items()), min(len(tables), across or 4), words, down=down)
    half = _half(rows, columns)
    panel = min(270.0, (PAGE_WIDTH - 100) / (1.12 * grid.across))
    width, height = int(panel * grid.across * 1.12), int(panel * (grid.y[1] - grid.y[0]) + 60)
    if x is None and y is None:
        across_axis, up_axis = grid.axes()
        below = textwrap.wrap(f"{'down' if down else 'up'}: {ylabel}; across: {xlabel}", int(width / 5.6))
    else:
        cells, below = [mark for mark in marks if isinstance(mark, Cells)], []
        longest = max(map(len, columns_at))
        angle = 90 if longest * 6.5 > panel / columns else 0
        xs, ys = _shown(columns, panel / columns, 13), _shown(rows, panel * 2 * half / rows, 13)
        # Names stand at the left of the first panel of each row, and under the last row.
        x_ticks = {float(part.centers()[0][i]): columns_at[i] for part in cells[: grid.across] for i in xs}
        y_ticks = {float(part.centers()[1][i]): rows_at[i] for part in cells[:: grid.across] for i in ys}
        plain: dict[str, Any] = {"line": False, "grid": False}
        across_axis = Axis(xlabel, x_ticks, angle, grid.x, **plain)
        up_axis = Axis(ylabel, y_ticks, 0, grid.y, **plain)
        width, height = width + 40, height + 24 + (6 * longest if angle else 0)
    size = width + 110, height + 14 * len(below)
    chart = Chart(size, marks, across_axis, up_axis, scale, equal=True, below="\n".join(below))
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def tables_in_grid(
    panels: Sequence[tuple[str, Numbers]], across: int, words: list[list[str]] | None = None, *, down: bool = True
) -> tuple[Grid, list[Mark]]:
    """(name, table) pairs as panels one unit wide and at most TALLEST high, with the name above.

    words: [row][column], what the hover text says of a cell. down: the first row is at the top.
    """
    rows, columns = panels[0][1].shape
    half = _half(rows, columns)
    grid = Grid(len(panels), across, 1.12, 2 * half + 0.24)
    marks: list[Mark] = []
    for (x, y), (name, table) in zip(grid.centers(), panels, strict=True):
        hover = f"{name}\n{{words}}" if words else name
        ends = (y + half - 0.06, y - half - 0.06)
        marks.append(Cells(table, x - 0.5, x + 0.5, *(ends if down else ends[::-1]), hover, words))
        marks.append(Text(x, y + half + 0.01, name, size=12, soft=False))
    return grid, marks


def _half(rows: int, columns: int) -> float:
    """Half the height of a panel one unit wide."""
    return min(rows / columns, TALLEST) / 2
