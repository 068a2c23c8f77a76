"""Other right answers to lesson 05."""

from __future__ import annotations

import einops
import numpy as np
import torch
import torch.nn.functional as F


def features_by_numpy(batch, n_features, probability, seed):
    dice = np.random.default_rng(seed)
    return torch.from_numpy(dice.random((batch, n_features)) * (dice.random((batch, n_features)) < probability)).float()


def features_by_bernoulli(batch, n_features, probability, seed):
    g = torch.Generator()
    g.manual_seed(seed)
    size = torch.empty(batch, n_features).uniform_(0, 1, generator=g)
    present = torch.bernoulli(torch.full((batch, n_features), float(probability)), generator=g)
    return torch.where(present.bool(), size, torch.zeros_like(size))


def features_row_by_row(batch, n_features, probability, seed):
    g = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(batch):
        x = torch.rand(n_features, generator=g, dtype=torch.float64)
        x[torch.rand(n_features, generator=g) >= probability] = 0
        rows.append(x)
    return torch.stack(rows)


def forward_by_einsum(x, W, b):
    hidden = einops.einsum(x, W, "batch feature, hidden feature -> batch hidden")
    out = einops.einsum(hidden, W, "batch hidden, hidden feature -> batch feature")
    return F.relu(out + b)


def forward_by_gram(x, W, b):
    gram = W.T @ W
    return torch.stack([(gram @ row + b).clamp(min=0) for row in x])


def forward_in_place(x, W, b):
    return F.linear(F.linear(x, W), W.T, b).relu_()


def loss_by_einsum(x, x_hat, importance):
    return torch.einsum("bf,bf,f->", x - x_hat, x - x_hat, importance) / x.shape[0]


def loss_by_loop(x, x_hat, importance):
    return sum(importance[i] * F.mse_loss(x_hat[:, i], x[:, i]) for i in range(len(importance)))


def linear_by_topk(n_hidden, probability, importance):
    kept = importance.topk(min(n_hidden, len(importance))).values.sum()
    mean, square = probability * 0.5, probability / 3
    return (importance.sum() - kept) * (square - mean**2)


def linear_by_list(n_hidden, probability, importance):
    lost = sorted(importance.tolist(), reverse=True)[n_hidden:]
    # Of a product of a Bernoulli and a uniform number: p times the variance, and p(1 − p) times the squared mean.
    return sum(lost) * (probability / 12 + probability * (1 - probability) / 4)


def dimensionality_by_covariance(W):
    C, norms = W @ W.T, W.norm(dim=0)
    below = torch.stack([w @ C @ w for w in W.T])
    return torch.where(norms > 0, norms**4 / below.clamp(min=1e-30), torch.zeros_like(norms))


def dimensionality_by_loop(W):
    shares = []
    for i in range(W.shape[1]):
        norm = W[:, i].norm()
        shares.append(0.0 if norm == 0 else float(norm**2 / ((W[:, i] / norm) @ W).pow(2).sum()))
    return shares


def dimensionality_by_normalize(W):
    overlap = (F.normalize(W.double(), dim=0).T @ W.double()).pow(2).sum(1)
    return (W.double().pow(2).sum(0) / overlap).nan_to_num(0.0)


def interference_by_difference(W):
    W = W.double()
    return (F.normalize(W, dim=0).T @ W).pow(2).sum(-1) - W.pow(2).sum(0)


def interference_by_loop(W):
    out = torch.zeros(W.shape[1])
    for i in range(W.shape[1]):
        if W[:, i].any():
            out[i] = sum(((W[:, i] @ W[:, j]) / W[:, i].norm()) ** 2 for j in range(W.shape[1]) if j != i)
    return out


def interference_by_mask(W):
    gram, norms = W.T @ W, W.norm(dim=0)
    off = gram.square() * (1 - torch.eye(len(gram)))
    return (off.sum(1) / norms.square()).nan_to_num(0.0)


def pairs_by_numpy(batch, n_pairs, probability, together, seed):
    dice = np.random.default_rng(seed)
    # 0: neither; 1 and 2: one of the two; 3: both
    what = [1 - probability, probability] if together else [1 - 2 * probability, probability, probability]
    state = dice.choice(len(what), size=(batch, n_pairs), p=what)
    x = np.zeros((batch, 2 * n_pairs))
    x[:, 0::2], x[:, 1::2] = state == 1, (state == 1) if together else (state == 2)
    return torch.from_numpy(x * dice.random(x.shape)).float()


def pairs_with_a_coin(batch, n_pairs, probability, together, seed):
    g = torch.Generator().manual_seed(seed)
    there = torch.rand(batch, n_pairs, 1, generator=g) < (probability if together else 2 * probability)
    coin = torch.rand(batch, n_pairs, 1, generator=g) < 0.5
    mask = there.expand(-1, -1, 2) if together else torch.cat([there & coin, there & ~coin], dim=2)
    return torch.where(mask, torch.rand(batch, n_pairs, 2, generator=g), 0.0).reshape(batch, -1)


def train_by_autograd(n_features, n_hidden, probability, importance, seed):
    g = torch.Generator().manual_seed(seed)
    W = torch.nn.Parameter(0.3 * torch.randn(n_hidden, n_features, generator=g))
    b = torch.nn.Parameter(torch.zeros(n_features))
    optimizer = torch.optim.AdamW([W, b], lr=0.03, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 500)
    for _ in range(500):
        x = torch.rand(256, n_features, generator=g) * (torch.rand(256, n_features, generator=g) < probability)
        loss = (importance * (x - F.relu(x @ W.T @ W + b)) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return {"W": W, "b": b}


def train_the_best_of_three(n_features, n_hidden, probability, importance, seed):
    """Several starts at once, the best kept."""
    g = torch.Generator().manual_seed(seed)
    W = (torch.randn(3, n_hidden, n_features, generator=g) / n_features**0.5).requires_grad_()
    b = torch.zeros(3, 1, n_features, requires_grad=True)
    optimizer = torch.optim.RMSprop([W, b], lr=0.01)
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 500)
        x = torch.rand(512, n_features, generator=g) * (torch.rand(512, n_features, generator=g) < probability)
        losses = (importance * (x - torch.relu(x @ W.mT @ W + b)) ** 2).sum(-1).mean(-1)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    best = int(losses.argmin())
    return {"b": b[best, 0].detach(), "W": W[best].detach()}


ANSWERS = {
    "sample_features": [features_by_numpy, features_by_bernoulli, features_row_by_row],
    "toy_forward": [forward_by_einsum, forward_by_gram, forward_in_place],
    "importance_loss": [loss_by_einsum, loss_by_loop],
    "best_linear_loss": [linear_by_topk, linear_by_list],
    "feature_dimensionality": [dimensionality_by_covariance, dimensionality_by_loop, dimensionality_by_normalize],
    "interference": [interference_by_difference, interference_by_loop, interference_by_mask],
    "paired_features": [pairs_by_numpy, pairs_with_a_coin],
    "train_toy": [train_by_autograd, train_the_best_of_three],
}


# Mutants of the reference that are right: the changed statement, and why.

AXIS = "the same axis, counted from the other side"
ZERO = "a zero vector stays zero, whatever it is divided by"
HARDLY_EVER = "a random number is hardly ever just the probability"
REPLACED = "the NaN of a feature that is zero stays in its own row, and the last line puts 0 in its place"

EQUIVALENT = {
    "paired_features": {
        "first = throw <= probability": HARDLY_EVER,
        "second = first if together else (throw > probability) & (throw < 2 * probability)": HARDLY_EVER,
        "second = first if together else (throw >= probability) & (throw <= 2 * probability)": HARDLY_EVER,
    },
    "sample_features": {
        "present = torch.rand(batch, n_features, generator=generator) <= probability": HARDLY_EVER,
    },
    "importance_loss": {
        "return (importance * (x - x_hat) ** 2).sum(dim=1).mean()": AXIS,
        "return (importance * (x_hat - x) ** 2).sum(dim=-1).mean()": "a square does not care about the sign",
    },
    "interference": {"unit = W / torch.where(norms > 0, norms, 2.0)": ZERO},
    "feature_dimensionality": {
        "unit = W / torch.where(norms > 0, norms, 2.0)": ZERO,
        "unit = W / torch.where(norms >= 0, norms, 1.0)": REPLACED,
        "unit = W / torch.where(norms > -1, norms, 1.0)": REPLACED,
        "unit = W / torch.where(norms > 0 - 0.03, norms, 1.0)": REPLACED,
    },
}


# Kinds of wrong answers that are right, or that no case can show, and why.

EQUIVALENT_KINDS = {
    "paired_features": {
        "squeeze(1) on the result": "a pair is two features, so this axis is never of size one",
    },
}
