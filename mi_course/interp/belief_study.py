"""Experiments of lesson 13, part A: are beliefs in a stream, are they more than the next token asks for, are they used?

The models were trained to predict tokens 2 to 10 of a string, so their streams are read at positions 0 to 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.models.native import load_native
from mi_course.interp.processes import (
    MYSTERY,
    all_strings,
    bayes_beliefs,
    excess_loss,
    fit_affine,
    next_token_probabilities,
    process_config,
    residual_stream,
    sample_process,
    stream_hook,
    untrained_process_model,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.show import Picture

    Process = Float[Tensor, "token state state"]

__all__ = [
    "LENGTH",
    "Contexts",
    "belief_ids",
    "bits_of_history",
    "candidates_table",
    "context_ids",
    "contexts_of",
    "draw_beliefs",
    "follows",
    "give_other_beliefs",
    "in_sample_r2",
    "largest_gap",
    "losses_of",
    "mystery_held_out",
    "mystery_map",
    "mystery_previous",
    "mystery_strings",
    "predictions_after",
    "products_of_history",
    "r2",
    "random_change",
    "same_expectation",
    "shuffled_beliefs",
    "simplex_rows",
    "stiff_readings",
    "three_ways",
    "untrained_like",
]

LENGTH = 9
"""Tokens in a string: the models were never asked what follows the tenth."""


class Contexts(NamedTuple):
    """Strings of a process, each once, and their beliefs; samples are (string, position) pairs from `first` on."""

    tokens: Int[Tensor, "string pos"]
    beliefs: Float[Tensor, "string pos state"]
    first: int

    def flat(self, x: Float[Tensor, "string pos d"]) -> Float[Tensor, "sample d"]:
        """One row for each sample."""
        return x[:, self.first :].flatten(0, 1)

    @property
    def y(self) -> Float[Tensor, "sample state"]:
        return self.flat(self.beliefs)

    def stream(self, model: TransformerBridge, layer: int | None = None) -> Float[Tensor, "sample d"]:
        """The residual stream after a layer (0: the embedding), or all from the first layer's on, side by side."""
        layers = range(1, model.cfg.n_layers + 1) if layer is None else [layer]
        return torch.cat([self.flat(x) for x in residual_stream(model, self.tokens, layers)], dim=1)


def contexts_of(T: Process, n: int = 300, first: int = 3, seed: int = 5) -> Contexts:
    """Up to `n` different strings of a process; early positions, which few beliefs are reached at, are left out."""
    tokens = sample_process(T, n, LENGTH, seed).unique(dim=0)
    return Contexts(tokens, bayes_beliefs(tokens, T), first)


def belief_ids(y: Float[Tensor, "sample state"], parts: int | None = None) -> Int[Tensor, " sample"]:
    """A number for each different belief, the same for equal ones; with `parts`, so many groups of whole beliefs."""
    ids = torch.unique(y.round(decimals=4), dim=0, return_inverse=True)[1]
    return ids if parts is None else ids % parts


def context_ids(contexts: Contexts, parts: int) -> Int[Tensor, " sample"]:
    """Groups of whole contexts: the tokens up to a position, the same wherever they occur."""
    known: dict[tuple[int, ...], int] = {}
    rows, length = contexts.tokens.tolist(), contexts.tokens.shape[1]
    ids = [known.setdefault(tuple(row[: p + 1]), len(known)) for row in rows for p in range(contexts.first, length)]
    return torch.tensor(ids) % parts


def losses_of(model: TransformerBridge, T: Process, n: int) -> Float[Tensor, " pos"]:
    """The model's mean loss at tokens 1 to n - 1, in nats; exact, over all strings. Token 0 has nothing before it."""
    strings = all_strings(T, n)
    with torch.no_grad():
        log_p = model(strings.tokens).log_softmax(-1)[:, :-1]
    losses = -log_p.gather(2, strings.tokens[:, 1:, None])[..., 0]
    return strings.probability @ losses


def shuffled_beliefs(y: Float[Tensor, "sample state"], seed: int = 0) -> Float[Tensor, "sample state"]:
    """Each belief exchanged for another, the same wherever it occurs: as many clusters, and no geometry."""
    known, ids = torch.unique(y.round(decimals=4), dim=0, return_inverse=True)
    return known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))][ids]


def bits_of_history(contexts: Contexts, n_tokens: int) -> Float[Tensor, "sample feature"]:
    """Which token stood 0, 1, 2 … positions back: what a linear map could read without any network."""
    each = torch.nn.functional.one_hot(contexts.tokens, n_tokens).float()
    back = [torch.nn.functional.pad(each, (0, 0, k, 0))[:, : each.shape[1]] for k in range(each.shape[1])]
    return contexts.flat(torch.cat(back, dim=-1))


def products_of_history(contexts: Contexts, n_tokens: int) -> Float[Tensor, "sample feature"]:
    """The same, and all products of two: which tokens stood at two places back, for each two places."""
    bits = bits_of_history(contexts, n_tokens)
    row, column = torch.triu_indices(bits.shape[1], bits.shape[1], offset=1)
    return torch.cat([bits, bits[:, row] * bits[:, column]], dim=1)


def r2(guesses: Float[Tensor, "sample state"], y: Float[Tensor, "sample state"]) -> float:
    """The share of y's variance that is not left over by the guesses."""
    return float(1 - (y - guesses).square().sum() / (y - y.mean(0)).square().sum())


def in_sample_r2(x: Float[Tensor, "sample d"], y: Float[Tensor, "sample state"]) -> float:
    """R² of an affine map on the samples that it was fitted on."""
    return r2(fit_affine(x, y)(x), y)


def three_ways(
    held_out: Callable[[Tensor, Tensor, Tensor], float],
    contexts: Contexts,
    x: Float[Tensor, "sample d"],
    y: Float[Tensor, "sample state"],
) -> list[float]:
    """R² of reading y from x with nothing held out, with contexts held out, and with whole beliefs; −1 for any lower.

    held_out: a learner's `held_out_r2`. Far below −1 an R² says only that the map is worse than a constant, and its
    digits depend on the machine.
    """
    groups = context_ids(contexts, 10), belief_ids(contexts.y, 10)
    return [in_sample_r2(x, y), *(max(float(held_out(x, y, group)), -1.0) for group in groups)]


def stiff_readings(
    contexts: Contexts, streams: Mapping[str, Float[Tensor, "sample d"]], ridge: float = 1.0, parts: int = 10
) -> dict[str, float]:
    """R² with whole beliefs held out, of maps with a ridge, from each stream; from the first of them also the best of
    ten with the beliefs exchanged.

    ridge: `fit_affine`'s, in units of the mean variance of the stream.
    """
    groups = belief_ids(contexts.y, parts)

    def held_out(x: Float[Tensor, "sample d"], y: Float[Tensor, "sample state"]) -> float:
        errors, distances = 0.0, 0.0
        for group in range(parts):
            out = groups == group
            read = fit_affine(x[~out], y[~out], ridge)(x[out])
            errors += float((read - y[out]).square().sum())
            distances += float((y[out] - y[~out].mean(0)).square().sum())
        return 1 - errors / distances

    first = next(iter(streams.values()))
    exchanged = max(held_out(first, shuffled_beliefs(contexts.y, seed)) for seed in range(10))
    found = {name: held_out(x, contexts.y) for name, x in streams.items()}
    return {**found, "exchanged, best of ten": exchanged}


def untrained_like(model: TransformerBridge, seed: int = 1) -> TransformerBridge:
    """A model of the same shape with random weights."""
    cfg = model.cfg
    config = process_config(cfg.d_vocab, n_layers=cfg.n_layers, d_model=cfg.d_model, length=cfg.n_ctx)
    return untrained_process_model(config, seed).eval()


def largest_gap(beliefs: Float[Tensor, "belief state"], pairs: list[tuple[int, int]]) -> float:
    """The largest difference, in any state, between the beliefs of these pairs; 0 if there are none."""
    return max((float((beliefs[i] - beliefs[j]).abs().max()) for i, j in pairs), default=0.0)


def draw_beliefs(
    panels: Mapping[str, Float[Tensor, "sample three"]], color_by: Float[Tensor, "sample three"], title: str
) -> Picture:
    """Beliefs as points in triangles side by side, colored by the likeliest state in `color_by`."""
    from mi_course import show

    rows = simplex_rows(panels, color_by)
    return show.scatter(**rows, ylabel="likelier state 2 →", title=title, size=4)


def simplex_rows(
    panels: Mapping[str, Float[Tensor, "sample three"]], color_by: Float[Tensor, "sample three"]
) -> dict[str, Any]:
    """Triangles side by side, as arguments for `show.scatter`, colored by the likeliest state in `color_by`."""
    best = color_by.argmax(1)
    order = best.argsort(stable=True)  # so that colors go to states in their order
    xs: list[float] = []
    ys: list[float] = []
    groups: list[str] = []
    names: list[str] = []
    highest: list[int] = []
    for place, (name, points) in enumerate(panels.items()):
        points = points[order]
        highest.append(len(xs) + int(points[:, 2].argmax()))
        xs += (points[:, 1] + points[:, 2] / 2 + 1.25 * place).tolist()
        ys += (points[:, 2] * 0.866).tolist()
        groups += [f"likeliest state {state}" for state in best[order].tolist()]
        names += [name] * len(points)
    xlabel = "likelier state 1 → (in each triangle)"
    return {"x": xs, "y": ys, "groups": groups, "names": names, "write": highest, "xlabel": xlabel}


# ---------------------------------------------------------------------------------------------------------------------
# Interventions at the last position


def predictions_after(
    model: TransformerBridge,
    tokens: Int[Tensor, "string pos"],
    layer: int,
    change: Float[Tensor, "string d"] | None = None,
) -> Float[Tensor, "string token"]:
    """Next-token probabilities after each whole string, with a change added to the last position after a layer."""

    def add(resid: Tensor, hook: Any) -> Tensor:
        return resid if change is None else torch.cat([resid[:, :-1], resid[:, -1:] + change[:, None]], dim=1)

    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(stream_hook(layer), add)])
    return logits[:, -1].softmax(-1)


def follows(
    before: Float[Tensor, "string token"],
    after: Float[Tensor, "string token"],
    had: Float[Tensor, "string token"],
    wanted: Float[Tensor, "string token"],
) -> float:
    """How much of the change that Bayes's rule asks for the predictions make: 0 is none, 1 all of it (a slope)."""
    asked = wanted - had
    return float(((after - before) * asked).sum() / asked.square().sum())


def random_change(like: Float[Tensor, "string d"], seed: int) -> Float[Tensor, "string d"]:
    """A change in a random direction for each string, each as long as that in `like`."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return noise * like.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)


def same_expectation(
    beliefs: Float[Tensor, "string state"], T: Process, size: Float[Tensor, " string"]
) -> Float[Tensor, "string state"]:
    """A change of beliefs of this length that leaves the next-token probabilities as they are.

    Raises ValueError if the process has no such change.
    """
    emit = T.sum(2).T  # [state token]; its rows sum to 1, so a change that it cannot see sums to 0
    free = torch.linalg.svd(emit.T)[2][int(torch.linalg.matrix_rank(emit)) :]
    if not len(free):
        raise ValueError("Every change of beliefs about this process changes the next-token probabilities.")
    return free[:1] * size[:, None]


def give_other_beliefs(
    model: TransformerBridge, T: Process, contexts: Contexts, layer: int, intervention: Callable[..., Any]
) -> dict[str, tuple[float, float, float]]:
    """Give each string another string's belief, at its last position after a layer, in several ways and with controls.

    intervention: a learner's `belief_intervention`. Returns for each way how much the predictions follow (`follows`),
    by how much the map's reading is off the target (mean), and the mean length of the change.
    """
    tokens, now, x = contexts.tokens, contexts.beliefs[:, -1], contexts.stream(model, layer)
    other = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    target, ends = now[other], x.view(len(tokens), -1, x.shape[1])[:, -1]
    (A, b), (E, _) = fit_affine(x, contexts.y), fit_affine(contexts.y, x)
    natural = (target - now) @ E
    had, wanted = (next_token_probabilities(beliefs, T) for beliefs in (now, target))
    of_next = fit_affine(contexts.flat(next_token_probabilities(contexts.beliefs, T)), x).A
    moved = ends[:, None].clone()
    made = intervention(moved, None, A, b, target[:, None])
    least = (moved if made is None else made)[:, 0] - ends
    longer = least * natural.norm(dim=1, keepdim=True) / least.norm(dim=1, keepdim=True).clamp(min=1e-9)
    ways = {
        "least change (your hook)": [least],
        "least change, made as long": [longer],
        "as the stream moves": [natural],
        "as it moves with the next token": [(wanted - had) @ of_next],
        "control: same next token": [same_expectation(now, T, (target - now).norm(dim=1)) @ E],
        "control: random, mean of ten": [random_change(natural, seed) for seed in range(10)],
        "everything, from the other": [ends[other] - ends],
    }
    before, found = predictions_after(model, tokens, layer), {}
    for name, changes in ways.items():
        slopes = [follows(before, predictions_after(model, tokens, layer, change), had, wanted) for change in changes]
        off = sum(float(((ends + change) @ A + b - target).abs().mean()) for change in changes) / len(changes)
        found[name] = sum(slopes) / len(slopes), off, float(changes[0].norm(dim=1).mean())
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The mystery


@cache
def _halves() -> tuple[Tensor, Tensor]:
    tokens = torch.cartesian_prod(*[torch.arange(2)] * LENGTH)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(13))
    half = len(tokens) // 2
    return tokens[order[:half]], tokens[order[half:]]


def mystery_strings() -> Int[Tensor, "string pos"]:
    """Half of all strings of nine tokens, to fit a map for `data/tiny-mystery` on; the other half judges it."""
    return _halves()[0]


def mystery_held_out(layer: int) -> tuple[Float[Tensor, "sample d"], Float[Tensor, "sample state"], Tensor]:
    """Stream after a layer, true beliefs and next-token probabilities at positions 3 to 8 of the other half."""
    contexts = Contexts(_halves()[1], bayes_beliefs(_halves()[1], MYSTERY["B"]), 3)
    expected = contexts.flat(next_token_probabilities(contexts.beliefs, MYSTERY["B"]))
    return contexts.stream(_mystery(), layer), contexts.y, expected


def mystery_previous() -> Float[Tensor, "sample state"]:
    """The beliefs one token before those of `mystery_held_out`."""
    return bayes_beliefs(_halves()[1], MYSTERY["B"])[:, 2:-1].flatten(0, 1)


@cache
def _mystery() -> TransformerBridge:
    return load_native("tiny-mystery")


def mystery_map() -> dict[str, Any]:
    """An answer that the outcome accepts: the process, a layer and its map, fitted on the learner's half."""
    contexts = Contexts(mystery_strings(), bayes_beliefs(mystery_strings(), MYSTERY["B"]), 3)
    A, b = fit_affine(contexts.stream(_mystery(), 2), contexts.y)
    return {"process": "B", "layer": 2, "A": A, "b": b}


def candidates_table(optimal_loss: Callable[[Process, int], Tensor]) -> dict[str, tuple[float, float, float]]:
    """For each candidate: R² of reading its beliefs, its least loss at the eighth token, the model's excess loss."""
    tokens, found = mystery_strings(), {}
    for name, T in MYSTERY.items():
        contexts = Contexts(tokens, bayes_beliefs(tokens, T), 3)
        readable = in_sample_r2(contexts.stream(_mystery(), 2), contexts.y)
        found[name] = readable, float(torch.as_tensor(optimal_loss(T, 8))[-1]), excess_loss(_mystery(), T)
    return found
