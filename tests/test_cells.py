"""Cells without a kernel, as `mi-course check` and the sandbox run them."""

from __future__ import annotations

import sys

import pytest

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
