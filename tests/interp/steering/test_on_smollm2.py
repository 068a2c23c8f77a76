"""The direction on the real model: numbers that lesson 04 states, with room for other machines."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.models import smollm2
from mi_course.interp.models.loading import load_model
from mi_course.interp.steering import (
    Ablate,
    Steer,
    collect,
    difference_of_means,
    generate,
    neutral_cost,
    orthogonalized,
    prompt_log_odds,
    random_controls,
    steering,
    texts,
    token_ids,
    vectors_log_odds,
    word_ids,
)

pytestmark = [pytest.mark.real_model, pytest.mark.measured]
LAYER = 14


@pytest.fixture(scope="module")
def model():
    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model("smollm2")


@pytest.fixture(scope="module")
def direction(model):
    return difference_of_means(collect(model, texts.POSITIVE, LAYER), collect(model, texts.NEGATIVE, LAYER))


def test_steering_beats_every_random_direction_on_words_and_prompts_it_never_saw(model):
    up, down = (collect(model, side, LAYER, position="mean") for side in (texts.POSITIVE, texts.NEGATIVE))
    vector = difference_of_means(up, down)
    good, bad = word_ids(model, texts.POSITIVE_SYNONYMS), word_ids(model, texts.NEGATIVE_SYNONYMS)
    base = prompt_log_odds(model, texts.HELD_OUT_PROMPTS, good, bad).mean()
    real = prompt_log_odds(model, texts.HELD_OUT_PROMPTS, good, bad, [Steer(vector, LAYER)]).mean() - base
    controls = random_controls(vector, 20, seed=0)
    others = vectors_log_odds(model, texts.HELD_OUT_PROMPTS, good, bad, controls, LAYER).mean(1) - base
    assert float(real) > float(others.max()) + 1  # measured: 2.2 against 0.5
    assert neutral_cost(model, texts.NEUTRAL[:4], [Steer(vector, LAYER)]).rise < 0.25  # measured: 0.02


def test_cached_generation_of_a_padded_batch_equals_each_prompt_alone_without_a_cache(model, direction):
    prompts = [texts.PROMPTS[0], "I", "We went to the sea with the children and it was"]
    steer = [Steer(direction, LAYER)]
    together = generate(model, prompts, steer, max_new_tokens=8)
    alone = [generate(model, [p], steer, max_new_tokens=8, use_cache=False)[0] for p in prompts]
    assert together == alone


def test_weights_without_the_direction_equal_its_ablation(model, direction):
    ids = torch.tensor(token_ids(model, ["The film was so good that we"]))
    with torch.no_grad():
        with steering(model, Ablate(direction)):
            ablated = model(ids)
        with orthogonalized(model, direction):
            twin = model(ids)
        plain = model(ids)
    torch.testing.assert_close(twin, ablated, rtol=1e-3, atol=5e-3)
    assert not torch.allclose(plain, ablated, atol=0.1)
