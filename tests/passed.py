"""Keys of what has passed: a notebook's nbval, a file of measured tests, or the proof of a lesson's exercises need not
run again while nothing that its result depends on has changed.

`keys/<name>.json` says how many tests passed, with which Python, platform and model, and gives the hash of every file
of the repository that they read: themselves, the modules that their processes imported, data, and `constraints.txt`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONSTRAINTS = "constraints.txt"
TRACED = ("mi_course", "data", "notebooks", "solutions", "tests")
"""The folders whose files count."""
VERIFIED = "verified"
"""A property of a skipped test: for how many tests its key vouches."""

RECORDER = '''"""Appends the path of every file under RECORD_ROOT that this process opens to RECORD_FILE."""

import os
import sys

import safetensors

root = os.path.realpath(os.environ["RECORD_ROOT"]) + os.sep
log = os.open(os.environ["RECORD_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
seen = set()


def record(path):
    if isinstance(path, int):
        return
    path = os.path.realpath(os.fsdecode(path))
    if path.startswith(root) and path not in seen:
        seen.add(path)
        os.write(log, f"{path}\\n".encode())


def safe_open(filename, *args, original=safetensors.safe_open, **options):
    record(filename)  # it opens files in Rust, where no audit event is raised
    return original(filename, *args, **options)


safetensors.safe_open = safe_open
sys.addaudithook(lambda event, args: record(args[0]) if event == "open" else None)
'''


def recording(folder: Path, root: Path = ROOT) -> dict[str, str]:
    """Environment variables with which every Python process records the files under `root` that it opens.

    Python imports `sitecustomize` at its start, so child processes record too, and a killed kernel loses nothing.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(RECORDER)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "RECORD_ROOT": str(root),
        "RECORD_FILE": str(folder / "opened.txt"),
    }


def write(name: str, tests: int, folder: Path, root: Path = ROOT) -> None:
    """Write the key of so many tests, all of which passed while `recording(folder)` was in force."""
    opened = (folder / "opened.txt").read_text().splitlines()
    files = {CONSTRAINTS, *_sources(opened, root)}
    if "mi_course/__init__.py" not in files:
        raise ValueError(f"{name} did not import mi_course from {root}: its modules are unknown")
    key = {**_machine(), "tests": tests, "files": {file: _hash(root / file) for file in sorted(files)}}
    path = _path(name, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(key, indent=1) + "\n")


def changes(name: str, root: Path = ROOT) -> list[str]:
    """Why this must run again: what has changed since it passed. Empty if its key still holds."""
    try:
        key = json.loads(_path(name, root).read_text())
        files = dict(key["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return ["it has no key"]
    changed = [f"{name} is another" for name, value in _machine().items() if key.get(name) != value]
    changed += [f"{name} has changed" for name, value in files.items() if _hash(root / name) != value]
    return changed + _off_constraints(root / CONSTRAINTS)


def verify(
    name: str,
    run: Callable[[Path], subprocess.CompletedProcess[str]],
    request: pytest.FixtureRequest,
    folder: Path,
    *,
    regardless: bool,
    root: Path = ROOT,
) -> None:
    """Run tests, unless their key says that they pass; fail if one fails, and write the key if asked.

    run(folder): pytest in a process of its own, under the influence of `recording(folder)`.
    regardless: whatever the key says.
    """
    changed = changes(name, root)
    if not (changed or request.config.getoption("--all") or regardless):
        request.node.user_properties.append((VERIFIED, json.loads(_path(name, root).read_text()).get("tests", 0)))
        pytest.skip("verified: nothing that its result depends on has changed since it passed")
    result = run(folder)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    if request.config.getoption("--write-keys"):
        write(name, _tests(result.stdout), folder, root)
    elif changed:
        shown = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        warnings.warn(f"{name} passed without a valid key ({shown}): --write-keys records it", stacklevel=2)


def spot_checks(names: Sequence[str], count: int, commit: str | None = None) -> list[str]:
    """Those that run whatever their keys say; which they are depends on the commit."""
    if commit is None:
        git = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    return random.Random(commit).sample(list(names), count)


def _path(name: str, root: Path) -> Path:
    return root / "tests" / "keys" / f"{name}.json"


def _tests(output: str) -> int:
    """How many passed, by the last line of pytest."""
    return int(re.findall(r"(\d+) passed", output)[-1])


def _machine() -> dict[str, str]:
    from mi_course.interp.models import smollm2

    return {
        "python": "{}.{}".format(*sys.version_info),
        "platform": f"{platform.system()} {platform.machine()}",
        "model": f"{smollm2.FOLDER} {smollm2.GGUF_SHA256}",
    }


def _sources(opened: Iterable[str], root: Path) -> set[str]:
    """Names of the files that count, with the source in place of its bytecode."""
    names, top = set(), os.path.realpath(root)
    for path in map(Path, opened):
        if path.relative_to(top).parts[0] not in TRACED:  # an environment within the clone, say
            continue
        if path.suffix == ".pyc" and path.parent.name == "__pycache__":
            path = path.parents[1] / f"{path.name.partition('.')[0]}.py"  # pytest's bytecode has a name of its own
        if "__pycache__" not in path.parts and path.is_file():
            names.add(path.relative_to(top).as_posix())
    return names


def _hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _off_constraints(path: Path) -> list[str]:
    """Installed packages whose versions are not those of the constraints: keys do not speak about them."""
    wrong = []
    for line in path.read_text().splitlines():
        pin = line.partition("#")[0].strip()
        if not pin:
            continue
        requirement = Requirement(pin)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is installed, not {requirement.specifier}")
    return wrong
