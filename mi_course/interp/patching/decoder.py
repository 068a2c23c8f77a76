"""The model's blocks as functions, so that a run can start in any layer, on a few positions, in a large batch.

A Decoder calls the modules of a TransformerBridge (norms, projections, MLPs) and computes the attention between them
itself. It supports models whose blocks are `x + attention(norm(x))`, then `x + mlp(norm(x))`, with absolute or rotary
positions and grouped key/value heads. `open_model` compares it with the bridge on the prompts at hand; where they
disagree, or where hooks are attached, it returns None, and callers use `hook_backend.py` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import TokenBatch


class UnsupportedModel(Exception):
    """The Decoder cannot reproduce this model."""


@dataclass(frozen=True)
class Trace:
    """The activations of one unpatched run. Lists are by layer; `pre` has one more, the final residual stream."""

    pre: list[Float[Tensor, "batch pos d_model"]]
    mid: list[Float[Tensor, "batch pos d_model"]]
    q: list[Float[Tensor, "batch pos head d_head"]]  # rotated
    k: list[Float[Tensor, "batch pos kv_head d_head"]]  # rotated
    v: list[Float[Tensor, "batch pos kv_head d_head"]]
    z: list[Float[Tensor, "batch pos head d_head"]]
    positions: Int[Tensor, "batch pos"]
    visible: Bool[Tensor, "batch pos pos"]  # [query, key]: causal, and the key is not padding


class Decoder:
    """The model's parts as functions of tokens, whatever prompt and position each comes from.

    Raises UnsupportedModel (or an error of the bridge's) for a model of another build.
    """

    def __init__(self, model: TransformerBridge) -> None:
        self.model = model
        self.blocks = [_Block(block) for block in model.blocks]
        self.n_layers = len(self.blocks)
        self.n_heads = int(model.cfg.n_heads)
        self.n_kv_heads = int(getattr(model.cfg, "n_key_value_heads", None) or self.n_heads)
        self.group = self.n_heads // self.n_kv_heads
        self.d_head = int(model.cfg.d_head)
        d_mlp = int(getattr(model.cfg, "d_mlp", None) or 0)
        self.floats_per_token = 4 * int(model.cfg.d_model) + 3 * d_mlp + 3 * self.n_heads * self.d_head
        """How many numbers a block holds for each token at a time, at most; an estimate for choosing batch sizes."""
        self.norm = _original(model.ln_final)
        self.unembed = _original(model.unembed)
        self._cos: Tensor | None = None
        self._sin: Tensor | None = None

    def trace(self, batch: TokenBatch) -> Trace:
        """Run the prompts once, keeping all activations that patches need."""
        shape = batch.tokens.shape
        # As the bridge does: the first real token of a prompt padded on the left is at position 0.
        positions = (batch.mask.long().cumsum(1) - 1).clamp(min=0)
        causal = torch.ones(shape[1], shape[1], dtype=torch.bool, device=batch.tokens.device).tril()
        # Padding attends to itself, or its softmax would be 0/0; nothing else attends to padding.
        visible = causal & (batch.mask[:, None, :] | torch.eye(shape[1], dtype=torch.bool, device=causal.device))
        x = self.model(batch.tokens, stop_at_layer=0, **batch.forward_options())
        self._prepare_rotation(int(positions.max()), x)
        pre, mid, q, k, v, z = [x], [], [], [], [], []
        for layer in range(self.n_layers):
            heads = self.project(layer, x.flatten(0, 1), positions.flatten())
            for by_layer, tensor in zip((q, k, v), heads, strict=True):
                by_layer.append(tensor.unflatten(0, shape))
            z.append(self.attend(layer, q[-1], k[-1], v[-1], visible))
            mid.append(x + self.write(layer, z[-1]))
            x = self.apply_mlp(layer, mid[-1])
            pre.append(x)
        return Trace(pre, mid, q, k, v, z, positions, visible)

    def project(
        self, layer: int, x: Float[Tensor, "token d_model"], positions: Int[Tensor, " token"]
    ) -> tuple[Float[Tensor, "token head d_head"], Float[Tensor, "token kv d_head"], Float[Tensor, "token kv d_head"]]:
        """Queries, keys (both rotated, where the model rotates) and values of these tokens."""
        block = self.blocks[layer]
        h = block.norm1(x)
        q = block.q(h).unflatten(-1, (self.n_heads, self.d_head))
        k = block.k(h).unflatten(-1, (self.n_kv_heads, self.d_head))
        v = block.v(h).unflatten(-1, (self.n_kv_heads, self.d_head))
        return self._rotate(q, positions), self._rotate(k, positions), v

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "row query head d_head"],
        k: Float[Tensor, "row key kv_head d_head"],
        v: Float[Tensor, "row key kv_head d_head"],
        visible: Bool[Tensor, "row query key"],
    ) -> Float[Tensor, "row query head d_head"]:
        rows, queries = q.shape[:2]
        # The query heads of a group are further queries to its one key/value head.
        q = q.unflatten(2, (self.n_kv_heads, self.group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        mask = visible[:, None].repeat(1, 1, self.group, 1)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.blocks[layer].scale)
        z = z.unflatten(2, (self.group, queries)).permute(0, 3, 1, 2, 4)
        return z.reshape(rows, queries, self.n_heads, self.d_head)

    def pattern(
        self,
        layer: int,
        q: Float[Tensor, "row query head d_head"],
        k: Float[Tensor, "row key kv_head d_head"],
        visible: Bool[Tensor, "row query key"],
    ) -> Float[Tensor, "row head query key"]:
        k = k.repeat_interleave(self.group, dim=2)
        scores = torch.einsum("rqhd,rkhd->rhqk", q, k) * self.blocks[layer].scale
        return scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)

    def write(self, layer: int, z: Float[Tensor, "*any head d_head"]) -> Float[Tensor, "*any d_model"]:
        """The attention's output from all its heads."""
        return self.blocks[layer].o(z.flatten(-2))

    def head_writes(self, layer: int, z: Float[Tensor, "*any head d_head"]) -> Float[Tensor, "*any head d_model"]:
        """What each head alone adds to the residual stream, without the bias."""
        W_O = self.blocks[layer].W_O.unflatten(0, (self.n_heads, self.d_head))
        return torch.einsum("...he,hed->...hd", z, W_O)

    def apply_mlp(self, layer: int, mid: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """The second half of a block: the residual stream after the MLP from the one before it."""
        block = self.blocks[layer]
        return mid if block.mlp is None else mid + block.mlp(block.norm2(mid))

    def logits(self, final: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any vocab"]:
        return self.unembed(self.norm(final))

    def logits_of(
        self, final: Float[Tensor, "*any batch d_model"], tokens: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "*any batch n"]:
        """The logits of a few tokens for each prompt, from their rows of the unembedding alone."""
        rows = self.unembed.weight[tokens]  # batch n d_model
        logits = torch.einsum("...bd,bnd->...bn", self.norm(final), rows)
        return logits if self.unembed.bias is None else logits + self.unembed.bias[tokens]

    def _prepare_rotation(self, last: int, x: Float[Tensor, "batch pos d_model"]) -> None:
        """Compute the rotary tables for positions 0 … last."""
        attention = self.blocks[0].attention
        rotary = getattr(_original(attention), "rotary", None)
        self._interleaved = rotary is not None
        if rotary is not None:
            self._cos, self._sin = rotary.cos_cached[: last + 1].to(x.dtype), rotary.sin_cached[: last + 1].to(x.dtype)
            return
        rotary = dict(self.model.named_children()).get("rotary_emb")
        if rotary is not None:
            cos, sin = _original(rotary)(x, torch.arange(last + 1, device=x.device)[None])
            self._cos, self._sin = cos[0], sin[0]

    def _rotate(
        self, x: Float[Tensor, "token head d_head"], positions: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head d_head"]:
        if self._cos is None or self._sin is None:
            return x
        size = self._cos.shape[-1]
        rotated, rest = x[..., :size], x[..., size:]
        if self._interleaved:  # TransformerLens's own models rotate neighbours, transformers the two halves
            other = torch.stack((-rotated[..., 1::2], rotated[..., 0::2]), dim=-1).flatten(-2)
        else:
            other = torch.cat((-rotated[..., size // 2 :], rotated[..., : size // 2]), dim=-1)
        rotated = rotated * self._cos[positions][:, None] + other * self._sin[positions][:, None]
        return torch.cat((rotated, rest), dim=-1) if rest.shape[-1] else rotated


class _Block:
    """The parts of one block, as the modules that the bridge itself runs."""

    def __init__(self, block: Any) -> None:
        parts = dict(block.named_children())
        self.attention = parts.get("attn")
        unexpected = set(parts) - {"ln1", "attn", "ln2", "mlp", "_original_component"}
        unexpected = {name for name in unexpected if not name.startswith("hook_")}
        if self.attention is None or unexpected or ("mlp" in parts) != ("ln2" in parts) or "ln1" not in parts:
            raise UnsupportedModel(f"a block has the parts {sorted(parts)}")
        self.norm1, self.norm2 = _original(parts["ln1"]), _original(parts["ln2"]) if "ln2" in parts else None
        self.mlp = _original(parts["mlp"]) if "mlp" in parts else None
        self.q, self.k, self.v, self.o = (_original(getattr(self.attention, name)) for name in "qkvo")
        # The weight is (out, in) in Linear, (in, out) in GPT-2's Conv1D.
        self.W_O = self.o.weight.T if isinstance(self.o, torch.nn.Linear) else self.o.weight
        original = _original(self.attention)
        if hasattr(original, "kv_repeats"):  # one of TransformerLens's own models
            self.scale = 1 / float(original.scale)
        else:
            self.scale = float(getattr(original, "scaling", None) or original.head_dim**-0.5)


def open_model(model: TransformerBridge, batch: TokenBatch) -> Decoder | None:
    """A Decoder of this model if it gives the bridge's own logits on some of these prompts, else None."""
    if _has_hooks(model):
        return None
    # The first prompt, and the shortest: with padding these two are the likeliest to differ.
    some = batch.rows(sorted({0, int(batch.mask.sum(1).argmin())}))
    rows = torch.arange(len(some), device=batch.tokens.device)
    with torch.no_grad():
        try:
            decoder = Decoder(model)
            trace = decoder.trace(some)
            ours = decoder.logits(trace.pre[-1][rows, some.last])
        except (UnsupportedModel, AttributeError, KeyError, TypeError, RuntimeError, ValueError):
            return None
        theirs = model(some.tokens, **some.forward_options())[rows, some.last]
    # 100 roundings of the largest logit: about 2e-4 in float32.
    limit = 100 * torch.finfo(theirs.dtype).eps * float(theirs.abs().max())
    agree = ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= limit
    return decoder if agree else None


def _original(bridge: Any) -> Any:
    """The module that this component of the bridge wraps."""
    original = bridge.original_component
    if original is None:
        raise UnsupportedModel(f"{type(bridge).__name__} wraps nothing")
    return original


def _has_hooks(model: TransformerBridge) -> bool:
    """Whether the learner has attached hooks, which a Decoder would not run."""
    return any(point._forward_hooks or point._forward_pre_hooks for point in model.hook_dict.values())
