"""What may cross to an untrusted answer and back, and its encoding.

An `Ask` goes out: calls with plain arguments and references, and nothing of the truth. One `Observation` comes back.
Only plain values cross: None, bool, int, float, str, lists, tuples and dicts of these, and tensors. They are encoded as
JSON, with the tensors in safetensors after it. Decoding cannot run code (no pickle, no eval).

    frame = b"MIC1" + 8 bytes (length of the JSON, little endian) + JSON + safetensors

This package imports nothing else of the course, so that a sandbox can have it without any truth.
"""

from __future__ import annotations

from mi_course.wire.codec import MAGIC, decode, encode
from mi_course.wire.records import (
    DIED,
    NOT_ATTEMPTED,
    RAISED,
    REPLY_STATUSES,
    RETURNED,
    TIMED_OUT,
    UNSENDABLE,
    Ask,
    Call,
    Error,
    Observation,
    Ref,
    Reply,
)
from mi_course.wire.values import DTYPES, Limits, WireError, plain, tensors_in

__all__ = [
    "DIED",
    "DTYPES",
    "MAGIC",
    "NOT_ATTEMPTED",
    "RAISED",
    "REPLY_STATUSES",
    "RETURNED",
    "TIMED_OUT",
    "UNSENDABLE",
    "Ask",
    "Call",
    "Error",
    "Limits",
    "Observation",
    "Ref",
    "Reply",
    "WireError",
    "decode",
    "encode",
    "plain",
    "tensors_in",
]
