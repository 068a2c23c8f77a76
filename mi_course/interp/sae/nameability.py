"""How well can simple rules say when a latent is active? The same question, put to random directions and to neurons.

A *rule* is a set of tokens, and says "active" where one of them stands. The family has four kinds, and was fixed before
any result was seen: a set of current tokens, of previous tokens, of pairs (previous, current), and of triples. For each
latent the best rule is found by one procedure:

1. The text is parted: a half is for fitting, a quarter for choosing and a quarter for testing.
2. Fitting: every key (token, pair or triple) that occurs in at least MIN_ACTIVE active units is ranked by how much more
   frequent it is in active units than in the others. The rule of a kind is the beginning of this list whose balanced
   accuracy is largest.
3. Choosing: of the four kinds, the one whose rule does best on other text.
4. Testing: that rule's detection score (balanced accuracy; Paulo et al. 2024) on text that it has not seen.

A *unit* is a token, or a context of 16 tokens, which is active where one of its tokens is and matched where one of its
tokens is. Both are reported, since they need not agree.

Controls go through the same procedure, each above a threshold that makes it active in as many *units* as the latent
that it is matched with: a score depends on how often something is active. With as many active *tokens*, a control can
fill more contexts than its latent, or fewer. In a first look, on other SAEs, controls were matched by tokens in both
units; matching in the unit that is scored was decided after it. The units and the kinds of rules were fixed before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

KINDS = ("current token", "previous token", "pair", "triple")
UNITS = {"token": 1, "context": 16}
MIN_ACTIVE = 3  # active units in which a key has to occur
FIT, CHOOSE, TEST = 0, 1, 2


class Score(NamedTuple):
    """A detection score on the text kept for testing, and the kind of the rule."""

    score: float
    kind: str


@dataclass(frozen=True)
class Comparison:
    """Mean detection scores, with standard errors over the latents."""

    latents: tuple[float, float]
    directions: tuple[float, float]
    neurons: tuple[float, float]
    over_directions: tuple[float, float]
    """Latents minus random directions, pair by pair."""
    over_neurons: tuple[float, float]
    kinds: dict[str, int]
    """How many latents were best named by each kind of rule."""


class Rules:
    """The keys of a text, counted once, for any number of latents.

    tokens: with BOS first, which no unit contains. parts: what each row is for (`part_rows`). skip: tokens that no unit
    contains either, such as massive ones: they can still be someone's previous token.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "row pos"],
        parts: Int[Tensor, " row"],
        unit: str = "token",
        skip: Bool[Tensor, "row pos"] | None = None,
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"unit is {unit!r}; expected {' or '.join(UNITS)}.")
        rows, pos = tokens.shape
        if tuple(parts.shape) != (rows,) or set(parts.tolist()) != {FIT, CHOOSE, TEST}:
            raise ValueError(f"parts is {parts.tolist()[:8]} …; expected {FIT}, {CHOOSE} or {TEST} for {rows} rows.")
        self.shape, self.size = (rows, pos - 1), UNITS[unit]
        self._counts = np.ones(self.shape, dtype=bool) if skip is None else ~skip[:, 1:].cpu().numpy()
        per_row = -(-(pos - 1) // self.size)
        place = np.arange(pos - 1) // self.size
        self._unit = (np.arange(rows)[:, None] * per_row + place)[self._counts]
        self._n_units = rows * per_row
        present = np.zeros(self._n_units, dtype=bool)
        present[self._unit] = True
        self._units = np.flatnonzero(present)
        part = np.repeat(parts.cpu().numpy(), per_row)
        self._members = [present & (part == which) for which in (FIT, CHOOSE, TEST)]
        self._keys = [self._number(key) for key in _keys(tokens.cpu().numpy())]

    def _number(self, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Each token's key, numbered; and every (key, unit of the fitting text) once."""
        _, numbers = np.unique(key[self._counts], return_inverse=True)
        pairs = np.unique(numbers.astype(np.int64) * self._n_units + self._unit)
        pairs = pairs[self._members[FIT][pairs % self._n_units]]
        return numbers, pairs // self._n_units, pairs % self._n_units

    def best(self, active: Bool[Tensor, "row pos-1"]) -> Score:
        """The score of the best rule for what is active on these tokens (all but the first of each row)."""
        if tuple(active.shape) != self.shape:
            raise ValueError(f"active has shape {tuple(active.shape)}; expected {self.shape}.")
        fired = np.zeros(self._n_units, dtype=bool)
        fired[self._unit[active.cpu().numpy()[self._counts]]] = True
        return self._best(fired)

    def n_active(self, active: Bool[Tensor, "row pos-1"]) -> int:
        """How many units hold a token that is active and counts."""
        return len(np.unique(self._unit[active.cpu().numpy()[self._counts]]))

    def best_largest(self, values: Float[Tensor, "row pos-1"], n: int) -> Score:
        """The score of the best rule for the n units with the largest values; a unit's value is its tokens' largest.

        Equal values: the earlier unit first. ValueError where n is not between 0 and the number of units that count.
        """
        if tuple(values.shape) != self.shape:
            raise ValueError(f"values has shape {tuple(values.shape)}; expected {self.shape}.")
        largest = np.full(self._n_units, -np.inf, dtype=np.float32)
        np.maximum.at(largest, self._unit, values.float().cpu().numpy()[self._counts])
        if not 0 <= n <= len(self._units):
            raise ValueError(f"n is {n}; there are {len(self._units)} units.")
        fired = np.zeros(self._n_units, dtype=bool)
        fired[self._units[np.argsort(-largest[self._units], kind="stable")[:n]]] = True
        return self._best(fired)

    def _best(self, fired: NDArray[np.bool_]) -> Score:
        """The score of the best rule for the units that are active."""
        found = []
        for kind, (numbers, pair_key, pair_unit) in zip(KINDS, self._keys, strict=True):
            first = self._first(numbers, pair_key, pair_unit, fired)
            scores = _balanced(first, fired, self._members[FIT])
            length = int(scores.argmax())
            found.append((_at(first, fired, self._members[CHOOSE], length), kind, first, length))
        _, kind, first, length = max(found, key=lambda rule: rule[0])
        return Score(_at(first, fired, self._members[TEST], length), kind)

    def _first(
        self,
        numbers: NDArray[np.int64],
        pair_key: NDArray[np.int64],
        pair_unit: NDArray[np.int64],
        fired: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """For each unit the rank of its best key: a rule of the first n keys matches it if that is below n."""
        n_keys = int(numbers.max()) + 1
        hits = np.bincount(pair_key, weights=fired[pair_unit], minlength=n_keys)
        false = np.bincount(pair_key, weights=~fired[pair_unit], minlength=n_keys)
        fit = self._members[FIT]
        A, B = (fired & fit).sum(), (~fired & fit).sum()
        ratio = (hits + 0.5) / (A + 1) / ((false + 0.5) / (B + 1))
        usable = np.flatnonzero((hits >= MIN_ACTIVE) & (ratio > 1))
        ranks = np.full(n_keys, n_keys, dtype=np.int64)
        ranks[usable[np.argsort(-ratio[usable], kind="stable")]] = np.arange(len(usable))
        first = np.full(self._n_units, n_keys, dtype=np.int64)
        np.minimum.at(first, self._unit, ranks[numbers])
        return first


def compare(
    tokens: Int[Tensor, "row pos"],
    latents: Float[Tensor, "row pos n"],
    directions: Float[Tensor, "row pos n"],
    neurons: Float[Tensor, "row pos n"],
    parts: Int[Tensor, " row"],
    *,
    skip: Bool[Tensor, "row pos"] | None = None,
) -> dict[str, Comparison]:
    """The comparison in both units, of n latents and as many random directions and neurons.

    latents: activations, 0 where a latent is not active. directions, neurons: projections and activations, which are
    active in the units of their largest values, in as many units as the latent. parts: see `part_rows`. skip: tokens
    that do not count. ValueError for a latent that is active on no token that counts, or on all.
    """
    counts = torch.ones_like(tokens, dtype=torch.bool) if skip is None else ~skip
    counts = counts.clone()
    counts[:, 0] = False
    wanted = (latents[counts] > 0).sum(dim=0).tolist()
    total = int(counts.sum())
    for index, number in enumerate(wanted):
        if not 0 < number < total:
            raise ValueError(f"Latent {index} is active on {number} of {total} tokens; choose others.")
    found = {}
    for unit in UNITS:
        rules = Rules(tokens, parts, unit, skip)
        scores: dict[str, list[Score]] = {"latents": [], "directions": [], "neurons": []}
        for index in range(len(wanted)):
            active = latents[:, 1:, index] > 0
            scores["latents"].append(rules.best(active))
            for name, values in (("directions", directions), ("neurons", neurons)):
                scores[name].append(rules.best_largest(values[:, 1:, index], rules.n_active(active)))
        numbers = {name: np.array([score.score for score in many]) for name, many in scores.items()}
        kinds = [score.kind for score in scores["latents"]]
        found[unit] = Comparison(
            _mean(numbers["latents"]),
            _mean(numbers["directions"]),
            _mean(numbers["neurons"]),
            _mean(numbers["latents"] - numbers["directions"]),
            _mean(numbers["latents"] - numbers["neurons"]),
            {kind: kinds.count(kind) for kind in KINDS},
        )
    return found


def live_latents(
    active: Int[Tensor, "F row"], parts: Int[Tensor, " row"], n: int, seed: int, at_least: int = 10
) -> Int[Tensor, " n"]:
    """n random latents of those that are active on at least so many tokens of each part of the text, in order.

    A latent that is nearly never active cannot be scored. active: on how many tokens of each row a latent is active.
    ValueError where there are fewer than n.
    """
    enough = torch.stack([active[:, parts == which].sum(dim=1) >= at_least for which in (FIT, CHOOSE, TEST)])
    live = enough.all(dim=0).nonzero()[:, 0]
    if len(live) < n:
        raise ValueError(f"{len(live)} latents are active {at_least} times in each part of the text; {n} are needed.")
    return live[torch.randperm(len(live), generator=torch.Generator().manual_seed(seed))[:n]].sort().values


def part_rows(rows_of_group: Sequence[int]) -> Int[Tensor, " row"]:
    """Which part each row belongs to: of each group the first half, the next quarter, and the last.

    Rows of one document follow each other, so that few documents lie in two parts. ValueError below 4 rows in a group.
    """
    if min(rows_of_group, default=0) < 4:
        raise ValueError(f"The groups have {list(rows_of_group)} rows; each needs at least 4.")
    parts = [torch.bucketize(torch.arange(n), torch.tensor([n // 2, n - n // 4]), right=True) for n in rows_of_group]
    return torch.cat(parts)


def _keys(tokens: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The key of every token but the first of a row, of each kind. Before a row's first token stands that token."""
    now, before = tokens[:, 1:].astype(np.int64), tokens[:, :-1].astype(np.int64)
    earlier = np.concatenate([tokens[:, :1], tokens[:, :-2]], axis=1).astype(np.int64)
    base = int(tokens.max()) + 1
    yield from (now, before, before * base + now, (earlier * base + before) * base + now)


def _balanced(
    first: NDArray[np.int64], fired: NDArray[np.bool_], members: NDArray[np.bool_]
) -> Float[NDArray[np.float64], " lengths"]:
    """The balanced accuracy of rules of 0, 1, 2, … keys. 0.5 throughout where one kind of unit is absent."""
    hits, false = (np.bincount(first[members & kind], minlength=1) for kind in (fired, ~fired))
    size = max(len(hits), len(false))
    hits, false = (np.concatenate([[0], np.pad(each, (0, size - len(each))).cumsum()[:-1]]) for each in (hits, false))
    A, B = (fired & members).sum(), (~fired & members).sum()
    if A == 0 or B == 0:
        return np.full(size, 0.5)
    return (hits / A + 1 - false / B) / 2


def _at(first: NDArray[np.int64], fired: NDArray[np.bool_], members: NDArray[np.bool_], length: int) -> float:
    """The detection score of a rule of so many keys: `naming.detection_score`, without torch's cost per call."""
    matched, fired = first[members] < length, fired[members]
    A, B = int(fired.sum()), int((~fired).sum())
    if A == 0 or B == 0:
        return 0.5
    return (int((matched & fired).sum()) / A + 1 - int((matched & ~fired).sum()) / B) / 2


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
