"""Starts the board, and prints what goes on the wall."""

from __future__ import annotations

import gc
import io
import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mi_course.errors import CourseError
from mi_course.progress import home_dir
from mi_course.workshop import catalogue, protocol
from mi_course.workshop.room import Room
from mi_course.workshop.store import Session, Store, StoreUnavailable, open_store

__all__ = ["Options", "default_database", "find_session", "forget", "lead", "purge", "serve"]

KEPT_DAYS = 30


@dataclass(frozen=True)
class Options:
    """Of `mi-course workshop serve`."""

    host: str = "0.0.0.0"
    port: int = 8765
    database: str = ""
    title: str = ""
    new: bool = False
    address: str = ""
    prefix: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    hub: bool = False
    code: str = ""
    days: int = KEPT_DAYS
    lead: str = "lead"


def default_database() -> str:
    return str(home_dir() / "workshop" / "board.sqlite3")


def opened(database: str) -> Store:
    """The store. Raises CourseError."""
    try:
        return open_store(database or default_database())
    except StoreUnavailable as error:
        raise CourseError(f"The database cannot be used: {error}") from None
    except ModuleNotFoundError as error:
        raise CourseError(f"This database needs {error.name}: pip install 'mi-course[workshop]'.") from None


def find_session(store: Store) -> Session:
    """The newest one. Raises CourseError."""
    sessions = store.sessions()
    if not sessions:
        raise CourseError(
            "No workshop is stored here. `mi-course workshop serve` begins one; --database names another."
        )
    return sessions[-1]


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Run until interrupted. Raises CourseError."""
    from mi_course.workshop.hub import Hub
    from mi_course.workshop.server import Workshop, lead_link, new_session

    hub = Hub.from_environment() if options.hub else None
    host, port, prefix = options.host, options.port, options.prefix
    if hub is not None:
        host, port, prefix = "127.0.0.1", hub.port, hub.prefix
    if bool(options.tls_certificate) != bool(options.tls_key):
        raise CourseError("TLS needs both --tls-certificate and --tls-key.")
    code = protocol.clean_code(options.code)
    if options.code and not re.fullmatch(r"[A-Z0-9]{8,40}", code):
        raise CourseError("A join code of your own has 8 to 40 letters and digits.")
    for file in (options.tls_certificate, options.tls_key):
        if file is not None and not file.is_file():
            raise CourseError(f"{file} is not a file.")
    scheme = "https" if options.tls_certificate else "http"
    address = (options.address or f"{scheme}://{reachable_at(host)}:{port}{_slash(prefix)}").rstrip("/")
    if urlsplit(address).scheme not in {"http", "https"} or not urlsplit(address).hostname:
        raise CourseError(f"{address!r:.100} is not an address such as https://board.example.org/workshop.")
    listening = _listen(host, port)

    store = opened(options.database)
    _delete_old(store, options.days, say)
    sessions = store.sessions()
    session = sessions[-1] if sessions else None
    if session is None or options.new or _room(store, session).ended:
        session = new_session(store, options.title or f"Workshop of {time.strftime('%d %B %Y')}", code)
    elif code and _room(store, session).code != code:
        _set_code(store, session, code)
    say("Reading the exercises …")
    workshop = Workshop(store, session, catalogue.load(), address=address, hub=hub, days=options.days)
    _welcome(say, store, session, workshop.tokens.projector(), address, lead_link(store, session, options.lead), hub)
    if scheme == "http" and not options.address.startswith("https:") and hub is None and not _is_loopback(host):
        say(
            "Plain HTTP: whoever is in this network can read along and take over the board. Use --tls-certificate and "
            "--tls-key, or a proxy with TLS (--address), outside a network that you trust."
        )
    server = web_server(
        workshop,
        prefix,
        ssl_certfile=options.tls_certificate,
        ssl_keyfile=options.tls_key,
        proxy_headers=options.behind_proxy or hub is not None,
    )
    tune_collector()
    try:
        server.run(sockets=[listening])
    finally:
        store.close()
        say("The board is closed. The same command opens it again, with everything in it.")


def tune_collector() -> None:
    """Let the garbage collector look at the room only, and less often: a look at everything stops the board 50 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def web_server(workshop: Any, prefix: str = "", **more: Any) -> Any:
    """uvicorn without an access log, which would hold addresses. It ends the boards' streams when it stops."""
    import uvicorn

    from mi_course.workshop.connection import Connection
    from mi_course.workshop.server import application

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            workshop.live.board.close()
            workshop.live.projector.close()
            await super().shutdown(sockets)

    settings: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "ws": "none",
        "lifespan": "on",
        "http": Connection,
        "proxy_headers": False,
        "forwarded_allow_ips": "127.0.0.1",
        "timeout_graceful_shutdown": 2,
        "backlog": 1024,
    }
    return Server(uvicorn.Config(application(workshop, prefix), **settings | more))


def _slash(prefix: str) -> str:
    return f"/{prefix.strip('/')}" if prefix.strip("/") else ""


def _listen(host: str, port: int) -> socket.socket:
    """The socket, so that a port in use is noticed before anything else happens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise CourseError(f"{host}:{port} cannot be used: {reason}. --port takes another one.") from None
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable_at(host: str) -> str:
    """The name or number by which others reach a host to listen on."""
    if host not in {"0.0.0.0", "::", ""}:
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _welcome(
    say: Callable[[str], None], store: Store, session: Session, projector: str, address: str, link: str, hub: object
) -> None:
    import segno

    code = protocol.shown_code(_room(store, session).code)
    picture = io.StringIO()
    segno.make(f"{address}/#{code}", error="l").terminal(picture, compact=True, border=2)
    say(picture.getvalue().rstrip("\n"))
    say(f"{session.title}\n")
    say(f"Learners     {address}/#{code}")
    say(f'             in a notebook:  mi_course.join("{code}@{_short(address)}")')
    if hub is None:
        say(f"You          {address}/enter#{link}   works once; keep it to yourself")
    else:
        say(f"You          {address}/board   after the Hub's login")
    say(f"Projector    {address}/enter#{projector}   shows no names")
    say("\nCtrl-C closes the board and loses nothing.\n")


def _short(address: str) -> str:
    return address.removeprefix("http://")


def _room(store: Store, session: Session) -> Room:
    room = Room()
    for entry in store.read_all(session.id):
        room.apply(entry)
    return room


def _set_code(store: Store, session: Session, code: str) -> None:
    from mi_course.workshop.store import Entry

    store.append(session.id, [Entry("code", None, time.time(), {"code": code})])


def _delete_old(store: Store, days: int, say: Callable[[str], None]) -> None:
    """What is older than was promised to the learners."""
    for session in store.sessions():
        last = max((entry.at for entry in store.read_all(session.id)), default=session.created)
        if last < time.time() - days * 86400:
            store.purge(session.id)
            say(f"Deleted {session.title}, which ended more than {days} days ago.")


def lead(database: str, name: str, address: str) -> str:
    """A new link for a lead, for the newest session. Raises CourseError."""
    from mi_course.workshop.server import lead_link

    store = opened(database)
    try:
        link = lead_link(store, find_session(store), protocol.clean_name(name))
        return f"{address.rstrip('/')}/enter#{link}"
    except protocol.BadField as error:
        raise CourseError(f"{error}.") from None
    finally:
        store.close()


def forget(database: str, name: str) -> str:
    """Delete all that is stored of a participant, in every session. Returns what was done. Raises CourseError."""
    store = opened(database)
    try:
        done = []
        for session in store.sessions():
            person = _room(store, session).find(name)
            if person is not None:
                store.forget(session.id, person.id)
                done.append(session.title)
        if not done:
            raise CourseError(f"Nobody here is called {name!r:.60}. The board and its summary show the names.")
        return f"Deleted all that was stored of {name} in {', '.join(done)}."
    finally:
        store.close()


def purge(database: str, everything: bool) -> str:
    """Delete the newest session, or all. Returns what was done. Raises CourseError."""
    store = opened(database)
    try:
        sessions = store.sessions() if everything else [find_session(store)]
        for session in sessions:
            store.purge(session.id)
        return f"Deleted {', '.join(session.title for session in sessions)}." if sessions else "Nothing was stored."
    finally:
        store.close()


def export(database: str, folder: Path) -> list[Path]:
    """Write summary.html, workshop.csv and workshop.json of the newest session. Raises CourseError."""
    from mi_course.workshop import summary

    store = opened(database)
    try:
        session = find_session(store)
        report = summary.summarize(session, list(store.read_all(session.id)), catalogue.load())
    finally:
        store.close()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, make in (
        ("summary.html", summary.to_html),
        ("workshop.csv", summary.to_csv),
        ("workshop.json", summary.to_json),
    ):
        (folder / name).write_text(make(report), encoding="utf-8", newline="")
        written.append(folder / name)
    return written
