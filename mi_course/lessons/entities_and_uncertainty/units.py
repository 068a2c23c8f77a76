"""Units that are active on known entities and not on unknown ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

Rates = Callable[[Tensor], Tensor]


def _separation(f_known: Tensor, f_unknown: Tensor) -> Tensor:
    """Oracle: unit by unit, entity by entity."""

    def share(column: list[float]) -> float:
        return sum(1 for value in column if value > 0) / len(column)

    known, unknown = f_known.T.tolist(), f_unknown.T.tolist()
    return torch.tensor([share(a) - share(b) for a, b in zip(known, unknown, strict=True)])


def _rates(rate: Rates) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda f_known, f_unknown: rate(f_known) - rate(f_unknown)


def _pooled(f_known: Tensor, f_unknown: Tensor) -> Tensor:
    counts = (f_known > 0).sum(0) - (f_unknown > 0).sum(0)
    return counts / (len(f_known) + len(f_unknown))


def _ratio(f_known: Tensor, f_unknown: Tensor) -> Tensor:
    known, unknown = (f_known > 0).float().mean(0), (f_unknown > 0).float().mean(0)
    return known / (known + unknown).clamp(min=1e-9)


def _activations(draw: RandomInputs, n: int, m: int, units: int) -> tuple[Tensor, Tensor]:
    """Some entries are exactly 0, some negative; each unit is active at a rate of its own."""
    rates = draw.uniform(2, units, low=-1.0, high=1.2)
    found = []
    for rows, rate in zip((n, m), rates, strict=True):
        values = draw.normal(rows, units, std=2.0) + rate * 2
        found.append(values.masked_fill(draw.uniform(rows, units) < 0.25, 0.0))
    return found[0], found[1]


def _cases(settings: Sequence[tuple[int, int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    return lambda draw, size: [
        case(
            *_activations(draw, n, m, units),
            about=f"{n} known and {m} unknown entities, {units} unit{'s' * (units > 1)}",
        )
        for n, m, units in settings
    ]


def _edges(draw: RandomInputs, size: str) -> list[Case]:
    known, unknown = _activations(draw, 9, 5, 4)
    always, never = torch.full((4, 2), 0.01), torch.tensor([[0.0, -3.0]] * 7)
    calls = [(known, unknown), (known.flip(0) * 40, unknown), (known, -unknown), (-known, unknown), (unknown, known)]
    return [
        *_cases(((1, 6, 5), (7, 1, 3), (8, 3, 1), (1, 1, 1)))(draw, size),
        case(always, never, about="units that are always active, and units that never are"),
        case(never, always, about="the other way around"),
        case(always, torch.cat([always, always]), about="units that are always active"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in calls), about="the same entities with other activations"
        ),
    ]


SEPARATION = Exercise(
    id="entities_and_uncertainty.separation",
    task="How much more often each unit is active on known entities than on unknown ones.",
    minutes=5,
    difficulty=1,
    fixed={"result<=1": "a difference of shares"},
    oracle=_separation,
    parts=(
        Part("more of one kind than of the other", 2, _cases(((12, 7, 5), (6, 20, 8), (9, 11, 3)))),
        Part("one entity, one unit, always active, never", 1, _edges),
    ),
    mistakes=(
        Mistake(
            "mean_activations",
            "You took the difference of mean activations. A unit that is strongly active on one known entity would win: count on how many it is active, that is, above 0.",
            _rates(lambda f: f.mean(0)),
        ),
        Mistake(
            "mean_positive",
            "You averaged positive activations. How strongly a unit is active does not matter: count on how many entities it is above 0.",
            _rates(lambda f: f.relu().mean(0)),
        ),
        Mistake(
            "zero_is_active",
            "You count a unit as active where its value is 0. It is active *above* 0.",
            _rates(lambda f: (f >= 0).float().mean(0)),
        ),
        Mistake(
            "negative_is_active",
            "You count a unit as active where its value is negative. It is active *above* 0.",
            _rates(lambda f: (f != 0).float().mean(0)),
        ),
        Mistake(
            "turned_around",
            "The sign is turned: known minus unknown, so that 1 is a unit that is active on all known entities and on no other.",
            lambda f_known, f_unknown: _separation(f_unknown, f_known),
        ),
        Mistake(
            "absolute",
            "You took the absolute value. Units for *unknown* entities, whose separation is negative, must remain apart from those for known ones.",
            lambda f_known, f_unknown: _separation(f_known, f_unknown).abs(),
        ),
        Mistake(
            "counts",
            "You subtracted counts. With more known than unknown entities every unit that is always active would separate them: take shares.",
            _rates(lambda f: (f > 0).float().sum(0)),
        ),
        Mistake(
            "pooled",
            "You divided both counts by the number of all entities. Each share is one of its own kind: divide by n, and by m.",
            _pooled,
        ),
        Mistake(
            "ratio",
            "You divided by the sum of the two rates. A unit that is active on one entity in a hundred would get 1: take the difference.",
            _ratio,
        ),
        Mistake(
            "over_units",
            "You averaged over the units. Each unit gets a number: average over the entities, the rows.",
            _rates(lambda f: (f > 0).float().mean(1)),
        ),
    ),
    hints=(
        "`(f_known > 0)` says where each unit is active; the mean of a column of truth values is a share.",
        "`(f_known > 0).float().mean(dim=0)`, minus the same of the unknown ones.",
    ),
    reveal="A difference of rates asks one thing only: does the unit tell the two apart? Strength would let one loud example decide. For units that mark *known* whatever the kind of entity, Ferrando et al. take the smallest separation over types, and the unit for which that is largest: a unit for football players alone gets a low score. "
    "Among thousands of units some separate by chance, so hold the best against shuffled labels.",
)
