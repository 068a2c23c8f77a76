"""What is exported for other people's graders, run by those graders or as they run it."""

from __future__ import annotations

import base64
import copy
import csv
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from grading_kit import TOP, ZERO, notebook, right
from require import require
from test_formats import classroom_total, console_total

from mi_course import content, lessons
from mi_course.grading.exports import autograder as gradescope_run
from mi_course.grading.exports import classroom, earned, gradescope, nbgrader

WRONG = "def zero_head(z, hook, head):\n    z[:, head] = 0.0\n    return z"
LOUD = (
    "import os, sys, warnings\n"
    "def zero_head(z, hook, head):\n"
    "    warnings.warn('hm')\n    sys.stderr.write('hm')\n    os.write(2, b'hm')\n    print(7)\n"
    "    z[:, :, head] = 0.0\n    return z"
)


def no_course_on_the_way() -> dict[str, str]:
    """The environment without what would find another copy of the course, or a model."""
    found = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "AUTOGRADER_PYTHON")}
    return {**found, "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}


# ---------------------------------------------------------------------------------------------------------------------
# nbgrader


@pytest.fixture(scope="module")
def nbgrader_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nbgrader on top of this one. In this one it would switch on its own parts of JupyterLab."""
    folder = tmp_path_factory.mktemp("nbgrader") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    told = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    )
    below = [path for path in sys.path if path.endswith("site-packages")]
    below += [str(Path(content.__file__).parents[1])]
    Path(told.stdout.strip(), "below.pth").write_text("\n".join(below) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--disable-pip-version-check"]
    got = subprocess.run(
        [*pip, "-c", str(content.constraints_file()), "nbgrader==0.9.6"], capture_output=True, text=True, timeout=300
    )
    require("nbgrader", got.returncode == 0, f"nbgrader cannot be installed here: {got.stderr[-500:]}")
    return python


def test_an_assignment_is_what_nbgrader_expects():
    for info in lessons.catalogue():
        found = nbgrader.assignment(info)
        spec = lessons.load(info.id)
        roles = [cell["metadata"]["nbgrader"] for cell in found["cells"] if "nbgrader" in cell["metadata"]]
        ids = [role["grade_id"] for role in roles]
        assert len(set(ids)) == len(ids)
        assert all(role["schema_version"] == 3 for role in roles)
        worth = {role["grade_id"]: role["points"] for role in roles if role["grade"] and not role["solution"]}
        assert worth == {f"points-{exercise.name}": exercise.points for exercise in spec.exercises}
        cells = {cell["id"]: cell for cell in found["cells"]}
        assert len(cells) == len(found["cells"])
        for exercise in spec.exercises:
            text = content.source(cells[f"answer-{exercise.name}"])
            assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") == 1
            left = text.partition("### BEGIN SOLUTION")[0] + text.partition("### END SOLUTION")[2]
            assert exercise.name in content.top_level_names(left)
        demonstrations = [cell for cell in found["cells"] if nbgrader.SKIP in cell["metadata"].get("tags", [])]
        assert bool(demonstrations) == all(exercise.kind == "function" for exercise in spec.exercises)


def test_a_notebook_of_yours_is_not_written_over(tmp_path: Path):
    written = nbgrader.export(tmp_path, ["start_here"])
    assert [path.name for path in written] == ["00_start_here.ipynb", "nbgrader_config.py"]
    (tmp_path / "nbgrader_config.py").write_text("# mine")
    assert len(nbgrader.export(tmp_path, [0])) == 1
    assert (tmp_path / "nbgrader_config.py").read_text() == "# mine"
    written[0].write_text('{"cells": []}')
    with pytest.raises(FileExistsError):
        nbgrader.export(tmp_path, [0])


def test_points_say_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]):
    namespace: dict[str, object] = {}
    exec(f"import torch\nfrom jaxtyping import Float\nfrom torch import Tensor\n{right(TOP)}\n{LOUD}", namespace)
    assert nbgrader.points(TOP, namespace) == 3
    assert nbgrader.points(ZERO, namespace) == 2
    assert nbgrader.points(ZERO, {}) == 0
    assert nbgrader.points("no.such", namespace) == 0
    told = capfd.readouterr()
    assert told.err == ""
    assert "zero_head is not defined." in told.out


@pytest.mark.slow
def test_nbgrader_itself(nbgrader_python: Path, tmp_path: Path):
    """Its own generate_assignment, autograde and export, on right, loud, wrong and untouched answers."""
    nbgrader.export(tmp_path, ["start_here"])
    env = {**no_course_on_the_way(), "PATH": f"{nbgrader_python.parent}:{os.environ['PATH']}"}
    env |= {name: str(tmp_path / "home") for name in ("HOME", "MI_COURSE_CACHE", "MI_COURSE_HOME", "JUPYTER_DATA_DIR")}

    def run(*words: str) -> str:
        command = [nbgrader_python, "-m", "nbgrader", *words]
        told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
        assert told.returncode == 0, told.stderr[-3000:]
        return told.stderr

    run("generate_assignment", "start_here", "--create")
    released = json.loads((tmp_path / "release" / "start_here" / "00_start_here.ipynb").read_text())
    texts = {cell["id"]: content.source(cell) for cell in released["cells"]}
    assert "exports.nbgrader" not in "".join(texts.values()), "hidden tests are hidden"
    for name in ("top_next_tokens", "zero_head"):
        text = texts[f"answer-{name}"]
        assert text.count(f"    {nbgrader.STUB}\n") == 1
        assert not any(line in text for line in ("topk(k)", "= 0.0", "SOLUTION"))
        assert f"lesson.check({name})" in text
    assert f"`{nbgrader.STUB}`" in texts["how-it-works"]

    nothing = f"def {TOP.partition('.')[2]}(logits, k):\n    return []"
    for name, given in {"ada": {TOP: nothing, ZERO: LOUD}, "bob": {TOP: right(TOP)}}.items():
        handed = copy.deepcopy(released)
        for cell in handed["cells"]:
            cell["source"] = given.get(content.exercise_of(cell), cell["source"])
        place = tmp_path / "submitted" / name / "start_here" / "00_start_here.ipynb"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(handed))
    told = run("autograde", "start_here", "--create")
    assert "cannot be converted to" not in told, "nbgrader met a last value that is no number"
    run("export", "--to", str(tmp_path / "grades.csv"))
    with open(tmp_path / "grades.csv", newline="") as file:
        rows = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    assert rows == {"ada": (2, 5), "bob": (3, 5)}


# ---------------------------------------------------------------------------------------------------------------------
# Gradescope


@pytest.fixture(scope="module")
def autograder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[dict, str]]:
    """Runs the zip's own run_autograder in a scratch root, as Gradescope lays it out."""
    base = tmp_path_factory.mktemp("gradescope")
    path = gradescope.export(base / "autograder.zip", "start_here", "--some-index cpu-builds")

    def run(name: str, files: dict[str, str], **env: str) -> tuple[dict, str]:
        root = base / name
        (root / "submission").mkdir(parents=True)
        (root / "results").mkdir()
        subprocess.run([sys.executable, "-m", "zipfile", "-e", str(path), str(root / "source")], check=True)
        for file, text in files.items():
            (root / "submission" / file).write_text(text)
        script = root / "run_autograder"
        script.write_bytes((root / "source" / "run_autograder").read_bytes())
        script.chmod(0o755)
        env = {**no_course_on_the_way(), "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable, **env}
        told = subprocess.run([script], cwd="/", env=env, capture_output=True, text=True, timeout=280)
        assert told.returncode == 0, told.stderr[-2000:]
        return json.loads((root / "results" / "results.json").read_text()), told.stdout + told.stderr

    return run


def test_the_zip_holds_what_gradescope_looks_for(tmp_path: Path):
    path = gradescope.export(tmp_path / "a.zip", None, "--some-index cpu-builds")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", "requirements.txt", "autograder.json"} <= names
        assert not any("__pycache__" in name or ".." in name for name in names)
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 & 0o111
            assert archive.read(name).startswith(b"#!/usr/bin/env bash\n")
            subprocess.run(["bash", "-n"], input=archive.read(name), check=True)
        assert b"pip --some-index cpu-builds torch" in archive.read("setup.sh")
        assert json.loads(archive.read("autograder.json")) == {"lesson": None}
        wanted = archive.read("requirements.txt").decode().split("\n")
        assert any(one.startswith("torch>=") for one in wanted)
        assert not any("pytest" in one for one in wanted)
    raw = path.read_bytes()
    assert gradescope.export(path, None, "--some-index cpu-builds").read_bytes() == raw
    with pytest.raises(KeyError):
        gradescope.export(path, "nothing")
    with pytest.raises(ValueError, match="options"):
        gradescope.export(path, None, "; rm -rf /")


@pytest.fixture
def marked_here(here, tmp_path: Path) -> Callable[[dict[str, str]], dict]:
    """What run_autograder runs, in this process and in the sandbox that is there."""

    def run(files: dict[str, str]) -> dict:
        for name in ("source", "submission"):
            (tmp_path / name).mkdir()
        (tmp_path / "source" / "autograder.json").write_text('{"lesson": "start_here"}')
        for name, text in files.items():
            (tmp_path / "submission" / name).write_text(text)
        gradescope_run.main(tmp_path)
        return json.loads((tmp_path / "results" / "results.json").read_text())

    return run


def test_gradescope_marks_a_right_submission(marked_here):
    found = marked_here({"anything.ipynb": json.dumps(notebook()), "notes.txt": "hello"})
    assert found["score"] == 5
    assert [(test["score"], test["max_score"], test["status"]) for test in found["tests"]] == [
        (3, 3, "passed"),
        (2, 2, "passed"),
    ]
    assert found["extra_data"]["sandboxed"] is True
    assert "WITHOUT" not in found["output"]


def test_gradescope_without_namespaces_says_so(autograder, tmp_path: Path):
    for word in ("bash", "env", "python3"):
        where = subprocess.run(["bash", "-c", f"command -v {word}"], capture_output=True, text=True).stdout.strip()
        (tmp_path / word).symlink_to(where)
    found, _ = autograder("wrong", {"00_start_here.ipynb": json.dumps(notebook({ZERO: WRONG}))}, PATH=str(tmp_path))
    assert found["score"] == 3
    test = found["tests"][1]
    assert (test["score"], test["status"]) == (0, "failed")
    assert "You silenced one *position*" in test["output"]
    assert "position_for_head" in test["tags"]
    assert found["extra_data"]["sandboxed"] is False
    assert "WITHOUT a sandbox" in found["output"]
    assert "bubblewrap is not installed" in found["output"]


def test_gradescope_of_a_malformed_notebook(marked_here):
    found = marked_here({"00_start_here.ipynb": '{"cells": ['})
    assert (found["score"], found["tests"]) == (0, [])
    assert "is no notebook" in found["output"]


# ---------------------------------------------------------------------------------------------------------------------
# GitHub Classroom


def test_classroom_marks_a_push(needs_sandbox, tmp_path: Path):
    """The workflow is valid, and the step that marks does, run as the runner runs it."""
    repository, runner = tmp_path / "lesson-ada", tmp_path / "runner"
    runner.mkdir()
    paths = classroom.export(repository, 0, "mi-course @ git+https://example.org/mi_course")
    workflow = yaml.safe_load(paths[0].read_text())
    assert set(workflow) == {"name", "on", "permissions", "jobs"}
    steps = workflow["jobs"]["marks"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    for step in steps:
        subprocess.run(["bash", "-n"], input=step.get("run", "").encode(), check=True)
    assert "'mi-course @ git+https://example.org/mi_course'" in steps[3]["run"]
    reporter = steps[-1]
    assert reporter["with"]["runners"].isalnum()
    assert list(reporter["env"]) == [f"{reporter['with']['runners'].upper()}_RESULTS"]

    (repository / "00_start_here.ipynb").write_text(json.dumps(notebook({ZERO: WRONG})))
    step = next(step for step in steps if step.get("id") == "course")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "mi-course").write_text(f'#!/bin/sh\nexec {sys.executable} -m mi_course "$@"\n')
    (bin_ / "mi-course").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "RUNNER_TEMP": str(runner)}
    env["GITHUB_OUTPUT"] = str(tmp_path / "output")
    told = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=repository, env=env, capture_output=True, text=True, timeout=280
    )
    assert told.returncode == 0, told.stderr
    name, _, value = (tmp_path / "output").read_text().strip().partition("=")
    assert f"steps.course.outputs.{name}" in next(iter(reporter["env"].values()))
    result = json.loads(base64.b64decode(value))
    assert (result["status"], result["max_score"]) == ("fail", 5)
    assert console_total(result) == classroom_total(result) == 3
    assert len(list((runner / "marks" / "feedback").glob("*.html"))) == 1

    # The older list of tests, on the same marks.
    tests = json.loads(paths[1].read_text())["tests"]
    assert sum(test["points"] for test in tests) == 5
    assert tests[0]["setup"].startswith("mi-course grade . --single --lesson start_here")
    got = 0
    for test in tests:
        python, _, module, _, *rest = test["run"].split()
        assert (python, module) == ("python", "mi_course.grading.exports.earned")
        got += test["points"] * (earned.main(str(runner / "marks"), *rest) == 0)
    assert got == 3


def test_classroom_refuses_what_a_shell_would_read(tmp_path: Path):
    with pytest.raises(ValueError, match="pip"):
        classroom.export(tmp_path, 0, "x'; rm -rf ~; '")
    with pytest.raises(KeyError):
        classroom.export(tmp_path, "nothing")
