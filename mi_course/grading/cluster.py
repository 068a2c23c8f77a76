"""Marks on many machines: submissions are handed to a Dask cluster, and their marks come back as text.

    with Cluster(address, unsandboxed=False) as cluster:
        for i, marks, trouble in cluster.run(job, todo): ...

Each Dask worker starts a grader of its own (`node`), with a sandbox of its own. What a submission says or does never
reaches Dask: it stays in that sandbox, and what crosses is text that the node wrote. A worker that dies loses nothing;
Dask hands what it was at to another one.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from mi_course.errors import CourseError

__all__ = ["Cluster", "ClusterError", "mark_there"]

CONNECT_S = 20.0
WORKERS_S = 300.0
"""How long to wait for the first worker: a queue of jobs may have to start one."""
SUBMISSION_S = 1800.0


class ClusterError(CourseError):
    """The cluster cannot be used, or not any more. The text says why, and what to do."""


class Cluster:
    """A connection to a Dask scheduler. Raises ClusterError."""

    def __init__(self, address: str, unsandboxed: bool = False) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ClusterError(
                'Handing submissions to a cluster needs Dask: pip install "mi-course[cluster]" -c constraints.txt'
            ) from None
        self.sandboxed, self.address = not unsandboxed, address
        try:
            self.client = Client(address, timeout=CONNECT_S, set_as_default=False, name="mi-course-grade")
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"No Dask scheduler answers at {address} ({type(error).__name__}: {str(error)[:200]}). Start one with "
                "`dask scheduler`, and give the address that it prints: tcp://HOST:8786."
            ) from None

    def run(self, job: Callable[[int], str], todo: list[int]) -> Iterator[tuple[int, str, str]]:
        """Yields (i, marks as JSON, "") for each submission, or (i, "", why there are none). Raises ClusterError.

        job(i): the text for a node. Few are on their way at a time, so that a large class fits into memory.
        """
        from distributed import as_completed

        waiting = iter(todo)
        numbers: dict[Any, int] = {}
        self._wait_for_workers()
        done = as_completed(raise_errors=False, loop=self.client.loop)

        def hand_out(count: int) -> None:
            for i in islice(waiting, count):
                future = self.client.submit(mark_there, job(i), self.sandboxed, pure=False)
                numbers[future] = i
                done.add(future)

        hand_out(2 * max(1, sum(self.client.nthreads().values())))
        for future in done:
            i = numbers.pop(future)
            yield (i, *self._outcome(future))
            hand_out(1)

    def _wait_for_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise ClusterError(
                f"The scheduler at {self.address} has had no worker for {WORKERS_S:g} seconds. Start some with "
                f"`dask worker {self.address} --nthreads 1`, or look at the queue that should."
            ) from None

    def _outcome(self, future: Any) -> tuple[str, str]:
        from distributed import KilledWorker

        if future.status == "finished":
            told = json.loads(future.result())
            if "refused" in told:
                raise ClusterError(f"The node {told['host']} cannot mark: {told['refused']}")
            return (json.dumps(told["marks"]), "") if "marks" in told else ("", told["trouble"])
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            return "", "Several workers of the cluster died over this submission. Look at it by hand."
        why = f"{type(error).__name__}: {error}" if error else f"the connection is lost ({future.status})"
        raise ClusterError(
            f"The cluster at {self.address} gave up: {why[:500]}. What is finished is kept; the same command goes on "
            "from there. Every worker needs the course installed as it is here."
        )

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# ---------------------------------------------------------------------------------------------------------------------
# In a Dask worker


def mark_there(job: str, sandboxed: bool) -> str:
    """Runs in a thread of a Dask worker: hands the job to a node process, one for each thread, which is kept."""
    for _ in range(2):
        node = _taken(sandboxed)
        told = node.ask(job)
        if told is not None:
            _IDLE[sandboxed].append(node)
            return json.dumps({"host": socket.gethostname(), **json.loads(told)})
        how = node.end()
    trouble = f"The grader's own process ended twice on this submission ({how}). Look at it by hand."
    return json.dumps({"host": socket.gethostname(), "trouble": trouble})


_IDLE: dict[bool, list[_Node]] = {True: [], False: []}


def _taken(sandboxed: bool) -> _Node:
    try:
        return _IDLE[sandboxed].pop()
    except IndexError:
        return _Node(sandboxed)


class _Node:
    """A process of `mi_course.grading.cluster_worker`."""

    def __init__(self, sandboxed: bool) -> None:
        word = "sandboxed" if sandboxed else "unsandboxed"
        command = [sys.executable, "-m", "mi_course.grading.cluster_worker", word]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, job: str) -> str | None:
        """One line for one line; None where the process ended, or took too long."""
        until = time.monotonic() + SUBMISSION_S
        found = bytearray()
        sender = threading.Thread(target=self._send, args=(job,), daemon=True)  # it may refuse before it has read all
        sender.start()
        while not found.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            part = self.process.stdout.read1(2**20) if ready else b""
            if not part:
                return None
            found += part
        return found.decode()

    def _send(self, job: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(job.encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> str:
        self.process.kill()
        status = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return f"exit status {status}"
