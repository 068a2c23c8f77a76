"""Adding a direction to activations while the model runs, and taking one out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref

_SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}


def _hook(draw: RandomInputs) -> object:
    return hook_ref(model_ref(_SMALL, 1), f"blocks.{draw.integer(0, 2)}.hook_resid_post")


# ---------------------------------------------------------------------------------------------------------------------
# add_vector


def _add_vector(resid: Tensor, hook: object, vector: Tensor, coefficient: float, start: int) -> Tensor:
    """Oracle: every number by hand."""
    out = resid.clone()
    batch, pos, d = resid.shape
    for b in range(batch):
        for p in range(pos):
            for i in range(d):
                if p >= start:
                    out[b, p, i] = float(resid[b, p, i]) + coefficient * float(vector[i])
    return out


def _add_cases(starts: tuple[int, ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for start, (batch, pos, d) in zip(starts, ((3, 6, 4), (2, 5, 5), (4, 4, 4)), strict=False):
            # Not 1 or 2, where a square or a doubling would not show.
            coefficient = draw.number(0.4, 0.8) if draw.integer(0, 2) else -draw.number(2.4, 3.0)
            resid, vector = draw.normal(batch, pos, d, mean=0.3), draw.normal(d, std=2.0)
            about = f"batch {batch}, {pos} positions, coefficient {coefficient:.2f}, start {start}"
            args = (resid, _hook(draw), vector, coefficient, start)
            cases.append(case(*args, driver="hook", about=about))
        args = (draw.normal(2, 3, 4), _hook(draw), draw.normal(4), 0.0, 0)
        return [*cases, case(*args, driver="hook", about="a coefficient of 0")]

    return cases


def _added(where: Callable[[Tensor, int], Any], factor: Callable[[float], float] = lambda c: c) -> Callable:
    """A wrong add_vector: other places, or another factor."""

    def add(resid: Tensor, hook: object, vector: Tensor, coefficient: float, start: int) -> Tensor:
        out = resid.clone()
        out[where(resid, start)] += factor(coefficient) * vector
        return out

    return add


def _from(resid: Tensor, start: int) -> tuple:
    return (slice(None), slice(start, None))


def _forgotten(resid: Tensor, hook: object, vector: Tensor, coefficient: float, start: int) -> None:
    _add_vector(resid, hook, vector, coefficient, start)


def _unit_added(resid: Tensor, hook: object, vector: Tensor, coefficient: float, start: int) -> Tensor:
    return _add_vector(resid, hook, vector / vector.norm(), coefficient, start)


ADD_VECTOR = Exercise(
    id="steering_vectors.add_vector",
    revision=2,
    task="A hook that adds coefficient · vector at every position from `start` on, in every prompt of the batch.",
    minutes=6,
    difficulty=1,
    oracle=_add_vector,
    parts=(
        Part("from a position on, in the whole batch", 2, _add_cases((2, 1, 0))),
        Part("a start past the end changes nothing", 1, _add_cases((6, 3, 9))),
    ),
    mistakes=(
        Mistake(
            "added_twice",
            "The vector is added twice. A change in place (`resid += …`) is already made when you return `resid + …`. The numbers look fine, "
            "and belong to twice the coefficient.",
            _added(_from, lambda c: 2 * c),
        ),
        Mistake(
            "coefficient_squared",
            "The coefficient comes in twice, as its square: negative coefficients then steer the positive way. Scale the vector once.",
            _added(_from, lambda c: c * c),
        ),
        Mistake(
            "coefficient_ignored",
            "You added the vector itself. Multiply it by the coefficient.",
            _added(_from, lambda c: 1.0),
        ),
        Mistake(
            "subtracted",
            "You subtracted the vector: the sign is flipped.",
            _added(_from, lambda c: -c),
        ),
        Mistake(
            "unit_length",
            "You scaled the vector to length 1 first. Its length belongs to it: coefficient 1 means the distance between the two classes.",
            _unit_added,
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch is steered. Begin the index with `:` for all of them.",
            _added(lambda resid, start: (0, slice(start, None))),
        ),
        Mistake(
            "one_token_late",
            "Your steering begins one position late, at start + 1. Position `start` itself is steered, too.",
            _added(lambda resid, start: (slice(None), slice(start + 1, None))),
        ),
        Mistake(
            "last_position_only",
            "Only the last position is steered. What earlier positions hold is read by later attention: steer every position from `start` on.",
            _added(lambda resid, start: (slice(None), -1)),
        ),
        Mistake(
            "start_only",
            "Only position `start` is steered. It is the first of those that are.",
            _added(lambda resid, start: (slice(None), slice(start, start + 1))),
        ),
        Mistake(
            "before_start",
            "You steered the positions *before* start. It is from `start` on: `resid[:, start:]`.",
            _added(lambda resid, start: (slice(None), slice(None, start))),
        ),
        Mistake(
            "start_ignored",
            "Every position is steered, those before `start` too. Position 0 is BOS, an attention sink, and is best left alone.",
            _added(lambda resid, start: (slice(None), slice(None))),
        ),
        Mistake(
            "start_pulled_back",
            "A start past the end steers your last position. There is no such position, so nothing changes.",
            _added(lambda resid, start: (slice(None), slice(min(start, resid.shape[1] - 1), None))),
        ),
        Mistake(
            "nothing_comes_back",
            "Nothing changed. A hook's change counts if it is made in `resid` itself or if the new tensor is *returned*; what is changed in a copy that is not returned is lost.",
            _forgotten,
        ),
    ),
    hints=(
        "The axes of `resid` are [batch, pos, d]. Which slice of the second one begins at `start`?",
        "`resid[:, start:]` is empty if start lies past the end, and adding to an empty slice changes nothing.",
        "`resid[:, start:] += coefficient * vector`, then return `resid`. The vector, of shape (d,), is added at each prompt and position.",
    ),
    reveal="A slice of the residual stream and one addition. Adding in place is fine, and so is returning a new tensor; doing half of each is how a vector gets added twice.",
)


# ---------------------------------------------------------------------------------------------------------------------
# ablate_direction


def _without(rows: Tensor, direction: Tensor) -> Tensor:
    """Spec, for rows [n, d]: coordinates in an orthonormal basis whose first vector is the direction, the first one dropped."""
    if all(float(c) == 0 for c in direction):
        return rows.clone()
    d = len(direction)
    # The basis by Gram and Schmidt, in double precision, beginning with the direction.
    basis: list[Tensor] = []
    for candidate in [direction.double(), *torch.eye(d, dtype=torch.float64)]:
        left = candidate / candidate.norm()
        for _ in range(2):
            for known in basis:
                left = left - float(left @ known) * known
        if float(left.norm()) > 1e-6 and len(basis) < d:
            basis.append(left / left.norm())
    out = torch.zeros(len(rows), d, dtype=torch.float64)
    for i, row in enumerate(rows.double()):
        for kept in basis[1:]:
            out[i] += float(row @ kept) * kept
    return out.to(rows.dtype)


def _along(rows: Tensor, direction: Tensor) -> Tensor:
    return (rows @ direction)[..., None] * direction


def _safe(direction: Tensor) -> Tensor:
    return direction / direction.norm() if float(direction.norm()) else direction


Change = Callable[[Tensor, Tensor], Tensor]

_WRONG: dict[str, tuple[str, Change]] = {
    "not_normalized": (
        "You used the direction without normalising it. The formula x − (x·u) u needs a **unit** vector: with another length something of the direction remains, or comes out with the opposite "
        "sign. Check it: the projection of your result on the direction is not 0.",
        lambda x, v: x - _along(x, v),
    ),
    "normalized_once": (
        "You divided by the norm once. The direction comes in twice, in the dot product and in what is subtracted, so its *squared* norm is needed; or a unit vector from the start.",
        lambda x, v: x - _along(x, v) / (v.norm() if float(v.norm()) else 1.0),
    ),
    "reflected": (
        "You subtracted the component twice: that mirrors x at the plane instead of dropping it there.",
        lambda x, v: x - 2 * _along(x, _safe(v)),
    ),
    "component_only": (
        "This is the component along the direction, the part that should go. Subtract it.",
        lambda x, v: _along(x, _safe(v)),
    ),
    "component_added": (
        "You added the component instead of subtracting it: it is now twice as large.",
        lambda x, v: x + _along(x, _safe(v)),
    ),
    "direction_subtracted": (
        "You subtracted the direction itself, the same everywhere. What is taken out is each row's own component: (x·u) u.",
        lambda x, v: x - _safe(v),
    ),
    "zero_divided_by_zero": (
        "Right but for a zero direction: 0/0 is NaN, and it fills the whole result. A zero direction changes nothing.",
        lambda x, v: x - _along(x, v / v.norm()),
    ),
}


def _ablate_direction(resid: Tensor, hook: object, direction: Tensor) -> Tensor:
    """Spec."""
    return torch.stack([_without(prompt, direction) for prompt in resid])


def _ablation_cases(norms: tuple[float, ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for norm, (batch, pos, d) in zip(norms, ((3, 4, 5), (2, 6, 3), (4, 4, 4)), strict=False):
            direction = draw.normal(d)
            args = (draw.normal(batch, pos, d, mean=0.4), _hook(draw), direction / direction.norm() * norm)
            about = f"batch {batch}, {pos} positions, a direction of norm {norm:g}"
            cases.append(case(*args, driver="hook", about=about))
        return cases

    return cases


def _as_hook(change: Change) -> Callable[[Tensor, object, Tensor], Tensor]:
    return lambda resid, hook, direction: change(resid, direction)


def _part_of(where: object) -> Callable[[Tensor, object, Tensor], Tensor]:
    def ablate(resid: Tensor, hook: object, direction: Tensor) -> Tensor:
        out = resid.clone()
        out[where] = out[where] - _along(out[where], _safe(direction))
        return out

    return ablate


def _ablated_and_kept(resid: Tensor, hook: object, direction: Tensor) -> None:
    _ablate_direction(resid, hook, direction)


ABLATE_DIRECTION = Exercise(
    id="steering_vectors.ablate_direction",
    revision=2,
    task="A hook that takes the component along a direction out of every position; the direction has any norm, a zero one changes nothing.",
    minutes=7,
    difficulty=2,
    oracle=_ablate_direction,
    parts=(
        Part("directions of any norm", 2, _ablation_cases((2.5, 0.3, 1.0))),
        Part("a zero direction, and a very short one", 1, _ablation_cases((0.0, 1e-3, 40.0))),
    ),
    mistakes=(
        *(Mistake(name, message, _as_hook(wrong), degenerate=True) for name, (message, wrong) in _WRONG.items()),
        Mistake(
            "last_position_only",
            "Only the last position lost the direction. Attention carries it there again from the others: take it out of every position.",
            _part_of((slice(None), -1)),
        ),
        Mistake(
            "first_prompt_only",
            "Only the first prompt of the batch lost the direction.",
            _part_of((0,)),
        ),
        Mistake(
            "nothing_comes_back",
            "Nothing changed. A hook's change counts if it is made in `resid` itself or if the new tensor is *returned*.",
            _ablated_and_kept,
        ),
    ),
    hints=(
        "With a unit vector u, the component of x along it is the number x·u, and the part of x that lies along it is (x·u) u.",
        "`resid @ unit` has shape [batch, pos]. To multiply it with `unit`, give it another axis: `(resid @ unit)[..., None] * unit`.",
        "Before you divide by the norm, check whether it is 0, and return `resid` unchanged if so.",
    ),
    reveal="x − (x·u) u is x projected on the plane at right angles to u. One layer is not enough: later layers write the direction again, so directional ablation (Arditi et al. 2024, section 2.4) "
    "takes it out of everything that is written into the stream.",
)
