"""Wrong answers to lesson 05 that are on no list, and what the outcome says of things that are no model."""

from __future__ import annotations

import pytest
import torch

from mi_course import lessons
from mi_course.course import check_exercise
from mi_course.interp import superposition as toy


def _draw(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _rows_copied(batch, n, p, seed):
    """Half of the rows, twice."""
    half = toy.sample_features((batch + 1) // 2, n, p, seed)
    return torch.cat([half, half])[:batch]


def _sorted_rows(batch, n, p, seed):
    return toy.sample_features(batch, n, p, seed).sort(dim=1).values


def _last_absent(batch, n, p, seed):
    x = toy.sample_features(batch, n, p, seed)
    x[:, -1] = 0
    return x


def _squared_sizes(batch, n, p, seed):
    return toy.sample_features(batch, n, p, seed) ** 2


def _sizes_of_the_mean(batch, n, p, seed):
    return (_draw((batch, n), seed) < p) * (0.25 + _draw((batch, n), seed + 1) / 2)


def _at_least_one(batch, n, p, seed):
    x = toy.sample_features(batch, n, p, seed)
    x[(x == 0).all(1), 0] = 0.5
    return x


def _pairs_together(batch, n, p, seed):
    mask = _draw((batch, n), seed) < p
    mask[:, 1] = mask[:, 0]
    return mask * _draw((batch, n), seed + 1)


def _unbatched(W):
    return toy.feature_dimensionality(W) * (1 + 1e-3)


def _pairs(batch, n_pairs, p, together, seed):
    throw = _draw((batch, n_pairs), seed)
    second = throw < p if together else (throw >= p) & (throw < 2 * p)
    return torch.stack([throw < p, second], dim=-1).flatten(1) * _draw((batch, 2 * n_pairs), seed + 1)


WRONG = {
    "sample_features": [
        _rows_copied,
        _sorted_rows,
        _last_absent,
        _squared_sizes,
        _sizes_of_the_mean,
        _at_least_one,
        _pairs_together,
        lambda batch, n, p, seed: toy.sample_features(batch, n, p * 0.8, seed),
        lambda batch, n, p, seed: toy.sample_features(batch, n, p, seed).round(decimals=1),
        lambda batch, n, p, seed: toy.sample_features(n, batch, p, seed).T * 0.9,
    ],
    "toy_forward": [
        lambda x, W, b: torch.nn.functional.gelu(x @ W.T @ W + b),
        lambda x, W, b: torch.nn.functional.leaky_relu(x @ W.T @ W + b),
        lambda x, W, b: torch.sigmoid(x @ W.T @ W + b),
        lambda x, W, b: toy.toy_forward(x, W, b).clamp(max=1),
        lambda x, W, b: toy.toy_forward(x[:1], W, b).expand_as(x),
        lambda x, W, b: toy.toy_forward(x, W / W.norm(dim=0), b),
        lambda x, W, b: toy.toy_forward(x, W, b.mean().expand_as(b)),
        lambda x, W, b: torch.relu(x @ W.T @ W + b * x.sum(-1, keepdim=True)),
    ],
    "importance_loss": [
        lambda x, x_hat, w: toy.importance_loss(x, x_hat, w.sqrt()),
        lambda x, x_hat, w: toy.importance_loss(x, x_hat, w) / 2,
        lambda x, x_hat, w: toy.importance_loss(x, x_hat.relu() * (x > 0), w),
        lambda x, x_hat, w: toy.importance_loss(x, x_hat, w / w.max()),
        lambda x, x_hat, w: toy.importance_loss(x, x_hat, w) * len(x) / max(len(x) - 1, 1),
        lambda x, x_hat, w: toy.importance_loss(x[:1], x_hat[:1], w),
        lambda x, x_hat, w: ((x - x_hat).sum(-1) ** 2 * w.mean()).mean(),
    ],
    "best_linear_loss": [
        lambda m, p, w: toy.best_linear_loss(m + 1, p, w),
        lambda m, p, w: toy.best_linear_loss(m, p, w) * len(w),
        lambda m, p, w: toy.best_linear_loss(m, p, w**2),
        lambda m, p, w: float(w.sort().values[:-m].sum()) * (p / 3 - p * p / 4),  # m = 0
        lambda m, p, w: toy.best_linear_loss(m, p, w) + 0.001,
        lambda m, p, w: float(w.sort(descending=True).values[m:].sum()) * (p / 3 - p * p / 2),
    ],
    "interference": [
        lambda W: toy.interference(W) / W.square().sum(0).clamp(min=1e-9),
        lambda W: toy.interference(W).mean().expand(W.shape[1]),
        lambda W: toy.interference(W) * (W.norm(dim=0) > 1),
        lambda W: toy.interference(W).sort().values,
        lambda W: toy.interference(W / W.norm()),
    ],
    "feature_dimensionality": [
        _unbatched,
        lambda W: toy.feature_dimensionality(W).sqrt(),
        lambda W: torch.full((W.shape[1],), W.shape[0] / W.shape[1]),
        lambda W: toy.feature_dimensionality(W / W.norm(dim=0).clamp(min=1e-9)),
        lambda W: 1 / (1 + toy.interference(W)),
        lambda W: torch.where(W.norm(dim=0) > 0, toy.feature_dimensionality(W), 1.0),
    ],
    "paired_features": [
        lambda batch, n, p, together, seed: _pairs(batch, n, p, together, seed).roll(1, dims=1),
        lambda batch, n, p, together, seed: _pairs(batch, n, p * 0.8, together, seed),
        lambda batch, n, p, together, seed: _pairs(batch, n, p, together, seed) ** 2,
        lambda batch, n, p, together, seed: _pairs(batch, n, p, together, seed).sort(dim=0).values,
        lambda batch, n, p, together, seed: _pairs((batch + 1) // 2, n, p, together, seed).repeat(2, 1)[:batch],
        lambda batch, n, p, together, seed: _pairs(batch, 1, p, together, seed).repeat(1, n),
        lambda batch, n, p, together, seed: _pairs(batch, n, p, together, seed).round(decimals=1),
        lambda batch, n, p, together, seed: _pairs(batch, n, round(p), together, seed),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_on_no_list_are_refused(name):
    exercise = lessons.load("superposition").exercise(name)
    for seed in (0, 1, 2):
        for i, wrong in enumerate(WRONG[name]):
            verdict = check_exercise(exercise, wrong, seed=seed)
            assert verdict.status in ("wrong", "crashed"), f"{name} {i}, seed {seed}"
            assert "checker itself" not in verdict.message


# ---------------------------------------------------------------------------------------------------------------------
# The outcome


def _changed(change):
    """A well-trained model, with something done to it afterwards."""

    def train(n, m, p, importance, seed):
        made = toy.train_toy(n, m, p, importance, seed)
        return change(made["W"], made["b"])

    return train


NO_MODEL = {
    "a tuple": (_changed(lambda W, b: (W, b)), "tuple"),
    "no bias in it": (_changed(lambda W, b: {"W": W}), "dict with ['W']"),
    "other names": (_changed(lambda W, b: {"w": W, "b": b}), "dict with ['b', 'w']"),
    "a row of biases": (_changed(lambda W, b: {"W": W, "b": b[None]}), "has shape (1, 6), expected (6,)"),
    "a batch of models": (_changed(lambda W, b: {"W": W[None], "b": b}), "W has shape (1, 3, 6)"),
    "whole numbers": (_changed(lambda W, b: {"W": W.round().long(), "b": b}), "W has torch.int64"),
    "NaN": (_changed(lambda W, b: {"W": W * torch.nan, "b": b}), "diverged"),
    "lists": (_changed(lambda W, b: {"W": W.tolist(), "b": b.tolist()}), "W is a list"),
}


@pytest.mark.parametrize("name", NO_MODEL)
def test_what_is_no_model_is_said_in_words(name):
    answer, words = NO_MODEL[name]
    verdict = check_exercise(lessons.load("superposition").exercise("train_toy"), answer, size="small")
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message


def _few_steps(*args):
    n, m, p, importance, seed = args
    *_, last = toy.training(n, m, [p], importance, seed, steps=15, every=15, lr=0.01)
    return {"W": last.W[0], "b": last.b[0]}


def _one_batch_for_ever(n, m, p, importance, seed):
    x = toy.sample_features(24, n, p, seed)
    W = (torch.randn(m, n, generator=torch.Generator().manual_seed(seed)) * 0.4).requires_grad_()
    b = torch.zeros(n, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=0.03)
    for _ in range(300):
        loss = toy.importance_loss(x, toy.toy_forward(x, W, b), importance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"W": W, "b": b}


POOR = {
    "too few steps": _few_steps,
    "one small batch for ever": _one_batch_for_ever,
    "unit columns": _changed(lambda W, b: {"W": W / W.norm(dim=0).clamp(min=1e-6), "b": b}),
    "features shuffled": _changed(lambda W, b: {"W": W.roll(1, 1) + 0.0, "b": b.roll(2) - 0.1}),
    "bias of the wrong sign": _changed(lambda W, b: {"W": W, "b": -b + 0.1}),
    "half the weights": _changed(lambda W, b: {"W": W / 2, "b": b}),
    "one feature of each pair": _changed(lambda W, b: {"W": W * (torch.arange(W.shape[1]) < W.shape[0]), "b": b}),
}


@pytest.mark.parametrize("name", POOR)
def test_poor_models_are_refused(name):
    verdict = check_exercise(lessons.load("superposition").exercise("train_toy"), POOR[name], size="small")
    assert verdict.status == "wrong"
    assert verdict.details[0].earned == 0  # the other parts may be met by symmetry


def test_the_bound_is_told_in_numbers():
    verdict = check_exercise(lessons.load("superposition").exercise("train_toy"), _few_steps, size="small")
    assert verdict.mistake is None
    assert "the best linear solution has" in verdict.message
    assert "0.5 times that is asked" in verdict.message


def test_the_full_form_passes_what_the_small_one_does():
    assert check_exercise(lessons.load("superposition").exercise("train_toy"), toy.train_toy, size="full").passed
