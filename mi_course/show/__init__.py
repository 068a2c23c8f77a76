"""Pictures and widgets: they take plain data, draw themselves in Jupyter, and leave a static picture behind.

Every function returns an object that shows itself as the last line of a cell, has `.text` (a deterministic
description in words, which is also its `str`), `.alt` (the alternative text) and, where there is something to draw,
`.save("picture.png")` or `.save("picture.html")`. Lists, numpy arrays and tensors are all accepted.

    show.head_heatmap(scores, title="Induction heads sit in the last third", unit="attention")
    show.attention(pattern, tokens, heads=["18.6", "17.3"], title="18.6 looks one past the first copy")
    show.feature_browser(sae)                                  docs/feature-browser.md

Nothing of the course is imported here, and numpy, matplotlib and ipywidgets only when a picture needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mi_course.show._attention import attention
    from mi_course.show._cards import note_card, verdict_card
    from mi_course.show._features import feature, feature_browser
    from mi_course.show._graph import graph
    from mi_course.show._heatmaps import head_heatmap, heatmap, heatmaps
    from mi_course.show._layer_map import layer_map
    from mi_course.show._lines import lines
    from mi_course.show._live import live_lines, live_vectors
    from mi_course.show._overview import progress_overview
    from mi_course.show._points import bars, histogram, scatter
    from mi_course.show._slider import slider_panel
    from mi_course.show._table import table
    from mi_course.show._tokens import tokens
    from mi_course.show._vectors import vectors

# Modules carry an underscore: a module named like its function would replace it once imported.
_HOME = {
    "attention": "_attention",
    "bars": "_points",
    "feature": "_features",
    "feature_browser": "_features",
    "graph": "_graph",
    "head_heatmap": "_heatmaps",
    "heatmap": "_heatmaps",
    "heatmaps": "_heatmaps",
    "histogram": "_points",
    "layer_map": "_layer_map",
    "lines": "_lines",
    "live_lines": "_live",
    "live_vectors": "_live",
    "note_card": "_cards",
    "progress_overview": "_overview",
    "scatter": "_points",
    "slider_panel": "_slider",
    "table": "_table",
    "tokens": "_tokens",
    "vectors": "_vectors",
    "verdict_card": "_cards",
}

__all__ = [
    "attention",
    "bars",
    "feature",
    "feature_browser",
    "graph",
    "head_heatmap",
    "heatmap",
    "heatmaps",
    "histogram",
    "layer_map",
    "lines",
    "live_lines",
    "live_vectors",
    "note_card",
    "progress_overview",
    "scatter",
    "slider_panel",
    "table",
    "tokens",
    "vectors",
    "verdict_card",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
