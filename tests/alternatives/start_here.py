"""Other right answers to lesson 00: other roads, other return types, in place and not."""

from __future__ import annotations

import torch


def by_sorting(logits, k):
    p = torch.softmax(logits, dim=1)[-1]
    order = p.argsort(descending=True)[:k]
    return [(t.item(), p[t].item()) for t in order]


def as_lists_of_tensors(logits, k):
    p = logits[-1].double().log_softmax(-1).exp()
    values, indices = torch.sort(p, descending=True)
    return [[indices[i], values[i]] for i in range(k)]


def keyword_names_differ(the_logits, how_many):
    p = torch.exp(the_logits[-1] - the_logits[-1].logsumexp(0))
    return tuple((int(i), p[i]) for i in torch.topk(p, how_many).indices)


def by_mask(z, hook, head):
    keep = torch.ones(z.shape[2])
    keep[head] = 0
    return z * keep[None, None, :, None]


def in_place_without_return(z, hook, head):
    z[:, :, head, :] = 0


def by_index_fill(z, hook, head):
    return z.index_fill(2, torch.tensor([head]), 0.0)


ANSWERS = {
    "top_next_tokens": [by_sorting, as_lists_of_tensors, keyword_names_differ],
    "zero_head": [by_mask, in_place_without_return, by_index_fill],
}


# Mutants of the reference that are right: the changed statement, and why.

STRICT = "both sides have the same length"
IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
AXIS = "the same axis, counted from the other side"

EQUIVALENT = {
    "top_next_tokens": {
        "return [(int(token), float(p)) for token, p in zip(top.indices, top.values)]": STRICT,
        "return [(int(token), float(p)) for token, p in zip(top.indices, top.values, strict=False)]": STRICT,
        "probabilities = logits[-1].softmax(dim=-0)": AXIS,
    },
    "zero_head": {"return None": IN_PLACE},
}
