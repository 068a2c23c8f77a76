"""The grid of (layer, position, head) cells that a sweep patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mi_course.interp.patching.batched_forward import PatchedRuns, group_by_span, run_patched

if TYPE_CHECKING:
    from jaxtyping import Float

    from mi_course.interp.patching.decoder import Decoder, Trace
    from mi_course.interp.patching.pairs import Pair

RUN_BYTES = 2**28  # of activations that patched runs may hold at a time


class PatchGrid:
    """All cells of a sweep, on a few prompts. Cells are numbered by layer, then position, then head."""

    def __init__(
        self,
        decoder: Decoder,
        pair: Pair,
        direction: str,
        activation: str,
        layers: list[int],
        positions: int | None,
        heads: int | None,
    ) -> None:
        """positions, heads: how many are swept; None patches all of them at once."""
        base, source = pair.base_and_source(direction)
        self.decoder, self.activation, self.layers = decoder, activation, layers
        self.positions, self.heads = positions, heads
        self.base, self.source = decoder.trace(base), decoder.trace(source)
        self.first, self.last = pair.first, base.last
        self.cells_per_layer = (positions or 1) * (heads or 1)

    @staticmethod
    def max_runs(decoder: Decoder, pair: Pair) -> int:
        """How many patched runs fit into RUN_BYTES, at the length of the longest of them."""
        columns = int((pair.clean.last - pair.first).max()) + 1
        keys = 2 * pair.clean.tokens.shape[1] * decoder.n_kv_heads * decoder.d_head
        size = next(decoder.model.parameters()).element_size()
        return max(1, RUN_BYTES // ((columns * decoder.floats_per_token + keys) * size))

    def run(self, cells: range, progress: Callable[[float], None]) -> Float[Tensor, "cell batch d_model"]:
        """The final residual stream at the last position of these cells' runs.

        progress: called with the share of the work that was done since the last call.
        """
        rows = torch.arange(len(self.last), device=self.last.device)
        finals = self.base.pre[-1][rows, self.last].expand(len(cells), -1, -1).clone()
        first = self.layers[cells.start // self.cells_per_layer]
        steps = self.decoder.n_layers - first

        def starts(layer: int, stage: str) -> Iterator[PatchedRuns]:
            # What is written at the end of a layer starts before the next one.
            ends_layer = self.activation in ("resid_post", "mlp_out")
            wanted = "pre" if self.activation == "resid_pre" or ends_layer else "mid"
            layer = layer - 1 if ends_layer else layer
            if stage != wanted or layer not in self.layers:
                return
            begin = self.layers.index(layer) * self.cells_per_layer
            low, high = max(cells.start, begin), min(cells.stop, begin + self.cells_per_layer)
            if low < high:
                for runs in self._starts(layer, range(low - begin, high - begin)):
                    runs.cells += begin - cells.start
                    yield runs

        run_patched(self.decoder, self.base, starts, finals, first_layer=first, after_layer=lambda: progress(1 / steps))
        return finals

    def _starts(self, layer: int, cells: range) -> Iterator[PatchedRuns]:
        """The runs of these cells of one layer, numbered within the layer."""
        per_position = self.heads or 1
        for p in range(cells.start // per_position, (cells.stop - 1) // per_position + 1):
            offset = p * per_position
            heads = slice(max(cells.start - offset, 0), min(cells.stop - offset, per_position))
            position = None if self.positions is None else p
            if position is None:
                begins, changed = self.first, None
            else:
                # A patch before the prompt's first difference, or in its padding, changes nothing.
                begins, changed = torch.full_like(self.first, p), (self.first <= p) & (p <= self.last)
            for start, end, prompts in group_by_span(begins, self.last + 1, changed):
                x = self._patched(layer, prompts, start, end, position, heads)
                numbers = torch.arange(offset + heads.start, offset + heads.stop, device=prompts.device)
                yield PatchedRuns(
                    start,
                    end,
                    numbers.repeat_interleave(len(prompts)),
                    prompts.repeat(len(numbers)),
                    x.flatten(0, 1),
                )

    def _patched(
        self, layer: int, prompts: Tensor, start: int, end: int, position: int | None, heads: slice
    ) -> Float[Tensor, "head prompt pos d_model"]:
        """The residual stream from the patched position on, right after the patch; one row if heads are not swept."""
        base, source, kind = self.base, self.source, self.activation
        if self.heads is None:
            stream = {"resid_pre": "pre", "resid_post": "post", "mlp_out": "post"}.get(kind, "mid")
            old, new = _stream(base, stream, layer), _stream(source, stream, layer)
            if kind in ("attn_out", "mlp_out"):
                before = "pre" if kind == "attn_out" else "mid"
                old, new = old - _stream(base, before, layer), new - _stream(source, before, layer)
            x = _stream(base, stream, layer)[prompts, start:end].clone()
            if kind in ("attn_out", "mlp_out"):
                x[:, 0] += new[prompts, start] - old[prompts, start]
            else:
                x[:, 0] = new[prompts, start]
            return x[None]
        z = base.z[layer][prompts, start:end]
        change = self._changed_z(layer, prompts, start, end, position) - z
        if position is not None and kind not in ("k", "v"):
            change[:, 1:] = 0  # only the patched position's own output changes in this layer
        writes = self.decoder.head_writes(layer, change)  # prompt pos head d_model
        if kind in ("k", "v"):
            writes = writes.unflatten(2, (self.heads, -1)).sum(3)
        return base.mid[layer][prompts, start:end] + writes[:, :, heads].permute(2, 0, 1, 3)

    def _changed_z(
        self, layer: int, prompts: Tensor, start: int, end: int, position: int | None
    ) -> Float[Tensor, "prompt pos head d_head"]:
        """Every head's output if its own part (and no other's) were taken from the source run."""
        base, source, kind = self.base, self.source, self.activation
        if kind == "z":
            return source.z[layer][prompts, start:end].clone()
        q, k, v = (getattr(base, name)[layer][prompts, :end] for name in "qkv")
        visible = base.visible[prompts, start:end, :end]
        if kind == "pattern":
            pattern = self.decoder.pattern(
                layer, source.q[layer][prompts, start:end], source.k[layer][prompts, :end], visible
            )
            v = v.repeat_interleave(self.decoder.group, dim=2)
            return torch.einsum("rhqk,rkhd->rqhd", pattern, v)
        if kind == "q":
            q = source.q[layer][prompts, :end]
        else:
            changed = (k if kind == "k" else v).clone()
            columns = slice(start, end) if position is None else position
            changed[:, columns] = getattr(source, kind)[layer][prompts][:, columns]
            k, v = (changed, v) if kind == "k" else (k, changed)
        return self.decoder.attend(layer, q[:, start:], k, v, visible)


def _stream(trace: Trace, stream: str, layer: int) -> Float[Tensor, "batch pos d_model"]:
    if stream == "mid":
        return trace.mid[layer]
    return trace.pre[layer + (stream == "post")]
