"""Marks on many machines: a Dask cluster is handed submissions, and returns their marks as text.

Each Dask worker starts a grader of its own (`cluster_worker`), with a sandbox of its own. What a submission says or
does never leaves that sandbox; Dask carries only text that the node wrote. A worker that dies loses nothing: Dask hands
its submission to another one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from mi_course.errors import CourseError
from mi_course.grading.jobs import SUBMISSION_S, Job
from mi_course.grading.marks import Failure, Marks
from mi_course.grading.store import course_fingerprint

__all__ = ["ClusterError", "DaskBackend", "mark_on_node"]

CONNECT_S = 20.0
WORKERS_S = 300.0
"""How long to wait for the first worker: a queue may have to start one."""


class ClusterError(CourseError):
    """The cluster cannot be used, or not any more. The text says why, and what to do."""


class DaskBackend:
    """A connection to a Dask scheduler. Raises ClusterError."""

    def __init__(self, address: str, unsandboxed: bool = False) -> None:
        self.sandboxed, self.address, self.dask = not unsandboxed, address, _dask()
        try:
            self.client = self.dask.Client(address, timeout=CONNECT_S, set_as_default=False, name="mi-course-grade")
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"No Dask scheduler answers at {address} ({type(error).__name__}: {str(error)[:200]}). Start one with "
                "`dask scheduler`, and give the address that it prints: tcp://HOST:8786."
            ) from None

    def mark_all(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[tuple[int, Marks | Failure]]:
        """Raises ClusterError. Few jobs are on their way at a time, so that a large class fits into memory."""
        if not jobs:
            return
        waiting = iter(range(len(jobs)))
        pending: dict[Any, int] = {}
        self._wait_for_workers()
        done = self.dask.as_completed(raise_errors=False, loop=self.client.loop)

        def submit(count: int) -> None:
            for i in islice(waiting, count):
                future = self.client.submit(mark_on_node, _request(jobs[i]), self.sandboxed, pure=False)
                pending[future] = i
                done.add(future)

        submit(1 if alone else 2 * max(1, sum(self.client.nthreads().values())))
        for future in done:
            yield pending.pop(future), self._result(future)
            submit(1)

    def _wait_for_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise ClusterError(
                f"The scheduler at {self.address} has had no worker for {WORKERS_S:g} seconds. Start some with "
                f"`dask worker {self.address} --nthreads 1`, or look at the queue that should."
            ) from None

    def _result(self, future: Any) -> Marks | Failure:
        if future.status == "finished":
            reply = json.loads(future.result())
            if "refused" in reply:
                raise ClusterError(f"The node {reply['host']} cannot mark: {reply['refused']}")
            return Marks.from_json(reply["marks"]) if "marks" in reply else Failure(reply["failure"])
        error = future.exception() if future.status == "error" else None
        if isinstance(error, self.dask.KilledWorker):
            return Failure("Several workers of the cluster died on this submission. Look at it by hand.")
        why = f"{type(error).__name__}: {error}" if error else f"the connection is lost ({future.status})"
        raise ClusterError(
            f"The cluster at {self.address} gave up: {why[:500]}. What is finished is kept; run the same command again "
            "to continue. Every worker needs the course installed as it is here."
        )

    def __enter__(self) -> DaskBackend:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)


def _dask() -> Any:
    """Dask's `distributed`, which is an extra. Raises ClusterError without it."""
    try:
        import distributed
    except ImportError:
        message = 'Grading on a cluster needs Dask: pip install "mi-course[cluster]" -c constraints.txt'
        raise ClusterError(message) from None
    return distributed


def _request(job: Job) -> str:
    """All that a node needs to mark one submission, as one line."""
    loaded = job.load()
    return json.dumps(
        {
            "name": job.name,
            "files": [[file, base64.b64encode(raw).decode()] for file, raw in loaded.files],
            "problem": loaded.problem,
            "notes": loaded.notes,
            "lesson": job.lesson,
            "secret": job.secret.hex(),
            "fingerprint": course_fingerprint(),
        }
    )


# ---------------------------------------------------------------------------------------------------------------------
# In a Dask worker


def mark_on_node(request: str, sandboxed: bool) -> str:
    """Runs in a thread of a Dask worker: passes the request to a grader process, which is kept for the next one."""
    status = 0
    for _ in range(2):
        node = _idle_node(sandboxed)
        reply = node.ask(request)
        if reply is not None:
            _IDLE[sandboxed].append(node)
            return json.dumps({"host": socket.gethostname(), **json.loads(reply)})
        status = node.end()
    failure = f"The grader's own process ended twice on this submission (exit status {status}). Look at it by hand."
    return json.dumps({"host": socket.gethostname(), "failure": failure})


_IDLE: dict[bool, list[_Node]] = {True: [], False: []}


def _idle_node(sandboxed: bool) -> _Node:
    try:
        return _IDLE[sandboxed].pop()
    except IndexError:
        return _Node(sandboxed)


class _Node:
    """A process of `mi_course.grading.cluster_worker`."""

    def __init__(self, sandboxed: bool) -> None:
        option = "sandboxed" if sandboxed else "unsandboxed"
        command = [sys.executable, "-m", "mi_course.grading.cluster_worker", option]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def ask(self, request: str) -> str | None:
        """The line that answers this line; None if the process ended, or took too long."""
        deadline = time.monotonic() + SUBMISSION_S
        reply = bytearray()
        # In a thread, since the process may refuse before it has read everything.
        threading.Thread(target=self._send, args=(request,), daemon=True).start()
        while not reply.endswith(b"\n"):
            ready, _, _ = select.select([self.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.stdout.fileno(), 2**20) if ready else b""
            if not chunk:
                return None
            reply += chunk
        return reply.decode()

    def _send(self, request: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stdin.write(request.encode() + b"\n")
            self.stdin.flush()

    def end(self) -> int:
        """Kill the process. Returns its exit status."""
        self.process.kill()
        status = self.process.wait()
        with contextlib.suppress(OSError):  # what could not be written is flushed
            self.stdin.close()
        self.stdout.close()
        return status
