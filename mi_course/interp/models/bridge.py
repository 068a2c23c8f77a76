"""From a Hugging Face model to a TransformerBridge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge


def build(
    hf_model: Any,
    tokenizer: Any,
    *,
    name: str,
    compatibility: bool,
    device: torch.device,
    fold_value_biases: bool = True,
) -> TransformerBridge:
    """A bridge in eval mode around this model, which it takes over: compatibility mode changes the model in place."""
    from transformer_lens.model_bridge import TransformerBridge

    hf_model.to(device)
    if tokenizer is not None:
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=hf_model.dtype
        )
    else:
        # boot_transformers requires a tokenizer, and would look for one on the hub.
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        bridge = build_bridge_from_module(
            hf_model, hf_model.config.architectures[0], hf_config=hf_model.config, device=device, model_name=name
        )
    if compatibility:
        bridge.enable_compatibility_mode(disable_warnings=True, fold_value_biases=fold_value_biases)
    bridge.eval()
    return bridge


def pick_device(device: Any) -> torch.device:
    """This device; by default CUDA if there is one, else the CPU (never MPS, whose results differ)."""
    import torch

    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which torch uses one thread.

    Loading is a thousand short copies, bound by memory. With several threads each copy ends in a barrier, at which they
    wait on a busy machine: compatibility mode took 0.5 to 10 s with two threads, 0.8 to 1.5 s with one.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
