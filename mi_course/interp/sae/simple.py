"""A sparse autoencoder trained with plain autograd: short enough to read, and what the fast trainer is tested against.

`train` in training.py minimizes the same losses with hand-written gradients, several times as fast, and knows more
architectures. Here are two: ReLU with an L1 penalty on activations weighted by the norms of the decoder's rows (Bricken
et al. 2023; Conerly et al. 2024), and TopK with unit rows (Gao et al. 2024, without the auxiliary loss).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from mi_course.interp.sae.batches import TensorBatches

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def train_simple(
    x: Float[Tensor, "n d"],
    n_latents: int,
    *,
    k: int | None = None,
    l1: float = 1.0,
    steps: int = 1000,
    batch: int = 1024,
    lr: float = 1e-3,
    decay: int = 0,
    seed: int = 0,
    start: dict[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], list[float]]:
    """Train W_enc [d F], b_enc [F], W_dec [F d] and b_dec [d]; return them, and the loss at each step.

    k: TopK with this many latents per row. None: ReLU with an L1 penalty of coefficient l1.
    decay: steps at the end over which Adam's learning rate falls linearly to near 0.
    seed: of the first weights, unless `start` gives them, and of the order of the rows.
    The loss is the squared error summed over d, plus the penalty; means over the batch, in the units of x squared.
    """
    if start is None:
        rows = normalize(torch.randn(n_latents, x.shape[1], generator=torch.Generator().manual_seed(seed)), dim=1).to(x)
        start = {"W_enc": rows.T, "b_enc": x.new_zeros(n_latents), "W_dec": rows, "b_dec": x.mean(dim=0)}
    weights = {name: tensor.detach().clone().requires_grad_() for name, tensor in start.items()}
    W_dec = weights["W_dec"]
    optimizer = torch.optim.Adam(weights.values(), lr=lr)
    batches = TensorBatches(x, batch, seed)
    losses = []
    for step in range(steps):
        rows = batches.next_batch()
        f = encode(rows, weights, k)
        x_hat = f @ W_dec + weights["b_dec"]
        loss = (rows - x_hat).square().sum(dim=1).mean()
        if k is None:
            loss = loss + l1 * (f * W_dec.norm(dim=1)).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        if k is not None:  # decoder rows keep norm 1: drop the part of the gradient that would change it
            W_dec.grad -= (W_dec.grad * W_dec.detach()).sum(dim=1, keepdim=True) * W_dec.detach()
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (steps - step) / decay if decay else 1.0)
        optimizer.step()
        if k is not None:
            W_dec.data = normalize(W_dec.data, dim=1)
        losses.append(loss.item())
    return {name: tensor.detach() for name, tensor in weights.items()}, losses


def encode(x: Float[Tensor, "batch d"], weights: dict[str, Tensor], k: int | None = None) -> Float[Tensor, "batch F"]:
    """ReLU((x − b_dec) W_enc + b_enc), and of each row only the k largest."""
    pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    if k is None:
        return pre.relu()
    largest = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, largest.indices, largest.values.relu())
