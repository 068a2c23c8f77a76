"""Hidden Markov processes, and what lesson 13 says of the models trained on them."""

from __future__ import annotations

import itertools

import pytest
import torch

from mi_course.interp.belief_study import (
    Contexts,
    belief_ids,
    bits_of_history,
    contexts_of,
    in_sample_r2,
    mystery_held_out,
    mystery_map,
    mystery_strings,
    same_expectation,
    shuffled_beliefs,
)
from mi_course.interp.models import load_checkpoints, load_native
from mi_course.interp.processes import (
    MYSTERY,
    all_strings,
    bayes_beliefs,
    excess_loss,
    fit_affine,
    mess3,
    next_token_probabilities,
    ring,
    rrxor,
    sample_process,
    stationary_distribution,
)

PROCESSES = {"mess3": mess3(), "ring": ring(), "rrxor": rrxor(), **MYSTERY}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_one(name):
    T = PROCESSES[name]
    assert torch.allclose(T.sum((0, 2)), torch.ones(T.shape[1]))
    start = stationary_distribution(T)
    assert torch.allclose(start @ T.sum(0), start, atol=1e-6)
    assert float(start.sum()) == pytest.approx(1, abs=1e-6)


def test_what_is_no_process_is_refused():
    with pytest.raises(ValueError, match="not a process"):
        stationary_distribution(2 * ring())
    with pytest.raises(ValueError, match="shape"):
        stationary_distribution(torch.ones(2, 3, 4))


def test_a_third_bit_is_the_xor():
    strings = sample_process(rrxor(), 50, 12, seed=0)
    fits = torch.stack(
        [
            torch.stack([strings[:, i] ^ strings[:, i + 1] == strings[:, i + 2] for i in range(phase, 10, 3)]).all(0)
            for phase in range(3)
        ]
    )
    assert fits.any(0).all()


def test_all_strings_have_the_probability_that_they_are_sampled_with():
    strings = all_strings(ring(), 3)
    assert float(strings.probability.sum()) == pytest.approx(1, abs=1e-6)
    sampled = sample_process(ring(), 40_000, 3, seed=1)
    for tokens, probability in zip(*strings, strict=True):
        share = (sampled == tokens).all(1).float().mean()
        assert abs(float(share - probability)) < 0.01


def test_beliefs_are_those_of_bayes():
    T, string = ring(), [0, 1, 1, 0]
    joint = torch.zeros(3)
    for path in itertools.product(range(3), repeat=5):
        p = stationary_distribution(T)[path[0]]
        for token, (s, r) in zip(string, itertools.pairwise(path), strict=True):
            p = p * T[token, s, r]
        joint[path[-1]] += p
    assert torch.allclose(bayes_beliefs(torch.tensor([string]), T)[0, -1], joint / joint.sum(), atol=1e-5)


def test_rrxor_has_the_beliefs_of_the_paper():
    """36 with the one before the first token (Shai et al. 2024), and 11 next-token distributions."""
    strings = all_strings(rrxor(), 12).tokens
    beliefs = bayes_beliefs(strings, rrxor()).flatten(0, 1)
    start = stationary_distribution(rrxor())[None]
    every = torch.cat([beliefs, start])
    assert int(belief_ids(every).max()) + 1 == 36
    assert int(belief_ids(next_token_probabilities(every, rrxor())).max()) + 1 == 11


def test_an_affine_map_is_found():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    A, b = torch.tensor([[1.0, 2], [0, -1], [3, 0], [0.5, 1]]), torch.tensor([2.0, -3])
    found = fit_affine(x, x @ A + b)
    assert torch.allclose(found.A, A, atol=1e-4)
    assert torch.allclose(found.b, b, atol=1e-4)


def test_a_change_that_keeps_the_next_token():
    beliefs = bayes_beliefs(sample_process(ring(), 5, 4, seed=0), ring())[:, -1]
    change = same_expectation(beliefs, ring(), torch.full((5,), 0.1))
    assert torch.allclose(change.norm(dim=1), torch.full((5,), 0.1), atol=1e-5)
    assert torch.allclose(next_token_probabilities(change, ring()), torch.zeros(5, 2), atol=1e-6)
    with pytest.raises(ValueError, match="Every change"):
        same_expectation(beliefs, mess3(), torch.ones(5))


# ---------------------------------------------------------------------------------------------------------------------
# What the models are


@pytest.mark.parametrize(
    ("name", "T"),
    [("tiny-mess3", mess3()), ("tiny-mystery", MYSTERY["B"]), ("tiny-ring", ring()), ("tiny-rrxor", rrxor())],
)
def test_the_models_predict_perfectly(name, T):
    model = load_checkpoints(name).boot() if name in ("tiny-ring", "tiny-rrxor") else load_native(name)
    assert excess_loss(model, T) < 0.002


def test_only_one_candidate_predicts_what_the_mystery_does():
    excess = {name: excess_loss(load_native("tiny-mystery"), T) for name, T in MYSTERY.items()}
    assert excess["B"] < 0.002 < 0.02 < min(excess["A"], excess["C"])


def test_two_candidates_are_each_other_read_from_the_end():
    forwards, backwards = (
        dict(zip(map(tuple, strings.tokens.tolist()), strings.probability.tolist(), strict=True))
        for strings in (all_strings(MYSTERY[name], 6) for name in "AB")
    )
    assert all(forwards[string] == pytest.approx(backwards[string[::-1]], abs=1e-6) for string in forwards)


def test_what_the_statement_of_the_outcome_says():
    x, y, expected = mystery_held_out(2)
    answer = mystery_map()
    assert 1 - (y - x @ answer["A"] - answer["b"]).square().sum() / (y - y.mean(0)).square().sum() > 0.9
    contexts = Contexts(mystery_strings(), bayes_beliefs(mystery_strings(), MYSTERY["B"]), 3)
    assert in_sample_r2(expected, y) == pytest.approx(0.46, abs=0.01)
    assert in_sample_r2(bits_of_history(contexts, 2), contexts.y) == pytest.approx(0.81, abs=0.02)


def test_few_beliefs_in_many_dimensions_can_be_read_in_any_arrangement():
    model, contexts = load_checkpoints("tiny-rrxor").boot(), contexts_of(rrxor(), first=0)
    x = contexts.stream(model)
    scores = [in_sample_r2(x, shuffled_beliefs(contexts.y, seed)) for seed in range(5)]
    assert min(scores) > 0.85
