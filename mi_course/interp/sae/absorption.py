"""Absorption on planted data: a parent's latent is inactive because a child's latent stands for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from mi_course.interp.sae.metrics import cosines, unit_rows

if TYPE_CHECKING:
    from jaxtyping import Float

COMPENSATED = 0.4  # share of the parent's code that one other latent must contribute; from SAEBench


class Absorption(NamedTuple):
    """Absorption of one parent into one of its children."""

    child: int
    parent: int
    latent: int
    """The parent's latent: the one whose decoder row has the largest cosine with it."""
    absorbed: float
    """Share of the rows with the child in which the parent's latent is inactive and one other replaces it."""
    missed: float
    """Share of the rows with the parent but none of its children in which the latent is inactive: the control."""


def absorption(
    f: Float[Tensor, "n F"],
    W_dec: Float[Tensor, "F d"],
    codes: Float[Tensor, "n G"],
    dictionary: Float[Tensor, "G d"],
    parents: Sequence[int | None],
) -> list[Absorption]:
    """For each feature that has a parent, how often its presence makes the parent's latent inactive.

    A row counts as absorbed when parent and child are present, the parent's latent is zero, and some other latent
    contributes at least 0.4 of the parent's code along the parent's direction: full absorption, as in Chanin et al.
    2024 and SAEBench, with the planted truth in place of their probes. A share near 0 in `absorbed` with a share near 1
    in `missed` is a latent that found nothing, not an absorbed one.
    ValueError for shapes that do not fit, or a child that is present in no row.
    """
    if f.shape != (len(codes), len(W_dec)) or codes.shape[1] != len(dictionary) or len(parents) != len(dictionary):
        raise ValueError(
            f"f is {tuple(f.shape)}, W_dec {tuple(W_dec.shape)}, codes {tuple(codes.shape)}, dictionary "
            f"{tuple(dictionary.shape)}, parents {len(parents)}; expected (n, F), (F, d), (n, G), (G, d) and G."
        )
    best = cosines(W_dec, dictionary).argmax(dim=0)
    directions = unit_rows(dictionary.double())
    results = []
    for child, parent in enumerate(parents):
        if parent is None:
            continue
        latent = int(best[parent])
        contribution = f.double() * (W_dec.double() @ directions[parent])
        contribution[:, latent] = 0
        inactive = f[:, latent] <= 0
        replaced = contribution.amax(dim=1) >= COMPENSATED * codes[:, parent].double()
        with_child = (codes[:, child] > 0) & (codes[:, parent] > 0)
        siblings = [other for other, theirs in enumerate(parents) if theirs == parent]
        alone = (codes[:, parent] > 0) & (codes[:, siblings] == 0).all(dim=1)
        if not bool(with_child.any()):
            raise ValueError(f"Feature {child} is present in no row together with its parent {parent}. Draw more rows.")
        absorbed = float((inactive & replaced)[with_child].double().mean())
        missed = float(inactive[alone].double().mean()) if bool(alone.any()) else float("nan")
        results.append(Absorption(child, parent, latent, absorbed, missed))
    return results
