"""The wheel, used as a learner and a teacher use it: installed, without the clone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from require import require_sandbox

from mi_course import __version__, content, lessons

pytestmark = pytest.mark.xdist_group("sandbox")

ROOT = Path(__file__).parents[2]
ANSWERS = ("start_here.top_next_tokens", "start_here.zero_head")


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What the command prints. It sees neither the clone nor the progress of whoever runs the tests."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment | variables, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def link(source: str, target: str) -> None:
    """A hard link, or a copy where the file lies on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session", params=["linked", "empty"])
def course(
    request: pytest.FixtureRequest, distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The command of an environment with the wheel in it, and this environment's packages or, with --all, its own."""
    if request.param == "empty" and not request.config.getoption("--all", default=False):
        pytest.skip("installing all dependencies takes minutes: --all")
    folder = tmp_path_factory.mktemp(request.param)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    binaries = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    if request.param == "linked":
        # Hard links, since a sandbox shows the environment's own folder and nothing that it points to.
        own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
        for packages in map(Path, site.getsitepackages()):
            without = shutil.ignore_patterns("*mi_course*")  # the editable course
            shutil.copytree(packages, own, copy_function=link, symlinks=True, ignore=without, dirs_exist_ok=True)
        run(*pip, "--no-deps", "--no-index", distributions[1], cwd=folder)
    else:
        run(*pip, "-c", ROOT / "constraints.txt", distributions[1], cwd=folder)
    place = run(python, "-c", "import mi_course; print(mi_course.__file__)", cwd=folder).strip()
    assert Path(place).is_relative_to(folder), f"{place} is not the wheel's"
    return binaries / "mi-course"


def solved(answers: dict[str, str] | None = None) -> str:
    """The learner's notebook of lesson 00 with right answers, but for `answers`."""
    notebook: dict[str, Any] = content.read_notebook(lessons.find("start_here"))
    for cell in notebook["cells"]:
        exercise = content.exercise_of(cell)
        if exercise:
            answer = {**{id: content.solution_answer(id) for id in ANSWERS}, **(answers or {})}[exercise]
            cell["source"] = f"{answer}\n\nlesson.check({exercise.partition('.')[2]})"
    return json.dumps(notebook)


def test_the_wheel_holds_the_course_and_no_tests(distributions):
    _, wheel = distributions
    assert wheel.stat().st_size < 95_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for info in lessons.OURS:
        for path in (f"notebooks/{info.notebook}.ipynb", f"solutions/{info.notebook}.ipynb"):
            assert f"mi_course/_content/{path}" in names
    assert {"mi_course/py.typed", "mi_course/_content/constraints.txt", "mi_course/_content/data/README.md"} <= {*names}
    strays = [n for n in names if n.split("/")[0] not in ("mi_course", f"mi_course-{__version__}.dist-info")]
    assert not strays
    modules = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "mi_course").rglob("*.py")}
    assert {n for n in names if n.endswith(".py") and "/_content/" not in n} == modules
    assert not [
        n
        for n in names
        if re.search(r"__pycache__|\.ipynb_checkpoints|(^|/)(tests|conftest\.py|test_\w+\.py)(/|$)", n)
        and not n.startswith("mi_course/testing/")
    ]  # the proof for other people's lessons


def test_the_source_distribution_holds_what_a_packager_needs(distributions):
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "hatch_build.py", "constraints.txt", "tests/conftest.py"} <= names
    assert not [n for n in names if n.endswith((".pyc", ".whl")) or n.split("/")[0] in (".git", "dist", "mi-course")]
    assert sdist.stat().st_size < 100_000_000


@pytest.mark.slow
def test_lab_and_doctor(course, tmp_path):
    home = {"MI_COURSE_HOME": str(tmp_path / "home")}
    run(course, "lab", "--no-start", "--dir", tmp_path / "mine", cwd=tmp_path, **home)
    assert {path.name for path in tmp_path.glob("mine/*.ipynb")} == {f"{i.notebook}.ipynb" for i in lessons.OURS}
    report = run(course, "doctor", cwd=tmp_path, **home)
    for row in ("Python", "torch", "TransformerLens", "versions", "kernel"):
        assert row in report


@pytest.mark.slow
def test_a_solved_notebook_passes(course, tmp_path):
    (tmp_path / "00_start_here.ipynb").write_text(solved())
    report = run(course, "check", "00_start_here.ipynb", cwd=tmp_path, MI_COURSE_HOME=str(tmp_path / "home"))
    assert report.count("passed") >= len(ANSWERS), report


@pytest.mark.slow
def test_two_submissions_are_graded(course, tmp_path):
    require_sandbox()
    wrong = {ANSWERS[1]: "def zero_head(z, hook):\n    return z"}
    for name, text in {"ada": solved(), "bob": solved(wrong)}.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "00_start_here.ipynb").write_text(text)
    run(course, "grade", "in", "--out", "marks", cwd=tmp_path, MI_COURSE_HOME=str(tmp_path / "home"))
    with (tmp_path / "marks" / "marks.csv").open() as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    assert rows["ada"]["points"] == rows["ada"]["max_points"], rows
    assert rows["bob"][ANSWERS[0]] == rows["ada"][ANSWERS[0]] != "0", rows
    assert rows["bob"][ANSWERS[1]] == "0", rows
