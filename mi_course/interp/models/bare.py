"""A forward pass without the bridge: the same modules and weights, at a third to a half of the time.

Judging an answer takes hundreds of forward passes of small models, and most of the time of each would be the bridge's
own bookkeeping at every hook point. It is also another road to the same numbers than the one that answers take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn
    from transformer_lens.model_bridge import TransformerBridge

__all__ = ["Hook", "record_bare", "run_bare"]

Hook = tuple[str, Callable[..., Any]]
"""As in TransformerLens: the name of a hook point, and a function of an activation and `hook`."""

_TWINS: WeakKeyDictionary[Any, tuple[nn.Module, dict[str, Any]]] = WeakKeyDictionary()
"""Of each model: its modules alone, and its hook points, which take the bridge almost a millisecond to list."""

_HEADS = {"q": "n_heads", "k": "n_key_value_heads", "v": "n_key_value_heads", "z": "n_heads"}


def run_bare(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], fwd_hooks: Sequence[Hook] = (), *, grad: bool = False
) -> Float[Tensor, "batch pos d_vocab"]:
    """The logits of a native model, as `model.run_with_hooks(tokens, fwd_hooks=fwd_hooks)` gives them.

    No hook of the bridge itself runs, but for those on `unembed`. grad: whether gradients can be taken of it.
    Hook points of a block: `hook_resid_pre`, `hook_resid_post`, `hook_attn_out`, `hook_mlp_out`, and `hook_q`,
    `hook_k`, `hook_v` and `hook_z` of `attn`. Raises ValueError for any other, and for a model that caps its logits.
    """
    import torch

    twin, points = _twin(model)
    with ExitStack() as stack, torch.set_grad_enabled(grad):
        for name, function in fwd_hooks:
            stack.callback(_add(twin, points, name, function).remove)
        return model.unembed(twin(tokens))


def record_bare(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], names: Sequence[str], fwd_hooks: Sequence[Hook] = ()
) -> dict[str, Tensor]:
    """Copies of the activations at these hook points, in a run with these hooks. Raises as `run_bare`."""
    kept: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: Any, name: str) -> None:
        kept[name] = x.clone()

    run_bare(model, tokens, [*fwd_hooks, *((name, partial(keep, name=name)) for name in names)])
    return kept


def _twin(model: Any) -> tuple[Any, dict[str, Any]]:
    """The modules alone, without the unembedding, which share the model's parameters; and its hook points."""
    if model not in _TWINS:
        if model.cfg.output_logits_soft_cap > 0:
            raise ValueError("run_bare does not cap logits")
        import copy

        import torch
        from transformer_lens.model_bridge.sources.native.model import NativeModel

        twin = NativeModel(copy.deepcopy(model.cfg)).eval()
        parameters = {
            name.replace("._original_component", ""): p for name, p in model.original_model.named_parameters()
        }
        for name, _ in list(twin.named_parameters()):
            owner, _, attribute = name.rpartition(".")
            setattr(twin.get_submodule(owner), attribute, parameters[name])
        twin.head = torch.nn.Identity()
        _TWINS[model] = twin, dict(model.hook_dict)
    return _TWINS[model]


def _add(twin: Any, points: dict[str, Any], name: str, function: Callable[..., Any]) -> Any:
    """Put a hook of TransformerLens on the module that makes, or takes, this activation."""
    found = re.fullmatch(r"blocks\.(\d+)\.(?:attn\.hook_([qkvz])|hook_(resid_pre|resid_post|attn_out|mlp_out))", name)
    if not found:
        raise ValueError(f"run_bare has no hook point {name!r}")
    point, block = points[name], twin.layers[int(found[1])]

    def changed(x: Tensor) -> Tensor:
        returned = function(x, hook=point)
        return x if returned is None else returned

    if part := found[2]:
        heads = getattr(twin.cfg, _HEADS[part]) or twin.cfg.n_heads

        def by_head(x: Tensor) -> Tensor:
            return changed(x.unflatten(-1, (heads, -1))).flatten(-2)

        if part == "z":
            return block.attn.o.register_forward_pre_hook(lambda module, inputs: (by_head(inputs[0]),))
        return getattr(block.attn, part).register_forward_hook(lambda module, inputs, output: by_head(output))
    if found[3] == "resid_pre":
        return block.register_forward_pre_hook(lambda module, inputs: (changed(inputs[0]), *inputs[1:]))
    if found[3] == "resid_post":
        return block.register_forward_hook(lambda module, inputs, output: (changed(output[0]),))
    if found[3] == "attn_out":
        return block.attn.register_forward_hook(lambda module, inputs, output: (changed(output[0]), output[1]))
    return block.mlp.register_forward_hook(lambda module, inputs, output: changed(output))
