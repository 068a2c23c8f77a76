"""Dense products for training, by the fastest kernel that this machine has.

PyTorch multiplies float32 matrices on a CPU with MKL, which takes a slow path on AMD processors. oneDNN, which every
x86 build of PyTorch contains too, does not: on a Zen 5 core, (4096, 512) @ (512, 4096) takes 158 ms with MKL and 70 ms
with oneDNN in blocks that stay in the cache. PyTorch exposes that kernel only as the private operator
`mkldnn._linear_pointwise`. The targets of `tests/benchmarks/sae.py` need it, so it is used where it exists, and
`torch.nn.functional.linear` elsewhere. The choice depends only on the machine and the dtype, never on a measurement, so
that a run repeats bit for bit.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

BLOCK_BYTES = 8 * 2**20  # a block of pre-activations: stays in the cache, and malloc hands it out again without faults
BLOCK_BYTES_GPU = 2**30  # elsewhere few large products are best, and a block costs the host a wait


@cache
def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and "AVX512" in torch.backends.cpu.get_cpu_capability()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def linear(
    x: Float[Tensor, "batch d"], rows: Float[Tensor, "F d"], bias: Float[Tensor, " F"] | None = None
) -> Float[Tensor, "batch F"]:
    """x @ rowsᵀ + bias, without autograd. With x in bfloat16 the product is in bfloat16.

    The result has the dtype of the bias, or of rows without one. Rows that are used several times are converted to that
    of x before.
    """
    result = rows.dtype if bias is None else bias.dtype
    if x.dtype != result:
        product = torch.nn.functional.linear(x, rows.to(x.dtype)).to(result)
        return product if bias is None else product.add_(bias)
    if x.dtype == torch.float32 and x.device.type == "cpu" and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, rows, bias, "none", [], "")
    return torch.nn.functional.linear(x, rows, bias)


def blocks(x: Float[Tensor, "batch d"], width: int) -> list[slice]:
    """Consecutive slices of x's rows, such that float32 numbers in `width` columns fit into a block of this device.

    >>> blocks(torch.zeros(5, 3), 2**20)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    largest = BLOCK_BYTES if x.device.type == "cpu" else BLOCK_BYTES_GPU
    size = max(1, largest // (width * max(4, x.element_size())))
    return [slice(start, min(start + size, len(x))) for start in range(0, len(x), size)]
