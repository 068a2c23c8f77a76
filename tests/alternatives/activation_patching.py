"""Other right answers to lesson 03."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch


def prompts_by_replace(pairs, template):
    def fill(a, b, s):
        return template.replace("{A}", a).replace("{B}", b).replace("{S}", s)

    clean = [fill(a, b, s) for a, b in pairs for s in (b, a)]
    corrupted = [fill(a, b, s) for a, b in pairs for s in (a, b)]
    return clean, corrupted, [names for a, b in pairs for names in ((a, b), (b, a))]


def prompts_as_lists(pairs, template):
    clean, names = [], []
    for a, b in pairs:
        for io, s in ((a, b), (b, a)):
            clean.append(template.format(A=a, B=b, S=s))
            names.append([io, s])
    twins = [clean[i + 1 - 2 * (i % 2)] for i in range(len(clean))]
    return clean, twins, names


def difference_by_loop(logits, answers, last):
    return [logits[b, p, r] - logits[b, p, w] for b, (p, (r, w)) in enumerate(zip(last, answers, strict=True))]


def difference_by_log_odds(logits, answers, last):
    at_end = torch.take_along_dim(logits, last[:, None, None], dim=1)[:, 0].double()
    return at_end.log_softmax(-1).gather(1, answers) @ torch.tensor([1.0, -1.0], dtype=torch.float64)


def recovery_of_sums(patched, clean, corrupted):
    whole = clean.sum() - corrupted.sum()
    if whole == 0:
        raise ValueError("nothing to recover")
    return (patched.sum() - corrupted.sum()) / whole


def recovery_by_numpy(patched, clean, corrupted):
    p, c, k = (np.asarray(x, dtype=np.float64).mean() for x in (patched, clean, corrupted))
    if np.isclose(c, k, rtol=0, atol=1e-12):
        raise ValueError(f"clean and corrupted both average {c}")
    return float((p - k) / (c - k))


def position_by_where(resid, hook, source, position):
    here = torch.arange(resid.shape[1]) == position
    return torch.where(here[None, :, None], source, resid)


def position_in_place(resid, hook, source, position):
    resid[:, position, :] = source[:, position, :]


def ablate_in_place(z, hook, mean, keep):
    for head in range(z.shape[2]):
        if head not in keep:
            z[:, :, head] = mean[:, head]


def ablate_by_mask(z, hook, mean, keep):
    kept = torch.zeros(z.shape[2], 1)
    kept[keep] = 1.0
    return kept * z + (1 - kept) * mean


def residual_by_context(model, corrupted_tokens, clean_cache, metric):
    rows = []
    with torch.inference_mode():
        for layer in range(model.cfg.n_layers):
            name = f"blocks.{layer}.hook_resid_pre"
            row = []
            for position in range(corrupted_tokens.shape[1]):
                hook = partial(position_by_where, source=clean_cache[name], position=position)
                with model.hooks(fwd_hooks=[(name, hook)]):
                    row.append(metric(model(corrupted_tokens)))
            rows.append(row)
    return torch.tensor(rows)


def residual_as_lists(model, corrupted_tokens, clean_cache, metric):
    def patched(layer, position):
        def hook(resid, hook):
            resid[:, position] = clean_cache["resid_pre", hook.layer()][:, position]

        return metric(model.run_with_hooks(corrupted_tokens, fwd_hooks=[(f"blocks.{layer}.hook_resid_pre", hook)]))

    n_layers, n_positions = model.cfg.n_layers, corrupted_tokens.shape[1]
    return [[patched(layer, position) for position in range(n_positions)] for layer in range(n_layers)]


def direct_by_logits(head_out, scale, W_U, answers):
    logits = (head_out / scale) @ W_U
    rows = torch.arange(len(answers))
    return (logits[:, :, rows, answers[:, 0]] - logits[:, :, rows, answers[:, 1]]).mean(-1)


def direct_by_direction(head_out, scale, W_U, answers):
    directions = (W_U.T[answers[:, 0]] - W_U.T[answers[:, 1]]) / scale
    return (head_out.double() * directions.double()).sum(-1).mean(2)


def attribution_by_einsum(clean_z, corrupted_z, gradient):
    return torch.einsum("lbphd,lbphd->lh", clean_z - corrupted_z, gradient)


def attribution_by_loop(clean_z, corrupted_z, gradient):
    change = clean_z.double() - corrupted_z.double()
    layers, _, _, heads, _ = change.shape
    return [[(change[la, :, :, h] * gradient[la, :, :, h]).sum() for h in range(heads)] for la in range(layers)]


def path_by_freezing(model, tokens, corrupted_cache, clean_cache, sender, metric):
    def hold(activation, hook, value):
        return value

    layer, head = sender
    names = [n for n in corrupted_cache if n.endswith(("attn.hook_z", "hook_mlp_out"))]
    values = {name: corrupted_cache[name].clone() for name in names}
    z = f"blocks.{layer}.attn.hook_z"
    values[z][:, :, head] = clean_cache[z][:, :, head]
    hooks = [(name, partial(hold, value=value)) for name, value in values.items()]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return metric(model(tokens))


def path_without_a_run(model, tokens, corrupted_cache, clean_cache, sender, metric):
    layer, head = sender
    final = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        before, after = (cache["z", layer][:, :, head] for cache in (corrupted_cache, clean_cache))
        resid = corrupted_cache[final] + (after - before) @ model.W_O[layer, head]
        return torch.tensor(metric(model.unembed(model.ln_final(resid))))


def copying_by_topk(inputs, W_V, W_O, W_U, tokens, k):
    best = (inputs @ (W_V @ W_O) @ W_U).topk(k).indices
    return (best == tokens[:, None]).any(1).float().mean()


def copying_by_loop(inputs, W_V, W_O, W_U, tokens, k):
    copied = 0
    for x, token in zip(inputs, tokens, strict=True):
        ranking = (x @ W_V @ W_O @ W_U).argsort(descending=True).tolist()
        copied += ranking.index(int(token)) < k
    return copied / len(inputs)


def repair_by_einsum(before, after, scale_before, scale_after, directions):
    old, new = directions / scale_before, directions / scale_after
    changes = torch.einsum("pbd,bd->p", after - before, old) / len(directions)
    return changes, torch.einsum("pbd,bd->", after, new - old) / len(directions)


def repair_from_the_whole(before, after, scale_before, scale_after, directions):
    def mean_logits(parts, scale):
        return (parts.double() / scale * directions).sum(-1).mean(-1)

    changes = mean_logits(after, scale_before) - mean_logits(before, scale_before)
    whole = mean_logits(after, scale_after).sum() - mean_logits(before, scale_before).sum()
    return [changes.tolist(), (whole - changes.sum()).item()]


def query_by_freezing(model, tokens, corrupted_cache, clean_cache, sender, receiver, metric):
    values = {n: corrupted_cache[n].clone() for n in corrupted_cache if n.endswith(("attn.hook_z", "hook_mlp_out"))}
    z = f"blocks.{sender[0]}.attn.hook_z"
    values[z][:, :, sender[1]] = clean_cache[z][:, :, sender[1]]
    name = f"blocks.{receiver[0]}.attn.hook_q"
    kept = {}

    def keep(q, hook):
        kept["q"] = q.clone()

    def put(q, hook):
        q[:, :, receiver[1]] = kept["q"][:, :, receiver[1]]

    hooks = [(n, partial(lambda x, hook, value: value, value=v)) for n, v in values.items()]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, keep)])
        with model.hooks(fwd_hooks=[(name, put)]):
            return metric(model(tokens))


def query_by_adding(model, tokens, corrupted_cache, clean_cache, sender, receiver, metric):
    (layer, head), (at, receiving) = sender, receiver
    z = clean_cache["z", layer][:, :, head] - corrupted_cache["z", layer][:, :, head]
    stream = corrupted_cache["resid_pre", at] + z @ model.blocks[layer].attn.W_O[head]
    kept = []
    with torch.inference_mode():
        model.run_with_hooks(
            tokens,
            fwd_hooks=[
                (f"blocks.{at}.hook_resid_pre", lambda x, hook: stream),
                (f"blocks.{at}.attn.hook_q", lambda q, hook: kept.append(q[:, :, receiving].clone())),
            ],
        )

        def put(q, hook):
            return torch.cat([q[:, :, :receiving], kept[0][:, :, None], q[:, :, receiving + 1 :]], dim=2)

        return metric(model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{at}.attn.hook_q", put)]))


def strongest_heads(case):
    return case.judge_data.strongest(22)


def strongest_as_tensor(case):
    return torch.tensor(case.judge_data.strongest(26))


ANSWERS = {
    "ioi_prompts": [prompts_by_replace, prompts_as_lists],
    "logit_difference": [difference_by_loop, difference_by_log_odds],
    "recovery": [recovery_of_sums, recovery_by_numpy],
    "patch_position": [position_by_where, position_in_place],
    "residual_sweep": [residual_by_context, residual_as_lists],
    "direct_attribution": [direct_by_logits, direct_by_direction],
    "attribution_patching": [attribution_by_einsum, attribution_by_loop],
    "path_patch_to_logits": [path_by_freezing, path_without_a_run],
    "mean_ablate": [ablate_in_place, ablate_by_mask],
    "copying_score": [copying_by_topk, copying_by_loop],
    "self_repair": [repair_by_einsum, repair_from_the_whole],
    "path_patch_to_query": [query_by_freezing, query_by_adding],
    "my_circuit": [strongest_heads, strongest_as_tensor],
}


# Mutants of the reference that are right: the changed statement, and why.

IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
AXIS = "the same axis, counted from the other side"
OVERWRITTEN = "every entry is written afterwards"

EQUIVALENT = {
    "patch_position": {"return None": IN_PLACE},
    "copying_score": {
        "return ((logits > own).sum(dim=1) < k - 0.03).double().mean().item()": "counts are whole numbers",
    },
    "self_repair": {
        "changes = ((after - before) * directions / scale_before).sum(-1).mean(1)": AXIS,
        "total = (after.sum(0) * directions).sum(1, keepdim=True)": AXIS,
    },
    "path_patch_to_query": {
        "return None": IN_PLACE,
        "kept['q'] = query": "nothing changes that tensor after the run in which it is recorded",
    },
    "residual_sweep": {
        "return None": IN_PLACE,
        "result = torch.ones(model.cfg.n_layers, corrupted_tokens.shape[1])": OVERWRITTEN,
    },
    "attribution_patching": {
        "return ((clean_z - corrupted_z) * gradient).sum(dim=(2, 1, 4))": "a sum over three axes, in any order",
    },
}

EQUIVALENT_KINDS = {
    "agreement": {
        "short vectors of `estimate` made zero": "ranks know no size; a short `exact` is refused the same way",
    },
}
