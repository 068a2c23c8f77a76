"""Judging what a model has written, without knowing under which condition it was written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def score_blind(
    conditions: Mapping[str, Sequence[str]], judge: Callable[[list[str]], Any], *, seed: int = 0
) -> dict[str, list[float]]:
    """The judge's score of every text, by condition. The judge gets all texts in one list, in random order.

    judge: a function of a list of texts that returns one number for each. ValueError if it returns another count.

    >>> score_blind({"a": ["xx", "x"], "b": ["xxx"]}, lambda texts: [len(text) for text in texts])
    {'a': [2.0, 1.0], 'b': [3.0]}
    """
    where = [(name, text) for name, texts in conditions.items() for text in texts]
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(seed)).tolist()
    scores = [float(score) for score in judge([where[i][1] for i in order])]
    if len(scores) != len(where):
        raise ValueError(f"The judge returned {len(scores)} scores for {len(where)} texts, expected one for each.")
    of = dict(zip(order, scores, strict=True))
    out: dict[str, list[float]] = {name: [] for name in conditions}
    for i, (name, _) in enumerate(where):
        out[name].append(of[i])
    return out


def different_words(text: str, words: Sequence[str]) -> int:
    """How many of these words occur in the text as whole words. A word that is repeated counts once.

    >>> different_words("Aye, aye! The season's players sail.", ["aye", "sea", "sail", "ship"])
    2
    """
    return len(set(re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())) & {word.lower() for word in words})


def variety(text: str) -> float:
    """Share of different pairs among the text's pairs of neighboring words: 1 without repetition, near 0 in a loop.

    >>> variety("aye aye aye aye aye")
    0.25
    """
    words = text.lower().split()
    pairs = list(itertools.pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 1.0
