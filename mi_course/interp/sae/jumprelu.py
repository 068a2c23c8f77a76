"""JumpReLU: a learned threshold for each latent, with a straight-through gradient (Rajamanoharan et al. 2024b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from mi_course.interp.sae.active_latents import only_where
from mi_course.interp.sae.base import SAE, Active, Losses
from mi_course.interp.sae.relu import add_norm_gradient

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class JumpReluSAE(SAE, architecture="jumprelu"):
    """f = pre where pre > threshold, else 0, with pre = (x − b_dec) W_enc + b_enc; threshold [F] is learned.

    The threshold itself is the parameter, kept at 0 or above, and not its logarithm as in the paper: Adam moves a
    parameter by about lr per step, which is too little for a logarithm in a short run.

    The step has no gradient with respect to the threshold θ; the rectangle kernel K(u) = 1 for |u| < ½ replaces it:
    ∂f/∂θ = −(θ/bandwidth) K((pre − θ)/bandwidth), and −(1/bandwidth) K(…) for the number of active latents.
    """

    start_share = 1.0  # its penalty counts latents and does not pull at activations

    def _add_latent_parameters(self, dtype: torch.dtype) -> None:
        super()._add_latent_parameters(dtype)
        start = self.config.threshold_init
        self.threshold = Parameter(torch.full((self.config.n_latents,), start, dtype=dtype))

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        pre = self.pre_activations(x)
        return pre * (pre > self.threshold)

    def _may_be_active(self, pre: Float[Tensor, "rows F"]) -> Bool[Tensor, "rows F"]:
        return pre > self.threshold - self.config.bandwidth / 2

    def _activate(self, active: Active) -> Tensor:
        return torch.where(active.pre > active.per_latent(self.threshold), active.pre, 0.0)

    def _backward(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        config, threshold = self.config, active.per_latent(self.threshold)
        if config.sparsity == "tanh":
            self._add_tanh(active, f, d_f, step)
        distance = active.pre - threshold
        near = distance.abs() < config.bandwidth / 2
        d_threshold = active.by_latent(torch.where(near, d_f, 0.0)) * (-self.threshold / config.bandwidth)
        if config.sparsity == "step":
            step.sums["near"] = step.sums.get("near", 0) + active.by_latent(near)
        step.sums["d_threshold"] = step.sums.get("d_threshold", 0) + d_threshold
        return only_where(d_f, distance)

    def _add_tanh(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> None:
        """Add the gradient of l0 · Σ tanh(c · f · ‖W_dec‖), or with norm 1 where the decoder is kept unit."""
        coefficient, c = self.config.l0 * step.scale / step.rows, self.config.tanh_scale
        weight = c if step.norms is None else active.per_latent(step.norms * c)
        squashed = (f * weight).tanh_()
        step.sparsity += coefficient * float(squashed.sum())
        slope = squashed.square_().neg_().add_(1).mul_(coefficient)
        if step.norms is not None:
            step.sums["f"] = step.sums.get("f", 0) + active.by_latent(slope * f) * c
        d_f += slope.mul_(weight)

    def _finish(self, step: Losses) -> None:
        config, d_threshold = self.config, step.sums["d_threshold"]
        if config.sparsity == "step":
            excess = step.l0 if config.target_l0 is None else (step.l0 / config.target_l0 - 1) ** 2
            slope = 1.0 if config.target_l0 is None else 2 * (step.l0 / config.target_l0 - 1) / config.target_l0
            step.sparsity = config.l0 * step.scale * excess
            per_entry = config.l0 * step.scale * slope / (config.bandwidth * step.rows)
            d_threshold = d_threshold - step.sums["near"] * per_entry
        elif step.norms is not None:
            add_norm_gradient(self, step.sums["f"], step)
        self.threshold.grad = d_threshold

    @torch.no_grad()
    def after_step(self, step: Losses, late: int = 0) -> None:
        self.threshold.clamp_(min=0.0)

    def _scaled_like_latents(self) -> list[Tensor]:
        return [self.b_enc, self.threshold]

    def _reset_latents(self, dead: Bool[Tensor, " F"]) -> None:
        super()._reset_latents(dead)
        self.threshold[dead] = self.config.threshold_init
