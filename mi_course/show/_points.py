"""Bars, scattered points and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._data import array, labels, number, rounded, short, visible, words
from mi_course.show._data import place as axis_place
from mi_course.show._lines import (
    draw_marks,
    finish,
    legend,
    legend_room,
    plain_ticks,
    plotly_marks,
    see_through,
    styles,
)
from mi_course.show._picture import Picture, axis, safe_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 60
MAX_DOTS = 2_000
HATCHES = ["", "//", "..", "\\\\"]
SHAPES = [("circle", "o"), ("diamond", "D"), ("square", "s"), ("triangle-up", "^"), ("cross", "P"), ("x", "X")]


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
    """One bar per name, with a grey bar of the control beside it if there is one.

    values: [bar]. errors: [bar], half the length of each error bar. control: one number, drawn as a line, or [bar].
    control_errors: [bar], for a control of [bar].
    """
    shown = [visible(name, width=28) for name in labels(names, "names", most=MAX_BARS)]
    count = len(shown)
    heights = _bars(values, "values", count)
    spread = None if errors is None else _lengths(errors, "errors", count)
    line = number(control, "control") if control is not None and np.ndim(_shape(control)) == 0 else None
    beside = _bars(control, "control", count) if control is not None and line is None else None
    beside_spread = None if control_errors is None else _lengths(control_errors, "control_errors", count)
    if beside_spread is not None and beside is None:
        raise ValueError("control_errors is given without a control of one value for each bar.")
    title, caption = words(title, "title"), words(caption, "caption")
    xlabel, ylabel = words(xlabel, "xlabel"), words(ylabel, "ylabel")

    groups = [(series_name, heights, spread, colors.SERIES[0])]
    if beside is not None:
        groups.append((control_name, beside, beside_spread, colors.CONTROL))
    details = [f"{ylabel}, one bar for each {xlabel}"]
    for i, name in enumerate(shown):
        values_said = [f"{short(h[i])}{f' ± {short(e[i])}' if e is not None else ''}" for _, h, e, _ in groups]
        details.append(
            f"{name}: {values_said[0]}" + (f" ({control_name} {values_said[1]})" if beside is not None else "")
        )
    if line is not None:
        details.append(f"{control_name}: {short(line)}")
    top = int(heights.argmax())
    alt = f"Bar chart of {ylabel}: {title}. {count} bars, the highest {shown[top]} at {short(heights[top])}."

    data = [
        {
            "type": "bar",
            "name": safe_label(name),
            "x": list(range(count)),
            "y": rounded(h),
            "customdata": [safe_label(label) for label in shown],
            "marker": {"color": color},
            "hovertemplate": f"%{{customdata}}<br>{safe_label(name)}: <b>%{{y:.3~g}}</b><extra></extra>",
            **({"error_y": {"type": "data", "array": rounded(e), "color": colors.INK}} if e is not None else {}),
        }
        for name, h, e, color in groups
    ]
    steep = max(map(len, shown)) * 7.5 > 540 / count
    legend_names = [name for name, *_ in groups] + ([control_name] if line is not None else [])
    room = legend_room(legend_names) if beside is not None else 0
    bottom = 4.6 * max(map(len, shown)) if steep else 0
    layout: dict[str, Any] = {
        "xaxis": axis(
            xlabel,
            tickvals=list(range(count)),
            ticktext=[safe_label(label) for label in shown],
            tickangle=-45 if steep else 0,
            showgrid=False,
        ),
        "yaxis": axis(ylabel, zeroline=True, zerolinecolor="#8c959f"),
        "showlegend": beside is not None,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "bargap": 0.3,
        "margin": {"b": int(58 + bottom), "t": 46 + room, "l": 70},
    }
    if line is not None:
        style = {"color": colors.SOFT, "width": 1.5, "dash": "dash"}
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": line, "y1": line, "line": style}]
        layout["annotations"] = [
            {
                "xref": "paper",
                "x": 1,
                "y": line,
                "text": safe_label(control_name),
                "showarrow": False,
                "xanchor": "right",
                "yanchor": "bottom",
                "font": {"size": 11, "color": colors.SOFT},
            }
        ]

    def draw(axes: Axes) -> None:
        wide = 0.7 / len(groups)
        for i, (name, h, e, color) in enumerate(groups):
            place = np.arange(count) + (i - (len(groups) - 1) / 2) * wide
            axes.bar(place, h, wide, yerr=e, color=color, label=name, hatch=HATCHES[i], capsize=3, edgecolor="white")
        axes.axhline(0, color="#8c959f", linewidth=0.8)
        if line is not None:
            axes.axhline(line, color=colors.SOFT, linewidth=1.4, linestyle="--")
            axes.annotate(
                control_name,
                (1, line),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=9,
                color=colors.SOFT,
            )
        axes.set_xticks(range(count), shown, rotation=45 if steep else 0, ha="right" if steep else "center")
        finish(axes, xlabel, ylabel, legend=beside is not None)
        axes.grid(visible=False, axis="x")

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=details,
        size=(680, int(340 + bottom + room)),
        draw=draw,
        data=data,
        layout=layout,
    )


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
) -> Picture:
    """Points, told apart by colour and shape where they have groups.

    x, y: [point]. names: for each point, shown on hover; `write` lists the points whose name is also written beside.
    groups: for each point. diagonal: draw x = y, for estimates against exact values.
    """
    xs, ys = array(x, "x", ["point"], most=MAX_DOTS), array(y, "y", ["point"], most=MAX_DOTS)
    count = len(xs)
    if len(ys) != count:
        raise ValueError(f"y has {len(ys)} points, but x has {count}; expected as many.")
    shown = [visible(name, width=28) for name in labels(names, "names", count, most=MAX_DOTS)] if names else None
    kinds = labels(groups, "groups", count, most=MAX_DOTS) if groups is not None else [""] * count
    wrong = [i for i in write if not 0 <= i < count]
    if wrong or (write and shown is None):
        raise ValueError(f"write names point {wrong[0]} of {count}." if wrong else "write needs names.")
    title, caption = words(title, "title"), words(caption, "caption")
    xlabel, ylabel = words(xlabel, "xlabel"), words(ylabel, "ylabel")
    order = list(dict.fromkeys(kinds))

    constant = count < 2 or np.ptp(xs) == 0 or np.ptp(ys) == 0
    together = "" if constant else f"correlation {short(float(np.corrcoef(xs, ys)[0, 1]))}"
    details = [
        f"{count} points",
        f"{xlabel} from {short(xs.min())} to {short(xs.max())}",
        f"{ylabel} from {short(ys.min())} to {short(ys.max())}",
    ]
    details += [together] if together else []
    details += [f"{kind}: {kinds.count(kind)} points" for kind in order if kind]
    details += [f"{shown[i]}: ({short(xs[i])}, {short(ys[i])})" for i in write] if shown else []
    alt = f"Scatter plot of {ylabel} against {xlabel}: {title}. {count} points{', ' + together if together else ''}."
    low, high = float(min(xs.min(), ys.min())), float(max(xs.max(), ys.max()))

    data = []
    looks = dict(zip(order, styles(order), strict=True))
    for i, kind in enumerate(order):
        mine = np.array([k == kind for k in kinds])
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": safe_label(kind),
            "x": rounded(xs[mine]),
            "y": rounded(ys[mine]),
            "marker": {"color": looks[kind][0], "symbol": SHAPES[i % len(SHAPES)][0], "size": 7, "opacity": 0.85},
        }
        first = ""
        if shown:
            trace["customdata"] = [safe_label(name) for name, own in zip(shown, mine, strict=True) if own]
            first = "<b>%{customdata}</b><br>"
        values = f"{safe_label(xlabel)}: %{{x:.3~g}}<br>{safe_label(ylabel)}: %{{y:.3~g}}"
        data.append(trace | {"hovertemplate": f"{first}{values}<extra></extra>"})
    layout: dict[str, Any] = {
        "xaxis": axis(xlabel),
        "yaxis": axis(ylabel),
        "showlegend": len(order) > 1,
        "legend": legend(),
        "margin": {"b": 58 + legend_room(order, 470), "l": 70},
        "annotations": [
            {
                "x": float(xs[i]),
                "y": float(ys[i]),
                "text": safe_label(shown[i]),
                "showarrow": False,
                "xshift": 6,
                "yshift": 9,
                "xanchor": "left",
                "font": {"size": 11},
            }
            for i in write
            if shown
        ],
    }
    if diagonal:
        style = {"color": colors.SOFT, "width": 1.2, "dash": "dash"}
        layout["shapes"] = [{"type": "line", "x0": low, "x1": high, "y0": low, "y1": high, "line": style}]

    def draw(axes: Axes) -> None:
        for i, kind in enumerate(order):
            mine = np.array([k == kind for k in kinds])
            mark = SHAPES[i % len(SHAPES)][1]
            axes.scatter(
                xs[mine], ys[mine], s=30, color=looks[kind][0], marker=mark, alpha=0.85, linewidth=0, label=kind
            )
        if diagonal:
            axes.plot([low, high], [low, high], color=colors.SOFT, linewidth=1.1, linestyle="--")
        for i in write:
            if shown:
                axes.annotate(shown[i], (xs[i], ys[i]), xytext=(5, 3), textcoords="offset points", fontsize=9)
        finish(axes, xlabel, ylabel, legend=len(order) > 1)

    size = (560, 420 + legend_room(order, 470))
    return Picture(
        title=title, caption=caption, alt=alt, details=details, size=size, draw=draw, data=data, layout=layout
    )


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
    """How values are spread: one outline per group, over shared bins.

    values: name to [n]. A name that starts with "control" is drawn in grey. marks: (value, label) pairs.
    """
    if not isinstance(values, Mapping) or not values:
        raise ValueError("values is empty or no mapping; expected {name: numbers}.")
    parts = {
        words(name, "a name in values"): array(part, f"values[{name!r}]", ["value"]) for name, part in values.items()
    }
    if not 1 <= bins <= 400:
        raise ValueError(f"bins is {bins}; expected 1 to 400.")
    at = [(number(place, "marks"), words(label, "a label in marks")) for place, label in marks]
    title, caption = words(title, "title"), words(caption, "caption")
    xlabel, ylabel = words(xlabel, "xlabel"), words(ylabel, "ylabel")
    everything = np.concatenate(list(parts.values()))
    edges = np.histogram_bin_edges(everything, bins)
    counts = {name: np.histogram(part, edges)[0] for name, part in parts.items()}
    looks = dict(zip(parts, styles(list(parts)), strict=True))

    details = [f"{xlabel} from {short(everything.min())} to {short(everything.max())}, {bins} bins"]
    details += [
        f"{name}: {len(part):,} values, median {short(float(np.median(part)))}, "
        f"middle half from {short(float(np.quantile(part, 0.25)))} to {short(float(np.quantile(part, 0.75)))}"
        for name, part in parts.items()
    ]
    details += [f"marked: {label} at {axis_place(place)}" for place, label in at]
    alt = f"Histogram of {xlabel}: {title}. " + ". ".join(details[1 : 1 + len(parts)]) + "."

    middles = (edges[1:] + edges[:-1]) / 2
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": safe_label(name),
            "x": rounded(middles, 5),
            "y": [int(c) if c or not log_y else None for c in count],
            "line": {"shape": "hvh", "color": looks[name][0], "width": 1.8, "dash": looks[name][1]},
            "fill": "tozeroy",
            "fillcolor": see_through(looks[name][0], 0.15),
            "hovertemplate": f"{safe_label(name)}<br>about %{{x:.3~g}}: <b>%{{y}}</b><extra></extra>",
        }
        for name, count in counts.items()
    ]
    layout = {
        "xaxis": axis(xlabel),
        "yaxis": axis(ylabel, **({"type": "log"} if log_y else {"rangemode": "tozero"})),
        "showlegend": len(parts) > 1,
        "legend": legend(),
        "margin": {"b": 58 + legend_room(list(parts)), "l": 70},
        **plotly_marks(at),
    }

    def draw(axes: Axes) -> None:
        for name, count in counts.items():
            color, _, dash = looks[name]
            axes.stairs(count, edges, color=color, fill=True, alpha=0.15)
            axes.stairs(count, edges, color=color, linestyle=dash, linewidth=1.6, label=name)
        if log_y:
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
        draw_marks(axes, at)
        finish(axes, xlabel, ylabel, legend=len(parts) > 1)

    size = (680, 340 + legend_room(list(parts)))
    return Picture(
        title=title, caption=caption, alt=alt, details=details, size=size, draw=draw, data=data, layout=layout
    )


def _shape(values: Any) -> Any:
    """Something whose `np.ndim` is the number of axes of `values`, tensors included."""
    return np.zeros(tuple(values.shape)) if hasattr(values, "shape") else values


def _bars(values: Any, name: str, count: int) -> np.ndarray[Any, Any]:
    out = array(values, name, ["bar"])
    if len(out) != count:
        raise ValueError(f"{name} has {len(out)} entries, but there are {count} names; expected as many.")
    return out


def _lengths(values: Any, name: str, count: int) -> np.ndarray[Any, Any]:
    out = _bars(values, name, count)
    if (out < 0).any():
        raise ValueError(f"{name} has {out.min():g}; expected lengths of at least 0.")
    return out
