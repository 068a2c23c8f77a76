"""What a submission can see and reach, tried from inside the sandbox."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from grading_kit import ZERO, marks_of
from require import require

import mi_course
from mi_course import lessons
from mi_course.grading import sandbox as sandboxes
from mi_course.grading.sandbox import Sandbox, Session, bwrap, cgroups
from mi_course.grading.sandbox.inside import isolation
from mi_course.wire import Ask, Call, Observation

PACKAGE = Path(mi_course.__file__).parent
PLAIN = {"patience": 1.0, "withheld": []}


@pytest.fixture
def inside(sandbox: Sandbox):
    """Runs the body of a function in a fresh session and returns its value."""

    def run(text: str):
        lines = "\n".join(f"    {line}" for line in text.strip("\n").split("\n"))
        with sandbox.session() as session:
            return look(session, f"import os, sys, socket, ctypes, resource\ndef look():\n{lines}\n")

    return run


def look(session: Session, cell: str):
    """What the function `look`, which this cell defines, returns in this session."""
    session.send({"setup": [], "cells": [[1, cell]], "cell_s": 30.0, "names": ["look"], **PLAIN})
    while "ready" not in (message := session.receive(60)):
        assert "error" not in message, message
    session.send({"exercise": "look"})
    session.send(Ask((Call(()),), limit_s=30.0))
    seen = session.receive(60)
    assert isinstance(seen, Observation), seen
    assert seen.replies[0].returned, seen
    return seen.replies[0].value


def test_nothing_of_the_truth_is_there(inside):
    assert inside("return os.listdir('/course/mi_course') + os.listdir('/course/mi_sandbox')") == []
    assert inside("import mi_course.interp.induction, mi_course.show, mi_course.wire\nreturn True")
    assert inside("return [n for n in sys.modules if n.startswith(('mi_sandbox', 'mi_course.asking'))]") == []
    absent = inside(
        "from importlib.util import find_spec\nrooms = 'lessons judging exercises course content grading submission "
        "checking progress authoring cli lab'.split()\nreturn [r for r in rooms if find_spec('mi_course.' + r)]"
    )
    assert absent == []
    assert inside("return sorted({n.rsplit('.')[-1] for n in os.listdir('/course/data')})") == ["safetensors"]
    assert not inside(f"return os.path.exists({str(PACKAGE)!r} + '/lessons')")
    assert not inside(f"return os.path.exists({str(PACKAGE.parent / 'solutions')!r})")
    assert not inside(f"return os.path.exists({str(Path(__file__))!r})")


def test_lessons_of_other_people_are_hidden_and_what_they_ask_with_is_there(
    needs_sandbox, monkeypatch: pytest.MonkeyPatch
):
    """Two packages of the environment stand for a school's lessons: a single file, and a folder."""
    infos = [
        lessons.LessonInfo(90 + i, f"x{i}", "", 1, f"9{i}_x", name, "/nowhere")
        for i, name in enumerate(("six", "yaml"))
    ]
    monkeypatch.setattr(bwrap, "catalogue", lambda: tuple(infos))
    monkeypatch.setattr(bwrap, "asking_modules", lambda: ("grading_kit",))
    # Asked for inside: an environment that lies under /tmp is bound somewhere else.
    code = (
        "import os, sysconfig\nfrom os.path import exists, getsize, join\n"
        "def look():\n"
        "    here = sysconfig.get_paths()['purelib']\n"
        "    return [getsize(join(here, 'six.py')), os.listdir(join(here, 'yaml')), exists('/course/grading_kit.py')]"
    )
    with Sandbox.start() as sandbox, sandbox.wait().session() as session:
        assert look(session, code) == [0, [], True]


def test_no_file_of_the_machine_is_there(inside):
    assert (
        inside(
            "return [p for p in ('/etc/passwd', '/etc/shadow', '/home', '/var', '/work/main', '/run', '/sys') "
            "if os.path.exists(p)]"
        )
        == []
    )
    assert inside("return os.listdir('/tmp') + os.listdir('/dev/shm')") == []
    shown = inside("return sorted(os.environ)")
    assert not {"MI_COURSE_REQUIRE", "USER", "SSH_AUTH_SOCK", "VIRTUAL_ENV"} & set(shown)


def test_nothing_can_be_written_but_two_small_folders(inside):
    found = inside(
        "writable = []\nfor here, folders, files in os.walk('/'):\n"
        "    folders[:] = [f for f in folders if os.path.join(here, f) not in ('/proc', '/usr', '/tmp', '/dev/shm')]\n"
        "    if here.count('/') > 4: folders[:] = []\n"
        "    try:\n        open(os.path.join(here, 'x-x'), 'w').close()\n        writable.append(here)\n"
        "    except OSError: pass\nreturn writable"
    )
    assert found == []
    assert inside("return [os.statvfs(p).f_blocks * os.statvfs(p).f_frsize for p in ('/tmp', '/dev/shm')]") == [
        64 * 2**20,
        64 * 2**20,
    ]


def test_what_one_submission_writes_the_next_does_not_see(inside):
    inside("open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')\nreturn True")
    assert inside("return os.listdir('/tmp') + os.listdir('/dev/shm')") == []


def test_it_sees_no_process_but_its_own(inside):
    pids = inside("return sorted(int(p) for p in os.listdir('/proc') if p.isdigit())")
    assert len(pids) <= 4, pids
    assert pids[0] == 1
    assert inside("try:\n    open('/proc/1/mem', 'rb')\nexcept OSError as e:\n    return type(e).__name__") == (
        "PermissionError"
    )
    assert inside("try:\n    return os.listdir('/proc/1/fd')\nexcept OSError as e:\n    return type(e).__name__") == (
        "PermissionError"
    )
    inside("try:\n    os.kill(1, 9)\nexcept OSError: pass\nreturn True")


def test_it_has_no_rights(inside):
    status = dict(line.split(":\t", 1) for line in inside("return open('/proc/self/status').read()").splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert inside("return os.getuid()") != 0
    for call in ("unshare(0x10000000)", "unshare(0x20000)", "ptrace(0, 0, 0, 0)", "setns(0, 0)"):
        assert inside(f"return ctypes.CDLL(None).{call}") == -1, call
    assert inside("return open('/proc/sys/user/max_user_namespaces').read().strip()") == "0"
    # A clone with a new user namespace, past the library: refused by the limit.
    if os.uname().machine == "x86_64":
        assert inside("return ctypes.CDLL(None).syscall(56, 0x10000000 | 17, 0, 0, 0, 0)") == -1
    assert inside("return ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None)") == -1


def test_its_limits(inside):
    assert inside("return resource.getrlimit(resource.RLIMIT_NPROC)") == (32, 32)
    assert inside("return resource.getrlimit(resource.RLIMIT_NOFILE)") == (64, 64)
    assert inside("return resource.getrlimit(resource.RLIMIT_AS)[1]") < 64 * 2**30
    assert inside("return resource.getrlimit(resource.RLIMIT_CORE)") == (1, 1)
    assert inside("return open('/proc/self/oom_score_adj').read().strip()") == "1000"
    assert inside("return resource.getrlimit(resource.RLIMIT_DATA)[1]") < 8 * 2**30
    assert (
        inside(
            "n = 0\ntry:\n    while n < 200:\n        if os.fork() == 0: os._exit(0)\n        n += 1\n"
            "except OSError: pass\nreturn n"
        )
        < 32
    )


def test_shared_memory_cannot_be_hoarded(inside):
    assert inside("try:\n    return os.memfd_create('x')\nexcept OSError: return -1") == -1
    assert inside("return ctypes.CDLL(None).shmget(0, 4096, 0o1666)") == -1


def test_the_network_is_not_there(inside):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert inside(f"s = socket.socket()\ns.settimeout(2)\nreturn s.connect_ex(('127.0.0.1', {port}))") != 0
    assert inside("return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))") != 0
    assert inside("return [n for n in os.listdir('/proc/self/net') if n == 'x']") == []


def test_abstract_sockets_do_not_cross(inside):
    name = f"\0mi-course-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert inside(f"s = socket.socket(socket.AF_UNIX)\nreturn s.connect_ex({name!r})") != 0


def test_descriptors_of_the_server_are_closed(inside):
    fds = inside(
        "return {int(f): os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd')"
        " if os.path.lexists('/proc/self/fd/' + f)}"
    )
    sockets = [fd for fd, target in fds.items() if target.startswith("socket:")]
    assert len(sockets) == 1, fds
    assert not [target for target in fds.values() if "log" in target]


def test_two_submissions_at_once_do_not_meet(sandbox: Sandbox, inside):
    found = []
    texts = ["import time\nopen('/tmp/a', 'w').close()\ntime.sleep(0.5)\nreturn os.listdir('/tmp')"] * 2
    threads = [threading.Thread(target=lambda t=t: found.append(inside(t))) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["a"], ["a"]]


def test_memory_in_many_processes_is_seen(marked):
    """Each stays below its own limit; the watching process adds them up."""
    text = (
        "import os, time\ndef zero_head(z, hook, head):\n    for _ in range(3):\n        if os.fork() == 0:\n"
        "            x = b'x' * (600 * 2**20)\n            time.sleep(60)\n    time.sleep(60)\n    return z"
    )
    row = marked({ZERO: text})
    assert "GB of memory" in row.reason
    assert marks_of(row)[ZERO].points == 0
    assert row.points == 3


def test_the_kernel_limits_memory_where_it_may(sandbox: Sandbox, marked, monkeypatch: pytest.MonkeyPatch):
    why = "No control group is delegated to us here: `systemd-run --user --scope` gives one. The watcher is tested."
    require("cgroups", sandbox.groups is not None, why)
    monkeypatch.setattr(sandboxes, "GROUP_BYTES", 300 * 2**20)
    row = marked({ZERO: "def zero_head(z, hook, head):\n    x = b'x' * (600 * 2**20)\n    return z"})
    assert "killed by SIGKILL by the kernel, for the memory" in row.reason
    assert marks_of(row)[ZERO].status == "crashed"
    assert row.points == 3
    assert not list(sandbox.groups.glob(f"mi-course-{os.getpid()}-*"))


def test_the_server_ends_with_the_grader(needs_sandbox):
    code = (
        "import os, sys\nfrom mi_course.grading.sandbox import Sandbox\ns = Sandbox.start().wait()\n"
        "print(s.process.pid, s.folder, flush=True)\nos.kill(os.getpid(), 9)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    pid, folder = result.stdout.split()
    until = time.monotonic() + 60
    while (alive := Path(f"/proc/{pid}").exists() or Path(folder).exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive, "the server or its folder outlived the grader"


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "x86_64-linux-gnu/asm/unistd_64.h"), (0, "asm/unistd_64.h"), (1, "asm-generic/unistd.h")],
)
def test_the_filter_names_the_calls_that_it_refuses(column: int, header: str):
    """The numbers of `_CALLS` against the kernel's headers. asm-generic is what 64-bit ARM uses."""
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    numbers = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", path.read_text()))
    ours = {name: str(pair[column]) for name, pair in isolation._CALLS.items()} | {"clone3": str(isolation._CLONE3)}
    assert {name: numbers.get(name, number) for name, number in ours.items()} == ours
    assert len(set(ours) & set(numbers)) > 20


def test_many_processes_get_the_lowest_priority(inside):
    """So neighbors need not wait for them; they cannot raise it again."""
    text = (
        "import time\nfor _ in range(8):\n    if os.fork() == 0:\n        time.sleep(5)\n        os._exit(0)\n"
        "time.sleep(0.5)\ntry:\n    os.setpriority(os.PRIO_PROCESS, 0, 0)\nexcept OSError: pass\n"
        "return os.getpriority(os.PRIO_PROCESS, 0)"
    )
    assert inside(text) == 19
    assert inside("return os.getpriority(os.PRIO_PROCESS, 0)") < 19


def test_no_session_can_be_made(inside):
    assert inside("try:\n    os.setsid()\nexcept PermissionError:\n    return 'no'") == "no"


def test_sockets_keep_their_buffers(inside):
    assert inside(
        "a, b = socket.socketpair()\nbefore = a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)\n"
        "a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10**8)\n"
        "a.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)\n"
        "return a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before"
    )


def test_locks_are_seen_in_no_other_sandbox(inside):
    """All sandboxes share the files of the machine, so a lock on one would be a signal."""
    assert (
        inside(
            "import fcntl\n"
            "first, second = (os.open('/usr/bin/env', os.O_RDONLY) for _ in range(2))\n"
            "for file in (first, second):\n"
            "    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)\n"
            "fcntl.fcntl(first, fcntl.F_SETFD, 1)\n"
            "return fcntl.fcntl(first, fcntl.F_GETFD)"
        )
        == 1
    )


def test_the_kernel_divides_the_processor_where_it_may(sandbox: Sandbox):
    require("cgroups", sandbox.groups is not None, "No control group is delegated to us here.")
    with sandbox.session() as session:
        shares = [path / "cpu.shares" for path in session.group.others]
        shares += [session.group.path / "cpu.weight"]
        found = [path.read_text().strip() for path in shares if path.exists()]
        assert found in ([], ["1024"], ["100"])
        paths = [session.group.path, *session.group.others]
    assert not any(path.exists() for path in paths)


def test_groups_of_a_grader_that_is_gone_are_removed(sandbox: Sandbox):
    require("cgroups", sandbox.groups is not None, "No control group is delegated to us here.")
    ours, theirs = (sandbox.groups / f"mi-course-{pid}-left" for pid in (os.getpid(), 2**30))
    for path in (ours, theirs):
        path.mkdir()
    cgroups.sweep(sandbox.groups)
    assert ours.exists()
    assert not theirs.exists()
    ours.rmdir()
