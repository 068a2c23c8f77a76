"""Reference backend: one hooked forward pass per patch. Slow, correct for any bridge; the oracle in tests.

Models that `decoder.py` cannot reproduce are patched this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp import prompts

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import TokenBatch

    Hooks = Sequence[tuple[str, Callable[..., Any]]]

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
    """TransformerLens's name of this activation. ValueError for an unknown one, or if the model lacks the hook."""
    if site not in HOOKS:
        raise ValueError(f"There is no activation {site!r} to patch; there are {', '.join(HOOKS)}.")
    name = HOOKS[site].format(layer)
    if name not in model.hook_dict:
        reason = " It has no MLPs." if site in ("resid_mid", "mlp_out") else ""
        raise ValueError(f"The model has no hook {name!r}, so {site} cannot be patched.{reason}")
    return name


@contextmanager
def temporary_hooks(model: TransformerBridge, hooks: Hooks) -> Iterator[None]:
    """Attach forward hooks; remove these and no others on leaving, also after an error or an interrupt."""
    before = {name: set(model.hook_dict[name]._forward_hooks) for name, _ in hooks}
    try:
        with model.hooks(fwd_hooks=list(hooks)):
            yield
    finally:
        for name, old in before.items():
            handles = model.hook_dict[name]._forward_hooks
            for key in [key for key in handles if key not in old]:
                del handles[key]


def last_logits(model: TransformerBridge, batch: TokenBatch, hooks: Hooks = ()) -> Float[Tensor, "batch vocab"]:
    """Logits after each prompt's last token, with these hooks."""
    with temporary_hooks(model, hooks):
        return prompts.last_logits(model, batch)


def activations(model: TransformerBridge, batch: TokenBatch, names: Sequence[str]) -> dict[str, Tensor]:
    """These activations of one run, by hook name."""
    recorded: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(value: Tensor, hook: Any) -> None:
            recorded[name] = value.detach().clone()

        return hook

    with torch.no_grad():
        last_logits(model, batch, [(name, record(name)) for name in names])
    return recorded


def hook_and_value(
    model: TransformerBridge, base: TokenBatch, source: TokenBatch, site: str, name: str
) -> tuple[str, Tensor]:
    """The hook to patch at, and the activation to put there.

    On a bridge `hook_resid_mid` is what the second norm reads: a patch there would leave the residual stream as it was.
    The stream itself is changed through the attention's output: the source's middle − the base's beginning.
    """
    if site != "resid_mid":
        return name, activations(model, source, [name])[name]
    beginning = name.replace("resid_mid", "resid_pre")
    value = activations(model, source, [name])[name] - activations(model, base, [beginning])[beginning]
    return name.replace("resid_mid", "attn_out"), value


def patched_logits(
    model: TransformerBridge,
    batch: TokenBatch,
    site: str,
    name: str,
    source: Tensor,
    position: int | None,
    head: int | None,
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
