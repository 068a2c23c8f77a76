"""Gated: one path decides which latents are active, another how strongly (Rajamanoharan et al. 2024a)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from mi_course.interp.sae.active_latents import only_where
from mi_course.interp.sae.base import SAE, Active, Losses, add_gradient

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class GatedSAE(SAE, architecture="gated"):
    """f = 1[π > 0] · ReLU(u · exp(r_mag) + b_mag), with u = (x − b_dec) W_enc and the gate π = u + b_gate.

    Loss: squared error + l1 · Σ_i ReLU(π_i) + squared error of reconstructing from ReLU(π) alone, with W_dec and b_dec
    detached. The penalty is not weighted by the decoder's norms, so rows are kept at norm 1. W_enc is the gate's
    weight, W_gate in the paper; there is no b_enc.
    """

    def _add_latent_parameters(self, dtype: torch.dtype) -> None:
        for name in ("b_gate", "r_mag", "b_mag"):
            setattr(self, name, Parameter(torch.zeros(self.config.n_latents, dtype=dtype)))

    @property
    def W_gate(self) -> Float[Tensor, "d F"]:
        return self.W_enc

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        gate = self.pre_activations(x)
        return (gate > 0) * self._magnitude(gate, self.b_gate, self.r_mag, self.b_mag)

    @staticmethod
    def _magnitude(gate: Tensor, b_gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
        return ((gate - b_gate) * r_mag.exp() + b_mag).relu()

    def _gate_bias(self) -> Parameter:
        return self.b_gate

    def _activate(self, active: Active) -> Tensor:
        parameters = (active.per_latent(vector) for vector in (self.b_gate, self.r_mag, self.b_mag))
        return only_where(self._magnitude(active.pre, *parameters), active.pre)

    def _step(self, active: Active, x: Tensor, target: Tensor, step: Losses) -> Float[Tensor, "part d_out"]:
        gate = active.pre.relu()
        f = self._activate(active)
        self._count(active, f, step)

        error = active.decode(f, self.W_dec).add_(self.b_dec).sub_(target)
        step.error += float(torch.linalg.vector_norm(error)) ** 2 / step.rows
        step.reconstruction = step.error
        down = error * (2 / step.rows)
        add_gradient(self.W_dec, active.outer(f, down))
        add_gradient(self.b_dec, down.sum(dim=0))
        d_magnitude = only_where(active.dots(down, self.W_dec), f)

        gate_error = active.decode(gate, self.W_dec).add_(self.b_dec).sub_(target)
        step.auxiliary += float(torch.linalg.vector_norm(gate_error)) ** 2 / step.rows
        d_gate = active.dots(gate_error.mul_(2 / step.rows), self.W_dec)
        l1 = self.config.l1 * step.scale
        sums = active.by_latent(gate)
        step.sparsity += l1 * float(sums.sum()) / step.rows
        d_gate = only_where(d_gate.add_(l1 / step.rows), gate)

        add_gradient(self.b_mag, active.by_latent(d_magnitude))
        d_u = d_magnitude.mul_(active.per_latent(self.r_mag.exp()))
        add_gradient(self.r_mag, active.by_latent(d_u * (active.pre - active.per_latent(self.b_gate))))
        step.sums["d_u"] = step.sums.get("d_u", 0) + active.by_latent(d_u)
        d_pre = d_gate.add_(d_u)
        self._add_encoder(active.outer(d_pre, x), active.by_latent(d_pre))
        return error

    def _finish(self, step: Losses) -> None:
        self.b_gate.grad -= step.sums["d_u"]  # u = π − b_gate: the magnitude does not see the gate's bias

    def _scaled_like_latents(self) -> list[Tensor]:
        return [self.b_gate, self.b_mag]

    def _reset_latents(self, dead: Bool[Tensor, " F"]) -> None:
        for parameter in (self.b_gate, self.r_mag, self.b_mag):
            parameter[dead] = 0.0
