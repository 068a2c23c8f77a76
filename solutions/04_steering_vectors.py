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
# About {{minutes}} minutes · {{points}} points · after lesson 00. The model is SmolLM2-135M-Instruct in compatibility mode; only the last part, on weights, needs that. Sources: Turner et al. 2023; Rimsky et al. 2023; Park et al. 2023;
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
from mi_course.interp.steering import collect, texts, word_ids
from mi_course.interp.steering.panel import steering_panel

GOOD, BAD = word_ids(model, texts.POSITIVE_WORDS), word_ids(model, texts.NEGATIVE_WORDS)
every_layer = range(model.cfg.n_layers)
ready_made = (
    collect(model, texts.POSITIVE, every_layer) - collect(model, texts.NEGATIVE, every_layer)
).mean(dim=1)
steering_panel(
    model, ready_made, GOOD, BAD, text="The hotel room was", layer=14, coherent=(-1.0, 1.0)
)

# %% [markdown] id="panel-seen"
# <details><summary>What you should see</summary>
#
# To the right the room is a luxury with a stunning view, to the left it empties, and the log-odds follow. Past the marked range the words fall apart, or go round in circles. Do the same things happen with *random* vectors? That is the question of section 6.
# </details>
#
# A vector of 576 numbers, twelve pairs of sentences to make it, no training. Is there really a direction of opinion in there, or have we pushed the model over? The rest of the lesson makes this vector by hand and then tries hard to discredit it.

# %% [markdown] id="part-2"
# ## 2. Read the stream
#
# Sentences differ in length, so a batch of them is padded, on the right or on the left. Which position is each sentence's last?
#
# **By hand, once.** In a mask `[1, 1, 1, 0, 0]` the last real token has index 2. In `[0, 0, 1, 1, 1]` it has index 4. Both masks sum to 3.

# %% [markdown] id="ask-last_token_index"
# {{exercise last_token_index}}
#
# The index of the last real token of each row. Padding may stand on either side; every row has at least one real token.

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

# %% [markdown] id="ask-activations_at"
# {{exercise activations_at}}
#
# From each row the vector at that row's position.


# %% id="answer-activations_at"
def activations_at(
    resid: Float[Tensor, "batch pos d_model"], index: Int[Tensor, "batch"]
) -> Float[Tensor, "batch d_model"]:
    """The residual vector of each row at its own position: row b at position index[b]."""
    # BEGIN SOLUTION
    return resid[torch.arange(resid.shape[0]), index]
    # END SOLUTION


lesson.check(activations_at)

# %% [markdown] id="use-reading-intro"
# Twelve sentences that praise and twelve that complain, in pairs about the same thing. Each ends on its opinion. We read the stream after layer 14 at the last token. Beside it, as a warning, position 0.

# %% id="use-reading"
from mi_course.interp.prompts import pad, token_ids

LAYER = 14
last_of, read_at = lesson.use("last_token_index"), lesson.use("activations_at")


def last_activations(sentences, layer=LAYER):
    """Residual stream after the layer, at each sentence's last token and at BOS: two tensors [sentence, d_model]."""
    tokens, mask = pad(token_ids(model, sentences), "right")
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=f"blocks.{layer}.hook_resid_post")
    resid = cache["resid_post", layer]
    return read_at(resid, last_of(mask)), resid[:, 0]


positive, bos = last_activations(texts.POSITIVE)
negative, _ = last_activations(texts.NEGATIVE)
print(f"{texts.POSITIVE[0]!r}\n{texts.NEGATIVE[0]!r}")
print(
    f"median norm at the last token: {positive.norm(dim=-1).median():.0f}; at BOS: {bos.norm(dim=-1).median():,.0f}"
)

# %% [markdown] id="reading-seen"
# BOS is an attention sink. Any mean that includes it is a mean of BOS. A padding token, read by mistake, is worse: its activation depends on how long the *other* sentences of the batch are.

# %% [markdown] id="part-3"
# ## 3. Is the direction really there?
#
# If opinion is a direction, a plane at right angles to it should part the two classes (Park et al. 2023 make precise what "is a direction" can mean). The plainest such plane lies half way between the two means. Marks and Tegmark (2023, section 5) call it a mass-mean probe.

# %% [markdown] id="ask-mass_mean_probe"
# {{exercise mass_mean_probe}}
#
# $w = \mu_+ - \mu_-$ and $b = -w\cdot(\mu_+ + \mu_-)/2$. The probe says True where $x\cdot w + b > 0$. An empty class raises ValueError.


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

# %% [markdown] id="ask-probe_accuracy"
# {{exercise probe_accuracy}}
#
# The share of rows on which the probe is right.


# %% id="answer-probe_accuracy"
def probe_accuracy(
    w: Float[Tensor, "d"], b: float, x: Float[Tensor, "n d"], y: Bool[Tensor, "n"]
) -> float:
    """Share of rows, 0 to 1, for which (x·w + b > 0) equals y."""
    # BEGIN SOLUTION
    return float(((x @ w + b > 0) == y).float().mean())
    # END SOLUTION


lesson.check(probe_accuracy)

# %% [markdown] id="use-probes-intro"
# Twenty other pairs of sentences, all of which end in a full stop. We read the stream **at the full stop**. The token itself is the same for all, so whatever a probe finds there, attention has brought.
#
# **Predict** the accuracy
#
# 1. at layer 0 and at layer 14, on sentences that the probe has not seen. (A pair is never split between the two sides: the sentence about one concert must not help with the other one.)
# 2. of a probe made from **shuffled labels**, on the very sentences that it was made from.

# %% id="use-probes"
from mi_course.interp.steering import cross_validated_accuracy, logistic_probe, shuffled_labels

fit, accuracy = lesson.use("mass_mean_probe"), lesson.use("probe_accuracy")
layers = [0, 2, 4, 8, 14, 22, 29]
stories = (*texts.PROBE_POSITIVE, *texts.PROBE_NEGATIVE)
y = torch.tensor([True] * len(texts.PROBE_POSITIVE) + [False] * len(texts.PROBE_NEGATIVE))
pairs = [*range(len(texts.PROBE_POSITIVE))] * 2
shuffles = shuffled_labels(y, n=10, seed=0)
full_stop, all_tokens = (
    collect(model, stories, layers),
    collect(model, stories, layers, position="mean"),
)

unseen = [cross_validated_accuracy(fit, x, y, groups=pairs) for x in full_stop]
words_too = [cross_validated_accuracy(fit, x, y, groups=pairs) for x in all_tokens]
shuffled_seen = [[accuracy(*fit(x, s), x, s) for s in shuffles] for x in full_stop]
shuffled_unseen = [[cross_validated_accuracy(fit, x, s) for s in shuffles] for x in full_stop]
for name, values in (
    ("full stop, unseen sentences", unseen),
    ("mean of all tokens, unseen", words_too),
    ("shuffled labels, seen", torch.tensor(shuffled_seen).mean(1).tolist()),
    ("shuffled labels, unseen", torch.tensor(shuffled_unseen).mean(1).tolist()),
):
    print(
        f"{name:<28}",
        "  ".join(f"layer {layer}: {values[layers.index(layer)]:.2f}" for layer in (0, 4, 14)),
    )
at = layers.index(LAYER)
trained = cross_validated_accuracy(logistic_probe, full_stop[at], y, groups=pairs)
print(f"a logistic probe in place of the means, layer {LAYER}, unseen: {trained:.2f}")
by_heart = torch.tensor(
    [accuracy(*logistic_probe(full_stop[at], s), full_stop[at], s) for s in shuffles]
)
print(f"a logistic probe on shuffled labels, layer {LAYER}, seen: {by_heart.mean():.2f}")

# %% id="probes-picture" tags=["not-compared"]
show.lines(
    layers,
    {
        "full stop, unseen": unseen,
        "mean of all tokens, unseen": words_too,
        "control: shuffled, unseen": torch.tensor(shuffled_unseen).T,
    },
    xlabel="layer",
    ylabel="accuracy",
    title="At the full stop the opinion arrives on the way; in the words it was there from the start",
    caption="Mass-mean probe on 40 sentences. Unseen: five folds, pairs kept together. Bands: ten shuffles.",
)

# %% [markdown] id="probes-seen"
# <details><summary>What you should see</summary>
#
# At the full stop of layer 0 the probe guesses: every full stop is the same there, and a chance score where nothing can be known is the best control one can have. At layer 14 it is right every time, on sentences it has not seen. The mean over all tokens scores 0.95 at layer 0 already. That is a bag of words: "delicious" is a happy word, and no
# sentence has been understood. The same accuracy can mean very different things.
#
# Shuffled labels are learned as well, as long as one looks at the sentences they were learned from: the means get three quarters of them right, a logistic probe all. 40 rows in 576 dimensions can be parted any way you like. On unseen sentences they are at chance.
#
# A probe shows that information is *there*. It does not show that the model uses it.
# </details>

# %% [markdown] id="part-4"
# ## 4. Does the model use it?
#
# To find out, change it, and see what the model does. The probe's $w$ is a vector in the residual stream: the difference of means.

# %% [markdown] id="ask-difference_of_means"
# {{exercise difference_of_means}}
#
# The mean of the positive rows minus the mean of the negative ones.


# %% id="answer-difference_of_means"
def difference_of_means(
    positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"]
) -> Float[Tensor, "d"]:
    """Mean of the positive rows minus mean of the negative rows; the classes may differ in size."""
    # BEGIN SOLUTION
    return positive.mean(dim=0) - negative.mean(dim=0)
    # END SOLUTION


lesson.check(difference_of_means)

# %% [markdown] id="ask-log_odds"
# How cheerful is a prediction? Take two sets of words, and ask how much likelier it is that the next word comes from one than from the other.
#
# {{exercise log_odds}}
#
# $\log \frac{p(\text{any positive word})}{p(\text{any negative word})}$, in nats, for each row. An empty set raises ValueError.


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
# {{exercise add_vector}}
#
# A hook that adds coefficient · vector at every position from `start` ≥ 0 on, in every prompt. A start past the end changes nothing.


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
# Now by hand, on one prompt: find the vector, add it with your hook, and compare the log-odds. Start at position 1, so that BOS is left alone.

# %% id="use-steering"
from functools import partial

odds, add = lesson.use("log_odds"), lesson.use("add_vector")
vector = lesson.use("difference_of_means")(positive, negative)
print(
    f"norm of the vector: {vector.norm():.0f}, of an ordinary activation: {positive.norm(dim=-1).median():.0f}"
)

for prompt in texts.PROMPTS[:3]:
    tokens = torch.tensor(token_ids(model, [prompt]))
    row = []
    for c in (-1.0, 0.0, 1.0):
        steer = partial(add, vector=vector, coefficient=c, start=1)
        with torch.no_grad():
            logits = model.run_with_hooks(
                tokens, fwd_hooks=[(f"blocks.{LAYER}.hook_resid_post", steer)]
            )
        row.append(float(odds(logits[:, -1], GOOD, BAD)))
    print(
        f"{prompt:<28} log-odds at -1: {row[0]:+.1f}   at 0: {row[1]:+.1f}   at +1: {row[2]:+.1f}"
    )

# %% [markdown] id="steering-seen"
# Adding the vector moves all three prompts up and subtracting it moves them down, by about three nats each way: a factor of e³ = 20 in the odds. So the direction is not only readable. Something in the model **listens** to it. (Turner et al. 2023 did this with single pairs of
# prompts; Rimsky et al. 2023 with means over many.)
#
# **Is a mean enough?** Other recipes are at hand: the principal direction of the pairwise differences, or the weights of a trained probe. How alike are they?

# %% [markdown] id="ask-cosine_similarities"
# {{exercise cosine_similarities}}
#
# The cosine of every pair of rows. A zero vector has cosine 0 with all, itself included.


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
from mi_course.interp.steering import difference_of_means as mean_difference
from mi_course.interp.steering import pca_direction, prompt_log_odds, Steer, with_norm

differences = positive - negative
x12, y12 = torch.cat([positive, negative]), torch.tensor([True] * 12 + [False] * 12)
centered = differences - differences.mean(dim=0)
unrelated = mean_difference(
    collect(model, texts.PAST, LAYER), collect(model, texts.FUTURE, LAYER)
)
recipes = {
    "difference of means": vector,
    "principal direction": pca_direction(differences),
    "logistic probe": logistic_probe(x12, y12)[0],
    "means over all tokens": mean_difference(
        collect(model, texts.POSITIVE, LAYER, position="mean"),
        collect(model, texts.NEGATIVE, LAYER, position="mean"),
    ),
    "principal, centred (a mistake)": torch.linalg.svd(centered, full_matrices=False).Vh[0],
    "past minus future (unrelated)": unrelated,
}
table = lesson.use("cosine_similarities")(torch.stack(list(recipes.values())))


def effect_of(interventions):
    """Mean log-odds over the eight prompts, in nats."""
    return float(prompt_log_odds(model, texts.PROMPTS, GOOD, BAD, interventions).mean())


unsteered = effect_of([])
print(f"unsteered log-odds: {unsteered:+.1f}")
print(f"{'each scaled to the same norm':<34} cosine   at -1   at +1")
for (name, direction), cosine in zip(recipes.items(), table[0], strict=True):
    same = with_norm(direction, float(vector.norm()))
    minus, plus = (effect_of([Steer(same, LAYER, c)]) - unsteered for c in (-1.0, 1.0))
    print(f"{name:<34} {cosine:+5.2f}   {minus:+5.1f}   {plus:+5.1f}")

# %% [markdown] id="recipes-seen"
# <details><summary>What you should see</summary>
#
# Difference of means, principal direction and probe are nearly the same vector, and steer alike. That is why the simplest of them is often enough. Means over all tokens instead of the last one give a relative of it.
#
# The *centred* principal direction is a common mistake: centring removes the very shift that all pairs share, and what is left is how the pairs differ among themselves. The unrelated concept is a first control: a direction that the model also uses, scaled to the same length, does next to nothing to opinion.
# </details>

# %% [markdown] id="part-5"
# ## 5. Where, how much, and what breaks
#
# **Where?** At each layer a vector of its own, added there. **Predict:** at which layers will it work: the first, the middle ones, the last?

# %% id="sweep" tags=["not-compared"]
from mi_course.interp.steering import layer_sweep

sweep = layer_sweep(
    model,
    texts.POSITIVE,
    texts.NEGATIVE,
    texts.PROMPTS,
    GOOD,
    BAD,
    layers=[*range(0, 30, 3), 29],
)
show.lines(
    [row.layer for row in sweep],
    {
        "+1": [row.plus - row.base for row in sweep],
        "-1": [row.minus - row.base for row in sweep],
    },
    xlabel="layer at which the vector is found and added",
    ylabel="change of log-odds (nats)",
    title="Every layer responds; past the middle it is twice as strong",
    caption="Difference of means at that layer, coefficient +1 and -1, mean over eight prompts.",
)

# %% [markdown] id="sweep-seen"
# <details><summary>What you should see</summary>
#
# Even at layer 0 something happens: there the vector is made of the words with which the sentences end, and adding words that praise makes praise likelier. Sentences are understood later, and from about layer 13 on both signs do twice as much. That early effect is a warning. A change of log-odds alone does not tell a concept from a handful of words.
#
# Late layers look as good as the middle, and there is a catch at that end, too: a vector can raise a word's logit directly, because the unembedding reads it off. One made of the unembedding's rows for "great" and "wonderful" would do the same and mean nothing. The stream carries it on, so this is possible, less well, in the middle as well. We stay at 14,
# from where the model still has half of its layers to compute with.
# </details>
#
# **How much?** A dose-response curve.

# %% [markdown] id="ask-dose_response"
# {{exercise dose_response}}
#
# `effect(c)` returns the metric at coefficient c. What does each coefficient add? effect(c) − effect(0).


# %% id="answer-dose_response"
def dose_response(effect, coefficients: list[float]) -> list[float]:
    """effect(c) − effect(0) for each coefficient, in the order given. effect: float -> float."""
    # BEGIN SOLUTION
    base = effect(0.0)
    return [effect(c) - base for c in coefficients]
    # END SOLUTION


lesson.check(dose_response)

# %% [markdown] id="ask-kl_divergence"
# An effect is worth little if the model is broken on the way. So measure on **neutral** text, about rivers and triangles: how far do its predictions move?
#
# {{exercise kl_divergence}}
#
# KL(base ‖ steered) in nats, for each row of logits.


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
# **Predict:** is the curve straight? Are + and − alike? And what does the loss on neutral text do?

# %% id="use-dose"
from mi_course.interp.steering import generate, neutral_cost, steering

doses = [-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0]
curve = lesson.use("dose_response")(lambda c: effect_of([Steer(vector, LAYER, c)]), doses)
costs = [neutral_cost(model, texts.NEUTRAL, [Steer(vector, LAYER, c)]) for c in doses]

# The library's KL against yours, on one neutral sentence.
sentence = torch.tensor(token_ids(model, texts.NEUTRAL[:1]))
with torch.no_grad():
    before = model(sentence)[0, 1:]
    with steering(model, Steer(vector, LAYER, 1.0)):
        after = model(sentence)[0, 1:]
print(
    f"KL at +1 on one neutral sentence: {lesson.use('kl_divergence')(before, after).mean():.2f} nats per token"
)
print("\ncoefficient   log-odds   neutral loss     KL")
for c, change, cost in zip(doses, curve, costs, strict=True):
    print(f"{c:+11.1f}   {change:+8.1f}   {cost.rise:+12.2f}   {cost.kl:4.2f}")

# %% id="dose-texts" tags=["not-compared"]
shown = [-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]
written = generate(
    model,
    ["The hotel room was"] * len(shown),
    [Steer(torch.stack([c * vector for c in shown]), LAYER)],
    max_new_tokens=20,
)
for c, text in zip(shown, written, strict=True):
    print(f"{c:+.1f}  The hotel room was{text!r}")

# %% [markdown] id="dose-seen"
# <details><summary>What you should see</summary>
#
# The curve is steep near 0 and saturates: half the dose has about three quarters of the effect. The cost does the opposite, and grows faster than the dose. Beyond +1.5 the log-odds even *fall*: a larger number is not a stronger concept.
#
# The two signs are not alike. At +1.5 neutral text costs about one nat per token, at −1.5 less than half of that; yet the sentences at −1.5 already go round in circles. So we call −1 to +1 the coherent range, and the slider marks it. At ±3 little is left but fragments.
# </details>

# %% [markdown] id="part-6"
# ## 6. Controls
#
# You have an effect. Now assume that you are wrong. What else could move log-odds by three nats?
#
# - *Any* vector of that length. **Random directions** of the same norm, many of them.
# - Any vector of the kind that the model writes itself. Directions with the **covariance of its activations**.
# - The recipe: any difference of means of 24 sentences. **Shuffled labels.**
#
# The first of them is yours.

# %% [markdown] id="ask-random_controls"
# {{exercise random_controls}}
#
# n independent random directions with the norm of the vector. The same seed gives the same directions, and the global random state is left alone.


# %% id="answer-random_controls"
def random_controls(vector: Float[Tensor, "d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """n independent directions, uniform on the sphere, each with the norm of `vector`."""
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, vector.shape[0], generator=generator)
    return noise / noise.norm(dim=-1, keepdim=True) * vector.norm()
    # END SOLUTION


lesson.check(random_controls)

# %% [markdown] id="use-controls-intro"
# **Predict:** of twenty random directions, how far does the luckiest move the log-odds at coefficient 1? And at 2?

# %% id="use-controls"
from mi_course.interp.steering import matched_controls, token_activations, vectors_log_odds

controls = lesson.use("random_controls")(vector, 20, seed=0)
ordinary = token_activations(
    model, (*texts.NEUTRAL, *texts.PROBE_POSITIVE, *texts.PROBE_NEGATIVE), LAYER
)
matched = matched_controls(vector, ordinary, 20, seed=0)


def effects_of(vectors, c):
    """Change of the mean log-odds by each of many vectors, added one at a time."""
    return (
        vectors_log_odds(model, texts.PROMPTS, GOOD, BAD, vectors, LAYER, c).mean(dim=1)
        - unsteered
    )


few = [-2.0, -1.0, 1.0, 2.0]
chance = {c: effects_of(controls, c) for c in few}
alike = {c: effects_of(matched, c) for c in (-1.0, 1.0)}
real = dict(zip(doses, curve, strict=True))
for c in few:
    print(
        f"{c:+.0f}: real {real[c]:+.1f};  20 random directions {chance[c].min():+.1f} to {chance[c].max():+.1f}"
    )
for c in alike:
    print(
        f"{c:+.0f}: real {real[c]:+.1f};  20 with the activations' covariance {alike[c].min():+.1f} to {alike[c].max():+.1f}"
    )

# %% id="controls-picture" tags=["not-compared"]
grid = [-2.0, -1.0, 0.0, 1.0, 2.0]
band = torch.stack([chance[c] if c else torch.zeros(20) for c in grid], dim=1)
show.lines(
    grid,
    {
        "difference of means": [real.get(c, 0.0) for c in grid],
        "control: 20 random directions": band,
    },
    xlabel="coefficient",
    ylabel="change of log-odds (nats)",
    title="At ±1 no random direction comes near; at +2 some do as well as the real one",
    caption="Same norm, same layer, eight prompts. Band: lowest to highest of 20.",
)

# %% [markdown] id="controls-seen"
# <details><summary>What you should see</summary>
#
# At ±1 the real vector lies outside both bands. Single random directions move the log-odds by up to two nats, with either sign: **one** random direction is no control. Those with the covariance of real activations reach nearly three, because they push where the model listens. They are the harder control, and the margin over them is small.
#
# At +2 the best random direction does as well as the real one. Whatever the slider shows out there, it no longer shows the *concept*. That is what a control is for: without it, +2 looks like a weaker success.
# </details>
#
# **Shuffled labels** need care. Shuffle twelve against twelve freely, and a good part of one class may end up on one side: that "control" carries the concept. So shuffle *within* each class: every side of a shuffle gets half of the praise and half of the complaints. **Predict** which of the two looks worse for us.

# %% id="use-shuffles"
from mi_course.interp.steering import shuffle_controls

length = float(vector.norm())
for balanced in (True, False):
    shuffled = shuffle_controls(x12, y12, 20, seed=0, balanced=balanced, norm=length)
    moved = effects_of(shuffled, 1.0)
    cosine = float((shuffled @ vector).abs().max()) / length**2
    kind = "balanced" if balanced else "free"
    print(
        f"{kind:<9} shuffles: {moved.min():+.1f} to {moved.max():+.1f}, largest |cosine| with the real vector {cosine:.2f}"
    )
own = shuffle_controls(x12, y12, 20, seed=0).norm(dim=-1).mean()
print(f"norm of a balanced shuffle's difference: {own:.0f}; of the real one: {length:.0f}")

# %% [markdown] id="shuffles-seen"
# <details><summary>What you should see</summary>
#
# Free shuffles reach a large cosine with the real vector, with either sign, and move the log-odds accordingly; balanced ones do much less. The fewer the sentences, the worse: of 200 free shuffles of six against six, the strongest had 85 % of the real effect.
#
# And an honest number: the difference of means of *shuffled* sentences is almost as long as the real one. Most of your vector's length is the noise of twelve sentences. The noise happens to do little.
# </details>

# %% [markdown] id="ask-my_steering"
# ### Your steering vector
#
# {{exercise my_steering}}
#
# Choose a vector, a layer (up to 18) and a coefficient. It is added after that layer at every position but BOS, and judged on prompts and on synonyms ("fantastic", "dreadful", …) that you have not used. It must beat the best of 20 random directions of norm |coefficient| · ‖vector‖ at that layer by 1.0 nat, while the
# loss on neutral text rises by less than 0.25 nats per token. Loading a second copy of the model makes this check slow, about ten seconds.

# %% id="answer-my_steering"
# BEGIN SOLUTION
at_18 = [collect(model, sentences, 18) for sentences in (texts.POSITIVE, texts.NEGATIVE)]
my_steering = (lesson.use("difference_of_means")(*at_18), 18, 0.5)
# END SOLUTION

lesson.check(my_steering, name="my_steering")

# %% [markdown] id="my-steering-seen"
# The difference of means at layer 14 with coefficient 1, which looked so good above, does *not* pass. On the words and prompts that you worked with it gains 3.3 nats, on unseen ones 1.8, while the luckiest of twenty random directions gains 1.4 and neutral text costs 0.35. Half of it does better on every count. Numbers on one's own prompts flatter.

# %% [markdown] id="part-7"
# ## 7. Necessary, or only sufficient?
#
# Adding the direction suffices to change the opinion. Does the model *need* it to know what it has read? Take it out, and see.

# %% [markdown] id="ask-ablate_direction"
# {{exercise ablate_direction}}
#
# A hook that removes, at every position, the component along a direction of any norm. A zero direction changes nothing.


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
# The test: twenty happy and twenty unhappy stories that the vector has not seen, each followed by "All in all it was". The **contrast** is how much higher the log-odds are after the happy ones. **Predict** it without the direction; without a random direction; and without the direction after layer 14 only.

# %% id="use-ablation"
from mi_course.interp.steering import Ablate

happy = [f"{story} All in all it was" for story in texts.PROBE_POSITIVE]
unhappy = [f"{story} All in all it was" for story in texts.PROBE_NEGATIVE]


def contrast(interventions=()):
    """Mean log-odds after happy stories minus that after unhappy ones, in nats."""
    return float(
        prompt_log_odds(model, happy, GOOD, BAD, interventions).mean()
        - prompt_log_odds(model, unhappy, GOOD, BAD, interventions).mean()
    )


print(f"contrast, model as it is:               {contrast():.1f}")
everywhere = contrast([Ablate(vector)])
print(f"direction taken out everywhere:         {everywhere:.1f}")
print(f"direction taken out after layer {LAYER} only: {contrast([Ablate(vector, LAYER)]):.1f}")
others = [contrast([Ablate(direction)]) for direction in controls[:3]]
print(f"three random directions, everywhere:    {min(others):.1f} to {max(others):.1f}")

# The library takes a direction out of everything that is written into the stream. Your hook, at the same places:
remove = partial(lesson.use("ablate_direction"), direction=vector)
written_at = ["hook_embed"] + [
    f"blocks.{i}.{part}" for i in every_layer for part in ("hook_attn_out", "hook_mlp_out")
]
with model.hooks(fwd_hooks=[(name, remove) for name in written_at]):
    print(f"everywhere, with your hook:             {contrast():.1f}")

# %% [markdown] id="ablation-doubt"
# Without the direction happy and unhappy stories end nearly alike; random directions change nothing. The model needs the direction to tell opinions apart. **Necessary**, then?
#
# One control is missing. What does the ablation cost on neutral text? **Predict.**

# %% id="use-ablation-cost"
print(
    f"neutral loss, direction taken out everywhere: {neutral_cost(model, texts.NEUTRAL, [Ablate(vector)]).rise:+.1f}"
)
print(
    f"neutral loss, a random one taken out:         {neutral_cost(model, texts.NEUTRAL, [Ablate(controls[0])]).rise:+.1f}"
)
print(
    f"everywhere but at BOS:                        {neutral_cost(model, texts.NEUTRAL, [Ablate(vector, start=1)]).rise:+.1f}"
)
cosine = float(torch.nn.functional.cosine_similarity(vector, bos[0], dim=0))
print(
    f"cosine of the vector with BOS: {cosine:+.3f}; norm of BOS along the vector: {abs(cosine) * float(bos[0].norm()):,.0f}"
)

# %% [markdown] id="ablation-trap"
# Nearly three nats on text about rivers and triangles. The model is badly hurt, and a badly hurt model has no opinion either. The random directions did not warn us: they are almost at right angles to BOS. Our vector has a cosine of −0.18 with it, and BOS has a norm of 25,000, and part of what we took away was the attention sink.
#
# **A control must share what might matter.** So take the BOS part out of the direction first. The formula for that is also the one for weights.

# %% [markdown] id="ask-orthogonalize"
# What hooks take out on the way, weights need not write in the first place.
#
# {{exercise orthogonalize}}
#
# Rows of W are what it can write (x @ W is a mixture of them). Return W without the direction; a zero direction leaves it unchanged.


# %% id="answer-orthogonalize"
def orthogonalize(
    W: Float[Tensor, "in d"], direction: Float[Tensor, "d"]
) -> Float[Tensor, "in d"]:
    """W whose rows have no component along the direction, of any norm, so that x @ W has none for any x."""
    # BEGIN SOLUTION
    norm = direction.norm()
    if norm == 0:
        return W
    unit = direction / norm
    return W - (W @ unit)[:, None] * unit
    # END SOLUTION


lesson.check(orthogonalize)

# %% id="use-orthogonalize"
from mi_course.interp.steering import orthogonalized

# A matrix with one row: what is left of the vector at right angles to BOS.
without_sink = lesson.use("orthogonalize")(vector[None], bos[0])[0]
gone = [Ablate(without_sink)]
print(f"kept of the vector's length: {without_sink.norm() / vector.norm():.3f}")
print(
    f"it still steers: {effect_of([Steer(without_sink, LAYER, 1.0)]) - unsteered:+.1f} at +1"
)
print(
    f"contrast without it: {contrast(gone):.1f}; neutral loss: {neutral_cost(model, texts.NEUTRAL, gone).rise:+.2f}"
)
with orthogonalized(
    model, without_sink
):  # W_E, every W_O and W_out, and biases, by the same formula
    print(f"contrast with orthogonalised weights, no hooks: {contrast():.1f}")

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# Without the BOS part the vector steers as before. Taking *it* out costs about a tenth of a nat on neutral text, and the contrast still falls to less than a quarter. So the direction is necessary for most of the opinion that reaches the next word, and now the claim rests on something. The weights that cannot write it do the same as the hooks.
#
# Removing the direction after layer 14 only leaves more of the contrast: later layers write it anew.
# </details>
#
# **Why compatibility mode?** Raw SmolLM2 uses one matrix for two things: W_E writes tokens into the stream and, transposed, W_U reads logits off it. Orthogonalising that one matrix would also make the unembedding blind to the direction, which the hooks do not do. Compatibility mode folds the final norm into W_U, so the two become
# separate matrices and only the writing one is changed.

# %% [markdown] id="part-8"
# ## 8. Personas
#
# Can a whole character be a direction? Take eight questions under two system prompts, a pirate captain's and a helpful assistant's, and subtract (Chen et al. 2025 build "persona vectors" much like this). Then leave the pirate prompt out and add the vector instead.
#
# **Predict:** will it talk like a pirate? The controls: the assistant prompt without the vector, and with a random vector of the same norm.

# %% id="personas" tags=["not-compared"]
pirate, assistant = (
    collect(
        model, [texts.chat(question, system) for question in texts.PERSONA_QUESTIONS], LAYER
    )
    for system in (texts.PERSONA, texts.ASSISTANT)
)
persona = mean_difference(pirate, assistant)
questions = texts.PERSONA_HELD_OUT
plain = [texts.chat(question, texts.ASSISTANT) for question in questions]
SEA = (
    "ahoy",
    "matey",
    "arr",
    "aye",
    "ship",
    "sea",
    "captain",
    "treasure",
    "sail",
    "pirate",
    "crew",
)


def sea_words(answers):
    """How many times words of the sea occur in these answers."""
    return sum(answer.lower().count(word) for answer in answers for word in SEA)


random_persona = lesson.use("random_controls")(persona, 1, seed=0)[0]
conditions = {
    "pirate prompt": ([texts.chat(question, texts.PERSONA) for question in questions], []),
    "assistant prompt": (plain, []),
    "assistant + persona vector": (plain, [Steer(persona, LAYER, 2.0)]),
    "assistant + random vector": (plain, [Steer(random_persona, LAYER, 2.0)]),
}
for name, (prompts, interventions) in conditions.items():
    answers = generate(model, prompts, interventions, max_new_tokens=30)
    print(
        f"{name:<27} {sea_words(answers)} words of the sea\n    {answers[0][:110]!r}\n    {answers[2][:110]!r}"
    )

# %% [markdown] id="personas-seen"
# <details><summary>What you should see</summary>
#
# Under the pirate prompt the answers speak of the sea (and one of them never gets beyond "aye"). With the vector and the plain assistant prompt the *tone* comes over in some answers, "Ain't no spare in these parts. I reckon …", but the sea does not. A random vector of that length makes plain advice, or a stutter, and no pirate. The count of words misses the
# tone; the eye sees it. A vector carries part of a persona, and a metric carries part of what you see.
# </details>
#
# One thing can *not* be asked here. The assistant itself is a persona, which training put into a model that only continued text. To find its vector one subtracts the **base** model's activations from the assistant's, and SmolLM2's base model is not on this machine. Online: `load_model("HuggingFaceTB/SmolLM2-135M")`.

# %% [markdown] id="part-9"
# ## 9. A direction that is not there
#
# Arditi et al. (2024) found that in many chat models one direction stands between a harmful request and compliance: ablate it, and the model no longer refuses; add it, and it refuses harmless requests. Does this model have it? First look whether there is any refusal to explain.

# %% id="refusal" tags=["not-compared"]
requests = [texts.chat(request, texts.ASSISTANT) for request in texts.DECLINABLE_REQUESTS]
answers = generate(model, requests, max_new_tokens=20)
for request, answer in zip(texts.DECLINABLE_REQUESTS, answers, strict=True):
    print(f"{request}\n    {answer!r}")
declined = sum(
    any(word in answer.lower() for word in ("sorry", "cannot", "can't", "unable"))
    for answer in answers
)
print(f"\n{declined} of {len(answers)} requests declined")

# %% [markdown] id="refusal-seen"
# These are mild requests, of a kind that a trained assistant declines. This model complies, or lectures a little; it does not refuse, so there is nothing to ablate. A difference of means between declinable and harmless requests still *exists*, since one can subtract any two means, and it would separate the two, because they are about different things. But
# calling it a refusal direction would be a claim about a behaviour that the model does not show.
#
# For a model that does refuse, the code is what you have written. It needs the network:


# %% id="refusal-online" tags=["online", "not-compared"]
def refusal_demo(name="Qwen/Qwen1.5-0.5B-Chat"):
    """Declinable requests with the refusal direction in place, and ablated, on a model that refuses."""
    from mi_course.interp.models.errors import ModelError

    try:
        chat_model = mi_course.load_model(name)
    except (ModelError, OSError) as error:
        return print(f"{name} is not here: {str(error).splitlines()[0][:120]}")

    def ask(text):
        turns = [{"role": "user", "content": text}]
        return chat_model.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )

    middle = chat_model.cfg.n_layers // 2
    harmful, harmless = (
        [ask(t) for t in group]
        for group in (texts.DECLINABLE_REQUESTS, texts.HARMLESS_REQUESTS)
    )
    refusal = mean_difference(
        collect(chat_model, harmful, middle), collect(chat_model, harmless, middle)
    )
    for title, interventions in (("as it is", []), ("direction ablated", [Ablate(refusal)])):
        print(
            title,
            *generate(chat_model, harmful, interventions, max_new_tokens=20),
            sep="\n    ",
        )


refusal_demo()

# %% [markdown] id="part-10"
# ## 10. When steering fails
#
# Tan et al. (2024) steered many models on many behaviours and found that the effect varies widely between prompts, and on some is reversed. Eighteen prompts made to resist: the next word is negated, quoted, or already decided. **Predict:** how many flip, that is, get *gloomier* with the positive vector?

# %% id="hard"
hard = {
    c: prompt_log_odds(model, texts.HARD_PROMPTS, GOOD, BAD, [Steer(vector, LAYER, c)])
    for c in (-1.0, 1.0)
}
easy = {
    c: prompt_log_odds(model, texts.PROMPTS, GOOD, BAD, [Steer(vector, LAYER, c)])
    for c in (-1.0, 1.0)
}
slope, easy_slope = ((one[1.0] - one[-1.0]) / 2 for one in (hard, easy))
order = slope.argsort().tolist()
print(
    f"flipped: {int((slope < 0).sum())} of {len(slope)}; slopes {slope.min():.1f} to {slope.max():.1f} nats per unit"
)
print(f"easy prompts: {easy_slope.min():.1f} to {easy_slope.max():.1f}\n\nweakest:")
for i in order[:4]:
    print(f"  {slope[i]:.1f}  {texts.HARD_PROMPTS[i]}")

# %% id="hard-picture" tags=["not-compared"]
show.bars(
    [texts.HARD_PROMPTS[i] for i in order],
    slope[order],
    control=float(easy_slope.mean()),
    xlabel="prompt",
    ylabel="slope (nats per unit)",
    title="Prompts made to resist: uneven, and next to nothing after a negation",
    caption="Half the difference in log-odds between +1 and -1. Line: mean of the eight ordinary prompts.",
)

# %% [markdown] id="hard-seen"
# <details><summary>What you should see</summary>
#
# Sixteen of eighteen move as they should, some less than half as far as ordinary prompts. The two odd ones end in "not". After "The exam was not" hardly anything happens, and after "She was surprised that it was not" the sign is even turned, weakly. The vector makes *good* words likelier. It does not know that a negation comes before them, so what it does to the *sentence* is another
# matter: "The exam was not great" is no praise.
# </details>
#
# A mean over prompts hides all this. Report the spread.

# %% [markdown] id="part-11"
# ## 11. Two puzzles
#
# Both mistakes stood in published code. Nothing crashed, and the results looked good. Find them before you unfold the answers.
#
# **Puzzle 1.** A colleague's hook gives a *larger* effect than yours at coefficient 0.5.


# %% id="puzzle-one"
def colleagues_hook(resid, hook, vector, coefficient, start):
    change = torch.zeros_like(resid)
    change[:, start:] = coefficient * vector
    resid += change
    return resid + change


tokens = torch.tensor(token_ids(model, texts.PROMPTS[:1]))
for name, one, c in (
    ("yours", add, 0.5),
    ("colleague's", colleagues_hook, 0.5),
    ("yours", add, 1.0),
):
    steer = partial(one, vector=vector, coefficient=c, start=1)
    with torch.no_grad():
        logits = model.run_with_hooks(
            tokens, fwd_hooks=[(f"blocks.{LAYER}.hook_resid_post", steer)]
        )
    print(f"{name:<12} at {c}: log-odds {odds(logits[:, -1], GOOD, BAD).item():+.2f}")

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
tokens = torch.tensor(token_ids(model, texts.PROMPTS[:1]))
with torch.no_grad():
    states = model.original_model(tokens, output_hidden_states=True).hidden_states
    _, cache = model.run_with_cache(tokens)
print(f"{len(states)} hidden states, {model.cfg.n_layers} layers")
for number in (13, 14, 15, 29, 30):
    state = states[number][0, 1:]
    match = [
        i
        for i in every_layer
        if torch.allclose(state, cache["resid_post", i][0, 1:], atol=1e-2, rtol=1e-3)
    ]
    print(
        f"hidden_states[{number}] equals resid_post of layer {match}, norm at the last token {state[-1].norm():.0f}"
    )
from_13 = mean_difference(
    collect(model, texts.POSITIVE, 13), collect(model, texts.NEGATIVE, 13)
)
slipped = effect_of([Steer(from_13, LAYER, 1.0)]) - unsteered
print(
    f"effect at +1: vector of layer {LAYER} {real[1.0]:+.1f}, vector of layer 13 added after {LAYER} {slipped:+.1f}"
)

# %% [markdown] id="puzzle-two-answer"
# <details><summary>Answer</summary>
#
# `hidden_states[0]` is the embedding, so number 14 is the stream after layer **13**. The vector works as well as the right one, because neighbouring layers are alike, so no effect tells you. Only a comparison with a tensor that you know does. The last one equals no layer at all: Hugging Face applies the final norm to it.
# Its norm here is 24, the root of 576, where the stream has several hundred, so a vector made from it is far too short.
#
# Positions slip the same way: a start that is off by one leaves out the last prompt token, which matters most.
# </details>

# %% [markdown] id="reflect"
# *Reflect.* Which result above would have changed your mind about the direction of opinion, had it come out otherwise? Which of your own plots would you now show with a band of random directions?

# %% [markdown] id="recap"
# ## What you have done
#
# You read activations without being fooled by padding or BOS, found a direction by subtraction, and saw that a probe agrees with it on unseen sentences, while shuffled labels agree only on seen ones. You steered with it, measured dose, response and cost, and found the range in which the effect is more than any random direction's. You removed it and
# saw what the model loses. You looked for two directions that textbooks promise, and reported what was there.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Tan et al. 2024, *Analysing the Generalisation and Reliability of Steering Vectors*. Read how they measure the spread over prompts, and ask of the next steering result you see what its band of controls would be.
