"""Tests marked `measured` hold a lesson's claims over more seeds, or on SmolLM2. A file of them runs again only if
something that its result depends on has changed since it passed (`passed.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import passed
import pytest

MARK = "mark.measured"
FILES = sorted(p for p in Path(__file__).parent.rglob("test_*.py") if MARK in p.read_text() and p != Path(__file__))


def run(file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The measured tests of a file in a process of their own; files that it opens are recorded in `folder`.

    Skips if one of them is skipped: then nothing is proved.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "measured", "-n", "0", str(file)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    env |= {"OMP_NUM_THREADS": "1"} | passed.recording(folder)
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=passed.ROOT, env=env)
    if result.returncode == 0 and " skipped" in result.stdout:
        pytest.skip(result.stdout[-1000:])
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [pytest.param(path, id=path.stem, marks=pytest.mark.xdist_group(f"measured:{path.stem}")) for path in FILES],
)
def test_measured(file: Path, tmp_path: Path, request: pytest.FixtureRequest):
    regardless = file.stem in passed.spot_checks([path.stem for path in FILES], 2)
    passed.verify(file.stem, partial(run, file), request, tmp_path, regardless=regardless)


def test_they_run_once():
    """In a run of the whole suite in a process of their own; where a file is named, as the tests that they are."""
    collect = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-n", "0"]
    both = [str(FILES[0]), __file__]
    for files, expected in ((both, False), (both[:1], True)):
        shown = subprocess.run(
            [*collect, "-m", "measured or slow", *files], capture_output=True, text=True, cwd=passed.ROOT
        )
        assert (f"{FILES[0].name}::" in shown.stdout) == expected, shown.stdout + shown.stderr


def test_no_two_files_share_a_key():
    stems = [path.stem for path in FILES]
    assert len(set(stems)) == len(stems)
