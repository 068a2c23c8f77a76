"""A label of a latent as a claim that can be wrong: what it predicts, and how well that holds.

A label is a rule that says for a text, or for each of its tokens, whether the latent should be active there. Detection
asks which whole contexts are active; fuzzing asks whether the marked tokens are the right ones (Paulo et al. 2024,
section 3.2, where a language model applies the label; here the label applies itself).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


def detection_score(predicted: Bool[Tensor, " context"], fired: Bool[Tensor, " context"]) -> float:
    """Balanced accuracy of a label's predictions: the mean of the accuracies on active and on inactive contexts.

    0.5 where one of the two kinds is absent, since nothing can be said there.

    >>> detection_score(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
    0.75
    """
    if fired.all() or not fired.any():
        return 0.5
    hits, false = predicted[fired].double().mean(), predicted[~fired].double().mean()
    return float((hits + 1 - false) / 2)


def fuzzing_score(
    matched: Bool[Tensor, "example token"], marked: Bool[Tensor, "example token"], right: Bool[Tensor, " example"]
) -> float:
    """Balanced accuracy with which a label tells right marks from wrong ones.

    matched: tokens to which the label applies. marked: tokens that are marked as active. right: whether the latent is
    active there, or the marks were put elsewhere. An example is taken for right if every marked token is matched.
    """
    return detection_score((matched | ~marked).all(dim=1), right)


def contains_any(texts: Iterable[str], pieces: Sequence[str]) -> Bool[Tensor, " text"]:
    """Whether each text contains one of the pieces, without regard to case.

    >>> contains_any(["The cat", "a dog"], ["CAT", " mouse"]).tolist()
    [True, False]
    """
    lower = [piece.lower() for piece in pieces]
    return torch.tensor([any(piece in text.lower() for piece in lower) for text in texts], dtype=torch.bool)


def tokens_matched(words: Sequence[str], pieces: Sequence[str]) -> Bool[Tensor, " token"]:
    """The tokens of a text that any occurrence of one of the pieces touches, without regard to case.

    words: the tokens as strings, which together are the text.

    >>> tokens_matched(["The", " Gol", "den", " Gate"], ["golden"]).tolist()
    [False, True, True, False]
    """
    lower = [word.lower() for word in words]
    text = "".join(lower)
    hit = torch.zeros(len(text) + 1, dtype=torch.bool)
    for piece in map(str.lower, pieces):
        at = text.find(piece) if piece else -1
        while at >= 0:
            hit[at : at + len(piece)] = True
            at = text.find(piece, at + 1)
    ends = torch.tensor([0, *(len(word) for word in lower)]).cumsum(0).tolist()
    return torch.tensor([bool(hit[a:b].any()) for a, b in pairwise(ends)], dtype=torch.bool)


def elsewhere(
    f: Float[Tensor, "example token"], marked: Bool[Tensor, "example token"], seed: int
) -> Bool[Tensor, "example token"]:
    """As many marks in each example, on random tokens where the latent is not active: the wrong examples of fuzzing.

    Fewer where there are not enough such tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.zeros_like(marked)
    for row, activations, marks in zip(wrong, f, marked, strict=True):
        free = (activations <= 0).nonzero().flatten()
        row[free[torch.randperm(len(free), generator=generator)[: int(marks.sum())]]] = True
    return wrong


def peak_label(words: Sequence[str], f: Float[Tensor, " token"], n: int = 10) -> list[str]:
    """What the top of the list suggests: the different tokens among the n on which the latent is most active.

    White space and single characters are left out, since they occur everywhere.
    """
    order = f.argsort(descending=True, stable=True)[:n]
    tokens = [words[i].lower() for i in order.tolist() if f[i] > 0]
    return list(dict.fromkeys(token for token in tokens if len(token.strip()) > 1))


def fit_label(contexts: Sequence[Sequence[str]], fired: Bool[Tensor, " context"], n: int = 12) -> list[str]:
    """A label that is fitted: token by token, the piece that raises the detection score most on these contexts.

    contexts: the tokens of each, as text. It stops when no piece that occurs in three active contexts adds 0.01:
    whoever goes on fits noise. Even so, a label that was fitted must be scored on other contexts.
    """
    lower = ["".join(words).lower() for words in contexts]
    active = fired.nonzero().flatten().tolist()
    counts = Counter(token for i in active for token in {word.lower() for word in contexts[i]})
    pieces = [piece for piece, count in counts.items() if count > 2 and len(piece.strip()) > 1]
    if not pieces:
        return []
    has = torch.tensor([[piece in text for piece in pieces] for text in lower], dtype=torch.bool)
    label: list[str] = []
    predicted, score = torch.zeros(len(lower), dtype=torch.bool), 0.5
    while len(label) < n:
        either = predicted[:, None] | has
        scores = (either[fired].double().mean(dim=0) + 1 - either[~fired].double().mean(dim=0)) / 2
        best = int(scores.argmax())
        if not float(scores[best]) > score + 0.01:
            break
        score, predicted = float(scores[best]), either[:, best]
        label.append(pieces[best])
    return label
