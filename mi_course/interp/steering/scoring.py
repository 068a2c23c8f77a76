"""Judging what a model has written, without knowing under which condition it was written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.prompts import pad, token_ids

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.prompts import Prompt


def score_blind(
    conditions: Mapping[str, Sequence[str]], judge: Callable[[list[str]], Any], *, seed: int = 0
) -> dict[str, list[float]]:
    """The judge's score of every text, by condition. The judge gets all texts in one list, in random order.

    judge: a function of a list of texts that returns one number for each. ValueError if it returns another count.

    >>> score_blind({"a": ["xx", "x"], "b": ["xxx"]}, lambda texts: [len(text) for text in texts])
    {'a': [2.0, 1.0], 'b': [3.0]}
    """
    where = [(name, text) for name, texts in conditions.items() for text in texts]
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(seed)).tolist()
    scores = [float(score) for score in judge([where[i][1] for i in order])]
    if len(scores) != len(where):
        raise ValueError(f"The judge returned {len(scores)} scores for {len(where)} texts, expected one for each.")
    of = dict(zip(order, scores, strict=True))
    out: dict[str, list[float]] = {name: [] for name in conditions}
    for i, (name, _) in enumerate(where):
        out[name].append(of[i])
    return out


def different_words(text: str, words: Sequence[str]) -> int:
    """How many of these words occur in the text as whole words. A word that is repeated counts once.

    >>> different_words("Aye, aye! The season's players sail.", ["aye", "sea", "sail", "ship"])
    2
    """
    return len(set(re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())) & {word.lower() for word in words})


def variety(text: str) -> float:
    """Share of different pairs among the text's pairs of neighboring words: 1 without repetition, near 0 in a loop.

    >>> variety("aye aye aye aye aye")
    0.25
    """
    words = text.lower().split()
    pairs = list(itertools.pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def preference(
    model: TransformerBridge,
    responses: Sequence[str],
    under: Sequence[Prompt],
    instead_of: Sequence[Prompt],
    *,
    batch_size: int = 8,
) -> Float[Tensor, " response"]:
    """How much likelier the unsteered model finds each response after one prompt than after another: nats per token.

    A judge of style that needs no list of words: which of two system prompts would rather have produced this text?
    under, instead_of: a prompt for each response. ValueError for other counts, or an empty response.
    """
    if not len(responses) == len(under) == len(instead_of):
        raise ValueError(
            f"{len(responses)} responses, {len(under)} and {len(instead_of)} prompts: expected one of each."
        )
    after = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in responses]
    if not all(after):
        raise ValueError(f"Response {[not row for row in after].index(True)} holds no tokens, so it has no mean.")
    likelihoods = []
    for prompts in (under, instead_of):
        before = token_ids(model, prompts)
        parts = []
        for start in range(0, len(after), batch_size):
            some = slice(start, start + batch_size)
            rows = [prompt + response for prompt, response in zip(before[some], after[some], strict=True)]
            tokens, _ = pad(rows, "right", model.cfg.device)
            with torch.no_grad():
                logits = model(tokens, return_type="logits")
            for i, (row, response) in enumerate(zip(rows, after[some], strict=True)):
                own = slice(len(row) - len(response), len(row))
                ahead = logits[i, own.start - 1 : own.stop - 1].float()
                parts.append(-torch.nn.functional.cross_entropy(ahead, tokens[i, own]).cpu())
        likelihoods.append(torch.stack(parts))
    return likelihoods[0] - likelihoods[1]
