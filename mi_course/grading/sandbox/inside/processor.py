"""Limits on processor time. A module of its own: `signal` gives the handler away, and with it these few globals."""

from __future__ import annotations

import contextlib
import resource
import signal
import types
from collections.abc import Iterator

_HARD_S = 1.5
"""Seconds of processor time beyond a limit, after which the kernel kills what cannot be interrupted."""


@contextlib.contextmanager
def processor_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after so much processor time, through the handler of the time limit around it.

    The kernel kills what swallows that a little later.
    """

    def ring(signum: int, frame: types.FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGALRM)
        if callable(handler):
            handler(signum, frame)

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    end = int(used.ru_utime + used.ru_stime + seconds + _HARD_S) + 1
    if most == resource.RLIM_INFINITY or end < most:
        resource.setrlimit(resource.RLIMIT_CPU, (end, most))
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
