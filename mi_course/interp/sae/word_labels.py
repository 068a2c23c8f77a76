"""A label of a latent as a list of words: the simplest rule that people and programs read alike.

    matches(["The ships sailed"], ["ship*", "boat"])             tensor([True])
    fit_words(texts, fired)                                      a label that is fitted, word by word
    mystery(), mystery_contexts("train")                         the latent that lesson 07 has named, and its passages

An entry is one word, or the beginning of one followed by `*`. Case does not matter; a word is a run of letters and
digits. Unlike a regular expression such a list cannot run for ever, so that anybody's label can be scored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import torch

from mi_course.errors import UnknownName
from mi_course.interp.sae.concepts import SPLITS, recorded

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

ENTRY = re.compile(r"[^\W_]{1,40}|[^\W_]{2,40}\*")
MAX_ENTRIES = 40
STEM = 4  # letters at least of the stems that are fitted


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in order.

    >>> words_of("Don't stop: 3 Ships!")
    ['don', 't', 'stop', '3', 'ships']
    """
    return re.findall(r"[^\W_]+", text.lower())


def matches(texts: Iterable[str], label: Sequence[str]) -> Bool[Tensor, " text"]:
    """Whether each text contains a word of the label.

    >>> matches(["The Ships sailed", "a worship"], ["ship*", "boat"]).tolist()
    [True, False]
    """
    whole = {entry.lower() for entry in label if not entry.endswith("*")}
    stems = tuple(entry[:-1].lower() for entry in label if entry.endswith("*"))
    return torch.tensor(
        [any(word in whole or word.startswith(stems) for word in words_of(text)) for text in texts], dtype=torch.bool
    )


def problem_with(entry: object) -> str | None:
    """What is wrong with an entry of a label, in words; None for a good one.

    >>> problem_with("run*"), problem_with("run|walk")
    (None, 'is not one word')
    """
    if not isinstance(entry, str):
        return f"is a {type(entry).__name__}, expected a text"
    if ENTRY.fullmatch(entry):
        return None
    if not entry.strip("* "):
        return "has no letters"
    if len(entry) > 41:
        return "is longer than any word"
    return "is too short for a stem" if re.fullmatch(r"[^\W_]\*", entry) else "is not one word"


def fit_words(
    texts: Sequence[str], fired: Bool[Tensor, " text"], n: int = 12, gain: float = 0.01, at_least: int = 3
) -> list[str]:
    """A label that is fitted: again and again the word or stem that raises the detection score most on these texts.

    It stops at n entries, or when nothing that occurs in `at_least` active texts adds `gain`: whoever goes on fits
    noise. Even so, a label that was fitted must be scored on other texts.
    """
    bags = [_terms(text) for text in texts]
    where: dict[str, list[int]] = {}
    for i, bag in enumerate(bags):
        for term in bag:
            where.setdefault(term, []).append(i)
    active = {*fired.nonzero()[:, 0].tolist()}
    names = sorted(term for term, found in where.items() if len(active.intersection(found)) >= at_least)
    has = torch.zeros(len(names), len(bags), dtype=torch.bool)
    for row, name in zip(has, names, strict=True):
        row[where[name]] = True
    label: list[str] = []
    predicted, score = torch.zeros(len(bags), dtype=torch.bool), 0.5
    while names and len(label) < n:
        either = predicted | has
        scores = (either[:, fired].double().mean(1) + 1 - either[:, ~fired].double().mean(1)) / 2
        best = int(scores.argmax())
        if not float(scores[best]) > score + gain:
            break
        predicted, score = either[best], float(scores[best])
        label.append(names[best])
    return label


@lru_cache(maxsize=16_384)
def _terms(text: str) -> frozenset[str]:
    """Every word of a text, and every beginning of one."""
    words = {*words_of(text)}
    return frozenset(words | {f"{word[:length]}*" for word in words for length in range(STEM, len(word))})


# ---------------------------------------------------------------------------------------------------------------------
# The latent that is to be named


@dataclass(frozen=True, eq=False)
class MysteryContexts:
    """Passages of one split in which the latent is active or not, as many of both from every document."""

    texts: tuple[str, ...]
    tokens: Int[Tensor, "context pos"]
    """Ids, BOS first."""
    kinds: tuple[str, ...]
    peaks: Float[Tensor, " context"]
    """The latent's largest activation over the passage; 0 where it is not active."""

    @property
    def fired(self) -> Bool[Tensor, " context"]:
        return self.peaks > 0

    def __len__(self) -> int:
        return len(self.texts)


def mystery() -> int:
    """The number of the latent of `middle-4608` that lesson 07 has named; data/record_feature_judging.py chose it."""
    return int(recorded()[0]["mystery"])


@cache
def mystery_contexts(split: str = "train") -> MysteryContexts:
    """Its recorded passages of the "train" or "held out" split. UnknownName for another.

    None of their texts is in the feature index, and no document is in both splits.
    """
    if split not in SPLITS:
        raise UnknownName(f"{str(split)[:60]!r} is no split; there are {', '.join(SPLITS)}.")
    about, arrays = recorded()
    here = (arrays["mystery_split"] == SPLITS.index(split)).nonzero()[:, 0]
    return MysteryContexts(
        texts=tuple(about["mystery_texts"][i] for i in here.tolist()),
        tokens=arrays["mystery_tokens"][here].long(),
        kinds=tuple(about["kinds"][arrays["mystery_kind"][i]] for i in here.tolist()),
        peaks=arrays["mystery_peaks"][here].float(),
    )


def other_labels() -> list[list[str]]:
    """Labels of other latents, each fitted (`fit_words`) on passages in which that latent is active or not."""
    return list(recorded()[0]["other_labels"])


def random_labels(texts: Sequence[str], entries: int, n: int = 200, seed: int = 7) -> list[list[str]]:
    """n labels of so many entries, drawn from the different words of these texts."""
    vocabulary = sorted({word for text in texts for word in words_of(text)})
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(vocabulary), generator=generator)[:entries].tolist() for _ in range(n)]
    return [[vocabulary[i] for i in one] for one in drawn]
