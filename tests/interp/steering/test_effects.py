"""Effects of steering compared with loops over words, prompts and tokens."""

from __future__ import annotations

import math

import pytest
import torch

from mi_course.interp.steering import (
    Ablate,
    Steer,
    band,
    collect,
    control_curves,
    dose_response,
    kl_divergence,
    layer_sweep,
    log_odds,
    neutral_cost,
    prompt_log_odds,
    steering,
    texts,
    token_ids,
    vectors_log_odds,
    word_ids,
)

PROMPTS = ["the cat sat on a mat", "a dog ran", "the dog was"]
SEEDS = range(3)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_log_odds_are_the_log_of_a_ratio_of_probabilities(seed):
    logits = torch.randn(3, 9, generator=rng(seed)) * 3
    got = log_odds(logits, [1, 4], [0, 2, 8])
    for row, value in zip(logits.tolist(), got.tolist(), strict=True):
        p = [math.exp(x) for x in row]
        assert value == pytest.approx(math.log((p[1] + p[4]) / (p[0] + p[2] + p[8])), rel=1e-4, abs=1e-5)
    assert torch.equal(log_odds(logits, [1, 4, 1], [0]), log_odds(logits, [4, 1], [0]))
    for empty in (([], [1]), ([1], [])):
        with pytest.raises(ValueError, match="empty"):
            log_odds(logits, *empty)


@pytest.mark.parametrize("seed", SEEDS)
def test_kl_is_a_sum_over_the_vocabulary(seed):
    base, steered = (torch.randn(3, 9, generator=rng(seed + k)) * 2 for k in (0, 50))
    got = kl_divergence(base, steered)
    for b, s, value in zip(base.softmax(-1).tolist(), steered.softmax(-1).tolist(), got.tolist(), strict=True):
        assert value == pytest.approx(sum(p * math.log(p / q) for p, q in zip(b, s, strict=True)), rel=1e-4)
    assert float(kl_divergence(base, base + 5).abs().max()) < 1e-6
    never = torch.tensor([[0.0, -math.inf]])
    assert kl_divergence(never, torch.tensor([[0.0, 0.0]])).tolist() == pytest.approx([math.log(2)])


def test_dose_response_asks_for_the_base_once():
    asked = []

    def effect(c):
        asked.append(c)
        return torch.tensor(3 + 2 * c - c**3)

    assert dose_response(effect, [-1.0, 2.0]) == [-1.0, -4.0]
    assert asked.count(0.0) == 1


def test_word_ids_take_whole_words_only(llama):
    assert word_ids(llama, ["cat", " dog "]) == [4, 10]
    with pytest.raises(ValueError, match="words is empty"):
        word_ids(llama, [])


def one(model, prompt, interventions):
    with torch.no_grad(), steering(model, *interventions):
        return model(torch.tensor(token_ids(model, [prompt])))[0]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_prompt_log_odds_equal_one_prompt_at_a_time(llama, batch_size):
    v = torch.randn(16, generator=rng(0)) * 8
    for interventions in ([], [Steer(v, 1, -0.5)], [Ablate(v)]):
        got = prompt_log_odds(llama, PROMPTS, [12, 3], [13], interventions, batch_size=batch_size)
        want = [log_odds(one(llama, p, interventions)[-1:], [12, 3], [13]) for p in PROMPTS]
        torch.testing.assert_close(got, torch.cat(want), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_many_vectors_equal_one_vector_at_a_time(llama, batch_size):
    vectors = torch.randn(5, 16, generator=rng(1)) * 8
    got = vectors_log_odds(llama, PROMPTS, [12], [13], vectors, 1, 0.7, batch_size=batch_size)
    want = torch.stack([prompt_log_odds(llama, PROMPTS, [12], [13], [Steer(v, 1, 0.7)]) for v in vectors])
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_neutral_cost_is_a_loop_over_tokens(llama, batch_size):
    steer = [Steer(torch.randn(16, generator=rng(2)) * 8, 1)]
    base_losses, losses, kls = [], [], []
    for prompt in [*PROMPTS, "the"]:  # the last predicts nothing under steering, and is left out
        ids = token_ids(llama, [prompt])[0]
        base, steered = one(llama, prompt, []).softmax(-1), one(llama, prompt, steer).softmax(-1)
        for p in range(1, len(ids) - 1):
            base_losses.append(-math.log(base[p, ids[p + 1]]))
            losses.append(-math.log(steered[p, ids[p + 1]]))
            kls.append(
                sum(b * math.log(b / s) for b, s in zip(base[p].tolist(), steered[p].tolist(), strict=True) if b)
            )
    got = neutral_cost(llama, [*PROMPTS, "the"], steer, batch_size=batch_size)
    n = len(losses)
    assert got.base_loss == pytest.approx(sum(base_losses) / n, rel=1e-3)
    assert got.loss == pytest.approx(sum(losses) / n, rel=1e-3)
    assert got.kl == pytest.approx(sum(kls) / n, rel=1e-2)
    assert got.rise == pytest.approx(got.loss - got.base_loss)
    with pytest.raises(ValueError, match="two tokens after BOS"):
        neutral_cost(llama, ["the"], steer)


def test_control_curves_and_their_band():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    curves = control_curves(lambda v, c: 10 + c * float(v.sum()) if c else 10.0, vectors, [-1.0, 0.0, 2.0])
    assert curves.tolist() == [[-1.0, 0.0, 2.0], [-2.0, 0.0, 4.0], [-6.0, 0.0, 12.0]]
    low, middle, high = band(curves, 0.0, 1.0)
    assert (low, middle, high) == ([-6.0, 0.0, 2.0], [-2.0, 0.0, 4.0], [-1.0, 0.0, 12.0])


def test_layer_sweep_is_one_layer_at_a_time(llama):
    up, down = ["a good mat", "the cat was good"], ["a bad mat", "the cat was bad"]
    rows = layer_sweep(llama, up, down, PROMPTS, [12], [13], layers=[0, 2], coefficient=0.5, neutral=PROMPTS)
    assert [row.layer for row in rows] == [0, 2]
    for row in rows:
        v = collect(llama, up, row.layer).mean(0) - collect(llama, down, row.layer).mean(0)
        assert row.norm == pytest.approx(float(v.norm()), rel=1e-4)
        for c, got in ((-0.5, row.minus), (0.0, row.base), (0.5, row.plus)):
            want = prompt_log_odds(llama, PROMPTS, [12], [13], [Steer(v, row.layer, c)]).mean()
            assert got == pytest.approx(float(want), abs=1e-3)
        rises = [neutral_cost(llama, PROMPTS, [Steer(v, row.layer, c)]).rise for c in (-0.5, 0.5)]
        assert row.rise == pytest.approx(sum(rises) / 2, abs=1e-4)


def test_bad_input_is_named(llama):
    with pytest.raises(ValueError, match="prompts is empty"):
        prompt_log_odds(llama, [], [3], [4])
    with pytest.raises(ValueError, match="vectors holds 1 numbers"):
        vectors_log_odds(llama, PROMPTS, [3], [4], torch.full((1, 1), math.nan), 1)
    with pytest.raises(ValueError, match="d_model = 16"):
        vectors_log_odds(llama, PROMPTS, [3], [4], torch.ones(2, 8), 1)
    with pytest.raises(ValueError, match="no layer 7"):
        layer_sweep(llama, PROMPTS, PROMPTS, PROMPTS, [3], [4], layers=[7])


def words(*groups) -> set[str]:
    lines = [line for group in groups for line in group]
    return {word.strip(".,;:!?").lower() for line in lines for word in line.split()}


def test_texts_are_paired_and_what_is_judged_was_not_seen():
    assert len(texts.POSITIVE) == len(texts.NEGATIVE) == 12
    assert len(texts.PROBE_POSITIVE) == len(texts.PROBE_NEGATIVE) == 20
    assert len(texts.PAST) == len(texts.FUTURE)
    synonyms = set(texts.POSITIVE_SYNONYMS + texts.NEGATIVE_SYNONYMS)
    shown = (texts.POSITIVE, texts.NEGATIVE, texts.PROBE_POSITIVE, texts.PROBE_NEGATIVE, texts.PROMPTS)
    assert not synonyms & words(*shown, texts.POSITIVE_WORDS, texts.NEGATIVE_WORDS)
    assert not set(texts.POSITIVE_WORDS + texts.NEGATIVE_WORDS) & words(texts.POSITIVE, texts.NEGATIVE)
    assert not set(texts.PROMPTS) & set(texts.HELD_OUT_PROMPTS)
    assert not synonyms & words(texts.NEUTRAL)
