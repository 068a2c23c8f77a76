"""BatchTopK: the batch·k largest pre-activations of a whole batch (Bussmann et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mi_course.interp.sae.active_latents import SparseActive, compress
from mi_course.interp.sae.base import SAE, Active, Losses
from mi_course.interp.sae.config import SAEConfig
from mi_course.interp.sae.matmul import blocks, linear

if TYPE_CHECKING:
    from jaxtyping import Float

ROOM = 1.25  # candidates for each of the batch·k largest, so that one pass nearly always suffices
SAMPLE = 2**16  # pre-activations that the floor is estimated from


class BatchTopKSAE(SAE, architecture="batch_topk"):
    """In training, f is pre = (x − b_dec) W_enc + b_enc at the batch·k largest positive entries, and zero elsewhere.

    A row's code would then depend on its neighbors, so `encode` uses a fixed threshold instead: f = pre where
    pre > threshold. It is the mean of the smallest activation kept, over the batches of late training (the config's
    `threshold_from`); at 0, as in an untrained SAE, `encode` is a plain ReLU. A batch with fewer than batch·k positive
    entries says nothing about the threshold, and is passed over.
    """

    start_share = 1.0  # no penalty pulls activations down
    revived_norm = 1.0  # a weaker one would never be among the largest

    def __init__(self, config: SAEConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config, dtype)
        self.register_buffer("threshold", torch.zeros((), dtype=dtype))

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        pre = self.pre_activations(x).relu()
        return pre * (pre > self.threshold)

    def encode_batch(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch F"]:
        """As in training: the batch·k largest of all rows together."""
        pre = self.pre_activations(x)
        values, where = pre.reshape(-1).topk(self.config.k * len(pre), sorted=False)
        return torch.zeros_like(pre).view(-1).scatter(0, where, values.relu()).view_as(pre)

    def _active(self, x: Float[Tensor, "batch d"]) -> Iterator[tuple[Active, slice]]:
        """The batch·k largest, without sorting batch·F numbers.

        Estimates a floor from the first block, keeps what lies above it, and chooses exactly among that. If the floor
        was too high and leaves too few, it takes everything positive instead.
        """
        n_latents, wanted = self.config.n_latents, self.config.k * len(x)
        candidates, floor = self._above(x, None)
        if floor > 0 and sum(len(latents) for latents, *_ in candidates) < wanted:
            candidates, _ = self._above(x, 0.0)
        latents, counts, pre = (torch.cat(tensors) for tensors in zip(*candidates, strict=True))
        if len(pre) > wanted:
            kept = torch.ones(len(pre), dtype=torch.bool, device=pre.device)
            kept[pre.topk(len(pre) - wanted, largest=False, sorted=False).indices] = False
            rows = torch.arange(len(x), device=pre.device).repeat_interleave(counts)[kept]
            latents, counts, pre = latents[kept], torch.bincount(rows, minlength=len(x)), pre[kept]
        yield SparseActive.join([(latents, counts, pre)], n_latents), slice(0, len(x))

    def _above(self, x: Float[Tensor, "batch d"], floor: float | None) -> tuple[list, float]:
        """The entries above a floor in each block, and the floor, estimated if it is None."""
        rows, bias = self.W_enc.t().to(x.dtype), self._folded_bias()
        entries = []
        for part in blocks(x, len(rows)):
            pre = linear(x[part], rows, bias)
            if floor is None:
                floor = self._estimate_floor(pre)
            entries.append(compress(pre > floor, pre))
        return entries, floor

    def _estimate_floor(self, pre: Float[Tensor, "rows F"]) -> float:
        """A value that about ROOM · k numbers of a row exceed, from a sample; at least 0."""
        sample = pre.reshape(-1)[:: max(1, pre.numel() // SAMPLE) | 1]  # an odd stride visits all latents
        k = min(len(sample), math.ceil(ROOM * self.config.k / self.config.n_latents * len(sample)))
        return max(0.0, float(sample.detach().topk(k, sorted=False).values.min()))

    def _activate(self, active: Active) -> Tensor:
        return active.pre

    def _backward(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        full = len(f) == self.config.k * step.rows
        step.sums["smallest"] = float(f.min()) if full else 0.0
        return d_f

    @torch.no_grad()
    def after_step(self, step: Losses, late: int = 0) -> None:
        smallest = step.sums["smallest"]
        if smallest > 0:
            self.threshold += (smallest - self.threshold) / max(1, late)

    def _scaled_like_latents(self) -> list[Tensor]:
        return [self.b_enc, self.threshold]
