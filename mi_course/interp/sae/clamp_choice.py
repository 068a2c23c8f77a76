"""Which latent writes about a concept, and how far it may be turned up: one rule for every candidate concept.

1. The LATENTS latents are collected that are more active on the concept's sentences than on those of the other concepts
   (`latents_for`).
2. Each is clamped so that it adds a vector of norm SEARCH_NORM on the training prompts, and the one that raises the
   log-odds of the concept's training words most is taken (`choose_latent`).
3. At that norm continuations of the training prompts are written with each concept's latent. Of all concepts but SHOWN,
   and among those that cost little, the one that most of its texts mention is what `my_clamp` asks for; of two, the one
   with the larger rise (`find_concept`).
4. Of NORMS that one is taken under which most continuations of the training prompts mention it, among those that cost
   little (`choose_norm`). All other concepts are measured at the same norm.

`steered()` is what this gave for the SAE that ships. No step reads held-out prompts or words. But step 3 was changed
once after we had seen what comes of each candidate there: the table is a look, and no blind test. It has every
candidate, whether it passed or not. data/measure_steered_concepts.py writes it.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from mi_course.interp.models.where import data_dir
from mi_course.interp.sae.clamp_study import (
    Clamp,
    ClampStudy,
    Effect,
    blind_mentions,
    choose_latent,
    choose_norm,
    coherence,
    effects,
    latents_for,
)
from mi_course.interp.sae.clamp_texts import CONCEPTS, PROMPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

SAE_NAME = "middle-4608"
FILE = "steered-concepts.json"
SHOWN = "money"
"""The concept that lesson 07 works through in class; so its latent is given away."""

LATENTS = 12
SEARCH_NORM = 60.0
NORMS = (40.0, 60.0, 80.0)
MOST_LOSS, LESS_VARIETY = 1.0, 0.1
"""Tighter than what `my_clamp` is judged by, since other prompts may cost more."""
SAMPLES, NEW_TOKENS, SEARCH_TOKENS = 2, 24, 16
"""Continuations of each prompt; their tokens where they are judged, and while a norm is chosen."""


class Found(NamedTuple):
    """The latent that the rule takes for a concept, and what it saw on the training prompts."""

    latent: int
    rise: float
    """Of the log-odds of the training words at SEARCH_NORM, in nats."""
    rises: dict[int, float]
    """Of every candidate."""


def find_latent(study: ClampStudy, concept: str) -> Found:
    """Steps 1 and 2, for one of CONCEPTS. Reads nothing that is held out."""
    own = CONCEPTS[concept]
    others = [sentence for name, other in CONCEPTS.items() if name != concept for sentence in other.sentences]
    candidates = latents_for(study, own.sentences, others, LATENTS)
    latent, rises = choose_latent(study, candidates, PROMPTS, own.words, SEARCH_NORM)
    return Found(latent, float(rises.max()), dict(zip(candidates, rises.tolist(), strict=True)))


def find_concept(study: ClampStudy, found: dict[str, Found], seed: int = 0) -> tuple[str, dict[str, Effect]]:
    """Step 3: the concept, and what each latent's texts on the training prompts are like. Reads nothing held out."""
    moves = [None, *(Clamp.adding(study.sae, each.latent, SEARCH_NORM) for each in found.values())]
    written = study.write(moves, PROMPTS, samples=SAMPLES, max_new_tokens=SEARCH_TOKENS, seed=seed)
    losses, various = coherence(study, written)
    seen = {
        concept: Effect(
            SEARCH_NORM,
            found[concept].rise,
            blind_mentions({"": written[i]}, CONCEPTS[concept].words)[""],
            losses[i] - losses[0],
            various[i],
        )
        for i, concept in enumerate(found, start=1)
    }
    fine = [
        concept
        for concept, effect in seen.items()
        if concept != SHOWN and effect.loss <= MOST_LOSS and effect.variety >= various[0] - LESS_VARIETY
    ]
    return max(fine, key=lambda concept: (seen[concept].mentions, seen[concept].log_odds)), seen


def find_norm(
    study: ClampStudy, concept: str, latent: int, norms: Sequence[float] = NORMS, seed: int = 0
) -> tuple[float, list[Effect]]:
    """Step 4: the norm; and what was seen, unsteered and at each norm. Reads nothing that is held out."""
    moves = [Clamp.adding(study.sae, latent, norm) for norm in norms]
    seen = effects(
        study, moves, PROMPTS, CONCEPTS[concept].words, samples=SAMPLES, max_new_tokens=SEARCH_TOKENS, seed=seed
    )
    chosen = choose_norm(seen[1:], MOST_LOSS, seen[0].variety - LESS_VARIETY)
    return min(norms, key=lambda norm: abs(norm - chosen)), seen


class Steered(NamedTuple):
    """The concept that `my_clamp` asks for, the rule's answer, and what came of every candidate concept."""

    concept: str
    latent: int
    value: float
    table: dict[str, dict[str, Any]]
    """Of each concept: latent, value, norm, the rise on the training prompts; and held out: the rise of the latent, of
    the 0.95 quantile of random latents, of a difference of means and of random directions of that norm; mentions, loss
    and variety of latent, difference of means and unsteered texts; whether latent and difference would pass."""


@cache
def steered() -> Steered:
    """What data/measure_steered_concepts.py found for the SAE that ships."""
    found = json.loads((data_dir() / FILE).read_text(encoding="utf-8"))
    return Steered(found["concept"], found["latent"], found["value"], found["table"])
