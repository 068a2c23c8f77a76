"""Hooks that replace an activation: by another run's, or by a mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref
from mi_course.wire import Observation

_MODEL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 7, "n_ctx": 8, "attn_only": True}
_RESID, _Z = "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"


def _with(base: Tensor, index: Any, value: Tensor | float) -> Tensor:
    base = base.clone()
    base[index] = value
    return base


def _second_tensor_changed(case: Case, observation: Observation) -> bool:
    """Detects a change of the tensor that is patched from. (The first argument may change: hooks may work in place.)"""
    return any(path.startswith("[2]") for reply in observation.replies for path in reply.watched.get("arguments", []))


_CACHE_CHANGED = (
    "The values are right, but you wrote into `source`. That is the cache of the other run: the next patch would read what you left there. Change a copy of "
    "the hook's own tensor."
)
_NOTHING_RETURNED = (
    "The hook returns what it was given. If you change a copy, return it: when a hook returns None, the model goes on with its own tensor, and the metric is "
    "the same for every patch."
)


# ---------------------------------------------------------------------------------------------------------------------
# patch_position


def _patch_position(resid: Tensor, hook: object, source: Tensor, position: int) -> Tensor:
    """Oracle: assemble the rows one by one."""
    rows = []
    for b in range(resid.shape[0]):
        rows.append(torch.stack([(source if p == position else resid)[b, p] for p in range(resid.shape[1])]))
    return torch.stack(rows)


def _position_into_source(resid: Tensor, hook: object, source: Tensor, position: int) -> Tensor:
    others = [p for p in range(resid.shape[1]) if p != position]
    source[:, others] = resid[:, others]
    return source


def _position_cases(shapes: tuple[tuple[int, int, int, int], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        point = hook_ref(model_ref(_MODEL, draw.seed()), _RESID)
        return [
            case(
                draw.normal(batch, pos, d, mean=0.4),
                point,
                draw.normal(batch, pos, d, mean=-0.3),
                position,
                driver="hook",
                about=f"batch {batch}, {pos} positions, position {position}",
            )
            for batch, pos, d, position in shapes
        ]

    return cases


PATCH_POSITION = Exercise(
    id="activation_patching.patch_position",
    revision=2,
    fixed={
        "resid[1]": "varied by hand, with position 0",
        "source[1]": "varied by hand, with position 0",
    },
    task="A hook for the residual stream that takes one position, in every prompt, from another run.",
    minutes=5,
    difficulty=1,
    oracle=_patch_position,
    parts=(
        Part("one position of every prompt", 2, _position_cases(((3, 6, 7, 2), (2, 5, 4, 1)))),
        Part("the first and the last position", 1, _position_cases(((4, 5, 6, 0), (2, 6, 8, 5), (2, 1, 3, 0)))),
    ),
    mistakes=(
        Mistake(
            "source_changed",
            _CACHE_CHANGED,
            _position_into_source,
            _second_tensor_changed,
        ),
        Mistake("nothing_patched", _NOTHING_RETURNED, lambda resid, hook, source, position: resid.clone()),
        Mistake(
            "all_others_patched",
            "It is the other way around: every position but this one comes from the source.",
            lambda resid, hook, source, position: _with(source, (slice(None), position), resid[:, position]),
        ),
        Mistake(
            "whole_run_patched",
            "Every position comes from the source. Patching the whole residual stream of a layer gives the clean run again, whichever layer it is.",
            lambda resid, hook, source, position: source.clone(),
        ),
        Mistake(
            "row_for_position",
            "You replaced a *prompt* of the batch. The axes are [batch, pos, d_model]: `resid[:, position]`.",
            lambda resid, hook, source, position: _with(resid, position, source[position]),
        ),
        Mistake(
            "dimension_for_position",
            "You replaced one dimension at every position. The axes are [batch, pos, d_model]: `resid[:, position]`.",
            lambda resid, hook, source, position: _with(resid, (..., position), source[..., position]),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch is patched. All of them are asked for: `resid[:, position]`.",
            lambda resid, hook, source, position: _with(resid, (0, position), source[0, position]),
        ),
        Mistake(
            "from_position_on",
            "This position and all after it are patched. Only this position is asked for.",
            lambda resid, hook, source, position: _with(
                resid, (slice(None), slice(position, None)), source[:, position:]
            ),
        ),
        Mistake(
            "up_to_position",
            "All positions up to this one are patched. Only this position is asked for.",
            lambda resid, hook, source, position: _with(
                resid, (slice(None), slice(0, position + 1)), source[:, : position + 1]
            ),
        ),
        Mistake(
            "added",
            "You added the source to what was there. A patch replaces.",
            lambda resid, hook, source, position: _with(
                resid, (slice(None), position), resid[:, position] + source[:, position]
            ),
        ),
        Mistake(
            "zeroed",
            "The position is set to zero. That is an ablation; a patch puts the other run's value there.",
            lambda resid, hook, source, position: _with(resid, (slice(None), position), 0.0),
        ),
        Mistake(
            "source_averaged",
            "Every prompt got the mean of the source over the batch. Prompt b belongs with row b of the source.",
            lambda resid, hook, source, position: _with(resid, (slice(None), position), source[:, position].mean(0)),
        ),
    ),
    hints=(
        "One assignment does it: to position `position` of all prompts, from the same position in `source`.",
        "`resid[:, position] = source[:, position]`, then `return resid`. The hook argument is not needed here.",
    ),
    reveal="A hook may change its tensor in place, or return another. What it must not touch is the cache: it is read again for every patch. `hook` says where the hook is attached; "
    "here the caller knows.",
)


# ---------------------------------------------------------------------------------------------------------------------
# mean_ablate


def _mean_ablate(z: Tensor, hook: object, mean: Tensor, keep: list[int]) -> Tensor:
    """Oracle: entry by entry."""
    out = torch.empty_like(z)
    for b in range(z.shape[0]):
        for p in range(z.shape[1]):
            for h in range(z.shape[2]):
                out[b, p, h] = z[b, p, h] if h in keep else mean[p, h]
    return out


def _others(z: Tensor, keep: list[int]) -> list[int]:
    return [h for h in range(z.shape[2]) if h not in keep]


def _set_others(z: Tensor, keep: list[int], value: Tensor) -> Tensor:
    """All heads but `keep` from `value`, which broadcasts to z."""
    return _with(value.expand_as(z), (slice(None), slice(None), list(keep)), z[:, :, list(keep)])


def _mean_into_mean(z: Tensor, hook: object, mean: Tensor, keep: list[int]) -> Tensor:
    out = _mean_ablate(z, hook, mean, keep)
    mean[:, list(keep)] = z[0, :, list(keep)]
    return out


def _mean_cases(shapes: tuple[tuple[int, int, int, int, list[int]], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        point = hook_ref(model_ref(_MODEL, draw.seed()), _Z)
        return [
            case(
                draw.normal(batch, pos, heads, d, mean=0.4),
                point,
                draw.normal(pos, heads, d, mean=1.0),
                keep,
                driver="hook",
                about=f"batch {batch}, {pos} positions, {heads} heads, of which {keep} are kept",
            )
            for batch, pos, heads, d, keep in shapes
        ]

    return cases


MEAN_ABLATE = Exercise(
    id="activation_patching.mean_ablate",
    revision=2,
    fixed={
        "z[2]": "varied by hand, with head 0",
        "mean[1]": "varied by hand, with head 0",
    },
    task="A hook for z that sets all heads but a few to their mean.",
    minutes=6,
    difficulty=2,
    oracle=_mean_ablate,
    parts=(
        Part("some heads kept", 2, _mean_cases(((3, 6, 5, 4, [3, 1]), (2, 5, 4, 3, [2])))),
        Part(
            "the first and last kept; none; all",
            1,
            _mean_cases(((2, 4, 5, 3, [0, 4]), (3, 5, 3, 4, []), (2, 5, 3, 4, [0, 1, 2]), (2, 3, 1, 4, []))),
        ),
    ),
    mistakes=(
        Mistake(
            "mean_changed",
            _CACHE_CHANGED.replace("`source`", "`mean`").replace("the cache of the other run", "shared by all prompts"),
            _mean_into_mean,
            _second_tensor_changed,
        ),
        Mistake(
            "kept_are_ablated",
            "It is the other way around: the heads in `keep` got their mean, all others stayed. `keep` is the circuit; everything else is ablated.",
            lambda z, hook, mean, keep: _set_others(z, _others(z, keep), mean),
        ),
        Mistake(
            "zero_for_mean",
            "The other heads are set to zero. The mean is asked for: a head's average output is something that later layers rely on, and zero is something they have never seen.",
            lambda z, hook, mean, keep: _set_others(z, keep, torch.zeros(())),
        ),
        Mistake(
            "everything_ablated",
            "All heads got their mean, those in `keep` too.",
            lambda z, hook, mean, keep: mean.expand_as(z).clone(),
        ),
        Mistake(
            "nothing_ablated",
            "The hook returns what it was given. If you change a copy, return it; `mean` and `keep` decide what it contains.",
            lambda z, hook, mean, keep: z.clone(),
        ),
        Mistake(
            "mean_of_this_batch",
            "You took the mean of z over the batch in front of you. The mean is given: it comes from other prompts, and which prompts these are decides what is measured.",
            lambda z, hook, mean, keep: _set_others(z, keep, z.mean(0)),
        ),
        Mistake(
            "mean_over_positions",
            "You averaged the mean over positions as well. Each position has its own: it carries what the template says there.",
            lambda z, hook, mean, keep: _set_others(z, keep, mean.mean(0)),
        ),
        Mistake(
            "first_kept_only",
            "Only the first head of `keep` is kept. All of them are asked for.",
            lambda z, hook, mean, keep: _mean_ablate(z, hook, mean, keep[:1]),
        ),
        Mistake(
            "positions_kept",
            "You kept *positions* of all heads. The axes of z are [batch, pos, head, d_head]: `z[:, :, keep]`.",
            lambda z, hook, mean, keep: _with(mean.expand_as(z), (slice(None), list(keep)), z[:, list(keep)]),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt is ablated. The same mean goes to every prompt of the batch.",
            lambda z, hook, mean, keep: torch.cat([_mean_ablate(z[:1], hook, mean, keep), z[1:]]),
        ),
        Mistake(
            "mean_added",
            "You added the mean to what was there. It replaces.",
            lambda z, hook, mean, keep: _set_others(z, keep, z + mean),
        ),
    ),
    hints=(
        "Start from the mean, expanded to the shape of z, and put the kept heads back; or start from z and replace the others.",
        "`out = mean.expand_as(z).clone()`, `out[:, :, keep] = z[:, :, keep]`, `return out`. Why is `clone` needed?",
    ),
    reveal="`expand` makes a view in which all prompts share one memory; writing into it would write into all of them, so it is cloned first. One hook per layer does the whole circuit.",
)
