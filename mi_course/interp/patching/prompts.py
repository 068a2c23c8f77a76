"""Pairs of clean and corrupted prompts: tokens, padding, where they first differ, and names for their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    # Texts (BOS is prepended as the model's default says), lists of token ids, or a tensor of token ids.
    Prompts = Sequence[str] | Sequence[Sequence[int]] | Int[Tensor, "batch pos"]


@dataclass(frozen=True)
class Batch:
    """Prompts side by side. `mask` is True at real tokens; a prompt's real tokens are one unbroken run of columns."""

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    texts: tuple[str, ...]
    labels: tuple[str, ...]  # one per column: its number, and the first prompt's token there

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """The column of each prompt's last real token."""
        columns = torch.arange(self.mask.shape[1], device=self.mask.device)
        return (self.mask * columns).amax(1)

    @property
    def padded(self) -> bool:
        return not bool(self.mask.all())

    def name(self, i: int) -> str:
        return f"prompt {i} ({self.texts[i]!r})"

    def run_arguments(self) -> dict[str, Any]:
        """What the model's forward needs besides the tokens: the mask, and only where there is padding."""
        return {"attention_mask": self.mask.long()} if self.padded else {}

    def rows(self, start: int, end: int) -> Batch:
        return Batch(self.tokens[start:end], self.mask[start:end], self.texts[start:end], self.labels)


@dataclass(frozen=True)
class Pair:
    """Clean and corrupted prompts, aligned: the same length, the same padding, and different in at least one token."""

    clean: Batch
    corrupted: Batch

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """The column of the first token in which clean and corrupted differ: nothing before it can matter."""
        return ((self.clean.tokens != self.corrupted.tokens) & self.clean.mask).int().argmax(1)

    def rows(self, start: int, end: int) -> Pair:
        return Pair(self.clean.rows(start, end), self.corrupted.rows(start, end))


def read_prompts(model: TransformerBridge, prompts: Prompts, mask: Bool[Tensor, "batch pos"] | None = None) -> Batch:
    """Prompts in any accepted form as a Batch. Texts and lists of unequal length are padded on the left.

    mask: for a tensor of tokens, 1 at real tokens and 0 at padding (left or right). Without it there must be none.
    Raises ValueError, naming the prompt, for padding without a mask and for masks with gaps.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one text ({prompts!r}), expected a list of texts: put it in [ ].")
    device = next(model.parameters()).device
    if isinstance(prompts, torch.Tensor):
        tokens = prompts.to(device)
        if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.is_floating_point():
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)} and type {tokens.dtype}, expected whole numbers (batch, pos)."
            )
        if mask is None:
            _refuse_padding(model, tokens)
            mask = torch.ones_like(tokens)
        if mask.shape != tokens.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, the tokens have {tuple(tokens.shape)}.")
        mask = mask.to(device).bool()
    else:
        if mask is not None:
            raise ValueError("mask goes with a tensor of tokens; texts and lists are padded here, and need none.")
        if len(prompts) == 0:
            raise ValueError("There are no prompts: the list is empty.")
        rows = [model.to_tokens(p)[0] if isinstance(p, str) else torch.as_tensor(p) for p in prompts]
        length = max(len(row) for row in rows)
        # Any token will do for padding, since the mask hides it.
        tokens = torch.stack([torch.nn.functional.pad(row.to(device), (length - len(row), 0)) for row in rows])
        mask = torch.stack([torch.arange(length, device=device) >= length - len(row) for row in rows])
    texts = tuple(_text(model, row[m]) for row, m in zip(tokens, mask, strict=True))
    for i, row in enumerate(mask):
        if not bool(row.any()) or int(row.int().diff().abs().sum() + row[0].int() + row[-1].int()) != 2:
            raise ValueError(
                f"The mask of prompt {i} is {row.int().tolist()}, expected one unbroken run of ones: its real tokens."
            )
    return Batch(tokens, mask, texts, tuple(_labels(model, tokens, mask)))


def read_pair(
    model: TransformerBridge, clean: Prompts, corrupted: Prompts, mask: Bool[Tensor, "batch pos"] | None = None
) -> Pair:
    """Clean and corrupted prompts, checked to be aligned.

    Raises ValueError, naming the prompt, where two prompts of a pair differ in length or do not differ at all.
    """
    if model.training:
        raise ValueError("The model is in training mode, in which dropout would blur every effect: model.eval() first.")
    if len(clean) != len(corrupted):
        raise ValueError(f"There are {len(clean)} clean and {len(corrupted)} corrupted prompts, expected as many.")
    left, right = read_prompts(model, clean, mask), read_prompts(model, corrupted, mask)
    for i, (a, b) in enumerate(zip(left.mask.sum(1).tolist(), right.mask.sum(1).tolist(), strict=True)):
        if a != b:
            raise ValueError(
                f"{_capital(left.name(i))} has {a} tokens, its corrupted form ({right.texts[i]!r}) {b}: positions "
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
        raise ValueError(f"{_capital(left.name(i))} is the same clean and corrupted: there is nothing to patch.")
    return Pair(left, right)


def _refuse_padding(model: TransformerBridge, tokens: Int[Tensor, "batch pos"]) -> None:
    pad = getattr(getattr(model, "tokenizer", None), "pad_token_id", None)
    if pad is None or tokens.shape[1] < 2:
        return
    ends = (tokens[:, -1] == pad) | ((tokens[:, 0] == pad) & (tokens[:, 1] == pad))
    if bool(ends.any()):
        i = int(ends.int().argmax())
        raise ValueError(
            f"Prompt {i} ({_text(model, tokens[i])!r}) has padding (token {pad}), and no mask says so. Give "
            "`mask`, 1 at real tokens and 0 at padding, or give the prompts as texts."
        )


def _text(model: TransformerBridge, tokens: Int[Tensor, " pos"]) -> str:
    if getattr(model, "tokenizer", None) is None:
        return " ".join(str(t) for t in tokens.tolist())
    return model.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)


def _labels(model: TransformerBridge, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]) -> list[str]:
    # The longest prompt has a token in most columns.
    longest = int(mask.sum(1).argmax())
    tokenizer = getattr(model, "tokenizer", None)
    names = [str(t) if tokenizer is None else tokenizer.decode([t]) for t in tokens[longest].tolist()]
    return [f"{i} {name}" if real else str(i) for i, (name, real) in enumerate(zip(names, mask[longest], strict=True))]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
