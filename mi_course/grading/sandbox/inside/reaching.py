"""Keeps the code that asks out of a submission's reach as far as Python allows, and reports what reaches for it.

Nothing here is a wall: everything in this process is in the hands of the learner's code, and the verdict is reached
elsewhere. It is told so that whoever reads the row knows which code to read.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

__all__ = ["arguments", "forget_our_modules", "report", "withhold"]

OURS = ("mi_sandbox", "mi_course.asking")
MOST = 50
"""Reports of one submission."""


def forget_our_modules() -> None:
    """Takes what asks out of `sys.modules`: an import of it fails, since its files are hidden, and is reported."""
    for name in [name for name in sys.modules if name in OURS or name.startswith(tuple(f"{one}." for one in OURS))]:
        del sys.modules[name]
    vars(sys.modules["mi_course"]).pop("asking", None)


def report(tell: Callable[[str, str], None]) -> None:
    """Calls `tell(what, name)` when code of a cell reaches for our modules, for frames, or for all objects.

    An audit hook: it sees imports and calls however they are spelled, and cannot be taken out again.
    """
    told: set[tuple[str, str]] = set()
    busy = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        what = WATCHED.get(event)
        if what is None or busy or len(told) > MOST:
            return
        busy = True
        try:
            name = ""
            if what == "import":
                name = str(args[0])
                if not (name in OURS or name.startswith(tuple(f"{one}." for one in OURS))):
                    return
            elif what == "own":
                name = str(args[0])
            elif what == "attribute":
                name = str(args[1])
                if name not in FRAMES or not _from_a_cell(_caller(2)):
                    return
                what = "frames"
            elif not _from_a_cell(_caller(2)):
                return
            if (what, name) not in told:
                told.add((what, name))
                tell(what, name)
        finally:
            busy = False

    sys.addaudithook(hook)
    sys.meta_path.insert(0, Sought())


class Sought:
    """A finder that finds nothing: `importlib.import_module` causes no event of its own."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        sys.audit("mi_course.sought", name)


WATCHED = {
    "import": "import",
    "mi_course.sought": "import",
    "sys._getframe": "frames",
    "sys._current_frames": "frames",
    "sys.settrace": "frames",
    "sys.setprofile": "frames",
    "object.__getattr__": "attribute",
    "gc.get_objects": "gc",
    "gc.get_referrers": "gc",
    "gc.get_referents": "gc",
    "mi_course.withheld": "own",
}
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")


def _caller(depth: int) -> FrameType | None:
    """Whoever caused the event: the frame below the hook, and below `inspect`, which asks for others."""
    frame: FrameType | None = sys._getframe(depth)
    while frame and frame.f_code.co_filename == _INSPECT:
        frame = frame.f_back
    return frame


_INSPECT = importlib.import_module("inspect").__file__


def _from_a_cell(frame: FrameType | None) -> bool:
    """Whether a frame's code stands in no file and is not frozen into Python: a cell, or text that was executed."""
    return frame is not None and not frame.f_code.co_filename.startswith(("/", "<frozen "))


# ---------------------------------------------------------------------------------------------------------------------
# The course's own answers


def withhold(name: str) -> None:
    """Puts an error in the place of a function's code, `module:function`, wherever it is referred to from."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    try:
        found.__code__ = _code(name, found.__code__)
    except (AttributeError, ValueError):
        setattr(sys.modules[module], attribute, None)


def _code(name: str, instead_of: CodeType) -> CodeType:
    def withheld(*args: Any, **options: Any) -> Any:
        import sys  # runs with the globals of another module

        sys.audit("mi_course.withheld", "NAME")
        raise RuntimeError("MESSAGE")

    message = f"{name.partition(':')[2]} of the course is what is asked here: write it yourself"
    texts = {"NAME": name, "MESSAGE": message}
    code = withheld.__code__
    constants = tuple(texts.get(one, one) if isinstance(one, str) else one for one in code.co_consts)
    place = f"{sys.prefix}/lib/{name}"  # as a library's, so that an error is told at the line that called it
    return code.replace(
        co_consts=constants, co_name=instead_of.co_name, co_freevars=instead_of.co_freevars, co_filename=place
    )


# ---------------------------------------------------------------------------------------------------------------------
# Arguments, as they are after the call: they are compared outside


def arguments(args: list[Any]) -> Callable[[], Any]:
    """A watch in the place of `arguments` of `mi_course.asking.watches`: that one's differences, and what is plain."""
    inside = _inside(args)

    def after() -> dict[str, Any]:
        return {"differ": inside(), "now": [_plain(arg) for arg in args]}

    return after


def _plain(value: Any) -> list[Any]:
    """[the value], or nothing where it does not cross as it is or is large."""
    try:
        return [_wire.plain(value, _LIMITS)]
    except _wire.WireError:
        return []


_wire: Any = importlib.import_module("mi_course.wire")
_LIMITS = _wire.Limits(bytes=2**20, items=2_000)
_inside: Any = importlib.import_module("mi_course.asking.watches").arguments
