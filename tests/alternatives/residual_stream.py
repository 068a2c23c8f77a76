"""Other right answers to lesson 01."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F


def pattern_by_sdpa(q, k):
    # With the identity for values, attention returns its own pattern.
    return F.scaled_dot_product_attention(q[None], k[None], torch.eye(len(k))[None], is_causal=True)[0]


def pattern_by_rows(q, k):
    rows = []
    for i in range(len(q)):
        weights = ((k[: i + 1] @ q[i]) / np.sqrt(q.shape[1])).softmax(0)
        rows.append(weights.tolist() + [0.0] * (len(k) - i - 1))
    return rows


def output_by_einsum(pattern, v, W_O):
    kv, heads = len(v), len(pattern)
    grouped = pattern.reshape(kv, heads // kv, *pattern.shape[1:])
    z = torch.einsum("gnqk,gkd->gnqd", grouped, v).reshape(heads, pattern.shape[1], v.shape[2])
    return torch.einsum("hqd,hdm->hqm", z, W_O)


def output_values_first(pattern, v, W_O):
    per_group = len(pattern) // len(v)
    return torch.stack([pattern[h] @ (v[h // per_group] @ W_O[h]) for h in range(len(pattern))])


def parts_by_names(cache, n_layers, pos):
    names = ["blocks.0.hook_resid_pre"]
    for layer in range(n_layers):
        names += [f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out"]
    return torch.cat([cache[name][:, pos] for name in names])


def parts_by_differences(cache, n_layers, pos):
    streams = [cache["resid_pre", 0]]
    for layer in range(n_layers):
        streams += [cache["resid_mid", layer], cache["resid_post", layer]]
    at = torch.stack(streams)[:, 0, pos].double()
    return torch.cat([at[:1], at.diff(dim=0)])


def norm_by_torch(x, w, eps):
    return F.rms_norm(x, w.shape, w, eps)


def norm_by_length(x, w, eps):
    d = x.shape[-1]
    return w * x * np.sqrt(d) * (x.double().norm(dim=-1, keepdim=True) ** 2 + d * eps).rsqrt()


def lens_by_logsumexp(resid, norm, W_U):
    logits = torch.einsum("lpd,dv->lpv", norm(resid), W_U)
    return logits - logits.logsumexp(-1, keepdim=True)


def lens_layer_by_layer(resid, norm, W_U):
    return torch.stack([F.log_softmax(norm(layer) @ W_U, dim=-1) for layer in resid])


def layer_by_topk(logprobs, answer):
    if logprobs.shape[1] == 1:
        return 0
    top = logprobs.topk(2)
    settled = (top.indices[:, 0] == answer) & (top.values[:, 0] > top.values[:, 1])
    run = settled.flip(0).int().cumprod(0).sum().item()
    return len(logprobs) - run if run else None


def layer_by_counting(logprobs, answer):
    not_below = (logprobs >= logprobs[:, [answer]]).sum(1)
    failures = (not_below > 1).nonzero().flatten().tolist()
    first = failures[-1] + 1 if failures else 0
    return torch.tensor(first) if first < len(logprobs) else None


def translator_by_augmenting(resid, final, ridge):
    n, d = resid.shape
    x = torch.cat([resid, torch.ones(n, 1)], dim=1).double()
    penalty = torch.diag(torch.cat([torch.full((d,), float(ridge)), torch.zeros(1)])).double()
    solution = torch.linalg.solve(x.T @ x + penalty, x.T @ final.double())
    return solution[:d], solution[d]


def translator_by_svd(resid, final, ridge):
    x, y = resid - resid.mean(0), final - final.mean(0)
    U, S, Vh = torch.linalg.svd(x.double(), full_matrices=False)
    shrunk = torch.where(1e-9 * S.max().clamp(min=1e-30) < S, S / (S**2 + ridge), 0.0)
    A = (Vh.T * shrunk) @ U.T @ y.double()
    return [A, final.double().mean(0) - resid.double().mean(0) @ A]


def attribution_by_einsum(parts, scale, direction):
    return torch.einsum("pd,d->p", parts / scale, direction)


def attribution_as_list(parts, scale, direction):
    scaled = direction.double() / scale
    return [float(part.double() @ scaled) for part in parts]


def difference_by_context(model, tokens, heads, answers):
    layers = {layer for layer, _ in heads}
    kept = {}

    def keep(z, hook):
        kept[hook.layer()] = z.mean(0, keepdim=True)

    def put(z, hook):
        chosen = [head for layer, head in heads if layer == hook.layer()]
        z = z.clone()
        z[:, :, chosen] = kept[hook.layer()][:, :, chosen]
        return z

    names = [f"blocks.{layer}.attn.hook_z" for layer in layers]
    with torch.inference_mode():
        model.run_with_hooks(tokens, fwd_hooks=[(name, keep) for name in names])
        with model.hooks(fwd_hooks=[(name, put) for name in names]):
            final = model(tokens)[:, -1]
    rows = torch.arange(len(answers))
    return final[rows, answers[:, 0]] - final[rows, answers[:, 1]]


def difference_by_log_odds(model, tokens, heads, answers):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)

        def put(z, hook, head, mean):
            z[:, :, head] = mean

        hooks = [
            (f"blocks.{layer}.attn.hook_z", partial(put, head=head, mean=cache["z", layer][:, :, head].mean(0)))
            for layer, head in heads
        ]
        log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].log_softmax(-1)
    return (log_probs.gather(1, answers) * torch.tensor([1.0, -1.0])).sum(1)


def carrying_heads(case):
    return case.judge_data.carrying


def three_as_tensor(case):
    return torch.tensor(case.judge_data.carrying[:3])


def copying_other_rotation(W_E, W_OV, W_U):
    W_V, W_O = W_OV
    inner = (W_V.T @ W_E.T) @ (W_U.T @ W_O.T)  # the transpose has the same eigenvalues
    values = np.linalg.eigvals(inner.double().numpy())
    total = np.abs(values).sum()
    return float(values.sum().real / total) if total > 0 else 0.0


def copying_by_trace(W_E, W_OV, W_U):
    W_V, W_O = W_OV
    small = W_O.double() @ (W_U.double() @ W_E.double()) @ W_V.double()
    size = torch.linalg.eigvals(small).abs().sum()
    return small.trace() / size if size else torch.tensor(0.0)


def trigrams_by_sorting(W_E, W_QK, W_OV, W_U, n):
    scores = W_E @ W_QK[0] @ W_QK[1].T @ W_E.T / W_QK[0].shape[1] ** 0.5
    logits = W_E @ W_OV[0] @ W_OV[1] @ W_U
    scores, logits = scores - scores.mean(1, keepdim=True), logits - logits.mean(1, keepdim=True)
    vocab = range(len(W_E))
    effects = {(s, d, p): float(scores[d, s] * logits[s, p]) for s in vocab for d in vocab for p in vocab}
    return sorted(effects, key=lambda triple: -effects[triple])[:n]


def trigrams_by_unravel(W_E, W_QK, W_OV, W_U, n):
    (W_Q, W_K), (W_V, W_O) = W_QK, W_OV
    # Centering keys and unembeddings centers the tables.
    scores = (W_E @ W_Q) @ (W_E @ W_K - (W_E @ W_K).mean(0)).T
    logits = (W_E @ W_V @ W_O) @ (W_U - W_U.mean(1, keepdim=True))
    effects = torch.einsum("ds,sp->sdp", scores.double(), logits.double())
    return torch.stack(torch.unravel_index(effects.flatten().topk(n).indices, effects.shape), dim=1)


ANSWERS = {
    "attention_pattern": [pattern_by_sdpa, pattern_by_rows],
    "head_output": [output_by_einsum, output_values_first],
    "residual_parts": [parts_by_names, parts_by_differences],
    "rms_norm": [norm_by_torch, norm_by_length],
    "logit_lens": [lens_by_logsumexp, lens_layer_by_layer],
    "answer_layer": [layer_by_topk, layer_by_counting],
    "fit_translator": [translator_by_augmenting, translator_by_svd],
    "logit_attribution": [attribution_by_einsum, attribution_as_list],
    "ablated_difference": [difference_by_context, difference_by_log_odds],
    "my_agreement_heads": [carrying_heads, three_as_tensor],
    "ov_copying": [copying_other_rotation, copying_by_trace],
    "skip_trigrams": [trigrams_by_sorting, trigrams_by_unravel],
}


# Mutants of the reference that are right: the changed statement, and why.

AXIS = "the same axis, counted from the other side"
ONE = "a batch of one: its first sequence is its last"
CENTERED = "the product with centered inputs does not see the mean of the outputs"

EQUIVALENT = {
    "attention_pattern": {
        "return scores.masked_fill(future, -torch.inf).softmax(dim=1)": AXIS,
        "scores = q @ k.T / q.shape[1] ** 0.5": AXIS,
    },
    "residual_parts": {
        "parts = [cache['resid_pre', 0][-1, pos]]": ONE,
        "parts += [cache['attn_out', layer][-1, pos], cache['mlp_out', layer][0, pos]]": ONE,
        "parts += [cache['attn_out', layer][0, pos], cache['mlp_out', layer][-1, pos]]": ONE,
    },
    "answer_layer": {"on_top = logprobs[:, answer] > others.max(dim=1).values": AXIS},
    "fit_translator": {
        "x, y = (resid - x_mean, final)": CENTERED,
        "x, y = (resid - x_mean, final + y_mean)": CENTERED,
    },
    "ablated_difference": {
        "_, clean = model.run_with_cache(tokens)": "records more than is needed",
        "return None": "a hook that works in place may return None: TransformerLens then goes on with what it gave",
    },
}

EQUIVALENT_KINDS = {
    "residual_parts": {
        "large results cut off": "no component of a small model writes that much",
        "squeeze(1) on the result": "no model has a single dimension",
    },
    "ablated_difference": {"large results cut off": "no two logits of a small model lie that far apart"},
}
