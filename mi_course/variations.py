"""Changes one thing about a call that an exercise makes, so that every exercise is asked what authors forget.

The same call with one argument exchanged shows an answer that remembers former calls by a part of their arguments. With
short, long or zero vectors it shows a floor under magnitudes. With an axis of size one it shows a `.squeeze()`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from mi_course.wire import Call, Ref

__all__ = ["vary"]

DRIVERS = frozenset({"call", "hook"})
"""Those whose arguments are all that an answer gets."""
_SHORT, _LONG, _BEYOND, _LESS = 0.01, 8.0, 12.0, 0.75


def vary(call: Call, names: Sequence[str], fixed: Collection[str]) -> Iterator[tuple[str, Call]]:
    """Calls that differ from this one in one respect, each with the difference in words.

    names: the answer's parameters. fixed: what may not vary: `x` (its values; it may still lose an axis), `x[0]` (an
    axis, which may not be of size one), `x=0` (no row of it may be zero), `x=twice` (no entry of a list occurs twice).
    """
    if call.driver not in DRIVERS:
        return
    for i, (name, arg) in enumerate(zip(names, call.args, strict=False)):
        if name not in fixed:
            for words, other in _others(name, arg, fixed):
                yield words, replace(call, args=(*call.args[:i], other, *call.args[i + 1 :]))
    if other_model := _with_other_model(call):
        yield "another model", other_model
    yield from _narrowed(call, names, fixed)


def _others(name: str, arg: Any, fixed: Collection[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(arg, Tensor) and arg.is_floating_point() and arg.numel():
        turned = _turned(arg)
        yield f"short vectors in `{name}`", turned * _SHORT
        yield f"long vectors in `{name}`", turned * max(_LONG, _BEYOND / max(float(arg.abs().max()), 0.1))
        if arg.ndim > 1 and len(arg) > 1 and f"{name}=0" not in fixed:
            some = turned.clone()
            some[0] = 0.0
            yield f"zeros in `{name}[0]`", some
    elif isinstance(arg, Tensor) and arg.numel() > 1:
        yield f"another `{name}`", _turned(arg)
    elif isinstance(arg, bool):
        return
    elif isinstance(arg, int) and arg >= 2:
        yield f"`{name}` = {arg - 1}", arg - 1
    elif isinstance(arg, float) and arg:
        yield f"`{name}` = {arg * _LESS:g}", arg * _LESS
    elif isinstance(arg, list) and len(arg) > 1 and not any(isinstance(item, Tensor) for item in arg):
        yield f"`{name}` the other way round", arg[::-1]
        if f"{name}=twice" not in fixed:
            yield f"an entry of `{name}` twice", [*arg, arg[0]]
    elif isinstance(arg, Ref) and arg.kind in ("cache", "function"):
        other = _with_other_options(arg)
        if other is not None:
            yield f"another `{name}`", other


def _turned(tensor: Tensor) -> Tensor:
    """The same entries in another order."""
    return tensor.flip(-1).clone() if tensor.ndim else tensor


def _with_other_options(ref: Ref) -> Ref | None:
    tensors = {key: _turned(value) for key, value in ref.options.items() if isinstance(value, Tensor)}
    return Ref(ref.kind, {**ref.options, **tensors}) if tensors else None


def _with_other_model(call: Call) -> Call | None:
    """The call with other weights in its model, wherever it occurs."""
    if not any(isinstance(arg, Ref) and arg.kind == "model" and "seed" in arg.options for arg in call.args):
        return None
    return replace(call, args=tuple(map(_reseeded, call.args)))


def _reseeded(value: Any) -> Any:
    if not isinstance(value, Ref):
        return value
    options = {key: _reseeded(item) for key, item in value.options.items()}
    if value.kind == "model" and "seed" in options:
        options["seed"] += 1
    return Ref(value.kind, options)


def _narrowed(call: Call, names: Sequence[str], fixed: Collection[str]) -> Iterator[tuple[str, Call]]:
    """For each length of an axis: all axes of that length cut down to one, since axes of one length are one axis."""
    axes: dict[int, list[str]] = {}
    for name, arg in zip(names, call.args, strict=False):
        for axis, length in enumerate(arg.shape) if isinstance(arg, Tensor) else ():
            axes.setdefault(length, []).append(f"{name}[{axis}]")
    for length, labels in axes.items():
        if length > 1 and not any(label in fixed for label in labels):
            args = tuple(_first_only(arg, length) for arg in call.args)
            yield f"only one along `{'`, `'.join(labels)}`", replace(call, args=args)


def _first_only(value: Any, length: int) -> Any:
    """The value, and what the references in it are made of, with every axis of this length cut down to one."""
    if isinstance(value, Tensor):
        for axis in [axis for axis, n in enumerate(value.shape) if n == length]:
            value = value.narrow(axis, 0, 1)
        return value.clone()
    if isinstance(value, Ref):
        return Ref(value.kind, {key: _first_only(item, length) for key, item in value.options.items()})
    return value
