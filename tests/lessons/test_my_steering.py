"""The outcome of lesson 04: messages for malformed answers; and the full size, on SmolLM2 itself."""

from __future__ import annotations

import time

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.lessons.steering_vectors.outcome import MY_STEERING


def _world():
    return MY_STEERING.plan(0, "small").cases[0].case.judge_data


def _vector(layer=14):
    return _world().direction(layer)


BAD = {
    "a vector alone": (lambda: _vector(), "triple"),
    "another size": (lambda: (_vector()[:50], 14, 1.0), "shape (50,)"),
    "two axes": (lambda: (_vector()[None], 14, 1.0), "shape (1, 96)"),
    "NaN": (lambda: (_vector() * torch.nan, 14, 1.0), "NaN"),
    "no such layer": (lambda: (_vector(), 30, 1.0), "no layer 30"),
    "a layer from the end": (lambda: (_vector(), -1, 1.0), "no layer -1"),
    "a layer as text": (lambda: (_vector(), "14", 1.0), "layer"),
    "overflow": (lambda: (_vector(), 14, 1e38), "breaks any model"),
    "infinity": (lambda: (_vector(), 14, float("inf")), "breaks any model"),
    "NaN as coefficient": (lambda: (_vector(), 14, float("nan")), "breaks any model"),
    "whole numbers": (lambda: (_vector().long(), 14, 1.0), "vector"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    make, words = BAD[name]
    verdict = check_exercise(MY_STEERING, make(), size="small")
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def test_a_malformed_answer_of_full_size_loads_no_model():
    started = time.monotonic()
    verdict = check_exercise(MY_STEERING, (torch.ones(5), 14, 1.0))
    assert "shape (5,)" in verdict.message
    assert time.monotonic() - started < 20  # a hang, not a speed


@pytest.mark.measured
@pytest.mark.real_model
def test_on_smollm2():
    from mi_course.interp.models import smollm2
    from mi_course.lessons.steering_vectors.held_out import HeldOut, smollm2_steering

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    started = time.monotonic()
    right = smollm2_steering()
    verdict = check_exercise(MY_STEERING, right)
    assert verdict.passed, verdict.message
    assert time.monotonic() - started < 600  # a hang, not a speed
    vector, layer, coefficient = right
    assert check_exercise(MY_STEERING, (vector, layer, -coefficient)).mistake == "swapped"
    assert check_exercise(MY_STEERING, (vector, layer, 0.02)).mistake == "too_weak"
    middle = HeldOut().direction(14)
    assert check_exercise(MY_STEERING, (middle, 14, 0.5)).passed
    assert check_exercise(MY_STEERING, (middle, 14, 1.0)).mistake == "too_strong"
    noise = torch.randn(576, generator=torch.Generator().manual_seed(7))
    verdict = check_exercise(MY_STEERING, (noise / noise.norm() * middle.norm() / 2, 14, 1.0))
    assert verdict.status == "wrong"
    assert verdict.mistake in ("like_random", "too_weak", "swapped")
