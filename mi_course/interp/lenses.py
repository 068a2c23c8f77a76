"""The logit lens and the tuned lens: text to fit and judge them on, how well they predict, and their table of words.

The logit lens (nostalgebraist 2020) reads the residual stream of every layer with the final norm and the unembedding.
The tuned lens (Belrose et al. 2023) first carries it to the last layer by an affine map, one for each layer. Streams
are counted from the embedding: stream 0 enters layer 0, stream l + 1 leaves layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mi_course.interp.massive import massive_tokens
from mi_course.interp.prompts import read_prompts, word_ids
from mi_course.interp.sae.activations import sampled_tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt

BATCH = 8
CAPITALS = (
    *(("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Russia", "Moscow")),
    *(("Japan", "Tokyo"), ("China", "Beijing"), ("England", "London"), ("Egypt", "Cairo"), ("Greece", "Athens")),
    *(("Poland", "Warsaw"), ("Austria", "Vienna"), ("Ireland", "Dublin"), ("Norway", "Oslo"), ("Sweden", "Stockholm")),
    *(("Denmark", "Copenhagen"), ("Cuba", "Havana"), ("Iran", "Tehran"), ("Iraq", "Baghdad"), ("Portugal", "Lisbon")),
    *(("Hungary", "Budapest"), ("India", "Delhi"), ("Canada", "Ottawa"), ("Kenya", "Nairobi"), ("Peru", "Lima")),
    *(("Syria", "Damascus"), ("Belgium", "Brussels"), ("Finland", "Helsinki"), ("Israel", "Jerusalem")),
    ("Ukraine", "Kiev"),
)
"""Countries and capitals that are one token of SmolLM2 each, with a leading space."""
GRAMMAR = (
    *(("He is older", "than"), ("As soon", "as"), ("She was looking forward", "to"), ("They were able", "to")),
    *(("It depends", "on"), ("She is afraid", "of"), ("The book consists", "of"), ("In front", "of")),
    *(("She is capable", "of"), ("It is not only cheap,", "but"), ("He is interested", "in"), ("They insisted", "on")),
    *(("We are proud", "of"), ("She is similar", "to"), ("It is made up", "of"), ("This is different", "from")),
)
"""Beginnings that a small word of grammar has to follow, and that word."""


def sampled_text(first: int, rows: int, length: int) -> Int[Tensor, "row pos"]:
    """Text that SmolLM2 wrote (`data/smollm2-sampled.safetensors`): rows from `first` on, BOS and `length` tokens each.

    The file's rows are taken in an order of our own, which mixes its openings; the same numbers give the same rows.
    Raises ValueError where there are not as many rows or tokens.
    """
    tokens = sampled_tokens()
    if first + rows > len(tokens) or length + 1 > tokens.shape[1]:
        raise ValueError(f"There are {len(tokens)} rows of BOS and {tokens.shape[1] - 1} tokens.")
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    return tokens[order[first : first + rows], : length + 1]


@dataclass(frozen=True)
class Streams:
    """The residual streams of many tokens, without BOS and without massive activations."""

    resid: Float[Tensor, "1+layer token d_model"]
    tokens: Int[Tensor, " token"]


def _stream_names(model: TransformerBridge) -> list[str]:
    return [
        "blocks.0.hook_resid_pre",
        *(f"blocks.{layer}.hook_resid_post" for layer in range(int(model.cfg.n_layers))),
    ]


@torch.no_grad()
def read_streams(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Streams:
    """All streams at every position but BOS. Tokens whose stream is massive in the middle layer are left out."""
    names = _stream_names(model)
    parts, kept = [], []
    for rows in tokens.split(BATCH):
        _, cache = model.run_with_cache(rows, names_filter=names, return_type=None)
        resid = torch.stack([cache[name] for name in names])
        real = torch.ones_like(rows, dtype=torch.bool)
        real[:, 0] = False
        usual = real & ~massive_tokens(resid[len(names) // 2].norm(dim=-1), real)
        parts.append(resid[:, usual])
        kept.append(rows[usual])
    return Streams(torch.cat(parts, dim=1), torch.cat(kept))


@torch.no_grad()
def last_streams(model: TransformerBridge, prompts: Sequence[Prompt]) -> Float[Tensor, "1+layer prompt d_model"]:
    """All streams after each prompt's last token."""
    batch = read_prompts(model, prompts, side="left")
    names = _stream_names(model)
    _, cache = model.run_with_cache(batch.tokens, names_filter=names, return_type=None, **batch.forward_options())
    return torch.stack([cache[name][:, -1] for name in names])


def lens_questions(
    model: TransformerBridge,
) -> dict[str, tuple[Float[Tensor, "1+layer prompt d_model"], list[int]]]:
    """Streams at the end of prompts and the token that should follow, of three kinds: facts, repetition and grammar.

    Facts: "The capital of X is". Repetition: 20 random tokens written twice, up to every second token of the second
    copy, in two texts. Grammar: `GRAMMAR`.
    """
    texts = {"fact": [(f"The capital of {land} is", city) for land, city in CAPITALS], "grammar": GRAMMAR}
    questions = {
        kind: (last_streams(model, [text for text, _ in rows]), word_ids(model, [word for _, word in rows]))
        for kind, rows in texts.items()
    }
    half = torch.randint(1000, 40_000, (2, 20), generator=torch.Generator().manual_seed(0))
    twice = torch.cat([torch.full((2, 1), model.tokenizer.bos_token_id), half, half], dim=1)
    ends = range(22, 41, 2)
    copies = torch.cat([last_streams(model, [row[:end].tolist() for row in twice]) for end in ends], dim=1)
    return questions | {"repetition": (copies, twice[:, list(ends)].T.flatten().tolist())}


@torch.no_grad()
def lens_quality(
    streams: Streams,
    read: Callable[[int, Float[Tensor, "token d_model"]], Float[Tensor, "token vocab"]],
    final: Float[Tensor, "token vocab"],
    numbers: Sequence[int],
) -> tuple[Float[Tensor, " number"], Float[Tensor, " number"]]:
    """How well the readings of these streams predict what the model says in the end: (cross-entropy, bias), in nats.

    read: (stream's number, stream) to log-probabilities. final: the model's own. Cross-entropy: of the
    model's own distribution with the reading, mean over tokens; at the last stream the model's
    own entropy. Bias: KL divergence from the model's marginal distribution, the mean over all tokens, to the reading's
    (Belrose et al. 2023, section 3.1).
    """
    final = final.exp()
    marginal = final.mean(0)
    losses, biases = [], []
    for number in numbers:
        log_probs = read(number, streams.resid[number])
        losses.append(-(final * log_probs).sum(-1).mean())
        mean = log_probs.exp_().mean(0)
        biases.append((marginal * (marginal.clamp(min=1e-30).log() - mean.clamp(min=1e-30).log())).sum())
    return torch.stack(losses), torch.stack(biases)


def top_words(
    model: TransformerBridge, log_probs: Float[Tensor, "layer pos vocab"], k: int = 5
) -> tuple[Float[Tensor, "layer pos"], list[list[str]], list[list[str]]]:
    """What `show.heatmap` needs for a lens: probability of each top token, the token, and the k likeliest for hover."""
    best = log_probs.topk(k, dim=-1)
    chance = best.values.detach().exp()
    words = [[[model.tokenizer.decode(token) for token in ids] for ids in row] for row in best.indices]
    hover = [
        [
            "\n".join(f"{word!r} {float(p):.2f}" for word, p in zip(cell, chance[layer, pos], strict=True))
            for pos, cell in enumerate(row)
        ]
        for layer, row in enumerate(words)
    ]
    return chance[..., 0], [[cell[0] for cell in row] for row in words], hover
