"""What a head tells the queries, keys or values of later layers: composition, tested by exchanging activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, left_hooks_by, model_ref
from mi_course.interp.models import record_bare, run_bare
from mi_course.lessons.induction_heads.circuits import (
    _ATTENTION_ONLY,
    _GROUPED,
    _loss_without_heads,
    _nll,
    _with,
)

Head = tuple[int, int]


def _silenced(model, head: Head) -> Callable[[], None]:
    """Zero the head's rows of W_O, so that it writes nothing. Returns what puts them back."""
    layer, number = head
    weight = model.blocks[layer].attn.o.weight  # [d_model, n_heads · d_head]
    own = slice(number * model.cfg.d_head, (number + 1) * model.cfg.d_head)
    kept = weight[:, own].clone()
    weight[:, own] = 0.0

    def put_back() -> None:
        with torch.no_grad():
            weight[:, own] = kept

    return put_back


def _kept_without(model, tokens: Tensor, source: Head, names: list[str]) -> dict[str, Tensor]:
    """These activations in a run without `source`."""
    with torch.no_grad():
        put_back = _silenced(model, source)
    try:
        return record_bare(model, tokens, names)
    finally:
        put_back()


def _exchange(
    model,
    tokens: Tensor,
    names: list[str],
    given: dict[str, Tensor],
    put: Callable[[Tensor, Tensor], Tensor] = lambda own, other: other,
) -> Tensor:
    hooks = [(name, lambda x, hook, name=name: put(x, given[name])) for name in names]  # hook.name is another alias
    return _nll(run_bare(model, tokens, hooks), tokens)


def _names(part: str, layers: list[int]) -> list[str]:
    return [f"blocks.{layer}.attn.hook_{part}" for layer in layers]


def _loss_without_path(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    """Oracle: the source is silenced by its weights."""
    names = _names(part, layers)
    return _exchange(model, tokens, names, _kept_without(model, tokens, source, names))


def _with_put(put: Callable[[Tensor, Tensor, Head], Tensor]) -> Callable[..., Tensor]:
    """A loss_without_path that joins its own and the given activation by put(own, given, source)."""

    def loss_without_path(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
        names = _names(part, layers)
        given = _kept_without(model, tokens, source, names)
        return _exchange(model, tokens, names, given, lambda own, other: put(own, other, source))

    return loss_without_path


def _clean_parts_in_ablated_run(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    given = record_bare(model, tokens, _names(part, layers))
    with torch.no_grad():
        put_back = _silenced(model, source)
    try:
        return _exchange(model, tokens, _names(part, layers), given)
    finally:
        put_back()


def _silent_in_both(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    return _loss_without_heads(model, tokens, [source])


def _always(part: str) -> Callable[..., Tensor]:
    return lambda model, tokens, source, ignored, layers: _loss_without_path(model, tokens, source, part, layers)


def _all_parts(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    names = [name for each in "qkv" for name in _names(each, layers)]
    return _exchange(model, tokens, names, _kept_without(model, tokens, source, names))


def _unshifted(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    given = _kept_without(model, tokens, source, _names(part, layers))
    logits = run_bare(model, tokens, [(n, lambda x, hook, n=n: given[n]) for n in _names(part, layers)])
    return -logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)[:, :-1]


def _hooks_stay(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    given = _kept_without(model, tokens, source, _names(part, layers))
    for name in _names(part, layers):
        model.add_hook(name, lambda x, hook, name=name: given[name])
    with torch.no_grad():
        return _nll(model(tokens), tokens)


def _hooks_stay_after_error(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    """Adds hooks by hand, and takes them off again if all goes well."""
    kept = {}

    def keep(x: Tensor, hook, name: str) -> None:
        kept[name] = x.clone()

    silence = (slice(None), slice(None), source[1])
    model.add_hook(f"blocks.{source[0]}.attn.hook_z", lambda z, hook: _with(z, silence, 0.0))
    for name in _names(part, layers):
        model.add_hook(name, partial(keep, name=name))
    with torch.no_grad():
        model(tokens)
    model.reset_hooks()
    loss = _exchange(model, tokens, _names(part, layers), kept)
    model.reset_hooks()
    return loss


def _cases(config: dict, paths: list[tuple[int, Head, str, list[int]]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                model_ref(config, draw.seed()),
                draw.integers(0, config["d_vocab"], batch, 9),
                source,
                part,
                layers,
                watch=("model", "arguments"),
                about=f"batch {batch}, the {part} of layers {layers} without {source[0]}.{source[1]}",
                rtol=1e-3,
                atol=1e-4,
            )
            for batch, source, part, layers in paths
        ]

    return cases


def _same_model_cases(draw: RandomInputs, size: str) -> list[Case]:
    """Calls that differ in one respect alone, the first on two tokens."""
    model, tokens = model_ref(_GROUPED, draw.seed()), draw.integers(0, 17, 3, 9)
    paths = [((0, 1), "k"), ((0, 1), "v"), ((0, 1), "q"), ((0, 2), "q")]
    calls = (
        Call((model, draw.integers(0, 17, 3, 2), (0, 1), "k", [1]), watch=("model", "arguments")),
        *(Call((model, tokens, source, part, [1]), watch=("model", "arguments")) for source, part in paths),
    )
    about = "two tokens; then nine, with keys, values and queries without 0.1, and queries without 0.2"
    return [Case(calls=calls, about=about, rtol=1e-3, atol=1e-4)]


def _interrupted_cases(draw: RandomInputs, size: str) -> list[Case]:
    model, tokens = model_ref(_GROUPED, draw.seed()), draw.integers(0, 17, 2, 7)
    path = (model, tokens, (0, 1), "k", [1, 2])
    calls = (
        Call(path, driver="raising", watch=("model",)),
        Call(path, driver="raising", options={"after": 1}, watch=("model",)),
        Call(path, watch=("model",)),
        Call((model, tokens, (0, 1), "k", []), watch=("model",)),
    )
    about = "an error in the middle of a forward pass, then an ordinary call, then no layers"
    return [Case(calls=calls, about=about, rtol=1e-3, atol=1e-4)]


LOSS_WITHOUT_PATH = Exercise(
    id="induction_heads.loss_without_path",
    fixed={
        "result>=0": "minus a log-probability",
        "result<=1": "random models know little, and nothing very wrong",
    },
    task="The loss per token when the queries, keys or values of some layers are those of a run without the source head, "
    "and all else is computed as usual.",
    minutes=12,
    difficulty=3,
    oracle=_loss_without_path,
    parts=(
        Part(
            "grouped key/value heads and MLPs",
            2,
            _cases(
                _GROUPED,
                [(2, (0, 1), "k", [1, 2]), (3, (0, 3), "q", [1, 2]), (1, (1, 0), "v", [2]), (2, (0, 2), "v", [2, 1])],
            ),
        ),
        Part(
            "an attention-only model; one model several times",
            1,
            lambda draw, size: [
                *_cases(_ATTENTION_ONLY, [(2, (0, 2), "k", [1]), (3, (0, 0), "q", [1])])(draw, size),
                *_same_model_cases(draw, size),
            ],
        ),
        Part("no hook stays, also after an error; no layers", 1, _interrupted_cases),
    ),
    mistakes=(
        Mistake(
            "silent_in_both_runs",
            "This is the loss without the source head altogether. In the second run the head is there again; only the activations that you kept "
            "from the first run replace the model's own.",
            _silent_in_both,
        ),
        Mistake(
            "nothing_exchanged",
            "This is the loss of the whole model: no exchange reaches it. A hook has to *return* the kept activation, at all positions, and the "
            "source has to be silent, at all positions, in the run that it is kept from.",
            lambda model, tokens, source, part, layers: _loss_without_heads(model, tokens, []),
        ),
        Mistake(
            "runs_swapped",
            "The two runs are swapped: you put activations of the clean run into the run without the source. Keep them from the run without it, "
            "and put them into the clean one.",
            _clean_parts_in_ablated_run,
        ),
        Mistake(
            "always_keys",
            "You always exchange the keys. `part` says which: the hook point is `blocks.{layer}.attn.hook_{part}`.",
            _always("k"),
        ),
        Mistake(
            "always_queries",
            "You always exchange the queries. `part` says which: the hook point is `blocks.{layer}.attn.hook_{part}`.",
            _always("q"),
        ),
        Mistake(
            "all_parts",
            "You exchanged queries, keys and values together. One `part` at a time shows through which of them the head is read.",
            _all_parts,
        ),
        Mistake(
            "first_layer_only",
            "Only the first of the layers was exchanged. Keep and exchange the activation of each.",
            lambda model, tokens, source, part, layers: _loss_without_path(model, tokens, source, part, layers[:1]),
        ),
        Mistake(
            "last_layer_only",
            "Only the last of the layers was exchanged. If one variable keeps the activation, each layer overwrites it: keep them by "
            "`hook.name` or `hook.layer()`.",
            lambda model, tokens, source, part, layers: _loss_without_path(model, tokens, source, part, layers[-1:]),
        ),
        Mistake(
            "source_swapped",
            "Layer and head of the source are swapped. It is a pair (layer, head).",
            lambda model, tokens, source, part, layers: _loss_without_path(model, tokens, source[::-1], part, layers),
        ),
        Mistake(
            "sources_layer_silent",
            "The whole layer of the source was silent in the first run. Only its head is: `z[:, :, head] = 0`.",
            lambda model, tokens, source, part, layers: _layer_silent(model, tokens, source, part, layers),
        ),
        Mistake(
            "first_prompt_only",
            "The activations were exchanged in the first sequence of the batch only.",
            _with_put(lambda own, other, source: _with(own, 0, other[0])),
        ),
        Mistake(
            "first_head_only",
            "The activations of only one head were exchanged. The whole activation of the layer is: every head's.",
            _with_put(lambda own, other, source: _with(own, (slice(None), slice(None), 0), other[:, :, 0])),
        ),
        Mistake(
            "set_to_zero",
            "The activations were set to zero. They are replaced by those of the run without the source.",
            _with_put(lambda own, other, source: torch.zeros_like(own)),
        ),
        Mistake(
            "predicts_itself",
            "The exchange is right, but the loss compares each position with its own token. Logits at position p predict token p + 1: use "
            "`loss_per_token`.",
            _unshifted,
        ),
        Mistake(
            "averaged",
            "You returned a mean. The loss is asked for at each position of each row, [batch, pos−1].",
            lambda model, tokens, source, part, layers: _loss_without_path(model, tokens, source, part, layers).mean(),
        ),
        Mistake(
            "hooks_left",
            "Your hooks are still on the model after the call, so every later forward pass is changed as well. "
            "`model.run_with_hooks(...)` and `with model.hooks(...)` remove them.",
            _hooks_stay,
            left_hooks_by("call"),
        ),
        Mistake(
            "hooks_left_after_error",
            "When a forward pass fails halfway, your hooks stay on the model, and every later result is quietly wrong. "
            "`model.run_with_hooks(...)` and `with model.hooks(...)` remove them in that case too.",
            _hooks_stay_after_error,
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "Two runs. The first has the source silent, and a hook on `blocks.{layer}.attn.hook_{part}` of each layer that writes down what it sees. "
        "What does the second do with it?",
        "In the first run: `kept[hook.name] = x`, in a hook that returns nothing. In the second, without silencing anything, a hook at the same "
        "places returns `kept[hook.name]`.",
        "Both with `model.run_with_hooks(tokens, fwd_hooks=[(name, hook), ...])`, which removes the hooks again. The loss is that of the second run.",
    ),
    reveal="The run without the source says what these layers' queries, keys or values would be if the head had written nothing. Put into a run that is "
    "otherwise clean, they cut one way in which the head is read, and leave the others: its output still reaches the rest of the model. "
    "What they carry includes everything between the source and these layers that the missing head changed, so it is the whole effect on this "
    "part, not the direct one alone.",
)


def _layer_silent(model, tokens: Tensor, source: Head, part: str, layers: list[int]) -> Tensor:
    with torch.no_grad():
        undo = [_silenced(model, (source[0], head)) for head in range(model.cfg.n_heads)]
    try:
        given = record_bare(model, tokens, _names(part, layers))
    finally:
        for put_back in undo:
            put_back()
    return _exchange(model, tokens, _names(part, layers), given)
