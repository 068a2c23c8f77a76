"""Which step matters: written anew, hidden from attention, and attended to by later steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# step_importance

SMOOTHING = 0.01


def _step_importance(p_with: Tensor, p_resampled: Tensor, changed: Tensor) -> float:
    """Oracle: sums in Python."""
    rows = [row for row, yes in zip(p_resampled.tolist(), changed.tolist(), strict=True) if yes]
    if not rows:
        return math.nan
    means = []
    for samples in (rows, p_with.tolist()):
        answers = len(samples[0])
        mean = [sum(row[a] for row in samples) / len(samples) for a in range(answers)]
        means.append([(m + SMOOTHING) / (1 + SMOOTHING * answers) for m in mean])
    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(*means, strict=True))


def _smoothed(p: Tensor, amount: float = SMOOTHING) -> Tensor:
    return (p + amount) / (1 + amount * p.shape[-1])


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


def _importance(
    divergence: Callable[[Tensor, Tensor], Any], pick: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """A wrong step_importance. pick: the resampled rows and the original ones that count."""

    def importance(p_with: Tensor, p_resampled: Tensor, changed: Tensor) -> Any:
        if not changed.any():
            return math.nan
        p, q = pick(p_with, p_resampled, changed)
        return divergence(p, q)

    return importance


def _changed_rows(p_with: Tensor, p_resampled: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    return p_resampled[changed], p_with


def _of_means(p: Tensor, q: Tensor) -> Tensor:
    return _kl(_smoothed(p.mean(0)), _smoothed(q.mean(0)))


def _total_variation(p: Tensor, q: Tensor) -> Tensor:
    return (_smoothed(p.mean(0)) - _smoothed(q.mean(0))).abs().sum() / 2


def _unsmoothed(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.mean(0), q.mean(0)
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum()


def _floored(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.mean(0) + SMOOTHING, q.mean(0) + SMOOTHING
    return _kl(p, q)


def _entropy_like(p: Tensor, q: Tensor) -> Tensor:
    p, q = _smoothed(p.mean(0)), _smoothed(q.mean(0))
    return -(p * q.log()).sum()


def _zero_if_unchanged(p_with: Tensor, p_resampled: Tensor, changed: Tensor) -> float:
    value = _step_importance(p_with, p_resampled, changed)
    return 0.0 if math.isnan(value) else value


def _is_zero_for_nothing(case: Case, observation: Observation) -> bool:
    return not bool(case.calls[0].args[2].any()) and float(observation.replies[0].value) == 0


def _distributions(draw: RandomInputs, samples: int, answers: int, std: float = 1.5) -> Tensor:
    return (draw.normal(samples, answers, std=std) + draw.normal(1, answers)).softmax(-1)


def _importance_case(draw: RandomInputs, samples: int, answers: int, about: str = "") -> Case:
    p_with, p_resampled = _distributions(draw, samples, answers), _distributions(draw, samples, answers)
    changed = draw.uniform(samples) < 0.5
    changed[0], changed[-1] = True, False
    return case(p_with, p_resampled, changed, about=about or f"{samples} samples, {answers} answers")


def _importance_cases(draw: RandomInputs, size: str) -> list[Case]:
    first = _importance_case(draw, 7, 4)
    p_with, p_resampled, changed = first.calls[0].args
    return [
        first,
        case(p_with, p_resampled, ~changed, about="the same samples, others of which have changed"),
        case(p_with, p_resampled.roll(1, 0), changed, about="the same step, other resamples"),
        case(_distributions(draw, 7, 4), p_resampled, changed, about="the same resamples, another step"),
        _importance_case(draw, 20, 3),
        _importance_case(draw, 12, 2),
    ]


def _sampled(draw: RandomInputs, samples: int, answers: int, never: int) -> Tensor:
    """Rows of 0 and 1: one answer was sampled, and one of the answers never."""
    drawn = draw.integers(0, answers - 1, samples)
    drawn = drawn + (drawn >= never).long()
    return torch.nn.functional.one_hot(drawn, answers).float()


def _sharp_cases(draw: RandomInputs, size: str) -> list[Case]:
    some = torch.tensor([True, False, True, True, False, True, True, False])
    yes, no = torch.tensor([0.0, 1.0]).repeat(8, 1), torch.tensor([1.0, 0.0]).repeat(8, 1)
    return [
        case(_sampled(draw, 8, 4, 1), _sampled(draw, 8, 4, 2), some, about="answers that were never sampled"),
        case(yes, no, some, about="two answers, certain of one and then of the other"),
        case(no, torch.where(some[:, None], no, yes), some, about="only unchanged steps have another answer"),
        case(_sampled(draw, 5, 3, 0), _sampled(draw, 5, 3, 2), some[:5], about="5 samples, 3 answers"),
        case(_distributions(draw, 6, 3), _distributions(draw, 6, 3, 0.1), some[:6], about="6 samples, 3 answers"),
    ]


def _few_changed_cases(draw: RandomInputs, size: str) -> list[Case]:
    p_with, p_resampled = _distributions(draw, 6, 3), _distributions(draw, 6, 3)
    none = torch.zeros(6, dtype=torch.bool)
    one = none.clone()
    one[3] = True
    many = torch.zeros(90, dtype=torch.bool)
    many[41] = True
    return [
        _importance_case(draw, 9, 5),
        case(p_with, p_resampled, none, about="no step has changed"),
        case(p_with, p_resampled, one, about="one step has changed"),
        case(_distributions(draw, 90, 2), _distributions(draw, 90, 2), many, about="one step of 90 has changed"),
        case(p_with, p_resampled, ~none, about="every step has changed"),
        case(p_with[:1], p_resampled[:1], one[3:4], about="a single sample"),
        case(p_with[:1], p_resampled[:1], one[:1], about="a single sample, unchanged"),
    ]


STEP_IMPORTANCE = Exercise(
    id="chain_of_thought.step_importance",
    task="How far the answers move if a step is written anew and says something else: the divergence of the mean distribution then from the mean distribution with the step.",
    minutes=9,
    difficulty=2,
    fixed={
        "p_with": "probabilities",
        "p_resampled": "probabilities",
        "p_with[1]": "there are at least two answers",
        "p_resampled[1]": "there are at least two answers",
        "result>=0": "a divergence",
    },
    oracle=_step_importance,
    parts=(
        Part("some of the samples have changed", 2, _importance_cases),
        Part("answers of probability 0 and 1", 1, _sharp_cases),
        Part("all, one or none of them have changed", 1, _few_changed_cases),
    ),
    mistakes=(
        Mistake(
            "reversed",
            "The divergence is the other way round. It is of the resampled from the original: the resampled mean is the weight in front of the logarithm and stands above the line in it.",
            _importance(lambda p, q: _of_means(q, p), _changed_rows),
        ),
        Mistake(
            "unchanged_counted",
            "All resamples count in your mean, also those whose new step says the same. They dilute the effect: only rows where `changed` is True count.",
            _importance(_of_means, lambda p_with, p_resampled, changed: (p_resampled, p_with)),
        ),
        Mistake(
            "unchanged_only",
            "You kept the resamples that say the same, and left out those that say something else.",
            _importance(_of_means, lambda p_with, p_resampled, changed: (p_resampled[~changed], p_with)),
        ),
        Mistake(
            "divided_by_all",
            "You set the resamples that say the same to 0, and averaged over all. Divide by the number of those that changed: `p_resampled[changed].mean(dim=0)`.",
            _importance(
                lambda p, q: _of_means(p, q),
                lambda p_with, p_resampled, changed: (p_resampled * changed[:, None], p_with),
            ),
        ),
        Mistake(
            "original_masked",
            "You averaged `p_with` only where `changed` is True. It tells which *resamples* changed; the original step counts with all its samples.",
            _importance(_of_means, lambda p_with, p_resampled, changed: (p_resampled[changed], p_with[changed])),
        ),
        Mistake(
            "mean_of_divergences",
            "You took a divergence for each sample, and the mean of these. Average the distributions first: samples differ among each other even if the step does not matter.",
            lambda p_with, p_resampled, changed: (
                _kl(_smoothed(p_resampled), _smoothed(p_with))[changed].mean() if changed.any() else math.nan
            ),
        ),
        Mistake(
            "not_smoothed",
            "There is no smoothing. An answer that was never sampled has the logarithm of 0, or a division by it: add 0.01 to each probability of both means, and divide by 1 + 0.01 · A.",
            _importance(_unsmoothed, _changed_rows),
        ),
        Mistake(
            "smoothed_not_normalized",
            "You added 0.01 and did not divide by 1 + 0.01 · A: the smoothed means sum to more than 1.",
            _importance(_floored, _changed_rows),
        ),
        Mistake(
            "one_smoothed",
            "Only the original mean is smoothed. Smooth both, in the same way.",
            _importance(
                lambda p, q: torch.where(
                    p.mean(0) > 0, p.mean(0) * (p.mean(0) / _smoothed(q.mean(0))).log(), 0.0
                ).sum(),
                _changed_rows,
            ),
        ),
        Mistake(
            "bits",
            "This is in bits. Take the natural logarithm: nats.",
            _importance(lambda p, q: _of_means(p, q) / math.log(2), _changed_rows),
        ),
        Mistake(
            "divided_by_answers",
            'You averaged over answers. A divergence is a sum over them (with `kl_div`, `reduction="sum"`).',
            _importance(lambda p, q: _of_means(p, q) / p.shape[-1], _changed_rows),
        ),
        Mistake(
            "cross_entropy",
            "This is the cross-entropy. The divergence is less by the entropy of the resampled mean: it is 0 if both are equal.",
            _importance(_entropy_like, _changed_rows),
        ),
        Mistake(
            "total_variation",
            "This is the total variation, half the sum of absolute differences. Asked is the KL divergence.",
            _importance(_total_variation, _changed_rows),
        ),
        Mistake(
            "zero_for_nothing",
            "Right, but where no resample has changed you say 0: as if another step had been tried, and had not mattered. Nothing was tested; return NaN.",
            _zero_if_unchanged,
            _is_zero_for_nothing,
        ),
    ),
    hints=(
        "Three steps: two means over samples (`p_resampled[changed].mean(dim=0)` and `p_with.mean(dim=0)`), smoothing of both, and one sum over answers.",
        "Smoothing: `(mean + 0.01) / (1 + 0.01 * len(mean))`. The sum: `(p * (p / q).log()).sum()`, with p the resampled mean.",
        '`if not changed.any(): return float("nan")` comes first.',
    ),
    reveal="Bogdan et al. (2025) call this counterfactual importance: what would the answers be, had the step said something else, and had the model gone on from there? Without the condition that it says something else, most resamples say the same and every step looks unimportant. The divergence has a ceiling that smoothing sets: with two answers, about 4.5 nats. "
    "It is not symmetric, and on a few samples never 0.",
)


# ---------------------------------------------------------------------------------------------------------------------
# knock_out_attention

_SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}


def _knock_out_attention(
    pattern: Tensor, hook: object, queries: Sequence[int], keys: Sequence[int], renormalize: bool
) -> Tensor:
    """Oracle: one entry at a time."""
    out = pattern.clone()
    batch, heads, n_queries, n_keys = pattern.shape
    for b in range(batch):
        for h in range(heads):
            for q in range(n_queries):
                if q in queries:
                    row = [0.0 if k in keys else float(pattern[b, h, q, k]) for k in range(n_keys)]
                    total = math.fsum(row)
                    out[b, h, q] = torch.tensor([r / total for r in row] if renormalize and total else row)
    return out


def _hook(draw: RandomInputs) -> Any:
    return hook_ref(model_ref(_SMALL, 1), f"blocks.{draw.integer(0, 2)}.attn.hook_pattern")


def _knocked(
    where: Callable[[Tensor, Sequence[int], Sequence[int]], Tensor],
    scale: Callable[[Tensor, Tensor, bool], Tensor] | None = None,
) -> Callable[..., Tensor]:
    """A wrong knock_out_attention. where: Boolean, of the entries that go. scale: renormalizes (rows of queries)."""

    def knock_out(
        pattern: Tensor, hook: object, queries: Sequence[int], keys: Sequence[int], renormalize: bool
    ) -> Tensor:
        gone = pattern.masked_fill(where(pattern, queries, keys), 0.0)
        rows = _of(pattern, queries, 2)
        return torch.where(rows, (scale or _sum_to_one)(gone, pattern, renormalize), gone)

    return knock_out


def _of(pattern: Tensor, positions: Sequence[int], axis: int) -> Tensor:
    """True at these positions of an axis, in the shape of the pattern."""
    shape = [1, 1, 1, 1]
    shape[axis] = pattern.shape[axis]
    marked = torch.tensor([i in positions for i in range(pattern.shape[axis])], dtype=torch.bool)
    return marked.view(shape).expand(pattern.shape)


def _block(pattern: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    return _of(pattern, queries, 2) & _of(pattern, keys, 3)


def _sum_to_one(gone: Tensor, pattern: Tensor, renormalize: bool) -> Tensor:
    total = gone.sum(-1, keepdim=True)
    return gone / torch.where(total > 0, total, 1.0) if renormalize else gone


def _pairs(pattern: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    marked = torch.zeros_like(pattern, dtype=torch.bool)
    for query, key in zip(queries, keys, strict=False):
        marked[:, :, query, key] = True
    return marked


def _limited(part: tuple[Any, ...]) -> Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]:
    def where(pattern: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
        allowed = torch.zeros_like(pattern, dtype=torch.bool)
        allowed[part] = True
        return _block(pattern, queries, keys) & allowed

    return where


def _softmaxed(gone: Tensor, pattern: Tensor, renormalize: bool) -> Tensor:
    return gone.softmax(-1) if renormalize else gone


def _all_rows_scaled(
    pattern: Tensor, hook: object, queries: Sequence[int], keys: Sequence[int], renormalize: bool
) -> Tensor:
    """Renormalizes over the whole of the queries' rows at once."""
    out = _knock_out_attention(pattern, hook, queries, keys, False)
    if renormalize and len(queries):
        rows = _of(pattern, queries, 2)
        total = torch.where(rows, out, 0.0).sum((-1, -2), keepdim=True)
        out = torch.where(rows, out / torch.where(total > 0, total, 1.0), out)
    return out


def _nan_rows(pattern: Tensor, hook: object, queries: Sequence[int], keys: Sequence[int], renormalize: bool) -> Tensor:
    out = _knock_out_attention(pattern, hook, queries, keys, False)
    return torch.where(_of(pattern, queries, 2), out / out.sum(-1, keepdim=True), out) if renormalize else out


def _has_nan_rows(case: Case, observation: Observation) -> bool:
    pattern, _, queries, keys, renormalize = case.calls[0].args
    value = observation.replies[0].value
    if not renormalize or not isinstance(value, Tensor) or value.shape != pattern.shape:
        return False
    nans = value.isnan()
    right = _knock_out_attention(pattern, None, queries, keys, True)
    empty = (right.sum(-1, keepdim=True) == 0) & _of(pattern, queries, 2)
    return bool(nans.any()) and torch.equal(nans, empty.expand_as(nans)) and torch.allclose(value[~nans], right[~nans])


def _knock_case(
    draw: RandomInputs,
    shape: tuple[int, int, int],
    queries: list[int],
    keys: list[int],
    renormalize: bool,
    about: str = "",
) -> Case:
    batch, heads, pos = shape
    pattern = draw.pattern(batch, heads, length=pos, sharpness=1.5)
    words = f"{batch} prompts, {heads} heads, {pos} positions, queries {queries}, keys {keys}"
    words += ", renormalized" if renormalize else ""
    args = (pattern, _hook(draw), queries, keys, renormalize)
    return case(*args, driver="hook", about=f"{words}; {about}" if about else words)


def _plain_cases(draw: RandomInputs, size: str) -> list[Case]:
    pattern = draw.pattern(2, 3, length=7)
    point = _hook(draw)
    alike = [
        ([3, 6], [1, 2, 3], False, "the same pattern"),
        ([3, 6], [1, 2, 3], True, "the same pattern, renormalized"),
        ([5, 6], [1, 2, 3], False, "the same pattern, other queries"),
        ([3, 6], [0, 2, 4], False, "the same pattern, other keys"),
    ]
    another = draw.pattern(2, 3, length=7)
    return [
        _knock_case(draw, (2, 3, 8), [5, 7], [1, 2, 4], False),
        _knock_case(draw, (3, 2, 6), [5, 2, 4], [3, 0], False, "in no order"),
        _knock_case(draw, (2, 4, 5), [4, 4, 1], [2, 0, 2], False, "positions named twice"),
        *(
            case(pattern, point, queries, keys, renormalize, driver="hook", about=about)
            for queries, keys, renormalize, about in alike
        ),
        case(another, point, [3, 6], [1, 2, 3], False, driver="hook", about="another pattern"),
    ]


def _renormalized_cases(draw: RandomInputs, size: str) -> list[Case]:
    tight = _knock_case(draw, (2, 3, 6), [4, 5], [1, 2], True, "little is left")
    pattern = tight.calls[0].args[0]
    pattern[:, :, 4:, 1] += 60.0
    pattern[:, :, 4:] /= pattern[:, :, 4:].sum(-1, keepdim=True)
    return [
        _knock_case(draw, (2, 3, 7), [6, 4], [1, 2, 5], True),
        _knock_case(draw, (3, 2, 6), [2, 5, 3], [4, 0], True),
        _knock_case(draw, (2, 3, 5), [4, 3, 4], [3, 1, 1], True, "positions named twice"),
        tight,
    ]


def _edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        _knock_case(draw, (2, 3, 5), [4, 2], [], True, "no keys"),
        _knock_case(draw, (2, 3, 5), [], [1, 2], True, "no queries"),
        _knock_case(draw, (2, 3, 6), [1, 5], [0, 1, 4], True, "nothing is left of query 1"),
        _knock_case(draw, (2, 2, 5), [0, 3], [0], True, "nothing is left of query 0"),
        _knock_case(draw, (1, 1, 4), [3, 2], [0, 2], True, "a single prompt and head"),
        _knock_case(draw, (1, 3, 5), [4], [2], True),
        _knock_case(draw, (2, 1, 1), [0], [0], False, "a single position"),
    ]


KNOCK_OUT_ATTENTION = Exercise(
    id="chain_of_thought.knock_out_attention",
    task="A hook on an attention pattern that keeps some positions from attending to others.",
    minutes=8,
    difficulty=2,
    fixed={
        "pattern": "probabilities",
        "pattern[2]": "positions are asked for by number",
        "pattern[3]": "positions are asked for by number",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    oracle=_knock_out_attention,
    parts=(
        Part("attention is gone", 2, _plain_cases),
        Part("the rest sums to 1 again", 2, _renormalized_cases),
        Part("no keys, no queries, nothing left, a single head", 1, _edge_cases),
    ),
    mistakes=(
        Mistake(
            "pairs_only",
            "You knocked out pairs: the first query with the first key, the second with the second. Every query loses every key: index the queries one at a time, or with `[:, None]`.",
            _knocked(_pairs),
        ),
        Mistake(
            "axes_swapped",
            "Queries and keys are swapped: the axes of a pattern are batch, head, query, key, and rows (queries) are who looks.",
            _knocked(lambda pattern, queries, keys: _of(pattern, keys, 2) & _of(pattern, queries, 3)),
        ),
        Mistake(
            "all_queries",
            "Every position lost its attention to the keys. Only those in `queries` do.",
            _knocked(lambda pattern, queries, keys: _of(pattern, keys, 3)),
        ),
        Mistake(
            "whole_rows",
            "The queries lost all their attention. Only that to `keys` goes.",
            _knocked(lambda pattern, queries, keys: _of(pattern, queries, 2)),
        ),
        Mistake(
            "only_keys_kept",
            "The queries kept their attention to `keys` and lost the rest. It is to be the other way round.",
            _knocked(lambda pattern, queries, keys: _of(pattern, queries, 2) & ~_of(pattern, keys, 3)),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch was changed. Begin the index with `:, :` for all prompts and heads.",
            _knocked(_limited((0,))),
        ),
        Mistake(
            "first_head_only",
            "Only the first head was changed. Begin the index with `:, :` for all prompts and heads.",
            _knocked(_limited((slice(None), 0))),
        ),
        Mistake(
            "never_renormalized",
            "With `renormalize` your rows no longer sum to 1. Divide what is left of each row in `queries` by its sum.",
            _knocked(_block, lambda gone, pattern, renormalize: gone),
        ),
        Mistake(
            "always_renormalized",
            "Your rows sum to 1 even where `renormalize` is False. Then the rest stays as it was, and less is brought back.",
            _knocked(_block, lambda gone, pattern, renormalize: _sum_to_one(gone, pattern, True)),
        ),
        Mistake(
            "softmax_again",
            "You took a softmax of probabilities. They are what a softmax has returned already: divide by their sum.",
            _knocked(_block, _softmaxed),
        ),
        Mistake(
            "one_sum_for_all_rows",
            "You divided by the sum over all rows. Each row has a sum of its own: `sum(dim=-1, keepdim=True)`.",
            _all_rows_scaled,
        ),
        Mistake(
            "shared_among_the_rest",
            "You shared the lost attention out evenly. Scale what is left in proportion: divide by its sum.",
            _knocked(
                _block,
                lambda gone, pattern, renormalize: (
                    torch.where(
                        gone > 0,
                        gone + (1 - gone.sum(-1, keepdim=True)) / (gone > 0).sum(-1, keepdim=True).clamp(min=1),
                        0.0,
                    )
                    if renormalize
                    else gone
                ),
            ),
        ),
        Mistake(
            "zero_over_zero",
            "Right, but a row with nothing left became NaN: 0/0. It stays 0; divide only where the sum is above 0.",
            _nan_rows,
            _has_nan_rows,
        ),
        Mistake(
            "nothing_comes_back",
            "Nothing changed. `pattern[:, :, queries][..., keys] = 0` writes into a copy: index once. And a hook's change counts if it is made in `pattern` itself or if the new tensor is *returned*.",
            lambda pattern, hook, queries, keys, renormalize: pattern.clone(),
        ),
    ),
    hints=(
        "Take one query at a time: `pattern[:, :, query, keys] = 0` sets its attention to all keys, in all prompts and heads.",
        "`left = pattern[:, :, query].sum(dim=-1, keepdim=True)` is what each row has left; divide by it where it is above 0.",
        "`pattern[:, :, query] /= torch.where(left > 0, left, 1.0)` leaves rows of zeros as they are.",
    ),
    reveal="Both variants are used, and they ask different things. Without renormalizing the position brings back less, as if the keys had said nothing; with it the head looks elsewhere instead, and what it brings from there may be misleading. "
    "Where the two disagree, the result is about the repair and not about the keys. And a head that is kept from looking at a step may still read it at a later position that has looked.",
)


# ---------------------------------------------------------------------------------------------------------------------
# receiver_score

NEAR, LEAST = 4, 16


def _receiver_score(pattern: Tensor) -> Tensor:
    """Oracle: one head, one step at a time."""
    heads, n, _ = pattern.shape
    if n < LEAST:
        raise ValueError("too few steps")
    scores = []
    for h in range(heads):
        vertical = []
        for j in range(n):
            later = [float(pattern[h, q, j]) for q in range(n) if q - j >= NEAR]
            if later:
                vertical.append(sum(later) / len(later))
        mean = sum(vertical) / len(vertical)
        second = sum((v - mean) ** 2 for v in vertical) / len(vertical)
        fourth = sum((v - mean) ** 4 for v in vertical) / len(vertical)
        scores.append(fourth / second**2 - 3 if second else 0.0)
    return torch.tensor(scores)


def _vertical(pattern: Tensor, near: int = NEAR) -> Tensor:
    n = pattern.shape[-1]
    return torch.stack([pattern[:, j + near :, j].mean(1) for j in range(n - near)], 1)


def _kurtosis(values: Tensor, excess: float = 3.0) -> Tensor:
    deviation = values.double() - values.double().mean(1, keepdim=True)
    second, fourth = deviation.pow(2).mean(1), deviation.pow(4).mean(1)
    return torch.where(second > 0, fourth / torch.where(second > 0, second, 1.0) ** 2 - excess, 0.0).float()


def _scored(
    vertical: Callable[[Tensor], Tensor], kurtosis: Callable[[Tensor], Tensor] = _kurtosis
) -> Callable[[Tensor], Tensor]:
    """A wrong receiver_score that raises where it should."""

    def score(pattern: Tensor) -> Tensor:
        if pattern.shape[-1] < LEAST:
            raise ValueError("too few steps")
        return kurtosis(vertical(pattern))

    return score


def _far(pattern: Tensor) -> Tensor:
    """The pattern without attention to near steps."""
    n = pattern.shape[-1]
    return pattern * (torch.arange(n)[:, None] - torch.arange(n) >= NEAR)


def _sample_kurtosis(values: Tensor) -> Tensor:
    """With the number of scores less one in the variance."""
    n = values.shape[1]
    return torch.where(values.std(1) > 0, (_kurtosis(values) + 3) * ((n - 1) / n) ** 2 - 3, 0.0)


def _corrected_kurtosis(values: Tensor) -> Tensor:
    """As pandas computes it."""
    n = values.shape[1]
    corrected = ((n + 1) * _kurtosis(values) + 6) * (n - 1) / ((n - 2) * (n - 3))
    return torch.where(values.std(1) > 0, corrected, 0.0)


def _together(values: Tensor) -> Tensor:
    """Mean and variance over all heads."""
    deviation = values - values.mean()
    return deviation.pow(4).mean(1) / deviation.pow(2).mean().clamp(min=1e-30) ** 2 - 3


def _standardized(values: Tensor, power: int) -> Tensor:
    deviation = values - values.mean(1, keepdim=True)
    spread = deviation.pow(2).mean(1, keepdim=True).sqrt()
    return (deviation / torch.where(spread > 0, spread, 1.0)).pow(power).mean(1)


def _patterns(draw: RandomInputs, heads: int, n: int) -> Tensor:
    """Some heads receive at a few steps, others look everywhere."""
    scores = draw.normal(heads, n, n)
    for h in range(0, heads, 2):
        scores[h, :, draw.integer(0, max(n - 6, 1))] += 4.0
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def _receiver_cases(shapes: Sequence[tuple[int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for heads, n in shapes:
            about = f"{heads} head{'s' * (heads > 1)}, {n} steps"
            made.append(case(_patterns(draw, heads, n), about=about, rtol=1e-3, atol=1e-4))
        return made

    return cases


def _receiver_edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    near = _patterns(draw, 3, 18)
    near[1] = torch.eye(18)
    raising = [case(_patterns(draw, 2, n), driver="expects_error", about=f"{n} steps", watch=()) for n in (15, 6, 3, 1)]
    return [
        case(near, about="a head that looks only at itself", rtol=1e-3, atol=1e-4),
        *_receiver_cases(((2, 16), (1, 17)))(draw, size),
        *raising,
    ]


def _unguarded(pattern: Tensor) -> Tensor:
    n = pattern.shape[-1]
    return _kurtosis(_vertical(pattern)) if n > NEAR else torch.full((len(pattern),), math.nan)


def _nan_if_still(pattern: Tensor) -> Tensor:
    values = _vertical(pattern)
    still = (values == values[:, :1]).all(1)
    return torch.where(still, math.nan, _scored(_vertical)(pattern))


def _is_nan_where_still(case: Case, observation: Observation) -> bool:
    value = observation.replies[0].value
    pattern = case.calls[0].args[0]
    if not isinstance(value, Tensor) or value.shape != pattern.shape[:1]:
        return False
    still = (_far(pattern) == 0).all(-1).all(-1)
    return bool(still.any()) and torch.equal(value.isnan(), still)


RECEIVER_SCORE = Exercise(
    id="chain_of_thought.receiver_score",
    task="For each head the excess kurtosis of its vertical scores: is there a handful of steps that all later ones look back at?",
    minutes=10,
    difficulty=3,
    fixed={
        "pattern[1]": "there are at least 16 steps",
        "pattern[2]": "there are at least 16 steps",
        "pattern>=0": "probabilities",
        "pattern=0": "a head whose scores are all 0 has a rule of its own; the second part asks it",
    },
    oracle=_receiver_score,
    parts=(
        Part("several heads and lengths", 3, _receiver_cases(((5, 20), (3, 33), (6, 17)))),
        Part("heads that look only nearby, one head, too few steps", 1, _receiver_edge_cases),
    ),
    mistakes=(
        Mistake(
            "not_excess",
            "This is the kurtosis itself, which is 3 for a normal distribution. The *excess* is asked for: subtract 3.",
            _scored(_vertical, lambda values: torch.where(values.std(1) > 0, _kurtosis(values) + 3, 0.0)),
        ),
        Mistake(
            "one_less",
            "You divided the squared deviations by the number of scores less one (as `std` does). Divide by the number of scores.",
            _scored(_vertical, _sample_kurtosis),
        ),
        Mistake(
            "corrected",
            "This is the kurtosis corrected for small samples, as pandas computes it. Take the plain one: means over the scores, without a correction.",
            _scored(_vertical, _corrected_kurtosis),
        ),
        Mistake(
            "heads_together",
            "You took mean and variance over all heads. Each head has its own: `mean(dim=1, keepdim=True)`.",
            _scored(_vertical, _together),
        ),
        Mistake(
            "horizontal",
            "These are means over keys, one for each query. A vertical score belongs to the step that is looked *at*: for each key, the mean over later queries.",
            _scored(
                lambda pattern: torch.stack(
                    [pattern[:, q, : q - NEAR + 1].mean(1) for q in range(NEAR, pattern.shape[-1])], 1
                )
            ),
        ),
        Mistake(
            "summed",
            "You summed over the later steps, or divided by the number of all queries. Early steps have more steps after them, and get larger sums: take the mean over the queries at least 4 later, of which each key has its own number.",
            _scored(lambda pattern: _far(pattern).sum(1)[:, : pattern.shape[-1] - NEAR]),
        ),
        Mistake(
            "last_steps_scored",
            "You gave the last four steps a score of 0. Nothing at least 4 steps later looks at them: they have no score.",
            _scored(lambda pattern: torch.cat([_vertical(pattern), torch.zeros(len(pattern), NEAR)], 1)),
        ),
        Mistake(
            "nearby_counted",
            "Attention from nearby steps counts in your scores. Every head looks at the last few steps; only attention from at least 4 steps later counts.",
            _scored(lambda pattern: _vertical(pattern, 0)),
        ),
        Mistake(
            "later_only",
            "You left out the step itself, and counted every later one. Only attention from at least 4 steps later counts.",
            _scored(lambda pattern: _vertical(pattern, 1)),
        ),
        Mistake(
            "distance_three",
            "You begin 3 steps later. It is at least 4: for key j the queries from j + 4 on.",
            _scored(lambda pattern: _vertical(pattern, 3)),
        ),
        Mistake(
            "distance_five",
            "You begin 5 steps later. At a distance of exactly 4 attention counts too: for key j the queries from j + 4 on.",
            _scored(lambda pattern: _vertical(pattern, 5)),
        ),
        Mistake(
            "skewness",
            "This is the third power, the skewness. Kurtosis takes the fourth.",
            _scored(_vertical, lambda values: _standardized(values, 3)),
        ),
        Mistake(
            "entries_not_scores",
            "You took the kurtosis of all entries of the pattern. First comes one vertical score for each step, then the kurtosis of these.",
            _scored(
                lambda pattern: torch.stack(
                    [torch.cat([row[j + NEAR :, j] for j in range(len(row) - NEAR)]) for row in pattern]
                )
            ),
        ),
        Mistake(
            "nan_for_still_heads",
            "Right, but a head whose vertical scores are all 0 gets NaN: 0/0. Nothing stands out there; its result is 0.",
            _nan_if_still,
            _is_nan_where_still,
        ),
        Mistake(
            "no_error",
            "Right, but with fewer than 16 steps you returned something. A dozen scores say nothing about their tails: raise a ValueError.",
            _unguarded,
        ),
    ),
    hints=(
        "First one number for each step: `pattern[:, j + 4 :, j].mean(dim=1)` for j from 0 to n − 5, stacked to [head, n − 4].",
        "Then, along the steps: deviations from their mean; the mean of their fourth powers, divided by the square of the mean of their squares, minus 3.",
        "`torch.where(variance > 0, kurtosis, 0.0)` takes care of heads whose scores are all 0; fewer than 16 steps are refused before anything else.",
    ),
    reveal="Bogdan et al. (2025) find that some heads of reasoning models have a few sentences to which all later ones attend, and call them receiver heads. Kurtosis sees a single large score among many, and depends on how many there are: for n scores it is at most about n, so compare heads on texts of one length. And attention is not use: "
    "whether the answer rests on such a step, only an intervention can say.",
)
