"""Residual streams of many prompts: unaffected by padding, in batches, in bounded memory.

Position 0 is BOS, an attention sink: at SmolLM2's layer 14 its norm is about 25,000 against 150 elsewhere, so a mean
that includes it is a mean of BOS. It is never collected. Other tokens can be massive too (Sun et al. 2024, "Massive
Activations in Large Language Models"): those whose norm exceeds three times the median of their prompt's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from mi_course.interp.massive import massive_tokens
from mi_course.interp.prompts import pad, token_ids
from mi_course.interp.steering._checks import check_layers

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt


def last_token_index(attention_mask: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Index of the last real token of each row, whether the row is padded on the left or on the right.

    Raises ValueError for a row that is all padding.

    >>> last_token_index(torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [1, 2]
    """
    real = attention_mask != 0
    if not bool(real.any(dim=1).all()):
        row = int((~real.any(dim=1)).nonzero()[0])
        raise ValueError(f"Row {row} of the attention mask is all padding: it has no last token.")
    # The first real token from the end; argmax takes the first of equals.
    return attention_mask.shape[1] - 1 - real.flip(1).int().argmax(dim=1)


def activations_at(
    resid: Float[Tensor, "batch pos d_model"], index: Int[Tensor, " batch"]
) -> Float[Tensor, "batch d_model"]:
    """The residual vector of each row at that row's position.

    >>> activations_at(torch.arange(6.0).view(2, 3, 1), torch.tensor([0, 2])).flatten().tolist()
    [0.0, 5.0]
    """
    return resid[torch.arange(resid.shape[0], device=resid.device), index]


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
    Float32 on the CPU, in the order of the prompts. Layers above the highest one asked for are not run, and only one
    batch's residual streams are in memory. ValueError for no prompts, an unknown layer, BOS itself, or a prompt too
    short for the position.
    """
    rows = token_ids(model, prompts)
    for number, row in enumerate(rows):
        _check_position(position, len(row), number)
    distinct = check_layers(layers, model.cfg.n_layers)
    out = torch.zeros(len(distinct), len(rows), model.cfg.d_model)
    for which, mask, residual in _residuals(model, rows, distinct, batch_size):
        real = _after_bos(mask)
        lengths = mask.sum(dim=1)
        for i, layer in enumerate(distinct):
            resid = residual[layer]
            if position == "mean":
                ordinary = real & ~massive_tokens(resid.norm(dim=-1), real)
                picked = (resid * ordinary[..., None]).sum(dim=1) / ordinary.sum(dim=1, keepdim=True)
            else:
                index = lengths + position if position < 0 else torch.full_like(lengths, position)
                picked = activations_at(resid, index)
            out[i, which] = picked.float().cpu()
    return out[0] if isinstance(layers, int) else out[[distinct.index(layer) for layer in layers]]


def response_activations(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    layers: int | Sequence[int],
    *,
    batch_size: int = 16,
) -> Float[Tensor, "*layer prompt d_model"]:
    """`hook_resid_post` of each response, averaged over its own tokens; those of the prompt are read and left out.

    For directions of *how* a model writes (Chen et al. 2025, "Persona Vectors", section 2.2). Shapes as in `collect`.
    ValueError for an empty response, and all that `collect` refuses.
    """
    before = token_ids(model, prompts)
    if len(before) != len(responses):
        raise ValueError(f"There are {len(before)} prompts and {len(responses)} responses, expected one for each.")
    after = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in responses]
    for number, row in enumerate(after):
        if not row:
            raise ValueError(f"Response {number} holds no tokens, so it has no mean.")
    distinct = check_layers(layers, model.cfg.n_layers)
    out = torch.zeros(len(distinct), len(before), model.cfg.d_model)
    rows = [prompt + response for prompt, response in zip(before, after, strict=True)]
    for which, mask, residual in _residuals(model, rows, distinct, batch_size):
        columns = torch.arange(mask.shape[1], device=mask.device)
        starts = torch.tensor([len(before[i]) for i in which], device=mask.device)
        own = mask.bool() & (columns >= starts[:, None])
        for i, layer in enumerate(distinct):
            picked = (residual[layer] * own[..., None]).sum(dim=1) / own.sum(dim=1, keepdim=True)
            out[i, which] = picked.float().cpu()
    return out[0] if isinstance(layers, int) else out[[distinct.index(layer) for layer in layers]]


def token_activations(
    model: TransformerBridge, prompts: Sequence[Prompt], layer: int, *, limit: int = 20_000, batch_size: int = 16
) -> Float[Tensor, "token d_model"]:
    """`hook_resid_post` of every token of the prompts but BOS and massive ones, at most `limit` of them, in order.

    For the covariance of ordinary activations: `matched_controls`. 20,000 tokens of SmolLM2 are 46 MB.
    """
    return ordinary_activations(model, prompts, [layer], limit=limit, batch_size=batch_size)[layer]


def ordinary_activations(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    limit: int = 20_000,
    batch_size: int = 16,
) -> dict[int, Float[Tensor, "token d_model"]]:
    """`token_activations` of several layers from one pass; which tokens are massive is decided at each layer."""
    distinct = check_layers(layers, model.cfg.n_layers)
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1.")
    parts: dict[int, list[Tensor]] = {layer: [] for layer in distinct}
    held = dict.fromkeys(distinct, 0)
    for _, mask, residual in _residuals(model, token_ids(model, prompts), distinct, batch_size, in_order=True):
        real = _after_bos(mask)
        for layer in distinct:
            resid = residual[layer]
            ordinary = real & ~massive_tokens(resid.norm(dim=-1), real)
            parts[layer].append(resid[ordinary][: limit - held[layer]].float().cpu())
            held[layer] += len(parts[layer][-1])
        if min(held.values()) >= limit:
            break
    if min(held.values()) == 0:
        raise ValueError("These prompts hold no token after BOS, so there is nothing to collect.")
    return {layer: torch.cat(each) for layer, each in parts.items()}


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
    # Rows of similar length share a batch, so that little of it is padding.
    order = list(range(len(rows))) if in_order else sorted(range(len(rows)), key=lambda i: len(rows[i]))
    recorded: dict[int, Tensor] = {}

    def record(resid: Tensor, hook: Any) -> None:
        recorded[hook.layer()] = resid.detach()

    hooks = [(f"blocks.{layer}.hook_resid_post", record) for layer in layers]
    last = layers[-1] + 1
    stop = None if last == model.cfg.n_layers else last
    for start in range(0, len(order), batch_size):
        which = order[start : start + batch_size]
        # In a causal model padding on the right changes nothing to its left, so no mask is needed.
        tokens, mask = pad([rows[i] for i in which], "right", model.cfg.device)
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            model(tokens, return_type=None, stop_at_layer=stop)
        yield which, mask, dict(recorded)
        recorded.clear()


def _after_bos(mask: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
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
