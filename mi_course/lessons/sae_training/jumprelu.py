"""JumpReLU, and the gradient of its thresholds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# jumprelu


def _jumprelu(pre: Tensor, threshold: Tensor) -> Tensor:
    """Oracle: one number after the other; differentiable in pre."""
    rows = [[v if v.item() > float(t) else v * 0 for v, t in zip(row, threshold, strict=True)] for row in pre]
    return torch.stack([torch.stack(row) for row in rows])


def _thresholds(draw: RandomInputs, F: int) -> Tensor:
    return draw.uniform(F, low=0.1, high=1.2)


def _around(draw: RandomInputs, batch: int, threshold: Tensor) -> Tensor:
    """Values on both sides of each latent's own threshold, and below zero."""
    return threshold * draw.uniform(batch, len(threshold), low=0.2, high=2.2) - 1.5 * (
        draw.uniform(batch, len(threshold)) < 0.25
    )


def _jump_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, F in ((4, 6), (3, 5), (5, 5)):
        threshold = _thresholds(draw, F)
        about = f"batch {batch}, F = {F}, a threshold for each latent"
        cases.append(case(_around(draw, batch, threshold), threshold, about=about))
    return cases


def _equal_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, F in ((4, 6), (3, 8)):
        threshold = _thresholds(draw, F)
        threshold[draw.integer(0, F)] = 0.0
        pre = _around(draw, batch, threshold)
        equal = draw.uniform(batch, F) < 0.4
        equal[0, 0] = True
        pre = torch.where(equal, threshold, pre)
        about = "some values equal to their threshold, and a threshold of 0"
        cases.append(case(pre, threshold, about=about))
    negative = -draw.uniform(6, low=0.4, high=1.2)
    pre = negative + draw.uniform(5, 6, low=-1.0, high=1.6)
    pre[0], pre[1, 0] = 0.5 * negative, negative[0]
    near = _thresholds(draw, 5)
    close = near + draw.uniform(4, 5, low=-0.004, high=0.004)
    return [
        *cases,
        case(pre, negative, about="negative thresholds: negative values may pass"),
        case(close, near, about="values close to their threshold"),
    ]


def _jump_gradients(draw: RandomInputs, size: str) -> list[Case]:
    threshold = _thresholds(draw, 6)
    options = {"wrt": [0], "cotangents": [draw.normal(4, 6)]}
    pre = _around(draw, 4, threshold)
    return [case(pre, threshold, driver="gradients", options=options, about="the gradient with respect to pre")]


def _jump(keep: Callable[[Tensor, Tensor], Tensor], what: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return lambda pre, threshold: what(pre, threshold) * keep(pre, threshold)


def _above(pre: Tensor, threshold: Tensor) -> Tensor:
    return (pre > threshold).float()


def _itself(pre: Tensor, threshold: Tensor) -> Tensor:
    return pre


JUMPRELU = Exercise(
    id="sae_training.jumprelu",
    revision=2,
    task="pre where it exceeds its latent's threshold, and 0 elsewhere; the gradient reaches the pre that is kept.",
    minutes=4,
    difficulty=1,
    oracle=_jumprelu,
    parts=(
        Part("a threshold for each latent", 1, _jump_cases),
        Part("values equal to the threshold or close to it, negative thresholds", 1, _equal_cases),
        Part("the gradient reaches what is kept", 1, _jump_gradients),
    ),
    mistakes=(
        Mistake(
            "threshold_subtracted",
            "You subtracted the threshold from what passes. That is a shifted ReLU, and it shrinks every activation by its threshold: the very thing that the jump avoids.",
            lambda pre, t: (pre - t).relu(),
        ),
        Mistake(
            "at_least",
            "A value that *equals* its threshold passes. It must exceed it: `>`. (With a threshold of 0 nothing shows; with others a whole activation appears.)",
            lambda pre, t: torch.where(pre >= t, pre, 0.0),
        ),
        Mistake(
            "one_threshold",
            "You compared with one number, the mean of the thresholds. Every latent has its own: broadcasting lines them up with the columns.",
            _jump(lambda pre, t: (pre > t.mean()).float(), _itself),
        ),
        Mistake(
            "plain_relu",
            "This is a ReLU; the thresholds are not used.",
            lambda pre, t: pre.relu(),
        ),
        Mistake(
            "absolute_values",
            "You compared |pre| with the threshold, so strongly negative values pass. Only values *above* the threshold do.",
            _jump(lambda pre, t: (pre.abs() > t).float(), _itself),
        ),
        Mistake(
            "only_a_mask",
            "You returned 1 where a value passes. The value itself is asked for.",
            _jump(_above, lambda pre, t: torch.ones_like(pre)),
        ),
        Mistake(
            "below_the_threshold",
            "You kept what lies *below* the threshold.",
            _jump(lambda pre, t: (pre < t).float(), _itself),
        ),
        Mistake(
            "raised_to_the_threshold",
            "Values below the threshold come out as the threshold (`maximum`, or `clamp`). They should be 0.",
            lambda pre, t: torch.maximum(pre, t),
        ),
        Mistake(
            "clipped_at_the_threshold",
            "Whatever exceeds its threshold comes out as the threshold (`minimum`, or `clamp`), and smaller positive values pass. It is the other way round: what exceeds the threshold passes as it is, all else is 0.",
            lambda pre, t: torch.minimum(pre.relu(), t),
        ),
        Mistake(
            "no_gradient",
            "The values are right, but no gradient reaches `pre`: it was copied out of the graph. Use `torch.where`, or multiply by the mask.",
            lambda pre, t: _jumprelu(pre, t).detach(),
        ),
    ),
    hints=(
        "A mask says what passes. What passes is not changed.",
        "`torch.where(pre > threshold, pre, 0.0)`, or `pre * (pre > threshold)`.",
    ),
    reveal="Two questions are separated: is the feature there (above θ), and how strong is it (pre itself)? A ReLU with a negative bias answers both with one number and pays with shrinkage. The price: the output jumps at θ, so its derivative with respect to θ is zero almost everywhere.",
)


# ---------------------------------------------------------------------------------------------------------------------
# threshold_gradient


def _threshold_gradient(pre: Tensor, threshold: Tensor, grad_out: Tensor, bandwidth: float) -> Tensor:
    """Oracle: one term after the other."""
    out = []
    for i in range(len(threshold)):
        total = 0.0
        for row in range(len(pre)):
            u = (float(pre[row, i]) - float(threshold[i])) / bandwidth
            if -0.5 < u < 0.5:
                total += float(grad_out[row, i])
        out.append(-float(threshold[i]) / bandwidth * total)
    return torch.tensor(out)


def _ste_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, F, bandwidth in ((12, 4, 0.4), (20, 6, 0.25), (9, 5, 0.7)):
        threshold = draw.uniform(F, low=0.5, high=1.8)
        # u from −1.4 to 1.4, away from the edges of the kernel and of those it is confused with; every latent has some inside.
        u = draw.uniform(batch, F, low=-1.4, high=1.4)
        u[0] = draw.uniform(F, low=0.28, high=0.45)
        u[1] = draw.uniform(F, low=-0.45, high=-0.28)
        u[2] = draw.uniform(F, low=-0.2, high=0.2)
        for edge in (0.25, 0.5, 1.0):
            u = torch.where((u.abs() - edge).abs() < 0.01, u * 1.05, u)
        pre = threshold + u * bandwidth
        pre[3] = -pre[3].abs()
        about = f"batch {batch}, F = {F}, bandwidth {bandwidth}"
        cases.append(case(pre, threshold, draw.normal(batch, F, mean=0.5), bandwidth, about=about))
    return cases


def _none_near(draw: RandomInputs, size: str) -> list[Case]:
    threshold = draw.uniform(4, low=0.5, high=1.8)
    u = draw.uniform(8, 4, low=-1.4, high=1.4)
    u[:, 1] = draw.uniform(8, low=1.2, high=3.0)  # none near: no gradient
    for edge in (0.25, 0.5, 1.0):
        u = torch.where((u.abs() - edge).abs() < 0.01, u * 1.05, u)
    u[0, [0, 2, 3]] = 0.1
    args = (threshold + u * 0.3, threshold, draw.normal(8, 4, mean=0.5), 0.3)
    # Exact in float32: |u| = 1/2 at the border, which is outside; and a threshold below zero.
    border, grad_out = torch.tensor([1.0, 2.0, -1.5]), draw.normal(5, 3, mean=0.5)
    at = border + 0.5 * torch.tensor(
        [[0.5, -0.5, 0.25], [-0.5, 0.125, 0.5], [0.25, 0.5, -0.5], [0.0, -0.375, 0.375], [2.0, 1.0, -1.0]]
    )
    return [
        case(*args, about="a latent with no value near its threshold"),
        case(at, border, grad_out, 0.5, about="values exactly at the border of the window; one threshold is negative"),
    ]


def _rectangle(width: float = 0.5) -> Callable[[Tensor], Tensor]:
    return lambda u: (u.abs() < width).float()


_WINDOW = _rectangle()


def _ste(
    kernel: Callable[[Tensor], Tensor] = _WINDOW,
    factor: Callable[[Tensor, float], object] = lambda t, e: -t / e,
    post: bool = False,
) -> Callable:
    """A wrong estimate: another kernel, another factor, or taken after the activation."""

    def gradient(pre: Tensor, threshold: Tensor, grad_out: Tensor, bandwidth: float) -> Tensor:
        seen = _above(pre, threshold) * pre if post else pre
        near = kernel((seen - threshold) / bandwidth)
        return factor(threshold, bandwidth) * (near * grad_out).sum(dim=0)

    return gradient


THRESHOLD_GRADIENT = Exercise(
    id="sae_training.threshold_gradient",
    revision=2,
    fixed={
        "bandwidth>=0": "a width",
        "bandwidth=0": "a width",
    },
    task="The straight-through estimate −(θ/ε) · Σ_batch K((pre − θ)/ε) · grad_out, with K(u) = 1 for |u| < ½: one number for each latent.",
    minutes=9,
    difficulty=3,
    oracle=_threshold_gradient,
    parts=(
        Part("several shapes and bandwidths", 3, _ste_cases),
        Part("no value near the threshold, or values just at the border of the window", 1, _none_near),
    ),
    mistakes=(
        Mistake(
            "kernel_half_as_wide",
            "Your kernel is half as wide: it counts |u| < ¼, with u = (pre − θ)/ε. A window of width ε around θ reaches ε/2 to either side, |u| < ½.",
            _ste(_rectangle(0.25)),
        ),
        Mistake(
            "kernel_twice_as_wide",
            "Your kernel is twice as wide: it counts |u| < 1, with u = (pre − θ)/ε. It would then need a factor ½ to have an area of 1; K is 1 for |u| < ½.",
            _ste(_rectangle(1.0)),
        ),
        Mistake(
            "on_the_post_activation",
            "Only values above θ count: you looked at the activations *after* the jump, where those below θ are 0, or your window begins at θ. Values that lie a little below count as well: they would pass if θ were lower.",
            _ste(post=True),
        ),
        Mistake(
            "not_scaled",
            "You compared |pre − θ| with ½, without dividing by the bandwidth.",
            lambda pre, t, g, e: -(t / e) * (((pre - t).abs() < 0.5) * g).sum(dim=0),
        ),
        Mistake(
            "for_log_threshold",
            "This is the gradient for log θ: it has θ once more. The one for θ itself is asked for.",
            _ste(factor=lambda t, e: -t * t / e),
        ),
        Mistake(
            "theta_forgotten",
            "The factor θ is missing. A jump of height 1 has this gradient (the L0 penalty does); JumpReLU's jump at θ has height θ.",
            _ste(factor=lambda t, e: -1.0 / e),
        ),
        Mistake(
            "sign_turned",
            "The sign is flipped. A higher θ takes something away: the output falls from pre to 0, hence the minus.",
            _ste(factor=lambda t, e: t / e),
        ),
        Mistake(
            "bandwidth_forgotten",
            "The 1/ε in front is missing. The narrower the window, the fewer values fall into it, and the factor makes up for that.",
            _ste(factor=lambda t, e: -t),
        ),
        Mistake(
            "bandwidth_multiplied",
            "You multiplied by the bandwidth in front of the sum. Divide by it: θ/ε.",
            _ste(factor=lambda t, e: -t * e),
        ),
        Mistake(
            "averaged_over_batch",
            "You averaged over the batch. θ is shared by all rows, so their gradients add up. (If the loss is a mean, that is in grad_out.)",
            lambda pre, t, g, e: _threshold_gradient(pre, t, g, e) / len(pre),
        ),
        Mistake(
            "grad_out_forgotten",
            "You counted the values near θ. Each is weighted by the loss's gradient there: multiply by grad_out before you sum.",
            lambda pre, t, g, e: _threshold_gradient(pre, t, torch.ones_like(g), e),
        ),
        Mistake(
            "pre_for_theta",
            "You multiplied by pre instead of θ. Near the threshold they are alike, which is why it almost works.",
            lambda pre, t, g, e: -((((pre - t) / e).abs() < 0.5) * g * pre).sum(dim=0) / e,
        ),
        Mistake(
            "gaussian_kernel",
            "You used a Gaussian window. It would do as well in practice; the rectangle is asked for.",
            _ste(lambda u: torch.exp(-u * u / 2) / (2 * torch.pi) ** 0.5),
        ),
        Mistake(
            "not_summed",
            "You have a number for each row and latent. Sum over the batch: one number for each latent.",
            lambda pre, t, g, e: -(t / e) * _WINDOW((pre - t) / e) * g,
        ),
    ),
    hints=(
        "Which pre-activations would change sides if θ moved a little? Those within half a bandwidth of it.",
        "`near = ((pre - threshold) / bandwidth).abs() < 0.5`, then the sum over the batch of grad_out where that holds.",
        "`-(threshold / bandwidth) * (near * grad_out).sum(dim=0)`",
    ),
    reveal="The derivative of the *expected* loss with respect to θ is well defined: raising θ by δ sets to zero the values in [θ, θ + δ], and each costs θ · grad_out. How many there are is a density at θ, and the window estimates it (Rajamanoharan et al. 2024b). It is biased for any ε > 0, and noisy for a small one.",
)
