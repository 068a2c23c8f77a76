"""Other right answers to lesson 13, part B."""

from __future__ import annotations

import itertools

import einops
import numpy as np
import torch


def basis_by_fft(p):
    """The inverse real transform of unit vectors."""
    rows = [np.fft.irfft(np.eye(p // 2 + 1)[0], n=p)]
    for k in range(1, p // 2 + 1):
        unit = np.zeros(p // 2 + 1, dtype=complex)
        unit[k] = 1
        rows.append(np.fft.irfft(unit, n=p))
        unit[k] = -1j
        rows.append(np.fft.irfft(unit, n=p))
    return torch.tensor(np.stack([row / np.linalg.norm(row) for row in rows])).float()


def basis_in_place(p):
    basis = torch.empty(p, p)
    basis[0] = p**-0.5
    k, x = torch.arange(1, (p - 1) // 2 + 1)[:, None], torch.arange(p)[None, :]
    basis[1::2] = torch.cos(2 * torch.pi * k * x / p) * (2 / p) ** 0.5
    basis[2::2] = torch.sin(2 * torch.pi * k * x / p) * (2 / p) ** 0.5
    return basis


def frequencies_by_fft(W_E, basis, n):
    power = torch.fft.rfft(W_E.double(), dim=0).abs().square().sum(1)
    return power[1:].topk(n).indices + 1


def frequencies_by_loop(W_E, basis, n):
    power = {}
    for k in range(1, (len(W_E) - 1) // 2 + 1):
        power[k] = sum(float((basis[row] @ W_E).norm() ** 2) for row in (2 * k - 1, 2 * k))
    return sorted(power, key=power.get, reverse=True)[:n]


def fit_by_least_squares(neuron, k):
    p = neuron.shape[0]
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    turn = 2 * torch.pi * k / p
    waves = [f(turn * x.double()) for x in (a, b) for f in (torch.cos, torch.sin)]
    columns = [torch.ones(p, p).double(), *waves]
    columns += [u * v for u, v in itertools.combinations_with_replacement(waves, 2)]
    X = torch.stack(columns, -1).reshape(p * p, -1)
    y = neuron.double().reshape(-1, 1)
    rest = y - X @ torch.linalg.lstsq(X, y, driver="gelsd").solution
    variance = (y - y.mean()).square().sum()
    return 0.0 if variance == 0 else 1 - rest.square().sum() / variance


def fit_by_fft(neuron, k):
    """Sum the power of the frequency pairs (i, j) with |i| + |j| ≤ 2, in units of k."""
    p = neuron.shape[0]
    power = torch.fft.fft2(neuron.double() - neuron.double().mean()).abs() ** 2
    if not power.any():
        return torch.tensor(0.0)
    places = {(i * k % p, j * k % p) for i in range(-2, 3) for j in range(-2, 3) if 0 < abs(i) + abs(j) <= 2}
    return sum(power[place] for place in places) / power.sum()


def fit_by_projection(neuron, k):
    p = neuron.shape[0]
    x = torch.arange(p).double() * 2 * np.pi * k / p
    one = torch.ones(p).double()
    c, s, c2, s2 = x.cos(), x.sin(), (2 * x).cos(), (2 * x).sin()
    pairs = [(c, one), (s, one), (c2, one), (s2, one), (one, c), (one, s), (one, c2), (one, s2)]
    pairs += [(c, c), (c, s), (s, c), (s, s)]
    N = neuron.double()
    N = N - N.mean()
    if N.norm() == 0:
        return 0
    return float(sum((u @ N @ v / u.norm() / v.norm()) ** 2 for u, v in pairs) / (N * N).sum())


def _by_fft(logits, keys):
    p = logits.shape[0]
    F = torch.fft.fft2(logits.double(), dim=(0, 1))
    mask = torch.zeros(p, p, 1)
    for k in keys:
        mask[k, k] = mask[p - k, p - k] = 1
    return torch.fft.ifft2(F * mask, dim=(0, 1)).real.float()


def restricted_by_fft(logits, basis, keys):
    return _by_fft(logits, keys) + logits.mean(0).mean(0)


def excluded_by_fft(logits, basis, keys):
    return logits - _by_fft(logits, keys)


def _sums(logits, basis, keys):
    """Averages over the pairs with one sum; the waves live there."""
    p = logits.shape[0]
    total = (torch.arange(p)[:, None] + torch.arange(p)) % p
    by_sum = torch.stack([logits[total == s].mean(0) for s in range(p)])
    rows = basis[[row for k in keys for row in (2 * k - 1, 2 * k)]]
    return (rows.T @ (rows @ by_sum))[total]


def restricted_by_sums(logits, basis, keys):
    return _sums(logits, basis, keys) + einops.reduce(logits, "a b c -> 1 1 c", "mean")


def excluded_by_sums(logits, basis, keys):
    return logits - _sums(logits, basis, keys)


def restricted_by_matrix(logits, basis, keys):
    p, _, n = logits.shape
    waves = [torch.full((p, p), 1 / p)]
    for k in keys:
        c, s = basis[2 * k - 1], basis[2 * k]
        waves.append((c[:, None] * c - s[:, None] * s) / 2**0.5)
        waves.append((s[:, None] * c + c[:, None] * s) / 2**0.5)
    W = torch.stack(waves).flatten(1)
    return (W.T @ (W @ logits.reshape(p * p, n))).reshape(p, p, n)


def order_backwards(steps, measures):
    result = []
    for name in measures:
        values = measures[name].tolist()
        first, last = values[0], values[-1]
        if first == last:
            continue
        there = [(v - first) / (last - first) >= 0.5 for v in values]
        start = len(values) - 1
        while there[start - 1]:
            start -= 1
        result.append((name, steps[start].item()))
    result.sort(key=lambda pair: pair[1])
    return result


def order_by_numpy(steps, measures):
    names, when = [], []
    for name, values in measures.items():
        v = values.numpy().astype(np.float64)
        if v[0] != v[-1]:
            beyond = (v - v[0]) * np.sign(v[-1] - v[0]) >= abs(v[-1] - v[0]) / 2
            names.append(name)
            when.append(int(steps[int(np.argmax(np.logical_and.accumulate(beyond[::-1])[::-1]))]))
    return [(names[i], when[i]) for i in np.argsort(when, kind="stable")]


def frequencies_as_tensor(case):
    return torch.tensor(case.judge_data.used)


def frequencies_another_order(case):
    return [*reversed(case.judge_data.used), case.judge_data.used[0]]


def frequencies_as_tuple(case):
    return tuple(float(k) for k in case.judge_data.used)


ANSWERS = {
    "fourier_basis": [basis_by_fft, basis_in_place],
    "key_frequencies": [frequencies_by_fft, frequencies_by_loop],
    "cosine_fit": [fit_by_least_squares, fit_by_fft, fit_by_projection],
    "restricted_logits": [restricted_by_fft, restricted_by_sums, restricted_by_matrix],
    "excluded_logits": [excluded_by_fft, excluded_by_sums],
    "emergence_order": [order_backwards, order_by_numpy],
    "my_frequencies": [frequencies_as_tensor, frequencies_another_order, frequencies_as_tuple],
}

# Mutants of the reference that are right: the changed statement, and why.

SIGN = "a wave and its negative have the same projection"
ORDER = "the order of the two axes, or of the two waves, does not matter"
SCALE = "ranks do not change with the scale"

# ruff: noqa: E501 (statements as the mutator writes them)

EQUIVALENT = {
    "fourier_basis": {"for k in range(1, (p + 2) // 2):": "p is odd"},
    "key_frequencies": {
        "of_frequency = power.unflatten(-1, (-1, 2)).sum(dim=1)": "there is one axis",
        "of_frequency = power.unflatten(0, (-1, 2)).mean(dim=1)": SCALE,
        "power = (basis @ W_E)[1:].square().mean(dim=1)": SCALE,
    },
    "cosine_fit": {
        "centered = neuron.double().mean() - neuron.double()": "squares follow",
        "degree = torch.tensor([-1, 1, 1, 2, 2])": "the same pairs have a degree of two or less",
        "return float(coefficients[degree[:, None] + degree <= 2 + 0.03].square().sum() / total)": "degrees are whole numbers",
        "waves = torch.stack([0 * angle - 0.5 ** 0.5, angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()])": SIGN,
    },
    "restricted_logits": {
        "cos, sin = (basis[2 * k], basis[2 * k - 1])": "the first wave changes its sign, the second is symmetric; "
        + SIGN,
        "for wave in (torch.outer(sin, cos) + torch.outer(cos, sin), torch.outer(cos, cos) - torch.outer(sin, sin)):": ORDER,
        "for wave in (torch.outer(sin, sin) - torch.outer(cos, cos), torch.outer(sin, cos) + torch.outer(cos, sin)):": SIGN,
        "kept = logits.mean(dim=(1, 0)).expand_as(logits).clone()": ORDER,
    },
    "excluded_logits": {
        "return logits - restricted_logits(logits, basis, keys) + logits.mean(dim=(1, 0))": ORDER,
    },
}

_THREE = "p is at least 3"

EQUIVALENT_KINDS = {
    "restricted_logits": {"squeeze(0) on the result": _THREE, "squeeze(1) on the result": _THREE},
    "excluded_logits": {"squeeze(0) on the result": _THREE, "squeeze(1) on the result": _THREE},
}
