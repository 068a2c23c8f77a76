"""The clamp of lesson 07: messages for malformed answers, what chance earns, and the full size, on SmolLM2."""

from __future__ import annotations

import time

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.sae.clamp_study import Effect
from mi_course.lessons.feature_steering.clamp_outcome import MY_CLAMP, PlantedLatents, would_pass


def _world(seed: int = 0) -> PlantedLatents:
    return MY_CLAMP.plan(seed, "small").cases[0].case.judge_data


def _value(norm: float = 15.0) -> float:
    return _world().value(norm)


BAD = {
    "an index alone": (lambda: 217, "not a pair"),
    "three entries": (lambda: (217, 1.0, 1.0), "not a pair"),
    "no such latent": (lambda: (300, 1.0), "no latent 300"),
    "a latent from the end": (lambda: (-1, 1.0), "no latent -1"),
    "a latent as text": (lambda: ("217", 1.0), "index"),
    "a latent as truth": (lambda: (True, 1.0), "index"),
    "half a latent": (lambda: (217.5, 1.0), "index"),
    "a value as text": (lambda: (217, "10"), "value"),
    "a value as truth": (lambda: (217, True), "value"),
    "several values": (lambda: (217, torch.ones(3)), "value"),
    "NaN": (lambda: (217, float("nan")), "finite"),
    "infinity": (lambda: (217, float("inf")), "finite"),
    "far too much": (lambda: (217, 1e9), "breaks any model"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    make, words = BAD[name]
    verdict = check_exercise(MY_CLAMP, make(), size="small")
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def test_a_malformed_answer_of_full_size_loads_no_model():
    started = time.monotonic()
    assert "no latent 4608" in check_exercise(MY_CLAMP, (4608, 5.0)).message
    assert time.monotonic() - started < 20  # a hang, not a speed


@pytest.mark.parametrize("answer", [(217, 1), (torch.tensor(217), torch.tensor(1.0)), [217, torch.tensor([1.0])]])
def test_numbers_may_be_tensors_and_values_whole(answer):
    world = _world()
    world_value = world.value(15.0)
    scaled = (answer[0], answer[1] * world_value)
    assert check_exercise(MY_CLAMP, scaled, size="small", seed=0).passed


def test_other_latents_do_not_pass():
    passed = 0
    for seed in range(3):
        world = _world(seed)
        for index in range(0, 60, 2):
            value = 15.0 / float(world.rows[index].norm())
            passed += check_exercise(MY_CLAMP, (index, value), size="small", seed=seed).passed
    assert passed <= 2  # of 90


FINE, PLAIN = Effect(40.0, 4.0, 0.6, 0.4, 0.95), Effect(0.0, 0.0, 0.05, 0.0, 0.97)


@pytest.mark.parametrize(
    ("rise", "steered", "passes"),
    [
        (4.0, FINE, True),
        (2.9, FINE, False),
        (4.0, FINE._replace(mentions=0.2), False),
        (4.0, FINE._replace(loss=1.6), False),
        (4.0, FINE._replace(loss=-0.5), True),
        (4.0, FINE._replace(loss=-2.0, variety=0.3), False),  # a loop is predictable
        (float("nan"), FINE, False),
        (4.0, FINE._replace(loss=float("nan")), False),
        (4.0, FINE._replace(variety=float("nan")), False),
    ],
)
def test_each_part_of_the_rubric_is_needed(rise, steered, passes):
    assert would_pass(rise, 2.0, steered, PLAIN) is passes


@pytest.fixture(scope="module")
def shipped():
    from mi_course.interp.models import smollm2
    from mi_course.interp.sae import clamp_choice
    from mi_course.interp.sae.shipped import shipped_names

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    if clamp_choice.SAE_NAME not in shipped_names():
        pytest.skip(f"{clamp_choice.SAE_NAME} is not among the shipped autoencoders")
    return clamp_choice.steered()


@pytest.mark.measured
@pytest.mark.real_model
def test_on_smollm2(shipped):
    from mi_course.interp.sae.shipped import load_shipped
    from mi_course.lessons.feature_steering.held_out_clamp import shipped_clamp

    index, value = shipped_clamp()
    started = time.monotonic()
    verdict = check_exercise(MY_CLAMP, (index, value))
    assert verdict.passed, verdict.message
    assert time.monotonic() - started < 600  # a hang, not a speed
    assert check_exercise(MY_CLAMP, (index, -value)).mistake in ("turned_down", "like_random", "too_strong")
    far = check_exercise(MY_CLAMP, (index, value * 5))
    assert far.status == "wrong"
    assert far.mistake in ("too_strong", None)
    assert not check_exercise(MY_CLAMP, (index, value / 20)).passed
    rows = load_shipped("middle-4608").W_dec.detach().norm(dim=1)
    for other in (5, 1000, 3000):
        assert not check_exercise(MY_CLAMP, (other, value * float(rows[index] / rows[other]))).passed


@pytest.mark.measured
@pytest.mark.real_model
def test_the_stored_table_says_what_the_judge_sees(shipped):
    from mi_course.lessons.feature_steering.held_out_clamp import HeldOutClamp

    row = shipped.table[shipped.concept]
    rises = HeldOutClamp().rises(shipped.latent, shipped.value)
    assert float(rises[0]) == pytest.approx(row["rise"]["latent"], abs=0.1)
    assert float(rises[1:].quantile(0.95)) == pytest.approx(row["rise"]["0.95 of random latents"], abs=0.3)
