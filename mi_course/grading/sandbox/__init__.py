"""Where answers run: a warm server behind bubblewrap, and one isolated child of it per submission.

    with Sandbox.start() as sandbox:
        with sandbox.session() as session:
            session.send(...)
            session.receive(seconds)

Nothing that comes out of a session is trusted. It is a plain value, or `Lost` says why there is none.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mi_course.errors import CourseError
from mi_course.grading.sandbox import bwrap, cgroups
from mi_course.grading.sandbox.diagnosis import sandbox_problem

__all__ = ["Lost", "Sandbox", "SandboxError", "Session"]

START_S = 120.0
DECODE_S = 20.0
"""Processor time for reading one reply."""
GROUP_BYTES = 2 * 2**30
"""The kernel's memory limit for one session, where control groups are available. A little more than the watching
process allows, which can say why it ended the session."""


class SandboxError(CourseError):
    """No sandbox can be had. The text says why, and what to do."""


class Lost(Exception):
    """A session that gives no more answers. `kind`: timed_out, died, memory or garbage."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Sandbox:
    """The warm server. `sandboxed` is False if the user chose to go without isolation."""

    seccomp = False
    """Whether system calls are filtered. Known after `wait`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, folder: str, sandboxed: bool) -> None:
        self.process, self.control, self.folder, self.sandboxed = process, control, folder, sandboxed
        self._ready = False
        self.groups = cgroups.writable_cgroup(GROUP_BYTES) if sandboxed else None
        """Where each session gets a control group of its own; None if there is no such place."""

    @classmethod
    def start(cls, unsandboxed: bool = False) -> Sandbox:
        """Start the server and return at once; `wait` waits until it has imported torch.

        Raises SandboxError if bubblewrap or namespaces are missing, unless `unsandboxed`.
        """
        if not unsandboxed:
            problem = sandbox_problem()
            if problem:
                raise SandboxError(
                    f"Submissions are not run without a sandbox, and there is none here: {problem[0]}. {problem[1]} "
                    "--unsandboxed runs them with your rights and says so in every result: use it only for code that "
                    "you trust, or on a machine that you throw away."
                )
        folder = tempfile.mkdtemp(prefix="mi-course-sandbox-")
        bwrap.remove_at_exit(folder)
        bwrap.stage_files(Path(folder))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(Path(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                bwrap.server_command(folder, theirs.fileno(), sandboxed=not unsandboxed),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=bwrap.environment(folder) if unsandboxed else None,
                cwd="/" if not unsandboxed else folder,
            )
        return cls(process, ours, folder, not unsandboxed)

    def wait(self, models: Sequence[dict[str, Any]] = (), include: Sequence[str] = ()) -> Sandbox:
        """Wait until the server is ready. Raises SandboxError.

        models: configurations to boot beforehand. include: plug-ins' modules with references and drivers.
        """
        try:
            self.control.send(json.dumps({"models": list(models), "include": list(include)}).encode())
            self.control.settimeout(START_S)
            state = json.loads(self.control.recv(2**16) or b"{}")
            self.control.settimeout(None)
        except (OSError, ValueError):
            state = {}
        if not state.get("ready"):
            log = Path(self.folder, "log").read_text(errors="replace").strip().splitlines()[-3:]
            self.close()
            raise SandboxError(
                f"The sandbox did not start: {' '.join(log) or 'it gave no reason'}. As root it runs as the user "
                f"nobody, who must be able to read {sys.prefix} and {sys.base_prefix}. See `mi-course doctor`."
            )
        if self.sandboxed and state["visible"]:
            self.close()
            modules = ", ".join(f"mi_course.{name}" for name in state["visible"])
            raise SandboxError(f"The sandbox shows what it must hide: {modules}.")
        if state["threads"] != 1:
            self.close()
            raise SandboxError(f"The server has {state['threads']} threads after its imports; forks of it would hang.")
        self.seccomp = bool(state["seccomp"])
        self._ready = True
        return self

    def session(self) -> Session:
        """A fresh child of the server. Raises SandboxError."""
        if not self._ready:
            self.wait()
        channel, their_channel = socket.socketpair()
        lifeline, their_lifeline = socket.socketpair()
        if self.groups:
            lifeline.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with their_channel, their_lifeline:
            try:
                word = b"group" if self.groups else b"go"
                socket.send_fds(self.control, [word], [their_channel.fileno(), their_lifeline.fileno()])
            except OSError as error:
                channel.close()
                lifeline.close()
                raise SandboxError(f"The sandbox's server is gone ({error}).") from None
        return Session(channel, lifeline, _put_in_group(lifeline, self.groups) if self.groups else None)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()
        if self.groups:
            cgroups.sweep(self.groups)
        bwrap.forget(self.folder)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Session:
    """One isolated child. Closing the session ends whatever runs in it."""

    def __init__(self, channel: socket.socket, lifeline: socket.socket, group: cgroups.Group | None = None) -> None:
        self.channel, self.lifeline, self.group = channel, lifeline, group

    def send(self, message: Any) -> None:
        """Send one message. Raises Lost."""
        from mi_course import wire  # imports torch, for which starting the server must not wait

        frame = wire.encode(message)
        try:
            self.channel.settimeout(30.0)
            self.channel.sendall(len(frame).to_bytes(8, "little") + frame)
        except TimeoutError:
            raise Lost("timed_out", "it stopped reading") from None
        except OSError:
            raise self._lost() from None

    def receive(self, seconds: float, max_bytes: int = 2**20) -> Any:
        """One message of at most `max_bytes`. Raises Lost."""
        from mi_course import wire  # imports torch, for which starting the server must not wait
        from mi_course.asking.limits import TimeUp, processor_limit

        deadline = time.monotonic() + seconds
        length = int.from_bytes(self._exactly(8, deadline), "little")
        if length > max_bytes:
            raise Lost("garbage", f"its reply would have {length:,} bytes, at most {max_bytes:,} are read")
        frame = self._exactly(length, deadline)
        try:
            with processor_limit(DECODE_S):
                return wire.decode(frame, wire.Limits(bytes=max_bytes))
        except TimeUp:
            raise Lost("garbage", f"its reply takes more than {DECODE_S:g} seconds to read") from None
        except (wire.WireError, MemoryError) as error:
            raise Lost("garbage", f"its reply cannot be read: {str(error)[:300]}") from None

    def _exactly(self, count: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            try:
                self.channel.settimeout(max(deadline - time.monotonic(), 0.001))
                chunk = self.channel.recv(min(count - len(received), 2**20))
            except TimeoutError:
                raise Lost("timed_out", "it did not answer in time") from None
            except OSError:
                chunk = b""
            if not chunk:
                raise self._lost()
            received += chunk
        return bytes(received)

    def _lost(self) -> Lost:
        """Why the channel is dead, from the watching process, which runs none of the learner's code."""
        report = self._last_report()
        if "isolation" in report:
            raise SandboxError(f"A sandbox could not be made: {report['isolation']}.")
        if "memory" in report:
            return Lost("memory", f"it held more than {report['memory'] / 2**30:.1f} GB of memory")
        return Lost("died", self.describe_exit(report.get("ended", 0)))

    def describe_exit(self, status: int) -> str:
        """An exit status in words."""
        out_of_memory = self.group is not None and status == -signal.SIGKILL and self.group.kills() > 0
        how = _describe_exit(status)
        return f"{how} by the kernel, for the memory that the submission held" if out_of_memory else how

    def _last_report(self) -> dict[str, Any]:
        try:
            self.lifeline.settimeout(3.0)
            report = json.loads(self.lifeline.recv(4096) or b"{}")
        except (OSError, ValueError):
            return {}
        return report if isinstance(report, dict) else {}

    def close(self) -> None:
        """Close the session; wait until its processes have exited."""
        self.channel.close()
        try:
            self.lifeline.shutdown(socket.SHUT_WR)
            self.lifeline.settimeout(5.0)
            while self.lifeline.recv(4096):
                pass
        except OSError:
            pass
        self.lifeline.close()
        if self.group:
            self.group.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _put_in_group(lifeline: socket.socket, groups: Path) -> cgroups.Group | None:
    """Put the child that says hello on the lifeline into a control group of its own, and let it continue."""
    group = None
    try:
        lifeline.settimeout(START_S)
        _, ancillary, _, _ = lifeline.recvmsg(16, socket.CMSG_SPACE(struct.calcsize("3i")))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = struct.unpack("3i", data)[0]  # its number in our PID namespace
                group = cgroups.Group(groups, GROUP_BYTES)
                group.add(pid)
    except OSError:
        pass  # the watching process limits memory in any case
    finally:
        with contextlib.suppress(OSError):
            lifeline.send(b"1")
    return group
