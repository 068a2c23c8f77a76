"""Isolates one submission: fresh namespaces, small file systems, no capabilities, and limits on what it may use.

Each child of the warm server does this to itself before it reads a byte of the submission. Linux only.
"""

from __future__ import annotations

import contextlib
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
"""What it may map beyond the server: page tables of what is mapped and never written do not count as data."""
PROCESSES = 32
"""Processes and threads in one sandbox."""
FILES = 64
"""Descriptors of one process. Each may be a socket, whose buffers do not count as memory of the process."""
FILE_BYTES = 64 * 2**20

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 1 << 18
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 22, 24, 38, 47

_libc = ctypes.CDLL(None, use_errno=True)


def _need(result: int, what: str) -> None:
    """Raise OSError, naming the call, if it failed."""
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def close_all_but(*kept: int) -> None:
    """Close every descriptor but these; 0, 1 and 2 then lead to /dev/null."""
    low = 0
    for fd in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(low, fd)
        low = fd + 1
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd != null and fd not in kept:
            os.dup2(null, fd)


def enter_namespaces(hidden: tuple[str, ...] = ()) -> None:
    """Continue in fresh namespaces, as process 1, without any capability. Forks: only the child returns.

    The child leads a session of its own, since a kernel with autogroups divides the processor among sessions.
    hidden: folders that are empty from then on.
    Raises OSError if the kernel refuses; nothing of the submission has been read by then.
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
    # The watching process must not be inspected by those that it watches.
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
        (resource.RLIMIT_CORE, 1),  # 0 would let the kernel pipe a core to the machine's crash handler (man 5 core)
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CPU, int(seconds) + 1),
    ):
        resource.setrlimit(what, (most, most))
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # so that process 1 can count the descriptors
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out all the same, the kernel ends this first


# ---------------------------------------------------------------------------------------------------------------------
# System calls that no answer needs: those that hold memory outside the limits (in flight between sockets, in pipes, in
# objects of the kernel), use up what the kernel counts for a user and not for a sandbox, inspect other processes, make
# namespaces, or make sessions, each of which gets its own share of the processor. A list of allowed calls would be
# longer, and break with new versions of torch, glibc or the kernel.

_CALLS = {  # name: numbers on x86-64 and on 64-bit ARM; a test compares them with the kernel's headers
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196)},
    **{"semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)},
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265)},
    **{"personality": (135, 92), "fanotify_init": (300, 262), "setsid": (112, 157)},
    **{"sendmsg": (46, 211), "sendmmsg": (307, 269), "vmsplice": (278, 75)},
    **{"inotify_init": (253, 26), "inotify_init1": (294, 26), "timer_create": (222, 107)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
}
_CLONE3 = 435
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Name of the architecture -> its number for seccomp, and the column of `_CALLS`."""
_SETSOCKOPT = (54, 208)
_BUFFER_OPTIONS = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF and their forced forms: setting them succeeds and changes nothing."""
_FLOCK, _FCNTL = (73, 32), (72, 25)
_LOCKS = (6, 7, 37, 38, 1024)
"""Commands of fcntl that lock a file or lease it: F_SETLK, F_SETLKW, their forms for open files, F_SETLEASE. Locks on a
file that sandboxes share would be seen in all of them, so locking succeeds and locks nothing."""
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET and AF_INET6, which the network namespace confines. Others lead out of it: AF_VSOCK to the machine's
host."""
_MMAP, _SHARED_ANONYMOUS = (9, 222), 0x21
"""Memory shared with nobody's file: no process holds it once it is dropped from all page tables."""
_EPERM, _ENOSYS, _EAFNOSUPPORT, _NOTHING = 0x00050001, 0x00050026, 0x00050061, 0x00050000
_KILL, _ALLOW = 0x80000000, 0x7FFF0000


def seccomp_available() -> bool:
    """Whether system calls can be filtered here: whether the numbers of this architecture are known."""
    return platform.machine() in _MACHINES


def install_seccomp_filter() -> None:
    """Refuse `_CALLS`, odd families of sockets and memory that is shared without a file; lock no file.

    `clone3`, whose arguments a filter cannot see, is answered with ENOSYS: libraries then use `clone`.

    Does nothing without `seccomp_available()`; the grader then says so in every row. Namespaces and limits hold.
    """
    if not seccomp_available():
        return
    architecture, column = _MACHINES[platform.machine()]
    load, equal, at_least, both, give = 0x20, 0x15, 0x35, 0x54, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, _EPERM)]
    for numbers in _CALLS.values():
        program += [(equal, 0, 1, numbers[column]), (give, 0, 0, _EPERM)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, _ENOSYS)]
    # socket(family, ...)
    families = [step for family in _FAMILIES for step in ((equal, 0, 1, family), (give, 0, 0, _ALLOW))]
    for numbers in (_SOCKET, _SOCKETPAIR):
        program += [(equal, 0, len(families) + 2, numbers[column]), (load, 0, 0, 16), *families]
        program += [(give, 0, 0, _EAFNOSUPPORT)]
    # mmap(_, _, _, flags, ...)
    program += [(equal, 0, 5, _MMAP[column]), (load, 0, 0, 40), (both, 0, 0, _SHARED_ANONYMOUS)]
    program += [(equal, 0, 1, _SHARED_ANONYMOUS), (give, 0, 0, _EPERM), (give, 0, 0, _ALLOW)]
    # flock; fcntl(_, one of these, ...)
    program += [(equal, 0, 1, _FLOCK[column]), (give, 0, 0, _NOTHING)]
    locks = [step for command in _LOCKS for step in ((equal, 0, 1, command), (give, 0, 0, _NOTHING))]
    program += [(equal, 0, len(locks) + 2, _FCNTL[column]), (load, 0, 0, 24), *locks, (give, 0, 0, _ALLOW)]
    # setsockopt(_, SOL_SOCKET, one of these, ...); whatever follows is an ordinary call.
    options = [step for option in _BUFFER_OPTIONS for step in ((equal, 0, 1, option), (give, 0, 0, _NOTHING))]
    skip = len(options) + 3
    program += [(equal, 0, skip, _SETSOCKOPT[column]), (load, 0, 0, 24), (equal, 0, skip - 2, 1), (load, 0, 0, 32)]
    program += [*options, (give, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _need(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0), "seccomp")
