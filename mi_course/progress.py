"""What this learner has tried, passed and looked up: a small SQLite file in the user's data directory.

Several kernels may write at once. Every operation opens the file, runs one short transaction and closes it. The journal
is SQLite's rollback journal, which unlike WAL needs no shared memory and works on network drives. Whatever happens to
the file, checks go on: what cannot be stored is kept in memory, with one warning.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import platformdirs
from filelock import FileLock

__all__ = ["Progress", "ProgressWarning", "Row", "home_dir"]

FILE = "progress.sqlite3"
BUSY_S = 10.0
RANK = ("not_attempted", "timed_out", "crashed", "wrong", "passed")
"""From worst to best."""

MIGRATIONS = (
    """
    CREATE TABLE checks (
        number INTEGER PRIMARY KEY,
        exercise TEXT NOT NULL,
        revision INTEGER NOT NULL,
        status TEXT NOT NULL,
        points INTEGER NOT NULL,
        max_points INTEGER NOT NULL,
        mistake TEXT,
        at TEXT NOT NULL
    );
    CREATE INDEX checks_by_exercise ON checks (exercise);
    CREATE TABLE looked_up (
        exercise TEXT PRIMARY KEY,
        hints INTEGER NOT NULL DEFAULT 0,
        solution INTEGER NOT NULL DEFAULT 0
    );
    """,
)
"""Script i migrates the file from version i to i + 1 (`PRAGMA user_version`). Never edit a released one."""

T = TypeVar("T")
_warned: set[str] = set()


class ProgressWarning(UserWarning):
    """Progress is not being stored, or an unreadable file was set aside."""


@dataclass(frozen=True)
class Row:
    """One exercise that was tried or looked up."""

    exercise: str
    revision: int
    """The newest revision that was tried; status, points and attempts are of that one. 0: only looked up."""
    status: str
    """The best so far."""
    points: int
    """The most so far."""
    max_points: int
    attempts: int
    """Checks, `not_attempted` ones not counted."""
    hints: int
    solution_seen: bool
    mistake: str | None
    """The mistake that the last check recognized, or None."""
    first_at: str | None
    """ISO 8601, UTC."""
    last_at: str | None


def home_dir() -> Path:
    """The user's data directory for the course. `MI_COURSE_HOME` overrides it."""
    chosen = os.environ.get("MI_COURSE_HOME")
    if chosen:
        return Path(chosen).expanduser()
    try:
        return Path(platformdirs.user_data_dir("mi-course", appauthor=False))
    except RuntimeError:  # a user without a home: a path that cannot be written, so that progress is kept in memory
        return Path(os.devnull, "mi-course")


class Progress:
    """The store. Creating one touches no file, and no method raises because of the disk."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.path = (Path(home) if home is not None else home_dir()) / FILE
        self.problem: str | None = None
        """Why nothing is stored; None while storing works."""
        self._memory: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    # -- Writing ------------------------------------------------------------------------------------------------------

    def record_check(
        self,
        exercise: str,
        revision: int,
        status: str,
        points: int,
        max_points: int,
        mistake: str | None = None,
        at: str | datetime | None = None,
    ) -> int:
        """Record a verdict. at: now unless given. Returns the attempts at this revision, as `Row.attempts` counts."""
        if status not in RANK:
            raise ValueError(f"status is {status!r}, expected one of {', '.join(RANK)}")
        stamp = at if isinstance(at, str) else (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")

        def record(db: sqlite3.Connection) -> int:
            db.execute(
                "INSERT INTO checks (exercise, revision, status, points, max_points, mistake, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (exercise, revision, status, points, max_points, mistake, stamp),
            )
            count = "SELECT count(*) FROM checks WHERE exercise = ? AND revision = ? AND status != 'not_attempted'"
            return int(db.execute(count, (exercise, revision)).fetchone()[0])

        return self._do(record)

    def record_hint(self, exercise: str) -> int:
        """Record that a hint was shown. Returns its number, from 1."""

        def more(db: sqlite3.Connection) -> int:
            db.execute(
                "INSERT INTO looked_up (exercise, hints) VALUES (?, 1)"
                " ON CONFLICT (exercise) DO UPDATE SET hints = hints + 1",
                (exercise,),
            )
            return _hints(db, exercise)

        return self._do(more)

    def record_solution(self, exercise: str) -> None:
        """Record that the solution was shown."""
        self._do(
            lambda db: db.execute(
                "INSERT INTO looked_up (exercise, solution) VALUES (?, 1)"
                " ON CONFLICT (exercise) DO UPDATE SET solution = 1",
                (exercise,),
            )
        )

    def forget(self, which: str) -> None:
        """Delete the records of an exercise (`"induction_heads.induction_score"`) or a lesson (`"induction_heads"`)."""

        def drop(db: sqlite3.Connection) -> None:
            for table in ("checks", "looked_up"):
                db.execute(
                    f"DELETE FROM {table} WHERE exercise = ? OR substr(exercise, 1, ?) = ?",
                    (which, len(which) + 1, which + "."),
                )

        self._do(drop)

    # -- Reading ------------------------------------------------------------------------------------------------------

    def hints_shown(self, exercise: str) -> int:
        """The number of hints shown for this exercise."""
        return self._do(lambda db: _hints(db, exercise), write=False)

    def rows(self, lesson: str | None = None) -> list[Row]:
        """One row per exercise that was tried or looked up, sorted by id; of one lesson if it is named."""
        return self._do(lambda db: list(_rows(db, lesson)), write=False)

    # -- The file -----------------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[sqlite3.Connection], T], write: bool = True) -> T:
        with self._lock:
            if self._memory is None:
                try:
                    return self._on_disk(work, write)
                except (OSError, sqlite3.Error) as error:
                    self._fall_back(error)
            assert self._memory is not None
            with self._memory:
                return work(self._memory)

    def _on_disk(self, work: Callable[[sqlite3.Connection], T], write: bool) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            try:
                with _connect(self.path) as db:
                    _migrate(db)
                    db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                    try:
                        result = work(db)
                        db.execute("COMMIT")
                    except BaseException:
                        with contextlib.suppress(sqlite3.Error):
                            db.execute("ROLLBACK")
                        raise
                    return result
            except sqlite3.DatabaseError as error:
                if last or not _corrupt(error):
                    raise
                self._set_aside()
        raise AssertionError("unreachable")

    def _set_aside(self) -> None:
        """Rename an unreadable file. One process does it; the others then find a sound file."""
        with FileLock(self.path.with_suffix(".lock"), timeout=BUSY_S):
            if _sound(self.path):
                return
            aside = self.path.with_name(f"progress.unreadable-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.sqlite3")
            for ending in ("", "-journal", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{ending}", f"{aside}{ending}")
        _warn_once(
            f"aside {self.path}",
            f"Your progress file could not be read. It was kept as {aside}, and a new one was started.",
        )

    def _fall_back(self, error: Exception) -> None:
        self.problem = f"{type(error).__name__}: {error}"
        self._memory = sqlite3.connect(":memory:", check_same_thread=False)
        # Copy what is readable, so that it stays visible.
        with contextlib.suppress(sqlite3.Error, OSError):
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as old:
                if old.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
                    old.backup(self._memory)
        try:
            self._memory.execute("SELECT 1 FROM checks, looked_up").fetchone()
        except sqlite3.Error:
            self._memory.close()
            self._memory = sqlite3.connect(":memory:", check_same_thread=False)
            for script in MIGRATIONS:
                self._memory.executescript(script)
        _warn_once(
            f"memory {self.path}",
            f"Your progress is not being stored ({self.problem}; {self.path}). Checks work as usual. "
            "To store it, make that folder writable or set MI_COURSE_HOME to one that is.",
        )


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise sqlite3.OperationalError(
            f"written by a newer mi-course, version {version} of the file; update the course"
        )
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]  # another kernel may have been first
        for number in range(version, len(MIGRATIONS)):
            for statement in MIGRATIONS[number].split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(error)


def _sound(path: Path) -> bool:
    try:
        with _connect(path) as db:
            _migrate(db)
            list(_rows(db, None))
            return db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.DatabaseError as error:
        if _corrupt(error):
            return False
        raise


def _hints(db: sqlite3.Connection, exercise: str) -> int:
    row = db.execute("SELECT hints FROM looked_up WHERE exercise = ?", (exercise,)).fetchone()
    return row[0] if row else 0


def _rows(db: sqlite3.Connection, lesson: str | None) -> Iterator[Row]:
    looked_up = {name: rest for name, *rest in db.execute("SELECT exercise, hints, solution FROM looked_up")}
    checks: dict[str, list[tuple]] = {}
    for name, *rest in db.execute(
        "SELECT exercise, revision, status, points, max_points, mistake, at FROM checks ORDER BY number"
    ):
        checks.setdefault(name, []).append(tuple(rest))
    for name in sorted({*looked_up, *checks}):
        if lesson is not None and name.partition(".")[0] != lesson:
            continue
        hints, solution = looked_up.get(name, (0, 0))
        tried = checks.get(name, [])
        revision = max((check[0] for check in tried), default=0)
        tried = [check for check in tried if check[0] == revision]
        yield Row(
            exercise=name,
            revision=revision,
            status=max((check[1] for check in tried), key=_rank, default="not_attempted"),
            points=max((check[2] for check in tried), default=0),
            max_points=tried[-1][3] if tried else 0,
            attempts=sum(check[1] != "not_attempted" for check in tried),
            hints=hints,
            solution_seen=bool(solution),
            mistake=tried[-1][4] if tried else None,
            first_at=tried[0][5] if tried else None,
            last_at=tried[-1][5] if tried else None,
        )


def _rank(status: str) -> int:
    return RANK.index(status) if status in RANK else -1


def _warn_once(key: str, message: str) -> None:
    if key not in _warned:
        _warned.add(key)
        warnings.warn(message, ProgressWarning, stacklevel=2)
