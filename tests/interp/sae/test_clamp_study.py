"""The study of clamped latents: by hand on a small model, and against the course's own hooks on SmolLM2."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from mi_course.interp.containers import SparseCode
from mi_course.interp.models.small import small_model
from mi_course.interp.sae import clamp, splice
from mi_course.interp.sae import clamp_study as cs
from mi_course.interp.sae.clamp_texts import CONCEPTS, HELD_OUT_PROMPTS, PROMPTS

SHAPE = {"n_layers": 3, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 24}
HOOK = "blocks.1.hook_resid_post"
TOKENS = [[1, 4, 7, 9], [1, 22, 3, 11], [1, 5, 5, 28]]


class Words:
    """Token i is the word "wi"."""

    eos_token_id = 0

    def decode(self, ids):
        return "".join(f" w{chr(97 + i % 26)}" for i in ids)

    def encode(self, text, add_special_tokens=True):
        return [ord(text.strip()[1]) - 97]


def code(d=12, F=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(F, d, generator=g)
    return SparseCode(rows.T.clone(), torch.full((F,), -1.0), rows * torch.rand(F, 1, generator=g), torch.zeros(d))


@pytest.fixture(scope="module")
def study():
    model = small_model(SHAPE, seed=0)
    model.tokenizer = Words()
    return cs.ClampStudy(model, code(), 1)


def by_hand(study, index, value):
    """Logits after the last token of TOKENS, with the library's own splice."""

    def hook(value_, hook):
        return splice(value_, sae=study.sae, edit=clamp({index: value}), keep_error=True)

    with torch.no_grad():
        return study.model.run_with_hooks(torch.tensor(TOKENS), fwd_hooks=[(HOOK, hook)])[:, -1]


def odds(logits, ids):
    p = logits.softmax(-1)[:, ids].sum(-1)
    return (p / (1 - p)).log()


def test_log_odds_are_those_of_a_splice_that_keeps_the_error(study):
    moves = [None, cs.Clamp(study.sae, 3, 5.0), cs.Clamp(study.sae, 7, -2.0), cs.Clamp(study.sae, 0, 0.0)]
    found = study.log_odds(moves, TOKENS, [4, 9, 9])
    with torch.no_grad():
        plain = study.model(torch.tensor(TOKENS))[:, -1]
    expected = [odds(plain, [4, 9])] + [odds(by_hand(study, m.index, m.value), [4, 9]) for m in moves[1:]]
    assert torch.allclose(found, torch.stack(expected), atol=1e-4)
    assert (found[1] - found[0]).abs().max() > 0.1


def test_a_latent_clamped_to_what_it_is_changes_nothing_there(study):
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(1)) * 3
    f = study.sae.encode(x)
    index = int((f[0, 1] > 0).nonzero()[0])
    move = cs.Clamp(study.sae, index, float(f[0, 1, index]))
    assert torch.allclose(move(x)[0, 1], x[0, 1], atol=1e-5)
    assert move.norm == pytest.approx(move.value * float(study.sae.W_dec[index].norm()))


def test_added_vectors_leave_the_first_position(study):
    seen = []

    def keep(x, hook):
        seen.append(x.clone())

    vector = torch.arange(12.0)
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        study.model.run_with_hooks(tokens, fwd_hooks=[(HOOK, keep)])
        with cs.moved(study.model, 1, [None, cs.Add(vector)]), study.model.hooks(fwd_hooks=[(HOOK, keep)]):
            study.model(tokens.repeat(2, 1))
    plain, both = seen
    assert torch.allclose(both[:3], plain, atol=1e-5)
    assert torch.allclose(both[3:, 0], plain[:, 0], atol=1e-5)
    assert torch.allclose(both[3:, 1:], plain[:, 1:] + vector, atol=1e-5)


def test_no_hook_is_left_and_rows_must_be_shared_out(study):
    before = len(study.model.original_model._forward_pre_hooks)
    moves = [None, None]
    with pytest.raises(ValueError, match="3 rows cannot be shared out to 2 moves"), cs.moved(study.model, 1, moves):
        study.model(torch.tensor(TOKENS))
    assert len(study.model.original_model._forward_pre_hooks) == before
    with torch.no_grad():
        assert torch.equal(study.model(torch.tensor(TOKENS)), study.model(torch.tensor(TOKENS)))


def test_same_norm(study):
    move = cs.Clamp(study.sae, 3, -4.0)
    for other in cs.same_norm(study.sae, 3, -4.0, [0, 5, 19]):
        assert other.norm == pytest.approx(move.norm, rel=1e-5)
        assert other.value < 0


def test_texts_belong_to_their_moves_and_repeat_with_the_seed(study):
    """A vector along one unembedding row, long enough, makes every word that one."""
    vector = torch.nn.functional.normalize(study.model.W_U.detach()[:, 7], dim=0) * 1e4
    moves = [None, cs.Add(vector)]
    texts = study.write(moves, TOKENS, samples=2, max_new_tokens=5, seed=3)
    assert [len(each) for each in texts] == [6, 6]
    assert [text.prompt for text in texts[0]] == [tuple(row) for row in TOKENS for _ in range(2)]
    assert texts == study.write(moves, TOKENS, samples=2, max_new_tokens=5, seed=3)
    assert texts[0] != study.write(moves, TOKENS, samples=2, max_new_tokens=5, seed=4)[0]
    assert len({text.tokens for text in texts[1]}) < len({text.tokens for text in texts[0]})


def test_loss_is_that_of_a_loop(study):
    texts = [cs.Text((1, 4), (7, 9, 3), ""), cs.Text((1, 22, 3), (11,), ""), cs.Text((1,), (5, 5, 28, 2), "")]
    found = study.loss(texts, batch_size=1)
    for text, loss in zip(texts, found, strict=True):
        row = torch.tensor([text.prompt + text.tokens])
        with torch.no_grad():
            logp = study.model(row)[0].log_softmax(-1)
        own = range(len(text.prompt), row.shape[1])
        assert loss == pytest.approx(-sum(float(logp[p - 1, row[0, p]]) for p in own) / len(own), abs=1e-5)


def test_mentions_are_scored_without_the_condition():
    def text(words):
        return cs.Text((1,), (2,), words)

    conditions = {
        "a": [text("The ship sailed."), text("Ships and a ship"), text("seasons")],
        "b": [text("nothing"), text("Ship!")],
    }
    for seed in range(3):
        assert cs.blind_mentions(conditions, ["ship", "sea"], seed=seed) == {"a": pytest.approx(2 / 3), "b": 0.5}


def test_effects_are_measured_against_the_unsteered_model(study):
    moves = [cs.Clamp(study.sae, 3, 0.0), cs.Add(torch.arange(12.0))]
    found = cs.effects(study, moves, TOKENS, ["wd", "we"], max_new_tokens=4)
    assert found[0].norm == found[0].log_odds == found[0].loss == 0.0
    assert found[2].norm == pytest.approx(506**0.5)
    assert abs(found[2].log_odds) > 0.1
    assert found[1].norm == 0.0
    silent = cs.effects(study, moves, TOKENS, ["wd"], max_new_tokens=4, odds=False)
    assert all(effect.log_odds != effect.log_odds for effect in silent)


def test_dose_response_has_a_row_for_each_rival_and_norm(study):
    rivals = cs.rivals_of(study.sae, 3, torch.ones(12), [1, 2], directions=3)
    assert {name: len(make(2.0)) for name, make in rivals.items()} == {
        "latent": 1,
        "difference of means": 1,
        "random latents": 2,
        "random directions": 3,
    }
    found = cs.dose_response(study, rivals, [1.0, 20.0], TOKENS, ["wd"], max_new_tokens=3, samples=1)
    assert set(found) == {"unsteered", *rivals}
    for name in rivals:
        assert [effect.norm for effect in found[name]] == pytest.approx([1.0, 20.0], rel=1e-4)
    assert found["latent"][1] == pytest.approx(
        cs.effects(study, rivals["latent"](20.0), TOKENS, ["wd"], max_new_tokens=3, samples=1)[1], nan_ok=True
    ) or found["latent"][1].log_odds == pytest.approx(
        float((study.log_odds([None, *rivals["latent"](20.0)], TOKENS, [3])).mean(1).diff()), abs=1e-4
    )


def test_latents_are_chosen_by_what_they_do(study):
    ids = [3]
    candidates = [0, 4, 8, 12]
    index, rises = cs.choose_latent(study, candidates, TOKENS, ["wd"], 5.0)
    rows = study.sae.W_dec.norm(dim=1)
    each = [
        float(
            (
                study.log_odds([cs.Clamp(study.sae, i, 5.0 / float(rows[i]))], TOKENS, ids)
                - study.log_odds([None], TOKENS, ids)
            ).mean()
        )
        for i in candidates
    ]
    assert rises.tolist() == pytest.approx(each, abs=1e-4)
    assert index == candidates[each.index(max(each))]


def test_norms_are_chosen_among_those_that_cost_little():
    doses = [
        cs.Effect(10.0, 1.0, 0.2, 0.1, 0.95),
        cs.Effect(20.0, 2.0, 0.5, 0.4, 0.95),
        cs.Effect(30.0, 2.5, 0.5, 0.8, 0.93),
        cs.Effect(40.0, 5.0, 1.0, 0.9, 0.40),
        cs.Effect(50.0, 5.0, 1.0, 3.0, 0.95),
    ]
    assert cs.choose_norm(doses, 1.0, 0.9) == 30.0
    assert cs.choose_norm(doses, 0.5, 0.9) == 20.0
    assert cs.choose_norm(doses, -1.0, 0.9) == 10.0


def test_comparable_latents_are_alive_and_about_as_frequent(study):
    counts = (study.latents(TOKENS) > 0).sum(0)
    index = int(counts.argmax())
    chosen = cs.comparable_latents(study, index, TOKENS, 3, seed=0, factor=2.0)
    assert index not in chosen
    assert all(counts[i] * 2 >= counts[index] for i in chosen) or int((counts * 2 >= counts[index]).sum()) < 4
    assert chosen == cs.comparable_latents(study, index, TOKENS, 3, seed=0, factor=2.0)
    every = cs.comparable_latents(study, index, TOKENS, 1000, seed=0)
    assert sorted(every) == [i for i in range(20) if counts[i] > 0 and i != index]


def test_where_a_study_takes_place_is_read_from_the_sae():
    model = SimpleNamespace()
    sae = SimpleNamespace(about={"hook_name": "blocks.14.hook_resid_post"})
    assert cs.ClampStudy.of(model, sae).layer == 14
    for about in ({}, {"hook_name": "blocks.14.mlp.hook_in"}, {**sae.about, "hook_name_out": "blocks.14.hook_mlp_out"}):
        with pytest.raises(ValueError, match="resid_post"):
            cs.ClampStudy.of(model, SimpleNamespace(about=about))


def test_what_judges_is_not_what_one_searches_with():
    import re

    searched = " ".join([*PROMPTS, *(sentence for concept in CONCEPTS.values() for sentence in concept.sentences)])
    seen = set(re.findall(r"[a-z]+", searched.lower()))
    prompts = set(re.findall(r"[a-z]+", " ".join(HELD_OUT_PROMPTS).lower()))
    assert not set(PROMPTS) & set(HELD_OUT_PROMPTS)
    for concept in CONCEPTS.values():
        assert len(concept.held_out) == 12
        assert not set(concept.held_out) & (seen | set(concept.words) | prompts)


def test_the_stored_choice_is_one_of_the_candidates():
    from mi_course.interp.models.where import data_dir
    from mi_course.interp.sae import clamp_choice

    found = clamp_choice.steered()
    raw = json.loads((data_dir() / clamp_choice.FILE).read_text(encoding="utf-8"))
    assert set(found.table) == set(CONCEPTS)
    row = raw["table"][found.concept]
    assert (row["latent"], row["value"]) == (found.latent, found.value)
    assert found.concept != clamp_choice.SHOWN
    assert row["training mentions"] == max(
        each["training mentions"]
        for concept, each in found.table.items()
        if concept != clamp_choice.SHOWN and each["training loss"] <= clamp_choice.MOST_LOSS
    )


@pytest.fixture(scope="module")
def smollm2():
    from mi_course.interp.models import load_model, smollm2

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model(compatibility=False).requires_grad_(False)


@pytest.mark.real_model
def test_on_smollm2_padding_and_resuming_change_nothing(smollm2):
    sae = code(576, 40)
    study = cs.ClampStudy(smollm2, sae, 14)
    prompts = ["The ship", "They were all waiting for the"]
    move = cs.Clamp(sae, 3, 1.0)
    ids = cs.word_ids(smollm2, ["sea", "ship"])
    found = study.log_odds([None, move], prompts, ids)
    for column, prompt in enumerate(prompts):
        tokens = smollm2.to_tokens(prompt)

        def hook(x, hook):
            return splice(x, sae=sae, edit=clamp({3: 1.0}), keep_error=True)

        with torch.no_grad():
            moved = smollm2.run_with_hooks(tokens, fwd_hooks=[("blocks.14.hook_resid_post", hook)])[:, -1]
            plain = smollm2(tokens)[:, -1]
        assert float(found[0, column]) == pytest.approx(float(odds(plain.double(), ids)[0]), abs=1e-2)
        assert float(found[1, column]) == pytest.approx(float(odds(moved.double(), ids)[0]), abs=1e-2)
    # With a key/value cache, and without: greedy text of a padded batch is that of each row alone.
    both = study.write([None, move], prompts, max_new_tokens=6, temperature=0.0)
    for row, prompt in enumerate(prompts):
        alone = study.write([move], [prompt], max_new_tokens=6, temperature=0.0)
        assert alone[0][0].tokens == both[1][row].tokens
