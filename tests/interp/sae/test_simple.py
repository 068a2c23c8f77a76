"""The readable trainer, and that the fast one takes the same steps."""

from __future__ import annotations

import inspect

import pytest
import torch

from mi_course.interp.sae import (
    SAEConfig,
    Trainer,
    mean_max_cosine,
    planted_activations,
    planted_dictionary,
    simple,
    train_simple,
)

DICTIONARY = planted_dictionary(32, 16, seed=0)
SETTINGS = {"relu": {"l1": 2.0}, "topk": {"k": 3}}


@pytest.fixture(scope="module")
def x():
    return 3.0 * planted_activations(DICTIONARY, 4000, 0.08, seed=1, bias=0.3, noise=0.02).x


@pytest.mark.parametrize("architecture", SETTINGS)
def test_the_fast_trainer_takes_the_same_steps(architecture, x):
    """In float64, from the same weights on the same batches: losses and weights agree to rounding over 20 steps."""
    x = x.double()
    options = {"steps": 20, "batch": 256, "lr": 1e-2, "decay": 8, "seed": 3, **SETTINGS[architecture]}
    config = SAEConfig(
        d_in=16, n_latents=48, architecture=architecture, normalize=False, clip=0, auxiliary=0, **options
    )
    losses = []
    trainer = Trainer(config, x, on_progress=lambda progress: losses.append(progress.loss), log_every=1)
    start = trainer.sae.tensors()
    expected_weights, expected_losses = train_simple(x, 48, start=start, **options)
    fast = trainer.run().tensors()
    assert losses == pytest.approx(expected_losses, rel=1e-9)
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(fast[name], tensor, rtol=1e-7, atol=1e-9, msg=name)
        assert not torch.allclose(tensor, start[name], rtol=1e-2), f"{name} was trained"


@pytest.mark.parametrize("architecture", SETTINGS)
def test_it_finds_a_planted_dictionary(architecture, x):
    weights, losses = train_simple(x, 48, steps=300, batch=256, lr=1e-2, decay=60, **SETTINGS[architecture])
    assert losses[-1] < 0.5 * losses[0]
    assert mean_max_cosine(weights["W_dec"], DICTIONARY) > 0.9
    f = simple.encode(x, weights, SETTINGS[architecture].get("k"))
    assert (f >= 0).all()
    assert (f > 0).sum(1).float().mean() < 8
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_the_seed_decides_and_nothing_else_changes(x):
    before, data = torch.get_rng_state(), x.clone()
    one, same, other = (train_simple(x, 20, k=2, steps=5, batch=100, seed=seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["W_enc"], other["W_enc"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, data)


def test_it_stays_short_enough_to_read():
    assert len(inspect.getsource(simple).splitlines()) <= 90
