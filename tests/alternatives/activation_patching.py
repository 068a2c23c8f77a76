"""Other right answers to lesson 03."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch


def prompts_by_replace(pairs, template):
    def fill(a, b, s):
        return template.replace("{A}", a).replace("{B}", b).replace("{S}", s)

    orders = [order for a, b in pairs for order in ((a, b), (b, a))]
    return [fill(a, b, b) for a, b in orders], [fill(a, b, a) for a, b in orders], orders


def prompts_as_lists(pairs, template):
    clean, corrupted, names = [], [], []
    for pair in pairs:
        for io, s in (list(pair), list(reversed(pair))):
            clean.append(template.format(A=io, B=s, S=s))
            corrupted.append(template.format(A=io, B=s, S=io))
            names.append([io, s])
    return clean, corrupted, names


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


def head_by_where(z, hook, source, head):
    return torch.where((torch.arange(z.shape[2]) == head)[:, None], source, z)


def head_in_place(z, hook, source, head):
    z[:, :, head].copy_(source[:, :, head])


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


def heads_by_context(model, corrupted_tokens, clean_cache, metric):
    table = torch.empty(model.cfg.n_layers, model.cfg.n_heads)
    with torch.no_grad():
        for layer, head in np.ndindex(*table.shape):
            name = f"blocks.{layer}.attn.hook_z"
            with model.hooks(fwd_hooks=[(name, partial(head_in_place, source=clean_cache[name], head=head))]):
                table[layer, head] = metric(model(corrupted_tokens))
    return table


def heads_as_lists(model, corrupted_tokens, clean_cache, metric):
    def patched(layer, head):
        name = f"blocks.{layer}.attn.hook_z"
        hook = partial(head_by_where, source=clean_cache["z", layer], head=head)
        return metric(model.run_with_hooks(corrupted_tokens, fwd_hooks=[(name, hook)]))

    return [[patched(layer, head) for head in range(model.cfg.n_heads)] for layer in range(model.cfg.n_layers)]


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


def faithfulness_as_recovery(circuit, full, empty):
    circuit, full, empty = (torch.tensor([x], dtype=torch.float64) for x in (circuit, full, empty))
    return recovery_of_sums(circuit, full, empty)


def faithfulness_from_above(circuit, full, empty):
    whole = full - empty
    if not whole:
        raise ValueError(f"full and empty are both {full}")
    return 1 - (full - circuit) / whole


def agreement_by_counting(exact, estimate):
    def ranks(v):
        below, equal = v[:, None] > v, v[:, None] == v
        return below.sum(1) + (equal.sum(1) + 1) / 2

    both = torch.stack([ranks(exact), ranks(estimate)]).double()
    if (both.std(dim=1) == 0).any():
        raise ValueError("a constant")
    return torch.corrcoef(both)[0, 1]


def agreement_by_pandas(exact, estimate):
    import pandas as pd

    columns = pd.DataFrame({"exact": exact.numpy(), "estimate": estimate.numpy()})
    if (columns.nunique() == 1).any():
        raise ValueError("one of the two is constant")
    return columns.rank().corr().iloc[0, 1].item()


def strongest_heads(case):
    return case.judge_data.strongest(22)


def strongest_as_tensor(case):
    return torch.tensor(case.judge_data.strongest(26))


ANSWERS = {
    "ioi_prompts": [prompts_by_replace, prompts_as_lists],
    "logit_difference": [difference_by_loop, difference_by_log_odds],
    "recovery": [recovery_of_sums, recovery_by_numpy],
    "patch_position": [position_by_where, position_in_place],
    "patch_head": [head_by_where, head_in_place],
    "residual_sweep": [residual_by_context, residual_as_lists],
    "head_sweep": [heads_by_context, heads_as_lists],
    "direct_attribution": [direct_by_logits, direct_by_direction],
    "attribution_patching": [attribution_by_einsum, attribution_by_loop],
    "agreement": [agreement_by_counting, agreement_by_pandas],
    "path_patch_to_logits": [path_by_freezing, path_without_a_run],
    "mean_ablate": [ablate_in_place, ablate_by_mask],
    "faithfulness": [faithfulness_as_recovery, faithfulness_from_above],
    "my_circuit": [strongest_heads, strongest_as_tensor],
}


# Mutants of the reference that are right: the changed statement, and why.

IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
OVERWRITTEN = "every entry is written afterwards"
SYMMETRIC = "a correlation does not care which comes first"
REVERSED = "both orders are reversed, which leaves their correlation as it is"
SHIFTED = "ranks may start anywhere: a correlation subtracts the mean"

EQUIVALENT = {
    "patch_position": {"return None": IN_PLACE},
    "patch_head": {"return None": IN_PLACE},
    "residual_sweep": {
        "return None": IN_PLACE,
        "result = torch.ones(model.cfg.n_layers, corrupted_tokens.shape[1])": OVERWRITTEN,
    },
    "head_sweep": {
        "return None": IN_PLACE,
        "result = torch.ones(model.cfg.n_layers, model.cfg.n_heads)": OVERWRITTEN,
    },
    "attribution_patching": {
        "return ((clean_z - corrupted_z) * gradient).sum(dim=(2, 1, 4))": "a sum over three axes, in any order",
    },
    "agreement": {
        "x, y = (ranks(estimate), ranks(exact))": SYMMETRIC,
        "x, y = (y - y.mean(), x - x.mean())": SYMMETRIC,
        "return float(y @ x / (x.norm() * y.norm()))": SYMMETRIC,
        "below = (values[:, None] < values[None]).sum(dim=1)": REVERSED,
        "below = (values[:, None] > values[None]).sum(dim=0)": REVERSED,
        "equal = (values[:, None] == values[None]).sum(dim=0)": "equality is symmetric",
        "return (below + (equal - 1) / 2).double()": SHIFTED,
        "return (below + equal / 2).double()": SHIFTED,
        "return (below + (equal + 2) / 2).double()": SHIFTED,
        "return (below + (equal + 0) / 2).double()": SHIFTED,
    },
}

EQUIVALENT_KINDS = {
    "agreement": {
        "short vectors of `estimate` made zero": "ranks know no size; a short `exact` is refused the same way",
    },
}
