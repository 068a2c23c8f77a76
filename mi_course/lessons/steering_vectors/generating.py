"""Writing with a vector added: a loop of forward passes, each of them steered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, left_hooks_by, model_ref
from mi_course.interp.models import run_bare

_CONFIG: dict[str, Any] = {
    "n_layers": 3,
    "n_heads": 2,
    "d_model": 12,
    "d_head": 6,
    "d_mlp": 20,
    "d_vocab": 40,
    "n_ctx": 24,
    "positional_embedding_type": "rotary",
}

Hook = Callable[[Tensor, Any], Tensor]


def _added(resid: Tensor, hook: Any, push: Tensor, start: int, stop: int | None = None) -> Tensor:
    """The stream with `push` added at positions start ≤ p < stop, position by position."""
    out = resid.clone()
    for p in range(start, resid.shape[1] if stop is None else min(stop, resid.shape[1])):
        out[:, p] = resid[:, p] + push
    return out


def _write(
    model: Any, tokens: Tensor, n_new: int, layer: int, hook_of: Callable[[int], Hook], append: bool = True
) -> Tensor:
    """Step by step. hook_of(step): the hook of this step's forward pass."""
    rows: list[list[int]] = [[] for _ in tokens]
    for step in range(n_new):
        read = [[*prompt, *(new if append else [])] for prompt, new in zip(tokens.tolist(), rows, strict=True)]
        logits = run_bare(model, torch.tensor(read), [(f"blocks.{layer}.hook_resid_post", hook_of(step))])
        for new, scores in zip(rows, logits[:, -1].tolist(), strict=True):
            new.append(scores.index(max(scores)))
    return torch.tensor(rows, dtype=torch.long).view(len(tokens), n_new)


def _steered_generation(
    model: Any, tokens: Tensor, layer: int, vector: Tensor, coefficient: float, n_new: int
) -> Tensor:
    """Oracle: a position at a time."""
    hook = partial(_added, push=coefficient * vector, start=1)
    return _write(model, tokens, n_new, layer, lambda step: hook)


def _variant(
    start: Callable[[int, int], int] = lambda prompt, step: 1,
    stop: Callable[[int, int], int | None] = lambda prompt, step: None,
    factor: Callable[[float, int], float] = lambda c, step: c,
    append: bool = True,
    layer_shift: int = 0,
) -> Callable[..., Tensor]:
    """A wrong answer: other positions (from the prompt's length and the step), another coefficient, another layer."""

    def generate(model: Any, tokens: Tensor, layer: int, vector: Tensor, coefficient: float, n_new: int) -> Tensor:
        length = tokens.shape[1]

        def hook_of(step: int) -> Hook:
            return partial(
                _added,
                push=factor(coefficient, step) * vector,
                start=max(start(length, step), 0),
                stop=stop(length, step),
            )

        return _write(model, tokens, n_new, max(layer + layer_shift, 0), hook_of, append)

    return generate


def _prompt_too(model: Any, tokens: Tensor, *args: Any) -> Tensor:
    return torch.cat([tokens, _steered_generation(model, tokens, *args)], dim=1)


def _least_likely(model: Any, tokens: Tensor, layer: int, vector: Tensor, coefficient: float, n_new: int) -> Tensor:
    """The token is taken from the logits after the first position, not the last."""
    out = tokens
    hook = partial(_added, push=coefficient * vector, start=1)
    with torch.no_grad(), model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", hook)]):
        for _ in range(n_new):
            out = torch.cat([out, model(out)[:, 0].argmax(-1)[:, None]], dim=1)
    return out[:, tokens.shape[1] :]


@contextmanager
def _left_on(model: Any, layer: int, hook: Hook) -> Any:
    model.add_hook(f"blocks.{layer}.hook_resid_post", hook)
    yield


def _hooks_stay(model: Any, tokens: Tensor, layer: int, vector: Tensor, coefficient: float, n_new: int) -> Tensor:
    out = tokens
    hook = partial(_added, push=coefficient * vector, start=1)
    with torch.no_grad(), _left_on(model, layer, hook):
        for _ in range(n_new):
            out = torch.cat([out, model(out)[:, -1].argmax(-1)[:, None]], dim=1)
    return out[:, tokens.shape[1] :]


def _hooks_stay_after_error(model: Any, *args: Any) -> Tensor:
    out = _hooks_stay(model, *args)
    model.reset_hooks()
    return out


def _cases(*shapes: tuple[int, int, int, str]) -> Callable[[RandomInputs, str], list[Case]]:
    """Shapes: prompts, their length, tokens to write, and "zero" for a coefficient of 0, "signs" for entries of ±1."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for i, (batch, pos, n_new, kind) in enumerate(shapes):
            layer = draw.integer(1 if i == 0 else 0, _CONFIG["n_layers"])
            coefficient = draw.number(1.4, 2.2) if draw.integer(0, 2) else -draw.number(1.4, 2.2)
            coefficient *= kind != "zero"
            vector = draw.normal(_CONFIG["d_model"])
            args = (
                model_ref(_CONFIG, draw.seed()),
                draw.integers(0, _CONFIG["d_vocab"], batch, pos),
                layer,
                vector.sign() if kind == "signs" else vector,
                coefficient,
                n_new,
            )
            about = f"{batch} prompts of {pos} tokens, {n_new} to write, layer {layer}, coefficient {coefficient:.2f}"
            cases.append(case(*args, watch=("model", "arguments"), about=about))
        return cases

    return cases


def _error_cases(draw: RandomInputs, size: str) -> list[Case]:
    args = (
        model_ref(_CONFIG, draw.seed()),
        draw.integers(0, _CONFIG["d_vocab"], 4, 5),
        1,
        draw.normal(_CONFIG["d_model"]),
        1.8,
        4,
    )
    calls = (
        Call(args, driver="raising", watch=("model",)),
        Call(args, driver="raising", options={"after": 1}, watch=("model",)),
        Call(args, watch=("model",)),
    )
    return [Case(calls=calls, about="an error in the middle of a forward pass, then an ordinary call")]


STEERED_GENERATION = Exercise(
    id="steering_vectors.steered_generation",
    task="The tokens that the model writes, the likeliest one at each step, while a vector is added after a layer.",
    minutes=8,
    difficulty=2,
    oracle=_steered_generation,
    fixed={"vector[0]": "as wide as the model"},
    parts=(
        Part(
            "several prompts and one, several tokens and none", 3, _cases((6, 5, 6, ""), (1, 3, 7, ""), (2, 6, 0, ""))
        ),
        Part(
            "prompts of one token, one token to write, a coefficient of 0",
            1,
            _cases((3, 1, 5, ""), (1, 1, 6, "signs"), (4, 3, 1, ""), (3, 4, 5, "zero")),
        ),
        Part("no hook stays behind, even after an error", 1, _error_cases),
    ),
    mistakes=(
        Mistake(
            "prompt_steered_only",
            "Only the prompt is steered: the tokens that the model has written itself are read without the vector. Steer every position but 0 in *every* forward pass.",
            _variant(stop=lambda prompt, step: prompt),
        ),
        Mistake(
            "new_tokens_steered_only",
            "Only what the model has written itself is steered, so the first new token comes from an unsteered prompt. Steer the prompt, too, but for position 0.",
            _variant(start=lambda prompt, step: prompt),
        ),
        Mistake(
            "last_position_only",
            "Only the last position of each pass is steered. All of them are asked for, from position 1 on: later attention reads the earlier ones.",
            _variant(start=lambda prompt, step: prompt + step - 1),
        ),
        Mistake(
            "bos_steered",
            "Position 0 is steered, too. BOS is there, an attention sink: leave it alone.",
            _variant(start=lambda prompt, step: 0),
        ),
        Mistake(
            "hooks_pile_up",
            "The vector grows with every token: at the second step it is added twice, at the third three times. A hook was put on the model in each step and none was taken off. Put it on once, outside the loop.",
            _variant(factor=lambda c, step: c * (step + 1)),
        ),
        Mistake(
            "only_the_first_step",
            "Only the first forward pass is steered. The vector has to be added in each.",
            _variant(factor=lambda c, step: c if step == 0 else 0.0),
        ),
        Mistake(
            "coefficient_ignored",
            "The vector is added without its coefficient.",
            _variant(factor=lambda c, step: 1.0),
        ),
        Mistake(
            "unsteered",
            "This is what the model writes without the vector. Does your hook return the changed stream, and is it at `blocks.{layer}.hook_resid_post`?",
            _variant(factor=lambda c, step: 0.0),
        ),
        Mistake(
            "subtracted",
            "The vector is subtracted.",
            _variant(factor=lambda c, step: -c),
        ),
        Mistake(
            "one_layer_early",
            "The vector is added one layer too early. `hook_resid_post` of block `layer` is the stream *after* that layer.",
            _variant(layer_shift=-1),
        ),
        Mistake(
            "not_appended",
            "Every step reads the prompt alone, so the same token comes out again and again. Append each new token before the next step.",
            _variant(append=False),
        ),
        Mistake(
            "first_position_read",
            "The next token was taken from the logits after position 0. Those after the *last* position predict it: `logits[:, -1]`.",
            _least_likely,
        ),
        Mistake(
            "prompt_included",
            "Right, but the prompt stands in front. Return only the new tokens, shape (batch, n_new).",
            _prompt_too,
        ),
        Mistake(
            "hooks_left",
            "The tokens are right, but a hook is still on the model, and steers whatever is run next. `with model.hooks(fwd_hooks=[...]):` takes it off.",
            _hooks_stay,
            left_hooks_by("call"),
        ),
        Mistake(
            "hooks_left_after_error",
            "When the model raises an error, your hook stays on it. Take it off in any case: `with model.hooks(...)` does, and so does `try … finally`.",
            _hooks_stay_after_error,
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "A loop of `n_new` steps. In each: run the model on all tokens so far, take the `argmax` of the logits after the last position, and append it.",
        "The hook adds `coefficient * vector` to `resid[:, 1:]`. Around the loop: `with torch.no_grad(), model.hooks(fwd_hooks=[(name, hook)]):`.",
        "`tokens = torch.cat([tokens, new[:, None]], dim=1)` appends; remember the prompt's length first, and return `tokens[:, length:]`.",
    ),
    reveal="Everything is read again in every step, so position 0 is BOS in each pass and the hook needs no memory. Faster code keeps the keys and values of earlier tokens and passes only the new token: that token is then "
    "position 0 of the tensor your hook sees, and `resid[:, 1:]` is empty. The same hook steers the prompt and nothing else, and raises no error. The library's `generate` counts positions through the cache.",
)
