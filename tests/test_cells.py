"""Cells without a kernel, as `mi-course check` and the sandbox run them."""

from __future__ import annotations

import asyncio
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mi_course.asking.cells import InertStub, LessonStub, main_namespace, run_cell


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # put back afterwards
    return main_namespace()


def test_a_cell_defines_names(namespace):
    assert run_cell("x = 1\nwhere = __name__\ndisplay(x)", 1, namespace) == ""
    assert (namespace["x"], namespace["where"]) == (1, "__main__")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (line 2)."),
        ("x = (", "SyntaxError: '(' was never closed (cell 3, line 1) (line 1)."),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (line 2)."),
        ("raise ValueError('a\\n  b')", "ValueError: a (line 1)."),
        ("class E(Exception):\n    __str__ = None\nraise E", "it raised an error whose text cannot be read."),
        ("while True: pass", "it was still running after 0.2 seconds."),
    ],
)
def test_why_a_cell_stops_is_one_line(namespace, source: str, message: str):
    assert run_cell(source, 3, namespace, limit_s=0.2) == message


def test_the_setup_is_named(namespace):
    run_cell("def f():\n    return missing", 0, namespace)
    assert run_cell("f()", 2, namespace) == "NameError: name 'missing' is not defined (line 1)."


def test_stubs_stand_for_what_an_answer_must_not_need(namespace):
    with InertStub().anything(1)["key"] as stub:
        assert [type(item) for item in stub] == [InertStub]
    assert not hasattr(InertStub(), "__array__")
    namespace["double"] = abs
    assert LessonStub(namespace).use("double") is abs
    assert LessonStub(namespace).check(abs) is None


# -- What IPython understands and Python does not ---------------------------------------------------------------------

FRAGMENTS = (
    "a = 3",
    "%xmode Plain",
    "%time b = a * 2",
    "c = %time a + 1",
    "for i in range(2):\n    %time d = i\n    e = i",
    "text = '''\n%no magic\n!neither\nor this?\n'''",
    "a = 7\nf = (a\n%4)",
    "len?",
    "import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 5\nh = await g()",
    "get_ipython().run_line_magic('time', 'k = 1')",
    "# leading % sign\nm = '%d' % a",
    "from __future__ import annotations\ndef n(x: unknown): ...\no = n.__annotations__",
)
WHOLE_CELLS = (
    "%%time\np = a\ndef q(): return 2",
    "%%capture\nprint(1)\nr = a",
    "  a = 1\n  s = 2",
    "%%html\n<b>no Python</b>",
    ">>> t = 1\n>>> u = 2",
)


@pytest.fixture(scope="module")
def shell():
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    yield shell
    shell.restore_sys_module_state()


def variables(namespace):
    names = "abcdefhkmoprstu"
    return {name: namespace[name] for name in (*names, "text") if name in namespace}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("\n".join) | st.sampled_from(WHOLE_CELLS),
        max_size=4,
    )
)
def test_a_cell_computes_what_it_computes_in_ipython(shell, capsys, monkeypatch, cells):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    ours = main_namespace()
    shell.user_ns.clear()
    shell.compile.reset_compiler_flags()
    shell.init_user_ns()
    for cell in ["a = 1", *cells]:
        theirs = asyncio.run(shell.run_cell_async(cell, silent=True, transformed_cell=shell.transform_cell(cell)))
        problem = run_cell(cell, 1, ours)
        assert bool(problem) == (not theirs.success), (cell, problem)
    assert "a" in ours
    assert variables(ours) == variables(shell.user_ns)


@pytest.mark.parametrize(
    "source",
    [
        "x = !ls\nassert x == []",
        "if True:\n    !pip install x\n    x = 1\nassert x == 1",
        "%load_ext autoreload\n%autoreload 2",
        "from IPython import get_ipython\nget_ipython().magic('load_ext autoreload')",
        "%%bash\nls -l | wc",
    ],
)
def test_what_has_no_meaning_here_does_nothing(namespace, source):
    assert run_cell(source, 1, namespace) == ""


def test_annotations_are_evaluated_as_in_a_notebook(namespace):
    source = "import pickle\nfrom dataclasses import dataclass, fields\n@dataclass\nclass P:\n    x: int = 0\n"
    source += "assert fields(P)[0].type is int\nassert pickle.loads(pickle.dumps(P(3))) == P(3)"
    assert run_cell(source, 1, namespace) == ""
