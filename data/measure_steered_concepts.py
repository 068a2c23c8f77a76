"""Writes data/steered-concepts.json: which latent of middle-4608 writes about which concept, and whether it passes.

    python data/measure_steered_concepts.py            about ten minutes on two cores
    python data/measure_steered_concepts.py --sae DIR  another SAE, in SAELens's format

The rule is in mi_course/interp/sae/clamp_choice.py, and reads training sentences, words and prompts only. The concept
that the lesson asks for is the candidate that the rule's texts mention most on the *training* prompts, but for the one
that it works through in class. Then every candidate is measured as `my_clamp` judges it, on held-out prompts and words.
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
from mi_course.interp.sae.clamp_choice import FILE, NEW_TOKENS, SAE_NAME, SAMPLES, SHOWN, Choice, choose_clamp
from mi_course.interp.sae.clamp_study import (
    Add,
    Clamp,
    ClampStudy,
    comparable_latents,
    concept_direction,
    effects,
    same_norm,
)
from mi_course.interp.sae.clamp_texts import CONCEPTS, HELD_OUT_PROMPTS
from mi_course.interp.steering.controls import random_controls, with_norm
from mi_course.lessons.feature_steering.clamp_outcome import MARGIN, QUANTILE, would_pass
from mi_course.lessons.feature_steering.held_out_clamp import CONTROL_SEED, CONTROLS, TEXT_SEED

SENTENCES = [sentence for concept in CONCEPTS.values() for sentence in concept.sentences]


def held_out(study: ClampStudy, choice: Choice) -> dict[str, Any]:
    """What comes of a choice where it was not made, beside its rivals of the same norm."""
    own = CONCEPTS[choice.concept]
    others = [sentence for sentence in SENTENCES if sentence not in own.sentences]
    direction = concept_direction(study, own.sentences, others)
    latent, means = Clamp(study.sae, choice.latent, choice.value), Add(with_norm(direction, choice.norm))
    controls = comparable_latents(study, choice.latent, SENTENCES, CONTROLS, CONTROL_SEED)
    noise = [Add(row) for row in random_controls(means.vector, 20, CONTROL_SEED)]
    moves = [None, latent, means, *same_norm(study.sae, choice.latent, choice.value, controls), *noise]
    log_odds = study.log_odds(moves, HELD_OUT_PROMPTS, word_ids(study.model, own.held_out)).mean(1)
    rises = log_odds[1:] - log_odds[0]
    high = float(rises[2 : 2 + len(controls)].quantile(QUANTILE))
    unsteered, by_latent, by_means = effects(
        study,
        [latent, means],
        HELD_OUT_PROMPTS,
        own.held_out,
        samples=SAMPLES,
        max_new_tokens=NEW_TOKENS,
        seed=TEXT_SEED,
        odds=False,
    )
    return {
        "latent": choice.latent,
        "value": choice.value,
        "norm": choice.norm,
        "trained": {"mentions": choice.chosen.mentions, "loss": choice.chosen.loss},
        "rise": float(rises[0]),
        "rise, difference of means": float(rises[1]),
        "rise, 0.95 of comparable latents": high,
        "rise, 0.95 of random directions": float(rises[2 + len(controls) :].quantile(QUANTILE)),
        "mentions": [by_latent.mentions, by_means.mentions, unsteered.mentions],
        "loss": [by_latent.loss, by_means.loss],
        "variety": [by_latent.variety, by_means.variety, unsteered.variety],
        "passes": [
            would_pass(float(rises[0]), high, by_latent, unsteered),
            would_pass(float(rises[1]), high, by_means, unsteered),
        ],
    }


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", type=Path, help="a folder in SAELens's format, instead of the one that ships")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / FILE)
    parser.add_argument("--bfloat16", action="store_true", help="a first look in half of the time")
    arguments = parser.parse_args()
    sae = load_sae(arguments.sae) if arguments.sae else load_shipped(SAE_NAME)
    model = load_model(compatibility=False, dtype=torch.bfloat16 if arguments.bfloat16 else torch.float32)
    study = ClampStudy.of(model.requires_grad_(False), sae)
    choices = {}
    for concept in CONCEPTS:
        choices[concept] = choice = choose_clamp(study, concept)
        print(concept, choice.latent, choice.value, choice.norm, choice.chosen, flush=True)
    others = [choice for concept, choice in choices.items() if concept != SHOWN]
    best = max(others, key=lambda choice: (choice.chosen.mentions, choice.chosen.log_odds))
    table = {}
    for concept, choice in choices.items():
        table[concept] = held_out(study, choice)
        print(concept, json.dumps(rounded(table[concept])), flush=True)
    found = {
        "about": f"{SAE_NAME}: the rule's choice for each concept, and held out what `my_clamp` is judged by; a pass "
        f"needs a rise {MARGIN:g} nats above 0.95 of comparable latents, and texts as its statement says. The pairs "
        "and triples are: latent, difference of means of the same norm, unsteered.",
        "concept": best.concept,
        "latent": best.latent,
        "value": best.value,
        "table": table,
    }
    text = json.dumps(rounded(found), indent=1) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(f"for data/README.md: {len(text.encode()):,} bytes, {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
