"""Evaluation exercises: shrinkage, loss recovered, mean max cosine."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# shrinkage


def _shrinkage(x: Tensor, x_hat: Tensor) -> float:
    """Oracle: where the derivative of E‖x̂/γ − x‖² with respect to 1/γ is zero, by Newton's step on a parabola."""
    if not x_hat.any():
        raise ValueError("nothing was reconstructed")
    pairs = [(a, b) for r, s in zip(x.tolist(), x_hat.tolist(), strict=True) for a, b in zip(r, s, strict=True)]

    def error(scale: float) -> float:
        return sum((scale * b - a) ** 2 for a, b in pairs)

    # A parabola through three points has its minimum here.
    low, middle, high = error(0.0), error(1.0), error(2.0)
    return 1 / (1 - (high - low) / (2 * (high - 2 * middle + low)))


def _shrunken(draw: RandomInputs, n: int, d: int, by: float) -> tuple[Tensor, Tensor]:
    x = draw.normal(n, d) * draw.uniform(n, 1, low=0.5, high=2.0) + draw.normal(d, std=0.6)
    x_hat = by * x + draw.normal(n, d, std=0.25) + draw.normal(d, std=0.1)
    x_hat[0, 1] = 0.0  # single zeros do not mean that nothing was rebuilt
    return x, x_hat


def _shrinkage_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_shrunken(draw, n, d, by), about=f"{n} rows of {d}, scaled by about {by}")
        for n, d, by in ((7, 4, 0.6), (5, 6, 0.85), (9, 3, 1.3), (5, 3, -0.6), (40, 3, 15.0))
    ] + [
        case(x * size, x_hat * size, about=f"7 rows of 4, one of them 0, all {size:g} times as large")
        for size in (0.01, 20.0)
        for x, x_hat in [_with_zero_row(*_shrunken(draw, 7, 4, 0.6))]
    ]


def _with_zero_row(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """A row for which nothing was rebuilt, among rows for which something was."""
    x_hat[2] = 0.0
    return x, x_hat


def _nothing_rebuilt(draw: RandomInputs, size: str) -> list[Case]:
    x, x_hat = _shrunken(draw, 6, 4, 0.7)
    calls = ((x, x_hat), (x, torch.zeros(6, 4)))
    return [Case(calls=tuple(Call(args, "expects_error") for args in calls), about="a reconstruction, then zeros")]


def _refusing_zero(function: Callable[[Tensor, Tensor], object]) -> Callable[[Tensor, Tensor], object]:
    """A wrong shrinkage that still refuses zeros."""

    def shrink(x: Tensor, x_hat: Tensor) -> object:
        if not x_hat.any():
            raise ValueError("nothing was reconstructed")
        return function(x, x_hat)

    return shrink


SHRINKAGE = Exercise(
    id="sae_training.shrinkage",
    revision=2,
    fixed={
        "x": "x_hat belongs to it; varied by hand",
        "x_hat": "it belongs to x; varied by hand",
    },
    task="The γ that minimizes E‖x̂/γ − x‖²: below 1, reconstructions are too short. ValueError when x̂ is zero.",
    minutes=7,
    difficulty=2,
    oracle=_shrinkage,
    parts=(
        Part("reconstructions that are too short, and one too long", 2, _shrinkage_cases),
        Part("zeros are refused", 1, _nothing_rebuilt),
    ),
    mistakes=(
        Mistake(
            "inverse",
            "This is 1/γ, the factor that x̂ should be *multiplied* by. γ itself is below 1 where reconstructions are too short.",
            _refusing_zero(lambda x, y: (x * y).sum() / y.pow(2).sum()),
        ),
        Mistake(
            "regressed_on_x",
            "You regressed x̂ on x: Σ x·x̂ / Σ‖x‖². That ignores the noise of the reconstruction. The question is which rescaling of x̂ is nearest to x: Σ‖x̂‖² / Σ x·x̂.",
            _refusing_zero(lambda x, y: (x * y).sum() / x.pow(2).sum()),
        ),
        Mistake(
            "ratio_of_norms",
            "You compared lengths, Σ‖x̂‖ / Σ‖x‖. That ignores whether x̂ points to x.",
            _refusing_zero(lambda x, y: y.norm(dim=-1).sum() / x.norm(dim=-1).sum()),
        ),
        Mistake(
            "ratio_of_energies",
            "You divided Σ‖x̂‖² by Σ‖x‖². Setting the derivative to zero leaves Σ x·x̂ below.",
            _refusing_zero(lambda x, y: y.pow(2).sum() / x.pow(2).sum()),
        ),
        Mistake(
            "root_of_energies",
            "You took the root of Σ‖x̂‖² / Σ‖x‖². That compares lengths and ignores directions; the minimum lies at Σ‖x̂‖² / Σ x·x̂.",
            _refusing_zero(lambda x, y: y.norm() / x.norm()),
        ),
        Mistake(
            "mean_of_ratios",
            "You found a γ for each row and averaged. There is one γ for all: sum above and below first.",
            _refusing_zero(lambda x, y: (y.pow(2).sum(-1) / (x * y).sum(-1)).mean()),
        ),
        Mistake(
            "centered",
            "You subtracted the means. A good idea, and the lesson will do it; the paper's definition, which is asked for here, does not.",
            _refusing_zero(lambda x, y: _shrinkage(x - x.mean(0), y - y.mean(0))),
        ),
        Mistake(
            "one_minus",
            "You subtracted it from 1. γ itself is asked for: 1 is no shrinkage.",
            _refusing_zero(lambda x, y: 1 - _shrinkage(x, y)),
        ),
        Mistake(
            "swapped",
            "The two arguments are swapped: x comes first, then x̂.",
            _refusing_zero(lambda x, y: _shrinkage(y, x)),
        ),
        Mistake(
            "zeros_accepted",
            "Right where something was rebuilt. When x̂ is zero there is no γ (0/0): raise ValueError. A dead autoencoder is not free of shrinkage.",
            lambda x, y: y.pow(2).sum() / (x * y).sum(),
        ),
    ),
    hints=(
        "Write s = 1/γ. E‖s x̂ − x‖² is a parabola in s: set its derivative to zero, and solve.",
        "s = Σ x·x̂ / Σ‖x̂‖², so γ = Σ‖x̂‖² / Σ x·x̂, with sums over rows and dimensions.",
        '`if not x_hat.any(): raise ValueError("...")` before dividing.',
    ),
    reveal="Rajamanoharan et al. (2024a) call it relative reconstruction bias. It is not centered, so a large mean, which the bias rebuilds without any latent, pulls it towards 1: 40 % shrinkage of everything else may read 0.998.",
)


# ---------------------------------------------------------------------------------------------------------------------
# mean_max_cosine


def _mean_max_cosine(W_dec: Tensor, dictionary: Tensor) -> float:
    """Oracle: for each row of the dictionary the best latent, by loops."""
    best = []
    for g in dictionary.double().tolist():
        cosines = []
        for w in W_dec.double().tolist():
            dot = sum(a * b for a, b in zip(g, w, strict=True))
            length = math.hypot(*g) * math.hypot(*w)
            cosines.append(dot / length if length else 0.0)
        best.append(max(cosines))
    return sum(best) / len(best)


def _dictionaries(draw: RandomInputs, F: int, G: int, d: int) -> tuple[Tensor, Tensor]:
    """A dictionary, and latents near some of its rows: of any length, two of them near the same row, one with the opposite sign."""
    dictionary = draw.normal(G, d, mean=0.2) * draw.uniform(G, 1, low=0.4, high=2.0)
    near = dictionary[torch.tensor([i % G for i in range(F)])]
    latents = near / near.norm(dim=-1, keepdim=True) + draw.normal(F, d, std=0.35)
    latents[0] = latents[0] * -1.0
    latents[-1] = dictionary[1] / dictionary[1].norm() + draw.normal(d, std=0.1)
    return latents * draw.uniform(F, 1, low=0.3, high=3.0), dictionary


def _cosine_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for F, G, d in ((7, 4, 5), (5, 5, 4), (6, 3, 6)):
        args = _dictionaries(draw, F, G, d)
        cases.append(case(*args, about=f"{F} latents, {G} rows in the dictionary, d = {d}"))
    latents, dictionary = _dictionaries(draw, 5, 3, 4)
    latents = latents * (latents @ dictionary[0]).sign()[:, None] * -1  # all of them point away from row 0
    cases.append(case(latents, dictionary, about="a row of the dictionary from which all latents point away"))
    return cases


def _zero_latents(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for G in (3, 4):
        latents, dictionary = _dictionaries(draw, 6, G, 5)
        latents[draw.integer(0, 6)] = 0.0
        # A row from which every nonzero latent points away: the best cosine is the zero latent's 0.
        away = -latents.sum(dim=0)
        latents = torch.where(
            (latents @ away > 0)[:, None], latents - (latents @ away / (away @ away))[:, None] * away * 1.3, latents
        )
        cases.append(case(latents, torch.cat([dictionary, away[None]]), about="a zero latent among them"))
    return cases


def _cosines(W: Tensor, D: Tensor) -> Tensor:
    """[G, F]; NaN for zero latents made 0."""
    return torch.nn.functional.normalize(D, dim=-1) @ torch.nn.functional.normalize(W, dim=-1).T


def _matched_once(W: Tensor, D: Tensor) -> Tensor:
    """Greedy: each latent may serve one row of the dictionary only."""
    left, matched = _cosines(W, D).clone(), []
    for _ in range(min(left.shape)):
        at = int(left.argmax())
        g, i = divmod(at, left.shape[1])
        matched.append(left[g, i].clone())
        left[g], left[:, i] = -9.0, -9.0
    return torch.stack(matched).mean()


MEAN_MAX_COSINE = Exercise(
    id="sae_training.mean_max_cosine",
    revision=2,
    fixed={
        "dictionary=0": "a feature has a direction",
        "result<=1": "a cosine",
    },
    task="For each row of the dictionary the best signed cosine among the latents; their mean. A zero latent counts as cosine 0.",
    minutes=6,
    difficulty=2,
    oracle=_mean_max_cosine,
    parts=(
        Part("latents of any length", 2, _cosine_cases),
        Part("a zero latent counts as cosine 0", 1, _zero_latents),
    ),
    mistakes=(
        Mistake(
            "best_for_each_latent",
            "You took, for each *latent*, the best row of the dictionary. Then a single feature that was found by all latents scores 1. The question is how well each *feature* was found: the maximum runs over latents.",
            lambda W, D: _cosines(W, D).amax(0).mean(),
        ),
        Mistake(
            "absolute_cosines",
            "You took absolute values. A latent that points the opposite way adds −g where g was: it has not found it. Signed cosines.",
            lambda W, D: _cosines(W, D).abs().amax(1).mean(),
        ),
        Mistake(
            "not_normalized",
            "You used dot products of unnormalised rows: long latents look similar to everything. Normalize both.",
            lambda W, D: (D @ W.T).amax(1).mean(),
        ),
        Mistake(
            "latents_not_normalized",
            "The latents are not normalized: long ones look similar to everything.",
            lambda W, D: (torch.nn.functional.normalize(D, dim=-1) @ W.T).amax(1).mean(),
        ),
        Mistake(
            "dictionary_not_normalized",
            "The dictionary's rows are not normalized: long ones count more, and the result is no cosine.",
            lambda W, D: (D @ torch.nn.functional.normalize(W, dim=-1).T).amax(1).mean(),
        ),
        Mistake(
            "columns_normalized",
            "You normalized columns. A row is a direction: norms along the last axis.",
            lambda W, D: (
                (torch.nn.functional.normalize(D, dim=0) @ torch.nn.functional.normalize(W, dim=0).T).amax(1).mean()
            ),
        ),
        Mistake(
            "mean_of_all",
            "You averaged all cosines. Take the best latent for each row of the dictionary first.",
            lambda W, D: _cosines(W, D).mean(),
        ),
        Mistake(
            "best_of_all",
            "This is the single best cosine. Take the best for each row of the dictionary, and average those.",
            lambda W, D: _cosines(W, D).max(),
        ),
        Mistake(
            "worst_row",
            "This is the row that was found worst. The mean over rows is asked for.",
            lambda W, D: _cosines(W, D).amax(1).min(),
        ),
        Mistake(
            "never_below_zero",
            "You cut off at 0. Where every latent points away from a feature, its best cosine is negative; only a zero latent would make it 0.",
            lambda W, D: _cosines(W, D).amax(1).clamp(min=0).mean(),
        ),
        Mistake(
            "squared",
            "You squared the cosines, which also loses their sign.",
            lambda W, D: _cosines(W, D).pow(2).amax(1).mean(),
        ),
        Mistake(
            "each_latent_once",
            "You let each latent serve only one row of the dictionary. That is matching, another (and stricter) number; here each row takes its best latent, even if another row takes it too.",
            _matched_once,
        ),
        Mistake(
            "zero_divided_by_zero",
            "A zero latent gives 0/0 = NaN, and the maximum passes it on. Such a latent counts as cosine 0.",
            lambda W, D: ((D / D.norm(dim=-1, keepdim=True)) @ (W / W.norm(dim=-1, keepdim=True)).T).amax(1).mean(),
            degenerate=True,
        ),
        Mistake(
            "zero_latents_left_out",
            "You left zero latents out. They count as cosine 0, which shows where all others point away.",
            lambda W, D: _cosines(W[W.any(-1)], D).amax(1).mean(),
        ),
    ),
    hints=(
        "Unit rows on both sides; then one matrix product holds every cosine, [G, F].",
        "`cosines.max(dim=-1).values` is the best latent for each of the G rows.",
        "`torch.nn.functional.normalize(W_dec, dim=-1)` leaves a zero row zero.",
    ),
    reveal="Sharkey et al. (2022) introduced it for toy data, where the dictionary is known. It says nothing about whether the latents are *active*: a decoder that was right once and an encoder that died since score as well as ever.",
)
