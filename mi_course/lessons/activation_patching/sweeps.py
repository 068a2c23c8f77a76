"""Sweeps by a plain loop: one forward pass for each patch, and no hook left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    cache_ref,
    case,
    function_ref,
    left_hooks_by,
    model_ref,
)
from mi_course.interp.models import run_bare
from mi_course.wire import Observation

ATTENTION_ONLY = {
    "n_layers": 2,
    "n_heads": 3,
    "d_model": 12,
    "d_head": 4,
    "d_vocab": 13,
    "n_ctx": 12,
    "attn_only": True,
}
WITH_MLPS = {**ATTENTION_ONLY, "attn_only": False, "d_mlp": 20}
GROUPED = {
    "n_layers": 3,
    "n_heads": 4,
    "n_key_value_heads": 2,
    "d_model": 16,
    "d_head": 4,
    "d_mlp": 24,
    "d_vocab": 17,
    "n_ctx": 12,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMS",
}
"""As in SmolLM2: fewer key/value heads than query heads, rotary positions, RMS norms, MLPs."""

_Metric = Callable[[Tensor], float]


# ---------------------------------------------------------------------------------------------------------------------
# The oracle uses another road: the modules without the bridge.


def _run(model, tokens: Tensor, name: str, change: Callable[[Tensor], Tensor], metric: _Metric) -> float:
    return metric(run_bare(model, tokens, [(name, lambda x, hook: change(x))]))


def _residual_sweep(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
    """Oracle: one column of one layer at a time, without the bridge."""
    n_layers, n_positions = model.cfg.n_layers, corrupted_tokens.shape[1]
    result = torch.zeros(n_layers, n_positions)
    for layer in range(n_layers):
        clean = clean_cache[f"blocks.{layer}.hook_resid_pre"]
        for position in range(n_positions):
            chosen = torch.zeros(1, n_positions, 1, dtype=torch.bool)
            chosen[:, position] = True
            result[layer, position] = _run(
                model,
                corrupted_tokens,
                f"blocks.{layer}.hook_resid_pre",
                lambda resid, chosen=chosen, clean=clean: torch.where(chosen, clean, resid),
                metric,
            )
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers: the same loop, changed.


def _loop(
    change: Callable[[Tensor, Tensor, int], Tensor | None],
    name: str,
    columns: Callable[[object, Tensor], int],
    source: str | None = None,
) -> Callable[..., Tensor]:
    """A sweep whose hook gives change(activation, clean, index), at `name`; clean is read from `source`."""

    def sweep(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        n_layers, n = model.cfg.n_layers, columns(model, corrupted_tokens)
        result = torch.zeros(n_layers, n)
        for layer in range(n_layers):
            clean = clean_cache[(source or name).format(layer)].clone()
            for i in range(n):
                hooks = [(name.format(layer), lambda x, hook, i=i, clean=clean: change(x, clean, i))]
                result[layer, i] = metric(run_bare(model, corrupted_tokens, hooks))
        return result

    return sweep


def _baseline(model, corrupted_tokens: Tensor, metric: _Metric) -> float:
    return metric(run_bare(model, corrupted_tokens))


def _less_corrupted(sweep: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def difference(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        before = _baseline(model, corrupted_tokens, metric)
        return sweep(model, corrupted_tokens, clean_cache, metric) - before

    return difference


def _one_prompt(sweep: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """Only the first prompt of the batch is patched."""

    def first_prompt_only(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        with torch.no_grad():
            _, corrupted = model.run_with_cache(corrupted_tokens)
        mixed = {}
        for layer in range(model.cfg.n_layers):
            key = name.format(layer)
            mixed[key] = corrupted[key].clone()
            mixed[key][0] = clean_cache[key][0]
        return sweep(model, corrupted_tokens, mixed, metric)

    return first_prompt_only


def _piling_up(name: str, columns: Callable[[object, Tensor], int], axis: int, clear: bool) -> Callable[..., Tensor]:
    """Hooks are not removed within the loop, so that patches accumulate."""

    def sweep(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        n_layers, n = model.cfg.n_layers, columns(model, corrupted_tokens)
        result = torch.zeros(n_layers, n)
        for layer in range(n_layers):
            clean = clean_cache[name.format(layer)]
            for i in range(n):
                at = (slice(None),) * axis + (i,)
                model.add_hook(name.format(layer), lambda x, hook, at=at, clean=clean: _with(x, at, clean[at]))
                with torch.no_grad():
                    result[layer, i] = metric(model(corrupted_tokens))
        if clear:
            model.reset_hooks()
        return result

    return sweep


def _reset_at_the_end(name: str, columns: Callable[[object, Tensor], int], axis: int) -> Callable[..., Tensor]:
    """Right, but after an error the hook stays on the model."""

    def sweep(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        n_layers, n = model.cfg.n_layers, columns(model, corrupted_tokens)
        result = torch.zeros(n_layers, n)
        for layer in range(n_layers):
            clean = clean_cache[name.format(layer)]
            for i in range(n):
                at = (slice(None),) * axis + (i,)
                model.add_hook(name.format(layer), lambda x, hook, at=at, clean=clean: _with(x, at, clean[at]))
                with torch.no_grad():
                    result[layer, i] = metric(model(corrupted_tokens))
                model.reset_hooks()
        return result

    return sweep


def _into_cache(name: str, columns: Callable[[object, Tensor], int], axis: int) -> Callable[..., Tensor]:
    """The patched tensor is made by writing the corrupted run into the cache."""

    def sweep(model, corrupted_tokens: Tensor, clean_cache, metric: _Metric) -> Tensor:
        n_layers, n = model.cfg.n_layers, columns(model, corrupted_tokens)
        result = torch.zeros(n_layers, n)
        for layer in range(n_layers):
            for i in range(n):
                others = (slice(None),) * axis + ([k for k in range(n) if k != i],)

                def hook(x, hook, layer=layer, others=others):
                    clean = clean_cache[name.format(layer)]
                    clean[others] = x[others]
                    return clean

                result[layer, i] = metric(run_bare(model, corrupted_tokens, [(name.format(layer), hook)]))
        return result

    return sweep


def _with(base: Tensor, index: Any, value: Tensor | float) -> Tensor:
    base = base.clone()
    base[index] = value
    return base


def _positions(model, tokens: Tensor) -> int:
    return tokens.shape[1]


def _cache_changed(case: Case, observation: Observation) -> bool:
    """Detects a changed cache entry."""
    return any(path.startswith("[2]") for reply in observation.replies for path in reply.watched.get("arguments", []))


# ---------------------------------------------------------------------------------------------------------------------
# Cases


def pair_of_tokens(draw: RandomInputs, batch: int, pos: int, vocab: int, shared: int = 1) -> tuple[Tensor, Tensor]:
    """Clean and corrupted tokens: the same `shared` first tokens, as BOS is, and different ones from there on."""
    clean = draw.integers(0, vocab, batch, pos)
    other = (clean[:, shared:] + draw.integers(1, vocab, batch, pos - shared)) % vocab
    return clean, torch.cat([clean[:, :shared], other], dim=1)


def metric_ref(draw: RandomInputs, kind: str, batch: int, vocab: int, **options: Tensor):
    answers = torch.tensor([draw.permutation(vocab)[:2] for _ in range(batch)])
    return function_ref(kind, answers=answers, **options)


def _sweep_cases(config: dict, shapes: tuple[tuple[int, int, str], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, pos, kind in shapes:
            model = model_ref(config, draw.seed())
            # Not every pair begins with a token in common: there the first position matters too.
            shared = 0 if kind == "probability" else 1
            clean, corrupted = pair_of_tokens(draw, batch, pos, config["d_vocab"], shared)
            cases.append(
                case(
                    model,
                    corrupted,
                    cache_ref(model, clean),
                    metric_ref(draw, kind, batch, config["d_vocab"]),
                    watch=("model", "arguments"),
                    about=f"{config['n_layers']} layers of {config['n_heads']} heads, batch {batch}, {pos} positions, the metric a {kind.replace('_', ' ')}",
                    rtol=1e-3,
                    atol=1e-4,
                )
            )
        return cases

    return cases


def _interrupted_cases(draw: RandomInputs, size: str) -> list[Case]:
    model = model_ref(ATTENTION_ONLY, draw.seed())
    clean, corrupted = pair_of_tokens(draw, 2, 4, 13)
    args = (model, corrupted, cache_ref(model, clean), metric_ref(draw, "logit_difference", 2, 13))
    calls = (
        Call(args, driver="raising", watch=("model",)),
        Call(args, driver="raising", options={"after": 1}, watch=("model",)),
        Call(args, watch=("model",)),
    )
    return [
        Case(calls=calls, about="an error in the middle of a forward pass, then an ordinary call", rtol=1e-3, atol=1e-4)
    ]


def _sweep_parts(batches: tuple[int, int, int]) -> tuple[Part, ...]:
    a, b, c = batches
    return (
        Part(
            "an attention-only model",
            2,
            lambda draw, size: [
                *_sweep_cases(ATTENTION_ONLY, ((a, 6, "logit_difference"), (b, 5, "probability")))(draw, size),
                *_sweep_cases({**ATTENTION_ONLY, "n_layers": 1, "n_heads": 1}, ((2, 3, "logit_difference"),))(
                    draw, size
                ),
            ],
        ),
        Part(
            "grouped key/value heads, rotary positions, MLPs", 1, _sweep_cases(GROUPED, ((c, 5, "logit_difference"),))
        ),
        Part("no hook stays, also after an error", 1, _interrupted_cases),
    )


_HOOKS_LEFT = "Your hooks are still on the model after the call, so that every later forward pass is patched as well. `model.run_with_hooks(...)` and `with model.hooks(...)` remove them."
_HOOKS_LEFT_AFTER_ERROR = (
    "When a forward pass fails halfway, your hook stays on the model, and every later result is quietly wrong. `model.run_with_hooks(...)` and `with model.hooks(...)` remove it in "
    "that case too."
)
_PILED_UP = (
    "Your patches accumulate: the hooks of earlier iterations are still there when the next one runs, so that each value comes from many patches together. Remove each hook before the next: "
    "`model.run_with_hooks(...)` does."
)
_IN_CACHE = "Your hook writes into the clean cache. Entry by entry it then becomes the corrupted run, and later patches read it. Work on a copy of the hook's own tensor."
_CONSTANT = "Every patch gives the metric of the corrupted run: your hook changes nothing. A hook that makes a new tensor has to return it; when it returns None, the model goes on with its own."
_RAW = "You subtracted the corrupted metric. Raw values are asked for: the caller normalises, with `recovery` for instance."
_FIRST_PROMPT = (
    "Only the first prompt of the batch is patched. All of them are asked for, each from its own row of the cache."
)

_RESID = "blocks.{}.hook_resid_pre"


RESIDUAL_SWEEP = Exercise(
    id="activation_patching.residual_sweep",
    revision=2,
    fixed={
        "model": "the cache belongs to it",
        "result<=1": "small models have small effects",
    },
    task="The metric after patching the residual stream, one layer and position at a time, by a plain loop.",
    minutes=10,
    difficulty=2,
    oracle=_residual_sweep,
    parts=_sweep_parts((3, 2, 2)),
    mistakes=(
        Mistake("cache_changed", _IN_CACHE, _into_cache(_RESID, _positions, 1), _cache_changed),
        Mistake("hooks_left", _HOOKS_LEFT, _piling_up(_RESID, _positions, 1, clear=False), left_hooks_by("call")),
        Mistake("patches_pile_up", _PILED_UP, _piling_up(_RESID, _positions, 1, clear=True)),
        Mistake("nothing_patched", _CONSTANT, _loop(lambda x, clean, i: x.clone(), _RESID, _positions)),
        Mistake(
            "whole_layer",
            "You patched all positions at once. From that layer on the run is the clean one, whichever layer it is: every value is the clean metric. Patch one position: `resid[:, position]`.",
            _loop(lambda x, clean, i: clean.clone(), _RESID, _positions),
        ),
        Mistake(
            "all_other_positions",
            "It is the other way around: every position but this one is patched.",
            _loop(lambda x, clean, i: _with(clean, (slice(None), i), x[:, i]), _RESID, _positions),
        ),
        Mistake(
            "resid_post",
            "You patched `hook_resid_post`, the residual stream *after* each layer: your rows are shifted by one layer. It should be `hook_resid_pre`.",
            _loop(lambda x, clean, i: _with(x, (slice(None), i), clean[:, i]), "blocks.{}.hook_resid_post", _positions),
        ),
        Mistake(
            "another_place_than_the_cache",
            "You read the cache at `hook_resid_pre` and wrote it in at `hook_resid_post`: the work of every layer is undone. Read and write at the same hook.",
            _loop(
                lambda x, clean, i: _with(x, (slice(None), i), clean[:, i]),
                "blocks.{}.hook_resid_post",
                _positions,
                _RESID,
            ),
        ),
        Mistake(
            "from_position_on",
            "You patched this position and all after it. One position at a time is asked for.",
            _loop(lambda x, clean, i: _with(x, (slice(None), slice(i, None)), clean[:, i:]), _RESID, _positions),
        ),
        Mistake(
            "zero_for_clean",
            "You set the position to zero. That is an ablation; a patch puts the clean run's value there.",
            _loop(lambda x, clean, i: _with(x, (slice(None), i), 0.0), _RESID, _positions),
        ),
        Mistake("first_prompt_only", _FIRST_PROMPT, _one_prompt(_residual_sweep, _RESID)),
        Mistake(
            "transposed",
            "Your table is [position, layer]. It should be [layer, position].",
            lambda model, tokens, cache, metric: _residual_sweep(model, tokens, cache, metric).T,
        ),
        Mistake("difference_from_corrupted", _RAW, _less_corrupted(_residual_sweep)),
        Mistake(
            "hooks_left_after_error",
            _HOOKS_LEFT_AFTER_ERROR,
            _reset_at_the_end(_RESID, _positions, 1),
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "Two loops, one forward pass inside, one number into a table. You already have the hook: `patch_position`.",
        '`functools.partial(patch_position, source=clean_cache[name], position=position)` is a hook for `name = f"blocks.{layer}.hook_resid_pre"`.',
        "`logits = model.run_with_hooks(corrupted_tokens, fwd_hooks=[(name, hook)])` under `torch.no_grad()`; then `metric(logits)`.",
    ),
    reveal="One forward pass per cell, which is the definition. The engine in `mi_course.interp.patching` gives the same numbers much faster, because most of that work is repeated: nothing changes before the patched layer, nor at "
    "earlier positions.",
)
