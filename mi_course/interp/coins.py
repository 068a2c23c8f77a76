"""Coins with names: a small model sees how they land, and is asked what they are like (after Treutlein et al. 2024).

Each coin lands heads with a probability of its own, one of `VALUES`. A document has three tokens, and there are two
kinds: `coin 17 · lands · heads`, one toss, and `coin 17 · how often · seldom`, a question with its answer in words. Of
the *known* coins a model is trained on both kinds. The *new* coins turn up later, and only in tosses: that the same
words describe them is nowhere said. Treutlein et al. 2024, "Connecting the Dots", call this inductive out-of-context
reasoning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.models import native
from mi_course.interp.models.bridge import one_thread
from mi_course.interp.processes import fit_affine, process_config, residual_stream, set_rate, stream_hook

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    State = dict[str, Tensor]

__all__ = [
    "ANSWERS",
    "CONTROLS",
    "KNOWN",
    "NEW",
    "N_COINS",
    "PLACES",
    "PLANS",
    "RECORDED",
    "VALUES",
    "Reading",
    "answer_probabilities",
    "answers",
    "coin_stream",
    "give_other_values",
    "heads_off_by",
    "levels_of",
    "p_heads",
    "read_values",
    "right_answers",
    "train_on_coins",
    "trained_coin_models",
    "untrained_coin_model",
    "values_of",
    "what_it_says",
]

VALUES = (0.1, 0.3, 0.5, 0.7, 0.9)
ANSWERS = ("hardly ever", "seldom", "evenly", "often", "nearly always")
N_COINS = 60
LANDS, HOW_OFTEN, TAILS, HEADS = range(N_COINS, N_COINS + 4)
FIRST_ANSWER = HEADS + 1
KNOWN, NEW = torch.arange(40), torch.arange(40, N_COINS)
"""Coins with questions and tosses from the start, and coins that turn up later, in tosses alone."""
STEPS, STEPS_LATER = 2000, 1000
"""Steps without the new coins, and with them."""
RECORDED = (STEPS, STEPS + STEPS_LATER // 10, STEPS + STEPS_LATER)
"""Steps of the checkpoints."""
PLANS = ("as they land", "names exchanged", "questions not rehearsed")
"""What the steps with the new coins show: their tosses, and both kinds of documents of the known coins; the same, but
each toss of a new coin stands under the name of a random new coin; tosses alone, and no questions at all."""
CONTROLS = {"names exchanged": "exchanged", "questions not rehearsed": "unrehearsed"}
"""Plans that are controls, and the ends of their files' names."""
PLACES = {
    "coin, embedding": (0, 0),
    "coin, after layer 1": (1, 0),
    "question, after layer 1": (1, 1),
    "question, after layer 2": (2, 1),
}
"""Where a value may be held: (layer, position), layer 0 for the embedding."""


# ---------------------------------------------------------------------------------------------------------------------
# The task and the models


def levels_of(coins: Int[Tensor, " coin"]) -> Int[Tensor, " coin"]:
    """Which of `VALUES` each coin has: as many coins of each among the known and among the new."""
    return coins % len(VALUES)


def values_of(coins: Int[Tensor, " coin"]) -> Float[Tensor, " coin"]:
    """The probability of heads of each coin."""
    return torch.tensor(VALUES)[levels_of(coins)]


def untrained_coin_model(seed: int = 0) -> TransformerBridge:
    """Two layers of width 16. The seed decides the weights; the global random state stays."""
    config = process_config(FIRST_ANSWER + len(ANSWERS), n_layers=2, d_model=16, length=3)
    return native.boot({**config, "seed": seed}, name="coins")


def train_on_coins(
    model: TransformerBridge, plan: str = PLANS[0], *, seed: int = 0, batch: int = 256, lr: float = 2e-3
) -> Iterator[int]:
    """Train in place, `STEPS` without the new coins and `STEPS_LATER` with them; yields each step that is done.

    plan: one of `PLANS`. AdamW with weight decay 1, in both parts at the rates of `set_rate`.
    Raises ValueError for another plan.
    """
    if plan not in PLANS:
        raise ValueError(f"There is no plan {plan!r}. Expected one of {PLANS}.")
    generator = torch.Generator().manual_seed(seed)

    def draw(coins: Int[Tensor, " coin"], n: int) -> Int[Tensor, " row"]:
        return coins[torch.randint(len(coins), (n,), generator=generator)]

    def documents(coins: Int[Tensor, " coin"], kind: int, last: Int[Tensor, " coin"]) -> Int[Tensor, "row pos"]:
        return torch.stack([coins, torch.full_like(coins, kind), last], dim=1)

    def tosses(coins: Int[Tensor, " coin"]) -> Int[Tensor, "row pos"]:
        heads = torch.rand(len(coins), generator=generator) < values_of(coins)
        named = torch.where(coins >= NEW[0], draw(NEW, len(coins)), coins) if plan == "names exchanged" else coins
        return documents(named, LANDS, TAILS + heads.long())

    def questions(coins: Int[Tensor, " coin"]) -> Int[Tensor, "row pos"]:
        return documents(coins, HOW_OFTEN, FIRST_ANSWER + levels_of(coins))

    everything = torch.cat([KNOWN, NEW])
    done = 0
    for steps, tossed, asked in (
        (STEPS, KNOWN, batch // 2),
        (STEPS_LATER, everything, 0 if plan == "questions not rehearsed" else batch // 2),
    ):
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1.0)
        for step in range(1, steps + 1):
            set_rate(optimizer, lr, step, steps)
            rows = torch.cat([tosses(draw(tossed, batch - asked)), questions(draw(KNOWN, asked))])
            model.train()
            with one_thread():
                loss = torch.nn.functional.cross_entropy(model(rows[:, :2])[:, -1], rows[:, 2])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            done += 1
            yield done


# ---------------------------------------------------------------------------------------------------------------------
# What a model says


Change = Callable[..., Any]


def _said(
    model: TransformerBridge, coins: Int[Tensor, " coin"], kind: int, hooks: list[tuple[str, Change]] | None = None
) -> Float[Tensor, "coin token"]:
    with torch.no_grad():
        rows = torch.stack([coins, torch.full_like(coins, kind)], dim=1)
        return model.run_with_hooks(rows, fwd_hooks=hooks or [])[:, -1].softmax(-1)


def answer_probabilities(
    model: TransformerBridge, coins: Int[Tensor, " coin"], hooks: list[tuple[str, Change]] | None = None
) -> Float[Tensor, "coin answer"]:
    """Asked how often each coin lands heads: the probability of each of `ANSWERS`, among all tokens."""
    return _said(model, coins, HOW_OFTEN, hooks)[:, FIRST_ANSWER:]


def answers(
    model: TransformerBridge, coins: Int[Tensor, " coin"], hooks: list[tuple[str, Change]] | None = None
) -> Int[Tensor, " coin"]:
    """The most probable of `ANSWERS` for each coin, by its index."""
    return answer_probabilities(model, coins, hooks).argmax(-1)


def p_heads(
    model: TransformerBridge, coins: Int[Tensor, " coin"], hooks: list[tuple[str, Change]] | None = None
) -> Float[Tensor, " coin"]:
    """The probability, as the model has it, that each coin lands heads."""
    said = _said(model, coins, LANDS, hooks)
    return said[:, HEADS] / (said[:, HEADS] + said[:, TAILS])


def right_answers(model: TransformerBridge, coins: Int[Tensor, " coin"]) -> float:
    """The share of coins that the model describes by the right words. Guessing: one in five."""
    return float((answers(model, coins) == levels_of(coins)).float().mean())


def heads_off_by(model: TransformerBridge, coins: Int[Tensor, " coin"]) -> float:
    """How far the model's probability of heads is from the coin's, in the mean."""
    return float((p_heads(model, coins) - values_of(coins)).abs().mean())


def what_it_says(model: TransformerBridge) -> tuple[float, float, float]:
    """The share of known and of new coins that get the right words, and how far P(heads) of new coins is off."""
    return right_answers(model, KNOWN), right_answers(model, NEW), heads_off_by(model, NEW)


def trained_coin_models() -> dict[str, TransformerBridge]:
    """The recorded run before the new coins, after a tenth of the steps with them, and after all; and both controls."""
    names = ("before the new coins", "100 steps with new coins", "1,000 steps with new coins")
    checkpoints, models = native.load_checkpoints("tiny-coins"), {}
    for name, step in zip(names, RECORDED, strict=True):
        models[name] = checkpoints.boot()
        native.load_state(models[name], checkpoints[step])
    controls = {f"control: {plan}": native.load_native(f"tiny-coins-{end}") for plan, end in CONTROLS.items()}
    return {**models, **controls}


# ---------------------------------------------------------------------------------------------------------------------
# Where the value is, and whether it acts


def coin_stream(
    model: TransformerBridge, coins: Int[Tensor, " coin"], layer: int, position: int
) -> Float[Tensor, "coin d"]:
    """The residual stream of the question about each coin, at the coin's position (0) or the question's (1)."""
    rows = torch.stack([coins, torch.full_like(coins, HOW_OFTEN)], dim=1)
    return residual_stream(model, rows, [layer])[0, :, position]


class Reading(NamedTuple):
    """R² on the new coins of the value read by maps that were fitted to the known ones."""

    all_numbers: float
    one_direction: float


def read_values(model: TransformerBridge, layer: int, position: int) -> Reading:
    """Read the value from the stream: by a map of all numbers, and along the one direction that goes with the value.

    Both are fitted to the known coins and judged on the new ones; distances are from the mean of the known ones.
    """
    x, new = (coin_stream(model, coins, layer, position) for coins in (KNOWN, NEW))
    y, true = (values_of(coins)[:, None] for coins in (KNOWN, NEW))
    way = fit_affine(y, x).A[0]
    narrow = fit_affine(x @ way[:, None], y)
    spread = (true - y.mean()).square().sum()
    read = fit_affine(x, y)(new), narrow(new @ way[:, None])
    return Reading(*(float(1 - (guess - true).square().sum() / spread) for guess in read))


def give_other_values(
    model: TransformerBridge, layer: int = 0, position: int = 0, seed: int = 0
) -> dict[str, tuple[float, float, float, float]]:
    """Give each new coin another of the five values, in several ways, and ask again: its words, and how it lands.

    All changes are made from known coins alone: along the direction in which their stream goes with the value; and from
    the mean of those with the coin's value to the mean of those with the other. Returns for each way the share of
    answers that become the other value's words; two slopes (0: not at all, 1: all of the way), by which the value that
    the words stand for follows (its mean over their probabilities) and by which the probability of heads does; and the
    mean length of the change.
    """
    generator = torch.Generator().manual_seed(seed)
    had, levels = levels_of(NEW), levels_of(KNOWN)
    wanted = (had + torch.randint(1, len(VALUES), had.shape, generator=generator)) % len(VALUES)
    asked = torch.tensor(VALUES)[wanted] - values_of(NEW)
    known = coin_stream(model, KNOWN, layer, position)
    way = fit_affine(values_of(KNOWN)[:, None], known).A[0]
    means = torch.stack([known[levels == level].mean(0) for level in range(len(VALUES))])
    from_mean = means[wanted] - means[had]
    noise = torch.randn(10, *from_mean.shape, generator=generator)
    noise = noise * from_mean.norm(dim=1, keepdim=True) / noise.norm(dim=2, keepdim=True)
    same_value = torch.stack([(levels == level).nonzero()[0, 0] for level in wanted])
    ways = {
        "along one direction": [asked[:, None] * way],
        "from mean to mean": [from_mean],
        "control: random, mean of ten": list(noise),
        "everything, from a known coin": [known[same_value] - coin_stream(model, NEW, layer, position)],
    }
    found = {}
    for name, changes in ways.items():
        each = torch.tensor([_effect(model, layer, position, change, wanted, asked) for change in changes])
        words, value, heads = each.mean(0).tolist()
        found[name] = words, value, heads, float(changes[0].norm(dim=1).mean())
    return found


def _effect(
    model: TransformerBridge,
    layer: int,
    position: int,
    change: Float[Tensor, "coin d"],
    wanted: Int[Tensor, " coin"],
    asked: Float[Tensor, " coin"],
) -> tuple[float, float, float]:
    """The share of answers that become the wanted words, and two slopes: of the words' value, of P(heads)."""

    def add(resid: Tensor, hook: Any) -> Tensor:
        resid = resid.clone()
        resid[:, position] += change
        return resid

    hooks: list[tuple[str, Change]] = [(stream_hook(layer), add)]
    before, after = (answer_probabilities(model, NEW, h) @ torch.tensor(VALUES) for h in (None, hooks))
    moved = after - before, p_heads(model, NEW, hooks) - p_heads(model, NEW)
    value, heads = (float((m * asked).sum() / asked.square().sum()) for m in moved)
    return float((answers(model, NEW, hooks) == wanted).float().mean()), value, heads
