"""A board on a free port, people who take part, and a database of either kind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mi_course.workshop.protocol import digest
from mi_course.workshop.store import Session, Store, open_store

CATALOGUE = [
    {
        "id": lesson,
        "number": number,
        "title": lesson.title(),
        "minutes": 30,
        "exercises": [
            {
                "id": f"{lesson}.{name}",
                "name": name,
                "minutes": 5,
                "task": "Do it.",
                "hints": 2,
                "mistakes": {"square": "That is the `square`, not the double.", "off_by_one": "One too many."},
            }
            for name in ("double", "shift", "merge")
        ],
    }
    for number, lesson in ((1, "lab"), (2, "field"))
]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def verdict(exercise: str = "lab.double", status: str = "wrong", **fields: Any) -> dict[str, Any]:
    fields = {"mistake": "square" if status == "wrong" else None, "attempt": 1, "at": now(), "revision": 1} | fields
    return {"key": secrets.token_hex(12), "kind": "verdict", "exercise": exercise, "status": status, **fields}


def hint(exercise: str, number: int, **fields: Any) -> dict[str, Any]:
    fields = {"at": now(), "revision": 1} | fields
    return {"key": secrets.token_hex(12), "kind": "hint", "exercise": exercise, "hint": number, **fields}


class NotFollowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


@dataclass
class Reply:
    status: int
    text: str
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Visitor:
    """Someone with or without a token or cookies."""

    url: str
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    name: str = ""
    origin: str | None = None

    def __call__(self, path: str, body: Any = None, **headers: str) -> Reply:
        """GET, or POST where there is a body."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data=data)
        host = self.url.split("/", 3)[2]
        if data is not None and self.cookies:
            request.add_header("Origin", self.origin if self.origin is not None else f"http://{host}")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if self.cookies:
            request.add_header("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.build_opener(NotFollowed).open(request, timeout=15) as reply:
                found = Reply(reply.status, reply.read().decode(), reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                found = Reply(error.code, error.read().decode(), error.headers)
        for line in found.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return found

    def send(self, *events: dict[str, Any]) -> Reply:
        return self("api/events", {"sent_at": now(), "events": list(events)})

    def follow(self, path: str = "api/board", last: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events: their name and data."""
        request = urllib.request.Request(f"{self.url}/{path}", headers={"Last-Event-ID": last} if last else {})
        request.add_header("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        with urllib.request.urlopen(request, timeout=15) as stream:
            event = ""
            for raw in stream:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    yield event, json.loads(line[6:])


def eventually(check: Any, seconds: float = 10.0) -> Any:
    """What `check()` returns once it is true."""
    until = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


@dataclass
class Board:
    """A running server."""

    url: str
    workshop: Any
    store: Store
    session: Session

    @property
    def room(self) -> Any:
        return self.workshop.room

    def visitor(self) -> Visitor:
        return Visitor(self.url)

    def learner(self, name: str, table: str = "") -> Visitor:
        visitor = Visitor(self.url, name=name)
        reply = visitor("api/join", {"code": self.room.code, "name": name, "table": table})
        assert reply.status == 201, reply.text
        visitor.token = reply.json["token"]
        return visitor

    def lead(self, name: str = "Ana") -> Visitor:
        from mi_course.workshop.server import lead_link

        visitor = Visitor(self.url)
        reply = visitor("enter", {"token": lead_link(self.store, self.session, name)})
        assert (reply.status, reply.json) == (200, {"page": "board"})
        return visitor

    def projector(self) -> Visitor:
        visitor = Visitor(self.url)
        assert visitor("enter", {"token": self.workshop.tokens.projector()}).json == {"page": "projector"}
        return visitor


def open_board(page: Any, board: Board) -> None:
    """Open the board in a browser's page, as a lead does."""
    from mi_course.workshop.server import lead_link

    page.goto(f"{board.url}/enter#{lead_link(board.store, board.session, 'Ana')}")
    page.wait_for_url("**/board")
    page.wait_for_selector("#state.on")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def board(
    database: str | Path,
    *,
    prefix: str = "",
    port: int = 0,
    catalogue: Any = CATALOGUE,
    title: str = "A day",
    **more: Any,
) -> Iterator[Board]:
    """Serve the newest session of a database from a thread."""
    from mi_course.workshop.serve import web_server
    from mi_course.workshop.server import Workshop, new_session

    port = port or free_port()
    store = open_store(database)
    sessions = store.sessions()
    session = sessions[-1] if sessions else new_session(store, title)
    url = f"http://127.0.0.1:{port}{prefix}"
    workshop = Workshop(store, session, catalogue, address=url, **more)
    server = web_server(workshop, prefix, host="127.0.0.1", port=port, timeout_graceful_shutdown=1)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started
        yield Board(url, workshop, store, session)
    finally:
        server.should_exit = True
        thread.join(10)
        store.close()


@contextlib.contextmanager
def board_process(database: str, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The same in a process of its own, to be killed."""
    command = [sys.executable, __file__, database, str(port)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path} | environment)
    try:
        eventually(lambda: reachable(f"http://127.0.0.1:{port}/health") or process.poll() is not None, 30)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# PostgreSQL, as an unprivileged user


def postgres_folder() -> Path | None:
    """Where `initdb` and `postgres` are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    return Path(path).resolve().parent if path else None


@dataclass
class Postgres:
    """A server of our own, which listens on a port of this machine only."""

    folder: Path
    port: int
    options: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = postgres_folder()
        assert binary is not None
        command = [str(binary / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", f"unix_socket_directories={self.folder}", "-c", "listen_addresses=127.0.0.1"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.options)
        eventually(lambda: subprocess.run(
            [str(binary / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode == 0, 30)  # fmt: skip

    def kill(self) -> None:
        """Kill the server with all its processes."""
        assert self.process is not None
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        for pid in [str(self.process.pid), *children]:
            subprocess.run(["kill", "-9", pid], check=False, capture_output=True)
        self.process.wait()

    def create(self) -> str:
        """The address of a new database."""
        name = f"workshop_{secrets.token_hex(4)}"
        binary = postgres_folder()
        assert binary is not None
        subprocess.run(
            [str(binary / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "mi", name], check=True
        )
        return f"postgresql://mi@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Start PostgreSQL in a folder; `postgres` refuses root, so root starts it as `nobody`.

    folder: not below pytest's, which is closed to other users whenever a run of pytest begins.
    """
    binary = postgres_folder()
    assert binary is not None
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"cwd": "/"}
    if hasattr(os, "getuid") and os.getuid() == 0:
        options |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    made = subprocess.run(
        [str(binary / "initdb"), "-D", str(folder / "data"), "-U", "mi", "-A", "trust", "-E", "UTF8", "--no-sync"],
        capture_output=True, text=True, **options,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    server = Postgres(folder, free_port(), options)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def has_postgres() -> bool:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return postgres_folder() is not None


def key_of(name: str) -> str:
    return digest(name)[:24]


if __name__ == "__main__":
    if "MI_CATALOGUE" in os.environ:
        CATALOGUE = json.loads(Path(os.environ["MI_CATALOGUE"]).read_text())
    from mi_course.workshop.serve import tune_collector

    with board(sys.argv[1], port=int(sys.argv[2]), catalogue=CATALOGUE):
        tune_collector()
        while True:
            time.sleep(3600)
