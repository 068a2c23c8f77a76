"""Runs an answer as an Ask says, and records what happens. Judges nothing and knows no truth.

    observation = observe(answer, ask)

The same function serves the notebook, the tests and the grader's sandbox.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import time
import traceback
from typing import Any

from mi_course import wire
from mi_course.asking.drivers import DRIVERS
from mi_course.asking.limits import Capture, TimeUp, time_limit
from mi_course.asking.plugins import include, include_all
from mi_course.asking.references import Resolver
from mi_course.asking.settings import default_settings
from mi_course.asking.stubs import has_gaps, is_empty
from mi_course.asking.watches import WATCHES
from mi_course.wire import Ask, Call, Error, Limits, Observation, Reply

__all__ = ["include", "include_all", "observe"]

_HERE = os.path.dirname(os.path.abspath(__file__))

_DEPTH, _ITEMS = 12, 150_000
"""Limits of a value, tighter than those of the Observation that it must fit into."""

_GUARD_S = 3.0
"""Limit for what may run the learner's code after a call: `__str__` of an error, leftover hooks."""


def observe(answer: Any, ask: Ask) -> Observation:
    """Make the calls of the Ask, and return a reply for each.

    The learner's global settings do not matter (`settings`); their tensors, models and random state stay as they were.
    Whatever the answer raises becomes a reply. Raises KeyboardInterrupt, and ValueError if the Ask names a driver,
    watch or reference that does not exist.
    """
    _check(ask)
    replies: list[Reply] = []
    out = Capture()
    with default_settings(), Resolver() as resolver, contextlib.redirect_stdout(out):
        # All inputs are made before the clock starts, because booting a model is not the learner's time, and before the
        # first call, so that nothing a call leaves behind can affect them.
        inputs = [(resolver.fill(list(call.args)), resolver.fill(call.options)) for call in ask.calls]
        deadline = time.monotonic() + ask.limit_s
        limits = Limits(bytes=ask.max_reply_bytes, items=_ITEMS // max(len(ask.calls), 1), depth=_DEPTH)
        for call, (args, options) in zip(ask.calls, inputs, strict=True):
            reply = _make_call(answer, call, args, options, deadline - time.monotonic(), limits)
            replies.append(reply)
            if reply.status == wire.TIMED_OUT:
                break
    return Observation(ask.id, tuple(replies), out.text)


def _check(ask: Ask) -> None:
    for call in ask.calls:
        if call.driver not in DRIVERS:
            raise ValueError(f"no driver {call.driver!r}; there are {', '.join(DRIVERS)}")
        for watch in call.watch:
            if watch not in WATCHES:
                raise ValueError(f"no watch {watch!r}; there are {', '.join(WATCHES)}")


def _make_call(
    answer: Any, call: Call, args: list[Any], options: dict[str, Any], seconds: float, limits: Limits
) -> Reply:
    if call.driver != "value" and not callable(answer):
        if answer is None or answer is Ellipsis:
            return Reply(wire.NOT_ATTEMPTED)
        message = f"the answer is {_describe(answer)}, expected a function"
        return Reply(wire.RAISED, error=Error("TypeError", ("TypeError",), message))
    if call.driver != "value" and is_empty(answer):
        return Reply(wire.NOT_ATTEMPTED)
    watches = {name: _guarded(WATCHES[name], args) for name in call.watch}
    try:
        with time_limit(max(seconds, 0.01)):
            result = DRIVERS[call.driver](answer, args, **options)
            gap = result is Ellipsis or (result is None and (call.driver == "value" or has_gaps(answer)))
            value = None if gap else wire.plain(result, limits)
    except TimeUp:
        return Reply(wire.TIMED_OUT)
    except NotImplementedError as error:
        return Reply(wire.NOT_ATTEMPTED, error=format_error(error))
    except wire.WireError as error:
        return Reply(wire.UNSENDABLE, error=format_error(error))
    except BaseException as error:  # SystemExit too: an answer that exits must not end the course's process
        if type(error) is KeyboardInterrupt:
            raise
        return Reply(wire.NOT_ATTEMPTED if has_gaps(answer) else wire.RAISED, error=format_error(error))
    if gap:
        return Reply(wire.NOT_ATTEMPTED)
    watched = {name: after and _guarded(lambda after=after: wire.plain(after())) for name, after in watches.items()}
    return Reply(wire.RETURNED, value, watched=watched)


def _guarded(function: Any, *args: Any) -> Any:
    """What a function of ours returns; None if code that the answer left behind makes it fail or hang."""
    try:
        with time_limit(_GUARD_S):
            return function(*args)
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Describing errors, leaving no trace


def _describe(value: Any) -> str:
    """A value in a few words, without running code of its class."""
    plain = value is True or value is False or any(type(value) is kind for kind in (int, float, str))
    return f"{value!r:.60}" if plain else f"a {_class_name(type(value))}"


# These read the real `__name__`, `__mro__` and `__traceback__`, which a class or its metaclass may redefine.
_NAME, _MRO = (vars(type)[name].__get__ for name in ("__name__", "__mro__"))
_TRACEBACK = vars(BaseException)["__traceback__"].__get__


def _class_name(kind: type) -> str:
    name: str = _NAME(kind)[:100]
    return name


def format_error(error: BaseException) -> Error:
    """An exception as text."""
    kind = type(error)
    message = _guarded(lambda: "".join(str(error)[:1000]))
    if type(message) is not str:
        message = "(an error whose text cannot be read)"
    bases = tuple(_class_name(cls) for cls in _MRO(kind)[:20] if cls is not object)
    return Error(_class_name(kind), bases, message, _guarded(_where, error) or "")


def _where(error: BaseException) -> str:
    """The innermost line of the learner's code, as opposed to ours or a library's."""
    frames = traceback.extract_tb(_TRACEBACK(error))
    for frame in reversed(frames):
        path = os.path.abspath(frame.filename)
        if path.startswith(_HERE) or "site-packages" in path or path.startswith(os.path.join(sys.prefix, "lib")):
            continue
        line = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"line {frame.lineno} of {frame.name}: {line}"[:300]
    return ""
