"""The confidence of lesson 08: messages for malformed answers, what chance earns, and the full size."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp import knowledge
from mi_course.lessons.entities_and_uncertainty.held_out import HeldOutQuestions, stored_confidence
from mi_course.lessons.entities_and_uncertainty.outcomes import MY_CONFIDENCE, gains, standardized
from mi_course.lessons.entities_and_uncertainty.probes import _fit_probe

BAD = {
    "a list": ([1.0, 2.0], "expected a dictionary"),
    "a number": (0.5, "expected a dictionary"),
    "a tensor": (torch.ones(8), "expected a dictionary"),
    "no such signal": ({"answer probability": 1.0, "mood": 2.0}, "no signal 'mood'"),
    "a number as a name": ({3: 1.0}, "no signal '3'"),
    "a weight as text": ({"answer probability": "1"}, "expected a number"),
    "a truth as weight": ({"answer probability": True}, "expected a number"),
    "two numbers": ({"answer probability": torch.ones(2)}, "expected a number"),
    "NaN": ({"answer probability": float("nan")}, "finite"),
    "infinity": ({"answer probability": float("inf")}, "finite"),
    "enormous": ({"answer probability": 1e30}, "finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    answer, words = BAD[name]
    verdict = check_exercise(MY_CONFIDENCE, answer)
    assert not verdict.passed
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def _check(weights):
    return check_exercise(MY_CONFIDENCE, weights)


def test_the_full_size():
    assert _check(stored_confidence()).passed
    assert _check({"answer probability": 1.0}).passed
    assert _check({"answer probability": torch.tensor([3.0]), "P(true)": 0}).passed
    assert _check({"answer probability": -1.0}).mistake == "turned_around"
    assert _check({"first-token probability": 0.1}).mistake == "top_probability_alone"
    assert _check({}).mistake == "nothing_weighed"
    assert _check({"answer probability": 0.0}).mistake == "nothing_weighed"
    assert _check({"answer probability": 1.0, "first-token probability": 1.0, "string entropy": 1.0}).mistake == (
        "entropy_unturned"
    )
    for weak in ("samples that agree", "P(true)", "log-probability per token"):
        verdict = _check({weak: 1.0})
        assert verdict.mistake is None
        assert "0.773" in verdict.message


def test_an_entropy_alone_is_not_told_that_its_sign_would_help():
    """Turned, it would not pass either."""
    assert _check({"semantic entropy": 1.0}).mistake in (None, "turned_around")
    assert _check({"semantic entropy": -1.0}).mistake is None


@pytest.mark.parametrize("l2", [0.03, 0.1, 1.0])
def test_weights_that_are_fitted_on_the_other_questions_pass(l2):
    signals, correct = knowledge.signals(held_out=False)
    z = torch.stack([standardized(values) for values in signals.values()], 1).float()
    w, _ = _fit_probe(z, correct, l2)
    assert _check(dict(zip(signals, w.tolist(), strict=True))).passed


def _passing(rows: torch.Tensor) -> float:
    world = HeldOutQuestions()
    z = torch.stack([standardized(values) for values in world.signals.values()], 1)
    own, correct = world.signals[world.own], world.correct
    passed = [bool(gains(z @ w, own, correct, 200).quantile(0.05) > 0) for w in rows.double()]
    return sum(passed) / len(passed)


@pytest.mark.measured
def test_weights_that_were_fitted_on_shuffled_labels_pass_in_less_than_one_of_a_hundred():
    signals, correct = knowledge.signals(held_out=False)
    z = torch.stack([standardized(values) for values in signals.values()], 1)
    generator = torch.Generator().manual_seed(1)
    shuffled = torch.stack([correct[torch.randperm(len(correct), generator=generator)] for _ in range(300)], 1)
    weights = torch.linalg.lstsq(z, shuffled.double() - correct.double().mean()).solution.T
    assert _passing(weights) < 0.01


@pytest.mark.measured
def test_random_weights_rarely_pass():
    """Some do, since they happen to weigh the answer's probability: on the other questions they are better as well."""
    assert _passing(torch.randn(400, 8, generator=torch.Generator().manual_seed(2))) < 0.08
