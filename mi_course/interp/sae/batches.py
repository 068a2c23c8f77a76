"""Sources of a trainer's activations: their protocol, and the source for a tensor in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


@runtime_checkable
class Batches(Protocol):
    """An endless source of batches of activations that can save and restore its position.

    A batch is x [batch d], or a pair (x, target) for a transcoder. The state is a dict of plain values, lists, dicts
    and tensors; after `load_state_dict(state)` the next batches are those that followed `state_dict()`.
    """

    def next_batch(
        self,
    ) -> Float[Tensor, "batch d"] | tuple[Float[Tensor, "batch d"], Float[Tensor, "batch d_out"]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TensorBatches:
    """Batches of a tensor in memory, in a new random order on each pass. Rows that do not fill a batch skip the pass.

    ValueError for a tensor that is not floats (n, d), a target of another length, or fewer rows than a batch.

    >>> batches = TensorBatches(torch.arange(10.0)[:, None], batch=4, seed=0)
    >>> [tuple(batches.next_batch().shape) for _ in range(3)]
    [(4, 1), (4, 1), (4, 1)]
    >>> batches.state_dict()
    {'position': 4, 'pass': 1}
    """

    def __init__(
        self, x: Float[Tensor, "n d"], batch: int, seed: int, target: Float[Tensor, "n d_out"] | None = None
    ) -> None:
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"The activations are {x.dtype} of shape {tuple(x.shape)}; expected floats, (n, d).")
        if target is not None and (target.ndim != 2 or len(target) != len(x)):
            raise ValueError(
                f"The target has shape {tuple(target.shape)}; expected ({len(x)}, d_out), a row for each of x."
            )
        if len(x) < batch:
            raise ValueError(f"There are {len(x)} activations, fewer than a batch of {batch}. Give a smaller `batch`.")
        self.x, self.target, self.batch, self.seed = x.detach(), target, batch, seed
        self.load_state_dict({"position": 0, "pass": 0})

    def next_batch(self) -> Tensor | tuple[Tensor, Tensor]:
        if self._position + self.batch > len(self.x):
            self.load_state_dict({"position": 0, "pass": self._pass + 1})
        rows = self._order[self._position : self._position + self.batch]
        self._position += self.batch
        return self.x[rows] if self.target is None else (self.x[rows], self.target[rows])

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position, "pass": self._pass}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position, self._pass = state["position"], state["pass"]
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self._pass)
        self._order = torch.randperm(len(self.x), generator=generator).to(self.x.device)
