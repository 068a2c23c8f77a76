"""Modular addition: the tools, and what the models in data/ must be able to do."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import modular, modular_study
from mi_course.interp.models.native import state_of


@pytest.fixture(scope="module")
def small():
    """An untrained model with weights large enough for attention to be uneven."""
    model = modular.untrained_addition_model(11, d_model=16, d_mlp=24, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("bias"):
                parameter.mul_(3)
    return model


@pytest.fixture(scope="module")
def models():
    return modular_study.models()


def test_logits_from_the_parameters_are_the_models(small):
    pairs = modular.all_pairs(11)
    fast = modular.state_logits(state_of(small), pairs[:, 0], pairs[:, 1]).unflatten(0, (11, 11))
    logits = modular.pair_logits(small)
    assert logits.shape == (11, 11, 11)
    assert torch.allclose(fast, logits, atol=1e-4 * float(logits.abs().max()))
    assert torch.allclose(logits[3, 7], small(torch.tensor([[3, 7, 11]]))[0, -1], atol=1e-3)


def test_neurons_and_readout_make_the_part_of_the_logits_that_they_should(small):
    name = "blocks.0.hook_mlp_out"
    _, cached = small.run_with_cache(modular.all_pairs(11), names_filter=name)
    want = (cached[name][:, -1] @ small.W_U).unflatten(0, (11, 11))
    assert torch.allclose(modular.neurons(small) @ modular.readout(small), want, atol=1e-3)


@pytest.mark.parametrize(("p", "share"), [(11, 0.6), (7, 0.3), (5, 1.0)])
def test_pairs_are_chosen_in_both_orders(p, share):
    table = modular.training_pairs(p, share, seed=1)
    assert torch.equal(table, table.T)
    assert int(table.triu().sum()) == round(share * p * (p + 1) / 2)
    assert share == 1.0 or not torch.equal(table, modular.training_pairs(p, share, seed=2))


def test_answers_are_sums():
    assert modular.answers(7)[5, 6] == 4
    pairs = modular.all_pairs(5)
    assert pairs[3 * 5 + 2].tolist() == [3, 2, 5]


def test_training_is_deterministic_and_learns_its_pairs():
    trained_on, found = modular.training_pairs(7, 0.6, 0), []
    for _ in range(2):
        model = modular.untrained_addition_model(7, d_model=16, d_mlp=32, seed=0)
        *_, last = modular.train_addition(model, trained_on, steps=150, weight_decay=0.1, lr=5e-3)
        found.append(last)
    assert found[0].step == 150
    assert found[0].train_loss < 0.1
    assert all(torch.equal(t, found[1].state[name]) for name, t in found[0].state.items())
    assert modular.measure(modular.pair_logits(model), trained_on).train_accuracy == 1.0


def test_a_wave_of_the_sum_is_found_and_taken_out():
    p, k = 13, 4
    total = torch.arange(p)[:, None] + torch.arange(p)
    wave = (2 * torch.pi * k * total / p + 0.7).cos()
    logits = wave[..., None] * torch.randn(5, generator=torch.Generator().manual_seed(0)) + 2
    assert torch.allclose(modular.without_frequency(logits, k), torch.full_like(logits, 2.0), atol=1e-5)
    assert torch.allclose(modular.without_frequency(logits, k + 1), logits, atol=1e-5)
    assert modular.sum_share(wave + 5, k) == pytest.approx(1, abs=1e-5)
    assert modular.sum_share(wave, k + 1) == pytest.approx(0, abs=1e-5)
    assert modular.sum_share(torch.zeros(p, p), k) == 0


def test_direction_fit_of_neurons_that_hold_the_sum_and_something_else():
    p, k = 11, 3
    hours = torch.arange(p)
    angle = 2 * torch.pi * k * (hours[:, None] + hours) / p
    other = torch.randn(p, p, 1, generator=torch.Generator().manual_seed(0))
    other = other - other.mean()
    neurons = torch.cat([angle.cos()[..., None], angle.sin()[..., None], other], dim=2) + 1
    c = 2 * torch.pi * k * hours / p
    reads_sum = torch.stack([c.cos(), c.sin(), torch.zeros(p)])
    assert modular.direction_fit(neurons, reads_sum, k) == pytest.approx(1, abs=1e-5)
    reads_other = torch.stack([torch.zeros(p), torch.zeros(p), c.cos()])
    assert modular.direction_fit(neurons, reads_other, k) < 0.2
    assert modular.direction_fit(neurons, torch.zeros(3, p), k) == 0


def test_the_circle_of_an_embedding_that_is_one():
    p, k = 17, 5
    directions = torch.linalg.qr(torch.randn(8, 2, generator=torch.Generator().manual_seed(1))).Q.T
    W_E = 3 * modular.waves(p, k).T @ directions + 1
    points = modular.circle(W_E, k)
    assert torch.allclose(points.norm(dim=0), torch.ones(p), atol=1e-5)
    assert torch.allclose(points[0], (2 * torch.pi * k * torch.arange(p) / p).cos(), atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# The models in data/


def test_only_the_run_with_weight_decay_generalizes(models):
    trained_on = modular_study.trained_pairs()
    measured = {name: modular.measure(modular.pair_logits(model), trained_on) for name, model in models.items()}
    assert measured["weight decay"].test_accuracy > 0.999
    assert measured["no weight decay"].train_accuracy > 0.999
    assert measured["no weight decay"].test_accuracy < 0.1
    assert measured["untrained"].test_accuracy < 0.1


def test_the_recorded_growth_is_that_of_the_checkpoints():
    decay, trained_on = modular_study.recorded_growth()["weight decay"], modular_study.trained_pairs()
    for step, logits in modular_study.checkpoint_logits().items():
        i = decay["step"].index(step)
        measured = modular.measure(logits, trained_on)
        assert measured.test_accuracy == pytest.approx(decay["test_accuracy"][i], abs=0.03)
        assert measured.test_loss == pytest.approx(decay["test_loss"][i], rel=0.1, abs=0.01)


def test_the_trained_model_needs_the_four_frequencies_of_its_embedding_and_no_others(models):
    model = models["weight decay"]
    logits, W_E = modular.pair_logits(model), modular.embedding(model)
    power = {k: float((modular.waves(modular_study.PRIME, k) @ W_E).square().sum()) for k in range(1, 27)}
    keys = [k for k in power if power[k] > 0.05 * sum(power.values())]
    assert len(keys) == 4
    assert set(modular.used_frequencies(logits)) <= set(keys)
    kept = modular.held_out_restricted(logits, keys, modular_study.trained_pairs())
    assert (kept.argmax(-1) == modular.answers(modular_study.PRIME)).float().mean() > 0.999


def test_held_out_waves_know_nothing_of_the_training_pairs():
    p, trained_on = 31, modular.training_pairs(31, 0.7, 0)
    table = modular.lookup_table(trained_on)
    assert modular.measure(table, trained_on).train_accuracy == 1.0
    assert modular.measure(table, trained_on).test_accuracy < 0.2
    held = modular.held_out_restricted(table, [2, 7, 11], trained_on)
    assert modular.measure(held, trained_on).test_accuracy < 0.15
    changed = torch.where(trained_on[..., None], 100.0, table)
    assert torch.equal(held, modular.held_out_restricted(changed, [2, 7, 11], trained_on))
    total = torch.arange(p)[:, None] + torch.arange(p)
    sums = (2 * torch.pi * 7 * (total[..., None] - torch.arange(p)) / p).cos()
    assert torch.allclose(modular.held_out_restricted(sums + 2, [2, 7], trained_on), sums + 2, atol=1e-4)
    assert modular.held_out_restricted(sums, [2], trained_on).abs().max() < 0.5


def test_the_mystery_model_adds_and_its_decoy_does_nothing():
    from mi_course.interp.models.native import load_native

    model = load_native(modular.MYSTERY)
    logits = modular.pair_logits(model)
    assert (logits.argmax(-1) == modular.answers(len(logits))).float().mean() > 0.999
    used, decoys = modular.mystery_frequencies()
    assert len(used) >= 3
    assert len(decoys) == 1
    rises = modular.used_frequencies(logits, bar=-1.0)
    assert not [k for k, rise in rises.items() if 0.02 < abs(rise) < 0.2]
    assert abs(rises[decoys[0]]) < 0.02
    # Without the decoy in the embedding the model answers the same.
    W_E, plane = modular.embedding(model), modular.waves(len(logits), decoys[0])
    with torch.no_grad():
        W_E -= plane.T @ (plane @ W_E)
    loss = modular.cross_entropy(modular.pair_logits(model)).mean() - modular.cross_entropy(logits).mean()
    assert abs(float(loss)) < 0.02
    assert modular.my_frequencies() == list(used)


def test_waves_of_one_number_alone():
    a, b = torch.arange(7)[:, None], torch.arange(7)
    angle = 2 * torch.pi * 2 / 7
    table = 3 * (angle * a).cos() + (angle * b).sin() + (angle * (a + b)).cos() + 5
    assert modular.linear_share(table, 2) == pytest.approx(10 / 11, abs=1e-4)
    assert modular.linear_share(table, 3) == pytest.approx(0, abs=1e-4)
    assert modular.linear_share(torch.ones(7, 7), 2) == 0


def test_the_spectrum_of_an_embedding():
    rows = modular.waves(7, 2)  # [wave hour]
    W_E = 3 * rows[:1].T @ torch.ones(1, 4) + modular.waves(7, 3)[1:].T @ torch.ones(1, 4) + 5
    assert torch.allclose(modular.spectrum(W_E), torch.tensor([0, 0.9, 0.1]), atol=1e-5)
