"""A few heads: the exact effect of each, its effect with all attention held, and the slope along the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.patching.ablation import ablate_each
from mi_course.interp.patching.hook_backend import activations, hook_name, last_logits
from mi_course.interp.patching.metrics import check_tokens, measure
from mi_course.interp.patching.pairs import read_pair
from mi_course.interp.patching.results import Sweep, make_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.prompts import Prompts

    Head = tuple[int, int]


def patch_heads(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, heads: Sequence[Head]
) -> Sweep:
    """Patch z of each of these heads from the clean run into the corrupted one: `sweep_heads` for a few heads.

    The result has one axis, "head", in the order given. Raises as `sweep` does.
    """
    base, source = read_pair(model, clean, corrupted, None).base_and_source("denoising")
    names = [hook_name(model, "z", layer) for layer in range(int(model.cfg.n_layers))]
    with torch.no_grad():
        z = activations(model, source, names)
        per_prompt = ablate_each(
            model, base.tokens, metric, heads, means=torch.stack([z[n] for n in names]), mask=base.mask
        )
        before, after = (measure(metric, last_logits(model, batch), batch) for batch in (base, source))
    return make_sweep(
        per_prompt,
        before,
        after,
        axes=("head",),
        names=(tuple(f"{layer}.{head}" for layer, head in heads),),
        title="Some heads",
        direction="denoising",
        prompts=base.texts,
    )


def attention_held(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, heads: Sequence[Head]
) -> list[float]:
    """The effect of patching each head's z while every head looks where it looked in the corrupted run.

    Normalized as a sweep is: 1 is as much as exchanging the whole prompt. Raises as `sweep` does.
    """
    base, source = read_pair(model, clean, corrupted, None).base_and_source("denoising")
    check_tokens(metric, base, int(model.cfg.d_vocab))
    patterns = [hook_name(model, "pattern", block) for block in range(int(model.cfg.n_layers))]
    names = {head: hook_name(model, "z", head[0]) for head in heads}
    effects = []
    with torch.no_grad():
        held, new = activations(model, base, patterns), activations(model, source, sorted(set(names.values())))
        before, after = (measure(metric, last_logits(model, batch), batch).mean() for batch in (base, source))

        def hold(value: Tensor, hook: Any) -> Tensor:
            return held[hook.name].clone()

        for (_, number), name in names.items():

            def put(value: Tensor, hook: Any, number: int = number, name: str = name) -> Tensor:
                value = value.clone()
                value[:, :, number] = new[name][:, :, number]
                return value

            hooks = [*((pattern, hold) for pattern in patterns), (name, put)]
            patched = measure(metric, last_logits(model, base, hooks), base).mean()
            effects.append(float((patched - before) / (after - before)))
    return effects


def slopes(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, head: Head, *, steps: int = 4
) -> list[float]:
    """The first-order estimate of this head's patch at points on the way from its corrupted to its clean output.

    The points are midpoints of `steps` equal intervals, this head alone moved. Their mean is the integrated gradient
    (Sundararajan et al. 2017) and comes close to the exact effect; if they differ, the path is curved, and the
    estimate at its start is wrong. Normalized as a sweep is.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1.")
    base, source = read_pair(model, clean, corrupted, None).base_and_source("denoising")
    check_tokens(metric, base, int(model.cfg.d_vocab))
    layer, number = head
    name = hook_name(model, "z", layer)
    with torch.no_grad():
        old, new = (activations(model, batch, [name])[name][:, :, number] for batch in (base, source))
        before, after = (measure(metric, last_logits(model, batch), batch).mean() for batch in (base, source))
    values = []
    for step in range(steps):
        moved: dict[str, Tensor] = {}

        def move(value: Tensor, hook: Any, share: float = (step + 0.5) / steps, moved: Any = moved) -> Tensor:
            value = value.detach().clone()
            value[:, :, number] = old + share * (new - old)
            moved["z"] = value.requires_grad_()
            return moved["z"]

        with torch.enable_grad():
            total = measure(metric, last_logits(model, base, [(name, move)]), base).mean()
            (gradient,) = torch.autograd.grad(total, [moved["z"]])
        values.append(float((gradient[:, :, number] * (new - old)).sum() / (after - before)))
    return values
