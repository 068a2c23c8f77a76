"""Grading on a Dask cluster of several worker processes: the same marks, also where a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from grading_kit import ZERO, notebook
from require import require

LONG_S = 600
"""A hang, not a speed."""


@pytest.fixture
def dask(tmp_path: Path, needs_sandbox) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a scheduler, and its two workers."""
    require("distributed", find_spec("distributed") is not None, 'Dask is missing: pip install "mi-course[cluster]".')
    file = tmp_path / "scheduler.json"
    told = ["--scheduler-file", str(file)]
    with ExitStack() as stack:

        def start(what: str, *words: str) -> subprocess.Popen:
            command = [sys.executable, "-m", "distributed.cli." + what, *told, *words]
            log = stack.enter_context(open(tmp_path / "log", "ab"))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
            stack.callback(process.kill)
            return process

        start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until = time.monotonic() + LONG_S
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        workers = [start("dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
        yield json.loads(file.read_text())["address"], workers


def start(folder: Path, out: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "mi_course", "grade", str(folder), "--out", str(out), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows_of(out: Path) -> list[dict]:
    rows = json.loads((out / "marks.json").read_text())["submissions"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.slow
def test_the_same_marks_though_a_worker_is_killed(dask, tmp_path: Path):
    address, workers = dask
    folder, here, there = tmp_path / "submissions", tmp_path / "here", tmp_path / "there"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.ipynb").write_text(json.dumps(notebook(before=f"x = {i}\nimport time\ntime.sleep(1)")))
    wrong = notebook({ZERO: "def zero_head(z, hook, head):\n    print('zzz')\n    return z"})
    (folder / "wrong, =1.ipynb").write_text(json.dumps(wrong))
    (folder / "dying.ipynb").write_text(json.dumps(notebook(before="import os\nos._exit(1)")))
    (folder / "broken.ipynb").write_text("{")

    process = start(folder, there, "--cluster", address)
    until = time.monotonic() + LONG_S
    while not list(there.glob(".grading/*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    nodes = children_of(workers[0].pid)
    workers[0].send_signal(signal.SIGKILL)
    told = process.communicate(timeout=LONG_S)[0]
    assert process.returncode == 0, told
    assert "7 submissions, 0 of them as marked before" in told
    until = time.monotonic() + 60
    while (alive := [pid for pid in nodes if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive, "a grader on the node outlived its worker"

    (here / ".grading").mkdir(parents=True)
    (here / ".grading" / "secret").write_text((there / ".grading" / "secret").read_text())
    process = start(folder, here, "-j", "2")
    told = process.communicate(timeout=LONG_S)[0]
    assert process.returncode == 0, told
    assert rows_of(here) == rows_of(there)
    assert (here / "marks.csv").read_text() == (there / "marks.csv").read_text()
    assert [row["points"] for row in rows_of(there)] == [5, 5, 5, 5, 0, 5, 3]
    # What a node marked is kept here like any other.
    told = start(folder, there, "-j", "1").communicate(timeout=LONG_S)[0]
    assert "6 of them as marked before" in told  # all but what could not be read


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task")
    return [int(one) for task in os.listdir(path) for one in (path / task / "children").read_text().split()]


def test_no_cluster_is_one_paragraph(tmp_path: Path):
    require("distributed", find_spec("distributed") is not None, 'Dask is missing: pip install "mi-course[cluster]".')
    (tmp_path / "a.ipynb").write_text("{}")
    told = start(tmp_path, tmp_path / "marks", "--cluster", "tcp://127.0.0.1:9", "-j", "2").communicate(timeout=LONG_S)
    assert "not both" in told[0]
    code = (
        "from mi_course.grading import cluster\ncluster.CONNECT_S = 0.5\n"
        "try: cluster.DaskBackend('tcp://127.0.0.1:9')\nexcept cluster.ClusterError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG_S).stdout
    assert told.startswith("No Dask scheduler answers at tcp://127.0.0.1:9")
    assert "`dask scheduler`" in told
