"""The experiments of lesson 06 measure what they say, and hold with other seeds."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from mi_course.interp.sae import experiments as runs
from mi_course.interp.sae.metrics import mean_max_cosine
from mi_course.testing.answers import reference


def test_fit_keeps_what_is_frozen_and_scales_rows():
    seen, _ = runs.planted()
    encode, loss = reference("sae_training.encode"), reference("sae_training.sae_loss")
    start = runs.start(seen.x)
    frozen = runs.fit(encode, loss, seen.x, 0.5, steps=3, frozen=["b_enc"])
    assert torch.equal(frozen["b_enc"], start["b_enc"])
    assert not torch.equal(frozen["W_enc"], start["W_enc"])
    unit = runs.fit(encode, loss, seen.x, 0.5, steps=3, unit_rows=True)
    assert torch.allclose(unit["W_dec"].norm(dim=1), torch.ones(runs.LATENTS))
    free = runs.fit(encode, loss, seen.x, 0.5, steps=3)
    assert not torch.allclose(free["W_dec"].norm(dim=1), torch.ones(runs.LATENTS), atol=1e-4)


def test_resampling_is_that_of_bricken_et_al():
    seen, _ = runs.planted()
    generator = torch.Generator().manual_seed(0)
    sae = {name: tensor.requires_grad_() for name, tensor in runs.start(seen.x, n_latents=8).items()}
    optimizer = torch.optim.Adam(sae.values(), lr=0.01)
    ((seen.x[:64] - sae["b_dec"]) @ sae["W_enc"] @ sae["W_dec"] + sae["b_enc"].sum()).square().sum().backward()
    optimizer.step()
    before = {name: tensor.detach().clone() for name, tensor in sae.items()}
    dead = torch.tensor([False, True] * 4)
    with torch.no_grad():
        runs.resample(sae, optimizer, seen.x[:100], dead, reference("sae_training.topk_activation"), 2, generator)
    rows = normalize(seen.x[:100] - before["b_dec"], dim=1)
    assert torch.allclose((sae["W_dec"][dead] @ rows.T).amax(dim=1), torch.ones(4)), "each is one of the inputs"
    assert torch.allclose(normalize(sae["W_enc"].T[dead], dim=1), sae["W_dec"][dead], atol=1e-5)
    mean_norm = before["W_enc"].norm(dim=0)[~dead].mean()
    assert torch.allclose(sae["W_enc"][:, dead].norm(dim=0), 0.2 * mean_norm.expand(4))
    assert not sae["b_enc"][dead].any()
    for name in ("W_dec", "b_enc"):
        assert torch.equal(sae[name][~dead], before[name][~dead]), "the others stay"
        assert not optimizer.state[sae[name]]["exp_avg"][dead].any()
        assert optimizer.state[sae[name]]["exp_avg"][~dead].any()
    assert not optimizer.state[sae["W_enc"]]["exp_avg_sq"][:, dead].any()


def test_badly_rebuilt_inputs_are_drawn_more_often():
    """In proportion to the square of the loss: an input with three times the error is drawn 81 times as often."""
    sae = {"W_enc": torch.zeros(2, 2), "b_enc": torch.zeros(2), "W_dec": torch.eye(2), "b_dec": torch.zeros(2)}
    optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in sae.values()], lr=0.01)
    sum(tensor.sum() for tensor in sae.values()).backward()
    optimizer.step()
    with torch.no_grad():
        for tensor in sae.values():
            tensor.zero_()
    x, dead, counts = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([True, False]), torch.zeros(2)
    generator, topk = torch.Generator().manual_seed(0), reference("sae_training.topk_activation")
    for _ in range(1000):
        with torch.no_grad():
            runs.resample(sae, optimizer, x, dead, topk, 1, generator)
            counts += sae["W_dec"][0]
            sae["W_dec"].zero_()
    assert 950 < float(counts[1]) < 1000


def test_random_latents_are_active_as_often_as_asked():
    x = torch.randn(5000, 6, generator=torch.Generator().manual_seed(0))
    f, directions = runs.matched_random(x, torch.tensor([0.01, 0.2]), seed=1)
    assert torch.allclose((f > 0).float().mean(dim=0), torch.tensor([0.01, 0.2]))
    assert torch.allclose(directions.norm(dim=1), torch.ones(2))


def test_shuffled_features_are_as_common_and_independent():
    (family, parents), (free, _) = runs.hierarchy(4000, 3), runs.hierarchy(4000, 3, related=False)
    assert torch.equal(family.codes.sort(dim=0).values, free.codes.sort(dim=0).values)
    noise = [data.x - data.codes @ data.dictionary for data in (family, free)]
    assert torch.allclose(*noise, atol=1e-5)
    for child, parent in enumerate(parents):
        if parent is not None:
            there = free.codes[:, child] > 0
            assert (family.codes[family.codes[:, child] > 0, parent] > 0).all()
            assert 0.05 < float((free.codes[there, parent] > 0).float().mean()) < 0.25


def test_the_share_of_one_token():
    f = torch.zeros(30, 2)
    f[:10, 0], f[10:20, 1] = 1.0, 1.0
    ids = torch.tensor([7] * 6 + list(range(100, 104)) + list(range(200, 220)))
    assert runs.same_token(f, ids, [0]) == 0.6
    assert runs.same_token(f, ids, [0, 1]) == pytest.approx(0.35)


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_what_rebuilds_best_finds_least_from_other_seeds(seed):
    """What the lesson's section 10 concludes."""
    seen, held_out = runs.planted()
    points = runs.pareto(seen, held_out, seed)
    trained = [point for kind, point in points if not kind.startswith("control")]
    best = max(trained, key=lambda point: point.explained)
    assert best is min(trained, key=lambda point: point.recovered)
    assert max((point for kind, point in points if kind == "relu"), key=lambda point: point.l0).recovered > 0.95


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_sparsity_absorbs_from_other_seeds(seed):
    """What the lesson's section 9 concludes."""
    mild, strong = (runs.family("relu", seed, l1=l1, n_latents=24) for l1 in (0.4, 1.0))
    few, more = (runs.family("topk", seed, k=k, n_latents=24) for k in (3, 4))
    wide = runs.family("relu", seed, l1=0.4, n_latents=48)
    assert strong.absorbed > mild.absorbed + 0.05
    assert few.absorbed > more.absorbed + 0.05
    assert mild.missed < 0.03
    assert wide.latents_per_parent > mild.latents_per_parent + 0.2
    assert wide.recovered < mild.recovered - 0.2


@pytest.mark.measured
def test_the_rescues_from_other_seeds():
    """What the lesson's section 6 concludes."""
    seen, held_out = runs.planted()
    topk, auxiliary = reference("sae_training.topk_activation"), reference("sae_training.auxiliary_loss")
    mean = {name: r.mean(dim=0) for name, r in runs.rescues(topk, auxiliary, seen, held_out, seeds=(2, 3, 4)).items()}
    assert mean["nothing"][2] < 0.5
    assert min(mean["a better encoder"][2], mean["a better bias"][2]) > mean["nothing"][2] + 0.25
    assert mean["auxiliary"][0] < mean["auxiliary / 32"][0]


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_a_penalty_can_be_too_large(seed):
    """What the lesson's section 2 adds: beyond 0.5 the directions get worse again."""
    seen, _ = runs.planted()
    encode, loss = reference("sae_training.encode"), reference("sae_training.sae_loss")
    weak, good, large = (
        mean_max_cosine(runs.fit(encode, loss, seen.x, l1, weights=runs.start(seen.x, seed))["W_dec"], seen.dictionary)
        for l1 in (0.2, 0.5, 1.0)
    )
    assert weak < good > large + 0.005
