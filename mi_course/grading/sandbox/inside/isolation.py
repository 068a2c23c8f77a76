"""The walls around one submission: fresh namespaces, small file systems, no rights, and limits on what it may use.

Each child of the warm server goes through `enter` before it reads a byte of the submission. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct

TMPFS_BYTES = 64 * 2**20
"""Size of /tmp and of /dev/shm."""
EXTRA_BYTES = 1024 * 2**20
"""What a process may allocate beyond the server it was forked from."""
PROCESSES = 64
"""Processes and threads in one sandbox."""
FILE_BYTES = 64 * 2**20

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 22, 24, 38, 47

_libc = ctypes.CDLL(None, use_errno=True)


def _need(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def close_all_but(*kept: int) -> None:
    """Closes every descriptor but these; 0, 1 and 2 then lead to /dev/null."""
    low = 0
    for fd in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(low, fd)
        low = fd + 1
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd != null and fd not in kept:
            os.dup2(null, fd)


def enter_namespaces() -> None:
    """Leaves the caller in fresh namespaces, as process 1, without any right. Forks: only the child returns.

    Raises OSError where the kernel refuses; nothing of the submission has been read by then.
    """
    uid, gid = os.getuid(), os.getgid()
    _need(_libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS | _NEWCGROUP), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _need(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount / private")
    size = f"size={TMPFS_BYTES},nr_inodes=8192,mode=700".encode()
    for place in (b"/tmp", b"/dev/shm"):
        _need(_libc.mount(b"tmpfs", place, b"tmpfs", _MS_NOSUID | _MS_NODEV, size), f"tmpfs on {place.decode()}")
    if os.fork():
        os._exit(0)
    _need(_libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None), "proc")
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    os.chdir("/tmp")
    _drop_rights()


def _drop_rights() -> None:
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused for those that this kernel does not know
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header, data = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _need(_libc.capset(header, data), "capset")
    _need(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # The process that watches must not be looked into by those that it watches.
    _need(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")


def set_rlimits(seconds: float) -> None:
    """Resource limits of this process and its children."""
    with open("/proc/self/status") as file:
        data = next(int(line.split()[1]) for line in file if line.startswith("VmData:")) * 1024
    for what, most in (
        (resource.RLIMIT_DATA, data + EXTRA_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CPU, int(seconds) + 1),
    ):
        resource.setrlimit(what, (most, most))


# ---------------------------------------------------------------------------------------------------------------------
# System calls that no answer needs: those that hold memory outside the limits, look into others, or make namespaces

_X86 = (
    *(319, 447, 29, 30, 64, 68, 240),  # memfd_create, memfd_secret, shmget, shmat, semget, msgget, mq_open
    *(101, 310, 311, 272, 308),  # ptrace, process_vm_readv, process_vm_writev, unshare, setns
    *(165, 166, 155, 428, 429, 430),  # mount, umount2, pivot_root, open_tree, move_mount, fsopen
    *(248, 249, 250, 321, 298, 323),  # add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd
    *(425, 426, 427, 303, 304, 135, 300),  # io_uring_*, name_to_handle_at, open_by_handle_at, personality, fanotify
)
_ARM = (
    *(279, 447, 194, 196, 190, 186, 180),
    *(117, 270, 271, 97, 268),
    *(40, 39, 41, 428, 429, 430),
    *(217, 218, 219, 280, 241, 282),
    *(425, 426, 427, 264, 265, 92, 262),
)
_CLONE3 = 435
_MACHINES = {"x86_64": (0xC000003E, _X86), "aarch64": (0xC00000B7, _ARM)}
_EPERM, _ENOSYS = 0x00050001, 0x00050026
_KILL, _ALLOW = 0x80000000, 0x7FFF0000


def install_seccomp_filter() -> None:
    """A seccomp filter. `clone3`, whose arguments a filter cannot see, is said not to exist; `clone` takes its place.

    On a machine whose call numbers are not known here nothing is filtered: namespaces and limits hold regardless.
    """
    if platform.machine() not in _MACHINES:
        return
    arch, calls = _MACHINES[platform.machine()]
    load, equal, greater, give = 0x20, 0x15, 0x35, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    program += [(greater, 0, 1, 0x40000000), (give, 0, 0, _EPERM)]
    for number in calls:
        program += [(equal, 0, 1, number), (give, 0, 0, _EPERM)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, _ENOSYS), (give, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _need(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0), "seccomp")
