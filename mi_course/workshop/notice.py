"""A message from the leads, above the verdict card that it comes with.

The notebook never holds its text. A widget asks the kernel for it when it is drawn, and gets it as a message that is
part of neither the widget's state nor the output. What is saved is one line that says that there was a message.
"""

from __future__ import annotations

from html import escape
from typing import Any

from mi_course.show._html import SOFT
from mi_course.show._picture import Live, in_notebook

__all__ = ["prepare", "show"]

SAVED = "A message from the workshop was shown here."

SCRIPT = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.setAttribute("role", "status");
  box.style.cssText = "border-left:5px solid #3b78c4;background-color:rgba(59,120,196,.12);padding:8px 14px;" +
    "margin:2px 0;border-radius:3px;max-width:820px;font-size:14px;line-height:1.5;" +
    "color:var(--jp-content-font-color1, inherit)";
  const show = (message) => {
    box.replaceChildren();
    const title = document.createElement("strong");
    title.textContent = message.title;
    const text = document.createElement("div");
    text.textContent = message.text;
    box.append(title, text);
    el.classList.add("mi-live");
    el.append(box);
  };
  model.on("msg:custom", show);
  model.send({ ask: true });
  return () => model.off("msg:custom", show);
}
export default { render };
"""


class Message(Live):
    """Shows itself in a notebook; elsewhere it is printed."""

    text = alt = SAVED

    def __init__(self, title: str, message: str) -> None:
        self._title, self._message = title, message

    def html(self) -> str:
        return f'<div style="color:{SOFT};font-size:12px">{escape(SAVED)}</div>'

    def widget(self) -> Any:
        content = {"title": self._title, "text": self._message}
        widget = _widget_class()()
        widget.on_msg(lambda widget, asked, buffers: widget.send(content))
        return widget


_class: Any = None


def _widget_class() -> Any:
    global _class
    if _class is None:
        import anywidget

        _class = type("WorkshopMessage", (anywidget.AnyWidget,), {"_esm": SCRIPT})
    return _class


def prepare() -> None:
    """Import what a message needs. Takes a second the first time."""
    _widget_class()


def show(title: str, message: str) -> None:
    """Show a message in the cell that runs."""
    if in_notebook():
        Message(title, message)._ipython_display_()
    else:
        print(f"{title}: {message}")
