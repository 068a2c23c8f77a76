"""The learner's side: what is sent, that it is sent once, and that no cell waits for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import workshop_kit as kit
from workshop_kit import eventually, verdict

from mi_course import course
from mi_course.errors import CourseError
from mi_course.workshop import client
from mi_course.workshop.outbox import Outbox
from mi_course.workshop.protocol import Address


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A learner's machine, in a kernel where someone works."""
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MI_COURSE_WORKSHOP", raising=False)
    monkeypatch.setattr(client, "someone_works_here", lambda: True)
    shown: list[object] = []
    monkeypatch.setattr(client, "_display", shown.append)
    yield shown
    client._end_reporter()


def event(kind: str = "verdict", **fields) -> dict:
    """As course.py publishes it."""
    made = {"version": 2, "kind": kind, "lesson": "lab", "exercise": "lab.double", "revision": 1, "at": kit.now()}
    if kind == "verdict":
        made |= {"status": "wrong", "points": 0, "max_points": 1, "mistake": "square", "attempt": 1}
    return made | fields


def publish(**fields) -> None:
    for listener in list(course._subscribers):
        listener(event(**fields))


def invitation(board) -> str:
    return f"{board.room.code[:4]}-{board.room.code[4:]}@{board.url.removeprefix('http://')}"


def kinds(board) -> list[str]:
    return [entry.kind for entry in board.store.read(board.session.id) if entry.participant]


# ---------------------------------------------------------------------------------------------------------------------
# Joining, reporting, leaving


def test_from_joining_to_leaving(board, home):
    publish()
    card = client.join(invitation(board), name="brave fox", table="4")
    assert "Your code, what you write and what it outputs are never sent" in card.text
    publish(points=7)
    publish(kind="hint", hint=1)
    publish(kind="reveal")
    eventually(lambda: kinds(board) == ["joined", "verdict", "hint", "reveal"])
    person = board.room.find("brave fox")
    assert (person.table, person.cells["lab.double"].mistake, person.cells["lab.double"].revealed) == (
        "4",
        "square",
        True,
    )
    eventually(lambda: len(client.status().sent) == 3)
    assert set(client.status().sent[0]) == {"key", "kind", "at", "exercise", "revision", "status", "mistake", "attempt"}
    assert '"mistake": "square"' in str(client.status())
    assert "square" in client.status()._repr_mimebundle_()["text/html"]
    assert "up" in client.raise_hand().text
    eventually(lambda: person.hand_at)
    assert person.hand_exercise == "lab.double"
    client.raise_hand(False)
    eventually(lambda: not person.hand_at)
    assert "Nothing is reported any more" in client.leave().text
    publish()
    time.sleep(0.3)
    assert kinds(board)[-1] == "left"
    assert "in no workshop" in str(client.status())


def test_the_next_kernel_goes_on(board, home):
    client.join(invitation(board), name="fox")
    client._end_reporter()
    client.attach()
    publish()
    eventually(lambda: "verdict" in kinds(board))
    assert "still" in client.join(invitation(board)).text
    assert len(board.room.present()) == 1


def test_a_pseudonym_is_suggested_and_wrong_codes_are_told(board, home):
    assert client.join(invitation(board)).text
    assert board.room.present()[0].name == client.membership().name
    with pytest.raises(CourseError, match="code is not right"):
        client.join(f"AAAA-AAAA@{board.url}", name="hen")
    for wrong in ("K7QD", "K7QD@", "@host", "A@ftp://host", "A@http://"):
        with pytest.raises(CourseError, match="is not an invitation"):
            client.join(wrong)
    with pytest.raises(CourseError, match="No workshop answers"):
        client.join(f"K7QD-2M4X@127.0.0.1:{kit.free_port()}")
    assert Address.parse("k7qd-2m4x@example.org/course/") == Address("K7QD2M4X", "http://example.org/course")


def test_set_by_a_hub_consent_is_shown_once_before_the_first_event(board, home, monkeypatch):
    monkeypatch.setenv("MI_COURSE_WORKSHOP", invitation(board))
    monkeypatch.setenv("MI_COURSE_WORKSHOP_NAME", "hub-user")
    client.attach()
    time.sleep(0.3)
    assert (home, kinds(board)) == ([], []), "nothing happens before something is checked"
    publish()
    eventually(lambda: kinds(board) == ["joined", "verdict"])
    assert "This JupyterHub takes part" in home[0].text
    assert board.room.find("hub-user")
    client._end_reporter()
    (client.folder() / "membership.json").unlink()
    client.attach()
    publish()
    eventually(lambda: kinds(board).count("verdict") == 2)
    assert len(home) == 1
    assert len(board.room.present()) == 2, "the name was taken, so a pseudonym stood in"
    client.leave()
    client.attach()
    assert client._reporter is None


def test_only_notebooks_where_someone_works_report(board, home, monkeypatch):
    client.join(invitation(board), name="fox")
    monkeypatch.setattr(client, "someone_works_here", lambda: False)
    publish()
    client._end_reporter()
    client.attach()
    assert client._reporter is None
    assert kinds(board) == ["joined"]


NOTEBOOK = """
import mi_course
from mi_course.workshop import client
print(client.someone_works_here(), client._reporter is not None)
mi_course._attach("start_here")  # what `mi_course.lesson` does, without torch
print(client._reporter is not None)
"""


def test_a_kernel_with_a_person_reports_and_nbclient_does_not(board, tmp_path, monkeypatch):
    """In real kernels: JupyterLab allows input, nbclient (as build and nbval do) does not."""
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path))
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    client.join(invitation(board), name="fox")
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    for allowed in (False, True):
        manager, kernel = start_new_kernel(kernel_name="python3", env=environment, startup_timeout=60)
        try:
            printed: list[str] = []

            def keep(message, printed=printed) -> None:
                printed.append(message["content"].get("text", "") or str(message["content"].get("evalue", "")))

            kernel.allow_stdin = allowed
            kernel.execute_interactive(NOTEBOOK, allow_stdin=allowed, output_hook=keep, timeout=120)
            assert "".join(printed).split() == [str(allowed), "False", str(allowed)]
        finally:
            kernel.stop_channels()
            manager.shutdown_kernel(now=True)


def test_neither_pytest_nor_a_script_reports(monkeypatch):
    assert not client.someone_works_here()
    monkeypatch.setenv("MI_COURSE_WORKSHOP", "off")
    assert not client.someone_works_here()
    code = "import mi_course.workshop.client as c, sys; print(c.someone_works_here(), 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_client_needs_the_course_alone():
    """No package of the extra `workshop`."""
    code = """
import sys
for name in ("starlette", "uvicorn", "httptools", "sse_starlette", "itsdangerous", "segno", "psycopg"):
    sys.modules[name] = None
from mi_course.workshop import client, notice, outbox, protocol
client.Reporter(None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Nothing is lost, nothing doubled, nothing delayed


def test_a_server_that_is_away_loses_and_doubles_nothing(tmp_path, home, monkeypatch):
    monkeypatch.setattr(client, "LONGEST_RETRY_S", 0.3)
    file, port = tmp_path / "board.sqlite3", kit.free_port()
    with kit.board(file, port=port) as board:
        client.join(invitation(board), name="fox")
        publish(attempt=1)
        eventually(lambda: "verdict" in kinds(board))
    for attempt in range(2, 8):
        publish(attempt=attempt)
    eventually(lambda: client._reporter.problem)
    assert "it tries again" in str(client.status())
    client._end_reporter()  # the laptop is closed
    client.attach()
    publish(attempt=8)
    with kit.board(file, port=port) as board:
        eventually(lambda: kinds(board).count("verdict") == 8, 20)
        attempts = [e.body["attempt"] for e in board.store.read(board.session.id) if e.kind == "verdict"]
        assert sorted(attempts) == list(range(1, 9))
        eventually(lambda: not len(client._reporter.outbox))


def test_a_reply_that_is_lost_doubles_nothing(board, home, monkeypatch):
    """The server stored it, but the acknowledgement did not arrive."""
    monkeypatch.setattr(client, "LONGEST_RETRY_S", 0.2)
    real, lost = client.request, []

    def loses_the_first(url, body=None, token=""):
        reply = real(url, body, token)
        if url.endswith("/api/events") and len(lost) < 2:
            lost.append(url)
            raise OSError("the network is gone")
        return reply

    client.join(invitation(board), name="fox")
    monkeypatch.setattr(client, "request", loses_the_first)
    for attempt in range(5):
        publish(attempt=attempt)
    eventually(lambda: len(lost) == 2 and not len(client._reporter.outbox))
    assert kinds(board).count("verdict") == 5


def test_what_a_killed_process_left_is_sent_by_the_next(board, home):
    client.join(invitation(board), name="fox")
    session = client.membership().session
    code = f"""
import os, sys
from pathlib import Path
from mi_course.workshop.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for line in {[verdict(attempt=7), verdict(attempt=8)]!r}:
    outbox.put(line)
os.write(outbox._file, b'{{"key": "half a li')
os.kill(os.getpid(), 9)
"""
    folder = client.folder() / "outbox" / session
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    client._reporter._adopt_at = float("-inf")
    publish(attempt=9)
    eventually(lambda: kinds(board).count("verdict") == 3)
    eventually(lambda: [path.stat().st_size for path in folder.glob("*.jsonl")] == [0])


def test_the_outbox_is_bounded_and_works_without_a_disk(tmp_path, monkeypatch):
    import mi_course.workshop.outbox as module

    monkeypatch.setattr(module, "LARGEST", 2000)
    outbox = Outbox(tmp_path / "a")
    kept = sum(outbox.put(verdict()) for _ in range(50))
    assert 5 < kept < 15
    assert outbox.lost == 50 - kept
    outbox.done({item["key"] for item in outbox.batch(100)})
    assert outbox.put(verdict())
    outbox.close()
    (tmp_path / "file").write_text("in the way")
    nowhere = Outbox(tmp_path / "file" / "below")
    assert nowhere.put(verdict())
    assert len(nowhere.batch(5)) == 1
    nowhere.close()


def test_one_process_does_not_take_another_ones_file(tmp_path):
    first, second = Outbox(tmp_path), Outbox(tmp_path)
    first.put(verdict())
    assert second.adopt() == 0
    first.close()
    assert second.adopt() == 1
    assert len(second) == 1
    second.close()


class Hanging(threading.Thread):
    """A server that accepts, and never answers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        held = []
        while True:
            held.append(self.socket.accept())


@pytest.mark.parametrize("server", ["up", "down", "hanging"])
def test_a_check_is_not_delayed(board, home, server):
    """By less than 5 ms of this thread; the benchmark measures it by the clock."""
    client.join(invitation(board), name="fox")
    if server != "up":
        member = client.membership()
        member.url = f"http://127.0.0.1:{Hanging().port if server == 'hanging' else kit.free_port()}"
        client._save(member)
        client._end_reporter()
        client.attach()
    publish()
    took = []
    for _ in range(50):
        start = time.thread_time()
        publish()
        took.append(time.thread_time() - start)
    assert sorted(took)[45] < 0.005
    start = time.monotonic()
    client._end_reporter()
    assert time.monotonic() - start < 3.0, "a kernel that ends waits a second at most"


# ---------------------------------------------------------------------------------------------------------------------
# What the leads say


def test_closed_solutions_are_closed_for_who_asks_and_open_when_the_server_is_lost(board, home, monkeypatch):
    lead = board.lead()
    client.join(invitation(board), name="fox")
    assert not [reason for reason in course._guards if reason("lab.double")]
    lead("api/lead/close", {"what": "reveals:lab", "until": "2099-01-01T15:30:00+00:00"})
    lead("api/lead/close", {"what": "lesson:field"})
    client._reporter.heard_at -= 5
    (guard,) = course._guards
    said = guard("lab.double")
    assert "Solutions open at" in said
    assert "Nothing is locked" in said
    assert guard("field.double") is None
    client.lesson_notice("field")
    assert "when its leads open it" in home[-1].text
    client._reporter.heard_at = time.monotonic() - client.FRESH_S - 1
    monkeypatch.setattr(client._reporter, "ask_now", lambda: None)
    assert guard("lab.double") is None


def test_messages_are_shown_with_the_next_verdict_and_never_saved(board, home, monkeypatch):
    from mi_course.workshop import notice

    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(notice, "show", lambda title, text: shown.append((title, text)))
    client.join(invitation(board), name="fox")
    lead = board.lead()
    lead("api/lead/message", {"text": "Look at the board"})
    lead("api/lead/message", {"text": "Only for shift", "exercise": "lab.shift"})
    publish()
    eventually(lambda: client._reporter.notices.get("messages"))
    publish()
    assert shown == [("From the leads of A day", "Look at the board")]
    publish(kind="hint", hint=1)
    assert len(shown) == 1
    message = notice.Message("From the leads", "xyzzy")
    assert "xyzzy" not in json.dumps(message._repr_mimebundle_())
    widget = message.widget()
    assert "xyzzy" not in json.dumps(widget.get_state(), default=str)
    assert "xyzzy" not in json.dumps(widget._repr_mimebundle_(), default=str)


def test_the_end_of_a_workshop_or_membership_ends_reporting(board, home):
    client.join(invitation(board), name="fox")
    board.lead()("api/lead/remove", {"participant": board.room.find("fox").id})
    publish()
    eventually(lambda: not client._reporter.active)
    assert client.membership() is None
    assert "membership has ended" in str(client.status())


def test_a_redirect_does_not_take_the_token_along(home):
    import http.server

    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/stolen")
            self.end_headers()

        def log_message(self, *args) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(client.ServerRefused):
        client.request(f"http://127.0.0.1:{server.server_port}/api/me", token="secret")
    assert asked == ["/api/me"]
    server.shutdown()


def test_readiness_is_reported_by_name_only(board, home):
    with pytest.raises(CourseError, match="in no workshop"):
        client.report_ready({"Python": "ok"})
    client.join(invitation(board), name="fox")
    assert "knows now" in client.report_ready({"Python": "ok", "SmolLM2": "missing"})
    assert board.room.find("fox").ready == {"Python": "ok", "SmolLM2": "missing"}


def test_the_doctors_result_is_collected_on_the_board(board, home, monkeypatch):
    """As a learner types it, the day before."""
    from typer.testing import CliRunner

    from mi_course import cli, doctor

    client.join(invitation(board), name="fox")
    for state in ("missing", "ok"):
        found = doctor.Finding("offline", state, "/home/fox/secret.txt cannot be read")
        monkeypatch.setattr(doctor, "offline", lambda found=found: found)
        monkeypatch.setattr(doctor, "examine", lambda *more: [doctor.Finding("Python", "ok", "3"), more[-1]()])
        done = CliRunner().invoke(cli.app, ["doctor", "--offline", "--send"])
        assert done.exit_code == (state == "missing")
        assert "knows now" in done.output
        assert board.room.find("fox").ready == {"Python": "ok", "offline": state}
        row = board.room.class_row(time.time())
        assert (row["examined"], row["ready"]) == (1, int(state == "ok"))
    assert "secret" not in json.dumps([entry.body for entry in board.store.read(board.session.id)])


def test_the_membership_is_private(board, home):
    client.join(invitation(board), name="fox")
    assert Path(client.folder() / "membership.json").stat().st_mode & 0o077 == 0
    assert client.membership().token not in repr(client.membership())
