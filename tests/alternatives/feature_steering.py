"""Other right answers to lesson 07."""

from __future__ import annotations

import torch

from mi_course.interp.sae.word_labels import fit_words


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


ANSWERS = {
    "my_features": [latents_planted, latents_by_scipy],
    "my_label": [words_planted, words_fitted],
}

EQUIVALENT: dict[str, dict[str, str]] = {}

EQUIVALENT_KINDS: dict[str, dict[str, str]] = {}
