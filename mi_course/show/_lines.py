"""Lines over a shared x, with bands for several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._data import array, number, rounded, short, words
from mi_course.show._data import place as axis_place
from mi_course.show._picture import Picture, axis, safe_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 20_000
MAX_DRAWN = 600  # points of a line that reach the notebook; a longer one is thinned, keeping its extremes
DASHES = ["-", "--", "-.", ":"]
PLOTLY_DASHES = ["solid", "dash", "dashdot", "dot"]


def lines(
    x: Any,
    series: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    marks: Sequence[tuple[float, str]] = (),
    log_x: bool = False,
    log_y: bool = False,
) -> Picture:
    """Lines, told apart by colour and by dash.

    x: [n]. series: name to [n]; to [runs, n], drawn as the median and the band from lowest to highest; or to a tuple
    (middle, low, high) of three [n]. A name that starts with "control" is drawn in grey.
    marks: (x, label) pairs, drawn as vertical lines.
    Raises ValueError for lengths that differ, NaN, an empty series, or log axes with values that are not positive.
    """
    xs = array(x, "x", ["point"], most=MAX_POINTS)
    if not isinstance(series, Mapping) or not series:
        raise ValueError("series is empty or no mapping; expected {name: values}.")
    bands = {words(name, "a name in series"): _band(name, values, xs) for name, values in series.items()}
    at = [(number(place, "marks"), words(label, "a label in marks")) for place, label in marks]
    smallest = min([float(xs.min()), *(place for place, _ in at)])
    if log_x and smallest <= 0:
        raise ValueError(f"log_x needs positive x; the smallest is {smallest:g}.")
    if log_y and min(low.min() for _, low, _ in bands.values()) <= 0:
        raise ValueError("log_y needs positive values; leave out zeros, or plot on a linear axis.")
    title, caption = words(title, "title"), words(caption, "caption")
    xlabel, ylabel = words(xlabel, "xlabel"), words(ylabel, "ylabel")

    looks = dict(zip(bands, styles(list(bands)), strict=True))
    details = [f"{xlabel} from {axis_place(xs.min())} to {axis_place(xs.max())}; {ylabel}"]
    for name, (middle, low, high) in bands.items():
        top, bottom = int(middle.argmax()), int(middle.argmin())
        line = (
            f"{name}: {short(middle[0])} at the start, {short(middle[-1])} at the end; highest {short(middle[top])} "
            f"at {axis_place(xs[top])}, lowest {short(middle[bottom])} at {axis_place(xs[bottom])}"
        )
        wide = float((high - low).max())
        details.append(line + (f"; band up to {short(wide)} wide" if wide > 0 else ""))
    details += [f"marked: {label} at {axis_place(place)}" for place, label in at]
    alt = f"Line plot of {ylabel} over {xlabel}: {title}. " + ". ".join(details[1 : 1 + len(bands)]) + "."

    data: list[dict[str, Any]] = []
    for name, (middle, low, high) in bands.items():
        color, dash, _ = looks[name]
        keep = thinned(middle, low, high)
        px = rounded(xs[keep], 6)
        if (high > low).any():
            edge = {"type": "scatter", "x": px, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
            edge |= {"showlegend": False, "legendgroup": name}
            data.append({**edge, "y": rounded(low[keep])})
            data.append({**edge, "y": rounded(high[keep]), "fill": "tonexty", "fillcolor": see_through(color)})
        data.append(
            {
                "type": "scatter",
                "x": px,
                "y": rounded(middle[keep]),
                "name": safe_label(name),
                "legendgroup": name,
                "mode": "lines+markers" if len(xs) <= 40 else "lines",
                "marker": {"size": 5},
                "line": {"color": color, "width": 2, "dash": dash},
                "hovertemplate": f"{safe_label(name)}<br>{safe_label(xlabel)} %{{x}}: <b>%{{y:.3~g}}</b>"
                "<extra></extra>",
            }
        )
    layout = {
        "xaxis": axis(xlabel, **({"type": "log"} if log_x else {})),
        "yaxis": axis(ylabel, **({"type": "log"} if log_y else {})),
        "showlegend": len(bands) > 1,
        "legend": legend(),
        "margin": {"b": 58 + legend_room(list(bands)), "l": 70},
        **plotly_marks(at, log_x),
    }

    def draw(axes: Axes) -> None:
        for name, (middle, low, high) in bands.items():
            color, _, dash = looks[name]
            if (high > low).any():
                axes.fill_between(xs, low, high, color=color, alpha=0.2, linewidth=0)
            dots = {"marker": "o", "markersize": 3} if len(xs) <= 40 else {}
            axes.plot(xs, middle, color=color, linestyle=dash, linewidth=1.8, label=name, **dots)
        if log_x:
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
        if log_y:
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
        draw_marks(axes, at)
        finish(axes, xlabel, ylabel, legend=len(bands) > 1)

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=details,
        size=(680, 360 + legend_room(list(bands))),
        draw=draw,
        data=data,
        layout=layout,
    )


def plain_ticks(axis: Any) -> None:
    """Numbers as they are on a logarithmic axis: matplotlib's own labels are formulas, which we do not let it read."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _band(name: str, values: Any, xs: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
    if isinstance(values, tuple) and len(values) == 3 and np.ndim(values[0]) == 1:
        middle, low, high = (array(part, f"series[{name!r}][{i}]", ["point"]) for i, part in enumerate(values))
        if len(low) == len(high) == len(middle) and ((low > middle) | (middle > high)).any():
            raise ValueError(f"series[{name!r}] is (middle, low, high), but somewhere low ≤ middle ≤ high fails.")
    else:
        axes = ["run", "point"] if _depth(values) == 2 else ["point"]
        table = np.atleast_2d(array(values, f"series[{name!r}]", axes, most=50 * MAX_POINTS))
        middle, low, high = np.median(table, axis=0), table.min(axis=0), table.max(axis=0)
    for part in (middle, low, high):
        if len(part) != len(xs):
            raise ValueError(f"series[{name!r}] has {len(part)} points, but x has {len(xs)}; expected as many.")
    return middle, low, high


def _depth(values: Any) -> int:
    if hasattr(values, "shape"):
        return len(values.shape)
    return 1 + _depth(values[0]) if isinstance(values, (list, tuple)) and len(values) else 0


def thinned(*parts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Indices to keep: all of a short line; of a long one each bin's lowest and highest point, so no spike is lost."""
    count = len(parts[0])
    if count <= MAX_DRAWN:
        return np.arange(count)
    keep = {0, count - 1}
    for chunk in np.array_split(np.arange(count), MAX_DRAWN // 2):
        keep |= {int(chunk[parts[0][chunk].argmin()]), int(chunk[parts[0][chunk].argmax()])}
    return np.array(sorted(keep))


def styles(names: list[str]) -> list[tuple[str, str, str]]:
    """Colour, plotly's dash and matplotlib's dash for each name: grey and dotted for controls."""
    out, i = [], 0
    for name in names:
        if name.lower().startswith("control"):
            out.append((colors.CONTROL, "dot", ":"))
        else:
            turn = i % len(DASHES)
            out.append((colors.SERIES[i % len(colors.SERIES)], PLOTLY_DASHES[turn], DASHES[turn]))
            i += 1
    return out


def see_through(color: str, alpha: float = 0.2) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def legend() -> dict[str, Any]:
    """Below the plot, where it covers nothing."""
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"}


def legend_room(names: list[str], width: int = 600) -> int:
    """Pixels the legend needs below the plot. plotly sets it in columns as wide as the longest name."""
    if len(names) < 2:
        return 0
    in_one_row = sum(len(name) * 7 + 60 for name in names) <= width
    columns = len(names) if in_one_row else max(1, width // (max(map(len, names)) * 7 + 45))
    return 24 * -(-len(names) // columns)


def plotly_marks(marks: list[tuple[float, str]], log_x: bool = False) -> dict[str, Any]:
    """Vertical dashed lines with their labels."""
    line = {"color": colors.SOFT, "width": 1.2, "dash": "dash"}
    shapes = [
        {"type": "line", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        for place, _ in marks
    ]
    notes = [
        {
            "x": float(np.log10(place)) if log_x else place,
            "yref": "paper",
            "y": 1 - 0.075 * (i % 3),
            "yanchor": "top",
            "xanchor": "left",
            "text": safe_label(label),
            "showarrow": False,
            "font": {"size": 11, "color": colors.SOFT},
            "bgcolor": "rgba(255,255,255,0.8)",
        }
        for i, (place, label) in enumerate(marks)
    ]
    return {"shapes": shapes, "annotations": notes}


def draw_marks(axes: Axes, marks: list[tuple[float, str]]) -> None:
    for i, (place, label) in enumerate(marks):
        axes.axvline(place, color=colors.SOFT, linewidth=1.1, linestyle="--")
        axes.annotate(
            label,
            (place, 1 - 0.075 * (i % 3)),
            xycoords=("data", "axes fraction"),
            xytext=(4, -3),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=colors.SOFT,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )


def finish(axes: Axes, xlabel: str, ylabel: str, *, legend: bool) -> None:
    """Labels, grid, and a legend below the axes."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color=colors.GRID, linewidth=0.8)
    if legend:
        count = len(axes.get_legend_handles_labels()[0])
        axes.figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside lower left",
            ncols=min(count, 3),
            frameon=False,
            fontsize=9.5,
        )
