"""Scores read off attention patterns, and the heads that stand out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# Patterns to be judged on: causal ones, and ones without a mask, where a swap of query and key shows


def _patterns(draw: RandomInputs, heads: int, length: int) -> tuple[Tensor, Tensor]:
    return draw.pattern(heads, length=length), draw.normal(heads, length, length, std=2.0).softmax(-1)


def _average(pattern: Tensor, queries: range, key: Callable[[int], int], count: int | None = None) -> Tensor:
    """For each head the mean over queries of the attention to key(query), by loops."""
    scores = torch.zeros(len(pattern))
    for head in range(len(pattern)):
        attention = [float(pattern[head, q, key(q)]) for q in queries]
        scores[head] = sum(attention) / (count or len(attention))
    return scores


# ---------------------------------------------------------------------------------------------------------------------
# induction_score


def _induction(pattern: Tensor, period: int) -> Tensor:
    """Spec."""
    return _average(pattern, range(period + 1, 2 * period + 1), lambda q: q - period + 1)


def _induction_cases(shapes: list[tuple[int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for heads, period in shapes:
            causal, free = _patterns(draw, heads, 1 + 2 * period)
            about = f"{heads} heads, period {period}"
            cases += [
                case(causal, period, about=f"{about}, causal"),
                case(free, period, about=f"{about}, without a causal mask"),
            ]
        return cases

    return cases


INDUCTION_SCORE = Exercise(
    id="induction_heads.induction_score",
    revision=2,
    fixed={
        "pattern": "probabilities",
        "pattern[1]": "two copies take at least three positions",
        "pattern[2]": "two copies take at least three positions",
        "period": "the length is 1 + 2 · period",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="For each head, the mean attention from the second copy to the token that followed the query's first occurrence.",
    minutes=8,
    difficulty=2,
    oracle=_induction,
    parts=(
        Part("random attention patterns", 2, _induction_cases([(3, 5), (2, 9)])),
        Part("one head, and short periods", 1, _induction_cases([(1, 6), (4, 2), (3, 1)])),
    ),
    mistakes=(
        Mistake(
            "same_token",
            "Your scores match attention to the *same* token's first copy (offset −period): the duplicate-token score. An induction head "
            "looks one further, at the token that **followed** it (offset −(period − 1)): it wants to know what came next.",
            lambda pattern, period: _average(pattern, range(period + 1, 2 * period + 1), lambda q: q - period),
        ),
        Mistake(
            "one_before",
            "Your scores match attention to the token *before* the first occurrence (offset −(period + 1)). The sign of the 1 is flipped: "
            "the token that followed lies at key = query − period + 1.",
            lambda pattern, period: _average(pattern, range(period + 1, 2 * period + 1), lambda q: q - period - 1),
        ),
        Mistake(
            "query_and_key_swapped",
            "Query and key are swapped: this is attention from the first copy forward into the second, which a causal mask sets to 0. "
            "Rows of a pattern are queries, columns are keys: offset −(period − 1), with a minus.",
            lambda pattern, period: _average(
                pattern.transpose(1, 2), range(period + 1, 2 * period + 1), lambda q: q - period + 1
            ),
        ),
        Mistake(
            "whole_diagonal",
            "You averaged the whole diagonal. It is longer than the second copy: its first two entries belong to queries period − 1 and period, "
            "in the first copy, where there is nothing to induce yet. Keep the last `period` entries.",
            lambda pattern, period: pattern.diagonal(1 - period, 1, 2).mean(-1),
        ),
        Mistake(
            "one_query_too_many",
            "You began at query `period`, the last token of the first copy. The second copy runs from period + 1 to 2 · period.",
            lambda pattern, period: _average(pattern, range(period, 2 * period + 1), lambda q: q - period + 1),
        ),
        Mistake(
            "last_query_missing",
            "The last query of the second copy (position 2 · period) is missing. Python's ranges leave out their end.",
            lambda pattern, period: _average(pattern, range(period + 1, 2 * period), lambda q: q - period + 1),
        ),
        Mistake(
            "bos_forgotten",
            "Your queries run from period to 2 · period − 1, as if there were no BOS. With BOS at position 0 the second copy starts at period + 1.",
            lambda pattern, period: _average(pattern, range(period, 2 * period), lambda q: q - period + 1),
        ),
        Mistake(
            "divided_by_all_queries",
            "You divided by the length of the sequence. The mean is over the `period` queries of the second copy only.",
            lambda pattern, period: _average(
                pattern, range(period + 1, 2 * period + 1), lambda q: q - period + 1, count=2 * period + 1
            ),
        ),
        Mistake(
            "both_copies_averaged",
            "You averaged over the queries of both copies. In the first copy there is nothing to induce, so it only pulls the score down.",
            lambda pattern, period: _average(
                pattern, range(period + 1, 2 * period + 1), lambda q: q - period + 1, count=2 * period
            ),
        ),
        Mistake(
            "summed",
            "You summed the attention. The score is the mean over the `period` queries, so that it lies between 0 and 1.",
            lambda pattern, period: _average(
                pattern, range(period + 1, 2 * period + 1), lambda q: q - period + 1, count=1
            ),
        ),
        Mistake(
            "averaged_over_heads",
            "You averaged over the heads. One score for each head is asked for: that is how the heads can be told apart.",
            lambda pattern, period: _induction(pattern, period).mean(),
        ),
        Mistake(
            "largest_not_mean",
            "You took the largest attention, but the mean over queries is asked for. One lucky query does not make an induction head.",
            lambda pattern, period: pattern.diagonal(1 - period, 1, 2)[:, -period:].max(-1).values,
        ),
    ),
    hints=(
        "Write down a short sequence: BOS a b c a b c, period 3. The second `a` is at position 4. Which position holds the token that came "
        "after the first `a`?",
        "Query 4 should look at key 2: key = query − (period − 1). All such pairs lie on one diagonal of the pattern.",
        "`pattern.diagonal(offset=-(period - 1), dim1=-2, dim2=-1)` has one entry for each query from period − 1 on. Only the last `period` "
        "of them belong to the second copy.",
    ),
    reveal="At the second A of the sequence A B … A, an induction head attends to B: the token *after* the first A, so that it can copy it. The "
    "query sits at q, the first A at q − period, and B one later, at q − period + 1.",
)


# ---------------------------------------------------------------------------------------------------------------------
# previous_token_score


def _previous(pattern: Tensor) -> Tensor:
    """Spec."""
    return _average(pattern, range(1, pattern.shape[1]), lambda q: q - 1)


def _previous_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for heads, length in ((3, 7), (1, 12), (4, 2)):
        causal, free = _patterns(draw, heads, length)
        cases += [
            case(causal, about=f"{heads} heads, {length} positions, causal"),
            case(free, about=f"{heads} heads, {length} positions, without a causal mask"),
        ]
    return cases


PREVIOUS_TOKEN_SCORE = Exercise(
    id="induction_heads.previous_token_score",
    revision=2,
    fixed={
        "pattern": "probabilities",
        "pattern[1]": "one position has none before it",
        "pattern[2]": "one position has none before it",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="For each head, the mean attention from every query after the first to the position just before it.",
    minutes=4,
    difficulty=1,
    oracle=_previous,
    parts=(Part("random attention patterns", 2, _previous_cases),),
    mistakes=(
        Mistake(
            "itself",
            "This is attention from each position to *itself*, the main diagonal. The position before lies one below it: offset −1.",
            lambda pattern: _average(pattern, range(1, pattern.shape[1]), lambda q: q),
        ),
        Mistake(
            "itself_everywhere",
            "This is the mean of the whole main diagonal: attention from every position, the first included, to *itself*. The position before lies "
            "one below it: offset −1.",
            lambda pattern: _average(pattern, range(pattern.shape[1]), lambda q: q),
        ),
        Mistake(
            "next_position",
            "This is attention to the *next* position (offset +1), which a causal mask sets to 0. Rows are queries, columns are keys: the "
            "position before has offset −1.",
            lambda pattern: _average(pattern, range(pattern.shape[1] - 1), lambda q: q + 1),
        ),
        Mistake(
            "divided_by_all_queries",
            "You divided by the number of all positions. The first query has no position before it, so there is one fewer.",
            lambda pattern: _average(pattern, range(1, pattern.shape[1]), lambda q: q - 1, count=pattern.shape[1]),
        ),
        Mistake(
            "two_back",
            "This is attention to the position two before. The one just before has offset −1.",
            lambda pattern: (
                _average(pattern, range(2, pattern.shape[1]), lambda q: q - 2) if pattern.shape[1] > 2 else 1 / 0
            ),
        ),
        Mistake(
            "first_position",
            "This is attention to position 0, where BOS is. Idle heads attend there; previous-token heads look one back.",
            lambda pattern: pattern[:, 1:, 0].mean(-1),
        ),
        Mistake(
            "summed",
            "You summed the attention. The score is the mean over queries, so that it lies between 0 and 1.",
            lambda pattern: _average(pattern, range(1, pattern.shape[1]), lambda q: q - 1, count=1),
        ),
        Mistake(
            "averaged_over_heads",
            "You averaged over the heads. One score for each head is asked for.",
            lambda pattern: _previous(pattern).mean(),
        ),
    ),
    hints=(
        "Query q looks at key q − 1. On which diagonal of the pattern do these entries lie?",
        "`pattern.diagonal(offset=-1, dim1=-2, dim2=-1)` has one entry for each query after the first.",
    ),
    reveal="The entries (q, q − 1) form the diagonal just below the main one. It has one entry fewer than there are positions, so its mean is "
    "the mean over the queries that have a position before them.",
)
