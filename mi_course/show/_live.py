"""A line plot that grows while something trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from mi_course.show._data import number, words
from mi_course.show._lines import lines
from mi_course.show._picture import PLOTLY, Picture, Shown, in_notebook


class LiveLines(Shown):
    """`update(x, loss=…, score=…)` as often as you like; drawing takes at most a tenth of the time.

    In a notebook the output is a still picture, replaced now and then, and the interactive plot at the end. In a
    terminal it is a tqdm bar if `total` is given; anywhere else nothing is shown. `.picture()` is the plot so far.
    """

    def __init__(
        self,
        *,
        xlabel: str,
        ylabel: str,
        title: str,
        caption: str = "",
        total: int | None = None,
        every_s: float = 0.7,
        marks: Sequence[tuple[float, str]] = (),
        log_y: bool = False,
    ) -> None:
        self._look = {"xlabel": words(xlabel, "xlabel"), "ylabel": words(ylabel, "ylabel")}
        self._look |= {"title": words(title, "title"), "caption": words(caption, "caption"), "log_y": log_y}
        self._marks, self._total, self._every_s = list(marks), total, every_s
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        self._handle: Any = None
        self._bar: Any = None
        self._next = 0.0
        self._closed = False

    def __enter__(self) -> LiveLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, x: float, **values: Any) -> None:
        """Add one point to each named line; `second_copy=…` is the line "second copy".

        Raises ValueError for a value that is not one finite number.
        """
        if self._closed:
            raise ValueError("update after close: make a new live_lines for a new run.")
        place = number(x, "x")
        for name, value in values.items():
            xs, ys = self._points.setdefault(name.replace("_", " "), ([], []))
            ys.append(number(value, name))
            xs.append(place)
        now = time.monotonic()
        if now < self._next:
            return
        if in_notebook():
            self._show(final=False)
        else:
            self._advance(values)
        # A slow machine draws less often, so that training keeps at least nine tenths of the time.
        self._next = time.monotonic() + max(self._every_s, 10 * (time.monotonic() - now))

    def mark(self, x: float, label: str) -> None:
        """Draw a vertical line at `x` from now on."""
        self._marks.append((number(x, "x"), words(label, "label")))

    def close(self) -> None:
        """Put the finished, interactive picture in place."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._bar.close()
        if self._points and in_notebook():
            self._show(final=True)

    def picture(self) -> Picture:
        """The plot so far. Raises ValueError before the first update."""
        if not self._points:
            raise ValueError("nothing to draw yet: call update(x, name=value) first.")
        import numpy as np

        grid = sorted({x for xs, _ in self._points.values() for x in xs})
        series = {name: np.interp(grid, *_sorted(xs, ys)) for name, (xs, ys) in self._points.items()}
        return lines(grid[-20_000:], {n: v[-20_000:] for n, v in series.items()}, marks=self._marks, **self._look)

    @property
    def text(self) -> str:
        return self.picture().text if self._points else f"{self._look['title']}\n  no points yet"

    @property
    def alt(self) -> str:
        return self.picture().alt if self._points else self._look["title"]

    def html(self) -> str:
        return self.picture().html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if self._closed and self._handle is not None:
            return {"text/plain": ""}  # it is on the page already
        return self.picture()._repr_mimebundle_() if self._points else {"text/plain": self.text}

    def _show(self, *, final: bool) -> None:
        from IPython.display import display

        bundle = self.picture()._repr_mimebundle_()
        if not final:
            bundle.pop(PLOTLY)  # JupyterLab's plotly view is not redrawn when its output is replaced
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _advance(self, values: dict[str, Any]) -> None:
        if self._total is None or not sys.stderr.isatty():
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=self._total, desc=self._look["title"])
        xs, _ = next(iter(self._points.values()))
        self._bar.n = min(int(xs[-1]), self._total)
        self._bar.set_postfix({name: f"{float(value):.3g}" for name, value in values.items()})


def live_lines(
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
    total: int | None = None,
    every_s: float = 0.7,
    marks: Sequence[tuple[float, str]] = (),
    log_y: bool = False,
) -> LiveLines:
    """A line plot that grows while something trains.

        with show.live_lines(xlabel="step", ylabel="loss (nats)", title="The loss falls at once", total=1000) as live:
            for step in range(1000):
                live.update(step, loss=train_step(...))

    total: last x, for the bar in a terminal. every_s: least seconds between two drawings.
    """
    return LiveLines(
        xlabel=xlabel,
        ylabel=ylabel,
        title=title,
        caption=caption,
        total=total,
        every_s=every_s,
        marks=marks,
        log_y=log_y,
    )


def _sorted(xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    order = sorted(range(len(xs)), key=xs.__getitem__)
    return [xs[i] for i in order], [ys[i] for i in order]
