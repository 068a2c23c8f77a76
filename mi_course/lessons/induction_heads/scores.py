"""Scores read off attention patterns, and the heads that stand out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref

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
        "pattern[1]": "two copies take at least five positions",
        "pattern[2]": "two copies take at least five positions",
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
        Part("one head, and a period of 2", 1, _induction_cases([(1, 6), (4, 2)])),
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


# ---------------------------------------------------------------------------------------------------------------------
# top_heads


def _top_heads(scores: Tensor, threshold: float) -> list[tuple[int, int]]:
    """Oracle: take the highest, repeatedly."""
    left = {
        (layer, head): float(scores[layer, head])
        for layer in range(len(scores))
        for head in range(scores.shape[1])
        if float(scores[layer, head]) > threshold
    }
    found = []
    while left:
        found.append(max(left, key=left.__getitem__))
        del left[found[-1]]
    return found


def _ranked(
    scores: Tensor, keep: Callable[[float], bool], key: Callable[[float], float] = lambda s: -s
) -> list[tuple[int, int]]:
    heads = [
        (layer, head)
        for layer in range(len(scores))
        for head in range(scores.shape[1])
        if keep(float(scores[layer, head]))
    ]
    return sorted(heads, key=lambda pair: key(float(scores[pair])))


def _scores_with_edges(draw: RandomInputs, layers: int, heads: int) -> tuple[Tensor, float]:
    """Scores of both signs that float32 represents exactly, one of them equal to the threshold."""
    values = torch.tensor(draw.permutation(layers * heads)).reshape(layers, heads)
    scores = values / 16 - 1.0
    return scores, float(scores.flatten().sort().values[layers * heads // 2])


def _top_heads_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for layers, heads in ((4, 3), (3, 7), (6, 6)):
        scores, threshold = _scores_with_edges(draw, layers, heads)
        cases.append(
            case(scores, threshold, about=f"{layers} layers of {heads} heads, one score equal to the threshold")
        )
    scores, _ = _scores_with_edges(draw, 3, 4)
    return [*cases, case(scores, 50.0, about="no score above the threshold")]


TOP_HEADS = Exercise(
    id="induction_heads.top_heads",
    revision=2,
    fixed={
        "scores=0": "equal scores may come in any order",
    },
    task="The heads whose score is above the threshold, as (layer, head), highest first.",
    minutes=5,
    difficulty=1,
    oracle=_top_heads,
    parts=(Part("random scores", 2, _top_heads_cases),),
    mistakes=(
        Mistake(
            "head_first",
            "Your pairs are (head, layer). Layer comes first: head 6 of layer 18 is 18.6.",
            lambda scores, threshold: [(h, layer) for layer, h in _top_heads(scores, threshold)],
        ),
        Mistake(
            "lowest_first",
            "The right heads, lowest first. The strongest belongs at the front.",
            lambda scores, threshold: _top_heads(scores, threshold)[::-1],
        ),
        Mistake(
            "unsorted",
            "The right heads, in the order of the table. Sort them by score, highest first.",
            lambda scores, threshold: sorted(_top_heads(scores, threshold)),
        ),
        Mistake(
            "threshold_included",
            "A head whose score *equals* the threshold is in your list. Above means greater: `>`, not `>=`.",
            lambda scores, threshold: _ranked(scores, lambda s: s >= threshold),
        ),
        Mistake(
            "threshold_ignored",
            "Your list contains every head. Keep those above the threshold.",
            lambda scores, threshold: _ranked(scores, lambda s: True),
        ),
        Mistake(
            "below_threshold",
            "These are the heads at or below the threshold.",
            lambda scores, threshold: _ranked(scores, lambda s: s <= threshold),
        ),
        Mistake(
            "absolute_value",
            "You ranked by absolute value, which lets strongly negative scores in.",
            lambda scores, threshold: _ranked(scores, lambda s: abs(s) > threshold, lambda s: -abs(s)),
        ),
        Mistake(
            "flat_index",
            "These are positions in the flattened table. Layer and head are the quotient and the remainder by the number of heads: "
            "`divmod(index, n_heads)`.",
            lambda scores, threshold: [layer * scores.shape[1] + h for layer, h in _top_heads(scores, threshold)],
        ),
        Mistake(
            "divided_by_layers",
            "You divided the flat index by the number of *layers*. A row of the table has one entry for each head: `divmod(index, n_heads)`.",
            lambda scores, threshold: [
                divmod(layer * scores.shape[1] + h, scores.shape[0]) for layer, h in _top_heads(scores, threshold)
            ],
        ),
    ),
    hints=(
        "Collect (score, layer, head) for every head above the threshold, then sort.",
        "`sorted(..., reverse=True)` on tuples that begin with the score puts the highest first. Return only (layer, head) of each.",
    ),
    reveal="Two loops, a comparison and a sort. `(scores > threshold).nonzero()` finds the heads in one line, but in the order of the table.",
)


# ---------------------------------------------------------------------------------------------------------------------
# score_hook


_THREE_LAYERS = {"n_layers": 3, "n_heads": 4, "d_model": 8, "d_head": 2, "d_vocab": 11, "n_ctx": 16, "attn_only": True}


def _score_hook(scores: Tensor, period: int) -> Callable[[Tensor, object], None]:
    """Oracle: by loops over the batch."""

    def hook(pattern: Tensor, hook) -> None:
        rows = [_induction(sequence, period) for sequence in pattern]
        for head in range(pattern.shape[1]):
            scores[hook.layer(), head] = sum(float(row[head]) for row in rows) / len(rows)

    return hook


def _hook_with(write: Callable[[Tensor, int, Tensor, int], object]) -> Callable[[Tensor, int], Callable]:
    """A wrong score_hook that writes by write(scores, layer, pattern, period)."""

    def score_hook(scores: Tensor, period: int) -> Callable[[Tensor, object], object]:
        def hook(pattern: Tensor, hook) -> object:
            return write(scores, hook.layer(), pattern, period)

        return hook

    return score_hook


def _batch_mean(pattern: Tensor, period: int) -> Tensor:
    return torch.stack([_induction(sequence, period) for sequence in pattern]).mean(0)


def _put(scores: Tensor, index: object, value: object) -> None:
    scores[index] = value


def _add(scores: Tensor, index: object, value: object) -> None:
    scores[index] += value


def _put_and_return(scores: Tensor, index: object, value: object) -> Tensor:
    scores[index] = value
    return scores[index]


def _score_hook_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, period, layers in ((3, 4, (0, 1, 2)), (2, 6, (2, 0)), (1, 5, (1,))):
        model = model_ref(_THREE_LAYERS, draw.seed())
        # Not zero at first, so that adding instead of writing shows.
        scores = draw.normal(3, 4)
        feed = []
        for layer in layers:
            pattern = draw.normal(batch, 4, 1 + 2 * period, 1 + 2 * period, std=2.0).softmax(-1)
            feed.append((pattern, hook_ref(model, f"blocks.{layer}.attn.hook_pattern")))
        about = f"batch {batch}, period {period}, patterns of layers {', '.join(map(str, layers))}"
        cases.append(case(scores, period, driver="hook_factory", options={"feed": feed}, about=about))
    return cases


SCORE_HOOK = Exercise(
    id="induction_heads.score_hook",
    revision=2,
    fixed={
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="A hook that writes the batch mean of its layer's induction scores into a table, so that one pass scores every head.",
    minutes=8,
    difficulty=2,
    oracle=_score_hook,
    parts=(Part("several layers, batches and periods", 3, _score_hook_cases),),
    mistakes=(
        Mistake(
            "always_layer_0",
            "Every layer was written into row 0 (or each overwrote the other). Inside a hook, `hook.layer()` says whose pattern this is.",
            _hook_with(lambda scores, layer, pattern, period: _put(scores, 0, _batch_mean(pattern, period))),
        ),
        Mistake(
            "added",
            "You added to what was in the table. The hook *writes* the score, so that a second pass gives the same table.",
            _hook_with(lambda scores, layer, pattern, period: _add(scores, layer, _batch_mean(pattern, period))),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first sequence of the batch was scored. Take the mean over the batch.",
            _hook_with(lambda scores, layer, pattern, period: _put(scores, layer, _induction(pattern[0], period))),
        ),
        Mistake(
            "summed_over_batch",
            "You summed over the batch. The table should not depend on how many sequences there are: take the mean.",
            _hook_with(
                lambda scores, layer, pattern, period: _put(scores, layer, _batch_mean(pattern, period) * len(pattern))
            ),
        ),
        Mistake(
            "score_returned",
            "The table is right, but the hook returns the scores. Whatever a hook returns *replaces* the activation, so the model would go on "
            "with scores in place of its attention pattern. Return None, or nothing.",
            _hook_with(
                lambda scores, layer, pattern, period: _put_and_return(scores, layer, _batch_mean(pattern, period))
            ),
        ),
        Mistake(
            "same_token",
            "The table contains duplicate-token scores (offset −period). An induction head looks at the token that followed (offset −(period − 1)).",
            _hook_with(
                lambda scores, layer, pattern, period: _put(
                    scores, layer, pattern.diagonal(-period, -2, -1)[..., -period:].mean((0, -1))
                )
            ),
        ),
        Mistake(
            "whole_diagonal",
            "You averaged the whole diagonal, of which two entries belong to the first copy. Call your `induction_score`, or keep the last "
            "`period` entries.",
            _hook_with(
                lambda scores, layer, pattern, period: _put(
                    scores, layer, pattern.diagonal(1 - period, -2, -1).mean((0, -1))
                )
            ),
        ),
        Mistake(
            "averaged_over_heads",
            "All heads of a layer have the same score: you averaged over them. Average over the batch and keep the head axis.",
            _hook_with(lambda scores, layer, pattern, period: _put(scores, layer, _batch_mean(pattern, period).mean())),
        ),
        Mistake(
            "nothing_written",
            "The table did not change. Inside the hook, `scores[layer] = …` writes into the tensor that was passed in; `scores = …` makes a new "
            "one that is lost.",
            _hook_with(lambda scores, layer, pattern, period: None),
        ),
    ),
    hints=(
        "`score_hook` returns a function of (pattern, hook). That inner function can use `scores` and `period` from outside.",
        "The pattern that a hook sees begins with a batch axis: [batch, head, query, key]. `induction_score` takes one sequence at a time; "
        "the diagonal works with any leading axes.",
        "`scores[hook.layer()] = ...` writes one row. Return nothing, or the model goes on with what you return.",
    ),
    reveal="A hook is called with each layer's pattern while the model runs, so the scores of all heads come out of one forward pass, and nothing "
    "has to be kept in memory. The inner function closes over `scores` and writes into it; it returns None, which leaves the pattern as it is.",
)
