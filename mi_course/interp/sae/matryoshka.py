"""Matryoshka BatchTopK: nested dictionaries, each of which reconstructs on its own (Bussmann et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mi_course.interp.sae.active_latents import SparseActive
from mi_course.interp.sae.base import Active, Losses, add_gradient
from mi_course.interp.sae.batch_topk import BatchTopKSAE

if TYPE_CHECKING:
    from jaxtyping import Float


class MatryoshkaSAE(BatchTopKSAE, architecture="matryoshka"):
    """A BatchTopK SAE whose first latents have to do without the others.

    The loss is the mean over `prefixes` m of ‖Σ_{i<m} f_i W_dec,i + b_dec − x‖², mean over rows; the paper has the sum,
    which is the same up to the learning rate. The batch·k largest are chosen among all latents. What is general cannot
    hide in latents that come late, which makes absorption rarer.
    """

    def _step(self, active: Active, x: Tensor, target: Tensor, step: Losses) -> Float[Tensor, "part d_out"]:
        assert isinstance(active, SparseActive)
        f = self._activate(active)
        self._count(active, f, step)
        tall, order = self._by_prefix(active)
        levels, rows = len(self._prefixes), len(x)
        f = f[order]
        parts = tall.decode(f, self.W_dec).view(levels, rows, -1)
        errors = parts.cumsum(dim=0).add_(self.b_dec).sub_(target)
        step.error += float(torch.linalg.vector_norm(errors[-1])) ** 2 / step.rows
        step.reconstruction += float(torch.linalg.vector_norm(errors)) ** 2 / (levels * step.rows)
        # A latent takes part in its own prefix and in all longer ones.
        down = (errors * (2 / (levels * step.rows))).flip(0).cumsum(dim=0).flip(0)
        add_gradient(self.b_dec, down[0].sum(dim=0))
        down = down.flatten(0, 1)
        d_pre = self._backward(tall, f, tall.dots(down, self.W_dec), step)
        add_gradient(self.W_dec, tall.outer(f, down))
        self._add_encoder(tall.outer(d_pre, x.repeat(levels, 1)), tall.by_latent(d_pre))
        return errors[-1]

    @property
    def _prefixes(self) -> tuple[int, ...]:
        return self.config.prefixes or (self.config.n_latents,)

    def _by_prefix(self, active: SparseActive) -> tuple[SparseActive, Tensor]:
        """The entries with a row for each pair of a level and a row, level by level; and their order in `active`."""
        starts = torch.tensor(self._prefixes[:-1], dtype=active.latents.dtype, device=active.latents.device)
        levels, rows = len(self._prefixes), len(active.offsets) - 1
        level = torch.bucketize(active.latents, starts, right=True)
        place = level * rows + active.rows()
        order = place.argsort(stable=True)
        counts = torch.bincount(place, minlength=levels * rows)
        latents, pre = active.latents[order], active.pre[order]
        return SparseActive.join([(latents, counts, pre)], active.n_latents), order
