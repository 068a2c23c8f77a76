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
# You will build and train the smallest networks that keep more features than they have dimensions, find out when they do it and when they do not, measure the shapes that they fold their features into, and see what happens when features come in company.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00. The models are yours, a handful of numbers each, trained in a few seconds; SmolLM2 appears once, at the end. Source: Elhage et al. 2022, *Toy Models of Superposition*.

# %% id="setup"
import torch
import mi_course

lesson = mi_course.lesson("superposition")

# %% [markdown] id="part-1"
# ## 1. A surprise
#
# A network with **two** hidden dimensions is given **five** numbers, and asked to give all five back. Nothing relates the five to one another. Two dimensions hold two numbers; linear algebra leaves no doubt about that.
#
# Four such networks are trained below, side by side. They differ in one thing: how often each of the five numbers is not zero. On the left always, on the right one time in twenty. Each arrow is the direction in which one number is written into the two dimensions.
#
# **Predict:** how many arrows of any length will there be on the left? On the right? Where will they point? Then run it, and watch.

# %% id="surprise" tags=["not-compared"]
from mi_course.interp import toy_experiments as toys

rates = [1.0, 0.5, 0.2, 0.05]
first = toys.watch(
    {f"present {p:.0%} of the time": (5, 2, p, 3) for p in rates},
    lambda W: f"{int((W.norm(dim=0) > 0.5).sum())} of 5 kept",
    title="Five features in two dimensions, live",
    fading=0.9,
    steps=1500,
    lr=0.012,
)

# %% id="claims-surprise-seen" tags=["claims"]
from mi_course import claim

kept_of = [int((W.norm(dim=0) > 0.5).sum()) for W in first.values()]
lesson.seen("kept_dense", kept_of[0])
lesson.seen("kept_sparse", kept_of[-1])
claim("the number of arrows grows from left to right", kept_of == sorted(kept_of))
dense = first["present 100% of the time"]
two = dense[:, dense.norm(dim=0) > 0.5]
claim(
    "always present: two arrows at a right angle, cosine below 0.1",
    two.shape[1] == 2 and abs(float(torch.cosine_similarity(*two.T, dim=0))) < 0.1,
)
claim(
    "one time in twenty: a pentagon, with all five longer than 0.9",
    toys.shapes(first["present 5% of the time"]) == "pentagon"
    and first["present 5% of the time"].norm(dim=0).min() > 0.9,
)

# %% [markdown] id="surprise-seen"
# <details><summary>What you should see</summary>
#
# Always present: {{seen:kept_dense}} arrows at a right angle, and the other numbers are given up. (From other random weights some networks take longer to get there.) That is what linear algebra says. As the numbers become rare, more arrows grow, some of them pointing *against* each other. At the right there are {{seen:kept_sparse}}, at the corners of a pentagon. Nobody asked for a pentagon.
# </details>
#
# The left-hand network has a dimension for each feature that it keeps. The right-hand one keeps them all, and no dimension means any one of them. If real networks do this, then looking at single neurons is looking at the wrong thing. Elhage et al. (2022) call it **superposition**. How does it get away with it, and what does it pay?

# %% [markdown] id="part-2"
# ## 2. The parts, by hand
#
# Three parts make the model: features that are mostly zero, two products and a ReLU, and a loss. First the features. A word for a color, the name of a river, a closing bracket: most of what a text could contain, it does not contain just now. That is **sparsity**.

# %% [markdown] id="ask-sample_features"
# {{exercise sample_features}}
#
# The table has the shape (batch, n_features); what is not present is 0, and nothing is negative. The probability may be 0 or 1. The same seed gives the same table, another seed another one, and PyTorch's global random state is left alone.

# %% id="answer-sample_features"
from jaxtyping import Float
from torch import Tensor


def sample_features(
    batch: int, n_features: int, probability: float, seed: int
) -> Float[Tensor, "batch features"]:
    """Sparse features: each present with this probability, independently, and uniform on [0, 1] when present, else 0.

    The same seed gives the same features; the global random state is untouched.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(batch, n_features, generator=generator) < probability
    return torch.rand(batch, n_features, generator=generator) * present
    # END SOLUTION


lesson.check(sample_features)

# %% [markdown] id="by-hand"
# **By hand, once.** The model writes x into the hidden space with W, reads it with the same W, adds a bias and cuts at zero: $\hat x = \mathrm{ReLU}(W^\top W x + b)$. Take *one* hidden dimension, two features, $W = (1, -1)$ and $b = 0$.
#
# | x | hidden $Wx$ | $W^\top W x$ | after the ReLU |
# |---|---|---|---|
# | (0.8, 0) | 0.8 | (0.8, −0.8) | (0.8, 0) |
# | (0, 0.6) | −0.6 | (−0.6, 0.6) | (0, 0.6) |
# | (0.8, 0.6) | 0.2 | (0.2, −0.2) | (0.2, 0) |
#
# Alone, each feature comes back unharmed: what it does to the other is negative, and the ReLU clears it away. Together they collide. One dimension holds two features as long as they seldom meet.

# %% [markdown] id="ask-toy_forward"
# {{exercise toy_forward}}
#
# Column i of W is feature i's direction in the hidden space. There may be fewer features than dimensions, a single row, a single feature.


# %% id="answer-toy_forward"
def toy_forward(
    x: Float[Tensor, "batch features"],
    W: Float[Tensor, "hidden features"],
    b: Float[Tensor, "features"],
) -> Float[Tensor, "batch features"]:
    """ReLU(Wᵀ W x + b) for each row x of the batch."""
    # BEGIN SOLUTION
    hidden = x @ W.T
    return torch.relu(hidden @ W + b)
    # END SOLUTION


lesson.check(toy_forward)

# %% [markdown] id="ask-importance_loss"
# Not all features matter alike. Getting the end of a sentence right is worth more than the spelling of a river. Each feature therefore has an **importance**.
#
# {{exercise importance_loss}}
#
# $\sum_i \text{importance}_i\,(x_i - \hat x_i)^2$, averaged over rows, and not divided by the sum of the importances. Return a scalar tensor: training will ask for its gradient with respect to x̂.


# %% id="answer-importance_loss"
def importance_loss(
    x: Float[Tensor, "batch features"],
    x_hat: Float[Tensor, "batch features"],
    importance: Float[Tensor, "features"],
) -> Float[Tensor, ""]:
    """Squared error times importance, summed over features, averaged over the batch: a scalar tensor."""
    # BEGIN SOLUTION
    return (importance * (x - x_hat) ** 2).sum(dim=-1).mean()
    # END SOLUTION


lesson.check(importance_loss)

# %% [markdown] id="part-3"
# ## 3. What superposition has to beat
#
# Here is what we compare with: the best that a **linear** model could do with as many dimensions. It keeps the most important features, one in each dimension, and answers every other feature by a constant. Which constant is best? What does it cost?
#
# Work it out on paper: x is 0 with probability 1 − p, and otherwise uniform on [0, 1].

# %% [markdown] id="ask-best_linear_loss"
# {{exercise best_linear_loss}}
#
# The importance-weighted loss, in closed form, as a number. The importances come in no particular order, and some may be equal. There may be no hidden dimension at all (n_hidden is 0: all features are lost), or more than enough (nothing is lost: 0).


# %% id="answer-best_linear_loss"
def best_linear_loss(
    n_hidden: int, probability: float, importance: Float[Tensor, "features"]
) -> float:
    """Loss of the best linear model: the n_hidden most important features kept, the others answered by their mean.

    Each feature is 0 with probability 1 − probability, else uniform on [0, 1].
    """
    # BEGIN SOLUTION
    variance = probability / 3 - (probability / 2) ** 2
    lost = importance.sort(descending=True).values[n_hidden:]
    return float(lost.sum()) * variance
    # END SOLUTION


lesson.check(best_linear_loss)

# %% [markdown] id="ask-train_toy"
# ### Train one
#
# {{exercise train_toy}}
#
# Random small W, zero b, Adam, fresh features at every step. Return `{"W": W, "b": b}`, W as [hidden, features].
#
# It is judged on 30,000 fresh rows. With probability 0.1 or less, the loss may be at most **half** the best linear loss; with probability 1, where nothing is to be gained, at most 1.15 times. The importances may be equal, or fall by a factor of 0.6 or 0.7 from one feature to the next, in any order; up to 12 features, in 2 to 4 dimensions. The same seed must give exactly the same model, another seed another one, and the global random state is left alone. The check trains nine models in three groups of three, in at most 40, 30 and 20 seconds (up to four times that on a slow machine), so let one take a few seconds at most.


# %% id="answer-train_toy"
def train_toy(
    n_features: int,
    n_hidden: int,
    probability: float,
    importance: Float[Tensor, "features"],
    seed: int,
) -> dict[str, Tensor]:
    """A trained toy model: `W` [n_hidden, n_features] and `b` [n_features].

    Minimises the importance-weighted loss of ReLU(Wᵀ W x + b) on fresh sparse features at every step.
    The same seed gives the same model; the global random state is untouched.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n_hidden, n_features, generator=generator) / n_features**0.5
    b = torch.zeros(n_features)
    steps, parameters = 600, [W.requires_grad_(), b.requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        x = sample_features(512, n_features, probability, seed + step)
        loss = importance_loss(x, toy_forward(x, W, b), importance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {"W": W.detach(), "b": b.detach()}
    # END SOLUTION


lesson.check(train_toy)

# %% [markdown] id="use-train-intro"
# Now compare it with controls. Five features of equal importance in two dimensions, from dense to very sparse. Beside your model stand
#
# 1. the best linear loss, which is 1 on this scale,
# 2. a **linear model, trained**: the same without the ReLU,
# 3. your **dense** model, used on sparse features,
# 4. **random** directions of the same lengths as yours, with your bias,
# 5. the same random directions, with a bias and lengths that are **trained** for them.
#
# **Predict** which of the five will come below 1, and where.

# %% id="use-train" tags=["not-compared"]
train, sample = lesson.use("train_toy"), lesson.use("sample_features")
forward = lesson.use("toy_forward")
rates = [1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02]
curves = toys.beside_controls([train(5, 2, p, torch.ones(5), seed=1) for p in rates], rates)
for p, ratio in zip(rates, curves["yours"], strict=True):
    print(f"present {p:4.0%}: your loss is {ratio:.1f} times the best linear one")

# %% id="train-picture" tags=["not-compared"]
toys.draw_curves(rates, curves)

# %% id="claims-train-seen" tags=["claims"]
yours, flat = torch.tensor(curves["yours"]), torch.tensor(curves["linear, trained"])
lesson.seen("ratio_sparsest", yours[-1], ".1f")
lesson.seen("luckiest", curves["control: random directions"].min(), ".1f")
claim("on dense features yours is within 5% of the best linear loss", abs(yours[0] - 1) < 0.05)
claim("yours falls at each of the 7 steps to sparser features", bool((yours.diff() < 0).all()))
claim(
    "the trained linear model stays within 5% of 1 at all 8",
    bool((flat - 1).abs().max() < 0.05),
)
below = (curves["control: random directions"] < 1).float().mean()
claim("of the random directions fewer than a quarter come below 1", below < 0.25)
claim(
    "where features are present 10% of the time or less, no random draw comes near yours: 1.3 times at least",
    bool((curves["control: random directions"][:, 5:].amin(0) > 1.3 * yours[5:]).all()),
)
tuned = curves["random, bias and lengths trained"]
lesson.seen("tuned", tuned[:, 5:].median(), ".1f")
lesson.seen("times", (tuned[:, 5:].median(0).values / yours[5:]), ".0f")
claim(
    "with a bias and lengths of their own at least 80% of the random draws are below 1 from 20% down",
    bool(((tuned[:, 4:] < 1).float().mean(0) > 0.8).all()),
)
claim(
    "and their median is at least 1.8 times yours at 10% and below",
    bool((tuned[:, 5:].median(0).values > 1.8 * yours[5:]).all()),
)

# %% [markdown] id="train-seen"
# <details><summary>What you should see</summary>
#
# On dense features your model is as good as the best linear one and no better. From there on it sinks below, and keeps sinking, to {{seen:ratio_sparsest}}: collisions need two features at once, and when features become half as frequent, their meetings become a quarter as frequent. The trained linear model stays at one, however sparse the features are. Sparsity alone buys nothing; sparsity **and** a ReLU do.
#
# Most random directions are worse than the linear model, and the luckiest of all reaches {{seen:luckiest}}. Is it the directions, or your bias, which was made for others? Train a bias and lengths for them, and where features are sparse nearly all random directions come below one: {{seen:tuned}} in the middle. So a ReLU with a well-chosen bias gains something from *any* five arrows. Placed well, they gain more: for the three sparsest, your loss is smaller still by factors of {{seen:times}}.
# </details>

# %% [markdown] id="part-4"
# ## 4. A phase change
#
# Twenty features in five dimensions, each 0.8 times as important as the one before. The tables show $W^\top W$. The diagonal says how well each feature is kept, and the rest which features disturb each other. **Predict:** will there ever be a feature that is kept by half?

# %% id="heatmaps" tags=["not-compared"]
fading, sparsities = 0.8 ** torch.arange(20.0), [1.0, 0.3, 0.1, 0.02]
*_, twenty = toys.training(20, 5, sparsities, fading, seed=0, steps=1500, every=1500)
toys.draw_tables({f"present {p:.0%}": W for p, W in zip(sparsities, twenty.W, strict=True)})

# %% id="use-heatmaps" tags=["not-compared"]
for p, W, b in zip(sparsities, twenty.W, twenty.b, strict=True):
    kept, ratio = int((W.norm(dim=0) ** 2 > 0.5).sum()), toys.loss_ratio(W, b, p, fading)
    print(f"present {p:4.0%}: {kept:2} of 20 kept, loss {ratio:.1f} times the best linear one")

# %% [markdown] id="phase-intro"
# What decides whether a feature is left out, gets a dimension, or shares one? The smallest case can be worked out: **two features, one dimension**. The first has importance 1, the second importance I. There are three candidates:
#
# - the second is left out: the loss is $I\,(p/3 - p^2/4)$,
# - the second gets the dimension, the first is left out: $p/3 - p^2/4$,
# - they share it, $W = (1, -1)$: an error only when both are there, $p^2 (1 + I)/6$, since the smaller of two uniform numbers has a mean square of 1/6.
#
# The prediction is whichever is least. The experiment trains a model at every point of the map, from eight starts, keeps the best, and measures what became of the second feature: 0 left out, 1 on its own, ½ sharing.

# %% id="phase-picture" tags=["not-compared"]
p, importance, second = toys.phase_map()
left_out, alone = importance * (p / 3 - p**2 / 4), p / 3 - p**2 / 4
losses = torch.stack([left_out, alone, p**2 * (1 + importance) / 6])
predicted = torch.tensor([0.0, 1.0, 0.5])[losses.argmin(0)]
toys.draw_phases(second, predicted)

# %% id="use-phase" tags=["not-compared"]
agree = (second - predicted).abs() < 0.2
print(f"trained and predicted agree on {int(agree.sum())} of {agree.numel()} points")

# %% id="claims-phase-seen" tags=["claims"]
lesson.seen("map_agree", agree.float().mean(), ".0%")
between = ((second > 0.1) & (second < 0.3)) | ((second > 0.75) & (second < 0.9))
lesson.seen("map_between", between.float().mean(), ".0%")
claim("trained and predicted agree on more than 90% of the map", agree.float().mean() > 0.9)
claim(
    "hardly any second feature is in between: below 10% of the map",
    between.float().mean() < 0.1,
)
diagonals = twenty.W.norm(dim=1) ** 2
by_half = int(((diagonals > 0.1) & (diagonals < 0.6)).sum())
claim(
    "of the eighty diagonal entries of the tables at most two lie between 0.1 and 0.6",
    by_half <= 2,
)
near = losses.sort(dim=0).values
far_off = near[1] > 1.3 * near[0]
claim(
    "where the best candidate leads by 30%, they agree without exception",
    bool(agree[far_off].all()),
)
claim(
    "each of the three occurs on more than 5% of the map",
    all((predicted == v).float().mean() > 0.05 for v in (0.0, 0.5, 1.0)),
)

# %% [markdown] id="phase-seen"
# <details><summary>What you should see</summary>
#
# Three regions, and the trained map agrees with the predicted one on {{seen:map_agree}} of it. The second feature goes from left out, or alone, to about half a dimension within a step or two; only {{seen:map_between}} of the map is in between. Both solutions exist on either side of the border, and at the border the other one becomes the better: physicists call such a thing a first-order phase change. Nothing is kept a little. It is so in the tables above, too: every feature is kept nearly whole, or not at all.
#
# The disagreements lie at the border, where two candidates cost nearly the same. Our candidates have arrows of length one, while a trained model gives the more important feature of a pair the longer arrow.
# </details>
#
# *Reflect.* The border asks how *important* a feature is and how *often* it occurs. Suppose a feature of a real model is rare but dangerous: deception, say. Which of the two would you need to know to say whether it has a direction to itself?

# %% [markdown] id="part-5"
# ## 5. The shape of a crowd
#
# Pairs and pentagons: now measure them. Two questions for each feature. How much do the others disturb it? And how much of a dimension is its own?

# %% [markdown] id="ask-interference"
# {{exercise interference}}
#
# $\hat W_i$ is $W_i$ scaled to length 1 and $W_j$ keeps its length; the result is 0 where $W_i$ is 0. Feature i is read along $\hat W_i$, and this is what the others leave there. There may be one dimension, or one feature, which nothing disturbs.


# %% id="answer-interference"
def interference(W: Float[Tensor, "hidden features"]) -> Float[Tensor, "features"]:
    """For each feature i the sum over j ≠ i of (Ŵ_i · W_j)², Ŵ_i being W_i scaled to length 1; 0 where W_i is 0."""
    # BEGIN SOLUTION
    norms = W.norm(dim=0)
    unit = W / torch.where(norms > 0, norms, 1.0)
    overlaps = (unit.T @ W) ** 2
    return overlaps.fill_diagonal_(0.0).sum(dim=1)
    # END SOLUTION


lesson.check(interference)

# %% [markdown] id="ask-feature_dimensionality"
# {{exercise feature_dimensionality}}
#
# (Elhage et al. 2022, "The Geometry of Superposition".) With your `interference` it is one line; without it, the same sum once more.


# %% id="answer-feature_dimensionality"
def feature_dimensionality(W: Float[Tensor, "hidden features"]) -> Float[Tensor, "features"]:
    """For each feature i: ‖W_i‖² over the sum over all j of (Ŵ_i · W_j)², between 0 and 1; 0 where W_i is 0."""
    # BEGIN SOLUTION
    norms = W.norm(dim=0)
    unit = W / torch.where(norms > 0, norms, 1.0)
    seen = ((unit.T @ W) ** 2).sum(dim=1)
    return torch.where(norms > 0, norms**2 / seen, 0.0)
    # END SOLUTION


lesson.check(feature_dimensionality)

# %% [markdown] id="groups-given"
# Features at right angles do not disturb each other. So a crowd falls apart into groups that share dimensions among themselves and with nobody else. `feature_groups` finds them: features i and j are linked where $|W_i \cdot W_j|$ exceeds a threshold, and a group is whatever hangs together by links. A feature whose own $\lVert W_i\rVert^2$ does not exceed it is left out.

# %% [markdown] id="zoo-intro"
# **Predict** the dimensionality of a feature in an antipodal pair, in an equilateral triangle, in a regular pentagon, in a tetrahedron. One line of arithmetic each: if n features share m dimensions evenly, each has m/n.
#
# Now watch five models settle, from random weights. Above each: how many features in how many dimensions, and how often they are present. Below: the groups, and the median of your `feature_dimensionality`.

# %% id="zoo" tags=["not-compared"]
share, noise_of = lesson.use("feature_dimensionality"), lesson.use("interference")
zoo = toys.watch(
    toys.ZOO,
    lambda W: f"{toys.shapes(W)}: D {share(W).median():.2f}",
    title="Five models settle, live",
    across=3,
)

# %% id="use-zoo" tags=["not-compared"]
for name, W in zoo.items():
    D, (n, m, _, _) = share(W), toys.ZOO[name]
    print(f"{name}: D from {D.min():.2f} to {D.max():.2f}, and {m}/{n} = {m / n:.2f}")

# %% [markdown] id="starts-intro"
# The triangle and the tetrahedron above are the best of six starts each. What do other starts end in? Train the setting of the tetrahedron from 24 starts, and compare not only the shapes but the losses. ("4 in 3" is four features in three dimensions that are no regular tetrahedron.)

# %% id="use-starts" tags=["not-compared"]
by_shape = {0.55: {}, 0.3: {}}
for p, found in by_shape.items():
    *_, starts = toys.training(
        4, 3, [p] * 24, torch.ones(4), seed=5, steps=2500, every=2500, lr=0.01
    )
    for W, b in zip(starts.W, starts.b, strict=True):
        found.setdefault(toys.shapes(W), []).append(toys.loss_ratio(W, b, p, torch.ones(4)))
    for shape, ratios in sorted(found.items(), key=lambda item: min(item[1])):
        print(f"{p:.0%}: {len(ratios):2} of 24 {shape:<28} loss {min(ratios):.3f} and more")

# %% id="claims-zoo-seen" tags=["claims"]
for name, shape in (
    ("3 in 2, 55%", "triangle"),
    ("4 in 3, 55%", "tetrahedron"),
    ("6 in 3, 20%", "3 × antipodal pair"),
    ("5 in 2, 10%", "pentagon"),
):
    n, m, _, _ = toys.ZOO[name]
    claim(
        f"{name}: {shape}, and every share within 0.03 of {m}/{n}",
        toys.shapes(zoo[name]) == shape
        and bool((share(zoo[name]) - m / n).abs().max() < 0.03),
    )
claim(
    "eight in three dimensions: every share within 0.03 of 3/8",
    bool((share(zoo["8 in 3, 10%"]) - 3 / 8).abs().max() < 0.03),
)
common, rare = by_shape[0.55], by_shape[0.3]
best = min(common, key=lambda shape: min(common[shape]))
lesson.seen("regular", len(common["tetrahedron"]))
lesson.seen("regular_loss", min(common["tetrahedron"]), ".2f")
pair = (
    "2 × alone + antipodal pair"
    if "2 × alone + antipodal pair" in common
    else "antipodal pair + 2 × alone"
)
lesson.seen("pair_loss", min(common[pair]), ".2f")
lesson.seen("rare_pairs", len(rare.get(pair, [])))
claim(
    "at 55% the regular tetrahedron has the lowest loss, by 0.01 at least",
    best == "tetrahedron"
    and min(min(v) for k, v in common.items() if k != best) > min(common[best]) + 0.01,
)
claim("at 55% fewer than half of 24 starts find it", len(common["tetrahedron"]) < 12)
claim(
    "at 30% at least 20 of 24 starts end in one pair and two alone",
    len(rare.get(pair, [])) >= 20,
)

# %% [markdown] id="zoo-seen"
# <details><summary>What you should see</summary>
#
# A triangle ($2/3$), a tetrahedron ($3/4$), three antipodal pairs at right angles ($1/2$), a pentagon ($2/5$), and eight features in three dimensions that have $3/8$ each. In such arrangements points on a sphere that repel each other come to rest; physicists know it as the Thomson problem.
#
# Not every start ends in the same shape. Where features are present a little more than half of the time, the regular tetrahedron has the lowest loss, {{seen:regular_loss}}; of all starts, {{seen:regular}} found it (with other seeds, up to six). The others are stuck with a pair and two alone ({{seen:pair_loss}}), or with a lopsided four. Make the features sparser, and {{seen:rare_pairs}} starts end in a pair and two alone. A shape in one run is an anecdote; its share over starts, with the losses beside it, is a result.
# </details>

# %% [markdown] id="plateau-intro"
# Now a larger model: 40 features in 10 dimensions, from dense to very sparse. Each point is one feature. **Predict:** will the shares fall smoothly?

# %% id="plateau" tags=["not-compared"]
scarcity = [1.1, 1.2, 1.4, 1.7, 2, 2.4, 2.8, 3.2, 3.6, 4.5, 6, 8, 12, 20, 40]
*_, forty = toys.training(
    40, 10, [1 / d for d in scarcity], torch.ones(40), seed=0, steps=2000, every=2000, lr=0.02
)
toys.draw_dimensionality(scarcity, forty.W, share)

# %% id="use-plateau" tags=["not-compared"]
spans, sums = [], []
for rare, W in zip(scarcity, forty.W, strict=True):
    D = share(W)[W.norm(dim=0) ** 2 > 0.15]
    spans.append((float(D.min()), float(D.median()), float(D.max())))
    sums.append(float(D.sum()))
    print(
        f"1/p {rare:4}: {len(D):2} kept, D {D.min():.2f} to {D.max():.2f}, sum {D.sum():.1f}"
    )


# %% id="claims-plateau-seen" tags=["claims"]
def all_at(value, margin=0.03):
    """Where every share, not only the median, lies within this margin."""
    return [
        d
        for d, (low, _, high) in zip(scarcity, spans, strict=True)
        if low > value - margin and high < value + margin
    ]


halves, quarters = all_at(0.5), all_at(0.25)
lesson.seen("half_from", halves[0], "g")
lesson.seen("half_to", halves[-1], "g")
lesson.seen("half_factor", halves[-1] / halves[0], ".1f")
lesson.seen("quarter_from", quarters[0], "g")
lesson.seen("quarter_to", quarters[-1], "g")
lesson.seen("quarter_factor", quarters[-1] / quarters[0], ".0f")
lesson.seen("dense_low", spans[0][0], ".1f")
lesson.seen("dense_high", spans[0][2], ".1f")
claim(
    "every feature at one half over a factor of 1.5 at least, in four models or more",
    halves[-1] / halves[0] >= 1.5 and len(halves) >= 4,
)
claim(
    "every feature at one quarter up to the sparsest, over a wider factor",
    quarters[-1] == scarcity[-1] and quarters[-1] / quarters[0] > 1.3 * halves[-1] / halves[0],
)
claim(
    "between the two, at 4.5, the median is neither: from 0.3 to 0.46",
    0.3 < spans[scarcity.index(4.5)][1] < 0.46,
)
claim(
    "in the densest model the shares spread over more than 0.3",
    spans[0][2] - spans[0][0] > 0.3,
)
claim(
    "from 1/p = 1.7 on the shares add up to 10, within 0.2",
    all(abs(total - 10) < 0.2 for d, total in zip(scarcity, sums, strict=True) if d >= 1.7),
)

# %% [markdown] id="plateau-seen"
# <details><summary>What you should see</summary>
#
# Two plateaus, whose ends move by a step with other seeds. At the left many features are left out, and those that are kept have shares from {{seen:dense_low}} to {{seen:dense_high}}. Then they pair off: from $1/p$ = {{seen:half_from}} to {{seen:half_to}}, a factor of {{seen:half_factor}}, *every* feature that is kept has one half. Elhage et al. (2022) call it sticky. Beyond that more and more features crowd in, each with less. From {{seen:quarter_from}} to {{seen:quarter_to}}, a factor of {{seen:quarter_factor}}, all of them have a quarter, and there it ends: no feature is left to let in. So the wider plateau is the trivial one: it is $10/40$, and would be $10/60$ with more features, while one half is one half in every model. The shares add up to the number of dimensions, or nearly: superposition divides dimensions, it makes none.
# </details>

# %% [markdown] id="part-6"
# ## 6. What it costs
#
# Superposition is not free. Read feature i along $\hat W_i$, before the ReLU: the other features leave noise there. If features are independent, the variance of that noise *is* your `interference` times the variance of one feature. That is arithmetic, true of any W whatsoever, random ones included, so agreement says that your function is right and nothing about the model.
#
# What is not arithmetic is where training puts the interference. A ReLU clears away what is negative. **Predict:** which share of the squared interference of a trained model is negative? Of random directions with the same lengths?

# %% id="use-cost" tags=["not-compared"]
W, x = toys.crowd(0.05)["W"], sample(200_000, 20, 0.05, seed=5)
ratio = toys.noise_ratio(W, x, noise_of(W), variance=0.05 / 3 - 0.05**2 / 4)
print(f"measured / predicted noise, an identity: {ratio.min():.1f} to {ratio.max():.1f}")
chances = [0.3, 0.1, 0.05, 0.02]
sides = [toys.sides(toys.crowd(p)["W"]) for p in chances]
for p, (trained, mean, most) in zip(chances, sides, strict=True):
    print(f"present {p:3.0%}: {trained:4.0%} negative, random {mean:.0%}, at most {most:.0%}")

# %% id="cost-picture" tags=["not-compared"]
b, R = toys.crowd(0.05)["b"], toys.random_directions(W, 1, seed=1)[0]
company = {
    "superposition": toys.mean_squared_error(x, forward(x, W, b), W),
    "control: random directions": toys.mean_squared_error(x, forward(x, R, b), W),
}
toys.draw_company(company, "20 features in 5 dimensions, present 5% of the time.")

# %% id="claims-cost-seen" tags=["claims"]
lesson.seen("negative", sides[0][0], ".0%")
lesson.seen("negative_random", sides[0][1], ".0%")
lesson.seen("negative_crowd", sides[2][0], ".0%")
lesson.seen("error_alone", company["superposition"][0], ".3f")
lesson.seen("error_five", company["superposition"][-1], ".2f")
claim("present 30%: more than 95% of the interference is negative", sides[0][0] > 0.95)
claim(
    "the trained model has more on the negative side than all 200 controls, at 30% and at 10%",
    all(trained > most for trained, _, most in sides[:2]),
)
claim(
    "random directions have half of it there, on average over 200: 45% to 55%",
    all(0.45 < mean < 0.55 for _, mean, _ in sides),
)
claim("the share falls from 30% to 5%", sides[0][0] > sides[1][0] > sides[2][0])
claim(
    "the error of a feature rises with each further one, from one to five",
    bool((torch.tensor(company["superposition"]).diff() > 0).all()),
)
at_random = company["control: random directions"]
claim(
    "random directions: the same error alone, within 10%, and 1.3 times yours with five",
    abs(at_random[0] / company["superposition"][0] - 1) < 0.1
    and at_random[-1] > 1.3 * company["superposition"][-1],
)
claim(
    "with five, it is more than 4 times the error alone",
    company["superposition"][-1] > 4 * company["superposition"][0],
)

# %% [markdown] id="cost-seen"
# <details><summary>What you should see</summary>
#
# Where features are most common, the trained model has {{seen:negative}} of its interference on the side that the ReLU clears away; random directions have {{seen:negative_random}}. That is the trick of the antipodal pair. It does not last: with more features in the same dimensions not all can point against each other, and of the crowd in the picture {{seen:negative_crowd}} are negative.
#
# And the cost has a shape. A feature that comes alone is read with a squared error of {{seen:error_alone}}, in the largest company of the picture with {{seen:error_five}}. Random directions start at the same point, since a lonely feature meets nothing but its own length and bias; they end higher. That is the trade: many features, as long as few of them meet.
#
# It also says where to look for trouble. An input that turns on several features which share a direction is read wrongly, and someone who knows W can make one. Elhage et al. (2022) find that toy models become vulnerable to adversarial examples just when they begin to superpose.
# </details>

# %% [markdown] id="part-7"
# ## 7. Features with company
#
# So far features came and went independently. Real ones do not. A text about Paris is a text about France; a closing bracket is no opening bracket. Elhage et al. (2022, "Organization of Correlated and Anticorrelated Features") ask what that does to the geometry. You need features for it that differ from yours in nothing but the company they keep.

# %% [markdown] id="ask-paired_features"
# {{exercise paired_features}}
#
# A table of shape (batch, 2 · n_pairs); features 0 and 1 are a pair, 2 and 3 the next, and so on. With `together=True` the two of a pair are present in the same rows. With `together=False` they are never both present in one row; the probability is then at most ½. Either way *every single feature* is present with `probability`, which may be 0; pairs are independent of each other, and so are rows. Present features are uniform on [0, 1], independently of each other, also within a pair. The same seed gives the same table, another seed another one, and the global random state is left alone.


# %% id="answer-paired_features"
def paired_features(
    batch: int, n_pairs: int, probability: float, together: bool, seed: int
) -> Float[Tensor, "batch features"]:
    """Sparse features in pairs: 0 and 1, 2 and 3, and so on; 2 * n_pairs in all.

    together: True: the two of a pair are present in the same rows. False: never both in one row.
    Every feature is present with this probability either way, and uniform on [0, 1] when present.
    The same seed gives the same features; the global random state is untouched.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    throw = torch.rand(batch, n_pairs, generator=generator)
    first = throw < probability
    second = first if together else (throw >= probability) & (throw < 2 * probability)
    present = torch.stack([first, second], dim=-1).flatten(1)
    return torch.rand(batch, 2 * n_pairs, generator=generator) * present
    # END SOLUTION


lesson.check(paired_features)

# %% [markdown] id="pairs-intro"
# Train on pairs, in two dimensions, from 16 starts each. First with room: two pairs, so that each feature could stand at a right angle to its partner, and rare ones. Then the same two pairs, present twice as often. Then a crowd: three pairs, as often. The control has independent features, with pairs that mean nothing. **Predict** for each kind of pair: will its two features stand at right angles, against each other, or side by side?

# %% id="use-pairs" tags=["not-compared"]
within = toys.company(lesson.use("paired_features"), sample)
for name, cosines in within.items():
    kept = f"{len(cosines)} of {16 * toys.PAIRS[name.split(',')[0]][0]} kept"
    print(f"{name:<22}{kept}: {toys.count_angles(cosines)}")

# %% id="pairs-picture" tags=["not-compared"]
toys.draw_pairs(within, where="crowd")


# %% id="claims-pairs-seen" tags=["claims"]
def angle(name, kind):
    c = within[name]
    chosen = {"against": c < -0.8, "right": c.abs() < 0.2, "side": c > 0.2}[kind]
    return float(chosen.float().mean())


lesson.seen("room_right", angle("room, together", "right"), ".0%")
lesson.seen("room_against", angle("room, never together", "against"), ".0%")
lesson.seen("room_control", angle("room, control", "against"), ".0%")
lesson.seen("often_side", angle("often, together", "side"), ".0%")
lesson.seen("often_against", angle("often, never together", "against"), ".0%")
claim(
    "with room but twice as often, more than half of those that come together are side by side",
    angle("often, together", "side") > 0.5,
)
claim(
    "and more of those that never meet are against each other than of the control, by 30 points",
    angle("often, never together", "against") > angle("often, control", "against") + 0.3,
)
lesson.seen("crowd_side", angle("crowd, together", "side"), ".0%")
lesson.seen("crowd_against", angle("crowd, never together", "against"), ".0%")
lesson.seen("crowd_control_side", angle("crowd, control", "side"), ".0%")
lesson.seen("crowd_control", angle("crowd, control", "against"), ".0%")
claim(
    "with room, more than 60% of the pairs that come together stand at a right angle",
    angle("room, together", "right") > 0.6,
)
claim(
    "with room, fewer than 10% of them stand against each other",
    angle("room, together", "against") < 0.1,
)
claim(
    "with room, pairs that never meet oppose each other more often than those that always do, by 20 points",
    angle("room, never together", "against") > angle("room, together", "against") + 0.2,
)
claim(
    "in the crowd, more than 70% of those that come together are side by side",
    angle("crowd, together", "side") > 0.7,
)
claim(
    "in the crowd, none of those that come together stand against each other (below 5%)",
    angle("crowd, together", "against") < 0.05,
)
claim(
    "in the crowd, more than 90% of those that never meet stand against each other",
    angle("crowd, never together", "against") > 0.9,
)
claim(
    "the control does neither: fewer than 25% side by side, fewer than 60% against",
    angle("crowd, control", "side") < 0.25 and angle("crowd, control", "against") < 0.6,
)

# %% [markdown] id="pairs-seen"
# <details><summary>What you should see</summary>
#
# (Only pairs count of which both features are kept. In the crowd, features that come together all are, and many of the others are not.)
#
# Features that **never meet** are put *against* each other: in the crowd {{seen:crowd_against}} of them, against {{seen:crowd_control}} of pairs that mean nothing. A collision that cannot happen costs nothing. Where all meetings are rare, the preference is the same and weaker ({{seen:room_against}}, control {{seen:room_control}}); make features rarer still, and it vanishes.
#
# Features that **come together** are hardly ever put against each other: they would wipe each other out whenever they come. Given room, and rare, they stand at right angles ({{seen:room_right}}). In the crowd there is no room for that, and {{seen:crowd_side}} of them stand *side by side* (control {{seen:crowd_control_side}}). But room is not all: as often as in the crowd, {{seen:often_side}} stand side by side although each could have a right angle to its partner. One direction then answers for both, much as a principal component would. Elhage et al. (2022) find the same order of preferences.
# </details>
#
# *Reflect.* Two latents of a real model have decoder directions with a cosine of $0.9$. Do they stand for one feature, or for two in company? What would you look at?

# %% [markdown] id="part-8"
# ## 8. And in a real model?
#
# SmolLM2 writes each of its 49,152 tokens in a direction of a space of 576 dimensions. It is tempting to call the tokens features, and to say that 85 of them share each dimension. Resist: the directions may be built from a few hundred attributes that tokens *share* (is a name, is plural, begins with a capital), and those could all be orthogonal. What can be asked is this: **are some tokens closer to each other than they would be by chance?**
#
# By whose chance? Random directions fill all dimensions evenly; embeddings do not. So the second control has the same covariance as the embeddings: the same elongated cloud, with nothing else in common. **Predict** which of the two controls comes nearer.

# %% id="use-real" tags=["not-compared"]
model = mi_course.load_model(compatibility=False)
E = model.W_E.detach().float()
some = torch.randperm(len(E), generator=torch.Generator().manual_seed(0))[:2000].tolist()
nearest = toys.beside_random(E, some)
for token in (" dog", " seven", " Paris"):
    print(f"{token!r}: {toys.neighbors(E - E.mean(0), token, model.tokenizer)}")
toys.draw_nearest(nearest, "2,000 tokens against all 49,152, mean removed. 576 dimensions.")

# %% id="claims-real-seen" tags=["claims"]
middle = {name: values.median() for name, values in nearest.items()}
lesson.seen("near_real", middle["tokens of SmolLM2"], ".2f")
lesson.seen("near_matched", middle["random, same covariance"], ".2f")
lesson.seen("near_random", middle["control: random directions"], ".2f")
claim(
    "the covariance-matched control is nearer than random directions, by 0.05",
    middle["random, same covariance"] > middle["control: random directions"] + 0.05,
)
claim(
    "real tokens are nearer than the matched control, by 0.2",
    middle["tokens of SmolLM2"] > middle["random, same covariance"] + 0.2,
)

# %% [markdown] id="real-seen"
# <details><summary>What you should see</summary>
#
# Half of the tokens have a neighbor with a cosine of {{seen:near_real}} or more. Random directions have {{seen:near_random}} at the median, and random ones with the same covariance {{seen:near_matched}}: a part of the closeness is the shape of the cloud, and most of it is not. Those of the three tokens above are related: other spellings, other numbers, other places.
#
# What it does not show: *which* features there are, and how many. Tokens come with names; what the layers between compute does not. Of a feature in there we see neither its name nor its direction, only activations in which several are added up. To find the directions from these alone is what sparse autoencoders are for.
# </details>
#
# *Reflect.* What would you have to see in a real model's activations to say that it does **not** superpose? Would one neuron with one clear meaning do?

# %% id="claims-recap" tags=["claims"]
claim(
    "yours beats the linear bound by a factor of 2 where features are sparse, and not where they are dense",
    bool(yours[-1] < 0.5) and bool(yours[0] > 0.95),
)

# %% [markdown] id="recap"
# ## What you have done
#
# You computed what a linear model can do, and trained models that do better: with a ReLU, on sparse features, and only then. You saw features go from left out to sharing in a single step, and predicted where. You measured the shapes, and found one half to be the share that a range of sparsities settles on. You found that one start is not an answer, that training puts interference where the ReLU removes it, and that company decides who stands against whom.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Elhage et al. 2022, *Toy Models of Superposition*. Read the section on the geometry first, then ask of each figure what its control is.
