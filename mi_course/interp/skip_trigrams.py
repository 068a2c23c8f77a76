"""Skip-trigrams of a one-layer attention-only model: its whole behavior, read from its weights.

With one layer, no MLP, no norm, no biases and no positions, the logits after a token are its row of W_E W_U plus, for
each head, rows of W_E W_OV W_U weighted by a softmax of W_E W_QK W_Eᵀ: tables over the vocabulary, and nothing else
(Elhage et al. 2021, "One-Layer Attention-Only Transformers"). The text is ours, a little market:

    . baker often gladly sells bread          each trader sells one thing and buys another
    . baker today buys yeast

What comes after the verb depends on the trader, some words before, and on the verb. A head's tables say what trader
and verb attend to and predict; they cannot tell `baker … sells bread` from `baker … sells yeast`, since what a source
predicts does not depend on the destination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.models import native
from mi_course.interp.models.bridge import one_thread

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

TRADERS = ("baker", "miller", "farmer", "smith", "miner")
SOLD = ("bread", "flour", "milk", "nails", "coal")
BOUGHT = ("yeast", "grain", "seed", "iron", "lamps")
VERBS = ("sells", "buys")
FILLERS = ("often", "today", "gladly", "always", "still")
WORDS = (".", *TRADERS, *VERBS, *SOLD, *BOUGHT, *FILLERS)
NAMELESS = 0.3  # of the training sentences name no trader: "not looking" must not mean one of them
LONGEST = 5  # fillers in a sentence
N_CTX = LONGEST + 4  # the full stop before, trader, verb, good

TRUE_TRIGRAMS = tuple(
    (trader, verb, goods[i])
    for verb, goods in zip(VERBS, (SOLD, BOUGHT), strict=True)
    for i, trader in enumerate(TRADERS)
)
"""(source, destination, prediction): the ten rules of the market."""
FALSE_TRIGRAMS = tuple((trader, VERBS[verb == VERBS[0]], good) for trader, verb, good in TRUE_TRIGRAMS)
"""The same with the other verb, which no sentence has."""


def word_ids(words: tuple[str, ...] | list[str]) -> list[int]:
    """Token ids of these words. Raises ValueError for a word that the market does not know."""
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a word of the market; these are: {', '.join(WORDS)}.")
    return [WORDS.index(word) for word in words]


def market_sentences(batch: int, fillers: int, seed: int, nameless: float = 0.0) -> Int[Tensor, "batch pos"]:
    """Random sentences with this many fillers: a full stop, a trader, fillers, a verb, and the good that follows.

    nameless: the share of sentences with one more filler in the trader's place, so that any trader's good may follow.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(words: tuple[str, ...], count: int) -> Tensor:
        first = WORDS.index(words[0])
        return torch.randint(first, first + len(words), (batch, count), generator=generator)

    trader, verb = draw(TRADERS, 1), draw(VERBS, 1)
    goods = torch.tensor([word_ids(SOLD), word_ids(BOUGHT)])
    good = goods[verb - WORDS.index(VERBS[0]), trader - WORDS.index(TRADERS[0])]
    named = torch.rand((batch, 1), generator=generator) < 1 - nameless
    start = torch.where(named, trader, draw(FILLERS, 1))
    return torch.cat([torch.zeros_like(trader), start, draw(FILLERS, fillers), verb, good], dim=1)


def untrained_market_model(seed: int = 0) -> TransformerBridge:
    """One layer of one head, in train mode. Positions and biases are zero and stay so."""
    config: dict[str, Any] = {
        "n_layers": 1,
        "n_heads": 1,
        "d_model": 32,
        "d_head": 16,
        "d_vocab": len(WORDS),
        "n_ctx": N_CTX,
        "attn_only": True,
        "positional_embedding_type": "standard",
        "normalization_type": None,
    }
    model = native.boot({**config, "seed": seed}, name="market").train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or name.split(".")[0] in ("pos", "pos_embed"):
                parameter.zero_()
                parameter.requires_grad_(False)
    return model


def train_market_model(
    model: TransformerBridge,
    *,
    steps: int = 1500,
    batch: int = 128,
    lr: float = 1e-2,
    weight_decay: float = 0.1,
    seed: int = 0,
) -> list[float]:
    """Train in place; returns the loss on the good at the end, in nats, every 100 steps, with nameless ones."""
    generator = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay)
    losses = []
    with one_thread():
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / 100, 2 * (steps - step) / steps)
            fillers, seed_of_batch = torch.randint(2**31, (2,), generator=generator).tolist()
            tokens = market_sentences(batch, fillers % (LONGEST + 1), seed_of_batch, nameless=NAMELESS)
            log_probs = model(tokens)[:, :-1].log_softmax(-1)
            loss = -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            if step % 100 == 99:
                losses.append(loss[:, -1].mean().item())
    model.eval()
    return losses


@dataclass(frozen=True)
class Tables:
    """All that a one-layer model without norm, biases and positions is: tables over its vocabulary, in logits."""

    direct: Float[Tensor, "destination prediction"]
    """W_E W_U: what a token predicts by itself."""
    scores: Float[Tensor, "head destination source"]
    """W_E W_QK W_Eᵀ, scaled: how strongly a destination attends to a source, before the softmax."""
    writes: Float[Tensor, "head source prediction"]
    """W_E W_OV W_U: what a source predicts when it is attended to."""

    def logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The model's logits, computed from the tables and from nothing else."""
        n = tokens.shape[1]
        visible = torch.ones(n, n, dtype=torch.bool).tril()
        out = self.direct[tokens]
        for scores, writes in zip(self.scores, self.writes, strict=True):
            score = scores[tokens[:, :, None], tokens[:, None, :]].masked_fill(~visible, -torch.inf)
            out = out + score.softmax(-1) @ writes[tokens]
        return out


@torch.no_grad()
def read_tables(model: TransformerBridge) -> Tables:
    """The tables of a one-layer attention-only model, from its weights.

    Raises ValueError for a model with more layers, an MLP, a norm, or biases or positions that are not zero: tables
    would not be all of it.
    """
    cfg, attn = model.cfg, model.blocks[0].attn
    loose = [
        name
        for name, parameter in model.named_parameters()
        if (name.endswith("bias") or name.startswith("pos")) and bool((parameter != 0).any())
    ]
    if cfg.n_layers != 1 or not cfg.attn_only or cfg.normalization_type or loose:
        why = f"its {loose[0]} is not zero" if loose else "it has more than one layer of attention and nothing else"
        raise ValueError(f"This model is more than tables of its vocabulary: {why}.")
    W_E, W_U = model.W_E, model.W_U
    keys = attn.W_K.repeat_interleave(attn.W_Q.shape[0] // attn.W_K.shape[0], dim=0)
    values = attn.W_V.repeat_interleave(attn.W_Q.shape[0] // attn.W_V.shape[0], dim=0)
    queries, keys, written = W_E @ attn.W_Q, W_E @ keys, W_E @ values @ attn.W_O
    return Tables(W_E @ W_U, queries @ keys.mT / cfg.d_head**0.5, written @ W_U)
