"""Toy models of superposition: known geometries, laws that must hold, and training that finds what it should."""

from __future__ import annotations

import math

import pytest
import torch

from mi_course.interp import superposition as toy


def polygon(n: int, length: float = 1.0) -> torch.Tensor:
    angles = torch.arange(n) * 2 * math.pi / n
    return length * torch.stack([angles.cos(), angles.sin()])


TETRAHEDRON = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / math.sqrt(3)
PAIR = torch.tensor([[1.0, -1.0]])


@pytest.mark.parametrize(
    ("W", "share", "name"),
    [
        (torch.eye(1), 1, "alone"),
        (PAIR, 1 / 2, "antipodal pair"),
        (polygon(3), 2 / 3, "triangle"),
        (polygon(5, 0.7), 2 / 5, "pentagon"),
        (TETRAHEDRON, 3 / 4, "tetrahedron"),
        (torch.cat([torch.eye(3), -torch.eye(3)], 1), 1 / 2, "octahedron"),
    ],
)
def test_known_shapes(W, share, name):
    assert toy.feature_dimensionality(W) == pytest.approx([share] * W.shape[1], abs=1e-5)
    assert toy.shape_of(W, range(W.shape[1])) == name
    # Dimensionality and interference say the same in two ways.
    squares = W.square().sum(0)
    assert torch.allclose(toy.interference(W), squares / share - squares, atol=1e-5)


def test_the_octahedron_is_three_groups_and_the_tetrahedron_one():
    assert toy.feature_groups(torch.cat([torch.eye(3), -torch.eye(3)], 1), 0.2) == [[0, 3], [1, 4], [2, 5]]
    assert toy.feature_groups(TETRAHEDRON, 0.2) == [[0, 1, 2, 3]]
    assert toy.feature_groups(torch.zeros(2, 3), 0.2) == []


def test_absent_features_link_nothing_and_have_no_dimensionality():
    W = torch.tensor([[2.0, 0.3, 0.0], [0.0, 0.3, 2.0]])
    assert toy.feature_groups(W, 0.2) == [[0], [2]]
    assert toy.feature_groups(W, 0.1) == [[0, 1, 2]]
    W[:, 1] = 0
    assert toy.feature_dimensionality(W).tolist() == [1, 0, 1]
    assert toy.interference(W).tolist() == [0, 0, 0]


def test_thousands_of_features_need_no_table_of_pairs():
    W = torch.randn(20, 60_000, generator=torch.Generator().manual_seed(0))
    assert float(toy.feature_dimensionality(W).sum()) == pytest.approx(20, rel=0.05)


def test_no_linear_model_beats_the_best_linear_loss():
    importance = torch.tensor([0.5, 2.0, 1.0, 0.7])
    p = 0.3
    bound = toy.best_linear_loss(2, p, importance)
    *_, last = toy.training(4, 2, [p] * 6, importance, seed=1, steps=800, every=800, relu=False)
    x = toy.sample_features(100_000, 4, p, seed=2)
    losses = [float(toy.importance_loss(x, x @ W.T @ W + b, importance)) for W, b in zip(last.W, last.b, strict=True)]
    assert min(losses) == pytest.approx(bound, rel=0.05)
    assert min(losses) > 0.97 * bound


def test_the_gradient_written_out_is_autograds():
    importance = torch.tensor([1.0, 0.5, 0.3, 0.8])
    runs = toy.training(4, 2, [0.6, 0.6], importance, seed=3, steps=1, every=1, batch=64, lr=0.1)
    first, second = next(runs), next(runs)
    # The first step of Adam is the sign of the gradient times the learning rate, wherever the gradient is not tiny.
    generator = torch.Generator().manual_seed(3)
    torch.randn(2, 2, 4, generator=generator)
    x = (torch.rand(2, 64, 4, generator=generator) < 0.6) * torch.rand(2, 64, 4, generator=generator)
    for k in range(2):
        W, b = first.W[k].clone().requires_grad_(), first.b[k].clone().requires_grad_()
        toy.importance_loss(x[k], toy.toy_forward(x[k], W, b), importance).backward()
        for before, after, gradient in ((first.W[k], second.W[k], W.grad), (first.b[k], second.b[k], b.grad)):
            assert torch.allclose(after - before, -0.1 * gradient.sign(), atol=1e-3)
        assert float(first.loss[k]) == pytest.approx(
            float(toy.importance_loss(x[k], toy.toy_forward(x[k], first.W[k], first.b[k]), importance)), rel=1e-4
        )


def test_training_is_reproducible_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    args = (5, 2, 0.1, torch.ones(5))
    one, again, other = (toy.train_toy(*args, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one["W"], again["W"])
    assert not torch.equal(one["W"], other["W"])
    assert one["W"].shape == (2, 5)
    assert one["b"].shape == (5,)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sparse_features_make_a_pentagon_and_dense_ones_do_not(seed):
    sparse = toy.train_toy(5, 2, 0.1, torch.ones(5), seed)["W"]
    assert [toy.shape_of(sparse, group) for group in toy.feature_groups(sparse, 0.2)] == ["pentagon"]
    dense = toy.train_toy(5, 2, 1.0, 0.7 ** torch.arange(5.0), seed)["W"]
    assert toy.feature_groups(dense, 0.2) == [[0], [1]]


@pytest.mark.parametrize("hidden", [2, 3, 4])
def test_upright_changes_no_product_and_puts_the_first_feature_up(hidden):
    W = torch.randn(hidden, 6, generator=torch.Generator().manual_seed(hidden))
    turned = toy.upright(W, range(hidden))
    assert torch.allclose(turned.T @ turned, W.T @ W, atol=1e-5)
    assert torch.allclose(turned[:-1, 0], torch.zeros(hidden - 1), atol=1e-5)
    assert float(turned[-1, 0]) > 0


def test_probability_one_is_dense_and_zero_is_empty():
    assert (toy.sample_features(50, 4, 1.0, 0) > 0).all()
    assert not toy.sample_features(50, 4, 0.0, 0).any()
