"""A tiny model, a tiny SAE and a feature index with hostile tokens, in a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch

from mi_course.interp.models.small import small_model
from mi_course.interp.sae import SAE, FeatureIndex, SAEConfig, build_feature_index

CONFIG = {"n_layers": 3, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 24}
SCRIPT = "<script>window.attacked = 1</script>"
IMAGE = "<img src=x onerror='window.attacked = 1'>"
HOSTILE = (SCRIPT, IMAGE, "\x07", "\u202eright to left", "$x$", "\\xe2\\x82", "\n", "שלום", "&amp;", '"quoted"')
DEAD = 7


class Words:
    """A tokenizer of whole words."""

    bos_token, bos_token_id, all_special_tokens = "<bos>", 0, ("<bos>",)

    def __init__(self) -> None:
        self.words = ["<bos>", *HOSTILE, *(f" w{i}" for i in range(len(HOSTILE) + 1, 30))]

    def __len__(self) -> int:
        return len(self.words)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.words[i] for i in ids]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        known = {word.strip(): i for i, word in enumerate(self.words)}
        return [known.get(word, 29) for word in text.split()]

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [0, *self.encode(text)]}

    def decode(self, ids: Any, **_: Any) -> str:
        return "".join(self.words[i] for i in ids)


def rows(seed: int = 0, n: int = 20, length: int = 16) -> torch.Tensor:
    """[n length] token ids, BOS first."""
    tokens = torch.randint(1, 30, (n, length), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    return tokens


def make_model() -> Any:
    model = small_model(CONFIG, seed=0)
    model.tokenizer = Words()
    return model


def make_sae(architecture: str = "topk", n_latents: int = 40) -> SAE:
    """Random weights; latent `DEAD` is never active."""
    sae = SAE.build(SAEConfig(d_in=12, n_latents=n_latents, architecture=architecture, k=4))
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name == "b_enc":
                parameter.copy_(0.1 * torch.randn(n_latents, generator=torch.Generator().manual_seed(1)))
                parameter[DEAD] = -1e4
    return sae.requires_grad_(False)


def make(**options: Any) -> tuple[SAE, Any, FeatureIndex]:
    """(SAE, model, index)."""
    sae, model = make_sae(), make_model()
    options = {"progress": False, "sources": [f"text {i} <b>" for i in range(20)], **options}
    return sae, model, build_feature_index(sae, model, rows(), 1, **options)
