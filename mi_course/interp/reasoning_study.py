"""Experiments of lesson 12 on models that write before they answer, and their pictures. The models: `reasoning.py`.

Each function is one experiment or one picture; what is drawn or compared is passed in.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.reasoning import EVEN, ODD, answers, p_yes, spelling, turn, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.containers import Layout


@torch.no_grad()
def chain_log_probs(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], layout: Layout
) -> Float[Tensor, " batch"]:
    """Log probability, in nats, that this model writes the steps of each chain, as against other steps."""
    logits = model(chains)[:, layout.first_step - 1 : layout.question - 1, [*EVEN, *ODD]]
    written = chains[:, layout.steps.start : layout.steps.stop] - EVEN[0]
    return logits.log_softmax(-1).gather(-1, written[..., None])[..., 0].sum(-1)


@torch.no_grad()
def coin_steps(
    model: TransformerBridge,
    chain: Int[Tensor, " pos"],
    step: int,
    layout: Layout,
    *,
    samples: int = 32,
    seed: int = 0,
    temperature: float = 1.0,
) -> Int[Tensor, "sample pos"]:
    """One step of a chain is drawn by a coin, in its old spelling; the model goes on from there."""
    generator = torch.Generator().manual_seed(seed)
    chains = chain.repeat(samples, 1)
    turned = turn(chains, [layout.steps[step]])
    heads = torch.rand(samples, generator=generator) < 0.5
    chains = torch.where(heads[:, None], turned, chains)
    return write(model, chains, layout, start=step + 1, seed=seed, temperature=temperature)


@torch.no_grad()
def answers_without(
    model: TransformerBridge,
    chains: Int[Tensor, "batch pos"],
    hook: Callable[..., Any],
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    renormalize: bool = True,
) -> Int[Tensor, " batch"]:
    """Answers while these queries cannot attend to these keys, in every layer and head.

    hook: called with pattern, hook, queries, keys and renormalize; returns the new pattern.
    """
    cut = partial(hook, queries=list(queries), keys=list(keys), renormalize=renormalize)
    with model.hooks([(f"blocks.{layer}.attn.hook_pattern", cut) for layer in range(model.cfg.n_layers)]):
        return answers(model, chains)


@torch.no_grad()
def patch_answers(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], source: Int[Tensor, "batch pos"]
) -> Float[Tensor, "layer+1 pos"]:
    """Where the answer is decided: the share of answers that become those of the source chains.

    The residual stream at one position, in front of each layer and after the last, is replaced by that of the source
    chains. Only prompts count on which the two answers differ; NaN if there are none.
    """
    before, wanted = answers(model, chains), answers(model, source)
    differ = before != wanted
    n_layers, n_pos = model.cfg.n_layers, chains.shape[1]
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    names.append(f"blocks.{n_layers - 1}.hook_resid_post")
    _, cache = model.run_with_cache(source[differ], names_filter=lambda name: name in names)
    grid = torch.full((n_layers + 1, n_pos), float("nan"))
    if differ.any():
        for row, name in enumerate(names):
            for pos in range(n_pos):

                def put(resid: Tensor, hook: Any, pos: int = pos, stored: Tensor = cache[name]) -> Tensor:
                    resid[:, pos] = stored[:, pos]
                    return resid

                with model.hooks([(name, put)]):
                    moved = answers(model, chains[differ]) == wanted[differ]
                grid[row, pos] = moved.float().mean()
    return grid


@torch.no_grad()
def step_patterns(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], layout: Layout
) -> Float[Tensor, "layer head query key"]:
    """Attention from written steps to written steps, mean over the chains."""
    _, cache = model.run_with_cache(chains, names_filter=lambda name: name.endswith("attn.hook_pattern"))
    steps = slice(layout.steps.start, layout.steps.stop)
    return torch.stack([cache["pattern", layer][:, :, steps, steps].mean(0) for layer in range(model.cfg.n_layers)])
