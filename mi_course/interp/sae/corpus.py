"""Text as rows of token ids on disk: tokenized once, mapped into memory, and read by any number of runs.

    write_rows(tokenizer, {"books": TextGroup(("books/*.txt",))}, "corpus", pos=128)
    train, held_out = TokenRows("corpus", "train"), TokenRows("corpus", "held_out")

A folder holds `train.npy` and `held_out.npy` [rows, pos], and `manifest.json`, which counts documents, tokens and rows
of each group and names its licence. The manifest is written last: a folder without it is incomplete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.prompts import TokenBatch

if TYPE_CHECKING:
    from jaxtyping import Int

MANIFEST, FORMAT = "manifest.json", 1
AT_ONCE = 200  # documents that the tokenizer gets together


@dataclass(frozen=True)
class TextGroup:
    """Some text files. Patterns are relative to a folder that `write_rows` is given, or absolute."""

    files: tuple[str, ...]
    held_out: float = 0.0
    """Share of the documents kept from training, chosen by a hash of their text."""
    held_out_files: tuple[str, ...] = ()
    """Files kept from training, all of them."""
    separator: str | None = None
    """A line that ends each document. None: a file is a document."""
    licence: str = ""


def write_rows(
    tokenizer: Any,
    groups: Mapping[str, TextGroup],
    folder: str | Path,
    pos: int,
    *,
    base: str | Path = ".",
    between: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Tokenize text into rows of `pos` tokens, the first of which is BOS. Returns the folder.

    The documents of a group follow each other with the token `between` after each (by default BOS), so no row is padded
    and the last tokens of a group that fill no row are dropped. ValueError for files that do not exist, and for a
    tokenizer without BOS.
    """
    folder, base = Path(folder), Path(base)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise ValueError("The tokenizer has neither a BOS nor an EOS token, which rows would begin with.")
    if between is not None and between not in tokenizer.get_vocab():
        raise ValueError(f"between is {between!r}, which is not a token of this tokenizer.")
    separator = first if between is None else tokenizer.convert_tokens_to_ids(between)
    if pos < 2:
        raise ValueError(f"pos is {pos}, expected at least 2: BOS and a token.")
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    counts: dict[str, dict[str, Any]] = {}
    made: dict[str, list[np.ndarray]] = {"train": [], "held_out": []}
    for name, group in groups.items():
        counts[name] = {"licence": group.licence}
        for part in made:
            rows, seen = _rows(tokenizer, _documents(group, base, part), pos, first, separator, dtype)
            counts[name][part] = {**seen, "rows": len(rows)}
            made[part].append(rows)
        seen = counts[name]["train"]
        say(f"{name}: {seen['documents']:,} documents, {seen['tokens']:,} tokens to train on")
    for part, blocks in made.items():
        atomic_write(folder / f"{part}.npy", partial(_save, rows=np.concatenate(blocks)))
    largest = max((int(block.max()) for block in made["train"] + made["held_out"] if block.size), default=0)
    about = {"format": FORMAT, "pos": pos, "first": first, "between": separator, "largest": largest, "groups": counts}
    atomic_write(folder / MANIFEST, json.dumps(about, indent=1))
    return folder


class TokenRows:
    """Rows of token ids in a folder that `write_rows` made, read from disk when they are asked for.

    which: "train" or "held_out". group: only this group's rows. ValueError for a folder without them.
    """

    def __init__(self, folder: str | Path, which: str = "train", group: str | None = None) -> None:
        self.folder = Path(folder)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            self.tokens: np.ndarray = np.load(self.folder / f"{which}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder} holds no tokens, or writing them was cut short: {error}.") from None
        self.largest: int = self.about["largest"]
        if group is not None:
            start = 0
            for name, counts in self.about["groups"].items():
                if name == group:
                    self.tokens = self.tokens[start : start + counts[which]["rows"]]
                    break
                start += counts[which]["rows"]
            else:
                raise ValueError(f"{self.folder} has no group {group!r}; it has {', '.join(self.about['groups'])}.")

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, index: slice | list[int] | Tensor) -> TokenBatch:
        """Some rows, without padding."""
        where = index.numpy() if isinstance(index, Tensor) else index
        tokens: Int[Tensor, "n pos"] = torch.from_numpy(self.tokens[where].astype(np.int64))
        return TokenBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def _documents(group: TextGroup, base: Path, part: str) -> Iterator[str]:
    kept_out = set(_files(group.held_out_files, base))
    if part == "held_out":
        for path in sorted(kept_out):
            yield from _split(path, group.separator)
        if not group.held_out:
            return
    for path in _files(group.files, base):
        if path in kept_out:
            continue
        for document in _split(path, group.separator):
            drawn = int.from_bytes(hashlib.sha256(document.encode()).digest()[:7], "little") / 2**56
            if (drawn < group.held_out) == (part == "held_out"):
                yield document


def _files(patterns: tuple[str, ...], base: Path) -> list[Path]:
    found = []
    for pattern in patterns:
        root = Path(pattern).anchor
        paths = sorted(Path(root).glob(pattern[len(root) :]) if root else base.glob(pattern))
        if not (paths := [path for path in paths if path.is_file()]):
            raise ValueError(f"There is no file {pattern!r} in {Path(root or base).resolve()}.")
        found += paths
    return found


def _split(path: Path, separator: str | None) -> Iterator[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for document in [text] if separator is None else f"\n{text}\n".split(f"\n{separator}\n"):
        if document.strip():
            yield document.strip("\n")


def _rows(
    tokenizer: Any, documents: Iterator[str], pos: int, first: int, separator: int, dtype: Any
) -> tuple[np.ndarray, dict[str, int]]:
    parts, left, count, characters, tokens = [], np.empty(0, dtype), 0, 0, 0
    while some := list(islice(documents, AT_ONCE)):
        count, characters = count + len(some), characters + sum(map(len, some))
        ids = tokenizer(some, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        flat = np.concatenate([left, *(np.array([*row, separator], dtype) for row in ids)])
        tokens += sum(map(len, ids))
        full = len(flat) // (pos - 1)
        body = flat[: full * (pos - 1)].reshape(full, pos - 1)
        parts.append(np.concatenate([np.full((full, 1), first, dtype), body], axis=1))
        left = flat[full * (pos - 1) :]
    rows = np.concatenate(parts) if parts else np.empty((0, pos), dtype)
    return rows, {"documents": count, "characters": characters, "tokens": tokens}


def _save(path: Path, rows: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, rows, allow_pickle=False)
