"""Holds the map of hooks against a model of SmolLM2's shape: names, shapes, order, and Hugging Face's activations."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from mi_course.interp.hook_map import HOOKS, LAYER, HookRow
from mi_course.interp.models.bridge import build

LAYERS, AT = 3, 1  # the map's layer is the middle one
SIZES = {"b": 2, "p": 5, "q": 5, "k": 5}


@pytest.fixture(scope="module")
def models():
    """A model with random weights, norms included, in SmolLM2's shape, and a bridge around a copy of it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=49152,
        attn_implementation="eager",
        architectures=["LlamaForCausalLM"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf = LlamaForCausalLM(config).eval()
        for name, parameter in hf.named_parameters():
            if "norm" in name:
                parameter.data.uniform_(0.5, 1.5)
        tokens = torch.randint(0, 49152, (SIZES["b"], SIZES["p"]))
    bridge = build(copy.deepcopy(hf), None, name="map", compatibility=False, device=torch.device("cpu"))
    return hf, bridge, tokens


@pytest.fixture(scope="module")
def fired(models) -> list[tuple[str, torch.Tensor]]:
    """(name, activation) of the map's hooks, in the order in which they fire."""
    _, bridge, tokens = models
    seen: list[tuple[str, torch.Tensor]] = []

    def keep(name: str):
        def hook(activation, hook):
            seen.append((name, activation.detach().clone()))

        return hook

    names = [row.name.replace("{l}", str(AT)) for row in HOOKS]
    with torch.no_grad():
        bridge.run_with_hooks(tokens, fwd_hooks=[(name, keep(name)) for name in names])
    return seen


def test_every_hook_fires_once_in_the_order_of_the_map(fired):
    assert [name for name, _ in fired] == [row.name.replace("{l}", str(AT)) for row in HOOKS]


@pytest.mark.parametrize("row", HOOKS, ids=lambda row: row.short)
def test_shape_and_bridge_name(row: HookRow, fired, models):
    name = row.name.replace("{l}", str(AT))
    activation = dict(fired)[name]
    assert list(activation.shape) == [SIZES[axis] if axis in SIZES else int(axis) for axis in row.shape.split()]
    if row.bridge:
        hooks = models[1].hook_dict
        assert hooks[row.bridge.replace("{l}", str(AT))] is hooks[name]


@pytest.mark.parametrize(
    "row", [row for row in HOOKS if re.search(r", (in|out)put", row.hf)], ids=lambda row: row.short
)
def test_hugging_face_has_the_same_activation(row: HookRow, fired, models):
    hf, _, tokens = models
    path, side = re.match(r"([\w.\[\]]+), (input|output)", row.hf).groups()
    root = hf if path == "lm_head" else hf.model
    module = root.get_submodule(path.replace("layers[l]", f"layers.{AT}"))
    kept = []

    def hook(module, args, kwargs, output):
        value = (args[0] if args else kwargs["hidden_states"]) if side == "input" else output
        kept.append((value[0] if isinstance(value, tuple) else value).detach())

    handle = module.register_forward_hook(hook, with_kwargs=True)
    with torch.no_grad():
        hf(tokens)
    handle.remove()
    ours = dict(fired)[row.name.replace("{l}", str(AT))].flatten(2)
    if "times its weight" in row.hf:
        ours = ours * module.weight.detach()
    torch.testing.assert_close(ours, kept[0], rtol=1e-4, atol=1e-4)


def test_hidden_states_and_attentions(fired, models):
    hf, _, tokens = models
    with torch.no_grad():
        out = hf(tokens, output_hidden_states=True, output_attentions=True)
    ours = dict(fired)
    torch.testing.assert_close(ours[f"blocks.{AT}.hook_resid_pre"], out.hidden_states[AT], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[f"blocks.{AT}.hook_resid_post"], out.hidden_states[AT + 1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[f"blocks.{AT}.attn.hook_pattern"], out.attentions[AT], rtol=1e-4, atol=1e-4)
    # The last one has gone through the final norm, its weight included.
    last = ours["ln_final.hook_normalized"] * hf.model.norm.weight.detach()
    torch.testing.assert_close(last, out.hidden_states[LAYERS], rtol=1e-4, atol=1e-4)


def test_the_layer_has_every_hook_that_fires_in_it(models):
    """Nothing of the bridge's layer is left out but second names, and inputs that are another row's output."""
    _, bridge, tokens = models
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens)
    listed = {row.name.replace("{l}", str(AT)) for row in LAYER} | {row.bridge.replace("{l}", str(AT)) for row in LAYER}
    # The norms' outputs with their weights, which the page of the docs mentions, are what attention and MLP take in.
    listed |= {f"blocks.{AT}.ln{i}.hook_out" for i in (1, 2)}
    tensors = [cache[name] for name in listed if name in cache]
    for name in cache:
        if name.startswith(f"blocks.{AT}.") and name not in listed:
            same = [
                t
                for t in tensors
                if t.numel() == cache[name].numel() and torch.equal(t.flatten(), cache[name].flatten())
            ]
            assert same or name.endswith(("hook_cos", "hook_sin")), name  # the angles


def test_docs_are_what_the_script_writes():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "scripts" / "hook_map.py"
    spec = importlib.util.spec_from_file_location("write_hook_map", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for file, text in script.pages().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name} is stale; run python scripts/hook_map.py"
