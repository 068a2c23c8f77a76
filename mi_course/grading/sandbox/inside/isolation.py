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
ADDRESS_BYTES = 8 * 2**30
"""What it may map beyond that: page tables of what is mapped and never written are no data."""
PROCESSES = 32
"""Processes and threads in one sandbox."""
FILES = 64
"""Descriptors of one process. Each may be a socket, whose buffers are no memory of the process."""
FILE_BYTES = 64 * 2**20

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 1 << 18
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


def enter_namespaces(hidden: tuple[str, ...] = ()) -> None:
    """Leaves the caller in fresh namespaces, as process 1, without any right. Forks: only the child returns.

    It leads a session of its own, among which a kernel with autogroups shares the processor. hidden: folders that are
    empty from here on.
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
    for folder in hidden:
        flags = _MS_NOSUID | _MS_NODEV | _MS_RDONLY
        _need(_libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, b"size=4096,mode=755"), f"tmpfs on {folder}")
    os.setsid()
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
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.startswith("Vm")}
    for what, most in (
        (resource.RLIMIT_DATA, sizes["VmData"] + EXTRA_BYTES),
        (resource.RLIMIT_AS, sizes["VmSize"] + ADDRESS_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CPU, int(seconds) + 1),
    ):
        resource.setrlimit(what, (most, most))
    # What an answer starts may not take the processor from the answers of others by being many: see `server.calm`.
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # so that process 1 can count the descriptors


# ---------------------------------------------------------------------------------------------------------------------
# System calls that no answer needs: those that hold memory outside the limits, look into others, make namespaces, or
# make sessions (each would have a share of the processor of its own)

_X86 = (
    *(319, 447, 29, 30, 64, 68, 240),  # memfd_create, memfd_secret, shmget, shmat, semget, msgget, mq_open
    *(101, 310, 311, 272, 308),  # ptrace, process_vm_readv, process_vm_writev, unshare, setns
    *(165, 166, 155, 428, 429, 430),  # mount, umount2, pivot_root, open_tree, move_mount, fsopen
    *(248, 249, 250, 321, 298, 323),  # add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd
    *(425, 426, 427, 303, 304, 135, 300),  # io_uring_*, name_to_handle_at, open_by_handle_at, personality, fanotify
    112,  # setsid
)
_ARM = (
    *(279, 447, 194, 196, 190, 186, 180),
    *(117, 270, 271, 97, 268),
    *(40, 39, 41, 428, 429, 430),
    *(217, 218, 219, 280, 241, 282),
    *(425, 426, 427, 264, 265, 92, 262),
    157,
)
_CLONE3 = 435
_MACHINES = {"x86_64": (0xC000003E, _X86, 54), "aarch64": (0xC00000B7, _ARM, 208)}
"""Machine -> its number for filters, the calls that are refused, and the number of `setsockopt`."""
_BUFFER_OPTIONS = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF and their forced forms."""
_EPERM, _ENOSYS, _NOTHING = 0x00050001, 0x00050026, 0x00050000
_KILL, _ALLOW = 0x80000000, 0x7FFF0000


def install_seccomp_filter() -> None:
    """A seccomp filter. `clone3`, whose arguments a filter cannot see, is said not to exist; `clone` takes its place.

    Sockets keep their buffers: setting their size comes to nothing.

    On a machine whose call numbers are not known here nothing is filtered: namespaces and limits hold regardless.
    """
    if platform.machine() not in _MACHINES:
        return
    arch, calls, setsockopt = _MACHINES[platform.machine()]
    load, equal, greater, give = 0x20, 0x15, 0x35, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    program += [(greater, 0, 1, 0x40000000), (give, 0, 0, _EPERM)]
    for number in calls:
        program += [(equal, 0, 1, number), (give, 0, 0, _EPERM)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, _ENOSYS)]
    options = [step for option in _BUFFER_OPTIONS for step in ((equal, 0, 1, option), (give, 0, 0, _NOTHING))]
    # The second argument is SOL_SOCKET, and the third one of these; what comes after is an ordinary call.
    program += [(equal, 0, len(options) + 3, setsockopt), (load, 0, 0, 24), (equal, 0, len(options) + 1, 1)]
    program += [(load, 0, 0, 32), *options, (give, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _need(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0), "seccomp")
