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


def path_by_context(model, tokens, source, part, layers):
    kept = {}

    def silence(z, hook):
        mask = torch.ones_like(z)
        mask[:, :, source[1]] = 0
        return z * mask

    def keep(x, hook):
        kept[hook.layer()] = x.detach().clone()

    names = [f"blocks.{layer}.attn.hook_{part}" for layer in layers]
    with torch.inference_mode():
        with model.hooks(fwd_hooks=[(f"blocks.{source[0]}.attn.hook_z", silence)] + [(n, keep) for n in names]):
            model(tokens)
        with model.hooks(fwd_hooks=[(n, lambda x, hook: kept[hook.layer()]) for n in names]):
            return loss_by_cross_entropy(model(tokens), tokens)


def path_by_cache_in_place(model, tokens, source, part, layers):
    layer, head = source

    def silence(z, hook):
        z[:, :, head] = 0.0

    with torch.no_grad():
        with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", silence)]):
            _, cache = model.run_with_cache(tokens)

        def put(x, hook):
            x.copy_(cache[f"blocks.{hook.layer()}.attn.hook_{part}"])

        hooks = [(f"blocks.{later}.attn.hook_{part}", put) for later in layers]
        return loss_by_logsumexp(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


def text_by_loop(pattern, tokens):
    rows = []
    for q, token in enumerate(tokens.tolist()):
        keys = [j + 1 for j in range(q) if tokens[j] == token]
        if keys:
            rows.append(pattern[:, q, keys].sum(-1))
    return torch.stack(rows).mean(0) if rows else [0.0] * len(pattern)


def text_by_einsum(pattern, tokens):
    n = len(tokens)
    earlier = F.one_hot(tokens).float() @ F.one_hot(tokens).float().T * torch.ones(n, n).tril(-1)
    after = F.pad(earlier, (1, 0))[:, :n]
    queries = earlier.sum(1).gt(0).sum()
    return einops.einsum(pattern, after, "h q k, q k -> h") / max(int(queries), 1)


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


def step_cleared_at_the_end_too(model, optimizer, tokens):
    model.zero_grad(set_to_none=False)
    loss = loss_by_logsumexp(model(tokens), tokens).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.item()


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
    "loss_without_heads": [without_by_context, without_one_hook_per_layer],
    "loss_without_path": [path_by_context, path_by_cache_in_place],
    "text_induction_score": [text_by_loop, text_by_einsum],
    "copying_score": [copying_by_loop, copying_by_counting],
    "composition_score": [composition_by_einsum, composition_by_svd],
    "train_step": [step_by_cross_entropy, step_cleared_at_the_end_too],
    "my_induction_heads": [strongest_six, strongest_as_tensor],
}


# Mutants of the reference that are right: the changed statement, and why.

IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
GATHER = "gather reads only as many rows of logits as there are target tokens"
AXIS = "the same axis, counted from the other side"

EQUIVALENT = {
    "loss_per_token": {"log_probs = logits[:, :].log_softmax(dim=-1)": GATHER},
    "induction_score": {"return stripe[..., -period:].mean(dim=1)": AXIS},
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
    "loss_without_path": {
        "kept[hook.name] = x": "nothing changes the activation afterwards",
        "model.run_with_hooks(tokens, fwd_hooks=first)": "what the first run returns is not used",
        "return None": IN_PLACE,
        "z[:, :-1, source[1]] = 0.0": "what a head writes at the last position reaches no logits that are read",
        "log_probs = logits[:, :].log_softmax(dim=-1)": GATHER,
    },
    "text_induction_score": {
        "attention = (pattern * follows).sum(dim=(2, 1))": "a sum over two axes, in either order",
        "follows = earlier.roll(1)": "the last column of `earlier` is empty, so rows do not run into one another",
        "return attention / earlier.any(dim=0).sum().clamp(min=1)": "as many tokens come again as have come before",
    },
    "train_step": {"log_probs = model(tokens)[:, :].log_softmax(dim=-1)": GATHER},
}
