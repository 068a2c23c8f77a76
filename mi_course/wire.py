"""What may cross to an untrusted answer and back, and how it is written down.

An `Ask` goes out: calls with plain arguments and references, and nothing of the truth. One `Observation` comes back.
Only plain values cross: None, bool, int, float, str, lists, tuples and dicts of these, and tensors. They are written as
JSON with the tensors beside it in safetensors; nothing here can run code when it is read (no pickle, no eval).

    frame = b"MIC1" + 8 bytes (length of the JSON, little endian) + JSON + safetensors

This module imports nothing else of ours, so that a sandbox can hold it without holding any truth.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

__all__ = [
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

MAGIC = b"MIC1"

DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)


class WireError(ValueError):
    """A value that cannot cross, or bytes that are not a message. The text names the place and the reason."""


@dataclass(frozen=True)
class Limits:
    """How large a message may be before it is refused."""

    bytes: int = 64 * 2**20
    """Whole frame, or all tensors and strings of a value together."""
    items: int = 200_000
    """Values of any kind, containers included."""
    depth: int = 16
    """Lists within lists within lists."""


# ---------------------------------------------------------------------------------------------------------------------
# What crosses


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
    """What else to look at, from `mi_course.asking.watches`."""


@dataclass(frozen=True)
class Ask:
    """Calls that are made one after the other in one process. Holds no truth, no points and no case name."""

    calls: tuple[Call, ...]
    limit_s: float = 5.0
    """Seconds for all calls together."""
    max_reply_bytes: int = 16 * 2**20
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random. It says nothing about the case, and a reply to another Ask is ignored."""


@dataclass(frozen=True)
class Error:
    """An exception, told in words."""

    kind: str
    """Name of its class."""
    bases: tuple[str, ...]
    """Names of the class and its parents, nearest first."""
    message: str
    where: str = ""
    """The learner's line in which it was raised, if one was."""


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
    """What one call came to."""

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
    """What an Ask came to, one reply for each call that was reached."""

    ask: str
    replies: tuple[Reply, ...]
    printed: str = ""
    """The beginning of what the answer printed."""


# ---------------------------------------------------------------------------------------------------------------------
# Plain values


class _Budget:
    """Counts what a value holds, so that a huge one is refused before it is copied."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.items, self.bytes = limits, 0, 0

    def spend(self, path: str, depth: int, n_bytes: int = 0) -> None:
        self.items += 1
        self.bytes += n_bytes
        if depth > self.limits.depth:
            raise WireError(f"{path}: nested more than {self.limits.depth} deep")
        if self.items > self.limits.items:
            raise WireError(f"{path}: more than {self.limits.items:,} values")
        if self.bytes > self.limits.bytes:
            raise WireError(f"{path}: more than {self.limits.bytes:,} bytes in all")


def plain(value: Any, limits: Limits | None = None, path: str = "value") -> Any:
    """A copy of `value` in plain values only. Tensor subclasses become tensors; no code of the learner's is called.

    Raises WireError, naming place and type, for anything that may not cross.
    """
    return _plain(value, path, 0, _Budget(limits or Limits()))


def _plain(value: Any, path: str, depth: int, budget: _Budget) -> Any:
    # A class may redefine `==`, `hash`, `__class__`, iteration and every attribute, and so may its metaclass. Types are
    # told apart by identity and `issubclass` alone; a subclass' contents are read by the base class' own methods.
    kind = type(value)
    if value is None or kind is bool or kind is float:
        budget.spend(path, depth, 8)
        return value
    if kind is int:
        budget.spend(path, depth, 8)
        return _check_int(value, path)
    if kind is str:
        budget.spend(path, depth, len(value))
        return value
    if kind is list or issubclass(kind, tuple):  # tuples with names too, and torch's (`torch.return_types.topk`)
        budget.spend(path, depth)
        contents = list.__iter__(value) if kind is list else tuple.__iter__(value)
        items = [_plain(item, f"{path}[{i}]", depth + 1, budget) for i, item in enumerate(contents)]
        return items if kind is list else tuple(items)
    if issubclass(kind, dict):
        budget.spend(path, depth)
        result = {}
        for key, item in dict.items(value):
            bare = _plain(key, f"{path} key", depth + 1, budget)
            if not _hashable(bare):
                raise WireError(f"{path}: {_article(type(key))} cannot be a key; use strings or numbers")
            result[bare] = _plain(item, f"{path}[{_short(bare)}]", depth + 1, budget)
        return result
    if issubclass(kind, torch.Tensor):
        return _plain_tensor(value, path, depth, budget)
    if any(kind is scalar for scalar in _NUMPY_SCALARS):
        return _plain(value.item(), path, depth, budget)
    if kind is np.ndarray:
        return _plain_array(value, path, depth, budget)
    raise WireError(
        f"{path} is {_article(kind)}, which cannot be checked; use numbers, strings, lists, dicts or tensors"
    )


_NUMPY_SCALARS = (
    *(np.float64, np.float32, np.float16, np.bool_, np.str_),
    *(np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8),
)


def _plain_array(value: np.ndarray, path: str, depth: int, budget: _Budget) -> torch.Tensor:
    if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        raise WireError(f"{path}: a numpy array of {value.dtype} cannot cross; return numbers")
    budget.spend(path, depth, value.nbytes)  # before it is copied: a broadcast array may announce terabytes
    native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
    return _plain_tensor(torch.from_numpy(native), path, depth, budget)


def _plain_tensor(value: torch.Tensor, path: str, depth: int, budget: _Budget) -> torch.Tensor:
    """A contiguous copy on the CPU, of class Tensor, that shares nothing with `value`."""
    if _dispatches(type(value)):
        raise WireError(f"{path} is {_article(type(value))}, a tensor that computes itself; return an ordinary one")
    base = torch._C.TensorBase
    # A subclass may redefine any attribute; the base class' own ones see the data as it is.
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        layout, dtype, device = (getattr(base, name).__get__(value) for name in ("layout", "dtype", "device"))
        if layout != torch.strided:
            raise WireError(f"{path}: a {layout} tensor cannot cross; return an ordinary (dense) one")
        if device.type == "meta":
            raise WireError(f"{path}: a tensor on the meta device holds no numbers")
        if dtype not in DTYPES:
            raise WireError(f"{path}: a tensor of {dtype} cannot cross; use floats, integers or bool")
        try:
            bare = base.as_subclass(base.detach(value), torch.Tensor)
            budget.spend(path, depth, bare.numel() * bare.element_size())  # before it is copied
            _require_memory(bare)
            return torch.empty(bare.shape, dtype=dtype, device="cpu").copy_(bare.cpu().resolve_neg())
        except RuntimeError as error:  # left over from a transform (vmap, grad), or its memory is gone
            raise WireError(f"{path}: this tensor cannot be copied ({str(error)[:200]})") from None


def _require_memory(tensor: torch.Tensor) -> None:
    """Raises RuntimeError if a tensor reaches beyond its storage, which may have been shrunk: copying would crash."""
    if tensor.numel():
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if (tensor.storage_offset() + reach + 1) * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise RuntimeError("its storage is smaller than its shape")


# What a metaclass cannot redefine.
_MRO, _NAME, _DICT = (vars(type)[name].__get__ for name in ("__mro__", "__name__", "__dict__"))


def _dispatches(kind: type) -> bool:
    """Whether a tensor class brings its own `__torch_dispatch__`, which every operation would call."""
    return any(cls is not torch.Tensor and "__torch_dispatch__" in _DICT(cls) for cls in _MRO(kind))


def _check_int(value: int, path: str) -> int:
    if not -(2**63) <= value < 2**63:
        raise WireError(f"{path}: an integer of {value.bit_length()} bits; at most 63 cross")
    return value


def _article(kind: type) -> str:
    name = _NAME(kind)[:100]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _short(key: Any) -> str:
    return f"{key!r:.40}" if type(key) is not tuple else "..."


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor inside a plain value, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)


# ---------------------------------------------------------------------------------------------------------------------
# The codec

_RECORDS: dict[str, type] = {cls.__name__.lower(): cls for cls in (Ref, Call, Ask, Error, Reply, Observation)}
_TAG = "~"


def encode(message: Any, limits: Limits | None = None) -> bytes:
    """The frame of a plain value, an Ask or an Observation.

    Raises WireError where something in it may not cross, or it is larger than `limits`.
    """
    limits = limits or Limits()
    tensors: list[torch.Tensor] = []
    tree = _to_json(message, "message", 0, _Budget(limits), tensors)
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")
    blob = save_tensors({str(i): tensor for i, tensor in enumerate(tensors)})
    frame = MAGIC + len(text).to_bytes(8, "little") + text + blob
    if len(frame) > limits.bytes:
        raise WireError(f"the message is {len(frame):,} bytes; at most {limits.bytes:,} cross")
    return frame


def _to_json(value: Any, path: str, depth: int, budget: _Budget, tensors: list[torch.Tensor]) -> Any:
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
        tensor = _plain_tensor(value, path, depth, budget)
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
            bare = _plain(key, f"{path} key", depth + 1, budget)
            if not _hashable(bare):
                raise WireError(f"{path}: {_article(type(key))} cannot be a key; use strings or numbers")
            written = _to_json(bare, f"{path} key", depth + 1, budget, tensors)
            pairs.append([written, _to_json(item, f"{path}[{_short(bare)}]", depth + 1, budget, tensors)])
        return {_TAG: "dict", "v": pairs}
    if kind is float and not math.isfinite(value):
        budget.spend(path, depth, 8)
        return {_TAG: "float", "v": repr(value)}
    bare = _plain(value, path, depth, budget)
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
        reader = _Reader(_Budget(limits), tensors)
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


def _refuse_bombs(text: bytes, blob: bytes, limits: Limits) -> None:
    """Refuses what is small as bytes and large once it is read: millions of empty lists, or of empty tensors."""
    if len(text) > 2**20:
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text)
        values = bare.count(b"[") + bare.count(b"{") + bare.count(b",")
        if values > 16 * limits.items:
            raise WireError(f"more than {limits.items:,} values")
    header = int.from_bytes(blob[:8], "little")
    if header > 2**16 and header > 1024 * (1 + text.count(b'"tensor"')):
        raise WireError(f"not safetensors: a header of {header:,} bytes for the tensors that the message names")


@dataclass
class _Reader:
    """Turns JSON back into a message. `tensors` loses each that the message names, so that none serves twice."""

    budget: _Budget
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
            return _check_int(tree, path)
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
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == 2):
                raise WireError(f"{path}: a dict entry that is no pair")
            key = self.read(pair[0], f"{path} key", depth + 1, frozenset())
            if not _hashable(key):
                raise WireError(f"{path}: {_article(type(key))} cannot be a key")
            if key in result:
                raise WireError(f"{path}: the key {_short(key)} is there twice")
            result[key] = self.read(pair[1], f"{path}[{_short(key)}]", depth + 1, records)
        return result

    def _tensor(self, tree: dict[str, Any], path: str) -> torch.Tensor:
        n, dtype, shape = tree["n"], tree["dtype"], tree["shape"]
        if type(n) is not int or not isinstance(dtype, str):
            raise WireError(f"{path}: a tensor is announced without its number and dtype")
        if not (isinstance(shape, list) and all(type(size) is int for size in shape)):
            raise WireError(f"{path}: a tensor is announced without its shape")
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
                raise WireError(f"{path}.{name} is {_article(type(value))}, expected {expected[0].__name__}")
            if name in _ELEMENTS and not all(type(item) is _ELEMENTS[name] for item in value):
                raise WireError(f"{path}.{name} holds something that is no {_ELEMENTS[name].__name__}")
            if name in ("options", "watched") and not all(type(key) is str for key in value):
                raise WireError(f"{path}.{name} has a key that is no string")
        if tag == "reply" and values["status"] not in REPLY_STATUSES:
            raise WireError(f"{path}.status is {values['status']!r:.40}, expected one of {sorted(REPLY_STATUSES)}")
        return cls(**values)


def _hashable(key: Any) -> bool:
    return key is None or type(key) in (str, int, float, bool) or (type(key) is tuple and all(map(_hashable, key)))


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
