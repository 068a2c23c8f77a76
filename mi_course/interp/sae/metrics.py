"""Metrics of a sparse autoencoder, exactly defined: no single number tells whether it is good.

x is the input, x_hat the reconstruction, f the latents' activations; F latents, d dimensions, one row per token. Means
run over rows. Leave BOS and massive tokens out first (`ordinary_tokens` in activations.py): at SmolLM2's layer 4 the
massive ones are 1 to 3 % of the tokens and half of the variance, so any metric that includes them is mostly about them.

Sources: Bricken et al. 2023 (L0, density, loss recovered); Rajamanoharan et al. 2024a (shrinkage); Sharkey et al. 2022
(mean max cosine); Gao et al. 2024 (dead latents over a window). The effect of an SAE on the model's loss is in
splicing.py, absorption in absorption.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


# ---------------------------------------------------------------------------------------------------------------------
# Sparsity


def l0(f: Float[Tensor, "*batch F"]) -> float:
    """Mean number of active latents per token, that is, latents above zero.

    >>> l0(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]]))
    1.5
    """
    _some_rows(f, "f")
    return int((f > 0).sum()) / math.prod(f.shape[:-1])


def density(batches: Iterable[Float[Tensor, "batch F"]]) -> Float[Tensor, " F"]:
    """Share of tokens on which each latent is active. float64, on the CPU.

    >>> density([torch.tensor([[0.0, 2.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])]).tolist()
    [0.25, 0.75]
    """
    fired, rows = None, 0
    for f in batches:
        _some_rows(f, "a batch")
        counts = (f > 0).sum(dim=0).cpu()
        _same_width(fired, counts)
        fired, rows = counts if fired is None else fired + counts, rows + len(f)
    if fired is None:
        raise ValueError("There are no batches. Give at least one tensor of shape (batch, F).")
    return fired.double() / rows


class Density(NamedTuple):
    """A histogram of how often latents are active, on a log scale. `never` counts those that never are."""

    edges: Float[Tensor, " bins+1"]
    """log10 of the share of tokens."""
    counts: Int[Tensor, " bins"]
    never: int


def density_histogram(share: Float[Tensor, " F"], bins: int = 40, lowest: float = 1e-6) -> Density:
    """Latents by log10 of the share of tokens on which they are active (`density`), between `lowest` and 1.

    Latents that are active, but more rarely than `lowest`, are counted in the first bin. Bricken et al. 2023 plot it: a
    healthy dictionary has one hump; a second one at the rare end suggests latents that mean nothing.
    """
    if not 0 < lowest < 1 or bins < 1:
        raise ValueError(f"bins is {bins} and lowest {lowest}, expected at least 1 and a share between 0 and 1.")
    share = torch.as_tensor(share, dtype=torch.float64).cpu()
    if share.ndim != 1 or bool(((share < 0) | (share > 1)).any()):
        raise ValueError("share holds one number between 0 and 1 per latent: what `density` returns.")
    edges = torch.linspace(math.log10(lowest), 0.0, bins + 1, dtype=torch.float64)
    logs = share[share > 0].log10().clamp(min=float(edges[0]), max=0.0)
    which = torch.bucketize(logs, edges[1:-1], right=True)
    return Density(edges, torch.bincount(which, minlength=bins), int((share == 0).sum()))


# ---------------------------------------------------------------------------------------------------------------------
# Reconstruction


def explained_variance(x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"]) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²: 1 is perfect, 0 is as good as always predicting the mean, below 0 is worse.

    Gao et al. 2024 report one minus it, as normalized MSE. ValueError when all rows of x are the same.
    """
    error, deviation = _squares(x, x_hat)
    return 1 - float(error.sum() / deviation.sum())


def explained_variance_variants(x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"]) -> dict[str, float]:
    """Five definitions of "variance explained", on the same reconstruction.

    "of the whole": `explained_variance`, the only one that the course uses.
    "not centred": 1 − Σ‖x − x̂‖² / Σ‖x‖². A large mean is variance for free.
    "variance of the error": 1 − Σ Var(x − x̂) / Σ Var(x), blind to a constant offset (dictionary_learning's
        `frac_variance_explained`).
    "mean over tokens": mean of 1 − ‖x − x̂‖² / ‖x − x̄‖² of each token (SAELens's `explained_variance_legacy`): tokens
        near the mean weigh as much as distant ones, and one of them can spoil it.
    "mean over dimensions": mean of each dimension's own share (scikit-learn's `r2_score`, "uniform_average"): a
        dimension in which little happens counts in full. Dimensions without variance are left out.
    """
    error, deviation = _squares(x, x_hat)
    x, difference = x.double(), x.double() - x_hat.double()
    alive, far = deviation.sum(dim=0) > 0, deviation.sum(dim=1) > 0
    return {
        "of the whole": 1 - float(error.sum() / deviation.sum()),
        "not centred": 1 - float(error.sum() / x.square().sum()),
        "variance of the error": 1 - float((difference - difference.mean(dim=0)).square().sum() / deviation.sum()),
        "mean over tokens": 1 - float((error.sum(dim=1)[far] / deviation.sum(dim=1)[far]).mean()),
        "mean over dimensions": 1 - float((error.sum(dim=0)[alive] / deviation.sum(dim=0)[alive]).mean()),
    }


def shrinkage(x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"]) -> float:
    """The γ that minimizes E‖x̂/γ − x‖²: below 1, reconstructions are too short.

    γ = E‖x̂‖² / E[x̂·x], not centred (Rajamanoharan et al. 2024a, "relative reconstruction bias"). With a large mean it
    reads close to 1 whatever happens to the rest; subtract the mean from both to see that.
    ValueError when x̂ is zero, or x̂·x is zero on average: no γ is best then.

    >>> shrinkage(torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, 2.0]]))
    0.5
    """
    _same_shape(x, x_hat)
    length, overlap = float(x_hat.double().square().sum()), float((x_hat.double() * x.double()).sum())
    if length == 0:
        raise ValueError("x_hat is zero everywhere, so no factor brings it closer to x.")
    if overlap == 0:
        raise ValueError("x_hat is orthogonal to x on average, so no factor brings it closer to x.")
    return length / overlap


def loss_recovered(clean: float, spliced: float, zero: float) -> float:
    """(zero − spliced) / (zero − clean): 1 if the model's loss is untouched, 0 if zeros would have done as well.

    clean, spliced, zero: the model's loss, in nats, as it is, with the reconstruction put in, and with zeros put in.
    The baseline is zero ablation, not mean ablation. ValueError when zero and clean are equal.

    >>> loss_recovered(3.0, 4.0, 13.0)
    0.9
    """
    if zero == clean:
        raise ValueError(f"The loss is {clean} both clean and with zeros: nothing was lost, so nothing is recovered.")
    return float((zero - spliced) / (zero - clean))


# ---------------------------------------------------------------------------------------------------------------------
# Dead latents


def dead_latents(batches: Iterable[Float[Tensor, "batch F"]]) -> Bool[Tensor, " F"]:
    """Which latents were active on none of the tokens of all these batches. A latent that was active once is not dead.

    >>> dead_latents([torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])]).tolist()
    [True, False, False]
    """
    return density(batches) == 0


class FiringWindow:
    """Tokens since each latent was last active, while an SAE trains; `dead` are those inactive for a whole window.

    The share of dead latents depends on the window: on one batch most rare features look dead. Gao et al. 2024 use 10
    million tokens.
    """

    def __init__(self, n_latents: int, window: int) -> None:
        if n_latents < 1 or window < 1:
            raise ValueError(f"n_latents is {n_latents} and window {window}, expected at least 1 each.")
        self.window = window
        self.inactive_for = torch.zeros(n_latents, dtype=torch.long)
        """Tokens since each latent was last active; since the start for one that never was."""

    def update(self, f: Float[Tensor, "batch F"]) -> None:
        """Count these rows, in their order."""
        fired = (f > 0).cpu()
        _same_width(self.inactive_for, fired[0] if len(fired) else self.inactive_for)
        # Rows since the last activation: the argmax of the reversed column.
        since = fired.flip(0).int().argmax(dim=0) if len(fired) else self.inactive_for
        self.inactive_for = torch.where(fired.any(dim=0), since, self.inactive_for + len(fired))

    def dead(self) -> Bool[Tensor, " F"]:
        """Inactive for at least `window` tokens."""
        return self.inactive_for >= self.window

    def share(self) -> float:
        """Share of latents that are dead."""
        return float(self.dead().double().mean())


# ---------------------------------------------------------------------------------------------------------------------
# Against a known dictionary


def mean_max_cosine(W_dec: Float[Tensor, "F d"], dictionary: Float[Tensor, "G d"]) -> float:
    """Mean over the dictionary's rows of the best signed cosine among the latents; a zero latent counts as cosine 0.

    Alone it proves little: several rows may share one latent, and latents that are never active count. With
    `match_dictionary` each row has a latent of its own.
    """
    return float(cosines(W_dec, dictionary).max(dim=0).values.mean())


class Matching(NamedTuple):
    """A latent for each dictionary row, none used twice, with the largest possible sum of cosines."""

    latents: Int[Tensor, " G"]
    """−1 where there are fewer latents than rows."""
    cosines: Float[Tensor, " G"]
    """0 where there is no latent."""

    @property
    def mean(self) -> float:
        """Mean cosine over all rows of the dictionary."""
        return float(self.cosines.mean())

    def recovered(self, above: float = 0.9) -> float:
        """Share of the dictionary's rows whose latent has a cosine above this with them."""
        return float((self.cosines > above).double().mean())


def match_dictionary(W_dec: Float[Tensor, "F d"], dictionary: Float[Tensor, "G d"]) -> Matching:
    """One latent for each dictionary row, no latent twice: the assignment with the largest sum of signed cosines.

    The Hungarian method (Kuhn 1955), by `scipy.optimize.linear_sum_assignment`. Some seconds at 10,000 × 10,000.
    """
    from scipy.optimize import linear_sum_assignment

    similarities = cosines(W_dec, dictionary)
    latent, row = linear_sum_assignment(similarities.numpy(), maximize=True)
    latents = torch.full((len(dictionary),), -1, dtype=torch.long)
    best = torch.zeros(len(dictionary), dtype=similarities.dtype)
    latents[torch.from_numpy(row)] = torch.from_numpy(latent)
    best[torch.from_numpy(row)] = similarities[latent, row]
    return Matching(latents, best)


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def cosines(W_dec: Tensor, dictionary: Tensor) -> Float[Tensor, "F G"]:
    for name, matrix in (("W_dec", W_dec), ("dictionary", dictionary)):
        if matrix.ndim != 2 or len(matrix) == 0:
            raise ValueError(f"{name} has shape {tuple(matrix.shape)}, expected (rows, d) with at least one row.")
    if W_dec.shape[1] != dictionary.shape[1]:
        raise ValueError(
            f"W_dec has rows of {W_dec.shape[1]} numbers and the dictionary of {dictionary.shape[1]}; both should be d."
        )
    ours, theirs = (unit_rows(matrix.detach().double().cpu()) for matrix in (W_dec, dictionary))
    return ours @ theirs.T


def unit_rows(rows: Tensor) -> Tensor:
    norms = rows.norm(dim=-1, keepdim=True)
    return rows / norms.where(norms > 0, torch.ones_like(norms))


def _squares(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors, and squared distances from the mean, in float64: SmolLM2's norms span four decades."""
    _same_shape(x, x_hat)
    x = x.double()
    error, deviation = (x - x_hat.double()).square(), (x - x.mean(dim=0)).square()
    if float(deviation.sum()) == 0:
        raise ValueError("All rows of x are the same: there is no variance to explain.")
    return error, deviation


def _same_shape(x: Tensor, x_hat: Tensor) -> None:
    if x.ndim != 2 or x.shape != x_hat.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and x_hat {tuple(x_hat.shape)}, expected the same (batch, d).")
    _some_rows(x, "x")


def _same_width(have: Tensor | None, new: Tensor) -> None:
    if have is not None and have.shape != new.shape:
        raise ValueError(f"A batch has {new.shape[-1]} latents, the ones before had {have.shape[-1]}.")


def _some_rows(values: Tensor, name: str) -> None:
    if values.ndim < 2 or values.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected (rows, columns) with at least one of each.")
