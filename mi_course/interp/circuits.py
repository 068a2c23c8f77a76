"""The QK and OV circuits of an attention head, from its weights, and their effects on a real model.

Row vectors throughout: x @ W. A head's OV circuit, W_V W_O, determines what is written when a position is attended to;
its QK circuit, W_Q W_Kᵀ, which positions attend to which (Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits", sections "One-Layer" and "Two-Layer Attention-Only Transformers"). Both leave out biases and rotary
positions, so they are about content only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.heads import all_heads

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Head = tuple[int, int]

# A chunk of rows of W_E W_OV W_U of a 49,152-token vocabulary is then 50 MB.
CHUNK = 256


def ov_circuit(model: TransformerBridge, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
    """W_V W_O of one head: what a residual row vector becomes when the head moves it.

    Where query heads share key/value heads (SmolLM2: 9 share 3), head h reads through number h // (heads per group).
    Raises ValueError if the norm before the head still has weights of its own, which belong to the circuit.
    """
    _require_folded(model, layer)
    block = model.blocks[layer].attn
    return (block.W_V[_key_value_head(block.W_V, model, head)] @ block.W_O[head]).detach()


def qk_circuit(model: TransformerBridge, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
    """W_Q W_Kᵀ of one head: attention score (before scaling) = query row vector · this · key column vector.

    Grouped key/value heads and unfolded norms as in `ov_circuit`.
    """
    _require_folded(model, layer)
    block = model.blocks[layer].attn
    return (block.W_Q[head] @ block.W_K[_key_value_head(block.W_K, model, head)].T).detach()


def copying_scores(
    model: TransformerBridge,
    score: Callable[[Tensor, tuple[Tensor, Tensor], Tensor], float],
    *,
    seed: int | None = None,
) -> Float[Tensor, "layer head"]:
    """A score of W_E W_OV W_U for every head, such as Σ Re λ / Σ |λ| of its eigenvalues (Elhage et al. 2021).

    score: (W_E, (W_V, W_O), W_U) to a number; only the eigenvalues may matter. It is given W_U W_E [d_model, d_model]
    for W_E and the identity for W_U, once for all heads: W_E W_OV W_U and W_OV W_U W_E have the same eigenvalues but
    for zeros. seed: not the heads' own W_OV, but one with the same singular values between random directions.
    """
    with torch.no_grad():
        vocabulary = model.W_U @ model.W_E
        identity = torch.eye(len(vocabulary), device=vocabulary.device)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        scores = torch.zeros(int(model.cfg.n_layers), int(model.cfg.n_heads))
        for layer in range(len(scores)):
            for head in range(scores.shape[1]):
                factors = ov_factors(model, layer, head)
                factors = factors if generator is None else _rotated(factors, generator)
                scores[layer, head] = score(vocabulary, factors, identity)
    return scores


@torch.no_grad()
def copying_in_text(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], *, embeddings: bool = False
) -> Float[Tensor, "layer head"]:
    """Whether a head that attends to a token of this text would raise that token's logit: in standard deviations.

    What the head reads is the normed stream before its layer at each token (without BOS); with `embeddings` the normed
    row of W_E instead, as the weights alone suggest. Its output is read by W_U: logit of the token itself minus the
    mean over the text's other tokens, mean over positions, divided by the standard deviation of all these logits.
    """
    n_layers, eps = int(model.cfg.n_layers), model.cfg.eps
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    _, cache = model.run_with_cache(tokens, names_filter=names, return_type=None)
    own, scores = tokens[:, 1:].flatten(), torch.zeros(n_layers, int(model.cfg.n_heads))
    readers, other = model.W_U[:, own], own[:, None] != own
    for layer in range(n_layers):
        x = model.W_E[own] if embeddings else cache[names[layer]][:, 1:].flatten(0, 1)
        x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        for head in range(scores.shape[1]):
            W_V, W_O = ov_factors(model, layer, head)
            logits = (x @ W_V) @ (W_O @ readers)
            margin = logits.diagonal() - (logits * other).sum(1) / other.sum(1)
            scores[layer, head] = margin.mean() / logits.std()
    return scores


def ov_factors(
    model: TransformerBridge, layer: int, head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """(W_V, W_O) of one head, whose product is `ov_circuit`; grouped heads and unfolded norms as there."""
    _require_folded(model, layer)
    block = model.blocks[layer].attn
    return block.W_V[_key_value_head(block.W_V, model, head)].detach(), block.W_O[head].detach()


def _rotated(factors: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Factors of a matrix with the same singular values, and random singular vectors."""
    W_V, W_O = factors
    # With W_V = Q R and W_O = (Q' R')ᵀ the singular values are those of R R'ᵀ, which is small.
    sizes = torch.linalg.svdvals(torch.linalg.qr(W_V).R @ torch.linalg.qr(W_O.T).R.T)
    into, out = (torch.linalg.qr(torch.randn(W_V.shape, generator=generator)).Q for _ in range(2))
    return into * sizes, out.T


def copying_score(
    W_E: Float[Tensor, "vocab d_model"], W_OV: Float[Tensor, "d_model d_model"], W_U: Float[Tensor, "d_model vocab"]
) -> float:
    """Share of tokens whose own logit is strictly larger than every other in their row of W_E W_OV W_U.

    Near 1 for a head that copies the token it attends to, about 1 / vocab for an arbitrary one. (Elhage et al. 2021
    summarize the same product by its eigenvalues.) The full product has vocab² entries, so it is computed in chunks of
    rows. Meant for small vocabularies: on SmolLM2 even the identity scores 0.16, and its heads about 0.

    >>> copying_score(torch.eye(4), torch.eye(4), torch.eye(4))
    1.0
    >>> copying_score(torch.eye(4), -torch.eye(4), torch.eye(4))
    0.0
    """
    copied = 0
    for start in range(0, W_E.shape[0], CHUNK):
        logits = W_E[start : start + CHUNK] @ W_OV @ W_U
        own = logits.diagonal(offset=start).clone()
        logits.diagonal(offset=start).fill_(-torch.inf)
        copied += int((own > logits.amax(dim=1)).sum())
    return copied / W_E.shape[0]


def composition_score(W_first: Float[Tensor, "a b"], W_second: Float[Tensor, "b c"]) -> float:
    """‖W_first W_second‖_F / (‖W_first‖_F ‖W_second‖_F): how much of what the first writes, the second reads.

    Between 0 and 1; 0 for a zero matrix. Two random d × d matrices score about 1/√d: compare with that. From Elhage et
    al. 2021, section "Two-Layer Attention-Only Transformers".

    >>> composition_score(torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 5.0])))
    0.0
    >>> composition_score(torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([5.0, 0.0])))
    1.0
    """
    norms = float(W_first.norm() * W_second.norm())
    return float((W_first @ W_second).norm()) / norms if norms > 0 else 0.0


def k_composition(model: TransformerBridge, earlier: Head, later: Head) -> float:
    """How much of what the earlier head writes, the keys of the later head read: 0 … 1.

    `composition_score(W_OV of the earlier, W_QK of the later, transposed)`: keys enter W_QK from the right. Raises
    ValueError unless the earlier head is in an earlier layer.
    """
    if earlier[0] >= later[0]:
        raise ValueError(f"{earlier} is not in an earlier layer than {later}: its output never reaches those keys.")
    return composition_score(ov_circuit(model, *earlier), qk_circuit(model, *later).T)


def k_composition_scores(model: TransformerBridge, later: Head) -> Float[Tensor, "layer head"]:
    """`k_composition` of every earlier head into this one; rows are the layers before it.

    Computed with d_head × d_head products only, so all 160 earlier heads of a SmolLM2 head take well under a second.
    """
    layer, head = later
    _require_folded(model, layer)
    attn = model.blocks[layer].attn
    W_Q, W_K = attn.W_Q[head].detach(), attn.W_K[_key_value_head(attn.W_K, model, head)].detach()
    scores = torch.zeros(layer, model.cfg.n_heads)
    for early in range(layer):
        _require_folded(model, early)
        block = model.blocks[early].attn
        for h in range(model.cfg.n_heads):
            W_V, W_O = block.W_V[_key_value_head(block.W_V, model, h)].detach(), block.W_O[h].detach()
            norms = _product_norm(W_V, W_O) * _product_norm(W_K, W_Q.T)
            # W_V (W_O W_K) W_Qᵀ: the inner product is d_head × d_head.
            scores[early, h] = _product_norm(W_V, (W_O @ W_K) @ W_Q.T) / norms if norms > 0 else 0.0
    return scores


def composition_table(
    model: TransformerBridge, reader: Head, part: str, score: Callable[[Tensor, Tensor], float] = composition_score
) -> dict[Head, float]:
    """How each head of an earlier layer composes with the reader's queries, keys or values, by (layer, head).

    part: "q", "k" or "v". Keys enter W_QK from the right, so K-composition takes its transpose. score: your own
    `composition_score`. Raises ValueError for another part.
    """
    if part not in ("q", "k", "v"):
        raise ValueError(f'part is {part!r}, expected "q", "k" or "v".')
    reads = ov_circuit(model, *reader) if part == "v" else qk_circuit(model, *reader)
    reads = reads.T if part == "k" else reads
    earlier = all_heads(reader[0], int(model.cfg.n_heads))
    return {head: score(ov_circuit(model, *head), reads) for head in earlier}


def composition_tables(
    model: TransformerBridge, readers: Sequence[Head], score: Callable[[Tensor, Tensor], float] = composition_score
) -> dict[tuple[Head, str], dict[Head, float]]:
    """`composition_table` of each reader's keys, queries and values, by (reader, part)."""
    return {(reader, part): composition_table(model, reader, part, score) for reader in readers for part in "kqv"}


def random_compositions(
    model: TransformerBridge, score: Callable[[Tensor, Tensor], float] = composition_score, count: int = 20
) -> list[float]:
    """The scores of pairs of random matrices of the same shape and rank as the circuits of the model's heads."""
    generator = torch.Generator().manual_seed(0)
    d_model, d_head = model.cfg.d_model, model.cfg.d_head

    def circuit() -> Tensor:
        wide, narrow = (torch.randn(d_model, d_head, generator=generator) for _ in range(2))
        return wide @ narrow.T

    return [score(circuit(), circuit()) for _ in range(count)]


def direct_copying_effect(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], period: int
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """What each head writes directly to the logit of the token that followed, on repeated tokens.

    At each token of the second copy but its last, the head's output z W_O is read through the final norm (its scale
    frozen at its value in this run) and the unembedding. Only the logits of the sequence's `period` tokens are
    compared, so no product over the vocabulary is needed. Returns
    - effect: logit of the token that followed minus the mean over the sequence's other tokens, mean over queries;
    - share: how often that token has the largest of these logits (chance is about 1 / period).
    This is the direct path only, without effects through later heads. Other tokens equal to the one that followed are
    left out of the comparison. Raises ValueError if the final norm still has weights.
    """
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    final_norm = getattr(model, "ln_final", None)
    if final_norm is not None and _has_own_weights(final_norm):
        raise ValueError(_UNFOLDED.format(where="the final norm"))
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(n_layers)]
    with torch.no_grad():
        # `names_filter` keeps 30 small tensors, not the whole cache.
        last = f"blocks.{n_layers - 1}.hook_resid_post"
        _, cache = model.run_with_cache(tokens, names_filter=[*names, last], return_type=None)
        scale = _norm_scale(model, cache[last])[:, period + 1 : 2 * period]  # batch query 1
        copy = tokens[:, 1 : period + 1]
        W_U = model.W_U.T[copy]  # batch token d_model
        target = torch.arange(1, period, device=tokens.device)  # query period+1+i is followed by token i+1 of the copy
        same = copy[:, None, :] == copy[:, 1:, None]  # batch query token: this token is the one that followed
        effect, share = torch.zeros(n_layers, n_heads), torch.zeros(n_layers, n_heads)
        for layer, name in enumerate(names):
            z = cache[name][:, period + 1 : 2 * period]
            z = z.reshape(*z.shape[:2], n_heads, -1)
            # Unembedding directions go back through W_O first: only d_head × tokens numbers per head.
            readers = torch.einsum("hed,btd->bhet", model.blocks[layer].attn.W_O, W_U)
            logits = torch.einsum("bqhe,bhet->bhqt", z, readers) / scale[:, None]
            own = logits[:, :, torch.arange(period - 1), target]
            others = logits.masked_fill(same[:, None], 0).sum(-1) / (~same).sum(-1)[:, None]
            best = logits.masked_fill(same[:, None], -torch.inf).amax(-1)
            effect[layer], share[layer] = (own - others).mean((0, 2)), (own > best).float().mean((0, 2))
    return effect, share


def total_copying_effect(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], period: int, heads: list[Head]
) -> list[float]:
    """How much of the margin of the token that followed is lost when each head's output is set to zero, in logits.

    The margin at each token of the second copy but its last: the logit of the token that followed minus the mean over
    the sequence's other tokens. Unlike `direct_copying_effect` it includes effects through later layers; it costs one
    forward pass per head. A zero ablation: compare with heads that are not induction heads.
    """
    copy = tokens[:, 1 : period + 1]
    followed = copy[:, 1:]
    same = copy[:, None, :] == followed[:, :, None]  # batch query token

    def margin(heads: list[Head]) -> float:
        def zero(z: Tensor, hook: Any) -> Tensor:
            z = z.clone()
            z[:, :, [head for layer, head in heads if layer == hook.layer()]] = 0.0
            return z

        hooks = [(f"blocks.{layer}.attn.hook_z", zero) for layer, _ in heads]
        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, period + 1 : 2 * period]
        own = logits.gather(-1, followed[:, :, None])[..., 0]
        others = logits.gather(-1, copy[:, None, :].expand_as(same)).masked_fill(same, 0).sum(-1) / (~same).sum(-1)
        return float((own - others).mean())

    clean = margin([])
    return [clean - margin([head]) for head in heads]


_UNFOLDED = (
    "{where} still has weights of its own, which belong to the circuit. Load the model with compatibility=True, or "
    "call model.enable_compatibility_mode(), which folds them into the matrices."
)


def _require_folded(model: TransformerBridge, layer: int) -> None:
    norm = getattr(model.blocks[layer], "ln1", None)
    if norm is not None and _has_own_weights(norm):
        raise ValueError(_UNFOLDED.format(where=f"the norm before layer {layer}'s heads"))


def _has_own_weights(norm: torch.nn.Module) -> bool:
    # Folding leaves the norm's weight in place, filled with ones.
    return any(p.dim() == 1 and n.endswith("weight") and bool((p != 1).any()) for n, p in norm.named_parameters())


def _key_value_head(W: Float[Tensor, "kv_head d_model d_head"], model: TransformerBridge, head: int) -> int:
    # The bridge has one matrix per key/value head or, in some modes, one per query head.
    return head * W.shape[0] // model.cfg.n_heads


def _norm_scale(model: TransformerBridge, residual: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos 1"]:
    """What the final norm divides by; 1 for a model without norms."""
    kind = (model.cfg.normalization_type or "").upper()
    if not kind:
        return torch.ones_like(residual[..., :1])
    if not kind.startswith("RMS"):
        residual = residual - residual.mean(-1, keepdim=True)
    return (residual.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()


def _product_norm(A: Float[Tensor, "a b"], B: Float[Tensor, "b c"]) -> float:
    """‖A B‖_F = √tr((AᵀA)(B Bᵀ)): two b × b products instead of an a × c one."""
    return float(((A.T @ A) * (B @ B.T)).sum().clamp(min=0).sqrt())
