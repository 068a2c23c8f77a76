"""The texts of a feature index: token ids, the strings of the vocabulary, and search.

Token ids alone are stored, with the string of every token of the vocabulary beside them, so that contexts can be read
without the model. A token that is part of a UTF-8 character is written with its bytes, as `\\xe2\\x82`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.sae.file_checks import FileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
MAX_MATCHES = 20_000  # of a search, counted in tokens of the text
SEPARATOR = "\0"  # ends a text in the string that is searched, so that nothing matches across two texts


@dataclass(frozen=True, eq=False)
class TextSet:
    """Texts as tokens. Positions count through all of them: text i has the tokens starts[i] … starts[i + 1]."""

    tokens: NDArray[Any]
    """[token] ids, all texts one after another."""
    starts: NDArray[np.int64]
    """[text + 1] where each text begins, and the number of tokens."""
    vocabulary: list[str]
    """The string of each token id."""
    sources: tuple[str, ...] = ()
    """Where each text is from, or nothing."""
    attribution: str = ""
    """Who wrote the texts, and their licence."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], vocabulary: list[str], sources: Sequence[str], about: str) -> TextSet:
        """A set of these rows of ids. ValueError if `sources` is given, and not one for each."""
        if sources and len(sources) != len(rows):
            raise ValueError(f"sources has {len(sources)} entries for {len(rows)} texts; expected one for each.")
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        small = np.uint16 if len(vocabulary) <= 1 << 16 else np.int32
        tokens = np.concatenate([np.asarray(row, dtype=small) for row in rows])
        return cls(tokens, starts, vocabulary, tuple(map(str, sources)), about)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def words(self, first: int, end: int) -> list[str]:
        """The strings of the tokens first … end."""
        return [self.vocabulary[i] for i in self.tokens[first:end]]

    def text_of(self, position: NDArray[Any] | int) -> Any:
        """The number of the text in which a position lies."""
        return np.searchsorted(self.starts, position, side="right") - 1

    def find(self, query: str) -> NDArray[np.bool_]:
        """[token] where the query occurs, without regard to case. All tokens that it touches are marked.

        After `MAX_MATCHES` occurrences it stops.
        """
        text, ends = self._searchable
        hit = np.zeros(len(self.tokens), dtype=bool)
        found = []
        for match in re.finditer(re.escape(query.lower()), text):
            found.append((match.start(), match.end() - 1))
            if len(found) == MAX_MATCHES:
                break
        if found:
            first, last = np.searchsorted(ends, np.array(found), side="right").T
            for offset in range(int((last - first).max()) + 1):
                hit[np.minimum(first + offset, last)] = True
        return hit

    @cached_property
    def _searchable(self) -> tuple[str, NDArray[np.int64]]:
        """All texts in lower case, and where each token ends in them."""
        words = [self._lower[i] for i in self.tokens]
        for end in self.starts[1:]:
            words[end - 1] += SEPARATOR
        return "".join(words), np.cumsum([len(word) for word in words], dtype=np.int64)

    @cached_property
    def _lower(self) -> list[str]:
        return [word.lower().replace(SEPARATOR, "") for word in self.vocabulary]

    def vocabulary_with(self, query: str) -> NDArray[np.int64]:
        """Ids of the tokens whose string contains the query, without regard to case."""
        query = query.lower()
        return np.array([i for i, word in enumerate(self._lower) if query in word], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Which texts these are: the start of a SHA-256 of tokens and bounds."""
        digest = hashlib.sha256(self.tokens.astype("<i4").tobytes())
        digest.update(self.starts.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        words = [word.encode("utf-8", "surrogatepass") for word in self.vocabulary]
        arrays = {
            "tokens": self.tokens,
            "starts": self.starts,
            "vocabulary": np.frombuffer(b"".join(words), dtype=np.uint8),
            "vocabulary_ends": np.cumsum(list(map(len, words)), dtype=np.int32),
        }
        about = {"format": FORMAT, "sources": self.sources, "attribution": self.attribution}
        atomic_write(path, lambda part: save_file(arrays, part, {"mi_course": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> TextSet:
        """The set in this file. FileError for one that is missing, damaged, or something else."""
        about, arrays = read_arrays(path)
        need(path, arrays, {"tokens": 1, "starts": 1, "vocabulary": 1, "vocabulary_ends": 1})
        tokens, starts, ends = arrays["tokens"], arrays["starts"], arrays["vocabulary_ends"]
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(tokens) or (np.diff(starts) < 1).any():
            raise FileError(f"The starts of {path} are not the bounds of its {len(tokens):,} tokens.")
        if (np.diff(ends, prepend=0) < 0).any() or not len(ends) or ends[-1] != len(arrays["vocabulary"]):
            raise FileError(f"The vocabulary of {path} does not end where its last token does.")
        if int(tokens.max()) >= len(ends) or int(tokens.min()) < 0:
            raise FileError(f"{path} has token {int(tokens.max())}, but strings of {len(ends):,} tokens only.")
        raw = arrays["vocabulary"].tobytes()
        bounds = [0, *ends.tolist()]
        words = [raw[a:b].decode("utf-8", "backslashreplace") for a, b in itertools.pairwise(bounds)]
        sources = about.get("sources") or []
        if not isinstance(sources, list) or len(sources) not in (0, len(starts) - 1):
            raise FileError(f"The sources of {path} are not one for each of its {len(starts) - 1:,} texts.")
        return cls(tokens, starts.astype(np.int64), words, tuple(map(str, sources)), str(about.get("attribution", "")))


def token_strings(tokenizer: Any, count: int) -> list[str]:
    """The string of each token id below `count`; without a tokenizer, the id.

    Read from the vocabulary, since decoding one token alone loses spaces and parts of characters.
    """
    if tokenizer is None:
        return [str(i) for i in range(count)]
    known = len(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(count, known))))
    special = set(getattr(tokenizer, "all_special_tokens", ()))
    bytes_of = _byte_alphabet()
    as_bytes = any(piece and piece.startswith("Ġ") for piece in pieces)
    out = []
    for i, piece in enumerate(pieces):
        if piece is None:
            out.append(f"<{i}>")
        elif piece in special:
            out.append(piece)
        elif as_bytes and all(char in bytes_of for char in piece):
            out.append(bytes(bytes_of[char] for char in piece).decode("utf-8", "backslashreplace"))
        elif byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):  # SentencePiece's bytes
            out.append(bytes.fromhex(byte[1]).decode("utf-8", "backslashreplace"))
        else:
            out.append(piece.replace("▁", " "))
    return out + [f"<{i}>" for i in range(known, count)]


def _byte_alphabet() -> dict[str, int]:
    """The printable characters by which byte-level BPE writes the 256 bytes (Radford et al. 2019, GPT-2's code)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


# ---------------------------------------------------------------------------------------------------------------------
# Files


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a safetensors file of ours says about itself, and its arrays. FileError for anything else."""
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {}).get("mi_course", "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileError(f"{path} is missing.") from None
    except (SafetensorError, OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise FileError(
            f"{path} cannot be read ({str(error)[:120]}): damaged, or another format. Build it again."
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        seen = about.get("format") if isinstance(about, dict) else None
        raise FileError(f"{path} has format {str(seen)[:40]!r}, expected {FORMAT}: a feature index of this course.")
    return about, arrays


def need(path: Path, arrays: dict[str, NDArray[Any]], axes: dict[str, int]) -> None:
    """FileError unless the file holds just these arrays, with as many axes as named here."""
    if set(arrays) != set(axes):
        seen = ", ".join(sorted(arrays))[:300] or "nothing"
        raise FileError(f"{path} holds {seen}; expected {', '.join(sorted(axes))}.")
    for name, count in axes.items():
        array = arrays[name]
        if array.ndim != count or 0 in array.shape[:1] * (name in ("tokens", "starts", "count")):
            raise FileError(f"The {name} of {path} has shape {array.shape}; expected {count} axes, and not empty.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileError(f"The {name} of {path} holds NaN or infinity, expected finite numbers.")
