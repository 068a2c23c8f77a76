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
# (not written yet) What the learner can do afterwards, in one sentence.
#
# About {{minutes}} minutes · {{points}} points · after lesson 04.

# %% id="setup"
import torch
import mi_course

lesson = mi_course.lesson("latent_structure")

# %% [markdown] id="part-a"
# ## Part A. What must a perfect predictor carry?
#
# (opening)

# %% [markdown] id="ask-belief_update"
# ### One more token
#
# {{exercise belief_update}}
#
# `T[x, s, r]` is the probability that the process, in state s, emits token x **and** moves to state r; for each s these numbers sum to 1 over x and r. `belief[s]` is the probability that it is in state s now, and sums to 1. Return the belief about the state that it is in *after* emitting `token`; it sums to 1 again. A token
# that cannot follow, of probability exactly 0 under the belief, raises `ValueError`; one of a very small probability is no error. There may be a single state. `belief` and `T` stay as they are.

# %% id="answer-belief_update"
from jaxtyping import Float, Int
from torch import Tensor


def belief_update(
    belief: Float[Tensor, "state"], T: Float[Tensor, "token state state"], token: int
) -> Float[Tensor, "state"]:
    """The belief about the state after one more token, by Bayes's rule.

    belief: probabilities of the states before it. T[x, s, r]: probability of emitting x and moving to r, from s.
    Raises ValueError if the token has probability 0.
    """
    # BEGIN SOLUTION
    joint = belief @ T[token]  # probability of this token and of being in each state then
    if joint.sum() == 0:
        raise ValueError(f"token {token} cannot follow")
    return joint / joint.sum()
    # END SOLUTION


lesson.check(belief_update)

# %% [markdown] id="ask-belief_states"
# ### A whole string
#
# {{exercise belief_states}}
#
# Position 0 is the belief after the first token. `initial` is the belief before it, the same for every string, and need not be uniform. Every token that is asked for can occur. Strings may have hundreds of tokens, whose probability is then smaller than any float32. There may be a single string, a single token and a single state; the
# arguments stay as they are.


# %% id="answer-belief_states"
def belief_states(
    tokens: Int[Tensor, "batch pos"],
    T: Float[Tensor, "token state state"],
    initial: Float[Tensor, "state"],
) -> Float[Tensor, "batch pos state"]:
    """The belief after each token of each string; each belief sums to 1.

    initial: the belief before the first token. T[x, s, r]: probability of emitting x and moving to r, from s.
    """
    # BEGIN SOLUTION
    belief, beliefs = initial.expand(len(tokens), -1), []
    for pos in range(tokens.shape[1]):
        belief = torch.einsum("bs,bsr->br", belief, T[tokens[:, pos]])
        belief = belief / belief.sum(dim=1, keepdim=True)
        beliefs.append(belief)
    return torch.stack(beliefs, dim=1)
    # END SOLUTION


lesson.check(belief_states)

# %% [markdown] id="ask-distinguishing_pairs"
# ### What next-token prediction alone would not need
#
# {{exercise distinguishing_pairs}}
#
# `beliefs` are distributions over the states of `T`. Two of them differ if in at least one state they differ by more than `tol`; they expect the same next token if the probability of **every** token differs by at most `tol`. Return a list of pairs of indices (i, j) with i < j, sorted by i and then by j; it is empty if there are none. No
# difference that is judged lies near `tol`. A belief may occur several times, and there may be a single one.


# %% id="answer-distinguishing_pairs"
def distinguishing_pairs(
    beliefs: Float[Tensor, "belief state"], T: Float[Tensor, "token state state"], tol: float
) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of beliefs that differ and yet expect the same next token.

    T[x, s, r]: probability of emitting x and moving to r, from s. tol: the largest difference that counts as none.
    """
    # BEGIN SOLUTION
    expected = beliefs @ T.sum(dim=2).T  # [belief token]
    belief_gap, token_gap = (
        (rows[:, None] - rows[None]).abs().amax(dim=-1) for rows in (beliefs, expected)
    )
    pairs = (token_gap <= tol) & (belief_gap > tol)
    return [(i, j) for i, j in pairs.triu(1).nonzero().tolist()]
    # END SOLUTION


lesson.check(distinguishing_pairs)

# %% [markdown] id="ask-optimal_loss"
# ### As good as it can get
#
# {{exercise optimal_loss}}
#
# Entry i is the loss of token i, predicted from the i tokens before it and the knowledge of `T`; entry 0 is that of the first token, before which nothing was seen. The first token comes from the stationary distribution of the process, which `stationary_distribution(T)` computes. Strings that cannot occur add nothing. `n` is at most 8 and
# at least 1, with at most four tokens: enumerate. There may be a single state.


# %% id="answer-optimal_loss"
from mi_course.interp.processes import stationary_distribution


def optimal_loss(T: Float[Tensor, "token state state"], n: int) -> Float[Tensor, "pos"]:
    """Mean loss of a perfect predictor at each of the first n tokens, in nats; exact, over all strings.

    T[x, s, r]: probability of emitting x and moving to r, from s; the process starts in its stationary distribution.
    """
    # BEGIN SOLUTION
    weights, losses = stationary_distribution(T)[None], []  # [string state]
    for _ in range(n):
        grown = torch.einsum("is,xsr->ixr", weights, T)
        joint = grown.sum(dim=2)  # [string token]
        losses.append(-torch.xlogy(joint, joint / joint.sum(dim=1, keepdim=True)).sum())
        weights = grown.flatten(0, 1)[joint.flatten() > 0]
    return torch.stack(losses)
    # END SOLUTION


lesson.check(optimal_loss)

# %% [markdown] id="ask-held_out_r2"
# ### A map, and what it was not fitted on
#
# {{exercise held_out_r2}}
#
# Each value that occurs in `groups` names a group, of any size, in any order. For each group fit an affine map by least squares on the samples of all **other** groups, and predict the group's. With the squared errors of all groups and all states added up, and beside them the squared distances of the same samples to the mean of y in the part that was fitted
# on, R² is 1 − errors / distances: a float, and negative where the map is worse than that mean. `fit_affine(x, y)` gives A and b; its tiny ridge makes no difference here. There are at least two groups, and enough samples in the others to fit a map.


# %% id="answer-held_out_r2"
from mi_course.interp.processes import fit_affine


def held_out_r2(
    x: Float[Tensor, "sample d"],
    y: Float[Tensor, "sample state"],
    groups: Int[Tensor, "sample"],
) -> float:
    """R² of affine maps from x to y, each fitted without one group and judged on it; pooled over groups and states.

    groups: the group of each sample; a group is never split. Distances are from the mean of the part fitted on.
    """
    # BEGIN SOLUTION
    errors, distances = 0.0, 0.0
    for group in groups.unique():
        held = groups == group
        A, b = fit_affine(x[~held], y[~held])
        errors += (y[held] - (x[held] @ A + b)).square().sum().item()
        distances += (y[held] - y[~held].mean(dim=0)).square().sum().item()
    return 1 - errors / distances
    # END SOLUTION


lesson.check(held_out_r2)

# %% [markdown] id="ask-belief_intervention"
# ### Is it used?
#
# {{exercise belief_intervention}}
#
# The map reads `resid @ A + b` at every position of every prompt. Change the stream so that it reads `target`, and change it by the smallest vector that does. `target` is one belief for all, [state], or broadcasts against [batch pos state]. The readings of a map that was fitted to beliefs sum to 1, so the columns of `A` sum to 0 and $A^\top A$ has no inverse: take singular values
# of `A` below 1e-4 of the largest for zero, as `torch.linalg.pinv(A, rtol=1e-4)` does. If no change reads exactly `target`, come as near as possible, by least squares. Change `resid` in place or return a new tensor; there may be one prompt, one position and one state.


# %% id="answer-belief_intervention"
def belief_intervention(
    resid: Float[Tensor, "batch pos d"],
    hook,
    A: Float[Tensor, "d state"],
    b: Float[Tensor, "state"],
    target: Float[Tensor, "... state"],
) -> Float[Tensor, "batch pos d"]:
    """A hook: the least change to the residual stream after which the map x A + b reads `target`."""
    # BEGIN SOLUTION
    missing = target - (resid @ A + b)
    return resid + missing @ torch.linalg.pinv(A, rtol=1e-4)
    # END SOLUTION


lesson.check(belief_intervention)

# %% [markdown] id="part-b"
# ## Part B. An algorithm that nobody wrote
#
# (not written yet)

# %% [markdown] id="part-c"
# ## Part C. Connecting the dots
#
# (not written yet)

# %% id="claims-recap" tags=["claims"]
claim("(not written yet) What the recap says, with its margin.", ...)

# %% [markdown] id="recap"
# ## What you have done
#
# (not written yet) What was found, and what was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
