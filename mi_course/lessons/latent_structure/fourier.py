"""Waves on a clock of p hours: a basis, the frequencies an embedding uses, and the share of a neuron that they explain."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case


def _basis(p: int) -> Tensor:
    """The basis of the statement: constant, then cos and sin of each frequency, in float64."""
    rows = [torch.ones(p, dtype=torch.float64)]
    hours = torch.arange(p, dtype=torch.float64)
    for k in range(1, p // 2 + 1):
        angle = 2 * math.pi * k * hours / p
        rows += [angle.cos(), angle.sin()]
    return torch.stack([row / row.norm() for row in rows])


# ---------------------------------------------------------------------------------------------------------------------
# fourier_basis


def _fourier_basis(p: int) -> Tensor:
    """Oracle: number by number, real and imaginary parts of powers of one root of unity."""
    table = [[1 / math.sqrt(p)] * p]
    for k in range(1, (p - 1) // 2 + 1):
        turns = [cmath.exp(2j * math.pi * ((k * x) % p) / p) for x in range(p)]
        table += [[math.sqrt(2 / p) * z.real for z in turns], [math.sqrt(2 / p) * z.imag for z in turns]]
    return torch.tensor(table)


def _waves(p: int, *, turn: float = 2 * math.pi, first: int = 0, hours: int | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines [frequency, hour], not normalized."""
    k, x = torch.arange(1, p // 2 + 1)[:, None], torch.arange(first, first + p)
    angle = turn * k * x / (hours or p)
    return angle.cos(), angle.sin()


def _stacked(constant: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    return torch.cat([constant[None], torch.stack([cosines, sines], 1).flatten(0, 1)])


def _built(p: int, **options: float) -> Tensor:
    """A basis of waves that may be wrong, each row of length one."""
    cosines, sines = _waves(p, **options)  # type: ignore[arg-type]
    rows = _stacked(torch.ones(p), cosines, sines)
    return rows / rows.norm(dim=1, keepdim=True)


def _not_normalized(p: int) -> Tensor:
    return _stacked(torch.ones(p), *_waves(p))


def _constant_like_the_others(p: int) -> Tensor:
    return _not_normalized(p) * math.sqrt(2 / p)


def _all_like_the_constant(p: int) -> Tensor:
    return _not_normalized(p) / math.sqrt(p)


def _sine_first(p: int) -> Tensor:
    cosines, sines = _waves(p)
    rows = _stacked(torch.ones(p), sines, cosines)
    return rows / rows.norm(dim=1, keepdim=True)


def _in_two_blocks(p: int) -> Tensor:
    rows = torch.cat([torch.ones(1, p), *_waves(p)])
    return rows / rows.norm(dim=1, keepdim=True)


def _constant_last(p: int) -> Tensor:
    return _basis(p).float().roll(-1, dims=0)


def _both_signs(p: int) -> Tensor:
    """Cosines of frequencies 1 to p − 1: k and p − k are the same wave."""
    k, x = torch.arange(p)[:, None], torch.arange(p)
    rows = (2 * math.pi * k * x / p).cos()
    return rows / rows.norm(dim=1, keepdim=True)


def _cas(p: int) -> Tensor:
    """cos + sin of every frequency: orthonormal (Hartley), and not what is asked for."""
    k, x = torch.arange(p)[:, None], torch.arange(p)
    angle = 2 * math.pi * k * x / p
    return (angle.cos() + angle.sin()) / math.sqrt(p)


def _frequencies_descending(p: int) -> Tensor:
    rows = _basis(p).float()
    return torch.cat([rows[:1], rows[1:].reshape(-1, 2, p).flip(0).reshape(-1, p)])


FOURIER_BASIS = Exercise(
    id="latent_structure.fourier_basis",
    task="The Fourier basis on p hours: one row for the constant, then cos and sin of each frequency, all of length one.",
    minutes=8,
    difficulty=2,
    oracle=_fourier_basis,
    parts=(
        Part(
            "primes and other odd numbers",
            2,
            lambda draw, size: [case(p, about=f"p = {p}") for p in (7, 5, draw.integer(4, 8) * 2 + 1, 31)],
        ),
        Part("the smallest clocks", 1, lambda draw, size: [case(p, about=f"p = {p}") for p in (3, 1, 9)]),
    ),
    fixed={"p": "an odd number; varied by hand", "result<=1": "rows of length one"},
    mistakes=(
        Mistake(
            "not_normalized",
            "The rows are right but for their length: none has length one. The constant has length √p before you divide, each cosine and sine √(p/2).",
            _not_normalized,
        ),
        Mistake(
            "constant_too_long",
            "Right but for row 0: √(2/p) makes cosines and sines one long, but the constant √2. It needs √(1/p).",
            _constant_like_the_others,
        ),
        Mistake(
            "waves_too_short",
            "Row 0 is right, and all others are too short: a cosine has mean square 1/2, so it needs √(2/p), not √(1/p).",
            _all_like_the_constant,
        ),
        Mistake(
            "sine_first",
            "Sine and cosine of each frequency are exchanged: cos k stands in row 2k − 1, sin k in row 2k.",
            _sine_first,
        ),
        Mistake(
            "in_two_blocks",
            "All cosines come first, and all sines after them. Interleave: 1, cos 1, sin 1, cos 2, sin 2, …",
            _in_two_blocks,
        ),
        Mistake(
            "constant_last",
            "The constant stands last. It is row 0; cos 1 is row 1.",
            _constant_last,
        ),
        Mistake(
            "frequencies_descending",
            "The frequencies run down. Begin with the lowest: cos 1 in row 1, sin 1 in row 2.",
            _frequencies_descending,
        ),
        Mistake(
            "transposed",
            "Waves are columns here. Row i is the i-th wave, and column x what it is at hour x.",
            lambda p: _basis(p).float().T.contiguous(),
        ),
        Mistake(
            "hours_from_one",
            "Your hours run from 1 to p. Hour 0 comes first: every cosine is at its top there, every sine is 0.",
            lambda p: _built(p, first=1),
        ),
        Mistake(
            "half_turns",
            "Frequency k makes k/2 turns here: the angle is 2π k x / p, and a 2 is missing.",
            lambda p: _built(p, turn=math.pi),
        ),
        Mistake(
            "one_hour_short",
            "You divide the angle by p − 1, so that hour p − 1 is the same place as hour 0. There are p hours: divide by p.",
            lambda p: _built(p, hours=max(p - 1, 1)),
        ),
        Mistake(
            "both_signs",
            "These are cosines of the frequencies 0 to p − 1. Whole hours cannot tell k from p − k: the two cosines are the same row. Go up to (p − 1)/2, and take the sine of each too.",
            _both_signs,
        ),
        Mistake(
            "sum_of_both",
            "Each row is cos + sin of a frequency. That is orthonormal too (Hartley's basis), but the phase of a wave could not be read from it. One row for the cosine, one for the sine.",
            _cas,
        ),
    ),
    hints=(
        "`angle = 2 * math.pi * k * x / p` with x = `torch.arange(p)`, for k from 1 to (p − 1)/2. A constant first, then `angle.cos()` and `angle.sin()` of each k.",
        "Collect the rows in a list, stack them, and divide each by its own `norm(dim=1, keepdim=True)`: that spares you √(1/p) and √(2/p).",
    ),
    reveal="Any p numbers on the clock are a sum of these rows, and since the rows are orthonormal each coefficient is a dot product: `basis @ v`. The squares of the coefficients add up to the squares of v (Parseval). So one may ask what *share* of something is in a frequency, and shares add up to 1. "
    "There are (p − 1)/2 frequencies, not p: at whole hours cos(p − k) is the same as cos k, and sin(p − k) is −sin k.",
)


# ---------------------------------------------------------------------------------------------------------------------
# key_frequencies


def _key_frequencies(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    """Oracle: powers from numpy's FFT of each column, which knows nothing of the basis."""
    waves = np.fft.rfft(W_E.double().numpy(), axis=0)
    power = (np.abs(waves) ** 2).sum(1)
    return sorted(range(1, len(power)), key=lambda k: -power[k])[:n]


def _coefficients(W_E: Tensor, basis: Tensor) -> Tensor:
    """[frequency, cos or sin, d_model], without the constant."""
    return (basis.double() @ W_E.double())[1:].unflatten(0, (-1, 2))


def _ranked(
    score: Callable[[Tensor], Tensor], *, ascending: bool = False
) -> Callable[[Tensor, Tensor, int], list[int]]:
    """key_frequencies by another score of the coefficients."""

    def key_frequencies(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
        order = score(_coefficients(W_E, basis)).argsort(descending=not ascending, stable=True)[:n]
        return (order + 1).tolist()  # type: ignore[no-any-return]

    return key_frequencies


def _power(coefficients: Tensor) -> Tensor:
    return coefficients.square().sum((1, 2))


def _rows_of_the_basis(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    power = (basis.double() @ W_E.double()).square().sum(1)
    power[0] = 0
    return power.argsort(descending=True)[:n].tolist()  # type: ignore[no-any-return]


def _constant_counted(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    power = (basis.double() @ W_E.double()).square().sum(1)
    return torch.cat([power[:1], power[1:].unflatten(0, (-1, 2)).sum(1)]).argsort(descending=True)[:n].tolist()  # type: ignore[no-any-return]


def _from_zero(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    return [k - 1 for k in _key_frequencies(W_E, basis, n)]


def _pairs_one_off(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    """Rows 0 and 1, 2 and 3, … taken for pairs."""
    power = (basis.double() @ W_E.double())[:-1].unflatten(0, (-1, 2)).square().sum((1, 2))
    return (power.argsort(descending=True)[:n] + 1).tolist()  # type: ignore[no-any-return]


def _in_two_halves(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    """All cosines taken to come before all sines."""
    power = (basis.double() @ W_E.double())[1:].unflatten(0, (2, -1)).square().sum((0, 2))
    return (power.argsort(descending=True)[:n] + 1).tolist()  # type: ignore[no-any-return]


def _columns(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    """The basis transposed."""
    power = (basis.double().T @ W_E.double())[1:].unflatten(0, (-1, 2)).square().sum((1, 2))
    return (power.argsort(descending=True)[:n] + 1).tolist()  # type: ignore[no-any-return]


def _mirrored(W_E: Tensor, basis: Tensor, n: int) -> list[int]:
    power = (torch.fft.fft(W_E.double(), dim=0).abs() ** 2).sum(1)
    power[0] = 0
    return power.round(decimals=9).argsort(descending=True, stable=True)[:n].tolist()  # type: ignore[no-any-return]


def _embedding(draw: RandomInputs, p: int, d_model: int, loud: int, shape: str = "plain") -> Tensor:
    """An embedding of a few loud frequencies over noise, a large constant, no two powers close to each other.

    shape: "plain"; "one sided" (each frequency only as a cosine or only as a sine); "spread" (many small numbers
    against few large ones, so that sums of squares and of absolute values differ).
    """
    half = (p - 1) // 2
    order = draw.permutation(half)
    basis = _basis(p)
    W = draw.normal(1, d_model, mean=2.0).double().expand(p, -1) * 3
    for rank, k in enumerate(order):
        size = 2.5 * 0.8**rank if rank < loud else 0.4 * 0.85 ** (rank - loud)
        parts = torch.zeros(2, d_model, dtype=torch.float64)
        if shape == "plain":
            parts = draw.normal(2, d_model).double()
            parts[draw.integer(0, 2)] *= 0.15
        elif shape == "one sided":
            parts[rank % 2] = draw.normal(d_model).double()
        elif rank % 2:
            parts[0, draw.integer(0, d_model)] = 1.0
        else:
            parts = draw.normal(2, d_model, mean=1.0, std=0.1).double()
        W = W + size / parts.norm() * basis[2 * k + 1 : 2 * k + 3].T @ parts
    return W.float()


def _loud(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for p, d_model, n, shape in (
        (23, 6, 3, "plain"),
        (13, 9, 4, "one sided"),
        (31, 20, 5, "spread"),
        (17, 4, 8, "plain"),
    ):
        W = _embedding(draw, p, d_model, n, shape)
        cases.append(case(W, _basis(p).float(), n, about=f"p = {p}, d_model {d_model}, the first {n}"))
    return cases


def _small(draw: RandomInputs, size: str) -> list[Case]:
    W = _embedding(draw, 11, 1, 2)
    again = tuple(Call((_embedding(draw, 13, 4, 3), _basis(13).float(), 3), watch=("arguments",)) for _ in range(2))
    quiet = _embedding(draw, 19, 5, 3) * 1e-3
    return [
        case(W, _basis(11).float(), 2, about="one dimension"),
        case(quiet, _basis(19).float(), 3, about="an embedding of tiny numbers"),
        case(_embedding(draw, 3, 4, 1), _basis(3).float(), 1, about="p = 3, the only frequency there is"),
        case(_embedding(draw, 7, 5, 2), _basis(7).float(), 3, about="all frequencies"),
        case(_embedding(draw, 7, 5, 2), _basis(7).float(), 0, about="no frequency at all"),
        Case(again, "two embeddings of one shape"),
    ]


KEY_FREQUENCIES = Exercise(
    id="latent_structure.key_frequencies",
    task="The n frequencies with the most power in an embedding, the strongest first.",
    minutes=8,
    difficulty=2,
    fixed={
        "W_E": "no two frequencies of a case may be equally strong; varied by hand",
        "W_E[0]": "as many as the basis has rows",
        "basis": "the basis of p hours",
        "basis[0]": "as many as there are hours",
        "basis[1]": "as many as there are hours",
    },
    oracle=_key_frequencies,
    parts=(
        Part("a few loud frequencies over noise", 2, _loud),
        Part("one dimension, tiny numbers, all frequencies or none", 1, _small),
    ),
    mistakes=(
        Mistake(
            "constant_counted",
            "The constant, frequency 0, is among yours. It says where the embedding lies on average, not how it turns: leave row 0 of the basis out.",
            _constant_counted,
        ),
        Mistake(
            "rows_not_frequencies",
            "These are rows of the basis, not frequencies. Rows 2k − 1 and 2k belong to frequency k: add their powers, then rank.",
            _rows_of_the_basis,
        ),
        Mistake(
            "cosine_only",
            "You ranked by the cosines alone. Which part of a wave is cosine and which sine depends on where hour 0 is: add the powers of both.",
            _ranked(lambda c: c[:, 0].square().sum(1)),
        ),
        Mistake(
            "sine_only",
            "You ranked by the sines alone. Add the powers of cosine and sine.",
            _ranked(lambda c: c[:, 1].square().sum(1)),
        ),
        Mistake(
            "larger_of_the_two",
            "You took the larger of cosine and sine. Add their powers: a wave that is half of each is as strong as one that is all cosine.",
            _ranked(lambda c: c.square().sum(2).amax(1)),
        ),
        Mistake(
            "absolute_values",
            "You summed absolute values. Power is the sum of *squares*: only squares do not depend on the basis of the residual stream.",
            _ranked(lambda c: c.abs().sum((1, 2))),
        ),
        Mistake(
            "signed_sum",
            "You summed the coefficients themselves, so dimensions cancel. Square them first.",
            _ranked(lambda c: c.sum((1, 2))),
        ),
        Mistake(
            "squared_sum",
            "You summed over dimensions and squared after that, so dimensions cancel. Square first, then sum.",
            _ranked(lambda c: c.sum(2).square().sum(1)),
        ),
        Mistake(
            "largest_entry",
            "You ranked by the largest single coefficient. Sum the squares over all dimensions.",
            _ranked(lambda c: c.abs().amax((1, 2))),
        ),
        Mistake(
            "weakest",
            "These are the weakest frequencies. Sort the other way round.",
            _ranked(_power, ascending=True),
        ),
        Mistake(
            "weakest_first",
            "The right frequencies in the wrong order: the strongest comes first.",
            lambda W_E, basis, n: _key_frequencies(W_E, basis, n)[::-1],
        ),
        Mistake(
            "sorted_by_number",
            "The right frequencies, sorted by number. Sort by power, the strongest first.",
            lambda W_E, basis, n: sorted(_key_frequencies(W_E, basis, n)),
        ),
        Mistake(
            "counted_from_zero",
            "Each of your frequencies is one too low: the first pair of rows after the constant belongs to frequency 1.",
            _from_zero,
        ),
        Mistake(
            "pairs_one_off",
            "You paired the rows from row 0 on. Row 0 is the constant: the pairs are rows 1 and 2, 3 and 4, …",
            _pairs_one_off,
        ),
        Mistake(
            "in_two_halves",
            "You read the basis as all cosines and then all sines. They alternate: cos 1, sin 1, cos 2, sin 2, …",
            _in_two_halves,
        ),
        Mistake(
            "basis_transposed",
            "You used the columns of the basis as waves. Its *rows* are the waves: `basis @ W_E`.",
            _columns,
        ),
        Mistake(
            "k_and_p_minus_k",
            "You counted k and p − k as two frequencies. They are the same wave: frequencies run from 1 to (p − 1)/2.",
            _mirrored,
        ),
    ),
    hints=(
        "`basis @ W_E` has one row for each wave: what it contributes to each dimension. Square, and sum over the dimensions.",
        "Leave the constant out with `[1:]`, and bring cosine and sine of a frequency together: `.unflatten(0, (-1, 2)).sum(1)`. Entry 0 is then frequency 1.",
    ),
    reveal="A frequency is a plane: cosine and sine span it, and the power in the plane does not change when hour 0 is moved. The sum over d_model does not change when the residual stream is rotated. A number with neither property would say something about our choice of axes.",
)


# ---------------------------------------------------------------------------------------------------------------------
# cosine_fit


def _cosine_fit(neuron: Tensor, k: int) -> float:
    """Oracle: least squares on all products of degree two or less, in numpy."""
    p = len(neuron)
    angle = 2 * math.pi * k * np.arange(p) / p
    one = np.ones((p, p))
    ca, sa = (f(angle)[:, None] * one for f in (np.cos, np.sin))
    cb, sb = (f(angle)[None, :] * one for f in (np.cos, np.sin))
    waves = [ca, sa, cb, sb]
    columns = [one, *waves, *(u * v for i, u in enumerate(waves) for v in waves[i:])]
    return _explained(neuron.double().numpy(), columns)


def _explained(neuron: np.ndarray, columns: list[np.ndarray], *, centered: bool = True) -> float:
    """The share of the variance that least squares on these columns explains. 0 where there is none."""
    y = neuron.flatten()
    X = np.stack([c.flatten() for c in columns], 1)
    fitted = X @ np.linalg.lstsq(X, y, rcond=1e-9)[0]
    mean = y.mean() if centered else 0.0
    total = ((y - mean) ** 2).sum()
    return float(1 - ((y - fitted) ** 2).sum() / total) if total > 0 else 0.0


_Terms = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]


def _fit(terms: _Terms, *, constant: bool = True, centered: bool = True) -> Callable[[Tensor, int], float]:
    """cosine_fit with other terms, which are made from cos ka, sin ka, cos kb and sin kb."""

    def cosine_fit(neuron: Tensor, k: int) -> float:
        p = len(neuron)
        angle = 2 * math.pi * k * np.arange(p) / p
        one = np.ones((p, p))
        waves = [np.cos(angle)[:, None] * one, np.sin(angle)[:, None] * one]
        waves += [np.cos(angle)[None, :] * one, np.sin(angle)[None, :] * one]
        columns = ([one] if constant else []) + terms(*waves)
        return _explained(neuron.double().numpy(), columns, centered=centered)

    return cosine_fit


def _degree_two(ca: np.ndarray, sa: np.ndarray, cb: np.ndarray, sb: np.ndarray) -> list[np.ndarray]:
    waves = [ca, sa, cb, sb]
    return [*waves, *(u * v for i, u in enumerate(waves) for v in waves[i:])]


def _degree_four(ca: np.ndarray, sa: np.ndarray, cb: np.ndarray, sb: np.ndarray) -> list[np.ndarray]:
    one = np.ones_like(ca)
    of_a, of_b = [one, ca, sa, ca * ca, ca * sa], [one, cb, sb, cb * cb, cb * sb]
    return [u * v for u in of_a for v in of_b]


def _double_angles(ca: np.ndarray, sa: np.ndarray, cb: np.ndarray, sb: np.ndarray) -> list[np.ndarray]:
    """The terms of degree one and two, each with mean zero."""
    squares = [ca * ca - sa * sa, ca * sa, cb * cb - sb * sb, cb * sb]
    return [ca, sa, cb, sb, ca * cb, ca * sb, sa * cb, sa * sb, *squares]


_all_terms = _fit(_degree_two)


def _other_frequency(change: Callable[[int, int], int]) -> Callable[[Tensor, int], float]:
    return lambda neuron, k: _all_terms(neuron, change(len(neuron), k))


def _share_of_power(neuron: Tensor, k: int) -> float:
    """Constant included above and below."""
    return _fit(_degree_two, centered=False)(neuron, k)


def _correlation(neuron: Tensor, k: int) -> float:
    return math.sqrt(max(_all_terms(neuron, k), 0.0))


def _left_over(neuron: Tensor, k: int) -> float:
    return 1 - _all_terms(neuron, k) if neuron.any() else 0.0


def _variance(neuron: Tensor, k: int) -> float:
    return _all_terms(neuron, k) * float(neuron.double().var(correction=0))


def _no_guard(neuron: Tensor, k: int) -> Tensor:
    share = torch.tensor(_all_terms(neuron, k))
    return share if neuron.any() else share / 0


def _relu_neuron(draw: RandomInputs, p: int, k: int, noise: float = 0.1) -> Tensor:
    """What a neuron of such a model looks like: a ReLU of waves of a and b, of different sizes and phases."""
    x = torch.arange(p) * 2 * math.pi * k / p
    phase = draw.uniform(3, high=6.3)
    a, b = (x + phase[0]).cos() * draw.number(1.0, 1.4), (x + phase[1]).cos() * draw.number(0.5, 0.9)
    other = (torch.arange(p) * 2 * math.pi * (1 + k % ((p - 1) // 2)) / p + phase[2]).cos()
    return torch.relu(a[:, None] + b[None, :] + 0.4 * other[:, None] + noise * draw.normal(p, p) + 0.3)


def _neurons(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for p, noise in ((13, 0.3), (7, 0.6), (23, 0.1), (5, 0.8)):
        k = draw.integer(1, (p + 1) // 2)
        cases.append(case(_relu_neuron(draw, p, k, noise), k, about=f"a ReLU of waves, p = {p}, frequency {k}"))
    mere_noise = draw.normal(11, 11, mean=1.5)
    return [*cases, case(mere_noise, 4, about="noise around 1.5, p = 11")]


def _pure(draw: RandomInputs, size: str) -> list[Case]:
    p = 17
    k = draw.integer(1, 4)
    x = torch.arange(p) * 2 * math.pi * k / p
    a, b = x[:, None].expand(p, p), x[None, :].expand(p, p)
    size_of = draw.number(0.5, 2.0)
    one = _relu_neuron(draw, 11, 2)
    both = tuple(Call((one, frequency), watch=("arguments",)) for frequency in (2, 3))
    return [
        case(size_of * (a + b + 0.4).cos() + 1, k, about="a cosine of k(a + b)"),
        case(size_of * (a - b + 0.4).cos() - 1, k, about="a cosine of k(a − b)"),
        case(size_of * (2 * b).sin() + 0.2 * (a + 2 * b).cos(), k, about="sin 2kb and a term of degree three"),
        case((2 * a + 2 * b).cos() + 0.5 * (a).sin() + 3, k, about="a term of degree four"),
        case((a + b).cos(), k + 2, about="another frequency's cosine"),
        case(1e-3 * ((a + b).cos() + (2 * a + b).cos()), k, about="tiny activations"),
        case(torch.zeros(p, p), k, about="a dead neuron"),
        Case(both, "one neuron, two frequencies"),
    ]


COSINE_FIT = Exercise(
    id="latent_structure.cosine_fit",
    task="The share of a neuron's variance, over all pairs (a, b), that products of up to two of cos ka, sin ka, cos kb and sin kb explain.",
    minutes=12,
    difficulty=3,
    fixed={
        "neuron[0]": "p hours, along both axes",
        "neuron[1]": "p hours, along both axes",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    oracle=_cosine_fit,
    parts=(
        Part("ReLUs of waves, and noise", 2, _neurons),
        Part("pure waves, tiny numbers, a dead neuron", 1, _pure),
    ),
    mistakes=(
        Mistake(
            "sum_only",
            "You fitted cos k(a + b) and sin k(a + b) alone. A ReLU neuron holds much more than what the sum needs: take all products of up to two of the four waves.",
            _fit(lambda ca, sa, cb, sb: [ca * cb - sa * sb, sa * cb + ca * sb]),
        ),
        Mistake(
            "linear_only",
            "You fitted the four waves themselves, without their products. Products of two count too: cos ka · cos kb, cos ka · sin ka, …",
            _fit(lambda ca, sa, cb, sb: [ca, sa, cb, sb]),
        ),
        Mistake(
            "mixed_products_only",
            "You fitted the products of a wave of a with a wave of b, and nothing else. The four waves themselves are of degree one, and belong to it.",
            _fit(lambda ca, sa, cb, sb: [ca * cb, ca * sb, sa * cb, sa * sb]),
        ),
        Mistake(
            "no_squares",
            "Products of two waves of the *same* number are missing: cos² ka, cos ka · sin ka, and those of b. (They are waves of frequency 2k.)",
            _fit(lambda ca, sa, cb, sb: [ca, sa, cb, sb, ca * cb, ca * sb, sa * cb, sa * sb]),
        ),
        Mistake(
            "no_mixed_products",
            "Products of a wave of a with a wave of b are missing: cos ka · cos kb, cos ka · sin kb, … They carry the sum.",
            _fit(lambda ca, sa, cb, sb: [ca, sa, ca * ca, ca * sa, cb, sb, cb * cb, cb * sb]),
        ),
        Mistake(
            "products_only",
            "You fitted products of two waves and left the waves themselves out. Degree one belongs to it.",
            _fit(lambda ca, sa, cb, sb: [u * v for i, u in enumerate([ca, sa, cb, sb]) for v in [ca, sa, cb, sb][i:]]),
        ),
        Mistake(
            "degree_four",
            "You allowed terms of degree three and four, such as cos 2ka · cos kb. Two factors at most: cos 2ka is already a product of two.",
            _fit(_degree_four),
        ),
        Mistake(
            "no_constant",
            "There is no constant among your terms, and the neuron was not centered, so the waves have to make up for its mean. Subtract the mean first, or fit a constant too.",
            _fit(_double_angles, constant=False),
        ),
        Mistake(
            "mean_counted",
            "The neuron's mean counts as explained: the share is of the mean square, not of the variance. A ReLU neuron is never negative, so its mean is most of it. Subtract the mean.",
            _share_of_power,
        ),
        Mistake(
            "correlation",
            "This is the correlation, the root of the share. Variance is in squares.",
            _correlation,
        ),
        Mistake(
            "left_over",
            "This is the share that is *not* explained. Take it from 1.",
            _left_over,
        ),
        Mistake(
            "not_divided",
            "This is the variance that is explained. Divide by all of the neuron's variance.",
            _variance,
        ),
        Mistake(
            "dead_neuron",
            "Right but for a dead neuron: without variance the share is 0/0. The statement asks for 0.0.",
            _no_guard,
            degenerate=True,
        ),
        Mistake(
            "next_frequency",
            "This is the share of frequency k + 1. Frequency k has rows 2k − 1 and 2k of the basis.",
            _other_frequency(lambda p, k: k + 1 if k < (p - 1) // 2 else 1),
        ),
        Mistake(
            "twice_the_frequency",
            "This is the share of frequency 2k: the angle is 2π k a / p, once.",
            _other_frequency(lambda p, k: 2 * k),
        ),
    ),
    hints=(
        "cos² and cos · sin of ka are waves of 2ka. So of each number you need five waves: the constant, cos k, sin k, cos 2k, sin 2k; their degrees are 0, 1, 1, 2, 2. From a and b together take the pairs of degree two or less: 13 of the 25.",
        "With the five as orthonormal rows F [5, p] (take care with 2k beyond (p − 1)/2: compute the angles), `F @ neuron @ F.T` holds the 25 coefficients. Mask them with `degree[:, None] + degree <= 2`, leave the constant out, and divide the sum of squares by that of the centered neuron.",
        'Or make the products and use `torch.linalg.lstsq`: a column for each, p² rows, float64. cos² + sin² = 1 makes columns dependent, so ask for `driver="gelsd"`.',
    ),
    reveal="A neuron is ReLU(what it reads of a + what it reads of b + …), and what it reads are waves of one frequency. Near where it bends a ReLU is close to a parabola: constant, the argument, its square. The argument holds cos ka, sin ka, cos kb, sin kb; its square all products of two. "
    "Among those are cos ka cos kb and sin ka sin kb, and their difference is cos k(a + b): the addition theorem, for which nobody asked the model. The rest is waste that has to cancel between neurons.",
)
