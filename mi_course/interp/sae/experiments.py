"""Experiments with sparse autoencoders, and their pictures, for lesson 06.

Functions that are passed in (`encode`, `loss`, `topk`, `auxiliary`, `estimate`) are those that a learner writes; an
autoencoder that they use is a dict of W_enc [d F], b_enc [F], W_dec [F d] and b_dec [d].
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import normalize

from mi_course.interp.sae.absorption import absorption
from mi_course.interp.sae.activations import run_to
from mi_course.interp.sae.base import SAE
from mi_course.interp.sae.config import SAEConfig
from mi_course.interp.sae.host import HookSite
from mi_course.interp.sae.metrics import (
    dead_latents,
    explained_variance,
    l0,
    match_dictionary,
    mean_max_cosine,
    shrinkage,
)
from mi_course.interp.sae.planted import Planted, planted_activations, planted_dictionary, planted_hierarchy
from mi_course.interp.sae.training import train

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    Weights = dict[str, Tensor]

D, FEATURES, LATENTS = 32, 64, 96
"""Dimensions, planted features, and latents of the autoencoders that look for them."""

AS_TAUGHT: dict[str, Any] = {"clip": 1.0, "auxiliary": 1 / 32}
"""The same for all kinds, so that they differ in nothing else."""
TRAINING: dict[str, Any] = {"steps": 800, "batch": 1024, "lr": 1e-2, "decay": 160, "dead_window": 20_000, **AS_TAUGHT}
KINDS: dict[str, dict[str, Any]] = {
    "relu": {"l1": 2.0},
    "jumprelu": {"l0": 0.3, "bandwidth": 0.2, "threshold_init": 0.1},
    "gated": {"l1": 2.0},
}
"""Settings that give about the same L0."""
PENALTIES: dict[str, dict[str, bool]] = {
    "norms count": {},
    "norms are free": {"norms_count": False},
    "rows kept at norm 1": {"norms_count": False, "unit_rows": True},
}
"""Options of `fit`."""
CURVES: dict[str, list[dict[str, Any]]] = {
    "relu": [{"l1": l1} for l1 in (0.5, 1.0, 1.6)],
    "gated": [{"l1": l1} for l1 in (0.8, 1.5, 3.0)],
    "jumprelu": [{"l0": l0, "bandwidth": 0.2, "threshold_init": 0.1} for l0 in (0.08, 0.2, 0.5)],
    "topk": [{"k": k} for k in (3, 5, 9)],
    "batch_topk": [{"k": k} for k in (3, 5, 9)],
}


# ---------------------------------------------------------------------------------------------------------------------
# Planted data


def planted(seed: int = 2026) -> tuple[Planted, Planted]:
    """40,000 rows to train on and 8,000 to test: sums of about four of 64 directions, plus a fixed vector and noise.

    Some features are ten times as common as others.
    """
    dictionary = planted_dictionary(FEATURES, D, seed=seed)
    rates = 0.055 * torch.logspace(-0.5, 0.5, FEATURES)
    offset = 0.5 * torch.randn(D, generator=torch.Generator().manual_seed(1))
    seen, held_out = (
        planted_activations(dictionary, n, rates, seed=own, bias=offset, noise=0.03)
        for n, own in ((40_000, 1), (8_000, 2))
    )
    return seen, held_out


def candidates(seen: Planted) -> dict[str, Float[Tensor, "F d"]]:
    """Guesses at the dictionary that need no training."""
    centered = seen.x - seen.x.mean(dim=0)
    axes = torch.linalg.eigh(centered.T @ centered).eigenvectors.T
    return {
        "96 random directions": torch.randn(LATENTS, D, generator=torch.Generator().manual_seed(2)),
        "principal components, both signs": torch.cat([axes, -axes]),
        "96 of the activations, centered": centered[:LATENTS],
        "the dictionary itself": seen.dictionary,
    }


# ---------------------------------------------------------------------------------------------------------------------
# The ReLU autoencoder by plain autograd


def start(x: Float[Tensor, "n d"], seed: int = 0, n_latents: int = LATENTS) -> Weights:
    """Random unit rows as the decoder, their transpose as the encoder, b_dec at the mean."""
    rows = torch.randn(n_latents, x.shape[1], generator=torch.Generator().manual_seed(seed))
    rows = normalize(rows, dim=-1)
    return {"W_enc": rows.T.clone(), "b_enc": torch.zeros(n_latents), "W_dec": rows, "b_dec": x.mean(dim=0)}


def fit(
    encode: Callable[..., Tensor],
    loss: Callable[..., tuple[Tensor, Tensor]],
    x: Float[Tensor, "n d"],
    l1: float,
    *,
    steps: int = 700,
    weights: Weights | None = None,
    frozen: Sequence[str] = (),
    norms_count: bool = True,
    unit_rows: bool = False,
    watch: Callable[[int, Weights], None] | None = None,
) -> Weights:
    """A ReLU autoencoder of x, with these functions, autograd and Adam.

    weights: where to start; by default `start(x)`. frozen: which of them are not trained.
    norms_count: False leaves the norms of the decoder's rows out of the penalty. unit_rows: rows are scaled to norm 1
    after each step. watch: called every 20 steps.
    """
    generator = torch.Generator().manual_seed(1)
    sae = {name: tensor.clone().requires_grad_(name not in frozen) for name, tensor in (weights or start(x)).items()}
    optimizer = torch.optim.Adam([tensor for tensor in sae.values() if tensor.requires_grad], lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, 5 * (1 - step / steps))
        batch = x[torch.randint(len(x), (1024,), generator=generator)]
        f = encode(batch, sae["W_enc"], sae["b_enc"], sae["b_dec"])
        rows = sae["W_dec"] if norms_count else torch.ones(len(sae["W_dec"]), 1)
        reconstruction, sparsity = loss(batch, f @ sae["W_dec"] + sae["b_dec"], f, rows, l1)
        optimizer.zero_grad()
        (reconstruction + sparsity).backward()
        optimizer.step()
        if unit_rows:
            with torch.no_grad():
                sae["W_dec"].copy_(normalize(sae["W_dec"], dim=-1))
        if watch and step % 20 == 0:
            watch(step, {name: tensor.detach() for name, tensor in sae.items()})
    return {name: tensor.detach() for name, tensor in sae.items()}


def watch_fit(
    encode: Callable[..., Tensor], loss: Callable[..., tuple[Tensor, Tensor]], seen: Planted, l1: float
) -> Weights:
    """`fit`, with a live picture of how near it has come to the planted directions."""
    from mi_course.show import live_lines

    picture = live_lines(
        xlabel="training step",
        ylabel="mean max cosine",
        title="Is it finding the hidden directions?",
        caption="It begins where random directions are.",
    )
    with picture:
        return fit(
            encode,
            loss,
            seen.x,
            l1,
            watch=lambda step, sae: picture.update(step, found=mean_max_cosine(sae["W_dec"], seen.dictionary)),
        )


def rebuilt(
    encode: Callable[..., Tensor], sae: Weights, x: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n F"], Float[Tensor, "n d"]]:
    """The latents' activations, and the reconstruction."""
    f = encode(x, sae["W_enc"], sae["b_enc"], sae["b_dec"])
    return f, f @ sae["W_dec"] + sae["b_dec"]


class Measured(NamedTuple):
    """What the tables of lesson 06 show of an autoencoder, on rows whose features are known."""

    l0: float
    explained: float
    gamma: float
    """Shrinkage of centered data."""
    recovered: float
    """Share of the planted features with a latent of their own of cosine above 0.9."""

    def __str__(self) -> str:
        return f"L0 {self.l0:4.1f}, explained {self.explained:.3f}, γ {self.gamma:.2f}, recovered {self.recovered:4.0%}"


def measure(
    f: Float[Tensor, "n F"], W_dec: Float[Tensor, "F d"], b_dec: Float[Tensor, " d"], data: Planted
) -> Measured:
    """L0, explained variance, centered γ and recovery of a code f of data.x."""
    x_hat, mean = f @ W_dec + b_dec, data.x.mean(dim=0)
    return Measured(
        l0(f),
        explained_variance(data.x, x_hat),
        shrinkage(data.x - mean, x_hat - mean),
        match_dictionary(W_dec, data.dictionary).recovered(),
    )


def measure_sae(sae: SAE, data: Planted) -> Measured:
    """`measure` of a trained SAE."""
    return measure(sae.encode(data.x), sae.W_dec, sae.b_dec, data)


def in_company(choose: Callable[..., Tensor], sae: SAE, data: Planted, k: int = 5) -> tuple[int, int, int]:
    """How many latents one row keeps in a BatchTopK of 64 rows (`choose`): (among poor rows, among rich ones, alone).

    Alone: with the SAE's own fixed threshold. The row holds as many features as the median row.
    """
    order = (data.codes > 0).sum(dim=1).argsort()
    middle, pre = int(order[len(order) // 2]), sae.pre_activations(data.x)
    poor, rich = (
        int((choose(pre[[middle, *company.tolist()]], k)[0] > 0).sum()) for company in (order[:63], order[-63:])
    )
    return poor, rich, int((sae.encode(data.x[middle][None]) > 0).sum())


def left_out(sae: SAE, data: Planted) -> float:
    """Share of the present features whose own latent (of `match_dictionary`) is inactive."""
    latents = match_dictionary(sae.W_dec, data.dictionary).latents
    rows, features = (data.codes > 0).nonzero().T
    return float((sae.encode(data.x)[rows, latents[features]] <= 0).float().mean())


def draw_strengths(models: Mapping[str, tuple[Tensor, Tensor]], data: Planted, n: int = 150) -> Any:
    """True strength of present features against what their latents write. models: name to (f, W_dec)."""
    from mi_course.show import scatter

    true: list[float] = []
    wrote: list[float] = []
    groups: list[str] = []
    for name, (f, W_dec) in models.items():
        match, norms = match_dictionary(W_dec, data.dictionary), W_dec.norm(dim=1)
        rows, features = (data.codes > 0).nonzero().T
        good = match.cosines[features] > 0.9
        rows, features = rows[good][:n], features[good][:n]
        latents = match.latents[features]
        true += data.codes[rows, features].tolist()
        wrote += (f[rows, latents] * norms[latents]).tolist()
        groups += [name] * len(rows)
    return scatter(
        true,
        wrote,
        groups=groups,
        diagonal=True,
        xlabel="true strength of the feature",
        ylabel="what its latent writes",
        title="Is every feature as strong as it was planted?",
        caption=f"{n} present features of held-out rows for each; on the line nothing is lost.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


def threshold_estimates(
    estimate: Callable[..., Tensor], widths: Sequence[float], batches: int = 40
) -> tuple[Float[Tensor, "batch width"], float]:
    """Estimated gradients of the mean output of one latent for its threshold, 0.8, and the exact one.

    Pre-activations are normally distributed, 4,000 a batch.
    """
    generator, theta = torch.Generator().manual_seed(3), torch.tensor([0.8])
    runs = []
    for _ in range(batches):
        pre = torch.randn(4000, 1, generator=generator)
        share = torch.full_like(pre, 1 / len(pre))
        runs.append([float(estimate(pre, theta, share, width)) for width in widths])
    return torch.tensor(runs), -0.8 * math.exp(-(0.8**2) / 2) / math.sqrt(2 * math.pi)


def draw_threshold(widths: Sequence[float], runs: Float[Tensor, "batch width"], exact: float) -> Any:
    """Estimates by the width of the window."""
    from mi_course.show import lines

    return lines(
        list(widths),
        {"estimate (median, range of the batches)": runs, "control: exact": [exact] * len(widths)},
        xlabel="width of the window",
        ylabel="gradient for θ",
        title="The estimated gradient, by the width of the window",
        log_x=True,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Dead latents


@dataclass(frozen=True)
class Rescue:
    """How a TopK autoencoder is kept alive from a bad start."""

    auxiliary: float = 0.0
    """Coefficient of the auxiliary loss."""
    resample: float = 0.0
    """Norm of a resampled latent's encoder, relative to the mean of the living ones. 0: no resampling."""
    good_encoder: bool = False
    """Start with the encoder as the decoder's transpose instead of at random."""
    good_bias: bool = False
    """Start with b_dec at the mean instead of at zero."""


RESCUES = {
    "nothing": Rescue(),
    "a better encoder": Rescue(good_encoder=True),
    "a better bias": Rescue(good_bias=True),
    "resampling, encoder at 0.2": Rescue(resample=0.2),
    "resampling, encoder at 1": Rescue(resample=1.0),
    "that, and a better bias": Rescue(resample=1.0, good_bias=True),
    "auxiliary / 32": Rescue(auxiliary=1 / 32),
    "auxiliary": Rescue(auxiliary=1.0),
}


def hard_start(
    rescue: Rescue,
    topk: Callable[..., Tensor],
    auxiliary: Callable[..., Tensor],
    seen: Planted,
    held_out: Planted,
    seed: int,
) -> tuple[float, float, float]:
    """Train TopK with as many latents as features, from a bad start: (dead, explained variance, recovered)."""
    k, steps = 5, 700
    sae, generator = start(seen.x, seed, FEATURES), torch.Generator().manual_seed(seed + 1)
    if not rescue.good_bias:
        sae["b_dec"].zero_()
    if not rescue.good_encoder:
        sae["W_enc"] = torch.randn(D, FEATURES, generator=generator) / D**0.5
    for tensor in sae.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(sae.values(), lr=1e-2)
    inactive_for = torch.zeros(FEATURES, dtype=torch.long)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, 4 * (1 - step / steps))
        x = seen.x[torch.randint(len(seen.x), (512,), generator=generator)]
        pre = (x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = topk(pre, k)
        residual = x - f @ sae["W_dec"] - sae["b_dec"]
        inactive_for = torch.where((f > 0).any(dim=0), 0, inactive_for + 1)
        dead = inactive_for > 20
        loss = residual.pow(2).sum(dim=1).mean()
        if rescue.auxiliary:
            loss = loss + rescue.auxiliary * auxiliary(residual, pre, dead, 2 * k, sae["W_dec"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            sae["W_dec"].copy_(normalize(sae["W_dec"], dim=-1))
            if rescue.resample and step % 50 == 49 and step < steps - 150 and dead.any():
                some = seen.x[torch.randint(len(seen.x), (8192,), generator=generator)]
                resample(sae, optimizer, some, dead, topk, k, generator, rescue.resample)
                inactive_for[dead] = 0
    weights = {name: tensor.detach() for name, tensor in sae.items()}
    f = topk((held_out.x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"], k)
    seen_of = measure(f, weights["W_dec"], weights["b_dec"], held_out)
    return float(dead_latents([f]).sum()), seen_of.explained, seen_of.recovered


def resample(
    sae: Weights,
    optimizer: torch.optim.Optimizer,
    x: Float[Tensor, "n d"],
    dead: Bool[Tensor, " F"],
    topk: Callable[..., Tensor],
    k: int,
    generator: torch.Generator,
    encoder_norm: float = 0.2,
) -> None:
    """Reset dead latents as Bricken et al. (2023) do.

    Inputs are drawn with a probability proportional to their squared loss. A dead latent's decoder row becomes such an
    input (without b_dec) at norm 1, its encoder column the same at 0.2 times the mean norm of the living ones, its bias
    0; and Adam forgets what it knew of them.
    """
    f = topk((x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"], k)
    loss = (x - f @ sae["W_dec"] - sae["b_dec"]).pow(2).sum(dim=1)
    chosen = torch.multinomial(loss**2, int(dead.sum()), generator=generator)
    rows = normalize(x[chosen] - sae["b_dec"], dim=-1)
    sae["W_dec"][dead] = rows
    sae["W_enc"][:, dead] = encoder_norm * sae["W_enc"][:, ~dead].norm(dim=0).mean() * rows.T
    sae["b_enc"][dead] = 0.0
    for name in ("W_dec", "W_enc", "b_enc"):
        for moment in ("exp_avg", "exp_avg_sq"):
            state = optimizer.state[sae[name]][moment]
            (state.T if name == "W_enc" else state)[dead] = 0.0


def rescues(
    topk: Callable[..., Tensor],
    auxiliary: Callable[..., Tensor],
    seen: Planted,
    held_out: Planted,
    seeds: Iterable[int],
) -> dict[str, Float[Tensor, "seed 3"]]:
    """`hard_start` with each rescue, from each seed: dead, explained, recovered."""
    seeds = list(seeds)
    return {
        name: torch.tensor([hard_start(rescue, topk, auxiliary, seen, held_out, seed) for seed in seeds])
        for name, rescue in RESCUES.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# Kinds, widths


def train_kind(kind: str, x: Float[Tensor, "n d"], **settings: Any) -> SAE:
    """An SAE of this kind by the course's trainer, with TRAINING's settings unless others are given."""
    return train(
        SAEConfig(**{"d_in": x.shape[1], "n_latents": LATENTS, "architecture": kind, **TRAINING, **settings}), x
    )


def pareto(seen: Planted, held_out: Planted, seed: int = 0) -> list[tuple[str, Measured]]:
    """Each kind with three settings, and latents that were never trained."""
    quick = {"steps": 500, "decay": 100, "seed": seed}
    points = [
        (kind, measure_sae(train_kind(kind, seen.x, **quick, **settings), held_out))
        for kind, each in CURVES.items()
        for settings in each
    ]
    untrained = start(seen.x, seed)
    pre = (held_out.x - untrained["b_dec"]) @ untrained["W_enc"]
    for k in (3, 5, 9):
        top = pre.topk(k, dim=-1)
        f = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
        points.append(("control: untrained", measure(f, untrained["W_dec"], untrained["b_dec"], held_out)))
    return points


def draw_pareto(points: Sequence[tuple[str, Measured]], present: float) -> Any:
    """Explained variance by L0."""
    from mi_course.show import scatter

    shown = [(kind, seen) for kind, seen in points if seen.explained > 0]
    return scatter(
        [seen.l0 for _, seen in shown],
        [seen.explained for _, seen in shown],
        groups=[kind for kind, _ in shown],
        xlabel="L0 (active latents in a row)",
        ylabel="explained variance",
        title="Sparsity against fidelity",
        caption=f"Held-out rows; {present:.1f} features are present in a row. The control was never trained.",
    )


def widths(seen: Planted, held_out: Planted, seed: int = 0) -> dict[int, tuple[Measured, int]]:
    """TopK with more and more latents: measurements, and how many are dead."""
    found = {}
    for width in (64, 96, 256, 512):
        sae = train_kind("topk", seen.x, k=5, n_latents=width, steps=500, decay=100, seed=seed)
        found[width] = (measure_sae(sae, held_out), int(dead_latents([sae.encode(held_out.x)]).sum()))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Hierarchies

PARENTS, CHILDREN = 6, 3
"""Features without a parent, and children of each."""
SHARE = 0.1
"""A latent counts for a parent if it writes it in this share of the rows in which the parent comes without a child."""


class Family(NamedTuple):
    """What an SAE made of features of which some are present only with another."""

    l0: float
    explained: float
    recovered: float
    absorbed: float
    """Share of the rows with parent and child in which the parent's latent is inactive and another one replaces it."""
    missed: float
    """Share of the rows with a parent but no child of it in which its latent is inactive: the control."""
    latents_per_parent: float
    """Latents that write a parent where it comes without a child, mean over parents."""

    def __str__(self) -> str:
        return (
            f"L0 {self.l0:.1f}, explained {self.explained:.2f}, recovered {self.recovered:4.0%}, absorbed "
            f"{self.absorbed:4.0%}, missed {self.missed:4.0%}, latents per parent {self.latents_per_parent:.1f}"
        )


def hierarchy(n: int, seed: int, related: bool = True) -> tuple[Planted, list[int | None]]:
    """n rows of 24 features at right angles in 32 dimensions, and the parent of each.

    Six parents are present in 15 % of the rows each; each of their three children in 35 % of their parent's rows.
    related: False shuffles every feature over the rows: as often, as strong, and independent of all others.
    """
    parents: list[int | None] = [None] * PARENTS
    parents += [parent for parent in range(PARENTS) for _ in range(CHILDREN)]
    square = torch.randn(D, D, generator=torch.Generator().manual_seed(0))
    dictionary = torch.linalg.qr(square)[0][: len(parents)]
    data = planted_hierarchy(dictionary, parents, n, 0.15, 0.35, seed, magnitude=(0.7, 1.3), noise=0.02)
    if not related:
        generator = torch.Generator().manual_seed(seed)
        codes = torch.stack([code[torch.randperm(n, generator=generator)] for code in data.codes.T], dim=1)
        data = data._replace(x=data.x + (codes - data.codes) @ dictionary, codes=codes)
    return data, parents


def family(kind: str, seed: int = 0, related: bool = True, **settings: Any) -> Family:
    """Train an SAE of this kind on 30,000 rows of a `hierarchy`, and measure it on 8,000 others."""
    (data, parents), (fresh, _) = hierarchy(30_000, 1, related), hierarchy(8_000, 2, related)
    sae = train_kind(kind, data.x, **{"k": 1, "steps": 600, "decay": 120, "seed": seed, **settings})
    f = sae.encode(fresh.x)
    rows = absorption(f, sae.W_dec, fresh.codes, fresh.dictionary, parents)
    per_parent = []
    for parent in range(PARENTS):
        children = [child for child, theirs in enumerate(parents) if theirs == parent]
        alone = (fresh.codes[:, parent] > 0) & (fresh.codes[:, children] == 0).all(dim=1)
        wrote = f[alone] * (sae.W_dec @ fresh.dictionary[parent]) > 0.2 * fresh.codes[alone, parent, None]
        per_parent.append(int((wrote.float().mean(dim=0) > SHARE).sum()))
    return Family(
        l0(f),
        explained_variance(fresh.x, sae.decode(f)),
        match_dictionary(sae.W_dec, fresh.dictionary).recovered(),
        sum(row.absorbed for row in rows) / len(rows),
        sum(row.missed for row in rows) / len(rows),
        sum(per_parent) / PARENTS,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Real activations

REAL: dict[str, Any] = {"steps": 300, "batch": 1024, "lr": 2e-3, "decay": 90, "dead_window": 50_000, **AS_TAUGHT}
"""Settings of the training on SmolLM2's activations."""


class Harvest(NamedTuple):
    """The residual stream after a layer, and which tokens are ordinary: neither the first of a row nor massive."""

    tokens: Int[Tensor, "rows pos"]
    resid: Float[Tensor, "rows pos d"]
    ordinary: Bool[Tensor, "rows pos"]
    massive: Bool[Tensor, "rows pos"]

    @property
    def x(self) -> Float[Tensor, "n d"]:
        """Of ordinary tokens."""
        return self.resid[self.ordinary]

    @property
    def everything(self) -> Float[Tensor, "all d"]:
        """Of all tokens, first and massive ones included."""
        return self.resid.flatten(0, 1)


def harvest(model: Any, tokens: Int[Tensor, "rows pos"], layer: int) -> Harvest:
    """Run the model up to this layer, eight rows at a time."""
    parts = []
    for rows in tokens.split(8):
        with torch.no_grad():
            (resid,), ordinary, massive = run_to(
                model, HookSite.of(model, layer), rows, torch.ones_like(rows, dtype=torch.bool), exclude_massive=True
            )
        parts.append((resid, ordinary, massive))
    return Harvest(tokens, *(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def train_live(config: SAEConfig, x: Float[Tensor, "n d"], title: str) -> SAE:
    """`train`, with a live picture of explained variance and dead latents."""
    from mi_course.show import live_lines

    picture = live_lines(
        xlabel="training step",
        ylabel="share",
        title=title,
        caption=f"Explained variance of each batch, and latents not active for {config.dead_window:,} tokens.",
    )
    with picture:
        return train(
            config,
            x,
            on_progress=lambda p: picture.update(p.step, explained_variance=p.explained_variance, dead=p.dead_share),
        )


def untrained(config: SAEConfig, x: Float[Tensor, "n d"]) -> SAE:
    """The control: an SAE at its start, with b_dec at the mean of x."""
    sae = SAE.build(config)
    with torch.no_grad():
        sae.b_dec.copy_(x.mean(dim=0))
    return sae.requires_grad_(False)


def on_real(sae: SAE, x: Float[Tensor, "n d"]) -> str:
    """Explained variance, centered γ and the share of dead latents, in words."""
    f, mean = sae.encode(x), x.mean(dim=0)
    x_hat = sae.decode(f)
    return (
        f"explained {explained_variance(x, x_hat):.2f}, γ {shrinkage(x - mean, x_hat - mean):.2f}, "
        f"dead {dead_latents([f]).float().mean():.0%}"
    )


def with_and_without(train_on: Harvest, unseen: Harvest, steps: int = 60) -> tuple[float, float]:
    """Explained variance of unseen ordinary tokens, after a short training on ordinary tokens, and on all tokens."""
    settings: dict[str, Any] = {"n_latents": 1152, "k": 32, "steps": steps, "batch": 1024, "lr": 2e-3, **AS_TAUGHT}
    config = SAEConfig(d_in=train_on.resid.shape[-1], **settings)
    ordinary, everything = (train(config, x) for x in (train_on.x, train_on.everything))
    return explained_variance(unseen.x, ordinary(unseen.x)), explained_variance(unseen.x, everything(unseen.x))


def loss_in_nats(
    model: Any, tokens: Int[Tensor, "rows pos"], name: str = "", hook: Callable[..., Tensor] | None = None
) -> float:
    """The model's mean next-token loss, with this hook at the hook point `name`, or without."""
    given = hook

    def at(value: Tensor, hook: Any) -> Tensor:  # TransformerLens passes the hook point as `hook`
        out = given(value, hook) if given else None
        return value if out is None else out

    hooks = [(name, at)] if given else []
    with torch.no_grad():
        return float(model.run_with_hooks(tokens, return_type="loss", fwd_hooks=hooks))


class MeanOnly:
    """The cheapest reconstruction: the mean activation, whatever comes in."""

    def __init__(self, x: Float[Tensor, "n d"]) -> None:
        self.mean = x.mean(dim=0)

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return x

    def decode(self, f: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.mean.expand_as(f)


class Zeros(MeanOnly):
    """Zeros, whatever comes in."""

    def __init__(self, x: Float[Tensor, "n d"]) -> None:
        super().__init__(torch.zeros(1, x.shape[1]))


def stand_ins(trained: SAE, untrained: SAE, x: Float[Tensor, "n d"]) -> dict[str, Any]:
    """What to put in the place of the activations: an SAE, and three controls."""
    return {
        "trained": trained,
        "control: untrained": untrained,
        "control: the mean": MeanOnly(x),
        "zeros": Zeros(x),
    }


def matched_random(
    x: Float[Tensor, "n d"], densities: Float[Tensor, " m"], seed: int
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "m d"]]:
    """Random directions as latents, each with a threshold so that it is active as often as asked: (f, directions)."""
    directions = normalize(
        torch.randn(len(densities), x.shape[1], generator=torch.Generator().manual_seed(seed)), dim=-1
    )
    projected = (x - x.mean(dim=0)) @ directions.T
    ranks = (densities * len(x)).round().long().clamp(1, len(x) - 1)
    thresholds = projected.sort(dim=0, descending=True).values[ranks, torch.arange(len(densities))]
    return (projected - thresholds).relu(), directions


def drawn_alive(f: Float[Tensor, "n F"], count: int, seed: int) -> list[int]:
    """Latents drawn by lot from those that are active on 0.3 to 3 % of the tokens: at most `count`."""
    often = (f > 0).float().mean(dim=0)
    some = ((often > 0.003) & (often < 0.03)).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    return some[torch.randperm(len(some), generator=generator)][:count].tolist()


def same_token(f: Float[Tensor, "n F"], ids: Int[Tensor, " n"], latents: Iterable[int]) -> float:
    """Mean share of a latent's ten strongest tokens that are one and the same token."""
    shares = []
    for latent in latents:
        top = ids[f[:, latent].topk(10).indices].tolist()
        shares.append(Counter(top).most_common(1)[0][1] / 10)
    return sum(shares) / len(shares)


def context(tokenizer: Any, data: Harvest, index: int, width: int = 5) -> str:
    """The ordinary token of this number, in brackets, after what came before it."""
    row, position = data.ordinary.nonzero()[index].tolist()
    ids = data.tokens[row]
    before = tokenizer.decode(ids[max(1, position - width) : position])
    return f"…{before}[{tokenizer.decode(ids[position])}]".replace("\n", "⏎")


def print_dashboard(name: str, row: Mapping[str, Any], data: Harvest, tokenizer: Any) -> None:
    """A dashboard row in words: where the latent is strongest, and which tokens it promotes."""
    print(f"{name}: active on {row['density']:.1%} of tokens")
    for index in row["strongest"]:
        print(f"    {context(tokenizer, data, int(index))}")
    print("    promotes", *(repr(tokenizer.decode([int(token)])) for token in row["promotes"]))


def draw_text(latent: int, f: Float[Tensor, "n F"], data: Harvest, tokenizer: Any) -> Any:
    """The text around a latent's strongest token, colored by the latent's activation."""
    from mi_course.show import tokens

    where = data.ordinary.nonzero().tolist()
    row, peak = where[int(f[:, latent].argmax())]
    near = [(i, position) for i, (r, position) in enumerate(where) if r == row and abs(position - peak) < 60]
    return tokens(
        [tokenizer.decode(data.tokens[row][position]) for _, position in near],
        [float(f[i, latent]) for i, _ in near],
        title=f"Latent {latent} on one text that it has not seen",
        unit="activation",
    )


RUNS = (
    ("Bricken et al. 2023, A/1", 4096, 8e9),
    ("Bricken et al. 2023, widest", 131_072, 8e9),
    ("Gemma Scope 2024, narrowest", 2**14, 4e9),
    ("Gemma Scope 2024, widest", 2**20, 16e9),
    ("Gao et al. 2024, on GPT-4", 16_000_000, 40e9),
)
"""Published runs: latents, and tokens of training."""


def print_distance(latents: int, tokens: float) -> None:
    """How far a run is from published ones, in tokens times latents."""
    print("                               latents      tokens   tokens × latents, ours = 1")
    for name, theirs, n in (("this notebook", latents, tokens), *RUNS):
        print(f"{name:<28} {theirs:>10,} {n:>11.1e}   {n * theirs / (tokens * latents):.1e}")
