"""The functions that learners write in lesson 03, as the course writes them: plain, and short enough to read.

The engine beside this file does the same much faster. z is `hook_z`; an effect is 0 at the corrupted run, 1 at clean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    ScalarMetric = Callable[[Float[Tensor, "batch pos vocab"]], float]


def ioi_prompts(pairs: list[tuple[str, str]], template: str) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Clean prompts, corrupted prompts, and (indirect object, subject) of each clean prompt.

    For each pair (a, b), in turn: A=a, B=b, S=b; then a and b exchanged. In the corrupted prompt S is the indirect
    object.

    >>> ioi_prompts([("Mary", "John")], "{A} and {B}: {S} gave it to")[0]
    ['Mary and John: John gave it to', 'John and Mary: Mary gave it to']
    """
    clean, corrupted, names = [], [], []
    for pair in pairs:
        for a, b in (pair, pair[::-1]):
            clean.append(template.format(A=a, B=b, S=b))
            corrupted.append(template.format(A=a, B=b, S=a))
            names.append((a, b))
    return clean, corrupted, names


def logit_difference(
    logits: Float[Tensor, "batch pos vocab"], answers: Int[Tensor, "batch 2"], last: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Logit of the right answer minus that of the wrong one, at each prompt's last position."""
    rows = torch.arange(len(logits), device=logits.device)
    at_end = logits[rows, last]
    return at_end[rows, answers[:, 0]] - at_end[rows, answers[:, 1]]


def recovery(
    patched: Float[Tensor, " batch"], clean: Float[Tensor, " batch"], corrupted: Float[Tensor, " batch"]
) -> float:
    """mean(patched − corrupted) / mean(clean − corrupted): a ratio of means. ValueError when the denominator is 0."""
    whole = (clean - corrupted).mean().item()
    if whole == 0:
        raise ValueError(
            f"clean and corrupted have the same mean ({clean.mean().item():.4g}): there is no effect to recover."
        )
    return (patched - corrupted).mean().item() / whole


def patch_position(
    resid: Float[Tensor, "batch pos d_model"], hook: Any, source: Float[Tensor, "batch pos d_model"], position: int
) -> Float[Tensor, "batch pos d_model"]:
    """A hook: the residual stream with one position taken from another run."""
    resid = resid.clone()
    resid[:, position] = source[:, position]
    return resid


def patch_head(
    z: Float[Tensor, "batch pos head d_head"], hook: Any, source: Float[Tensor, "batch pos head d_head"], head: int
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook: z with one head taken from another run, at all positions."""
    z = z.clone()
    z[:, :, head] = source[:, :, head]
    return z


def residual_sweep(
    model: TransformerBridge, corrupted_tokens: Int[Tensor, "batch pos"], clean_cache: Any, metric: ScalarMetric
) -> Float[Tensor, "layer pos"]:
    """The metric after patching `hook_resid_pre`, one layer and position at a time."""
    n_layers, n_positions = model.cfg.n_layers, corrupted_tokens.shape[1]
    result = torch.zeros(n_layers, n_positions)
    for layer in range(n_layers):
        name = f"blocks.{layer}.hook_resid_pre"
        for position in range(n_positions):

            def hook(resid: Tensor, hook: Any, name: str = name, position: int = position) -> Tensor:
                return patch_position(resid, hook, clean_cache[name], position)

            result[layer, position] = _run(model, corrupted_tokens, [(name, hook)], metric)
    return result


def head_sweep(
    model: TransformerBridge, corrupted_tokens: Int[Tensor, "batch pos"], clean_cache: Any, metric: ScalarMetric
) -> Float[Tensor, "layer head"]:
    """The metric after patching `hook_z`, one head at a time, at all positions."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    result = torch.zeros(n_layers, n_heads)
    for layer in range(n_layers):
        name = f"blocks.{layer}.attn.hook_z"
        for head in range(n_heads):

            def hook(z: Tensor, hook: Any, name: str = name, head: int = head) -> Tensor:
                return patch_head(z, hook, clean_cache[name], head)

            result[layer, head] = _run(model, corrupted_tokens, [(name, hook)], metric)
    return result


def direct_attribution(
    head_out: Float[Tensor, "layer head batch d_model"],
    scale: Float[Tensor, "batch 1"],
    W_U: Float[Tensor, "d_model vocab"],
    answers: Int[Tensor, "batch 2"],
) -> Float[Tensor, "layer head"]:
    """What each head writes straight to the logit difference, as a mean over the batch.

    head_out: z @ W_O at the last position. scale: what the final norm divides by, frozen; its weights are folded.
    """
    directions = W_U[:, answers[:, 0]] - W_U[:, answers[:, 1]]  # d_model batch
    return torch.einsum("lhbd,db->lhb", head_out / scale, directions).mean(-1)


def attribution_patching(
    clean_z: Float[Tensor, "layer batch pos head d_head"],
    corrupted_z: Float[Tensor, "layer batch pos head d_head"],
    gradient: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, "layer head"]:
    """First-order estimate of patching each head. gradient: of the metric (a batch mean) at the corrupted run."""
    return ((clean_z - corrupted_z) * gradient).sum(dim=(1, 2, 4))


def path_patch_to_logits(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    corrupted_cache: Any,
    clean_cache: Any,
    sender: tuple[int, int],
    metric: ScalarMetric,
) -> float:
    """The metric when only the sender's own contribution to the final residual stream is taken from the clean run.

    tokens: the corrupted ones. Later heads and MLPs stay as in the corrupted run; the final norm is computed anew.
    (Wang et al. 2022 let the MLPs compute anew too.)
    """
    layer, head = sender
    name = f"blocks.{layer}.attn.hook_z"
    change = (clean_cache[name] - corrupted_cache[name])[:, :, head] @ model.blocks[layer].attn.W_O[head]

    def hook(resid: Tensor, hook: Any) -> Tensor:
        return resid + change

    return float(_run(model, tokens, [(f"blocks.{model.cfg.n_layers - 1}.hook_resid_post", hook)], metric))


def mean_ablate(
    z: Float[Tensor, "batch pos head d_head"], hook: Any, mean: Float[Tensor, "pos head d_head"], keep: list[int]
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook: all heads but those in `keep` set to their mean."""
    ablated = mean.expand_as(z).clone()
    ablated[:, :, keep] = z[:, :, keep]
    return ablated


def faithfulness(circuit: float, full: float, empty: float) -> float:
    """(circuit − empty) / (full − empty): 0 for the empty circuit, 1 for the full model; more than 1 is not better.

    Raises ValueError when full = empty.
    """
    if full == empty:
        raise ValueError(
            f"The full model and the empty circuit both score {full:.4g}: there is no effect of which a circuit could "
            "explain a share. Is the metric about what the ablation removes?"
        )
    return (circuit - empty) / (full - empty)


def agreement(exact: Float[Tensor, " n"], estimate: Float[Tensor, " n"]) -> float:
    """Spearman's rank correlation, ties at their average rank. ValueError if one of the two is constant."""
    ranks = [_ranks(values.flatten().double()) for values in (exact, estimate)]
    centered = [r - r.mean() for r in ranks]
    lengths = [float(c.norm()) for c in centered]
    for name, length in zip(("exact", "estimate"), lengths, strict=True):
        if length == 0:
            raise ValueError(f"{name} is constant: its values have no order that could agree with another.")
    return float(centered[0] @ centered[1]) / (lengths[0] * lengths[1])


def _ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    counts = counts.double()
    return (counts.cumsum(0) - (counts - 1) / 2)[inverse]


def _run(model: TransformerBridge, tokens: Tensor, hooks: list[tuple[str, Any]], metric: ScalarMetric) -> float:
    with torch.no_grad():
        return float(metric(model.run_with_hooks(tokens, fwd_hooks=hooks)))
