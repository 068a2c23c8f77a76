"""Circuits in the weights: does a head copy, and what does a one-layer model know?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import RAISED, TIMED_OUT, Observation

_Factors = tuple[Tensor, Tensor]

# ---------------------------------------------------------------------------------------------------------------------
# ov_copying

_TIMES = 4
"""How many times as large as the largest matrix that is given any tensor on the way may be."""


def _ov_copying(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    """Oracle: the trace token by token, and the eigenvalues of the d_model-sized matrix, in float64."""
    W_E, W_V, W_O, W_U = (matrix.double() for matrix in (W_E, *W_OV, W_U))
    inner = W_V @ (W_O @ W_U) @ W_E
    size = float(torch.linalg.eigvals(inner).abs().sum())
    through = (W_E @ W_V) @ W_O
    trace = sum(float(through[token] @ W_U[:, token]) for token in range(len(W_E)))
    return trace / size if size else 0.0


def _small(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> Tensor:
    """The d_head-sized matrix."""
    return (W_OV[1] @ W_U) @ (W_E @ W_OV[0])


def _scored(score: Callable[[Tensor], Tensor | float]) -> Callable[[Tensor, _Factors, Tensor], float]:
    """An ov_copying that is score(eigenvalues), and 0 where all of them are zero."""

    def ov_copying(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
        values = torch.linalg.eigvals(_small(W_E, W_OV, W_U))
        return float(score(values)) if values.abs().sum() else 0.0

    return ov_copying


def _of_symmetric_part(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    small = _small(W_E, W_OV, W_U)
    values = torch.linalg.eigvalsh((small + small.T) / 2)
    return float(values.sum() / values.abs().sum()) if values.any() else 0.0


def _of_lower_triangle(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    values = torch.linalg.eigvalsh(_small(W_E, W_OV, W_U))
    return float(values.sum() / values.abs().sum()) if values.any() else 0.0


def _over_singular_values(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    small = _small(W_E, W_OV, W_U)
    size = torch.linalg.svdvals(small).sum()
    return float(small.trace() / size) if size else 0.0


def _of_ov_alone(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    values = torch.linalg.eigvals(W_OV[1] @ W_OV[0])
    return float(values.real.sum() / values.abs().sum()) if values.abs().sum() else 0.0


def _without_guard(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> Tensor:
    values = torch.linalg.eigvals(_small(W_E, W_OV, W_U))
    return values.real.sum() / values.abs().sum()


def _over_the_vocabulary(W_E: Tensor, W_OV: _Factors, W_U: Tensor) -> float:
    values = torch.linalg.eigvals(W_E @ W_OV[0] @ W_OV[1] @ W_U)
    return float(values.real.sum() / values.abs().sum()) if W_OV[0].any() and W_OV[1].any() else 0.0


def _made_too_much(case: Case, observation: Observation) -> bool:
    """The small vocabulary went well, and with the large one too large a tensor was made, or it took too long."""
    if len(case.calls) != 2 or not observation.replies or not observation.replies[0].returned:
        return False
    if abs(float(observation.replies[0].value) - _ov_copying(*case.calls[0].args)) > 1e-3:
        return False
    last = observation.replies[-1]
    return last.status == TIMED_OUT or (
        last.status == RAISED and last.error is not None and last.error.kind == "TooLarge"
    )


def _ov(draw: RandomInputs, vocab: int, d_model: int, d_head: int, copying: float) -> tuple[Tensor, _Factors, Tensor]:
    """A head that copies (1), suppresses (−1), or does neither (0); W_U resembles W_E and is not its transpose."""
    W_E = draw.normal(vocab, d_model, mean=0.2)
    W_U = W_E.T * 0.7 + draw.normal(d_model, vocab, std=0.5)
    W_V = draw.normal(d_model, d_head)
    W_O = copying * W_V.T + draw.normal(d_head, d_model, std=0.9)
    return W_E, (W_V, W_O), W_U


def _ov_cases(shapes: tuple[tuple[int, int, int, float], ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                *_ov(draw, vocab, d_model, d_head, copying), about=f"{vocab} tokens, d_model {d_model}, d_head {d_head}"
            )
            for vocab, d_model, d_head, copying in shapes
        ]

    return cases


def _zero_head(draw: RandomInputs, size: str) -> list[Case]:
    W_E, (W_V, W_O), W_U = _ov(draw, 8, 5, 3, 0.5)
    zero = W_E, (W_V, torch.zeros_like(W_O)), W_U
    calls = (Call((W_E, (W_V, W_O), W_U)), Call(zero), Call((W_E, (torch.zeros_like(W_V), W_O), W_U)))
    W_V = W_V.clone()
    W_V[2] = 0.0
    return [
        case(W_E, (W_V * 12, W_O * 12), W_U, about="a strong head that does not read one dimension"),
        case(W_E, (W_V * 0.02, W_O * 0.01), W_U, about="a weak head"),
        Case(calls, "a head, then one whose W_O is zero, then one whose W_V is zero"),
    ]


def _large_vocabulary(draw: RandomInputs, size: str) -> list[Case]:
    small, large = _ov(draw, 9, 6, 2, 0.4), _ov(draw, 2000, 12, 4, 0.2)
    calls = (
        Call(small, watch=("arguments",)),
        Call(large, "sparing", {"most": _TIMES * large[0].numel()}, watch=("arguments",)),
    )
    return [
        Case(calls, f"9 tokens, then 2,000 tokens and no tensor of more than {_TIMES * large[0].numel():,} entries")
    ]


OV_COPYING = Exercise(
    id="residual_stream.ov_copying",
    task="The copying score of a head: the sum of the real parts of the eigenvalues of W_E W_OV W_U, over the sum of their absolute values.",
    minutes=10,
    difficulty=3,
    fixed={
        "W_E[1]": "W_OV has as many rows; varied by hand",
        "W_U[0]": "W_OV has as many columns; varied by hand",
        "result<=1": "at most 1",
    },
    oracle=_ov_copying,
    parts=(
        Part(
            "heads that copy, suppress, or do neither",
            2,
            _ov_cases(((9, 5, 3, 0.6), (14, 7, 4, -0.5), (11, 6, 6, 0.0), (5, 4, 2, 0.2))),
        ),
        Part(
            "axes of size one, a head of zeros",
            1,
            lambda draw, size: [
                *_ov_cases(((8, 4, 1, 0.3), (6, 1, 1, -0.4), (1, 5, 2, 0.5)))(draw, size),
                *_zero_head(draw, size),
            ],
        ),
        Part("a large vocabulary in little memory", 1, _large_vocabulary),
    ),
    mistakes=(
        Mistake(
            "vocabulary_matrix",
            "Right, but you make a matrix of vocabulary × vocabulary (or another that is too large). For SmolLM2 that would be 2.4 billion numbers, and its eigenvalues would take years. AB and BA have the same eigenvalues but for zeros: move the last factors to the front until d_head × d_head is "
            "left, `(W_O @ W_U) @ (W_E @ W_V)`.",
            _over_the_vocabulary,
            _made_too_much,
        ),
        Mistake(
            "absolute_real_parts",
            "You took the absolute value of each real part. Negative eigenvalues count against copying: sum the real parts as they are.",
            _scored(lambda values: values.real.abs().sum() / values.abs().sum()),
        ),
        Mistake(
            "over_real_parts",
            "You divided by the sum of |Re λ|. It is the sum of |λ|: an eigenvalue that turns (with an imaginary part) copies less.",
            _scored(lambda values: values.real.sum() / values.real.abs().sum()),
        ),
        Mistake(
            "share_of_positive",
            "This is the share of eigenvalues whose real part is positive. Each should count with its size.",
            _scored(lambda values: (values.real > 0).double().mean()),
        ),
        Mistake(
            "absolute_score",
            "The sign is lost. A negative score says that the head suppresses what it attends to.",
            _scored(lambda values: values.sum().abs() / values.abs().sum()),
        ),
        Mistake(
            "not_divided",
            "This is the sum of the real parts. Divide by the sum of |λ|, so that the size of the matrices does not matter.",
            _scored(lambda values: values.real.sum()),
        ),
        Mistake(
            "mean_real_part",
            "This is the mean of the real parts. Divide by the sum of |λ|, so that the size of the matrices does not matter.",
            _scored(lambda values: values.real.mean()),
        ),
        Mistake(
            "root_of_squares",
            "You divided by the root of the sum of |λ|². It is the sum of |λ|.",
            _scored(lambda values: values.real.sum() / values.abs().pow(2).sum().sqrt()),
        ),
        Mistake(
            "largest_only",
            "This is the largest eigenvalue alone. The sums run over all of them.",
            _scored(lambda values: values[values.abs().argmax()].real / values.abs().max()),
        ),
        Mistake(
            "mean_of_ratios",
            "You averaged Re λ / |λ| over the eigenvalues. Each should count with its size: a ratio of sums, not a mean of ratios.",
            _scored(lambda values: (values.real / values.abs()).mean()),
        ),
        Mistake(
            "symmetric_part",
            "These are the eigenvalues of the symmetric part. The matrix is not symmetric, its eigenvalues are complex: `torch.linalg.eigvals` of the matrix itself.",
            _of_symmetric_part,
        ),
        Mistake(
            "eigvalsh",
            "`eigvalsh` is for symmetric matrices: it reads one triangle and ignores the other. This matrix is not symmetric: `torch.linalg.eigvals`.",
            _of_lower_triangle,
        ),
        Mistake(
            "singular_values",
            "You divided by the sum of singular values. Those do not know whether input and output agree; the absolute values of the *eigenvalues* are asked for.",
            _over_singular_values,
        ),
        Mistake(
            "ov_alone",
            "These are the eigenvalues of W_OV alone. Whether a *token* is copied depends on how it comes in (W_E) and goes out (W_U).",
            _of_ov_alone,
        ),
        Mistake(
            "turned_around",
            "W_E and W_U are swapped, or W_OV is transposed, which comes to the same. A token comes in through W_E, goes through `W_V @ W_O`, and comes out through W_U.",
            lambda W_E, W_OV, W_U: _ov_copying(W_U.T, W_OV, W_E.T),
        ),
        Mistake(
            "zero_gives_nan",
            "Right, but for a head of zeros it is 0/0. Such a head copies nothing: return 0.",
            _without_guard,
            lambda case, observation: (
                len(case.calls) == 3
                and observation.replies[0].returned
                and abs(float(observation.replies[0].value)) <= 1
                and any(
                    isinstance(r.value, (float, Tensor)) and not torch.as_tensor(r.value).isfinite().all()
                    for r in observation.replies[1:]
                )
            ),
        ),
    ),
    hints=(
        "If AB v = λ v, then BA (Bv) = λ (Bv). So W_E W_V W_O W_U and W_O W_U W_E W_V have the same eigenvalues that are not zero. How large is the second?",
        "`torch.linalg.eigvals` gives complex numbers: `.real` and `.abs()`. In which order must the products be taken so that nothing large is made on the way?",
        "`(W_O @ W_U) @ (W_E @ W_V)` is d_head × d_head.",
    ),
    reveal="The matrix says what attending to a token does to every logit. A positive eigenvalue belongs to a mixture of tokens that raises its own logits, and so to copying (Elhage et al. 2021). Conjugate pairs cancel in the sum of the real parts, which is the trace. "
    "It is a statement about weights: that the head ever attends to such a token, or that it reads W_E at all (late heads read what other layers wrote), is not in it.",
)


# ---------------------------------------------------------------------------------------------------------------------
# skip_trigrams

_Triples = list[tuple[int, int, int]]


def _skip_trigrams(W_E: Tensor, W_QK: _Factors, W_OV: _Factors, W_U: Tensor, n: int) -> _Triples:
    """Oracle: every triple in Python."""
    W_E, W_Q, W_K, W_V, W_O, W_U = (matrix.double() for matrix in (W_E, *W_QK, *W_OV, W_U))
    vocab = range(len(W_E))
    score = {d: [float(W_E[d] @ W_Q @ (W_E[s] @ W_K)) for s in vocab] for d in vocab}
    logit = {s: (W_E[s] @ W_V @ W_O @ W_U).tolist() for s in vocab}
    ranked = []
    for s in vocab:
        for d in vocab:
            attention = score[d][s] - sum(score[d]) / len(W_E)
            ranked += [(attention * (logit[s][p] - sum(logit[s]) / len(W_E)), (s, d, p)) for p in vocab]
    return [triple for _, triple in sorted(ranked, reverse=True)[:n]]


def _tables(W_E: Tensor, W_QK: _Factors, W_OV: _Factors, W_U: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [destination, source] and logits [source, prediction]."""
    W_E, W_Q, W_K, W_V, W_O, W_U = (matrix.double() for matrix in (W_E, *W_QK, *W_OV, W_U))
    return (W_E @ W_Q) @ (W_E @ W_K).T, (W_E @ W_V) @ (W_O @ W_U)


def _over(table: Tensor, dim: int | tuple[int, int] | None) -> Tensor:
    """The table, centered over this axis."""
    return table if dim is None else table - table.mean(dim, keepdim=True)


def _best(effects: Tensor, n: int, order: tuple[int, int, int] = (0, 1, 2), largest: bool = True) -> _Triples:
    """effects: [source, destination, prediction]. order: in which the three are returned."""
    _, destinations, predictions = effects.shape
    found = effects.flatten().topk(n, largest=largest).indices.tolist()
    triples = [(i // (destinations * predictions), i // predictions % destinations, i % predictions) for i in found]
    return [(t[order[0]], t[order[1]], t[order[2]]) for t in triples]


def _product(scores: Tensor, logits: Tensor) -> Tensor:
    return scores.T[:, :, None] * logits[:, None, :]


def _read(
    scores: Callable[[Tensor], Tensor] = lambda table: _over(table, 1),
    logits: Callable[[Tensor], Tensor] = lambda table: _over(table, 1),
    effects: Callable[[Tensor, Tensor], Tensor] = _product,
    order: tuple[int, int, int] = (0, 1, 2),
    largest: bool = True,
) -> Callable[..., _Triples]:
    def skip_trigrams(W_E: Tensor, W_QK: _Factors, W_OV: _Factors, W_U: Tensor, n: int) -> _Triples:
        attention, writing = _tables(W_E, W_QK, W_OV, W_U)
        return _best(effects(scores(attention), logits(writing)), n, order, largest)

    return skip_trigrams


def _one_per_destination(scores: Tensor, logits: Tensor) -> Tensor:
    """Of each destination only its strongest triple."""
    effects = _product(scores, logits)
    best = effects.amax((0, 2), keepdim=True)
    return torch.where(effects == best, effects, -torch.inf)


def _most_attended(scores: Tensor, logits: Tensor) -> Tensor:
    """Of each destination only the source with the largest score."""
    best = scores == scores.amax(1, keepdim=True)
    return torch.where(best.T[:, :, None], _product(scores, logits), -1e9)


def _is_clear(W_E: Tensor, W_QK: _Factors, W_OV: _Factors, W_U: Tensor, n: int) -> bool:
    """Whether the largest effects have gaps between them that no rounding closes."""
    scores, logits = _tables(W_E, W_QK, W_OV, W_U)
    top = _product(_over(scores, 1), _over(logits, 1)).flatten().topk(n + 1).values
    return float((-top.diff()).min()) > 1e-3 * float(top[0])


def _factors(draw: RandomInputs, d_model: int, d_head: int) -> tuple[_Factors, _Factors]:
    """W_QK and W_OV, with means, so that centering matters."""
    W_QK = draw.normal(d_model, d_head), draw.normal(d_model, d_head, mean=0.2)
    return W_QK, (draw.normal(d_model, d_head, mean=0.2), draw.normal(d_head, d_model))


def _trigram_case(draw: RandomInputs, vocab: int, d_model: int, d_head: int, n: int, rounded: bool = False) -> Case:
    while True:
        W_E, W_U = draw.normal(vocab, d_model, mean=0.4), draw.normal(d_model, vocab, mean=0.3)
        if rounded:
            W_E = (W_E * 2).round() / 2
        W_QK, W_OV = _factors(draw, d_model, d_head)
        if _is_clear(W_E, W_QK, W_OV, W_U, n):
            break
    about = f"{vocab} tokens, d_model {d_model}, d_head {d_head}, the {n} strongest"
    return case(W_E, W_QK, W_OV, W_U, n, about=about)


def _circuit_cases(draw: RandomInputs, size: str) -> list[Case]:
    """The same embeddings with other circuits: strong and weak ones, with equal entries, with a row of zeros."""
    (W_E, _, _, W_U, n) = _trigram_case(draw, 7, 5, 3, 6).calls[0].args

    def rounded(pair: _Factors) -> _Factors:
        return (pair[0] * 2).round() / 2, (pair[1] * 2).round() / 2

    def cut(pair: _Factors) -> _Factors:
        first = pair[0].clone()
        first[1] = 0.0
        return first, pair[1]

    def times(factor: float) -> Callable[[_Factors], _Factors]:
        return lambda pair: (pair[0] * factor, pair[1] * factor)

    calls: list[Call] = []
    W_QK, W_OV = _factors(draw, 5, 3)
    for change in (lambda pair: pair, times(25.0), times(0.02), rounded, cut):
        for both in (False, True, None):
            while True:
                other_QK, other_OV = _factors(draw, 5, 3)
                # Each pair is exchanged alone once, so that an answer that remembers the other is seen.
                new_QK = W_QK if both is False else change(other_QK)
                new_OV = W_OV if both is True else change(other_OV)
                if _is_clear(W_E, new_QK, new_OV, W_U, n):
                    break
            calls.append(Call((W_E, new_QK, new_OV, W_U, n), watch=("arguments",)))
    return [Case(tuple(calls), "the same embeddings with several circuits, strong, weak, and with equal entries")]


SKIP_TRIGRAMS = Exercise(
    id="residual_stream.skip_trigrams",
    task="The strongest skip-trigrams of a head of a one-layer model, (source, destination, prediction), read from its weights alone.",
    minutes=12,
    difficulty=3,
    fixed={
        "W_E[0]": "with one token all effects are equal",
        "W_U[1]": "with one token all effects are equal",
        "W_E[1]": "the factors have as many rows; varied by hand",
        "W_U[0]": "the factors have as many columns; varied by hand",
    },
    oracle=_skip_trigrams,
    parts=(
        Part(
            "random embeddings and circuits",
            2,
            lambda draw, size: [
                _trigram_case(draw, *shape) for shape in ((7, 5, 3, 6), (9, 6, 4, 8), (6, 8, 2, 5), (8, 4, 3, 7, True))
            ],
        ),
        Part("the same embeddings with other circuits", 1, _circuit_cases),
        Part(
            "the strongest alone, axes of size one, two tokens",
            1,
            lambda draw, size: [
                _trigram_case(draw, *shape)
                for shape in ((8, 5, 3, 1), (6, 4, 1, 4), (5, 1, 1, 3), (2, 4, 2, 1), (4, 6, 3, 10))
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "destination_first",
            "The order is (source, destination, prediction); yours begins with the destination.",
            _read(order=(1, 0, 2)),
        ),
        Mistake(
            "prediction_first",
            "The order is (source, destination, prediction); yours begins with the prediction.",
            _read(order=(2, 0, 1)),
        ),
        Mistake(
            "backwards",
            "The order is (source, destination, prediction); yours is the other way around.",
            _read(order=(2, 1, 0)),
        ),
        Mistake(
            "not_centered",
            "Nothing is centered. A number that is added to all of a destination's scores, or to all of a source's logits, changes no softmax, but it changes your effects: subtract the mean over sources, and over predictions.",
            _read(lambda table: table, lambda table: table),
        ),
        Mistake(
            "scores_not_centered",
            "The scores are not centered. Subtract from each destination's scores their mean over all sources.",
            _read(scores=lambda table: table),
        ),
        Mistake(
            "logits_not_centered",
            "The logits are not centered. Subtract from each source's logits their mean over all predictions.",
            _read(logits=lambda table: table),
        ),
        Mistake(
            "scores_centered_over_destinations",
            "The scores are centered over destinations. A destination's softmax runs over the *sources*: subtract the mean over these.",
            _read(scores=lambda table: _over(table, 0)),
        ),
        Mistake(
            "logits_centered_over_sources",
            "The logits are centered over sources. The last softmax runs over the *predictions*: subtract the mean over these.",
            _read(logits=lambda table: _over(table, 0)),
        ),
        Mistake(
            "both_centered_over_the_other_axis",
            "Both are centered over the other axis. Scores over sources, logits over predictions: those are what the two softmaxes run over.",
            _read(lambda table: _over(table, 0), lambda table: _over(table, 0)),
        ),
        Mistake(
            "centered_by_one_mean",
            "You subtracted one mean from the whole table. Each destination has a mean of its own over sources, and each source one over predictions.",
            _read(lambda table: _over(table, (0, 1)), lambda table: _over(table, (0, 1))),
        ),
        Mistake(
            "query_and_key_swapped",
            "Queries and keys are swapped. The *destination* asks (W_Q), the source is asked (W_K).",
            _read(scores=lambda table: _over(table.T, 1)),
        ),
        Mistake(
            "ov_transposed",
            "Source and prediction are swapped in the OV circuit. The source comes in through W_E and W_V; the prediction goes out through W_O and W_U: rows are sources.",
            _read(logits=lambda table: _over(table.T, 1)),
        ),
        Mistake(
            "softmaxed_scores",
            "You took the softmax of the scores. What else stands in a text is not known here, and the softmax over a whole vocabulary says little about it: use the centered scores.",
            _read(scores=lambda table: table.softmax(1)),
        ),
        Mistake(
            "added",
            "You added score and logit. The effect is their product: what is not attended to writes nothing.",
            _read(effects=lambda scores, logits: scores.T[:, :, None] + logits[:, None, :]),
        ),
        Mistake(
            "absolute",
            "You ranked absolute values, so that tokens that are made *less* likely are among them. Keep the sign.",
            _read(effects=lambda scores, logits: _product(scores, logits).abs()),
        ),
        Mistake(
            "smallest",
            "These are the smallest effects: what is made less likely.",
            _read(largest=False),
        ),
        Mistake(
            "ascending",
            "The right triples in the wrong order: the largest effect comes first.",
            lambda W_E, W_QK, W_OV, W_U, n: _skip_trigrams(W_E, W_QK, W_OV, W_U, n)[::-1],
        ),
        Mistake(
            "one_per_destination",
            "You kept one triple for each destination. The n largest effects of all are asked for, whichever tokens they have.",
            _read(effects=_one_per_destination),
        ),
        Mistake(
            "most_attended_only",
            "You looked at each destination's most attended source alone. A source with a smaller score may write so much more that its effect is larger.",
            _read(effects=_most_attended),
        ),
    ),
    hints=(
        "Two tables: `scores = (W_E @ W_Q) @ (W_E @ W_K).T`, [destination, source], and `logits = W_E @ W_V @ W_O @ W_U`, [source, prediction]. Over which axis does the model take a softmax of each?",
        "`scores.T[:, :, None] * logits[:, None, :]` is [source, destination, prediction]. `flatten().topk(n)` gives flat indices; `divmod`, or `torch.unravel_index`, makes triples of them.",
    ),
    reveal="In a one-layer model without MLPs a prediction is the sum of what the token itself says and of what each head brings from earlier tokens; and what a head brings is fixed by two tables of the vocabulary. So its whole knowledge can be listed (Elhage et al. 2021). "
    "It also shows a limit: the source does not know the destination when it writes, so *keep … in mind* and *keep … at bay* also make *keep … in bay* likelier.",
)
