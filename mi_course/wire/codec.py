"""Messages as bytes and back. Hostile bytes end in a WireError, never in code that runs."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mi_course.wire.records import REPLY_STATUSES, Ask, Call, Error, Observation, Ref, Reply
from mi_course.wire.values import (
    DTYPES,
    Budget,
    Limits,
    WireError,
    article,
    check_int,
    copied,
    hashable,
    plain_tensor,
    short,
)

__all__ = ["MAGIC", "decode", "encode"]

MAGIC = b"MIC1"
_RECORDS: dict[str, type] = {cls.__name__.lower(): cls for cls in (Ref, Call, Ask, Error, Reply, Observation)}
_TAG = "~"

_WITHIN: dict[tuple[str, str], frozenset[str]] = {
    ("ask", "calls"): frozenset({"call"}),
    ("call", "args"): frozenset({"ref"}),
    ("call", "options"): frozenset({"ref"}),
    ("ref", "options"): frozenset({"ref"}),
    ("observation", "replies"): frozenset({"reply"}),
    ("reply", "error"): frozenset({"error"}),
}
"""Which records may stand in which field of which: a value that comes back holds none."""

_CONTAINERS: dict[str, type] = {
    "args": tuple,
    "calls": tuple,
    "replies": tuple,
    "watch": tuple,
    "bases": tuple,
    "options": dict,
    "watched": dict,
}
_SCALARS: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "driver": (str,),
    "id": (str,),
    "ask": (str,),
    "status": (str,),
    "message": (str,),
    "where": (str,),
    "printed": (str,),
    "limit_s": (int, float),
    "max_reply_bytes": (int,),
    "error": (Error, type(None)),
}
_ELEMENTS: dict[str, type] = {"calls": Call, "replies": Reply, "watch": str, "bases": str}


def encode(message: Any, limits: Limits | None = None) -> bytes:
    """The frame of a plain value, an Ask or an Observation.

    Raises WireError where something in it may not cross, or it is larger than `limits`.
    """
    limits = limits or Limits()
    tensors: list[torch.Tensor] = []
    tree = _to_json(message, "message", 0, Budget(limits), tensors)
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")
    blob = save_tensors({str(i): tensor for i, tensor in enumerate(tensors)})
    frame = MAGIC + len(text).to_bytes(8, "little") + text + blob
    if len(frame) > limits.bytes:
        raise WireError(f"the message is {len(frame):,} bytes; at most {limits.bytes:,} cross")
    return frame


def _to_json(value: Any, path: str, depth: int, budget: Budget, tensors: list[torch.Tensor]) -> Any:
    kind = type(value)
    if any(kind is record for record in _RECORDS.values()):
        budget.spend(path, depth)
        record = {
            f.name: _to_json(getattr(value, f.name), f"{path}.{f.name}", depth + 1, budget, tensors)
            for f in fields(value)
        }
        return {_TAG: kind.__name__.lower(), **record}
    if issubclass(kind, torch.Tensor):
        # A copy: safetensors refuses two names for one storage, and views of a larger one.
        tensor = plain_tensor(value, path, depth, budget)
        tensors.append(tensor)
        return {_TAG: "tensor", "n": len(tensors) - 1, "dtype": str(tensor.dtype)[6:], "shape": list(tensor.shape)}
    if kind is list:
        budget.spend(path, depth)
        return [_to_json(item, f"{path}[{i}]", depth + 1, budget, tensors) for i, item in enumerate(value)]
    if kind is tuple:
        budget.spend(path, depth)
        return {
            _TAG: "tuple",
            "v": [_to_json(item, f"{path}[{i}]", depth + 1, budget, tensors) for i, item in enumerate(value)],
        }
    if kind is dict:
        budget.spend(path, depth)
        pairs = []
        for key, item in value.items():
            bare = copied(key, f"{path} key", depth + 1, budget)
            if not hashable(bare):
                raise WireError(f"{path}: {article(type(key))} cannot be a key; use strings or numbers")
            written = _to_json(bare, f"{path} key", depth + 1, budget, tensors)
            pairs.append([written, _to_json(item, f"{path}[{short(bare)}]", depth + 1, budget, tensors)])
        return {_TAG: "dict", "v": pairs}
    if kind is float and not math.isfinite(value):
        budget.spend(path, depth, 8)
        return {_TAG: "float", "v": repr(value)}
    bare = copied(value, path, depth, budget)
    if bare is None or isinstance(bare, (bool, int, float, str)):
        return bare if type(bare) is not float or math.isfinite(bare) else {_TAG: "float", "v": repr(bare)}
    return _to_json(bare, path, depth, budget, tensors)


def decode(frame: bytes, limits: Limits | None = None) -> Any:
    """The message that `encode` wrote. Hostile bytes end in a WireError, never in code that runs.

    Raises WireError for a frame that is too large, torn, nested too deep, of an unknown type, or at odds with itself.
    """
    limits = limits or Limits()
    if len(frame) > limits.bytes:
        raise WireError(f"the message is {len(frame):,} bytes; at most {limits.bytes:,} cross")
    if frame[:4] != MAGIC or len(frame) < 12:
        raise WireError(f"not a message: it begins with {bytes(frame[:4])!r}, expected {MAGIC!r}")
    end = 12 + int.from_bytes(frame[4:12], "little")
    if end > len(frame):
        raise WireError(f"torn message: {end - len(frame):,} bytes are missing")
    text, blob = bytes(frame[12:end]), bytes(frame[end:])
    _refuse_bombs(text, blob, limits)
    try:
        tree = json.loads(text.decode("ascii"))
        tensors = load_tensors(blob)
        reader = _Reader(Budget(limits), tensors)
        message = reader.read(tree, "message", 0, frozenset(_RECORDS))
    except RecursionError:
        raise WireError(f"nested more than {limits.depth} deep") from None
    except WireError:
        raise
    except UnicodeDecodeError as error:
        raise WireError(f"not JSON: {str(error)[:200]}") from None
    except json.JSONDecodeError as error:
        raise WireError(f"not JSON: {str(error)[:200]}") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
        raise WireError(f"not JSON with safetensors: {str(error)[:200]}") from None
    if tensors:
        raise WireError(f"{len(tensors)} tensors were sent that the message does not name")
    return message


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string of JSON, or the rest of the text where it is never closed. Possessive, so that it never looks back."""
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 16
MAX_SAME_HASH = 64
"""Keys of one dict that may share a hash: each costs a comparison with all the others."""


def count_values(text: bytes) -> int:
    """How many values a JSON text holds, at most, in one pass over it. Objects count four times: they are larger."""
    bare = _STRING.sub(b"", text)
    return bare.count(b"[") + 4 * bare.count(b"{") + bare.count(b",")


def _refuse_bombs(text: bytes, blob: bytes, limits: Limits) -> None:
    """Refuses what is small as bytes and large once it is read: millions of empty lists, or of empty tensors."""
    if len(text) > 2**20 and count_values(text) > 16 * limits.items:
        raise WireError(f"more than {limits.items:,} values")
    header = int.from_bytes(blob[:8], "little")
    tensors = text.count(b'"tensor"')
    if tensors > MAX_TENSORS:
        raise WireError(f"more than {MAX_TENSORS:,} tensors")
    if header > 2**16 and header > 1024 * (1 + tensors):
        raise WireError(f"not safetensors: a header of {header:,} bytes for the tensors that the message names")


@dataclass
class _Reader:
    """Turns JSON back into a message. `tensors` loses each that the message names, so that none serves twice."""

    budget: Budget
    tensors: dict[str, torch.Tensor]

    def read(self, tree: Any, path: str, depth: int, records: frozenset[str]) -> Any:
        """records: the tags of those that may stand here."""
        if isinstance(tree, str):
            self.budget.spend(path, depth, len(tree))
            return tree
        self.budget.spend(path, depth, 8)
        if tree is None or isinstance(tree, bool):
            return tree
        if isinstance(tree, int):
            return check_int(tree, path)
        if isinstance(tree, float):
            if not math.isfinite(tree):
                raise WireError(f"{path}: {tree} in JSON")
            return tree
        if isinstance(tree, list):
            return [self.read(item, f"{path}[{i}]", depth + 1, records) for i, item in enumerate(tree)]
        tag = tree.get(_TAG)
        if isinstance(tag, str) and tag in records:
            return self._record(tag, tree, path, depth)
        if isinstance(tag, str) and tag in _RECORDS:
            raise WireError(f"{path}: a record of the kind {tag!r} may not stand here")
        if tag == "tensor" and set(tree) == {_TAG, "n", "dtype", "shape"}:
            return self._tensor(tree, path)
        if tag == "float" and set(tree) == {_TAG, "v"} and tree["v"] in ("nan", "inf", "-inf"):
            return float(tree["v"])
        if tag in ("tuple", "dict") and set(tree) == {_TAG, "v"} and isinstance(tree["v"], list):
            items = tree["v"]
            if tag == "dict":
                return self._dict(items, path, depth, records)
            return tuple(self.read(item, f"{path}[{i}]", depth + 1, records) for i, item in enumerate(items))
        raise WireError(f"{path}: unknown or malformed kind of value {tag!r:.60}")

    def _dict(self, pairs: list[Any], path: str, depth: int, records: frozenset[str]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        same_hash: dict[int, int] = {}
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == 2):
                raise WireError(f"{path}: a dict entry that is no pair")
            key = self.read(pair[0], f"{path} key", depth + 1, frozenset())
            if not hashable(key):
                raise WireError(f"{path}: {article(type(key))} cannot be a key")
            code = hash(key)
            same_hash[code] = same_hash.get(code, 0) + 1
            if same_hash[code] > MAX_SAME_HASH:
                raise WireError(f"{path}: more than {MAX_SAME_HASH} keys that collide")
            if key in result:
                raise WireError(f"{path}: the key {short(key)} is there twice")
            result[key] = self.read(pair[1], f"{path}[{short(key)}]", depth + 1, records)
        return result

    def _tensor(self, tree: dict[str, Any], path: str) -> torch.Tensor:
        n, dtype, shape = tree["n"], tree["dtype"], tree["shape"]
        if type(n) is not int or not isinstance(dtype, str):
            raise WireError(f"{path}: a tensor is announced without its number and dtype")
        if not (isinstance(shape, list) and all(type(size) is int for size in shape)):
            raise WireError(f"{path}: a tensor is announced without its shape")
        if len(shape) > MAX_DIMENSIONS:
            raise WireError(f"{path}: a tensor of {len(shape)} dimensions; at most {MAX_DIMENSIONS} cross")
        tensor = self.tensors.pop(str(n), None)
        if tensor is None:
            raise WireError(f"{path}: tensor {n!r:.40} is missing, or was named before")
        if tensor.dtype not in DTYPES or str(tensor.dtype)[6:] != dtype:
            raise WireError(f"{path}: announced as {dtype!r:.40}, sent as {tensor.dtype}")
        if list(tensor.shape) != shape:
            raise WireError(f"{path}: announced with shape {shape!r:.80}, sent with {list(tensor.shape)}")
        if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise WireError(f"{path}: a tensor of bool holds bytes other than 0 and 1")
        self.budget.spend(path, 0, tensor.numel() * tensor.element_size())
        return tensor

    def _record(self, tag: str, tree: dict[str, Any], path: str, depth: int) -> Any:
        cls = _RECORDS[tag]
        names = [f.name for f in fields(cls)]
        if set(tree) != {_TAG, *names}:
            seen = sorted(set(tree) - {_TAG})
            raise WireError(f"{path}: {cls.__name__} needs the fields {names}, not {seen!r:.200}")
        values = {
            name: self.read(tree[name], f"{path}.{name}", depth + 1, _WITHIN.get((tag, name), frozenset()))
            for name in names
        }
        for name, value in values.items():
            expected = (_CONTAINERS[name],) if name in _CONTAINERS else _SCALARS.get(name)
            if expected and (type(value) not in expected):
                raise WireError(f"{path}.{name} is {article(type(value))}, expected {expected[0].__name__}")
            if name in _ELEMENTS and not all(type(item) is _ELEMENTS[name] for item in value):
                raise WireError(f"{path}.{name} holds something that is no {_ELEMENTS[name].__name__}")
            if name in ("options", "watched") and not all(type(key) is str for key in value):
                raise WireError(f"{path}.{name} has a key that is no string")
        if tag == "reply" and values["status"] not in REPLY_STATUSES:
            raise WireError(f"{path}.status is {values['status']!r:.40}, expected one of {sorted(REPLY_STATUSES)}")
        return cls(**values)
