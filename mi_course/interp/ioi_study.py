"""Measurements of lesson 03 that need no code of the learner's, or take it as an argument.

The prompts come in pairs: those of even number name the indirect object (IO) first, the others second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.heads import named
from mi_course.interp.ioi import (
    NAME_PAIRS,
    STRONGEST,
    HeadProfile,
    after_first_layer,
    head_profile,
    random_scores,
    record,
    z_and_gradient,
)
from mi_course.interp.models import load_native
from mi_course.interp.patching import (
    TokenMetric,
    path_patching,
    sweep_keys,
    sweep_patterns,
    sweep_queries,
    sweep_residual,
    sweep_values,
)
from mi_course.interp.prompts import word_ids

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching import Sweep
    from mi_course.interp.patching.metrics import Metric
    from mi_course.interp.prompts import Prompts

    Head = tuple[int, int]

ORDERS = (slice(None), slice(0, None, 2), slice(1, None, 2))
"""All prompts, those with the indirect object first (ABB), and those with it second (ABA)."""


FORMS = {
    "B repeated and latest": "When {A} and {B} went to the store, {B} gave a drink to",
    "nobody repeated, C latest": "When {A} and {B} went to the store, {C} gave a drink to",
    "A repeated, C latest": "When {A} and {B} met {A}'s friends at the store, {C} gave a drink to",
    "B repeated, C latest": "When {A} and {B} met {B}'s friends at the store, {C} gave a drink to",
    "B repeated and acting, C latest": "When {A} and {B} went to the store, {B}, who knew {C}, gave a drink to",
    "B repeated and latest, C acting": "When {A} and {B} went to the store, {C}, who knew {B}, gave a drink to",
}
"""Templates that tell a repeated name from the latest one, and from the one who acts."""


def share(value: float, before: Float[Tensor, " prompt"], after: Float[Tensor, " prompt"]) -> float:
    """How far a mean lies on the way from that of `before` to that of `after`."""
    return float((value - before.mean()) / (after - before).mean())


def directions(model: TransformerBridge, answers: Int[Tensor, "prompt 2"]) -> Float[Tensor, "prompt d_model"]:
    """For each prompt the direction in the normed final stream that reads right minus wrong."""
    right, wrong = (model.W_U.detach().T[column] for column in answers.T)
    return right - wrong


def by_order(values: Float[Tensor, "*any prompt"]) -> Tensor:  # [3, *any]
    """Means over all prompts, over those with the indirect object first, and over those with it second."""
    return torch.stack([values[..., rows].mean(-1) for rows in ORDERS])


def by_place(values: Float[Tensor, "layer pos"], subject_at: int, end: int) -> Float[Tensor, "layer 3"]:
    """The effects at the second subject and at the end, and the largest size of one at any other position."""
    elsewhere = values[:, [at for at in range(end) if at != subject_at]].abs().amax(1)
    return torch.stack([values[:, subject_at], values[:, end], elsewhere], dim=1)


def likeliest(model: TransformerBridge, prompt: str, k: int = 3) -> str:
    """The k likeliest next tokens and their probabilities, in words."""
    with torch.no_grad():
        top = model(model.to_tokens(prompt))[0, -1].softmax(-1).topk(k)
    return ", ".join(f"{model.tokenizer.decode(t)!r} {p:.2f}" for t, p in zip(top.indices, top.values, strict=True))


def against_engine(residual_sweep: Callable[..., Float[Tensor, "layer pos"]]) -> float:
    """The largest difference between this function and the engine, in logits, on a small model and random tokens."""
    model, generator = load_native("tiny-induction"), torch.Generator().manual_seed(0)
    one, other = (torch.randint(1, 64, (4, 7), generator=generator) for _ in range(2))
    metric = TokenMetric(torch.tensor([[5, 9]] * 4), lambda two: two[..., 0] - two[..., 1])
    with torch.no_grad():
        _, cache = model.run_with_cache(one)
    mine = residual_sweep(model, other, cache, lambda logits: metric(logits[:, -1]).mean().item())
    exact = sweep_residual(model, one, other, metric, progress=False).per_prompt.mean(-1)
    return float((mine - exact).abs().max())


def sweep_parts(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, metric: Metric, layers: Sequence[int]
) -> dict[str, Float[Tensor, "layer head"]]:
    """The effect of patching each head's query, key, value or pattern; keys and values repeated for their heads."""
    sweeps = {"query": sweep_queries, "key": sweep_keys, "value": sweep_values, "pattern": sweep_patterns}
    tables = {}
    for part, function in sweeps.items():
        values = function(model, clean, corrupted, metric, layers=layers, progress=False).values
        tables[part] = values.repeat_interleave(int(model.cfg.n_heads) // values.shape[1], dim=1)
    return tables


def copying_scores(
    model: TransformerBridge,
    copying_score: Callable[..., float],
    names: Int[Tensor, " name"],
    heads: Sequence[Head],
    k: int = 5,
) -> dict[Head, list[float]]:
    """For each head the share of names that it writes up, and that it writes down, when it reads nothing but them.

    copying_score: the lesson's; the opposite is that of −W_O.
    """
    x, scores = after_first_layer(model, names), {}
    with torch.no_grad():
        for layer, head in heads:
            attn = model.blocks[layer].attn
            W_V = attn.W_V[head * attn.W_V.shape[0] // int(model.cfg.n_heads)]  # three query heads share a value
            scores[layer, head] = [
                copying_score(x, W_V, sign * attn.W_O[head], model.W_U, names, k) for sign in (1, -1)
            ]
    return scores


def three_names(
    model: TransformerBridge, template: str, head: Head, pairs: Sequence[tuple[str, str]] = NAME_PAIRS
) -> tuple[dict[str, Float[Tensor, " triple"]], HeadProfile]:
    """For prompts with the names A, B and, where the template has it, C: each name's logit, and what this head does.

    Logits are above the mean of all names. C is a name of another pair.
    """
    n = len(pairs)
    triples = [(a, b, pairs[(i + 5) % n][i % 2]) for i, (a, b) in enumerate(pairs)]
    roles = {
        role: torch.tensor(word_ids(model, column))
        for role, column in zip("ABC", zip(*triples, strict=True), strict=True)
        if "{" + role + "}" in template
    }
    tokens = model.to_tokens([template.format(A=a, B=b, C=c) for a, b, c in triples])
    logits, cache = record(model, tokens)
    everyone = torch.tensor(word_ids(model, [name for pair in pairs for name in pair]))
    mean = logits[:, -1, everyone].mean(-1)
    above = {role: logits[range(n), -1, ids] - mean for role, ids in roles.items()}
    return above, head_profile(model, cache, tokens, roles, head)


def paths_into(
    model: TransformerBridge,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric,
    receiver: Head,
    part: str,
    *,
    n: int = 3,
    least: float = 0.02,
) -> list[tuple[Head, float]]:
    """The n heads that send most into this part of the receiver, and how much, without those below `least`."""
    sweep = path_patching(model, clean, corrupted, metric, receivers=[receiver], part=part, progress=False)
    return [((head[0], head[1]), value) for head, value in sweep.top(n) if abs(value) >= least]


def first_orders(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    mean: Float[Tensor, "layer pos head d_head"],
    attribution_patching: Callable[..., Float[Tensor, "layer head"]],
) -> list[Float[Tensor, "layer head"]]:
    """What is lost by setting each head to its mean, to first order: on all prompts and on those of each order.

    attribution_patching: the lesson's.
    """
    z, gradient = z_and_gradient(model, tokens, metric)
    to_mean = mean[:, None].expand_as(z)
    # The gradient is that of a mean over all prompts: for half of them twice as much.
    return [
        len(tokens) / len(tokens[rows]) * attribution_patching(to_mean[:, rows], z[:, rows], gradient[:, rows])
        for rows in ORDERS
    ]


def run_without(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    head: Head,
    mean: Float[Tensor, "layer pos head d_head"],
    mean_ablate: Callable[..., Tensor],
) -> tuple[Float[Tensor, "batch pos vocab"], Mapping[Any, Tensor]]:
    """Logits and cache, as `record` gives them, when one head is set to its mean by the lesson's hook."""
    layer, number = head
    keep = [other for other in range(int(model.cfg.n_heads)) if other != number]
    hook = partial(mean_ablate, mean=mean[layer], keep=keep)
    return record(model, tokens, [(f"blocks.{layer}.attn.hook_z", hook)])


def repair_of_parts(changes: Float[Tensor, " part"], norm: float, head: Head, n_heads: int = 9) -> dict[str, Any]:
    """What `self_repair` returned, added up: the head's own part, other heads, MLPs, norm; `who`: [layer, head].

    changes: of every head, every MLP and the embedding, as in `parts_at_end`.
    """
    n_layers = (len(changes) - 1) // (n_heads + 1)
    who = changes[: n_layers * n_heads].view(n_layers, n_heads).clone()
    own, who[head] = float(who[head]), 0.0
    mlps = float(changes[n_layers * n_heads :].sum())
    return {"own": own, "heads": float(who.sum()), "MLPs": mlps, "norm": float(norm), "who": who}


def draw_circuit(
    heads: Sequence[Head],
    copying: Mapping[Head, Sequence[float]],
    straight: Mapping[Head, float],
    edges: Sequence[tuple[Head, Head, float]],
    *,
    n_layers: int = 30,
    least: float = 0.02,
    **words: str,
) -> Any:
    """The circuit as a graph. straight: each head's path to the logits. edges: (sender, receiver, value)."""
    from mi_course.show import graph

    def role(head: Head) -> str:
        if copying[head][1] > 0.5:
            return "suppresses names"
        if copying[head][0] > 0.5:
            return "moves the name it looks at"
        if abs(straight[head]) < least:
            return "acts through other heads"
        return "raises the answer" if straight[head] > 0 else "lowers the answer"

    arrows = [(named(s), named(r), value) for s, r, value in edges if {s, r} <= set(heads)]
    arrows += [(named(head), "logits", straight[head]) for head in heads if abs(straight[head]) >= least]
    nodes = [{"id": named(head), "layer": head[0], "role": role(head)} for head in heads]
    return graph([*nodes, {"id": "logits", "layer": n_layers}], arrows, weight_name="share of the effect", **words)


def draw_positions(sweeps: Mapping[str, Sweep], tokens: Sequence[str], since: int) -> Any:
    """Sweeps by layer and position beside each other, from one position on."""
    from mi_course.show import heatmaps

    return heatmaps(
        {name: sweep.values[:, since:] for name, sweep in sweeps.items()},
        x=tokens[since:],
        y=range(len(next(iter(sweeps.values())).values)),
        xlabel="position (first prompt)",
        ylabel="layer",
        title="The effect of patching one layer at one position",
        unit="share of the effect",
        caption="At earlier positions both runs are the same, so every effect there is 0.",
        down=False,
    )


def draw_parts(tables: Mapping[str, Float[Tensor, "layer head"]], layers: Sequence[int], caption: str) -> Any:
    """What `sweep_parts` found, beside each other."""
    from mi_course.show import heatmaps

    return heatmaps(
        tables,
        x=range(len(next(iter(tables.values()))[0])),
        y=layers,
        xlabel="head",
        ylabel="layer",
        title="One head's query, key, value or pattern from the clean run",
        unit="share of the effect",
        caption=caption,
        down=False,
    )


def faithfulness_by_size(sizes: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Any:
    """A table of faithfulness on held-out prompts, below the best of ten random sets without and with `STRONGEST`."""
    from mi_course.show import table

    best = [[random_scores()[n][i][-1] for n in sizes] for i in (0, 1)]
    rows = {"random, best of ten": best[0], f"with {named(STRONGEST)}": best[1]} | dict(curves)
    columns = [f"{n} head{'s' * (n > 1)}" for n in sizes]
    return table(rows, columns, title="Faithfulness, held out")


def draw_sizes(sizes: Sequence[int], curves: Mapping[str, Any], title: str) -> Any:
    """Faithfulness against the number of heads, on held-out prompts; bands as `chance_bands` gives them."""
    from mi_course.show import lines

    return lines(
        sizes,
        curves,
        xlabel="number of heads",
        ylabel="faithfulness on held-out prompts",
        title=title,
        caption="1 is the whole model. Bands: lowest and highest of ten random sets, and their median.",
    )
