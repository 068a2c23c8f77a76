"""Planted data is what it says it is, and absorption is seen where it was built in, and only there."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from mi_course.interp.sae import (
    SAEConfig,
    absorption,
    planted,
    planted_activations,
    planted_dictionary,
    planted_hierarchy,
    train,
)


def test_examples_in_the_docstrings():
    assert doctest.testmod(planted).failed == 0


def test_rows_are_sparse_mixtures_of_unit_directions():
    dictionary = planted_dictionary(40, 16, seed=3)
    assert torch.allclose(dictionary.norm(dim=1), torch.ones(40))
    assert torch.equal(dictionary, planted_dictionary(40, 16, seed=3))
    bias = torch.arange(16.0)
    data = planted_activations(dictionary, 4000, 0.1, seed=5, bias=bias)
    again = planted_activations(dictionary, 4000, 0.1, seed=5, bias=bias)
    other = planted_activations(dictionary, 4000, 0.1, seed=6, bias=bias)
    assert torch.equal(data.x, again.x)
    assert not torch.equal(data.x, other.x)
    assert torch.allclose(data.x, data.codes @ data.dictionary + data.bias)
    present = data.codes > 0
    # Ten standard errors.
    assert abs(float(present.double().mean()) - 0.1) < 10 * math.sqrt(0.1 * 0.9 / present.numel())
    assert float(torch.corrcoef(present.T.double()).fill_diagonal_(0).abs().max()) < 0.2
    assert 0.5 <= float(data.codes[present].min()) < 0.52 < 1.48 < float(data.codes.max()) <= 1.5


def test_probabilities_may_differ_and_noise_is_added():
    dictionary = planted_dictionary(3, 8, seed=0)
    data = planted_activations(dictionary, 5000, torch.tensor([0.0, 0.5, 1.0]), seed=0, noise=0.1)
    rates = (data.codes > 0).double().mean(0)
    assert rates[0] == 0
    assert abs(float(rates[1]) - 0.5) < 0.05
    assert rates[2] == 1
    rest = data.x - data.codes @ dictionary
    assert abs(float(rest.std()) - 0.1) < 0.01
    with pytest.raises(ValueError, match="0 to 1"):
        planted_activations(dictionary, 10, 1.5, seed=0)
    with pytest.raises(ValueError, match="not negative"):
        planted_activations(dictionary, 10, 0.5, seed=0, magnitude=(-1, 1))


def test_children_come_with_their_parents_only():
    dictionary = planted_dictionary(5, 8, seed=0)
    parents = (None, 0, 0, None, 1)
    data = planted_hierarchy(dictionary, parents, 20_000, 0.3, 0.5, seed=1)
    present = data.codes > 0
    for child, parent in enumerate(parents):
        if parent is None:
            assert abs(float(present[:, child].double().mean()) - 0.3) < 0.03
        else:
            assert not bool((present[:, child] & ~present[:, parent]).any())
            assert abs(float(present[present[:, parent], child].double().mean()) - 0.5) < 0.05
    with pytest.raises(ValueError, match=r"parents\[0\] is 1"):
        planted_hierarchy(dictionary[:2], (1, None), 10, 0.3, 0.5, seed=1)
    with pytest.raises(ValueError, match="1 parents for 2 features"):
        planted_hierarchy(dictionary[:2], (None,), 10, 0.3, 0.5, seed=1)


def test_absorption_is_seen_where_it_was_built_in():
    dictionary = torch.eye(8)[:4]
    parents = (None, 0, 0, None)
    data = planted_hierarchy(dictionary, parents, 5000, 0.4, 0.3, seed=0)
    honest = absorption(data.codes, dictionary, data.codes, dictionary, parents)
    assert [(a.child, a.parent, a.latent) for a in honest] == [(1, 0, 0), (2, 0, 0)]
    assert all(a.absorbed == 0 and a.missed == 0 for a in honest)

    # The latent of child 1 says parent and child; the parent's own latent then keeps quiet.
    f, W_dec = data.codes.clone(), dictionary.clone()
    W_dec[1] = dictionary[0] + dictionary[1]
    f[:, 0] = data.codes[:, 0] * (data.codes[:, 1] == 0)
    assert torch.allclose(f @ W_dec, data.x), "the reconstruction is still perfect"
    first, second = absorption(f, W_dec, data.codes, dictionary, parents)
    assert first.absorbed == 1
    assert first.missed == 0
    assert 0 < second.absorbed < 0.5, "only where both children are present"

    # A parent that is missing everywhere is not absorbed by anyone.
    f = data.codes.clone()
    f[:, 0] = 0
    lost = absorption(f, dictionary, data.codes, dictionary, parents)
    assert all(a.absorbed == 0 and a.missed == 1 for a in lost)


def test_a_trained_sae_absorbs_what_an_l1_penalty_rewards():
    """A ReLU SAE as wide as the hierarchy: the parent's latent falls silent where the child is, and only there."""
    dictionary = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))[0][:6]
    parents = (None, 0, 0, None, 3, None)
    x = planted_hierarchy(dictionary, parents, 20_000, 0.2, 0.3, seed=1).x
    config = SAEConfig(d_in=20, n_latents=6, architecture="relu", k=1, l1=0.3, steps=1000, batch=1024, lr=3e-3)
    sae = train(config, x)
    fresh = planted_hierarchy(dictionary, parents, 4000, 0.2, 0.3, seed=2)
    results = absorption(sae.encode(fresh.x), sae.W_dec, fresh.codes, dictionary, parents)
    assert max(a.absorbed for a in results) > 0.8
    assert min(a.missed for a in results) < 0.1


def test_absorption_refuses_what_does_not_fit():
    codes, dictionary = torch.ones(4, 2), torch.eye(3)[:2]
    with pytest.raises(ValueError, match="parents 1"):
        absorption(codes, dictionary, codes, dictionary, (None,))
    with pytest.raises(ValueError, match="present in no row"):
        absorption(codes, dictionary, torch.tensor([[1.0, 0.0]] * 4), dictionary, (None, 0))
