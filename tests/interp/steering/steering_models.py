"""Small models with random weights: ours without a cache, a Llama-like one with a key/value cache and a tokenizer."""

from __future__ import annotations

import torch

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "good", "bad", "was"]
CONFIG = {"n_layers": 3, "n_heads": 2, "d_model": 16, "d_head": 8, "d_vocab": 15, "n_ctx": 24}


def save_llama(folder, *, tied: bool = False):
    """A Llama of two layers and its word-level tokenizer; biases do not exist there, norms are uneven."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<bos>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<eos>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=48,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    for name, p in model.named_parameters():
        if p.ndim == 1:
            p.data += torch.linspace(-0.3, 0.3, p.numel())
        else:
            p.data *= 40 if "embed" in name or "lm_head" in name else 12
    model.eval().save_pretrained(folder)
    return model


def module_hooks(model) -> int:
    """Hooks on all modules, each counted once."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
