"""Text with each token colored by a value."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from mi_course.show import _colors as colors
from mi_course.show._data import array, check_text, labels, number, short, visible, with_unit
from mi_course.show._html import INK, SOFT, prose_spans
from mi_course.show._picture import Shown

MAX_TOKENS = 2_000
SPACE = '<span style="opacity:0.45">·</span>'


class TokenText(Shown):
    """Tokens on a tinted ground; the value appears on hover and in the legend. Plain HTML, no scripts."""

    def __init__(
        self,
        tokens: list[str],
        values: Any,
        *,
        unit: str,
        title: str,
        caption: str,
        low: float,
        mid: float,
        high: float,
    ) -> None:
        self.title, self.caption = title, caption
        self._tokens, self._values, self._unit = tokens, values, unit
        self._low, self._mid, self._high = low, mid, high
        order = sorted(range(len(tokens)), key=lambda i: (-values[i], i))

        def describe_tokens(indices: Sequence[int]) -> str:
            return "; ".join(f"{visible(tokens[i], width=20)} ({i}): {short(float(values[i]))}" for i in indices)

        extremes = [f"highest: {describe_tokens(order[:5])}"]
        if len(order) > 5:
            extremes.append(f"lowest: {describe_tokens(order[::-1][:3])}")
        scale = f"{len(tokens)} tokens, colored from {short(low)} to {short(high)}{' ' + unit if unit else ''}"
        self.text = "\n".join(
            [title, *([caption] if caption else []), f"  {scale}", *(f"  {line}" for line in extremes)]
        )
        self.alt = f"Text colored by {unit or 'value'}: {title}. {extremes[0][0].upper()}{extremes[0][1:]}."

    def html(self) -> str:
        spans = []
        for i, (token, value) in enumerate(zip(self._tokens, self._values, strict=True)):
            hover = f"{visible(token, width=40)} (position {i}): {value:.4g} {self._unit}".rstrip()
            spans.append(
                f'<span title="{escape(hover)}" style="background-color:{colors.tint(self._share(value))};'
                f'padding:2px 0;border-right:1px solid rgba(127, 127, 127, 0.25)">{_marked(token)}</span>'
                # Where a line may break: JupyterLab takes overflow-wrap out of a notebook that is not trusted.
                + ("<br>" if token.endswith("\n") else "<wbr>")
            )
        caption = f'<div style="color:{SOFT};font-size:13px;margin-top:4px">{prose_spans(self.caption)}</div>'
        return (
            f'<div class="mi-tokens" style="max-width:900px;color:{INK}">'
            f'<div style="font-weight:bold;margin-bottom:4px">{escape(self.title)}</div>'
            f'<div style="line-height:1.9;overflow-wrap:anywhere;font-size:14px">{"".join(spans)}</div>'
            f"{self._legend()}{caption if self.caption else ''}</div>"
        )

    def _share(self, value: float) -> float:
        """Where `value` lies: −1 at the low end, 0 in the middle, +1 at the high end."""
        end = self._high if value >= self._mid else self._low
        return max(-1.0, min(1.0, (value - self._mid) / abs(end - self._mid))) if end != self._mid else 0.0

    def _legend(self) -> str:
        steps = 5
        ends = [self._low, self._high] if self._low == self._mid else [self._low, self._mid, self._high]
        count = steps * (len(ends) - 1) + 1
        places = [ends[0] + (ends[-1] - ends[0]) * i / (count - 1) for i in range(count)]
        if len(ends) == 3:
            half = [self._low + (self._mid - self._low) * i / steps for i in range(steps)]
            places = half + [self._mid + (self._high - self._mid) * i / steps for i in range(steps + 1)]
        chips = "".join(
            f'<span style="background-color:{colors.tint(self._share(place))};'
            f'padding:0 {9 if i % steps else 4}px">{escape(short(place)) if i % steps == 0 else "&nbsp;"}</span>'
            for i, place in enumerate(places)
        )
        return f'<div style="margin-top:6px;font-size:12px">{escape(with_unit("color", self._unit))}: {chips}</div>'


def tokens(
    tokens: Sequence[str],
    values: Any,
    *,
    title: str,
    unit: str = "",
    caption: str = "",
    center: float | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> TokenText:
    """Text, each token on a ground tinted by its value.

    tokens: list of strings. values: [token]. unit: what a value is, such as "nats".
    center: the value without tint; below it red, above it blue. By default 0 if there are negative values, otherwise
    the lowest value shown, so that the tint grows from there.
    vmin, vmax: the values of full tint; by default the lowest and highest (about `center`, the farther one for both).
    Raises ValueError for lengths that differ, NaN, or a vmin that is not below vmax.
    """
    shown = labels(tokens, "tokens", limit=MAX_TOKENS)
    numbers = array(values, "values", ["token"], limit=MAX_TOKENS)
    if len(numbers) != len(shown):
        raise ValueError(f"values has {len(numbers)} entries, but there are {len(shown)} tokens; expected as many.")
    low = float(numbers.min()) if vmin is None else number(vmin, "vmin")
    high = float(numbers.max()) if vmax is None else number(vmax, "vmax")
    if low > high or (low == high and vmin is not None and vmax is not None):
        raise ValueError(f"vmin is {low:g} and vmax is {high:g}; expected vmin below vmax.")
    if center is None and low < 0 < high:
        center = 0.0
    if center is None:
        mid = low if vmin is not None or low < 0 or low > 0.5 * high else 0.0
        low = mid
    else:
        mid = number(center, "center")
        reach = max(abs(low - mid), abs(high - mid)) or 1.0
        low = mid - reach if vmin is None else min(low, mid)
        high = mid + reach if vmax is None else max(high, mid)
    if high == low:
        high = low + 1.0
    return TokenText(
        shown,
        numbers,
        unit=check_text(unit, "unit"),
        title=check_text(title, "title"),
        caption=check_text(caption, "caption"),
        low=low,
        mid=mid,
        high=high,
    )


def _marked(token: str) -> str:
    """The token with invisible characters made visible, fainter than the text."""
    inner = token.strip(" ")
    start = len(token) - len(token.lstrip(" "))
    middle = "".join(_glyph(char) for char in inner)
    return SPACE * start + middle + SPACE * (len(token) - start - len(inner)) or "∅"


def _glyph(char: str) -> str:
    if char == "$":
        return "<span>$</span>"  # an element of its own, or JupyterLab would read $…$ as math
    shown = visible(char) if char != " " else " "
    return f'<span style="opacity:0.6">{escape(shown)}</span>' if shown != char else escape(char)
