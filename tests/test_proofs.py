"""The proof of a lesson's exercises (`mi_course.testing`) runs again only if something that its result depends on has
changed since it passed (`passed.py`). `pytest tests/test_exercises.py -k NAME` runs it in any case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import passed
import pytest

from mi_course import lessons
from mi_course.authoring.execute import environment

NAMES = {f"exercises_{info.id}": info.id for info in lessons.OURS}
"""Name of the key -> lesson."""


def run(lesson: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The whole proof of a lesson, as other people's lessons get it; files that it opens are recorded in `folder`."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), "-q"]
    command += ["-p", "no:cacheprovider", "-p", "mi_course.testing.plugin", "--pyargs", "mi_course.testing"]
    alone = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    env = environment(folder) | alone | passed.recording(folder)
    return subprocess.run(
        [*command, "--mi-lesson", lesson], capture_output=True, text=True, timeout=1800, cwd=folder, env=env
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(f"proofs:{name}")) for name in NAMES]
)
def test_exercises_of(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    regardless = name in passed.spot_checks(list(NAMES), 1)
    passed.verify(name, partial(run, NAMES[name]), request, tmp_path, regardless=regardless)


# -- Keys -------------------------------------------------------------------------------------------------------------


def test_they_run_once():
    """In a run of the whole suite in a process for each lesson, in a quick one each as a test."""
    collect = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-n", "0", "--mi-lesson", "start_here", "tests"]
    collect += [f"--ignore-glob={Path(__file__).parent}/{name}" for name in ("[!t]*", "test_[!ep]*", "test_[ep][!xr]*")]
    for marks, expected in (("not timing", "test_proofs.py::test_exercises_of"), ("not slow", "test_exercises.py::")):
        shown = subprocess.run([*collect, "-m", marks], capture_output=True, text=True, cwd=passed.ROOT).stdout
        found = [name for name in ("test_proofs.py::test_exercises_of", "test_exercises.py::") if name in shown]
        assert found == [expected], shown


@pytest.mark.parametrize("name", NAMES)
def test_a_key_holds_what_proofs_depend_on(name: str):
    path = passed.ROOT / "tests" / "keys" / f"{name}.json"
    if path.exists():
        files = json.loads(path.read_text())["files"]
        info = lessons.find(NAMES[name])
        module = info.module.replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & set(files)
        assert {
            "constraints.txt",
            "mi_course/judging/__init__.py",
            "mi_course/testing/test_exercises.py",
            f"notebooks/{info.notebook}.ipynb",
            f"solutions/{info.notebook}.ipynb",
            f"tests/alternatives/{info.id}.py",
        } <= set(files)


class Request:
    """That of a test in a run with these options."""

    def __init__(self, *options: str) -> None:
        self.config = SimpleNamespace(getoption=options.__contains__)
        self.node = SimpleNamespace(user_properties=[])


def test_only_what_passed_gets_a_key_and_is_left_out(tmp_path: Path):
    ran = []

    def tests(folder: Path) -> subprocess.CompletedProcess[str]:
        ran.append(True)
        return subprocess.CompletedProcess("", status, "3 passed, 2 skipped in 1 s", "")

    verify = partial(passed.verify, "some", tests, folder=tmp_path, root=tmp_path)
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "mi_course").mkdir()
    (tmp_path / "mi_course/__init__.py").touch()
    (tmp_path / "opened.txt").write_text(f"{tmp_path}/mi_course/__init__.py\n")

    status = 1
    with pytest.raises(AssertionError):
        verify(Request("--write-keys"), regardless=False)
    assert passed.changes("some", tmp_path) == ["it has no key"]
    status = 0
    with pytest.warns(UserWarning, match="some passed without a valid key"):
        verify(Request(), regardless=False)
    assert passed.changes("some", tmp_path) == ["it has no key"]
    verify(Request("--write-keys"), regardless=False)
    assert passed.changes("some", tmp_path) == []

    ran.clear()
    request = Request("--write-keys")
    with pytest.raises(pytest.skip.Exception):
        verify(request, regardless=False)
    assert not ran
    assert request.node.user_properties == [(passed.VERIFIED, 3)]
    for options, regardless in ((("--all",), False), ((), True)):
        request = Request(*options)
        verify(request, regardless=regardless)
        assert ran.pop()
        assert not request.node.user_properties
