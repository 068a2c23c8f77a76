"""The engine on models of the transformers library: tiny ones with random weights, and SmolLM2."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.ioi import ioi_prompts
from mi_course.interp.models.bridge import build
from mi_course.interp.patching import decoder, logit_difference, paths, sweeps
from mi_course.interp.prompts import read_prompts

ANSWERS = torch.tensor([[3, 4], [0, 19]])
SIZES = {"vocab_size": 20, "max_position_embeddings": 16}


def tiny(kind: str, compatibility: bool):
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "llama":
            config = LlamaConfig(
                **SIZES,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.3,
            )
            model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
        else:
            config = GPT2Config(vocab_size=20, n_positions=16, n_embd=24, n_layer=2, n_head=4, initializer_range=0.3)
            model = GPT2LMHeadModel._from_config(config, attn_implementation="eager")
    model.config.architectures = [type(model).__name__]
    return build(model.eval(), None, name=kind, compatibility=compatibility, device=torch.device("cpu"))


def compare(monkeypatch, model, clean, corrupted, metric, activation: str, **options) -> None:
    assert decoder.open_model(model, read_prompts(model, clean, options.get("mask"))) is not None
    fast = sweeps.sweep(model, clean, corrupted, metric, activation, progress=False, **options)
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "open_model", lambda *_: None)
        slow = sweeps.sweep(model, clean, corrupted, metric, activation, progress=False, **options)
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("compatibility", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tiny_models_equal_the_hook_backend(monkeypatch, kind, compatibility) -> None:
    model = tiny(kind, compatibility)
    clean = torch.tensor([[1, 5, 9, 2, 7, 3], [0, 0, 4, 8, 6, 11]])
    corrupted = torch.tensor([[1, 5, 13, 2, 7, 3], [0, 0, 4, 12, 6, 11]])
    left = torch.tensor([[1] * 6, [0, 0] + [1] * 4])
    for activation in (*sweeps._BY_POSITION, "z", "q", "k", "v", "pattern"):
        for mask in (None, left):
            compare(monkeypatch, model, clean, corrupted, logit_difference(ANSWERS), activation, mask=mask)


@pytest.mark.real_model
@pytest.mark.measured
@pytest.mark.parametrize("compatibility", [True, False])
def test_smollm2_equals_the_hook_backend(monkeypatch, compatibility) -> None:
    """Prompts of unequal length, padded; a few layers of every kind of sweep."""
    from mi_course import load_model

    model = load_model("smollm2", compatibility=compatibility)
    clean, corrupted, names = ioi_prompts([("Mary", "John")], "When {A} and {B} met, {S} gave a drink to")
    more = ioi_prompts([("Tom", "James")], "Then {A} and {B} sat down, and {S} spoke to")
    clean, corrupted, names = clean + more[0][:1], corrupted + more[1][:1], names + more[2][:1]
    metric = logit_difference(names, model)
    compare(monkeypatch, model, clean, corrupted, metric, "resid_pre", layers=[19])
    compare(monkeypatch, model, clean, corrupted, metric, "mlp_out", layers=[20], direction="noising")
    # The hook backend takes a full forward pass for each head: one layer here, the rest on small models.
    for activation in ("z", "q", "k", "v", "pattern") if compatibility else ("z",):
        compare(monkeypatch, model, clean, corrupted, metric, activation, layers=[23])


@pytest.mark.real_model
@pytest.mark.measured
def test_smollm2_paths_to_the_logits() -> None:
    """The heads the course's authors measured: 23.3 has the largest direct effect of all."""
    from mi_course import load_model

    model = load_model("smollm2")
    pairs = [("Mary", "John"), ("Tom", "James")]
    clean, corrupted, names = ioi_prompts(pairs, "When {A} and {B} went to the store, {S} gave a drink to")
    metric = logit_difference(names, model)
    frozen, recomputed = (
        paths.path_patching(model, clean, corrupted, metric, mlps=mlps, progress=False)
        for mlps in ("frozen", "recomputed")
    )
    assert frozen.top(1)[0][0] == (23, 3)
    assert recomputed.values[23, 3] != frozen.values[23, 3]
