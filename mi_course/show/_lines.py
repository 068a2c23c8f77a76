"""Lines over a shared x, with bands for several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mi_course.show._chart import Axis, Chart, Numbers, Series, rules, styles
from mi_course.show._data import array, check_marks, check_text, place, short
from mi_course.show._picture import Picture

MAX_POINTS = 20_000
MAX_DRAWN = 600  # points of a line that reach the notebook; a longer one is thinned, keeping its extremes


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
    """Lines, told apart by color and by dash.

    x: [n]. series: name to [n]; to [runs, n], drawn as the median and the band from lowest to highest; or to a tuple
    (middle, low, high) of three [n]. A name that starts with "control" is drawn in gray.
    marks: (x, label) pairs, drawn as vertical lines.
    Raises ValueError for lengths that differ, NaN, an empty series, or log axes with values that are not positive.
    """
    xs = array(x, "x", ["point"], limit=MAX_POINTS)
    if not isinstance(series, Mapping) or not series:
        raise ValueError("series is empty or no mapping; expected {name: values}.")
    bands = {check_text(name, "a name in series"): _band(name, values, xs) for name, values in series.items()}
    verticals = check_marks(marks)
    smallest = min([float(xs.min()), *(x for x, _ in verticals)])
    if log_x and smallest <= 0:
        raise ValueError(f"log_x needs positive x; the smallest is {smallest:g}.")
    if log_y and min(low.min() for _, low, _ in bands.values()) <= 0:
        raise ValueError("log_y needs positive values; leave out zeros, or plot on a linear axis.")
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")

    drawn: list[Series] = []
    details = [f"{xlabel} from {place(xs.min())} to {place(xs.max())}; {ylabel}"]
    for (name, (middle, low, high)), (color, dash) in zip(bands.items(), styles(list(bands)), strict=True):
        top, bottom = int(middle.argmax()), int(middle.argmin())
        line = (
            f"{name}: {short(middle[0])} at the start, {short(middle[-1])} at the end; highest {short(middle[top])} "
            f"at {place(xs[top])}, lowest {short(middle[bottom])} at {place(xs[bottom])}"
        )
        width = float((high - low).max())
        details.append(line + (f"; band up to {short(width)} wide" if width > 0 else ""))
        keep = _thinned(middle)
        band = {"low": low[keep], "high": high[keep]} if width > 0 else {}
        symbol = "circle" if len(xs) <= 40 else ""
        drawn.append(Series(xs[keep], middle[keep], color, name, dash=dash, symbol=symbol, **band))
    details += [f"marked: {label} at {place(x)}" for x, label in verticals]
    alt = f"Line plot of {ylabel} over {xlabel}: {title}. " + ". ".join(details[1 : 1 + len(bands)]) + "."
    chart = Chart((680, 360), [*drawn, *rules(verticals)], Axis(xlabel, log=log_x), Axis(ylabel, log=log_y))
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def _band(name: str, values: Any, xs: Numbers) -> tuple[Any, Any, Any]:
    """Middle, lowest and highest value at each x."""
    if isinstance(values, tuple) and len(values) == 3 and np.ndim(values[0]) == 1:
        middle, low, high = (array(part, f"series[{name!r}][{i}]", ["point"]) for i, part in enumerate(values))
        if len(low) == len(high) == len(middle) and ((low > middle) | (middle > high)).any():
            raise ValueError(f"series[{name!r}] is (middle, low, high), but somewhere low ≤ middle ≤ high fails.")
    else:
        axes = ["run", "point"] if _depth(values) == 2 else ["point"]
        table = np.atleast_2d(array(values, f"series[{name!r}]", axes, limit=50 * MAX_POINTS))
        middle, low, high = np.median(table, axis=0), table.min(axis=0), table.max(axis=0)
    for part in (middle, low, high):
        if len(part) != len(xs):
            raise ValueError(f"series[{name!r}] has {len(part)} points, but x has {len(xs)}; expected as many.")
    return middle, low, high


def _depth(values: Any) -> int:
    if hasattr(values, "shape"):
        return len(values.shape)
    return 1 + _depth(values[0]) if isinstance(values, (list, tuple)) and len(values) else 0


def _thinned(values: Numbers) -> Numbers:
    """Indices to keep: all of a short line; of a long one each bin's lowest and highest point, so no spike is lost."""
    count = len(values)
    if count <= MAX_DRAWN:
        return np.arange(count)
    keep = {0, count - 1}
    for chunk in np.array_split(np.arange(count), MAX_DRAWN // 2):
        keep |= {int(chunk[values[chunk].argmin()]), int(chunk[values[chunk].argmax()])}
    return np.array(sorted(keep))
