"""A Hugging Face model as a source: the same activations and losses as its bridge, and no more work than needed."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.sae import ModelBatches, collect_activations, loss_with_sae
from mi_course.interp.sae.host import HookSite, hooked, record


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(2, 40, (6, 12), generator=torch.Generator().manual_seed(0))


def test_activations_are_those_of_the_hidden_states(model, tokens):
    states = model(tokens, output_hidden_states=True).hidden_states
    for layer in (0, 1):
        x, left_out = collect_activations(model, tokens, layer)
        assert torch.allclose(x, states[layer + 1][:, 1:].flatten(0, 1), atol=1e-6)
        assert left_out.first == 6
    assert torch.equal(collect_activations(model, tokens, "model.layers.1")[0], x)


def test_what_comes_after_the_last_place_is_not_run(model, tokens):
    ran = []
    handles = [layer.register_forward_hook(lambda *a, n=n: ran.append(n)) for n, layer in enumerate(model.model.layers)]
    hooks = len(model.model.layers[1]._forward_hooks)
    record(model, HookSite.of(model, 1, "model.layers.0.mlp@in"), tokens)
    assert ran == [0, 1]
    assert len(model.model.layers[1]._forward_hooks) == hooks
    for handle in handles:
        handle.remove()


def test_an_input_and_an_output_are_a_transcoders_pair(model, tokens):
    source = ModelBatches(model, tokens, "model.layers.1.mlp@in", target="model.layers.1.mlp", batch=20)
    x, y = source.next_batch()
    with torch.no_grad():
        assert torch.allclose(model.model.layers[1].mlp(x), y, atol=1e-6)


class Through:
    def encode(self, x):
        return x

    def decode(self, f):
        return f + 0.3


def test_the_loss_with_an_sae_is_that_of_a_hook_by_hand(model, tokens):
    def loss(change=None):
        functions = {} if change is None else {"model.layers.1": change}
        with torch.no_grad(), hooked(model, functions):
            logits = model(tokens).logits
        return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))

    later = torch.ones(6, 12, 1)
    later[:, 0] = 0
    result = loss_with_sae(model, Through(), tokens, 1)
    assert result.clean == pytest.approx(loss(), abs=1e-5)
    assert result.spliced == pytest.approx(loss(lambda value: value + 0.3 * later), abs=1e-5)
    assert result.zero == pytest.approx(loss(lambda value: value * (1 - later)), abs=1e-5)
    mlp = model.model.layers[1].mlp
    weights = {name: tensor.clone() for name, tensor in mlp.state_dict().items()}

    class Mlp(Through):
        def decode(self, f):
            up = torch.nn.functional.silu(f @ weights["gate_proj.weight"].T) * (f @ weights["up_proj.weight"].T)
            return up @ weights["down_proj.weight"].T

    result = loss_with_sae(model, Mlp(), tokens, "model.layers.1.mlp@in", target="model.layers.1.mlp")
    assert result.spliced == pytest.approx(result.clean, abs=1e-5)
    assert abs(result.zero - result.clean) > 1e-3


def test_places_that_are_not_there_are_refused(model, tokens):
    with pytest.raises(ValueError, match=r"no module 'model\.layer\.1'; it has names such as 'model\.layers\.0'"):
        ModelBatches(model, tokens, "model.layer.1")
    with pytest.raises(ValueError, match="no layer 3; it has 3, from 0"):
        ModelBatches(model, tokens, 3)
    with pytest.raises(ValueError, match="outside 0 … 39"):
        ModelBatches(model, tokens + 30, 1)
    with pytest.raises(ValueError, match="33 tokens, the model's context holds 32"):
        ModelBatches(model, torch.ones(1, 33, dtype=torch.long), 1)
