"""Experiments on steering vectors, and their pictures, for lesson 04.

Functions that are passed in (`last_of`, `fit`, `matched_of`, `divergence`) are those that a learner writes. Texts and
words are those of `texts`. Effects are changes of log-odds, in nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp.prompts import pad, token_ids, word_ids
from mi_course.interp.steering import texts
from mi_course.interp.steering.activations import collect, ordinary_activations, response_activations
from mi_course.interp.steering.controls import shuffled_labels, with_norm
from mi_course.interp.steering.directions import (
    cross_validated_accuracy,
    logistic_probe,
    pca_direction,
    probe_accuracy,
)
from mi_course.interp.steering.effects import NeutralLoss, WordOdds, log_odds
from mi_course.interp.steering.generating import generate
from mi_course.interp.steering.interventions import Ablate, Steer, steering
from mi_course.interp.steering.panel import steering_panel
from mi_course.interp.steering.scoring import different_words, preference, score_blind, variety

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Vector = Float[Tensor, " d_model"]

STORIES = (*texts.PROBE_POSITIVE, *texts.PROBE_NEGATIVE)
"""Twenty happy stories and their twenty unhappy counterparts, in the same order."""
OPINIONATED = (*texts.NEUTRAL, *STORIES)
NEUTRAL = (*texts.NEUTRAL, *texts.PAST, *texts.FUTURE, *texts.PERSONA_QUESTIONS)
"""Two kinds of text for matched controls."""


# ---------------------------------------------------------------------------------------------------------------------
# Vectors and what they are measured by


def opinion(model: TransformerBridge) -> WordOdds:
    """The log-odds of words of praise, not of complaint, after the eight prompts that the lesson works with."""
    good, bad = word_ids(model, texts.POSITIVE_WORDS), word_ids(model, texts.NEGATIVE_WORDS)
    return WordOdds(model, texts.PROMPTS, good, bad)


def ready_made(model: TransformerBridge) -> Float[Tensor, "layer d_model"]:
    """The difference of means of the lesson's twelve pairs of sentences, after each layer."""
    layers = range(model.cfg.n_layers)
    up, down = (collect(model, sentences, layers) for sentences in (texts.POSITIVE, texts.NEGATIVE))
    return (up - down).mean(dim=1)


def panel(odds: WordOdds, vectors: Float[Tensor, "layer d_model"], text: str, layer: int) -> Any:
    """The slider, with -1 to +1 marked as the coherent range."""
    good, bad = odds.positive_ids, odds.negative_ids
    return steering_panel(odds.model, vectors, good, bad, text=text, layer=layer, coherent=(-1.0, 1.0))


def last_activations(
    model: TransformerBridge, sentences: Sequence[str], layer: int, last_of: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, "sentence d_model"], Float[Tensor, "sentence d_model"]]:
    """`hook_resid_post` at each sentence's last token, and at BOS."""
    tokens, mask = pad(token_ids(model, sentences), "right")
    name = f"blocks.{layer}.hook_resid_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    resid = cache[name]
    return resid[torch.arange(len(resid)), last_of(mask)], resid[:, 0]


class Probed(NamedTuple):
    """A probe of the opinion of forty stories, layer by layer, and its controls. Accuracies."""

    layers: list[int]
    full_stop: Float[Tensor, "layer story d_model"]
    """The activations that it reads."""
    unseen: list[float]
    """On stories that it was not made from."""
    words_too: list[float]
    """The same, made from means over all tokens."""
    chance: list[list[float]]
    """The same as `unseen`, for each of ten shuffles of the labels."""
    by_heart: dict[str, float]
    """On the very stories that it was made from, with shuffled labels, after layer 14; mean of ten shuffles."""


def probe(
    model: TransformerBridge, fit: Callable[..., tuple[Tensor, float]], layers: list[int], by_heart_at: int = 14
) -> Probed:
    """Probe the full stop and the mean of all tokens with `fit`, layer by layer. Pairs of stories are kept together."""
    y, pairs = torch.arange(40) < 20, [*range(20)] * 2
    shuffles = shuffled_labels(y, n=10, seed=0)
    full_stop, all_tokens = (collect(model, STORIES, layers, position=p) for p in (-1, "mean"))  # type: ignore[arg-type]
    read = full_stop[layers.index(by_heart_at)]
    learned = {
        name: sum(probe_accuracy(*make(read, shuffle), read, shuffle) for shuffle in shuffles) / len(shuffles)
        for name, make in {"mass-mean probe": fit, "logistic probe": logistic_probe}.items()
    }
    return Probed(
        layers,
        full_stop,
        [cross_validated_accuracy(fit, x, y, groups=pairs) for x in full_stop],
        [cross_validated_accuracy(fit, x, y, groups=pairs) for x in all_tokens],
        [[cross_validated_accuracy(fit, x, shuffle) for x in full_stop] for shuffle in shuffles],
        learned,
    )


def out_of_order(model: TransformerBridge, seed: int = 0) -> list[list[int]]:
    """The stories as tokens, the words of each in random order between BOS and full stop."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for first, *words, stop in token_ids(model, STORIES):
        order = torch.randperm(len(words), generator=generator).tolist()
        rows.append([first, *(words[i] for i in order), stop])
    return rows


def recipes(
    model: TransformerBridge,
    positive: Float[Tensor, "pair d_model"],
    negative: Float[Tensor, "pair d_model"],
    layer: int,
) -> dict[str, Vector]:
    """The difference of means, other ways to make a direction of the same pairs, and one of another concept.

    All have the norm of the first.
    """
    differences = positive - negative
    x, y = torch.cat([positive, negative]), torch.arange(2 * len(positive)) < len(positive)
    words, tenses = (
        collect(model, up, layer, position=at).mean(dim=0) - collect(model, down, layer, position=at).mean(dim=0)  # type: ignore[arg-type]
        for up, down, at in ((texts.POSITIVE, texts.NEGATIVE, "mean"), (texts.PAST, texts.FUTURE, -1))
    )
    found = {
        "difference of means": differences.mean(dim=0),
        "principal direction of the pairs": pca_direction(differences),
        "logistic probe": logistic_probe(x, y)[0],
        "means over all tokens": words,
        "principal direction, centered": torch.linalg.svd(differences - differences.mean(dim=0)).Vh[0],
        "past minus future (unrelated)": tenses,
    }
    return {name: with_norm(each, float(differences.mean(dim=0).norm())) for name, each in found.items()}


def compare(
    odds: WordOdds, neutral: NeutralLoss, directions: Mapping[str, Vector], layer: int
) -> dict[str, tuple[float, float, float]]:
    """Of each direction: its effect at -1 and at +1, and the rise of the neutral loss at +1."""
    each = torch.stack(list(directions.values()))
    minus, plus = (odds.changes(each, layer, c).tolist() for c in (-1.0, 1.0))
    costs = [neutral.rise(Steer(direction, layer)) for direction in each]
    return dict(zip(directions, zip(minus, plus, costs, strict=True), strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Controls, layers, doses


def two_kinds_of_text(model: TransformerBridge, layer: int) -> dict[str, Float[Tensor, "token d_model"]]:
    """Activations of neutral and of opinionated text, for matched controls."""
    kinds = {"neutral text": NEUTRAL, "opinionated text": OPINIONATED}
    return {name: ordinary_activations(model, each, [layer])[layer] for name, each in kinds.items()}


def beside_controls(
    odds: WordOdds, vector: Vector, controls: Mapping[str, Tensor], layer: int, doses: Sequence[float]
) -> tuple[list[float], dict[str, Float[Tensor, "control dose"]]]:
    """The effects of the vector at these doses, and those of each control."""
    every = torch.cat([vector[None], *controls.values()])
    effects = torch.stack([odds.changes(every, layer, c) for c in doses], dim=1)
    parts = effects[1:].split([len(directions) for directions in controls.values()])
    return effects[0].tolist(), dict(zip(controls, parts, strict=True))


def half_turned(pairs: int, draws: int, seed: int = 0) -> Float[Tensor, "draw pair"]:
    """Signs with which half of the pairs are turned around, another half in each draw.

    >>> half_turned(4, 3).sum(dim=1).tolist()
    [0.0, 0.0, 0.0]
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.ones(draws, pairs)
    for row in signs:
        row[torch.randperm(pairs, generator=generator)[: pairs // 2]] = -1
    return signs


def matched_at(
    model: TransformerBridge,
    matched_of: Callable[..., Tensor],
    vectors: Float[Tensor, "layer d_model"],
    layers: Sequence[int],
    n: int,
) -> Float[Tensor, "layer n d_model"]:
    """At each of these layers n controls of its vector, matched to the activations of opinionated text there."""
    activations = ordinary_activations(model, OPINIONATED, layers)
    return torch.stack([matched_of(vectors[layer], activations[layer], n, 0) for layer in layers])


def at_the_end(odds: WordOdds, yours: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Callable[[Tensor], float]]:
    """The prompts as tokens, padded on the right; where each ends; and a metric of logits, your mean log-odds there."""
    tokens, mask = pad(token_ids(odds.model, odds.prompts), "right")  # which changes nothing before it
    rows, last = torch.arange(len(tokens)), mask.sum(dim=1) - 1

    def metric(logits: Float[Tensor, "prompt pos vocab"]) -> float:
        return float(yours(logits[rows, last], odds.positive_ids, odds.negative_ids).mean())

    return tokens, last, metric


def doses(
    odds: WordOdds,
    neutral: NeutralLoss,
    vector: Vector,
    layer: int,
    coefficients: Sequence[float],
    divergence: Callable[[Tensor, Tensor], Tensor],
) -> dict[float, tuple[float, float, float]]:
    """At each dose: effect, rise of the neutral loss, and the divergence on the first neutral text, per token."""
    model = odds.model
    sentence = torch.tensor(token_ids(model, texts.NEUTRAL[:1]))
    effects = odds.changes(torch.stack([c * vector for c in coefficients]), layer).tolist()
    found = {}
    with torch.no_grad():
        before = model(sentence)[0, 1:]
        for c, effect in zip(coefficients, effects, strict=True):
            steer = Steer(vector, layer, c)
            with steering(model, steer):
                after = model(sentence)[0, 1:]
            found[c] = (effect, neutral.rise(steer), float(divergence(before, after).mean()))
    return found


def spread(
    odds: WordOdds, neutral: NeutralLoss, vectors: Float[Tensor, "layer d_model"], where: Iterable[Sequence[int]]
) -> dict[str, tuple[float, float]]:
    """Effect and rise of the neutral loss of a total dose of 1, divided equally over some layers."""
    found = {}
    for layers in where:
        steers = [Steer(vectors[layer], layer, 1.0 / len(layers)) for layer in layers]
        name = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
        found[name] = (odds.change(*steers), neutral.rise(*steers))
    return found


def sums(odds: WordOdds, praise: Vector, past: Vector, layer: int) -> dict[str, tuple[float, float]]:
    """Effects of a · praise + b · past on words of praise and on words of the past."""
    words = [word_ids(odds.model, each) for each in (("was", "were", "had"), ("will", "shall"))]
    past_odds = WordOdds(odds.model, texts.TENSE_PROMPTS, *words)
    parts = ((1, 0), (0, 1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    vectors = torch.stack([a * praise + b * past for a, b in parts])
    effects = (each.changes(vectors, layer).tolist() for each in (odds, past_odds))
    return {f"{a:+d} praise {b:+d} past": both for (a, b), both in zip(parts, zip(*effects, strict=True), strict=True)}


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def conditions(vector: Vector, controls: Mapping[str, Tensor], n: int = 3) -> dict[str, Vector]:
    """No vector, the vector with either sign, and n random and n matched controls."""
    kinds = ("random", "matched, opinionated text")
    return {
        **{"unsteered": 0 * vector, "+1": vector, "−1": -vector},
        **{f"{kind} {i}": controls[kind][i] for kind in kinds for i in range(n)},
    }


def write(
    model: TransformerBridge, vectors: Mapping[str, Vector], layer: int, prompts: Sequence[str] = texts.PROMPTS
) -> dict[str, list[str]]:
    """What the model writes after each prompt under each vector, prompt included, in one batch: 20 new tokens each."""
    pile = [(name, prompt) for name in vectors for prompt in prompts]
    steer = Steer(torch.stack([vectors[name] for name, _ in pile]), layer)
    written: dict[str, list[str]] = {name: [] for name in vectors}
    endings = generate(model, [prompt for _, prompt in pile], [steer], max_new_tokens=20)
    for (name, prompt), ending in zip(pile, endings, strict=True):
        written[name].append(" ".join((prompt + ending).split()))
    return written


def judged(odds: WordOdds, written: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """A judge's scores of each condition's texts, in one shuffled pile.

    The judge is the unsteered model: its log-odds after a text and "All in all it was". An unfinished last sentence is
    cut.
    """

    def judge(pages: Sequence[str]) -> Float[Tensor, " page"]:
        return after_text(odds, [page[: page.rfind(".") + 1] or page + "." for page in pages]).unsteered

    return score_blind(written, judge)


def after_text(odds: WordOdds, pages: Sequence[str]) -> WordOdds:
    """The log-odds of the same words after each text and "All in all it was"."""
    prompts = [f"{page} All in all it was" for page in pages]
    return WordOdds(odds.model, prompts, odds.positive_ids, odds.negative_ids)


def contrast(log_odds: Float[Tensor, " story"]) -> float:
    """By how much the log-odds are higher after the happy half of the stories than after the unhappy half."""
    half = len(log_odds) // 2
    return float(log_odds[:half].mean() - log_odds[half:].mean())


def without(
    after: WordOdds, neutral: NeutralLoss, direction: Vector, layers: int | None = None, *, cost: bool = True
) -> list[float]:
    """The contrast, and the rise of the neutral loss (NaN if it is not asked for), when a direction is taken out."""
    gone = Ablate(direction, layers)
    return [contrast(after(gone)), neutral.rise(gone) if cost else math.nan]


def taken_out(
    without: Callable[..., list[float]], as_it_is: float, vector: Vector, layer: int, controls: Mapping[str, Tensor]
) -> dict[str, list[float]]:
    """What is left without the vector, everywhere or after one layer, and without one control of two kinds."""
    return {
        "nothing": [as_it_is, 0.0],
        "the vector, everywhere": without(vector),
        f"the vector, after layer {layer} only": without(vector, layer),
        "a random direction": without(controls["random"][0]),
        "a matched direction": without(controls["matched, opinionated text"][0]),
    }


def negations(odds: WordOdds, after: WordOdds, vector: Vector, layer: int) -> dict[str, list[float]]:
    """For each of six next words: lowest, mean and highest slope of eight stems, and the contrast of the stories.

    after: `after_text` of the stories.
    """
    words = ("", " very", " not", " never", " not only", " anything but")
    prompts = [stem + word for word in words for stem in texts.STEMS]
    stems = WordOdds(odds.model, prompts, odds.positive_ids, odds.negative_ids)
    told = {"": after.unsteered, **one_word_on(after, words[1:])}
    found = {}
    for word, slopes in zip(words, stems.slope(vector, layer).view(len(words), -1), strict=True):
        numbers = [float(x) for x in (slopes.min(), slopes.mean(), slopes.max())]
        found[word or "(nothing)"] = [*numbers, contrast(told[word])]
    return found


def one_word_on(odds: WordOdds, words: Sequence[str]) -> dict[str, Float[Tensor, " prompt"]]:
    """The unsteered log-odds with each of these words after the prompts, which are read once: their keys and values."""
    model = odds.model
    tokens, mask = pad(token_ids(model, odds.prompts), "left", model.cfg.device)
    found = {}
    with torch.no_grad():
        _, cache = model(tokens, return_type="logits_and_cache", use_cache=True, attention_mask=mask)
        for word in words:
            ids = model.tokenizer(word, add_special_tokens=False)["input_ids"]
            new = torch.tensor(ids, device=tokens.device).expand(len(tokens), -1)
            options: dict[str, Any] = {"attention_mask": torch.cat([mask, torch.ones_like(new)], dim=1)}
            options["past_key_values"] = copy.deepcopy(cache)  # reading a word adds to it
            logits = model(new, return_type="logits_and_cache", **options)[0][:, -1]
            found[word] = log_odds(logits.float(), odds.positive_ids, odds.negative_ids).cpu()
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Personas


def persona_vectors(model: TransformerBridge, layer: int) -> tuple[Vector, Vector]:
    """The captain's mean activations minus the assistant's: over their answers, and at the ends of their prompts.

    The second one has the norm of the first.
    """
    asked = [texts.chat(q, system) for system in (texts.PERSONA, texts.ASSISTANT) for q in texts.PERSONA_QUESTIONS]
    said = generate(model, asked, max_new_tokens=30)
    n = len(texts.PERSONA_QUESTIONS)
    answers, ends = (
        each[:n].mean(dim=0) - each[n:].mean(dim=0)
        for each in (response_activations(model, asked, said, layer), collect(model, asked, layer))
    )
    return answers, with_norm(ends, float(answers.norm()))


def answer(model: TransformerBridge, added: Mapping[str, Vector], layer: int) -> dict[str, list[str]]:
    """Answers to four new questions with each vector added, and under the pirate's prompt: "(pirate prompt)"."""
    captain, helper = _asked()
    vectors = [each for each in added.values() for _ in helper]
    steer = Steer(torch.stack([*vectors, *(0 * vectors[0] for _ in captain)]), layer)
    replies = generate(model, [*helper * len(added), *captain], [steer], max_new_tokens=30)
    names, n = [*added, "(pirate prompt)"], len(helper)
    return {name: replies[n * i : n * i + n] for i, name in enumerate(names)}


def judge_personas(model: TransformerBridge, answers: Mapping[str, list[str]]) -> dict[str, tuple[int, float, float]]:
    """Of each condition: answers with words of the sea, nats per token for the captain, and variety. Judged blind."""
    captain, helper = _asked()
    salty = score_blind(answers, lambda pages: [different_words(page, texts.SEA_WORDS) for page in pages])
    everything = [reply for replies in answers.values() for reply in replies]
    tastes = preference(model, everything, captain * len(answers), helper * len(answers)).view(len(answers), -1)
    return {
        name: (sum(n > 0 for n in salty[name]), float(taste.mean()), sum(map(variety, replies)) / len(replies))
        for (name, replies), taste in zip(answers.items(), tastes, strict=True)
    }


def _asked() -> tuple[list[str], list[str]]:
    """The new questions under the pirate's prompt, and under the assistant's."""
    captain, helper = ([texts.chat(q, s) for q in texts.PERSONA_HELD_OUT] for s in (texts.PERSONA, texts.ASSISTANT))
    return captain, helper


# ---------------------------------------------------------------------------------------------------------------------
# A puzzle


def hidden_states(model: TransformerBridge, text: str, numbers: Sequence[int]) -> list[tuple[int, list[int], float]]:
    """Some of Hugging Face's `hidden_states`: number, layers whose `resid_post` equals it, norm at the last token."""
    line = torch.tensor(token_ids(model, [text]))
    with torch.no_grad():
        states = model.original_model(line, output_hidden_states=True).hidden_states
        _, cache = model.run_with_cache(line, names_filter=lambda name: name.endswith("hook_resid_post"))
    found = []
    for number in numbers:
        state = states[number][0, 1:]
        same = [
            layer
            for layer in range(model.cfg.n_layers)
            if torch.allclose(state, cache["resid_post", layer][0, 1:], atol=1e-2, rtol=1e-3)
        ]
        found.append((number, same, float(state[-1].norm())))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def draw_probes(found: Probed) -> Any:
    """Accuracy by layer."""
    from mi_course.show import lines

    return lines(
        found.layers,
        {
            "full stop, unseen": found.unseen,
            "mean of all tokens, unseen": found.words_too,
            "control: shuffled, unseen": found.chance,
        },
        xlabel="layer",
        ylabel="accuracy",
        title="Accuracy of a mass-mean probe, layer by layer",
        caption="40 sentences. Unseen: five folds, pairs kept together. Band: ten shuffles.",
    )


def draw_controls(doses: Sequence[float], real: Sequence[float], bands: Mapping[str, Tensor]) -> Any:
    """`beside_controls`: a dot for each direction, kinds side by side at each dose."""
    from mi_course.show import scatter

    kinds = {"difference of means": torch.tensor(real)[None], **bands}
    x, y, groups = [], [], []
    for i, (name, effects) in enumerate(kinds.items()):
        for row in effects.tolist():
            x += [c + 0.12 * (i - (len(kinds) - 1) / 2) for c in doses]
            y += row
            groups += [name] * len(doses)
    return scatter(
        x,
        y,
        groups=groups,
        xlabel=f"coefficient ({', '.join(f'{c:g}' for c in doses).replace('-', '−')}; kinds side by side)",
        ylabel="change of log-odds (nats)",
        title="The vector, and directions of the same length",
        caption="Added after layer 14; mean over eight prompts. A dot for each direction.",
    )


def draw_sweep(layers: Sequence[int], sweep: Float[Tensor, "layer n+1"], direct: Sequence[float]) -> Any:
    """Effect by layer, with its direct path and its controls."""
    from mi_course.show import lines

    return lines(
        layers,
        {"vector": sweep[:, 0], "its direct path": direct, "control: 4 matched": sweep[:, 1:].T},
        xlabel="layer at which the vector is found and added",
        ylabel="change of log-odds (nats)",
        title="The effect of each layer's own vector",
        caption="Coefficient 1, mean over eight prompts. Band: lowest to highest of four, matched to that layer's "
        "activations.",
    )


def draw_scores(scores: Mapping[str, Sequence[float]]) -> Any:
    """Mean score of each condition."""
    from mi_course.show import bars

    return bars(
        list(scores),
        [sum(each) / len(each) for each in scores.values()],
        xlabel="condition",
        ylabel="judge's log-odds (nats)",
        title="A judge who does not know the condition",
        caption="Mean over eight texts of 20 new tokens. The judge is the unsteered model.",
    )


def draw_slopes(slopes: Float[Tensor, " prompt"], ordinary: float) -> Any:
    """Slope of each of the hard prompts, in order."""
    from mi_course.show import bars

    order = slopes.argsort()
    return bars(
        [texts.HARD_PROMPTS[i] for i in order],
        slopes[order],
        control=ordinary,
        xlabel="prompt",
        ylabel="slope (nats per unit)",
        title="Prompts made to resist, from weakest to strongest",
        caption="Half the difference in log-odds between +1 and −1. Line: mean of the eight ordinary prompts.",
    )
