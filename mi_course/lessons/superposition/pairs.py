"""Features in pairs that occur together, or never together: judged by their properties."""

from __future__ import annotations

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
from mi_course.lessons.superposition.data import SIX, _magnitudes, _near, _shape_complaint

ROWS = 1000
"""With fewer rows only the shape, the range and the rule of the pairs are judged, not rates."""


def _paired_features(batch: int, n_pairs: int, probability: float, together: bool, seed: int) -> Tensor:
    """Oracle: one pair after the other, with Python's own generator."""
    dice = random.Random(seed)
    rows = []
    for _ in range(batch):
        row: list[float] = []
        for _ in range(n_pairs):
            throw = dice.random()
            first = throw < probability
            second = first if together else probability <= throw < 2 * probability
            row += [dice.random() if present else 0.0 for present in (first, second)]
        rows.append(row)
    return torch.tensor(rows).reshape(batch, 2 * n_pairs)


_Masks = Callable[[Tensor, float, bool], Tensor]
"""From uniform numbers [batch, pairs, 2], the probability and the kind: which features are present."""


def _right_masks(u: Tensor, p: float, together: bool) -> Tensor:
    throw = u[..., 0]
    second = throw < p if together else (throw >= p) & (throw < 2 * p)
    return torch.stack([throw < p, second], dim=-1)


def _independent(u: Tensor, p: float, together: bool) -> Tensor:
    return u < p


def _swapped(u: Tensor, p: float, together: bool) -> Tensor:
    return _right_masks(u, p, not together) if p <= 0.5 else u < p


def _chosen_after(u: Tensor, p: float, together: bool) -> Tensor:
    """Apart: a pair is present with p, and then one of the two is chosen."""
    if together:
        return _right_masks(u, p, together)
    there, first = u[..., 0] < p, u[..., 1] < 0.5
    return torch.stack([there & first, there & ~first], dim=-1)


def _second_gives_way(u: Tensor, p: float, together: bool) -> Tensor:
    """Apart: drawn independently; where both came, the second is dropped."""
    if together:
        return _right_masks(u, p, together)
    return torch.stack([u[..., 0] < p, (u[..., 1] < p) & (u[..., 0] >= p)], dim=-1)


def _both_give_way(u: Tensor, p: float, together: bool) -> Tensor:
    """Apart: drawn independently; where both came, both are dropped."""
    present = u < p
    return _right_masks(u, p, together) if together else present & ~present.all(-1, keepdim=True)


def _one_pair_for_all(u: Tensor, p: float, together: bool) -> Tensor:
    return _right_masks(u, p, together)[:, :1].expand(-1, u.shape[1], -1)


def _one_row_for_all(u: Tensor, p: float, together: bool) -> Tensor:
    return _right_masks(u, p, together)[:1].expand(len(u), -1, -1)


def _sampler(
    masks: _Masks = _right_masks,
    sizes: Callable[[Tensor, Tensor], Tensor] = lambda sizes, u: sizes,
    flatten: Callable[[Tensor], Tensor] = lambda x: x.flatten(1),
) -> Callable[..., Tensor]:
    """A sampler of which one piece may be wrong."""

    def sample(batch: int, n_pairs: int, probability: float, together: bool, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        u = torch.rand(batch, n_pairs, 2, generator=generator)
        size = torch.rand(batch, n_pairs, 2, generator=generator)
        return flatten(sizes(size, u) * masks(u, probability, together))

    return sample


def _halves(x: Tensor) -> Tensor:
    """Feature i is paired with feature i + n_pairs."""
    return torch.cat([x[..., 0], x[..., 1]], dim=1)


def _seed_ignored(batch: int, n_pairs: int, probability: float, together: bool, seed: int) -> Tensor:
    return _paired_features(batch, n_pairs, probability, together, 0)


def _global_state(batch: int, n_pairs: int, probability: float, together: bool, seed: int) -> Tensor:
    torch.manual_seed(seed)
    throw, size = torch.rand(batch, n_pairs, 2), torch.rand(batch, n_pairs, 2)
    return (size * _right_masks(throw, probability, together)).flatten(1)


# ---------------------------------------------------------------------------------------------------------------------
# Judging


def _complaint(x: object, batch: int, n_pairs: int, p: float, together: bool) -> Complaint | None:
    x = as_tensor(x)
    if problem := _shape_complaint(x, batch, 2 * n_pairs):
        return problem
    assert isinstance(x, Tensor)
    x = x.double()
    if (x < 0).any() or (x > 1).any():
        worst = float(x.min()) if (x < 0).any() else float(x.max())
        return Complaint(f"A magnitude is {worst:.3g}; those of present features are uniform on [0, 1].")
    present = x > 0
    if problem := _pair_rule(present, p, together):
        return problem
    if batch < ROWS:
        return None
    return _rates(present, p, together) or _between_pairs(x, present, p, together) or _sizes(x, present, p, together)


def _broken(first: Tensor, second: Tensor, together: bool) -> bool:
    return bool((first != second).any() if together else (first & second).any())


def _pair_rule(present: Tensor, p: float, together: bool) -> Complaint | None:
    """A complaint if a pair is not together, or apart, as it should be."""
    first, second = present[:, 0::2], present[:, 1::2]
    if p == 0 and present.any():
        return Complaint(f"With probability 0 no feature is present; here {int(present.sum())} are.")
    if not _broken(first, second, together):
        return None
    if len(present) >= ROWS:
        n = first.shape[1]
        if n > 1 and not _broken(present[:, :n], present[:, n:], together):
            return Complaint("", mistake="halves")
        if not _broken(first, second, not together):
            return Complaint("", mistake="kinds_swapped")
        share = float((first & second).double().mean())
        if 0 < p < 1 and _near(share, p * p, p * p * (1 - p * p), first.numel()) and not _dependent(present, p):
            return Complaint("", mistake="independent")
    if together:
        row, pair = divmod(int((first != second).flatten().int().argmax()), first.shape[1])
        what = "One of them is present and the other is not; they should be present together or not at all."
    else:
        row, pair = divmod(int((first & second).flatten().int().argmax()), first.shape[1])
        what = "Both are present; they should never be present in the same row."
    return Complaint(f"Row {row}, features {2 * pair} and {2 * pair + 1}: {what}")


def _dependent(present: Tensor, p: float) -> bool:
    """Whether any two features are dependent."""
    z = (present.double() - p) / (p * (1 - p)) ** 0.5
    return float((z.T @ z / len(z)).fill_diagonal_(0).abs().max()) > SIX / len(z) ** 0.5


def _rates(present: Tensor, p: float, together: bool) -> Complaint | None:
    batch = len(present)
    if 0 < p < 1 and (present == present[:1]).all():
        return Complaint("", mistake="one_row_for_all")
    rates = present.double().mean(0)
    wrong = [i for i in range(len(rates)) if not _near(float(rates[i]), p, p * (1 - p), batch)]
    if not wrong:
        return None

    def all_near(expected: list[float]) -> bool:
        return all(
            _near(float(rate), e, e * (1 - e), batch)
            for rate, e in zip(rates, expected * (len(rates) // 2), strict=True)
        )

    if not together:
        for name, expected in (
            ("chosen_after", [p / 2, p / 2]),
            ("second_gives_way", [p, p * (1 - p)]),
            ("both_give_way", [p * (1 - p), p * (1 - p)]),
        ):
            if all_near(expected):
                return Complaint("", mistake=name)
    i = wrong[0]
    return Complaint(
        f"Feature {i} is present in {float(rates[i]):.3f} of the rows, expected {p:.3f}: every single feature has this "
        "probability, with both kinds of pairs."
    )


def _between_pairs(x: Tensor, present: Tensor, p: float, together: bool) -> Complaint | None:
    """A complaint if pairs, or rows, are not independent."""
    if not 0 < p < 1:
        return None
    first = present[:, 0::2]
    if first.shape[1] > 1 and (first == first[:, :1]).all():
        return Complaint("", mistake="one_pair_for_all")
    z = (present.double() - p) / (p * (1 - p)) ** 0.5
    between = z.T @ z / len(z)
    for i in range(len(between)):
        for j in range(i):
            if i // 2 != j // 2 and abs(float(between[i, j])) > SIX / len(z) ** 0.5:
                return Complaint(
                    f"Features {j} and {i} belong to different pairs and are not independent: whether one is present says "
                    "something about the other."
                )
    filled = x[present.any(1)]
    if len(filled.unique(dim=0)) < 0.99 * len(filled):
        return Complaint("Rows occur more than once. Draw every row separately.")
    if abs(float((z[1:] * z[:-1]).mean())) > 2 * SIX / ((len(z) - 1) * z.shape[1]) ** 0.5:
        return Complaint("Neighbouring rows are not independent: draw every row separately.")
    return None


def _sizes(x: Tensor, present: Tensor, p: float, together: bool) -> Complaint | None:
    sizes = x[present]
    if len(sizes) < 100:
        return None
    if float(sizes.max() - sizes.min()) < 1e-6:
        return Complaint("", mistake="constant_magnitude")
    both = present[:, 0::2] & present[:, 1::2]
    if both.any() and float((x[:, 0::2] - x[:, 1::2])[both].abs().max()) < 1e-6:
        return Complaint("", mistake="shared_magnitude")
    first = x[:, 0::2][present[:, 0::2]]
    if 0 < p < 0.95 and len(first) > 100 and 0.95 * p < float(first.max()) <= p + 1e-6:
        return Complaint("", mistake="one_draw_for_both")
    problem = _magnitudes(x, present, p)
    return (
        Complaint(problem.message or "Magnitudes of present features are not uniform on [0, 1].") if problem else None
    )


_judge = judge_each(_complaint, 4)
_judge_seeds = judge_seeds(_judge, "features")


def _about(together: bool) -> str:
    return "present together" if together else "never both present"


def _cases(together: bool) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        rare, often = draw.number(0.12, 0.2), draw.number(0.55, 0.75) if together else draw.number(0.3, 0.42)
        settings = [
            (12_000, 3, rare),
            (3000, 2, often),
            (3000, 1, rare),
            (1, 4, 0.4),
            (5, 1, 0.4),
            (2000, 3, 1.0 if together else 0.5),
        ]
        return [
            case(
                batch,
                n_pairs,
                p,
                together,
                draw.seed(),
                judge=_judge,
                about=f"{batch} rows, {n_pairs} pair{'s' * (n_pairs > 1)} {_about(together)}, probability {p:.2f}",
            )
            for batch, n_pairs, p in settings
        ]

    return cases


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    seed, other, p = draw.seed(), draw.seed(), draw.number(0.2, 0.3)
    calls = [Call((1500, 3, p, True, s), watch=("random_state",)) for s in (seed, seed, other)]
    # The same seed with another kind, probability, number of rows, or number of pairs.
    others = (
        (1500, 3, p, False),
        (1500, 3, p / 3, False),
        (1500, 3, p / 3, True),
        (1100, 3, p, True),
        (1500, 2, p, True),
    )
    calls += [Call((*other, seed), watch=("random_state",)) for other in others]
    return [
        Case(calls=tuple(calls), judge=_judge_seeds, about="the same seed twice, then another; then other pairs"),
        case(4, 5, 0.0, False, draw.seed(), judge=_judge, about="probability 0"),
    ]


PAIRED_FEATURES = Exercise(
    id="superposition.paired_features",
    task="Sparse features in pairs: both features of a pair in the same rows, or never both in one. Every feature is present with the same probability either way.",
    minutes=8,
    difficulty=2,
    oracle=_paired_features,
    fixed={
        "probability>=0": "a probability",
        "result>=0": "magnitudes",
        "result<=1": "magnitudes",
    },
    parts=(
        Part("pairs that occur together", 2, _cases(True)),
        Part("pairs that never do", 2, _cases(False)),
        Part("the seed decides, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "independent",
            "The two features of a pair are independent of each other: you drew a random number for each feature. One number for each *pair* decides about both.",
            _sampler(_independent),
        ),
        Mistake(
            "kinds_swapped",
            "Your pairs would be right if `together` were the other way round: with True the two of a pair belong in the same rows, with False never in one. Is `together` used, and the right way round?",
            _sampler(_swapped),
        ),
        Mistake(
            "halves",
            "You paired feature i with feature i + n_pairs. Pairs are neighbours here: features 0 and 1, 2 and 3, and so on. `torch.stack([first, second], dim=-1).flatten(1)` puts them side by side.",
            _sampler(flatten=_halves),
        ),
        Mistake(
            "chosen_after",
            "With `together=False` each feature is present half as often as asked: a pair is present with `probability`, and then you choose one of the two. Every *feature* has this probability, so a pair is present with twice that.",
            _sampler(_chosen_after),
        ),
        Mistake(
            "second_gives_way",
            "With `together=False` second features are too rare: you drew both, and dropped the second where both were present. Let one random number decide: below p the first, from p to 2p the second.",
            _sampler(_second_gives_way),
        ),
        Mistake(
            "both_give_way",
            "With `together=False` all features are too rare: you drew both, and dropped both where they met. Let one random number decide: below p the first, from p to 2p the second.",
            _sampler(_both_give_way),
        ),
        Mistake(
            "one_pair_for_all",
            "In each row all pairs do the same. Pairs are independent of each other: draw a number for each pair, shape (batch, n_pairs).",
            _sampler(_one_pair_for_all),
        ),
        Mistake(
            "one_row_for_all",
            "The same features are present in every row. Draw a number for each row and pair, shape (batch, n_pairs).",
            _sampler(_one_row_for_all),
        ),
        Mistake(
            "constant_magnitude",
            "Present features all have the same size. They should be uniform on [0, 1]: multiply the mask by fresh random numbers.",
            _sampler(sizes=lambda sizes, u: torch.ones_like(sizes)),
        ),
        Mistake(
            "shared_magnitude",
            "The two features of a pair have the same size. They are present together, but how large each is has nothing to do with the other: draw (batch, 2 * n_pairs) magnitudes.",
            _sampler(sizes=lambda sizes, u: sizes[..., :1].expand_as(sizes)),
        ),
        Mistake(
            "one_draw_for_both",
            "The magnitudes of the first feature of a pair all lie below `probability`. That is what comes out if one random number decides both whether it is present and how large it is: draw again for the size.",
            _sampler(sizes=lambda sizes, u: torch.stack([u[..., 0], sizes[..., 1]], dim=-1)),
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same features. Give `seed` to your generator.",
            _seed_ignored,
        ),
        Mistake(
            "global_random_state",
            "The features are right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "One random number for each row and pair decides about both features. For pairs that occur together: both, if it is below `probability`. For the others: which range of it should belong to the first feature, which to the second?",
        "`throw = torch.rand(batch, n_pairs, generator=generator)`. The first feature is present where `throw < probability`. The second where the first is, or where `probability <= throw < 2 * probability`.",
        "`present = torch.stack([first, second], dim=-1).flatten(1)` puts the two side by side, and `torch.rand(batch, 2 * n_pairs, generator=generator) * present` gives each its own size.",
    ),
    reveal="One throw of the dice for each pair decides about both features; a second table gives the sizes. Each feature alone looks exactly like one from `sample_features`. Only the company it keeps is different, so whatever changes in the geometry comes from that.",
)
