# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # {{lesson}}
#
# You will find a feature in a real model, name it by a rule that can fail, and turn it up.
#
# About {{minutes}} minutes · {{points}} points.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("feature_steering"), mi_course.load_model(compatibility=False)

# %% [markdown] id="ask-top_activations"
# ### Where is it strongest?
#
# {{exercise top_activations}}
#
# `f` holds one latent's activation on each token of a text. Return positions, that is, indices into `f`. Only *active* tokens are listed, those above 0; where fewer than n are active, the list is shorter, and where none is, or n is 0, it is empty. `f` may hold negative values, because the same function will serve for neurons and directions: they are not active, however large. The order among equal activations is free, and so is the choice if only some of them have room.

# %% id="answer-top_activations"
from jaxtyping import Float, Int
from torch import Tensor


def top_activations(f: Float[Tensor, "token"], n: int) -> list[int]:
    """Positions of the n largest activations, largest first; fewer if fewer than n tokens are active.

    f: activations of one latent, active where above 0.
    """
    # BEGIN SOLUTION
    active = (f > 0).nonzero().flatten()
    order = f[active].argsort(descending=True)
    return active[order][:n].tolist()
    # END SOLUTION


lesson.check(top_activations)

# %% [markdown] id="ask-quantile_examples"
# ### And in the rest of its range?
#
# {{exercise quantile_examples}}
#
# Sort the active tokens (above 0; `f` may hold negative values) from the strongest, rank 0, to the weakest. `edges` are shares of *their* number m, ascending, between 0 and 1: the band between two successive edges a and b holds the ranks from `round(a * m)` up to, not including, `round(b * m)`. So `[0, 0.1, 0.5, 1]` makes three bands: the strongest tenth, the rest of the upper half, the lower half. The first edge may be above 0 and the last below 1; a band may be empty.
#
# For each band return a list of n positions, drawn at random without replacement; all of its positions if it has fewer than n. Within a band each position is as likely as any other, and each pair as any other pair. The seed decides: the same seed gives the same positions, another seed others, and the global random state stays as it is. The order within a band is free. Equal activations may be ranked in any order, but no position stands in two bands.


# %% id="answer-quantile_examples"
from itertools import pairwise


def quantile_examples(
    f: Float[Tensor, "token"], edges: list[float], n: int, seed: int
) -> list[list[int]]:
    """Random positions from each band of ranks: for each, n of them, or all if it has fewer.

    f: activations of one latent, active where above 0.
    edges: ranks as shares of the active tokens, ascending; 0 is the largest activation, 1 the smallest.
    """
    # BEGIN SOLUTION
    active = (f > 0).nonzero().flatten()
    order = active[f[active].argsort(descending=True)]
    cuts = [round(edge * len(order)) for edge in edges]
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for start, end in pairwise(cuts):
        band = order[start:end]
        drawn = torch.randperm(len(band), generator=generator)[:n]
        examples.append(band[drawn].tolist())
    return examples
    # END SOLUTION


lesson.check(quantile_examples)

# %% [markdown] id="ask-logit_effect"
# ### What does it make likelier?
#
# {{exercise logit_effect}}
#
# `W_dec_row` is what the latent writes into the residual stream for each unit of activation, and `W_U` turns the stream into logits: token v gets the product of the row with column v. Return two lists of token ids: the n tokens with the highest logits, highest first, and the n with the lowest, lowest first. Both have n entries whatever the signs (adding one number to all logits changes neither the probabilities nor the order), or all tokens if the vocabulary is smaller than n; a token may then stand in both. With n = 0 both are empty. The order among equal logits is free.


# %% id="answer-logit_effect"
def logit_effect(
    W_dec_row: Float[Tensor, "d"], W_U: Float[Tensor, "d vocab"], n: int
) -> tuple[list[int], list[int]]:
    """Ids of the n tokens that a direction promotes most, and of the n that it suppresses most.

    The direct effect on the logits, as in a logit lens; the strongest effect comes first in both lists.
    W_U: with the weights of the final norm multiplied into its rows.
    """
    # BEGIN SOLUTION
    order = (W_dec_row @ W_U).argsort(descending=True)
    return order[:n].tolist(), order.flip(0)[:n].tolist()
    # END SOLUTION


lesson.check(logit_effect)

# %% [markdown] id="ask-ablation_effect"
# ### What is lost without it?
#
# {{exercise ablation_effect}}
#
# Both runs read the same `tokens`, one of them with the latent ablated. The loss at position i is −log p of the token at position i + 1. Return loss *with* the ablation minus loss without, for each text and position: positive where the model needed the latent, negative where it misled the model. The last position has no next token, so there is one number fewer than tokens, and none for a text of one token. Logits may be large, some hundreds.


# %% id="answer-ablation_effect"
def ablation_effect(
    logits_clean: Float[Tensor, "batch pos vocab"],
    logits_ablated: Float[Tensor, "batch pos vocab"],
    tokens: Int[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos-1"]:
    """Rise of the next-token loss by an ablation, in nats: ablated minus clean.

    Entry [b, i] is about the prediction of tokens[b, i + 1].
    """

    # BEGIN SOLUTION
    def loss(logits):
        logprobs = logits[:, :-1].log_softmax(dim=-1)
        return -logprobs.gather(2, tokens[:, 1:, None])[:, :, 0]

    return loss(logits_ablated) - loss(logits_clean)
    # END SOLUTION


lesson.check(ablation_effect)
