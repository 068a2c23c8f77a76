"""Experiments with the latents of a trained SAE, for lesson 07: contexts, labels, and what an ablation costs.

    reading = read(model, sae)                 activations on a sample of the texts of the SAE's feature index
    show.table(contexts(reading, [12, 99]), …) tokens in their contexts
    label_scores(detect, reading, latents)     labels against random labels, another latent's, and the kind of text

Functions that are passed in (`detect`, `fuzz`, `effect`, `promote`) are those that a learner writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.sae import clamp_choice, clamp_texts
from mi_course.interp.sae.activations import ordinary_tokens
from mi_course.interp.sae.cards import mean_rise
from mi_course.interp.sae.clamp_study import (
    Clamp,
    ClampStudy,
    Effect,
    Text,
    blind_mentions,
    comparable_latents,
    concept_direction,
    rivals_of,
)
from mi_course.interp.sae.concepts import ConceptContexts, area_of_each, context_activations, live, read_contexts
from mi_course.interp.sae.host import HookSite, record
from mi_course.interp.sae.naming import contains_any, elsewhere, fit_label, peak_label, tokens_matched
from mi_course.interp.sae.shipped import load_shipped
from mi_course.interp.sae.splicing import clamp, splice
from mi_course.interp.sae.two_names import two_names
from mi_course.interp.steering.controls import random_controls

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from mi_course.interp.sae.base import SAE
    from mi_course.interp.sae.clamp_study import Move

CONTEXT = 16
"""Tokens of a context, as in `nameability`."""

ONLY_KIND = "control: kind of text alone"

IN_EIGHT = ("mentions: latent", "means", "nothing", "loss: latent", "means ", "log-odds: latent", "means  ", "bar")
IN_SELECTED = ("random, median", "best of 20: training", "held out", "best of all: training", "held out ")
IN_BASES = ("latent", "neuron, layer 14", "neuron, layers 0 to 14", "random direction", "difference of means")
IN_NAMES = ("shared by two kinds", "by halves of one kind", "absent there", "absent there, random tokens")
"""What the columns of some tables are."""

Detect = Callable[["Tensor", "Tensor"], float]
Fuzz = Callable[["Tensor", "Tensor", "Tensor"], float]
Area = Callable[["Tensor", "Tensor"], float]
Compare = Callable[["Tensor", "Tensor", "Tensor", "Tensor"], tuple[float, float]]
Rise = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]


# ---------------------------------------------------------------------------------------------------------------------
# The SAE that ships, and the latent that the lesson works with


def example(model: Any, name: str = "middle-4608") -> tuple[SAE, int, float]:
    """The SAE with its feature index, and the latent and the value that a rule chose for the concept shown in class."""
    chosen = clamp_choice.steered().table[clamp_choice.SHOWN]
    return load_shipped(name, model=model), int(chosen["latent"]), float(chosen["value"])


def held(study: ClampStudy, latent: int, values: Sequence[float], prompts: Sequence[str]) -> dict[str, list[Text]]:
    """A continuation of each prompt by the model as it is, and with the latent held at each of these values."""
    written = study.write([None, *(Clamp(study.sae, latent, value) for value in values)], prompts)
    return dict(zip(["as it is", *(f"held at {value:.0f}" for value in values)], written, strict=True))


def card_facts(card: Mapping[str, Any]) -> dict[str, str]:
    """The main numbers of an SAE's card, in words."""
    return {
        "tokens of training": f"{card['training_tokens']:,}",
        "latents": f"{card['n_latents']:,}",
        "active on a token, mean": f"{card['l0']:.0f}",
        "never active on held-out text": f"{card['dead_share']:.1%}",
        "variance explained": f"{card['explained_variance']:.2f}",
        "loss with the reconstruction (nats)": f"{mean_rise(card):+.2f}",
        "loss with zeros (nats)": f"{with_zeros(card):+.2f}",
    }


def with_zeros(card: Mapping[str, Any]) -> float:
    """The rise of the loss in nats if zeros stand in for the activations, mean over the groups of held-out text."""
    return sum(group["zero"] for group in card["loss"].values()) / len(card["loss"])


# ---------------------------------------------------------------------------------------------------------------------
# Reading text


@dataclass(frozen=True, eq=False)
class Reading:
    """Rows of text, and what every latent does on them. Token positions count through all rows, one after another."""

    tokens: Int[Tensor, "row pos"]
    words: list[list[str]]
    """The tokens as strings; the first, BOS, is empty."""
    sources: list[str]
    """The kind of text of each row."""
    resid: Float[Tensor, "row pos d"]
    counts: Bool[Tensor, "row pos"]
    """Neither a row's first token nor a massive one. What is not counted is active nowhere."""
    f: Float[Tensor, "row pos F"]
    """Activations in float16."""

    def of(self, latent: int) -> Float[Tensor, " token"]:
        """The activations of one latent on all tokens."""
        return self.f[:, :, latent].flatten().float()

    def density(self) -> Float[Tensor, " F"]:
        """The share of tokens that count on which each latent is active."""
        return torch.stack([(row > 0).sum(dim=0) for row in self.f]).sum(dim=0) / self.counts.sum()

    def contexts(self) -> list[list[str]]:
        """The tokens of each context, row by row."""
        return [words[first : first + CONTEXT] for words in self.words for first in range(0, len(words), CONTEXT)]

    def by_context(self, latent: int) -> Float[Tensor, "context token"]:
        """The activations of one latent, context by context."""
        return self.f[:, :, latent].float().reshape(-1, CONTEXT)

    def kinds(self) -> list[str]:
        """The kind of text of each context."""
        return [source for source in self.sources for _ in range(self.tokens.shape[1] // CONTEXT)]

    def first_half(self) -> Bool[Tensor, " context"]:
        """Whether a context lies in an even row: half of each kind of text. The others are held out."""
        even = torch.arange(len(self.tokens)) % 2 == 0
        return even.repeat_interleave(self.tokens.shape[1] // CONTEXT)


def read(model: Any, sae: Any, rows_of_a_kind: int = 16, *, rows_at_once: int = 16) -> Reading:
    """The first rows of each kind of text in the SAE's feature index, read with model and SAE."""
    texts = sae.feature_index.texts
    chosen = [row for kind in dict.fromkeys(texts.sources) for row in _numbers(texts.sources, kind)[:rows_of_a_kind]]
    spans = [(int(texts.starts[row]), int(texts.starts[row + 1])) for row in chosen]
    tokens = torch.stack([torch.from_numpy(texts.tokens[a:b].astype("int64")) for a, b in spans])
    parts = read_contexts(model, tokens, sae.feature_index.about["hook"], rows_at_once)
    resid, counts = (torch.cat(column) for column in zip(*parts, strict=True))
    with torch.no_grad():
        f = torch.stack([sae.encode(row).half() for row in resid])
    f[~counts] = 0
    words = [["", *texts.words(a + 1, b)] for a, b in spans]
    return Reading(tokens, words, [texts.sources[row] for row in chosen], resid, counts, f)


def _numbers(sources: Sequence[str], kind: str) -> list[int]:
    return [row for row, source in enumerate(sources) if source == kind]


def contexts(reading: Reading, positions: Sequence[int], f: Float[Tensor, " token"], reach: int = 7) -> dict[str, Any]:
    """For a table: each token in its context, with what was there. Rows are numbered."""
    pos, rows = reading.tokens.shape[1], {}
    for number, position in enumerate(positions, start=1):
        row, at = divmod(int(position), pos)
        words = reading.words[row]
        before, after = words[max(0, at - reach) : at], words[at + 1 : at + 1 + reach]
        text = "".join(before) + f" [{words[at].strip()}]" + "".join(after)
        rows[f"{number}"] = [f"{float(f[position]):.1f}", reading.sources[row].split(":")[0], " ".join(text.split())]
    return rows


def same_tokens_table(
    reading: Reading,
    top: Callable[..., list[int]],
    bands: Callable[..., list[list[int]]],
    latent: int,
    others: Sequence[int],
    edges: list[float],
) -> dict[str, list[float]]:
    """`same_tokens` of a latent; the mean over those that are active about as often as it; and the mean over others."""

    def mean(latents: Sequence[int]) -> list[float]:
        each = torch.tensor([same_tokens(reading, top, bands, i, edges) for i in latents])
        return each.nanmean(dim=0).tolist()

    alike = as_active(reading, latent, len(others))
    return {
        f"latent {latent}": mean([latent]),
        f"mean of {len(alike)} active as often": mean(alike),
        f"mean of the {len(others)} latents": mean(others),
    }


def as_active(reading: Reading, latent: int, n: int, factor: float = 1.5, seed: int = 0) -> list[int]:
    """n random latents, or all there are, whose density is that of this one within the factor."""
    density = reading.density()
    near = (density <= factor * density[latent]) & (density >= density[latent] / factor)
    near[latent] = False
    pool = near.nonzero().flatten()
    return pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:n]].tolist()


def same_tokens(
    reading: Reading,
    top: Callable[..., list[int]],
    bands: Callable[..., list[list[int]]],
    latent: int,
    edges: list[float],
) -> list[float]:
    """In each band of ranks in odd rows, the share of active tokens that are among the ten strongest of even rows.

    Tokens are compared without case and white space. NaN for a band without tokens.
    """
    words = [word.lower().strip() for row in reading.words for word in row]
    f, pos = reading.of(latent), reading.tokens.shape[1]
    even = (torch.arange(len(reading.tokens)) % 2 == 0).repeat_interleave(pos)
    strongest = {words[i] for i in top(f * even, 10)}
    everyone = bands(f * ~even, edges, len(f), 0)
    return [sum(words[i] in strongest for i in band) / len(band) if band else float("nan") for band in everyone]


# ---------------------------------------------------------------------------------------------------------------------
# What a latent promotes


def shuffled_rows(sae: Any, latents: Sequence[int], seed: int) -> tuple[dict[str, Float[Tensor, " d"]], str]:
    """Decoder rows and random directions of their norms, by letter in random order; and which letters are random."""
    rows = sae.W_dec[list(latents)].detach()
    random = torch.cat([random_controls(row, 1, seed + i) for i, row in enumerate(rows)])
    order = torch.randperm(2 * len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    letters = "ABCDEFGHIJKLMNOP"[: len(order)]
    every = torch.cat([rows, random])
    made = [letter for letter, i in zip(letters, order, strict=True) if i >= len(rows)]
    return {letter: every[i] for letter, i in zip(letters, order, strict=True)}, ", ".join(made)


def promoted_table(
    tokenizer: Any, promote: Callable[..., tuple[list[int], list[int]]], rows: Mapping[str, Tensor], unembed: Tensor
) -> dict[str, list[str]]:
    """For a table: six tokens that each direction promotes, and three that it suppresses."""
    out = {}
    for name, row in rows.items():
        up, down = (tokenizer.batch_decode(ids) for ids in promote(row, unembed, 6))
        out[name] = [" ".join(up), " ".join(down[:3])]
    return out


def promotes_what_it_reads(
    sae: Any, unembed: Float[Tensor, "d vocab"], n: int = 200, share: float = 0.01, seed: int = 0
) -> tuple[float, float]:
    """How often the token on which a latent is strongest is among this share of tokens that it promotes most.

    Of n living latents of the SAE's feature index; then the same with the token of another latent, as a control.
    """
    features = sae.feature_index
    a = features.arrays
    living = torch.from_numpy((a["count"] > 0).nonzero()[0])
    chosen = living[torch.randperm(len(living), generator=torch.Generator().manual_seed(seed))[:n]]
    strongest = torch.tensor(
        [int(features.texts.tokens[a["position"][a["first_example"][i]]]) for i in chosen.tolist()]
    )
    logits = sae.W_dec[chosen].detach() @ unembed
    found = []
    for tokens in (strongest, strongest.roll(1)):
        own = logits.gather(1, tokens[:, None])
        found.append(float(((logits > own).float().mean(dim=1) < share).float().mean()))
    return found[0], found[1]


# ---------------------------------------------------------------------------------------------------------------------
# Labels


class Scores(NamedTuple):
    """Detection scores of labels for several latents, on contexts that were held out, by where the label is from."""

    detection: dict[str, list[float]]
    inside: dict[str, list[float]]
    """Detection inside one kind of text, mean over the kinds: there the kind alone says nothing."""
    fuzzing: dict[str, list[float]]
    labels: dict[int, list[str]]
    """The fitted label of each latent."""

    def table(self) -> dict[str, list[float]]:
        """Mean detection and its standard error, detection inside kinds, fuzzing; NaN where there is no fuzzing."""
        rows = {}
        for name, values in self.detection.items():
            scores, inside = torch.tensor(values), torch.tensor(self.inside[name])
            fuzzing = torch.tensor(self.fuzzing[name]).mean() if name in self.fuzzing else float("nan")
            rows[name] = [
                float(scores.mean()),
                float(scores.std() / len(values) ** 0.5),
                float(inside.mean()),
                float(fuzzing),
            ]
        return rows


def nameable(reading: Reading, n: int, seed: int = 0, low: float = 0.02, high: float = 0.2) -> list[int]:
    """n latents drawn from those that are active in a share of contexts between low and high, in either half."""
    half, F = reading.first_half(), reading.f.shape[2]
    active = torch.cat([(part.reshape(-1, CONTEXT, F) > 0).any(dim=1) for part in reading.f.split(8)])
    shares = torch.stack([active[half].float().mean(dim=0), active[~half].float().mean(dim=0)])
    living = ((shares > low) & (shares < high)).all(dim=0).nonzero().flatten()
    return living[torch.randperm(len(living), generator=torch.Generator().manual_seed(seed))[:n]].tolist()


def label_scores(detect: Detect, fuzz: Fuzz, reading: Reading, latents: Sequence[int], seed: int = 0) -> Scores:
    """Labels made on the one half of the contexts, and scored on the other.

    top of the list: the tokens of the ten strongest activations. fitted: `fit_label`. Controls: a fitted label of the
    next latent; as many tokens as the fitted label has, drawn at random; and no word at all, but the kind of text
    ("active" in kinds where it was active more often than elsewhere).
    """
    half, pieces, kinds = reading.first_half(), reading.contexts(), reading.kinds()
    texts = ["".join(words) for words in pieces]
    seen, unseen = _split(pieces, half), _split(texts, ~half)
    generator = torch.Generator().manual_seed(seed)
    made: dict[int, dict[str, list[str]]] = {}
    for latent in latents:
        f = reading.by_context(latent)
        words = [word for context in seen for word in context]
        fitted = fit_label(seen, (f[half] > 0).any(dim=1))
        drawn = [words[i] for i in torch.randint(len(words), (400,), generator=generator).tolist()]
        drawn = list(dict.fromkeys(word.lower() for word in drawn if len(word.strip()) > 1))
        made[latent] = {
            "top of the list": peak_label(words, f[half].flatten()),
            "fitted": fitted,
            "control: random words": drawn[: max(len(fitted), 1)],
        }
    others = dict(zip(latents, [*latents[1:], latents[0]], strict=True))
    names = ("fitted", "top of the list", "control: another latent's", "control: random words")
    detection: dict[str, list[float]] = {name: [] for name in (*names, ONLY_KIND)}
    inside: dict[str, list[float]] = {name: [] for name in (*names, ONLY_KIND)}
    fuzzing: dict[str, list[float]] = {name: [] for name in names}
    held_out = [kind for kind, here in zip(kinds, half.tolist(), strict=True) if not here]
    for latent in latents:
        f = reading.by_context(latent)
        fired = (f > 0).any(dim=1)
        labels = {**made[latent], "control: another latent's": made[others[latent]]["fitted"]}
        predictions = {name: contains_any(unseen, labels[name]) for name in names}
        for name in names:
            fuzzing[name].append(_fuzzed(fuzz, _split(pieces, ~half), f[~half], labels[name], seed))
        by_kind = {kind: fired[half & _is(kinds, kind)].float().mean() for kind in set(kinds)}
        likely = [kind for kind, share in by_kind.items() if share > fired[half].float().mean()]
        predictions[ONLY_KIND] = torch.tensor([kind in likely for kind in held_out])
        for name, predicted in predictions.items():
            detection[name].append(detect(predicted, fired[~half]))
            inside[name].append(_inside(detect, predicted, fired[~half], held_out))
    return Scores(detection, inside, fuzzing, {latent: made[latent]["fitted"] for latent in latents})


def _inside(detect: Detect, predicted: Tensor, fired: Tensor, kinds: Sequence[str]) -> float:
    """The mean of the scores inside the kinds that have at least three contexts of either sort."""
    found = []
    for kind in dict.fromkeys(kinds):
        here = _is(kinds, kind)
        if 3 <= int(fired[here].sum()) <= int(here.sum()) - 3:
            found.append(detect(predicted[here], fired[here]))
    return sum(found) / len(found) if found else 0.5


def fuzzing_examples(
    f: Float[Tensor, "context token"], seed: int
) -> tuple[Int[Tensor, " example"], Bool[Tensor, "example token"], Bool[Tensor, " example"]]:
    """Every active context twice, in this order: its number, its marks, and whether they are the right ones.

    Right marks are on the tokens where the latent is active, wrong ones on as many others.
    """
    where = (f > 0).any(dim=1).nonzero().flatten()
    marked = f[where] > 0
    marks = torch.cat([marked, elsewhere(f[where], marked, seed)])
    right = torch.arange(2 * len(where)) < len(where)
    kept = marks.any(dim=1)  # no marks are left where a latent is active throughout
    return torch.cat([where, where])[kept], marks[kept], right[kept]


def _fuzzed(fuzz: Fuzz, pieces: list[list[str]], f: Tensor, label: Sequence[str], seed: int) -> float:
    where, marks, right = fuzzing_examples(f, seed)
    matched = torch.stack([tokens_matched(pieces[i], label) for i in where.tolist()])
    return fuzz(matched, marks, right)


def _split(items: Sequence[Any], chosen: Bool[Tensor, " context"]) -> list[Any]:
    return [item for item, wanted in zip(items, chosen.tolist(), strict=True) if wanted]


def _is(kinds: Sequence[str], kind: str) -> Bool[Tensor, " context"]:
    return torch.tensor([each == kind for each in kinds])


# ---------------------------------------------------------------------------------------------------------------------
# Latents for concepts, and other bases


def selected(area: Area, train: ConceptContexts, held_out: ConceptContexts, seed: int = 0) -> dict[str, list[float]]:
    """For each concept, AUROCs within a kind of text: of latents that were chosen in several ways.

    The median of 200 random latents, held out; the best of 20 on the training passages, there and held out; the best
    of all, there and held out; and the difference of means, held out.
    """
    living = live(train.latents)
    drawn = living[torch.randperm(len(living), generator=torch.Generator().manual_seed(seed))[:200]].tolist()

    def mean(contexts: ConceptContexts, concept: str, values: Float[Tensor, " context"]) -> float:
        kinds = list(dict.fromkeys(contexts.kinds))
        return sum(area(*contexts.split(concept, kind, values)) for kind in kinds) / len(kinds)

    rows = {}
    for concept in train.about:
        areas = train.areas(concept)
        few, best = max(drawn[:20], key=lambda i: float(areas[i])), int(areas.argmax())
        one = [mean(held_out, concept, held_out.latents[:, i]) for i in drawn]
        row = [float(torch.tensor(one).median())]
        for latent in (few, best):
            row += [mean(contexts, concept, contexts.latents[:, latent]) for contexts in (train, held_out)]
        rows[concept] = [*row, mean(held_out, concept, held_out.difference_of_means[concept])]
    return rows


class Peaks(NamedTuple):
    """The largest value of each unit over the tokens of a passage, and the negative of the smallest."""

    neurons: list[Float[Tensor, "context 2*neuron"]]
    """Layer by layer: MLP neurons, after the nonlinearity and the gate."""
    directions: Float[Tensor, "context n"]
    """Random directions of the residual stream that the SAE reads."""


def other_bases(
    model: Any, sae: Any, splits: Sequence[ConceptContexts], layers: Sequence[int], *, n_directions: int, seed: int = 0
) -> Peaks:
    """What neurons of these layers and random directions do on passages: neither BOS nor massive tokens count.

    Only passages about one of the concepts are read, of each split.
    """
    tokens = torch.cat([split.tokens[_about_one(split)] for split in splits])
    site = HookSite.of(model, *(f"blocks.{layer}.mlp.hook_post" for layer in layers), sae.about["hook_name"])
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(sae.W_dec.shape[1], n_directions, generator=generator)
    neurons: list[list[Tensor]] = [[] for _ in layers]
    directions = []
    for part in tokens.split(16):
        *values, resid = record(model, site, part)
        counts, _ = ordinary_tokens(resid, torch.ones_like(part, dtype=torch.bool))
        for found, value in zip(neurons, values, strict=True):
            found.append(torch.cat([_peaks(value, counts), _peaks(-value, counts)], dim=1))
        directions.append(_peaks(resid @ random, counts))
    return Peaks([torch.cat(found) for found in neurons], torch.cat(directions))


def _about_one(contexts: ConceptContexts) -> Bool[Tensor, " context"]:
    return torch.stack([labels == 1 for labels in contexts.about.values()]).any(dim=0)


def _peaks(values: Float[Tensor, "row pos n"], counts: Bool[Tensor, "row pos"]) -> Float[Tensor, "row n"]:
    return values.masked_fill(~counts[..., None], -torch.inf).amax(dim=1)


def bases(
    compare: Compare, train: ConceptContexts, held_out: ConceptContexts, peaks: Peaks, promising: int = 64
) -> dict[str, list[float]]:
    """For each concept: held-out AUROCs of the best latent, neuron of the last layer, neuron of all, random direction.

    The last is the difference of means, on the same passages.

    peaks: on the passages of train that are about one of the concepts, then on those of held_out; what is about another
    concept is what each is compared with. The kinds of text are not kept apart. Only the columns with the most extreme
    AUROCs on the training passages are handed to `compare`, in their order: it chooses among them anyway.
    """
    kept = [(split, _about_one(split)) for split in (train, held_out)]
    latents = torch.cat([split.latents[here] for split, here in kept])
    first = torch.arange(len(latents)) < int(kept[0][1].sum())
    rows = {}
    for concept in train.about:
        about = torch.cat([split.about[concept][here] for split, here in kept])
        clear = about >= 0
        labels, training = about[clear] == 1, first[clear]

        def best(values: Tensor, labels: Tensor = labels, training: Tensor = training, clear: Tensor = clear) -> Tensor:
            values = values[clear]
            known = area_of_each(values[training & labels], values[training & ~labels])
            return values[:, (known - 0.5).abs().topk(min(promising, values.shape[1])).indices.sort().values]

        ours = best(latents)
        others = (peaks.neurons[-1], torch.cat(peaks.neurons, dim=1), peaks.directions)
        found = [compare(ours, best(other), labels, training) for other in others]
        vector = torch.cat([split.difference_of_means[concept][here] for split, here in kept])[clear]
        means = area_of_each(vector[~training & labels], vector[~training & ~labels])
        rows[concept] = [found[0][0], *(other for _, other in found), float(means)]
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Two kinds of text, two names


def names_by_kind(
    model: Any, sae: Any, passages: ConceptContexts, latent: int, n: int = 60, seed: int = 0
) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """The names of a latent in books and in textbooks, on every second passage; its numbers beside n random latents'.

    The numbers are those of `TwoNames`: shared by two kinds, by halves of one kind, absent there, the same by chance.
    The n are drawn from latents that are active on at least 30 tokens of either kind.
    """
    rows = range(0, len(passages), 2)
    f = context_activations(model, sae, passages.tokens[::2])
    words = [model.to_str_tokens(passages.tokens[i]) for i in rows]
    kinds = [passages.kinds[i] for i in rows]
    books = _is(kinds, "books")
    active = torch.stack([(f[books] > 0).sum((0, 1)), (f[~books] > 0).sum((0, 1))]).amin(0)
    enough = (active >= 30).nonzero()[:, 0]
    drawn = enough[torch.randperm(len(enough), generator=torch.Generator().manual_seed(seed))[:n]].tolist()
    many = torch.tensor([two_names(f[..., i], words, kinds, splits=4)[1:] for i in drawn])
    named = two_names(f[..., latent], words, kinds)
    numbers = {f"latent {latent}": list(named[1:]), f"mean of {len(drawn)} latents": many.mean(dim=0).tolist()}
    return named.names, numbers


# ---------------------------------------------------------------------------------------------------------------------
# Necessity


class Lost(NamedTuple):
    """What an ablation costs, in nats per token."""

    here: float
    """On the token after one on which the latent was active."""
    elsewhere: float
    """On all others of the same rows."""
    at: list[tuple[str, str, float]]
    """(before, next token, rise) of the tokens that lost most."""


def ablate(
    model: Any, sae: Any, reading: Reading, latent: int, effect: Rise, *, rows: int = 3, seed: int = 0
) -> tuple[Lost, Lost]:
    """Set one latent to 0 on the rows where it is active most often, with the error term kept; and a control.

    The control takes a random direction out, of the very length that the latent writes on each token.
    """
    chosen = (reading.f[:, :, latent] > 0).sum(dim=1).topk(rows).indices.sort().values
    tokens, f = reading.tokens[chosen], reading.f[chosen][:, :, latent].float()
    row = sae.W_dec[latent].detach()
    written = f[..., None] * random_controls(row, 1, seed)[0]

    def without_random(resid: Tensor, hook: Any) -> Tensor:
        return resid - written

    without = partial(splice, sae=sae, edit=clamp({latent: 0.0}), keep_error=True, where=reading.counts[chosen])
    with torch.no_grad():
        clean, found = model(tokens), []
        for hook in (without, without_random):
            with model.hooks(fwd_hooks=[(sae.about["hook_name"], hook)]):
                rise = effect(clean, model(tokens), tokens)
            found.append(_lost(reading, chosen, rise, f[:, :-1] > 0))
    return found[0], found[1]


def ablation_table(lost: Mapping[int, tuple[Lost, Lost]]) -> dict[str, list[float]]:
    """For each latent: on how many tokens it is active, the rise there and elsewhere, and there under the control."""
    return {
        f"latent {i}": [len(without.at), without.here, without.elsewhere, control.here]
        for i, (without, control) in lost.items()
    }


def lost_words(lost: Lost, n: int = 8) -> dict[str, list[str]]:
    """For a table: the tokens that lost most."""
    most = enumerate(lost.at[:n], start=1)
    return {f"{number}": [f"{nats:+.2f}", before, token] for number, (before, token, nats) in most}


def _lost(reading: Reading, chosen: Tensor, rise: Float[Tensor, "row pos-1"], active: Tensor) -> Lost:
    losses = []
    for row, at in active.nonzero().tolist():
        words = reading.words[int(chosen[row])]
        before = " ".join("".join(words[max(0, at - 6) : at + 1]).split())
        losses.append((before, words[at + 1], float(rise[row, at])))
    losses.sort(key=lambda loss: -loss[2])
    return Lost(float(rise[active].mean()), float(rise[~active].mean()), losses)


# ---------------------------------------------------------------------------------------------------------------------
# Doses, and blind judges


def rivals(study: ClampStudy, latent: int, concept: str, n: int = 2) -> dict[str, Callable[[float], list[Move]]]:
    """The latent, the difference of means of the concept's sentences, n comparable latents and n random directions.

    The latents that a rule chose for one of the concepts are not drawn.
    """
    others = [text for name, each in clamp_texts.CONCEPTS.items() if name != concept for text in each.sentences]
    vector = concept_direction(study, clamp_texts.CONCEPTS[concept].sentences, others)
    chosen = {each["latent"] for each in clamp_choice.steered().table.values()}
    drawn = comparable_latents(study, latent, others, n + len(chosen), seed=0)
    comparable = [i for i in drawn if i not in chosen][:n]
    return rivals_of(study.sae, latent, vector, comparable, directions=n)


def shuffled(written: Mapping[str, Sequence[Text]], seed: int) -> list[tuple[str, Text]]:
    """Every text with its condition, in random order."""
    every = [(name, text) for name, texts in written.items() for text in texts]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    return [every[i] for i in order.tolist()]


def blind_table(
    study: ClampStudy, written: Mapping[str, Sequence[Text]], words: Sequence[str], order: Sequence[tuple[str, Text]]
) -> dict[str, list[Any]]:
    """For each condition: which numbers its texts had, the share that mentions the concept, and their loss."""
    mentions = blind_mentions(written, words)
    return {
        name: [
            ", ".join(str(number) for number, (own, _) in enumerate(order, start=1) if own == name),
            mentions[name],
            float(torch.tensor(study.loss(texts)).nanmean()),
        ]
        for name, texts in written.items()
    }


def dose_table(doses: Mapping[str, Sequence[Effect]], what: str) -> dict[str, list[float]]:
    """One number of each dose, by rival: "mentions", "loss" or another field of `Effect`."""
    return {name: [getattr(dose, what) for dose in each] for name, each in doses.items()}


def best_dose(doses: Sequence[Effect], most_loss: float) -> Effect:
    """The dose that most texts mention the concept under, of those that cost at most so many nats per token."""
    return max((dose for dose in doses if dose.loss <= most_loss), key=lambda dose: dose.mentions, default=doses[0])


def eight_concepts() -> dict[str, list[float]]:
    """What the rule of `clamp_choice` gave for every candidate concept on held-out prompts, beside its rival.

    Shares of texts that mention it: latent, difference of means, unsteered. Rises of the loss: latent, difference of
    means. Rises of the log-odds: latent, difference of means, and what 95 % of random latents do not exceed.
    """
    both = ("latent", "difference of means")
    return {
        name: [
            *(each["mentions"][which] for which in (*both, "unsteered")),
            *(each["loss"][which] for which in both),
            *(each["rise"][which] for which in (*both, "0.95 of random latents")),
        ]
        for name, each in clamp_choice.steered().table.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def draw_doses(doses: Mapping[str, Sequence[Effect]]) -> Any:
    """Concept against coherence, a point for each dose of each rival."""
    from mi_course.show import scatter

    points = [(name, dose) for name, each in doses.items() if name != "unsteered" for dose in each]
    return scatter(
        [dose.loss for _, dose in points],
        [dose.mentions for _, dose in points],
        [f"{name}, norm {dose.norm:.0f}" for name, dose in points],
        groups=[name for name, _ in points],
        xlabel="loss under the unsteered model, above its own (nats per token)",
        ylabel="share of texts with a word of the concept",
        title="What a mention costs: further up and to the left is better",
    )


def draw_scores(scores: Mapping[str, Sequence[float]], title: str) -> Any:
    """Mean detection scores, with two standard errors."""
    from mi_course.show import bars

    values = {name: torch.tensor(list(each)) for name, each in scores.items()}
    return bars(
        list(values),
        [float(each.mean()) for each in values.values()],
        errors=[2 * float(each.std() / len(each) ** 0.5) for each in values.values()],
        control=0.5,
        control_name="guessing",
        xlabel="label",
        ylabel="detection score on held-out contexts",
        title=title,
    )
