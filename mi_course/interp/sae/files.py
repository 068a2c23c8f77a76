"""SAEs in files that others read and write: SAELens's folders, and dictionary_learning's `ae.pt`.

    save_sae(sae, "my_sae", hook_name="blocks.14.hook_resid_post", model_name="smollm2")
    sae = load_sae("my_sae")                    a folder with cfg.json and sae_weights.safetensors, as SAELens 6 writes
    sae = load_sae("trained/ae.pt")             with dictionary_learning's config.json beside it

A file may come from anyone: nothing in it is executed, sizes are compared before anything is allocated, and what does
not fit is refused with a FileError that says what was seen and what was expected. `sae.about` keeps what the file says
about its model and hook point.

ReLU is SAELens's "standard". BatchTopK, nested or not, is saved, there and here, as "jumprelu" with its evaluation
threshold for every latent, and read back as JumpReLU. SAELens has no TopK or gated transcoders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.sae.file_checks import FileError, build_sae, compare_shapes, read_json
from mi_course.interp.sae.files_pt import load_pt

if TYPE_CHECKING:
    from torch import Tensor

    from mi_course.interp.sae.base import SAE

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
SAELENS_VERSION = "6.54.12"  # whose format is written
KINDS = {
    "standard": ("relu", ("W_enc", "b_enc", "W_dec", "b_dec")),
    "topk": ("topk", ("W_enc", "b_enc", "W_dec", "b_dec")),
    "jumprelu": ("jumprelu", ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")),
    "gated": ("gated", ("W_enc", "b_gate", "r_mag", "b_mag", "W_dec", "b_dec")),
    "transcoder": ("relu", ("W_enc", "b_enc", "W_dec", "b_dec")),
    "jumprelu_transcoder": ("jumprelu", ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")),
}
"""SAELens's name of an architecture -> ours, and its tensors."""


def load_sae(path: str | Path) -> SAE:
    """The SAE in a folder of SAELens's or a `.pt` file of dictionary_learning's; gradients off.

    float64 stays, shorter types become float32. Raises FileError.
    """
    path = Path(path)
    return load_pt(path) if path.suffix == ".pt" else _load_saelens(path)


def save_sae(
    sae: SAE,
    folder: str | Path,
    *,
    hook_name: str | None = None,
    model_name: str | None = None,
    dtype: torch.dtype | None = None,
    **about: Any,
) -> Path:
    """Write cfg.json and sae_weights.safetensors as SAELens 6 does, each atomically. Returns the folder.

    dtype: of the file, by default that of the weights. bfloat16 or float16 halve it; biases and thresholds, which are
    few and decide what is active, are then rounded too. OverflowError for numbers that float16 cannot hold.
    hook_name, model_name and about (plain values) go into SAELens's `metadata`. ValueError for a TopK or gated
    transcoder. Of a `Trainer` in progress save `trainer.result()`, into which the normalization is folded.
    """
    folder, config = Path(folder), sae.config
    tensors = sae.tensors()
    kind = {"relu": "standard", "batch_topk": "jumprelu", "matryoshka": "jumprelu"}.get(
        config.architecture, config.architecture
    )
    if config.transcoder:
        kinds = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
        if kind not in kinds:
            raise ValueError(
                f"SAELens has no transcoder of architecture {config.architecture!r}; it has relu, jumprelu."
            )
        kind = kinds[kind]
    if config.architecture in ("batch_topk", "matryoshka"):
        tensors["threshold"] = tensors["threshold"] * torch.ones_like(tensors["b_enc"])
    if dtype is not None:
        tensors = {name: _narrowed(name, tensor, dtype) for name, tensor in tensors.items()}
    metadata = {"sae_lens_version": SAELENS_VERSION, "sae_lens_training_version": None, "trained_by": "mi-course"}
    metadata |= {"hook_name": hook_name, "model_name": model_name, **about}
    cfg = {
        "architecture": kind,
        "d_in": config.d_in,
        "d_sae": config.n_latents,
        **({"d_out": config.width_out} if config.transcoder else {}),
        **({"k": config.k, "rescale_acts_by_decoder_norm": False} if kind == "topk" else {}),
        "dtype": str(tensors["W_dec"].dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": bool(config.subtract_decoder_bias),
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    text = json.dumps(cfg, indent=1)  # first, so that no file is written if `about` is not plain
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / WEIGHTS_FILE, lambda part: save_file({name: t.cpu() for name, t in tensors.items()}, part))
    atomic_write(folder / CONFIG_FILE, lambda part: part.write_text(text, encoding="utf-8"))
    return folder


def _narrowed(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    new = tensor.to(dtype)
    if not new.isfinite().all() and tensor.isfinite().all():
        raise OverflowError(f"{name} has numbers up to {float(tensor.abs().max()):.3g}, too large for {dtype}.")
    return new


# ---------------------------------------------------------------------------------------------------------------------
# SAELens


def _load_saelens(folder: Path) -> SAE:
    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder. Give one with {CONFIG_FILE} and {WEIGHTS_FILE}, or an ae.pt file.")
    path = folder / CONFIG_FILE
    cfg = _as_version_6(read_json(path), path)
    kind, widths = cfg["architecture"], _widths(cfg, path)
    architecture, names = KINDS[kind]
    tensors = _read_safetensors(folder / WEIGHTS_FILE, _shapes(names, *widths), cfg.get("finetuning_scaling_factor"))
    if kind == "topk" and cfg.get("rescale_acts_by_decoder_norm"):
        # Theirs chooses by pre · ‖W_dec‖ and decodes with unit rows: move the norms into the encoder.
        norms = tensors["W_dec"].norm(dim=1).clamp(min=1e-8)
        tensors |= {"W_enc": tensors["W_enc"] * norms, "b_enc": tensors["b_enc"] * norms}
        tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
    options = {"k": _integer(cfg, "k", path)} if kind == "topk" else {}
    subtract = False if "transcoder" in kind else bool(cfg.get("apply_b_dec_to_input", True))
    return build_sae(
        architecture, tensors, widths, "transcoder" in kind, subtract, options, cfg.get("metadata", {}), path
    )


def _as_version_6(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """The configuration in the form of SAELens 6. FileError for what we cannot represent."""
    if "metadata" not in cfg:  # before SAELens 6 there was no `metadata`
        known = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
        cfg = {known.get(name, name): value for name, value in cfg.items()}
        cfg.setdefault("architecture", "standard")
        if cfg.get("activation_fn") == "topk":
            k = cfg.get("activation_fn_kwargs")
            cfg |= {"architecture": "topk", "k": k.get("k") if isinstance(k, dict) else None}
        elif cfg.get("activation_fn", "relu") != "relu":
            raise FileError(f"{path} has activation_fn {cfg['activation_fn']!r}, expected 'relu' or 'topk'.")
        cfg["metadata"] = {name: cfg[name] for name in ("model_name", "hook_name", "hook_layer") if name in cfg}
    if not isinstance(cfg["metadata"], dict):
        raise FileError(f"{path} has metadata {str(cfg['metadata'])[:60]!r}, expected an object.")
    if not isinstance(cfg.get("architecture"), str) or cfg["architecture"] not in KINDS:
        seen = str(cfg.get("architecture"))[:60]
        raise FileError(f"{path} has architecture {seen!r}, expected one of {', '.join(KINDS)}.")
    if cfg.get("normalize_activations", "none") not in ("none", None, False):
        raise FileError(
            f"{path} has normalize_activations {str(cfg['normalize_activations'])[:60]!r}, expected 'none': this SAE "
            "wants activations that are scaled first. Fold the scale into its weights with SAELens, and save it again."
        )
    return cfg


def _widths(cfg: Mapping[str, Any], path: Path) -> tuple[int, int, int]:
    d_in, n_latents = _integer(cfg, "d_in", path), _integer(cfg, "d_sae", path)
    return d_in, n_latents, _integer(cfg, "d_out", path) if "transcoder" in cfg["architecture"] else d_in


def _integer(cfg: Mapping[str, Any], name: str, path: Path) -> int:
    value = cfg.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise FileError(f"{path} has {name} {str(value)[:60]!r}, expected a whole number, at least 1.")
    return value


def _shapes(names: tuple[str, ...], d_in: int, n_latents: int, d_out: int) -> dict[str, tuple[int, ...]]:
    special = {"W_enc": (d_in, n_latents), "W_dec": (n_latents, d_out), "b_dec": (d_out,)}
    return {name: special.get(name, (n_latents,)) for name in names}


def _read_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], finetuned: Any = False) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            seen = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if "scaling_factor" in seen and not finetuned:  # SAELens before version 6 always wrote it
                del seen["scaling_factor"]
            compare_shapes(path, seen, shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except FileNotFoundError:
        raise FileError(f"{path} is missing.") from None
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{path} cannot be read as safetensors ({error}): damaged or cut short. Fetch it again."
        ) from None
    return tensors
