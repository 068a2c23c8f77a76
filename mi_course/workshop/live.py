"""Commits what arrives, keeps the room up to date, and feeds the boards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mi_course.workshop.room import AWAY_S, Room
from mi_course.workshop.store import Entry, Session, Store, StoreUnavailable

__all__ = ["Feed", "Live"]

GATHER_S = 0.006
"""An event waits so long for others, which then share its transaction."""
TICK_S = 0.25
"""Boards are told of changes this often."""
SLOW_S = 1.0
"""Of what is counted over the whole room."""
TOUCH_S = 30.0
WAITING = 5_000
"""Entries that may wait for the database; beyond, requests are told to come back."""


class Feed:
    """A stream of changes that any number of viewers follow. A change is encoded once for all of them."""

    KEPT = 120

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        self._boot = secrets.token_hex(4)
        self._sent = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=self.KEPT)
        self._news = asyncio.Event()
        self._few = asyncio.Semaphore(4)  # snapshots that are under way at once
        self._made: tuple[int, float, bytes] = (-1, 0.0, b"")
        """The last snapshot: after which change, when, and its text."""
        self.viewers = 0
        self._closed = False

    def close(self) -> None:
        """End all streams; browsers come back by themselves."""
        self._closed = True
        self._news.set()

    def _encode(self, event: str, data: dict[str, Any]) -> bytes:
        return f"id: {self._boot}-{self._sent}\nevent: {event}\ndata: {json.dumps(data)}\n\n".encode()

    def publish(self, data: dict[str, Any]) -> None:
        self._sent += 1
        self._kept.append((self._sent, self._encode("changes", data)))
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, last_id: str) -> AsyncIterator[bytes]:
        """From the change after `last_id` if it is still kept, otherwise from a snapshot."""
        self.viewers += 1
        try:
            boot, _, number = last_id.partition("-")
            at = int(number) if boot == self._boot and number.isascii() and number.isdigit() else -1
            if not self._resumes(at):
                at = -1
            while not self._closed:
                if at < 0 or not self._resumes(at):
                    async with self._few:
                        at = self._sent
                        yield self._encoded_snapshot()
                news = self._news
                batch = [encoded for number, encoded in self._kept if number > at]
                if batch:
                    at = self._sent
                    yield b"".join(batch)
                else:
                    await news.wait()
        finally:
            self.viewers -= 1

    def _encoded_snapshot(self) -> bytes:
        """One for all who come within a second, unless something changes: a full room takes 0.1 s to encode."""
        if self._made[0] != self._sent or time.monotonic() - self._made[1] > SLOW_S:
            self._made = (self._sent, time.monotonic(), self._encode("snapshot", self._snapshot()))
        return self._made[2]

    def _resumes(self, at: int) -> bool:
        return at == self._sent or bool(self._kept and self._kept[0][0] <= at + 1 and at <= self._sent)


class Live:
    """One session: its store, its room, and the feeds of leads and projectors."""

    def __init__(self, store: Store, session: Session, changed: Callable[[], None] = lambda: None) -> None:
        self.store, self.session, self.room = store, session, Room()
        self.board = Feed(self.board_snapshot)
        self.projector = Feed(self.projector_snapshot)
        self.gone = False
        """The session was purged."""
        self._pool = ThreadPoolExecutor(1, "workshop-store")
        self._waiting: list[tuple[tuple[Entry, ...], asyncio.Future[None]]] = []
        self._queued = 0
        """Entries in `_waiting`."""
        self._wake = asyncio.Event()
        self._touched: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._unwatch: Callable[[], None] = lambda: None
        self._slow_at = 0.0
        self._slow_due = True
        self._everyone_at = 0.0

    async def start(self) -> None:
        """Read the log, and begin to follow it."""
        loop = asyncio.get_running_loop()
        while entries := await loop.run_in_executor(self._pool, self.store.read, self.session.id, self.room.last):
            self._take_in(entries)
        for participant, at in (await loop.run_in_executor(self._pool, self.store.presence, self.session.id)).items():
            if participant in self.room.participants:
                self.room.saw(participant, at)
        self._clear()

        def changed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._wake.set)

        self._unwatch = self.store.watch(self.session.id, changed)
        self._tasks = [asyncio.create_task(job()) for job in (self._commit, self._tick, self._touch)]

    async def stop(self) -> None:
        self._unwatch()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=True)

    async def append(self, *entries: Entry) -> None:
        """Commit entries, and return when they are on disk and in the room. Raises StoreUnavailable."""
        if self._queued > WAITING:
            raise StoreUnavailable("too many events are waiting for the database")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        self._queued += len(entries)
        self._wake.set()
        await done

    async def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the store in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    def saw(self, participant: str) -> None:
        now = time.time()
        self.room.saw(participant, now)
        self._touched[participant] = now

    # -- Jobs ---------------------------------------------------------------------------------------------------------

    async def _commit(self) -> None:
        """Everything that arrived within GATHER_S, or while the last transaction ran, goes into the next one."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            waiting, self._waiting, self._queued = self._waiting, [], 0
            try:
                news = await self.do(self._write, [entry for batch, _ in waiting for entry in batch])
            except Exception as error:
                unavailable = error if isinstance(error, StoreUnavailable) else StoreUnavailable(type(error).__name__)
                for _, done in waiting:
                    if not done.done():
                        done.set_exception(unavailable)
                continue
            self._take_in(news)
            for _, done in waiting:
                if not done.done():
                    done.set_result(None)

    def _write(self, entries: list[Entry]) -> list[Entry]:
        self.store.append(self.session.id, entries)
        news = list(self.store.read_all(self.session.id, self.room.last))
        if not news and not entries:
            self.gone = all(session.id != self.session.id for session in self.store.sessions())
        return news

    def _take_in(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.room.apply(entry)

    async def _touch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TOUCH_S)
            touched, self._touched = self._touched, {}
            with contextlib.suppress(StoreUnavailable):
                if touched:
                    await loop.run_in_executor(self._pool, self.store.touch, self.session.id, touched)
                seen = await loop.run_in_executor(self._pool, self.store.presence, self.session.id)
                for participant, at in seen.items():  # whom other servers have heard of
                    if participant in self.room.participants:
                        self.room.saw(participant, at)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.publish_changes()

    # -- What boards are told -----------------------------------------------------------------------------------------

    def publish_changes(self) -> None:
        room, now = self.room, time.time()
        changed = bool(room.dirty_cells or room.dirty_people or room.dirty_controls)
        self._slow_due = self._slow_due or changed
        everyone = now - self._everyone_at > AWAY_S / 10  # who has gone away sends nothing
        slow = self._slow_due and now - self._slow_at >= SLOW_S
        if not (changed or slow or everyone):
            return
        change: dict[str, Any] = {"now": round(now, 1)}
        if room.dirty_people or everyone:
            people = room.participants if everyone else room.dirty_people
            self._everyone_at = now if everyone else self._everyone_at
            change["people"] = [room.person_row(p) for i in people if (p := room.participants.get(i)) and not p.removed]
            change["gone"] = [
                i for i in room.dirty_people if i not in room.participants or room.participants[i].removed
            ]
        if room.dirty_cells:
            change["cells"] = [
                [who, exercise, room.cell_row(cell)]
                for who, exercise in room.dirty_cells
                if who in room.participants and (cell := room.participants[who].cells.get(exercise)) is not None
            ]
        if room.dirty_controls:
            change["controls"] = self.controls()
        if slow or everyone:
            self._slow_at, self._slow_due = now, False
            change["exercises"], change["class"] = room.exercise_rows(), room.class_row(now)
        if slow or everyone or room.dirty_controls:
            self.projector.publish(self.projector_snapshot())
        self.board.publish(change)  # without viewers too: one who comes back asks for what they missed
        self._clear()

    def _clear(self) -> None:
        self.room.dirty_cells.clear()
        self.room.dirty_people.clear()
        self.room.dirty_controls = False

    def controls(self) -> dict[str, Any]:
        room = self.room
        return {
            "title": self.session.title,
            "code": room.code,
            "messages": room.messages,
            "closed": room.closed,
            "timer": room.timer,
            "ended": room.ended,
        }

    def board_snapshot(self) -> dict[str, Any]:
        room, now = self.room, time.time()
        return {
            "now": round(now, 1),
            "people": [room.person_row(person) for person in room.present()],
            "cells": [
                [person.id, exercise, room.cell_row(cell)]
                for person in room.present()
                for exercise, cell in person.cells.items()
            ],
            "exercises": room.exercise_rows(),
            "class": room.class_row(now),
            "controls": self.controls(),
        }

    def projector_snapshot(self) -> dict[str, Any]:
        """The class, not the pupil: no names, and no mistake of one person alone."""
        now = time.time()
        controls = self.controls()
        return {
            "now": round(now, 1),
            "exercises": self.room.exercise_rows(least=2),
            "class": self.room.class_row(now),
            "controls": {key: controls[key] for key in ("title", "code", "timer", "closed", "ended")}
            | {"messages": [message for message in controls["messages"] if message["exercise"] is None]},
        }
