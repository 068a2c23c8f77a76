"""Writes data/steered-concepts.json: which latent of middle-4608 writes about which concept, and whether it passes.

    python data/measure_steered_concepts.py            some minutes on two cores
    python data/measure_steered_concepts.py --sae DIR  another SAE, in SAELens's format

The rule is in mi_course/interp/sae/clamp_choice.py, and reads training sentences, words and prompts only. Then every
concept is measured on held-out prompts and words, almost as `my_clamp` judges an answer: with SAMPLES of each prompt
instead of two, and with random latents drawn once for all concepts. With one sample the number of concepts for which
the difference of means is ahead moved by two or three from seed to seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from mi_course.interp.models import load_model
from mi_course.interp.prompts import word_ids
from mi_course.interp.sae import load_sae, load_shipped
from mi_course.interp.sae.clamp_choice import FILE, NEW_TOKENS, SAE_NAME, Found, find_concept, find_latent, find_norm
from mi_course.interp.sae.clamp_study import (
    Add,
    Clamp,
    ClampStudy,
    Effect,
    blind_mentions,
    coherence,
    comparable_latents,
    concept_direction,
    same_norm,
)
from mi_course.interp.sae.clamp_texts import CONCEPTS, HELD_OUT_PROMPTS
from mi_course.interp.steering.controls import random_controls, with_norm
from mi_course.lessons.feature_steering.clamp_outcome import MARGIN, QUANTILE, would_pass
from mi_course.lessons.feature_steering.held_out_clamp import CONTROL_SEED, CONTROLS, TEXT_SEED

SAMPLES = 6
SENTENCES = [sentence for concept in CONCEPTS.values() for sentence in concept.sentences]


def held_out(study: ClampStudy, found: dict[str, Found], norm: float, first: str) -> dict[str, dict[str, Any]]:
    """What comes of each concept's latent where it was not chosen, beside its rivals of the same norm."""
    latents, directions = {}, {}
    for concept, (latent, *_) in found.items():
        own = CONCEPTS[concept].sentences
        direction = concept_direction(study, own, [sentence for sentence in SENTENCES if sentence not in own])
        latents[concept] = Clamp.adding(study.sae, latent, norm)
        directions[concept] = Add(with_norm(direction, norm))
    one = latents[first]
    others = comparable_latents(study, one.index, SENTENCES, CONTROLS, CONTROL_SEED)
    controls = same_norm(study.sae, one.index, one.value, others)
    noise = [Add(row) for row in random_controls(directions[first].vector, 20, CONTROL_SEED)]
    moves = [None, *latents.values(), *directions.values(), *controls, *noise]
    sets = [word_ids(study.model, CONCEPTS[concept].held_out) for concept in found]
    log_odds = study.log_odds_of_sets(moves, HELD_OUT_PROMPTS, sets).mean(2)
    rises = (log_odds - log_odds[:, :1])[:, 1:]

    n = len(found)
    moved = moves[: 1 + 2 * n]
    written = study.write(moved, HELD_OUT_PROMPTS, samples=SAMPLES, max_new_tokens=NEW_TOKENS, seed=TEXT_SEED)
    losses, varieties = coherence(study, written)
    table = {}
    for i, concept in enumerate(found):
        which = {"latent": 1 + i, "difference of means": 1 + n + i, "unsteered": 0}
        texts = {name: written[k] for name, k in which.items()}
        mentions = blind_mentions(texts, CONCEPTS[concept].held_out)
        loss = {name: losses[k] - losses[0] for name, k in which.items()}
        various = {name: varieties[k] for name, k in which.items()}
        effect = {name: Effect(norm, 0.0, mentions[name], loss[name], various[name]) for name in which}
        rise = {"latent": float(rises[i, i]), "difference of means": float(rises[i, n + i])}
        high = float(rises[i, 2 * n : 2 * n + len(controls)].quantile(QUANTILE))
        table[concept] = {
            "latent": found[concept].latent,
            "value": latents[concept].value,
            "norm": norm,
            "training rise": found[concept].rise,
            "rise": {
                **rise,
                "0.95 of random latents": high,
                "0.95 of random directions": float(rises[i, 2 * n + len(controls) :].quantile(QUANTILE)),
            },
            "mentions": mentions,
            "loss": loss,
            "variety": various,
            "passes": {name: would_pass(rise[name], high, effect[name], effect["unsteered"]) for name in rise},
        }
    return table


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", type=Path, help="a folder in SAELens's format, instead of the one that ships")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / FILE)
    parser.add_argument("--bfloat16", action="store_true", help="run the model in bfloat16: a first look")
    arguments = parser.parse_args()
    sae = load_sae(arguments.sae) if arguments.sae else load_shipped(SAE_NAME)
    dtype = torch.bfloat16 if arguments.bfloat16 else torch.float32
    study = ClampStudy.of(load_model(compatibility=False, dtype=dtype).requires_grad_(False), sae)
    found = {}
    for concept in CONCEPTS:
        found[concept] = find_latent(study, concept)
        print(concept, found[concept], flush=True)
    first, texts = find_concept(study, found)
    print(*texts.items(), sep="\n", flush=True)
    norm, seen = find_norm(study, first, found[first].latent)
    print(first, norm, *seen, sep="\n  ", flush=True)
    table = held_out(study, found, norm, first)
    for concept, effect in texts.items():
        table[concept]["training mentions"] = effect.mentions
        table[concept]["training loss"] = effect.loss
    result = {
        "about": f"{SAE_NAME}, {str(dtype).removeprefix('torch.')}: the rule's latent for each concept, and what"
        " came of it on held-out prompts. A pass needs texts as the statement of my_clamp says, and a rise "
        f"{MARGIN:g} nats above 0.95 of random latents of that norm.",
        "concept": first,
        "latent": found[first].latent,
        "value": table[first]["value"],
        "table": table,
    }
    text = json.dumps(rounded(result), indent=1) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    print(f"for data/README.md: {len(text.encode()):,} bytes, {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
