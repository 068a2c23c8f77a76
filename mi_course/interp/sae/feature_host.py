"""What a feature index needs of a model: activations at one place, the tokenizer, and the unembedding.

A TransformerBridge is read at a hook point ("blocks.14.hook_resid_post", or 14). Any other torch model that takes token
ids, such as one of Hugging Face's, is read where a submodule's output is ("model.layers.14"). In both cases the model
stops there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.prompts import read_prompts
from mi_course.interp.sae.host import HookSite, is_bridge, record, vocabulary

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

# Hook points whose values are added to the residual stream, or are it.
RESIDUAL = re.compile(
    r"hook_(resid_(pre|mid|post)|attn_out|mlp_out|embed)$|(attn|mlp)\.hook_out$|blocks\.\d+\.hook_(in|out)$"
)


class Host:
    """A model, read at `hook`. `target`: where a transcoder's output belongs."""

    def __init__(self, model: Any, hook: str | int, target: str | int | None = None, tokenizer: Any = None) -> None:
        self.model, self.bridge = model, is_bridge(model)
        self.tokenizer = getattr(model, "tokenizer", None) if tokenizer is None else tokenizer
        if not self.bridge:
            _check_paths(model, hook, target)
        self._site = HookSite.of(model, hook)
        self._target = self.hook if target is None else HookSite.of(model, target).hook

    @property
    def hook(self) -> str:
        return self._site.hook

    @property
    def name(self) -> str:
        """The model's name, as it calls itself."""
        config = getattr(self.model, "cfg", None) or getattr(self.model, "config", None)
        return str(getattr(config, "model_name", None) or getattr(config, "name_or_path", None) or "")

    def values(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d"]:
        """The activations at the hook. Rows that are padded at the end are read as they are: the model is causal."""
        return record(self.model, self._site, tokens)[0]

    def read(self, text: str) -> list[int]:
        """The token ids of a text, with BOS where the model wants it. ValueError where they do not fit."""
        if self.bridge:
            return read_prompts(self.model, [text]).tokens[0].tolist()
        if self.tokenizer is None:
            raise ValueError("This model has no tokenizer, so it cannot read a text. Give `tokenizer` to the index.")
        return list(self.tokenizer(text)["input_ids"])

    @property
    def vocabulary_size(self) -> int:
        known = self.bridge or hasattr(self.model, "get_input_embeddings")
        return vocabulary(self.model) if known else len(self.tokenizer or ())

    def unembedding(self) -> Float[Tensor, "d vocab"] | None:
        """From a direction that is added to the residual stream to logits: the final norm's weight, then W_U.

        The norm's division is left out, as it depends on everything else. None where the SAE writes elsewhere.
        """
        if self.bridge:
            if not RESIDUAL.search(self._target) or not hasattr(self.model, "unembed"):
                return None
            matrix, norm = self.model.W_U.detach(), getattr(self.model, "ln_final", None)
        else:
            head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
            if head is None:
                return None
            matrix, norm = head.weight.detach().t(), _final_norm(self.model, head.weight.shape[1])
        weight = getattr(norm, "weight", None)
        if weight is not None and "Gemma" in type(norm).__name__:  # its norms multiply by 1 + weight
            weight = 1 + weight
        return matrix if weight is None else weight.detach().to(matrix)[:, None] * matrix


def _check_paths(model: Any, *paths: str | int | None) -> None:
    names = dict(model.named_modules())
    for path in paths:
        if path is not None and (not isinstance(path, str) or path not in names):
            inner = [name for name in names if name.count(".") == 2][:3]
            raise ValueError(
                f"This model has no submodule {path!r}. Give the path of one whose output the SAE reads, "
                f"such as {', '.join(map(repr, inner)) or repr(next(reversed(names)))}."
            )


def _final_norm(model: Any, width: int) -> Any:
    """The last norm of a Hugging Face model: the last module with one weight of the residual stream's width."""
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), torch.nn.Parameter)
        and tuple(weight.shape) == (width,)
        and not re.search(r"\.\d+\.", f".{name}.")  # a layer's own
    ]
    return norms[-1] if norms else None
