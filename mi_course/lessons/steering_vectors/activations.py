"""Finding the position to read, and reading it, whatever the padding."""

from __future__ import annotations

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


def _masks(sides: tuple[str, ...], shapes: tuple[tuple[int, int], ...]) -> object:
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


# ---------------------------------------------------------------------------------------------------------------------
# activations_at


def _activations_at(resid: Tensor, index: Tensor) -> Tensor:
    """Oracle: number by number."""
    batch, _, d_model = resid.shape
    out = torch.zeros(batch, d_model)
    for b in range(batch):
        for d in range(d_model):
            out[b, d] = float(resid[b, int(index[b]), d])
    return out


def _rows(resid: Tensor, index: Tensor) -> Tensor:
    return torch.stack([row[int(i) % len(row)] for row, i in zip(resid, index, strict=True)])


def _activations_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, pos, d_model in ((3, 5, 4), (6, 7, 5), (4, 4, 4), (1, 6, 3)):
        # No index is the first or last position, so that reading those is noticed.
        index = draw.integers(1, pos - 1, batch)
        index[0] = 1
        index[-1] = pos - 2
        about = f"batch {batch}, {pos} positions, d_model {d_model}, index {index.tolist()}"
        cases.append(case(draw.normal(batch, pos, d_model, mean=0.5), index, about=about))
    return cases


ACTIVATIONS_AT = Exercise(
    id="steering_vectors.activations_at",
    revision=2,
    fixed={
        "resid[1]": "varied by hand, with index 0",
    },
    task="From each row of a batch, the residual vector at that row's own position.",
    minutes=4,
    difficulty=1,
    oracle=_activations_at,
    parts=(Part("one position per row", 2, _activations_cases),),
    mistakes=(
        Mistake(
            "last_position",
            "You read the last position of every row. In a padded batch that is padding for all but the longest prompt: use `index`.",
            lambda resid, index: resid[:, -1],
        ),
        Mistake(
            "every_pair",
            "`resid[:, index]` takes *all* these positions from *every* row, which has shape [batch, batch, d_model]. You want one position from each: "
            "index rows and positions together, `resid[rows, index]`.",
            lambda resid, index: resid[:, index],
        ),
        Mistake(
            "first_rows_index",
            "You used the first row's index for all rows. Prompts differ in length, so each has its own.",
            lambda resid, index: resid[:, int(index[0])],
        ),
        Mistake(
            "position_one_late",
            "You read one position too late. A published steering vector was made this way once: it still points somewhere plausible, so only a check shows it.",
            lambda resid, index: _rows(resid, index + 1),
        ),
        Mistake(
            "position_one_early",
            "You read one position too early.",
            lambda resid, index: _rows(resid, index - 1),
        ),
        Mistake(
            "bos_averaged_in",
            "You averaged all positions up to the index, BOS among them. In SmolLM2 BOS has a norm of 25,000 where others have 150, so that mean is a mean of "
            "BOS. One position is asked for.",
            lambda resid, index: torch.stack([row[: int(i) + 1].mean(0) for row, i in zip(resid, index, strict=True)]),
        ),
        Mistake(
            "bos",
            "You read position 0, where BOS is. It is the same for every prompt and knows nothing about any of them.",
            lambda resid, index: resid[:, 0],
        ),
        Mistake(
            "batch_averaged",
            "You averaged over the batch. One vector for each row is asked for; averaging comes later.",
            lambda resid, index: _activations_at(resid, index).mean(0),
        ),
    ),
    hints=(
        "Two tensors of indices of the same length pick pairs: `resid[rows, columns]` takes (rows[0], columns[0]), (rows[1], columns[1]) and so on.",
        "`rows = torch.arange(resid.shape[0])`.",
    ),
    reveal="Indexing with two tensors of equal length picks pairs of coordinates, and leaves the remaining axis, d_model, whole. `resid[:, index]` is another "
    "operation, with the cross product of both, and because it does not fail it is a common mistake.",
)
