"""Every activation of a layer of SmolLM2 in the order of computation, and what four libraries call it.

The one source of lesson 01's map, of `docs/hooks.md` and of `docs/hooks.svg` (`python scripts/hook_map.py` writes
both). `tests/interp/test_hook_map.py` runs a model and holds each row against it: that the hook exists, its shape, its
place in the order, and that Hugging Face's activation is the same tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TRANSFORMERS, NNSIGHT = "5.23", "0.8.1"
"""The versions that the names were checked with."""

Part = Literal["stream", "norm", "attention", "MLP", "end"]


@dataclass(frozen=True)
class HookRow:
    """One activation. In names, {l} stands for the layer's number."""

    name: str
    """TransformerLens's name; 2, 3 and 4 share it."""
    shape: str
    """Axes: b batch, p position, q query, k key; numbers are SmolLM2's."""
    part: Part
    means: str
    hf: str
    """How Hugging Face's model gives it: what to hook, and whether its input or its output."""
    nnsight: str
    """The same inside `with model.trace(text):`, without the final `.save()`."""
    bridge: str = ""
    """The name of the bridge itself, of which TransformerLens 4's familiar name is an alias."""
    stream: Literal["", "reads", "adds", "is"] = ""
    """What it has to do with the residual stream."""

    @property
    def short(self) -> str:
        """The name within its layer."""
        return self.name.removeprefix("blocks.{l}.")


_L = "layers[l]"
_ATTN, _MLP = f"{_L}.self_attn", f"{_L}.mlp"

BEFORE = (
    HookRow(
        "hook_embed",
        "b p 576",
        "stream",
        "the token's row of W_E: the stream begins",
        "embed_tokens, output",
        "model.model.embed_tokens.output",
        "embed.hook_out",
        "is",
    ),
)
LAYER = (
    HookRow(
        "blocks.{l}.hook_resid_pre",
        "b p 576",
        "stream",
        "the stream as the layer finds it",
        f"{_L}, input; hidden_states[l]",
        f"model.model.{_L}.input",
        "blocks.{l}.hook_in",
        "is",
    ),
    HookRow(
        "blocks.{l}.ln1.hook_scale",
        "b p 1",
        "norm",
        "its root mean square",
        "computed inside input_layernorm",
        "not to be had: compute it from the layer's input",
        "",
        "reads",
    ),
    HookRow(
        "blocks.{l}.ln1.hook_normalized",
        "b p 576",
        "norm",
        "the stream divided by it: what the heads read",
        f"{_L}.input_layernorm, output (times its weight)",
        f"model.model.{_L}.input_layernorm.output",
    ),
    HookRow(
        "blocks.{l}.attn.hook_q",
        "b p 9 64",
        "attention",
        "queries, one for each head",
        f"{_ATTN}.q_proj, output (b p 576)",
        f"model.model.{_ATTN}.q_proj.output",
        "blocks.{l}.attn.q.hook_out",
    ),
    HookRow(
        "blocks.{l}.attn.hook_k",
        "b p 3 64",
        "attention",
        "keys: three heads share one",
        f"{_ATTN}.k_proj, output (b p 192)",
        f"model.model.{_ATTN}.k_proj.output",
        "blocks.{l}.attn.k.hook_out",
    ),
    HookRow(
        "blocks.{l}.attn.hook_v",
        "b p 3 64",
        "attention",
        "values, shared alike",
        f"{_ATTN}.v_proj, output (b p 192)",
        f"model.model.{_ATTN}.v_proj.output",
        "blocks.{l}.attn.v.hook_out",
    ),
    HookRow(
        "blocks.{l}.attn.hook_rot_q",
        "b p 9 64",
        "attention",
        "queries, rotated by their position",
        "no module: apply_rotary_pos_emb",
        f"model.model.{_ATTN}.source.apply_rotary_pos_emb_0.output[0] (b 9 p 64)",
    ),
    HookRow(
        "blocks.{l}.attn.hook_rot_k",
        "b p 3 64",
        "attention",
        "keys, rotated by theirs",
        "no module: apply_rotary_pos_emb",
        f"model.model.{_ATTN}.source.apply_rotary_pos_emb_0.output[1] (b 3 p 64)",
    ),
    HookRow(
        "blocks.{l}.attn.hook_attn_scores",
        "b 9 q k",
        "attention",
        "query · key / 8; the future is masked",
        "no module: inside eager_attention_forward",
        f"model.model.{_ATTN}.source.attention_interface_1.source.nn_functional_softmax_0.input, with eager attention",
    ),
    HookRow(
        "blocks.{l}.attn.hook_pattern",
        "b 9 q k",
        "attention",
        "their softmax over keys",
        "attentions[l], with eager attention",
        f"model.model.{_ATTN}.output[1], with eager attention",
    ),
    HookRow(
        "blocks.{l}.attn.hook_z",
        "b p 9 64",
        "attention",
        "values, averaged by the pattern",
        f"{_ATTN}.o_proj, input (b p 576)",
        f"model.model.{_ATTN}.o_proj.input",
        "blocks.{l}.attn.o.hook_in",
    ),
    HookRow(
        "blocks.{l}.hook_attn_out",
        "b p 576",
        "attention",
        "all heads' z @ W_O: added to the stream",
        f"{_ATTN}.o_proj, output",
        f"model.model.{_ATTN}.o_proj.output",
        "blocks.{l}.attn.hook_out",
        "adds",
    ),
    HookRow(
        "blocks.{l}.hook_resid_mid",
        "b p 576",
        "stream",
        "the stream between attention and MLP",
        f"{_L}.post_attention_layernorm, input",
        f"model.model.{_L}.post_attention_layernorm.input",
        "blocks.{l}.ln2.hook_in",
        "is",
    ),
    HookRow(
        "blocks.{l}.ln2.hook_scale",
        "b p 1",
        "norm",
        "its root mean square",
        "computed inside post_attention_layernorm",
        "not to be had: compute it from the input",
        "",
        "reads",
    ),
    HookRow(
        "blocks.{l}.ln2.hook_normalized",
        "b p 576",
        "norm",
        "the stream divided by it: what the MLP reads",
        f"{_L}.post_attention_layernorm, output (times its weight)",
        f"model.model.{_L}.post_attention_layernorm.output",
    ),
    HookRow(
        "blocks.{l}.mlp.hook_pre",
        "b p 1536",
        "MLP",
        "the gate, before SiLU",
        f"{_MLP}.gate_proj, output",
        f"model.model.{_MLP}.gate_proj.output",
        "blocks.{l}.mlp.gate.hook_out",
    ),
    HookRow(
        "blocks.{l}.mlp.hook_pre_linear",
        "b p 1536",
        "MLP",
        "what the gate lets through",
        f"{_MLP}.up_proj, output",
        f"model.model.{_MLP}.up_proj.output",
        "blocks.{l}.mlp.in.hook_out",
    ),
    HookRow(
        "blocks.{l}.mlp.hook_post",
        "b p 1536",
        "MLP",
        "the neurons: SiLU(gate) times it",
        f"{_MLP}.down_proj, input",
        f"model.model.{_MLP}.down_proj.input",
        "blocks.{l}.mlp.out.hook_in",
    ),
    HookRow(
        "blocks.{l}.hook_mlp_out",
        "b p 576",
        "MLP",
        "neurons @ W_out: added to the stream",
        f"{_MLP}, output",
        f"model.model.{_MLP}.output",
        "blocks.{l}.mlp.hook_out",
        "adds",
    ),
    HookRow(
        "blocks.{l}.hook_resid_post",
        "b p 576",
        "stream",
        "the stream as the layer leaves it",
        f"{_L}, output; hidden_states[l + 1], but for the last",
        f"model.model.{_L}.output",
        "blocks.{l}.hook_out",
        "is",
    ),
)
AFTER = (
    HookRow(
        "ln_final.hook_scale",
        "b p 1",
        "end",
        "the root mean square of the last stream",
        "computed inside norm",
        "not to be had: compute it from the input",
        "",
        "reads",
    ),
    HookRow(
        "ln_final.hook_normalized",
        "b p 576",
        "end",
        "the last stream divided by it",
        "norm, output (times its weight); hidden_states[30]",
        "model.model.norm.output",
    ),
    HookRow("unembed.hook_out", "b p 49152", "end", "the logits", "lm_head, output; logits", "model.lm_head.output"),
)
HOOKS = (*BEFORE, *LAYER, *AFTER)


def map_rows() -> list[dict[str, str]]:
    """What `show.layer_map` draws."""
    return [
        {"name": row.short, "shape": row.shape, "part": row.part, "means": row.means, "stream": row.stream}
        for row in HOOKS
    ]


def names_table() -> dict[str, list[str]]:
    """Rows for `show.table`: TransformerLens's name to Hugging Face's and nnsight's, within the layer."""
    return {
        row.short: [
            row.hf.replace("layers[l].", ""),
            row.nnsight.removeprefix("model.model.").replace("layers[l].", ""),
        ]
        for row in HOOKS
    }
