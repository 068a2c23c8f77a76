"""Checks of SAE files that others wrote. Everything that does not fit is refused with a FileError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mi_course.errors import CourseError
from mi_course.interp.sae.base import SAE
from mi_course.interp.sae.config import SAEConfig

if TYPE_CHECKING:
    from torch import Tensor

MAX_CONFIG_BYTES = 1_000_000


class FileError(CourseError, ValueError):
    """A file that is damaged, or holds something other than it claims. The message names the file."""


def read_json(path: Path) -> dict[str, Any]:
    """A short JSON object. FileError for anything else."""
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise FileError(f"{path} has {size:,} bytes, expected a short configuration.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} is not JSON ({str(error)[:80]}). Fetch it again.") from None
    if not isinstance(values, dict):
        raise FileError(f"{path} holds a {type(values).__name__}, expected an object.")
    return values


def compare_shapes(path: Path, seen: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """FileError unless the names and shapes in the file (`seen`) are the expected ones (`shapes`)."""
    if set(seen) != set(shapes):
        names = ", ".join(sorted(map(str, seen)))[:300] or "nothing"
        raise FileError(f"{path} holds {names}; expected {', '.join(sorted(shapes))}.")
    for name, shape in shapes.items():
        if seen[name] != shape:
            raise FileError(f"{path} holds {name} of shape {seen[name]}, expected {shape} from the configuration.")


def build_sae(
    architecture: str,
    tensors: dict[str, Tensor],
    widths: tuple[int, int, int],
    transcoder: bool,
    subtract: bool,
    options: dict[str, Any],
    about: dict[str, Any],
    path: Path,
) -> SAE:
    """The SAE with these weights, gradients off. Compare shapes first, so that nothing large is allocated in vain.

    widths: d_in, latents, d_out. options: further fields of the config. about: kept as `sae.about`. FileError for
    weights that are not finite floats, and for what SAEConfig refuses.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise FileError(f"The {name} of {path} holds {tensor.dtype}, expected floats.")
        if bool(tensor.isnan().any()) or (name != "threshold" and bool(tensor.isinf().any())):
            raise FileError(f"The {name} of {path} holds NaN or infinity, expected finite numbers.")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors.values()) else torch.float32
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    if "threshold" in tensors and architecture == "jumprelu":
        tensors["threshold"] = tensors["threshold"].clamp(min=0)  # theirs applies a ReLU too, ours does not
    norms = tensors["W_dec"].norm(dim=1)
    unit = architecture == "gated" or bool(((norms - 1).abs() < 1e-3).all())
    d_in, n_latents, d_out = widths
    try:
        config = SAEConfig(
            d_in=d_in,
            n_latents=n_latents,
            architecture=architecture,
            d_out=d_out if transcoder else None,
            decoder_norm="unit" if unit else "free",
            subtract_decoder_bias=subtract,
            **{"k": min(SAEConfig.k, n_latents), **options},
        )
        sae = SAE.from_tensors(config, tensors)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    sae.about = dict(about)
    return sae.requires_grad_(False)
