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

    from mi_course.interp.knowledge import Answered, Attributes, Name

LAYERS = [0, 4, 8, 12, 16, 20, 24, 28]


Area = Callable[[Tensor, Tensor], float]
"""AUROC of scores for labels."""
Fit = Callable[[Tensor, Tensor], tuple[Tensor, float]]
"""From rows and labels to weights and a bias."""


# ---------------------------------------------------------------------------------------------------------------------
# What is known, and probes of it


def attribute_table(said: Attributes, famous: Bool[Tensor, " name"]) -> dict[str, list[Any]]:
    """For each attribute: how often it is right of famous and of other people, the majority's guess, and how often that
    is right."""
    rows = {}
    for i, attribute in enumerate(knowledge.ATTRIBUTES):
        guess, hit = said.majority[attribute]
        right = said.right[:, i].float()
        rows[attribute] = [right[famous].mean(), right[~famous].mean(), guess, hit.float().mean()]
    return rows


def streams(model: TransformerBridge, people: Sequence[Name]) -> Float[Tensor, "depth name d_model"]:
    """The embedding of each name's last token, and the residual stream there after each of `LAYERS`."""
    return torch.stack([knowledge.embeddings(model, people), *knowledge.read(model, people, LAYERS)])


def plain_features(model: TransformerBridge, people: Sequence[Name]) -> dict[str, Tensor]:
    """What can be told of names without running a model on them."""
    return {
        "tokens: how many, how common": knowledge.token_features(model, people),
        "groups of letters": knowledge.letter_features(people),
    }


def choose_penalty(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    groups: Sequence[str],
    fit: Callable[..., tuple[Tensor, float]],
    folds_of: Callable[..., list[list[int]]],
    area: Area,
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


def permutation_test(
    p_value: Callable[..., float],
    area: Area,
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    fitted: Bool[Tensor, " n"],
    groups: Sequence[str],
    n: int = 99,
) -> list[float]:
    """A difference of means over the `fitted` rows, its AUROC on the others, where 95 % of the shuffles (and itself)
    stay below, and p. Groups exchange labels."""
    scores: list[float] = []

    def score(rows: Tensor, labels: Tensor) -> float:
        w = rows[fitted & labels].mean(0) - rows[fitted & ~labels].mean(0)
        scores.append(area(rows[~fitted] @ w, labels[~fitted]))
        return scores[-1]

    p = p_value(x, y, list(groups), score, n=n, seed=0)
    below = float(torch.tensor(scores).quantile(0.95))
    return [score(x, y), below, p]


# ---------------------------------------------------------------------------------------------------------------------
# Real people, matched


@dataclass(frozen=True)
class Read:
    """What there is to tell people apart by: one row for each."""

    values: dict[str, Float[Tensor, " name"]]
    """Scores: along a direction, how common the rarest token is, how much the second half was expected."""
    random: Float[Tensor, "name direction"]
    """Scores along 200 random directions."""
    controls: dict[str, tuple[Float[Tensor, "name feature"], float]]
    """What to match on, with a caliper."""


def look_at(model: TransformerBridge, people: Sequence[Name], direction: Tensor, layer: int) -> Read:
    """Reads people at their last token after a layer, and all that they are to be matched on."""
    along = knowledge.read(model, people, layer)
    tokens, expected = knowledge.token_features(model, people), knowledge.name_logprob(model, people)
    both = torch.cat([tokens, expected[:, None]], dim=1)
    return Read(
        {"the direction": along @ direction, "rarest token": -tokens[:, 2], "expected second half": expected},
        along @ torch.randn(along.shape[1], 200, generator=torch.Generator().manual_seed(0)),
        {"tokens": (tokens, 1.5), "expected": (expected[:, None], 0.5), "both": (both, 2.0)},
    )


def matched_table(
    area: Area, read: Read, use: Bool[Tensor, " name"], known: Bool[Tensor, " used"], parts: Sequence[Sequence[int]]
) -> dict[str, list[float]]:
    """AUROC for being known of each score, on each list of rows among the used ones; last, what 95 % of the random
    directions stay below."""
    rows = {name: [area(x[use][p], known[p]) for p in map(list, parts)] for name, x in read.values.items()}
    luck = [torch.tensor([area(x, known[p]) for x in read.random[use][p].T]) for p in map(list, parts)]
    return {**rows, "95 % of random directions below": [float(each.quantile(0.95)) for each in luck]}


def by_attribute(area: Area, read: Read, right: Bool[Tensor, "name attribute"]) -> dict[str, list[float]]:
    """AUROC of each score for getting an attribute right."""
    each = enumerate(knowledge.ATTRIBUTES)
    return {attribute: [area(x, right[:, i]) for x in read.values.values()] for i, attribute in each}


def chosen(groups: Mapping[str, Sequence[Name]], part: Sequence[bool] | Tensor) -> dict[str, list[Name]]:
    """The names at the true places of each group."""
    return {kind: [n for n, keep in zip(names, part, strict=True) if keep] for kind, names in groups.items()}


def lucky_separations(
    separate: Callable[[Tensor, Tensor], Tensor],
    known: Float[Tensor, "name neuron"],
    unknown: Sequence[Float[Tensor, "name neuron"]],
    n: int = 20,
) -> Float[Tensor, " exchange"]:
    """The control for the best of many units: its smallest separation when known and unknown names are exchanged at
    random, n times."""
    pools, found = [torch.cat([known, each]) for each in unknown], []
    for seed in range(n):
        order = torch.randperm(len(pools[0]), generator=torch.Generator().manual_seed(seed))
        parts = order[: len(known)], order[len(known) :]
        found.append(torch.stack([separate(*(pool[part] for part in parts)) for pool in pools]).amin(0).max())
    return torch.stack(found)


# ---------------------------------------------------------------------------------------------------------------------
# What the model does with a name


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


def heads_that_look(model: TransformerBridge, groups: Mapping[str, Sequence[Name]], n: int) -> list[tuple[int, int]]:
    """The n heads that attend more to the first group's names than to any other group's: (layer, head)."""
    first, *others = (after_names(model, people)[1].mean(0) for people in groups.values())
    gap = torch.stack([first - other for other in others]).amin(0)
    return [divmod(i, model.cfg.n_heads) for i in gap.flatten().topk(n).indices.tolist()]


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


def effect_rows(
    model: TransformerBridge,
    groups: Mapping[str, Sequence[Name]],
    moves: Sequence[str],
    direction: Float[Tensor, " d_model"],
    activations: Float[Tensor, "name d_model"],
    layer: int,
    head: tuple[int, int],
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """`effects` on the entropy and on a head's attention: with the direction, and the lowest and highest of its
    controls. A move is how and on which group: "add, famous"."""
    entropy: dict[str, list[Tensor]] = {}
    attention: dict[str, list[Tensor]] = {}
    for move in moves:
        how, group = move.split(", ")
        found = effects(model, groups[group], direction, activations, layer, how)
        for rows, values in (
            (entropy, {kind: each.entropy for kind, each in found.items()}),
            (attention, {kind: each.attention[:, head[0], head[1]] for kind, each in found.items()}),
        ):
            others = torch.cat([values["random"], values["matched"]])
            rows[move] = [values["direction"][0], others.min(), others.max()]
    return entropy, attention


def neurons(model: TransformerBridge, people: Sequence[Name], layer: int) -> Float[Tensor, "name neuron"]:
    """The MLP's neurons at each name's last token."""
    tokens, mask = pad(token_ids(model, [knowledge.CONTEXT.format(person.name) for person in people]), "right")
    name = f"blocks.{layer}.mlp.hook_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    return cache[name][torch.arange(len(tokens)), mask.sum(dim=1) - 1]


# ---------------------------------------------------------------------------------------------------------------------
# Questions and answers


MAY_REFUSE = 'Who was {}? If you do not know, say "I don\'t know".'
REFUSALS = ("don't know", "do not know", "sorry", "not familiar", "no information", "not aware", "unable", "not sure")


def who_was(
    model: TransformerBridge, people: Sequence[str], asked: str = "Who was {}?", max_new_tokens: int = 24
) -> list[str]:
    """The model's reply to a question about each person, in the chat format that it was trained on; the likeliest
    tokens."""
    prompts = [_chat(model, asked.format(name)) for name in people]
    return [reply.strip() for reply in generate(model, prompts, max_new_tokens=max_new_tokens)]


def refuses(reply: str) -> bool:
    """Whether a reply has one of the words of doubt in `REFUSALS`.

    >>> refuses("I'm sorry for any confusion, but"), refuses("Isaac Bonaparte was a French commander")
    (True, False)
    """
    return any(words in reply.lower() for words in REFUSALS)


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


def logits_of(
    model: TransformerBridge, answered: Answered
) -> tuple[Float[Tensor, "pos vocab"], Int[Tensor, " pos"], int]:
    """Logits on a question with the model's answer, their tokens, and where the answer starts."""
    start = len(token_ids(model, [answered.question.prompt()])[0])
    tokens = torch.tensor(token_ids(model, [f"{answered.question.prompt()} {answered.answer}"]))
    with torch.no_grad():
        return model(tokens)[0], tokens[0], start


def within(area: Area, scores: Tensor, correct: Bool[Tensor, " n"], groups: Sequence[str]) -> dict[str, float]:
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


def right_table(
    area: Area,
    scores: Mapping[str, Tensor],
    correct: Bool[Tensor, " n"],
    relations: Sequence[str],
    folds: Sequence[Sequence[int]],
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """AUROC for being right: over all questions of a fold, and inside relations; means. And that inside each relation.

    Only scores of one probe are compared. A score named "... new relation" has one probe for each relation, others one
    for each fold.
    """
    part = {i: str(number) for number, fold in enumerate(folds) for i in fold}
    parts, rows, inside = [part[i] for i in range(len(correct))], {}, {}
    for name, x in scores.items():
        new = name.endswith("new relation")
        cells = relations if new else [f"{r}, {p}" for r, p in zip(relations, parts, strict=True)]
        inside[name] = within(area, x, correct, cells)
        together = {} if new else within(area, x, correct, parts)
        means = [sum(each.values()) / len(each) if each else float("nan") for each in (together, inside[name])]
        rows[name] = means
    return rows, inside


def calibration_table(
    ece: Callable[[Tensor, Tensor, int], float],
    confidences: Mapping[str, Float[Tensor, " n"]],
    correct: Bool[Tensor, " n"],
    n_bins: int = 10,
) -> dict[str, list[float]]:
    """For each: mean confidence, calibration error, and what a calibrated model with these confidences would show on as
    many questions, by chance: the mean of 100, and what 95 of them stay below."""
    generator, rows = torch.Generator().manual_seed(0), {}
    for name, p in confidences.items():
        chance = torch.tensor([ece(p, torch.rand(len(p), generator=generator) < p, n_bins) for _ in range(100)])
        rows[name] = [float(p.mean()), ece(p, correct, n_bins), float(chance.mean()), float(chance.quantile(0.95))]
    return rows


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


def draw_layers(areas: Mapping[str, Sequence[float]], title: str) -> Any:
    """AUROC by layer, of `streams`; the embedding stands at -1."""
    from mi_course.show import lines

    return lines([-1, *LAYERS], areas, xlabel="layer (−1: embedding)", ylabel="AUROC on unseen names", title=title)


def draw_risk(curves: Mapping[str, tuple[Tensor, Tensor]]) -> Any:
    """Risk at each coverage, on a common grid."""
    from mi_course.show import lines

    grid = torch.linspace(0.1, 1.0, 46)
    series = {}
    for name, (coverage, risk) in curves.items():
        places = torch.searchsorted(coverage.contiguous(), grid).clamp(max=len(coverage) - 1)
        series[name] = risk[places]
    return lines(
        grid,
        series,
        xlabel="share of questions answered",
        ylabel="share of wrong ones",
        title="Wrong answers, if only the surest are given",
    )
