"""The command as a lead types it, killed and started again; TLS; the other verbs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import workshop_kit as kit
from require import require
from workshop_kit import Visitor, eventually, verdict

from mi_course.errors import CourseError
from mi_course.workshop import serve


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mi_course", "workshop", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def started(port: int, database: str, *more: str) -> tuple[subprocess.Popen[str], str]:
    """A board, and what it printed until it was ready."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mi_course", "workshop", "serve", "--host", "127.0.0.1", "--port", str(port)),
            *("--database", database, *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
    )
    printed: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C closes" in line:
            break
    threading.Thread(target=process.stdout.read, daemon=True).start()
    eventually(lambda: kit.reachable(f"http://127.0.0.1:{port}/health"), 30)
    return process, "".join(printed)


def test_a_board_from_beginning_to_end(tmp_path):
    port, database = kit.free_port(), str(tmp_path / "board.sqlite3")
    url = f"http://127.0.0.1:{port}"
    process, printed = started(port, database, "--title", "A day")
    try:
        assert "▄" in printed
        assert "Plain HTTP" not in printed, "on loopback"
        code = re.search(r'mi_course\.join\("(.{9})@127\.0\.0\.1', printed)[1]
        link = re.search(r"You +http://\S+/enter#(\S+)   works once", printed)[1]
        ana, fox = Visitor(url), Visitor(url)
        assert ana("enter", {"token": link}).status == 200
        assert {lesson["id"] for lesson in ana("api/catalogue").json} >= {"start_here", "induction_heads"}
        joined = fox("api/join", {"code": code, "name": "fox"})
        fox.token = joined.json["token"]
        mine = [verdict(attempt=i) for i in range(6)]
        assert len(fox.send(*mine[:3]).json["accepted"]) == 3
        process.send_signal(signal.SIGKILL)
        process.wait()
        process, printed = started(port, database)
        assert code in printed, "the same workshop goes on"
        assert fox.send(*mine).json["accepted"] == [event["key"] for event in mine]
        events = ana("summary.json").json["events"]
        assert [event["attempt"] for event in events] == list(range(6)), "none lost, none doubled"
        invited = command("lead", "Bo", "--database", database, "--address", url)
        bo = Visitor(url)
        assert bo("enter", {"token": invited.stdout.strip().rpartition("#")[2]}).status == 200
        stream = ana.follow()
        next(stream)
        stopping = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        assert time.monotonic() - stopping < 8, "open boards do not hold it up"
    finally:
        process.kill()
        process.wait()
    exported = command("export", str(tmp_path / "out"), "--database", database)
    assert exported.returncode == 0, exported.stderr
    assert len(json.loads((tmp_path / "out" / "workshop.json").read_text())["events"]) == 6
    assert "fox" in (tmp_path / "out" / "workshop.csv").read_text()
    assert "Deleted all that was stored of fox" in command("forget", "fox", "--database", database).stdout
    assert "Nobody here is called" in command("forget", "fox", "--database", database).stderr
    assert "Deleted A day" in command("purge", "--yes", "--database", database).stdout
    assert "No workshop is stored here" in command("purge", "--yes", "--database", database).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls_key": "x"}, "needs both"),
        ({"code": "short"}, "8 to 40 letters"),
        ({"address": "board"}, "is not an address"),
        ({"hub": True}, "JUPYTERHUB_SERVICE_NAME is not set"),
        ({"host": "203.0.113.1"}, "cannot be used"),
        ({"database": "postgresql://nobody@127.0.0.1:1/x"}, "The database cannot be used"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_paragraph(tmp_path, options, message):
    options = {"host": "127.0.0.1", "port": kit.free_port(), "database": str(tmp_path / "b.sqlite3")} | options
    with pytest.raises(CourseError, match=message):
        serve.serve(serve.Options(**options), lambda line: None)


def test_plain_http_is_warned_of_beyond_this_machine():
    assert serve._is_loopback("127.0.0.1")
    assert serve._is_loopback("::1")
    assert serve._is_loopback("localhost")
    assert not serve._is_loopback("0.0.0.0")
    assert not serve._is_loopback("board.example.org")
    assert serve.reachable_at("board.example.org") == "board.example.org"
    assert serve.reachable_at("::1") == "[::1]"


def test_tls_and_a_certificate_of_ones_own(tmp_path, monkeypatch):
    require("openssl", shutil.which("openssl") is not None, "openssl is missing")
    from mi_course.workshop import client
    from mi_course.workshop.protocol import Address
    from mi_course.workshop.server import Workshop, new_session
    from mi_course.workshop.store import open_store

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                str(key),
                "-out",
                str(certificate),
            ),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    store, port = open_store(tmp_path / "b.sqlite3"), kit.free_port()
    session = new_session(store, "A day")
    workshop = Workshop(store, session, kit.CATALOGUE, address=f"https://localhost:{port}")
    server = serve.web_server(workshop, port=port, ssl_certfile=str(certificate), ssl_keyfile=str(key))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    address = Address.parse(f"{workshop.room.code}@https://localhost:{port}")
    with pytest.raises(OSError, match="certificate verify failed"):
        client.ask_to_join(address, "fox", "")
    monkeypatch.setenv("MI_COURSE_WORKSHOP_CA", str(certificate))
    assert client.ask_to_join(address, "fox", "").name == "fox"
    server.should_exit = True
    thread.join(10)
    store.close()


def test_every_verb_has_help_with_an_example():
    from typer.testing import CliRunner

    from mi_course.cli import app

    for verb in ("serve", "lead", "join", "leave", "status", "export", "forget", "purge"):
        shown = CliRunner().invoke(app, ["workshop", verb, "--help"]).output
        assert f"Example: mi-course workshop {verb}" in " ".join(shown.split())
    assert "is not an invitation" in command("join", "nonsense").stderr
