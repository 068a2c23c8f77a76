# ruff: noqa: E501 - a mutant is named by its whole line
"""Other right answers to lesson 08."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F


def labels_by_mask(correct):
    right = correct.int().sum(1)
    labels = np.array(["unknown", "dropped", "known"])[right.clamp(max=2).numpy()]
    return labels.tolist()


def labels_by_match(correct):
    found = []
    for row in correct.tolist():
        match row.count(True):
            case 0:
                found.append("unknown")
            case 1:
                found.append("dropped")
            case _:
                found.append("known")
    return tuple(found)


def folds_by_random(groups, n_folds, seed):
    names = list(dict.fromkeys(groups))
    if n_folds < 2 or n_folds > len(names):
        raise ValueError("folds")
    random.Random(seed).shuffle(names)
    cuts = [len(names) * k // n_folds for k in range(n_folds + 1)]
    chunks = [names[a:b] for a, b in pairwise(cuts)]
    return [[i for i, g in enumerate(groups) if g in chunk] for chunk in chunks]


def folds_by_numpy(groups, n_folds, seed):
    names, which = np.unique(groups, return_inverse=True)
    if not 2 <= n_folds <= len(names):
        raise ValueError("folds")
    fold = np.random.default_rng(seed).permutation(len(names)) % n_folds
    return [torch.from_numpy(np.flatnonzero(fold[which] == k)) for k in range(n_folds)]


def probe_by_sklearn(x, y, l2):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(set(y.tolist())) != 2:
        raise ValueError("one class")
    scaler = StandardScaler().fit(x.double().numpy())
    model = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-8, max_iter=5000)
    model.fit(scaler.transform(x.double().numpy()), y.numpy())
    w = model.coef_[0] / scaler.scale_
    return torch.from_numpy(w).float(), float(model.intercept_[0] - scaler.mean_ @ w)


def probe_by_newton(x, y, l2):
    if y.all() or not y.any():
        raise ValueError("one class")
    x = x.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    std[(x == x[0]).all(0)] = torch.inf
    a = torch.cat([(x - mean) / std, torch.ones(len(x), 1)], dim=1)
    penalty = l2 * torch.cat([torch.ones(x.shape[1]), torch.zeros(1)]).double()
    theta = torch.zeros(a.shape[1]).double()

    def value(theta):
        return F.softplus(torch.where(y, -1.0, 1.0) * (a @ theta)).mean() + (penalty * theta**2).sum() / 2

    for _ in range(100):
        p = (a @ theta).sigmoid()
        gradient = a.T @ (p - y.double()) / len(a) + penalty * theta
        curvature = (a.T * (p * (1 - p))) @ a / len(a) + penalty.diag() + 1e-10 * torch.eye(len(theta))
        step, size = torch.linalg.solve(curvature, gradient), 1.0
        while value(theta - size * step) > value(theta) and size > 1e-6:
            size /= 2
        theta = theta - size * step
    w = theta[:-1] / std
    return [w, theta[-1] - mean @ w]


def auroc_by_scipy(scores, labels):
    from scipy.stats import rankdata

    t = int(labels.sum())
    if t in (0, len(labels)):
        raise ValueError("one class")
    ranks = rankdata(scores.numpy())
    return float((ranks[labels.numpy()].sum() - t * (t + 1) / 2) / (t * (len(labels) - t)))


def auroc_by_searching(scores, labels):
    true, false = scores[labels], scores[~labels].sort().values
    if len(true) == 0 or len(false) == 0:
        raise ValueError("one class")
    low, high = torch.searchsorted(false, true), torch.searchsorted(false, true, right=True)
    return ((low + high).double() / 2 / len(false)).mean()


def selectivity_by_random(x, y, entities, train, fit, seed):
    train_set = {e for e, t in zip(entities, train.tolist(), strict=True) if t}
    if set(entities) - train_set:
        raise ValueError("unseen")
    names = list(dict.fromkeys(entities))
    true = random.Random(seed).sample(names, len(names) // 2)
    accuracies = []
    for labels in (y, torch.tensor([e in true for e in entities])):
        w, b = fit(x[train], labels[train])
        right = [bool(row @ w + b > 0) == bool(label) for row, label in zip(x[~train], labels[~train], strict=True)]
        accuracies.append(np.mean(right))
    return accuracies[0] - accuracies[1]


def selectivity_by_numpy(x, y, entities, train, fit, seed):
    names, which = np.unique(entities, return_inverse=True)
    if set(which) != set(which[train.numpy()]):
        raise ValueError("unseen")
    label = np.random.default_rng(seed).permutation(np.arange(len(names)) < len(names) // 2)
    control = torch.from_numpy(label[which])
    test = (~train).nonzero().flatten()
    w, b = fit(x[train], y[train])
    real = ((x[test] @ w + b > 0) == y[test]).float().mean()
    w, b = fit(x[train], control[train])
    return (real - ((x[test] @ w + b > 0) == control[test]).float().mean()).reshape(1)


def permutation_by_random(x, y, groups, fit_score, n, seed):
    members = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    labels = []
    for rows in members.values():
        if len({bool(y[i]) for i in rows}) > 1:
            raise ValueError("mixed")
        labels.append(bool(y[rows[0]]))
    dice, best = random.Random(seed), fit_score(x, y)
    scores = [best]
    for _ in range(n):
        dice.shuffle(labels)
        shuffled = torch.zeros(len(y), dtype=torch.bool)
        for label, rows in zip(labels, members.values(), strict=True):
            shuffled[rows] = label
        scores.append(fit_score(x, shuffled))
    return float(np.mean([score >= best for score in scores]))


def permutation_by_numpy(x, y, groups, fit_score, n, seed):
    _, first, which = np.unique(groups, return_index=True, return_inverse=True)
    label = y.numpy()[first]
    if not (label[which] == y.numpy()).all():
        raise ValueError("mixed")
    generator = np.random.default_rng(seed)
    best = fit_score(x, y)
    worse = sum(fit_score(x, torch.from_numpy(generator.permutation(label)[which])) < best for _ in range(n))
    return 1 - worse / (n + 1)


def match_by_assignment(features, labels, caliper):
    from scipy.optimize import linear_sum_assignment

    spread = features.std(0, correction=0)
    z = (features - features.mean(0)) / torch.where((features == features[:1]).all(0), torch.inf, spread)
    true, false = torch.where(labels)[0], torch.where(~labels)[0]
    if not len(true) or not len(false):
        return []
    distance = torch.cdist(z[true].double(), z[false].double())
    cost = torch.where(distance <= caliper, distance, 1e6)
    rows, columns = linear_sum_assignment(cost.numpy())
    return [[int(true[i]), int(false[j])] for i, j in zip(rows, columns, strict=True) if distance[i, j] <= caliper]


def match_by_flow(features, labels, caliper):
    """Augmenting paths."""
    x = features.double().numpy()
    spread = x.std(0)
    z = (x - x.mean(0)) / np.where((x == x[:1]).all(0), np.inf, spread)
    near = {
        i: [j for j in range(len(x)) if not labels[j] and np.linalg.norm(z[i] - z[j]) <= caliper]
        for i in range(len(x))
        if labels[i]
    }
    partner = {}

    def augment(i, seen):
        for j in near[i]:
            if j not in seen:
                seen.add(j)
                if j not in partner or augment(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    for i in near:
        augment(i, set())
    return torch.tensor([(i, j) for j, i in partner.items()]).reshape(-1, 2)


def separation_by_counts(f_known, f_unknown):
    known, unknown = torch.count_nonzero(f_known.clamp(min=0), 0), torch.count_nonzero(f_unknown.clamp(min=0), 0)
    return known.double() / len(f_known) - unknown.double() / len(f_unknown)


def separation_by_lists(f_known, f_unknown):
    return [
        float(np.mean([v > 0 for v in a]) - np.mean([v > 0 for v in b]))
        for a, b in zip(f_known.T, f_unknown.T, strict=True)
    ]


def logprob_by_cross_entropy(logits, tokens, start, per_token):
    if not 0 < start < len(tokens):
        raise ValueError("start")
    reduction = "mean" if per_token else "sum"
    return -F.cross_entropy(logits[start - 1 : len(tokens) - 1], tokens[start:], reduction=reduction)


def logprob_by_loop(logits, tokens, start, per_token):
    if start < 1 or start >= tokens.shape[0]:
        raise ValueError("start")
    each = [float(logits[i - 1, tokens[i]] - logits[i - 1].logsumexp(0)) for i in range(start, len(tokens))]
    return np.mean(each).item() if per_token else sum(each)


def entropy_by_union(answers, logprobs, same):
    parent = list(range(len(answers)))

    def root(i):
        return i if parent[i] == i else root(parent[i])

    for i in range(len(answers)):
        for j in range(i):
            if same(answers[i], answers[j]):
                parent[root(i)] = root(j)
    mass = defaultdict(float)
    for i, p in enumerate(torch.softmax(logprobs.double(), 0).tolist()):
        mass[root(i)] += p
    return float(torch.special.entr(torch.tensor(list(mass.values()))).sum())


def entropy_by_scipy(answers, logprobs, same):
    from scipy.sparse.csgraph import connected_components

    linked = [[same(a, b) for b in answers] for a in answers]
    _, label = connected_components(np.array(linked))
    logs = logprobs.double() - logprobs.double().logsumexp(0)
    classes = [logs[torch.from_numpy(label == k)].logsumexp(0) for k in range(label.max() + 1)]
    return -sum(float(c.exp() * c) for c in classes if c > -700)


def calibration_by_numpy(confidence, correct, n_bins):
    order = np.argsort(confidence.numpy(), kind="stable")
    gap = confidence.double().numpy() - correct.numpy()
    return sum(abs(gap[rows].sum()) for rows in np.array_split(order, n_bins)) / len(order)


def calibration_by_loop(confidence, correct, n_bins):
    pairs = sorted(zip(confidence.tolist(), correct.tolist(), strict=True), key=lambda pair: pair[0])
    size, more = divmod(len(pairs), n_bins)
    total, at = 0.0, 0
    for k in range(n_bins):
        chunk = pairs[at : at + size + (k < more)]
        at += len(chunk)
        total += abs(sum(c - right for c, right in chunk))
    return torch.tensor(total / len(pairs))


def curve_by_sorting(confidence, correct):
    order = confidence.argsort(descending=True)
    sorted_, wrong = confidence[order], (~correct[order]).cumsum(0)
    last = torch.cat([sorted_[1:] != sorted_[:-1], torch.tensor([True])])
    count = torch.arange(1, len(order) + 1)
    return (count / len(order))[last], (wrong / count)[last]


def curve_by_loop(confidence, correct):
    coverage, risk = [], []
    for level in np.unique(confidence.numpy())[::-1]:
        given = correct[confidence >= float(level)]
        coverage.append(len(given) / len(correct))
        risk.append(float((~given).double().mean()))
    return coverage, risk


def planted_direction(case):
    return case.judge_data.direction(12), 12


def longer_direction_at_another_layer(case):
    return [(case.judge_data.direction(9) * 40).tolist(), torch.tensor(9)]


def weights_of_four(case):
    return case.judge_data.weights


def weights_fitted(case):
    world = case.judge_data
    z = torch.stack([(s - s.mean()) / s.std(correction=0) for s in world.signals.values()], 1).double()
    w = torch.linalg.lstsq(z, world.correct.double() - world.correct.double().mean()).solution
    return dict(zip(world.signals, w, strict=True))


ANSWERS = {
    "label_known": [labels_by_mask, labels_by_match],
    "group_folds": [folds_by_random, folds_by_numpy],
    "fit_probe": [probe_by_sklearn, probe_by_newton],
    "auroc": [auroc_by_scipy, auroc_by_searching],
    "selectivity": [selectivity_by_random, selectivity_by_numpy],
    "permutation_p": [permutation_by_random, permutation_by_numpy],
    "match_on": [match_by_assignment, match_by_flow],
    "separation": [separation_by_counts, separation_by_lists],
    "my_knowledge_direction": [planted_direction, longer_direction_at_another_layer],
    "answer_logprob": [logprob_by_cross_entropy, logprob_by_loop],
    "semantic_entropy": [entropy_by_union, entropy_by_scipy],
    "calibration_error": [calibration_by_numpy, calibration_by_loop],
    "risk_coverage": [curve_by_sorting, curve_by_loop],
    "my_confidence": [weights_of_four, weights_fitted],
}


# Mutants of the reference that are right: the changed statement, and why.

AXIS = "the same axis, counted from the other side"
CONVERGES = "it converges to the same minimum"
BIAS = "a number that is added to a column is taken back by the bias, which is not penalized"
DISTANCE = "a number that is added to all rows changes no distance"
ORDER = "the message of an error, or the order of what commutes"

EQUIVALENT = {
    "label_known": {
        "labels.append('known' if right >= 2 - 0.03 else 'unknown' if right == 0 else 'dropped')": "counts are whole",
    },
    "fit_probe": {
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], tolerance_grad=1e-08, tolerance_change=1e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1000, tolerance_change=1e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1000, tolerance_grad=1e-08, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1000, tolerance_grad=1e-08, tolerance_change=1e-14)": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1001, tolerance_grad=1e-08, tolerance_change=1e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=999, tolerance_grad=1e-08, tolerance_change=1e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1000, tolerance_grad=2e-08, tolerance_change=1e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "optimizer = torch.optim.LBFGS([v.requires_grad_(), c.requires_grad_()], max_iter=1000, tolerance_grad=1e-08, tolerance_change=2e-14, line_search_fn='strong_wolfe')": CONVERGES,
        "v, c = (torch.ones(x.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))": CONVERGES,
        "v, c = (torch.zeros(x.shape[1], dtype=torch.float64), torch.ones(1, dtype=torch.float64))": CONVERGES,
        "v, c = (torch.zeros(x.shape[1], dtype=torch.float64), torch.zeros(1))": CONVERGES,
        "std = std.where(varies, 2.0)": "such a column has the weight 0",
        "z = ((x64 - mean) / std).where(varies, 1.0)": BIAS,
        "z = ((x64 - mean) / std).where(varies, -1.0)": BIAS,
        "w = v / std": "a gradient is left on it, and nothing is asked of gradients",
        "return (w, float(c.detach() - mean @ w))": "float64 passes",
        "x64, target = (x.double(), y.double())": "inputs carry no gradient",
        "return (w.float(), float(c - mean @ w))": "a number either way",
        "return (w.float(), float(c.detach() - w @ mean))": ORDER,
        "varies = (x64 != x64[1]).any(dim=0)": "any row will do",
        "varies = (x64 != x64[-1]).any(dim=0)": "any row will do",
    },
    "auroc": {"last = counts.cumsum(dim=-1).double()": AXIS},
    "selectivity": {
        "trained = {entity for entity, seen in zip(entities, train) if seen}": "they are of one length",
        "trained = {entity for entity, seen in zip(entities, train, strict=False) if seen}": "they are of one length",
        "raise ValueError(f'no training row of {sorted(unseen)[-1]}')": ORDER,
    },
    "permutation_p": {
        "label = torch.ones(len(names), dtype=torch.bool)": "every entry is set",
        "if not torch.equal(y, label[which]):": ORDER,
    },
    "match_on": {
        "z = ((features - features.mean(dim=0)) / std).where(varies, 1.0)": DISTANCE,
        "z = ((features - features.mean(dim=0)) / std).where(varies, -1.0)": DISTANCE,
        "pairs: list[tuple[int,]] = []": "an annotation",
        "z = ((features + features.mean(dim=0)) / std).where(varies, 0.0)": DISTANCE,
        "z = (features / std).where(varies, 0.0)": DISTANCE,
        "z = ((features.mean(dim=0) - features) / std).where(varies, 0.0)": DISTANCE,
        "z = ((features - features.sum(dim=0)) / std).where(varies, 0.0)": DISTANCE,
        "z = ((features - features.mean()) / std).where(varies, 0.0)": DISTANCE,
        "near = [((z[j] - z[i]).norm().item(), i, j) for i in true for j in false]": ORDER,
    },
    "answer_logprob": {
        "logprobs = logits[start - 1:-1].log_softmax(dim=1)": AXIS,
        "logprobs = logits[start - 1:].log_softmax(dim=-1)": "`gather` leaves the last row out: there is no index for it",
    },
    "semantic_entropy": {
        "weights = logprobs.double().softmax(dim=-1).tolist()": AXIS,
        "if any((same(answers[j], answer) for j in c)):": "`same` is symmetric",
    },
    "calibration_error": {
        "gap = correct[bin].double().mean() - confidence[bin].double().mean()": "its absolute value is taken",
    },
    "risk_coverage": {"levels = confidence.unique().flip(-1)": AXIS},
}

EQUIVALENT_KINDS = {
    "semantic_entropy": {"large results cut off": "an entropy of 10 nats would take 22,000 samples"},
}
