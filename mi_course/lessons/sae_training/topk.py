"""Sparsity without a penalty: TopK in each row, and BatchTopK over the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# Oracles: sort, and keep


def _kept(values: list[float], k: int) -> list[int]:
    """A mask of the k largest positive values."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    return [i for i in order[:k] if values[i] > 0]


def _topk(pre: Tensor, k: int) -> Tensor:
    """Oracle. Differentiable: what is kept is the input itself."""
    mask = torch.zeros_like(pre)
    for row, values in enumerate(pre.tolist()):
        for i in _kept(values, k):
            mask[row, i] = 1.0
    return pre * mask


def _batch_topk(pre: Tensor, k: int) -> Tensor:
    """Oracle: the whole batch as one row."""
    return _topk(pre.reshape(1, -1), k * len(pre)).reshape(pre.shape)


# ---------------------------------------------------------------------------------------------------------------------
# Cases


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    """Rows of different scale, so that a choice over the batch differs from one in each row."""
    cases = []
    for batch, F, k in ((4, 9, 2), (3, 6, 4), (6, 6, 1), (5, 8, 3), (3, 1, 1)):
        scale = torch.linspace(0.4, 2.0, batch)[torch.tensor(draw.permutation(batch))][:, None]
        pre = draw.normal(batch, F, mean=0.6) * scale
        # A large negative entry in each row: to be dropped, though its absolute value is large.
        pre[torch.arange(batch), draw.integers(0, F, batch)] = -3.0 - draw.uniform(batch)
        cases.append(case(pre, k, about=f"batch {batch}, F = {F}, k = {k}"))
    return cases


def _few_positive(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, F, k in ((4, 7, 5), (3, 5, 5)):
        pre = -0.1 - draw.normal(batch, F).abs()
        for row in range(1, batch):
            pre[row, draw.integer(0, F)] = draw.number(0.3, 2.0)
        cases.append(case(pre, k, about=f"at most one positive value in each row, F = {F}, k = {k}"))
    cases.append(case(draw.uniform(3, 5, low=0.2, high=2.0), 5, about="all values are positive, F = 5, k = 5"))
    return cases


def _gradient_cases(draw: RandomInputs, size: str) -> list[Case]:
    batch, F, k = 4, 7, 2
    options = {"wrt": [0], "cotangents": [draw.normal(batch, F)]}
    return [case(draw.normal(batch, F, mean=0.5), k, driver="gradients", options=options, about="the gradient")]


def _tied(draw: RandomInputs, batch: int, F: int, size: int) -> Tensor:
    """Whole numbers from −1 to 2: many ties at the border."""
    pre = draw.integers(-1, 3, batch, F).float()
    for row in range(batch):
        pre[row, torch.tensor(draw.permutation(F)[:size])] = 1.0 + row % 2
    return pre


def _judge_ties(case: Case, observation: Observation) -> Complaint | None:
    """With ties any choice is right, so the kept values and their number are compared."""
    for call, reply in zip(case.calls, observation.replies, strict=False):
        pre, k = call.args
        out = reply.value
        if not isinstance(out, Tensor) or out.shape != pre.shape:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            return Complaint(f"The result is {shape}, expected a tensor of shape {tuple(pre.shape)}.", "shape")
        if not out.is_floating_point() or not out.isfinite().all():
            return Complaint("The result holds numbers that are not finite floats.", "nan")
        if problem := _wrong_choice(pre.double(), out.double(), k, whole_batch=case.judge_data == "batch"):
            return problem
    return None


def _wrong_choice(pre: Tensor, out: Tensor, k: int, whole_batch: bool) -> Complaint | None:
    for row, (given, seen) in enumerate(_rows(pre, out, whole_batch)):
        most = k * len(pre) if whole_batch else k
        over = "the batch" if whole_batch else f"row {row}"
        if not ((seen == 0) | torch.isclose(seen, given, atol=1e-6)).all():
            return Complaint(f"In {over} there are values that are neither 0 nor the input at their position.")
        expected = given.sort(descending=True).values[:most].relu()
        expected, kept = expected[expected > 0], seen[seen != 0].sort(descending=True).values
        if len(kept) != len(expected) or not torch.allclose(kept, expected, atol=1e-6):
            return Complaint(
                f"With ties at the border, {over} keeps {_list(kept)}, expected {_list(expected)}: any choice among equal "
                "values is right, but not any number of them."
            )
    return None


def _rows(pre: Tensor, out: Tensor, whole_batch: bool) -> list[tuple[Tensor, Tensor]]:
    return [(pre.flatten(), out.flatten())] if whole_batch else list(zip(pre, out, strict=True))


def _keeps(wrong: Callable[[Tensor, int], Tensor]) -> Callable[[Case, Observation], bool]:
    """Detects that exactly this is kept with ties."""

    def sign(case: Case, observation: Observation) -> bool:
        if case.judge is not _judge_ties:
            return False
        return torch.allclose(observation.replies[0].value.float(), wrong(*case.calls[0].args), atol=1e-6)

    return sign


def _list(values: Tensor) -> str:
    return str([round(v, 3) for v in values.sort(descending=True).values.tolist()])


def _tie_cases(kind: str) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, F, k in ((4, 8, 3), (3, 6, 2)):
            pre = _tied(draw, batch, F, k + 2)
            if kind == "batch":  # the border falls among equal values of the whole batch
                pre = pre.clamp(max=1.0)
                pre[0, 0] = 3.0
            call = Call((pre, k))
            about = f"values with ties, F = {F}, k = {k}"
            cases.append(Case(calls=(call,), judge=_judge_ties, judge_data=kind, about=about))
        return cases

    return cases


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers


def _by(rank: Callable[[Tensor], Tensor], dim: int = -1) -> Callable[[Tensor, int], Tensor]:
    """A wrong answer that keeps, along an axis, the positive ones of the k highest-ranked entries."""

    def keep(pre: Tensor, k: int) -> Tensor:
        index = rank(pre).topk(min(k, pre.shape[dim]), dim=dim).indices
        return torch.zeros_like(pre).scatter(dim, index, pre.gather(dim, index))

    return keep


def _over_batch(function: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """A function of rows, applied to the whole batch as one row."""
    return lambda pre, k: function(pre.reshape(1, -1), k * len(pre)).reshape(pre.shape)


def _at_least_border(pre: Tensor, k: int) -> Tensor:
    border = pre.topk(k, dim=-1).values[..., -1:]
    return torch.where(pre >= border, pre, 0.0).relu()


def _above_border(pre: Tensor, k: int) -> Tensor:
    """Right except with ties at the border: then too few."""
    padded = torch.cat([pre, torch.full_like(pre[..., :1], -torch.inf)], dim=-1)
    border = padded.topk(k + 1, dim=-1).values[..., -1:]
    return torch.where(pre > border, pre, 0.0).relu()


def _packed(pre: Tensor, k: int) -> Tensor:
    out = torch.zeros_like(pre)
    out[..., :k] = pre.topk(k, dim=-1).values.relu()
    return out


def _one_choice(pre: Tensor, k: int) -> Tensor:
    index = pre.mean(dim=0).topk(k).indices
    out = torch.zeros_like(pre)
    out[:, index] = pre[:, index].relu()
    return out


def _less_border(pre: Tensor, k: int) -> Tensor:
    border = pre.topk(k, dim=-1).values[..., -1:]
    return (pre - border.relu()).relu()


def _positives(out: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    return lambda pre, k: out(pre, k).relu()


TOPK_ACTIVATION = Exercise(
    id="sae_training.topk_activation",
    revision=2,
    fixed={
        "pre[1]": "k latents are kept",
        "result>=0": "ReLU",
    },
    task="The k largest values of each row where they are positive, at their positions; zero elsewhere, and never more than k. The gradient reaches what is kept.",
    minutes=7,
    difficulty=2,
    oracle=_topk,
    parts=(
        Part("several shapes and k", 2, _cases),
        Part("fewer than k are positive", 1, _few_positive),
        Part("ties", 1, _tie_cases("row")),
        Part("the gradient reaches what is kept", 1, _gradient_cases),
    ),
    mistakes=(
        Mistake(
            "over_the_batch_axis",
            "You took the k largest of each *latent* over the batch. The k largest of each row are asked for: the last axis.",
            _positives(_by(lambda pre: pre, dim=0)),
        ),
        Mistake(
            "absolute_values",
            "You chose by absolute value. A large negative pre-activation says that the feature is not there.",
            _positives(_by(lambda pre: pre.abs())),
        ),
        Mistake(
            "not_at_their_places",
            "The right values, in the first k columns. Each must stay in the column of its latent: `scatter` them to where they came from.",
            _packed,
        ),
        Mistake(
            "negative_values_kept",
            "Where fewer than k are positive, you kept negative ones. A row may have fewer than k: apply a ReLU to what is kept.",
            _by(lambda pre: pre),
        ),
        Mistake(
            "one_too_many",
            "You kept k + 1 of each row.",
            lambda pre, k: _topk(pre, k + 1),
        ),
        Mistake(
            "one_too_few",
            "You kept one too few: does your comparison leave out the k-th value itself?",
            lambda pre, k: _topk(pre, k - 1),
        ),
        Mistake(
            "smallest",
            "You kept the smallest. `topk` has `largest=True` by default; `sort` ascends.",
            _positives(_by(lambda pre: -pre)),
        ),
        Mistake(
            "only_a_mask",
            "You returned 1 where a value is kept. The value itself is asked for: multiply by it.",
            lambda pre, k: (_topk(pre, k) > 0).float(),
        ),
        Mistake(
            "no_choice",
            "This is a ReLU: every positive value is kept, not the k largest.",
            lambda pre, k: pre.relu(),
        ),
        Mistake(
            "one_choice_for_all_rows",
            "You chose k latents once, for the whole batch. Every row has its own.",
            _one_choice,
        ),
        Mistake(
            "over_the_whole_batch",
            "You kept batch · k values of the whole batch. That is BatchTopK, the next exercise; here each row has its own k.",
            _batch_topk,
        ),
        Mistake(
            "border_subtracted",
            "You subtracted the k-th value from what is kept. Then all activations shrink; keep them as they are.",
            _less_border,
        ),
        Mistake(
            "ties_give_more",
            "Ties: everything that is at least as large as the k-th value was kept, which is more than k where values are equal. Use the *indices* that `topk` returns: there are exactly k.",
            _at_least_border,
            _keeps(_at_least_border),
        ),
        Mistake(
            "ties_give_less",
            "Ties: only what is larger than the next value was kept, which is less than k where values are equal. Use the *indices* that `topk` returns: there are exactly k.",
            _above_border,
            _keeps(_above_border),
        ),
        Mistake(
            "no_gradient",
            "The values are right, but no gradient reaches `pre`: they were copied out of the graph (`.detach()`, `.tolist()`, numpy, `.data`). Then the encoder cannot learn. `scatter` and multiplication by a mask keep it.",
            lambda pre, k: _topk(pre, k).detach(),
        ),
    ),
    hints=(
        "`pre.topk(k, dim=-1)` gives values and indices. Where do they have to go?",
        "`torch.zeros_like(pre).scatter(-1, indices, values)` puts each value back at its position.",
        "A ReLU on the values drops the negative ones: `top.values.relu()`.",
    ),
    reveal="Sparsity is now exact and needs no coefficient, and nothing pulls the surviving values towards zero (Gao et al. 2024). `scatter` with the indices has exactly k entries; comparing with the k-th value has more when there are ties, and ties are common in half precision.",
)


# ---------------------------------------------------------------------------------------------------------------------
# batch_topk_activation


BATCH_TOPK_ACTIVATION = Exercise(
    id="sae_training.batch_topk_activation",
    revision=2,
    fixed={
        "pre[1]": "k latents are kept",
        "result>=0": "ReLU",
    },
    task="The batch · k largest values of the whole batch where they are positive, at their positions; zero elsewhere. The gradient reaches what is kept.",
    minutes=5,
    difficulty=2,
    oracle=_batch_topk,
    parts=(
        Part("several shapes and k", 2, _cases),
        Part("fewer are positive", 1, _few_positive),
        Part("ties", 1, _tie_cases("batch")),
        Part("the gradient reaches what is kept", 1, _gradient_cases),
    ),
    mistakes=(
        Mistake(
            "k_in_each_row",
            "You kept k in each row: that is TopK. Over the batch, a rich row may keep more than k, and a poor one fewer; only the average is k.",
            _topk,
        ),
        Mistake(
            "k_in_all",
            "You kept k values in the whole batch. It is k for each row on average: batch · k.",
            lambda pre, k: _topk(pre.reshape(1, -1), k).reshape(pre.shape),
        ),
        Mistake(
            "k_for_each_latent",
            "You kept F · k values: k for each latent. It is k for each row: batch · k.",
            lambda pre, k: _topk(pre.reshape(1, -1), k * pre.shape[1]).reshape(pre.shape),
        ),
        Mistake(
            "over_the_batch_axis",
            "You took the k largest of each latent over the batch. The largest of all values together are asked for: flatten first.",
            _positives(_by(lambda pre: pre, dim=0)),
        ),
        Mistake(
            "absolute_values",
            "You chose by absolute value. A large negative pre-activation says that the feature is not there.",
            _over_batch(_positives(_by(lambda pre: pre.abs()))),
        ),
        Mistake(
            "not_at_their_places",
            "The right values at the wrong positions. Each must stay in its row and column: `scatter` them into the flat tensor, then give it its shape back.",
            _over_batch(_packed),
        ),
        Mistake(
            "negative_values_kept",
            "Where fewer than batch · k values are positive, you kept negative ones. Apply a ReLU to what is kept.",
            _over_batch(_by(lambda pre: pre)),
        ),
        Mistake(
            "one_too_many",
            "You kept one value too many.",
            lambda pre, k: _topk(pre.reshape(1, -1), k * len(pre) + 1).reshape(pre.shape),
        ),
        Mistake(
            "one_too_few",
            "You kept one value too few: does your comparison leave out the last one itself?",
            lambda pre, k: _topk(pre.reshape(1, -1), k * len(pre) - 1).reshape(pre.shape),
        ),
        Mistake(
            "smallest",
            "You kept the smallest. `topk` has `largest=True` by default; `sort` ascends.",
            _over_batch(_positives(_by(lambda pre: -pre))),
        ),
        Mistake(
            "only_a_mask",
            "You returned 1 where a value is kept. The value itself is asked for: multiply by it.",
            lambda pre, k: (_batch_topk(pre, k) > 0).float(),
        ),
        Mistake(
            "no_choice",
            "This is a ReLU: every positive value is kept, not the largest ones.",
            lambda pre, k: pre.relu(),
        ),
        Mistake(
            "border_subtracted",
            "You subtracted the smallest kept value from the others. Then all activations shrink; keep them as they are.",
            _over_batch(_less_border),
        ),
        Mistake(
            "ties_give_more",
            "Ties: everything that is at least as large as the smallest kept value was kept, which is more than batch · k where values are equal. Use the *indices* that `topk` returns.",
            _over_batch(_at_least_border),
            _keeps(_over_batch(_at_least_border)),
        ),
        Mistake(
            "ties_give_less",
            "Ties: only what is larger than the next value was kept, which is less than batch · k where values are equal. Use the *indices* that `topk` returns.",
            _over_batch(_above_border),
            _keeps(_over_batch(_above_border)),
        ),
        Mistake(
            "no_gradient",
            "The values are right, but no gradient reaches `pre`: they were copied out of the graph (`.detach()`, `.tolist()`, numpy, `.data`). Then the encoder cannot learn.",
            lambda pre, k: _batch_topk(pre, k).detach(),
        ),
    ),
    hints=(
        "How many values may the whole batch keep, if each row keeps k on average?",
        "`pre.flatten().topk(batch * k)` looks at all of them together; its indices count through the flat tensor.",
        "`scatter` into `torch.zeros_like(flat)`, then `.view_as(pre)`.",
    ),
    reveal="Some tokens need more latents than others; here the batch decides who gets them (Bussmann et al. 2024). The price: what one row keeps depends on its neighbors. For use, replace the choice by a fixed threshold, the mean of the smallest kept value over training batches.",
)
