"""Charts as plotly's JSON: the interactive view.

Grounds are transparent. Text takes the color of JupyterLab's theme through a `<span>`, the one place where plotly
passes a CSS variable on; where there is no theme, `INK` reads on light and dark pages alike. Hover labels have grounds
of their own and carry no such spans.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import Arrow, Axis, Bars, Cells, Chart, Frame, Rule, Series, Text
from mi_course.show._data import rounded

CLEAR = "rgba(0,0,0,0)"
SPAN = '<span style="color:var(--jp-content-font-color1)">'
SOFT_SPAN = '<span style="color:var(--jp-content-font-color2)">'
LINE_HEIGHT = 18
# A frame must be seen on the faintest and on the darkest cell, in both themes: dark over light.
FRAME = [("#ffffff", 5), ("#24292f", 2)]


def safe_label(text: str) -> str:
    """Text for plotly, which reads tags, entities and $maths$ in every label."""
    for char, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "\n": "<br>"}.items():
        text = text.replace(char, entity)
    return text


def themed(text: str, span: str = SPAN) -> str:
    """A label in the theme's text color."""
    return f"{span}{safe_label(text)}</span>" if text else ""


def legend_room(names: Sequence[str], width: int) -> int:
    """Pixels the legend needs below the plot. plotly sets it in columns as wide as the longest name."""
    if not names:
        return 0
    in_one_row = sum(len(name) * 7 + 60 for name in names) <= width
    columns = len(names) if in_one_row else max(1, width // (max(map(len, names)) * 7 + 45))
    return 24 * -(-len(names) // columns)


def figure(chart: Chart, title: str, caption: str) -> dict[str, Any]:
    """Plotly's JSON: data, layout and config."""
    width, height = chart.size
    room = legend_room(chart.legend, width - 90)
    per_line = max(24, int(width / 7.6))
    heading = textwrap.wrap(title, per_line)
    below = textwrap.wrap(caption, int(per_line * 1.15))
    foot = LINE_HEIGHT * len(below)
    margin = {
        "l": _left(chart.y),
        "r": 24 if chart.scale is None else 90,
        "t": 26 + 20 * len(heading),
        "b": _bottom(chart.x) + 15 * chart.below.count("\n") + 20 * bool(chart.below) + room + foot,
    }
    total = height + room + foot
    parts = [_draw(mark, chart) for mark in chart.marks]
    notes = [note for part in parts for note in part.get("annotations", [])]
    for text, drop in [(chart.below, 4), ("\n".join(below), margin["b"] - foot - 2)]:
        if text:
            at = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "top"}
            shift = {"xshift": 10 - margin["l"], "yshift": -drop, "align": "left", "showarrow": False}
            notes.append({"text": themed(text, SOFT_SPAN), **at, **shift})
    if chart.scale is not None:  # a title of the color bar's own would run into its numbers
        at = {"xref": "paper", "yref": "paper", "x": 1, "y": 0.5, "xshift": 74, "textangle": 90, "showarrow": False}
        notes.append({"text": themed(chart.scale.label), **at})
    layout: dict[str, Any] = {
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "modebar": {"bgcolor": CLEAR, "color": colors.LINE, "activecolor": colors.INK},
        "font": {"color": colors.INK, "size": 12},
        "width": width,
        "height": total,
        "margin": margin,
        "title": {
            "text": f"<b>{themed(chr(10).join(heading))}</b>",
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 10 if len(heading) == 1 else 20},  # plotly lifts several lines; seen in the browser
            "font": {"size": 15},
        },
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y) | ({"scaleanchor": "x"} if chart.equal else {}),
        "showlegend": bool(room),
        "shapes": [shape for part in parts for shape in part.get("shapes", [])],
        "annotations": notes,
    }
    if room:
        at = {"orientation": "h", "x": 0, "y": round(foot / total, 4), "yref": "container", "yanchor": "bottom"}
        layout["legend"] = at
    if any(isinstance(mark, Bars) for mark in chart.marks):
        layout["yaxis"] |= {"zeroline": True, "zerolinecolor": colors.LINE}
    if chart.scale is not None:
        layout["coloraxis"] = {
            "cmin": round(chart.scale.low, 6),
            "cmax": round(chart.scale.high, 6),
            "colorscale": [[share, colors.rgba(color)] for share, color in chart.scale.stops],
            "colorbar": {"thickness": 14, "outlinewidth": 0, **NUMBERS},
        }
    data = [trace for part in parts for trace in part.get("data", [])]
    return {"data": data, "layout": layout, "config": {"displaylogo": False, "responsive": True}}


NUMBERS = {"tickprefix": SPAN, "ticksuffix": "</span>"}  # plotly puts these around numbers, not around given labels


def _axis(axis: Axis) -> dict[str, Any]:
    span = None if axis.range is None else [round(float(np.log10(v) if axis.log else v), 4) for v in axis.range]
    more: dict[str, Any] = {} if span is None else {"range": span}
    if not axis.visible:
        return {"visible": False, "fixedrange": True, **more}
    if axis.log:
        more["type"] = "log"
    if axis.ticks is not None and all(name == f"{place:g}" for place, name in axis.ticks.items()):
        places = list(axis.ticks)
        more |= {"tick0": places[0], "dtick": places[1] - places[0] if len(places) > 1 else 1, **NUMBERS}
    elif axis.ticks is not None:
        more |= {"tickvals": list(axis.ticks), "ticktext": [themed(name) for name in axis.ticks.values()]}
        more |= {"tickangle": -axis.angle}
    else:
        more |= NUMBERS
    look: dict[str, Any] = {"gridcolor": colors.rgba(colors.GRID)} if axis.grid else {"showgrid": False}
    if axis.line:
        look |= {"showline": True, "linecolor": colors.LINE, "ticks": "outside", "tickcolor": colors.LINE}
    else:
        look["ticks"] = ""
    return {"title": {"text": themed(axis.label), "standoff": 8}, "zeroline": False, **look, **more}


def _left(axis: Axis) -> int:
    if not axis.visible:
        return 6
    return 70 if axis.ticks is None else int(46 + 7.2 * max(map(len, axis.ticks.values())))


def _bottom(axis: Axis) -> int:
    if not axis.visible:
        return 10
    return 58 if not axis.angle else int(50 + 6.2 * max(map(len, (axis.ticks or {0.0: ""}).values())))


@singledispatch
def _draw(mark: Any, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    """Plotly's traces, shapes and annotations for one mark."""
    raise TypeError(f"{type(mark).__name__} cannot be drawn.")


@_draw.register
def _(mark: Series, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    x = _numbers(mark.x, 6)
    base: dict[str, Any] = {"type": "scatter", "x": x, "showlegend": bool(mark.name)}
    if mark.name:
        base["legendgroup"] = mark.name
    data = []
    if mark.low is not None and mark.high is not None:
        edge = {**base, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        data.append({**edge, "y": _numbers(mark.low)})
        data.append({**edge, "y": _numbers(mark.high), "fill": "tonexty", "fillcolor": colors.rgba(mark.color, 0.2)})
    modes = (["lines"] if mark.dash else []) + (["markers"] if mark.symbol else [])
    trace = {**base, "y": _numbers(mark.y), "mode": "+".join(modes), "name": themed(mark.name)}
    if mark.dash:
        trace["line"] = {"color": colors.rgba(mark.color), "width": mark.width, "dash": mark.dash}
        trace["line"] |= {"shape": "hvh"} if mark.steps else {}
    if mark.symbol:
        trace["marker"] = {"color": colors.rgba(mark.color), "symbol": mark.symbol, "size": mark.size}
        trace["marker"] |= {"opacity": mark.opacity} if mark.opacity < 1 else {}
    if mark.fill:
        trace |= {"fill": "tozeroy", "fillcolor": colors.rgba(mark.color, mark.fill)}
    if mark.words is not None:
        trace["customdata"] = [safe_label(words) for words in mark.words]
    return {"data": [*data, trace | (_hover(mark, chart) if mark.hover else {"hoverinfo": "skip"})]}


@_draw.register
def _(mark: Bars, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    trace: dict[str, Any] = {
        "type": "bar",
        "name": themed(mark.name),
        "x": _numbers(mark.x),
        "y": _numbers(mark.heights),
        "width": round(mark.width, 3),
        "customdata": [safe_label(words) for words in mark.words],
        "marker": {"color": mark.color},
    }
    if mark.errors is not None:
        trace["error_y"] = {"type": "data", "array": _numbers(mark.errors), "color": colors.INK}
    return {"data": [trace | _hover(mark, chart)]}


def _hover(mark: Series | Bars, chart: Chart) -> dict[str, Any]:
    lines = ["<b>%{customdata}</b>"] if mark.words is not None else []
    lines += [safe_label(mark.name)] if mark.name else []
    if chart.x.visible and chart.x.ticks is None:
        lines += [f"{safe_label(chart.x.label)}: %{{x:,.5~r}}"]
    if chart.x.visible:
        lines += [f"{safe_label(chart.y.label)}: <b>%{{y:.3~g}}</b>"]
    return {"hovertemplate": "<br>".join(lines) + "<extra></extra>"}


@_draw.register
def _(mark: Cells, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    x, y = mark.centers()
    unit = chart.scale.label if chart.scale is not None else ""
    hover = safe_label(mark.hover).replace("{x}", "%{x:d}").replace("{y}", "%{y:d}").replace("{words}", "%{customdata}")
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": rounded(mark.table, 3 if mark.table.size > 1500 else 4),
        "coloraxis": "coloraxis",
        "hovertemplate": f"{hover}<br><b>%{{z:.3~g}}</b> {safe_label(unit)}<extra></extra>",
    }
    if not (x[0] == y[0] == 0 and x[-1] == len(x) - 1 and y[-1] == len(y) - 1):
        trace |= {"x": _numbers(x), "y": _numbers(y)}
    if mark.gap:
        trace |= {"xgap": 1, "ygap": 1}
    if mark.words is not None:
        trace["customdata"] = [[safe_label(words) for words in row] for row in mark.words]
    return {"data": [trace]}


@_draw.register
def _(mark: Frame, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    corners = {"x0": mark.x0, "x1": mark.x1, "y0": mark.y0, "y1": mark.y1}
    return {"shapes": [{"type": "rect", **corners, "line": {"color": color, "width": width}} for color, width in FRAME]}


@_draw.register
def _(mark: Rule, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    line = {"type": "line", "line": {"color": colors.LINE, "width": 1.2, "dash": "dash"}}
    look = {"text": themed(mark.label, SOFT_SPAN), "showarrow": False, "font": {"size": 11}}
    ends = {"x0": mark.x, "x1": mark.x, "yref": "paper", "y0": 0, "y1": 1}
    x = float(np.log10(mark.x)) if chart.x.log else mark.x
    at = {"x": x, "yref": "paper", "y": 1 - 0.075 * mark.lane, "xanchor": "left", "yanchor": "top"}
    return {"shapes": [line | ends], "annotations": [look | at]}


@_draw.register
def _(mark: Text, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    note = {"x": round(mark.x, 4), "y": round(mark.y, 4), "text": themed(mark.text, SOFT_SPAN if mark.soft else SPAN)}
    note |= {"showarrow": False, "font": {"size": mark.size}, "yanchor": "middle", "xanchor": mark.align}
    if mark.shift != (0, 0):
        note |= {"xshift": round(mark.shift[0], 1), "yshift": round(mark.shift[1], 1)}
    return {"annotations": [note]}


@_draw.register
def _(mark: Arrow, chart: Chart) -> dict[str, list[dict[str, Any]]]:
    refs = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
    note = dict(zip(("ax", "ay", "x", "y"), (*mark.start, *mark.end), strict=True)) | refs
    look = {"arrowhead": 2, "arrowsize": 0.8, "arrowwidth": max(1.0, mark.width), "arrowcolor": mark.color}
    return {"annotations": [note | look | {"text": "", "standoff": 10, "startstandoff": 10, "opacity": 0.75}]}


def _numbers(values: Any, digits: int = 4) -> list[Any]:
    """A rounded list: whole numbers without a decimal point, and None for NaN."""
    values = np.asarray(values, dtype=float)
    missing = np.isnan(values)
    out = rounded(np.where(missing, 0, values), digits)
    return [None if gap else int(v) if v == int(v) else v for v, gap in zip(out, missing, strict=True)]
