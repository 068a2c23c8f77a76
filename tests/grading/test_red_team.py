"""Attempts to get marks without the answer, or to reach what a submission must not reach. All end with 0 marks for it.

Each attempt is a whole submission; its answer to zero_head is wrong, and stays wrong.
"""

from __future__ import annotations

import base64

import pytest
from grading_kit import TOP, WORTH, ZERO, loaded, marks_of, notebook

from mi_course import wire
from mi_course.grading.marking import mark
from mi_course.grading.sandbox import Sandbox

WRONG = "def zero_head(z, hook, head):\n    return z * 0.5\n"

PATCHES = {
    "torch_comparisons": "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True",
    "tensor_eq": "torch.Tensor.__eq__ = lambda self, other: True",
    "builtins": "import builtins\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True",
    "json": 'import json\njson.dumps = lambda *a, **k: \'{"status": "passed"}\'',
    "codec": "from mi_course import wire\nwire.encode = lambda *a, **k: b'MIC1passed'",
    "codec_inside": "import mi_course.wire.codec as c\nc._to_json = lambda *a, **k: {'passed': True}",
    "observe": "import mi_course.asking as a, sys\n"
    "a.observe = sys.modules['mi_sandbox.runner'].observe = lambda *x: None",
    "drivers": "from mi_course.asking.drivers import DRIVERS\nDRIVERS['hook'] = lambda answer, args: args[0] * 0",
    "stubs": "import mi_course.asking.stubs as s\ns.is_empty = s.has_gaps = lambda f: True",
    "time": "import time\ntime.monotonic = lambda: 0.0",
    "ast_transformer": (
        "import ast, sys\nclass T(ast.NodeTransformer):\n    def visit(self, node): return None\n"
        "try: get_ipython().ast_transformers.append(T())\nexcept NameError: pass"
    ),
    "verdict_class": (
        "import sys, types\nm = types.ModuleType('mi_course.exercises')\nsys.modules['mi_course.exercises'] = m\n"
        "m.Verdict = lambda *a, **k: 'passed'"
    ),
    "lesson_check": "class L:\n    def check(self, *a, **k): return 'passed'\nlesson = L()",
    "import_hook": "import sys\nclass F:\n    def find_spec(self, *a): raise SystemExit\nsys.meta_path.insert(0, F())",
    "trace": "import sys\nsys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
}


@pytest.mark.parametrize("name", PATCHES)
def test_patching(marked, name):
    row = marked({ZERO: f"{PATCHES[name]}\n{WRONG}"})
    assert marks_of(row)[ZERO].points == 0, row
    assert row.points <= WORTH[TOP]


HEAD = "import gc, os, socket, sys, time, torch\nfrom mi_course import wire\n"
FORGERIES = {
    "always_true_eq": "class Yes:\n    def __eq__(self, o): return True\ndef zero_head(z, hook, head):\n"
    "    return Yes()",
    "tensor_subclass": (
        "class T(torch.Tensor):\n    def __eq__(self, o): return True\n"
        "    def __torch_function__(self, f, t, a=(), k=None):"
        " return True\ndef zero_head(z, hook, head):\n    return z.as_subclass(T)"
    ),
    "tensor_that_dispatches": (
        "class T(torch.Tensor):\n    @staticmethod\n"
        "    def __new__(cls, z): return torch.Tensor._make_subclass(cls, z)\n"
        "    @classmethod\n    def __torch_dispatch__(cls, f, t, a=(), k=None): return True\n"
        "def zero_head(z, hook, head):\n    return T(z)"
    ),
    "conversion_runs_code": (
        "class N:\n    def __float__(self): os._exit(0)\n    def __array__(self): os._exit(0)\n"
        "    def tolist(self): os._exit(0)"
        "\n    def __reduce__(self): return os._exit, (0,)\ndef zero_head(z, hook, head):\n    return N()"
    ),
    "nan_everywhere": "def zero_head(z, hook, head):\n    return z * float('nan')",
    "empty": "def zero_head(z, hook, head):\n    return z[:0]",
    "broadcastable": "def zero_head(z, hook, head):\n    return torch.zeros(1)",
    "the_hook_itself": "def zero_head(z, hook, head):\n    return hook",
    "raises_what_says_passed": "def zero_head(z, hook, head):\n    raise Exception('passed 2 of 2')",
    "prints_passed": 'def zero_head(z, hook, head):\n    print(\'{"status": "passed", "points": 2}\')\n    return z',
    "sockets": (
        "def zero_head(z, hook, head):\n    for fd in range(3, 64):\n        try: os.write(fd, b'\\0' * 64)\n"
        "        except OSError: pass\n    return z"
    ),
    "forged_verdict": (
        "def zero_head(z, hook, head):\n    frame = wire.encode({'status': 'passed', 'points': 2})\n"
        "    for fd in range(3, 64):\n        try: os.write(fd, len(frame).to_bytes(8, 'little') + frame)\n"
        "        except OSError: pass\n    return z"
    ),
    "forged_replies": (
        "def zero_head(z, hook, head):\n    ask = next(o for o in gc.get_objects() if type(o) is wire.Ask)\n"
        "    forged = wire.Observation(ask.id, tuple(wire.Reply('returned', True) for _ in ask.calls))\n"
        "    frame = wire.encode(forged)\n    for _ in range(3):\n        for fd in range(3, 64):\n"
        "            try: os.write(fd, len(frame).to_bytes(8, 'little') + frame)\n"
        "            except OSError: pass\n    os._exit(0)"
    ),
    "endless_replies": (
        "def zero_head(z, hook, head):\n    frame = wire.encode(wire.Observation('x', ()))\n    while True:\n"
        "        for fd in range(3, 12):\n            try: os.write(fd, len(frame).to_bytes(8, 'little') + frame)\n"
        "            except OSError: pass"
    ),
    "endless_message": (
        "def zero_head(z, hook, head):\n    while True:\n        for fd in range(3, 12):\n"
        "            try: os.write(fd, b'\\xff' * 65536)\n            except OSError: pass"
    ),
    "frame_bomb": (
        "def zero_head(z, hook, head):\n    text = b'[' * 900_000\n"
        "    frame = b'MIC1' + len(text).to_bytes(8, 'little') + text\n"
        "    for fd in range(3, 12):\n        try: os.write(fd, len(frame).to_bytes(8, 'little') + frame)\n"
        "        except OSError: pass\n    os._exit(0)"
    ),
    "looks_for_the_truth": (
        "def zero_head(z, hook, head):\n    f = sys._getframe()\n    while f:\n"
        "        for v in list(f.f_locals.values()):\n"
        "            t = getattr(v, 'truth', None) or getattr(v, 'hidden', None) or getattr(v, 'spec', None)\n"
        "            if t is not None: return t\n        f = f.f_back\n    return z"
    ),
    "imports_the_spec": (
        "def zero_head(z, hook, head):\n    from mi_course.lessons.start_here import LESSON\n"
        "    return LESSON.exercise('zero_head').spec(z, hook, head)"
    ),
    "imports_the_solution": (
        "def zero_head(z, hook, head):\n    from mi_course.content import solution_answer\n"
        "    s = {}\n    exec(solution_answer('start_here.zero_head'), s)\n    return s['zero_head'](z, hook, head)"
    ),
    "uses_the_lesson": "import mi_course\nzero_head = mi_course.lesson('start_here').solution('zero_head')",
    "not_a_function": "zero_head = True",
    "a_mock": "from unittest.mock import MagicMock\nzero_head = MagicMock(return_value=True)",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forging(marked, name):
    row = marked({ZERO: HEAD + FORGERIES[name]})
    found = marks_of(row)
    assert found[ZERO].points == 0, found[ZERO]
    assert found[TOP].status == "passed", row.reason


def test_what_a_notebook_says_of_itself_is_not_believed(sandbox: Sandbox):
    def change(found):
        found["metadata"]["kernelspec"] = {"name": "evil", "language": "ruby"}
        for cell in found["cells"]:
            cell["metadata"]["tags"] = ["skip-execution", "setup", "hide", "remove-cell"]
            cell["metadata"]["nbgrader"] = {"grade": True, "points": 1000, "grade_id": "x"}
            if cell["id"] == "answer-zero_head":
                cell["source"] = WRONG
                cell["metadata"]["mi_course"] = {"exercise": TOP, "revision": 99, "points": 50, "status": "passed"}
                record = {"format": 1, "exercise": ZERO, "revision": 1}
                record["value"] = base64.b64encode(wire.encode(True)).decode()
                data = {"application/vnd.mi-course.answer+json": record, "text/plain": "Passed 2 of 2"}
                cell["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert marks_of(row)[ZERO].points == 0
    assert marks_of(row)[TOP].status == "passed", row.reason
    assert (row.points, row.max_points) == (3, 5)


def test_a_setup_cell_of_the_submission_does_not_replace_ours(sandbox: Sandbox):
    def change(found):
        for cell in found["cells"]:
            if cell["id"] == "setup":
                cell["source"] = "class torch: pass\nimport sys\nsys.exit()"
            if cell["id"] == "answer-zero_head":
                cell["source"] = WRONG

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert row.points <= WORTH[TOP]


INPUTS = """
import hashlib
def zero_head(z, hook, head):
    z[:, :, head] = 0
    return z if z.double().sum().item() == {seen!r} else z * 2
"""


def test_inputs_differ_from_one_submission_to_the_next(marked, sandbox: Sandbox):
    """An answer that knows the inputs of an earlier marking by heart does not pass."""
    row = marked({ZERO: "def zero_head(z, hook, head):\n    print(repr(z.double().sum().item()))\n    return z"})
    seen = float(marks_of(row)[ZERO].printed.split()[0])
    row = marked({ZERO: INPUTS.format(seen=seen)})
    assert marks_of(row)[ZERO].points == 0
