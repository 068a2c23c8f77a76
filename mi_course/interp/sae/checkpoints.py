"""Checkpoints of a training run: safetensors and JSON, complete or absent, never in between.

A checkpoint is a folder named by its step. It is written under another name, flushed to disk and renamed, so that a
process killed at any moment leaves the last complete one behind. Old ones go once a newer is in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from mi_course.errors import CourseError

KEPT = 2
TENSORS, VALUES = "tensors.safetensors", "values.json"


class CheckpointError(CourseError, ValueError):
    """A checkpoint that cannot be read, or that belongs to another run. Says which file, and what to do."""


def save(folder: Path, step: int, tensors: dict[str, Any], values: dict[str, Any]) -> None:
    """Write the checkpoint of a step; `values` are plain values, and may hold tensors at any depth."""
    from safetensors.torch import save as to_bytes

    tensors = dict(tensors)
    values = _set_aside(values, tensors, "values")
    data = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    values = {"sha256": hashlib.sha256(data).hexdigest(), **values}
    target, temporary = folder / f"{step:09d}", folder / f".writing-{step:09d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in ((TENSORS, data), (VALUES, json.dumps(values, indent=1).encode())):
        with open(temporary / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    if target.exists():  # a run begun anew over an old one
        shutil.rmtree(target)
    os.replace(temporary, target)
    _sync(folder)
    for old in _complete(folder)[:-KEPT]:
        os.replace(old, folder / f".removing-{old.name}")  # so that half of one is never taken for whole
    for left in folder.glob(".*ing-*"):
        shutil.rmtree(left, ignore_errors=True)


def load_latest(folder: Path) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Step, tensors and values of the newest checkpoint; None where there is none."""
    from safetensors.torch import load as from_bytes

    complete = _complete(folder)
    if not complete:
        return None
    path = complete[-1]
    advice = f"Delete {path} to go on from an older one or from the start."
    try:
        values = json.loads((path / VALUES).read_text())
        data = (path / TENSORS).read_bytes()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {advice}") from None
    if not isinstance(values, dict) or hashlib.sha256(data).hexdigest() != values.pop("sha256", None):
        raise CheckpointError(f"{path / TENSORS} is not what was written: its SHA-256 differs. {advice}")
    tensors = from_bytes(data)
    values = _put_back(values, tensors)
    return int(path.name), {name: t for name, t in tensors.items() if not name.startswith("values.")}, values


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir())


def _set_aside(value: Any, tensors: dict[str, Any], path: str) -> Any:
    """The value with every tensor in it moved to `tensors`, its name left in its place."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value.clone()
        return {"tensor": path}
    if isinstance(value, dict):
        return {str(key): _set_aside(item, tensors, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_set_aside(item, tensors, f"{path}.{index}") for index, item in enumerate(value)]
    return value


def _put_back(value: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"tensor"} and value["tensor"] in tensors:
            return tensors[value["tensor"]]
        return {key: _put_back(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, tensors) for item in value]
    return value


def _sync(folder: Path) -> None:
    """Flush the folder's own entries, where the system lets one."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
