"""Building a feature index: one pass over the texts, with a progress bar."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from mi_course.interp.massive import massive_tokens
from mi_course.interp.sae.feature_host import Host
from mi_course.interp.sae.feature_index import FeatureIndex, decoder, directions, encode, remember
from mi_course.interp.sae.feature_texts import TextSet, token_strings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
BINS = 24
TOKENS_AT_ONCE = 1024  # encoded at a time: a dense [1024, F] of float32


def build_feature_index(
    sae: Any,
    model: Any,
    tokens: Int[Tensor, "n pos"] | Sequence[Sequence[int]],
    hook: str | int,
    *,
    target: str | int | None = None,
    tokenizer: Any = None,
    activations: Float[Tensor, "token d"] | None = None,
    sources: Sequence[str] = (),
    attribution: str = "",
    exclude_massive: bool = False,
    top: int = 10,
    edges: Sequence[float] = EDGES,
    per_band: int = 3,
    before: int = 16,
    after: int = 8,
    promoted: int = 10,
    rows_at_once: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> FeatureIndex:
    """What every latent does on these texts; the SAE then remembers it as `sae.feature_index`.

    sae: anything with encode(x) and W_dec. model: a TransformerBridge with a hook point (14 means
    "blocks.14.hook_resid_post"), or another torch model with the path of a submodule; see `feature_host`.
    tokens: ids, BOS first; rows of any lengths, without padding. The first token of a row never counts.
    target: where a transcoder writes. activations: those at the hook on these tokens, row after row, where they are at
    hand, such as from another SAE at the same place; then the model is not run. sources, attribution: where each row is
    from; who wrote them, their licence.
    exclude_massive: leave out tokens whose norm is above three times their row's median, as SAEs trained without them
    need; every page says what was left out.
    top: strongest contexts per latent. edges, per_band: bounds of bands, as shares of the latent's active tokens
    ordered from the strongest, and contexts drawn from each at random. before, after: tokens
    of a context beside its own. promoted: tokens promoted, and as many suppressed.

    All activations are held until the end: 12 bytes for each active latent of each token, 400 MB for 500,000 tokens at
    an L0 of 64. Raises ValueError for ids outside the vocabulary, empty rows, edges that do not rise from 0 to 1, and
    activations of another width than the SAE's.
    """
    host = Host(model, hook, target, tokenizer)
    vocabulary = token_strings(host.tokenizer, host.vocabulary_size)
    rows = _rows(tokens, len(vocabulary))
    _check(edges, top, per_band, before, after, promoted, rows_at_once)
    F = len(decoder(sae))
    texts = TextSet.of(rows, vocabulary, sources, attribution)
    if activations is not None and len(activations) != len(texts.tokens):
        raise ValueError(f"activations has {len(activations):,} rows, there are {len(texts.tokens):,} tokens.")
    parts, counted, massive = [], 0, 0
    with tqdm(total=len(texts.tokens), desc="Feature index", unit="token", disable=not progress) as bar:
        for first in range(0, len(rows), rows_at_once):
            batch = rows[first : first + rows_at_once]
            known = None
            if activations is not None:
                known = activations[int(texts.starts[first]) : int(texts.starts[first + len(batch)])]
            values, kept, n_massive = _activations(host, batch, exclude_massive, known)
            positions = np.concatenate([np.arange(*texts.starts[i : i + 2]) for i in range(first, first + len(batch))])
            parts += [_active(sae, v, p) for v, p in _pieces(values, positions[kept])]
            counted, massive = counted + int(kept.sum()), massive + n_massive
            bar.update(len(positions))
    if counted == 0:
        raise ValueError("No token counts: each row has its first token only. Give longer rows.")
    active = _by_latent(parts, F)
    arrays = _statistics(active, F) | _examples(active, texts, top, list(edges), per_band, before, after, seed)
    arrays |= _logit_effects(sae, host, len(vocabulary), promoted, progress)
    arrays["direction"] = directions(decoder(sae))
    left_out = f"the first token of each text{f' and {massive:,} massive tokens' if exclude_massive else ''}"
    about: dict[str, Any] = {"hook": host.hook, "target": None if target is None else str(target), "model": host.name}
    about |= {"tokens": counted, "left_out": left_out, "edges": list(map(float, edges))}
    features = FeatureIndex(arrays, texts, {**about, "before": before, "after": after}, host)
    remember(sae, features)
    return features


def _rows(tokens: Any, n_vocabulary: int) -> list[list[int]]:
    if isinstance(tokens, str) or (len(tokens) and isinstance(tokens[0], str)):
        raise ValueError("tokens holds texts, expected token ids. Write [model.to_tokens(text)[0] for text in texts].")
    rows = [row.tolist() if hasattr(row, "tolist") else list(row) for row in tokens]
    if not rows:
        raise ValueError("tokens is empty, expected at least one row of token ids.")
    for i, row in enumerate(rows):
        if not row:
            raise ValueError(f"Row {i} of tokens is empty. Leave it out.")
        wrong = [t for t in row if not isinstance(t, int) or not 0 <= t < n_vocabulary]
        if wrong:
            raise ValueError(
                f"Row {i} of tokens has {str(wrong[0])[:40]}; expected ids from 0 to {n_vocabulary - 1:,}."
            )
    return rows


def _check(edges: Sequence[float], top: int, per_band: int, before: int, after: int, promoted: int, rows: int) -> None:
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise ValueError(f"edges is {list(edges)}, expected shares that rise from 0 to 1, such as {list(EDGES)}.")
    if len(edges) > 100:
        raise ValueError(f"edges has {len(edges)} entries, expected at most 100.")
    lowest = {"top": (top, 1), "per_band": (per_band, 0), "promoted": (promoted, 0), "rows_at_once": (rows, 1)}
    for name, (value, least) in lowest.items():
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}.")
    for name, value in (("before", before), ("after", after)):
        if not 0 <= value <= 127:
            raise ValueError(f"{name} is {value}, expected 0 to 127 tokens.")


# ---------------------------------------------------------------------------------------------------------------------
# Activations


def _activations(
    host: Host, rows: list[list[int]], exclude_massive: bool, known: Float[Tensor, "token d"] | None
) -> tuple[Float[Tensor, "kept d"], Bool[NDArray[Any], " token"], int]:
    """Activations of the tokens that count, which those are among all tokens of the rows, and how many are massive."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = torch.zeros(real.shape, dtype=torch.long)
    padded[real] = torch.tensor([token for row in rows for token in row])
    if known is None:
        values = host.values(padded)
    else:
        values = torch.zeros(*real.shape, known.shape[1], dtype=known.dtype)
        values[real] = known
    count = real.clone()
    count[:, 0] = False
    massive = massive_tokens(values.float().norm(dim=-1).cpu(), count) & exclude_massive
    count &= ~massive
    return values[count.to(values.device)], count[real].numpy(), int(massive.sum())


def _pieces(values: Tensor, positions: NDArray[Any]) -> list[tuple[Tensor, NDArray[Any]]]:
    return [
        (values[i : i + TOKENS_AT_ONCE], positions[i : i + TOKENS_AT_ONCE])
        for i in range(0, len(positions), TOKENS_AT_ONCE)
    ]


def _active(sae: Any, values: Tensor, positions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(latent, position, activation) of what is active, ordered by latent and then by position."""
    f = encode(sae, values).t()
    if not bool(f.isfinite().all()):
        raise ValueError("The SAE's activations hold NaN or infinity here: its weights, or the model's, are broken.")
    latent, token = (f > 0).nonzero(as_tuple=True)
    return (
        latent.numpy().astype(np.int32),
        positions[token.numpy()].astype(np.int32),
        f[latent, token].numpy(),
    )


class _ByLatent:
    """Active tokens by latent: those of latent i are first[i] … first[i + 1], ordered by position."""

    def __init__(self, first: NDArray[np.int64], position: NDArray[np.int32], value: NDArray[np.float32]) -> None:
        self.first, self.position, self.value = first, position, value
        self.latent = np.repeat(np.arange(len(first) - 1), np.diff(first))


def _by_latent(parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], F: int) -> _ByLatent:
    first = np.zeros(F + 1, dtype=np.int64)
    for latent, _, _ in parts:
        first[1:] += np.bincount(latent, minlength=F)
    first = np.cumsum(first)
    position, value, cursor = np.empty(first[-1], np.int32), np.empty(first[-1], np.float32), first[:-1].copy()
    for latent, where, how_much in parts:
        counts = np.bincount(latent, minlength=F)
        begins = np.cumsum(counts) - counts
        to = cursor[latent] + np.arange(len(latent)) - begins[latent]
        position[to], value[to] = where, how_much
        cursor += counts
    parts.clear()
    return _ByLatent(first, position, value)


def _statistics(active: _ByLatent, F: int) -> dict[str, NDArray[Any]]:
    count = np.diff(active.first)
    largest = np.zeros(F, np.float32)
    np.maximum.at(largest, active.latent, active.value)
    total = np.bincount(active.latent, active.value, F)
    bins = np.minimum((active.value / largest[active.latent] * BINS).astype(np.int64), BINS - 1)
    histogram = np.bincount(active.latent * BINS + bins, minlength=F * BINS).reshape(F, BINS)
    some = np.maximum(count, 1)
    return {
        "count": count.astype(np.int32),
        "largest": largest,
        "mean": (total / some).astype(np.float32),
        "histogram": (histogram / some[:, None]).astype(np.float16),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Examples


def _examples(
    active: _ByLatent, texts: TextSet, top: int, edges: list[float], per_band: int, before: int, after: int, seed: int
) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    first_example, position, band, chosen = [0], [], [], []
    text_of = texts.text_of(active.position)
    for first, end in zip(active.first[:-1].tolist(), active.first[1:].tolist(), strict=True):
        order = first + np.argsort(-active.value[first:end], kind="stable")
        picked = [(0, i) for i in _apart(order, active.position, text_of, top, before + after)]
        bounds = np.round(np.array(edges) * len(order)).astype(int)
        for number, (low, high) in enumerate(itertools.pairwise(bounds), start=1):
            which = generator.choice(high - low, min(per_band, high - low), replace=False) if high > low else []
            picked += [(number, int(order[low + i])) for i in sorted(which)]
        band += [number for number, _ in picked]
        position += [int(active.position[i]) for _, i in picked]
        chosen += [(i, first, end) for _, i in picked]
        first_example.append(len(position))
    first_active, offset, value = [0], [], []
    for i, first, end in chosen:
        at, text = int(active.position[i]), int(text_of[i])
        low, high = max(at - before, int(texts.starts[text])), min(at + after + 1, int(texts.starts[text + 1]))
        inside = slice(*(first + np.searchsorted(active.position[first:end], (low, high))))
        offset.append(active.position[inside] - at)
        value.append(active.value[inside])
        first_active.append(first_active[-1] + len(offset[-1]))
    return {
        "first_example": np.array(first_example, np.int32),
        "position": np.array(position, np.int32),
        "band": np.array(band, np.uint8),
        "first_active": np.array(first_active, np.int32),
        "offset": np.concatenate([np.empty(0, np.int8), *offset]).astype(np.int8),
        "value": _stored(np.concatenate([np.empty(0, np.float32), *value])),
    }


def _apart(order: NDArray[Any], position: NDArray[Any], text: NDArray[Any], n: int, apart: int) -> list[int]:
    """The strongest entries of which no two lie in one text within `apart` tokens: one context is shown once."""
    out: list[int] = []
    for i in order[: 50 * n].tolist():
        near = any(text[i] == text[j] and abs(int(position[i]) - int(position[j])) <= apart for j in out)
        if not near:
            out.append(i)
            if len(out) == n:
                break
    return out


def _stored(values: NDArray[np.float32]) -> NDArray[Any]:
    """float16, or float32 where that would lose large or small activations."""
    if len(values) and (values.max() > 6e4 or values.min() < 1e-4):
        return values
    return values.astype(np.float16)


# ---------------------------------------------------------------------------------------------------------------------
# Tokens promoted and suppressed


@torch.no_grad()
def _logit_effects(sae: Any, host: Host, n_words: int, n: int, progress: bool) -> dict[str, NDArray[Any]]:
    """The tokens whose logits a decoder row raises and lowers most, in logits per unit of activation.

    That is W_dec times the final norm's weight times W_U, less its mean over the vocabulary, which no prediction
    depends on; the final norm's division is left out. No tokens where the SAE does not write into the residual stream.
    """
    rows, to_logits = decoder(sae), host.unembedding()
    if to_logits is None or to_logits.shape[0] != rows.shape[1] or n == 0:
        nothing = np.zeros((len(rows), 0), np.int32)
        return {
            k: nothing if "by" not in k else nothing.astype(np.float16)
            for k in ("promoted", "promoted_by", "suppressed", "suppressed_by")
        }
    to_logits = to_logits.float()[:, :n_words]
    to_logits = to_logits - to_logits.mean(1, keepdim=True)
    n = min(n, to_logits.shape[1])
    found: dict[str, list[NDArray[Any]]] = {k: [] for k in ("promoted", "promoted_by", "suppressed", "suppressed_by")}
    small = np.uint16 if n_words <= 1 << 16 else np.int32
    with tqdm(total=len(rows), desc="Promoted tokens", unit="latent", disable=not progress) as bar:
        for part in rows.split(256):
            effect = part.to(to_logits.device) @ to_logits
            for kind, largest in (("promoted", True), ("suppressed", False)):
                best = effect.topk(n, largest=largest)
                found[kind].append(best.indices.cpu().numpy().astype(small))
                found[f"{kind}_by"].append(best.values.cpu().numpy().astype(np.float32))
            bar.update(len(part))
    out = {kind: np.concatenate(arrays) for kind, arrays in found.items()}
    return {
        kind: a if a.dtype.kind != "f" or np.abs(a).max() > 6e4 else a.astype(np.float16) for kind, a in out.items()
    }
