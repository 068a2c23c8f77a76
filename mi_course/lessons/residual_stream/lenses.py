"""Lenses: every layer read as if it were the last, where an answer is settled, and an affine map for each layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, function_ref
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# logit_lens

_Norm = Callable[[Tensor], Tensor]


def _logit_lens(resid: Tensor, norm: _Norm, W_U: Tensor) -> Tensor:
    """Oracle: one layer and position at a time, the logarithm of the sum by hand."""
    out = torch.empty(*resid.shape[:2], W_U.shape[1], dtype=torch.float64)
    for layer in range(resid.shape[0]):
        for pos in range(resid.shape[1]):
            logits = (norm(resid[layer, pos]).double() @ W_U.double()).tolist()
            total = max(logits) + math.log(sum(math.exp(logit - max(logits)) for logit in logits))
            out[layer, pos] = torch.tensor([logit - total for logit in logits])
    return out.float()


def _log_of_softmax(resid: Tensor, norm: _Norm, W_U: Tensor) -> Tensor:
    return (norm(resid) @ W_U).softmax(-1).log()


def _is_minus_infinity(case: Case, observation: Observation) -> bool:
    value = observation.replies[0].value
    return isinstance(value, Tensor) and value.is_floating_point() and bool((value == -torch.inf).any())


def _norm_of_last_layer(resid: Tensor, norm: _Norm, W_U: Tensor) -> Tensor:
    """Every layer is scaled as the last one is."""
    normed = norm(resid[-1:])
    factor = (normed.norm(dim=-1, keepdim=True) / resid[-1:].norm(dim=-1, keepdim=True)).nan_to_num(0.0)
    return (resid * factor @ W_U).log_softmax(-1)


def _lens_cases(
    shapes: tuple[tuple[int, int, int, int], ...], std: float = 1.0
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for layers, pos, d, vocab in shapes:
            resid = draw.normal(layers, pos, d, mean=0.3)
            # The stream grows from layer to layer.
            resid *= torch.linspace(0.5, 4.0, layers)[:, None, None]
            norm = function_ref("rms_norm", weight=draw.normal(d, mean=1.0, std=0.4), eps=1e-5)
            about = f"{layers} layers, {pos} positions, d {d}, {vocab} tokens"
            made.append(case(resid, norm, draw.normal(d, vocab, std=std), about=about, atol=1e-4))
        return made

    return cases


LOGIT_LENS = Exercise(
    id="residual_stream.logit_lens",
    task="The log-probabilities that the final norm and the unembedding read out of the stream at every layer and position.",
    minutes=6,
    difficulty=1,
    fixed={"result<=1": "log-probabilities", "resid=0": "varied by hand"},
    oracle=_logit_lens,
    parts=(
        Part("several layers, positions and vocabularies", 2, _lens_cases(((4, 3, 5, 7), (2, 6, 4, 11), (5, 2, 8, 3)))),
        Part("logits hundreds apart", 1, _lens_cases(((3, 4, 6, 9),), std=200.0)),
        Part("a single layer, a single position", 1, _lens_cases(((1, 4, 5, 6), (3, 1, 4, 8), (1, 1, 3, 5)))),
    ),
    mistakes=(
        Mistake(
            "norm_missing",
            "The final norm is missing. The unembedding was trained to read *normed* vectors; early streams are much shorter than late ones, and would look undecided for that reason alone: `norm(resid) @ W_U`.",
            lambda resid, norm, W_U: (resid @ W_U).log_softmax(-1),
        ),
        Mistake(
            "norm_after_unembedding",
            "You normed the logits. The norm stands before the unembedding: `norm(resid) @ W_U`.",
            lambda resid, norm, W_U: (
                (logits := resid @ W_U) / (logits.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
            ).log_softmax(-1),
        ),
        Mistake(
            "norm_of_last_layer",
            "Every layer is divided by the last layer's scale. For the *lens* each layer is read as if it were the last, with the scale of its own: `norm(resid)`. (Held fixed is the scale in attribution.)",
            _norm_of_last_layer,
        ),
        Mistake(
            "normed_twice",
            "The norm is applied twice.",
            lambda resid, norm, W_U: (norm(norm(resid)) @ W_U).log_softmax(-1),
        ),
        Mistake(
            "logits",
            "These are logits. Log-probabilities are asked for: `log_softmax(dim=-1)`.",
            lambda resid, norm, W_U: norm(resid) @ W_U,
        ),
        Mistake(
            "probabilities",
            "These are probabilities. Their logarithm is asked for: `log_softmax(dim=-1)`.",
            lambda resid, norm, W_U: (norm(resid) @ W_U).softmax(-1),
        ),
        Mistake(
            "log_of_softmax",
            "The logarithm of a softmax is −∞ where the probability is too small for a float. `log_softmax` never makes that detour.",
            _log_of_softmax,
            _is_minus_infinity,
        ),
        Mistake(
            "bits",
            "These are logarithms to base 2. Natural ones are asked for: `log_softmax`.",
            lambda resid, norm, W_U: (norm(resid) @ W_U).log_softmax(-1) / math.log(2),
        ),
        Mistake(
            "surprisal",
            "The sign is turned: log-probabilities are negative.",
            lambda resid, norm, W_U: -(norm(resid) @ W_U).log_softmax(-1),
        ),
        Mistake(
            "softmax_over_layers",
            "Your softmax runs over the layers. Each layer and position has a distribution over the vocabulary, the last axis: `dim=-1`.",
            lambda resid, norm, W_U: (norm(resid) @ W_U).log_softmax(0),
        ),
        Mistake(
            "softmax_over_positions",
            "Your softmax runs over the positions. Each layer and position has a distribution over the vocabulary, the last axis: `dim=-1`.",
            lambda resid, norm, W_U: (norm(resid) @ W_U).log_softmax(1),
        ),
        Mistake(
            "last_layer_only",
            "Only the last layer is here. All of them are asked for, [layer, pos, vocab].",
            lambda resid, norm, W_U: (norm(resid[-1]) @ W_U).log_softmax(-1),
        ),
        Mistake(
            "last_position_only",
            "Only the last position is here. All of them are asked for, [layer, pos, vocab].",
            lambda resid, norm, W_U: (norm(resid[:, -1]) @ W_U).log_softmax(-1),
        ),
        Mistake(
            "accumulated",
            "You added the streams of all layers up. Each of them is such a sum already.",
            lambda resid, norm, W_U: (norm(resid.cumsum(0)) @ W_U).log_softmax(-1),
        ),
    ),
    hints=(
        "What does the model do with the last stream? Norm, unembedding, softmax. Do the same with every layer; `norm` and `@` take any number of axes before the last.",
        "`(norm(resid) @ W_U)` is [layer, pos, vocab]. `log_softmax(dim=-1)` does the rest.",
    ),
    reveal="Since every layer adds to the same stream, the last readout can be tried on each of them (nostalgebraist 2020). It asks what the model would say if it stopped here; that the model *means* this, nobody has promised: "
    "later layers may turn the basis, and the lens would not see it.",
)


# ---------------------------------------------------------------------------------------------------------------------
# answer_layer


def _answer_layer(logprobs: Tensor, answer: int) -> int | None:
    """Oracle: for each layer, look at all layers from there on."""
    rows = logprobs.tolist()

    def on_top(row: list[float]) -> bool:
        return all(row[answer] > value for token, value in enumerate(row) if token != answer)

    return next((layer for layer in range(len(rows)) if all(map(on_top, rows[layer:]))), None)


def _tops(logprobs: Tensor, answer: int, strictly: bool = True) -> list[bool]:
    others = logprobs.clone()
    others[:, answer] = -torch.inf
    best, own = others.max(-1).values, logprobs[:, answer]
    tops: list[bool] = (own > best if strictly else own >= best).tolist()
    return tops


def _settled(tops: list[bool]) -> int | None:
    return next((layer for layer in range(len(tops)) if all(tops[layer:])), None)


def _first_top(logprobs: Tensor, answer: int) -> int | None:
    tops = _tops(logprobs, answer)
    return tops.index(True) if any(tops) else None


def _first_top_if_last(logprobs: Tensor, answer: int) -> int | None:
    tops = _tops(logprobs, answer)
    return tops.index(True) if tops[-1] else None


def _else(value: Callable[[Tensor], int]) -> Callable[[Tensor, int], int]:
    """The right layer; value(logprobs) where there is none."""

    def answer_layer(logprobs: Tensor, answer: int) -> int:
        found = _answer_layer(logprobs, answer)
        return value(logprobs) if found is None else found

    return answer_layer


def _shifted(by: int) -> Callable[[Tensor, int], int | None]:
    def answer_layer(logprobs: Tensor, answer: int) -> int | None:
        found = _answer_layer(logprobs, answer)
        return None if found is None else found + by

    return answer_layer


def _falsy(logprobs: Tensor, answer: int) -> int | None:
    return _answer_layer(logprobs, answer) or None


def _count(logprobs: Tensor, answer: int) -> int | None:
    return sum(_tops(logprobs, answer)) or None


def _likely(logprobs: Tensor, answer: int) -> int | None:
    return _settled((logprobs[:, answer].exp() > 0.5).tolist())


def _largest(logprobs: Tensor, answer: int) -> int | None:
    """Where the answer is likeliest."""
    return int(logprobs[:, answer].argmax()) if _tops(logprobs, answer)[-1] else None


def _by_argmax(logprobs: Tensor, answer: int) -> int | None:
    return _settled((logprobs.argmax(-1) == answer).tolist())


def _layers(draw: RandomInputs, tops: str, vocab: int, answer: int) -> Tensor:
    """Log-probabilities in which the answer is on top (`1`), is not (`0`), or ties for the top (`=`)."""
    rows = draw.normal(len(tops), vocab, std=1.5)
    for row, kind in zip(rows, tops, strict=True):
        others = torch.tensor([token != answer for token in range(vocab)])
        best = float(row[others].max())
        gap = 10 ** draw.number(-2.5, -0.2)  # narrow ones too
        row[answer] = {"1": best + gap, "0": best - gap, "=": best}[kind]
    # What the softmax subtracts is the same for a row, so that ties stay ties.
    return rows - rows.logsumexp(-1, keepdim=True).round(decimals=0)


def _answer_cases(kinds: tuple[tuple[str, int, int], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        words = {"1": "top", "0": "not", "=": "tie"}
        return [
            case(
                _layers(draw, tops, vocab, answer),
                answer,
                about=f"{vocab} tokens, answer {answer}, layer by layer: {', '.join(words[kind] for kind in tops)}",
            )
            for tops, vocab, answer in kinds
        ]

    return cases


ANSWER_LAYER = Exercise(
    id="residual_stream.answer_layer",
    task="The first layer from which on the answer is the top token and stays so, or None if it is not on top at the end.",
    minutes=7,
    difficulty=2,
    fixed={
        "logprobs": "varied by hand: which tokens are on top",
        "logprobs[1]": "the answer is one of several",
        "answer": "varied by hand",
        "result>=0": "a layer",
    },
    oracle=_answer_layer,
    parts=(
        Part(
            "on top, lost, and on top again",
            2,
            _answer_cases(
                (
                    ("0010111", 6, 3),
                    ("1101011", 9, 5),
                    ("0001", 5, 1),
                    ("000111", 8, 7),
                    ("0111011111", 4, 2),
                    ("01101", 7, 4),
                )
            ),
        ),
        Part(
            "from the first layer on, token 0, a single layer",
            1,
            _answer_cases((("1111", 7, 2), ("1", 5, 3), ("0011", 6, 0), ("1011", 5, 0), ("111", 4, 0))),
        ),
        Part(
            "never, or not at the end",
            1,
            _answer_cases((("0000", 6, 2), ("0110", 5, 4), ("1110", 7, 0), ("0", 4, 1), ("0011", 6, 5), ("10", 3, 1))),
        ),
        Part(
            "a tie is not on top",
            1,
            _answer_cases(
                (
                    ("0=11", 6, 0),
                    ("11=1", 7, 3),
                    ("011=", 5, 0),
                    ("==11", 8, 7),
                    ("1=", 6, 2),
                    ("=", 4, 3),
                    ("01=11", 6, 1),
                )
            ),
        ),
    ),
    mistakes=(
        Mistake(
            "first_time",
            "This is the first layer at which the answer is on top. It may be overtaken again: the layer from which it *stays* on top, to the end, is asked for.",
            _first_top,
        ),
        Mistake(
            "first_time_if_top_at_end",
            "This is the first layer at which the answer is on top, if it is on top at the end. In between it may have been overtaken: from the layer that is asked for it *stays* on top.",
            _first_top_if_last,
        ),
        Mistake(
            "minus_one_for_none",
            "Where there is no such layer you return −1, which as an index would be the last layer. Return `None`.",
            _else(lambda logprobs: -1),
        ),
        Mistake(
            "number_of_layers_for_none",
            "Where there is no such layer you return the number of layers. Return `None`.",
            _else(len),
        ),
        Mistake(
            "last_layer_for_none",
            "Where there is no such layer you return the last one. Return `None`.",
            _else(lambda logprobs: len(logprobs) - 1),
        ),
        Mistake(
            "zero_for_none",
            "Where there is no such layer you return 0, and that is a layer. Return `None`.",
            _else(lambda logprobs: 0),
            degenerate=True,
        ),
        Mistake(
            "layer_zero_is_none",
            "You return None where the layer is 0. In Python 0 counts as false: compare with `is None`.",
            _falsy,
            degenerate=True,
        ),
        Mistake(
            "counted_from_one",
            "You count layers from 1. They count from 0.",
            _shifted(1),
        ),
        Mistake(
            "last_failure",
            "This is the last layer at which the answer is *not* on top, one too early.",
            _shifted(-1),
        ),
        Mistake(
            "layers_counted",
            "This is the number of layers at which the answer is on top. The first of the last run of them is asked for.",
            _count,
        ),
        Mistake(
            "above_one_half",
            "You ask whether the answer has more than half of the probability. On top is enough: larger than every other.",
            _likely,
        ),
        Mistake(
            "likeliest_layer",
            "This is the layer at which the answer is likeliest. The first is asked for from which it stays on top.",
            _largest,
        ),
        Mistake(
            "ties_count",
            "A tie for the top counts as on top in your answer. The answer has to be strictly larger than every other token.",
            lambda logprobs, answer: _settled(_tops(logprobs, answer, strictly=False)),
        ),
        Mistake(
            "first_of_ties_counts",
            "A tie for the top sometimes counts: `argmax` takes one of the equal tokens. The answer has to be strictly larger than every other token.",
            _by_argmax,
        ),
    ),
    hints=(
        "First a list of truth values: is the answer on top at this layer? Strictly larger than every other: put −∞ at the answer in a copy, and compare with the maximum of the rest.",
        "Go from the last layer backwards, and stop at the first at which it is not on top. What if that is the last layer itself?",
    ),
    reveal="Going backwards, the answer is the end of the unbroken run. A first crossing would be noise: early layers put many tokens on top once. Where a tie counts, or `argmax` chooses, the answer would depend on token numbers.",
)


# ---------------------------------------------------------------------------------------------------------------------
# fit_translator


def _least_squares(x: Tensor, y: Tensor, ridge: float, penalize_bias: bool = False) -> tuple[Tensor, Tensor]:
    """Rows √ridge · I below the data, solved by QR."""
    n, d = x.shape
    x, y = x.double(), y.double()
    below = torch.eye(d + 1, dtype=torch.float64) * math.sqrt(ridge)
    if not penalize_bias:
        below[d, d] = 0.0
    rows = torch.cat([torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], 1), below])
    targets = torch.cat([y, torch.zeros(d + 1, y.shape[1], dtype=torch.float64)])
    solution = torch.linalg.lstsq(rows, targets, driver="gelsd").solution
    return solution[:d].float(), solution[d].float()


def _fit_translator(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Oracle: ordinary least squares with a row √ridge · e_i for each dimension."""
    return _least_squares(resid, final, ridge)


def _origin(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """The map without a bias."""
    x, y = x.double(), y.double()
    gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    return (torch.linalg.pinv(gram, hermitian=True) @ x.T @ y).float()


def _with_bias(change: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    return lambda resid, final, ridge: change(resid, final, *_fit_translator(resid, final, ridge))


def _only_inputs_centered(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    A, _ = _fit_translator(resid, final, ridge)
    return A, final.mean(0)


def _toward_identity(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    A, b = _fit_translator(resid, final - resid, ridge)
    return A + torch.eye(len(A)), b


def _difference(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    return _fit_translator(resid, final - resid, ridge)


def _uncentered_then_mean(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    A = _origin(resid, final, ridge)
    return A, final.mean(0) - resid.mean(0) @ A


def _diagonal(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """A factor for each dimension."""
    x, y = resid.double() - resid.double().mean(0), final.double() - final.double().mean(0)
    size = (x * x).sum(0) + ridge
    a = torch.where(size > 0, (x * y).sum(0) / size, 0.0).float()
    return torch.diag(a), final.mean(0) - resid.mean(0) * a


def _ridge_everywhere(resid: Tensor, final: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    x, y = resid.double() - resid.double().mean(0), final.double() - final.double().mean(0)
    A = (torch.linalg.pinv(x.T @ x + ridge) @ x.T @ y).float()
    return A, final.mean(0) - resid.mean(0) @ A


def _is_without_ridge(case: Case, observation: Observation) -> bool:
    """Only in a case with enough rows: elsewhere nothing but the ridge decides, and what comes out is noise."""
    resid, final, ridge = case.calls[0].args
    A, b = map(torch.as_tensor, observation.replies[0].value)
    plain_A, plain_b = _least_squares(resid, final, 0.0)
    enough = len(resid) > resid.shape[1] and ridge > 0
    return (
        enough and torch.allclose(A, plain_A, rtol=1e-3, atol=2e-3) and torch.allclose(b, plain_b, rtol=1e-3, atol=2e-3)
    )


def _translator_cases(
    shapes: tuple[tuple[int, int, float], ...],
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for n, d, ridge in shapes:
            resid = draw.normal(n, d) * draw.uniform(d, low=0.6, high=1.8) + draw.normal(d, std=1.5)
            final = resid @ draw.normal(d, d, std=0.8) + draw.normal(d, std=2.0) + draw.normal(n, d, std=0.5)
            about = f"{n} rows of {d} dimensions, ridge {ridge:g}"
            made.append(case(resid, final, ridge, about=about, rtol=1e-3, atol=2e-3))
        return made

    return cases


FIT_TRANSLATOR = Exercise(
    id="residual_stream.fit_translator",
    task="The affine map, by ridge regression in closed form, that brings a layer's stream closest to the last one. The bias is not penalized.",
    minutes=12,
    difficulty=3,
    fixed={
        "ridge>=0": "never negative",
    },
    oracle=_fit_translator,
    parts=(
        Part("more rows than dimensions", 2, _translator_cases(((12, 4, 3.0), (20, 5, 11.0), (9, 3, 0.5)))),
        Part("no ridge", 1, _translator_cases(((25, 4, 0.0), (16, 2, 0.0)))),
        Part(
            "fewer rows than dimensions, a single row, a single dimension",
            1,
            _translator_cases(((3, 6, 1.5), (1, 4, 2.0), (8, 1, 2.5), (2, 5, 0.3))),
        ),
    ),
    mistakes=(
        Mistake(
            "bias_penalized",
            "The bias is penalized too. It would be drawn toward 0, as if the last stream had to be short: leave the ridge out of its row, or center both streams first.",
            lambda resid, final, ridge: _least_squares(resid, final, ridge, penalize_bias=True),
        ),
        Mistake(
            "no_bias",
            "The map goes through the origin: b is 0, and nothing was centered. Subtract the means of both streams before you solve, and get b from them.",
            lambda resid, final, ridge: (_origin(resid, final, ridge), torch.zeros(final.shape[1])),
        ),
        Mistake(
            "not_centered",
            "A is fitted without a bias, and b put on top. A then has to explain the mean as well: center both streams *before* you solve.",
            _uncentered_then_mean,
        ),
        Mistake(
            "bias_is_mean_of_final",
            "Your b is the mean of `final`. That fits centered inputs; for the stream as it is, subtract what A makes of its mean: b = mean(final) − mean(resid) @ A.",
            _only_inputs_centered,
        ),
        Mistake(
            "bias_is_difference_of_means",
            "Your b is the difference of the means. The mean of `resid` goes through A as well: b = mean(final) − mean(resid) @ A.",
            _with_bias(lambda resid, final, A, b: (A, final.mean(0) - resid.mean(0))),
        ),
        Mistake(
            "bias_through_transpose",
            "For b the mean of `resid` went through A transposed. With row vectors it is mean(resid) @ A.",
            _with_bias(lambda resid, final, A, b: (A, final.mean(0) - A @ resid.mean(0))),
        ),
        Mistake(
            "bias_sign",
            "The sign of b is turned.",
            _with_bias(lambda resid, final, A, b: (A, -b)),
        ),
        Mistake(
            "transposed",
            "A is transposed. With row vectors it stands on the right: `resid @ A + b`.",
            _with_bias(lambda resid, final, A, b: (A.T, b)),
        ),
        Mistake(
            "ridge_missing",
            "The ridge is missing. Add `ridge` to the diagonal of the Gram matrix: `x.T @ x + ridge * torch.eye(d)`.",
            lambda resid, final, ridge: _least_squares(resid, final, 0.0),
            _is_without_ridge,
        ),
        Mistake(
            "ridge_everywhere",
            "You added the ridge to every entry of the Gram matrix. It belongs on the diagonal: `ridge * torch.eye(d)`.",
            _ridge_everywhere,
        ),
        Mistake(
            "ridge_of_the_mean",
            "Your ridge is n times too strong: you took the *mean* of the squared errors. Their sum is asked for.",
            lambda resid, final, ridge: _least_squares(resid, final, ridge * len(resid)),
        ),
        Mistake(
            "ridge_squared",
            "The ridge is squared. ‖A‖² is multiplied by `ridge` itself.",
            lambda resid, final, ridge: _least_squares(resid, final, ridge**2),
        ),
        Mistake(
            "ridge_rooted",
            "You took the root of the ridge. ‖A‖² is multiplied by `ridge` itself.",
            lambda resid, final, ridge: _least_squares(resid, final, math.sqrt(ridge)),
        ),
        Mistake(
            "ridge_halved",
            "Your ridge is half as strong as asked for: ‖A‖² is multiplied by `ridge`, without a ½.",
            lambda resid, final, ridge: _least_squares(resid, final, ridge / 2),
        ),
        Mistake(
            "ridge_doubled",
            "Your ridge is twice as strong as asked for: the squared errors count once, without a ½.",
            lambda resid, final, ridge: _least_squares(resid, final, ridge * 2),
        ),
        Mistake(
            "other_direction",
            "You fitted the map from the last stream to this layer's. It goes from `resid` to `final`.",
            lambda resid, final, ridge: _fit_translator(final, resid, ridge),
        ),
        Mistake(
            "difference",
            "A and b give the *change* from `resid` to `final`. They should give `final` itself.",
            _difference,
        ),
        Mistake(
            "toward_identity",
            "You penalized A − 1, which draws A toward the identity. A itself is penalized.",
            _toward_identity,
        ),
        Mistake(
            "bias_first",
            "The order is (A, b): first the matrix, then the bias.",
            lambda resid, final, ridge: tuple(reversed(_fit_translator(resid, final, ridge))),
        ),
        Mistake(
            "one_factor_per_dimension",
            "You fitted a factor for each dimension. A is a full matrix: every dimension of `final` may depend on all of `resid`.",
            _diagonal,
        ),
    ),
    hints=(
        "Subtract the means of both streams. What is left has no bias, and ridge regression gives A = (XᵀX + ridge · 1)⁻¹ XᵀY.",
        "`torch.linalg.solve(x.T @ x + ridge * torch.eye(d), x.T @ y)` is better than an inverse. Then choose b so that the mean of `resid` goes to the mean of `final`.",
    ),
    reveal="For every A the best b takes mean to mean, since nothing else in the sum depends on it; with that b put in, only centered streams are left, and setting the derivative by A to zero gives the closed form. "
    "Belrose et al. (2023) train their translators on the KL divergence to the model's own last distribution; least squares on the stream is the quick cousin, and the lesson measures how far it gets.",
)
