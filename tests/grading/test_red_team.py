"""Attempts to get marks without the answer, or to reach what a submission must not reach. All end with 0 marks for it.

Each attempt is a whole submission; its answer to zero_head is wrong, and stays wrong.
"""

from __future__ import annotations

import base64

import pytest
from faults import FORGERIES, HEAD, PATCHES, WRONG
from grading_kit import TOP, WORTH, ZERO, loaded, marks_of, notebook

from mi_course import wire
from mi_course.grading.marking import mark
from mi_course.grading.sandbox import Sandbox


@pytest.mark.parametrize("name", PATCHES)
def test_patching(marked, name):
    row = marked({ZERO: f"{PATCHES[name]}\n{WRONG}"})
    assert marks_of(row)[ZERO].points == 0, row
    assert row.points <= WORTH[TOP]


@pytest.mark.parametrize("name", FORGERIES)
def test_forging(marked, name):
    row = marked({ZERO: HEAD + FORGERIES[name]})
    found = marks_of(row)
    assert found[ZERO].points == 0, found[ZERO]
    assert found[TOP].status == "passed", row.reason


def test_what_a_notebook_says_of_itself_is_not_believed(sandbox: Sandbox):
    def change(found):
        found["metadata"]["kernelspec"] = {"name": "evil", "language": "ruby"}
        for cell in found["cells"]:
            cell["metadata"]["tags"] = ["skip-execution", "setup", "hide", "remove-cell"]
            cell["metadata"]["nbgrader"] = {"grade": True, "points": 1000, "grade_id": "x"}
            if cell["id"] == "answer-zero_head":
                cell["source"] = WRONG
                cell["metadata"]["mi_course"] = {"exercise": TOP, "revision": 99, "points": 50, "status": "passed"}
                record = {"format": 1, "exercise": ZERO, "revision": 1}
                record["value"] = base64.b64encode(wire.encode(True)).decode()
                data = {"application/vnd.mi-course.answer+json": record, "text/plain": "Passed 2 of 2"}
                cell["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert marks_of(row)[ZERO].points == 0
    assert marks_of(row)[TOP].status == "passed", row.reason
    assert (row.points, row.max_points) == (3, 5)


def test_a_setup_cell_of_the_submission_does_not_replace_ours(sandbox: Sandbox):
    def change(found):
        for cell in found["cells"]:
            if cell["id"] == "setup":
                cell["source"] = "class torch: pass\nimport sys\nsys.exit()"
            if cell["id"] == "answer-zero_head":
                cell["source"] = WRONG

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert row.points <= WORTH[TOP]


INPUTS = """
import hashlib
def zero_head(z, hook, head):
    z[:, :, head] = 0
    return z if z.double().sum().item() == {seen!r} else z * 2
"""


def test_inputs_differ_from_one_submission_to_the_next(marked, sandbox: Sandbox):
    """An answer that knows the inputs of an earlier marking by heart does not pass."""
    row = marked({ZERO: "def zero_head(z, hook, head):\n    print(repr(z.double().sum().item()))\n    return z"})
    seen = float(marks_of(row)[ZERO].printed.split()[0])
    row = marked({ZERO: INPUTS.format(seen=seen)})
    assert marks_of(row)[ZERO].points == 0
