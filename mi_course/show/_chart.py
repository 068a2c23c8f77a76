"""What a chart shows, without how it is drawn: `_plotly` draws it for readers with a mouse, `_static` as a PNG.

Places are in the units of the axes, sizes in pixels, and colors are `#rrggbb` or `#rrggbbaa`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mi_course.show import _colors as colors

DASHES = ["solid", "dash", "dashdot", "dot"]
SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "x"]
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """ticks: place to label; by default the renderer chooses numbers. angle: of the labels, in degrees, rising."""

    label: str = ""
    ticks: Mapping[float, str] | Mapping[int, str] | None = None
    angle: int = 0
    range: tuple[float, float] | None = None
    log: bool = False
    line: bool = True
    grid: bool = True
    visible: bool = True


HIDDEN = Axis(visible=False)


@dataclass(frozen=True)
class Series:
    """Points [n], joined by a line unless `dash` is "", marked unless `symbol` is "". NaN in y parts a line in two.

    low, high: edges of a band. fill: opacity of the area down to zero. steps: each value holds around its x.
    words: for each point, the first line of its hover text. hover: whether there is one.
    """

    x: Numbers
    y: Numbers
    color: str
    name: str = ""
    dash: str = "solid"
    width: float = 2
    symbol: str = ""
    size: float = 5
    opacity: float = 1.0
    low: Numbers | None = None
    high: Numbers | None = None
    fill: float = 0.0
    steps: bool = False
    words: Sequence[str] | None = None
    hover: bool = True


@dataclass(frozen=True)
class Bars:
    """Bars [n] of `width` around x, with half-lengths of error bars [n], and the name of each for its hover text."""

    x: Numbers
    heights: Numbers
    width: float
    color: str
    name: str
    words: Sequence[str]
    errors: Numbers | None = None


@dataclass(frozen=True)
class Cells:
    """A table [row, column] in the rectangle x0 … x1, y0 … y1: the first row lies at y0.

    hover: the line above the value, where {x}, {y} and {words} stand for the cell's column, row and `words`.
    """

    table: Numbers
    x0: float
    x1: float
    y0: float
    y1: float
    hover: str
    words: Sequence[Sequence[str]] | None = None
    gap: bool = False

    def centers(self) -> tuple[Numbers, Numbers]:
        """The middles of the columns and of the rows."""
        rows, columns = self.table.shape
        return (
            self.x0 + (np.arange(columns) + 0.5) * (self.x1 - self.x0) / columns,
            self.y0 + (np.arange(rows) + 0.5) * (self.y1 - self.y0) / rows,
        )


@dataclass(frozen=True)
class Frame:
    """A rectangle around what matters."""

    x0: float
    x1: float
    y0: float
    y1: float


@dataclass(frozen=True)
class Rule:
    """A dashed line up the whole plot, at one x, with a label."""

    label: str
    x: float
    lane: int = 0  # labels of neighboring lines stand at different heights


@dataclass(frozen=True)
class Text:
    """Words at a place, shifted by pixels. align: center, left (the text begins there) or right."""

    x: float
    y: float
    text: str
    size: int = 11
    soft: bool = True
    align: str = "center"
    shift: tuple[float, float] = (0, 0)


@dataclass(frozen=True)
class Arrow:
    start: tuple[float, float]
    end: tuple[float, float]
    color: str
    width: float
    dash: str = "solid"


@dataclass(frozen=True)
class Scale:
    """The colors of all cells: `stops` are (share of low … high, color)."""

    low: float
    high: float
    stops: Sequence[tuple[float, str]]
    label: str


Mark = Series | Bars | Cells | Frame | Rule | Text | Arrow


@dataclass(frozen=True)
class Chart:
    """One picture. size: width and height in pixels, without the room for caption and legend.

    below: words at the left, under the plot. equal: one unit is as long on both axes.
    """

    size: tuple[int, int]
    marks: Sequence[Mark]
    x: Axis = HIDDEN
    y: Axis = HIDDEN
    scale: Scale | None = None
    equal: bool = False
    below: str = ""
    always_legend: bool = False

    @property
    def legend(self) -> list[str]:
        """Names in the legend, which stands below the plot if there are several."""
        names = [mark.name for mark in self.marks if isinstance(mark, (Series, Bars)) and mark.name]
        return names if len(names) > 1 or self.always_legend else []


def styles(names: Sequence[str]) -> list[tuple[str, str]]:
    """Color and dash for each name; controls are gray and dotted."""
    out, i = [], 0
    for name in names:
        if name.lower().startswith("control"):
            out.append((colors.CONTROL, "dot"))
        else:
            out.append((colors.SERIES[i % len(colors.SERIES)], DASHES[i % len(DASHES)]))
            i += 1
    return out


def rules(marks: Sequence[tuple[float, str]]) -> list[Rule]:
    """Vertical lines at (x, label) pairs."""
    return [Rule(label, x=x, lane=i % 3) for i, (x, label) in enumerate(marks)]
