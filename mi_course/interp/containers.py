"""Small containers that exercises are given, without training or loading code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class SparseCode:
    """A ReLU sparse autoencoder: f = ReLU((x − b_dec) W_enc + b_enc), x_hat = f W_dec + b_dec. F latents, d inputs."""

    W_enc: Float[Tensor, "d F"]
    b_enc: Float[Tensor, " F"]
    W_dec: Float[Tensor, "F d"]
    b_dec: Float[Tensor, " d"]

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        return ((x - self.b_dec) @ self.W_enc + self.b_enc).relu()

    def decode(self, f: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch d"]:
        return f @ self.W_dec + self.b_dec
