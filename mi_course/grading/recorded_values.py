"""What a learner found, as `check` recorded it in the notebook: claims, which are judged like any other answer."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from mi_course import wire
from mi_course.content import ANSWER_BYTES, ANSWER_MIME

__all__ = ["claims_in"]


def claims_in(notebook: dict[str, Any]) -> dict[str, Any]:
    """Exercise id -> recorded value; the last record counts. What is malformed is no record."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell["outputs"]:
            data = output.get("data") if isinstance(output, dict) else None
            record = data.get(ANSWER_MIME) if isinstance(data, dict) else None
            if isinstance(record, dict) and isinstance(record.get("exercise"), str) and record.get("format") == 1:
                try:
                    found[record["exercise"]] = _value(record.get("value"))
                except (wire.WireError, binascii.Error, ValueError):
                    continue
    return found


def _value(text: Any) -> Any:
    if not isinstance(text, str) or len(text) > 2 * ANSWER_BYTES:
        raise ValueError("no text of a bearable length")
    value = wire.decode(base64.b64decode(text, validate=True), wire.Limits(bytes=ANSWER_BYTES))
    return wire.plain(value)  # an Ask or an Observation in its place is refused here
