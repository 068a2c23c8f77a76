"""Where patched runs start, for every kind of activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from mi_course.interp.patching.batched_forward import PatchedRuns, run_patched

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from mi_course.interp.patching.decoder import Decoder
    from mi_course.interp.patching.prompts import Pair

BYTES = 2**28  # of activations while patched runs travel


class PatchGrid:
    """All places of a sweep, on a few prompts. A cell is one place, numbered layer by layer, position, head."""

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
        into, source = (pair.corrupted, pair.clean) if direction == "denoising" else (pair.clean, pair.corrupted)
        self.decoder, self.activation, self.layers = decoder, activation, layers
        self.positions, self.heads = positions, heads
        self.base, self.source = decoder.trace(into), decoder.trace(source)
        self.first, self.last = pair.first, into.last
        self.cells_per_layer = (positions or 1) * (heads or 1)

    @staticmethod
    def most_runs(decoder: Decoder, pair: Pair) -> int:
        """How many patched runs fit into BYTES: by the longest of them, and the widest that a token becomes."""
        columns = int((pair.clean.last - pair.first).max()) + 1
        cfg = decoder.model.cfg
        width = 4 * int(cfg.d_model) + 3 * int(getattr(cfg, "d_mlp", None) or 0) + 3 * decoder.n_heads * decoder.d_head
        keys = 2 * pair.clean.tokens.shape[1] * decoder.n_kv_heads * decoder.d_head
        size = next(decoder.model.parameters()).element_size()
        return max(1, BYTES // ((columns * width + keys) * size))

    def run(self, cells: range, progress: Callable[[float], None]) -> Float[Tensor, "cell batch d_model"]:
        """The final residual stream at the last position of these patched runs. progress: told the share just done."""
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

        run_patched(
            self.decoder,
            self.base,
            starts,
            finals,
            first_layer=first,
            after_layer=lambda: progress(1 / steps),
        )
        return finals

    def _starts(self, layer: int, cells: range) -> Iterator[PatchedRuns]:
        """The runs of these cells of one layer."""
        per_position = self.heads or 1
        for p in range(cells.start // per_position, (cells.stop - 1) // per_position + 1):
            offset = p * per_position
            heads = slice(max(cells.start - offset, 0), min(cells.stop - offset, per_position))
            # A prompt whose patch lies before its first difference, or in its padding, stays as it was.
            if self.positions is None:
                begins = self.first
                alive = torch.ones_like(self.first, dtype=torch.bool)
            else:
                begins = torch.full_like(self.first, p)
                alive = (self.first <= p) & (p <= self.last)
            for start, end in sorted(set(zip(begins[alive].tolist(), (self.last[alive] + 1).tolist(), strict=True))):
                prompts = (alive & (begins == start) & (self.last == end - 1)).nonzero()[:, 0]
                position = None if self.positions is None else p
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


def _stream(trace, stream: str, layer: int) -> Float[Tensor, "batch pos d_model"]:
    if stream == "mid":
        return trace.mid[layer]
    return trace.pre[layer + (stream == "post")]
