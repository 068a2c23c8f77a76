"""Attempts to get marks without the answer, or to reach what a submission must not reach. All end with 0 marks for it.

Each attempt is a whole submission; its answer to zero_head is wrong, and stays wrong.
"""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest
from faults import FORGERIES, HEAD, PATCHES, WRONG
from faults.attacks import ARCHIVES, ATTACKS
from grading_kit import TOP, WORTH, ZERO, loaded, marks_of, notebook

from mi_course import grading, wire
from mi_course.grading import formats, grade, intake, marking, workers
from mi_course.grading.marking import mark
from mi_course.grading.marks import failed
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


# ---------------------------------------------------------------------------------------------------------------------
# What a red team found


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack(marked, name):
    attack = ATTACKS[name]
    row = marked(attack.answers, before=attack.before)
    assert row.points == attack.deserves, row
    assert attack.says in row.reason, row.reason


def test_what_an_attack_leaves_in_the_row(marked):
    row = marked(ATTACKS["sleeps_beside_the_clock"].answers)
    assert row.time_out == "waiting"
    assert marked(IN_A_LOOP).time_out in ("computing", "waiting")  # on a very busy machine it may not get its share
    text = marks_of(marked(ATTACKS["error_class_of_many_words"].answers))[ZERO].message
    assert "Nothing__2_of_2_exercises_passed" in text
    printed = marks_of(marked(ATTACKS["socket_buffers"].answers))[ZERO].printed
    assert int(printed.split()[1]) < 64, printed


IN_A_LOOP = {ZERO: "def zero_head(z, hook, head):\n    while True: pass"}


def test_what_is_honest_is_not_named(marked):
    """Frames that libraries look at, collections of garbage, errors that are caught."""
    row = marked(
        before="import collections, dataclasses, gc, logging, typing, warnings\n"
        "P = collections.namedtuple('P', 'a b')\n"
        "@dataclasses.dataclass\nclass D: x: int = 0\ngc.collect()\nwarnings.warn('x')\nlogging.warning('x')\n"
        "T = typing.NewType('T', int)\ntry: 1 / 0\nexcept ZeroDivisionError as e: str(e)\n"
        "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.format_exc()"
    )
    assert (row.points, row.reason) == (5, "2 of 2 exercises passed.")


def test_reasons_are_a_list_and_capped(sandbox: Sandbox):
    def change(found):
        cell = {"cell_type": "code", "id": "", "metadata": {}, "outputs": []}
        found["cells"] += [{**cell, "source": f"raise ValueError('{i} ' + 'A' * 940)"} for i in range(300)]

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert row.points == 5
    assert len(row.reasons) == 21
    assert "280 more" in row.reasons[-1]
    assert len(row.reason) < 10_000


def test_one_deadline_for_all_of_a_submission(sandbox: Sandbox):
    began = time.monotonic()
    row = mark("x", loaded(notebook(before="import time\ntime.sleep(7)")), sandbox, bytes(32), total_s=3.0)
    assert time.monotonic() - began < 12
    assert row.points == 0
    assert "the time for the submission as a whole was over" in row.reason


def test_processor_time_counts_and_not_the_clock(marked):
    """Four seconds of sleep in a cell that may compute for three."""
    row = marked(before="import time\ntime.sleep(4)")
    assert (row.points, row.time_out) == (5, "")


@pytest.fixture
def class_of(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Marks a folder, in the sandbox that is there."""

    def init(self, unsandboxed=False, count=None):
        self.sandboxed, self.count, self.sandbox, self.prepared = True, 2, sandbox, True

    monkeypatch.setattr(workers.LocalBackend, "__init__", init)
    monkeypatch.setattr(workers.LocalBackend, "__exit__", lambda self, *exception: None)
    folder = tmp_path / "class"
    folder.mkdir()

    def run(files: dict[str, bytes], **rest):
        for name, raw in files.items():
            path = folder / os.fsdecode(os.fsencode(name))
            path.write_bytes(raw)
        report = grade(folder, tmp_path / "marks", **rest)
        return {row.submission: row for row in report.rows}, report, tmp_path / "marks"

    return run


def test_one_bad_entry_is_one_bad_row(class_of):
    good = json.dumps(notebook()).encode()
    files = {f"{name}.zip": raw for name, raw in ARCHIVES.items()}
    rows, report, out = class_of(
        {**files, "good.ipynb": good}, similar=True, formats=("junit", "feedback", "gradescope", "classroom")
    )
    assert len(rows) == len(ARCHIVES) + 1
    assert rows["good.ipynb"].points == rows["nul_and_good.zip"].points == 5
    assert all(row.points == 0 and row.reason for name, row in rows.items() if "good" not in name)
    assert len(list((out / "feedback").iterdir())) == len(rows)
    assert report.similar


def test_any_error_of_a_step_stays_in_its_row(class_of, monkeypatch: pytest.MonkeyPatch):
    class Odd(Exception):
        pass

    def burst(*args, **options):
        raise Odd("whatever")

    monkeypatch.setattr(intake.zipfile, "ZipFile", burst)
    monkeypatch.setattr(marking, "reflections_in", burst)
    files = {"a.zip": b"PK", "b.ipynb": json.dumps(notebook()).encode()}
    rows, _, _ = class_of(files, similar=True, formats=("feedback",))
    assert "Odd" in rows["a.zip"].reason
    assert "Odd" in rows["b.ipynb"].reason


def test_names_never_meet(class_of):
    good, bad = json.dumps(notebook()).encode(), b"{"
    names = {"\udcff.ipynb": good, "\\udcff.ipynb": bad, "zo\u00eb.ipynb": good, "ada.ipynb": good, "ADA.ipynb": bad}
    rows, _, out = class_of(names, formats=("feedback",))
    taken = formats.file_names([failed("zo\u00eb.ipynb", "")])["zo\u00eb.ipynb"]
    rows, _, out = class_of({f"{taken}.ipynb": bad, taken + ".html.ipynb": bad}, formats=("feedback",))
    assert len(rows) == 7
    assert len({path.name.lower() for path in (out / "feedback").iterdir()}) == 7
    assert sum(row.points == 5 for row in rows.values()) == 3


def test_a_time_out_is_asked_again_alone_and_is_not_kept(class_of, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[int, bool]] = []
    real = workers.LocalBackend.mark_all

    def mark_all(self, jobs, alone=False):
        calls.append((len(jobs), alone))
        return real(self, jobs, alone)

    monkeypatch.setattr(workers.LocalBackend, "mark_all", mark_all)
    files = {
        "sleeps.ipynb": json.dumps(notebook(ATTACKS["sleeps_beside_the_clock"].answers)).encode(),
        "loops.ipynb": json.dumps(notebook(IN_A_LOOP)).encode(),
        "good.ipynb": json.dumps(notebook()).encode(),
    }
    rows, report, _ = class_of(files)
    assert calls in ([(3, False), (1, True)], [(3, False), (2, True)])  # two on a very busy machine
    assert {name: row.points for name, row in rows.items()} == {"sleeps.ipynb": 3, "loops.ipynb": 3, "good.ipynb": 5}
    _, report, _ = class_of({})
    assert report.cached == 1


def test_what_vanishes_is_asked_again_and_a_failure_is_never_kept(class_of, monkeypatch: pytest.MonkeyPatch):
    good = json.dumps(notebook()).encode()
    real, seen = grading.load, []

    def load(entry):
        """The file is there when it is first looked at, and gone when it is marked, in the first run."""
        seen.append(entry.name)
        if len(seen) == 1 and entry.path.exists():
            found = real(entry)
            entry.path.unlink()
            return found
        return real(entry)

    monkeypatch.setattr(grading, "load", load)
    rows, _, out = class_of({"a.ipynb": good})
    assert rows["a.ipynb"].status == "unreadable"
    assert not list((out / ".grading").glob("*.json"))
    rows, report, _ = class_of({"a.ipynb": good})
    assert (rows["a.ipynb"].points, report.cached) == (5, 0)
