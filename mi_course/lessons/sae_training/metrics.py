"""Numbers about an autoencoder: how sparse, how faithful, how shrunken, which latents are dead."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Draw, Exercise, Mistake, Part, case

# ---------------------------------------------------------------------------------------------------------------------
# l0


def _l0(f: Tensor) -> float:
    """Spec: count."""
    counts = [sum(value > 0 for value in row) for row in f.tolist()]
    return sum(counts) / len(counts)


def _activations(draw: Draw, batch: int, F: int, share: float = 0.4) -> Tensor:
    return (draw.uniform(batch, F) < share) * draw.uniform(batch, F, low=0.1, high=4.0)


def _l0_cases(draw: Draw, form: str) -> list[Case]:
    shapes = ((5, 9), (7, 4), (3, 12))
    return [case(_activations(draw, b, F), about=f"batch {b}, F = {F}", watch=("arguments",)) for b, F in shapes]


def _noisy_cases(draw: Draw, form: str) -> list[Case]:
    """Numbers below zero, by a little (as subtraction in float32 leaves them) and by more; and small activations, which
    do count."""
    made = []
    for batch, F in ((6, 8), (4, 11)):
        f = _activations(draw, batch, F)
        f = torch.where((f == 0) & (draw.uniform(batch, F) < 0.4), -1e-5, f)
        f = torch.where((f == 0) & (draw.uniform(batch, F) < 0.5), 2e-4, f)
        f[0, :3], f[1, :2] = torch.tensor([-1e-5, -1e-5, -0.05]), 2e-4
        made.append(case(f, about="some values of −0.05, −0.00001 and 0.0002"))
    return made


def _share(f: Tensor) -> Tensor:
    return (f > 0).float()


L0 = Exercise(
    id="sae_training.l0",
    asks="The mean number of active latents (f > 0) in a row.",
    minutes=3,
    difficulty=1,
    spec=_l0,
    own="mi_course.interp.sae.metrics:l0",
    parts=(
        Part("several shapes", 1, _l0_cases),
        Part("float noise below zero, small activations above", 1, _noisy_cases),
    ),
    mistakes=(
        Mistake(
            "share_of_latents",
            "This is the *share* of latents that are active: you averaged over latents, too. Sum over latents, average over rows. (A share makes a wide autoencoder look sparse.)",
            lambda f: _share(f).mean(),
        ),
        Mistake(
            "summed_over_the_batch",
            "You counted in the whole batch. The mean number in a *row* is asked.",
            lambda f: _share(f).sum(),
        ),
        Mistake(
            "not_zero",
            "You counted what is not zero. Float noise below zero is not an activation: count f > 0.",
            lambda f: (f != 0).float().sum(-1).mean(),
        ),
        Mistake(
            "zero_included",
            "You counted zeros as active: `>` and not `>=`.",
            lambda f: (f >= 0).float().sum(-1).mean(),
        ),
        Mistake(
            "inactive",
            "You counted the latents that are *not* active.",
            lambda f: (f <= 0).float().sum(-1).mean(),
        ),
        Mistake(
            "l1",
            "This is L1, the sum of the activations. L0 counts them, however strong they are.",
            lambda f: f.sum(-1).mean(),
        ),
        Mistake(
            "rows_per_latent",
            "This is the mean number of *rows* for a latent: you summed over the batch. Sum over the last axis.",
            lambda f: _share(f).sum(0).mean(),
        ),
        Mistake(
            "latents_ever_active",
            "This is the number of latents that are active anywhere in the batch. Asked is how many are in one row, on average.",
            lambda f: float((f > 0).any(0).sum()),
        ),
        Mistake(
            "median",
            "This is the median over rows. The mean is asked.",
            lambda f: _share(f).sum(-1).median(),
        ),
        Mistake(
            "large_ones_only",
            "You left out small activations. A latent at 0.0002 is active: ReLU and TopK give exact zeros, so nothing has to be rounded away.",
            lambda f: (f > 1e-3).float().sum(-1).mean(),
        ),
    ),
    hints=(
        "`f > 0` says which are active. Which axis is summed, which averaged?",
        "`float((f > 0).float().sum(dim=-1).mean())`",
    ),
    reveal="L0 is what sparsity means; L1 is what can be differentiated. Two autoencoders are only comparable at the same L0, as the Pareto picture will show.",
)


# ---------------------------------------------------------------------------------------------------------------------
# explained_variance


def _explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """Spec: by loops."""
    rows, other = x.double().tolist(), x_hat.double().tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    error = sum((a - b) ** 2 for r, o in zip(rows, other, strict=True) for a, b in zip(r, o, strict=True))
    total = sum((a - m) ** 2 for r in rows for a, m in zip(r, means, strict=True))
    return 1 - error / total


def _reconstructions(draw: Draw, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Data with a mean and scales of their own; x_hat has noise, is a little short, and is off by a constant."""
    scales = draw.uniform(d, low=0.3, high=2.5)
    x = draw.normal(n, d) * scales + draw.normal(d, std=1.5)
    x = x * draw.uniform(n, 1, low=0.6, high=1.6)
    x_hat = 0.9 * x + draw.normal(n, d, std=0.3) + draw.normal(d, std=0.4)
    return x, x_hat


def _variance_cases(draw: Draw, form: str) -> list[Case]:
    return [
        case(*_reconstructions(draw, n, d), about=f"{n} rows of {d}, off by a constant", watch=("arguments",))
        for n, d in ((8, 4), (5, 6), (12, 3))
    ]


def _bad_reconstructions(draw: Draw, form: str) -> list[Case]:
    """Worse than the mean: the number is negative. And one that is the mean itself: 0, however large the mean."""
    x = draw.normal(7, 4, mean=2.0)
    calls = (Call((x, x + draw.normal(7, 4, std=3.0))), Call((x, x.mean(0).expand(7, 4).clone())))
    return [Case(calls=calls, about="a reconstruction worse than the mean, and the mean itself", atol=1e-4)]


def _ratio(error: Tensor, total: Tensor) -> Tensor:
    return 1 - error / total


EXPLAINED_VARIANCE = Exercise(
    id="sae_training.explained_variance",
    asks="1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², both sums over all rows, x̄ the mean row.",
    minutes=6,
    difficulty=2,
    spec=_explained_variance,
    own="mi_course.interp.sae.metrics:explained_variance",
    parts=(
        Part("reconstructions that are off by a constant", 2, _variance_cases),
        Part("worse than the mean, and the mean itself", 1, _bad_reconstructions),
    ),
    mistakes=(
        Mistake(
            "not_centred",
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
            "You divided the variance of x̂ by that of x. That x̂ varies as much does not make it alike.",
            lambda x, y: (y - y.mean(0)).pow(2).sum() / (x - x.mean(0)).pow(2).sum(),
        ),
        Mistake(
            "norms_not_squared",
            "You divided norms (or standard deviations). Variances are squares.",
            lambda x, y: _ratio((x - y).norm(), (x - x.mean(0)).norm()),
        ),
        Mistake(
            "never_below_zero",
            "You cut off at 0. A reconstruction that is worse than the mean scores below 0, and should be seen to.",
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


def _dead_latents(batches: list[Tensor]) -> Tensor:
    """Spec: look at every row of every batch."""
    dead = []
    for i in range(batches[0].shape[1]):
        dead.append(not any(row[i] > 0 for f in batches for row in f.tolist()))
    return torch.tensor(dead)


def _dead_cases(draw: Draw, form: str) -> list[Case]:
    """Latents that never fire, that fire in one batch only, early or late, rarely, or often."""
    made = []
    for F, sizes in ((9, (4, 7, 3)), (8, (5, 2, 6, 4)), (7, (6, 30))):
        batches = [_activations(draw, n, F, 0.5) for n in sizes]
        order = draw.permutation(F)
        for f in batches:
            f[:, order[:4]] = 0.0
            f[0, order[4:]] = 0.5  # the others fire in every batch
        batches[0][1, order[0]] = draw.number(0.1, 1.0)  # once, in the first batch
        batches[-1][1, order[1]] = draw.number(0.1, 1.0)  # once, in the last
        batches[0][1:3, order[2]] = draw.number(0.1, 1.0)  # twice, both in the first
        made.append(case(batches, about=f"{len(sizes)} batches of {', '.join(map(str, sizes))} rows, F = {F}"))
    return made


def _dead_noise(draw: Draw, form: str) -> list[Case]:
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
    asks="For each latent whether it is 0 in every row of every batch.",
    minutes=4,
    difficulty=1,
    spec=_dead_latents,
    own="mi_course.interp.sae.metrics:dead_latents",
    parts=(
        Part("batches of different size", 2, _dead_cases),
        Part("noise below zero, small activations", 1, _dead_noise),
    ),
    mistakes=(
        Mistake(
            "last_batch_only",
            "You judged by the last batch. A latent that fired earlier is not dead: carry what you know from batch to batch.",
            lambda batches: ~(batches[-1] > 0).any(0),
        ),
        Mistake(
            "first_batch_only",
            "You judged by the first batch. Go through all of them; the share of dead latents falls with every one.",
            lambda batches: ~(batches[0] > 0).any(0),
        ),
        Mistake(
            "silent_in_some_batch",
            "You called a latent dead when it was silent in *some* batch. It is dead only if it is silent in all.",
            lambda batches: torch.stack([~(f > 0).any(0) for f in batches]).any(0),
        ),
        Mistake(
            "rarely_counts_as_never",
            "A latent that fired once is not dead. Rare features are what a wide autoencoder is for.",
            _rarely,
        ),
        Mistake(
            "alive",
            "True and False are swapped: you marked the latents that are alive.",
            lambda batches: ~_dead_latents(batches),
        ),
        Mistake(
            "silent_somewhere",
            "You marked latents that are silent in *some row*. Most are silent in most rows: that is sparsity. Dead means in all.",
            lambda batches: (_everything(batches) <= 0).any(0),
        ),
        Mistake(
            "indices",
            "These are the numbers of the dead latents. A True or False for each of the F latents is asked.",
            lambda batches: _dead_latents(batches).nonzero()[:, 0],
        ),
        Mistake(
            "their_share",
            "This is the share of dead latents. Which ones, is asked: True or False for each.",
            lambda batches: _dead_latents(batches).float().mean(),
        ),
        Mistake(
            "rows_instead",
            "You have an answer for each *row*. Latents are columns: reduce over the rows, `dim=0`.",
            lambda batches: ~(_everything(batches) > 0).any(-1),
        ),
        Mistake(
            "exactly_zero",
            "A latent whose only values are noise below zero has not fired. Ask for f > 0, not for f ≠ 0.",
            lambda batches: (_everything(batches) == 0).all(0),
        ),
    ),
    hints=(
        "Has it ever fired? Ask that for each latent, over all rows of all batches; dead is the opposite.",
        "`(f > 0).any(dim=0)` for one batch. For several: combine with `|`, or `torch.cat(batches)` first.",
    ),
    reveal="One batch is too short a window: a feature that occurs once in ten thousand tokens is silent in almost all of them. Gao et al. (2024) call a latent dead after 10 million silent tokens. The number is meaningless without its window.",
)


# ---------------------------------------------------------------------------------------------------------------------
# shrinkage


def _shrinkage(x: Tensor, x_hat: Tensor) -> float:
    """Spec: where the derivative of E‖x̂/γ − x‖² with respect to 1/γ is zero, by Newton's step on a parabola."""
    if not x_hat.any():
        raise ValueError("nothing was reconstructed")
    pairs = [(a, b) for r, s in zip(x.tolist(), x_hat.tolist(), strict=True) for a, b in zip(r, s, strict=True)]

    def error(scale: float) -> float:
        return sum((scale * b - a) ** 2 for a, b in pairs)

    # A parabola through three points has its minimum here.
    low, middle, high = error(0.0), error(1.0), error(2.0)
    return 1 / (1 - (high - low) / (2 * (high - 2 * middle + low)))


def _shrunken(draw: Draw, n: int, d: int, by: float) -> tuple[Tensor, Tensor]:
    x = draw.normal(n, d) * draw.uniform(n, 1, low=0.5, high=2.0) + draw.normal(d, std=0.6)
    x_hat = by * x + draw.normal(n, d, std=0.25) + draw.normal(d, std=0.1)
    x_hat[0, 1] = 0.0  # a zero is no sign that nothing was rebuilt
    return x, x_hat


def _shrinkage_cases(draw: Draw, form: str) -> list[Case]:
    return [
        case(*_shrunken(draw, n, d, by), about=f"{n} rows of {d}, scaled by about {by}", watch=("arguments",))
        for n, d, by in ((7, 4, 0.6), (5, 6, 0.85), (9, 3, 1.3))
    ]


def _nothing_rebuilt(draw: Draw, form: str) -> list[Case]:
    x, x_hat = _shrunken(draw, 6, 4, 0.7)
    calls = ((x, x_hat), (x, torch.zeros(6, 4)))
    return [Case(calls=tuple(Call(args, "expects_error") for args in calls), about="a reconstruction, then zeros")]


def _refusing_zero(function: Callable[[Tensor, Tensor], object]) -> Callable[[Tensor, Tensor], object]:
    """A wrong number that refuses zeros as it should."""

    def shrink(x: Tensor, x_hat: Tensor) -> object:
        if not x_hat.any():
            raise ValueError("nothing was reconstructed")
        return function(x, x_hat)

    return shrink


SHRINKAGE = Exercise(
    id="sae_training.shrinkage",
    asks="The γ that minimises E‖x̂/γ − x‖²: below 1, reconstructions are too short. ValueError when x̂ is zero.",
    minutes=7,
    difficulty=2,
    spec=_shrinkage,
    own="mi_course.interp.sae.metrics:shrinkage",
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
            "You regressed x̂ on x: Σ x·x̂ / Σ‖x‖². That puts all noise of the reconstruction aside. Asked is which rescaling of x̂ is nearest to x: Σ‖x̂‖² / Σ x·x̂.",
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
            "centred",
            "You subtracted the means. A good idea, and the lesson will do it; the definition of the paper, asked here, does not.",
            _refusing_zero(lambda x, y: _shrinkage(x - x.mean(0), y - y.mean(0))),
        ),
        Mistake(
            "one_minus",
            "You subtracted it from 1. γ itself is asked: 1 is no shrinkage.",
            _refusing_zero(lambda x, y: 1 - _shrinkage(x, y)),
        ),
        Mistake(
            "swapped",
            "The two arguments are swapped: x comes first, then x̂.",
            _refusing_zero(lambda x, y: _shrinkage(y, x)),
        ),
        Mistake(
            "zeros_accepted",
            "Right where something was rebuilt. When x̂ is zero there is no γ (0/0): raise ValueError. A dead autoencoder is not one without shrinkage.",
            lambda x, y: y.pow(2).sum() / (x * y).sum(),
        ),
    ),
    hints=(
        "Write s = 1/γ. E‖s x̂ − x‖² is a parabola in s: set its derivative to zero, and solve.",
        "s = Σ x·x̂ / Σ‖x̂‖², so γ = Σ‖x̂‖² / Σ x·x̂, with sums over rows and dimensions.",
        '`if not x_hat.any(): raise ValueError("...")` before dividing.',
    ),
    reveal="Rajamanoharan et al. (2024a) call it relative reconstruction bias. It is not centred, so a large mean, which the bias rebuilds without any latent, pulls it towards 1: 40 % shrinkage of everything else may read 0.998.",
)


# ---------------------------------------------------------------------------------------------------------------------
# loss_recovered


def _loss_recovered(clean: float, spliced: float, zero: float) -> float:
    """Spec: how far along the way from `zero` to `clean` the spliced model is."""
    if zero == clean:
        raise ValueError("zero ablation costs nothing")
    whole = zero - clean
    missing = spliced - clean
    return 1 - missing / whole


def _recovered_cases(draw: Draw, form: str) -> list[Case]:
    made = []
    for worse in (0.1, 0.6, 1.3, -0.05):
        clean = draw.number(2.0, 4.0)
        zero = clean + draw.number(4.0, 8.0)
        spliced = clean + worse * (zero - clean)
        made.append(case(clean, spliced, zero, about=f"losses {clean:.2f}, {spliced:.2f} and {zero:.2f} nats"))
    # A short way, and one where zeros do the model good: the formula is the same.
    clean = draw.number(2.0, 4.0)
    made += [
        case(clean, clean + 0.1, clean + 0.3, about="zero ablation that costs 0.3 nats"),
        case(clean, clean - 0.1, clean - 0.4, about="zero ablation that lowers the loss"),
    ]
    return made


def _no_way(draw: Draw, form: str) -> list[Case]:
    clean = round(draw.number(2.0, 4.0), 3)
    calls = ((clean, clean + 0.7, clean + 3.1), (clean, clean + 0.5, clean), (clean, clean, clean))
    return [Case(calls=tuple(Call(args, "expects_error") for args in calls), about="zero ablation that costs nothing")]


def _guarded(function: Callable[[float, float, float], float]) -> Callable[[float, float, float], float]:
    def recovered(clean: float, spliced: float, zero: float) -> float:
        _loss_recovered(clean, spliced, zero)
        return function(clean, spliced, zero)

    return recovered


def _or_nan(clean: float, spliced: float, zero: float) -> float:
    return _loss_recovered(clean, spliced, zero) if zero != clean else math.nan


def _or_one(clean: float, spliced: float, zero: float) -> float:
    return _loss_recovered(clean, spliced, zero) if zero != clean else 1.0


def _or_zero(clean: float, spliced: float, zero: float) -> float:
    return _loss_recovered(clean, spliced, zero) if zero != clean else 0.0


LOSS_RECOVERED = Exercise(
    id="sae_training.loss_recovered",
    asks="(zero − spliced)/(zero − clean): 1 where the reconstruction costs nothing, 0 where it is no better than zeros. ValueError when zero = clean.",
    minutes=4,
    difficulty=1,
    spec=_loss_recovered,
    own="mi_course.interp.sae.metrics:loss_recovered",
    parts=(
        Part("better and worse than zeros", 1, _recovered_cases),
        Part("zero ablation that costs nothing is refused", 1, _no_way),
    ),
    mistakes=(
        Mistake(
            "upside_down",
            "This is the share that was *lost*: 0 for a perfect reconstruction. Asked is the share that was recovered.",
            _guarded(lambda clean, spliced, zero: (spliced - clean) / (zero - clean)),
        ),
        Mistake(
            "divided_by_zero_loss",
            "You divided by the loss under zero ablation. Then even zeros score above 0: divide by the whole way, zero − clean.",
            _guarded(lambda clean, spliced, zero: (zero - spliced) / zero),
        ),
        Mistake(
            "divided_by_clean",
            "You divided by the clean loss. Divide by the whole way, zero − clean.",
            _guarded(lambda clean, spliced, zero: (zero - spliced) / clean),
        ),
        Mistake(
            "ratio_of_losses",
            "This is clean/spliced. It is near 1 for any reconstruction, since a loss of nats has no natural zero here: compare with zero ablation.",
            _guarded(lambda clean, spliced, zero: clean / spliced),
        ),
        Mistake(
            "inverse",
            "Above and below are swapped.",
            _guarded(lambda clean, spliced, zero: (zero - clean) / (zero - spliced)),
        ),
        Mistake(
            "not_divided",
            "You did not divide. In nats the number depends on the layer: divide by the whole way, zero − clean.",
            _guarded(lambda clean, spliced, zero: zero - spliced),
        ),
        Mistake(
            "sign_turned",
            "The sign is turned: a good reconstruction scores near −1. It is zero − spliced, not spliced − zero.",
            _guarded(lambda clean, spliced, zero: (spliced - zero) / (zero - clean)),
        ),
        Mistake(
            "clipped",
            "You cut the number to lie between 0 and 1. Worse than zeros is below 0, and should be seen to be.",
            _guarded(lambda *args: min(max(_loss_recovered(*args), 0.0), 1.0)),
        ),
        Mistake(
            "division_error",
            "Right, but where zero = clean Python's ZeroDivisionError comes out. Raise a ValueError that says why there is no answer.",
            lambda clean, spliced, zero: (zero - spliced) / (zero - clean),
        ),
        Mistake(
            "nan_accepted",
            "Where zero = clean you returned NaN, which spreads in silence. Raise ValueError.",
            _or_nan,
        ),
        Mistake(
            "one_accepted",
            "Where zero = clean you returned 1. Nothing was lost, so nothing can be recovered: raise ValueError.",
            _or_one,
        ),
        Mistake(
            "zero_accepted",
            "Where zero = clean you returned 0. Nothing was lost, so nothing can be recovered: raise ValueError.",
            _or_zero,
        ),
    ),
    hints=(
        "The whole way leads from zero − clean down to 0. How much of it does the reconstruction go?",
        '`if zero == clean: raise ValueError("...")`, then `(zero - spliced) / (zero - clean)`.',
    ),
    reveal="The floor matters: zeros are a very bad replacement, so almost everything recovers most of the loss. Against the mean as the floor the same autoencoder scores lower. Always give the nats as well.",
)


# ---------------------------------------------------------------------------------------------------------------------
# mean_max_cosine


def _mean_max_cosine(W_dec: Tensor, dictionary: Tensor) -> float:
    """Spec: for each row of the dictionary the best latent, by loops."""
    best = []
    for g in dictionary.double().tolist():
        cosines = []
        for w in W_dec.double().tolist():
            dot = sum(a * b for a, b in zip(g, w, strict=True))
            length = math.hypot(*g) * math.hypot(*w)
            cosines.append(dot / length if length else 0.0)
        best.append(max(cosines))
    return sum(best) / len(best)


def _dictionaries(draw: Draw, F: int, G: int, d: int) -> tuple[Tensor, Tensor]:
    """A dictionary, and latents near some of its rows: of any length, two of them near the same row, one turned round."""
    dictionary = draw.normal(G, d, mean=0.2) * draw.uniform(G, 1, low=0.4, high=2.0)
    near = dictionary[torch.tensor([i % G for i in range(F)])]
    latents = near / near.norm(dim=-1, keepdim=True) + draw.normal(F, d, std=0.35)
    latents[0] = latents[0] * -1.0
    latents[-1] = dictionary[1] / dictionary[1].norm() + draw.normal(d, std=0.1)
    return latents * draw.uniform(F, 1, low=0.3, high=3.0), dictionary


def _cosine_cases(draw: Draw, form: str) -> list[Case]:
    made = []
    for F, G, d in ((7, 4, 5), (5, 5, 4), (6, 3, 6)):
        args = _dictionaries(draw, F, G, d)
        made.append(case(*args, about=f"{F} latents, {G} rows in the dictionary, d = {d}"))
    latents, dictionary = _dictionaries(draw, 5, 3, 4)
    latents = latents * (latents @ dictionary[0]).sign()[:, None] * -1  # all of them point away from row 0
    made.append(case(latents, dictionary, about="a row of the dictionary from which all latents point away"))
    return made


def _zero_latents(draw: Draw, form: str) -> list[Case]:
    made = []
    for G in (3, 4):
        latents, dictionary = _dictionaries(draw, 6, G, 5)
        latents[draw.integer(0, 6)] = 0.0
        # A row from which every living latent points away: the best cosine is the zero latent's 0.
        away = -latents.sum(dim=0)
        latents = torch.where(
            (latents @ away > 0)[:, None], latents - (latents @ away / (away @ away))[:, None] * away * 1.3, latents
        )
        made.append(case(latents, torch.cat([dictionary, away[None]]), about="a zero latent among them"))
    return made


def _cosines(W: Tensor, D: Tensor) -> Tensor:
    """[G, F]; NaN for zero latents made 0."""
    return torch.nn.functional.normalize(D, dim=-1) @ torch.nn.functional.normalize(W, dim=-1).T


def _matched_once(W: Tensor, D: Tensor) -> Tensor:
    """Greedy: each latent may serve one row of the dictionary only."""
    left, found = _cosines(W, D).clone(), []
    for _ in range(min(left.shape)):
        at = int(left.argmax())
        g, i = divmod(at, left.shape[1])
        found.append(left[g, i].clone())
        left[g], left[:, i] = -9.0, -9.0
    return torch.stack(found).mean()


MEAN_MAX_COSINE = Exercise(
    id="sae_training.mean_max_cosine",
    asks="For each row of the dictionary the best signed cosine among the latents; their mean. A zero latent counts as cosine 0.",
    minutes=6,
    difficulty=2,
    spec=_mean_max_cosine,
    own="mi_course.interp.sae.metrics:mean_max_cosine",
    parts=(
        Part("latents of any length", 2, _cosine_cases),
        Part("a zero latent counts as cosine 0", 1, _zero_latents),
    ),
    mistakes=(
        Mistake(
            "best_for_each_latent",
            "You took, for each *latent*, the best row of the dictionary. Then a single feature that was found by all latents scores 1. Asked is how well each *feature* was found: the maximum runs over latents.",
            lambda W, D: _cosines(W, D).amax(0).mean(),
        ),
        Mistake(
            "absolute_cosines",
            "You took absolute values. A latent that points the opposite way adds −g where g was: it has not found it. Signed cosines.",
            lambda W, D: _cosines(W, D).abs().amax(1).mean(),
        ),
        Mistake(
            "not_normalised",
            "You used dot products of the rows as they are: long latents look similar to everything. Normalise both.",
            lambda W, D: (D @ W.T).amax(1).mean(),
        ),
        Mistake(
            "latents_not_normalised",
            "The latents are not normalised: long ones look similar to everything.",
            lambda W, D: (torch.nn.functional.normalize(D, dim=-1) @ W.T).amax(1).mean(),
        ),
        Mistake(
            "dictionary_not_normalised",
            "The dictionary's rows are not normalised: long ones count more, and the result is no cosine.",
            lambda W, D: (D @ torch.nn.functional.normalize(W, dim=-1).T).amax(1).mean(),
        ),
        Mistake(
            "columns_normalised",
            "You normalised columns. A row is a direction: norms along the last axis.",
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
            "This is the row that was found worst. The mean over rows is asked.",
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
            "You let each latent serve only one row of the dictionary. That is matching, another (and stricter) number; here each row takes its best latent, whoever else takes it.",
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
    reveal="Sharkey et al. (2022) introduced it for toy data, where the dictionary is known. It says nothing about whether the latents *fire*: a decoder that was right once and an encoder that died since score as well as ever.",
)
