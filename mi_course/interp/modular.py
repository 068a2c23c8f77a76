"""Addition modulo a prime: the task, a small model that learns it, and what is measured on it (Nanda et al. 2023).

The tokens are the hours 0 to p − 1 and an equals sign, p. The model reads `a b =` and answers (a + b) mod p at the
equals sign: one layer, four heads, ReLU neurons, no norm and no biases, as in the paper. Pairs are split by what is
added, not by order: if 3 + 5 is trained on, 5 + 3 is too. Else two fifths of the tests would be solved by symmetry.

Frequencies are 1 to (p − 1)/2. Functions of a pair are tensors [a b …].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.models import native
from mi_course.interp.models.bridge import one_thread

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    State = Mapping[str, Tensor]

__all__ = [
    "Measures",
    "Snapshot",
    "add_decoy",
    "all_pairs",
    "answers",
    "circle",
    "cross_entropy",
    "direction_fit",
    "embedding",
    "held_out_restricted",
    "linear_share",
    "lookup_table",
    "measure",
    "my_frequencies",
    "mystery_frequencies",
    "neurons",
    "pair_logits",
    "readout",
    "spectrum",
    "state_logits",
    "sum_share",
    "train_addition",
    "training_pairs",
    "untrained_addition_model",
    "used_frequencies",
    "waves",
    "without_frequency",
]

HEADS = 4
MYSTERY = "tiny-clock-mystery"
USED = 0.1
"""Nats that the loss over all pairs must rise by without a frequency, for the model to be using it."""


# ---------------------------------------------------------------------------------------------------------------------
# The task


def all_pairs(p: int) -> Int[Tensor, "pair pos"]:
    """`a b =` for all p² pairs; pair a · p + b is (a, b)."""
    hours = torch.arange(p)
    a, b = hours.repeat_interleave(p), hours.repeat(p)
    return torch.stack([a, b, torch.full_like(a, p)], dim=1)


def answers(p: int) -> Int[Tensor, "a b"]:
    """(a + b) mod p."""
    hours = torch.arange(p)
    return (hours[:, None] + hours) % p


def training_pairs(p: int, share: float, seed: int) -> Bool[Tensor, "a b"]:
    """A symmetric choice of pairs: this share of the p (p + 1)/2 sums, each in both orders."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.triu_indices(p, p)
    chosen = torch.randperm(len(row), generator=generator)[: round(share * len(row))]
    table = torch.zeros(p, p, dtype=torch.bool)
    table[row[chosen], column[chosen]] = table[column[chosen], row[chosen]] = True
    return table


# ---------------------------------------------------------------------------------------------------------------------
# The model


def untrained_addition_model(p: int, *, d_model: int = 64, d_mlp: int = 256, seed: int = 0) -> TransformerBridge:
    """One layer in train mode; biases are zero and stay so."""
    config: dict[str, Any] = {
        "n_layers": 1,
        "n_heads": HEADS,
        "d_model": d_model,
        "d_head": d_model // HEADS,
        "d_mlp": d_mlp,
        "act_fn": "relu",
        "d_vocab": p + 1,
        "d_vocab_out": p,
        "n_ctx": 3,
        "positional_embedding_type": "standard",
        "normalization_type": None,
        "default_prepend_bos": False,
    }
    model = native.boot({**config, "seed": seed}, name="addition").train()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
            parameter.requires_grad_(False)
    return model


def state_logits(state: State, a: Int[Tensor, " pair"], b: Int[Tensor, " pair"]) -> Float[Tensor, "pair c"]:
    """The model's logits at the equals sign, from its parameters: differentiable, and much faster than the model.

    Keys and values of a token do not depend on the other tokens, so there are 2p + 1 of them, and only the last
    position has a query.
    """
    embed, pos = state["embed.weight"], state["pos_embed.weight"]
    p = len(embed) - 1
    last = embed[p] + pos[2]
    places = (embed[:p] + pos[0], a), (embed[:p] + pos[1], b), (last[None], torch.zeros_like(a))
    q, k, v, o = (state[f"blocks.0.attn.{name}.weight"] for name in "qkvo")
    d_head = len(q) // HEADS
    query = (q @ last).view(HEADS, d_head) / math.sqrt(d_head)
    scores = [((x @ k.T).view(-1, HEADS, d_head) * query).sum(-1)[which] for x, which in places]
    pattern = torch.stack(scores).softmax(0)[..., None]  # [place pair head 1]
    values = [(x @ v.T).view(-1, HEADS, d_head)[which] for x, which in places]
    z = sum(weight * value for weight, value in zip(pattern, values, strict=True))
    resid = last + z.flatten(1) @ o.T
    active = torch.relu(resid @ state["blocks.0.mlp.in.weight"].T)
    return (resid + active @ state["blocks.0.mlp.out.weight"].T) @ state["unembed.weight"].T


@torch.no_grad()
def pair_logits(model: TransformerBridge) -> Float[Tensor, "a b c"]:
    """Logits at the equals sign for every pair."""
    p = model.cfg.d_vocab_out
    return model(all_pairs(p))[:, -1].unflatten(0, (p, p))


@torch.no_grad()
def neurons(model: TransformerBridge) -> Float[Tensor, "a b neuron"]:
    """What the neurons hold at the equals sign, after the ReLU, for every pair."""
    p, name = model.cfg.d_vocab_out, "blocks.0.mlp.hook_post"
    _, cached = model.run_with_cache(all_pairs(p), names_filter=name)
    return cached[name][:, -1].unflatten(0, (p, p))


def embedding(model: TransformerBridge) -> Float[Tensor, "p d_model"]:
    """W_E of the hours, without the equals sign."""
    return model.W_E[: model.cfg.d_vocab_out].detach()


def readout(model: TransformerBridge) -> Float[Tensor, "neuron p"]:
    """W_L = W_out W_U: what each neuron adds to each answer's logit."""
    return (model.blocks[0].mlp.W_out @ model.W_U).detach()


# ---------------------------------------------------------------------------------------------------------------------
# Training


class Snapshot(NamedTuple):
    """A moment of the training."""

    step: int
    train_loss: float
    """Nats."""
    state: dict[str, Tensor]
    """A copy, under TransformerLens's names."""


def train_addition(
    model: TransformerBridge,
    trained_on: Bool[Tensor, "a b"],
    *,
    steps: int,
    weight_decay: float,
    lr: float = 1e-3,
    every: int = 100,
) -> Iterator[Snapshot]:
    """Train in place on all chosen pairs at every step; yield a snapshot every so many steps, and at the last one.

    AdamW. The loss is computed in float64: near zero float32's rounding would throw the model out of its minimum.
    """
    buffers = {id(b) for b in model.buffers()}
    state = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) not in buffers}
    trained = [t for t in state.values() if t.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    a, b = trained_on.nonzero(as_tuple=True)
    right = (a + b) % len(trained_on)
    for step in range(steps + 1):
        with one_thread():
            loss = torch.nn.functional.cross_entropy(state_logits(state, a, b).double(), right)
        if step % every == 0 or step == steps:
            yield Snapshot(step, float(loss.detach()), {name: t.detach().clone() for name, t in state.items()})
        if step == steps:
            break
        with one_thread():
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / 10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


# ---------------------------------------------------------------------------------------------------------------------
# Waves


def waves(p: int, k: int) -> Float[Tensor, "2 p"]:
    """Cosine and sine of frequency k on p hours, each of length one."""
    angle = 2 * math.pi * k * torch.arange(p) / p
    rows = torch.stack([angle.cos(), angle.sin()])
    return rows / rows.norm(dim=1, keepdim=True)


def _of_the_sum(p: int, k: int) -> Float[Tensor, "2 a b"]:
    """cos k(a + b) and sin k(a + b), each of length one."""
    return waves(p, k)[:, answers(p)] / math.sqrt(p)


def without_frequency(logits: Float[Tensor, "a b c"], k: int) -> Float[Tensor, "a b c"]:
    """The logits without their waves of frequency k in a + b."""
    both = _of_the_sum(len(logits), k)
    return logits - torch.einsum("wab,wde,dec->abc", both, both, logits)


def held_out_restricted(
    logits: Float[Tensor, "a b c"], keys: Sequence[int], trained_on: Bool[Tensor, "a b"], seed: int = 0
) -> Float[Tensor, "a b c"]:
    """Restricted logits that the pairs of the training have no part in.

    A wave's strength is an average over all pairs. If some of these were learned by heart, it holds their answers, and
    hands them to unseen pairs with the same sum. So mean and waves are fitted by least squares to unseen pairs alone:
    the unseen pairs are split in two, both orders of a sum together, and each half gets the waves of the other.
    Training pairs get the waves of all unseen ones.
    """
    p = len(logits)
    functions = torch.cat([torch.full((1, p, p), 1 / p), *(_of_the_sum(p, k) for k in keys)]).double()
    row, column = (~trained_on).triu().nonzero(as_tuple=True)
    chosen = torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))[: len(row) // 2]
    first = torch.zeros_like(trained_on)
    first[row[chosen], column[chosen]] = first[column[chosen], row[chosen]] = True
    result = torch.empty_like(logits)
    for fitted, filled in ((~trained_on & first, ~first), (~trained_on & ~first, first), (~trained_on, trained_on)):
        strength = torch.linalg.lstsq(functions[:, fitted].T, logits[fitted].double()).solution
        result[filled] = (functions[:, filled].T @ strength).to(logits.dtype)
    return result


def lookup_table(trained_on: Bool[Tensor, "a b"], seed: int = 0) -> Float[Tensor, "a b c"]:
    """Logits of a control that knows the pairs of the training by heart, and nothing else: noise for the others."""
    p = len(trained_on)
    logits = torch.randn(p, p, p, generator=torch.Generator().manual_seed(seed))
    logits[trained_on] = 10 * torch.nn.functional.one_hot(answers(p)[trained_on], p).float()
    return logits


def circle(W_E: Float[Tensor, "p d_model"], k: int) -> Float[Tensor, "2 p"]:
    """Where the hours lie in the plane into which frequency k is embedded: a circle of radius 1 if they follow it.

    The axes are the directions of the cosine and of the sine; the scale is the mean distance from the center.
    """
    rows = waves(len(W_E), k) @ W_E
    axes = torch.linalg.qr(rows.T).Q.T
    axes = axes * (axes * rows).sum(1, keepdim=True).sign()
    points = axes @ (W_E - W_E.mean(0)).T
    return points / points.norm(dim=0).mean().clamp(min=1e-9)


def spectrum(W_E: Float[Tensor, "p d_model"]) -> Float[Tensor, " frequency"]:
    """Each frequency's share of the power of an embedding, without its mean; the shares sum to 1."""
    power = torch.stack([(waves(len(W_E), k) @ W_E).square().sum() for k in range(1, (len(W_E) + 1) // 2)])
    return power / power.sum()


def sum_share(table: Float[Tensor, "a b"], k: int) -> float:
    """The share of a function's variance that cos k(a + b) and sin k(a + b) explain. 0 where there is none."""
    centered = table - table.mean()
    total = centered.square().sum()
    return float((_of_the_sum(len(table), k) * centered).sum((1, 2)).square().sum() / total) if total > 0 else 0.0


def linear_share(table: Float[Tensor, "a b"], k: int) -> float:
    """The share of a function's variance that waves of frequency k of a alone, or of b alone, explain."""
    centered, both = table - table.mean(), waves(len(table), k)
    total = centered.square().sum()
    parts = both @ centered.mean(1), both @ centered.mean(0)
    return float(sum(part.square().sum() for part in parts) * len(table) / total) if total else 0.0


def direction_fit(neurons: Float[Tensor, "a b neuron"], W_L: Float[Tensor, "neuron p"], k: int) -> float:
    """How well the directions of the neurons from which W_L makes frequency k are waves of k(a + b).

    W_L writes cos kc from one direction of the neurons and sin kc from another. Projected on these the activations
    are two functions of (a, b): returned is the share of their variance that cos k(a + b) and sin k(a + b) explain
    (Nanda et al. 2023, section 4). 0 where there is no variance.
    """
    p = len(neurons)
    projected = neurons @ (W_L @ waves(p, k).T)  # [a b direction]
    projected = projected - projected.mean((0, 1))
    explained = torch.einsum("wab,abd->wd", _of_the_sum(p, k), projected).square().sum()
    total = projected.square().sum()
    return float(explained / total) if total > 0 else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Measures


def cross_entropy(logits: Float[Tensor, "a b c"]) -> Float[Tensor, "a b"]:
    """The loss of each pair, in nats, computed in float64: small losses are lost in float32's rounding."""
    p = len(logits)
    return -logits.double().log_softmax(-1).gather(-1, answers(p)[..., None])[..., 0].float()


class Measures(NamedTuple):
    """What is recorded of a training at each checkpoint."""

    train_loss: float
    """Nats."""
    test_loss: float
    train_accuracy: float
    test_accuracy: float


def measure(logits: Float[Tensor, "a b c"], trained_on: Bool[Tensor, "a b"]) -> Measures:
    """Losses in nats and shares of right answers, on the pairs of the training and on the others."""
    loss, right = cross_entropy(logits), (logits.argmax(-1) == answers(len(logits))).float()
    numbers = (loss[trained_on], loss[~trained_on], right[trained_on], right[~trained_on])
    return Measures(*(float(x.mean()) for x in numbers))


def used_frequencies(logits: Float[Tensor, "a b c"], bar: float = USED) -> dict[int, float]:
    """Frequencies without which the loss over all pairs rises by more than `bar` nats: frequency -> rise."""
    loss = float(cross_entropy(logits).mean())
    rises = {
        k: float(cross_entropy(without_frequency(logits, k)).mean()) - loss for k in range(1, (len(logits) + 1) // 2)
    }
    return {k: rise for k, rise in rises.items() if rise > bar}


# ---------------------------------------------------------------------------------------------------------------------
# The mystery model


@torch.no_grad()
def add_decoy(model: TransformerBridge, k: int, size: float) -> None:
    """Write frequency k into the embedding, in place, where heads hardly look.

    The hours are read by keys and values alone. The wave is written into the two directions that these read least.
    size: the power of the wave, as a multiple of the strongest frequency's.
    """
    W_E = embedding(model)
    p = len(W_E)
    strongest = max(float((waves(p, j) @ W_E).square().sum()) for j in range(1, (p + 1) // 2))
    state = native.state_of(model)
    reads = torch.cat([state[f"blocks.0.attn.{name}.weight"] for name in "kv"])  # [what is read, d_model]
    unread = torch.linalg.svd(reads).Vh[-2:]
    state["embed.weight"][:p] += math.sqrt(size * strongest / 2) * waves(p, k).T @ unread
    native.load_state(model, state)


@cache
def mystery_frequencies() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frequencies that the mystery model uses; and those that its embedding holds as strongly, and nothing reads."""
    model = native.load_native(MYSTERY)
    W_E = embedding(model)
    used = used_frequencies(pair_logits(model))
    power = {k: float((waves(len(W_E), k) @ W_E).square().sum()) for k in range(1, (len(W_E) + 1) // 2)}
    least = min(power[k] for k in used)
    return tuple(used), tuple(k for k in power if k not in used and power[k] >= least)


def my_frequencies() -> list[int]:
    """The course's own answer to lesson 13's outcome."""
    return list(mystery_frequencies()[0])
