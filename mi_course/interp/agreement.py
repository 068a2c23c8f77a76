"""Subject–verb agreement: sentences with a distractor between subject and verb.

In "The author near the guards" the verb belongs to the author, not to the nearer guards. Each pair of nouns comes in
all four combinations of number, so that the last noun says nothing about the verb. All nouns are one token of SmolLM2,
with a leading space; so all sentences of a template have the same length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.heads import all_heads
from mi_course.interp.models import load_model
from mi_course.interp.models.where import data_dir
from mi_course.interp.patching import head_means, logit_difference, mean_ablation

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Head = tuple[int, int]

NOUNS = (
    *(("author", "authors"), ("doctor", "doctors"), ("teacher", "teachers"), ("student", "students")),
    *(("officer", "officers"), ("guard", "guards"), ("lawyer", "lawyers"), ("farmer", "farmers")),
    *(("pilot", "pilots"), ("singer", "singers"), ("manager", "managers"), ("driver", "drivers")),
)
"""Singular and plural of the nouns of lesson 01."""
TEMPLATES = (
    "The {noun} near the {other}",
    "The {noun} next to the {other}",
    "The {noun} that helped the {other}",
    "The {noun} that met the {other}",
)
"""Prepositional phrases, then subject relatives."""
OBJECT_RELATIVES = ("The {noun} that the {other} liked", "The {noun} that the {other} helped")
"""Where SmolLM2 often fails: the noun beside the verb is the subject of another one."""
ANSWERS = ("is", "are")
"""The verb after a singular subject, and after a plural one; each is one token, with a leading space."""

# Neither these nouns nor these templates occur in lesson 01.
HELD_OUT_NOUNS = (
    *(("actor", "actors"), ("writer", "writers"), ("soldier", "soldiers")),
    *(("engineer", "engineers"), ("painter", "painters"), ("customer", "customers")),
)
HELD_OUT_TEMPLATES = (
    "The {noun} beside the {other}",
    "The {noun} in front of the {other}",
    "The {noun} that liked the {other}",
    "The {noun} that admired the {other}",
)


def agreement_prompts(
    template: str, nouns: Sequence[tuple[str, str]] = NOUNS, shift: int = 1
) -> tuple[list[str], list[tuple[str, str]]]:
    """Sentences up to the verb, and the (right, wrong) verb of each.

    template: text with {noun}, the subject, and {other}, the distractor. nouns: (singular, plural) pairs. Each is the
    subject once, with the noun `shift` places further as its distractor, in all four combinations of number.

    >>> prompts, verbs = agreement_prompts("The {noun} near the {other}", [("dog", "dogs"), ("cat", "cats")])
    >>> prompts[:3]
    ['The dog near the cat', 'The dog near the cats', 'The dogs near the cat']
    >>> verbs[2]
    ('are', 'is')
    """
    rows = [
        (noun, nouns[(i + shift) % len(nouns)], number, other)
        for i, noun in enumerate(nouns)
        for number in (0, 1)
        for other in (0, 1)
    ]
    prompts = [template.format(noun=noun[number], other=second[other]) for noun, second, number, other in rows]
    return prompts, [(ANSWERS[number], ANSWERS[1 - number]) for _, _, number, _ in rows]


@dataclass
class AgreementTask:
    """Agreement sentences of several templates, and what is lost of the logit difference without some heads."""

    model: TransformerBridge
    sets: list[tuple[Tensor, Any, Tensor]]
    """Tokens, metric, and the heads' means over the sentences, of each template."""
    _means: dict[frozenset[Head], float] = field(default_factory=dict)

    def difference(self, heads: Sequence[Head] = ()) -> float:
        """Mean logit difference, right minus wrong verb, with these heads at their mean over a template's sentences."""
        without = frozenset((layer, head) for layer, head in heads)
        if without not in self._means:
            every = all_heads(int(self.model.cfg.n_layers), int(self.model.cfg.n_heads))
            kept = [head for head in every if head not in without]
            values = [
                mean_ablation(self.model, tokens, metric, keep=kept, means=means) for tokens, metric, means in self.sets
            ]
            self._means[without] = float(torch.cat(values).mean())
        return self._means[without]

    def drop(self, heads: Sequence[Head]) -> float:
        """By how much the mean logit difference falls."""
        return self.difference() - self.difference(heads)


def agreement_task(
    model: TransformerBridge, templates: Sequence[str] = TEMPLATES, nouns: Sequence[tuple[str, str]] = NOUNS
) -> AgreementTask:
    """The sentences of these templates and nouns, with the heads' means over the sentences of each template."""
    sets = []
    for template in templates:
        prompts, verbs = agreement_prompts(template, nouns)
        tokens = model.to_tokens(prompts)
        sets.append((tokens, logit_difference(verbs, model), head_means(model, tokens)))
    return AgreementTask(model, sets)


@cache
def smollm2_held_out() -> AgreementTask:
    """The task on SmolLM2 and the held-out sentences: 96, of four templates. Cached."""
    return agreement_task(load_model(), HELD_OUT_TEMPLATES, HELD_OUT_NOUNS)


@dataclass(frozen=True)
class Drops:
    """What is lost of the held-out logit difference without each single head of SmolLM2."""

    clean: float
    """The logit difference of the whole model."""
    single: list[list[float]]
    """By layer and head."""

    def total(self, heads: Sequence[Head]) -> float:
        """The sum of the heads' single drops: what a random set is taken to cost."""
        return sum(self.single[layer][head] for layer, head in heads)


@cache
def smollm2_drops() -> Drops:
    """Measured by `data/measure_agreement_chance.py`, which also measures how far sums are from whole sets."""
    found = json.loads((data_dir() / "smollm2-agreement-chance.json").read_text())
    return Drops(found["clean"], found["drops"])


def layer_matched(heads: Sequence[Head], n_heads: int, sets: int, seed: int = 0) -> list[list[Head]]:
    """Random sets of as many other heads of the same layers, none of which is among these.

    Of a layer of which more than half of the heads are given, the set has all the others.
    """
    generator = torch.Generator().manual_seed(seed)
    others = {
        layer: [h for h in range(n_heads) if (layer, h) not in heads] for layer in sorted({la for la, _ in heads})
    }
    wanted = {layer: sum(la == layer for la, _ in heads) for layer in others}
    return [
        [
            (layer, others[layer][i])
            for layer in others
            for i in torch.randperm(len(others[layer]), generator=generator)[: wanted[layer]].tolist()
        ]
        for _ in range(sets)
    ]


# Lesson 01's own: the first four by direct attribution on its sentences, as in its cell answer-my_agreement_heads.
_HEADS = ((26, 0), (27, 8), (27, 7), (18, 1))


def smollm2_agreement_heads() -> list[Head]:
    """The course's own heads for subject–verb agreement in SmolLM2, as lesson 01 finds them."""
    return list(_HEADS)
