"""Finding the position to read, whatever the padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# last_token_index


def _last_token_index(attention_mask: Tensor) -> Tensor:
    """Oracle: walk from the end until a token is real."""
    found = []
    for row in attention_mask.tolist():
        position = len(row) - 1
        while row[position] == 0:
            position -= 1
        found.append(position)
    return torch.tensor(found)


def _mask(lengths: list[int], width: int, sides: list[str]) -> Tensor:
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length, side in zip(mask, lengths, sides, strict=True):
        row[slice(length) if side == "right" else slice(width - length, None)] = 1
    return mask


def _masks(sides: tuple[str, ...], shapes: tuple[tuple[int, int], ...]) -> Any:
    """Random lengths between 2 and the width; the first two rows always have padding."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, width in shapes:
            lengths = [draw.integer(2, width - (i < 2)) for i in range(batch)]
            chosen = [sides[i % len(sides)] for i in range(batch)]
            about = f"{batch} rows of width {width}, padding {' and '.join(sides)}"
            cases.append(case(_mask(lengths, width, chosen), about=about))
        return cases

    return cases


def _sum_minus_one(attention_mask: Tensor) -> Tensor:
    return attention_mask.sum(1) - 1


LAST_TOKEN_INDEX = Exercise(
    id="steering_vectors.last_token_index",
    revision=2,
    task="For each row of an attention mask the index of its last real token, whether padding is on the left or right.",
    minutes=5,
    difficulty=1,
    oracle=_last_token_index,
    parts=(
        Part("padding on the right", 1, _masks(("right",), ((3, 6), (5, 9), (1, 4)))),
        Part("padding on either side", 2, _masks(("left", "right"), ((4, 7), (2, 5), (6, 11)))),
    ),
    mistakes=(
        Mistake(
            "counts_from_the_left",
            "You counted the real tokens and subtracted 1. That is the last index only where padding is on the right; with padding on the left the "
            "count says nothing about where the tokens are, and you read a token in the middle.",
            _sum_minus_one,
        ),
        Mistake(
            "last_column",
            "You took the last column of every row. With padding on the right that is a padding token, and the result then changes with the other "
            "prompts of the batch.",
            lambda mask: torch.full((len(mask),), mask.shape[1] - 1),
        ),
        Mistake(
            "one_past_the_end",
            "Your indices are one too large: they point one past the last real token. Indices are counted from 0.",
            lambda mask: _last_token_index(mask) + 1,
        ),
        Mistake(
            "one_before_the_end",
            "Your indices are one too small: they point to the token before the last real one.",
            lambda mask: _last_token_index(mask) - 1,
        ),
        Mistake(
            "first_token",
            "This is the index of the *first* real token: `argmax` finds the first of equals. Look from the other end.",
            lambda mask: mask.argmax(1),
            degenerate=True,
        ),
        Mistake(
            "token_count",
            "This is the number of real tokens in each row. With padding on the right the last of them has an index one smaller; with padding on the left "
            "it is unrelated.",
            lambda mask: mask.sum(1),
        ),
        Mistake(
            "counted_from_the_end",
            "Your indices are negative, counted from the end of the row. They point to the right tokens, but the index should count from 0.",
            lambda mask: _last_token_index(mask) - mask.shape[1],
        ),
        Mistake(
            "one_for_all",
            "You returned one index for the whole batch. Each row has its own.",
            lambda mask: _last_token_index(mask).max(),
        ),
    ),
    hints=(
        "Multiply the mask by the positions 0, 1, 2 …: what is the largest number in a row?",
        "`positions = torch.arange(attention_mask.shape[1])`, then `(attention_mask * positions)` and its `argmax` along the row.",
    ),
    reveal="Real tokens keep their position, padding becomes 0, and the largest remaining position is the last real token. It needs no assumption "
    "about the side, which is set by the tokenizer and easily overlooked: generation pads on the left, most other code on the right.",
)
