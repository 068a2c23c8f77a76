"""Comparing plain values: the first difference, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course import wire
from mi_course.exercises import Complaint

__all__ = ["UNFIT", "compare", "compare_error", "degenerate", "is_half", "same", "say"]

UNFIT = (TypeError, ValueError, AttributeError, LookupError, RuntimeError, ArithmeticError)
"""What reading a value raises that is not of the form that was expected."""

LONGEST_LIST = 10_000
"""A longer list is made into a tensor only if it is as long as the one that was expected."""
SHOWN = 60
"""Characters of a learner's text that a sentence quotes."""


def same(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Whether two plain values agree: within tolerance for floats, exactly for everything else."""
    return compare(a, b, rtol=rtol, atol=atol) is None


def compare(
    seen: Any, expected: Any, *, rtol: float = 1e-4, atol: float = 1e-5, path: str = "the result"
) -> Complaint | None:
    """The first difference, in words; None where there is none.

    A float, an int and a 0-d tensor with one value are the same number; so are lists and tuples of the same items.
    Tensors must have the same shape and kind of dtype (bool, whole or floating; float64 for float32 is fine). One in
    float16 or bfloat16 that is right only to that precision gets a complaint of the kind `precision`.
    """
    if _is_number(expected):
        return _compare_number(seen, expected, rtol, atol, path)
    if isinstance(expected, Tensor):
        return _compare_tensor(seen, expected, rtol, atol, path)
    if isinstance(expected, (list, tuple)):
        return _compare_sequence(seen, expected, rtol, atol, path)
    if isinstance(expected, dict):
        return _compare_dict(seen, expected, rtol, atol, path)
    if type(seen) is type(expected) and seen == expected:
        return None
    return Complaint(
        f"{path} is {say(seen)}, expected {say(expected)}.", "value" if type(seen) is type(expected) else "type"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, Tensor) and value.ndim == 0)


def _number(value: Any) -> float | int | bool:
    return value.item() if isinstance(value, Tensor) else value


def _compare_number(seen: Any, expected: Any, rtol: float, atol: float, path: str) -> Complaint | None:
    if isinstance(seen, Tensor) and seen.numel() == 1 and seen.ndim <= 1:
        seen = seen.reshape(())
    if not _is_number(seen):
        kind = "shape" if isinstance(seen, Tensor) else "type"
        return Complaint(f"{path} is {say(seen)}, expected a single number.", kind)
    s, e = _number(seen), _number(expected)
    if isinstance(e, bool) != isinstance(s, bool):
        return Complaint(
            f"{path} is {say(seen)}, expected {'True or False' if isinstance(e, bool) else 'a number'}.", "dtype"
        )
    if isinstance(s, float) and math.isnan(s) and not (isinstance(e, float) and math.isnan(e)):
        return Complaint(
            f"{path} is NaN, expected {_figure(e)}. Look for 0/0, log of 0 or infinity minus infinity.", "nan"
        )
    if s == e or (math.isnan(s) and math.isnan(e)):
        return None
    if isinstance(e, int) and not isinstance(s, float):
        return Complaint(f"{path} is {s}, expected {e}.")
    tolerance = atol + rtol * abs(e)
    # A whole number may come as a float, but not as its neighbour; and nothing is close to infinity.
    if abs(s - e) <= (min(tolerance, 0.01) if isinstance(e, int) else tolerance) and math.isfinite(e):
        return None
    if problem := _half_precision(seen, torch.as_tensor(float(e)), path):
        return problem
    return Complaint("{path} is {}, expected {}.".format(*_figures(s, e), path=path))


def _kind(dtype: torch.dtype) -> str:
    return "bool" if dtype == torch.bool else "floating point" if dtype.is_floating_point else "whole numbers"


def _compare_tensor(seen: Any, expected: Tensor, rtol: float, atol: float, path: str) -> Complaint | None:
    given = seen
    if isinstance(seen, (list, tuple)):
        seen = _as_tensor(seen, expected)
    if not isinstance(seen, Tensor):
        return Complaint(f"{path} is {say(given)}, expected a tensor of shape {_shape(expected)}.", "type")
    if seen.shape != expected.shape:
        return Complaint(f"{path} has shape {_shape(seen)}, expected {_shape(expected)}.", "shape")
    if _kind(seen.dtype) != _kind(expected.dtype) and expected.numel():  # an empty one holds nothing
        return Complaint(
            f"{path} holds {_kind(seen.dtype)} ({_dtype(seen)}), "
            f"expected {_kind(expected.dtype)} ({_dtype(expected)}).",
            "dtype",
        )
    s, e = seen.double(), expected.double()
    nans = s.isnan() & ~e.isnan()
    if nans.any():
        index = _index(nans)
        return Complaint(
            f"{path}{_at(index)} is NaN, expected {_figure(e[index].item())}; {int(nans.sum())} of {s.numel()} values "
            "are NaN. Look for 0/0, log of 0 or infinity minus infinity.",
            "nan",
        )
    # Whole numbers are right or wrong, however large: 15,001 is no token near 15,000.
    exact = not expected.dtype.is_floating_point
    close = seen == expected if exact else torch.isclose(s, e, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return None
    if problem := _half_precision(seen, e, path):
        return problem
    # The largest difference tells more than the first.
    gap = (s - e).abs().masked_fill(close, -1).nan_to_num(posinf=1e300)
    index = _index(gap == gap.max())
    wrong = int((~close).sum())
    one, other = _figures(_number(seen[index]), _number(expected[index]))
    return Complaint(f"{path}{_at(index)} is {one}, expected {other}; {wrong} of {s.numel()} values differ.")


def is_half(value: Any) -> bool:
    """Whether a value is a tensor in float16 or bfloat16."""
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


def _half_precision(seen: Any, expected: Tensor, path: str) -> Complaint | None:
    """The complaint about a tensor that agrees with what is expected to its own precision, and no further."""
    if not is_half(seen):
        return None
    eps = torch.finfo(seen.dtype).eps
    scale = expected.abs().nan_to_num(0, 0, 0).max().item()
    if not torch.isclose(seen.double(), expected.double(), rtol=2 * eps, atol=eps * scale, equal_nan=True).all():
        return None
    digits = {torch.bfloat16: "two or three", torch.float16: "three or four"}[seen.dtype]
    return Complaint(
        f"{path} is right to half precision: {_dtype(seen)} keeps {digits} digits, too few to tell a right answer "
        "from a nearly right one. Return float32.",
        "precision",
    )


def _as_tensor(seen: Sequence[Any], expected: Tensor) -> Tensor | None:
    """A list as the tensor that was expected; None where it is none. A list of tensors is stacked."""
    if len(seen) > LONGEST_LIST and len(seen) != expected.shape[:1].numel():
        return None
    try:
        if seen and all(isinstance(item, Tensor) for item in seen):
            return torch.stack([item.reshape(()) if item.numel() == 1 == expected.ndim else item for item in seen])
        made = torch.tensor(seen, dtype=torch.float64 if expected.numel() == 0 else None)
    except (ValueError, TypeError, RuntimeError):
        return None
    if not seen or (_kind(made.dtype) == "whole numbers" and expected.dtype.is_floating_point):
        return made.to(expected.dtype)  # [0, 1] is a list of floats as well
    return made


def _index(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist())


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def _compare_sequence(seen: Any, expected: Sequence[Any], rtol: float, atol: float, path: str) -> Complaint | None:
    # Length before content: a tensor of shape (n, 1, 1, ...) is small, and the lists that it would make are not.
    if not (isinstance(seen, (list, tuple)) or (isinstance(seen, Tensor) and seen.ndim >= 1)):
        return Complaint(f"{path} is {say(seen)}, expected a list of {len(expected)}.", "type")
    if len(seen) != len(expected):
        return Complaint(
            f"{path} has {len(seen)} entries ({say(seen)}), expected {len(expected)} ({say(expected)}).", "shape"
        )
    for i, (s, e) in enumerate(zip(seen, expected, strict=True)):
        if problem := compare(s, e, rtol=rtol, atol=atol, path=f"{path}[{i}]"):
            return problem
    return None


def _compare_dict(seen: Any, expected: dict[Any, Any], rtol: float, atol: float, path: str) -> Complaint | None:
    if not isinstance(seen, dict) or set(seen) != set(expected):
        what = f"a dict with {_keys(seen)}" if isinstance(seen, dict) else say(seen)
        return Complaint(f"{path} is {what}, expected a dict with {_keys(expected)}.", "shape")
    for key, e in expected.items():
        # What a driver recorded is told in its own words.
        where = f"{path}[{key!r}]" if path != "the result" or key not in _RECORDED else _RECORDED[key]
        # A number may have an axis, but no gradient is taken of it then.
        if key == "output" and "gradients" in expected and _is_number(e) and getattr(seen[key], "ndim", 0):
            return Complaint(
                f"{where} has shape {_shape(seen[key])}, expected a scalar tensor: one without axes.", "shape"
            )
        if problem := compare(seen[key], e, rtol=rtol, atol=atol, path=where):
            return problem
    return None


def _keys(found: dict[Any, Any]) -> str:
    shown = [str(key)[:SHOWN] for key in list(found)[:1000]]
    return f"{sorted(shown)[:20]}"


_RECORDED = {
    "output": "the result",
    "gradients": "the gradient",
    "losses": "the loss of each step",
    "parameters": "after the steps, parameter",
    "buffers": "the tensor that was passed in",
    "activations": "what the hook lets through",
    "trapped": "whether an error in the model reached the caller",
}


def _shape(tensor: Tensor) -> str:
    if tensor.ndim > 16:
        return f"({', '.join(map(str, tensor.shape[:16]))}, ...)"
    return f"({', '.join(map(str, tensor.shape))})" if tensor.ndim != 1 else f"({tensor.shape[0]},)"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _figure(number: float) -> str:
    return str(number) if isinstance(number, (bool, int)) else _unsigned_zero(f"{number:.4g}")


def _unsigned_zero(text: str) -> str:
    """No minus before a zero."""
    return text if text.strip("-0.") else text.lstrip("-")


def _figures(seen: float, expected: float) -> tuple[str, str]:
    """Both with as many digits as it takes to see that they differ."""
    if isinstance(seen, int) and isinstance(expected, int):
        return str(seen), str(expected)
    for digits in (4, 6, 9, 17):
        texts = f"{seen:.{digits}g}", f"{expected:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return _unsigned_zero(texts[0]), _unsigned_zero(texts[1])


def say(value: Any, depth: int = 0) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {_shape(value)}" if value.ndim else _figure(value.item())
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}... ({len(value):,} characters)"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, (int, float)):
        return _figure(value)
    if isinstance(value, (list, tuple)):
        shown = [say(item, depth + 1) for item in value[:4]] if depth < 2 else []
        inside = ", ".join(shown + ["..."] * (len(value) > len(shown)))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return f"a {type(value).__name__}"


def compare_error(seen: Any, truth: Any) -> Complaint | None:
    if not (isinstance(seen, dict) and set(seen) == set(truth) and isinstance(seen["raised"], list)):
        return Complaint("The record of what it raised cannot be read.", "type")
    expected = truth["raised"][0] if truth["raised"] else None
    raised = seen["raised"]
    kind = _class_name(raised[0]) if raised else ""
    if expected is None:
        if raised:
            return Complaint(f"It raised {kind} ({say(seen['message'])}) where an answer was expected.")
        return compare(seen["returned"], truth["returned"])
    if expected in raised:
        return None
    got = f"raised {kind}" if raised else f"returned {say(seen['returned'])}"
    return Complaint(f"It {got} where a {expected} was expected: there is no right value to return.")


def _class_name(text: Any) -> str:
    """The name of an exception's class, of which a learner chose every character: no sentence fits into it."""
    return "".join(c if c.isalnum() else "_" for c in text[:SHOWN]) if isinstance(text, str) else say(text)


def degenerate(value: Any) -> bool:
    """Nothing, NaN, or zero throughout: what many mistakes come to, and therefore the sign of none."""
    if value is None or (isinstance(value, (list, tuple, dict)) and not value):
        return True
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, Tensor):
        flat = value.detach().double().flatten()
        return flat.numel() == 0 or bool(flat.isnan().any()) or bool((flat == 0).all())
    if isinstance(value, (list, tuple)):
        tensors = [item for item in wire.tensors_in(value) if item.numel()]
        if tensors:
            return degenerate(torch.cat([item.detach().double().flatten() for item in tensors]))
        return all(map(degenerate, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (value == 0 or math.isnan(value))
