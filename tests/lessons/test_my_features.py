"""The latents for concepts of lesson 07: malformed answers, the full size, and what chance earns."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.sae import concepts
from mi_course.interp.sae.word_labels import words_of
from mi_course.lessons.feature_steering.features_outcome import MY_FEATURES
from mi_course.lessons.feature_steering.held_out import best_on_training

BAD = {
    "a list": ([1, 2, 3, 4, 5, 6], "expected a dict"),
    "a number": (17, "expected a dict"),
    "no such concept": ({"mood": 3}, "no concept 'mood'"),
    "a number as a name": ({3: 3}, "no concept '3'"),
    "a latent as text": ({"law": "12"}, "expected a whole number"),
    "a share": ({"law": 0.5}, "expected a whole number"),
    "a truth": ({"law": True}, "expected a whole number"),
    "two latents": ({"law": torch.tensor([1, 2])}, "expected a whole number"),
    "a negative number": ({"law": -1}, "no latent -1"),
    "enormous": ({"law": 4608}, "another SAE"),
    "nothing": ({}, "no latent for"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own(name):
    answer, words = BAD[name]
    verdict = check_exercise(MY_FEATURES, answer)
    assert not verdict.passed
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


def test_the_latents_that_are_best_on_the_training_passages_pass():
    features = best_on_training()
    assert check_exercise(MY_FEATURES, features).passed
    assert check_exercise(MY_FEATURES, {name: torch.tensor([i]) for name, i in features.items()}).passed


def test_each_concept_counts_for_itself():
    features = best_on_training()
    assert check_exercise(MY_FEATURES, {"the sea": features["the sea"]}).points == 1
    assert check_exercise(MY_FEATURES, features | {"law": features["the sky"]}).points == 5


def test_mistakes_at_the_full_size():
    features = best_on_training()
    train = concepts.concept_contexts("train")
    moved = check_exercise(MY_FEATURES, {name: (i + 1) % 4608 for name, i in features.items()})
    assert moved.mistake == "off_by_one"
    exchanged = features | {"the sea": features["food"], "food": features["the sea"]}
    assert check_exercise(MY_FEATURES, exchanged).mistake == "another_concept"
    largest_mean = int(train.latents.mean(0).argmax())
    assert check_exercise(MY_FEATURES, dict.fromkeys(concepts.CONCEPTS, largest_mean)).mistake == "dense"


def test_a_random_latent_earns_nothing_and_gets_no_name_of_a_mistake():
    """Of a hundred: a few are active on a concept after all."""
    generator = torch.Generator().manual_seed(1)
    alive = concepts.live(concepts.concept_contexts("train").latents)
    drawn = alive[torch.randperm(len(alive), generator=generator)[:100]].tolist()
    verdicts = [check_exercise(MY_FEATURES, dict.fromkeys(concepts.CONCEPTS, latent)) for latent in drawn]
    assert sum(verdict.points for verdict in verdicts) <= 12
    assert sum(verdict.mistake in ("off_by_one", "another_concept", "never_active") for verdict in verdicts) <= 12


def test_the_kind_of_text_alone_is_worth_nothing():
    held_out = concepts.concept_contexts("held out")
    books = torch.tensor([float(kind == "books") for kind in held_out.kinds])
    for concept in concepts.CONCEPTS:
        assert float(held_out.area(concept, books)) == 0.5


def test_no_passage_is_in_both_splits_and_labels_follow_the_lists():
    train, held_out = concepts.concept_contexts("train"), concepts.concept_contexts("held out")
    assert not {*train.texts} & {*held_out.texts}
    for passages in (train, held_out):
        for concept, labels in passages.about.items():
            words = {*concepts.word_lists()[concept]}
            found = [len(words & {*words_of(text)}) for text in passages.texts]
            assert labels.tolist() == [1 if n >= 2 else 0 if n == 0 else -1 for n in found]


def test_the_difference_of_means_beside_it():
    """What the lesson prints: every latent passes its bar, and the difference of means is above 0.95."""
    found = concepts.compare(best_on_training())
    assert all(one.held_out > one.bar + 0.05 for one in found.values())
    assert all(one.difference_of_means > 0.95 for one in found.values())


@pytest.mark.real_model
@pytest.mark.measured
def test_the_recorded_latents_are_those_of_the_shipped_sae():
    """Recorded in bfloat16, and in 255 steps: here in float32."""
    import mi_course
    from mi_course.interp.sae import load_shipped

    model, sae = mi_course.load_model(compatibility=False), load_shipped(concepts.SAE_NAME)
    train = concepts.concept_contexts("train")
    rows = list(range(0, len(train), 24))
    peaks = concepts.context_peaks(model, sae, train.tokens[rows])
    best = list(best_on_training().values())
    assert torch.allclose(peaks[:, best], train.latents[rows][:, best], rtol=0.05, atol=0.5)
    assert float(((peaks > 0) == (train.latents[rows] > 0)).double().mean()) > 0.97
