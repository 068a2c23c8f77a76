"""The outcome of lesson 06: what its thresholds separate, and that its dictionary cannot be guessed."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.exercises import RandomInputs
from mi_course.interp.sae import train_simple
from mi_course.lessons.sae_training import outcome
from mi_course.testing.answers import reference

EXERCISE = outcome.TRAIN_SAE


def trained(*args):
    return reference(EXERCISE.id)(*args)


def _measured(answer, size, seed):
    one = outcome._cases(RandomInputs(seed), size)[0]
    x, n_latents, k, answer_seed = one.calls[0].args
    sae = {name: tensor.double() for name, tensor in answer(x, n_latents, k, answer_seed).items()}
    return outcome._measure(sae, one.judge_data, k)


@pytest.mark.parametrize(("size", "seed"), [("small", 11), ("small", 12), ("small", 13), ("full", 14)])
def test_training_is_clear_of_the_thresholds(size, seed):
    seen = _measured(trained, size, seed)
    assert seen["explained"] > outcome.EXPLAINED + 0.05
    assert seen["recovered"] > outcome.RECOVERED + 0.05


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize(
    "answer", [outcome._copied_random, outcome._untrained, outcome._copied_data, outcome._principal]
)
def test_what_was_not_trained_is_clear_of_them_too(answer, size):
    seen = _measured(answer, size, 21)
    assert seen["explained"] < outcome.EXPLAINED - 0.03
    assert seen["recovered"] < 0.1


def test_the_full_form_passes():
    assert check_exercise(EXERCISE, trained).passed


def test_a_dead_one_has_the_right_decoder_and_is_refused():
    seen = _measured(outcome._dead, "small", 3)
    assert seen["cosine"] > 0.9
    assert seen["l0"] == 0
    assert check_exercise(EXERCISE, outcome._dead, size="small").mistake == "dead"


def test_one_that_is_too_sparse_is_not_called_dead():
    def sparse(x, n_latents, k, seed):
        sae = train_simple(x, n_latents, k=k, seed=seed, steps=400, batch=512, lr=1e-2, decay=80)[0]
        return {**sae, "b_enc": sae["b_enc"] - 3.0}

    assert outcome.DEAD < _measured(sparse, "small", 3)["l0"] < outcome.ACTIVE_SHARE * 2.6
    verdict = check_exercise(EXERCISE, sparse, size="small", seed=3)
    assert not verdict.passed
    assert verdict.mistake is None
    assert "(needed: at least 1.3)" in verdict.message


def test_the_message_says_how_far_a_short_training_got():
    def hasty(x, n_latents, k, seed):
        return train_simple(x, n_latents, k=k, seed=seed, steps=60, batch=512, lr=1e-2)[0]

    verdict = check_exercise(EXERCISE, hasty, size="small")
    assert verdict.status == "wrong"
    assert verdict.mistake is None
    assert "explains 0." in verdict.message
    assert "recovers" in verdict.message


def test_the_global_random_state_is_left_alone():
    def untidy(*args):
        torch.manual_seed(0)
        return trained(*args)

    torch.manual_seed(1)  # a test before this one may have left the very seed of `untidy`
    verdict = check_exercise(EXERCISE, untidy, size="small")
    assert not verdict.passed
    assert "random state" in verdict.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda sae: list(sae.values()), "expected a dict"),
        (lambda sae: {name: sae[name] for name in ("W_enc", "W_dec")}, "expected a dict with W_enc, b_enc"),
        (lambda sae: {**sae, "b_dec": sae["b_dec"][:-1]}, "`b_dec` has shape"),
        (lambda sae: {**sae, "W_dec": sae["W_dec"] * torch.nan}, "diverged"),
        (lambda sae: {**sae, "b_enc": 0.0}, "`b_enc` is not a tensor"),
    ],
)
def test_wrong_types_and_shapes_have_messages_of_their_own(change, words):
    verdict = check_exercise(EXERCISE, lambda *args: change(outcome._copied_random(*args)), size="small")
    assert verdict.points == 0
    assert words in verdict.message


def test_nothing_about_the_dictionary_crosses():
    one = outcome._cases(RandomInputs(5), "small")[0]
    args = one.ask().calls[0].args
    assert [type(arg) for arg in args] == [torch.Tensor, int, int, int]
    assert args[0].shape == one.judge_data.x.shape
    assert torch.cdist(one.judge_data.held_out[:50], args[0]).min() > 1e-3
