"""Building twice changes nothing; only what is stale is executed; `check` lists everything that is not in order."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mi_course import __version__
from mi_course.authoring import build as module
from mi_course.authoring.build import build, check
from mi_course.authoring.review import _reveals, leaks, review, review_catalogue
from mi_course.authoring.source import BuildError, read_source
from mi_course.content import answer_cells, cell_hashes, demonstration_names, setup_cells, without_check
from mi_course.lessons import LessonInfo


@pytest.fixture
def source(info) -> Path:
    return Path(info.folder, "solutions", "07_tiny.py")


@pytest.fixture
def no_kernel(monkeypatch):
    """Fails where something would be executed."""

    def refuse(info, notebook, cells, cell_s):
        raise AssertionError(f"{info.id} would be executed")

    monkeypatch.setattr(module, "execute", refuse)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, bytes]:
    """The fixture lesson, executed once for all tests here: path -> content."""
    return {}


@pytest.fixture
def ready(info, built) -> LessonInfo:
    """The lesson as `build` leaves it."""
    folder = Path(info.folder)
    if not built:
        report = build([info])
        assert report.executed == ["tiny"]
        built |= {str(path.relative_to(folder)): path.read_bytes() for path in report.written}
    for name, content in built.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return info


def learner(info: LessonInfo) -> dict:
    return json.loads(Path(info.folder, "notebooks", "07_tiny.ipynb").read_text())


def solution(info: LessonInfo) -> dict:
    return json.loads(Path(info.folder, "solutions", "07_tiny.ipynb").read_text())


def cell(notebook: dict, id: str) -> dict:
    (found,) = (one for one in notebook["cells"] if one["id"] == id)
    return {**found, "source": "".join(found["source"])}


def printed(notebook: dict, id: str) -> str:
    return "".join("".join(output.get("text", ())) for output in cell(notebook, id)["outputs"])


# -- What is built ----------------------------------------------------------------------------------------------------


def test_the_learners_notebook(ready, built):
    notebook = learner(ready)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    mi = notebook["metadata"]["mi_course"]
    assert (mi["lesson"], mi["course_version"]) == ("tiny", __version__)
    assert all(one["execution_count"] is None and one["outputs"] == [] for one in notebook["cells"] if "outputs" in one)
    text = json.dumps(notebook)
    for secret in ("SOLUTION", "twice_the_number", "perfect_ones", "496]\\n"):
        assert secret not in text.replace("6, 28, 496", "")
    double = cell(notebook, "answer-double")
    assert double["metadata"] == {"mi_course": {"exercise": "tiny.double", "revision": 1}}
    assert (
        '    """Twice `x`."""\n    raise NotImplementedError("your turn")\n\n\nlesson.check(double)' in double["source"]
    )
    favorites = cell(notebook, "answer-favorites")["source"]
    assert favorites == 'favorites = ...\nlesson.check(favorites, name="favorites")'
    assert cell(notebook, "a-picture")["metadata"] == {"tags": ["not-compared"]}


def test_what_the_spec_knows_is_filled_in(ready):
    notebook = learner(ready)
    assert cell(notebook, "title")["source"].startswith("# 07 · Tiny numbers\n\nAfter 3 minutes you can")
    assert cell(notebook, "title")["source"].endswith("2 exercises, 4 points.")
    statement = cell(notebook, "double")["source"]
    assert statement.startswith("**Exercise · `double`** · 2 points · about 1 minute · ●●○\n\nWrite double.\n")
    assert "$2^{ {n} }$" in statement
    assert cell(notebook, "recap")["source"].endswith("\n\nNext: [the syllabus](README.md)")


def test_the_executed_solution(ready):
    notebook = solution(ready)
    assert notebook["metadata"]["mi_course"]["verdicts"] == {"tiny.double": "passed", "tiny.favorites": "passed"}
    assert "SOLUTION" not in json.dumps(notebook)
    assert printed(notebook, "answer-double") == "double passed\n"
    counts = [one["execution_count"] for one in notebook["cells"] if one["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    surprise = cell(notebook, "surprise")
    assert printed(notebook, "surprise") == "one\ntwo\nthree"
    assert [output["output_type"] for output in surprise["outputs"]] == ["stream", "execute_result"]
    assert "tags" not in surprise["metadata"]


def test_what_does_not_come_out_the_same_again_is_not_compared(ready):
    notebook = solution(ready)
    assert cell(notebook, "a-picture")["metadata"]["tags"] == ["nbval-ignore-output", "not-compared"]
    assert cell(notebook, "a-warning")["metadata"]["tags"] == ["nbval-ignore-output"]
    assert printed(notebook, "a-warning") == "done\n"
    assert cell(notebook, "a-widget")["metadata"]["tags"] == ["nbval-ignore-output"]
    assert cell(notebook, "a-widget")["outputs"] == []
    assert "widgets" not in notebook["metadata"]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info", "mi_course"}


def test_syllabus_and_hashes(ready):
    syllabus = Path(ready.folder, "notebooks", "README.md").read_text()
    assert "## 07 · [Tiny numbers](07_tiny.ipynb)" in syllabus
    assert "3 minutes · 2 exercises · 4 points" in syllabus
    assert "After 3 minutes you can double a number, and you have a list of favorites." in syllabus
    hashes = json.loads(Path(ready.folder, "releases", f"{__version__}.json").read_text())
    assert hashes == {"07_tiny": cell_hashes(learner(ready))}


def test_the_hand_over_to_others(ready):
    notebook = learner(ready)
    assert list(answer_cells(notebook)) == ["tiny.double", "tiny.favorites"]
    assert "import sys" in setup_cells(notebook)[0]
    answer = without_check(answer_cells(solution(ready))["tiny.double"])
    assert answer.endswith("    return twice_the_number\n")
    assert "check" not in answer
    assert demonstration_names(ready) == {"numbers", "time", "tqdm", "_"}


# -- Building again ---------------------------------------------------------------------------------------------------


def test_building_again_writes_and_executes_nothing(ready, no_kernel):
    report = build([ready])
    assert report.written == []
    assert check([ready]) == []


def test_prose_is_rebuilt_without_executing(ready, source, no_kernel):
    source.write_text(source.read_text().replace("Double a number. In", "Please double a number. In"))
    assert [finding.file for finding in check([ready])] == [
        str(Path(ready.folder, *parts))
        for parts in (
            ("notebooks", "07_tiny.ipynb"),
            ("releases", f"{__version__}.json"),
            ("solutions", "07_tiny.ipynb"),
        )
    ]
    build([ready])
    assert check([ready]) == []
    assert "Please double" in cell(solution(ready), "double")["source"]
    assert printed(solution(ready), "answer-double") == "double passed\n"


def test_changed_code_is_executed_again(ready, source):
    key = Path(ready.folder, "tests", "keys", "07_tiny.json")  # says that nbval passed the old outputs
    key.parent.mkdir(parents=True)
    key.touch()
    source.write_text(source.read_text().replace('print("one")', 'print("ONE")'))
    report = build([ready], run=False)
    assert report.executed == []
    assert key.exists()
    assert "was not executed" in report.notes[0]
    assert any("solutions/07_tiny.ipynb:1: is stale" in str(finding) for finding in check([ready]))
    assert build([ready]).executed == ["tiny"]
    assert not key.exists()
    assert printed(solution(ready), "surprise") == "ONE\ntwo\nthree"
    assert check([ready]) == []


def test_a_new_revision_is_executed_again(ready, tiny, monkeypatch, no_kernel):
    newer = tuple(replace(exercise, revision=2) for exercise in tiny.exercises)
    monkeypatch.setattr("tiny_lesson.EXERCISES", newer)
    with pytest.raises(AssertionError, match="would be executed"):
        build([ready])


def test_executing_twice_gives_the_same_bytes_where_they_are_compared(ready):
    before = solution(ready)
    assert build([ready], force=True).executed == ["tiny"]
    after = solution(ready)
    for old, new in zip(before["cells"], after["cells"], strict=True):
        if "nbval-ignore-output" not in old["metadata"].get("tags", ()):
            assert old == new


# -- Failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import time; time.sleep(60)", "after 10 seconds"),
        ("import os; os._exit(3)", "died"),
    ],
)
def test_a_cell_that_fails_is_named(info, source, code, message):
    source.write_text(source.read_text().replace('print("one")', code))
    with pytest.raises(BuildError) as caught:
        build([info], cell_s=10)  # its setup imports the course
    (finding,) = caught.value.findings
    line = source.read_text().splitlines().index('# %% id="surprise"') + 1
    assert finding.line == line
    assert "tiny, cell 'surprise'" in finding.message
    assert message in finding.message
    assert not Path(info.folder, "solutions", "07_tiny.ipynb").exists()


def test_a_broken_lesson_does_not_keep_another_from_being_built(ready, no_kernel):
    broken = replace(ready, number=8, id="gone", notebook="08_gone", module="no_such_module")
    Path(ready.folder, "notebooks", "07_tiny.ipynb").unlink()
    with pytest.raises(BuildError, match=r"08_gone\.py:1: is missing"):
        build([broken, ready])
    assert Path(ready.folder, "notebooks", "07_tiny.ipynb").exists()


# -- Checking what is there -------------------------------------------------------------------------------------------


def findings(info: LessonInfo) -> str:
    return "\n".join(map(str, check([info])))


def rewrite(path: Path, change) -> None:
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def test_nothing_built_yet(info):
    found = findings(info)
    assert "notebooks/07_tiny.ipynb:1: is missing" in found
    assert "solutions/07_tiny.ipynb:1: is missing" in found
    assert "notebooks/README.md:1: is stale" in found


def test_a_notebook_edited_by_hand(ready):
    path = Path(ready.folder, "notebooks", "07_tiny.ipynb")
    rewrite(path, lambda notebook: notebook["cells"][0]["source"].append("\nmore"))
    assert "notebooks/07_tiny.ipynb:1: is stale, or was edited by hand" in findings(ready)


def test_a_solution_edited_by_hand(ready):
    path = Path(ready.folder, "solutions", "07_tiny.ipynb")
    rewrite(path, lambda notebook: notebook["cells"][2].update(source=["print(2)"]))
    assert "cell 'surprise' is stale, or was edited by hand" in findings(ready)


def test_a_solution_executed_by_hand(ready):
    path = Path(ready.folder, "solutions", "07_tiny.ipynb")
    rewrite(path, lambda notebook: notebook["cells"][2]["outputs"].clear())
    assert "was executed by hand" in findings(ready)


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', '{"cells": [], "metadata": 5}', "\x00"])
def test_a_solution_that_is_no_notebook(ready, content):
    Path(ready.folder, "solutions", "07_tiny.ipynb").write_text(content)
    assert "solutions/07_tiny.ipynb:1: " in findings(ready)


def test_a_reference_that_does_not_pass_is_found(info, source):
    source.write_text(source.read_text().replace("496]\n# END", "497]\n# END"))
    build([info])
    assert "the solution's tiny.favorites did not pass: wrong" in findings(info)


def test_an_error_output_and_an_address_are_found(ready, source):
    source.write_text(source.read_text().replace('print("one")', "print(object())"))
    build([ready])
    assert "cell 'surprise' contains a memory address" in findings(ready)


def test_a_notebook_that_no_lesson_makes(ready):
    Path(ready.folder, "notebooks", "07_tiny-Copy1.ipynb").write_text("{}")
    assert "07_tiny-Copy1.ipynb:1: belongs to no lesson" in findings(ready)


def test_a_stale_syllabus_and_stale_hashes(ready):
    Path(ready.folder, "notebooks", "README.md").write_text("# Mine\n")
    Path(ready.folder, "releases", f"{__version__}.json").write_text("{}")
    found = findings(ready)
    assert "README.md:1: is stale" in found
    assert f"{__version__}.json:1: is stale" in found


def test_lessons_that_share_a_number_or_an_id(ready):
    twin = replace(ready, notebook="07_twin")
    assert sorted(finding.message for finding in review_catalogue([ready, twin])) == [
        "2 lessons have the id 'tiny'",
        "2 lessons have the number 7",
    ]


# -- What an exercise needs -------------------------------------------------------------------------------------------

INCOMPLETE = {
    "one_hint": (dict(hints=("Only one.",)), "hints that differ; 2 are needed"),
    "the_same_hint_twice": (dict(hints=("Same.", "Same.")), "hints that differ"),
    "few_mistakes": (dict(mistakes=()), "has 0 mistakes; 4 are needed"),
    "no_reveal": (dict(reveal=" "), "`reveal` is empty"),
    "task_is_empty": (dict(task=""), "`task` is empty"),
    "no_parts": (dict(parts=()), "at least one point"),
    "difficulty_of_five": (dict(difficulty=5), "difficulty 5"),
    "another_lessons_id": (dict(id="other.double"), "the id should be tiny."),
}


@pytest.mark.parametrize("fault", INCOMPLETE)
def test_an_incomplete_exercise_is_found_with_its_line(info, tiny, source, fault):
    change, message = INCOMPLETE[fault]
    spec = replace(tiny, exercises=(replace(tiny.exercises[0], **change), tiny.exercises[1]))
    found = [str(one) for one in review(info, spec, read_source(source))]
    assert any(message in one and "tiny_lesson.py:" in one for one in found), found


def test_mistakes_need_names_and_messages_of_their_own(info, tiny, source):
    double = tiny.exercises[0]
    same = (double.mistakes[0],) * 4
    spec = replace(tiny, exercises=(replace(double, mistakes=same), tiny.exercises[1]))
    found = "\n".join(str(one) for one in review(info, spec, read_source(source)))
    assert "4 mistakes have the name 'mistake_0'" in found
    assert "4 mistakes have the message" in found


IN_SOURCE = {
    "no_docstring": ('    """Twice `x`."""\n', "", "double has no docstring outside the region"),
    "no_statement": ("# {{exercise double}}\n#\n", "", "no markdown cell before it states the exercise"),
    "no_check": ("lesson.check(double)\n", "", "the last line of the cell should be lesson.check(double)"),
    "no_answer_cell": ('id="answer-double"', 'id="doubling"', "outside an answer cell"),
    "no_title": ('id="title"', 'id="titel"', 'no markdown cell with the id "title"'),
    "no_setup": ('id="setup"', 'id="begin"', "there is no setup cell"),
    "another_name": ("def double(", "def twice(", "the cell defines no function double"),
}


@pytest.mark.parametrize("fault", IN_SOURCE)
def test_what_a_source_lacks_is_found(info, source, fault):
    old, new, message = IN_SOURCE[fault]
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))
    assert message in findings(info)


LEAKS = {
    "the_line_in_a_demonstration": ('print("two", flush=True)', "twice_the_number = x + x"),
    "the_line_in_the_text": ("# Double a number.", "# Write twice_the_number  =  x+x for it."),
    "a_short_line_that_tells": ('print("two", flush=True)', "y = [*perfect_ones, 496]"),
    "the_function_itself": ('print("two", flush=True)', "def double(n):\n    return 2 * n"),
}


@pytest.mark.parametrize("fault", LEAKS)
def test_an_answer_that_leaks_is_found(info, source, fault):
    old, new = LEAKS[fault]
    source.write_text(source.read_text().replace(old, new))
    found = findings(info)
    assert "is also in cell" in found or "has a body in notebooks/" in found


def test_lines_that_tell_nothing_are_no_leak(info, tiny, source):
    text = source.read_text().replace('print("two", flush=True)', "def shown(twice):\n    return twice")
    opening = "    with contextlib.suppress(ValueError, TypeError):\n"
    text = text.replace('print("one")', f"if numbers:\n{opening}        pass")
    source.write_text(text.replace("    return twice_the_number", f"{opening}        pass\n    return twice"))
    from mi_course.authoring.generate import learner_notebook

    cells = read_source(source)
    assert list(leaks(cells, learner_notebook(info, tiny, cells), tiny)) == []


def test_the_name_of_a_hook_is_no_leak():
    assert not _reveals('    f"blocks.{layer}.attn.hook_z"')
    assert _reveals('    change(f"blocks.{layer}.attn.hook_z") - cache[name]')


def test_every_learner_cell_parses(ready):
    for one in learner(ready)["cells"]:
        if one["cell_type"] == "code":
            ast.parse("".join(one["source"]))
