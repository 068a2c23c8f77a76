"""The learner's folder: copies of the notebooks, and a manifest of what was delivered.

The first rule: what the learner wrote is never overwritten. A notebook counts as unchanged only if the hash of every
cell is that of a delivered cell, and no cell was added or deleted. Files that cannot be read are left alone.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mi_course.content import (
    cell_hashes,
    exercise_of,
    known_hashes,
    notebook_path,
    notebooks_dir,
    read_notebook,
    released_hashes,
    source,
    source_hash,
    top_level_names,
)
from mi_course.errors import CourseError
from mi_course.interp.atomic_write import atomic_write
from mi_course.lessons import LessonInfo, catalogue, find
from mi_course.submission import SubmissionError, parse
from mi_course.version import __version__

__all__ = ["Change", "LabError", "Workspace"]

MANIFEST = ".mi-course.json"
BACKUPS = "backups"


class LabError(CourseError):
    """The folder cannot be used, or a notebook cannot be reset."""


@dataclass(frozen=True)
class Change:
    """What happened to one file."""

    what: str
    """new, replaced, beside (the new edition beside the learner's work), carried, reset or left."""
    path: Path
    message: str = ""


@dataclass
class Workspace:
    """A learner's folder. Only `update` and `reset` touch files."""

    folder: Path
    changes: list[Change] = field(default_factory=list)

    def update(self, upgrade: bool = False) -> list[Change]:
        """Copy every notebook of the course here.

        Unchanged ones are replaced by newer ones. Where the learner changed one, the newer one is put beside it as
        `02_induction_heads.v0.2.0.ipynb`; with `upgrade`, the answers are carried over into it and the old one goes to
        `backups/`. Raises LabError if the folder cannot be written.
        """
        self.changes = []
        with self._locked() as manifest:
            delivered = manifest["notebooks"]
            for info in catalogue():
                if notebook_path(info).is_file():
                    ours = read_notebook(info)
                    if self._deliver(info, ours, delivered.get(info.notebook), upgrade):
                        delivered[info.notebook] = cell_hashes(ours)
            manifest["course_version"] = __version__
            self._syllabus(manifest)
        return self.changes

    def reset(self, which: str | int, exercise: str | None = None) -> list[Change]:
        """Reset a notebook, or the answer cell of one exercise, after a copy to `backups/`. Raises LabError."""
        self.changes = []
        try:
            info = find(which)
        except KeyError as error:
            raise LabError(f"{error.args[0]}.") from None
        target = self.folder / f"{info.notebook}.ipynb"
        if not self.folder.is_dir():
            raise LabError(f"There is no folder {self.folder}. Say where your notebooks are: --dir FOLDER.")
        ours = read_notebook(info)
        with self._locked() as manifest:
            if exercise is None:
                made = ours
                manifest["notebooks"][info.notebook] = cell_hashes(ours)
            else:
                made = self._with_reset_cell(info, ours, target, exercise)
            if target.exists():
                self._back_up(target)
            atomic_write(target, _text(made))
            self.changes.append(Change("reset", target, exercise or ""))
        return self.changes

    # -- One notebook -------------------------------------------------------------------------------------------------

    def _deliver(self, info: LessonInfo, ours: dict[str, Any], before: Mapping[str, str] | None, upgrade: bool) -> bool:
        """Whether the learner's notebook now is, or descends from, the current edition."""
        target = self.folder / f"{info.notebook}.ipynb"
        now = cell_hashes(ours)
        if not target.exists():
            atomic_write(target, _text(ours))
            self.changes.append(Change("new", target))
            return True
        try:
            theirs = parse(target.read_bytes(), target.name)
        except (SubmissionError, OSError) as error:
            self.changes.append(Change("left", target, f"it cannot be read, so it was left alone ({error})"))
            if before != now:
                self._put_beside(info, ours)
            return False
        before = before or _edition(theirs, info)
        if _hashes(theirs) == now or (before is not None and _hashes(theirs) == before):
            if _hashes(theirs) != now:
                atomic_write(target, _text(ours))
                self.changes.append(Change("replaced", target, "you had not changed it"))
            return True
        if before == now:
            return True
        if not upgrade:
            self._put_beside(info, ours)
            return False
        self._carry(info, ours, theirs, before, target)
        return True

    def _put_beside(self, info: LessonInfo, ours: dict[str, Any]) -> None:
        beside = self.folder / f"{info.notebook}.v{__version__}.ipynb"
        if not beside.exists():
            atomic_write(beside, _text(ours))
            message = f"you changed {info.notebook}.ipynb, so it stays; `mi-course lab --upgrade` carries answers over"
            self.changes.append(Change("beside", beside, message))

    def _carry(
        self,
        info: LessonInfo,
        ours: dict[str, Any],
        theirs: dict[str, Any],
        before: Mapping[str, str] | None,
        target: Path,
    ) -> None:
        delivered = {*(before or {}).values(), *(value for values in known_hashes(info).values() for value in values)}
        made, lost = carry(ours, theirs, before or {}, delivered)
        kept = self._back_up(target)
        atomic_write(target, _text(made))
        beside = self.folder / f"{info.notebook}.v{__version__}.ipynb"
        if _is_as_delivered(beside, ours):
            beside.unlink()
        message = f"your answers are in the new one; the old one is {kept.relative_to(self.folder)}"
        if lost:
            message += f"; not carried over, because the course changed them too: {', '.join(lost)}"
        self.changes.append(Change("carried", target, message))

    def _with_reset_cell(self, info: LessonInfo, ours: dict[str, Any], target: Path, exercise: str) -> dict[str, Any]:
        name = exercise.removeprefix(f"{info.id}.")
        fresh = next((cell for cell in ours["cells"] if exercise_of(cell) == f"{info.id}.{name}"), None)
        if fresh is None:
            known = ", ".join(exercise_of(c).partition(".")[2] for c in ours["cells"] if exercise_of(c))
            raise LabError(f"Lesson {info.id} has no exercise {exercise!r}; it has {known}.")
        try:
            raw = target.read_bytes()
            parse(raw, target.name)
            made = json.loads(raw)
        except FileNotFoundError:
            raise LabError(f"There is no {target}. `mi-course lab` brings it back.") from None
        except (SubmissionError, ValueError) as error:
            raise LabError(f"{error} `mi-course reset {info.number:02d}` replaces it, and keeps a copy.") from None
        cells = [cell for cell in made.get("cells", ()) if isinstance(cell, dict)]
        mine = [cell for cell in cells if cell.get("id") == fresh["id"]]
        mine = mine or [cell for cell in cells if name in top_level_names(source(cell)) and _is_code(cell)]
        if not mine:
            raise LabError(
                f"{target.name} has no cell that answers {name} any more. `mi-course reset {info.number:02d}` "
                "brings the whole notebook back, and keeps a copy of yours."
            )
        mine[-1] |= {"source": fresh["source"], "outputs": [], "execution_count": None}
        return made

    def _syllabus(self, manifest: dict[str, Any]) -> None:
        """Update README.md, by the same rule as the notebooks."""
        path, ours = self.folder / "README.md", notebooks_dir() / "README.md"
        if not ours.is_file():
            return
        text = ours.read_text(encoding="utf-8")
        theirs = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        if theirs is None or source_hash(theirs) == manifest.get("syllabus"):
            if theirs != text:
                atomic_write(path, text)
            manifest["syllabus"] = source_hash(text)

    def _back_up(self, path: Path) -> Path:
        """Copy to `backups/` under a name with the current time that is not taken."""
        folder = self.folder / BACKUPS
        folder.mkdir(exist_ok=True)
        stem = f"{path.stem}.{datetime.now():%Y-%m-%d-%H%M%S}"
        for number in range(1, 1000):
            kept = folder / (f"{stem}.ipynb" if number == 1 else f"{stem}-{number}.ipynb")
            if not kept.exists():
                _copy(path, kept)
                return kept
        raise LabError(f"{folder} has 999 backups of this second; try again.")

    # -- The manifest -------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """The manifest, locked against other processes; written back at the end, also after an error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".mi-course.lock", timeout=30):
                manifest = self._manifest()
                before = copy.deepcopy(manifest)
                try:
                    yield manifest
                finally:
                    if manifest != before:
                        atomic_write(self.folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        except Timeout:
            raise LabError(f"Another mi-course has locked {self.folder} for 30 seconds. Try again.") from None
        except OSError as error:
            raise LabError(
                f"{self.folder} cannot be written: {error.strerror or error}. Nothing of yours was changed. "
                "Free some space, or choose another folder with --dir FOLDER."
            ) from error

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            notebooks = {
                str(name): {str(id): str(value) for id, value in cells.items()}
                for name, cells in manifest["notebooks"].items()
            }
            syllabus = {"syllabus": manifest["syllabus"]} if isinstance(manifest.get("syllabus"), str) else {}
            return {"course_version": str(manifest["course_version"]), "notebooks": notebooks, **syllabus}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            # Lost or damaged: the hashes of the released versions still tell what is unchanged.
            return {"course_version": "", "notebooks": {}}


# ---------------------------------------------------------------------------------------------------------------------
# Carrying a learner's work over


def carry(
    ours: dict[str, Any], theirs: dict[str, Any], before: Mapping[str, str], delivered: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The current edition with a learner's answers, added cells, and changes to cells that the course did not change.

    before: cell id -> hash in the edition that theirs descends from. delivered: every hash of the course's own texts.
    Also returns the ids of cells that both changed; the learner's version of these is only in the backup.
    """
    made = copy.deepcopy(ours)
    by_id = {cell["id"]: cell for cell in made["cells"]}
    now = _hashes(ours)
    answers = {exercise_of(cell).partition(".")[2]: cell for cell in made["cells"] if exercise_of(cell)}
    filled: set[str] = set()
    lost: list[str] = []
    taken, last = set(by_id), ""
    after: dict[str, list[dict[str, Any]]] = {}
    for cell in theirs["cells"]:
        text, id = source(cell), cell["id"]
        last = id if id in by_id else last
        if source_hash(text) in delivered or not text.strip():
            continue
        # Copying a cell, or another editor, can lose its id: the name that it defines tells which answer it is.
        named = [name for name in answers if _is_code(cell) and name in top_level_names(text)]
        if id not in by_id and len(named) == 1 and answers[named[0]]["id"] not in filled:
            id = last = answers[named[0]]["id"]
        if id not in by_id:
            added = _added(cell, taken)
            taken.add(added["id"])
            after.setdefault(last, []).append(added)
        elif exercise_of(by_id[id]) or before.get(id) == now[id]:
            by_id[id]["source"] = text
            filled.add(id)
        else:
            lost.append(id)
    cells = after.get("", [])
    for cell in made["cells"]:
        cells = [*cells, cell, *after.get(cell["id"], ())]
    made["cells"] = cells
    return made, lost


def _added(cell: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """The learner's cell with a valid, unused id."""
    kind = cell["cell_type"] if cell["cell_type"] in ("code", "markdown", "raw") else "raw"
    id = cell["id"] if 0 < len(cell["id"]) <= 64 and cell["id"].replace("-", "").replace("_", "").isalnum() else "added"
    stem, number = id[:56], 1
    while id in taken:
        number += 1
        id = f"{stem}-{number}"
    made = {"cell_type": kind, "id": id, "metadata": {}, "source": source(cell)}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def _edition(notebook: dict[str, Any], info: LessonInfo) -> dict[str, str] | None:
    """The edition that a notebook's metadata names; None if no released version has it."""
    metadata = notebook["metadata"].get("mi_course")
    version = metadata.get("course_version") if isinstance(metadata, dict) else None
    return released_hashes(version).get(info.notebook) if isinstance(version, str) else None


def _is_as_delivered(path: Path, ours: dict[str, Any]) -> bool:
    try:
        return _hashes(parse(path.read_bytes(), path.name)) == _hashes(ours)
    except (SubmissionError, OSError):
        return False


def _hashes(notebook: dict[str, Any]) -> dict[str, str]:
    """Cell id -> hash. Shared or missing ids get new names, so that the notebook differs from any delivered one."""
    made: dict[str, str] = {}
    for number, cell in enumerate(notebook["cells"]):
        id = cell["id"] if cell["id"] not in made else f"{cell['id']}#{number}"
        made[id] = source_hash(source(cell))
    return made


def _is_code(cell: dict[str, Any]) -> bool:
    return cell.get("cell_type") == "code"


# ---------------------------------------------------------------------------------------------------------------------
# Files


def _text(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _copy(path: Path, to: Path) -> None:
    try:
        shutil.copy2(path, to)
    except BaseException:
        to.unlink(missing_ok=True)
        raise
