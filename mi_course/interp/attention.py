"""What lesson 01 measures about attention: scores by distance, heads that share keys, and the sink at BOS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge


def rotate(
    model: TransformerBridge, x: Float[Tensor, "*any d_head"], positions: Float[Tensor, "*any"]
) -> Float[Tensor, "*any d_head"]:
    """Queries or keys turned by their positions, as the model does it (Su et al. 2021, RoPE).

    Coordinates i and i + d_head / 2 are a pair, which is turned by position times frequency i. Lengths stay, and the
    product of a turned query and a turned key depends on their contents and on the distance alone.
    """
    frequencies = model.rotary_emb.original_component.inv_freq
    angle = torch.as_tensor(positions, dtype=x.dtype)[..., None] * frequencies
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], dim=-1)


def scores_by_distance(
    model: TransformerBridge,
    q: Float[Tensor, "*pair d_head"],
    k: Float[Tensor, "*pair d_head"],
    distances: Int[Tensor, " distance"],
) -> Float[Tensor, "*pair distance"]:
    """The attention score of each pair of contents at each distance, before the softmax.

    q, k: one head's query and key before the rotation (`hook_q`, `hook_k`). Moving both changes nothing, so the query
    is left at 0 and the key is put `distance` before it.
    """
    turned = rotate(model, k[..., None, :].expand(*k.shape[:-1], len(distances), -1), -distances)
    return (q[..., None, :] * turned).sum(-1) / q.shape[-1] ** 0.5


@torch.no_grad()
def content_scores(
    model: TransformerBridge, tokens: Int[Tensor, "1 pos"], distances: Int[Tensor, " distance"]
) -> Float[Tensor, "layer head distance"]:
    """`scores_by_distance` of every head, as the mean over all pairs of this text's tokens without BOS."""
    names = ("attn.hook_q", "attn.hook_k")
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith(names), return_type=None)
    n_heads, rows = int(model.cfg.n_heads), []
    for layer in range(int(model.cfg.n_layers)):
        q, k = cache["q", layer][0, 1:].mean(0), cache["k", layer][0, 1:].mean(0)
        # A score is linear in the query and in the key: the mean over all pairs is the score of the means.
        rows.append(scores_by_distance(model, q, k.repeat_interleave(n_heads // len(k), dim=0), distances))
    return torch.stack(rows)


@torch.no_grad()
def all_patterns(model: TransformerBridge, tokens: Int[Tensor, "1 pos"]) -> Float[Tensor, "layer head query key"]:
    """Every head's attention on one text."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"), return_type=None)
    return torch.stack([cache["pattern", layer][0] for layer in range(int(model.cfg.n_layers))])


@torch.no_grad()
def value_lengths(model: TransformerBridge, tokens: Int[Tensor, "1 pos"]) -> Float[Tensor, "layer pos"]:
    """Mean length of the values at each position, over a layer's key/value heads."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("attn.hook_v"), return_type=None)
    return torch.stack([cache["v", layer][0].norm(dim=-1).mean(-1) for layer in range(int(model.cfg.n_layers))])


def likeness(
    patterns: Float[Tensor, "layer head query key"], group: int
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
    """Correlation of the patterns of two heads of a layer, without attention to BOS: pairs that share keys, and others.

    group: how many query heads share a key/value head.
    """
    heads = patterns[:, :, 2:, 1:].flatten(2)
    heads = heads - heads.mean(-1, keepdim=True)
    heads = heads / heads.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    table = heads @ heads.mT
    i, j = torch.tril_indices(table.shape[1], table.shape[1], offset=-1)
    shared = i // group == j // group
    return table[:, i[shared], j[shared]].flatten(), table[:, i[~shared], j[~shared]].flatten()
