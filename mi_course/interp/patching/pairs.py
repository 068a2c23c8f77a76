"""Pairs of clean and corrupted prompts, aligned token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mi_course.interp.prompts import TokenBatch, read_prompts

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompts

DIRECTIONS = ("denoising", "noising")


@dataclass(frozen=True, eq=False)
class Pair:
    """Clean and corrupted prompts, aligned: the same length, the same padding, and different in at least one token."""

    clean: TokenBatch
    corrupted: TokenBatch

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """The column of the first token in which clean and corrupted differ: nothing before it can matter."""
        return ((self.clean.tokens != self.corrupted.tokens) & self.clean.mask).int().argmax(1)

    def rows(self, index: slice) -> Pair:
        return Pair(self.clean.rows(index), self.corrupted.rows(index))

    def base_and_source(self, direction: str) -> tuple[TokenBatch, TokenBatch]:
        """(patched into, patched from): denoising patches clean activations into corrupted runs, noising the reverse.

        ValueError for another direction.
        """
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is {direction!r}, expected one of {DIRECTIONS}.")
        return (self.corrupted, self.clean) if direction == "denoising" else (self.clean, self.corrupted)


def read_pair(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, mask: Bool[Tensor, "batch pos"] | None = None
) -> Pair:
    """Clean and corrupted prompts, checked to be aligned.

    Raises ValueError, naming the prompt, where two prompts of a pair differ in length or do not differ at all, and for
    a model in training mode.
    """
    require_eval(model)
    if len(clean) != len(corrupted):
        raise ValueError(f"There are {len(clean)} clean and {len(corrupted)} corrupted prompts, expected as many.")
    left, right = read_prompts(model, clean, mask), read_prompts(model, corrupted, mask)
    for i, (a, b) in enumerate(zip(left.mask.sum(1).tolist(), right.mask.sum(1).tolist(), strict=True)):
        if a != b:
            raise ValueError(
                f"{_capitalized(left.name(i))} has {a} tokens, its corrupted form ({right.texts[i]!r}) {b}: positions "
                "would not line up. Choose words with equally many tokens."
            )
    if left.tokens.shape != right.tokens.shape:
        raise ValueError(
            f"Clean tokens have shape {tuple(left.tokens.shape)}, corrupted ones {tuple(right.tokens.shape)}: prompt 0 "
            "and the others do not line up. Pad both to one length, and give `mask`."
        )
    same = ((left.tokens == right.tokens) | ~left.mask).all(1)
    if bool(same.any()):
        i = int(same.int().argmax())
        raise ValueError(f"{_capitalized(left.name(i))} is the same clean and corrupted: there is nothing to patch.")
    return Pair(left, right)


def require_eval(model: TransformerBridge) -> None:
    """ValueError if the model is in training mode."""
    if model.training:
        raise ValueError("The model is in training mode, in which dropout would blur every effect: model.eval() first.")


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
