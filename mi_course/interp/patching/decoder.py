"""The model's blocks, opened up: so that a run can start in its middle, on a few positions, in a large batch.

A Decoder reads the very modules of a TransformerBridge (norms, projections, MLPs) and does the attention between them
itself. It knows models whose blocks are `x + attention(norm(x))`, then `x + mlp(norm(x))`, with absolute or rotary
positions and grouped key/value heads. Whether it knows *this* model is not believed but tried: `open_model` compares it
with the bridge on the prompts at hand, and gives None where they disagree (or where hooks are attached, or dropout
works), whereupon the plain road of `plain.py` is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.prompts import Batch


class Unknown(Exception):
    """This model is not built in the way that the Decoder knows."""


@dataclass(frozen=True)
class Trace:
    """One ordinary run, remembered. Lists are by layer; `pre` has one more, the final residual stream."""

    pre: list[Float[Tensor, "batch pos d_model"]]
    mid: list[Float[Tensor, "batch pos d_model"]]
    q: list[Float[Tensor, "batch pos head d_head"]]  # rotated
    k: list[Float[Tensor, "batch pos kv_head d_head"]]  # rotated
    v: list[Float[Tensor, "batch pos kv_head d_head"]]
    z: list[Float[Tensor, "batch pos head d_head"]]
    positions: Int[Tensor, "batch pos"]
    visible: Bool[Tensor, "batch pos pos"]  # [query, key]: causal, and the key is no padding


class Decoder:
    """Blocks as functions on rows of tokens, whatever prompt and position each row comes from."""

    def __init__(self, model: TransformerBridge) -> None:
        self.model = model
        self.blocks = [_Block(block) for block in model.blocks]
        self.n_layers = len(self.blocks)
        self.n_heads = int(model.cfg.n_heads)
        self.n_kv_heads = int(getattr(model.cfg, "n_key_value_heads", None) or self.n_heads)
        self.group = self.n_heads // self.n_kv_heads
        self.d_head = int(model.cfg.d_head)
        self.has_mlp = self.blocks[0].mlp is not None
        self.norm = _inner(model.ln_final)
        self.head = _inner(model.unembed)
        self._cos: Tensor | None = None
        self._sin: Tensor | None = None

    def trace(self, batch: Batch) -> Trace:
        """Run the prompts once and keep what patches need."""
        shape = batch.tokens.shape
        # As the bridge does: the first real token of a prompt padded on the left is at position 0.
        positions = (batch.mask.long().cumsum(1) - 1).clamp(min=0)
        causal = torch.ones(shape[1], shape[1], dtype=torch.bool, device=batch.tokens.device).tril()
        # Padding sees itself, lest its softmax be 0/0; nobody sees padding.
        visible = causal & (batch.mask[:, None, :] | torch.eye(shape[1], dtype=torch.bool, device=causal.device))
        x = self.model(batch.tokens, stop_at_layer=0, **batch.run_arguments())
        self.prepare(int(positions.max()), x)
        pre, mid, q, k, v, z = [x], [], [], [], [], []
        for layer in range(self.n_layers):
            heads = self.project(layer, x.flatten(0, 1), positions.flatten())
            for kept, tensor in zip((q, k, v), heads, strict=True):
                kept.append(tensor.unflatten(0, shape))
            z.append(self.attend(layer, q[-1], k[-1], v[-1], visible))
            mid.append(x + self.write(layer, z[-1]))
            x = self.feed(layer, mid[-1])
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
        return self.rotate(q, positions), self.rotate(k, positions), v

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

    def feed(self, layer: int, mid: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """The second half of a block, from its middle to its end."""
        block = self.blocks[layer]
        return mid if block.mlp is None else mid + block.mlp(block.norm2(mid))

    def logits(self, final: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any vocab"]:
        return self.head(self.norm(final))

    def some_logits(
        self, final: Float[Tensor, "*any batch d_model"], tokens: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "*any batch n"]:
        """The logits of a few tokens for each prompt: a sliver of the unembedding in place of all of it."""
        rows = self.head.weight[tokens]  # batch n d_model
        logits = torch.einsum("...bd,bnd->...bn", self.norm(final), rows)
        return logits if self.head.bias is None else logits + self.head.bias[tokens]

    def prepare(self, last: int, x: Float[Tensor, "batch pos d_model"]) -> None:
        """Make the tables of rotation for positions 0 … last."""
        attention = self.blocks[0].attention
        rotary = getattr(_inner(attention), "rotary", None)
        self._pairs = rotary is not None
        if rotary is not None:
            self._cos, self._sin = rotary.cos_cached[: last + 1].to(x.dtype), rotary.sin_cached[: last + 1].to(x.dtype)
            return
        rotary = dict(self.model.named_children()).get("rotary_emb")
        if rotary is not None:
            cos, sin = _inner(rotary)(x, torch.arange(last + 1, device=x.device)[None])
            self._cos, self._sin = cos[0], sin[0]

    def rotate(
        self, x: Float[Tensor, "token head d_head"], positions: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head d_head"]:
        if self._cos is None or self._sin is None:
            return x
        size = self._cos.shape[-1]
        turned, rest = x[..., :size], x[..., size:]
        if self._pairs:  # TransformerLens' own models turn neighbours, transformers the two halves
            other = torch.stack((-turned[..., 1::2], turned[..., 0::2]), dim=-1).flatten(-2)
        else:
            other = torch.cat((-turned[..., size // 2 :], turned[..., : size // 2]), dim=-1)
        turned = turned * self._cos[positions][:, None] + other * self._sin[positions][:, None]
        return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


class _Block:
    """The parts of one block, as the modules that the bridge itself runs."""

    def __init__(self, block: Any) -> None:
        parts = dict(block.named_children())
        self.attention = parts.get("attn")
        unknown = set(parts) - {"ln1", "attn", "ln2", "mlp", "_original_component"}
        unknown = {name for name in unknown if not name.startswith("hook_")}
        if self.attention is None or unknown or ("mlp" in parts) != ("ln2" in parts) or "ln1" not in parts:
            raise Unknown(f"a block has the parts {sorted(parts)}")
        self.norm1, self.norm2 = _inner(parts["ln1"]), _inner(parts["ln2"]) if "ln2" in parts else None
        self.mlp = _inner(parts["mlp"]) if "mlp" in parts else None
        self.q, self.k, self.v, self.o = (_inner(getattr(self.attention, name)) for name in "qkvo")
        # Linear keeps (out, in), GPT-2's Conv1D (in, out).
        self.W_O = self.o.weight.T if isinstance(self.o, torch.nn.Linear) else self.o.weight
        original = _inner(self.attention)
        if hasattr(original, "kv_repeats"):  # a native model
            self.scale = 1 / float(original.scale)
        else:
            self.scale = float(getattr(original, "scaling", None) or original.head_dim**-0.5)


def open_model(model: TransformerBridge, batch: Batch) -> Decoder | None:
    """A Decoder of this model if it gives the bridge's own logits on the first of these prompts, else None."""
    if _has_hooks(model):
        return None
    # The first prompt, and the shortest where there is padding: the two that could differ most.
    chosen = sorted({0, int(batch.mask.sum(1).argmin())})
    some = type(batch)(batch.tokens[chosen], batch.mask[chosen], tuple(batch.texts[i] for i in chosen), batch.labels)
    rows = torch.arange(len(chosen), device=batch.tokens.device)
    with torch.no_grad():
        try:
            decoder = Decoder(model)
            trace = decoder.trace(some)
            ours = decoder.logits(trace.pre[-1][rows, some.last])
        except (Unknown, AttributeError, KeyError, TypeError, RuntimeError, ValueError):
            return None
        theirs = model(some.tokens, **some.run_arguments())[rows, some.last]
    # 100 roundings of the largest logit: about 2e-4 in float32.
    limit = 100 * torch.finfo(theirs.dtype).eps * float(theirs.abs().max())
    same = ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= limit
    return decoder if same else None


def _inner(bridge: Any) -> Any:
    original = bridge.original_component
    if original is None:
        raise Unknown(f"{type(bridge).__name__} wraps nothing")
    return original


def _has_hooks(model: TransformerBridge) -> bool:
    """Whether anything is attached that a learner may count on, and that a Decoder would pass by."""
    return any(point._forward_hooks or point._forward_pre_hooks for point in model.hook_dict.values())
