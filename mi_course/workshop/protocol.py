"""What learners' machines send to the board: the fields, their limits, and how they are read. Standard library only.

Everything here comes from a machine that nobody trusts. What does not fit is refused by name; what is not listed is
dropped.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from mi_course.errors import CourseError

__all__ = ["Address", "BadField", "clean_event", "clean_name", "clean_text", "new_code", "pseudonym", "timestamp"]

VERSION = 2
KINDS = ("verdict", "hint", "reveal", "hand", "ready")
STATUSES = ("passed", "wrong", "not_attempted", "crashed", "timed_out")
READINESS = ("ok", "warn", "missing")

EVENT_BYTES = 2_000
"""A whole event as JSON; the largest honest one has about 400."""
BATCH = 100
"""Events in one request."""
BODY_BYTES = 64_000
NAME_CHARS = 40
MISTAKE_CHARS = 80
LARGEST = 1_000_000
"""Of any whole number."""

CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""32 letters that are not mistaken for each other on a wall."""

_EXERCISE = re.compile(r"[a-z0-9_]{1,60}\.[A-Za-z_][A-Za-z0-9_]{0,79}")
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")

_ADJECTIVES = ["amber", "brave", "calm", "clever", "coral", "crisp", "eager", "early", "fond", "gentle", "golden", "happy", "keen", "kind", "lively", "lucky", "mellow", "merry", "neat", "noble", "quick", "quiet", "rapid", "sunny", "swift", "tidy", "violet", "warm", "wise", "witty"]  # fmt: skip  # noqa: E501
_ANIMALS = ["badger", "beaver", "bison", "crane", "curlew", "dolphin", "falcon", "ferret", "finch", "fox", "gecko", "hare", "heron", "ibex", "jay", "koala", "lemur", "lynx", "marten", "mole", "newt", "otter", "owl", "panda", "puffin", "raven", "robin", "seal", "stork", "swan", "tern", "toad", "trout", "vole", "wombat", "wren"]  # fmt: skip  # noqa: E501


class BadField(ValueError):
    """A field does not fit. Says which, never its value."""


@dataclass(frozen=True)
class Address:
    """Where to join: `CODE@ADDRESS`, as it stands on the wall."""

    code: str
    url: str
    """With scheme, without a slash at the end."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises CourseError, which says what an address looks like."""
        code, at, address = text.strip().partition("@")
        if at and "://" not in address:
            address = f"http://{address}"
        parts = urlsplit(address)
        if (
            not at
            or not clean_code(code)
            or parts.scheme not in {"http", "https"}
            or not parts.hostname
            or len(text) > 500
        ):
            raise CourseError(
                f"{text!r:.80} is not an invitation. It looks like K7QD-2M4X@192.168.1.20:8765: "
                "the code, an @ and the address, as they stand on the wall."
            )
        return cls(clean_code(code), address.split("#")[0].split("?")[0].rstrip("/"))


def clean_code(code: str) -> str:
    """A join code without dashes and spaces, in capitals."""
    return re.sub(r"[\s-]", "", code).upper()


def new_code(characters: int = 8) -> str:
    """A random code of 5 bits for each character."""
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(characters))


def shown_code(code: str) -> str:
    """As it is read aloud: K7QD-2M4X."""
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))


def pseudonym() -> str:
    """A name that says nothing about anyone: `swift-otter-27`."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_ANIMALS)}-{secrets.randbelow(90) + 10}"


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def clean_text(value: Any, field: str, limit: int, *, empty: bool = False) -> str:
    """Text on one line, without control characters and invisible formatting. Raises BadField."""
    if not isinstance(value, str) or len(value) > 4 * limit:
        raise BadField(f"{field} is not a text of at most {limit} characters")
    kept = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in value)
    kept = "".join(c for c in kept if unicodedata.category(c) not in {"Cf", "Cs", "Co", "Cn"})
    kept = " ".join(unicodedata.normalize("NFC", kept).split())
    if len(kept) > limit or not (kept or empty):
        raise BadField(f"{field} is not a text of {'0' if empty else '1'} to {limit} characters")
    return kept


def clean_name(value: Any, field: str = "name") -> str:
    """A pseudonym or the name of a table."""
    return clean_text(value, field, NAME_CHARS)


def _whole(value: Any, field: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise BadField(f"{field} is not a whole number from {least} to {LARGEST}")
    return value


def _choice(options: tuple[str, ...]) -> Callable[[Any, str], str]:
    def check(value: Any, field: str) -> str:
        if not isinstance(value, str) or value not in options:
            raise BadField(f"{field} is not one of {', '.join(options)}")
        return value

    return check


def clean_exercise(value: Any, field: str = "exercise") -> str:
    if not isinstance(value, str) or not _EXERCISE.fullmatch(value):
        raise BadField(f"{field} is not an exercise's id")
    return value


def timestamp(value: Any, field: str = "at") -> float:
    """Seconds since 1970 of an ISO 8601 time with its offset. Raises BadField."""
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) and len(value) <= 40 else "")
        seconds = moment.astimezone(UTC).timestamp() if moment.tzinfo else -1.0
    except (ValueError, OverflowError):
        seconds = -1.0
    if seconds < 0:
        raise BadField(f"{field} is not a time such as 2026-11-22T15:30:00+00:00")
    return seconds


def clean_event(raw: Any) -> dict[str, Any]:
    """The fields of one event that are stored, with `at` as seconds since 1970. Raises BadField."""
    if not isinstance(raw, Mapping):
        raise BadField("an event is not an object")
    key = raw.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadField("key is not 16 to 64 letters and digits")
    kind = _choice(KINDS)(raw.get("kind"), "kind")
    event: dict[str, Any] = {"key": key, "kind": kind, "at": timestamp(raw.get("at"))}
    if kind == "hand":
        if not isinstance(raw.get("up"), bool):
            raise BadField("up is neither true nor false")
        event["up"] = raw["up"]
        event["exercise"] = None if raw.get("exercise") is None else clean_exercise(raw["exercise"])
        return event
    if kind == "ready":
        findings = raw.get("findings")
        if not isinstance(findings, Mapping) or len(findings) > 30:
            raise BadField("findings is not an object of at most 30 entries")
        event["findings"] = {
            clean_text(what, "findings", 30): _choice(READINESS)(state, "findings") for what, state in findings.items()
        }
        return event
    event["exercise"] = clean_exercise(raw.get("exercise"))
    event["revision"] = _whole(raw.get("revision"), "revision", 1)
    if kind == "hint":
        event["hint"] = _whole(raw.get("hint"), "hint", 1)
    if kind == "verdict":
        event["status"] = _choice(STATUSES)(raw.get("status"), "status")
        event["attempt"] = _whole(raw.get("attempt"), "attempt")
        mistake = raw.get("mistake")
        event["mistake"] = None if mistake is None else clean_text(mistake, "mistake", MISTAKE_CHARS)
    return event
