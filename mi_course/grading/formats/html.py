"""HTML pages that hold other people's text: all of it is escaped, and the page forbids scripts, forms and requests."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path

__all__ = ["document", "lesson_title", "prose", "text"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, body: str) -> str:
    """A whole page around this content."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f"<title>{text(title)}</title>\n<style>\n{_css()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


@cache
def _css() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def text(raw: str) -> str:
    """Escaped, with what is invisible made visible: a name must not turn round what stands beside it."""
    return escape("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in raw))


def prose(raw: str) -> str:
    """Paragraphs with `code` and **strong**, escaped."""
    from mi_course.show._html import prose as marked_up

    return marked_up("".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in raw))


def lesson_title(lesson: str) -> str:
    from mi_course.lessons import find

    try:
        info = find(lesson)
    except KeyError:
        return lesson
    return f"{info.number:02d} · {info.title}"
