"""Judges of texts, and metrics of interventions: held against loops."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.prompts import token_ids
from mi_course.interp.steering import (
    NeutralLoss,
    Steer,
    WordOdds,
    different_words,
    neutral_cost,
    preference,
    prompt_log_odds,
    response_activations,
    score_blind,
    steering,
    variety,
)

PROMPTS = ["the cat", "a dog ran on", "the mat was good and"]
RESPONSES = ["sat on a mat", "good", "bad dog"]


def random_vectors(n=3):
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(1)) * 6


def test_the_judge_gets_one_pile_in_another_order():
    piles = []
    texts = {"steered": ["b", "dd", "a"], "control": [], "unsteered": ["ccc"]}
    scores = score_blind(texts, lambda pile: piles.append(pile) or [len(text) for text in pile], seed=3)
    assert scores == {"steered": [1, 2, 1], "control": [], "unsteered": [3]}
    assert len(piles) == 1
    assert sorted(piles[0]) == ["a", "b", "ccc", "dd"]
    assert piles[0] != ["b", "dd", "a", "ccc"]
    with pytest.raises(ValueError, match="1 scores for 4 texts"):
        score_blind(texts, lambda pile: [0.0])


def test_loops_and_parts_of_words_count_for_nothing():
    words = ("aye", "sea", "ain't", "carry")
    assert different_words("Aye, aye, AYE!", words) == 1
    assert different_words("A season of research; he carries on.", words) == 0
    assert different_words("It ain't the sea.", words) == 2
    assert variety("a b c d") == 1.0
    assert variety("a b a b a b a b a") == 0.25
    assert variety("") == variety("one") == 1.0


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_preference_is_a_difference_of_mean_log_probabilities(llama, batch_size):
    other = ["a mat was", "the", "bad cat sat on the mat"]
    got = preference(llama, RESPONSES, PROMPTS, other, batch_size=batch_size)
    for i, response in enumerate(RESPONSES):
        own = llama.tokenizer(response, add_special_tokens=False)["input_ids"]
        means = []
        for prompt in (PROMPTS[i], other[i]):
            ids = token_ids(llama, [prompt])[0]
            logp = llama(torch.tensor([ids + own]), return_type="logits")[0].detach().log_softmax(-1)
            means.append(sum(float(logp[len(ids) - 1 + j, token]) for j, token in enumerate(own)) / len(own))
        assert float(got[i]) == pytest.approx(means[0] - means[1], abs=1e-4)
    with pytest.raises(ValueError, match="one of each"):
        preference(llama, RESPONSES, PROMPTS, other[:2])


def test_response_activations_are_means_over_the_response_alone(llama):
    got = response_activations(llama, PROMPTS, RESPONSES, [2, 0], batch_size=2)
    assert got.shape == (2, 3, 16)
    for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        before = token_ids(llama, [prompt])[0]
        ids = torch.tensor([before + llama.tokenizer(response, add_special_tokens=False)["input_ids"]])
        _, cache = llama.run_with_cache(ids)
        for row, layer in enumerate((2, 0)):
            want = cache["resid_post", layer][0, len(before) :].mean(0)
            torch.testing.assert_close(got[row, i], want, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(response_activations(llama, PROMPTS, RESPONSES, 0), got[1])
    with pytest.raises(ValueError, match="2 responses"):
        response_activations(llama, PROMPTS, RESPONSES[:2], 0)
    with pytest.raises(ValueError, match="Response 1 holds no tokens"):
        response_activations(llama, PROMPTS, ["good", "", "bad"], 0)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_word_odds_are_prompt_log_odds(llama, layer):
    odds, vectors = WordOdds(llama, PROMPTS, [12], [13, 3]), random_vectors()
    base = prompt_log_odds(llama, PROMPTS, [12], [13, 3])
    torch.testing.assert_close(odds.unsteered, base)
    both = [prompt_log_odds(llama, PROMPTS, [12], [13, 3], [Steer(vectors[0], layer, c)]) for c in (1.0, -1.0)]
    assert odds.change(Steer(vectors[0], layer)) == pytest.approx(float((both[0] - base).mean()), abs=1e-4)
    torch.testing.assert_close(odds.slope(vectors[0], layer), (both[0] - both[1]) / 2, atol=1e-4, rtol=1e-4)
    one_by_one = torch.tensor([odds.change(Steer(vector, layer, 0.7)) for vector in vectors])
    torch.testing.assert_close(odds.changes(vectors, layer, 0.7), one_by_one, atol=1e-3, rtol=1e-3)
    # The layers below the vector are back at work.
    torch.testing.assert_close(odds(), base)


def test_neutral_loss_rises_as_neutral_cost_says(llama):
    texts, steer = [*PROMPTS, "the cat sat on a mat and ran"], Steer(random_vectors()[0], 1)
    loss, want = NeutralLoss(llama, texts), neutral_cost(llama, texts, [steer])
    assert loss.unsteered == pytest.approx(want.base_loss, rel=1e-4)
    assert loss.rise(steer) == pytest.approx(want.rise, rel=1e-3, abs=1e-4)
    with steering(llama, steer):
        assert loss() == pytest.approx(want.loss, rel=1e-4)
