"""A folder from end to end, through the command, as an instructor runs it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from grading_kit import ZERO, loaded, notebook

from mi_course import cli
from mi_course.asking import limits
from mi_course.grading import _mark, marking, sandboxed_asking, workers
from mi_course.grading.intake import Loaded, find
from mi_course.grading.jobs import Job, content_hash
from mi_course.grading.marking import mark
from mi_course.grading.marks import ExerciseMark, Failure, Marks
from mi_course.grading.outputs import write_tables
from mi_course.grading.sandbox import Session
from mi_course.grading.sandbox.diagnosis import sandbox_problem
from mi_course.grading.store import Store
from mi_course.grading.text_files import escape_csv_cell
from mi_course.wire import Ask


def run(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mi_course", "grade", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture
def again(here, in_process) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command in this process, and in the sandbox that is there."""
    return in_process


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command in this process, which has imported torch already."""

    def run_here(*words: object) -> subprocess.CompletedProcess:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["mi-course", "grade", *map(str, words)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        told = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, told.out, told.err)

    return run_here


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "marks.csv", newline="", encoding="utf-8") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A class: right, wrong, dying, malformed, packed, oddly named."""
    found = tmp_path / "submissions"
    found.mkdir()
    good = json.dumps(notebook())
    (found / "ada.ipynb").write_text(good)
    (found / "00_start_here.py").write_text("x = 1")
    wrong = notebook({ZERO: "def zero_head(z, hook, head):\n    return z"})
    (found / "wrong.ipynb").write_text(json.dumps(wrong))
    dying = notebook(before="import os\nos._exit(1)")
    (found / "dying.ipynb").write_text(json.dumps(dying))
    (found / "broken.ipynb").write_text(good[:300])
    (found / "=cmd|' calc'!A0.ipynb").write_text(good)
    (found / "new\nline, comma.ipynb").write_text(good)
    (found / "bob").mkdir()
    (found / "bob" / "00_start_here.ipynb").write_text(good)
    with zipfile.ZipFile(found / "carol.zip", "w") as archive:
        archive.writestr("carol/00_start_here.ipynb", good)
        archive.writestr("../../evil.ipynb", good)
    return found


def test_a_class(needs_sandbox, again, folder: Path, tmp_path: Path):
    out = tmp_path / "marks"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told = run(folder, "--out", out, "-j", 2, "--format", "junit,gradescope,classroom,feedback", "--similar")
    assert told.returncode == 0, told.stderr
    assert "Similar answers, for you to look at" in told.stdout
    assert "9 submissions, 0 of them as marked before, 1 unreadable" in told.stdout
    rows = rows_of(out)
    assert {name: int(row["points"]) for name, row in rows.items()} == {
        "ada.ipynb": 5,
        "00_start_here.py": 0,
        "wrong.ipynb": 3,
        "dying.ipynb": 5,
        "broken.ipynb": 0,
        "'=cmd|' calc'!A0.ipynb": 5,
        r"new\nline, comma.ipynb": 5,
        "bob": 5,
        "carol.zip": 5,
    }
    assert rows["wrong.ipynb"][ZERO] == "0"
    assert rows["broken.ipynb"][ZERO] == ""
    assert "exit status 1" in rows["dying.ipynb"]["reason"]
    assert all(row["sandboxed"] == "yes" for row in rows.values())
    everything = json.loads((out / "marks.json").read_text())
    carol = next(one for one in everything["submissions"] if one["submission"] == "carol.zip")
    assert "points out of it" in carol["notes"][0]
    wrong = next(one for one in everything["submissions"] if one["submission"] == "wrong.ipynb")
    assert next(one for one in wrong["exercises"] if one["exercise"] == ZERO)["message"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    for name in ("gradescope", "classroom", "feedback"):
        assert len(list((out / name).iterdir())) == 9
    assert json.loads(next((out / "gradescope").glob("wrong_ipynb-*.json")).read_text())["score"] == 3
    assert "=cmd" in (out / "junit.xml").read_text()
    assert "the course's own answer" in (out / "similar.csv").read_text()

    # The second time nothing is marked again but what changed, and what an instructor says is laid over it.
    (folder / "wrong.ipynb").write_text(json.dumps(notebook()))
    (out / "overrides.toml").write_text(
        '["ada.ipynb".zero_head]\npoints = 1\ncomment = "See me."\n[nobody]\ncomment = "x"'
    )
    told = again(folder, "--out", out)
    assert told.returncode == 1
    assert "there is no submission 'nobody'" in " ".join(told.stderr.split())
    assert "9 submissions, 7 of them as marked before" in told.stdout  # nor is what could not be read kept
    rows = rows_of(out)
    assert rows["wrong.ipynb"]["points"] == "5"
    assert (rows["ada.ipynb"]["points"], rows["ada.ipynb"][ZERO]) == ("4", "1")
    assert "See me." in rows["ada.ipynb"]["comment"]


@pytest.mark.slow
def test_a_killed_grader_loses_no_finished_result(needs_sandbox, again, tmp_path: Path):
    folder, out = tmp_path / "submissions", tmp_path / "marks"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.ipynb").write_text(json.dumps(notebook(before=f"x = {i}")))
    (folder / "slow.ipynb").write_text(json.dumps(notebook(before="import time\ntime.sleep(60)")))
    command = [sys.executable, "-m", "mi_course", "grade", str(folder), "--out", str(out), "-j", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 600
    while len(list(out.glob(".grading/*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(out.glob(".grading/*.json"))) == 3
    until = time.monotonic() + 60
    while (left := _in_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left, "a worker or the sandbox outlived the grader"
    (folder / "slow.ipynb").write_text(json.dumps(notebook()))
    told = again(folder, "--out", out)
    assert "4 submissions, 3 of them as marked before" in told.stdout
    assert {row["points"] for row in rows_of(out).values()} == {"5"}


def _in_session(leader: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(name))
    return found


def test_without_a_sandbox_it_refuses_unless_told_to(in_process, monkeypatch, tmp_path: Path, folder: Path):
    for path in folder.iterdir():
        if path.name not in ("ada.ipynb", "wrong.ipynb"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))  # no bwrap there
    told = run(folder, "--out", tmp_path / "marks")
    assert told.returncode == 2
    for part in ("not run without a sandbox", "bubblewrap is not installed", "--unsandboxed"):
        assert part in " ".join(told.stderr.split())
    assert not (tmp_path / "marks" / "marks.csv").exists()
    told = in_process(folder, "--out", tmp_path / "marks", "--unsandboxed")
    assert told.returncode == 0, told.stderr
    assert "WITHOUT a sandbox" in told.stderr
    rows = rows_of(tmp_path / "marks")
    assert rows["ada.ipynb"]["points"] == "5"
    assert all(row["sandboxed"] == "NO" for row in rows.values())
    assert "WITHOUT a sandbox" in rows["ada.ipynb"]["reason"]
    assert not json.loads((tmp_path / "marks" / "marks.json").read_text())["sandboxed"]


def test_errors_are_one_paragraph(again, tmp_path: Path):
    told = again(tmp_path / "absent", "--out", tmp_path / "marks")
    assert told.returncode == 2
    assert "there is no such file or folder" in " ".join(told.stderr.split())
    told = again(tmp_path, "--out", tmp_path / "marks", "--lesson", "99")
    assert told.returncode == 2
    assert "no lesson" in told.stderr
    told = run(tmp_path, "--out", tmp_path / "marks", "--format", "csv,pdf")
    assert told.returncode == 2
    assert "There is no format 'pdf'; there are csv, json, junit" in " ".join(told.stderr.split())


def test_doctor_and_grade_agree(needs_sandbox):
    assert sandbox_problem() is None


def test_every_row_says_that_system_calls_were_not_filtered(sandbox, monkeypatch):
    unreadable = Loaded(problem="It holds no notebook.")
    assert sandbox.seccomp
    assert not mark("ada", unreadable, sandbox, bytes(32)).notes
    monkeypatch.setattr(sandbox, "seccomp", False)
    for submission in (unreadable, loaded(notebook())):
        row = mark("ada", submission, sandbox, bytes(32))
        assert any("system calls were not filtered" in note for note in row.notes)


# ---------------------------------------------------------------------------------------------------------------------
# Parts


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "|calc", "%x"])
def test_no_cell_is_a_formula(text):
    assert escape_csv_cell(text).startswith("'")


def test_a_cell_stays_on_its_line():
    assert escape_csv_cell("a\nb\x00c\u2028d") == r"a\nb\x00c\u2028d"
    assert escape_csv_cell("Zoë, 3") == "Zoë, 3"
    assert escape_csv_cell(3) == 3


def test_marks_come_back_as_they_were_kept(tmp_path: Path):
    store = Store(tmp_path)
    one = ExerciseMark(
        "a.b", 1, "wrong", 1, 2, "m", "swap", ({"name": "p", "points": 2, "earned": 1, "message": ""},), ""
    )
    marks = Marks("ada", "marked", "r", 1, 2, (one,), ("a",), ("n",), True, 0.5, ("f.ipynb",))
    key = store.key("content", None, True)
    assert store.get(key, "ada") is None
    store.put(key, marks)
    assert store.get(key, "ada") == marks
    assert Store(tmp_path).key("content", None, True) == key
    assert store.key("content", None, False) != key
    assert store.key("content2", None, True) != key
    assert oct((tmp_path / ".grading" / "secret").stat().st_mode)[-3:] == "600"
    (tmp_path / ".grading" / f"{key}.json").write_text("{torn")
    assert store.get(key, "ada") is None
    write_tables(tmp_path, [marks])
    assert rows_of(tmp_path)["ada"]["a.b"] == "1"


def test_a_failure_of_the_grader_is_a_row_that_is_not_kept(tmp_path: Path):
    asked: list[str] = []

    class Backend:
        sandboxed = True

        def mark_all(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[tuple[int, Marks | Failure]]:
            asked.extend(job.name for job in jobs)
            for i in reversed(range(len(jobs))):
                marks = Marks(jobs[i].name, "marked", "r", content=content_hash(jobs[i].load()))
                yield i, Failure("Two workers died.") if jobs[i].name == "b.ipynb" else marks

    for name in ("a.ipynb", "b.ipynb"):
        (tmp_path / name).write_text(name)
    entries, store, backend = find(tmp_path), Store(tmp_path / "out"), Backend()
    rows, cached = _mark(entries, None, store, backend, None)
    assert [(row.submission, row.status, row.reason) for row in rows] == [
        ("a.ipynb", "marked", "r"),
        ("b.ipynb", "unreadable", "Two workers died."),
    ]
    assert cached == 0
    rows, cached = _mark(entries, None, store, backend, None)
    assert (cached, asked) == (1, ["a.ipynb", "b.ipynb", "b.ipynb"])


def test_a_worker_that_dies_costs_one_submission():
    def work(i: int) -> bytes:
        if i == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if i == 2:
            time.sleep(60)
        return b"x" * 10**i

    results = dict(workers.run(2, work, range(6), limit_s=4.0))
    assert {i: result for i, result in results.items() if not isinstance(result, Failure)} == {
        i: b"x" * 10**i for i in (0, 3, 4, 5)
    }
    assert "worker ended" in results[1].reason
    assert "more than 4 seconds" in results[2].reason


# ---------------------------------------------------------------------------------------------------------------------
# A slow machine


def test_the_slowness_that_limits_were_multiplied_by_stands_in_the_marks(tmp_path, monkeypatch):
    """Forked workers have the number of the process that prepared them and writes the tables."""
    monkeypatch.setattr(limits, "_measure", lambda: 2.5 * limits._USUAL_S)
    limits.slowness.cache_clear()
    try:
        limits.slowness()
        monkeypatch.setattr(limits, "_measure", lambda: 99.0)
        results = list(workers.run(2, lambda i: str(limits.slowness()).encode(), range(2), 20.0))
        write_tables(tmp_path, [])
    finally:
        limits.slowness.cache_clear()
    assert [result for _, result in results] == [b"2.5", b"2.5"]
    assert json.loads((tmp_path / "marks.json").read_text(encoding="utf-8"))["time_factor"] == 2.5


def test_the_slowness_is_measured_before_workers_are_forked(monkeypatch):
    measured = []

    class Ready:
        def wait(self, *models):
            pass

    monkeypatch.setattr(marking, "slowness", lambda: measured.append(1) or 1.0)
    monkeypatch.setattr(marking, "_configs", lambda calls: [])
    marking.prepare(Ready())
    assert measured


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_limits_of_answers_cells_and_submission_scale(sandbox, monkeypatch, factor: float):
    sent, deadlines = [], []
    conversation = sandboxed_asking._Conversation
    send, init = Session.send, conversation.__init__

    def note(self, message):
        sent.append(message)
        return send(self, message)

    def begin(self, session, seen, names, deadline):
        deadlines.append(deadline - time.monotonic())
        init(self, session, seen, names, deadline)

    for module in (sandboxed_asking, marking):
        monkeypatch.setattr(module, "slowness", lambda: factor)
    monkeypatch.setattr(Session, "send", note)
    monkeypatch.setattr(conversation, "__init__", begin)
    row = mark("x", loaded(notebook()), sandbox, bytes(32))
    assert row.points == 5
    assert [job["cell_s"] for job in sent if isinstance(job, dict) and "cell_s" in job] == [
        sandboxed_asking.CELL_S * factor
    ]
    asked = {ask.limit_s for ask in sent if isinstance(ask, Ask)}
    assert min(asked) == pytest.approx(1.5 * factor)  # conftest's short limit
    assert deadlines[0] == pytest.approx(sandboxed_asking.TOTAL_S * factor, abs=20)
