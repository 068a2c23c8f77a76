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
# (not written yet) What the learner can do afterwards, in one sentence.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("entities_and_uncertainty"), mi_course.load_model()

# %% [markdown] id="ask-label_known"
# ### What counts as known
#
# {{exercise label_known}}
#
# Row e says which attributes of entity e the model got right. At least two right: `"known"`. None right: `"unknown"`. Exactly one: `"dropped"`, since one right answer may be luck (Ferrando et al. 2024). That holds for any number of attributes from one on; with a single one nothing can be known. A list of
# strings comes back, in the order of the entities; no entities give an empty list.

# %% id="answer-label_known"
import math

from jaxtyping import Bool, Float, Int
from torch import Tensor


def label_known(correct: Bool[Tensor, "entity attribute"]) -> list[str]:
    """What the model knows about each entity: "known", "unknown" or "dropped".

    correct: whether it named each attribute of each entity.
    """
    # BEGIN SOLUTION
    labels = []
    for right in correct.sum(dim=1).tolist():
        labels.append("known" if right >= 2 else "unknown" if right == 0 else "dropped")
    return labels
    # END SOLUTION


lesson.check(label_known)

# %% [markdown] id="ask-group_folds"
# ### Folds that keep an entity together
#
# {{exercise group_folds}}
#
# `groups[i]` names the group of row i. Return `n_folds` lists of rows: list k holds the test rows of fold k, and each row stands in exactly one list. All rows of a group stand in the same list. The numbers of *groups* in two lists differ by at most one, however many rows the groups have. Which groups
# come together is random: the seed decides, any two groups are as likely to share a fold as any other two, and the global random state stays as it is. The order of the lists and within them is free. Raise `ValueError` if `n_folds` is below two or above the number of groups.


# %% id="answer-group_folds"
def group_folds(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    """The test rows of each fold of a cross-validation that splits no group.

    groups: the group of each row. Raises ValueError unless 2 <= n_folds <= number of groups.
    """
    # BEGIN SOLUTION
    names = sorted(set(groups))
    if not 2 <= n_folds <= len(names):
        raise ValueError(f"{len(names)} groups cannot be dealt to {n_folds} folds")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {names[group]: place % n_folds for place, group in enumerate(order)}
    return [[i for i, name in enumerate(groups) if fold_of[name] == k] for k in range(n_folds)]
    # END SOLUTION


lesson.check(group_folds)

# %% [markdown] id="ask-fit_probe"
# ### A logistic probe
#
# {{exercise fit_probe}}
#
# Standardize each column: subtract its mean over the rows, divide by its standard deviation (the root of the *mean* squared deviation: divide by n). In these units minimize, over a vector $v$ and a number $c$,
#
# $$\frac{1}{n}\sum_i \log\left(1 + e^{-s_i (z_i \cdot v + c)}\right) + \frac{\lambda}{2} \lVert v \rVert^2, \qquad s_i = 1 \text{ where } y_i \text{ is true}, -1 \text{ elsewhere}.$$
#
# $\lambda$ is `l2`, above 0; the bias $c$ is not penalized. Then turn $v$ and $c$ into `w` and `b` for *raw* rows, so that `x @ w + b` equals $z \cdot v + c$. Go on until it converges: every weight is judged to half a percent, or to 0.0002 if it is tiny. A column whose entries are all equal gets the weight 0. Columns may lie far from zero, and
# differ in scale by a factor of a hundred; there may be more columns than rows; classes may be of unequal size. Raise `ValueError` if all of `y` is true or none is.


# %% id="answer-fit_probe"
def fit_probe(
    x: Float[Tensor, "n d"], y: Bool[Tensor, "n"], l2: float
) -> tuple[Float[Tensor, "d"], float]:
    """L2-regularized logistic regression, fitted on standardized columns: (w, b) for raw rows.

    Minimizes the mean log loss + l2/2 · ‖v‖², v the weights in standardized units. Row i is taken for true where
    x[i] @ w + b > 0. Raises ValueError if there is only one class.
    """
    # BEGIN SOLUTION
    if y.all() or not y.any():
        raise ValueError("a probe needs rows of both classes")
    x64, target = x.detach().double(), y.double()
    varies = (x64 != x64[0]).any(dim=0)
    mean, std = x64.mean(dim=0), x64.std(dim=0, correction=0).where(varies, 1.0)
    z = ((x64 - mean) / std).where(varies, 0.0)

    v, c = torch.zeros(x.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [v.requires_grad_(), c.requires_grad_()],
        max_iter=1000,
        tolerance_grad=1e-8,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        log_loss = torch.nn.functional.binary_cross_entropy_with_logits(z @ v + c, target)
        total = log_loss + l2 / 2 * v.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    w = v.detach() / std
    return w.float(), float(c.detach() - mean @ w)
    # END SOLUTION


lesson.check(fit_probe)

# %% [markdown] id="ask-auroc"
# ### AUROC
#
# {{exercise auroc}}
#
# It is the area under the ROC curve: 1 where every true row is above every false one, ½ by chance, 0 where all is the wrong way around. A pair with equal scores counts one half. Sort instead of comparing all pairs: 50,000 rows are asked for too, and no tensor on the way may have more than twenty entries for each row.
# Scores may be negative, and there may be many equal ones. Raise `ValueError` if all labels are true or none is. Return a number.


# %% id="answer-auroc"
def auroc(scores: Float[Tensor, "n"], labels: Bool[Tensor, "n"]) -> float:
    """The chance that a true row has a higher score than a false one; equal scores count one half.

    Takes O(n log n). Raises ValueError if there is only one class.
    """
    # BEGIN SOLUTION
    n_true = int(labels.sum())
    n_false = len(labels) - n_true
    if n_true == 0 or n_false == 0:
        raise ValueError("AUROC needs rows of both classes")
    _, which, counts = scores.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(dim=0).double()
    ranks = (last - (counts - 1) / 2)[which]  # equal scores share their mean rank
    above = ranks[labels].sum() - n_true * (n_true + 1) / 2
    return float(above / (n_true * n_false))
    # END SOLUTION


lesson.check(auroc)

# %% [markdown] id="ask-selectivity"
# ### What a probe can memorize
#
# {{exercise selectivity}}
#
# `fit(x, y)` returns `(w, b)`, and row i is taken for true where `x[i] @ w + b > 0`. Fit on the rows where `train` is true, and measure accuracy on the others. Do that twice: with `y`, and with the labels of a *control task* (Hewitt & Liang 2019), in which a random half of the entities (rounded down) is true and the other half
# false, all rows of an entity alike, in training and test rows. There are at least two entities. Return the first accuracy minus the second. The seed decides which entities are true; each half is equally likely, whatever `y` says, and the global random state stays as it is. Raise `ValueError` if an entity of a test row has no training row: its control
# label could not be memorized. A probe that has understood nothing, but remembers every entity, gets 1 − 1 = 0.


# %% id="answer-selectivity"
def selectivity(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, "n"],
    entities: list[str],
    train: Bool[Tensor, "n"],
    fit,
    seed: int,
) -> float:
    """A probe's accuracy on the test rows, minus its accuracy on a control task with random labels per entity.

    entities: the entity of each row. train: the rows to fit on; the others are the test rows.
    fit: from rows and labels to (w, b). Raises ValueError if an entity of a test row has no training row.
    """
    # BEGIN SOLUTION
    trained = {entity for entity, seen in zip(entities, train, strict=True) if seen}
    unseen = set(entities) - trained
    if unseen:
        raise ValueError(f"no training row of {sorted(unseen)[0]}")
    names = sorted(set(entities))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    true = {names[i] for i in order[: len(names) // 2]}
    control = torch.tensor([entity in true for entity in entities])

    def accuracy(labels):
        w, b = fit(x[train], labels[train])
        return float(((x[~train] @ w + b > 0) == labels[~train]).double().mean())

    return accuracy(y) - accuracy(control)
    # END SOLUTION


lesson.check(selectivity)

# %% [markdown] id="ask-permutation_p"
# ### Could it be chance?
#
# {{exercise permutation_p}}
#
# All rows of a group have one label; raise `ValueError` if a group has both. Shuffle the labels *of the groups* n times: each group gets the label of some group, each label goes to one group, and all rows of a group get its label. `fit_score(x, y)` says how well a probe does; high is good. Count the shuffles that score at least as well as
# the real labels, count the real labels themselves as one more, and divide by n + 1. So the least that can come out is 1/(n + 1). Groups may differ in size, their rows may stand anywhere, and n is at least 1. Scores that are equal are equal to the last bit. The seed decides, and the global random state stays as it is.


# %% id="answer-permutation_p"
def permutation_p(
    x: Float[Tensor, "n d"],
    y: Bool[Tensor, "n"],
    groups: list[str],
    fit_score,
    n: int,
    seed: int,
) -> float:
    """The p-value of a score under n random exchanges of labels between groups, the observed one counted.

    groups: the group of each row. fit_score: from rows and labels to a score, high for good.
    Raises ValueError if a group has rows with both labels.
    """
    # BEGIN SOLUTION
    names = sorted(set(groups))
    which = torch.tensor([names.index(group) for group in groups])
    label = torch.zeros(len(names), dtype=torch.bool)
    label[which] = y
    if not torch.equal(label[which], y):
        raise ValueError("a group has rows with both labels")
    generator = torch.Generator().manual_seed(seed)
    observed, as_good = fit_score(x, y), 1
    for _ in range(n):
        shuffled = label[torch.randperm(len(names), generator=generator)]
        as_good += int(fit_score(x, shuffled[which]) >= observed)
    return as_good / (n + 1)
    # END SOLUTION


lesson.check(permutation_p)

# %% [markdown] id="ask-match_on"
# ### Pairs that differ in nothing else
#
# {{exercise match_on}}
#
# Standardize each feature over all rows, as in `fit_probe` (divide by n; a feature whose values are all equal is 0 everywhere). A pair joins a true row with a false one whose Euclidean distance is at most `caliper`: `(true row, false row)`. No row stands in two pairs. There is no one right list: yours is judged by these rules, and by no further pair being
# possible with the rows left over (so that there are at least half as many as in the best list). The order of pairs is free. Where nothing is close enough, or a class is missing, the list is empty.


# %% id="answer-match_on"
def match_on(
    features: Float[Tensor, "n f"], labels: Bool[Tensor, "n"], caliper: float
) -> list[tuple[int, int]]:
    """Pairs (true row, false row) within `caliper` of each other on standardized features; no row twice."""
    # BEGIN SOLUTION
    std = features.std(dim=0, correction=0)
    varies = (features != features[:1]).any(dim=0)
    z = ((features - features.mean(dim=0)) / std).where(varies, 0.0)
    true, false = labels.nonzero().flatten().tolist(), (~labels).nonzero().flatten().tolist()
    near = [((z[i] - z[j]).norm().item(), i, j) for i in true for j in false]
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for distance, i, j in sorted(near):  # the closest first
        if distance <= caliper and not taken & {i, j}:
            pairs.append((i, j))
            taken |= {i, j}
    return pairs
    # END SOLUTION


lesson.check(match_on)

# %% [markdown] id="ask-separation"
# ### Units that tell known from unknown
#
# {{exercise separation}}
#
# A unit is active where its value is above 0. Its separation is the share of the known entities on which it is active, minus that of the unknown ones (Ferrando et al. 2024): 1 for a unit that is active on all known ones and on no other, −1 the other way around, 0 for one that is always active or never. There may be more of one than of the other, at least one of
# each. How strongly a unit is active does not matter.


# %% id="answer-separation"
def separation(
    f_known: Float[Tensor, "n F"], f_unknown: Float[Tensor, "m F"]
) -> Float[Tensor, "F"]:
    """How much more often each unit is active (above 0) on known entities than on unknown ones."""
    # BEGIN SOLUTION
    return (f_known > 0).float().mean(dim=0) - (f_unknown > 0).float().mean(dim=0)
    # END SOLUTION


lesson.check(separation)

# %% [markdown] id="ask-my_knowledge_direction"
# ### Your direction
#
# {{exercise my_knowledge_direction}}
#
# `vector` has 576 components, and `layer` is from 0 to 29: `hook_resid_post` of that layer is read at the last token of each name, in the template `knowledge.CONTEXT`. Fit on `knowledge.matched(held_out=False)`. You are judged on `knowledge.matched(held_out=True)`: 40 famous names, which count as known, and 40 shuffled from their halves, which nobody has; neither half of any of them
# occurs among the names to fit on. Score each name by the dot product of its raw activation with your vector (its length does not matter, its sign does). The AUROC of the score must be at least 0.1 above the larger of two numbers: what 95 % of 200 random directions stay below at that layer, and the best that five token features reach in either direction (how many tokens, how common, how many letters).
# A list of numbers will do for the vector.

# %% id="answer-my_knowledge_direction"
# my_knowledge_direction = (vector, layer)
# BEGIN SOLUTION
from mi_course.interp import knowledge

people = knowledge.matched(held_out=False)
is_known = torch.tensor([person.kind == "famous" for person in people])
my_knowledge_direction = (fit_probe(knowledge.read(model, people, 16), is_known, 1.0)[0], 16)
# END SOLUTION

lesson.check(my_knowledge_direction, name="my_knowledge_direction")

# %% [markdown] id="ask-answer_logprob"
# ### The probability of an answer
#
# {{exercise answer_logprob}}
#
# `tokens[start:]` is the answer, what stands before it the prompt. `logits[i]` are the model's logits for the token *after* position i. Add up the log-probabilities of all tokens of the answer, in nats; with `per_token` divide by how many they are. The last row of the logits predicts what comes after the answer, and plays no part. Raise `ValueError` unless
# `start` is at least 1 and there is at least one token from there on: nothing predicts the first token of a text. Logits may be so large that their exponentials overflow.


# %% id="answer-answer_logprob"
def answer_logprob(
    logits: Float[Tensor, "pos vocab"], tokens: Int[Tensor, "pos"], start: int, per_token: bool
) -> float:
    """The log-probability of tokens[start:] given what stands before, in nats: their sum, or mean if `per_token`.

    logits: at each position, of the token after it. Raises ValueError unless 1 <= start < len(tokens).
    """
    # BEGIN SOLUTION
    if not 1 <= start < len(tokens):
        raise ValueError(
            f"an answer cannot start at {start} in a text of {len(tokens)} tokens"
        )
    logprobs = logits[start - 1 : -1].log_softmax(dim=-1)
    each = logprobs.gather(1, tokens[start:, None]).double()
    return float(each.mean() if per_token else each.sum())
    # END SOLUTION


lesson.check(answer_logprob)

# %% [markdown] id="ask-semantic_entropy"
# ### Entropy over meanings
#
# {{exercise semantic_entropy}}
#
# `answers` are what was sampled, at least one, and a string that was sampled three times stands in it three times. Sample i has the weight $e^{\mathtt{logprobs}[i]}$ divided by the sum of all of these. `same(a, b)` says whether two strings mean the same; `same(b, a)` says the same, and `same(a, a)` is true. But that "Paris" means "Paris, France" and that means "France" makes all three one class:
# a class is all that is connected through any number of steps. Its probability is the sum of the weights of its samples. Return $-\sum_C p_C \ln p_C$ over the classes: nats, 0 for a single class. Log-probabilities may be −2,000, where $e^x$ is 0 in any precision; a class of probability 0 counts nothing.


# %% id="answer-semantic_entropy"
def semantic_entropy(answers: list[str], logprobs: Float[Tensor, "n"], same) -> float:
    """Entropy over classes of answers that mean the same, in nats (Farquhar et al. 2024, with normalized weights).

    answers: samples, repetitions included. logprobs: of each sample. same: whether two strings mean the same;
    classes are what it connects.
    """
    # BEGIN SOLUTION
    weights = logprobs.double().softmax(dim=0).tolist()
    classes: list[list[int]] = []
    for i, answer in enumerate(answers):
        apart, merged = [], [i]
        for c in classes:
            if any(same(answer, answers[j]) for j in c):
                merged += c
            else:
                apart.append(c)
        classes = [*apart, merged]
    entropy = 0.0
    for c in classes:
        p = sum(weights[i] for i in c)
        if p > 0:
            entropy -= p * math.log(p)
    return entropy
    # END SOLUTION


lesson.check(semantic_entropy)

# %% [markdown] id="ask-calibration_error"
# ### Does 0.8 mean four in five?
#
# {{exercise calibration_error}}
#
# Sort the answers by confidence, ascending, and cut the list into `n_bins` bins of equal *size*, as nearly as it goes: the first ones get one answer more (23 answers in 5 bins: 5, 5, 5, 4, 4). Answers of equal confidence keep their order. In each bin take |mean confidence − share of right answers|, and average over the bins, each weighted by its number of answers.
# With more bins than answers some are empty and count nothing. There is at least one answer and one bin.


# %% id="answer-calibration_error"
def calibration_error(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"], n_bins: int
) -> float:
    """Expected calibration error over bins of equal size.

    confidence: between 0 and 1. Equal ones keep their order; the first bins are the larger ones.
    """
    # BEGIN SOLUTION
    order = confidence.argsort(stable=True)
    total = 0.0
    for bin in order.tensor_split(n_bins):
        if len(bin):
            gap = confidence[bin].double().mean() - correct[bin].double().mean()
            total += len(bin) / len(order) * abs(float(gap))
    return total
    # END SOLUTION


lesson.check(calibration_error)

# %% [markdown] id="ask-risk_coverage"
# ### How much to answer
#
# {{exercise risk_coverage}}
#
# The model answers what it is most confident of, and is silent about the rest. For each *different* confidence, from the highest down, there is one point: it answers everything with that confidence or more. Coverage is the share of questions that it answers, risk the share of wrong ones among these. Answers of equal confidence are given together or not at all, so that
# the last coverage is always 1. Return the two, each with one entry for each different confidence. There is at least one answer.


# %% id="answer-risk_coverage"
def risk_coverage(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]
) -> tuple[Float[Tensor, "point"], Float[Tensor, "point"]]:
    """(coverage, risk) at each different confidence, from the highest down. Equal confidences are answered together."""
    # BEGIN SOLUTION
    levels = confidence.unique().flip(0)
    answered = confidence >= levels[:, None]
    count = answered.sum(dim=1)
    wrong = (answered & ~correct).sum(dim=1)
    return count / len(confidence), wrong / count
    # END SOLUTION


lesson.check(risk_coverage)

# %% [markdown] id="ask-my_confidence"
# ### Your confidence
#
# {{exercise my_confidence}}
#
# Give a dictionary from names of signals, as in `knowledge.signals(held_out=False)`, to numbers; signals that you leave out have the weight 0, and weights may be negative. Each signal is standardized over the 270 held-out questions, and your confidence is the weighted sum. Its AUROC for being right is held against that of `"first-token probability"`, the model's own top probability.
# 1,000 times 270 of the questions are drawn with replacement, the same for both; the gain must be above 0 in at least 95 % of these draws.

# %% id="answer-my_confidence"
# my_confidence = {"name of a signal": weight, ...}
# BEGIN SOLUTION
my_confidence = {"answer probability": 1.0, "samples that agree": 1.0}
# END SOLUTION

lesson.check(my_confidence, name="my_confidence")

# %% id="claims-recap" tags=["claims"]
from mi_course import claim

claim("(not written yet) What the recap says, with its margin.", ...)

# %% [markdown] id="recap"
# ## What you have done
#
# (not written yet) What was found, and what was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
