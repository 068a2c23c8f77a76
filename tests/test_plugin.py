"""A lesson of other people's, installed as a package: asked in the notebook and in the grader's sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from require import require_sandbox
from tiny_plugin import forget, install

import mi_course
from mi_course import asking, content, lessons
from mi_course.asking.drivers import DRIVERS
from mi_course.errors import CourseError
from mi_course.grading.intake import Loaded
from mi_course.grading.marking import mark, prepare
from mi_course.grading.sandbox import Sandbox


def double(x: int) -> int:
    return x + x


def test_its_driver_asks_in_a_notebook(plugin):
    lesson = mi_course.lesson("tiny")
    verdict = lesson.check(double)
    assert verdict.passed, verdict.message
    assert lesson.check(lambda x: x * x, name="double").mistake == "square"


@pytest.mark.xdist_group("sandbox")
def test_its_driver_asks_in_the_sandbox(plugin):
    require_sandbox()
    solved = content.read_notebook(plugin, solution=True)
    with Sandbox.start() as sandbox:
        prepare(sandbox)
        marks = mark("someone", Loaded((("90_tiny.ipynb", json.dumps(solved).encode()),)), sandbox, bytes(32))
    assert marks.points == marks.max_points == 5, marks


def prove(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs the proof of the lesson as its author would, far from the course's own pytest configuration."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={folder}", "-p", "no:cacheprovider", "-q"]
    command += ["-p", "mi_course.testing.plugin", "--pyargs", "mi_course.testing", "--mi-lesson", "tiny", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    return result.returncode, result.stdout + result.stderr


def test_its_exercises_are_proved(plugin):
    code, output = prove(Path(plugin.folder))
    assert code == 0, output
    assert "failed" not in output


FAULTS = {
    "wrong_answers": {
        ("alternatives", "x << 1", "x << 2"): ["test_the_alternatives_pass[tiny.double-0]"],
        ("alternatives", "ANSWERS =", "EQUIVALENT = {'double': {'return x': '?'}}\nANSWERS ="): [
            "refused now or no longer"
        ],
        ("lesson", "lambda x: x / 2", "lambda x: x * x"): ["test_each_mistake_is_named[tiny.double-2]", "'square'"],
        ("lesson", '"Add it to itself.", ', ""): ["test_it_is_complete[tiny.double]"],
    },
    "weak_cases": {
        ("lesson", "draw.integer(3, 9)", "0"): [
            "test_mutants_are_refused[tiny.double]",
            "['return x', 'return x - x']",
        ],
        ("lesson", "-draw.integer(10, 99)", "0"): ["test_a_guess_earns_nothing[tiny.double-zero]"],
    },
}


@pytest.mark.parametrize("faults", FAULTS)
def test_faults_of_an_exercise_are_found(plugin, faults):
    expected = []
    for (module, right, wrong), words in FAULTS[faults].items():
        path = Path(plugin.folder) / f"tiny_course_{module}.py"
        source = path.read_text()
        assert source.count(right) == 1
        path.write_text(source.replace(right, wrong))
        expected += words
    code, output = prove(Path(plugin.folder), "--tb=short")
    assert code == 1, output
    assert not [words for words in expected if words not in output], output


def test_a_plugin_may_be_reloaded_but_not_replace_what_is_there(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(asking.plugins, "_added", {})
    for registry in asking.plugins._REGISTRIES.values():
        for name, entry in list(registry.items()):
            monkeypatch.setitem(registry, name, entry)  # put back afterwards

    def write(module: str, **entries: Any) -> None:
        (tmp_path / f"{module}.py").write_text("\n".join(f"{name} = {text}" for name, text in entries.items()))

    write(
        "first_school", DRIVERS="{'thrice': lambda answer, args: 3}", REFERENCES="{'planet': lambda resolver: 'Mars'}"
    )
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
    with pytest.warns(UserWarning, match="'second_school' could not be loaded: ValueError"):
        asking.include_all(["second_school", "first_school"])  # one that fails does not stop the next
    with pytest.warns(UserWarning, match="'no_school' could not be loaded: ModuleNotFoundError"):
        asking.include_all(["no_school"])


RENAMED = {
    "asks": ("task=", "asks=", "task"),
    "spec": ("oracle=", "spec=", "oracle"),
    "own": ("kind=", "own='', kind=", "fallback"),
    "hidden": ("EXERCISES = ", "case(hidden=1)\nEXERCISES = ", "judge_data"),
    "wrong": ('"primes", "These are primes.", ', "'primes', 'm', wrong=", "implementation"),
    "sign": ('"primes", "These are primes.", ', "'primes', 'm', sign=1, implementation=", "detect"),
}


@pytest.mark.parametrize("old", RENAMED)
def test_a_former_field_is_named_with_its_new_name(old, tmp_path, monkeypatch):
    right, wrong, new = RENAMED[old]
    try:
        install(tmp_path, monkeypatch)
        path = tmp_path / "tiny_course_lesson.py"
        assert right in path.read_text()
        path.write_text(path.read_text().replace(right, wrong))
        with pytest.raises(CourseError, match=f"`{old}` is called `{new}` now"):
            lessons.load("tiny")
        # A plug-in that imports its exercises at once is left out, with a warning.
        (tmp_path / "tiny_course.py").write_text("import tiny_course_lesson")
        forget()
        with pytest.warns(UserWarning, match=f"could not be loaded: TypeError.* `{old}` is called `{new}` now"):
            assert len(lessons.catalogue()) == len(lessons.OURS)
    finally:
        monkeypatch.undo()
        forget()
