"""Lesson 08's questions and names, what counts as a right answer, and the signals that are read from stored answers."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from mi_course.interp import knowledge, knowledge_study

FAMOUS, OBSCURE, INVENTED, SHUFFLED = (knowledge.names(kind) for kind in ("famous", "obscure", "invented", "shuffled"))


@pytest.fixture(scope="module")
def model():
    from mi_course.interp.models import load_model, smollm2

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model().requires_grad_(False)


# ---------------------------------------------------------------------------------------------------------------------
# Questions


def test_there_are_enough_questions_in_enough_relations():
    counts = Counter(question.relation for question in knowledge.questions())
    assert len(counts) >= 8
    assert sum(counts.values()) >= 400
    assert min(counts.values()) >= 12


def test_no_question_is_asked_twice_and_each_has_an_answer_that_counts():
    asked = [(q.relation, q.subject) for q in knowledge.questions()]
    assert len(set(asked)) == len(asked)
    for question in knowledge.questions():
        assert question.answers
        assert all(knowledge.is_right(f" {answer}.", question.answers) for answer in question.answers)
        assert len(set(question.answers)) == len(question.answers)


def test_a_prompt_names_its_subject_and_does_not_give_its_answer_away():
    for question in knowledge.questions():
        for i in range(len(question.wordings)):
            prompt = question.prompt(i)
            assert question.subject in prompt
            assert "{}" not in prompt


def test_both_halves_have_every_relation():
    halves = [Counter(row.question.relation for row in knowledge.half(held_out)) for held_out in (False, True)]
    assert set(halves[0]) == set(halves[1])
    assert sum(halves[0].values()) == sum(halves[1].values()) == 270
    assert not {row.question for row in knowledge.half(False)} & {row.question for row in knowledge.half(True)}


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        (" Paris", ["Paris"], True),
        (" paris, the largest city", ["Paris"], True),
        ('"The Yen".', ["yen"], True),
        (" Parisian", ["Paris"], False),
        (" Lyon or Paris", ["Paris"], False),
        (" New York City", ["New York"], True),
        (" York", ["New York"], False),
        (" W.", ["W"], True),
        (" the", ["The Hague"], False),
        ("", ["Paris"], False),
        (" C++", ["C"], True),
        (" a.b", ["a+b"], False),
    ],
)
def test_what_counts_as_right(answer, accepted, right):
    assert knowledge.is_right(answer, accepted) is right


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Paris", "paris.", True),
        ("Paris", "Paris, France", True),
        ("Dickens", "Charles Dickens", True),
        ("York", "New Yorkshire", False),
        ("art", "Bart", False),
        ("", "", True),
        ("", "Paris", False),
        ("Rome", "Paris", False),
    ],
)
def test_what_means_the_same(a, b, same):
    assert knowledge.same_answer(a, b) is same
    assert knowledge.same_answer(b, a) is same


# ---------------------------------------------------------------------------------------------------------------------
# Names


def test_there_are_eighty_names_of_each_kind_and_nobody_twice():
    assert [len(kind) for kind in (FAMOUS, OBSCURE, INVENTED, SHUFFLED)] == [80] * 4
    assert len({person.name for person in knowledge.names()}) == 320


def test_shuffled_names_are_the_halves_of_famous_ones_and_stay_in_their_block():
    for famous, shuffled in zip(FAMOUS, SHUFFLED, strict=True):
        assert famous.name.split()[0] == shuffled.name.split()[0]
        assert famous.block == shuffled.block
    for block in {person.block for person in FAMOUS}:
        halves = [
            sorted(half for person in kind if person.block == block for half in person.name.split(" ", 1))
            for kind in (FAMOUS, SHUFFLED)
        ]
        assert halves[0] == halves[1]


def test_names_of_two_blocks_share_no_half():
    owner: dict[str, str] = {}
    for person in FAMOUS:
        for half in person.name.split():
            assert owner.setdefault(half, person.block) == person.block


def test_nobody_has_attributes_who_was_never_born():
    assert all(person.born is None and not person.occupation for person in (*INVENTED, *SHUFFLED))
    for person in (*FAMOUS, *OBSCURE):
        assert person.occupation
        assert person.nationality
        assert person.accepts("century", str(person.born)[:2])
        assert not person.accepts("century", "99")
    # What is not in the closed lists, the model cannot get right: three occupations, two nationalities.
    people = (*FAMOUS, *OBSCURE)
    assert sum(not set(person.occupation) & set(knowledge.OCCUPATIONS) for person in people) <= 3
    assert sum(not set(person.nationality) & set(knowledge.NATIONALITIES) for person in people) <= 2


def test_matched_names_are_two_halves_of_the_blocks():
    fitted, judged = knowledge.matched(False), knowledge.matched(True)
    assert [Counter(person.kind for person in half) for half in (fitted, judged)] == [
        {"famous": 40, "shuffled": 40}
    ] * 2
    words = [{half for person in people for half in person.name.split()} for people in (fitted, judged)]
    assert not words[0] & words[1]


def test_letters_that_one_name_alone_has_are_left_out():
    features = knowledge.letter_features(FAMOUS[:20])
    assert features.shape[0] == 20
    assert ((features > 0).sum(0) >= 2).all()


@pytest.mark.real_model
def test_invented_names_have_as_many_tokens_as_famous_ones(model):
    def count(half):
        return len(model.tokenizer.encode(f" {half}", add_special_tokens=False))

    for famous, invented in zip(FAMOUS, INVENTED, strict=True):
        first, rest = famous.name.split(" ", 1)
        assert [count(first), count(rest)] == [count(half) for half in invented.name.split(" ", 1)]


@pytest.mark.real_model
def test_names_are_read_at_their_last_token_and_shuffled_ones_end_in_the_same(model):
    people = [FAMOUS[0], SHUFFLED[0]]
    alone = torch.stack([knowledge.read(model, [person], 3)[0] for person in people])
    assert torch.allclose(knowledge.read(model, people, [1, 3])[1], alone, atol=1e-3)
    famous, shuffled = (sorted(map(tuple, knowledge.embeddings(model, kind).tolist())) for kind in (FAMOUS, SHUFFLED))
    assert famous == shuffled  # the very same last tokens


@pytest.mark.real_model
def test_the_second_half_of_a_name_is_read_after_the_first(model):
    person = FAMOUS[0]
    text = knowledge.CONTEXT.format(person.name)
    before = knowledge.CONTEXT.format(person.name.split()[0])
    ids = [model.tokenizer.encode(each, add_special_tokens=False) for each in (text, before)]
    bos = [model.tokenizer.bos_token_id]
    with torch.no_grad():
        logprobs = model(torch.tensor([bos + ids[0]]))[0].log_softmax(-1)
    expected = sum(float(logprobs[len(ids[1]) + i, token]) for i, token in enumerate(ids[0][len(ids[1]) :]))
    found = knowledge.name_logprob(model, [person, SHUFFLED[0]])
    assert float(found[0]) == pytest.approx(expected, abs=1e-2)
    assert found[1] < found[0]


# ---------------------------------------------------------------------------------------------------------------------
# Signals


def test_classes_are_joined_through_any_number_of_steps():
    answers = ["Rome", "in Rome", "Oslo", "in", "x"]
    assert sorted(map(sorted, knowledge.meanings(answers))) == [[0, 1, 3], [2], [4]]


def test_entropies_over_strings_and_meanings():
    samples, logprobs = ["Paris", "Paris.", "Rome", "Rome"], [math.log(0.2)] * 4
    assert knowledge.string_entropy(samples, logprobs) == pytest.approx(
        -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    )
    assert knowledge.entropy([3.0, 3.0, 6.0]) == pytest.approx(1.5 * math.log(2))
    assert knowledge.entropy([5.0]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("held_out", [False, True])
def test_signals_are_those_of_the_stored_answers(held_out):
    signals, correct = knowledge.signals(held_out)
    rows = knowledge.half(held_out)
    assert correct.tolist() == [row.right for row in rows]
    for values in signals.values():
        assert values.shape == correct.shape
        assert values.isfinite().all()
        assert len(set(values.tolist())) > 3
    row, i = rows[17], 17
    assert float(signals["answer probability"][i]) == pytest.approx(math.prod(map(math.exp, row.logprobs)), rel=1e-4)
    assert float(signals["first-token probability"][i]) == pytest.approx(math.exp(row.logprobs[0]), rel=1e-4)
    assert (signals["answer probability"] <= signals["first-token probability"] + 1e-6).all()
    assert (signals["semantic entropy"] <= signals["string entropy"] + 1e-6).all()
    assert ((signals["samples that agree"] >= 0) & (signals["samples that agree"] <= 1)).all()


def test_each_question_has_its_stored_answer_and_samples():
    for row in knowledge.answers():
        assert row.logprobs
        assert max(row.logprobs) <= 1e-3
        assert len(row.samples) == len(row.sample_logprobs) >= 5
    right = sum(row.right for row in knowledge.answers()) / 540
    assert 0.2 < right < 0.8


# ---------------------------------------------------------------------------------------------------------------------
# Probes and calibration


def test_scores_are_those_of_a_probe_that_was_fitted_on_the_other_folds():
    x, y = torch.arange(6.0)[:, None], torch.arange(6) > 2
    seen = []

    def fit(rows, labels):
        seen.append(sorted(rows.flatten().tolist()))
        return rows.mean(0), -1.0

    scores = knowledge.out_of_fold(x, y, [[0, 3], [1, 2, 4, 5]], fit)
    assert seen == [[1, 2, 4, 5], [0, 3]]
    assert torch.allclose(scores, torch.tensor([0.0, 1.5, 3.0, 9.0, 6.0, 7.5]) - 1)


def test_the_unit_of_the_largest_smallest_separation():
    separations = torch.tensor([[0.9, 0.5, -0.2], [0.1, 0.4, 0.8], [0.7, 0.3, 0.9]])
    assert knowledge.min_over_types(separations) == 1
    assert knowledge.min_over_types(separations[:1]) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_is_found_that_the_labels_were_drawn_with(temperature):
    generator = torch.Generator().manual_seed(3)
    honest = torch.randn(4000, generator=generator) * 2
    labels = torch.rand(4000, generator=generator) < honest.sigmoid()
    found = knowledge_study.fit_temperature(honest * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.1)


def test_the_temperature_has_the_least_loss():
    from scipy.optimize import minimize_scalar

    generator = torch.Generator().manual_seed(4)
    logits, labels = torch.randn(60, generator=generator) * 3, torch.rand(60, generator=generator) < 0.5

    def loss(log_temperature):
        scaled = logits.double() / math.exp(log_temperature)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, labels.double()))

    best = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x
    assert math.log(knowledge_study.fit_temperature(logits, labels)) == pytest.approx(best, abs=0.02)


def test_the_penalty_is_chosen_without_the_rows_that_are_tested():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=generator), torch.arange(40) % 2 == 0
    groups = [str(i // 4) for i in range(40)]
    fitted = []

    def folds_of(names, n, seed):
        order = sorted(set(names))
        return [[i for i, name in enumerate(names) if order.index(name) % n == k] for k in range(n)]

    def fit(rows, labels, penalty):
        fitted.append({tuple(row.tolist()) for row in rows})
        return torch.ones(3) / penalty, 0.0

    def area(scores, labels):
        return float(scores[labels].mean() - scores[~labels].mean())

    score, chosen = knowledge_study.choose_penalty(x, y, groups, fit, folds_of, area)[:2]
    assert len(chosen) == 5
    assert math.isfinite(score)
    per_fold = len(fitted) // 5  # inner fits, and then the outer one
    for k, fold in enumerate(folds_of(groups, 5, 0)):
        tested = {tuple(x[i].tolist()) for i in fold}
        assert not any(tested & rows for rows in fitted[k * per_fold : (k + 1) * per_fold])


def test_a_resampled_measure_scatters_around_its_value():
    confidence, correct = torch.full((400,), 0.3), torch.arange(400) % 10 < 3
    found = knowledge_study.resampled(lambda c, right: float(right.double().mean()), confidence, correct)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.01)
    assert float(found.std()) == pytest.approx((0.3 * 0.7 / 400) ** 0.5, rel=0.2)


@pytest.mark.real_model
def test_effects_have_a_direction_and_controls_of_its_norm(model):
    people = FAMOUS[:3]
    activations = knowledge.read(model, FAMOUS[:12], 12)
    found = knowledge_study.effects(model, people, activations[0] - activations[1], activations, 12, "add", n=2)
    assert {kind: len(each.entropy) for kind, each in found.items()} == {"direction": 1, "random": 2, "matched": 2}
    assert all(each.attention.shape[1:] == (30, 9) for each in found.values())


@pytest.mark.real_model
def test_neurons_are_read_at_each_names_last_token(model):
    people = [FAMOUS[0], INVENTED[3]]
    alone = torch.cat([knowledge_study.neurons(model, [person], 5) for person in people])
    assert torch.allclose(knowledge_study.neurons(model, people, 5), alone, atol=1e-3)
