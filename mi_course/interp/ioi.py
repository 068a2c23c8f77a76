"""Indirect objects in SmolLM2: prompts that nobody in the lesson sees, and how much of the task some heads keep there.

Names and templates are our own. The task is Wang et al.'s (2022), section 2; three-name prompts (ABC) are theirs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Head = tuple[int, int]

# None of these occurs in the lesson. Each name is one token of SmolLM2, with a leading space.
HELD_OUT_TEMPLATES = (
    "Then {A} and {B} sat in the garden, and {S} gave a book to",
    "While {B} and {A} were at the office, {S} sent a letter to",
)
HELD_OUT_PAIRS = (("Emma", "David"), ("Laura", "Peter"), ("Kate", "Mark"))


def abc_prompts(names: Sequence[str], template: str) -> list[str]:
    """Prompts of three different names each: no name is said twice, so nobody is the indirect object.

    The mean over them holds what the template says, and nothing about who should be named next. Every name comes in
    each of the three places equally often. Raises ValueError for fewer than three names.

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
    """Prompts of several templates, and the share of the logit difference that heads keep on them; see `ioi_task`."""

    model: TransformerBridge
    sets: list[tuple[Tensor, Any, Tensor]]
    """Tokens, metric, and the heads' means over ABC prompts, of each template."""
    _random: dict[int, list[float]] = field(default_factory=dict)
    _ends: tuple[float, float] | None = None

    def score(self, heads: Sequence[Head]) -> float:
        """Faithfulness of these heads, over all templates together."""
        from mi_course.interp.patching import faithfulness

        if self._ends is None:
            self._ends = self._kept(self._every()), self._kept([])
        return faithfulness(self._kept(heads), *self._ends)

    def completeness(self, heads: Sequence[Head]) -> float:
        """Faithfulness of all the other heads: near 0 if nothing of the circuit is missing."""
        return self.score([head for head in self._every() if head not in set(heads)])

    def random(self, size: int, n: int = 50, seed: int = 0) -> list[float]:
        """Faithfulness of n random sets of this size, in rising order."""
        import torch

        from mi_course.interp.patching import score_circuit

        if size not in self._random:
            total, above = 0.0, torch.zeros(n)
            for tokens, metric, means in self.sets:
                found = score_circuit(
                    self.model, tokens, metric, self._every()[:size], means, random=n, seed=seed, progress=False
                )
                # From each template's own scale back to logits, so that all templates go into one ratio.
                whole = float((found.full - found.empty).mean())
                total, above = total + whole, above + found.random * whole
            self._random[size] = sorted((above / total).tolist())
        return self._random[size]

    def _every(self) -> list[Head]:
        return [(layer, head) for layer in range(self.model.cfg.n_layers) for head in range(self.model.cfg.n_heads)]

    def _kept(self, heads: Sequence[Head]) -> float:
        """The metric's mean over all templates, with every other head at its mean."""
        from mi_course.interp.patching import mean_ablation

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
    """Prompts of these templates and names in both orders, with the mean over ABC prompts of each template."""
    from mi_course.interp.patching import head_means, logit_difference
    from mi_course.interp.patching.lesson_forms import ioi_prompts

    names = [name for pair in pairs for name in pair]
    sets = []
    for template in templates:
        clean, _, answers = ioi_prompts(list(pairs), template)
        means = head_means(model, abc_prompts(names, template))
        sets.append((model.to_tokens(clean), logit_difference(answers, model), means))
    return Task(model, sets)


@cache
def smollm2_held_out() -> Task:
    """SmolLM2 on the held-out prompts, once per process: about a second, and 20 for the random sets of one size."""
    from mi_course.interp.models import load_model

    return ioi_task(load_model())


# The first thirty heads by the absolute first-order effect of setting them to their ABC mean, at the clean run of the
# lesson's two templates and eight prompts each, by the method of its cell use-rankings. On held-out prompts: 0.89.
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
