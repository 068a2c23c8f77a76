"""Activation patching sweeps: exchange one activation at a time between clean and corrupted runs, and measure.

    sweep = sweep_residual(model, clean, corrupted, logit_difference(names, model))
    sweep.values            layer × position: 0 where the patch changes nothing, 1 where it does everything

Every sweep is exact (Wang et al. 2022 and Heimersheim and Nanda 2024 say what it means). It is fast because it skips
what cannot matter: columns before the first difference of two prompts are left out; a patched run starts at its layer
and position, with the unpatched run's keys and values before it; many runs share one batch; and only the logits that
the metric reads are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mi_course.interp.patching.decoder import open_model
from mi_course.interp.patching.hook_backend import hook_and_value, hook_name, last_logits, patched_logits
from mi_course.interp.patching.metrics import TokenMetric, check_tokens, check_values, measure
from mi_course.interp.patching.pairs import read_pair
from mi_course.interp.patching.patch_grid import PatchGrid
from mi_course.interp.patching.results import Sweep, make_sweep

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.patching.pairs import Pair
    from mi_course.interp.prompts import Prompts, TokenBatch

    # Metric values: of every patched run, of the run patched into, and of the run patched from.
    Values = tuple[Float[Tensor, "cell batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]

_BY_POSITION = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
_TITLES = {
    "resid_pre": "Residual stream before each layer",
    "resid_mid": "Residual stream between attention and MLP",
    "resid_post": "Residual stream after each layer",
    "attn_out": "Attention output",
    "mlp_out": "MLP output",
    "z": "Heads",
    "q": "Queries",
    "k": "Keys",
    "v": "Values",
    "pattern": "Attention patterns",
}


def sweep_residual(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, *, site: str = "pre", **options: Any
) -> Sweep:
    """Patch the residual stream at each layer and position. site: "pre", "mid" or "post". Others as in `sweep`."""
    return sweep(model, clean, corrupted, metric, f"resid_{site}", **options)


def sweep_attention_output(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any
) -> Sweep:
    """Patch what each layer's attention writes, at each position: layer × position. Options as in `sweep`."""
    return sweep(model, clean, corrupted, metric, "attn_out", **options)


def sweep_mlp_output(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any
) -> Sweep:
    """Patch what each layer's MLP writes, at each position: layer × position. Options as in `sweep`."""
    return sweep(model, clean, corrupted, metric, "mlp_out", **options)


def sweep_heads(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any) -> Sweep:
    """Patch each head's output z: layer × head, all positions at once, or layer × position × head (`by_position`)."""
    return sweep(model, clean, corrupted, metric, "z", **options)


def sweep_queries(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any
) -> Sweep:
    """Patch each head's queries: layer × head, or with `by_position` layer × position × head."""
    return sweep(model, clean, corrupted, metric, "q", **options)


def sweep_keys(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any) -> Sweep:
    """Patch keys: layer × key/value head (all query heads of its group move), or with `by_position` by it."""
    return sweep(model, clean, corrupted, metric, "k", **options)


def sweep_values(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any) -> Sweep:
    """Patch values: layer × key/value head (all query heads of its group move), or with `by_position` by it."""
    return sweep(model, clean, corrupted, metric, "v", **options)


def sweep_patterns(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options: Any
) -> Sweep:
    """Patch attention patterns: layer × head, or with `by_position` layer × query position × head."""
    return sweep(model, clean, corrupted, metric, "pattern", **options)


def sweep(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    activation: str,
    *,
    direction: str = "denoising",
    by_position: bool = False,
    layers: Sequence[int] | None = None,
    mask: Bool[Tensor, "batch pos"] | None = None,
    max_batch: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Patch one kind of activation everywhere, one layer and position or head at a time.

    clean, corrupted: texts, lists of token ids, or a tensor (batch, pos); two prompts of a pair have equal length.
    metric: logits at each prompt's last position (batch, vocab) to one value per prompt; best a `TokenMetric` such as
      `logit_difference(...)`, for which only a few logits are computed.
    activation: resid_pre, resid_mid, resid_post, attn_out, mlp_out (by layer and position), z, q, k, v, pattern (by
      layer and head; with `by_position` also by position).
    direction: "denoising" patches clean activations into corrupted runs, "noising" corrupted ones into clean runs.
    layers: only these. mask: 1 at real tokens, for a padded tensor of tokens.
    max_batch: the most patched runs in memory at a time; by default as many as fit into about 256 MB.
    Raises ValueError for prompts that do not line up or a metric that gives no finite number per prompt, naming the
    prompt; for an activation that the model does not have; and for a layer or direction that does not exist.
    """
    pair = read_pair(model, clean, corrupted, mask)
    base, source = pair.base_and_source(direction)
    chosen = _check_layers(model, layers)
    for layer in chosen:
        hook_name(model, activation, layer)
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}, expected at least 1.")
    check_tokens(metric, base, int(model.cfg.d_vocab))

    n_heads = int(model.cfg.n_heads)
    if activation in ("k", "v"):
        n_heads = int(getattr(model.cfg, "n_key_value_heads", None) or n_heads)
    axes: dict[str, list[str]] = {"layer": [str(layer) for layer in chosen]}
    if activation in _BY_POSITION or by_position:
        axes["position"] = list(base.labels)
    if activation not in _BY_POSITION:
        axes["key/value head" if n_heads != int(model.cfg.n_heads) else "head"] = [str(h) for h in range(n_heads)]

    shape = [len(names) for names in axes.values()]
    total = int(torch.tensor(shape).prod())
    positions = shape[1] if "position" in axes else None
    heads = None if activation in _BY_POSITION else n_heads
    with torch.no_grad(), tqdm(total=total, desc=_TITLES[activation], disable=not progress, unit="patch") as bar:
        decoder = open_model(model, base)
        if decoder is None:
            bar.set_description(f"{_TITLES[activation]}, by hooks")  # slower
            values = _sweep_by_hooks(model, base, source, metric, activation, chosen, positions, heads, bar)
        else:
            values = _sweep_batched(
                decoder, pair, direction, metric, activation, chosen, positions, heads, max_batch, bar
            )
    per_prompt, before, after = values
    return make_sweep(
        per_prompt.reshape(*shape, -1),
        before,
        after,
        axes=tuple(axes),
        names=tuple(tuple(names) for names in axes.values()),
        title=_TITLES[activation],
        direction=direction,
        prompts=base.texts,
    )


def _check_layers(model: TransformerBridge, layers: Sequence[int] | None) -> list[int]:
    n_layers = int(model.cfg.n_layers)
    chosen = list(range(n_layers)) if layers is None else [int(layer) for layer in layers]
    if not chosen or min(chosen) < 0 or max(chosen) >= n_layers:
        raise ValueError(f"layers are {chosen}, expected some of 0 to {n_layers - 1}.")
    if chosen != sorted(set(chosen)):
        raise ValueError(f"layers are {chosen}, expected each once and in order.")
    return chosen


def _sweep_by_hooks(
    model: TransformerBridge,
    base: TokenBatch,
    source: TokenBatch,
    metric: Metric,
    activation: str,
    layers: list[int],
    positions: int | None,
    heads: int | None,
    bar: tqdm,
) -> Values:
    values = []
    for layer in layers:
        name, new = hook_and_value(model, base, source, activation, hook_name(model, activation, layer))
        for position in [None] if positions is None else range(positions):
            for head in [None] if heads is None else range(heads):
                logits = patched_logits(model, base, activation, name, new, position, head)
                values.append(measure(metric, logits, base))
                bar.update()
    before, after = (measure(metric, last_logits(model, batch), batch) for batch in (base, source))
    return torch.stack(values), before, after


def _sweep_batched(
    decoder: Decoder,
    pair: Pair,
    direction: str,
    metric: Metric,
    activation: str,
    layers: list[int],
    positions: int | None,
    heads: int | None,
    max_batch: int | None,
    bar: tqdm,
) -> Values:
    base, _ = pair.base_and_source(direction)
    n_cells = len(layers) * (positions or 1) * (heads or 1)
    reader = Reader(decoder, metric, n_cells, base)
    limit = PatchGrid.max_runs(decoder, pair) if max_batch is None else max_batch
    step = min(len(base), limit, _max_prompts(decoder, pair))
    done = 0.0
    for start in range(0, len(base), step):
        part = pair.rows(slice(start, start + step))
        grid = PatchGrid(decoder, part, direction, activation, layers, positions, heads)
        reader.add_unpatched(grid.base.pre[-1], grid.source.pre[-1], start)
        cells_at_once = max(1, limit // len(part.clean))
        for low in range(0, n_cells, cells_at_once):
            cells = range(low, min(low + cells_at_once, n_cells))
            share = len(cells) * len(part.clean) / len(base)

            def advance(patches: float) -> None:
                nonlocal done
                done += patches
                bar.update(int(done + 1e-6) - bar.n)

            finals = grid.run(cells, lambda fraction, share=share: advance(fraction * share))
            reader.add_patched(finals, cells, start)
    return reader.values()


def _max_prompts(decoder: Decoder, pair: Pair) -> int:
    """How many prompts to trace at a time, so that their two traces take about 512 MB."""
    columns = pair.clean.tokens.shape[1]
    width = 2 * int(decoder.model.cfg.d_model) + 2 * decoder.n_heads * decoder.d_head
    width += 2 * decoder.n_kv_heads * decoder.d_head
    return max(1, 2**27 // (2 * columns * width * decoder.n_layers))


class Reader:
    """From final residual streams to the metric, computing only the logits that it reads."""

    def __init__(self, decoder: Decoder, metric: Metric, n_cells: int, batch: TokenBatch) -> None:
        self.decoder, self.metric, self.batch = decoder, metric, batch
        self._tokens = metric.tokens.to(batch.tokens.device) if isinstance(metric, TokenMetric) else None
        # Of a few tokens the logits are stored, else the residual stream, until all prompts have been run.
        width = self._tokens.shape[1] if self._tokens is not None else int(decoder.model.cfg.d_model)
        self._stored = next(decoder.model.parameters()).new_zeros(n_cells + 2, len(batch), width)

    def add_unpatched(
        self, before: Float[Tensor, "prompt pos d_model"], after: Float[Tensor, "prompt pos d_model"], start: int
    ) -> None:
        """Final residual streams of the two unpatched runs of these prompts, the first of which is number `start`."""
        rows = torch.arange(len(before), device=before.device)
        last = self.batch.last[start : start + len(before)]
        self._before = before[rows, last]
        self._store(torch.stack((self._before, after[rows, last])), slice(-2, None), start)

    def add_patched(self, finals: Float[Tensor, "cell prompt d_model"], cells: range, start: int) -> None:
        """Final residual streams at the last position of patched runs; `add_unpatched` of the same prompts first."""
        self._store(finals, slice(cells.start, cells.stop), start)
        # A run that its patch did not change has effect 0, not 1e-7 from another order of summing.
        unchanged = (finals == self._before).all(-1, keepdim=True)
        prompts = slice(start, start + finals.shape[1])
        stored = self._stored[cells.start : cells.stop, prompts]
        stored.copy_(torch.where(unchanged, self._stored[-2, prompts], stored))

    def values(self) -> Values:
        """The metric of every patched run, of the run patched into, and of the one patched from."""
        if isinstance(self.metric, TokenMetric):
            values = self.metric.of(self._stored)
            if values.shape[:1] == self._stored.shape[:1]:
                for row in (values[-1], values[-2], values[0]):
                    check_values(row, self.batch)
            else:
                check_values(values, self.batch)
            for row in values[~values.isfinite().all(-1)][:1]:
                check_values(row, self.batch)
        else:
            values = torch.stack([measure(self.metric, self.decoder.logits(x), self.batch) for x in self._stored])
        return values[:-2], values[-2], values[-1]

    def _store(self, finals: Float[Tensor, "cell prompt d_model"], cells: slice, start: int) -> None:
        prompts = slice(start, start + finals.shape[1])
        self._stored[cells, prompts] = (
            finals if self._tokens is None else self.decoder.logits_of(finals, self._tokens[prompts])
        )
