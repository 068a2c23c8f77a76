"""Runs an answer as an Ask says, and records what was seen. Judges nothing and knows no truth.

    observation = observe(answer, ask)

The same function serves the notebook, the tests and the grader's sandbox.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mi_course import wire
from mi_course.asking.drivers import DRIVERS
from mi_course.asking.limits import Capture, TimeUp, time_limit
from mi_course.asking.plugins import include
from mi_course.asking.references import Resolver
from mi_course.asking.stubs import has_gaps, is_empty
from mi_course.asking.watches import WATCHES
from mi_course.wire import Ask, Call, Error, Limits, Observation, Reply

__all__ = ["include", "observe"]

_HERE = os.path.dirname(os.path.abspath(__file__))


# What a value may hold, so that it still fits into the Observation that carries it.
_DEPTH, _ITEMS = 12, 150_000

# How soon another thread that computes gives the interpreter back; Python's own 5 ms add up.
_SWITCH_S = 0.0002

# Telling an error and looking around after a call may run code of the learner's too: `__str__`, leftover hooks.
_AFTERWARDS_S = 1.0


def observe(answer: Any, ask: Ask) -> Observation:
    """What the answer does when it is asked this.

    Never raises but for KeyboardInterrupt, and for an Ask that names a driver, watch or reference that does not exist
    (ValueError). The learner's tensors, models and random state are as before.
    """
    _check(ask)
    replies: list[Reply] = []
    out = Capture()
    with _undisturbed(), Resolver() as resolver, contextlib.redirect_stdout(out):
        # All inputs are made before the clock starts, since booting a model is our time and not the learner's, and
        # before the first call, since what that leaves behind must not be met while they are made.
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
        return Reply(wire.RAISED, error=_said("TypeError", f"the answer is {_a_thing(answer)}, expected a function"))
    if call.driver != "value" and is_empty(answer):
        return Reply(wire.NOT_ATTEMPTED)
    watching = {name: _guarded(WATCHES[name], args) for name in call.watch}
    try:
        with time_limit(max(seconds, 0.01)):
            seen = DRIVERS[call.driver](answer, args, **options)
            gap = seen is Ellipsis or (seen is None and (call.driver == "value" or has_gaps(answer)))
            value = None if gap else wire.plain(seen, limits)
    except TimeUp:
        return Reply(wire.TIMED_OUT)
    except NotImplementedError as error:
        return Reply(wire.NOT_ATTEMPTED, error=format_error(error))
    except wire.WireError as error:
        return Reply(wire.UNSENDABLE, error=format_error(error))
    except BaseException as error:  # SystemExit and worse: one answer's end is not the course's
        if type(error) is KeyboardInterrupt:
            raise
        return Reply(wire.NOT_ATTEMPTED if has_gaps(answer) else wire.RAISED, error=format_error(error))
    if gap:
        return Reply(wire.NOT_ATTEMPTED)
    watched = {name: look and _guarded(lambda look=look: wire.plain(look())) for name, look in watching.items()}
    return Reply(wire.RETURNED, value, watched=watched)


def _guarded(look: Any, *args: Any) -> Any:
    """What `look` returns, or None where what the answer left behind does not let it look."""
    try:
        with time_limit(_AFTERWARDS_S):
            return look(*args)
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Telling errors, leaving no trace


def _said(kind: str, message: str) -> Error:
    return Error(kind, (kind,), message)


def _a_thing(value: Any) -> str:
    """A value in a few words, without running code of its own."""
    plain = value is True or value is False or any(type(value) is kind for kind in (int, float, str))
    return f"{value!r:.60}" if plain else f"a {_class_name(type(value))}"


# The class' own `__name__` and `__mro__`, which a metaclass cannot redefine.
_NAME, _MRO = (vars(type)[name].__get__ for name in ("__name__", "__mro__"))


def _class_name(kind: type) -> str:
    return _NAME(kind)[:100]


def format_error(error: BaseException) -> Error:
    kind = type(error)
    message = _guarded(lambda: "".join(str(error)[:1000]))
    if type(message) is not str:
        message = "(an error whose text cannot be read)"
    bases = tuple(_class_name(cls) for cls in _MRO(kind)[:20] if cls is not object)
    return Error(_class_name(kind), bases, message, _guarded(_where, error) or "")


def _where(error: BaseException) -> str:
    """The innermost line that is the learner's: not ours, and not a library's."""
    frames = traceback.extract_tb(BaseException.__traceback__.__get__(error))
    for frame in reversed(frames):
        path = os.path.abspath(frame.filename)
        if path.startswith(_HERE) or "site-packages" in path or path.startswith(os.path.join(sys.prefix, "lib")):
            continue
        line = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"line {frame.lineno} of {frame.name}: {line}"[:300]
    return ""


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Gives back the process' random states, gradient mode, default dtype and device as they were.

    One thread meanwhile, as in the grader: models this small gain nothing from a second one, and on a busy machine
    waiting for it costs many times the work. Threads that an answer left running hand over the interpreter soon, or
    each operation of torch would wait 5 ms for each of them.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    device, switching = torch.get_default_device(), sys.getswitchinterval()
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_grad_enabled(grad)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        sys.setswitchinterval(switching)
