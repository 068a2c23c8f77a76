"""Undoing shrinkage: one number for the whole decoder, and the bias that goes with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case


def _undo_shrinkage(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """Oracle: least squares for the d + 1 unknowns, s and b, of all equations s · (f W_dec)[row, i] + b_i = x[row, i]."""
    if not f.any():
        raise ValueError("no latent is active")
    rows, d = x.shape
    written = f.double() @ W_dec.double()
    left = torch.zeros(rows * d, d + 1, dtype=torch.float64)
    right = torch.zeros(rows * d, 1, dtype=torch.float64)
    for row in range(rows):
        for i in range(d):
            left[row * d + i, 0], left[row * d + i, 1 + i] = written[row, i], 1.0
            right[row * d + i, 0] = x[row, i].double()
    solution = torch.linalg.lstsq(left, right).solution[:, 0]
    return (solution[0] * W_dec.double()).float(), solution[1:].float()


def _autoencoded(draw: RandomInputs, n: int, d: int, F: int, by: float, size: float = 1.0) -> tuple[Tensor, ...]:
    """x, f and W_dec of an autoencoder that writes `by` times what it should, and misses some of it."""
    W_dec = draw.normal(F, d) * draw.uniform(F, 1, low=0.5, high=1.5)
    f = draw.uniform(n, F, low=0.2, high=2.0) * (draw.uniform(n, F) < 0.5)
    f[0, 0], f[1, F - 1] = 0.7, 1.1  # never zero throughout
    x = f @ W_dec / by + draw.normal(n, d, std=0.3) + draw.normal(d, std=2.0)
    return size * x, f, size * W_dec


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_autoencoded(draw, n, d, F, by),
            about=f"{n} rows of {d}, {F} latents that write about {by} of what they should",
        )
        for n, d, F, by in ((8, 4, 6, 0.6), (7, 5, 3, 0.85), (9, 3, 5, 1.4), (6, 4, 4, -0.7))
    ]


def _edges(draw: RandomInputs, size: str) -> list[Case]:
    x, f, W_dec = _autoencoded(draw, 7, 4, 5, 0.7)
    f[:, 2] = 0.0
    return [
        case(*_autoencoded(draw, 8, 1, 4, 0.7), about="a single dimension"),
        case(*_autoencoded(draw, 8, 4, 1, 0.7), about="a single latent"),
        case(*_autoencoded(draw, 9, 3, 4, 0.6, size=30.0), about="activations of a large norm"),
        case(*_autoencoded(draw, 9, 3, 4, 0.6, size=0.03), about="activations of a small norm"),
        case(x, f, W_dec, about="a latent that is never active"),
    ]


def _dead(draw: RandomInputs, size: str) -> list[Case]:
    x, f, W_dec = _autoencoded(draw, 6, 4, 3, 0.7)
    calls = ((x, f, W_dec), (x, torch.zeros_like(f), W_dec))
    return [Case(calls=tuple(Call(args, "expects_error") for args in calls), about="some active latents, then none")]


def _pieces(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x and what the latents write, both centered, and the mean of the latter."""
    written = f @ W_dec
    return x - x.mean(0), written - written.mean(0), written.mean(0)


def _with(
    scale: Callable[[Tensor, Tensor], Tensor] = lambda x, y: (x * y).sum() / y.pow(2).sum(),
    bias: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda mean, s, written: mean - s * written,
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A wrong answer with another scale(centered x, centered writing) or bias(mean of x, s, mean writing)."""

    def undo(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor]:
        if not f.any():
            raise ValueError("no latent is active")
        xc, yc, written = _pieces(x, f, W_dec)
        s = scale(xc, yc)
        return s * W_dec, bias(x.mean(0), s, written)

    return undo


def _uncentred(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    if not f.any():
        raise ValueError("no latent is active")
    written = f @ W_dec
    s = (x * written).sum() / written.pow(2).sum()
    return s * W_dec, x.mean(0) - s * written.mean(0)


def _each_latent(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """A new decoder altogether: the best for this code."""
    if not f.any():
        raise ValueError("no latent is active")
    new = torch.linalg.lstsq(f - f.mean(0), x - x.mean(0), driver="gelsd").solution
    return new, x.mean(0) - f.mean(0) @ new


def _accepts_none(x: Tensor, f: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    xc, yc, written = _pieces(x, f, W_dec)
    s = (xc * yc).sum() / yc.pow(2).sum().clamp(min=1e-30)
    return s * W_dec, x.mean(0) - s * written


UNDO_SHRINKAGE = Exercise(
    id="sae_training.undo_shrinkage",
    task="The decoder times one number, and a bias, such that together they rebuild x from f with the least squared error. ValueError when no latent is active in any row.",
    minutes=7,
    difficulty=2,
    oracle=_undo_shrinkage,
    fixed={
        "x[0]": "one row has no variance",
        "f[0]": "one row has no variance",
        "f>=0": "activations of latents are never negative",
    },
    parts=(
        Part("too short, too long, the wrong way round", 3, _cases),
        Part("axes of size one; large and small; a latent that is never active", 1, _edges),
        Part("no active latent is refused", 1, _dead),
    ),
    mistakes=(
        Mistake(
            "multiplied_by_gamma",
            "You multiplied by γ, which makes short reconstructions shorter. Divide: s = 1/γ.",
            _with(scale=lambda x, y: y.pow(2).sum() / (x * y).sum()),
        ),
        Mistake(
            "not_centred",
            "Your number comes from data that are not centered, so the mean, which the bias can rebuild by itself, pulls it. Subtract the mean row from x, and from what the latents write.",
            _uncentred,
        ),
        Mistake(
            "bias_is_the_mean",
            "The scale is right. As bias you returned the mean of x, but the latents write something on average too: subtract s times the mean of f W_dec.",
            _with(bias=lambda mean, s, written: mean),
        ),
        Mistake(
            "bias_not_rescaled",
            "The scale is right. In the bias you subtracted what the *old* decoder writes on average; the new one writes s times that.",
            _with(bias=lambda mean, s, written: mean - written),
        ),
        Mistake(
            "bias_sign",
            "The scale is right. You added s times the mean of what the latents write; subtract it, since the latents write it already.",
            _with(bias=lambda mean, s, written: mean + s * written),
        ),
        Mistake(
            "ratio_of_norms",
            "Your number is a ratio of lengths, ‖x‖ / ‖f W_dec‖. It ignores how well the two agree. With y = f W_dec, both centered, s = Σ x·y / Σ‖y‖².",
            _with(scale=lambda x, y: x.norm() / y.norm()),
        ),
        Mistake(
            "regressed_the_other_way",
            "You divided by Σ‖x‖²: that gives the multiple of x that is nearest to what the latents write. It is the other way round: with y = f W_dec, divide by Σ‖y‖².",
            _with(scale=lambda x, y: (x * y).sum() / x.pow(2).sum()),
        ),
        Mistake(
            "one_for_each_dimension",
            "You found a number for each dimension. That turns the directions of the latents; one number for all leaves them as they are.",
            _with(scale=lambda x, y: (x * y).sum(0) / y.pow(2).sum(0)),
        ),
        Mistake(
            "new_directions",
            "You solved for a whole new decoder. It rebuilds better, but its directions are not those that were found. One number for all rows of W_dec is asked for.",
            _each_latent,
        ),
        Mistake(
            "none_accepted",
            "Right where latents are active. Where none is, nothing can be rescaled: raise ValueError.",
            _accepts_none,
        ),
    ),
    hints=(
        "Call y = f @ W_dec what the latents write. The bias takes care of the mean, so look at x and y without their mean rows first: which multiple of y is nearest to x?",
        "s = Σ x·y / Σ‖y‖² of the centered two, which is 1/γ. The bias must then make the means agree: mean(x) = s · mean(y) + b.",
        '`if not f.any(): raise ValueError("...")`; then `y = f @ W_dec`, `yc, xc = y - y.mean(0), x - x.mean(0)`, `s = (xc * yc).sum() / yc.pow(2).sum()`, and `return s * W_dec, x.mean(0) - s * y.mean(0)`.',
    ),
    reveal="It is a regression with one slope. On centered data the slope is 1/γ, hence the name. The latents, their directions, and where each is active stay as they were: only the strengths change. What it cannot repair: weak features lose a larger share of their strength than strong ones, and one number cannot give back both.",
)
