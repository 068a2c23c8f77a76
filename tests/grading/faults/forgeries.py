"""Attempts to get marks without the answer. zero_head is wrong in each of them, and stays wrong."""

from __future__ import annotations

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
"""Stands before a wrong answer."""

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
        "            t = getattr(v, 'truth', None) or getattr(v, 'judge_data', None) or getattr(v, 'oracle', None)\n"
        "            if t is not None: return t\n        f = f.f_back\n    return z"
    ),
    "imports_the_spec": (
        "def zero_head(z, hook, head):\n    from mi_course import lessons\n"
        "    return lessons.load('start_here').exercise('zero_head').oracle(z, hook, head)"
    ),
    "imports_the_solution": (
        "def zero_head(z, hook, head):\n    from mi_course.content import solution_answer\n"
        "    s = {}\n    exec(solution_answer('start_here.zero_head'), s)\n    return s['zero_head'](z, hook, head)"
    ),
    "uses_the_lesson": "import mi_course\nzero_head = mi_course.lesson('start_here').solution('zero_head')",
    "not_a_function": "zero_head = True",
    "a_mock": "from unittest.mock import MagicMock\nzero_head = MagicMock(return_value=True)",
}
"""Stands in the place of the answer, after HEAD."""
