"""Limits on memory, and equal shares of the processor, by the kernel, where we were given a control group for it.

The process that watches looks every 50 ms; what a submission takes in between, a group's limit stops at once. Groups
are made below the nearest group around us that we may write to and that hands memory on. A service manager delegates
such a one (`systemd-run --user --scope mi-course grade ...`); a plain shell mostly has none.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache
from itertools import count
from pathlib import Path

__all__ = ["Group", "writable_cgroup"]

MOUNT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
_number = count()


class Group:
    """A group with a limit, for one submission. Raises OSError where it cannot be made."""

    def __init__(self, parent: Path, most: int) -> None:
        name = f"mi-course-{os.getpid()}-{next(_number)}"
        self.path = parent / name
        self.path.mkdir()
        self.others: list[Path] = []
        """Groups of this submission in other hierarchies, of version 1."""
        try:
            self._limit(most)
            self._share(name)
        except OSError:
            self.close()
            raise

    def _limit(self, most: int) -> None:
        if (self.path / "memory.max").exists():
            (self.path / "memory.max").write_text(str(most))
            with contextlib.suppress(OSError):
                (self.path / "memory.swap.max").write_text("0")
        else:
            (self.path / "memory.limit_in_bytes").write_text(str(most))
            with contextlib.suppress(OSError):  # only where swap is accounted for
                (self.path / "memory.memsw.limit_in_bytes").write_text(str(most))

    def _share(self, name: str) -> None:
        """One processor at most, and as much of a scarce one as every other submission, where that may be set."""
        if (self.path / "cpu.max").exists():
            with contextlib.suppress(OSError):
                (self.path / "cpu.max").write_text(f"{PERIOD_US} {PERIOD_US}")
                (self.path / "cpu.weight").write_text("100")
        elif (parent := _cpu_of_version_1()) is not None:
            with contextlib.suppress(OSError):
                path = parent / name
                path.mkdir()
                self.others.append(path)
                (path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (path / "cpu.cfs_quota_us").write_text(str(PERIOD_US))
                (path / "cpu.shares").write_text("1024")

    def add(self, pid: int) -> None:
        """Takes a process in, and what it will start. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))
        for other in self.others:
            with contextlib.suppress(OSError):
                (other / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many processes the kernel has ended here for memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                for line in (self.path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def close(self) -> None:
        """Removes it. Its processes have been ended by then, but the kernel may take a moment."""
        until = time.monotonic() + 2
        left = [self.path, *self.others]
        while left:
            try:
                left[-1].rmdir()
                left.pop()
            except FileNotFoundError:
                left.pop()
            except OSError:
                if time.monotonic() > until:
                    return
                time.sleep(0.002)


def writable_cgroup(most: int = 2**30) -> Path | None:
    """Where groups with a memory limit can be made; None where that is not given to us. Tried by making one."""
    for candidate in _candidates():
        with contextlib.suppress(OSError):
            sweep(candidate)
            if (cpu := _cpu_of_version_1()) is not None:
                sweep(cpu)
            Group(candidate, most).close()
            return candidate
    return None


def sweep(parent: Path) -> None:
    """Removes groups that a killed grader left: none of them holds a process."""
    for path in parent.glob("mi-course-*-*"):
        if not Path("/proc", path.name.split("-")[2]).exists():
            with contextlib.suppress(OSError):
                path.rmdir()


def _candidates() -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers == "memory":  # version 1, which lets a group with processes hold others
                found.append(MOUNT / "memory" / place.lstrip("/"))
            elif controllers == "":
                own = MOUNT / place.lstrip("/")
                found += [one for one in (own, *own.parents) if one.is_relative_to(MOUNT) and _hands_on(one)]
    return [one for one in found if one.is_dir() and os.access(one, os.W_OK)]


@cache
def _cpu_of_version_1() -> Path | None:
    """The group of version 1 that shares out the processor among us, if we may make others in it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if "cpu" in controllers.split(","):
                found = MOUNT / controllers / place.lstrip("/")
                return found if found.is_dir() and os.access(found, os.W_OK) else None
    return None


def _hands_on(path: Path) -> bool:
    """Whether a group of version 2 limits the memory of those below it, so that no process of its own is in the way."""
    with contextlib.suppress(OSError):
        return "memory" in (path / "cgroup.subtree_control").read_text().split()
    return False
