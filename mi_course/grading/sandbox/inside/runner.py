"""Runs the cells of one submission, and asks its answers. Everything here is in the hands of the learner's code.

What it says is therefore believed by nobody: the grader takes plain values from it, and judges them elsewhere.

On the channel, each message is 8 bytes of length and a frame of `mi_course.wire`:
    -> {"setup", "cells", "cell_s", "names"}      <- {"begin": position}, {"error": position, "message"} ...,
                                                     {"ready": names}
    -> {"exercise": name}                         (forks)
    -> Ask     <- Observation                     (as often as wanted, in the forked child)
    -> None    <- {"ended": status}               (the child is gone, and whatever it started with it)
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
from typing import Any

import torch

import mi_course
from mi_course import wire
from mi_course.asking import observe
from mi_course.asking.cells import InertStub, LessonStub, main_namespace, run_cell
from mi_course.asking.limits import Capture

_libc = ctypes.CDLL(None)
_kill = _libc.kill
_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 2.0
_LOOK_S = 0.02
"""How long to look whether threads that an answer left behind are idle."""


def send(channel: socket.socket, message: Any) -> None:
    frame = wire.encode(message)
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
    vars(mi_course).update(
        lesson=lambda which: lesson,
        exercise=lambda id: InertStub(),
        load_model=lambda *args, **options: InertStub(),
    )
    for position, text in [*((0, text) for text in job["setup"]), *job["cells"]]:
        send(channel, {"begin": position})
        with contextlib.redirect_stdout(Capture()), contextlib.redirect_stderr(Capture()):
            problem = run_cell(text, position, namespace, job["cell_s"])
        if problem:
            send(channel, {"error": position, "message": problem[:2000]})
    namespace["lesson"] = lesson
    send(channel, {"ready": [name for name in job["names"] if dict.__contains__(namespace, name)]})
    while True:
        _exercise(channel, receive(channel)["exercise"], namespace, sandboxed)


def _exercise(channel: socket.socket, name: str, namespace: dict[str, Any], sandboxed: bool) -> None:
    """Asks one answer in a forked child, and says how that ended."""
    news, its_news = os.pipe()
    os.set_blocking(news, False)  # what the answer starts may hold the other end for ever
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            while (ask := receive(channel)) is not None:
                send(channel, observe(namespace.get(name), ask))
                if _busy_threads():
                    _go_on_in_a_copy(its_news)
        finally:
            os._exit(0)
    os.close(its_news)
    status = _ended(child)
    while successor := _number_in(news):
        status = _ended(successor)
    os.close(news)
    if sandboxed:
        _kill(-1, signal.SIGKILL)  # what it started, all but us and process 1
        until = time.monotonic() + _REAP_S
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.002)
    send(channel, {"ended": status})


def _ended(child: int) -> int:
    """Waits for a child, and gives its exit status."""
    with contextlib.suppress(ChildProcessError, OverflowError):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 0


def _number_in(news: int) -> int:
    with contextlib.suppress(BlockingIOError):
        return int.from_bytes(os.read(news, 4), "little")
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Threads that outlive their call


def _busy_threads() -> bool:
    """Whether other threads of this process want to compute, now that the call is over.

    Idle ones, of a pool say, are left alone: the answer may count on them. A thread that waits for a processor is as
    busy as one that has it, so that a slow machine sees the same.
    """
    if len(sys._current_frames()) == 1:
        return False
    before = _wanted_ns()
    time.sleep(_LOOK_S)  # gives them the interpreter
    return _wanted_ns() - before > _LOOK_S * 1e9 / 2


def _wanted_ns() -> int:
    """How long the other threads have computed or waited for a processor; 0 where the kernel does not tell."""
    total, own = 0, str(threading.get_native_id())
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError, ValueError), open(f"/proc/self/task/{task}/schedstat") as file:
                total += 0 if task == own else sum(map(int, file.read().split()[:2]))
    return total


def _go_on_in_a_copy(news: int) -> None:
    """Returns in a fork, which carries the calling thread only; the original ends, and its threads with it.

    They would slow down the calls that follow: by their share of the processor, and by a wait for the interpreter at
    every operation of torch. The runner adopts the copy, and is told its number.
    """
    with warnings.catch_warnings(), contextlib.suppress(OSError):
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        copy = os.fork()
        if copy:
            os.write(news, copy.to_bytes(4, "little"))
            os._exit(0)
