"""The log, on both databases."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest
import workshop_kit

from mi_course.workshop.server import lead_link, new_session
from mi_course.workshop.store import PAGE, Entry, PostgresStore, SqliteStore, StoreUnavailable, open_store


@pytest.fixture
def store(database):
    opened = open_store(database)
    yield opened
    opened.close()


def entry(who: str, key: str | None, kind: str = "hint", **body) -> Entry:
    return Entry(kind, who, 5.0, body, key)


def test_a_key_is_stored_once_for_each_participant(store):
    session = new_session(store, "A day")
    store.append(session.id, [entry("a", "k1", n=1), entry("a", "k1"), entry("b", "k1")])
    store.append(session.id, [entry("a", "k1"), entry("a", "k2", n=2, text='é " \\ \n')])
    store.append(session.id, [])
    read = store.read(session.id)
    assert [(e.kind, e.participant, e.key) for e in read[1:]] == [
        ("hint", "a", "k1"),
        ("hint", "b", "k1"),
        ("hint", "a", "k2"),
    ]
    assert [e.body for e in read[1:]] == [{"n": 1}, {}, {"n": 2, "text": 'é " \\ \n'}]
    assert [e.number for e in read] == sorted({e.number for e in read})
    assert store.read(session.id, read[-2].number) == read[-1:]
    assert store.read(session.id, limit=2) == read[:2]
    store.append(session.id, [entry("c", f"k{i}") for i in range(PAGE)])
    everything = list(store.read_all(session.id))
    assert everything[:4] == read
    assert [e.key for e in everything[4:]] == [f"k{i}" for i in range(PAGE)]


def test_what_is_forgotten_or_purged_is_gone(store, database):
    session, other = new_session(store, "Before"), new_session(store, "A day")
    store.append(session.id, [entry("a", "k1", secret="xyzzy"), entry("b", "k1"), entry("a", "k2")])
    last = store.read(session.id)[-1].number
    store.touch(session.id, {"a": 1.0, "b": 2.0})
    store.forget(session.id, "a")
    news = store.read(session.id, last)
    assert [(e.kind, e.participant) for e in news] == [("forgotten", "a")], "a number that was read is not used again"
    assert [e.kind for e in store.read(session.id) if e.participant == "a"] == ["forgotten"]
    assert store.presence(session.id) == {"b": 2.0}
    if isinstance(store, SqliteStore):
        assert b"xyzzy" not in store.path.read_bytes() + store.path.with_name(store.path.name + "-wal").read_bytes()
    store.purge(session.id)
    assert [s.title for s in store.sessions()] == ["A day"]
    assert store.read(session.id) == []
    assert len(store.read(other.id)) == 1


def test_a_link_works_once_and_not_after_its_time(store):
    session = new_session(store, "A day")
    from mi_course.workshop.protocol import digest

    token = lead_link(store, session, "Ana")
    assert store.use_link("another", digest(token)) is None
    assert store.use_link(session.id, digest(token)) == "Ana"
    assert store.use_link(session.id, digest(token)) is None
    store.add_link(session.id, "old", "Ana", time.time() - 1)
    assert store.use_link(session.id, "old") is None


def test_two_writers_lose_and_reorder_nothing(store, database):
    """Whoever has read up to a number misses nothing that appears later."""
    session = new_session(store, "A day")
    stores = [open_store(database) for _ in range(3)]
    seen: list[int] = []
    done = threading.Event()

    def write(mine, who: str) -> None:
        for i in range(40):
            mine.append(session.id, [entry(who, f"{i}-{j}") for j in range(3)])

    def read() -> None:
        while True:
            ended = done.is_set()
            seen.extend(e.number for e in store.read(session.id, seen[-1] if seen else 0))
            if ended:
                return

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(mine, f"p{i}")) for i, mine in enumerate(stores)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert len(seen) == 1 + 3 * 40 * 3
    assert seen == [e.number for e in store.read(session.id)]
    for mine in stores:
        mine.close()


def test_another_process_is_noticed(store, database):
    session, heard = new_session(store, "A day"), threading.Event()
    end = store.watch(session.id, heard.set)
    time.sleep(1.2)
    heard.clear()
    other = open_store(database)
    other.append(session.id, [entry("a", "k1")])
    assert heard.wait(5)
    end()
    other.close()


def test_a_file_that_is_no_workshop_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable, match="Is it a workshop's file"):
        SqliteStore(tmp_path / "x")
    store = SqliteStore(tmp_path / "new.sqlite3")
    store.close()
    db = sqlite3.connect(tmp_path / "new.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable, match="newer mi-course"):
        SqliteStore(tmp_path / "new.sqlite3")


def test_the_file_is_private(tmp_path):
    SqliteStore(tmp_path / "a" / "board.sqlite3").close()
    assert (tmp_path / "a" / "board.sqlite3").stat().st_mode & 0o077 == 0


def test_a_lost_postgresql_is_reported_without_the_password(postgres_server):
    address = postgres_server.create()
    with pytest.raises(StoreUnavailable) as told:
        PostgresStore(address.replace("mi@", "mi:hunter2@").replace(f":{postgres_server.port}/", ":1/"))
    assert "hunter2" not in str(told.value)
    assert workshop_kit.has_postgres()
