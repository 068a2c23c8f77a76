"""What lesson 08 measures on names and answers."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import knowledge, knowledge_study


def area(scores, labels):
    above = scores[labels][:, None] - scores[~labels][None]
    return float((above.sign().double() / 2 + 0.5).mean())


@pytest.fixture(scope="module")
def model():
    from mi_course.interp.models import load_model, smollm2

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model().requires_grad_(False)


# ---------------------------------------------------------------------------------------------------------------------
# Without a model


def test_an_area_inside_groups_does_not_see_which_group_it_is():
    correct = torch.tensor([True, True, False, True, False, False])
    groups = ["a", "a", "a", "b", "b", "b"]
    of_the_group = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert area(of_the_group, correct) == pytest.approx(2 / 3)
    assert knowledge_study.within(area, of_the_group, correct, groups) == {"a": 0.5, "b": 0.5}


def test_a_group_in_which_all_are_right_has_no_area():
    found = knowledge_study.within(area, torch.arange(4.0), torch.tensor([True, True, False, True]), list("aabb"))
    assert found == {"b": 1.0}


def test_the_share_of_a_group_leaves_out_the_fold_itself():
    correct = torch.tensor([True, False, True, True, False])
    found = knowledge_study.share_in_group(correct, list("aaabb"), [[0, 3], [1, 2], [4]])
    assert found.tolist() == [0.5, 1.0, 1.0, 0.0, 1.0]


def test_a_group_that_is_in_one_fold_alone_has_one_half():
    assert knowledge_study.share_in_group(torch.tensor([True, False]), ["a", "b"], [[0], [1]]).tolist() == [0.5, 0.5]


def test_scores_of_different_probes_are_not_compared():
    correct = torch.tensor([True, False, True, False])
    scores = torch.tensor([10.0, 9.0, 1.0, 0.0])  # each fold's probe is right, and has a level of its own
    table = {"x, new subjects": scores, "x, new relation": scores}
    rows, inside = knowledge_study.right_table(area, table, correct, list("rrrr"), [[0, 1], [2, 3]])
    assert rows["x, new subjects"] == [1.0, 1.0]
    assert inside["x, new subjects"] == {"r, 0": 1.0, "r, 1": 1.0}
    assert inside["x, new relation"] == {"r": 0.75}
    assert torch.tensor(rows["x, new relation"]).isnan().tolist() == [True, False]


def test_a_permutation_test_fits_and_scores_on_different_rows():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2 == 0
    x = torch.randn(40, 3, generator=generator)
    x[:20, 0] += 4 * y[:20]
    x[20:, 0] -= 4 * y[20:]  # the other way round where it is scored
    asked = []

    def p_value(x, y, groups, score, n, seed):
        asked.append((groups, n))
        return float(score(x, y) > 0.5)

    found = knowledge_study.permutation_test(p_value, area, x, y, torch.arange(40) < 20, ["g"] * 40, n=7)
    assert found[0] < 0.1
    assert found[2] == 0.0
    assert asked == [(["g"] * 40, 7)]


def test_a_calibrated_model_shows_what_chance_shows():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(300, generator=generator)

    def ece(p, correct, n_bins):
        return sum(
            len(b) / len(p) * abs(float(p[b].mean() - correct[b].float().mean())) for b in p.argsort().chunk(n_bins)
        )

    honest = torch.rand(300, generator=generator) < p
    rows = knowledge_study.calibration_table(ece, {"honest": p, "too high": p.sqrt()}, honest)
    mean, error, expected, high = rows["honest"]
    assert mean == pytest.approx(float(p.mean()))
    assert 0 < expected < high < 0.15
    assert error < high
    assert rows["too high"][1] > rows["too high"][3]


def test_units_that_tell_by_luck_are_found_by_exchanging_names():
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(30, 50, generator=generator), torch.randn(30, 50, generator=generator)
    known[:, 7], unknown[:, 7] = 1.0, -1.0

    def separate(a, b):
        return (a > 0).float().mean(0) - (b > 0).float().mean(0)

    lucky = knowledge_study.lucky_separations(separate, known, [unknown, unknown], n=10)
    assert lucky.shape == (10,)
    assert float(separate(known, unknown)[7]) == 1.0
    assert 0 < float(lucky.max()) < 0.7


def test_names_are_chosen_in_each_group():
    groups = {"a": knowledge.names("famous")[:3], "b": knowledge.names("obscure")[:3]}
    found = knowledge_study.chosen(groups, torch.tensor([True, False, True]))
    assert [n.name for n in found["a"]] == [groups["a"][0].name, groups["a"][2].name]
    assert len(found["b"]) == 2


def test_ablation_gives_every_name_the_mean_component_and_leaves_the_rest():
    generator = torch.Generator().manual_seed(0)
    resid, vector, mean = (torch.randn(*shape, generator=generator) for shape in ((4, 6), (6,), (6,)))
    unit = vector / vector.norm()
    after = knowledge_study.change("ablate", vector, mean)(resid)
    assert torch.allclose(after @ unit, (mean @ unit).expand(4), atol=1e-5)
    across = torch.eye(6) - unit[:, None] * unit
    assert torch.allclose(after @ across, resid @ across, atol=1e-5)
    assert torch.allclose(knowledge_study.change("add", vector, mean)(resid), resid + vector)
    assert torch.allclose(knowledge_study.change("subtract", vector, mean)(resid), resid - vector)


# ---------------------------------------------------------------------------------------------------------------------
# On SmolLM2


@pytest.mark.real_model
def test_attention_to_a_name_is_that_of_a_single_pass(model):
    people = [knowledge.names("famous")[0], knowledge.names("obscure")[6]]  # of different lengths
    entropy, attention = knowledge_study.after_names(model, people)
    assert attention.shape == (2, 30, 9)
    for i, person in enumerate(people):
        text = knowledge.CONTEXT.format(person.name)
        begin = len(model.to_tokens(knowledge.CONTEXT.format("").rstrip())[0])
        end = len(model.to_tokens(text)[0])
        with torch.no_grad():
            logits, cache = model.run_with_cache(text + ", the famous")
        expected = cache["pattern", 22][0, :, -1, begin:end].sum(-1)
        assert torch.allclose(attention[i, 22], expected, atol=1e-3)
        logprobs = logits[0, -1].log_softmax(-1)
        assert float(entropy[i]) == pytest.approx(-float((logprobs.exp() * logprobs).sum()), abs=1e-2)


@pytest.mark.real_model
def test_a_change_at_the_name_leaves_no_hook_and_changes_what_comes_later(model):
    people = knowledge.names("famous")[:2]
    before = knowledge_study.after_names(model, people)
    push = knowledge_study.change("add", 50 * torch.ones(576), torch.zeros(576))
    changed = knowledge_study.after_names(model, people, 12, push)
    again = knowledge_study.after_names(model, people)
    assert torch.equal(before[0], again[0])
    assert torch.allclose(before[1][:, :13], changed[1][:, :13], atol=1e-5)  # up to the layer nothing changes
    assert float((before[1][:, 13:] - changed[1][:, 13:]).abs().max()) > 0.01


@pytest.mark.real_model
def test_answers_are_read_at_their_last_token_and_before_their_first(model):
    answered = list(knowledge.half(False)[:2])
    before, after = knowledge_study.read_answers(model, answered, 3)
    for i, row in enumerate(answered):
        text = row.question.prompt()
        with torch.no_grad():
            _, cache = model.run_with_cache(f"{text} {row.answer}")
        resid = cache["blocks.3.hook_resid_post"][0]
        assert torch.allclose(before[i], resid[len(model.to_tokens(text)[0]) - 1], atol=1e-2)
        assert torch.allclose(after[i], resid[-1], atol=1e-2)


@pytest.mark.real_model
def test_logits_of_an_answer_give_its_stored_probability(model):
    row = knowledge.half(False)[1]
    logits, tokens, start = knowledge_study.logits_of(model, row)
    each = logits[:-1].log_softmax(-1).gather(1, tokens[1:, None])[start - 1 :]
    assert float(each.sum()) == pytest.approx(sum(row.logprobs), abs=0.05)


@pytest.mark.real_model
def test_the_first_way_of_asking_is_the_stored_one(model):
    answered = knowledge.half(False)[:3]
    odds = knowledge_study.yes_over_no(model, answered, next(iter(knowledge_study.ASKED)))
    assert odds.tolist() == pytest.approx([row.yes for row in answered], abs=0.05)
