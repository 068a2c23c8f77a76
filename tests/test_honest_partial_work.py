"""Nearly right, undertrained and odd answers: none is told of a mistake that it did not make."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from mi_course.course import check_exercise
from mi_course.exercises import Verdict
from mi_course.interp.sae.simple import train_simple
from mi_course.interp.superposition import training
from mi_course.testing.answers import exercises, reference

EXERCISES = {exercise.id: exercise for exercise in exercises()}


def verdict(exercise: str, answer: Any) -> Verdict:
    return check_exercise(EXERCISES[exercise], answer, size="small")


@pytest.mark.parametrize("steps", [5, 25, 60, 120])
def test_a_toy_model_that_is_on_its_way_is_told_the_loss(steps):
    def train_toy(n_features, n_hidden, probability, importance, seed):
        *_, last = training(n_features, n_hidden, [probability], importance, seed, every=10**6, steps=steps)
        return {"W": last.W[0], "b": last.b[0]}

    found = verdict("superposition.train_toy", train_toy)
    assert found.passed or found.mistake is None, found.message


@pytest.mark.parametrize("steps", [1, 10, 40, 100])
def test_a_sparse_autoencoder_that_is_on_its_way_is_told_the_numbers(steps):
    def train_sae(x, n_latents, k, seed):
        return train_simple(x, n_latents, k=k, steps=steps, batch=512, lr=1e-2, decay=0, seed=seed)[0]

    found = verdict("sae_training.train_sae", train_sae)
    assert found.passed or found.mistake is None, found.message


def test_a_circuit_of_the_most_heads_is_not_told_to_take_more():
    def most_but_weak(case):
        strong = set(case.judge_data.strongest(22))
        every = [(i, j) for i in range(case.judge_data.n_layers) for j in range(case.judge_data.n_heads)]
        return [head for head in every if head not in strong][:30]

    exercise = EXERCISES["activation_patching.my_circuit"]
    plan = exercise.plan(0, "small")
    found = check_exercise(exercise, most_but_weak(plan.cases[0].case), size="small")
    assert not found.passed
    assert "more of the list" not in found.message


@pytest.mark.parametrize("length", [0.5, 2.0])
def test_controls_of_a_wrong_length_are_told_the_length(length):
    right = reference("steering_vectors.random_controls")
    found = verdict("steering_vectors.random_controls", lambda vector, n, seed: right(vector, n, seed) * length)
    assert found.mistake is None
    assert "expected" in found.message


def _cube(vector, n, seed):
    rows = torch.rand(n, len(vector), generator=torch.Generator().manual_seed(seed)) - 0.5
    return rows / rows.norm(dim=1, keepdim=True) * vector.norm()


def _orthogonal(vector, n, seed):
    noise = torch.randn(n, len(vector), len(vector), generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([torch.linalg.qr(block).Q for block in noise])[:n]
    return rows / rows.norm(dim=1, keepdim=True) * vector.norm()


def _permuted_and_flipped(vector, n, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.stack([vector[torch.randperm(len(vector), generator=generator)] for _ in range(n)])
    return rows * (torch.rand(rows.shape, generator=generator) < 0.5).float().mul(2).sub(1)


@pytest.mark.parametrize("answer", [_cube, _orthogonal, _permuted_and_flipped])
def test_directions_of_another_distribution_are_refused(answer):
    assert not verdict("steering_vectors.random_controls", answer).passed


def _by_numpy(batch, period, low, high, bos, seed):
    np.random.seed(seed % 2**32)
    half = torch.from_numpy(np.random.randint(low, high, (batch, period)))
    return torch.cat([torch.full((batch, 1), bos), half, half], 1)


def _by_python(batch, period, low, high, bos, seed):
    random.seed(seed)
    half = torch.tensor([[random.randrange(low, high) for _ in range(period)] for _ in range(batch)])
    return torch.cat([torch.full((batch, 1), bos), half, half], 1)


@pytest.mark.parametrize(("answer", "advice"), [(_by_numpy, "default_rng"), (_by_python, "random.Random")])
def test_another_random_state_is_blamed_by_its_name(answer, advice):
    found = verdict("induction_heads.repeated_tokens", answer)
    assert found.mistake is None
    assert advice in found.message
    assert "torch" not in found.message


def test_a_list_that_was_changed_is_named():
    right = reference("activation_patching.mean_ablate")

    def mean_ablate(z, hook, mean, keep):
        result = right(z, hook, mean, keep)
        keep.append(0)
        return result

    found = verdict("activation_patching.mean_ablate", mean_ablate)
    assert "`keep`" in found.message
    assert "list(...)" in found.message
    assert ".clone()" not in found.message


def test_a_crash_shows_what_was_asked():
    def top_next_tokens(logits, k):
        raise ValueError("no")

    found = verdict("start_here.top_next_tokens", top_next_tokens)
    assert found.status == "crashed"
    assert "`k` = 3" in found.message
    assert "`logits` = a tensor of shape (4, 9)" in found.message


def test_what_spares_the_judged_positions_is_told_so():
    found = verdict("induction_heads.loss_without_heads", lambda model, tokens, heads: _whole(model, tokens))
    assert "reaches it" in found.message


def _whole(model, tokens):
    with torch.no_grad():
        log_probs = model(tokens)[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]


def test_a_detached_loss_is_among_what_may_be_wrong():
    def train_step(model, optimizer, tokens):
        optimizer.zero_grad()
        loss = _whole(model, tokens).mean().requires_grad_()
        loss.backward()
        optimizer.step()
        return loss.item()

    assert "cut off" in verdict("induction_heads.train_step", train_step).message


def test_no_minus_before_zero_and_no_text_cut_without_a_mark():
    from mi_course.judging.comparison import compare, say

    assert "-0," not in compare(1.0, -0.0).message
    assert "expected 0" in compare(1.0, -0.0).message
    assert say("a" * 100).endswith("... (100 characters)")
