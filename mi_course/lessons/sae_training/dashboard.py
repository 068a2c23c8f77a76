"""A row of a dashboard: how often a latent is active, where most strongly, and which tokens it makes likelier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _dashboard_row(f: Tensor, latent: int, W_dec: Tensor, W_U: Tensor, n: int) -> dict[str, Any]:
    """Oracle: by sorting lists of pairs."""
    strengths = f[:, latent].tolist()
    active = [(-strength, token) for token, strength in enumerate(strengths) if strength > 0]
    d, vocabulary = W_U.shape
    logits = [sum(W_dec[latent, i].item() * W_U[i, v].item() for i in range(d)) for v in range(vocabulary)]
    return {
        "density": len(active) / len(strengths),
        "strongest": [token for _, token in sorted(active)[:n]],
        "promotes": sorted(range(vocabulary), key=lambda v: (-logits[v], v))[:n],
    }


def _whole(draw: RandomInputs, *shape: int) -> Tensor:
    """Small whole numbers, so that sums are exact and ties are ties."""
    return draw.integers(-4, 5, *shape).float()


def _arguments(
    draw: RandomInputs,
    tokens: int,
    F: int,
    d: int,
    vocabulary: int,
    share: float,
    exact: bool = False,
    size: float = 1.0,
) -> list[Any]:
    latent = draw.integer(0, F)
    if F > 2:  # neither the first nor the last
        latent = draw.integer(1, F - 1)
    there = draw.uniform(tokens, F) < share
    if exact:
        f = there * draw.integers(1, 4, tokens, F).float()
        return [f, latent, _whole(draw, F, d), _whole(draw, d, vocabulary)]
    f = size * there * draw.uniform(tokens, F, low=0.2, high=5.0)
    return [f, latent, draw.normal(F, d), draw.normal(d, vocabulary)]


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(*_arguments(draw, tokens, F, d, vocabulary, share), n, about=f"{tokens} tokens, {F} latents, n = {n}")
        for tokens, F, d, vocabulary, share, n in (
            (30, 7, 5, 12, 0.4, 4),
            (25, 5, 6, 20, 0.6, 6),
            (40, 9, 4, 15, 0.3, 3),
            (20, 6, 5, 11, 0.9, 1),
        )
    ]


def _rare(draw: RandomInputs, size: str) -> list[Case]:
    """Fewer active tokens than n; none; one token; one latent; one dimension; ties."""
    rare = _arguments(draw, 30, 6, 5, 14, 0.5)
    rare[0][:, rare[1]] = 0.0
    places = draw.permutation(30)[:2]
    rare[0][places[0], rare[1]], rare[0][places[1], rare[1]] = 0.4, 1.9
    never = _arguments(draw, 20, 6, 5, 14, 0.5)
    never[0][:, never[1]] = 0.0
    one = _arguments(draw, 1, 4, 5, 9, 1.0)
    small = _arguments(draw, 12, 5, 4, 10, 0.5, size=1e-4)
    noisy = _arguments(draw, 20, 6, 5, 14, 0.4)
    noisy[0][noisy[0] == 0] = -1e-5  # what subtraction in float32 leaves
    return [
        case(*noisy, 12, about="values a little below 0, which are not active"),
        case(*rare, 5, about="a latent that is active on two tokens, n = 5"),
        case(*never, 3, about="a latent that is never active"),
        case(*one, 3, about="a single token"),
        case(*_arguments(draw, 15, 1, 4, 8, 0.6), 3, about="a single latent"),
        case(*_arguments(draw, 15, 5, 1, 8, 0.6), 3, about="a single dimension"),
        case(*small, 4, about="tiny activations"),
        case(*_arguments(draw, 25, 5, 3, 12, 0.7, exact=True), 7, about="many equal activations and logits"),
        case(*_arguments(draw, 900, 3, 2, 900, 0.7, exact=True), 40, about="a long list of equal ones"),
        case(*_arguments(draw, 9, 4, 3, 2, 0.7, exact=True), 6, about="fewer tokens in the vocabulary than n"),
    ]


def _with(**pieces: Callable[[Tensor, int, Tensor, Tensor, int], Any]) -> Callable[..., dict[str, Any]]:
    """A wrong row, of which these entries are computed in another way."""

    def row(f: Tensor, latent: int, W_dec: Tensor, W_U: Tensor, n: int) -> dict[str, Any]:
        right = _dashboard_row(f, latent, W_dec, W_U, n)
        return {**right, **{name: piece(f, latent, W_dec, W_U, n) for name, piece in pieces.items()}}

    return row


def _top(values: Tensor, n: int) -> list[int]:
    return values.argsort(descending=True, stable=True)[:n].tolist()


DASHBOARD_ROW = Exercise(
    id="sae_training.dashboard_row",
    task="What a dashboard shows of one latent: the share of tokens on which it is active, the tokens on which it is strongest, and the tokens that its decoder row makes likelier.",
    minutes=8,
    difficulty=2,
    oracle=_dashboard_row,
    fixed={
        "f[1]": "the latent must exist; another case has a single one",
        "W_dec[0]": "the latent must exist; another case has a single one",
        "result>=0": "a share, and numbers of tokens",
        "result<=1": "a share, and numbers of tokens",
        "result=large": "a share, and numbers of tokens",
    },
    parts=(
        Part("common latents", 2, _cases),
        Part("rare latents, one that is never active, ties, axes of size one", 2, _rare),
    ),
    mistakes=(
        Mistake(
            "inactive_ones_listed",
            "`strongest` contains tokens on which the latent is not active at all. Where it is active on fewer than n tokens, the list is shorter.",
            _with(strongest=lambda f, i, W, U, n: _top(f[:, i], n)),
        ),
        Mistake(
            "weakest_first",
            "`strongest` is in the wrong order: the strongest token comes first.",
            _with(strongest=lambda f, i, W, U, n: _dashboard_row(f, i, W, U, n)["strongest"][::-1]),
        ),
        Mistake(
            "weakest_active",
            "`strongest` holds the tokens on which the latent is active and *weakest*. Sort descending.",
            _with(
                strongest=lambda f, i, W, U, n: [t for t in f[:, i].argsort(stable=True).tolist() if f[t, i] > 0][:n]
            ),
        ),
        Mistake(
            "values_returned",
            "`strongest` holds activations. The numbers of the tokens are asked for, the rows of f.",
            _with(
                strongest=lambda f, i, W, U, n: [float(v) for v in f[:, i].sort(descending=True).values[:n] if v > 0]
            ),
        ),
        Mistake(
            "rows_for_columns",
            "You looked at *token* number `latent`, a row of f. A latent is a column: `f[:, latent]`.",
            lambda f, i, W, U, n: {
                **_dashboard_row(f, i, W, U, n),
                "density": float((f[i % len(f)] > 0).float().mean()),
                "strongest": [t for t in _top(f[i % len(f)], n) if f[i % len(f), t] > 0],
            },
        ),
        Mistake(
            "density_of_all",
            "`density` is that of all latents together. Only this latent's column counts.",
            _with(density=lambda f, i, W, U, n: float((f > 0).float().mean())),
        ),
        Mistake(
            "density_is_a_count",
            "`density` is a number of tokens. Divide by the number of all tokens.",
            _with(density=lambda f, i, W, U, n: int((f[:, i] > 0).sum())),
        ),
        Mistake(
            "density_is_a_mean",
            "`density` is the mean activation. How often the latent is active is asked for, whatever its strength.",
            _with(density=lambda f, i, W, U, n: float(f[:, i].mean())),
        ),
        Mistake(
            "promotes_by_size",
            "`promotes` is chosen by the absolute value of the logits, so it contains tokens that become *less* likely.",
            _with(promotes=lambda f, i, W, U, n: _top((W[i] @ U).abs(), n)),
        ),
        Mistake(
            "suppresses",
            "`promotes` holds the tokens with the lowest logits: those that the latent suppresses.",
            _with(promotes=lambda f, i, W, U, n: _top(-(W[i] @ U), n)),
        ),
        Mistake(
            "promotes_lowest_first",
            "`promotes` is in the wrong order: the token with the highest logit comes first.",
            _with(promotes=lambda f, i, W, U, n: _top(W[i] @ U, n)[::-1]),
        ),
        Mistake(
            "promotes_of_all",
            "`promotes` is about the sum of all decoder rows. Take the row of this latent.",
            _with(promotes=lambda f, i, W, U, n: _top(W.sum(0) @ U, n)),
        ),
        Mistake(
            "promotes_by_cosine",
            "`promotes` is ranked by cosine. Logits are asked for, and they grow with the length of a token's column of W_U too.",
            _with(promotes=lambda f, i, W, U, n: _top(W[i] @ torch.nn.functional.normalize(U, dim=0), n)),
        ),
    ),
    hints=(
        "`f[:, latent]` holds the latent's activation on each token. Its mean over `> 0` is the density; sorting it gives the rest of the first half.",
        "`argsort(descending=True, stable=True)` keeps equal values in their order. Keep the first n, and of these only the ones that are active.",
        "The latent writes `W_dec[latent]`, and the unembedding reads it: `logits = W_dec[latent] @ W_U` has an entry for each token of the vocabulary.",
    ),
    reveal="Two looks at a latent: what makes it active (its top tokens), and what it does to the next token (its direct effect on the logits, here without the final norm and without the layers in between). Neither alone is an explanation. Top tokens show a latent at its clearest and hide the rest of its range; that is why the density belongs beside them.",
)
