"""Faults within an answer and within a cell. Each costs what depends on it and no more."""

from __future__ import annotations


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
    "kills_everything": ("os.kill(-1, signal.SIGKILL)\ntime.sleep(60)", "crashed", "SIGKILL"),
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
"""Name -> (body of zero_head, its status, words of the reason). No status: whatever it is, it earns nothing."""

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
"""Name -> (a cell before the answers, which are right; words of the reason, or None where the cell ends well)."""
