"""Steered generation with a key/value cache: the prompt is read once, and each step reads one token per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.prompts import only_last, pad, token_ids
from mi_course.interp.steering.interventions import Ablate, Steer, steering

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt


def generate(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    interventions: Sequence[Steer | Ablate] = (),
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    use_cache: bool = True,
) -> list[str]:
    """What the model writes after each prompt (the prompt itself left out), under these interventions.

    temperature: 0 takes the likeliest token each time; above 0, tokens are drawn with a generator of this seed, and the
      global random state is left alone. A row ends before its end-of-text token.
    use_cache: False reads everything again for each token, with the same result. So does a model without a key/value
      cache, such as our own small ones.
    """
    new = generate_ids(
        model,
        prompts,
        interventions,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        use_cache=use_cache,
    )
    return [model.tokenizer.decode(row) for row in new]


def generate_ids(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    interventions: Sequence[Steer | Ablate] = (),
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    use_cache: bool = True,
) -> list[list[int]]:
    """As `generate`, as token ids. ValueError for no prompts, or if the context cannot hold prompt and new tokens."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, expected at least 1.")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}, expected 0 (the likeliest token) or a positive number.")
    rows = token_ids(model, prompts)
    longest = max(len(row) for row in rows)
    if longest + max_new_tokens > model.cfg.n_ctx:
        raise ValueError(
            f"The longest prompt has {longest} tokens and {max_new_tokens} more are asked, but the model's context "
            f"holds {model.cfg.n_ctx}."
        )
    generator = torch.Generator().manual_seed(seed)
    end = None if model.tokenizer is None else model.tokenizer.eos_token_id
    tokens, mask = pad(rows, "left", model.cfg.device)
    new: list[list[int]] = [[] for _ in rows]
    running = [True] * len(rows)
    cache: Any = None
    with torch.no_grad(), steering(model, *interventions):
        for _ in range(max_new_tokens):
            logits, cache = _step(model, tokens, mask, cache, use_cache)
            chosen = _choose(logits, temperature, generator)
            for i, token in enumerate(chosen.tolist()):
                running[i] = running[i] and token != end
                if running[i]:
                    new[i].append(token)
            if not any(running):
                break
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return new


def _step(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    mask: Int[Tensor, "batch pos"],
    cache: Any,
    use_cache: bool,
) -> tuple[Float[Tensor, "batch vocab"], Any]:
    """Logits after the last column, and the cache. With a cache only that column is read: the others are in it."""
    options = only_last(model)
    if not bool(mask.all()):
        options["attention_mask"] = mask
    if cache is not None:
        logits, cache = model(tokens[:, -1:], return_type="logits_and_cache", past_key_values=cache, **options)
    elif use_cache:
        logits, cache = model(tokens, return_type="logits_and_cache", use_cache=True, **options)
    else:
        logits = model(tokens, return_type="logits", use_cache=False, **options)
    return logits[:, -1], cache


def _choose(
    logits: Float[Tensor, "batch vocab"], temperature: float, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("The logits are NaN or infinite under these interventions. Make the coefficient smaller.")
    if temperature == 0:
        return logits.argmax(dim=-1)
    p = (logits.float().cpu() / temperature).softmax(dim=-1)
    return torch.multinomial(p, 1, generator=generator)[:, 0].to(logits.device)
