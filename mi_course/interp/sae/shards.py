"""Activations on disk: written once, read by many training runs, a part of a shard in memory at a time.

A folder holds `activations.json` and shards of safetensors with the tensor `x` [rows, d], and `target` [rows, d_out]
for a transcoder; or, from a source with several places, a tensor for each of them. The JSON file lists each shard's
size and CRC-32. It is written last: a folder without it is incomplete, and is completed by writing to it again.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.sae import checkpoints
from mi_course.interp.sae.activations import Chunked

if TYPE_CHECKING:
    from mi_course.interp.sae.batches import Batches

LIST = "activations.json"
FORMAT = 2
UNFINISHED = "unfinished"


def write_shards(
    source: Batches | Chunked,
    folder: str | Path,
    rows: int,
    *,
    rows_per_shard: int = 65_536,
    dtype: torch.dtype = torch.float32,
    about: dict[str, Any] | None = None,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Path:
    """Write this many rows of a source. Returns the folder, which `ShardBatches` reads.

    dtype: bfloat16 or float16 halve the files; `ShardBatches` returns float32. about: plain values to keep in the list.
    on_progress: called with the rows written so far. If it was cut short, the same call goes on after the last whole
    shard. ValueError for a folder that holds activations already, or an unfinished part of others.
    """
    folder = Path(folder)
    if (folder / LIST).exists():
        raise ValueError(f"{folder} holds activations already. Give another folder, or delete this one.")
    if rows < 1 or rows_per_shard < 1:
        raise ValueError(f"rows is {rows} and rows_per_shard {rows_per_shard}, expected at least 1 each.")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"rows": rows, "rows_per_shard": rows_per_shard, "dtype": str(dtype), "about": about or {}}
    shards: list[dict[str, Any]] = []
    columns: dict[str, Tensor] = {}
    if saved := checkpoints.load_latest(folder / UNFINISHED):
        if saved[2]["wanted"] != json.loads(json.dumps(wanted)):
            raise ValueError(f"{folder} holds a part of other activations, {saved[2]['wanted']}. Give another folder.")
        columns, shards = saved[1], saved[2]["shards"]
        source.load_state_dict(saved[2]["source"])
    written = sum(shard["rows"] for shard in shards)
    while written < rows:
        held = [columns] if columns else []
        while sum(len(next(iter(part.values()))) for part in held) < min(rows_per_shard, rows - written):
            held.append(_columns(source.next_batch()))
        columns = {name: torch.cat([part[name] for part in held]) for name in held[0]}
        take = min(rows_per_shard, rows - written)
        name = f"activations-{len(shards):05d}.safetensors"
        tensors = {key: column[:take].to(dtype).contiguous() for key, column in columns.items()}
        atomic_write(folder / name, lambda part, tensors=tensors: save_file(tensors, part))
        size = (folder / name).stat().st_size
        shards.append({"file": name, "rows": take, "bytes": size, "crc32": _crc(folder / name)})
        written += take
        columns = {key: column[take:].clone() for key, column in columns.items()}
        state = {"wanted": wanted, "shards": shards, "source": source.state_dict()}
        checkpoints.save(folder / UNFINISHED, len(shards), columns, state)
        on_progress(written)
    widths = {name: column.shape[1] for name, column in columns.items()}
    listed = {"format": FORMAT, "rows": rows, "columns": widths, "about": about or {}, "shards": shards}
    atomic_write(folder / LIST, json.dumps(listed, indent=1))
    shutil.rmtree(folder / UNFINISHED)
    return folder


def _columns(batch: Any) -> dict[str, Tensor]:
    """A batch by name: x, or x and target, or the places of several."""
    if isinstance(batch, dict):
        return {name: column.detach().cpu() for name, column in batch.items()}
    columns = batch if isinstance(batch, tuple) else (batch,)
    return {name: column.detach().cpu() for name, column in zip(("x", "target"), columns, strict=False)}


class ShardBatches(Chunked):
    """Activations from a folder that `write_shards` made, on each pass in a new order.

    At most `buffer` rows are in memory at a time, however large a shard is, and are served in random order.
    device, dtype: of the batches. ValueError, naming the file, for a folder without a list, or a shard that is missing
    or was changed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        batch: int = 4096,
        seed: int = 0,
        buffer: int = 262_144,
        device: Any = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}, expected at least 1.")
        self.folder, self.device, self.dtype = Path(folder), device, dtype
        self.list = _read_list(self.folder)
        self._parts = [
            (shard, slice(start, min(start + buffer, shard["rows"])))
            for shard in self.list["shards"]
            for start in range(0, shard["rows"], buffer)
        ]
        super().__init__(len(self._parts), batch, seed)
        columns = list(self.list["columns"])
        self.names = None if columns in (["x"], ["x", "target"]) else columns
        self._checked: set[str] = set()

    @property
    def rows(self) -> int:
        """How many activations are on disk."""
        return self.list["rows"]

    def _load(self, chunk: int) -> list[Tensor]:
        shard, part = self._parts[chunk]
        path = self.folder / shard["file"]
        if shard["file"] not in self._checked and _crc(path) != shard["crc32"]:
            raise ValueError(f"{path} is not what was written: its CRC-32 differs. Write the activations again.")
        self._checked.add(shard["file"])
        rows = []
        try:
            with safe_open(path, framework="pt") as file:
                for name in self.names or self.list["columns"]:
                    column, width = file.get_slice(name), self.list["columns"][name]
                    if (seen := tuple(column.get_shape())) != (shard["rows"], width):
                        raise ValueError(f"{path} holds {name} of shape {seen}, expected {(shard['rows'], width)}.")
                    rows.append(column[part].to(self.device, self.dtype))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}. Write the activations again.") from None
        return rows


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
