"""Checkpoints of a training run: safetensors and JSON, written atomically.

A checkpoint is a folder named by its step. It is written under another name, flushed to disk and renamed, so that a
process killed at any moment leaves the last complete one behind. Older ones are removed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mi_course.errors import CourseError
from mi_course.interp.atomic_write import atomic_write

KEPT = 2
TENSORS, VALUES = "tensors.safetensors", "values.json"


class CheckpointError(CourseError, ValueError):
    """A checkpoint that cannot be read, or that belongs to another run. Says which file, and what to do."""


def save(folder: Path, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write the checkpoint of a step, and remove all but the newest two.

    values: plain values, which may hold tensors at any depth.
    """
    tensors = dict(tensors)
    values = _extract_tensors(values, tensors, "values")
    data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    values = {"sha256": hashlib.sha256(data).hexdigest(), **values}

    def write(part: Path) -> None:
        part.mkdir(parents=True)
        for name, content in ((TENSORS, data), (VALUES, json.dumps(values, indent=1).encode())):
            with open(part / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    atomic_write(folder / f"{step:09d}", write)
    _sync(folder)
    for old in _complete(folder)[:-KEPT]:
        old.replace(folder / f"{old.name}.part")  # so that a half-removed one is never read
    for leftover in folder.glob("*.part"):
        shutil.rmtree(leftover, ignore_errors=True)


def load_latest(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Step, tensors and values of the newest checkpoint, or None if there is none. CheckpointError if it is damaged."""
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
    tensors = load_tensors(data)
    values = _restore_tensors(values, tensors)
    return int(path.name), {name: t for name, t in tensors.items() if not name.startswith("values.")}, values


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir())


def _extract_tensors(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """The value with every tensor in it moved to `tensors`, and replaced by its name there."""
    if isinstance(value, Tensor):
        tensors[path] = value.clone()
        return {"tensor": path}
    if isinstance(value, dict):
        return {str(key): _extract_tensors(item, tensors, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_extract_tensors(item, tensors, f"{path}.{index}") for index, item in enumerate(value)]
    return value


def _restore_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"tensor"} and value["tensor"] in tensors:
            return tensors[value["tensor"]]
        return {key: _restore_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore_tensors(item, tensors) for item in value]
    return value


def _sync(folder: Path) -> None:
    """Flush the folder's entries to disk, where the system allows it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
