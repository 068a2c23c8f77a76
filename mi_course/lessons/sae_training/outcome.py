"""The outcome: an autoencoder from the learner's own training, judged on unseen data and an unknown dictionary."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.sae.simple import encode, train_simple
from mi_course.wire import Observation

EXPLAINED, RECOVERED, COSINE, ACTIVE_SHARE = 0.8, 0.7, 0.9, 0.5
"""On held-out rows at least EXPLAINED of the variance; at least RECOVERED of the dictionary's rows with a latent of
cosine above COSINE; an L0 of at least ACTIVE_SHARE times the mean number of features that are present.

Measured over ten seeds of each size: our own training explains 0.89 to 0.92 and recovers 0.84 to 1.0. Random unit rows
explain 0.27 to 0.36 and recover nothing, centered data rows explain less than nothing and recover up to 0.03, principal
components explain 0.72 to 0.76 and recover nothing (tests/lessons/test_train_sae.py)."""
DEAD = 0.2
"""An L0 below this is called dead. What is between it and the floor may be an honest training with a strong penalty."""
SECONDS = 90.0


class Planted:
    """Rows that are sparse, non-negative mixtures of more directions than there are dimensions, plus mean and noise."""

    def __init__(self, draw: RandomInputs, d: int, n_features: int, present: float, n: int) -> None:
        self.dictionary = normalize(draw.normal(n_features, d), dim=-1)
        self.mean = draw.normal(d, std=1.5)
        # Some features are ten times as common as others.
        shares = torch.logspace(-0.5, 0.5, n_features)[torch.tensor(draw.permutation(n_features))]
        self.shares = shares / shares.mean() * present / n_features
        self.x = self._rows(draw, n)
        self.held_out = self._rows(draw, 2000)
        self.present = present

    def _rows(self, draw: RandomInputs, n: int) -> Tensor:
        there = draw.uniform(n, len(self.dictionary)) < self.shares
        strength = there * draw.uniform(n, len(self.dictionary), low=1.5, high=4.5)
        return strength @ self.dictionary + self.mean + draw.normal(n, self.mean.shape[0], std=0.15)


def _read(value: Any, d: int, F: int) -> dict[str, Tensor] | Complaint:
    shapes = {"W_enc": (d, F), "b_enc": (F,), "W_dec": (F, d), "b_dec": (d,)}
    if not isinstance(value, dict) or not set(shapes) <= set(value):
        seen = f"a dict with {sorted(map(str, value))[:8]}" if isinstance(value, dict) else f"a {type(value).__name__}"
        return Complaint(f"The result is {seen}, expected a dict with {', '.join(shapes)}.", "type")
    for name, shape in shapes.items():
        tensor = value[name]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return Complaint(f"`{name}` is not a tensor of floating-point numbers.", "type")
        if tuple(tensor.shape) != shape:
            if name in ("W_enc", "W_dec") and tuple(tensor.shape) == shape[::-1]:
                return Complaint("", mistake="transposed")
            return Complaint(f"`{name}` has shape {tuple(tensor.shape)}, expected {shape}.", "shape")
        if not tensor.isfinite().all():
            return Complaint(f"`{name}` contains NaN or infinite numbers: the training diverged.", "nan")
    return {name: value[name].double() for name in shapes}


def _variance(x: Tensor, x_hat: Tensor) -> float:
    return float(1 - (x - x_hat).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


def _measure(sae: dict[str, Tensor], world: Planted, k: int) -> dict[str, float]:
    x = world.held_out.double()
    f = encode(x, sae, k)
    x_hat = f @ sae["W_dec"] + sae["b_dec"]
    cosines = world.dictionary.double() @ normalize(sae["W_dec"], dim=-1).T
    best = cosines.amax(dim=-1)
    # What a rescaled and shifted reconstruction would explain: training on scaled data, not scaled back.
    centered, rebuilt = x - x.mean(0), x_hat - x_hat.mean(0)
    scale = (centered * rebuilt).sum() / rebuilt.pow(2).sum().clamp(min=1e-30)
    return {
        "explained": _variance(x, x_hat),
        "rescaled": _variance(centered, scale * rebuilt),
        "recovered": float((best > COSINE).double().mean()),
        "cosine": float(best.mean()),
        "l0": float((f > 0).double().sum(-1).mean()),
        "chance": _chance(world, sae["W_dec"].shape[0]),
    }


def _chance(world: Planted, F: int) -> float:
    """The mean best cosine of as many random directions."""
    generator = torch.Generator().manual_seed(271_828)
    rows = normalize(torch.randn(F, world.dictionary.shape[1], generator=generator), dim=-1)
    return float((world.dictionary @ rows.T).amax(dim=-1).mean())


def _copies_rows(sae: dict[str, Tensor], world: Planted) -> bool:
    """Whether most latents are rows of the training data, centered or not."""
    rows = normalize(sae["W_dec"], dim=-1)[:64].float()
    offsets = (torch.zeros_like(world.mean), world.x.mean(0), sae["b_dec"].float())
    best = torch.stack([(rows @ normalize(world.x - offset, dim=-1).T).amax(-1) for offset in offsets]).amax(0)
    return float((best > 0.9995).double().mean()) > 0.5


def _unrelated(sae: dict[str, Tensor]) -> bool:
    """Whether latents read along other directions than they write."""
    cosines = (normalize(sae["W_enc"].T, dim=-1) * normalize(sae["W_dec"], dim=-1)).sum(-1)
    return float(cosines.abs().mean()) < 0.4


def _at_right_angles(W_dec: Tensor) -> bool:
    """Whether any two latents write along the same line or at right angles, as principal components do."""
    rows = normalize(W_dec[W_dec.norm(dim=-1) > 1e-6], dim=-1)
    cosines = (rows @ rows.T).abs()
    return bool(((cosines < 1e-2) | (cosines > 0.99)).all())


def _judge(case: Case, observation: Observation) -> Complaint | None:
    world = case.judge_data
    x, F, k, _ = case.calls[0].args
    sae = _read(observation.replies[0].value, x.shape[1], F)
    if isinstance(sae, Complaint):
        return sae
    seen = _measure(sae, world, k)
    floor = ACTIVE_SHARE * world.present
    if seen["l0"] < DEAD:
        return Complaint("", mistake="dead")
    measured = (
        f"On rows that the training has not seen, it explains {seen['explained']:.2f} of the variance (needed: {EXPLAINED}) "
        f"and recovers {seen['recovered']:.0%} of the dictionary with a cosine above {COSINE} (needed: {RECOVERED:.0%}); "
        f"L0 is {seen['l0']:.1f} (needed: at least {floor:.1f})."
    )
    if seen["l0"] < floor:
        return Complaint(f"{measured} Too few latents are active: is the penalty too strong, the bias driven down?")
    if seen["explained"] >= EXPLAINED and seen["recovered"] >= RECOVERED:
        return None
    if _copies_rows(sae, world):
        return Complaint("", mistake="copied_data")
    tied = torch.allclose(normalize(sae["W_enc"].T, dim=-1), normalize(sae["W_dec"], dim=-1), atol=1e-4)
    if seen["recovered"] < 0.1 and seen["cosine"] < seen["chance"] + 0.04 and (tied or _unrelated(sae)):
        return Complaint("", mistake="copied_random" if tied else "untrained")
    if seen["recovered"] >= 0.5 and seen["rescaled"] > max(0.7, seen["explained"] + 0.15):
        return Complaint("", mistake="scale_not_folded_back")
    if seen["recovered"] >= 0.5 and seen["explained"] < 0.4:
        return Complaint("", mistake="encoder_does_not_fit")
    if seen["recovered"] < 0.1 and seen["explained"] > 0.4 and _at_right_angles(sae["W_dec"]):
        return Complaint("", mistake="directions_mixed")
    return Complaint(
        f"{measured} What usually helps: more steps, a larger learning rate that falls towards the end, reviving dead latents; "
        "and sparsity in the forward pass, from the first step on."
    )


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    d, n_features, present, n, F, k = (32, 64, 4.0, 20_000, 96, 6) if size == "full" else (20, 32, 2.6, 6_000, 48, 4)
    world = Planted(draw, d, n_features, present, n)
    call = Call((world.x, F, k, draw.seed()), watch=("arguments", "random_state"))
    about = (
        f"{n:,} rows of {d}, {F} latents, k = {k}; a dictionary of {n_features} directions that only the judge knows"
    )
    few = Planted(draw, 8, 12, 1.5, 1_000).x
    again = Call((few, 16, 2, draw.seed()))
    return [
        Case(calls=(call,), judge=_judge, judge_data=world, about=about, limit_s=SECONDS),
        Case(calls=(again, again), judge=_judge_seed, about="fewer rows, twice with the same seed", limit_s=SECONDS),
    ]


def _judge_seed(case: Case, observation: Observation) -> Complaint | None:
    """Right if both are the same. A training without random numbers is right too."""
    x, F, _, _ = case.calls[0].args
    first, second = (_read(reply.value, x.shape[1], F) for reply in observation.replies)
    if isinstance(first, Complaint):
        return first
    if isinstance(second, Complaint):
        return second
    if all(torch.allclose(first[name], second[name], rtol=1e-3, atol=1e-4) for name in first):
        return None
    return Complaint("", mistake="fresh_seed")


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers


def _made_of(rows: Tensor, b_dec: Tensor, strength: float = 1.0) -> dict[str, Tensor]:
    """An autoencoder that reads and writes along the same rows."""
    return {
        "W_enc": rows.T.contiguous() * strength,
        "b_enc": torch.zeros(len(rows)),
        "W_dec": rows,
        "b_dec": b_dec.clone(),
    }


def _random_rows(n: int, d: int, seed: int) -> Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _copied_random(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    return _made_of(_random_rows(n_latents, x.shape[1], seed), x.mean(0))


def _untrained(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    d = x.shape[1]
    return {
        "W_enc": torch.randn(d, n_latents, generator=generator) / math.sqrt(d),
        "b_enc": torch.zeros(n_latents),
        "W_dec": torch.randn(n_latents, d, generator=generator) / math.sqrt(n_latents),
        "b_dec": torch.zeros(d),
    }


def _quickly(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    return train_simple(x, n_latents, k=k, steps=400, batch=512, lr=1e-2, decay=80, seed=seed)[0]


def _dead(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    """The decoder is right, the encoder is dead."""
    sae = _quickly(x, n_latents, k, seed)
    return {**sae, "b_enc": sae["b_enc"] - 1e3}


def _unfolded(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    """Trained on normalized data; the scale is not folded back."""
    mean, scale = x.mean(0), (x - x.mean(0)).norm(dim=-1).mean()
    sae = _quickly((x - mean) / scale, n_latents, k, seed)
    return {**sae, "b_dec": sae["b_dec"] * scale + mean, "W_enc": sae["W_enc"] / scale}


def _principal(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    centered = x - x.mean(0)
    axes = torch.linalg.eigh(centered.T @ centered).eigenvectors.T
    rows = torch.zeros(n_latents, x.shape[1])
    both = torch.cat([axes, -axes])[:n_latents]
    rows[: len(both)] = both
    return _made_of(rows, x.mean(0))


def _copied_data(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    return _made_of(normalize((x - x.mean(0))[:n_latents], dim=-1), x.mean(0))


def _wrong_way(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    sae = _quickly(x, n_latents, k, seed)
    return {**sae, "W_enc": sae["W_dec"], "W_dec": sae["W_enc"]}


def _fresh_seed(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    return _quickly(x, n_latents, k, torch.Generator().seed() % 2**31)


def _shuffled_encoder(x: Tensor, n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    sae = _quickly(x, n_latents, k, seed)
    return {**sae, "W_enc": sae["W_enc"].roll(1, dims=1)}


TRAIN_SAE = Exercise(
    id="sae_training.train_sae",
    revision=2,
    task=f"W_enc, b_enc, W_dec, b_dec, trained on x: with the k largest latents of each row they explain at least {EXPLAINED} of the variance of unseen rows and recover at least {RECOVERED:.0%} of a dictionary that only the judge knows.",
    minutes=20,
    difficulty=3,
    outcome=True,
    parts=(Part("unseen rows, an unknown dictionary", 5, _cases),),
    mistakes=(
        Mistake(
            "dead",
            "It is dead: on unseen rows hardly any latent is active. A decoder alone can score a cosine of 0.97 and explain nothing. Look at L0 while you train: is the bias driven down, the penalty too strong, the learning rate too high?",
            _dead,
        ),
        Mistake(
            "untrained",
            "It looks untrained: its directions are no nearer to the dictionary than random ones, and encoder and decoder are unrelated. Does the optimizer have the tensors that you return? Is `step()` called?",
            _untrained,
        ),
        Mistake(
            "copied_random",
            "Encoder and decoder are the same random directions. That rebuilds a little of anything and has found nothing: it is where training begins. Do the parameters move?",
            _copied_random,
        ),
        Mistake(
            "copied_data",
            "Your latents are rows of the data. Each is a mixture of several features, so most of them find no feature, and unseen rows are rebuilt badly. They are a fair start, but have to be trained.",
            _copied_data,
        ),
        Mistake(
            "directions_mixed",
            "It rebuilds a good part, but its latents stand at right angles to each other, as principal components do: each is a mixture, and hardly any points along a single feature. There are more features than dimensions, so they cannot all be at right angles. Train with the k largest in the forward pass.",
            _principal,
        ),
        Mistake(
            "scale_not_folded_back",
            "The directions are right, and up to a scale and a shift so is the reconstruction. That is so after a training on normalized data: then fold mean and scale back into the parameters before you return them (W_enc / s, with b_dec · s + mean and W_dec · s, reads and writes x itself). It also happens when another number of latents than `k` was active in training.",
            _unfolded,
        ),
        Mistake(
            "encoder_does_not_fit",
            "The decoder has found the dictionary, but the encoder does not use it: the reconstruction is bad. Are the latents in the same order in both? Is it ReLU((x − b_dec) W_enc + b_enc), and b_dec part of what was trained? Was the training on normalized data that you did not scale back?",
            _shuffled_encoder,
        ),
        Mistake(
            "fresh_seed",
            "Twice with the same seed, it came out differently each time. Give `torch.Generator().manual_seed(seed)` to everything that draws random numbers; `generator.seed()` would draw a new seed.",
            _fresh_seed,
        ),
        Mistake(
            "transposed",
            "`W_enc` has the shape [d, F] and `W_dec` the shape [F, d]; yours are transposed.",
            _wrong_way,
        ),
    ),
    hints=(
        "The pieces are yours: `topk_activation` of the pre-activations, `f @ W_dec + b_dec`, the squared error, Adam; after each step scale the rows of W_dec to norm 1. Make every random number from a generator with the seed.",
        "Start with random unit rows as W_dec, W_enc as its transpose, b_enc at 0, b_dec at the mean of x. A few hundred steps of 512 rows at a learning rate of 0.01 go far.",
        "If recovery stops short, some features have no latent while others have two: keep track of which latents are inactive, and add `auxiliary_loss(...) / 32`.",
        "Let the learning rate fall towards zero in the last fifth of the steps: it sharpens the directions.",
    ),
    reveal="Three numbers are judged together, because each alone is easy to get: variance by principal components, cosines by a dead autoencoder, L0 by noise. The start (W_enc as the transpose of W_dec) does much of the work: every latent then responds to its own direction from the first step on.",
)
