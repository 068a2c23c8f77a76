"""Keeps the code that asks out of a submission's reach as far as Python allows, and reports what reaches for it.

None of this is a security boundary: the learner's code controls this whole process, and the verdict is reached
elsewhere. The reports tell whoever reads the row which code to look at.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

__all__ = ["arguments", "forget_our_modules", "report", "withhold"]

OURS = ("mi_sandbox", "mi_course.asking")
"""The packages that ask."""
MAX_REPORTS = 50
"""Reports about one submission."""


def _is_ours(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in OURS)


def forget_our_modules() -> None:
    """Remove what asks from `sys.modules`. Importing it again fails, since its files are hidden, and is reported."""
    for name in filter(_is_ours, list(sys.modules)):
        del sys.modules[name]
    vars(sys.modules["mi_course"]).pop("asking", None)


def report(send: Callable[[str, str], None]) -> None:
    """Call `send(what, name)` when a cell's code reaches for our modules, for frames, or for all objects.

    An audit hook: it sees imports and calls however they are spelled, and cannot be removed.
    """
    sent: set[tuple[str, str]] = set()
    busy = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        what = WATCHED.get(event)
        if what is None or busy or len(sent) > MAX_REPORTS:
            return
        busy = True
        try:
            name = ""
            if what == "import":
                name = str(args[0])
                if not _is_ours(name):
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
            if (what, name) not in sent:
                sent.add((what, name))
                send(what, name)
        finally:
            busy = False

    sys.addaudithook(hook)
    sys.meta_path.insert(0, ImportObserver())


class ImportObserver:
    """A finder that finds nothing and raises an audit event: `importlib.import_module` raises none of its own."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        sys.audit("mi_course.find_spec", name)


WATCHED = {
    "import": "import",
    "mi_course.find_spec": "import",
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
    """The frame that caused the event: not the hook's, nor one of `inspect`, which asks on behalf of its caller."""
    frame: FrameType | None = sys._getframe(depth)
    while frame and frame.f_code.co_filename == _INSPECT:
        frame = frame.f_back
    return frame


_INSPECT = importlib.import_module("inspect").__file__


def _from_a_cell(frame: FrameType | None) -> bool:
    """Whether a frame's code comes from no file and is not frozen into Python: a cell, or text that was executed."""
    return frame is not None and not frame.f_code.co_filename.startswith(("/", "<frozen "))


# ---------------------------------------------------------------------------------------------------------------------
# The course's own answers


def withhold(name: str) -> None:
    """Make the function `module:function` raise an error, through whichever reference it is called."""
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    try:
        function.__code__ = _raising(name, function.__code__)
    except (AttributeError, ValueError):
        setattr(sys.modules[module], attribute, None)


def _raising(name: str, replaced: CodeType) -> CodeType:
    """Code that raises, and fits where `replaced` was."""

    def withheld(*args: Any, **options: Any) -> Any:
        import sys  # runs with the globals of another module

        sys.audit("mi_course.withheld", "NAME")
        raise RuntimeError("MESSAGE")

    message = f"{name.partition(':')[2]} of the course is what is asked here: write it yourself"
    texts = {"NAME": name, "MESSAGE": message}
    code = withheld.__code__
    constants = tuple(texts.get(const, const) if isinstance(const, str) else const for const in code.co_consts)
    filename = f"{sys.prefix}/lib/{name}"  # like a library's, so that an error is reported at the line that called it
    return code.replace(
        co_consts=constants, co_name=replaced.co_name, co_freevars=replaced.co_freevars, co_filename=filename
    )


# ---------------------------------------------------------------------------------------------------------------------
# The arguments as they are after the call, which are compared outside


def arguments(args: list[Any]) -> Callable[[], Any]:
    """Replaces the watch `arguments` of `asking.watches`: what that one reports, and the arguments' plain values."""
    differences = _watch_arguments(args)

    def after() -> dict[str, Any]:
        return {"differ": differences(), "now": [_plain(arg) for arg in args]}

    return after


def _plain(value: Any) -> list[Any]:
    """[value], or [] if it is large or cannot cross the wire as it is."""
    try:
        return [_wire.plain(value, _LIMITS)]
    except _wire.WireError:
        return []


_wire: Any = importlib.import_module("mi_course.wire")
_LIMITS = _wire.Limits(bytes=2**20, items=2_000)
_watch_arguments: Any = importlib.import_module("mi_course.asking.watches").arguments
