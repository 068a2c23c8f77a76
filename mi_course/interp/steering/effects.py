"""Effects of steering: on the odds of two sets of words, and on the loss of unrelated text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.prompts import TokenBatch, last_logits, only_last, pad, token_ids
from mi_course.interp.steering._checks import check_coefficient, check_layers, check_size, check_vector
from mi_course.interp.steering.activations import collect
from mi_course.interp.steering.directions import difference_of_means
from mi_course.interp.steering.interventions import Ablate, Steer, steering

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt

    Interventions = Sequence[Steer | Ablate]


def log_odds(
    logits: Float[Tensor, "batch vocab"], positive_ids: list[int], negative_ids: list[int]
) -> Float[Tensor, " batch"]:
    """log of p(any positive id) / p(any negative id), in nats: logsumexp over one set minus logsumexp over the other.

    ValueError for an empty set. A repeated id counts once.

    >>> log_odds(torch.tensor([[2.0, 0.0, 1.0]]), [0], [2]).tolist()
    [1.0]
    """
    for name, ids in (("positive_ids", positive_ids), ("negative_ids", negative_ids)):
        if len(ids) == 0:
            raise ValueError(f"{name} is empty: an empty set of words has no probability.")
    up, down = sorted(set(positive_ids)), sorted(set(negative_ids))
    return logits[:, up].logsumexp(dim=-1) - logits[:, down].logsumexp(dim=-1)


def kl_divergence(
    base_logits: Float[Tensor, "batch vocab"], steered_logits: Float[Tensor, "batch vocab"]
) -> Float[Tensor, " batch"]:
    """KL(base ‖ steered) in nats, never below 0: what the unsteered model would lose by these predictions.

    >>> kl_divergence(torch.zeros(1, 2), torch.zeros(1, 2)).tolist()
    [0.0]
    """
    base, steered = base_logits.log_softmax(dim=-1), steered_logits.log_softmax(dim=-1)
    p = base.exp()
    # Where p is 0 the term is 0, although base − steered may be −inf or NaN.
    terms = torch.where(p > 0, p * (base - steered), torch.zeros_like(p))
    return terms.sum(dim=-1).clamp(min=0)


def dose_response(effect: Callable[[float], float], coefficients: list[float]) -> list[float]:
    """effect(c) − effect(0) for each coefficient; effect(0) is computed once.

    >>> dose_response(lambda c: 5 + c * c, [0.0, 1.0, -2.0])
    [0.0, 1.0, 4.0]
    """
    base = float(effect(0.0))
    return [float(effect(c)) - base for c in coefficients]


def prompt_log_odds(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    positive_ids: list[int],
    negative_ids: list[int],
    interventions: Interventions = (),
    *,
    batch_size: int = 32,
) -> Float[Tensor, " prompt"]:
    """Log-odds of the two word sets as the next token after each prompt, in nats, under these interventions."""
    rows = token_ids(model, prompts)
    order = list(range(len(rows)))
    if len(rows) > batch_size:  # more than one batch, so no intervention has a vector for each row
        order.sort(key=lambda i: len(rows[i]))  # rows of similar length share a batch, so that little of it is padding
    out = torch.zeros(len(rows))
    with torch.no_grad(), steering(model, *interventions):
        for start in range(0, len(rows), batch_size):
            which = order[start : start + batch_size]
            logits = last_logits(model, _left_padded(model, [rows[i] for i in which]))
            out[which] = log_odds(logits.float(), positive_ids, negative_ids).cpu()
    return out


def vectors_log_odds(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    positive_ids: list[int],
    negative_ids: list[int],
    vectors: Float[Tensor, "vector d_model"],
    layer: int,
    coefficient: float = 1.0,
    *,
    start: int = 1,
    batch_size: int = 256,
) -> Float[Tensor, "vector prompt"]:
    """`prompt_log_odds` of many vectors at one layer, each added by itself, with several vectors in one batch.

    The result of `Steer(vector, layer, coefficient, start)` for each vector, faster: for bands of random directions.
    """
    check_vector(vectors, "vectors")
    check_size(vectors, model, "vectors")
    if vectors.ndim != 2:
        raise ValueError(f"vectors has shape {tuple(vectors.shape)}, expected (vector, d_model).")
    rows = token_ids(model, prompts)
    pairs = [(v, p) for v in range(len(vectors)) for p in range(len(rows))]
    at = check_layers(layer, model.cfg.n_layers)[0]
    resumes = at + 1 < model.cfg.n_layers and type(model.original_model).__name__ == "LlamaForCausalLM"
    batch = _left_padded(model, rows)
    parts = []
    with torch.no_grad():
        # Below the vector nothing changes, so the stream there is computed once for each prompt.
        options = batch.forward_options()
        below = model(batch.tokens, return_type=None, stop_at_layer=at + 1, **options) if resumes else None
        for begin in range(0, len(pairs), batch_size):
            chunk = pairs[begin : begin + batch_size]
            some = batch.rows([p for _, p in chunk])
            steer = Steer(vectors[[v for v, _ in chunk]], at, coefficient, start)
            if below is None:
                with steering(model, steer):
                    logits = last_logits(model, some)
            else:
                logits = _resumed(model, below[[p for _, p in chunk]], some, steer)
            parts.append(log_odds(logits.float(), positive_ids, negative_ids).cpu())
    return torch.cat(parts).view(len(vectors), len(rows))


@dataclass(frozen=True, eq=False)
class WordOdds:
    """The log-odds of two sets of words after some prompts, as a metric of interventions.

    The unsteered log-odds are measured once, when they are first needed. ValueError as in `log_odds`.
    """

    model: TransformerBridge
    prompts: Sequence[Prompt]
    positive_ids: list[int]
    negative_ids: list[int]

    def __call__(self, *interventions: Steer | Ablate) -> Float[Tensor, " prompt"]:
        """Log-odds after each prompt, in nats."""
        return prompt_log_odds(self.model, self.prompts, self.positive_ids, self.negative_ids, interventions)

    @cached_property
    def unsteered(self) -> Float[Tensor, " prompt"]:
        return self()

    def change(self, *interventions: Steer | Ablate) -> float:
        """By how much the interventions raise the mean over the prompts, in nats."""
        return float((self(*interventions) - self.unsteered).mean())

    def changes(
        self, vectors: Float[Tensor, "vector d_model"], layer: int, coefficient: float = 1.0
    ) -> Float[Tensor, " vector"]:
        """`change` of `Steer(vector, layer, coefficient)` for each of many vectors."""
        steered = vectors_log_odds(
            self.model, self.prompts, self.positive_ids, self.negative_ids, vectors, layer, coefficient
        )
        return (steered - self.unsteered).mean(dim=1)

    def slope(self, vector: Float[Tensor, " d_model"], layer: int) -> Float[Tensor, " prompt"]:
        """Half the difference between coefficients +1 and −1 at each prompt: nats per unit."""
        both = torch.stack([vector, -vector])
        up, down = vectors_log_odds(self.model, self.prompts, self.positive_ids, self.negative_ids, both, layer)
        return (up - down) / 2


def _resumed(
    model: TransformerBridge, below: Float[Tensor, "batch pos d_model"], batch: TokenBatch, steer: Steer
) -> Float[Tensor, "batch vocab"]:
    """Logits after the last token, from the residual stream after the steered layer; the layers below do not run."""
    position = batch.mask.cumsum(dim=1) - 1
    push = check_coefficient(steer.coefficient, steer.vector, model.cfg.dtype) * steer.vector.detach().to(below.device)
    start = torch.as_tensor(steer.start, device=position.device).reshape(-1, 1)  # one for all prompts, or one for each
    steered = below + (position >= start)[..., None] * push[:, None].to(below.dtype)
    blocks = [model.blocks[i] for i in range(int(steer.layers) + 1)]  # type: ignore[arg-type]
    # `start_at_layer` throws away what the blocks below compute, but lets them compute it.
    for block in blocks:
        vars(block)["forward"] = _passed_on
    try:
        options = {**only_last(model), **batch.forward_options()}
        return model(steered, return_type="logits", start_at_layer=len(blocks), **options)[:, -1]
    finally:
        for block in blocks:
            del vars(block)["forward"]


def _passed_on(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _left_padded(model: TransformerBridge, rows: Sequence[Sequence[int]]) -> TokenBatch:
    tokens, mask = pad(rows, "left", model.cfg.device)
    return TokenBatch(tokens, mask.bool(), model.tokenizer)


@dataclass(frozen=True)
class NeutralCost:
    """Means over the tokens of neutral text, in nats per token. `rise` is the price of steering."""

    base_loss: float
    loss: float
    kl: float

    @property
    def rise(self) -> float:
        return self.loss - self.base_loss


def neutral_cost(
    model: TransformerBridge, texts: Sequence[Prompt], interventions: Interventions, *, batch_size: int = 8
) -> NeutralCost:
    """Next-token loss on these texts without and with the interventions, and KL(unsteered ‖ steered).

    The mean runs over all tokens from the second after BOS on: the first is predicted from BOS alone, which is not
    steered. ValueError if no text has two tokens after BOS.
    """
    rows = [row for row in token_ids(model, texts) if len(row) > 2]
    if not rows:
        raise ValueError("No text has two tokens after BOS, so nothing is predicted under steering.")
    sums = torch.zeros(3, dtype=torch.float64)
    rows.sort(key=len)
    for begin in range(0, len(rows), batch_size):
        chunk = rows[begin : begin + batch_size]
        tokens, _ = pad(chunk, "right", model.cfg.device)
        with torch.no_grad():
            base = model(tokens, return_type="logits")
            with steering(model, *interventions):
                steered = model(tokens, return_type="logits")
        # Row by row, so that beside the logits only one text's log-probabilities are in memory.
        for i, row in enumerate(chunk):
            target = tokens[i, 2 : len(row)]
            b, s = base[i, 1 : len(row) - 1].float(), steered[i, 1 : len(row) - 1].float()
            losses = [torch.nn.functional.cross_entropy(x, target, reduction="sum") for x in (b, s)]
            sums += torch.stack([*losses, kl_divergence(b, s).sum()]).double().cpu()
    base_loss, loss, kl = (sums / sum(len(row) - 2 for row in rows)).tolist()
    return NeutralCost(base_loss, loss, kl)


@dataclass(frozen=True, eq=False)
class NeutralLoss:
    """The next-token loss on neutral text, as a metric of interventions: `neutral_cost(...).rise`, without the KL.

    The unsteered loss is measured once, when it is first needed.
    """

    model: TransformerBridge
    texts: Sequence[Prompt]

    def __call__(self, *interventions: Steer | Ablate) -> float:
        """Mean loss in nats per token, from the second token after BOS on."""
        rows = [row for row in token_ids(self.model, self.texts) if len(row) > 2]
        tokens, mask = pad(rows, "right", self.model.cfg.device)
        with torch.no_grad(), steering(self.model, *interventions):
            logits = self.model(tokens, return_type="logits")
        counted = mask[:, 2:].bool()
        losses = torch.nn.functional.cross_entropy(
            logits[:, 1:-1][counted].float(), tokens[:, 2:][counted], reduction="mean"
        )
        return float(losses)

    @cached_property
    def unsteered(self) -> float:
        return self()

    def rise(self, *interventions: Steer | Ablate) -> float:
        """By how much the interventions raise the loss, in nats per token."""
        return self(*interventions) - self.unsteered


def control_curves(
    measure: Callable[[Tensor, float], float], vectors: Float[Tensor, "vector d"], coefficients: list[float]
) -> Float[Tensor, "vector coefficient"]:
    """A dose-response curve for each control vector: measure(vector, c) − measure(vector, 0)."""
    check_vector(vectors, "vectors")
    # At coefficient 0 no vector is added, so one measurement serves all.
    base = float(measure(vectors[0], 0.0))
    return torch.tensor([[float(measure(v, c)) - base if c else 0.0 for c in coefficients] for v in vectors])


def band(
    curves: Float[Tensor, "vector coefficient"], low: float = 0.05, high: float = 0.95
) -> tuple[list[float], list[float], list[float]]:
    """Low quantile, median and high quantile over the vectors, at each coefficient: the effect of chance.

    With 20 vectors the 5 % and 95 % quantiles lie between the two most extreme ones.
    """
    at = torch.quantile(curves, torch.tensor([low, 0.5, high], dtype=curves.dtype), dim=0)
    return at[0].tolist(), at[1].tolist(), at[2].tolist()


@dataclass(frozen=True)
class SweepRow:
    """One layer: the vector's norm, mean log-odds at −c, 0 and +c (nats), and the mean rise of the neutral loss over ±c
    (nats per token; None without neutral texts)."""

    layer: int
    norm: float
    minus: float
    base: float
    plus: float
    rise: float | None


def layer_sweep(
    model: TransformerBridge,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    prompts: Sequence[Prompt],
    positive_ids: list[int],
    negative_ids: list[int],
    *,
    layers: Sequence[int] | None = None,
    coefficient: float = 1.0,
    position: int | str = -1,
    neutral: Sequence[Prompt] = (),
) -> list[SweepRow]:
    """The difference of means of the two sets of sentences at each layer, and the effect of adding it there.

    Costs two passes over the prompts (and four over the neutral texts) per layer.
    """
    which = list(check_layers(range(model.cfg.n_layers) if layers is None else layers, model.cfg.n_layers))
    up = collect(model, positive, which, position=position)  # type: ignore[arg-type]
    down = collect(model, negative, which, position=position)  # type: ignore[arg-type]
    base = float(prompt_log_odds(model, prompts, positive_ids, negative_ids).mean())
    rows = []
    for i, layer in enumerate(which):
        vector = difference_of_means(up[i], down[i])
        both = [[Steer(vector, layer, c)] for c in (-coefficient, coefficient)]
        minus, plus = (float(prompt_log_odds(model, prompts, positive_ids, negative_ids, s).mean()) for s in both)
        rise = sum(neutral_cost(model, neutral, s).rise for s in both) / 2 if neutral else None
        rows.append(SweepRow(layer, float(vector.norm()), minus, base, plus, rise))
    return rows
