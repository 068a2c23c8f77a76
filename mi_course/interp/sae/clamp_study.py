"""Does turning one latent up make the model write about a concept, and does the text still hold together?

    study = ClampStudy.of(model, sae)
    move = Clamp(sae, 812, 6.0)                                      or Add(vector): any rival of the same norm
    rise = study.log_odds([move], prompts, ids) - study.log_odds([None], prompts, ids)
    others = [Clamp(sae, i, v) for i, v in same_norm(sae, 812, 6.0, latents)]
    texts = study.write([None, move, *others], prompts, samples=4)   continuations, each move's in a list
    study.loss(texts[1])                                             nats per token under the *unsteered* model
    effects(study, [move, *others], prompts, words)                  all of this in numbers
    dose_response(study, rivals_of(sae, 812, vector, others), [10.0, 20.0], prompts, words)

A *move* changes the residual stream after the layer at every position but the first of each row, which is the attention
sink; None changes nothing. Many moves run as one batch. Unsteered and steered text are measured alike.

The concept is measured twice: by the log-odds of its words as the next word (cheap and smooth, so that hundreds of
random latents can be measured), and by the share of continuations that use one of them. So is coherence: by the loss of
the continuations under the unsteered model, and by how varied they are, since a loop of one word is predictable.

Sources: Templeton et al. 2024 (clamping, the error term kept); Wu et al. 2025 (AxBench: a difference of means does
better than latents); Durmus et al. 2024 (a sweet spot, beyond which the text falls apart).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mi_course.interp.prompts import TokenBatch, last_logits, only_last, read_prompts, word_ids
from mi_course.interp.steering.controls import random_controls, with_norm
from mi_course.interp.steering.generating import generate_ids
from mi_course.interp.steering.scoring import different_words, score_blind, variety

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt


# ---------------------------------------------------------------------------------------------------------------------
# Moves


@dataclass(frozen=True, eq=False)
class Clamp:
    """One latent set to a value, in the SAE's stored units, with the reconstruction error kept."""

    sae: Any
    index: int
    value: float

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        f = self.sae.encode(x.float())[..., self.index]
        return x + ((self.value - f)[..., None] * self.sae.W_dec[self.index].detach()).to(x.dtype)

    @classmethod
    def adding(cls, sae: Any, index: int, norm: float) -> Clamp:
        """At the value with which it adds a vector of this norm where the latent is inactive."""
        return cls(sae, int(index), norm / float(sae.W_dec[index].detach().norm()))

    @property
    def norm(self) -> float:
        """Of what is added where the latent is inactive."""
        return abs(self.value) * float(self.sae.W_dec[self.index].detach().norm())


@dataclass(frozen=True, eq=False)
class Add:
    """A vector that is added."""

    vector: Float[Tensor, " d"]

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return x + self.vector.to(x)

    @property
    def norm(self) -> float:
        return float(self.vector.norm())


Move = Clamp | Add


def same_norm(sae: Any, index: int, value: float, others: Sequence[int]) -> list[Clamp]:
    """The other latents, each clamped so that it adds a vector of the same norm, and with the same sign."""
    norms = sae.W_dec.detach().norm(dim=1)
    return [Clamp(sae, int(i), value * float(norms[index] / norms[i])) for i in others]


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


class Text(NamedTuple):
    """A continuation."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True, eq=False)
class ClampStudy:
    """A model and a layer, after which the residual stream is moved."""

    model: TransformerBridge
    sae: Any
    layer: int

    @classmethod
    def of(cls, model: TransformerBridge, sae: Any) -> ClampStudy:
        """The layer is read from `sae.about`. ValueError if the SAE does not belong to a residual stream."""
        hook = str(sae.about.get("hook_name", ""))
        parts = hook.split(".")
        if len(parts) != 3 or parts[0] != "blocks" or parts[2] != "hook_resid_post" or sae.about.get("hook_name_out"):
            raise ValueError(f"This SAE belongs to {hook or 'no hook'!r}, expected blocks.<layer>.hook_resid_post.")
        return cls(model, sae, int(parts[1]))

    def log_odds(
        self, moves: Sequence[Move | None], prompts: Sequence[Prompt], ids: Sequence[int], *, batch_size: int = 256
    ) -> Float[Tensor, "move prompt"]:
        """log of p(one of these ids comes next) / p(none of them does), in nats, after each prompt.

        With SmolLM2 the layers below the move run once. ValueError for no ids.
        """
        return self.log_odds_of_sets(moves, prompts, [ids], batch_size=batch_size)[0]

    def log_odds_of_sets(
        self,
        moves: Sequence[Move | None],
        prompts: Sequence[Prompt],
        sets: Sequence[Sequence[int]],
        *,
        batch_size: int = 256,
    ) -> Float[Tensor, "set move prompt"]:
        """`log_odds` of several sets of ids, from the same forward passes."""
        if not all(len(ids) for ids in sets):
            raise ValueError("ids is empty: an empty set of words has no probability.")
        batch = read_prompts(self.model, prompts, side="left")
        out: list[Tensor] = []
        with torch.no_grad():
            for logits in self._last_logits(moves, batch, batch_size):
                columns = []
                for ids in sets:
                    chosen = sorted(set(ids))
                    rest = logits.float().clone()
                    rest[:, chosen] = -torch.inf
                    columns.append((logits[:, chosen].float().logsumexp(-1) - rest.logsumexp(-1)).cpu())
                out.append(torch.stack(columns))
        return torch.cat(out, dim=1).view(len(sets), len(moves), len(batch))

    def _last_logits(
        self, moves: Sequence[Move | None], batch: TokenBatch, batch_size: int
    ) -> Iterator[Float[Tensor, "row vocab"]]:
        """Of each move and prompt, prompts last, in parts."""
        if self.layer + 1 == self.model.cfg.n_layers or type(self.model.original_model).__name__ != "LlamaForCausalLM":
            for move in moves:  # such a model cannot go on from a stream
                with moved(self.model, self.layer, [move]):
                    yield last_logits(self.model, batch)
            return
        below, first = self.streams(batch), _first(batch)
        stream = torch.cat(
            [below if move is None else torch.where(first[..., None], below, move(below)) for move in moves]
        )
        where = torch.arange(len(batch), device=stream.device).repeat(len(moves))
        for start in range(0, len(stream), batch_size):
            some = slice(start, start + batch_size)
            yield self._resumed(stream[some], batch.rows(where[some]))

    def streams(self, batch: TokenBatch) -> Float[Tensor, "row pos d"]:
        """The residual stream after the layer."""
        seen: list[Tensor] = []
        stop = None if self.layer + 1 == self.model.cfg.n_layers else self.layer + 1

        def keep(x: Tensor, hook: Any) -> None:
            seen.append(x.detach())

        with torch.no_grad(), self.model.hooks(fwd_hooks=[(f"blocks.{self.layer}.hook_resid_post", keep)]):
            self.model(batch.tokens, return_type=None, stop_at_layer=stop, **batch.forward_options())
        return seen[0]

    def latents(self, prompts: Sequence[Prompt]) -> Float[Tensor, "token F"]:
        """The SAE's activations on every token of these texts but the first of each, one after the other."""
        batch = read_prompts(self.model, prompts, side="left")
        counted = batch.mask & ~_first(batch)
        with torch.no_grad():
            return self.sae.encode(self.streams(batch)[counted].float())

    def write(
        self,
        moves: Sequence[Move | None],
        prompts: Sequence[Prompt],
        *,
        samples: int = 1,
        max_new_tokens: int = 24,
        temperature: float = 0.8,
        seed: int = 0,
    ) -> list[list[Text]]:
        """Of each move, continuations of every prompt, so many samples of each. A row ends before end-of-text."""
        batch = read_prompts(self.model, prompts, side="left")
        rows = [row[real].tolist() for row, real in zip(batch.tokens, batch.mask, strict=True) for _ in range(samples)]
        with moved(self.model, self.layer, moves):
            ids = generate_ids(
                self.model,
                rows * len(moves),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
            )
        texts = [
            Text(tuple(row), tuple(new), self.model.tokenizer.decode(new))
            for row, new in zip(rows * len(moves), ids, strict=True)
        ]
        return [texts[i : i + len(rows)] for i in range(0, len(texts), len(rows))]

    def loss(self, texts: Sequence[Text], *, batch_size: int = 32) -> list[float]:
        """Nats per token of each continuation, given its prompt, under the unsteered model. NaN for an empty one."""
        losses = []
        for start in range(0, len(texts), batch_size):
            some = texts[start : start + batch_size]
            batch = read_prompts(self.model, [text.prompt + text.tokens for text in some], side="right")
            with torch.no_grad():
                logits = self.model(batch.tokens, return_type="logits", **batch.forward_options())
            for row, ids, text in zip(logits.float(), batch.tokens, some, strict=True):
                own = slice(len(text.prompt), len(text.prompt) + len(text.tokens))
                each = torch.nn.functional.cross_entropy(row[own.start - 1 : own.stop - 1], ids[own], reduction="none")
                losses.append(float(each.mean()))
        return losses

    def _resumed(self, stream: Float[Tensor, "row pos d"], batch: TokenBatch) -> Float[Tensor, "row vocab"]:
        """Logits after the last column, from the stream after the layer; the layers below do not run."""
        blocks = [self.model.blocks[i] for i in range(self.layer + 1)]
        # `start_at_layer` throws away what the blocks below compute, but lets them compute it.
        for block in blocks:
            vars(block)["forward"] = _passed_on
        try:
            options = {**only_last(self.model), **batch.forward_options()}
            return self.model(stream, return_type="logits", start_at_layer=len(blocks), **options)[:, -1]
        finally:
            for block in blocks:
                del vars(block)["forward"]


def _passed_on(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _first(batch: TokenBatch) -> Tensor:
    """Where each prompt's first token is, and padding before it."""
    return batch.mask.cumsum(1) <= 1


@contextmanager
def moved(model: TransformerBridge, layer: int, moves: Sequence[Move | None]) -> Iterator[TransformerBridge]:
    """A context in which every forward pass has its stream moved after the layer, each move in its part of the rows.

    The rows of a batch belong to the moves in equal parts, in order. The first token of each row stays, also after
    padding; steps with a key/value cache move their new tokens. Hooks are removed afterwards, also after an error.
    """
    now = SimpleNamespace(past=0, mask=None)

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        now.past, now.mask = 0 if cache is None else int(cache.get_seq_length()), kwargs.get("attention_mask")

    def change(x: Tensor, hook: Any) -> Tensor:
        if len(x) % len(moves):
            raise ValueError(f"{len(x)} rows cannot be shared out to {len(moves)} moves in equal parts.")
        parts = zip(x.split(len(x) // len(moves)), moves, strict=True)
        new = torch.cat([part if move is None else move(part) for part, move in parts])
        if now.past > 0:
            return new
        mask = torch.ones_like(x[..., 0]) if now.mask is None else now.mask
        return torch.where((mask.cumsum(1) <= 1)[..., None], x, new)

    # The only place that sees the cache and the mask of every pass.
    handle = model.original_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", change)]):
            yield model
    finally:
        handle.remove()


# ---------------------------------------------------------------------------------------------------------------------
# Concept and coherence


class Effect(NamedTuple):
    """What a move does; of several moves, the mean."""

    norm: float
    """Of what is added where the latent is inactive."""
    log_odds: float
    """By how many nats the log-odds of the concept's words rise, over the prompts."""
    mentions: float
    """The share of continuations with one of the concept's words at least."""
    loss: float
    """By how many nats per token the continuations are less likely, under the unsteered model, than its own are."""
    variety: float
    """The mean share of different pairs among the neighboring words of a continuation."""


def blind_mentions(
    conditions: Mapping[str, Sequence[Text]], words: Sequence[str], *, seed: int = 0
) -> dict[str, float]:
    """The share of each condition's texts that use one of the words. All texts are shuffled before they are judged."""
    texts = {name: [text.text for text in each] for name, each in conditions.items()}
    scores = score_blind(texts, lambda all_texts: [different_words(text, words) > 0 for text in all_texts], seed=seed)
    return {name: sum(each) / len(each) for name, each in scores.items()}


def coherence(study: ClampStudy, written: Sequence[Sequence[Text]]) -> tuple[list[float], list[float]]:
    """Of each move's texts the mean loss under the unsteered model, in nats per token, and the mean variety."""
    losses = [mean_of(study.loss(texts)) for texts in written]
    return losses, [mean_of([variety(text.text) for text in texts]) for texts in written]


def effects(
    study: ClampStudy,
    moves: Sequence[Move | None],
    prompts: Sequence[Prompt],
    words: Sequence[str],
    *,
    samples: int = 2,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    seed: int = 0,
    odds: bool = True,
) -> list[Effect]:
    """What each move does, against the unsteered model. words: each one token after a space, as for `word_ids`.

    odds: False leaves the log-odds out (they are NaN).
    """
    all_moves = [None, *moves]
    log_odds = torch.full((len(all_moves),), torch.nan)
    if odds:
        log_odds = study.log_odds(all_moves, prompts, word_ids(study.model, words)).mean(1)
    written = study.write(
        all_moves, prompts, samples=samples, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    mentions = blind_mentions({str(i): texts for i, texts in enumerate(written)}, words, seed=seed)
    losses, various = coherence(study, written)
    return [
        Effect(
            move.norm if move else 0.0,
            float(log_odds[i] - log_odds[0]),
            mentions[str(i)],
            losses[i] - losses[0],
            various[i],
        )
        for i, move in enumerate(all_moves)
    ]


def dose_response(
    study: ClampStudy,
    rivals: Mapping[str, Callable[[float], Sequence[Move]]],
    norms: Sequence[float],
    prompts: Sequence[Prompt],
    words: Sequence[str],
    **options: Any,
) -> dict[str, list[Effect]]:
    """Concept and coherence against the norm of what is added; each rival's mean over its moves of that norm.

    rivals: as `rivals_of` makes them. options: as for `effects`. The
    result has "unsteered" too, written once, the same for each norm.
    """
    moves = {name: [list(make(norm)) for norm in norms] for name, make in rivals.items()}
    every = [move for each in moves.values() for some in each for move in some]
    unsteered, *effect = effects(study, every, prompts, words, **options)
    found = iter(effect)
    means = {
        name: [Effect(*map(mean_of, zip(*islice(found, len(some)), strict=True))) for some in each]
        for name, each in moves.items()
    }
    return {"unsteered": [unsteered] * len(norms), **means}


def rivals_of(
    sae: Any, index: int, direction: Float[Tensor, " d"], others: Sequence[int], *, directions: int = 4, seed: int = 0
) -> dict[str, Callable[[float], list[Move]]]:
    """A latent and what it has to beat, each as a function of the norm: for `dose_response`.

    direction: a difference of means, say. others: latents that are clamped instead. directions: how many random ones.
    """
    noise = random_controls(direction, directions, seed)
    return {
        "latent": lambda norm: [Clamp.adding(sae, index, norm)],
        "difference of means": lambda norm: [Add(with_norm(direction, norm))],
        "random latents": lambda norm: [Clamp.adding(sae, i, norm) for i in others],
        "random directions": lambda norm: [Add(with_norm(row, norm)) for row in noise],
    }


def mean_of(values: Sequence[float]) -> float:
    """Without NaN, which an empty text has."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


# ---------------------------------------------------------------------------------------------------------------------
# Which latent, and how far


def concept_direction(study: ClampStudy, sentences: Sequence[str], others: Sequence[str]) -> Float[Tensor, " d"]:
    """The difference of means of the stream between the tokens of two sets of sentences, first tokens left out."""
    means = []
    for texts in (sentences, others):
        batch = read_prompts(study.model, texts, side="left")
        means.append(study.streams(batch)[batch.mask & ~_first(batch)].mean(0))
    return means[0] - means[1]


def latents_for(study: ClampStudy, sentences: Sequence[str], others: Sequence[str], n: int = 20) -> list[int]:
    """The latents that are more active on these sentences than on others, by mean activation times decoder norm."""
    difference = study.latents(sentences).mean(0) - study.latents(others).mean(0)
    return (difference * study.sae.W_dec.detach().norm(dim=1)).topk(n).indices.tolist()


def choose_latent(
    study: ClampStudy, candidates: Sequence[int], prompts: Sequence[Prompt], words: Sequence[str], norm: float
) -> tuple[int, Float[Tensor, " candidate"]]:
    """The candidate that raises the log-odds of the words most when it adds a vector of this norm; and all rises."""
    moves = [None, *(Clamp.adding(study.sae, i, norm) for i in candidates)]
    log_odds = study.log_odds(moves, prompts, word_ids(study.model, words)).mean(1)
    rises = log_odds[1:] - log_odds[0]
    return int(candidates[int(rises.argmax())]), rises


def choose_norm(doses: Sequence[Effect], most_loss: float, least_variety: float) -> float:
    """The norm of the dose that most continuations mention the concept under, among those that cost little enough.

    most_loss, least_variety: what a dose may have at most, or must have at least. The smallest norm if none qualifies.
    Equal shares: the larger rise of the log-odds.
    """
    fine = [dose for dose in doses if dose.loss <= most_loss and dose.variety >= least_variety]
    return max(fine, key=lambda dose: (dose.mentions, dose.log_odds)).norm if fine else doses[0].norm


def comparable_latents(
    study: ClampStudy, index: int, texts: Sequence[str], n: int, seed: int, *, factor: float = 4.0
) -> list[int]:
    """n random latents, active at least once in these texts, and about as often as this one (within the factor).

    All live ones are drawn from if this one is never active, or if fewer than n are about as frequent.
    """
    counts = (study.latents(texts) > 0).sum(0)
    live = counts > 0
    live[index] = False
    own = float(counts[index])
    near = live & (counts >= own / factor) & (counts <= own * factor)
    pool = (near if own > 0 and int(near.sum()) >= n else live).nonzero()[:, 0]
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return pool[order[:n]].tolist()
