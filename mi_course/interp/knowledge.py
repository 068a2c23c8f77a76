"""What SmolLM2 knows about facts and people, and how sure it is: the data of lesson 08 and the tools to read it.

    for q in questions(): q.prompt(), q.answers            540 questions in ten relations, with accepted answers
    names("famous"), names("shuffled")                     people, and names that are nobody's
    known = attributes_right(model, names())               occupation, nationality and century, by closed choice
    answers()                                              what the model answered: stored, with sampled answers

The data are `data/facts.json` and `data/smollm2-answers.json`; the scripts beside them say how they were made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.models.where import data_dir
from mi_course.interp.prompts import last_logits, pad, read_prompts, token_ids
from mi_course.interp.steering.activations import collect

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from transformer_lens.model_bridge import TransformerBridge

ATTRIBUTES = ("occupation", "nationality", "century")


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers."""

    relation: str
    subject: str
    answers: tuple[str, ...]
    wordings: tuple[str, ...]
    """The relation's; the first starts with two examples."""

    def prompt(self, wording: int = 0) -> str:
        return self.wordings[wording].format(self.subject)


@dataclass(frozen=True)
class Name:
    """A famous, obscure, invented or shuffled name. The last two are nobody's, and have no attributes."""

    name: str
    kind: str
    block: str
    """Names of one block may share halves; names of two blocks never do."""
    occupation: tuple[str, ...] = ()
    nationality: tuple[str, ...] = ()
    born: int | None = None

    def accepts(self, attribute: str, value: str) -> bool:
        """Whether this is a right value of one of the ATTRIBUTES. A century is its first two digits: "18" for 1879."""
        return value == str(self.born)[:2] if attribute == "century" else value in getattr(self, attribute)


@cache
def _facts() -> dict[str, Any]:
    return json.loads((data_dir() / "facts.json").read_text(encoding="utf-8"))


@cache
def questions() -> tuple[Question, ...]:
    """All questions, relation by relation."""
    wordings = {name: tuple(each) for name, each in _facts()["relations"].items()}
    return tuple(
        Question(row["relation"], row["subject"], tuple(row["answers"]), wordings[row["relation"]])
        for row in _facts()["questions"]
    )


@cache
def names(*kinds: str) -> tuple[Name, ...]:
    """The names of these kinds, or all, in the order of the file. Number i of two kinds but "obscure" belongs together.

    "invented" number i has as many tokens in either half as "famous" number i; "shuffled" number i has its first half.
    """
    rows = [row for row in _facts()["names"] if not kinds or row["kind"] in kinds]
    return tuple(
        Name(
            name=row["name"],
            kind=row["kind"],
            block=row["block"],
            occupation=tuple(row.get("occupation", ())),
            nationality=tuple(row.get("nationality", ())),
            born=row.get("born"),
        )
        for row in rows
    )


# ---------------------------------------------------------------------------------------------------------------------
# Answers


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an answer begins with one of the accepted ones. Case, quotation marks and an article do not matter.

    >>> is_right(' "Paris", the', ["Paris"]), is_right(" Parish", ["Paris"])
    (True, False)
    """
    said = plain(answer)
    return any(re.match(re.escape(plain(each)) + r"(?!\w)", said) is not None for each in accepted)


def plain(answer: str) -> str:
    """An answer in lower case without marks around it or an article before it.

    >>> plain(' "The yen".')
    'yen'
    """
    said = answer.lower().strip(" \n\t\"'“”‘’`*.,;:!?-")
    return re.sub(r"^(the|a|an|to) ", "", said).strip(" \"'“”‘’`*")


def same_answer(a: str, b: str) -> bool:
    """Whether two answers mean the same, by a rule: equal, or one begins or ends with all words of the other.

    >>> same_answer("Dickens", "Charles Dickens."), same_answer("York", "New Yorkshire")
    (True, False)
    """
    short, long = sorted((plain(a), plain(b)), key=len)
    if not short:
        return not long
    return re.search(rf"^{re.escape(short)}(?!\w)|(?<!\w){re.escape(short)}$", long) is not None


# ---------------------------------------------------------------------------------------------------------------------
# Attributes of people


OCCUPATIONS = (
    *("physicist", "mathematician", "astronomer", "chemist", "biologist", "naturalist", "philosopher", "writer"),
    *("poet", "painter", "composer", "singer", "actor", "inventor", "explorer", "politician", "economist", "general"),
)
NATIONALITIES = (
    *("English", "British", "Scottish", "Irish", "German", "Austrian", "French", "Italian", "Spanish", "Dutch"),
    *("Danish", "Swedish", "Russian", "Polish", "American", "Mexican", "Indian"),
)
CONTEXT = "Here is a short biography of {}"
"""In what names are read. A name that stands right behind BOS is read badly: there its halves are hardly joined."""


def closed_choice(
    model: TransformerBridge, prompts: Sequence[str], options: Sequence[str], batch_size: int = 32
) -> Float[Tensor, "prompt option"]:
    """Log-probability of each option's first token after each prompt. Options carry their own space."""
    ids = [model.tokenizer.encode(option, add_special_tokens=False)[0] for option in options]
    found = []
    with torch.no_grad():
        for start in range(0, len(prompts), batch_size):
            logits = last_logits(model, read_prompts(model, prompts[start : start + batch_size]))
            found.append(logits.log_softmax(-1)[:, ids])
    return torch.cat(found)


@dataclass(frozen=True)
class Attributes:
    """What the model says of each name's attributes, by closed choice."""

    chosen: list[tuple[str, str, str]]
    right: Bool[Tensor, "name attribute"]
    majority: dict[str, tuple[str, Bool[Tensor, " name"]]]
    """For each attribute the value that is right most often, and where it is right."""


def attributes(model: TransformerBridge, people: Sequence[Name]) -> Attributes:
    """Occupation and nationality are chosen after ", the famous", the century after " (born 1"."""
    famous = [CONTEXT.format(person.name) + ", the famous" for person in people]
    words = [*OCCUPATIONS, *NATIONALITIES]
    said = closed_choice(model, famous, [f" {word}" for word in words])
    digits = closed_choice(model, [CONTEXT.format(p.name) + " (born 1" for p in people], list("23456789"))
    n = len(OCCUPATIONS)
    picks = [
        [OCCUPATIONS[i] for i in said[:, :n].argmax(1).tolist()],
        [NATIONALITIES[i] for i in said[:, n:].argmax(1).tolist()],
        [f"1{i + 2}" for i in digits.argmax(1).tolist()],
    ]
    options = (OCCUPATIONS, NATIONALITIES, [f"1{i}" for i in range(2, 10)])
    right, majority = [], {}
    for attribute, picked, values in zip(ATTRIBUTES, picks, options, strict=True):
        right.append([person.accepts(attribute, value) for person, value in zip(people, picked, strict=True)])
        hits = {value: [person.accepts(attribute, value) for person in people] for value in values}
        best = max(hits, key=lambda value: sum(hits[value]))
        majority[attribute] = best, torch.tensor(hits[best])
    return Attributes(list(zip(*picks, strict=True)), torch.tensor(right).T, majority)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# Names as a model that knows nothing would see them


def token_features(model: TransformerBridge, people: Sequence[Name]) -> Float[Tensor, "name feature"]:
    """Tokens in the name, log rank of its last token and of its rarest, mean log rank, and letters.

    The rank is the token's number: the tokenizer was built by frequency, so that common tokens have low ones.
    """
    rows = []
    for person in people:
        ranks = torch.tensor(model.tokenizer.encode(f" {person.name}", add_special_tokens=False)).float().log()
        rows.append([len(ranks), float(ranks[-1]), float(ranks.max()), float(ranks.mean()), len(person.name)])
    return torch.tensor(rows)


def letter_features(people: Sequence[Name]) -> Float[Tensor, "name ngram"]:
    """How often each group of two or three letters stands in each name; groups that at least two names have."""
    counts: list[dict[str, int]] = []
    for person in people:
        text = f"^{person.name.lower()}$"
        row: dict[str, int] = {}
        for size in (2, 3):
            for i in range(len(text) - size + 1):
                row[text[i : i + size]] = row.get(text[i : i + size], 0) + 1
        counts.append(row)
    grams = sorted({gram for row in counts for gram in row if sum(gram in other for other in counts) > 1})
    return torch.tensor([[float(row.get(gram, 0)) for gram in grams] for row in counts])


def name_logprob(model: TransformerBridge, people: Sequence[Name], template: str = CONTEXT) -> Float[Tensor, " name"]:
    """Log-probability of a name's second half given all that stands before it, in nats."""
    whole = token_ids(model, [template.format(person.name) for person in people])
    begin = token_ids(model, [template.format(person.name.split()[0]) for person in people])
    found = []
    for start in range(0, len(people), 20):
        rows = whole[start : start + 20]
        tokens, _ = pad(rows, "right")
        with torch.no_grad():
            logits = model(tokens)
        for i, (row, first) in enumerate(zip(rows, begin[start : start + 20], strict=True)):
            places = torch.arange(len(first) - 1, len(row) - 1)
            found.append(float(logits[i, places].log_softmax(-1)[range(len(places)), row[len(first) :]].sum()))
    return torch.tensor(found)


# ---------------------------------------------------------------------------------------------------------------------
# Probes


def out_of_fold(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, " n"],
    folds: Sequence[Sequence[int]],
    fit: Callable[[Tensor, Tensor], tuple[Tensor, float]],
) -> Float[Tensor, " n"]:
    """Each row's score x @ w + b, from a probe that was fitted on the other folds."""
    scores = torch.zeros(len(y))
    for fold in folds:
        test = torch.zeros(len(y), dtype=torch.bool)
        test[list(fold)] = True
        w, b = fit(x[~test], y[~test])
        scores[test] = x[test] @ w + b
    return scores


def min_over_types(separations: Float[Tensor, "type unit"]) -> int:
    """The unit whose smallest separation over the types is largest (Ferrando et al. 2024).

    >>> min_over_types(torch.tensor([[0.9, 0.5], [0.1, 0.4]]))
    1
    """
    return int(separations.amin(dim=0).argmax())


# ---------------------------------------------------------------------------------------------------------------------
# How sure the model is


@dataclass(frozen=True)
class Answered:
    """What the model answered to a question, as `data/sample_answers.py` stored it."""

    question: Question
    answer: str
    logprobs: list[float]
    """Of each token of the answer, in nats."""
    samples: list[str]
    sample_logprobs: list[float]
    yes: float
    """Log-odds of " Yes" over " No" when it is asked whether its answer is true."""

    @property
    def right(self) -> bool:
        return is_right(self.answer, self.question.answers)


@cache
def answers() -> tuple[Answered, ...]:
    """All questions with the model's answers, in the order of `questions()`."""
    rows = json.loads((data_dir() / "smollm2-answers.json").read_text(encoding="utf-8"))["answers"]
    return tuple(Answered(question, **row) for question, row in zip(questions(), rows, strict=True))


def half(held_out: bool) -> tuple[Answered, ...]:
    """Every other question: 270 to work with, and 270 that are held out."""
    return answers()[int(held_out) :: 2]


def entropy(weights: Sequence[float]) -> float:
    """In nats, of weights that need not sum to 1.

    >>> round(entropy([1.0, 1.0]), 3)
    0.693
    """
    p = torch.tensor(weights, dtype=torch.float64)
    return float(torch.distributions.Categorical(probs=p / p.sum()).entropy())


def string_entropy(samples: Sequence[str], logprobs: Sequence[float]) -> float:
    """Entropy over the different strings, with the weights of `semantic_entropy`: nats."""
    weights = torch.tensor(logprobs).double().softmax(0).tolist()
    return entropy([sum(w for w, s in zip(weights, samples, strict=True) if s == each) for each in sorted({*samples})])


def meanings(samples: Sequence[str]) -> list[list[int]]:
    """Samples that mean the same by `same_answer`, through any number of steps."""
    classes: list[list[int]] = []
    for i, answer in enumerate(samples):
        joined = [c for c in classes if any(same_answer(answer, samples[j]) for j in c)]
        classes = [c for c in classes if c not in joined] + [sorted([i, *(j for c in joined for j in c)])]
    return classes


@cache
def signals(held_out: bool) -> tuple[dict[str, Float[Tensor, " n"]], Bool[Tensor, " n"]]:
    """The lesson's signals of one half of the questions, and which the model answered rightly.

    "first-token probability" is the model's own top probability. The entropies are high where it is unsure.
    """
    each = half(held_out)
    found = {
        "first-token probability": [math.exp(row.logprobs[0]) for row in each],
        "answer probability": [math.exp(sum(row.logprobs)) for row in each],
        "log-probability per token": [sum(row.logprobs) / len(row.logprobs) for row in each],
        "string entropy": [string_entropy(row.samples, row.sample_logprobs) for row in each],
        "semantic entropy": [_semantic_entropy(row) for row in each],
        "samples that agree": [
            sum(same_answer(row.answer, sample) for sample in row.samples) / len(row.samples) for row in each
        ],
        "P(true)": [row.yes for row in each],
        "length of the answer": [float(len(row.logprobs)) for row in each],
    }
    return {name: torch.tensor(values) for name, values in found.items()}, torch.tensor([row.right for row in each])


def _semantic_entropy(row: Answered) -> float:
    weights = torch.tensor(row.sample_logprobs).double().softmax(0).tolist()
    return entropy([sum(weights[i] for i in c) for c in meanings(row.samples)])


# ---------------------------------------------------------------------------------------------------------------------
# Matched names


@cache
def matched(held_out: bool) -> tuple[Name, ...]:
    """The famous names of half of the blocks, then the names that are shuffled from their halves; 40 of each."""
    blocks = sorted({name.block for name in names("famous")}, key=lambda block: int(block.split()[-1]))
    wanted = blocks[int(held_out) :: 2]
    return tuple(name for kind in ("famous", "shuffled") for name in names(kind) if name.block in wanted)


def read(
    model: TransformerBridge, people: Sequence[Name], layers: int | Sequence[int], template: str = CONTEXT
) -> Float[Tensor, "*layer name d_model"]:
    """`hook_resid_post` at each name's last token, read in a template: one layer, or several."""
    return collect(model, [template.format(person.name) for person in people], layers)


def embeddings(model: TransformerBridge, people: Sequence[Name]) -> Float[Tensor, "name d_model"]:
    """The embedding of each name's last token, which knows nothing of what stands before it."""
    last = [model.tokenizer.encode(f" {person.name}", add_special_tokens=False)[-1] for person in people]
    return model.W_E[last].detach()
