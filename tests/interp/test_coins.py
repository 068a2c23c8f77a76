"""Coins with names (lesson 13, part C): the documents, the recorded models, and the run with another seed."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import coins


@pytest.fixture(scope="module")
def models():
    return coins.trained_coin_models()


def test_known_and_new_coins_have_the_same_values():
    for some in (coins.KNOWN, coins.NEW):
        counts = coins.levels_of(some).bincount(minlength=len(coins.VALUES))
        assert (counts == len(some) // len(coins.VALUES)).all()
    assert not set(coins.KNOWN.tolist()) & set(coins.NEW.tolist())


@pytest.mark.parametrize("plan", coins.PLANS)
def test_new_coins_come_late_and_are_never_asked_about(plan, monkeypatch):
    monkeypatch.setattr(coins, "STEPS", 3)
    monkeypatch.setattr(coins, "STEPS_LATER", 3)
    model, read = coins.untrained_coin_model(), []
    model.register_forward_pre_hook(lambda module, args: read.append(args[0].clone()))
    assert list(coins.train_on_coins(model, plan, batch=64)) == [1, 2, 3, 4, 5, 6]
    first, later = torch.cat(read[:3]), torch.cat(read[3:])
    assert not torch.isin(first[:, 0], coins.NEW).any()
    tosses, questions = (later[later[:, 1] == kind][:, 0] for kind in (coins.LANDS, coins.HOW_OFTEN))
    assert torch.isin(tosses, coins.NEW).any()
    assert not torch.isin(questions, coins.NEW).any()
    assert (len(questions) == 0) == (plan == "questions not rehearsed")


def test_training_repeats_and_leaves_the_random_state(monkeypatch):
    monkeypatch.setattr(coins, "STEPS", 2)
    monkeypatch.setattr(coins, "STEPS_LATER", 2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    said = []
    for _ in range(2):
        model = coins.untrained_coin_model()
        for _ in coins.train_on_coins(model, batch=32):
            pass
        said.append(coins.answer_probabilities(model, coins.NEW))
    assert torch.rand(1) == expected
    assert torch.equal(*said)
    assert not model.training


def test_another_plan_is_refused():
    with pytest.raises(ValueError, match="no plan 'all'"):
        next(coins.train_on_coins(coins.untrained_coin_model(), "all"))


def test_the_recorded_models_are_what_the_lesson_says(models):
    after, exchanged, unrehearsed = (
        models[name]
        for name in ("1,000 steps with new coins", "control: names exchanged", "control: questions not rehearsed")
    )
    before = models["before the new coins"]
    assert coins.right_answers(after, coins.KNOWN) == 1
    assert coins.right_answers(after, coins.NEW) > 0.65
    for control in (before, exchanged):
        assert coins.right_answers(control, coins.KNOWN) == 1
        assert coins.right_answers(control, coins.NEW) < 0.35
    assert coins.right_answers(unrehearsed, coins.KNOWN) < 0.4
    assert coins.heads_off_by(unrehearsed, coins.NEW) < 0.03


@pytest.mark.parametrize("seed", [1, 2])
def test_one_direction_moves_tosses_and_not_words(models, seed):
    given = coins.give_other_values(models["1,000 steps with new coins"], seed=seed)
    assert given["along one direction"][2] > 0.5 >= given["along one direction"][0]
    assert min(given["from mean to mean"][0], given["everything, from a known coin"][0]) > 0.8
    assert given["control: random, mean of ten"][0] < 0.3
    before = coins.answers(models["1,000 steps with new coins"], coins.NEW)
    assert torch.equal(before, coins.answers(models["1,000 steps with new coins"], coins.NEW)), "hooks are gone"


def test_changes_have_the_length_that_is_said(models):
    given = coins.give_other_values(models["1,000 steps with new coins"])
    assert given["control: random, mean of ten"][3] == pytest.approx(given["from mean to mean"][3], rel=1e-4)


@pytest.mark.measured
@pytest.mark.parametrize("seed", [1])
def test_another_run_puts_the_dots_together_too(seed):
    model = coins.untrained_coin_model(seed)
    for step in coins.train_on_coins(model, seed=seed):
        if step == coins.STEPS:
            assert coins.right_answers(model, coins.NEW) < 0.35
    assert coins.right_answers(model, coins.NEW) > 0.65
    given = coins.give_other_values(model)
    assert given["along one direction"][0] < 0.5 < 0.8 < given["from mean to mean"][0]
