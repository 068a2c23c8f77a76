"""What a head would write about a name, read from its weights alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _copying_score(inputs: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor, tokens: Tensor, k: int) -> float:
    """Oracle: one name at a time, counting the tokens with a larger logit."""
    copied = 0
    for i, token in enumerate(tokens.tolist()):
        logits = (((inputs[i].double() @ W_V.double()) @ W_O.double()) @ W_U.double()).tolist()
        copied += sum(logit > logits[token] for logit in logits) < k
    return copied / len(tokens)


def _logits(inputs: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    return inputs.double() @ W_V.double() @ W_O.double() @ W_U.double()


def _share(logits: Tensor, tokens: Tensor, k: int) -> float:
    """The share of rows in which fewer than k logits are larger than that of the row's token."""
    own = logits.gather(1, tokens[:, None])
    return float(((logits > own).sum(1) < k).double().mean())


def _changed(change: Callable[..., float]) -> Callable[..., float]:
    """A copying score that is change(logits, tokens, k)."""
    return lambda inputs, W_V, W_O, W_U, tokens, k: change(_logits(inputs, W_V, W_O, W_U), tokens, k)


def _among_themselves(logits: Tensor, tokens: Tensor, k: int) -> float:
    return _share(logits[:, tokens], torch.arange(len(tokens)), k)


def _any_of_them(logits: Tensor, tokens: Tensor, k: int) -> float:
    best = logits.topk(k, dim=1).indices
    return float((best[..., None] == tokens).any(-1).any(-1).double().mean())


_OTHERS: dict[str, Callable[..., float]] = {
    "suppressing": _changed(lambda logits, tokens, k: _share(-logits, tokens, k)),
    "largest_only": _changed(lambda logits, tokens, k: _share(logits, tokens, 1)),
    "one_too_many": _changed(lambda logits, tokens, k: _share(logits, tokens, k + 1)),
    "among_the_names": _changed(_among_themselves),
    "any_name": _changed(_any_of_them),
    "without_the_head": lambda inputs, W_V, W_O, W_U, tokens, k: _share(inputs @ W_U, tokens, k),
    "absolute": _changed(lambda logits, tokens, k: _share(logits.abs(), tokens, k)),
}


def _case(draw: RandomInputs, names: int, d_model: int, d_head: int, vocab: int, k: int, twice: int = 0) -> Case:
    """Inputs of which the head copies some, suppresses some, and does something else with the rest.

    twice: how many of the names occur a second time, with another input.
    """
    for _ in range(200):
        tokens = torch.tensor(draw.permutation(vocab)[:names])
        tokens[names - twice :] = tokens[:twice]
        W_U = draw.normal(d_model, vocab)
        W_V, W_O = draw.normal(d_model, d_head), draw.normal(d_head, d_model)
        # What this head would have to read in order to write each token up, or down.
        wanted = torch.linalg.pinv((W_V @ W_O).T) @ W_U[:, tokens]
        signs = draw.normal(names, mean=0.4)
        inputs = (signs * wanted / wanted.norm(dim=0)).T + draw.normal(names, d_model, std=0.15)
        logits = _logits(inputs, W_V, W_O, W_U)
        gaps = logits.sort(dim=1).values.diff(dim=1).min()
        truth = _share(logits, tokens, k)
        others = [f(inputs, W_V, W_O, W_U, tokens, k) for f in _OTHERS.values()]
        if gaps > 1e-4 and 0 < truth < 1 and (names < 4 or truth not in others):
            break
    return case(
        inputs,
        W_V,
        W_O,
        W_U,
        tokens,
        k,
        about=f"{names} names of {vocab} tokens{', some of them twice' if twice else ''}, the {k} largest logits",
    )


def _lowered(draw: RandomInputs) -> Case:
    """A head that lowers every logit, some less than others."""
    while True:
        inputs, W_V, W_O = (draw.uniform(*shape, low=0.2) for shape in ((8, 5), (5, 3), (3, 5)))
        W_U, tokens = -draw.uniform(5, 20, low=0.1, high=2.0), torch.tensor(draw.permutation(20)[:8])
        if 0 < _share(_logits(inputs, W_V, W_O, W_U), tokens, 6) < 1:
            return case(inputs, W_V, W_O, W_U, tokens, 6, about="8 names of 20 tokens, a head that lowers every logit")


def _single_cases(draw: RandomInputs, size: str) -> list[Case]:
    """One name each: copied, or not."""
    cases = []
    for copied in (True, False):
        while True:
            made = _case(draw, 4, 6, 3, 11, 3)
            inputs, W_V, W_O, W_U, tokens, k = made.calls[0].args
            rows = [
                i
                for i in range(4)
                if (_share(_logits(inputs[i : i + 1], W_V, W_O, W_U), tokens[i : i + 1], k) == 1) == copied
            ]
            if rows:
                break
        i = rows[0]
        cases.append(
            case(
                inputs[i : i + 1],
                W_V,
                W_O,
                W_U,
                tokens[i : i + 1],
                k,
                about=f"a single name, {'' if copied else 'not '}copied",
            )
        )
    return cases


COPYING_SCORE = Exercise(
    id="activation_patching.copying_score",
    task="The share of names that are among the `k` largest of all the logits of x @ W_V @ W_O @ W_U, where x is the name's own row of `inputs`. `k` is smaller than the vocabulary, and no two logits are equal.",
    minutes=8,
    difficulty=2,
    fixed={
        "W_U[1]": "the names are tokens of the vocabulary",
        "inputs=0": "all logits would be equal",
        "result>=0": "a share",
        "result<=1": "a share",
    },
    oracle=_copying_score,
    parts=(
        Part(
            "heads that copy some names and suppress others",
            2,
            lambda draw, size: (
                [
                    _case(draw, *shape)
                    for shape in (
                        (9, 8, 5, 23, 4),
                        (12, 10, 4, 31, 3),
                        (7, 6, 6, 19, 2),
                        (10, 9, 1, 26, 5),
                        (9, 7, 4, 17, 3, 4),
                    )
                ]
                + [_lowered(draw)]
            ),
        ),
        Part("a single name", 1, _single_cases),
    ),
    mistakes=(
        Mistake(
            "suppressing",
            "You counted names among the k *smallest* logits. That is the score of a head that writes names down; here those that it writes up are asked for.",
            _OTHERS["suppressing"],
        ),
        Mistake(
            "largest_only",
            "You counted names whose logit is the largest of all. Among the first k is enough.",
            _OTHERS["largest_only"],
        ),
        Mistake(
            "one_too_many",
            "You looked at k + 1 logits. A name is among the k largest if fewer than k tokens have a larger one.",
            _OTHERS["one_too_many"],
        ),
        Mistake(
            "among_the_names",
            "You ranked the names among themselves. A head that raises all names alike would then look like no copier at all: rank each among all tokens of the vocabulary.",
            _OTHERS["among_the_names"],
        ),
        Mistake(
            "any_name",
            "You counted rows in which *some* name is among the k largest. The row's own name is asked for.",
            _OTHERS["any_name"],
        ),
        Mistake(
            "without_the_head",
            "You unembedded the inputs themselves. Send them through the head first: x @ W_V @ W_O.",
            _OTHERS["without_the_head"],
        ),
        Mistake(
            "absolute",
            "You ranked absolute values. A name that is written far down then counts as copied: keep the sign.",
            _OTHERS["absolute"],
        ),
        Mistake(
            "counted",
            "This is how many names are copied. Their share is asked for: divide by the number of names.",
            lambda inputs, W_V, W_O, W_U, tokens, k: _share(_logits(inputs, W_V, W_O, W_U), tokens, k) * len(tokens),
        ),
    ),
    hints=(
        "`inputs @ W_V @ W_O @ W_U` is [name, vocab]: for each name, what the head would add to every token's logit if it attended to nothing but that name.",
        "Either `topk(k)` along the vocabulary and look whether `tokens[:, None]` is in there, or count the tokens with a larger logit than the name's own.",
        "`own = logits.gather(1, tokens[:, None])`, then `((logits > own).sum(1) < k)`, and its mean as a float.",
    ),
    reveal="This is the copying score of Wang et al. (2022, section 3.1): attention is left out, and only W_V and W_O are asked what they make of a name. With −W_O in the place of W_O the same function counts names that are "
    "written *down*, which is how they found their negative heads.",
)
