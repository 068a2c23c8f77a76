"""Hidden Markov processes, what a perfect predictor of them believes, and small models trained on them.

A process is one tensor `T` [token state state]: `T[x, s, r]` is the probability that state s emits token x *and* moves
to state r. For each s the entries sum to 1. A belief is a distribution over states, given the tokens so far; beliefs
are row vectors, so that a token turns belief b into b T[x], normalized.

Shai et al. 2024, "Transformers Represent Belief State Geometry in their Residual Stream" (sections 2 and 3) is where
both processes of lesson 13 come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.models import native
from mi_course.interp.models.bridge import one_thread

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

__all__ = [
    "MYSTERY",
    "AffineMap",
    "Strings",
    "all_strings",
    "bayes_beliefs",
    "boolean_process",
    "excess_loss",
    "fit_affine",
    "mess3",
    "next_token_probabilities",
    "process_config",
    "residual_stream",
    "ring",
    "rrxor",
    "sample_process",
    "set_rate",
    "stationary_distribution",
    "stream_hook",
    "train_on_process",
    "untrained_process_model",
]


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def mess3(alpha: float = 0.85, x: float = 0.05) -> Float[Tensor, "token state state"]:
    """Three states that mostly stay, and mostly emit the token of the state they move to (Shai et al. 2024, Mess3).

    alpha: probability of emitting the token of the state that is moved to. x: probability of each of the two moves.
    """
    move = torch.full((3, 3), x) + (1 - 3 * x) * torch.eye(3)  # [from, to]
    emit = torch.full((3, 3), (1 - alpha) / 2) + (alpha - (1 - alpha) / 2) * torch.eye(3)  # [to, token]
    return torch.einsum("sr,rx->xsr", move, emit)


def boolean_process(f: Callable[[int, int], int]) -> Float[Tensor, "token state state"]:
    """Random bit a, random bit b, then f(a, b), again and again.

    States: 0 before a; 1 and 2 after a = 0 and a = 1; 3 and 4 before the third bit, which is 0 in state 3, 1 in 4.
    """
    T = torch.zeros(2, 5, 5)
    for a in (0, 1):
        T[a, 0, 1 + a] = 0.5
        for b in (0, 1):
            T[b, 1 + a, 3 + f(a, b)] += 0.5
    T[0, 3, 0] = T[1, 4, 0] = 1
    return T


def ring(
    forward: float = 0.9, back: float = 0.0, ones: Sequence[float] = (0.05, 0.5, 0.95)
) -> Float[Tensor, "token state state"]:
    """States in a ring that mostly move on to the next, and sometimes stay: a process of ours, with two tokens.

    forward, back: probability of moving to the next state, and to the one before; otherwise it stays.
    ones: the probability that each state emits token 1 as it is left.
    """
    n = len(ones)
    here = torch.eye(n)
    move = forward * here.roll(1, 1) + back * here.roll(-1, 1) + (1 - forward - back) * here  # [from, to]
    one = torch.tensor(ones)
    return torch.einsum("sr,xs->xsr", move, torch.stack([1 - one, one]))


MYSTERY = {
    "A": ring(0.85, 0.0, (0.1, 0.45, 0.95)),
    "B": ring(0.0, 0.85, (0.1, 0.45, 0.95)),
    "C": ring(0.4, 0.4, (0.1, 0.45, 0.95)),
}
"""The processes that `data/tiny-mystery` may have been trained on."""


def rrxor() -> Float[Tensor, "token state state"]:
    """Random, random, XOR (Shai et al. 2024, RRXOR): each third bit is the XOR of the two before it."""
    return boolean_process(lambda a, b: a ^ b)


def stationary_distribution(T: Float[Tensor, "token state state"]) -> Float[Tensor, " state"]:
    """The belief before any token: the distribution over states that a step leaves as it is.

    Solved as a linear system, since the powers of a periodic process (RRXOR has period 3) do not converge.
    Raises ValueError if `T` is not a process: shapes, negative entries, rows that do not sum to 1.
    """
    if T.ndim != 3 or T.shape[1] != T.shape[2]:
        raise ValueError(f"T has shape {tuple(T.shape)}, expected [token state state].")
    step = T.double().sum(0)  # [from, to]
    if bool((T < 0).any()) or not torch.allclose(step.sum(1), torch.ones(len(step), dtype=torch.double), atol=1e-5):
        raise ValueError("T is not a process: for each state the entries over tokens and next states must sum to 1.")
    n = len(step)
    system = torch.cat([step.T - torch.eye(n, dtype=torch.double), torch.ones(1, n, dtype=torch.double)])
    target = torch.zeros(n + 1, 1, dtype=torch.double)
    target[-1] = 1
    return torch.linalg.lstsq(system, target, driver="gelsd").solution[:, 0].clamp(min=0).to(T.dtype)


def sample_process(
    T: Float[Tensor, "token state state"], batch: int, length: int, seed: int
) -> Int[Tensor, "batch pos"]:
    """Strings of the process, started in its stationary distribution. The global random state is left alone."""
    n_tokens, n_states, _ = T.shape
    generator = torch.Generator().manual_seed(seed)
    state = torch.multinomial(stationary_distribution(T), batch, replacement=True, generator=generator)
    moves = T.permute(1, 0, 2).reshape(n_states, n_tokens * n_states)  # [state, (token, next state)]
    tokens = torch.empty(batch, length, dtype=torch.long)
    for pos in range(length):
        drawn = torch.multinomial(moves[state], 1, generator=generator)[:, 0]
        tokens[:, pos], state = drawn // n_states, drawn % n_states
    return tokens


class Strings(NamedTuple):
    """Every string of one length that a process can emit, with its probability."""

    tokens: Int[Tensor, "string pos"]
    probability: Float[Tensor, " string"]


def all_strings(T: Float[Tensor, "token state state"], length: int) -> Strings:
    """Every string of this length that has a probability, from the stationary distribution; they sum to 1."""
    weights = stationary_distribution(T).double()[None]  # [string, state], not normalized
    tokens = torch.empty(1, 0, dtype=torch.long)
    for _ in range(length):
        weights = torch.einsum("is,xsr->ixr", weights, T.double())
        n_tokens = T.shape[0]
        grown = torch.cat(
            [
                tokens[:, None].expand(-1, n_tokens, -1),
                torch.arange(n_tokens)[None, :, None].expand(len(tokens), -1, 1),
            ],
            dim=2,
        )
        weights, tokens = weights.flatten(0, 1), grown.flatten(0, 1)
        possible = weights.sum(1) > 1e-12
        weights, tokens = weights[possible], tokens[possible]
    return Strings(tokens, weights.sum(1).float())


def bayes_beliefs(
    tokens: Int[Tensor, "batch pos"], T: Float[Tensor, "token state state"]
) -> Float[Tensor, "batch pos state"]:
    """The belief after each token, from the stationary distribution, as logs of sums (the forward algorithm)."""
    log_T = T.double().log()
    log_belief = stationary_distribution(T).double().log().expand(len(tokens), -1)
    beliefs = []
    for pos in range(tokens.shape[1]):
        log_belief = torch.logsumexp(log_belief[:, :, None] + log_T[tokens[:, pos]], dim=1)
        log_belief = log_belief - torch.logsumexp(log_belief, dim=1, keepdim=True)
        beliefs.append(log_belief.exp())
    return torch.stack(beliefs, 1).float()


def next_token_probabilities(
    beliefs: Float[Tensor, "... state"], T: Float[Tensor, "token state state"]
) -> Float[Tensor, "... token"]:
    """What a perfect predictor expects next: P(x | belief) = Σ over s and r of belief[s] T[x, s, r]."""
    return beliefs @ T.sum(2).T


# ---------------------------------------------------------------------------------------------------------------------
# Models


def process_config(n_tokens: int, *, n_layers: int, d_model: int, length: int) -> dict[str, Any]:
    """The shape of lesson 13's small models but for the clocks (fields of TransformerBridgeConfig)."""
    return {
        "n_layers": n_layers,
        "n_heads": 2,
        "d_model": d_model,
        "d_head": d_model // 2,
        "d_mlp": 2 * d_model,
        "act_fn": "relu",
        "d_vocab": n_tokens,
        "n_ctx": length,
        "positional_embedding_type": "standard",
        "normalization_type": "LNPre",
    }


def untrained_process_model(config: dict[str, Any], seed: int) -> TransformerBridge:
    """An untrained model of this shape. The seed decides its weights; the global random state stays."""
    return native.boot({**config, "seed": seed}, name="process")


def set_rate(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int, warmup: int = 100) -> None:
    """The rate of a step, from 1 to `steps`: it rises to `lr` over `warmup` steps and falls to zero along a cosine."""
    fall = 0.5 * (1 + torch.cos(torch.tensor(step / steps * torch.pi)).item())
    for group in optimizer.param_groups:
        group["lr"] = lr * min(1.0, step / warmup) * fall


def train_on_process(
    model: TransformerBridge,
    T: Float[Tensor, "token state state"],
    *,
    steps: int,
    batch: int = 128,
    lr: float = 2e-3,
    warmup: int = 100,
    seed: int = 0,
) -> Iterator[tuple[int, float]]:
    """Train in place on fresh strings as long as the model's context; yields each step and its loss, in nats a token.

    AdamW without weight decay, at the rates of `set_rate`.
    """
    length = model.cfg.n_ctx
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    data = sample_process(T, steps * batch, length, seed).view(steps, batch, length)
    model.train()
    with one_thread():  # products this small gain nothing from a second thread
        for step in range(1, steps + 1):
            set_rate(optimizer, lr, step, steps, warmup)
            tokens = data[step - 1]
            loss = torch.nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield step, loss.item()
    model.eval()


def stream_hook(layer: int) -> str:
    """Where the residual stream after a layer is hooked; layer 0 is the embedding."""
    return "blocks.0.hook_resid_pre" if layer == 0 else f"blocks.{layer - 1}.hook_resid_post"


def residual_stream(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], layers: Sequence[int] | None = None
) -> Float[Tensor, "layer batch pos d_model"]:
    """The residual stream after each of these layers (all by default); layer 0 is the embedding, `n_layers` the end."""
    wanted = [stream_hook(layer) for layer in (range(model.cfg.n_layers + 1) if layers is None else layers)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=wanted)
    return torch.stack([cache[name] for name in wanted])


def excess_loss(model: TransformerBridge, T: Float[Tensor, "token state state"]) -> float:
    """How much more the model pays for a token than a perfect predictor of the process would, in nats.

    The mean over the positions of the model's context, from the second token on: exact, over all strings.
    """
    strings = all_strings(T, model.cfg.n_ctx)
    with torch.no_grad():
        predicted = model(strings.tokens).log_softmax(-1)[:, :-1]
    best = next_token_probabilities(bayes_beliefs(strings.tokens, T), T)[:, :-1]
    divergence = (best * (best.clamp(min=1e-30).log() - predicted)).sum(-1)
    return float((strings.probability[:, None] * divergence).sum(0).mean())


# ---------------------------------------------------------------------------------------------------------------------
# Affine maps


class AffineMap(NamedTuple):
    """y ≈ x A + b."""

    A: Float[Tensor, "d state"]
    b: Float[Tensor, " state"]

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... state"]:
        return x @ self.A + self.b


def fit_affine(
    x: Float[Tensor, "sample d"],
    y: Float[Tensor, "sample state"],
    ridge: float = 1e-6,
    weights: Float[Tensor, " sample"] | None = None,
) -> AffineMap:
    """The affine map from x to y with the least weighted mean squared error.

    x and y are centered first, so that b is not shrunk. `ridge` times the mean variance of x is added to every
    variance, which only matters where x has fewer dimensions than it seems. Solved in float64.
    """
    w = torch.ones(len(x), dtype=torch.double) if weights is None else weights.double()
    w = w / w.sum()
    x, y = x.double(), y.double()
    mean_x, mean_y = w @ x, w @ y
    x, y = x - mean_x, y - mean_y
    gram = x.T @ (w[:, None] * x)
    gram += max(ridge * float(gram.diagonal().mean()), 1e-30) * torch.eye(x.shape[1], dtype=torch.double)
    A = torch.linalg.solve(gram, x.T @ (w[:, None] * y))
    return AffineMap(A.float(), (mean_y - mean_x @ A).float())
