"""Feature pages: what one latent of an SAE does, a browser for all of them, and a static page behind each.

`show` imports nothing of the course, so everything comes from a *feature index*: an object with the methods `check`,
`page`, `summary`, `ordered`, `search` and `read` of `mi_course.interp.sae.FeatureIndex`. One set of functions here
writes HTML for the widget and for the static page; every token is escaped in them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from mi_course.show import _colors as colors
from mi_course.show._data import check_text, short, visible
from mi_course.show._html import INK, LINE, SOFT, figure, prose_spans
from mi_course.show._picture import Live, describe
from mi_course.show._tokens import _glyph

METHODS = ("check", "page", "summary", "ordered", "search", "read")
LIST = 20  # latents in a list, and in each half of the results of a search
STATIC_LIST = 8
MAX_QUERY = 2_000  # characters
ORDERS = {"number": "by number", "densest": "densest first", "rarest": "rarest first", "strongest": "strongest first"}
CELL = f"padding:2px 12px 2px 0;text-align:left;vertical-align:top;border-bottom:1px solid {LINE};color:{INK}"
HEADING = f"font-weight:bold;font-size:13px;margin:10px 0 2px;color:{INK}"


class Features(Live):
    """A feature page, or with `browse` a browser that opens at one."""

    def __init__(self, sae: Any, features: Any, latent: int, *, browse: bool, title: str, caption: str) -> None:
        self.title, self.caption = title, caption
        self._sae, self._features, self._latent, self._browse = sae, features, latent, browse
        self._page = features.page(sae, latent)
        self.text = describe(title, caption, _in_words(self._page))
        self.alt = f"{title}. {_summary(self._page)}"

    def html(self) -> str:
        listed = ""
        if self._browse:
            rows = self._features.ordered("densest", 0, STATIC_LIST)
            listed = f'<div style="{HEADING}">The densest latents</div>{_table(rows, live=False)}'
        below = f'<div style="color:{SOFT};font-size:13px;margin-top:6px">{prose_spans(self.caption)}</div>'
        return (
            f'<div class="mi-features" style="max-width:900px;color:{INK}">'
            f'<div style="font-weight:bold;font-size:15px">{_text(self.title)}</div>'
            f"{_page_html(self._page, live=False)}{listed}{below if self.caption else ''}</div>"
        )

    def widget(self) -> Any:
        """An anywidget. Pages come as messages when they are asked for, never as state: notebooks stay small."""
        widget = _widget_class()()
        shown = self._latent

        def answer(ask: dict[str, Any]) -> dict[str, Any]:
            nonlocal shown
            kind, text = ask.get("ask"), str(ask.get("text", ""))[:MAX_QUERY]
            if kind == "start":
                rows = _table(self._features.ordered("number", 0, LIST), live=True) if self._browse else ""
                return {
                    **self._open(shown),
                    "title": self.title,
                    "caption": prose_spans(self.caption),
                    "alt": self.alt,
                    "browse": self._browse,
                    "can_read": bool(self._features.can_read),
                    "last": int(self._features.n_latents) - 1,
                    "orders": ORDERS,
                    "list": rows,
                }
            if kind == "page":
                shown = _number(ask.get("latent"))
                return self._open(shown)
            if kind == "random":
                shown = _any_live(self._features, shown)
                return self._open(shown)
            if kind == "list":
                rows = self._features.ordered(str(ask.get("order")), max(0, _number(ask.get("first", 0))), LIST)
                return {"html": _table(rows, live=True), "say": f"{len(rows)} latents", "more": len(rows) == LIST}
            if kind == "search":
                found = self._features.search(text, LIST)
                return {"html": _results(text, found), "say": _count(found), "more": False}
            if kind == "read":
                latent = _number(ask.get("latent"))
                return _reading(self._features.read(self._sae, text, latent), latent)
            raise ValueError(f"The page asked for {str(kind)[:40]!r}, which it cannot have.")

        def reply(_: Any, ask: Any, buffers: Any) -> None:
            if not isinstance(ask, dict) or "id" not in ask:
                return
            try:
                widget.send({"id": ask["id"], **answer(ask)})
            except Exception as error:  # in a widget's callback it would be shown nowhere
                name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                widget.send({"id": ask["id"], "error": f"{name}{error}"})

        widget.on_msg(reply)
        return widget

    def _open(self, latent: int) -> dict[str, Any]:
        page = self._page if latent == self._latent else self._features.page(self._sae, latent)
        return {"latent": page["latent"], "html": _page_html(page, live=True), "say": _summary(page)}


def feature(sae: Any, index: int, features: Any = None, *, title: str = "Feature page", caption: str = "") -> Features:
    """The feature page of one latent: density and histogram, contexts, promoted tokens, nearest latents.

    In a notebook it has a box that runs the model on a sentence of yours, if the index has a model.

    sae: any SAE with `encode` and `W_dec`. index: the latent's number.
    features: the feature index of the SAE; by default `sae.feature_index`, where `build_feature_index` and
    `load_feature_index` put it.
    Raises ValueError for an SAE without an index, an index of another SAE, or a latent that does not exist.
    """
    features = _index_of(sae, features)
    latent = features.check(sae, index)
    return Features(
        sae,
        features,
        latent,
        browse=False,
        title=check_text(title, "title"),
        caption=check_text(caption, "caption"),
    )


def feature_browser(
    sae: Any, features: Any = None, *, index: int | None = None, title: str = "Feature browser", caption: str = ""
) -> Features:
    """All latents of an SAE: lists by density and strength, search in contexts and promoted tokens, and their pages.

    index: the latent to begin with; by default the first that is active at all. sae, features and errors as in
    `feature`.
    """
    features = _index_of(sae, features)
    if index is None:
        index = _first_live(features)
    return Features(
        sae,
        features,
        features.check(sae, index),
        browse=True,
        title=check_text(title, "title"),
        caption=check_text(caption, "caption"),
    )


def _index_of(sae: Any, features: Any) -> Any:
    features = getattr(sae, "feature_index", None) if features is None else features
    if features is None:
        raise ValueError(
            "This SAE has no feature index yet. Build one, build_feature_index(sae, model, tokens, hook), or load the "
            "one beside its file, load_feature_index(folder, sae, model); both are in mi_course.interp.sae."
        )
    lacks = [name for name in METHODS if not callable(getattr(features, name, 0))]
    if lacks:
        raise ValueError(
            f"features is {type(features).__name__}, expected a feature index: what build_feature_index or "
            "load_feature_index of mi_course.interp.sae returns."
        )
    return features


def _first_live(features: Any) -> int:
    """The first latent that is active at all; 0 if none is."""
    for first in range(0, features.n_latents, 200):
        for row in features.ordered("number", first, 200):
            if row["example"] is not None:
                return int(row["latent"])
    return 0


def _any_live(features: Any, instead: int) -> int:
    """A latent at random that is active; `instead` if fifty are not."""
    draw = random.Random()  # not the global state: a lesson's seed stays
    for _ in range(50):
        latent = draw.randrange(features.n_latents)
        if features.summary(latent)["example"] is not None:
            return latent
    return instead


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{str(value)[:40]!r} is not the number of a latent; expected a whole number.")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# In words


def _percent(share: float) -> str:
    return f"{short(100 * share)} %"


def _summary(page: dict[str, Any]) -> str:
    latent, tokens = page["latent"], page["tokens"]
    if not page["count"]:
        return f"Latent {latent:,} is never active on these {tokens:,} tokens."
    return (
        f"Latent {latent:,} is active on {_percent(page['density'])} of {tokens:,} tokens, "
        f"with at most {short(page['largest'], 3)}."
    )


def _facts(page: dict[str, Any]) -> str:
    place = f"{page['model'] or 'model'}, {page['hook']}"
    if not page["count"]:
        return f"{place}. Never active on {page['tokens']:,} tokens (not counted: {page['left_out']})."
    return (
        f"{place}. Active on {_percent(page['density'])} of {page['tokens']:,} tokens ({page['count']:,}), more "
        f"than {_percent(page['denser_than'])} of the {page['n_latents']:,} latents. Where it is active: mean "
        f"{short(page['mean'], 3)}, largest {short(page['largest'], 3)}. Not counted: {page['left_out']}."
    )


def _in_words(page: dict[str, Any]) -> list[str]:
    lines = [_facts(page)]
    for group in page["groups"]:
        lines.append(_group_name(group))
        lines += [f"  {_context_words(example)}" for example in group["examples"][: 5 if group["top"] else 2]]
    for kind in ("promoted", "suppressed"):
        if page[kind]:
            words = ", ".join(f"{visible(word, width=24)} {_signed(value)}" for word, value in page[kind])
            lines.append(f"{kind}: {words}")
    if page["nearest"]:
        near = ", ".join(f"{latent} ({_signed(cosine)})" for latent, cosine in page["nearest"])
        lines.append(f"nearest latents (cosine): {near}")
    return lines


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _group_name(group: dict[str, Any]) -> str:
    if group["top"]:
        return "Strongest contexts"
    return f"Ranks {100 * group['low']:g} to {100 * group['high']:g} % of its active tokens, drawn at random"


def _context_words(example: dict[str, Any]) -> str:
    at = example["at"]
    words = "".join(visible_inside(token) for token in example["tokens"])
    return f"{short(example['values'][at], 3)} on {visible(example['tokens'][at], width=24)}: {words}"


def visible_inside(token: str) -> str:
    """A token inside a text: spaces stay, control characters are made visible."""
    return "".join(char if char == " " else visible(char) for char in token)


# ---------------------------------------------------------------------------------------------------------------------
# HTML


def _page_html(page: dict[str, Any], *, live: bool) -> str:
    parts = [
        f'<div role="heading" aria-level="3" tabindex="-1" style="font-weight:bold;font-size:15px;margin-top:8px">'
        f"Latent {page['latent']:,}</div>",
        f'<div style="color:{SOFT};font-size:13px;margin:2px 0 6px">{_text(_facts(page))}</div>',
    ]
    columns = [_histogram(page)] if page["count"] else []
    columns += [_effects(page, kind) for kind in ("promoted", "suppressed") if page[kind]]
    columns += [_nearest(page, live=live)] if page["nearest"] else []
    boxes = "".join(
        f'<div style="display:inline-block;vertical-align:top;margin:0 26px 6px 0">{column}</div>' for column in columns
    )
    parts.append(f"<div>{boxes}</div>")
    for group in page["groups"]:
        parts.append(f'<div role="heading" aria-level="4" style="{HEADING}">{_group_name(group)}</div>')
        parts += [_context(example, page["largest"]) for example in group["examples"]]
    if page["attribution"]:
        parts.append(
            f'<div style="color:{SOFT};font-size:12px;margin-top:6px">Texts: {_text(page["attribution"])}</div>'
        )
    return "".join(parts)


def _text(text: str) -> str:
    """Escaped, with invisible characters made visible, and $ kept from being read as mathematics."""
    return "".join("\n" if char == "\n" else _glyph(char) for char in text)


def _context(example: dict[str, Any], largest: float) -> str:
    strength = short(example["values"][example["at"]], 3)
    source = f"text {example['text']:,}{': ' + example['source'] if example['source'] else ''}"
    space = "" if example["tokens"][0].startswith(" ") else " "
    before, after = (f"…{space}" if example["cut"][0] else ""), (" …" if example["cut"][1] else "")
    return (
        f'<div title="{escape(visible_inside(source))}" style="font-size:13px;line-height:1.7;margin:1px 0">'
        f'<span style="color:{SOFT};display:inline-block;width:52px">{strength}</span>'
        f'<span role="img" aria-label="{escape(_context_words(example))}" dir="ltr" style="white-space:pre-wrap">'
        f"{before}{_colored(example['tokens'], example['values'], largest, example['at'])}{after}</span></div>"
    )


def _colored(tokens: Sequence[str], values: Sequence[float], largest: float, at: int | None) -> str:
    """Tokens on a ground tinted by their activation; the one at `at` is bold and underlined as well."""
    parts = []
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        inner = "".join(_glyph(char) if char != " " else " " for char in token)
        if value <= 0 and i != at:
            parts.append(inner)
            continue
        tint = colors.tint(min(1.0, value / largest) if largest > 0 else 0.0)
        strong = ";font-weight:bold;text-decoration:underline" if i == at else ""
        hover = escape(f"{visible(token, width=40)}: {value:.4g}")
        parts.append(f'<span title="{hover}" style="background-color:{tint}{strong}">{inner}</span>')
    return "".join(parts)


def _histogram(page: dict[str, Any]) -> str:
    alt = (
        f"Histogram of the activations of latent {page['latent']} where it is active, from 0 to {page['largest']:.3g}."
    )
    return figure(
        _histogram_svg(page["histogram"], page["largest"]).encode(), width=300, alt=alt, caption="", kind="svg+xml"
    )


def _histogram_svg(shares: Sequence[float], largest: float) -> str:
    left, top, width, height = 34, 8, 258, 78
    high = max(shares) or 1.0
    step = width / len(shares)
    bars = "".join(
        f'<rect x="{left + i * step + 0.5:.1f}" y="{top + height * (1 - share / high):.1f}" width="{step - 1:.1f}" '
        f'height="{height * share / high:.1f}"/>'
        for i, share in enumerate(shares)
        if share > 0
    )
    base = top + height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 124" font-family="sans-serif" font-size="11" '
        f'fill="{colors.INK}"><g fill="{colors.POSITIVE}">{bars}</g>'
        f'<path d="M{left} {base}H{left + width}" stroke="{colors.LINE}"/>'
        f'<text x="{left}" y="{base + 14}">0</text>'
        f'<text x="{left + width}" y="{base + 14}" text-anchor="end">{short(largest, 3)}</text>'
        f'<text x="{left - 4}" y="{top + 9}" text-anchor="end">{100 * high:.0f} %</text>'
        f'<text x="{left + width / 2}" y="{base + 30}" text-anchor="middle">'
        "activation (share of its active tokens)</text></svg>"
    )


def _effects(page: dict[str, Any], kind: str) -> str:
    rows = "".join(
        f'<tr><td style="padding:0 10px 0 0;text-align:left;color:{INK}">{_glyphs(word)}</td>'
        f'<td style="padding:0;text-align:right;color:{INK}">{_signed(value)}</td></tr>'
        for word, value in page[kind]
    )
    name = f"Tokens {kind}"
    how = "logits per unit of activation: W_dec, the final norm's weight and W_U, less the mean over the vocabulary"
    return (
        f'<div style="{HEADING};margin-top:0" title="{escape(how)}">{name} (logits)</div>'
        f'<table aria-label="{name}" style="border-collapse:collapse;font-size:12px;margin:0">{rows}</table>'
    )


def _glyphs(token: str) -> str:
    """A token on its own: outer spaces as ·."""
    return "".join(_glyph(char) for char in visible(token, width=24))


def _nearest(page: dict[str, Any], *, live: bool) -> str:
    rows = "".join(
        f'<tr><td style="padding:0 10px 0 0;text-align:left;color:{INK}">{_link(latent, live=live)}</td>'
        f'<td style="padding:0;text-align:right;color:{INK}">{_signed(cosine)}</td></tr>'
        for latent, cosine in page["nearest"]
    )
    return (
        f'<div style="{HEADING};margin-top:0">Nearest latents (cosine)</div>'
        f'<table aria-label="Nearest latents" style="border-collapse:collapse;font-size:12px;margin:0">{rows}</table>'
    )


def _link(latent: int, *, live: bool) -> str:
    if not live:
        return f"{latent:,}"
    name = f'data-latent="{latent}" aria-label="Open latent {latent}"'
    return f'<button type="button" class="mi-link" {name}>{latent:,}</button>'


def _table(rows: list[dict[str, Any]], *, live: bool) -> str:
    """One row for each latent: number, density, strongest context, promoted tokens."""
    names = ("latent", "density", "strongest context", "promotes")
    head = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in names)
    body = "".join(
        f'<tr><td style="{CELL}">{_link(row["latent"], live=live)}</td>'
        f'<td style="{CELL};white-space:nowrap">{_percent(row["density"])}</td>'
        f'<td style="{CELL}">{_short_context(row)}</td>'
        f'<td style="{CELL}">{" ".join(map(_glyphs, row["promoted"]))}</td></tr>'
        for row in rows
    )
    return f'<table style="border-collapse:collapse;font-size:12px;margin:4px 0"><tr>{head}</tr>{body}</table>'


def _short_context(row: dict[str, Any], reach: int = 6) -> str:
    example = row["example"]
    if example is None:
        return "never active"
    part = slice(max(0, example["at"] - reach), example["at"] + reach - 2)
    shown = _colored(example["tokens"][part], example["values"][part], row["largest"], example["at"] - part.start)
    return f'<span dir="ltr" style="white-space:pre-wrap">{shown}</span>'


def _results(query: str, found: dict[str, list[dict[str, Any]]]) -> str:
    query = _text(visible_inside(query))
    parts = []
    for name, rows in (("Active on", found["active"]), ("Promoting a token with", found["promoted"])):
        table = _table(rows, live=True) if rows else f'<div style="color:{SOFT};font-size:13px">none</div>'
        parts.append(f'<div role="heading" aria-level="4" style="{HEADING}">{name} “{query}”</div>{table}')
    return "".join(parts)


def _count(found: dict[str, list[dict[str, Any]]]) -> str:
    return (
        f"{len(found['active'])} latents active on it, {len(found['promoted'])} promoting it (at most {LIST} of each)"
    )


def _reading(reading: dict[str, Any], latent: int) -> dict[str, Any]:
    """Where the latent is active in a new sentence, and the strongest latents in it."""
    tokens, values = reading["tokens"], reading["values"]
    peak = max(values)
    at = values.index(peak)
    if peak > 0:
        say = f"Latent {latent:,}: {short(peak, 3)} on {visible(tokens[at], width=24)}"
        say += f", {_percent(peak / reading['largest'])} of its largest." if reading["largest"] > 0 else "."
    else:
        say = f"Latent {latent:,} is not active in this sentence."
    largest = max(peak, reading["largest"])
    shown = _colored(tokens, values, largest, at if peak > 0 else None)
    rows = []
    for row, active in reading["strongest"]:
        top = max(active)
        where = active.index(top)
        part = slice(max(0, where - 6), where + 5)
        inside = _colored(tokens[part], active[part], max(top, row["largest"]), where - part.start)
        rows.append(
            f'<tr><td style="{CELL}">{_link(row["latent"], live=True)}</td><td style="{CELL}">{short(top, 3)}</td>'
            f'<td style="{CELL}"><span dir="ltr" style="white-space:pre-wrap">{inside}</span></td>'
            f'<td style="{CELL}">{_short_context(row)}</td></tr>'
        )
    names = ("latent", "activation", "where", "its strongest context in the index")
    head = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in names)
    html = (
        f'<div style="font-size:14px;line-height:1.8;color:{INK}"><span role="img" aria-label="{escape(say)}" '
        f'dir="ltr" style="white-space:pre-wrap">{shown}</span></div>'
        f'<div style="color:{SOFT};font-size:13px">{_text(say)} '
        f"{reading['active']:,} latents are active somewhere in it; the strongest:</div>"
        f'<table style="border-collapse:collapse;font-size:12px;margin:4px 0"><tr>{head}</tr>{"".join(rows)}</table>'
    )
    return {"html": html, "say": say}


@cache
def _widget_class() -> type:
    import anywidget

    source = Path(__file__).with_name("features.js").read_text(encoding="utf-8")
    style = json.dumps(Path(__file__).with_name("features.css").read_text(encoding="utf-8"))

    class FeatureView(anywidget.AnyWidget):
        _esm = source.replace('const STYLE = "";', f"const STYLE = {style};")

    return FeatureView
