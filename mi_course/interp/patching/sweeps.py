"""Activation patching sweeps: exchange one activation at a time between clean and corrupted runs, and measure.

    sweep = sweep_residual(model, clean, corrupted, logit_difference(names, model))
    sweep.values            layer × position: 0 where the patch changes nothing, 1 where it does everything

Every sweep is exact (Wang et al. 2022 and Heimersheim and Nanda 2024 say what it means). It is fast because of what
cannot matter: columns before the first difference of two prompts are left out; a patched run starts at its layer and at
its position, with the other run's keys and values before it; many runs share one batch; and of the logits only those
are computed that the metric reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mi_course.interp.patching.hook_backend import hook_name, last_logits, patched_logits, source_of
from mi_course.interp.patching.metrics import TokenMetric, check_tokens, checked, measure
from mi_course.interp.patching.prompts import read_pair
from mi_course.interp.patching.results import Sweep, make_sweep

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor
    from tqdm import tqdm
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.patching.prompts import Pair, Prompts

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
DIRECTIONS = ("denoising", "noising")


def sweep_residual(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, *, site: str = "pre", **options
) -> Sweep:
    """Patch the residual stream at each layer and position. site: "pre", "mid" or "post". Others as in `sweep`."""
    return sweep(model, clean, corrupted, metric, f"resid_{site}", **options)


def sweep_attention_output(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options
) -> Sweep:
    """Patch what each layer's attention writes, at each position: layer × position. Options as in `sweep`."""
    return sweep(model, clean, corrupted, metric, "attn_out", **options)


def sweep_mlp_output(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
    """Patch what each layer's MLP writes, at each position: layer × position. Options as in `sweep`."""
    return sweep(model, clean, corrupted, metric, "mlp_out", **options)


def sweep_heads(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
    """Patch each head's output z: layer × head, all positions at once, or layer × position × head (`by_position`)."""
    return sweep(model, clean, corrupted, metric, "z", **options)


def sweep_queries(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
    """Patch each head's queries: layer × head, or with `by_position` layer × position × head."""
    return sweep(model, clean, corrupted, metric, "q", **options)


def sweep_keys(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
    """Patch keys: layer × key/value head (all query heads of its group move), or with `by_position` by it."""
    return sweep(model, clean, corrupted, metric, "k", **options)


def sweep_values(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
    """Patch values: layer × key/value head (all query heads of its group move), or with `by_position` by it."""
    return sweep(model, clean, corrupted, metric, "v", **options)


def sweep_patterns(model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, **options) -> Sweep:
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
    """Patch one kind of activation everywhere, one place at a time.

    clean, corrupted: texts, lists of token ids, or a tensor (batch, pos); two prompts of a pair have equal length.
    metric: logits at each prompt's last position (batch, vocab) to one value per prompt; best a `TokenMetric` such as
      `logit_difference(...)`, for which only a few logits are computed.
    activation: resid_pre, resid_mid, resid_post, attn_out, mlp_out (by layer and position), z, q, k, v, pattern (by
      layer and head; with `by_position` also by position).
    direction: "denoising" patches clean activations into corrupted runs, "noising" corrupted ones into clean runs.
    layers: only these. mask: 1 at real tokens, for a padded tensor of tokens.
    max_batch: the most patched runs in memory at a time; by default as many as fit into about 256 MB.
    Raises ValueError for prompts that do not line up, a metric that gives no finite number per prompt, an activation
    that the model does not have: the message names the prompt.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}, expected one of {DIRECTIONS}.")
    pair = read_pair(model, clean, corrupted, mask)
    rows = _layers(model, layers)
    for layer in rows:
        hook_name(model, activation, layer)
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}, expected at least 1.")
    into, source = (pair.corrupted, pair.clean) if direction == "denoising" else (pair.clean, pair.corrupted)
    check_tokens(metric, into, int(model.cfg.d_vocab))

    n_heads = int(model.cfg.n_heads)
    if activation in ("k", "v"):
        n_heads = int(getattr(model.cfg, "n_key_value_heads", None) or n_heads)
    axes: dict[str, list[str]] = {"layer": [str(layer) for layer in rows]}
    if activation in _BY_POSITION or by_position:
        axes["position"] = list(into.labels)
    if activation not in _BY_POSITION:
        axes["key/value head" if n_heads != int(model.cfg.n_heads) else "head"] = [str(h) for h in range(n_heads)]

    from tqdm.auto import tqdm

    from mi_course.interp.patching.decoder import open_model

    shape = [len(names) for names in axes.values()]
    total = int(torch.tensor(shape).prod())
    positions = shape[1] if "position" in axes else None
    heads = None if activation in _BY_POSITION else n_heads
    with torch.no_grad(), tqdm(total=total, desc=_TITLES[activation], disable=not progress, unit="patch") as bar:
        decoder = open_model(model, into)
        if decoder is None:
            bar.set_description(f"{_TITLES[activation]}, by hooks")  # slower: the Decoder does not know this model
            results = _plain(model, into, source, metric, activation, rows, positions, heads, bar)
        else:
            results = _fast(decoder, pair, direction, metric, activation, rows, positions, heads, max_batch, bar)
    per_prompt, before, after = results
    return make_sweep(
        per_prompt.reshape(*shape, -1),
        before,
        after,
        axes=tuple(axes),
        names=tuple(tuple(names) for names in axes.values()),
        title=_TITLES[activation],
        direction=direction,
        prompts=into.texts,
    )


def _layers(model: TransformerBridge, layers: Sequence[int] | None) -> list[int]:
    n_layers = int(model.cfg.n_layers)
    chosen = list(range(n_layers)) if layers is None else [int(layer) for layer in layers]
    if not chosen or min(chosen) < 0 or max(chosen) >= n_layers:
        raise ValueError(f"layers are {chosen}, expected some of 0 to {n_layers - 1}.")
    if chosen != sorted(set(chosen)):
        raise ValueError(f"layers are {chosen}, expected each once and in order.")
    return chosen


def _plain(model, into, source, metric, activation, layers, positions, heads, bar: tqdm):
    values = []
    for layer in layers:
        name, kept = source_of(model, into, source, activation, hook_name(model, activation, layer))
        for position in [None] if positions is None else range(positions):
            for head in [None] if heads is None else range(heads):
                logits = patched_logits(model, into, activation, name, kept, position, head)
                values.append(measure(metric, logits, into))
                bar.update()
    before, after = (measure(metric, last_logits(model, batch), batch) for batch in (into, source))
    return torch.stack(values), before, after


def _fast(decoder: Decoder, pair: Pair, direction, metric, activation, layers, positions, heads, max_batch, bar: tqdm):
    from mi_course.interp.patching.patch_grid import PatchGrid

    into = pair.corrupted if direction == "denoising" else pair.clean
    n_cells = len(layers) * (positions or 1) * (heads or 1)
    read = Reader(decoder, metric, n_cells, into)
    limit = PatchGrid.most_runs(decoder, pair) if max_batch is None else max_batch
    step = min(len(into.texts), limit, _most_prompts(decoder, pair))
    done = 0.0
    for start in range(0, len(into.texts), step):
        some = pair.rows(start, start + step)
        places = PatchGrid(decoder, some, direction, activation, layers, positions, heads)
        read.unpatched(places.base.pre[-1], places.source.pre[-1], start)
        cells_at_once = max(1, limit // len(some.clean.texts))
        for low in range(0, n_cells, cells_at_once):
            cells = range(low, min(low + cells_at_once, n_cells))
            share = len(cells) * len(some.clean.texts) / len(into.texts)

            def advance(part: float) -> None:
                nonlocal done
                done += part
                bar.update(int(done + 1e-6) - bar.n)

            finals = places.run(cells, lambda part, share=share: advance(part * share))
            read.patched(finals, cells, start)
    return read.values()


def _most_prompts(decoder: Decoder, pair: Pair) -> int:
    """How many prompts may be remembered at a time: two traces of them in about 512 MB."""
    columns = pair.clean.tokens.shape[1]
    width = 2 * int(decoder.model.cfg.d_model) + 2 * decoder.n_heads * decoder.d_head
    width += 2 * decoder.n_kv_heads * decoder.d_head
    return max(1, 2**27 // (2 * columns * width * decoder.n_layers))


class Reader:
    """From final residual streams to the metric, computing only the logits that it reads."""

    def __init__(self, decoder: Decoder, metric: Metric, n_cells: int, batch) -> None:
        self.decoder, self.metric, self.batch = decoder, metric, batch
        n = len(batch.texts)
        self.few = isinstance(metric, TokenMetric)
        self._tokens = metric.tokens.to(batch.tokens.device) if isinstance(metric, TokenMetric) else None
        # For a few tokens their logits are kept, else the residual stream, until all prompts are there.
        width = self._tokens.shape[1] if self._tokens is not None else int(decoder.model.cfg.d_model)
        like = next(decoder.model.parameters())
        self._kept = like.new_zeros(n_cells + 2, n, width)

    def unpatched(
        self, before: Float[Tensor, "some pos d_model"], after: Float[Tensor, "some pos d_model"], start: int
    ) -> None:
        """The two ordinary runs, which stand behind the patched ones."""
        rows = torch.arange(len(before), device=before.device)
        last = self.batch.last[start : start + len(before)]
        self._before = before[rows, last]
        self._keep(torch.stack((self._before, after[rows, last])), slice(-2, None), start)

    def patched(self, finals: Float[Tensor, "cell some d_model"], cells: range, start: int) -> None:
        self._keep(finals, slice(cells.start, cells.stop), start)
        # A run that the patch left as it was has no effect at all, not one of 1e-7 from another order of summing.
        same = (finals == self._before).all(-1, keepdim=True)
        kept = self._kept[cells.start : cells.stop, start : start + finals.shape[1]]
        kept.copy_(torch.where(same, self._kept[-2, start : start + finals.shape[1]], kept))

    def values(self) -> tuple[Float[Tensor, "cell batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """The metric of every patched run, of the run patched into, and of the one patched from."""
        if isinstance(self.metric, TokenMetric):
            found = self.metric.of(self._kept)
            for row in (found[-1], found[-2], found[0]) if found.shape[:1] == self._kept.shape[:1] else (found,):
                checked(row, self.batch)
            for row in found[~found.isfinite().all(-1)][:1]:
                checked(row, self.batch)
        else:
            found = torch.stack([measure(self.metric, self.decoder.logits(rows), self.batch) for rows in self._kept])
        return found[:-2], found[-2], found[-1]

    def _keep(self, finals: Float[Tensor, "cell some d_model"], cells: slice, start: int) -> None:
        prompts = slice(start, start + finals.shape[1])
        kept = finals if self._tokens is None else self.decoder.some_logits(finals, self._tokens[prompts])
        self._kept[cells, prompts] = kept
