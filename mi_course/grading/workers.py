"""Marks on this machine, in worker processes: a crash costs one submission only.

The workers are forks of the grader, which has imported everything and booted the models once, and share its sandbox
server. (Pools such as Pebble's would import and boot again, or pass what they return as pickles.)
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mi_course.grading.bounded import limit_memory
from mi_course.grading.jobs import SUBMISSION_S, Job
from mi_course.grading.marks import Failure, Marks
from mi_course.grading.sandbox import Sandbox

__all__ = ["LocalBackend", "run"]

_WIDTH = 10
"""Digits of the numbers that pass between grader and worker: the index of a job, the length of its result."""


class LocalBackend:
    """One sandbox server, and worker processes that mark. Raises SandboxError without a sandbox.

    count: workers; by default one for each core.
    """

    def __init__(self, unsandboxed: bool = False, count: int | None = None) -> None:
        self.sandboxed, self.count = not unsandboxed, count or os.cpu_count() or 1
        self.sandbox = Sandbox.start(unsandboxed)
        self.prepared = False

    def mark_all(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[tuple[int, Marks | Failure]]:
        if not jobs:
            return
        # Imported here, so that this process and the sandbox's server import torch at the same time.
        from mi_course.grading.marking import mark, prepare

        def work(i: int) -> bytes:
            warnings.simplefilter("ignore")  # such as Python's about a learner's "\d"
            job = jobs[i]
            return json.dumps(mark(job.name, job.load(), self.sandbox, job.secret, job.lesson).to_json()).encode()

        if not self.prepared:
            prepare(self.sandbox)
            self.prepared = True
        for i, result in run(1 if alone else self.count, work, range(len(jobs)), SUBMISSION_S):
            yield i, result if isinstance(result, Failure) else Marks.from_json(json.loads(result))

    def __enter__(self) -> LocalBackend:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sandbox.close()


# ---------------------------------------------------------------------------------------------------------------------
# Worker processes


@dataclass
class _Worker:
    pid: int
    channel: socket.socket
    job: int | None = None
    since: float = 0.0


def run(
    count: int, work: Callable[[int], bytes], todo: Sequence[int], limit_s: float
) -> Iterator[tuple[int, bytes | Failure]]:
    """Call `work(i)` for each i in `todo`, in `count` forked processes.

    Yields (i, what it returned), or (i, Failure) if its worker died or took more than `limit_s` seconds.
    """
    waiting = list(reversed(todo))
    selector = selectors.DefaultSelector()
    workers: dict[int, _Worker] = {}

    def hire() -> None:
        worker = _fork(work, [other.channel for other in workers.values()])
        workers[worker.pid] = worker
        selector.register(worker.channel, selectors.EVENT_READ, worker)
        assign(worker)

    def assign(worker: _Worker) -> None:
        worker.job = None
        if waiting:
            worker.job, worker.since = waiting.pop(), time.monotonic()
            with contextlib.suppress(OSError):  # a worker that is gone shows in the next select
                worker.channel.sendall(f"{worker.job:{_WIDTH}d}".encode())

    def dismiss(worker: _Worker) -> int:
        """End a worker. Returns its exit status."""
        selector.unregister(worker.channel)
        worker.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        del workers[worker.pid]
        return os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])

    def replace(worker: _Worker, reason: str) -> Iterator[tuple[int, Failure]]:
        status = dismiss(worker)
        if worker.job is not None:
            yield worker.job, Failure(f"{reason.format(status=status)} Look at it by hand.")
        if waiting:
            hire()

    try:
        for _ in range(min(count, len(waiting))):
            hire()
        while any(worker.job is not None for worker in workers.values()):
            for key, _ in selector.select(1.0):
                worker = key.data
                result = _receive(worker.channel)
                if result is None:
                    reason = "The grader's own worker ended on this submission (exit status {status})."
                    yield from replace(worker, reason)
                elif worker.job is not None:
                    done = worker.job
                    assign(worker)
                    yield done, result
            for worker in list(workers.values()):
                if worker.job is not None and time.monotonic() - worker.since > limit_s:
                    yield from replace(worker, f"Marking this submission took more than {limit_s:g} seconds.")
    finally:
        for worker in list(workers.values()):
            dismiss(worker)


def _fork(work: Callable[[int], bytes], others: Sequence[socket.socket]) -> _Worker:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return _Worker(pid, ours)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the grader handles Ctrl-C
        gc.freeze()  # a collection would touch, and so copy, all that was imported before the fork
        limit_memory()
        ours.close()
        for other in others:  # open copies of these would hide the grader's end from the other workers
            other.close()
        while number := _exactly(theirs, _WIDTH):
            result = work(int(number))
            theirs.sendall(f"{len(result):{_WIDTH}d}".encode() + result)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)


def _receive(channel: socket.socket) -> bytes | None:
    """A worker's result; None if the worker is gone."""
    length = _exactly(channel, _WIDTH)
    return _exactly(channel, int(length)) if length else None


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    """The next `count` bytes; None if the other end closes first."""
    received = b""
    while len(received) < count:
        try:
            chunk = channel.recv(count - len(received), socket.MSG_WAITALL)
        except ConnectionError:
            return None
        if not chunk:
            return None
        received += chunk
    return received
