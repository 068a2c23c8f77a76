"""nbval executes each solution again and compares its outputs with those stored, unless a key says that it passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import passed
import pytest
import test_measured
import test_proofs

from mi_course import content, lessons
from mi_course.authoring.execute import environment

NOTEBOOKS = {info.notebook: content.notebook_path(info, solution=True) for info in lessons.OURS}
"""Name of the key -> notebook."""


def run_nbval(notebook: Path, folder: Path, root: Path = passed.ROOT) -> subprocess.CompletedProcess[str]:
    """Run nbval on a notebook; files that it opens are recorded in `folder`."""
    # -c and --rootdir keep it away from the settings of these tests.
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(notebook.parent), "-q"]
    command += ["-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=600", str(notebook)]
    env = environment(folder) | passed.recording(folder, root)
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=folder, env=env)


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(f"nbval:{name}")) for name in NOTEBOOKS]
)
def test_nbval(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    regardless = name in passed.spot_checks(list(NOTEBOOKS), 2)
    passed.verify(name, partial(run_nbval, NOTEBOOKS[name]), request, tmp_path, regardless=regardless)


# -- Keys -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository with a notebook that nbval has passed, and its key."""
    import numpy
    from safetensors.numpy import save_file

    root = tmp_path_factory.mktemp("repository")
    files = {
        "mi_course/__init__.py": "",
        "mi_course/used.py": "from mi_course import lazily\n",
        "mi_course/lazily.py": "def two():\n    from mi_course.late import TWO\n\n    return TWO\n",
        "mi_course/late.py": "TWO = 2\n",
        "mi_course/child.py": "",
        "mi_course/unrelated.py": "",
        "data/table.json": "[1]",
        "data/unrelated.json": "[1]",
        "constraints.txt": f"pytest=={pytest.__version__}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    save_file({"x": numpy.ones(1)}, root / "data" / "weights.safetensors")
    code = f"""import subprocess, sys
from safetensors.numpy import load_file
from mi_course import used
data = {str(root / "data")!r}
subprocess.run([sys.executable, "-c", "import mi_course.child"], check=True)
print(open(data + "/table.json").read(), load_file(data + "/weights.safetensors"), used.lazily.two())"""
    output = {"output_type": "stream", "name": "stdout", "text": "[1] {'x': array([1.])} 2\n"}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1, "source": code, "outputs": [output]}
    notebook = root / "solutions" / "90_tiny.ipynb"
    notebook.parent.mkdir()
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root))
        result = run_nbval(notebook, folder, root)
    assert result.returncode == 0, result.stdout
    assert passed.changes("90_tiny", root) == ["it has no key"]
    passed.write("90_tiny", 1, folder, root)
    return root


@pytest.mark.parametrize(
    ("name", "counts"),
    {
        "solutions/90_tiny.ipynb": True,
        "mi_course/used.py": True,
        "mi_course/late.py": True,
        "mi_course/child.py": True,
        "data/table.json": True,
        "data/weights.safetensors": True,
        "constraints.txt": True,
        "mi_course/unrelated.py": False,
        "data/unrelated.json": False,
    }.items(),
)
def test_a_key_holds_what_outputs_depend_on(verified: Path, name: str, counts: bool):
    assert passed.changes("90_tiny", verified) == []
    before = (verified / name).read_bytes()
    (verified / name).write_bytes(before + b"\n")
    try:
        assert passed.changes("90_tiny", verified) == ([f"{name} has changed"] if counts else [])
    finally:
        (verified / name).write_bytes(before)


def test_an_environment_within_the_clone_does_not_count(tmp_path: Path):
    rewritten = tmp_path / ".venv/lib/typeguard/__pycache__/__init__.cpython-311-pytest-9.2.0.pyc"
    module = tmp_path / "mi_course" / "__init__.py"
    module.parent.mkdir()
    module.write_text("")
    assert passed._sources([str(rewritten), str(module)], tmp_path) == {"mi_course/__init__.py"}


def test_a_key_is_for_one_python_model_and_set_of_versions(verified: Path, monkeypatch: pytest.MonkeyPatch):
    from mi_course.interp.models import smollm2

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "GGUF_SHA256", "0")
        patch.setattr(sys, "version_info", (3, 99))
        assert passed.changes("90_tiny", verified) == ["python is another", "model is another"]
    monkeypatch.setattr(passed, "version", lambda name: "0.1")
    assert passed.changes("90_tiny", verified) == [f"pytest 0.1 is installed, not =={pytest.__version__}"]


def test_the_modules_of_a_notebook_that_imports_another_course_are_unknown(verified: Path, tmp_path: Path):
    (tmp_path / "opened.txt").touch()
    with pytest.raises(ValueError, match="its modules are unknown"):
        passed.write("90_tiny", 1, tmp_path, verified)


def test_two_notebooks_run_whatever_their_keys_say():
    names = list(NOTEBOOKS)
    chosen = [tuple(passed.spot_checks(names, 2, f"commit {n}")) for n in range(50)]
    assert all(len(set(pair)) == 2 for pair in chosen)
    assert {name for pair in chosen for name in pair} == set(names)
    assert passed.spot_checks(names, 2, "a") == passed.spot_checks(names, 2, "a")


def test_every_key_belongs_to_something_that_is_run():
    keys = {path.stem for path in (passed.ROOT / "tests" / "keys").glob("*.json")}
    assert keys <= {*NOTEBOOKS, *(path.stem for path in test_measured.FILES), *test_proofs.NAMES}
