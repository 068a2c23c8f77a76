"""Files of small models: what is saved comes back, and what does not fit is refused with a reason."""

from __future__ import annotations

import json

import pytest
import torch

from mi_course.interp.models import (
    ModelError,
    load_checkpoints,
    load_native,
    load_state,
    save_checkpoints,
    save_native,
    state_of,
)
from mi_course.interp.models.native import boot, config_of, read_meta

SHAPES = {
    "attention only": {"attn_only": True, "normalization_type": None},
    "layer norm": {"normalization_type": "LN", "d_mlp": 32, "act_fn": "gelu"},
    "grouped, gated, rotary": {
        "normalization_type": "RMS",
        "d_mlp": 24,
        "gated_mlp": True,
        "act_fn": "silu",
        "n_key_value_heads": 2,
        "positional_embedding_type": "rotary",
        "rotary_dim": 4,
    },
}
TOKENS = torch.arange(24).reshape(2, 12) % 11


def tiny(seed: int = 0, **fields):
    shape = {"d_model": 16, "d_head": 4, "n_heads": 4, "n_layers": 2, "n_ctx": 20, "d_vocab": 11}
    return boot({**shape, **fields, "seed": seed}, name="tiny").eval()


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES.keys())
def test_a_saved_model_comes_back_the_same(fields, tmp_path):
    model = tiny(seed=3, **fields)
    path = save_native(model, tmp_path / "new" / "m.safetensors", licence="Apache-2.0", script="train.py")
    back = load_native(path)
    assert torch.equal(model(TOKENS), back(TOKENS))
    assert config_of(back) == config_of(model)
    assert not back.training
    assert read_meta(path)["licence"] == "Apache-2.0"
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]
    back.enable_compatibility_mode(disable_warnings=True)
    want, have = model(TOKENS).log_softmax(-1), back(TOKENS).log_softmax(-1)
    assert torch.allclose(want, have, atol=1e-5)
    with pytest.raises(ModelError, match="compatibility"):
        save_native(back, tmp_path / "folded.safetensors")


def test_tensor_names_are_those_of_transformer_lens():
    assert sorted(state_of(tiny(attn_only=True, normalization_type=None, n_layers=1))) == [
        *(f"blocks.0.attn.{m}.{p}" for m in "koqv" for p in ("bias", "weight")),
        "embed.weight",
        "pos_embed.weight",
        "unembed.weight",
    ]


def test_checkpoints_of_one_training_run(tmp_path):
    model = tiny(attn_only=True, normalization_type=None)
    states = {}
    for step in (0, 300, 12345):
        with torch.no_grad():
            model.W_Q.sum()
            for p in model.parameters():
                p.add_(0.01)
        states[step] = state_of(model)
    path = save_checkpoints(model, states, tmp_path / "m-checkpoints.safetensors", script="train.py")
    checkpoints = load_checkpoints(path)
    assert list(checkpoints) == [0, 300, 12345]
    for step, state in checkpoints.items():
        for name, t in state.items():
            assert t.dtype == torch.float32
            assert torch.allclose(t, states[step][name], atol=2e-3), (step, name)
    last = checkpoints.boot()
    assert torch.allclose(last(TOKENS), model(TOKENS), atol=1e-2)
    load_state(last, states[0])
    assert torch.equal(state_of(last)["embed.weight"], states[0]["embed.weight"])
    with pytest.raises(KeyError, match="step 7"):
        checkpoints[7]
    with pytest.raises(ModelError, match="load_checkpoints"):
        load_native(path)


def test_a_state_is_a_copy_and_is_loaded_in_place():
    model = tiny(attn_only=True, normalization_type=None)
    before, parameters = state_of(model), [id(p) for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert before["embed.weight"].abs().sum() > 0
    load_state(model, before)
    assert [id(p) for p in model.parameters()] == parameters
    assert all(torch.equal(t, before[name]) for name, t in state_of(model).items())


def test_loading_leaves_the_random_state_alone(tmp_path):
    path = save_native(tiny(attn_only=True), tmp_path / "m.safetensors")
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    load_native(path)
    assert torch.equal(torch.rand(3), want)


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    model = tiny(attn_only=True, normalization_type=None)
    before = state_of(model)
    odd = {**{k: v + 1 for k, v in before.items()}, "embed.weight": torch.zeros(11, 8)}
    with pytest.raises(ModelError, match=r"embed.weight, which has shape \(11, 8\) in the state and \(11, 16\)"):
        load_state(model, odd)
    assert torch.equal(state_of(model)["blocks.0.attn.q.weight"], before["blocks.0.attn.q.weight"])

    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\x00")
    with pytest.raises(ModelError, match="cannot be read"):
        load_native(broken)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="save_native"):
        load_native(tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "later.safetensors", {"mi_course": json.dumps({"format": 9})})
    with pytest.raises(ModelError, match="format 9"):
        load_native(tmp_path / "later.safetensors")
    with pytest.raises(ModelError, match="no file"):
        load_native("no-such-model")
    whole = save_native(model, tmp_path / "whole.safetensors")
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        load_native(whole)
