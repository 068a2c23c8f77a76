"""The Gated autoencoder: which latents are active, and how strongly, from one product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# gated_encode


def _gated_encode(
    x: Tensor, W_gate: Tensor, b_gate: Tensor, r_mag: Tensor, b_mag: Tensor, b_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Oracle: in double precision, latent by latent; the magnitude has a weight matrix of its own, written out."""
    W_mag = torch.stack([W_gate[:, i].double() * 2.718281828459045 ** float(r_mag[i]) for i in range(len(r_mag))], 1)
    f, gate = torch.zeros(len(x), len(r_mag)), torch.zeros(len(x), len(r_mag))
    for row, centered in enumerate(x.double() - b_dec.double()):
        for i in range(len(r_mag)):
            pi = float(centered @ W_gate[:, i].double()) + float(b_gate[i])
            magnitude = float(centered @ W_mag[:, i]) + float(b_mag[i])
            gate[row, i] = max(pi, 0.0)
            f[row, i] = max(magnitude, 0.0) if pi > 0 else 0.0
    return f, gate


def _gated_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    shapes = [(5, 4, 7), (6, 6, 3), (4, 5, 5)]
    while shapes:
        batch, d, F = shapes[0]
        args = (
            draw.normal(batch, d, mean=0.6),
            draw.normal(d, F, std=0.7),
            draw.normal(F, mean=0.3, std=0.5),
            draw.normal(F, std=0.6),
            draw.normal(F, mean=-0.3, std=0.5),
            draw.normal(d, mean=0.5, std=0.7),
        )
        x, W, b_gate, r, b_mag, b_dec = args
        z = (x - b_dec) @ W
        # Every case has open gates whose magnitude is negative, and closed ones where it is positive.
        strength = z * r.exp() + b_mag
        if ((z + b_gate > 0.05) & (strength < -0.05)).any() and ((z + b_gate < -0.05) & (strength > 0.05)).any():
            cases.append(case(*args, about=f"batch {batch}, d = {d}, F = {F}"))
            shapes.pop(0)
    return cases


def _gate_at_zero(draw: RandomInputs, size: str) -> list[Case]:
    """Rows that equal b_dec, and gates without a bias: π is 0 exactly, and the gate is closed."""
    d, F = 4, 6
    b_dec = draw.normal(d, std=0.7)
    x = torch.cat([b_dec.expand(2, d), draw.normal(3, d)])
    b_gate = draw.normal(F) * torch.tensor([0.0, 1.0] * 3)
    args = (x, draw.normal(d, F), b_gate, draw.normal(F, std=0.5), draw.uniform(F, low=0.2, high=1.0), b_dec)
    return [case(*args, about="inputs that equal b_dec, gates without bias: π = 0")]


def _gated(
    z: Callable = lambda x, W, c: (x - c) @ W,
    magnitude: Callable = lambda z, bg, r, bm: (z * r.exp() + bm).relu(),
    feature: Callable = lambda pi, m: (pi > 0) * m,
    second: Callable = lambda pi, m: pi.relu(),
) -> Callable:
    """A wrong gated encoder: with one piece replaced."""

    def encode(x: Tensor, W: Tensor, bg: Tensor, r: Tensor, bm: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        shared = z(x, W, c)
        pi, strength = shared + bg, magnitude(shared, bg, r, bm)
        return feature(pi, strength), second(pi, strength)

    return encode


GATED_ENCODE = Exercise(
    id="sae_training.gated_encode",
    revision=2,
    fixed={
        "result>=0": "ReLU",
    },
    task="1[π > 0] · ReLU(((x − b_dec) W_gate) · exp(r_mag) + b_mag) with π = (x − b_dec) W_gate + b_gate; and ReLU(π).",
    minutes=8,
    difficulty=2,
    oracle=_gated_encode,
    parts=(
        Part("several shapes, biases that are not zero", 2, _gated_cases),
        Part("π equal to 0", 1, _gate_at_zero),
    ),
    mistakes=(
        Mistake(
            "biases_swapped",
            "Gate and magnitude have each other's bias: π takes `b_gate`, the magnitude `b_mag`.",
            lambda x, W, bg, r, bm, c: _gated_encode(x, W, bm, r, bg, c),
        ),
        Mistake(
            "gate_bias_in_the_magnitude",
            "The magnitude contains `b_gate` as well: it was built from π. The two paths share (x − b_dec) W_gate, *before* any bias.",
            _gated(magnitude=lambda z, bg, r, bm: ((z + bg) * r.exp() + bm).relu()),
        ),
        Mistake(
            "magnitude_with_the_gate_bias",
            "The magnitude uses `b_gate` instead of `b_mag`.",
            _gated(magnitude=lambda z, bg, r, bm: (z * r.exp() + bg).relu()),
        ),
        Mistake(
            "exp_missing",
            "You multiplied by r_mag itself. It is a logarithm: exp(r_mag) is always positive, and 1 at the start, when r_mag is 0.",
            _gated(magnitude=lambda z, bg, r, bm: (z * r + bm).relu()),
        ),
        Mistake(
            "rescaling_missing",
            "You did not use `r_mag`: the magnitude path rescales each latent by exp(r_mag).",
            _gated(magnitude=lambda z, bg, r, bm: (z + bm).relu()),
        ),
        Mistake(
            "bias_rescaled_too",
            "You multiplied `b_mag` by exp(r_mag) as well. It rescales the weights only; the bias comes after.",
            _gated(magnitude=lambda z, bg, r, bm: ((z + bm) * r.exp()).relu()),
        ),
        Mistake(
            "b_dec_not_subtracted",
            "`b_dec` was not subtracted from x.",
            _gated(z=lambda x, W, c: x @ W),
        ),
        Mistake(
            "gate_not_binary",
            "You multiplied the magnitude by ReLU(π) itself. The gate only opens or closes: 1 where π > 0. The other path gives the strength.",
            _gated(feature=lambda pi, m: pi.relu() * m),
        ),
        Mistake(
            "sigmoid_gate",
            "Your gate is a sigmoid, so nothing is ever exactly 0. It is a step: 1 where π > 0.",
            _gated(feature=lambda pi, m: pi.sigmoid() * m),
        ),
        Mistake(
            "no_gate",
            "The first result is the magnitude alone: the gate is missing.",
            _gated(feature=lambda pi, m: m),
        ),
        Mistake(
            "gate_closed",
            "Your gate opens where π is *negative*.",
            _gated(feature=lambda pi, m: (pi <= 0) * m),
        ),
        Mistake(
            "open_at_zero",
            "Your gate is open where π equals 0. It opens where π > 0: an input that equals b_dec contains nothing.",
            _gated(feature=lambda pi, m: (pi >= 0) * m),
        ),
        Mistake(
            "magnitude_without_relu",
            "The magnitude goes below 0: its ReLU is missing. An open gate does not make it positive, since the two biases differ.",
            _gated(magnitude=lambda z, bg, r, bm: z * r.exp() + bm),
        ),
        Mistake(
            "pi_without_relu",
            "The second result is π itself. ReLU(π) is asked for: it is what the L1 penalty acts on, and what the auxiliary path decodes.",
            _gated(second=lambda pi, m: pi),
        ),
        Mistake(
            "mask_returned",
            "The second result is the binary gate. ReLU(π) is asked for: it has a gradient, which a step has not.",
            _gated(second=lambda pi, m: (pi > 0).float()),
        ),
        Mistake(
            "order_swapped",
            "The two are swapped: features first, then ReLU(π).",
            lambda *args: _gated_encode(*args)[::-1],
        ),
    ),
    hints=(
        "Compute z = (x − b_dec) W_gate once. Gate: z + b_gate. Magnitude: z · exp(r_mag) + b_mag.",
        "`(gate > 0) * magnitude.relu()` keeps the magnitude where the gate is open.",
        "Return both: the features, and `gate.relu()`.",
    ),
    reveal="The two paths share their directions, so the second costs two vectors and not a matrix (Rajamanoharan et al. 2024a). L1 acts on ReLU(π) only: it can close gates, but does not affect how strong an open latent is.",
)


# ---------------------------------------------------------------------------------------------------------------------
# gated_loss


def _gated_loss(
    x: Tensor, f: Tensor, gate: Tensor, W_dec: Tensor, b_dec: Tensor, l1: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Oracle: row by row; differentiable."""
    W_kept, b_kept = W_dec.detach().clone(), b_dec.detach().clone()
    terms = [torch.zeros(()), torch.zeros(()), torch.zeros(())]
    for row in range(len(x)):
        rebuilt, from_gate = b_dec, b_kept
        for i in range(len(W_dec)):
            rebuilt = rebuilt + f[row, i] * W_dec[i]
            from_gate = from_gate + gate[row, i] * W_kept[i]
            terms[1] = terms[1] + l1 * gate[row, i] / len(x)
        for j in range(x.shape[1]):
            terms[0] = terms[0] + (x[row, j] - rebuilt[j]) ** 2 / len(x)
            terms[2] = terms[2] + (x[row, j] - from_gate[j]) ** 2 / len(x)
    return tuple(terms)


def _gated_loss_arguments(draw: RandomInputs, batch: int, d: int, F: int) -> tuple:
    gate = draw.normal(batch, F, mean=0.2).relu() + 0.05 * (draw.uniform(batch, F) < 0.5)
    return (
        draw.normal(batch, d, mean=0.5),
        (gate > 0) * draw.uniform(batch, F, low=0.2, high=1.5),
        gate,
        draw.normal(F, d, std=0.6),
        draw.normal(d, mean=0.4),
        draw.number(0.2, 0.7),
    )


def _gated_loss_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_gated_loss_arguments(draw, batch, d, F),
            about=f"batch {batch}, d = {d}, F = {F}",
        )
        for batch, d, F in ((4, 5, 6), (3, 6, 4), (6, 4, 5))
    ] + [case(*_gated_loss_arguments(draw, 3, 4, 5)[:-1], 0.0, about="no penalty, l1 = 0")]


def _gated_loss_gradients(draw: RandomInputs, size: str) -> list[Case]:
    options = {"wrt": [1, 2, 3, 4], "cotangents": [draw.uniform(1, low=0.5, high=1.5)[0] for _ in range(3)]}
    x, f, gate, *rest = _gated_loss_arguments(draw, 4, 5, 6)
    # At 0 the slope of |gate| is a convention (0 with `abs`, 1 without), and its ReLU stops it anyway.
    args = (x, f + 0.1, gate + 0.1, *rest)
    about = "gradients with respect to f, gate, W_dec and b_dec"
    return [case(*args, driver="gradients", options=options, about=about)]


def _error(x: Tensor, code: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return (x - code @ W - c).pow(2).sum(dim=-1).mean()


def _gloss(
    main: Callable = lambda x, f, g, W, c: _error(x, f, W, c),
    sparsity: Callable = lambda f, g, W: g.sum(dim=-1).mean(),
    auxiliary: Callable = lambda x, f, g, W, c: _error(x, g, W.detach(), c.detach()),
) -> Callable:
    """A wrong gated loss: with one term replaced."""

    def loss(x: Tensor, f: Tensor, gate: Tensor, W: Tensor, c: Tensor, l1: float) -> tuple[Tensor, Tensor, Tensor]:
        return main(x, f, gate, W, c), l1 * sparsity(f, gate, W), auxiliary(x, f, gate, W, c)

    return loss


def _each(change: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """All three terms changed the same way."""
    return lambda x, *rest: tuple(change(term, x) for term in _gated_loss(x, *rest))


GATED_LOSS = Exercise(
    id="sae_training.gated_loss",
    revision=2,
    fixed={
        "f>=0": "activations",
        "gate>=0": "after ReLU",
        "l1>=0": "a coefficient",
        "result>=0": "squares and absolute values",
    },
    task="Three numbers: the squared error of f W_dec + b_dec; l1 · Σ gate; the squared error of gate W_dec + b_dec with W_dec and b_dec detached.",
    minutes=8,
    difficulty=2,
    oracle=_gated_loss,
    parts=(
        Part("the three terms", 2, _gated_loss_cases),
        Part("their gradients", 2, _gated_loss_gradients),
    ),
    mistakes=(
        Mistake(
            "decoder_not_detached",
            "The values are right, but the third term's gradient reaches the decoder. It only has to teach the *gate*; if the decoder learns from it too, it learns to rebuild from shrunken activations, and shrinkage is back. Detach W_dec and b_dec there.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, g, W, c)),
        ),
        Mistake(
            "bias_not_detached",
            "The values are right, but the third term's gradient reaches `b_dec`. Detach it there, as you did W_dec.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, g, W.detach(), c)),
        ),
        Mistake(
            "weights_not_detached",
            "The values are right, but the third term's gradient reaches `W_dec`. Detach it there, as you did b_dec.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, g, W, c.detach())),
        ),
        Mistake(
            "detached_everywhere",
            "The values are right, but the first term's gradient does not reach the decoder: you detached it there too. Then nothing trains the decoder at all.",
            _gloss(main=lambda x, f, g, W, c: _error(x, f, W.detach(), c.detach())),
        ),
        Mistake(
            "gate_detached",
            "The values are right, but the gate is detached in the third term. Nothing else tells the gate what is there: the step 1[π > 0] has no gradient.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, g.detach(), W.detach(), c.detach())),
        ),
        Mistake(
            "auxiliary_from_features",
            "The third term rebuilds x from f, so it repeats the first. It rebuilds from the gate alone.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, f, W.detach(), c.detach())),
        ),
        Mistake(
            "penalty_on_features",
            "The penalty is on f. Then it shrinks the magnitudes, which the gated autoencoder was made to avoid. It acts on the gate.",
            _gloss(sparsity=lambda f, g, W: f.sum(dim=-1).mean()),
        ),
        Mistake(
            "penalty_weighted_by_norms",
            "You weighted the penalty by the decoder's norms. In the gated autoencoder rows are kept at norm 1, and the penalty is l1 · Σ gate.",
            _gloss(sparsity=lambda f, g, W: (g * W.norm(dim=-1)).sum(dim=-1).mean()),
        ),
        Mistake(
            "penalty_averaged_over_latents",
            "The penalty is averaged over latents. Sum over latents, average over the batch.",
            _gloss(sparsity=lambda f, g, W: g.mean()),
        ),
        Mistake(
            "open_gates_counted",
            "You counted open gates. That is L0, without a gradient; the penalty sums ReLU(π).",
            _gloss(sparsity=lambda f, g, W: (g > 0).float().sum(dim=-1).mean()),
        ),
        Mistake(
            "coefficient_forgotten",
            "The second term is not multiplied by `l1`.",
            lambda x, f, g, W, c, l1: _gated_loss(x, f, g, W, c, 1.0),
        ),
        Mistake(
            "auxiliary_without_bias",
            "The third term leaves out `b_dec`. Detach it there, but add it.",
            _gloss(auxiliary=lambda x, f, g, W, c: _error(x, g, W.detach(), 0.0)),
        ),
        Mistake(
            "error_without_bias",
            "The first term leaves out `b_dec`.",
            _gloss(main=lambda x, f, g, W, c: _error(x, f, W, 0.0)),
        ),
        Mistake(
            "averaged_over_d",
            "Your errors are averaged over the dimensions. Sum over d, average over the batch.",
            _gloss(
                main=lambda x, f, g, W, c: _error(x, f, W, c) / x.shape[-1],
                auxiliary=lambda x, f, g, W, c: _error(x, g, W.detach(), c.detach()) / x.shape[-1],
            ),
        ),
        Mistake(
            "summed_over_batch",
            "All three grow with the batch: average over it.",
            _each(lambda term, x: term * len(x)),
        ),
        Mistake(
            "added_up",
            "You returned the sum. Three numbers are asked for.",
            lambda *args: sum(_gated_loss(*args)),
        ),
        Mistake(
            "order_changed",
            "The order is (reconstruction, sparsity, auxiliary); yours has the penalty last.",
            lambda *args: (lambda a, b, c: (a, c, b))(*_gated_loss(*args)),
        ),
        Mistake(
            "no_gradient",
            "The values are right, but nothing can be learned from them: they are detached numbers (`.item()`, `float` or `.detach()`). Return the tensors.",
            lambda *args: tuple(float(term.detach()) for term in _gated_loss(*args)),
            degenerate=True,
        ),
    ),
    hints=(
        "The first and the third term are the same formula with another code and, in the third, another decoder.",
        "`.detach()` gives a tensor of the same values that no gradient passes through: `W_dec.detach()`, `b_dec.detach()`.",
        "`(x - gate @ W_dec.detach() - b_dec.detach()).pow(2).sum(dim=-1).mean()` is the third.",
    ),
    reveal="The step function has no gradient, so the gate would never learn from the first term. The third gives it a task: rebuild x on your own, through a decoder that you may not change. What the L1 shrinks there never reaches the output (Rajamanoharan et al. 2024a).",
)
