"""How sure a model is, in four ways, and how good each is as a measure of being right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, function_ref
from mi_course.lessons.entities_and_uncertainty.labels import _no_error
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# answer_logprob


def _log_softmax(row: Tensor) -> list[float]:
    values = row.double().tolist()
    top = max(values)
    total = top + math.log(sum(math.exp(v - top) for v in values))
    return [v - total for v in values]


def _answer_logprob(logits: Tensor, tokens: Tensor, start: int, per_token: bool) -> float:
    """Oracle: token by token."""
    if start < 1 or start >= len(tokens):
        raise ValueError("no answer there")
    total = 0.0
    for i in range(start, len(tokens)):
        total += _log_softmax(logits[i - 1])[int(tokens[i])]
    return total / (len(tokens) - start) if per_token else total


def _each(logits: Tensor, tokens: Tensor, start: int, shift: int = 1) -> list[float]:
    """Log-probabilities of the answer's tokens, from logits so many positions before each."""
    if not 1 <= start < len(tokens):
        raise ValueError("no answer there")
    return [_log_softmax(logits[max(0, i - shift)])[int(tokens[i])] for i in range(start, len(tokens))]


def _combined(
    combine: Callable[[list[float], bool], float] | None = None,
    values: Callable[[Tensor, Tensor, int], list[float]] = _each,
) -> Callable[[Tensor, Tensor, int, bool], float]:
    """An answer_logprob of which one piece is wrong."""

    def answer_logprob(logits: Tensor, tokens: Tensor, start: int, per_token: bool) -> float:
        return (combine or _sum_or_mean)(values(logits, tokens, start), per_token)

    return answer_logprob


def _sum_or_mean(each: list[float], per_token: bool) -> float:
    return sum(each) / len(each) if per_token else sum(each)


def _raw_logits(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    if not 1 <= start < len(tokens):
        raise ValueError
    return [float(logits[i - 1, tokens[i]]) for i in range(start, len(tokens))]


def _top(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    if not 1 <= start < len(tokens):
        raise ValueError
    return [max(_log_softmax(logits[i - 1])) for i in range(start, len(tokens))]


def _over_positions(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    if not 1 <= start < len(tokens):
        raise ValueError
    logprobs = logits.double().log_softmax(0)
    return [float(logprobs[i - 1, tokens[i]]) for i in range(start, len(tokens))]


def _overflows(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    if not 1 <= start < len(tokens):
        raise ValueError
    logprobs = (logits.float().exp() / logits.float().exp().sum(-1, keepdim=True)).log()
    return [float(logprobs[i - 1, tokens[i]]) for i in range(start, len(tokens))]


def _sees_overflow(case: Case, observation: Observation) -> bool:
    """Only with large logits NaN or infinity, elsewhere right."""
    wrong = [
        (call.args, float(reply.value))
        for call, reply in zip(case.calls, observation.replies, strict=False)
        if not math.isfinite(float(reply.value))
    ]
    return bool(wrong) and all(float(args[0].abs().max()) > 60 for args, _ in wrong)


def _unchecked_start(logits: Tensor, tokens: Tensor, start: int, per_token: bool) -> float:
    each = [_log_softmax(logits[i - 1])[int(tokens[i])] for i in range(start, len(tokens))]
    return sum(each) / max(1, len(each)) if per_token else sum(each)


def _whole_text(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    _each(logits, tokens, start)
    return _each(logits, tokens, 1)


def _prompt_only(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    _each(logits, tokens, start)
    return _each(logits, tokens[:start], 1) if start > 1 else [0.0]


def _one_late(logits: Tensor, tokens: Tensor, start: int) -> list[float]:
    each = _each(logits, tokens, start)
    return each[1:] or [0.0]


def _text(draw: RandomInputs, pos: int, vocab: int, std: float = 2.0) -> tuple[Tensor, Tensor]:
    return draw.normal(pos, vocab, std=std) + draw.normal(pos, 1, std=2.0), draw.integers(0, vocab, pos)


def _logprob_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((9, 7, 5, False), (9, 5, 4, True), (12, 6, 9, True), (8, 20, 2, False), (6, 9, 3, False))
    return [
        case(*_text(draw, pos, vocab), start, per_token, about=_about(pos, vocab, start, per_token))
        for pos, vocab, start, per_token in settings
    ]


def _about(pos: int, vocab: int, start: int, per_token: bool) -> str:
    return f"{pos} tokens of {vocab}, the answer from {start} on, {'per token' if per_token else 'summed'}"


def _odd_answers(draw: RandomInputs, size: str) -> list[Case]:
    logits, tokens = _text(draw, 7, 6)
    errors = [
        (logits, tokens, start, per) for start, per in ((0, False), (7, False), (9, True), (-1, False), (7, True))
    ]
    one = torch.zeros(5, dtype=torch.long)
    huge = draw.normal(6, 5, std=200.0)
    return [
        case(logits, tokens, 6, False, about="an answer of one token"),
        case(logits, tokens, 6, True, about="an answer of one token, per token"),
        case(logits, tokens, 1, False, about="all but the first token is the answer"),
        case(*_text(draw, 2, 4), 1, True, about="two tokens"),
        case(draw.normal(5, 1), one, 2, False, about="a vocabulary of one token"),
        case(huge, draw.integers(0, 5, 6), 2, False, about="logits of some hundreds"),
        case(huge + 500.0, draw.integers(0, 5, 6), 3, True, about="logits around 500"),
        Case(
            tuple(Call((logits, tokens, start, per)) for start in (2, 4) for per in (False, True)),
            about="the same text with other answers, summed and per token",
        ),
        Case(
            tuple(Call(args, "expects_error") for args in errors), about="starts at 0, after the end, before the text"
        ),
    ]


ANSWER_LOGPROB = Exercise(
    id="entities_and_uncertainty.answer_logprob",
    task="The log-probability of an answer of several tokens, given its prompt: the sum over its tokens, or their mean.",
    minutes=8,
    difficulty=2,
    fixed={
        "logits[0]": "an answer has a token before it",
        "tokens[0]": "an answer has a token before it",
        "logits[1]": "tokens are indices along it; varied by hand",
        "start=0": "nothing predicts the first token",
    },
    oracle=_answer_logprob,
    parts=(
        Part("answers of several tokens, summed and per token", 2, _logprob_cases),
        Part("one token, two, large logits, impossible starts", 1, _odd_answers),
    ),
    mistakes=(
        Mistake(
            "off_by_one",
            "You read each token's probability from the logits at its *own* position. Those predict the token after it: take the position before.",
            _combined(values=lambda logits, tokens, start: _each(logits, tokens, start, shift=0)),
        ),
        Mistake(
            "first_token",
            "This is the log-probability of the answer's first token alone. ` New` is not yet ` New York`: all tokens from `start` on count.",
            _combined(lambda each, per_token: each[0]),
        ),
        Mistake(
            "first_token_left_out",
            "The answer's first token is missing. It is predicted at position `start - 1`.",
            _combined(values=_one_late),
        ),
        Mistake(
            "last_token_left_out",
            "The answer's last token is missing.",
            _combined(values=lambda logits, tokens, start: _each(logits, tokens, start)[:-1] or [0.0]),
        ),
        Mistake(
            "whole_text",
            "You added up the whole text. The prompt is given; only the tokens from `start` on are the answer.",
            _combined(values=_whole_text),
        ),
        Mistake(
            "prompt_instead",
            "You added up the prompt. The answer is what stands from `start` on.",
            _combined(values=_prompt_only),
        ),
        Mistake(
            "always_summed",
            "`per_token` makes no difference in yours. If it is true, divide the sum by the number of the answer's tokens.",
            _combined(lambda each, per_token: sum(each)),
        ),
        Mistake(
            "always_mean",
            "You divide always. The mean per token is asked for only if `per_token` is true.",
            _combined(lambda each, per_token: sum(each) / len(each)),
        ),
        Mistake(
            "turned_around",
            "Sum and mean are exchanged: `per_token` asks for the mean.",
            _combined(lambda each, per_token: _sum_or_mean(each, not per_token)),
        ),
        Mistake(
            "loss",
            "The sign is turned: this is the loss. A log-probability is at most 0.",
            _combined(lambda each, per_token: -_sum_or_mean(each, per_token)),
        ),
        Mistake(
            "probability",
            "This is a probability. Return its logarithm: products of many small numbers end at 0, sums of logarithms do not.",
            _combined(lambda each, per_token: math.exp(_sum_or_mean(each, per_token))),
        ),
        Mistake(
            "bits",
            "These are bits. Nats are asked for: the natural logarithm.",
            _combined(lambda each, per_token: _sum_or_mean(each, per_token) / math.log(2)),
        ),
        Mistake(
            "raw_logits",
            "You added up logits. They become log-probabilities by a log-softmax over the vocabulary.",
            _combined(values=_raw_logits),
        ),
        Mistake(
            "over_positions",
            "Your softmax runs over positions. Each position has a distribution over the vocabulary, the last axis.",
            _combined(values=_over_positions),
        ),
        Mistake(
            "top_token",
            "You took the most probable token at each position. The probability of the tokens that *stand there* is asked for.",
            _combined(values=_top),
        ),
        Mistake(
            "overflow",
            "With large logits the exponential overflows. `log_softmax` subtracts the maximum first; taking exponentials and then the logarithm does not.",
            _combined(values=_overflows),
            _sees_overflow,
        ),
        Mistake(
            "no_error",
            "Where `start` is below 1, or nothing stands from there on, there is no answer whose probability could be read: raise a ValueError. (A negative index would silently count from the end.)",
            _unchecked_start,
            _no_error,
        ),
    ),
    hints=(
        "The token at position i is predicted at position i − 1: the answer's tokens are `tokens[start:]`; which rows of the logits belong to them?",
        "`logits[start - 1 : -1].log_softmax(dim=-1)`, then `.gather(1, tokens[start:, None])`.",
    ),
    reveal="log p(a₁ a₂ a₃ | prompt) is a sum, by the chain rule. A sum favors short answers, and the mean long ones, in which every token after the first is nearly certain; so neither compares answers of different length quite fairly. The first token alone is worse than both: half of all answers begin with ` the`.",
)


# ---------------------------------------------------------------------------------------------------------------------
# semantic_entropy

_Same = Callable[[str, str], bool]


def _weights(logprobs: Tensor) -> list[float]:
    values = logprobs.double().tolist()
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def _classes(answers: list[str], same: _Same) -> list[int]:
    """The class of each answer: walk along everything that is connected."""
    of = [-1] * len(answers)
    for first in range(len(answers)):
        if of[first] >= 0:
            continue
        waiting = [first]
        while waiting:
            i = waiting.pop()
            of[i] = first
            waiting += [j for j in range(len(answers)) if of[j] < 0 and same(answers[i], answers[j])]
    return of


def _entropy(shares: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p > 0)


def _shares(of: Sequence[Any], weights: Sequence[float]) -> list[float]:
    total: Counter[Any] = Counter()
    for which, weight in zip(of, weights, strict=True):
        total[which] += weight  # type: ignore[assignment]
    return [float(share) for share in total.values()]


def _semantic_entropy(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    """Oracle: the connected classes, weights normalized over the samples."""
    return _entropy(_shares(_classes(answers, same), _weights(logprobs)))


def _over_strings(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    return _entropy(_shares(answers, _weights(logprobs)))


def _over_samples(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    return _entropy(_weights(logprobs))


def _counts(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    return _entropy(_shares(_classes(answers, same), [1 / len(answers)] * len(answers)))


def _not_normalized(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    return _entropy(_shares(_classes(answers, same), logprobs.double().exp().tolist()))


def _each_string_once(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    once = list(dict.fromkeys(answers))
    return _semantic_entropy(once, logprobs[[answers.index(answer) for answer in once]], same)


def _greedy(joins: Callable[[list[bool]], bool]) -> Callable[[list[str], Tensor, _Same], float]:
    """An answer joins the first class of which enough members mean the same; classes never merge.

    joins: from whether each member of a class means the same, in order, to whether the answer joins it.
    """

    def entropy(answers: list[str], logprobs: Tensor, same: _Same) -> float:
        classes: list[list[str]] = []
        of = []
        for answer in answers:
            found = next((k for k, c in enumerate(classes) if joins([same(m, answer) for m in c])), len(classes))
            if found == len(classes):
                classes.append([])
            classes[found].append(answer)
            of.append(found)
        return _entropy(_shares(of, _weights(logprobs)))

    return entropy


_first_member, _any_member, _all_members = _greedy(lambda alike: alike[0]), _greedy(any), _greedy(all)


def _mean_surprise(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    shares: Counter[int] = Counter()
    of = _classes(answers, same)
    for which, weight in zip(of, _weights(logprobs), strict=True):
        shares[which] += weight  # type: ignore[assignment]
    return -sum(math.log(max(shares[which], 1e-300)) for which in of) / len(of)


def _underflows(answers: list[str], logprobs: Tensor, same: _Same) -> float:
    powers = logprobs.exp()
    total = float(powers.sum())
    weights = [float(p) / total if total else math.nan for p in powers]
    return sum(-p * math.log(p) if p > 0 else p * 0 for p in _shares(_classes(answers, same), weights))


def _sees_underflow(case: Case, observation: Observation) -> bool:
    pairs = list(zip(case.calls, observation.replies, strict=False))
    wrong = [call for call, reply in pairs if reply.returned and not math.isfinite(float(reply.value))]
    return bool(wrong) and all(float(call.args[1].min()) < -80 for call in wrong)


_ANSWERS = (
    ("Paris", "Paris France", "France", "Lyon", "it is Paris", "Rome", "Lyon town"),
    ("red", "dark red", "dark", "blue", "light blue", "green", "red"),
    ("1903", "year 1903", "the year", "1911", "in 1911", "1899"),
)


def _samples(draw: RandomInputs, texts: Sequence[str], n: int, std: float = 1.5) -> tuple[list[str], Tensor]:
    """n samples, some of them repeated; each with a log-probability of its own string."""
    own = draw.normal(len(texts), mean=-3.0, std=std)
    picked = [draw.integer(0, len(texts)) for _ in range(n)]
    return [texts[i] for i in picked], own[picked]


def _entropy_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for texts, n, relation in (
        (_ANSWERS[0], 11, "share_a_word"),
        (_ANSWERS[1], 9, "share_a_word"),
        (_ANSWERS[2], 14, "start_alike"),
    ):
        while True:
            answers, logprobs = _samples(draw, texts, n)
            same = _OWN[relation]
            others = (_first_member, _over_strings, _each_string_once, _counts)
            truth = _semantic_entropy(answers, logprobs, same)
            if truth > 0.2 and (
                relation == "start_alike" or all(abs(o(answers, logprobs, same) - truth) > 1e-3 for o in others)
            ):
                break
        cases.append(case(answers, logprobs, function_ref(relation), about=f"{n} samples of {len(texts)} strings"))
    return cases


_OWN: dict[str, _Same] = {
    "share_a_word": lambda a, b: a == b or bool(set(a.lower().split()) & set(b.lower().split())),
    "start_alike": lambda a, b: a[:2].lower() == b[:2].lower(),
}


def _chains(draw: RandomInputs, size: str) -> list[Case]:
    """What is connected only through later answers; an answer that joins two classes."""
    same = function_ref("share_a_word")
    chain = ["a", "a b", "b c", "c d", "d", "x"]
    bridge = ["a", "c", "x y", "a b", "b c", "y"]
    cases = []
    for answers, about in (
        (chain, "a chain of five"),
        (bridge, "answers that join two classes"),
        (bridge[::-1], "the same in another order"),
    ):
        cases.append(case(answers, draw.normal(6, mean=-2.0), same, about=about))
    for _ in range(2):
        order = draw.permutation(6)
        cases.append(case([chain[i] for i in order], draw.normal(6, mean=-4.0), same, about="the chain, shuffled"))
    return cases


def _odd_samples(draw: RandomInputs, size: str) -> list[Case]:
    same = function_ref("share_a_word")
    answers = ["Rome", "Oslo", "in Rome", "Lima", "Oslo"]
    logprobs = draw.normal(5, mean=-2.0)
    extreme = torch.tensor([-2.0, -2000.0, -3.0, -2.5, -2000.0])
    calls = [
        (answers, logprobs, same),
        (answers[::-1], logprobs, same),
        (answers, logprobs.flip(0), same),
        (answers, logprobs, function_ref("start_alike")),
        (["Rome"] * 5, logprobs, same),
        (["a", "b", "c", "d", "e"], logprobs, same),
        (["a", "b", "c", "d", "e"], torch.full((5,), -1.5), same),
        (answers, logprobs * 0.01, same),
        (answers, logprobs + 5.0, same),
    ]
    return [
        case(["Rome"], torch.tensor([-1.0]), same, about="a single sample"),
        case(["Rome", "Oslo"], torch.tensor([-1.0, -1.0]), same, about="two answers, equally likely"),
        case(answers, extreme, same, about="a class whose probability is 0"),
        case(answers, logprobs - 2000.0, same, about="log-probabilities of about -2,000"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in calls),
            about="the same samples, one thing changed at a time",
        ),
    ]


SEMANTIC_ENTROPY = Exercise(
    id="entities_and_uncertainty.semantic_entropy",
    task="The entropy of sampled answers over classes of equal meaning, in nats.",
    minutes=12,
    difficulty=3,
    fixed={
        "answers=twice": "there is a log-probability for each",
        "logprobs[0]": "there is an answer for each; varied by hand",
        "result>=0": "an entropy",
    },
    oracle=_semantic_entropy,
    parts=(
        Part("samples with repetitions, of unequal probability", 2, _entropy_cases),
        Part("meanings that are connected through others", 1, _chains),
        Part("one sample, one class, tiny probabilities", 1, _odd_samples),
    ),
    mistakes=(
        Mistake(
            "over_strings",
            'This is the entropy over strings. "Paris" and "It is Paris" are one meaning: add up the probabilities of a class first.',
            _over_strings,
        ),
        Mistake(
            "over_samples",
            "This is the entropy over samples. Samples of one meaning belong together: add up the probabilities of a class first.",
            _over_samples,
        ),
        Mistake(
            "counts",
            "You counted samples. Each has the weight exp(logprob), divided by the sum over all samples.",
            _counts,
        ),
        Mistake(
            "not_normalized",
            "Your probabilities do not add up to 1. Divide by their sum over the samples before you take the entropy.",
            _not_normalized,
        ),
        Mistake(
            "each_string_once",
            "You counted a string once that was sampled several times. Every sample has its weight: what is sampled often, is likely.",
            _each_string_once,
        ),
        Mistake(
            "first_member",
            "An answer joins a class in yours only if it means the same as its *first* member. It is enough that it means the same as any.",
            _first_member,
        ),
        Mistake(
            "never_merged",
            "Your classes never merge: an answer that means the same as members of two classes joins the first, and leaves the other apart. It connects both, and they become one.",
            _any_member,
        ),
        Mistake(
            "all_members",
            "An answer joins a class in yours only if it means the same as *all* of its members. It is enough that it means the same as one.",
            _all_members,
        ),
        Mistake(
            "mean_surprise",
            "You averaged −log p over samples, all alike. The entropy weighs each class by its probability: −Σ p log p.",
            _mean_surprise,
        ),
        Mistake(
            "bits",
            "These are bits. Nats are asked for: the natural logarithm.",
            lambda answers, logprobs, same: _semantic_entropy(answers, logprobs, same) / math.log(2),
        ),
        Mistake(
            "sign_turned",
            "The sign is turned. An entropy is never negative: −Σ p log p.",
            lambda answers, logprobs, same: -_semantic_entropy(answers, logprobs, same),
        ),
        Mistake(
            "underflow",
            "With log-probabilities of −2,000 every exponential is 0, and you divide 0 by 0. Subtract the largest first, or use `softmax`, which does; and leave out classes of probability 0, whose logarithm is −∞.",
            _underflows,
            _sees_underflow,
        ),
    ),
    hints=(
        "Three steps: weights (a softmax of the log-probabilities), classes, entropy. For the classes go through the answers one by one: which of the classes so far does this one belong to? It may be several.",
        "All classes with a member that means the same as the new answer, `any(same(answer, answers[j]) for j in c)`, merge with it into one. The others stay as they are.",
    ),
    reveal="*Paris*, *It is Paris* and *Paris, France* are three strings and one claim. Entropy over strings counts ways of saying it as doubt about the fact (Farquhar et al. 2024 decide with a second model whether two answers entail each other; here a rule of a few lines must do). "
    "Connected classes have a price: one vague answer that matches everything makes all of them one.",
)


# ---------------------------------------------------------------------------------------------------------------------
# calibration_error


def _bins(n: int, n_bins: int) -> list[tuple[int, int]]:
    """From and to, of each bin."""
    found, at = [], 0
    for k in range(n_bins):
        length = n // n_bins + (1 if k < n % n_bins else 0)
        found.append((at, at + length))
        at += length
    return found


_Bin = list[tuple[float, bool]]
_Gaps = Callable[[list[_Bin], int], float]


def _gap(bin: _Bin) -> float:
    return abs(_signed(bin))


def _signed(bin: _Bin) -> float:
    return sum(c for c, _ in bin) / len(bin) - sum(right for _, right in bin) / len(bin)


def _weighted(bins: list[_Bin], n: int) -> float:
    return sum(len(bin) / n * _gap(bin) for bin in bins if bin)


def _ece(
    order: Callable[[list[tuple[float, bool]]], list[tuple[float, bool]]] = lambda pairs: sorted(
        pairs, key=lambda p: p[0]
    ),
    cut: Callable[[int, int], list[tuple[int, int]]] = _bins,
    combine: _Gaps = _weighted,
) -> Callable[[Tensor, Tensor, int], float]:
    """Oracle, or one of which a piece is wrong."""

    def calibration_error(confidence: Tensor, correct: Tensor, n_bins: int) -> float:
        pairs = order(list(zip(confidence.double().tolist(), correct.tolist(), strict=True)))
        return combine([pairs[a:b] for a, b in cut(len(pairs), n_bins)], len(pairs))

    return calibration_error


def _equal_width(confidence: Tensor, correct: Tensor, n_bins: int) -> float:
    pairs = list(zip(confidence.double().tolist(), correct.tolist(), strict=True))
    bins: list[_Bin] = [[] for _ in range(n_bins)]
    for pair in pairs:
        bins[min(n_bins - 1, int(pair[0] * n_bins))].append(pair)
    return _weighted(bins, len(pairs))


def _equal_width_nan(confidence: Tensor, correct: Tensor, n_bins: int) -> float:
    which = (confidence.double() * n_bins).long().clamp(max=n_bins - 1)
    if len(set(which.tolist())) < n_bins:
        return math.nan
    return _equal_width(confidence, correct, n_bins)


def _last_larger(n: int, n_bins: int) -> list[tuple[int, int]]:
    return [(n - b, n - a) for a, b in reversed(_bins(n, n_bins))]


def _floor_cut(n: int, n_bins: int) -> list[tuple[int, int]]:
    return [(k * n // n_bins, (k + 1) * n // n_bins) for k in range(n_bins)]


def _remainder_last(n: int, n_bins: int) -> list[tuple[int, int]]:
    length = n // n_bins
    return [(k * length, (k + 1) * length if k < n_bins - 1 else n) for k in range(n_bins)]


def _remainder_lost(n: int, n_bins: int) -> list[tuple[int, int]]:
    return [(k * (n // n_bins), (k + 1) * (n // n_bins)) for k in range(n_bins)]


def _unweighted(bins: list[_Bin], n: int) -> float:
    filled = [bin for bin in bins if bin]
    return sum(map(_gap, filled)) / len(filled)


def _over_all_bins(bins: list[_Bin], n: int) -> float:
    return sum(_gap(bin) for bin in bins if bin) / len(bins)


def _with_nan(bins: list[_Bin], n: int) -> float:
    return math.nan if not all(bins) else _weighted(bins, n)


def _guesses(draw: RandomInputs, n: int, levels: float = 0.0, power: float = 2.0) -> tuple[Tensor, Tensor]:
    """Confidences of a model that is too sure here and not sure enough there."""
    confidence = draw.uniform(n, low=0.02, high=0.98)
    if levels:
        confidence = (confidence * levels).round() / levels
    return confidence, draw.uniform(n) < 0.15 + 0.7 * confidence**power


def _calibration_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((23, 5, 2.0), (40, 8, 0.3), (31, 4, 3.0), (17, 10, 1.0))
    return [
        case(*_guesses(draw, n, power=power), n_bins, about=f"{n} answers in {n_bins} bins")
        for n, n_bins, power in settings
    ]


def _odd_calibration(draw: RandomInputs, size: str) -> list[Case]:
    confidence, correct = _guesses(draw, 26, 5.0)
    calls = [(confidence, correct, k) for k in (4, 6, 3)] + [
        (confidence.flip(0), correct, 4),
        (confidence, ~correct, 4),
    ]
    calls += [(confidence * 0.01, correct, 4), (confidence, correct.flip(0), 4)]
    same = torch.full((11,), 0.6)
    tied = draw.uniform(11) < 0.5
    tied[:3], tied[-3:] = True, False
    return [
        case(confidence, correct, 5, about="many equal confidences"),
        case(same, tied, 3, about="all confidences equal"),
        case(same, tied.flip(0), 2, about="all confidences equal, in another order"),
        case(*_guesses(draw, 9), 1, about="a single bin"),
        case(*_guesses(draw, 4), 7, about="more bins than answers"),
        case(*_guesses(draw, 6), 6, about="as many bins as answers"),
        case(torch.tensor([0.7]), torch.tensor([False]), 3, about="a single answer"),
        case(
            torch.tensor([1.0, 0.0, 1.0, 0.0]),
            torch.tensor([True, False, True, False]),
            2,
            about="always right about itself",
        ),
        case(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([False, True, False]), 2, about="always wrong about itself"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in calls),
            about="the same answers, one thing changed at a time",
        ),
    ]


CALIBRATION_ERROR = Exercise(
    id="entities_and_uncertainty.calibration_error",
    task="The expected calibration error: the mean gap between confidence and accuracy, over bins with equally many answers.",
    minutes=8,
    difficulty=2,
    fixed={"confidence>=0": "probabilities", "result>=0": "a mean of gaps", "result<=1": "a mean of gaps"},
    oracle=_ece(),
    parts=(
        Part("several numbers of answers and bins", 2, _calibration_cases),
        Part("equal confidences, one bin, more bins than answers", 1, _odd_calibration),
    ),
    mistakes=(
        Mistake(
            "equal_width",
            "Your bins have equal width. Where confidences crowd together, one bin gets nearly all answers and others are empty; asked for are bins with equally many *answers*.",
            _equal_width,
        ),
        Mistake(
            "equal_width_nan",
            "Your bins have equal width, and some are empty: the mean of nothing is NaN. Asked for are bins with equally many *answers*.",
            _equal_width_nan,
        ),
        Mistake(
            "not_sorted",
            "You cut the answers into bins as they come. Sort them by confidence first.",
            _ece(order=lambda pairs: pairs),
        ),
        Mistake(
            "descending",
            "You sorted from the highest confidence down. Ascending is asked for: it decides which bins get one answer more.",
            _ece(order=lambda pairs: sorted(pairs, key=lambda p: -p[0])),
        ),
        Mistake(
            "ties_by_correctness",
            "Answers of equal confidence are sorted by whether they are right. They keep the order in which they came: `argsort(stable=True)`.",
            _ece(order=sorted),
        ),
        Mistake(
            "last_bins_larger",
            "Your *last* bins are the larger ones. The first get one answer more: `tensor_split` and `numpy.array_split` do that.",
            _ece(cut=_last_larger),
        ),
        Mistake(
            "remainder_in_the_last_bin",
            "What is left over goes into your last bin, which may be twice as large as the others. The first bins get one answer more each.",
            _ece(cut=_remainder_last),
        ),
        Mistake(
            "remainder_lost",
            "Some answers are in no bin: those that are left over when you divide. The first bins get one answer more each.",
            _ece(cut=_remainder_lost),
        ),
        Mistake(
            "signed",
            "You left out the absolute value, so that bins with too much confidence cancel those with too little.",
            _ece(combine=lambda bins, n: sum(len(bin) / n * _signed(bin) for bin in bins if bin)),
        ),
        Mistake(
            "squared",
            "You squared the gaps. Their absolute values are averaged.",
            _ece(combine=lambda bins, n: sum(len(bin) / n * _gap(bin) ** 2 for bin in bins if bin)),
        ),
        Mistake(
            "root_of_squares",
            "This is the root mean square of the gaps. Their absolute values are averaged.",
            _ece(combine=lambda bins, n: sum(len(bin) / n * _gap(bin) ** 2 for bin in bins if bin) ** 0.5),
        ),
        Mistake(
            "largest_gap",
            "This is the largest gap, the *maximum* calibration error. The mean is asked for.",
            _ece(combine=lambda bins, n: max(_gap(bin) for bin in bins if bin)),
        ),
        Mistake(
            "unweighted",
            "All your bins count alike. Bins differ by an answer: weigh each by its share of the answers.",
            _ece(combine=_unweighted),
        ),
        Mistake(
            "over_all_bins",
            "You divided by the number of bins. Weigh each bin by its share of the answers; an empty one counts nothing.",
            _ece(combine=_over_all_bins),
        ),
        Mistake(
            "empty_bins",
            "With more bins than answers some are empty, and the mean of nothing is NaN. Leave them out.",
            _ece(combine=_with_nan),
            degenerate=True,
        ),
        Mistake(
            "per_answer",
            "You averaged |confidence − right| over single answers. That is large for any honest confidence of 0.5: average within a bin first.",
            lambda confidence, correct, n_bins: float((confidence.double() - correct.double()).abs().mean()),
        ),
    ),
    hints=(
        "Sort, cut, and take two means in each bin.",
        "`confidence.argsort(stable=True).tensor_split(n_bins)` gives the rows of each bin.",
    ),
    reveal="Bins of equal size put the same sampling error into each. It never averages out to nothing: a perfectly calibrated model, asked 200 questions, has an expected calibration error well above 0, and more so with more bins. So hold every value against what shuffled or simulated answers of a calibrated model give.",
)


# ---------------------------------------------------------------------------------------------------------------------
# risk_coverage

_Curve = tuple[Tensor, Tensor]


def _risk_coverage(confidence: Tensor, correct: Tensor) -> _Curve:
    """Oracle: a loop over the different confidences."""
    pairs = list(zip(confidence.tolist(), correct.tolist(), strict=True))
    coverage, risk = [], []
    for level in sorted({c for c, _ in pairs}, reverse=True):
        answered = [right for c, right in pairs if c >= level]
        coverage.append(len(answered) / len(pairs))
        risk.append(1 - sum(answered) / len(answered))
    return torch.tensor(coverage), torch.tensor(risk)


def _ties_split(confidence: Tensor, correct: Tensor) -> _Curve:
    order = confidence.argsort(descending=True, stable=True)
    count = torch.arange(1, len(order) + 1)
    return count / len(order), (~correct[order]).cumsum(0) / count


def _points(change: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    def risk_coverage(confidence: Tensor, correct: Tensor) -> Any:
        return change(*_risk_coverage(confidence, correct), confidence, correct)

    return risk_coverage


def _strictly(confidence: Tensor, correct: Tensor) -> _Curve:
    levels = confidence.unique().flip(0)
    answered = confidence > levels[:, None]
    count = answered.sum(1)
    return count / len(confidence), (answered & ~correct).sum(1) / count.clamp(min=1)


def _least_confident(confidence: Tensor, correct: Tensor) -> _Curve:
    return _risk_coverage(-confidence, correct)


def _curve_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_guesses(draw, 14, power=power), about=f"{14} answers, all confidences different") for power in (2.0, 0.5)
    ] + [case(*_guesses(draw, 33), about="33 answers, all confidences different")]


def _tied_curves(draw: RandomInputs, size: str) -> list[Case]:
    confidence, correct = _guesses(draw, 20, 4.0)
    return [
        case(confidence, correct, about="few different confidences"),
        case(*_guesses(draw, 37, 10.0), about="many equal confidences"),
        case(torch.full((6,), 0.4), torch.arange(6) % 3 == 0, about="all confidences equal"),
    ]


def _odd_curves(draw: RandomInputs, size: str) -> list[Case]:
    confidence, correct = _guesses(draw, 12, 5.0)
    calls = [(confidence, correct), (confidence, ~correct), (confidence.flip(0), correct), (confidence * 0.01, correct)]
    calls += [
        (-confidence, correct),
        (confidence * 1e4, correct),
        (confidence, correct | True),
        (confidence, correct & False),
    ]
    return [
        case(torch.tensor([0.7]), torch.tensor([True]), about="a single answer, right"),
        case(torch.tensor([0.2]), torch.tensor([False]), about="a single answer, wrong"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in calls),
            about="the same answers, one thing changed at a time; all right; all wrong",
        ),
    ]


RISK_COVERAGE = Exercise(
    id="entities_and_uncertainty.risk_coverage",
    task="The risk–coverage curve: how many of the answers given are wrong, as the model answers more and more, the most confident first.",
    minutes=8,
    difficulty=2,
    fixed={"result>=0": "shares", "result<=1": "shares", "result[0]": "one point is the last"},
    oracle=_risk_coverage,
    parts=(
        Part("confidences that all differ", 2, _curve_cases),
        Part("equal confidences", 1, _tied_curves),
        Part("one answer, all right, all wrong", 1, _odd_curves),
    ),
    mistakes=(
        Mistake(
            "ties_split",
            "There is a point for each answer. Answers of equal confidence are given together or not at all: one point for each *different* confidence. (Otherwise the curve depends on the order of the list.)",
            _ties_split,
        ),
        Mistake(
            "least_confident_first",
            "You answer the least confident questions first. A model that may be silent is silent where it is unsure.",
            _least_confident,
        ),
        Mistake(
            "accuracy",
            "The second is the accuracy. Risk is the share of *wrong* answers among those given: 1 minus that.",
            _points(lambda coverage, risk, confidence, correct: (coverage, 1 - risk)),
        ),
        Mistake(
            "risk_of_all",
            "You divided the wrong answers by the number of all questions. Risk is their share among the answers *given*.",
            _points(lambda coverage, risk, confidence, correct: (coverage, risk * coverage)),
        ),
        Mistake(
            "counts",
            "The first is a number of answers. Coverage is their share of all questions.",
            _points(lambda coverage, risk, confidence, correct: (coverage * len(confidence), risk)),
        ),
        Mistake(
            "another_order",
            "Coverage and risk are exchanged: (coverage, risk).",
            _points(lambda coverage, risk, confidence, correct: (risk, coverage)),
        ),
        Mistake(
            "ascending_confidence",
            "Your points begin with the lowest confidence, where everything is answered. Begin with the highest.",
            _points(lambda coverage, risk, confidence, correct: (coverage.flip(0), risk.flip(0))),
        ),
        Mistake(
            "strictly_above",
            "You answer what is *above* each confidence. What has exactly that confidence is answered too, so that the last point covers everything.",
            _strictly,
        ),
        Mistake(
            "starts_at_zero",
            "There is a point too many: nothing answered has no risk. The first point is the highest confidence.",
            _points(
                lambda coverage, risk, confidence, correct: (
                    torch.cat([torch.zeros(1), coverage]),
                    torch.cat([torch.zeros(1), risk]),
                )
            ),
        ),
    ),
    hints=(
        "`confidence.unique().flip(0)` are the thresholds. For each of them: which questions are answered, and how many of those are wrong?",
        "`answered = confidence >= levels[:, None]` is a table of [point, question]; sum along its rows.",
    ),
    reveal="A curve that falls to the left means that confidence is worth something: silence costs answers, and buys accuracy. The last point is the error rate whatever the confidence is; a useless confidence gives a flat curve. Calibration does not matter here: only the order of confidences counts, as for AUROC.",
)
