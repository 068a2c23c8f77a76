"""Path patching: from a head straight to the logits, or straight into the query of a later head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, cache_ref, case, left_hooks, model_ref
from mi_course.interp.models import record_bare, run_bare
from mi_course.lessons.activation_patching.sweeps import GROUPED, WITH_MLPS, metric_ref, pair_of_tokens

_Metric = Callable[[Tensor], float]


def _metric_with(model, tokens: Tensor, hooks: list, metric: _Metric) -> float:
    return metric(run_bare(model, tokens, hooks))


def _frozen(model, cache, what: tuple[str, ...]) -> list:
    """Hooks that set every layer's z, or MLP output, to this cache's."""
    names = []
    for layer in range(model.cfg.n_layers):
        if "z" in what:
            names.append(f"blocks.{layer}.attn.hook_z")
        if "mlp" in what and f"blocks.{layer}.hook_mlp_out" in cache:
            names.append(f"blocks.{layer}.hook_mlp_out")
    return [(name, lambda x, hook, kept=cache[name]: kept.clone()) for name in names]


def _send(cache, layer: int, head: int | slice) -> tuple[str, Callable]:
    """A hook that takes one head's z from this cache."""
    name = f"blocks.{layer}.attn.hook_z"

    def hook(z: Tensor, hook: object) -> Tensor:
        z = z.clone()
        z[:, :, head] = cache[name][:, :, head]
        return z

    return name, hook


def _path_patch(model, tokens: Tensor, corrupted_cache, clean_cache, sender: tuple[int, int], metric: _Metric) -> float:
    """Oracle: a full run with every head and MLP frozen at the corrupted run, and the sender at the clean one."""
    hooks = [*_frozen(model, corrupted_cache, ("z", "mlp")), _send(clean_cache, *sender)]
    return _metric_with(model, tokens, hooks, metric)


def _with_hooks(make: Callable[..., list]) -> Callable[..., float]:
    """A path patch by other hooks: make(model, corrupted, clean, sender)."""

    def path_patch(model, tokens: Tensor, corrupted_cache, clean_cache, sender, metric: _Metric) -> float:
        return _metric_with(model, tokens, make(model, corrupted_cache, clean_cache, sender), metric)

    return path_patch


def _change_at_end(change: Callable[..., Tensor]) -> Callable[..., float]:
    """A path patch that adds change(model, corrupted, clean, sender) to the final residual stream."""

    def make(model, corrupted, clean, sender) -> list:
        added = change(model, corrupted, clean, sender).detach()
        return [(f"blocks.{model.cfg.n_layers - 1}.hook_resid_post", lambda resid, hook: resid + added)]

    return _with_hooks(make)


def _written(model, cache, layer: int, head: int) -> Tensor:
    return cache[f"blocks.{layer}.attn.hook_z"][:, :, head] @ model.blocks[layer].attn.W_O[head]


def _norm_frozen(model, tokens: Tensor, corrupted_cache, clean_cache, sender, metric: _Metric) -> float:
    layer, head = sender
    added = _written(model, clean_cache, layer, head) - _written(model, corrupted_cache, layer, head)
    final = corrupted_cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
    resid = final + added
    with torch.no_grad():
        # The final norm is affine once its scale is frozen: what it does to the corrupted stream, and the change by the same scale.
        norm, weight = model.ln_final, getattr(model.ln_final, "weight", torch.ones(()))
        before = norm(final)
        centered = added if model.cfg.normalization_type == "RMS" else added - added.mean(-1, keepdim=True)
        scale = corrupted_cache["ln_final.hook_scale"]
        return metric(model.unembed(before + centered / scale * weight)) if resid.numel() else 0.0


def _hooks_stay(model, tokens: Tensor, corrupted_cache, clean_cache, sender, metric: _Metric) -> float:
    for name, hook in [*_frozen(model, corrupted_cache, ("z", "mlp")), _send(clean_cache, *sender)]:
        model.add_hook(name, hook)
    with torch.no_grad():
        return metric(model(tokens))


def _less_corrupted(model, tokens: Tensor, corrupted_cache, clean_cache, sender, metric: _Metric) -> float:
    return _path_patch(model, tokens, corrupted_cache, clean_cache, sender, metric) - _metric_with(
        model, tokens, [], metric
    )


def _wrong_direction(model, tokens: Tensor, corrupted_cache, clean_cache, sender, metric: _Metric) -> float:
    head, layer = sender
    return _path_patch(model, tokens, corrupted_cache, clean_cache, (layer, head), metric)


def _path_case(
    draw: RandomInputs,
    config: dict[str, Any],
    batch: int,
    pos: int,
    heads: tuple[tuple[int, int], ...],
    kind: str,
    where: str,
    rtol: float,
    atol: float,
) -> Case:
    """A run of corrupted tokens, with both caches, the heads of the path and a metric of this kind."""
    model = model_ref(config, draw.seed())
    clean, corrupted = pair_of_tokens(draw, batch, pos, config["d_vocab"])
    # Prompts of unequal length: the metric reads each at its own last token.
    last = {"last": draw.integers(1, pos, batch)} if kind == "logit_difference" else {}
    return case(
        model,
        corrupted,
        cache_ref(model, corrupted),
        cache_ref(model, clean),
        *heads,
        metric_ref(draw, kind, batch, config["d_vocab"], **last),
        watch=("model", "arguments"),
        about=f"{where}, batch {batch}, {pos} positions, the metric a {kind.replace('_', ' ')}",
        rtol=rtol,
        atol=atol,
    )


def _with_neighbor(first: Case, i: int, config: dict[str, Any], name: str) -> Case:
    """The same run with another head of the same layer as argument i, which is called `name`."""
    (call,) = first.calls
    layer, head = call.args[i]
    other = (layer, (head + 1) % config["n_heads"])
    call = replace(call, args=(*call.args[:i], other, *call.args[i + 1 :]))
    return replace(first, calls=(call,), about=f"{first.about}; then {name} {other}")


def _cases(
    config: dict, runs: tuple[tuple[int, int, tuple[int, int], str], ...]
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, pos, sender, kind in runs:
            where = f"sender {sender[0]}.{sender[1]} of {config['n_layers']} layers"
            cases.append(_path_case(draw, config, batch, pos, (sender,), kind, where, rtol=1e-3, atol=1e-4))
        return [*cases, _with_neighbor(cases[0], 4, config, "sender")]

    return cases


PATH_PATCH_TO_LOGITS = Exercise(
    id="activation_patching.path_patch_to_logits",
    revision=2,
    fixed={
        "tokens": "the caches belong to them",
        "tokens[1]": "the metric reads a position",
        "corrupted_cache": "belongs to the tokens",
        "clean_cache": "belongs to the tokens",
        "model": "the caches belong to it",
        "result<=1": "small models have small effects",
    },
    task="The metric when only what one head writes straight into the final residual stream comes from the clean run.",
    minutes=12,
    difficulty=3,
    oracle=_path_patch,
    parts=(
        Part(
            "two layers",
            2,
            _cases(WITH_MLPS, ((3, 6, (0, 1), "logit_difference"), (2, 5, (0, 2), "probability"))),
        ),
        Part(
            "grouped key/value heads, rotary positions, MLPs",
            2,
            _cases(GROUPED, ((2, 5, (1, 2), "logit_difference"), (3, 6, (0, 3), "probability"))),
        ),
        Part("a sender in the last layer", 1, _cases(GROUPED, ((2, 5, (2, 1), "logit_difference"),))),
    ),
    mistakes=(
        Mistake(
            "nothing_frozen",
            "This is ordinary patching: later heads and MLPs see the clean output too, and react. Only the direct contribution should reach the logits: freeze everything else at the corrupted run, or add the change "
            "where only the final norm reads it.",
            _with_hooks(lambda model, corrupted, clean, sender: [_send(clean, *sender)]),
        ),
        Mistake(
            "mlps_recomputed",
            "Later heads are frozen, the MLPs are not: they react to the clean output. (Wang et al. 2022 do so. Here MLPs stay frozen too, which leaves the direct contribution alone.)",
            _with_hooks(
                lambda model, corrupted, clean, sender: [*_frozen(model, corrupted, ("z",)), _send(clean, *sender)]
            ),
        ),
        Mistake(
            "heads_recomputed",
            "The MLPs are frozen, later heads are not: they react to the clean output. Freeze both.",
            _with_hooks(
                lambda model, corrupted, clean, sender: [*_frozen(model, corrupted, ("mlp",)), _send(clean, *sender)]
            ),
        ),
        Mistake(
            "nothing_sent",
            "This is the corrupted run as it was: the sender's clean output does not arrive. If you freeze all heads with hooks, the sender's has to come after the one that freezes its layer, or to be left out of it.",
            _with_hooks(lambda model, corrupted, clean, sender: []),
        ),
        Mistake(
            "clean_and_corrupted_swapped",
            "Clean and corrupted caches are swapped, or the difference is taken the wrong way around: what you add moves *away* from clean. Add clean − corrupted.",
            _change_at_end(
                lambda model, corrupted, clean, s: _written(model, corrupted, *s) - _written(model, clean, *s)
            ),
        ),
        Mistake(
            "clean_added",
            "You added the sender's clean output on top of its corrupted one, which is already in the residual stream. Add the difference.",
            _change_at_end(lambda model, corrupted, clean, s: _written(model, clean, *s)),
        ),
        Mistake(
            "whole_layer_sent",
            "All heads of the sender's layer come from the clean run. Only one is asked for.",
            _with_hooks(
                lambda model, corrupted, clean, sender: [
                    *_frozen(model, corrupted, ("z", "mlp")),
                    _send(clean, sender[0], slice(None)),
                ]
            ),
        ),
        Mistake(
            "norm_frozen",
            "You froze the final norm at its corrupted scale. For direct attribution that is right; here the norm is recomputed, since it too reads the final residual stream.",
            _norm_frozen,
        ),
        Mistake(
            "whole_clean_run",
            "This is the clean run: the whole final residual stream was exchanged. Only what the sender wrote should be.",
            _with_hooks(
                lambda model, corrupted, clean, sender: [
                    (
                        f"blocks.{model.cfg.n_layers - 1}.hook_resid_post",
                        lambda resid, hook, kept=clean[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]: (
                            kept.clone()
                        ),
                    )
                ]
            ),
        ),
        Mistake(
            "head_and_layer_swapped",
            "Layer and head are swapped. `sender` is (layer, head).",
            _wrong_direction,
        ),
        Mistake(
            "difference_from_corrupted",
            "You subtracted the corrupted metric. The metric itself is asked for: the caller normalises.",
            _less_corrupted,
        ),
        Mistake(
            "hooks_left",
            "Your hooks are still on the model after the call, so that every later forward pass is patched as well. `model.run_with_hooks(...)` and `with model.hooks(...)` remove them.",
            _hooks_stay,
            left_hooks,
        ),
    ),
    hints=(
        "Two ways. Either freeze: hooks that put the corrupted z and MLP output into every layer, and the clean z into the sender. Or add: the residual stream is a sum, so change that one summand at its end.",
        "Adding: the sender writes z[:, :, head] @ W_O[head]. The change is (clean z − corrupted z) @ W_O[head], and it belongs to `hook_resid_post` of the last layer.",
        "`change = (clean_cache[name] - corrupted_cache[name])[:, :, head] @ model.blocks[layer].attn.W_O[head]`; run the corrupted tokens with a hook that returns `resid + change`.",
    ),
    reveal="The final residual stream is a sum, and the sender's output is one summand. Exchange that summand where only the final norm and the unembedding read it, and no later head or MLP notices. A path to another head goes the same way, with "
    "that head's query in the place of the logits.",
)


# ---------------------------------------------------------------------------------------------------------------------
# path_patch_to_query


def _query(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_q"


def _put(name: str, values: Tensor, heads: int | slice) -> tuple[str, Callable]:
    """A hook that takes these heads from `values`."""

    def hook(x: Tensor, hook: object) -> Tensor:
        x = x.clone()
        x[:, :, heads] = values[:, :, heads]
        return x

    return name, hook


def _path_to_query(model, tokens: Tensor, corrupted_cache, clean_cache, sender, receiver, metric: _Metric) -> float:
    """Oracle: the receiver's query from a run with all heads and MLPs frozen but the sender; then a run with that query."""
    hooks = [*_frozen(model, corrupted_cache, ("z", "mlp")), _send(clean_cache, *sender)]
    name = _query(receiver[0])
    values = record_bare(model, tokens, [name], hooks)[name]
    return _metric_with(model, tokens, [_put(name, values, receiver[1])], metric)


def _to_query(
    frozen: tuple[str, ...] = ("z", "mlp"),
    part: str = "hook_q",
    whole_layer: bool = False,
    stays: str = "",
    swapped: bool = False,
) -> Callable[..., float]:
    """A path patch that goes another way: stays is "sender" or "frozen" if those hooks are there in the second run too."""

    def path_patch(model, tokens: Tensor, corrupted_cache, clean_cache, sender, receiver, metric: _Metric) -> float:
        sent = _send(clean_cache, *(receiver if swapped else sender))
        layer, head = sender if swapped else receiver
        name = f"blocks.{layer}.attn.{part}"
        freeze = _frozen(model, corrupted_cache, frozen)
        values = record_bare(model, tokens, [name], [*freeze, sent])[name]
        group = model.cfg.n_heads // values.shape[2]
        second = [_put(name, values, slice(None) if whole_layer else head // group)]
        if stays == "sender":
            second.append(sent)
        if stays == "frozen":
            own = f"blocks.{layer}.attn.hook_z"
            second += [pair for pair in _frozen(model, corrupted_cache, ("z", "mlp")) if pair[0] != own]
        return _metric_with(model, tokens, second, metric)

    return path_patch


def _clean_query(model, tokens: Tensor, corrupted_cache, clean_cache, sender, receiver, metric: _Metric) -> float:
    name = _query(receiver[0])
    return _metric_with(model, tokens, [_put(name, clean_cache[name], receiver[1])], metric)


def _query_hooks_stay(model, tokens: Tensor, corrupted_cache, clean_cache, sender, receiver, metric: _Metric) -> float:
    hooks = [*_frozen(model, corrupted_cache, ("z", "mlp")), _send(clean_cache, *sender)]
    name = _query(receiver[0])
    model.add_hook(*_put(name, record_bare(model, tokens, [name], hooks)[name], receiver[1]))
    with torch.no_grad():
        return metric(model(tokens))


def _query_cases(
    runs: tuple[tuple[int, int, tuple[int, int], tuple[int, int], str], ...],
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, pos, sender, receiver, kind in runs:
            where = f"from {sender[0]}.{sender[1]} to the query of {receiver[0]}.{receiver[1]}"
            heads = (sender, receiver)
            cases.append(_path_case(draw, _DEEPER, batch, pos, heads, kind, where, rtol=1e-4, atol=1e-6))
        others = [_with_neighbor(cases[0], i, _DEEPER, name) for i, name in ((4, "sender"), (5, "receiver"))]
        return [*cases, *others]

    return cases


_DEEPER: dict[str, Any] = {**GROUPED, "n_layers": 4}

PATH_PATCH_TO_QUERY = Exercise(
    id="activation_patching.path_patch_to_query",
    task="The metric of the corrupted run when the query of one head, the receiver, is what it would be if only the sender's direct contribution to it came from the clean run. Queries at every position; the sender's layer is "
    "below the receiver's; other heads of the receiver's layer keep their queries; everything after the receiver reacts. Leave no hook behind and change no argument.",
    minutes=14,
    difficulty=3,
    fixed={
        "tokens": "the caches belong to them",
        "tokens[1]": "the metric reads a position",
        "corrupted_cache": "belongs to the tokens",
        "clean_cache": "belongs to the tokens",
        "model": "the caches belong to it",
        "result<=1": "small models have small effects",
    },
    oracle=_path_to_query,
    parts=(
        Part(
            "one layer or more between sender and receiver",
            2,
            _query_cases(((3, 6, (0, 1), (2, 2), "logit_difference"), (2, 5, (0, 3), (2, 0), "probability"))),
        ),
        Part(
            "neighboring layers; a receiver in the last layer",
            2,
            _query_cases(((3, 5, (1, 2), (2, 3), "logit_difference"), (2, 6, (1, 0), (3, 1), "logit_difference"))),
        ),
    ),
    mistakes=(
        Mistake(
            "nothing_frozen",
            "While you computed the query, heads and MLPs between sender and receiver reacted to the clean output. The direct path is asked for: freeze every other head and every MLP at the corrupted run in that pass.",
            _to_query(frozen=()),
        ),
        Mistake(
            "mlps_not_frozen",
            "Heads were frozen while you computed the query, but MLPs were not, so they passed the change on. Freeze `hook_mlp_out` as well. (Wang et al. let MLPs react; here they may not.)",
            _to_query(frozen=("z",)),
        ),
        Mistake(
            "heads_not_frozen",
            "MLPs were frozen while you computed the query, but other heads were not. Freeze their z at the corrupted run as well.",
            _to_query(frozen=("mlp",)),
        ),
        Mistake(
            "sender_stays_patched",
            "In the second run the sender was still patched, so that all its other paths count too. There, only the receiver's query should be different.",
            _to_query(stays="sender"),
        ),
        Mistake(
            "frozen_to_the_end",
            "In the second run everything but the receiver was still frozen: you measured what the receiver writes straight to the logits. Once it has its new query, later heads and MLPs may react.",
            _to_query(stays="frozen"),
        ),
        Mistake(
            "whole_layer",
            "You replaced the queries of all heads of the receiver's layer. Only the receiver's own: `q[:, :, head]`.",
            _to_query(whole_layer=True),
        ),
        Mistake(
            "key_for_query",
            "You replaced the key. It decides how the receiver's group is found at a position; what the receiver looks *for* is its query, `hook_q`.",
            _to_query(part="hook_k"),
        ),
        Mistake(
            "value_for_query",
            "You replaced the value. It decides what is carried; where the receiver looks is decided by its query, `hook_q`.",
            _to_query(part="hook_v"),
        ),
        Mistake(
            "whole_clean_query",
            "This is the receiver's clean query, whoever changed it. Only the sender's contribution should come from the clean run.",
            _clean_query,
        ),
        Mistake(
            "difference_from_corrupted",
            "You subtracted the corrupted metric. The metric itself is asked for: the caller normalizes.",
            lambda model, tokens, corrupted, clean, sender, receiver, metric: (
                _path_to_query(model, tokens, corrupted, clean, sender, receiver, metric)
                - _metric_with(model, tokens, [], metric)
            ),
        ),
        Mistake(
            "hooks_left",
            "Your hook is still on the model after the call, so that every later forward pass is patched as well. `model.run_with_hooks(...)` and `with model.hooks(...)` remove it.",
            _query_hooks_stay,
            left_hooks,
        ),
    ),
    hints=(
        "Two passes. In the first you find out what the receiver's query would be; in the second you give it that query and let the rest of the model run as usual.",
        "First pass: the residual stream before the receiver's layer is a sum, so add the sender's change there, `(clean z − corrupted z) @ W_O[head]`, in a hook on `blocks.{layer}.hook_resid_pre`, and record `blocks.{layer}.attn.hook_q`.",
        "Second pass: run the corrupted tokens with one hook on `hook_q` of the receiver's layer that puts the recorded values into `q[:, :, head]`.",
    ),
    reveal="The query is linear in the normed residual stream, and the stream is a sum of what everyone before has written: exchange one summand, and compute the query. From there on the run is an ordinary one. The same with `hook_k` or `hook_v` "
    "follows a path into a key or a value, which several query heads share in this model.",
)
