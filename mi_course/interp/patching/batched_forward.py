"""Many patched runs in one pass through the layers.

A patched run equals the unpatched one before the patched layer, and at every position before the patched one. So it
starts at the patch: with the residual stream from that position on, and the unpatched run's keys and values before it.
Runs that start in different layers share one batch: each joins when its layer comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from mi_course.interp.patching.decoder import Decoder, Trace


@dataclass
class PatchedRuns:
    """Patched runs that start at the same column and end at the same one: x holds the residual stream between."""

    start: int
    end: int
    cells: Int[Tensor, " run"]  # which patch
    prompts: Int[Tensor, " run"]  # in which prompt
    x: Float[Tensor, "run pos d_model"]

    def joined(self, other: PatchedRuns) -> PatchedRuns:
        return PatchedRuns(
            self.start,
            self.end,
            torch.cat((self.cells, other.cells)),
            torch.cat((self.prompts, other.prompts)),
            torch.cat((self.x, other.x)),
        )


class Edit(Protocol):
    """Changes to what the heads of patched runs compute, layer by layer."""

    def heads(
        self, layer: int, runs: PatchedRuns, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def z(self, layer: int, runs: PatchedRuns, z: Tensor) -> Tensor: ...


# Given a layer and "pre" or "mid", the runs that start there.
Starts = Callable[[int, str], Iterable[PatchedRuns]]


def run_patched(
    decoder: Decoder,
    base: Trace,
    starts: Starts,
    finals: Float[Tensor, "cell batch d_model"],
    *,
    first_layer: int = 0,
    edit: Edit | None = None,
    after_layer: Callable[[], None] = lambda: None,
) -> None:
    """Run all patched runs to the last layer, and write the residual stream at their last position into `finals`."""
    state: dict[tuple[int, int], PatchedRuns] = {}
    n_layers = decoder.n_layers
    for layer in range(first_layer, n_layers):
        _join(state, starts(layer, "pre"))
        last = layer == n_layers - 1
        if state:
            _attend(decoder, base, layer, list(state.values()), edit, only_last=last)
        new = list(starts(layer, "mid"))
        if last:  # only the last position is read from here on
            for runs in new:
                runs.x = runs.x[:, -1:]
        _join(state, new)
        if state:
            active = list(state.values())
            _unflatten(active, decoder.apply_mlp(layer, _flatten(active)))
        after_layer()
    new = list(starts(n_layers, "pre"))
    for runs in new:
        runs.x = runs.x[:, -1:]
    _join(state, new)
    for runs in state.values():
        finals[runs.cells, runs.prompts] = runs.x[:, -1]


def group_by_span(
    starts: Int[Tensor, " batch"], ends: Int[Tensor, " batch"], kept: Tensor | None = None
) -> Iterator[tuple[int, int, Int[Tensor, " prompt"]]]:
    """(start, end, prompts) for each different pair of a start and an end column. kept: only these prompts."""
    kept = torch.ones_like(starts, dtype=torch.bool) if kept is None else kept
    for start, end in sorted(set(zip(starts[kept].tolist(), ends[kept].tolist(), strict=True))):
        yield start, end, (kept & (starts == start) & (ends == end)).nonzero()[:, 0]


def _attend(
    decoder: Decoder, base: Trace, layer: int, all_runs: list[PatchedRuns], edit: Edit | None, *, only_last: bool
) -> None:
    """Add the attention's output to the residual streams; keep only the last position if no other is read again."""
    flat = _flatten(all_runs)
    positions = torch.cat([base.positions[r.prompts, r.start : r.end].flatten() for r in all_runs])
    flat_q, flat_k, flat_v = decoder.project(layer, flat, positions)
    zs, offset = [], 0
    for runs in all_runs:
        shape = runs.x.shape[:2]
        rows = slice(offset, offset := offset + shape[0] * shape[1])
        q, k, v = (t[rows].unflatten(0, shape) for t in (flat_q, flat_k, flat_v))
        if edit is not None:
            q, k, v = edit.heads(layer, runs, q, k, v)
        if runs.start:
            k = torch.cat((base.k[layer][runs.prompts, : runs.start], k), dim=1)
            v = torch.cat((base.v[layer][runs.prompts, : runs.start], v), dim=1)
        visible = base.visible[runs.prompts, runs.start : runs.end, : runs.end]
        if only_last:
            q, visible, runs.x = q[:, -1:], visible[:, -1:], runs.x[:, -1:]
        z = decoder.attend(layer, q, k, v, visible)
        zs.append((z if edit is None else edit.z(layer, runs, z)).flatten(0, 1))
    _unflatten(all_runs, _flatten(all_runs) + decoder.write(layer, torch.cat(zs)))


def _join(state: dict[tuple[int, int], PatchedRuns], new: Iterable[PatchedRuns]) -> None:
    for runs in new:
        key = (runs.start, runs.end)
        state[key] = state[key].joined(runs) if key in state else runs


def _flatten(all_runs: list[PatchedRuns]) -> Float[Tensor, "token d_model"]:
    return torch.cat([runs.x.flatten(0, 1) for runs in all_runs])


def _unflatten(all_runs: list[PatchedRuns], flat: Float[Tensor, "token d_model"]) -> None:
    """Give each group of runs its rows back, in the order of `_flatten`."""
    offset = 0
    for runs in all_runs:
        shape = runs.x.shape
        runs.x = flat[offset : (offset := offset + shape[0] * shape[1])].unflatten(0, shape[:2])
