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
# You will build and train the smallest networks that keep more features than they have dimensions, find out when they do it and when they do not, and measure the shapes that they fold their features into.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00. The models are yours, a handful of numbers each, trained in a fraction of a second; SmolLM2 appears once, at the end. Sources: Elhage et al. 2022, *Toy Models of Superposition*;
# Scherlis et al. 2022, *Polysemanticity and Capacity in Neural Networks*.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson = mi_course.lesson("superposition")

# %% [markdown] id="part-1"
# ## 1. A surprise
#
# A network with **two** hidden dimensions is given **five** numbers, and asked to give all five back. Nothing relates the five to one another. Two dimensions hold two numbers; linear algebra leaves no doubt about that.
#
# Four such networks are trained below, side by side, all alike but for one thing: how often each of the five numbers is not zero. On the left always, on the right one time in twenty. Each arrow is the direction in which one number is written into the two dimensions.
#
# **Predict:** how many arrows of any length will there be on the left? On the right? Where will they point? Then run it, and watch.

# %% id="surprise" tags=["not-compared"]
from mi_course.interp.superposition import training, upright

rates = [1.0, 0.5, 0.2, 0.05]
with show.live_vectors(
    title="Five features in two dimensions, live: the sparser, the more of them are kept",
    caption="The circle has radius 1. Dotted: nearest neighbours.",
) as picture:
    for state in training(
        5, 2, rates, 0.9 ** torch.arange(5.0), seed=3, steps=2500, every=10, lr=0.008
    ):
        picture.update(
            state.step,
            {
                f"present {p:.0%} of the time": upright(W, [0, 1])
                for p, W in zip(rates, state.W, strict=True)
            },
            [f"{int((W.norm(dim=0) > 0.5).sum())} of 5 kept" for W in state.W],
        )

# %% [markdown] id="surprise-seen"
# <details><summary>What you should see</summary>
#
# Always present: two arrows at a right angle, and three numbers given up. That is what linear algebra says. As the numbers become rare, more arrows grow: first pairs that point *against* each other, and at the right all five, as the corners of a regular pentagon. Nobody asked for a pentagon.
# </details>
#
# Where the left-hand networks have a dimension for each feature, the right-hand one has five features and no dimension that means any one of them. If real networks do this, then looking at single neurons is looking at the wrong thing. Elhage et al. (2022) call it **superposition**. How does it get away with it, and what does it pay?

# %% [markdown] id="part-2"
# ## 2. The parts, by hand
#
# Three parts make the model: features that are mostly zero, two products and a ReLU, and a loss. First the features. Words for a colour, a name of a river, a closing bracket: most of what a text could contain, it does not contain just now. That is **sparsity**.

# %% [markdown] id="ask-sample_features"
# {{exercise sample_features}}
#
# Each entry is present with `probability`, independently of all others, and uniform on [0, 1] when present; otherwise 0. The seed decides everything, and the global random state is left alone.

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
# $\mathrm{ReLU}(W^\top W x + b)$ for every row x. Column i of W is feature i's direction in the hidden space.


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
# The mean over the batch of $\sum_i \text{importance}_i\,(x_i - \hat x_i)^2$, as a scalar tensor: training will ask for its gradient.


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
# Every claim needs something to be held against. Here it is the best that a **linear** model could do with as many dimensions: keep the most important features, one in each dimension, and answer every other feature by a constant. Which constant is best? What does it cost?
#
# Work it out on paper: x is 0 with probability 1 − p, and otherwise uniform on [0, 1].

# %% [markdown] id="ask-best_linear_loss"
# {{exercise best_linear_loss}}
#
# The importance-weighted loss of that model, in closed form. The importances come in no particular order. There may be no hidden dimension at all, or more than enough.


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
# Random small W, zero b, Adam, fresh features at every step. Return `{"W": W, "b": b}`, W as [hidden, features]. It is judged on fresh data. On sparse features (probability 0.1 and less) the loss may be at most **half** the best linear loss; on dense ones (probability 1), where nothing is to be
# gained, at most 1.15 times. The seed decides everything. The check trains nine models, so let one take seconds at most.


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
# Now hold it against controls. Five features of equal importance in two dimensions, from dense to very sparse. Beside your model stand
#
# 1. the best linear loss, which is 1 on this scale,
# 2. a **linear model, trained**: the same without the ReLU,
# 3. your **dense** model, used on sparse features,
# 4. **random** directions of the same lengths as yours, with your bias.
#
# **Predict** which of the four will come below 1, and where.

# %% id="use-train" tags=["not-compared"]
sample, forward = lesson.use("sample_features"), lesson.use("toy_forward")
loss_of, linear_loss, train = (
    lesson.use("importance_loss"),
    lesson.use("best_linear_loss"),
    lesson.use("train_toy"),
)
equal = torch.ones(5)
rates = [1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02]


def measured(W, b, p, importance, relu=True, rows=300_000):
    """Loss on fresh data, as a multiple of the best linear loss."""
    x = sample(rows, W.shape[1], p, seed=99)
    x_hat = forward(x, W, b) if relu else x @ W.T @ W + b
    return float(loss_of(x, x_hat, importance)) / linear_loss(W.shape[0], p, importance)


yours = [train(5, 2, p, equal, seed=1) for p in rates]
*_, linear = training(5, 2, rates, equal, seed=1, steps=600, every=600, relu=False)
noise = torch.randn(20, 2, 5, generator=torch.Generator().manual_seed(0))
curves = {"yours": [], "linear, trained": [], "dense one, used on sparse": []}
chance = []
for i, p in enumerate(rates):
    W, b = yours[i]["W"], yours[i]["b"]
    curves["yours"].append(measured(W, b, p, equal))
    curves["linear, trained"].append(measured(linear.W[i], linear.b[i], p, equal, relu=False))
    curves["dense one, used on sparse"].append(
        measured(yours[0]["W"], yours[0]["b"], p, equal)
    )
    directions = noise / noise.norm(dim=1, keepdim=True) * W.norm(dim=0)
    chance.append([measured(R, b, p, equal, rows=30_000) for R in directions])
curves["control: random directions"] = torch.tensor(chance).T
for p in (1.0, 0.2, 0.05, 0.02):
    i = rates.index(p)
    print(
        f"present {p:4.0%}: yours {curves['yours'][i]:.1f}, trained linear {curves['linear, trained'][i]:.1f} times the best linear loss"
    )

# %% id="train-picture" tags=["not-compared"]
show.lines(
    [1 / p for p in rates],
    curves,
    xlabel="1 / probability (sparser to the right)",
    ylabel="loss / best linear loss",
    title="The sparser the features, the further your model falls below the linear bound; no control does",
    caption="Five features of equal importance in two dimensions, fresh rows. Random: median and range of 20 draws.",
    log_x=True,
    log_y=True,
)

# %% [markdown] id="train-seen"
# <details><summary>What you should see</summary>
#
# On dense features your model is as good as the best linear one and no better. From there on it sinks below, and keeps sinking: collisions need two features at once, and when features become half as frequent, their meetings become a quarter as frequent. The trained linear model stays at 1, however sparse the features are. Sparsity alone buys nothing; sparsity **and** a ReLU do.
# Random directions of the same lengths are mostly above 1, and the luckiest of twenty a little below: it is not enough to have five arrows, they must stand in the right places.
# </details>

# %% [markdown] id="part-4"
# ## 4. A phase change
#
# Twenty features in five dimensions, each 0.8 times as important as the one before. The tables show $W^\top W$: on the diagonal how well each feature is kept, off it who disturbs whom.

# %% id="heatmaps" tags=["not-compared"]
fading = 0.8 ** torch.arange(20.0)
sparsities = [1.0, 0.3, 0.1, 0.02]
*_, twenty = training(20, 5, sparsities, fading, seed=0, steps=1500, every=1500)
show.heatmaps(
    {f"present {p:.0%}": W.T @ W for p, W in zip(sparsities, twenty.W, strict=True)},
    xlabel="feature",
    ylabel="feature (most important first)",
    unit="W_i · W_j",
    title="From one dimension each, to pairs that oppose each other, to a crowd",
    caption="Blue on the diagonal: kept. Red off it: features that point against each other.",
)

# %% id="use-heatmaps" tags=["not-compared"]
for p, W, b in zip(sparsities, twenty.W, twenty.b, strict=True):
    kept = int((W.norm(dim=0) ** 2 > 0.5).sum())
    ratio = measured(W, b, p, fading)
    print(
        f"present {p:4.0%}: {kept:2} of 20 features kept, loss {ratio:.1f} times the best linear one"
    )

# %% [markdown] id="phase-intro"
# What decides whether a feature is left out, gets a dimension, or shares one? The smallest case can be worked out: **two features, one dimension**. The first has importance 1, the second importance I. There are three candidates:
#
# - the second is left out: the loss is $I\,(p/3 - p^2/4)$,
# - the second gets the dimension, the first is left out: $p/3 - p^2/4$,
# - they share it, $W = (1, -1)$: an error only when both are there, $p^2 (1 + I)/6$, since the smaller of two uniform numbers has a mean square of 1/6.
#
# The prediction is whichever is least. The experiment trains a model at every point of the map, from eight starts, keeps the best, and measures what became of the second feature: 0 left out, 1 on its own, ½ sharing.

# %% id="phase-picture" tags=["not-compared"]
from mi_course.interp.superposition import feature_dimensionality as share_of

GRID, STARTS = 11, 8
ps, relative = torch.logspace(0, -2, GRID), torch.logspace(1, -1, GRID)
pairs = [(float(p), float(i)) for i in relative for p in ps]
p_each = [p for p, _ in pairs] * STARTS
importances = torch.tensor([[1.0, i] for _, i in pairs]).repeat(STARTS, 1)
*_, last = training(2, 1, p_each, importances, 0, steps=800, every=800, batch=256, lr=0.02)
dice = torch.Generator().manual_seed(7)
x = torch.rand(len(p_each), 4096, 2, generator=dice)
x *= torch.rand(x.shape, generator=dice) < torch.tensor(p_each)[:, None, None]
error = torch.relu(x @ last.W.mT @ last.W + last.b[:, None]) - x
losses = (importances[:, None] * error**2).sum(-1).mean(-1).reshape(STARTS, -1)
models = last.W.reshape(STARTS, len(pairs), 1, 2)
second = torch.tensor(
    [float(share_of(models[int(s), k])[1]) for k, s in enumerate(losses.argmin(0))]
)

candidates = torch.tensor(
    [[i * (p / 3 - p * p / 4), p / 3 - p * p / 4, p * p * (1 + i) / 6] for p, i in pairs]
)
predicted = torch.tensor([0.0, 1.0, 0.5])[candidates.argmin(1)]
show.heatmaps(
    {"trained": second.reshape(GRID, GRID), "predicted": predicted.reshape(GRID, GRID)},
    xlabel="1 / probability, from 1 to 100",
    ylabel="importance of the second feature, from 10 to 0.1",
    unit="dimensions",
    center=None,
    title="Three phases with sharp borders: left out, alone, sharing",
    caption="Two features in one dimension. Both axes are logarithmic. Pale: left out; dark: alone; between: sharing.",
    across=2,
)

# %% id="use-phase" tags=["not-compared"]
agree = ((second - predicted).abs() < 0.2).float().mean()
print(f"trained and predicted agree on {agree:.1f} of the map")

# %% [markdown] id="phase-seen"
# <details><summary>What you should see</summary>
#
# Three regions, and the trained map follows the predicted one. Within a step or two of the map the second feature goes from left out (or alone) to about half a dimension. There is no region in which it gets a little. Physicists call such a thing a first-order phase change: both solutions exist on both sides, and at the border the other one becomes the better.
# Close to the border the shares are not exactly ½, because the more important feature of a pair gets the longer arrow. Our three candidates have arrows of length 1, so the prediction knows nothing of that.
# </details>
#
# *Reflect.* The border asks how *important* a feature is and how *often* it occurs. Which of the two would you need to know to say whether a rare but dangerous feature of a real model, a deception say, has a direction to itself?

# %% [markdown] id="part-5"
# ## 5. The shape of a crowd
#
# Pairs and pentagons: to go beyond looking, measure. Two questions for each feature. How much do the others disturb it? And how much of a dimension is its own?

# %% [markdown] id="ask-interference"
# {{exercise interference}}
#
# $\sum_{j \ne i} (\hat W_i \cdot W_j)^2$, where $\hat W_i$ is $W_i$ scaled to length 1; 0 where $W_i$ is 0. Feature i is read along $\hat W_i$, and this is what the others leave there.


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
# $\lVert W_i\rVert^2 \,/\, \sum_j (\hat W_i \cdot W_j)^2$, this time with feature i in the sum; 0 where $W_i$ is 0. (Elhage et al. 2022, "The Geometry of Superposition".)


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

# %% [markdown] id="zoo-intro"
# **Predict** the dimensionality of a feature in an antipodal pair, in an equilateral triangle, in a regular pentagon, in a tetrahedron. One line of arithmetic each: if n features share m dimensions evenly, each has m/n.
#
# Now watch five models settle, from random weights. Above each: how many features in how many dimensions, and how often they are present. Below: what your functions say of it.

# %% id="zoo" tags=["not-compared"]
from mi_course.interp.superposition import shape_of

share, groups = lesson.use("feature_dimensionality"), lesson.use("feature_groups")
settings = {  # features, dimensions, probability, seed
    "3 in 2, 55%": (3, 2, 0.55, 2),
    "4 in 3, 55%": (4, 3, 0.55, 5),
    "6 in 3, 20%": (6, 3, 0.2, 0),
    "5 in 2, 10%": (5, 2, 0.1, 1),
    "8 in 3, 10%": (8, 3, 0.1, 0),
}


def said(W):
    """The shapes in a model, and the median dimensionality of its features."""
    shapes = [shape_of(W, group) for group in groups(W, 0.12)]
    counts = {shape: shapes.count(shape) for shape in shapes}
    what = ", ".join(shape if n == 1 else f"{n} × {shape}" for shape, n in counts.items())
    return f"{what or 'nothing yet'}: D {share(W).median():.2f}"


films = [
    training(n, m, [p], torch.ones(n), seed, steps=2500, every=10, lr=0.005)
    for n, m, p, seed in settings.values()
]
with show.live_vectors(
    title="Shapes that nobody asked for, live",
    caption="Three dimensions are seen from the side. D: dimensionality of the median feature.",
    across=3,
) as picture:
    for states in zip(*films, strict=True):
        picture.update(
            states[0].step,
            {
                name: upright(state.W[0], range(len(state.W[0])))
                for name, state in zip(settings, states, strict=True)
            },
            [said(state.W[0]) for state in states],
        )
zoo = {name: state.W[0] for name, state in zip(settings, states, strict=True)}

# %% id="use-zoo" tags=["not-compared"]
for name, W in zoo.items():
    n, m, p, _ = settings[name]
    print(
        f"{name:<12} D from {share(W).min():.2f} to {share(W).max():.2f}, and {m}/{n} = {m / n:.2f}"
    )

# %% [markdown] id="starts-intro"
# The triangle and the tetrahedron above are the best of six starts each. What do other starts end in? Train the setting of the tetrahedron from 24 starts, and compare not only the shapes but the losses. ("4 in 3" is four features in three dimensions that are no regular tetrahedron.)

# %% id="use-starts" tags=["not-compared"]
from collections import defaultdict

for p in (0.55, 0.3):
    *_, starts = training(
        4, 3, [p] * 24, torch.ones(4), seed=5, steps=2500, every=2500, lr=0.01
    )
    by_shape = defaultdict(list)
    for W, b in zip(starts.W, starts.b, strict=True):
        shape = " + ".join(sorted(shape_of(W, group) for group in groups(W, 0.12)))
        by_shape[shape].append(measured(W, b, p, torch.ones(4)))
    print(f"present {p:.0%} of the time")
    for shape, ratios in sorted(by_shape.items(), key=lambda pair: min(pair[1])):
        print(
            f"  {len(ratios):2} of 24: {shape:<32} loss {min(ratios):.3f} to {max(ratios):.3f} times the best linear one"
        )

# %% [markdown] id="zoo-seen"
# <details><summary>What you should see</summary>
#
# A triangle (2/3), a tetrahedron (3/4), three antipodal pairs at right angles (1/2), a pentagon (2/5), and eight features in three dimensions as a square antiprism (3/8): the arrangements in which points on a sphere that repel each other come to rest (the Thomson problem).
#
# Not every start ends in the same shape. Where features are present a little more than half of the time, the regular tetrahedron has the lowest loss, and hardly any start finds it; the others are stuck with a pair and two alone, or with a lopsided four. Make the features sparser and the pair wins: one pair that collides costs less than six edges that each collide a
# little. A shape in one run is an anecdote; its share over starts, with the losses beside it, is a result.
# </details>
#
# Now a larger model: 40 features in 10 dimensions, from dense to very sparse. Each point is one feature.

# %% id="plateau" tags=["not-compared"]
import math

rates = [1 / d for d in (1.2, 1.4, 1.7, 2, 2.4, 3, 3.6, 4.5, 6, 8, 12, 20, 40)]
*_, forty = training(40, 10, rates, torch.ones(40), seed=0, steps=2000, every=2000, lr=0.02)
x, y, kinds = [], [], []
for p, W in zip(rates, forty.W, strict=True):
    size = {i: len(group) for group in groups(W, 0.15) for i in group}
    for i, D in enumerate(share(W).tolist()):
        if i in size:
            x.append(math.log2(1 / p))
            y.append(D)
            kinds.append({1: "alone", 2: "in a pair"}.get(size[i], "in a larger group"))
show.scatter(
    x,
    y,
    xlabel="log₂(1 / probability): sparser to the right",
    ylabel="dimensionality of a feature",
    groups=kinds,
    title="Features settle at 1/2 over a wide range, and give way only at its ends",
    caption="40 features of equal importance in 10 dimensions, one model for each of 13 probabilities. Features that are left out are not drawn.",
)

# %% id="use-plateau" tags=["not-compared"]
print("1/p   kept  in pairs  dimensionality: lowest, median, highest   sum")
for p, W in zip(rates, forty.W, strict=True):
    found = groups(W, 0.15)
    kept = [i for group in found for i in group]
    D, in_pairs = share(W)[kept], sum(len(group) for group in found if len(group) == 2)
    print(
        f"{1 / p:4.1f}  {len(kept):4}  {in_pairs:8}  {D.min():.2f}, {D.median():.2f}, {D.max():.2f}  {D.sum():30.1f}"
    )

# %% [markdown] id="plateau-seen"
# <details><summary>What you should see</summary>
#
# At the left most features are left out, and those that are kept have two thirds of a dimension or more. Then they pair off, and stay at exactly 1/2 although the features become two or three times as rare: the plateau that Elhage et al. (2022) call sticky. Beyond it more and more features crowd in, each with less, until all forty are kept and have a quarter each. The sum of all shares stays near
# 10: there are no more dimensions than there are.
# </details>

# %% [markdown] id="part-6"
# ## 6. What it costs
#
# Superposition is not free. Read feature i along $\hat W_i$, before the ReLU: the other features leave noise there. If they are independent, its variance should be your `interference` times the variance of one feature. That is a prediction without a free parameter. Test it, on a model with a crowd.

# %% id="use-cost" tags=["not-compared"]
noise_of = lesson.use("interference")
p = 0.05
crowd = train(20, 5, p, 0.9 ** torch.arange(20.0), seed=2)
W, b = crowd["W"], crowd["b"]
x = sample(200_000, 20, p, seed=5)
long = W.norm(dim=0) > 0.5
unit = W[:, long] / W[:, long].norm(dim=0)
noise = (x @ W.T @ unit - x[:, long] * W.norm(dim=0)[long]).var(dim=0)
expected = noise_of(W)[long] * (p / 3 - p**2 / 4)
print(f"{int(long.sum())} of 20 features kept in 5 dimensions")
print(
    f"measured noise / predicted noise: {(noise / expected).min():.1f} to {(noise / expected).max():.1f}"
)

# %% id="cost-picture" tags=["not-compared"]
x_hat = forward(x, W, b)
active = x > 0
kept = torch.arange(20)[long]
*_, flat = training(
    20, 5, [p], 0.9 ** torch.arange(20.0), seed=2, steps=600, every=600, relu=False
)
R = torch.randn(5, 20, generator=torch.Generator().manual_seed(1))
R = R / R.norm(dim=0) * W.norm(dim=0)


def by_company(guess, features, most=5):
    """Mean squared error of a feature that is present, by how many are present in all."""
    rows, count = [], active.sum(1)
    for n in range(1, most + 1):
        mask = active[:, features] & (count == n)[:, None]
        rows.append(float(((guess - x)[:, features] ** 2)[mask].mean()))
    return rows


show.lines(
    [1, 2, 3, 4, 5],
    {
        "superposition": by_company(x_hat, kept),
        "linear, its five features": by_company(
            x @ flat.W[0].T @ flat.W[0] + flat.b[0], torch.arange(5)
        ),
        "control: random directions": by_company(forward(x, R, b), kept),
    },
    xlabel="features present at the same time",
    ylabel="squared error of a present feature",
    title="A feature alone is read well; each further one in the room costs",
    caption="20 features in 5 dimensions, present 5% of the time, 200,000 rows.",
)

# %% [markdown] id="cost-seen"
# <details><summary>What you should see</summary>
#
# The predicted noise and the measured noise agree for every feature. And the cost has a shape: alone, a feature comes through almost unharmed; with each further one the error grows. The linear model does not care about company, but it keeps five features and none of the rest. That is the trade: many features, as long as few of them meet.
#
# It also says where to look for trouble. An input that turns on several features which share a direction is read wrongly, and someone who knows W can make one. Elhage et al. (2022) find that toy models become vulnerable to adversarial examples just when they begin to superpose.
# </details>

# %% [markdown] id="ask-paired_features"
# {{exercise paired_features}}
#
# todo


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

# %% [markdown] id="part-7"
# ## 7. And in a real model?
#
# SmolLM2 has 576 dimensions and 49,152 tokens, and exactly one of the tokens stands at each position: these are the sparsest features there are. The embedding matrix writes each of them in a direction. So here, for once, the features of a real model are known, and it must superpose 85 of them in each dimension.
#
# **Predict:** are the directions like random ones, as well spread as chance allows? Or not? The control has random directions of the same lengths.

# %% id="use-real"
model = mi_course.load_model(compatibility=False)
E = model.W_E.detach().float()
E = (E - E.mean(0)).T  # [hidden, features], without what all tokens share
some = torch.randperm(E.shape[1], generator=torch.Generator().manual_seed(0))[:2000]
G = torch.randn(E.shape, generator=torch.Generator().manual_seed(1))
G = G / G.norm(dim=0) * E.norm(dim=0)


def closest(vectors):
    """The highest cosine of each of the chosen tokens with any other token, and with which."""
    unit = vectors / vectors.norm(dim=0).clamp(min=1e-6)
    cosines = unit[:, some].T @ unit
    cosines[torch.arange(len(some)), some] = -1.0
    return cosines.max(dim=1)


real, control = closest(E), closest(G)
print(
    f"highest cosine with another token: median {real.values.median():.1f}, at random {control.values.median():.1f}"
)
for token in [" dog", " seven", " Paris", " quickly"]:
    i = model.tokenizer.encode(token)[-1]
    unit = E / E.norm(dim=0).clamp(min=1e-6)
    near = (unit[:, i] @ unit).topk(4).indices[1:]
    print(f"{token!r:>10}: {', '.join(repr(model.tokenizer.decode([int(j)])) for j in near)}")

# %% id="real-picture" tags=["not-compared"]
show.histogram(
    {"tokens of SmolLM2": real.values, "control: random directions": control.values},
    xlabel="highest cosine with any other token",
    title="Real features do not keep away from each other: related ones share directions",
    caption="2,000 tokens against all 49,152, mean removed. 576 dimensions.",
)

# %% [markdown] id="real-seen"
# <details><summary>What you should see</summary>
#
# Random directions in 576 dimensions hardly ever come nearer than a cosine of 0.2, even among 49,152. Almost every token has a neighbour that is much nearer, and the neighbours are related: other spellings, other numbers, other places. The model does not spread its features as far as it could. In our toy, features came and went independently, and there was nothing to gain from likeness. Real
# features are correlated, and it helps to let related ones look alike (Elhage et al. 2022, on correlated features). So this is superposition by necessity, 85 to a dimension, and geometry with a meaning on top.
#
# What it does not show: tokens are features that we were *given*. Behind the embedding nobody tells us which features there are. That W exists, that it is crowded, and that only x̂'s left-hand side is in sight, is the whole difficulty. To find the directions from the activations alone is what sparse autoencoders are for.
# </details>
#
# *Reflect.* What would you have to see in a real model's activations to say that it does **not** superpose? Would one neuron with one clear meaning do?

# %% [markdown] id="recap"
# ## What you have done
#
# You computed what a linear model can do, and trained models that do better: with a ReLU, on sparse features, and only then. You saw features go from left out to sharing in a single step, and predicted where. You measured the shapes, and found 1/2 to be the number that a wide range of sparsities settles on. You found that one start is not an answer, and that the price of sharing is paid when features meet.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Elhage et al. 2022, *Toy Models of Superposition*. Read the section on the geometry first, then ask of each figure what its control is.
