"""Sparse random features, judged by their properties."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    as_tensor,
    case,
    judge_each,
    judge_seeds,
    moved_random_state,
)

SIX = 6.0
"""In standard deviations: one in 500 million by chance."""


def _sample_features(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    """Oracle: one feature after the other, with Python's own generator."""
    dice = random.Random(seed)
    return torch.tensor(
        [[dice.random() if dice.random() < probability else 0.0 for _ in range(n_features)] for _ in range(batch)]
    )


def _two_draws(seed: int, *shapes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) for shape in shapes]


_Shape = Callable[[int, int], tuple[int, int]]


def _whole(batch: int, n_features: int) -> tuple[int, int]:
    return batch, n_features


def _broadcast(mask_shape: _Shape, size_shape: _Shape = _whole) -> Callable[..., Tensor]:
    """A sampler whose mask, or magnitude, is drawn in another shape and broadcast."""

    def sample(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
        mask, size = _two_draws(seed, mask_shape(batch, n_features), size_shape(batch, n_features))
        return ((mask < probability) * size).expand(batch, n_features).clone()

    return sample


def _all_present(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    return _two_draws(seed, (batch, n_features))[0]


def _scaled(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    return _two_draws(seed, (batch, n_features))[0] * probability


def _absence(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    return _sample_features(batch, n_features, 1 - probability, seed)


def _constant(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    return (_two_draws(seed, (batch, n_features))[0] < probability).float()


def _one_draw(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    (size,) = _two_draws(seed, (batch, n_features))
    return size * (size < probability)


def _normal(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, n_features, generator=generator) < probability
    return torch.randn(batch, n_features, generator=generator) * mask


def _fixed_number(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    order, size = _two_draws(seed, (batch, n_features), (batch, n_features))
    return size * (order.argsort(dim=1).argsort(dim=1) < round(probability * n_features))


def _seed_ignored(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    return _sample_features(batch, n_features, probability, 0)


def _global_state(batch: int, n_features: int, probability: float, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.rand(batch, n_features) * (torch.rand(batch, n_features) < probability)


def _shape_complaint(x: object, batch: int, n_features: int) -> Complaint | None:
    if not isinstance(x, Tensor):
        return Complaint(
            f"The result is a {type(x).__name__}, expected a tensor of shape ({batch}, {n_features}).", "type"
        )
    if x.shape != (batch, n_features):
        return Complaint(f"The result has shape {tuple(x.shape)}, expected ({batch}, {n_features}).", "shape")
    if not x.dtype.is_floating_point:
        return Complaint(f"The result has {x.dtype}, expected floating point.", "dtype")
    if not x.isfinite().all():
        return Complaint("The result contains NaN or infinite numbers.", "nan")
    return None


def _sample_complaint(x: object, batch: int, n_features: int, probability: float) -> Complaint | None:
    """A complaint about one result, or None. Rates are judged only where there are enough rows."""
    x = as_tensor(x)
    if problem := _shape_complaint(x, batch, n_features):
        return problem
    x = x.double()
    if (x < 0).any():
        return Complaint("", mistake="negative_magnitudes")
    if (x > 1).any():
        return Complaint(f"A magnitude is {float(x.max()):.3g}; they are uniform on [0, 1].")
    present = x > 0
    if probability == 0 and present.any():
        return Complaint(f"With probability 0 no feature is present; here {int(present.sum())} of {x.numel()} are.")
    if batch < 1000:
        return None
    return _rates(x, present, probability) or _together(x, present, probability) or _magnitudes(x, present, probability)


def _near(seen: float, expected: float, variance: float, n: float) -> bool:
    return abs(seen - expected) <= SIX * math.sqrt(variance / n) + 1e-6


def _rates(x: Tensor, present: Tensor, p: float) -> Complaint | None:
    batch, n = present.shape
    if present.all() and p < 1:
        return Complaint("", mistake="scaled" if float(x.max()) <= p else "all_present")
    if 0 < p < 1 and present.any():
        if (present == present[:1]).all():
            return Complaint("", mistake="one_mask_for_the_batch")
        if float(present.double().sum(1).var()) == 0:
            return Complaint("", mistake="fixed_number")
    seen, chance = float(present.double().mean()), p * (1 - p)
    # Rows with all features or none count as single draws.
    in_rows = bool((present == present[:, :1]).all())
    if not _near(seen, p, chance, batch if in_rows else batch * n):
        if _near(seen, 1 - p, chance, batch * n):
            return Complaint("", mistake="absent_with_this_probability")
        return Complaint(f"Features are present with probability {seen:.3f}, expected {p:.3f}.")
    columns = present.double().mean(0)
    if 0 < p < 1 and n > 3 and float((columns - p).square().sum()) < 1e-3 * n * chance / batch:
        return Complaint(
            f"Every feature is present in the same number of rows, {int(present[:, 0].sum())} of {batch}. When it is decided "
            "for each row independently, that number varies by chance."
        )
    for i in range(n):
        if not _near(float(columns[i]), p, chance, batch):
            return Complaint(f"Feature {i} is present with probability {float(columns[i]):.3f}, expected {p:.3f}.")
    return None


def _together(x: Tensor, present: Tensor, p: float) -> Complaint | None:
    """A complaint if features, or rows, are not independent."""
    batch, n = present.shape
    if not 0 < p < 1:
        return None
    if (present == present[:, :1]).all():
        return Complaint("", mistake="one_mask_for_all_features")
    z = (present.double() - p) / math.sqrt(p * (1 - p))
    between = z.T @ z / batch
    between.fill_diagonal_(0)
    # The product of two such numbers has variance 1.
    if float(between.abs().max()) > SIX / math.sqrt(batch):
        i, j = divmod(int(between.abs().argmax()), n)
        return Complaint(
            f"Features {i} and {j} are not independent: whether one is present says something about the other."
        )
    filled = x[present.any(1)]
    if len(filled.unique(dim=0)) < 0.99 * len(filled):
        return Complaint("Rows occur more than once. Draw every row separately.")
    if float((z[1:] * z[:-1]).mean().abs()) > SIX / math.sqrt((batch - 1) * n):
        return Complaint("Neighbouring rows are not independent: draw every row separately.")
    return None


def _fills_only(highest: float, lowest: float, p: float) -> bool:
    """Whether magnitudes fill [0, p], or [1 - p, 1], and no more. lowest: counted down from 1."""
    return any(0.95 * p < end <= p + 1e-6 for end in (highest, lowest))


def _magnitudes(x: Tensor, present: Tensor, p: float) -> Complaint | None:
    sizes = x[present]
    if len(sizes) < 100:
        return None
    if float(sizes.max() - sizes.min()) < 1e-6:
        return Complaint("", mistake="constant_magnitude")
    if 0 < p < 1 and _fills_only(float(sizes.max()), float(1 - sizes.min()), p):
        return Complaint("", mistake="one_draw_for_both")
    in_row = present.double().sum(1) > 1
    spread = torch.where(present, x, -torch.inf).amax(1) - torch.where(present, x, torch.inf).amin(1)
    if in_row.any() and float(spread[in_row].max()) < 1e-6:
        return Complaint("", mistake="one_magnitude_for_the_row")
    spread = torch.where(present, x, -torch.inf).amax(0) - torch.where(present, x, torch.inf).amin(0)
    if float(spread.max()) < 1e-6:
        return Complaint("", mistake="one_magnitude_for_the_feature")
    if not _near(float(sizes.mean()), 1 / 2, 1 / 12, len(sizes)):
        return Complaint(
            f"The mean magnitude of a present feature is {float(sizes.mean()):.3f}, expected 0.5: uniform on [0, 1]."
        )
    # Of a uniform number, (x − 1/2)² has variance 1/180; and each tenth of [0, 1] holds a tenth.
    tenths = torch.bincount((sizes * 10).long().clamp(max=9), minlength=10) / len(sizes)
    if not _near(float((sizes - 0.5).square().mean()), 1 / 12, 1 / 180, len(sizes)) or any(
        not _near(float(share), 0.1, 0.09, len(sizes)) for share in tenths
    ):
        return Complaint("Magnitudes of present features are not uniform on [0, 1].")
    both = present[:, 1:] & present[:, :-1]
    if both.sum() > 100:
        product = ((x[:, 1:] - 0.5) * (x[:, :-1] - 0.5))[both]
        if not _near(float(product.mean()), 0, 1 / 144, len(product)):
            return Complaint("Magnitudes of neighbouring features are not independent: draw each one separately.")
    return None


_judge_sample = judge_each(_sample_complaint, 3)
_judge_seeds = judge_seeds(_judge_sample, "features")


def _sample_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, n, p in (
        (4000, 7, draw.number(0.15, 0.3)),
        (3000, 5, draw.number(0.65, 0.8)),
        (2000, 3, 1.0),
        (3, 6, 0.4),
        (1, 6, 0.4),
        (5, 1, 0.6),
    ):
        about = f"{batch} rows of {n} features, each present with probability {p:.2f}"
        cases.append(case(batch, n, p, draw.seed(), judge=_judge_sample, about=about))
    seed, args = draw.seed(), (2000, 6, 0.25)
    for i, other in enumerate((1500, 4, 0.75)):  # the same seed, and one argument changed
        changed = (*args[:i], other, *args[i + 1 :], seed)
        about = f"(batch, n_features, probability) = {changed[:3]}, after {args} with the same seed"
        cases += [
            case(*args, seed, judge=_judge_sample, about=f"{args}"),
            case(*changed, judge=_judge_sample, about=about),
        ]
    return cases


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    seed, other, p = draw.seed(), draw.seed(), draw.number(0.2, 0.3)
    calls = tuple(Call((1500, 6, p, s), watch=("random_state",)) for s in (seed, seed, other))
    return [
        Case(calls=calls, judge=_judge_seeds, about="the same seed twice, then another"),
        case(4, 9, 0.0, draw.seed(), judge=_judge_sample, about="probability 0"),
    ]


SAMPLE_FEATURES = Exercise(
    id="superposition.sample_features",
    revision=2,
    fixed={
        "probability>=0": "a probability",
        "result>=0": "features lie between 0 and 1",
        "result<=1": "features lie between 0 and 1",
    },
    task="Random sparse features: each present with the given probability, independently, and uniform on [0, 1] when present.",
    minutes=5,
    difficulty=1,
    oracle=_sample_features,
    parts=(
        Part("how often, how large, and independently", 2, _sample_cases),
        Part("the seed decides, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "all_present",
            "Every feature is present in every row. Sparse means mostly 0: set each to 0 unless a second random number is below `probability`.",
            _all_present,
        ),
        Mistake(
            "absent_with_this_probability",
            "`probability` is how often a feature is *present*; yours are absent that often. (Elhage et al. write S for the share that is absent: probability = 1 − S.)",
            _absence,
        ),
        Mistake(
            "one_mask_for_the_batch",
            "The same features are present in every row: you drew one mask for the whole batch. Draw one for each entry, shape (batch, n_features).",
            _broadcast(lambda batch, n: (1, n)),
        ),
        Mistake(
            "one_mask_for_all_features",
            "In each row either all features are present or none: you drew one mask for a row. Features are independent; draw one for each entry.",
            _broadcast(lambda batch, n: (batch, 1)),
        ),
        Mistake(
            "fixed_number",
            "Every row has the same number of features. When each is present independently, the number varies from row to row, and so does how often they meet.",
            _fixed_number,
        ),
        Mistake(
            "constant_magnitude",
            "Present features all have the same size. They should be uniform on [0, 1]: multiply the mask by fresh random numbers.",
            _constant,
        ),
        Mistake(
            "one_draw_for_both",
            "All magnitudes lie below `probability`, or above 1 − `probability`. That is what comes out if one random number decides both whether a feature is present and how large it is: draw twice, once for the mask, once for the size.",
            _one_draw,
        ),
        Mistake(
            "scaled",
            "You multiplied by the probability: every feature is present and small. It should be absent most of the time, and any size when it is there.",
            _scaled,
        ),
        Mistake(
            "one_magnitude_for_the_row",
            "All features of a row have the same size. Draw a size for each entry, shape (batch, n_features).",
            _broadcast(_whole, lambda batch, n: (batch, 1)),
        ),
        Mistake(
            "one_magnitude_for_the_feature",
            "A feature has the same size in every row. Draw a size for each entry, shape (batch, n_features).",
            _broadcast(_whole, lambda batch, n: (1, n)),
        ),
        Mistake(
            "negative_magnitudes",
            "Some features are negative. They are uniform on [0, 1] when present: `torch.rand`, not `torch.randn`.",
            _normal,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same features. Give `seed` to your generator.",
            _seed_ignored,
        ),
        Mistake(
            "global_random_state",
            "The features are right, but the global random state moved, and with it everything random that comes later in the notebook. Use "
            "`torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "Two random tables of the same shape: one says whether a feature is there, the other how large it would be.",
        "`torch.rand(batch, n_features, generator=generator) < probability` is True with that probability. A product with a Boolean tensor sets the rest to 0.",
    ),
    reveal="Comparing a uniform number with p is True with probability p. The mask and the magnitude need a draw each: one draw for both would make every present feature small. Note what is *not* modelled: real features come "
    "together (a word, its language, its topic), and correlated features are packed in other ways (Elhage et al. 2022, section on correlated features).",
)
