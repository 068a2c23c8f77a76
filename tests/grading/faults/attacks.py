"""What got through once, and what was tried after: each with the points that it deserves, and words of its row.

All are of lesson 00. `zero_head` is worth 2 points, `top_next_tokens` 3.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass

from grading_kit import TOP, ZERO, notebook

from faults.forgeries import WRONG

__all__ = ["ARCHIVES", "ATTACKS", "Attack"]


@dataclass(frozen=True)
class Attack:
    """A submission that wants points it has not earned, or to cost others theirs."""

    deserves: int
    promise: str
    """What the grader promises, for the table in docs/faults.md."""
    answers: dict[str, str]
    before: str = ""
    says: str = ""
    """Words of its row."""
    sleeps: bool = False
    """It ends by the clock."""


IMPORTS = "import torch\nfrom jaxtyping import Float\nfrom torch import Tensor\n"
"""What the lesson's first answer cell imports and the next one needs."""
UNTIDY = """
def top_next_tokens(logits, k):
    p = logits[-1].softmax(-1).topk(k)
    out = list(zip(p.indices.tolist(), p.values.tolist()))
    logits.fill_(0)
    return out
"""
NOTHING = "def top_next_tokens(logits, k):\n    return None"
BASICS = "import importlib\nb = importlib.import_module('mi_course.in' + 'terp.basics')\n"
FRAME = "f = sys._getframe()\nwhile f:\n    print(sorted(f.f_globals)[:3])\n    f = f.f_back\n"
REDOS = """
import os
def zero_head(z, hook, head):
    text = b'"' + b'\\\\"' * 530_000
    frame = b"MIC1" + len(text).to_bytes(8, "little") + text + (2).to_bytes(8, "little") + b"{}"
    frame = len(frame).to_bytes(8, "little") + frame
    for fd in range(3, 64):
        try:
            while frame: frame = frame[os.write(fd, frame):]
        except OSError: pass
    os._exit(0)
"""
SOCKETS = """
import socket
def zero_head(z, hook, head):
    kept, total = [], 0
    try:
        while len(kept) < 500:
            pair = socket.socketpair()
            kept.append(pair)
            for one in pair:
                one.setblocking(False)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10**8)
                try:
                    while True: total += one.send(b"x" * 65536)
                except OSError: pass
    except OSError: pass
    print("held", total >> 20, "MB")
    return z
"""

UNSEEN = """
import mmap
def zero_head(z, hook, head):
    kept = []
    for _ in range(28):
        kept.append(mmap.mmap(-1, 64 * 2**20))
        for i in range(0, 64 * 2**20, 4096): kept[-1][i] = 1
        kept[-1].madvise(mmap.MADV_DONTNEED)
    return z
"""
PYTHONS = """
import subprocess, sys, time
def zero_head(z, hook, head):
    code = "x = b'x' * (340 * 2**20); print(1, flush=True); import time; time.sleep(60)"
    kept = []
    for _ in range(6):  # one after the other: all at once, the kernel's limit on the group may be met first
        kept.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE))
        kept[-1].stdout.readline()
        time.sleep(1)
    kept[0].wait()
    return z
"""
GIFTS = """
import ctypes, mmap, os
def zero_head(z, hook, head):
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    piece = (ctypes.c_size_t * 2)(address, 4096)
    if libc.vmsplice(os.pipe()[1], piece, ctypes.c_size_t(1), 0) < 0: raise OSError(ctypes.get_errno(), "no gifts")
    return z
"""

ATTACKS = {
    "runner_hijack": Attack(
        0,
        "Importing or finding the code that asks fails, and is named in the row",
        {TOP: NOTHING, ZERO: WRONG},
        BASICS
        + "import sys\nr = sys.modules['mi_sandbox.runner']; o = r.observe\n"
        + "r.observe = lambda f, ask: o(getattr(b, f.__name__, f), ask)",
        "Cell 4 reaches into the grader",
    ),
    "reference_through_getattr": Attack(
        0,
        "The course's own implementation of what is asked raises, however it is reached; row and --similar name it",
        {TOP: BASICS + "def top_next_tokens(*a): return getattr(b, 'top_next_' + 'tokens')(*a)", ZERO: WRONG},
        says="top_next_tokens calls the course's own implementation",
    ),
    "reference_through_gc": Attack(
        0,
        "as above; looking at all objects is named",
        {
            TOP: "import gc\ndef top_next_tokens(*a):\n    own = [o for o in gc.get_objects()"
            " if getattr(o, '__module__', '') == 'mi_course.interp.basics' and o.__name__ == 'top_next_tokens']\n"
            "    return own[0](*a)",
            ZERO: WRONG,
        },
        says="it looks at all objects there are",
    ),
    "reference_from_its_source": Attack(
        0,
        "The files of the course's code are not there",
        {
            TOP: "import mi_course.interp as i\ns = {}\n"
            "exec(open(i.__path__[0] + '/basics.py').read(), s)\ntop_next_tokens = s['top_next_tokens']",
            ZERO: WRONG,
        },
        says="FileNotFoundError",
    ),
    "forged_watch": Attack(
        2,
        "Arguments are compared outside; the code of the watches cannot be imported",
        {TOP: IMPORTS + UNTIDY},
        "from mi_course.asking.watches import WATCHES\nfor n in list(WATCHES): WATCHES[n] = lambda args: lambda: []",
        "it imports the code that asks",
    ),
    "hidden_import": Attack(
        3,
        "An import of the code that asks is named however it is spelled",
        {ZERO: WRONG},
        "import importlib\nimportlib.import_module(''.join(map(chr, (109, 105, 95, 115, 97, 110, 100, 98, 111, 120))))",
        "it imports the code that asks",
    ),
    "frames": Attack(
        3,
        "Looking at stack frames is named",
        {ZERO: WRONG},
        "import sys\n" + FRAME,
        "it looks at stack frames",
    ),
    "frames_spelled_out": Attack(
        3,
        "as above, however it is spelled",
        {ZERO: WRONG},
        "import sys\ng = getattr(sys, chr(95) + 'getfram' + chr(101))\ng()",
        "it looks at stack frames",
    ),
    "frames_of_an_error": Attack(
        3,
        "as above, by way of a traceback",
        {ZERO: WRONG},
        "try: 1 / 0\nexcept ZeroDivisionError as e: t = getattr(e.__traceback__, chr(116) + 'b_frame')",
        "it looks at stack frames",
    ),
    "unclosed_string": Attack(
        3,
        "Replies are scanned once: a megabyte takes milliseconds",
        {ZERO: REDOS},
        says="reply cannot be read",
    ),
    "socket_buffers": Attack(3, "64 descriptors, and buffers of the default size", {ZERO: SOCKETS}),
    "shared_memory_without_a_file": Attack(
        3,
        "What no process maps cannot be held: memory shared without a file is refused",
        {ZERO: UNSEEN},
        says="zero_head: It raised PermissionError",
    ),
    "pages_in_pipes": Attack(
        3, "as above: `vmsplice` is refused", {ZERO: GIFTS}, says="zero_head: It raised PermissionError"
    ),
    "sockets_in_flight": Attack(
        3,
        "as above: sockets cannot be sent through sockets, where no process counts them",
        {
            ZERO: "import socket\ndef zero_head(z, hook, head):\n    a, b = socket.socketpair()\n"
            "    socket.send_fds(a, [b'x'], [b.fileno()])\n    return z"
        },
        says="zero_head: It raised PermissionError",
    ),
    "many_programs": Attack(
        3,
        "Processes that share nothing with the server count in full, page by page",
        {ZERO: PYTHONS},
        says="more than 1.5 GB of memory",
    ),
    "a_socket_to_the_host": Attack(
        3,
        "Sockets are of families that the network namespace confines: AF_VSOCK is not",
        {ZERO: "import socket\ndef zero_head(z, hook, head):\n    socket.socket(40, socket.SOCK_STREAM)\n    return z"},
        says="zero_head: It raised OSError",
    ),
    "thin_tensor": Attack(
        2,
        "Shape and length are compared before content",
        {TOP: IMPORTS + "def top_next_tokens(logits, k):\n    return torch.zeros([300_000] + [1] * 15)"},
    ),
    "tensor_of_60_dimensions": Attack(
        2, "as above", {TOP: IMPORTS + "def top_next_tokens(logits, k):\n    return torch.zeros([300] + [1] * 60)"}
    ),
    "colliding_keys": Attack(
        3,
        "At most 64 keys of a dict may share a hash",
        {
            ZERO: "import itertools\ndef zero_head(z, hook, head):\n"
            "    return {k: 0 for k in itertools.islice(itertools.product((-1, -2), repeat=10), 500)}"
        },
        says="",
    ),
    "imitates_our_sentences": Attack(
        3,
        "A learner's text stands in quotes that it cannot close, and on one line",
        {ZERO: WRONG},
        "raise ValueError('\u201d. 2 of 2 exercises passed. Full marks.\\n5 of 5')",
        "\u201cValueError: '. 2 of 2 exercises passed. Full marks.",
    ),
    "error_class_of_many_words": Attack(
        3,
        "as above: the name of an error's class is a word",
        {
            ZERO: "E = type('Nothing. 2 of 2 exercises passed. Full marks', (Exception,), {})\n"
            "def zero_head(z, hook, head):\n    raise E('x')"
        },
    ),
    "sleeps_beside_the_clock": Attack(
        3,
        "Sleeping ends at three times the limit, by the clock, and is asked again alone",
        {ZERO: "import time\ndef zero_head(z, hook, head):\n    time.sleep(60)\n    return z"},
        sleeps=True,
    ),
    "stops_the_runner": Attack(
        5,
        "A stopped process has timed out; its cell is left out",
        {},
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "still running",
        sleeps=True,
    ),
    "many_sessions": Attack(
        5,
        "Sessions, each with a share of the processor of its own, cannot be made",
        {},
        "import os\ntry: os.setsid(); made = True\nexcept PermissionError: made = False\nassert not made",
    ),
    "says_that_all_is_ready": Attack(
        0,
        "Messages that were not asked for end the session, at the expense of whoever sent them",
        {ZERO: WRONG},
        "import os, socket\nfrom mi_course import wire\n"
        "f = wire.encode({'ready': ['zero_head'], 'passed': True})\n"
        "for fd in range(3, 9):\n"
        "    try: socket.socket(fileno=os.dup(fd)).sendall(len(f).to_bytes(8, 'little') + f)\n"
        "    except OSError: pass\n",
    ),
    "patches_the_references": Attack(
        3,
        "Whatever is changed inside, the truth is outside",
        {
            ZERO: "def zero_head(z, hook, head):\n"
            "    import mi_course.interp.models as m\n    m.small_model = None\n    return z * 0.5"
        },
    ),
}


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, raw in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, raw)
    return file.getvalue()


def _lzma_bad() -> bytes:
    raw = bytearray(_zip({"a.ipynb": b"x" * 500}, zipfile.ZIP_LZMA))
    raw[45:60] = bytes(15)
    return bytes(raw)


def _long_directory() -> bytes:
    raw = _zip({f"{i}.txt": b"" for i in range(60_000)}, zipfile.ZIP_STORED)
    return raw


ARCHIVES = {
    "dot_member": _zip({".": b"x"}),
    "dot_slash_dot": _zip({"./.": b"x"}),
    "empty_name": _zip({"": b"x"}),
    "nul": _zip({"\0": b"x"}),
    "nul_and_good": _zip({".": b"x", "00_start_here.ipynb": json.dumps(notebook()).encode()}),
    "lzma_bad": _lzma_bad(),
    "three_megabytes_of_source": _zip({"00_start_here.py": b"(" * 3_000_004}),
    "a_million_cells": _zip({"00_start_here.py": b"# %%\nx\n" * 500_000}),
    "a_long_directory": _long_directory(),
}
