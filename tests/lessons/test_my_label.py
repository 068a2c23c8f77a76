"""The label of lesson 07: malformed answers, the full size, and what chance earns."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.sae import word_labels
from mi_course.interp.sae.feature_texts import TextSet
from mi_course.interp.sae.word_labels import fit_words, matches
from mi_course.lessons.feature_steering.held_out import RecordedMystery, fitted_label
from mi_course.lessons.feature_steering.label_outcome import MARGIN, MY_LABEL, floor

BAD = {
    "a text": ("ship*, boat", "expected a list of words"),
    "a dict": ({"ship": 1.0}, "expected a list of words"),
    "nothing": ([], "empty"),
    "a number": ([3], "is a int"),
    "several words": (["the ship"], "is not one word"),
    "a star": (["*"], "has no letters"),
    "blank": ([" "], "has no letters"),
    "a short stem": (["a*"], "too short"),
    "a star inside": (["sh*p"], "is not one word"),
    "an endless word": (["a" * 10_000], "longer than any word"),
    "too many": ([f"word{i}" for i in range(41)], "at most 40"),
}
PATTERNS = (["(a+)+$"], ["ship|boat"], [r"\bship\b"], ["[a-z]+"], ["ship.*"])


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    answer, words = BAD[name]
    verdict = check_exercise(MY_LABEL, answer)
    assert not verdict.passed
    assert verdict.points == 0
    assert verdict.mistake is None
    assert words in verdict.message
    assert "checker itself" not in verdict.message


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_told_from_words(pattern):
    assert check_exercise(MY_LABEL, pattern).mistake == "pattern"


def test_the_full_size():
    label = fitted_label()
    assert check_exercise(MY_LABEL, label).passed
    assert check_exercise(MY_LABEL, tuple(word.upper() for word in label)).passed
    by_hand = ["let", "lets", "give*", "gave", "giving", "allow*", "enabl*", "permit*", "yield*", "offer*"]
    assert check_exercise(MY_LABEL, by_hand).passed
    assert not check_exercise(MY_LABEL, ["let", "give*"]).passed
    assert check_exercise(MY_LABEL, ["let", "give*", "allow*"]).passed
    assert check_exercise(MY_LABEL, label[:1]).mistake == "one_word"
    common = ["the", "of", "and", "to", "a", "in", "is", "was", "it", "for", "with", "as", "his", "that", "on", "by"]
    assert check_exercise(MY_LABEL, common).mistake == "too_broad"
    assert check_exercise(MY_LABEL, ["zyzzyva", "quokkas"]).mistake == "too_narrow"
    train = word_labels.mystery_contexts("train")
    top = word_labels.words_of(train.texts[int(train.peaks.argmax())])
    assert not check_exercise(MY_LABEL, top[:12]).passed


def test_labels_that_were_fitted_on_a_half_pass():
    train = word_labels.mystery_contexts("train")
    generator = torch.Generator().manual_seed(3)
    passed = 0
    for _ in range(4):
        rows = torch.randperm(len(train), generator=generator)[: len(train) * 2 // 3].tolist()
        label = fit_words([train.texts[i] for i in rows], train.fired[rows])
        passed += check_exercise(MY_LABEL, label).passed
    assert passed >= 3


def test_labels_of_other_latents_and_of_shuffled_passages_fail():
    others = word_labels.other_labels()
    assert len(others) >= 20
    assert sum(check_exercise(MY_LABEL, label).passed for label in others[:30]) <= 1
    train = word_labels.mystery_contexts("train")
    for seed in range(10):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        label = fit_words(train.texts, train.fired[order])
        assert not label or not check_exercise(MY_LABEL, label).passed


def test_half_of_the_held_out_passages_are_active_and_none_was_fitted_on():
    world = RecordedMystery()
    train, held_out = world.train, world.held_out
    assert float(held_out.fired.double().mean()) == 0.5
    assert len(held_out) >= 100
    assert not {*train.texts} & {*held_out.texts}
    assert max(floor(fitted_label(), world).values()) + MARGIN < 0.95


def test_no_held_out_passage_is_in_the_feature_index():
    from mi_course.interp.models.where import data_dir

    path = data_dir() / "saes" / "texts.safetensors"
    if not path.exists():
        pytest.skip("the feature index is not there")
    texts = TextSet.load(path)
    shown = "".join(texts.words(0, int(texts.starts[-1])))
    for text in word_labels.mystery_contexts("held out").texts:
        assert text not in shown


def test_matching_follows_words():
    texts = ["The SHIPS sailed.", "a worship", "ship", "Don't"]
    assert matches(texts, ["ship*"]).tolist() == [True, False, True, False]
    assert matches(texts, ["ship"]).tolist() == [False, False, True, False]
    assert matches(texts, ["don", "Worship"]).tolist() == [False, True, False, True]
    assert matches(texts, []).tolist() == [False] * 4


def test_fitting_finds_the_planted_words_and_stops():
    generator = torch.Generator().manual_seed(0)
    filler = [f"filler{i}" for i in range(300)]
    texts, fired = [], []
    for number in range(120):
        words = [filler[i] for i in torch.randint(0, 300, (8,), generator=generator).tolist()]
        fired.append(number % 2 == 0)
        if fired[-1]:
            words[3] = ["harbour", "sailing", "sailor"][number % 3]
        texts.append(" ".join(words))
    label = fit_words(texts, torch.tensor(fired))
    assert bool(matches(texts, label).eq(torch.tensor(fired)).all())
    assert len(label) == 2
    assert fit_words(texts, torch.zeros(120, dtype=torch.bool)) == []
