"""Runs an answer as an Ask says, and records what was seen. Judges nothing and knows no truth.

    observation = observe(answer, ask)

The same function serves the notebook, the tests and the grader's sandbox.
"""

from __future__ import annotations

import contextlib
import dis
import itertools
import linecache
import os
import random
import sys
import time
import traceback
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mi_course import wire
from mi_course.asking.drivers import DRIVERS
from mi_course.asking.limits import Capture, TimeUp, time_limit
from mi_course.asking.references import Resolver, UnknownReference, include
from mi_course.asking.watches import WATCHES
from mi_course.wire import Ask, Call, Error, Limits, Observation, Reply

__all__ = ["include", "observe"]

_HERE = os.path.dirname(os.path.abspath(__file__))


def observe(answer: Any, ask: Ask) -> Observation:
    """What the answer does when it is asked this.

    Never raises but for KeyboardInterrupt, and for an Ask that names a driver, watch or reference that does not exist
    (ValueError). The learner's tensors, models and random state are as before.
    """
    _check(ask)
    replies: list[Reply] = []
    out = Capture()
    with _undisturbed(), Resolver() as resolver, contextlib.redirect_stdout(out):
        deadline: float | None = None
        for call in ask.calls:
            args = [resolver.fill(arg) for arg in call.args]
            options = {key: resolver.fill(value) for key, value in call.options.items()}
            # References are made before the clock starts: booting a model is our time, not the learner's.
            deadline = deadline or time.monotonic() + ask.limit_s
            reply = _make_call(answer, call, args, options, deadline - time.monotonic(), ask.max_reply_bytes)
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
    answer: Any, call: Call, args: list[Any], options: dict[str, Any], seconds: float, max_bytes: int
) -> Reply:
    if call.driver != "value" and not callable(answer):
        missing = answer is None or answer is Ellipsis
        error = Error("TypeError", ("TypeError",), f"the answer is {answer!r:.60}, expected a function")
        return Reply(wire.NOT_ATTEMPTED if missing else wire.RAISED, error=error)
    watching = {name: WATCHES[name](args) for name in call.watch}
    try:
        with time_limit(max(seconds, 0.01)):
            seen = DRIVERS[call.driver](answer, args, **options)
    except TimeUp:
        return Reply(wire.TIMED_OUT)
    except KeyboardInterrupt:
        raise
    except UnknownReference:
        raise
    except NotImplementedError as error:
        return Reply(wire.NOT_ATTEMPTED, error=_told(error))
    except BaseException as error:  # SystemExit and worse: one answer's end is not the course's
        status = wire.NOT_ATTEMPTED if _has_gaps(answer) else wire.RAISED
        return Reply(status, error=_told(error))
    if _is_gap(answer, seen, call.driver):
        return Reply(wire.NOT_ATTEMPTED)
    try:
        value = wire.plain(seen, Limits(bytes=max_bytes))
    except wire.WireError as error:
        return Reply(wire.UNSENDABLE, error=Error("WireError", ("WireError",), str(error)[:500]))
    except Exception as error:  # a conversion that misbehaves
        return Reply(wire.UNSENDABLE, error=_told(error))
    return Reply(wire.RETURNED, value, watched={name: wire.plain(look()) for name, look in watching.items()})


# ---------------------------------------------------------------------------------------------------------------------
# Untouched stubs


def _is_gap(answer: Any, seen: Any, driver: str) -> bool:
    """Whether this is a stub: `...` where the answer should be, or a body of nothing at all."""
    if seen is Ellipsis or (driver == "value" and seen is None):
        return True
    return driver != "value" and (_is_empty(answer) or (seen is None and _has_gaps(answer)))


def _is_empty(answer: Any) -> bool:
    code = getattr(answer, "__code__", None)
    if not isinstance(code, types.CodeType):
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP", "CACHE")]
    returns_none = {"RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"}
    return all(step.opname in returns_none and step.argval is None for step in steps)


def _has_gaps(answer: Any) -> bool:
    """Whether `...` is assigned or returned somewhere. As an index, `x[..., 0]`, it is ordinary code."""
    code = getattr(answer, "__code__", None)
    if not isinstance(code, types.CodeType):
        return False
    steps = list(dis.get_instructions(code))
    filled_in = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF", "RETURN_VALUE")
    for step, following in itertools.pairwise(steps):
        if step.opname == "LOAD_CONST" and step.argval is Ellipsis and following.opname in filled_in:
            return True
        if step.opname == "RETURN_CONST" and step.argval is Ellipsis:
            return True
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Telling errors, leaving no trace


def _told(error: BaseException) -> Error:
    try:
        message = str(error)
    except Exception:
        message = "(an error whose text cannot be read)"
    bases = tuple(cls.__name__ for cls in type(error).__mro__ if cls is not object)
    return Error(type(error).__name__, bases, message[:1000], _where(error))


def _where(error: BaseException) -> str:
    """The innermost line that is the learner's: not ours, and not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = os.path.abspath(frame.filename)
        if path.startswith(_HERE) or "site-packages" in path or path.startswith(os.path.join(sys.prefix, "lib")):
            continue
        line = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"line {frame.lineno} of {frame.name}: {line}"[:300]
    return ""


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Gives back the process' random states, gradient mode and default dtype as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    torch.set_grad_enabled(True)
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
