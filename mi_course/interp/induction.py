"""Finding induction heads: the tools of lesson 02.

The tokens throughout: BOS, then `period` random tokens, then the same again. Position 0 is BOS, the first copy is at
1 … period, the second at period+1 … 2·period. An induction head at a token of the second copy attends to the token
that *followed* its first occurrence: key = query − period + 1. Olsson et al. 2022, "In-context Learning and Induction
Heads" (section "Key Concepts"; scores on repeated random tokens are theirs too).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from mi_course.interp.models.where import data_dir

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

Kind = Literal["induction", "previous_token", "duplicate_token"]


def repeated_tokens(
    batch: int, period: int, low: int, high: int, bos: int, seed: int
) -> Int[Tensor, "batch 1+2*period"]:
    """BOS, then `period` tokens drawn uniformly from [low, high), then the same again; rows are independent.

    The same seed gives the same tokens; the global random state is left alone. Tokens may occur more than once in a
    copy: keep `high - low` well above `period` if that would blur a score.

    >>> repeated_tokens(batch=1, period=3, low=5, high=9, bos=0, seed=0).tolist()
    [[0, 5, 8, 6, 5, 8, 6]]
    """
    generator = torch.Generator().manual_seed(seed)
    copy = torch.randint(low, high, (batch, period), generator=generator)
    return torch.cat([torch.full((batch, 1), bos), copy, copy], dim=1)


def loss_per_token(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos-1"]:
    """Next-token loss in nats: entry i is −log p(tokens[i + 1] | tokens[0 … i])."""
    # cross_entropy does not keep log-probabilities of the whole vocabulary beside the logits: half the memory.
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return loss.view(tokens.shape[0], -1)


def previous_token_score(pattern: Float[Tensor, "*batch head query key"]) -> Float[Tensor, "*batch head"]:
    """Mean attention from each query after the first to the position just before it: between 0 and 1."""
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)


def induction_score(pattern: Float[Tensor, "*batch head query key"], period: int) -> Float[Tensor, "*batch head"]:
    """Mean attention from each token of the second copy to the token that followed its first copy: between 0 and 1.

    Queries period+1 … 2·period, key = query − period + 1. For the first of them the key is position 2, the second token
    of the first copy; for the last it is period+1, the first token of the second copy, which did follow.
    """
    # The diagonal starts at query period − 1 (key 0); the two queries before the second copy are left out.
    return pattern.diagonal(offset=1 - period, dim1=-2, dim2=-1)[..., 2 : period + 2].mean(dim=-1)


def duplicate_token_score(pattern: Float[Tensor, "*batch head query key"], period: int) -> Float[Tensor, "*batch head"]:
    """Mean attention from each token of the second copy to the same token in the first: key = query − period."""
    return pattern.diagonal(offset=-period, dim1=-2, dim2=-1)[..., 1 : period + 1].mean(dim=-1)


def top_heads(scores: Float[Tensor, "layer head"], threshold: float) -> list[tuple[int, int]]:
    """(layer, head) of every score above the threshold, highest first; equal scores in order of layer, then head.

    >>> top_heads(torch.tensor([[0.1, 0.7], [0.9, 0.5]]), threshold=0.5)
    [(1, 0), (0, 1)]
    """
    heads = [(layer, head) for layer, head in (scores > threshold).nonzero().tolist()]
    return sorted(heads, key=lambda head: -float(scores[head]))


def score_hook(scores: Float[Tensor, "layer head"], period: int) -> Callable[[Tensor, Any], None]:
    """A hook for `hook_pattern` that writes the batch mean of its layer's induction scores into `scores[layer]`.

    With it on every layer, one forward pass scores all heads without a cache. It returns None, so it changes nothing.
    """

    def hook_fn(pattern: Float[Tensor, "batch head query key"], hook: Any) -> None:
        scores[hook.layer()] = induction_score(pattern.detach(), period).mean(dim=0).to(scores)

    return hook_fn


def head_scores(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], period: int, kind: Kind = "induction"
) -> Float[Tensor, "layer head"]:
    """One score of every head, averaged over the batch, in one pass without cache and gradients.

    kind: "induction", "previous_token" or "duplicate_token". Raises ValueError for another kind, or if the tokens do
    not have length 1 + 2·period: the scores would silently be those of another diagonal.
    """
    measures: dict[str, Callable[[Tensor], Tensor]] = {
        "induction": partial(induction_score, period=period),
        "previous_token": previous_token_score,
        "duplicate_token": partial(duplicate_token_score, period=period),
    }
    if kind not in measures:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(measures)}.")
    if tokens.shape[1] != 1 + 2 * period:
        raise ValueError(
            f"tokens have length {tokens.shape[1]}, expected {1 + 2 * period}: BOS and two copies of {period} tokens."
        )
    return score_heads(model, tokens, measures[kind])


def score_heads(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], measure: Callable[[Tensor], Tensor]
) -> Float[Tensor, "layer head"]:
    """What measure(pattern [head query key]) gives for each layer, averaged over the rows: one pass, no cache."""
    scores = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)

    def write(pattern: Tensor, hook: Any) -> None:
        scores[hook.layer()] = torch.stack([measure(row) for row in pattern]).mean(dim=0).to(scores)

    hooks = [(f"blocks.{layer}.attn.hook_pattern", write) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=hooks)
    return scores


def scores_without_heads(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], period: int, heads: Iterable[tuple[int, int]]
) -> Float[Tensor, "layer head"]:
    """`head_scores` for induction with the outputs of these (layer, head) set to zero. No hook is left behind."""
    with model.hooks(fwd_hooks=_zeroing(heads)):
        return head_scores(model, tokens, period)


def text_induction_score(
    pattern: Float[Tensor, "head query key"], tokens: Int[Tensor, " pos"]
) -> Float[Tensor, " head"]:
    """Mean attention of repeated tokens to what followed their earlier occurrences: between 0 and 1, in any text.

    The mean is over the queries whose token has occurred before; 0 if there are none. Attention is added up over the
    earlier occurrences. On a sequence written twice this is close to `induction_score`.

    >>> text_induction_score(torch.full((1, 4, 4), 0.25), torch.tensor([7, 5, 7, 7]))
    tensor([0.3750])
    """
    earlier = (tokens[:, None] == tokens).tril(-1)
    follows = earlier.roll(1, dims=1)  # the last column of `earlier` is empty
    return (pattern * follows).sum((-1, -2)) / earlier.any(dim=1).sum().clamp(min=1)


def find_circuit(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], period: int
) -> tuple[tuple[int, int], float, tuple[int, int], float, float | None]:
    """The strongest previous-token head of the first layer and induction head of the last, and how they compose.

    Returns (earlier head, previous-token score, later head, induction score, K-composition); None for the last if the
    model has one layer.
    """
    from mi_course.interp.circuits import k_composition

    back, forward = head_scores(model, tokens, period, "previous_token")[0], head_scores(model, tokens, period)[-1]
    earlier, later = (0, int(back.argmax())), (model.cfg.n_layers - 1, int(forward.argmax()))
    path = k_composition(model, earlier, later) if later[0] > 0 else None
    return earlier, float(back.max()), later, float(forward.max()), path


def loss_without_heads(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], heads: Iterable[tuple[int, int]]
) -> Float[Tensor, "batch pos-1"]:
    """Loss per token in nats with the output (`hook_z`) of these (layer, head) set to zero. No hook is left behind.

    A zero ablation: it also removes the head's mean contribution, so compare with random sets of heads.
    """
    with torch.no_grad():
        return loss_per_token(model.run_with_hooks(tokens, fwd_hooks=_zeroing(heads)), tokens)


def _zeroing(heads: Iterable[tuple[int, int]]) -> list[tuple[str, Callable[..., Tensor]]]:
    """Hooks that set the outputs of these heads to zero, one for each layer."""
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)

    def zero(z: Float[Tensor, "batch pos head d_head"], hook: Any, which: list[int]) -> Tensor:
        z = z.clone()
        z[:, :, which] = 0.0
        return z

    return [(f"blocks.{layer}.attn.hook_z", partial(zero, which=which)) for layer, which in by_layer.items()]


def random_heads(
    n_layers: int, n_heads: int, count: int, seed: int, exclude: Iterable[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """`count` different (layer, head) drawn uniformly from those not excluded, sorted: the control of an ablation.

    Raises ValueError if fewer than `count` heads are left.
    """
    excluded = {(int(layer), int(head)) for layer, head in exclude}
    left = [(la, he) for la in range(n_layers) for he in range(n_heads) if (la, he) not in excluded]
    if count > len(left):
        raise ValueError(f"{count} heads asked for, but only {len(left)} are left after excluding {len(excluded)}.")
    order = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))
    return sorted(left[i] for i in order[:count].tolist())


def train_step(model: TransformerBridge, optimizer: torch.optim.Optimizer, tokens: Int[Tensor, "batch pos"]) -> float:
    """One step on the mean next-token loss (nats), old gradients cleared first; returns the loss before the step."""
    loss = loss_per_token(model(tokens), tokens).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def emergence_step(steps: list[int], scores: list[float], threshold: float) -> int | None:
    """The first step from which on the score stays above the threshold, or None.

    >>> emergence_step([0, 100, 200, 300], [0.1, 0.7, 0.4, 0.8], threshold=0.5)
    300
    """
    emerged = None
    for step, score in zip(steps, scores, strict=True):
        if score <= threshold:
            emerged = None
        elif emerged is None:
            emerged = step
    return emerged


def smollm2_scores() -> dict[str, list[list[float]]]:
    """Scores of SmolLM2's 30 × 9 heads on sequences that the lesson does not use.

    By kind: induction, previous_token, duplicate_token. Read from a file that `data/measure_smollm2_induction.py` made.
    """
    return json.loads((data_dir() / "smollm2-induction.json").read_text(encoding="utf-8"))["scores"]


def smollm2_induction_heads(threshold: float = 0.35) -> list[tuple[int, int]]:
    """(layer, head) of SmolLM2's heads whose held-out induction score exceeds the threshold, strongest first."""
    return top_heads(torch.tensor(smollm2_scores()["induction"]), threshold)
