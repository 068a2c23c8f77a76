"""The ReLU autoencoder: encode, decode, and the two terms of its loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

SHAPES = ((3, 4, 7), (5, 6, 3), (2, 5, 5))
"""(batch, d, F). The last is square: there a transposed matrix does not fail, it is only wrong."""


# ---------------------------------------------------------------------------------------------------------------------
# encode


def _encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """Oracle: every number by hand."""
    out = torch.zeros(len(x), W_enc.shape[1])
    for row in range(len(x)):
        for i in range(W_enc.shape[1]):
            total = float(b_enc[i])
            for j in range(len(W_enc)):
                total += (float(x[row, j]) - float(b_dec[j])) * float(W_enc[j, i])
            out[row, i] = max(total, 0.0)
    return out


def _encode_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            draw.normal(batch, d, mean=0.8) * 5,  # far enough that a ceiling would show
            draw.normal(d, F, std=0.7),
            draw.normal(F, mean=0.3, std=0.6),
            draw.normal(d, mean=2.0, std=1.5),
            about=f"batch {batch}, d = {d}, F = {F}",
        )
        for batch, d, F in SHAPES
    ]


ENCODE = Exercise(
    id="sae_training.encode",
    revision=2,
    fixed={
        "result>=0": "ReLU",
    },
    task="ReLU((x − b_dec) W_enc + b_enc): how strongly each of the F latents is present in each row.",
    minutes=5,
    difficulty=1,
    oracle=_encode,
    parts=(Part("several shapes, biases that are not zero", 2, _encode_cases),),
    mistakes=(
        Mistake(
            "b_dec_not_subtracted",
            "`b_dec` was not subtracted from x. The decoder adds it at the end, so the encoder should see what is left without it: with real activations, whose mean is large, this bias decides which latents are active.",
            lambda x, W, b, c: (x @ W + b).relu(),
        ),
        Mistake(
            "b_dec_added",
            "You added `b_dec` to x. The decoder adds it at the end; the encoder takes it off first.",
            lambda x, W, b, c: ((x + c) @ W + b).relu(),
        ),
        Mistake(
            "b_dec_subtracted_twice",
            "`b_dec` is subtracted twice.",
            lambda x, W, b, c: ((x - 2 * c) @ W + b).relu(),
        ),
        Mistake(
            "b_enc_forgotten",
            "`b_enc` is missing. It is what keeps a latent inactive until its input is large enough.",
            lambda x, W, b, c: ((x - c) @ W).relu(),
        ),
        Mistake(
            "b_enc_subtracted",
            "You subtracted `b_enc`. It is added: a negative bias then makes a latent inactive.",
            lambda x, W, b, c: ((x - c) @ W - b).relu(),
        ),
        Mistake(
            "relu_missing",
            "Your latents go below 0: the ReLU is missing. A feature is present to some degree or absent, and most are absent.",
            lambda x, W, b, c: (x - c) @ W + b,
        ),
        Mistake(
            "bias_after_relu",
            "You added `b_enc` after the ReLU. Inside, it sets the point at which a latent becomes active; outside, it makes every latent active all the time.",
            lambda x, W, b, c: ((x - c) @ W).relu() + b,
        ),
        Mistake(
            "relu_of_the_input",
            "The ReLU stands around x − b_dec. It belongs around the whole: directions in the input may well be negative.",
            lambda x, W, b, c: (x - c).relu() @ W + b,
        ),
        Mistake(
            "absolute_values",
            "You took absolute values. A latent whose direction is strongly *absent* is 0, not large.",
            lambda x, W, b, c: ((x - c) @ W + b).abs(),
        ),
        Mistake(
            "transposed",
            "Right only by its shape, where F equals d: W_enc is [d, F], so x multiplies it from the left, `x @ W_enc`.",
            lambda x, W, b, c: ((x - c) @ W.T + b).relu(),
        ),
        Mistake(
            "sigmoid",
            "That is a sigmoid: never 0, and never above 1. Use a ReLU, which is exactly 0 most of the time and has no ceiling.",
            lambda x, W, b, c: ((x - c) @ W + b).sigmoid(),
        ),
        Mistake(
            "normalized_input",
            "You scaled each row to length 1 first. Then nothing in f says how large the activation was, and the decoder cannot rebuild it.",
            lambda x, W, b, c: (torch.nn.functional.normalize(x - c, dim=-1) @ W + b).relu(),
        ),
    ),
    hints=(
        "Three steps: subtract `b_dec`, read with `W_enc` and its bias, cut off what is negative.",
        "`x @ W_enc` has shape [batch, F]. Its biases are added to each row.",
        "`((x - b_dec) @ W_enc + b_enc).relu()`",
    ),
    reveal="Subtracting `b_dec` first is a convention, not a law: x W_enc + (b_enc − b_dec W_enc) is the same, and cheaper to train. It ties the two halves together: an input that equals `b_dec` is the point at which nothing needs to be explained.",
)


# ---------------------------------------------------------------------------------------------------------------------
# sae_loss


def _sparse(draw: RandomInputs, *shape: int) -> Tensor:
    """Activations as an encoder makes them: about half are zero, none is negative."""
    return draw.normal(*shape, mean=0.2).relu()


def _sae_loss(x: Tensor, x_hat: Tensor, f: Tensor, W_dec: Tensor, l1: float) -> tuple[Tensor, Tensor]:
    """Oracle: one example after the other; differentiable, since gradients are asked for too."""
    reconstruction, sparsity = torch.zeros(()), torch.zeros(())
    for row in range(len(x)):
        for j in range(x.shape[1]):
            reconstruction = reconstruction + (x[row, j] - x_hat[row, j]) ** 2 / len(x)
        for i in range(f.shape[1]):
            length = sum(W_dec[i, j] ** 2 for j in range(W_dec.shape[1])) ** 0.5
            sparsity = sparsity + l1 * f[row, i] * length / len(x)
    return reconstruction, sparsity


def _loss_arguments(draw: RandomInputs, batch: int, d: int, F: int) -> tuple:
    lengths = draw.uniform(F, 1, low=0.3, high=2.5)
    return (
        draw.normal(batch, d, mean=0.5),
        draw.normal(batch, d, mean=0.3),
        _sparse(draw, batch, F) + 0.1 * (draw.uniform(batch, F) < 0.5),
        torch.nn.functional.normalize(draw.normal(F, d), dim=-1) * lengths,
        draw.number(0.2, 0.7),
    )


def _loss_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_loss_arguments(draw, batch, d, F),
            about=f"batch {batch}, d = {d}, F = {F}, decoder rows of different length",
        )
        for batch, d, F in SHAPES
    ] + [case(*_loss_arguments(draw, 3, 4, 5)[:-1], 0.0, about="no penalty, l1 = 0")]


def _loss_gradients(draw: RandomInputs, size: str) -> list[Case]:
    options = {
        "wrt": [1, 2, 3],
        "cotangents": [draw.uniform(1, low=0.5, high=1.5)[0], draw.uniform(1, low=0.5, high=1.5)[0]],
    }
    x, x_hat, f, W_dec, l1 = _loss_arguments(draw, 4, 5, 7)
    # At f = 0 the slope of |f| is a convention (0 with `abs`, 1 without), and a ReLU stops it anyway.
    args = (x, x_hat, f + 0.1, W_dec, l1)
    return [
        case(
            *args,
            driver="gradients",
            options=options,
            about="gradients with respect to x_hat, f and W_dec",
        )
    ]


def _with(reconstruction: Callable | None = None, sparsity: Callable | None = None) -> Callable:
    """A wrong loss, with another reconstruction(error [batch d]) or sparsity(f, W_dec)."""

    def loss(x: Tensor, x_hat: Tensor, f: Tensor, W_dec: Tensor, l1: float) -> tuple[Tensor, Tensor]:
        first = reconstruction or (lambda e: e.pow(2).sum(-1).mean())
        second = sparsity or (lambda f, W: (f * W.norm(dim=-1)).sum(-1).mean())
        return first(x - x_hat), l1 * second(f, W_dec)

    return loss


def _swapped_terms(*args: object) -> tuple[Tensor, Tensor]:
    return _sae_loss(*args)[::-1]


SAE_LOSS = Exercise(
    id="sae_training.sae_loss",
    revision=2,
    fixed={
        "f>=0": "activations",
        "l1>=0": "a coefficient",
        "result>=0": "squares and absolute values",
    },
    task="Two numbers: the squared error, summed over d; l1 · Σ_i f_i ‖W_dec,i‖₂. Both averaged over the batch.",
    minutes=10,
    difficulty=2,
    oracle=_sae_loss,
    parts=(
        Part("both terms", 3, _loss_cases),
        Part("their gradients", 1, _loss_gradients),
    ),
    mistakes=(
        Mistake(
            "error_averaged_over_d",
            "Your reconstruction error is averaged over the dimensions (as `F.mse_loss` does), so it is smaller by a factor of d. With the usual coefficient the L1 term then wins, every latent becomes inactive, and nothing is learned. Sum over d, average over the batch.",
            _with(reconstruction=lambda e: e.pow(2).mean()),
        ),
        Mistake(
            "error_summed_over_batch",
            "Your reconstruction error grows with the batch: sum over d, but average over the batch.",
            _with(reconstruction=lambda e: e.pow(2).sum()),
        ),
        Mistake(
            "norm_not_squared",
            "You averaged the *norm* of the error. The squared error is asked for; the norm's gradient does not shrink as the reconstruction gets better.",
            _with(reconstruction=lambda e: e.norm(dim=-1).mean()),
        ),
        Mistake(
            "halved",
            "You put a factor ½ before the squared error. That changes what l1 means: the published coefficients go without it.",
            _with(reconstruction=lambda e: 0.5 * e.pow(2).sum(-1).mean()),
        ),
        Mistake(
            "absolute_error",
            "You summed absolute differences. Squares are asked for.",
            _with(reconstruction=lambda e: e.abs().sum(-1).mean()),
        ),
        Mistake(
            "l1_not_weighted",
            "Your sparsity term does not look at the decoder. When its rows may grow, the model halves f, doubles W_dec, and the penalty is gone with nothing changed. Weigh each f_i by ‖W_dec,i‖.",
            _with(sparsity=lambda f, W: f.sum(-1).mean()),
        ),
        Mistake(
            "weighted_by_squared_norms",
            "You weighed by *squared* norms. Doubling a row and halving its latent must leave the penalty unchanged; that takes the norm itself.",
            _with(sparsity=lambda f, W: (f * W.pow(2).sum(-1)).sum(-1).mean()),
        ),
        Mistake(
            "weighted_by_l1_norms",
            "You weighed by the L1 norm of each row, Σ|W|. The Euclidean norm is asked for: it does not depend on the choice of axes.",
            _with(sparsity=lambda f, W: (f * W.abs().sum(-1)).sum(-1).mean()),
        ),
        Mistake(
            "norms_of_columns",
            "You took norms of the columns of W_dec (this fits only where F equals d). Row i belongs to latent i: `W_dec.norm(dim=-1)`.",
            _with(sparsity=lambda f, W: (f * W.norm(dim=0)).sum(-1).mean()),
        ),
        Mistake(
            "l1_summed_over_batch",
            "Your sparsity term is summed over the batch: twice the batch, twice the penalty. Average over the batch.",
            _with(sparsity=lambda f, W: (f * W.norm(dim=-1)).sum()),
        ),
        Mistake(
            "l1_averaged_over_latents",
            "Your sparsity term is averaged over the latents, so a wider autoencoder is penalised less. Sum over latents, average over the batch.",
            _with(sparsity=lambda f, W: (f * W.norm(dim=-1)).mean()),
        ),
        Mistake(
            "squared_activations",
            "You penalised f². That shrinks large activations and leaves small ones alone, which makes nothing sparse. L1 is f itself.",
            _with(sparsity=lambda f, W: (f.pow(2) * W.norm(dim=-1)).sum(-1).mean()),
        ),
        Mistake(
            "counted",
            "You counted active latents. That is L0, which has no gradient; L1, the sum of f_i ‖W_dec,i‖, stands in for it.",
            _with(sparsity=lambda f, W: (f > 0).float().sum(-1).mean()),
        ),
        Mistake(
            "coefficient_forgotten",
            "The second term is not multiplied by `l1`.",
            lambda x, x_hat, f, W, l1: _sae_loss(x, x_hat, f, W, 1.0),
        ),
        Mistake(
            "added_up",
            "You returned the sum. Two numbers are asked for, (reconstruction, sparsity): in training you want to see both.",
            lambda *args: sum(_sae_loss(*args)),
        ),
        Mistake(
            "order_swapped",
            "The two are swapped: reconstruction first, then sparsity.",
            _swapped_terms,
        ),
        Mistake(
            "norms_detached",
            "The values are right, but no gradient reaches the decoder's norms: they are detached. Then the model may let f shrink and W_dec grow without paying for it.",
            _with(sparsity=lambda f, W: (f * W.detach().norm(dim=-1)).sum(-1).mean()),
        ),
        Mistake(
            "no_gradient",
            "The values are right, but nothing can be learned from them: they are detached numbers (`.item()`, `float` or `.detach()`). Return the tensors.",
            lambda *args: tuple(float(term.detach()) for term in _sae_loss(*args)),
            degenerate=True,
        ),
    ),
    hints=(
        "Two different axes are summed, d for the one and F for the other. The batch is averaged in both.",
        "`(x - x_hat).pow(2).sum(dim=-1).mean()` is the first.",
        "`W_dec.norm(dim=-1)` has shape [F] and multiplies f column by column: `l1 * (f * W_dec.norm(dim=-1)).sum(dim=-1).mean()`.",
    ),
    reveal="Sums and means are not a matter of taste here: they fix what a coefficient means. Averaging the error over d = 576 dimensions is the same as an l1 that is 576 times as large. With the decoder's norms in the penalty, length may move freely between f_i and its row (Bricken et al. 2023 kept rows at norm 1 instead; both are in use).",
)
