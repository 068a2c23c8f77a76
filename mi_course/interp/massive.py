"""Massive activations: tokens whose residual stream is several times as long as that of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

MASSIVE = 3.0  # times the median norm


def massive_tokens(norms: Float[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """Where a token's norm is above three times the median of its own row's real tokens.

    Leave BOS out of `real`. A row's verdict depends on no other row, so batching changes nothing.

    >>> massive_tokens(torch.tensor([[9.0, 1.0, 1.0, 4.0]]), torch.tensor([[False, True, True, True]])).tolist()
    [[False, False, False, True]]
    """
    median = norms.masked_fill(~real, torch.nan).nanmedian(dim=1, keepdim=True).values
    return real & (norms > MASSIVE * median)
