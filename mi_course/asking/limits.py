"""Time limits and printed output: what keeps one answer from stopping everything.

The limit holds for ordinary Python code. On the main thread of a Unix process an alarm raises in the middle of the
code that runs; elsewhere an exception is raised into the thread between two bytecodes. Neither stops a single long call
into C: the grader's sandbox ends the process for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import signal
import threading
import time
from collections.abc import Iterator


class TimeUp(BaseException):
    """The answer ran too long. Not an Exception, so that a learner's `except Exception` does not swallow it."""


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

    def ring(signum: int, frame: object) -> None:
        if active:
            raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), REMINDER)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:  # somebody else's alarm was set: give it back what is left of its time
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - started), 0.001), interval)


@contextlib.contextmanager
def _nudge(seconds: float) -> Iterator[None]:
    thread = threading.get_ident()
    done = threading.Event()
    lock = threading.Lock()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            with lock:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeUp))
            wait = REMINDER

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            done.set()
        # An exception raised but not delivered yet would strike after the block: take it back.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
        watcher.join(REMINDER)


class Capture(io.TextIOBase):
    """Keeps the beginning of what is printed and drops the rest, so that a flood costs no memory."""

    def __init__(self, limit: int = 2000) -> None:
        self.limit, self.kept, self.dropped = limit, "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = self.limit - len(self.kept)
        self.kept += text[:room] if room > 0 else ""
        self.dropped += max(len(text) - max(room, 0), 0)
        return len(text)

    @property
    def text(self) -> str:
        return self.kept + (f"\n... and {self.dropped:,} more characters" if self.dropped else "")
