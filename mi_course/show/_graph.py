"""A circuit as a small diagram: layers from bottom to top, arrows as wide as they matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import HIDDEN, Arrow, Axis, Chart, Mark, Series, Text
from mi_course.show._data import number, place, short, visible
from mi_course.show._picture import Picture

MAX_NODES = 60
MAX_EDGES = 300


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

    nodes: {"id", "layer"} each, and optionally "label" (the id by default) and "role" (what it does; gives the color).
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

    levels = sorted({node["layer"] for node in points})
    _place(points, arrows, levels)
    roles = list(dict.fromkeys(node["role"] for node in points))
    heaviest = max((abs(weight) for *_, weight in arrows), default=1.0) or 1.0

    details = [f"{len(points)} nodes on {len(levels)} layers, {len(arrows)} edges"]
    for level in levels:
        row = [n["label"] + (f" ({n['role']})" if n["role"] else "") for n in points if n["layer"] == level]
        details.append(f"{layer_name} {place(level)}: {', '.join(row)}")
    details += [f"{ids[a]['label']} → {ids[b]['label']}: {short(weight)}" for a, b, weight in arrows[:40]]
    alt = f"Diagram of a circuit: {title}. " + "; ".join(details[:8]) + "."

    marks: list[Mark] = []
    for a, b, weight in arrows:
        start, end = [(ids[i]["x"], ids[i]["y"]) for i in (a, b)]
        color, dash = (colors.POSITIVE, "solid") if weight >= 0 else (colors.NEGATIVE, "dash")
        marks.append(Arrow(start, end, color, round(0.8 + 3.2 * abs(weight) / heaviest, 2), dash))
        if len(arrows) <= 16:
            at = [0.55 * p + 0.45 * q for p, q in zip(start, end, strict=True)]
            marks.append(Text(at[0], at[1], short(weight), align="left", shift=(6, 0)))
    if arrows:  # plotly's arrows have no hover text: these points have it for them
        x, y = np.array([[(ids[a][k] + ids[b][k]) / 2 for k in "xy"] for a, b, _ in arrows]).T
        words = [f"{ids[a]['label']} → {ids[b]['label']}\n{weight_name} {short(w)}" for a, b, w in arrows]
        marks.append(Series(x, y, "#00000000", dash="", symbol="circle", size=14, words=words))
    for role, color in zip(roles, _role_colors(roles), strict=True):
        nodes_of_role = [node for node in points if node["role"] == role]
        x, y = np.array([[node["x"], node["y"]] for node in nodes_of_role]).T
        words = [node["label"] for node in nodes_of_role]
        marks.append(Series(x, y, color, role, dash="", symbol="circle", size=17, words=words))
    marks += [Text(n["x"], n["y"], n["label"], size=12, soft=False, align="left", shift=(13, 0)) for n in points]

    widest = max(sum(node["layer"] == level for node in points) for level in levels)
    size = max(440, min(900, 150 * widest + 110)), max(260, min(900, 92 * len(levels) + 90))
    across = replace(HIDDEN, range=(-0.6, max(widest - 1, 1) + 0.6))
    ticks = {i: place(level) for i, level in enumerate(levels)}
    up = Axis(layer_name, ticks, range=(-0.5, len(levels) - 0.5), line=False, grid=False)
    return Picture(
        Chart(size, marks, across, up, always_legend=True), title=title, caption=caption, alt=alt, details=details
    )


def _role_colors(roles: list[str]) -> list[str]:
    named = [role for role in roles if role]
    return [colors.SERIES[named.index(role) % len(colors.SERIES)] if role else colors.CONTROL for role in roles]


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
