"""What a learner found, as `check` recorded it in the notebook. It is judged like any other answer."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Sequence
from typing import Any

from mi_course import wire
from mi_course.asking.limits import TimeUp, processor_limit
from mi_course.content import ANSWER_BYTES

__all__ = ["recorded_values"]

LIMIT_S = 20.0
"""Processor time for decoding all records of a notebook."""


def recorded_values(records: Sequence[tuple[str, str]], limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Exercise id -> recorded value; the last record counts. What is malformed is no record.

    records: `Submission.records`. None is looked at after `limit_s` seconds of processor time.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(TimeUp), processor_limit(limit_s):
        for exercise, text in reversed(records):
            if exercise not in found:
                with contextlib.suppress(wire.WireError, binascii.Error, ValueError, MemoryError):
                    found[exercise] = _value(text)
    return found


def _value(text: str) -> Any:
    if len(text) > 2 * ANSWER_BYTES:
        raise ValueError("not a text of acceptable length")
    value = wire.decode(base64.b64decode(text, validate=True), wire.Limits(bytes=ANSWER_BYTES))
    return wire.plain(value)  # an Ask or an Observation in its place is refused here
