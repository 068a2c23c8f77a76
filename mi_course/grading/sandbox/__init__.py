"""Where the answers run: a warm server behind bubblewrap, and one walled child of it for each submission.

    with Sandbox.start() as sandbox:
        with sandbox.session() as session:
            session.send(...)
            session.receive(seconds)

Nothing that comes out of a session is believed. It is a plain value, or `Lost` says why there is none.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mi_course.errors import CourseError
from mi_course.grading.sandbox import bwrap, cgroups

__all__ = ["Lost", "Sandbox", "SandboxError", "Session"]

START_S = 120.0
GROUP_BYTES = 2 * 2**30
"""What the kernel lets one sandbox hold where it can be told to: a little more than the watcher does, who says why."""


class SandboxError(CourseError):
    """There is no sandbox to be had. The text says why, and what to do."""


class Lost(Exception):
    """A session that gives no answer any more. `kind`: timed_out, died, memory or garbage."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Sandbox:
    """The warm server. `walled` is False where somebody chose to go without."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, folder: str, sandboxed: bool) -> None:
        self.process, self.control, self.folder, self.sandboxed = process, control, folder, sandboxed
        self._ready = False
        self.groups = cgroups.writable_cgroup(GROUP_BYTES) if sandboxed else None
        """Where each submission gets a control group of its own; None where that is not to be had."""

    @classmethod
    def start(cls, unsandboxed: bool = False) -> Sandbox:
        """Starts the server and returns at once; `wait` waits until torch is there.

        Raises SandboxError where bubblewrap or namespaces are missing, unless `unsandboxed`.
        """
        if not unsandboxed:
            from mi_course.grading.sandbox.diagnosis import sandbox_problem

            problem = sandbox_problem()
            if problem:
                raise SandboxError(
                    f"Submissions are not run without a sandbox, and there is none here: {problem[0]}. {problem[1]} "
                    "--unsandboxed runs them with your rights and says so in every result: use it only for code that "
                    "you trust, or in a machine that you throw away."
                )
        folder = tempfile.mkdtemp(prefix="mi-course-sandbox-")
        bwrap.remove_at_exit(folder)
        bwrap.stage_files(Path(folder))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            log = open(Path(folder, "log"), "wb")  # noqa: SIM115
            process = subprocess.Popen(
                bwrap.server_command(folder, theirs.fileno(), sandboxed=not unsandboxed),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=bwrap.environment(folder) if unsandboxed else None,
                cwd="/" if not unsandboxed else folder,
            )
            log.close()
        return cls(process, ours, folder, not unsandboxed)

    def wait(self, models: list[dict[str, Any]] | None = None, include: tuple[str, ...] = ()) -> Sandbox:
        """Until the server is ready. models: configurations to boot beforehand. Raises SandboxError."""
        try:
            self.control.send(json.dumps({"models": models or [], "include": include}).encode())
            self.control.settimeout(START_S)
            told = json.loads(self.control.recv(2**16) or b"{}")
            self.control.settimeout(None)
        except (OSError, ValueError):
            told = {}
        if not told.get("ready"):
            said = Path(self.folder, "log").read_text(errors="replace").strip().splitlines()[-3:]
            self.close()
            raise SandboxError(
                f"The sandbox did not start: {' '.join(said) or 'it gave no reason'}. As root it runs as the user "
                f"nobody, who must be able to read {sys.prefix} and {sys.base_prefix}. `mi-course doctor` tells more."
            )
        if self.sandboxed and told["visible"]:
            self.close()
            raise SandboxError(f"The sandbox shows what it must not: mi_course.{', mi_course.'.join(told['visible'])}.")
        if told["threads"] != 1:
            self.close()
            raise SandboxError(f"The server has {told['threads']} threads after its imports; forks of it would hang.")
        self._ready = True
        return self

    def session(self) -> Session:
        """A fresh child of the server."""
        if not self._ready:
            self.wait()
        channel, their_channel = socket.socketpair()
        lifeline, their_leash = socket.socketpair()
        if self.groups:
            lifeline.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with their_channel, their_leash:
            try:
                word = b"group" if self.groups else b"go"
                socket.send_fds(self.control, [word], [their_channel.fileno(), their_leash.fileno()])
            except OSError as error:
                channel.close()
                lifeline.close()
                raise SandboxError(f"The sandbox's server is gone ({error}).") from None
        return Session(channel, lifeline, _grouped(lifeline, self.groups) if self.groups else None)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()
        bwrap.forget(self.folder)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Session:
    """One walled child. Closing it ends whatever runs in there."""

    def __init__(self, channel: socket.socket, lifeline: socket.socket, group: cgroups.Group | None = None) -> None:
        self.channel, self.lifeline, self.group = channel, lifeline, group

    def send(self, message: Any) -> None:
        """Raises Lost."""
        from mi_course import wire

        frame = wire.encode(message)
        try:
            self.channel.settimeout(30.0)
            self.channel.sendall(len(frame).to_bytes(8, "little") + frame)
        except TimeoutError:
            raise Lost("timed_out", "it took in nothing more") from None
        except OSError:
            raise self._lost() from None

    def receive(self, seconds: float, most: int = 2**20) -> Any:
        """One message of at most `most` bytes. Raises Lost."""
        from mi_course import wire

        deadline = time.monotonic() + seconds
        length = int.from_bytes(self._exactly(8, deadline), "little")
        if length > most:
            raise Lost("garbage", f"its reply would have {length:,} bytes, at most {most:,} are read")
        try:
            return wire.decode(self._exactly(length, deadline), wire.Limits(bytes=most))
        except wire.WireError as error:
            raise Lost("garbage", f"its reply cannot be read: {str(error)[:300]}") from None

    def _exactly(self, count: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            try:
                self.channel.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self.channel.recv(min(count - len(found), 2**20))
            except TimeoutError:
                raise Lost("timed_out", "it did not answer in time") from None
            except OSError:
                part = b""
            if not part:
                raise self._lost()
            found += part
        return bytes(found)

    def _lost(self) -> Lost:
        """Why the channel is dead: what the watching process says, which runs nothing of the learner's."""
        told = self._last_words()
        if "isolation" in told:
            raise SandboxError(f"A sandbox could not be made: {told['isolation']}.")
        if "memory" in told:
            return Lost("memory", f"it held more than {told['memory'] / 2**30:.1f} GB of memory")
        return Lost("died", self.how_it_ended(told.get("ended", 0)))

    def how_it_ended(self, status: int) -> str:
        """An exit status in words."""
        for_memory = self.group is not None and status == -9 and self.group.kills() > 0
        how = how_it_ended(status)
        return f"{how} by the kernel, for the memory that the submission held" if for_memory else how

    def _last_words(self) -> dict[str, Any]:
        try:
            self.lifeline.settimeout(3.0)
            found = json.loads(self.lifeline.recv(4096) or b"{}")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Lets go, and waits until nothing in there runs any more."""
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


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    import signal

    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit status {status}"


def _grouped(lifeline: socket.socket, groups: Path) -> cgroups.Group | None:
    """Puts the child that says hello on the lifeline into a group of its own, and lets it go on."""
    group = None
    try:
        lifeline.settimeout(START_S)
        _, ancillary, _, _ = lifeline.recvmsg(16, socket.CMSG_SPACE(struct.calcsize("3i")))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = struct.unpack("3i", data)[0]  # as the kernel numbers it out here
                group = cgroups.Group(groups, GROUP_BYTES)
                group.add(pid)
    except OSError:
        pass  # the watcher is there in any case
    finally:
        with contextlib.suppress(OSError):
            lifeline.send(b"1")
    return group
