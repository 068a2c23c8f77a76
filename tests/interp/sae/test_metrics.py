"""Metrics against loops, laws and numbers worked out by hand."""

from __future__ import annotations

import doctest
import itertools
import math

import pytest
import torch

from mi_course.interp.sae import metrics


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_examples_in_the_docstrings():
    result = doctest.testmod(metrics)
    assert result.attempted >= 5
    assert result.failed == 0


def test_l0_counts_what_is_above_zero_per_token():
    f = draw(3, 5, 7).relu() + 0.0
    counts = [sum(float(v) > 0 for v in row) for row in f.reshape(-1, 7)]
    assert metrics.l0(f) == pytest.approx(sum(counts) / 15)
    assert metrics.l0(-f) == 0


def test_explained_variance_by_hand():
    x, x_hat = draw(6, 3), draw(6, 3, seed=1)
    mean = [sum(float(x[i, j]) for i in range(6)) / 6 for j in range(3)]
    error = sum((float(x[i, j]) - float(x_hat[i, j])) ** 2 for i in range(6) for j in range(3))
    variance = sum((float(x[i, j]) - mean[j]) ** 2 for i in range(6) for j in range(3))
    assert metrics.explained_variance(x, x_hat) == pytest.approx(1 - error / variance)
    assert metrics.explained_variance(x, x) == 1
    assert metrics.explained_variance(x, x.mean(0).expand_as(x)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no variance"):
        metrics.explained_variance(torch.ones(4, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"\(6, 3\) and x_hat \(5, 3\)"):
        metrics.explained_variance(x, x_hat[:5])


def test_the_variants_of_explained_variance_disagree_where_they_should():
    x = draw(400, 8) * torch.linspace(0.1, 3, 8) + 2
    good = x + 0.3 * draw(400, 8, seed=1)
    right = metrics.explained_variance(x, good)
    variants = metrics.explained_variance_variants(x, good)
    assert next(iter(variants)) == "of the whole"
    assert variants["of the whole"] == right
    assert len({round(v, 3) for v in variants.values()}) >= 4

    shifted = metrics.explained_variance_variants(x, good + 1)
    assert shifted["variance of the error"] == pytest.approx(variants["variance of the error"])
    assert shifted["of the whole"] < right - 0.1
    assert metrics.explained_variance_variants(x + 100, good + 100)["not centred"] > 0.9999
    assert variants["mean over dimensions"] < right, "the smallest dimension counts in full"

    from sklearn.metrics import r2_score

    assert variants["mean over dimensions"] == pytest.approx(r2_score(x, good), abs=1e-5)
    assert right == pytest.approx(r2_score(x, good, multioutput="variance_weighted"), abs=1e-5)


def test_shrinkage_is_the_factor_that_fits_best():
    x = draw(50, 4)
    x_hat = 0.6 * x + 0.1 * draw(50, 4, seed=1)
    gamma = metrics.shrinkage(x, x_hat)
    at = {g: float((x_hat / g - x).square().sum()) for g in (gamma, gamma * 0.999, gamma * 1.001)}
    assert min(at, key=at.get) == gamma
    assert metrics.shrinkage(x, 0.6 * x) == pytest.approx(0.6)
    # A large mean hides it.
    mean = 30.0
    assert metrics.shrinkage(x + mean, 0.6 * x + mean) > 0.99
    with pytest.raises(ValueError, match="zero everywhere"):
        metrics.shrinkage(x, torch.zeros_like(x))
    with pytest.raises(ValueError, match="orthogonal"):
        metrics.shrinkage(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))


def test_loss_recovered_has_its_endpoints():
    assert metrics.loss_recovered(3.0, 3.0, 11.0) == 1
    assert metrics.loss_recovered(3.0, 11.0, 11.0) == 0
    assert metrics.loss_recovered(3.0, 12.0, 11.0) < 0
    with pytest.raises(ValueError, match="nothing was lost"):
        metrics.loss_recovered(3.0, 4.0, 3.0)


def test_dead_latents_look_at_all_batches():
    batches = [torch.zeros(3, 4), torch.zeros(5, 4)]
    batches[0][2, 1] = 0.1
    batches[1][0, 3] = 2.0
    assert metrics.dead_latents(batches).tolist() == [True, False, True, False]
    assert metrics.dead_latents(iter(batches)).tolist() == [True, False, True, False]
    assert metrics.density(batches).tolist() == [0, 1 / 8, 0, 1 / 8]
    with pytest.raises(ValueError, match="no batches"):
        metrics.dead_latents([])
    with pytest.raises(ValueError, match="5 latents, the ones before had 4"):
        metrics.dead_latents([torch.zeros(3, 4), torch.zeros(3, 5)])


def test_the_firing_window_counts_tokens_since_the_last_firing():
    fires = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.0, 0.02, 0.1, 0.5, 1.0])
    window = metrics.FiringWindow(5, window=20)
    for chunk in fires.float().split([7, 1, 0, 30, 22]):
        window.update(chunk)
    for latent, column in enumerate(fires.T.tolist()):
        last = max((i for i, fired in enumerate(column) if fired), default=-1)
        assert int(window.inactive_for[latent]) == 59 - last
    assert window.dead().tolist() == [s >= 20 for s in window.inactive_for.tolist()]
    assert window.dead()[0]
    assert not window.dead()[4]
    assert window.share() == sum(window.dead().tolist()) / 5


def test_the_density_histogram_counts_every_latent_once():
    share = torch.tensor([0.0, 1e-9, 1e-6, 1e-3, 0.5, 1.0, 0.0])
    histogram = metrics.density_histogram(share, bins=6)
    assert histogram.never == 2
    assert int(histogram.counts.sum()) + histogram.never == len(share)
    assert histogram.counts.tolist() == [2, 0, 0, 1, 0, 2]
    assert histogram.edges.tolist() == pytest.approx([-6, -5, -4, -3, -2, -1, 0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.density_histogram(torch.tensor([2.0]))


def test_mean_max_cosine_is_signed_and_per_dictionary_row():
    dictionary, W_dec = draw(5, 4), draw(9, 4, seed=1)
    best = [max(float(torch.cosine_similarity(w, g, dim=0)) for w in W_dec) for g in dictionary]
    assert metrics.mean_max_cosine(W_dec, dictionary) == pytest.approx(sum(best) / 5, abs=1e-6)
    assert metrics.mean_max_cosine(7 * dictionary.flip(0), dictionary) == pytest.approx(1)
    assert metrics.mean_max_cosine(-dictionary[:1], dictionary[:1]) == pytest.approx(-1)
    with_zero = torch.stack([-dictionary[0], torch.zeros(4)])
    assert metrics.mean_max_cosine(with_zero, dictionary[:1]) == 0
    with pytest.raises(ValueError, match="rows of 3 numbers and the dictionary of 4"):
        metrics.mean_max_cosine(draw(2, 3), dictionary)


@pytest.mark.parametrize(("n_latents", "n_rows"), [(6, 4), (4, 4), (3, 5)])
def test_the_matching_is_the_best_of_all_assignments(n_latents, n_rows):
    W_dec, dictionary = draw(n_latents, 3), draw(n_rows, 3, seed=1)
    cosines = torch.nn.functional.normalize(W_dec, dim=1) @ torch.nn.functional.normalize(dictionary, dim=1).T
    matching = metrics.match_dictionary(W_dec, dictionary)
    pairs = [(int(latent), row) for row, latent in enumerate(matching.latents) if latent >= 0]
    assert len({latent for latent, _ in pairs}) == len(pairs) == min(n_latents, n_rows)
    if n_latents >= n_rows:
        best = max(
            sum(float(cosines[latent, row]) for row, latent in enumerate(choice))
            for choice in itertools.permutations(range(n_latents), n_rows)
        )
    else:
        best = max(
            sum(float(cosines[latent, row]) for latent, row in enumerate(choice))
            for choice in itertools.permutations(range(n_rows), n_latents)
        )
    assert float(matching.cosines.sum()) == pytest.approx(best, abs=1e-6)
    assert math.isclose(matching.mean * n_rows, best, abs_tol=1e-6)


def test_one_latent_cannot_stand_for_two_rows():
    dictionary = torch.eye(4)
    twice = torch.eye(4)[[0, 0, 2, 3]]
    matching = metrics.match_dictionary(twice, dictionary)
    assert matching.recovered() == 0.75
    assert matching.latents[2] == 2
    both = torch.stack([torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.zeros(4)])
    assert metrics.mean_max_cosine(both, dictionary[:2]) == pytest.approx(0.5**0.5)
    assert metrics.match_dictionary(both, dictionary[:2]).mean == pytest.approx(0.5**0.5 / 2)
