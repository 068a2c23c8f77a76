"""Experiments of lesson 08 on names and answers, and their pictures. Functions passed in are those a learner writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp import knowledge
from mi_course.interp.prompts import last_logits, pad, read_prompts, token_ids
from mi_course.interp.steering.controls import matched_controls, random_controls

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.knowledge import Name

LAYERS = [0, 4, 8, 12, 16, 20, 24, 28]


def by_layer(
    read: Mapping[str, Tensor],
    y: Bool[Tensor, " n"],
    folds: Sequence[Sequence[int]],
    fit: Callable[[Tensor, Tensor], tuple[Tensor, float]],
    area: Callable[[Tensor, Tensor], float],
) -> dict[str, float]:
    """AUROC on unseen rows of a probe of each set of activations."""
    return {name: area(knowledge.out_of_fold(x, y, folds, fit), y) for name, x in read.items()}


def choose_penalty(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    groups: Sequence[str],
    fit: Callable[..., tuple[Tensor, float]],
    folds_of: Callable[..., list[list[int]]],
    area: Callable[[Tensor, Tensor], float],
    penalties: Sequence[float] = (0.1, 1.0, 10.0),
    n_folds: int = 5,
) -> tuple[float, list[float]]:
    """Nested cross-validation: AUROC on unseen rows, and the penalty that was chosen inside each training part."""
    scores, chosen = torch.zeros(len(y)), []
    for fold in folds_of(list(groups), n_folds, 0):
        train = torch.ones(len(y), dtype=torch.bool)
        train[fold] = False
        rows = train.nonzero().flatten().tolist()
        inner = folds_of([groups[i] for i in rows], 4, 1)
        best = max(
            penalties,
            key=lambda l2: area(
                knowledge.out_of_fold(x[train], y[train], inner, lambda a, b: fit(a, b, l2)),
                y[train],
            ),
        )
        w, b = fit(x[train], y[train], best)
        scores[~train] = x[~train] @ w + b
        chosen.append(best)
    return area(scores, y), chosen


def next_word_entropy(
    model: TransformerBridge,
    people: Sequence[Name],
    vector: Float[Tensor, " d_model"],
    layer: int,
    ending: str = ", the famous",
) -> Float[Tensor, " name"]:
    """Entropy of the next token after each name and the ending, in nats; the vector is added at the last token of the
    name, after this layer."""
    texts = [knowledge.CONTEXT.format(person.name) for person in people]
    batch = read_prompts(model, [text + ending for text in texts], side="left")
    ends = torch.tensor([len(ids) for ids in token_ids(model, texts)])
    place = batch.tokens.shape[1] - batch.mask.sum(dim=1) + ends - 1
    rows = torch.arange(len(batch))

    def add(resid: Tensor, hook: Any) -> Tensor:
        resid[rows, place] += vector
        return resid

    with torch.no_grad(), model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", add)]):
        logprobs = last_logits(model, batch).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def effects(
    model: TransformerBridge,
    people: Sequence[Name],
    direction: Float[Tensor, " d_model"],
    activations: Float[Tensor, "name d_model"],
    layer: int,
    sign: int,
    n: int = 5,
) -> dict[str, list[float]]:
    """By how much the mean entropy of the next word changes, in nats: with the direction, random and matched ones."""
    before = next_word_entropy(model, people, 0 * direction, layer).mean()
    kinds = {
        "the direction": direction[None],
        "random": random_controls(direction, n, 0),
        "matched": matched_controls(direction, activations, n, 0),
    }
    return {
        kind: [float(next_word_entropy(model, people, sign * each, layer).mean() - before) for each in rows]
        for kind, rows in kinds.items()
    }


def attention_to_name(
    model: TransformerBridge, people: Sequence[Name], ending: str = ", the famous"
) -> Float[Tensor, "name layer head"]:
    """Attention from the last token of the prompt to all tokens of the name."""
    found = []
    before = len(token_ids(model, [knowledge.CONTEXT.format("").rstrip()])[0])
    for person in people:
        text = knowledge.CONTEXT.format(person.name)
        end = len(token_ids(model, [text])[0])
        tokens = torch.tensor(token_ids(model, [text + ending]))
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
        patterns = torch.stack([cache["pattern", layer][0] for layer in range(model.cfg.n_layers)])
        found.append(patterns[:, :, -1, before:end].sum(-1))
    return torch.stack(found)


def neurons(model: TransformerBridge, people: Sequence[Name], layer: int) -> Float[Tensor, "name neuron"]:
    """The MLP's neurons at each name's last token."""
    tokens, mask = pad(token_ids(model, [knowledge.CONTEXT.format(person.name) for person in people]), "right")
    name = f"blocks.{layer}.mlp.hook_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    return cache[name][torch.arange(len(tokens)), mask.sum(dim=1) - 1]


def fit_temperature(logits: Float[Tensor, " n"], labels: Bool[Tensor, " n"]) -> float:
    """The temperature T for which sigmoid(logits / T) has the least log loss, from 0.05 to 20."""
    temperatures = torch.logspace(-1.3, 1.3, 400)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[None] / temperatures[:, None], labels.float().expand(400, -1), reduction="none"
    ).mean(dim=1)
    return float(temperatures[losses.argmin()])


def resampled(
    measure: Callable[[Tensor, Tensor], float], confidence: Tensor, correct: Tensor, n: int = 200, seed: int = 0
) -> Float[Tensor, " n"]:
    """A measure on n samples of the questions, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(correct), (n, len(correct)), generator=generator)
    return torch.tensor([measure(confidence[i], correct[i]) for i in draws])


def draw_layers(depths: Sequence[float], areas: Mapping[str, Sequence[float]], title: str) -> Any:
    """AUROC by layer; the embedding stands at -1."""
    from mi_course.show import lines

    return lines(depths, areas, xlabel="layer (−1: embedding)", ylabel="AUROC on unseen names", title=title)


def draw_risk(curves: Mapping[str, tuple[Tensor, Tensor]]) -> Any:
    """Risk at each coverage, on a common grid."""
    from mi_course.show import lines

    grid = torch.linspace(0.1, 1.0, 46)
    series = {}
    for name, (coverage, risk) in curves.items():
        places = torch.searchsorted(coverage.contiguous(), grid).clamp(max=len(coverage) - 1)
        series[name] = risk[places]
    return lines(
        grid, series, xlabel="share of questions answered", ylabel="share of wrong ones", title="Risk and coverage"
    )
