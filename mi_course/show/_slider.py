"""What a model writes when a vector is added, by text, layer and coefficient. A table where widgets do not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from mi_course.show._data import check_text, number
from mi_course.show._html import INK, LINE, SOFT, prose_spans
from mi_course.show._picture import Live

Row = tuple[float, str, float]
Respond = Callable[[str, int, float], tuple[str, float]]
INSIDE, OUTSIDE = "#2a8a4a", "#b35900"


class SliderPanel(Live):
    """A slider for a coefficient, a text and a layer; `respond(text, layer, coefficient)` completes the text."""

    def __init__(
        self,
        respond: Respond,
        rows: Sequence[Row],
        *,
        text: str,
        layer: int,
        n_layers: int,
        low: float,
        high: float,
        coherent: tuple[float, float],
        unit: str,
        title: str,
        caption: str,
    ) -> None:
        self.title, self.caption = title, caption
        self._respond, self._rows, self._prompt, self._layer = respond, list(rows), text, layer
        self._n_layers, self._low, self._high, self._coherent, self._unit = n_layers, low, high, coherent, unit
        lines = [title, f"  layer {layer}, text {text!r}; coherent from {coherent[0]:g} to {coherent[1]:g}"]
        lines += [f"  {c:+.2f}  {value:+5.1f} {unit}  {text}{written}" for c, written, value in self._rows]
        self.text = "\n".join(lines)
        first, last = self._rows[0], self._rows[-1]
        self.alt = (
            f"Table of what the model writes after {text!r} at {len(self._rows)} coefficients: {title}. "
            f"{unit} {first[2]:+.1f} at {first[0]:+g}, {last[2]:+.1f} at {last[0]:+g}."
        )

    def html(self) -> str:
        cell = f"padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid {LINE};color:{INK}"
        head = "".join(f'<th style="{cell}">{escape(name)}</th>' for name in ("coefficient", self._unit, "completion"))
        body = "".join(
            f'<tr><td style="{cell};white-space:nowrap">{c:+.2f} {self._mark(c)}</td>'
            f'<td style="{cell}">{value:+.1f}</td>'
            f'<td style="{cell}"><span style="color:{SOFT}">{escape(self._prompt)}</span>{escape(written)}</td></tr>'
            for c, written, value in self._rows
        )
        return (
            f'<div class="mi-slider" style="max-width:820px;color:{INK}"><div style="font-weight:bold">'
            f'{escape(self.title)}</div><div style="color:{SOFT};font-size:13px;margin:2px 0">Layer {self._layer}. '
            f"{prose_spans(self.caption)}</div>"
            f'<table style="border-collapse:collapse;font-size:13px;margin:4px 0"><tr>{head}</tr>{body}</table></div>'
        )

    def _mark(self, coefficient: float) -> str:
        inside = self._coherent[0] <= coefficient <= self._coherent[1]
        word, color = ("coherent", INSIDE) if inside else ("outside", OUTSIDE)
        return f'<span style="color:{SOFT};border-bottom:2px solid {color};font-size:11px">{word}</span>'

    def widget(self) -> Any:
        """Text, layer and coefficient; below them the completion and its log-odds, recomputed at each change."""
        import ipywidgets

        style = {"description_width": "90px"}
        text = ipywidgets.Text(self._prompt, description="text", style=style, layout={"width": "620px"})
        text.continuous_update = False
        layer = ipywidgets.IntSlider(
            self._layer, 0, self._n_layers - 1, description="layer", style=style, layout={"width": "620px"}
        )
        slider = ipywidgets.FloatSlider(
            0.0,
            min=self._low,
            max=self._high,
            step=0.25,
            description="coefficient",
            readout_format="+.2f",
            style=style,
            layout={"width": "620px"},
        )
        layer.continuous_update = slider.continuous_update = False
        shown = ipywidgets.HTML()
        cached = {(self._prompt, self._layer, c): (written, value) for c, written, value in self._rows}

        def refresh(_: Any = None) -> None:
            inputs = text.value, layer.value, slider.value
            if inputs not in cached:
                shown.value = f'<span style="color:{SOFT}">writing …</span>'
                try:
                    cached[inputs] = self._respond(*inputs)
                except Exception as error:  # an error in a widget's callback would be shown nowhere
                    shown.value = (
                        f'<span style="color:{INK}">{escape(type(error).__name__)}: {escape(str(error))}</span>'
                    )
                    return
            written, value = cached[inputs]
            shown.value = (
                f'<div style="color:{INK};min-height:4.5em;max-width:720px">'
                f'<span style="color:{SOFT}">{escape(inputs[0])}</span><strong>{escape(written)}</strong></div>'
                f'<div style="color:{INK}">{escape(self._unit)} <strong>{value:+.1f}</strong> '
                f"{self._mark(inputs[2])}</div>"
            )

        for control in (text, layer, slider):
            control.observe(refresh, "value")
        refresh()
        heading = ipywidgets.HTML(f'<div style="font-weight:bold;color:{INK}">{escape(self.title)}</div>')
        below = ipywidgets.HTML(f'<div style="color:{SOFT};font-size:13px">{prose_spans(self.caption)}</div>')
        box = ipywidgets.VBox([heading, text, layer, slider, self._scale(ipywidgets), shown, below])
        box.layout.max_width = "860px"
        box.add_class("mi-live")
        return box

    def _scale(self, ipywidgets: Any) -> Any:
        """A bar below the slider that marks where the text is still coherent."""
        span = self._high - self._low
        left, right = (100 * (c - self._low) / span for c in self._coherent)
        return ipywidgets.HTML(
            f'<div style="margin-left:104px;width:430px;color:{SOFT};font-size:11px">'
            f'<div style="height:6px;border-radius:3px;background:linear-gradient(to right,{OUTSIDE}66 {left:.0f}%,'
            f'{INSIDE} {left:.0f}%,{INSIDE} {right:.0f}%,{OUTSIDE}66 {right:.0f}%)"></div>'
            f"coherent from {self._coherent[0]:+g} to {self._coherent[1]:+g}</div>"
        )


def slider_panel(
    respond: Respond,
    rows: Sequence[Row],
    *,
    text: str,
    layer: int,
    n_layers: int,
    low: float = -2.0,
    high: float = 2.0,
    coherent: tuple[float, float],
    unit: str = "log-odds (nats)",
    title: str,
    caption: str = "",
) -> SliderPanel:
    """What a model writes at the coefficient of a slider.

    respond: (text, layer, coefficient) to (completion, number). rows: (coefficient, completion, number) for `text` at
    `layer`, the static table. coherent: the part of low … high in which the text still makes sense.
    Raises ValueError for no rows, or a coherent range that is not inside low … high.
    """
    if not rows:
        raise ValueError("rows is empty; expected (coefficient, completion, number) triples for the static table.")
    if not low <= coherent[0] < coherent[1] <= high:
        raise ValueError(f"coherent is {coherent}, expected a range inside {low:g} … {high:g}.")
    checked = [(number(c, "rows"), str(written), number(value, "rows")) for c, written, value in rows]
    return SliderPanel(
        respond,
        checked,
        text=check_text(text, "text"),
        layer=layer,
        n_layers=n_layers,
        low=low,
        high=high,
        coherent=coherent,
        unit=check_text(unit, "unit"),
        title=check_text(title, "title"),
        caption=check_text(caption, "caption"),
    )
