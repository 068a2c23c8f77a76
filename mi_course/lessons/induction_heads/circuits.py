"""How induction works, and the evidence: composition, copying, ablation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, left_hooks_by, model_ref
from mi_course.interp.models import run_bare

# ---------------------------------------------------------------------------------------------------------------------
# composition_score


def _norm(matrix: Tensor) -> float:
    return sum(float(x) ** 2 for x in matrix.double().flatten()) ** 0.5


def _composition(W_first: Tensor, W_second: Tensor) -> float:
    """Oracle: sums of squares in Python."""
    product = torch.zeros(W_first.shape[0], W_second.shape[1], dtype=torch.float64)
    for i in range(product.shape[0]):
        for j in range(product.shape[1]):
            product[i, j] = sum(float(a) * float(b) for a, b in zip(W_first[i], W_second[:, j], strict=True))
    if _norm(W_first) == 0 or _norm(W_second) == 0:
        return 0.0
    return _norm(product) / (_norm(W_first) * _norm(W_second))


def _composition_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for a, b, c in ((5, 5, 5), (4, 4, 4), (6, 3, 5)):
        first, second = draw.normal(a, b, std=1.7), draw.normal(b, c, std=0.4)
        # Low rank, as a head's matrices are: without it every pair composes about equally.
        first[:, 1:] *= 0.2
        cases.append(case(first, second, about=f"shapes ({a}, {b}) and ({b}, {c})"))
    return cases


def _zero_cases(draw: RandomInputs, size: str) -> list[Case]:
    some = draw.normal(4, 4)
    calls = (
        Call((torch.zeros(4, 4), some)),
        Call((some, torch.zeros(4, 4))),
        Call((some * 0.03, draw.normal(4, 4) * 0.01)),
        Call((some * 300.0, draw.normal(4, 4) * 0.2)),
    )
    return [Case(calls=calls, about="a zero matrix first, then second, then small and large ones")]


COMPOSITION_SCORE = Exercise(
    id="induction_heads.composition_score",
    revision=2,
    fixed={
        "result>=0": "norms",
        "result<=1": "at most 1",
    },
    task="How much of one matrix reads what another writes: the norm of the product over the product of the norms.",
    minutes=6,
    difficulty=2,
    oracle=_composition,
    parts=(
        Part("random matrices, square and not", 2, _composition_cases),
        Part("a zero matrix gives 0, and scale does not matter", 1, _zero_cases),
    ),
    mistakes=(
        Mistake(
            "order_reversed",
            "You multiplied in the other order. With row vectors, what passes through W_first and then W_second is `W_first @ W_second`.",
            lambda first, second: _composition(second, first),
        ),
        Mistake(
            "second_transposed",
            "You transposed the second matrix. The columns of W_first meet the *rows* of W_second: `W_first @ W_second`. (For K-composition the "
            "transpose is taken by the caller, once.)",
            lambda first, second: _composition(first, second.T),
        ),
        Mistake(
            "first_transposed",
            "You transposed the first matrix. With row vectors its columns are its output: `W_first @ W_second`.",
            lambda first, second: _composition(first.T, second),
        ),
        Mistake(
            "not_normalized",
            "This is the norm of the product alone. It grows when either matrix is scaled up; divide by both Frobenius norms.",
            lambda first, second: (first @ second).norm(),
        ),
        Mistake(
            "normalized_by_first_only",
            "You divided by the norm of the first matrix only. Divide by both.",
            lambda first, second: (first @ second).norm() / first.norm() if first.norm() else 0.0,
        ),
        Mistake(
            "normalized_by_second_only",
            "You divided by the norm of the second matrix only. Divide by both.",
            lambda first, second: (first @ second).norm() / second.norm() if second.norm() else 0.0,
        ),
        Mistake(
            "divided_by_sum",
            "You divided by the *sum* of the norms. It is their product: then scaling either matrix changes nothing.",
            lambda first, second: (first @ second).norm() / (first.norm() + second.norm()),
        ),
        Mistake(
            "elementwise",
            "`*` multiplies element by element. Composition is the matrix product, `@`.",
            lambda first, second: (
                (first * second).norm() / (first.norm() * second.norm()) if first.norm() * second.norm() else 0.0
            ),
        ),
        Mistake(
            "spectral_norm",
            "These are spectral norms (largest singular value). The score uses Frobenius norms: the root of the sum of all squares.",
            lambda first, second: (
                torch.linalg.matrix_norm(first @ second, 2)
                / (torch.linalg.matrix_norm(first, 2) * torch.linalg.matrix_norm(second, 2))
                if first.norm() * second.norm()
                else 0.0
            ),
        ),
        Mistake(
            "squared",
            "You left out a square root: the Frobenius norm is the root of the sum of squares, and this is the square of the score.",
            lambda first, second: _composition(first, second) ** 2,
        ),
        Mistake(
            "zero_gives_nan",
            "Right, but for a zero matrix it is 0/0. Such a head writes nothing, so nothing is read from it: return 0.",
            lambda first, second: (first @ second).norm() / (first.norm() * second.norm()),
            lambda case, observation: (
                any(not call.args[0].any() for call in case.calls)
                and any(
                    isinstance(r.value, (float, Tensor)) and not torch.as_tensor(r.value).isfinite().all()
                    for r in observation.replies
                )
            ),
        ),
    ),
    hints=(
        "The Frobenius norm of a matrix is the root of the sum of its squared entries: `W.norm()`.",
        "Three norms: of the product, of the first, of the second. What if one of the last two is 0?",
    ),
    reveal="‖AB‖ ≤ ‖A‖‖B‖, so the score lies between 0 and 1. For random matrices of rank d_head in d_model dimensions it is small, about "
    "1/√d_model; a head that reads what another wrote stands out above that (Elhage et al. 2021, section on composition).",
)


# ---------------------------------------------------------------------------------------------------------------------
# copying_score


def _copying(W_E: Tensor, W_OV: Tensor, W_U: Tensor) -> float:
    """Oracle: one token after the other."""
    copied = 0
    for token in range(W_E.shape[0]):
        logits = W_E[token].double() @ W_OV.double() @ W_U.double()
        others = [float(logits[other]) for other in range(len(logits)) if other != token]
        copied += float(logits[token]) > max(others)
    return copied / W_E.shape[0]


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()


def _logits(W_E: Tensor, W_OV: Tensor, W_U: Tensor) -> Tensor:
    return W_E @ W_OV @ W_U


def _own_is_largest(logits: Tensor, dim: int) -> float:
    return _share(logits.argmax(dim) == torch.arange(len(logits)))


def _copying_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for vocab, d_model, identity in ((14, 5, 1.0), (23, 6, 0.8), (9, 4, 0.5)):
        W_E = draw.normal(vocab, d_model)
        # W_U resembles W_E, so that some tokens are copied and some are not.
        W_U = W_E.T * 0.6 + draw.normal(d_model, vocab, mean=0.4, std=0.8)
        W_OV = draw.normal(d_model, d_model, std=0.6) + identity * torch.eye(d_model)
        cases.append(case(W_E, W_OV, W_U, about=f"{vocab} tokens, d_model {d_model}"))
    # One dimension of its own lowers all logits alike: the largest may be negative.
    W_E, W_OV, W_U = W_E.clone(), W_OV.clone(), W_U.clone()
    W_E[:, 0], W_OV[0], W_OV[:, 0], W_U[0] = 1.0, 0.0, 0.0, -30.0
    W_OV[0, 0] = 1.0
    return [*cases, case(W_E, W_OV, W_U, about="a head that lowers every logit, some less than others")]


def _tie_cases(draw: RandomInputs, size: str) -> list[Case]:
    vocab, d_model = 12, 6
    W_E = draw.normal(vocab, d_model)
    W_E[3], W_E[7] = W_E[1], W_E[2]
    # Each token's logits come in equal pairs: exact ties, whatever the order of summation.
    W_U = W_E.T.clone()
    calls = (Call((W_E, torch.eye(d_model), W_U)), Call((W_E, torch.zeros(d_model, d_model), W_U)))
    return [Case(calls=calls, about="two pairs of tokens with the same vectors, then a zero matrix: ties")]


COPYING_SCORE = Exercise(
    id="induction_heads.copying_score",
    revision=2,
    fixed={
        "W_E[0]": "one token has no rivals",
        "W_U[1]": "one token has no rivals",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    task="The share of tokens whose own logit a head raises strictly above every other: does it copy what it attends to?",
    minutes=8,
    difficulty=2,
    oracle=_copying,
    parts=(
        Part("random embeddings and matrices", 2, _copying_cases),
        Part("ties do not count", 1, _tie_cases),
    ),
    mistakes=(
        Mistake(
            "columns_for_rows",
            "You compared down the columns: among all tokens attended to, which raises this logit most? The question is along the row: among all "
            "logits that one attended token moves, is its own the largest? `argmax(dim=-1)`.",
            lambda W_E, W_OV, W_U: _own_is_largest(_logits(W_E, W_OV, W_U), 0),
        ),
        Mistake(
            "ov_transposed",
            "W_OV is transposed. With row vectors a token's embedding comes from the left: `W_E @ W_OV @ W_U`.",
            lambda W_E, W_OV, W_U: _own_is_largest(_logits(W_E, W_OV.T, W_U), 1),
        ),
        Mistake(
            "embedding_and_unembedding_swapped",
            "W_E and W_U are swapped. A token comes in through W_E and goes out through W_U.",
            lambda W_E, W_OV, W_U: _own_is_largest(_logits(W_U.T, W_OV, W_E.T), 1),
        ),
        Mistake(
            "ties_count",
            "Tokens whose logit only *ties* for the largest are counted (`argmax` and `>=` do that). It has to be strictly larger than every other: a "
            "zero matrix copies nothing.",
            lambda W_E, W_OV, W_U: _share((lg := _logits(W_E, W_OV, W_U)).diagonal() >= lg.max(1).values),
        ),
        Mistake(
            "first_of_ties_counts",
            "Tokens whose logit only *ties* for the largest are counted (`argmax` takes one of them). It has to be strictly larger than every other: a "
            "zero matrix copies nothing.",
            lambda W_E, W_OV, W_U: _own_is_largest(_logits(W_E, W_OV, W_U), 1),
        ),
        Mistake(
            "positive_logit",
            "You count tokens whose own logit is positive. It should be larger than every other logit of its row.",
            lambda W_E, W_OV, W_U: _share(_logits(W_E, W_OV, W_U).diagonal() > 0),
        ),
        Mistake(
            "above_the_mean",
            "You count tokens whose own logit is above the mean of its row. It should be above every other.",
            lambda W_E, W_OV, W_U: _share((lg := _logits(W_E, W_OV, W_U)).diagonal() > lg.mean(1)),
        ),
        Mistake(
            "without_ov",
            "W_OV is missing: this asks whether embedding and unembedding agree, in which no head takes part.",
            lambda W_E, W_OV, W_U: _own_is_largest(_logits(W_E, torch.eye(len(W_OV)), W_U), 1),
        ),
        Mistake(
            "counted",
            "This is the number of tokens. The *share* is asked for: divide by the size of the vocabulary.",
            lambda W_E, W_OV, W_U: _copying(W_E, W_OV, W_U) * len(W_E),
        ),
    ),
    hints=(
        "Row t of `W_E @ W_OV @ W_U` holds the change of every logit if the head attends to token t. Whose logit is on the diagonal?",
        "Strictly larger than every other: put −∞ on a copy's diagonal, take the maximum of each row, and compare the diagonal with that.",
    ),
    reveal="The matrix W_E W_OV W_U is vocab × vocab: attended token in, logits out. A head that copies has its largest entry of each row on the "
    "diagonal. On SmolLM2 the full product would have 2.4 billion entries, and would say little: even the identity in place of W_OV scores only "
    "0.16 there, and later layers read what an induction head writes. A test on weights is a hypothesis about the model, not a fact.",
)


# ---------------------------------------------------------------------------------------------------------------------
# loss_without_heads


_ATTENTION_ONLY = {
    "n_layers": 2,
    "n_heads": 4,
    "d_model": 16,
    "d_head": 4,
    "d_vocab": 13,
    "n_ctx": 16,
    "attn_only": True,
}
_GROUPED = {
    "n_layers": 3,
    "n_heads": 4,
    "n_key_value_heads": 2,
    "d_model": 16,
    "d_head": 4,
    "d_mlp": 24,
    "d_vocab": 17,
    "n_ctx": 16,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMS",
}


def _nll(logits: Tensor, tokens: Tensor) -> Tensor:
    return -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)


def _loss_without_heads(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    """Oracle: by the weights, without a hook. A head whose rows of W_O are zero writes nothing."""
    d_head = model.cfg.d_head
    kept = []
    with torch.no_grad():
        for layer, head in heads:
            weight = model.blocks[layer].attn.o.weight  # [d_model, n_heads · d_head]
            own = slice(head * d_head, (head + 1) * d_head)
            kept.append((weight, own, weight[:, own].clone()))
            weight[:, own] = 0.0
        try:
            return _nll(run_bare(model, tokens), tokens)
        finally:
            for weight, own, values in reversed(kept):
                weight[:, own] = values


def _ablate(change: Callable[[Tensor, int], Tensor | None]) -> Callable[..., Tensor]:
    """A loss_without_heads whose hook changes z by change(z, head)."""

    def loss_without_heads(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
        hooks = [(f"blocks.{layer}.attn.hook_z", lambda z, hook, head=head: change(z, head)) for layer, head in heads]
        return _nll(run_bare(model, tokens, hooks), tokens)

    return loss_without_heads


def _with(z: Tensor, index: object, value: object) -> Tensor:
    z = z.clone()
    z[index] = value
    return z


def _first_only(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    return _loss_without_heads(model, tokens, heads[:1])


def _last_only(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    return _loss_without_heads(model, tokens, heads[-1:])


def _last_of_each_layer(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    return _loss_without_heads(model, tokens, list(dict(heads).items()))


def _swapped(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    return _loss_without_heads(model, tokens, [(head, layer) for layer, head in heads])


def _same_layer_all(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    every = [(layer, head) for layer in dict(heads) for head in range(model.cfg.n_heads)]
    return _loss_without_heads(model, tokens, every)


def _all_but(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    others = [(la, h) for la in range(model.cfg.n_layers) for h in range(model.cfg.n_heads) if (la, h) not in heads]
    return _loss_without_heads(model, tokens, others)


def _whole_model(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    return _loss_without_heads(model, tokens, [])


def _unshifted(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    hooks = [
        (f"blocks.{la}.attn.hook_z", lambda z, hook, h=h: _with(z, (slice(None), slice(None), h), 0.0))
        for la, h in heads
    ]
    return -run_bare(model, tokens, hooks).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)[:, :-1]


def _hooks_stay(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    for layer, head in heads:
        model.add_hook(
            f"blocks.{layer}.attn.hook_z", lambda z, hook, head=head: _with(z, (slice(None), slice(None), head), 0.0)
        )
    with torch.no_grad():
        return _nll(model(tokens), tokens)


def _hooks_stay_after_error(model, tokens: Tensor, heads: list[tuple[int, int]]) -> Tensor:
    loss = _hooks_stay(model, tokens, heads)
    model.reset_hooks()
    return loss


def _ablation_cases(config: dict, sets: list[list[tuple[int, int]]]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for heads in sets:
            model = model_ref(config, draw.seed())
            tokens = draw.integers(0, config["d_vocab"], 3, 2 if len(heads) == 1 else 9)
            names = ", ".join(f"{layer}.{head}" for layer, head in heads) or "no heads"
            cases.append(
                case(
                    model,
                    tokens,
                    heads,
                    watch=("model", "arguments"),
                    about=f"without {names}",
                    rtol=1e-3,
                    atol=1e-4,
                )
            )
        return cases

    return cases


def _interrupted_cases(draw: RandomInputs, size: str) -> list[Case]:
    model = model_ref(_ATTENTION_ONLY, draw.seed())
    tokens, heads = draw.integers(0, 13, 2, 7), [(1, 2), (0, 1)]
    calls = (
        Call((model, tokens, heads), driver="raising", watch=("model",)),
        Call((model, tokens, heads), watch=("model",)),
        Call((model, tokens, []), watch=("model",)),
    )
    return [
        Case(
            calls=calls,
            about="an error in the middle of the forward pass, then two ordinary calls",
            rtol=1e-3,
            atol=1e-4,
        )
    ]


LOSS_WITHOUT_HEADS = Exercise(
    id="induction_heads.loss_without_heads",
    revision=2,
    fixed={
        "result>=0": "minus a log-probability",
        "result<=1": "random models know little, and nothing very wrong",
    },
    task="The loss per token with the outputs of some heads set to zero, leaving no hook behind.",
    minutes=10,
    difficulty=3,
    oracle=_loss_without_heads,
    parts=(
        Part("an attention-only model", 2, _ablation_cases(_ATTENTION_ONLY, [[(0, 2), (1, 0), (1, 3)], [(1, 1)]])),
        Part("grouped key/value heads and MLPs", 1, _ablation_cases(_GROUPED, [[(2, 3), (0, 1), (2, 0)], [(1, 2)]])),
        Part("no hook stays, also after an error", 1, _interrupted_cases),
    ),
    mistakes=(
        Mistake(
            "whole_layer",
            "Every head of the layers concerned is silent. Only those in the list should be: `z[:, :, head] = 0`.",
            _same_layer_all,
        ),
        Mistake(
            "all_but",
            "You silenced every head that is *not* in the list.",
            _all_but,
        ),
        Mistake(
            "head_and_layer_swapped",
            "Layer and head are swapped. The pairs in `heads` are (layer, head).",
            _swapped,
        ),
        Mistake(
            "first_head_only",
            "Only the first head of the list is silent. Add a hook for each of them, all in the same forward pass.",
            _first_only,
        ),
        Mistake(
            "last_head_only",
            "Only the last head of the list is silent. If you make hooks in a loop, each lambda looks `head` up when it *runs*, and by then the "
            "loop is over: bind it with `head=head` or `functools.partial`.",
            _last_only,
        ),
        Mistake(
            "one_head_per_layer",
            "Only one head of each layer is silent. A dict keyed by layer (or by hook name) keeps the last of several heads.",
            _last_of_each_layer,
        ),
        Mistake(
            "nothing_ablated",
            "This is the loss of the whole model: nothing that your hooks do reaches it. Return the changed z, or change it in place, at every "
            "position, and make sure that the hooks are there in the forward pass.",
            _whole_model,
        ),
        Mistake(
            "mean_for_zero",
            "You replaced the head's output by its mean over positions. That is mean ablation; zero is asked for here.",
            _ablate(lambda z, head: _with(z, (slice(None), slice(None), head), z[:, :, head].mean(1, keepdim=True))),
        ),
        Mistake(
            "all_positions_but_first",
            "The heads are still active at position 0. Zero them at every position.",
            _ablate(lambda z, head: _with(z, (slice(None), slice(1, None), head), 0.0)),
        ),
        Mistake(
            "position_for_head",
            "You silenced a *position* of all heads. The axes of z are [batch, pos, head, d_head].",
            _ablate(lambda z, head: _with(z, (slice(None), head), 0.0)),
        ),
        Mistake(
            "first_prompt_only",
            "The heads are silent in the first sequence of the batch only.",
            _ablate(lambda z, head: _with(z, (0, slice(None), head), 0.0)),
        ),
        Mistake(
            "predicts_itself",
            "The ablation is right, but the loss compares each position with its own token. Logits at position p predict token p + 1: use "
            "`loss_per_token`.",
            _unshifted,
        ),
        Mistake(
            "averaged",
            "You returned a mean. The loss is asked for at each position of each row, [batch, pos−1].",
            lambda model, tokens, heads: _loss_without_heads(model, tokens, heads).mean(),
        ),
        Mistake(
            "hooks_left",
            "Your hooks are still on the model after the call, so every later forward pass is ablated as well. "
            "`model.run_with_hooks(...)` and `with model.hooks(...)` remove them.",
            _hooks_stay,
            left_hooks_by("call"),
        ),
        Mistake(
            "hooks_left_after_error",
            "When the forward pass fails halfway, your hooks stay on the model, and every later result is quietly wrong. "
            "`model.run_with_hooks(...)` and `with model.hooks(...)` remove them in that case too.",
            _hooks_stay_after_error,
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "A hook on `blocks.{layer}.attn.hook_z` sees z, [batch, pos, head, d_head], before W_O. You wrote one that silences a head in lesson 00.",
        "`model.run_with_hooks(tokens, fwd_hooks=[(name, hook), ...])` runs once with all hooks and removes them afterwards, also after an error.",
        "In a loop, bind the head to the hook: `functools.partial(zero_head, head=head)` or `lambda z, hook, head=head: ...`.",
    ),
    reveal="One forward pass with a hook for each head. `run_with_hooks` removes the hooks again, whatever happens. Binding `head` when the hook "
    "is made matters: a bare lambda looks it up when it runs, and all of them would find the last one.",
)
