"""Watching induction heads form: one step of training, and the step from which a score stays high."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, model_ref, optimizer_ref

# ---------------------------------------------------------------------------------------------------------------------
# train_step


_CONFIG = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 9, "n_ctx": 12, "attn_only": True}


def _mean_loss(model, tokens: Tensor) -> Tensor:
    log_probs = model(tokens)[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, 1:, None]).mean()


def _train_step(model, optimizer, tokens: Tensor) -> float:
    """Oracle: gradients by autograd.grad, assigned by hand, so that none is left from earlier steps."""
    loss = _mean_loss(model, tokens)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.item()


def _step(
    loss_of: Callable = _mean_loss,
    *,
    clear: bool = True,
    after: bool = False,
    late_clear: bool = False,
    sign: int = 1,
) -> Callable[..., float]:
    """A training step with one thing changed."""

    def train_step(model, optimizer, tokens: Tensor) -> float:
        if clear:
            optimizer.zero_grad()
        loss = loss_of(model, tokens)
        (sign * loss).backward()
        if late_clear:
            optimizer.zero_grad()
        optimizer.step()
        return (loss_of(model, tokens) if after else loss).item()

    return train_step


def _shifted_by(first: slice, second: slice) -> Callable:
    def loss(model, tokens: Tensor) -> Tensor:
        log_probs = model(tokens).log_softmax(-1)
        return -log_probs[:, first].gather(-1, tokens[:, second, None]).mean()

    return loss


def _summed(model, tokens: Tensor) -> Tensor:
    return _mean_loss(model, tokens) * tokens[:, 1:].numel()


def _last_only(model, tokens: Tensor) -> Tensor:
    log_probs = model(tokens)[:, -2].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, -1:]).mean()


def _train_cases(kind: str, lr: float) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, pos in ((3, 8), (2, 5)):
            model = model_ref(_CONFIG, draw.seed())
            batches = [draw.integers(0, 9, batch, pos) for _ in range(3)]
            cases.append(
                case(
                    model,
                    optimizer_ref(model, kind, lr),
                    driver="train",
                    options={"batches": batches},
                    watch=("hooks",),
                    about=f"three steps of {kind.upper()}, batch {batch}, {pos} positions",
                    rtol=1e-3,
                    atol=1e-4,
                )
            )
        return cases

    return cases


TRAIN_STEP = Exercise(
    id="induction_heads.train_step",
    revision=2,
    task="One optimiser step on the mean next-token loss, from cleared gradients; returns the loss before the step.",
    minutes=6,
    difficulty=2,
    oracle=_train_step,
    parts=(Part("losses and parameters after three steps", 3, _train_cases("sgd", 0.2)),),
    mistakes=(
        Mistake(
            "gradients_not_cleared",
            "The first step is right and the later ones are not: gradients of earlier steps were added, because `backward` accumulates. Call "
            "`optimizer.zero_grad()` before it.",
            _step(clear=False),
        ),
        Mistake(
            "nothing_moves",
            "The parameters did not move: either `optimizer.step()` is missing, or the gradients were cleared between `backward` and it. "
            "Clear first, then `backward`, then `step`.",
            _step(late_clear=True),
        ),
        Mistake(
            "loss_after_the_step",
            "The parameters are right, but you returned the loss *after* the step. Return the one that was minimised; it comes for free.",
            _step(after=True),
        ),
        Mistake(
            "predicts_itself",
            "The model is trained to predict the token it has just read. Logits at position p predict token p + 1.",
            _step(_shifted_by(slice(None), slice(None))),
        ),
        Mistake(
            "two_ahead",
            "The model is trained to predict two tokens ahead. Logits at position p predict token p + 1.",
            _step(_shifted_by(slice(None, -2), slice(2, None))),
        ),
        Mistake(
            "predicts_backwards",
            "The model is trained to predict the token *before*, which it has already read: `logits[:, :-1]` belongs with `tokens[:, 1:]`.",
            _step(_shifted_by(slice(1, None), slice(None, -1))),
        ),
        Mistake(
            "summed",
            "You minimised the *sum* of the losses. The step then grows with batch and length; take the mean.",
            _step(_summed),
        ),
        Mistake(
            "last_position_only",
            "Only the last position's loss was minimised. Every position predicts its next token, and all of them count.",
            _step(_last_only),
        ),
        Mistake(
            "maximised",
            "The loss goes up: you stepped along the gradient of its negative. Minimise the loss, not the log-probability.",
            _step(sign=-1),
        ),
    ),
    hints=(
        "Four moves in order: clear the old gradients, compute the mean loss, `backward`, step.",
        "`model(tokens)` gives logits; `loss_per_token(logits, tokens).mean()` is the loss. Return `loss.item()`, which is a number and keeps "
        "no graph alive.",
    ),
    reveal="`backward` adds to whatever gradients are there, so clear them first. The loss that is returned belongs to the parameters before the "
    "step; another forward pass for the one after would double the cost.",
)


# ---------------------------------------------------------------------------------------------------------------------
# emergence_step


def _emergence_step(steps: list[int], scores: list[float], threshold: float) -> int | None:
    """Oracle: try each start in turn."""
    for i in range(len(steps)):
        if all(score > threshold for score in scores[i:]):
            return steps[i]
    return None


def _first_above(steps: list[int], scores: list[float], threshold: float) -> int | None:
    return next((s for s, score in zip(steps, scores, strict=True) if score > threshold), None)


def _first_index(steps: list[int], scores: list[float], threshold: float) -> int | None:
    step = _emergence_step(steps, scores, threshold)
    return None if step is None else steps.index(step)


def _last_below(steps: list[int], scores: list[float], threshold: float) -> int | None:
    below = [s for s, score in zip(steps, scores, strict=True) if score <= threshold]
    return below[-1] if below and scores[-1] > threshold else _emergence_step(steps, scores, threshold)


def _at_least(steps: list[int], scores: list[float], threshold: float) -> int | None:
    return _emergence_step(steps, scores, threshold - 1e-9)


def _last_rise(steps: list[int], scores: list[float], threshold: float) -> int | None:
    """The last crossing from below, even if the score has fallen since."""
    rises = [i for i in range(len(steps)) if scores[i] > threshold and (i == 0 or scores[i - 1] <= threshold)]
    return steps[rises[-1]] if rises else None


def _steepest(steps: list[int], scores: list[float], threshold: float) -> int | None:
    gains = [b - a for a, b in itertools.pairwise(scores)]
    return steps[gains.index(max(gains)) + 1] if gains else None


def _highest(steps: list[int], scores: list[float], threshold: float) -> int | None:
    return steps[scores.index(max(scores))] if max(scores) > threshold else None


def _minus_one(steps: list[int], scores: list[float], threshold: float) -> int:
    step = _emergence_step(steps, scores, threshold)
    return -1 if step is None else step


def _curve(draw: RandomInputs, n: int, rises_for_good: int | None, threshold: float) -> tuple[list[int], list[float]]:
    """A curve that dips below the threshold now and then, and stays above it from one index on, or never."""
    gaps = [draw.integer(3, 60) for _ in range(n)]
    steps = [sum(gaps[: i + 1]) for i in range(n)]
    last_low = n - 1 if rises_for_good is None else rises_for_good - 1
    scores = []
    for i in range(n):
        high = i > last_low or (i != last_low and draw.number() < 0.4)
        scores.append(threshold + draw.number(0.05, 0.4) * (1 if high else -1))
    return steps, scores


def _emergence_cases(draw: RandomInputs, size: str) -> list[Case]:
    calls = []
    for n, rise in ((12, 7), (9, 3), (20, 16), (8, 7)):
        threshold = draw.number(0.3, 0.6)
        calls.append(Call((*_curve(draw, n, rise, threshold), threshold)))
    return [Case(calls=tuple(calls), about="curves that rise, fall again, and rise for good")]


def _edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    threshold = 0.5
    steps, never = _curve(draw, 10, None, threshold)
    never[4] = 0.9
    offset = draw.integer(5, 50)
    four = [offset + 10 * i for i in range(4)]
    calls = (
        Call((steps, never, threshold)),
        Call((four, [0.7, 0.8, 0.9, 0.6], threshold)),
        Call(([0, 10, 20], [0.7, 0.8, 0.6], threshold)),
        Call((four, [0.1, 0.9, 0.5, 0.8], threshold)),
        Call((four, [0.1, 0.2, 0.3, 0.4], threshold)),
        Call(([], [], threshold)),
    )
    return [Case(calls=calls, about="never, from the start, a score equal to the threshold, and no scores at all")]


EMERGENCE_STEP = Exercise(
    id="induction_heads.emergence_step",
    revision=2,
    task="The first training step at which the score exceeds the threshold and stays above it, or None.",
    minutes=6,
    difficulty=2,
    oracle=_emergence_step,
    parts=(
        Part("curves that rise, fall and rise", 2, _emergence_cases),
        Part("never, at once, and just equal", 1, _edge_cases),
    ),
    mistakes=(
        Mistake(
            "first_crossing",
            "This is the first crossing. The score may fall below again afterwards; the head has emerged when it stays above to the end.",
            _first_above,
        ),
        Mistake(
            "last_crossing",
            "This is the last time the score rose above the threshold. If it has fallen below since, the head has not emerged: return None.",
            _last_rise,
        ),
        Mistake(
            "last_step_below",
            "This is the last step *at or below* the threshold. The head emerges one entry later.",
            _last_below,
        ),
        Mistake(
            "index_for_step",
            "This is the position in the list. Return the training step, `steps[i]`.",
            _first_index,
        ),
        Mistake(
            "threshold_included",
            "A score that *equals* the threshold counted as above it. Exceeds means `>`.",
            _at_least,
        ),
        Mistake(
            "minus_one_for_never",
            "Where the score never stays above you returned −1, which is a number like any other. Return None.",
            _minus_one,
        ),
        Mistake(
            "steepest_rise",
            "This is the step after the steepest rise. Emergence is asked for: above the threshold from there to the end.",
            _steepest,
        ),
        Mistake(
            "highest_score",
            "This is the step of the highest score. Emergence is asked for: above the threshold from there to the end.",
            _highest,
        ),
    ),
    hints=(
        "From which entry on is *every* score above the threshold?",
        "Walk backwards from the end while the scores are above the threshold. Where you stop, emergence is one entry later.",
    ),
    reveal="Walking backwards is shortest: the last entry at or below the threshold settles it. If that is the final entry, the answer is "
    "None. One number cannot stand for a curve: always look at the plot as well.",
)
