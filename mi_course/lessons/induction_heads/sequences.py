"""Repeated random tokens, and the loss on them."""

from __future__ import annotations

import math

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
    as_tensor,
    case,
    judge_each,
    judge_seeds,
    moved_random_state,
)
from mi_course.wire import tensors_in

# ---------------------------------------------------------------------------------------------------------------------
# repeated_tokens: random, so it is judged by its properties


def _repeated_tokens(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    """Oracle: one token after the other."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(batch):
        half = [int(torch.randint(low, high, (1,), generator=generator)) for _ in range(period)]
        rows.append([bos, *half, *half])
    return torch.tensor(rows)


def _draw(batch: int, period: int, low: int, high: int, seed: int) -> Tensor:
    return torch.randint(low, high, (batch, period), generator=torch.Generator().manual_seed(seed))


def _bos(batch: int, bos: int) -> Tensor:
    return torch.full((batch, 1), bos)


def _no_bos(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    half = _draw(batch, period, low, high, seed)
    return torch.cat([half, half], 1)


def _bos_twice(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    half = torch.cat([_bos(batch, bos), _draw(batch, period, low, high, seed)], 1)
    return torch.cat([half, half], 1)


def _two_draws(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    return torch.cat([_bos(batch, bos), _draw(batch, 2 * period, low, high, seed)], 1)


def _one_row(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    half = _draw(1, period, low, high, seed).expand(batch, period)
    return torch.cat([_bos(batch, bos), half, half], 1)


def _interleaved(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    return torch.cat([_bos(batch, bos), _draw(batch, period, low, high, seed).repeat_interleave(2, 1)], 1)


def _high_included(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    return _repeated_tokens(batch, period, low, high + 1, bos, seed)


def _from_zero(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    return _repeated_tokens(batch, period, 0, high, bos, seed)


def _seed_ignored(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    return _repeated_tokens(batch, period, low, high, bos, 0)


def _global_state(batch: int, period: int, low: int, high: int, bos: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    half = torch.randint(low, high, (batch, period))
    return torch.cat([_bos(batch, bos), half, half], 1)


def _layout(tokens: object, batch: int, period: int, low: int, high: int, bos: int) -> Complaint | None:
    """A complaint about the layout of one result, or None."""
    tokens = as_tensor(tokens)
    if not isinstance(tokens, Tensor):
        return Complaint(f"The result is a {type(tokens).__name__}, expected a tensor of token ids.", "type")
    expected = (batch, 1 + 2 * period)
    if tokens.ndim == 2 and tokens.shape == (batch, 2 * period):
        return Complaint("", "shape", "no_bos")
    if tokens.ndim == 2 and tokens.shape == (batch, 2 + 2 * period):
        return Complaint("", "shape", "bos_in_both_copies")
    if tokens.shape != expected:
        return Complaint(
            f"The result has shape {tuple(tokens.shape)}, expected {expected}: BOS and two copies.", "shape"
        )
    if tokens.dtype == torch.bool or tokens.dtype.is_floating_point:
        return Complaint(f"Token ids are whole numbers; these are {tokens.dtype}.", "dtype")
    if not (tokens[:, 0] == bos).all():
        return Complaint(f"Position 0 holds {tokens[0, 0].item()}, expected the BOS token {bos} in every row.")
    first, second = tokens[:, 1 : 1 + period], tokens[:, 1 + period :]
    if not torch.equal(first, second):
        # Equal neighbours throughout: each token was repeated, not the sequence.
        doubled = torch.equal(tokens[:, 1::2], tokens[:, 2::2])
        if not doubled and torch.equal(first.sort(dim=1).values, second.sort(dim=1).values):
            return Complaint(
                "The second copy has the tokens of the first in another order. It should repeat them in the same order."
            )
        return Complaint("", mistake="each_token_repeated" if doubled else "copies_drawn_apart")
    if batch > 1 and (first == first[:1]).all():
        return Complaint("", mistake="rows_alike")
    if first.max() == high:
        return Complaint("", mistake="high_included")
    if first.min() < low and low > 0 and first.max() < high:
        return Complaint("", mistake="low_ignored")
    if first.min() < low or first.max() > high:
        return Complaint(f"Token ids run from {first.min().item()} to {first.max().item()}, expected [{low}, {high}).")
    return _evenness(first, low, high)


def _evenness(drawn: Tensor, low: int, high: int) -> Complaint | None:
    """A complaint if tokens are not about equally frequent in every column and row; judged only where there are enough."""
    n = high - low
    if drawn.numel() < 40 * n:
        return None
    counts = torch.bincount((drawn - low).flatten(), minlength=n).double()
    expected = drawn.numel() / n
    # Six standard deviations of a binomial count: one in 500 million by chance.
    if ((counts - expected).abs() > 6 * math.sqrt(expected)).any():
        rarest = int(counts.argmin()) + low
        return Complaint(
            f"Tokens are not drawn evenly from [{low}, {high}): {rarest} came {int(counts.min())} times where about "
            f"{expected:.0f} were expected."
        )
    if drawn.shape[1] > 20:
        steps = torch.bincount(((drawn[:, 1:] - drawn[:, :-1]) % n).flatten(), minlength=n).double()
        expected = steps.sum() / n
        if ((steps - expected).abs() > 6 * expected.sqrt()).any():
            return Complaint("A token determines the next one, so they are not random: draw each one separately.")
    return None


_judge_layout = judge_each(_layout, 5)
_judge_seeds = judge_seeds(_judge_layout, "tokens")


def _layout_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, period, n in ((3, 5, 900), (2, 17, 40), (30, 60, 7)):
        low = draw.integer(3, 50)
        args = (batch, period, low, low + n, draw.integer(0, 3), draw.seed())
        cases.append(
            case(*args, about=f"batch {batch}, period {period}, tokens from [{low}, {low + n})", judge=_judge_layout)
        )
    low, seed = draw.integer(3, 50), draw.seed()
    args = (3, 5, low, low + 900, 1, seed)
    # The same seed, and one argument changed at a time.
    for i, other in enumerate((1, 1, low + 800, low + 20, 2)):
        changed = (*args[:i], other, *args[i + 1 :])
        calls = tuple(Call(one, watch=("arguments",)) for one in (args, changed))
        about = f"(batch, period, low, high, bos) = {changed[:5]}, after {args[:5]} with the same seed"
        cases.append(Case(calls=calls, about=about, judge=_judge_layout))
    return cases


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    low = draw.integer(3, 50)
    seed, other = draw.seed(), draw.seed()
    args = (4, 25, low, low + 500, 1)
    calls = tuple(Call((*args, s), watch=("random_state",)) for s in (seed, seed, other))
    return [Case(calls=calls, judge=_judge_seeds, about="the same seed twice, then another")]


REPEATED_TOKENS = Exercise(
    id="induction_heads.repeated_tokens",
    revision=2,
    fixed={
        "result[1]": "BOS and two copies",
    },
    task="A batch of BOS, `period` random tokens, and the same tokens again; reproducible by its seed.",
    minutes=6,
    difficulty=1,
    oracle=_repeated_tokens,
    parts=(
        Part("BOS and two equal random copies", 2, _layout_cases),
        Part("the seed decides, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "no_bos",
            "The BOS token is missing: each row should begin with `bos`, so that its length is 1 + 2 · period. Without it, idle heads "
            "attend to the first random token instead.",
            _no_bos,
        ),
        Mistake(
            "bos_in_both_copies",
            "BOS was repeated along with the tokens. It appears once, at position 0; the two copies follow it.",
            _bos_twice,
        ),
        Mistake(
            "copies_drawn_apart",
            "The second copy is not the first: it was drawn separately. Draw `period` tokens once and concatenate them with themselves.",
            _two_draws,
        ),
        Mistake(
            "each_token_repeated",
            "Each token is repeated right away (a a b b). The *sequence* should be repeated (a b a b): `repeat` or `cat`, not "
            "`repeat_interleave`.",
            _interleaved,
        ),
        Mistake(
            "rows_alike",
            "All rows of the batch are the same sequence, so a batch says no more than one row. Draw [batch, period] tokens.",
            _one_row,
        ),
        Mistake(
            "high_included",
            "The token `high` itself occurs. The range is [low, high), as in `torch.randint`: high is not in it.",
            _high_included,
        ),
        Mistake(
            "low_ignored",
            "Tokens below `low` occur. The small ids are special tokens, which mean something to the model.",
            _from_zero,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same tokens. Give `seed` to your generator.",
            _seed_ignored,
        ),
        Mistake(
            "global_random_state",
            "The tokens are right, but `torch.manual_seed` (or a draw without `generator=`) moved the global random state, and with it "
            "everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "Three pieces side by side: a column of BOS, a block of random tokens, and that same block once more.",
        "`generator = torch.Generator().manual_seed(seed)` is a source of randomness of your own; "
        "`torch.randint(low, high, (batch, period), generator=generator)` draws from it.",
        "`torch.cat([bos_column, half, half], dim=1)`, where `bos_column = torch.full((batch, 1), bos)`.",
    ),
    reveal="Random tokens carry no meaning and no statistics, so whatever the model gets right in the second copy it got from the first. "
    "A local generator keeps the experiment reproducible without disturbing other random numbers.",
)


# ---------------------------------------------------------------------------------------------------------------------
# loss_per_token


def _loss_per_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """Oracle: −log of each probability, summed exponentials in Python's double precision."""
    batch, pos, _ = logits.shape
    loss = torch.zeros(batch, pos - 1)
    for b in range(batch):
        for p in range(pos - 1):
            row = [float(x) for x in logits[b, p]]
            top = max(row)
            log_total = top + math.log(sum(math.exp(x - top) for x in row))
            loss[b, p] = log_total - row[int(tokens[b, p + 1])]
    return loss


def _pick(log_probs: Tensor, tokens: Tensor) -> Tensor:
    return -log_probs.gather(-1, tokens[..., None]).squeeze(-1)


def _naive(logits: Tensor, tokens: Tensor) -> Tensor:
    return _pick(logits[:, :-1].exp().div(logits[:, :-1].exp().sum(-1, keepdim=True)).log(), tokens[:, 1:])


LOSS_PER_TOKEN = Exercise(
    id="induction_heads.loss_per_token",
    revision=2,
    fixed={
        "logits[2]": "tokens index it",
        "result>=0": "minus a log-probability",
    },
    task="The next-token loss at each position, in nats, for each row of the batch.",
    minutes=6,
    difficulty=1,
    oracle=_loss_per_token,
    parts=(
        Part(
            "random logits",
            2,
            lambda draw, size: [
                case(
                    draw.normal(batch, pos, vocab, mean=0.3, std=2.0),
                    draw.integers(0, vocab, batch, pos),
                    about=f"batch {batch}, {pos} positions, {vocab} tokens",
                )
                for batch, pos, vocab in ((2, 6, 7), (3, 4, 15), (1, 9, 5), (3, 2, 6))
            ],
        ),
        Part(
            "large logits",
            1,
            lambda draw, size: [
                case(
                    draw.normal(2, 5, 8, mean=sign * 400.0, std=30.0),
                    draw.integers(0, 8, 2, 5),
                    about=f"logits near {sign * 400}, whose exponentials leave float32",
                )
                for sign in (1, -1)
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "predicts_itself",
            "You compare each position's logits with the token *at* that position, which the model has already read. Logits at position p "
            "predict token p + 1: drop the last row of logits and the first token.",
            lambda logits, tokens: _pick(logits.log_softmax(-1), tokens)[:, :-1],
        ),
        Mistake(
            "predicts_itself_from_the_second",
            "You dropped the first position of both. Logits at position p predict token p + 1: drop the *last* row of logits and the first "
            "token.",
            lambda logits, tokens: _pick(logits.log_softmax(-1), tokens)[:, 1:],
        ),
        Mistake(
            "predicts_backwards",
            "You compare the logits at position p + 1 with token p, which came before. It is the other way around: "
            "`logits[:, :-1]` with `tokens[:, 1:]`.",
            lambda logits, tokens: _pick(logits[:, 1:].log_softmax(-1), tokens[:, :-1]),
        ),
        Mistake(
            "two_ahead",
            "You compare with the token two positions ahead. Logits at position p predict token p + 1.",
            lambda logits, tokens: _pick(logits[:, :-1].log_softmax(-1), tokens.roll(-2, 1)[:, :-1]),
        ),
        Mistake(
            "in_bits",
            "Your loss is in bits (log to the base 2), larger by 1/ln 2 = 1.44. Losses are counted in nats: use the natural logarithm.",
            lambda logits, tokens: _pick(logits[:, :-1].log_softmax(-1), tokens[:, 1:]) / math.log(2),
        ),
        Mistake(
            "averaged",
            "You returned one number, the mean. The loss is asked for at each position of each row: how it changes along the sequence is "
            "the point.",
            lambda logits, tokens: _pick(logits[:, :-1].log_softmax(-1), tokens[:, 1:]).mean(),
        ),
        Mistake(
            "averaged_over_batch",
            "You averaged over the batch. Keep both axes, [batch, pos−1]; averaging is for the picture.",
            lambda logits, tokens: _pick(logits[:, :-1].log_softmax(-1), tokens[:, 1:]).mean(0),
        ),
        Mistake(
            "log_probability",
            "These are log-probabilities, which are negative. The loss is their negative.",
            lambda logits, tokens: -_pick(logits[:, :-1].log_softmax(-1), tokens[:, 1:]),
        ),
        Mistake(
            "probability",
            "These are the probabilities of the right tokens. The loss is the negative logarithm of that.",
            lambda logits, tokens: -_pick(logits[:, :-1].softmax(-1), tokens[:, 1:]),
        ),
        Mistake(
            "raw_logits",
            "You took the raw logits. A logit alone means nothing: take `log_softmax` over the vocabulary first.",
            lambda logits, tokens: _pick(logits[:, :-1], tokens[:, 1:]),
        ),
        Mistake(
            "softmax_over_positions",
            "Your softmax runs over positions. Probabilities are normalised over the vocabulary, the last axis: `log_softmax(dim=-1)`.",
            lambda logits, tokens: _pick(logits[:, :-1].log_softmax(1), tokens[:, 1:]),
        ),
        Mistake(
            "exponentials_overflow",
            "Right for small logits, but `exp` of a large one is infinite in float32 and the loss becomes NaN. `log_softmax` subtracts the "
            "maximum first, and is exact.",
            _naive,
            lambda case, observation: (
                bool(case.calls[0].args[0].abs().max() > 100)
                and any(not tensor.isfinite().all() for tensor in tensors_in(observation.replies[0].value))
            ),
        ),
    ),
    hints=(
        "The logits at position p say what the model expects at p + 1. So `logits[:, :-1]` belongs to `tokens[:, 1:]`.",
        "`log_probs = logits.log_softmax(dim=-1)` is stable for logits of any size. `gather` picks, at each position, the entry of one "
        "token.",
        "`log_probs[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)` is the log-probability of each next token. What is its sign?",
    ),
    reveal="The loss at a position is −log p(next token). Guessing evenly among V tokens costs log V nats, so log of the vocabulary is the "
    "price of knowing nothing. Above it the model is sure of something else.",
)
