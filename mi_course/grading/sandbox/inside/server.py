"""The warm server: torch is imported once, and every submission gets an isolated child, which is forked from here.

    python -m mi_sandbox.server CONTROL SANDBOXED     CONTROL: a descriptor; SANDBOXED: 1, or 0 without isolation

CONTROL receives pairs of descriptors: the channel on which a submission is asked, and the lifeline. A watching process
(process 1 of its namespace) holds the lifeline and runs nothing of the submission. When the grader closes the lifeline,
it exits, and the kernel kills everything else in that namespace. If the message is "group" instead of "go", it writes
"hello" to the lifeline and waits to be put into a control group.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1", MKL_NUM_THREADS="1")  # before torch is imported

import contextlib
import ctypes
import gc
import json
import select
import signal
import socket
import sys
import time
from typing import Any

import torch
from mi_sandbox import isolation, runner

import mi_course
from mi_course import wire
from mi_course.asking import include_all, observe
from mi_course.asking.cells import transformer

TICK_S = 0.05
MEMORY_BYTES = 1536 * 2**20
"""What all processes of one sandbox may hold together, beyond what each shares with the server."""
CPU_S = 600.0
SOCKET_BYTES = 2 * 212_992
"""What the buffers of a socket hold at most, at the kernel's default size."""
FEW_FILES = 16
"""Descriptors of a process that are not counted as sockets."""
CROWD = 4
"""Processes and threads of one sandbox above which all of them get the lowest priority."""
HIDDEN = tuple(os.path.dirname(os.path.realpath(str(module.__file__))) for module in (mi_course, isolation))
"""The folders of our own code, whose files hold what lessons ask for. Sessions have it in memory only."""


def main() -> None:
    import_all()
    control = socket.socket(fileno=int(sys.argv[1]))
    sandboxed = sys.argv[2] == "1"
    torch.set_num_threads(1)
    hello, *_ = socket.recv_fds(control, 2**20, 0)
    warm_up(json.loads(hello))
    gc.collect()
    gc.freeze()
    use_huge_pages()
    threads = 1 + len(_other_threads())
    visible = [name for name in ("lessons", "judging", "exercises", "grading", "course") if _importable(name)]
    state = {"ready": True, "threads": threads, "visible": visible, "seccomp": isolation.seccomp_available()}
    control.send(json.dumps(state).encode())
    while True:
        word, fds, _, _ = socket.recv_fds(control, 64, 2)
        if not word:
            os._exit(0)
        if len(fds) == 2:
            serve(fds[0], fds[1], sandboxed, grouped=word == b"group")
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def import_all() -> None:
    """Import all of the course that answers may use: sessions have it in memory only."""
    import importlib
    import pkgutil

    for package in (importlib.import_module(f"mi_course.{name}") for name in ("interp", "show")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    transformer()


def warm_up(work: dict[str, Any]) -> None:
    """Boot the models that will be asked about, so that children inherit them. Their configurations are no secret."""
    include_all(work.get("include", ()))
    for config in work.get("models", ()):
        call = wire.Call((wire.Ref("model", {"config": config, "seed": 0}),))
        observe(lambda model: None, wire.Ask((call,)))
    observe(lambda x: x, wire.Ask((wire.Call((torch.zeros(2),)),)))


def use_huge_pages() -> None:
    """Move what the imports left in memory to huge pages, so that a fork has few page tables to copy.

    Forking for an exercise takes 13 ms less. Linux 6.1 and later; elsewhere the kernel refuses, and nothing changes.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, _, _, _, *name = line.split()
            if permissions == "rw-p" and name in ([], ["[heap]"]):
                start, end = (int(address, 16) for address in addresses.split("-"))
                madvise(start, end - start, _MADV_COLLAPSE)


_MADV_COLLAPSE = 25


def _other_threads() -> list[str]:
    """Names of threads that a fork would lose. The one of Arrow's allocator handles forks, and does not count."""
    names = []
    if os.path.isdir("/proc/self/task"):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/comm") as file:
                name = file.read().strip()
            if int(task) != os.getpid() and not name.startswith("jemalloc"):
                names.append(name)
    return names


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"mi_course.{name}") is not None


def serve(channel: int, lifeline: int, sandboxed: bool, grouped: bool) -> None:
    """Fork a child that watches one submission. Returns at once, in the server."""
    child = os.fork()
    if child:
        if sandboxed:  # it ends as soon as it has forked process 1 of the new namespace
            os.waitpid(child, 0)
        return
    try:
        isolation.close_all_but(channel, lifeline)
        if sandboxed:
            isolation.enter_namespaces(HIDDEN)
        else:
            os.setsid()
        if grouped:
            os.write(lifeline, b"hello")
            os.read(lifeline, 1)
        watch(channel, lifeline, sandboxed)
    except BaseException as error:
        _report_no_isolation(lifeline, error)
    finally:
        os._exit(1)


def _report_no_isolation(lifeline: int, error: BaseException) -> None:
    with contextlib.suppress(OSError):
        os.write(lifeline, json.dumps({"isolation": f"{type(error).__name__}: {error}"}).encode())


def watch(channel: int, lifeline: int, sandboxed: bool) -> None:
    """Fork the runner, watch it, and report on the lifeline how it ended. Does not return."""
    base = memory_of("self")
    pid = os.fork()
    if not pid:
        try:
            if sandboxed:
                isolation.set_rlimits(CPU_S)
                isolation.install_seccomp_filter()
            else:
                os.setpgid(0, 0)
        except BaseException as error:
            _report_no_isolation(lifeline, error)
            os._exit(1)
        try:
            os.close(lifeline)
            runner.run(socket.socket(fileno=channel), sandboxed)
        finally:
            os._exit(0)
    os.close(channel)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    report = None
    memory = Memory(base)
    while report is None:
        if poll.poll(TICK_S * 1000):
            break  # the grader closed the lifeline
        report = _ended(pid)
        if report is None and sandboxed:
            pids = [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
            if memory.held(pids) > MEMORY_BYTES:
                report = {"memory": MEMORY_BYTES}
            calm(pids)
    if not sandboxed:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    else:
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
    if report:
        os.write(lifeline, json.dumps(report).encode())
    os._exit(0)


def _ended(runner_pid: int) -> dict[str, Any] | None:
    """How the runner ended, if it did. Reaps orphans too: this process is their parent."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            if pid == runner_pid:
                return {"ended": os.waitstatus_to_exitcode(status)}
    return {"ended": 0}


class Memory:
    """Measures what the processes of one sandbox hold together.

    base: bytes that each process shares with the server it was forked from, unless it has replaced or dropped them.
    """

    def __init__(self, base: int) -> None:
        self.base, self.not_before = base, 0.0

    def held(self, pids: list[str]) -> int:
        """Bytes beyond what was inherited, and what their sockets may hold.

        Processes that run another program, or dropped what they inherited, share less than `base` with the server. So
        where many processes may hide more than the limit, pages are counted one by one, in a tenth of the time at most.
        """
        sockets = SOCKET_BYTES * sum(max(0, _files_of(pid) - FEW_FILES) for pid in pids)
        sizes = [memory_of(pid) for pid in pids]
        least = sockets + sum(max(0, size - self.base) for size in sizes)
        if least > MEMORY_BYTES or sockets + sum(sizes) - self.base <= MEMORY_BYTES:
            return least
        began = time.monotonic()
        if began < self.not_before:
            return least
        shares = sum(share_of(pid, size) for pid, size in zip(pids, sizes, strict=True))
        self.not_before = time.monotonic() + 10 * (time.monotonic() - began)
        return max(least, sockets + shares - self.base)


def share_of(pid: str, most: int) -> int:
    """Anonymous and shared memory of a process in bytes, each page divided by the number of processes that map it.

    Of a process that forbids looking: `most`.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in file if line.startswith("Pss")}
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, IndexError):
        return most
    parts = [sizes[name] for name in ("Pss_Anon", "Pss_Shmem") if name in sizes]
    return (sum(parts) if parts else sizes.get("Pss", 0)) * 1024


def memory_of(pid: str) -> int:
    """Anonymous and shared memory of a process and its page tables, in bytes."""
    try:
        with open(f"/proc/{pid}/status") as file:
            kinds = ("RssAnon:", "RssShmem:", "VmPTE:")
            return sum(int(line.split()[1]) for line in file if line.startswith(kinds)) * 1024
    except (OSError, ValueError, IndexError):
        return 0


def _files_of(pid: str) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:  # it forbids looking
        return int(isolation.FILES)
    except OSError:
        return 0


def calm(pids: list[str]) -> None:
    """Give all of them the lowest priority if they are many processes or threads, so that neighbors need not wait.

    Control groups do this too, where they are available.
    """
    tasks = []
    for pid in pids:
        with contextlib.suppress(OSError):
            tasks += [int(task) for task in os.listdir(f"/proc/{pid}/task")]
    if len(tasks) > CROWD:
        for task in tasks:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, task, 19)


if __name__ == "__main__":
    main()
