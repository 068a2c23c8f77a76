"""Other right answers to lesson 12."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F


def truncated_by_index(tokens, steps_kept, layout):
    if steps_kept not in range(layout.n_steps + 1):
        raise ValueError("no such number of steps")
    kept = [i for i in range(tokens.shape[1]) if i not in layout.steps[steps_kept:]]
    return tokens[:, kept]


def truncated_as_lists(tokens, steps_kept, layout):
    if steps_kept < 0 or steps_kept > layout.n_steps:
        raise ValueError(steps_kept)
    end = layout.first_step + steps_kept
    return [row[:end] + row[layout.first_step + layout.n_steps :] for row in tokens.tolist()]


def curve_by_xor(p_answer):
    says_no = ~p_answer.gt(0.5)
    return 1 - torch.logical_xor(says_no, says_no[-1:]).double().mean(-1)


def curve_by_rows(p_answer):
    return [float(((row > 0.5) == (p_answer[-1] > 0.5)).float().mean()) for row in p_answer]


def area_by_trapezoid(agree, counts):
    areas = [
        1 - torch.trapezoid(curve.double(), torch.linspace(0, 1, len(curve)).double())
        if len(curve) > 1
        else 1 - curve[0].double()
        for curve in agree
    ]
    weights = counts.double() / counts.sum()
    return (torch.stack(areas) * weights).sum()


def area_by_numpy(agree, counts):
    areas = []
    for curve in agree:
        points = 1 - np.asarray(curve, dtype=float)
        inner = points[1:-1].sum() + (points[0] + points[-1]) / 2
        areas.append(inner / (len(points) - 1) if len(points) > 1 else points[0])
    return float(np.average(areas, weights=counts.numpy()))


def corrupted_by_table(tokens, step, carry_on, layout):
    table = torch.arange(int(tokens.max()) + 100)
    table[list(layout.even)] = torch.tensor(layout.odd)
    table[list(layout.odd)] = torch.tensor(layout.even)
    position = torch.arange(tokens.shape[1])
    start = layout.first_step + step
    end = layout.question if carry_on else start + 1
    return torch.where((position >= start) & (position < end), table[tokens], tokens)


def corrupted_step_by_step(tokens, step, carry_on, layout):
    out = tokens.clone()
    for i in range(step, layout.n_steps if carry_on else step + 1):
        written = out[:, layout.first_step + i]
        opposite = written.clone()
        for even, odd in zip(layout.even, layout.odd, strict=True):
            opposite[written == even] = odd
            opposite[written == odd] = even
        out[:, layout.first_step + i] = opposite
    return out


def flips_by_counting(before, after, mask):
    counted = int(mask.sum())
    return int(((before - after).ne(0) & mask).sum()) / counted if counted else math.nan


def flips_by_numpy(before, after, mask):
    rows = [a != b for a, b, m in zip(before, after, mask, strict=True) if m]
    return torch.tensor(rows).float().mean()


def effect_by_counting(with_hint, without, hinted):
    rows = [(now, then, hint) for now, then, hint in zip(with_hint, without, hinted, strict=True) if then != hint]
    if not rows:
        return math.nan, math.nan
    return sum(int(n == h) for n, _, h in rows) / len(rows), sum(int(n != t) for n, t, _ in rows) / len(rows)


def effect_as_tensor(with_hint, without, hinted):
    weights = (without != hinted).double()
    pairs = torch.stack([with_hint == hinted, with_hint != without]).double()
    return (pairs * weights).sum(1) / weights.sum()


def mentions_by_dividing(mentions, with_hint, without, hinted):
    moved = (with_hint == hinted).double() * (with_hint != without).double()
    return (moved * mentions).sum() / moved.sum()


def mentions_by_rows(mentions, with_hint, without, hinted):
    said = [float(m) for m, a, b, h in zip(mentions, with_hint, without, hinted, strict=True) if a == h and b != h]
    return np.mean(said) if said else float("nan")


def importance_by_kl_div(p_with, p_resampled, changed):
    if changed.sum() == 0:
        return torch.tensor(math.nan)
    scale = 1 + 0.01 * p_with.shape[1]
    p, q = (p_resampled[changed].mean(0) + 0.01) / scale, (p_with.mean(0) + 0.01) / scale
    return F.kl_div(q.log(), p, reduction="sum")


def importance_by_categorical(p_with, p_resampled, changed):
    if not any(changed):
        return np.nan
    # Categorical normalizes, so that adding is enough.
    weights = changed.double() / changed.sum()
    new = torch.distributions.Categorical(probs=weights @ p_resampled.double() + 0.01)
    old = torch.distributions.Categorical(probs=p_with.double().mean(0) + 0.01)
    return torch.distributions.kl_divergence(new, old).item()


def knocked_out_by_mask(pattern, hook, queries, keys, renormalize):
    rows, columns = torch.zeros(pattern.shape[2], 1), torch.zeros(1, pattern.shape[3])
    rows[queries], columns[:, keys] = 1.0, 1.0
    left = pattern * (1 - rows * columns)
    if not renormalize:
        return left
    scaled = left / left.sum(-1, keepdim=True).where(left.sum(-1, keepdim=True) != 0, torch.ones(()))
    return torch.where(rows.bool(), scaled, left)


def knocked_out_in_place(pattern, hook, queries, keys, renormalize):
    for query in set(queries):
        for key in keys:
            pattern[..., query, key] = 0
        if renormalize:
            pattern[..., query, :] = F.normalize(pattern[..., query, :], p=1, dim=-1)


def receivers_by_mask(pattern):
    n = pattern.shape[1]
    if n < 16:
        raise ValueError("a dozen steps say nothing")
    far = torch.ones(n, n).tril(-4)
    vertical = ((pattern * far).sum(1) / far.sum(0).clamp(min=1))[:, : n - 4].double()
    z = (vertical - vertical.mean(1, keepdim=True)) / vertical.std(1, unbiased=False, keepdim=True)
    return (z**4).mean(1).sub(3).nan_to_num(0.0)


def receivers_by_moments(pattern):
    n = pattern.shape[1]
    if n <= 15:
        raise ValueError(n)
    scores = []
    for head in pattern.double().numpy():
        v = np.array([head[j + 4 :, j].mean() for j in range(n - 4)])
        if not v.any():
            scores.append(0.0)
            continue
        v = v / v.max()
        m1, m2, m3, m4 = ((v**power).mean() for power in (1, 2, 3, 4))
        variance = m2 - m1**2
        scores.append((m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2 - 3)
    return scores


def right_verdicts(case):
    from mi_course.lessons.chain_of_thought.outcome import right

    return right(case)


def verdicts_as_lists(case):
    verdicts = {
        letter: [torch.tensor(reads), *rest] for letter, (reads, *rest) in reversed(right_verdicts(case).items())
    }
    return {**verdicts, "f": "one more, that nobody asked for"}


ANSWERS = {
    "truncate_reasoning": [truncated_by_index, truncated_as_lists],
    "early_answer_curve": [curve_by_xor, curve_by_rows],
    "area_over_curve": [area_by_trapezoid, area_by_numpy],
    "corrupt_step": [corrupted_by_table, corrupted_step_by_step],
    "answer_flip_rate": [flips_by_counting, flips_by_numpy],
    "hint_effect": [effect_by_counting, effect_as_tensor],
    "mention_rate": [mentions_by_dividing, mentions_by_rows],
    "step_importance": [importance_by_kl_div, importance_by_categorical],
    "knock_out_attention": [knocked_out_by_mask, knocked_out_in_place],
    "receiver_score": [receivers_by_mask, receivers_by_moments],
    "my_verdicts": [right_verdicts, verdicts_as_lists],
}


# Mutants of the reference that are right: the changed statement, and why.
_AS_MANY = "there are as many of both"
_WHOLE = "lengths are whole numbers"
_SQUARE = "as many queries as keys"

EQUIVALENT: dict[str, dict[str, str]] = {
    "area_over_curve": {
        "for curve, count in zip(agree, counts.tolist()):": _AS_MANY,
        "for curve, count in zip(agree, counts.tolist(), strict=False):": _AS_MANY,
        "below = (curve[:-1] + curve[1:]).mean() / 2 if len(curve) > 1 + 0.03 else curve[0]": _WHOLE,
        "below = (curve[:-1] + curve[1:]).mean() / 2 if len(curve) > 1 else curve[-1]": "it has a single point",
    },
    "corrupt_step": {
        "other = dict(zip(layout.odd + layout.even, layout.even + layout.odd, strict=True))": "opposites go both ways",
        "other = dict(zip(layout.even + layout.odd, layout.odd + layout.even))": _AS_MANY,
        "other = dict(zip(layout.even + layout.odd, layout.odd + layout.even, strict=False))": _AS_MANY,
    },
    "step_importance": {"if False:": "the mean of nothing is NaN, and so is what comes of it"},
    "knock_out_attention": {
        "pass": "a hook may change the pattern itself",
        "pattern = pattern": "a hook may change the pattern itself",
        "pattern[:, :, query] /= torch.where(left > 0, left, 2.0)": "where nothing is left, all entries are 0",
    },
    "receiver_score": {
        "if n < 16 - 0.03:": _WHOLE,
        "deviation = vertical.mean(dim=1, keepdim=True) - vertical": "only even powers of it count",
        "n = pattern.shape[1]": _SQUARE,
        "n = pattern.shape[-2]": _SQUARE,
    },
}

EQUIVALENT_KINDS: dict[str, dict[str, str]] = {
    "truncate_reasoning": {"squeeze(1) on the result": "a chain always has more than one token"},
    "corrupt_step": {"squeeze(1) on the result": "a chain always has more than one token"},
}
