"""Other right answers to lesson 07."""

from __future__ import annotations

import numpy as np
import torch

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


ANSWERS = {
    "detection_score": [detection_by_sklearn, detection_by_counts],
    "fuzzing_score": [fuzzing_by_shares, fuzzing_by_loop],
    "specificity": [specificity_by_scipy, specificity_by_searching],
    "compare_bases": [bases_by_ranks, bases_by_turning],
}

# Mutants of the reference that are right: the changed statement, and why.

AFFINE = "true rows against all: the area drawn towards one half, by the same factor in every column"

EQUIVALENT: dict[str, dict[str, str]] = {
    "fuzzing_score": {
        "says_right = marked.any(dim=1) & (2 * hits >= marks - 0.03)": "counts are whole",
    },
    "compare_bases": {
        "i = max(range(len(known)), key=lambda column: abs(0.5 - known[column]))": "an absolute value",
        "known = [specificity(c[train & labels], c[train]) for c in f.T]": AFFINE,
        "known = [specificity(c[train], c[train & ~labels]) for c in f.T]": AFFINE,
    },
}

EQUIVALENT_KINDS: dict[str, dict[str, str]] = {}
