"""Which latent writes about a concept, and how far it may be turned up: one rule for every candidate concept.

1. The twenty latents that are more active on the concept's sentences than on those of the other concepts are collected
   (`latents_for`). 2. Each is clamped so that it adds a vector of norm SEARCH_NORM on the training prompts, and the one
that raises the concept's training words most is taken (`choose_latent`). 3. Of NORMS that one is taken under which most
continuations of the training prompts mention the concept, among those that cost little (`choose_norm`).

`steered()` is what this gave for the SAE that ships, and the concept that `my_clamp` asks for: of all candidates but
SHOWN the one whose *training* continuations mention it most. Held-out prompts and words had no part in any choice. What
came of every candidate there is in the table, whether it passed or not. data/measure_steered_concepts.py writes it.
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
    choose_latent,
    choose_norm,
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

SEARCH_NORM = 50.0
NORMS = (30.0, 45.0, 60.0, 80.0, 100.0)
MOST_LOSS, LESS_VARIETY = 1.0, 0.1
"""Tighter than what `my_clamp` is judged by, since other prompts may cost more."""
SAMPLES, NEW_TOKENS = 2, 24
"""Of each prompt, and of each continuation."""


class Choice(NamedTuple):
    """What the rule chose for a concept, and what it saw on the training prompts."""

    concept: str
    latent: int
    value: float
    norm: float
    candidates: tuple[int, ...]
    rises: tuple[float, ...]
    """Of each candidate at SEARCH_NORM, in nats."""
    unsteered: Effect
    chosen: Effect


def choose_clamp(study: ClampStudy, concept: str, *, norms: Sequence[float] = NORMS, seed: int = 0) -> Choice:
    """The latent and the value for one of CONCEPTS, by the rule above. Reads nothing that is held out."""
    own = CONCEPTS[concept]
    others = [sentence for name, other in CONCEPTS.items() if name != concept for sentence in other.sentences]
    candidates = latents_for(study, own.sentences, others)
    index, rises = choose_latent(study, candidates, PROMPTS, own.words, SEARCH_NORM)
    row = float(study.sae.W_dec[index].detach().norm())
    moves = [Clamp(study.sae, index, norm / row) for norm in norms]
    unsteered, *doses = effects(study, moves, PROMPTS, own.words, samples=SAMPLES, max_new_tokens=NEW_TOKENS, seed=seed)
    norm = choose_norm(doses, MOST_LOSS, unsteered.variety - LESS_VARIETY)
    return Choice(
        concept,
        index,
        round(norm / row, 3),
        norm,
        tuple(candidates),
        tuple(rises.tolist()),
        unsteered,
        doses[list(norms).index(norm)],
    )


class Steered(NamedTuple):
    """The concept that `my_clamp` asks for, the rule's answer, and what came of every candidate concept."""

    concept: str
    latent: int
    value: float
    table: dict[str, dict[str, Any]]
    """Of each concept: latent, value, norm, and held out: the rise of the latent, of the 0.95 quantile of comparable
    latents, of a difference of means and of random directions of that norm; mentions, loss and variety of latent and
    difference of means; whether it would pass `my_clamp`."""


@cache
def steered() -> Steered:
    """What data/measure_steered_concepts.py found for the SAE that ships."""
    found = json.loads((data_dir() / FILE).read_text(encoding="utf-8"))
    return Steered(found["concept"], found["latent"], found["value"], found["table"])
