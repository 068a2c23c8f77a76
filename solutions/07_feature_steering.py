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
# You will find latents for concepts in a sparse autoencoder of SmolLM2 and name one that nobody has named.
#
# About {{minutes}} minutes · {{points}} points.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("feature_steering"), mi_course.load_model(compatibility=False)

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
about, other = train.split("the sea", "books")
print(
    f"{len(about)} passages of books about the sea, {len(other)} not; {about.shape[1]:,} latents"
)

# %% [markdown] id="ask-my_features"
# ### Your features
#
# {{exercise my_features}}
#
# Give a dictionary from the six names in `concepts.CONCEPTS` to numbers of latents; each concept is worth one point. A latent's value for a passage is its largest activation over the passage's tokens, without BOS and massive tokens. It is judged on the held-out passages, none from a document of the training passages: the AUROC of passages about the concept against passages not about it, ties one half, within books and within textbooks, and the mean of the two.
# That must be above the 95th percentile of 200 random choices. Each of these takes 20 random latents, of those that are active on at least five training passages, and keeps the one with the largest AUROC on the *training* passages, computed in the same way; its AUROC on the held-out passages is what counts. So chance may search too.

# %% id="answer-my_features"
# my_features = {"the sea": 123, "medicine": 45, ...}
# BEGIN SOLUTION
from mi_course.interp.sae import concepts

passages = concepts.concept_contexts("train")
my_features = {name: int(passages.areas(name).argmax()) for name in concepts.CONCEPTS}
# END SOLUTION

lesson.check(my_features, name="my_features")

# %% [markdown] id="beside-intro"
# Beside it the simplest rival: the mean residual stream of the training passages about a concept, minus the mean of the others (within each kind of text, then averaged). A passage's value is the largest projection of its tokens on that direction. No SAE is needed for it.

# %% id="beside"
features = lesson.use("my_features")
found = concepts.compare(features)
show.table(
    {
        name: [one.latent, one.train, one.held_out, one.bar, one.difference_of_means]
        for name, one in found.items()
    },
    ["latent", "training", "held out", "95 % of random choices", "difference of means"],
    digits=[0, 2, 2, 2, 2],
)

# %% id="claims-beside-seen" tags=["claims"]
from mi_course import claim

lesson.seen("bar-low", min(one.bar for one in found.values()), ".2f")
lesson.seen("bar-high", max(one.bar for one in found.values()), ".2f")
lesson.seen("means-low", min(one.difference_of_means for one in found.values()), ".2f")
wins = sum(one.difference_of_means > one.held_out for one in found.values())
lesson.seen("means-wins", wins, "d")
claim(
    "each latent is above its bar by 0.03",
    all(one.held_out > one.bar + 0.03 for one in found.values()),
)
claim("the difference of means wins for at least four of six concepts", wins >= 4)

# %% [markdown] id="beside-seen"
# <details><summary>What you should see</summary>
#
# Chance that may search reaches {{seen:bar-low}} to {{seen:bar-high}}, far from one half: that is what "the best of several" is worth. A latent for each concept is clearly above it. And the difference of means, which needs no SAE and no search, has at least {{seen:means-low}} and wins for {{seen:means-wins}} of the six concepts, as it does in AxBench (Wu et al. 2025). It was *fitted* to the concept, where a latent had to be there already. The passages favor it, too: they were chosen by words, and each word moves the stream. What an SAE offers is not the better detector. It is a list of candidates for concepts that nobody has labels for.
# </details>

# %% [markdown] id="mystery-intro"
# ## A name for a latent
#
# A latent is waiting for its name. Open its page, and read the quantiles as well as the top. `word_labels.mystery_contexts()` has passages of 32 tokens in which it is active, and as many of the same documents in which it is not.

# %% id="mystery"
from mi_course.interp.sae import word_labels

fit = word_labels.mystery_contexts("train")
print(
    f"latent {word_labels.mystery()}: {int(fit.fired.sum())} passages active, {int((~fit.fired).sum())} not"
)
for i in (
    fit.peaks.argsort(descending=True)[:3].tolist() + (~fit.fired).nonzero()[:2, 0].tolist()
):
    print(f"{float(fit.peaks[i]):5.1f}  {fit.texts[i].strip()!r}")

# %% [markdown] id="ask-my_label"
# ### Your label
#
# {{exercise my_label}}
#
# Give a list of 1 to 40 entries. An entry is a word of letters and digits, or the beginning of one followed by a star: `"ship*"` matches ship, ships and shipping. Case does not matter. The label predicts "active" for a passage that contains a matching word. It is judged by the detection score, the balanced accuracy, on held-out passages: half of them active, the others from the same documents, none in the feature index or from a document of the training passages.
# The score must be at least 0.15 above each of three controls on the same passages: the 95th percentile of 200 random labels with as many entries as yours, drawn from the words of the active training passages; the 95th percentile of 100 labels that `word_labels.fit_words` fitted to as many other latents; and the single word, or beginning of four letters or more, that scores best on the training passages.

# %% id="answer-my_label"
# my_label = ["ship*", "boat", ...]
# BEGIN SOLUTION
from mi_course.interp.sae import word_labels

fitting = word_labels.mystery_contexts("train")
my_label = word_labels.fit_words(fitting.texts, fitting.fired)
# END SOLUTION

lesson.check(my_label, name="my_label")

# %% [markdown] id="two-names-intro"
# ## When a label lies
#
# Bolukbasi et al. (2021) named neurons of BERT by their top sentences, and the names depended on the corpus that the sentences came from. Try it: what is latent 1585 active on in books, and what in textbooks? A name is here the set of words at the twenty strongest activations.
#
# Two controls belong to it. Names from two halves of *one* kind of text differ as well, since examples are few. And a word that a kind of text does not contain cannot be in its name: of the words that are in one name only, how many does the other kind of text contain at all, and how is that for words in general, whatever the latent? **Predict:** how much of the difference is left?

# %% id="two-names"
from mi_course.interp.sae import load_shipped
from mi_course.interp.sae.two_names import two_names

sae = load_shipped("middle-4608", model=model)
passages = concepts.concept_contexts("train")
rows = list(range(0, len(passages), 2))
f = concepts.context_activations(model, sae, passages.tokens[rows])
words = [model.to_str_tokens(passages.tokens[i]) for i in rows]
kinds = [passages.kinds[i] for i in rows]
books = torch.tensor([kind == "books" for kind in kinds])
named = two_names(f[..., 1585], words, kinds)
for kind, name in named.names.items():
    print(f"{kind}: {', '.join(name)}")

active = torch.stack([(f[books] > 0).sum((0, 1)), (f[~books] > 0).sum((0, 1))]).amin(0)
enough = (active >= 30).nonzero()[:, 0]
drawn = enough[torch.randperm(len(enough), generator=torch.Generator().manual_seed(0))[:60]]
many = torch.tensor([two_names(f[..., i], words, kinds, splits=4)[1:] for i in drawn.tolist()])
show.table(
    {"latent 1585": list(named[1:]), "60 random latents": many.mean(0).tolist()},
    ["shared by two kinds", "by halves of one kind", "absent there", "absent there, any word"],
)

# %% id="claims-two-names-seen" tags=["claims"]
between, within, absent, anyway = many.mean(0).tolist()
lesson.seen("names-between", between, ".2f")
lesson.seen("names-within", within, ".2f")
lesson.seen("names-absent", absent, ".2f")
lesson.seen("names-anyway", anyway, ".2f")
claim(
    "law and medicine are in the name from books, not in that from textbooks",
    {"law", "medicine"} <= {*named.names["books"]} - {*named.names["textbooks"]},
)
claim("over 60 latents, names from two kinds share less than 0.25", between < 0.25)
claim("and names from halves of one kind at most 0.08 more", within < between + 0.08)
claim(
    "words of one name are absent from the other kind no more often than any words",
    absent < anyway,
)

# %% [markdown] id="two-names-seen"
# <details><summary>What you should see</summary>
#
# Two names indeed: in books it looks like the learned professions, in textbooks like branches of science, and both lists have words that fit neither. But look at the controls. Names of random latents from two kinds of text have {{seen:names-between}} of their words in common, and names from two halves of one kind only {{seen:names-within}}: most of the disagreement comes with short lists, not with kinds of text. And of the words that only one name has, {{seen:names-absent}} cannot be in the other, since that text does not contain them. The latent has no part in this; of all different words it holds for {{seen:names-anyway}}. What looks like two meanings is mostly sampling and vocabulary. That does not save the label: whoever had seen only one of the lists would have been as sure of it.
# </details>
