"""Any other model: a local folder in Hugging Face format, or a name on the hub.

A model in the hub's cache is loaded without a request. Without network any other fails in well under a second: we check
once whether the hub answers, before transformers would start to retry. Weights are read from safetensors only.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mi_course.interp.models.errors import ModelError
from mi_course.interp.models.native import native_names

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

PROBE_SECONDS = 0.7
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load(name: str, *, compatibility: bool, device: Any, dtype: Any) -> TransformerBridge:
    """A bridge on this folder or hub model, in eval mode. Raises ModelError if it cannot be found, read or bridged."""
    folder = locate(name)  # before torch is imported, so that a missing model is reported at once
    import torch

    from mi_course.interp.models.bridge import build, one_thread, pick_device

    with one_thread():
        model, tokenizer = load_hf(folder, name, dtype or torch.float32)
        try:
            return build(model, tokenizer, name=name, compatibility=compatibility, device=pick_device(device))
        except (ValueError, NotImplementedError, AttributeError, KeyError) as error:
            advice = " Try compatibility=False." if compatibility else ""
            raise ModelError(
                f"{name} was read, but TransformerLens could not bridge a {type(model).__name__}: {error}.{advice}"
            ) from error


def load_hf(folder: Path, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The Hugging Face model (eager attention, on the CPU) and its tokenizer, or None where the folder has none."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", use_safetensors=True, local_files_only=True
        )
        tokenizer = None
        if any((folder / file).exists() for file in _TOKENIZER_FILES):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{name} could not be read from {folder}: {reason} Are all its files complete?") from error
    return model, tokenizer


def locate(name: str) -> Path:
    """The folder of this model: the named one, or one in the hub's cache, after a download if necessary.

    Raises ModelError at once if there is none and the hub does not answer within a second.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ModelError(
            f"There is no folder {folder}, and {name!r} is not a name on the hub (like 'gpt2' or 'owner/model')."
            f"{_suggestion(name)} `mi-course models list` shows what is here."
        )
    return cached(name) or _download(name)


def cached(name: str) -> Path | None:
    """The snapshot in the hub's cache if it has a configuration and all weights, else None. Makes no request."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if missing_weights(folder) is None else None


def missing_weights(folder: Path) -> str | None:
    """The first file of weights that is missing, or None."""
    if (folder / _WEIGHTS[0]).exists():
        return None
    index = folder / _WEIGHTS[1]
    if not index.exists():
        return _WEIGHTS[0]
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return next((shard for shard in shards if not (folder / shard).exists()), None)


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} has no config.json, so it is not a model in Hugging Face format. "
            "Write one with model.save_pretrained(folder) and tokenizer.save_pretrained(folder)."
        )
    missing = missing_weights(folder)
    if missing:
        raise ModelError(
            f"{folder} has no {missing}. Only weights in safetensors are read: save the model again with "
            "model.save_pretrained(folder), or fetch the missing files."
        )
    return folder


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if offline or not _answers(constants.ENDPOINT):
        reason = "HF_HUB_OFFLINE is set" if offline else "the Hugging Face hub does not answer"
        raise ModelError(
            f"{name!r} is not on this machine, and {reason}.{_suggestion(name)} load_model('smollm2') needs no hub, "
            f"and every lesson runs on it. To use {name!r} here, run `mi-course models fetch {name}` once when there "
            "is a network, or give the path of a folder that holds it."
        )
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "spiece.model"],
            ignore_patterns=["*/*"],
        )
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{name!r} could not be fetched from the hub: {reason}{_suggestion(name)}") from error
    return _checked(Path(folder))


def _answers(endpoint: str) -> bool:
    """Whether the hub, or the proxy to it, accepts a connection within PROBE_SECONDS."""
    target = urlsplit(endpoint)
    proxy = _proxy_for(target.scheme, target.hostname or "")
    if proxy:
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = target.port or (443 if target.scheme == "https" else 80)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((target.hostname, port), timeout=PROBE_SECONDS).close()
            answered.set()
        except (OSError, UnicodeError):
            pass

    # In a thread, since the name lookup has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def _proxy_for(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass  # here: a third of the time to import this package

    proxies = getproxies()
    return None if proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")


def _suggestion(name: str) -> str:
    known = {n.lower(): n for n in ("smollm2", *native_names())}
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    return f" Did you mean {known[close[0]]!r}?" if close else ""
