"""Any model: folders in Hugging Face format, the hub's cache, and a hub that cannot be reached."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from mi_course.interp.models import ModelError, fetch, list_models, load_model

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran"]


def save_tokenizer(folder) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<bos>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<eos>"
    ).save_pretrained(folder)


def make(kind: str, folder, *, tokenizer: bool = True):
    """A tiny model of this kind with random weights, saved; returns the Hugging Face model."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    size, ids = 3 + len(WORDS), {"bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            config = GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=2, n_head=4, **ids)
            config._attn_implementation = "eager"
            model = GPT2LMHeadModel(config)
        else:
            config = LlamaConfig(
                vocab_size=size,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=32,
                **ids,
            )
            config._attn_implementation = "eager"
            model = LlamaForCausalLM(config)
    for name, p in model.named_parameters():  # norms and biases start at one and zero, which hides mistakes in folding
        if p.ndim == 1:
            p.data += torch.linspace(-0.3, 0.3, p.numel())
        elif "wte" not in name and "embed" not in name:
            p.data *= 8
    model.eval().save_pretrained(folder)
    if tokenizer:
        save_tokenizer(folder)
    return model


@pytest.mark.parametrize("tokenizer", [True, False], ids=["tokenizer", "no tokenizer"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@torch.no_grad()
def test_a_folder_is_bridged(kind, tokenizer, tmp_path):
    model = make(kind, tmp_path / "m", tokenizer=tokenizer)
    tokens = torch.tensor([[0, 3, 4, 5, 6, 7, 8], [0, 9, 9, 10, 3, 4, 5]])
    want = model(tokens).logits
    raw = load_model(str(tmp_path / "m"), compatibility=False)
    assert torch.allclose(raw(tokens), want, atol=1e-6)
    folded = load_model(tmp_path / "m")
    assert torch.allclose(folded(tokens).log_softmax(-1), want.log_softmax(-1), atol=5e-6)
    assert not folded.training
    _, cache = folded.run_with_cache(tokens)
    assert cache["pattern", 1].shape == (2, 4, 7, 7)
    assert torch.allclose(cache["pattern", 1].sum(-1), torch.ones(2, 4, 7), atol=1e-5)
    if tokenizer:
        assert folded.to_tokens("the cat sat").tolist() == [[0, 3, 4, 5]]
        assert folded.to_string(torch.tensor([4])) == "cat"


def test_dtype_and_device_of_a_folder(tmp_path):
    make("llama", tmp_path)
    model = load_model(tmp_path, dtype=torch.float64, device="cpu", compatibility=False)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert fetch(str(tmp_path)) == tmp_path


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, and a hub at an address that refuses."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.mark.timing
def test_what_the_hub_cache_holds_is_loaded_offline(hub_cache):
    entry = hub_cache / "models--someone--tiny"
    make("llama", entry / "snapshots" / "abc123")
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("abc123")
    started = time.monotonic()
    model = load_model("someone/tiny")
    assert time.monotonic() - started < 5
    assert model.cfg.model_name == "someone/tiny"
    assert model.to_tokens("the cat").tolist() == [[0, 3, 4]]
    listed = {m.name: m for m in list_models()}["someone/tiny"]
    assert (listed.kind, listed.present) == ("hub", True)
    (entry / "snapshots" / "abc123" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="not on this machine"):
        load_model("someone/tiny")


@pytest.mark.timing
@pytest.mark.parametrize("way", ["refused", "offline variable", "no such host", "silent proxy"])
def test_an_unreachable_hub_is_told_in_well_under_a_second(way, hub_cache, monkeypatch):
    import socket

    from huggingface_hub import constants

    quiet = socket.socket()
    if way == "offline variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if way == "no such host":
        monkeypatch.setattr(constants, "ENDPOINT", "https://nowhere.invalid")
    if way == "silent proxy":
        quiet.bind(("127.0.0.1", 0))  # bound but not listening, so refused on most systems, silent on some
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{quiet.getsockname()[1]}")
    list_models()  # imports the hub's client, which is no part of the wait
    started = time.monotonic()
    with pytest.raises(ModelError) as error:
        load_model("gpt2")
    assert time.monotonic() - started < 0.9
    quiet.close()
    text = str(error.value)
    assert "\n" not in text
    assert "mi-course models fetch gpt2" in text
    assert ("HF_HUB_OFFLINE is set" in text) == (way == "offline variable")


def test_offline_gpt2_in_a_fresh_process_imports_no_torch(tmp_path):
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from mi_course.interp.models import ModelError, load_model\n"
        "assert 'torch' not in sys.modules and 'transformer_lens' not in sys.modules\n"
        "try: load_model('gpt2')\n"
        "except ModelError: print(time.perf_counter() - start)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    import os

    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert float(ended.stdout) < 10  # 0.1 s on a quiet machine; retrying takes 47


def test_a_name_that_is_nearly_right_gets_a_suggestion(hub_cache):
    with pytest.raises(ModelError, match="Did you mean 'smollm2'"):
        load_model("SmolLM2")


def test_folders_that_are_no_models_are_told_what_they_lack(tmp_path, hub_cache):
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(tmp_path)
    make("llama", tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="Are all its files complete"):
        load_model(tmp_path / "m")
    weights.rename(tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="Only weights in safetensors"):
        load_model(tmp_path / "m")
    with pytest.raises(ModelError, match="There is no folder"):
        load_model("./not/here")
