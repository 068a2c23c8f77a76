"""Path patching: what one head does along one path, with everything beside the path held fixed (Wang et al. 2022).

To the logits: the sender's output is taken from the other run, all later heads keep theirs, and the final residual
stream is read. To receivers: the queries (keys, values) of some later heads are computed that way and recorded, and
the model is run with only these replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mi_course.interp.patching.batched_forward import PatchedRuns, group_by_span, run_patched
from mi_course.interp.patching.decoder import open_model
from mi_course.interp.patching.hook_backend import HOOKS, activations, hook_name, last_logits
from mi_course.interp.patching.metrics import check_tokens, measure
from mi_course.interp.patching.pairs import DIRECTIONS, read_pair
from mi_course.interp.patching.patch_grid import PatchGrid
from mi_course.interp.patching.results import Sweep, make_sweep
from mi_course.interp.patching.sweeps import Reader

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder, Trace
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.prompts import Prompts, TokenBatch

    Head = tuple[int, int]


def path_patching(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    *,
    receivers: Sequence[Head] | None = None,
    part: str = "q",
    mlps: str = "frozen",
    direction: str = "denoising",
    mask: Bool[Tensor, "batch pos"] | None = None,
    max_batch: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Patch the path from every head (the sender) to the logits, or to some later heads: layer × head of senders.

    receivers: (layer, head) of later heads, by their query head's number; None for the logits. part: "q", "k" or "v" of
      the receivers. Query heads that share a key/value head receive as one: a key or value path moves all its group.
    mlps: "frozen" keeps every MLP's output: only the direct contribution counts. "recomputed" lets MLPs (not heads)
      react to it, as Wang et al. do.
    Senders that come too late for every receiver have effect 0. Other arguments, values and errors as in `sweep`.
    """
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    for name, value, known in (
        ("direction", direction, DIRECTIONS),
        ("part", part, ("q", "k", "v")),
        ("mlps", mlps, ("frozen", "recomputed")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {known}.")
    group = n_heads // int(getattr(model.cfg, "n_key_value_heads", None) or n_heads)
    heads: dict[int, list[int]] | None = None
    if receivers is not None:
        heads = {}
        for layer, head in sorted(set(receivers)):
            if not (0 <= layer < n_layers and 0 <= head < n_heads):
                raise ValueError(f"The receiver {(layer, head)} does not exist: {n_layers} layers × {n_heads} heads.")
            number = head if part == "q" else head // group
            if number not in heads.setdefault(layer, []):
                heads[layer].append(number)
        if not heads:
            raise ValueError("receivers is empty; None stands for the logits.")
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}, expected at least 1.")
    pair = read_pair(model, clean, corrupted, mask)
    base, source = pair.base_and_source(direction)
    check_tokens(metric, base, int(model.cfg.d_vocab))

    title = "Paths to the logits" if receivers is None else f"Paths to the {part} of {_names(receivers)}"
    n_cells = n_layers * n_heads
    with torch.no_grad(), tqdm(total=n_cells, desc=title, disable=not progress, unit="path") as bar:
        decoder = open_model(model, base)
        if decoder is None:
            bar.set_description(f"{title}, by hooks")
            per_prompt, before, after = _patch_by_hooks(model, base, source, metric, heads, part, mlps, bar)
        else:
            reader = Reader(decoder, metric, n_cells, base)
            base_trace, source_trace = decoder.trace(base), decoder.trace(source)
            reader.add_unpatched(base_trace.pre[-1], source_trace.pre[-1], 0)
            limit = PatchGrid.max_runs(decoder, pair) if max_batch is None else max_batch
            step = max(1, limit // len(base))
            for low in range(0, n_cells, step):
                cells = range(low, min(low + step, n_cells))
                paths = _Paths(decoder, base_trace, source_trace, pair.first, base.last, cells, mlps)
                finals = paths.to_logits() if heads is None else paths.to_heads(heads, part)
                reader.add_patched(finals, cells, 0)
                bar.update(len(cells))
            per_prompt, before, after = reader.values()
    return make_sweep(
        per_prompt.reshape(n_layers, n_heads, -1),
        before,
        after,
        axes=("layer", "head"),
        names=(tuple(map(str, range(n_layers))), tuple(map(str, range(n_heads)))),
        title=title,
        direction=direction,
        prompts=base.texts,
    )


class _Paths:
    """Residual streams that differ from the base run by what the senders write, and what MLPs make of it.

    All other heads are frozen. A cell is one sender, numbered by layer, then head.
    """

    def __init__(
        self,
        decoder: Decoder,
        base: Trace,
        source: Trace,
        first: Int[Tensor, " batch"],
        last: Int[Tensor, " batch"],
        cells: range,
        mlps: str,
    ) -> None:
        self.decoder, self.base, self.source, self.cells = decoder, base, source, cells
        self.first, self.last, self.recompute = first, last, mlps == "recomputed"
        self.begin = int(first.min())  # before this column nothing differs

    def to_logits(self) -> Float[Tensor, "cell batch d_model"]:
        rows = torch.arange(len(self.last), device=self.last.device)
        *_, final = self._streams(rows, self.last)
        return final

    def to_heads(self, heads: dict[int, list[int]], part: str) -> Float[Tensor, "cell batch d_model"]:
        base, decoder = self.base, self.decoder
        columns = slice(self.begin, None)
        received = {}
        for layer, x in enumerate(self._streams(slice(None), columns)):
            if layer in heads:
                positions = base.positions[:, columns].expand(len(self.cells), -1, -1)
                values = decoder.project(layer, x.flatten(0, 2), positions.flatten())["qkv".index(part)]
                received[layer] = values.unflatten(0, x.shape[:3])[..., heads[layer], :]
            if layer == max(heads):
                break
        first_layer, n_cells = min(heads), len(self.cells)
        rows = torch.arange(len(self.last), device=self.last.device)
        finals = base.pre[-1][rows, self.last].expand(n_cells, -1, -1).clone()

        def starts(layer: int, stage: str) -> Iterator[PatchedRuns]:
            if (layer, stage) != (first_layer, "pre"):
                return
            # A head in the last receiver's layer or later reaches none of them: those runs need not be computed.
            n_live = max(0, min(n_cells, max(heads) * decoder.n_heads - self.cells.start))
            for start, end, prompts in group_by_span(self.first, self.last + 1):
                cells = torch.arange(n_live, device=prompts.device).repeat_interleave(len(prompts))
                prompts = prompts.repeat(n_live)
                yield PatchedRuns(start, end, cells, prompts, base.pre[layer][prompts, start:end])

        edit = _ReplaceReceived(received, heads, part, self.begin)
        run_patched(decoder, base, starts, finals, first_layer=first_layer, edit=edit)
        return finals

    def _streams(self, rows: Any, columns: Any) -> Iterator[Float[Tensor, "cell batch *pos d_model"]]:
        """The residual stream before each layer, then the final one, in these rows and columns of the batch."""
        decoder, base, n_heads = self.decoder, self.base, self.decoder.n_heads
        # change: what differs from the base run, for all cells; zero until the sender's layer
        start = base.pre[0][rows, columns]
        change = start.new_zeros(len(self.cells), *start.shape)
        for layer in range(decoder.n_layers):
            yield base.pre[layer][rows, columns] + change
            low = max(self.cells.start, layer * n_heads)
            high = min(self.cells.stop, (layer + 1) * n_heads)
            if low < high:
                z = (self.source.z[layer] - base.z[layer])[rows, columns]
                writes = decoder.head_writes(layer, z).movedim(-2, 0)  # head batch pos d_model
                change[low - self.cells.start : high - self.cells.start] += writes[
                    low - layer * n_heads : high - layer * n_heads
                ]
            if self.recompute:
                live = slice(0, max(0, min(len(self.cells), (layer + 1) * n_heads - self.cells.start)))
                mid, end = base.mid[layer][rows, columns], base.pre[layer + 1][rows, columns]
                change[live] = decoder.apply_mlp(layer, mid + change[live]) - end
        yield base.pre[-1][rows, columns] + change


class _ReplaceReceived:
    """Replaces the queries, keys or values of the receivers with the recorded ones, which start at column `begin`."""

    def __init__(
        self,
        received: dict[int, Float[Tensor, "cell batch pos head d_head"]],
        heads: dict[int, list[int]],
        part: str,
        begin: int,
    ) -> None:
        self.received, self.receivers, self.part, self.begin = received, heads, part, begin

    def heads(self, layer: int, runs: PatchedRuns, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer not in self.received:
            return q, k, v
        columns = slice(runs.start - self.begin, runs.end - self.begin)
        new = self.received[layer][runs.cells, runs.prompts, columns]
        parts = {"q": q, "k": k, "v": v}
        parts[self.part] = parts[self.part].clone()
        parts[self.part][:, :, self.receivers[layer]] = new
        return parts["q"], parts["k"], parts["v"]

    def z(self, layer: int, runs: PatchedRuns, z: Tensor) -> Tensor:
        return z


def _patch_by_hooks(
    model: TransformerBridge,
    base: TokenBatch,
    source: TokenBatch,
    metric: Metric,
    heads: dict[int, list[int]] | None,
    part: str,
    mlps: str,
    bar: tqdm,
) -> tuple[Tensor, Tensor, Tensor]:
    """One or two full forward passes per sender: heads (and MLPs) frozen by hooks, then the receivers patched."""
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    z_names = [hook_name(model, "z", layer) for layer in range(n_layers)]
    frozen = list(z_names)
    if mlps == "frozen":
        names = [HOOKS["mlp_out"].format(layer) for layer in range(n_layers)]
        frozen += [name for name in names if name in model.hook_dict]
    old = activations(model, base, frozen)
    new = activations(model, source, z_names)
    values = []
    for layer, sender in enumerate(z_names):
        for head in range(n_heads):
            received: dict[int, Tensor] = {}
            hooks = [(name, _replace(old[name])) for name in frozen]
            changed = old[sender].clone()
            changed[:, :, head] = new[sender][:, :, head]
            hooks[layer] = (sender, _replace(changed))
            hooks += [(hook_name(model, part, r), _record(received, r)) for r in heads or {}]
            logits = last_logits(model, base, hooks)
            if heads is not None:
                hooks = [(hook_name(model, part, r), _replace(received[r], heads[r])) for r in heads]
                logits = last_logits(model, base, hooks)
            values.append(measure(metric, logits, base))
            bar.update()
    before, after = (measure(metric, last_logits(model, batch), batch) for batch in (base, source))
    return torch.stack(values), before, after


def _replace(new: Tensor, heads: list[int] | None = None) -> Any:
    def hook(value: Tensor, hook: Any) -> Tensor:
        if heads is None:
            return new.clone()
        value = value.clone()
        value[:, :, heads] = new[:, :, heads]
        return value

    return hook


def _record(received: dict[int, Tensor], layer: int) -> Any:
    def hook(value: Tensor, hook: Any) -> None:
        received[layer] = value.clone()

    return hook


def _names(heads: Sequence[Head]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in sorted(set(heads)))
