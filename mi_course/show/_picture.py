"""What every picture is: an interactive view and a static one in the same output, and words for those who see neither.

What JupyterLab 4.6 does with an output was read in its source and seen in a browser:

- `application/vnd.plotly.v1+json` is drawn by the extension that plotly's wheel installs, from local files, in trusted
  *and* in untrusted notebooks. It comes before `text/html`, which comes before `image/png`.
- If the output also holds `image/png`, that extension shows the image until the pointer enters it. So no `image/png`
  is put there: the picture lives inside the HTML figure, with caption and alternative text, for pages without plotly.
- A widget whose model is gone (a notebook opened again) shows "model not found" and hides every other form in the same
  output. So widgets stand in an output of their own, next to a static one: see `Live`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from mi_course.show._chart import Chart
from mi_course.show._data import check_text
from mi_course.show._html import figure

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"


class Shown:
    """Shows itself in Jupyter; elsewhere it is its text."""

    text: str
    alt: str

    def html(self) -> str:
        """The static form: HTML with inline styles, no scripts."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/html": self.html(), "text/plain": self.text}

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def save(self, path: str | Path) -> Path:
        """Write a page that opens without network. Raises ValueError for an ending other than .html."""
        return write_as(path, {".html": lambda: page(self.html(), self.alt)})


class Picture(Shown):
    """A chart with its words: drawn by plotly (interactive) and by matplotlib (static)."""

    def __init__(self, chart: Chart, *, title: str, caption: str, alt: str, details: Sequence[str]) -> None:
        """details: lines of the description. Raises ValueError for an empty title, or a caption that is no string."""
        self.chart, self.title, self.caption = chart, check_text(title, "title"), check_text(caption, "caption")
        self.alt, self.text = alt, describe(title, caption, details)

    def plotly(self) -> dict[str, Any]:
        """Plotly's JSON, with title, caption and colors."""
        from mi_course.show import _plotly

        return _plotly.figure(self.chart, self.title, self.caption)

    def png(self) -> bytes:
        """The static picture; the same bytes for the same data and the same matplotlib."""
        from mi_course.show import _static

        return _static.png(self.chart, self.title)

    def html(self) -> str:
        return figure(self.png(), width=self.chart.size[0], alt=self.alt, caption=self.caption)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {PLOTLY: self.plotly(), **super()._repr_mimebundle_()}

    def save(self, path: str | Path) -> Path:
        """Write `.png`, or `.html`: the interactive picture with plotly inside (5 MB), which opens without network."""
        return write_as(path, {".png": self.png, ".html": self._interactive_page})

    def _interactive_page(self) -> bytes:
        from plotly.io import to_html

        view = self.plotly()
        config = view.pop("config")
        body = to_html(view, config=config, include_plotlyjs=True, full_html=False, validate=False, div_id="mi")
        return page(body, self.alt)


class Live(Shown):
    """A widget with a static picture beside it, as two outputs.

    The style below shows one of them: the widget while it lives, the picture otherwise (a notebook
    opened again). The widget marks itself with the class `mi-live` once there is something to see. In an
    untrusted notebook and on other pages the style is removed or idle, and the picture is there.
    """

    STYLE = (
        "<style>"
        ".jp-OutputArea-child:has(.mi-static):has(+ .jp-OutputArea-child .mi-live){display:none}"
        ".jp-OutputArea-child:has(.mi-static) + .jp-OutputArea-child"
        ">.jp-OutputArea-output:not(:has(.mi-live)){position:absolute;width:1px;height:1px;overflow:hidden}"
        "</style>"
    )

    def widget(self) -> Any:
        """A fresh widget."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/html": f'{self.STYLE}<div class="mi-static">{self.html()}</div>', "text/plain": self.text}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)
        if not in_notebook():
            return
        try:
            widget = self.widget()
        except ImportError:
            return  # the static picture is there
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        display({WIDGET: view}, raw=True)


@cache
def widget_class(name: str) -> type:
    """The anywidget of `name.js`, in the style of `name.css`. Raises ImportError where anywidget is missing."""
    import anywidget

    script, style = (Path(__file__).with_name(f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    script = script.replace('const STYLE = "";', f"const STYLE = {json.dumps(style)};")
    return type(f"{name.title()}View", (anywidget.AnyWidget,), {"_esm": script})


def describe(title: str, caption: str, details: Sequence[str]) -> str:
    """The description of a picture in words: title, caption and indented details."""
    return "\n".join([title, *([caption] if caption else []), *(f"  {line}" for line in details)])


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def page(body: str, title: str) -> bytes:
    """A whole HTML page, which follows the reader's light or dark mode."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    start = f"<!doctype html>\n<html lang='en' style='color-scheme:light dark'><head>{head}</head>"
    return f"{start}<body style='font-family:sans-serif'>{body}</body></html>\n".encode()


def write_as(path: str | Path, writers: Mapping[str, Callable[[], bytes]]) -> Path:
    """Write the file with the writer for its ending. Raises ValueError for any other ending."""
    path = Path(path)
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path.name!r} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(writers)}.")
    path.write_bytes(writers[path.suffix.lower()]())
    return path
