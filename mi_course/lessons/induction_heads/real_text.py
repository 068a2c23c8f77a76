"""Induction in text that was not made for it: tokens repeat wherever they repeat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# text_induction_score


def _average(
    pattern: Tensor,
    tokens: Tensor,
    keys: Callable[[list[int], int], list[int]] = lambda earlier, q: [j + 1 for j in earlier],
    count: Callable[[int, int], int] = lambda repeated, length: repeated,
    per_occurrence: bool = False,
) -> Tensor:
    """For each head the mean, over queries whose token has occurred before, of the attention to keys(occurrences, q)."""
    scores = torch.zeros(len(pattern), dtype=torch.float64)
    repeated = 0
    ids = [int(token) for token in tokens]
    for q in range(len(ids)):
        earlier = [j for j in range(q) if ids[j] == ids[q]]
        if not earlier:
            continue
        repeated += 1
        for head in range(len(pattern)):
            attention = sum(float(pattern[head, q, key]) for key in keys(earlier, q) if 0 <= key < len(ids))
            scores[head] += attention / len(earlier) if per_occurrence else attention
    below = count(repeated, len(ids))
    return (scores / below if repeated else scores).float()


def _text_induction_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Oracle: query by query, occurrence by occurrence."""
    return _average(pattern, tokens)


def _any_occurrence(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Occurrences before and after the query, in all queries whose token occurs twice."""
    same = (tokens[:, None] == tokens) & ~torch.eye(len(tokens), dtype=torch.bool)
    after = torch.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    rows = same.any(1)
    return (pattern * after).sum(-1)[:, rows].mean(-1) if rows.any() else torch.zeros(len(pattern))


def _with_itself(pattern: Tensor, tokens: Tensor) -> Tensor:
    """The query's own position counted as an occurrence."""
    same = (tokens[:, None] == tokens).tril()
    after = torch.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    return (pattern * after).sum(-1).mean(-1)


def _nan_without_repetition(pattern: Tensor, tokens: Tensor) -> Tensor:
    scores = _average(pattern, tokens)
    return scores if len(set(tokens.tolist())) < len(tokens) else scores * float("nan")


def _text_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for heads, length, vocab in ((3, 12, 5), (2, 17, 4), (4, 9, 3), (1, 90, 70)):
        tokens = draw.integers(0, vocab, length)
        tokens[length // 2] = vocab  # occurs once
        about = f"{heads} heads, {length} tokens of {vocab + 1} kinds"
        cases += [
            case(draw.pattern(heads, length=length), tokens, about=f"{about}, causal"),
            case(draw.normal(heads, length, length, std=2.0).softmax(-1), tokens, about=f"{about}, without a mask"),
        ]
    return cases


def _edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    doubled = torch.tensor([3, 7, 7, 5, 7, 3])
    calls = (
        Call((draw.pattern(2, length=6), doubled)),
        Call((draw.pattern(1, length=6), torch.tensor([0, 2, 4, 2, 1, 3]))),
        Call((draw.pattern(3, length=5), torch.tensor([4, 1, 0, 3, 2]))),
        Call((draw.pattern(2, length=1), torch.tensor([6]))),
    )
    return [Case(calls=calls, about="a token twice in a row, one head, nothing repeated, one token")]


TEXT_INDUCTION_SCORE = Exercise(
    id="induction_heads.text_induction_score",
    fixed={"pattern": "probabilities", "pattern>=0": "probabilities", "result>=0": "a share", "result<=1": "a share"},
    task="For each head, the mean attention that repeated tokens pay to what followed their earlier occurrences, in any text.",
    minutes=10,
    difficulty=2,
    oracle=_text_induction_score,
    parts=(
        Part("random tokens with many repetitions", 2, _text_cases),
        Part("a token twice in a row, and nothing repeated", 1, _edge_cases),
    ),
    mistakes=(
        Mistake(
            "same_token",
            "This is attention to the earlier occurrences *themselves*. An induction head looks at what followed each of them: key j + 1 for an "
            "occurrence at j.",
            lambda pattern, tokens: _average(pattern, tokens, lambda earlier, q: earlier),
        ),
        Mistake(
            "one_before",
            "This is attention to the tokens *before* the earlier occurrences. What followed an occurrence at j lies at j + 1.",
            lambda pattern, tokens: _average(pattern, tokens, lambda earlier, q: [j - 1 for j in earlier]),
        ),
        Mistake(
            "latest_only",
            "Only the latest earlier occurrence was counted. A token may have occurred several times: add up the attention to what followed each.",
            lambda pattern, tokens: _average(pattern, tokens, lambda earlier, q: [earlier[-1] + 1]),
        ),
        Mistake(
            "first_only",
            "Only the first occurrence was counted. A token may have occurred several times: add up the attention to what followed each.",
            lambda pattern, tokens: _average(pattern, tokens, lambda earlier, q: [earlier[0] + 1]),
        ),
        Mistake(
            "averaged_over_occurrences",
            "You averaged over the earlier occurrences. A query's attention is shared among them: add it up, and average over queries.",
            lambda pattern, tokens: _average(pattern, tokens, per_occurrence=True),
        ),
        Mistake(
            "divided_by_all_queries",
            "You divided by the number of all positions. Only queries whose token has occurred before have anything to look for: average over those.",
            lambda pattern, tokens: _average(pattern, tokens, count=lambda repeated, length: length),
        ),
        Mistake(
            "summed",
            "You summed over the queries. The score is their mean, so that it lies between 0 and 1.",
            lambda pattern, tokens: _average(pattern, tokens, count=lambda repeated, length: 1),
        ),
        Mistake(
            "later_occurrences",
            "Occurrences *after* the query are counted too. At the time of the query they have not been read.",
            _any_occurrence,
        ),
        Mistake(
            "own_position",
            "The query's own position counts as an occurrence here, so every token is a repeated one. Only strictly earlier positions count.",
            _with_itself,
        ),
        Mistake(
            "itself_left_out",
            "Where a token stands twice in a row, what followed the first is the query itself, and you left it out. It counts.",
            lambda pattern, tokens: _average(pattern, tokens, lambda earlier, q: [j + 1 for j in earlier if j + 1 < q]),
        ),
        Mistake(
            "query_and_key_swapped",
            "Query and key are swapped. Rows of a pattern are queries, columns are keys.",
            lambda pattern, tokens: _average(pattern.transpose(1, 2), tokens),
        ),
        Mistake(
            "averaged_over_heads",
            "You averaged over the heads. One score for each head is asked for.",
            lambda pattern, tokens: _average(pattern, tokens).mean(),
        ),
        Mistake(
            "nan_without_repetition",
            "Right, but where no token is repeated the result is 0/0. There the score is 0 for every head.",
            _nan_without_repetition,
            lambda case, observation: (
                any(len(set(call.args[1].tolist())) == len(call.args[1]) for call in case.calls)
                and any(isinstance(r.value, Tensor) and r.value.isnan().any() for r in observation.replies)
            ),
        ),
    ),
    hints=(
        "`tokens[:, None] == tokens` is a table: does the token of this row (query) equal that of this column? Which part of it lies strictly "
        "before the query?",
        "`same.tril(-1)` marks earlier occurrences. Shifted by one column to the right it marks what followed them.",
        "Multiply the pattern by that table, sum over keys, keep the rows (queries) that have an earlier occurrence, and take the mean.",
    ),
    reveal="On a sequence written twice this is the induction score. In a story it asks the same of every token that comes again, a name or a comma. "
    "Attention is added up over occurrences, because a head that divides it among three places has not found less than one that picks a single one.",
)
