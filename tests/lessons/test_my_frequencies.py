"""The outcome of lesson 13, part B: messages for malformed answers, and the mystery model itself."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.modular import my_frequencies, mystery_frequencies
from mi_course.lessons.latent_structure.frequencies import MY_FREQUENCIES

BAD = {
    "nothing": ([], "is empty"),
    "a number": (7, "expected a list"),
    "a dict": ({7: 1.2}, "list(found)"),
    "names": (["7"], "a whole number"),
    "fractions": ([7.5], "a whole number"),
    "truth values": ([True], "a whole number"),
    "beyond the clock": ([7, 59], "no frequency"),
    "negative": ([-7, 4], "no frequency"),
    "pairs": ([(7, 0.3)], "a whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    answer, words = BAD[name]
    verdict = check_exercise(MY_FREQUENCIES, answer)
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def test_on_the_mystery_model():
    used, decoys = mystery_frequencies()
    for answer in (my_frequencies(), tuple(used[::-1]), torch.tensor(used), [float(k) for k in used], [*used, used[0]]):
        verdict = check_exercise(MY_FREQUENCIES, answer)
        assert verdict.passed, verdict.message
    assert check_exercise(MY_FREQUENCIES, [*used, *decoys]).mistake == "in_the_embedding"
    assert check_exercise(MY_FREQUENCIES, [59 - k for k in used]).mistake == "mirrored"
    assert check_exercise(MY_FREQUENCIES, [59 - used[0], *used[1:]]).mistake == "mirrored"
    assert check_exercise(MY_FREQUENCIES, used[1:]).mistake == "too_few"
    assert check_exercise(MY_FREQUENCIES, [*used[1:], *decoys]).mistake is None
    assert not check_exercise(MY_FREQUENCIES, [*used[1:], *decoys]).passed
