"""Other right answers to lesson 04."""

from __future__ import annotations

import einops
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score
from sklearn.metrics.pairwise import cosine_similarity


def last_by_loop(attention_mask):
    return [max(i for i, real in enumerate(row) if real) for row in attention_mask.tolist()]


def last_by_flip(attention_mask):
    width = attention_mask.size(1)
    return width - 1 - attention_mask.flip(dims=[1]).argmax(dim=1)


def at_by_gather(resid, index):
    return resid.gather(1, index[:, None, None].expand(-1, 1, resid.shape[-1])).squeeze(1)


def at_by_stack(resid, index):
    return torch.stack([resid[b, i] for b, i in enumerate(index.tolist())])


def means_by_numpy(positive, negative):
    return torch.from_numpy(positive.numpy().mean(axis=0) - negative.numpy().mean(axis=0))


def means_by_einsum(positive, negative):
    n, m = len(positive), len(negative)
    return einops.einsum(positive, "n d -> d") / n - einops.einsum(negative, "m d -> d") / m


def probe_by_weights(x, y):
    up, down = y.double(), (~y).double()
    if not up.sum() * down.sum():
        raise ValueError("one class is empty")
    a, b = (up @ x.double()) / up.sum(), (down @ x.double()) / down.sum()
    return a - b, torch.dot(b - a, a + b) / 2


def probe_by_squares(x, y):
    positive, negative = x[y], x[torch.logical_not(y)]
    if min(len(positive), len(negative)) == 0:
        raise ValueError("empty")
    a, b = positive.mean(0), negative.mean(0)
    return [a - b, (b.square().sum() - a.square().sum()) / 2]


def accuracy_by_sklearn(w, b, x, y):
    return accuracy_score(y.numpy(), (x @ w + b).numpy() > 0)


def accuracy_by_loop(w, b, x, y):
    right = 0
    for row, label in zip(x, y, strict=True):
        right += int((torch.dot(row, w) + b > 0).item() == bool(label))
    return torch.tensor(right / len(y))


def cosines_by_torch(vectors):
    return F.cosine_similarity(vectors[:, None], vectors[None], dim=-1)


def cosines_by_sklearn(vectors):
    return torch.from_numpy(cosine_similarity(vectors.numpy()))


def add_by_mask(resid, hook, vector, coefficient, start):
    steered = (torch.arange(resid.shape[1]) >= start).to(resid.dtype)
    return resid + coefficient * steered[None, :, None] * vector


def add_by_cat(resid, hook, vector, coefficient, start):
    return torch.cat([resid[:, :start], resid[:, start:] + coefficient * vector], dim=1)


def ablate_in_place(resid, hook, direction):
    squared = direction @ direction
    if squared > 0:
        resid -= torch.outer((resid @ direction).flatten(), direction).view_as(resid) / squared


def ablate_by_projector(resid, hook, direction):
    unit = F.normalize(direction, dim=0)
    return resid @ (torch.eye(len(unit)) - unit[:, None] @ unit[None])


def orthogonal_by_qr(W, direction):
    if not direction.any():
        return W
    q, _ = torch.linalg.qr(direction.double()[:, None])
    return W - W.double() @ q @ q.T


def orthogonal_by_rows(W, direction):
    squared = float(direction.square().sum())
    if squared == 0:
        return W.clone()
    return torch.stack([row - float(row @ direction) / squared * direction for row in W])


def controls_by_numpy(vector, n, seed):
    noise = np.random.default_rng(seed).normal(size=(n, len(vector)))
    noise *= np.linalg.norm(vector.numpy()) / np.linalg.norm(noise, axis=1, keepdims=True)
    return torch.from_numpy(noise)


def controls_by_normalize(vector, n, seed):
    g = torch.Generator()
    g.manual_seed(seed)
    return torch.stack([F.normalize(torch.randn(vector.shape, generator=g), dim=0) * vector.norm() for _ in range(n)])


def odds_by_log_softmax(logits, positive_ids, negative_ids):
    if len(positive_ids) == 0 or len(negative_ids) == 0:
        raise ValueError("empty set")
    logp = logits.double().log_softmax(-1)
    return torch.logsumexp(logp[:, positive_ids], 1) - torch.logsumexp(logp[:, negative_ids], 1)


def odds_by_shift(logits, positive_ids, negative_ids):
    assert_sets = [positive_ids, negative_ids]
    if not all(assert_sets):
        raise ValueError("each set needs a word")
    both = logits[:, positive_ids + negative_ids]
    p = (both - both.max(-1, keepdim=True).values).double().exp()
    return (p[:, : len(positive_ids)].sum(-1) / p[:, len(positive_ids) :].sum(-1)).log()


def dose_by_loop(effect, coefficients):
    out, without = [], effect(0)
    for c in coefficients:
        out.append(effect(c) - without)
    return out


def dose_as_tensor(effect, coefficients):
    return torch.tensor([effect(c) for c in coefficients], dtype=torch.float64) - effect(0.0)


def kl_by_torch(base_logits, steered_logits):
    return F.kl_div(steered_logits.log_softmax(-1), base_logits.log_softmax(-1), reduction="none", log_target=True).sum(
        -1
    )


def kl_by_distributions(base_logits, steered_logits):
    p = torch.distributions.Categorical(logits=base_logits.double())
    q = torch.distributions.Categorical(logits=steered_logits.double())
    return torch.distributions.kl_divergence(p, q)


def half_a_dose(case):
    return case.judge_data.direction(14), 14, 0.75


def as_a_list_of_numbers(case):
    return [(case.judge_data.direction(10) * 2).tolist(), torch.tensor(10), torch.tensor(0.4)]


def negative_of_the_negative(case):
    return -case.judge_data.direction(18), 18, -1


ANSWERS = {
    "last_token_index": [last_by_loop, last_by_flip],
    "activations_at": [at_by_gather, at_by_stack],
    "difference_of_means": [means_by_numpy, means_by_einsum],
    "mass_mean_probe": [probe_by_weights, probe_by_squares],
    "probe_accuracy": [accuracy_by_sklearn, accuracy_by_loop],
    "cosine_similarities": [cosines_by_torch, cosines_by_sklearn],
    "add_vector": [add_by_mask, add_by_cat],
    "ablate_direction": [ablate_in_place, ablate_by_projector],
    "orthogonalize": [orthogonal_by_qr, orthogonal_by_rows],
    "random_controls": [controls_by_numpy, controls_by_normalize],
    "log_odds": [odds_by_log_softmax, odds_by_shift],
    "dose_response": [dose_by_loop, dose_as_tensor],
    "kl_divergence": [kl_by_torch, kl_by_distributions],
    "my_steering": [half_a_dose, as_a_list_of_numbers, negative_of_the_negative],
}


# Mutants of the reference that are right: the changed statement, and why.

IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
AXIS = "the same axis, counted from the other side"

EQUIVALENT = {
    "last_token_index": {"return (attention_mask * positions).argmax(dim=1)": AXIS},
    "mass_mean_probe": {"return (w, float(-((up + down) @ w) / 2))": "a dot product, in either order"},
    "log_odds": {
        "return logits[:, positive_ids].logsumexp(dim=1) - logits[:, negative_ids].logsumexp(dim=-1)": AXIS,
        "return logits[:, positive_ids].logsumexp(dim=-1) - logits[:, negative_ids].logsumexp(dim=1)": AXIS,
    },
    "add_vector": {"return None": IN_PLACE},
    "kl_divergence": {
        "base = base_logits.log_softmax(dim=1)": AXIS,
        "steered = steered_logits.log_softmax(dim=1)": AXIS,
        "return (base.exp() * (base - steered)).sum(dim=1)": AXIS,
    },
    "random_controls": {
        "noise = torch.randn(n, vector.shape[-1], generator=generator)": AXIS,
        "return noise / noise.norm(dim=1, keepdim=True) * vector.norm()": AXIS,
    },
    "cosine_similarities": {
        "norms = vectors.norm(dim=1, keepdim=True)": AXIS,
        "unit = vectors / torch.where(norms > 0, norms, 2.0)": "a zero vector stays zero, whatever it is divided by",
    },
    "ablate_direction": {"return None": IN_PLACE},
}
