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
# You will find features in a sparse autoencoder of a real language model, name them, put the names to tests that they can fail, turn a feature up until the model cannot stop talking about it, take it out again, and find out what a vector that nobody had to train would have done instead.
#
# About {{minutes}} minutes · {{points}} points · after lesson 06; lesson 04 helps. The model is SmolLM2-135M-Instruct; compatibility mode is not needed. Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021; Wu et al. 2025.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("feature_steering"), mi_course.load_model(compatibility=False)

# %% [markdown] id="part-1"
# ## 1. The model that believed it was a bridge
#
# In May 2024, for a day, one could talk to a language model that took itself for the Golden Gate Bridge. Asked for a recipe, it came back to the fog and the cables. Nobody had trained it to. In the middle of the model a sparse autoencoder had been trained, one of its 34 million latents was active where the bridge was mentioned, and that latent was held at ten times its largest value (Templeton et al. 2024).
#
# Here is the same thing, small. Our model has 135 million parameters, the autoencoder sits in its middle, after layer 14, and has 4,608 latents. One of them is held at a fixed value on every token while the model writes. **Predict:** can one latent of 4,608 change what such a small model writes about? What happens if you turn it up much further?

# %% id="bridge" tags=["not-compared"]
from mi_course.interp.sae import clamp_study as clamps
from mi_course.interp.sae import latent_study as runs
from mi_course.interp.sae.clamp_texts import CONCEPTS, HELD_OUT_PROMPTS, PROMPTS

sae, LATENT, VALUE = runs.example(model)
study, values = clamps.ClampStudy.of(model, sae), [VALUE / 2, VALUE, 2 * VALUE, 4 * VALUE]
bridge = runs.held(study, LATENT, values, HELD_OUT_PROMPTS[:3])
rows = {name: [text.text for text in texts] for name, texts in bridge.items()}
show.table(rows, [f"{opening} …" for opening in HELD_OUT_PROMPTS[:3]], left=True)

# %% id="claims-bridge-seen" tags=["claims"]
from mi_course import claim

worse = {name: torch.tensor(study.loss(each)).mean() for name, each in bridge.items()}
far = list(bridge)[-1]
lesson.seen("bridge-value", VALUE, ".0f")
lesson.seen("bridge-far", values[3], ".0f")
lesson.seen("bridge-largest", sae.feature_index.page(sae, LATENT)["largest"], ".0f")
lesson.seen("bridge-worse", worse[far] - worse["as it is"], ".1f")
claim(
    "at four times the value the texts cost the unsteered model at least 1 nat per token more, in the mean of three",
    float(worse[far] - worse["as it is"]) > 1,
)

# %% [markdown] id="bridge-seen"
# <details><summary>What you should see</summary>
#
# Read down the columns. A single latent is fixed, and the same openings lead somewhere else. (Each text is drawn afresh, so two unsteered texts would differ as well; what they lead to is the point.) What they lead to you will have noticed; keep the name to yourself, since naming is what the next two sections are about. At {{seen:bridge-far}} the words come apart: the unsteered model finds such text {{seen:bridge-worse}} nats per token less likely than what it writes itself.
#
# In the texts of its feature page this latent reaches {{seen:bridge-largest}} at its strongest token. Held at {{seen:bridge-value}} on *every* token, it is somewhere the model never goes by itself. (The paper used ten times the maximum.)
#
# It looks like a discovery. But nothing has been compared with anything yet. Would another latent have done as much harm? Would a *random* vector? Would one have needed an autoencoder at all?
# </details>

# %% [markdown] id="part-2"
# ## 2. What is in the box
#
# The autoencoder is not one of lesson 06. It was trained for the course on millions of tokens of textbooks, books, articles, code and the model's own writing, and it comes with a *card*: what was measured of it on text that it has not seen. **Predict:** how much worse does the model get, in nats per token, if it has to go on with the reconstruction instead of its own activations?

# %% id="card"
from mi_course.interp.sae import shipped_card

card = shipped_card("middle-4608")
show.table(runs.card_facts(card), ["middle-4608"])

# %% id="claims-card-seen" tags=["claims"]
from mi_course.interp.sae.cards import mean_rise

zeros = runs.with_zeros(card)
lesson.seen("l0", card["l0"], ".0f")
lesson.seen("explained", card["explained_variance"], ".2f")
lesson.seen("rise", mean_rise(card), ".2f")
worst = max(card["loss"], key=lambda group: card["loss"][group]["rise"])
best = min(card["loss"], key=lambda group: card["loss"][group]["rise"])
lesson.seen("worst", worst, "s")
lesson.seen("worst-rise", card["loss"][worst]["rise"], ".2f")
lesson.seen("best", best, "s")
lesson.seen("best-rise", card["loss"][best]["rise"], ".2f")
claim(
    "the reconstruction costs less than a tenth of what zeros cost, and at least 0.02 nats",
    0.02 < mean_rise(card) < zeros / 10,
)
claim(
    "between 0.7 and 0.95 of the variance is explained",
    0.7 < card["explained_variance"] < 0.95,
)

# %% [markdown] id="card-seen"
# <details><summary>What you should see</summary>
#
# About {{seen:l0}} of the latents are active on a token, and together they explain {{seen:explained}} of the variance. A model that has to go on with them is {{seen:rise}} nats per token worse: least on {{seen:best}} ({{seen:best-rise}}), most on {{seen:worst}} ({{seen:worst-rise}}). That is little beside zeros, and it is not nothing. What the autoencoder leaves out is part of the model, and we do not know what is in it. Keep that in mind whenever "the features" of a model are mentioned: these are the features that were found.
# </details>
#
# Now look at the latent from above. A feature page shows what researchers look at first. (`docs/feature-browser.md` explains each part; `show.feature_browser(sae)` has all latents, with search.) **Predict** from the texts above what its strongest contexts are about, then look. Would you name it after the ten strongest, or after the lower bands?

# %% id="page" tags=["not-compared"]
show.feature(sae, LATENT)

# %% [markdown] id="page-after"
# The page is made of three things: a list of positions, sorted; some more positions, drawn at random from each range of ranks; and the tokens that the decoder's row promotes. You will now write all three.

# %% [markdown] id="ask-top_activations"
# ### Where is it strongest?
#
# {{exercise top_activations}}
#
# `f` holds one latent's activation on each token of a text. Return positions, that is, indices into `f`. Only *active* tokens are listed, those above 0; where fewer than n are active, the list is shorter, and where none is, or n is 0, it is empty. `f` may hold negative values, because the same function will serve for neurons and directions: they are not active, however large. The order among equal activations is free, and so is the choice if only some of them have room.

# %% id="answer-top_activations"
from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float, Int
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

# %% [markdown] id="use-contexts-intro"
# Let the model read: eight kinds of text, from novels to Python code, as many rows of each. We look at one latent's top of the list, and then at three random tokens from each band of ranks.
#
# **Predict:** down to which band will the name hold that you gave it?

# %% id="use-contexts"
top, bands = lesson.use("top_activations"), lesson.use("quantile_examples")
reading, EDGES = runs.read(model, sae), [0, 0.1, 0.25, 0.5, 1]
f, columns = reading.of(LATENT), ["activation", "kind of text", "context"]
print(f"{len(f):,} tokens; latent {LATENT} is active on {(f > 0).float().mean():.2%} of them")
print(show.table(runs.contexts(reading, top(f, 8), f), columns, left=True))
drawn = [position for band in bands(f, EDGES, 3, seed=0) for position in band]
show.table(runs.contexts(reading, drawn, f), columns, left=True)

# %% [markdown] id="use-bands-intro"
# One crude number for it. Take the ten tokens on which a latent is strongest, in every second row of the text. In the *other* rows, how many of the active tokens in each band of ranks are one of these ten words? For our latent; in the mean of others that are active about as often; and in the mean of forty that are drawn at random from those active in 2 to 20 % of all contexts of sixteen tokens.

# %% id="use-bands"
forty = runs.nameable(reading, 40)
faded = runs.same_tokens_table(reading, top, bands, LATENT, forty, EDGES)
show.table(faded, ["0 to 10 %", "10 to 25 %", "25 to 50 %", "50 to 100 % of ranks"])

# %% id="claims-bands-seen" tags=["claims"]
ours, as_often, usual = faded.values()
lesson.seen("top-band", 100 * ours[0], ".0f")
lesson.seen("active-share", 100 * (f > 0).float().mean(), ".0f")
lesson.seen("often-top", 100 * as_often[0], ".0f")
lesson.seen("usual-top", 100 * usual[0], ".0f")
lesson.seen("usual-low", 100 * usual[-1], ".0f")
claim(
    "mean of 40 latents: the share of the ten strongest tokens falls by a third at least from the first tenth of ranks to the lower half",
    usual[-1] < usual[0] * 2 / 3,
)
claim(
    "latents that are active as often as ours have less than half of the 40 latents' share in the first tenth, and so has ours",
    max(ours[0], as_often[0]) < usual[0] / 2,
)

# %% [markdown] id="bands-seen"
# <details><summary>What you should see</summary>
#
# The first list is easy to name. The second is not, and the further down, the less. In the mean of the latents drawn at random {{seen:usual-top}} % of the tokens in the first tenth of ranks are among the ten strongest of the other rows, and {{seen:usual-low}} % in the lower half, which is half of all tokens on which a latent is active.
#
# For our own latent the number is {{seen:top-band}} % from the start. One would like to say that its name is a *meaning*, with many words for it. But it is active on {{seen:active-share}} % of all tokens, ten words cannot cover that, and others that are active as often have {{seen:often-top}} %. The number cannot tell a meaning with many words from no name at all; there one has to read. Templeton et al. (2024) had contexts rated for their meaning, and found the same fading: specificity falls as the activation weakens. A name that was read off the top of the list is a name for the top of the list.
# </details>

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

# %% [markdown] id="use-promoted-intro"
# The decoder's row says what the latent *writes*. With the weight of the final norm folded in, its product with `W_U` says which tokens it promotes directly, as if nothing came between layer 14 and the end.
#
# And a control. Everybody finds meaning in ten promoted tokens. Here are those of three latents, ours among them, and of three random directions, in random order. **Predict:** which are which? And how often will the token on which a latent is strongest be one of those that it promotes most, the first hundredth of the vocabulary?

# %% id="use-promoted"
promote = lesson.use("logit_effect")
unembed = model.ln_final.weight.detach()[:, None] * model.W_U
lettered, random_ones = runs.shuffled_rows(sae, [LATENT, *forty[:2]], seed=3)
told = runs.promoted_table(model.tokenizer, promote, lettered, unembed)
print(show.table(told, ["promoted", "suppressed"], left=True))
own, another = runs.promotes_what_it_reads(sae, unembed)
rows = {"its own strongest token": 100 * own, "control: another latent's": 100 * another}
show.table(rows, ["% of 200 latents that have it among the 1 % promoted most"], digits=1)

# %% id="claims-promoted-seen" tags=["claims"]
lesson.seen("random-letters", random_ones, "s")
lesson.seen("own-promoted", 100 * own, ".0f")
lesson.seen("another-promoted", 100 * another, ".0f")
claim(
    "fewer than half of 200 latents promote the token on which they are strongest, more than by chance",
    another < own < 0.5,
)

# %% [markdown] id="promoted-seen"
# <details><summary>What you should see</summary>
#
# {{seen:random-letters}} are the random directions. Could you tell? Few of the lists hang together, and one of a random direction may look as good as one of a latent.
#
# Reading and writing are two things, too. The token on which a latent is strongest is in the first hundredth of what it promotes for {{seen:own-promoted}} % of the latents; the token of some *other* latent is so for {{seen:another-promoted}} %. In the middle of a model the decoder's row writes for all the layers that follow, and only in part for the vocabulary.
# </details>

# %% [markdown] id="part-3"
# ## 3. A name is a claim
#
# "A latent for the sea" is an opinion. "It is active in a context if and only if one of these words occurs there" is a claim, since the next page of text can refute it. Bills et al. (2023) had language models write and test such claims; Paulo et al. (2024) simplified the test into two questions. *Detection*: given whole contexts, in which of them is the latent active? *Fuzzing*: given a context with some tokens marked, are these the tokens on which it is active? They let a language model answer with the label in hand. Here the label is a list of words, and answers for itself.
#
# A latent is active in few contexts. Whoever always says "no" is right most of the time, so accuracy is worthless here. **By hand, once.** Ten contexts, two of them active; a label that says "active" for one of the two and for two of the others. Its accuracy is 0.7. What is the mean of its accuracies on the two kinds?

# %% [markdown] id="ask-detection_score"
# ### Does the label say when?
#
# {{exercise detection_score}}
#
# `predicted[c]` says whether the rule names context c, `fired[c]` whether the latent is active there. The true positive rate is the share of the *active* contexts that the rule names; the true negative rate is the share of the *other* contexts that it does not name. Return the mean of the two, a number. If a kind of context is absent, because the latent is active in all of them or in none, such contexts cannot show whether the rule is good: return 0.5, whatever the rule says. That holds for a single context and for no context at all too.


# %% id="answer-detection_score"
def detection_score(
    predicted: Bool[Tensor, "context"], fired: Bool[Tensor, "context"]
) -> float:
    """Balanced accuracy: the mean of the true positive and the true negative rate.

    predicted: whether the rule names each context. fired: whether the latent is active in it.
    0.5 if the latent is active in all contexts or in none.
    """
    # BEGIN SOLUTION
    if fired.all() or not fired.any():
        return 0.5
    found = predicted[fired].double().mean()
    spared = (~predicted[~fired]).double().mean()
    return float(found + spared) / 2
    # END SOLUTION


lesson.check(detection_score)

# %% [markdown] id="fuzzing-intro"
# "Texts about the law" may be a fine label for contexts and still be wrong about the latent, which might be active on the word "the" in such texts. Detection does not see that. **Fuzzing** (Paulo et al. 2024) looks closer: show a judge examples with some tokens marked. In some of them these are the tokens on which the latent is truly active, in the others the marks were put elsewhere. The judge knows the label alone, and says whether the marks are right.

# %% [markdown] id="ask-fuzzing_score"
# ### Does the label say where?
#
# {{exercise fuzzing_score}}
#
# All examples have equally many tokens. `marked[e, t]` says which tokens of example e are marked, `right[e]` whether these are the tokens on which the latent is truly active, and `matched[e, t]` which tokens the rule matches. Paulo et al. ask a language model whether the marks are right; here the rule decides, and it says "right" when **at least half of the marked tokens are matched**. Half exactly is enough. Matches on tokens that are not marked count neither for nor against. An example without marks is "not right". Score these decisions against `right` as in `detection_score`: the mean of the share of examples with right marks that the rule calls right, and the share of the others that it calls not right; 0.5 if all marks are right, or none are, or there is no example. Return a number.


# %% id="answer-fuzzing_score"
def fuzzing_score(
    matched: Bool[Tensor, "example token"],
    marked: Bool[Tensor, "example token"],
    right: Bool[Tensor, "example"],
) -> float:
    """Balanced accuracy of a rule that says whether the marks of each example are right.

    matched: the tokens that the rule matches. marked: the tokens that are marked.
    right: whether the marks are where the latent is active. The rule says "right" where at least half of the marked
    tokens are matched, and there are any. 0.5 if all marks are right or none are.
    """
    # BEGIN SOLUTION
    hits, marks = (matched & marked).sum(dim=1), marked.sum(dim=1)
    says_right = marked.any(dim=1) & (2 * hits >= marks)
    return detection_score(says_right, right)
    # END SOLUTION


lesson.check(fuzzing_score)

# %% [markdown] id="use-labels-intro"
# The forty latents again, and contexts of sixteen tokens. Each latent gets two labels, made from one half of the rows. One is what you would write down after a look at the page: the tokens at the **top of the list**. The other is **fitted**: piece by piece the string that raises the detection score most. Both are scored on the other half.
#
# Three controls. *Random words*, as many. *Another latent's* fitted label: a good label for something else. And no words at all, only the **kind of text**: "active if this is code", if it was more active in code than elsewhere. **Predict** the order of the five.

# %% id="use-labels"
detect, fuzz = lesson.use("detection_score"), lesson.use("fuzzing_score")
scores = runs.label_scores(detect, fuzz, reading, forty)
rows = scores.table()
print(show.table(rows, ["detection", "standard error", "inside one kind", "fuzzing"]))
named = {f"latent {i}": ", ".join(map(repr, scores.labels[i][:7])) for i in forty[:4]}
show.table(named, ["fitted label"], left=True)

# %% id="labels-picture" tags=["not-compared"]
runs.draw_scores(scores.detection, "How well labels of 40 latents hold on new text")

# %% id="claims-labels-seen" tags=["claims"]
means = scores.table()
fitted, listed = means["fitted"], means["top of the list"]
kind, another_ = means["control: kind of text alone"], means["control: another latent's"]
randoms = means["control: random words"]
for name, row in (
    ("fitted", fitted),
    ("listed", listed),
    ("kind", kind),
    ("another", another_),
    ("random", randoms),
):
    lesson.seen(f"detect-{name}", row[0], ".2f")
    lesson.seen(f"inside-{name}", row[2], ".2f")
rules = card["nameability"]["context"]
for who in ("latents", "directions", "neurons"):
    lesson.seen(f"card-{who}", rules[who][0], ".2f")
claim(
    "on the card latents beat matched directions and neurons by more than two standard errors",
    all(rules[over][0] > 2 * rules[over][1] for over in ("over_directions", "over_neurons")),
)
lesson.seen("fuzz-fitted", fitted[3], ".2f")
lesson.seen("fuzz-listed", listed[3], ".2f")
lesson.seen("fuzz-another", another_[3], ".2f")
claim(
    "over 40 latents either label beats another latent's and random words, by 0.03 in the mean",
    min(fitted[0], listed[0]) > max(another_[0], randoms[0]) + 0.03,
)
claim("in fuzzing the top of the list is ahead of the fitted labels", listed[3] > fitted[3])
claim(
    "the kind of text alone is at most 0.03 below the fitted labels",
    kind[0] > fitted[0] - 0.03,
)

# %% [markdown] id="labels-seen"
# <details><summary>What you should see</summary>
#
# The controls with words do what they should: another latent's label scores {{seen:detect-another}}, random words {{seen:detect-random}}. The fitted labels score {{seen:detect-fitted}}, the top of the list {{seen:detect-listed}}: above chance, and far from perfect. And the control without any word, the kind of text alone, scores {{seen:detect-kind}}.
#
# So part of what a label "detects" is only where we are. Inside one kind of text, where the kind says nothing, {{seen:inside-fitted}} is left for the fitted labels and {{seen:inside-listed}} for the top of the list. Fuzzing asks the finer question, and gives {{seen:fuzz-fitted}} and {{seen:fuzz-listed}} (another latent's label: {{seen:fuzz-another}}). There the short list does better than the fitted label, which was fitted to whole contexts.
#
# Is that better than for *any* direction? The card of the autoencoder has the answer to that: the best of a fixed family of rules scores {{seen:card-latents}} for its latents, in contexts as long as ours, {{seen:card-directions}} for random directions and {{seen:card-neurons}} for neurons, each made active as often as the latent that it is compared with. (The kinds of text are not kept apart there, so some of each score is the kind.) So there is something to name in latents that is not in other directions, and it is a modest amount.
#
# Paulo et al. (2024) report higher numbers, for larger models, with a language model that knows what "words about sailing" are where we have only the words. Part of the distance is in the labels, then. But which part is not known until somebody measures it, and whether a list of words is a poor label or the latent a poor feature cannot be told from one score. What can be told: an unscored name, with ten hand-picked contexts, is worth nothing.
# </details>

# %% [markdown] id="part-4"
# ## 4. Turn it up
#
# So far we have only read. Does the model *use* the latent? Set it to a value, and let the model go on. There are two ways. You can hand the model the reconstruction with one latent changed, and it pays for everything that the autoencoder does not reconstruct, on every token. Or you add what is missing, so that the edit is the only thing that changes. Templeton et al. (2024) keep the error.

# %% [markdown] id="ask-splice"
# ### The autoencoder in the model
#
# {{exercise splice}}
#
# At every position from 1 on, the result is the reconstruction $\hat{x}' = $ `sae.decode(edit(f))` with `f = sae.encode(x)`; without an edit (`None`) it is $\hat{x} = $ `sae.decode(f)`. With `keep_error`, what the autoencoder does not reconstruct, $x - \hat{x}$, is added to it. So without an edit and with the error nothing changes (but for rounding). `edit` takes latents of any leading shape, with the
# latents in the last axis, returns new ones, and leaves its argument alone. Position 0 passes unchanged: it is the attention sink, with a norm that the autoencoder was never trained on. `sae` has `encode`, `decode`, `W_enc`, `b_enc`, `W_dec` and `b_dec`, and is not changed. Change `resid` in place and return it or nothing, or return a new tensor; all of these are right.


# %% id="answer-splice"
def splice(
    resid: Float[Tensor, "batch pos d"],
    hook: Any,
    sae: Any,
    edit: Callable[[Tensor], Tensor] | None,
    keep_error: bool,
) -> Float[Tensor, "batch pos d"]:
    """A hook: the autoencoder's reconstruction from edited latents, at every position but the first.

    edit: a function of the latents [..., F] that returns new ones; None leaves them as they are.
    keep_error: whether what the autoencoder does not reconstruct is added back.
    """
    # BEGIN SOLUTION
    out = resid.clone()
    f = sae.encode(resid)
    new = sae.decode(f if edit is None else edit(f))
    if keep_error:
        new = new + (resid - sae.decode(f))
    out[:, 1:] = new[:, 1:]
    return out
    # END SOLUTION


lesson.check(splice)

# %% [markdown] id="ask-clamp_feature"
# ### One latent, turned up
#
# {{exercise clamp_feature}}
#
# At every position from 1 on, the result is $x + (v - f_i)\, W_{dec}[i]$: $v$ is `value`, $i$ is `index`, and $f_i$ is what latent $i$ is at that position, by `sae.encode`. Value and decoder are in the autoencoder's stored units: nothing is scaled to length 1. Any value may come, below zero too; clamping a latent to what it is already changes nothing. The error of the reconstruction and all other latents stay as they are.
# Position 0, the attention sink, passes unchanged. In place or not is up to you.


# %% id="answer-clamp_feature"
def clamp_feature(
    resid: Float[Tensor, "batch pos d"], hook: Any, sae: Any, index: int, value: float
) -> Float[Tensor, "batch pos d"]:
    """A hook: the activations with latent `index` set to `value`, in the SAE's stored units, but for position 0.

    sae: has `encode` (latents in the last axis) and `W_dec` [F d].
    """
    # BEGIN SOLUTION
    out = resid.clone()
    missing = value - sae.encode(resid[:, 1:])[..., index]
    out[:, 1:] += missing[..., None] * sae.W_dec[index]
    return out
    # END SOLUTION


lesson.check(clamp_feature)

# %% [markdown] id="use-clamp-intro"
# First test the tool. With the error kept, no edit must mean no change, and a latent that is clamped to what it is anyway must change nothing. **Predict** the first number as well: the loss without the error, against the card.

# %% id="use-clamp"
from functools import partial

put, hold = lesson.use("splice"), lesson.use("clamp_feature")
PLACE, sample = sae.about["hook_name"], reading.tokens[::16, :64]
tested = {
    "nothing": lambda resid, hook: resid,
    "reconstruction, error dropped": partial(put, sae=sae, edit=None, keep_error=False),
    "reconstruction, error kept": partial(put, sae=sae, edit=None, keep_error=True),
    f"latent {LATENT} held at 0": partial(hold, sae=sae, index=LATENT, value=0.0),
    f"latent {LATENT} held at {VALUE:.0f}": partial(hold, sae=sae, index=LATENT, value=VALUE),
}
for i in forty[:2]:  # decoder rows are of length 1: the vector is as long
    name = f"control: latent {i} held at {VALUE:.0f}"
    tested[name] = partial(hold, sae=sae, index=i, value=VALUE)
losses = {}
for name, hook in tested.items():
    with torch.no_grad(), model.hooks(fwd_hooks=[(PLACE, hook)]):
        losses[name] = model(sample, return_type="loss").item()
rises = {name: loss - losses["nothing"] for name, loss in losses.items()}
show.table(rises, ["rise of the loss (nats per token)"], digits=3, sign=True)

# %% id="claims-clamp-seen" tags=["claims"]
_, dropped, kept, at_zero, at_value, *others_held = rises.values()
lesson.seen("dropped", dropped, ".2f")
lesson.seen("held", at_value, ".2f")
lesson.seen("others-held", others_held, ".2f")
claim(
    "without an edit and with the error the loss is the same within 0.0005 nats",
    abs(kept) < 5e-4,
)
claim("without the error it rises by at least 0.05 nats", dropped > 0.05)
claim(
    "held at the same value, either of two other latents costs more than 0.2 nats, too",
    min(others_held) > 0.2,
)

# %% [markdown] id="clamp-seen"
# <details><summary>What you should see</summary>
#
# Without an edit nothing happens, if the error is kept. If it is dropped, you pay {{seen:dropped}} nats per token before you have steered at all, and anything that you see afterwards may be the autoencoder's doing. Holding the latent at its steering value on every token costs {{seen:held}} nats. That the text is about something else is only a part of it: two other latents, held at the same value, cost {{seen:others-held}} nats. Any vector of that length has its price.
# </details>

# %% [markdown] id="use-doses-intro"
# Now the dose-response. How much of the concept do we get, and what does it cost in coherence? Each text is written with the latent held, sampled, and then read by the *unsteered* model: how many nats per token does it find it worse than what it writes itself? (A model that only repeats one word gets off cheaply there, so look at the texts as well.) The concept is counted in words that had no part in finding anything: a text mentions it, or it does not.
#
# Four rivals, each at the same norms of what is added: our latent; two other latents, active about as often (but not chosen for one of the other concepts); two random directions; and a **difference of means**, between eight sentences about the concept and those about seven other concepts. That last one needed sixty-four sentences and no training. **Predict** who wins.

# %% id="use-doses"
CONCEPT, NORMS = "money", [30.0, 60.0, 90.0]
about, rivals = CONCEPTS[CONCEPT], runs.rivals(study, LATENT, CONCEPT)
few = {"prompts": HELD_OUT_PROMPTS[:6], "words": about.held_out, "max_new_tokens": 16}
doses = clamps.dose_response(study, rivals, NORMS, **few)
at = [f"norm {norm:.0f}" for norm in NORMS]
mentions, losses = (runs.dose_table(doses, what) for what in ("mentions", "loss"))
print(show.table(mentions, at, title="share of texts with a word of the concept"))
show.table(losses, at, title="loss above the unsteered texts' (nats per token)", sign=True)

# %% id="doses-picture" tags=["not-compared"]
runs.draw_doses(doses)

# %% id="claims-doses-seen" tags=["claims"]
cheap = {name: runs.best_dose(each, 1.0) for name, each in doses.items()}
for name in ("latent", "difference of means"):
    lesson.seen(f"cheap-{name.replace(' ', '-')}", 100 * cheap[name].mentions, ".0f")
lesson.seen("dose-texts", 2 * len(HELD_OUT_PROMPTS[:6]), "d")
top_norm = {name: each[-1] for name, each in doses.items()}
lesson.seen("dose-high", top_norm["latent"].norm, ".0f")
lesson.seen("dose-latent", top_norm["latent"].loss, ".1f")
lesson.seen("dose-means", top_norm["difference of means"].loss, ".1f")
lesson.seen("dose-random", top_norm["random directions"].loss, ".1f")
over_norms = {
    name: torch.tensor([(dose.mentions, dose.loss) for dose in each]).mean(dim=0)
    for name, each in doses.items()
}
for name, (share, _) in over_norms.items():
    lesson.seen(f"norms-{name.replace(' ', '-')}", 100 * share, ".0f")
gained = (over_norms["latent"] + over_norms["difference of means"]) / 2
by_chance = (over_norms["random latents"] + over_norms["random directions"]) / 2
claim(
    "over three norms, latent and difference of means have 0.05 more mentions than random latents and directions, 36 texts each",
    bool(gained[0] > by_chance[0] + 0.05),
)
claim(
    "over three norms the difference of means costs more nats than the latent",
    bool(over_norms["difference of means"][1] > over_norms["latent"][1]),
)

# %% [markdown] id="doses-seen"
# <details><summary>What you should see</summary>
#
# Over the three norms, {{seen:norms-latent}} % of the texts mention the concept under our latent, {{seen:norms-difference-of-means}} % under the difference of means, {{seen:norms-random-latents}} % under random latents, {{seen:norms-random-directions}} % under random directions, {{seen:norms-unsteered}} % without anything. At norm {{seen:dose-high}} the texts cost {{seen:dose-latent}} nats more with the latent, {{seen:dose-means}} with the difference of means and {{seen:dose-random}} with random directions.
#
# A dose is {{seen:dose-texts}} texts (for random latents and directions twice as many): few, so that a difference of one or two texts is chance. And equal norms are not equal prices: the difference of means costs more. Of the doses below one nat per token, the best has {{seen:cheap-latent}} % with the latent and {{seen:cheap-difference-of-means}} % with the difference of means, which has fewer of them. More on who is ahead below, with other concepts, with more texts, and with log-odds, which scatter less.
#
# Every large vector spoils the text; that alone is no sign of meaning. What counts is how much concept it brings for the price.
# </details>

# %% [markdown] id="clamp-intro"
# Now you. Money was ours, and its latent is given away. For you a rule has picked one of seven other concepts, from what it saw on training prompts.

# %% id="clamp-concept"
from mi_course.interp.sae import clamp_choice, clamp_texts

yours = clamp_choice.steered().concept
print(f"Your concept: {yours}")
print("words:      ", *clamp_texts.CONCEPTS[yours].words)
print("sentences:  ", *clamp_texts.CONCEPTS[yours].sentences[:3], "…")

# %% [markdown] id="ask-my_clamp"
# ### Your clamp
#
# {{exercise my_clamp}}
#
# `index` is from 0 to 4,607, and `value` is in the autoencoder's stored units; the latent is set to it at every position but the first, with the error kept, as `clamp_feature` does. Search with the `sentences` and `words` of `clamp_texts.CONCEPTS[yours]` and with `clamp_texts.PROMPTS`. You are judged on ten other prompts, `clamp_texts.HELD_OUT_PROMPTS`, and on the concept's twelve `held_out` words, of which none stands in the sentences. The latent passes if
#
# 1. the log-odds that the next word after a prompt is one of the held-out words rise, on average over the prompts, by at least 1 nat more than 95 % of 60 random latents reach. These are about as often active (within a factor of four), and each is clamped so that it adds a vector of the same norm;
# 2. of 20 continuations (24 tokens, two for each prompt, temperature 0.8), the share with at least one of the held-out words is at least 0.2 above that of unsteered continuations;
# 3. the text holds together: under the unsteered model its loss is less than 1.5 nats per token above that of unsteered continuations, and the mean share of different pairs among its neighboring words is less than 0.15 below theirs (a loop of one word is predictable, and no text).
#
# Judging takes less than a minute.

# %% id="answer-my_clamp"
from mi_course.interp.sae import clamp_choice, clamp_study, clamp_texts, load_shipped

yours = clamp_choice.steered().concept
about = clamp_texts.CONCEPTS[yours]
# my_clamp = (index, value)
# BEGIN SOLUTION
elsewhere = [
    sentence
    for name, other in clamp_texts.CONCEPTS.items()
    if name != yours
    for sentence in other.sentences
]
study = clamp_study.ClampStudy.of(model, load_shipped("middle-4608"))
candidates = clamp_study.latents_for(study, about.sentences, elsewhere)
norm = clamp_choice.SEARCH_NORM
index, _ = clamp_study.choose_latent(study, candidates, clamp_texts.PROMPTS, about.words, norm)
my_clamp = (index, norm / float(study.sae.W_dec[index].detach().norm()))
# END SOLUTION

lesson.check(my_clamp, name="my_clamp")

# %% [markdown] id="use-eight-intro"
# Were our concepts exceptions? The same rule chose a latent and a value for each of eight concepts, on training prompts; yours was one of them. Here is what came of all eight on the held-out prompts and words, beside the difference of means at the same norm, with sixty texts of each. (Recorded by `data/measure_steered_concepts.py`; it takes some ten minutes. Step 3 of the rule, in `clamp_choice`, was changed once after we had seen such a table: read it as a look, and not as a blind test.) **Predict:** for how many of the eight does the latent mention its concept more often than the difference of means?

# %% id="use-eight"
every = runs.eight_concepts()
show.table(every, runs.IN_EIGHT)

# %% id="claims-eight-seen" tags=["claims"]
from mi_course.interp.sae import clamp_choice

eight = clamp_choice.steered().table.values()
of_latent, of_rise = (torch.tensor(list(every.values()))[:, a:b] for a, b in ((0, 3), (5, 7)))
passed = [
    sum(each["passes"][who] for each in eight) for who in ("latent", "difference of means")
]
lesson.seen("eight-passes", passed, "d")
lesson.seen("eight-norm", next(iter(eight))["norm"], ".0f")
lesson.seen("eight-latent", of_latent[:, 0].mean(), ".2f")
lesson.seen("eight-means", of_latent[:, 1].mean(), ".2f")
lesson.seen("eight-unsteered", of_latent[:, 2].mean(), ".2f")
lesson.seen("eight-more", int((of_latent[:, 1] > of_latent[:, 0]).sum()), "d")
lesson.seen("eight-rise", int((of_rise[:, 1] > of_rise[:, 0]).sum()), "d")
loss_of = {
    who: sum(each["loss"][who] for each in eight) / len(eight)
    for who in ("latent", "difference of means")
}
lesson.seen("eight-loss-latent", loss_of["latent"], ".2f")
lesson.seen("eight-loss-means", loss_of["difference of means"], ".2f")
hardly = [name for name, each in every.items() if each[0] < each[2] + 0.1]
lesson.seen("eight-hardly", hardly, "s")
claim(
    "in the mean of eight concepts either is mentioned more often than unsteered, by 0.1, and the difference of means more than the latent",
    float(of_latent[:, 0].mean() - of_latent[:, 2].mean()) > 0.1
    and bool(of_latent[:, 0].mean() < of_latent[:, 1].mean()),
)
claim(
    "in log-odds the difference of means is ahead for at least six of eight, and in mentions for at least five",
    int((of_rise[:, 1] > of_rise[:, 0]).sum()) >= 6
    and int((of_latent[:, 1] > of_latent[:, 0]).sum()) >= 5,
)

# %% [markdown] id="eight-seen"
# <details><summary>What you should see</summary>
#
# At norm {{seen:eight-norm}}, over eight concepts, {{seen:eight-latent}} of the texts mention the concept under its latent and {{seen:eight-means}} under the difference of means, against {{seen:eight-unsteered}} unsteered. One by one, the difference of means has more mentions for {{seen:eight-more}} of the eight, and the larger rise of the log-odds for {{seen:eight-rise}}. Such counts still move by one or so from seed to seed; with a sixth of the texts, as in our first table, they moved by more. The order of the means did not. The bar of `my_clamp` is passed by {{seen:eight-passes}} of them (latents, then differences of means); in the first table it seemed to be five latents.
#
# So the difference of means is ahead in the mean. Part of its lead comes from concepts for which the rule found no latent that does much ({{seen:eight-hardly}}). In nats it is not the cheaper one: at the same norm {{seen:eight-loss-means}} per token, against {{seen:eight-loss-latent}}. What it saves is the work. Behind the latents are a long training and a search among candidates; behind the difference of means are some short sentences and one subtraction. Wu et al. (2025) found it ahead with much larger models and autoencoders, too. What the autoencoder has to offer is another thing: it has the direction *without being told what to look for*.
#
# And a word is not a concept. The latent for the sea writes about ships, and now and then about a spaceship: that counts here as well.
# </details>

# %% [markdown] id="part-5"
# ## 5. Blind
#
# Whoever knows which text was steered finds the concept in it. So shuffle the texts, and let a judge score them who does not know the condition. Be that judge yourself first: read these, and write down which of them come from the clamped model.

# %% id="blind" tags=["not-compared"]
norm = clamps.Clamp(sae, LATENT, VALUE).norm
moves = {name: make(norm)[0] for name, make in rivals.items() if name != "random latents"}
moves["nothing"] = None
several = study.write(list(moves.values()), PROMPTS, samples=2, max_new_tokens=20, seed=1)
written = dict(zip(moves, several, strict=True))
blind = runs.shuffled(written, seed=3)[:16]
for number, (_, text) in enumerate(blind, start=1):
    print(f"{number:2}  {model.tokenizer.decode(text.prompt[1:])}{text.text!r}")

# %% [markdown] id="use-blind-intro"
# Done? Then here is who wrote which of them, and what a judge says who counts words of the concept and knows no condition. It has read all sixty-four, shuffled.

# %% id="use-blind" tags=["not-compared"]
listed = [*CONCEPTS[CONCEPT].words, *CONCEPTS[CONCEPT].held_out]
judged = runs.blind_table(study, written, listed, blind)
show.table(judged, ["texts", "share with the concept", "nats per token, unsteered model"])

# %% id="claims-blind-seen" tags=["claims"]
ours, means_, directions_, unsteered = (row[1] for row in judged.values())
lesson.seen("blind-ours", 100 * ours, ".0f")
lesson.seen("blind-means", 100 * means_, ".0f")
lesson.seen("blind-other", 100 * max(unsteered, directions_), ".0f")
lesson.seen("blind-texts", len(written["latent"]), "d")
claim(
    "latent and difference of means have at least three mentions more in 32 texts than the two controls in as many",
    16 * (ours + means_ - directions_ - unsteered) > 2.5,
)

# %% [markdown] id="blind-seen"
# <details><summary>What you should see</summary>
#
# The blind judge had {{seen:blind-texts}} texts of each condition. It finds words of the concept in {{seen:blind-ours}} % of those of the latent, in {{seen:blind-means}} % of those of the difference of means, and in {{seen:blind-other}} % of the others at most. How many of the texts above did *you* get right, and which did you take for steered only because they were odd? Odd texts come from random vectors, too.
#
# Which of the two is ahead is not settled by so few texts. The judge counts the words, too, with which the latent was searched, on the prompts of the search; that it beats the controls by so much is no surprise, then. And a judge who counts words is blind in another way: a text about debts that avoids the listed words does not count, and one about a river's bank does. To be surer one would take more texts, and a judge who reads.
# </details>

# %% [markdown] id="part-6"
# ## 6. Is it better than a neuron?
#
# A latent was active where the concept is. How specifically? And would something simpler do? For a number between a latent and a concept take the AUROC: how often is it higher in a context with the concept than in one without?

# %% [markdown] id="specificity-intro"
# Both scores need a threshold: active or not. To ask whether a latent is *about* a concept, compare its activations on examples with the concept and on examples without, whatever their size.

# %% [markdown] id="ask-specificity"
# ### With the concept, and without
#
# {{exercise specificity}}
#
# Compare each activation in `f_concept` with each in `f_other`. A pair counts 1 where that with the concept is larger, ½ where the two are equal, 0 where it is smaller; return the mean over all pairs, a number. It is 1 if the concept always wins, ½ by chance, and *below* ½ if the latent is less active on the concept. Activations may be negative, tiny or large, many may be equal, and the two sides may differ in length. At most 300 are asked for on either side, so a table of all pairs is fine. If a side is empty there are no pairs: return 0.5.


# %% id="answer-specificity"
def specificity(f_concept: Float[Tensor, "n"], f_other: Float[Tensor, "m"]) -> float:
    """The AUROC: how often an activation with the concept is larger than one without; equal ones count one half.

    0.5 if a side is empty.
    """
    # BEGIN SOLUTION
    if len(f_concept) == 0 or len(f_other) == 0:
        return 0.5
    table = f_concept[:, None]
    return float(((table > f_other).double() + 0.5 * (table == f_other)).mean())
    # END SOLUTION


lesson.check(specificity)

# %% [markdown] id="passages-intro"
# ## A latent for a concept
#
# Below are short passages from books and textbooks. A passage counts as *about* a concept if it contains two different words of a list, and as not about it if it contains none; with a single word it is left out. Both kinds of text have equally many passages about each concept, and an AUROC is computed within each kind and then averaged: some latents tell books from textbooks, and that is none of your concepts. Such labels are cheap and crude: look at the second passage "about the sea".
#
# The largest activation over a passage is recorded for each of the 4,608 latents of `middle-4608`.

# %% id="passages"
from mi_course.interp.sae import concepts

train = concepts.concept_contexts("train")
sea = [i for i, label in enumerate(train.about["the sea"].tolist()) if label == 1]
for i in (sea[0], sea[-1]):
    print(f"{train.kinds[i]}: {train.texts[i].strip()}\n")

# %% [markdown] id="use-concepts-intro"
# For each concept, five AUROCs. The median of 200 latents that are drawn at random. The best of twenty of them, chosen on the training passages, *there* and on held-out passages. The best of all 4,608, likewise. **Predict:** how good is the best of twenty random latents? How much of a score is lost on the way to new passages?

# %% id="use-concepts"
area, held_out = lesson.use("specificity"), concepts.concept_contexts("held out")
chosen = runs.selected(area, train, held_out)
rows = {name: row[:5] for name, row in chosen.items()}
show.table(rows, runs.IN_SELECTED, title="AUROC")

# %% id="claims-concepts-seen" tags=["claims"]
table = torch.tensor(list(chosen.values()))
middle = table.mean(dim=0)
for place, name in enumerate(("random", "few-train", "few", "best-train", "best", "means")):
    lesson.seen(f"concept-{name}", middle[place], ".2f")
claim(
    "in the mean of six concepts the best of all loses on the way to held-out passages, and beats the best of 20 there by 0.05",
    bool(middle[4] < middle[3]) and bool(middle[4] > middle[2] + 0.05),
)
claim("a random latent is within 0.05 of one half", bool((middle[0] - 0.5).abs() < 0.05))

# %% [markdown] id="concepts-seen"
# <details><summary>What you should see</summary>
#
# In the mean of six concepts a random latent has an AUROC of {{seen:concept-random}}. The best of a few looks like {{seen:concept-few-train}} on the passages that chose it, and has {{seen:concept-few}} on new ones. The best of all has {{seen:concept-best-train}} and {{seen:concept-best}}. So there are latents for these concepts, well above what a search among a few yields. Both scores shrink on the way to new passages, by little here, since there are enough of them. With fewer passages, or more latents to choose from, a score on the passages that did the choosing flatters more.
# </details>

# %% [markdown] id="ask-my_features"
# ### Your features
#
# {{exercise my_features}}
#
# Give a dictionary from the six names in `concepts.CONCEPTS` to numbers of latents; each concept is worth one point. A latent's value for a passage is its largest activation over the passage's tokens, without BOS and massive tokens. It is judged on the held-out passages, none from a document of the training passages: the AUROC of passages about the concept against passages not about it, ties one half, within books and within textbooks, and the mean of the two.
# That must be above the 95th percentile of 200 random choices. Each of these takes 20 random latents, of those that are active on at least five training passages, and keeps the one with the largest AUROC on the *training* passages, computed in the same way; its AUROC on the held-out passages is what counts. So chance may search too.

# %% id="answer-my_features"
from mi_course.interp.sae import concepts

passages = concepts.concept_contexts("train")
# my_features = {"the sea": 123, "medicine": 45, ...}
# BEGIN SOLUTION
my_features = {name: int(passages.areas(name).argmax()) for name in concepts.CONCEPTS}
# END SOLUTION

lesson.check(my_features, name="my_features")

# %% [markdown] id="beside-intro"
# Beside it the simplest rival: the mean residual stream of the training passages about a concept, minus the mean of the others (within each kind of text, then averaged). A passage's value is the largest projection of its tokens on that direction. No SAE is needed for it.

# %% id="beside"
found = concepts.compare(lesson.use("my_features"))
columns = ["latent", "training", "held out", "95 % of random choices", "difference of means"]
show.table(found, columns, digits=(0, 2, 2, 2, 2))

# %% id="claims-beside-seen" tags=["claims"]
lesson.seen("bar-low", min(one.bar for one in found.values()), ".2f")
lesson.seen("bar-high", max(one.bar for one in found.values()), ".2f")
lesson.seen("means-low", min(one.difference_of_means for one in found.values()), ".2f")
wins = sum(one.difference_of_means > one.held_out for one in found.values())
lesson.seen("means-wins", wins, "d")
lesson.seen("means-passages", int((train.about["the sea"] == 1).sum()), "d")
claim(
    "each latent is above its bar by 0.03",
    all(one.held_out > one.bar + 0.03 for one in found.values()),
)
claim("the difference of means wins for at least four of six concepts", wins >= 4)

# %% [markdown] id="beside-seen"
# <details><summary>What you should see</summary>
#
# Chance that may search reaches {{seen:bar-low}} to {{seen:bar-high}}, far from one half: that is what "the best of several" is worth. A latent for each concept is clearly above it. And the difference of means, which needs no SAE and no search, has at least {{seen:means-low}} and wins for {{seen:means-wins}} of the six concepts, as it does in AxBench (Wu et al. 2025). It was *fitted* to the concept, on {{seen:means-passages}} labelled passages, where a latent had to be there already; with few passages it need not win. The passages favor it, too: they were chosen by words, and each word moves the stream. What an SAE offers is not the better detector. It is a list of candidates for concepts that nobody has labels for.
# </details>

# %% [markdown] id="compare-bases-intro"
# Are latents better than what the model comes with, the neurons of its MLPs? For one concept take the best single latent and the best single neuron. There are thousands of each, and the best of thousands is lucky: choose on some rows, and measure on others.

# %% [markdown] id="ask-compare_bases"
# ### Latents against neurons
#
# {{exercise compare_bases}}
#
# `f_sae[r, i]` is the activation of latent i in row r, `f_neurons[r, j]` that of neuron j; `labels[r]` says whether row r has the concept. For each basis by itself:
#
# 1. On the rows where `train` is true, take each column's AUROC for true against false labels, as in `specificity`. The best column is the one whose AUROC is *furthest from ½*, above or below; among equals the first. (Equals are asked for only where all AUROCs are multiples of 1/32, so that rounding decides nothing.)
# 2. On the rows where `train` is false, take that column's AUROC. If the one on the training rows was below ½, return 1 minus it: the sign is part of the choice. So a result can be below ½.
#
# Return the two numbers, the latent's first. An AUROC without true or without false rows is ½, as above: if the training rows have one label, or there are none, the first column is chosen with the positive sign; if the test rows have one label, or there are none, both results are ½. There is at least one latent and one neuron, and activations may have any sign and unit.


# %% id="answer-compare_bases"
def compare_bases(
    f_sae: Float[Tensor, "n F"],
    f_neurons: Float[Tensor, "n N"],
    labels: Bool[Tensor, "n"],
    train: Bool[Tensor, "n"],
) -> tuple[float, float]:
    """Held-out AUROC of the best single latent and of the best single neuron, either sign for both.

    labels: which rows have the concept. train: the rows that choose column and sign; the others are reported.
    """

    # BEGIN SOLUTION
    def best(f):
        known = [specificity(c[train & labels], c[train & ~labels]) for c in f.T]
        i = max(range(len(known)), key=lambda column: abs(known[column] - 0.5))
        area = specificity(f[~train & labels, i], f[~train & ~labels, i])
        return area if known[i] >= 0.5 else 1 - area

    return best(f_sae), best(f_neurons)
    # END SOLUTION


lesson.check(compare_bases)

# %% [markdown] id="use-bases-intro"
# Latents for concepts, then, but a neuron is cheaper. And the best of many has an advantage over the best of few, so count: 4,608 latents, 1,536 neurons in layer 14, fifteen times as many in all layers up to it. And as many *random directions* of the same residual stream as there are latents. A neuron may be strong or weak where the concept is, and counts with its largest and with its smallest value in a passage. Each concept is told from the passages about the other five.
#
# **Predict** the order.

# %% id="use-bases"
against = lesson.use("compare_bases")
peaks = runs.other_bases(model, sae, (train, held_out), range(15), n_directions=4608)
by_basis = runs.bases(against, train, held_out, peaks)
by_basis["mean"] = torch.tensor(list(by_basis.values())).mean(dim=0)
show.table(by_basis, runs.IN_BASES, title="AUROC on held-out passages")

# %% id="claims-bases-seen" tags=["claims"]
average = by_basis["mean"].tolist()
for place, name in enumerate(("latent", "neuron", "neurons", "direction", "means")):
    lesson.seen(f"basis-{name}", average[place], ".2f")
claim(
    "latents and neurons beat random directions, in the mean of six concepts",
    min(average[0], average[2]) > average[3],
)
claim(
    "latents beat the neurons of their layer by 0.03, and neurons of all layers come within 0.05 of latents",
    average[0] > average[1] + 0.03 and abs(average[0] - average[2]) < 0.05,
)

# %% [markdown] id="bases-seen"
# <details><summary>What you should see</summary>
#
# On held-out passages, in the mean of six concepts: the best latent {{seen:basis-latent}}, the best neuron of the same layer {{seen:basis-neuron}}, the best neuron of all layers up to there {{seen:basis-neurons}}, the best of as many random directions as there are latents {{seen:basis-direction}}, the difference of means {{seen:basis-means}}.
#
# The latent is ahead of the neurons of its own layer in the mean; for single concepts a neuron may be as good or better. Among the neurons of *all* layers there is one that is about as good, and the best random direction falls short of both.
#
# In 2023 the question of whether latents are more interpretable than neurons was asked of neurons of *one* small layer (Bricken et al. 2023), and the answer was clear. Count fairly, and it is less so: which basis has the best single unit for a concept depends on how many units one may choose from, and on which layers. (Here the kinds of text are not kept apart, and the concepts were defined by words. The best neurons are in several layers.)
# </details>

# %% [markdown] id="part-7"
# ## 7. Take it out
#
# That a latent *can* move the text does not show that the model needs it. Set it to zero where it is active, keep the error, and look at what is lost.

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

# %% [markdown] id="use-ablation-intro"
# Rows in which our latent is active most often. It is set to 0, and we look at the loss on the next token, where the latent was active and where it was not. The control takes a *random* direction out, of exactly the length that the latent writes on each token. Then the same with four latents drawn at random, each on its own rows.
#
# **Predict:** how many nats does the model lose per active token? And which words does it lose?

# %% id="use-ablation"
effect = lesson.use("ablation_effect")
lost = {i: runs.ablate(model, sae, reading, i, effect) for i in (LATENT, *forty[:4])}
columns = ["active tokens", "nats there", "elsewhere", "there: a random direction"]
print(show.table(runs.ablation_table(lost), columns, digits=(0, 3, 3, 3)))
costliest = max(lost, key=lambda i: lost[i][0].here)
for i in (LATENT, costliest):
    words = runs.lost_words(lost[i][0], 6)
    print(show.table(words, ["nats", "after", "next token"], title=f"without {i}", left=True))

# %% id="claims-ablation-seen" tags=["claims"]
mine, by_chance = lost[LATENT]
others = [pair for i, pair in lost.items() if i != LATENT]
above = torch.tensor([without.here - control.here for without, control in others])
lesson.seen("lost-here", mine.here, "+.3f")
lesson.seen("lost-elsewhere", mine.elsewhere, "+.3f")
lesson.seen("lost-random", by_chance.here, "+.3f")
lesson.seen("costly", costliest, "d")
lesson.seen("costly-nats", lost[costliest][0].here, ".1f")
lesson.seen("costly-tokens", len(lost[costliest][0].at), "d")
half = torch.tensor([nats for *_, nats in mine.at]).median()
lesson.seen("lost-half", half, "+.3f")
lesson.seen("lost-above", above.median(), "+.3f")
claim(
    "our latent costs at least 0.02 nats more than its random direction, and less than 0.2",
    by_chance.here + 0.02 < mine.here < 0.2,
)
claim(
    "another latent costs more than 0.5 nats, and more than 0.3 above its random direction",
    costliest != LATENT and lost[costliest][0].here > max(0.5, lost[costliest][1].here + 0.3),
)
claim(
    "the median of four random latents costs at most 0.05 nats more than its random direction",
    float(above.median()) < 0.05,
)
claim(
    "on half of the tokens on which our latent is active its ablation costs less than 0.05 nats",
    abs(half) < 0.05,
)

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# Without our latent the model loses {{seen:lost-here}} nats per token where it was active, and {{seen:lost-elsewhere}} on the other tokens of the same rows. A random direction of the same length, on the same tokens, costs {{seen:lost-random}}. The words that lose most are in sentences about the concept: the latent is there for something. But the loss is small, and a few tokens carry it: the median is {{seen:lost-half}}. A model in which a concept lived in one place would lose the concept; this one has the rest of the text, and other latents.
#
# One of the others is of another kind: without latent {{seen:costly}} the model loses {{seen:costly-nats}} nats where it was active. The second table shows where: on a handful of tokens ({{seen:costly-tokens}}), nearly all of them before an apostrophe. There it is necessary in the plain sense of the word. Such latents are rare, and to draw one among four is luck: in the median of the four, ablation and random direction differ by {{seen:lost-above}} nats (and that is *one* direction, whose number scatters by some hundredths of a nat).
#
# So a latent may be *sufficient* to move the text and hardly *necessary* for it, or the other way around. "The model uses this feature for …" is two claims, and each needs its own measurement.
# </details>

# %% [markdown] id="part-8"
# ## 8. When a label lies
#
# Bolukbasi et al. (2021) named neurons of BERT by their top sentences, and the names depended on the corpus that the sentences came from. Try it: what is latent 1585 active on in books, and what in textbooks? A name is here the set of words at the twenty strongest activations.
#
# Two controls belong to it. Names from two halves of *one* kind of text differ as well, since examples are few. And a word that a kind of text does not contain cannot be in its name: of the words that are in one name only, how many does the other kind of text not contain at all, and how is that for words at random tokens, whatever the latent? **Predict:** how much of the difference is left?

# %% id="use-lies"
names, numbers = runs.names_by_kind(model, sae, train, 1585)
for kind, words in names.items():
    print(f"{kind}: {', '.join(words)}")
show.table(numbers, runs.IN_NAMES)

# %% id="claims-lies-seen" tags=["claims"]
between, within, absent, anyway = list(numbers.values())[1]
lesson.seen("names-between", between, ".2f")
lesson.seen("names-within", within, ".2f")
lesson.seen("names-absent", absent, ".2f")
lesson.seen("names-anyway", anyway, ".2f")
claim(
    "law and medicine are in the name from books, not in that from textbooks",
    {"law", "medicine"} <= {*names["books"]} - {*names["textbooks"]},
)
claim("over 60 latents, names from two kinds share less than 0.25", between < 0.25)
claim("and names from halves of one kind at most 0.08 more", within < between + 0.08)
claim(
    "of words in one name only at least 0.3 are absent from the other kind, and of those at random tokens at most 0.2 fewer",
    absent > 0.3 and anyway > absent - 0.2,
)

# %% [markdown] id="lies-seen"
# <details><summary>What you should see</summary>
#
# Two names indeed: in books it looks like the learned professions, in textbooks like branches of science, and both lists have words that fit neither. But look at the controls. Names of random latents from two kinds of text have {{seen:names-between}} of their words in common, and names from two halves of one kind only {{seen:names-within}}: most of the disagreement comes with short lists, not with kinds of text. And of the words that only one name has, {{seen:names-absent}} cannot be in the other, since that text does not contain them. For words at random tokens, in which the latent has no part, that is {{seen:names-anyway}}: vocabulary explains much of the difference, not all. What looks like two meanings is mostly sampling and vocabulary. That does not save the label: whoever had seen only one of the lists would have been as sure of it.
#
# So a label can lie in three ways. It fits the top of the list and nothing below. It fits the text in which somebody looked. Or it merely differs from another label, which proves nothing. Only a score on other text tells them apart.
# </details>

# %% [markdown] id="mystery-intro"
# ## A name for a latent
#
# A latent is waiting for its name. Open its page, and read the quantiles as well as the top. `word_labels.mystery_contexts()` has passages of 32 tokens in which it is active, and as many of the same documents in which it is not.

# %% id="mystery"
from mi_course.interp.sae import word_labels

fit = word_labels.mystery_contexts("train")
print(f"latent {word_labels.mystery()}: {int(fit.fired.sum())} of {len(fit)} passages active")
for i in (*fit.peaks.argsort(descending=True)[:3], *(~fit.fired).nonzero()[:2, 0]):
    print(f"{float(fit.peaks[i]):5.1f}  {fit.texts[i].strip()!r}")

# %% [markdown] id="ask-my_label"
# ### Your label
#
# {{exercise my_label}}
#
# Give a list of 1 to 40 entries. An entry is a word of letters and digits, or the beginning of one followed by a star: `"ship*"` matches ship, ships and shipping. Case does not matter. The label predicts "active" for a passage that contains a matching word. It is judged by the detection score, the balanced accuracy, on held-out passages: half of them active, the others from the same documents, none in the feature index or from a document of the training passages.
# The score must be at least 0.15 above each of three controls on the same passages: the 95th percentile of 200 random labels with as many entries as yours, drawn from the words of the active training passages; the 95th percentile of 100 labels that `word_labels.fit_words` fitted to as many other latents; and the single word, or beginning of four letters or more, that scores best on the training passages.

# %% id="answer-my_label"
from mi_course.interp.sae import word_labels

fitting = word_labels.mystery_contexts("train")
# my_label = ["ship*", "boat", ...]
# BEGIN SOLUTION
my_label = word_labels.fit_words(fitting.texts, fitting.fired)
# END SOLUTION

lesson.check(my_label, name="my_label")

# %% [markdown] id="part-9"
# ## 9. What would count as finding a feature?
#
# By now you have seven kinds of numbers, though no latent that has them all: how far down its name holds, how well a label detects it on new text and inside one kind of text, how specific it is beside the best of a few random latents, what it does to the text when it is held and what that costs, whether a vector that nobody had to train does the same, and what is lost without it. It would be convenient if they agreed.
#
# *Reflect*, before you read on. Write down what a colleague would have to show you before *you* would say "this model has a feature for the sea". Which of the numbers above would have to come out how, and against which control? And which of them could come out well for a direction that means nothing?
#
# <details><summary>What we would ask for</summary>
#
# 1. *A name that was written down before the test*, and a score on text that had no part in it, within one kind of text, against another latent's label.
# 2. *Sensitivity as well as specificity.* A latent that is active only on the concept, but on a tenth of it, is a feature of something narrower.
# 3. *An effect with its price*: concept and coherence at the same dose, against random latents and random directions of the same length, scored blind.
# 4. *A competitor that cost nothing*: a difference of means, a neuron. If these do as well, the autoencoder has found the concept, but it was not needed for finding it.
# 5. *Another autoencoder.* Does the latent come back with another seed, another width? The card of `middle-1152` has a number for that.
#
# None of the five says that the model *thinks in* these features. They say how much is left of the claim when the easy explanations are gone.
# </details>

# %% id="claims-recap" tags=["claims"]
inside_kind = scores.table()["fitted"][2]
fading = list(faded.values())[-1]
lesson.seen("recap-low", 100 * fading[-1], ".0f")
lesson.seen("recap-inside", inside_kind, ".2f")
lesson.seen("recap-neurons", by_basis["mean"][2], ".2f")
lesson.seen("recap-latent", by_basis["mean"][0], ".2f")
claim(
    "over 40 latents names fade down the ranks, and fitted labels inside a kind are nearer to chance than to 1",
    fading[-1] < fading[0] and inside_kind < 0.75,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You held one latent fixed and a language model changed its subject. Then you took the discovery apart. You wrote the three parts of a feature page, and saw the name from the top of the list fade: in the lower half of the ranks {{seen:recap-low}} % of the tokens are those that name a latent. You made names into claims, scored them on text that had no part in them, and found that inside one kind of text {{seen:recap-inside}} is what fitted labels reach. You steered with the error kept and priced every mention in nats, against latents, directions and a difference of means of the same length; in the mean of eight concepts the difference of means had more mentions. You chose latents for concepts on one set of passages and were judged on another, and let neurons of all layers compete, which did about as well ({{seen:recap-neurons}}, beside {{seen:recap-latent}} for latents). You took the first latent out, and saw how little the model misses it; and another, narrow one, that it misses at once.
#
# **What a small model cannot show.** Templeton et al. (2024) have latents for concepts that ours has no idea of, in several languages and in pictures; they rate specificity with a language model as judge, which reads for meaning where our rules read for words. Their tour shows chosen features, and they say so. What carries over from here is not the numbers but the controls. Ask of the next feature you are shown what each of them would have said.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Templeton et al. 2024, *Scaling Monosemanticity*. Read the sections on specificity and on limitations, and list which of its claims about a feature would survive the controls of this lesson.
