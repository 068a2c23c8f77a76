"""Where marks are kept: one file per finished submission, the moment it is finished, and the tables made from them.

    OUT/marks.csv         one row per submission, one column per exercise
    OUT/marks.json        everything
    OUT/.grading/secret   what makes the inputs unknowable; keep it, and marks can be reproduced
    OUT/.grading/KEY.json a finished submission; the key is of its content, the course's version, secret and options

Files are written aside and renamed, so that a grader killed at any point leaves whole files only.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import hmac
import io
import json
import os
import secrets
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from mi_course.grading.marking import ExerciseMark, Marks

__all__ = ["Store", "course_fingerprint", "write_tables"]

FORMAT = 1


class Store:
    """The finished submissions of one OUT folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / ".grading"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.secret = self._secret()

    def _secret(self) -> bytes:
        path = self.folder / "secret"
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        text = path.read_text().strip()
        if len(text) != 64:  # killed while it was written: nothing can have been marked with it
            atomic_write(path, secrets.token_hex(32), mode=0o600)
            text = path.read_text()
        return bytes.fromhex(text)

    def key(self, content: str, lesson: str | int | None, sandboxed: bool) -> str:
        """Of all that the marks depend on."""
        told = json.dumps([FORMAT, content, course_fingerprint(), str(lesson), sandboxed])
        return hmac.new(self.secret, told.encode(), hashlib.sha256).hexdigest()[:40]

    def get(self, key: str, name: str) -> Marks | None:
        """What was kept under this key. A file that is torn or of another form counts as absent."""
        try:
            return marks_of((self.folder / f"{key}.json").read_text(encoding="utf-8"), name)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def put(self, key: str, marks: Marks) -> None:
        atomic_write(self.folder / f"{key}.json", json.dumps(marks.to_json()))


def marks_of(text: str, name: str) -> Marks:
    """Marks as `to_json` gave them. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    found = json.loads(text)
    exercises = tuple(ExerciseMark(**{**one, "details": tuple(one["details"])}) for one in found.pop("exercises"))
    lists = {name: tuple(found.pop(name)) for name in ("lessons", "notes", "files", "reflections")}
    return Marks(**{**found, **lists, "submission": name}, exercises=exercises)


def atomic_write(path: Path, text: str, mode: int = 0o644) -> None:
    """The file as it was, or as it is to be; never a part."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(aside, path)


@cache
def course_fingerprint() -> str:
    """The course's version and a hash of all that marks depend on: its code, its notebooks, its data.

    The same wherever the course is installed, so that the nodes of a cluster can be compared.
    """
    from mi_course.content import data_dir, notebooks_dir, releases_dir
    from mi_course.lessons import catalogue
    from mi_course.version import __version__

    package = Path(__file__).resolve().parents[1]
    paths = {f"mi_course/{name}.py": package / f"{name}.py" for name in ("exercises", "content", "submission")}

    def add(place: str, folder: Path, pattern: str) -> None:
        paths.update({f"{place}/{path.relative_to(folder)}": path for path in folder.rglob(pattern)})

    for room in ("wire", "asking", "judging", "lessons", "interp", "grading"):
        add(f"mi_course/{room}", package / room, "*.py")
    for info in (None, *catalogue()):
        place = info.id if info else ""
        add(f"{place}/notebooks", notebooks_dir(info), "*.ipynb")
        add(f"{place}/releases", releases_dir(info), "*.json")
        if info is not None and info.folder:
            add(place, Path(info.folder), "*.py")
    add("data", data_dir(), "*.safetensors")
    add("data", data_dir(), "*.json")
    told = hashlib.sha256()
    for name, path in sorted(paths.items()):
        told.update(name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__}+{told.hexdigest()[:16]}"


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def write_tables(out: Path, rows: Iterable[Marks]) -> None:
    """marks.csv and marks.json."""
    from mi_course.version import __version__

    rows = list(rows)
    columns = list(dict.fromkeys(one.exercise for row in rows for one in row.exercises))
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(
        ["submission", "status", "points", "max_points", *columns, "sandboxed", "by_hand", "comment", "reason"]
    )
    for row in rows:
        points: dict[str, Any] = {one.exercise: one.points for one in row.exercises}
        cells = [row.submission, row.status, row.points, row.max_points, *(points.get(name, "") for name in columns)]
        by_hand = " ".join(one.exercise for one in row.exercises if one.given is not None)
        comments = [row.comment, *(f"{one.exercise}: {one.comment}" for one in row.exercises if one.comment)]
        cells += ["yes" if row.sandboxed else "NO", by_hand, " / ".join(filter(None, comments)), row.reason]
        table.writerow([escape_csv_cell(cell) for cell in cells])
    atomic_write(out / "marks.csv", text.getvalue())
    found = {
        "format": FORMAT,
        "course_version": __version__,
        "fingerprint": course_fingerprint(),
        "sandboxed": all(row.sandboxed for row in rows),
        "submissions": [row.to_json() for row in rows],
    }
    atomic_write(out / "marks.json", json.dumps(found, indent=1))


def escape_csv_cell(cell: Any) -> Any:
    """A cell that a spreadsheet shows and does not compute, on one line."""
    if not isinstance(cell, str):
        return cell
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)
    return f"'{shown}" if shown.lstrip()[:1] in ("=", "+", "-", "@", "|", "%") or cell[:1] in ("\t", "\r") else shown
