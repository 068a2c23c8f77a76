"""What heads do, from activations alone: direct attribution, a first-order estimate of every patch, and self-repair."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# direct_attribution


def _direct_attribution(head_out: Tensor, scale: Tensor, W_U: Tensor, answers: Tensor) -> Tensor:
    """Oracle: one head and one prompt at a time."""
    layers, heads, batch, _ = head_out.shape
    result = torch.zeros(layers, heads)
    for layer in range(layers):
        for head in range(heads):
            values = []
            for b in range(batch):
                logits = (head_out[layer, head, b].double() / scale[b].double()) @ W_U.double()
                values.append(float(logits[answers[b, 0]] - logits[answers[b, 1]]))
            result[layer, head] = sum(values) / batch
    return result


def _logits(head_out: Tensor, W_U: Tensor, answers: Tensor) -> Tensor:
    """Right minus wrong of each head and prompt, [layer, head, batch]."""
    directions = W_U.T[answers[:, 0]] - W_U.T[answers[:, 1]]
    return (head_out * directions).sum(-1)


def _direct_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [_direct_case(draw, *shape) for shape in ((2, 3, 4, 5, 7), (3, 2, 5, 6, 11))]


def _odd_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [_direct_case(draw, *shape) for shape in ((1, 4, 1, 8, 6), (4, 1, 3, 3, 9), (3, 3, 3, 3, 3))]


def _direct_case(draw: RandomInputs, layers: int, heads: int, batch: int, d_model: int, vocab: int) -> Case:
    answers = torch.tensor([draw.permutation(vocab)[:2] for _ in range(batch)])
    return case(
        draw.normal(layers, heads, batch, d_model, mean=0.5, std=2.0),
        draw.uniform(batch, 1, low=0.4, high=5.0),
        draw.normal(d_model, vocab, mean=0.2),
        answers,
        about=f"{layers} layers of {heads} heads, batch {batch}, d_model {d_model}, {vocab} tokens",
    )


DIRECT_ATTRIBUTION = Exercise(
    id="activation_patching.direct_attribution",
    revision=2,
    fixed={
        "W_U[1]": "`answers` index it",
        "answers[1]": "right and wrong",
        "head_out[0]": "varied by hand",
        "scale>=0": "a norm",
        "scale=0": "a norm divides by it",
    },
    task="What each head writes straight to the logit difference: divided by the frozen scale, read by W_U, averaged over the batch.",
    minutes=10,
    difficulty=2,
    oracle=_direct_attribution,
    parts=(
        Part("prompts with answers and scales of their own", 2, _direct_cases),
        Part("a single prompt, a single head, all sizes equal", 1, _odd_cases),
    ),
    mistakes=(
        Mistake(
            "multiplied_by_scale",
            "You multiplied by the scale. The final norm *divides* by it: `head_out / scale`.",
            lambda out, scale, W_U, answers: _logits(out * scale, W_U, answers).mean(-1),
        ),
        Mistake(
            "without_scale",
            "You left out the final norm. Divide each prompt by its own frozen scale: without it the parts do not sum to the logit difference.",
            lambda out, scale, W_U, answers: _logits(out, W_U, answers).mean(-1),
        ),
        Mistake(
            "own_norm",
            "You normalised each head's output by its own size. The scale is that of the whole residual stream, frozen: only then do the parts add up.",
            lambda out, scale, W_U, answers: _logits(out / out.pow(2).mean(-1, keepdim=True).sqrt(), W_U, answers).mean(
                -1
            ),
        ),
        Mistake(
            "normalized_twice",
            "You divided by the scale twice. Once, and before W_U or after makes no difference.",
            lambda out, scale, W_U, answers: _logits(out / scale / scale, W_U, answers).mean(-1),
        ),
        Mistake(
            "mean_scale",
            "You divided by the mean of the scales. Each prompt has its own; `head_out / scale` broadcasts over layers and heads.",
            lambda out, scale, W_U, answers: _logits(out / scale.mean(), W_U, answers).mean(-1),
        ),
        Mistake(
            "sign_flipped",
            "The sign is flipped: this is wrong minus right. The right answer is `answers[:, 0]`.",
            lambda out, scale, W_U, answers: -_logits(out / scale, W_U, answers).mean(-1),
        ),
        Mistake(
            "right_answer_only",
            "This is the contribution to the right answer's logit alone. A head that raises both names alike does not decide anything: subtract the wrong one's.",
            lambda out, scale, W_U, answers: ((out / scale) * W_U.T[answers[:, 0]]).sum(-1).mean(-1),
        ),
        Mistake(
            "summed_over_batch",
            "You summed over the batch. The mean is asked for.",
            lambda out, scale, W_U, answers: _logits(out / scale, W_U, answers).sum(-1),
        ),
        Mistake(
            "not_averaged",
            "You kept the batch: [layer, head, batch]. The mean over it is asked for.",
            lambda out, scale, W_U, answers: _logits(out / scale, W_U, answers),
        ),
        Mistake(
            "first_answers_for_all",
            "You used the answers of the first prompt for all of them. Each prompt has its own direction.",
            lambda out, scale, W_U, answers: _logits(out / scale, W_U, answers[:1].expand(len(answers), -1)).mean(-1),
        ),
        Mistake(
            "averaged_too_early",
            "You averaged the heads' outputs, and the directions, over the batch before you multiplied them. When the names are exchanged from prompt to prompt, the mean direction is nearly zero. "
            "Multiply first.",
            lambda out, scale, W_U, answers: (
                (out / scale).mean(2) @ (W_U.T[answers[:, 0]] - W_U.T[answers[:, 1]]).mean(0)
            ),
        ),
        Mistake(
            "absolute",
            "You took absolute values. Heads that work against the answer are part of the story: keep the sign.",
            lambda out, scale, W_U, answers: _logits(out / scale, W_U, answers).mean(-1).abs(),
        ),
    ),
    hints=(
        "For each prompt there is one direction in the residual stream that is the logit difference: `W_U[:, right] - W_U[:, wrong]`.",
        "`directions = W_U[:, answers[:, 0]] - W_U[:, answers[:, 1]]` is [d_model, batch]. Divide `head_out` by `scale`; which axes are multiplied, which summed?",
        '`torch.einsum("lhbd,db->lhb", head_out / scale, directions)`, and then the mean over the batch.',
    ),
    reveal="With the scale frozen, the logit difference is a sum over everything that was ever written into the residual stream. This is each head's share of that sum: its direct effect. What it does by way of "
    "later layers is not in it.",
)


# ---------------------------------------------------------------------------------------------------------------------
# attribution_patching


def _attribution(clean_z: Tensor, corrupted_z: Tensor, gradient: Tensor) -> Tensor:
    """Oracle: for each head the scalar product of change and gradient, flattened."""
    layers, batch, pos, heads, _ = clean_z.shape
    result = torch.zeros(layers, heads)
    for layer in range(layers):
        for head in range(heads):
            total = 0.0
            for b in range(batch):
                for p in range(pos):
                    change = clean_z[layer, b, p, head].double() - corrupted_z[layer, b, p, head].double()
                    total += float(change @ gradient[layer, b, p, head].double())
            result[layer, head] = total
    return result


def _terms(clean_z: Tensor, corrupted_z: Tensor, gradient: Tensor) -> Tensor:
    """Change times gradient, [layer, batch, pos, head]."""
    return ((clean_z - corrupted_z) * gradient).sum(-1)


def _attribution_case(draw: RandomInputs, layers: int, batch: int, pos: int, heads: int, d_head: int) -> Case:
    shape = (layers, batch, pos, heads, d_head)
    clean, corrupted = draw.normal(*shape, mean=0.3), draw.normal(*shape, mean=-0.2)
    corrupted[:, :, : pos // 2] = clean[:, :, : pos // 2]  # the prompts are the same up to there
    return case(
        clean,
        corrupted,
        draw.normal(*shape, mean=0.2, std=0.7),
        about=f"{layers} layers of {heads} heads, batch {batch}, {pos} positions",
    )


ATTRIBUTION_PATCHING = Exercise(
    id="activation_patching.attribution_patching",
    revision=2,
    task="A first-order estimate of patching every head: change times gradient, summed over batch, positions and d_head.",
    minutes=8,
    difficulty=2,
    oracle=_attribution,
    parts=(
        Part(
            "random activations and gradients",
            2,
            lambda draw, size: [_attribution_case(draw, *shape) for shape in ((2, 3, 5, 4, 6), (3, 2, 6, 2, 5))],
        ),
        Part(
            "a single prompt, a single position, all sizes equal",
            1,
            lambda draw, size: [
                _attribution_case(draw, *shape) for shape in ((2, 1, 4, 3, 5), (4, 2, 1, 3, 6), (3, 3, 3, 3, 3))
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "sign_flipped",
            "The sign is flipped: you took corrupted − clean. Patching moves the corrupted run *to* the clean one, so the change is clean − corrupted. Compared with the exact sweep, this estimate would "
            "correlate at −1.",
            lambda clean, corrupted, gradient: -_terms(clean, corrupted, gradient).sum((1, 2)),
        ),
        Mistake(
            "averaged_over_batch",
            "You averaged over the batch. The metric is a mean over the batch already, so its gradient contains the 1/batch: sum.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient).mean(1).sum(1),
        ),
        Mistake(
            "averaged_over_positions",
            "You averaged over positions. A head is patched at all of them together: sum.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient).sum(1).mean(1),
        ),
        Mistake(
            "averaged_over_both",
            "You averaged over batch and positions. The metric is a mean over the batch already, and a head is patched at all positions together: sum over both.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient).mean((1, 2)),
        ),
        Mistake(
            "averaged_over_everything",
            "You averaged over batch, positions and d_head. A first-order estimate is a scalar product: sum over all three.",
            lambda clean, corrupted, gradient: ((clean - corrupted) * gradient).mean((1, 2, 4)),
        ),
        Mistake(
            "clean_times_gradient",
            "You multiplied the clean activation with the gradient. What the patch does is the *change*, clean − corrupted; where both are the same, it does nothing.",
            lambda clean, corrupted, gradient: _terms(clean, torch.zeros_like(corrupted), gradient).sum((1, 2)),
        ),
        Mistake(
            "corrupted_times_gradient",
            "You multiplied the corrupted activation with the gradient. What the patch does is the change, clean − corrupted.",
            lambda clean, corrupted, gradient: _terms(corrupted, torch.zeros_like(corrupted), gradient).sum((1, 2)),
        ),
        Mistake(
            "last_position_only",
            "You took the last position only. Heads also act earlier, and later heads read it: sum over positions.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient)[:, :, -1].sum(1),
        ),
        Mistake(
            "absolute",
            "You took absolute values of the terms. Contributions of different sign cancel in the patch, and must in its estimate.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient).abs().sum((1, 2)),
        ),
        Mistake(
            "product_of_sums",
            "You summed change and gradient over positions before you multiplied. Each position's change meets the gradient of that position: multiply first.",
            lambda clean, corrupted, gradient: ((clean - corrupted).sum((1, 2)) * gradient.sum((1, 2))).sum(-1),
        ),
        Mistake(
            "gradient_only",
            "This is the gradient alone. A head with a large gradient that does the same in both runs has no effect when it is patched: multiply by the change.",
            lambda clean, corrupted, gradient: gradient.sum((1, 2, 4)),
        ),
        Mistake(
            "change_only",
            "This is the change alone. A head may change a lot in directions that the metric does not see: multiply by the gradient.",
            lambda clean, corrupted, gradient: (clean - corrupted).sum((1, 2, 4)),
        ),
        Mistake(
            "batch_kept",
            "You kept the batch: [layer, batch, head]. Sum over it too.",
            lambda clean, corrupted, gradient: _terms(clean, corrupted, gradient).sum(2),
        ),
    ),
    hints=(
        "Near the corrupted run, metric(z + change) ≈ metric(z) + change · gradient. What is the change when a head is patched?",
        "`(clean_z - corrupted_z) * gradient` has all five axes. Only layer and head stay.",
        "`.sum(dim=(1, 2, 4))`. No mean: the metric is a batch mean already.",
    ),
    reveal="Two forward passes and one backward estimate all patches at once. The gradient is that of the corrupted run, so the estimate knows the slope at the start of the path and nothing of its bends. Where an attention "
    "pattern is saturated the slope is nearly zero and the effect is not (Kramár et al. 2024).",
)


# ---------------------------------------------------------------------------------------------------------------------
# self_repair

Repair = tuple[Tensor, float]


def _self_repair(
    before: Tensor, after: Tensor, scale_before: Tensor, scale_after: Tensor, directions: Tensor
) -> Repair:
    """Oracle: one part and one prompt at a time."""
    n_parts, batch, _ = before.shape
    changes, norm = torch.zeros(n_parts), 0.0
    for b in range(batch):
        direction, old, new = directions[b].double(), float(scale_before[b]), float(scale_after[b])
        for p in range(n_parts):
            changes[p] += float((after[p, b].double() - before[p, b].double()) @ direction) / old / batch
            written = float(after[p, b].double() @ direction)
            norm += (written / new - written / old) / batch
    return changes, norm


def _along(parts: Tensor, directions: Tensor) -> Tensor:
    """What each part writes along its prompt's direction, [part, batch]."""
    return (parts * directions).sum(-1)


def _repair_by(
    changes: Callable[..., Tensor] | None = None, norm: Callable[..., Tensor] | None = None
) -> Callable[..., Repair]:
    """A self_repair with one of its results computed otherwise: from a, b (parts along the directions) and s, t (scales)."""

    def repair(before: Tensor, after: Tensor, scale_before: Tensor, scale_after: Tensor, directions: Tensor) -> Repair:
        a, b = _along(before, directions), _along(after, directions)
        s, t = scale_before[:, 0], scale_after[:, 0]
        right = ((b - a) / s).mean(-1), (b.sum(0) / t - b.sum(0) / s).mean()
        return (changes(a, b, s, t) if changes else right[0]), float(norm(a, b, s, t) if norm else right[1])

    return repair


def _repair_case(draw: RandomInputs, parts: int, batch: int, d_model: int) -> Case:
    before = draw.normal(parts, batch, d_model, mean=0.3)
    return case(
        before,
        before + draw.normal(parts, batch, d_model, mean=-0.2, std=0.5),
        draw.uniform(batch, 1, low=0.6, high=4.0),
        draw.uniform(batch, 1, low=0.6, high=4.0),
        draw.normal(batch, d_model, mean=0.2),
        about=f"{parts} parts, batch {batch}, d_model {d_model}",
    )


SELF_REPAIR = Exercise(
    id="activation_patching.self_repair",
    task="How the logit difference changes when a head is ablated: a pair of what each part writes differently, at the scale before, and what the changed scale does to the sum of all parts after. "
    "Batch means, in logits; together they are the whole change. Batches of one and a single part occur; no argument is changed.",
    minutes=10,
    difficulty=3,
    fixed={
        "scale_before=0": "a norm divides by it",
        "scale_after=0": "a norm divides by it",
        "scale_before>=0": "a root mean square",
        "scale_after>=0": "a root mean square",
        "scale_before[1]": "always one",
        "scale_after[1]": "always one",
    },
    oracle=_self_repair,
    parts=(
        Part(
            "several parts and prompts",
            2,
            lambda draw, size: [_repair_case(draw, *shape) for shape in ((5, 3, 4), (4, 6, 7))],
        ),
        Part(
            "a single prompt, a single part, all sizes equal",
            1,
            lambda draw, size: [_repair_case(draw, *shape) for shape in ((4, 1, 6), (1, 4, 5), (3, 3, 3))],
        ),
    ),
    mistakes=(
        Mistake(
            "each_at_its_own_scale",
            "You divided what was written before by the scale before, and what was written after by the scale after. Then the norm's part is in every number, and counted twice. Use the scale before for both.",
            _repair_by(changes=lambda a, b, s, t: (b / t - a / s).mean(-1)),
        ),
        Mistake(
            "scale_after",
            "You used the scale after the ablation for what the parts write differently. With that one the two results no longer sum to the whole change: use the scale before.",
            _repair_by(changes=lambda a, b, s, t: ((b - a) / t).mean(-1)),
        ),
        Mistake(
            "norm_of_the_sum_before",
            "The norm's part is taken on what was written before. The changed scale divides what is there *after* the ablation; otherwise the results do not sum to the whole change.",
            _repair_by(norm=lambda a, b, s, t: (a.sum(0) / t - a.sum(0) / s).mean()),
        ),
        Mistake(
            "norm_sign_flipped",
            "The norm's part has the wrong sign: at the new scale minus at the old one.",
            _repair_by(norm=lambda a, b, s, t: (b.sum(0) / s - b.sum(0) / t).mean()),
        ),
        Mistake(
            "before_minus_after",
            "The parts' changes have the wrong sign: after minus before. A part that helps less has a negative change.",
            _repair_by(changes=lambda a, b, s, t: ((a - b) / s).mean(-1)),
        ),
        Mistake(
            "mean_scale",
            "You divided by the mean of the scales. Each prompt has its own.",
            _repair_by(
                changes=lambda a, b, s, t: ((b - a) / s.mean()).mean(-1),
                norm=lambda a, b, s, t: (b.sum(0) / t.mean() - b.sum(0) / s.mean()).mean(),
            ),
        ),
        Mistake(
            "without_scale",
            "You left out the scale in the parts' changes. Divide each prompt by its scale before the ablation: logits come after the norm.",
            _repair_by(changes=lambda a, b, s, t: (b - a).mean(-1)),
        ),
        Mistake(
            "summed_over_parts",
            "You summed the changes over the parts. One number for each part is asked for: who reacts is the question.",
            _repair_by(changes=lambda a, b, s, t: ((b - a) / s).sum(0).mean()),
        ),
        Mistake(
            "summed_over_batch",
            "You summed over the batch. Means over prompts are asked for.",
            _repair_by(
                changes=lambda a, b, s, t: ((b - a) / s).sum(-1),
                norm=lambda a, b, s, t: (b.sum(0) / t - b.sum(0) / s).sum(),
            ),
        ),
        Mistake(
            "norm_per_part",
            "The norm's part is given as the mean over parts. It acts on the sum of all of them.",
            _repair_by(norm=lambda a, b, s, t: (b / t - b / s).mean()),
        ),
    ),
    hints=(
        "Write the logit difference as (sum of the parts · direction) / scale. It changes for two reasons: the parts change, and the scale does. Change one after the other.",
        "First the parts, at the old scale: `((after - before) / scale_before * directions).sum(-1)` is [part, batch]. Then the scale, with the parts already changed.",
        "`total = (after.sum(0) * directions).sum(-1, keepdim=True)`; the norm's part is the mean of `total / scale_after - total / scale_before`.",
    ),
    reveal="The order of the two steps is a choice: scale first and parts second would move a little from one to the other. What is not a choice is that both are there. Rushing and Nanda (2024) find that the final norm alone does part of the repair: "
    "without the head the stream is shorter, so everything else counts for more.",
)
