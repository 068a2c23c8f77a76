"""Who may do what, what is bounded, and what nonsense does: no 5xx, no leak."""

from __future__ import annotations

import json
import random
import re
import socket
import time

import pytest
import workshop_kit as kit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workshop_kit import Visitor, verdict

from mi_course.workshop.protocol import BadField, clean_event, clean_name, new_code, pseudonym
from mi_course.workshop.security import Limiter, Tokens
from mi_course.workshop.store import Session

LEADS_READ = ["board", "api/board", "summary.html", "summary.csv", "summary.json"]
WATCHERS_READ = ["projector", "api/projector", "api/catalogue", "api/whoami", "api/qr.svg"]


def actions(board) -> list[str]:
    return [name.removeprefix("_do_") for name in dir(board.workshop) if name.startswith("_do_")]


def test_a_learners_token_opens_no_route_of_the_leads(board):
    fox = board.learner("fox")
    assert len(actions(board)) == 15
    forged = [
        Visitor(board.url, token=fox.token),
        Visitor(board.url, cookies={"mi_lead": fox.token}),
        Visitor(board.url, cookies={"mi_lead": fox.token, "mi_projector": fox.token}),
        Visitor(board.url, token=fox.token, cookies={"mi_lead": ""}),
        Visitor(board.url),
    ]
    before = len(board.store.read(board.session.id))
    body = {"participant": board.room.find("fox").id, "text": "x", "name": "x", "what": "reveals:*", "minutes": 5}
    for visitor in forged:
        for path in LEADS_READ + WATCHERS_READ:
            assert visitor(path).status == 403, path
        for action in actions(board):
            assert visitor(f"api/lead/{action}", body, Origin=board.url).status == 403, action
    assert len(board.store.read(board.session.id)) == before


def test_tokens_are_bound_to_their_session_and_role(board):
    other = Tokens(Session("other", "Other", 0.0, "another secret"))
    same_secret = Tokens(Session("other", "Other", 0.0, board.session.secret))
    ours, who = board.workshop.tokens, board.learner("fox")
    id, generation = ours.read_learner(who.token)
    for tokens in (other, same_secret):
        assert Visitor(board.url, token=tokens.learner(id, generation)).send(verdict()).status == 403
        assert Visitor(board.url, cookies={"mi_lead": tokens.lead("Ana")})("api/whoami").status == 403
        assert Visitor(board.url, cookies={"mi_projector": tokens.projector()})("api/whoami").status == 403
    for wrong in (ours.lead("Ana"), ours.projector(), who.token[:-2], who.token + "x", "", "a.b.c", "é"):
        assert Visitor(board.url, token=wrong.encode().decode("latin-1")).send(verdict()).status == 403
    assert ours.read_lead(ours.projector()) is None
    assert ours.read_lead(who.token) is None
    assert not ours.is_projector(ours.lead("projector"))


def test_a_learner_writes_for_nobody_else(board):
    fox, hen = board.learner("fox"), board.learner("hen")
    hen_id = board.room.find("hen").id
    fox.send(verdict() | {"participant": hen_id, "name": "hen"})
    assert board.room.find("hen").cells == {}
    for path in ("api/me", "api/events"):
        text = (fox(path) if path == "api/me" else fox.send(verdict())).text
        assert "hen" not in text
        assert hen_id not in text
    hen.send(verdict())


def test_requests_from_other_pages_are_refused(board):
    lead = board.lead()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://", "//x", "http://[", ""):
        lead.origin = origin
        assert lead("api/lead/end", {}).status == 403, origin
    assert not board.room.ended
    fox = board.learner("fox")
    reply = fox("api/events", {"sent_at": kit.now(), "events": []}, Origin="http://evil.example")
    assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_every_page_has_its_headers_and_its_cookie_is_hidden(board):
    lead = board.lead()
    for path in ("", "board", "enter", "projector", "summary.html", "static/board.js", "nowhere", "api/whoami"):
        headers = lead(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers or "uvicorn" in headers["Server"]
    from mi_course.workshop.server import lead_link

    visitor = board.visitor()
    cookie = visitor("enter", {"token": lead_link(board.store, board.session, "Bo")}).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    board.workshop._secure = True
    assert "Secure" in board.visitor()("enter", {"token": board.workshop.tokens.projector()}).headers["Set-Cookie"]


def test_the_pages_hold_nothing_inline_and_nothing_from_elsewhere(board):
    lead = board.lead()
    for path in ("", "board", "enter", "projector"):
        page = lead(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page), path
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page), path
    script = lead("static/board.js").text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://(?!\\)",
        script.replace(r"^http:\/\/", ""),
    )


def test_wrong_codes_are_slowed_down(board):
    guesses = [board.visitor()("api/join", {"code": new_code(), "name": f"g{i}"}).status for i in range(20)]
    assert guesses[:12] == [403] * 12
    assert set(guesses[13:]) == {429}
    late = board.visitor()("api/join", {"code": board.room.code, "name": "fox"})
    assert late.status == 429, "so that a guess cannot be told to be right either"
    assert int(late.headers["Retry-After"]) >= 1
    assert board.visitor()("enter", {"token": "x"}).status == 429


def test_codes_links_and_names_are_random():
    assert len({new_code() for _ in range(1000)}) == 1000
    assert re.fullmatch(r"[2-9A-HJ-NP-Z]{8}", new_code())
    assert len({pseudonym() for _ in range(200)}) > 190


def test_rates_and_sizes_are_bounded(board):
    fox = board.learner("fox")
    assert fox("api/events", b"x" * 70_000).status == 413
    assert fox.send(*[verdict() for _ in range(101)]).status == 422
    statuses = {fox.send(*[verdict() for _ in range(100)]).status for _ in range(15)}
    assert statuses == {200, 429}
    with socket.create_connection(("127.0.0.1", int(board.url.rpartition(":")[2])), timeout=10) as link:
        link.sendall(b"GET /" + b"x" * 20_000)  # and no end
        assert link.recv(100).startswith(b"HTTP/1.1 400")
    lead = board.lead()
    assert {lead("api/lead/timer", {}).status for _ in range(90)} == {200, 429}


def test_a_limiter_forgets_and_refills():
    limiter = Limiter(rate=100, burst=2, kept=3)
    assert [limiter.wait_s("a") > 0 for _ in range(3)] == [False, False, True]
    time.sleep(0.03)
    assert limiter.wait_s("a") == 0
    for i in range(10):
        limiter.wait_s(f"x{i}")
    assert len(limiter._buckets) == 3


def test_a_slow_request_is_ended(board, monkeypatch):
    import mi_course.workshop.server as server

    monkeypatch.setattr(server, "BODY_S", 0.3)
    fox, port = board.learner("fox"), int(board.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        head = f"POST /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fox.token}\r\n"
        slow.sendall(f"{head}Content-Length: 50\r\n\r\n{{".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_head_that_does_not_end_is_ended(board, monkeypatch):
    from mi_course.workshop import connection

    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    port = int(board.url.rpartition(":")[2])
    for begun in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(begun)
            start = time.monotonic()
            said = b""
            while piece := slow.recv(5000):
                said += piece
            assert time.monotonic() - start < 4
            assert (b"200 OK" in said) == (b"health" in begun)
    monkeypatch.setattr(connection, "HEAD_S", 10)
    for piece in (b"x", b"x: y\r\n"):  # one header without an end, and many
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            sent = b"GET / HTTP/1.1\r\n" + piece * (connection.HEAD_BYTES // len(piece))
            for i in range(0, len(sent), 4000):
                link.sendall(sent[i : i + 4000])
                time.sleep(0.02)
            assert link.recv(100).startswith(b"HTTP/1.1 400")
    whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:  # requests in pieces, one after the other
        for i in range(200):
            link.sendall(whole[: i % 30])
            time.sleep(0.001)
            link.sendall(whole[i % 30 :])
            said = b""
            while not said.endswith(b"\r\n\r\nok"):
                piece = link.recv(2000)
                assert piece
                said += piece


def test_hostile_names_stay_text(board):
    assert clean_name("  a\u202eb\u0000c\u200b\n d ") == "ab c d"
    for wrong in ("", "   ", "\u200b", "x" * 41, 5, None, ["x"], "\ud800"):
        with pytest.raises(BadField):
            clean_name(wrong)
    fox = board.learner("<img src=x onerror=alert(1)>")
    fox.send(verdict(mistake="</script><script>alert(1)</script>"))
    lead = board.lead()
    assert "<img" not in lead("summary.html").text
    assert "<script>" not in lead("summary.html").text
    assert lead("summary.json").headers["Content-Type"].startswith("application/json")


def test_no_secret_is_logged_or_shown(board, caplog, capfd):
    caplog.set_level("DEBUG", logger="uvicorn")
    caplog.set_level("DEBUG", logger="mi_course")
    fox, lead = board.learner("fox"), board.lead()
    fox.send(verdict())
    lead("api/lead/return_key", {"participant": board.room.find("fox").id})
    secrets = [fox.token, lead.cookies["mi_lead"], board.session.secret, board.room.code]
    said = caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in secrets if secret in said]
    assert board.session.secret not in repr(board.session)
    for path in ("summary.json", "api/whoami", "board"):
        assert not [secret for secret in secrets[:3] if secret in lead(path).text]


# ---------------------------------------------------------------------------------------------------------------------
# Nonsense

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "code",
    "name",
    "table",
    "return_key",
    "token",
    "text",
    "exercise",
    "minutes",
    "until",
    "what",
    "participant",
    "id",
    "label",
    "events",
    "sent_at",
]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "key": st.just("k" * 20) | st.text(max_size=70),
        "kind": st.sampled_from(["verdict", "hint", "reveal", "hand", "ready"]) | JSON,
        "at": st.just("2026-11-22T15:30:00+00:00") | st.text(max_size=40) | JSON,
        "exercise": st.just("lab.double") | JSON,
        "revision": st.integers() | JSON,
        "status": st.sampled_from(["passed", "wrong"]) | JSON,
        "attempt": st.integers() | JSON,
        "mistake": st.text(max_size=100) | JSON,
        "hint": st.integers() | JSON,
        "up": st.booleans() | JSON,
        "findings": st.dictionaries(st.text(max_size=40), st.sampled_from(["ok", "missing"]) | JSON, max_size=4) | JSON,
    },
)


@settings(max_examples=120, deadline=None)
@given(EVENTS | JSON)
def test_any_event_is_clean_or_refused(raw):
    try:
        event = clean_event(raw)
    except BadField:
        return
    text = json.dumps(event)
    assert len(text) < 2500
    assert "\\u0000" not in text
    assert not re.search(r"\\ud[89a-f]", text.replace(r"\\", "")) or text.encode()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    with kit.board(tmp_path_factory.mktemp("fuzz") / "board.sqlite3") as running:
        for name in ("_joins", "_all_joins", "_events", "_requests", "_leads"):
            setattr(running.workshop, name, Limiter(1e6, 1e6))
        running.hen = running.learner("hen")
        running.ana = running.lead()
        yield running


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_body_anywhere_gets_an_answer(fuzzed, data):
    visitor = data.draw(st.sampled_from([fuzzed.hen, fuzzed.ana, Visitor(fuzzed.url)]))
    paths = ["api/join", "api/events", "enter", "api/leave", *(f"api/lead/{action}" for action in actions(fuzzed))]
    path = data.draw(st.sampled_from([path for path in paths if path != "api/lead/end"]))
    body = data.draw(
        BODIES
        | st.fixed_dictionaries({"sent_at": st.just(kit.now()), "events": st.lists(EVENTS, max_size=3)})
        | st.binary(max_size=60)
    )
    visitor = Visitor(visitor.url, visitor.token, dict(visitor.cookies))
    reply = visitor(path, body)
    assert reply.status < 500, (path, body, reply.text)
    assert "Traceback" not in reply.text
    assert fuzzed.session.secret not in reply.text


def test_any_path_gets_an_answer(fuzzed):
    draw = random.Random(0)
    pieces = [
        "..",
        "static",
        "%2e%2e",
        "%00",
        "board.js",
        "api",
        "lead",
        "é",
        "%ff",
        ";",
        "?",
        "#",
        "//",
        "summary.",
        "a" * 300,
    ]
    for _ in range(200):
        path = "/".join(draw.choice(pieces) for _ in range(draw.randint(1, 5)))
        reply = fuzzed.ana(path.encode("ascii", "ignore").decode())
        assert reply.status < 500, path
    assert fuzzed.ana("static/..%2f..%2fserver.py").status == 404
    assert fuzzed.ana("static/../server.py").status == 404


def test_raw_bytes_bring_nothing_down(fuzzed):
    draw, port = random.Random(1), int(fuzzed.url.rpartition(":")[2])
    good = (
        b"POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
        + b"{" * 20
    )
    special = [
        b"", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET " + b"/" * 40_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n",
        b"POST /api/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"POST /api/join HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\nCookie: mi_lead=\xff\xfe\r\n\r\n",
        b"GET /api/whoami HTTP/1.1\r\nHost: x\r\nCookie: " + b"a=b; " * 2000 + b"\r\n\r\n",
    ]  # fmt: skip
    for i in range(150):
        if i < len(special):
            sent = special[i]
        else:
            changed = bytearray(good)
            for _ in range(draw.randint(1, 12)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            sent = bytes(changed)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.settimeout(0.05)
            try:
                link.sendall(sent)
                reply = link.recv(200)
            except OSError:
                reply = b""
        assert not re.match(rb"HTTP/1\.1 5", reply), (sent, reply)
    assert Visitor(fuzzed.url)("health").text == "ok"
