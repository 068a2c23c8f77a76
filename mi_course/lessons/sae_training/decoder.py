"""Keeping decoder rows at norm 1: after the step, and in the gradient before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _matrix(draw: RandomInputs, F: int, d: int, zero: bool) -> Tensor:
    """Rows of very different length and direction; one of them zero if asked for."""
    W = draw.normal(F, d, mean=0.3) * draw.uniform(F, 1, low=0.2, high=3.0)
    if zero:
        W[draw.integer(0, F)] = 0.0
    return W


def _unit(W: Tensor) -> Tensor:
    return W / torch.where(W.norm(dim=-1, keepdim=True) > 0, W.norm(dim=-1, keepdim=True), 1.0)


_SHAPES = ((7, 4), (3, 6), (5, 5))


# ---------------------------------------------------------------------------------------------------------------------
# normalize_decoder


def _normalize_decoder(W_dec: Tensor) -> Tensor:
    """Oracle: by loops, in double precision."""
    rows = []
    for row in W_dec.double().tolist():
        length = sum(c * c for c in row) ** 0.5
        rows.append([c / length if length else 0.0 for c in row])
    return torch.tensor(rows)


def _normalize_cases(zero: bool) -> Callable[[RandomInputs, str], list[Case]]:
    return lambda draw, size: [
        case(_matrix(draw, F, d, zero), about=f"{F} rows of {d}{', one of them zero' if zero else ''}")
        for F, d in _SHAPES
    ]


NORMALIZE_DECODER = Exercise(
    id="sae_training.normalize_decoder",
    revision=2,
    task="The decoder with every row scaled to norm 1; a zero row stays zero.",
    minutes=4,
    difficulty=1,
    oracle=_normalize_decoder,
    parts=(
        Part("rows of any length", 1, _normalize_cases(False)),
        Part("a zero row stays zero", 1, _normalize_cases(True)),
    ),
    mistakes=(
        Mistake(
            "columns",
            "Your *columns* have norm 1. W_dec is [F, d]: a row is a latent's direction, so take the norm along the last axis.",
            lambda W: W / torch.where(W.norm(dim=0, keepdim=True) > 0, W.norm(dim=0, keepdim=True), 1.0),
        ),
        Mistake(
            "whole_matrix",
            "You divided by the norm of the whole matrix. Each row has its own.",
            lambda W: W / W.norm(),
        ),
        Mistake(
            "squared_norm",
            "You divided by the squared norm: long rows come out short. Take the root.",
            lambda W: W / torch.where(W.norm(dim=-1) > 0, W.norm(dim=-1), 1.0)[:, None] ** 2,
        ),
        Mistake(
            "l1_norm",
            "Your rows have an L1 norm of 1. The Euclidean norm is asked for, `norm(dim=-1)`.",
            lambda W: torch.nn.functional.normalize(W, p=1, dim=-1),
        ),
        Mistake(
            "largest_entry",
            "You divided by the largest entry of each row. Divide by its Euclidean norm.",
            lambda W: torch.nn.functional.normalize(W, p=float("inf"), dim=-1),
        ),
        Mistake(
            "only_long_rows",
            "Rows longer than 1 are cut to 1, shorter ones are left as they are. All of them should have norm 1; else a latent may hide in a short row.",
            lambda W: W / W.norm(dim=-1, keepdim=True).clamp(min=1.0),
        ),
        Mistake(
            "mean_norm_one",
            "You divided by the mean of the norms. Rows of different length remain; each has its own norm.",
            lambda W: W / W.norm(dim=-1).mean(),
        ),
        Mistake(
            "centered_too",
            "You subtracted each row's mean. Only the length changes; the direction stays.",
            lambda W: _unit(W - W.mean(dim=-1, keepdim=True)),
        ),
        Mistake(
            "zero_divided_by_zero",
            "Right but for a zero row: 0/0 is NaN, and one NaN in the decoder is a NaN in every reconstruction. A zero row stays zero.",
            lambda W: W / W.norm(dim=-1, keepdim=True),
            degenerate=True,
        ),
    ),
    hints=(
        "One norm for each row: `W_dec.norm(dim=-1, keepdim=True)` has shape [F, 1] and divides row by row.",
        "What is 0/0? Replace norms of 0 by 1 before you divide: `torch.where(norms > 0, norms, 1.0)`; `clamp(min=1e-8)` does it too.",
    ),
    reveal="With rows of norm 1 the L1 penalty cannot be dodged by moving length into the decoder, and f is measured in the units of the activations. Normalise *after* the optimiser's step: before it, the step makes them longer again.",
)


# ---------------------------------------------------------------------------------------------------------------------
# project_gradient


def _project_gradient(W_dec: Tensor, grad: Tensor) -> Tensor:
    """Oracle: the nearest vector at right angles to the row, as a least-squares problem for each row."""
    rows = []
    for row, g in zip(W_dec.double(), grad.double(), strict=True):
        if not row.any():
            rows.append(g)
            continue
        # The multiple of the row that is nearest to g; the rest is at right angles to it.
        share = torch.linalg.lstsq(row[:, None], g[:, None]).solution[0, 0]
        rows.append(g - share * row)
    return torch.stack(rows).float()


def _project_cases(zero: bool) -> Callable[[RandomInputs, str], list[Case]]:
    return lambda draw, size: [
        case(
            _matrix(draw, F, d, zero),
            draw.normal(F, d, mean=0.5),
            about=f"{F} rows of {d}{', one of them zero' if zero else ', not of norm 1'}",
            watch=("arguments",) if not zero else (),
        )
        for F, d in _SHAPES
    ]


def _along(W: Tensor, grad: Tensor, dim: int = -1) -> Tensor:
    return (W * grad).sum(dim=dim, keepdim=True) * W


def _columns(W: Tensor, grad: Tensor) -> Tensor:
    unit = W / torch.where(W.norm(dim=0) > 0, W.norm(dim=0), 1.0)
    return grad - _along(unit, grad, dim=0)


def _common_direction(W: Tensor, grad: Tensor) -> Tensor:
    total = _unit(W).sum(dim=0)
    total = total / total.norm()
    return grad - (grad @ total)[:, None] * total


def _all_rows(W: Tensor, grad: Tensor) -> Tensor:
    return grad - (grad @ _unit(W).T) @ _unit(W)


def _whole_matrix(W: Tensor, grad: Tensor) -> Tensor:
    return grad - (W * grad).sum() / W.pow(2).sum() * W


PROJECT_GRADIENT = Exercise(
    id="sae_training.project_gradient",
    revision=2,
    task="The gradient of W_dec without its component along each row; a zero row leaves its gradient as it is.",
    minutes=7,
    difficulty=2,
    oracle=_project_gradient,
    parts=(
        Part("rows of any length", 2, _project_cases(False)),
        Part("a zero row leaves its gradient as it is", 1, _project_cases(True)),
    ),
    mistakes=(
        Mistake(
            "rows_not_normalized",
            "You used the rows without normalising them. g − (g·w) w needs w of norm 1; with a long row the component comes out with the opposite sign. Normalise first.",
            lambda W, g: g - _along(W, g),
        ),
        Mistake(
            "normalized_once",
            "You divided by each row's norm once. The row comes in twice, in the dot product and in what is subtracted: divide by the squared norm, or use unit rows in both places.",
            lambda W, g: (
                g - _along(W, g) / torch.where(W.norm(dim=-1, keepdim=True) > 0, W.norm(dim=-1, keepdim=True), 1.0)
            ),
        ),
        Mistake(
            "component_only",
            "This is the component along the row, the part that should go. Subtract it.",
            lambda W, g: _along(_unit(W), g),
        ),
        Mistake(
            "component_added",
            "You added the component along the row instead of removing it.",
            lambda W, g: g + _along(_unit(W), g),
        ),
        Mistake(
            "component_off_twice",
            "You subtracted the component twice: that mirrors the gradient instead of projecting it.",
            lambda W, g: g - 2 * _along(_unit(W), g),
        ),
        Mistake(
            "columns",
            "You took components along the *columns*. A row of W_dec is a latent's direction; sum over the last axis.",
            _columns,
        ),
        Mistake(
            "common_direction",
            "You projected every row's gradient on the same vector, the sum of all rows. Each row has its own direction.",
            _common_direction,
        ),
        Mistake(
            "every_other_row_too",
            "You removed components along *all* rows, from each gradient. Only a row's own direction changes its own length.",
            _all_rows,
        ),
        Mistake(
            "whole_matrix",
            "You treated the matrix as one long vector: one dot product for all rows. Each row loses its own component: sum over the last axis with `keepdim=True`.",
            _whole_matrix,
        ),
        Mistake(
            "row_subtracted",
            "You subtracted the unit row itself. Subtract the row times the gradient's component along it.",
            lambda W, g: g - _unit(W),
        ),
        Mistake(
            "gradient_normalized",
            "You also scaled the result to norm 1. The direction is right; the length says how far to step.",
            lambda W, g: _unit(_project_gradient(W, g)),
        ),
        Mistake(
            "zero_divided_by_zero",
            "Right but for a zero row: 0/0 is NaN. A zero row has no direction, so its gradient stays unchanged.",
            lambda W, g: g - _along(W / W.norm(dim=-1, keepdim=True), g),
            degenerate=True,
        ),
        Mistake(
            "zero_row_frozen",
            "Right but for a zero row, whose gradient you set to zero: that latent can never leave zero again. It has no direction, so nothing is removed.",
            lambda W, g: _project_gradient(W, g) * W.any(dim=-1, keepdim=True),
        ),
    ),
    hints=(
        "A step along a row only changes its length, which is then normalised away. Which part of the gradient does that?",
        "With unit rows u, the component is `(grad * u).sum(dim=-1, keepdim=True)`, one number for each row.",
        "`unit = normalize_decoder(W_dec)`, then `grad - (grad * unit).sum(dim=-1, keepdim=True) * unit`.",
    ),
    reveal="Without it, Adam's running averages fill up with a component that the normalisation throws away after each step, and the true step gets shorter (Bricken et al. 2023, appendix on training). For plain SGD it would hardly matter.",
)
