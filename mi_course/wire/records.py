"""What goes out and what comes back: an Ask of Calls, an Observation of Replies."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ref:
    """Stands for what cannot cross: a model, a cache, a hook point. `mi_course.asking.references` resolves it."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One call of the answer. Arguments are positional, plain values or references."""

    args: tuple[Any, ...] = ()
    driver: str = "call"
    """Which of `mi_course.asking.drivers` makes the call."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the driver needs besides the arguments: cotangents, batches, activations to feed."""
    watch: tuple[str, ...] = ()
    """What else to observe, from `mi_course.asking.watches`."""


@dataclass(frozen=True)
class Ask:
    """Calls to make one after the other in one process. Holds no truth, no points and no case name."""

    calls: tuple[Call, ...]
    limit_s: float = 5.0
    """Seconds for all calls together."""
    max_reply_bytes: int = 16 * 2**20
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random, so it says nothing about the case. Observations of other Asks are ignored."""


@dataclass(frozen=True)
class Error:
    """An exception as text."""

    kind: str
    """Name of its class."""
    bases: tuple[str, ...]
    """Names of the class and its parents, nearest first."""
    message: str
    where: str = ""
    """The learner's line that raised it, if there is one."""


RETURNED, RAISED, NOT_ATTEMPTED, TIMED_OUT, UNSENDABLE, DIED = (
    "returned",
    "raised",
    "not_attempted",
    "timed_out",
    "unsendable",
    "died",
)
REPLY_STATUSES = frozenset({RETURNED, RAISED, NOT_ATTEMPTED, TIMED_OUT, UNSENDABLE, DIED})


@dataclass(frozen=True)
class Reply:
    """The result of one call."""

    status: str
    """returned, raised, not_attempted, timed_out, unsendable (the value cannot cross) or died (with its process)."""
    value: Any = None
    error: Error | None = None
    watched: dict[str, Any] = field(default_factory=dict)

    @property
    def returned(self) -> bool:
        return self.status == RETURNED


@dataclass(frozen=True)
class Observation:
    """The result of an Ask: one reply for each call that was made."""

    ask: str
    replies: tuple[Reply, ...]
    printed: str = ""
    """The beginning of what the answer printed."""
