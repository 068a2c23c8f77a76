"""The server: who joins, what is stored, what boards are told, what leads can do."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import workshop_kit as kit
from workshop_kit import Visitor, eventually, hint, verdict

from mi_course.workshop.store import open_store


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_an_event_is_on_disk_before_it_is_acknowledged_and_once(database):
    with kit.board(database) as board:
        fox = board.learner("brave fox")
        one, two = verdict(), verdict(status="passed", attempt=2)
        assert fox.send(one, one, two).json["accepted"] == [one["key"], one["key"], two["key"]]
        assert fox.send(one).json["accepted"] == [one["key"]]
        stored = [entry for entry in board.store.read(board.session.id) if entry.kind == "verdict"]
        assert [entry.key for entry in stored] == [one["key"], two["key"]]
        assert stored[0].body == {
            "exercise": "lab.double", "revision": 1, "status": "wrong", "attempt": 1, "mistake": "square",
        }  # fmt: skip
        person = board.room.find("Brave Fox")
        assert (person.cells["lab.double"].status, person.cells["lab.double"].attempts) == ("passed", 2)


def test_restarting_loses_nothing(database):
    with kit.board(database) as board:
        fox, lead = board.learner("fox", "4"), board.lead()
        fox.send(verdict(), hint("lab.double", 1))
        lead("api/lead/close", {"what": "reveals:*"})
        lead("api/lead/message", {"text": "Hello"})
        before = board.workshop.live.board_snapshot()
        port = int(board.url.rpartition(":")[2])
    with kit.board(database, port=port) as board:
        after = board.workshop.live.board_snapshot()
        before.pop("now"), after.pop("now")
        assert json.dumps(after, sort_keys=True) == json.dumps(before, sort_keys=True)
        assert fox.send(verdict()).json["messages"][0]["text"] == "Hello"
        assert lead("api/whoami").json["role"] == "lead"


def test_two_servers_on_one_database_show_the_same(postgres_server):
    database = postgres_server.create()
    with kit.board(database) as first, kit.board(database) as second:
        assert first.session.id == second.session.id
        fox = first.learner("fox")
        eventually(lambda: second.room.find("fox"))
        fox.url = second.url
        assert fox.send(verdict()).status == 200
        eventually(lambda: first.room.find("fox").cells)
        lead = second.lead()
        lead.url = first.url
        assert lead("api/lead/code", {}).status == 200
        eventually(lambda: first.room.code == second.room.code)


def test_the_board_is_told_within_half_a_second(board):
    fox, lead = board.learner("fox"), board.lead()
    stream = lead.follow()
    event, snapshot = next(stream)
    assert event == "snapshot"
    assert [person["name"] for person in snapshot["people"]] == ["fox"]
    start = time.monotonic()
    fox.send(verdict())
    for _, data in stream:
        if data.get("cells"):
            break
    assert time.monotonic() - start < 2.0  # the bar, 0.5 s, is measured by tests/benchmarks/workshop.py
    assert data["cells"][0][1:] == ["lab.double", ["wrong", 1, 0, 0, pytest.approx(time.time(), abs=3), "square"]]
    while not data.get("exercises", {}).get("lab.double", {}).get("tried"):
        _, data = next(stream)
    assert data["exercises"]["lab.double"] == {
        "on": 1, "passed": 0, "tried": 1, "mistakes": [["square", 1]], "minutes": None,
    }  # fmt: skip


def test_a_viewer_who_comes_back_gets_what_was_missed(board):
    fox, lead = board.learner("fox"), board.lead()
    request_id = ""
    import urllib.request

    def first_id(last: str) -> tuple[str, str]:
        request = urllib.request.Request(f"{board.url}/api/board", headers={"Last-Event-ID": last} if last else {})
        request.add_header("Cookie", f"mi_lead={lead.cookies['mi_lead']}")
        with urllib.request.urlopen(request, timeout=10) as stream:
            number = stream.readline().decode().strip().removeprefix("id: ")
            return number, stream.readline().decode().strip()

    request_id, event = first_id("")
    assert event == "event: snapshot"
    fox.send(verdict())
    time.sleep(0.7)
    assert first_id(request_id)[1] == "event: changes"
    for nonsense in ("x", "a-b", f"{request_id.partition('-')[0]}-99999", "٣-٣", f"{request_id.partition('-')[0]}--4"):
        assert first_id(nonsense.encode().decode("latin-1"))[1] == "event: snapshot"


def test_wrong_clocks_do_not_matter(board):
    fox = board.learner("fox")
    board.room.find("fox").joined -= 1000
    off = timedelta(days=400, hours=3)
    sent = datetime.now(UTC) + off
    fox("api/events", {"sent_at": sent.isoformat(), "events": [verdict(at=(sent - timedelta(seconds=90)).isoformat())]})
    at = board.room.find("fox").cells["lab.double"].at
    assert at == pytest.approx(time.time() - 90, abs=5)
    future = verdict("lab.shift", at=(sent + timedelta(hours=5)).isoformat())
    fox("api/events", {"sent_at": sent.isoformat(), "events": [future]})
    assert board.room.find("fox").cells["lab.shift"].at <= time.time()


def test_one_bad_event_does_not_stop_the_others(board):
    fox = board.learner("fox")
    good = verdict()
    bad = [
        verdict("../etc"),
        verdict(status="great"),
        verdict(mistake="x" * 200),
        verdict(revision=True),
        verdict(at="yesterday"),
        {"key": "short"},
        "text",
        None,
        verdict() | {"kind": "code"},
        {"key": "k" * 20, "kind": "hand", "at": kit.now(), "up": 1},
        {"key": "k" * 20, "kind": "ready", "at": kit.now(), "findings": {"Python": "great"}},
    ]
    reply = fox.send(*bad, good)
    assert reply.json["accepted"] == [good["key"]]
    assert len(reply.json["refused"]) == len(bad)
    assert "great" not in reply.text, "what was refused is not sent back"


def test_what_is_not_listed_is_not_stored(board):
    fox = board.learner("fox")
    fox.send(verdict() | {"code": "import secret", "output": "xyzzy", "message": "xyzzy"})
    stored = json.dumps([entry.body for entry in board.store.read(board.session.id)])
    assert "xyzzy" not in stored
    assert "secret" not in stored


# ---------------------------------------------------------------------------------------------------------------------
# Joining and coming back


def test_names_are_unique_and_the_return_key_brings_one_back(board):
    fox = board.learner("Brave Fox")
    code = board.room.code
    taken = board.visitor()("api/join", {"code": code, "name": "brave fox"})
    assert taken.status == 409
    assert "return key" in taken.json["error"]
    lead = board.lead()
    key = lead("api/lead/return_key", {"participant": board.room.find("brave fox").id}).json["return_key"]
    thief = board.visitor()
    assert thief("api/join", {"code": code, "name": "brave fox", "return_key": "AAAA-AAAA"}).status == 403
    fox.send(verdict())
    back = thief("api/join", {"code": code.lower(), "name": "BRAVE FOX", "return_key": key.lower()})
    assert (back.status, back.json["name"]) == (200, "Brave Fox")
    assert fox.send(verdict()).status == 410, "the lost laptop's token has ended"
    thief.token = back.json["token"]
    assert thief.send(verdict(status="passed", attempt=2)).status == 200
    assert board.room.find("brave fox").cells["lab.double"].attempts == 2
    again = board.visitor()("api/join", {"code": code, "name": "brave fox", "return_key": key})
    assert again.status == 403, "the key has changed"


def test_a_new_code_leaves_those_inside_inside(board):
    fox, lead, old = board.learner("fox"), board.lead(), board.room.code
    assert lead("api/lead/code", {}).status == 200
    assert board.room.code != old
    assert board.visitor()("api/join", {"code": old, "name": "hen"}).status == 403
    assert fox.send(verdict()).status == 200


def test_leaving_removing_and_forgetting(board):
    lead = board.lead()
    people = {name: board.learner(name) for name in ("fox", "hen", "owl")}
    for visitor in people.values():
        visitor.send(verdict())
    assert board.room.exercise_rows()["lab.double"]["tried"] == 3
    assert people["fox"]("api/leave", {}).status == 200
    assert board.room.exercise_rows()["lab.double"]["on"] == 2
    ids = {name: board.room.find(name).id for name in people}
    assert lead("api/lead/remove", {"participant": ids["hen"]}).status == 200
    assert people["hen"].send(verdict()).status == 410
    assert board.room.exercise_rows()["lab.double"]["tried"] == 2
    assert lead("api/lead/forget", {"participant": ids["owl"]}).status == 200
    assert people["owl"].send(verdict()).status == 410
    assert board.room.find("owl") is None
    assert "owl" not in json.dumps([[entry.body, entry.kind] for entry in board.store.read(board.session.id)])
    names = [person["name"] for person in board.workshop.live.board_snapshot()["people"]]
    assert names == ["fox"]
    board.learner("owl")  # the name is free again


def test_the_command_line_forgets_while_the_board_is_open(tmp_path):
    from mi_course.workshop import serve

    file = str(tmp_path / "board.sqlite3")
    with kit.board(file) as board:
        fox = board.learner("fox")
        fox.send(verdict())
        assert "of FOX in A day" in serve.forget(file, "FOX")
        eventually(lambda: board.room.find("fox") is None)
        assert fox.send(verdict()).status == 410
        assert "Deleted A day" in serve.purge(file, everything=False)
        eventually(lambda: board.workshop.live.gone)
        assert board.visitor()("api/join", {"code": board.room.code, "name": "hen"}).status == 410


def test_what_is_older_than_was_promised_is_deleted(tmp_path):
    from mi_course.workshop import serve
    from mi_course.workshop.server import new_session
    from mi_course.workshop.store import Entry

    store = open_store(tmp_path / "board.sqlite3")
    old, fresh = new_session(store, "Old"), new_session(store, "Fresh")
    store._db.execute("UPDATE log SET at = at - 86400 * 31 WHERE session = ?", (old.id,))
    store.append(fresh.id, [Entry("hint", "a", time.time(), {})])
    said: list[str] = []
    serve._delete_old(store, 30, said.append)
    assert [session.title for session in store.sessions()] == ["Fresh"]
    assert "Deleted Old" in said[0]
    store.close()


# ---------------------------------------------------------------------------------------------------------------------
# What leads see and do


def test_hands_are_taken_by_one_lead(board):
    fox, ana, bo = board.learner("fox"), board.lead("Ana"), board.lead("Bo")
    who = board.room.find("fox").id
    up = {"key": kit.key_of("up"), "kind": "hand", "at": kit.now(), "up": True, "exercise": "lab.double"}
    assert fox.send(up).json["hand"] == {"lead": None}
    ana("api/lead/hand_take", {"participant": who})
    bo("api/lead/hand_take", {"participant": who})
    assert fox("api/me").json["hand"] == {"lead": "Ana"}
    bo("api/lead/hand_down", {"participant": who})
    assert fox("api/me").json["hand"] is None


def test_messages_and_closed_things_reach_the_notebook(board):
    fox, lead = board.learner("fox"), board.lead()
    lead("api/lead/message", {"text": "  Look\nat the <b>board</b> ", "minutes": 5})
    lead("api/lead/message", {"text": "For some", "exercise": "lab.double"})
    lead("api/lead/close", {"what": "reveals:lab", "until": (datetime.now(UTC) + timedelta(minutes=30)).isoformat()})
    lead("api/lead/close", {"what": "lesson:field"})
    lead("api/lead/close", {"what": "reveals:field", "until": ago(60)})
    lead("api/lead/timer", {"minutes": 10, "label": "break"})
    notices = fox("api/me").json
    assert [(m["text"], m["exercise"]) for m in notices["messages"]] == [
        ("Look at the <b>board</b>", None),
        ("For some", "lab.double"),
    ]
    closed = {item["what"]: item["opens_in_s"] for item in notices["closed"]}
    assert closed == {"reveals:lab": pytest.approx(1800, abs=5), "lesson:field": None}
    assert notices["timer_s"] == pytest.approx(600, abs=5)
    lead("api/lead/message_down", {"id": notices["messages"][0]["id"]})
    lead("api/lead/open", {"what": "lesson:field"})
    notices = fox("api/me").json
    assert len(notices["messages"]) == len(notices["closed"]) == 1
    for body in ({"what": "lesson:*"}, {"what": "x"}, {"what": "reveals:nowhere"}, {"what": 5}, {}):
        assert lead("api/lead/close", body).status == 422
    for body in ({"text": ""}, {"text": "x" * 501}, {"text": "x", "minutes": -1}, {"text": "x", "exercise": "no"}):
        assert lead("api/lead/message", body).status == 422


def test_the_projector_shows_the_class_not_the_pupil(board):
    names = ["zebra-fox", "zebra-hen", "zebra-owl"]
    for name, mistake in zip(names, ("square", "square", "off_by_one"), strict=True):
        board.learner(name, table="zebra table").send(verdict(mistake=mistake))
    board.lead()("api/lead/message", {"text": "For one exercise", "exercise": "lab.double"})
    projector = board.projector()
    event, snapshot = next(projector.follow("api/projector"))
    assert event == "snapshot"
    assert "zebra" not in json.dumps(snapshot)
    ids = {person.id for person in board.room.present()}
    assert not any(id in json.dumps(snapshot) for id in ids)
    assert snapshot["exercises"]["lab.double"]["mistakes"] == [["square", 2]], "one person's mistake is not shown"
    assert snapshot["class"]["joined"] == 3
    assert snapshot["controls"]["messages"] == []
    assert projector("api/board").status == 403
    assert projector("summary.csv").status == 403
    assert projector("api/lead/end", {}).status == 403
    assert projector("api/catalogue").status == 200
    assert "<svg" in projector("api/qr.svg").text


def test_readiness_of_laptops_is_collected(board):
    fox, hen = board.learner("fox"), board.learner("hen")
    for visitor, state in ((fox, "ok"), (hen, "missing")):
        event = {"key": kit.key_of(visitor.name), "kind": "ready", "at": kit.now(), "findings": {"SmolLM2": state}}
        assert visitor.send(event).json["refused"] == []
    row = board.room.class_row(time.time())
    assert (row["examined"], row["ready"]) == (2, 1)
    assert board.room.person_row(board.room.find("hen"))["ready"] == ["SmolLM2"]


def test_the_summary_says_where_time_went_and_which_hints_helped(board):
    start = time.time() - 7200
    events = {
        "fox": [(60, verdict()), (90, hint("lab.double", 1)), (660, verdict(status="passed", attempt=2))],
        "=hen": [(60, verdict()), (70, hint("lab.double", 1)), (80, hint("lab.double", 2)), (4000, verdict(attempt=2))],
        "owl": [(120, verdict(status="passed")), (180, verdict("extra.unknown", mistake="<script>alert(1)</script>"))],
    }
    for name, sent in events.items():
        visitor = board.learner(name)
        person = board.room.find(name)
        person.joined = person.event_at = start
        for after, event in sent:
            event["at"] = ago(time.time() - start - after)
            assert visitor.send(event).json["accepted"]
    board.store._db.execute("UPDATE log SET at = ? WHERE kind = 'joined'", (start,))
    lead = board.lead()
    data = lead("summary.json").json
    by_id = {row["id"]: row for row in data["exercises"]}
    assert list(by_id) == ["lab.double", "extra.unknown"]
    double = by_id["lab.double"]
    assert (double["tried"], double["passed"], double["minutes"]) == (3, 2, pytest.approx(6.5, abs=0.1))
    assert double["lost_minutes"] == pytest.approx(6 + 1 + 0.3 + 15, abs=1.1), "a pause counts as 20 minutes"
    assert double["mistakes"] == [["square", 2, "That is the `square`, not the double."]]
    assert double["hints"] == [[1, 2, 1], [2, 1, 0]]
    assert {event["name"] for event in data["events"]} == {"fox", "=hen", "owl"}
    rows = list(csv.reader(io.StringIO(lead("summary.csv").text)))
    assert {row[0] for row in rows[1:]} == {"fox", "'=hen", "owl"}
    page = lead("summary.html")
    assert "sha256-" in page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "<svg" in page.text
    assert not [part for part in ("http://", "https://", "src=") if part in page.text]


def test_the_end(board):
    fox, lead = board.learner("fox"), board.lead()
    lead("api/lead/end", {})
    assert fox.send(verdict()).status == 410
    assert board.visitor()("api/join", {"code": board.room.code, "name": "hen"}).status == 410
    assert lead("summary.html").status == 200


def test_a_prefix_that_the_proxy_leaves_on(tmp_path):
    with kit.board(tmp_path / "b.sqlite3", prefix="/services/board") as board:
        fox, lead = board.learner("fox"), board.lead()
        assert fox.send(verdict()).status == 200
        assert lead("board").status == 200
        assert next(lead.follow())[0] == "snapshot"
        assert 'href="static/workshop.css"' in lead("").text
        assert lead("static/workshop.css").headers["Content-Type"].startswith("text/css")
        root = Visitor(board.url.removesuffix("/services/board"))
        assert root("board").status == 404
