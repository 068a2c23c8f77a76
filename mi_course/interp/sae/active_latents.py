"""Dense and CSR views of active latents, with the four products of a training step.

`DenseActive` has all rows times all latents. `SparseActive` is a list of (row, latent) entries, the only ones at which
a value or its gradient can differ from zero: with k of F latents active, the four products cost k/F of the dense ones,
at a few times the price per number. Where a device has no sparse kernels (MPS), SparseActive multiplies densely.
An architecture is written once, for both: `pre` is [batch F] in one and [entries]
in the other, `per_latent(v)` is a vector over latents at each entry, and `by_latent` sums over the rows.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from mi_course.interp.sae.matmul import linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

SPARSE_BELOW = 0.08  # share of active entries up to which sparse products are faster: at 512 to 4096, on two CPUs
SPARSE_BELOW_GPU = 0.005  # on an H200 dense ones are 1.2 to 2.4 times as fast with 2 % active, 2 to 6 times with 7 %


class DenseActive:
    """Every latent in every row. dtype: the one in which its products are computed; by default that of `pre`."""

    def __init__(self, pre: Float[Tensor, "batch F"], dtype: torch.dtype | None = None) -> None:
        self.pre, self.dtype = pre, dtype or pre.dtype

    def per_latent(self, vector: Float[Tensor, " F"]) -> Float[Tensor, " F"]:
        return vector

    def by_latent(self, values: Float[Tensor, "batch F"]) -> Float[Tensor, " F"]:
        """Sum over rows."""
        return values.sum(dim=0, dtype=self.pre.dtype)

    def decode(self, values: Float[Tensor, "batch F"], W_dec: Float[Tensor, "F d"]) -> Float[Tensor, "batch d"]:
        """Σ_i values_i · W_dec_i for each row."""
        return linear(values.to(self.dtype), W_dec.t())

    def dots(self, y: Float[Tensor, "batch d"], W_dec: Float[Tensor, "F d"]) -> Float[Tensor, "batch F"]:
        """y_b · W_dec_i at each entry (b, i)."""
        return linear(y.to(self.dtype), W_dec)

    def outer(self, values: Float[Tensor, "batch F"], y: Float[Tensor, "batch d"]) -> Float[Tensor, "F d"]:
        """Σ_b values_b,i · y_b for each latent i."""
        return linear(values.t().to(self.dtype), y.t().to(self.dtype)).to(self.pre.dtype)


class SparseActive:
    """Some latents in each row: row b has the entries offsets[b] to offsets[b + 1]."""

    def __init__(
        self,
        latents: Int[Tensor, " entries"],
        offsets: Int[Tensor, " batch+1"],
        pre: Float[Tensor, " entries"],
        n_latents: int,
    ) -> None:
        """latents and offsets: int32 or int64, of one type."""
        self.latents, self.offsets, self.pre, self.n_latents = latents, offsets, pre, n_latents
        self._by_latent: tuple[Tensor, Tensor, Tensor] | None = None

    @classmethod
    def fixed(cls, latents: Int[Tensor, "batch k"], pre: Float[Tensor, "batch k"], n_latents: int) -> SparseActive:
        """The same number of entries in each row."""
        rows, k = latents.shape
        offsets = torch.arange(0, rows * k + 1, k, dtype=torch.int32, device=latents.device)
        return cls(latents.reshape(-1).to(torch.int32), offsets, pre.reshape(-1), n_latents)

    @classmethod
    def join(cls, parts: list[tuple[Tensor, Tensor, Tensor]], n_latents: int) -> SparseActive:
        """From consecutive blocks of rows: (latents, entries per row, pre) of each."""
        counts = torch.cat([counts for _, counts, _ in parts])
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int32, device=counts.device)
        torch.cumsum(counts, 0, dtype=torch.int32, out=offsets[1:])
        return cls(
            torch.cat([latents for latents, _, _ in parts]), offsets, torch.cat([pre for *_, pre in parts]), n_latents
        )

    def per_latent(self, vector: Float[Tensor, " F"]) -> Float[Tensor, " entries"]:
        return vector[self.latents]

    def by_latent(self, values: Float[Tensor, " entries"]) -> Float[Tensor, " F"]:
        if not values.is_floating_point():
            values = values.to(self.pre.dtype)
        # Without entries, bincount returns integers.
        return torch.bincount(self.latents, weights=values, minlength=self.n_latents).to(values.dtype)

    def decode(self, values: Float[Tensor, " entries"], W_dec: Float[Tensor, "F d"]) -> Float[Tensor, "batch d"]:
        if not _has_sparse(values):
            return linear(self._dense(values), W_dec.t())
        return F.embedding_bag(self.latents, W_dec, self.offsets[:-1], mode="sum", per_sample_weights=values)

    def dots(self, y: Float[Tensor, "batch d"], W_dec: Float[Tensor, "F d"]) -> Float[Tensor, " entries"]:
        if not _has_sparse(y):
            return linear(y, W_dec)[self.rows(), self.latents]
        with warnings.catch_warnings():  # "Sparse CSR tensor support is in beta state"
            warnings.simplefilter("ignore", UserWarning)
            pattern = torch.sparse_csr_tensor(
                self.offsets,
                self.latents,
                torch.zeros_like(self.pre),
                (len(y), self.n_latents),
                check_invariants=False,
            )
        return torch.sparse.sampled_addmm(pattern, y, W_dec.t(), beta=0.0).values()

    def outer(self, values: Float[Tensor, " entries"], y: Float[Tensor, "batch d"]) -> Float[Tensor, "F d"]:
        y = y.to(values.dtype)
        if not _has_sparse(y):
            return linear(self._dense(values).t(), y.t())
        order, rows, offsets = self._by_latent_order()
        return F.embedding_bag(rows, y, offsets, mode="sum", per_sample_weights=values[order])

    def _by_latent_order(self) -> tuple[Tensor, Tensor, Tensor]:
        """Entries sorted by latent: their order, the row of each, and where each latent's begin."""
        if self._by_latent is None:
            small = torch.int16 if self.n_latents < 2**15 else torch.int32  # fewer passes of a radix sort
            order = self.latents.to(small).sort(stable=True).indices
            rows = self.rows()[order]
            counts = torch.bincount(self.latents, minlength=self.n_latents)
            self._by_latent = order, rows, (counts.cumsum(0) - counts).to(torch.int32)
        return self._by_latent

    def rows(self) -> Int[Tensor, " entries"]:
        """The row of each entry."""
        index = torch.arange(len(self.offsets) - 1, dtype=torch.int32, device=self.latents.device)
        return index.repeat_interleave(self.offsets.diff(), output_size=len(self.latents))

    def _dense(self, values: Float[Tensor, " entries"]) -> Float[Tensor, "batch F"]:
        """The entries' values, and zero elsewhere."""
        dense = values.new_zeros(len(self.offsets) - 1, self.n_latents)
        dense[self.rows(), self.latents] = values
        return dense


def sparse_below(device: torch.device) -> float:
    """The share of active entries up to which sparse products are faster on this device."""
    return SPARSE_BELOW if device.type == "cpu" else SPARSE_BELOW_GPU


def _has_sparse(values: Tensor) -> bool:
    """Whether the device has `embedding_bag` and `sampled_addmm`. Apple's MPS lacks the latter."""
    return values.device.type != "mps"


def compress(mask: Bool[Tensor, "rows F"], pre: Float[Tensor, "rows F"]) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of one block at which mask is true: (latents, entries per row, pre)."""
    where = _true(mask)
    rows = where.div(mask.shape[1], rounding_mode="floor")
    counts = torch.bincount(rows, minlength=len(mask))
    return (where - rows * mask.shape[1]).to(torch.int32), counts, pre.reshape(-1)[where]


def _true(mask: Bool[Tensor, "rows F"]) -> Int[Tensor, " entries"]:
    """Where the flattened mask is true. If few are, eight at a time are looked at first: two to three times as fast."""
    if mask.device.type != "cpu" or mask.numel() % 8 or int(mask.count_nonzero()) > mask.numel() / 50:
        return mask.reshape(-1).nonzero()[:, 0]
    eights = mask.reshape(-1, 8)
    some = eights.view(torch.int64)[:, 0].nonzero()[:, 0]
    which, within = eights[some].nonzero(as_tuple=True)
    return some[which] * 8 + within


def only_where(gradient: Tensor, f: Tensor) -> Tensor:
    """The gradient where f > 0, else 0: ReLU's, in one pass over memory (a product with a mask takes three)."""
    return torch.ops.aten.threshold_backward(gradient, f, 0)
