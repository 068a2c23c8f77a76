# ruff: noqa: E501 - a mutant is named by its whole line
"""Other right answers to lesson 07."""

from __future__ import annotations

import heapq
import random
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from mi_course.interp.sae.word_labels import fit_words


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


# Mutants of the reference that are right: the changed statement, and why.


# ---------------------------------------------------------------------------------------------------------------------
# Detection, fuzzing, AUROC, latents against neurons


def detection_by_sklearn(predicted, fired):
    from sklearn.metrics import balanced_accuracy_score

    if len(set(fired.tolist())) < 2:
        return 0.5
    return balanced_accuracy_score(fired.numpy(), predicted.numpy())


def detection_by_counts(predicted, fired):
    positives, negatives = int(fired.sum()), int((~fired).sum())
    if positives * negatives == 0:
        return torch.tensor(0.5)
    right = predicted == fired
    return (right * torch.where(fired, 0.5 / positives, 0.5 / negatives).double()).sum()


def fuzzing_by_shares(matched, marked, right):
    marks = marked.sum(1)
    share = torch.where(marks > 0, (matched & marked).sum(1) / marks, 0.0)
    return detection_by_counts(share >= 0.5, right)


def fuzzing_by_loop(matched, marked, right):
    said = []
    for example_matched, example_marked in zip(matched, marked, strict=True):
        at_marks = example_matched[example_marked].tolist()
        said.append(len(at_marks) > 0 and sum(at_marks) / len(at_marks) >= 0.5)
    return detection_by_sklearn(torch.tensor(said, dtype=torch.bool), right)


def specificity_by_scipy(f_concept, f_other):
    from scipy.stats import mannwhitneyu

    n, m = len(f_concept), len(f_other)
    if not n or not m:
        return 0.5
    return mannwhitneyu(f_concept.numpy(), f_other.numpy(), method="asymptotic").statistic / (n * m)


def specificity_by_searching(f_concept, f_other):
    if f_concept.numel() == 0 or f_other.numel() == 0:
        return torch.tensor([0.5])
    ordered = f_other.sort().values
    below = torch.searchsorted(ordered, f_concept)
    up_to = torch.searchsorted(ordered, f_concept, right=True)
    return ((below + up_to).double() / 2 / len(ordered)).mean().reshape(1)


def bases_by_ranks(f_sae, f_neurons, labels, train):
    from scipy.stats import rankdata

    def areas(f, rows):
        true = labels[rows].numpy()
        t, m = true.sum(), (~true).sum()
        if not t or not m:
            return np.full(f.shape[1], 0.5)
        ranks = rankdata(f[rows].numpy(), axis=0)
        return (ranks[true].sum(0) - t * (t + 1) / 2) / (t * m)

    found = []
    for f in (f_sae, f_neurons):
        signed = areas(f, train) - 0.5
        i = np.abs(signed).argmax()
        test = areas(f, ~train)[i]
        found.append(test if signed[i] >= 0 else 1 - test)
    return found


def bases_by_turning(f_sae, f_neurons, labels, train):
    def areas(f, rows):
        true, false = f[rows & labels].T, f[rows & ~labels].T
        if not true.shape[1] or not false.shape[1]:
            return torch.full((f.shape[1],), 0.5)
        return ((true[:, :, None] - false[:, None]).sign().double() / 2 + 0.5).mean((1, 2))

    def best(f):
        turned = torch.stack([f, -f], 2).flatten(1)  # each column, and after it the same with the other sign
        return areas(turned, ~train)[areas(turned, train).tolist().index(areas(turned, train).max())]

    return best(f_sae), best(f_neurons)


# Mutants of the reference that are right: the changed statement, and why.

AFFINE = "true rows against all: the area drawn towards one half, by the same factor in every column"


# ---------------------------------------------------------------------------------------------------------------------
# Hooks


def splice_in_place(resid, hook, sae, edit, keep_error):
    rest = resid[:, 1:]
    f = sae.encode(rest)
    edited = f if edit is None else edit(f)
    if keep_error:
        rest += (edited - f) @ sae.W_dec
    else:
        rest.copy_(edited @ sae.W_dec + sae.b_dec)


def splice_by_cat(resid, hook, sae, edit, keep_error):
    x = resid[:, 1:].flatten(0, 1)
    f = sae.encode(x)
    x_hat = sae.decode(f)
    error = x - x_hat if keep_error else torch.zeros_like(x)
    if edit is not None:
        x_hat = sae.decode(edit(f))
    return torch.cat([resid[:, :1], (x_hat + error).view(resid[:, 1:].shape)], dim=1)


def splice_by_where(resid, hook, sae, edit, keep_error):
    edit = edit or (lambda f: f)
    f = sae.encode(resid)
    new = sae.decode(edit(f)) + keep_error * (resid - sae.decode(f))
    first = torch.arange(resid.shape[1])[None, :, None] == 0
    return torch.where(first, resid, new)


def clamp_by_splice(resid, hook, sae, index, value):
    out = resid.clone()
    f = sae.encode(resid[:, 1:])
    clamped = f.clone()
    clamped[..., index] = value
    out[:, 1:] += sae.decode(clamped) - sae.decode(f)
    return out


def clamp_in_place(resid, hook, sae, index, value):
    resid[:, 1:] += torch.einsum("bp,d->bpd", value - sae.encode(resid[:, 1:])[:, :, index], sae.W_dec[index])


def clamp_by_ones(resid, hook, sae, index, value):
    missing = (value - sae.encode(resid).select(-1, index)).unsqueeze(-1)
    moved = torch.ones(resid.shape[1], 1)
    moved[0] = 0
    return resid + moved * missing * sae.W_dec[index].double()


# ---------------------------------------------------------------------------------------------------------------------
# my_clamp


def clamp_below_the_sweet_spot(case):
    return case.judge_data.right, case.judge_data.value(14.0)


def clamp_as_a_list(case):
    return [case.judge_data.right, torch.tensor(case.judge_data.value(20.0))]


def clamp_by_search(case):
    """The latent whose row is closest to the concept, at a norm between."""
    world = case.judge_data
    cosines = torch.nn.functional.normalize(world.rows, dim=1) @ world.concept
    index = cosines.argmax()
    return index, 17 / world.rows[index].norm()


# Mutants of the reference that are right: the changed statement, and why.


def latents_planted(case):
    return case.judge_data.right


def latents_by_scipy(case):
    """As tensors, and by another road: the largest AUROC over all training passages, from ranks."""
    from scipy.stats import rankdata

    train = case.judge_data.train
    ranks = torch.from_numpy(rankdata(train.latents.numpy(), axis=0))
    found = {}
    for name, labels in train.about.items():
        found[name] = torch.tensor([int(ranks[labels == 1].mean(0).argmax())])
    return found


def words_planted(case):
    return tuple(f"{word.upper()}*" for word in case.judge_data.target)


def words_fitted(case):
    train = case.judge_data.train
    return fit_words(train.texts, train.fired)


ANSWERS: dict = {
    "top_activations": [top_by_topk, top_by_heap],
    "quantile_examples": [quantiles_by_random, quantiles_by_numpy],
    "logit_effect": [effect_by_topk, effect_by_sorting],
    "ablation_effect": [ablation_by_cross_entropy, ablation_by_loop],
    "detection_score": [detection_by_sklearn, detection_by_counts],
    "fuzzing_score": [fuzzing_by_shares, fuzzing_by_loop],
    "specificity": [specificity_by_scipy, specificity_by_searching],
    "compare_bases": [bases_by_ranks, bases_by_turning],
    "splice": [splice_in_place, splice_by_cat, splice_by_where],
    "clamp_feature": [clamp_by_splice, clamp_in_place, clamp_by_ones],
    "my_clamp": [clamp_below_the_sweet_spot, clamp_as_a_list, clamp_by_search],
    "my_features": [latents_planted, latents_by_scipy],
    "my_label": [words_planted, words_fitted],
}

EQUIVALENT: dict = {
    "logit_effect": {
        "return (order[:n].tolist(), order.flip(-1)[:n].tolist())": "the only axis, counted from the other side",
    },
    "ablation_effect": {
        "logprobs = logits[:, :].log_softmax(dim=-1)": "`gather` leaves the last position out: there is no index for it",
        "return -logprobs.gather(2, tokens[:, 1:, None])[:, :, -1]": "this axis has one entry",
    },
    "fuzzing_score": {
        "says_right = marked.any(dim=1) & (2 * hits >= marks - 0.03)": "counts are whole",
    },
    "compare_bases": {
        "i = max(range(len(known)), key=lambda column: abs(0.5 - known[column]))": "an absolute value",
        "known = [specificity(c[train & labels], c[train]) for c in f.T]": AFFINE,
        "known = [specificity(c[train], c[train & ~labels]) for c in f.T]": AFFINE,
    },
    "splice": {
        "out = resid": "a hook may work in place",
        "new = sae.decode(f if not edit else edit(f))": "a function is always true",
    },
    "clamp_feature": {"out = resid": "a hook may work in place"},
}

EQUIVALENT_KINDS: dict = {}
