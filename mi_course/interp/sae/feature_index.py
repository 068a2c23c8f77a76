"""A feature index: what every latent of an SAE does on a set of texts, in a small file, ready to be looked up.

    features = build_feature_index(sae, model, tokens, "blocks.14.hook_resid_post")       once, with a progress bar
    features.save("my_sae")                                                               beside the SAE's own files
    features = load_feature_index("my_sae", sae, model)                                   later

    show.feature(sae, 123)            density, histogram, contexts, promoted tokens, nearest latents
    show.feature_browser(sae)         the same for all, with search

Kept for each latent are its density, the histogram of its activations, its strongest contexts, some contexts at each of
several ranks (top examples alone mislead: Bolukbasi et al. 2021; Bricken et al. 2023 look at all quantiles), and the
tokens that its decoder row promotes and suppresses.

An index is two safetensors files: `features.safetensors`, and `texts.safetensors`, which several indexes may share.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save_file

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.sae.feature_texts import FORMAT, TextSet, need, read_arrays
from mi_course.interp.sae.file_checks import FileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mi_course.interp.sae.feature_host import Host

FEATURES_FILE, TEXTS_FILE = "features.safetensors", "texts.safetensors"
ORDERS = ("number", "densest", "rarest", "strongest")
ARRAYS = {
    "count": 1,  # [F] tokens on which the latent is active
    "largest": 1,  # [F] its largest activation
    "mean": 1,  # [F] the mean of its activations, where it is active
    "histogram": 2,  # [F, bin] shares of its active tokens; equal bins from 0 to `largest`
    "first_example": 1,  # [F + 1] where its examples begin
    "position": 1,  # [example] the token of the example, counted through all texts
    "band": 1,  # [example] 0: strongest; b: band b of ranks
    "first_active": 1,  # [example + 1] where its active tokens begin
    "offset": 1,  # [active] an active token of the example's context, relative to `position`
    "value": 1,  # [active] the activation there
    "promoted": 2,  # [F, n] ids of the tokens whose logits the decoder row raises most; empty where there are none
    "promoted_by": 2,  # [F, n] by how much, per unit of activation
    "suppressed": 2,
    "suppressed_by": 2,
    "direction": 1,  # [F] decoder rows times a fixed vector: tells whose index this is
}


@dataclass(eq=False)
class FeatureIndex:
    """The activations of every latent on a set of texts. Build one with `build_feature_index`."""

    arrays: dict[str, NDArray[Any]]
    """See `ARRAYS`."""
    texts: TextSet
    about: dict[str, Any]
    """hook, target, model, tokens (how many counted), left_out (which did not), edges, before, after."""
    host: Host | None = field(default=None, repr=False)
    """The model, for new sentences; not saved."""

    # -- what a page shows --------------------------------------------------------------------------------------------

    @property
    def n_latents(self) -> int:
        return len(self.arrays["count"])

    @property
    def can_read(self) -> bool:
        """Whether there is a model that reads new sentences."""
        return self.host is not None

    def check(self, sae: Any, latent: Any = 0) -> int:
        """The latent's number, as an int. ValueError if there is none, or the index belongs to another SAE."""
        rows = decoder(sae)
        if len(rows) != self.n_latents:
            raise ValueError(
                f"This SAE has {len(rows):,} latents, the index {self.n_latents:,}: it was built for another SAE. "
                "Build one with build_feature_index(sae, …)."
            )
        ours, theirs = directions(rows), self.arrays["direction"]
        if np.abs(ours - theirs).max() > 0.05 * max(float(np.abs(theirs).max()), 1e-9):
            raise ValueError(
                "The decoder rows of this SAE are not those that the index was built for: it belongs to another SAE, "
                "or to an earlier state of its training. Build it again with build_feature_index(sae, …)."
            )
        try:
            number = latent.__index__()
        except (AttributeError, TypeError):
            raise ValueError(f"The latent is {str(latent)[:40]!r}, expected a whole number.") from None
        if not 0 <= number < self.n_latents:
            raise ValueError(f"There is no latent {number:,}; this SAE has 0 … {self.n_latents - 1:,}.")
        return number

    def page(self, sae: Any, latent: int) -> dict[str, Any]:
        """What a feature page shows, as plain values."""
        i = self.check(sae, latent)
        a, tokens = self.arrays, int(self.about["tokens"])
        shares = a["count"] / tokens
        return {
            "latent": i,
            "n_latents": self.n_latents,
            "model": self.about["model"],
            "hook": self.about["hook"],
            "count": int(a["count"][i]),
            "tokens": tokens,
            "left_out": self.about["left_out"],
            "attribution": self.texts.attribution,
            "density": float(shares[i]),
            "denser_than": float((shares < shares[i]).mean()),
            "largest": float(a["largest"][i]),
            "mean": float(a["mean"][i]),
            "histogram": a["histogram"][i].astype(float).tolist(),
            "groups": self._groups(i),
            "promoted": self._tokens(i, "promoted"),
            "suppressed": self._tokens(i, "suppressed"),
            "nearest": self._nearest(sae, i),
        }

    def summary(self, latent: int) -> dict[str, Any]:
        """One line about a latent: its density, largest activation, strongest context and promoted tokens."""
        a, first = self.arrays, int(self.arrays["first_example"][latent])
        dead = int(a["count"][latent]) == 0
        return {
            "latent": int(latent),
            "density": float(a["count"][latent] / self.about["tokens"]),
            "largest": float(a["largest"][latent]),
            "example": None if dead else self._example(first),
            "promoted": [word for word, _ in self._tokens(latent, "promoted")[:4]],
        }

    def _groups(self, latent: int) -> list[dict[str, Any]]:
        """The strongest contexts, then those of each band of ranks, the strongest band first."""
        first, end = self.arrays["first_example"][latent : latent + 2].tolist()
        bands, edges = self.arrays["band"][first:end], self.about["edges"]
        groups = []
        for band in np.unique(bands).tolist():
            low, high = (0.0, 0.0) if band == 0 else (edges[band - 1], edges[band])
            examples = [self._example(first + int(j)) for j in np.flatnonzero(bands == band)]
            groups.append({"top": band == 0, "low": low, "high": high, "examples": examples})
        return groups

    def _example(self, example: int) -> dict[str, Any]:
        a = self.arrays
        at = int(a["position"][example])
        text = int(self.texts.text_of(at))
        first = max(int(self.texts.starts[text]), at - self.about["before"])
        end = min(int(self.texts.starts[text + 1]), at + self.about["after"] + 1)
        values = np.zeros(end - first)
        active = slice(*a["first_active"][example : example + 2].tolist())
        values[at - first + a["offset"][active].astype(int)] = a["value"][active]
        return {
            "tokens": self.texts.words(first, end),
            "values": values.tolist(),
            "at": at - first,
            "text": text,
            "source": self.texts.sources[text] if self.texts.sources else "",
            "cut": [first > int(self.texts.starts[text]), end < int(self.texts.starts[text + 1])],
        }

    def _tokens(self, latent: int, kind: str) -> list[tuple[str, float]]:
        ids, effects = self.arrays[kind][latent], self.arrays[f"{kind}_by"][latent]
        return [(self.texts.vocabulary[i], float(v)) for i, v in zip(ids.tolist(), effects, strict=True)]

    def _nearest(self, sae: Any, latent: int, n: int = 8) -> list[tuple[int, float]]:
        """(latent, cosine of the decoder rows) of the n latents with the largest cosines."""
        rows = decoder(sae)
        norms = torch.linalg.vector_norm(rows, dim=1).clamp(min=1e-12)
        cosines = (rows @ rows[latent]) / norms / norms[latent]
        cosines[latent] = -torch.inf
        best = cosines.topk(min(n, len(rows) - 1))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    # -- finding latents ----------------------------------------------------------------------------------------------

    def ordered(self, order: str, first: int = 0, n: int = 20) -> list[dict[str, Any]]:
        """Summaries of latents by number, density (dead ones last) or largest activation."""
        count, largest = self.arrays["count"], self.arrays["largest"]
        keys = {
            "number": np.arange(len(count)),
            "densest": -count.astype(np.int64),
            "rarest": np.where(count > 0, count.astype(np.int64), np.iinfo(np.int64).max),
            "strongest": -largest,
        }
        if order not in keys:
            raise ValueError(f"order is {str(order)[:40]!r}; expected one of {', '.join(ORDERS)}.")
        which = np.argsort(keys[order], kind="stable")[first : first + n]
        return [self.summary(i) for i in which.tolist()]

    def search(self, query: str, n: int = 20) -> dict[str, list[dict[str, Any]]]:
        """Latents for a piece of text, without regard to case.

        "active": those that are active on it in the contexts of this index, by the summed activation there, as a share
        of the latent's largest; each with the context where that is largest. "promoted": those that promote a token
        which contains it. ValueError for a query of white space.
        """
        if not query.strip():
            raise ValueError("Nothing to search for: type a word, or a part of one.")
        return {"active": self._active_on(query, n), "promoted": self._promoting(query, n)}

    def _active_on(self, query: str, n: int) -> list[dict[str, Any]]:
        a, hit = self.arrays, self.texts.find(query)
        if not hit.any():
            return []
        on = hit[self._active_positions]
        share = np.where(on, a["value"] / np.maximum(a["largest"], 1e-30)[self._latents[self._examples]], 0.0)
        by_latent = np.bincount(self._latents[self._examples], share, self.n_latents)
        best = np.argsort(-by_latent, kind="stable")[:n]
        out = []
        for latent in best[by_latent[best] > 0].tolist():
            first, end = a["first_example"][latent : latent + 2]
            span = slice(a["first_active"][first], a["first_active"][end])
            example = int(self._examples[span][share[span].argmax()])
            out.append({**self.summary(latent), "example": self._example(example)})
        return out

    def _promoting(self, query: str, n: int) -> list[dict[str, Any]]:
        wanted = np.isin(self.arrays["promoted"], self.texts.vocabulary_with(query))
        effect = np.where(wanted, self.arrays["promoted_by"], 0.0).max(1, initial=0.0)
        best = np.argsort(-effect, kind="stable")[:n]
        return [self.summary(i) for i in best[effect[best] > 0].tolist()]

    @property
    def _examples(self) -> NDArray[np.int64]:
        """[active] the example that each stored activation belongs to."""
        if "_examples" not in self.__dict__:
            first = self.arrays["first_active"].astype(np.int64)
            lengths = first[1:] - first[:-1]
            self.__dict__["_examples"] = np.repeat(np.arange(len(lengths)), lengths)
        return self.__dict__["_examples"]

    @property
    def _latents(self) -> NDArray[np.int64]:
        """[example] the latent that each example belongs to."""
        if "_latents" not in self.__dict__:
            first = self.arrays["first_example"].astype(np.int64)
            lengths = first[1:] - first[:-1]
            self.__dict__["_latents"] = np.repeat(np.arange(len(lengths)), lengths)
        return self.__dict__["_latents"]

    @property
    def _active_positions(self) -> NDArray[np.int64]:
        """[active] the token of each stored activation, counted through all texts."""
        return self.arrays["position"].astype(np.int64)[self._examples] + self.arrays["offset"]

    # -- new sentences ------------------------------------------------------------------------------------------------

    def read(self, sae: Any, text: str, latent: int | None = None, n: int = 12) -> dict[str, Any]:
        """Run the model on a sentence: where is this latent active, and which are the strongest latents?

        `strongest` has n pairs of a latent's summary and its activations, by the largest of them. Tokens that the
        index leaves out (the first of a text, which is BOS) count as inactive. ValueError without a model.
        """
        if self.host is None:
            raise ValueError(
                "This index has no model, so it cannot read a sentence. Load it with one: "
                "load_feature_index(folder, sae, model)."
            )
        if not text.strip():
            raise ValueError("Nothing to read: type a sentence.")
        ids = self.host.read(text)
        if len(ids) < 2:
            raise ValueError(f"{text[:40]!r} is {len(ids)} token, and the first one does not count. Type some more.")
        values = self.host.values(torch.tensor([ids]))[0]
        f = encode(sae, values)
        f[0] = 0.0
        peaks = f.amax(0)
        order = peaks.argsort(descending=True)[:n]
        names = self.texts.vocabulary
        return {
            "tokens": [names[i] for i in ids],
            "values": None if latent is None else f[:, latent].tolist(),
            "largest": None if latent is None else float(self.arrays["largest"][latent]),
            "active": int((peaks > 0).sum()),
            "strongest": [(self.summary(i), f[:, i].tolist()) for i in order.tolist() if peaks[i] > 0],
        }

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, texts: str | Path | None = None) -> Path:
        """Write `features.safetensors` into the folder, and the texts beside it. Returns the folder.

        texts: another file for the texts, which several indexes may share. It is not written again if it holds the same
        texts; FileError if it holds others.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / TEXTS_FILE if texts is None else Path(texts)
        if texts is not None and path.exists():
            if TextSet.load(path).fingerprint != self.texts.fingerprint:
                raise FileError(f"{path} holds other texts than this index. Name another file, or delete it.")
        else:
            self.texts.save(path)
        where = Path(os.path.relpath(path, folder)).as_posix()
        about = {"format": FORMAT, **self.about, "texts": where, "fingerprint": self.texts.fingerprint}
        meta = {"mi_course": json.dumps(about)}
        atomic_write(folder / FEATURES_FILE, lambda part: save_file(self.arrays, part, meta))
        return folder

    def __deepcopy__(self, memo: Any) -> FeatureIndex:
        return self  # an SAE that is copied keeps its index, and no second model

    def __getstate__(self) -> dict[str, Any]:
        return {"arrays": self.arrays, "texts": self.texts, "about": self.about, "host": None}


def load_feature_index(
    folder: str | Path, sae: Any = None, model: Any = None, *, tokenizer: Any = None
) -> FeatureIndex:
    """The index that was saved in this folder.

    sae: the SAE that it belongs to, which then remembers it as `sae.feature_index`, where `show` looks for it.
    model: for new sentences; the one that the index was built with. tokenizer: where the model does not have it.
    Raises FileError for files that are missing, damaged or do not fit together; ValueError for another SAE.
    """
    from mi_course.interp.sae.feature_host import Host

    path = Path(folder) / FEATURES_FILE
    about, arrays = read_arrays(path)
    need(path, arrays, ARRAYS)
    wanted = {"texts": str, "fingerprint": str, "hook": str, "model": str, "left_out": str, "tokens": int}
    wanted |= {"edges": list, "before": int, "after": int}
    for name, kind in wanted.items():
        if not isinstance(about.get(name), kind):
            raise FileError(f"{path} has {name} {str(about.get(name))[:60]!r}, expected {kind.__name__}.")
    texts = TextSet.load(path.parent / about["texts"])
    if texts.fingerprint != about["fingerprint"]:
        raise FileError(f"{path.parent / about['texts']} holds other texts than {path} was built on.")
    _check_arrays(path, arrays, about, texts)
    features = FeatureIndex(arrays, texts, about)
    if model is not None:
        features.host = Host(model, about["hook"], about.get("target"), tokenizer)
    if sae is not None:
        features.check(sae)
        remember(sae, features)
    return features


def remember(sae: Any, features: FeatureIndex) -> None:
    """Keep the index as `sae.feature_index`, where the SAE allows it."""
    with contextlib.suppress(AttributeError):
        sae.feature_index = features


def _check_arrays(path: Path, arrays: dict[str, NDArray[Any]], about: dict[str, Any], texts: TextSet) -> None:
    """FileError for arrays that do not fit each other: nothing that is looked up later may be out of range."""

    def is_bounds(bounds: NDArray[Any], count: int, of: int) -> bool:
        return len(bounds) == count + 1 and bounds[0] == 0 and bounds[-1] == of and bool((np.diff(bounds) >= 0).all())

    for name in ("first_example", "first_active"):
        arrays[name] = arrays[name].astype(np.int64)
    F, E = len(arrays["count"]), len(arrays["position"])
    active, n_tokens, n_words = len(arrays["value"]), len(texts.tokens), len(texts.vocabulary)
    bands = [*about["edges"], 0.0]
    rules = {
        "largest": len(arrays["largest"]) == F,
        "mean": len(arrays["mean"]) == F,
        "direction": len(arrays["direction"]) == F,
        "histogram": len(arrays["histogram"]) == F,
        "count": bool((arrays["count"] >= 0).all()) and about["tokens"] > 0,
        "first_example": is_bounds(arrays["first_example"], F, E),
        "first_active": is_bounds(arrays["first_active"], E, active),
        "position": E == 0 or 0 <= int(arrays["position"].min()) <= int(arrays["position"].max()) < n_tokens,
        "band": len(arrays["band"]) == E
        and all(isinstance(edge, int | float) for edge in bands)
        and (E == 0 or int(arrays["band"].max()) < len(bands) - 1),
        "offset": len(arrays["offset"]) == active,
    }
    for kind in ("promoted", "suppressed"):
        ids = arrays[kind]
        inside = ids.size == 0 or 0 <= int(ids.min()) <= int(ids.max()) < n_words
        rules[kind] = len(ids) == F and inside and arrays[f"{kind}_by"].shape == ids.shape
    examples_of_living = np.diff(arrays["first_example"]) > 0 if rules["first_example"] else np.ones(F, bool)
    rules["count"] = rules["count"] and bool((examples_of_living | (arrays["count"] == 0)).all())
    for name, right in rules.items():
        if not right:
            raise FileError(f"The {name} of {path} does not fit its other arrays, or its texts. Build it again.")
    if active:
        at = np.repeat(arrays["position"].astype(np.int64), np.diff(arrays["first_active"]))
        text, there = texts.text_of(at), at + arrays["offset"]
        inside = (there >= texts.starts[text]) & (there < texts.starts[text + 1])
        inside &= (arrays["offset"] >= -about["before"]) & (arrays["offset"] <= about["after"])
        if not inside.all():
            raise FileError(f"The offset of {path} leads out of a context. Build it again.")


# ---------------------------------------------------------------------------------------------------------------------
# Any SAE: `encode`, and `W_dec` [F, d_out]


def decoder(sae: Any) -> torch.Tensor:
    """W_dec, [F d_out], float32. ValueError for what is not an SAE."""
    rows = getattr(sae, "W_dec", None)
    if not isinstance(rows, torch.Tensor) or rows.ndim != 2 or not callable(getattr(sae, "encode", None)):
        raise ValueError(
            f"{type(sae).__name__} is not an SAE that can be looked at: expected an object with encode(x) and W_dec "
            "[latents, width], such as load_sae(…) returns."
        )
    return rows.detach().float()


def directions(rows: torch.Tensor) -> NDArray[np.float32]:
    """[F] each row times a fixed random vector of norm one."""
    fixed = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows.device)
    return (rows @ (fixed / fixed.norm())).cpu().numpy()


@torch.no_grad()
def encode(sae: Any, values: torch.Tensor) -> torch.Tensor:
    """[token F] float32 on the CPU. ValueError for activations of another width."""
    weights = sae.W_dec
    width = getattr(getattr(sae, "config", None), "d_in", values.shape[-1])
    if values.shape[-1] != width:
        raise ValueError(f"The activations there have {values.shape[-1]} dimensions, the SAE reads {width}.")
    return sae.encode(values.to(device=weights.device, dtype=weights.dtype)).float().cpu()
