"""Worker processes: each marks one submission after the other, and its end costs one submission only.

They are forks of the grader, which has imported everything once. They share the one sandbox server. What passes
between grader and worker is the number of a submission, in ten digits.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["run"]

_WIDTH = 10


@dataclass
class _Worker:
    pid: int
    line: socket.socket
    at: int | None = None
    since: float = 0.0


def run(count: int, work: Callable[[int], None], todo: list[int], limit_s: float) -> Iterator[tuple[int, str]]:
    """Calls `work(i)` for each i of `todo` in `count` forked processes.

    Yields (i, "") when one is done, and (i, reason) when its worker died or took more than `limit_s` seconds.
    """
    waiting = list(reversed(todo))
    selector = selectors.DefaultSelector()
    workers: dict[int, _Worker] = {}

    def hire() -> None:
        worker = _forked(work, [other.line for other in workers.values()])
        workers[worker.pid] = worker
        selector.register(worker.line, selectors.EVENT_READ, worker)
        give(worker)

    def give(worker: _Worker) -> None:
        if waiting:
            worker.at, worker.since = waiting.pop(), time.monotonic()
            worker.line.sendall(f"{worker.at:{_WIDTH}d}".encode())
        else:
            worker.at = None

    def dismiss(worker: _Worker) -> str:
        selector.unregister(worker.line)
        worker.line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        del workers[worker.pid]
        return f"exit status {status}"

    try:
        for _ in range(min(count, len(waiting))):
            hire()
        while any(worker.at is not None for worker in workers.values()):
            for key, _ in selector.select(1.0):
                worker = key.data
                told = worker.line.recv(_WIDTH)
                if told:
                    done = worker.at
                    give(worker)
                    yield done, ""
                else:
                    at, how = worker.at, dismiss(worker)
                    if at is not None:
                        yield at, f"The grader's own worker ended on this submission ({how}). Look at it by hand."
                    if waiting:
                        hire()
            for worker in list(workers.values()):
                if worker.at is not None and time.monotonic() - worker.since > limit_s:
                    at = worker.at
                    dismiss(worker)
                    yield at, f"Marking this submission took more than {limit_s:g} seconds. Look at it by hand."
                    if waiting:
                        hire()
    finally:
        for worker in list(workers.values()):
            dismiss(worker)


def _forked(work: Callable[[int], None], others: list[socket.socket]) -> _Worker:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return _Worker(pid, ours)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grader's to handle
        gc.freeze()  # else each collection would look at, and so copy, all that was imported before the fork
        ours.close()
        for other in others:  # else these workers would not notice that the grader is gone
            other.close()
        while told := theirs.recv(_WIDTH, socket.MSG_WAITALL):
            work(int(told))
            theirs.sendall(told)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)
