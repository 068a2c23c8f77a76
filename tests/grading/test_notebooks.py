"""Notebooks as editors, learners and accidents leave them."""

from __future__ import annotations

import base64
import json

import pytest
from faults import MALFORMED
from grading_kit import TOP, ZERO, loaded, marks_of, notebook, right

from mi_course import content, lessons, wire
from mi_course.grading.intake import Loaded
from mi_course.grading.marking import choose, mark
from mi_course.grading.sandbox import Sandbox
from mi_course.recorded_values import recorded_values
from mi_course.submission import parse, records_in, select_cells

WRONG = "def zero_head(z, hook, head):\n    return z * 0.5\n"


@pytest.fixture
def marked_as(sandbox: Sandbox):
    def run(change):
        return mark("x", loaded(notebook(change=change)), sandbox, bytes(32))

    return run


def answers(found):
    return [cell for cell in found["cells"] if content.exercise_of(cell)]


def test_ids_and_metadata_lost(marked_as):
    def change(found):
        for i, cell in enumerate(found["cells"]):
            cell["id"], cell["metadata"] = f"c{i}", {}
        found["metadata"] = {}

    assert marked_as(change).points == 5


def test_the_last_definition_counts_and_is_noted(marked_as):
    def copied(text):
        def change(found):
            cell = dict(answers(found)[1], source=text)
            found["cells"].append(cell)

        return change

    row = marked_as(copied(WRONG))
    assert marks_of(row)[ZERO].points == 0
    assert "the last counts" in row.notes[0]
    assert marked_as(copied(right(ZERO))).points == 5


def test_deleted_reordered_retyped(marked_as):
    row = marked_as(lambda found: found["cells"].remove(answers(found)[1]))
    assert marks_of(row)[ZERO].status == "not_attempted"
    assert row.points == 3

    def turned(found):
        found["cells"].reverse()
        found["cells"].insert(
            0, dict(answers(found)[0], source="from jaxtyping import Float\nfrom torch import Tensor")
        )

    assert marked_as(turned).points == 5
    row = marked_as(lambda found: answers(found)[1].update(cell_type="markdown"))
    assert marks_of(row)[ZERO].status == "not_attempted"


def test_an_untouched_notebook(sandbox: Sandbox):
    row = mark("x", loaded(content.read_notebook(lessons.find(0))), sandbox, bytes(32))
    assert {one.status for one in row.exercises} == {"not_attempted"}
    assert row.points == 0


def test_demonstrations_are_not_run_and_changed_ones_are(marked_as):
    def change(found):
        for cell in found["cells"]:
            if cell["id"] == "use-zero-head":
                cell["source"] += "\nHEAD = 0.0"
        answers(found)[1]["source"] = "def zero_head(z, hook, head):\n    z[:, :, head] = HEAD\n    return z"

    row = marked_as(change)
    # The changed cell uses SmolLM2, of which there is an inert stand-in only; what it binds later may be missing.
    assert marks_of(row)[TOP].status == "passed"


def test_a_python_file(sandbox: Sandbox):
    text = f"import torch\n{right(TOP)}\n\n# %%\n1 / 0\n# %%\n{right(ZERO)}"
    row = mark("x", Loaded((("00_start_here.py", text.encode()),)), sandbox, bytes(32))
    assert row.points == 5
    assert "ZeroDivisionError" in row.reason


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(sandbox: Sandbox, name):
    row = mark("x", Loaded((("homework.ipynb", MALFORMED[name]),)), sandbox, bytes(32))
    assert row.status == "unreadable"
    assert len(row.reason) > 20
    assert row.points == 0


def test_one_malformed_notebook_beside_a_good_one(sandbox: Sandbox):
    good = json.dumps(notebook()).encode()
    row = mark("x", Loaded((("a.ipynb", b"{"), ("00_start_here.ipynb", good))), sandbox, bytes(32))
    assert row.points == 5
    assert "a.ipynb is no notebook" in row.reason


def test_sources_that_break_parsers(sandbox: Sandbox):
    for text in ("(" * 5000, "-" * 50_000 + "1", "x" * 10**6, "f'{" * 200, "\ud800", "a." * 20_000 + "b"):
        row = mark("x", loaded(notebook(before=text)), sandbox, bytes(32))
        assert row.points == 5, row.reason


# ---------------------------------------------------------------------------------------------------------------------
# Recorded values


def output(exercise: str, value: object, /, **rest: object) -> dict:
    text = base64.b64encode(wire.encode(value)).decode()
    record = {"format": 1, "exercise": exercise, "revision": 1, "value": text, **rest}
    return {"cell_type": "code", "outputs": [{"data": {"application/vnd.mi-course.answer+json": record}}]}


def test_the_last_record_counts():
    cells = [output("a.b", [1]), output("a.b", [2]), output("a.c", 3)]
    assert recorded_values(records_in({"cells": cells})) == {"a.b": [2], "a.c": 3}


@pytest.mark.parametrize("value", ["!", "", 7, None, ["x"], "AAAA", base64.b64encode(b"MIC1" + b"\xff" * 40).decode()])
def test_a_malformed_record_is_none(value):
    assert recorded_values(records_in({"cells": [output("a.b", 1, value=value)]})) == {}
    odd = [7, {"data": []}, {"data": {"application/vnd.mi-course.answer+json": 1}}]
    assert records_in({"cells": [{"outputs": odd}]}) == ()


def test_a_record_may_hold_values_only():
    assert recorded_values(records_in({"cells": [output("a.b", wire.Ask(()))]})) == {}


HEADS = "induction_heads.my_induction_heads"


def with_heads(source: str, value: object = None) -> Loaded:
    cells = [{"cell_type": "code", "id": "a", "metadata": {}, "source": source, "outputs": []}]
    if value is not None:
        cells[0]["outputs"] = output(HEADS, value)["outputs"]
    return loaded({"cells": cells, "metadata": {}}, "02_induction_heads.ipynb")


def test_an_outcome_is_judged_in_its_full_form(sandbox: Sandbox):
    good = [(18, 6), (17, 3), (17, 4), (18, 7)]
    found = {
        "recorded": with_heads("my_induction_heads = top_heads(scores, 0.4)", good),
        "written": with_heads(f"my_induction_heads = {good}"),
        "wrong": with_heads("my_induction_heads = top_heads(scores, 0.4)", [(0, 0), (0, 1), (0, 2), (0, 3)]),
        "absent": with_heads("x = 1\ntop_heads = 0"),
        "cleared": with_heads("my_induction_heads = top_heads(scores, 0.4)"),
    }
    marks = {name: marks_of(mark("x", one, sandbox, bytes(32)))[HEADS] for name, one in found.items()}
    assert {name: one.status for name, one in marks.items()} == {
        **{"recorded": "passed", "written": "passed", "wrong": "wrong", "absent": "not_attempted", "cleared": "crashed"}
    }
    assert "were its outputs cleared?" in marks["cleared"].message


def test_what_only_ipython_understands(sandbox: Sandbox):
    before = "%%time\nhelper = 0\nx = !ls\nasync def zero(): return 0\nNOTHING = await zero()"
    answer = "%load_ext autoreload\ndef zero_head(z, hook, head):\n    z = z.clone()\n    z[:, :, head] = NOTHING\n"
    answer += "    return z\nTEXT = '''\n%not a magic\n'''\nif True:\n    !pip install einops"
    row = mark("x", loaded(notebook({ZERO: answer}, before=before)), sandbox, bytes(32))
    assert row.points == 5, row.reason


@pytest.mark.parametrize(
    "setting",
    [
        "torch.set_default_dtype(torch.float64)",
        "torch.set_default_device('meta')",
        "torch.autocast('cpu', dtype=torch.bfloat16).__enter__()",
        "torch.inference_mode().__enter__()",
        "torch.use_deterministic_algorithms(True)",
        "torch.set_flush_denormal(True)",
        "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8')",
        "import warnings; warnings.simplefilter('error')",
    ],
)
def test_a_global_setting_changes_no_mark(sandbox: Sandbox, setting: str):
    row = mark("x", loaded(notebook(before=f"import torch\n{setting}")), sandbox, bytes(32))
    assert row.points == 5, row.reason


# ---------------------------------------------------------------------------------------------------------------------
# Several notebooks of one lesson


FRESH, STARTED, DONE = (
    content.read_notebook(lessons.find("start_here")),
    {TOP: right(TOP)},
    {TOP: right(TOP), ZERO: right(ZERO)},
)


def as_bytes(answers: dict[str, str] | None) -> bytes:
    found = json.loads(json.dumps(FRESH))
    for cell in found["cells"]:
        if answers and content.exercise_of(cell) in answers:
            cell["source"] = answers[content.exercise_of(cell)]
    return json.dumps(found).encode()


MAIN, BESIDE = "00_start_here.ipynb", "00_start_here.v9.0.0.ipynb"
BACKUP, LATER_BACKUP = (f"backups/00_start_here.2026-01-0{day}-120000.ipynb" for day in (1, 2))
FOLDERS = {
    "a newer edition beside the work": ({MAIN: DONE, BESIDE: None}, MAIN),
    "work that went on in the newer edition": ({MAIN: STARTED, BESIDE: DONE}, BESIDE),
    "all done again in the newer edition": ({MAIN: DONE, BESIDE: DONE}, BESIDE),
    "carried over": ({MAIN: DONE, BACKUP: DONE}, MAIN),
    "one exercise reset": ({MAIN: STARTED, BACKUP: DONE}, MAIN),
    "reset and left": ({MAIN: None, BACKUP: STARTED, LATER_BACKUP: DONE}, LATER_BACKUP),
    "a backup out of its folder": ({MAIN: STARTED, BACKUP.rpartition("/")[2]: DONE}, MAIN),
    "a copy that went on": ({MAIN: STARTED, "00_start_here-Copy1.ipynb": DONE}, "00_start_here-Copy1.ipynb"),
    "many copies": ({"00_start_here (2).ipynb": DONE, "00_start_here (10).ipynb": DONE}, "00_start_here (10).ipynb"),
    "in another folder": ({f"kurs/{MAIN}": DONE, f"kurs/{BACKUP}": DONE}, f"kurs/{MAIN}"),
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_of_several_notebooks_the_latest_work_counts(folder: str):
    files, expected = FOLDERS[folder]
    chosen, _, notes = choose([(file, as_bytes(answers)) for file, answers in sorted(files.items())])
    assert [file for file, *_ in chosen.values()] == [expected]
    assert f"{expected} counts" in notes[0]
    assert all(file in notes[0] for file in files)


def test_the_choice_is_noted_in_the_row(sandbox: Sandbox):
    files = ((MAIN, as_bytes(DONE)), (BESIDE, as_bytes(None)))
    row = mark("x", Loaded(files), sandbox, bytes(32))
    assert (row.points, row.files) == (5, (MAIN,))
    assert f"{MAIN} counts; not marked: {BESIDE}" in row.notes[0]


@pytest.mark.parametrize("text", ["def f(:\n    pass\n", "# a comment\n", "x = (\n", "x = 1\rdef f(:\r", ""])
def test_a_python_file_without_a_statement_is_one_cell(text: str):
    """It does not parse, or says nothing: whoever reads the row sees why, and not an error of ours."""
    cells = parse(text.encode(), "00_start_here.py")["cells"]
    assert "".join(cell["source"] for cell in cells) == text.replace("\r", "\n").strip("\n")


def test_a_source_that_is_no_text_is_noted():
    cells = [{"cell_type": "code", "source": [["def top_next_tokens(): pass"]]}, {"cell_type": "code", "source": 7}]
    tree = parse(json.dumps({"cells": cells, "metadata": {}}).encode(), "00_start_here.ipynb")
    notes = select_cells(tree, "00_start_here.ipynb").notes
    assert [note for note in notes if "not text" in note] == [
        f"the source of cell {n} is not text, or only in part" for n in (1, 2)
    ]
