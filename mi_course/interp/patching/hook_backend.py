"""The plain road: one hook and one full forward for every patch. Slow, and right for any TransformerBridge.

It serves models that the Decoder does not know, and the tests, which hold the fast road against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.prompts import Batch

HOOKS = {
    "resid_pre": "blocks.{}.hook_resid_pre",
    "resid_mid": "blocks.{}.hook_resid_mid",
    "resid_post": "blocks.{}.hook_resid_post",
    "attn_out": "blocks.{}.hook_attn_out",
    "mlp_out": "blocks.{}.hook_mlp_out",
    "z": "blocks.{}.attn.hook_z",
    "q": "blocks.{}.attn.hook_q",
    "k": "blocks.{}.attn.hook_k",
    "v": "blocks.{}.attn.hook_v",
    "pattern": "blocks.{}.attn.hook_pattern",
}


def hook_name(model: TransformerBridge, site: str, layer: int) -> str:
    """TransformerLens' name of this activation. Raises ValueError if there is none, or the model has it not."""
    if site not in HOOKS:
        raise ValueError(f"There is no activation {site!r} to patch; there are {', '.join(HOOKS)}.")
    name = HOOKS[site].format(layer)
    if name not in model.hook_dict:
        why = " It has no MLPs." if site in ("resid_mid", "mlp_out") else ""
        raise ValueError(f"The model has no hook {name!r}, so {site} cannot be patched.{why}")
    return name


@contextmanager
def hooks(model: TransformerBridge, pairs: Sequence[tuple[str, Callable[..., Any]]]) -> Iterator[None]:
    """Attach forward hooks, and remove these and no others afterwards, whatever happens meanwhile."""
    before = {name: set(model.hook_dict[name]._forward_hooks) for name, _ in pairs}
    try:
        with model.hooks(fwd_hooks=list(pairs)):
            yield
    finally:
        for name, old in before.items():
            left = model.hook_dict[name]._forward_hooks
            for key in [key for key in left if key not in old]:
                del left[key]


def last_logits(
    model: TransformerBridge, batch: Batch, pairs: Sequence[tuple[str, Callable[..., Any]]] = ()
) -> Float[Tensor, "batch vocab"]:
    """Logits at each prompt's last position, with these hooks."""
    with hooks(model, pairs):
        logits = model(batch.tokens, **batch.run_arguments())
    return logits[torch.arange(len(batch.tokens), device=logits.device), batch.last]


def activations(model: TransformerBridge, batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
    """These activations of one run, by hook name."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(value: Tensor, hook: Any) -> None:
            found[name] = value.detach().clone()

        return hook

    with torch.no_grad():
        last_logits(model, batch, [(name, keep(name)) for name in names])
    return found


def source_of(model: TransformerBridge, into: Batch, source: Batch, site: str, name: str) -> tuple[str, Tensor]:
    """The hook to patch at, and what to put there.

    On a bridge `hook_resid_mid` is what the second norm reads: a patch there would leave the residual stream beside it
    as it was. The stream itself is changed through the attention's output: new middle − old beginning.
    """
    if site != "resid_mid":
        return name, activations(model, source, [name])[name]
    beginning = name.replace("resid_mid", "resid_pre")
    middle = activations(model, source, [name])[name] - activations(model, into, [beginning])[beginning]
    return name.replace("resid_mid", "attn_out"), middle


def patched_logits(
    model: TransformerBridge, batch: Batch, site: str, name: str, source: Tensor, position: int | None, head: int | None
) -> Float[Tensor, "batch vocab"]:
    """One patch: the activation, or one position or one head of it, replaced by that of the other run."""
    column = slice(None) if position is None else position

    def patch(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        if head is None:
            value[:, column] = source[:, column]
        elif site == "pattern":  # batch head query key
            value[:, head, column] = source[:, head, column]
        else:
            value[:, column, head] = source[:, column, head]
        return value

    with torch.no_grad():
        return last_logits(model, batch, [(name, patch)])
