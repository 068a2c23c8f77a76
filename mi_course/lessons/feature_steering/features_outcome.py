"""What the learner finds: a latent for each of six concepts, judged on passages that chose nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.sae.concepts import CONCEPTS, CONTROLS, QUANTILE, ConceptContexts, bar
from mi_course.lessons.feature_steering.held_out import RecordedConcepts
from mi_course.wire import Observation

# The bar (`concepts.bar`) is 0.65 to 0.81, depending on the concept; the best on the training passages reach 0.87 to 0.99
# on held-out ones, the difference of means 0.975 to 0.99. Of all latents 0.1 to 0.5 % pass for a concept.
DENSE, KIND, LITTLE, OPPOSITE = 0.9, 0.8, 0.6, 0.35
"""Active on this share of the passages counts as dense; this AUROC for the kind of text tells kinds apart; below
LITTLE a latent says little about a concept, and below OPPOSITE it says the opposite."""


class PlantedConcepts:
    """The small size: invented activations. Which latent does what is fixed; the activations are drawn.

    Latent 10 i + 5 is active where concept i is, and 10 i + 8 where it is not. Latent 1 is always active, 2 only in
    books, 3 never. The rest is noise.
    """

    F, per_concept = 800, 16

    def __init__(self, draw: RandomInputs) -> None:
        self.train, self.held_out = self._contexts(draw), self._contexts(draw)

    @cached_property
    def right(self) -> dict[str, int]:
        return {name: 10 * i + 5 for i, name in enumerate(CONCEPTS)}

    @cached_property
    def opposite(self) -> dict[str, int]:
        return {name: 10 * i + 8 for i, name in enumerate(CONCEPTS)}

    def _contexts(self, draw: RandomInputs) -> ConceptContexts:
        topics = torch.arange(-2, len(CONCEPTS)).clamp(min=-1).repeat(2 * self.per_concept)
        n = len(topics)
        kinds = tuple("books" if i < n // 2 else "textbooks" for i in range(n))
        books = torch.tensor([kind == "books" for kind in kinds])
        rates = 0.05 + 0.2 * draw.uniform(self.F).expand(n, self.F).clone()
        rates[:, 1], rates[:, 2], rates[:, 3] = 1.0, 0.97 * books, 0.0
        for i, name in enumerate(CONCEPTS):
            there = topics == i
            rates[:, self.right[name]] = torch.where(there, 0.85, 0.04)
            rates[:, self.opposite[name]] = torch.where(there, 0.02, 0.8)
        latents = (draw.uniform(n, self.F) < rates) * draw.uniform(n, self.F, low=0.5, high=4.0)
        latents[:, 1] += 10.0
        return ConceptContexts(
            tokens=torch.zeros(n, 2, dtype=torch.long),
            texts=("",) * n,
            kinds=kinds,
            about={name: (topics == i).long() for i, name in enumerate(CONCEPTS)},
            latents=latents,
            difference_of_means={name: draw.normal(n) + 2.0 * (topics == i) for i, name in enumerate(CONCEPTS)},
        )


_World = PlantedConcepts | RecordedConcepts


def _read(value: Any, n_latents: int) -> dict[str, int] | Complaint:
    """The latents that are given, or a complaint about their form. Concepts may be missing."""
    example = f'{{"{CONCEPTS[0]}": 123, "{CONCEPTS[1]}": 45, ...}}'
    if not isinstance(value, dict):
        return Complaint(f"This is a {type(value).__name__}, expected a dict such as {example}.", "type")
    if unknown := [name for name in value if name not in CONCEPTS]:
        return Complaint(f"There is no concept {str(unknown[0])!r:.60}; there are {', '.join(map(repr, CONCEPTS))}.")
    features = {}
    for name, latent in value.items():
        if isinstance(latent, Tensor) and latent.numel() == 1 and not latent.is_floating_point():
            latent = latent.item()
        if isinstance(latent, bool) or not isinstance(latent, int):
            return Complaint(f"The latent of {name!r} is {latent!r:.40}, expected a whole number.", "type")
        if latent >= n_latents:
            return Complaint("", mistake="another_sae")
        if latent < 0:
            return Complaint(f"There is no latent {latent}: they run from 0 to {n_latents - 1}.")
        features[name] = latent
    return features


def _judge(concept: str, case: Case, observation: Observation) -> Complaint | None:
    world: _World = case.judge_data
    train, held_out = world.train, world.held_out
    features = _read(observation.replies[0].value, held_out.latents.shape[1])
    if isinstance(features, Complaint):
        return features
    if concept not in features:
        return Complaint(f"There is no latent for {concept!r}; one for each of {len(CONCEPTS)} concepts is asked for.")

    def passes(name: str, latent: int) -> bool:
        return float(held_out.areas(name)[latent]) > bar(name, train, held_out)

    latent = features[concept]
    if passes(concept, latent):
        return None
    if mistake := _mistake(concept, features, held_out, passes):
        return Complaint("", mistake=mistake)
    area, best = float(held_out.areas(concept)[latent]), bar(concept, train, held_out)
    means = float(held_out.area(concept, held_out.difference_of_means[concept]))
    return Complaint(
        f"{concept}: on held-out passages latent {latent} has an AUROC of {area:.3f} within a kind of text (on the training passages {float(train.areas(concept)[latent]):.3f}). More than {best:.3f} is asked for, which {QUANTILE:.0%} of {CONTROLS} random choices do not exceed. The difference of means has {means:.3f}."
    )


def _mistake(
    concept: str, features: dict[str, int], held_out: ConceptContexts, passes: Callable[[str, int], bool]
) -> str | None:
    """What is known to be wrong with the latent of this concept, which does not pass."""
    latent, F = features[concept], held_out.latents.shape[1]
    active = held_out.latents[:, latent] > 0
    if not any(passes(name, one) for name, one in features.items()):
        for step in (1, -1):
            moved = [passes(name, one + step) for name, one in features.items() if 0 <= one + step < F]
            # By chance a single neighbor would pass now and then.
            if sum(moved) >= 2 and sum(moved) >= len(features) / 2:
                return "off_by_one"
    if not active.any():
        return "never_active"
    area = float(held_out.areas(concept)[latent])
    if area < OPPOSITE:
        return "opposite"
    if float(active.double().mean()) >= DENSE:
        return "dense"
    books = torch.tensor([kind == held_out.kinds[0] for kind in held_out.kinds])
    values = held_out.latents[:, latent]
    difference = values[books][:, None] - values[~books][None]
    kind = float((difference > 0).double().mean() + 0.5 * (difference == 0).double().mean())
    if max(kind, 1 - kind) >= KIND and area < LITTLE:
        return "kind_of_text"
    return "another_concept" if any(passes(other, latent) for other in CONCEPTS if other != concept) else None


def _cases(concept: str, draw: RandomInputs, size: str) -> list[Case]:
    world = RecordedConcepts() if size == "full" else PlantedConcepts(draw)
    return [
        Case(
            calls=(Call(driver="value"),),
            judge=partial(_judge, concept),
            judge_data=world,
            about=f"held-out passages for {concept}",
        )
    ]


def _shifted(case: Case) -> dict[str, int]:
    return {name: latent + 1 for name, latent in case.judge_data.right.items()}


def _exchanged(case: Case) -> dict[str, int]:
    """The first two concepts exchanged."""
    right = case.judge_data.right
    first, second, *_ = CONCEPTS
    return right | {first: right[second], second: right[first]}


def _everywhere(latent: int) -> dict[str, int]:
    return dict.fromkeys(CONCEPTS, latent)


MY_FEATURES = Exercise(
    id="feature_steering.my_features",
    task="For each of six concepts the number of a latent of `middle-4608` that is more active on passages about it than on other passages of the same kind, where the passages are new.",
    minutes=15,
    difficulty=2,
    kind="value",
    fallback="mi_course.lessons.feature_steering.held_out:best_on_training",
    parts=tuple(Part(concept, 1, partial(_cases, concept)) for concept in CONCEPTS),
    mistakes=(
        Mistake(
            "off_by_one",
            "None of these latents passes, but their neighbors would: the numbers are off by one. Latents are counted from 0.",
            _shifted,
        ),
        Mistake(
            "another_concept",
            "The latent of one concept does not pass for it, but would for another concept of the list. Were two exchanged, or is it active on what two concepts share?",
            _exchanged,
        ),
        Mistake(
            "dense",
            "One of your latents is active on nine of ten held-out passages or more, whatever they are about. The largest *mean* activation finds such latents. Compare passages about the concept with others: `specificity`.",
            lambda case: _everywhere(1),
        ),
        Mistake(
            "kind_of_text",
            "One of your latents tells books from textbooks, and within one kind of text it says next to nothing about the concept. Compare passages of the same kind only.",
            lambda case: _everywhere(2),
        ),
        Mistake(
            "never_active",
            "One of your latents is not active on any held-out passage. Is it dead, or was it chosen because of very few passages?",
            lambda case: _everywhere(3),
        ),
        Mistake(
            "opposite",
            "One of your latents is active where the passages are *not* about the concept. Passages about it come first in `specificity`, and the largest value is sought.",
            lambda case: case.judge_data.opposite,
        ),
        Mistake(
            "another_sae",
            "One of these numbers is larger than any latent's of `middle-4608`. Are they latents of another SAE? Those of `middle-9216` are other features with other numbers.",
            lambda case: {name: latent + 4608 for name, latent in case.judge_data.right.items()},
        ),
    ),
    hints=(
        "`train.split(concept, kind)` gives all latents on passages about the concept, and on others. Which column separates the two best, in books *and* in textbooks? A large mean is not separation.",
        "`train.areas(concept)` has the AUROC of every latent within a kind of text, averaged over the kinds. Take the largest few, and open their pages with `show.feature(sae, latent)`: one that is active on a single word of the concept will not carry over.",
        "`my_features = {concept: int(train.areas(concept).argmax()) for concept in concepts.CONCEPTS}` is the plain way. It is judged as every other.",
    ),
    reveal="Whoever searches thousands of latents finds one that fits some forty passages by luck; that is why the choice is repeated at random, and why other passages judge it. And a latent that passes need not *be* the concept: the difference of means, fitted on the same passages without any SAE, is as good or better for most of them (AxBench: Wu et al. 2025, found the same).",
)
