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
# You will find out what a model has inferred that nobody told it: compute what a perfect predictor must believe, read that belief from a transformer's stream and hold it against controls that make the famous picture look poor, change it and see the predictions follow, and take apart an algorithm that training wrote by itself.
#
# About {{minutes}} minutes · {{points}} points · after lesson 04. All models are small, ours, and trained on processes that we know completely, so that for each question there is a right answer to compare with. They come with the course; no network is needed. Sources: Shai et al. 2024, *Transformers Represent Belief State Geometry in their Residual Stream*; Nanda et al. 2023,
# *Progress Measures for Grokking via Mechanistic Interpretability*.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson = mi_course.lesson("latent_structure")

# %% [markdown] id="part-a"
# ## Part A. What must a perfect predictor carry?
#
# A machine has two modes, and you see only what it prints. In *calm* mode it prints a 1 with probability 0.1, in *busy* mode with 0.6; after each token it stays in its mode with probability 0.8. You do not know the mode. What do you need to remember of all that it has printed so far, to predict what comes next as well as anybody can?
#
# One number: how likely it is to be busy. Take it on paper. At first either mode is equally likely, and the machine prints a 1.
#
# 1. **How well did each mode explain it?** 0.5 · 0.1 = 0.05 for calm, 0.5 · 0.6 = 0.30 for busy. Together 0.35, which was the probability of the 1. Divide: 0.14 and 0.86.
# 2. **And then it moved.** Busy now: 0.86 · 0.8 + 0.14 · 0.2 = 0.71.
#
# That is the **belief** after the 1: (0.29, 0.71). Everything that the tokens say about the future is in it, and it is updated token by token. Any perfect predictor has to carry it in some form (Shai et al. 2024 ask in which form a transformer does). Nobody tells the model that there are modes.
#
# **Predict**, before you write it: the machine prints 0 next. Is it more likely calm or busy after that?

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

# %% id="use-by-hand"
update = lesson.use("belief_update")
emit, move = torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([[0.8, 0.2], [0.2, 0.8]])
machine = torch.einsum("sx,sr->xsr", emit, move)
after_one = update(torch.tensor([0.5, 0.5]), machine, 1)
after_zero = update(after_one, machine, 0)
print("after 1:   ", [f"{p:.2f}" for p in after_one.tolist()])
print("after 1, 0:", [f"{p:.2f}" for p in after_zero.tolist()])

# %% id="claims-by-hand-seen" tags=["claims"]
from mi_course import claim

lesson.seen("after-one", after_one[1], ".2f")
lesson.seen("after-zero", after_zero[1], ".2f")
claim(
    "after a 1 the machine is busy with probability 0.71, as on paper",
    abs(after_one[1] - 0.714) < 0.002,
)
claim(
    "after 1, 0 it is still busier than not, by less than 0.05", 0 < after_zero[1] - 0.5 < 0.05
)

# %% [markdown] id="by-hand-seen"
# <details><summary>What you should see</summary>
#
# {{seen:after-one}}, as on paper, and {{seen:after-zero}} after the `0`: a `0` speaks for calm, but the `1` before it is not forgotten. A predictor that looked at the last token alone would have to say the same after every `0`.
# </details>

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

# %% [markdown] id="use-fractal-intro"
# ### The fractal
#
# With three states a belief is a point in a triangle. **Mess3** has three states and three tokens: it mostly stays where it is, and mostly prints the token of its state. Each string of tokens leads to a point. All the points together make a fractal, since each token maps the whole triangle into a smaller one.
#
# `tiny-mess3` is a transformer of two layers that was trained to predict the next token of such strings, and on nothing else. Fit an affine map from its residual stream (32 numbers) to the belief (three), and draw what it reads beside the truth. **Predict:** will you recognize the fractal? And, before you look: what would the same map read from a network that was *never trained*?

# %% id="use-fractal"
from mi_course.interp.belief_study import (
    contexts_of,
    in_sample_r2,
    shuffled_beliefs,
    untrained_like,
)
from mi_course.interp.models import load_native
from mi_course.interp.processes import fit_affine, mess3, next_token_probabilities

mess3_model, fractal = load_native("tiny-mess3"), contexts_of(mess3(), n=160)
mine = lesson.use("belief_states")(fractal.tokens, mess3(), torch.full((3,), 1 / 3))
print(
    "your beliefs are the course's to 1e-4:", torch.allclose(mine, fractal.beliefs, atol=1e-4)
)
stream = fractal.stream(mess3_model, 2)
read = fit_affine(stream, fractal.y)(stream)
print(f"R² of the map, on what it was fitted on: {in_sample_r2(stream, fractal.y):.3f}")

# %% id="fractal-picture" tags=["not-compared"]
from mi_course.interp.belief_study import simplex_rows

show.scatter(
    **simplex_rows({"the truth": fractal.y, "read from the model": read}, color_by=fractal.y),
    ylabel="height in the triangle of beliefs",
    title="A map of 32 numbers to three finds the fractal in the model",
)

# %% [markdown] id="use-controls-intro"
# There it is. And now the controls, each with the same map: ten networks that were never trained; no network at all, but the three next-token probabilities that a perfect predictor would give; and the trained model with the beliefs *exchanged*, each for another one, so that there are as many points and no geometry. **Predict** the four numbers.

# %% id="use-controls"
expected = next_token_probabilities(fractal.beliefs, mess3())
untrained = [
    in_sample_r2(fractal.stream(untrained_like(mess3_model, seed), 2), fractal.y)
    for seed in range(10)
]
mess3_scores = {
    "trained": in_sample_r2(stream, fractal.y),
    "untrained (mean of ten)": sum(untrained) / 10,
    "next-token probabilities": in_sample_r2(fractal.flat(expected), fractal.y),
    "trained, beliefs exchanged": in_sample_r2(stream, shuffled_beliefs(fractal.y)),
}
show.table(mess3_scores, ["R²"], title="Reading Mess3's beliefs", digits=3)

# %% id="claims-fractal-seen" tags=["claims"]
lesson.seen("mess3-trained", mess3_scores["trained"], ".3f")
lesson.seen("mess3-untrained", mess3_scores["untrained (mean of ten)"], ".2f")
lesson.seen("mess3-next", mess3_scores["next-token probabilities"], ".3f")
lesson.seen("mess3-shuffled", mess3_scores["trained, beliefs exchanged"], ".2f")
claim("the trained model's R² on Mess3 exceeds 0.95", mess3_scores["trained"] > 0.95)
claim("each of ten untrained ones has more than 0.8", min(untrained) > 0.8)
claim(
    "the next-token probabilities give the belief exactly",
    mess3_scores["next-token probabilities"] > 0.999,
)
claim(
    "with beliefs exchanged less than half is left",
    mess3_scores["trained, beliefs exchanged"] < 0.5,
)

# %% [markdown] id="fractal-seen"
# <details><summary>What you should see</summary>
#
# The fractal is there, R² {{seen:mess3-trained}}. It is nearly there in networks that learned nothing ({{seen:mess3-untrained}}): Mess3's belief is close to a weighted sum of the last few tokens, and any network passes those on. And the next-token probabilities alone give it exactly ({{seen:mess3-next}}): three states, three tokens, so that a belief and what it expects are the same three numbers in other units. A
# model that cared for nothing but the next token would show the same picture. Only the exchanged beliefs ({{seen:mess3-shuffled}}) say that the *arrangement* counts.
#
# So the picture is right, and proves little. To learn whether a model carries more than the next token needs, take a process in which a belief *is* more.
# </details>

# %% [markdown] id="ask-distinguishing_pairs"
# ### What next-token prediction alone would not need
#
# {{exercise distinguishing_pairs}}
#
# `beliefs` are distributions over the states of `T`. Two of them differ if in at least one state they differ by more than `tol`; they expect the same next token if the probability of **every** token differs by at most `tol`. Return a list of pairs of indices (i, j) with i < j, sorted by i and then by j; it is empty if there are none. No
# difference that is judged lies near `tol`, which is positive. A belief may occur several times; there may be a single belief, a single state or a single token.


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

# %% [markdown] id="use-pairs-intro"
# Three processes. **Mess3** you know. **Ring** is ours: three states in a ring, from each of which it moves on with probability 0.9, and two tokens, of which the states print the second with probability 0.05, 0.5 and 0.95. **RRXOR** (Shai et al. 2024) prints a random bit, another random bit, then the XOR of the two, and begins again; its states are where it is in the triple and what it has to
# remember.
#
# Among all beliefs that their strings lead to, which pairs expect the same next token within 0.01? By how much do the beliefs of such a pair differ at most? **Predict** the order of the three.

# %% id="use-pairs"
from mi_course.interp.belief_study import belief_ids
from mi_course.interp.processes import ring, rrxor

find_pairs, widest = lesson.use("distinguishing_pairs"), {}
studied = {"Mess3": mess3(), "ring": ring(), "RRXOR": rrxor()}
for name, T in studied.items():
    beliefs = contexts_of(T, first=0).y.unique(dim=0)
    pairs = torch.tensor(find_pairs(beliefs, T, 0.01))
    widest[name] = (
        (beliefs[pairs[:, 0]] - beliefs[pairs[:, 1]]).abs().max() if len(pairs) else 0.0
    )
    print(
        f"{name:<6} {len(beliefs):>4} beliefs, {len(pairs):>5} pairs, at most {widest[name]:.2f} apart"
    )

# %% id="claims-pairs-seen" tags=["claims"]
lesson.seen("widest-mess3", widest["Mess3"], ".2f")
lesson.seen("widest-ring", widest["ring"], ".2f")
lesson.seen("widest-rrxor", widest["RRXOR"], ".2f")
claim(
    "in Mess3 beliefs that expect the same are the same, within 0.02", widest["Mess3"] < 0.02
)
claim("in the ring some are 0.3 apart", widest["ring"] > 0.3)
claim("in RRXOR some are 0.9 apart", widest["RRXOR"] > 0.9)

# %% [markdown] id="pairs-seen"
# <details><summary>What you should see</summary>
#
# In Mess3 no two beliefs that expect the same token differ by more than {{seen:widest-mess3}}. In the ring they differ by up to {{seen:widest-ring}}, in RRXOR by up to {{seen:widest-rrxor}}: after a first bit you are sure of it or of its opposite, and the second is random either way. There the belief is more than the next token, and a model that only kept what it needs *now* would have thrown the difference away.
# </details>

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

# %% [markdown] id="use-loss-intro"
# If a model is a perfect predictor, then it carries the belief in *some* form. Is it? Hold the losses of two trained models against yours, position by position. The **control** is a model that knows how often each token comes, and no more: its loss would be that of the first token everywhere.

# %% id="use-loss"
from mi_course.interp.belief_study import losses_of
from mi_course.interp.models import load_checkpoints

perfect = lesson.use("optimal_loss")
ring_model, rrxor_model = (
    load_checkpoints(f"tiny-{name}").boot() for name in ("ring", "rrxor")
)
curves = {}
for name, model, T in (("ring", ring_model, ring()), ("RRXOR", rrxor_model, rrxor())):
    curves[name], reached = perfect(T, 8), losses_of(model, T, 8)
    above = (reached - curves[name][1:]).max()
    print(f"{name:<6} perfect {[f'{loss:.3f}' for loss in curves[name].tolist()]}")
    print(f"{'':<6} model   {'-':>7}", [f"{loss:.3f}" for loss in reached.tolist()])
    curves[f"{name}, model"] = reached

# %% id="claims-loss-seen" tags=["claims"]
gaps = {
    name: (curves[f"{name}, model"] - curves[name][1:]).max() for name in ("ring", "RRXOR")
}
gains = {name: curves[name][0] - curves[name][-1] for name in ("ring", "RRXOR")}
lesson.seen("loss-gap", max(gaps.values()), ".3f")
lesson.seen("gain-ring", gains["ring"], ".2f")
lesson.seen("gain-rrxor", gains["RRXOR"], ".2f")
claim(
    "at none of seven positions either model pays 0.01 nats too much",
    max(gaps.values()) < 0.01,
)
claim(
    "knowing the past is worth ten times that, at the eighth token of both",
    min(gains.values()) > 0.1,
)

# %% [markdown] id="loss-seen"
# <details><summary>What you should see</summary>
#
# Nowhere does either model pay more than {{seen:loss-gap}} nats above a perfect predictor. What the past is worth by the eighth token is {{seen:gain-ring}} nats in the ring and {{seen:gain-rrxor}} in RRXOR, and they have all of it. So the belief is in there. Whether it lies there as a *point in a space* that a linear map can read is another question.
# </details>

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

# %% [markdown] id="use-held-out-intro"
# RRXOR first. Shai et al. (2024) find its beliefs by a linear map from **all layers side by side**, here 4 · 64 = 256 numbers. There are 36 different beliefs to find. Now think of a map that knows no geometry at all and has memorized 36 points: with 256 dimensions there is room enough. Three ways to hold out tell the two apart:
#
# - **nothing**: the map is judged on what it was fitted on;
# - **contexts**: other strings, but strings that lead to the same beliefs;
# - **beliefs**: whole beliefs are left out. Only if the space is laid out as the triangle is does a map fitted on some of it go on to the rest.
#
# For the ring there are more: a map from the tokens of the context, with no network; the next-token probabilities; a network of the same shape that was never trained. **Predict:** which rows survive the third column?

# %% id="use-held-out"
from mi_course.interp.belief_study import bits_of_history, three_ways

r2, xor, circle = lesson.use("held_out_r2"), contexts_of(rrxor(), first=0), contexts_of(ring())
all_layers, last = xor.stream(rrxor_model), circle.stream(ring_model, 2)
ring_next = circle.flat(next_token_probabilities(circle.beliefs, ring()))
rows = {
    "RRXOR, all layers": (xor, all_layers, xor.y),
    "RRXOR, beliefs exchanged": (xor, all_layers, shuffled_beliefs(xor.y)),
    "ring, last layer": (circle, last, circle.y),
    "ring, beliefs exchanged": (circle, last, shuffled_beliefs(circle.y)),
    "ring, untrained": (circle, circle.stream(untrained_like(ring_model), 2), circle.y),
    "ring, tokens of the context": (circle, bits_of_history(circle, 2), circle.y),
    "ring, next token": (circle, ring_next, circle.y),
}
held = {name: three_ways(r2, *row) for name, row in rows.items()}
title = "R² of reading the belief; below −1 it is written as −1"
show.table(held, ["nothing held out", "contexts", "beliefs"], title=title)

# %% [markdown] id="use-training-intro"
# The ring's belief stands. When does it form? The next cell goes through checkpoints of the run: the loss above a perfect predictor's, and R² with beliefs held out. **Predict** which of the two is settled first.

# %% id="use-training"
from mi_course.interp.models import load_state
from mi_course.interp.processes import excess_loss

checkpoints, history, shapes = load_checkpoints("tiny-ring"), {}, {}
young = checkpoints.boot()
for step, state in checkpoints.items():
    load_state(young, state)
    x = circle.stream(young, 2)
    history[step] = excess_loss(young, ring()), r2(x, circle.y, belief_ids(circle.y, 10))
    shapes[f"step {step}"] = fit_affine(x, circle.y)(x)
    print(f"step {step:>4}: {history[step][0]:.4f} nats too much, R² {history[step][1]:.2f}")

# %% id="training-picture" tags=["not-compared"]
panels = {"the truth": circle.y, **{f"step {n}": shapes[f"step {n}"] for n in (0, 100, 2000)}}
show.scatter(
    **simplex_rows({name: y[::3] for name, y in panels.items()}, color_by=circle.y[::3]),
    ylabel="height in the triangle of beliefs",
    title="The ring's beliefs, and what a map reads as the model learns",
)

# %% id="claims-held-out-seen" tags=["claims"]
lesson.seen("xor-count", int(belief_ids(xor.y).max()) + 1)
lesson.seen("xor-in", held["RRXOR, all layers"][0], ".2f")
lesson.seen("xor-exchanged", held["RRXOR, beliefs exchanged"][0], ".2f")
lesson.seen("ring-in", held["ring, last layer"][0], ".2f")
lesson.seen("ring-out", held["ring, last layer"][2], ".2f")
lesson.seen("ring-untrained", held["ring, untrained"][2], ".2f")
lesson.seen("ring-history", held["ring, tokens of the context"][2], ".2f")
lesson.seen("ring-next", held["ring, next token"][2], ".2f")
lesson.seen("early-step", 100)
lesson.seen("early-loss", history[100][0], ".3f")
lesson.seen("ring-100", history[100][1], ".2f")
claim("RRXOR, nothing held out: above 0.9", held["RRXOR, all layers"][0] > 0.9)
claim(
    "with its beliefs exchanged R² is as high, within 0.1",
    abs(held["RRXOR, beliefs exchanged"][0] - held["RRXOR, all layers"][0]) < 0.1,
)
claim("with RRXOR's beliefs held out it is below zero", held["RRXOR, all layers"][2] < 0)
claim(
    "the ring's survives: above 0.9 with beliefs held out", held["ring, last layer"][2] > 0.9
)
claim(
    "every control of the ring is at least 0.08 lower there",
    max(row[2] for name, row in held.items() if name.startswith("ring") and "last" not in name)
    < held["ring, last layer"][2] - 0.08,
)
claim(
    "the ring's R² rises by more than 0.3 in training", history[2000][1] - history[0][1] > 0.3
)
claim("most of it in the first 100 steps", history[100][1] - history[0][1] > 0.2)

# %% [markdown] id="held-out-seen"
# <details><summary>What you should see</summary>
#
# RRXOR reaches {{seen:xor-in}} when nothing is held out. With every belief exchanged for another it reaches {{seen:xor-exchanged}}: the map would have found *any* arrangement of those {{seen:xor-count}} points. Leave beliefs out, and it does worse than a constant. None of this says that the model has no geometry of RRXOR's beliefs. It says that so few beliefs in so many dimensions cannot show one, and that the first column
# is no evidence.
#
# The ring is another matter. {{seen:ring-in}} becomes {{seen:ring-out}} when whole beliefs are held out, and with exchanged beliefs nothing is left. The next token explains {{seen:ring-next}} of it, an untrained network {{seen:ring-untrained}}, and the tokens themselves, read by a linear map with no network, {{seen:ring-history}}: that is the number to beat, and the margin over it is what the network has computed. Most
# of it is there at step {{seen:early-step}} (R² {{seen:ring-100}}), when the loss is still {{seen:early-loss}} nats too high.
# </details>

# %% [markdown] id="ask-belief_intervention"
# ### Is it used?
#
# {{exercise belief_intervention}}
#
# The map reads `resid @ A + b` at every position of every prompt. Change the stream so that it reads `target`, and change it by the smallest vector that does. `target` is one belief for all, [state], or broadcasts against [batch pos state]. The readings of a map that was fitted to beliefs sum to 1, so the columns of `A` sum to 0 and $A^\top A$ has no inverse: take singular values
# of `A` below 1e-4 of the largest for zero, as `torch.linalg.pinv(A, rtol=1e-4)` does. If no change reads exactly `target`, come as near as possible, by least squares. Change `resid` in place or return a new tensor; there may be one prompt, one position, one state and one dimension.


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

# %% [markdown] id="use-steer-intro"
# Take strings of the ring and give each the belief of *another* string, at its last position, after the last layer. Do the predictions follow, as Bayes's rule says? `follows` is a slope: 0 if they do not move, 1 if they move as far as they should.
#
# And a second way to make the change. Your map was fitted from the stream to the belief: it may read a difference from any direction in which the two go together, however little the stream varies there. Fit the *other way round*, from the belief to the stream, and you get the way in which the stream really moves when the belief does. **Predict** whether it matters.
#
# **Controls**: a random change of the same length; a change of the belief, as large, that leaves the next token as it is; and the whole last position taken from the other string, which is all that can be had.

# %% id="use-steer"
from mi_course.interp.belief_study import give_other_beliefs

hook = lesson.use("belief_intervention")
steered = give_other_beliefs(ring_model, ring(), circle, 2, hook)
columns = ["predictions follow", "reading is off by", "length"]
show.table(steered, columns, title="Giving a string of the ring another string's belief")

# %% id="use-steer-xor"
steered_xor = give_other_beliefs(rrxor_model, rrxor(), xor, 3, hook)
show.table(steered_xor, columns, title="The same in RRXOR, after layer 3 of 4")

# %% id="claims-steer-seen" tags=["claims"]
least, natural_way = steered["least change (your hook)"], steered["as the stream moves"]
whole = steered["everything, from the other"]
controls = [
    row for table in (steered, steered_xor) for name, row in table.items() if "control" in name
]
lesson.seen("least-follows", least[0], ".2f")
lesson.seen("natural-follows", natural_way[0], ".2f")
lesson.seen("natural-length", natural_way[2] / least[2], ".0f")
lesson.seen("whole-follows", whole[0], ".2f")
lesson.seen("xor-natural", steered_xor["as the stream moves"][0], ".2f")
lesson.seen("xor-least", steered_xor["least change (your hook)"][0], ".2f")
lesson.seen("control-follows", max(abs(row[0]) for row in controls), ".2f")
claim("after your hook the map reads the target to 0.001", least[1] < 0.001)
claim("the predictions hardly follow it, by less than a quarter", least[0] < 0.25)
claim("as the stream moves they follow by more than 0.9", natural_way[0] > 0.9)
claim("in RRXOR too, by more than 0.8", steered_xor["as the stream moves"][0] > 0.8)
claim(
    "every control moves them by less than 0.2 of that",
    max(abs(row[0]) for row in controls) < 0.2,
)

# %% [markdown] id="steer-seen"
# <details><summary>What you should see</summary>
#
# Your hook does exactly what it promises: the map reads the other string's belief, to rounding. And the predictions do not care ({{seen:least-follows}}). The least change that fools a probe goes where the probe is most sensitive, and that is where the stream varies *least*: nothing in the model ever listened there. Move the stream as it moves by itself when the belief changes, about {{seen:natural-length}} times as far, and the
# predictions follow Bayes ({{seen:natural-follows}}; replacing the whole last position gives {{seen:whole-follows}}). In RRXOR it is {{seen:xor-least}} and {{seen:xor-natural}}. No control comes above {{seen:control-follows}}: not a random change of that length, and not a change of the belief, as large, that leaves the next token alone.
#
# Two things to keep. A map that *reads* well and a direction that *acts* are different fits, and only the second was tested by acting. And the test has a limit of its own: it moves the next prediction, and says nothing about what the part of the belief beyond it is for. That part would have to act later, through attention, at positions that compute their belief again from the tokens.
# </details>

# %% [markdown] id="ask-my_belief_map"
# ### Your map
#
# {{exercise my_belief_map}}
#
# `MYSTERY` (in `mi_course.interp.processes`) has three candidates, A, B and C: rings of three states with two tokens. `mystery_strings()` (in `mi_course.interp.belief_study`) gives 256 of the 512 strings of nine tokens to work with, and `load_native("tiny-mystery")` the model: two layers, 48 dimensions. The answer is a dict with `"process"`, the letter; `"layer"`, 0 for the embedding or 1 or 2 for the stream
# after so many layers; and `"A"`, [48, 3], and `"b"`, [3], so that the stream times A plus b is the belief of that process, its states in the order of `T`, after the token at that position. It is judged on the other 256 strings, at positions 3 to 8, each sample counting once. The letter must be right; then R² (1 − squared errors over squared distances from the mean belief) must be at least 0.85. An affine map
# from the next-token probabilities reaches 0.46 there, and one from the tokens of the context 0.81.
#
# **Predict** first: will the process whose beliefs can be read best be the right one? Will the loss tell? Try `optimal_loss` on all three.

# %% id="answer-my_belief_map"
# BEGIN SOLUTION
from mi_course.interp.belief_study import Contexts, mystery_strings
from mi_course.interp.processes import MYSTERY

mystery, strings = load_native("tiny-mystery"), mystery_strings()
with torch.no_grad():
    said = mystery(strings).softmax(-1)[:, 3:]
wrong_by = {}
for name, T in MYSTERY.items():
    beliefs = lesson.use("belief_states")(strings, T, stationary_distribution(T))
    wrong_by[name] = (next_token_probabilities(beliefs, T)[:, 3:] - said).abs().mean()
process = min(wrong_by, key=wrong_by.get)
T = MYSTERY[process]
contexts = Contexts(
    strings, lesson.use("belief_states")(strings, T, stationary_distribution(T)), 3
)
A, b = fit_affine(contexts.stream(mystery, 2), contexts.y)
my_belief_map = {"process": process, "layer": 2, "A": A, "b": b}
# END SOLUTION

lesson.check(my_belief_map, name="my_belief_map")

# %% id="use-mystery"
from mi_course.interp.belief_study import candidates_table

candidates = candidates_table(perfect)
columns = [
    "R² of reading its beliefs",
    "its least loss at token 8",
    "the model's excess over it",
]
show.table(candidates, columns, title="Three candidates for tiny-mystery", digits=[2, 3, 3])

# %% id="claims-mystery-seen" tags=["claims"]
readable, least_loss, excess = (
    {name: float(row[i]) for name, row in candidates.items()} for i in range(3)
)
lesson.seen("readable-best", max(readable.values()), ".2f")
lesson.seen("readable-true", readable[min(excess, key=excess.get)], ".2f")
claim(
    "the beliefs of the true process are not the most readable, by 0.03",
    max(readable.values()) - readable[min(excess, key=excess.get)] > 0.03,
)
claim(
    "forwards and backwards have the same least loss to 1e-4",
    abs(least_loss["A"] - least_loss["B"]) < 1e-4,
)
claim(
    "the right one's excess is below 0.002 nats, the others' above 0.02",
    sum(e < 0.002 for e in excess.values()) == 1
    and sum(e > 0.02 for e in excess.values()) == 2,
)

# %% [markdown] id="mystery-seen"
# <details><summary>What you should see (open it when you have passed)</summary>
#
# The most readable beliefs ({{seen:readable-best}}) belong to a process that the model never saw; those of its own process are read worse ({{seen:readable-true}}). A ring that turns either way alike has beliefs that are nearly linear in the last few tokens, and those are in every stream. And the loss cannot tell forwards from backwards: read from the end, the strings of one are the strings of the other, and
# entropies do not know in which direction they are read. What the model *says*, string by string, names the process. Reading is not evidence of what a model has learned until something else says so.
# </details>

# %% [markdown] id="part-b"
# ## Part B. An algorithm that nobody wrote
#
# (not written yet)

# %% [markdown] id="part-c"
# ## Part C. Connecting the dots
#
# In parts A and B the latent thing could be inferred from each training string, or from the table that was learned. Treutlein et al. (2024) ask for more. A language model is fine-tuned on documents each of which says next to nothing: distances between known cities and "City 50337", single flips of a coin with a name, pairs of x and f(x). Nowhere is it written that the city is Paris, that the coin is biased, what f
# is. Asked afterwards, in words and without examples, large models can often say so. They call it inductive out-of-context reasoning, and find it unreliable, and weaker in smaller models.
#
# There is no experiment here. It would take a model that has learned, from *other* coins, to answer questions about a coin in words, and then sees only flips of new ones; we have no small model in which the answer was there, so there is nothing to take apart, and we would rather leave this open than show you a probe on a model that cannot do the task. What you have would be the tools for it. Before you
# read the paper, decide what you would need to see:
#
# - Is the latent value **one direction**, shared by all coins? Hold whole coins out, as you held out beliefs.
# - Does it exceed what a counter of tokens reads from the embedding? That is the baseline.
# - Is it **used**: move the stream as it moves between coins, and see whether the *answer to the question* changes, and not only the flips.
#
# **What result would have changed your mind** in part A? Ours: if with beliefs held out the ring had fallen to the level of its tokens.

# %% id="claims-recap" tags=["claims"]
claim(
    "the fractal is read to 0.99 where the next-token probabilities alone give all of it",
    mess3_scores["trained"] > 0.99 and mess3_scores["next-token probabilities"] > 0.999,
)
claim(
    "the ring's map holds for beliefs held out, and RRXOR's does not",
    held["ring, last layer"][2] > 0.9 > 0 > held["RRXOR, all layers"][2],
)
claim(
    "what reads best and what acts are different changes: they differ by 0.5 in what predictions make of them",
    natural_way[0] - least[0] > 0.5,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You computed what a perfect predictor must believe, and the loss below which nobody can get. You found the famous fractal in a trained model, and nearly as well in models that had learned nothing. A linear map found any arrangement of few points; with whole beliefs held out, one model's geometry was left standing and another's was not shown. Then you changed beliefs: the smallest change that
# convinced the map left the model cold, and the change that the stream makes by itself moved the predictions as Bayes's rule says. And three processes could be told apart by what a model says, where neither reading nor loss could.
#
# The habit to keep: before you say that a model *represents* something, ask what else would have given the same R², and then act on it.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Shai et al. 2024. Read section 3 and look, at each figure, for the control that you would want beside it.
