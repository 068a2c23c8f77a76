"""Absorption, where the truth is planted: a parent's latent falls silent because a child's latent speaks for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mi_course.interp.sae.metrics import _cosines, _unit

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

COMPENSATED = 0.4  # share of the parent that one other latent must bring in; that of SAEBench


class Absorption(NamedTuple):
    """What became of one child and its parent."""

    child: int
    parent: int
    latent: int
    """The parent's latent: the one whose decoder row points most nearly its way."""
    absorbed: float
    """Share of the rows with the child in which the parent's latent is silent and one other speaks for it."""
    missed: float
    """Share of the rows with the parent but none of its children in which the latent is silent: the control."""


def absorption(
    f: Float[Tensor, "n F"],
    W_dec: Float[Tensor, "F d"],
    codes: Float[Tensor, "n G"],
    dictionary: Float[Tensor, "G d"],
    parents: Sequence[int | None],
) -> list[Absorption]:
    """For each feature that has a parent, how often its presence silences the parent's latent.

    A row counts as absorbed when parent and child are present, the parent's latent is zero, and some other latent
    contributes at least 0.4 of the parent's code along the parent's direction: full absorption, as in Chanin et al.
    2024 and SAEBench, with the planted truth in the place of their probes. A share near 0 in `absorbed` with a share
    near 1 in `missed` is a latent that found nothing, not an absorbed one.
    ValueError for shapes that do not fit, or a child that is present in no row.
    """
    if f.shape != (len(codes), len(W_dec)) or codes.shape[1] != len(dictionary) or len(parents) != len(dictionary):
        raise ValueError(
            f"f is {tuple(f.shape)}, W_dec {tuple(W_dec.shape)}, codes {tuple(codes.shape)}, dictionary "
            f"{tuple(dictionary.shape)}, parents {len(parents)}; expected (n, F), (F, d), (n, G), (G, d) and G."
        )
    best = _cosines(W_dec, dictionary).argmax(dim=0)
    directions = _unit(dictionary.double())
    found = []
    for child, parent in enumerate(parents):
        if parent is None:
            continue
        latent = int(best[parent])
        brings = f.double() * (W_dec.double() @ directions[parent])
        brings[:, latent] = 0
        silent = f[:, latent] <= 0
        spoken_for = brings.amax(dim=1) >= COMPENSATED * codes[:, parent].double()
        with_child = (codes[:, child] > 0) & (codes[:, parent] > 0)
        siblings = [other for other, theirs in enumerate(parents) if theirs == parent]
        alone = (codes[:, parent] > 0) & (codes[:, siblings] == 0).all(dim=1)
        if not bool(with_child.any()):
            raise ValueError(f"Feature {child} is present in no row together with its parent {parent}. Draw more rows.")
        absorbed = float((silent & spoken_for)[with_child].double().mean())
        missed = float(silent[alone].double().mean()) if bool(alone.any()) else float("nan")
        found.append(Absorption(child, parent, latent, absorbed, missed))
    return found
