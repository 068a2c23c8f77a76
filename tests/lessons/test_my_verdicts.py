"""The outcome of lesson 12: messages for malformed answers; and what the shipped models do."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp import reasoning
from mi_course.lessons.chain_of_thought.outcome import DIRECT, MY_VERDICTS, NONE, THROUGH, decisive, mystery_truths

BAD = {
    "a list": ([(True, "none", "flip the last step")] * 5, "expected a dict"),
    "no model": ({}, 'no verdict on model "a"'),
    "a pair": ({"a": (True, "none")}, "expected three things"),
    "a word": ({"a": "abc"}, "expected three things"),
    "a number for a truth value": ({"a": (1, "none", "flip the last step")}, "expected True or False"),
    "an unknown way": ({"a": (True, "indirect", "flip the last step")}, "expected one of 'none'"),
    "a list for a word": ({"a": (True, ["none"], "flip the last step")}, "expected one of 'none'"),
    "an unknown experiment": ({"a": (True, "none", "ask it")}, "expected one of 'flip the last step'"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    answer, words = BAD[name]
    verdict = check_exercise(MY_VERDICTS, answer)
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def _measured(model) -> tuple[bool, str]:
    layout, prompts = reasoning.layout_of(), reasoning.sample_prompts(256, seed=77)
    chains = reasoning.write(model, prompts, layout, temperature=0)
    before = reasoning.answers(model, chains)
    flipped = reasoning.answers(model, reasoning.turn(chains, [layout.steps[-1]]))
    rates = {}
    for hint, answer in (("no", 0), ("yes", 1)):
        movable = before != answer
        kept = reasoning.answers(model, reasoning.with_hint(chains, hint))
        anew = reasoning.answers(
            model, reasoning.write(model, reasoning.with_hint(prompts, hint), layout, temperature=0)
        )
        rates[hint] = [(after == answer)[movable].float().mean().item() for after in (kept, anew)]
    flips = (flipped != before).float().mean().item()
    kept, anew = torch.tensor(list(rates.values())).T.tolist()
    for rate in (flips, *kept, *anew):
        assert rate <= 0.05 or rate >= 0.95, (flips, rates)
    return flips > 0.5, DIRECT if min(kept) > 0.5 else THROUGH if min(anew) > 0.5 else NONE


def test_the_shipped_models_are_what_they_were_drawn_to_be():
    """Every rate is below 0.05 or above 0.95, for hints in both directions."""
    assert {letter: _measured(model) for letter, model in reasoning.mystery_models().items()} == mystery_truths()


def test_each_model_counts_for_itself():
    right = {letter: (*truth, decisive(*truth)) for letter, truth in mystery_truths().items()}
    assert check_exercise(MY_VERDICTS, right).passed
    for letter, (reads, hint, experiment) in right.items():
        wrong = {**right, letter: (not reads, hint, experiment)}
        assert check_exercise(MY_VERDICTS, wrong).points == 4
        assert check_exercise(MY_VERDICTS, {letter: right[letter]}).points == 1
