"""Watching induction heads form: one step of training, and the step from which a score stays high."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, model_ref, optimizer_ref
from mi_course.interp.models import run_bare

# ---------------------------------------------------------------------------------------------------------------------
# train_step


_CONFIG = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 9, "n_ctx": 12, "attn_only": True}


def _mean_loss(model, tokens: Tensor) -> Tensor:
    log_probs = run_bare(model, tokens, grad=True)[:, :-1].log_softmax(-1)
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
    clear_after: bool = False,
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
        if clear_after:
            optimizer.zero_grad()
        return (loss_of(model, tokens) if after else loss).item()

    return train_step


def _shifted_by(first: slice, second: slice) -> Callable:
    def loss(model, tokens: Tensor) -> Tensor:
        log_probs = run_bare(model, tokens, grad=True).log_softmax(-1)
        return -log_probs[:, first].gather(-1, tokens[:, second, None]).mean()

    return loss


def _summed(model, tokens: Tensor) -> Tensor:
    return _mean_loss(model, tokens) * tokens[:, 1:].numel()


def _last_only(model, tokens: Tensor) -> Tensor:
    log_probs = run_bare(model, tokens, grad=True)[:, -2].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, -1:]).mean()


def _train_cases(kind: str, lr: float) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases: list[Case] = []
        for batch, pos in ((3, 8), (2, 5), (2, 5), (2, 6)) if kind == "sgd" else ((1, 2), (3, 4)):
            model = model_ref(_CONFIG, draw.seed())
            batches = [draw.integers(0, 9, batch, pos) for _ in range(3)]
            left_over = 0.03 if len(cases) == 3 else 0.0
            cases.append(
                case(
                    model,
                    optimizer_ref(model, kind, lr),
                    driver="train",
                    options={"batches": batches, "left_over": left_over},
                    watch=("hooks",),
                    about=f"three steps of SGD{' with momentum' * (kind != 'sgd')}, batch {batch}, {pos} positions"
                    + ", gradients left over from before" * bool(left_over),
                    rtol=1e-3,
                    atol=1e-4,
                )
            )
        return cases

    return cases


TRAIN_STEP = Exercise(
    id="induction_heads.train_step",
    revision=2,
    fixed={
        "model": "the optimizer belongs to it",
        "result>=0": "minus a log-probability",
        "result<=1": "random models know little, and nothing very wrong",
    },
    task="One optimiser step on the mean next-token loss, from cleared gradients; returns the loss before the step.",
    minutes=6,
    difficulty=2,
    oracle=_train_step,
    parts=(
        Part(
            "losses and parameters after three steps",
            3,
            lambda draw, size: [*_train_cases("sgd", 0.2)(draw, size), *_train_cases("momentum", 0.1)(draw, size)],
        ),
    ),
    mistakes=(
        Mistake(
            "gradients_not_cleared",
            "The first step is right and the later ones are not: gradients of earlier steps were added, because `backward` accumulates. Call "
            "`optimizer.zero_grad()` before it.",
            _step(clear=False),
        ),
        Mistake(
            "cleared_after_only",
            "Right where the model comes without gradients. Where some are left over from before, they take part in the first step: clear them "
            "*before* `backward`.",
            _step(clear=False, clear_after=True),
        ),
        Mistake(
            "nothing_moves",
            "The parameters did not move. Three slips do that: `optimizer.step()` is missing; the gradients were cleared between `backward` and "
            "it; or the loss was cut off from the parameters (`detach`, `no_grad`), so that `backward` finds none.",
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
