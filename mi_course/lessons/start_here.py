"""Lesson 00: read what a model expects next, and switch off one head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    case,
    hook_ref,
    model_ref,
)
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# top_next_tokens


def _top_next_tokens(logits: Tensor, k: int) -> list[tuple[int, float]]:
    """Oracle: exponentiate the last row by hand, sort all of it."""
    row = [float(x) for x in logits[len(logits) - 1].double()]
    weights = [math.exp(x - max(row)) for x in row]
    ranked = sorted(range(len(row)), key=lambda token: -weights[token])
    return [(token, weights[token] / sum(weights)) for token in ranked[:k]]


def _pairs(values: Tensor, k: int, largest: bool = True) -> list[tuple[int, float]]:
    top = values.topk(k, largest=largest)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _tied_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Whole numbers: many tokens are equally likely, also at the border of the k."""
    cases = [
        case(
            draw.integers(-2, 3, pos, vocab).float(),
            k,
            judge=_judge_ties,
            about=f"equal logits, {vocab} tokens, k = {k}",
        )
        for pos, vocab, k in ((3, 12, 7), (1, 5, 5))
    ]
    return [*cases, case(draw.normal(2, 60, std=2.0), 60, about="2 positions, 60 tokens, k = 60", atol=1e-6)]


def _judge_ties(case: Case, observation: Observation) -> Complaint | None:
    """Of equally likely tokens any will do, but each only once."""
    logits, k = case.calls[0].args
    expected = _top_next_tokens(logits, k)
    pairs = observation.replies[0].value
    pairs = pairs.tolist() if isinstance(pairs, Tensor) else pairs
    if not isinstance(pairs, (list, tuple)) or len(pairs) != k:
        seen = f"a list of {len(pairs)}" if isinstance(pairs, (list, tuple)) else f"a {type(pairs).__name__}"
        return Complaint(f"The result is {seen}, expected a list of {k} pairs.", "shape")
    tokens = []
    known = dict(_top_next_tokens(logits, logits.shape[1]))
    for i, (pair, (_, p)) in enumerate(zip(pairs, expected, strict=True)):
        values = pair.tolist() if isinstance(pair, Tensor) else pair
        if not isinstance(values, (list, tuple)) or len(values) != 2:
            return Complaint(f"Entry {i} is no pair (token id, probability).", "type")
        token, probability = (v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for v in values)
        if not all(isinstance(v, (int, float)) for v in (token, probability)) or token not in known:
            return Complaint(
                f"Entry {i} is ({token!r:.20}, {probability!r:.20}), expected a token id and its probability."
            )
        token = int(token)
        if token in tokens:
            return Complaint(
                f"Token {token} is there twice. Other tokens are exactly as likely: each of the {k} is another one."
            )
        tokens.append(token)
        if abs(probability - p) > 1e-5 or abs(known[token] - p) > 1e-5:
            return Complaint(
                f"Entry {i} is (token {token}, {probability:.4g}); token {token} has probability {known[token]:.4g}, and the "
                f"{i + 1}. largest probability is {p:.4g}."
            )
    return None


def _renormalized(logits: Tensor, k: int) -> list[tuple[int, float]]:
    top = logits[-1].topk(k)
    return list(zip(top.indices.tolist(), top.values.softmax(-1).tolist(), strict=True))


TOP_NEXT_TOKENS = Exercise(
    id="start_here.top_next_tokens",
    revision=2,
    fixed={
        "logits[1]": "k tokens are asked for",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="The k likeliest next tokens after the last position, with their probabilities, likeliest first.",
    minutes=4,
    difficulty=1,
    oracle=_top_next_tokens,
    parts=(
        Part(
            "random logits",
            2,
            lambda draw, size: [
                case(draw.normal(pos, vocab, std=3.0), k, about=f"{pos} positions, {vocab} tokens, k = {k}", atol=1e-6)
                for pos, vocab, k in ((4, 9, 3), (1, 12, 5), (7, 30, 1), (3, 6, 6))
            ],
        ),
        Part(
            "large logits, equal ones, all tokens",
            1,
            lambda draw, size: [
                case(
                    draw.normal(5, 11, mean=300.0, std=2.0),
                    4,
                    about="logits near 300, whose exponentials overflow",
                    atol=1e-6,
                ),
                *_tied_cases(draw, size),
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "first_position",
            "These are the predictions after the *first* token. The logits at position p say what comes after token p, so what follows "
            "the whole text is in the last row, `logits[-1]`.",
            lambda logits, k: _pairs(logits[0].softmax(-1), k),
        ),
        Mistake(
            "logits_not_probabilities",
            "The tokens are right, but the numbers are the raw logits. Probabilities are between 0 and 1 and sum to 1 over the vocabulary: "
            "take the softmax first.",
            lambda logits, k: _pairs(logits[-1], k),
        ),
        Mistake(
            "log_probabilities",
            "The numbers are log-probabilities, which is why they are negative. Use `softmax`, or the exponential of what you have.",
            lambda logits, k: _pairs(logits[-1].log_softmax(-1), k),
        ),
        Mistake(
            "softmax_over_positions",
            "Your softmax runs over positions (`dim=0`), so the numbers of one position do not sum to 1. The vocabulary is the last axis: "
            "`softmax(dim=-1)`.",
            lambda logits, k: _pairs(logits.softmax(0)[-1], k),
        ),
        Mistake(
            "least_likely_first",
            "These are the *least* likely tokens. `topk` takes the largest; after `sort` or `argsort`, pass `descending=True`.",
            lambda logits, k: _pairs(logits[-1].softmax(-1), k, largest=False),
        ),
        Mistake(
            "reversed_order",
            "The right tokens in the wrong order: the likeliest comes first.",
            lambda logits, k: _pairs(logits[-1].softmax(-1), k)[::-1],
        ),
        Mistake(
            "renormalized_over_k",
            "Your probabilities sum to 1 over the k tokens alone. Take the softmax over the whole vocabulary first, then choose the k.",
            _renormalized,
        ),
        Mistake(
            "probability_first",
            "Each pair is the wrong way around: the token comes first, then its probability.",
            lambda logits, k: [(p, t) for t, p in _pairs(logits[-1].softmax(-1), k)],
        ),
    ),
    hints=(
        "Which row of `logits` predicts the token that is not there yet? The one at the last position.",
        "`probabilities = logits[-1].softmax(dim=-1)` gives one number for each token of the vocabulary. `probabilities.topk(k)` "
        "has `.indices` and `.values`, largest first.",
    ),
    reveal="The logits at position p are the model's expectation of token p + 1, so the next token is read off the last row. "
    "Softmax turns logits into probabilities; it does not change the order, so `topk` may come before or after it, as long as the "
    "softmax runs over the whole vocabulary.",
)


# ---------------------------------------------------------------------------------------------------------------------
# zero_head


def _zero_head(z: Tensor, hook: object, head: int) -> Tensor:
    """Oracle: every number by hand."""
    out = z.clone()
    batch, pos, _, d_head = z.shape
    for b in range(batch):
        for p in range(pos):
            for d in range(d_head):
                out[b, p, head, d] = 0.0
    return out


def _set(z: Tensor, index: Any, value: Any = 0.0) -> Tensor:
    z = z.clone()
    z[index] = value
    return z


def _zero_others(z: Tensor, hook: object, head: int) -> Tensor:
    kept = torch.zeros_like(z)
    kept[:, :, head] = z[:, :, head]
    return kept


def _forgotten(z: Tensor, hook: object, head: int) -> None:
    z = z.clone()
    z[:, :, head] = 0.0


_SMALL = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}


def _zero_head_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases: list[Case] = []
    # Every axis is at least as long as the head axis: a wrong one must not be caught by an IndexError alone.
    for batch, pos, heads, d_head in ((4, 5, 3, 5), (5, 7, 4, 6), (3, 4, 2, 8), (4, 4, 3, 4), (2, 3, 1, 4)):
        head = draw.integer(1, heads) if len(cases) < 3 else 0
        cases.append(
            case(
                draw.normal(batch, pos, heads, d_head, mean=0.5),
                hook_ref(model_ref(_SMALL, 1), "blocks.0.attn.hook_z"),
                head,
                driver="hook",
                about=f"head {head} of {heads}, batch {batch}, {pos} positions",
            )
        )
    return cases


ZERO_HEAD = Exercise(
    id="start_here.zero_head",
    revision=2,
    fixed={
        "z[2]": "varied by hand, with head 0",
    },
    task="A hook that silences one head: its z is zero at every position of every prompt, the other heads are untouched.",
    minutes=4,
    difficulty=1,
    oracle=_zero_head,
    parts=(Part("one head silent, the others untouched", 2, _zero_head_cases),),
    mistakes=(
        Mistake(
            "position_for_head",
            "You silenced one *position* of all heads. The axes of z are [batch, pos, head, d_head]: the head is the third, "
            "`z[:, :, head]`.",
            lambda z, hook, head: _set(z, (slice(None), head)),
        ),
        Mistake(
            "d_head_for_head",
            "You silenced one number inside every head. The axes of z are [batch, pos, head, d_head]: the head is the third, "
            "not the last.",
            lambda z, hook, head: _set(z, (..., head)),
        ),
        Mistake(
            "prompt_for_head",
            "You silenced one prompt of the batch. The axes of z are [batch, pos, head, d_head]: the head is the third.",
            lambda z, hook, head: _set(z, head),
        ),
        Mistake(
            "whole_layer",
            "Every head of the layer is silent. Only the one asked for should be: index the third axis with `head`.",
            lambda z, hook, head: torch.zeros_like(z),
            degenerate=True,
        ),
        Mistake(
            "all_but_one",
            "The head that was asked for is the only one left; the others are silent. It is the other way around.",
            _zero_others,
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch lost its head. Begin the index with `:` for all of them.",
            lambda z, hook, head: _set(z, (0, slice(None), head)),
        ),
        Mistake(
            "last_position_only",
            "The head is silent at the last position only. It should be silent at every one.",
            lambda z, hook, head: _set(z, (slice(None), -1, head)),
        ),
        Mistake(
            "nothing_comes_back",
            "Nothing changed. A hook's change counts if it is made in `z` itself or if the new tensor is *returned*; what is changed in a copy "
            "that is not returned is lost.",
            _forgotten,
        ),
        Mistake(
            "mean_for_zero",
            "You replaced the head's output by its mean over positions. That is mean ablation, which has its uses; here zero is asked for.",
            lambda z, hook, head: _set(z, (slice(None), slice(None), head), z[:, :, head].mean(1, keepdim=True)),
        ),
    ),
    hints=(
        "z has the axes [batch, pos, head, d_head]. Which of them counts heads?",
        "`z[:, :, head] = 0.0` writes into all prompts, all positions and all numbers of that head. Return z afterwards.",
    ),
    reveal="`z` is what each head gathered from the positions it attended to, before the output matrix W_O carries it into the residual "
    "stream. With its z at zero a head writes nothing. TransformerLens uses what a hook returns, or, if it returns None, the "
    "tensor that it was given, as it is now; changing `z` in place and returning it covers both.",
)


EXERCISES = (TOP_NEXT_TOKENS, ZERO_HEAD)
