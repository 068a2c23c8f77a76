"""The store of progress: right numbers, several processes at once, and no disk that can break a check."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest

from mi_course import progress as module
from mi_course.progress import MIGRATIONS, Progress, ProgressWarning


@pytest.fixture(autouse=True)
def _forget_warnings():
    module._warned.clear()


def try_once(store: Progress, status: str = "passed", exercise: str = "a.f", revision: int = 1, **rest) -> None:
    points = 3 if status == "passed" else 0
    store.record_check(exercise, revision, status, points, 3, rest.pop("mistake", None), **rest)


def test_a_new_store_is_empty_and_touches_no_file_until_it_is_used(tmp_path):
    store = Progress(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert store.rows() == []
    assert store.hints_shown("a.f") == 0


def test_the_best_counts_and_the_last_mistake_is_kept(tmp_path):
    store = Progress(tmp_path)
    try_once(store, "not_attempted", at="2026-01-01T00:00:00+00:00")
    try_once(store, "wrong", mistake="same_token", at="2026-01-02T00:00:00+00:00")
    (row,) = store.rows()
    assert (row.status, row.points, row.attempts, row.mistake) == ("wrong", 0, 1, "same_token")
    try_once(store, "passed", at="2026-01-03T00:00:00+00:00")
    try_once(store, "crashed", at="2026-01-04T00:00:00+00:00")
    (row,) = store.rows()
    assert (row.status, row.points, row.max_points, row.attempts, row.mistake) == ("passed", 3, 3, 3, None)
    assert (row.first_at, row.last_at) == ("2026-01-01T00:00:00+00:00", "2026-01-04T00:00:00+00:00")


def test_a_newer_revision_starts_afresh(tmp_path):
    store = Progress(tmp_path)
    try_once(store, "passed", revision=1)
    try_once(store, "wrong", revision=2)
    (row,) = store.rows()
    assert (row.revision, row.status, row.points, row.attempts) == (2, "wrong", 0, 1)


def test_hints_and_solutions_are_remembered_by_another_process(tmp_path):
    store = Progress(tmp_path)
    assert [store.record_hint("a.f"), store.record_hint("a.f"), store.record_hint("a.g")] == [1, 2, 1]
    store.record_solution("a.f")
    again = Progress(tmp_path)
    assert again.hints_shown("a.f") == 2
    first, second = again.rows("a")
    assert (first.exercise, first.hints, first.solution_seen, first.status) == ("a.f", 2, True, "not_attempted")
    assert (second.exercise, second.hints, second.solution_seen) == ("a.g", 1, False)


def test_rows_and_forget_know_a_lesson_from_its_namesake(tmp_path):
    store = Progress(tmp_path)
    for name in ("a.f", "a.g", "ab.f", "a_b.f"):
        try_once(store, exercise=name)
        store.record_hint(name)
    assert [row.exercise for row in store.rows("a")] == ["a.f", "a.g"]
    store.forget("a.f")
    assert [row.exercise for row in store.rows("a")] == ["a.g"]
    store.forget("a")
    assert [row.exercise for row in store.rows()] == ["a_b.f", "ab.f"]


def test_an_unknown_status_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="'great', expected one of"):
        try_once(Progress(tmp_path), "great")


WRITER = textwrap.dedent(
    """
    import sys
    from mi_course.progress import Progress
    store = Progress(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(25):
        store.record_check("a.f", 1, "wrong", i, 99, None)
        store.record_hint("a.f")
    assert store.problem is None, store.problem
    """
)


def writers(home: Path, n: int = 6) -> None:
    """n processes that begin at the same moment and write 25 checks and 25 hints each."""
    command = [sys.executable, "-W", "error", "-c", WRITER, str(home)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == 0


def test_six_processes_lose_nothing(tmp_path):
    writers(tmp_path / "new home")
    (row,) = Progress(tmp_path / "new home").rows()
    assert (row.attempts, row.hints, row.points) == (150, 150, 24)


@pytest.mark.filterwarnings("ignore::mi_course.progress.ProgressWarning")
def test_threads_of_one_store_lose_nothing(tmp_path):
    store = Progress(tmp_path)
    threads = [threading.Thread(target=lambda: [store.record_hint("a.f") for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.hints_shown("a.f") == 80


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\x00" * 5000])
def test_an_unreadable_file_is_set_aside_and_said(tmp_path, content):
    path = tmp_path / "progress.sqlite3"
    path.write_bytes(content)
    with pytest.warns(ProgressWarning, match="was kept as"):
        try_once(Progress(tmp_path))
    assert [row.status for row in Progress(tmp_path).rows()] == ["passed"]
    (aside,) = tmp_path.glob("progress.unreadable-*.sqlite3")
    assert aside.read_bytes() == content


def test_a_file_damaged_in_the_middle_is_set_aside(tmp_path):
    store = Progress(tmp_path)
    for i in range(400):
        try_once(store, exercise=f"a.f{i}")
    raw = bytearray(store.path.read_bytes())
    for start in range(4096, len(raw), 4096):
        raw[start : start + 3000] = os.urandom(3000)
    store.path.write_bytes(raw)
    with pytest.warns(ProgressWarning, match="was kept as"):
        assert Progress(tmp_path).rows() == []
    try_once(store)
    assert len(Progress(tmp_path).rows()) == 1


def test_several_processes_that_meet_an_unreadable_file_keep_every_record(tmp_path):
    (tmp_path / "progress.sqlite3").write_bytes(b"rubbish" * 1000)
    code = WRITER.replace("import sys", "import sys, warnings; warnings.simplefilter('ignore')", 1)
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.communicate("go\n", timeout=120)
        assert process.returncode == 0
    (row,) = Progress(tmp_path).rows()
    assert (row.attempts, row.hints) == (100, 100)
    assert len(list(tmp_path.glob("progress.unreadable-*.sqlite3"))) == 1


def test_a_file_where_the_folder_should_be_breaks_nothing_and_warns_once(tmp_path):
    (tmp_path / "home").write_text("in the way")
    store = Progress(tmp_path / "home")
    with pytest.warns(ProgressWarning, match="set MI_COURSE_HOME") as caught:  # noqa: PT031
        try_once(store)
        assert store.record_hint("a.f") == 1
        assert store.record_hint("a.f") == 2
        store.record_solution("a.f")
        (row,) = store.rows()
        try_once(Progress(tmp_path / "home"))
    assert (row.status, row.hints, row.solution_seen) == ("passed", 2, True)
    assert len(caught) == 1
    assert store.problem is not None


FULL = textwrap.dedent(
    """
    import resource, signal, sys, warnings
    from mi_course.progress import Progress
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    store = Progress(sys.argv[1])
    for i in range(200):
        store.record_check("a.f" + "x" * 500 + str(i), 1, "passed", 1, 1, None)
    assert store.problem is not None
    assert len(store.rows()) >= 200, len(store.rows())
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are Unix'")
@pytest.mark.parametrize("limit", [0, 4096, 40_000])
def test_a_full_disk_breaks_nothing_and_keeps_what_was_stored(tmp_path, limit):
    """A limit on file size stops SQLite where a full disk would: at the start, at the first page, later on."""
    try_once(Progress(tmp_path), exercise="before.f")
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), str(limit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "before.f" in [row.exercise for row in Progress(tmp_path).rows()]


def test_a_file_that_may_only_be_read_still_shows_what_is_in_it(tmp_path, monkeypatch):
    try_once(Progress(tmp_path))
    real = sqlite3.connect

    def read_only(path, **options):
        # Root may write what nobody else may; SQLite's own read-only mode binds root too.
        if str(path) == str(tmp_path / "progress.sqlite3"):
            return real(f"{Path(path).as_uri()}?mode=ro", uri=True, **options)
        return real(path, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    store = Progress(tmp_path)
    with pytest.warns(ProgressWarning, match="readonly"):
        try_once(store, exercise="a.g")
    assert [row.exercise for row in store.rows()] == ["a.f", "a.g"]
    monkeypatch.undo()
    assert [row.exercise for row in Progress(tmp_path).rows()] == ["a.f"]


def test_a_file_that_stays_locked_breaks_nothing(tmp_path, monkeypatch):
    try_once(Progress(tmp_path))
    monkeypatch.setattr(module, "BUSY_S", 0.2)
    holder = sqlite3.connect(tmp_path / "progress.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store = Progress(tmp_path)
    with pytest.warns(ProgressWarning, match="locked"):
        try_once(store, exercise="a.g")
    holder.close()
    assert "a.g" in [row.exercise for row in store.rows()]


def test_a_file_of_a_newer_course_is_left_alone(tmp_path):
    try_once(Progress(tmp_path))
    with sqlite3.connect(tmp_path / "progress.sqlite3") as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = (tmp_path / "progress.sqlite3").read_bytes()
    with pytest.warns(ProgressWarning, match="newer mi-course"):
        try_once(Progress(tmp_path))
    assert (tmp_path / "progress.sqlite3").read_bytes() == before


def test_an_old_file_is_taken_to_the_present_format(tmp_path, monkeypatch):
    try_once(Progress(tmp_path))
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "ALTER TABLE checks ADD COLUMN seed INTEGER"))
    store = Progress(tmp_path)
    assert len(store.rows()) == 1
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert db.execute("SELECT seed FROM checks").fetchall() == [(None,)]


def test_the_environment_chooses_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "chosen"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try_once(Progress())
    assert (tmp_path / "chosen" / "progress.sqlite3").is_file()


def test_a_user_without_a_home_has_progress_in_memory(monkeypatch):
    def homeless(*args, **options):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MI_COURSE_HOME", raising=False)
    monkeypatch.setattr("mi_course.progress.platformdirs.user_data_dir", homeless)
    progress = Progress()
    with pytest.warns(ProgressWarning):
        progress.record_check("a.b", 1, "passed", 3, 3, None, "2026-01-01T00:00:00+00:00")
    assert [row.status for row in progress.rows()] == ["passed"]
