"""TopK: the k largest pre-activations of each row (Gao et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mi_course.interp.sae.active_latents import SparseActive, only_where
from mi_course.interp.sae.base import SAE, Active, Losses
from mi_course.interp.sae.matmul import blocks, linear

if TYPE_CHECKING:
    from jaxtyping import Float, Int

GROUP = 16  # pre-activations that the first pass represents by their maximum


class TopKSAE(SAE, architecture="topk"):
    """f: the k largest of (x − b_dec) W_enc + b_enc in each row where they are positive, the rest zero."""

    start_share = 1.0  # no penalty pulls activations down
    revived_norm = 1.0  # a weaker one would never be among the largest

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        pre = self.pre_activations(x)
        values, latents = pre.topk(self.config.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, latents, values.relu())

    def _active(self, x: Float[Tensor, "batch d"]) -> Iterator[tuple[Active, slice]]:
        rows, bias = self.W_enc.t().to(x.dtype), self._folded_bias()
        parts = [largest(linear(x[part], rows, bias), self.config.k) for part in blocks(x, len(rows))]
        values, latents = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        yield SparseActive.fixed(latents, values, len(rows)), slice(0, len(x))

    def _activate(self, active: Active) -> Tensor:
        return active.pre.relu()

    def _backward(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        return only_where(d_f, f)


def largest(pre: Float[Tensor, "rows F"], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The k largest of each row and their indices: `torch.topk`, and faster where k is small.

    The k largest lie in the k groups with the largest maxima: the maximum of any other group has k larger ones.
    """
    rows, width = pre.shape
    if width % GROUP or 4 * k * GROUP > width:
        return pre.topk(k, sorted=False)
    n_groups = width // GROUP
    grouped = pre.view(rows, GROUP, n_groups)  # members are n_groups apart, so that the maxima vectorize
    groups = grouped.amax(dim=1).topk(k, sorted=False).indices
    members = grouped.gather(2, groups[:, None, :].expand(-1, GROUP, -1)).view(rows, GROUP * k)
    values, which = members.topk(k, sorted=False)
    return values, which.div(k, rounding_mode="floor") * n_groups + groups.gather(1, which % k)
