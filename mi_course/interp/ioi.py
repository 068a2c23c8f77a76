"""Indirect object identification (IOI): prompts, and how much of the task a set of heads keeps.

The task and the three-name prompts (ABC) are Wang et al.'s (2022), section 2; names and templates are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.models import load_model
from mi_course.interp.patching import faithfulness, head_means, logit_difference, mean_ablation, score_circuit

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    Head = tuple[int, int]

# None of these occurs in lesson 03. Each name is one token of SmolLM2, with a leading space.
HELD_OUT_TEMPLATES = (
    "Then {A} and {B} sat in the garden, and {S} gave a book to",
    "While {B} and {A} were at the office, {S} sent a letter to",
)
HELD_OUT_PAIRS = (("Emma", "David"), ("Laura", "Peter"), ("Kate", "Mark"))


def ioi_prompts(pairs: Sequence[tuple[str, str]], template: str) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Clean prompts, corrupted prompts, and (indirect object, subject) of each clean prompt.

    template: text with {A} and {B}, the two names, and {S}, the subject. Each pair (a, b) is used twice: with A=a, B=b,
    S=b, and with a and b exchanged. In the corrupted prompt S is the indirect object.

    >>> ioi_prompts([("Mary", "John")], "{A} and {B}: {S} gave it to")[0]
    ['Mary and John: John gave it to', 'John and Mary: Mary gave it to']
    """
    answers = [names for a, b in pairs for names in ((a, b), (b, a))]
    clean = [template.format(A=a, B=b, S=b) for a, b in answers]
    corrupted = [template.format(A=a, B=b, S=a) for a, b in answers]
    return clean, corrupted, answers


def abc_prompts(names: Sequence[str], template: str) -> list[str]:
    """Prompts with three different names each: no name is repeated, so there is no indirect object.

    Activations averaged over them carry the template, and nothing about who should be named next. Every name takes each
    of the three roles equally often. Raises ValueError for fewer than three different names.

    >>> abc_prompts(["Mary", "John", "Tom"], "{A} and {B}: {S} gave it to")[0]
    'Mary and John: Tom gave it to'
    """
    n = len(set(names))
    if n < 3 or n != len(names):
        raise ValueError(f"{len(names)} names, {n} of them different; at least three different names are needed.")
    steps = [(1, 2)] if n == 3 else [(1, 2), (2, 1), (1, 3)] if n == 4 else [(1, 3), (2, 1), (3, 4)]
    return [
        template.format(A=names[i], B=names[(i + to_b) % n], S=names[(i + to_s) % n])
        for to_b, to_s in steps
        for i in range(n)
    ]


@dataclass
class Task:
    """IOI prompts of several templates, and the share of the logit difference that heads keep on them."""

    model: TransformerBridge
    sets: list[tuple[Tensor, Any, Tensor]]
    """Tokens, metric, and the heads' means over ABC prompts, of each template."""
    _random: dict[int, list[float]] = field(default_factory=dict)
    _ends: tuple[float, float] | None = None

    def score(self, heads: Sequence[Head]) -> float:
        """Faithfulness of these heads, over all templates together."""
        if self._ends is None:
            self._ends = self._mean_metric(self._all_heads()), self._mean_metric([])
        return faithfulness(self._mean_metric(heads), *self._ends)

    def completeness(self, heads: Sequence[Head]) -> float:
        """Faithfulness of all the other heads: near 0 if nothing of the circuit is missing."""
        return self.score([head for head in self._all_heads() if head not in set(heads)])

    def random(self, size: int, n: int = 50, seed: int = 0) -> list[float]:
        """Faithfulness of n random sets of this size, ascending."""
        if size not in self._random:
            total, above = 0.0, torch.zeros(n)
            for tokens, metric, means in self.sets:
                scores = score_circuit(
                    self.model, tokens, metric, self._all_heads()[:size], means, random=n, seed=seed, progress=False
                )
                # Back from each template's scale to logits, so that all templates enter one ratio.
                effect = float((scores.full - scores.empty).mean())
                total, above = total + effect, above + scores.random * effect
            self._random[size] = sorted((above / total).tolist())
        return self._random[size]

    def _all_heads(self) -> list[Head]:
        return [(layer, head) for layer in range(self.model.cfg.n_layers) for head in range(self.model.cfg.n_heads)]

    def _mean_metric(self, heads: Sequence[Head]) -> float:
        """The metric's mean over all templates, with every other head at its mean."""
        values = [
            mean_ablation(self.model, tokens, metric, keep=list(heads), means=means)
            for tokens, metric, means in self.sets
        ]
        return float(sum(value.mean() for value in values) / len(values))


def ioi_task(
    model: TransformerBridge,
    templates: Sequence[str] = HELD_OUT_TEMPLATES,
    pairs: Sequence[tuple[str, str]] = HELD_OUT_PAIRS,
) -> Task:
    """IOI prompts of these templates and names, with the heads' means over ABC prompts of each template."""
    names = [name for pair in pairs for name in pair]
    sets = []
    for template in templates:
        clean, _, answers = ioi_prompts(pairs, template)
        means = head_means(model, abc_prompts(names, template))
        sets.append((model.to_tokens(clean), logit_difference(answers, model), means))
    return Task(model, sets)


@cache
def smollm2_held_out() -> Task:
    """The task on SmolLM2 and the held-out prompts, cached: about a second, and 20 for random sets of one size."""
    return ioi_task(load_model())


# The first thirty heads by the absolute first-order effect of setting them to their ABC mean, at the clean runs of
# lesson 03's two templates with eight prompts each, as in its cell use-rankings. Held-out faithfulness: 0.89.
_CIRCUIT = (
    (23, 3),
    (29, 1),
    (29, 0),
    (20, 0),
    (17, 4),
    (24, 4),
    (8, 1),
    (19, 2),
    (10, 7),
    (24, 7),
    (17, 0),
    (23, 1),
    (16, 0),
    (25, 2),
    (14, 3),
    (8, 0),
    (24, 5),
    (16, 1),
    (18, 1),
    (17, 2),
    (23, 7),
    (18, 2),
    (18, 6),
    (14, 5),
    (16, 5),
    (29, 2),
    (15, 7),
    (11, 6),
    (18, 4),
    (18, 0),
)


def smollm2_circuit() -> list[Head]:
    """The course's own circuit for indirect objects in SmolLM2, as lesson 03 finds it."""
    return list(_CIRCUIT)
