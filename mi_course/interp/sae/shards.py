"""Activations on disk: written once, read by many training runs, one shard in memory at a time.

A folder holds `activations.json` and shards of safetensors with the tensor `x` [rows, d], and `target` [rows, d_out]
for a transcoder. The JSON file lists each shard's size and CRC-32. It is written last: a folder without it is
incomplete.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.sae.activations import Chunked

if TYPE_CHECKING:
    from mi_course.interp.sae.batches import Batches

LIST = "activations.json"
FORMAT = 1


def write_shards(
    source: Batches,
    folder: str | Path,
    rows: int,
    *,
    rows_per_shard: int = 65_536,
    dtype: torch.dtype = torch.float32,
    about: dict[str, Any] | None = None,
) -> Path:
    """Write this many rows of a source. Returns the folder, which `ShardBatches` reads.

    dtype: bfloat16 or float16 halve the files; `ShardBatches` returns float32. about: plain values to keep in the list.
    ValueError for a folder that holds activations already.
    """
    folder = Path(folder)
    if (folder / LIST).exists():
        raise ValueError(f"{folder} holds activations already. Give another folder, or delete this one.")
    if rows < 1 or rows_per_shard < 1:
        raise ValueError(f"rows is {rows} and rows_per_shard {rows_per_shard}, expected at least 1 each.")
    folder.mkdir(parents=True, exist_ok=True)
    shards, written, held = [], 0, []
    while written < rows:
        batch = source.next_batch()
        held.append([column.detach().cpu() for column in (batch if isinstance(batch, tuple) else (batch,))])
        count = sum(len(part[0]) for part in held)
        if count < rows_per_shard and written + count < rows:
            continue
        columns = [torch.cat(column) for column in zip(*held, strict=True)]
        take = min(rows_per_shard, rows - written)
        name = f"activations-{len(shards):05d}.safetensors"
        tensors = {
            key: column[:take].to(dtype).contiguous() for key, column in zip(("x", "target"), columns, strict=False)
        }
        atomic_write(folder / name, lambda part, tensors=tensors: save_file(tensors, part))
        shards.append(
            {"file": name, "rows": take, "bytes": (folder / name).stat().st_size, "crc32": _crc(folder / name)}
        )
        written += take
        held = [[column[take:].clone() for column in columns]] if len(columns[0]) > take else []
    widths = {"d": tensors["x"].shape[1], "d_target": tensors["target"].shape[1] if "target" in tensors else None}
    listed = {"format": FORMAT, "rows": rows, **widths, "about": about or {}, "shards": shards}
    atomic_write(folder / LIST, lambda part: part.write_text(json.dumps(listed, indent=1)))
    return folder


class ShardBatches(Chunked):
    """Activations from a folder that `write_shards` made, on each pass with shards and rows in a new order.

    ValueError, naming the file, for a folder without a list, or a shard that is missing or was changed.
    """

    def __init__(self, folder: str | Path, *, batch: int = 4096, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.list = _read_list(self.folder)
        super().__init__(len(self.list["shards"]), batch, seed)

    @property
    def rows(self) -> int:
        """How many activations are on disk."""
        return self.list["rows"]

    def _load(self, chunk: int) -> list[Tensor]:
        shard = self.list["shards"][chunk]
        path = self.folder / shard["file"]
        if _crc(path) != shard["crc32"]:
            raise ValueError(f"{path} is not what was written: its CRC-32 differs. Write the activations again.")
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}. Write the activations again.") from None
        wanted = {"x": self.list["d"]} | ({"target": self.list["d_target"]} if self.list["d_target"] else {})
        for name, width in wanted.items():
            seen = tuple(tensors[name].shape) if name in tensors else "none"
            if seen != (shard["rows"], width):
                raise ValueError(f"{path} holds {name} of shape {seen}, expected {(shard['rows'], width)}.")
        return [tensors[name].float() for name in wanted]


def _read_list(folder: Path) -> dict[str, Any]:
    path = folder / LIST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {LIST}: it holds no activations, or writing them was cut short.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). Write the activations again.") from None
    if not isinstance(listed, dict) or listed.get("format") != FORMAT:
        seen = listed.get("format") if isinstance(listed, dict) else type(listed).__name__
        raise ValueError(f"{path} has format {seen!r}, expected {FORMAT}.")
    for shard in listed["shards"]:
        if Path(shard["file"]).name != shard["file"]:
            raise ValueError(f"{path} names {shard['file']!r}, expected a file beside it.")
        file = folder / shard["file"]
        seen = file.stat().st_size if file.is_file() else "no"
        if seen != shard["bytes"]:
            raise ValueError(f"{file} has {seen} bytes, expected {shard['bytes']}. Write the activations again.")
    if not listed["shards"]:
        raise ValueError(f"{path} lists no shards.")
    return listed


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return value
