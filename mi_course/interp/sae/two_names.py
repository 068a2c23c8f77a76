"""Does a latent get the same name from two kinds of text? Bolukbasi et al. 2021 saw neurons with several.

    two_names(f, words, kinds)          f: one latent on every token of some passages (`concepts.context_activations`)

A name is here the set of words at the n strongest activations. Two names differ even if the latent does the same in
both kinds of text: the samples differ, and so do the vocabularies. So there are two controls: names from two halves of
*one* kind; and of the words that only one name has, the share that does not occur in the other kind of text at all,
beside the same share for words at random tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class TwoNames(NamedTuple):
    """Names of one latent from two kinds of text, and how far they agree. Shares are from 0 to 1."""

    names: dict[str, list[str]]
    """For each kind the words at the n strongest activations of all its passages, the strongest first."""
    between: float
    """Words in common (intersection over union) of names from one half of each kind; mean over random halves."""
    within: float
    """The same of names from two halves of one kind, mean over both kinds: the control for chance."""
    absent: float
    """Of the words in one full name only, the share that the other kind of text does not contain at all."""
    absent_by_chance: float
    """The same share if names are the words at n random tokens, mean over random draws: the control for vocabulary."""


def two_names(
    f: Float[Tensor, "context pos"],
    words: Sequence[Sequence[str]],
    kinds: Sequence[str],
    n: int = 20,
    splits: int = 20,
    seed: int = 0,
) -> TwoNames:
    """Compare the names that one latent gets from two kinds of text.

    f: activations; 0 where the latent is not active or a token does not count. words: the tokens as strings, as many
    for each passage as f has positions. kinds: of each passage. n: activations that make a name, active ones only.
    splits: how many random halves, and names of random tokens, are averaged over. ValueError unless there are exactly
    two kinds.
    """
    different = sorted({*kinds})
    if len(different) != 2:
        raise ValueError(f"There are {len(different)} kinds of text ({', '.join(different)[:80]}), expected two.")
    plain = [[word.strip().lower() for word in row] for row in words]
    of_kind = {kind: torch.tensor([each == kind for each in kinds]).nonzero()[:, 0] for kind in different}
    generator = torch.Generator().manual_seed(seed)
    between, within = [], []
    for _ in range(splits):
        halves = []
        for kind in different:
            order = of_kind[kind][torch.randperm(len(of_kind[kind]), generator=generator)]
            halves.append([_name(f, plain, rows, n) for rows in order.tensor_split(2)])
        between.append(_common(halves[0][0], halves[1][0]))
        within += [_common(*pair) for pair in halves]
    texts = {kind: {word for row in of_kind[kind].tolist() for word in plain[row] if word} for kind in different}

    def named(values: Float[Tensor, "context pos"]) -> dict[str, list[str]]:
        return {kind: _name(values, plain, of_kind[kind], n) for kind in different}

    names, by_chance = named(f), [named(torch.rand(f.shape, generator=generator)) for _ in range(splits)]
    return TwoNames(
        names,
        sum(between) / splits,
        sum(within) / len(within),
        _absent(names, texts),
        sum(_absent(each, texts) for each in by_chance) / splits,
    )


def _name(f: Float[Tensor, "context pos"], words: list[list[str]], rows: Tensor, n: int) -> list[str]:
    """The different words at the n strongest activations in these passages."""
    values = f[rows].flatten()
    top = values.argsort(descending=True, stable=True)[:n]
    pos = f.shape[1]
    found = [words[int(rows[i // pos])][i % pos] for i in top[values[top] > 0].tolist()]
    return list(dict.fromkeys(word for word in found if word))


def _common(first: Sequence[str], second: Sequence[str]) -> float:
    """Intersection over union; 1 where both are empty."""
    union = {*first, *second}
    return len({*first} & {*second}) / len(union) if union else 1.0


def _absent(names: dict[str, list[str]], texts: dict[str, set[str]]) -> float:
    """Of the words in one of the two names only, the share that the text of the other kind does not contain."""
    first, second = ({*names[kind]} for kind in texts)
    in_first, in_second = texts.values()
    missing = len(first - second - in_second) + len(second - first - in_first)
    return missing / max(1, len(first ^ second))
