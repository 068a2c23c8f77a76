"""Random directions to compare a vector with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    as_tensor,
    case,
    judge_each,
    judge_seeds,
    moved_random_state,
)

# ---------------------------------------------------------------------------------------------------------------------
# random_controls: random, so it is judged by its properties


def _random_controls(vector: Tensor, n: int, seed: int) -> Tensor:
    """Oracle: one direction after the other."""
    generator = torch.Generator().manual_seed(seed)
    length = math.sqrt(sum(float(c) ** 2 for c in vector))
    rows = []
    for _ in range(n):
        noise = torch.randn(len(vector), generator=generator, dtype=torch.float64)
        rows.append((noise / noise.norm() * length).float())
    return torch.stack(rows)


def _noise(vector: Tensor, n: int, seed: int) -> Tensor:
    return torch.randn(n, len(vector), generator=torch.Generator().manual_seed(seed))


def _scaled(rows: Tensor, vector: Tensor, dim: int = 1) -> Tensor:
    return rows / rows.norm(dim=dim, keepdim=True) * vector.norm()


def _positive_only(vector: Tensor, n: int, seed: int) -> Tensor:
    return _scaled(torch.rand(n, len(vector), generator=torch.Generator().manual_seed(seed)), vector)


def _one_direction(vector: Tensor, n: int, seed: int) -> Tensor:
    return _scaled(_noise(vector, 1, seed), vector).repeat(n, 1)


def _permuted(vector: Tensor, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([vector[torch.randperm(len(vector), generator=generator)] for _ in range(n)])


def _signs_flipped(vector: Tensor, n: int, seed: int) -> Tensor:
    return vector * _noise(vector, n, seed).sign()


def _near_the_vector(vector: Tensor, n: int, seed: int) -> Tensor:
    return _scaled(vector + _scaled(_noise(vector, n, seed), vector), vector)


def _global_state(vector: Tensor, n: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return _scaled(torch.randn(n, len(vector)), vector)


def read_rows(value: Any, n: int, d: int) -> Tensor | Complaint:
    """The result as an (n, d) tensor of finite numbers, or a complaint about its form."""
    rows = as_tensor(value)
    if not isinstance(rows, Tensor):
        return Complaint(f"The result is a {type(rows).__name__}, expected a tensor of shape ({n}, {d}).", "type")
    if rows.shape != (n, d):
        return Complaint(f"The result has shape {tuple(rows.shape)}, expected ({n}, {d}): a row for each.", "shape")
    if not rows.dtype.is_floating_point:
        return Complaint(f"The result holds {rows.dtype}, expected floating point.", "dtype")
    if not rows.isfinite().all():
        return Complaint("The result holds NaN or infinite numbers.", "nan")
    return rows


def _directions_complaint(value: Any, vector: Tensor, n: int) -> Complaint | None:
    """A complaint about one result, or None."""
    d, length = len(vector), float(vector.norm())
    rows = read_rows(value, n, d)
    if isinstance(rows, Complaint):
        return rows
    rows = rows.double()
    norms = rows.norm(dim=1)
    if not torch.allclose(norms, torch.full_like(norms, length), rtol=1e-4):
        if torch.allclose(norms, torch.ones_like(norms), rtol=1e-4):
            return Complaint("", mistake="unit_norm")
        if n > 1 and torch.allclose(rows.norm(dim=0), torch.full((d,), length).double(), rtol=1e-4):
            return Complaint("", mistake="columns_scaled")
        # As they were drawn: d squares of variance 1 in each, and so of different length. Only many rows tell.
        drawn = abs(float(norms.pow(2).mean()) / d - 1) < 6 * math.sqrt(2 / (n * d))
        if n >= 200 and drawn and abs(float(norms.std()) / math.sqrt(0.5) - 1) < 0.3:
            return Complaint("", mistake="not_scaled")
        i = int((norms - length).abs().argmax())
        return Complaint(f"Row {i} has norm {norms[i]:.4g}, expected {length:.4g}, the norm of the vector.")
    if n > 1 and torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-4 * length):
        return Complaint("", mistake="one_direction")
    reference = vector.double()
    if torch.allclose(rows.sort(dim=1).values, reference.sort().values.expand_as(rows), atol=1e-5 * length):
        return Complaint("", mistake="components_shuffled")
    if torch.allclose(rows.abs(), reference.abs().expand_as(rows), atol=1e-5 * length):
        return Complaint("", mistake="signs_flipped")
    if torch.allclose(rows.abs().sort(dim=1).values, reference.abs().sort().values.expand_as(rows), atol=1e-5 * length):
        return Complaint("The rows hold the vector's own components, in another order and with other signs.")
    return _uniform(rows / length, reference / length)


def _uniform(unit: Tensor, given: Tensor) -> Complaint | None:
    """A complaint if unit rows are not independent and uniform; judged only where there are enough."""
    n, d = unit.shape
    between = (unit @ unit.T)[tuple(torch.triu_indices(n, n, 1))]
    # Random directions are nearly at right angles, and never quite: one pair in 10,000 by chance.
    if int((between.abs() < 1e-5).sum()) > 2 + len(between) / 1000:
        return Complaint("Rows stand at right angles to each other, so they are not independent. Draw each one alone.")
    if n < 200:
        return None
    # A mean over n·d independent numbers of variance 1/d each: six standard deviations.
    bound = 6 / math.sqrt(n * d)
    if (unit > 0).all() or (float(unit.mean(0).mean()) > bound and float((unit > 0).double().mean()) > 0.9):
        return Complaint("", mistake="positive_only")
    if abs(float((unit @ given).mean())) > bound:
        return Complaint("", mistake="near_the_vector")
    if float(unit.mean(0).abs().max()) > bound:
        return Complaint("The directions favour one side: their mean should be nearly 0 in every component.")
    # The mean fourth power of a component, 3 / d(d + 2) on a sphere: less for points of a cube, more for few large ones.
    if abs(float(unit.pow(4).mean()) * d * (d + 2) / 3 - 1) > 0.2:
        fourth = "alike" if float(unit.pow(4).mean()) * d * (d + 2) < 3 else "unlike"
        return Complaint(
            f"The components of a direction are too {fourth} in size: some directions come more often than others. "
            "Only normally distributed components favour none."
        )
    # Among independent directions no two are alike, and no dimension is empty or crowded.
    cosines = (unit @ unit.T).fill_diagonal_(0).abs().max()
    if float(cosines) > 0.99:
        return Complaint("Some rows are the same direction, or opposite ones. Draw each one separately.")
    sizes = torch.linalg.eigvalsh(unit.T @ unit * d / n)
    if float(sizes[0]) < 0.2 or float(sizes[-1]) > 2.5:
        return Complaint(
            "The directions do not fill the space evenly: draw every component from a normal distribution."
        )
    return None


_judge_directions = judge_each(_directions_complaint, 2)


def _controls_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n, d in ((3, 8), (1, 5), (400, 40)):
        vector = draw.normal(d, mean=0.5, std=3.0)
        cases.append(case(vector, n, draw.seed(), judge=_judge_directions, about=f"{n} directions in {d} dimensions"))
    vector, seed = draw.normal(6), draw.seed()
    # The same seed, and another vector (short, long) or another number of directions.
    args = ((vector, 4), (vector.flip(0) * 0.01, 4), (vector.flip(0) * 50.0, 4), (vector, 3))
    calls = tuple(Call((v, n, seed), watch=("arguments",)) for v, n in args)
    norms = ", ".join(f"{float(v.norm()):.3g}" for v, _ in args[:3])
    about = f"vectors of norm {norms} with the same seed, then 3 directions in place of 4"
    return [*cases, Case(calls=calls, judge=_judge_directions, about=about)]


def _controls_seeds(draw: RandomInputs, size: str) -> list[Case]:
    vector, seed, other = draw.normal(30, std=2.0), draw.seed(), draw.seed()
    calls = tuple(Call((vector, 4, s), watch=("random_state", "arguments")) for s in (seed, seed, other))
    judge = judge_seeds(_judge_directions, "directions", torch.allclose)
    return [Case(calls, judge=judge, about="the same seed twice, then another")]


RANDOM_CONTROLS = Exercise(
    id="steering_vectors.random_controls",
    revision=2,
    fixed={
        "vector": "varied by hand",
        "vector[0]": "one number has two directions",
        "result[1]": "one number has two directions",
    },
    task="n independent random directions with the norm of the vector; reproducible by the seed.",
    minutes=5,
    difficulty=1,
    oracle=_random_controls,
    parts=(
        Part("the same norm, independent, no side favoured", 2, _controls_cases),
        Part("the seed decides, and nothing else is touched", 1, _controls_seeds),
    ),
    mistakes=(
        Mistake(
            "unit_norm",
            "Your directions have norm 1. A control must be as *long* as what it controls: a shorter one does less because it is shorter, and proves nothing.",
            lambda vector, n, seed: _scaled(_noise(vector, n, seed), torch.ones(1)),
        ),
        Mistake(
            "not_scaled",
            "Your directions have the norms they were drawn with, about √d and all different. Scale each to the norm of the vector.",
            _noise,
        ),
        Mistake(
            "columns_scaled",
            "You scaled the columns, not the rows. Each row is a direction: take its norm along the last axis, `norm(dim=-1, keepdim=True)`.",
            lambda vector, n, seed: _scaled(_noise(vector, n, seed), vector, dim=0),
        ),
        Mistake(
            "one_direction",
            "All rows are the same direction. A single random direction moves log-odds by some random amount; only several show the spread.",
            _one_direction,
        ),
        Mistake(
            "positive_only",
            "All components are positive (`torch.rand` draws such), so your directions fill one corner of the space and resemble each other. `torch.randn` favours no side.",
            _positive_only,
        ),
        Mistake(
            "components_shuffled",
            "You shuffled the vector's own components. That keeps the norm, but also its few large components and its mean: not a uniform direction.",
            _permuted,
        ),
        Mistake(
            "signs_flipped",
            "You flipped signs of the vector's components. Their sizes stay where they are, so this is no uniform direction.",
            _signs_flipped,
        ),
        Mistake(
            "near_the_vector",
            "Your directions lean towards the vector itself, or away from it. A control must know nothing about it but the norm.",
            _near_the_vector,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same directions. Give `seed` to your generator.",
            lambda vector, n, seed: _random_controls(vector, n, 0),
        ),
        Mistake(
            "global_random_state",
            "The directions are right, but the global random state moved, and with it everything random that comes later in the notebook. Use "
            "`torch.Generator().manual_seed(seed)` and pass it on.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "A direction whose components are drawn from a normal distribution is equally likely to point anywhere. Then only its length has to be set.",
        "`noise = torch.randn(n, d, generator=generator)`; `noise / noise.norm(dim=-1, keepdim=True)` has rows of length 1.",
    ),
    reveal="Normal components make a direction uniform on the sphere, because the density depends on the length alone. In 576 dimensions most of such a direction lies where the model never writes, "
    "so this control is mild. One with the activations' own covariance is harder to beat.",
)
