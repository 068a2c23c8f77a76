"""Steering along the map: the least change after which the stream reads as another belief."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref

_SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}


def _hook(draw: RandomInputs) -> object:
    return hook_ref(model_ref(_SMALL, 1), f"blocks.{draw.integer(0, 2)}.hook_resid_post")


def _belief_intervention(resid: Tensor, hook: object, A: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Oracle: the pseudo-inverse from the eigenvectors of AᵀA, in double precision, one vector at a time."""
    A64, b64 = A.double(), b.double()
    values, vectors = torch.linalg.eigh(A64.T @ A64)
    kept = values > 1e-8 * values.max().clamp(min=1e-30)
    wanted = target.expand(*resid.shape[:2], -1).double()
    out = resid.clone()
    for i in range(resid.shape[0]):
        for p in range(resid.shape[1]):
            missing = wanted[i, p] - (resid[i, p].double() @ A64 + b64)
            change = torch.zeros(resid.shape[2], dtype=torch.double)
            for value, vector in zip(values[kept], vectors.T[kept], strict=True):
                change += (missing @ vector) / value * (A64 @ vector)
            out[i, p] = (resid[i, p].double() + change).to(resid.dtype)
    return out


def _map(draw: RandomInputs, d: int, states: int) -> tuple[Tensor, Tensor]:
    """A map whose readings sum to 1, as those of a map fitted to beliefs do: A has rank states - 1."""
    A, b = draw.normal(d, states), draw.normal(states).softmax(-1)
    return A - A.mean(1, keepdim=True), b


def _belief_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, pos, d, states in ((3, 5, 7, 4), (1, 4, 8, 3), (4, 1, 9, 5)):
        A, b = _map(draw, d, states)
        args = (draw.normal(batch, pos, d, mean=0.3), _hook(draw), A, b, draw.normal(states).softmax(-1))
        about = f"batch {batch}, {pos} positions, {states} states; readings sum to 1"
        cases.append(case(*args, driver="hook", about=about, rtol=1e-3, atol=1e-4))
    return cases


def _shape_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for shape in ((3, 4, 3), (3, 1, 3), (4, 3), (1, 3)):
        A, b = _map(draw, 6, 3)
        args = (draw.normal(3, 4, 6), _hook(draw), A, b, draw.normal(*shape).softmax(-1))
        cases.append(case(*args, driver="hook", about=f"targets of shape {list(shape)}", rtol=1e-3, atol=1e-4))
    return cases


def _other_cases(draw: RandomInputs, size: str) -> list[Case]:
    full = (draw.normal(2, 3, 6), _hook(draw), draw.normal(6, 4), draw.normal(4), draw.normal(4))
    few = (draw.normal(2, 3, 2), _hook(draw), draw.normal(2, 5), draw.normal(5), draw.normal(5))
    single = (draw.normal(2, 3, 5), _hook(draw), draw.normal(5, 1), draw.normal(1), draw.normal(2, 3, 1))
    slim = (draw.normal(2, 3, 1), _hook(draw), draw.normal(1, 4), draw.normal(4), draw.normal(4))
    abouts = (
        "a map of full rank",
        "two dimensions that cannot reach five numbers",
        "a single number to read",
        "a stream of one dimension",
    )
    return [
        case(*args, driver="hook", about=about, rtol=1e-3, atol=1e-4)
        for args, about in zip((full, few, single, slim), abouts, strict=True)
    ]


_Change = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _inverse(A: Tensor) -> Tensor:
    return torch.linalg.pinv(A.double(), rtol=1e-4).to(A.dtype)


def _changed(change: _Change) -> Callable[[Tensor, object, Tensor, Tensor, Tensor], Tensor]:
    return lambda resid, hook, A, b, target: change(resid, A, b, target)


def _only(where: tuple) -> Callable[[Tensor, object, Tensor, Tensor, Tensor], Tensor]:
    def hook_function(resid: Tensor, hook: object, A: Tensor, b: Tensor, target: Tensor) -> Tensor:
        out = resid.clone()
        out[where] = _belief_intervention(resid, hook, A, b, target)[where]
        return out

    return hook_function


def _lost(resid: Tensor, hook: object, A: Tensor, b: Tensor, target: Tensor) -> None:
    _belief_intervention(resid, hook, A, b, target)


BELIEF_INTERVENTION = Exercise(
    id="latent_structure.belief_intervention",
    fixed={
        "A[0]": "cut by hand, where d is two",
        "resid[2]": "cut by hand, where d is two",
    },
    task="A hook that makes the least change to the residual stream after which the map reads `target`.",
    minutes=12,
    difficulty=3,
    oracle=_belief_intervention,
    parts=(
        Part("maps to beliefs, whose readings sum to 1", 2, _belief_cases),
        Part("one target for all, or one for each prompt or position", 1, _shape_cases),
        Part("maps of full rank, targets that cannot be reached", 1, _other_cases),
    ),
    mistakes=(
        Mistake(
            "transposed_for_inverse",
            "You went back with Aᵀ. That is the direction in which the reading grows, but by another amount: the map then does not read the target. Use the pseudo-inverse of A.",
            _changed(lambda resid, A, b, target: resid + (target - resid @ A - b) @ A.T),
        ),
        Mistake(
            "offset_forgotten",
            "You left out b. What the map reads is x A + b, and it is this that must become the target.",
            _changed(lambda resid, A, b, target: resid + (target - resid @ A) @ _inverse(A)),
        ),
        Mistake(
            "overwritten",
            "The map reads the target, and everything else that the stream held is gone: you replaced it by the smallest vector that reads so. Add a *change* to the stream.",
            _changed(lambda resid, A, b, target: ((target - b) @ _inverse(A)).expand_as(resid).clone()),
        ),
        Mistake(
            "target_added",
            "You added the target to what was read there before. The change is target minus the present reading.",
            _changed(lambda resid, A, b, target: resid + (target - b) @ _inverse(A)),
        ),
        Mistake(
            "wrong_sign",
            "You subtracted the change: the reading moves away from the target by as much.",
            _changed(lambda resid, A, b, target: resid - (target - resid @ A - b) @ _inverse(A)),
        ),
        Mistake(
            "overshot",
            "The reading moved past the target by as much as it had to go. If you changed `resid` in place and returned the sum as well, the change was made twice.",
            _changed(lambda resid, A, b, target: resid + 2 * (target - resid @ A - b) @ _inverse(A)),
        ),
        Mistake(
            "removed_only",
            "You took the present belief out of the stream and put nothing in its place: the map reads b everywhere.",
            _changed(lambda resid, A, b, target: resid - resid @ A @ _inverse(A)),
        ),
        Mistake(
            "mean_change",
            "Every position got the same change, that of the mean stream. Each vector has a reading of its own, and needs its own change.",
            _changed(lambda resid, A, b, target: resid + (target - resid.mean((0, 1)) @ A - b) @ _inverse(A)),
        ),
        Mistake(
            "last_position_only",
            "Only the last position was changed. Change every position of every prompt.",
            _only((slice(None), -1)),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch was changed.",
            _only((0,)),
        ),
        Mistake(
            "nothing_comes_back",
            "Nothing changed. A hook's change counts if it is made in `resid` itself or if the new tensor is *returned*.",
            _lost,
        ),
    ),
    hints=(
        "`missing = target - (resid @ A + b)` is by how much each reading must move. You want the shortest `change` with `change @ A` equal to it.",
        "The pseudo-inverse gives the shortest solution: `missing @ torch.linalg.pinv(A, rtol=1e-4)`. Its shape is that of `resid`.",
        "Return `resid + missing @ torch.linalg.pinv(A, rtol=1e-4)`. `target` broadcasts by itself.",
    ),
    reveal="The change lies in the span of A's columns, so whatever the map does not read stays as it was. The control follows from it: a change of the same length in a direction that the map cannot see.",
)
