# ruff: noqa: E501 - a mutant is named by its whole line
"""Other right answers to lesson 07."""

from __future__ import annotations

import heapq
import random
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F


def top_by_topk(f, n):
    values, places = f.topk(min(n, len(f)))
    return places[values > 0]


def top_by_heap(f, n):
    values = f.tolist()
    best = heapq.nlargest(n, (p for p, v in enumerate(values) if v > 0), key=values.__getitem__)
    return tuple(best)


def quantiles_by_random(f, edges, n, seed):
    values = f.tolist()
    order = sorted((p for p, v in enumerate(values) if v > 0), key=lambda p: (-values[p], -p))
    dice, examples = random.Random(seed), []
    for a, b in pairwise(edges):
        band = order[round(a * len(order)) : round(b * len(order))]
        examples.append(sorted(dice.sample(band, min(n, len(band)))))
    return examples


def quantiles_by_numpy(f, edges, n, seed):
    """The same generator anew for each band; a tuple of tensors."""
    f = f.numpy()
    order = np.argsort(-f)
    order = order[f[order] > 0]
    cuts = np.rint(np.array(edges) * len(order)).astype(int)
    examples = []
    for i, (start, end) in enumerate(pairwise(cuts)):
        chosen = np.random.default_rng([seed, i]).permutation(end - start)[:n]
        examples.append(torch.from_numpy(order[start:end][chosen]))
    return tuple(examples)


def effect_by_topk(W_dec_row, W_U, n):
    logits = torch.einsum("d,dv->v", W_dec_row, W_U)
    logits = logits - logits.mean()
    k = min(n, len(logits))
    return [logits.topk(k).indices, logits.topk(k, largest=False).indices]


def effect_by_sorting(W_dec_row, W_U, n):
    logits = (W_U.T.double() @ W_dec_row.double()).tolist()
    ids = range(len(logits))
    return sorted(ids, key=lambda v: -logits[v])[:n], sorted(ids, key=lambda v: logits[v])[:n]


def ablation_by_cross_entropy(logits_clean, logits_ablated, tokens):
    def loss(logits):
        return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")

    return loss(logits_ablated) - loss(logits_clean)


def ablation_by_loop(logits_clean, logits_ablated, tokens):
    rise = torch.zeros(tokens.shape[0], tokens.shape[1] - 1, dtype=torch.float64)
    for b in range(tokens.shape[0]):
        for i in range(tokens.shape[1] - 1):
            target = tokens[b, i + 1]
            for logits, sign in ((logits_ablated, 1), (logits_clean, -1)):
                row = logits[b, i].double()
                rise[b, i] += sign * (row.logsumexp(0) - row[target])
    return rise


ANSWERS = {
    "top_activations": [top_by_topk, top_by_heap],
    "quantile_examples": [quantiles_by_random, quantiles_by_numpy],
    "logit_effect": [effect_by_topk, effect_by_sorting],
    "ablation_effect": [ablation_by_cross_entropy, ablation_by_loop],
}


# Mutants of the reference that are right: the changed statement, and why.

EQUIVALENT: dict[str, dict[str, str]] = {
    "logit_effect": {
        "return (order[:n].tolist(), order.flip(-1)[:n].tolist())": "the only axis, counted from the other side",
    },
    "ablation_effect": {
        "logprobs = logits[:, :].log_softmax(dim=-1)": "`gather` leaves the last position out: there is no index for it",
        "return -logprobs.gather(2, tokens[:, 1:, None])[:, :, -1]": "this axis has one entry",
    },
}
