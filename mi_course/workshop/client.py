"""The learner's side: what is reported, and how it gets to the board. Needs the course's own dependencies only.

Reporting never delays or fails a cell. A cell appends one line to a file; a thread of its own sends it, and asks for
messages. Only notebooks in which someone works report: neither `mi-course check`, `grade` and `build` nor tests do.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import json
import os
import random
import secrets
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mi_course.errors import CourseError
from mi_course.interp.atomic_write import atomic_write
from mi_course.progress import home_dir
from mi_course.workshop.outbox import Outbox
from mi_course.workshop.protocol import BATCH, Address, digest, pseudonym

__all__ = ["Membership", "attach", "join", "leave", "lesson_notice", "raise_hand", "report_ready", "status"]

VARIABLE = "MI_COURSE_WORKSHOP"
"""`CODE@ADDRESS`, set by a JupyterHub; or `off`."""
NAME_VARIABLE = "MI_COURSE_WORKSHOP_NAME"
CA_VARIABLE = "MI_COURSE_WORKSHOP_CA"
"""A file with the certificate of whoever signed the server's."""

TIMEOUT_S = 5.0
REPLY_BYTES = 200_000
POLL_S = 10.0
IDLE_S = 1800.0
"""Without an event for so long, a kernel asks for messages once a minute."""
LONGEST_RETRY_S = 30.0
FRESH_S = 60.0
"""What the leads have closed counts for so long after the last word from the server: a lost server locks nothing."""
SENT = 20

CONSENT = (
    "From now on, each verdict, hint and solution that you see is reported to the board: the exercise and its "
    "revision, the status, the name of the mistake, the number of the attempt, and the time. Your code, what you "
    "write and what it outputs are never sent. `mi_course.workshop_status()` shows what was sent; "
    "`mi_course.leave()` ends it."
)


class ServerRefused(Exception):
    """The server answered with a status other than 200."""

    def __init__(self, status: int, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.status, self.why, self.wait_s = status, why, wait_s


@dataclass
class Membership:
    """Of one workshop, on this machine."""

    url: str
    token: str = field(repr=False)
    name: str
    table: str
    title: str
    session: str
    return_key: str
    """Lets the learner come back under this name on another machine."""


def folder() -> Path:
    """Where the membership and what waits to be sent are kept."""
    return home_dir() / "workshop"


def _membership_file() -> Path:
    return folder() / "membership.json"


def membership() -> Membership | None:
    """The one of this machine, or None."""
    try:
        return Membership(**json.loads(_membership_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _save(member: Membership) -> None:
    file = _membership_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic_write(file, json.dumps(asdict(member)), mode=0o600)


# ---------------------------------------------------------------------------------------------------------------------
# Requests


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for one server. Following a redirection would show it to another."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


def request(url: str, body: Mapping[str, Any] | None = None, token: str = "") -> dict[str, Any]:
    """GET, or POST of JSON. Raises ServerRefused, or OSError where no server of ours answers."""
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(url, data=data, headers={"Accept": "application/json"})
    if data is not None:
        sent.add_header("Content-Type", "application/json")
    if token:
        sent.add_header("Authorization", f"Bearer {token}")
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=os.environ.get(CA_VARIABLE) or None)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(sent, timeout=TIMEOUT_S) as reply:
            value = json.loads(reply.read(REPLY_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            try:
                why = str(json.loads(error.read(REPLY_BYTES))["error"])
            except (ValueError, KeyError, TypeError, OSError):
                why = f"The server answered {error.code}."
            try:
                wait_s = float(error.headers.get("Retry-After") or 0)
            except ValueError:
                wait_s = 0.0
        raise ServerRefused(error.code, why, wait_s) from None
    except ValueError as error:  # not JSON: a login page of some network, say
        raise OSError(f"what answers at this address is not a workshop ({error})") from None
    except OSError:
        raise
    except Exception as error:  # http.client.HTTPException and its like
        raise OSError(f"{type(error).__name__}: {error}") from None
    if not isinstance(value, dict):
        raise OSError("what answers at this address is not a workshop")
    return value


def ask_to_join(address: Address, name: str | None, table: str, return_key: str | None = None) -> Membership:
    """Raises ServerRefused or OSError. name: None takes a pseudonym that is free."""
    for _ in range(5):
        body = {"code": address.code, "name": name or pseudonym(), "table": table}
        if return_key is not None:
            body["return_key"] = return_key
        try:
            reply = request(f"{address.url}/api/join", body)
        except ServerRefused as refused:
            if refused.status == 409 and name is None:
                continue
            raise
        try:
            return Membership(address.url, *(str(reply[key]) for key in ("token", "name", "table", "title", "session", "return_key")))  # fmt: skip  # noqa: E501
        except KeyError:
            raise OSError("what answers at this address is not a workshop") from None
    raise ServerRefused(409, "No pseudonym is free. Give a name of your own.")


# ---------------------------------------------------------------------------------------------------------------------
# The reporter of this process


class Reporter:
    """Takes the course's events, and sends them from a thread."""

    def __init__(self, member: Membership | None, address: Address | None = None) -> None:
        """address: where to join first, if there is no membership yet."""
        self.member, self._address = member, address
        where = member.session if member else f"new-{digest(address.url)[:12]}" if address else "none"
        self.outbox = Outbox(folder() / "outbox" / where)
        self.notices: dict[str, Any] = {}
        self.heard_at = float("-inf")
        """When the server last answered, by the monotonic clock."""
        self.problem = ""
        self.refused = 0
        self.active = True
        self._process = os.getpid()
        self._consented = member is not None
        self._wake, self._answered = threading.Event(), threading.Event()
        self._next_try = 0.0
        self._failures = 0
        self._poll_s, self._poll_at = POLL_S, float("-inf")
        self._used_at = time.monotonic()
        self._adopt_at = 0.0
        self._remove: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="mi-course-workshop", daemon=True)

    def start(self) -> None:
        from mi_course import course

        self._remove = [course.subscribe(self.listen), course.guard(self.why_closed)]
        self._thread.start()
        atexit.register(self.finish)

    def stop(self) -> None:
        """Report nothing more."""
        self.active = False
        for remove in self._remove:
            remove()
        self._wake.set()

    def finish(self) -> None:
        """At the end of the process: what can be sent in a second is sent, the rest waits on disk."""
        until = time.monotonic() + 1.0
        while self.active and len(self.outbox) and not self._failures and time.monotonic() < until:
            time.sleep(0.02)
        self.stop()
        self._thread.join(max(0.0, until - time.monotonic()))
        self.outbox.close()

    # -- In the cell --------------------------------------------------------------------------------------------------

    def listen(self, event: Mapping[str, Any]) -> None:
        """An event of the course. Microseconds: one line is appended to a file."""
        if not self.active or os.getpid() != self._process or not someone_works_here():
            return
        if not self._consented:
            self._consented = True
            _ask_consent(self._address)
        fields = ("kind", "at", "exercise", "revision", "status", "mistake", "attempt", "hint")
        self._put({key: event[key] for key in fields if key in event})
        if event["kind"] == "verdict":
            self._show_messages(str(event["exercise"]))

    def _put(self, event: dict[str, Any]) -> None:
        self._used_at = time.monotonic()
        self.outbox.put({"key": secrets.token_hex(12), **event})
        self._wake.set()

    def hand(self, up: bool, exercise: str | None = None) -> None:
        self._put({"kind": "hand", "at": _now(), "up": up, "exercise": exercise})

    def _show_messages(self, exercise: str) -> None:
        for message in self.fresh("messages"):
            if message.get("exercise") in (None, exercise):
                from mi_course.workshop import notice

                notice.show(
                    f"From the leads of {self.member.title if self.member else 'the workshop'}", message["text"]
                )

    def fresh(self, what: str) -> list[dict[str, Any]]:
        """What the server said, unless it has been silent for a minute."""
        if time.monotonic() - self.heard_at > FRESH_S:
            return []
        return [item for item in self.notices.get(what, []) if isinstance(item, dict)]

    def why_closed(self, exercise: str) -> str | None:
        """Why the solution of an exercise is closed now; None if it is open, or nothing was heard for a minute."""
        if self.active and someone_works_here():
            self.ask_now()
        return self._closed(f"reveals:{exercise.partition('.')[0]}", "reveals:*", said="Solutions open")

    def lesson_closed(self, lesson: str) -> str | None:
        return self._closed(f"lesson:{lesson}", said="This lesson opens")

    def _closed(self, *whats: str, said: str) -> str | None:
        for item in self.fresh("closed"):
            if item.get("what") not in whats:
                continue
            left = item.get("opens_in_s")
            if left is None:
                when = "when your workshop's leads open them" if "Solutions" in said else "when its leads open it"
            else:
                opens = time.time() + float(left) - (time.monotonic() - self.heard_at)
                if opens <= time.time():
                    continue
                when = f"at {datetime.fromtimestamp(opens).astimezone():%H:%M}"
            return (
                f"{said} {when}, {self.member.title if self.member else 'the workshop'} says. Until then: a hint, or "
                "`mi_course.raise_hand()`. Nothing is locked: the course is public, and this is a request."
            )
        return None

    def ask_now(self, wait_s: float = 1.0) -> None:
        """Wait a moment for news, if there were none for some seconds."""
        if time.monotonic() - self.heard_at > 3.0 and self._failures == 0 and self.member is not None:
            self._answered.clear()
            self._poll_at = float("-inf")
            self._wake.set()
            self._answered.wait(wait_s)

    # -- In the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self.active:
            try:
                self._step()
            except Exception as error:  # whatever it is, try again later
                self._later(f"{type(error).__name__}: {error}")
            now = time.monotonic()
            idle = now - self._used_at > IDLE_S
            due = max(self._next_try, min(self._poll_at + (60.0 if idle else self._poll_s), now + 60.0))
            if self._failures:
                due = self._next_try
            if not (len(self.outbox) and now >= self._next_try):
                self._wake.wait(max(0.01, due - now))
            self._wake.clear()
            if time.monotonic() < self._next_try:
                # Woken by an event while the server is out of reach: wait on, so as not to hammer it.
                while self.active and (left := self._next_try - time.monotonic()) > 0:
                    time.sleep(min(left, 0.2))

    def _step(self) -> None:
        if time.monotonic() - self._adopt_at > 60.0:
            self._adopt_at = time.monotonic()
            self.outbox.adopt()
        if self.member is None and not (self._consented and self._first_join()):
            return
        batch = self.outbox.batch(BATCH)
        now = time.monotonic()
        if not batch and now - self._poll_at < min(self._poll_s, 5.0) and self._failures == 0:
            return
        assert self.member is not None
        try:
            if batch:
                reply = request(
                    f"{self.member.url}/api/events", {"sent_at": _now(), "events": batch}, self.member.token
                )
            else:
                reply = request(f"{self.member.url}/api/me", token=self.member.token)
        except ServerRefused as refused:
            self._refused(refused, batch)
            return
        except OSError as error:
            self._later(str(getattr(error, "reason", error)))
            return
        self._failures, self._next_try, self.problem = 0, 0.0, ""
        if batch:
            accepted = {key for key in reply.get("accepted", []) if isinstance(key, str)}
            dropped = {str(item.get("key")) for item in reply.get("refused", []) if isinstance(item, dict)}
            self.refused += len(dropped)
            self.outbox.done(accepted | dropped)
            _remember([event for event in batch if event["key"] in accepted])
        self.notices = {key: reply[key] for key in ("messages", "closed", "timer_s", "hand") if key in reply}
        self._poll_s = min(max(float(reply.get("poll_s", POLL_S)), 2.0), 120.0)
        self.heard_at = self._poll_at = time.monotonic()
        if self.notices.get("messages"):
            _prepare_messages()
        self._answered.set()

    def _first_join(self) -> bool:
        """Join where a Hub says. Returns whether that succeeded."""
        assert self._address is not None
        try:
            with FileLock(folder() / "join.lock", timeout=0):
                member = membership()
                if member is None or member.url != self._address.url:
                    wanted = os.environ.get(NAME_VARIABLE, "").strip() or None
                    try:
                        member = ask_to_join(self._address, wanted, "")
                    except ServerRefused as refused:
                        if refused.status != 409 or wanted is None:
                            raise
                        member = ask_to_join(self._address, None, "")
                    _save(member)
        except Timeout:
            self._later("another notebook is joining")
            return False
        except ServerRefused as refused:
            self._later(refused.why, refused.wait_s or LONGEST_RETRY_S)
            return False
        except OSError as error:
            self._later(str(getattr(error, "reason", error)))
            return False
        self.member, self.problem = member, ""
        return True

    def _refused(self, refused: ServerRefused, batch: list[dict[str, Any]]) -> None:
        if refused.status in {403, 410}:  # ended, removed, or a server that never knew us
            self.problem = refused.why
            self.outbox.clear()
            saved = membership()
            if saved is not None and self.member is not None and saved.token == self.member.token:
                with contextlib.suppress(OSError):
                    _membership_file().unlink()
            self.stop()
        elif refused.status in {400, 413, 422} and batch:  # would be refused for ever
            self.refused += len(batch)
            self.outbox.done({event["key"] for event in batch})
            self._later(refused.why)
        else:
            self._later(refused.why, refused.wait_s)

    def _later(self, why: str, wait_s: float = 0.0) -> None:
        self.problem = why
        self._failures += 1
        wait_s = wait_s or min(LONGEST_RETRY_S, 0.5 * 2 ** min(self._failures, 10))
        self._next_try = time.monotonic() + wait_s * random.uniform(0.75, 1.25)
        self._answered.set()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _remember(events: list[dict[str, Any]]) -> None:
    """Keep the last events that were sent, of all notebooks, for `workshop_status`."""
    file = folder() / "sent.json"
    with contextlib.suppress(OSError, Timeout), FileLock(f"{file}.lock", timeout=1):
        kept = (_sent() + events)[-SENT:]
        atomic_write(file, json.dumps(kept), mode=0o600)


def _sent() -> list[dict[str, Any]]:
    try:
        return list(json.loads((folder() / "sent.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return []


def _prepare_messages() -> None:
    """Import here, in the thread, what showing a message needs."""
    with contextlib.suppress(Exception):
        from mi_course.workshop import notice

        notice.prepare()


# ---------------------------------------------------------------------------------------------------------------------
# Where reports come from


_reporter: Reporter | None = None
_attaching = threading.Lock()


def someone_works_here() -> bool:
    """Whether a person runs this cell: a kernel whose frontend could be asked for input.

    nbclient, nbconvert and nbval run notebooks without, and neither pytest nor the command line is a kernel.
    """
    if os.environ.get(VARIABLE) == "off" or os.environ.get("PYTEST_CURRENT_TEST") or "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def attach() -> None:
    """Begin to report from this process, if the learner has joined and works in it. Never raises."""
    global _reporter
    with contextlib.suppress(Exception), _attaching:
        if (_reporter is not None and _reporter.active) or not someone_works_here():
            return
        member, invitation = membership(), os.environ.get(VARIABLE, "")
        address = Address.parse(invitation) if invitation else None
        if address is not None and member is not None and member.url != address.url:
            member = None
        if member is None and (address is None or _left(address)):
            return
        _reporter = Reporter(member, address)
        _reporter.start()


def _left(address: Address) -> bool:
    """Whether the learner has left the workshop that a Hub names."""
    return (folder() / f"left-{digest(address.url)[:12]}").exists()


def _ask_consent(address: Address | None) -> None:
    """Say once, before the first event, that a Hub has named a workshop."""
    mark = folder() / f"told-{digest(address.url)[:12]}" if address else None
    if mark is not None and mark.exists():
        return
    from mi_course.show import note_card

    where = address.url if address else "a board"
    _display(
        note_card("Workshop", f"This JupyterHub takes part in a workshop, with a board at {where}. {CONSENT}", "note")
    )
    if mark is not None:
        with contextlib.suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            mark.touch()


def _display(card: Any) -> None:
    from IPython.display import display

    display(card)


# ---------------------------------------------------------------------------------------------------------------------
# What learners call


def join(invitation: str, name: str | None = None, *, table: str = "", return_key: str | None = None) -> Any:
    """Take part in a workshop: `join("K7QD-2M4X@192.168.1.20:8765")`, as it stands on the wall.

    name: a pseudonym; one is suggested. table: your table or group, if there are some. return_key: what you got when
    you joined, to come back under your name on another machine. Raises CourseError.
    """
    global _reporter
    address = Address.parse(invitation)
    before = membership()
    if before is not None and before.url == address.url and name in (None, before.name) and return_key is None:
        try:
            request(f"{before.url}/api/me", token=before.token)
            _end_reporter()
            attach()
            return _joined(before, again=True)
        except (ServerRefused, OSError):
            pass
    try:
        member = ask_to_join(address, name, table, return_key)
    except ServerRefused as refused:
        raise CourseError(refused.why) from None
    except OSError as error:
        raise CourseError(
            f"No workshop answers at {address.url} ({getattr(error, 'reason', error)}). Compare the address with the "
            "one on the wall, and see whether this machine is in the same network."
        ) from None
    _end_reporter()
    _save(member)
    with contextlib.suppress(OSError):
        (folder() / f"left-{digest(address.url)[:12]}").unlink()
        (folder() / "sent.json").unlink()
    attach()
    return _joined(member)


def _joined(member: Membership, again: bool = False) -> Any:
    from mi_course.show import note_card

    here = table = ""
    if "IPython" in sys.modules and not someone_works_here():
        here = " Nothing is reported from this kernel: nobody works in it."
    if member.table:
        table = f", table {member.table}"
    first = f"You {'are still' if again else 'have joined as'} **{member.name}**{table}."
    key = f"Your return key is `{member.return_key}`: with it you come back under this name on another machine."
    return note_card(member.title, f"{first} {CONSENT}{here}\n\n{key}", kind="note")


def leave() -> Any:
    """Report nothing more. What waits to be sent is deleted."""
    from mi_course.show import note_card

    member, invitation = membership(), os.environ.get(VARIABLE, "")
    _end_reporter()
    if member is not None:
        with contextlib.suppress(ServerRefused, OSError):
            request(f"{member.url}/api/leave", {}, member.token)
    with contextlib.suppress(OSError):
        _membership_file().unlink()
    shutil.rmtree(folder() / "outbox", ignore_errors=True)
    if invitation and invitation != "off":
        with contextlib.suppress(OSError, CourseError):
            folder().mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder() / f"left-{digest(Address.parse(invitation).url)[:12]}").touch()
    said = f"You have left {member.title}." if member else "You were in no workshop."
    more = " Its leads can delete what was stored: your name there was " + f"`{member.name}`." if member else ""
    return note_card("Workshop", f"{said} Nothing is reported any more.{more}", kind="note")


def _end_reporter() -> None:
    global _reporter
    if _reporter is not None:
        _reporter.finish()
        atexit.unregister(_reporter.finish)
        _reporter = None


def raise_hand(up: bool = True) -> Any:
    """Ask for help: your name goes into the leads' queue, with the exercise that you are on. Nothing else is sent."""
    from mi_course.show import note_card

    attach()
    if _reporter is None or _reporter.member is None:
        raise CourseError('You are in no workshop. `mi_course.join("CODE@ADDRESS")` takes part in one.')
    last = next((event["exercise"] for event in reversed(_sent()) if event.get("exercise")), None)
    waiting = [event for event in _reporter.outbox.batch(1000) if event.get("exercise")]
    _reporter.hand(up, waiting[-1]["exercise"] if waiting else last)
    if not up:
        return note_card("Hand", "Your hand is down.", kind="note")
    return note_card("Hand", "Your hand is up. `mi_course.lower_hand()` takes it down.", kind="note")


def lower_hand() -> Any:
    """Take the hand down again."""
    return raise_hand(False)


def lesson_notice(lesson: str) -> None:
    """Say it if the leads have closed this lesson."""
    with contextlib.suppress(Exception):
        if _reporter is not None:
            _reporter.ask_now()
        if _reporter is not None and _reporter.active and (reason := _reporter.lesson_closed(lesson)):
            from mi_course.show import note_card

            _display(note_card(f"Not open yet · {lesson}", reason, kind="note"))


def report_ready(findings: Mapping[str, str]) -> str:
    """Send what `mi-course doctor` found: names of checks, and ok, warn or missing. Raises CourseError."""
    member = membership()
    if member is None:
        raise CourseError("This machine is in no workshop. Join first: mi-course workshop join CODE@ADDRESS.")
    event = {"key": secrets.token_hex(12), "kind": "ready", "at": _now(), "findings": dict(findings)}
    try:
        reply = request(f"{member.url}/api/events", {"sent_at": _now(), "events": [event]}, member.token)
    except ServerRefused as refused:
        raise CourseError(refused.why) from None
    except OSError as error:
        raise CourseError(f"The board at {member.url} does not answer ({getattr(error, 'reason', error)}).") from None
    if reply.get("refused"):
        raise CourseError(f"The board refused it: {reply['refused'][0].get('why')}.")
    _remember([event])
    sent = "Only the names of the checks and their states were sent."
    return f"{member.title} knows now whether this machine is ready. {sent}"


class Status:
    """Whether this machine reports, and the last events as they were sent."""

    def __init__(self, member: Membership | None, reporter: Reporter | None, sent: list[dict[str, Any]]) -> None:
        self.sent = sent
        """The last 20 events of this machine that the server has acknowledged."""
        self.lines = _status_lines(member, reporter)

    def __repr__(self) -> str:
        events = "\n".join(json.dumps(event) for event in self.sent) or "nothing yet"
        return "\n".join([*self.lines, "This is what was sent:", events])

    __str__ = __repr__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        said = "".join(f"<p style='margin:4px 0'>{html.escape(line)}</p>" for line in self.lines)
        events = html.escape("\n".join(json.dumps(event) for event in self.sent) or "nothing yet")
        return {
            "text/html": f"{said}<p style='margin:8px 0 2px'><strong>This is what was sent</strong></p>"
            f"<pre style='white-space:pre-wrap'>{events}</pre>",
            "text/plain": str(self),
        }


def _status_lines(member: Membership | None, reporter: Reporter | None) -> list[str]:
    if reporter is not None:
        member = reporter.member or member
    if member is None:
        if reporter is not None and reporter.problem:
            return [f"Not in a workshop: {reporter.problem}"]
        return ['You are in no workshop, and nothing is reported. mi_course.join("CODE@ADDRESS") takes part in one.']
    lines = [f"You are {member.name} in {member.title}, at {member.url}. Your return key is {member.return_key}."]
    if reporter is None or not reporter.active:
        ended = reporter.problem if reporter is not None else ""
        lines.append(f"Nothing is reported from here. {ended}".strip())
        return lines
    waiting = len(reporter.outbox)
    if reporter.problem:
        lines.append(f"The board does not answer ({reporter.problem}). Your notebook works as always; it tries again.")
    if waiting:
        lines.append(f"{waiting} event{'s wait' if waiting > 1 else ' waits'} to be sent.")
    if reporter.refused or reporter.outbox.lost:
        lines.append(f"{reporter.refused} were refused, {reporter.outbox.lost} found no room.")
    hand = reporter.notices.get("hand")
    if hand:
        lines.append(f"Your hand is up. {hand['lead'] + ' is coming.' if hand.get('lead') else ''}".strip())
    timer = reporter.notices.get("timer_s")
    if timer is not None:
        left = timer - (time.monotonic() - reporter.heard_at)
        lines.append(f"The leads' timer shows {max(0, left) / 60:.0f} minutes.")
    return lines


def status() -> Status:
    """What is reported, and the last 20 events that were sent."""
    attach()
    return Status(membership(), _reporter, _sent())
