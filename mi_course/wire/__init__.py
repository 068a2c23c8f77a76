"""What may cross to an untrusted answer and back, and how it is written down.

An `Ask` goes out: calls with plain arguments and references, and nothing of the truth. One `Observation` comes back.
Only plain values cross: None, bool, int, float, str, lists, tuples and dicts of these, and tensors. They are written as
JSON with the tensors beside it in safetensors; nothing here can run code when it is read (no pickle, no eval).

    frame = b"MIC1" + 8 bytes (length of the JSON, little endian) + JSON + safetensors

This package imports nothing else of ours, so that a sandbox can hold it without holding any truth.
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
