"""The experiments of lesson 13 on beliefs and on the clock: what they compute, and that its conclusions hold again."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import belief_study as study
from mi_course.interp import modular
from mi_course.interp import modular_study as clocks
from mi_course.interp.models import load_checkpoints, load_native
from mi_course.interp.processes import bayes_beliefs, mess3, ring, rrxor
from mi_course.testing.answers import reference

KEYS = [16, 14, 6, 11]


def ref(name):
    return reference(f"latent_structure.{name}")


def test_history_and_its_products():
    tokens = torch.tensor([[0, 1, 1], [1, 0, 1]])
    contexts = study.Contexts(tokens, bayes_beliefs(tokens, ring()), 1)
    bits = study.bits_of_history(contexts, 2)
    assert bits[1].tolist() == [0, 1, 0, 1, 1, 0]  # after 0 1 1: now 1, before it 1, before that 0
    assert bits[0].tolist() == [0, 1, 1, 0, 0, 0]
    products = study.products_of_history(contexts, 2)
    assert products.shape == (4, 6 + 15)
    assert int(products[1].sum()) == 3 + 3


def test_the_largest_gap_of_no_pairs_is_zero():
    beliefs = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    assert study.largest_gap(beliefs, []) == 0
    assert study.largest_gap(beliefs, [(0, 1)]) == pytest.approx(0.4)


def test_the_middle_loss():
    trained_on = modular.training_pairs(5, 0.6, 0)
    versions = [modular.lookup_table(trained_on, seed) * size for seed, size in ((0, 0.0), (1, 1.0), (2, 100.0))]
    losses = sorted(modular.measure(version, trained_on).train_loss for version in versions)
    assert clocks.median_loss(versions, trained_on) == losses[1]


# --- conclusions, with strings, splits and seeds that the lesson does not use


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_an_untrained_network_nearly_has_the_fractal(seed):
    model, fractal = load_native("tiny-mess3"), study.contexts_of(mess3(), n=160, seed=seed)
    assert study.in_sample_r2(fractal.stream(model, 2), fractal.y) > 0.95
    untrained = study.untrained_like(model, 100 + seed)
    assert study.in_sample_r2(fractal.stream(untrained, 2), fractal.y) > 0.8


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_the_belief_of_the_ring_is_read_from_the_network_and_from_products_of_tokens(seed):
    model, contexts = load_checkpoints("tiny-ring").boot(), study.contexts_of(ring(), seed=seed)
    order = torch.randperm(int(study.belief_ids(contexts.y).max()) + 1, generator=torch.Generator().manual_seed(seed))
    groups = order[study.belief_ids(contexts.y)] % 10
    streams = {
        "network": contexts.stream(model, 2),
        "products": study.products_of_history(contexts, 2),
        "tokens": study.bits_of_history(contexts, 2),
        "untrained": contexts.stream(study.untrained_like(model, 10 + seed), 2),
    }
    found = {name: ref("held_out_r2")(x, contexts.y, groups) for name, x in streams.items()}
    assert min(found["network"], found["products"]) > 0.9 > 0.85 > max(found["tokens"], found["untrained"])
    regions = contexts.y.argmax(1)
    apart = [ref("held_out_r2")(streams[name], contexts.y, regions) for name in ("network", "products", "tokens")]
    assert apart[2] + 0.1 < apart[0] < apart[1] + 0.05


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_beliefs_of_rrxor_are_read_by_stiffer_maps_alone(seed):
    model, contexts = load_checkpoints("tiny-rrxor").boot(), study.contexts_of(rrxor(), first=0, seed=seed)
    x = contexts.stream(model, 4)
    assert ref("held_out_r2")(x, contexts.y, study.belief_ids(contexts.y, 10)) < 0
    untrained = contexts.stream(study.untrained_like(model, seed), 4)
    found = study.stiff_readings(contexts, {"trained": x, "untrained": untrained})
    assert found["trained"] > 0.15 > max(found["untrained"], found["exchanged, best of ten"]) + 0.05


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_the_change_that_reads_is_not_the_change_that_acts(seed):
    for name, T, first, layer in (("tiny-ring", ring(), 3, 2), ("tiny-rrxor", rrxor(), 0, 3)):
        contexts = study.contexts_of(T, first=first, seed=seed)
        model = load_checkpoints(name).boot()
        found = study.give_other_beliefs(model, T, contexts, layer, ref("belief_intervention"))
        assert found["as the stream moves"][0] > 0.8
        assert found["least change (your hook)"][0] < 0.25
        assert max(abs(row[0]) for way, row in found.items() if "control" in way) < 0.25
        assert found["as it moves with the next token"][0] > 0.7
        longer = found["least change, made as long"][0]
        assert longer > 0.4 if name == "tiny-ring" else longer < 0.25


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1, 2])
def test_waves_fitted_without_an_answer_do_not_hand_it_over(seed):
    trained_on, trio = clocks.trained_pairs(), clocks.models()
    basis, restrict = ref("fourier_basis")(clocks.PRIME), ref("restricted_logits")
    others = clocks.random_keys(len(KEYS), 1, KEYS, seed=seed)[0]

    def unseen(logits):
        return modular.measure(logits, trained_on).test_accuracy

    table = modular.lookup_table(trained_on, seed)
    assert unseen(restrict(table, basis, KEYS)) > 0.7
    assert unseen(modular.held_out_restricted(table, KEYS, trained_on, seed)) < 0.1
    memory = modular.pair_logits(trio["no weight decay"])
    held_out = [unseen(modular.held_out_restricted(memory, keys, trained_on, seed)) for keys in (KEYS, others)]
    assert held_out[0] > 0.06 > 0.03 > held_out[1]
    assert unseen(modular.held_out_restricted(modular.pair_logits(trio["weight decay"]), KEYS, trained_on, seed)) > 0.99


@pytest.mark.measured
def test_both_losses_move_before_the_accuracy_with_other_controls():
    others = clocks.random_keys(len(KEYS), 1, KEYS, seed=3)[0]
    basis = ref("fourier_basis")(clocks.PRIME)
    steps, progress = clocks.progress(ref("excluded_logits"), basis, KEYS, others)
    control = progress.pop("control")
    order = ref("emergence_order")(steps, progress)
    assert order[-1][0] == "test accuracy"
    assert bool((control > 3.87).all())
