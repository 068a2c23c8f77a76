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

import io
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_course.show import _colors as colors
from mi_course.show._html import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
DPI = 130  # of the static picture; shown at 100 pixels an inch, so that it is sharp on dense screens


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
        return _write(path, {".html": lambda: page(self.html(), self.alt).encode()})


class Picture(Shown):
    """A plot: the same data drawn by plotly (interactive) and by matplotlib (static)."""

    def __init__(
        self,
        *,
        title: str,
        caption: str,
        alt: str,
        details: list[str],
        size: tuple[int, int],
        draw: Callable[[Axes], None],
        data: list[dict[str, Any]],
        layout: Mapping[str, Any],
        axes_off: bool = False,
    ) -> None:
        """size: width and height in pixels. draw: puts the data on matplotlib axes. data, layout: plotly's JSON."""
        self.title, self.caption, self.alt = title, caption, alt
        self.text = "\n".join([title, *([caption] if caption else []), *(f"  {line}" for line in details)])
        self.size = size
        self._draw, self._data, self._layout, self._axes_off = draw, data, layout, axes_off

    def plotly(self) -> dict[str, Any]:
        """Plotly's JSON, with title, caption and colours."""
        return {"data": self._data, "layout": _layout(self), "config": {"displaylogo": False, "responsive": True}}

    def png(self) -> bytes:
        """The static picture; the same bytes for the same data and the same matplotlib."""

        def paint(axes: Axes) -> None:
            self._draw(axes)
            if self._axes_off:
                axes.set_axis_off()
            put_title(axes.figure, self.title)

        return render(paint, self.size)

    def html(self) -> str:
        return figure(self.png(), width=self.size[0], alt=self.alt, caption=self.caption)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {PLOTLY: self.plotly(), "text/html": self.html(), "text/plain": self.text}

    def save(self, path: str | Path) -> Path:
        """Write `.png`, or `.html`: the interactive picture with plotly inside (5 MB), which opens without network."""
        return _write(path, {".png": self.png, ".html": self._interactive_page})

    def _interactive_page(self) -> bytes:
        from plotly.io import to_html

        figure_json = self.plotly()
        config = figure_json.pop("config")
        body = to_html(figure_json, config=config, include_plotlyjs=True, full_html=False, validate=False, div_id="mi")
        return page(body, self.alt).encode()


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


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def render(paint: Callable[[Axes], None], size: tuple[int, int]) -> bytes:
    """Run `paint` on fresh axes of `size` pixels and return a small PNG without time or version in it."""

    def one(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        paint(axes)

    return render_figure(one, size)


def render_figure(paint: Callable[[Any], None], size: tuple[int, int], shades: int = 96) -> bytes:
    """As `render`, for a whole matplotlib figure, in so many colours."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    ours = {
        "font.family": ["DejaVu Sans"],
        "font.size": 10,
        "text.parse_math": False,  # a token may well be "$x$"
        "text.usetex": False,
        "axes.edgecolor": "#8c959f",
        "axes.facecolor": colors.PAPER,
        "axes.grid": False,
        "path.sketch": None,
        **{key: colors.INK for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")},
    }
    with matplotlib.rc_context(ours), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn; the hover has the sign
        picture = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=DPI, facecolor=colors.PAPER, layout="constrained")
        canvas = FigureCanvasAgg(picture)
        paint(picture)
        canvas.draw()
        pixels = Image.frombuffer("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1)
    out = io.BytesIO()
    # A palette makes the file three times smaller, and no reader sees the difference.
    pixels.convert("RGB").quantize(shades, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        out, format="PNG", optimize=True
    )
    return out.getvalue()


def put_title(figure: Any, title: str) -> None:
    """The title at the left edge, in as many lines as the figure's width asks for."""
    heading = figure.suptitle(title, fontsize=11.5, fontweight="bold", x=0.01, ha="left")
    room = 0.97 * figure.bbox.width
    for per_line in range(len(title), 15, -1):
        heading.set_text(textwrap.fill(title, per_line))
        if heading.get_window_extent().width <= room:
            break


def page(body: str, title: str) -> str:
    from html import escape

    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    start = f"<!doctype html>\n<html lang='en'><head>{head}</head>"
    return f"{start}<body style='font-family:sans-serif'>{body}</body></html>\n"


def safe_label(text: str) -> str:
    """Text for plotly, which reads tags, entities and $maths$ in every label."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def _layout(picture: Picture) -> dict[str, Any]:
    width, height = picture.size
    per_line = max(24, int(width / 7.6))
    title = textwrap.wrap(picture.title, per_line)
    caption = textwrap.wrap(picture.caption, int(per_line * 1.15))
    margin = {"l": 64, "r": 24, "t": 26 + 20 * len(title), "b": 58} | dict(picture._layout.get("margin", {}))
    layout = {
        "paper_bgcolor": colors.PAPER,
        "plot_bgcolor": colors.PAPER,
        "font": {"color": colors.INK, "size": 12},
        "width": width,
        "height": height + 18 * len(caption),
        "title": {
            "text": "<b>" + "<br>".join(safe_label(line) for line in title) + "</b>",
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 10 if len(title) == 1 else 20},  # plotly lifts several lines; seen in the browser
            "font": {"size": 15},
        },
        "hoverlabel": {"font": {"size": 13}},
        **{key: value for key, value in picture._layout.items() if key not in {"margin", "annotations"}},
    }
    annotations = list(picture._layout.get("annotations", []))
    if caption:
        annotations.append(
            {
                "text": "<br>".join(safe_label(line) for line in caption),
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "xshift": 10 - margin["l"],
                "yshift": -margin["b"] + 2,
                "align": "left",
                "showarrow": False,
                "font": {"color": colors.SOFT, "size": 12},
            }
        )
        margin["b"] += 18 * len(caption)
    return layout | {"margin": margin, "annotations": annotations}


def axis(label: str, **more: Any) -> dict[str, Any]:
    """A plotly axis with our lines and label."""
    style = {"gridcolor": colors.GRID, "linecolor": "#8c959f", "showline": True, "ticks": "outside", "zeroline": False}
    return {"title": {"text": safe_label(label), "standoff": 8}, "automargin": False, **style, **more}


def _write(path: str | Path, ways: Mapping[str, Callable[[], bytes]]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in ways:
        raise ValueError(f"{path.name!r} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(ways)}.")
    path.write_bytes(ways[path.suffix.lower()]())
    return path
