"""The board's web application. Learners' machines post events; leads and projectors follow the room.

Three kinds of visitors, each with a token of its own kind: learners send theirs as a bearer token, leads and
projectors have a cookie, which a link that they open is exchanged for. No page needs more than this server.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import segno
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mi_course.workshop import protocol, summary
from mi_course.workshop.catalogue import Catalogue
from mi_course.workshop.live import Live
from mi_course.workshop.protocol import BadField
from mi_course.workshop.room import Participant
from mi_course.workshop.security import HEADERS, Limiter, Tokens
from mi_course.workshop.store import Entry, Session, Store, StoreUnavailable

__all__ = ["Workshop", "application", "lead_link", "new_session"]

LINK_S = 24 * 3600.0
PARTICIPANTS = 500
EVENTS_EACH = 20_000
POLL_S = 10
"""How often a notebook asks whether there is something new."""
BODY_S = 10.0
FUTURE_S = 5.0
MESSAGE_CHARS = 500
STATIC = {
    "board.js": "text/javascript",
    "enter.js": "text/javascript",
    "join.js": "text/javascript",
    "workshop.css": "text/css",
    "icon.svg": "image/svg+xml",
}


class Refused(Exception):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: int, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.status, self.why, self.wait_s = status, why, wait_s

    def response(self) -> Response:
        headers = {"Retry-After": str(max(1, round(self.wait_s + 0.5)))} if self.wait_s else {}
        return JSONResponse({"error": self.why}, self.status, headers)


NOT_A_LEAD = Refused(403, "This is for the workshop's leads. Open the link that `mi-course workshop lead` prints.")


def new_session(store: Store, title: str, code: str = "") -> Session:
    """Create a session with a join code of its own, or this one."""
    session = Session(secrets.token_hex(8), title, time.time(), secrets.token_urlsafe(32))
    store.create(session)
    store.append(session.id, [Entry("code", None, time.time(), {"code": code or protocol.new_code()})])
    return session


def lead_link(store: Store, session: Session, name: str) -> str:
    """The part after `#` of a link that makes whoever opens it first a lead."""
    token = secrets.token_urlsafe(24)
    store.add_link(session.id, protocol.digest(token), name, time.time() + LINK_S)
    return token


async def read_body(receive: Receive, limit: int = protocol.BODY_BYTES) -> bytes:
    """The body, within limits on size and time. Raises Refused."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request ended early.")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise Refused(413, f"A request has at most {limit} bytes.")
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, f"The request took longer than {BODY_S:.0f} s.") from None


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "The body is not a JSON object.")
    return value


class Workshop:
    """The routes of one session."""

    def __init__(
        self,
        store: Store,
        session: Session,
        catalogue: Catalogue,
        *,
        address: str,
        hub: Any = None,
        days: int = 30,
    ) -> None:
        """address: where learners reach it, with scheme. days: how long it is kept; said on the join page.

        hub: a `mi_course.workshop.hub.Hub`, if JupyterHub says who leads.
        """
        self.live = Live(store, session)
        self.room, self.session, self.address, self.hub, self.days = self.live.room, session, address, hub, days
        self.tokens = Tokens(session)
        self.catalogue = json.dumps(catalogue).encode()
        self._catalogue = catalogue
        self._exercises = {exercise["id"] for lesson in catalogue for exercise in lesson["exercises"]}
        self._static = {name: (files(__package__) / "static" / name).read_bytes() for name in STATIC}
        self._secure = address.startswith("https:")
        self._joins = Limiter(rate=0.2, burst=12)  # wrong codes, from one address
        self._all_joins = Limiter(rate=20, burst=200)  # wrong codes, from anywhere
        self._events = Limiter(rate=20, burst=1_000)
        self._requests = Limiter(rate=20, burst=60)
        self._leads = Limiter(rate=10, burst=60)

    # -- Who is asking ------------------------------------------------------------------------------------------------

    def _learner(self, headers: Mapping[str, str] | Any) -> Participant:
        """Raises Refused: 403 without a token, 410 where the session or the membership has ended."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = self.tokens.read_learner(token.strip()) if scheme.lower() == "bearer" and len(token) < 1000 else None
        if found is None:
            raise Refused(403, "This is for those who have joined.")
        person = self.room.participants.get(found[0])
        if self.live.gone or self.room.ended:
            raise Refused(410, "The workshop has ended.")
        if person is None or person.removed or person.generation != found[1]:
            raise Refused(410, "This membership has ended. Join again to go on.")
        return person

    def _lead(self, request: Request) -> str:
        token = request.cookies.get("mi_lead", "")
        name = self.tokens.read_lead(token) if 0 < len(token) < 1000 else None
        if name is None:
            raise NOT_A_LEAD
        if self.live.gone:
            raise Refused(410, "The workshop was deleted.")
        if request.method == "POST":
            if not (request.headers.get("origin") or request.headers.get("sec-fetch-site") == "same-origin"):
                raise Refused(403, "The request does not say which page it comes from.")
            if wait := self._leads.wait_s(token):
                raise Refused(429, "Too many requests.", wait)
        return name

    def _watcher(self, request: Request) -> None:
        if not self.tokens.is_projector(request.cookies.get("mi_projector", "")[:1000]):
            self._lead(request)

    # -- Learners -----------------------------------------------------------------------------------------------------

    async def join(self, request: Request) -> Response:
        """The join code and a pseudonym, for a token; or code, pseudonym and return key, to come back."""
        body = parse(await read_body(request.receive))
        source = request.client.host if request.client else "?"
        for limiter, name in ((self._joins, source), (self._all_joins, "all")):
            if wait := limiter.wait_s(name, take=False):
                raise Refused(429, "Too many wrong codes came from your network. Wait a little.", wait)
        code = protocol.clean_code(protocol.clean_text(body.get("code"), "code", 40))
        if not secrets.compare_digest(code.encode(), self.room.code.encode()):
            self._joins.wait_s(source)
            self._all_joins.wait_s("all")
            raise Refused(403, "The code is not right. Compare it with the one on the wall; it may have changed.")
        if self.live.gone or self.room.ended:
            raise Refused(410, "The workshop has ended.")
        name, table = protocol.clean_name(body.get("name")), body.get("table")
        table = protocol.clean_text("" if table is None else table, "table", protocol.NAME_CHARS, empty=True)
        known = self.room.find(name)
        if body.get("return_key") is not None:
            return await self._come_back(known, body["return_key"], source)
        if known is not None:
            raise Refused(409, f"Someone here is called {known.name}. Take another name, or give your return key.")
        if len(self.room.participants) >= PARTICIPANTS:
            raise Refused(403, f"{PARTICIPANTS} people have joined, which is the most.")
        participant = secrets.token_hex(8)
        await self.live.append(Entry("joined", participant, time.time(), {"name": name, "table": table}))
        return self._welcome(self.room.participants[participant], 201)

    async def _come_back(self, person: Participant | None, key: Any, source: str) -> Response:
        given = protocol.clean_code(protocol.clean_text(key, "return_key", 40))
        right = person is not None and secrets.compare_digest(
            given.encode(), self.tokens.return_key(person.id, person.generation).encode()
        )
        if person is None or not right:
            self._joins.wait_s(source)
            self._all_joins.wait_s("all")
            raise Refused(403, "Name and return key do not belong together. A lead can look your key up.")
        entry = Entry("returned", person.id, time.time(), {"generation": person.generation + 1})
        await self.live.append(entry)
        return self._welcome(person, 200)

    def _welcome(self, person: Participant, status: int) -> Response:
        return JSONResponse(
            {
                "token": self.tokens.learner(person.id, person.generation),
                "name": person.name,
                "table": person.table,
                "title": self.session.title,
                "session": self.session.id,
                "return_key": protocol.shown_code(self.tokens.return_key(person.id, person.generation)),
                "days": self.days,
            },
            status,
        )

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A batch of events. Those that are named in `accepted` are on disk."""
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        try:
            person = self._learner(headers)
            body = parse(await read_body(receive))
            response: Response = JSONResponse(await self._store_events(person, body))
        except Refused as refused:
            response = refused.response()
        except StoreUnavailable:
            response = JSONResponse({"error": "The database cannot be reached now."}, 503, {"Retry-After": "2"})
        except BadField as error:
            response = JSONResponse({"error": f"{error}."}, 422)
        await response(scope, receive, send)

    async def _store_events(self, person: Participant, body: dict[str, Any]) -> dict[str, Any]:
        raw = body.get("events")
        if not isinstance(raw, list) or len(raw) > protocol.BATCH:
            raise Refused(422, f"events is not a list of at most {protocol.BATCH}.")
        if wait := self._events.wait_s(person.id, max(1, len(raw))):
            raise Refused(429, "Too many events.", wait)
        if person.events > EVENTS_EACH:
            raise Refused(403, f"{EVENTS_EACH} events have come from you, which is the most.")
        # Clocks of laptops are wrong. Only how long ago something happened is taken from them.
        now = time.time()
        ahead = protocol.timestamp(body.get("sent_at"), "sent_at") - now
        entries, accepted, refused = [], [], []
        for item in raw:
            try:
                event = protocol.clean_event(item)
            except BadField as error:
                key = item.get("key") if isinstance(item, dict) else None
                refused.append({"key": key if isinstance(key, str) and len(key) <= 64 else None, "why": str(error)})
                continue
            at = max(min(event.pop("at") - ahead, now), person.joined)
            accepted.append(event["key"])
            entries.append(Entry(event.pop("kind"), person.id, at, event, key=event.pop("key")))
        if entries:
            await self.live.append(*entries)
        self.live.saw(person.id)
        return {"accepted": accepted, "refused": refused, **self._notices(person)}

    def _notices(self, person: Participant) -> dict[str, Any]:
        return {**self.room.notices(person, time.time()), "poll_s": POLL_S}

    async def me(self, request: Request) -> Response:
        person = self._learner(request.headers)
        if wait := self._requests.wait_s(person.id):
            raise Refused(429, "Too many requests.", wait)
        self.live.saw(person.id)
        return JSONResponse(self._notices(person))

    async def leave(self, request: Request) -> Response:
        person = self._learner(request.headers)
        await self.live.append(Entry("left", person.id, time.time(), {}))
        return JSONResponse({})

    # -- Pages --------------------------------------------------------------------------------------------------------

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise Refused(404, "There is no such file.")
        return Response(self._static[name], media_type=STATIC[name], headers={"Cache-Control": "max-age=300"})

    def _page(self, name: str, **values: str) -> HTMLResponse:
        text = (files(__package__) / "static" / name).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"{{{{{key}}}}}", value)
        return HTMLResponse(text)

    async def join_page(self, request: Request) -> Response:
        return self._page("join.html", days=str(self.days))

    async def enter_page(self, request: Request) -> Response:
        return self._page("enter.html")

    async def board_page(self, request: Request) -> Response:
        try:
            self._lead(request)
        except Refused:
            if self.hub is not None:
                return self.hub.redirect(request)
            raise
        return self._page("board.html")

    async def projector_page(self, request: Request) -> Response:
        self._watcher(request)
        return self._page("projector.html")

    async def enter(self, request: Request) -> Response:
        """A link's secret, for a cookie."""
        body = parse(await read_body(request.receive))
        source = request.client.host if request.client else "?"
        if wait := self._joins.wait_s(source, take=False):
            raise Refused(429, "Too many wrong links came from your network. Wait a little.", wait)
        token = protocol.clean_text(body.get("token"), "token", 300)
        if self.tokens.is_projector(token):
            return self._with_cookie(JSONResponse({"page": "projector"}), "mi_projector", token)
        name = await self.live.do(self.live.store.use_link, self.session.id, protocol.digest(token))
        if name is None:
            self._joins.wait_s(source)
            raise Refused(
                403, "This link was used before, or is older than a day. `mi-course workshop lead` prints a new one."
            )
        return self._with_cookie(JSONResponse({"page": "board"}), "mi_lead", self.tokens.lead(name))

    def _with_cookie(self, response: Response, name: str, value: str) -> Response:
        # No path: browsers then take the page's folder, which is right behind any prefix.
        response.set_cookie(
            name, value, max_age=7 * 86400, path=None, httponly=True, samesite="strict", secure=self._secure
        )
        return response

    async def hub_callback(self, request: Request) -> Response:
        if self.hub is None:
            raise Refused(404, "There is no such page.")
        name = await asyncio.get_running_loop().run_in_executor(None, self.hub.lead_name, request)
        if name is None:
            raise Refused(403, "JupyterHub does not list you among those who may open the board.")
        response = RedirectResponse("board", 303)
        response.delete_cookie("mi_hub_state", path=None)  # type: ignore[arg-type]
        return self._with_cookie(
            response, "mi_lead", self.tokens.lead(protocol.clean_name(name[: protocol.NAME_CHARS]))
        )

    # -- The board ----------------------------------------------------------------------------------------------------

    async def board_stream(self, request: Request) -> Response:
        self._lead(request)
        return self._stream(request, self.live.board)

    async def projector_stream(self, request: Request) -> Response:
        self._watcher(request)
        return self._stream(request, self.live.projector)

    def _stream(self, request: Request, feed: Any) -> Response:
        if feed.viewers >= PARTICIPANTS:
            raise Refused(429, "Too many boards are open.", 10)
        last = request.headers.get("last-event-id", "")[:60]
        return EventSourceResponse(feed.follow(last), ping=15, send_timeout=20, headers={"X-Accel-Buffering": "no"})

    async def catalogue_json(self, request: Request) -> Response:
        self._watcher(request)
        return Response(self.catalogue, media_type="application/json")

    async def qr(self, request: Request) -> Response:
        self._watcher(request)
        image = io.BytesIO()
        code = segno.make(self.join_address(), error="m")
        code.save(image, kind="svg", xmldecl=False, border=3, scale=4, dark="#000", light="#fff", title="Join")
        return Response(image.getvalue(), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})

    def join_address(self) -> str:
        """The join page's address, which fills in the code."""
        return f"{self.address}/#{protocol.shown_code(self.room.code)}"

    async def whoami(self, request: Request) -> Response:
        """Lead or projector, and what a browser cannot know."""
        self._watcher(request)
        role = "projector"
        with contextlib.suppress(Refused):
            self._lead(request)
            role = "lead"
        return JSONResponse({"role": role, "address": self.address})

    # -- What leads do ------------------------------------------------------------------------------------------------

    async def act(self, request: Request) -> Response:
        """One of the actions below."""
        lead = self._lead(request)
        action = getattr(self, f"_do_{request.path_params['action']}", None)
        if action is None:
            raise Refused(404, "There is no such action.")
        return JSONResponse(await action(lead, parse(await read_body(request.receive))))

    async def _note(self, kind: str, body: dict[str, Any], participant: str | None = None) -> dict[str, Any]:
        await self.live.append(Entry(kind, participant, time.time(), body))
        return {}

    def _person(self, body: dict[str, Any]) -> Participant:
        person = self.room.participants.get(body["participant"]) if isinstance(body.get("participant"), str) else None
        if person is None:
            raise Refused(404, "There is no such participant.")
        return person

    async def _do_message(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        exercise = body.get("exercise")
        until = None
        if body.get("minutes") is not None:
            until = time.time() + 60 * _minutes(body["minutes"])
        message = {
            "id": secrets.token_hex(6),
            "text": protocol.clean_text(body.get("text"), "text", MESSAGE_CHARS),
            "exercise": None if exercise is None else protocol.clean_exercise(exercise),
            "until": until,
            "lead": lead,
        }
        return await self._note("message", message)

    async def _do_message_down(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("message_down", {"id": protocol.clean_text(body.get("id"), "id", 40)})

    async def _do_close(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        until = None
        if body.get("minutes") is not None:
            until = time.time() + 60 * _minutes(body["minutes"])
        elif body.get("until") is not None:
            until = protocol.timestamp(body["until"], "until")
        return await self._note("close", {"what": self._lockable(body), "until": until})

    async def _do_open(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("open", {"what": self._lockable(body)})

    def _lockable(self, body: dict[str, Any]) -> str:
        what = protocol.clean_text(body.get("what"), "what", 100)
        kind, _, lesson = what.partition(":")
        known = {item["id"] for item in self._catalogue} | ({"*"} if kind == "reveals" else set())
        if kind not in {"lesson", "reveals"} or lesson not in known:
            raise Refused(422, "what is neither lesson:ID nor reveals:ID nor reveals:*.")
        return what

    async def _do_timer(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("minutes") is None:
            return await self._note("timer", {"ends": None})
        label = protocol.clean_text(body.get("label", ""), "label", 60, empty=True)
        return await self._note("timer", {"ends": time.time() + 60 * _minutes(body["minutes"]), "label": label})

    async def _do_rename(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        person, name = self._person(body), protocol.clean_name(body.get("name"))
        table = protocol.clean_text(body.get("table", person.table), "table", protocol.NAME_CHARS, empty=True)
        other = self.room.find(name)
        if other is not None and other.id != person.id:
            raise Refused(409, f"Someone here is called {other.name}.")
        return await self._note("renamed", {"name": name, "table": table}, person.id)

    async def _do_remove(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("removed", {}, self._person(body).id)

    async def _do_forget(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        person = self._person(body)
        await self.live.do(self.live.store.forget, self.session.id, person.id)
        await self.live.append()
        return {}

    async def _do_return_key(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        person = self._person(body)
        return {
            "name": person.name,
            "return_key": protocol.shown_code(self.tokens.return_key(person.id, person.generation)),
        }

    async def _do_hand_take(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("hand_taken", {"lead": lead}, self._person(body).id)

    async def _do_hand_down(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("hand_down", {}, self._person(body).id)

    async def _do_code(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("code", {"code": protocol.new_code()})

    async def _do_invite(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        name = protocol.clean_name(body.get("name"))
        token = await self.live.do(lead_link, self.live.store, self.session, name)
        return {"link": f"{self.address}/enter#{token}"}

    async def _do_projector(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"link": f"{self.address}/enter#{self.tokens.projector()}"}

    async def _do_end(self, lead: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._note("ended", {})

    # -- Afterwards ---------------------------------------------------------------------------------------------------

    async def _report(self) -> summary.Summary:
        entries: list[Entry] = []
        while more := await self.live.do(self.live.store.read, self.session.id, entries[-1].number if entries else 0):
            entries += more
        return await asyncio.to_thread(summary.summarize, self.session, entries, self._catalogue)

    async def export(self, request: Request) -> Response:
        self._lead(request)
        ending = request.path_params["ending"]
        makers: dict[str, tuple[Callable[[summary.Summary], str], str]] = {
            "csv": (summary.to_csv, "text/csv"),
            "json": (summary.to_json, "application/json"),
            "html": (summary.to_html, "text/html"),
        }
        if ending not in makers:
            raise Refused(404, "There are summary.html, summary.csv and summary.json.")
        make, kind = makers[ending]
        text = await asyncio.to_thread(make, await self._report())
        headers = {"Cache-Control": "no-store"}
        if ending != "html":
            headers["Content-Disposition"] = f'attachment; filename="workshop.{ending}"'
        else:
            headers["Content-Security-Policy"] = summary.POLICY
        return Response(text, media_type=kind, headers=headers)

    async def health(self, request: Request) -> Response:
        return Response("ok", media_type="text/plain")

    # -- The application ----------------------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        def get(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, self._answer(handler), methods=["GET"])

        def post(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, self._answer(handler), methods=["POST"])

        return [
            get("/api/me", self.me),
            post("/api/join", self.join),
            post("/api/leave", self.leave),
            get("/", self.join_page),
            get("/enter", self.enter_page),
            post("/enter", self.enter),
            get("/board", self.board_page),
            get("/projector", self.projector_page),
            get("/oauth_callback", self.hub_callback),
            get("/static/{name}", self.static),
            get("/api/board", self.board_stream),
            get("/api/projector", self.projector_stream),
            get("/api/catalogue", self.catalogue_json),
            get("/api/whoami", self.whoami),
            get("/api/qr.svg", self.qr),
            post("/api/lead/{action}", self.act),
            get("/summary.{ending}", self.export),
            get("/health", self.health),
        ]

    def _answer(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Refused as refused:
                if refused.status in {403, 404, 410} and "text/html" in request.headers.get("accept", ""):
                    return HTMLResponse(_sorry(refused.why), refused.status)
                return refused.response()
            except BadField as error:
                return JSONResponse({"error": f"{error}."}, 422)
            except StoreUnavailable:
                return JSONResponse({"error": "The database cannot be reached now."}, 503, {"Retry-After": "2"})

        return answer


def _minutes(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 24 * 60:
        raise BadField("minutes is not a number up to 1440")
    return float(value)


def _sorry(why: str) -> str:
    from html import escape

    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>mi_course workshop</title><link rel="stylesheet" href="static/workshop.css">'
        f'<body class="plain"><main><h1>Not this way</h1><p>{escape(why)}</p></main></body></html>'
    )


def application(workshop: Workshop, prefix: str = "") -> ASGIApp:
    """The ASGI application. prefix: a path that a proxy in front does not take away."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await workshop.live.start()
        yield
        await workshop.live.stop()

    routes: list[Any] = list(workshop.routes())
    if prefix.strip("/"):
        path = "/" + prefix.strip("/")
        away = Route(path, lambda request: RedirectResponse(f"{path}/"))
        routes = [away, Mount(path, routes=routes), Route("/health", workshop.health)]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    own = urlsplit(workshop.address).netloc
    events = f"/{prefix.strip('/')}/api/events" if prefix.strip("/") else "/api/events"

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            else:  # a websocket
                await send({"type": "websocket.close", "code": 1000})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in have)]
                if b"cache-control" not in have:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        origin = host = ""
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
        if origin and scope["method"] not in {"GET", "HEAD"} and not _same_origin(origin, {host, own}):
            refused = Refused(403, "The request comes from another page.").response()
            await refused(scope, receive, send_with_headers)
            return
        # Nearly all requests are events. Starlette's way to a route would be a sixth of their time.
        handler = workshop.events if scope["path"] == events and scope["method"] == "POST" else app
        await handler(scope, receive, send_with_headers)

    return guarded


def _same_origin(origin: str, ours: set[str]) -> bool:
    try:
        return urlsplit(origin).netloc in ours - {""}
    except ValueError:
        return False
