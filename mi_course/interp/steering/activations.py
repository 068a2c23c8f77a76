"""Activations of many prompts at one place of the model: padding-safe, in batches, in bounded memory.

Position 0 is BOS, an attention sink: at SmolLM2's layer 14 its norm is about 25,000 against 150 elsewhere, so a mean
that includes it is a mean of BOS. It is never collected. Other tokens can be massive, too (Sun et al. 2024, "Massive
Activations in Large Language Models"); the rule here is a norm above three times the median of the prompt's own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from mi_course.interp.steering._checks import check_layers, check_prompts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Prompt = str | Sequence[int] | Tensor

MASSIVE = 3.0  # times the median norm


def last_token_index(attention_mask: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Index of the last real token of each row, whether the padding stands left or right.

    Raises ValueError for a row that is all padding.

    >>> last_token_index(torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [1, 2]
    """
    real = attention_mask != 0
    if not bool(real.any(dim=1).all()):
        row = int((~real.any(dim=1)).nonzero()[0])
        raise ValueError(f"Row {row} of the attention mask is all padding: it has no last token.")
    # The first real token counted from the end; argmax takes the first of equals.
    return attention_mask.shape[1] - 1 - real.flip(1).int().argmax(dim=1)


def activations_at(
    resid: Float[Tensor, "batch pos d_model"], index: Int[Tensor, " batch"]
) -> Float[Tensor, "batch d_model"]:
    """Of each row, the residual vector at its own position.

    >>> activations_at(torch.arange(6.0).view(2, 3, 1), torch.tensor([0, 2])).flatten().tolist()
    [0.0, 5.0]
    """
    return resid[torch.arange(resid.shape[0], device=resid.device), index]


def massive_tokens(norms: Float[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """Where a token's norm is above three times the median of its own row's real tokens.

    Leave BOS out of `real`. A row's verdict depends on no other row, so batching changes nothing.

    >>> massive_tokens(torch.tensor([[9.0, 1.0, 1.0, 4.0]]), torch.tensor([[False, True, True, True]])).tolist()
    [[False, False, False, True]]
    """
    median = norms.masked_fill(~real, torch.nan).nanmedian(dim=1, keepdim=True).values
    return real & (norms > MASSIVE * median)


def token_ids(model: TransformerBridge, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of each prompt, BOS first, no padding. A prompt may already be token ids; these are left as they are.

    A text that begins with BOS itself (a chat template's) gets no second one. ValueError for no prompts, an empty list
    of ids, ids outside the vocabulary, or more tokens than the model's context holds.
    """
    tokenizer = model.tokenizer
    rows = []
    for number, prompt in enumerate(check_prompts(prompts)):
        if isinstance(prompt, str):
            if tokenizer is None:
                raise ValueError(f"Prompt {number} is a text, but this model has no tokenizer. Give token ids.")
            bos = tokenizer.bos_token
            has_bos = bos is not None and prompt.startswith(bos)
            row = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            if not has_bos and tokenizer.bos_token_id is not None:
                row = [tokenizer.bos_token_id, *row]
        else:
            row = [int(token) for token in prompt]
        if not row:
            raise ValueError(f"Prompt {number} holds no tokens.")
        if min(row) < 0 or max(row) >= model.cfg.d_vocab:
            raise ValueError(f"Prompt {number} holds token ids outside 0 … {model.cfg.d_vocab - 1}.")
        if len(row) > model.cfg.n_ctx:
            raise ValueError(f"Prompt {number} has {len(row)} tokens, the model's context holds {model.cfg.n_ctx}.")
        rows.append(row)
    return rows


def pad(
    rows: Sequence[Sequence[int]], side: Literal["left", "right"], device: Any = None
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Tokens padded with id 0, and the mask that says which are real. The mask is counted, not read off the ids:
    SmolLM2's padding token also ends every chat turn."""
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        where = slice(width - len(row), None) if side == "left" else slice(len(row))
        tokens[i, where] = torch.as_tensor(row)
        mask[i, where] = 1
    return tokens.to(device), mask.to(device)


def collect(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    layers: int | Sequence[int],
    *,
    position: int | Literal["mean"] = -1,
    batch_size: int = 16,
) -> Float[Tensor, "*layer prompt d_model"]:
    """`hook_resid_post` of each prompt: shape (prompt, d_model) for one layer, (layer, prompt, d_model) for several.

    position: counted in the prompt's own tokens (BOS is 0), so padding never matters; negative from the end, −1 is the
        last token. "mean": over all tokens but BOS and massive ones.
    Float32 on the CPU, in the order of the prompts. Layers above the highest one asked are not run, and no more than a
    batch's residual streams are held. ValueError for no prompts, an unknown layer, BOS itself, or a prompt too short
    for the position.
    """
    single = isinstance(layers, int)
    rows = token_ids(model, prompts)
    for number, row in enumerate(rows):
        _check_position(position, len(row), number)
    found = check_layers(layers, model.cfg.n_layers)
    order = list(found if single else layers)  # type: ignore[arg-type]
    out = torch.zeros(len(found), len(rows), model.cfg.d_model)
    for which, mask, residual in _residuals(model, rows, found, batch_size):
        real = _after_bos(mask)
        lengths = mask.sum(dim=1)
        for i, layer in enumerate(found):
            resid = residual[layer]
            if position == "mean":
                keep = real & ~massive_tokens(resid.norm(dim=-1), real)
                picked = (resid * keep[..., None]).sum(dim=1) / keep.sum(dim=1, keepdim=True)
            else:
                index = lengths + position if position < 0 else torch.full_like(lengths, position)
                picked = activations_at(resid, index)
            out[i, which] = picked.float().cpu()
    return out[0] if single else out[[found.index(layer) for layer in order]]


def token_activations(
    model: TransformerBridge, prompts: Sequence[Prompt], layer: int, *, limit: int = 20_000, batch_size: int = 16
) -> Float[Tensor, "token d_model"]:
    """`hook_resid_post` of every token of the prompts but BOS and massive ones, at most `limit` of them, in order.

    For the covariance of ordinary activations: `matched_controls`. 20,000 tokens of SmolLM2 are 46 MB.
    """
    (found,) = check_layers(layer, model.cfg.n_layers)
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1.")
    parts, held = [], 0
    for _, mask, residual in _residuals(model, token_ids(model, prompts), (found,), batch_size, in_order=True):
        resid, real = residual[found], _after_bos(mask)
        keep = real & ~massive_tokens(resid.norm(dim=-1), real)
        parts.append(resid[keep][: limit - held].float().cpu())
        held += len(parts[-1])
        if held >= limit:
            break
    if held == 0:
        raise ValueError("These prompts hold no token after BOS, so there is nothing to collect.")
    return torch.cat(parts)


def _residuals(
    model: TransformerBridge,
    rows: list[list[int]],
    layers: tuple[int, ...],
    batch_size: int,
    in_order: bool = False,
) -> Iterator[tuple[list[int], Tensor, dict[int, Tensor]]]:
    """Batch by batch: which rows, their mask (right-padded), and the residual stream after each layer."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1.")
    # Rows of like length share a batch, so little of it is padding.
    order = list(range(len(rows))) if in_order else sorted(range(len(rows)), key=lambda i: len(rows[i]))
    held: dict[int, Tensor] = {}

    def keep(resid: Tensor, hook: Any) -> None:
        held[hook.layer()] = resid.detach()

    hooks = [(f"blocks.{layer}.hook_resid_post", keep) for layer in layers]
    last = layers[-1] + 1
    stop = None if last == model.cfg.n_layers else last
    for start in range(0, len(order), batch_size):
        which = order[start : start + batch_size]
        # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
        tokens, mask = pad([rows[i] for i in which], "right", model.cfg.device)
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            model(tokens, return_type=None, stop_at_layer=stop)
        yield which, mask, dict(held)
        held.clear()


def _after_bos(mask: Tensor) -> Tensor:
    real = mask.bool().clone()
    real[:, 0] = False
    return real


def _check_position(position: Any, length: int, number: int) -> None:
    if position == "mean":
        if length < 2:
            raise ValueError(f"Prompt {number} holds BOS only, so it has no token to take the mean of.")
        return
    if isinstance(position, bool) or not isinstance(position, int):
        raise ValueError(f"position is {position!r}, expected a whole number or 'mean'.")
    if not -length <= position < length:
        raise ValueError(f"Prompt {number} has {length} tokens with BOS, so there is no position {position}.")
    if position % length == 0:
        raise ValueError(
            f"Position {position} of prompt {number} is BOS, an attention sink whose norm hides everything else. "
            "Take a later position."
        )
