"""Time limits and printed output: what keeps one answer from stopping everything.

The limit holds for ordinary Python code. On the main thread of a Unix process an alarm raises in the middle of the
code that runs; elsewhere an exception is raised into the thread between two bytecodes. Neither stops a single long call
into C: the grader's sandbox ends the process for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import threading
import time
import types
from collections.abc import Iterator

AFTER_TIME_OUT_S = 1.0
"""The limit of later Asks once one has run out of time: nobody should wait five seconds for each."""


class TimeUp(BaseException):
    """The answer ran too long. Not an Exception, so that a learner's `except Exception` does not swallow it."""


# Where an alarm would leave things half done.
_NOT_HERE = (__file__, contextlib.__file__, os.path.join(os.path.dirname(__file__), "__init__.py"))

# An answer that catches the first alarm is reminded at this interval, in seconds.
REMINDER = 0.2


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after `seconds` of wall-clock time."""
    on_main = threading.current_thread() is threading.main_thread()
    with _alarm(seconds) if on_main and hasattr(signal, "setitimer") else _nudge(seconds):
        yield


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    active = True

    def ring(signum: int, frame: types.FrameType | None) -> None:
        # Between the answer and us stand a few lines whose work must be finished: the reminder comes after them.
        if active and not (frame and frame.f_code.co_filename in _NOT_HERE):
            raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), REMINDER)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        if remaining:  # somebody else's alarm was set: give it back what is left of its time
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - started), 0.001), interval)


@contextlib.contextmanager
def _nudge(seconds: float) -> Iterator[None]:
    thread = threading.get_ident()
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            _raise_into(thread, TimeUp)
            wait = REMINDER

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        # A nudge may strike in these very lines, or be on its way when they are through: no watcher, then none pending.
        while True:
            try:
                done.set()
                watcher.join()
                _raise_into(thread, None)
                break
            except TimeUp:
                continue


def _raise_into(thread: int, error: type[BaseException] | None) -> None:
    """Raises an exception in another thread between two of its bytecodes; None takes back one that waits to be."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))


class Capture(io.TextIOBase):
    """Keeps the beginning of what is printed and drops the rest, so that a flood costs no memory."""

    def __init__(self, limit: int = 2000) -> None:
        self.limit, self.kept, self.dropped = limit, "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        text = str.__str__(text)  # of a subclass, its characters; nothing that it redefines
        room = self.limit - len(self.kept)
        self.kept += text[:room] if room > 0 else ""
        self.dropped += max(len(text) - max(room, 0), 0)
        return len(text)

    @property
    def text(self) -> str:
        return self.kept + (f"\n... and {self.dropped:,} more characters" if self.dropped else "")
