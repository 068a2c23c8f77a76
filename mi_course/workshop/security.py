"""Tokens, limits on rates and sizes, and the headers of every reply."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from typing import Any

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer

from mi_course.workshop.protocol import CODE_ALPHABET
from mi_course.workshop.store import Session

__all__ = ["HEADERS", "Limiter", "Tokens"]

LEAD_DAYS = 7
KEPT_TOKENS = 2_000

HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]


class Tokens:
    """Signed with the session's secret, so one of another session is refused. A role's token is no other role's."""

    def __init__(self, session: Session) -> None:
        self._secret, self._session = session.secret, session.id
        self._learner = URLSafeSerializer(session.secret, salt=f"learner {session.id}")
        self._lead = URLSafeTimedSerializer(session.secret, salt=f"lead {session.id}")
        self._projector = URLSafeSerializer(session.secret, salt=f"projector {session.id}")
        self._known: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def learner(self, participant: str, generation: int) -> str:
        return str(self._learner.dumps([participant, generation]))

    def read_learner(self, token: str) -> tuple[str, int] | None:
        """Participant and generation."""
        known = self._known.get(token)
        if known is None:
            value = _load(self._learner, token)
            if not isinstance(value, list):
                return None
            known = self._known[token] = (str(value[0]), int(value[1]))
            if len(self._known) > KEPT_TOKENS:
                self._known.popitem(last=False)
        return known

    def lead(self, name: str) -> str:
        return str(self._lead.dumps(name))

    def read_lead(self, token: str) -> str | None:
        """The lead's name."""
        value = _load(self._lead, token, max_age=LEAD_DAYS * 86400)
        return value if isinstance(value, str) else None

    def projector(self) -> str:
        return str(self._projector.dumps("projector"))

    def is_projector(self, token: str) -> bool:
        return _load(self._projector, token) == "projector"

    def return_key(self, participant: str, generation: int) -> str:
        """What someone needs to come back under their name; it changes each time it was used."""
        message = f"return {self._session} {participant} {generation}".encode()
        raw = int.from_bytes(hmac.new(self._secret.encode(), message, hashlib.sha256).digest()[:5], "big")
        return "".join(CODE_ALPHABET[(raw >> 5 * i) & 31] for i in range(8))


def _load(serializer: Any, token: str, **limits: Any) -> Any:
    try:
        return serializer.loads(token, **limits)
    except (BadData, ValueError, RecursionError):
        return None


class Limiter:
    """Token buckets by name: `burst` at once, and `rate` a second in the long run. Forgets the longest unused."""

    def __init__(self, rate: float, burst: float, kept: int = 5_000) -> None:
        self._rate, self._burst, self._kept = rate, burst, kept
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, cost: float = 1.0, *, take: bool = True) -> float:
        """0 if `cost` is there (it is taken, unless `take` is false); else how long until it is."""
        now = time.monotonic()
        left, at = self._buckets.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        enough = left >= cost
        self._buckets[name] = (left - cost if enough and take else left, now)
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (cost - left) / self._rate
