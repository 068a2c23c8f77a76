"""Pictures that change during training: a line plot that grows, vectors that move."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mi_course.show._data import check_text, number
from mi_course.show._lines import lines
from mi_course.show._picture import PLOTLY, Picture, Shown, in_notebook
from mi_course.show._vectors import vectors


class LivePicture(Shown):
    """An output that is redrawn now and then; drawing takes at most a tenth of the time."""

    EMPTY: str  # the description before the first update

    def __init__(self, every_s: float, **look: Any) -> None:
        """look: arguments of the picture that stay the same, the title among them."""
        self._look = look
        self._every_s = every_s
        self._handle: Any = None
        self._next = 0.0
        self._closed = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def picture(self) -> Picture:
        """The picture so far. Raises ValueError before the first update."""
        raise NotImplementedError

    def close(self) -> None:
        """Put the finished, interactive picture in place."""
        if not self._closed and not self._is_empty() and in_notebook():
            self._show(final=True)
        self._closed = True

    @property
    def text(self) -> str:  # type: ignore[override]
        return f"{self._look['title']}\n  {self.EMPTY}" if self._is_empty() else self.picture().text

    @property
    def alt(self) -> str:  # type: ignore[override]
        return self._look["title"] if self._is_empty() else self.picture().alt

    def html(self) -> str:
        return self.picture().html()

    def _is_empty(self) -> bool:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if self._closed and self._handle is not None:
            return {"text/plain": ""}  # it is on the page already
        return {"text/plain": self.text} if self._is_empty() else self.picture()._repr_mimebundle_()

    def _open(self) -> None:
        if self._closed:
            raise ValueError("update after close: make a new one for a new run.")

    def _now_and_then(self, draw: Callable[[], None]) -> None:
        """A slow machine draws less often, so that training keeps at least nine tenths of the time."""
        now = time.monotonic()
        if now < self._next:
            return
        draw()
        self._next = time.monotonic() + max(self._every_s, 10 * (time.monotonic() - now))

    def _show(self, *, final: bool) -> None:
        from IPython.display import display

        bundle = self.picture()._repr_mimebundle_()
        if not final:
            bundle.pop(PLOTLY)  # JupyterLab's plotly view is not redrawn when its output is replaced
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class LiveLines(LivePicture):
    """`update(x, loss=…, score=…)` as often as you like; drawing takes at most a tenth of the time.

    In a notebook the output is a still picture, replaced now and then, and the interactive plot at the end. In a
    terminal it is a tqdm bar if `total` is given; anywhere else nothing is shown. `.picture()` is the plot so far.
    """

    EMPTY = "no points yet"

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
        texts = {"xlabel": xlabel, "ylabel": ylabel, "title": title, "caption": caption}
        super().__init__(every_s, **{name: check_text(text, name) for name, text in texts.items()}, log_y=log_y)
        self._marks, self._total = list(marks), total
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        self._bar: Any = None

    def update(self, x: float, **values: Any) -> None:
        """Add one point to each named line; `second_copy=…` is the line "second copy".

        Raises ValueError for a value that is not one finite number.
        """
        self._open()
        place = number(x, "x")
        for name, value in values.items():
            xs, ys = self._points.setdefault(name.replace("_", " "), ([], []))
            ys.append(number(value, name))
            xs.append(place)
        self._now_and_then(lambda: self._show(final=False) if in_notebook() else self._advance(values))

    def mark(self, x: float, label: str) -> None:
        """Draw a vertical line at `x` from now on."""
        self._marks.append((number(x, "x"), check_text(label, "label")))

    def close(self) -> None:
        """Put the finished, interactive picture in place."""
        if self._bar is not None:
            self._bar.close()
        super().close()

    def picture(self) -> Picture:
        """The plot so far. Raises ValueError before the first update."""
        if not self._points:
            raise ValueError("nothing to draw yet: call update(x, name=value) first.")
        import numpy as np

        grid = sorted({x for xs, _ in self._points.values() for x in xs})
        series = {name: np.interp(grid, *_sorted(xs, ys)) for name, (xs, ys) in self._points.items()}
        return lines(grid[-20_000:], {n: v[-20_000:] for n, v in series.items()}, marks=self._marks, **self._look)

    def _is_empty(self) -> bool:
        return not self._points

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


class LiveVectors(LivePicture):
    """`update(step, panels)` as often as you like. In a notebook the output is a still picture, replaced now and then,
    and the interactive one at the end; elsewhere nothing is shown. `.picture()` is the state of the last update."""

    EMPTY = "no vectors yet"

    def __init__(self, *, title: str, caption: str = "", every_s: float = 0.4, across: int | None = None) -> None:
        super().__init__(every_s, title=check_text(title, "title"), across=across)
        self._caption = check_text(caption, "caption")
        self._state: tuple[float, dict[str, Any], list[str] | None] | None = None

    def update(self, step: float, panels: Mapping[str, Any], notes: Sequence[str] | None = None) -> None:
        """Move the vectors: panels and notes as in `show.vectors`. Raises ValueError as that does."""
        self._open()
        self._state = number(step, "step"), dict(panels), None if notes is None else list(notes)
        if self._handle is None:
            self.picture()  # raises at once for what cannot be drawn, in a notebook or not
        self._now_and_then(lambda: self._show(final=False) if in_notebook() else None)

    def picture(self) -> Picture:
        """The state of the last update. Raises ValueError before the first one."""
        if self._state is None:
            raise ValueError("nothing to draw yet: call update(step, panels) first.")
        step, panels, notes = self._state
        caption = f"Step {step:,.0f}. {self._caption}".strip()
        return vectors(panels, notes=notes, caption=caption, **self._look)

    def _is_empty(self) -> bool:
        return self._state is None


def live_vectors(*, title: str, caption: str = "", every_s: float = 0.4, across: int | None = None) -> LiveVectors:
    """Vectors that move while something trains, in panels side by side.

        with show.live_vectors(title="Five features find their places") as live:
            for state in training(...):
                live.update(state.step, {"sparse": state.W[0], "dense": state.W[1]})

    every_s: least seconds between two drawings. across: panels in a row.
    """
    return LiveVectors(title=title, caption=caption, every_s=every_s, across=across)


def _sorted(xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    order = sorted(range(len(xs)), key=xs.__getitem__)
    return [xs[i] for i in order], [ys[i] for i in order]
