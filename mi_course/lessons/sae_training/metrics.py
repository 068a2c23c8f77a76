"""Metrics of a batch: L0, explained variance, dead latents."""

from __future__ import annotations

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# explained_variance


def _explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """Oracle: by loops."""
    rows, other = x.double().tolist(), x_hat.double().tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    error = sum((a - b) ** 2 for r, o in zip(rows, other, strict=True) for a, b in zip(r, o, strict=True))
    total = sum((a - m) ** 2 for r in rows for a, m in zip(r, means, strict=True))
    return 1 - error / total


def _reconstructions(draw: RandomInputs, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Data with a mean and scales of their own; x_hat has noise, is a little short, and is off by a constant."""
    scales = draw.uniform(d, low=0.3, high=2.5)
    x = draw.normal(n, d) * scales + draw.normal(d, std=1.5)
    x = x * draw.uniform(n, 1, low=0.6, high=1.6)
    x_hat = 0.9 * x + draw.normal(n, d, std=0.3) + draw.normal(d, std=0.4)
    return x, x_hat


def _variance_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_reconstructions(draw, n, d), about=f"{n} rows of {d}, off by a constant")
        for n, d in ((8, 4), (5, 6), (12, 3))
    ]


def _bad_reconstructions(draw: RandomInputs, size: str) -> list[Case]:
    """One worse than the mean, which scores below 0; and the mean itself, which scores 0, however large it is."""
    x = draw.normal(7, 4, mean=2.0)
    calls = (Call((x, x + draw.normal(7, 4, std=3.0))), Call((x, x.mean(0).expand(7, 4).clone())))
    return [Case(calls=calls, about="a reconstruction worse than the mean, and the mean itself", atol=1e-4)]


def _ratio(error: Tensor, total: Tensor) -> Tensor:
    return 1 - error / total


EXPLAINED_VARIANCE = Exercise(
    id="sae_training.explained_variance",
    revision=2,
    fixed={
        "x[0]": "one row has no variance",
        "x_hat[0]": "one row has no variance",
    },
    task="1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², both sums over all rows, x̄ the mean row.",
    minutes=6,
    difficulty=2,
    oracle=_explained_variance,
    parts=(
        Part("reconstructions that are off by a constant", 2, _variance_cases),
        Part("worse than the mean, and the mean itself", 1, _bad_reconstructions),
    ),
    mistakes=(
        Mistake(
            "not_centered",
            "You divided by Σ‖x‖², without subtracting the mean. Activations have a large mean, and rebuilding it explains nothing: with this formula the mean alone scores well.",
            lambda x, y: _ratio((x - y).pow(2).sum(), x.pow(2).sum()),
        ),
        Mistake(
            "variance_of_the_error",
            "You took the *variance* of x − x̂, which subtracts its mean: a constant error is invisible to you. Sum the squared error itself.",
            lambda x, y: _ratio((x - y).var(0).sum(), x.var(0).sum()),
        ),
        Mistake(
            "mean_of_ratios",
            "You took a ratio for each row and averaged. Rows near the mean then have tiny denominators and outweigh all others. Sum first, divide once.",
            lambda x, y: _ratio((x - y).pow(2).sum(-1), (x - x.mean(0)).pow(2).sum(-1)).mean(),
        ),
        Mistake(
            "mean_over_dimensions",
            "You took a ratio for each dimension and averaged. A dimension in which hardly anything happens counts in full then. Sum first, divide once.",
            lambda x, y: _ratio((x - y).pow(2).sum(0), (x - x.mean(0)).pow(2).sum(0)).mean(),
        ),
        Mistake(
            "one_mean_for_everything",
            "You subtracted one number, the mean of all entries. x̄ is the mean *row*: `x.mean(dim=0)`, with d numbers.",
            lambda x, y: _ratio((x - y).pow(2).sum(), (x - x.mean()).pow(2).sum()),
        ),
        Mistake(
            "each_rows_own_mean",
            "You subtracted each row's own mean. x̄ is the mean over rows, `x.mean(dim=0)`.",
            lambda x, y: _ratio((x - y).pow(2).sum(), (x - x.mean(-1, keepdim=True)).pow(2).sum()),
        ),
        Mistake(
            "n_and_n_minus_one",
            "You divided a mean over n rows by a variance over n − 1 (`x.var` does that). Use sums in both.",
            lambda x, y: _ratio((x - y).pow(2).mean(0).sum(), x.var(0).sum()),
        ),
        Mistake(
            "unexplained",
            "This is the share that is *not* explained. Subtract it from 1.",
            lambda x, y: (x - y).pow(2).sum() / (x - x.mean(0)).pow(2).sum(),
        ),
        Mistake(
            "swapped",
            "The two arguments are swapped: you divided by the variance of the reconstruction.",
            lambda x, y: _ratio((x - y).pow(2).sum(), (y - y.mean(0)).pow(2).sum()),
        ),
        Mistake(
            "variance_of_the_reconstruction",
            "You divided the variance of x̂ by that of x. Equal variance does not make x̂ similar to x.",
            lambda x, y: (y - y.mean(0)).pow(2).sum() / (x - x.mean(0)).pow(2).sum(),
        ),
        Mistake(
            "norms_not_squared",
            "You divided norms (or standard deviations). Variances are squares.",
            lambda x, y: _ratio((x - y).norm(), (x - x.mean(0)).norm()),
        ),
        Mistake(
            "never_below_zero",
            "You cut off at 0. A reconstruction that is worse than the mean scores below 0, and should show.",
            lambda x, y: max(_explained_variance(x, y), 0.0),
            degenerate=True,
        ),
    ),
    hints=(
        "Two sums of squares, each over everything: what is left, and what there was to explain.",
        "What there was: `(x - x.mean(dim=0)).pow(2).sum()`.",
        "`1 - (x - x_hat).pow(2).sum() / (x - x.mean(dim=0)).pow(2).sum()`",
    ),
    reveal="0 is what the mean alone achieves, 1 is perfect, and there is no floor. Five other formulas go by this name in papers and libraries; on one and the same autoencoder they differ by more than many improvements that are published.",
)


# ---------------------------------------------------------------------------------------------------------------------
# dead_latents


def _activations(draw: RandomInputs, batch: int, F: int, share: float = 0.4) -> Tensor:
    return (draw.uniform(batch, F) < share) * draw.uniform(batch, F, low=0.1, high=4.0)


def _dead_latents(batches: list[Tensor]) -> Tensor:
    """Oracle: look at every row of every batch."""
    dead = []
    for i in range(batches[0].shape[1]):
        dead.append(not any(row[i] > 0 for f in batches for row in f.tolist()))
    return torch.tensor(dead)


def _dead_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Latents that are never active, active in one batch only (early or late), rarely, or often."""
    cases = []
    for F, sizes in ((9, (4, 7, 3)), (8, (5, 2, 6, 4)), (7, (6, 30))):
        batches = [_activations(draw, n, F, 0.5) for n in sizes]
        order = draw.permutation(F)
        for f in batches:
            f[:, order[:4]] = 0.0
            f[0, order[4:]] = 0.5  # the others are active in every batch
        batches[0][1, order[0]] = draw.number(0.1, 1.0)  # once, in the first batch
        batches[-1][1, order[1]] = draw.number(0.1, 1.0)  # once, in the last
        batches[0][1:3, order[2]] = draw.number(0.1, 1.0)  # twice, both in the first
        cases.append(case(batches, about=f"{len(sizes)} batches of {', '.join(map(str, sizes))} rows, F = {F}"))
    many = [torch.zeros(2, 3) for _ in range(80)]
    many[7][1, 1] = 0.4
    cases.append(case(many, about="one active row in 80 batches, F = 3"))
    # Once among very many rows, and a latent that is hardly active.
    for F, sizes in ((3, (150, 160)), (1, (1, 1)), (2, (1, 3))):
        batches = [torch.zeros(n, F) for n in sizes]
        batches[1][-1, 0] = 0.002 if F > 2 else 30.0
        cases.append(case(batches, about=f"one active row in {sum(sizes)}, F = {F}"))
        cases.append(case([torch.zeros_like(f) for f in batches], about=f"no active row in {sum(sizes)}, F = {F}"))
    return cases


def _dead_noise(draw: RandomInputs, size: str) -> list[Case]:
    """A single batch; a latent whose activations are noise below zero, and one that is barely active."""
    f = _activations(draw, 6, 6, 0.7) + 0.0
    f[0] = 1.0
    order = draw.permutation(6)
    f[:, order[0]] = 0.0
    f[:, order[1]] = -1e-7
    f[:, order[2]] = -1e-5
    f[2, order[2]] = 1e-6
    return [case([f, f[:3].clone()], about="activations of −0.0000001, −0.00001 and, once, 0.000001")]


def _everything(batches: list[Tensor]) -> Tensor:
    return torch.cat(batches)


def _rarely(batches: list[Tensor]) -> Tensor:
    f = _everything(batches)
    return (f > 0).sum(0) < 2


DEAD_LATENTS = Exercise(
    id="sae_training.dead_latents",
    revision=2,
    task="For each latent whether it is above 0 in no row of any batch.",
    minutes=4,
    difficulty=1,
    oracle=_dead_latents,
    parts=(
        Part("batches of different size", 2, _dead_cases),
        Part("noise below zero, small activations", 1, _dead_noise),
    ),
    mistakes=(
        Mistake(
            "last_batch_only",
            "You judged by the last batch. A latent that was active earlier is not dead: carry the result from batch to batch.",
            lambda batches: ~(batches[-1] > 0).any(0),
        ),
        Mistake(
            "first_batch_only",
            "You judged by the first batch. Go through all of them; the share of dead latents falls with every one.",
            lambda batches: ~(batches[0] > 0).any(0),
        ),
        Mistake(
            "silent_in_some_batch",
            "You called a latent dead when it was inactive in *some* batch. It is dead only if it is inactive in all.",
            lambda batches: torch.stack([~(f > 0).any(0) for f in batches]).any(0),
        ),
        Mistake(
            "rarely_counts_as_never",
            "A latent that was active once is not dead. Rare features are what a wide autoencoder is for.",
            _rarely,
        ),
        Mistake(
            "alive",
            "True and False are swapped: you marked the latents that are alive.",
            lambda batches: ~_dead_latents(batches),
        ),
        Mistake(
            "silent_somewhere",
            "You marked latents that are inactive in *some row*. Most are inactive in most rows: that is sparsity. Dead means in all.",
            lambda batches: (_everything(batches) <= 0).any(0),
        ),
        Mistake(
            "indices",
            "These are the numbers of the dead latents. A True or False for each of the F latents is asked for.",
            lambda batches: _dead_latents(batches).nonzero()[:, 0],
        ),
        Mistake(
            "their_share",
            "This is the share of dead latents. Return which ones: True or False for each.",
            lambda batches: _dead_latents(batches).float().mean(),
        ),
        Mistake(
            "rows_instead",
            "You have an answer for each *row*. Latents are columns: reduce over the rows, `dim=0`.",
            lambda batches: ~(_everything(batches) > 0).any(-1),
        ),
        Mistake(
            "exactly_zero",
            "A latent whose only values are noise below zero was not active. Test f > 0, not for f ≠ 0.",
            lambda batches: (_everything(batches) == 0).all(0),
        ),
    ),
    hints=(
        "Was it ever active? Answer that for each latent, over all rows of all batches; dead is the opposite.",
        "`(f > 0).any(dim=0)` for one batch. For several: combine with `|`, or `torch.cat(batches)` first.",
    ),
    reveal="One batch is too short a window: a feature that occurs once in ten thousand tokens is absent from almost all of them. Gao et al. (2024) call a latent dead after 10 million tokens without activity. The number is meaningless without its window.",
)
