"""Work on a learner's text outside the sandbox, in processes with limits: if one dies, it costs one submission."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["limit_memory", "run_each"]

EXTRA_BYTES = 4 * 2**30
"""What a worker may map beyond what it had when it was forked: judging may load SmolLM2."""
PATIENCE = 20.0


def limit_memory(extra: int = EXTRA_BYTES) -> None:
    """Limit the address space of this process and all that it forks. Allocating more raises MemoryError."""
    import resource  # Windows, where `mi-course doctor` and `export` import this package, has no such module

    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as file:
        size = next(int(line.split()[1]) for line in file if line.startswith("VmSize:")) * 1024
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = size + extra if hard == resource.RLIM_INFINITY else min(size + extra, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_each(work: Callable[[int], Any], count: int, seconds: float) -> Iterator[tuple[int, Any, str]]:
    """Yield (i, the result of `work(i)`, "") for each i < count, or (i, None, why there is no result).

    The work is done in forks, with a memory limit and this many seconds of processor time for each i, or `PATIENCE`
    times as many by the clock. Results must be JSON.
    """
    done = 0
    while done < count:
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            _child(theirs, work, range(done, count), seconds)
        os.close(theirs)
        with open(ours, encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # it died while writing
                result, problem = json.loads(line)
                yield done, result, problem
                done += 1
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if done < count:  # it died of this one
            yield done, None, f"its process died (exit status {status})"
            done += 1


def _child(out: int, work: Callable[[int], Any], todo: range, seconds: float) -> None:
    try:
        limit_memory()
        warnings.simplefilter("ignore")
        limits = ((signal.ITIMER_PROF, seconds), (signal.ITIMER_REAL, PATIENCE * seconds))
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)  # kills the process, even during a call into C
        with open(out, "w", encoding="utf-8") as file:
            for i in todo:
                for timer, most in limits:
                    signal.setitimer(timer, most)
                try:
                    line = json.dumps([work(i), ""])
                except Exception as error:
                    line = json.dumps([None, f"{type(error).__name__}: {str(error)[:200]}"])
                for timer, _ in limits:
                    signal.setitimer(timer, 0)
                file.write(line + "\n")
                file.flush()
    finally:
        os._exit(0)
