"""What SmolLM2 knows about facts and people, and how sure it is: the data of lesson 08 and the tools to read it.

    for q in questions(): q.prompt(), q.answers            540 questions in ten relations, with accepted answers
    names("famous"), names("shuffled")                     people, and names that are nobody's
    known = attributes_right(model, names())               occupation, nationality and century, by closed choice
    answers()                                              what the model answered: stored, with sampled answers

The data are `data/facts.json` and `data/smollm2-answers.json`; the scripts beside them say how they were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.models.where import data_dir
from mi_course.interp.prompts import last_logits, read_prompts, token_ids

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
        Name(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}) for row in rows
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
