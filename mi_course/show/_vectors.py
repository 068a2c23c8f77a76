"""Vectors in two or three dimensions, in panels side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import Chart, Mark, Numbers, Series, Text
from mi_course.show._data import array, check_text, labels, short
from mi_course.show._heatmaps import MAX_PANELS, PAGE_WIDTH, Grid
from mi_course.show._picture import Picture

MAX_VECTORS = 40
MAX_NAMED = 12  # vectors of a panel that carry their name; with more, names would cover each other
NAMED_FROM = 0.25  # of the longest: shorter ones lie too close together
GAP = [[math.nan, math.nan]]  # parts two lines of one series

# The point of view for three dimensions: a little to the right and above, so that no two axes fall together.
TURN, TILT = math.radians(28), math.radians(20)


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
    edges: join the tips of nearest neighbors, which shows the polygon or polyhedron that they form.
    across: panels in a row. A light circle has radius 1. Raises ValueError for other shapes or NaN.
    """
    if not isinstance(panels, Mapping) or not panels or len(panels) > MAX_PANELS:
        raise ValueError(f"panels is empty, no mapping, or more than {MAX_PANELS}; expected {{name: vectors}}.")
    tables = {check_text(name, "a name in panels"): _table(name, table) for name, table in panels.items()}
    below = labels(notes, "notes", len(tables)) if notes is not None else [""] * len(tables)
    most = max(table.shape[1] for table in tables.values())
    called = labels(range(most) if names is None else names, "names", None if names is None else most)
    described = [f"{name}: {_describe(table)}" for name, table in tables.items()]
    details = [line + (f" ({note})" if note else "") for line, note in zip(described, below, strict=True)]
    alt = f"Vectors from the origin: {title}. " + ". ".join(described[:8]) + "."

    scale = 1.0 / max(max(float(np.linalg.norm(table, axis=0).max()) for table in tables.values()), 1e-9)
    across = min(len(tables), across or 4)
    grid = Grid(len(tables), across, 2.75, 3.1 + (0.3 if any(below) else 0.0))
    turns = np.linspace(0, 2 * math.pi, 49)
    circle = scale * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    circles, polygons, texts = [], [], []
    lines: list[list[Any]] = [[] for _ in range(most)]
    tips: list[list[Any]] = [[] for _ in range(most)]
    words: list[list[str]] = [[] for _ in range(most)]
    for middle, (name, table), note in zip(grid.centers(), tables.items(), below, strict=True):
        origin, at = np.array(middle), _project(table * scale)
        circles += [*(origin + circle), *GAP]
        for i, j in _neighbors(table) if edges else []:
            polygons += [origin + at[i], origin + at[j], *GAP]
        x, y = middle
        texts += [Text(x, y + 1.42, name, size=12, soft=False)]
        texts += [Text(x, y - 1.32, note)] if note else []
        for k, tip in enumerate(at):
            lines[k] += [origin, origin + tip, *GAP]
            tips[k] += [origin + tip]
            words[k] += [f"{name}\n{called[k]}: length {short(float(np.linalg.norm(table[:, k])))}"]
            if _is_named(table, k):
                outward = tip / max(float(np.linalg.norm(tip)), 0.25)
                texts.append(Text(x + tip[0], y + tip[1], called[k], size=10, shift=(9 * outward[0], 9 * outward[1])))

    marks: list[Mark] = [_joined(circles, colors.GRID, 1.2), _joined(polygons, colors.CONTROL, 1, "dot")]
    for k in range(most):
        color = colors.SERIES[k % len(colors.SERIES)]
        marks.append(_joined(lines[k], color, 2))
        xs, ys = np.array(tips[k]).T
        marks.append(Series(xs, ys, color, dash="", symbol="circle", size=7, words=words[k]))
    panel = min(178.0, PAGE_WIDTH / across)
    size = int(max(360, panel * across + 20)), int(panel * (grid.y[1] - grid.y[0]) / grid.width + 50)
    # Names are texts of their own: as text of the points, plotly 7.1 left out those of some panels.
    chart = Chart(size, [*marks, *texts], *grid.axes(), equal=True)
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def _table(name: str, values: Any) -> Numbers:
    table = array(values, f"panels[{name!r}]", ["dimension", "vector"])
    if table.shape[0] not in (2, 3) or table.shape[1] > MAX_VECTORS:
        raise ValueError(
            f"panels[{name!r}] has shape {table.shape}; expected two or three dimensions (rows) and at most "
            f"{MAX_VECTORS} vectors (columns)."
        )
    return table


def _joined(points: list[Any], color: str, width: float, dash: str = "solid") -> Series:
    x, y = np.array(points).reshape(-1, 2).T
    return Series(x, y, color, dash=dash, width=width, hover=False)


def _is_named(table: Numbers, k: int) -> bool:
    lengths = np.linalg.norm(table, axis=0)
    return table.shape[1] <= MAX_NAMED and bool(lengths[k] > NAMED_FROM * lengths.max())


def _project(table: Numbers) -> Numbers:
    """The tips on paper, [vector, 2]; three dimensions without perspective."""
    if len(table) == 2:
        return table.T
    x, y, z = table
    across = x * math.cos(TURN) - y * math.sin(TURN)
    away = x * math.sin(TURN) + y * math.cos(TURN)
    return np.stack([across, z * math.cos(TILT) + away * math.sin(TILT)], axis=1)


def _neighbors(table: Numbers) -> list[tuple[int, int]]:
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


def _describe(table: Numbers) -> str:
    lengths = np.linalg.norm(table, axis=0)
    text = f"{table.shape[1]} vectors of length {short(float(lengths.min()))} to {short(float(lengths.max()))}"
    long = lengths > 0.5 * lengths.max()
    if long.sum() < 2:
        return f"{text}, one of them long"
    unit = table[:, long] / lengths[long]
    cosines = np.clip((unit.T @ unit)[np.triu_indices(int(long.sum()), 1)], -1, 1)
    angles = np.degrees(np.arccos(cosines))
    return f"{text}; between the {int(long.sum())} long ones angles of {angles.min():.0f}° to {angles.max():.0f}°"
