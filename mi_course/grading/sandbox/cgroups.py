"""Control groups: limits on memory and equal shares of the processor, enforced by the kernel where one is delegated.

The watching process measures memory every 50 ms; a group's limit also stops what a submission takes in between. Groups
are made below the nearest enclosing group that is writable and controls the memory of its children. A service manager
delegates one (`systemd-run --user --scope mi-course grade ...`); a plain shell usually has none.
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
    """A control group for one submission. Raises OSError if it cannot be made.

    max_bytes: the limit on its memory.
    """

    def __init__(self, parent: Path, max_bytes: int) -> None:
        name = f"mi-course-{os.getpid()}-{next(_number)}"
        self.path = parent / name
        self.path.mkdir()
        self.others: list[Path] = []
        """Groups of this submission in other hierarchies, of version 1."""
        try:
            self._limit(max_bytes)
            self._share(name)
        except OSError:
            self.close()
            raise

    def _limit(self, max_bytes: int) -> None:
        if (self.path / "memory.max").exists():
            (self.path / "memory.max").write_text(str(max_bytes))
            with contextlib.suppress(OSError):
                (self.path / "memory.swap.max").write_text("0")
        else:
            (self.path / "memory.limit_in_bytes").write_text(str(max_bytes))
            with contextlib.suppress(OSError):  # only where swap is accounted for
                (self.path / "memory.memsw.limit_in_bytes").write_text(str(max_bytes))

    def _share(self, name: str) -> None:
        """Allow at most one processor, and an equal share of a busy one, where that may be set."""
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
        """Put a process, and all that it will start, into the group. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))
        for other in self.others:
            with contextlib.suppress(OSError):
                (other / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                for line in (self.path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def close(self) -> None:
        """Remove the group. Its processes have been killed by then, but the kernel may take a moment."""
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


def writable_cgroup(max_bytes: int = 2**30) -> Path | None:
    """The group below which groups with a memory limit can be made, found by making one; None if there is none."""
    for candidate in _candidates():
        with contextlib.suppress(OSError):
            sweep(candidate)
            Group(candidate, max_bytes).close()
            return candidate
    return None


def sweep(parent: Path) -> None:
    """Remove groups below `parent` whose grader, or worker, is gone: it was killed, or the kernel took its time."""
    parents = [path for path in (parent, _cpu_of_version_1()) if path is not None]
    for path in [path for one in parents for path in one.glob("mi-course-*-*")]:
        if not Path("/proc", path.name.split("-")[2]).exists():
            with contextlib.suppress(OSError):
                path.rmdir()


def _candidates() -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers == "memory":  # version 1, where a group with processes may have children
                found.append(MOUNT / "memory" / place.lstrip("/"))
            elif controllers == "":
                own = MOUNT / place.lstrip("/")
                found += [one for one in (own, *own.parents) if one.is_relative_to(MOUNT) and _controls_children(one)]
    return [one for one in found if one.is_dir() and os.access(one, os.W_OK)]


@cache
def _cpu_of_version_1() -> Path | None:
    """This process's group of version 1 for processor time, if it is writable."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if "cpu" in controllers.split(","):
                found = MOUNT / controllers / place.lstrip("/")
                return found if found.is_dir() and os.access(found, os.W_OK) else None
    return None


def _controls_children(path: Path) -> bool:
    """Whether a group of version 2 controls the memory of its children; such a group has no processes of its own."""
    with contextlib.suppress(OSError):
        return "memory" in (path / "cgroup.subtree_control").read_text().split()
    return False
