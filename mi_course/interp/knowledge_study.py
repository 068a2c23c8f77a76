"""Experiments of lesson 08 on names and answers, and their pictures. Functions passed in are those a learner writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp import knowledge
from mi_course.interp.prompts import TokenBatch, last_logits, pad, read_prompts, token_ids
from mi_course.interp.steering import generate
from mi_course.interp.steering.controls import matched_controls, random_controls

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.knowledge import Answered, Name

LAYERS = [0, 4, 8, 12, 16, 20, 24, 28]


def by_layer(
    read: Mapping[str, Tensor],
    y: Bool[Tensor, " n"],
    folds: Sequence[Sequence[int]],
    fit: Callable[[Tensor, Tensor], tuple[Tensor, float]],
    area: Callable[[Tensor, Tensor], float],
) -> dict[str, float]:
    """AUROC on unseen rows of a probe of each set of activations."""
    return {name: area(knowledge.out_of_fold(x, y, folds, fit), y) for name, x in read.items()}


def choose_penalty(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    groups: Sequence[str],
    fit: Callable[..., tuple[Tensor, float]],
    folds_of: Callable[..., list[list[int]]],
    area: Callable[[Tensor, Tensor], float],
    penalties: Sequence[float] = (0.1, 1.0, 10.0),
    n_folds: int = 5,
) -> tuple[float, list[float]]:
    """Nested cross-validation: AUROC on unseen rows, and the penalty that was chosen inside each training part."""
    scores, chosen = torch.zeros(len(y)), []
    for fold in folds_of(list(groups), n_folds, 0):
        train = torch.ones(len(y), dtype=torch.bool)
        train[fold] = False
        rows = train.nonzero().flatten().tolist()
        inner = folds_of([groups[i] for i in rows], 4, 1)
        best = max(
            penalties,
            key=lambda l2: area(
                knowledge.out_of_fold(x[train], y[train], inner, lambda a, b: fit(a, b, l2)),
                y[train],
            ),
        )
        w, b = fit(x[train], y[train], best)
        scores[~train] = x[~train] @ w + b
        chosen.append(best)
    return area(scores, y), chosen


def _named(
    model: TransformerBridge, people: Sequence[Name], ending: str
) -> tuple[TokenBatch, Int[Tensor, " name"], Int[Tensor, " name"]]:
    """Prompts that name each of these people, padded on the left; the columns of the name's first and last token."""
    texts = [knowledge.CONTEXT.format(person.name) for person in people]
    batch = read_prompts(model, [text + ending for text in texts], side="left")
    pads = batch.tokens.shape[1] - batch.mask.sum(dim=1)
    begin = len(token_ids(model, [knowledge.CONTEXT.format("").rstrip()])[0])
    last = pads + torch.tensor([len(ids) for ids in token_ids(model, texts)]) - 1
    return batch, pads + begin, last


Change = Callable[["Float[Tensor, 'name d_model']"], "Float[Tensor, 'name d_model']"]
"""What is done to the residual stream at each name's last token."""


def change(how: str, vector: Float[Tensor, " d_model"], mean: Float[Tensor, " d_model"]) -> Change:
    """ "add" or "subtract" a vector, or "ablate" its direction: every name gets the component that the mean has."""
    if how == "ablate":
        unit = vector / vector.norm()
        return lambda resid: resid + ((mean - resid) @ unit)[:, None] * unit
    step = {"add": vector, "subtract": -vector}[how]
    return lambda resid: resid + step


@contextmanager
def _changed(model: TransformerBridge, layer: int, columns: Int[Tensor, " name"], how: Change | None) -> Iterator[None]:
    def edit(resid: Tensor, hook: Any) -> Tensor:
        rows = torch.arange(len(columns))
        resid[rows, columns] = how(resid[rows, columns])  # type: ignore[misc]
        return resid

    hooks = [] if how is None else [(f"blocks.{layer}.hook_resid_post", edit)]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        yield


def after_names(
    model: TransformerBridge,
    people: Sequence[Name],
    layer: int = 0,
    how: Change | None = None,
    ending: str = ", the famous",
) -> tuple[Float[Tensor, " name"], Float[Tensor, "name layer head"]]:
    """What the model does at the end of a prompt that names each person: the entropy of its next token, in nats, and
    each head's attention from there to all tokens of the name. `how` changes the stream at the name's last token, after
    this layer."""
    batch, first, last = _named(model, people, ending)
    columns = torch.arange(batch.tokens.shape[1])
    of_name = (columns >= first[:, None]) & (columns <= last[:, None])
    found: list[Tensor] = []

    def keep(pattern: Tensor, hook: Any) -> None:
        found.append((pattern[:, :, -1] * of_name[:, None]).sum(-1))

    hooks = [(f"blocks.{i}.attn.hook_pattern", keep) for i in range(model.cfg.n_layers)]
    with _changed(model, layer, last, how), model.hooks(fwd_hooks=hooks):
        logprobs = last_logits(model, batch).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1), torch.stack(found, dim=1)


@dataclass(frozen=True)
class Effects:
    """Changes of the means over some names, one row for each direction that was used."""

    entropy: Float[Tensor, " direction"]
    attention: Float[Tensor, "direction layer head"]


def effects(
    model: TransformerBridge,
    people: Sequence[Name],
    direction: Float[Tensor, " d_model"],
    activations: Float[Tensor, "name d_model"],
    layer: int,
    how: str,
    n: int = 4,
) -> dict[str, Effects]:
    """By how much entropy and attention change (`after_names`): with the direction, and with n random and n matched
    ones of its norm. how: as in `change`; the mean is that of the activations."""
    before, mean = [each.mean(0) for each in after_names(model, people)], activations.mean(dim=0)
    kinds = {
        "direction": direction[None],
        "random": random_controls(direction, n, 0),
        "matched": matched_controls(direction, activations, n, 0),
    }
    found = {}
    for kind, vectors in kinds.items():
        after = [after_names(model, people, layer, change(how, vector, mean)) for vector in vectors]
        entropy, attention = (torch.stack([each.mean(0) for each in both]) for both in zip(*after, strict=True))
        found[kind] = Effects(entropy - before[0], attention - before[1])
    return found


def neurons(model: TransformerBridge, people: Sequence[Name], layer: int) -> Float[Tensor, "name neuron"]:
    """The MLP's neurons at each name's last token."""
    tokens, mask = pad(token_ids(model, [knowledge.CONTEXT.format(person.name) for person in people]), "right")
    name = f"blocks.{layer}.mlp.hook_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    return cache[name][torch.arange(len(tokens)), mask.sum(dim=1) - 1]


# ---------------------------------------------------------------------------------------------------------------------
# Questions and answers


def who_was(model: TransformerBridge, people: Sequence[str], max_new_tokens: int = 24) -> list[str]:
    """The model's reply to "Who was ...?", in the chat format that it was trained on; the likeliest tokens."""
    asked = [_chat(model, f"Who was {name}?") for name in people]
    return [reply.strip() for reply in generate(model, asked, max_new_tokens=max_new_tokens)]


def _chat(model: TransformerBridge, text: str) -> str:
    message = [{"role": "user", "content": text}]
    return str(model.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


ASKED = {
    "Is that true, Yes or No?": "{}.\nQ: Is that true, Yes or No?\nA:",
    "Is that true?": "{}.\nQ: Is that true?\nA:",
    "Is that false, Yes or No?": "{}.\nQ: Is that false, Yes or No?\nA:",
    "in a chat: Is that true?": "{}. Is that true?",
}
"""Ways to ask the model whether a statement of its own is true. The first is that of `knowledge.signals`."""


def yes_over_no(model: TransformerBridge, answered: Sequence[Answered], asked: str) -> Float[Tensor, " n"]:
    """Log-odds of "Yes" over "No" when the model is asked about its own answers, in one of the ways of `ASKED`."""
    chat = asked.startswith("in a chat")
    words = ("Yes", "No") if chat else (" Yes", " No")
    yes, no = (model.tokenizer.encode(word, add_special_tokens=False)[0] for word in words)
    said = [f"{row.question.prompt().split('. ')[-1]} {row.answer}" for row in answered]
    texts = [_chat(model, ASKED[asked].format(text)) if chat else ASKED[asked].format(text) for text in said]
    found = []
    for start in range(0, len(texts), 30):
        with torch.no_grad():
            logits = last_logits(model, read_prompts(model, texts[start : start + 30]))
        found.append(logits[:, yes] - logits[:, no])
    return torch.cat(found)


def read_answers(
    model: TransformerBridge, answered: Sequence[Answered], layer: int
) -> tuple[Float[Tensor, "n d_model"], Float[Tensor, "n d_model"]]:
    """`hook_resid_post` of a layer at the last token of each prompt, and at that of the model's answer."""
    prompts = token_ids(model, [row.question.prompt() for row in answered])
    whole = token_ids(model, [f"{row.question.prompt()} {row.answer}" for row in answered])
    before, after = (torch.zeros(len(whole), model.cfg.d_model) for _ in range(2))
    name = f"blocks.{layer}.hook_resid_post"
    order = sorted(range(len(whole)), key=lambda i: len(whole[i]))
    for start in range(0, len(order), 20):
        rows = order[start : start + 20]
        tokens, _ = pad([whole[i] for i in rows], "right")
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
        for resid, i in zip(cache[name], rows, strict=True):
            before[i], after[i] = resid[len(prompts[i]) - 1], resid[len(whole[i]) - 1]
    return before, after


def within(
    area: Callable[[Tensor, Tensor], float], scores: Tensor, correct: Bool[Tensor, " n"], groups: Sequence[str]
) -> dict[str, float]:
    """AUROC inside each group that has both right and wrong answers: which group it is cannot help there."""
    found = {}
    for group in dict.fromkeys(groups):
        own = torch.tensor([each == group for each in groups])
        if correct[own].any() and not correct[own].all():
            found[group] = area(scores[own], correct[own])
    return found


def share_in_group(correct: Bool[Tensor, " n"], groups: Sequence[str], folds: Sequence[Sequence[int]]) -> Tensor:
    """For each row the share of right answers in its group in the other folds: all that a group's name can tell."""
    found = torch.zeros(len(correct))
    for fold in folds:
        test = set(fold)
        for i in fold:
            others = [j for j, group in enumerate(groups) if group == groups[i] and j not in test]
            found[i] = correct[others].double().mean() if others else 0.5
    return found


def fit_temperature(logits: Float[Tensor, " n"], labels: Bool[Tensor, " n"]) -> float:
    """The temperature T for which sigmoid(logits / T) has the least log loss, from 0.05 to 20."""
    temperatures = torch.logspace(-1.3, 1.3, 400)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[None] / temperatures[:, None], labels.float().expand(400, -1), reduction="none"
    ).mean(dim=1)
    return float(temperatures[losses.argmin()])


def resampled(
    measure: Callable[[Tensor, Tensor], float], confidence: Tensor, correct: Tensor, n: int = 200, seed: int = 0
) -> Float[Tensor, " n"]:
    """A measure on n samples of the questions, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(correct), (n, len(correct)), generator=generator)
    return torch.tensor([measure(confidence[i], correct[i]) for i in draws])


def draw_layers(depths: Sequence[float], areas: Mapping[str, Sequence[float]], title: str) -> Any:
    """AUROC by layer; the embedding stands at -1."""
    from mi_course.show import lines

    return lines(depths, areas, xlabel="layer (−1: embedding)", ylabel="AUROC on unseen names", title=title)


def draw_risk(curves: Mapping[str, tuple[Tensor, Tensor]]) -> Any:
    """Risk at each coverage, on a common grid."""
    from mi_course.show import lines

    grid = torch.linspace(0.1, 1.0, 46)
    series = {}
    for name, (coverage, risk) in curves.items():
        places = torch.searchsorted(coverage.contiguous(), grid).clamp(max=len(coverage) - 1)
        series[name] = risk[places]
    return lines(
        grid, series, xlabel="share of questions answered", ylabel="share of wrong ones", title="Risk and coverage"
    )
