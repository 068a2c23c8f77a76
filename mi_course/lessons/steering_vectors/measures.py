"""Measuring what a direction does: log-odds, KL divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import tensors_in

# ---------------------------------------------------------------------------------------------------------------------
# log_odds


def _log_sum(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def _log_odds(logits: Tensor, positive_ids: list[int], negative_ids: list[int]) -> Tensor:
    """Oracle: exponentials summed in Python's double precision."""
    if not positive_ids or not negative_ids:
        raise ValueError("an empty set of words")
    rows = logits.double().tolist()
    return torch.tensor([_log_sum([r[i] for i in positive_ids]) - _log_sum([r[i] for i in negative_ids]) for r in rows])


def _ids(draw: RandomInputs, vocab: int, p: int, n: int) -> tuple[list[int], list[int]]:
    order = draw.permutation(vocab)
    return order[:p], order[p : p + n]


def _log_odds_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            draw.normal(batch, vocab, mean=0.5, std=2.0),
            *_ids(draw, vocab, p, n),
            about=f"batch {batch}, {vocab} tokens, {p} positive and {n} negative words",
        )
        for batch, vocab, p, n in ((3, 9, 3, 2), (4, 14, 2, 5), (2, 11, 4, 3))
    ]


def _large_logits(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            draw.normal(3, 12, mean=sign * 300.0, std=3.0),
            *_ids(draw, 12, 3, 4),
            about=f"logits near {sign * 300}, whose exponentials leave float32",
            atol=2e-4,
        )
        for sign in (1, -1)
    ] + [_both_unlikely(draw)]


def _both_unlikely(draw: RandomInputs) -> Case:
    """Probabilities of both sets underflow, beside one token that takes all."""
    up, down = _ids(draw, 12, 3, 4)
    logits = draw.normal(3, 12, mean=-290.0, std=3.0)
    logits[:, next(i for i in range(12) if i not in up + down)] = 290.0
    return case(logits, up, down, about="both sets far less likely than another word", atol=2e-4)


def _empty_sets(draw: RandomInputs, size: str) -> list[Case]:
    logits, (up, down) = draw.normal(2, 10), _ids(draw, 10, 2, 3)
    sets = ((up, down), ([], down), (up, []))
    calls = tuple(Call((logits, p, n), "expects_error") for p, n in sets)
    return [Case(calls=calls, about="two sets of words, then an empty positive one, then an empty negative one")]


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A wrong answer that still refuses empty sets, so that the other mistake is named."""

    def log_odds(logits: Tensor, positive_ids: list[int], negative_ids: list[int]) -> Tensor:
        _log_odds(logits, positive_ids, negative_ids)
        return function(logits, positive_ids, negative_ids)

    return log_odds


def _set_probability(logits: Tensor, ids: list[int]) -> Tensor:
    return logits.softmax(-1)[:, ids].sum(-1)


LOG_ODDS = Exercise(
    id="steering_vectors.log_odds",
    revision=2,
    fixed={
        "logits[1]": "the ids index it",
        "positive_ids=twice": "a set holds no word twice",
        "negative_ids=twice": "a set holds no word twice",
    },
    task="For each row the log-odds of two sets of words: logsumexp over the positive ids minus logsumexp over the negative ones.",
    minutes=6,
    difficulty=1,
    oracle=_log_odds,
    parts=(
        Part("sets of several words", 2, _log_odds_cases),
        Part("large logits", 1, _large_logits),
        Part("an empty set is refused", 1, _empty_sets),
    ),
    mistakes=(
        Mistake(
            "first_words_only",
            'You compared the first word of each set. "great" may fall while "wonderful" rises: the probability of the whole set is asked for.',
            _refusing(lambda logits, up, down: logits[:, up[0]] - logits[:, down[0]]),
        ),
        Mistake(
            "mean_of_log_probabilities",
            "You averaged logits (or log-probabilities) over each set. One unlikely word then drags the whole set down. Probabilities add up: logsumexp, the log of the sum of exponentials.",
            _refusing(lambda logits, up, down: logits[:, up].mean(-1) - logits[:, down].mean(-1)),
        ),
        Mistake(
            "sum_of_log_probabilities",
            "You summed logits over each set, which multiplies the words' probabilities. *Any* of the words will do, so probabilities add up: logsumexp.",
            _refusing(lambda logits, up, down: logits[:, up].sum(-1) - logits[:, down].sum(-1)),
        ),
        Mistake(
            "mean_probability",
            "You divided each set's probability by its number of words. The odds are those of the whole sets: logsumexp, without the mean.",
            _refusing(
                lambda logits, up, down: (
                    logits[:, up].logsumexp(-1)
                    - math.log(len(up))
                    - logits[:, down].logsumexp(-1)
                    + math.log(len(down))
                )
            ),
        ),
        Mistake(
            "swapped",
            "Positive and negative are swapped: your number falls where the text gets more cheerful.",
            _refusing(lambda logits, up, down: _log_odds(logits, down, up)),
        ),
        Mistake(
            "likeliest_words_only",
            "You compared the likeliest word of each set. Close, but the others count too: logsumexp instead of the maximum.",
            _refusing(lambda logits, up, down: logits[:, up].amax(-1) - logits[:, down].amax(-1)),
        ),
        Mistake(
            "difference_of_probabilities",
            "This is a difference of probabilities. It is tiny where both sets are unlikely, however unequal they are. The log of their ratio is asked for.",
            _refusing(lambda logits, up, down: _set_probability(logits, up) - _set_probability(logits, down)),
        ),
        Mistake(
            "odds_without_log",
            "These are the odds, a ratio. Their logarithm is asked for.",
            _refusing(lambda logits, up, down: _log_odds(logits, up, down).exp()),
        ),
        Mistake(
            "in_bits",
            "Your log-odds are in bits (log to the base 2), larger by 1/ln 2 = 1.44. Use the natural logarithm.",
            _refusing(lambda logits, up, down: _log_odds(logits, up, down) / math.log(2)),
        ),
        Mistake(
            "positive_against_all_others",
            "This is the log-odds of the positive words against every other token. The odds against the *negative words* are asked for.",
            _refusing(
                lambda logits, up, down: _set_probability(logits, up).log() - (1 - _set_probability(logits, up)).log()
            ),
        ),
        Mistake(
            "averaged_over_batch",
            "You averaged over the batch. One number for each row is asked for; how prompts differ matters too.",
            _refusing(lambda logits, up, down: _log_odds(logits, up, down).mean()),
        ),
        Mistake(
            "empty_set_accepted",
            "Right where both sets have words. An empty set has probability 0, so your answer is infinite: raise ValueError instead.",
            lambda logits, up, down: logits[:, up].logsumexp(-1) - logits[:, down].logsumexp(-1),
        ),
        Mistake(
            "exponentials_overflow",
            "Right for small logits, but `exp` of a large one is infinite in float32 (and of a very small one 0). `logsumexp` subtracts the maximum first, and is exact.",
            _refusing(lambda logits, up, down: (logits[:, up].exp().sum(-1) / logits[:, down].exp().sum(-1)).log()),
            lambda case, observation: (
                bool(case.calls[0].args[0].abs().max() > 100)
                and any(not tensor.isfinite().all() for tensor in tensors_in(observation.replies[0].value))
            ),
        ),
    ),
    hints=(
        "The probability that the next word is *any* of a set is the sum of their probabilities. In logits: the log of a sum of exponentials.",
        "`logits[:, positive_ids]` has a column for each word. `.logsumexp(dim=-1)` adds them up as probabilities. The normaliser of the softmax is in both terms and cancels.",
        "Begin with `if not positive_ids or not negative_ids: raise ValueError(...)`.",
    ),
    reveal="log p(A)/p(B) = logsumexp over A minus logsumexp over B; the softmax's normaliser cancels, so logits will do. A set of words measures a mood more steadily than a pair: with one word on each side "
    "a change of wording looks like a change of opinion.",
)


# ---------------------------------------------------------------------------------------------------------------------
# kl_divergence


def _kl_divergence(base_logits: Tensor, steered_logits: Tensor) -> Tensor:
    """Oracle: Σ p (log p − log q), in Python's double precision."""
    out = []
    for base, steered in zip(base_logits.double().tolist(), steered_logits.double().tolist(), strict=True):
        a, b = _log_sum(base), _log_sum(steered)
        out.append(sum(math.exp(x - a) * ((x - a) - (y - b)) for x, y in zip(base, steered, strict=True)))
    return torch.tensor(out)


def _kl_pairs(shapes: tuple[tuple[int, int], ...], mean: float = 0.4, std: float = 1.5) -> Any:
    return lambda draw, size: [
        case(
            draw.normal(batch, vocab, mean=mean, std=std),
            draw.normal(batch, vocab, mean=mean - 1.0, std=std),
            about=f"batch {batch}, {vocab} tokens, logits near {mean:g}",
        )
        for batch, vocab in shapes
    ]


def _average_of_both(base: Tensor, steered: Tensor) -> Tensor:
    return (_kl_divergence(base, steered) + _kl_divergence(steered, base)) / 2


def _by_probabilities(base: Tensor, steered: Tensor) -> Tensor:
    p, q = base.softmax(-1), steered.softmax(-1)
    return (p * (p / q).log()).sum(-1)


KL_DIVERGENCE = Exercise(
    id="steering_vectors.kl_divergence",
    revision=2,
    fixed={
        "result>=0": "a divergence",
    },
    task="For each row KL(base ‖ steered) in nats: what predicting the steered way costs where the unsteered model is right.",
    minutes=6,
    difficulty=2,
    oracle=_kl_divergence,
    parts=(
        Part("random logits", 2, _kl_pairs(((3, 7), (4, 12), (2, 5)))),
        Part("distributions far apart", 1, _kl_pairs(((3, 9), (2, 14)), mean=-200.0, std=60.0)),
    ),
    mistakes=(
        Mistake(
            "other_way_round",
            "This is KL(steered ‖ base). The divergence is not symmetric: weigh with the *base* probabilities, since the question is what the unsteered model loses.",
            lambda base, steered: _kl_divergence(steered, base),
        ),
        Mistake(
            "both_ways",
            "You averaged both directions. KL(base ‖ steered) alone is asked for.",
            _average_of_both,
        ),
        Mistake(
            "cross_entropy",
            "This is the cross-entropy, −Σ p log q. Subtract the entropy of the base: of a model compared with itself the divergence is 0.",
            lambda base, steered: -(base.softmax(-1) * steered.log_softmax(-1)).sum(-1),
        ),
        Mistake(
            "sign_turned",
            "Your divergence is negative. It is Σ p (log p − log q), and never below 0.",
            lambda base, steered: -_kl_divergence(base, steered),
        ),
        Mistake(
            "in_bits",
            "Your divergence is in bits, larger by 1/ln 2 = 1.44. Nats are asked for.",
            lambda base, steered: _kl_divergence(base, steered) / math.log(2),
        ),
        Mistake(
            "averaged_over_tokens",
            "You averaged over the vocabulary. The terms of one distribution are *summed* (beware of `F.kl_div`, whose default averages over everything).",
            lambda base, steered: _kl_divergence(base, steered) / base.shape[-1],
        ),
        Mistake(
            "averaged_over_batch",
            "You averaged over the batch. One number for each row is asked for.",
            lambda base, steered: _kl_divergence(base, steered).mean(),
        ),
        Mistake(
            "raw_logits",
            "You subtracted raw logits. They have no common zero: take `log_softmax` of both first.",
            lambda base, steered: (base.softmax(-1) * (base - steered)).sum(-1),
        ),
        Mistake(
            "softmax_over_batch",
            "Your softmax runs over the batch. Probabilities are normalised over the vocabulary, the last axis.",
            lambda base, steered: (base.softmax(0) * (base.log_softmax(0) - steered.log_softmax(0))).sum(-1),
        ),
        Mistake(
            "log_of_zero",
            "Right for distributions near each other; far apart, a probability underflows to 0, and its logarithm is infinite. `log_softmax` gives log-probabilities without leaving the logs.",
            _by_probabilities,
            lambda case, observation: (
                bool(case.calls[0].args[0].abs().max() > 100)
                and any(not tensor.isfinite().all() for tensor in tensors_in(observation.replies[0].value))
            ),
        ),
    ),
    hints=(
        "`log_softmax(dim=-1)` of both, and the base's probabilities as its exponential.",
        "Σ p (log p − log q), summed over the vocabulary, one number for each row.",
    ),
    reveal="Weighted with the base's probabilities, the divergence counts changes where the unsteered model put its weight. On neutral text a vector that carries one concept should hardly change anything; if the divergence is large there, "
    "what looks like an effect may be a broken model.",
)
