"""Faults as real submissions. Each costs what depends on it and no more, and says why."""

from __future__ import annotations

import os
import time

import pytest
from grading_kit import TOP, WORTH, ZERO, marks_of, right

from mi_course.grading.sandbox import Sandbox


def body(text: str) -> str:
    """An answer to zero_head with this in it."""
    lines = "\n".join(f"    {line}" for line in text.strip("\n").split("\n"))
    return f"import os, sys, time, signal\ndef zero_head(z, hook, head):\n{lines}\n"


IN_AN_ANSWER = {
    "infinite_loop": ("while True: pass", "timed_out", "still running"),
    "swallows_interrupts": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timed_out",
        "still running",
    ),
    "os_exit": ("os._exit(0)", "crashed", "exit status 0"),
    "kills_itself": ("os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    "kills_everything": ("os.kill(-1, signal.SIGKILL)", "wrong", ""),
    "kills_its_parent": ("os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)", "crashed", "SIGKILL"),
    "sys_exit": ("sys.exit(0)", "crashed", "SystemExit"),
    "segfault": ("import ctypes\nctypes.string_at(8)", "crashed", "SIGSEGV"),
    "eight_gigabytes": ("return z + torch.zeros(2**31).sum()", "crashed", "memory"),
    "recursion": ("return zero_head(z, hook, head)", "crashed", "RecursionError"),
    "raises_what_is_no_exception": ("class E(BaseException): pass\nraise E('no')", "crashed", "E"),
    "floods_output": (
        "for _ in range(2000):\n    print('y' * 100_000)\n    os.write(1, b'z' * 100_000)\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "warns": (
        "import warnings\nwarnings.warn('hm')\nsys.stderr.write('hm')\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "fork_bomb": ("while True:\n    os.fork()", "", ""),
    "fork_bomb_that_swallows": ("while True:\n    try: os.fork()\n    except BaseException: pass", "", ""),
    "leaves_an_orphan": (
        "if os.fork() == 0:\n    while True: pass\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "leaves_a_thread": (
        "import threading\ndef go():\n    while True: pass\nthreading.Thread(target=go, daemon=True).start()\n"
        "z[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "leaves_five_threads": (  # those of earlier calls are gone
        "import threading\ndef go():\n    while True: pass\nif threading.active_count() > 5: return None\n"
        "for _ in range(5): threading.Thread(target=go, daemon=True).start()\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "keeps_a_pool": (  # an idle thread, which the next call counts on
        "from concurrent.futures import ThreadPoolExecutor\nglobal pool\nif 'pool' not in globals():\n"
        "    pool = ThreadPoolExecutor(1)\nz[:, :, head] = pool.submit(float).result()\nreturn z",
        "passed",
        "",
    ),
    "fills_the_disk": (
        "n = 0\ntry:\n    for i in range(64):\n        with open(f'/tmp/{i}', 'wb') as f:\n"
        "            for _ in range(16): n += f.write(bytes(2**20))\nexcept OSError: pass\n"
        "if n > 80 * 2**20: return None\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "many_memfds": (
        "try:\n    os.memfd_create('x')\nexcept PermissionError:\n    z[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "two_threads_in_torch": (
        "torch.set_num_threads(2)\ntorch.randn(600, 600) @ torch.randn(600, 600)\nz[:, :, head] = 0\nreturn z",
        "passed",
        "",
    ),
    "deep_value": ("x = []\nfor _ in range(5000): x = [x]\nreturn x", "wrong", "nested"),
    "huge_value": ("return torch.zeros(2**27)", "wrong", "bytes"),
    "unsendable_value": ("return object()", "wrong", "cannot be checked"),
    "stale_tensor": ("t = torch.zeros(100)\nt.untyped_storage().resize_(0)\nreturn t", "wrong", ""),
}


@pytest.mark.parametrize("name", IN_AN_ANSWER)
def test_a_fault_in_an_answer(marked, name):
    text, status, why = IN_AN_ANSWER[name]
    row = marked({ZERO: "import torch\n" + body(text)})
    found = marks_of(row)
    assert found[TOP].status == "passed", row.reason
    assert row.status == "marked"
    assert found[ZERO].status == status or (not status and found[ZERO].points == 0), found[ZERO]
    assert why.lower() in (found[ZERO].message + row.reason).lower(), (found[ZERO].message, row.reason)
    assert row.points == WORTH[TOP] + (WORTH[ZERO] if status == "passed" else 0)


@pytest.mark.parametrize("name", ["os_exit", "kills_itself", "sys_exit", "fork_bomb", "swallows_interrupts"])
def test_a_fault_in_the_first_answer_costs_the_second_nothing(marked, name):
    text = IN_AN_ANSWER[name][0]
    first = body(text).replace("def zero_head(z, hook, head)", "def top_next_tokens(logits, k)")
    row = marked({TOP: f"from torch import Tensor\nfrom jaxtyping import Float\n{first}"})
    assert marks_of(row)[TOP].points == 0
    assert marks_of(row)[ZERO].status == "passed", row.reason


AT_TOP_LEVEL = {
    "error": ("1 / 0", "ZeroDivisionError"),
    "sys_exit": ("import sys; sys.exit()", "SystemExit"),
    "exit": ("exit()", ""),
    "os_exit": ("import os; os._exit(3)", "exit status 3"),
    "sigkill": ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    "loop": ("while True: pass", "still running"),
    "loop_that_swallows": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "still running",
    ),
    "syntax": ("def f(:", "SyntaxError"),
    "null_byte": ("x = 1\0", ""),
    "magic": ("%matplotlib inline\n!ls", None),
    "network": ("import urllib.request\nurllib.request.urlopen('http://192.0.2.1', timeout=5)", "unreachable"),
    "memory": ("x = bytearray(8 * 2**30)", "MemoryError"),
    "unknown_escape_and_warning": ("import warnings\nwarnings.warn('x')\nx = '\\d'", None),
    "thread_that_outlives": (
        "import threading\ndef go():\n    while True: pass\nthreading.Thread(target=go, daemon=True).start()",
        None,
    ),
    "two_threads_in_torch": ("torch.set_num_threads(2)\ntorch.randn(900, 900) @ torch.randn(900, 900)", None),
    "deletes_the_course": (
        "import sys\nfor n in [n for n in sys.modules if n.startswith('mi_course')]: del sys.modules[n]",
        None,
    ),
    "raises_unreadable": ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "cannot be read"),
    "setup_changed": ("lesson = None\nimport mi_course\nmodel = mi_course.load_model()", None),
    "atexit": ("import atexit, os\natexit.register(os._exit, 0)", None),
}


@pytest.mark.parametrize("name", AT_TOP_LEVEL)
def test_a_fault_at_top_level_costs_its_cell(marked, name):
    text, why = AT_TOP_LEVEL[name]
    row = marked(before=text)
    assert row.points == row.max_points == 5, row.reason
    assert "Cell 4 stopped" not in row.reason if why is None else "Cell 4 stopped" in row.reason
    assert (why or "") in row.reason


def test_an_answer_cell_that_dies_before_it_defines(marked):
    row = marked({TOP: "import os\nos._exit(1)\n" + right(TOP)})
    assert marks_of(row)[TOP].status == "crashed"
    assert "Cell 10 stopped: it ended the process (exit status 1)" in marks_of(row)[TOP].message
    # zero_head's annotations need names that this cell imports: what depends on a cell goes with it.
    row = marked(
        {TOP: "import os\nos._exit(1)", ZERO: "def zero_head(z, hook, head):\n    z[:, :, head] = 0\n    return z"}
    )
    assert marks_of(row)[ZERO].status == "passed"


def test_several_faults_at_once(marked):
    row = marked({ZERO: body("os._exit(1)")}, before="import os\nos._exit(2)", after="while True: pass")
    assert row.points == WORTH[TOP]
    for part in ("exit status 2", "still running", "zero_head: it ended its process (exit status 1)"):
        assert part in row.reason


def test_nothing_is_left_behind(marked, sandbox: Sandbox):
    marked({ZERO: body("while True:\n    os.fork()")}, before="import os\nif os.fork() == 0:\n    while True: pass")
    until = time.monotonic() + 60
    while (left := _below(sandbox.process.pid)) > 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert left <= 3  # bwrap, its process 1, the server


def _below(pid: int) -> int:
    """How many processes descend from this one, itself included."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return len(found)


def test_the_same_submission_gets_the_same_marks_after_all_of_that(marked):
    assert marked().points == 5
