"""`mi-course new` in a copy of the clone: what it writes is complete, listed, and fails until it is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mi_course
from mi_course import lessons

CLONE = Path(mi_course.__file__).parents[1]


@pytest.fixture
def clone(tmp_path) -> Path:
    for folder in ("mi_course", "notebooks", "solutions", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", ".*", "benchmarks")
        shutil.copytree(CLONE / folder, tmp_path / folder, ignore=ignore)
    for name in ("data", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).symlink_to(CLONE / name)
    return tmp_path


def python(clone: Path, *words: str, status: int = 0) -> str:
    paths = os.pathsep.join([str(clone), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_new_lesson_with_an_exercise(clone):
    new = ("-m", "mi_course", "new")
    title = 'A "brand-new" lesson'
    assert python(clone, *new, "lesson", "brand_new", "--title", title).count("wrote ") == 4
    for name in ("lens", "tuned_lens"):
        assert python(clone, *new, "exercise", f"brand_new.{name}").count("wrote ") == 4
    script = (
        "from mi_course import lessons; lesson = lessons.load('brand_new')\n"
        "print(lesson.number, lesson.title, [exercise.name for exercise in lesson.exercises])"
    )
    number = max(info.number for info in lessons.OURS) + 1
    assert python(clone, "-c", script) == f"{number} {title} ['lens', 'tuned_lens']\n"
    findings = python(clone, "-m", "mi_course", "build", "--check", status=1)
    for part in (
        f"solutions/{number:02d}_brand_new.py:12: cell 'title' is not written yet",
        "cell 'answer-lens' is not written yet",
        "mi_course/lessons/brand_new/lens.py",
        "tests/alternatives/brand_new.py",
        "brand_new.tuned_lens: has 1 mistakes; 4 are needed",
        f"notebooks/{number:02d}_brand_new.ipynb:1: is missing",
    ):
        assert part in findings


@pytest.mark.slow
def test_the_proof_of_a_new_exercise_fails_until_it_is_written(clone):
    python(clone, "-m", "mi_course", "new", "exercise", "superposition.rank")
    proof = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/test_exercises.py", "-k", "superposition.rank")
    assert "not written yet" in python(clone, *proof, status=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lesson", "superposition"), "Lesson 5 is superposition: choose another id, or --number."),
        (("lesson", "other", "--number", "5"), "Lesson 5 is superposition"),
        (("lesson", "Other-One"), "is not a lesson id"),
        (("exercise", "superposition"), "is not an exercise name"),
        (("exercise", "superposition.train_toy"), "has a module or an answer cell train_toy already"),
        (("exercise", "start_here.third"), "is not a package of ours"),
        (("exercise", "none.third"), "no lesson 'none'"),
    ],
)
def test_what_is_refused_writes_nothing(words, message):
    before = (CLONE / "mi_course" / "lessons" / "__init__.py").read_bytes()
    assert message in " ".join(python(CLONE, "-m", "mi_course", "new", *words, status=2).split())
    assert (CLONE / "mi_course" / "lessons" / "__init__.py").read_bytes() == before
