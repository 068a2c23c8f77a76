"""Limits on time and on printed output.

The time limit holds for ordinary Python code. On the main thread of a Unix process an alarm raises in the running
code; elsewhere an exception is raised into the thread between two bytecodes. Neither interrupts a single long call into
C: for that, the grader's sandbox kills the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import signal
import threading
import time
import types
from collections.abc import Iterator

import torch

AFTER_TIME_OUT_S = 1.0
"""The limit of later Asks once one has run out of time: nobody should wait five seconds for each."""


SLOWEST = 4.0
_USUAL_S = 0.009
"""Processor time of `_measure` on the machine on which limits were set."""


@functools.cache
def slowness() -> float:
    """How many times as long as usual this machine takes, from 1 to SLOWEST. Limits are multiplied by it.

    It is measured once, at the first call, which must come before any learner's code runs.
    """
    return min(max(min(_measure() for _ in range(3)) / _USUAL_S, 1.0), SLOWEST)


def _measure() -> float:
    """Processor time of some ordinary Python and some small products, as answers and trainings need.

    The products are too small for several threads. Threads that wait for each other burn processor time where another
    program keeps a core busy: with 64 rows for 32 that measured up to twenty times as much, and took seconds.
    """
    began = time.process_time()
    total, x = 0.0, torch.ones(32, 32) / 32
    for i in range(60_000):
        total += i % 7
    for _ in range(600):
        x = (x @ x).relu() + 0.01
    return time.process_time() - began


class TimeUp(BaseException):
    """The answer ran too long. Not an Exception, so that a learner's `except Exception` does not swallow it."""


_NOT_INTERRUPTED = (__file__, contextlib.__file__, os.path.join(os.path.dirname(__file__), "__init__.py"))
"""Files whose lines an alarm would leave half done."""

REMINDER_S = 0.2
"""How often the alarm is repeated, for an answer that catches the first."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after `seconds` of wall-clock time."""
    with _alarm(seconds) if _alarms_work() else _thread_alarm(seconds):
        yield


@contextlib.contextmanager
def processor_limit(seconds: float) -> Iterator[None]:
    """As `time_limit`, but of this process's processor time, where alarms work."""
    with _alarm(seconds, processor=True) if _alarms_work() else _thread_alarm(seconds):
        yield


def _alarms_work() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextlib.contextmanager
def _alarm(seconds: float, processor: bool = False) -> Iterator[None]:
    active = True
    number, timer = (signal.SIGPROF, signal.ITIMER_PROF) if processor else (signal.SIGALRM, signal.ITIMER_REAL)
    clock = time.process_time if processor else time.monotonic

    def ring(signum: int, frame: types.FrameType | None) -> None:
        # Lines of ours are not interrupted: the next alarm comes after them.
        if active and not (frame and frame.f_code.co_filename in _NOT_INTERRUPTED):
            raise TimeUp

    before = signal.signal(number, ring)
    started = clock()
    remaining, interval = signal.setitimer(timer, max(seconds, 0.001), REMINDER_S)
    try:
        yield
    finally:
        active = False
        signal.setitimer(timer, 0)
        signal.signal(number, signal.SIG_DFL if before is None else before)
        if remaining:  # another alarm was set before: it gets the rest of its time
            signal.setitimer(timer, max(remaining - (clock() - started), 0.001), interval)


@contextlib.contextmanager
def _thread_alarm(seconds: float) -> Iterator[None]:
    thread = threading.get_ident()
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            _raise_into(thread, TimeUp)
            wait = REMINDER_S

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        # TimeUp may be raised in these lines too, or still be pending: stop the watcher, then cancel the exception.
        while True:
            try:
                done.set()
                watcher.join()
                _raise_into(thread, None)
                break
            except TimeUp:
                continue


def _raise_into(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in another thread, between two of its bytecodes; None cancels a pending one."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))


class Capture(io.TextIOBase):
    """Keeps the beginning of what is printed and drops the rest, so that endless printing needs no memory."""

    def __init__(self, limit: int = 2000) -> None:
        self.limit, self.kept, self.dropped = limit, "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        text = str.__str__(text)  # the characters alone, whatever a subclass redefines
        room = self.limit - len(self.kept)
        self.kept += text[:room] if room > 0 else ""
        self.dropped += max(len(text) - max(room, 0), 0)
        return len(text)

    @property
    def text(self) -> str:
        return self.kept + (f"\n... and {self.dropped:,} more characters" if self.dropped else "")
