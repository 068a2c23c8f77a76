"""ReLU with an L1 penalty (Bricken et al. 2023; weighted by free decoder norms: Conerly et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mi_course.interp.sae.active_latents import only_where
from mi_course.interp.sae.base import SAE, Active, Losses

if TYPE_CHECKING:
    from jaxtyping import Float


class ReluSAE(SAE, architecture="relu"):
    """f = ReLU((x − b_dec) W_enc + b_enc); loss: squared error + l1 · Σ_i f_i ‖W_dec,i‖₂, mean over rows."""

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        return self.pre_activations(x).relu()

    def _activate(self, active: Active) -> Tensor:
        return active.pre.relu()

    def _backward(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        l1 = self.config.l1 * step.scale
        sums = active.by_latent(f)
        if step.norms is None:
            step.sparsity += l1 * float(sums.sum()) / step.rows
            d_f += l1 / step.rows
        else:
            step.sparsity += l1 * float(sums @ step.norms) / step.rows
            d_f += active.per_latent(step.norms * (l1 / step.rows))
            step.sums["f"] = step.sums.get("f", 0) + sums
        return only_where(d_f, f)

    def _finish(self, step: Losses) -> None:
        if step.norms is not None:
            add_norm_gradient(self, step.sums["f"] * (self.config.l1 * step.scale / step.rows), step)


def add_norm_gradient(sae: SAE, d_norms: Float[Tensor, " F"], step: Losses) -> None:
    """Add the gradient with respect to the norms of the decoder's rows to W_dec.grad; zero rows get none."""
    sae.W_dec.grad.addcmul_(sae.W_dec, (d_norms / step.norms.clamp_min(1e-30))[:, None])
