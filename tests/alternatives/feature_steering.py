"""Other right answers to lesson 07."""

from __future__ import annotations

import torch

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


ANSWERS = {
    "splice": [splice_in_place, splice_by_cat, splice_by_where],
    "clamp_feature": [clamp_by_splice, clamp_in_place, clamp_by_ones],
    "my_clamp": [clamp_below_the_sweet_spot, clamp_as_a_list, clamp_by_search],
}


# Mutants of the reference that are right: the changed statement, and why.

EQUIVALENT = {
    "splice": {
        "out = resid": "a hook may work in place",
        "new = sae.decode(f if not edit else edit(f))": "a function is always true",
    },
    "clamp_feature": {"out = resid": "a hook may work in place"},
}

EQUIVALENT_KINDS: dict = {}
