"""Other right answers to part A of lesson 13."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from mi_course.interp.processes import fit_affine, stationary_distribution


def update_by_loop(belief, T, token):
    joint = [sum(float(belief[s]) * float(T[token, s, r]) for s in range(len(belief))) for r in range(len(belief))]
    if sum(joint) == 0.0:
        raise ValueError("impossible")
    return [p / sum(joint) for p in joint]


def update_by_logs(belief, T, token):
    log_joint = torch.logsumexp(belief.double().log()[:, None] + T[token].double().log(), dim=0)
    if not torch.isfinite(log_joint).any():
        raise ValueError(f"token {token} has probability 0")
    return log_joint.softmax(0)


def states_one_by_one(tokens, T, initial):
    out = torch.empty(*tokens.shape, len(initial), dtype=torch.float64)
    for i, string in enumerate(tokens):
        belief = initial.double()
        for j, token in enumerate(string):
            belief = T[token].double().T @ belief
            belief = belief / belief.sum()
            out[i, j] = belief
    return out


def states_with_numpy(tokens, T, initial):
    matrices = T.numpy()[tokens.numpy()]
    belief = np.repeat(initial.numpy()[None], len(tokens), 0)
    found = []
    for pos in range(tokens.shape[1]):
        belief = np.einsum("bs,bsr->br", belief, matrices[:, pos])
        belief = belief / belief.sum(1, keepdims=True)
        found.append(belief)
    return torch.from_numpy(np.stack(found, 1))


def pairs_by_loop(beliefs, T, tol):
    emit = T.sum(-1)  # [token state]
    pairs = []
    for i, j in itertools.combinations(range(len(beliefs)), 2):
        gap = beliefs[i] - beliefs[j]
        if gap.abs().max() > tol and (emit @ gap).abs().max() <= tol:
            pairs.append([i, j])
    return pairs


def pairs_by_distances(beliefs, T, tol):
    expected = torch.einsum("bs,xsr->bx", beliefs, T)
    near = torch.cdist(expected, expected, p=float("inf")) <= tol
    far = torch.cdist(beliefs, beliefs, p=float("inf")) > tol
    n = len(beliefs)
    return [(i, j) for i in range(n) for j in range(i + 1, n) if near[i, j] and far[i, j]]


def loss_by_blocks(T, n):
    entropies = [0.0]
    for length in range(1, n + 1):
        total = 0.0
        for string in itertools.product(range(len(T)), repeat=length):
            weights = stationary_distribution(T).double()
            for token in string:
                weights = weights @ T[token].double()
            p = float(weights.sum())
            if p > 0:
                total -= p * math.log(p)
        entropies.append(total)
    return [b - a for a, b in itertools.pairwise(entropies)]


def loss_by_beliefs(T, n):
    known = {(): (1.0, stationary_distribution(T))}
    losses = torch.zeros(n)
    for i in range(n):
        longer = {}
        for string, (p, belief) in known.items():
            for token in range(len(T)):
                joint = belief @ T[token]
                q = float(joint.sum())
                if q > 0:
                    losses[i] -= p * q * math.log(q)
                    longer[(*string, token)] = (p * q, joint / q)
        known = longer
    return losses


def r2_by_covariance(x, y, groups):
    x, y, groups = x.numpy(), y.numpy(), groups.numpy()
    top = bottom = 0.0
    for g in np.unique(groups):
        test = groups == g
        centred, shift = x[~test] - x[~test].mean(0), y[~test].mean(0)
        slopes = np.linalg.solve(centred.T @ centred, centred.T @ (y[~test] - shift))
        top += ((y[test] - shift - (x[test] - x[~test].mean(0)) @ slopes) ** 2).sum()
        bottom += ((y[test] - y[~test].mean(0)) ** 2).sum()
    return float(1 - top / bottom)


def r2_by_lstsq(x, y, groups):
    x1 = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    errors, distances = torch.zeros(()), torch.zeros(())
    for g in set(groups.tolist()):
        rest = groups != g
        weights = torch.linalg.lstsq(x1[rest], y[rest]).solution
        errors += ((x1 @ weights - y)[~rest] ** 2).sum()
        distances += ((y[~rest] - y[rest].mean(0)) ** 2).sum()
    return 1 - errors / distances


def intervene_in_place(resid, hook, A, b, target):
    resid += (target - resid @ A - b) @ torch.linalg.pinv(A, rtol=1e-4)


def intervene_by_svd(resid, hook, A, b, target):
    U, S, Vh = torch.linalg.svd(A.double(), full_matrices=False)
    kept = 1e-4 * S.max() < S
    missing = (target - (resid @ A + b)).double()
    change = (missing @ Vh[kept].T / S[kept]) @ U[:, kept].T
    return (resid + change).to(resid.dtype)


def _task_map(case, layer, ridge, shift=0.0):
    task = case.judge_data
    x, y, _ = task.held_out(layer)
    A, b = fit_affine(x, y, ridge)
    return {"process": task.process, "layer": layer, "A": A, "b": b + shift}


def map_of_the_last_layer(case):
    return _task_map(case, case.judge_data.n_layers, 1e-6)


def shrunk_map_of_the_first_layer_as_lists(case):
    value = _task_map(case, 1, 1e-4, shift=0.005)
    return {**value, "layer": torch.tensor(1), "A": value["A"].tolist(), "b": value["b"].double()}


ANSWERS = {
    "belief_update": [update_by_loop, update_by_logs],
    "belief_states": [states_one_by_one, states_with_numpy],
    "distinguishing_pairs": [pairs_by_loop, pairs_by_distances],
    "optimal_loss": [loss_by_blocks, loss_by_beliefs],
    "held_out_r2": [r2_by_covariance, r2_by_lstsq],
    "my_belief_map": [map_of_the_last_layer, shrunk_map_of_the_first_layer_as_lists],
    "belief_intervention": [intervene_in_place, intervene_by_svd],
}
_GAP = "belief_gap, token_gap = ({} for rows in (beliefs, expected))"
EQUIVALENT = {
    "belief_update": {"if joint.mean() == 0:": "the mean is 0 where the sum is"},
    "belief_intervention": {
        "return resid + missing @ torch.linalg.pinv(A)": "its default tolerance sees the same rank",
        "return resid + missing @ torch.linalg.pinv(A, rtol=0.0002)": "no singular value lies in between",
    },
    "held_out_r2": {
        "distances += (y[~held].mean(dim=0) - y[held]).square().sum().item()": "squared",
        "errors += (x[held] @ A + b - y[held]).square().sum().item()": "squared",
    },
    "distinguishing_pairs": {
        _GAP.format(
            "(rows[:-1, None] - rows[None]).abs().amax(dim=-1)"
        ): "the last belief is never the first of a pair",
        _GAP.format("(rows[None] - rows[:, None]).abs().amax(dim=-1)"): "the difference is taken without its sign",
        "pairs = (token_gap < tol) & (belief_gap > tol)": "no difference is near tol, the statement says",
        "pairs = (token_gap <= tol) & (belief_gap >= tol)": "no difference is near tol, the statement says",
        "return [(i, j) for i, j in pairs.triu(0).nonzero().tolist()]": "no belief differs from itself",
    },
}
EQUIVALENT_KINDS = {
    "optimal_loss": {"large results cut off": "no loss exceeds the logarithm of four tokens"},
    "distinguishing_pairs": {"`tol` of 0 taken for none given": "tol is positive, the statement says"},
}
