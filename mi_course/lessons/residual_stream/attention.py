"""Attention by hand: who looks where, and what the heads bring back."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# attention_pattern


def _attention_pattern(q: Tensor, k: Tensor) -> Tensor:
    """Oracle: one query at a time, over the keys that it may see, in Python."""
    rows = []
    for i in range(len(q)):
        scores = [
            sum(float(a) * float(b) for a, b in zip(q[i], k[j], strict=True)) / math.sqrt(len(q[i]))
            for j in range(i + 1)
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        rows.append([weight / sum(weights) for weight in weights] + [0.0] * (len(k) - i - 1))
    return torch.tensor(rows)


def _future(scores: Tensor, diagonal: int = 1) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool).triu(diagonal)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / math.sqrt(q.shape[1])


def _attend(scores: Tensor, dim: int = -1) -> Tensor:
    return scores.masked_fill(_future(scores), -torch.inf).softmax(dim)


def _sees_a_finite_mask(case: Case, observation: Observation) -> bool:
    """In some rows all of the future gets the same share; what is left for the past is shared out rightly."""
    value = torch.as_tensor(observation.replies[0].value).double()
    right = _attend(_scores(*(arg.double() for arg in case.calls[0].args)))
    if value.shape != right.shape or not torch.allclose(value.sum(1), torch.ones(len(value)).double(), atol=1e-4):
        return False
    shares = [row[i + 1 :] for i, row in enumerate(value)]
    lost = torch.stack([share.sum() for share in shares])
    level = all(float(share.max() - share.min()) <= 1e-4 for share in shares if len(share))
    seen = any(len(share) > 1 and float(share.sum()) > 1e-5 for share in shares)
    return seen and level and torch.allclose(value.tril(), right * (1 - lost)[:, None], atol=1e-4)


def _pattern_cases(shapes: tuple[tuple[int, int], ...], std: float = 1.3) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                draw.normal(pos, d, mean=0.3, std=std),
                draw.normal(pos, d, mean=-0.2, std=std),
                about=f"{pos} positions, d {d}",
            )
            for pos, d in shapes
        ]

    return cases


def _large_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Scores of tens of thousands, of either sign: a mask that is merely a large negative number does not cover them."""
    q, k = draw.normal(7, 6, std=100.0), draw.normal(7, 6, std=100.0)
    k[:2] = -q[:2]
    return [case(q, k, about="scores of tens of thousands, whose exponentials overflow")]


def _single_cases(draw: RandomInputs, size: str) -> list[Case]:
    same = draw.normal(1, 5).repeat(4, 1)
    small = draw.normal(3, 4) * 0.5
    small[2] = small[1]
    return [
        case(draw.normal(6, 1, std=2.0), draw.normal(6, 1, std=2.0), about="queries and keys of a single number"),
        case(draw.normal(4, 5), same, about="equal keys: every query looks at all it may see alike"),
        case(draw.normal(3, 4), small, about="two equal keys"),
        case(draw.normal(1, 6), draw.normal(1, 6), about="a single position"),
    ]


ATTENTION_PATTERN = Exercise(
    id="residual_stream.attention_pattern",
    task="The causal attention pattern of one head: for each query, a softmax over the scores of the keys that it may look at.",
    minutes=8,
    difficulty=1,
    fixed={
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    oracle=_attention_pattern,
    parts=(
        Part("several lengths and sizes", 2, _pattern_cases(((6, 4), (9, 3), (5, 16)))),
        Part("large scores", 1, _large_cases),
        Part("equal keys, vectors of size one, a single position", 1, _single_cases),
    ),
    mistakes=(
        Mistake(
            "not_scaled",
            "The scale is missing. The dot product of two vectors of d random numbers grows like √d, and the softmax would get ever sharper: divide the scores by √d.",
            lambda q, k: _attend(q @ k.T),
        ),
        Mistake(
            "divided_by_d",
            "You divided the scores by d. It is its root: the spread of a dot product grows like √d.",
            lambda q, k: _attend(q @ k.T / q.shape[1]),
        ),
        Mistake(
            "multiplied_by_root",
            "You multiplied by √d. The scores are divided by it.",
            lambda q, k: _attend(q @ k.T * math.sqrt(q.shape[1])),
        ),
        Mistake(
            "scaled_by_positions",
            "You scaled by the number of positions. The scale is the root of d, the length of a query: `q.shape[-1]`.",
            lambda q, k: _attend(q @ k.T / math.sqrt(q.shape[0])),
        ),
        Mistake(
            "softmax_over_queries",
            "Your softmax runs over the queries: the columns sum to 1. Each *query* shares out its attention over the keys, so that rows sum to 1: `softmax(dim=-1)`.",
            lambda q, k: _attend(_scores(q, k), 0),
        ),
        Mistake(
            "mask_after_softmax",
            "You masked after the softmax: the rows no longer sum to 1, because a share went to the future and was then thrown away. Mask the scores with −∞ before the softmax.",
            lambda q, k: _scores(q, k).softmax(-1).tril(),
        ),
        Mistake(
            "mask_with_zero",
            "You set the scores of the future to 0 before the softmax. A score of 0 is an ordinary score (e⁰ = 1), and gets attention; −∞ gets none.",
            lambda q, k: _scores(q, k).tril().softmax(-1),
        ),
        Mistake(
            "finite_mask",
            "You masked the future with a number that is not negative enough: where scores are large it still gets attention. Use −∞ (`-torch.inf`).",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T), -10.0).softmax(-1),
            _sees_a_finite_mask,
        ),
        Mistake(
            "mask_reversed",
            "The mask is the wrong way around: your queries look at the future, and not at the past. Masked is what comes *after* the query: above the diagonal.",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T).T, -torch.inf).softmax(-1),
        ),
        Mistake(
            "not_causal",
            "There is no mask: queries look at tokens that come after them. With them the model would read the answer that it has to predict.",
            lambda q, k: _scores(q, k).softmax(-1),
        ),
        Mistake(
            "self_masked",
            "You masked the diagonal too. A token may look at itself: mask from the first key after it, `triu(diagonal=1)`. (Position 0 has nothing else to look at.)",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T, 0), -torch.inf).softmax(-1).nan_to_num(0.0),
        ),
        Mistake(
            "one_too_many_visible",
            "Each query sees one token of the future, the next. Mask from the first key after the query: `triu(diagonal=1)`.",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T, 2), -torch.inf).softmax(-1),
        ),
        Mistake(
            "self_masked_nan",
            "You masked the diagonal too, and position 0 has nothing else to look at: its row is 0/0. A token may look at itself: mask from the first key after it, `triu(diagonal=1)`.",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T, 0), -torch.inf).softmax(-1),
            lambda case, observation: (
                isinstance(value := observation.replies[0].value, Tensor)
                and value.is_floating_point()
                and bool(value[0].isnan().all())
                and not bool(value[1:].isnan().any())
            ),
        ),
        Mistake(
            "query_and_key_swapped",
            "Queries and keys are swapped. Row i belongs to query i: `q @ k.T`.",
            lambda q, k: _attend(_scores(k, q)),
        ),
        Mistake(
            "transposed",
            "The pattern is transposed: rows are queries, columns keys.",
            lambda q, k: _attend(_scores(q, k)).T,
        ),
        Mistake(
            "no_softmax",
            "These are the scores. The softmax over the keys makes shares of them that sum to 1.",
            lambda q, k: _scores(q, k).tril(),
        ),
        Mistake(
            "one_softmax_for_all",
            "Your softmax runs over the whole matrix at once: all entries together sum to 1. Each query has a softmax of its own: `softmax(dim=-1)`.",
            lambda q, k: _scores(q, k).masked_fill(_future(q @ k.T), -torch.inf).flatten().softmax(0).view(len(q), -1),
        ),
    ),
    hints=(
        "Three steps: all scores, `q @ k.T` over √d; −∞ where the key comes after the query; a softmax along each row.",
        "`future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)` is True above the diagonal, where the key comes after the query. `scores.masked_fill(future, -torch.inf)` sets these.",
    ),
    reveal="e to the −∞ is 0, so a masked key gets exactly nothing, and the rest of the row still sums to 1. The scale keeps the spread of the scores near 1 at the start of training, whatever d is (Vaswani et al. 2017, section 3.2.1). "
    "The mask is what lets one pass over a text train a prediction at every position.",
)


# ---------------------------------------------------------------------------------------------------------------------
# head_output


def _head_output(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    """Oracle: one head, one query, one key at a time."""
    heads, queries, keys = pattern.shape
    per_group = heads // len(v)
    out = torch.zeros(heads, queries, W_O.shape[2], dtype=torch.float64)
    for h in range(heads):
        for i in range(queries):
            for j in range(keys):
                out[h, i] += float(pattern[h, i, j]) * (v[h // per_group, j].double() @ W_O[h].double())
    return out.float()


def _with_values(pick: Callable[[int, int, int], int]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A head_output whose query head h of n reads key/value head pick(h, heads, kv_heads)."""

    def head_output(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
        read = [pick(h, len(pattern), len(v)) for h in range(len(pattern))]
        return pattern @ v[read] @ W_O

    return head_output


def _spread(v: Tensor, heads: int) -> Tensor:
    return v.repeat_interleave(heads // len(v), 0)


def _shared_W_O(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    per_group = len(pattern) // len(v)
    return pattern @ _spread(v, len(pattern)) @ W_O[[h // per_group for h in range(len(pattern))]]


def _first_W_O(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    return pattern @ _spread(v, len(pattern)) @ W_O[0]


def _transposed_pattern(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    return pattern.transpose(1, 2) @ _spread(v, len(pattern)) @ W_O


def _unweighted(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    return ((pattern > 0).float() @ _spread(v, len(pattern))) @ W_O


def _most_attended(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    best = torch.nn.functional.one_hot(pattern.argmax(-1), pattern.shape[-1]).float()
    return best @ _spread(v, len(pattern)) @ W_O


def _pattern(draw: RandomInputs, heads: int, queries: int, keys: int) -> Tensor:
    """The last rows of a causal pattern."""
    return draw.pattern(heads, length=keys)[:, keys - queries :]


def _output_cases(
    shapes: tuple[tuple[int, int, int, int, int, int], ...],
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                _pattern(draw, heads, queries, keys),
                draw.normal(kv, keys, d_head, mean=0.4),
                draw.normal(heads, d_head, d_model, std=0.7),
                about=f"{heads} query heads, {kv} key/value heads, {queries} queries, {keys} keys, d_head {d_head}, d_model {d_model}",
                atol=1e-4,
            )
            for heads, kv, queries, keys, d_head, d_model in shapes
        ]

    return cases


HEAD_OUTPUT = Exercise(
    id="residual_stream.head_output",
    task="What each head writes into the residual stream: its values, weighted by its pattern, through its own `W_O`. Query heads may share key/value heads: head h reads h // (heads per group).",
    minutes=10,
    difficulty=2,
    fixed={
        "pattern": "probabilities",
        "pattern[0]": "a multiple of the key/value heads; varied by hand",
        "v[0]": "the query heads are a multiple of it; varied by hand",
    },
    oracle=_head_output,
    parts=(
        # The first case has different lengths everywhere, so that an axis of one length is one axis.
        Part("grouped key/value heads", 2, _output_cases(((8, 2, 6, 7, 3, 5), (6, 3, 4, 4, 5, 5), (6, 2, 5, 5, 4, 7)))),
        Part("one for each head, one for all", 1, _output_cases(((4, 4, 3, 5, 2, 6), (5, 1, 4, 4, 3, 8)))),
        Part(
            "axes of size one",
            1,
            _output_cases(
                ((1, 1, 3, 4, 2, 5), (6, 3, 1, 5, 4, 3), (4, 2, 1, 1, 3, 5), (2, 1, 3, 3, 1, 4), (4, 2, 3, 4, 2, 1))
            ),
        ),
    ),
    mistakes=(
        Mistake(
            "groups_in_turn",
            "Your query heads take the key/value heads in turn, h % (number of key/value heads), as `v.repeat` would give them. Consecutive heads share one: h // (heads per group), `v.repeat_interleave`.",
            _with_values(lambda h, heads, kv: h % kv),
        ),
        Mistake(
            "divided_by_kv_heads",
            "You divided by the number of key/value heads. Head h reads h // (heads *per* group), and a group has heads / key/value heads. (With 9 and 3, as in SmolLM2, both are 3.)",
            _with_values(lambda h, heads, kv: min(h // kv, kv - 1)),
        ),
        Mistake(
            "first_values_for_all",
            "All heads read key/value head 0. Each group has its own.",
            _with_values(lambda h, heads, kv: 0),
        ),
        Mistake(
            "groups_reversed",
            "The key/value heads are in reverse order. The first group reads head 0.",
            _with_values(lambda h, heads, kv: kv - 1 - h // (heads // kv)),
        ),
        Mistake(
            "W_O_of_the_group",
            "You took `W_O` of the key/value head's number. Only keys and values are shared; each query head has its own `W_O[h]`.",
            _shared_W_O,
        ),
        Mistake(
            "first_W_O_for_all",
            "All heads write through `W_O[0]`. Each has its own.",
            _first_W_O,
        ),
        Mistake(
            "pattern_transposed",
            "The pattern is transposed: you summed over queries. Row i of the pattern says what query i takes from each key.",
            _transposed_pattern,
        ),
        Mistake(
            "summed_over_heads",
            "You summed over the heads. That is what the layer writes; here each head's share is asked for, [head, query, d_model].",
            lambda pattern, v, W_O: (pattern @ _spread(v, len(pattern)) @ W_O).sum(0),
        ),
        Mistake(
            "heads_last",
            "The axes are in another order. Heads come first: [head, query, d_model].",
            lambda pattern, v, W_O: (pattern @ _spread(v, len(pattern)) @ W_O).transpose(0, 1),
        ),
        Mistake(
            "without_W_O",
            "This is z, what each head gathered. `W_O` carries it from d_head into the stream's d_model.",
            lambda pattern, v, W_O: pattern @ _spread(v, len(pattern)),
        ),
        Mistake(
            "W_O_transposed",
            "`W_O` is transposed. With row vectors z comes from the left: `z @ W_O`.",
            lambda pattern, v, W_O: pattern @ _spread(v, len(pattern)) @ W_O.transpose(1, 2),
        ),
        Mistake(
            "only_the_most_attended",
            "Each query takes the value of its most attended key alone. Attention is a mean over all keys, weighted by the pattern.",
            _most_attended,
        ),
        Mistake(
            "not_weighted",
            "You added up the values of all visible keys, whatever their attention. The pattern gives the weights.",
            _unweighted,
        ),
        Mistake(
            "softmax_again",
            "You took the softmax of the pattern. It is already one.",
            lambda pattern, v, W_O: pattern.softmax(-1) @ _spread(v, len(pattern)) @ W_O,
        ),
    ),
    hints=(
        "For one head it is three matrices: `pattern[h] @ v[group of h] @ W_O[h]`. How many query heads share a key/value head? The first axes of `pattern` and `v` tell.",
        "`v.repeat_interleave(n, dim=0)` writes each key/value head n times in a row: 0, 0, 1, 1, 2, 2 for n = 2. Then the matrix product `@` does all heads at once.",
    ),
    reveal="Grouped-query attention (Ainslie et al. 2023) shares keys and values between neighboring heads, which saves memory when text is generated; queries, patterns and `W_O` stay each head's own. "
    "So two heads of a group see the same values, and may take them from different places, and write something different about them. "
    "What a layer's attention writes is the sum over heads (and a bias, where there is one).",
)
