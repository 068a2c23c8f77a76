"""Directions and controls compared with loops and planted data, and laws that must hold."""

from __future__ import annotations

import math

import pytest
import torch

from mi_course.interp.steering import (
    cosine_similarities,
    cross_validated_accuracy,
    difference_of_means,
    logistic_probe,
    mass_mean_probe,
    matched_controls,
    pca_direction,
    probe_accuracy,
    random_controls,
    shuffle_controls,
    shuffled_labels,
)

SEEDS = range(3)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(seed: int, n: int = 40, d: int = 12, shift: float = 4.0):
    generator = rng(seed)
    direction = torch.nn.functional.normalize(torch.randn(d, generator=generator), dim=0)
    y = torch.arange(n) % 2 == 0
    x = torch.randn(n, d, generator=generator) + 5 + shift * y[:, None] * direction
    return x, y, direction


@pytest.mark.parametrize("seed", SEEDS)
def test_difference_of_means_is_a_loop(seed):
    a, b = torch.randn(4, 3, generator=rng(seed)), torch.randn(7, 3, generator=rng(seed + 9))
    got = difference_of_means(a, b)
    for j in range(3):
        want = sum(a[:, j].tolist()) / 4 - sum(b[:, j].tolist()) / 7
        assert float(got[j]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_pca_finds_the_shift_that_centring_would_remove(seed):
    shift = torch.nn.functional.normalize(torch.randn(30, generator=rng(seed)), dim=0)
    differences = -6 * shift + 0.3 * torch.randn(50, 30, generator=rng(seed + 1))
    got = pca_direction(differences)
    assert float(got.norm()) == pytest.approx(1, abs=1e-5)
    assert float(got @ -shift) > 0.999
    # the largest eigenvector of DᵀD, by power iteration
    power = torch.ones(30)
    for _ in range(500):
        power = differences.T @ (differences @ power)
        power = power / power.norm()
    assert abs(float(power @ got)) > 0.999


def test_pca_has_a_fixed_sign_even_without_a_mean():
    differences = torch.tensor([[1.0, -3.0], [-1.0, 3.0]])
    assert pca_direction(differences).tolist() == pytest.approx([-1 / math.sqrt(10), 3 / math.sqrt(10)])
    with pytest.raises(ValueError, match="zero"):
        pca_direction(torch.zeros(3, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_mass_mean_probe_asks_which_mean_is_nearer(seed):
    x, y, _ = planted(seed)
    w, b = mass_mean_probe(x, y)
    up, down = x[y].mean(0), x[~y].mean(0)
    for row in x:
        assert bool(row @ w + b > 0) == bool((row - up).norm() < (row - down).norm())


@pytest.mark.parametrize("seed", SEEDS)
def test_both_probes_find_planted_classes_and_no_shuffled_ones(seed):
    x, y, direction = planted(seed, n=200, shift=6.0)
    for fit in (mass_mean_probe, logistic_probe):
        w, _ = fit(x, y)
        assert float(torch.nn.functional.cosine_similarity(w, direction, dim=0)) > 0.8
        assert cross_validated_accuracy(fit, x, y) > 0.97
        shuffled = [cross_validated_accuracy(fit, x, s) for s in shuffled_labels(y, 6, seed)]
        assert 0.35 < sum(shuffled) / 6 < 0.65


def test_noise_looks_like_knowledge_on_the_rows_it_was_fitted_on():
    labels, held_out = torch.arange(20) < 10, []
    for seed in range(8):
        noise = torch.randn(20, 50, generator=rng(seed))
        assert probe_accuracy(*logistic_probe(noise, labels), noise, labels) == 1.0
        held_out.append(cross_validated_accuracy(logistic_probe, noise, labels))
    assert 0.3 < sum(held_out) / 8 < 0.7


def test_logistic_probe_is_scikit_learns_on_scaled_data():
    from sklearn.linear_model import LogisticRegression

    x, y, _ = planted(0)
    w, b = logistic_probe(x, y)
    scale = math.sqrt(float((x - x.mean(0)).pow(2).mean()))
    theirs = LogisticRegression(max_iter=2000).fit((x / scale).double().numpy(), y.numpy())
    assert torch.equal(x @ w + b > 0, torch.as_tensor(theirs.predict((x / scale).double().numpy())))
    scaled, _ = logistic_probe(1000 * x, y)
    torch.testing.assert_close(scaled * 1000, w, rtol=1e-3, atol=1e-4)


def test_probe_accuracy_is_a_count():
    x, y, _ = planted(1)
    w, b = torch.randn(12, generator=rng(5)), -3.0
    right = sum(
        bool(sum(p * q for p, q in zip(row, w.tolist(), strict=True)) + b > 0) == t
        for row, t in zip(x.tolist(), y.tolist(), strict=True)
    )
    assert probe_accuracy(w, b, x, y) == pytest.approx(right / 40)


def test_groups_are_never_on_both_sides():
    x, y, _ = planted(0, n=40)
    groups = [i // 4 for i in range(40)]
    tested: list[set[float]] = []

    def fit(a, b):
        seen = {round(float(v), 4) for v in a[:, 0]}
        left_out = {g for g, row in zip(groups, x, strict=True) if round(float(row[0]), 4) not in seen}
        kept = {g for g, row in zip(groups, x, strict=True) if round(float(row[0]), 4) in seen}
        assert not left_out & kept
        tested.append(left_out)
        return mass_mean_probe(a, b)

    cross_validated_accuracy(fit, x, y, groups=groups)
    assert sorted(g for fold in tested for g in fold) == list(range(10))


def test_memorising_entities_helps_only_without_groups():
    # Each entity has a random label and stands in two rows that are nearly equal.
    generator = rng(0)
    entity = torch.randn(30, 60, generator=generator)
    labels = torch.rand(30, generator=generator) < 0.5
    x = entity.repeat_interleave(2, 0) + 0.01 * torch.randn(60, 60, generator=generator)
    y, groups = labels.repeat_interleave(2), [i // 2 for i in range(60)]
    assert cross_validated_accuracy(logistic_probe, x, y) > 0.8
    assert cross_validated_accuracy(logistic_probe, x, y, groups=groups) < 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_similarities_are_a_loop(seed):
    vectors = torch.randn(4, 6, generator=rng(seed))
    vectors[2] = 0
    got = cosine_similarities(vectors)
    for i in range(4):
        for j in range(4):
            a, b = vectors[i].tolist(), vectors[j].tolist()
            size = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
            want = sum(p * q for p, q in zip(a, b, strict=True)) / size if size else 0.0
            assert float(got[i, j]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_controls_are_independent_and_of_the_same_norm(seed):
    vector = torch.randn(400, generator=rng(seed)) * 7
    state = torch.random.get_rng_state()
    got = random_controls(vector, 30, seed + 100)  # the vector itself was drawn with `seed`
    assert torch.equal(state, torch.random.get_rng_state())
    torch.testing.assert_close(got.norm(dim=1), vector.norm().expand(30))
    cosines = cosine_similarities(torch.cat([vector[None], got])) - torch.eye(31)
    assert float(cosines.abs().max()) < 0.3
    assert torch.equal(got, random_controls(vector, 30, seed + 100))
    assert not torch.equal(got, random_controls(vector, 30, seed + 101))


def test_matched_controls_have_the_covariance_of_the_data():
    scales = torch.tensor([10.0, 3.0, 1.0, 0.3])
    x = torch.randn(3000, 4, generator=rng(0)) * scales + 100  # a mean that must not matter
    got = matched_controls(torch.tensor([0.0, 0.0, 0.0, 5.0]), x, 3000, seed=1)
    torch.testing.assert_close(got.norm(dim=1), torch.full((3000,), 5.0))
    raw = torch.randn(3000, 4, generator=rng(2)) * scales
    want = (5 * raw / raw.norm(dim=1, keepdim=True)).pow(2).mean(0)
    torch.testing.assert_close(got.pow(2).mean(0), want, rtol=0.2, atol=0.03)
    assert float(got.mean(0).norm()) < 0.5


@pytest.mark.parametrize(("yes", "no"), [(6, 6), (7, 7), (4, 8), (5, 3)])
def test_balanced_shuffles_hold_both_classes_alike(yes, no):
    labels = torch.tensor([True] * yes + [False] * no)
    got = shuffled_labels(labels, 200, seed=0)
    assert got.sum(1).tolist() == [yes] * 200
    exact = yes * yes / (yes + no)
    kept = got[:, :yes].sum(1).float()
    assert float((kept - exact).abs().max()) < 1
    assert float(kept.mean()) == pytest.approx(exact, abs=0.15)
    assert len({tuple(row) for row in got.tolist()}) > 10


def test_unbalanced_shuffles_carry_the_concept_and_balanced_ones_do_not():
    x, y, direction = planted(0, n=12, d=300, shift=20.0)
    balanced, unbalanced = (shuffle_controls(x, y, 50, 0, balanced=b) @ direction for b in (True, False))
    assert float(balanced.abs().max()) < 3
    assert float(unbalanced.abs().max()) > 10
    one = shuffle_controls(x, y, 1, 0)[0]
    s = shuffled_labels(y, 1, 0)[0]
    torch.testing.assert_close(one, x[s].mean(0) - x[~s].mean(0))
    torch.testing.assert_close(shuffle_controls(x, y, 5, 0, norm=2.0).norm(dim=1), torch.full((5,), 2.0))


def test_bad_input_is_named():
    x = torch.randn(4, 3)
    nan = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="positive is empty"):
        difference_of_means(x[:0], x)
    with pytest.raises(ValueError, match=r"negative holds NaN.*rows \[0\]"):
        difference_of_means(x[:, :2], nan)
    with pytest.raises(ValueError, match="labelled True"):
        mass_mean_probe(x, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="labelled False"):
        logistic_probe(x, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="one label for each"):
        mass_mean_probe(x, torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="5 folds"):
        cross_validated_accuracy(mass_mean_probe, x, torch.tensor([True, False, True, False]))
    with pytest.raises(ValueError, match="groups has 1"):
        cross_validated_accuracy(mass_mean_probe, x, torch.tensor([True, False, True, False]), groups=[1])
    with pytest.raises(ValueError, match="one class"):
        shuffled_labels(torch.ones(4, dtype=torch.bool), 2, 0)
    with pytest.raises(ValueError, match="NaN"):
        random_controls(nan[0], 2, 0)
    with pytest.raises(ValueError, match="list, expected a tensor"):
        random_controls([1.0], 2, 0)
