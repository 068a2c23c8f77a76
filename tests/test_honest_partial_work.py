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


def _labels_of(y, groups):
    names = sorted(set(groups))
    labels = [bool(y[groups.index(name)]) for name in names]
    if any(labels[names.index(group)] != true for group, true in zip(groups, y.tolist(), strict=True)):
        raise ValueError("a group has both labels")
    return names, labels


def _exchanged_among_groups_of_a_size(x, y, groups, fit_score, n, seed):
    names, labels = _labels_of(y, groups)
    dice, best, as_good = random.Random(seed), fit_score(x, y), 1
    for _ in range(n):
        new = dict(zip(names, labels, strict=True))
        for size in {groups.count(name) for name in names}:
            alike = [name for name in names if groups.count(name) == size]
            values = [new[name] for name in alike]
            dice.shuffle(values)
            new.update(zip(alike, values, strict=True))
        as_good += fit_score(x, torch.tensor([new[group] for group in groups])) >= best
    return as_good / (n + 1)


def _never_the_real_labels(x, y, groups, fit_score, n, seed):
    names, labels = _labels_of(y, groups)
    dice, best, as_good = random.Random(seed), fit_score(x, y), 1
    for _ in range(n):
        new = list(labels)
        while new == labels:
            dice.shuffle(new)
        as_good += fit_score(x, torch.tensor([new[names.index(group)] for group in groups])) >= best
    return as_good / (n + 1)


def _two_sided(x, y, groups, fit_score, n, seed):
    right = reference("entities_and_uncertainty.permutation_p")
    return min(1.0, 2 * right(x, y, groups, fit_score, n, seed))


@pytest.mark.parametrize("answer", [_exchanged_among_groups_of_a_size, _never_the_real_labels, _two_sided])
def test_another_permutation_test_is_told_how_often_it_scores_as_well(answer):
    found = verdict("entities_and_uncertainty.permutation_p", answer)
    assert not found.passed
    assert found.mistake is None
    assert "score at least as well as the real labels" in found.message


def _nearest_by(distance):
    def match_on(features, labels, caliper):
        z = distance(features)
        pairs, free = [], (~labels).nonzero().flatten().tolist()
        for i in labels.nonzero().flatten().tolist():
            apart, j = min(((float((z[i] - z[j]).norm()), j) for j in free), default=(torch.inf, 0))
            if apart <= caliper:
                free.remove(j)
                pairs.append((i, j))
        return pairs

    return match_on


def _standard(features):
    return ((features - features.mean(0)) / features.std(0, correction=0)).nan_to_num(posinf=0, neginf=0)


def _whitened(features):
    z = (features - features.mean(0)).double()
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    return z @ vectors / values.clamp(min=1e-9).sqrt()


@pytest.mark.parametrize(
    "distance", [_whitened, lambda f: _standard(f) / f.shape[1] ** 0.5, lambda f: _standard(f).mean(1, keepdim=True)]
)
def test_pairs_by_another_distance_are_told_which_rows_are_too_far_apart_or_left_over(distance):
    found = verdict("entities_and_uncertainty.match_on", _nearest_by(distance))
    assert not found.passed
    assert found.mistake is None
    assert "apart" in found.message


def test_pairs_by_the_nearest_free_row_pass():
    assert verdict("entities_and_uncertainty.match_on", _nearest_by(_standard)).passed


@pytest.mark.parametrize("steps", [20, 100, 300])
def test_a_probe_that_has_not_converged_is_told_the_numbers(steps):
    def fit_probe(x, y, l2):
        if y.all() or not y.any():
            raise ValueError("one class")
        z = _standard(x.double())
        v = torch.zeros(x.shape[1] + 1).double()
        rows = torch.cat([z, torch.ones(len(z), 1).double()], 1)
        for _ in range(steps):
            gradient = rows.T @ ((rows @ v).sigmoid() - y.double()) / len(z)
            gradient[:-1] += l2 * v[:-1]
            v = v - 0.1 * gradient
        std = torch.where((x != x[:1]).any(0), x.double().std(0, correction=0), 1.0)
        w = v[:-1] / std
        return w.float(), float(v[-1] - x.double().mean(0) @ w)

    found = verdict("entities_and_uncertainty.fit_probe", fit_probe)
    assert not found.passed
    assert found.mistake is None
