"""Attention patterns: CircuitsVis' interactive view while a kernel runs, a picture of every head otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mi_course.show import _colors as colors
from mi_course.show._data import array, labels, short, visible, words
from mi_course.show._html import figure
from mi_course.show._picture import Live, _write, page, put_title, render_figure

MAX_HEADS = 12
MAX_TOKENS = 128
WHITE_TO_BLUE = ["#ffffff", "#b3d4ec", "#4a98cf", "#08519c", "#08306b"]


class Attention(Live):
    """Patterns of a few heads. `.widget()` is the interactive view, `.png()` the static one."""

    def __init__(self, pattern: Any, tokens: list[str], heads: list[str], title: str, caption: str) -> None:
        self.title, self.caption = title, caption
        self._pattern, self._heads = pattern, heads
        self._tokens = [visible(token, width=16) for token in tokens]
        self._causal = bool((np.abs(np.triu(pattern, 1)) < 1e-6).all())
        details = [f"{len(heads)} head{'s' * (len(heads) > 1)}, {len(tokens)} tokens: {' '.join(self._tokens[:12])}"]
        details[0] += " …" if len(tokens) > 12 else ""
        details += [f"{name}: {self._strongest(values)}" for name, values in zip(heads, pattern, strict=True)]
        self.text = "\n".join([title, *([caption] if caption else []), *(f"  {line}" for line in details)])
        self.alt = f"Attention of query (up) to key (across): {title}. " + "; ".join(details[1:5]) + "."

    def _strongest(self, values: Any) -> str:
        """The three queries that look hardest at a key other than the first, which is where idle heads rest."""
        inner = values.copy()
        inner[:, 0] = -np.inf
        if inner.shape[1] == 1 or inner.max() <= 0:
            return "looks at the first token only"
        order = np.argsort(-inner, axis=None, kind="stable")[:3]
        pairs = [divmod(int(i), inner.shape[1]) for i in order]
        said = [f"{self._tokens[q]} ({q}) → {self._tokens[k]} ({k}) {short(values[q, k])}" for q, k in pairs]
        return "strongest " + ", ".join(said) + f"; {short(float(values[:, 0].mean()))} on the first token"

    def png(self) -> bytes:
        """Small multiples: one map per head, query up to down, key left to right."""
        count, size = len(self._heads), len(self._tokens)
        columns = min(count, 4 if count > 6 else 3)
        rows = -(-count // columns)

        def paint(fig: Any) -> None:
            from matplotlib.colors import LinearSegmentedColormap

            top = max(1.0, float(np.abs(self._pattern).max()))
            signed = bool((self._pattern < 0).any())
            scale = LinearSegmentedColormap.from_list("mi", colors.DIVERGING if signed else WHITE_TO_BLUE)
            grid = fig.subplots(rows, columns, squeeze=False)
            named = size * columns <= 72
            step = 1 if named else max(1, round(size / 5 / 5) * 5 if size > 12 else 2)
            ticks = list(range(0, size, step))
            for i, axes in enumerate(grid.flat):
                if i >= count:
                    axes.set_axis_off()
                    continue
                image = axes.imshow(
                    self._pattern[i], cmap=scale, vmin=-top if signed else 0, vmax=top, interpolation="nearest"
                )
                axes.set_title(f"head {self._heads[i]}", fontsize=10)
                said = [self._tokens[t] for t in ticks] if named else [str(t) for t in ticks]
                axes.set_xticks(ticks, said, rotation=90 if named else 0, fontsize=8)
                axes.set_yticks(ticks, said if i % columns == 0 else [""] * len(ticks), fontsize=8)
                axes.tick_params(length=2, color="#8c959f")
                if i // columns == rows - 1:
                    axes.set_xlabel("key" if named else "key (position)", fontsize=9)
                if i % columns == 0:
                    axes.set_ylabel("query" if named else "query (position)", fontsize=9)
            bar = fig.colorbar(image, ax=grid, fraction=0.03, pad=0.02)
            bar.set_label("attention")
            bar.outline.set_visible(False)
            put_title(fig, self.title)

        width = {1: 460, 2: 640}.get(columns, 760)
        longest = max(map(len, self._tokens)) if size * columns <= 72 else 3
        each = (width - 110 - 5 * longest) // columns
        lines = 1 + 8 * len(self.title) // width
        return render_figure(paint, (width, 24 + 18 * lines + 5 * longest + rows * (each + 46)), shades=96)

    def html(self) -> str:
        width = {1: 460, 2: 640}.get(min(len(self._heads), 3), 760)
        return figure(self.png(), width=width, alt=self.alt, caption=self.caption)

    def widget(self) -> Any:
        """An anywidget that draws CircuitsVis' view. Script and patterns go to the page only when a view opens."""
        widget = _widget_class()()
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
            "top": max(1.0, float(np.abs(self._pattern).max())),
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
        return _write(path, {".png": self.png, ".html": lambda: page(self.html(), self.alt).encode()})


def attention(
    pattern: Any, tokens: Sequence[str], *, heads: Sequence[Any] | None = None, title: str, caption: str = ""
) -> Attention:
    """Which token looks at which, for 1 to 12 heads.

    pattern: [head, query, key], attention probabilities (or differences of them, from −1 to 1).
    tokens: one string per position. heads: labels such as "18.6", or (layer, head) pairs; by default 0, 1, ….
    Raises ValueError for another shape, a pattern that is not square, NaN, or more than 12 heads or 128 tokens.
    """
    values = array(pattern, "pattern", ["head", "query", "key"], most=MAX_HEADS * 1024 * 1024)
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
        words(title, "title"),
        words(caption, "caption"),
    )


@cache
def _script() -> bytes:
    """CircuitsVis' own bundle, read from its wheel. The package itself is not imported: it would pull in torch."""
    spec = find_spec("circuitsvis")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("circuitsvis is not installed; the interactive attention view needs it.")
    return (Path(spec.submodule_search_locations[0]) / "dist" / "cdn" / "iife.js").read_bytes()


@cache
def _widget_class() -> type:
    import anywidget

    source = Path(__file__).with_name("attention.js").read_text(encoding="utf-8")
    style = json.dumps(Path(__file__).with_name("attention.css").read_text(encoding="utf-8"))

    class AttentionView(anywidget.AnyWidget):
        _esm = source.replace('const STYLE = "";', f"const STYLE = {style};")

    return AttentionView
