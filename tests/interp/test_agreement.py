"""Agreement sentences, and what is lost of the logit difference without some heads."""

from __future__ import annotations

import re

import pytest
import torch

from mi_course.content import solutions_dir
from mi_course.interp.agreement import (
    HELD_OUT_NOUNS,
    HELD_OUT_TEMPLATES,
    NOUNS,
    OBJECT_RELATIVES,
    TEMPLATES,
    AgreementTask,
    agreement_prompts,
    layer_matched,
    smollm2_agreement_heads,
    smollm2_drops,
)
from mi_course.interp.models import small_model
from mi_course.interp.patching import head_means, logit_difference
from mi_course.lessons import find
from mi_course.testing.answers import reference


def test_each_pair_of_nouns_comes_in_all_four_combinations():
    prompts, verbs = agreement_prompts("{noun} {other}", [("a", "as"), ("b", "bs"), ("c", "cs")])
    assert prompts[:4] == ["a b", "a bs", "as b", "as bs"]
    assert verbs[:4] == [("is", "are")] * 2 + [("are", "is")] * 2
    assert len(set(prompts)) == 12
    # The last noun says nothing about the verb.
    by_last = {last: {v for p, v in zip(prompts, verbs, strict=True) if p.endswith(last)} for last in ("b", "bs")}
    assert all(len(seen) == 2 for seen in by_last.values())


def test_held_out_sentences_share_neither_nouns_nor_templates_with_the_lesson():
    assert not set(HELD_OUT_TEMPLATES) & {*TEMPLATES, *OBJECT_RELATIVES}
    assert not {word for pair in HELD_OUT_NOUNS for word in pair} & {word for pair in NOUNS for word in pair}
    info = find("residual_stream")
    text = (solutions_dir(info) / f"{info.notebook}.py").read_text(encoding="utf-8")
    for singular, plural in HELD_OUT_NOUNS:
        assert not re.search(rf"\b[Tt]he ({singular}|{plural})\b", text), singular


def test_a_drop_is_that_of_the_reference():
    config = {
        **{"n_layers": 3, "n_heads": 4, "n_key_value_heads": 2, "d_model": 16, "d_head": 4, "d_mlp": 24, "d_vocab": 17},
        **{"n_ctx": 16, "positional_embedding_type": "rotary", "normalization_type": "RMS"},
    }
    model, generator = small_model(config, 3), torch.Generator().manual_seed(0)
    sets, expected, heads = [], [], [(2, 1), (0, 3)]
    for length in (5, 7):
        tokens = torch.randint(17, (6, length), generator=generator)
        answers = torch.stack([torch.arange(6), torch.arange(6) + 7], dim=1)
        sets.append((tokens, logit_difference(answers), head_means(model, tokens)))
        expected.append(reference("residual_stream.ablated_difference")(model, tokens, heads, answers))
    task = AgreementTask(model, sets)
    assert task.difference(heads) == pytest.approx(float(torch.cat(expected).mean()), abs=1e-4)
    assert task.drop(heads) == pytest.approx(task.difference() - task.difference(heads[::-1]))
    assert task.drop([]) == 0


def test_random_sets_have_other_heads_of_the_same_layers():
    heads = [(5, 0), (5, 3), (2, 1)]
    sets = layer_matched(heads, 9, 200)
    assert len(sets) == 200
    for others in sets:
        assert sorted(layer for layer, _ in others) == [2, 5, 5]
        assert len(set(others)) == 3
        assert not set(others) & set(heads)
    assert {head for others in sets for head in others} == {
        (layer, head) for layer in (2, 5) for head in range(9) if (layer, head) not in heads
    }
    assert sets == layer_matched(heads, 9, 200) != layer_matched(heads, 9, 200, seed=1)


def test_more_heads_of_a_layer_than_are_left_over():
    assert set(layer_matched([(1, h) for h in range(3)], 4, 5)[0]) == {(1, 3)}


def test_the_stored_drops_are_of_all_heads():
    drops = smollm2_drops()
    assert [len(row) for row in drops.single] == [9] * 30
    assert drops.total([(26, 0), (27, 8)]) == pytest.approx(drops.single[26][0] + drops.single[27][8])
    assert drops.total(smollm2_agreement_heads()) > 0.5 * drops.clean
