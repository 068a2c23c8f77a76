"""What a learner found, as `check` recorded it in the notebook: claims, which are judged like any other answer."""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any

from mi_course import wire
from mi_course.asking.limits import TimeUp, processor_limit
from mi_course.content import ANSWER_BYTES, ANSWER_MIME

__all__ = ["claims_in"]

MAX_RECORDS = 500
LIMIT_S = 20.0
"""Processor time for decoding all records of a notebook."""


def claims_in(notebook: dict[str, Any], limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Exercise id -> recorded value; the last record counts. What is malformed is no record.

    Only the last `MAX_RECORDS` records are looked at, and none after `limit_s` seconds of processor time.
    """
    records: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        for output in cell["outputs"]:
            data = output.get("data") if isinstance(output, dict) else None
            record = data.get(ANSWER_MIME) if isinstance(data, dict) else None
            if isinstance(record, dict) and isinstance(record.get("exercise"), str) and record.get("format") == 1:
                records.append(record)
    found: dict[str, Any] = {}
    with contextlib.suppress(TimeUp), processor_limit(limit_s):
        for record in reversed(records[-MAX_RECORDS:]):
            if record["exercise"] not in found:
                with contextlib.suppress(wire.WireError, binascii.Error, ValueError, MemoryError):
                    found[record["exercise"]] = _value(record.get("value"))
    return found


def _value(text: Any) -> Any:
    if not isinstance(text, str) or len(text) > 2 * ANSWER_BYTES:
        raise ValueError("not a text of acceptable length")
    value = wire.decode(base64.b64decode(text, validate=True), wire.Limits(bytes=ANSWER_BYTES))
    return wire.plain(value)  # an Ask or an Observation in its place is refused here
