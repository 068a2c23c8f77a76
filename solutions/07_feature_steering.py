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
# You will find a feature in a language model, name it, test the name, and turn it up.
#
# About {{minutes}} minutes · {{points}} points · after lesson 06. The model is SmolLM2-135M-Instruct; compatibility mode is not needed. Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("feature_steering"), mi_course.load_model(compatibility=False)

# %% [markdown] id="detection-intro"
# A label is worth something if it says what it has not seen. So write it as a **rule** that a computer can apply, such as "the context holds a word for a month", apply it to contexts that took no part in finding it, and compare with where the latent was active. Paulo et al. (2024) call this **detection**, and let a language model judge by the label, where ours is judged by the rule itself.
#
# Latents are rare. If one is active in a hundredth of the contexts, the rule "never" is right in the rest, and knows nothing. So the two kinds of context are scored apart.

# %% [markdown] id="ask-detection_score"
# ### Does the label say when?
#
# {{exercise detection_score}}
#
# `predicted[c]` says whether the rule names context c, `fired[c]` whether the latent is active there. The true positive rate is the share of the *active* contexts that the rule names; the true negative rate is the share of the *other* contexts that it does not name. Return the mean of the two, a number. If a kind of context is absent, because the latent is active in all of them or in none, such contexts cannot show whether the rule is good: return 0.5, whatever the rule says. That holds for a single context and for no context at all too.

# %% id="answer-detection_score"
from jaxtyping import Bool, Float
from torch import Tensor


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

# %% id="claims-recap" tags=["claims"]
from mi_course import claim

claim(
    "a rule that says yes to everything scores one half",
    detection_score(torch.tensor([True, True]), torch.tensor([True, False])) == 0.5,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You scored a label.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}} One paper: Templeton et al. (2024), "Scaling monosemanticity".
