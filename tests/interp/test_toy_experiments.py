"""The experiments of lesson 05 measure what they say, and hold with other seeds."""

from __future__ import annotations

import doctest

import pytest
import torch

from mi_course.interp import toy_experiments as toys
from mi_course.interp.superposition import interference, sample_features
from mi_course.testing.answers import reference


def test_examples_in_the_docstrings():
    assert doctest.testmod(toys, extraglobs={"torch": torch}).failed == 0


def test_the_noise_is_an_identity_for_any_directions():
    """So it says nothing about a model: the lesson's control."""
    W = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    x = sample_features(200_000, 9, 0.1, seed=1)
    ratio = toys.noise_ratio(W, x, interference(W), variance=0.1 / 3 - 0.1**2 / 4)
    assert float((ratio - 1).abs().max()) < 0.05


def test_the_negative_side():
    assert toys.on_the_negative_side(torch.tensor([[1.0, -1.0]])) == 1
    assert toys.on_the_negative_side(torch.tensor([[1.0, 1.0]])) == 0
    short = torch.tensor([[1.0, -1.0, 0.4]])  # the third is left out
    assert toys.on_the_negative_side(short) == 1


def test_cosines_of_pairs():
    W = torch.tensor([[[1.0, -2.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.0]]])  # the last feature is not kept
    within, across = toys.pair_cosines(W)
    assert within.tolist() == [-1.0]
    assert across.tolist() == [0.0, 0.0]


def test_nearest_cosines_leave_the_vector_itself_out():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert toys.nearest_cosines(vectors, [0, 2]).tolist() == [1.0, 0.0]


def test_the_control_has_the_same_covariance():
    mixed = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        5, 5, generator=torch.Generator().manual_seed(1)
    )
    control = toys.matched_control(mixed + 3.0, seed=2)
    assert torch.allclose(control.mean(0), mixed.mean(0) + 3.0, atol=0.3)
    assert torch.allclose(control.T.cov(), mixed.T.cov(), rtol=0.2, atol=0.4)


def test_errors_by_company():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    x_hat = torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    assert toys.mean_squared_error(x, x_hat, torch.eye(2), most=2) == [0.25, 0.5]


def test_the_controls_of_neighbors():
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 1, 1, 1, 1, 0.1]) + 3
    found = toys.beside_random(vectors, [0, 7])
    assert torch.equal(found["tokens of SmolLM2"], toys.nearest_cosines(vectors - vectors.mean(0), [0, 7]))
    assert [len(values) for values in found.values()] == [2, 2, 2]


@pytest.mark.measured
@pytest.mark.parametrize("seed", [2, 3])
def test_company_decides_who_stands_against_whom_from_other_seeds(seed):
    """What the lesson's section 7 concludes."""
    paired = reference("superposition.paired_features")

    def crowd(together):
        return toys.train_pairs(lambda rows, s: paired(rows, 3, 0.3, together, s), 3, 2, starts=16, seed=seed)

    assert float((crowd(True) > 0.2).float().mean()) > 0.7
    assert float((crowd(True) < -0.8).float().mean()) < 0.05
    assert float((crowd(False) < -0.8).float().mean()) > 0.9
    control = toys.train_pairs(lambda rows, s: sample_features(rows, 6, 0.3, s), 3, 2, starts=16, seed=seed)
    assert float((control < -0.8).float().mean()) < 0.6
    assert float((control > 0.2).float().mean()) < 0.25


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_the_plateaus_from_other_seeds(seed):
    """What the lesson's section 5 concludes: a half from 2 to 3, a quarter from 12 on."""
    scarcity = [2, 2.4, 3, 12, 20, 40]
    *_, last = toys.training(40, 10, [1 / d for d in scarcity], torch.ones(40), seed, steps=2000, every=2000, lr=0.02)
    for rare, W in zip(scarcity, last.W, strict=True):
        D = toys.feature_dimensionality(W)[W.norm(dim=0) ** 2 > 0.15]
        assert abs(float(D.median()) - (0.5 if rare < 4 else 0.25)) < 0.02


@pytest.mark.measured
@pytest.mark.parametrize("seed", [3, 4])
def test_training_puts_interference_where_the_relu_removes_it(seed):
    *_, last = toys.training(20, 5, [0.3, 0.1], 0.9 ** torch.arange(20.0), seed, steps=1500, every=1500)
    for W in last.W:
        trained, mean, most = toys.sides(W)
        assert trained > most
        assert 0.3 < mean < 0.7


def test_directions_are_tuned_each_for_itself():
    """A pentagon with a bias and lengths of its own beats random directions with theirs, where features are sparse."""
    angles = torch.arange(5) * 2 * torch.pi / 5
    pentagon = 3.0 * torch.stack([angles.cos(), angles.sin()])  # the lengths do not matter: they are trained
    random = toys.random_directions(pentagon, 4, seed=0)
    both = toys.tuned(torch.cat([pentagon[None], random])[None], [0.05], steps=200)
    assert both.shape == (5, 1)
    assert both[0, 0] < 0.3
    assert bool((both[1:, 0] > both[0, 0]).all())
