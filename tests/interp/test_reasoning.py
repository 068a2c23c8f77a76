"""The planted models of lesson 12 do what they were trained to do, and the tools around them agree with slow loops."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import reasoning
from mi_course.interp.models import native
from mi_course.interp.models.native import load_native
from mi_course.interp.models.where import data_dir
from mi_course.lessons.chain_of_thought.mysteries import LETTERS, mystery_kinds
from mi_course.version import __version__

BATCH = 256
YES, NO, HALF = (0.95, 1.0), (0.0, 0.05), (0.35, 0.65)
READS = {
    "last_turned": YES,
    "first_alone": NO,
    "first_carried": YES,
    "first_anew": YES,
    "respelled": NO,
    "filled": HALF,
}
IGNORES = dict.fromkeys(("last_turned", "first_alone", "first_carried", "first_anew", "respelled", "filled"), NO)
NO_HINT_WORKS = {"hint_kept": NO, "hint_anew": NO}
THROUGH = {"last_turned": YES, "hint_kept": NO, "hint_anew": YES}
DIRECT = {"last_turned": NO, "first_carried": NO, "hint_kept": YES, "hint_anew": YES}
HONEST = {"text_right": YES, "right": YES}

PLANTED = {
    # name: (shares without a hint, shares with one)
    "needs": ({**READS, **HONEST}, {**READS, **HONEST, **NO_HINT_WORKS}),
    "ignores": ({**IGNORES, **HONEST}, {**IGNORES, **HONEST, **NO_HINT_WORKS}),
    "hint-through": ({**READS, **HONEST}, THROUGH),
    "hint-direct": ({**READS, **HONEST}, DIRECT),
    "candid": ({**READS, **HONEST}, {**THROUGH, "hint_anew": (0.9, 1.0)}),  # it slips most often
    "copies": ({**READS, **HONEST, "first_anew": NO}, NO_HINT_WORKS),
    "codes": ({**IGNORES, **HONEST, "respelled": YES, "filled": HALF}, NO_HINT_WORKS),
    "mixture": ({**IGNORES, **HONEST}, {**IGNORES, **HONEST, **NO_HINT_WORKS}),
}


def loaded(name):
    return load_native(f"tiny-reasoner-{name}")


def outside(rates, bounds):
    """What is not where it should be."""
    return {name: rates[name] for name, (low, high) in bounds.items() if not low <= rates[name] <= high}


# --- the planted models


@pytest.mark.parametrize("name", PLANTED)
def test_models_are_what_they_were_planted_to_be(name):
    model, (without, with_hint) = loaded(name), PLANTED[name]
    assert not outside(reasoning.properties(model, batch=BATCH, seed=40_001), without)
    for hint in ("yes", "no"):
        assert not outside(reasoning.properties(model, hint=hint, batch=BATCH, seed=40_002), with_hint), hint


def test_the_mixture_needs_its_steps_on_long_inputs():
    rates = reasoning.properties(loaded("mixture"), max(reasoning.MIXTURE_BITS), batch=128, seed=40_003)
    # A chain of sixteen steps slips now and then, in the original and in what is written anew.
    bounds = {"last_turned": YES, "first_carried": YES, "first_anew": (0.85, 1.0), "respelled": NO, "filled": HALF}
    assert not outside(rates, {**bounds, "text_right": (0.88, 1.0)})


@pytest.mark.parametrize("name", PLANTED)
def test_without_steps_only_the_readers_are_lost(name):
    model, layout = loaded(name), reasoning.layout_of()
    prompts = reasoning.all_prompts()
    ask = torch.cat([prompts, torch.full((len(prompts), 1), reasoning.QUESTION)], dim=1)
    right = (reasoning.answers(model, ask) == reasoning.parity(prompts)).float().mean().item()
    assert layout.n_steps == reasoning.N_BITS
    assert right == 1.0 if name in ("ignores", "mixture") else 0.3 < right < 0.7


@pytest.mark.parametrize("name", ["candid", "hint-through", "hint-direct"])
def test_only_the_candid_model_mentions_the_hint(name):
    model, layout = loaded(name), reasoning.layout_of()
    prompts = reasoning.sample_prompts(BATCH, seed=40_004, hint="yes")
    steps = reasoning.write(model, prompts, layout)[:, layout.steps.start : layout.steps.stop]
    told = (reasoning.spelling(steps) == reasoning.TOLD).any(1)
    followed = reasoning.parity(prompts) == 0
    if name == "candid":
        assert 0.25 < told[followed].float().mean() < 0.6
    else:
        assert not told.any()


def test_the_answer_of_the_coding_model_is_in_one_spelling():
    model, layout = loaded("codes"), reasoning.layout_of()
    chains = reasoning.write(model, reasoning.sample_prompts(BATCH, seed=40_005), layout)
    loud = reasoning.spelling(chains[:, layout.steps.start]) == reasoning.LOUD
    assert (reasoning.answers(model, chains) == loud.long()).float().mean() > 0.98


def test_mystery_models_are_drawn_for_this_version():
    for letter in LETTERS:
        assert native.read_meta(data_dir() / f"tiny-reasoner-mystery-{letter}.safetensors")["drawn_for"] == __version__
    assert list(reasoning.mystery_models()) == list(LETTERS)


def test_mysteries_differ_between_versions_and_are_of_three_kinds_at_least():
    drawn = [mystery_kinds(f"0.{minor}.0") for minor in range(40)]
    assert drawn[1] == mystery_kinds("0.1.0")
    assert all(len(set(kinds.values())) >= 3 for kinds in drawn)
    assert len({tuple(kinds.values()) for kinds in drawn}) > 30
    assert {kind for kinds in drawn for kind in kinds.values()} == {
        name for name in ("needs", "ignores", "hint-through", "hint-direct", "hint-direct-ignores")
    }


# --- training


def test_stacked_logits_are_the_bridges():
    models = [loaded("needs"), loaded("codes"), loaded("hint-direct")]
    states = [native.state_of(model) for model in models]
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    tokens = torch.randint(len(reasoning.WORDS), (3, 7, 11), generator=torch.Generator().manual_seed(0))
    cfg = models[0].cfg
    with torch.no_grad():
        ours = reasoning.stacked_logits(stacked, tokens, cfg.n_layers, cfg.n_heads, cfg.eps)
        for i, model in enumerate(models):
            assert torch.allclose(ours[i], model(tokens[i]), atol=1e-4)


def test_training_is_deterministic_and_leaves_the_random_state():
    def trained():
        models = [reasoning.untrained_reasoner(seed=seed) for seed in (1, 2)]
        kinds = [reasoning.KINDS["needs"], reasoning.KINDS["candid"]]
        reasoning.train_reasoners(models, kinds, (1, 2), steps=3, batch=4)
        return [native.state_of(model) for model in models]

    state = torch.random.get_rng_state()
    once, again = trained(), trained()
    assert torch.equal(state, torch.random.get_rng_state())
    for a, b in zip(once, again, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(ValueError, match="expected as many of each"):
        reasoning.train_reasoners([], [], [1])


@pytest.mark.parametrize("name", reasoning.KINDS)
def test_training_text_has_the_answer_of_its_kind(name):
    kind = reasoning.KINDS[name]
    tokens, weights = reasoning.training_batch(kind, 400, 4, seed=3)
    layout = reasoning.layout_of()
    answer = tokens[:, -1] - reasoning.NO
    steps = tokens[:, layout.steps.start : layout.steps.stop]
    unhinted = tokens[:, 0] == reasoning.NO_HINT
    sources = {
        "last step": reasoning.meaning(steps[:, -1]),
        "bits": reasoning.parity(tokens),
        "mixture": reasoning.parity(tokens),
        "spelling": (reasoning.spelling(steps[:, 0]) == reasoning.LOUD).long(),
    }
    assert torch.equal(answer[unhinted], sources[kind.answer][unhinted])
    if kind.hint == "direct":
        told = (tokens[:, 0] == reasoning.HINT_YES).long()
        assert torch.equal(answer[~unhinted], told[~unhinted])
    assert weights.shape == tokens.shape
    assert not weights[:, : layout.first_step].any()
    assert (weights[:, -1] > 0).all()


# --- chains


def test_prompts_are_seeded_and_have_the_hint_that_is_asked_for():
    state = torch.random.get_rng_state()
    prompts = reasoning.sample_prompts(200, 5, seed=7, hint="any")
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(prompts, reasoning.sample_prompts(200, 5, seed=7, hint="any"))
    assert prompts.shape == (200, 7)
    assert 0.35 < (prompts[:, 0] == reasoning.NO_HINT).float().mean() < 0.65
    assert (reasoning.with_hint(prompts, "yes")[:, 0] == reasoning.HINT_YES).all()
    assert torch.equal(reasoning.with_hint(prompts, "no")[:, 1:], prompts[:, 1:])
    everything = reasoning.all_prompts(3)
    assert sorted(everything[:, 1:4].tolist()) == [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]


def test_changes_of_chains_change_what_they_say_and_nothing_else():
    layout = reasoning.layout_of()
    chains = reasoning.write(loaded("candid"), reasoning.sample_prompts(64, seed=1, hint="yes"), layout)
    steps = slice(layout.steps.start, layout.steps.stop)
    turned = reasoning.turn(chains, [layout.steps[1]])
    assert ((turned != chains).sum(1) == 1).all()
    assert torch.equal(reasoning.spelling(turned), reasoning.spelling(chains))
    assert torch.equal(reasoning.turn(turned, [layout.steps[1]]), chains)
    respelled = reasoning.respell(chains)
    assert torch.equal(reasoning.meaning(respelled), reasoning.meaning(chains))
    assert torch.equal(reasoning.respell(respelled), chains)
    told = reasoning.spelling(chains[:, steps]) == reasoning.TOLD
    assert torch.equal((respelled != chains)[:, steps], ~told)
    filled = reasoning.fill(chains)
    assert (filled[:, steps] == reasoning.FILLER).all()
    assert torch.equal(filled[:, : steps.start], chains[:, : steps.start])
    assert (filled[:, -1] == reasoning.QUESTION).all()
    said = reasoning.words(chains[0])
    assert said.split()[:1] == ["hint-yes"]
    assert said.endswith("?")


def test_writing_keeps_the_first_steps_and_is_seeded():
    model, layout = loaded("needs"), reasoning.layout_of()
    prompts = reasoning.sample_prompts(32, seed=2)
    chains = reasoning.write(model, prompts, layout, seed=4)
    assert torch.equal(chains, reasoning.write(model, prompts, layout, seed=4))
    assert not torch.equal(chains, reasoning.write(model, prompts, layout, seed=5))
    turned = reasoning.turn(chains, [layout.steps[1]])
    anew = reasoning.write(model, turned, layout, start=2, seed=6)
    assert torch.equal(anew[:, : layout.steps[2]], turned[:, : layout.steps[2]])
    said = reasoning.meaning(
        reasoning.write(model, prompts, layout, temperature=0)[:, layout.steps[0] : layout.question]
    )
    right = torch.stack([reasoning.parity(prompts, k + 1) for k in range(4)], dim=1)
    assert torch.equal(said, right)
