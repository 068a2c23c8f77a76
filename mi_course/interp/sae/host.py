"""The models that activations come from, and how their places are named: one way to hook and run them all.

    a TransformerBridge      "blocks.14.hook_resid_post", a hook point; a number L means blocks.L.hook_resid_post
    any other torch module   "model.layers.14", what that module puts out; "model.layers.14.mlp@in", what goes into it;
                             a number L means the output of layer L of a Hugging Face model

Whatever comes after the last place is not computed: bridges get `stop_at_layer`, and others are left from its hook.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.prompts import read_prompts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from mi_course.interp.prompts import TokenBatch

    Tokens = Int[Tensor, "n pos"] | Sequence[Sequence[int]]
    Model = Any  # a TransformerBridge, or a torch module that takes token ids

INPUT = "@in"


class _Enough(Exception):
    """All that was wanted has been seen; the rest of the forward pass is not needed."""


@dataclass(frozen=True)
class HookSite:
    """The places whose activations are read, and the layer after which a bridge may stop."""

    names: tuple[str, ...]
    stop: int | None

    @property
    def hook(self) -> str:
        """The first place."""
        return self.names[0]

    @classmethod
    def of(cls, model: Model, *which: str | int) -> HookSite:
        """A number L means the residual stream after layer L. ValueError if the model lacks the place."""
        names = tuple(_name(model, place) for place in which)
        if not is_bridge(model):
            return cls(names, None)
        layers = [int(match[1]) for name in names if (match := re.match(r"blocks\.(\d+)\.", name))]
        last = max(layers) + 1 if len(layers) == len(names) else model.cfg.n_layers
        return cls(names, None if last >= model.cfg.n_layers else last)


def is_bridge(model: Model) -> bool:
    """Whether the model has TransformerLens's hook points."""
    return hasattr(model, "hook_dict")


def device_of(model: Model) -> torch.device:
    return next(model.parameters()).device


def read_tokens(model: Model, tokens: Tokens, mask: Bool[Tensor, "n pos"] | None = None) -> TokenBatch:
    """Token ids, padded on the right. Rows of ids may differ in length; of a tensor, `mask` is False at padding.

    ValueError, naming the row, for ids outside the vocabulary, rows beyond the context, an empty row, or padding that
    is not at the end.
    """
    if not is_bridge(model):
        cfg = SimpleNamespace(d_vocab=vocabulary(model), n_ctx=_context(model))
        model = SimpleNamespace(cfg=cfg, parameters=model.parameters, tokenizer=None)
    return read_prompts(model, tokens, mask, side="right")


def vocabulary(model: Model) -> int:
    """How many token ids there are."""
    return model.cfg.d_vocab if is_bridge(model) else model.get_input_embeddings().weight.shape[0]


def record(model: Model, site: HookSite, tokens: Int[Tensor, "batch pos"]) -> list[Float[Tensor, "batch pos d"]]:
    """The activations at each place of the site, no further than needed; without gradients."""
    recorded: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[Tensor], None]:
        def read(value: Tensor) -> None:
            recorded[name] = value.detach()
            if len(recorded) == len(set(site.names)) and not is_bridge(model):
                raise _Enough

        return read

    hooks = hooked(model, {name: recorder(name) for name in site.names})
    with contextlib.suppress(_Enough), torch.no_grad(), hooks:
        if is_bridge(model):
            model(tokens.to(device_of(model)), return_type=None, stop_at_layer=site.stop)
        else:
            model(tokens.to(device_of(model)), **({"use_cache": False} if hasattr(model, "config") else {}))
    for name in site.names:
        if name not in recorded:
            raise ValueError(never_runs(name))
    return [recorded[name].flatten(2) for name in site.names]


def logits(
    model: Model, tokens: Int[Tensor, "batch pos"], before: tuple[Float[Tensor, "batch pos d"], int] | None = None
) -> Float[Tensor, "batch pos vocab"]:
    """A whole forward pass, without gradients; or, of a bridge, what comes after `stream_before`."""
    with torch.no_grad():
        if before is not None:
            return model(before[0], start_at_layer=before[1], return_type="logits")
        if is_bridge(model):
            return model(tokens, return_type="logits")
        return model(tokens, use_cache=False).logits


def stream_before(
    model: Model, site: HookSite, tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch pos d"], int] | None:
    """The residual stream before the first layer of the site, and that layer: several forward passes can begin there.

    None where they cannot: the model is no bridge, or the site is not inside its later layers.
    """
    first = first_layer(model, site)
    return None if first is None else (record(model, HookSite.of(model, first - 1), tokens)[0], first)


def first_layer(model: Model, site: HookSite) -> int | None:
    """The first layer of the site, where a forward pass can begin there: in a bridge, after its first layer."""
    layers = [int(match[1]) for name in site.names if (match := re.match(r"blocks\.(\d+)\.", name))]
    return min(layers) or None if is_bridge(model) and len(layers) == len(site.names) else None


@contextlib.contextmanager
def hooked(model: Model, functions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """Call each function with the activations of its place; what it returns, if anything, takes their place.

    The hooks are removed at the end, also after an error.
    """
    if is_bridge(model):
        with model.hooks(fwd_hooks=[(name, _with_hook_point(function)) for name, function in functions.items()]):
            yield
        return
    with contextlib.ExitStack() as stack:
        for name, function in functions.items():
            module = model.get_submodule(name.removesuffix(INPUT))
            if name.endswith(INPUT):
                handle = module.register_forward_pre_hook(_on_input(function), with_kwargs=True)
            else:
                handle = module.register_forward_hook(_on_output(function))
            stack.callback(handle.remove)
        yield


def never_runs(name: str) -> str:
    """The message for a place that a forward pass does not visit."""
    return (
        f"The hook point {name!r} exists, but this model's forward pass never visits it. Take another: for the input "
        "of the MLP, 'blocks.0.mlp.hook_in'."
    )


def _with_hook_point(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Tensor | None]:
    def run(value: Tensor, hook: Any) -> Tensor | None:  # TransformerLens passes the hook point as `hook`
        return function(value)

    return run


def _on_output(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
    def run(module: Any, args: Any, output: Any) -> Any:
        new = function(output[0] if isinstance(output, tuple) else output)
        return None if new is None else ((new, *output[1:]) if isinstance(output, tuple) else new)

    return run


def _on_input(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
    def run(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = function(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = function(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    return run


def _name(model: Model, which: str | int) -> str:
    if is_bridge(model):
        name = f"blocks.{which}.hook_resid_post" if isinstance(which, int) else which
        if name not in model.hook_dict:
            raise ValueError(
                f"This model has no hook point {name!r}; it has {model.cfg.n_layers} layers, and names such as "
                "'blocks.0.hook_resid_post', 'blocks.0.hook_mlp_out'."
            )
        return name
    if isinstance(which, int):
        layers = _layers(model)
        if not 0 <= which < len(layers):
            raise ValueError(f"This model has no layer {which}; it has {len(layers)}, from 0.")
        return layers[which]
    try:
        model.get_submodule(which.removesuffix(INPUT))
    except AttributeError:
        layers = _layers(model)
        raise ValueError(
            f"This model has no module {which.removesuffix(INPUT)!r}; it has names such as {layers[0]!r} (see "
            "`model.named_modules()`)."
        ) from None
    return which


def _layers(model: Model) -> list[str]:
    """The paths of a Hugging Face model's layers."""
    wanted = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == wanted:
            return [f"{name}.{layer}" for layer in range(len(module))]
    raise ValueError(f"Cannot tell which modules of {type(model).__name__} are its layers. Name one by its path.")


def _context(model: Model) -> int:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
