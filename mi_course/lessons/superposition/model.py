"""The toy model: forward, loss, and the best loss of a linear model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# toy_forward


def _toy_forward(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Oracle: by loops. Each feature writes its column of W into the hidden space, and reads with the same column."""
    n_hidden, n_features = W.shape
    rows = []
    for row in x.tolist():
        hidden = [sum(float(W[d, j]) * row[j] for j in range(n_features)) for d in range(n_hidden)]
        read = [sum(float(W[d, i]) * hidden[d] for d in range(n_hidden)) + float(b[i]) for i in range(n_features)]
        rows.append([max(value, 0.0) for value in read])
    return torch.tensor(rows)


def _forward_cases(shapes: list[tuple[int, int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                draw.uniform(batch, n),
                draw.normal(hidden, n),
                draw.normal(n, std=0.7),
                about=f"a batch of {batch}, {n} features in {hidden} dimensions, biases of both signs",
            )
            for batch, n, hidden in shapes
        ]

    return cases


TOY_FORWARD = Exercise(
    id="superposition.toy_forward",
    revision=2,
    fixed={
        "x>=0": "features lie between 0 and 1",
        "result>=0": "ReLU",
    },
    task="ReLU(Wᵀ W x + b) for every row x of the batch.",
    minutes=5,
    difficulty=1,
    oracle=_toy_forward,
    parts=(
        Part("more features than dimensions", 2, _forward_cases([(4, 5, 2), (1, 7, 3), (6, 3, 1)])),
        Part("as many, and fewer", 1, _forward_cases([(5, 4, 4), (3, 2, 6)])),
    ),
    mistakes=(
        Mistake(
            "no_relu",
            "The ReLU is missing: some of your outputs are negative. It is what clears away interference, and without it there is no superposition.",
            lambda x, W, b: x @ W.T @ W + b,
        ),
        Mistake(
            "no_bias",
            "The bias is missing. It is added before the ReLU.",
            lambda x, W, b: torch.relu(x @ W.T @ W),
        ),
        Mistake(
            "bias_after_relu",
            "The bias is added *after* the ReLU. Inside, a negative bias cuts off small interference; outside, it cannot.",
            lambda x, W, b: torch.relu(x @ W.T @ W) + b,
        ),
        Mistake(
            "bias_subtracted",
            "The bias is subtracted. It is added: a negative one lowers.",
            lambda x, W, b: torch.relu(x @ W.T @ W - b),
        ),
        Mistake(
            "w_w_transposed",
            "This is W Wᵀ x, which fits only where there are as many features as dimensions. W maps features to hidden, Wᵀ back: on rows, `x @ W.T` first, then `@ W`.",
            lambda x, W, b: torch.relu(x @ (W @ W.T) + b),
        ),
        Mistake(
            "relu_on_the_hidden",
            "The ReLU sits on the hidden layer. It belongs on the output; the hidden layer of this model is linear.",
            lambda x, W, b: torch.relu(x @ W.T) @ W + b,
        ),
        Mistake(
            "relu_twice",
            "There is a ReLU on the hidden layer too. Only the output has one: features may be written in negative directions.",
            lambda x, W, b: torch.relu(torch.relu(x @ W.T) @ W + b),
        ),
        Mistake(
            "hidden_returned",
            "You returned the hidden layer, x Wᵀ. Read the features out of it again: `@ W`, the bias, the ReLU.",
            lambda x, W, b: x @ W.T,
        ),
        Mistake(
            "absolute_value",
            "This is the absolute value. A ReLU sets what is negative to 0.",
            lambda x, W, b: (x @ W.T @ W + b).abs(),
        ),
    ),
    hints=(
        "Two products: from features to hidden, from hidden back to features, with the same W. Which of them needs the transpose, when x has the batch in front?",
        "`hidden = x @ W.T` has shape (batch, hidden), `hidden @ W` has shape (batch, features). Then the bias, then `torch.relu`.",
    ),
    reveal="Column i of W is where feature i is written, and also how it is read: Wᵀ W holds the dot products of all pairs. Its diagonal is how well a feature is kept, the rest is who disturbs whom. Never form Wᵀ W for a batch of thousands of features: "
    "(x Wᵀ) W costs less.",
)


# ---------------------------------------------------------------------------------------------------------------------
# importance_loss


def _importance_loss(x: Tensor, x_hat: Tensor, importance: Tensor) -> Tensor:
    """Oracle: feature by feature. Tensors throughout, so that gradients flow."""
    total = torch.zeros(())
    for row, guess in zip(x, x_hat, strict=True):
        for weight, seen, guessed in zip(importance, row, guess, strict=True):
            total = total + weight * (seen - guessed) * (seen - guessed)
    return total / len(x)


def _loss_inputs(draw: RandomInputs, batch: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    x = draw.uniform(batch, n) * (draw.uniform(batch, n) < 0.7)
    return x, draw.normal(batch, n, mean=0.4, std=0.6), draw.uniform(n, low=0.2, high=3.0)


def _loss_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_loss_inputs(draw, batch, n),
            about=f"a batch of {batch}, {n} features of different importance",
        )
        for batch, n in ((5, 3), (2, 7), (1, 4), (8, 8))
    ]


def _gradient_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_loss_inputs(draw, batch, n),
            driver="gradients",
            options={"wrt": [1], "cotangents": [torch.tensor(draw.number(0.5, 2.0))]},
            about=f"the gradient with respect to x_hat, a batch of {batch}, {n} features",
        )
        for batch, n in ((3, 5), (6, 2))
    ]


def _squares(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat) ** 2


IMPORTANCE_LOSS = Exercise(
    id="superposition.importance_loss",
    revision=2,
    fixed={
        "x>=0": "features lie between 0 and 1",
        "importance>=0": "weights",
        "result>=0": "squares",
    },
    task="The squared error of each feature times its importance, summed over the features, averaged over the batch.",
    minutes=4,
    difficulty=1,
    oracle=_importance_loss,
    parts=(
        Part("several batches and numbers of features", 2, _loss_cases),
        Part("a scalar tensor, through which gradients flow", 1, _gradient_cases),
    ),
    mistakes=(
        Mistake(
            "no_gradient",
            "The value is right, but no gradient flows through it, so nothing can be trained on it. Return the tensor itself, without `.item()`, `float()` or `.detach()`.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(-1).mean().detach(),
        ),
        Mistake(
            "importance_squared",
            "The importance stands inside the square, so it counts squared. Square the error first, then multiply.",
            lambda x, x_hat, importance: (importance * (x - x_hat)).square().sum(-1).mean(),
        ),
        Mistake(
            "importance_ignored",
            "All features count alike: the importance is missing.",
            lambda x, x_hat, importance: _squares(x, x_hat).sum(-1).mean(),
        ),
        Mistake(
            "summed_over_batch",
            "You summed over the batch. The loss then grows with the batch size; take the mean over rows.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(),
        ),
        Mistake(
            "averaged_over_features",
            "You averaged over the features as well (`.mean()` over everything). Sum over features, then average over the batch, so that adding a feature does not make the others cheaper.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).mean(),
        ),
        Mistake(
            "axes_swapped",
            "You summed over the batch and averaged over the features. It is the other way around: `.sum(-1).mean()`.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(0).mean(),
        ),
        Mistake(
            "weighted_mean",
            "You divided by the sum of the importances. That rescales the loss by a constant which changes with the importances; leave it out.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(-1).mean() / importance.sum(),
        ),
        Mistake(
            "absolute_error",
            "This is the absolute error. Square it.",
            lambda x, x_hat, importance: (importance * (x - x_hat).abs()).sum(-1).mean(),
        ),
        Mistake(
            "square_root",
            "You took a square root at the end. The loss is the mean *squared* error.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(-1).mean().sqrt(),
        ),
        Mistake(
            "difference_of_squares",
            "This is x² − x̂², a difference of squares. The square of the difference is asked for.",
            lambda x, x_hat, importance: (importance * (x**2 - x_hat**2)).sum(-1).mean(),
        ),
        Mistake(
            "one_for_each_row",
            "You kept one loss for each row. One number is asked for: their mean.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).sum(-1),
        ),
        Mistake(
            "one_for_each_feature",
            "You kept one loss for each feature. One number is asked for: sum them.",
            lambda x, x_hat, importance: (importance * _squares(x, x_hat)).mean(0),
        ),
    ),
    hints=(
        "Three steps: the square of the difference, times the importance of the feature, and then two axes to reduce, each in its own way.",
        "`(importance * (x - x_hat) ** 2)` has shape (batch, features). `.sum(dim=-1)` leaves one number for each row.",
    ),
    reveal="Importance weighs the squared error, so a feature of importance 0.25 counts a quarter. Whether features are summed or averaged does not move the minimum here, but it does as soon as another term is added: lesson 06 will meet this with the L1 penalty.",
)


# ---------------------------------------------------------------------------------------------------------------------
# best_linear_loss


def _best_linear_loss(n_hidden: int, probability: float, importance: Tensor) -> float:
    """Oracle: E[x²] − E[x]² of one feature, by integrating over its size; the least important ones cost it."""
    grid = [(i + 0.5) / 2000 for i in range(2000)]
    mean = probability * sum(grid) / len(grid)
    square = probability * sum(size * size for size in grid) / len(grid)
    lost = sorted(importance.tolist())[: max(len(importance) - n_hidden, 0)]
    return sum(lost) * (square - mean * mean)


def _linear_with(
    variance: Callable[[float], float] = lambda p: p / 3 - p * p / 4,
    keep: Callable[[Tensor, int], Tensor] = lambda importance, k: importance.sort(descending=True).values[k:],
) -> Callable[[int, float, Tensor], float]:
    """A best_linear_loss with one thing changed."""
    return lambda n_hidden, probability, importance: float(keep(importance, n_hidden).sum()) * variance(probability)


def _linear_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n, hidden in ((5, 2), (9, 4), (6, 1)):
        p = draw.number(0.1, 0.9)
        importance = draw.uniform(n, low=0.1, high=2.0)
        cases.append(case(hidden, p, importance, about=f"{n} features in {hidden} dimensions, probability {p:.2f}"))
    tied = torch.tensor([0.5, 1.5, 0.5, 0.5, 2.0])
    cases += [case(k, 0.3, tied, about=f"equal importances, {k} dimensions") for k in (1, 3, 4)]
    cases += [case(2, p, torch.tensor([400.0, 800.0, 4000.0, 6000.0]), about=f"probability {p}") for p in (0.0, 1.0)]
    return cases


def _linear_edges(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(3, 1.0, draw.uniform(5, low=0.2, high=2.0), about="dense features: probability 1"),
        case(0, draw.number(0.2, 0.6), draw.uniform(4, low=0.2, high=2.0), about="no hidden dimension at all"),
        case(4, draw.number(0.2, 0.6), draw.uniform(4, low=0.2, high=2.0), about="as many dimensions as features"),
        case(6, draw.number(0.2, 0.6), draw.uniform(4, low=0.2, high=2.0), about="more dimensions than features"),
    ]


BEST_LINEAR_LOSS = Exercise(
    id="superposition.best_linear_loss",
    revision=2,
    fixed={
        "probability>=0": "a probability",
        "importance>=0": "weights",
        "result>=0": "squares",
    },
    task="The lowest loss of a linear model, which keeps the most important features and answers the others by their mean.",
    minutes=8,
    difficulty=2,
    oracle=_best_linear_loss,
    parts=(
        Part("random importances, in no order", 2, _linear_cases),
        Part("dense features; no dimension, or enough for all", 1, _linear_edges),
    ),
    mistakes=(
        Mistake(
            "answers_zero",
            "This is the loss when a lost feature is answered by 0: probability/3, the mean of x². The bias can do better and answer the mean, which leaves the variance: subtract (probability/2)².",
            _linear_with(lambda p: p / 3),
        ),
        Mistake(
            "always_present",
            "1/12 is the variance of a feature that is always there. With probability p the mean of x² is p/3 and the mean of x is p/2.",
            _linear_with(lambda p: 1 / 12),
        ),
        Mistake(
            "variance_of_the_size_only",
            "You took the probability times 1/12, the variance of the size. Whether a feature is there at all varies too: E[x²] − E[x]² = p/3 − p²/4.",
            _linear_with(lambda p: p / 12),
        ),
        Mistake(
            "presence_only",
            "This is p(1 − p)/4, the variance of a feature whose size is always 1/2. Its size varies too: E[x²] − E[x]² = p/3 − p²/4.",
            _linear_with(lambda p: p * (1 - p) / 4),
        ),
        Mistake(
            "mean_not_squared",
            "From the mean of x² you subtracted the mean of x, not its square: E[x²] − E[x]².",
            _linear_with(lambda p: p / 3 - p / 2),
        ),
        Mistake(
            "deviation",
            "This is the standard deviation. The loss is a squared error: take the variance.",
            _linear_with(lambda p: (p / 3 - p * p / 4) ** 0.5),
        ),
        Mistake(
            "keeps_the_first",
            "You kept the *first* features. They are in no order: keep the most important ones.",
            _linear_with(keep=lambda importance, k: importance[k:]),
        ),
        Mistake(
            "keeps_the_least",
            "You kept the *least* important features and lost the others.",
            _linear_with(keep=lambda importance, k: importance.sort().values[k:]),
        ),
        Mistake(
            "the_kept_ones",
            "You summed over the features that are kept. Those cost nothing; the others do.",
            _linear_with(keep=lambda importance, k: importance.sort(descending=True).values[:k]),
        ),
        Mistake(
            "keeps_none",
            "You summed over all features. The `n_hidden` most important ones are kept without loss.",
            _linear_with(keep=lambda importance, k: importance),
        ),
        Mistake(
            "one_too_few_kept",
            "You kept one feature too few: `n_hidden` dimensions hold `n_hidden` features.",
            _linear_with(keep=lambda importance, k: importance.sort(descending=True).values[max(k - 1, 0) :]),
        ),
        Mistake(
            "importance_ignored",
            "You counted the lost features. Each counts with its importance.",
            _linear_with(keep=lambda importance, k: torch.ones(max(len(importance) - k, 0))),
        ),
        Mistake(
            "averaged",
            "You averaged over the lost features. The loss sums over features.",
            _linear_with(keep=lambda importance, k: importance.sort(descending=True).values[k:].mean(0, keepdim=True)),
        ),
    ),
    hints=(
        "A lost feature is answered by a constant, its mean. What is the expected squared error of that? It has a name.",
        "x is 0 with probability 1 − p and uniform on [0, 1] otherwise. A uniform number has mean 1/2 and mean square 1/3, so E[x] = p/2 and E[x²] = p/3.",
        "`importance.sort(descending=True).values[n_hidden:]` are the importances of what is lost.",
    ),
    reveal="A linear model of rank m can keep m directions of the features. Weighted by importance, the best choice is the m most important features themselves (Eckart and Young 1936: it is principal component analysis, and independent features are their own "
    "components). Wᵀ W must then be a projection: any direction that is shared is paid for in full. This number is what superposition has to beat.",
)
