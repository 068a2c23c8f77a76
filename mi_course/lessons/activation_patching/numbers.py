"""The scale of every result: how much of the way a patch goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case


def _recovery(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
    """Oracle: sums in Python."""
    effect = sum(c - k for c, k in zip(clean.tolist(), corrupted.tolist(), strict=True))
    part = sum(p - k for p, k in zip(patched.tolist(), corrupted.tolist(), strict=True))
    if effect == 0:
        raise ValueError("clean and corrupted have the same mean")
    return part / effect


def _means(patched: Tensor, clean: Tensor, corrupted: Tensor) -> tuple[float, float, float]:
    return patched.mean().item(), clean.mean().item(), corrupted.mean().item()


def _where_none(value: Callable[[], float]) -> Callable[..., float]:
    """A right recovery that returns `value()` where there is no effect."""

    def recovery(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
        return _recovery(patched, clean, corrupted) if (clean - corrupted).mean() != 0 else value()

    return recovery


def _recovery_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch in (4, 7, 2):
        corrupted = draw.normal(batch, mean=-3.0)
        # Effects of very different size, one of them negative: a mean of ratios is far from the ratio of means.
        clean = corrupted + draw.uniform(batch, low=0.3, high=9.0)
        clean[0] = corrupted[0] - draw.number(0.1, 0.2)
        if batch == 7:  # the whole way leads down, as it does when noising
            clean = 2 * corrupted - clean
        patched = corrupted + draw.normal(batch, mean=1.0)
        cases.append(case(patched, clean, corrupted, about=f"{batch} prompts of unequal effect"))
    corrupted = draw.normal(5)
    clean = corrupted + draw.uniform(5, low=0.3, high=4.0)
    clean[2] = corrupted[2]
    args = (draw.normal(5), clean, corrupted)
    return [
        *cases,
        case(40.0 * patched, *cases[-1].calls[0].args[1:], about="patching that goes far past the clean run"),
        case(*args, about="one prompt on which clean and corrupted agree"),
        case(*(1e-3 * arg for arg in args), about="tiny effects"),
    ]


def _whole_numbers(draw: RandomInputs, *shape: int) -> Tensor:
    """Whole numbers, of which sums and means of four are exact in float32."""
    return draw.integers(-8, 9, *shape).float()


def _no_effect_cases(draw: RandomInputs, size: str) -> list[Case]:
    same = _whole_numbers(draw, 4)
    corrupted = _whole_numbers(draw, 4)
    cancels = corrupted + torch.tensor([3.0, -1.0, -2.0, 0.0])
    calls = (
        Call((same + 1.0, same, same), driver="expects_error"),
        Call((corrupted - 2.0, cancels, corrupted), driver="expects_error"),
        Call((draw.normal(4), draw.normal(4, mean=4.0), draw.normal(4, mean=-1.0))),
    )
    return [Case(calls=calls, about="clean equal to corrupted, then equal in the mean, then an ordinary case")]


def _ratios(patched: Tensor, clean: Tensor, corrupted: Tensor) -> float:
    return ((patched - corrupted) / (clean - corrupted)).mean().item()


RECOVERY = Exercise(
    id="activation_patching.recovery",
    revision=2,
    task="How much of the way from corrupted to clean a patch goes: 0 at corrupted, 1 at clean, as a ratio of means.",
    minutes=6,
    difficulty=1,
    oracle=_recovery,
    parts=(
        Part("prompts of unequal effect", 2, _recovery_cases),
        Part("no effect to recover: ValueError", 1, _no_effect_cases),
    ),
    mistakes=(
        Mistake(
            "mean_of_ratios",
            "This is the mean of each prompt's own ratio. A prompt in which clean and corrupted hardly differ then counts as much as all others together, or more. Take "
            "the means first, and one ratio of them.",
            _ratios,
        ),
        Mistake(
            "divided_by_clean",
            "You divided by the clean value alone, so that the clean run itself does not score 1. The whole way is clean − corrupted.",
            lambda p, c, k: (_means(p, c, k)[0] - _means(p, c, k)[2]) / _means(p, c, k)[1],
        ),
        Mistake(
            "share_of_clean",
            "This is patched / clean. At the corrupted run it is not 0: subtract the corrupted value above and below.",
            lambda p, c, k: _means(p, c, k)[0] / _means(p, c, k)[1],
        ),
        Mistake(
            "counted_from_clean",
            "You count from the other end: this is 0 at the clean run and 1 at the corrupted one. It should be 0 at corrupted and 1 at clean.",
            lambda p, c, k: 1 - _recovery(p, c, k),
        ),
        Mistake(
            "sign_flipped",
            "The sign is flipped: one of the two differences is taken the other way around.",
            lambda p, c, k: -_recovery(p, c, k),
        ),
        Mistake(
            "not_divided",
            "This is the change in logits, mean(patched − corrupted). Divide it by the whole way, mean(clean − corrupted).",
            lambda p, c, k: (p - k).mean().item(),
        ),
        Mistake(
            "per_prompt",
            "You returned one value per prompt. One number is asked for: the ratio of the means over all prompts.",
            lambda p, c, k: (p - k) / (c - k),
        ),
        Mistake(
            "zero_division",
            "Right, but where clean and corrupted have the same mean it raises a ZeroDivisionError. Look first, and raise a ValueError that says what is wrong with "
            "the prompts.",
            _where_none(lambda: 1 / 0),
        ),
        Mistake(
            "infinite",
            "Right, but where clean and corrupted have the same mean you divide by zero, and infinity passes unnoticed into the next mean. Raise a ValueError.",
            lambda p, c, k: ((p - k).mean() / (c - k).mean()).item(),
        ),
        Mistake(
            "zero_for_no_effect",
            "Right, but where clean and corrupted have the same mean you return 0, as if the patch had done nothing. Nobody can say what it did: raise a ValueError.",
            _where_none(lambda: 0.0),
        ),
    ),
    hints=(
        "Put patched = corrupted into your formula: it should give 0. Put patched = clean: it should give 1.",
        "`whole = (clean - corrupted).mean().item()`; if it is 0, `raise ValueError(...)`; else `(patched - corrupted).mean().item() / whole`.",
    ),
    reveal="A ratio of means weighs prompts by their effect. A mean of ratios lets one prompt whose effect is nearly zero decide everything. The scale has no upper limit: a patch can go "
    "beyond 1, or below 0 when it hurts.",
)
