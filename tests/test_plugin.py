"""A lesson of other people's, installed as a package: asked in the notebook and in the grader's sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest
from require import require

import mi_course
from mi_course import asking, content, lessons
from mi_course.asking.drivers import DRIVERS
from mi_course.grading.intake import Loaded
from mi_course.grading.marking import mark
from mi_course.grading.sandbox import Sandbox
from mi_course.grading.sandbox.diagnosis import sandbox_problem


def double(x: int) -> int:
    return x + x


def test_its_driver_asks_in_a_notebook(plugin):
    lesson = mi_course.lesson("tiny")
    verdict = lesson.check(double)
    assert verdict.passed, verdict.message
    assert lesson.check(lambda x: x * x, name="double").mistake == "square"


def test_its_driver_asks_in_the_sandbox(plugin):
    problem = sandbox_problem()
    require("sandbox", problem is None, " ".join(problem or ()))
    solved = content.read_notebook(plugin, solution=True)
    with Sandbox.start() as sandbox:
        sandbox.wait(include=lessons.asking_modules())
        marks = mark("someone", Loaded((("90_tiny.ipynb", json.dumps(solved).encode()),)), sandbox, bytes(32))
    assert marks.points == marks.max_points == 5, marks


def test_a_plugin_may_be_reloaded_but_not_replace_what_is_there(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(asking.plugins, "_added", {})
    for registry in asking.plugins._REGISTRIES.values():
        for name, entry in list(registry.items()):
            monkeypatch.setitem(registry, name, entry)  # put back afterwards

    def write(module: str, **entries: Any) -> None:
        (tmp_path / f"{module}.py").write_text("\n".join(f"{name} = {text}" for name, text in entries.items()))

    write("first_school", DRIVERS="{'thrice': lambda answer, args: 3}", REFERENCES="{'planet': lambda resolver: 'Mars'}")
    write("second_school", DRIVERS="{'hook': None, 'other': None}")
    write("third_school", FUNCTIONS="{'line': None}", DRIVERS="{'thrice': None}")
    monkeypatch.setitem(DRIVERS, "thrice", None)
    del DRIVERS["thrice"]
    asking.include("first_school")
    asking.include("first_school")
    for module, name in (("second_school", "hook"), ("third_school", "thrice")):
        with pytest.raises(ValueError, match=f"{module} would replace {name}; choose other names"):
            asking.include(module)
    assert "other" not in DRIVERS
    assert "line" not in asking.references.FUNCTIONS
