"""Experiments on toy models of superposition, and their pictures, for lesson 05.

Each function is one experiment with its control, or one picture. The models are in `superposition.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.superposition import (
    best_linear_loss,
    feature_dimensionality,
    feature_groups,
    importance_loss,
    sample_features,
    shape_of,
    toy_forward,
    training,
    upright,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Model = Mapping[str, Tensor]  # W [hidden features] and b [features]

__all__ = [
    "ZOO",
    "PhaseMap",
    "beside_controls",
    "count_angles",
    "crowd",
    "draw_company",
    "draw_curves",
    "draw_dimensionality",
    "draw_nearest",
    "draw_pairs",
    "draw_phases",
    "draw_tables",
    "loss_ratio",
    "matched_control",
    "mean_squared_error",
    "nearest_cosines",
    "neighbors",
    "noise_ratio",
    "on_the_negative_side",
    "pair_cosines",
    "phase_map",
    "random_directions",
    "shapes",
    "sides",
    "train_pairs",
    "training",
    "tuned",
    "watch",
]

ZOO = {
    "3 in 2, 55%": (3, 2, 0.55, 2),
    "4 in 3, 55%": (4, 3, 0.55, 5),
    "6 in 3, 20%": (6, 3, 0.2, 0),
    "5 in 2, 10%": (5, 2, 0.1, 1),
    "8 in 3, 10%": (8, 3, 0.1, 0),
}
"""Settings for `watch`: features, dimensions, probability and seed, of models that settle in regular shapes."""
LINKED = 0.12
"""|W_i · W_j| above which two features share dimensions, in `shapes`."""


# ---------------------------------------------------------------------------------------------------------------------
# Training


def watch(
    settings: Mapping[str, tuple[int, int, float, int]],
    describe: Callable[[Tensor], str],
    *,
    title: str,
    fading: float = 1.0,
    steps: int = 2500,
    lr: float = 0.005,
    across: int | None = None,
) -> dict[str, Float[Tensor, "hidden features"]]:
    """Train toy models before the reader's eyes; return their W.

    settings: name to (features, dimensions, probability, seed). describe: a W in a few words, for the line below it.
    fading: importance of each feature as a multiple of the one before.
    """
    from mi_course.show import live_vectors

    films = [
        training(n, m, [p], fading ** torch.arange(float(n)), seed, steps=steps, every=10, lr=lr)
        for n, m, p, seed in settings.values()
    ]
    with live_vectors(
        title=title, caption="The circle has radius 1. Dotted: nearest neighbours.", across=across
    ) as picture:
        for states in zip(*films, strict=True):
            models = {name: state.W[0] for name, state in zip(settings, states, strict=True)}
            picture.update(
                states[0].step,
                {name: upright(W, range(len(W))) for name, W in models.items()},
                [describe(W) for W in models.values()],
            )
    return models


def shapes(W: Float[Tensor, "hidden features"]) -> str:
    """The shapes that the features of a model form: "2 × antipodal pair", "alone + triangle"."""
    found = sorted(shape_of(W, group) for group in feature_groups(W, LINKED))
    counts = {shape: found.count(shape) for shape in found}
    return " + ".join(shape if n == 1 else f"{n} × {shape}" for shape, n in counts.items()) or "nothing yet"


def loss_ratio(
    W: Float[Tensor, "hidden features"],
    b: Float[Tensor, " features"],
    probability: float,
    importance: Float[Tensor, " features"],
    *,
    relu: bool = True,
    rows: int = 300_000,
    seed: int = 99,
) -> float:
    """Loss on fresh features, as a multiple of the best linear loss."""
    x = sample_features(rows, W.shape[1], probability, seed)
    x_hat = toy_forward(x, W, b) if relu else x @ W.T @ W + b
    return float(importance_loss(x, x_hat, importance)) / best_linear_loss(len(W), probability, importance)


def random_directions(W: Float[Tensor, "hidden features"], n: int, seed: int) -> Float[Tensor, "n hidden features"]:
    """n controls: features in random directions, as long as those of W."""
    directions = torch.randn(n, *W.shape, generator=torch.Generator().manual_seed(seed))
    return directions / directions.norm(dim=1, keepdim=True) * W.norm(dim=0)


def beside_controls(models: Sequence[Model], rates: Sequence[float], draws: int = 20) -> dict[str, Any]:
    """Loss ratios of models trained at these probabilities, and of four controls. All importances are 1.

    The first model must be the dense one. Random directions, as they are and with a bias and lengths of their own:
    [draws, rate].
    """
    hidden, n = models[0]["W"].shape
    alike = torch.ones(n)
    *_, linear = training(n, hidden, rates, alike, seed=1, steps=600, every=600, relu=False)
    curves: dict[str, Any] = {"yours": [], "linear, trained": [], "dense one, used on sparse": []}
    chance, directions = [], []
    for i, (model, p) in enumerate(zip(models, rates, strict=True)):
        curves["yours"].append(loss_ratio(model["W"], model["b"], p, alike))
        curves["linear, trained"].append(loss_ratio(linear.W[i], linear.b[i], p, alike, relu=False))
        curves["dense one, used on sparse"].append(loss_ratio(models[0]["W"], models[0]["b"], p, alike))
        directions.append(random_directions(model["W"], draws, seed=0))
        chance.append([loss_ratio(R, model["b"], p, alike, rows=30_000) for R in directions[-1]])
    curves["control: random directions"] = torch.tensor(chance).T
    curves["random, bias and lengths trained"] = tuned(torch.stack(directions), rates)
    return curves


def tuned(
    directions: Float[Tensor, "rate draw hidden features"], rates: Sequence[float], steps: int = 300
) -> Float[Tensor, "draw rate"]:
    """Loss ratios of these directions once a bias and the lengths are trained for them. All importances are 1."""
    n, draws, hidden, features = directions.shape
    p, generator = torch.tensor(list(rates))[:, None, None, None], torch.Generator().manual_seed(0)
    W = directions / directions.norm(dim=2, keepdim=True).clamp(min=1e-9)
    lengths = torch.ones(n, draws, 1, features, requires_grad=True)
    b = torch.zeros(n, draws, 1, features, requires_grad=True)
    optimizer = torch.optim.Adam([lengths, b], lr=0.03)

    def loss(rows: int) -> Float[Tensor, "rate draw"]:
        x = torch.rand(n, 1, rows, features, generator=generator)
        x = x * (torch.rand(x.shape, generator=generator) < p)
        scaled = W * lengths
        return (torch.relu(x @ scaled.mT @ scaled + b) - x).square().sum(dim=-1).mean(dim=-1)

    for _ in range(steps):
        optimizer.zero_grad()
        loss(256).sum().backward()
        optimizer.step()
    best = torch.tensor([best_linear_loss(hidden, rate, torch.ones(features)) for rate in rates])
    with torch.no_grad():
        return (loss(10_000) / best[:, None]).T


def train_pairs(
    sample: Callable[[int, int], Tensor], n_pairs: int, hidden: int, *, starts: int, seed: int
) -> Float[Tensor, " pairs"]:
    """Train toy models on paired features, from several starts; the cosine of each pair that is kept, in all models.

    sample: from a number of rows and a seed, features [rows, 2 · n_pairs].
    """
    n = 2 * n_pairs
    options: dict[str, Any] = {"steps": 700, "every": 700, "batch": 256, "lr": 0.02, "sample": sample}
    *_, last = training(n, hidden, [0.0] * starts, torch.ones(n), seed, **options)
    return pair_cosines(last.W)[0]


PAIRS = {"room": (2, 0.15), "often": (2, 0.3), "crowd": (3, 0.3)}
"""Numbers of pairs in two dimensions, and how often each feature is present."""


def company(
    paired: Callable[[int, int, float, bool, int], Tensor], sample: Callable[[int, int, float, int], Tensor]
) -> dict[str, Float[Tensor, " pairs"]]:
    """`train_pairs` for each of PAIRS, 16 starts: features that come together, never together, and independent ones.

    paired, sample: `paired_features` and `sample_features`, which a learner writes.
    """
    found = {}
    for where, (n, p) in PAIRS.items():
        for kind, together in {"together": True, "never together": False, "control": None}.items():

            def features(rows: int, seed: int, n: int = n, p: float = p, together: bool | None = together) -> Tensor:
                return sample(rows, 2 * n, p, seed) if together is None else paired(rows, n, p, together, seed)

            found[f"{where}, {kind}"] = train_pairs(features, n, 2, starts=16, seed=1)
    return found


@cache
def crowd(probability: float) -> dict[str, Tensor]:
    """A trained model of 20 features in 5 dimensions, each 0.9 times as important as the one before."""
    *_, last = training(20, 5, [probability], 0.9 ** torch.arange(20.0), seed=2, steps=1200, every=1200)
    return {"W": last.W[0], "b": last.b[0]}


class PhaseMap(NamedTuple):
    """Two features in one dimension: what became of the second one. All three are [importance, probability]."""

    probability: Float[Tensor, "i p"]
    importance: Float[Tensor, "i p"]
    """Of the second feature; the first one has 1."""
    share: Float[Tensor, "i p"]
    """Dimensionality of the second feature in the model with the lowest loss."""


def phase_map(points: int = 11, starts: int = 8, seed: int = 0) -> PhaseMap:
    """Train two features in one dimension at each point of a map, from several starts, and keep the best."""
    probability = torch.logspace(0, -2, points).expand(points, points)
    importance = torch.logspace(1, -1, points)[:, None].expand(points, points)
    ps = probability.flatten().repeat(starts)
    weights = torch.stack([torch.ones_like(importance), importance], dim=-1).flatten(0, 1).repeat(starts, 1)
    *_, last = training(2, 1, ps.tolist(), weights, seed, steps=800, every=800, batch=256, lr=0.02)
    dice = torch.Generator().manual_seed(seed + 7)
    x = torch.rand(len(ps), 4096, 2, generator=dice)
    x *= torch.rand(x.shape, generator=dice) < ps[:, None, None]
    error = torch.relu(x @ last.W.mT @ last.W + last.b[:, None]) - x
    best = (weights[:, None] * error**2).sum(-1).mean(-1).reshape(starts, -1).argmin(0)
    models = last.W.reshape(starts, -1, 1, 2)
    share = torch.stack([feature_dimensionality(models[s, k])[1] for k, s in enumerate(best.tolist())])
    return PhaseMap(probability, importance, share.reshape(points, points))


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def noise_ratio(
    W: Float[Tensor, "hidden features"],
    x: Float[Tensor, "rows features"],
    interference: Float[Tensor, " features"],
    variance: float,
) -> Float[Tensor, " kept"]:
    """Measured over predicted noise, for features longer than 0.5: along Ŵ_i, before the ReLU, without feature i.

    variance: of one feature. With independent features and the right interference it is 1, whatever W.
    """
    norms = W.norm(dim=0)
    noise = (x @ W.T @ (W / norms.clamp(min=1e-9)) - x * norms).var(dim=0)
    return (noise / (interference * variance))[norms > 0.5]


def on_the_negative_side(W: Float[Tensor, "hidden features"]) -> float:
    """Share of the interference that is negative, which the ReLU can clear away: Σ (Ŵ_i · W_j)² over products below 0.

    Features shorter than 0.5 are left out.
    """
    W = W[:, W.norm(dim=0) > 0.5]
    products = (W / W.norm(dim=0)).T @ W
    products.fill_diagonal_(0.0)
    return float(products.clamp(max=0).square().sum() / products.square().sum())


def sides(W: Float[Tensor, "hidden features"], draws: int = 200) -> tuple[float, float, float]:
    """`on_the_negative_side` of W, and the mean and the highest of random directions of the same lengths."""
    random = [on_the_negative_side(R) for R in random_directions(W, draws, seed=0)]
    return on_the_negative_side(W), sum(random) / draws, max(random)


def mean_squared_error(
    x: Float[Tensor, "rows features"],
    x_hat: Float[Tensor, "rows features"],
    W: Float[Tensor, "hidden features"],
    most: int = 5,
) -> list[float]:
    """Squared error of features where they are present, by how many are present in all: 1 to `most`.

    Features shorter than 0.5 in W are left out.
    """
    count, kept = (x > 0).sum(dim=1), W.norm(dim=0) > 0.5
    error, present = (x_hat - x)[:, kept].square(), (x > 0)[:, kept]
    return [float(error[present & (count == n)[:, None]].mean()) for n in range(1, most + 1)]


def pair_cosines(
    W: Float[Tensor, "model hidden features"],
) -> tuple[Float[Tensor, " within"], Float[Tensor, " across"]]:
    """Cosines of features 2i and 2i + 1, and of features from different pairs, over all models.

    Features shorter than 0.3 are left out.
    """
    norms = W.norm(dim=1)
    unit = W / norms.clamp(min=1e-9)[:, None]
    cosines, kept = unit.mT @ unit, norms > 0.3
    pair = torch.arange(W.shape[2]) // 2
    upper = torch.ones(len(pair), len(pair)).triu(1).bool()
    counted = kept[:, :, None] & kept[:, None, :] & upper
    same = pair[:, None] == pair
    return cosines[counted & same], cosines[counted & ~same]


def count_angles(cosines: Float[Tensor, " n"]) -> str:
    """How many of the pairs are against each other, at a right angle, side by side, or none of these.

    >>> count_angles(torch.tensor([-1.0, -0.95, 0.05, 0.8]))
    '2 against each other, 1 at a right angle, 1 side by side, 0 other'
    """
    against, right, side = cosines < -0.8, cosines.abs() < 0.2, cosines > 0.2
    rest = len(cosines) - int((against | right | side).sum())
    return (
        f"{int(against.sum())} against each other, {int(right.sum())} at a right angle, "
        f"{int(side.sum())} side by side, {rest} other"
    )


def nearest_cosines(vectors: Float[Tensor, "n d"], some: Sequence[int]) -> Float[Tensor, " some"]:
    """For some of the vectors, the highest cosine with any other one."""
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    cosines = unit[list(some)] @ unit.T
    cosines[range(len(some)), list(some)] = -1.0
    return cosines.amax(dim=1)


def beside_random(vectors: Float[Tensor, "n d"], some: Sequence[int]) -> dict[str, Float[Tensor, " some"]]:
    """`nearest_cosines` of the vectors, their mean removed, and of two controls of the same size."""
    isotropic = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1))
    mean = vectors.mean(dim=0)
    return {
        "tokens of SmolLM2": nearest_cosines(vectors - mean, some),
        "random, same covariance": nearest_cosines(matched_control(vectors, 1) - mean, some),
        "control: random directions": nearest_cosines(isotropic, some),
    }


def neighbors(vectors: Float[Tensor, "n d"], token: str, tokenizer: Any, n: int = 3) -> str:
    """The tokens whose vectors have the highest cosines with this one's."""
    index = tokenizer.encode(token)[-1]
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    nearest = (unit @ unit[index]).topk(n + 1).indices.tolist()
    return ", ".join(repr(tokenizer.decode([i])) for i in nearest if i != index)


def matched_control(vectors: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n d"]:
    """As many normally distributed vectors with the same mean and the same covariance."""
    mean = vectors.mean(dim=0)
    centered = vectors - mean
    values, axes = torch.linalg.eigh(centered.T @ centered / len(vectors))
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    return noise * values.clamp(min=0).sqrt() @ axes.T + mean


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def draw_curves(rates: Sequence[float], curves: Mapping[str, Any]) -> Any:
    """`beside_controls`, as lines."""
    from mi_course.show import lines

    return lines(
        [1 / p for p in rates],
        curves,
        xlabel="1 / probability (sparser to the right)",
        ylabel="loss / best linear loss",
        title="Your models, and what to compare them with",
        caption="Five features of equal importance in two dimensions. Random: median and range of 20 draws.",
        log_x=True,
        log_y=True,
    )


def draw_tables(models: Mapping[str, Tensor]) -> Any:
    """WᵀW of each model."""
    from mi_course.show import heatmaps

    return heatmaps(
        {name: W.T @ W for name, W in models.items()},
        xlabel="feature",
        ylabel="feature (most important first)",
        unit="W_i · W_j",
        title="WᵀW: which features are kept, and which disturb each other",
        caption="Blue on the diagonal: kept. Red off it: features that point against each other.",
    )


def draw_phases(trained: Float[Tensor, "i p"], predicted: Float[Tensor, "i p"]) -> Any:
    """The trained map beside the predicted one."""
    from mi_course.show import heatmaps

    return heatmaps(
        {"trained": trained, "predicted": predicted},
        xlabel="1 / probability, from 1 to 100",
        ylabel="importance of the second feature, from 10 to 0.1",
        unit="dimensions",
        center=None,
        title="The second feature: left out, alone, or sharing",
        caption="Two features in one dimension, logarithmic axes. Pale: left out; dark: alone; between: sharing.",
        across=2,
    )


def draw_dimensionality(
    scarcity: Sequence[float], Ws: Sequence[Tensor], share: Callable[[Tensor], Tensor] = feature_dimensionality
) -> Any:
    """A point for each feature that is kept, by how rare features are. scarcity: 1 / probability of each model."""
    from mi_course.show import scatter

    x, y, kinds = [], [], []
    for rare, W in zip(scarcity, Ws, strict=True):
        size = {i: len(group) for group in feature_groups(W, 0.15) for i in group}
        dimensionality = share(W).tolist()
        x += [math.log2(rare)] * len(size)
        y += [dimensionality[i] for i in size]
        kinds += [{1: "alone", 2: "in a pair"}.get(n, "in a larger group") for n in size.values()]
    return scatter(
        x,
        y,
        xlabel="log₂(1 / probability): sparser to the right",
        ylabel="dimensionality of a feature",
        groups=kinds,
        title="How much of a dimension each feature has",
        caption=f"{Ws[0].shape[1]} features of equal importance in {len(Ws[0])} dimensions, one model for each of "
        f"{len(Ws)} probabilities. Features that are left out are not drawn.",
    )


def draw_company(errors: Mapping[str, Sequence[float]], caption: str) -> Any:
    """Error of a present feature by how many are present."""
    from mi_course.show import lines

    most = len(next(iter(errors.values())))
    return lines(
        list(range(1, most + 1)),
        errors,
        xlabel="features present at the same time",
        ylabel="squared error of a present feature",
        title="What company costs",
        caption=caption,
    )


def draw_pairs(within: Mapping[str, Tensor], where: str) -> Any:
    """Cosines within pairs, for each kind of pair. within: "WHERE, KIND" to cosines, of which one WHERE is drawn."""
    from mi_course.show import histogram

    names = {name: name.removeprefix(f"{where}, ") for name in within if name.startswith(f"{where}, ")}
    return histogram(
        {"control: independent" if kind == "control" else kind: within[name] for name, kind in names.items()},
        xlabel="cosine of the two features of a pair",
        ylabel="pairs",
        title=f"Where the two features of a pair point: {where}",
        caption="Each pair of each of the trained models.",
        bins=41,
    )


def draw_nearest(values: Mapping[str, Tensor], caption: str) -> Any:
    """Highest cosines with any other token."""
    from mi_course.show import histogram

    return histogram(
        values,
        xlabel="highest cosine with any other token",
        ylabel="tokens",
        title="How near is the nearest token?",
        caption=caption,
    )
