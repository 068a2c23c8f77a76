"""Small models with random weights, on which functions are checked in milliseconds.

`boot_native` sets every bias to zero and every norm weight to one, which hides mistakes. Here all of them are random.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mi_course.interp.models import native

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge


def small_model(config: Mapping[str, Any], seed: int) -> TransformerBridge:
    """A model of this shape with random weights from this seed, in eval mode. The global random state is left alone.

    config: fields of TransformerBridgeConfig, such as `{"n_layers": 2, "n_heads": 3, "d_model": 24, "d_head": 8,
    "d_vocab": 20, "n_ctx": 32, "attn_only": True}`; `n_key_value_heads` and `positional_embedding_type="rotary"` work.
    """
    return reseed(native.boot({"act_fn": "gelu", **config}, name="small"), seed)


def reseed(model: TransformerBridge, seed: int) -> TransformerBridge:
    """Redraw all parameters in place and return the model. The same shape and seed give the same parameters."""
    redraw(model.named_parameters(), seed)
    # Setting the mode of two hundred modules costs more than drawing the weights, and it is hardly ever another one.
    everything = (*model.modules(), *model.original_model.modules())
    return model.eval() if any(module.training for module in everything) else model


def redraw(named_parameters: Iterable[tuple[str, torch.nn.Parameter]], seed: int) -> None:
    """Draw new values of a model's parameters in place, in the order of `named_parameters`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in named_parameters:
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                is_norm_weight = name.endswith("weight")
                noise = noise * 0.2 + 1 if is_norm_weight else noise * 0.3
            elif "emb" not in name and ".pos." not in f".{name}":
                # Large enough that attention is far from uniform, and heads differ.
                noise = noise * 1.5 / math.sqrt(parameter.shape[-1])
            parameter.copy_(noise)
            parameter.grad = None
