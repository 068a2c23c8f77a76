"""A circuit as a small diagram: layers from bottom to top, arrows as wide as they matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mi_course.show import _colors as colors
from mi_course.show._data import number, place, short, visible, words
from mi_course.show._picture import Picture, axis, safe_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NODES = 60
MAX_EDGES = 300
POSITIVE, NEGATIVE = colors.DIVERGING[-1], colors.DIVERGING[0]


def graph(
    nodes: Iterable[Mapping[str, Any]],
    edges: Iterable[Mapping[str, Any] | tuple[Any, ...]],
    *,
    title: str,
    caption: str = "",
    weight_name: str = "weight",
    layer_name: str = "layer",
) -> Picture:
    """A diagram of a circuit.

    nodes: {"id", "layer"} each, and optionally "label" (the id by default) and "role" (what it does; gives the colour).
    edges: (from, to), (from, to, weight) or {"source", "target", "weight"}; width shows the size of the weight, and
    negative ones are red and dashed.
    Raises ValueError for an unknown or doubled id, a layer that is not a number, or an edge that runs downwards.
    """
    points = [_node(node) for node in nodes]
    ids = {point["id"]: point for point in points}
    if not points or len(points) > MAX_NODES:
        raise ValueError(f"nodes has {len(points)} entries; expected 1 to {MAX_NODES}.")
    if len(ids) < len(points):
        raise ValueError("two nodes share an id; give every node its own.")
    arrows = [_edge(edge, ids) for edge in edges]
    if len(arrows) > MAX_EDGES:
        raise ValueError(f"edges has {len(arrows)} entries; at most {MAX_EDGES} can be read. Keep the heaviest.")
    title, caption = words(title, "title"), words(caption, "caption")

    levels = sorted({point["layer"] for point in points})
    _place(points, arrows, levels)
    roles = list(dict.fromkeys(point["role"] for point in points if point["role"]))
    tone = {role: colors.SERIES[i % len(colors.SERIES)] for i, role in enumerate(roles)} | {"": colors.CONTROL}
    heaviest = max((abs(weight) for *_, weight in arrows), default=1.0) or 1.0

    details = [f"{len(points)} nodes on {len(levels)} layers, {len(arrows)} edges"]
    for level in levels:
        mine = [p["label"] + (f" ({p['role']})" if p["role"] else "") for p in points if p["layer"] == level]
        details.append(f"{layer_name} {place(level)}: {', '.join(mine)}")
    details += [f"{ids[a]['label']} → {ids[b]['label']}: {short(weight)}" for a, b, weight in arrows[:40]]
    alt = f"Diagram of a circuit: {title}. " + "; ".join(details[:8]) + "."

    widest = max(sum(point["layer"] == level for point in points) for level in levels)
    size = (max(440, min(900, 150 * widest + 110)), max(260, min(900, 92 * len(levels) + 90)) + 24 * bool(roles))
    span_x, span_y = (-0.6, max(widest - 1, 1) + 0.6), (-0.5, len(levels) - 0.5)

    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": safe_label(role or "node"),
            "showlegend": bool(role),
            "x": [p["x"] for p in points if p["role"] == role],
            "y": [p["y"] for p in points if p["role"] == role],
            "text": [safe_label(p["label"]) for p in points if p["role"] == role],
            "textposition": "middle right",
            "textfont": {"color": colors.INK},
            "marker": {"size": 17, "color": tone[role], "line": {"width": 1.5, "color": "#ffffff"}},
            "hovertemplate": f"<b>%{{text}}</b><br>{safe_label(role)}<extra></extra>",
        }
        for role in dict.fromkeys(point["role"] for point in points)
    ]
    middles = {
        "type": "scatter",
        "mode": "markers",
        "x": [(ids[a]["x"] + ids[b]["x"]) / 2 for a, b, _ in arrows],
        "y": [(ids[a]["y"] + ids[b]["y"]) / 2 for a, b, _ in arrows],
        "customdata": [
            f"{safe_label(ids[a]['label'])} → {safe_label(ids[b]['label'])}<br>"
            f"{safe_label(weight_name)} <b>{short(w)}</b>"
            for a, b, w in arrows
        ],
        "marker": {"size": 14, "opacity": 0},
        "showlegend": False,
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    layout = {
        "xaxis": axis("", visible=False, range=list(span_x), fixedrange=True),
        "yaxis": axis(
            layer_name,
            tickvals=list(range(len(levels))),
            ticktext=[place(level) for level in levels],
            range=list(span_y),
            showgrid=False,
            showline=False,
            ticks="",
            fixedrange=True,
        ),
        "margin": {"b": 20 + 30 * bool(roles)},
        "showlegend": bool(roles),
        "legend": {"orientation": "h", "x": 0, "y": 0, "yanchor": "top"},
        "hovermode": "closest",
        "annotations": [_plotly_arrow(ids[a], ids[b], weight, heaviest) for a, b, weight in arrows],
    }

    def draw(axes: Axes) -> None:
        for a, b, weight in arrows:
            axes.annotate(
                "",
                (ids[b]["x"], ids[b]["y"]),
                (ids[a]["x"], ids[a]["y"]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": POSITIVE if weight >= 0 else NEGATIVE,
                    "linestyle": "-" if weight >= 0 else "--",
                    "linewidth": _width(weight, heaviest),
                    "shrinkA": 9,
                    "shrinkB": 9,
                    "mutation_scale": 12,
                    "alpha": 0.8,
                },
            )
            if len(arrows) <= 16:
                at = [ids[a][k] * 0.55 + ids[b][k] * 0.45 for k in "xy"]
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
                axes.annotate(short(weight), at, fontsize=8.5, color=colors.SOFT, ha="center", va="center", bbox=box)
        for role in dict.fromkeys(point["role"] for point in points):
            mine = [point for point in points if point["role"] == role]
            name = {"label": role} if role else {}
            places = [p["x"] for p in mine], [p["y"] for p in mine]
            axes.scatter(*places, s=170, color=tone[role], edgecolor="white", linewidth=1.5, zorder=3, **name)
        for p in points:
            axes.annotate(p["label"], (p["x"], p["y"]), (11, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_xlim(*span_x)
        axes.set_ylim(*span_y)
        axes.set_xticks([])
        axes.set_yticks(range(len(levels)), [place(level) for level in levels])
        axes.tick_params(length=0)
        axes.set_ylabel(layer_name)
        for side in axes.spines.values():
            side.set_visible(False)
        if roles:
            handles = axes.get_legend_handles_labels()
            longest = max(len(label) for label in handles[1])
            columns = max(1, 60 // (longest + 6))  # about 60 characters fit beside each other
            axes.figure.legend(*handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=9.5)

    return Picture(
        title=title,
        caption=caption,
        alt=alt,
        details=details,
        size=size,
        draw=draw,
        data=[*data, middles] if arrows else data,
        layout=layout,
    )


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in ("id", "layer") if key not in node]
    if missing:
        raise ValueError(f"a node lacks {', '.join(missing)}: {dict(node)!r:.80}. Expected id, layer, label, role.")
    label = visible(str(node.get("label", node["id"])), width=28)
    layer = number(node["layer"], f"layer of node {node['id']!r}")
    return {"id": node["id"], "layer": layer, "label": label, "role": str(node.get("role") or "")}


def _edge(edge: Any, ids: Mapping[Any, dict[str, Any]]) -> tuple[Any, Any, float]:
    if isinstance(edge, Mapping):
        edge = (edge.get("source"), edge.get("target"), edge.get("weight", 1.0))
    if not isinstance(edge, (tuple, list)) or len(edge) not in (2, 3):
        raise ValueError(f"an edge is {edge!r:.60}; expected (from, to), (from, to, weight) or a mapping.")
    source, target = edge[:2]
    unknown = [end for end in (source, target) if end not in ids]
    if unknown:
        raise ValueError(
            f"an edge names node {unknown[0]!r}, which is not among the nodes: {', '.join(map(str, ids))}."
        )
    if ids[source]["layer"] >= ids[target]["layer"]:
        raise ValueError(f"the edge {source} → {target} does not run upwards; expected a later layer as its target.")
    return source, target, number(edge[2] if len(edge) == 3 else 1.0, f"weight of {source} → {target}")


def _place(points: list[dict[str, Any]], arrows: list[tuple[Any, Any, float]], levels: list[float]) -> None:
    """Give every node x and y: rows by layer; within a row ordered by the mean place of what feeds it, so few cross."""
    widest = max(sum(p["layer"] == level for p in points) for level in levels)
    at: dict[Any, float] = {}
    for y, level in enumerate(levels):
        row = [p for p in points if p["layer"] == level]

        def pull(p: dict[str, Any], level: float = level) -> float:
            below = [at[a] for a, b, _ in arrows if b == p["id"] and a in at]
            return sum(below) / len(below) if below else (widest - 1) / 2

        row.sort(key=pull)
        step = (widest - 1) / max(1, len(row) - 1) if len(row) > 1 else 0
        start = 0.0 if len(row) > 1 else (widest - 1) / 2
        for i, p in enumerate(row):
            p["x"], p["y"] = round(start + i * step, 3), y
            at[p["id"]] = p["x"]
    _step_aside(points, arrows)


def _step_aside(points: list[dict[str, Any]], arrows: list[tuple[Any, Any, float]]) -> None:
    """Move a node that an arrow would run through to the left or right of it, in turn."""
    ids, turn = {p["id"]: p for p in points}, 0
    for a, b, _ in arrows:
        low, high = ids[a], ids[b]
        for p in points:
            if low["y"] < p["y"] < high["y"]:
                share = (p["y"] - low["y"]) / (high["y"] - low["y"])
                if abs(low["x"] + share * (high["x"] - low["x"]) - p["x"]) < 0.15:
                    p["x"] = round(p["x"] + (0.4 if turn % 2 == 0 else -0.4), 3)
                    turn += 1


def _width(weight: float, heaviest: float) -> float:
    return 0.8 + 3.2 * abs(weight) / heaviest


def _plotly_arrow(a: dict[str, Any], b: dict[str, Any], weight: float, heaviest: float) -> dict[str, Any]:
    return {
        "x": b["x"],
        "y": b["y"],
        "ax": a["x"],
        "ay": a["y"],
        "xref": "x",
        "yref": "y",
        "axref": "x",
        "ayref": "y",
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 0.8,
        "arrowwidth": round(max(1.0, _width(weight, heaviest)), 2),
        "arrowcolor": POSITIVE if weight >= 0 else NEGATIVE,
        "opacity": 0.75,
        "standoff": 10,
        "startstandoff": 10,
    }
