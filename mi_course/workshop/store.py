"""Where a workshop is kept: a log that only grows, in SQLite or PostgreSQL. Everything shown is computed from it.

An entry is committed before it is acknowledged. The keys of learners' events are unique, so an event that is sent
twice is stored once. Entries become visible in the order of their numbers, so that whoever has read up to a number
misses nothing; on PostgreSQL a lock sees to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Entry", "PostgresStore", "Session", "SqliteStore", "Store", "StoreUnavailable", "open_store"]

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS sessions (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, created DOUBLE PRECISION NOT NULL, secret TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS log (
        number {serial},
        session TEXT NOT NULL,
        participant TEXT,
        key TEXT,
        kind TEXT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        body TEXT NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX IF NOT EXISTS log_keys ON log (session, participant, key)",
    "CREATE INDEX IF NOT EXISTS log_order ON log (session, number)",  # what is new is read after each commit
    """
    CREATE TABLE IF NOT EXISTS links (
        digest TEXT PRIMARY KEY, session TEXT NOT NULL, name TEXT NOT NULL, until DOUBLE PRECISION NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS presence (
        session TEXT, participant TEXT, at DOUBLE PRECISION NOT NULL, PRIMARY KEY (session, participant)
    )
    """,
)
SCHEMA_VERSION = 1
PAGE = 5_000
"""Entries that are read at once."""


class StoreUnavailable(Exception):
    """The database cannot be reached now. Nothing was stored; trying again later is right."""


@dataclass(frozen=True)
class Session:
    """One workshop."""

    id: str
    title: str
    created: float
    secret: str = field(repr=False)
    """Signs the tokens of this session."""


@dataclass(frozen=True)
class Entry:
    """Something that happened. `body` is plain JSON."""

    kind: str
    participant: str | None
    at: float
    body: dict[str, Any]
    key: str | None = None
    number: int = 0
    """Its place in the log; 0 before it is stored."""


class Store(Protocol):
    """What both databases do. Methods may be called from several threads, and raise StoreUnavailable."""

    def sessions(self) -> list[Session]: ...
    def create(self, session: Session) -> None: ...
    def append(self, session: str, entries: Sequence[Entry]) -> None: ...
    def read(self, session: str, after: int = 0, limit: int = PAGE) -> list[Entry]: ...
    def read_all(self, session: str, after: int = 0) -> Iterator[Entry]: ...
    def forget(self, session: str, participant: str) -> None: ...
    def purge(self, session: str) -> None: ...
    def add_link(self, session: str, digest: str, name: str, until: float) -> None: ...
    def use_link(self, session: str, digest: str) -> str | None: ...
    def touch(self, session: str, seen: dict[str, float]) -> None: ...
    def presence(self, session: str) -> dict[str, float]: ...
    def watch(self, session: str, changed: Callable[[], None]) -> Callable[[], None]: ...
    def close(self) -> None: ...


def open_store(database: str | Path) -> Store:
    """The store at a path, or at a `postgresql://` address. Raises StoreUnavailable or ModuleNotFoundError."""
    text = str(database)
    return PostgresStore(text) if text.startswith(("postgresql://", "postgres://")) else SqliteStore(Path(text))


class _Sql:
    """The statements that both databases share, with `?` for arguments."""

    serial = ""

    def _run(self, work: Callable[[Any], Any], writes: bool = True) -> Any:
        """Call `work(execute)`, in one transaction if it writes."""
        raise NotImplementedError

    def _migrate(self, execute: Any) -> None:
        for statement in SCHEMA:
            execute(statement.format(serial=self.serial))

    def sessions(self) -> list[Session]:
        """All of them, the newest last."""
        query = "SELECT id, title, created, secret FROM sessions ORDER BY created"
        rows = self._run(lambda e: e(query).fetchall(), writes=False)
        return [Session(*row) for row in rows]

    def create(self, session: Session) -> None:
        values = (session.id, session.title, session.created, session.secret)
        self._run(lambda e: e("INSERT INTO sessions (id, title, created, secret) VALUES (?, ?, ?, ?)", values))

    def append(self, session: str, entries: Sequence[Entry]) -> None:
        """Commit the entries, in order. Those whose keys are known change nothing."""
        rows = [(entry.participant, entry.key, entry.kind, entry.at, json.dumps(entry.body)) for entry in entries]

        def work(execute: Any) -> None:
            self._in_order(execute)
            self._insert(execute, session, rows)
            self._announce(execute, session)

        if entries:
            self._run(work)

    def read(self, session: str, after: int = 0, limit: int = PAGE) -> list[Entry]:
        """The first entries with larger numbers, in order."""
        return list(self._run(lambda execute: self._select(execute, session, after, limit), writes=False))

    def read_all(self, session: str, after: int = 0) -> Iterator[Entry]:
        """All entries with larger numbers, in order."""
        more = True
        while more:
            page = self.read(session, after)
            yield from page
            more = len(page) == PAGE
            after = page[-1].number if page else after

    def _insert(self, execute: Any, session: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """rows: participant, key, kind, at, and body as JSON."""
        raise NotImplementedError

    def _select(self, execute: Any, session: str, after: int, limit: int) -> list[Entry]:
        raise NotImplementedError

    def forget(self, session: str, participant: str) -> None:
        """Delete all that is stored of a participant, and note that someone without a name was deleted."""

        def work(execute: Any) -> None:
            self._in_order(execute)
            for table in ("log", "presence"):
                execute(f"DELETE FROM {table} WHERE session = ? AND participant = ?", (session, participant))
            execute(
                "INSERT INTO log (session, participant, key, kind, at, body) VALUES (?, ?, 'forgotten', ?, ?, '{}')",
                (session, participant, "forgotten", time.time()),
            )
            self._announce(execute, session)

        self._run(work)
        self._shrink()

    def purge(self, session: str) -> None:
        """Delete a whole session. Servers that run on it end it."""

        def work(execute: Any) -> None:
            for table in ("log", "links", "presence"):
                execute(f"DELETE FROM {table} WHERE session = ?", (session,))
            execute("DELETE FROM sessions WHERE id = ?", (session,))
            self._announce(execute, session)

        self._run(work)
        self._shrink()

    def add_link(self, session: str, digest: str, name: str, until: float) -> None:
        """Store the digest of a link that works once, until a time."""
        self._run(
            lambda e: e(
                "INSERT INTO links (digest, session, name, until) VALUES (?, ?, ?, ?)", (digest, session, name, until)
            )
        )

    def use_link(self, session: str, digest: str) -> str | None:
        """The name that the link is for, once; then None."""

        def work(execute: Any) -> str | None:
            found = execute(
                "SELECT name, until FROM links WHERE digest = ? AND session = ?", (digest, session)
            ).fetchone()
            used = execute("DELETE FROM links WHERE digest = ? AND session = ?", (digest, session)).rowcount == 1
            return str(found[0]) if found and used and found[1] > time.time() else None

        result = self._run(work)
        return None if result is None else str(result)

    def touch(self, session: str, seen: dict[str, float]) -> None:
        """Note when participants were last heard of."""

        def work(execute: Any) -> None:
            for participant, at in sorted(seen.items()):
                execute(
                    "INSERT INTO presence (session, participant, at) VALUES (?, ?, ?)"
                    " ON CONFLICT (session, participant) DO UPDATE SET at = excluded.at",
                    (session, participant, at),
                )

        self._run(work)

    def presence(self, session: str) -> dict[str, float]:
        query = "SELECT participant, at FROM presence WHERE session = ?"
        return dict(self._run(lambda e: e(query, (session,)).fetchall(), writes=False))

    def _in_order(self, execute: Any) -> None:
        """Let numbers become visible in their order."""

    def _announce(self, execute: Any, session: str) -> None:
        """Tell other processes that something is new."""

    def _shrink(self) -> None:
        """Overwrite what was deleted."""


class SqliteStore(_Sql):
    """One file in WAL mode, for one server. Other processes (`workshop forget`) may use it beside."""

    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"  # a number is never used twice

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # it holds secrets
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # an acknowledged event outlives a power cut
            self._db.execute("PRAGMA secure_delete = ON")
            self._run(self._migrate)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be used: {error}. Is it a workshop's file?") from None

    def _migrate(self, execute: Any) -> None:
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(f"{self.path} was written by a newer mi-course; update the course")
        super()._migrate(execute)
        if version == 0:
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _run(self, work: Callable[[Any], Any], writes: bool = True) -> Any:
        with self._lock:
            try:
                if not writes:
                    return work(self._db.execute)
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    result = work(self._db.execute)
                    self._db.execute("COMMIT")
                    return result
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise StoreUnavailable(str(error)) from None

    def _shrink(self) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("VACUUM")

    # One statement and one row for any number of entries: for each row, sqlite3 lets go of Python's lock, and waits up
    # to 5 ms until the thread of the requests gives it back.

    def _insert(self, execute: Any, session: str, rows: Sequence[tuple[Any, ...]]) -> None:
        execute(
            "INSERT INTO log (session, participant, key, kind, at, body) SELECT ?, json_extract(value, '$[0]'),"
            " json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),"
            " json_extract(value, '$[4]') FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
            (session, json.dumps(rows)),
        )

    def _select(self, execute: Any, session: str, after: int, limit: int) -> list[Entry]:
        found = execute(
            "SELECT json_group_array(json_array(kind, participant, at, json(body), key, number)) FROM"
            " (SELECT * FROM log WHERE session = ? AND number > ? ORDER BY number LIMIT ?)",
            (session, after, limit),
        ).fetchone()[0]
        return [Entry(*row) for row in json.loads(found)]

    def watch(self, session: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` within a second after another process has written. Returns a function that ends it."""
        end = threading.Event()

        def look() -> None:
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as db:
                seen = None
                while not end.wait(1.0):
                    with contextlib.suppress(sqlite3.Error):
                        version = db.execute("PRAGMA data_version").fetchone()[0]
                        if version != seen:
                            seen = version
                            changed()

        threading.Thread(target=look, name="workshop-watch", daemon=True).start()
        return end.set

    def close(self) -> None:
        with self._lock:
            self._db.close()


class PostgresStore(_Sql):
    """A PostgreSQL database, for several servers behind one address."""

    serial = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    LOCK = 0x6D69_6C6F  # any number: the same in all servers

    def __init__(self, address: str) -> None:
        import psycopg

        self._psycopg = psycopg
        self._address = address
        self._lock = threading.RLock()
        self._db: Any = None
        try:
            self._run(self._migrate)
        except psycopg.Error as error:
            raise StoreUnavailable(_one_line(error)) from None

    def _migrate(self, execute: Any) -> None:
        execute("SELECT pg_advisory_xact_lock(?)", (self.LOCK,))
        super()._migrate(execute)

    def _connect(self) -> Any:
        return self._psycopg.connect(self._address, autocommit=True, connect_timeout=5, prepare_threshold=1)

    def _run(self, work: Callable[[Any], Any], writes: bool = True) -> Any:
        psycopg = self._psycopg
        with self._lock:
            try:
                if self._db is None or self._db.closed:
                    self._db = self._connect()

                def execute(statement: str, arguments: Iterable[Any] = ()) -> Any:
                    return self._db.execute(statement.replace("?", "%s"), tuple(arguments))

                with self._db.transaction() if writes else contextlib.nullcontext():
                    return work(execute)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                with contextlib.suppress(Exception):
                    self._db.close()
                self._db = None
                raise StoreUnavailable(_one_line(error)) from None

    def _insert(self, execute: Any, session: str, rows: Sequence[tuple[Any, ...]]) -> None:
        execute(
            "INSERT INTO log (session, participant, key, kind, at, body)"
            " SELECT ?, * FROM unnest(?::text[], ?::text[], ?::text[], ?::float8[], ?::text[])"
            " ON CONFLICT DO NOTHING",
            (session, *(list(column) for column in zip(*rows, strict=True))),
        )

    def _select(self, execute: Any, session: str, after: int, limit: int) -> list[Entry]:
        rows = execute(
            "SELECT kind, participant, at, body, key, number FROM log WHERE session = ? AND number > ?"
            " ORDER BY number LIMIT ?",
            (session, after, limit),
        ).fetchall()
        return [Entry(kind, who, at, json.loads(body), key, number) for kind, who, at, body, key, number in rows]

    def _in_order(self, execute: Any) -> None:
        execute("SELECT pg_advisory_xact_lock(?)", (self.LOCK,))

    def _announce(self, execute: Any, session: str) -> None:
        execute("SELECT pg_notify('mi_course_workshop', ?)", (session,))

    def watch(self, session: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a server has written (LISTEN). Returns a function that ends it."""
        end = threading.Event()

        def listen() -> None:
            while not end.is_set():
                try:
                    with self._psycopg.connect(self._address, autocommit=True, connect_timeout=5) as db:
                        db.execute("LISTEN mi_course_workshop")
                        changed()  # whatever was missed
                        while not end.is_set():
                            for notice in _notices(db):
                                if notice == session:
                                    changed()
                except self._psycopg.Error:
                    end.wait(1.0)

        threading.Thread(target=listen, name="workshop-listen", daemon=True).start()
        return end.set

    def close(self) -> None:
        with self._lock, contextlib.suppress(Exception):
            if self._db is not None:
                self._db.close()


def _notices(db: Any) -> Iterator[str]:
    """What was announced within half a second, each once."""
    seen = {notice.payload for notice in db.notifies(timeout=0.5, stop_after=1)}
    yield from seen


def _one_line(error: Exception) -> str:
    """The message without a password that it may quote."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
