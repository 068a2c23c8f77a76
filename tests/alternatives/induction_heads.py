"""Other right answers to lesson 02."""

from __future__ import annotations

import einops
import numpy as np
import torch
import torch.nn.functional as F


def tokens_by_numpy(batch, period, low, high, bos, seed):
    half = np.random.default_rng(seed).integers(low, high, (batch, period))
    return torch.from_numpy(np.concatenate([np.full((batch, 1), bos), half, half], axis=1))


def tokens_by_rand(batch, period, low, high, bos, seed):
    g = torch.Generator()
    g.manual_seed(seed)
    out = torch.empty(batch, 2 * period + 1, dtype=torch.long)
    out[:, 0] = bos
    out[:, 1 : period + 1] = (torch.rand(batch, period, generator=g) * (high - low)).long() + low
    out[:, period + 1 :] = out[:, 1 : period + 1]
    return out


def loss_by_cross_entropy(logits, tokens):
    flat = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return flat.view(tokens.shape[0], -1)


def loss_by_logsumexp(logits, tokens):
    logits = logits.double()
    picked = torch.take_along_dim(logits[:, :-1], tokens[:, 1:].unsqueeze(-1), dim=2)[..., 0]
    return logits[:, :-1].logsumexp(-1) - picked


def previous_by_loop(pattern):
    return torch.stack([pattern[:, q, q - 1] for q in range(1, pattern.shape[-1])]).mean(0)


def previous_by_shift(pattern):
    n = pattern.shape[-1]
    return einops.einsum(pattern[:, 1:, : n - 1], torch.eye(n - 1), "h q k, q k -> h") / (n - 1)


def induction_by_indexing(pattern, period):
    q = torch.arange(period + 1, 2 * period + 1)
    return pattern[:, q, q - period + 1].mean(1)


def induction_by_list(pattern, period):
    return [
        sum(head[q][q + 1 - period] for q in range(period + 1, 2 * period + 1)) / period for head in pattern.tolist()
    ]


def heads_by_topk(scores, threshold):
    flat = scores.flatten()
    order = flat.argsort(descending=True)
    return [divmod(int(i), scores.shape[1]) for i in order if flat[i] > threshold]


def heads_as_tensors(scores, threshold):
    where = (scores > threshold).nonzero()
    order = scores[scores > threshold].argsort(descending=True)
    return list(where[order])


def hook_of_lists(scores, period):
    def hook(pattern, hook):
        for head in range(pattern.shape[1]):
            scores[hook.layer(), head] = torch.tensor([induction_by_list(one, period)[head] for one in pattern]).mean()

    return hook


def hook_that_returns_the_pattern(scores, period):
    def hook(activation, hook):
        q = torch.arange(period + 1, 2 * period + 1)
        scores[hook.layer(), :] = activation[:, :, q, q - period + 1].mean(dim=(0, 2))
        return activation

    return hook


def without_by_context(model, tokens, heads):
    def make(head):
        def silence(z, hook):
            mask = torch.ones_like(z)
            mask[:, :, head] = 0
            return z * mask

        return silence

    hooks = [(f"blocks.{layer}.attn.hook_z", make(head)) for layer, head in heads]
    with torch.inference_mode(), model.hooks(fwd_hooks=hooks):
        logits = model(tokens)
    return loss_by_cross_entropy(logits, tokens)


def without_one_hook_per_layer(model, tokens, heads):
    by_layer = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)

    def silence(z, hook):
        z[:, :, by_layer[hook.layer()]] = 0.0

    names = [f"blocks.{layer}.attn.hook_z" for layer in by_layer]
    logits = model.run_with_hooks(tokens, fwd_hooks=[(name, silence) for name in names])
    return loss_by_logsumexp(logits, tokens)


def copying_by_loop(W_E, W_OV, W_U):
    hits = 0
    for t in range(len(W_E)):
        row = W_E[t] @ W_OV @ W_U
        hits += all(row[t] > row[u] for u in range(len(row)) if u != t)
    return hits / len(W_E)


def copying_by_counting(W_E, W_OV, W_U):
    logits = W_E @ W_OV @ W_U
    at_least = (logits >= logits.diagonal()[:, None]).sum(1)
    return (at_least == 1).float().mean()


def composition_by_einsum(W_first, W_second):
    product = torch.einsum("ab,bc->ac", W_first, W_second)
    below = torch.linalg.norm(W_first) * torch.linalg.norm(W_second)
    return torch.linalg.norm(product) / below if below else 0


def composition_by_svd(W_first, W_second):
    def norm(m):
        return torch.linalg.svdvals(m.double()).square().sum().sqrt()

    below = norm(W_first) * norm(W_second)
    return torch.where(below > 0, norm(W_first @ W_second) / below, 0.0)


def step_by_cross_entropy(model, optimizer, tokens):
    logits = model(tokens)
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:])
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def step_cleared_at_the_end(model, optimizer, tokens):
    loss = loss_by_logsumexp(model(tokens), tokens).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.item()


def emergence_by_numpy(steps, scores, threshold):
    low = [i for i, s in enumerate(scores) if not s > threshold]
    start = low[-1] + 1 if low else 0
    return steps[start] if start < len(steps) else None


def emergence_by_minimum(steps, scores, threshold):
    return next((steps[i] for i in range(len(steps)) if min(scores[i:]) > threshold), None)


def strongest_six(case):
    table = torch.tensor(case.judge_data["induction"])
    return [divmod(int(i), table.shape[1]) for i in table.flatten().topk(6).indices]


def strongest_as_tensor(case):
    table = torch.tensor(case.judge_data["induction"])
    return (table > 0.4).nonzero()


ANSWERS = {
    "repeated_tokens": [tokens_by_numpy, tokens_by_rand],
    "loss_per_token": [loss_by_cross_entropy, loss_by_logsumexp],
    "previous_token_score": [previous_by_loop, previous_by_shift],
    "induction_score": [induction_by_indexing, induction_by_list],
    "top_heads": [heads_by_topk, heads_as_tensors],
    "score_hook": [hook_of_lists, hook_that_returns_the_pattern],
    "loss_without_heads": [without_by_context, without_one_hook_per_layer],
    "copying_score": [copying_by_loop, copying_by_counting],
    "composition_score": [composition_by_einsum, composition_by_svd],
    "train_step": [step_by_cross_entropy, step_cleared_at_the_end],
    "emergence_step": [emergence_by_numpy, emergence_by_minimum],
    "my_induction_heads": [strongest_six, strongest_as_tensor],
}


# Mutants of the reference that are right: the changed statement, and why.

STRICT = "both sides have the same length"
IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
GATHER = "gather reads only as many rows of logits as there are target tokens"
AXIS = "the same axis, counted from the other side"

EQUIVALENT = {
    "loss_per_token": {"log_probs = logits[:, :].log_softmax(dim=-1)": GATHER},
    "induction_score": {"return stripe[..., -period:].mean(dim=1)": AXIS},
    "score_hook": {
        "stripe = pattern.diagonal(offset=-(period - 1), dim1=2, dim2=-1)": AXIS,
        "scores[hook.layer()] = stripe[..., -period:].mean(dim=(-1, 0))": "a mean over two axes, in either order",
    },
    "previous_token_score": {
        "return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=1)": AXIS,
    },
    "copying_score": {
        "return float((own > others.max(dim=1).values).float().mean())": AXIS,
    },
    "loss_without_heads": {
        "return None": IN_PLACE,
        "z[:, :-1, head] = 0.0": "what a head writes at the last position reaches no logits that are read",
        "log_probs = logits[:, :].log_softmax(dim=-1)": GATHER,
    },
    "train_step": {"log_probs = model(tokens)[:, :].log_softmax(dim=-1)": GATHER},
    "emergence_step": {
        "for step, score in zip(reversed(steps), reversed(scores)):": STRICT,
        "for step, score in zip(reversed(steps), reversed(scores), strict=False):": STRICT,
    },
}
