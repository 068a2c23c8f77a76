"""Passages about six concepts, and what the latents of `middle-4608` do on them: to find a latent for a concept.

    train = concept_contexts("train")
    train.texts[0], train.kinds[0]               a passage, and whether it is from books or from textbooks
    train.latents                                [context, latent] the largest activation over the tokens of a passage
    about, other = train.split("the sea", "books")            the latents on passages about it, and on others
    train.areas("the sea")                       [latent] AUROC within a kind of text, averaged over the kinds

A passage is *about* a concept if it contains at least two different words of that concept's list (`word_lists`), and
not about it if it contains none; with one word it is left out for this concept. Every concept has as many passages in
books as in textbooks, and values are compared within a kind of text only: the kind alone has an AUROC of 0.5.

The passages and activations are in `data/feature-judging.safetensors`, made by `data/record_feature_judging.py`. For
another SAE or model, `context_peaks` computes the same from `train.tokens`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from mi_course.errors import UnknownName
from mi_course.interp.models.where import data_dir
from mi_course.interp.sae.activations import run_to
from mi_course.interp.sae.host import HookSite

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from mi_course.interp.sae.base import SAE
    from mi_course.interp.sae.host import Model

FILE = "feature-judging.safetensors"
SAE_NAME = "middle-4608"
CONCEPTS = ("the sea", "medicine", "law", "war", "food", "the sky")
SPLITS = ("train", "held out")
LEVELS = 255  # a stored activation is a whole number of these parts of the latent's largest
CONTROLS, HANDFUL, QUANTILE, LIVE = 200, 20, 0.95, 5


@dataclass(frozen=True, eq=False)
class ConceptContexts:
    """Passages of one split. No document has passages in both."""

    tokens: Int[Tensor, "context pos"]
    """Ids, BOS first."""
    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    """"books" or "textbooks", for each passage."""
    about: dict[str, Int[Tensor, " context"]]
    """For each concept: 1 about it, 0 not about it, -1 left out."""
    latents: Float[Tensor, "context latent"]
    """The largest activation over the passage's tokens without BOS and massive ones; 0 where it is never active."""
    difference_of_means: dict[str, Float[Tensor, " context"]]
    """For each concept: the largest projection of a token on the difference of means, fitted on the training split."""

    def __len__(self) -> int:
        return len(self.texts)

    def split(
        self, concept: str, kind: str | None = None, values: Float[Tensor, "context ..."] | None = None
    ) -> tuple[Float[Tensor, "about ..."], Float[Tensor, "other ..."]]:
        """Values on passages about the concept, and on passages that are not, of one kind of text or of all.

        values: of each passage; by default the latents.
        """
        labels, values = self._labels(concept), self.latents if values is None else values
        here = torch.ones_like(labels, dtype=torch.bool) if kind is None else self._of_kind(kind)
        return values[here & (labels == 1)], values[here & (labels == 0)]

    def areas(self, concept: str) -> Float[Tensor, " latent"]:
        """The AUROC of every latent, as `area` computes it."""
        if concept not in self._areas:
            self._areas[concept] = self.area(concept, self.latents)
        return self._areas[concept]

    @cached_property
    def _areas(self) -> dict[str, Float[Tensor, " latent"]]:
        return {}

    @cached_property
    def _bars(self) -> dict[tuple[str, int], float]:
        return {}

    def area(self, concept: str, values: Float[Tensor, "context ..."]) -> Float[Tensor, " ..."]:
        """The AUROC of values of the passages for this concept, within each kind of text, averaged over the kinds.

        It is the share of pairs, one about the concept and one not, in which the one about it has the larger value;
        ties count one half.
        """
        kinds = dict.fromkeys(self.kinds)
        return torch.stack([area_of_each(*self.split(concept, kind, values)) for kind in kinds]).mean(0)

    def _labels(self, concept: str) -> Int[Tensor, " context"]:
        if concept not in self.about:
            raise UnknownName(f"{str(concept)[:60]!r} is not a concept here; there are {', '.join(self.about)}.")
        return self.about[concept]

    def _of_kind(self, kind: str) -> Bool[Tensor, " context"]:
        if kind not in self.kinds:
            raise UnknownName(f"{str(kind)[:60]!r} is no kind of text here; there are {', '.join({*self.kinds})}.")
        return torch.tensor([each == kind for each in self.kinds])


def area_of_each(about: Float[Tensor, "about ..."], other: Float[Tensor, "other ..."]) -> Float[Tensor, " ..."]:
    """The AUROC of each column, ties one half: how many of the others each one is above, or level with, by sorting."""
    columns = [values.reshape(len(values), -1).T.contiguous() for values in (about, other)]
    own, ordered = columns[0], columns[1].sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, own, right=right, out_int32=True) for right in (False, True))
    return ((below + up_to).double().mean(dim=1) / (2 * len(other))).view(about.shape[1:])


@cache
def concept_contexts(split: str = "train") -> ConceptContexts:
    """The recorded passages of the "train" or "held out" split. UnknownName for another."""
    if split not in SPLITS:
        raise UnknownName(f"{str(split)[:60]!r} is no split; there are {', '.join(SPLITS)}.")
    about, arrays = recorded()
    here = (arrays["concept_split"] == SPLITS.index(split)).nonzero()[:, 0]
    n, F = len(arrays["concept_split"]), len(arrays["concept_scale"])
    raw = zlib.decompress(arrays["concept_latents"].numpy().tobytes())
    levels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(n, F)[here]
    labels, projections = arrays["concept_labels"][here], arrays["concept_projections"][here]
    return ConceptContexts(
        tokens=arrays["concept_tokens"][here].long(),
        texts=tuple(about["concept_texts"][i] for i in here.tolist()),
        kinds=tuple(about["kinds"][arrays["concept_kind"][i]] for i in here.tolist()),
        about={name: labels[:, i].long() for i, name in enumerate(CONCEPTS)},
        latents=levels.float() / LEVELS * arrays["concept_scale"].float(),
        difference_of_means={name: projections[:, i].float() for i, name in enumerate(CONCEPTS)},
    )


def word_lists() -> dict[str, list[str]]:
    """The words that make a passage one about a concept, two different ones at least."""
    return dict(recorded()[0]["words"])


@cache
def recorded() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the file says about itself, with its texts, and its arrays."""
    with safe_open(data_dir() / FILE, framework="pt") as file:
        about = json.loads(file.metadata()["mi_course"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    texts = json.loads(zlib.decompress(arrays.pop("texts").numpy().tobytes()).decode("utf-8"))
    return about | texts, arrays


# ---------------------------------------------------------------------------------------------------------------------
# What a latent has to exceed


def live(latents: Float[Tensor, "context latent"]) -> Int[Tensor, " n"]:
    """The latents that are active on at least LIVE of these passages."""
    return ((latents > 0).sum(0) >= LIVE).nonzero()[:, 0]


def chance(
    train_areas: Float[Tensor, " latent"], held_out_areas: Float[Tensor, " latent"], among: Int[Tensor, " n"]
) -> Float[Tensor, " control"]:
    """Held-out AUROCs of 200 random choices: each is the best on the training passages of 20 random latents.

    among: the latents that are drawn from. The draws are the same on every call.
    """
    generator = torch.Generator().manual_seed(7)
    drawn = torch.stack([among[torch.randperm(len(among), generator=generator)[:HANDFUL]] for _ in range(CONTROLS)])
    best = train_areas[drawn].argmax(dim=1, keepdim=True)
    return held_out_areas[drawn.gather(1, best)[:, 0]]


class Found(NamedTuple):
    """A latent for a concept, in AUROCs."""

    latent: int
    train: float
    held_out: float
    bar: float
    """What 95 % of the random choices do not exceed on held-out passages (`bar`)."""
    difference_of_means: float
    """That of the difference of means on held-out passages."""


def bar(concept: str, train: ConceptContexts, held_out: ConceptContexts) -> float:
    """What 95 % of the random choices (`chance`) do not exceed for this concept, an AUROC on held-out passages."""
    key = concept, id(train)
    if key not in held_out._bars:
        controls = chance(train.areas(concept), held_out.areas(concept), live(train.latents))
        held_out._bars[key] = float(controls.quantile(QUANTILE))
    return held_out._bars[key]


def compare(features: dict[str, int]) -> dict[str, Found]:
    """Each concept's latent on held-out passages, beside random choices and the difference of means."""
    train, held_out = concept_contexts("train"), concept_contexts("held out")
    return {
        concept: Found(
            int(latent),
            float(train.areas(concept)[latent]),
            float(held_out.areas(concept)[latent]),
            bar(concept, train, held_out),
            float(held_out.area(concept, held_out.difference_of_means[concept])),
        )
        for concept, latent in features.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# For any model and SAE


def read_contexts(
    model: Model, tokens: Int[Tensor, "context pos"], hook: str | int, rows_at_once: int = 16
) -> Iterator[tuple[Float[Tensor, "row pos d"], Bool[Tensor, "row pos"]]]:
    """The activations of some passages at a time, and which of their tokens count: neither BOS nor massive ones."""
    site = HookSite.of(model, hook)
    with torch.no_grad():
        for rows in tokens.split(rows_at_once):
            (values,), counts, _ = run_to(model, site, rows, torch.ones_like(rows, dtype=torch.bool), True)
            yield values.float(), counts


def context_activations(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "context pos"],
    latents: Sequence[int] | None = None,
    *,
    hook: str | int | None = None,
) -> Float[Tensor, "context pos latent"]:
    """What latents do on each token of some passages; 0 at BOS and massive tokens.

    tokens: ids, BOS first. latents: which; by default all, which takes 0.9 MB for a passage of 48 tokens and 4,608.
    hook: where the SAE belongs; by default what its file says (`sae.about["hook_name"]`).
    """
    which = slice(None) if latents is None else list(latents)
    parts = [
        (sae.encode(values) * counts[..., None])[..., which].detach()
        for values, counts in read_contexts(model, tokens, _hook_of(sae) if hook is None else hook)
    ]
    return torch.cat(parts)


def context_peaks(
    model: Model, sae: SAE, tokens: Int[Tensor, "context pos"], *, hook: str | int | None = None
) -> Float[Tensor, "context latent"]:
    """The largest activation of every latent over the tokens of each passage, as `ConceptContexts.latents` has it.

    hook: as in `context_activations`.
    """
    parts = [
        (sae.encode(values) * counts[..., None]).amax(dim=1).detach()
        for values, counts in read_contexts(model, tokens, _hook_of(sae) if hook is None else hook)
    ]
    return torch.cat(parts)


def _hook_of(sae: SAE) -> str:
    """ValueError for an SAE that has not been loaded from a file."""
    name = getattr(sae, "about", {}).get("hook_name")
    if not name:
        raise ValueError("This SAE does not say where it belongs; name the hook, such as hook=14.")
    return str(name)
