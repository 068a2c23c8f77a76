"""Checks of arguments. Each raises ValueError with what was seen, what was expected and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def check_vector(vector: Any, name: str = "vector") -> Tensor:
    """The vector, detached. ValueError unless it is a real, finite tensor with one axis (or one row per prompt)."""
    if not isinstance(vector, torch.Tensor):
        raise ValueError(f"{name} is a {type(vector).__name__}, expected a tensor of shape (d_model,).")
    if vector.ndim not in (1, 2) or not vector.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(vector.shape)} and dtype {vector.dtype}, expected (d_model,) and floating point."
        )
    bad = int((~torch.isfinite(vector)).sum())
    if bad:
        raise ValueError(
            f"{name} holds {bad} numbers that are NaN or infinite, expected none. Look at the activations it was made "
            "from: the mean of an empty class is NaN."
        )
    return vector.detach()


def check_size(vector: Tensor, model: TransformerBridge, name: str = "vector") -> None:
    """ValueError unless the vector is as wide as the model's residual stream."""
    d_model = model.cfg.d_model
    if vector.shape[-1] != d_model:
        raise ValueError(
            f"{name} has {vector.shape[-1]} components, but this model's residual stream has d_model = {d_model}. "
            "Was it made from another model?"
        )


def check_coefficient(coefficient: Any, vector: Tensor, dtype: torch.dtype) -> float:
    """The coefficient as a float; ValueError if it, or its product with the vector in this dtype, is not finite."""
    try:
        value = float(coefficient)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"coefficient is {coefficient!r}, expected one finite number.") from error
    if not math.isfinite(value):
        raise ValueError(f"coefficient is {value}, expected a finite number.")
    largest = float(vector.abs().max()) if vector.numel() else 0.0
    # The sum with the stream must fit into the dtype, and the next norm sums squares in float32.
    squares = math.sqrt(torch.finfo(torch.float32).max / max(vector.shape[-1], 1))
    limit = min(torch.finfo(dtype).max / 2, squares)
    if largest * abs(value) > limit:
        raise ValueError(
            f"coefficient {value:g} times the vector's largest component, {largest:g}, overflows {dtype}: at most "
            f"{limit:.1e} leaves room for the stream and the next norm. Coefficients of -3 to 3 are the useful ones."
        )
    return value


def check_layers(layers: int | Iterable[int], n_layers: int | None = None) -> tuple[int, ...]:
    """Layers as a tuple, ascending and each once; ValueError for none, for a non-integer, or for one out of range."""
    given: Iterable[Any] = [layers] if isinstance(layers, int) else layers
    try:
        numbers = tuple(given)
    except TypeError as error:
        raise ValueError(f"layers is {layers!r}, expected a layer number or a list of them.") from error
    if not numbers:
        raise ValueError("layers is empty, expected at least one layer number.")
    for layer in numbers:
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise ValueError(f"layer {layer!r} is a {type(layer).__name__}, expected a whole number.")
        if layer < 0 or (n_layers is not None and layer >= n_layers):
            last = "" if n_layers is None else f": this model has layers 0 to {n_layers - 1}"
            raise ValueError(f"There is no layer {layer}{last}. Layers are counted from 0, never from the end.")
    return tuple(sorted(set(numbers)))


def check_rows(x: Tensor, name: str) -> None:
    """ValueError unless x has shape (n, d), n ≥ 1, and every number is finite."""
    if x.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected (n, d): one row per example.")
    if x.shape[0] == 0:
        raise ValueError(f"{name} is empty: a mean of no examples does not exist.")
    if not bool(torch.isfinite(x).all()):
        rows: Sequence[int] = (~torch.isfinite(x)).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"{name} holds NaN or infinite numbers in rows {rows[:5]}, expected none.")
