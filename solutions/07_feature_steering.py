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
# Below are short passages from books and textbooks. A passage counts as *about* a concept if it contains two different words of a list, and as not about it if it contains none; with a single word it is left out. Both kinds of text have equally many passages about each concept, and an AUROC is computed within each kind and then averaged: books against textbooks is a difference that hundreds of latents know, and none of your concepts.
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
)

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
# The score must be at least 0.05 above each of three controls on the same passages: the 95th percentile of 200 random labels with as many entries as yours, drawn from the words of the active training passages; the 95th percentile of the labels of other latents, fitted like the next; and the single word or beginning (of four letters or more) that scores best on the training passages.

# %% id="answer-my_label"
# my_label = ["ship*", "boat", ...]
# BEGIN SOLUTION
from mi_course.interp.sae import word_labels

fitting = word_labels.mystery_contexts("train")
my_label = word_labels.fit_words(fitting.texts, fitting.fired)
# END SOLUTION

lesson.check(my_label, name="my_label")
