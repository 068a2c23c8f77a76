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
# You will find a direction in a language model that means something, steer the model's writing with it, take it out again, and hold every claim against controls that could have refuted it.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00. The model is SmolLM2-135M-Instruct in compatibility mode; only section 8, on weights, needs that. Sources: Turner et al. 2023; Rimsky et al. 2023; Zou et al. 2023; Park et al. 2023;
# Marks and Tegmark 2023; Arditi et al. 2024; Tan et al. 2024; Chen et al. 2025.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("steering_vectors"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. A surprise
#
# Here is one number. It multiplies one vector, which is added to the residual stream after layer 14 while the model writes. Nothing else is changed: no prompt, no training.
#
# **Predict:** what will the model write about a hotel room at +1? At −1? At +2? Then move the slider. You can change the text and the layer as well.

# %% id="panel" tags=["not-compared"]
from mi_course.interp.steering import NeutralLoss, Steer, WordOdds, generate, texts, with_norm
from mi_course.interp.steering import experiments as runs

opinion, ready_made = runs.opinion(model), runs.ready_made(model)  # a metric; 30 vectors
GOOD, BAD = opinion.positive_ids, opinion.negative_ids  # two sets of next words
(panel := runs.panel(opinion, ready_made, "The hotel room was", layer=14))

# %% id="claims-panel-seen" tags=["claims"]
from mi_course import claim

shown = [line.split() for line in panel.text.splitlines() if "log-odds (nats)" in line]
hotel = {float(words[0]): float(words[1]) for words in shown}
claim(
    "the panel's log-odds rise from each of nine doses to the next",
    len(hotel) == 9 and list(hotel.values()) == sorted(hotel.values()),
)
lesson.seen("hotel-low", hotel[-1.0], ".0f")
lesson.seen("hotel-high", hotel[1.0], ".0f")
turning = opinion(Steer(ready_made[14], 14, 2.0)) < opinion(Steer(ready_made[14], 14, 1.5))
claim(
    "after at least four of the eight prompts they are lower at +2 than at +1.5",
    int(turning.sum()) >= 4,
)
at_minus_one = next(
    line for line in panel.text.splitlines() if line.strip().startswith("-1.00")
)
complaints = (*texts.NEGATIVE_WORDS, *texts.NEGATIVE_SYNONYMS, "dirty", "ugly", "sad")
claim(
    "at -1 the panel's text has none of these words of complaint",
    not any(word in at_minus_one for word in complaints),
)

# %% [markdown] id="panel-seen"
# <details><summary>What you should see</summary>
#
# To the right the room becomes a dream and a luxury, and after this sentence the log-odds follow the number all the way: {{seen:hotel-low}} nats at `-1`, {{seen:hotel-high}} at `+1`. (After most others they turn back beyond `+1.5`.) The *text* is less obedient. At `-1` the room is not gloomy, it is empty: people, places, no complaint. Beyond the marked range the words fall apart, or go round in circles.
#
# So already there are two questions. Would a *random* vector do as much? And do log-odds measure what the model goes on to write? Sections 5 and 7.
# </details>
#
# One vector, a few pairs of sentences to make it, no training. Is there really a direction of opinion in there, or have we pushed the model over? The rest of the lesson makes this vector by hand and then tries hard to discredit it.

# %% [markdown] id="part-2"
# ## 2. Read the stream
#
# Sentences differ in length, so a batch of them is padded, on the right or on the left. Which position is each sentence's last?
#
# **By hand, once.** In a mask `[1, 1, 1, 0, 0]` the last real token has index 2. In `[0, 0, 1, 1, 1]` it has index 4. Both masks sum to 3.

# %% [markdown] id="ask-last_token_index"
# {{exercise last_token_index}}
#
# Return the index of the last real token (1) of each row, counted from 0, as whole numbers of shape (batch,). Padding (0) stands on the left or on the right of a row, and one batch may hold both kinds. Every row has at least one real token, and its real tokens are one unbroken run. Judged with one row and with several, and
# with rows without padding.

# %% id="answer-last_token_index"
from jaxtyping import Bool, Float, Int
from torch import Tensor


def last_token_index(attention_mask: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch"]:
    """Index of the last real token (mask 1) of each row, counted from 0, wherever the padding (mask 0) stands."""
    # BEGIN SOLUTION
    positions = torch.arange(attention_mask.shape[1])
    return (attention_mask * positions).argmax(dim=-1)
    # END SOLUTION


lesson.check(last_token_index)

# %% [markdown] id="use-reading-intro"
# Twelve sentences that praise and twelve that complain, in pairs about the same thing. Each ends on its opinion. We read the stream after layer 14 at the last token. Beside it, as a warning, position 0.

# %% id="use-reading"
LAYER, last_of = 14, lesson.use("last_token_index")
positive, bos = runs.last_activations(model, texts.POSITIVE, LAYER, last_of)
negative, _ = runs.last_activations(model, texts.NEGATIVE, LAYER, last_of)
print(f"{texts.POSITIVE[0]!r}\n{texts.NEGATIVE[0]!r}")
norms = [rows.norm(dim=-1).median() for rows in (positive, bos)]
print(f"median norm at the last token: {norms[0]:.0f}; at BOS: {norms[1]:,.0f}")

# %% id="claims-reading-seen" tags=["claims"]
lesson.seen("sink-ratio", bos.norm(dim=-1).median() / positive.norm(dim=-1).median(), ".0f")
with_bos = (bos[:1] + positive).div(2)
claim(
    "a mean of BOS and a last token has a cosine above 0.99 with BOS, for each sentence",
    bool((torch.cosine_similarity(with_bos, bos[:1]) > 0.99).all()),
)

# %% [markdown] id="reading-seen"
# BOS is an attention sink: its norm is {{seen:sink-ratio}} times that of an ordinary token. Any mean that includes it is a mean of BOS. A padding token, read by mistake, is worse: what it holds depends on how long the *other* sentences of the batch are.

# %% [markdown] id="part-3"
# ## 3. Is the direction really there?
#
# If opinion is a direction, a plane at right angles to it should separate the two classes (Park et al. 2023 make precise what "is a direction" can mean). The plainest such plane lies halfway between the two means. Marks and Tegmark (2023, section 5) call it a mass-mean probe.

# %% [markdown] id="ask-mass_mean_probe"
# {{exercise mass_mean_probe}}
#
# $w = \mu_+ - \mu_-$, not scaled, and $b = -w\cdot(\mu_+ + \mu_-)/2$, as a pair (w, b) with b a number. The probe says True where $x\cdot w + b > 0$. The classes may differ in size; one row in each is enough. If a class has no row at all, raise ValueError. The inputs stay as they are.


# %% id="answer-mass_mean_probe"
def mass_mean_probe(
    x: Float[Tensor, "n d"], y: Bool[Tensor, "n"]
) -> tuple[Float[Tensor, "d"], float]:
    """(w, b): w from the mean of the False rows to the mean of the True ones, b so that the border is half way.

    Raises ValueError if no row is True or none is False.
    """
    # BEGIN SOLUTION
    if y.all() or not y.any():
        raise ValueError("A probe needs examples of both classes.")
    up, down = x[y].mean(dim=0), x[~y].mean(dim=0)
    w = up - down
    return w, float(-(w @ (up + down)) / 2)
    # END SOLUTION


lesson.check(mass_mean_probe)

# %% [markdown] id="use-probes-intro"
# Twenty other pairs of sentences, all of which end in a full stop. We read the stream **at the full stop**. The token itself is the same for all, so whatever a probe finds there, attention has brought.
#
# **Predict** the accuracy
#
# 1. after layer 0 and after layer 14, on sentences that the probe has not seen. (A pair is never split between the two sides: the sentence about one concert must not help with the other one.)
# 2. of a probe made from **shuffled labels**, on the very sentences that it was made from.

# %% id="use-probes"
fit = lesson.use("mass_mean_probe")
probed = runs.probe(model, fit, layers=[0, 2, 4, 8, 14, 22, 29])
show.table(probed.by_heart, ["shuffled labels, on the sentences it was made from"])

# %% id="probes-picture" tags=["not-compared"]
runs.draw_probes(probed)

# %% id="claims-probes-seen" tags=["claims"]
from mi_course.interp.steering import collect, cross_validated_accuracy

at_stop, unseen, by_heart = probed.full_stop[0], probed.unseen, probed.by_heart
words_too, chance = probed.words_too, probed.chance
first_spread = (at_stop - at_stop.mean(0)).norm(dim=1).mean() / at_stop.norm(dim=1).mean()
lesson.seen("spread", 100 * first_spread, ".0f")
lesson.seen("stop-first", unseen[0], ".2f")
lesson.seen("stop-14", unseen[4], ".2f")
lesson.seen("words-first", words_too[0], ".2f")
lesson.seen("mean-by-heart", by_heart["mass-mean probe"], ".2f")
lesson.seen("logistic-by-heart", by_heart["logistic probe"], ".2f")
jumbled = runs.out_of_order(model)
mixed = [
    cross_validated_accuracy(fit, x, torch.arange(40) < 20, groups=[*range(20)] * 2)
    for x in (collect(model, jumbled, 0, position="mean"), collect(model, jumbled, LAYER))
]
lesson.seen("shuffled-first", mixed[0], ".2f")
lesson.seen("shuffled-stop", mixed[1], ".2f")
claim(
    "with shuffled words: at least 0.75 over all tokens after layer 0, at most 0.85 at the full stop after layer 14",
    mixed[0] >= 0.75 and mixed[1] <= 0.85,
)
claim(
    "all forty sentences end in one and the same token",
    len({row[-1] for row in runs.token_ids(model, runs.STORIES)}) == 1,
)
claim(
    "at the full stop after layer 0 the probe is within 0.15 of chance",
    abs(unseen[0] - 0.5) < 0.15,
)
claim(
    "at the full stop after layer 14 it is right on at least 95 % of unseen sentences",
    unseen[4] >= 0.95,
)
claim("over all tokens it is right on at least 85 % after layer 0", words_too[0] >= 0.85)
claim(
    "a logistic probe learns all ten shuffles by heart, the means at least 65 % and at most 90 %",
    by_heart["logistic probe"] > 0.99 and 0.65 < by_heart["mass-mean probe"] < 0.9,
)
claim(
    "on unseen sentences shuffled labels score within 0.15 of chance at every layer, in the mean of ten",
    bool(((torch.tensor(chance).mean(0) - 0.5).abs() < 0.15).all()),
)

# %% [markdown] id="probes-seen"
# <details><summary>What you should see</summary>
#
# As embeddings all full stops are one vector, and no probe could tell them apart. After the first layer, one round of attention later, they differ by {{seen:spread}} % of their norm, and the probe still guesses: {{seen:stop-first}}. In the middle of the model it scores {{seen:stop-14}} on sentences that it has not seen. The mean over all tokens scores {{seen:words-first}} after the first layer already.
# That is a bag of words: "delicious" is a happy word, and no sentence has been understood. Shuffle the words of each story, and it still scores {{seen:shuffled-first}}, while the full stop, in the middle of the model, falls to {{seen:shuffled-stop}}. The same accuracy can mean very different things.
#
# Shuffled labels are learned as well, as long as you look at the sentences they were learned from: the means get {{seen:mean-by-heart}} of them right, a logistic probe {{seen:logistic-by-heart}}. With more components than rows, any labeling can be separated. On unseen sentences they are at chance.
#
# A probe shows that information is *there*. It does not show that the model uses it.
# </details>

# %% [markdown] id="part-4"
# ## 4. Does the model use it?
#
# To find out, change it, and see what the model does. First, a way to measure what it does: how cheerful is a prediction? Take two sets of words, and ask how much likelier it is that the next word comes from one than from the other.

# %% [markdown] id="ask-log_odds"
# {{exercise log_odds}}
#
# $\log \frac{p(\text{any positive word})}{p(\text{any negative word})}$, in nats, for each row: shape (batch,). The two sets share no word and hold no word twice; they may hold one word only, and differ in size. If a set is empty, raise ValueError. Logits may be as large as ±300, where exponentials leave float32.


# %% id="answer-log_odds"
def log_odds(
    logits: Float[Tensor, "batch vocab"], positive_ids: list[int], negative_ids: list[int]
) -> Float[Tensor, "batch"]:
    """Log-odds of the two sets of tokens in nats: logsumexp over the one minus logsumexp over the other.

    Raises ValueError if either set is empty.
    """
    # BEGIN SOLUTION
    if not positive_ids or not negative_ids:
        raise ValueError("Both sets need at least one token.")
    return logits[:, positive_ids].logsumexp(dim=-1) - logits[:, negative_ids].logsumexp(
        dim=-1
    )
    # END SOLUTION


lesson.check(log_odds)

# %% [markdown] id="ask-add_vector"
# And a way to change it. The probe's $w$ is a vector in the residual stream: the difference of means.
#
# {{exercise add_vector}}
#
# A hook that adds coefficient · vector at positions start, start + 1, … (start ≥ 0) of every prompt of the batch. The coefficient may be negative, the vector has any norm. A start past the end changes nothing. Change `resid` in place and return it, or return a new tensor; `vector` stays as it is.


# %% id="answer-add_vector"
def add_vector(
    resid: Float[Tensor, "batch pos d"],
    hook,
    vector: Float[Tensor, "d"],
    coefficient: float,
    start: int,
) -> Float[Tensor, "batch pos d"]:
    """Adds coefficient · vector to the residual stream at positions start, start + 1, … of every prompt."""
    # BEGIN SOLUTION
    resid[:, start:] += coefficient * vector
    return resid
    # END SOLUTION


lesson.check(add_vector)

# %% [markdown] id="use-steering-intro"
# Now by hand, prompt by prompt: take the probe's direction, add it with your hook, and compare the log-odds. Start at position 1, so that BOS is left alone.

# %% id="use-steering"
from functools import partial

odds, add = lesson.use("log_odds"), lesson.use("add_vector")
vector, _ = fit(torch.cat([positive, negative]), torch.arange(24) < 12)


def steered_odds(prompt, coefficient):
    """Log-odds after one prompt, with coefficient · vector added after layer 14."""
    tokens = torch.tensor(runs.token_ids(model, [prompt]))
    hook = partial(add, vector=vector, coefficient=coefficient, start=1)
    with torch.no_grad(), model.hooks(fwd_hooks=[(f"blocks.{LAYER}.hook_resid_post", hook)]):
        return odds(model(tokens)[:, -1], GOOD, BAD).item()


by_hand = {p: [steered_odds(p, c) for c in (-1.0, 0.0, 1.0)] for p in texts.PROMPTS[:3]}
show.table(by_hand, ["at −1", "at 0", "at +1"], title="log-odds (nats)", digits=1, sign=True)

# %% id="claims-steering-seen" tags=["claims"]
moved = torch.tensor(list(by_hand.values()))
up, down = float((moved[:, 2] - moved[:, 1]).mean()), float((moved[:, 1] - moved[:, 0]).mean())
lesson.seen("by-hand", (up + down) / 2, ".1f")
lesson.seen("factor", round(float(torch.tensor((up + down) / 2).exp())), "d")
claim(
    "each of three prompts moves by 2 to 5 nats, each way",
    bool(((moved.diff(dim=1) > 2) & (moved.diff(dim=1) < 5)).all()),
)
of_three = WordOdds(model, [*by_hand], GOOD, BAD)
claim(
    "your hook gives what the library gives",
    all(
        torch.allclose(of_three(Steer(vector, 14, c)), moved[:, i], atol=0.02)
        for i, c in enumerate((-1.0, 0.0, 1.0))
    ),
)

# %% [markdown] id="steering-seen"
# Adding the vector moves all three prompts up and subtracting it moves them down, by about {{seen:by-hand}} nats each way: a factor of {{seen:factor}} in the odds. So the direction is not only readable. Something **listens** to it. (Turner et al. 2023 did this with single pairs of prompts; Rimsky et al. 2023 with means over many.)

# %% [markdown] id="use-direct-intro"
# **Something in the model, or only its last matrix?** The stream carries whatever we add to the end, where the unembedding turns it into logits. A vector could raise "great" directly, with no layer listening: one made of the unembedding's own rows for "great" and "wonderful" would do that, and mean nothing. To measure this *direct path*, add the same vector after the **last** layer, where no layer is left to read it.
# **Predict** how much of the effect remains.

# %% id="use-direct"
places = {f"after layer {i}": opinion.changes(vector[None], i)[0] for i in (14, 20, 25, 29)}
show.table(places, ["change (nats)"], title="The vector of layer 14, added", sign=True)

# %% id="claims-direct-seen" tags=["claims"]
whole, direct = places["after layer 14"], places["after layer 29"]
lesson.seen("whole", whole, ".1f")
lesson.seen("direct", direct, ".1f")
downwards = [float(opinion.changes(-vector[None], layer)) for layer in (29, 14)]
both_directs = [float(direct / whole), downwards[0] / downwards[1]]
claim(
    "the direct path is less than 15 % of the effect, with either sign",
    max(map(abs, both_directs)) < 0.15,
)
synonyms = [
    runs.word_ids(model, each) for each in (texts.POSITIVE_SYNONYMS, texts.NEGATIVE_SYNONYMS)
]
strange = WordOdds(model, texts.HELD_OUT_PROMPTS, *synonyms)
claim(
    "on held-out prompts with synonyms less than 25 %, at +1",
    abs(float(strange.changes(vector[None], 29) / strange.changes(vector[None], 14))) < 0.25,
)

# %% [markdown] id="direct-seen"
# <details><summary>What you should see</summary>
#
# Of {{seen:whole}} nats the direct path explains {{seen:direct}}. The rest is the work of layers that read the vector and write something else. That is no law: the vector of a *late* layer works more and more by the direct path, and that of the last layer by nothing else. So a large effect late in the model says little about listening.
# How large the direct path is depends on the words: with synonyms, on new prompts, it is up to a fifth.
# </details>
#
# **Is a mean enough?** Other recipes are at hand: the principal direction of the pairwise differences (Zou et al. 2023), or the weights of a trained probe. How alike are they?

# %% [markdown] id="ask-cosine_similarities"
# {{exercise cosine_similarities}}
#
# The cosine of every pair of rows, shape (n, n). A zero vector has cosine 0 with all, itself included. Rows may be opposite, or short (a norm of 0.05, or far less); a single row, or rows of a single component, are allowed. The input stays as it is.


# %% id="answer-cosine_similarities"
def cosine_similarities(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Cosine of each pair of rows, −1 to 1; 0 for pairs with a zero vector."""
    # BEGIN SOLUTION
    norms = vectors.norm(dim=-1, keepdim=True)
    unit = vectors / torch.where(norms > 0, norms, 1.0)
    return unit @ unit.T
    # END SOLUTION


lesson.check(cosine_similarities)

# %% id="use-recipes"
neutral_loss = NeutralLoss(model, texts.NEUTRAL[:6])
recipes = runs.recipes(model, positive, negative, LAYER)  # all with the norm of the first
cosines = lesson.use("cosine_similarities")(torch.stack([*recipes.values()]))[0]
effects = runs.compare(opinion, neutral_loss, recipes, LAYER).items()
compared = {name: [cosines[i], *row] for i, (name, row) in enumerate(effects)}
columns = ["cosine", "effect at −1", "effect at +1", "neutral loss at +1"]
show.table(compared, columns, title="Each scaled to the same norm; nats", sign=True)

# %% id="claims-recipes-seen" tags=["claims"]
of = {
    name: row
    for name, row in zip(
        ("mean", "pca", "logistic", "words", "centered", "tense"),
        compared.values(),
        strict=True,
    )
}
for short_name, row in of.items():
    lesson.seen(f"{short_name}-plus", row[2], "+.1f")
    lesson.seen(f"{short_name}-cost", row[3], ".2f")
lesson.seen("least-alike", min(float(of[k][0]) for k in ("pca", "logistic", "words")), ".2f")
claim(
    "the four recipes have cosines of at least 0.8 with the difference of means",
    all(of[k][0] >= 0.8 for k in ("pca", "logistic", "words")),
)
claim(
    "a logistic probe and means over all tokens do more than the difference of means at +1, by 0.3 nats or more",
    all(of[k][2] > of["mean"][2] + 0.3 for k in ("logistic", "words")),
)
claim(
    "and cost at most 0.05 nats more, and at -1 they do no more than it does, by 0.2",
    all(
        of[k][3] < of["mean"][3] + 0.05 and of[k][1] > of["mean"][1] - 0.2
        for k in ("logistic", "words")
    ),
)
new_effects = strange.changes(torch.stack([*recipes.values()])[[0, 2, 3]], LAYER)
claim(
    "on held-out prompts with synonyms both lead as well, by 0.2 nats or more",
    bool((new_effects[1:] > new_effects[0] + 0.2).all()),
)
claim(
    "the centered direction and the unrelated one move the log-odds by less than 1 nat, with either sign",
    all(abs(of[k][i]) < 1 for k in ("centered", "tense") for i in (1, 2)),
)

# %% [markdown] id="recipes-seen"
# <details><summary>What you should see</summary>
#
# The recipes are nearly one vector: cosines of {{seen:least-alike}} or more with the difference of means. They are not equally good. At the same norm, a logistic probe ({{seen:logistic-plus}}) and the means over all tokens ({{seen:words-plus}}) do *more* at `+1` than the difference of means ({{seen:mean-plus}}), and cost about as much; on new prompts with synonyms it is the same. At `-1` they have no lead. Marks and Tegmark (2023) found it the other way round: in larger models,
# on true and false statements, mass-mean directions changed the answers more than those of logistic regression did. So it depends on model and data, and "the simplest is the best" is a result to be measured, not a rule. The simplest is good enough here, and needs no training.
#
# The *centered* principal direction is a common mistake: centering removes the very shift that all pairs share, and what is left is how the pairs differ among themselves. It is also the default of a popular library (`pca_diff` in repeng centers the differences), so look at what yours does. The unrelated concept is a first control: a direction that the model also uses, scaled to the same length, does little to opinion.
# </details>

# %% [markdown] id="part-5"
# ## 5. Controls
#
# You have an effect. Now assume that you are wrong. What else could move log-odds by three nats?
#
# - *Any* vector of that length. **Random directions** of the same norm, many of them.
# - Any vector of the kind that the model writes itself. Directions with the **covariance of its activations**.
# - The accidents of twelve sentences. **Noise**, in which praise and complaint cancel.
#
# The first two are yours.

# %% [markdown] id="ask-random_controls"
# {{exercise random_controls}}
#
# n ≥ 1 independent random directions, uniform on the sphere, each with the norm of `vector`: shape (n, d). The same seed gives the same directions, another seed others, and the global random state stays as it is. `vector` is not zero, and is not changed.


# %% id="answer-random_controls"
def random_controls(vector: Float[Tensor, "d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """n independent directions, uniform on the sphere, each with the norm of `vector`."""
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, vector.shape[0], generator=generator)
    return noise / noise.norm(dim=-1, keepdim=True) * vector.norm()
    # END SOLUTION


lesson.check(random_controls)

# %% [markdown] id="ask-matched_controls"
# A random direction is a mild control: most of it lies where the model never writes, and hardly anything is read there. A harder one points where activations vary.
#
# {{exercise matched_controls}}
#
# n ≥ 1 independent random directions, normally distributed with mean zero and the covariance of the activations (which are far from the origin: subtract their mean), each then scaled to the norm of `vector`: shape (n, d). There are more tokens than components. The same seed gives the same directions, another seed others; the global random
# state and the arguments stay as they are. Judged by the second moments of up to 2,000 of your directions.


# %% id="answer-matched_controls"
def matched_controls(
    vector: Float[Tensor, "d"], activations: Float[Tensor, "token d"], n: int, seed: int
) -> Float[Tensor, "n d"]:
    """n independent directions with the covariance of the activations, each scaled to the norm of `vector`."""
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    centered = activations - activations.mean(dim=0)
    weights = torch.randn(n, len(activations), generator=generator)
    mixed = weights @ centered
    return mixed / mixed.norm(dim=-1, keepdim=True) * vector.norm()
    # END SOLUTION


lesson.check(matched_controls)

# %% [markdown] id="use-controls-intro"
# **Predict:** of twenty random directions, how far does the luckiest move the log-odds at coefficient 1? And at 2? Then: matched to *what*? Take activations of neutral text, and of text full of opinions. Which of the two is harder to beat?

# %% id="use-controls"
random_of, matched_of = lesson.use("random_controls"), lesson.use("matched_controls")
controls = {"random": random_of(vector, 20, seed=0)}
for kind, activations in runs.two_kinds_of_text(model, LAYER).items():
    controls[f"matched, {kind}"] = matched_of(vector, activations, 20, seed=0)
doses = [-1.0, 1.0, 2.0]
real, bands = runs.beside_controls(opinion, vector, controls, LAYER, doses)

# %% id="controls-picture" tags=["not-compared"]
runs.draw_controls(doses, real, bands)

# %% id="claims-controls-seen" tags=["claims"]
extreme = {name: band.abs().amax(dim=0) for name, band in bands.items()}
lesson.seen("real-plus", real[1], ".1f")
lesson.seen("real-minus", -real[0], ".1f")
lesson.seen("random-extreme", extreme["random"][:2].max(), ".1f")
lesson.seen("matched-extreme", extreme["matched, opinionated text"][:2].max(), ".1f")
lesson.seen("neutral-extreme", extreme["matched, neutral text"][:2].max(), ".1f")
lesson.seen("real-double", real[2], ".1f")
lesson.seen("best-double", max(float(band[:, 2].max()) for band in bands.values()), ".1f")
claim(
    "at -1 and +1 the vector moves the log-odds further than any of 60 controls does in either direction",
    all(abs(real[i]) > float(e[i]) for e in extreme.values() for i in (0, 1)),
)
claim(
    "single random directions move them by more than 1 nat, with either sign",
    float(bands["random"][:, 1].min()) < -1 and float(bands["random"][:, 1].max()) > 1,
)
claim(
    "those matched to opinionated text reach furthest at -1 and +1, those matched to neutral text least far",
    float(extreme["matched, opinionated text"][:2].max())
    > float(extreme["random"][:2].max())
    > float(extreme["matched, neutral text"][:2].max()),
)
claim(
    "at +2 the best control is within 0.5 nats of the vector, or above",
    max(float(band[:, 2].max()) for band in bands.values()) > real[2] - 0.5,
)

# %% [markdown] id="controls-seen"
# <details><summary>What you should see</summary>
#
# At `-1` and `+1` the vector ({{seen:real-minus}} and {{seen:real-plus}} nats) lies outside all three bands. Single random directions move the log-odds by up to {{seen:random-extreme}} nats, with either sign: **one** random direction is no control.
#
# "Matched" is a word to be careful with. Directions with the covariance of *neutral* text do less than random ones, {{seen:neutral-extreme}} nats at most: neutral text varies along directions that matter little to an opinion. Those with the covariance of *opinionated* text reach {{seen:matched-extreme}}, since they lie where activations vary when opinions do. They are the hardest to beat, so they
# are the control to report, with the text that they come from.
#
# At `+2` the vector has {{seen:real-double}} nats and the best of the controls {{seen:best-double}}. Some matched directions do as much out there, so what the slider shows at its far end is no evidence for the *concept*. That is what a control is for: without it, the far end looks like a weaker success.
# </details>
#
# **And the noise?** The pairs are few. How much of the vector's length is an accident of these? The noise of a mean of pairs is what the *differences* of the pairs scatter by, over $\sqrt{12}$. **Predict** which share of the vector's squared length it is. Then look at the noise alone: turn half of the pairs around, so that praise and complaint cancel.

# %% id="use-noise"
differences = positive - negative
noise_only = runs.half_turned(12, draws=20) @ differences / 12  # in each the pairs cancel
standard_error = (differences.var(dim=0).sum() / 12).sqrt()
norm, turned = vector.norm(), noise_only.norm(dim=1).mean()
print(
    f"norms: the vector {norm:.0f}, its standard error {standard_error:.0f}, turned {turned:.0f}"
)
noise_effects = opinion.changes(with_norm(noise_only, norm), LAYER)
print(f"as long as the vector: {noise_effects.min():+.1f} to {noise_effects.max():+.1f} nats")

# %% id="claims-noise-seen" tags=["claims"]
share = float(standard_error**2 / vector.norm() ** 2)
split = torch.Generator().manual_seed(1)
half_cosines = []
for _ in range(200):
    mixed_up = torch.randperm(12, generator=split)
    half_cosines.append(
        torch.cosine_similarity(
            differences[mixed_up[:6]].mean(0), differences[mixed_up[6:]].mean(0), dim=0
        )
    )
lesson.seen("noise-share", 100 * share, ".0f")
lesson.seen("half-cosine", sum(half_cosines) / 200, ".2f")
lesson.seen("noise-low", noise_effects.min(), ".1f")
lesson.seen("noise-high", noise_effects.max(), ".1f")
unpaired = float(((positive.var(0) + negative.var(0)).sum() / 12).sqrt())
lesson.seen("unpaired", unpaired, ".0f")
lesson.seen("length", vector.norm(), ".0f")
claim(
    "noise is between a quarter and a half of the vector's squared length", 0.25 < share < 0.5
)
claim(
    "pairs turned around are as long as the standard error, within 10 %",
    abs(float(noise_only.norm(dim=1).mean() / standard_error) - 1) < 0.1,
)
claim(
    "the noise of unpaired sentences would be at least 1.3 times as large",
    unpaired > 1.3 * float(standard_error),
)
claim(
    "scaled to the vector's length, no noise of 20 does as much as the vector",
    float(noise_effects.abs().max()) < real[1],
)

# %% [markdown] id="noise-seen"
# <details><summary>What you should see</summary>
#
# About {{seen:noise-share}} % of the squared length is noise, and two vectors from half of the pairs each have a cosine of {{seen:half-cosine}}. So the direction is known, but not well: more pairs would make a better one. Pairing pays. If you forget that sentence and counterpart are about the same thing, and shuffle all sentences instead, the noise comes out as {{seen:unpaired}} of {{seen:length}}, and you would
# blame chance for what differs between a film and a garden.
#
# Noise that is scaled up to the vector's length moves the log-odds by {{seen:noise-low}} to {{seen:noise-high}} nats, as other controls do.
# </details>

# %% [markdown] id="part-6"
# ## 6. Where, how much, and what breaks
#
# **Where?** At each layer a vector of its own, added there, beside controls of its own.

# %% [markdown] id="ask-layer_sweep"
# {{exercise layer_sweep}}
#
# Return a table of shape (layers, 1 + n): row i belongs to layer `layers[i]`, column 0 to `vectors[i]`, the others to `controls[i]` in their order. A cell is `metric(logits)` of the steered model minus that of the unsteered one, where coefficient · direction is added to `blocks.{layer}.hook_resid_post` at every position but 0. `metric` takes
# logits of shape (batch, pos, vocab) and returns a float. Layers come in any order, one or more; n may be 0, the coefficient negative. No gradients are needed. `tokens` have no padding. No hook may stay on the model, even if the model raises an error; arguments stay as they are.


# %% id="answer-layer_sweep"
def layer_sweep(
    model,
    tokens: Int[Tensor, "batch pos"],
    layers: list[int],
    vectors: Float[Tensor, "layer d_model"],
    controls: Float[Tensor, "layer n d_model"],
    coefficient: float,
    metric,
) -> Float[Tensor, "layer n+1"]:
    """What each direction adds to the metric: one row per layer, the vector in column 0, its n controls after it."""

    # BEGIN SOLUTION
    def measure(layer, direction):
        def steer(resid, hook):
            resid[:, 1:] += coefficient * direction
            return resid

        hooks = [(f"blocks.{layer}.hook_resid_post", steer)]
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            return metric(model(tokens))

    with torch.no_grad():
        base = metric(model(tokens))
    table = torch.zeros(len(layers), 1 + controls.shape[1])
    for i, layer in enumerate(layers):
        for j, direction in enumerate((vectors[i], *controls[i])):
            table[i, j] = measure(layer, direction) - base
    return table
    # END SOLUTION


lesson.check(layer_sweep)

# %% [markdown] id="use-sweep-intro"
# **Predict:** at which layers will it work: the first, the middle ones, the last? And the direct path from there?

# %% id="use-sweep"
swept = [0, 12, 14, 18, 24]
tokens, last, metric = runs.at_the_end(opinion, odds)  # your log-odds, after the eight prompts
near = runs.matched_at(model, matched_of, ready_made, swept, n=4)
sweep = lesson.use("layer_sweep")(model, tokens, swept, ready_made[swept], near, 1.0, metric)
by_direct_path = opinion.changes(ready_made[swept], 29).tolist()

# %% id="sweep-picture" tags=["not-compared"]
runs.draw_sweep(swept, sweep, by_direct_path)

# %% id="claims-sweep-seen" tags=["claims"]
effect_at = dict(zip(swept, sweep[:, 0].tolist(), strict=True))
direct_at = dict(zip(swept, by_direct_path, strict=True))
lesson.seen("early", [effect_at[0], effect_at[12]], ".1f")
lesson.seen("late", [effect_at[14], effect_at[18]], ".1f")
lesson.seen("direct-24", 100 * direct_at[24] / effect_at[24], ".0f")
claim(
    "the vector beats its four controls at every layer",
    bool((sweep[:, 0] > sweep[:, 1:].amax(1)).all()),
)
claim(
    "layers 14, 18 and 24 have at least 1.5 times the effect of layers 0 and 12",
    min(effect_at[i] for i in (14, 18, 24)) > 1.5 * max(effect_at[i] for i in (0, 12)),
)
claim(
    "the direct path is below 15 % up to layer 18 and above 15 % at layer 24",
    all(abs(direct_at[i]) < 0.15 * effect_at[i] for i in swept[:4])
    and direct_at[24] > 0.15 * effect_at[24],
)

# %% [markdown] id="sweep-seen"
# <details><summary>What you should see</summary>
#
# At the first layer something happens already: there the vector is made of the words with which the sentences end, and adding words that praise makes praise likelier. The effect stays about that large up to the middle ({{seen:early}} nats at the first two points), and then it doubles: {{seen:late}} at the next two. Each beats its own controls. But beating controls does not tell a concept from a handful of words.
#
# Late layers look as good as the middle, and there the direct path grows: {{seen:direct-24}} % at the last point. We stay in the middle, from where the model still has half of its layers to compute with.
# </details>

# %% [markdown] id="ask-kl_divergence"
# **How much?** An effect is worth little if the model is broken on the way. So measure on **neutral** text, about rivers and triangles: how far do its predictions move?
#
# {{exercise kl_divergence}}
#
# $\mathrm{KL} = \sum p\,(\log p - \log q)$ for each row, p from `base_logits` and q from `steered_logits`, both over the vocabulary: shape (batch,), never below 0 but for rounding. One row or several. Logits may be some hundreds apart, so that probabilities underflow; the result is finite all the same. The inputs stay as they are.


# %% id="answer-kl_divergence"
def kl_divergence(
    base_logits: Float[Tensor, "batch vocab"], steered_logits: Float[Tensor, "batch vocab"]
) -> Float[Tensor, "batch"]:
    """KL(base ‖ steered) of the two predictions, in nats, for each row: Σ p (log p − log q), p the base's probabilities."""
    # BEGIN SOLUTION
    base = base_logits.log_softmax(dim=-1)
    steered = steered_logits.log_softmax(dim=-1)
    return (base.exp() * (base - steered)).sum(dim=-1)
    # END SOLUTION


lesson.check(kl_divergence)

# %% [markdown] id="use-dose-intro"
# **Predict:** is the dose-response curve straight? Are + and − alike? And what does the loss on neutral text do?

# %% id="use-dose"
divergence, strengths = lesson.use("kl_divergence"), (-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2)
curve = runs.doses(opinion, neutral_loss, vector, LAYER, strengths, divergence)
columns = ["change of log-odds", "neutral loss", "KL, one sentence"]
rows = {f"{c:+.1f}": row for c, row in curve.items()}
show.table(rows, columns, title="coefficient; nats, and nats per token", digits=(1, 2, 2))

# %% id="claims-dose-seen" tags=["claims"]
halves = [curve[c / 2][0] / curve[c][0] for c in (-1.0, 1.0)]
lesson.seen("half-dose", [100 * min(halves), 100 * max(halves)], ".0f")
lesson.seen("cost-ratios", [curve[c][1] / curve[c / 2][1] for c in (-1.0, 1.0)], ".0f")
lesson.seen("cost-plus", curve[1.5][1], ".1f")
lesson.seen("cost-minus", curve[-1.5][1], ".1f")
claim(
    "half the dose has between 60 and 90 % of the effect, with either sign",
    min(halves) > 0.6 and max(halves) < 0.9,
)
claim(
    "half the dose has at most 40 % of the cost, with either sign",
    all(curve[c / 2][1] < 0.4 * curve[c][1] for c in (-1.0, 1.0)),
)
claim("at +2 the log-odds are lower than at +1", curve[2.0][0] < curve[1.0][0] - 0.2)
later_doses = opinion.changes(torch.stack([ready_made[18], 2 * ready_made[18]]), 18)
later_costs = [neutral_loss.rise(Steer(ready_made[18], 18, c)) for c in (-1.5, 1.5)]
claim(
    "after layer 18 the log-odds are higher at +2 than at +1, by half a nat",
    later_doses[1] > later_doses[0] + 0.5,
)
claim(
    "and at 1.5 neither sign costs 1.4 times as much as the other",
    1 / 1.4 < later_costs[1] / later_costs[0] < 1.4,
)
claim(
    "at 1.5 the positive dose costs at least 1.5 times as much as the negative one",
    curve[1.5][1] > 1.5 * curve[-1.5][1],
)

# %% [markdown] id="dose-seen"
# <details><summary>What you should see</summary>
#
# The curve is steep at first and saturates: half the dose has {{seen:half-dose}} % of the effect. The cost does the opposite: from `0.5` to `1` it grows by factors of {{seen:cost-ratios}}. Far out to the right the log-odds even *fall*: a larger number is not a stronger concept.
#
# The two signs are not alike, after this layer. At `+1.5` neutral text costs {{seen:cost-plus}} nats per token, at `-1.5` {{seen:cost-minus}}; yet the panel's sentence at `-1.5` already goes round in circles. No single number says that a text is broken. And none of this is a law: after layer `18` the log-odds still rise at `+2`, and at `1.5` both signs cost about the same. We call `-1` to `+1` the coherent range, and the slider marks it.
# </details>

# %% [markdown] id="ask-my_steering"
# ### Your steering vector
#
# {{exercise my_steering}}
#
# A triple: a vector of 576 finite numbers, a layer from 0 to 18, a coefficient. coefficient · vector is added after that layer at every position but BOS. It is judged on eight prompts and on synonyms ("fantastic", "dreadful", …) that you have not used. The mean of their log-odds must rise by at least **1.0 nat more than 95 % of 200 random directions** of norm
# |coefficient| · ‖vector‖ at that layer raise it (the 95 % quantile), and the loss on the twelve neutral texts must rise by **less than 0.25 nats per token**. (A quantile of 200, since the best of 20 depends on the seed.) It loads a second copy of the model and takes half a minute on one core.

# %% id="answer-my_steering"
# BEGIN SOLUTION
my_steering = (ready_made[18], 18, 0.5)
# END SOLUTION

lesson.check(my_steering, name="my_steering")

# %% id="claims-my-steering-seen" tags=["claims"]
new_words = WordOdds(model, texts.PROMPTS, *synonyms)
new_prompts = WordOdds(model, texts.HELD_OUT_PROMPTS, GOOD, BAD)
first_try, half_try = strange.changes(torch.stack([vector, vector / 2]), LAYER).tolist()
only_words, only_prompts = (
    float(each.changes(vector[None], LAYER)) for each in (new_words, new_prompts)
)
other_texts = NeutralLoss(model, texts.NEUTRAL[6:])
halves_of = [
    sum(len(row) - 2 for row in runs.token_ids(model, half))
    for half in (texts.NEUTRAL[:6], texts.NEUTRAL[6:])
]
both_costs = (curve[1.0][1], other_texts.rise(Steer(vector, LAYER)))
first_cost = sum(n * cost for n, cost in zip(halves_of, both_costs, strict=True)) / sum(
    halves_of
)
lesson.seen("own-words", real[1], ".1f")
lesson.seen("strange-words", first_try, ".1f")
lesson.seen("only-words", only_words, ".1f")
lesson.seen("only-prompts", only_prompts, ".1f")
lesson.seen("strange-half", half_try, ".1f")
lesson.seen("first-cost", first_cost, ".2f")
claim(
    "on unseen prompts and words the vector does at most 70 % of what it does on those you worked with",
    first_try < 0.7 * real[1],
)
claim(
    "with the known words on unseen prompts at least 85 %, with unseen words on the known prompts at most 80 %",
    only_prompts > 0.85 * real[1] and only_words < 0.8 * real[1],
)
claim(
    "at coefficient 1 after layer 14 it costs 0.25 nats or more, at 0.5 less than half of that, on six of the texts",
    first_cost >= 0.25 > 2 * curve[0.5][1],
)

# %% [markdown] id="my-steering-seen"
# The vector of section 4 at coefficient `1`, which looked so good above, does *not* pass. On the words and prompts that you worked with it gains {{seen:own-words}} nats, on unseen ones {{seen:strange-words}}, and the neutral texts cost {{seen:first-cost}}. Which of the two is it? New prompts with the old words: {{seen:only-prompts}}. The old prompts with new words: {{seen:only-words}}. So it is the *words* that flatter: at full dose the model has its favorites among the happy ones. Half of the dose gains {{seen:strange-half}} on the unseen, for a fraction of the cost.

# %% [markdown] id="use-several-intro"
# **Several layers, and sums of vectors.** Libraries such as repeng add a vector at *many* layers at once. Does that buy anything at the same total dose? And if directions are concepts, then adding two of them should do two things. **Predict:** praise *and* the past, in one vector.

# %% id="use-several"
at_layers = runs.spread(opinion, neutral_loss, ready_made, ([14], [12, 14, 16, 18], [18]))
sums = runs.sums(opinion, vector, recipes["past minus future (unrelated)"], LAYER)
print(show.table(at_layers, ["effect", "neutral loss"], title="total dose 1, divided equally"))
show.table(sums, ["praise words", "past words"], title="effects (nats)", digits=1, sign=True)

# %% id="claims-several-seen" tags=["claims"]
one, four, best = at_layers.values()
lesson.seen("one-layer", one, ".2f")
lesson.seen("four-layers", four, ".2f")
lesson.seen("best-layer", best, ".2f")
signs = {name: (int(name.split()[0]), int(name.split()[2])) for name in sums}
alone = {"praise": sums["+1 praise +0 past"][0], "past": sums["+0 praise +1 past"][1]}
lesson.seen("alone", list(alone.values()), ".1f")
claim(
    "four layers do more than layer 14 alone and cost less",
    four[0] > one[0] + 0.3 and four[1] < one[1],
)
claim(
    "layer 18 alone does more than the four and costs less",
    best[0] > four[0] and best[1] < four[1],
)
claim(
    "in each of four sums both effects have the right sign, and at least 2 nats",
    all(
        a * sums[name][0] > 2 and b * sums[name][1] > 2
        for name, (a, b) in signs.items()
        if a and b
    ),
)
claim(
    "the two directions are nearly at right angles: a cosine within 0.2 of zero",
    abs(float(of["tense"][0])) < 0.2,
)
claim(
    "each vector alone moves the other concept's words by less than 1 nat",
    abs(sums["+1 praise +0 past"][1]) < 1 and abs(sums["+0 praise +1 past"][0]) < 1,
)

# %% [markdown] id="several-seen"
# <details><summary>What you should see</summary>
#
# Effect and cost are {{seen:one-layer}} nats at layer `14` and {{seen:four-layers}} over four layers: more for less. But a single better layer has {{seen:best-layer}}. Spreading the dose insures you against a bad choice of layer. It is no substitute for a sweep.
#
# And vectors add up. Alone, praise and past move their own words by {{seen:alone}} nats, and each other's by less than one. In all four sums both effects are there, with the signs that went in. (The two directions are nearly at right angles. With directions that are not, expect less.)
# </details>

# %% [markdown] id="part-7"
# ## 7. What it writes
#
# So far, one next word. Does the *text* change? Let it write, and let a judge read who does not know which text was steered.

# %% [markdown] id="ask-steered_generation"
# {{exercise steered_generation}}
#
# At each step run the model on all tokens so far, with coefficient · vector added to `blocks.{layer}.hook_resid_post` at every position but 0, in *every* pass, and append the likeliest next token (`argmax`). Return the new tokens only, whole numbers of shape (batch, n_new); n_new may be 0. All rows have the same length, without padding; one row and prompts of a
# single token are allowed; no row stops early. No gradients are needed. No hook may stay on the model, even if the model raises an error; arguments stay as they are.


# %% id="answer-steered_generation"
def steered_generation(
    model,
    tokens: Int[Tensor, "batch pos"],
    layer: int,
    vector: Float[Tensor, "d_model"],
    coefficient: float,
    n_new: int,
) -> Int[Tensor, "batch n_new"]:
    """The n_new tokens that the steered model writes after each row of tokens, the likeliest at each step."""

    # BEGIN SOLUTION
    def steer(resid, hook):
        resid[:, 1:] += coefficient * vector
        return resid

    length = tokens.shape[1]
    hooks = [(f"blocks.{layer}.hook_resid_post", steer)]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        for _ in range(n_new):
            new = model(tokens)[:, -1].argmax(dim=-1)
            tokens = torch.cat([tokens, new[:, None]], dim=1)
    return tokens[:, length:]
    # END SOLUTION


lesson.check(steered_generation)

# %% [markdown] id="use-generation-intro"
# The judge is the unsteered model: how much higher are its log-odds after *text* + "All in all it was"? A judge needs a test of its own, and we have forty stories whose opinion is known. Then eight prompts under nine conditions, all in one shuffled pile. The library's `generate` writes them, since it is faster (it keeps keys and values); on one prompt it must agree with yours.
#
# **Predict** the judge's means for +1, −1, and the controls.

# %% id="use-generation" tags=["not-compared"]
one = tokens[:1, : int(last[0]) + 1]
yours = lesson.use("steered_generation")(model, one, LAYER, vector, 1.0, 12)
vectors = runs.conditions(vector, controls)  # unsteered, +1, −1, three controls of two kinds
written = runs.write(model, vectors, LAYER)
after_stories = runs.after_text(opinion, runs.STORIES)  # the judge, on what is known
known, scores = after_stories.unsteered, runs.judged(opinion, written)
fewer = {name: vectors[name] for name in vectors if not name.startswith("random")}
elsewhere = runs.judged(opinion, runs.write(model, fewer, LAYER, texts.HELD_OUT_PROMPTS))
print(model.tokenizer.decode(yours[0]), *written["+1"][:3], *written["−1"][:3:2], sep="\n")
there = {name: sum(each) / len(each) for name, each in elsewhere.items()}
print("", show.table(there, ["judge's mean on eight other prompts"], digits=1), sep="\n")
runs.draw_scores(scores)

# %% id="claims-generation-seen" tags=["claims"]
right_order = float((known[:20, None] > known[None, 20:]).float().mean())
means = {name: sum(each) / len(each) for name, each in scores.items()}
rest = [mean for name, mean in means.items() if name not in ("+1", "−1")]
gains = [means["+1"] - means["unsteered"], means["unsteered"] - means["−1"]]
lesson.seen("judge-order", 100 * right_order, ".0f")
lesson.seen("text-gains", gains, ".1f")
lesson.seen(
    "control-span", [min(rest) - means["unsteered"], max(rest) - means["unsteered"]], "+.1f"
)
lesson.seen("base-texts", [means["unsteered"], there["unsteered"]], ".1f")
lesson.seen(
    "text-elsewhere",
    [there["+1"] - there["unsteered"], there["unsteered"] - there["−1"]],
    ".1f",
)
others = [mean for name, mean in there.items() if name not in ("+1", "−1")]
claim(
    "on eight other prompts +1 gains less than half of what it gains on these, and -1 loses a nat or more",
    there["+1"] - there["unsteered"] < gains[0] / 2 and there["unsteered"] - there["−1"] > 1,
)
claim(
    "and texts at -1 are below the unsteered ones and three matched controls",
    there["−1"] < min(others),
)
claim("the judge puts at least 95 % of happy stories above unhappy ones", right_order > 0.95)
claim(
    "texts at +1 score above, texts at -1 below all six controls and the unsteered model, by 0.3 nats or more",
    means["+1"] > max(rest) + 0.3 and means["−1"] < min(rest) - 0.3,
)
claim(
    "your function and the library's write the same",
    " ".join(model.tokenizer.decode(yours[0]).split()[:5]) in written["+1"][0],
)

# %% [markdown] id="generation-seen"
# <details><summary>What you should see</summary>
#
# The judge is fit for the job: of all pairs of a happy and an unhappy story it puts {{seen:judge-order}} % in the right order. Blind to the condition, it finds steered texts {{seen:text-gains}} nats more cheerful at `+1` and more gloomy at `-1` than unsteered ones. The controls lie between {{seen:control-span}}. So the effect on the next word is an effect on the text as well, though a smaller one.
#
# Does it hold elsewhere? After eight other prompts it is {{seen:text-elsewhere}}: the gloomy side holds, and of the cheerful one less than half is left. There the unsteered model writes cheerfully already (the judge's means are {{seen:base-texts}}, here and there), and there is less to gain. Other seeds of matched controls come near what `+1` reaches there. One set of prompts would have told you half of this.
#
# Read some of the texts yourself. At `-1` they turn dark more often than they complain: a word list for "terrible" and "awful" would miss it. And the judge is a model: it may like what it would have written itself.
# </details>

# %% [markdown] id="part-8"
# ## 8. Necessary, or only sufficient?
#
# Adding the direction suffices to change the opinion. Does the model *need* it to know what it has read? Take it out, and see.

# %% [markdown] id="ask-ablate_direction"
# {{exercise ablate_direction}}
#
# At every position of every prompt. The direction has any norm, from 0.001 to 1000; a zero direction changes nothing. Change `resid` in place and return it, or return a new tensor; `direction` stays as it is.


# %% id="answer-ablate_direction"
def ablate_direction(
    resid: Float[Tensor, "batch pos d"], hook, direction: Float[Tensor, "d"]
) -> Float[Tensor, "batch pos d"]:
    """The residual stream without its component along the direction, at every position. Zero direction: unchanged."""
    # BEGIN SOLUTION
    norm = direction.norm()
    if norm == 0:
        return resid
    unit = direction / norm
    return resid - (resid @ unit)[..., None] * unit
    # END SOLUTION


lesson.check(ablate_direction)

# %% [markdown] id="use-ablation-intro"
# The test: twenty happy and twenty unhappy stories that the vector has not seen, each followed by "All in all it was". The **contrast** is how much higher the log-odds are after the happy ones. **Predict** it without the direction; without a random direction, or a matched one; and what each costs on neutral text.

# %% id="use-ablation"
as_it_is = runs.contrast(after_stories.unsteered)
without = partial(runs.without, after_stories, neutral_loss)
taken_out = runs.taken_out(without, as_it_is, vector, LAYER, controls)
show.table(taken_out, ["contrast", "neutral loss"], title="taken out; nats, nats per token")

# %% id="use-your-hook"
# The library takes a direction out of everything that is written into the stream. Your hook, at the same places:
remove = partial(lesson.use("ablate_direction"), direction=vector)
parts = [f"blocks.{i}.hook_{part}_out" for i in range(30) for part in ("attn", "mlp")]
with model.hooks(fwd_hooks=[(name, remove) for name in ("hook_embed", *parts)]):
    print(f"everywhere, with your hook: {runs.contrast(after_stories()):.2f}")

# %% id="claims-ablation-trap" tags=["claims"]
along_sink = torch.cosine_similarity(vector, bos[0], dim=0)
lesson.seen("contrast", as_it_is, ".1f")
lesson.seen("contrast-out", taken_out["the vector, everywhere"][0], ".1f")
lesson.seen("trap-cost", taken_out["the vector, everywhere"][1], ".1f")
lesson.seen("sink-cosine", along_sink, ".2f")
lesson.seen("sink-norm", bos[0].norm(), ",.0f")
claim(
    "taking the vector out costs more than 2 nats on neutral text, the two controls less than 1",
    taken_out["the vector, everywhere"][1] > 2
    and all(taken_out[name][1] < 1 for name in ("a random direction", "a matched direction")),
)
claim(
    "the vector's cosine with BOS is at least 1.5 times that of each of 20 random directions",
    bool(
        (
            torch.cosine_similarity(controls["random"], bos[:1]).abs() * 1.5 < along_sink.abs()
        ).all()
    ),
)

# %% [markdown] id="ablation-trap"
# The contrast falls from {{seen:contrast}} to {{seen:contrast-out}} nats, and controls leave most of it. The model needs the direction, then? Look at the second column: {{seen:trap-cost}} nats on text about rivers and triangles. The model is badly hurt, and a badly hurt model has no opinion either. The random directions did not warn us, since they are almost at right angles to BOS.
# Our vector has a cosine of {{seen:sink-cosine}} with it, and BOS has a norm of {{seen:sink-norm}}: part of what we took away was the attention sink.
#
# **A control must share what might matter.** So take the BOS part out of the direction first. The formula is yours: `ablate_direction` does to a stream what we now do to a vector. And there is a second use for it. Instead of removing a direction with hooks, we can stop the *weights* from writing it: each row of a matrix W that writes into the stream is a vector like any other, and without its
# component along the direction, x @ W has none for any x (Arditi et al. 2024, section 4.1).

# %% id="use-orthogonalize"
from mi_course.interp.steering import orthogonalize, orthogonalized

without_sink = orthogonalize(vector, bos[0])  # what is left at right angles to BOS
effect = opinion.change(Steer(without_sink, LAYER))
print(f"kept of its length: {without_sink.norm() / vector.norm():.3f}; effect: {effect:+.1f}")
fairly = {"the vector without BOS": without(without_sink)}
for i, fair in enumerate(orthogonalize(controls["matched, opinionated text"][:3], bos[0])):
    fairly[f"a matched direction without BOS, {i}"] = without(fair, cost=False)
with orthogonalized(model, without_sink):  # W_E, every W_O and W_out, and biases
    fairly["weights that cannot write it"] = [runs.contrast(after_stories()), torch.nan]
show.table(fairly, ["contrast", "neutral loss"], title="taken out; nats, nats per token")

# %% id="claims-ablation-seen" tags=["claims"]
necessary, by_weights = (
    fairly["the vector without BOS"],
    fairly["weights that cannot write it"],
)
fair_contrasts = [
    float(row[0]) for name, row in fairly.items() if name.startswith("a matched")
]
lesson.seen("fair-contrast", necessary[0], ".1f")
lesson.seen("fair-cost", necessary[1], ".2f")
lesson.seen("fair-controls", [min(fair_contrasts), max(fair_contrasts)], ".1f")
lesson.seen("one-layer-only", taken_out["the vector, after layer 14 only"][0], ".1f")
claim("without the BOS part the ablation costs less than 0.2 nats", necessary[1] < 0.2)
claim("and the contrast still falls below a third", float(necessary[0]) < float(as_it_is) / 3)
claim(
    "without each of three matched directions more than half of the contrast is left",
    min(fair_contrasts) > float(as_it_is) / 2,
)
claim(
    "weights do what hooks do, within 0.05 nats",
    abs(float(by_weights[0] - necessary[0])) < 0.05,
)

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# Without the BOS part the vector steers as before. Taking *it* out costs {{seen:fair-cost}} nats on neutral text, and the contrast still falls to {{seen:fair-contrast}}. Matched directions, treated alike, leave between {{seen:fair-controls}}. So the direction is necessary for most of the opinion that reaches the next word, and now the claim rests on something. The weights that cannot write it do the same as the hooks.
#
# Removing the vector after one layer alone leaves {{seen:one-layer-only}}: later layers write it anew.
# </details>
#
# **Why compatibility mode?** Raw SmolLM2 uses one matrix for two things: W_E writes tokens into the stream and, transposed, W_U reads logits off it. Orthogonalizing that one matrix would also make the unembedding blind to the direction, which the hooks do not do. Compatibility mode folds the final norm into W_U, so the two become
# separate matrices and only the writing one is changed.

# %% [markdown] id="part-9"
# ## 9. Personas
#
# Can a whole character be a direction? Ask eight questions under two system prompts, a pirate captain's and a helpful assistant's, and let the model **answer**. Average its activations over the tokens of each answer, and subtract: a persona vector (Chen et al. 2025, section 2). Then leave the pirate prompt out, and add the vector instead.
#
# For comparison, the same subtraction at the last token of the *prompt*, before the answer begins. Two judges, both blind: words of the sea, and the unsteered model, asked which of the two system prompts would rather have produced the answer. **Predict:** which of the two vectors talks like a pirate? What is the price?

# %% id="personas" tags=["not-compared"]
persona, rough = (2 * v for v in runs.persona_vectors(model, LAYER))  # pirate − assistant
added = {"nothing": 0 * persona, "vector from answers": persona, "vector from prompts": rough}
added["random vector"] = random_of(persona, 1, seed=0)[0]
answers = runs.answer(model, added, LAYER)
print(*answers["vector from answers"], "", *answers["vector from prompts"], sep="\n")

# %% id="personas-judged" tags=["not-compared"]
judged = runs.judge_personas(model, answers)
columns = ["answers with words of the sea", "nats per token for the captain", "variety"]
show.table(judged, columns, digits=(0, 2, 2))

# %% id="claims-personas-seen" tags=["claims"]
by_answers, by_prompts, by_prompt = (
    judged[name] for name in ("vector from answers", "vector from prompts", "(pirate prompt)")
)
lesson.seen("with-any", by_answers[0], "d")
lesson.seen("prompt-any", by_prompt[0], "d")
lesson.seen("rough-any", by_prompts[0], "d")
lesson.seen("captain", [by_answers[1], by_prompts[1]], "+.1f")
lesson.seen("no-captain", [judged["nothing"][1], judged["random vector"][1]], "+.1f")
lesson.seen("varied", [judged["nothing"][2], by_prompts[2], by_answers[2]], ".1f")
claim(
    "words of the sea are in at least 3 of 4 answers with the vector from answers, in at most 1 with the one from prompts",
    by_answers[0] >= 3 and by_prompts[0] <= 1,
)
claim(
    "and in none without a vector or with a random one",
    judged["nothing"][0] == judged["random vector"][0] == 0,
)
claim(
    "answers with either vector are likelier from the captain, by 0.1 nats per token or more, the others less likely",
    min(float(by_answers[1]), float(by_prompts[1])) > 0.1
    and max(float(judged[name][1]) for name in ("nothing", "random vector")) < -0.1,
)
claim(
    "the vector from answers costs variety, 0.2 or more; the one from prompts does not",
    by_answers[2] < judged["nothing"][2] - 0.2 and by_prompts[2] > judged["nothing"][2] - 0.1,
)

# %% [markdown] id="personas-seen"
# <details><summary>What you should see</summary>
#
# With the vector from *answers*, {{seen:with-any}} of four answers speak of the sea; under the pirate prompt itself, {{seen:prompt-any}}; with the vector from *prompts*, {{seen:rough-any}}; without a vector or with a random one, none. So the persona sits where the model speaks in character, not at the last token before? Look at the second judge. It asks which of the two system prompts would rather have
# produced the answer, and it finds the captain in both: {{seen:captain}} nats per token, against {{seen:no-captain}} without a vector and with a random one. The vector from prompts brings the captain's *tone* ("Ain't no spare in these parts. I reckon …") and leaves his vocabulary at home, at larger doses too.
#
# The price differs, too. The share of new pairs of words is {{seen:varied}}, for no vector, the one from prompts, and the one from answers: the last goes round in circles. "Aye" ten times in a row is one word of the sea, not ten, since the judge counts *different* whole words ("season" is not the sea). One judge alone would have told you that one of the two vectors does nothing. Each metric carries a part of
# what you see.
# </details>
#
# One thing can *not* be asked here. The assistant itself is a persona, which training put into a model that only continued text. To find its vector one subtracts the **base** model's activations from the assistant's, and SmolLM2's base model is not on this machine. Online: `load_model("HuggingFaceTB/SmolLM2-135M")`.

# %% [markdown] id="part-10"
# ## 10. A direction that is not there
#
# Arditi et al. (2024) found that in many chat models one direction stands between a harmful request and compliance: ablate it, and the model no longer refuses; add it, and it refuses harmless requests. Does this model have it? First look whether there is any refusal to explain.

# %% id="refusal" tags=["not-compared"]
requests = [texts.chat(request, texts.ASSISTANT) for request in texts.DECLINABLE_REQUESTS]
obeyed = generate(model, requests, max_new_tokens=16)
for request, answer in zip(texts.DECLINABLE_REQUESTS, obeyed, strict=True):
    print(f"{request}\n    {answer!r}")

# %% id="claims-refusal-seen" tags=["claims"]
refusals = ("sorry", "cannot", "can't", "unable", "won't", "not able")
refused = [answer for answer in obeyed if any(word in answer.lower() for word in refusals)]
lesson.seen("requests", len(obeyed), "d")
lesson.seen("refused", len(refused), "d")
two = [
    collect(model, [texts.chat(r, texts.ASSISTANT) for r in group], LAYER).mean(0)
    for group in (texts.DECLINABLE_REQUESTS[:4], texts.HARMLESS_REQUESTS)
]
claim("at most one of ten requests is refused", len(refused) <= 1)
claim(
    "the difference of means between declinable and harmless requests is not zero",
    float((two[0] - two[1]).norm()) > 1,
)

# %% [markdown] id="refusal-seen"
# Of {{seen:requests}} requests of a kind that a trained assistant declines, {{seen:refused}} are refused. This model complies, or lectures a little, so there is nothing to ablate. A difference of means between declinable and harmless requests still *exists*, since you can subtract any two means, and it would separate the two, because they are about different things. But calling it a refusal
# direction would be a claim about a behavior that the model does not show.
#
# For a model that does refuse, you have all you need. With network:
#
# ```python
# chat_model = mi_course.load_model("Qwen/Qwen1.5-0.5B-Chat")
# middle, written = chat_model.cfg.n_layers // 2, chat_model.tokenizer.apply_chat_template
# ask = lambda text: written([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
# harmful, harmless = ([ask(t) for t in group] for group in (texts.DECLINABLE_REQUESTS, texts.HARMLESS_REQUESTS))
# refusal = collect(chat_model, harmful, middle).mean(dim=0) - collect(chat_model, harmless, middle).mean(dim=0)
# for interventions in ([], [Ablate(refusal)]):
#     print(*generate(chat_model, harmful, interventions, max_new_tokens=20), sep="\n")
# ```

# %% [markdown] id="part-11"
# ## 11. When steering fails
#
# Tan et al. (2024) steered many models on many behaviors and found that the effect varies widely between prompts, and on some is reversed. Eighteen prompts made to resist: the next word is negated, quoted, or already decided. **Predict:** how many flip, that is, get *gloomier* with the positive vector?

# %% id="hard"
hard = WordOdds(model, texts.HARD_PROMPTS, GOOD, BAD)
resisting, ordinary = (odds.slope(vector, LAYER) for odds in (hard, opinion))
print(f"flipped: {int((resisting < 0).sum())} of {len(resisting)}")

# %% id="hard-picture" tags=["not-compared"]
runs.draw_slopes(resisting, float(ordinary.mean()))

# %% [markdown] id="use-negation-intro"
# The two that hardly move end in "not". Two explanations. Either the vector only makes *good words* likelier, whatever stands before them; then the slope after "not" should be what it is everywhere. Or the steered model takes the negation into account. Prompts that end in "not" by accident cannot tell. Matched ones can: eight stems, each bare, with "very", with "not" and with "never". Two more words test *what* is registered, the word or its sense: "not only" holds a "not" and negates nothing, "anything but" negates without one.
# And what would a *real* opinion do? Happy and unhappy stories, followed by "All in all it was not". **Predict** the slopes and the contrasts.

# %% id="use-negation"
after_word = runs.negations(opinion, after_stories, vector, LAYER)
columns = ["lowest slope", "mean", "highest", "contrast of stories"]
show.table(after_word, columns, title="nats", digits=1, sign=True)

# %% id="claims-hard-seen" tags=["claims"]
bare, very, negated, never, only, anything = after_word.values()
lesson.seen("only-slope", only[1], "+.1f")
lesson.seen("anything-slope", anything[1], "+.1f")
lesson.seen("anything-told", anything[3], "+.1f")
claim(
    "after not only the mean slope is above 2.5, and above 1 after anything but, where the stories' contrast is below 0",
    only[1] > 2.5 and anything[1] > 1 > 0 > anything[3],
)
later = WordOdds(model, [f"{stem} not" for stem in texts.STEMS], GOOD, BAD)
later_slope = float(later.slope(ready_made[18], 18).mean())
lesson.seen("later-slope", later_slope, "+.1f")
claim("with the vector of layer 18 the mean slope after not is below -0.3", later_slope < -0.3)
lesson.seen("as-they-should", int((resisting > 0).sum()), "d")
lesson.seen("all-hard", len(resisting), "d")
lesson.seen("bare-slopes", [bare[0], bare[2]], ".1f")
lesson.seen("very-slopes", [very[0], very[2]], ".1f")
lesson.seen("not-slopes", [negated[0], negated[2]], ".1f")
lesson.seen("never-slopes", [never[0], never[2]], ".1f")
lesson.seen("told", bare[3], "+.1f")
lesson.seen("told-negated", [negated[3], never[3]], "+.1f")
nots = torch.tensor([prompt.endswith(" not") for prompt in texts.HARD_PROMPTS])
claim(
    "the two hard prompts that end in not have the lowest slopes",
    set(resisting.argsort()[:2].tolist()) == set(nots.nonzero().flatten().tolist()),
)
claim(
    "bare and with very every stem has a slope above 1.5", float(min(bare[0], very[0])) > 1.5
)
claim(
    "with not and never no stem has a slope above 1, and the means are within 0.7 of zero",
    float(max(negated[2], never[2])) < 1
    and max(abs(float(negated[1])), abs(float(never[1]))) < 0.7,
)
claim(
    "after real stories the contrast turns negative with not and never, by a nat or more",
    float(max(negated[3], never[3])) < -1,
)

# %% [markdown] id="hard-seen"
# <details><summary>What you should see</summary>
#
# {{seen:as-they-should}} of {{seen:all-hard}} hard prompts move as they should, some less than half as far as ordinary ones. The two weakest, the reversed one among them, end in "not". A mean over prompts hides all this. Report the spread.
#
# The controls decide between the two explanations. Bare stems have slopes between {{seen:bare-slopes}}, with "very" {{seen:very-slopes}}. With "not" they are between {{seen:not-slopes}}, with "never" {{seen:never-slopes}}: around zero. So the steered model *does* register the negation. The push towards good words is cancelled, not passed on.
#
# It is the sense that counts, not the word: after "not only" the mean slope is {{seen:only-slope}}. But not every sense is caught. After "anything but" it is {{seen:anything-slope}}, as if nothing had been negated, while the contrast between stories is {{seen:anything-told}}.
#
# And after this layer the push is cancelled, not turned around, as a real opinion is: the contrast between stories is {{seen:told}} nats, and {{seen:told-negated}} after "not" and "never". (The vector of layer `18`, added there, is turned around a little: {{seen:later-slope}} after "not".) What the vector adds is less than what a story adds. It is more than a bag of good words, and less than an opinion.
# </details>

# %% [markdown] id="part-12"
# ## 12. Two puzzles
#
# Both mistakes are easy to make. Nothing crashes, and the results look good. Find them before you unfold the answers.
#
# **Puzzle 1.** A colleague's hook gives a *larger* effect than yours at coefficient 0.5.


# %% id="puzzle-one"
def colleagues_hook(resid, hook, vector, coefficient, start):
    change = coefficient * vector * (torch.arange(resid.shape[1]) >= start)[:, None]
    resid += change
    return resid + change


mine, add = [steered_odds(texts.PROMPTS[0], c) for c in (0.5, 1.0)], colleagues_hook
theirs, add = steered_odds(texts.PROMPTS[0], 0.5), lesson.use("add_vector")
print(f"yours {mine[0]:+.2f} at 0.5, {mine[1]:+.2f} at 1; colleague's {theirs:+.2f} at 0.5")

# %% [markdown] id="puzzle-one-answer"
# <details><summary>Answer</summary>
#
# The vector is added twice: once in place, once in what is returned. At 0.5 the colleague's hook does exactly what yours does at 1. The effect is real, the coefficient in the paper is not. With a key/value cache there is a second way to it: a hook that steers the prompt again at every generated token.
#
# What finds it: adding zero, and adding once, to a tensor of zeros, and looking.
# </details>
#
# **Puzzle 2.** Another colleague does without hooks. In Hugging Face's `hidden_states` they take number 14 for "layer 14", make a vector from it, and add it after layer 14. And for the last layer they take `hidden_states[-1]`.

# %% id="puzzle-two"
for number, same, norm in runs.hidden_states(model, texts.PROMPTS[0], (13, 14, 15, 29, 30)):
    print(f"hidden_states[{number}] equals resid_post of layer {same}, norm {norm:.0f}")
effect = opinion.change(Steer(ready_made[13], LAYER))
print(f"effect at +1: vector of layer 14 {real[1]:+.1f}, of layer 13 {effect:+.1f}")

# %% [markdown] id="puzzle-two-answer"
# <details><summary>Answer</summary>
#
# `hidden_states[0]` is the embedding, so number 14 is the stream after layer **13**. The vector works as well as the right one, because neighboring layers are alike, so no effect tells you. Only a comparison with a tensor that you know does. The last one equals no layer at all: Hugging Face applies the final norm to it.
# Its norm is the root of 576, where the stream has several hundred, so a vector made from it is far too short.
#
# Positions slip the same way: a start that is off by one leaves out the last prompt token, which matters most.
# </details>

# %% [markdown] id="reflect"
# *Reflect.* Which result above would have changed your mind about the direction of opinion, had it come out otherwise? Which of your own plots would you now show with a band of random directions?

# %% id="claims-recap" tags=["claims"]
claim(
    "probe, steering, controls, text and ablation all bear the direction out",
    unseen[4] > 0.9
    and real[1] > 2
    and float(extreme["matched, opinionated text"][1]) < real[1]
    and min(gains) > 0.5
    and float(necessary[0]) < float(as_it_is) / 3,
)
claim(
    "it fails where the recap says: far out, after a negation, and on a fair test at full dose",
    real[2] < real[1] and float(negated[1]) < 1 and first_try < real[1],
)

# %% [markdown] id="recap"
# ## What you have done
#
# You read activations without being fooled by padding or BOS, found a direction by subtraction, and saw that a probe agrees with it on unseen sentences, while shuffled labels agree only on seen ones. You steered with it, found that layers and not the direct path do the work, and held the effect against directions of equal length, random and matched ones. You let the model write, and a
# judge who did not know the condition saw the difference. You took the direction out and saw what the model loses, once the attention sink was left alone.
#
# And you know where it fails: at large doses, after a negation, and on words that are not your own. A persona was there, its words or its tone, depending on where you read it and who judged. A refusal was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Tan et al. 2024, *Analysing the Generalisation and Reliability of Steering Vectors*. Read how they measure the spread over prompts, and ask of the next steering result you see what its band of controls would be.
