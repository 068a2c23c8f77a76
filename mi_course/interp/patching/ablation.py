"""Circuits: run the model with everything outside a set of heads ablated, and say how much of its behaviour is left.

Which mean stands in for a head decides what is measured (Zhang and Nanda 2023; lesson 03 shows it): means over prompts
that differ from these in nothing but what the circuit is about. MLPs are left to compute; only heads are ablated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.patching.batched_forward import PatchedRuns, run_patched
from mi_course.interp.patching.decoder import open_model
from mi_course.interp.patching.hook_backend import activations, hook_name, last_logits
from mi_course.interp.patching.lesson_forms import faithfulness
from mi_course.interp.patching.metrics import TokenMetric, check_tokens, checked, measure
from mi_course.interp.patching.patch_grid import BYTES
from mi_course.interp.patching.prompts import read_prompts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.decoder import Decoder
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.patching.prompts import Batch, Prompts

    Head = tuple[int, int]
    # One mean for all prompts, or one for each.
    Means = Float[Tensor, "layer pos head d_head"] | Float[Tensor, "layer batch pos head d_head"]


def head_means(
    model: TransformerBridge, prompts: Prompts, mask: Bool[Tensor, "batch pos"] | None = None
) -> Float[Tensor, "layer pos head d_head"]:
    """Mean of every head's z over these prompts, at each column; padding is left out of it.

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
    """The metric of each prompt when all heads but those in `keep` give their mean at each position.

    means: from `head_means`, or one set for each prompt (layer batch pos head d_head) where templates are mixed.
    """
    batch = read_prompts(model, prompts, mask)
    return _ablated(model, batch, metric, [keep], _stand_in(model, batch, means))[0]


def resample_ablation(
    model: TransformerBridge,
    prompts: Prompts,
    metric: Metric,
    *,
    keep: Sequence[Head],
    source: Prompts,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, " batch"]:
    """The metric of each prompt when all heads but those in `keep` give what they give on its `source` prompt.

    Prompts and sources are as long as each other, one by one; ValueError, naming the prompt, if not.
    """
    batch, other = read_prompts(model, prompts, mask), read_prompts(model, source, mask)
    if batch.tokens.shape != other.tokens.shape or not torch.equal(batch.mask, other.mask):
        pairs = zip(batch.mask.sum(1).tolist(), other.mask.sum(1).tolist(), strict=False)
        i = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(batch.texts), len(other.texts)) - 1)
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
    """How much of the model's behaviour a circuit has.

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

    Raises ValueError if the ablation of all heads leaves the metric's mean as it was.
    """
    batch = read_prompts(model, prompts, mask)
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    outside = sorted(set(every) - set(map(tuple, circuit)))
    others = random_circuits(model, len(set(map(tuple, circuit))), random, seed=seed)
    circuits = [circuit, every, [], outside, *others]
    values = _ablated(model, batch, metric, circuits, _stand_in(model, batch, means), progress=progress)
    found, full, empty, complement, *rest = values.mean(1).tolist()
    return CircuitScore(
        faithfulness(found, full, empty),
        faithfulness(complement, full, empty),
        torch.tensor([faithfulness(value, full, empty) for value in rest]),
        *values[:3],
    )


def _ablated(
    model: TransformerBridge,
    batch: Batch,
    metric: Metric,
    circuits: Sequence[Sequence[Head]],
    stand_in: Float[Tensor, "layer batch pos head d_head"],
    *,
    progress: bool = False,
) -> Float[Tensor, "circuit batch"]:
    """The metric with all heads but one circuit's replaced, for many circuits."""
    from tqdm.auto import tqdm

    if model.training:
        raise ValueError("The model is in training mode, in which dropout would blur every effect: model.eval() first.")
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
                pairs = [(n, _replace(stand_in[i], circuit[i])) for i, n in enumerate(names)]
                values.append(measure(metric, last_logits(model, batch, pairs), batch))
                bar.update()
            return torch.stack(values)
        cfg = model.cfg
        width = 4 * int(cfg.d_model) + 3 * int(getattr(cfg, "d_mlp", None) or 0) + 3 * decoder.n_heads * decoder.d_head
        step = max(1, BYTES // (batch.tokens.numel() * width * stand_in.element_size()))
        for low in range(0, len(circuits), step):
            some = kept[low : low + step]
            finals = _run(decoder, batch, some, stand_in)
            if isinstance(metric, TokenMetric):
                few = decoder.some_logits(finals, metric.tokens.to(finals.device))
                values += [checked(row, batch) for row in metric.of(few)]
            else:
                values += [measure(metric, decoder.logits(final), batch) for final in finals]
            bar.update(len(some))
    return torch.stack(values)


def _run(
    decoder: Decoder,
    batch: Batch,
    kept: Bool[Tensor, "circuit layer head"],
    stand_in: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, "circuit batch d_model"]:
    base = decoder.trace(batch)
    finals = base.pre[-1].new_zeros(len(kept), len(batch.texts), base.pre[-1].shape[-1])

    def starts(layer: int, stage: str) -> Iterator[PatchedRuns]:
        if (layer, stage) != (0, "pre"):
            return
        begins = batch.mask.int().argmax(1)
        for start, end in sorted(set(zip(begins.tolist(), (batch.last + 1).tolist(), strict=True))):
            prompts = ((begins == start) & (batch.last == end - 1)).nonzero()[:, 0]
            cells = torch.arange(len(kept), device=prompts.device).repeat_interleave(len(prompts))
            prompts = prompts.repeat(len(kept))
            yield PatchedRuns(start, end, cells, prompts, base.pre[0][prompts, start:end])

    run_patched(decoder, base, starts, finals, edit=_StandIns(kept, stand_in))
    return finals


class _StandIns:
    """Replaces what the heads outside a circuit give."""

    def __init__(self, kept: Bool[Tensor, "circuit layer head"], stand_in: Tensor) -> None:
        self.kept, self.stand_in = kept, stand_in

    def heads(self, layer: int, runs: PatchedRuns, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v

    def z(self, layer: int, runs: PatchedRuns, z: Float[Tensor, "run pos head d_head"]) -> Tensor:
        new = self.stand_in[layer][runs.prompts, runs.end - z.shape[1] : runs.end]
        return torch.where(self.kept[runs.cells, layer][:, None, :, None], z, new)


def _replace(new: Float[Tensor, "batch pos head d_head"], kept: Bool[Tensor, " head"]) -> Any:
    def hook(z: Tensor, hook: Any) -> Tensor:
        return torch.where(kept[None, None, :, None], z, new)

    return hook


def _all_z(model: TransformerBridge, batch: Batch) -> Float[Tensor, "layer batch pos head d_head"]:
    names = [hook_name(model, "z", layer) for layer in range(int(model.cfg.n_layers))]
    found = activations(model, batch, names)
    return torch.stack([found[name] for name in names])


def _stand_in(model: TransformerBridge, batch: Batch, means: Means) -> Float[Tensor, "layer batch pos head d_head"]:
    cfg = model.cfg
    shape = (int(cfg.n_layers), *batch.tokens.shape, int(cfg.n_heads), int(cfg.d_head))
    if means.ndim == 4:
        means = means[:, None].expand(-1, len(batch.texts), -1, -1, -1)
    if tuple(means.shape) != shape:
        raise ValueError(
            f"means have shape {tuple(means.shape)} (layer, batch, pos, head, d_head), expected {shape}: take them "
            f"over prompts as long as prompt 0 ({batch.texts[0]!r})."
        )
    return means.to(batch.tokens.device)
