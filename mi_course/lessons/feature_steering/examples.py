"""Which tokens a feature page shows of a latent: where it is strongest, and random ones from each band of ranks."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    case,
    judge_each,
    moved_random_state,
)
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# Lists of positions or tokens, strongest first


def ranking_complaint(value: Any, strength: Mapping[int, float], n: int, what: str) -> Complaint | None:
    """A complaint unless these are the n strongest, strongest first, equal ones in any order.

    strength: of each candidate; all of them are expected if there are fewer than n. what: the list, for messages.
    """
    listed = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(listed, (list, tuple)):
        return Complaint(f"{what} is a {type(value).__name__}, expected a list of whole numbers.", "type")
    listed = [int(item) if isinstance(item, Tensor) and not item.is_floating_point() else item for item in listed]
    if any(type(item) is not int for item in listed):
        return Complaint(f"{what} does not hold whole numbers.", "type")
    expected = sorted(strength.values(), reverse=True)[:n]
    if len(listed) != len(expected):
        return Complaint(f"{what} has {len(listed)} entries, expected {len(expected)}.", "shape")
    if outside := [item for item in listed if item not in strength]:
        return Complaint(f"{what} holds {outside[0]}, which should not be listed.")
    if len(set(listed)) < len(listed):
        return Complaint(f"{what} holds a number twice.")
    for place, (item, best) in enumerate(zip(listed, expected, strict=True)):
        if strength[item] != best:
            return Complaint(
                f"{what}[{place}] is {item}, where the value is {strength[item]:.4g}; expected one of those where it is {best:.4g}."
            )
    return None


# ---------------------------------------------------------------------------------------------------------------------
# top_activations


def _top_activations(f: Tensor, n: int) -> list[int]:
    """Oracle: take the largest that is left, n times."""
    left = {position: strength for position, strength in enumerate(f.tolist()) if strength > 0}
    found: list[int] = []
    while left and len(found) < n:
        best = max(left, key=lambda position: left[position])
        found.append(best)
        del left[best]
    return found


def _by(values: Tensor) -> list[int]:
    """Positions by value, largest first."""
    order: list[int] = values.argsort(descending=True, stable=True).tolist()
    return order


def _top_among_active(f: Tensor, n: int) -> list[int]:
    return _by(f[f > 0])[:n]


def _top_by_size(f: Tensor, n: int) -> list[int]:
    return [p for p in _by(f.abs()) if f[p] != 0][:n]


def _top_ranks(f: Tensor, n: int) -> list[int]:
    """The rank of each of the first n tokens, taken for positions."""
    rank = {position: place for place, position in enumerate(_by(f))}
    return [rank[position] for position in range(len(f))][: min(n, int((f > 0).sum()))]


def _activations(draw: RandomInputs, tokens: int, active: int, scale: float = 1.0, negative: float = 0.3) -> Tensor:
    """Sparse, skewed activations, all different: so many are above 0, a share of the others is negative, the rest 0."""
    f = torch.zeros(tokens)
    places = draw.permutation(tokens)
    f[places[:active]] = draw.normal(active).mul(0.9).exp()
    below = places[active : active + round(negative * (tokens - active))]
    f[below] = -draw.uniform(len(below), low=0.1, high=6.0)
    return scale * f


def _top_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(_activations(draw, tokens, active), n, about=f"{tokens} tokens, {active} active, n = {n}")
        for tokens, active, n in ((20, 9, 5), (31, 14, 6), (12, 10, 1), (200, 40, 12))
    ]


def _ties_complaint(value: Any, f: Tensor, n: int) -> Complaint | None:
    return ranking_complaint(value, {p: v for p, v in enumerate(f.tolist()) if v > 0}, n, "the result")


def _few_cases(draw: RandomInputs, size: str) -> list[Case]:
    one, low, f = torch.tensor([0.7]), _activations(draw, 15, 6, negative=1.0), _activations(draw, 18, 7)
    tiny = _activations(draw, 25, 8, scale=1e-9)
    faint = torch.tensor([2.5, -0.004, 0.004, 0.0, 0.019, -0.02, 0.0, 1.5])[draw.permutation(8)]
    same = tuple(Call(args, watch=("arguments",)) for args in ((f, 4), (f.flip(0), 4), (f, 2), (f * 3, 4)))
    tied = draw.integers(-2, 4, 40).float()
    many = draw.integers(-1, 3, 900).float()
    judge = judge_each(_ties_complaint)
    return [
        case(_activations(draw, 22, 3), 8, about="3 active tokens, n = 8"),
        case(low, 9, about="6 active tokens and 9 negative values, n = 9"),
        case(faint, 6, about="values a little above and a little below 0"),
        case(tiny, 5, about="tiny activations"),
        case(_activations(draw, 25, 8, scale=1e4), 5, about="large activations"),
        case(_activations(draw, 17, 0), 4, about="no active token"),
        case(-f.abs(), 4, about="no value above 0"),
        case(f, 0, about="n = 0"),
        case(one, 3, about="a single token, active"),
        case(-one, 1, about="a single token, not active"),
        Case(same, about="the same values in another order, another n, and three times as strong"),
        *(case(tied, n, judge=judge, about=f"many equal values, n = {n}") for n in (1, 11, 60)),
        case(many, 50, judge=judge, about="hundreds of equal values"),
    ]


TOP_ACTIVATIONS = Exercise(
    id="feature_steering.top_activations",
    task="The positions of the n tokens on which a latent is most strongly active, strongest first.",
    minutes=4,
    difficulty=1,
    oracle=_top_activations,
    parts=(
        Part("more active tokens than are asked for", 2, _top_cases),
        Part("few active tokens or none, one token, tiny values, equal values", 1, _few_cases),
    ),
    mistakes=(
        Mistake(
            "inactive_listed",
            "Tokens on which the latent is not active are listed. Where fewer than n are active, that is, above 0, the list is shorter.",
            lambda f, n: _by(f)[:n],
        ),
        Mistake(
            "zero_is_active",
            "You list tokens whose activation is 0. A latent is active *above* 0.",
            lambda f, n: [p for p in _by(f) if f[p] >= 0][:n],
        ),
        Mistake(
            "by_size",
            "You ranked by the absolute value, so strongly *negative* values are listed. Only what is above 0 is active.",
            _top_by_size,
        ),
        Mistake(
            "weakest_first",
            "These are the right tokens in the wrong order: the strongest comes first.",
            lambda f, n: _top_activations(f, n)[::-1],
        ),
        Mistake(
            "weakest_active",
            "These are the tokens on which the latent is active and *weakest*. Sort descending.",
            lambda f, n: _top_activations(f, len(f))[::-1][:n],
        ),
        Mistake(
            "lowest_values",
            "These are the tokens with the lowest values of all. Sort descending, and keep those above 0.",
            lambda f, n: _by(-f)[:n],
        ),
        Mistake(
            "by_position",
            "These are the right tokens in the order of the text. The strongest comes first.",
            lambda f, n: sorted(_top_activations(f, n)),
        ),
        Mistake(
            "first_active",
            "These are the first n active tokens of the text, however weak. The n *strongest* are asked for.",
            lambda f, n: (f > 0).nonzero().flatten().tolist()[:n],
        ),
        Mistake(
            "values_returned",
            "These are activations. Positions are asked for: indices into `f`.",
            lambda f, n: [float(f[p]) for p in _top_activations(f, n)],
        ),
        Mistake(
            "counted_among_active",
            "You counted positions among the active tokens: after `f[f > 0]` index 0 is the first *active* token. Translate back, for example with `(f > 0).nonzero()`.",
            _top_among_active,
        ),
        Mistake(
            "ranks_returned",
            "These are the ranks of the first tokens: sorting the order once more gives each token's place. The order itself, the result of one `argsort`, holds the positions.",
            _top_ranks,
        ),
        Mistake(
            "all_active",
            "You list every active token. Keep the first n.",
            lambda f, n: _top_activations(f, len(f)),
        ),
    ),
    hints=(
        "Two steps: which tokens are active at all, and in which order? `argsort(descending=True)` gives positions.",
        "`f.argsort(descending=True)[:n]` holds the n largest; keep only the positions where `f` is above 0. They stand in front.",
        "`[p for p in f.argsort(descending=True)[:n].tolist() if f[p] > 0]`",
    ),
    reveal="Top tokens show a latent at its clearest. They are a selected sample, the extreme of thousands, and say nothing about the rest of its range; this is why the next exercise draws from all of it. Without the test for activity, a rare latent's page would end in tokens on which it is silent, and their contexts would be read as examples.",
)


# ---------------------------------------------------------------------------------------------------------------------
# quantile_examples: random, so it is judged by its properties

_Bands = list[list[int]]


def _ranked(f: Tensor) -> list[int]:
    """Active positions, strongest first."""
    return [p for p in _by(f) if f[p] > 0]


def _cut(order: Sequence[int], edges: Sequence[float], rounding: Callable[[float], int] = round) -> _Bands:
    """The members of each band, by rank."""
    cuts = [rounding(edge * len(order)) for edge in edges]
    return [list(order[a:b]) for a, b in itertools.pairwise(cuts)]


def _right_bands(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_ranked(f), edges)


def _sampled(bands: Callable[[Tensor, Sequence[float]], _Bands]) -> Callable[..., _Bands]:
    """Draws from bands that are made in another way."""

    def quantile_examples(f: Tensor, edges: list[float], n: int, seed: int) -> _Bands:
        dice = random.Random(seed)
        return [dice.sample(band, min(n, len(band))) for band in bands(f, edges)]

    return quantile_examples


_quantile_examples = _sampled(_right_bands)
"""Oracle."""


def _all_tokens(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_by(f), edges)


def _not_negative(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut([p for p in _by(f) if f[p] >= 0], edges)


def _not_zero(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut([p for p in _by(f) if f[p] != 0], edges)


def _sizes(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut([p for p in _by(f.abs()) if f[p] != 0], edges)


def _reversed(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_ranked(f)[::-1], edges)


def _shares_of_largest(f: Tensor, edges: Sequence[float]) -> _Bands:
    """Bands of values between shares of the largest one."""
    return _value_bands(f, edges, 0.0)


def _shares_of_range(f: Tensor, edges: Sequence[float]) -> _Bands:
    """Bands of values between shares of the range of what is active."""
    return _value_bands(f, edges, float(f[f > 0].min()))


def _value_bands(f: Tensor, edges: Sequence[float], low: float) -> _Bands:
    order = _ranked(f)
    if not order:
        return [[] for _ in edges[1:]]
    top = float(f[order[0]])
    depth = {p: (top - float(f[p])) / max(top - low, 1e-9) for p in order}  # 0 = the largest value, 1 = the lowest
    last = [b >= 1 for b in edges[1:]]
    pairs = list(itertools.pairwise(edges))
    return [
        [p for p in order if a <= depth[p] and (depth[p] < b or end)] for (a, b), end in zip(pairs, last, strict=True)
    ]


def _nested(f: Tensor, edges: Sequence[float]) -> _Bands:
    order = _ranked(f)
    return [order[: round(edge * len(order))] for edge in edges[1:]]


def _rounded_down(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_ranked(f), edges, int)


def _rounded_up(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_ranked(f), edges, math.ceil)


def _edge_included(f: Tensor, edges: Sequence[float]) -> _Bands:
    order = _ranked(f)
    cuts = [round(edge * len(order)) for edge in edges]
    return [order[a : b + 1] for a, b in itertools.pairwise(cuts)]


def _rank_bands(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(range(len(_ranked(f))), edges)


def _among_active(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(_by(f[f > 0]), edges)


def _text_order(f: Tensor, edges: Sequence[float]) -> _Bands:
    return _cut(sorted(_ranked(f)), edges)


_HYPOTHESES: dict[str, tuple[Callable[[Tensor, Sequence[float]], _Bands], ...]] = {
    "inactive_counted": (_all_tokens, _not_negative, _not_zero),
    "by_size": (_sizes,),
    "weakest_is_zero": (_reversed,),
    "bands_of_values": (_shares_of_largest, _shares_of_range),
    "nested_bands": (_nested,),
    "rounded_down": (_rounded_down,),
    "rounded_up": (_rounded_up,),
    "edge_in_both": (_edge_included,),
    "ranks_returned": (_rank_bands,),
    "counted_among_active": (_among_active,),
    "order_of_the_text": (_text_order,),
}
"""Mistake -> how its bands are made."""


def _top_of_each(f: Tensor, edges: list[float], n: int, seed: int) -> _Bands:
    return [band[:n] for band in _right_bands(f, edges)]


def _with_replacement(f: Tensor, edges: list[float], n: int, seed: int) -> _Bands:
    dice = random.Random(seed)
    return [dice.choices(band, k=min(n, len(band))) if band else [] for band in _right_bands(f, edges)]


def _flat(f: Tensor, edges: list[float], n: int, seed: int) -> list[int]:
    return [p for band in _quantile_examples(f, edges, n, seed) for p in band]


def _values(f: Tensor, edges: list[float], n: int, seed: int) -> list[list[float]]:
    return [[float(f[p]) for p in band] for band in _quantile_examples(f, edges, n, seed)]


def _global_state(f: Tensor, edges: list[float], n: int, seed: int) -> _Bands:
    torch.manual_seed(seed)
    return _quantile_examples(f, edges, n, int(torch.randint(0, 2**31, (1,))))


def _read_bands(value: Any, f: Tensor, edges: Sequence[float]) -> _Bands | Complaint:
    value = value.tolist() if isinstance(value, Tensor) else value
    expected = f"a list of {len(edges) - 1} lists of positions, one for each band"
    if not isinstance(value, (list, tuple)):
        return Complaint(f"The result is a {type(value).__name__}, expected {expected}.", "type")
    if value and all(type(item) is int or (isinstance(item, Tensor) and not item.ndim) for item in value):
        return Complaint("", mistake="one_flat_list")
    if len(value) != len(edges) - 1:
        return Complaint(f"The result has {len(value)} entries, expected {expected}.", "shape")
    bands: _Bands = []
    for i, band in enumerate(value):
        band = band.tolist() if isinstance(band, Tensor) else band
        if not isinstance(band, (list, tuple)):
            return Complaint(f"Entry {i} is a {type(band).__name__}, expected a list of positions.", "type")
        band = [item.item() if isinstance(item, Tensor) else item for item in band]
        if band and all(type(item) is float and item in f.tolist() for item in band) and any(x % 1 for x in band):
            return Complaint("", mistake="values_returned")
        if any(type(item) is not int for item in band):
            return Complaint(f"Entry {i} does not hold positions, that is, whole numbers.", "type")
        bands.append(list(band))
    return bands


def _are_all(bands: _Bands, members: _Bands, n: int) -> bool:
    """Whether each band was returned as a whole, as must be where none has more than n."""
    return all(
        len(band) == len(group) <= n and set(band) == set(group) for band, group in zip(bands, members, strict=True)
    )


def _bands_complaint(value: Any, f: Tensor, edges: list[float], n: int) -> Complaint | None:
    bands = _read_bands(value, f, edges)
    return bands if isinstance(bands, Complaint) else _position_complaint(bands, f, edges, n)


def _position_complaint(bands: _Bands, f: Tensor, edges: list[float], n: int) -> Complaint | None:
    """What is wrong with the positions; equal values may stand on either side of an edge."""
    values = f.tolist()
    active = sorted((v for v in values if v > 0), reverse=True)
    first = {v: place for place, v in reversed(list(enumerate(active)))}
    cuts = [round(edge * len(active)) for edge in edges]
    ranks = list(itertools.pairwise(cuts))
    twice = None
    for i, (band, (a, b)) in enumerate(zip(bands, ranks, strict=True)):
        which = f"band {i}, ranks {a} to {b - 1} of {len(active)}" if b > a else f"band {i}, which has no rank"
        for p in band:
            if not 0 <= p < len(values):
                return Complaint(f"There is no position {p}: they run from 0 to {len(values) - 1}.")
            if values[p] <= 0:
                return Complaint(f"Position {p} is not active, but drawn for {which}.")
            low, high = first[values[p]], first[values[p]] + active.count(values[p]) - 1
            if high < a or low >= b:
                return Complaint(f"Position {p} has rank {low}, but is drawn for {which}.")
        if len(set(band)) < len(band):
            twice = twice or (i, b - a)
        for v in {values[p] for p in band}:
            room = min(b, first[v] + active.count(v)) - max(a, first[v])
            if len({p for p in band if values[p] == v}) > room:
                return Complaint(f"More positions with the value {v:.4g} are drawn for {which}, than have such a rank.")
    if twice:
        i, members = twice
        if members >= n:
            return Complaint("", mistake="with_replacement")
        return Complaint(f"In band {i} a position stands twice. Where a band has fewer than n, each stands there once.")
    for i, (band, (a, b)) in enumerate(zip(bands, ranks, strict=True)):
        if len(band) != min(n, b - a):
            return Complaint(
                f"Band {i} holds {b - a} active positions, and n is {n}: expected {min(n, b - a)} of them, got {len(band)}.",
                "shape",
            )
    both = [p for p, q in itertools.pairwise(sorted(p for band in bands for p in band)) if p == q]
    return Complaint(f"Position {both[0]} stands in two bands.") if both else None


_judge_bands = judge_each(_bands_complaint, 3)


def _judge_whole(case: Case, observation: Observation) -> Complaint | None:
    """Names the only mistake that gives all these bands. Only whole bands tell: a few draws would fit more than one."""
    problem = _judge_bands(case, observation)
    if problem is None or problem.mistake:
        return problem
    found = set(_HYPOTHESES)
    for call, reply in zip(case.calls, observation.replies, strict=True):
        f, edges, n, _ = call.args
        bands = _read_bands(reply.value, f, edges)
        if isinstance(bands, Complaint):
            return problem
        found = {name for name in found if any(_are_all(bands, made(f, edges), n) for made in _HYPOTHESES[name])}
    return Complaint("", mistake=found.pop()) if len(found) == 1 else problem


def _judge_seeds(case: Case, observation: Observation) -> Complaint | None:
    """Two calls with one seed, then many with others: positions, and pairs of them, come as often as chance has it."""
    if problem := _judge_bands(case, observation):
        return problem
    f, edges, n = case.calls[0].args[:3]
    found = [_read_bands(reply.value, f, edges) for reply in observation.replies]
    draws = [[frozenset(band) for band in bands] for bands in found if not isinstance(bands, Complaint)]
    members = _right_bands(f, edges)
    if draws[0] != draws[1]:
        return Complaint("Two calls with the same seed gave different positions. All randomness must come from it.")
    if all(draw == draws[0] for draw in draws):
        top = draws[0] == [frozenset(band[:n]) for band in members]
        return Complaint("", mistake="top_of_each_band" if top else "seed_ignored")
    draws = draws[1:]
    for i, band in enumerate(members):
        s = len(band)
        for size, chance in ((1, n / s), (2, n * (n - 1) / (s * (s - 1)))):
            spread = math.sqrt(chance * (1 - chance) / len(draws))
            for some in itertools.combinations(band, size):
                share = sum(draw[i] >= set(some) for draw in draws) / len(draws)
                if abs(share - chance) > 6 * spread:
                    what = f"position {some[0]}" if size == 1 else f"the pair of positions {some[0]} and {some[1]}"
                    return Complaint(
                        f"Over {len(draws)} seeds {what} (rank {' and '.join(str(band.index(p)) for p in some)} in band {i}) "
                        f"is drawn in {share:.0%} of the calls, where chance has {chance:.0%}. Within a band each position is as likely as any other."
                    )
    return None


def _band_cases(draw: RandomInputs, size: str) -> list[Case]:
    # No edge times a number of active tokens ends in .5, where one might round either way.
    settings = (
        (80, 36, [0.05, 0.2, 0.7], 4),
        (50, 19, [0.0, 0.3, 0.6, 0.9], 3),
        (150, 74, [0.0, 0.01, 0.1, 0.3, 1.0], 5),
        (40, 22, [0.0, 1.0], 6),
    )
    whole = (
        (60, 28, [0.0, 0.1, 0.4, 1.0]),
        (45, 18, [0.0, 0.2, 0.6, 1.0]),
        (50, 22, [0.05, 0.35, 0.8]),
        (70, 33, [0.0, 0.02, 0.3, 1.0]),
    )
    calls = tuple(
        Call((_activations(draw, tokens, active), edges, 80, draw.seed()), watch=("arguments",))
        for tokens, active, edges in whole
    )
    drawn = [
        case(
            _activations(draw, tokens, active),
            edges,
            n,
            draw.seed(),
            judge=_judge_bands,
            about=f"{active} of {tokens} tokens active, edges {edges}, n = {n}",
        )
        for tokens, active, edges, n in settings
    ]
    return [Case(calls, judge=_judge_whole, about="four texts, n = 80: all positions of each band"), *drawn]


def _odd_bands(draw: RandomInputs, size: str) -> list[Case]:
    seed, edges = draw.seed(), [0.0, 0.2, 0.6, 1.0]
    f = _activations(draw, 45, 18)
    other = _activations(draw, 45, 18)
    faint = torch.cat([draw.uniform(13, low=0.002, high=0.04), -draw.uniform(13, low=0.002, high=0.02), torch.zeros(4)])
    faint = faint[draw.permutation(30)]
    args = (
        (f, edges, 20, seed),
        (other, edges, 20, seed),
        (f, [0.0, 0.4, 0.6, 1.0], 20, seed),
        (f, edges, 2, seed),
        (f[f > 0], edges, 20, seed),
    )
    tied = draw.integers(0, 4, 60).float()
    while int((tied > 0).sum()) % 2:  # so that half of them is a whole number
        tied = draw.integers(0, 4, 60).float()
    cases = (
        (f * 1e-9, edges, 5, "tiny activations"),
        (f * 1e4, edges, 30, "large activations, all of each band"),
        (faint, edges, 30, "values a little above and a little below 0"),
        (f, [0.0, 0.3, 0.3, 1.0], 4, "an empty band between two equal edges"),
        (_activations(draw, 30, 4), [0.0, 0.1, 0.6, 1.0], 3, "four active tokens: the first band has none"),
        (_activations(draw, 25, 0), [0.0, 0.5, 1.0], 3, "no active token"),
        (f, edges, 0, "n = 0"),
        (f, edges, 1, "n = 1"),
        (torch.tensor([0.8]), [0.0, 0.2, 1.0], 2, "a single token"),
        (_activations(draw, 21, 21), [0.0, 0.1, 1.0], 30, "every token active"),
        (tied, [0.0, 0.5, 1.0], 6, "many equal values"),
        (tied, [0.0, 0.5, 1.0], 80, "many equal values, all of each band"),
    )
    return [
        Case(
            tuple(Call(each, watch=("arguments",)) for each in args),
            judge=_judge_bands,
            about="the same seed with other activations, other edges, another n, fewer tokens",
        ),
        *(case(*arguments, draw.seed(), judge=_judge_bands, about=about) for *arguments, about in cases),
    ]


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    seed = draw.seed()
    seeds = [seed, seed, *(draw.seed() for _ in range(250))]
    f, edges = _activations(draw, 60, 30), [0.0, 0.3, 0.6, 1.0]
    f = f.abs().square() * f.sign()  # so unequal that draws in proportion to the activation are seen
    watched = ("random_state", "arguments")
    calls = tuple(Call((f, edges, 4, s), watch=watched if i < 3 else ()) for i, s in enumerate(seeds))
    return [Case(calls, judge=_judge_seeds, about="the same seed twice, then 250 others")]


QUANTILE_EXAMPLES = Exercise(
    id="feature_steering.quantile_examples",
    task="Random example positions from each band of a latent's activations, from the strongest ranks to the weakest.",
    minutes=10,
    difficulty=2,
    oracle=_quantile_examples,
    fixed={
        "f": "judged by properties, varied by hand",
        "edges": "judged by properties, varied by hand; they ascend",
    },
    parts=(
        Part("the right bands, n different positions of each", 2, _band_cases),
        Part("small bands and empty ones, tiny values, equal values", 1, _odd_bands),
        Part("the seed decides, each position is as likely, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "inactive_counted",
            "Your bands count tokens on which the latent is not active. On most tokens it is not, so nearly all bands would hold nothing else. Rank only tokens above 0; an edge is a share of *their* number.",
            _sampled(_all_tokens),
        ),
        Mistake(
            "by_size",
            "You ranked by the absolute value, with negative values among the active ones. Active is what is above 0.",
            _sampled(_sizes),
        ),
        Mistake(
            "weakest_is_zero",
            "Your ranks run the wrong way: edge 0 is the *largest* activation, edge 1 the smallest.",
            _sampled(_reversed),
        ),
        Mistake(
            "bands_of_values",
            "Your edges cut the range of *values*. They are shares of ranks: the band from 0 to 0.1 holds the tenth of the active tokens that is strongest, whatever its values.",
            _sampled(_shares_of_largest),
        ),
        Mistake(
            "nested_bands",
            "Each of your bands begins at rank 0, so the strongest tokens are in all of them. A band runs from one edge to the *next*.",
            _sampled(_nested),
        ),
        Mistake(
            "rounded_down",
            "You cut off the fraction of edge · number. `int` gives 2 for 2.7; `round` is asked for, and gives 3.",
            _sampled(_rounded_down),
        ),
        Mistake(
            "rounded_up",
            "You round edge · number up. `math.ceil` gives 12 for 11.2; `round` is asked for, and gives 11.",
            _sampled(_rounded_up),
        ),
        Mistake(
            "edge_in_both",
            "The rank at an inner edge is in two of your bands. A band ends *before* the rank of its second edge.",
            _sampled(_edge_included),
        ),
        Mistake(
            "ranks_returned",
            "These are ranks, places in the sorted list. Look up which position stands there.",
            _sampled(_rank_bands),
        ),
        Mistake(
            "counted_among_active",
            "You counted positions among the active tokens: after `f[f > 0]` index 0 is the first *active* token. Translate back, for example with `(f > 0).nonzero()`.",
            _sampled(_among_active),
        ),
        Mistake(
            "order_of_the_text",
            "You cut the active tokens into bands in the order of the text. Sort them by activation first, strongest first.",
            _sampled(_text_order),
        ),
        Mistake(
            "values_returned",
            "These are activations. Positions are asked for: indices into `f`.",
            _values,
        ),
        Mistake(
            "one_flat_list",
            "This is one list for all bands. A list of lists is asked for, one for each band, even if it is empty.",
            _flat,
        ),
        Mistake(
            "with_replacement",
            "A position stands twice in a band that has at least n. Draw without replacement: shuffle the band, and take the first n.",
            _with_replacement,
        ),
        Mistake(
            "top_of_each_band",
            "Every seed gives the strongest n of each band. They are not typical of it: draw at random from the whole band.",
            _top_of_each,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gives the same positions. Shuffle with a generator that the seed sets.",
            lambda f, edges, n, seed: _quantile_examples(f, edges, n, 0),
        ),
        Mistake(
            "global_random_state",
            "The positions are right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "First make the list of active positions, strongest first. A band is then a slice of that list.",
        "The slice runs from `round(edges[i] * len(order))` to `round(edges[i + 1] * len(order))`. Slices share no rank.",
        "`torch.randperm(len(band), generator=generator)[:n]` gives n different places in a band, and all of them if it has fewer.",
    ),
    reveal="Edges are ranks rather than values because activations are skewed: the upper half of the range of values may hold one token in a hundred. And draws are random rather than strongest-first because a band's strongest tokens look like the band above. Bolukbasi et al. (2021) found that top examples suggest a clear concept where the middle of the range shows none; "
    "a page that shows all bands lets you see that.",
)
