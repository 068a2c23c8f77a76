"""What a latent does: to the logits by its direct path, and to the loss when it is ablated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs, case, judge_each
from mi_course.lessons.feature_steering.examples import ranking_complaint
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# logit_effect


def _logits(W_dec_row: Tensor, W_U: Tensor) -> list[float]:
    """Token by token."""
    d, vocabulary = W_U.shape
    return [math.fsum(W_dec_row[i].item() * W_U[i, v].item() for i in range(d)) for v in range(vocabulary)]


def _logit_effect(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[int], list[int]]:
    """Oracle: by sorting a list of logits."""
    logits = _logits(W_dec_row, W_U)
    rising = sorted(range(len(logits)), key=lambda v: logits[v])
    return rising[::-1][:n], rising[:n]


def _first(values: Tensor, n: int) -> list[int]:
    order: list[int] = values.argsort(descending=True, stable=True)[:n].tolist()
    return order


def _ranked(
    logits: Callable[[Tensor, Tensor], Tensor] = lambda row, W_U: row @ W_U,
    suppressed: Callable[[Tensor], Tensor] = lambda logits: -logits,
) -> Callable[[Tensor, Tensor, int], tuple[list[int], list[int]]]:
    """A logit_effect of which one piece is wrong."""

    def logit_effect(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[int], list[int]]:
        effect = logits(W_dec_row, W_U)
        return _first(effect, n), _first(suppressed(effect), n)

    return logit_effect


def _sorted_to(
    change: Callable[[list[int], list[int]], tuple[Any, ...]],
) -> Callable[[Tensor, Tensor, int], tuple[Any, ...]]:
    """The right lists, put together in another way."""
    return lambda W_dec_row, W_U, n: change(*_logit_effect(W_dec_row, W_U, n))


def _by_size(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[int], list[int]]:
    size = (W_dec_row @ W_U).abs()
    return _first(size, n), _first(-size, n)


def _least_affected(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[int], list[int]]:
    logits = W_dec_row @ W_U
    return _first(logits, n), _first(-logits.abs(), n)


def _by_sign(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[int], list[int]]:
    logits = W_dec_row @ W_U
    promoted, suppressed = _logit_effect(W_dec_row, W_U, n)
    return [v for v in promoted if logits[v] > 0], [v for v in suppressed if logits[v] < 0]


def _effect_values(W_dec_row: Tensor, W_U: Tensor, n: int) -> tuple[list[float], list[float]]:
    logits = _logits(W_dec_row, W_U)
    promoted, suppressed = _logit_effect(W_dec_row, W_U, n)
    return [logits[v] for v in promoted], [logits[v] for v in suppressed]


def _cosine(W_dec_row: Tensor, W_U: Tensor) -> Tensor:
    return W_dec_row @ torch.nn.functional.normalize(W_U, dim=0)


def _unembedding(draw: RandomInputs, d: int, vocabulary: int, size: float = 1.0, shift: float = 0.0) -> tuple:
    """A decoder row and an unembedding whose logits are well apart, and whose columns differ in length."""
    while True:
        row = draw.normal(d)
        W_U = draw.normal(d, vocabulary) * draw.uniform(vocabulary, low=0.3, high=2.5)
        W_U += shift * row[:, None] / float(row.norm())
        logits = torch.tensor(_logits(row, W_U)).sort().values
        if vocabulary == 1 or float(logits.diff().min()) > 1e-4 * float(logits.abs().max()):
            return size * row, W_U


def _effect_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_unembedding(draw, d, vocabulary), n, about=f"d = {d}, {vocabulary} tokens, n = {n}")
        for d, vocabulary, n in ((5, 14, 4), (8, 23, 5), (7, 7, 3), (3, 40, 6), (16, 70, 10))
    ]


def _effect_ties(value: Any, W_dec_row: Tensor, W_U: Tensor, n: int) -> Complaint | None:
    value = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return Complaint("Two lists of token ids are expected: promoted, suppressed.", "type")
    logits = dict(enumerate(_logits(W_dec_row, W_U)))
    return ranking_complaint(value[0], logits, n, "the list of promoted tokens") or ranking_complaint(
        value[1], {v: -logit for v, logit in logits.items()}, n, "the list of suppressed tokens (logits negated)"
    )


def _odd_effects(draw: RandomInputs, size: str) -> list[Case]:
    row, W_U = _unembedding(draw, 6, 15)
    shuffled, other = W_U[:, draw.permutation(15)], _unembedding(draw, 6, 15)[0]
    same = ((row, W_U, 4), (other, W_U, 4), (row, shuffled, 4), (row, W_U, 2), (-row, W_U, 4))
    whole = [draw.integers(-2, 3, d, vocabulary).float() for d, vocabulary in ((4, 30), (3, 600))]
    judge = judge_each(_effect_ties)
    ties = [
        case(draw.integers(1, 3, len(W)).float(), W, n, judge=judge, about=about)
        for W, n, about in ((whole[0], 9, "many equal logits"), (whole[1], 40, "hundreds of equal logits"))
    ]
    return [
        case(*_unembedding(draw, 6, 4), 9, about="4 tokens, n = 9: all of them, in both lists"),
        case(*_unembedding(draw, 6, 10), 6, about="10 tokens, n = 6: some stand in both lists"),
        case(*_unembedding(draw, 5, 12, shift=20.0), 4, about="every logit positive"),
        case(*_unembedding(draw, 5, 12, shift=-20.0), 4, about="every logit negative"),
        case(*_unembedding(draw, 5, 12, size=1e-4), 4, about="a short decoder row"),
        case(*_unembedding(draw, 5, 12, size=200.0), 4, about="a long decoder row"),
        case(*_unembedding(draw, 1, 12), 4, about="a single dimension"),
        case(*_unembedding(draw, 5, 1), 2, about="a vocabulary of one token"),
        case(*_unembedding(draw, 5, 12), 0, about="n = 0"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in same),
            about="another row, another unembedding, another n, the row's opposite",
        ),
        *ties,
        case(torch.zeros(4), whole[0], 5, judge=judge, about="a decoder row of zeros: every logit is equal"),
    ]


LOGIT_EFFECT = Exercise(
    id="feature_steering.logit_effect",
    task="The tokens whose logits a latent raises most, and those whose logits it lowers most, by the direct path from its decoder row to the unembedding.",
    minutes=5,
    difficulty=1,
    oracle=_logit_effect,
    fixed={"result>=0": "token ids", "result<=1": "token ids"},
    parts=(
        Part("several widths and vocabularies", 2, _effect_cases),
        Part("more asked for than there are, all of one sign, axes of size one, equal logits", 1, _odd_effects),
    ),
    mistakes=(
        Mistake(
            "swapped",
            "The two lists are exchanged: promoted tokens come first, suppressed ones second.",
            _sorted_to(lambda promoted, suppressed: (suppressed, promoted)),
        ),
        Mistake(
            "suppressed_weakest_first",
            "The second list holds the right tokens in the wrong order: the token with the *lowest* logit comes first.",
            _sorted_to(lambda promoted, suppressed: (promoted, suppressed[::-1])),
        ),
        Mistake(
            "promoted_weakest_first",
            "The first list holds the right tokens in the wrong order: the token with the highest logit comes first.",
            _sorted_to(lambda promoted, suppressed: (promoted[::-1], suppressed)),
        ),
        Mistake(
            "both_weakest_first",
            "Both lists hold the right tokens in the wrong order: the strongest effect comes first.",
            _sorted_to(lambda promoted, suppressed: (promoted[::-1], suppressed[::-1])),
        ),
        Mistake(
            "promoted_twice",
            "Both lists hold the promoted tokens. The second is for those with the lowest logits.",
            _sorted_to(lambda promoted, suppressed: (promoted, promoted)),
        ),
        Mistake(
            "by_size",
            "You ranked by the absolute value of the logits. What is raised and what is lowered must stay apart.",
            _by_size,
        ),
        Mistake(
            "least_affected",
            "Your second list holds the tokens with logits nearest to 0, those that the latent leaves alone. Suppressed are those with the *lowest* logits.",
            _least_affected,
        ),
        Mistake(
            "by_sign",
            "You listed only tokens with a positive logit, or with a negative one. Adding one number to all logits changes no probability, so their sign says nothing: list n tokens at either end.",
            _by_sign,
        ),
        Mistake(
            "values_returned",
            "These are logits. Token ids are asked for: indices into the vocabulary.",
            _effect_values,
        ),
        Mistake(
            "row_ignored",
            "Your ranking does not use the latent's decoder row: you added up the rows of `W_U`. The logits are `W_dec_row @ W_U`.",
            _ranked(lambda row, W_U: W_U.sum(0)),
        ),
        Mistake(
            "norms_of_columns",
            "You ranked tokens by the length of their columns of `W_U`, whatever the latent writes. The logits are `W_dec_row @ W_U`.",
            _ranked(lambda row, W_U: W_U.norm(dim=0)),
        ),
        Mistake(
            "cosines",
            "You ranked by cosine. The logit is asked for, and it grows with the length of a token's column of `W_U` too.",
            _ranked(_cosine),
        ),
        Mistake(
            "transposed",
            "You used `W_U` the wrong way round, which only works where d equals the vocabulary. It has shape (d, vocab): `W_dec_row @ W_U`.",
            _ranked(lambda row, W_U: W_U @ row),
        ),
    ),
    hints=(
        "The latent adds `W_dec_row`, times its activation, to the residual stream. `W_U` reads a logit for each token from there.",
        "`logits = W_dec_row @ W_U` has shape (vocab,). The highest n are promoted; the highest n of `-logits` are suppressed.",
        "`order = logits.argsort(descending=True)`: the first n, and the last n turned around, `order.flip(0)[:n]`.",
    ),
    reveal="This is the direct path: what the latent would do to the prediction if no later layer read it (logit lens on a decoder row). It explains late latents well and early ones hardly at all, because those act through the layers that follow. Nor does the final norm appear: its division by the length is positive and the same for all tokens, so it changes no rank; its *weights* do, and belong into `W_U`.",
)


# ---------------------------------------------------------------------------------------------------------------------
# ablation_effect


def _log_softmax(row: Tensor) -> list[float]:
    values = row.double().tolist()
    top = max(values)
    total = top + math.log(sum(math.exp(v - top) for v in values))
    return [v - total for v in values]


def _ablation_effect(logits_clean: Tensor, logits_ablated: Tensor, tokens: Tensor) -> Tensor:
    """Oracle: token by token."""
    batch, pos = tokens.shape
    rise = torch.zeros(batch, pos - 1)
    for row in range(batch):
        for i in range(pos - 1):
            target = int(tokens[row, i + 1])
            clean, ablated = (_log_softmax(logits[row, i])[target] for logits in (logits_clean, logits_ablated))
            rise[row, i] = clean - ablated
    return rise


_Logprobs = Callable[[Tensor, Tensor], Tensor]


def _logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """[batch, pos - 1]: the log-probability of each token that follows."""
    return _picked(logits[:, :-1].double().log_softmax(-1), tokens[:, 1:])


def _picked(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(2, tokens[..., None])[..., 0]


def _effect(
    logprobs: _Logprobs = _logprobs, rise: Callable[[Tensor, Tensor], Tensor] = lambda clean, ablated: clean - ablated
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """An ablation_effect of which one piece is wrong. rise: of the two log-probabilities."""

    def ablation_effect(logits_clean: Tensor, logits_ablated: Tensor, tokens: Tensor) -> Tensor:
        return rise(logprobs(logits_clean, tokens), logprobs(logits_ablated, tokens)).float()

    return ablation_effect


def _own(logits: Tensor, tokens: Tensor) -> Tensor:
    return _picked(logits.double().log_softmax(-1), tokens)


def _previous(logits: Tensor, tokens: Tensor) -> Tensor:
    """Predicts the token before."""
    return _picked(logits[:, 1:].double().log_softmax(-1), tokens[:, :-1])


def _over_positions(logits: Tensor, tokens: Tensor) -> Tensor:
    return _picked(logits[:, :-1].double().log_softmax(1), tokens[:, 1:])


def _over_all_positions(logits: Tensor, tokens: Tensor) -> Tensor:
    return _picked(logits.double().log_softmax(1)[:, :-1], tokens[:, 1:])


def _top(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits[:, :-1].double().log_softmax(-1).amax(-1)


def _raw(logits: Tensor, tokens: Tensor) -> Tensor:
    return _picked(logits[:, :-1].double(), tokens[:, 1:])


def _overflows(logits: Tensor, tokens: Tensor) -> Tensor:
    powers = logits[:, :-1].float().exp()
    return _picked((powers / powers.sum(-1, keepdim=True)).log(), tokens[:, 1:])


def _sees_overflow(case: Case, observation: Observation) -> bool:
    """NaN or infinity, and only with large logits."""
    wrong = [
        call.args
        for call, reply in zip(case.calls, observation.replies, strict=False)
        if isinstance(reply.value, Tensor) and not reply.value.isfinite().all()
    ]
    return bool(wrong) and all(max(float(args[0].abs().max()), float(args[1].abs().max())) > 60 for args in wrong)


def _divergence(logits_clean: Tensor, logits_ablated: Tensor, tokens: Tensor) -> Tensor:
    clean, ablated = (logits[:, :-1].double().log_softmax(-1) for logits in (logits_clean, logits_ablated))
    return (clean.exp() * (clean - ablated)).sum(-1).float()


def _runs(
    draw: RandomInputs, batch: int, pos: int, vocabulary: int, change: float = 1.0, std: float = 2.0, mean: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with and without a latent, and the tokens."""
    clean = draw.normal(batch, pos, vocabulary, std=std, mean=mean) + draw.normal(batch, pos, 1)
    return clean, clean + draw.normal(batch, pos, vocabulary, std=change), draw.integers(0, vocabulary, batch, pos)


def _loss_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_runs(draw, batch, pos, vocabulary), atol=1e-4, about=f"{batch} texts of {pos} tokens of {vocabulary}")
        for batch, pos, vocabulary in ((3, 6, 8), (2, 9, 5), (5, 4, 12), (4, 30, 20))
    ]


def _odd_losses(draw: RandomInputs, size: str) -> list[Case]:
    clean, ablated, tokens = _runs(draw, 3, 5, 7)
    same = (
        (clean, ablated, tokens),
        (clean, ablated, tokens.flip(0)),
        (clean, ablated.flip(2), tokens),
        (ablated, clean, tokens),
        (clean, clean.clone(), tokens),
    )
    return [
        case(*_runs(draw, 1, 6, 7), atol=1e-4, about="a single text"),
        case(*_runs(draw, 4, 2, 7), atol=1e-4, about="texts of two tokens"),
        case(*_runs(draw, 3, 1, 7), about="texts of one token, which nothing predicts"),
        case(*_runs(draw, 3, 5, 1), about="a vocabulary of one token"),
        case(*_runs(draw, 3, 5, 7, change=0.02), atol=2e-6, about="an ablation that changes little"),
        case(*_runs(draw, 2, 5, 6, std=100.0, change=50.0), atol=2e-3, about="logits of some hundreds"),
        case(*_runs(draw, 2, 5, 6, mean=500.0), atol=2e-3, about="logits around 500"),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in same),
            atol=1e-4,
            about="the same logits with other tokens; exchanged; and nothing ablated",
        ),
    ]


ABLATION_EFFECT = Exercise(
    id="feature_steering.ablation_effect",
    task="How much the next-token loss rises at each position when a latent is ablated, in nats.",
    minutes=6,
    difficulty=2,
    oracle=_ablation_effect,
    fixed={
        "logits_clean[2]": "tokens are indices along it; varied by hand",
        "logits_ablated[2]": "tokens are indices along it; varied by hand",
    },
    parts=(
        Part("several texts", 2, _loss_cases),
        Part("one text, one token, small effects, large logits", 1, _odd_losses),
    ),
    mistakes=(
        Mistake(
            "sign",
            "The sign is turned: this is how much the loss *falls*. Where the latent is needed, ablating it makes the loss rise, and the result is positive.",
            _effect(rise=lambda clean, ablated: ablated - clean),
        ),
        Mistake(
            "own_token",
            "You read each token's loss from the logits at its *own* position. The logits at position i predict the token at i + 1.",
            _effect(lambda logits, tokens: _own(logits, tokens)[:, :-1]),
        ),
        Mistake(
            "own_token_from_one_on",
            "You read each token's loss from the logits at its *own* position, from position 1 on. The token at i is predicted by the logits at i − 1.",
            _effect(lambda logits, tokens: _own(logits, tokens)[:, 1:]),
        ),
        Mistake(
            "own_token_everywhere",
            "Your result has a number for each token, read from the logits at its own position. The logits at position i predict the token at i + 1, so there is one number fewer.",
            _effect(_own),
        ),
        Mistake(
            "previous_token",
            "You shifted the wrong way: you hold the logits at position i against the token at i − 1. They predict the one at i + 1.",
            _effect(_previous),
        ),
        Mistake(
            "averaged",
            "You averaged over everything. Each text and position keeps its number; most are near 0, and the mean would hide the few that are not.",
            lambda clean, ablated, tokens: _ablation_effect(clean, ablated, tokens).mean(),
        ),
        Mistake(
            "averaged_over_positions",
            "You averaged over positions. Each position keeps its number.",
            lambda clean, ablated, tokens: _ablation_effect(clean, ablated, tokens).mean(1),
        ),
        Mistake(
            "averaged_over_texts",
            "You averaged over the batch. Each text keeps its numbers.",
            lambda clean, ablated, tokens: _ablation_effect(clean, ablated, tokens).mean(0),
        ),
        Mistake(
            "probability",
            "This is a fall in probability. The loss is −log p: from 0.5 to 0.25 it rises by log 2, as from 0.02 to 0.01.",
            _effect(rise=lambda clean, ablated: clean.exp() - ablated.exp()),
        ),
        Mistake(
            "bits",
            "These are bits. Nats are asked for: the natural logarithm.",
            _effect(rise=lambda clean, ablated: (clean - ablated) / math.log(2)),
        ),
        Mistake(
            "raw_logits",
            "You subtracted logits. They become log-probabilities by a log-softmax over the vocabulary, and its normalizer is another one in each run.",
            _effect(_raw),
        ),
        Mistake(
            "over_positions",
            "Your softmax runs over positions. Each position has a distribution over the vocabulary, the last axis.",
            _effect(_over_positions),
        ),
        Mistake(
            "over_all_positions",
            "Your softmax runs over positions (the last one too). Each position has a distribution over the vocabulary, the last axis.",
            _effect(_over_all_positions),
        ),
        Mistake(
            "top_token",
            "You compared the most probable tokens. The loss is about the token that *comes next* in the text.",
            _effect(_top),
        ),
        Mistake(
            "divergence",
            "This is the KL divergence between the two predictions, which is never negative. The rise of the loss asks about one token, the one that comes next, and may fall below 0.",
            _divergence,
        ),
        Mistake(
            "absolute",
            "You took the absolute value. Where the latent misleads the model, ablating it makes the loss fall: that is a negative rise.",
            _effect(rise=lambda clean, ablated: (clean - ablated).abs()),
        ),
        Mistake(
            "relative",
            "You divided by the loss of the clean run. The rise itself is asked for, in nats.",
            _effect(rise=lambda clean, ablated: (clean - ablated) / -clean),
        ),
        Mistake(
            "perplexity",
            "This is the factor by which the probability falls, e to the power of what is asked for. The rise of the loss is a difference of logarithms.",
            _effect(rise=lambda clean, ablated: (clean - ablated).exp()),
        ),
        Mistake(
            "ablated_alone",
            "This is the loss of the ablated run. Subtract that of the clean run.",
            _effect(rise=lambda clean, ablated: -ablated),
        ),
        Mistake(
            "overflow",
            "With large logits the exponential overflows. `log_softmax` subtracts the maximum first; taking exponentials and then the logarithm does not.",
            _effect(_overflows),
            _sees_overflow,
        ),
    ),
    hints=(
        "The loss at position i is −log p of the token at i + 1. Drop the last position's logits, and the first token.",
        "`logits[:, :-1].log_softmax(dim=-1).gather(2, tokens[:, 1:, None])` holds the log-probabilities; the loss is their negative.",
        "Write a helper for the loss of one run; the answer is the loss of the ablated run minus that of the clean one.",
    ),
    reveal="Steering shows that a direction *can* produce a behavior; ablation asks whether the model *needs* it. The effect is a number for each position because a sparse latent matters in few places: the mean over a text is nearly 0 even where single tokens lose a nat. Look at where it is large, and whether the latent was active there, or only earlier: attention carries its effect on.",
)
