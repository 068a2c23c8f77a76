"""A Gradescope autograder: `setup.sh`, which builds its image, `run_autograder`, and the course, truth included.

AUTOGRADER_ROOT      replaces Gradescope's /autograder, in tests
source/setup.sh      installs Python, bubblewrap and what the course needs, once
source/run_autograder
source/course/       the package as a wheel lays it out
source/autograder.json
"""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from mi_course import content, lessons
from mi_course.interp.atomic_write import atomic_write

__all__ = ["export"]

PACKAGE = Path(__file__).resolve().parents[2]
SKIPPED = {"__pycache__", ".ipynb_checkpoints", "_content"}
WHEN = (2020, 1, 1, 0, 0, 0)
"""The same time for all files, so that the same course makes the same zip."""

SETUP = """\
#!/usr/bin/env bash
# Builds the image, once. Written by `mi-course export gradescope`.
set -euo pipefail
root=${AUTOGRADER_ROOT:-/autograder}

# The versions that are installed below were tested with Python 3.11; later ones do as well.
fitting() {
  for one in python3.11 python3.12 python3.13 python3.14; do
    if "$one" -c "" 2>/dev/null; then command -v "$one"; return; fi
  done
  return 1
}
if ! fitting >/dev/null || ! command -v bwrap >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq bubblewrap
  fitting >/dev/null || apt-get install -y -qq python3.11 python3.11-venv ||
    apt-get install -y -qq python3 python3-venv
fi
python=$(fitting || command -v python3)
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "The course needs Python 3.11 or later; this image has $("$python" --version). Choose a newer base image."
  exit 1
}
"$python" -m venv "$root/env" || { apt-get install -y -qq "$(basename "$python")-venv"; "$python" -m venv "$root/env"; }
pip() { "$root/env/bin/python" -m pip install -q -c "$root/source/course/mi_course/_content/constraints.txt" "$@"; }
pip @TORCH_OPTIONS@ torch
pip -r "$root/source/requirements.txt"
# Values that were found on SmolLM2 are judged on it. Without it the rest is marked all the same.
PYTHONPATH="$root/source/course" "$root/env/bin/python" -m mi_course models fetch smollm2 ||
  echo "SmolLM2 could not be fetched."
"""

RUN = """\
#!/usr/bin/env bash
# Marks what is in submission/, and writes results/results.json. Written by `mi-course export gradescope`.
root=${AUTOGRADER_ROOT:-/autograder}
python="$root/env/bin/python"
[ -x "$python" ] || python=${AUTOGRADER_PYTHON:-python3}
export PYTHONPATH="$root/source/course"
exec "$python" -m mi_course.grading.exports.autograder "$root"
"""


def export(path: Path, lesson: str | int | None = None, torch_options: str = "") -> Path:
    """Write the zip. lesson: which lesson all submissions answer; by default the files say so.

    torch_options: options for pip when it installs torch.
    Raises KeyError for an unknown lesson, ValueError for a plug-in's lesson or for options that a shell would not take
    literally.
    """
    info = None if lesson is None else lessons.find(lesson)
    if info is not None and info.folder:
        raise ValueError(f"{info.id} is a lesson of another package, which this zip does not hold.")
    if not re.fullmatch(r"[\w\s./:=+@~-]*", torch_options):
        raise ValueError(f"{torch_options!r} holds more than options and URLs.")
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "setup.sh", SETUP.replace("@TORCH_OPTIONS@", torch_options).encode(), 0o755)
            _add(archive, "run_autograder", RUN.encode(), 0o755)
            settings = {"lesson": info.id if info else None}
            _add(archive, "autograder.json", (json.dumps(settings) + "\n").encode())
            _add(archive, "requirements.txt", "".join(f"{line}\n" for line in _requirements()).encode())
            for source, name in _course():
                _add(archive, f"course/{name}", source.read_bytes())

    atomic_write(path, write)
    return path


def _add(archive: zipfile.ZipFile, name: str, raw: bytes, mode: int = 0o644) -> None:
    info = zipfile.ZipInfo(name, WHEN)
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, raw)


def _course() -> Iterator[tuple[Path, str]]:
    """Every file of the package, with notebooks, solutions and data where a wheel has them."""
    for path in _files(PACKAGE):
        yield path, f"mi_course/{path.relative_to(PACKAGE).as_posix()}"
    for folder in (content.notebooks_dir(), content.solutions_dir(), content.data_dir()):
        for path in _files(folder):
            yield path, f"mi_course/_content/{folder.name}/{path.relative_to(folder).as_posix()}"
    yield content.constraints_file(), "mi_course/_content/constraints.txt"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part in SKIPPED or part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _requirements() -> list[str]:
    """The course's dependencies without extras: those of the clone, or of the installed package."""
    project = content.root() / "pyproject.toml"
    if project.is_file():
        dependencies: list[str] = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
        return dependencies
    return [line for line in requires("mi-course") or [] if "extra ==" not in line]
