"""Runs the cells of one submission, and asks its answers. The learner's code controls everything in this process.

Nothing that it sends is trusted: the grader takes plain values from it, and judges them elsewhere.

On the channel, each message is a length of 8 bytes and a frame of `mi_course.wire`:
    -> {"setup", "cells", "cell_s", "patience", "names", "withheld"}
               <- {"begin": position}, {"error": position, "message", "late", "waited"} ..., {"ready": names}
    -> {"exercise": name}                         (forks)
    -> Ask     <- {"waited": id}, Observation     (any number of times, in the forked child)
    -> None    <- {"ended": status}               (the child has exited, and all that it started with it)
               <- {"reached": what, "name"}       (at any time: see `reaching`)

Limits count processor time, so that neighbors do not matter; by the clock they are `patience` times as long. "waited"
reports a time-out by the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import warnings
from dataclasses import replace
from typing import Any

import torch
from mi_sandbox import reaching, stand_ins
from mi_sandbox.processor import processor_limit

import mi_course
from mi_course import wire
from mi_course.asking import observe, watches
from mi_course.asking.cells import LessonStub, TimedOut, main_namespace, run_cell
from mi_course.asking.limits import Capture

_libc = ctypes.CDLL(None)
_kill = _libc.kill
_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 2.0
_LOOK_S = 0.02
"""How long to watch whether threads that an answer left behind are idle."""
_BOOTING_S = 0.3
"""Processor time for making the inputs."""
_WAITED = 0.7
"""A share of the limit. A time-out with less processor time than that may be the fault of others."""
_sending = threading.RLock()


def send(channel: socket.socket, message: Any) -> None:
    frame = wire.encode(message)
    with _sending:
        channel.sendall(len(frame).to_bytes(8, "little") + frame)


def receive(channel: socket.socket) -> Any:
    return wire.decode(_exactly(channel, int.from_bytes(_exactly(channel, 8), "little")))


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 2**20))
        if not part:
            os._exit(0)  # the grader is gone
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def run(channel: socket.socket, sandboxed: bool) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    warnings.simplefilter("ignore")
    job = receive(channel)
    namespace = main_namespace()
    sys.argv = [""]
    lesson = LessonStub(namespace)
    vars(mi_course).update(lesson=stand_ins.lesson_maker(lesson), exercise=stand_ins.inert, load_model=stand_ins.inert)
    watches.WATCHES["arguments"] = reaching.arguments
    for name in job["withheld"]:
        reaching.withhold(name)
    reaching.forget_our_modules()
    reaching.report(lambda what, name: send(channel, {"reached": what, "name": name}))
    for position, text in [*((0, text) for text in job["setup"]), *job["cells"]]:
        send(channel, {"begin": position})
        problem, late, waited = _run_cell(text, position, namespace, job["cell_s"], job["patience"])
        if problem:
            send(channel, {"error": position, "message": problem[:2000], "late": late, "waited": waited})
    namespace["lesson"] = lesson
    send(channel, {"ready": [name for name in job["names"] if dict.__contains__(namespace, name)]})
    while True:
        _exercise(channel, receive(channel)["exercise"], namespace, sandboxed, job["patience"])


def _run_cell(
    text: str, position: int, namespace: dict[str, Any], seconds: float, patience: float
) -> tuple[str, bool, bool]:
    """(Why the cell stopped, or ""; whether that was a time-out; whether it was one by the clock)."""
    began = time.process_time()
    with contextlib.redirect_stdout(Capture()), contextlib.redirect_stderr(Capture()), processor_limit(seconds):
        problem = run_cell(text, position, namespace, seconds * patience)
    late = isinstance(problem, TimedOut)
    return str(problem), late, late and time.process_time() - began < _WAITED * seconds


def _exercise(channel: socket.socket, name: str, namespace: dict[str, Any], sandboxed: bool, patience: float) -> None:
    """Ask one answer in a forked child, and report how that ended."""
    successors, their_end = os.pipe()
    os.set_blocking(successors, False)  # what the answer starts may keep the other end open
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            while (ask := receive(channel)) is not None:
                _answer(channel, namespace.get(name), ask, patience)
                if _busy_threads():
                    _continue_in_a_copy(their_end)
        finally:
            os._exit(0)
    os.close(their_end)
    status = _exit_status(child)
    while successor := _next_pid(successors):
        status = _exit_status(successor)
    os.close(successors)
    if sandboxed:
        _kill(-1, signal.SIGKILL)  # all that it started: every process but this one and process 1
        until = time.monotonic() + _REAP_S
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.002)
    send(channel, {"ended": status})


def _answer(channel: socket.socket, answer: Any, ask: wire.Ask, patience: float) -> None:
    """Send the Observation of one Ask, whose limit_s counts processor time here."""
    began = time.process_time()
    with processor_limit(ask.limit_s + _BOOTING_S):
        observation = observe(answer, replace(ask, limit_s=ask.limit_s * patience))
    late = any(reply.status == wire.TIMED_OUT for reply in observation.replies)
    if late and time.process_time() - began < _WAITED * ask.limit_s:
        send(channel, {"waited": ask.id})
    send(channel, observation)


def _exit_status(child: int) -> int:
    """Wait for a child; its exit status."""
    with contextlib.suppress(ChildProcessError, OverflowError):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 0


def _next_pid(successors: int) -> int:
    """The process that a child left its work to; 0 if there is none."""
    with contextlib.suppress(BlockingIOError):
        return int.from_bytes(os.read(successors, 4), "little")
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Threads that outlive their call


def _busy_threads() -> bool:
    """Whether other threads of this process want to compute, now that the call is over.

    Idle ones, of a pool say, are left alone: the answer may need them. A thread that waits for a processor counts as
    busy, so that the result does not depend on the machine's speed.
    """
    if len(sys._current_frames()) == 1:
        return False
    before = _demand_ns()
    time.sleep(_LOOK_S)  # releases the interpreter lock
    return _demand_ns() - before > _LOOK_S * 1e9 / 2


def _demand_ns() -> int:
    """How long the other threads have computed or waited for a processor; 0 if the kernel does not report it."""
    total, own = 0, str(threading.get_native_id())
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError, ValueError), open(f"/proc/self/task/{task}/schedstat") as file:
                total += 0 if task == own else sum(map(int, file.read().split()[:2]))
    return total


def _continue_in_a_copy(successors: int) -> None:
    """Return in a fork, which has the calling thread only; the original exits, and its threads with it.

    They would slow down later calls: by their share of the processor, and by a wait for the interpreter lock at every
    operation of torch. The runner, which adopts the copy, gets its process id through the pipe.
    """
    with warnings.catch_warnings(), contextlib.suppress(OSError):
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        copy = os.fork()
        if copy:
            os.write(successors, copy.to_bytes(4, "little"))
            os._exit(0)
