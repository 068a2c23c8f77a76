"""The outcome of lesson 05: a trained toy model, judged by its loss on fresh data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    moved_random_state,
    seed_complaint,
)
from mi_course.interp.superposition import (
    Snapshot,
    best_linear_loss,
    importance_loss,
    sample_features,
    toy_forward,
    train_toy,
    training,
)
from mi_course.wire import Observation

SPARSE, DENSE = 0.5, 1.15
"""A model may have at most this multiple of the best linear loss: on sparse features, and on dense ones. Measured over
150 seeds, 600 steps of Adam: 0.09 to 0.42 in the sparse cases below, 1.00 to 1.12 in 98 of 100 dense ones.
Trained without the ReLU: 0.93 to 1.0; with importances ignored 0.6, or 1.35 to 1.8 on dense features; without a bias 1.22 there; on data of another
sparsity 1.06 to 38; answering the mean 1.6 to 9."""

ROWS = 30_000
"""Fresh rows on which a model is judged; the loss on them is known to about 2 %."""


def _read(value: Any, n_features: int, n_hidden: int) -> tuple[Tensor, Tensor] | Complaint:
    """W and b of an answer, or a complaint."""
    if not isinstance(value, dict) or set(value) != {"W", "b"}:
        seen = f"a dict with {sorted(map(str, value))[:6]}" if isinstance(value, dict) else f"a {type(value).__name__}"
        return Complaint(f'The result is {seen}; `{{"W": W, "b": b}}` is asked for.', "type")
    for name, shape in (("W", (n_hidden, n_features)), ("b", (n_features,))):
        tensor = value[name]
        if not isinstance(tensor, Tensor):
            return Complaint(f"{name} is a {type(tensor).__name__}, expected a tensor of shape {shape}.", "type")
        if tensor.shape != shape:
            if name == "W" and tensor.shape == shape[::-1]:
                return Complaint("", "shape", "transposed")
            return Complaint(f"{name} has shape {tuple(tensor.shape)}, expected {shape}.", "shape")
        if not tensor.dtype.is_floating_point:
            return Complaint(f"{name} has {tensor.dtype}, expected floating point.", "dtype")
        if not tensor.isfinite().all():
            return Complaint(
                f"{name} contains NaN or infinite numbers: the training diverged. Try a smaller learning rate.", "nan"
            )
    return value["W"].float(), value["b"].float()


def _ratio(W: Tensor, b: Tensor, p: float, importance: Tensor, seed: int) -> float:
    """Loss on fresh data as a multiple of the best linear loss."""
    x = sample_features(ROWS, W.shape[1], p, seed)
    return float(importance_loss(x, toy_forward(x, W, b), importance)) / best_linear_loss(W.shape[0], p, importance)


def _linear_ratio(W: Tensor, b: Tensor, p: float, importance: Tensor, seed: int) -> float:
    """The same without the ReLU."""
    x = sample_features(ROWS, W.shape[1], p, seed)
    return float(importance_loss(x, x @ W.T @ W + b, importance)) / best_linear_loss(W.shape[0], p, importance)


_AT_REST = 0.04
"""The share of the loss that a little more training takes away from a model that has come to rest, at most."""


def _gain(W: Tensor, b: Tensor, p: float, importance: Tensor, seed: int) -> float:
    """The share of the loss that a little more training for these features would take away."""
    x, fresh = (sample_features(4000, W.shape[1], p, seed + i) for i in range(2))
    more = [W.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()]
    optimizer = torch.optim.Adam(more, lr=0.003)
    with torch.enable_grad():
        for _ in range(60):
            optimizer.zero_grad()
            importance_loss(x, toy_forward(x, *more), importance).backward()
            optimizer.step()
    before, after = (float(importance_loss(fresh, toy_forward(fresh, *m).detach(), importance)) for m in ((W, b), more))
    return 1 - after / before


def _complaint(W: Tensor, b: Tensor, call: Call, seed: int) -> Complaint | None:
    n, hidden, p, importance, _ = call.args
    asked = DENSE if p == 1 else SPARSE
    ratio = _ratio(W, b, p, importance, seed)
    if ratio <= asked:
        return None
    x = sample_features(2000, n, p, seed + 1)
    answers = toy_forward(x, W, b)
    if float((answers - answers[:1]).abs().max()) < 0.02:
        return Complaint("", mistake="constant")
    if ratio > 0.75 and _linear_ratio(W, b, p, importance, seed) < 1.1:
        return Complaint("", mistake="linear_only")
    if not b.any():
        mean = _ratio(torch.zeros_like(W), torch.full_like(b, p / 2), p, importance, seed)
        # Trained without a bias: at most 0.23 times the loss of answering the mean where features are sparse, 0.5 where dense.
        return Complaint("", mistake="untrained" if ratio > (0.9 if p == 1 else 0.3) * mean else "no_bias")
    # A model is told what it was trained for only if its training for that has come to rest: one that is on its way to
    # what is asked may do well on something else too.
    gain = _gain(W, b, p, importance, seed)
    if gain > _AT_REST:
        others = [q for q in (1.0, 0.5, 0.1, 0.05, 0.02) if not p / 3 < q < 3 * p or q == 1.0 != p]
        for q in others:
            good = _ratio(W, b, q, importance, seed) <= (1.1 if q >= 0.5 else 0.4)
            if good and _gain(W, b, q, importance, seed) < _AT_REST:
                return Complaint("", mistake="another_sparsity")
        alike = torch.ones_like(importance)
        good = importance.max() > importance.min() and _ratio(W, b, p, alike, seed) <= (1.05 if p == 1 else 0.4)
        # Dense features are learned slowly, and nearly alike whatever they count.
        rest = _AT_REST if p < 1 else min(0.015, gain / 10)
        if good and (p < 1 or ratio > 1.35) and _gain(W, b, p, alike, seed) < rest:
            return Complaint("", mistake="importance_ignored")
    loss, best = ratio * best_linear_loss(hidden, p, importance), best_linear_loss(hidden, p, importance)
    what = "no better than a linear model could be" if ratio > 1 and p < 1 else "not low enough"
    return Complaint(
        f"On fresh data ({n} features in {hidden} dimensions, probability {p:g}) the loss is {loss:.4f}; the best linear "
        f"solution has {best:.4f}, and {asked:g} times that is asked for: {asked * best:.4f}. That is {what}. Train for more "
        "steps, or with a larger learning rate that falls towards the end; fresh features at every step, of the probability that is "
        "passed in, and the importance-weighted loss. If you do all that, the start was unlucky: train from several and keep "
        "the best."
    )


def _judge(case: Case, observation: Observation) -> Complaint | None:
    """Judge each call: is it a model, of this configuration, with a low enough loss on fresh data?"""
    found = []
    for call, reply in zip(case.calls, observation.replies, strict=False):
        read = _read(reply.value, *call.args[:2])
        if isinstance(read, Complaint):
            if found and read.kind == "shape" and _same_as_another(reply.value, found[0]):
                return Complaint("", "shape", "hard_coded")
            return read
        found.append(read)
    if len(found) > 1 and case.judge_data["apart"] and _equal(found[0], found[1]):
        return Complaint("", mistake="hard_coded")
    for i, (call, (W, b)) in enumerate(zip(case.calls, found, strict=False)):
        if problem := _complaint(W, b, call, case.judge_data["seed"] + i):
            return problem
    return None


def _equal(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def _same_as_another(value: Any, known: tuple[Tensor, Tensor]) -> bool:
    W = value.get("W")
    return isinstance(W, Tensor) and W.shape == known[0].shape and torch.equal(W.float(), known[0])


def _judge_seeds(case: Case, observation: Observation) -> Complaint | None:
    if problem := _judge(case, observation):
        return problem
    return seed_complaint(
        *(_read(r.value, *c.args[:2]) for r, c in zip(observation.replies, case.calls, strict=True)),
        "Two calls with the same seed gave different models. Weights and features must both come from it.",
        same=_equal,
    )


def _steep(draw: RandomInputs, n: int, factor: float) -> Tensor:
    """Importances 1, factor, factor², … in random order."""
    return factor ** torch.tensor(draw.permutation(n)).float()


def _hidden(draw: RandomInputs, apart: bool) -> dict[str, Any]:
    return {"seed": draw.integer(0, 2**30), "apart": apart}


def _sparse_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = [(6, 3, 0.1, torch.ones(6)), (8, 3, 0.05, _steep(draw, 8, 0.6)), (12, 4, 0.02, _steep(draw, 12, 0.6))]
    calls = [Call((*setting, draw.seed()), watch=("arguments",)) for setting in settings[: 2 if size == "small" else 3]]
    return [
        Case(
            calls=tuple(calls),
            judge=_judge,
            judge_data=_hidden(draw, apart=True),
            limit_s=40,
            about="features present with probability 0.1, 0.05 and 0.02",
        )
    ]


def _dense_cases(draw: RandomInputs, size: str) -> list[Case]:
    seed = draw.seed()
    settings = [(6, 3, 1.0, _steep(draw, 6, 0.7)), (6, 3, 0.1, torch.ones(6)), (5, 2, 1.0, _steep(draw, 5, 0.7))]
    calls = [Call((*setting, seed), watch=("arguments",)) for setting in settings[: 2 if size == "small" else 3]]
    return [
        Case(
            calls=tuple(calls),
            judge=_judge,
            judge_data=_hidden(draw, apart=True),
            limit_s=30,
            about="dense features of different importance, beside sparse ones",
        )
    ]


def _seed_cases(draw: RandomInputs, size: str) -> list[Case]:
    seed, other = draw.seed(), draw.seed()
    args = (6, 3, 0.08, torch.ones(6))
    calls = tuple(Call((*args, s), watch=("random_state",)) for s in (seed, seed, other))
    return [
        Case(
            calls=calls,
            judge=_judge_seeds,
            judge_data=_hidden(draw, apart=False),
            limit_s=20,
            about="the same seed twice, then another",
        )
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers


def _result(state: Snapshot) -> dict[str, Tensor]:
    return {"W": state.W[0], "b": state.b[0]}


def _last(*args: Any, **options: Any) -> dict[str, Tensor]:
    n, hidden, p, importance, seed = args
    *_, last = training(n, hidden, [p], importance, seed, every=10**6, **{"steps": 600, **options})
    return _result(last)


def _untrained(n_features: int, n_hidden: int, probability: float, importance: Tensor, seed: int) -> dict[str, Tensor]:
    return _result(next(training(n_features, n_hidden, [probability], importance, seed)))


def _pca(n: int, hidden: int, p: float, importance: Tensor, seed: int) -> dict[str, Tensor]:
    kept = importance.argsort(descending=True)[:hidden]
    W, b = torch.zeros(hidden, n), torch.full((n,), p / 2)
    W[range(hidden), kept], b[kept] = 1.0, 0.0
    return {"W": W, "b": b + 1e-6 * seed / 2**31}


def _constant(n: int, hidden: int, p: float, importance: Tensor, seed: int) -> dict[str, Tensor]:
    return {"W": torch.zeros(hidden, n), "b": torch.full((n,), p / 2 + 1e-6 * seed / 2**31)}


def _hard_coded(n: int, hidden: int, p: float, importance: Tensor, seed: int) -> dict[str, Tensor]:
    return {"W": torch.cat([torch.eye(3), -torch.eye(3)], dim=1), "b": torch.zeros(6)}


def _no_bias(n: int, hidden: int, p: float, importance: Tensor, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    W = (torch.randn(hidden, n, generator=generator) / n**0.5).requires_grad_()
    optimizer = torch.optim.Adam([W], lr=0.02)
    for _ in range(400):
        x = sample_features(256, n, p, int(torch.randint(2**31, (1,), generator=generator)))
        loss = importance_loss(x, toy_forward(x, W, torch.zeros(n)), importance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"W": W.detach(), "b": torch.zeros(n)}


def _transposed(*args: Any) -> dict[str, Tensor]:
    model = train_toy(*args)
    return {"W": model["W"].T, "b": model["b"]}


def _global_state(*args: Any) -> dict[str, Tensor]:
    torch.manual_seed(args[-1])
    return train_toy(*args)


TRAIN_TOY = Exercise(
    id="superposition.train_toy",
    revision=2,
    task=f"A trained toy model. On fresh sparse features its loss is at most {SPARSE:g} times that of the best linear solution; on dense ones at most {DENSE:g} times.",
    minutes=14,
    difficulty=2,
    outcome=True,
    parts=(
        Part("sparse features: at most half the best linear loss", 3, _sparse_cases),
        Part("dense features: as good as the best linear solution", 1, _dense_cases),
        Part("the seed decides, and nothing else is touched", 1, _seed_cases),
    ),
    mistakes=(
        Mistake(
            "untrained",
            "These weights do no better than ones that were never trained, and the bias is still 0. Is `optimizer.step()` called? Are the tensors that you return the ones that the optimiser was given?",
            _untrained,
        ),
        Mistake(
            "linear_only",
            "This is what a *linear* model finds, principal component analysis: as many features as there are dimensions, and the mean for the rest. Superposition needs the ReLU on the output, in the loss that you train on.",
            _pca,
        ),
        Mistake(
            "constant",
            "Whatever goes in, the model answers the same. W has died, or was never used: if W starts at zero, its gradient is zero and stays so. Start from random numbers.",
            _constant,
        ),
        Mistake(
            "hard_coded",
            "The same weights came back for another configuration. They must be trained for the number of features, the probability and the importances that are asked for.",
            _hard_coded,
        ),
        Mistake(
            "another_sparsity",
            "Your model would do well on features of another sparsity, not on these. Sample with the `probability` that is passed in; 1 means dense.",
            lambda n, hidden, p, importance, seed: _last(n, hidden, 1.0, importance, seed),
        ),
        Mistake(
            "importance_ignored",
            "Counted alike, the features are held well; counted with their importances they are not. Train on the importance-weighted loss: the model should give up the least important features first.",
            lambda n, hidden, p, importance, seed: _last(n, hidden, p, torch.ones(n), seed),
        ),
        Mistake(
            "no_bias",
            "The bias is exactly 0 everywhere. Train it too: it must be among the parameters of the optimiser.",
            _no_bias,
        ),
        Mistake(
            "transposed",
            "W is [features, hidden]. Return it as [hidden, features], so that column i belongs to feature i.",
            _transposed,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gave the same model. Both the first weights and the features should come from the seed.",
            lambda n, hidden, p, importance, seed: train_toy(n, hidden, p, importance, 0),
        ),
        Mistake(
            "global_random_state",
            "The model is right, but the global random state moved, and with it everything random that comes later in the notebook. Draw the first weights with a `torch.Generator().manual_seed(seed)` of your own.",
            _global_state,
            moved_random_state,
        ),
    ),
    hints=(
        "W random and small, b zero, both with `requires_grad`. Then a loop: fresh features, forward, loss, `zero_grad`, `backward`, `step`. You have written the three functions already.",
        "Fresh features need a fresh seed at every step: `seed + step` will do, or numbers from your generator. Adam with a learning rate of 0.03, 600 steps of 512 rows, is enough.",
        "Let the learning rate fall to zero: `torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)`. With large steps to the end, the last few percent are lost.",
    ),
    reveal="Fresh data at every step means there is nothing to overfit. The gradient of x̂ = ReLU(Wᵀ W x + b) passes through W twice, once for writing and once for reading; autograd takes care of it. The best starting point is random: at W = 0 the gradient vanishes.",
)
