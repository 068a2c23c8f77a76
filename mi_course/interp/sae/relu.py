"""ReLU with an L1 penalty (Bricken et al. 2023; weighted by free decoder norms: Conerly et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mi_course.interp.sae.active_latents import only_where
from mi_course.interp.sae.base import SAE, Losses

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from mi_course.interp.sae.base import PatchGrid


class ReluSAE(SAE):
    """f = ReLU((x − b_dec) W_enc + b_enc); loss: squared error + l1 · Σ_i f_i ‖W_dec,i‖₂, mean over rows."""

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        return self.pre_activations(x).relu()

    def _activate(self, places: PatchGrid) -> Tensor:
        return places.pre.relu()

    def _back(self, places: PatchGrid, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        l1 = self.config.l1 * step.scale
        sums = places.by_latent(f)
        if step.norms is None:
            step.sparsity += l1 * float(sums.sum()) / step.rows
            d_f += l1 / step.rows
        else:
            step.sparsity += l1 * float(sums @ step.norms) / step.rows
            d_f += places.per_latent(step.norms * (l1 / step.rows))
            step.found["f"] = step.found.get("f", 0) + sums
        return only_where(d_f, f)

    def _finish(self, step: Losses) -> None:
        if step.norms is not None:
            add_norm_gradient(self, step.found["f"] * (self.config.l1 * step.scale / step.rows), step)


def add_norm_gradient(sae: SAE, d_norms: Float[Tensor, " F"], step: Losses) -> None:
    """Add to W_dec.grad what a gradient with respect to the decoder's norms comes to; zero rows get none."""
    sae.W_dec.grad.addcmul_(sae.W_dec, (d_norms / step.norms.clamp_min(1e-30))[:, None])
