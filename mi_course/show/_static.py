"""Charts as a PNG, drawn by matplotlib: the same bytes for the same chart and the same matplotlib.

The ground is transparent and every color reads on light and dark pages; see `_colors`.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from functools import singledispatch
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import Arrow, Axis, Bars, Cells, Chart, Frame, Numbers, Rule, Scale, Series, Text
from mi_course.show._plotly import FRAME, legend_room

PALETTE = 80
DPI = 130  # shown at 100 pixels an inch, so that it is sharp on dense screens
POINT = 0.72  # points in a pixel of 1/100 inch
STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # a token may well be "$x$"
    "text.usetex": False,
    "axes.edgecolor": colors.LINE,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.sketch": None,
    **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], colors.INK),
}
DASH = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}
SYMBOL = {"circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "cross": "P", "x": "X"}


def png(chart: Chart, title: str) -> bytes:
    """A small PNG without time or version in it."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn; the hover has the sign
        canvas = FigureCanvasAgg(draw(chart, title))
        canvas.draw()
        return _compressed(np.asarray(canvas.buffer_rgba()))


def _compressed(pixels: Numbers) -> bytes:
    """A PNG of at most PALETTE colors, three times smaller than one of all; Pillow's own choice has few opacities.

    Each color added is the one farthest from those chosen, with a bonus for common ones.
    """
    from PIL import Image

    coarse = (np.round(pixels / 255 * 51) * 5).astype(np.uint8)
    coarse[coarse[..., 3] == 0] = 0
    codes, index, counts = np.unique(coarse.view(np.uint32), return_inverse=True, return_counts=True)
    found = codes.view(np.uint8).reshape(-1, 4)
    opacity = found[:, 3:] / 255.0
    seen = np.concatenate([found[:, :3] * opacity, 255 * opacity], axis=1)
    distance, nearest, chosen = np.full(len(found), np.inf), np.zeros(len(found), np.uint8), [int(counts.argmax())]
    while True:
        to_last = ((seen - seen[chosen[-1]]) ** 2).sum(axis=1)
        nearest[to_last < distance] = len(chosen) - 1
        distance = np.minimum(distance, to_last)
        if len(chosen) == PALETTE or distance.max() == 0:
            break
        chosen.append(int((distance * np.sqrt(counts)).argmax()))
    height, width, _ = pixels.shape
    image = Image.frombytes("P", (width, height), nearest[index].tobytes())
    image.putpalette(found[chosen].tobytes(), "RGBA")
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def draw(chart: Chart, title: str) -> Any:
    """A matplotlib figure of the chart."""
    from matplotlib.figure import Figure

    width, height = chart.size
    height += legend_room(chart.legend, width - 90)
    figure = Figure(figsize=(width / 100, height / 100), dpi=DPI, facecolor="none", layout="constrained")
    axes = figure.add_subplot()
    for mark in chart.marks:
        _draw(mark, axes, chart)
    _set_axis(axes, "x", chart.x)
    _set_axis(axes, "y", chart.y)
    if chart.equal:
        axes.set_aspect("equal")
    if chart.below:
        axes.annotate(chart.below, (0, 0), (0, -6), "axes fraction", textcoords="offset points", va="top", fontsize=8.5)
    if chart.scale is not None:
        bar = figure.colorbar(axes.images[0], ax=axes, fraction=0.05, pad=0.02, aspect=max(20, height / 16))
        bar.set_label(chart.scale.label)
        bar.outline.set_visible(False)
    if chart.legend:
        longest = max(map(len, chart.legend))
        columns = max(1, min(len(chart.legend), width // (7 * longest + 60)))
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
    _put_title(figure, title)
    return figure


def _put_title(figure: Any, title: str) -> None:
    """The title at the left edge, in as many lines as the figure's width asks for."""
    heading = figure.suptitle(title, fontsize=11.5, fontweight="bold", x=0.01, ha="left")
    for per_line in range(len(title), 15, -1):
        heading.set_text(textwrap.fill(title, per_line))
        if heading.get_window_extent().width <= 0.97 * figure.bbox.width:
            break


def _set_axis(axes: Any, which: str, axis: Axis) -> None:
    target = getattr(axes, f"{which}axis")
    if axis.log:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes.set(**{f"{which}scale": "log"})
        target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # not matplotlib's formulas
        target.set_minor_formatter(NullFormatter())
    if axis.range is not None:
        axes.set(**{f"{which}lim": axis.range})
    if axis.ticks is not None:
        target.set_ticks(list(axis.ticks), list(axis.ticks.values()), fontsize=8.5)
    if axis.angle:
        for label in target.get_ticklabels():
            label.set(
                rotation=axis.angle, ha="right", va="center" if axis.angle == 90 else "top", rotation_mode="anchor"
            )
    if axis.grid and axis.visible:
        axes.grid(axis=which, color=colors.GRID, linewidth=0.8)
    if not axis.line or not axis.visible:
        axes.spines[["left" if which == "y" else "bottom"]].set_visible(False)
        target.set_tick_params(length=0)
    target.set_visible(axis.visible)
    axes.set(**{f"{which}label": axis.label})


@singledispatch
def _draw(mark: Any, axes: Any, chart: Chart) -> None:
    raise TypeError(f"{type(mark).__name__} cannot be drawn.")


@_draw.register
def _(mark: Series, axes: Any, chart: Chart) -> None:
    look: dict[str, Any] = {"color": mark.color, "label": mark.name or None}
    look |= {"alpha": mark.opacity} if mark.opacity < 1 else {}
    look |= {"linestyle": DASH.get(mark.dash, "none"), "linewidth": 0.9 * mark.width}
    look |= {"marker": SYMBOL.get(mark.symbol), "markersize": 0.8 * mark.size, "markeredgewidth": 0}
    if mark.low is not None and mark.high is not None:
        axes.fill_between(mark.x, mark.low, mark.high, color=mark.color, alpha=0.2, linewidth=0)
    if mark.fill:
        floor = np.nanmin(mark.y) if chart.y.log else 0
        step = "mid" if mark.steps else None
        axes.fill_between(mark.x, mark.y, floor, color=mark.color, alpha=mark.fill, linewidth=0, step=step)
    axes.plot(mark.x, mark.y, drawstyle="steps-mid" if mark.steps else "default", solid_capstyle="round", **look)


@_draw.register
def _(mark: Bars, axes: Any, chart: Chart) -> None:
    error = {"ecolor": colors.INK, "capsize": 3}
    axes.bar(mark.x, mark.heights, mark.width, yerr=mark.errors, color=mark.color, label=mark.name, **error)
    axes.axhline(0, color=colors.LINE, linewidth=0.8)


@_draw.register
def _(mark: Cells, axes: Any, chart: Chart) -> None:
    assert chart.scale is not None
    table = mark.table
    if mark.gap:  # cells stand apart: in a table of smaller ones, the first row and column of each are left out
        table = np.kron(table, np.ones((16, 16)))
        table[::16] = table[:, ::16] = np.nan
    axes.imshow(
        table,
        cmap=_colormap(chart.scale),
        vmin=chart.scale.low,
        vmax=chart.scale.high,
        extent=(mark.x0, mark.x1, mark.y0, mark.y1),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )


def _colormap(scale: Scale) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("mi", list(scale.stops))


@_draw.register
def _(mark: Frame, axes: Any, chart: Chart) -> None:
    from matplotlib.patches import Rectangle

    corner, width, height = (mark.x0, mark.y0), mark.x1 - mark.x0, mark.y1 - mark.y0
    for color, pixels in FRAME:
        line = POINT * pixels
        axes.add_patch(Rectangle(corner, width, height, fill=False, zorder=3, edgecolor=color, linewidth=line))


@_draw.register
def _(mark: Rule, axes: Any, chart: Chart) -> None:
    look = {"color": colors.LINE, "linewidth": 1.1, "linestyle": "--"}
    words = {"textcoords": "offset points", "fontsize": 8.5}
    axes.axvline(mark.x, **look)
    at = (mark.x, 1 - 0.075 * mark.lane)
    axes.annotate(mark.label, at, (4, -3), ("data", "axes fraction"), va="top", **words)


@_draw.register
def _(mark: Text, axes: Any, chart: Chart) -> None:
    shift = [POINT * pixels for pixels in mark.shift]
    look = {"ha": mark.align, "va": "center", "fontsize": 0.8 * mark.size, "textcoords": "offset points"}
    axes.annotate(mark.text, (mark.x, mark.y), shift, annotation_clip=False, **look)


@_draw.register
def _(mark: Arrow, axes: Any, chart: Chart) -> None:
    look = {"arrowstyle": "-|>", "color": mark.color, "linewidth": mark.width, "linestyle": DASH[mark.dash]}
    look |= {"shrinkA": 9, "shrinkB": 9, "mutation_scale": 12, "alpha": 0.8}
    axes.annotate("", mark.end, mark.start, arrowprops=look)
