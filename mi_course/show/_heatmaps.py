"""Heat maps: layer × head, and any row × column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._data import array, labels, number, rounded, short, visible, words
from mi_course.show._picture import Picture, axis, safe_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CELLS = 40_000
MAX_NAMED = 1_500  # cells that carry a hover text of their own; above, the notebook would grow too large

# A frame must be seen on the lightest and on the darkest cell: dark ink over a white line.
FRAME = [{"color": colors.PAPER, "width": 5}, {"color": colors.INK, "width": 2}]


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
    unit: what a value is, such as "attention" or "nats"; labels the colour bar.
    center: the value that is white in a red-to-blue scale; None for a scale from lowest to highest.
    highlight: (layer, head) pairs to frame.
    hover: [layer, head] more words for each head.
    Raises ValueError for another shape, NaN, or a highlighted head that is not there.
    """
    table = array(values, "values", ["layer", "head"], most=MAX_CELLS)
    layers, heads = table.shape
    boxes = []
    for pair in highlight:
        layer, head = (int(number(part, "highlight")) for part in pair)
        if not (0 <= layer < layers and 0 <= head < heads):
            raise ValueError(
                f"highlight has head {layer}.{head}, but values has {layers} layers and {heads} heads per layer "
                f"(counted from 0). Give pairs (layer, head)."
            )
        boxes.append((layer, head))
    return _picture(
        table,
        x=[str(head) for head in range(heads)],
        y=[str(layer) for layer in range(layers)],
        names=None,
        xlabel="head",
        ylabel="layer",
        title=title,
        caption=caption,
        unit=unit,
        center=center,
        hover=hover,
        boxes=boxes,
        cell_name=lambda row, column: f"{row}.{column}",
        hover_name="head %{y}.%{x}",
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
    down: bool = False,
) -> Picture:
    """One value per row and column; the first row is at the bottom, as layers are.

    values: [row, column]. x, y: names of columns and rows (tokens may repeat); their numbers by default.
    down: the first row is at the top, as queries are in an attention pattern.
    xlabel, ylabel: what columns and rows are. Other arguments as in `head_heatmap`.
    """
    table = array(values, "values", ["row", "column"], most=MAX_CELLS)
    rows, columns = table.shape
    across = [visible(label, width=24) for label in labels(range(columns) if x is None else x, "x", columns)]
    up = [visible(label, width=24) for label in labels(range(rows) if y is None else y, "y", rows)]
    plain = x is None and y is None
    return _picture(
        table,
        x=across,
        y=up,
        names=None if plain else (across, up),
        xlabel=words(xlabel, "xlabel"),
        ylabel=words(ylabel, "ylabel"),
        title=title,
        caption=caption,
        unit=unit,
        center=center,
        hover=hover,
        boxes=[],
        down=down,
        cell_name=lambda row, column: f"{ylabel} {up[row]}, {xlabel} {across[column]}",
        hover_name=f"{safe_label(ylabel)} %{{y}}, {safe_label(xlabel)} %{{x}}",
    )


def color_range(table: np.ndarray[Any, Any], center: float | None) -> tuple[float, float, list[str]]:
    """Lowest and highest value of the scale, and its colours: symmetric about `center` if there is one."""
    low, high = float(table.min()), float(table.max())
    if center is None:
        return (low, high, colors.SEQUENTIAL) if high > low else (low - 0.5, high + 0.5, colors.SEQUENTIAL)
    reach = max(abs(low - center), abs(high - center)) or 1.0
    return center - reach, center + reach, colors.DIVERGING


def extremes(table: np.ndarray[Any, Any], name: Any, count: int = 5) -> list[str]:
    """The highest and lowest cells, in words."""
    order = np.argsort(table, axis=None, kind="stable")

    def say(indices: np.ndarray[Any, Any]) -> str:
        cells = [np.unravel_index(int(i), table.shape) for i in indices]
        return "; ".join(f"{name(int(r), int(c))}: {short(table[r, c])}" for r, c in cells)

    if table.size <= count:
        return [f"values: {say(np.arange(table.size))}"]
    return [f"highest: {say(order[::-1][:count])}", f"lowest: {say(order[:2])}"]


def _picture(
    table: np.ndarray[Any, Any],
    *,
    x: list[str],
    y: list[str],
    names: tuple[list[str], list[str]] | None,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str,
    unit: str,
    center: float | None,
    hover: Sequence[Sequence[str]] | None,
    boxes: list[tuple[int, int]],
    cell_name: Any,
    hover_name: str,
    down: bool = False,
) -> Picture:
    title, caption, unit = words(title, "title"), words(caption, "caption"), words(unit, "unit")
    center = None if center is None else number(center, "center")
    rows, columns = table.shape
    low, high, stops = color_range(table, center)
    extra = None
    if hover is not None:
        flat = [labels(row, f"hover[{i}]", columns) for i, row in enumerate(hover)]
        if len(flat) != rows:
            raise ValueError(f"hover has {len(flat)} rows; expected {rows}, one for each row of values.")
        extra = [[safe_label(cell) for cell in row] for row in flat]

    way = "down" if down else "up"
    details = [f"{ylabel} 0 to {rows - 1} ({way}), {xlabel} 0 to {columns - 1} (across)"]
    if names:
        details = [f"{ylabel}: {rows}, from {y[0]} {way} to {y[-1]}", f"{xlabel}: {columns}, from {x[0]} to {x[-1]}"]
    details += [f"unit: {unit}"] if unit else []
    found = extremes(table, cell_name)
    if boxes:
        found.append("framed: " + "; ".join(f"{r}.{c}: {short(table[r, c])}" for r, c in boxes))
    alt = f"Heat map, {ylabel} by {xlabel}: {title}. {found[0][0].upper()}{found[0][1:]}."

    cell_w = min(46, max(5, 620 / columns, 22 if columns <= 60 else 0))
    cell_h = min(30, max(5, 540 / rows, 16 if rows <= 60 else 0))
    left = 34 + 7.2 * max(len(name) for name in y)
    bottom = 48 + (max(len(name) for name in x) * 6.2 if _steep(x, cell_w) else 8)
    size = (
        int(min(1000, max(360, cell_w * columns + left + 120))),
        int(min(900, max(200, cell_h * rows + bottom + 50))),
    )
    every_x, every_y = _every(columns, cell_w, 14), _every(rows, cell_h, 13)

    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": rounded(table, 3 if table.size > MAX_NAMED else 4),
        "zmin": round(low, 6),
        "zmax": round(high, 6),
        "colorscale": colors.plotly_scale(stops),
        "colorbar": {
            "title": {"text": safe_label(unit or "value"), "side": "right"},
            "thickness": 14,
            "outlinewidth": 0,
            "len": 1,
        },
        "xgap": 1 if columns <= 60 else 0,
        "ygap": 1 if rows <= 60 else 0,
    }
    measure = f"<b>%{{z:.3~g}}</b> {safe_label(unit)}"
    if names and table.size <= MAX_NAMED:
        trace["text"] = [[f"{safe_label(b)}, {safe_label(a)} ({j})" for j, a in enumerate(x)] for b in y]
        hover_name = f"{safe_label(ylabel)} %{{text}}"
    if extra:
        trace["customdata"] = extra
        measure += "<br>%{customdata}"
    trace["hovertemplate"] = f"{hover_name}<br>{measure}<extra></extra>"

    ticks_x, ticks_y = list(range(0, columns, every_x)), list(range(0, rows, every_y))
    layout = {
        "xaxis": axis(
            xlabel,
            tickvals=ticks_x,
            ticktext=[safe_label(x[i]) for i in ticks_x],
            tickangle=-60 if _steep(x, cell_w) else 0,
            showgrid=False,
            showline=False,
            ticks="",
        ),
        "yaxis": axis(
            ylabel,
            tickvals=ticks_y,
            ticktext=[safe_label(y[i]) for i in ticks_y],
            **({"autorange": "reversed"} if down else {}),
            showgrid=False,
            showline=False,
            ticks="",
        ),
        "margin": {"l": int(left + 12), "b": int(bottom)},
        "shapes": [
            {"type": "rect", "x0": c - 0.5, "x1": c + 0.5, "y0": r - 0.5, "y1": r + 0.5, "line": line}
            for line in FRAME
            for r, c in boxes
        ],
    }

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        scale = LinearSegmentedColormap.from_list("mi", stops)
        image = axes.imshow(
            table,
            cmap=scale,
            vmin=low,
            vmax=high,
            origin="upper" if down else "lower",
            aspect="auto",
            interpolation="nearest",
        )
        for r, c in boxes:
            for line in FRAME:
                look = {"edgecolor": line["color"], "linewidth": 0.75 * line["width"]}
                axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fill=False, zorder=3, **look))
        steep = _steep(x, cell_w)
        axes.set_xticks(
            ticks_x, [x[i] for i in ticks_x], rotation=60 if steep else 0, ha="right" if steep else "center", fontsize=9
        )
        if steep:
            for label in axes.get_xticklabels():
                label.set_rotation_mode("anchor")
        axes.set_yticks(ticks_y, [y[i] for i in ticks_y], fontsize=9)
        axes.tick_params(length=0)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        for side in axes.spines.values():
            side.set_visible(False)
        if columns <= 60 and rows <= 60:
            axes.set_xticks(np.arange(1, columns) - 0.5, minor=True)
            axes.set_yticks(np.arange(1, rows) - 0.5, minor=True)
            axes.grid(which="minor", color="white", linewidth=0.8)
            axes.tick_params(which="minor", length=0)
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.set_label(unit or "value")
        bar.outline.set_visible(False)

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=[*details, *found],
        size=size,
        draw=draw,
        data=[trace],
        layout=layout,
    )


def _steep(names: list[str], cell: float) -> bool:
    return max(len(name) for name in names) * 7 > cell


def _every(count: int, cell: float, least: float) -> int:
    """Label every how-many-th cell, so that labels stay `least` pixels apart."""
    step = max(1, int(np.ceil(least / cell)))
    return next((nice for nice in (1, 2, 5, 10, 20, 50, 100) if nice >= step), step) if count > 1 else 1
