"""Path patching: what one head does along one path, everything beside the path held as it was (Wang et al. 2022).

To the logits: the sender's output is taken from the other run, all later heads stay as they were, and what reaches the
final residual stream is read. To receivers: what reaches the queries (keys, values) of some later heads that way is
recorded, and the model is run with only these put in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.patching.batched_forward import PatchedRuns, run_patched
from mi_course.interp.patching.decoder import open_model
from mi_course.interp.patching.hook_backend import HOOKS, activations, hook_name, last_logits
from mi_course.interp.patching.metrics import check_tokens, measure
from mi_course.interp.patching.patch_grid import PatchGrid
from mi_course.interp.patching.prompts import read_pair
from mi_course.interp.patching.results import Sweep, make_sweep
from mi_course.interp.patching.sweeps import DIRECTIONS, Reader

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from tqdm import tqdm
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder, Trace
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.patching.prompts import Batch, Prompts

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
    mlps: "frozen" keeps every MLP's output as it was: only the direct contribution counts. "recomputed" lets MLPs (not
      heads) react to it, as Wang et al. do.
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
    into, source = (pair.corrupted, pair.clean) if direction == "denoising" else (pair.clean, pair.corrupted)
    check_tokens(metric, into, int(model.cfg.d_vocab))

    from tqdm.auto import tqdm

    title = "Paths to the logits" if receivers is None else f"Paths to the {part} of {_names(receivers)}"
    n_cells = n_layers * n_heads
    with torch.no_grad(), tqdm(total=n_cells, desc=title, disable=not progress, unit="path") as bar:
        decoder = open_model(model, into)
        if decoder is None:
            bar.set_description(f"{title}, by hooks")
            per_prompt, before, after = _plain(model, into, source, metric, heads, part, mlps, bar)
        else:
            read = Reader(decoder, metric, n_cells, into)
            base, other = decoder.trace(into), decoder.trace(source)
            read.unpatched(base.pre[-1], other.pre[-1], 0)
            limit = PatchGrid.most_runs(decoder, pair) if max_batch is None else max_batch
            step = max(1, limit // len(into.texts))
            for low in range(0, n_cells, step):
                cells = range(low, min(low + step, n_cells))
                paths = _Paths(decoder, base, other, pair.first, into.last, cells, mlps)
                finals = paths.to_logits() if heads is None else paths.to_heads(heads, part)
                read.patched(finals, cells, 0)
                bar.update(len(cells))
            per_prompt, before, after = read.values()
    return make_sweep(
        per_prompt.reshape(n_layers, n_heads, -1),
        before,
        after,
        axes=("layer", "head"),
        names=(tuple(map(str, range(n_layers))), tuple(map(str, range(n_heads)))),
        title=title,
        direction=direction,
        prompts=into.texts,
    )


class _Paths:
    """Residual streams that differ from the base run by what senders wrote, and MLPs made of it; heads are frozen."""

    def __init__(
        self,
        decoder: Decoder,
        base: Trace,
        other: Trace,
        first: Int[Tensor, " batch"],
        last: Int[Tensor, " batch"],
        cells: range,
        mlps: str,
    ) -> None:
        self.decoder, self.base, self.other, self.cells = decoder, base, other, cells
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
            # A head of the last receiver's layer, or a later one, sends to none of them: those runs stay as they were.
            n_live = max(0, min(n_cells, max(heads) * decoder.n_heads - self.cells.start))
            for start, end in sorted(set(zip(self.first.tolist(), (self.last + 1).tolist(), strict=True))):
                prompts = ((self.first == start) & (self.last == end - 1)).nonzero()[:, 0]
                cells = torch.arange(n_live, device=prompts.device).repeat_interleave(len(prompts))
                prompts = prompts.repeat(n_live)
                yield PatchedRuns(start, end, cells, prompts, base.pre[layer][prompts, start:end])

        edit = _Received(received, heads, part, self.begin)
        run_patched(decoder, base, starts, finals, first_layer=first_layer, edit=edit)
        return finals

    def _streams(self, rows: Any, columns: Any) -> Iterator[Float[Tensor, "cell batch *pos d_model"]]:
        """The residual stream before each layer, and at last the final one, in these rows and columns of the batch."""
        decoder, base, n_heads = self.decoder, self.base, self.decoder.n_heads
        # change: what differs from the base run, for all cells; zero until the sender's layer
        start = base.pre[0][rows, columns]
        change = start.new_zeros(len(self.cells), *start.shape)
        for layer in range(decoder.n_layers):
            yield base.pre[layer][rows, columns] + change
            low = max(self.cells.start, layer * n_heads)
            high = min(self.cells.stop, (layer + 1) * n_heads)
            if low < high:
                z = (self.other.z[layer] - base.z[layer])[rows, columns]
                writes = decoder.head_writes(layer, z).movedim(-2, 0)  # head batch pos d_model
                change[low - self.cells.start : high - self.cells.start] += writes[
                    low - layer * n_heads : high - layer * n_heads
                ]
            if self.recompute:
                live = slice(0, max(0, min(len(self.cells), (layer + 1) * n_heads - self.cells.start)))
                mid, end = base.mid[layer][rows, columns], base.pre[layer + 1][rows, columns]
                change[live] = decoder.feed(layer, mid + change[live]) - end
        yield base.pre[-1][rows, columns] + change


class _Received:
    """Puts the recorded queries, keys or values of the receivers in their place."""

    def __init__(
        self, received: dict[int, Float[Tensor, "cell batch pos head d_head"]], heads, part: str, begin: int
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


def _plain(
    model: TransformerBridge,
    into: Batch,
    source: Batch,
    metric: Metric,
    heads: dict[int, list[int]] | None,
    part: str,
    mlps: str,
    bar: tqdm,
) -> tuple[Tensor, Tensor, Tensor]:
    """One or two full forwards for each sender: heads (and MLPs) frozen by hooks, then the receivers patched."""
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    frozen = [hook_name(model, "z", layer) for layer in range(n_layers)]
    if mlps == "frozen":
        names = [HOOKS["mlp_out"].format(layer) for layer in range(n_layers)]
        frozen += [name for name in names if name in model.hook_dict]
    base = activations(model, into, frozen)
    other = activations(model, source, [hook_name(model, "z", layer) for layer in range(n_layers)])
    values = []
    for layer in range(n_layers):
        for head in range(n_heads):
            caught: dict[int, Tensor] = {}
            pairs = [(name, _put(base[name])) for name in frozen]
            sender = hook_name(model, "z", layer)
            changed = base[sender].clone()
            changed[:, :, head] = other[sender][:, :, head]
            pairs[frozen.index(sender)] = (sender, _put(changed))
            for r in heads or {}:
                pairs.append((hook_name(model, part, r), _catch(caught, r)))
            logits = last_logits(model, into, pairs)
            if heads is not None:
                second = [(hook_name(model, part, r), _put(caught[r], heads[r])) for r in heads]
                logits = last_logits(model, into, second)
            values.append(measure(metric, logits, into))
            bar.update()
    before, after = (measure(metric, last_logits(model, batch), batch) for batch in (into, source))
    return torch.stack(values), before, after


def _put(new: Tensor, heads: list[int] | None = None) -> Any:
    def hook(value: Tensor, hook: Any) -> Tensor:
        if heads is None:
            return new.clone()
        value = value.clone()
        value[:, :, heads] = new[:, :, heads]
        return value

    return hook


def _catch(into: dict[int, Tensor], layer: int) -> Any:
    def hook(value: Tensor, hook: Any) -> None:
        into[layer] = value.clone()

    return hook


def _names(heads: Sequence[Head]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in sorted(set(heads)))
