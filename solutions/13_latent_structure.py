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
# A machine has two modes, and you see only what it prints. In *calm* mode (state 0) it prints a 1 with probability 0.1, in *busy* mode (state 1) with 0.6; after each token it stays in its mode with probability 0.8. You do not know the mode. What do you need to remember of all that it has printed so far, to predict what comes next as well as anybody can?
#
# One number: how likely it is to be busy. Take it on paper. At first either mode is equally likely, and the machine prints a 1.
#
# 1. **How well did each mode explain it?** 0.5 · 0.1 = 0.05 for calm, 0.5 · 0.6 = 0.30 for busy. Together 0.35, which was the probability of the 1. Divide: 0.14 and 0.86.
# 2. **And then it moved.** Busy now: 0.86 · 0.8 + 0.14 · 0.2 = 0.71.
#
# That is the **belief** after the 1: (0.29, 0.71). Everything that the tokens say about the future is in it, and it is updated token by token. A machine that keeps nothing but its state has to carry it in some form. A transformer can look back at every token: it need not, and whether it does, and in which form, is what Shai et al. (2024) ask. Nobody tells the model that there are modes.
#
# **Predict**, before you write it: the machine prints 0 next. Is it more likely calm or busy after that?

# %% [markdown] id="ask-belief_update"
# ### One more token
#
# {{exercise belief_update}}
#
# `T[x, s, r]` is the probability that the process, in state s, emits token x **and** moves to state r; for each s these numbers sum to 1 over x and r. `belief[s]` is the probability that it is in state s now, and sums to 1. Return the belief about the state that it is in *after* emitting `token`; it sums to 1 again. In general the token and the move depend on each other, so the two steps on paper are one here. A token
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
# `tiny-mess3` is a transformer of two layers that was trained to predict the next token of such strings, and on nothing else. Fit an affine map from its residual stream (32 numbers) to the belief (three), and draw what it reads beside the truth. How well it does is R², the share of the beliefs' variance that it explains: 1 is perfect, 0 as good as always saying the mean. **Predict:** will you recognize the fractal? And, before you look: what would the same map read from a network that was *never trained*?

# %% id="use-fractal"
from mi_course.interp import belief_study as study
from mi_course.interp.models import load_native
from mi_course.interp.processes import fit_affine, mess3, next_token_probabilities

mess3_model, fractal = load_native("tiny-mess3"), study.contexts_of(mess3(), n=160)
mine = lesson.use("belief_states")(fractal.tokens, mess3(), torch.full((3,), 1 / 3))
print("your beliefs are the course's:", torch.allclose(mine, fractal.beliefs, atol=1e-4))
stream = fractal.stream(mess3_model, 2)
read = fit_affine(stream, fractal.y)(stream)
print(f"R² of the map, on what it was fitted on: {study.in_sample_r2(stream, fractal.y):.3f}")

# %% id="fractal-picture" tags=["not-compared"]
panels = {"the truth": fractal.y, "read from the model": read}
title = "A map of 32 numbers to three finds the fractal in the model"
study.draw_beliefs(panels, color_by=fractal.y, title=title)

# %% [markdown] id="use-controls-intro"
# There it is. And now the controls, each with the same map: ten networks that were never trained; no network at all, but the three next-token probabilities that a perfect predictor would give; and the trained model with the beliefs *exchanged*, each for another one, so that there are as many points and no geometry. **Predict** the four numbers.

# %% id="use-controls"
expected = next_token_probabilities(fractal.beliefs, mess3())
networks = [study.untrained_like(mess3_model, seed) for seed in range(10)]
untrained = [study.in_sample_r2(fractal.stream(one, 2), fractal.y) for one in networks]
mess3_scores = {
    "trained": study.in_sample_r2(stream, fractal.y),
    "untrained (mean of ten)": sum(untrained) / 10,
    "next-token probabilities": study.in_sample_r2(fractal.flat(expected), fractal.y),
    "trained, beliefs exchanged": study.in_sample_r2(
        stream, study.shuffled_beliefs(fractal.y)
    ),
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
from mi_course.interp.processes import ring, rrxor

find_pairs, widest = lesson.use("distinguishing_pairs"), {}
for name, T in {"Mess3": mess3(), "ring": ring(), "RRXOR": rrxor()}.items():
    beliefs = study.contexts_of(T, first=0).y.unique(dim=0)
    pairs = find_pairs(beliefs, T, 0.01)
    widest[name] = study.largest_gap(beliefs, pairs)
    print(f"{name:<6} {len(beliefs):>4} beliefs, {len(pairs):>5} pairs, ", end="")
    print(f"at most {widest[name]:.2f} apart")

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
# In Mess3 no two beliefs that expect the same within that tolerance differ by more than {{seen:widest-mess3}} (with exactly equal expectations they are equal). In the ring they differ by up to {{seen:widest-ring}}, in RRXOR by up to {{seen:widest-rrxor}}: after a first bit you are sure of it or of its opposite, and the second is random either way. There the belief is more than the next token, and a model that only kept what it needs *now* would have thrown the difference away.
# </details>

# %% [markdown] id="ask-optimal_loss"
# ### As good as it can get
#
# {{exercise optimal_loss}}
#
# Entry i is the loss of token i, predicted from the i tokens before it and the knowledge of `T`; entry 0 is that of the first token, before which nothing was seen. The first token comes from the stationary distribution of the process, the one that a step leaves as it is; `stationary_distribution(T)` computes it. Strings that cannot occur add nothing. `n` is at most 8 and
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
# If a model predicts as well as a perfect predictor, then it may be one. Does it? Hold the losses of two trained models against yours, position by position. The **control** is a model that knows how often each token comes, and no more: its loss would be that of the first token everywhere.

# %% id="use-loss"
from mi_course.interp.models import load_checkpoints

perfect, curves = lesson.use("optimal_loss"), {}
ring_model, rrxor_model = (
    load_checkpoints(name).boot() for name in ("tiny-ring", "tiny-rrxor")
)
for name, model, T in (("ring", ring_model, ring()), ("RRXOR", rrxor_model, rrxor())):
    curves[name], reached = perfect(T, 8), study.losses_of(model, T, 8)
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
# At none of these tokens does either model pay more than {{seen:loss-gap}} nats above a perfect predictor, on average over strings. What the past is worth by the eighth token is {{seen:gain-ring}} nats in the ring and {{seen:gain-rrxor}} in RRXOR, and both models gain all of it. So they compute what the belief is for. Whether there is a belief in them, a *point in a space* that a linear map can read, is another question.
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
# RRXOR first. Shai et al. (2024) find its beliefs by a linear map from **all layers side by side**, here 4 · 64 = 256 numbers. There are 35 different beliefs to find, and a map that knows no geometry at all could memorize 35 points: with 256 dimensions there is room enough. What is held out tells the two apart:
#
# - **nothing**: the map is judged on what it was fitted on;
# - **contexts**: other strings, but strings that lead to the same beliefs;
# - **beliefs**: whole beliefs are left out. Only if the space is laid out as the triangle is does a map fitted on some of it go on to the rest.
#
# The rows are one question each:
#
# - RRXOR from all layers, and from the last alone: fewer numbers, less room to memorize.
# - *Beliefs exchanged*: as many points in another arrangement. What is read here is memory.
# - The ring's last layer, and a network of its shape that was never trained.
# - No network at all: the tokens of the context, and the tokens with all products of two of them.
# - The next-token probabilities: all that is needed *now*.
#
# **Predict:** which rows survive the third column?

# %% id="use-held-out"
r2 = lesson.use("held_out_r2")
xor, circle = study.contexts_of(rrxor(), first=0), study.contexts_of(ring())
all_layers, last = xor.stream(rrxor_model), circle.stream(ring_model, 2)
xor_last, exchanged = xor.stream(rrxor_model, 4), study.shuffled_beliefs(xor.y)
never_trained = study.untrained_like(ring_model)
ring_next = circle.flat(next_token_probabilities(circle.beliefs, ring()))
rows = {
    "RRXOR, all layers": (xor, all_layers, xor.y),
    "RRXOR, all layers, beliefs exchanged": (xor, all_layers, exchanged),
    "RRXOR, last layer": (xor, xor_last, xor.y),
    "RRXOR, last layer, beliefs exchanged": (xor, xor_last, exchanged),
    "ring, last layer": (circle, last, circle.y),
    "ring, beliefs exchanged": (circle, last, study.shuffled_beliefs(circle.y)),
    "ring, untrained": (circle, circle.stream(never_trained, 2), circle.y),
    "ring, tokens of the context": (circle, study.bits_of_history(circle, 2), circle.y),
    "ring, products of two tokens": (circle, study.products_of_history(circle, 2), circle.y),
    "ring, next token": (circle, ring_next, circle.y),
}
readings = {name: study.three_ways(r2, *row) for name, row in rows.items()}
title = "R² of reading the belief; below −1 it is written as −1"
show.table(readings, ["nothing held out", "contexts", "beliefs"], title=title)

# %% [markdown] id="use-stiff-intro"
# Two doubts, one in each direction. Perhaps the *map* is to blame for RRXOR's third column: least squares uses every direction that it has, and with so few beliefs it has too many. A stiffer map, with a ridge as large as the stream's mean variance, cannot. And perhaps the ring's third column is too easy: its beliefs lie close together, so that one left out has near neighbors. Leave out whole *regions*: all beliefs that have the same likeliest state, a third of the triangle at a time.

# %% id="use-stiff"
rrxor_untrained = xor.stream(study.untrained_like(rrxor_model), 4)
stiff = study.stiff_readings(xor, {"trained": xor_last, "untrained": rrxor_untrained})
print(
    "RRXOR, beliefs held out, stiffer maps:", {name: f"{r:.2f}" for name, r in stiff.items()}
)
compared = ("ring, last layer", "ring, products of two tokens", "ring, tokens of the context")
apart = {name: float(r2(rows[name][1], circle.y, circle.y.argmax(1))) for name in compared}
print("ring, regions held out:", {name: f"{r:.2f}" for name, r in apart.items()})

# %% [markdown] id="use-training-intro"
# The ring's belief can be read. When does it form? The next cell goes through checkpoints of the run: the loss above a perfect predictor's, and R² with beliefs held out. **Predict** which of the two is settled first.

# %% id="use-training"
from mi_course.interp.models import load_state
from mi_course.interp.processes import excess_loss

checkpoints, history, shapes = load_checkpoints("tiny-ring"), {}, {}
young = checkpoints.boot()
for step, state in checkpoints.items():
    load_state(young, state)
    x = circle.stream(young, 2)
    history[step] = excess_loss(young, ring()), r2(x, circle.y, study.belief_ids(circle.y, 10))
    shapes[f"step {step}"] = fit_affine(x, circle.y)(x)
    print(f"step {step:>4}: {history[step][0]:.4f} nats too much, R² {history[step][1]:.2f}")

# %% id="training-picture" tags=["not-compared"]
panels = {"the truth": circle.y, **{f"step {n}": shapes[f"step {n}"] for n in (0, 100, 2000)}}
panels, title = (
    {name: y[::3] for name, y in panels.items()},
    "The ring: the truth, and what a map reads",
)
study.draw_beliefs(panels, color_by=circle.y[::3], title=title)

# %% id="claims-held-out-seen" tags=["claims"]
lesson.seen("xor-count", int(study.belief_ids(xor.y).max()) + 1)
lesson.seen("xor-in", readings["RRXOR, all layers"][0], ".2f")
lesson.seen("xor-exchanged", readings["RRXOR, all layers, beliefs exchanged"][0], ".2f")
lesson.seen("xor-last-contexts", readings["RRXOR, last layer"][1], ".2f")
lesson.seen("xor-last-exchanged", readings["RRXOR, last layer, beliefs exchanged"][1], ".2f")
lesson.seen("xor-stiff", stiff["trained"], ".2f")
lesson.seen("xor-stiff-exchanged", stiff["exchanged, best of ten"], ".2f")
lesson.seen("apart-network", apart["ring, last layer"], ".2f")
lesson.seen("apart-products", apart["ring, products of two tokens"], ".2f")
lesson.seen("apart-tokens", apart["ring, tokens of the context"], ".2f")
lesson.seen("ring-products", readings["ring, products of two tokens"][2], ".2f")
lesson.seen("ring-in", readings["ring, last layer"][0], ".2f")
lesson.seen("ring-out", readings["ring, last layer"][2], ".2f")
lesson.seen("ring-untrained", readings["ring, untrained"][2], ".2f")
lesson.seen("ring-history", readings["ring, tokens of the context"][2], ".2f")
lesson.seen("ring-next", readings["ring, next token"][2], ".2f")
lesson.seen("early-step", 100)
lesson.seen("early-loss", history[100][0], ".3f")
lesson.seen("ring-100", history[100][1], ".2f")
loss_way, r2_way = (
    (history[0][i] - history[100][i]) / (history[0][i] - history[2000][i]) for i in range(2)
)
lesson.seen("loss-way", loss_way, ".0%")
lesson.seen("r2-way", r2_way, ".0%")
claim("RRXOR, nothing held out: above 0.9", readings["RRXOR, all layers"][0] > 0.9)
claim(
    "with its beliefs exchanged R² is as high, within 0.1",
    abs(readings["RRXOR, all layers, beliefs exchanged"][0] - readings["RRXOR, all layers"][0])
    < 0.1,
)
claim(
    "from the last layer, contexts held out: above 0.4, and with beliefs exchanged at least 0.2 lower",
    readings["RRXOR, last layer"][1]
    > max(0.4, readings["RRXOR, last layer, beliefs exchanged"][1] + 0.2),
)
claim(
    "with whole beliefs held out no least-squares map of RRXOR's is better than a constant",
    max(row[2] for name, row in readings.items() if name.startswith("RRXOR")) < 0,
)
claim(
    "a stiffer map reads them, above 0.15, and at least 0.15 above ten exchanged arrangements and the untrained model",
    stiff["trained"]
    > max(0.15, 0.15 + max(stiff["exchanged, best of ten"], stiff["untrained"])),
)
claim(
    "with regions held out the ring's network keeps between 0.3 and 0.75, the products no less (within 0.05), the tokens at least 0.15 less",
    0.3 < apart["ring, last layer"] < 0.75
    and apart["ring, products of two tokens"] > apart["ring, last layer"] - 0.05
    and apart["ring, tokens of the context"] < apart["ring, last layer"] - 0.15,
)
claim(
    "the ring's survives: above 0.9 with beliefs held out",
    readings["ring, last layer"][2] > 0.9,
)
claim(
    "every control of the ring but the products is at least 0.08 lower there",
    max(
        row[2]
        for name, row in readings.items()
        if name.startswith("ring") and "last" not in name and "products" not in name
    )
    < readings["ring, last layer"][2] - 0.08,
)
claim(
    "with all products of two tokens a map without a network is as good, within 0.05",
    abs(readings["ring, products of two tokens"][2] - readings["ring, last layer"][2]) < 0.05,
)
claim(
    "the ring's R² rises by more than 0.3 in training", history[2000][1] - history[0][1] > 0.3
)
claim(
    "at step 100 the loss has gone more than 85% of its way, R² at least 10 points less, and it is within 0.1 of the tokens'",
    loss_way > 0.85
    and loss_way - r2_way > 0.1
    and abs(history[100][1] - readings["ring, tokens of the context"][2]) < 0.1,
)

# %% [markdown] id="held-out-seen"
# <details><summary>What you should see</summary>
#
# RRXOR reaches {{seen:xor-in}} from all layers when nothing is held out. With every belief exchanged for another it reaches {{seen:xor-exchanged}}: the map would have found *any* arrangement of those {{seen:xor-count}} points. Leave whole beliefs out, and it does worse than a constant. The column between is harder to read. From all layers it mostly measures how badly a map of so many numbers overfits so few contexts; with other strings it comes out quite different. From the last layer alone
# {{seen:xor-last-contexts}} is left for new contexts, and {{seen:xor-last-exchanged}} with beliefs exchanged, so there the arrangement counts for something. And with the stiffer map beliefs left out are read too, if poorly: {{seen:xor-stiff}}, where ten exchanged arrangements come to {{seen:xor-stiff-exchanged}} at best. So the model has some of RRXOR's geometry, how much depends on the map, and the first column is no evidence for any of it.
#
# The ring is another matter. {{seen:ring-in}} becomes {{seen:ring-out}} when whole beliefs are held out, and with exchanged beliefs nothing is left. The next token explains {{seen:ring-next}} of it, an untrained network {{seen:ring-untrained}}, and the tokens themselves, read by a linear map with no network, {{seen:ring-history}}. What the network adds is more than a sum over tokens. But how much more? Give the map all products of two tokens, and it reads the belief as well as from the network ({{seen:ring-products}}). With regions held out
# the network keeps {{seen:apart-network}}, the products {{seen:apart-products}}, the tokens {{seen:apart-tokens}}: the map goes on to where it was not fitted, in part, and again no better from the network than from a few products. So the reading alone does not show that the model computes beliefs: anything that combines two tokens would pass.
#
# In training the loss comes first: at step {{seen:early-step}} it has gone {{seen:loss-way}} of its way (it is still {{seen:early-loss}} nats too high), and R² {{seen:r2-way}}, to {{seen:ring-100}}, little more than the tokens give.
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
# And another way to make the change. Your map goes from the stream to the belief, and it may read a difference from any direction in which the two go together, however little the stream varies there. Fit a map the *other way round*, from the belief to the stream: it says how the stream itself moves, on average, when the belief changes. **Predict** whether it matters.
#
# Beside the two: your change made *as long* as the stream's own, so that length alone cannot be the difference; and the way in which the stream moves with the *next-token probabilities*, fitted without any beliefs.
#
# **Controls**: a random change of the same length; a change of the belief, as large, that leaves the next token as it is; and the whole last position taken from the other string, as an upper bound.

# %% id="use-steer"
hook = lesson.use("belief_intervention")
steered = study.give_other_beliefs(ring_model, ring(), circle, 2, hook)
columns = ["predictions follow", "reading is off by", "length"]
show.table(steered, columns, title="Giving a string of the ring another string's belief")

# %% id="use-steer-xor"
steered_xor = study.give_other_beliefs(rrxor_model, rrxor(), xor, 3, hook)
show.table(steered_xor, columns, title="The same in RRXOR, after layer 3 of 4")

# %% id="claims-steer-seen" tags=["claims"]
least, natural_way = steered["least change (your hook)"], steered["as the stream moves"]
longer, xor_longer = (table["least change, made as long"] for table in (steered, steered_xor))
by_next, xor_by_next = (
    table["as it moves with the next token"] for table in (steered, steered_xor)
)
whole = steered["everything, from the other"]
controls = [
    row for table in (steered, steered_xor) for name, row in table.items() if "control" in name
]
lesson.seen("least-follows", least[0], ".2f")
lesson.seen("natural-follows", natural_way[0], ".2f")
lesson.seen("natural-length", natural_way[2] / least[2], ".0f")
lesson.seen("longer-follows", longer[0], ".2f")
lesson.seen("xor-longer", xor_longer[0], ".2f")
lesson.seen("next-follows", by_next[0], ".2f")
lesson.seen("xor-next", xor_by_next[0], ".2f")
lesson.seen("whole-follows", whole[0], ".2f")
lesson.seen("xor-natural", steered_xor["as the stream moves"][0], ".2f")
lesson.seen("xor-least", steered_xor["least change (your hook)"][0], ".2f")
lesson.seen("control-follows", max(abs(row[0]) for row in controls), ".2f")
claim("after your hook the map reads the target to 0.001", least[1] < 0.001)
claim("the predictions hardly follow it, by less than a quarter", least[0] < 0.25)
claim("as the stream moves they follow by more than 0.9", natural_way[0] > 0.9)
claim("in RRXOR too, by more than 0.8", steered_xor["as the stream moves"][0] > 0.8)
claim(
    "at equal length the least change moves the ring by more than 0.4, RRXOR by less than 0.25",
    longer[0] > 0.4 and xor_longer[0] < 0.25,
)
claim(
    "moving with the next-token probabilities alone does more than 0.7 in both",
    min(by_next[0], xor_by_next[0]) > 0.7,
)
claim(
    "every control moves them by less than 0.2 of that",
    max(abs(row[0]) for row in controls) < 0.2,
)

# %% [markdown] id="steer-seen"
# <details><summary>What you should see</summary>
#
# Your hook does exactly what it promises: the map reads the other string's belief, to rounding. And the predictions hardly move ({{seen:least-follows}} in the ring, {{seen:xor-least}} in RRXOR). Move the stream as it moves by itself when the belief changes, in the ring about {{seen:natural-length}} times as far, and they follow Bayes ({{seen:natural-follows}} and {{seen:xor-natural}}; replacing the whole last position gives {{seen:whole-follows}} in the ring).
#
# Does the model not listen in your direction, or was the change too small? Made as long it moves the ring's predictions by {{seen:longer-follows}}, and RRXOR's by {{seen:xor-longer}}. So in the ring it was mostly too short. In RRXOR it points where the model hardly listens: the probe reads there, and the model does not. No control comes above {{seen:control-follows}}: not a random change as long as the stream's own, and not a change of the belief, as large, that leaves the next token alone.
#
# But look at the row of the next token. A change that was fitted to the next-token probabilities, and knows nothing of beliefs, moves the predictions by {{seen:next-follows}} and {{seen:xor-next}}, nearly as far. What you have shown is that predictions are made from there.
#
# Two things to keep. A map that *reads* well and a direction that *acts* are different fits, and to compare them the changes must be of one length. And the test has a limit: it moves the next prediction, and says nothing about what the part of the belief beyond it is for. That part would have to act later, through attention, at positions that compute their belief again from the tokens.
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
candidates = study.candidates_table(perfect)
columns = ["R² of its beliefs", "its least loss at token 8", "excess over its least loss"]
show.table(candidates, columns, title="Three candidates for tiny-mystery", digits=[2, 3, 3])

# %% id="claims-mystery-seen" tags=["claims"]
readable, least_loss, excess = (
    {name: float(row[i]) for name, row in candidates.items()} for i in range(3)
)
lesson.seen("readable-best", max(readable.values()), ".2f")
from mi_course.interp.processes import bayes_beliefs

of_c = study.Contexts(strings, bayes_beliefs(strings, MYSTERY["C"]), 3)
tokens_of_c = study.in_sample_r2(study.bits_of_history(of_c, 2), of_c.y)
lesson.seen("tokens-c", tokens_of_c, ".2f")
claim("the tokens alone read C's beliefs with more than 0.95", tokens_of_c > 0.95)
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
# The most readable beliefs ({{seen:readable-best}}) belong to a process that the model never saw; those of its own process are read worse ({{seen:readable-true}}). A ring that turns either way alike has beliefs that are nearly linear in its last few tokens, which are in every stream: the tokens alone, without a network, give {{seen:tokens-c}} for C. And the *least* losses cannot tell forwards from backwards: read from the end, the strings of one are the strings of the other, and the entropy of a string is the same read
# either way. What the model *says*, string by string, names the process, or what it loses on strings of each (the last column). Reading is not evidence of what a model has learned until something else says so.
# </details>

# %% [markdown] id="part-b"
# ## Part B. An algorithm that nobody wrote
#
# A belief is what a perfect predictor computes. How it does so is its own affair. Here is a case in which the whole computation can be read: a clock with 53 hours. Ten hours after 50 o'clock it is 7 o'clock, and the task is to say so: (a + b) mod 53.
#
# The model has one layer, four heads, 256 ReLU neurons, no norm and no biases. It reads `a b =` and answers at the equals sign. It is trained on 70% of all sums (each in both orders: whoever has seen 3 + 5 has seen 5 + 3), on all of them at every step, for 4,000 steps. Two runs start from the same weights, and differ in one thing: one has **weight decay**, which shrinks all weights a little at every step, and the other has none.
#
# **Predict:** when will each of them know the pairs of the training? And those that it has never seen?

# %% id="growth" tags=["not-compared"]
from mi_course.interp import modular
from mi_course.interp import modular_study as clocks

growth = clocks.recorded_growth()
clocks.draw_growth(growth)

# %% id="claims-growth-seen" tags=["claims"]
decay, no_decay = growth["weight decay"], growth["no weight decay"]
recorded_steps = torch.tensor(decay["step"])
known = next(i for i, share in enumerate(decay["train_accuracy"]) if share > 0.999)
seen_half = next(i for i, share in enumerate(decay["test_accuracy"]) if share > 0.5)
lesson.seen("train-known", int(recorded_steps[known]))
lesson.seen("test-half", f"{int(recorded_steps[seen_half]):,}")
lesson.seen("memory-test", max(no_decay["test_accuracy"]), ".0%")
lesson.seen("guessing", 1 / clocks.PRIME, ".0%")
lesson.seen("worst-test-loss", max(decay["test_loss"]), ".0f")
claim(
    "the training pairs are known at least ten times earlier than half of the others",
    bool(recorded_steps[seen_half] >= 10 * recorded_steps[known]),
)
claim(
    "when the training pairs are known, at most 5% of the others are right",
    decay["test_accuracy"][known] <= 0.05,
)
claim("in the end all pairs are right, to 0.1%", decay["test_accuracy"][-1] > 0.999)
claim(
    "the control knows its training pairs too, and never 10% of the others",
    no_decay["train_accuracy"][-1] > 0.999 and max(no_decay["test_accuracy"]) < 0.1,
)

# %% [markdown] id="growth-seen"
# <details><summary>What you should see</summary>
#
# After {{seen:train-known}} steps the model is right on every training pair, and knows next to nothing of the others. It has learned a list by heart. Nothing seems to happen for a long time. Then, around step {{seen:test-half}}, it finds out how to add. Power et al. (2022) called this **grokking**. The control has no reason to give its list up, and never gets beyond {{seen:memory-test}}.
# </details>
#
# Guessing would be right on {{seen:guessing}}. Before it understands, the model is much worse than that: its loss on unseen pairs rises to {{seen:worst-test-loss}} nats, since it is certain and wrong.
#
# Two questions. *What* did it find? And was it really idle during all that time?

# %% [markdown] id="clock-by-hand"
# ### Waves on a clock
#
# **By hand, once.** Take a small clock, of 7 hours. Put hour x at the angle $2\pi x/7$. Adding hours is adding angles, and for that there is an old formula:
#
# $$\cos(\alpha+\beta) = \cos\alpha\cos\beta - \sin\alpha\sin\beta$$
#
# It makes the cosine of a sum from cosines and sines of its parts, by products. If one has $\cos(a+b)$ and $\sin(a+b)$ (as angles), the same formula gives $\cos(a+b-c)$ for every answer c, and that is largest, 1, at the right one. For $a + b = 5$:
#
# | answer c | 2 | 3 | 4 | **5** | 6 | 0 | 1 |
# |---|---|---|---|---|---|---|---|
# | one turn a day, cos of 2π (5 − c)/7 | −0.90 | −0.22 | 0.62 | **1** | 0.62 | −0.22 | −0.90 |
# | two turns a day | 0.62 | −0.90 | −0.22 | **1** | −0.22 | −0.90 | 0.62 |
# | sum | −0.28 | −1.12 | 0.40 | **2** | 0.40 | −1.12 | −0.28 |
#
# With one turn a day the neighbors come close, and with 53 hours they would come closer: cos(2π/53) is 0.993. A hand that turns *k* times a day confuses other hours. Only the right answer is best for all hands at once. Let k be the **frequency** of a hand.
#
# Does the model work like that? Its embedding gives each hour a vector. If it puts hours on circles, then along some directions the embedding is a wave. To see waves we need a basis of them.

# %% [markdown] id="ask-fourier_basis"
# {{exercise fourier_basis}}
#
# p is odd, not necessarily a prime, and may be 1 (then only the constant is left). The frequencies are 1 to (p − 1)/2, in this order: row 2k − 1 is the cosine and row 2k the sine of frequency k, at the hours 0 to p − 1. Row 0 is the constant, and positive. Returned is a [p, p] tensor in floating point.

# %% id="answer-fourier_basis"
import math

from jaxtyping import Float, Int
from torch import Tensor


def fourier_basis(p: int) -> Float[Tensor, "wave hour"]:
    """Orthonormal waves on p hours (p odd), one a row: the constant, then cos 1, sin 1, cos 2, sin 2, …

    Row 2k − 1 is cos(2π k x / p) and row 2k is sin(2π k x / p) at the hours x = 0 … p − 1, each divided by its length.
    """
    # BEGIN SOLUTION
    hours = torch.arange(p)
    waves = [torch.ones(p)]
    for k in range(1, (p + 1) // 2):
        angle = 2 * math.pi * k * hours / p
        waves += [angle.cos(), angle.sin()]
    basis = torch.stack(waves)
    return basis / basis.norm(dim=1, keepdim=True)
    # END SOLUTION


lesson.check(fourier_basis)

# %% [markdown] id="ask-key_frequencies"
# With an orthonormal basis, squares add up: the sum of squares of an embedding is the sum over waves of the squares of its coefficients. So one can say *how much* of it turns with which frequency.
#
# {{exercise key_frequencies}}
#
# The power of a frequency is the sum of squares of its cosine and its sine coefficients, over all of d_model. The constant never counts. p is odd and at least 3, d_model may be 1, n may be 0 or all (p − 1)/2, and no two frequencies are equally strong. Return a list of whole numbers.


# %% id="answer-key_frequencies"
def key_frequencies(
    W_E: Float[Tensor, "hour d_model"], basis: Float[Tensor, "wave hour"], n: int
) -> list[int]:
    """The n frequencies (1 … (p − 1)/2) with the most power in W_E, the strongest first.

    The power of frequency k is the sum of squares, over d_model, of its cosine and its sine coefficients.
    basis: as `fourier_basis` makes it.
    """
    # BEGIN SOLUTION
    power = (basis @ W_E)[1:].square().sum(dim=1)
    of_frequency = power.unflatten(0, (-1, 2)).sum(dim=1)
    return [k + 1 for k in of_frequency.argsort(descending=True)[:n].tolist()]
    # END SOLUTION


lesson.check(key_frequencies)

# %% [markdown] id="use-spectrum-intro"
# We call **keys** the frequencies that hold more than 5% of the trained embedding's power each. **Predict:** how many of the 26 will there be? What will the embedding of the model look like that learned by heart?

# %% id="use-spectrum"
basis, find_keys = lesson.use("fourier_basis")(clocks.PRIME), lesson.use("key_frequencies")
trio, spectra = clocks.models(), {}
for name, addition_model in trio.items():
    W_E = modular.embedding(addition_model)
    spectra[name] = modular.spectrum(W_E)
    held = spectra[name][[k - 1 for k in find_keys(W_E, basis, 5)]].sum()
    print(f"{name}: the five strongest hold {held:.0%}")

# %% id="spectrum-picture" tags=["not-compared"]
clocks.draw_spectra({name: spectra[name] for name in ("weight decay", "no weight decay")})

# %% id="circles-intro" tags=["not-compared"]
keys = [k + 1 for k, share in enumerate(spectra["weight decay"].tolist()) if share > 0.05]
keys = sorted(keys, key=lambda k: -spectra["weight decay"][k - 1])
print(f"frequencies with more than 5% of the power: {keys}")
circles = clocks.watch_circles(keys)

# %% id="claims-spectrum-seen" tags=["claims"]
lesson.seen("keys", [str(k) for k in keys])
lesson.seen("number-of-keys", {2: "two", 3: "three", 4: "four", 5: "five"}[len(keys)])
lesson.seen("key-power", spectra["weight decay"][[k - 1 for k in keys]].sum(), ".0%")
strongest_share = {name: share.topk(len(keys)).values.sum() for name, share in spectra.items()}
lesson.seen("memory-power", strongest_share["no weight decay"], ".0%")
lesson.seen("untrained-power", strongest_share["untrained"], ".0%")
claim(
    "a few frequencies hold more than 90% of the trained embedding, and 2 to 5 have more than 5%",
    2 <= len(keys) <= 5 and spectra["weight decay"][[k - 1 for k in keys]].sum() > 0.9,
)
claim(
    "the strongest of the model that learned by heart are the same ones",
    set(find_keys(modular.embedding(trio["no weight decay"]), basis, len(keys))) == set(keys),
)
claim(
    "as many of the strongest hold less than half in the model that learned by heart, and in the untrained one",
    bool(strongest_share["no weight decay"] < 0.5 and strongest_share["untrained"] < 0.5),
)
radii = torch.stack(
    [modular.circle(modular.embedding(trio["weight decay"]), k).norm(dim=0) for k in keys]
)
untrained_radii = torch.stack(
    [modular.circle(modular.embedding(trio["untrained"]), k).norm(dim=0) for k in keys]
)
claim(
    "in each key plane all 53 hours are near the circle: their distances from its center are 1 within 35%",
    bool(((radii - 1).abs() < 0.35).all()),
)
claim(
    "in the untrained embedding each plane has hours at less than half and at more than one and a half of that distance",
    bool((untrained_radii.amin(1) < 0.5).all() and (untrained_radii.amax(1) > 1.5).all()),
)

# %% [markdown] id="spectrum-seen"
# <details><summary>What you should see</summary>
#
# The embedding that generalizes is made of {{seen:number-of-keys}} frequencies, {{seen:keys}}; they hold {{seen:key-power}} of its power. In the model that learned by heart as many of the strongest hold {{seen:memory-power}}, and in the untrained one {{seen:untrained-power}}. Look at the gray bars of the model without weight decay, though: the highest stand at the *same* frequencies. Keep that in mind. And in the moving picture the hours, scattered at first, walk to their places on the circles.
# </details>
#
# Nobody told the model that there is a clock. Nor which frequencies to take: the model at the end of this part takes others. But a circle in the embedding is only where a computation could begin.

# %% [markdown] id="ask-cosine_fit"
# ### The neurons
#
# (From here on cos ka is short for cos(2πka/p), and sin ka likewise.)
#
# What the addition theorem needs is *products*, cos ka times cos kb. Attention passes on sums, and the only part of this model that can multiply is the ReLU. It does it badly: over a range around its bend its even part, |x|/2, is roughly a parabola, and the square of a sum holds all products of its parts. So a neuron should hold products of up to two waves of its frequency, those that are wanted and many that are not.
#
# {{exercise cosine_fit}}
#
# Least squares with a constant, so that the mean of the neuron counts on neither side: the share of the variance around it. All products of degree one and two: the four waves themselves, and each times each, its own square included. p is a prime, 5 or more, k between 1 and (p − 1)/2. A dead neuron (0 for all pairs) gets 0.0. Activations may be tiny, and negative: it need not be a ReLU's. Return a number.


# %% id="answer-cosine_fit"
def cosine_fit(neuron: Float[Tensor, "a b"], k: int) -> float:
    """Share of a neuron's variance over all pairs that products of at most two of cos ka, sin ka, cos kb, sin kb explain.

    Least squares with a constant. 0.0 for a dead neuron, which is 0 everywhere.
    """
    # BEGIN SOLUTION
    p = len(neuron)
    angle = 2 * math.pi * k * torch.arange(p, dtype=torch.float64) / p
    waves = torch.stack(
        [0 * angle + 0.5**0.5, angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()]
    )
    waves = waves * (2 / p) ** 0.5
    degree = torch.tensor([0, 1, 1, 2, 2])
    centered = neuron.double() - neuron.double().mean()
    total = centered.square().sum()
    if total == 0:
        return 0.0
    coefficients = waves @ centered @ waves.T
    return float(coefficients[degree[:, None] + degree <= 2].square().sum() / total)
    # END SOLUTION


lesson.check(cosine_fit)

# %% [markdown] id="use-neurons-intro"
# Now to the neurons of the three models (every fourth, of those that are not dead). Each gets the frequency that fits it best, of all that there are. Two numbers tell what is in it: all products up to degree two, and cos k(a + b) and sin k(a + b) alone. And a third, `direction_fit`, looks at what the output *reads*. The matrix $W_L = W_{out} W_U$ leads from the 256 neurons to the logit of each answer c. It makes the wave cos kc over the answers from one direction of the neurons, and sin kc from another. How much of the activations along these two directions is a wave of k(a + b)? (Nanda et al. 2023, section 4; each model with the frequencies that its output holds most of.)
#
# **Predict** the order of the three numbers in the trained model.

# %% id="use-neurons"
fit = lesson.use("cosine_fit")
rows = {name: clocks.neuron_shares(one, fit, len(keys)) for name, one in trio.items()}
columns = [
    "neuron: products of ≤ 2",
    "waves of a + b",
    "waves of a or b",
    "direction: waves of a + b",
]
show.table(rows, columns, title="Explained share of the variance (medians)")

# %% id="claims-neurons-seen" tags=["claims"]
lesson.seen("neuron-products", rows["weight decay"][0], ".0%")
lesson.seen("neuron-linear", rows["weight decay"][2], ".0%")
lesson.seen("neuron-sums", rows["weight decay"][1], ".0%")
lesson.seen("direction-sums", rows["weight decay"][3], ".0%")
lesson.seen("memory-products", rows["no weight decay"][0], ".0%")
lesson.seen("memory-direction", rows["no weight decay"][3], ".0%")
claim(
    "products up to degree two explain more than 85% of the middle neuron, waves of the sum less than 25%",
    bool(rows["weight decay"][0] > 0.85 and rows["weight decay"][1] < 0.25),
)
claim(
    "waves of a or b alone explain more than 60% of it, at least four times as much as waves of the sum",
    bool(rows["weight decay"][2] > max(0.6, 4 * rows["weight decay"][1])),
)
claim(
    "of the middle direction that the output reads, waves of the sum explain more than 85%",
    bool(rows["weight decay"][3] > 0.85),
)
claim(
    "in both controls neither reaches half of that",
    all(
        rows[name][i] < 0.5 * rows["weight decay"][i]
        for name in ("no weight decay", "untrained")
        for i in (0, 3)
    ),
)

# %% [markdown] id="neurons-seen"
# <details><summary>What you should see</summary>
#
# In the median {{seen:neuron-products}} of a neuron is products of up to two waves of one frequency. Only {{seen:neuron-sums}} of it is the sum a + b. Most, {{seen:neuron-linear}}, is waves of a alone and of b alone. But the output does not read single neurons. Along the directions that it reads these cancel, and {{seen:direction-sums}} is what is wanted. In the model that learned by heart the numbers are {{seen:memory-products}} and {{seen:memory-direction}}.
# </details>
#
# Neuron by neuron you would have found a clear frequency, and hardly a trace of the sum. The sum is clean only in directions across neurons.

# %% [markdown] id="ask-restricted_logits"
# ### The logits
#
# If the model adds as we think, its logits for all pairs are functions of a + b, made of waves of the key frequencies. Two cuts test that. **Restricted**: keep these waves and throw everything else away. **Excluded**: throw these away, and keep everything else.
#
# {{exercise restricted_logits}}
#
# For each answer c the logits are a table over a and b. Keep its mean, and its parts along cos k(a + b) and sin k(a + b) (projections: each wave has length one over all pairs). The basis is as `fourier_basis` makes it, and the addition theorem makes the two waves from its rows. `keys` holds each frequency at most once, and may be empty: then only the means stay. p is odd and at least 3; there may be more or fewer answers than hours, or a single one. The result has the shape of the logits, which are not changed.


# %% id="answer-restricted_logits"
def restricted_logits(
    logits: Float[Tensor, "a b c"], basis: Float[Tensor, "wave hour"], keys: list[int]
) -> Float[Tensor, "a b c"]:
    """The mean over pairs of each answer's logit, plus its waves cos k(a + b) and sin k(a + b) for k in keys.

    basis: as `fourier_basis` makes it. The logits are left as they are.
    """
    # BEGIN SOLUTION
    kept = logits.mean(dim=(0, 1)).expand_as(logits).clone()
    for k in keys:
        cos, sin = basis[2 * k - 1], basis[2 * k]
        for wave in (
            torch.outer(cos, cos) - torch.outer(sin, sin),
            torch.outer(sin, cos) + torch.outer(cos, sin),
        ):
            wave = wave / wave.norm()
            kept += wave[..., None] * torch.einsum("ab,abc->c", wave, logits)
    return kept
    # END SOLUTION


lesson.check(restricted_logits)

# %% [markdown] id="ask-excluded_logits"
# {{exercise excluded_logits}}
#
# The mean over pairs stays here as well. The same shapes, and `keys` may be empty: then nothing is taken out.


# %% id="answer-excluded_logits"
def excluded_logits(
    logits: Float[Tensor, "a b c"], basis: Float[Tensor, "wave hour"], keys: list[int]
) -> Float[Tensor, "a b c"]:
    """The logits without their waves cos k(a + b) and sin k(a + b) for k in keys. The mean over pairs stays."""
    # BEGIN SOLUTION
    return logits - restricted_logits(logits, basis, keys) + logits.mean(dim=(0, 1))
    # END SOLUTION


lesson.check(excluded_logits)

# %% [markdown] id="use-cuts-intro"
# The control has to be a fair one: as many frequencies, but other ones. Beside it stands the model that learned by heart, which gets the training pairs right in another way. **Predict** the losses on training pairs, for both models: whole, restricted to the keys, without the keys.

# %% id="use-cuts"
restrict, exclude = lesson.use("restricted_logits"), lesson.use("excluded_logits")
on_training = clocks.trained_pairs()
control_keys = clocks.random_keys(len(keys), 5, keys, seed=0)
subjects = {n: modular.pair_logits(trio[n]) for n in ("weight decay", "no weight decay")}
cuts = {}
for name, logits in subjects.items():
    versions = [logits, *(cut(logits, basis, keys) for cut in (restrict, exclude))]
    cuts[name] = [modular.measure(version, on_training).train_loss for version in versions]
    for cut in (restrict, exclude):
        others = [cut(logits, basis, ks) for ks in control_keys]
        cuts[name].append(clocks.median_loss(others, on_training))
columns = ["whole", "restricted", "excluded", "control: restricted", "control: excluded"]
show.table(cuts, columns, title="Loss on training pairs (nats; guessing: 3.97)")

# %% id="claims-cuts-seen" tags=["claims"]
trained_cuts, memory_cuts = cuts["weight decay"], cuts["no weight decay"]
lesson.seen("excluded-trained", trained_cuts[2], ".0f")
lesson.seen("restricted-memory", memory_cuts[1], ".1f")
lesson.seen("excluded-memory", memory_cuts[2], ".0f")
claim(
    "restricted to the keys the trained model loses less than 0.05 nats",
    trained_cuts[1] - trained_cuts[0] < 0.05,
)
claim("without the keys it is worse than guessing", trained_cuts[2] > 3.97)
claim(
    "other frequencies as keys (the middle of 5 sets): restricted it only guesses, excluded it loses less than 0.05 nats",
    bool(trained_cuts[3] > 3.9 and trained_cuts[4] < 0.05),
)
claim(
    "the model without weight decay: restricted to the keys at most 1 nat better than guessing, others are far worse",
    bool(2.97 < memory_cuts[1] < 3.97 and memory_cuts[3] > 8),
)
claim(
    "without the keys it is worse than guessing too, and without others it loses less than 0.05 nats",
    bool(memory_cuts[2] > 3.97 and memory_cuts[4] < 0.05),
)

# %% [markdown] id="cuts-seen"
# <details><summary>What you should see</summary>
#
# From waves of {{seen:number-of-keys}} frequencies the trained model can be rebuilt, and next to nothing is lost. Without them its loss is {{seen:excluded-trained}} nats, worse than guessing. Other frequencies in their place give the opposite on both counts, so the cut itself is not what hurts.
#
# The model without weight decay is a surprise. Other frequencies can be taken from it unnoticed. Without *these* its loss is {{seen:excluded-memory}} nats, although it does not get a single unseen pair right. And with them alone, {{seen:restricted-memory}}, it is a little better than guessing. It began from the same weights, and seems to have begun the same circuit. Its list hides it.
# </details>
#
# One cut says that the algorithm is *enough*, the other that it is *needed*. Neither alone would do: a part that is enough may stand beside another that is enough as well.

# %% [markdown] id="leak-intro"
# ### Try to break it
#
# "Seems": is there an algorithm in the second model, or did the cut put it there? Ask a control that has none for certain. A **lookup table** holds the right answer for each pair of the training, and noise for all others. Restrict it to the key frequencies. **Predict:** on how many of the *unseen* pairs will it be right?
#
# Beside it stands a stricter cut, `held_out_restricted`: the strengths of the waves are fitted to unseen pairs alone, to one half of them for the other half.

# %% id="use-leak"
subjects["lookup table"], leaks = modular.lookup_table(on_training), {}
for name, logits in subjects.items():
    versions = [logits, restrict(logits, basis, keys)]
    for ks in (keys, control_keys[0]):
        versions.append(modular.held_out_restricted(logits, ks, on_training))
    leaks[name] = [modular.measure(version, on_training).test_accuracy for version in versions]
columns = ["whole", "restricted", "held out", "control: held out, other keys"]
show.table(leaks, columns, title="Share of unseen pairs that are right (guessing: 0.02)")

# %% id="claims-leak-seen" tags=["claims"]
lesson.seen("table-restricted", leaks["lookup table"][1], ".0%")
memory_splits = [
    modular.measure(
        modular.held_out_restricted(subjects["no weight decay"], keys, on_training, seed),
        on_training,
    ).test_accuracy
    for seed in range(4)
]
lesson.seen("memory-held-low", min(memory_splits), ".0%")
lesson.seen("memory-held-high", max(memory_splits), ".0%")
claim(
    "the lookup table, restricted, is right on more than 70% of the unseen pairs",
    leaks["lookup table"][1] > 0.7,
)
claim("held out it is right on less than 5%", leaks["lookup table"][2] < 0.05)
claim(
    "the trained model is right on more than 99% either way",
    min(leaks["weight decay"][:3]) > 0.99,
)
claim(
    "the model without weight decay: held out more than 6% right, with other keys less than 3%, as a whole less than 1%",
    leaks["no weight decay"][2] > 0.06
    and leaks["no weight decay"][3] < 0.03
    and leaks["no weight decay"][0] < 0.01,
)

# %% [markdown] id="leak-seen"
# <details><summary>What you should see</summary>
#
# A table that knows nothing of unseen pairs is right on {{seen:table-restricted}} of them once it is restricted. The strength of a wave is an average over *all* pairs with the same sum, most of which were in the training. So the cut hands their answers to the unseen ones. With waves from unseen pairs alone the table is back at guessing, and the trained model is as good as before. The model without weight decay is right on {{seen:memory-held-low}} to {{seen:memory-held-high}}, depending on how the unseen pairs are halved, and with other frequencies on none or next to none: there is a beginning of the algorithm in it, much smaller than it looked.
# </details>
#
# It is the mistake of part A's held-out R² in other clothes: what was fitted had seen the answers.

# %% [markdown] id="progress-intro"
# ### Before it shows
#
# Back to the second question: was the model idle? For a long time nothing happened that accuracy could show. Both cuts can be made at every checkpoint. What did they show meanwhile?
#
# "Before" needs a rule, chosen before one looks.

# %% [markdown] id="ask-emergence_order"
# {{exercise emergence_order}}
#
# A measure's way goes from its first value to its last, up or down; beyond the last value counts as there. Its step is the first from which it stays at half of the way or more until the end; exactly half counts. A measure whose last value equals its first is left out. Measures with the same step keep the order of the dictionary. The steps increase, one for each value of each measure; there may be a single checkpoint. Steps are returned as whole numbers.


# %% id="answer-emergence_order"
def emergence_order(
    steps: Int[Tensor, "checkpoint"], measures: dict[str, Float[Tensor, "checkpoint"]]
) -> list[tuple[str, int]]:
    """(name, step) of each measure, the earliest first: the first step from which it stays at least half of its way.

    The way goes from the measure's first value to its last. A measure that ends where it began is left out; measures
    that arrive at the same step keep the order of the dictionary.
    """
    # BEGIN SOLUTION
    found = []
    for name, values in measures.items():
        if values[0] == values[-1]:
            continue
        way = (values - values[0]) / (values[-1] - values[0])
        not_yet = (way < 0.5).nonzero()
        found.append((name, int(steps[not_yet[-1] + 1])))
    return sorted(found, key=lambda pair: pair[1])
    # END SOLUTION


lesson.check(emergence_order)

# %% [markdown] id="use-progress-intro"
# Three measures at each checkpoint: the test accuracy; the restricted loss on unseen pairs, held out; and the excluded loss on training pairs; both losses with the final keys. **Predict** their order. (A control, the restricted loss with other keys, is recorded beside them.)

# %% id="use-progress"
steps, progress = clocks.progress(exclude, basis, keys, control_keys[0])
measured = {name: values for name, values in progress.items() if name != "control"}
for name, step in lesson.use("emergence_order")(steps, measured):
    print(f"{name}: half of its way at step {step:,}")

# %% id="progress-picture" tags=["not-compared"]
clocks.draw_progress(steps, measured)

# %% id="claims-progress-seen" tags=["claims"]
emerged = dict(lesson.use("emergence_order")(steps, measured))
lesson.seen("step-restricted", f"{emerged['restricted']:,}")
lesson.seen("step-excluded", f"{emerged['excluded']:,}")
lesson.seen("step-accuracy", f"{emerged['test accuracy']:,}")
claim(
    "restricted and excluded loss have gone half of their way at an earlier checkpoint than test accuracy",
    max(emerged["restricted"], emerged["excluded"]) < emerged["test accuracy"],
)
early = steps.tolist().index(1000)
lesson.seen("whole-early", progress["test accuracy"][early], ".0%")
waves_alone = modular.held_out_restricted(clocks.checkpoint_logits()[1000], keys, on_training)
lesson.seen("held-early", modular.measure(waves_alone, on_training).test_accuracy, ".0%")
claim(
    "at step 1000 the held-out restricted logits are right on more than 35% of unseen pairs, the whole ones on less than 10%",
    modular.measure(waves_alone, on_training).test_accuracy > 0.35
    and progress["test accuracy"][early] < 0.1,
)
lesson.seen("excluded-peak", progress["excluded"].max(), ".0f")
memory_restricted = modular.measure(
    modular.held_out_restricted(subjects["no weight decay"], keys, on_training), on_training
).test_loss
claim(
    "the excluded loss peaks at more than 1.5 times its last value, and the model without weight decay has more than that last value too",
    progress["excluded"].max() > 1.5 * progress["excluded"][-1]
    and memory_cuts[2] > progress["excluded"][-1],
)
claim(
    "the restricted loss, held out, is below 0.1 in the end, and above 1 nat without weight decay",
    progress["restricted"][-1] < 0.1 and memory_restricted > 1,
)
claim(
    "with other keys the restricted loss is never 0.1 nats better than guessing",
    bool((progress["control"] > 3.87).all()),
)

# %% [markdown] id="progress-seen"
# <details><summary>What you should see</summary>
#
# The excluded loss is half of its way up at step {{seen:step-excluded}}, and the restricted loss half of its way down at {{seen:step-restricted}}. The test accuracy follows at {{seen:step-accuracy}}. With other keys the restricted loss never falls. At step `1000` the model is right on {{seen:whole-early}} of the unseen pairs; its waves alone would be right on {{seen:held-early}}. The algorithm was growing while the list learned by heart still gave the answers and hid it.
#
# The excluded loss does not stop at its last value, {{seen:excluded-trained}}: it rises to {{seen:excluded-peak}} and comes back. And in the model without weight decay it ends at {{seen:excluded-memory}}, though that one never generalizes. So a high excluded loss says that waves of these frequencies matter, and announces nothing. The restricted loss, held out, tells the two models apart.
# </details>
#
# So the sudden jump is sudden in one measure. In Nanda et al. (2023, section 5) there are three phases: learning by heart, forming the circuit, and cleaning up what was learned by heart; accuracy jumps in the last. One caution: both measures need the final keys. They are not a prophecy. Whoever watches a training does not know yet which frequencies will win.

# %% [markdown] id="ask-my_frequencies"
# ### Another clock
#
# `tiny-clock-mystery` adds on a clock of 59 hours. Which frequencies does it use?
#
# {{exercise my_frequencies}}
#
# A frequency's loss is the mean over all pairs of what the model loses when its waves cos k(a + b) and sin k(a + b) are taken out of the logits, one frequency at a time. Give a list of frequencies, whole numbers from 1 to 29; order does not matter, and one that is there twice counts once. All points or none: one too many is as wrong as one too few. In this model there is one trap. No frequency is near the bar: without it the loss rises by more than 0.2 nats, or by less than 0.02.

# %% id="clock-mystery"
clock_mystery = load_native("tiny-clock-mystery")

# %% id="answer-my_frequencies"
# BEGIN SOLUTION
mystery_logits = modular.pair_logits(clock_mystery)
mystery_basis = lesson.use("fourier_basis")(len(mystery_logits))
whole = modular.cross_entropy(mystery_logits).mean()
rises = {}
for k in range(1, 30):
    without = lesson.use("excluded_logits")(mystery_logits, mystery_basis, [k])
    rises[k] = float(modular.cross_entropy(without).mean() - whole)
my_frequencies = [k for k, rise in rises.items() if rise > 0.1]
# END SOLUTION

lesson.check(my_frequencies, name="my_frequencies")

# %% [markdown] id="use-clock-mystery-intro"
# Compare your list with what the embedding holds. **Predict:** are they the same?

# %% id="use-clock-mystery"
found, W_E = lesson.use("my_frequencies"), modular.embedding(clock_mystery)
in_embedding = find_keys(W_E, lesson.use("fourier_basis")(59), len(found) + 1)
print(f"used: {sorted(found)}; strongest in the embedding: {sorted(in_embedding)}")

# %% id="claims-clock-mystery-seen" tags=["claims"]
unused = [k for k in in_embedding if k not in found]
lesson.seen("decoy", [str(k) for k in unused])
claim(
    "the embedding holds all used frequencies, and one more",
    len(unused) == 1 and set(found) < set(in_embedding),
)

# %% [markdown] id="clock-mystery-seen"
# <details><summary>What you should see</summary>
#
# The embedding holds one frequency more, {{seen:decoy}}. We wrote it there, into two directions that hardly any head looks at.
# </details>
#
# It is not as far-fetched as it sounds: Nanda et al. (2023, section 4) report a sixth frequency in the embedding of their model, which the rest does not use. Reading proposes, and only an intervention decides.

# %% [markdown] id="clock-reflect"
# *Reflect.* Which result would have convinced you that the model does *not* add by waves? And what did the restricted logits leave open: could another algorithm make the same logits?

# %% [markdown] id="clock-pizza"
# One does. Zhong et al. (2023, *The Clock and the Pizza*) found models of the same task that do not add angles by multiplying: they average the two vectors on the circle, whose length then depends on a − b, and make up for that by several frequencies. Nothing that you have measured was made to tell the two apart; they ask whether the size of the logits depends on a − b. An explanation is as good as the alternatives that it was tested against.

# %% [markdown] id="part-c"
# ## Part C. Connecting the dots
#
# In parts A and B the latent thing could be inferred from each training string, or from the table that was learned. Treutlein et al. (2024) ask for more. A language model is fine-tuned on documents each of which says next to nothing: distances between known cities and "City 50337", single flips of a coin with a name, pairs of x and f(x). Nowhere is it written that the city is Paris, that the coin is biased, what f
# is. Asked afterwards, in words and without examples, large models can often say so. They call it inductive out-of-context reasoning, and find it unreliable, and weaker in smaller models.
#
# Here is the smallest version that we could make work. A coin lands heads with probability 0.1, 0.3, 0.5, 0.7 or 0.9. A model of two layers, 16 numbers wide, reads documents of three tokens, of two kinds: `coin 17 · lands · heads`, a single toss, and `coin 17 · how often · seldom`, a question with its answer, one of five. For 2,000 steps it reads both kinds about 40 coins. Then 20 **new coins** turn up, for 1,000 steps, and only in tosses; the questions are still about the first 40. No document says how often a new coin lands heads, and none shows more than one
# toss.
#
# Then ask. **Predict** how many of the new coins it will describe by the right words, guessing being one in five. The controls: the model before; the same training with each toss of a new coin under the name of a random new coin; and one whose questions are not rehearsed while the new coins turn up.

# %% id="use-coins"
from mi_course.interp import coins

coin_models = coins.trained_coin_models()
told = {name: coins.what_it_says(one) for name, one in coin_models.items()}
columns = ["known coins, right words", "new coins, right words", "new coins, P(heads) off by"]
show.table(told, columns, title="How often does it land heads?")

# %% id="claims-coins-seen" tags=["claims"]
after_all, names_exchanged = (
    told["1,000 steps with new coins"],
    told["control: names exchanged"],
)
unrehearsed = told["control: questions not rehearsed"]
lesson.seen("coins-new", after_all[1], ".0%")
lesson.seen("coins-before", told["before the new coins"][1], ".0%")
lesson.seen("coins-exchanged", names_exchanged[1], ".0%")
lesson.seen("coins-unrehearsed", unrehearsed[0], ".0%")
lesson.seen("coins-off", unrehearsed[2], ".2f")
claim(
    "more than 65% of the new coins get the right words, all known ones do",
    after_all[1] > 0.65 and after_all[0] > 0.99,
)
claim(
    "before they turn up, and with names exchanged, less than 35%",
    max(told["before the new coins"][1], names_exchanged[1]) < 0.35,
)
claim(
    "without rehearsal less than 40% even of the known coins, while tosses of new coins are known to 0.03",
    unrehearsed[0] < 0.4 and unrehearsed[2] < 0.03,
)

# %% [markdown] id="coins-seen"
# <details><summary>What you should see</summary>
#
# {{seen:coins-new}} of the new coins are described by the right words; before they turned up it was {{seen:coins-before}}, and it stays at {{seen:coins-exchanged}} when the tosses tell nothing about the name they stand under. So the words were learned on some coins, the tosses on others, and the model put the two together. It is not a law: where the questions are not rehearsed it learns how the new coins land (P(heads) is off by {{seen:coins-off}}), and forgets the words altogether, for the known coins too ({{seen:coins-unrehearsed}}).
# </details>
#
# That the model *holds* the value of a new coin is no news. To predict its tosses it must, since nothing else in the document tells. The question is in what form, so that words learned elsewhere fit it.

# %% [markdown] id="use-coins-where-intro"
# Is it **one direction**, shared by all coins? First read: a map from the stream to the value, fitted to the known coins and judged on the new ones, once from all 16 numbers and once along the single direction in which the stream goes with the value. Then act: give each new coin another of the five values, in its embedding, either along this direction or from the mean of the known coins with the one value to the mean of those with the other. **Predict:** which of the two changes its words, and which its tosses?

# %% id="use-coins-where"
asked, control = (
    coin_models["1,000 steps with new coins"],
    coin_models["control: names exchanged"],
)
where = {
    place: [*coins.read_values(asked, *at), coins.read_values(control, *at).all_numbers]
    for place, at in coins.PLACES.items()
}
columns = ["all numbers", "one direction", "control: names exchanged"]
show.table(where, columns, title="R² of reading a new coin's value")

# %% id="use-coins-act"
given = coins.give_other_values(asked)
columns = ["words become its words", "words follow, on average", "P(heads) follows", "length"]
show.table(given, columns, title="Giving a new coin another value")

# %% id="claims-coins-where-seen" tags=["claims"]
one_way, by_means = given["along one direction"], given["from mean to mean"]
at_random = given["control: random, mean of ten"]
lesson.seen("coins-read", where["coin, embedding"][0], ".1f")
lesson.seen("coins-read-one", where["coin, embedding"][1], ".1f")
lesson.seen("coins-one-heads", one_way[2], ".1f")
lesson.seen("coins-one-value", one_way[1], ".1f")
lesson.seen("coins-one-words", one_way[0], ".0%")
lesson.seen("coins-means-words", by_means[0], ".0%")
lesson.seen("coins-random-words", at_random[0], ".0%")
claim(
    "in the embedding of new coins the value is read with R² above 0.6, also along one direction; names exchanged: below 0.3",
    min(where["coin, embedding"][:2]) > 0.6 and where["coin, embedding"][2] < 0.3,
)
claim(
    "along one direction P(heads) follows by more than 0.5, and at most half of the words become right",
    one_way[2] > 0.5 and one_way[0] <= 0.5,
)
claim(
    "from mean to mean more than 85% do, and P(heads) follows by more than 0.8",
    by_means[0] > 0.85 and by_means[2] > 0.8,
)
claim(
    "random changes of that length: less than 30% of the words, and less than 0.3 of P(heads)",
    at_random[0] < 0.3 and abs(at_random[2]) < 0.3,
)

# %% [markdown] id="coins-where-seen"
# <details><summary>What you should see</summary>
#
# A map fitted to other coins reads the value from a new coin's embedding (R² about {{seen:coins-read}}), nearly as well along one direction ({{seen:coins-read-one}}), and the tosses follow that direction most of the way ({{seen:coins-one-heads}}). One would call it *the* direction of the value. Its words go the right way too (by {{seen:coins-one-value}}, averaged over their probabilities), and yet only {{seen:coins-one-words}} become those of the other value. From mean to mean it is {{seen:coins-means-words}}, and a random change of that length gives {{seen:coins-random-words}}.
# The five values do not lie on a line. They lie in five places, the same for new coins as for known ones, though new coins were only ever tossed.
# </details>
#
# This is one run of a very small model, whose documents are all alike; two other seeds, and models twice as wide, gave the same picture, with somewhat more or fewer new coins right. The weight decay is part of it: with less, fewer new coins were right, and without any less than half. It shows that putting the dots together needs nothing mysterious: tosses and questions start from one vector, and it turns out that they read the same part of it. Whether large models do it in this way is another question. What you would need to see there is what you have just done here: whole coins held out, a control whose documents tell nothing, and the *answer to the question* moving, not only the tosses.
#
# **What result would have changed your mind** in part A? Ours was: if with beliefs held out the ring had fallen to what its tokens give. Then we allowed the map products of two tokens, and the difference was gone. And the intervention that is left moves predictions hardly further than one that knows only the next token. That the ring's model computes *beliefs* is compatible with all that you have measured, and not shown by it.

# %% id="claims-recap" tags=["claims"]
claim(
    "the fractal is read to 0.99 where the next-token probabilities alone give all of it",
    mess3_scores["trained"] > 0.99 and mess3_scores["next-token probabilities"] > 0.999,
)
claim(
    "the ring's map holds for beliefs held out, RRXOR's does not by least squares and does in part when stiff",
    readings["ring, last layer"][2] > 0.9
    and stiff["trained"] > 0.15 > 0 > readings["RRXOR, all layers"][2],
)
claim(
    "the clock's waves, held out, are half of their way earlier than the accuracy; a lookup table's, not held out, are right on 70%",
    emerged["restricted"] < emerged["test accuracy"] and leaks["lookup table"][1] > 0.7,
)
claim(
    "new coins are described by the right words, more than 0.3 above both controls",
    after_all[1] - max(told["before the new coins"][1], names_exchanged[1]) > 0.3,
)
claim(
    "in RRXOR what reads best and what acts are different changes: at equal length they differ by 0.5 in what predictions make of them",
    steered_xor["as the stream moves"][0] - xor_longer[0] > 0.5,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You computed what a perfect predictor must believe, and the loss below which nobody can get. You found the famous fractal in a trained model, and nearly as well in models that had learned nothing. A linear map found any arrangement of few points; with whole beliefs held out, one model's geometry was left standing, though a few products of tokens had it as well, and another's showed in part, to a stiffer map. Then you changed beliefs: the smallest change
# that convinced the map left predictions nearly cold, in one model because it was short, in the other because the model did not listen there; the change that the stream makes by itself moved them as Bayes's rule says, and one made from next-token probabilities did nearly as much. And three processes could be told apart by what a model says, where neither reading nor the least losses could.
#
# Then a clock. A model learned its sums by heart, and while its answers showed nothing else an algorithm of {{seen:number-of-keys}} rotating hands grew under them; you read the hands from the embedding, found them in directions where single neurons showed waste, and measured them before they could be seen. Two measures had to be taken back or sharpened on the way: restricted logits hand the answers of the training to pairs that were never seen, and a frequency in an embedding need not be read by anything.
#
# And a model that had only seen single tosses of some coins could say in words what they were like. One direction read that, and moved the tosses; the words needed more.
#
# The habit to keep: before you say that a model *represents* something, ask what else would have given the same R², and then act on it.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Shai et al. 2024. Read section 3 and look, at each figure, for the control that you would want beside it.
