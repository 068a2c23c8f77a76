"""The command line as a learner meets it: real processes, real notebooks, no traceback."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_plugin import cell, code

from mi_course import cli, content, wire
from mi_course.authoring.source import BuildError, Finding
from mi_course.errors import CourseError, UnknownName
from mi_course.grading.cluster import ClusterError
from mi_course.grading.sandbox import SandboxError
from mi_course.interp.models.errors import ModelError
from mi_course.interp.sae.checkpoints import CheckpointError
from mi_course.interp.sae.files import FileError
from mi_course.progress import Progress
from mi_course.submission import SubmissionError
from mi_course.workspace import LabError

VERBS = ("lab", "check", "status", "hint", "solution", "reset", "models", "doctor", "build")

SUBCOMMANDS = (("models", "list"), ("models", "fetch"), ("sae", "harvest"), ("sae", "train"), ("sae", "evaluate"))


def run(*words: str, status: int | None = 0, **options) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "mi_course", *map(str, words)], capture_output=True, text=True, timeout=120, **options
    )
    assert "Traceback" not in result.stderr
    if status is not None:
        assert result.returncode == status, result.stdout + result.stderr
    return result


@pytest.fixture
def mine(plugin, tmp_path) -> Path:
    """The learner's notebook: one answer right, one wrong."""
    notebook = content.read_notebook(plugin)
    cell(notebook, "answer-double")["source"] = "def double(x):\n    return x + x\n\n\nlesson.check(double)"
    cell(notebook, "answer-favorites")["source"] = "favorites = [2, 3, 5]"
    return save(tmp_path / "90_tiny.ipynb", notebook)


def save(path: Path, notebook: dict) -> Path:
    path.write_text(json.dumps(notebook))
    return path


def edit(path: Path, change) -> Path:
    notebook = json.loads(path.read_text())
    change(notebook)
    return save(path, notebook)


# -- Help, errors -----------------------------------------------------------------------------------------------------


@pytest.mark.timing
def test_help_lists_the_verbs_and_is_quick():
    run("--help")
    began = time.monotonic()
    output = run("--help").stdout
    assert time.monotonic() - began < 1.0  # 0.25 s on a quiet machine
    for verb in VERBS:
        assert re.search(rf"^  {verb} ", output, re.MULTILINE), verb


@pytest.mark.parametrize("words", [*[(verb,) for verb in VERBS], *SUBCOMMANDS])
def test_every_verb_has_help_with_an_example(words):
    output = run(*words, "--help").stdout
    assert re.search(rf"Example: mi-course {' '.join(words)}", output)


def test_help_imports_nothing_slow():
    probe = (
        "import sys, mi_course.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformer_lens', 'nbformat', 'jupytext', 'sqlite3') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.endswith("[]\n")


ERRORS = {
    "an_unknown_verb": (("learn",), "No such command"),
    "an_unknown_lesson": (("hint", "none.f"), "no lesson 'none'; there are:"),
    "a_lesson_for_an_exercise": (("hint", "tiny"), "Name one of its exercises"),
    "an_unknown_exercise": (("solution", "tiny.triple"), "no exercise 'triple' in lesson tiny; it has double"),
    "an_unknown_option": (("doctor", "--loud"), "No such option: --loud `mi-course doctor --help` shows"),
    "a_missing_argument": (("hint",), "Missing argument 'ID'. `mi-course hint --help` shows"),
    "status_of_no_lesson": (("status", "--lesson", "none"), "no lesson 'none'"),
    "reset_without_a_folder": (("reset", "90", "--dir", "nowhere"), "There is no folder"),
    "reset_of_no_lesson": (("reset", "none"), "no lesson 'none'"),
    "a_folder_that_is_a_file": (("lab", "--no-start", "--dir", sys.executable), "cannot be written"),
    "a_notebook_that_is_missing": (("check", "none.ipynb"), "There is no file none.ipynb"),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_are_one_paragraph_on_standard_error(fault, plugin, tmp_path):
    words, message = ERRORS[fault]
    result = run(*words, status=2, cwd=tmp_path)
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "\n\n" not in result.stderr.strip()


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("pattern")])
def test_an_unexpected_error_shows_its_type(error):
    """Torch raises bare RuntimeErrors; these are bugs, not the user's."""
    text = " ".join(cli._paragraph(error).split())
    assert text == f"mi-course: {type(error).__name__}: {error} (set MI_COURSE_DEBUG=1 to see where it was raised)"


ERRORS_OF_OURS = [BuildError, CheckpointError, ClusterError, CourseError, FileError, LabError, ModelError]


@pytest.mark.parametrize("error", [*ERRORS_OF_OURS, SandboxError, SubmissionError, UnknownName])
def test_the_courses_own_errors_are_shown_as_they_are(error):
    made = error([Finding("a.py", 1, "is odd")]) if error is BuildError else error("No such thing.")
    assert cli._paragraph(made) == f"mi-course: {made}"


def test_building_without_the_extra_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mi_course.authoring.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(CourseError, match=r'Authors need more packages: pip install "mi-course\[author\]"'):
        cli.build(check=True)


def test_debug_shows_the_traceback():
    result = subprocess.run(
        [sys.executable, "-m", "mi_course", "hint", "none.f"],
        capture_output=True,
        text=True,
        env={**os.environ, "MI_COURSE_DEBUG": "1"},
    )
    assert "Traceback" in result.stderr


def test_a_reader_that_has_enough_is_no_error(plugin):
    result = subprocess.run(
        f"{sys.executable} -m mi_course models list | head -0", shell=True, capture_output=True, text=True
    )
    assert "Traceback" not in result.stderr


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_judges_every_exercise(mine):
    result = run("check", mine, status=1)
    assert "90_tiny.ipynb · Tiny numbers · 3 of 5 points" in result.stdout
    assert re.search(r"^double +passed +3/3$", result.stdout, re.MULTILINE)
    assert re.search(r"^favorites +wrong +0/2 +\S", result.stdout, re.MULTILINE)


def test_check_of_all_right_answers_ends_with_zero_and_is_remembered(mine, plugin):
    edit(mine, lambda n: cell(n, "answer-favorites").update(source="favorites = [6, 28, 496]"))
    assert "5 of 5 points" in run("check", mine).stdout
    assert {row.exercise: row.status for row in Progress().rows()} == {
        "tiny.double": "passed",
        "tiny.favorites": "passed",
    }
    assert [row.attempts for row in Progress().rows()] == [1, 1]
    assert "2 passed, 5 points" in run("status", "--lesson", "tiny").stdout


def test_a_recorded_value_counts_as_it_does_in_the_grader(mine):
    def stop(notebook):  # what the answer needs is computed by a cell of the course, which is not run
        cell(notebook, "answer-favorites")["source"] = "favorites = perfect[:3]"

    edit(mine, stop)
    report = run("check", mine, status=1).stdout
    assert re.search(r"^favorites +crashed +0/2 ", report, re.MULTILINE)
    assert "were its outputs cleared?" in " ".join(report.split())
    text = base64.b64encode(wire.encode([6, 28, 496])).decode()
    record = {"format": 1, "exercise": "tiny.favorites", "revision": 1, "value": text}
    output = {"output_type": "display_data", "metadata": {}, "data": {content.ANSWER_MIME: record}}
    edit(mine, lambda notebook: cell(notebook, "answer-favorites").update(outputs=[output]))
    assert "5 of 5 points" in run("check", mine).stdout


def test_the_solution_passes(plugin):
    assert "5 of 5 points" in run("check", content.notebook_path(plugin, solution=True)).stdout


def test_a_fresh_notebook_is_not_attempted(plugin):
    output = run("check", content.notebook_path(plugin), status=1).stdout
    assert re.search(r"^double +not attempted +0/3", output, re.MULTILINE)
    assert re.search(r"^favorites +not attempted +0/2", output, re.MULTILINE)


FAULTS = {
    "a_cell_that_raises": ("1 / 0", "Cell 5 stopped: ZeroDivisionError: division by zero (line 1)."),
    "a_cell_that_does_not_parse": ("def f(:", "Cell 5 stopped: SyntaxError"),
    "a_cell_that_exits": ("raise SystemExit(0)", "Cell 5 stopped: SystemExit: 0 (line 1)."),
    "a_cell_that_ends_the_process": ("import os; os._exit(0)", "Cell 5 stopped: it ended the Python process"),
    "a_cell_that_kills_the_process": ("import os; os.kill(os.getpid(), 9)", "Cell 5 stopped: it ended the Python"),
    "a_cell_that_hangs": ("while True: pass", "Cell 5 stopped: it was still running after"),
    "a_cell_that_asks": ("input()", "Cell 5 stopped: EOFError"),
    "a_cell_for_ipython": ("%matplotlib inline\n!ls\ndisplay(3)", "3 of 5"),
    "a_megabyte_of_output": ("print('x' * 2**22); import sys; print('y' * 2**22, file=sys.stderr)", "3 of 5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_added_cell_stops_only_itself(mine, fault):
    source, message = FAULTS[fault]
    edit(mine, lambda n: n["cells"].insert(4, code(source, id="mine")))
    result = run("check", mine, "--seconds", "12" if "hangs" in fault else "60", status=1)
    assert "3 of 5 points" in result.stdout
    assert message in result.stdout


def test_an_answer_whose_cell_stops_says_why(mine):
    edit(mine, lambda n: cell(n, "answer-double").update(source="y = unknown\ndef double(x): return x"))
    output = " ".join(run("check", mine, status=1).stdout.split())
    assert "double crashed 0/3 Cell 5 stopped: NameError: name 'unknown' is not defined (line 1)." in output


def test_an_answer_may_not_lean_on_a_demonstration(mine):
    source = "def double(x):\n    return x * offset\n\nlesson.check(double)"
    edit(mine, lambda n: cell(n, "answer-double").update(source=source))
    output = run("check", mine, status=1).stdout
    assert re.search(r"^double +crashed +0/3", output, re.MULTILINE)
    assert "offset" in output


def test_the_last_definition_is_the_one_that_is_judged(mine):
    edit(mine, lambda n: n["cells"].append(code("def double(x): return x * x", id="again")))
    output = " ".join(run("check", mine, status=1).stdout.split())
    assert "double wrong 0/3 That is the square." in output
    assert "Note: double is defined in cells 5 and 11; the last counts." in output


def test_a_check_looks_nothing_up(mine):
    edit(mine, lambda n: n["cells"].append(code("lesson.hint('double'); lesson.solution('double')", id="peek")))
    run("check", mine, status=1)
    assert [(row.hints, row.solution_seen) for row in Progress().rows()] == [(0, False), (0, False)]


def test_files_beside_the_notebook_can_be_read(mine):
    (mine.parent / "helper.py").write_text("def twice(x): return 2 * x")
    source = "from helper import twice\ndef double(x): return twice(x)"
    edit(mine, lambda n: cell(n, "answer-double").update(source=source))
    assert re.search(r"^double +passed", run("check", mine, status=1).stdout, re.MULTILINE)


def test_several_files_one_of_them_no_notebook(mine, tmp_path):
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "mine.py").write_text("def double(x): return 2 * x\nfavorites = [6, 28, 496]\n")
    result = run("check", tmp_path / "broken.ipynb", tmp_path / "mine.py", status=2)
    assert "broken.ipynb is no notebook" in result.stderr
    assert "mine.py · Tiny numbers · 5 of 5 points" in result.stdout


# -- The other verbs --------------------------------------------------------------------------------------------------


def test_hints_solution_and_status(plugin):
    assert run("status").stdout.startswith("Nothing tried yet")
    assert "Add it to itself." in run("hint", "tiny.double").stdout
    assert "Or multiply it by two." in run("hint", "tiny.double").stdout
    output = run("solution", "tiny.double").stdout
    assert "return x + x" in output
    assert "Twice means added to itself." in output
    output = run("status").stdout
    assert re.search(r"^tiny\.double +not attempted +2 \+ solution$", output, re.MULTILINE)


def test_lab_without_start_and_reset(plugin, tmp_path):
    output = run("lab", "--no-start", cwd=tmp_path).stdout
    assert "new  90_tiny.ipynb" in output
    path = tmp_path / "mi-course" / "90_tiny.ipynb"
    edit(path, lambda n: cell(n, "answer-double").update(source="def double(x): return x"))
    output = run("reset", "90", "double", cwd=tmp_path).stdout
    assert "The cell of double in 90_tiny.ipynb is back to its original state" in output
    assert "NotImplementedError" in path.read_text()
    assert len(list((tmp_path / "mi-course" / "backups").glob("*.ipynb"))) == 1


def test_models_list():
    output = run("models", "list").stdout
    assert re.search(r"^smollm2 +embedded", output, re.MULTILINE)


def test_build_and_check_of_a_plug_in(plugin):
    assert run("build", "--lesson", "tiny").stdout.endswith("nothing was stale\n")
    assert run("build", "--lesson", "tiny", "--check").stdout.endswith("all in order\n")
    source = Path(plugin.folder, "solutions", "90_tiny.py")
    source.write_text(source.read_text().replace("# Return twice", "# Give twice"))
    output = run("build", "--lesson", "90", "--check", status=1).stdout
    assert "90_tiny.ipynb:1: is stale" in output
    assert "3 findings" in output
    output = run("build", "--lesson", "tiny").stdout
    assert "executing" not in output
    assert output.count("wrote") == 3


def test_build_names_file_and_line(plugin):
    source = Path(plugin.folder, "solutions", "90_tiny.py")
    source.write_text(source.read_text().replace("    # END SOLUTION\n", ""))
    result = run("build", "--lesson", "tiny", status=1)
    assert re.search(r"90_tiny\.py:\d+: BEGIN SOLUTION is never closed", result.stderr)
