"""A linear map from activations to beliefs: does it hold for what it was not fitted on, and what must it tell apart?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.interp.processes import bayes_beliefs, rrxor

# ---------------------------------------------------------------------------------------------------------------------
# held_out_r2


def _least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Weights with the intercept in the last row, from the pseudo-inverse."""
    ones = torch.ones(len(x), 1, dtype=torch.double)
    return torch.linalg.pinv(torch.cat([x.double(), ones], 1)) @ y.double()


def _apply(weights: Tensor, x: Tensor) -> Tensor:
    return torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.double)], 1) @ weights


def _held_out_r2(x: Tensor, y: Tensor, groups: Tensor) -> float:
    """Oracle: number by number, one group after the other."""
    labels = groups.tolist()
    missed = scattered = 0.0
    for label in sorted(set(labels)):
        rest = [i for i, other in enumerate(labels) if other != label]
        out = [i for i, other in enumerate(labels) if other == label]
        guesses = _apply(_least_squares(x[rest], y[rest]), x[out])
        for guess, i in zip(guesses.tolist(), out, strict=True):
            for k in range(y.shape[1]):
                mean = sum(float(y[j, k]) for j in rest) / len(rest)
                missed += (float(y[i, k]) - guess[k]) ** 2
                scattered += (float(y[i, k]) - mean) ** 2
    return 1 - missed / scattered


_Split = Iterator[tuple[Tensor, Tensor]]


def _splits(groups: Tensor) -> _Split:
    for label in groups.unique():
        yield groups != label, groups == label


def _r2(
    x: Tensor, y: Tensor, splits: _Split, mean: Callable[[Tensor, Tensor, Tensor], Tensor], fit: Callable | None = None
) -> float:
    """A pooled R² with other splits, another mean, or another fit."""
    missed = scattered = torch.zeros(y.shape[1], dtype=torch.double)
    for train, test in splits:
        weights = (fit or _least_squares)(x[train], y[train])
        missed = missed + (y[test] - _apply(weights, x[test])).square().sum(0)
        scattered = scattered + (y[test] - mean(y, train, test)).double().square().sum(0)
    return float(1 - missed.sum() / scattered.sum())


def _training_mean(y: Tensor, train: Tensor, test: Tensor) -> Tensor:
    return y[train].mean(0)


def _everything(groups: Tensor) -> _Split:
    every = torch.ones(len(groups), dtype=torch.bool)
    yield every, every


def _one_sample_at_a_time(groups: Tensor) -> _Split:
    yield from _splits(torch.arange(len(groups)))


def _sides_exchanged(groups: Tensor) -> _Split:
    for train, test in _splits(groups):
        yield test, train


def _without_intercept(x: Tensor, y: Tensor) -> Tensor:
    weights = torch.linalg.pinv(x.double()) @ y.double()
    return torch.cat([weights, torch.zeros(1, y.shape[1], dtype=torch.double)])


def _per_group(x: Tensor, y: Tensor, groups: Tensor) -> float:
    scores = [_r2(x, y, iter([split]), _training_mean) for split in _splits(groups)]
    return sum(scores) / len(scores)


def _per_column(x: Tensor, y: Tensor, groups: Tensor) -> float:
    columns = [_held_out_r2(x, y[:, k : k + 1], groups) for k in range(y.shape[1])]
    return sum(columns) / len(columns)


def _correlation(x: Tensor, y: Tensor, groups: Tensor) -> float:
    guesses = torch.zeros_like(y)
    for train, test in _splits(groups):
        guesses[test] = _apply(_least_squares(x[train], y[train]), x[test]).float()
    return float(torch.corrcoef(torch.stack([guesses.flatten(), y.flatten()]))[0, 1] ** 2)


def _r2_data(
    draw: RandomInputs, sizes: tuple[int, ...], d: int, states: int, noise: float, shift: float
) -> tuple[Tensor, ...]:
    """Groups of these sizes, each with an offset of its own in x and y, so that it matters what is held out."""
    labels = torch.tensor([7 * i + 2 for i in draw.permutation(len(sizes))])
    groups = torch.cat([label.expand(size) for label, size in zip(labels, sizes, strict=True)])
    groups = groups[torch.tensor(draw.permutation(len(groups)))]
    weights = draw.normal(d, states)
    x, y = draw.normal(len(groups), d, mean=0.5), torch.zeros(len(groups), states)
    for label in labels:
        rows = groups == label
        x[rows] += shift * draw.normal(d)
        y[rows] = x[rows] @ weights + 0.4 * shift * draw.normal(states) + 1.5
    y = (y + draw.normal(*y.shape, std=noise)) * draw.uniform(states, low=0.3, high=2.0)
    return x, y, groups


def _r2_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = (((9, 4, 6, 8, 5), 4, 3, 0.6, 0.7), ((12, 7, 10), 3, 2, 1.0, 0.8), ((6, 9, 5, 7, 8, 4), 5, 4, 0.3, 1.0))
    return [
        case(*_r2_data(draw, *setting), about=f"{len(setting[0])} groups of {setting[0]}", rtol=2e-3, atol=2e-4)
        for setting in settings
    ]


def _r2_bad_cases(draw: RandomInputs, size: str) -> list[Case]:
    x, y, groups = _r2_data(draw, (12, 9, 10), 3, 2, 0.3, 0.5)
    noise = draw.normal(*y.shape)
    # In one of two groups the relation is turned around, so that a map from the other is worse than the mean.
    sides = torch.tensor([5] * 8 + [3] * 11)
    features, slopes = draw.normal(19, 2), draw.normal(2, 1)
    turned = features @ slopes * torch.where(sides == 5, -1.0, 1.0)[:, None] + draw.normal(19, 1, std=0.05)
    alone = torch.tensor([40 - 3 * i for i in draw.permutation(14)])
    return [
        case(x, noise, groups, about="targets that have nothing to do with x", rtol=2e-3, atol=2e-4),
        case(features, turned, sides, about="two groups, one state, opposite relations", rtol=2e-3, atol=2e-4),
        case(x[:14], y[:14], alone, about="every sample a group of its own", rtol=2e-3, atol=2e-4),
    ]


HELD_OUT_R2 = Exercise(
    id="latent_structure.held_out_r2",
    fixed={
        "x[0]": "a map has to be fitted to the rest",
        "y[0]": "a map has to be fitted to the rest",
        "groups[0]": "a map has to be fitted to the rest",
        "result<=1": "a share of the variance",
    },
    task="The R² of affine maps from x to y, each judged on one group of samples that it was not fitted on.",
    minutes=10,
    difficulty=2,
    oracle=_held_out_r2,
    parts=(
        Part("several groups of different size", 2, _r2_cases),
        Part("unrelated targets, two groups, groups of one", 1, _r2_bad_cases),
    ),
    mistakes=(
        Mistake(
            "nothing_held_out",
            "You fitted and judged on the same samples. With enough dimensions such an R² is always high: hold each group out, fit on the rest, and judge there.",
            lambda x, y, groups: _r2(x, y, _everything(groups), lambda y, train, test: y.mean(0)),
        ),
        Mistake(
            "groups_split",
            "You held out single samples, so that others of the same group were in the fit. A group leaves as a whole: the map must not have seen any of it.",
            lambda x, y, groups: _r2(x, y, _one_sample_at_a_time(groups), _training_mean),
        ),
        Mistake(
            "sides_exchanged",
            "You fitted on the group and judged on the rest. Fit on everything but the group, and judge on the group.",
            lambda x, y, groups: _r2(x, y, _sides_exchanged(groups), _training_mean),
        ),
        Mistake(
            "mean_of_the_test_part",
            "Your residuals are compared with the distance to the mean of the *held-out* part. Nobody who predicts knows that mean; compare with the mean of the training part.",
            lambda x, y, groups: _r2(x, y, _splits(groups), lambda y, train, test: y[test].mean(0)),
        ),
        Mistake(
            "mean_of_everything",
            "Your residuals are compared with the distance to the mean of all samples, the held-out ones among them. Take the mean of the training part.",
            lambda x, y, groups: _r2(x, y, _splits(groups), lambda y, train, test: y.mean(0)),
        ),
        Mistake(
            "no_intercept",
            "Your maps have no b, so they pass through the origin. An affine map is x A + b.",
            lambda x, y, groups: _r2(x, y, _splits(groups), _training_mean, _without_intercept),
        ),
        Mistake(
            "mean_over_groups",
            "You averaged the R² of the groups. Small groups with little scatter then decide everything. Add up the squared errors of all groups, and the squared distances, and divide once.",
            _per_group,
        ),
        Mistake(
            "mean_over_states",
            "You averaged the R² of the columns of y. Add the squared errors over all columns and divide once.",
            _per_column,
        ),
        Mistake(
            "squared_correlation",
            "This is a squared correlation. It forgives every wrong scale and offset, and is never negative; R² is 1 − Σ errors² / Σ distances².",
            _correlation,
        ),
        Mistake(
            "not_below_zero",
            "Your result stops at zero. A map that does worse than the mean has a negative R², and that is worth knowing.",
            lambda x, y, groups: max(0.0, _held_out_r2(x, y, groups)),
            degenerate=True,
        ),
        Mistake(
            "share_missed",
            "This is the share of the variance that is *missed*. Subtract it from 1.",
            lambda x, y, groups: 1 - _held_out_r2(x, y, groups),
        ),
        Mistake(
            "one_group_alone",
            "You held out one group only. Each group has its turn.",
            lambda x, y, groups: _r2(x, y, iter([next(_splits(groups))]), _training_mean),
        ),
    ),
    hints=(
        "A loop over `groups.unique()`. `held = groups == group` is a mask; `~held` is the training part.",
        "`A, b = fit_affine(x[~held], y[~held])`. Two running sums: the squared errors on `held`, and the squared distances there from `y[~held].mean(0)`.",
        "After the loop: `1 - errors / distances`, as a float.",
    ),
    reveal="What may not be in both parts decides what the number means. If contexts are held out, the same belief is still in the training part, reached by another string, and 64 dimensions can store 36 clusters. Only whole beliefs held out ask whether the map *goes on* where it was never fitted: geometry, instead of a list.",
)


# ---------------------------------------------------------------------------------------------------------------------
# distinguishing_pairs


def _gaps(beliefs: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
    """The largest difference of each pair in beliefs, and in next-token probabilities."""
    beliefs = beliefs.double()
    expected = beliefs @ T.double().sum(2).T
    return tuple((rows[:, None] - rows[None]).abs().amax(-1) for rows in (beliefs, expected))  # type: ignore[return-value]


def _distinguishing_pairs(beliefs: Tensor, T: Tensor, tol: float) -> list[tuple[int, int]]:
    """Oracle: every pair and every number by itself."""
    n, n_states = beliefs.shape
    n_tokens = len(T)

    def expected(i: int, x: int) -> float:
        return sum(float(beliefs[i, s]) * float(T[x, s, r]) for s in range(n_states) for r in range(n_states))

    pairs = []
    for i in range(n):
        for j in range(i + 1, n):
            same_tokens = all(abs(expected(i, x) - expected(j, x)) <= tol for x in range(n_tokens))
            same_belief = all(abs(float(beliefs[i, s]) - float(beliefs[j, s])) <= tol for s in range(n_states))
            if same_tokens and not same_belief:
                pairs.append((i, j))
    return pairs


def _pairs(where: Tensor, ordered: bool = True) -> list[tuple[int, int]]:
    kept = where.triu(1) if ordered else where
    return [(i, j) for i, j in kept.nonzero().tolist()]


def _random_process(draw: RandomInputs, n_tokens: int, n_states: int) -> Tensor:
    flat = draw.normal(n_states, n_tokens * n_states, std=1.2).softmax(-1)
    return flat.view(n_states, n_tokens, n_states).permute(1, 0, 2).contiguous()


def _planted(draw: RandomInputs, n_tokens: int, n_states: int, n: int, tol: float) -> tuple[Tensor, Tensor]:
    """Beliefs of which some share their next-token probabilities, no pair of them near the tolerance.

    Some are the same belief up to 0.6 tol in every state, some expect the same tokens up to 0.6 tol.
    """
    while True:
        T = _random_process(draw, n_tokens, n_states)
        emit = T.sum(2).T.double()  # [state, token]
        free = torch.linalg.svd(emit.T)[2][torch.linalg.matrix_rank(emit) :]  # directions that change no probability
        rows = [draw.normal(n_states).softmax(-1).double() for _ in range(3)]
        while len(rows) < n - 1:
            start = rows[draw.integer(0, 3)]
            way = draw.normal(len(free)).double() @ free
            rows.append(start + way / way.abs().max() * draw.number(0.3, 0.9) * float(start.min()))
        nudge = torch.ones(n_states, dtype=torch.double)
        nudge[torch.tensor(draw.permutation(n_states)[: n_states // 2])] = -1
        nudge = nudge - nudge.mean()
        rows.append(rows[draw.integer(0, n - 1)] + 0.6 * tol * nudge / nudge.abs().max())
        beliefs = torch.stack([rows[i] for i in draw.permutation(n)]).float()
        gaps = [gap.triu(1) for gap in _gaps(beliefs, T)]
        clear = all(bool(((gap < 0.65 * tol) | (gap > 1.5 * tol)).all()) for gap in gaps)
        wanted = _pairs((gaps[1] <= tol) & (gaps[0] > tol))
        if clear and bool((beliefs > 0).all()) and 3 <= len(wanted) <= n * (n - 1) // 2 - 4:
            return beliefs, T


def _pair_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n_tokens, n_states, n, tol in ((3, 5, 9, 0.01), (2, 4, 7, 0.005), (4, 6, 8, 0.002)):
        calls = [Call((*_planted(draw, n_tokens, n_states, n, tol), tol), watch=("arguments",)) for _ in range(2)]
        cases.append(Case(tuple(calls), about=f"twice {n} beliefs over {n_states} states, {n_tokens} tokens"))
    return cases


def _one_sided_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Differences that are larger to one side than to the other: of beliefs, then of next-token probabilities."""
    tol = 0.01
    move = draw.normal(4, 4).softmax(-1)
    alike = torch.stack([0.3 * move, 0.7 * move])
    side = torch.tensor([-1.8, 0.6, 0.6, 0.6]) * tol
    start = torch.tensor([0.3, 0.25, 0.25, 0.2])
    beliefs = torch.stack([start, start + side, start, start - side])
    # Tokens 0 to 2 name states 0 to 2; token 3 is that of both others.
    emit = torch.eye(5)[:, :4]
    emit[4, 3] = 1
    named = torch.einsum("sx,sr->xsr", emit, draw.normal(5, 5).softmax(-1))
    first = torch.tensor([0.2, 0.2, 0.2, 0.3, 0.1])
    moved = first + torch.tensor([0, 0, 0, -0.1, 0.1])
    tilted = moved + torch.tensor([-1.8, 0.6, 0.6, 0.6, 0]) * tol
    other = moved - torch.tensor([-1.8, 0.6, 0.6, 0.6, 0]) * tol
    # Each token of these two is within the tolerance, and the sum of their differences is not.
    spread = moved + torch.tensor([0.6, -0.6, 0.6, -0.6, 0]) * tol
    swapped = first + torch.tensor([0, 0.1, -0.1, 0, 0])  # token 0 is as likely as in the first, others are not
    return [
        case(beliefs, alike, tol, about="beliefs that differ more to one side"),
        case(torch.stack([tilted, first, other, moved, swapped]), named, tol, about="tokens that differ to one side"),
        case(torch.stack([first, spread, swapped]), named, tol, about="many tokens that differ by little"),
    ]


def _pair_edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    T = rrxor()
    # Two states after the first bit, either of which emits both tokens alike.
    after = torch.tensor(
        [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0]]
    )
    strings = torch.tensor([[0, 0, 0, 1], [1, 1, 0, 0]])
    reached = bayes_beliefs(strings, T).flatten(0, 1)
    apart = torch.eye(5)[[3, 4, 1]]
    return [
        case(after, T, 1e-3, about="beliefs of RRXOR that are sure, or nearly"),
        case(reached, T, 1e-4, about="beliefs that strings of RRXOR lead to"),
        case(apart, T, 1e-3, about="three that expect different tokens"),
        case(after[:1], T, 1e-3, about="a single belief"),
        case(torch.ones(3, 1), _random_process(draw, 3, 1), 1e-3, about="a single state"),
        case(torch.eye(3)[[0, 2, 0]], _random_process(draw, 1, 3), 1e-3, about="a single token"),
    ]


def _by_tokens(beliefs: Tensor, T: Tensor, tol: float) -> list[tuple[int, int]]:
    return _pairs(_gaps(beliefs, T)[1] <= tol)


def _wrong_gaps(beliefs: Tensor, emit: Tensor, tol: float) -> list[tuple[int, int]]:
    """With next-token probabilities from another table [state, token]."""
    expected = beliefs.double() @ emit.double()
    same = (expected[:, None] - expected[None]).abs().amax(-1) <= tol
    return _pairs(same & (_gaps(beliefs, beliefs.new_zeros(1, *[beliefs.shape[1]] * 2))[0] > tol))


def _most_likely_token(beliefs: Tensor, T: Tensor, tol: float) -> list[tuple[int, int]]:
    best = (beliefs @ T.sum(2).T).argmax(-1)
    return _pairs((best[:, None] == best[None]) & (_gaps(beliefs, T)[0] > tol))


def _summed(beliefs: Tensor, T: Tensor, tol: float) -> list[tuple[int, int]]:
    beliefs = beliefs.double()
    expected = beliefs @ T.double().sum(2).T
    belief_gap, token_gap = ((rows[:, None] - rows[None]).abs().sum(-1) for rows in (beliefs, expected))
    return _pairs((token_gap <= tol) & (belief_gap > tol))


def _in_a_row(beliefs: Tensor, T: Tensor, tol: float) -> list[tuple[int, int]]:
    return [(i, j) for i, j in _distinguishing_pairs(beliefs, T, tol) if j == i + 1]


DISTINGUISHING_PAIRS = Exercise(
    id="latent_structure.distinguishing_pairs",
    fixed={
        "T": "probabilities, which sum to 1 for each state",
        "beliefs": "distributions, no two of them near the tolerance",
        "tol": "no two beliefs are near it; three values are tried",
        "beliefs[1]": "with fewer states beliefs come near the tolerance",
        "T[0]": "with fewer tokens the probabilities no longer sum to 1",
        "T[1]": "with fewer states beliefs come near the tolerance",
    },
    task="All pairs of beliefs that differ and yet expect the same next token.",
    minutes=8,
    difficulty=2,
    oracle=_distinguishing_pairs,
    parts=(
        Part("random processes", 2, _pair_cases),
        Part("differences to one side", 1, _one_sided_cases),
        Part("beliefs of RRXOR, no pair; one belief, one state, one token", 1, _pair_edge_cases),
    ),
    mistakes=(
        Mistake(
            "equal_beliefs_too",
            "Some of your pairs are the same belief twice. Equal beliefs expect equal tokens and tell nothing; the beliefs must differ by more than `tol` somewhere.",
            _by_tokens,
        ),
        Mistake(
            "other_way_round",
            "These pairs differ in what they expect next. Wanted are pairs that agree there and differ in the belief.",
            lambda beliefs, T, tol: _pairs(_gaps(beliefs, T)[1] > tol),
        ),
        Mistake(
            "all_that_differ",
            "These are all pairs of different beliefs. They must also expect the same next token, each of the tokens within `tol`.",
            lambda beliefs, T, tol: _pairs(_gaps(beliefs, T)[0] > tol),
        ),
        Mistake(
            "both_orders",
            "Each pair is there twice, as (i, j) and as (j, i). Keep those with i < j.",
            lambda beliefs, T, tol: _pairs((_gaps(beliefs, T)[1] <= tol) & (_gaps(beliefs, T)[0] > tol), ordered=False),
        ),
        Mistake(
            "larger_first",
            "Your pairs have the larger index first. Write (i, j) with i < j.",
            lambda beliefs, T, tol: [(j, i) for i, j in _distinguishing_pairs(beliefs, T, tol)],
        ),
        Mistake(
            "new_state_for_token",
            "You summed T over its tokens: that is where the process will be, and it says nothing about what is emitted. For the next token sum over the *new state*, the last axis.",
            lambda beliefs, T, tol: _wrong_gaps(beliefs, T.sum(0), tol),
        ),
        Mistake(
            "old_state_summed",
            "You summed T over the state that is left, and applied it to the belief as if it were about the state that is reached. P(x | s) sums T[x, s, r] over r, the last axis.",
            lambda beliefs, T, tol: _wrong_gaps(beliefs, T.sum(1).T, tol),
        ),
        Mistake(
            "first_token_only",
            "You compared the probability of one token alone. With more than two tokens the others may differ: compare all of them.",
            lambda beliefs, T, tol: _wrong_gaps(beliefs, T.sum(2).T[:, :1], tol),
        ),
        Mistake(
            "most_likely_token",
            "You asked whether the *most likely* token is the same. The probabilities must be, each within `tol`.",
            _most_likely_token,
        ),
        Mistake(
            "differences_summed",
            "You added the differences up and held the sum against `tol`. It is the largest difference, over tokens or over states, that counts.",
            _summed,
        ),
        Mistake(
            "neighbors_only",
            "You compared each belief with the next one only. Every pair is asked for.",
            _in_a_row,
        ),
    ),
    hints=(
        "The next-token probabilities of a belief are `belief @ T.sum(2).T`: over the new states, the last axis, T sums to P(x | s).",
        "Two tables [n n] of largest differences, one of beliefs and one of next-token probabilities: `(rows[:, None] - rows[None]).abs().amax(-1)`.",
        "Keep pairs with the second table ≤ tol and the first > tol, above the diagonal: `.triu(1).nonzero()`.",
    ),
    reveal="These pairs are what tells a belief from a next-token distribution: a model that only stored what comes next would have them in one place. They expect the same next token, and differ in what comes *after* it.",
)
