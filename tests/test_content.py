"""Finding the course's files, reading its notebooks, and telling its own texts from a learner's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_plugin import cell, code

import mi_course
from mi_course import content
from mi_course.submission import MAX_BYTES, SubmissionError, parse, read, select_cells


def test_a_clone_is_found():
    root = Path(mi_course.__file__).parents[1]
    assert content.root() == root
    assert content.notebooks_dir() == root / "notebooks"
    assert content.data_dir() == root / "data"
    assert content.releases_dir() == root / "mi_course" / "releases"


def test_a_wheel_is_found(tmp_path):
    """The package as it lies in a wheel, without the clone around it."""
    package = tmp_path / "site" / "mi_course"
    shutil.copytree(Path(mi_course.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "_content"))
    (package / "_content" / "notebooks").mkdir(parents=True)
    code = "from mi_course import content; print(content.notebooks_dir(), content.constraints_file())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [str(package / "_content" / name) for name in ("notebooks", "constraints.txt")]


def test_importing_it_imports_nothing_slow():
    code = "import mi_course.submission, sys; print([m for m in ('torch', 'nbformat') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_plug_ins_files_are_in_its_folder(plugin):
    assert content.notebook_path(plugin) == Path(plugin.folder, "notebooks", "90_tiny.ipynb")
    notebook = content.read_notebook(plugin)
    assert list(content.answer_cells(notebook)) == ["tiny.double", "tiny.favorites"]
    assert [text.splitlines()[0] for text in content.setup_cells(notebook)] == ["import math"]


def test_a_notebook_that_is_not_built_says_what_to_do(plugin):
    content.notebook_path(plugin).unlink()
    with pytest.raises(FileNotFoundError, match="mi-course build"):
        content.read_notebook(plugin)


def test_the_answer_of_the_solution(plugin):
    assert content.solution_answer("tiny.double") == (
        'def double(x: int) -> int:\n    """Twice `x`."""\n    return x + x\n'
    )
    assert content.solution_answer("tiny.favorites").startswith("favorites = [number for")
    assert content.solution_answer("tiny.favorites").count("\n") == 1
    with pytest.raises(KeyError, match=r"no answer to tiny\.triple"):
        content.solution_answer("tiny.triple")


def test_names(plugin):
    assert content.demonstration_names(plugin) == {"offset"}
    assert content.kept_names(plugin) == {"math", "mi_course", "lesson", "double", "favorites"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a = b = 1\nc, (d, *e) = x\nf += 1\ng: int = 2", "a b c d e f g"),
        ("import os.path, sys as s\nfrom a import b as c", "os s c"),
        ("def f():\n    inner = 1\nclass G:\n    h = 1\nasync def k(): pass", "f G k"),
        ("for i in range(3):\n    j = i\nwith open('x') as k:\n    pass\nif (m := 1): n = 2", "i j k m n"),
        ("[hidden for hidden in x]\nlambda y: y\n{z: 1 for z in x}", ""),
        ("try:\n    a = 1\nexcept E as e:\n    b = 2\nfinally:\n    c = 3", "a b c"),
        ("%matplotlib inline\n!ls\nx = 1\nprint?", "x"),
        ("%%time\ny = 2", "y"),
        ("x = !ls\nfor i in y:\n    %time z = 3", "x i"),
        ("  a = 1\n  !ls", "a"),
        ("%%bash\na = 1", ""),
        ("b = await a", "b"),
        ("def broken(:", ""),
        ("x = " + "(" * 500 + ")" * 500, ""),
        ("x = '\x00'", ""),
    ],
)
def test_names_at_top_level(text, names):
    assert content.top_level_names(text) == set(names.split())


def test_hashes_do_not_see_line_ends_and_trailing_blanks():
    assert content.source_hash("a  \r\nb\n\n") == content.source_hash("a\nb") == content.source_hash("\na\nb")
    assert content.source_hash("a\n b") != content.source_hash("a\nb")
    assert content.source_hash("lone \ud800 surrogate")


def test_released_hashes(plugin):
    now = content.cell_hashes(content.read_notebook(plugin))
    assert content.released_hashes()["90_tiny"] == now
    assert content.released_hashes("0.0.1").get("90_tiny") is None
    assert content.released_hashes("../../secrets") == {}
    old = Path(plugin.folder, "releases", "0.0.1.json")
    old.write_text(json.dumps({"90_tiny": {"surprise": "f" * 32}}))
    content._read_release.cache_clear()
    assert content.released_hashes("0.0.1") == {"90_tiny": {"surprise": "f" * 32}}
    assert content.known_hashes(plugin)["surprise"] == {now["surprise"], "f" * 32}


# -- Which cells are run ----------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(plugin):
    return content.read_notebook(plugin)


def taken(notebook, name="90_tiny.ipynb", lesson=None):
    return select_cells(parse(json.dumps(notebook).encode(), name), name, lesson)


def roles(submission):
    return [(one.position, one.role, one.answers) for one in submission.cells]


def test_an_unchanged_notebook_runs_its_answer_cells_only(notebook):
    submission = taken(notebook)
    assert roles(submission) == [(5, "answer", ("double",)), (8, "answer", ("favorites",))]
    assert submission.exercises == ("tiny.double", "tiny.favorites")
    assert submission.setup == tuple(content.setup_cells(notebook))


def test_added_and_changed_cells_run_too(notebook):
    cell(notebook, "setup")["source"] += "\nimport random"
    cell(notebook, "surprise")["source"] = "offset = 3"
    notebook["cells"].insert(4, code("helper = 1", id="mine"))
    assert roles(taken(notebook))[:3] == [(2, "changed", ()), (3, "changed", ()), (5, "added", ())]


def test_ids_that_were_lost_and_metadata_that_lies(notebook):
    for one in notebook["cells"]:
        one.pop("id")
        one["metadata"] = {"tags": ["skip-execution"], "mi_course": {"exercise": "tiny.favorites"}}
    assert roles(taken(notebook)) == [(5, "answer", ("double",)), (8, "answer", ("favorites",))]


def test_a_demonstration_with_an_answers_id_is_still_not_run(notebook):
    cell(notebook, "surprise")["id"] = "answer-double-2"
    assert 3 not in [one.position for one in taken(notebook).cells]


def test_of_two_definitions_the_last_counts_and_a_note_says_so(notebook):
    notebook["cells"].append(code("def double(x): return 2 * x"))
    submission = taken(notebook)
    assert submission.notes == ("double is defined in cells 5 and 11; the last counts",)


def test_a_python_file(plugin):
    text = (
        '# %% [markdown]\n# words\n\n# %% id="answer-double"\ndef double(x):\n    return x\n\n# %%\nfavorites = [6]\n'
    )
    submission = select_cells(parse(text.encode(), "mine.py"), "mine.py")
    assert [(cell.role, cell.answers) for cell in submission.cells] == [
        ("answer", ("double",)),
        ("answer", ("favorites",)),
    ]
    plain = select_cells(parse(b"def double(x): return 2 * x", "mine.py"), "mine.py")
    assert [one.answers for one in plain.cells] == [("double",)]


def test_the_lesson_is_found_by_metadata_name_content_or_word(notebook):
    assert taken(notebook, "homework.ipynb").info.id == "tiny"
    notebook["metadata"] = {"mi_course": ["nonsense"]}
    assert taken(notebook, "90_tiny-Copy1.ipynb").info.id == "tiny"
    assert taken(notebook, "homework.ipynb").info.id == "tiny"
    assert taken({"cells": [], "metadata": {}}, "x.ipynb", lesson=90).info.id == "tiny"
    with pytest.raises(SubmissionError, match="say which: --lesson NN"):
        taken({"cells": [code("x = 1")]}, "x.ipynb")
    with pytest.raises(SubmissionError, match="no lesson 'none'"):
        taken(notebook, lesson="none")


MALFORMED = {
    "empty": (b"", "is empty"),
    "blank": (b"  \n", "is empty"),
    "truncated": (b'{"cells": [{"cell_type": "co', "is no notebook"),
    "not_utf8": (b"\xff\xfe{}", "is not UTF-8"),
    "a_list": (b"[]", "holds no list of cells"),
    "cells_are_no_list": (b'{"cells": {"a": 1}}', "holds no list of cells"),
    "nested_deeply": (b"[" * 200_000, "nested too deeply|is no notebook"),
    "a_picture": (b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_is_no_notebook_is_said(fault):
    raw, message = MALFORMED[fault]
    with pytest.raises(SubmissionError, match=message):
        parse(raw, "x.ipynb")


def test_odd_cells_are_survived(notebook):
    notebook["cells"] += [None, 3, {}, {"cell_type": 7, "source": {"a": 1}}, {"cell_type": "code", "source": ["x", 3]}]
    notebook["cells"] += [{"cell_type": "code", "source": None, "metadata": [], "id": 9, "outputs": "?"}]
    assert len(taken(notebook).cells) == 3


def test_nbformat_3_is_read(plugin):
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["def double(x):\n", "    return x"]}]}, 3]}
    assert [one.answers for one in taken(old).cells] == [("double",)]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SubmissionError, match="There is no file"):
        read(tmp_path / "none.ipynb")
    with pytest.raises(SubmissionError, match="is a folder"):
        read(tmp_path)
    with open(tmp_path / "big.ipynb", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SubmissionError, match="Clear its outputs"):
        read(tmp_path / "big.ipynb")


def test_what_a_notebook_holds_counts_more_than_its_name(notebook):
    notebook["metadata"] = {}
    assert taken(notebook, "00_start_here-ada.ipynb").info.id == "tiny"
    notebook["metadata"] = {"mi_course": {"lesson": "start_here"}}
    assert taken(notebook, "00_start_here-ada.ipynb").info.id == "tiny"
    assert taken({"cells": [], "metadata": {}}, "90_tiny.ipynb").info.id == "tiny"


@pytest.mark.parametrize("mark", ["# %%", "#%%", "# In[3]:", "# In[ ]:", "# +", "", "\r"])
def test_python_files_by_their_marks_or_statements(plugin, mark):
    text = "\n".join(
        [mark, "import math", mark, "1 / 0", mark, "@staticmethod", "def double(x):", "    # +", "    return x"]
    )
    text += f"\n{mark}\n'''words\n\nmore'''\n{mark}\nfavorites = [6]\n"
    submission = select_cells(parse(text.encode(), "mine.py"), "mine.py")
    assert [cell.source.strip() for cell in submission.cells if not cell.answers][:2] == ["import math", "1 / 0"]
    assert [cell.answers for cell in submission.cells if cell.answers] == [("double",), ("favorites",)]
    assert submission.cells[2].source.startswith("@staticmethod")


def test_a_comment_within_a_function_is_no_mark(plugin):
    text = "x = 1\ndef double(x):\n# +\n    return x\nfavorites = [6]"
    submission = select_cells(parse(text.encode(), "mine.py"), "mine.py")
    assert [cell.answers for cell in submission.cells] == [(), ("double",), ("favorites",)]
