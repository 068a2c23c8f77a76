"""Faults as real submissions. Each costs what depends on it and no more, and says why."""

from __future__ import annotations

import os
import time

import pytest
from faults import AT_TOP_LEVEL, IN_AN_ANSWER, body
from grading_kit import TOP, WORTH, ZERO, marks_of, right

from mi_course import content, lessons
from mi_course.grading import sandboxed_asking
from mi_course.grading.sandbox import Sandbox


@pytest.mark.parametrize("name", IN_AN_ANSWER)
def test_a_fault_in_an_answer(marked, name, monkeypatch):
    text, status, why = IN_AN_ANSWER[name]
    if name.startswith("fork_bomb"):  # what it left running has no time to answer in
        monkeypatch.setattr(sandboxed_asking, "GRACE_S", 1.0)
    row = marked({ZERO: "import torch\n" + body(text)})
    found = marks_of(row)
    assert found[TOP].status == "passed", row.reason
    assert row.status == "marked"
    assert found[ZERO].status == status or (not status and found[ZERO].points == 0), found[ZERO]
    assert why.lower() in (found[ZERO].message + row.reason).lower(), (found[ZERO].message, row.reason)
    assert row.points == WORTH[TOP] + (WORTH[ZERO] if status == "passed" else 0)


@pytest.mark.parametrize("name", ["os_exit", "kills_itself", "sys_exit", "fork_bomb", "swallows_interrupts"])
def test_a_fault_in_the_first_answer_costs_the_second_nothing(marked, name):
    text = IN_AN_ANSWER[name][0]
    first = body(text).replace("def zero_head(z, hook, head)", "def top_next_tokens(logits, k)")
    row = marked({TOP: f"from torch import Tensor\nfrom jaxtyping import Float\n{first}"})
    assert marks_of(row)[TOP].points == 0
    assert marks_of(row)[ZERO].status == "passed", row.reason


@pytest.mark.parametrize("name", AT_TOP_LEVEL)
def test_a_fault_at_top_level_costs_its_cell(marked, name):
    text, why = AT_TOP_LEVEL[name]
    row = marked(before=text)
    assert row.points == row.max_points == 5, row.reason
    assert "Cell 4 stopped" not in row.reason if why is None else "Cell 4 stopped" in row.reason
    assert (why or "") in row.reason


def test_an_answer_cell_that_dies_before_it_defines(marked):
    row = marked({TOP: "import os\nos._exit(1)\n" + right(TOP)})
    assert marks_of(row)[TOP].status == "crashed"
    cells = content.read_notebook(lessons.find("start_here"))["cells"]
    position = next(i for i, cell in enumerate(cells, 1) if content.exercise_of(cell) == TOP)
    assert f"Cell {position} stopped: it ended the process (exit status 1)" in marks_of(row)[TOP].message
    # zero_head's annotations need names that this cell imports: what depends on a cell goes with it.
    row = marked(
        {TOP: "import os\nos._exit(1)", ZERO: "def zero_head(z, hook, head):\n    z[:, :, head] = 0\n    return z"}
    )
    assert marks_of(row)[ZERO].status == "passed"


def test_several_faults_at_once(marked):
    row = marked({ZERO: body("os._exit(1)")}, before="import os\nos._exit(2)", after="while True: pass")
    assert row.points == WORTH[TOP]
    for part in ("exit status 2", "still running", "zero_head: it ended its process (exit status 1)"):
        assert part in row.reason


def test_nothing_is_left_behind(marked, sandbox: Sandbox):
    marked({ZERO: body("while True:\n    os.fork()")}, before="import os\nif os.fork() == 0:\n    while True: pass")
    until = time.monotonic() + 60
    while (left := _below(sandbox.process.pid)) > 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert left <= 3  # bwrap, its process 1, the server


def _below(pid: int) -> int:
    """How many processes descend from this one, itself included."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return len(found)


def test_the_same_submission_gets_the_same_marks_after_all_of_that(marked):
    assert marked().points == 5
