"""Circuits: ablate every head outside a set, and measure how much of the model's behavior is left.

What replaces a head decides what is measured (Zhang and Nanda 2023; lesson 03 shows it). Take means over prompts that
differ from these only in what the circuit is about. Only heads are ablated; MLPs still compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mi_course.interp.heads import all_heads
from mi_course.interp.patching.batched_forward import PatchedRuns, group_by_span, run_patched
from mi_course.interp.patching.decoder import open_model
from mi_course.interp.patching.hook_backend import activations, hook_name, last_logits
from mi_course.interp.patching.metrics import TokenMetric, check_tokens, check_values, measure
from mi_course.interp.patching.pairs import require_eval
from mi_course.interp.patching.patch_grid import RUN_BYTES
from mi_course.interp.prompts import read_prompts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.prompts import Prompts, TokenBatch

    Head = tuple[int, int]
    # One mean for all prompts, or one for each.
    Means = Float[Tensor, "layer pos head d_head"] | Float[Tensor, "layer batch pos head d_head"]


def faithfulness(circuit: float, full: float, empty: float) -> float:
    """(circuit − empty) / (full − empty): 0 for the empty circuit, 1 for the full model; above 1 is not better.

    circuit, full, empty: the metric's mean with these heads, with all heads and with none. ValueError if full = empty.

    >>> faithfulness(circuit=2.0, full=3.0, empty=1.0)
    0.5
    """
    if full == empty:
        raise ValueError(
            f"The full model and the empty circuit both score {full:.4g}: there is no effect of which a circuit could "
            "explain a share. Is the metric about what the ablation removes?"
        )
    return (circuit - empty) / (full - empty)


def head_means(
    model: TransformerBridge, prompts: Prompts, mask: Bool[Tensor, "batch pos"] | None = None
) -> Float[Tensor, "layer pos head d_head"]:
    """Mean of every head's z over these prompts, at each column; padding is left out.

    Give prompts of one template, so that a column means the same in all of them.
    """
    batch = read_prompts(model, prompts, mask)
    real = batch.mask[:, :, None, None]
    z = _all_z(model, batch)
    return (z * real).sum(1) / real.sum(0).clamp(min=1)


def mean_ablation(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    *,
    keep: Sequence[Head],
    means: Means,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, " batch"]:
    """The metric of each prompt when every head outside `keep` outputs its mean at each position.

    means: from `head_means`, or one set for each prompt (layer batch pos head d_head) where templates are mixed.
    """
    batch = read_prompts(model, prompts, mask)
    return _ablated(model, batch, metric, [keep], _replacement(model, batch, means))[0]


def mean_ablations(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    circuits: Sequence[Sequence[Head]],
    *,
    means: Means,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "circuit batch"]:
    """`mean_ablation` for many circuits at once, which is faster: each starts in the layer of its first head."""
    batch = read_prompts(model, prompts, mask)
    return _ablated(model, batch, metric, circuits, _replacement(model, batch, means))


def ablate_each(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    heads: Sequence[Head],
    *,
    means: Means,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "head batch"]:
    """The metric of each prompt when one head alone outputs its mean at each position, for each of these heads.

    means: as in `mean_ablation`. With z of another run of as many prompts (layer batch pos head d_head) in their place
    this is activation patching of single heads.
    """
    every = all_heads(int(model.cfg.n_layers), int(model.cfg.n_heads))
    others = [[other for other in every if other != tuple(head)] for head in heads]
    return mean_ablations(model, prompts, metric, others, means=means, mask=mask)


def resample_ablation(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    *,
    keep: Sequence[Head],
    source: Prompts,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, " batch"]:
    """The metric of each prompt when every head outside `keep` outputs what it does on the `source` prompt.

    Each prompt is as long as its source; ValueError, naming the prompt, if not.
    """
    batch, other = read_prompts(model, prompts, mask), read_prompts(model, source, mask)
    if batch.tokens.shape != other.tokens.shape or not torch.equal(batch.mask, other.mask):
        pairs = zip(batch.mask.sum(1).tolist(), other.mask.sum(1).tolist(), strict=False)
        i = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(batch), len(other)) - 1)
        raise ValueError(f"{batch.name(i)} and its source prompt ({other.texts[i]!r}) do not line up token by token.")
    return _ablated(model, batch, metric, [keep], _all_z(model, other))[0]


def random_circuits(model: TransformerBridge, size: int, n: int = 50, *, seed: int = 0) -> list[list[Head]]:
    """n sets of `size` different heads, drawn from all heads of the model."""
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    if not 0 <= size <= n_layers * n_heads:
        raise ValueError(f"size is {size}, expected 0 to {n_layers * n_heads}, the number of heads.")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(n_layers * n_heads, generator=generator)[:size].tolist() for _ in range(n)]
    return [sorted(divmod(head, n_heads) for head in draw) for draw in draws]


@dataclass(frozen=True)
class CircuitScore:
    """How much of the model's behavior a circuit keeps.

    faithfulness: (circuit − empty) / (full − empty) of the metric's means; 1 is as good as the model, more no better.
    completeness: the faithfulness of the complement, all heads outside: near 0 if nothing is missing from the circuit.
    random: the faithfulness of random circuits of the same size. circuit, full, empty: the metric of each prompt.
    """

    faithfulness: float
    completeness: float
    random: Float[Tensor, " n"]
    circuit: Float[Tensor, " batch"]
    full: Float[Tensor, " batch"]
    empty: Float[Tensor, " batch"]

    @property
    def beats(self) -> float:
        """The share of random circuits that are less faithful."""
        return float((self.random < self.faithfulness).float().mean())

    def interval(self, level: float = 0.95, *, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap interval of the faithfulness, prompts drawn with replacement."""
        n = len(self.full)
        draws = torch.randint(n, (samples, n), generator=torch.Generator().manual_seed(seed))
        above = (self.circuit - self.empty).cpu()[draws].mean(1)
        share = above / (self.full - self.empty).cpu()[draws].mean(1)
        low, high = torch.quantile(share, torch.tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
        return low, high


def score_circuit(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    circuit: Sequence[Head],
    means: Means,
    *,
    random: int = 50,
    seed: int = 0,
    mask: Bool[Tensor, "batch pos"] | None = None,
    progress: bool = True,
) -> CircuitScore:
    """Faithfulness and completeness of a circuit under mean ablation, beside random circuits of the same size.

    random: how many of these. Raises ValueError if ablating all heads leaves the metric's mean unchanged.
    """
    batch = read_prompts(model, prompts, mask)
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    every = all_heads(n_layers, n_heads)
    outside = sorted(set(every) - set(map(tuple, circuit)))
    others = random_circuits(model, len(set(map(tuple, circuit))), random, seed=seed)
    circuits = [circuit, every, [], outside, *others]
    values = _ablated(model, batch, metric, circuits, _replacement(model, batch, means), progress=progress)
    kept, full, empty, complement, *rest = values.mean(1).tolist()
    return CircuitScore(
        faithfulness(kept, full, empty),
        faithfulness(complement, full, empty),
        torch.tensor([faithfulness(value, full, empty) for value in rest]),
        *values[:3],
    )


def _ablated(
    model: TransformerBridge,
    batch: TokenBatch,
    metric: Metric,
    circuits: Sequence[Sequence[Head]],
    replacement: Float[Tensor, "layer batch pos head d_head"],
    *,
    progress: bool = False,
) -> Float[Tensor, "circuit batch"]:
    """The metric with all heads but one circuit's replaced, for many circuits."""
    require_eval(model)
    check_tokens(metric, batch, int(model.cfg.d_vocab))
    kept = torch.zeros(len(circuits), int(model.cfg.n_layers), int(model.cfg.n_heads), dtype=torch.bool)
    for i, circuit in enumerate(circuits):
        for layer, head in circuit:
            if not (0 <= layer < kept.shape[1] and 0 <= head < kept.shape[2]):
                raise ValueError(f"There is no head {(layer, head)}: {kept.shape[1]} layers × {kept.shape[2]} heads.")
            kept[i, layer, head] = True
    kept = kept.to(batch.tokens.device)
    values: list[Tensor] = []
    with torch.no_grad(), tqdm(total=len(circuits), desc="Circuits", disable=not progress, unit="circuit") as bar:
        decoder = open_model(model, batch)
        if decoder is None:
            names = [hook_name(model, "z", layer) for layer in range(kept.shape[1])]
            for circuit in kept:
                pairs = [(n, _replace(replacement[i], circuit[i])) for i, n in enumerate(names)]
                values.append(measure(metric, last_logits(model, batch, pairs), batch))
                bar.update()
            return torch.stack(values)
        bytes_per_circuit = batch.tokens.numel() * decoder.floats_per_token * replacement.element_size()
        step = max(1, RUN_BYTES // bytes_per_circuit)
        for low in range(0, len(circuits), step):
            part = kept[low : low + step]
            finals = _run(decoder, batch, part, replacement)
            if isinstance(metric, TokenMetric):
                logits = decoder.logits_of(finals, metric.tokens.to(finals.device))
                values += [check_values(row, batch) for row in metric.of(logits)]
            else:
                values += [measure(metric, decoder.logits(final), batch) for final in finals]
            bar.update(len(part))
    return torch.stack(values)


def _run(
    decoder: Decoder,
    batch: TokenBatch,
    kept: Bool[Tensor, "circuit layer head"],
    replacement: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, "circuit batch d_model"]:
    base = decoder.trace(batch)
    finals = base.pre[-1].new_zeros(len(kept), len(batch), base.pre[-1].shape[-1])
    # Until the first head that it keeps a circuit is the empty one, until the first that it lacks the whole model: it
    # starts where it leaves the one that it follows for longer.
    first_kept, first_lacking = _first(kept.any(2)), _first(~kept.all(2))
    begins, empty = torch.maximum(first_kept, first_lacking), [base.pre[0]]
    for layer in range(int(first_kept.max())):
        empty.append(decoder.apply_mlp(layer, empty[-1] + decoder.write(layer, replacement[layer])))

    def starts(layer: int, stage: str) -> Iterator[PatchedRuns]:
        if stage != "pre":
            return
        for follows, streams in ((first_kept >= first_lacking, empty), (first_kept < first_lacking, base.pre)):
            which = ((begins == layer) & follows).nonzero()[:, 0]
            if len(which) == 0:
                continue
            for start, end, prompts in group_by_span(batch.mask.int().argmax(1), batch.last + 1):
                cells, rows = which.repeat_interleave(len(prompts)), prompts.repeat(len(which))
                yield PatchedRuns(start, end, cells, rows, streams[layer][rows, start:end])

    run_patched(decoder, base, starts, finals, edit=_ReplaceHeads(kept, replacement))
    return finals


def _first(true: Bool[Tensor, "circuit layer"]) -> Int[Tensor, " circuit"]:
    """The first layer in which it is true, and the number of layers where there is none."""
    return torch.where(true.any(1), true.int().argmax(1), true.shape[1])


class _ReplaceHeads:
    """Replaces the outputs of the heads outside each circuit."""

    def __init__(self, kept: Bool[Tensor, "circuit layer head"], replacement: Tensor) -> None:
        self.kept, self.replacement = kept, replacement

    def heads(self, layer: int, runs: PatchedRuns, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v

    def z(self, layer: int, runs: PatchedRuns, z: Float[Tensor, "run pos head d_head"]) -> Tensor:
        new = self.replacement[layer][runs.prompts, runs.end - z.shape[1] : runs.end]
        return torch.where(self.kept[runs.cells, layer][:, None, :, None], z, new)


def _replace(new: Float[Tensor, "batch pos head d_head"], kept: Bool[Tensor, " head"]) -> Any:
    def hook(z: Tensor, hook: Any) -> Tensor:
        return torch.where(kept[None, None, :, None], z, new)

    return hook


def _all_z(model: TransformerBridge, batch: TokenBatch) -> Float[Tensor, "layer batch pos head d_head"]:
    names = [hook_name(model, "z", layer) for layer in range(int(model.cfg.n_layers))]
    recorded = activations(model, batch, names)
    return torch.stack([recorded[name] for name in names])


def _replacement(
    model: TransformerBridge, batch: TokenBatch, means: Means
) -> Float[Tensor, "layer batch pos head d_head"]:
    cfg = model.cfg
    shape = (int(cfg.n_layers), *batch.tokens.shape, int(cfg.n_heads), int(cfg.d_head))
    if means.ndim == 4:
        means = means[:, None].expand(-1, len(batch), -1, -1, -1)
    if tuple(means.shape) != shape:
        raise ValueError(
            f"means have shape {tuple(means.shape)} (layer, batch, pos, head, d_head), expected {shape}: take them "
            f"over prompts as long as prompt 0 ({batch.texts[0]!r})."
        )
    return means.to(batch.tokens.device)
