"""The parts that need no torch, on every other Python that the package supports and this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from require import require

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("torch_free.py")
PURE = ("filelock", "packaging", "platformdirs", "pygments", "rich", "markdown_it", "mdurl", "typer", "click")
PURE += ("shellingham", "annotated_doc", "typing_extensions")


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages in pure Python, copied from this environment: any Python can import them."""
    folder = tmp_path_factory.mktemp("pure")
    for name in PURE:
        spec = find_spec(name)
        assert spec is not None, name
        for place in spec.submodule_search_locations or ():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        if spec.submodule_search_locations is None:
            shutil.copy(str(spec.origin), folder)
    return folder


def run(*command: str | Path, variables: dict[str, str] | None = None) -> str:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | (variables or {})
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]  # Pyodide shows all of its JavaScript first
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_on_cpython(minor, pure):
    if sys.version_info[:2] == (3, minor):
        python = sys.executable
    else:
        versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
        python = next(map(str, versions.glob(f"3.{minor}.*/bin/python")), None) or shutil.which(f"python3.{minor}")
        require(f"python3.{minor}", python is not None and "shims" not in python, f"Python 3.{minor} is not here.")
    variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{pure}"}
    assert run(python, "-S", SCRIPT, variables=variables) == f"torch-free 3 {minor}"


def test_on_pyodide(pure):
    """WebAssembly, and the newest Python. MI_COURSE_PYODIDE names the folder of npm's package `pyodide`."""
    folder = os.environ.get("MI_COURSE_PYODIDE", "")
    require("pyodide", bool(folder) and bool(shutil.which("node")), "npm's pyodide: set MI_COURSE_PYODIDE, needs node.")
    assert run("node", Path(__file__).with_name("pyodide.mjs"), folder, SCRIPT, ROOT, pure).startswith("torch-free 3 ")
