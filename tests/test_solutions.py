"""The executed solutions say today what they said when they were made: nbval runs each of them again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mi_course import content, lessons

NOTEBOOKS = [content.solutions_dir(info) / f"{info.notebook}.ipynb" for info in lessons.OURS]


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_nbval(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path))
    nbval = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q"]
    # Away from the project's own pytest settings, which are for the tests.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        "--rootdir",
        str(notebook.parent),
        *nbval,
        str(notebook),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
