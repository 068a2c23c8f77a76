"""Attempts to get marks without the answer, or to reach what a submission must not reach. All end with 0 marks for it.

Each attempt is a whole submission; its answer to zero_head is wrong, and stays wrong.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import FORGERIES, HEAD, PATCHES, WRONG
from faults.attacks import ARCHIVES, ATTACKS
from grading_kit import TOP, WORTH, ZERO, loaded, marks_of, notebook

from mi_course import grading, lessons, wire
from mi_course.exercises import Complaint
from mi_course.grading import formats, grade, intake, marking, sandboxed_asking
from mi_course.grading.jobs import content_hash
from mi_course.grading.marking import mark
from mi_course.grading.marks import failed
from mi_course.grading.sandbox import Lost, Sandbox
from mi_course.grading.store import Store
from mi_course.judging.tidiness import tidy
from mi_course.submission import Submission, SubmittedCell


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
def test_an_attack(marked, name, monkeypatch):
    attack = ATTACKS[name]
    monkeypatch.setattr(sandboxed_asking, "PATIENCE", 20.0)  # starting programs takes long on a busy machine
    if attack.sleeps:
        monkeypatch.setattr(sandboxed_asking, "PATIENCE", 1.0)
        monkeypatch.setattr(sandboxed_asking, "GRACE_S", 2.0)
    row = marked(attack.answers, before=attack.before)
    assert row.points == attack.deserves, row
    told = [row.reason, *(f"{id.partition('.')[2]}: {mark.message}" for id, mark in marks_of(row).items())]
    assert any(attack.says in text for text in told), told


def test_what_an_attack_leaves_in_the_row(marked):
    text = marks_of(marked(ATTACKS["error_class_of_many_words"].answers))[ZERO].message
    assert "Nothing__2_of_2_exercises_passed" in text
    printed = marks_of(marked(ATTACKS["socket_buffers"].answers))[ZERO].printed
    assert int(printed.split()[1]) < 64, printed


@pytest.mark.parametrize(
    ("where", "patience", "time_out"),
    [("answer", 1.0, "waiting"), ("answer", 90.0, "computing"), ("cell", 1.0, "waiting"), ("cell", 90.0, "computing")],
)
def test_a_time_out_says_whether_the_processor_was_used(marked, monkeypatch, where, patience, time_out):
    """The limit by the clock comes first where it is short, and that of processor time where it is very long."""
    monkeypatch.setattr(sandboxed_asking, "PATIENCE", patience)
    text = "import time; time.sleep(60)" if time_out == "waiting" else "while True: pass"
    row = marked({ZERO: f"def zero_head(z, hook, head):\n    {text}"}) if where == "answer" else marked(before=text)
    assert row.time_out == time_out
    assert "still running" in row.reason + marks_of(row)[ZERO].message
    assert row.points == (WORTH[TOP] if where == "answer" else 5)


UNTIDY = """
import sys, torch
def loss_without_heads(model, tokens, heads):
    for layer, head in heads:
        def silence(module, inputs, z, head=head):
            z[:, :, head] = 0.0
            return z
        model.hook_dict[f"blocks.{layer}.attn.hook_z"].register_forward_hook(silence)
    with torch.no_grad():
        log_probs = model(tokens)[:, :-1].log_softmax(-1)
    frame = sys._getframe()
    while frame:
        for name in frame.f_globals.get("WATCHES", ()):
            frame.f_globals["WATCHES"][name] = lambda args: lambda: []
        frame.f_locals.get("watches", {}).clear()
        frame = frame.f_back
    return -log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
"""


def test_a_used_model_is_watched_from_outside(sandbox: Sandbox, monkeypatch):
    """An answer that leaves hooks on the model, and replaces the watches by way of the stack."""
    id = "induction_heads.loss_without_heads"
    taken = Submission(lessons.find(2), (), (SubmittedCell(1, "answer", UNTIDY, (id.partition(".")[2],)),), (id,))
    plan = lessons.load("induction_heads").exercise("loss_without_heads").plan(5)

    def complaint() -> Complaint | None:
        seen = sandboxed_asking.ask_all(taken, {id: plan}, sandbox)
        assert "Cell 1 reaches into the grader (it looks at stack frames)." in seen.reached
        return tidy(plan.cases[0].case, seen.observations[id][0])

    found = complaint()
    assert found is not None
    assert "a second call on the same model gives another result" in found.message
    monkeypatch.setattr(sandboxed_asking, "_call_on_a_used_model", lambda plan: None)
    assert complaint() is None, "the watches say nothing"


def test_an_error_that_imitates_a_time_out_is_an_error(marked):
    text = f"it was still running after {sandboxed_asking.CELL_S:g} seconds"
    row = marked(before=f"exec(\"raise type('{text}', (Exception,), {{}})\")")
    assert (row.points, row.time_out) == (5, "")
    assert f"Cell 4 stopped: \u201c{text}" in row.reason


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
        found["cells"] += [{**cell, "source": f"raise ValueError('{i} ' + 'A' * 940)"} for i in range(50)]

    row = mark("x", loaded(notebook(change=change)), sandbox, bytes(32))
    assert row.points == 5
    assert len(row.reasons) == 21
    assert "30 more" in row.reasons[-1]
    assert len(row.reason) < 10_000


def test_one_deadline_for_all_of_a_submission(sandbox: Sandbox):
    row = mark("x", loaded(notebook(before="import time\ntime.sleep(4)")), sandbox, bytes(32), total_s=0.5)
    assert (row.points, row.time_out) == (0, "waiting")
    assert "the time for the submission as a whole was over" in row.reason
    assert row.seconds < 4, "the deadline does not wait for the cell"


def test_processor_time_counts_and_not_the_clock(marked):
    row = marked(before=f"import time\ntime.sleep({sandboxed_asking.CELL_S + 0.5})")
    assert (row.points, row.time_out) == (5, "")


@pytest.fixture
def class_of(here, tmp_path: Path):
    """Marks a folder, in the sandbox that is there."""
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


def test_no_text_of_a_submission_passes_for_a_signal():
    assert not sandboxed_asking._is_late(Lost("garbage", "its reply cannot be read: it is 'SIGXCPU'"))
    assert sandboxed_asking._is_late(Lost("died", "killed by SIGXCPU"))


def test_judging_is_limited_in_processor_time(monkeypatch: pytest.MonkeyPatch):
    """A busy machine cannot end it; endless work does."""
    plan = lessons.load("start_here").exercise("zero_head").plan(1)
    works: list[Callable[[], Any]] = [lambda: time.sleep(0.5), lambda: sum(0 for _ in itertools.count())]
    monkeypatch.setattr(marking, "JUDGE_S", 0.3)
    monkeypatch.setattr(marking, "judge", lambda plan, observations, ask: works[observations[0]]())
    assert marking._judge(plan, [0]) is None
    assert "more than 0.3 seconds" in marking._judge(plan, [1]).message


def test_long_names_of_members_stay_short(sandbox: Sandbox):
    good = json.dumps(notebook()).encode()
    files = tuple((f"{'x' * 60_000}/{i}.ipynb", good) for i in range(12))
    row = mark("x", intake.Loaded(files, "", ("y" * 60_000,)), sandbox, bytes(32))
    assert row.points == 5
    assert all(len(text) < 500 for text in (*row.notes, *row.files, *row.reasons))


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


def test_a_time_out_is_asked_again_alone_and_is_not_kept(tmp_path: Path):
    asked: list[tuple[list[str], bool]] = []

    class Backend:
        sandboxed = True

        def mark_all(self, jobs, alone=False):
            asked.extend([([job.name for job in jobs], alone)] if jobs else [])
            for i, job in enumerate(jobs):
                time_out = {"sleeps": "waiting", "loops": "computing"}.get(job.name.partition(".")[0], "")
                late = replace(failed(job.name, ""), status="marked", content=content_hash(job.load()))
                yield i, replace(late, time_out="" if alone else time_out, points=2 if alone else 1)

    for name in ("sleeps", "loops", "good"):
        (tmp_path / f"{name}.ipynb").write_text(name)
    entries, store = intake.find(tmp_path), Store(tmp_path / "out")
    rows, cached = grading._mark(entries, None, store, Backend(), None)
    names = ["good.ipynb", "loops.ipynb", "sleeps.ipynb"]
    assert asked == [(names, False), (["sleeps.ipynb"], True)]
    assert ([row.points for row in rows], cached) == ([1, 1, 2], 0)
    rows, cached = grading._mark(entries, None, store, Backend(), None)
    assert asked[2:] == [(["loops.ipynb"], False)]
    assert ([row.points for row in rows], cached) == ([1, 1, 2], 2)


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
