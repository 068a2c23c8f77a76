"""Starts bubblewrap. Run as a script, with the plan as JSON in its argument; imports only the standard library.

As root it first binds the folders in a mount namespace of its own, since the unprivileged user that it becomes may not
be allowed to reach them (`/root/.pyenv`, say), and then gives up root: with root's rights a fresh /proc cannot be
mounted inside.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

NOBODY = 65534
_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18


def main() -> None:
    plan = json.loads(sys.argv[1])
    sources = {path: path for path in plan["binds"]}
    if os.geteuid() == 0:
        sources = gather(plan["binds"])
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.chdir("/")
    command = [plan["bwrap"], "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for path, inside in plan["binds"].items():
        command += ["--ro-bind", sources[path], inside]
    for inside in plan["masks"]["folders"]:
        command += ["--tmpfs", inside, "--remount-ro", inside]
    for inside in plan["masks"]["files"]:
        command += ["--ro-bind", "/dev/null", inside]
    for target, link in plan["links"]:
        command += ["--symlink", target, link]
    command += ["--proc", "/proc", "--tmpfs", "/dev", "--dir", "/dev/shm"]
    # The server needs a /tmp while it imports torch; each submission gets one of its own.
    command += ["--size", str(16 * 2**20), "--tmpfs", "/tmp"]
    for device in ("null", "full", "random", "urandom"):  # memory shared through /dev/zero would count for nobody
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        command += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    command += ["--symlink", "/proc/self/fd", "/dev/fd", "--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in plan["env"].items():
        command += ["--setenv", name, value]
    os.execvp(command[0], [*command, "--", *plan["command"]])


def gather(binds: dict[str, str]) -> dict[str, str]:
    """Bind each path below /mnt, where any user can reach it. Raises OSError if root may not mount.

    Returns path -> path below /mnt.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def need(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    need(libc.unshare(_NEWNS), "unshare")
    need(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount / private")
    need(libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 6, b"mode=755"), "tmpfs on /mnt")
    bound = {}
    for number, path in enumerate(binds):
        bound[path] = target = f"/mnt/{number}"
        if os.path.isdir(path):
            os.mkdir(target)
        else:
            open(target, "w").close()
        need(libc.mount(path.encode(), target.encode(), None, _MS_BIND | _MS_REC, None), f"bind {path}")
    return bound


if __name__ == "__main__":
    main()
