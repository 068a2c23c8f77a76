"""Small pieces of HTML that survive Jupyter's sanitizer: inline styles, no scripts, everything escaped."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from html import escape

# Inline styles, since <style> is removed in a notebook that is not trusted. A variable of JupyterLab's theme comes
# with a value for pages that have none.
INK = "var(--jp-content-font-color1, inherit)"
SOFT = "var(--jp-content-font-color2, inherit)"
LINE = "var(--jp-border-color1, #8c959f)"
GROUND = "rgba(127, 127, 127, 0.14)"  # over whatever the theme has
MONO = "font-family:var(--jp-code-font-family, ui-monospace, monospace);font-size:0.92em"

CODE_BLOCK = re.compile(r"```[ ]*(\w*)[ ]*\n(.*?)\n?```", re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
STRONG = re.compile(r"\*\*([^*\n]+)\*\*")
EMPHASIS = re.compile(r"(?<![\w*])\*([^\s*](?:[^*\n]*[^\s*])?)\*(?![\w*])")


# Pictures have a transparent ground and middle tones, which read on any page. Where JupyterLab's theme is known, and
# styles are allowed, they become darker or brighter with it.
FIGURE_STYLE = "".join(
    f'<style>[data-jp-theme-light="{light}"] .mi-figure img{{filter:brightness({factor})}}</style>'
    for light, factor in (("true", 0.7), ("false", 1.4))
).replace("</style><style>", "")


def figure(image: bytes, *, width: int, alt: str, caption: str, kind: str = "png") -> str:
    """A picture with its caption. kind: "png", or "svg+xml"."""
    data = base64.b64encode(image).decode("ascii")
    below = f'<figcaption style="color:{SOFT};font-size:13px;margin:2px 4px 6px">{prose_spans(caption)}</figcaption>'
    return (
        f'{FIGURE_STYLE}<figure class="mi-figure" style="display:inline-block;margin:0;max-width:{width}px">'
        f'<img alt="{escape(alt)}" width="{width}" style="max-width:100%;height:auto" '
        f'src="data:image/{kind};base64,{data}">{below if caption else ""}</figure>'
    )


def prose_spans(text: str) -> str:
    """One paragraph: `code`, **strong** and *emphasis* are marked up, everything else is escaped."""
    parts = []
    for i, piece in enumerate(CODE_SPAN.split(text)):
        if i % 2:
            code_style = f"{MONO};padding:0 3px;border-radius:3px;background-color:{GROUND}"
            parts.append(f'<code style="{code_style}">{escape(piece)}</code>')
        else:
            strong = STRONG.sub(r"<strong>\1</strong>", escape(piece))
            parts.append(EMPHASIS.sub(r"<em>\1</em>", strong))
    return "".join(parts).replace("\n", "<br>")


def prose(text: str) -> str:
    """Paragraphs, separated by blank lines, with `code`, **strong** and fenced code blocks."""
    parts, end = [], 0
    for block in CODE_BLOCK.finditer(text):
        parts += [_paragraphs(text[end : block.start()]), code_block(block[2], block[1] or "python")]
        end = block.end()
    return "".join([*parts, _paragraphs(text[end:])])


def _paragraphs(text: str) -> str:
    pieces = [piece.strip() for piece in re.split(r"\n\s*\n", text)]
    return "".join(f'<p style="margin:4px 0">{prose_spans(piece)}</p>' for piece in pieces if piece)


def code_block(code: str, language: str = "python") -> str:
    """Code in colors that read on a light and on a dark ground; plain without pygments."""
    body = escape(code)
    if language in {"python", "py"}:
        with suppress(ImportError):
            body = _colored(code)
    style = f"{MONO};margin:6px 0;padding:8px 10px;border-radius:4px;overflow-x:auto;background-color:{GROUND}"
    return f'<pre style="{style};white-space:pre;color:{INK}">{body}</pre>'


def _colored(code: str) -> str:
    from pygments.lexers import PythonLexer
    from pygments.token import Comment, Keyword, Operator, String

    # Theme variables, with middle tones as fallback. JupyterLab's own tones for comments and
    # numbers have too little contrast on this ground.
    tones = [
        (Comment, INK, ";font-style:italic"),
        (Operator.Word, "var(--jp-mirror-editor-keyword-color, #2e8b3d)", ";font-weight:bold"),
        (Keyword, "var(--jp-mirror-editor-keyword-color, #2e8b3d)", ";font-weight:bold"),
        (String, "var(--jp-mirror-editor-string-color, #c4472f)", ""),
    ]
    parts = []
    for kind, piece in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code):
        tone = next(((color, more) for family, color, more in tones if kind in family), None)
        text = escape(piece)
        parts.append(f'<span style="color:{tone[0]}{tone[1]}">{text}</span>' if tone and piece.strip() else text)
    return "".join(parts)
