"""Prompts as token batches: tokenizing, padding, one-token words, and the logits after the last token.

    batch = read_prompts(model, ["The cat sat", "A dog"])      texts, token ids, or a tensor with a mask
    logits = last_logits(model, batch)                         one row per prompt, padding or not
    ids = word_ids(model, ["cat", "dog"])                      each a single token after a space

Texts start with BOS if the model's default says so. Token ids are taken as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    Prompt = str | Sequence[int] | Int[Tensor, " pos"]
    Prompts = Sequence[Prompt] | Int[Tensor, "batch pos"]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Prompts side by side. `mask` is True at real tokens, which are one unbroken run in each row."""

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    tokenizer: Any = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """The column of each prompt's last real token."""
        columns = torch.arange(self.mask.shape[1], device=self.mask.device)
        return (self.mask * columns).amax(1)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Each prompt without padding and special tokens; its ids where there is no tokenizer."""
        return tuple(_decode(self.tokenizer, row[real]) for row, real in zip(self.tokens, self.mask, strict=True))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One per column: its number, and the token that the longest prompt has there."""
        longest = int(self.mask.sum(1).argmax())
        tokens, mask = self.tokens[longest].tolist(), self.mask[longest].tolist()
        names = [str(token) if self.tokenizer is None else self.tokenizer.decode([token]) for token in tokens]
        return tuple(f"{i} {name}" if real else str(i) for i, (name, real) in enumerate(zip(names, mask, strict=True)))

    def name(self, i: int) -> str:
        """How messages refer to prompt i."""
        return f"prompt {i} ({self.texts[i]!r})"

    def rows(self, index: slice | list[int] | Tensor) -> TokenBatch:
        return TokenBatch(self.tokens[index], self.mask[index], self.tokenizer)

    def forward_options(self) -> dict[str, Any]:
        """What the model's forward needs besides the tokens: the mask, if there is padding."""
        return {} if bool(self.mask.all()) else {"attention_mask": self.mask.long()}


def read_prompts(
    model: TransformerBridge,
    prompts: Prompts,
    mask: Bool[Tensor, "batch pos"] | None = None,
    *,
    side: Literal["left", "right", "either"] = "either",
) -> TokenBatch:
    """Prompts in any accepted form, on the model's device; padding has token id 0.

    side: where padding stands. "either" pads texts and lists on the left, and takes a tensor padded on either side; a
      tensor that seems to be padded then needs a mask. "left" and "right" hold a tensor's mask to that side.
    mask: for a tensor of tokens, 1 at real tokens and 0 at padding. Without it every token is real.
    Raises ValueError, naming the prompt, for padding without a mask, masks with gaps, and all that `token_ids` refuses.
    """
    device = next(model.parameters()).device
    tokenizer = getattr(model, "tokenizer", None)
    if not isinstance(prompts, Tensor):
        if mask is not None:
            raise ValueError("mask goes with a tensor of tokens; texts and lists are padded here, and need none.")
        tokens, padding = pad(token_ids(model, prompts), "right" if side == "right" else "left", device)
        return TokenBatch(tokens, padding.bool(), tokenizer)
    tokens = prompts.to(device)
    if tokens.ndim != 2 or tokens.numel() == 0 or tokens.is_floating_point():
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)} and type {tokens.dtype}, expected whole numbers (batch, pos)."
        )
    if mask is None:
        if side == "either":
            _refuse_padding(tokenizer, tokens)
        mask = torch.ones_like(tokens)
    mask = torch.as_tensor(mask).to(device).bool()
    if mask.shape != tokens.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, the tokens have {tuple(tokens.shape)}.")
    _check_mask(mask, side)
    tokens = tokens.long().where(mask, 0)
    outside = ((tokens < 0) | (tokens >= model.cfg.d_vocab)).any(1)
    if bool(outside.any()):
        raise ValueError(f"Prompt {int(outside.int().argmax())} holds token ids outside 0 … {model.cfg.d_vocab - 1}.")
    _check_length(model, 0, tokens.shape[1])
    return TokenBatch(tokens, mask, tokenizer)


def token_ids(model: TransformerBridge, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of each prompt, without padding. A text gets BOS in front; token ids are left as they are.

    A text that begins with BOS itself (a chat template's) gets no second one. ValueError for no prompts, an empty list
    of ids, ids outside the vocabulary, or more tokens than the model's context holds.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one string, expected a list of strings. Write [{prompts[:30]!r}].")
    rows = []
    for number, prompt in enumerate(prompts):
        row = _tokenize(model, prompt, number) if isinstance(prompt, str) else [int(token) for token in prompt]
        if not row:
            raise ValueError(f"Prompt {number} holds no tokens.")
        if min(row) < 0 or max(row) >= model.cfg.d_vocab:
            raise ValueError(f"Prompt {number} holds token ids outside 0 … {model.cfg.d_vocab - 1}.")
        _check_length(model, number, len(row))
        rows.append(row)
    if not rows:
        raise ValueError("prompts is empty, expected at least one text or list of token ids.")
    return rows


def pad(
    rows: Sequence[Sequence[int]], side: Literal["left", "right"], device: Any = None
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Tokens padded with id 0, and the mask, 1 at real tokens.

    The mask is made from the rows' lengths, never from the ids: SmolLM2's padding token also ends every chat turn.
    """
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        columns = slice(width - len(row), None) if side == "left" else slice(len(row))
        tokens[i, columns] = torch.as_tensor(row)
        mask[i, columns] = 1
    return tokens.to(device), mask.to(device)


def word_ids(model: TransformerBridge, words: Sequence[str]) -> list[int]:
    """The token id of each word with a space before it, as it stands in a sentence.

    A leading space is added where there is none. ValueError for no words, one string, or a word of several tokens,
    whose first token may begin other words.
    """
    if model.tokenizer is None:
        raise ValueError("This model has no tokenizer, so words have no token ids. Give ids.")
    if isinstance(words, str):
        raise ValueError(f"words is one string, expected a list of strings. Write [{words[:30]!r}].")
    tokens = []
    for word in words:
        ids = model.tokenizer.encode(f" {word.strip()}", add_special_tokens=False)
        if len(ids) != 1:
            pieces = [model.tokenizer.decode([i]) for i in ids]
            raise ValueError(f"{word!r} is {len(ids)} tokens, {pieces}; expected one. Choose another word.")
        tokens.append(ids[0])
    if not tokens:
        raise ValueError("words is empty, expected at least one text.")
    return tokens


def answer_tokens(model: TransformerBridge, answers: Sequence[tuple[str, str]]) -> Int[Tensor, "batch 2"]:
    """Token ids of a (right, wrong) pair of words for each prompt; `word_ids` as a tensor on the model's device.

    ValueError, naming the prompt, if a word is several tokens.
    """
    rows = []
    for i, words in enumerate(answers):
        try:
            rows.append(word_ids(model, words))
        except ValueError as error:
            raise ValueError(f"The answers of prompt {i} are {tuple(words)}, but {error}") from error
    return torch.tensor(rows, device=next(model.parameters()).device).reshape(-1, 2)


def last_logits(model: TransformerBridge, batch: TokenBatch) -> Float[Tensor, "batch vocab"]:
    """Logits after each prompt's last token, in one pass."""
    options = batch.forward_options()
    if bool(batch.mask[:, -1].all()):  # no padding on the right
        return model(batch.tokens, return_type="logits", **only_last(model), **options)[:, -1]
    rows = torch.arange(len(batch), device=batch.tokens.device)
    return model(batch.tokens, return_type="logits", **options)[rows, batch.last]


def only_last(model: TransformerBridge) -> dict[str, Any]:
    """The forward option that leaves out all logits but the last column's, where the model has it.

    On a prompt of SmolLM2 the others are a fifth of the work.
    """
    return (
        {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.original_model.forward).parameters else {}
    )


def _tokenize(model: TransformerBridge, text: str, number: int) -> list[int]:
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ValueError(f"Prompt {number} is a text, but this model has no tokenizer. Give token ids.")
    ids = tokenizer.encode(text, add_special_tokens=False)
    wants_bos = getattr(model.cfg, "default_prepend_bos", True) and tokenizer.bos_token_id is not None
    return ids if not wants_bos or text.startswith(tokenizer.bos_token) else [tokenizer.bos_token_id, *ids]


def _check_length(model: TransformerBridge, number: int, length: int) -> None:
    if length > model.cfg.n_ctx:
        raise ValueError(f"Prompt {number} has {length} tokens, the model's context holds {model.cfg.n_ctx}.")


def _check_mask(mask: Bool[Tensor, "batch pos"], side: str) -> None:
    changes = (mask[:, 1:] != mask[:, :-1]).sum(1) + mask[:, 0].int() + mask[:, -1].int()
    for i in (changes != 2).nonzero()[:1, 0].tolist():
        raise ValueError(
            f"The mask of prompt {i} is {mask[i].int().tolist()}, expected one unbroken run of ones: its real tokens."
        )
    for other, column, advice in (
        ("left", -1, "Move it to the beginning."),
        ("right", 0, "Move it to the end: a causal model then ignores it."),
    ):
        if side == other and not bool(mask[:, column].all()):
            i = int((~mask[:, column]).int().argmax())
            raise ValueError(f"Prompt {i} has padding on the other side than the {side}. {advice}")


def _refuse_padding(tokenizer: Any, tokens: Int[Tensor, "batch pos"]) -> None:
    token = getattr(tokenizer, "pad_token_id", None)
    if token is None or tokens.shape[1] < 2:
        return
    padded = (tokens[:, -1] == token) | ((tokens[:, 0] == token) & (tokens[:, 1] == token))
    if bool(padded.any()):
        i = int(padded.int().argmax())
        raise ValueError(
            f"Prompt {i} ({_decode(tokenizer, tokens[i])!r}) has padding (token {token}), and no mask says so. Give "
            "`mask`, 1 at real tokens and 0 at padding, or give the prompts as texts."
        )


def _decode(tokenizer: Any, tokens: Int[Tensor, " pos"]) -> str:
    if tokenizer is None:
        return " ".join(map(str, tokens.tolist()))
    return tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
