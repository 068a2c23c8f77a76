"""Submissions as bytes: notebooks, folders and zip files, read without following, unpacking or running anything.

Nothing is ever written to disk, so a path in a zip leads nowhere; sizes are counted while reading, so a bomb ends at
its limit. What is left out is noted, and what cannot be read becomes a reason in the submission's row.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mi_course.submission import MAX_BYTES

__all__ = ["Entry", "Loaded", "find", "load"]

MAX_FILES = 40
"""Notebooks in one submission."""
MAX_MEMBERS = 2000
ZIP_BYTES = 64 * 2**20
TOTAL_BYTES = 2 * MAX_BYTES
DEPTH = 6
DIRECTORY_BYTES = 2 * 2**20
"""Of a zip's list of members, which `zipfile` reads whole before anybody can count them."""
MAX_NOTES = 20
CHUNK = 2**20
KINDS = (".ipynb", ".py")
SKIPPED = ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")
REPORTS = (
    *("marks.csv", "marks.json", "overrides.toml", "reflections.html", "similar.csv", "junit.xml"),
    *("gradescope", "classroom", "feedback"),
)
"""What a run of the grader writes."""


@dataclass(frozen=True)
class Entry:
    """One submission, not read yet."""

    name: str
    path: Path


@dataclass(frozen=True)
class Loaded:
    """What a submission holds: names and bytes of its notebooks, or else of its Python files."""

    files: tuple[tuple[str, bytes], ...] = ()
    problem: str = ""
    """Why there is nothing to mark."""
    notes: tuple[str, ...] = ()


class _Refused(Exception):
    pass


def find(place: Path, out: Path | None = None) -> list[Entry]:
    """The submissions in a folder, or the one in a file. Raises FileNotFoundError, or ValueError if there are none.

    Hidden files are no submissions, nor is `out`, where marks are written, or what stands in it. Anything else is one:
    a file that is no notebook gets a row that says so.
    """
    if not place.exists():
        raise FileNotFoundError(2, "there is no such file or folder", str(place))
    if not place.is_dir():
        return [Entry(place.name, place)]
    found = []
    for one in sorted(os.scandir(place), key=lambda one: one.name):
        if _hidden(one.name) or (out is not None and _written(Path(one.path), out)):
            continue
        found.append(Entry(one.name, Path(one.path)))
    if not found:
        raise ValueError(f"{place} holds no submission: no notebook, no folder and no zip file.")
    return found


def _written(path: Path, out: Path) -> bool:
    """Whether this is the folder with the marks, or one of its files."""
    same = not path.is_symlink() and path.resolve() == out.resolve()
    return same or (path.name in REPORTS and path.parent.resolve() == out.resolve())


def load(entry: Entry) -> Loaded:
    """Reads a submission. Raises nothing: whatever is wrong with it stands in `problem`."""
    notes: list[str] = []
    try:
        mode = os.lstat(entry.path).st_mode
        if stat.S_ISLNK(mode):
            raise _Refused("it is a symbolic link, which is not followed")
        if stat.S_ISDIR(mode):
            files = list(_from_folder(entry.path, notes))
        elif not stat.S_ISREG(mode):
            raise _Refused("it is neither a file nor a folder")
        elif _kind(entry.name) == ".zip":
            files = list(_from_zip(entry.path, notes))
        elif _kind(entry.name) in KINDS:
            files = [(entry.name, _read(entry.path, MAX_BYTES))]
        else:
            raise _Refused(
                "it is no notebook (.ipynb), Python file or zip file; JupyterLab saves one with File, Download"
            )
    except _Refused as refused:
        return Loaded((), f"Not read: {refused}.", _first(notes))
    except Exception as error:  # no list of what archives and file systems come up with is complete
        return Loaded((), f"Not read: {type(error).__name__}: {str(error)[:300]}.", _first(notes))
    notebooks = [one for one in files if _kind(one[0]) == ".ipynb"] or files
    if len(notebooks) < len(files):
        others = ", ".join(f"{name!r:.100}" for name, _ in files if _kind(name) != ".ipynb")
        notes.append(f"only notebooks are marked; what they import from {others[:300]} is not there")
    if not notebooks:
        return Loaded((), "It holds no notebook (.ipynb) and no Python file (.py).", _first(notes))
    if len(notebooks) > MAX_FILES:
        return Loaded((), f"It holds {len(notebooks)} notebooks; at most {MAX_FILES} are read.", _first(notes))
    return Loaded(tuple(sorted(notebooks)), "", _first(notes))


def _first(notes: list[str]) -> tuple[str, ...]:
    more = len(notes) - MAX_NOTES
    return (*notes[:MAX_NOTES], *([f"and {more:,} more like these"] if more > 0 else []))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def _kind(name: str) -> str:
    """The ending, in lower case; of `ada.ipynb.json` and `ada.ipynb.txt`, as browsers and mail save them, `.ipynb`."""
    name = re.sub(r"(\.ipynb)\.(json|txt)$", r"\1", name, flags=re.IGNORECASE)
    return os.path.splitext(name)[1].lower()


def _read(path: Path, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Refused(f"{path.name} is no ordinary file")
        raw = file.read(most + 1)
    if len(raw) > most:
        raise _Refused(f"{path.name} has more than {most // 2**20} MB; clear its outputs and save it again")
    return raw


def _from_folder(folder: Path, notes: list[str]) -> Iterator[tuple[str, bytes]]:
    total, members = 0, 0
    for here, folders, names in os.walk(folder, followlinks=False):
        members += len(folders)
        if members > MAX_MEMBERS:
            raise _Refused(f"it holds more than {MAX_MEMBERS:,} files")
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in folders:
            if Path(here, name).is_symlink():
                notes.append(f"{name} is a symbolic link to a folder, which is not followed")
        if folders and len(Path(here).relative_to(folder).parts) >= DEPTH:
            notes.append(f"folders more than {DEPTH} deep are not looked into, such as {Path(here, folders[0]).name}")
            folders.clear()
        for name in sorted(names):
            members += 1
            if members > MAX_MEMBERS:
                raise _Refused(f"it holds more than {MAX_MEMBERS:,} files")
            path = Path(here, name)
            if _hidden(name) or _kind(name) not in KINDS:
                continue
            if path.is_symlink():
                notes.append(f"{name} is a symbolic link, which is not followed")
                continue
            raw = _read(path, MAX_BYTES)
            total += len(raw)
            if total > TOTAL_BYTES:
                raise _Refused(f"its notebooks have more than {TOTAL_BYTES // 2**20} MB together")
            yield str(path.relative_to(folder)), raw


def _from_zip(path: Path, notes: list[str]) -> Iterator[tuple[str, bytes]]:
    if path.stat().st_size > ZIP_BYTES:
        raise _Refused(f"the zip file has more than {ZIP_BYTES // 2**20} MB")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(_Bounded(file)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _Refused(f"the zip file holds more than {MAX_MEMBERS:,} files")
            total, whole, broken = 0, False, None
            for member in members:
                if not _wanted(member, notes):
                    continue
                try:
                    raw = _unpacked(archive, member, min(MAX_BYTES, TOTAL_BYTES - total))
                except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # the others may be whole
                    notes.append(f"{member.filename!r:.100} in the zip cannot be unpacked ({str(error)[:100]})")
                    broken = error
                    continue
                total += len(raw)
                whole = True
                yield member.filename, raw
            if broken and not whole:
                raise broken
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _Refused(f"it is no zip file that can be read ({str(error)[:200]})") from None


class _Bounded:
    """A file that is never read in one piece of more than `DIRECTORY_BYTES`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.close, self.seekable = file.seek, file.tell, file.close, file.seekable

    def read(self, count: int = -1) -> bytes:
        chunk = self.file.read(count if 0 <= count <= DIRECTORY_BYTES else DIRECTORY_BYTES + 1)
        if len(chunk) > DIRECTORY_BYTES:
            raise _Refused("the zip file's list of members is too long")
        return chunk


def _wanted(member: zipfile.ZipInfo, notes: list[str]) -> bool:
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    if not parts.parts or member.is_dir() or any(_hidden(part) for part in parts.parts if part != ".."):
        return False
    shown = f"{member.filename!r:.100}"
    if stat.S_ISLNK(member.external_attr >> 16):
        notes.append(f"{shown} in the zip is a symbolic link, which is not followed")
        return False
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        notes.append(f"{shown} in the zip points out of it, and is left out")
        return False
    if _kind(member.filename) == ".zip":
        notes.append(f"{shown} is a zip file within the zip, and is left out")
    return _kind(member.filename) in KINDS


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    if member.flag_bits & 1:
        raise _Refused("the zip file is encrypted")
    if member.compress_type == zipfile.ZIP_LZMA:  # its header says how much memory unpacking takes
        raise _Refused("the zip file is compressed with LZMA; make an ordinary one")
    raw = bytearray()
    with archive.open(member) as file:
        while len(raw) <= most and (chunk := file.read(CHUNK)):
            raw += chunk
    if len(raw) > most:
        raise _Refused(f"{member.filename!r:.100} unpacks to more than {most // 2**20} MB")
    return bytes(raw)
