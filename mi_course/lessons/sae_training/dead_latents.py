"""Reviving dead latents: the auxiliary loss of Gao et al. (2024)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _auxiliary_loss(residual: Tensor, pre: Tensor, dead: Tensor, k: int, W_dec: Tensor) -> Tensor:
    """Oracle: for each row rank the dead latents, and add up the best. Differentiable in pre and W_dec."""
    target, total = residual.detach().clone(), torch.zeros(())
    asleep = [i for i, is_dead in enumerate(dead.tolist()) if is_dead]
    if not asleep:
        return total
    for row in range(len(pre)):
        ranked = sorted(asleep, key=lambda i: -pre[row, i].item())
        rebuilt = torch.zeros_like(target[row])
        for i in ranked[:k]:
            if pre[row, i].item() > 0:
                rebuilt = rebuilt + pre[row, i] * W_dec[i]
        total = total + ((target[row] - rebuilt) ** 2).sum() / len(pre)
    return total


def _arguments(draw: RandomInputs, batch: int, d: int, F: int, n_dead: int, k: int) -> tuple:
    dead = torch.zeros(F, dtype=torch.bool)
    order = torch.tensor(draw.permutation(F))
    dead[order[:n_dead]] = True
    pre = draw.normal(batch, F, mean=0.3)
    pre[:, ~dead] += 0.8  # the others are larger, so that taking them is noticed
    if n_dead:
        pre[0, dead] = -pre[0, dead].abs() - 0.1  # a row in which no dead latent is positive
        pre[1, order[0]] = -2.5  # and one with a large negative value
    return draw.normal(batch, d), pre, dead, k, draw.normal(F, d, std=0.6)


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_arguments(draw, batch, d, F, n_dead, k),
            about=f"batch {batch}, F = {F}, {n_dead} of them dead, k = {k}",
        )
        for batch, d, F, n_dead, k in ((4, 5, 9, 5, 2), (5, 3, 8, 6, 3), (3, 6, 10, 4, 1))
    ]


def _few_dead(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_arguments(draw, batch, d, F, n_dead, k), about=f"{n_dead} of {F} dead, k = {k}")
        for batch, d, F, n_dead, k in ((4, 5, 7, 2, 5), (5, 3, 8, 1, 3), (3, 4, 6, 0, 2))
    ]


def _gradients(draw: RandomInputs, size: str) -> list[Case]:
    options = {"wrt": [0, 1, 4], "cotangents": [draw.uniform(1, low=0.5, high=1.5)[0]]}
    args = _arguments(draw, 4, 5, 9, 5, 2)
    about = "gradients with respect to residual, pre and W_dec"
    return [case(*args, driver="gradients", options=options, about=about)]


def _best(pre: Tensor, dead: Tensor, k: int) -> Tensor:
    """The right code, [batch, F]: the k largest dead latents, positive only."""
    code = torch.zeros_like(pre)
    count = min(k, int(dead.sum()))
    if count:
        index = pre.masked_fill(~dead, -torch.inf).topk(count, dim=-1).indices
        code = code.scatter(-1, index, pre.gather(-1, index).relu())
    return code


def _aux(
    code: Callable[[Tensor, Tensor, int], Tensor] = _best,
    reduce: Callable[[Tensor], Tensor] = lambda e: e.pow(2).sum(dim=-1).mean(),
    target: Callable[[Tensor], Tensor] = lambda r: r.detach(),
    decoder: Callable[[Tensor], Tensor] = lambda W: W,
    when_none: Callable[[Tensor], Tensor] = lambda r: torch.zeros(()),
) -> Callable:
    """A wrong auxiliary loss: with one piece replaced."""

    def loss(residual: Tensor, pre: Tensor, dead: Tensor, k: int, W_dec: Tensor) -> Tensor:
        if not dead.any():
            return when_none(residual)
        return reduce(target(residual) - code(pre, dead, k) @ decoder(W_dec))

    return loss


def _masked_late(pre: Tensor, dead: Tensor, k: int) -> Tensor:
    """The k largest of all latents, of which the dead are kept."""
    index = pre.topk(min(k, pre.shape[1]), dim=-1).indices
    return torch.zeros_like(pre).scatter(-1, index, pre.gather(-1, index).relu()) * dead


def _negative_too(pre: Tensor, dead: Tensor, k: int) -> Tensor:
    index = pre.masked_fill(~dead, -torch.inf).topk(min(k, int(dead.sum())), dim=-1).indices
    return torch.zeros_like(pre).scatter(-1, index, pre.gather(-1, index))


def _by_size(pre: Tensor, dead: Tensor, k: int) -> Tensor:
    index = pre.abs().masked_fill(~dead, -1.0).topk(min(k, int(dead.sum())), dim=-1).indices
    return torch.zeros_like(pre).scatter(-1, index, pre.gather(-1, index).relu())


def _fewer_is_zero(residual: Tensor, pre: Tensor, dead: Tensor, k: int, W_dec: Tensor) -> Tensor:
    return _auxiliary_loss(residual, pre, dead, k, W_dec) if int(dead.sum()) >= k else torch.zeros(())


AUXILIARY_LOSS = Exercise(
    id="sae_training.auxiliary_loss",
    revision=2,
    fixed={
        "result>=0": "squares",
    },
    task="The squared error of rebuilding the detached residual from the k largest dead pre-activations of each row, positive only, without bias; 0 if no latent is dead.",
    minutes=10,
    difficulty=3,
    oracle=_auxiliary_loss,
    parts=(
        Part("several shapes", 2, _cases),
        Part("fewer than k dead, and none", 1, _few_dead),
        Part("its gradients", 2, _gradients),
    ),
    mistakes=(
        Mistake(
            "residual_not_detached",
            "The value is right, but a gradient reaches the residual, and through it the other latents: they would learn to leave an error that the dead can explain. Detach it: for this loss it is a target.",
            _aux(target=lambda r: r),
        ),
        Mistake(
            "living_latents",
            "You took the latents that are *not* dead. The mask is True where a latent is dead: `pre[:, dead]`.",
            lambda residual, pre, dead, k, W: _auxiliary_loss(residual, pre, ~dead, k, W),
        ),
        Mistake(
            "mask_ignored",
            "You took the k largest of all latents, dead or not. Only the dead ones count here.",
            lambda residual, pre, dead, k, W: (
                _auxiliary_loss(residual, pre, torch.ones_like(dead), k, W) * float(dead.any())
            ),
        ),
        Mistake(
            "masked_too_late",
            "You took the k largest of all latents and then dropped those that are not dead. That leaves few dead ones, or none. Mask first, then choose.",
            _aux(code=_masked_late),
        ),
        Mistake(
            "all_dead_latents",
            "You used all dead latents. Only the k largest of each row take part; otherwise all of them learn the same.",
            lambda residual, pre, dead, k, W: _auxiliary_loss(residual, pre, dead, len(dead), W),
        ),
        Mistake(
            "negative_values",
            "Negative pre-activations took part. A latent is active only where it is positive: apply a ReLU to what was chosen.",
            _aux(code=_negative_too),
        ),
        Mistake(
            "by_absolute_value",
            "You chose by absolute value, so large negative ones take the places of positive ones.",
            _aux(code=_by_size),
        ),
        Mistake(
            "averaged_over_d",
            "The error is averaged over the dimensions. Sum over d, average over the batch, as in the main loss.",
            _aux(reduce=lambda e: e.pow(2).mean()),
        ),
        Mistake(
            "summed_over_batch",
            "The error is summed over the batch. Average over it.",
            _aux(reduce=lambda e: e.pow(2).sum()),
        ),
        Mistake(
            "not_squared",
            "You averaged norms of the error. Squares are asked for.",
            _aux(reduce=lambda e: e.norm(dim=-1).mean()),
        ),
        Mistake(
            "relative",
            "You divided by the size of the residual. Gao et al. do so in training, to keep the coefficient steady; here the error itself is asked for.",
            lambda residual, pre, dead, k, W: (
                _auxiliary_loss(residual, pre, dead, k, W) / residual.detach().pow(2).sum(dim=-1).mean()
            ),
        ),
        Mistake(
            "rebuilds_nothing",
            "This is the size of the residual itself: nothing was subtracted from it.",
            lambda residual, pre, dead, k, W: residual.detach().pow(2).sum(dim=-1).mean() * float(dead.any()),
        ),
        Mistake(
            "encoder_detached",
            "The value is right, but no gradient reaches `pre`. It is the encoder of the dead latents that has to learn.",
            _aux(code=lambda pre, dead, k: _best(pre, dead, k).detach()),
        ),
        Mistake(
            "decoder_detached",
            "The value is right, but no gradient reaches `W_dec`. The decoder rows of the dead latents learn too.",
            _aux(decoder=lambda W: W.detach()),
        ),
        Mistake(
            "no_gradient",
            "The value is right, but nothing can be learned from it: it is a detached number. Return the tensor.",
            lambda *args: float(_auxiliary_loss(*args).detach()),
            degenerate=True,
        ),
        Mistake(
            "fewer_than_k_is_zero",
            "Where fewer than k are dead you returned 0. Use all of them then.",
            _fewer_is_zero,
            degenerate=True,
        ),
        Mistake(
            "none_is_the_residual",
            "Without dead latents you returned the size of the residual. There is nothing to revive: 0.",
            _aux(when_none=lambda r: r.detach().pow(2).sum(dim=-1).mean()),
        ),
        Mistake(
            "none_is_nan",
            "Without dead latents you returned NaN (a mean over nothing). There is nothing to revive: 0.",
            _aux(when_none=lambda r: torch.tensor(torch.nan)),
            degenerate=True,
        ),
    ),
    hints=(
        "What do the other latents leave unexplained? That is the target. Which latents may explain it? Only the dead.",
        "`pre[:, dead]` are the dead pre-activations, `W_dec[dead]` their rows. How many can be chosen: `min(k, int(dead.sum()))`.",
        "`rebuilt = topk_activation(pre[:, dead], count) @ W_dec[dead]`, and the error against `residual.detach()`.",
    ),
    reveal="A dead latent has no gradient: it is zero everywhere, so nothing tells it where to go. Here it gets a target of its own, the error that the others leave (Gao et al. 2024, section 2.4). Resampling (Bricken et al. 2023) does it by hand: put the dead latent where the error is large.",
)
