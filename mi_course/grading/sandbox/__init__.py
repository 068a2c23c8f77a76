"""Where the answers run: a warm server behind bubblewrap, and one walled child of it for each submission.

    with Sandbox.start() as sandbox:
        with sandbox.session() as session:
            session.send(...)
            session.receive(seconds)

Nothing that comes out of a session is believed. It is a plain value, or `Lost` says why there is none.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["Lost", "Sandbox", "SandboxError", "Session"]

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1]
VISIBLE = ("wire", "asking", "interp", "show")
START_S = 120.0
FRAME_BYTES = 64 * 2**20


class SandboxError(RuntimeError):
    """There is no sandbox to be had. The text says why, and what to do."""


class Lost(Exception):
    """A session that gives no answer any more. `kind`: timed_out, died, memory or garbage."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Sandbox:
    """The warm server. `walled` is False where somebody chose to go without."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, folder: str, walled: bool) -> None:
        self.process, self.control, self.folder, self.walled = process, control, folder, walled
        self._ready = False

    @classmethod
    def start(cls, unsandboxed: bool = False) -> Sandbox:
        """Starts the server and returns at once; `wait` waits until torch is there.

        Raises SandboxError where bubblewrap or namespaces are missing, unless `unsandboxed`.
        """
        if not unsandboxed:
            from mi_course.doctor import sandbox_problem

            problem = sandbox_problem()
            if problem:
                raise SandboxError(
                    f"Submissions are not run without a sandbox, and there is none here: {problem[0]}. {problem[1]} "
                    "--unsandboxed runs them with your rights and says so in every result: use it only for code that "
                    "you trust, or in a machine that you throw away."
                )
        folder = tempfile.mkdtemp(prefix="mi-course-sandbox-")
        overlay(Path(folder))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            log = open(Path(folder, "log"), "wb")  # noqa: SIM115
            process = subprocess.Popen(
                _command(folder, theirs.fileno(), walled=not unsandboxed),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(folder) if unsandboxed else None,
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
        if self.walled and told["visible"]:
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
        line, their_line = socket.socketpair()
        leash, their_leash = socket.socketpair()
        with their_line, their_leash:
            try:
                socket.send_fds(self.control, [b"go"], [their_line.fileno(), their_leash.fileno()])
            except OSError as error:
                line.close()
                leash.close()
                raise SandboxError(f"The sandbox's server is gone ({error}).") from None
        return Session(line, leash)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Session:
    """One walled child. Closing it ends whatever runs in there."""

    def __init__(self, line: socket.socket, leash: socket.socket) -> None:
        self.line, self.leash, self._reason = line, leash, None

    def send(self, message: Any) -> None:
        """Raises Lost."""
        from mi_course import wire

        frame = wire.encode(message)
        try:
            self.line.settimeout(30.0)
            self.line.sendall(len(frame).to_bytes(8, "little") + frame)
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
                self.line.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self.line.recv(min(count - len(found), 2**20))
            except TimeoutError:
                raise Lost("timed_out", "it did not answer in time") from None
            except OSError:
                part = b""
            if not part:
                raise self._lost()
            found += part
        return bytes(found)

    def _lost(self) -> Lost:
        """Why the line is dead: what the watching process says, which runs nothing of the learner's."""
        told = self._last_words()
        if "walls" in told:
            raise SandboxError(f"A sandbox could not be made: {told['walls']}.")
        if "memory" in told:
            return Lost("memory", f"it held more than {told['memory'] / 2**30:.1f} GB of memory")
        return Lost("died", how_it_ended(told.get("ended", 0)))

    def _last_words(self) -> dict[str, Any]:
        try:
            self.leash.settimeout(3.0)
            found = json.loads(self.leash.recv(4096) or b"{}")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Lets go, and waits until nothing in there runs any more."""
        self.line.close()
        try:
            self.leash.shutdown(socket.SHUT_WR)
            self.leash.settimeout(5.0)
            while self.leash.recv(4096):
                pass
        except OSError:
            pass
        self.leash.close()

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


# ---------------------------------------------------------------------------------------------------------------------
# What is there inside


def overlay(folder: Path) -> None:
    """Copies what a sandbox may see: the visible rooms, plug-ins' asking modules, models, the server. No truth."""
    from importlib.util import find_spec

    from mi_course.content import data_dir
    from mi_course.lessons import asking_modules

    skip = shutil.ignore_patterns("__pycache__")
    target = folder / "course" / "mi_course"
    target.mkdir(parents=True)
    shutil.copyfile(PACKAGE / "__init__.py", target / "__init__.py")
    for name in VISIBLE:
        shutil.copytree(PACKAGE / name, target / name, ignore=skip)
    shutil.copytree(HERE / "inside", folder / "course" / "mi_sandbox", ignore=skip)
    for module in asking_modules():
        spec = find_spec(module)
        if spec is not None and spec.origin:
            place = folder.joinpath("course", *module.split(".")).with_suffix(".py")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(spec.origin, place)
    (folder / "course" / "data").mkdir()
    for path in data_dir().glob("*.safetensors"):
        shutil.copyfile(path, folder / "course" / "data" / path.name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder / "course")], check=False)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _environment(folder: str) -> dict[str, str]:
    """Nothing of the grader's own environment."""
    return {
        "PATH": os.defpath,
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONPATH": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_THREAD_LIMIT": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own allocator starts a thread
        "MI_COURSE_CACHE": "/tmp/cache",
        "MI_COURSE_HOME": "/tmp/home",
        "HF_HUB_OFFLINE": "1",
    }


def _command(folder: str, control: int, walled: bool) -> list[str]:
    server = ["-s", "-m", "mi_sandbox.server", str(control), "1" if walled else "0"]
    if not walled:
        return ["/usr/bin/env", f"PYTHONPATH={folder}/course", sys.executable, *server]
    binds = {f"{folder}/course": "/course"}
    links = []
    for path in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin"):
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            binds[path] = path
    for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/nix/store"):
        if os.path.exists(path):
            binds[path] = path
    for path in dict.fromkeys((sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable)))):
        if _placed(path, binds) is None:
            # Every submission gets a /tmp of its own, which would hide an environment that lies there.
            binds[path] = f"/env/{len(binds)}" if f"{path}/".startswith("/tmp/") else path
    masks = _masks(binds)
    plan = {
        "bwrap": shutil.which("bwrap"),
        "binds": binds,
        "links": links,
        "masks": {
            "folders": [_placed(one, binds) for one in masks if os.path.isdir(one)],
            "files": [_placed(one, binds) for one in masks if os.path.isfile(one)],
        },
        "env": _environment("/course"),
        "command": [_placed(sys.executable, binds) or sys.executable, *server],
    }
    return [sys.executable, "-I", "-S", str(HERE / "launch.py"), json.dumps(plan)]


def _placed(path: str, binds: dict[str, str]) -> str | None:
    """Where a path of this machine is found inside; None if it is not."""
    for there, place in binds.items():
        if path == there or path.startswith(f"{there}/"):
            return place + path[len(there) :]
    return None


def _masks(binds: dict[str, str]) -> list[str]:
    """What is bound and holds truth: an installed course, and other people's lessons beside it. Files or folders."""
    from importlib.util import find_spec

    from mi_course.lessons import catalogue

    found = [str(PACKAGE)]
    for info in catalogue():
        if info.folder:
            found.append(info.folder)
            try:
                spec = find_spec(info.module.partition(".")[0])
            except (ImportError, ValueError):
                spec = None
            if spec:
                found += spec.submodule_search_locations or [spec.origin or ""]
    root = PACKAGE.parent
    if (root / "solutions").is_dir():  # a clone that holds its own environment
        found += [str(root / name) for name in ("solutions", "tests", "notebooks")]
    return sorted({one for one in found if os.path.exists(one) and any(one.startswith(f"{b}/") for b in binds)})
