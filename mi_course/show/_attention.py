"""Attention patterns: CircuitsVis' interactive view while a kernel runs, a picture of every head otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._chart import Axis, Cells, Chart, Scale
from mi_course.show._data import array, check_text, labels, short, visible
from mi_course.show._heatmaps import tables_in_grid
from mi_course.show._html import figure
from mi_course.show._picture import Live, describe, page, widget_class, write_as
from mi_course.show._static import png

MAX_HEADS = 12
MAX_TOKENS = 128


class Attention(Live):
    """Patterns of a few heads. `.widget()` is the interactive view, `.png()` the static one."""

    def __init__(self, pattern: Any, tokens: list[str], heads: list[str], title: str, caption: str) -> None:
        self.title, self.caption = title, caption
        self._pattern, self._heads = pattern, heads
        self._tokens = [visible(token, width=16) for token in tokens]
        top = max(1.0, float(np.abs(pattern).max()))
        signed = bool((pattern < 0).any())
        stops = colors.DIVERGING if signed else colors.SEQUENTIAL
        self._scale = Scale(-top if signed else 0, top, stops, "attention")
        self._causal = bool((np.abs(np.triu(pattern, 1)) < 1e-6).all())
        details = [f"{len(heads)} head{'s' * (len(heads) > 1)}, {len(tokens)} tokens: {' '.join(self._tokens[:12])}"]
        details[0] += " …" if len(tokens) > 12 else ""
        details += [f"{name}: {self._strongest(values)}" for name, values in zip(heads, pattern, strict=True)]
        self.text = describe(title, caption, details)
        self.alt = f"Attention of query (up) to key (across): {title}. " + "; ".join(details[1:5]) + "."

    def _strongest(self, values: Any) -> str:
        """The three queries that attend most to a key other than the first, the attention sink."""
        inner = values.copy()
        inner[:, 0] = -np.inf
        if inner.shape[1] == 1 or inner.max() <= 0:
            return "looks at the first token only"
        order = np.argsort(-inner, axis=None, kind="stable")[:3]
        pairs = [divmod(int(i), inner.shape[1]) for i in order]
        named = [f"{self._tokens[q]} ({q}) → {self._tokens[k]} ({k}) {short(values[q, k])}" for q, k in pairs]
        return "strongest " + ", ".join(named) + f"; {short(float(values[:, 0].mean()))} on the first token"

    def png(self) -> bytes:
        """Small multiples: one map per head, query up to down, key left to right."""
        count, size = len(self._heads), len(self._tokens)
        columns = min(count, 4 if count > 6 else 3)
        named = size * columns <= 72
        step = 1 if named else max(1, round(size / 5 / 5) * 5 if size > 12 else 2)
        names = self._tokens if named else [str(i) for i in range(size)]
        panels = [(f"head {name}", table) for name, table in zip(self._heads, self._pattern, strict=True)]
        grid, marks = tables_in_grid(panels, columns)
        cells = [mark for mark in marks if isinstance(mark, Cells)]
        # Labels stand at the left of the first panel of each row, and under the last row.
        x = {float(at): names[i] for part in cells[:columns] for i, at in list(enumerate(part.centers()[0]))[::step]}
        y = {float(at): names[i] for part in cells[::columns] for i, at in list(enumerate(part.centers()[1]))[::step]}
        plain = {"line": False, "grid": False}
        longest = 5 * max(map(len, x.values()))
        panel = (self._width - 110 - longest) // columns
        rows = -(-count // columns)
        height = 66 + 18 * (8 * len(self.title) // self._width) + longest + rows * (panel + 46)
        unit = "" if named else " (position)"
        chart = Chart(
            (self._width, height),
            marks,
            Axis(f"key{unit}", x, 90 if named else 0, grid.x, **plain),
            Axis(f"query{unit}", y, 0, grid.y, **plain),
            self._scale,
            equal=True,
        )
        return png(chart, self.title)

    @property
    def _width(self) -> int:
        return {1: 460, 2: 640}.get(len(self._heads), 760)

    def html(self) -> str:
        return figure(self.png(), width=self._width, alt=self.alt, caption=self.caption)

    def widget(self) -> Any:
        """An anywidget that draws CircuitsVis' view. Script and patterns go to the page only when a view opens."""
        widget = widget_class("attention")()
        size = len(self._tokens)
        answer = {
            "kind": "patterns",
            "title": self.title,
            "caption": self.caption,
            "alt": self.alt,
            "heads": self._heads,
            "tokens": self._tokens,
            "causal": self._causal,
            "size": size,
            "top": self._scale.high,
            "width": int(min(760, max(360, 26 * size + 140))),
        }
        numbers = self._pattern.astype("<f4").tobytes()

        def reply(_: Any, content: Any, buffers: Any) -> None:
            if content == {"ask": "patterns"}:
                widget.send(answer, [numbers])
            elif content == {"ask": "script"}:
                widget.send({"kind": "script"}, [_script()])

        widget.on_msg(reply)
        return widget

    def save(self, path: str | Path) -> Path:
        """Write `.png`, or `.html` with the static picture."""
        return write_as(path, {".png": self.png, ".html": lambda: page(self.html(), self.alt)})


def attention(
    pattern: Any, tokens: Sequence[str], *, heads: Sequence[Any] | None = None, title: str, caption: str = ""
) -> Attention:
    """Which token looks at which, for 1 to 12 heads.

    pattern: [head, query, key], attention probabilities (or differences of them, from −1 to 1).
    tokens: one string per position. heads: labels such as "18.6", or (layer, head) pairs; by default 0, 1, ….
    Raises ValueError for another shape, a pattern that is not square, NaN, or more than 12 heads or 128 tokens.
    """
    values = array(pattern, "pattern", ["head", "query", "key"], limit=MAX_HEADS * 1024 * 1024)
    count, queries, keys = values.shape
    if queries != keys:
        raise ValueError(f"pattern has {queries} queries and {keys} keys; expected as many of both.")
    if count > MAX_HEADS or queries > MAX_TOKENS:
        raise ValueError(
            f"pattern has {count} heads and {queries} tokens; at most {MAX_HEADS} heads and {MAX_TOKENS} tokens can "
            "be read. Choose heads, such as pattern[[3, 7]], or the first positions, such as pattern[:, :40, :40]."
        )
    names = range(count) if heads is None else heads
    if not isinstance(names, (str, bytes)):
        names = [".".join(map(str, name)) if isinstance(name, (tuple, list)) else name for name in names]
    return Attention(
        values,
        labels(tokens, "tokens", queries),
        [visible(name, width=16) for name in labels(names, "heads", count)],
        check_text(title, "title"),
        check_text(caption, "caption"),
    )


@cache
def _script() -> bytes:
    """CircuitsVis' own script, read from its wheel.

    We never display the package's own objects: each would first ask a web address for the script, and put 1.3 MB of it
    into every output where there is no network. Nor is it imported, which would import torch.
    """
    spec = find_spec("circuitsvis")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("circuitsvis is not installed; the interactive attention view needs it.")
    return (Path(spec.submodule_search_locations[0]) / "dist" / "cdn" / "iife.js").read_bytes()
