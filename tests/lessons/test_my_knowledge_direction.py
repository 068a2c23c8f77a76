"""The direction of lesson 08: messages for malformed answers, what chance earns, and the full size, on SmolLM2."""

from __future__ import annotations

import time

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.steering.controls import random_controls
from mi_course.lessons.entities_and_uncertainty.outcomes import MY_KNOWLEDGE_DIRECTION, PlantedEntities


def _world(seed: int = 0) -> PlantedEntities:
    return MY_KNOWLEDGE_DIRECTION.plan(seed, "small").cases[0].case.judge_data


def _vector(layer: int = 12) -> torch.Tensor:
    return _world().direction(layer)


BAD = {
    "a vector alone": (lambda: _vector(), "not a pair"),
    "three entries": (lambda: (_vector(), 12, 1.0), "not a pair"),
    "a probe": (lambda: (_vector(), 0.3), "layer"),
    "another size": (lambda: (_vector()[:50], 12), "shape (50,)"),
    "two axes": (lambda: (_vector()[None], 12), "shape (1, 64)"),
    "NaN": (lambda: (_vector() * torch.nan, 12), "NaN"),
    "infinity": (lambda: (_vector() / 0, 12), "infinite"),
    "no such layer": (lambda: (_vector(), 30), "no layer 30"),
    "a layer from the end": (lambda: (_vector(), -1), "no layer -1"),
    "a layer as text": (lambda: (_vector(), "12"), "layer"),
    "a layer as truth": (lambda: (_vector(), True), "layer"),
    "whole numbers": (lambda: ((_vector() * 100).long(), 12), "vector"),
    "text": (lambda: ("w", 12), "vector"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    make, words = BAD[name]
    verdict = check_exercise(MY_KNOWLEDGE_DIRECTION, make(), size="small")
    assert not verdict.passed
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def test_a_malformed_answer_of_full_size_loads_no_model():
    started = time.monotonic()
    verdict = check_exercise(MY_KNOWLEDGE_DIRECTION, (torch.ones(5), 14))
    assert "shape (5,)" in verdict.message
    assert time.monotonic() - started < 20  # a hang, not a speed


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_length_of_the_vector_does_not_matter(scale):
    assert check_exercise(MY_KNOWLEDGE_DIRECTION, (_vector() * scale, 12), size="small", seed=0).passed


def test_random_directions_and_token_frequency_do_not_pass():
    passed = 0
    for seed in range(5):
        world = _world(seed)
        for vector in random_controls(torch.ones(64), 24, seed):
            passed += check_exercise(MY_KNOWLEDGE_DIRECTION, (vector, 9), size="small", seed=seed).passed
        verdict = check_exercise(MY_KNOWLEDGE_DIRECTION, (world.common[9], 9), size="small", seed=seed)
        assert not verdict.passed
    assert passed <= 1  # of 120


@pytest.fixture(scope="module")
def smollm2():
    from mi_course.interp.models import load_model, smollm2

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model().requires_grad_(False)


@pytest.mark.measured
@pytest.mark.real_model
def test_on_smollm2(smollm2):
    from mi_course.interp import knowledge
    from mi_course.lessons.entities_and_uncertainty.held_out import smollm2_direction
    from mi_course.lessons.entities_and_uncertainty.probes import _fit_probe

    def check(vector, layer):
        return check_exercise(MY_KNOWLEDGE_DIRECTION, (vector, layer))

    vector, layer = smollm2_direction()
    assert check(vector, layer).passed
    assert check(-vector, layer).mistake == "turned_around"
    people = knowledge.matched(False)
    known = torch.tensor([person.kind == "famous" for person in people])
    streams = knowledge.read(smollm2, people, [0, 5, 12, 16, 24])
    for x, at, right in zip(streams, [0, 5, 12, 16, 24], [False, True, True, True, True], strict=True):
        assert check(_fit_probe(x, known, 1.0)[0], at).passed is right, at
    # Famous against invented names, which words alone tell apart: it does not carry over.
    x = torch.cat([knowledge.read(smollm2, knowledge.names(kind), 0) for kind in ("famous", "invented")])
    assert not check(_fit_probe(x, torch.arange(160) < 80, 1.0)[0], 0).passed
    # What the known names have in common is not what tells them from others.
    assert not check(streams[0][known].mean(0), 16).passed


@pytest.mark.measured
@pytest.mark.real_model
def test_random_directions_pass_in_less_than_one_of_a_hundred_at_any_layer(smollm2):
    from mi_course.interp import knowledge
    from mi_course.lessons.entities_and_uncertainty.outcomes import CONTROLS, MARGIN, QUANTILE

    people = knowledge.matched(True)
    known = torch.tensor([person.kind == "famous" for person in people])

    def areas(x, directions):
        scores = x.double() @ directions.double().T
        difference = scores[known][:, None] - scores[~known][None]
        return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean((0, 1))

    features = knowledge.token_features(smollm2, people)
    common = float((areas(features, torch.eye(features.shape[1])) - 0.5).abs().max()) + 0.5
    fitted_on = knowledge.matched(False)
    columns = knowledge.token_features(smollm2, fitted_on)
    layers = [0, 5, 9, 13, 17, 21, 25, 29]
    streams, others = knowledge.read(smollm2, people, layers), knowledge.read(smollm2, fitted_on, layers)
    for x, other in zip(streams, others, strict=True):
        bar = max(float(areas(x, random_controls(x[0], CONTROLS, 8)).quantile(QUANTILE)), common) + MARGIN
        assert float((areas(x, random_controls(x[0], 1000, 5)) >= bar).double().mean()) < 0.01
        centered = (columns - columns.mean(0)).double()
        fitted = torch.linalg.lstsq((other - other.mean(0)).double(), centered).solution.T
        found = areas(x, fitted)
        assert float(torch.maximum(found, 1 - found).max()) < bar
