"""Reading dictionary_learning's `ae.pt`: a state dict in torch's zip form, and `config.json` beside it.

A `.pt` file is a pickle in a zip archive. `torch.load(weights_only=True)` builds only tensors from it. Checked besides
are compressed archives, which could swell when unpacked, and tensors that claim more numbers than the file has.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.sae.file_checks import FileError, build_sae, compare_shapes, read_json

if TYPE_CHECKING:
    from mi_course.interp.sae.base import SAE

LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight"}
KINDS = {
    "AutoEncoder": ("relu", LINEAR | {"bias"}),
    "AutoEncoderTopK": ("topk", LINEAR | {"b_dec", "k", "threshold"}),
    "BatchTopKSAE": ("batch_topk", LINEAR | {"b_dec", "k", "threshold"}),
    "JumpReluAutoEncoder": ("jumprelu", {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}),
    "GatedAutoEncoder": (
        "gated",
        {"encoder.weight", "decoder.weight", "decoder_bias", "gate_bias", "mag_bias", "r_mag"},
    ),
}
"""dictionary_learning's classes: our architecture, and their tensors."""
OURS = {
    "bias": "b_dec",
    "decoder_bias": "b_dec",
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_mag",
}


def load_pt(path: Path) -> SAE:
    """The SAE in this file. TopK and BatchTopK have the same tensors: config.json must say which it is. FileError."""
    state = _read(path)
    trainer = _trainer(path.with_name("config.json"))
    if trainer.get("dict_class") == "AutoEncoderTopK":  # before December 2024 it was saved without a threshold
        state.setdefault("threshold", torch.tensor(-1.0))
        if type(trainer.get("k")) is int:
            state.setdefault("k", torch.tensor(trainer["k"]))
    fitting = [name for name, (_, tensors) in KINDS.items() if tensors == set(state)]
    if not fitting:
        raise FileError(
            f"{path} holds {', '.join(sorted(state))[:300] or 'nothing'}: the tensors of none of {', '.join(KINDS)}."
        )
    named = trainer.get("dict_class")
    if named is None and len(fitting) > 1:
        raise FileError(
            f"{path} may be one of {', '.join(fitting)}, whose files look alike. The config.json that "
            "dictionary_learning writes beside it tells which: put it there."
        )
    if named is not None and named not in fitting:
        raise FileError(f"{path} holds the tensors of {', '.join(fitting)}; config.json says {str(named)[:60]!r}.")
    architecture = KINDS[named or fitting[0]][0]
    options = {"k": _k(state, path)} if "k" in state else {}
    tensors = {OURS.get(name, name): tensor for name, tensor in state.items() if name != "k"}
    for name in ("W_enc", "W_dec"):
        if architecture != "jumprelu":  # theirs are torch.nn.Linear, [out, in]
            tensors[name] = tensors[name].t() if tensors[name].ndim == 2 else tensors[name]
    widths = _check_shapes(tensors, path)
    if architecture == "topk":
        del tensors["threshold"]  # their evaluation uses a threshold; ours takes the k largest
    if options and options["k"] > widths[1]:
        raise FileError(f"{path} has k {options['k']}, more than its {widths[1]} latents.")
    about = {name: trainer[name] for name in ("lm_name", "layer", "submodule_name") if name in trainer}
    subtract = architecture != "jumprelu"
    return build_sae(architecture, tensors, widths, False, subtract, options, about, path)


def _check_shapes(tensors: dict[str, Tensor], path: Path) -> tuple[int, int, int]:
    seen = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(seen["W_dec"]) != 2 or 0 in seen["W_dec"]:
        raise FileError(f"{path} holds a decoder of shape {seen['W_dec']}, expected (latents, d).")
    n_latents, d = seen["W_dec"]
    shapes = {name: (n_latents,) for name in seen}
    shapes |= {"W_enc": (d, n_latents), "W_dec": (n_latents, d), "b_dec": (d,)}
    if seen.get("threshold") == ():  # TopK's and BatchTopK's: one for all
        shapes["threshold"] = ()
    compare_shapes(path, seen, shapes)
    return d, n_latents, d


def _k(state: dict[str, Tensor], path: Path) -> int:
    k = state["k"]
    if k.numel() != 1 or k.is_floating_point() or int(k) < 1:
        raise FileError(
            f"{path} has a k of shape {tuple(k.shape)} and type {k.dtype}, expected a whole number above 0."
        )
    return int(k)


def _trainer(path: Path) -> dict[str, Any]:
    """What config.json says about the training; empty without the file."""
    if not path.is_file():
        return {}
    trainer = read_json(path).get("trainer", {})
    if not isinstance(trainer, dict):
        raise FileError(f"{path} has a trainer {str(trainer)[:60]!r}, expected an object.")
    return trainer


def _read(path: Path) -> dict[str, Tensor]:
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except FileNotFoundError:
        raise FileError(f"{path} is missing.") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise FileError(f"{path} is not an archive that torch.save writes ({error}): damaged or cut short.") from None
    if packed:
        raise FileError(f"{path} has compressed entries ({packed[0][:60]!r}), which torch.save never writes.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # arbitrary bytes can raise anything
        raise FileError(f"torch.load(weights_only=True) refuses {path}: {str(error).strip()[:160]}") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise FileError(f"{path} holds a {type(state).__name__}, expected tensors by name.")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise FileError(f"The {name[:60]!r} of {path} is a {type(tensor).__name__}, expected a plain tensor.")
        if tensor.numel() * tensor.element_size() > size:
            raise FileError(f"The {name[:60]!r} of {path} claims {tensor.numel():,} numbers, more than the file holds.")
    return {name: tensor.detach() for name, tensor in state.items()}
