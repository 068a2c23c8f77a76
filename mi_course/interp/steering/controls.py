"""Controls for steering vectors: random directions, directions with the data's covariance, shuffled labels.

One random vector is not a control: at layer 14 of SmolLM2 single ones move the log-odds by 1 to 3 nats, either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mi_course.interp.steering._checks import check_rows, check_vector
from mi_course.interp.steering.directions import difference_of_means

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def random_controls(vector: Float[Tensor, " d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """n independent directions, uniform on the sphere of the vector's norm. The global random state is left alone.

    >>> random_controls(torch.tensor([3.0, 4.0]), n=2, seed=0).norm(dim=1).tolist()
    [5.0, 5.0]
    """
    check_vector(vector)
    noise = torch.randn(n, vector.shape[-1], generator=torch.Generator().manual_seed(seed))
    return with_norm(noise.to(vector), float(vector.norm()))


def matched_controls(
    vector: Float[Tensor, " d"], activations: Float[Tensor, "token d"], n: int, seed: int
) -> Float[Tensor, "n d"]:
    """n directions drawn with the covariance of these activations, each scaled to the vector's norm.

    A harder control than `random_controls`: most of a random direction lies where the model never writes, and these lie
    where it does. Take the activations from `token_activations` of unrelated text, many more tokens than n.
    """
    check_vector(vector)
    check_rows(activations, "activations")
    # A random mixture of centered samples has their covariance, so the d × d matrix need not be computed or factored.
    centered = (activations - activations.mean(dim=0)).to(vector)
    weights = torch.randn(n, len(centered), generator=torch.Generator().manual_seed(seed)).to(vector)
    return with_norm(weights @ centered / len(centered) ** 0.5, float(vector.norm()))


def shuffled_labels(labels: Bool[Tensor, " m"], n: int, seed: int, *, balanced: bool = True) -> Bool[Tensor, "n m"]:
    """n shuffles of the labels, each with as many True as before.

    balanced: each shuffle's True and False sides hold the two true classes in the same proportion, as nearly as whole
        numbers allow, so that their difference carries none of the concept (with classes of even size). An ordinary
        permutation of few examples often puts most of one class on one side, and its difference of means then *is* the
        concept, with either sign.
    """
    labels = labels.bool().cpu()
    yes, no = labels.nonzero().flatten(), (~labels).nonzero().flatten()
    if not len(yes) or not len(no):
        raise ValueError("Labels of one class only cannot be shuffled: both classes are needed.")
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(n, len(labels), dtype=torch.bool)
    for row in out:
        if not balanced:
            row[torch.randperm(len(labels), generator=generator)[: len(yes)]] = True
            continue
        exact = len(yes) ** 2 / len(labels)
        # Rounded up or down at random, so that neither sign is favored.
        kept = int(exact + float(torch.rand((), generator=generator)))
        row[yes[torch.randperm(len(yes), generator=generator)[:kept]]] = True
        row[no[torch.randperm(len(no), generator=generator)[: len(yes) - kept]]] = True
    return out


def shuffle_controls(
    activations: Float[Tensor, "m d"],
    labels: Bool[Tensor, " m"],
    n: int,
    seed: int,
    *,
    balanced: bool = True,
    norm: float | None = None,
) -> Float[Tensor, "n d"]:
    """The difference of means under n shuffles of the labels, scaled to `norm` if one is given.

    Unscaled, they are shorter than the real one, which is itself a result. Give `norm` to compare directions alone.
    """
    check_rows(activations, "activations")
    shuffles = shuffled_labels(labels, n, seed, balanced=balanced)
    vectors = torch.stack(
        [difference_of_means(activations[s], activations[~s]) for s in shuffles.to(activations.device)]
    )
    return vectors if norm is None else with_norm(vectors, norm)


def with_norm(vectors: Float[Tensor, "... d"], norm: float) -> Float[Tensor, "... d"]:
    """The same directions with this norm; a zero vector stays zero.

    >>> with_norm(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), 3.0).tolist()
    [[0.0, 3.0], [0.0, 0.0]]
    """
    norms = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(norms > 0, norms, torch.ones_like(norms)) * norm
