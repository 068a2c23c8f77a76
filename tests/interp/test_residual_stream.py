"""What lesson 01 measures with: rotation, sharing of keys, attribution beside ablation, lenses, copying, the market."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.attention import likeness, rotate, scores_by_distance
from mi_course.interp.attribution import PromptSet, ablation_drops, attributions, component_names, random_rotation
from mi_course.interp.circuits import copying_scores, ov_factors
from mi_course.interp.lenses import Streams, lens_quality, sampled_text
from mi_course.interp.models import load_native
from mi_course.interp.skip_trigrams import (
    FALSE_TRIGRAMS,
    TRADERS,
    TRUE_TRIGRAMS,
    VERBS,
    WORDS,
    market_sentences,
    read_tables,
    untrained_market_model,
)
from mi_course.testing.answers import reference


@pytest.fixture(scope="module")
def llama():
    """A small model of SmolLM2's kind, with random weights: grouped heads, rotary positions, RMSNorm."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from mi_course.interp.models.bridge import build

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            intermediate_size=40,
            vocab_size=50,
            initializer_range=0.4,
            architectures=["LlamaForCausalLM"],
        )
        hf = LlamaForCausalLM(config).eval()
    return build(hf, None, name="small", compatibility=True, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 50, (6, 5), generator=generator)
    answers = torch.stack([torch.randperm(50, generator=generator)[:2] for _ in range(6)])
    return PromptSet(tokens, answers)


@torch.no_grad()
def test_rotation_is_the_models_own(llama, prompts):
    _, cache = llama.run_with_cache(prompts.tokens)
    at = torch.arange(5.0)[:, None]
    for name in "qk":
        torch.testing.assert_close(rotate(llama, cache[name, 1], at), cache[f"blocks.1.attn.hook_rot_{name}"])
    q, k = cache["q", 1][0, 4, 3], cache["k", 1][0, 1, 1]
    score = cache["blocks.1.attn.hook_attn_scores"][0, 3, 4, 1]
    torch.testing.assert_close(scores_by_distance(llama, q, k, torch.tensor([0, 3]))[1], score)


def test_likeness_parts_pairs_by_their_keys():
    patterns = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    patterns[:, 1] = patterns[:, 0]
    shared, apart = likeness(patterns, group=2)
    assert (len(shared), len(apart)) == (4, 8)
    torch.testing.assert_close(shared[0], torch.tensor(1.0))


def test_attributions_add_up_to_the_difference(llama, prompts):
    attribute = reference("residual_stream.logit_attribution")
    parts = attributions(llama, prompts, attribute)
    assert parts.shape == (len(component_names(llama)), 6)
    with torch.no_grad():
        right, wrong = llama(prompts.tokens)[:, -1].gather(1, prompts.answers).T
    torch.testing.assert_close(parts.sum(0), right - wrong, rtol=1e-4, atol=1e-4)


def test_ablations_are_those_of_hooks(llama, prompts):
    ablated = reference("residual_stream.ablated_difference")
    whole = ablated(llama, prompts.tokens, [], prompts.answers)
    drops, _ = ablation_drops(llama, prompts)
    for layer, head in ((0, 0), (1, 2), (2, 3)):
        want = whole - ablated(llama, prompts.tokens, [(layer, head)], prompts.answers)
        torch.testing.assert_close(drops[layer * 4 + head], want, rtol=1e-3, atol=1e-4)

    def mean(x, hook):
        return x.mean(0, keepdim=True).expand_as(x)

    with torch.no_grad():
        logits = llama.run_with_hooks(prompts.tokens, fwd_hooks=[("blocks.1.hook_mlp_out", mean)])[:, -1]
    right, wrong = logits.gather(1, prompts.answers).T
    torch.testing.assert_close(drops[12 + 1], whole - (right - wrong), rtol=1e-3, atol=1e-4)


def test_the_last_layers_heads_act_directly_up_to_mlp_and_norm(llama, prompts):
    """Of the last MLP nothing comes after but the norm: with its scale frozen the drop is the attribution."""
    drops, direct = ablation_drops(llama, prompts, where="last position")
    last = 12 + 2
    with torch.no_grad():
        _, cache = llama.run_with_cache(prompts.tokens)
        final = cache["resid_post", 2][:, -1]
        without = final - (cache["mlp_out", 2][:, -1] - cache["mlp_out", 2][:, -1].mean(0))
        scales = [(x.pow(2).mean(-1) + llama.cfg.eps).sqrt() for x in (final, without)]
        right, wrong = llama(prompts.tokens)[:, -1].gather(1, prompts.answers).T
    whole = right - wrong
    torch.testing.assert_close(
        whole - (whole - drops[last]) * scales[1] / scales[0], direct[last], rtol=1e-3, atol=1e-4
    )


def test_a_random_component_has_the_same_size(llama, prompts):
    rotation = random_rotation(24, seed=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(24), rtol=0, atol=1e-5)
    (_, own), (_, turned) = (ablation_drops(llama, prompts, rotation=turn) for turn in (None, rotation))
    assert (own - turned).abs().max() > 0.01


@torch.no_grad()
def test_copying_scores_of_all_heads(llama):
    score = reference("residual_stream.ov_copying")
    scores = copying_scores(llama, score)
    W_V, W_O = ov_factors(llama, 2, 1)
    assert scores[2, 1] == pytest.approx(score(llama.W_E, (W_V, W_O), llama.W_U), abs=1e-4)
    kept = []
    copying_scores(llama, lambda W_E, factors, W_U: kept.append(factors) or 0.0, seed=0)
    sizes = [torch.linalg.svdvals(a @ b)[:6] for a, b in ((W_V, W_O), kept[2 * 4 + 1])]
    torch.testing.assert_close(*sizes, rtol=1e-3, atol=1e-4)


def test_sampled_text_begins_with_bos_and_parts_differ():
    first, second = sampled_text(0, 4, 30), sampled_text(4, 4, 30)
    assert first.shape == (4, 31)
    assert (first[:, 0] == 1).all()
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="rows"):
        sampled_text(783, 2, 30)


def test_lens_quality_of_the_last_stream_is_the_models_entropy():
    generator = torch.Generator().manual_seed(0)
    resid, W = torch.randn(3, 40, 8, generator=generator), torch.randn(8, 20, generator=generator)
    streams = Streams(resid, torch.zeros(40, dtype=torch.long))
    p = (resid[2] @ W).softmax(-1)
    losses, biases = lens_quality(streams, lambda number, x: (x @ W).log_softmax(-1), p.log(), [0, 1, 2])
    torch.testing.assert_close(losses[2], -(p * p.log()).sum(-1).mean())
    assert biases[2] == pytest.approx(0, abs=1e-5)
    assert (losses[:2] > losses[2]).all()
    assert (biases[:2] > 0).all()


def test_market_sentences_follow_their_rules():
    tokens = market_sentences(200, 3, seed=0)
    assert tokens.shape == (200, 7)
    seen = {(WORDS[row[1]], WORDS[row[-2]], WORDS[row[-1]]) for row in tokens.tolist()}
    assert seen == set(TRUE_TRIGRAMS)
    assert len(TRUE_TRIGRAMS) == len(TRADERS) * len(VERBS) == 10
    assert set(TRUE_TRIGRAMS).isdisjoint(FALSE_TRIGRAMS)
    assert ("miller", "sells", "flour") in TRUE_TRIGRAMS
    assert ("miller", "sells", "grain") in FALSE_TRIGRAMS
    nameless = market_sentences(200, 3, seed=0, nameless=1.0)
    assert not set(nameless[:, 1].tolist()) & set(range(1, 6))


@torch.no_grad()
def test_tables_are_all_of_the_market_model():
    model = untrained_market_model().eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 2)
    tokens = market_sentences(20, 4, seed=1)
    torch.testing.assert_close(read_tables(model).logits(tokens), model(tokens), rtol=1e-4, atol=1e-4)
    other = load_native("tiny-one-layer")
    with pytest.raises(ValueError, match="more than tables"):
        read_tables(other)
