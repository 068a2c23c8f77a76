"""The logit lens and the tuned lens: text to fit and judge them on, how well they predict, and their table of words.

The logit lens (nostalgebraist 2020) reads the residual stream of every layer with the final norm and the unembedding.
The tuned lens (Belrose et al. 2023) first carries it to the last layer by an affine map, one for each layer. Streams
are counted from the embedding: stream 0 enters layer 0, stream l + 1 leaves layer l.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mi_course.interp.massive import massive_tokens
from mi_course.interp.models.where import data_dir

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

BATCH = 8


def sampled_text(first: int, rows: int, length: int) -> Int[Tensor, "row pos"]:
    """Text that SmolLM2 wrote (`data/smollm2-sampled.safetensors`): rows from `first` on, BOS and `length` tokens each.

    The file's rows are taken in an order of our own, which mixes its openings; the same numbers give the same rows.
    Raises ValueError where there are not as many rows or tokens.
    """
    from safetensors.torch import load_file

    (tokens,) = load_file(data_dir() / "smollm2-sampled.safetensors").values()
    if first + rows > len(tokens) or length + 1 > tokens.shape[1]:
        raise ValueError(f"There are {len(tokens)} rows of BOS and {tokens.shape[1] - 1} tokens.")
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    return tokens.long()[order[first : first + rows], : length + 1]


@dataclass(frozen=True)
class Streams:
    """The residual streams of many tokens, without BOS and without massive activations."""

    resid: Float[Tensor, "1+layer token d_model"]
    tokens: Int[Tensor, " token"]


@torch.no_grad()
def read_streams(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Streams:
    """All streams at every position but BOS. Tokens whose stream is massive in the middle layer are left out."""
    n_layers = int(model.cfg.n_layers)
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(n_layers))]
    parts, kept = [], []
    for rows in tokens.split(BATCH):
        _, cache = model.run_with_cache(rows, names_filter=names, return_type=None)
        resid = torch.stack([cache[name] for name in names])
        real = torch.ones_like(rows, dtype=torch.bool)
        real[:, 0] = False
        usual = real & ~massive_tokens(resid[n_layers // 2].norm(dim=-1), real)
        parts.append(resid[:, usual])
        kept.append(rows[usual])
    return Streams(torch.cat(parts, dim=1), torch.cat(kept))


@torch.no_grad()
def lens_quality(
    streams: Streams, read: Callable[[int, Float[Tensor, "token d_model"]], Float[Tensor, "token vocab"]]
) -> tuple[Float[Tensor, " 1+layer"], Float[Tensor, " 1+layer"]]:
    """How well each layer's reading predicts what the model says in the end: (cross-entropy, bias), in nats.

    read: (stream's number, stream) to log-probabilities; the last stream's reading is the model's own.
    Cross-entropy: of the model's own distribution with the reading, mean over tokens; at the last stream the model's
    own entropy. Bias: KL divergence from the model's marginal distribution, the mean over all tokens, to the reading's
    (Belrose et al. 2023, section 3.1).
    """
    last = len(streams.resid) - 1
    final = read(last, streams.resid[last]).exp()
    marginal = final.mean(0)
    losses, biases = [], []
    for number, resid in enumerate(streams.resid):
        log_probs = read(number, resid)
        losses.append(-(final * log_probs).sum(-1).mean())
        mean = log_probs.exp_().mean(0)
        biases.append((marginal * (marginal.clamp(min=1e-30).log() - mean.clamp(min=1e-30).log())).sum())
    return torch.stack(losses), torch.stack(biases)


def top_words(
    model: TransformerBridge, log_probs: Float[Tensor, "layer pos vocab"], k: int = 5
) -> tuple[Float[Tensor, "layer pos"], list[list[str]], list[list[str]]]:
    """What `show.heatmap` needs for a lens: probability of each top token, the token, and the k likeliest for hover."""
    best = log_probs.topk(k, dim=-1)
    chance = best.values.exp()
    words = [[[model.tokenizer.decode(token) for token in ids] for ids in row] for row in best.indices]
    hover = [
        [
            "\n".join(f"{word!r} {float(p):.2f}" for word, p in zip(cell, chance[layer, pos], strict=True))
            for pos, cell in enumerate(row)
        ]
        for layer, row in enumerate(words)
    ]
    return chance[..., 0], [[cell[0] for cell in row] for row in words], hover
