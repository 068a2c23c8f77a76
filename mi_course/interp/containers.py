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


@dataclass(frozen=True)
class Layout:
    """Where things stand in a chain of thought: hint, bits, `=`, written steps, `?`, answer. Positions count from 0."""

    hint: int
    """Position of the hint token."""
    first_bit: int
    n_bits: int
    first_step: int
    n_steps: int
    """Step i is at first_step + i. It says whether the first i + 1 bits hold an even or an odd number of ones."""
    even: tuple[int, ...]
    """The tokens that spell *even*."""
    odd: tuple[int, ...]
    """The tokens that spell *odd*, in the same order: `even[i]` and `odd[i]` are spelled alike."""

    @property
    def bits(self) -> range:
        """Positions of the bits."""
        return range(self.first_bit, self.first_bit + self.n_bits)

    @property
    def steps(self) -> range:
        """Positions of the written steps."""
        return range(self.first_step, self.first_step + self.n_steps)

    @property
    def question(self) -> int:
        """Position of `?`, right after the last step. The answer is predicted here, and would be the next token."""
        return self.first_step + self.n_steps
