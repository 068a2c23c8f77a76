"""Other right answers to lesson 04."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity


def last_by_loop(attention_mask):
    return [max(i for i, real in enumerate(row) if real) for row in attention_mask.tolist()]


def last_by_flip(attention_mask):
    width = attention_mask.size(1)
    return width - 1 - attention_mask.flip(dims=[1]).argmax(dim=1)


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


def kl_by_torch(base_logits, steered_logits):
    return F.kl_div(steered_logits.log_softmax(-1), base_logits.log_softmax(-1), reduction="none", log_target=True).sum(
        -1
    )


def kl_by_distributions(base_logits, steered_logits):
    p = torch.distributions.Categorical(logits=base_logits.double())
    q = torch.distributions.Categorical(logits=steered_logits.double())
    return torch.distributions.kl_divergence(p, q)


def matched_by_cholesky(vector, activations, n, seed):
    root = torch.linalg.cholesky(torch.cov(activations.double().T))
    noise = torch.randn(n, len(root), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(noise @ root.T, dim=1) * vector.norm()


def matched_by_numpy(vector, activations, n, seed):
    x = activations.numpy().astype(float)
    rows = np.random.default_rng(seed).multivariate_normal(np.zeros(x.shape[1]), np.cov(x.T), size=n)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True) * np.linalg.norm(vector.numpy()))


def sweep_by_batches(model, tokens, layers, vectors, controls, coefficient, metric):
    """All directions of a layer in one pass."""
    table = []
    with torch.no_grad():
        base = metric(model(tokens))
        for layer, vector, others in zip(layers, vectors, controls, strict=True):
            directions = torch.cat([vector[None], others])
            push = torch.zeros(len(directions), 1, tokens.shape[1], vectors.shape[1])
            push[:, :, 1:] = coefficient * directions[:, None, None]
            push = push.expand(-1, len(tokens), -1, -1).flatten(0, 1)
            hooks = [(f"blocks.{layer}.hook_resid_post", lambda resid, hook, push=push: resid + push)]
            logits = model.run_with_hooks(tokens.repeat(len(directions), 1), fwd_hooks=hooks)
            table.append([metric(part) - base for part in logits.split(len(tokens))])
    return table


def sweep_by_bias(model, tokens, layers, vectors, controls, coefficient, metric):
    """Added before the next block: the stream is the same there."""
    values = {}

    def measured(layer, direction):
        def steer(resid, hook):
            bos, others = resid[:, :1], resid[:, 1:]
            return torch.cat([bos, others + direction * coefficient], dim=1)

        with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", steer)]):
            return metric(model(tokens).detach())

    base = metric(model(tokens).detach())
    for i, layer in enumerate(layers):
        values[i, 0] = measured(layer, vectors[i])
        for j in range(controls.size(1)):
            values[i, j + 1] = measured(layer, controls[i][j])
    return torch.tensor([[values[i, j] - base for j in range(1 + controls.size(1))] for i in range(len(layers))])


def generation_row_by_row(model, tokens, layer, vector, coefficient, n_new):
    push = coefficient * vector
    out = []
    for row in tokens.tolist():
        for _ in range(n_new):
            hooks = [(f"blocks.{layer}.hook_resid_post", lambda x, hook: torch.cat([x[:, :1], x[:, 1:] + push], dim=1))]
            logits = model.run_with_hooks(torch.tensor([row]), fwd_hooks=hooks, return_type="logits")
            row = [*row, int(logits[0, -1].argmax())]
        out.append(row[tokens.shape[1] :])
    return torch.tensor(out).view(len(tokens), n_new)


def generation_with_add_hook(model, tokens, layer, vector, coefficient, n_new):
    def steer(resid, hook):
        keep = (torch.arange(resid.shape[1]) > 0).to(resid.dtype)
        return resid + keep[None, :, None] * (coefficient * vector)

    model.add_hook(f"blocks.{layer}.hook_resid_post", steer)
    written = torch.empty(len(tokens), n_new, dtype=torch.long)
    try:
        with torch.inference_mode():
            for step in range(n_new):
                written[:, step] = model(torch.cat([tokens, written[:, :step]], 1))[:, -1].max(-1).indices
    finally:
        model.reset_hooks()
    return written


def half_a_dose(case):
    return case.judge_data.direction(14), 14, 0.75


def as_a_list_of_numbers(case):
    return [(case.judge_data.direction(10) * 2).tolist(), torch.tensor(10), torch.tensor(0.4)]


def negative_of_the_negative(case):
    return -case.judge_data.direction(18), 18, -1


ANSWERS = {
    "last_token_index": [last_by_loop, last_by_flip],
    "mass_mean_probe": [probe_by_weights, probe_by_squares],
    "cosine_similarities": [cosines_by_torch, cosines_by_sklearn],
    "add_vector": [add_by_mask, add_by_cat],
    "ablate_direction": [ablate_in_place, ablate_by_projector],
    "random_controls": [controls_by_numpy, controls_by_normalize],
    "log_odds": [odds_by_log_softmax, odds_by_shift],
    "kl_divergence": [kl_by_torch, kl_by_distributions],
    "matched_controls": [matched_by_cholesky, matched_by_numpy],
    "layer_sweep": [sweep_by_batches, sweep_by_bias],
    "steered_generation": [generation_row_by_row, generation_with_add_hook],
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
    "matched_controls": {
        "return mixed / mixed.norm(dim=1, keepdim=True) * vector.norm()": AXIS,
        "centered = activations.mean(dim=0) - activations": "random weights favor no sign",
    },
    "cosine_similarities": {
        "norms = vectors.norm(dim=1, keepdim=True)": AXIS,
        "unit = vectors / torch.where(norms > 0, norms, 2.0)": "a zero vector stays zero, whatever it is divided by",
    },
    "ablate_direction": {"return None": IN_PLACE},
    "layer_sweep": {
        "return None": IN_PLACE,
        "table = torch.ones(len(layers), 1 + controls.shape[1])": "every entry is written afterwards",
    },
    "steered_generation": {
        "new = model(tokens)[:, -1].argmax(dim=1)": AXIS,
        "return None": IN_PLACE,
    },
}
