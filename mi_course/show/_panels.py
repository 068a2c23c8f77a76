"""Small pictures side by side, on one scale: vectors in two or three dimensions, and heat maps."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._data import array, labels, number, rounded, short, words
from mi_course.show._heatmaps import MAX_CELLS, color_range
from mi_course.show._picture import Picture, axis, safe_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PANELS, MAX_VECTORS = 24, 40
MAX_WIDE = 720  # pixels that a notebook's column has for a picture
NUMBERED = 12  # vectors of a panel that carry their name; above, names would cover each other
NAMED_FROM = 0.25  # of the longest: shorter ones lie too close together

# Where the eye stands for three dimensions: a little to the right and above, so that no two axes fall together.
TURN, TILT = math.radians(28), math.radians(20)


@dataclass(frozen=True)
class _Grid:
    """Where panels stand: `across` in a row, `width` by `height` units each, the first at the top left."""

    count: int
    across: int
    width: float
    height: float

    def place(self, i: int) -> tuple[float, float]:
        """The middle of panel i."""
        return (i % self.across) * self.width, -(i // self.across) * self.height

    @property
    def span(self) -> tuple[tuple[float, float], tuple[float, float]]:
        rows = -(-self.count // self.across)
        return (-self.width / 2, (self.across - 0.5) * self.width), (-(rows - 0.5) * self.height, self.height / 2)


def vectors(
    panels: Mapping[str, Any],
    *,
    title: str,
    caption: str = "",
    notes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    edges: bool = True,
    across: int | None = None,
) -> Picture:
    """Vectors from the origin, one panel beside the other, all on the same scale.

    panels: name to [dimension, vector] with two or three dimensions; the columns are the vectors.
    notes: for each panel, a few words below it. names: of the vectors, their numbers by default.
    edges: join the tips of nearest neighbours, which shows the polygon or polyhedron that they form.
    across: panels in a row. A light circle has radius 1. Raises ValueError for other shapes or NaN.
    """
    if not isinstance(panels, Mapping) or not panels or len(panels) > MAX_PANELS:
        raise ValueError(f"panels is empty, no mapping, or more than {MAX_PANELS}; expected {{name: vectors}}.")
    tables = {words(name, "a name in panels"): _table(name, table) for name, table in panels.items()}
    title, caption = words(title, "title"), words(caption, "caption")
    below = labels(notes, "notes", len(tables)) if notes is not None else [""] * len(tables)
    most = max(table.shape[1] for table in tables.values())
    called = labels(range(most) if names is None else names, "names", None if names is None else most)
    longest = max(float(np.linalg.norm(table, axis=0).max()) for table in tables.values())
    scale = 1.0 / max(longest, 1e-9)

    details, said = [], []
    for (name, table), note in zip(tables.items(), below, strict=True):
        said.append(f"{name}: {_in_words(table)}")
        details.append(said[-1] + (f" ({note})" if note else ""))
    alt = f"Vectors from the origin: {title}. " + ". ".join(said[:8]) + "."

    across = min(len(tables), 4 if across is None else across)
    grid = _Grid(len(tables), across, 2.75, 3.1 + (0.3 if any(below) else 0.0))
    tips = [_flat(table * scale) for table in tables.values()]
    joined = [_neighbors(table) if edges else [] for table in tables.values()]
    middles = [grid.place(i) for i in range(len(tables))]

    (left, right), (bottom, top) = grid.span
    panel = min(178.0, MAX_WIDE / across)
    size = (int(max(360, panel * across + 20)), int(panel * (top - bottom) / grid.width + 50))
    heads = [(x, y + 1.42, name) for (x, y), name in zip(middles, tables, strict=True)]
    feet = [(x, y - 1.32, note) for (x, y), note in zip(middles, below, strict=True) if note]

    def color(k: int) -> str:
        return colors.SERIES[k % len(colors.SERIES)]

    data: list[dict[str, Any]] = [
        _strokes([_circle(x, y, scale) for x, y in middles], colors.GRID, 1.2),
        _strokes(
            [
                [(x + at[i, 0], y + at[i, 1]), (x + at[j, 0], y + at[j, 1])]
                for (x, y), at, pairs in zip(middles, tips, joined, strict=True)
                for i, j in pairs
            ],
            colors.CONTROL,
            1,
            "dot",
        ),
    ]
    for k in range(most):
        x, y, hover = [], [], []
        for (name, table), at, (x0, y0) in zip(tables.items(), tips, middles, strict=True):
            if k >= table.shape[1]:
                continue
            x += [x0, round(float(x0 + at[k, 0]), 3), None]
            y += [y0, round(float(y0 + at[k, 1]), 3), None]
            length = short(float(np.linalg.norm(table[:, k])))
            hover += ["", f"{safe_label(name)}<br>{safe_label(called[k])}: length {length}", ""]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": x,
                "y": y,
                "hovertext": hover,
                "hoverinfo": "text",
                "line": {"color": color(k), "width": 2},
                "marker": {"color": color(k), "size": [7 if words_of_tip else 0 for words_of_tip in hover]},
            }
        )
    # Names are annotations: as text of the trace, plotly 7.1 left out those of some panels.
    tags = [
        {
            "x": round(float(x + at[k, 0]), 3),
            "y": round(float(y + at[k, 1]), 3),
            "xshift": round(9 * float(out[0]), 1),
            "yshift": round(9 * float(out[1]), 1),
            "text": safe_label(called[k]),
            "showarrow": False,
            "font": {"size": 10, "color": colors.SOFT},
        }
        for (x, y), at, table in zip(middles, tips, tables.values(), strict=True)
        for k in range(table.shape[1])
        if _is_named(table, k)
        for out in [_outward(at[k])]
    ]
    layout = {
        "xaxis": axis("", visible=False, range=[left, right], fixedrange=True),
        "yaxis": axis("", visible=False, range=[bottom, top], scaleanchor="x", fixedrange=True),
        "showlegend": False,
        "margin": {"l": 6, "r": 6, "b": 8},
        "annotations": [*_notes(heads, colors.INK, 12), *_notes(feet, colors.SOFT, 11), *tags],
    }

    def draw(axes: Axes) -> None:
        for (x, y), at, table, pairs in zip(middles, tips, tables.values(), joined, strict=True):
            axes.plot(*zip(*_circle(x, y, scale), strict=True), color=colors.GRID, linewidth=1)
            for i, j in pairs:
                (ax, ay), (bx, by) = at[i], at[j]
                axes.plot([x + ax, x + bx], [y + ay, y + by], ":", color=colors.CONTROL, linewidth=0.9)
            for k in range(table.shape[1]):
                axes.plot([x, x + at[k, 0]], [y, y + at[k, 1]], color=color(k), linewidth=1.8, solid_capstyle="round")
                axes.plot(x + at[k, 0], y + at[k, 1], "o", color=color(k), markersize=5)
                if _is_named(table, k):
                    out = _outward(at[k])
                    axes.annotate(
                        called[k],
                        (x + at[k, 0], y + at[k, 1]),
                        (7 * out[0], 7 * out[1]),
                        textcoords="offset points",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=colors.SOFT,
                    )
        _write(axes, heads, colors.INK, 9.5)
        _write(axes, feet, colors.SOFT, 9)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_aspect("equal")

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=details,
        size=size,
        draw=draw,
        data=data,
        layout=layout,
        axes_off=True,
    )


def _table(name: str, values: Any) -> np.ndarray[Any, Any]:
    table = array(values, f"panels[{name!r}]", ["dimension", "vector"])
    if table.shape[0] not in (2, 3) or table.shape[1] > MAX_VECTORS:
        raise ValueError(
            f"panels[{name!r}] has shape {table.shape}; expected two or three dimensions (rows) and at most "
            f"{MAX_VECTORS} vectors (columns)."
        )
    return table


def _is_named(table: np.ndarray[Any, Any], k: int) -> bool:
    lengths = np.linalg.norm(table, axis=0)
    return table.shape[1] <= NUMBERED and bool(lengths[k] > NAMED_FROM * lengths.max())


def _outward(tip: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The way from the origin to a tip, of length 1; shorter for tips close to it, which have no clear one."""
    return tip / max(float(np.linalg.norm(tip)), 0.25)


def _flat(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The tips on paper, [vector, 2]; three dimensions as seen from afar."""
    if len(table) == 2:
        return table.T
    x, y, z = table
    across = x * math.cos(TURN) - y * math.sin(TURN)
    away = x * math.sin(TURN) + y * math.cos(TURN)
    return np.stack([across, z * math.cos(TILT) + away * math.sin(TILT)], axis=1)


def _neighbors(table: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Pairs of long vectors at the smallest angle, within a few degrees."""
    lengths = np.linalg.norm(table, axis=0)
    long = [i for i in range(table.shape[1]) if lengths[i] > 0.5 * lengths.max()]
    if len(long) < 3:
        return []
    unit = table / np.where(lengths > 0, lengths, 1.0)
    pairs = [(i, j) for n, i in enumerate(long) for j in long[n + 1 :]]
    angles = {pair: float(np.degrees(np.arccos(np.clip(unit[:, pair[0]] @ unit[:, pair[1]], -1, 1)))) for pair in pairs}
    least = min(angles.values())
    return [pair for pair, angle in angles.items() if angle < least + 9]


def _in_words(table: np.ndarray[Any, Any]) -> str:
    lengths = np.linalg.norm(table, axis=0)
    text = f"{table.shape[1]} vectors of length {short(float(lengths.min()))} to {short(float(lengths.max()))}"
    long = lengths > 0.5 * lengths.max()
    if long.sum() < 2:
        return f"{text}, one of them long"
    unit = table[:, long] / lengths[long]
    cosines = np.clip((unit.T @ unit)[np.triu_indices(int(long.sum()), 1)], -1, 1)
    angles = np.degrees(np.arccos(cosines))
    return f"{text}; between the {int(long.sum())} long ones angles of {angles.min():.0f}° to {angles.max():.0f}°"


def _circle(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * math.pi, 49)
    return [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]


def _strokes(paths: Sequence[Sequence[tuple[float, float]]], color: str, width: float, dash: str = "solid") -> Any:
    x = [v for path in paths for v in (*(round(float(p[0]), 3) for p in path), None)]
    y = [v for path in paths for v in (*(round(float(p[1]), 3) for p in path), None)]
    line = {"color": color, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}


def _notes(places: Sequence[tuple[float, float, str]], color: str, size: int) -> list[dict[str, Any]]:
    look = {"showarrow": False, "font": {"size": size, "color": color}, "xanchor": "center", "yanchor": "middle"}
    return [{"x": x, "y": y, "text": safe_label(text), **look} for x, y, text in places]


def _write(axes: Axes, places: Sequence[tuple[float, float, str]], color: str, size: float) -> None:
    for x, y, text in places:
        axes.text(x, y, text, ha="center", va="center", fontsize=size, color=color)


# ---------------------------------------------------------------------------------------------------------------------
# Heat maps side by side


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
) -> Picture:
    """Tables of one shape beside each other, on one scale of colours. The first row is at the top.

    panels: name to [row, column]. unit: what a value is; labels the colour bar. center: as in `heatmap`.
    """
    if not isinstance(panels, Mapping) or not panels or len(panels) > MAX_PANELS:
        raise ValueError(f"panels is empty, no mapping, or more than {MAX_PANELS}; expected {{name: table}}.")
    tables = {
        words(name, "a name in panels"): array(table, f"panels[{name!r}]", ["row", "column"], most=MAX_CELLS)
        for name, table in panels.items()
    }
    shape = next(iter(tables.values())).shape
    for name, table in tables.items():
        if table.shape != shape:
            raise ValueError(f"panels[{name!r}] has shape {table.shape}, the first one {shape}; expected all alike.")
    title, caption, unit = words(title, "title"), words(caption, "caption"), words(unit, "unit")
    xlabel, ylabel = words(xlabel, "xlabel"), words(ylabel, "ylabel")
    center = None if center is None else number(center, "center")
    low, high, stops = color_range(np.concatenate([table.ravel() for table in tables.values()])[None], center)
    rows, columns = shape
    across = min(len(tables), 4 if across is None else across)
    width, height = 1.0, rows / columns
    grid = _Grid(len(tables), across, width * 1.12, height + 0.24)

    def extent(i: int) -> tuple[float, float, float, float]:
        x, y = grid.place(i)
        return x - width / 2, x + width / 2, y - height / 2 - 0.06, y + height / 2 - 0.06

    details = [f"{len(tables)} tables of {rows} {ylabel} by {columns} {xlabel}"] + ([f"unit: {unit}"] if unit else [])
    details += [f"{name}: from {short(float(t.min()))} to {short(float(t.max()))}" for name, t in tables.items()]
    alt = f"Heat maps side by side, {ylabel} by {xlabel}: {title}. " + "; ".join(details[-len(tables) :]) + "."
    (left, right), (bottom, top) = grid.span
    cell = min(270.0, (MAX_WIDE - 100) / (1.12 * across))
    wide = int(cell * across * 1.12)
    said = textwrap.wrap(f"down: {ylabel}; across: {xlabel}", int(wide / 5.6))
    size = (wide + 110, int(cell * (top - bottom) + 60 + 14 * len(said)))
    heads = [(grid.place(i)[0], extent(i)[3] + 0.07, name) for i, name in enumerate(tables)]

    data = []
    for i, (name, table) in enumerate(tables.items()):
        x0, x1, y0, y1 = extent(i)
        step_x, step_y = (x1 - x0) / columns, (y1 - y0) / rows
        trace = {
            "type": "heatmap",
            "x": [round(x0 + (j + 0.5) * step_x, 4) for j in range(columns)],
            "y": [round(y1 - (j + 0.5) * step_y, 4) for j in range(rows)],
            "z": rounded(table, 3),
            "zmin": round(low, 6),
            "zmax": round(high, 6),
            "colorscale": colors.plotly_scale(stops),
            "showscale": i == 0,
            "colorbar": {
                "title": {"text": safe_label(unit or "value"), "side": "right"},
                "thickness": 14,
                "outlinewidth": 0,
            },
            "name": safe_label(name),
            "hovertemplate": f"{safe_label(name)}<br><b>%{{z:.3~g}}</b> {safe_label(unit)}<extra></extra>",
        }
        if rows * columns * len(tables) <= 1500:
            trace["customdata"] = [[f"{r}, {c}" for c in range(columns)] for r in range(rows)]
            trace["hovertemplate"] = (
                f"{safe_label(name)}<br>{safe_label(ylabel)}, {safe_label(xlabel)} %{{customdata}}<br>"
                f"<b>%{{z:.3~g}}</b> {safe_label(unit)}<extra></extra>"
            )
        data.append(trace)
    layout = {
        "xaxis": axis("", visible=False, range=[left, right]),
        "yaxis": axis("", visible=False, range=[bottom, top], scaleanchor="x"),
        "margin": {"l": 6, "r": 90, "b": 12 + 14 * len(said)},
        "annotations": [
            *_notes(heads, colors.INK, 12),
            {
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": 0,
                "yshift": -6,
                "text": "<br>".join(map(safe_label, said)),
                "showarrow": False,
                "align": "left",
                "xanchor": "left",
                "yanchor": "top",
                "font": {"size": 11, "color": colors.SOFT},
            },
        ],
    }

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        scale = LinearSegmentedColormap.from_list("mi", stops)
        for i, table in enumerate(tables.values()):
            image = axes.imshow(
                table, cmap=scale, vmin=low, vmax=high, extent=extent(i), origin="upper", interpolation="nearest"
            )
        _write(axes, heads, colors.INK, 9.5)
        lowest = bottom - 22 * len(said) / cell
        below = axes.text(left, bottom, "\n".join(said), ha="left", va="top", fontsize=9, color=colors.SOFT)
        below.set_in_layout(False)
        axes.set_xlim(left, right)
        axes.set_ylim(lowest, top)
        axes.set_aspect("equal")
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.01)
        bar.set_label(unit or "value")
        bar.outline.set_visible(False)

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=details,
        size=size,
        draw=draw,
        data=data,
        layout=layout,
        axes_off=True,
    )
