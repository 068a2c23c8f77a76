"""Events that wait to be sent, on disk: a closed laptop or a lost network loses none.

Each process appends to a file of its own, and holds a lock on it while it lives. Files of processes that are gone are
sent by whichever process comes next. An event may be sent twice, if a process dies between sending and noting it; it
has a key, by which the server knows it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections import deque
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = ["Outbox"]

LARGEST = 2_000_000
"""Bytes in one file, about 8,000 events. What comes beyond is not kept, and counted."""


class Outbox:
    """Events of one membership. `put` writes one line, and waits for neither the network nor another process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lost = 0
        """Events that could not be kept."""
        self._waiting: deque[dict[str, Any]] = deque()
        self._guard = threading.Lock()
        self._bytes = 0
        self._file: int | None = None
        self._lock: FileLock | None = None
        self._path = folder / f"{secrets.token_hex(8)}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = FileLock(f"{self._path}.lock", thread_local=False)
            self._lock.acquire(timeout=0)
            self._file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        except (OSError, Timeout):
            self._file = None  # a disk that cannot be written: they wait in memory

    def put(self, event: dict[str, Any]) -> bool:
        """Keep an event. Returns whether there was room."""
        line = (json.dumps(event) + "\n").encode()
        with self._guard:
            if self._bytes + len(line) > LARGEST:
                self.lost += 1
                return False
            self._bytes += len(line)
            self._waiting.append(event)
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.write(self._file, line)
        return True

    def __len__(self) -> int:
        return len(self._waiting)

    def batch(self, most: int) -> list[dict[str, Any]]:
        """The oldest events."""
        with self._guard:
            return [self._waiting[i] for i in range(min(most, len(self._waiting)))]

    def done(self, keys: set[str]) -> None:
        """Drop events that were acknowledged."""
        with self._guard:
            self._waiting = deque(event for event in self._waiting if event["key"] not in keys)
            if not self._waiting:
                self._bytes = 0
                if self._file is not None:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._file, 0)

    def adopt(self) -> int:
        """Take over what processes that are gone have left. Returns how many events."""
        found = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._path:
                continue
            lock = FileLock(f"{path}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):
                continue  # its process lives
            try:
                for line in path.read_bytes().splitlines():
                    with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be half
                        event = json.loads(line)
                        event["key"]
                        found += self.put(event)
                path.unlink()
            except OSError:
                pass
            finally:
                lock.release()
                with contextlib.suppress(OSError):
                    Path(lock.lock_file).unlink()
        return found

    def close(self) -> None:
        """Let go of the file. One without events is removed; others are sent by the next process."""
        with self._guard:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.close(self._file)
                    if not self._waiting:
                        self._path.unlink()
                self._file = None
            if self._lock is not None:
                self._lock.release()
                with contextlib.suppress(OSError):
                    Path(self._lock.lock_file).unlink()
                self._lock = None

    def clear(self) -> None:
        """Drop everything."""
        self.done({event["key"] for event in self.batch(len(self))})
