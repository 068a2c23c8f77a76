"""Plain values: what may cross, within limits. They are copied without running code of the learner's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

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
    """A value that cannot cross, or bytes that are no message. The text says where and why."""


@dataclass(frozen=True)
class Limits:
    """The largest message that is accepted."""

    bytes: int = 64 * 2**20
    """Of the whole frame, or of all tensors and strings of a value together."""
    items: int = 200_000
    """Values of any kind, containers included."""
    depth: int = 16
    """Levels of nesting."""


class Budget:
    """Adds up the size of a value, so that a huge one is refused before it is copied."""

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
    """A copy of `value` that holds only plain values. Tensor subclasses become tensors; no code of the learner's runs.

    Raises WireError, with place and type, for anything that may not cross.
    """
    return copied(value, path, 0, Budget(limits or Limits()))


def copied(value: Any, path: str, depth: int, budget: Budget) -> Any:
    """As `plain`, within a larger value: path and depth say where, and the budget is shared."""
    # A class, and its metaclass, may redefine `==`, `hash`, `__class__`, iteration and every attribute. So types are
    # compared by identity and `issubclass` alone, and a subclass's contents are read by the base class's methods.
    kind: type = type(value)
    if value is None or kind is bool or kind is float:
        budget.spend(path, depth, 8)
        return value
    if kind is int:
        budget.spend(path, depth, 8)
        return check_int(value, path)
    if kind is str:
        budget.spend(path, depth, len(value))
        return value
    if kind is list or issubclass(kind, tuple):  # tuples with names too, and torch's (`torch.return_types.topk`)
        budget.spend(path, depth)
        contents = list.__iter__(value) if kind is list else tuple.__iter__(value)
        items = [copied(item, f"{path}[{i}]", depth + 1, budget) for i, item in enumerate(contents)]
        return items if kind is list else tuple(items)
    if issubclass(kind, dict):
        budget.spend(path, depth)
        result = {}
        for key, item in dict.items(value):
            bare = copied(key, f"{path} key", depth + 1, budget)
            if not hashable(bare):
                raise WireError(f"{path}: {article(type(key))} cannot be a key; use strings or numbers")
            result[bare] = copied(item, f"{path}[{short(bare)}]", depth + 1, budget)
        return result
    if issubclass(kind, torch.Tensor):
        return plain_tensor(value, path, depth, budget)
    if any(kind is scalar for scalar in _NUMPY_SCALARS):
        return copied(value.item(), path, depth, budget)
    if kind is np.ndarray:
        return _plain_array(value, path, depth, budget)
    raise WireError(
        f"{path} is {article(kind)}, which cannot be checked; use numbers, strings, lists, dicts or tensors"
    )


_NUMPY_SCALARS = (
    *(np.float64, np.float32, np.float16, np.bool_, np.str_),
    *(np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8),
)


def _plain_array(value: np.ndarray, path: str, depth: int, budget: Budget) -> torch.Tensor:
    if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        raise WireError(f"{path}: a numpy array of {value.dtype} cannot cross; return numbers")
    budget.spend(path, depth, value.nbytes)  # before it is copied: a broadcast array may announce terabytes
    native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
    return plain_tensor(torch.from_numpy(native), path, depth, budget)


def plain_tensor(value: torch.Tensor, path: str, depth: int, budget: Budget) -> torch.Tensor:
    """A contiguous copy on the CPU, of class Tensor, that shares nothing with `value`."""
    if _dispatches(type(value)):
        raise WireError(f"{path} is {article(type(value))}, a tensor that computes itself; return an ordinary one")
    base = torch._C.TensorBase
    # A subclass may redefine any attribute; those of the base class see the data as it is.
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
            if bare.ndim > 16:
                raise RuntimeError(f"it has {bare.ndim} dimensions; at most 16 cross")
            budget.spend(path, depth, bare.numel() * bare.element_size())  # before it is copied
            _require_memory(bare)
            return torch.empty(bare.shape, dtype=dtype, device="cpu").copy_(bare.cpu().resolve_neg())
        except RuntimeError as error:  # it belongs to a finished transform (vmap, grad), or its memory is gone
            raise WireError(f"{path}: this tensor cannot be copied ({str(error)[:200]})") from None


def _require_memory(tensor: torch.Tensor) -> None:
    """Raise RuntimeError if a tensor is larger than its storage, which may have been shrunk: copying would crash."""
    if tensor.numel():
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if (tensor.storage_offset() + reach + 1) * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise RuntimeError("its storage is smaller than its shape")


# What a metaclass cannot redefine.
_MRO, _NAME, _DICT = (vars(type)[name].__get__ for name in ("__mro__", "__name__", "__dict__"))


def _dispatches(kind: type) -> bool:
    """Whether a tensor class has a `__torch_dispatch__` of its own, which every operation would call."""
    return any(cls is not torch.Tensor and "__torch_dispatch__" in _DICT(cls) for cls in _MRO(kind))


def check_int(value: int, path: str) -> int:
    """The integer itself. Raises WireError if it has more than 63 bits."""
    if not -(2**63) <= value < 2**63:
        raise WireError(f"{path}: an integer of {value.bit_length()} bits; at most 63 cross")
    return value


def article(kind: type) -> str:
    """The name of a class with its article, for messages."""
    name: str = _NAME(kind)[:100]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def short(key: Any) -> str:
    """A dict's key, for messages."""
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


def hashable(key: Any) -> bool:
    """Whether a plain value may be a dict's key."""
    return key is None or type(key) in (str, int, float, bool) or (type(key) is tuple and all(map(hashable, key)))
