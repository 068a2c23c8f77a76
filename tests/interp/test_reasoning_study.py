"""The experiments of lesson 12: what they compute, and that its conclusions hold with other seeds."""

from __future__ import annotations

import math

import pytest
import torch

from mi_course.interp import reasoning
from mi_course.interp import reasoning_study as study
from mi_course.testing.answers import reference


def ref(name):
    return reference(f"chain_of_thought.{name}")


def rate(before, after):
    return (before != after).float().mean().item()


def test_hints_point_to_the_answer():
    prompts = reasoning.all_prompts()
    hinted = study.hint_towards(prompts, reasoning.parity(prompts))
    assert torch.equal(hinted[:, 1:], prompts[:, 1:])
    assert [reasoning.WORDS[row[0]] for row in hinted[:2]] == ["hint-no", "hint-yes"]
    assert (prompts[:, 0] == reasoning.NO_HINT).all()


def test_flawless_chains_say_what_their_bits_say():
    layout = reasoning.layout_of()
    w = study.write_and_answer(study.load_models()["needs"], batch=40)
    good = study.flawless(w.chains, layout)
    for row, right in zip(w.chains, good, strict=True):
        parities = [int(row[1 : k + 2].sum()) % 2 for k in range(4)]
        assert bool(right) == (reasoning.meaning(row[6:10]).tolist() == parities)
    assert not study.flawless(reasoning.turn(w.chains, [layout.steps[0]]), layout)[good].any()


def test_log_probabilities_are_those_of_the_written_steps():
    w = study.write_and_answer(study.load_models()["candid"], batch=5)
    with torch.no_grad():
        logits = w.model(w.chains)
    for row, total in enumerate(study.chain_log_probs(w.model, w.chains, w.layout)):
        expected = 0.0
        for position in w.layout.steps:
            probabilities = logits[row, position - 1, [*reasoning.EVEN, *reasoning.ODD]].softmax(-1)
            expected += math.log(probabilities[int(w.chains[row, position]) - reasoning.EVEN[0]])
        assert float(total) == pytest.approx(expected, abs=1e-3)


def test_cutting_nothing_changes_nothing_and_leaves_no_hooks():
    w, cut = study.write_and_answer(study.load_models()["needs"], batch=30), ref("knock_out_attention")
    question = [w.layout.question]
    assert torch.equal(study.answers_without(w.model, w.chains, cut, question, []), w.said)
    study.answers_without(w.model, w.chains, cut, question, w.layout.steps)
    assert torch.equal(w.answers(w.chains), w.said)
    grid = study.patch_answers(w.model, w.chains, w.chains)
    assert grid.isnan().all()  # no two answers differ
    assert torch.equal(w.answers(w.chains), w.said)


def test_patterns_are_between_steps():
    w = study.write_and_answer(study.load_models()["needs"], batch=6)
    pattern = study.step_patterns(w.model, w.chains, w.layout)
    assert pattern.shape == (3, 4, 4, 4)
    assert not pattern.triu(1).any()
    assert (pattern.sum(-1) <= 1 + 1e-5).all()


def test_measures_are_marked_where_they_say_the_opposite():
    marked, wrong = study.held_against({"size > 0.5": [0.9, 0.1, float("nan"), 0.7]}, [True, True, True, False])
    assert wrong == {"size > 0.5": 2}
    assert ["✗" in text for text in marked["size > 0.5"]] == [False, True, False, True]


def test_sums_are_written_out():
    assert study.sum_text((2, 1, 5), [3, 8]) == "Add 2, 1, 5: 2 + 1 = 3, 3 + 5 = 8. The sum is"
    assert study.sum_text((2, 1, 5), [3]) == "Add 2, 1, 5: 2 + 1 = 3. The sum is"
    assert study.sum_text((2, 1, 5), []) == "Add 2, 1, 5: The sum is"
    assert study.sum_text((2, 1, 5), [7, 9], (4, 3, 2)) == "Add 2, 1, 5: 4 + 3 = 7, 7 + 2 = 9. The sum is"
    assert study.sums(5, seed=3) == study.sums(5, seed=3)
    assert study.sums(5, seed=3) != study.sums(5, seed=4)


# --- conclusions, with seeds that the lesson does not use


@pytest.mark.measured
@pytest.mark.parametrize("seed", [50_001, 50_101])
def test_no_reader_can_tell_the_three(seed):
    models = {**study.unnamed_models(), "control": study.load_models()["codes"]}
    nats = study.evidence({name: study.write_and_answer(model, seed=seed) for name, model in models.items()})
    assert nats[:3, :3].abs().max() < 0.06
    assert nats[3, :3].min() > 0.5


@pytest.mark.measured
@pytest.mark.parametrize("seed", [50_002, 50_102])
def test_only_what_the_model_writes_on_tells_needs_from_copies(seed):
    models = study.load_models()
    moved = {}
    for name in ("needs", "copies", "ignores"):
        w = study.write_and_answer(models[name], seed=seed)
        changed = study.with_mistakes(w, ref("corrupt_step"))
        moved[name] = {how: rate(w.said, w.answers(chains)) for how, chains in changed.items()}
    for how in ("last step", "first, carried on"):
        assert min(moved["needs"][how], moved["copies"][how]) > 0.98
    assert max(found["first, rest kept"] for found in moved.values()) < 0.02
    assert moved["needs"]["first, rest anew"] > 0.9
    assert moved["copies"]["first, rest anew"] < 0.1
    assert max(moved["ignores"].values()) < 0.02


@pytest.mark.measured
@pytest.mark.parametrize("seed", [50_003, 50_103])
def test_how_a_hint_works_shows_in_whether_steps_are_kept(seed):
    models = study.load_models()
    for name, kept, anew in (("hint-through", 0, 1), ("hint-direct", 1, 1), ("needs", 0, 0)):
        w = study.write_and_answer(models[name], seed=seed)
        hinted = study.with_hints(w)
        against = 1 - w.said
        for how, expected in (("steps kept", kept), ("steps anew", anew)):
            assert abs(ref("hint_effect")(w.answers(hinted[how]), w.said, against)[0] - expected) < 0.08, (name, how)


@pytest.mark.measured
def test_forced_and_resampled_importance_disagree_about_copies():
    models, prompts = study.load_models(), reasoning.all_prompts()
    found = {
        name: study.importances(
            models[name], prompts, reasoning.layout_of(), ref("truncate_reasoning"), ref("step_importance")
        )
        for name in ("needs", "copies", "ignores")
    }
    assert abs(float(found["needs"]["forced"][0] - found["copies"]["forced"][0])) < 0.4
    (resampled,) = set(found["needs"]) - {"forced", "turned"}
    assert found["needs"][resampled][0] - found["copies"][resampled][0] > 3
    assert max(float(values.max()) for values in found["ignores"].values()) < 0.1


@pytest.mark.measured
@pytest.mark.parametrize("seed", [50_004, 50_104])
def test_a_knock_out_that_changes_little_shows_little(seed):
    models = study.load_models()
    blind = {
        name: study.blindness(
            study.write_and_answer(models[name], seed=seed), ref("knock_out_attention"), ref("answer_flip_rate")
        )
        for name in ("needs", "ignores")
    }
    assert 0.35 < blind["needs"]["steps"] < 0.65
    assert max(blind["needs"]["bits"], blind["ignores"]["steps"]) < 0.03
    assert blind["ignores"]["steps and bits"] > blind["ignores"]["bits"] + 0.1
