"""Attribution patching: the effect of every patch estimated from gradients, in a few passes instead of hundreds.

First order: (source − base) · ∂metric/∂activation, with the gradient at the run that is patched into (Nanda 2023; Syed
et al. 2023; Kramár et al. 2024 show where it fails, for example behind a saturated softmax). Integrated gradients
average the gradient over points on the straight line from base to source, and so follow some of the curvature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.patching.hook_backend import activations, hook_name, last_logits
from mi_course.interp.patching.metrics import check_tokens, measure
from mi_course.interp.patching.pairs import read_pair
from mi_course.interp.patching.results import Sweep, make_sweep

if TYPE_CHECKING:
    from jaxtyping import Bool
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.prompts import Prompts, TokenBatch

_BY_HEAD = ("z", "q", "k", "v")
_BY_COLUMN = ("resid_pre", "resid_post", "attn_out", "mlp_out")


def attribution_patching(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    activation: str = "z",
    *,
    direction: str = "denoising",
    by_position: bool = False,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Sweep:
    """First-order estimate of a sweep, labeled and normalized as the sweep is: one backward pass at the base run.

    activation: z, q, k, v (layer × head, summed over positions unless `by_position`), resid_pre, resid_post, attn_out
    or mlp_out (layer × position). Denoising takes the gradient at the corrupted run. Raises as `sweep` does.
    """
    return _estimate(model, clean, corrupted, metric, activation, 0, direction, by_position, mask)


def integrated_gradients(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    activation: str = "z",
    *,
    steps: int = 5,
    direction: str = "denoising",
    by_position: bool = False,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> Sweep:
    """As `attribution_patching`, with the gradient averaged over `steps` points between the base run and the source.

    Each layer is moved by itself (all its heads and positions at once), and later layers are computed from it: layers ×
    steps backward passes. The points are midpoints of equal intervals, so a quadratic metric is integrated exactly.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1.")
    return _estimate(model, clean, corrupted, metric, activation, steps, direction, by_position, mask)


def _estimate(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    activation: str,
    steps: int,
    direction: str,
    by_position: bool,
    mask: Bool[Tensor, "batch pos"] | None,
) -> Sweep:
    """steps: 0 takes the gradient at the base run itself."""
    if activation not in (*_BY_HEAD, *_BY_COLUMN):
        raise ValueError(f"activation is {activation!r}, expected one of {', '.join((*_BY_HEAD, *_BY_COLUMN))}.")
    base, source = read_pair(model, clean, corrupted, mask).base_and_source(direction)
    check_tokens(metric, base, int(model.cfg.d_vocab))
    names = [hook_name(model, activation, layer) for layer in range(int(model.cfg.n_layers))]
    old, new = activations(model, base, names), activations(model, source, names)
    if steps == 0:
        gradients = _gradients(model, base, metric, names, {})
    else:
        gradients = {}
        for name in names:
            total = torch.zeros_like(old[name])
            for step in range(steps):
                point = old[name] + (step + 0.5) / steps * (new[name] - old[name])
                total += _gradients(model, base, metric, [name], {name: point})[name]
            gradients[name] = total / steps
    effects = torch.stack([(new[n] - old[n]) * gradients[n] for n in names])  # layer batch pos (head) d
    effects = (effects * base.mask.reshape(1, *base.mask.shape, *(1 for _ in range(effects.ndim - 3)))).sum(-1)
    axes = {"layer": [str(layer) for layer in range(len(names))]}
    if activation in _BY_HEAD:
        grouped = effects.shape[-1] != int(model.cfg.n_heads)
        effects = effects.moveaxis(1, -1) if by_position else effects.sum(2).moveaxis(1, -1)
        if by_position:
            axes["position"] = list(base.labels)
        axes["key/value head" if grouped else "head"] = [str(h) for h in range(effects.shape[-2])]
    else:
        effects = effects.moveaxis(1, -1)
        axes["position"] = list(base.labels)
    with torch.no_grad():
        before, after = (measure(metric, last_logits(model, batch), batch) for batch in (base, source))
    return make_sweep(
        before + effects,
        before,
        after,
        axes=tuple(axes),
        names=tuple(tuple(labels) for labels in axes.values()),
        title=f"Attribution patching of {activation}" if steps == 0 else f"Integrated gradients of {activation}",
        direction=direction,
        prompts=base.texts,
    )


def _gradients(
    model: TransformerBridge, batch: TokenBatch, metric: Metric, names: list[str], points: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Gradient of the metric, summed over prompts, at these activations, some of them set to a point first."""
    values: dict[str, Tensor] = {}

    def set_and_record(name: str) -> Any:
        def hook(value: Tensor, hook: Any) -> Tensor:
            value = points[name].clone() if name in points else value.clone()
            if not value.requires_grad:
                value.requires_grad_()
            values[name] = value
            return value

        return hook

    with torch.enable_grad():
        total = measure(metric, last_logits(model, batch, [(n, set_and_record(n)) for n in names]), batch).sum()
        if not total.requires_grad:
            raise ValueError("The metric's value has no gradient: compute it from the logits with torch operations.")
        gradients = torch.autograd.grad(total, [values[name] for name in names])
    return dict(zip(names, gradients, strict=True))
