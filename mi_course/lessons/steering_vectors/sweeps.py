"""A sweep over layers, in which every vector has controls of its own."""

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
    case,
    function_ref,
    left_hooks_by,
    model_ref,
)
from mi_course.interp.models import run_bare

_CONFIG: dict[str, Any] = {
    "n_layers": 4,
    "n_heads": 2,
    "d_model": 12,
    "d_head": 6,
    "d_mlp": 16,
    "d_vocab": 13,
    "n_ctx": 12,
    "positional_embedding_type": "rotary",
}

Metric = Callable[[Tensor], float]


def _measured(model: Any, tokens: Tensor, layers: list[int], push: Tensor, metric: Metric, start: int = 1) -> float:
    """The metric with `push` added after these layers from `start` on, position by position."""

    def hook(resid: Tensor, hook: Any) -> Tensor:
        out = resid.clone()
        for b in range(resid.shape[0]):
            for p in range(start, resid.shape[1]):
                out[b, p] = resid[b, p] + push
        return out

    return float(metric(run_bare(model, tokens, [(f"blocks.{i}.hook_resid_post", hook) for i in layers])))


def _sweep(
    model: Any,
    tokens: Tensor,
    layers: list[int],
    vectors: Tensor,
    controls: Tensor,
    coefficient: float,
    metric: Metric,
    *,
    where: Callable[[int, int, Any], list[int]] = lambda i, layer, model: [layer],
    start: int = 1,
    base: bool = True,
) -> Tensor:
    """Oracle: one cell of the table after the other. where(row, layer, model): the layers that are steered."""
    unsteered = float(metric(run_bare(model, tokens))) if base else 0.0
    table = torch.zeros(len(layers), 1 + controls.shape[1])
    for i, layer in enumerate(layers):
        for j in range(1 + controls.shape[1]):
            push = coefficient * (vectors[i] if j == 0 else controls[i, j - 1])
            at = where(i, layer, model)
            table[i, j] = _measured(model, tokens, at, push, metric, start) - unsteered
    return table


def _layer_sweep(model, tokens, layers, vectors, controls, coefficient, metric):  # type: ignore[no-untyped-def]
    """Oracle."""
    return _sweep(model, tokens, layers, vectors, controls, coefficient, metric)


def _variant(change: Callable[..., tuple] | None = None, **options: Any) -> Callable[..., Tensor]:
    """A wrong sweep: with other options, or with vectors, controls and coefficient changed."""

    def sweep(model, tokens, layers, vectors, controls, coefficient, metric):  # type: ignore[no-untyped-def]
        if change is not None:
            vectors, controls, coefficient = change(vectors, controls, coefficient)
        return _sweep(model, tokens, layers, vectors, controls, coefficient, metric, **options)

    return sweep


def _last_column(*args: Any) -> Tensor:
    return _layer_sweep(*args).roll(-1, 1)


def _turned(*args: Any) -> Tensor:
    return _layer_sweep(*args).T


def _relative(model, tokens, *rest):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        base = float(rest[-1](model(tokens)))
    return _layer_sweep(model, tokens, *rest) / base


def _mean_of_controls_off(*args: Any) -> Tensor:
    table = _layer_sweep(*args)
    return table - table[:, 1:].mean(1, keepdim=True)


def _stays(model, tokens, layers, vectors, controls, coefficient, metric):  # type: ignore[no-untyped-def]
    """Right, with its last hook left on the model."""
    out = _layer_sweep(model, tokens, layers, vectors, controls, coefficient, metric)
    model.add_hook(f"blocks.{layers[-1]}.hook_resid_post", lambda resid, hook: resid)
    with torch.no_grad():
        model(tokens)
    return out


def _stays_after_error(model, tokens, layers, *rest):  # type: ignore[no-untyped-def]
    model.add_hook(f"blocks.{layers[-1]}.hook_resid_post", lambda resid, hook: resid)
    with torch.no_grad():
        model(tokens)
    model.reset_hooks()
    return _layer_sweep(model, tokens, layers, *rest)


def _args(draw: RandomInputs, batch: int, pos: int, layers: list[int], n: int, kind: str = "") -> tuple:
    """kind: "zero" for a coefficient of 0, "large" for a metric with large values, "largest" for one that is no mean."""
    d, vocab = _CONFIG["d_model"], _CONFIG["d_vocab"]
    coefficient = draw.number(0.4, 0.7) if draw.integer(0, 2) else -draw.number(1.4, 1.8)
    return (
        model_ref(_CONFIG, draw.seed()),
        draw.integers(0, vocab, batch, pos),
        layers,
        draw.normal(len(layers), d),
        draw.normal(len(layers), n, d),
        0.0 if kind == "zero" else coefficient,
        function_ref(
            "largest" if kind == "largest" else "projection",
            weights=draw.normal(vocab, std=60.0 if kind == "large" else 1.0),
        ),
    )


def _cases(*shapes: tuple[int, int, list[int], int, str]) -> Callable[[RandomInputs, str], list[Case]]:
    """Shapes: prompts, tokens, layers, controls for each, kind."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                *_args(draw, batch, pos, layers, n, kind),
                watch=("model", "arguments"),
                about=f"{batch} prompts of {pos} tokens, layers {layers}, {n} controls for each{_KINDS[kind]}",
                rtol=1e-3,
                atol=5e-3 if kind == "large" else 1e-4,
            )
            for batch, pos, layers, n, kind in shapes
        ]

    return cases


_KINDS = {
    "": "",
    "zero": ", a coefficient of 0",
    "large": ", a metric with large values",
    "largest": ", a metric that is no mean over prompts",
}


def _error_cases(draw: RandomInputs, size: str) -> list[Case]:
    args = _args(draw, 2, 4, [2, 1], 1)
    calls = (
        Call(args, driver="raising", watch=("model",)),
        Call(args, driver="raising", options={"after": 1}, watch=("model",)),
        Call(args, watch=("model",)),
    )
    about = "an error in the middle of a forward pass, then an ordinary call"
    return [Case(calls=calls, about=about, rtol=1e-3, atol=1e-4)]


LAYER_SWEEP = Exercise(
    id="steering_vectors.layer_sweep",
    task="At each layer what its vector adds to a metric, and beside it what each of its controls adds.",
    minutes=8,
    difficulty=2,
    oracle=_layer_sweep,
    fixed={
        "layers": "one for each vector; varied by hand",
        "vectors[0]": "one for each layer",
        "vectors[1]": "as wide as the model",
        "controls[0]": "some for each layer",
        "controls[2]": "as wide as the model",
    },
    parts=(
        Part(
            "several layers in any order, several controls",
            3,
            _cases((3, 5, [2, 0, 3], 2, ""), (2, 4, [1], 3, "large"), (3, 4, [0, 2], 1, "largest")),
        ),
        Part(
            "one prompt, one control, or none; a coefficient of 0",
            1,
            _cases((1, 5, [3, 0, 2], 1, ""), (3, 4, [2, 1], 0, ""), (2, 3, [1, 2], 2, "zero")),
        ),
        Part("no hook stays behind, even after an error", 1, _error_cases),
    ),
    mistakes=(
        Mistake(
            "base_not_subtracted",
            "These are values of the metric. What each direction *adds* is asked for: subtract the metric of the unsteered model.",
            _variant(base=False),
        ),
        Mistake(
            "row_number_as_layer",
            "Row i is steered after layer i. It belongs to layer `layers[i]`, and the list may hold any layers, in any order.",
            _variant(where=lambda i, layer, model: [i]),
        ),
        Mistake(
            "one_layer_late",
            "Every direction is added one layer late. `blocks.{layer}.hook_resid_post` is the stream after that layer.",
            _variant(where=lambda i, layer, model: [min(layer + 1, model.cfg.n_layers - 1)]),
        ),
        Mistake(
            "all_later_layers",
            "The direction is added after its layer *and after all later ones*. Once is enough: the stream carries it on.",
            _variant(where=lambda i, layer, model: [*range(layer, model.cfg.n_layers)]),
        ),
        Mistake(
            "earlier_hooks_stay",
            "Each row is steered after the layers of the rows before it, too: hooks of earlier rows are still on. Take them off after each run.",
            lambda model, tokens, layers, vectors, controls, coefficient, metric: _sweep(
                model,
                tokens,
                layers,
                vectors,
                controls,
                coefficient,
                metric,
                where=lambda i, layer, model: layers[: i + 1],
            ),
        ),
        Mistake(
            "bos_steered",
            "Position 0 is steered, too. Leave BOS alone: from position 1 on.",
            _variant(start=0),
        ),
        Mistake(
            "one_token_late",
            "Steering begins at position 2. It begins at position 1.",
            _variant(start=2),
        ),
        Mistake(
            "coefficient_ignored",
            "The directions are added without the coefficient.",
            _variant(lambda v, k, c: (v, k, 1.0)),
        ),
        Mistake(
            "controls_without_coefficient",
            "The vectors come with the coefficient, the controls without. A control gets the same dose as what it controls.",
            _variant(lambda v, k, c: (v, k / c, c)),
        ),
        Mistake(
            "control_on_top",
            "Each control is added *together with* the vector. A control replaces it.",
            _variant(lambda v, k, c: (v, k + v[:, None], c)),
        ),
        Mistake(
            "first_layers_vector",
            "Every row uses the first vector. Each layer has its own, and so have its controls.",
            _variant(lambda v, k, c: (v[:1].expand_as(v), k[:1].expand_as(k), c)),
        ),
        Mistake(
            "vector_last",
            "The right numbers, but the vector's column stands last. It is column 0, its controls follow.",
            _last_column,
        ),
        Mistake(
            "turned",
            "Rows and columns are swapped: one row for each layer is asked for.",
            _turned,
        ),
        Mistake(
            "divided_by_base",
            "You divided by the unsteered metric. It may be 0 or negative; the difference is asked for.",
            _relative,
        ),
        Mistake(
            "controls_subtracted",
            "You subtracted the mean of the controls. Return them beside the vector: their *spread* is what the vector is held against.",
            _mean_of_controls_off,
            degenerate=True,
        ),
        Mistake(
            "hooks_left",
            "The table is right, but a hook is still on the model. `with model.hooks(fwd_hooks=[...]):` takes it off.",
            _stays,
            left_hooks_by("call"),
        ),
        Mistake(
            "hooks_left_after_error",
            "When the model raises an error, your hook stays on it. `with model.hooks(...)` takes it off in any case.",
            _stays_after_error,
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "Measure the unsteered model once. Then two loops: over layers, and over the directions of one layer, the vector first.",
        "`torch.cat([vectors[i][None], controls[i]])` holds the directions of one row. For each of them put a hook on `blocks.{layers[i]}.hook_resid_post`, run the model, and subtract the base from `metric(logits)`.",
        "Inside the loops: `with torch.no_grad(), model.hooks(fwd_hooks=[(name, hook)]): value = metric(model(tokens))`. The hook adds `coefficient * direction` to `resid[:, 1:]`.",
    ),
    reveal="Nothing but loops, and yet few published sweeps have the second column. A vector's effect at a layer says little by itself: the same length in any direction does something there, and at some layers it does more than at others. Held against controls of its own layer and length, it says whether this direction is special.",
)
