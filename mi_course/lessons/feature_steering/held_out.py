"""What lesson 07's `my_features` and `my_label` are judged on: recorded passages that nobody chose a latent by.

Everything is in `data/feature-judging.safetensors`; neither SmolLM2 nor the SAE is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mi_course.interp.sae import concepts, word_labels

if TYPE_CHECKING:
    from mi_course.interp.sae.concepts import ConceptContexts
    from mi_course.interp.sae.word_labels import MysteryContexts


class RecordedConcepts:
    """The latents of `middle-4608` on passages about six concepts."""

    @property
    def train(self) -> ConceptContexts:
        return concepts.concept_contexts("train")

    @property
    def held_out(self) -> ConceptContexts:
        return concepts.concept_contexts("held out")


class RecordedMystery:
    """Passages in which the latent to be named is active or not."""

    @property
    def train(self) -> MysteryContexts:
        return word_labels.mystery_contexts("train")

    @property
    def held_out(self) -> MysteryContexts:
        return word_labels.mystery_contexts("held out")

    @property
    def others(self) -> list[list[str]]:
        """Labels of other latents."""
        return word_labels.other_labels()


def best_on_training() -> dict[str, int]:
    """Latents that `my_features` accepts: those with the largest AUROC on the training passages."""
    train = concepts.concept_contexts("train")
    return {name: int(train.areas(name).argmax()) for name in concepts.CONCEPTS}


def fitted_label() -> list[str]:
    """A label that `my_label` accepts: fitted on the training passages."""
    train = word_labels.mystery_contexts("train")
    return word_labels.fit_words(train.texts, train.fired)
