"""Bars, scattered points and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import SYMBOLS, Axis, Bars, Chart, Mark, Numbers, Series, Text, rules, styles
from mi_course.show._data import array, check_marks, check_text, labels, number, place, short, visible
from mi_course.show._picture import Picture

MAX_BARS = 60
MAX_DOTS = 2_000


def bars(
    names: Sequence[str],
    values: Any,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    errors: Any = None,
    control: Any = None,
    control_errors: Any = None,
    series_name: str = "measured",
    control_name: str = "control",
) -> Picture:
    """One bar per name, with a gray bar of the control beside it if there is one.

    values: [bar]. errors: [bar], half the length of each error bar. control: one number, drawn as a line, or [bar].
    control_errors: [bar], for a control of [bar].
    """
    shown = [visible(name, width=28) for name in labels(names, "names", limit=MAX_BARS)]
    count, longest = len(shown), max(map(len, shown))
    groups = [(series_name, _bar_values(values, "values", count), _lengths(errors, "errors", count), colors.SERIES[0])]
    control_errors = _lengths(control_errors, "control_errors", count)
    level = None
    if isinstance(control, (list, tuple)) or len(getattr(control, "shape", ())):
        groups.append((control_name, _bar_values(control, "control", count), control_errors, colors.CONTROL))
    elif control is not None:
        level = number(control, "control")
    if control_errors is not None and len(groups) == 1:
        raise ValueError("control_errors is given without a control of one value for each bar.")
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")

    details = [f"{ylabel}, one bar for each {xlabel}"]
    for i, name in enumerate(shown):
        numbers = [short(h[i]) + (f" ± {short(e[i])}" if e is not None else "") for _, h, e, _ in groups]
        details.append(f"{name}: {numbers[0]}" + (f" ({control_name} {numbers[1]})" if len(numbers) > 1 else ""))
    if level is not None:
        details.append(f"{control_name}: {short(level)}")
    heights = groups[0][1]
    top = int(heights.argmax())
    alt = f"Bar chart of {ylabel}: {title}. {count} bars, the highest {shown[top]} at {short(heights[top])}."

    width = 0.7 / len(groups)
    marks: list[Mark] = [
        Bars(np.arange(count) + (i - (len(groups) - 1) / 2) * width, values, width, color, name, shown, errors)
        for i, (name, values, errors, color) in enumerate(groups)
    ]
    if level is not None:  # named in the legend: on the plot its name would lie over bars
        ends: dict[str, Any] = {"x": np.array([-0.5, count - 0.5]), "y": np.array([level, level])}
        marks.append(Series(**ends, color=colors.LINE, name=control_name, dash="dash", width=1.4, hover=False))
    angle = 45 if longest * 7.5 > 540 / count else 0
    x = Axis(xlabel, dict(enumerate(shown)), angle, (-0.5, count - 0.5), grid=False)
    chart = Chart((680, int(340 + (4.6 * longest if angle else 0))), marks, x, Axis(ylabel))
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def scatter(
    x: Any,
    y: Any,
    names: Sequence[str] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    groups: Sequence[str] | None = None,
    diagonal: bool = False,
    write: Sequence[int] = (),
    size: float = 7,
) -> Picture:
    """Points, told apart by color and shape where they have groups.

    x, y: [point]. names: for each point, shown on hover; `write` lists the points whose name is also written beside.
    groups: for each point. diagonal: draw x = y, for estimates against exact values.
    size: of a point, in pixels.
    """
    xs, ys = array(x, "x", ["point"], limit=MAX_DOTS), array(y, "y", ["point"], limit=MAX_DOTS)
    count = len(xs)
    if len(ys) != count:
        raise ValueError(f"y has {len(ys)} points, but x has {count}; expected as many.")
    shown = [visible(name, width=28) for name in labels(names, "names", count, limit=MAX_DOTS)] if names else None
    kinds = labels(groups, "groups", count, limit=MAX_DOTS) if groups is not None else [""] * count
    outside = [i for i in write if not 0 <= i < count]
    if outside or (write and shown is None):
        raise ValueError(f"write names point {outside[0]} of {count}." if outside else "write needs names.")
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")
    order = list(dict.fromkeys(kinds))

    constant = count < 2 or np.ptp(xs) == 0 or np.ptp(ys) == 0
    correlation = [] if constant else [f"correlation {short(float(np.corrcoef(xs, ys)[0, 1]))}"]
    details = [
        f"{count} points",
        f"{xlabel} from {short(xs.min())} to {short(xs.max())}",
        f"{ylabel} from {short(ys.min())} to {short(ys.max())}",
        *correlation,
        *(f"{kind}: {kinds.count(kind)} points" for kind in order if kind),
    ]
    details += [f"{shown[i]}: ({short(xs[i])}, {short(ys[i])})" for i in write] if shown else []
    alt = f"Scatter plot of {ylabel} against {xlabel}: {title}. {', '.join([f'{count} points', *correlation])}."

    marks: list[Mark] = []
    for i, (kind, (color, _)) in enumerate(zip(order, styles(order), strict=True)):
        group = np.array([k == kind for k in kinds])
        words = [name for name, member in zip(shown, group, strict=True) if member] if shown else None
        look: dict[str, Any] = {"dash": "", "symbol": SYMBOLS[i % len(SYMBOLS)], "size": size, "opacity": 0.85}
        marks.append(Series(xs[group], ys[group], color, kind, words=words, **look))
    if diagonal:
        ends = np.array([min(xs.min(), ys.min()), max(xs.max(), ys.max())])
        marks.append(Series(ends, ends, colors.LINE, dash="dash", width=1.2, hover=False))
    marks += [Text(xs[i], ys[i], shown[i], soft=False, align="left", shift=(6, 10)) for i in write] if shown else []
    chart = Chart((560, 420), marks, Axis(xlabel), Axis(ylabel))
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def histogram(
    values: Mapping[str, Any],
    *,
    xlabel: str,
    title: str,
    ylabel: str = "count",
    caption: str = "",
    bins: int = 40,
    marks: Sequence[tuple[float, str]] = (),
    log_y: bool = False,
) -> Picture:
    """How values are distributed: one outline per group, over shared bins.

    values: name to [n]. A name that starts with "control" is drawn in gray. marks: (value, label) pairs.
    """
    if not isinstance(values, Mapping) or not values:
        raise ValueError("values is empty or no mapping; expected {name: numbers}.")
    groups = {
        check_text(name, "a name in values"): array(group, f"values[{name!r}]", ["value"])
        for name, group in values.items()
    }
    if not 1 <= bins <= 400:
        raise ValueError(f"bins is {bins}; expected 1 to 400.")
    verticals = check_marks(marks)
    xlabel, ylabel = check_text(xlabel, "xlabel"), check_text(ylabel, "ylabel")
    everything = np.concatenate(list(groups.values()))
    edges = np.histogram_bin_edges(everything, bins)

    details = [f"{xlabel} from {short(everything.min())} to {short(everything.max())}, {bins} bins"]
    details += [
        f"{name}: {len(group):,} values, median {short(float(np.median(group)))}, "
        f"middle half from {short(float(np.quantile(group, 0.25)))} to {short(float(np.quantile(group, 0.75)))}"
        for name, group in groups.items()
    ]
    details += [f"marked: {label} at {place(x)}" for x, label in verticals]
    alt = f"Histogram of {xlabel}: {title}. " + ". ".join(details[1 : 1 + len(groups)]) + "."

    outlines = []
    for (name, group), (color, dash) in zip(groups.items(), styles(list(groups)), strict=True):
        counts = np.histogram(group, edges)[0].astype(float)
        if log_y:
            counts[counts == 0] = np.nan
        look: dict[str, Any] = {"dash": dash, "width": 1.8, "fill": 0.15, "steps": True}
        outlines.append(Series((edges[1:] + edges[:-1]) / 2, counts, color, name, **look))
    chart = Chart((680, 340), [*outlines, *rules(verticals)], Axis(xlabel), Axis(ylabel, log=log_y))
    return Picture(chart, title=title, caption=caption, alt=alt, details=details)


def _bar_values(values: Any, name: str, count: int) -> Numbers:
    out = array(values, name, ["bar"])
    if len(out) != count:
        raise ValueError(f"{name} has {len(out)} entries, but there are {count} names; expected as many.")
    return out


def _lengths(values: Any, name: str, count: int) -> Numbers | None:
    if values is None:
        return None
    out = _bar_values(values, name, count)
    if (out < 0).any():
        raise ValueError(f"{name} has {out.min():g}; expected lengths of at least 0.")
    return out
