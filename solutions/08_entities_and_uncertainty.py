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
# You will ask a language model about people who do not exist, train probes on what goes on inside it, find out how much of a fine probe is luck, leakage or word frequency, and measure whether the model can tell what it knows from what it invents.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00; lesson 04 helps. The model is SmolLM2-135M-Instruct; compatibility mode is not needed. Sources: Ferrando et al. 2024; Hewitt and Liang 2019; Lindsey et al. 2025; Farquhar et al. 2024; Kadavath et al. 2022; Guo et al. 2017.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("entities_and_uncertainty"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. A man who never was
#
# Of these four names one belongs to a physicist, one is put together from halves of two famous names, one is made up, and one belongs to a painter of the sixteenth century whom few people know. The model was trained as a chat assistant, so ask it as one: "Who was …?" And ask about twenty more people who never were.
#
# **Predict:** for how many of them will it say that it does not know?

# %% id="biographies"
from mi_course.interp import knowledge
from mi_course.interp import knowledge_study as runs

asked = ["Albert Einstein", "Isaac Bonaparte", "Dennis Carter", "Sofonisba Anguissola"]
nobodies = [
    person.name for kind in ("invented", "shuffled") for person in knowledge.names(kind)[:10]
]
lives = runs.who_was(model, asked + nobodies)
show.table(dict(zip(asked, lives[:4], strict=True)), ["the model says"], left=True)

# %% id="claims-biographies-seen" tags=["claims"]
from mi_course import claim

lesson.seen("nobodies", len(nobodies), "d")
lesson.seen("fictional", sum("fictional" in life.lower() for life in lives[4:]), "d")
claim("none of 4 + 20 replies has a word of doubt", not any(map(runs.refuses, lives)))
claim("each is at least eight words long", all(len(life.split()) >= 8 for life in lives))
claim(
    "fewer than four of twenty nobodies are called fictional",
    sum("fictional" in life.lower() for life in lives[4:]) < 4,
)

# %% [markdown] id="biographies-seen"
# <details><summary>What you should see</summary>
#
# Four lives, told in the same voice, and not a word of doubt. Two of these people never lived. From the text alone you cannot tell which. None of the {{seen:nobodies}} other nobodies gets an "I don't know" either. The nearest thing to it: {{seen:fictional}} of them is called a fictional character, and the film is invented along with it. Shuffled names live on what their halves suggest: Isaac Bonaparte commands an army in France.
# </details>

# %% [markdown] id="use-refusals-intro"
# But perhaps the model only was not told that it may. Tell it: *If you do not know, say "I don't know".* **Predict:** for how many of a dozen famous people will it refuse now, and for how many of a dozen nobodies of each kind?

# %% id="use-refusals"
dozen = {kind: knowledge.names(kind)[:12] for kind in ("famous", "invented", "shuffled")}
replies = {
    kind: runs.who_was(
        model, [person.name for person in each], runs.MAY_REFUSE, max_new_tokens=12
    )
    for kind, each in dozen.items()
}
refused = {kind: sum(map(runs.refuses, each)) for kind, each in replies.items()}
print(next(filter(runs.refuses, replies["famous"])))
show.table(refused, ["refused, of 12"], digits=0)

# %% id="claims-refusals-seen" tags=["claims"]
for kind, count in refused.items():
    lesson.seen(f"refused-{kind}", count, "d")
lesson.seen("dozen", len(replies["famous"]), "d")
claim("told that it may, it refuses at least half of 12 famous people", refused["famous"] >= 6)
claim(
    "and of 12 nobodies of either kind at most four more",
    max(refused["invented"], refused["shuffled"]) <= refused["famous"] + 4,
)

# %% [markdown] id="refusals-seen"
# <details><summary>What you should see</summary>
#
# It can refuse: {{seen:refused-invented}} of {{seen:dozen}} invented names and {{seen:refused-shuffled}} of the shuffled ones. Well done? Look at the control. It also refuses {{seen:refused-famous}} of the {{seen:dozen}} most famous people. It does what the instruction suggests, and the name has little to do with it. A model that says "I don't know" is not yet a model that knows what it does not know.
# </details>
#
# Is there anything *inside* that knows? Ferrando et al. (2024) found directions in Gemma that tell known entities from unknown ones. Lindsey et al. (2025) found that in Claude "can't answer" is the default, which features for known entities switch off; where these misfire, the model hallucinates. Ours is far smaller than those. This lesson asks what is left of that in it, and above all, **how one would know**.

# %% [markdown] id="part-2"
# ## 2. What counts as known?
#
# We have 80 famous people and 80 who are real but obscure. For each the model chooses an occupation, a nationality and a century from closed lists. (`knowledge.attributes`; a choice is the option whose first token is likeliest.) Then there are 80 invented names, each with as many tokens as a famous one, and 80 **shuffled** ones, whose halves come from famous names. Invented and shuffled names are unknown *by construction*; they have no attributes to get wrong, so they are kept apart from what is measured.

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

# %% [markdown] id="use-known-intro"
# **Predict:** how many of the famous are known, how many of the obscure? And how many would be "known" to somebody who knows nothing, and always names the most frequent occupation, nationality and century?

# %% id="use-known"
label = lesson.use("label_known")
people = knowledge.names("famous", "obscure")
famous = torch.arange(160) < 80
said = knowledge.attributes(model, people)
rows_of = runs.attribute_table(said, famous)
print(show.table(rows_of, ["famous", "obscure", "majority guess", "right by it"]))
measured = label(said.right)
guessed = label(torch.stack([hit for _, hit in said.majority.values()], dim=1))
labels = {"famous": measured[:80], "obscure": measured[80:], "majority guess, all": guessed}
kinds = ("known", "dropped", "unknown")
counts = {name: [each.count(kind) for kind in kinds] for name, each in labels.items()}
show.table(counts, kinds, digits=0)

# %% id="claims-known-seen" tags=["claims"]
by_chance = guessed.count("known")
listed = {"occupation": knowledge.OCCUPATIONS, "nationality": knowledge.NATIONALITIES}
unlisted = [
    p
    for p in people[:80]
    if any(not set(getattr(p, what)) & set(listed[what]) for what in listed)
]
lesson.seen("unlisted", len(unlisted), "d")
lesson.seen("famous-known", counts["famous"][0], "d")
lesson.seen("obscure-known", counts["obscure"][0], "d")
lesson.seen("guess-known", by_chance, "d")
for attribute, (of_famous, of_obscure, _, by_guess) in rows_of.items():
    lesson.seen(f"famous-{attribute}", 100 * of_famous, ".0f")
    lesson.seen(f"obscure-{attribute}", 100 * of_obscure, ".0f")
    lesson.seen(f"guess-{attribute}", 100 * by_guess, ".0f")
claim(
    "at least 60 of 80 famous and at most 45 of 80 obscure people are known",
    counts["famous"][0] >= 60 and counts["obscure"][0] <= 45,
)
claim(
    "at most six famous people have an occupation or nationality that is not listed",
    len(unlisted) <= 6,
)
claim("the majority guess makes between 15 and 45 of 160 known", 15 <= by_chance <= 45)
claim(
    "for the obscure the century is right less often than the majority guess is for all, by 0.1",
    bool(rows_of["century"][1] < rows_of["century"][3] - 0.1),
)
claim(
    "for the famous each attribute is right more often than by the majority guess, by 0.1",
    all(row[0] > row[3] + 0.1 for row in rows_of.values()),
)

# %% [markdown] id="known-seen"
# <details><summary>What you should see</summary>
#
# {{seen:famous-known}} of the famous are known by this rule, and {{seen:obscure-known}} of the obscure. The attributes differ: the model names the occupation of {{seen:famous-occupation}} % of the famous, where always saying the commonest would be right for {{seen:guess-occupation}} % of all; the nationality of {{seen:famous-nationality}} % (by the commonest: {{seen:guess-nationality}} %); the century of {{seen:famous-century}} % ({{seen:guess-century}} %). For the obscure it is wrong about the century more often than someone who always says the same one would be: right for {{seen:obscure-century}} %.
#
# The lists are closed: for {{seen:unlisted}} famous people the right occupation or nationality is not on them. And the rule is lenient. Someone who knows nothing and always names the majority would "know" {{seen:guess-known}} of all. And a nationality can often be guessed from the sound of the name: it is right for {{seen:obscure-nationality}} % of the obscure. So the label "known" is not quite clean, and "obscure" is not the same as "unknown". That is why we measure.
# </details>

# %% [markdown] id="part-3"
# ## 3. A probe
#
# Read the residual stream at the last token of each name, and fit a line between famous and invented names. Some names share a half with others, though. If "Isaac Newton" is fitted on and "Isaac Bonaparte" is tested, the test is not of something new. Names that share halves come in blocks; folds must keep blocks together.

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
    std, mean = torch.std_mean(x64, dim=0, correction=0)
    std = std.where(varies, 1.0)
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

# %% [markdown] id="use-layers-intro"
# **Predict** the AUROC on names that the probe has not seen, famous against invented: at the embedding of the last token, where the model has not computed anything? In the middle?

# %% id="use-layers"
folds_of, fit, area = (lesson.use(name) for name in ("group_folds", "fit_probe", "auroc"))
everyone = {kind: knowledge.names(kind) for kind in ("famous", "invented", "shuffled")}
streams = {kind: runs.streams(model, members) for kind, members in everyone.items()}
y = torch.arange(160) < 80
blocks = [name.block for name in everyone["famous"]] * 2
even = torch.tensor([int(block.split()[1]) % 2 == 0 for block in blocks])
folds = folds_of(blocks, 5, 0)


def unseen(x, folds):
    """AUROC on names that the probe has not seen."""
    return area(knowledge.out_of_fold(x, y, folds, lambda a, b: fit(a, b, 2.0)), y)


def by_layer(other, folds):
    """Famous names against another kind, at the embedding and after each layer."""
    return [unseen(x, folds) for x in torch.cat([streams["famous"], streams[other]], dim=1)]


invented = by_layer("invented", folds)
plain = runs.plain_features(model, [*everyone["famous"], *everyone["invented"]])
baseline = {name: unseen(x, folds) for name, x in plain.items()}
rows = {"majority": 0.5, **baseline, "embedding": invented[0], "best layer": max(invented)}
show.table(rows, ["AUROC"])

# %% id="claims-layers-seen" tags=["claims"]
lesson.seen("embedding-invented", invented[0], ".2f")
lesson.seen("best-invented", max(invented), ".2f")
lesson.seen("letters-invented", baseline["groups of letters"], ".2f")
claim(
    "famous and invented names are separated with an AUROC above 0.85 at the embedding",
    invented[0] > 0.85,
)
claim("and above 0.95 at some layer", max(invented) > 0.95)

# %% [markdown] id="layers-seen"
# <details><summary>What you should see</summary>
#
# {{seen:best-invented}}: nearly perfect. A paper could be written about it. But the embedding of the last token alone gets {{seen:embedding-invented}}, before the model has computed anything, and plain groups of letters get {{seen:letters-invented}}. The names were matched in their numbers of tokens, and that did not help: surnames of famous people are other words than invented surnames. A probe can know that without knowing any person.
# </details>

# %% [markdown] id="use-shuffled-intro"
# The cure is to match *everything*: the shuffled names consist of the very same halves. No word tells famous from shuffled. **Predict** the curve again.
#
# And then forget about the blocks, and split names at random, as everybody's first cross-validation does. "Newton" is then in the training part with one label and in the test part with the other. **Predict** which way the result will be wrong.

# %% id="use-shuffled"
shuffled = by_layer("shuffled", folds)
split_halves = folds_of([str(i) for i in range(160)], 5, 0)  # each name a group of its own
leaky = by_layer("shuffled", split_halves)

# %% id="shuffled-picture" tags=["not-compared"]
curves = {"famous against invented": invented, "famous against shuffled": shuffled}
curves["control: blocks split"] = leaky
runs.draw_layers(curves, "What is left when the words are the same")

# %% id="claims-shuffled-seen" tags=["claims"]
lesson.seen("shuffled-embedding", shuffled[0], ".2f")
lesson.seen("shuffled-best", max(shuffled), ".2f")
lesson.seen("leaky-embedding", leaky[0], ".2f")
lesson.seen("leaky-best", max(leaky), ".2f")
claim(
    "famous against shuffled is within 0.05 of one half at the embedding",
    abs(shuffled[0] - 0.5) < 0.05,
)
claim("and above 0.8 at layers 8 to 24", all(a > 0.8 for a in shuffled[3:8]))
claim("with blocks split, the embedding is below 0.15", leaky[0] < 0.15)

# %% [markdown] id="shuffled-seen"
# <details><summary>What you should see</summary>
#
# At the embedding exactly chance, {{seen:shuffled-embedding}}: the last tokens are the same. Some layers later {{seen:shuffled-best}}. So the model does join the halves: "Isaac Newton" looks different, at "Newton", from "Antonio Newton". This is what is left of "knows the entity" once the words are matched.
#
# With blocks split the probe is not too good but *absurdly bad*: {{seen:leaky-embedding}} at the embedding. It has learned by heart that "Newton" is famous, and meets it in the test part with the other label. Leakage does not always flatter. An AUROC far below one half means that test and training rows are not independent.
# </details>

# %% [markdown] id="use-penalty-intro"
# The penalty of 2 was chosen by us. Does it flatter? It must be chosen *inside* the training folds, with folds of their own.

# %% id="use-penalty"
middle = torch.cat([streams["famous"][4], streams["shuffled"][4]])
nested, chosen = runs.choose_penalty(middle, y, blocks, fit, folds_of, area)
print(
    f"layer {runs.LAYERS[3]}: {nested:.2f} with penalties chosen inside, {shuffled[4]:.2f} with 2"
)

# %% id="claims-penalty-seen" tags=["claims"]
lesson.seen("nested", nested, ".2f")
claim(
    "the nested AUROC is within 0.06 of that with our penalty",
    abs(nested - shuffled[4]) < 0.06,
)

# %% [markdown] id="penalty-seen"
# {{seen:nested}}: it did not flatter. In this range the penalty hardly matters.

# %% [markdown] id="part-4"
# ## 4. Could the probe have learned it by heart?
#
# With 576 components and 160 names, any labels can be learned. Hewitt and Liang (2019) ask how well the same probe learns labels that are *random* for each entity, where the same entities are in training and test rows. We read each name in two contexts, fit in one and test in the other.

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

# %% [markdown] id="use-control-intro"
# **Predict** the selectivity in the middle of the model. Then two p-values for a difference of means that is taken on one half of the blocks and scored on the other, with 99 shuffles: in one, whole names exchange their labels, in the other each row goes alone, as if two contexts of one name were two names. Which scatters more by chance?

# %% id="use-control"
select, p_value, LAYER = lesson.use("selectivity"), lesson.use("permutation_p"), 12
both = [*everyone["famous"], *everyone["shuffled"]]
other_context = knowledge.read(model, both, LAYER, "Yesterday we read about {}")
twice, labels = torch.cat([middle, other_context]), torch.cat([y, y])
entities = [name.name for name in both] * 2
first = torch.arange(320) < 160
selective = select(twice, labels, entities, first, lambda a, b: fit(a, b, 2.0), seed=0)
print(f"selectivity {selective:+.2f}")
tests = {
    what: runs.permutation_test(p_value, area, twice, labels, torch.cat([even, even]), groups)
    for what, groups in {"names": entities, "rows": [str(i) for i in range(320)]}.items()
}
show.table(tests, ["AUROC", "95 % of shuffles below", "p"], title="What is exchanged")

# %% id="claims-control-seen" tags=["claims"]
w, b = fit(twice[first], labels[first], 2.0)
transfer = float(((twice[~first] @ w + b > 0) == y).float().mean())
lesson.seen("transfer", transfer, ".2f")
lesson.seen("selectivity", selective, ".2f")
lesson.seen("p", tests["names"][2], ".2f")
lesson.seen("chance-names", tests["names"][1], ".2f")
lesson.seen("chance-rows", tests["rows"][1], ".2f")
claim(
    "the grouped permutation test gives p of at most 0.02 with 99 shuffles",
    tests["names"][2] <= 0.02,
)
claim("selectivity is below 0.45", selective < 0.45)
claim(
    "95 % of shuffles reach higher with whole names than with single rows",
    tests["names"][1] > tests["rows"][1],
)

# %% [markdown] id="control-seen"
# <details><summary>What you should see</summary>
#
# In the other context the probe is right on {{seen:transfer}} of the rows, and the selectivity is only {{seen:selectivity}}: a probe of this size learns most random labels of entities that it has seen. So an accuracy over *seen* entities in new sentences is worth little. Only unseen entities count, as in section 3.
#
# The permutation test asks something else: is the score on unseen names chance? With p = {{seen:p}} it is not. It does not ask whether the words explain it. These are two controls for two doubts, and neither replaces the other. And what is shuffled matters: with whole names the best shuffles reach {{seen:chance-names}}, with single rows only {{seen:chance-rows}}, since it pretends to have twice as many independent names as there are. Small p-values come cheap that way.
# </details>

# %% [markdown] id="part-5"
# ## 5. Knowing, or expecting?
#
# One baseline is still missing. What does the *model itself* say about a name: how likely is its second half after the first? "Isaac" is often followed by "Newton" in what it was trained on, and never by "Bonaparte". **Predict** the AUROC of that one number, famous against shuffled.

# %% id="use-familiar"
familiar = knowledge.name_logprob(model, both)
print(
    f"famous against shuffled, by the log-probability of the second half: {area(familiar, y):.2f}"
)

# %% id="claims-familiar-seen" tags=["claims"]
lesson.seen("familiar", area(familiar, y), ".2f")
claim(
    "the log-probability of the second half separates famous from shuffled with above 0.9",
    area(familiar, y) > 0.9,
)
claim(
    "no layer's probe is better than it by more than 0.02",
    max(shuffled) < area(familiar, y) + 0.02,
)

# %% [markdown] id="familiar-seen"
# {{seen:familiar}}: no probe of ours is better. So far "knows the person" may be no more than "expected the second half".
#
# The two come apart for people that the model has half heard of. Among *real, obscure* people some are known and some are not, by what the model got right in section 2. Pair each known one with an unknown one whose name is as long and as common, or as much expected, and see what is left of the direction.

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

# %% [markdown] id="use-match-intro"
# The direction is that of section 3, famous minus shuffled: it has seen no obscure person. **Predict** its AUROC for known against unknown obscure people: of all, of pairs matched in their tokens, in how much the second half was expected, and in both. How many pairs are left each time?

# %% id="use-match"
match = lesson.use("match_on")
direction = streams["famous"][4].mean(0) - streams["shuffled"][4].mean(0)
obscure = people[80:]
read = runs.look_at(model, obscure, direction, LAYER)
clear = torch.tensor([state != "dropped" for state in measured[80:]])
known = torch.tensor([state == "known" for state in measured[80:]])[clear]
print(f"{int(known.sum())} known, {int((~known).sum())} unknown")
matched = {"all": list(range(len(known)))}
for what, (control, caliper) in read.controls.items():
    pairs = match(control[clear], known, caliper)
    matched[f"{what}: {len(pairs)} pairs"] = [i for pair in pairs for i in pair]
rows = runs.matched_table(area, read, clear, known, list(matched.values()))
print(show.table(rows, list(matched), title="AUROC for being known"))
by_attribute = runs.by_attribute(area, read, said.right[80:])
show.table(by_attribute, list(read.values), title="AUROC for one attribute, all 80 people")

# %% id="claims-match-seen" tags=["claims"]
way, luck95 = rows["the direction"], rows["95 % of random directions below"]
lesson.seen("direction-real", way[0], ".2f")
lesson.seen("expected-real", rows["expected second half"][0], ".2f")
lesson.seen("direction-expected", way[2], ".2f")
lesson.seen("direction-tokens", way[1], ".2f")
lesson.seen("luck-expected", luck95[2], ".2f")
lesson.seen("luck-tokens", luck95[1], ".2f")
lesson.seen("direction-both", way[3], ".2f")
lesson.seen("luck-both", luck95[3], ".2f")
lesson.seen("pairs-expected", len(list(matched.values())[2]) // 2, "d")
lesson.seen("pairs-both", len(list(matched.values())[3]) // 2, "d")
lesson.seen("along-occupation", by_attribute["occupation"][0], ".2f")
lesson.seen("along-century", by_attribute["century"][0], ".2f")
lesson.seen("along-nationality", by_attribute["nationality"][0], ".2f")
claim("at least 8 pairs are left of each kind", all(len(r) >= 16 for r in matched.values()))
claim(
    "matched in expectation, the direction is above 95 % of 200 random ones, by 0.05",
    way[2] > float(luck95[2]) + 0.05,
)
claim("matched in both it is not above them by 0.06", way[3] < float(luck95[3]) + 0.06)
claim(
    "the direction tells for whom the occupation is right better than for whom the nationality is, by 0.1",
    by_attribute["occupation"][0] > by_attribute["nationality"][0] + 0.1,
)

# %% [markdown] id="match-seen"
# <details><summary>What you should see</summary>
#
# The direction was made from famous and shuffled names, and it carries over to real people: {{seen:direction-real}}, known against unknown. With names that were equally expected, {{seen:direction-expected}} ({{seen:pairs-expected}} pairs; random directions stay below {{seen:luck-expected}}). With equally common tokens {{seen:direction-tokens}} (random: {{seen:luck-tokens}}). So neither expectation alone nor common words alone explain it. With both matched, {{seen:pairs-both}} pairs give {{seen:direction-both}}, and random directions reach {{seen:luck-both}}: too few to tell. That is the price of matching. It costs rows, and rows are precision.
#
# The attributes say what kind of knowing it is. The direction goes with the occupation ({{seen:along-occupation}}) and the century ({{seen:along-century}}), which have to be known, and hardly with the nationality ({{seen:along-nationality}}), which can be guessed from the sound of the name. Nobody fitted that. An attribute that needs no knowledge is a good control, and it is the best argument of this section.
# </details>

# %% [markdown] id="part-6"
# ## 6. One neuron, and three kinds of entity
#
# Ferrando et al. look for latents of a sparse autoencoder that are active on known entities of *all* types. The same with neurons:

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

# %% id="use-separation"
separate, half, nobody = lesson.use("separation"), even[:80], ("invented", "shuffled")
neurons = {kind: runs.neurons(model, members, LAYER) for kind, members in everyone.items()}
fitted, unseen_names = (
    torch.stack([separate(neurons["famous"][part], neurons[kind][part]) for kind in nobody])
    for part in (half, ~half)
)
both_parts = torch.cat([fitted, unseen_names])
best, once = knowledge.min_over_types(fitted), int(fitted[0].argmax())
rows = {"best over both": both_parts[:, best], "best against invented": both_parts[:, once]}
unknown = [neurons[kind][half] for kind in nobody]
lucky = runs.lucky_separations(separate, neurons["famous"][half], unknown)
print(f"control, kinds exchanged: the best of {fitted.shape[1]} has at most {lucky.max():.2f}")
show.table(rows, [f"{kind}, {part}" for part in ("fitted", "unseen") for kind in nobody])

# %% id="claims-neuron-seen" tags=["claims"]
lesson.seen("n-neurons", fitted.shape[1], ",d")
lesson.seen("neuron-fitted", fitted[:, best].min(), ".2f")
lesson.seen("neuron-unseen", unseen_names[:, best].min(), ".2f")
lesson.seen("neuron-lucky", lucky.max(), ".2f")
lesson.seen("neuron-once", unseen_names[0, once], ".2f")
lesson.seen("neuron-once-shuffled", unseen_names[1, once], ".2f")
claim(
    "on unseen names the neuron's smallest separation is above 0.3",
    bool(unseen_names[:, best].min() > 0.3),
)
claim(
    "by luck none of 20 exchanges reaches what was found, by 0.05",
    float(lucky.max()) < float(fitted[:, best].min()) - 0.05,
)
claim(
    "the neuron that is best against invented names falls by 0.2 or more against shuffled ones",
    bool(unseen_names[1, once] < unseen_names[0, once] - 0.2),
)

# %% [markdown] id="neuron-seen"
# <details><summary>What you should see</summary>
#
# The best of {{seen:n-neurons}} neurons has a smallest separation of {{seen:neuron-fitted}} where it was chosen, and {{seen:neuron-unseen}} on new names, so it was not luck; the best of so many *by* luck comes to {{seen:neuron-lucky}}. The neuron that is best against invented names alone has {{seen:neuron-once}} against them, and {{seen:neuron-once-shuffled}} against shuffled ones. One type of unknown entity is not enough to call a unit "known".
# </details>

# %% [markdown] id="part-7"
# ## 7. Is it used?
#
# A probe finds what *can* be read. Whether the model reads it is another question. Take the direction from the even blocks of names, and change it at the last token of names of the odd blocks: add it to nobodies, subtract it from the famous, or *ablate* it, so that every name has the same component. Two things are measured after ", the famous": how sure the model is of its next word, and where its heads look. Ferrando et al. (2024) saw heads that attend to a known entity to fetch its attributes, and attend less to an unknown one.
#
# First the heads, before anything is changed. The ones that differ most are chosen on the even blocks, and shown on the odd ones. **Predict:** can there be a head that looks at "Isaac Newton" and not at "Isaac Bonaparte"?

# %% id="use-attention"
pick, odd = runs.chosen(everyone, half), runs.chosen(everyone, ~half)
heads = runs.heads_that_look(model, pick, 4)
groups = dict(odd)
for state in ("known", "unknown"):
    chosen = [state == each for each in measured[80:]]
    groups |= runs.chosen({f"obscure, {state}": obscure}, chosen)
looks = torch.stack([runs.after_names(model, group)[1].mean(0) for group in groups.values()])
rows = {f"{layer}.{head}": looks[:, layer, head] for layer, head in heads}
rows["mean of all heads"] = looks.mean((1, 2))
print(show.table(rows, list(groups), title='attention to the name after ", the famous"'))
layer, head = heads[0]
endings, some = {}, {kind: members[:20] for kind, members in odd.items()}
for ending in (" was", " and"):
    after = [runs.after_names(model, group, ending=ending)[1] for group in some.values()]
    endings[f"{layer}.{head} after {ending!r}"] = [
        each[:, layer, head].mean() for each in after
    ]
show.table(endings, list(some), title="attention to the name after other endings")

# %% id="claims-attention-seen" tags=["claims"]
top, level = looks[:, layer, head], looks.mean((1, 2))
lesson.seen("looking", [f"{at}.{number}" for at, number in heads])
lesson.seen("looks-famous", top[0], ".2f")
lesson.seen("looks-invented", top[1], ".2f")
lesson.seen("looks-shuffled", top[2], ".2f")
lesson.seen("looks-known", top[3], ".2f")
lesson.seen("looks-unknown", top[4], ".2f")
lesson.seen("looks-mean", level[0], ".2f")
lesson.seen("looks-mean-shuffled", level[2], ".2f")
lesson.seen("looks-was", torch.tensor(list(endings.values())).max(), ".2f")
claim(
    "on 40 unseen names of each kind the head looks at famous names more than at shuffled ones, by 0.15",
    bool(top[0] > top[2] + 0.15),
)
claim(
    "and at shuffled names more than at invented ones, by 0.15", bool(top[2] > top[1] + 0.15)
)
claim(
    "and at obscure people who are known more than at those who are not, by 0.08",
    bool(top[3] > top[4] + 0.08),
)
claim(
    "the mean head hardly tells famous from shuffled, by less than 0.03",
    bool((level[0] - level[2]).abs() < 0.03),
)
claim("the four heads are in layers 20 to 25", all(20 <= at <= 25 for at, _ in heads))
claim(
    "after 'was' and 'and' the head pays below 0.15 to names of any kind",
    bool(torch.tensor(list(endings.values())).max() < 0.15),
)

# %% [markdown] id="attention-seen"
# <details><summary>What you should see</summary>
#
# Heads {{seen:looking}} do just that. The first one pays {{seen:looks-famous}} of its attention to a famous name, {{seen:looks-shuffled}} to the same words shuffled, and {{seen:looks-invented}} to an invented name of as many tokens, on names that it was not chosen by. For obscure people it is {{seen:looks-known}} if they are known and {{seen:looks-unknown}} if not. The mean head does not care: {{seen:looks-mean}} and {{seen:looks-mean-shuffled}} for famous and shuffled. So the picture of Ferrando et al. holds in this small model: late heads fetch from the name if there is something to fetch.
#
# But only when the prompt asks for it. After "was" or "and" the same head pays at most {{seen:looks-was}} to any name. What follows in this section is about prompts that end in ", the famous", and those presuppose fame.
# </details>

# %% [markdown] id="use-effects-intro"
# But does the direction of section 3 have anything to do with it? The controls are four random directions of the same norm, and four that vary as the activations do. **Predict** what adding the direction to a nobody does to the first of the heads, and to the entropy of the next word.

# %% id="use-effects"
train = torch.cat([streams[kind][4][half] for kind in ("famous", "shuffled")])
known_way = train[:40].mean(0) - train[40:].mean(0)
moves = ["subtract, famous", "ablate, famous", "add, shuffled", "add, invented"]
certainty, attention = runs.effect_rows(model, some, moves, known_way, train, LAYER, heads[0])
rows = {move: [*certainty[move], *attention[move]] for move in moves}
columns = ["entropy: direction", "controls, lowest", "highest"]
columns += ["attention: direction", "controls, lowest", "highest"]
show.table(
    rows,
    columns,
    sign=True,
    title=f"changes of entropy (nats) and of what {layer}.{head} pays to the name",
)

# %% id="claims-effects-seen" tags=["claims"]
lesson.seen("less-sure", certainty["subtract, famous"][0], ".1f")
lesson.seen("more-sure", -certainty["add, shuffled"][0], ".1f")
lesson.seen("more-sure-control", -certainty["add, shuffled"][1], ".1f")
lesson.seen("ablated", certainty["ablate, famous"][0].abs(), ".1f")
lesson.seen("looks-ablated", -attention["ablate, famous"][0], ".2f")
lesson.seen("looks-more", attention["add, shuffled"][0], ".2f")
lesson.seen("looks-more-invented", attention["add, invented"][0], ".2f")
lesson.seen(
    "looks-control", torch.tensor([row[1:] for row in attention.values()]).abs().max(), ".2f"
)
claim(
    "adding it makes the model surer of 20 unseen shuffled names than any of eight controls does, by 0.2 nats",
    bool(certainty["add, shuffled"][0] < certainty["add, shuffled"][1] - 0.2),
)
claim(
    "and of 20 invented names, by 0.2 nats",
    bool(certainty["add, invented"][0] < certainty["add, invented"][1] - 0.2),
)
claim(
    "subtracting it makes the model less sure about 20 famous names than any control does, by 0.05",
    bool(certainty["subtract, famous"][0] > certainty["subtract, famous"][2] + 0.05),
)
claim(
    "ablation changes the entropy for famous names by less than 0.15 nats",
    bool(certainty["ablate, famous"][0].abs() < 0.15),
)
claim(
    "adding it raises the head's attention to shuffled and invented names by 0.1 more than any control",
    all(
        bool(attention[f"add, {k}"][0] > attention[f"add, {k}"][2] + 0.1)
        for k in ("shuffled", "invented")
    ),
)

# %% [markdown] id="effects-seen"
# <details><summary>What you should see</summary>
#
# With the direction added, the head looks at a person who does not exist, by {{seen:looks-more}} more (by {{seen:looks-more-invented}} for invented names); no control moves it by more than {{seen:looks-control}}. And the model is surer of its next word, by {{seen:more-sure}} nats, where the strongest control makes {{seen:more-sure-control}}. Taken from famous names, the direction leaves the model less sure, by {{seen:less-sure}}. So it is used: what is written at a name in the middle of the model has a say in whether later heads come for it. (Try to break it: exchange the halves of the data, or take other layers.)
#
# Ablation shows how careful one must be. When every name gets the *mean* component, the entropy for famous names does not move ({{seen:ablated}} nats), and the head looks at them a little less ({{seen:looks-ablated}}). That experiment alone would have said that the direction hardly matters. Perhaps half a push is not enough, or a famous name is recognized by more than this; from these numbers we cannot tell. And note what was *not* shown: that the direction has a part in saying or withholding "I don't know". With it, a nobody's biography is told with more confidence, and that is all.
# </details>

# %% [markdown] id="ask-my_knowledge_direction"
# ### Your direction
#
# {{exercise my_knowledge_direction}}
#
# `vector` has 576 components, and `layer` is from 0 to 29: `hook_resid_post` of that layer is read at the last token of each name, in the template `knowledge.CONTEXT`. Fit on the names of `knowledge.matched` with `held_out=False`. You are judged on those with `held_out=True`: 40 famous names, which count as known, and 40 shuffled from their halves, which nobody has; neither half of any of them
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

# %% [markdown] id="part-8"
# ## 8. How sure is it?
#
# Leave people, and take questions with one right answer: 540 in ten relations, capitals, chemical symbols, opposites and others, each asked after two examples. What the model answered is stored in `data/smollm2-answers.json`, with six answers sampled at temperature 1. Half of the questions are yours, half are held out.

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

# %% id="use-logprob"
row = knowledge.half(False)[1]
logits, tokens, start = runs.logits_of(model, row)
found = lesson.use("answer_logprob")(logits, tokens, start, per_token=False)
print(row.question.prompt(), "→", row.answer)
print(f"{found:.2f} nats; stored: {sum(row.logprobs):.2f}")

# %% id="claims-logprob-seen" tags=["claims"]
claim(
    "your log-probability is that of the stored answer, within 0.05 nats",
    abs(found - sum(row.logprobs)) < 0.05,
)

# %% [markdown] id="logprob-seen"
# The same as what is stored. Note how the first token alone is not the answer: a model may be sure how to begin, and not how to go on.

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

# %% [markdown] id="use-signals-intro"
# **Predict:** which of these tells right answers from wrong ones best? The probability of the first token, of the whole answer, the entropy over sampled strings, over sampled meanings, or asking the model itself, "Is that true?"

# %% id="use-signals"
entropy_of = lesson.use("semantic_entropy")
signals, correct = knowledge.signals(held_out=False)
mine = knowledge.half(False)
found = [
    entropy_of(row.samples, torch.tensor(row.sample_logprobs), knowledge.same_answer)
    for row in mine
]
signals = {**signals, "semantic entropy": torch.tensor(found)}
low = ("string entropy", "semantic entropy", "length of the answer")  # surer if low
areas = {name: area(-x if name in low else x, correct) for name, x in signals.items()}
print(f"right: {correct.float().mean():.2f} of {len(correct)}")
show.table(areas, ["AUROC for being right"])

# %% id="claims-signals-seen" tags=["claims"]
lesson.seen("right-share", 100 * correct.float().mean(), ".0f")
lesson.seen("area-first", areas["first-token probability"], ".2f")
lesson.seen("area-answer", areas["answer probability"], ".2f")
lesson.seen("area-semantic", areas["semantic entropy"], ".2f")
lesson.seen("area-string", areas["string entropy"], ".2f")
lesson.seen("area-length", areas["length of the answer"], ".2f")
lesson.seen("area-true", areas["P(true)"], ".2f")
claim(
    "the answer's probability is better than the first token's by 0.02 or more",
    areas["answer probability"] > areas["first-token probability"] + 0.02,
)
claim(
    "the length of the answer has an AUROC above 0.68, above that of either entropy and below the answer's probability",
    0.68 < areas["length of the answer"] < areas["answer probability"]
    and areas["length of the answer"]
    > max(areas["semantic entropy"], areas["string entropy"]),
)
claim("P(true) is below 0.65", areas["P(true)"] < 0.65)
claim(
    "semantic and string entropy are within 0.05 of each other",
    abs(areas["semantic entropy"] - areas["string entropy"]) < 0.05,
)
claim(
    "both are worse than the answer's probability, by 0.05",
    max(areas["semantic entropy"], areas["string entropy"])
    < areas["answer probability"] - 0.05,
)

# %% [markdown] id="signals-seen"
# <details><summary>What you should see</summary>
#
# {{seen:right-share}} % of the answers are right. The whole answer's probability ({{seen:area-answer}}) is better than that of its first token ({{seen:area-first}}). Entropy over six samples has {{seen:area-semantic}} over meanings and {{seen:area-string}} over strings: answers of one word hardly differ in wording, so there is nothing for meanings to add, and with six samples either is noisy. Farquhar et al. 2024 need it for whole sentences. A poor baseline does better than both: the mere number of tokens of the answer ({{seen:area-length}}; short ones are right more often). Asking the model is worth next to nothing ({{seen:area-true}}).
# </details>
#
# Perhaps it was asked badly. Ferrando et al. (2024) found that a model which is asked whether it is sure has a bias to say yes. **Predict:** how often does ours say yes, of its right answers and of its wrong ones? And if it is asked whether its answer is *false*?

# %% id="use-asking"
some = mine[::5]
is_right, rows = torch.tensor([row.right for row in some]), {}
for asked in runs.ASKED:
    odds = runs.yes_over_no(model, some, asked)
    yes = (odds > 0).float()
    rows[asked] = [yes[is_right].mean(), yes[~is_right].mean(), area(odds, is_right)]
show.table(rows, ["yes, if right", "yes, if wrong", "AUROC"])

# %% id="claims-asking-seen" tags=["claims"]
said_yes = {
    asked: (row[0] * is_right.sum() + row[1] * (~is_right).sum()) / len(some)
    for asked, row in rows.items()
}
lesson.seen("asked", len(some), "d")
lesson.seen("yes-true", 100 * said_yes["Is that true, Yes or No?"], ".0f")
lesson.seen("yes-false", 100 * said_yes["Is that false, Yes or No?"], ".0f")
lesson.seen("yes-open", 100 * said_yes["Is that true?"], ".0f")
lesson.seen("asked-first", rows["Is that true, Yes or No?"][2], ".2f")
lesson.seen("asked-best", max(row[2] for row in rows.values()), ".2f")
claim(
    "to 'true?' and to 'false?' it says yes to less than 30 % of 54 answers",
    all(said_yes[f"Is that {word}, Yes or No?"] < 0.3 for word in ("true", "false")),
)
claim(
    "without 'Yes or No' it says yes more often, by 0.1",
    bool(said_yes["Is that true?"] > said_yes["Is that true, Yes or No?"] + 0.1),
)
claim("in no wording is the AUROC above 0.8", max(row[2] for row in rows.values()) < 0.8)

# %% [markdown] id="asking-seen"
# <details><summary>What you should see</summary>
#
# No bias to yes, but one to *no*: yes to {{seen:yes-true}} % of its answers when it is asked whether they are true, and to {{seen:yes-false}} % when asked whether they are false. So it answers the form of the question, not its content. Leave out "Yes or No", and it says yes to {{seen:yes-open}} %. An AUROC does not depend on the threshold, so a bias alone could not spoil it. The best wording here has {{seen:asked-best}}; but the first has {{seen:asked-first}} on these {{seen:asked}} questions and {{seen:area-true}} on all of yours, which shows how much a small sample is worth. Kadavath et al. 2022 saw P(True) work in models that are far larger, and get better with size.
# </details>

# %% [markdown] id="use-left-out-intro"
# ### Does it generalize from capitals to books?
#
# Last, a probe of the stream: does the model's middle layer tell whether its answer is right? It is read before the answer (at the prompt's last token) and after it (at the answer's last). Questions about one country are in several relations, so the subject is the group: fit on half of the subjects and judge on the others, both ways. Then the hard test: fit on nine relations, and judge on the tenth. `group_folds` does that too, if each relation is a group.
#
# There is a confound, as always. Relations differ: the model is right about most chemical symbols and few books. **Predict** the AUROC of a "probe" that knows only *which relation* a question belongs to.

# %% id="use-left-out"
every = knowledge.answers()
right = torch.tensor([row.right for row in every])
relations, subjects = (
    [row.question.relation for row in every],
    [row.question.subject for row in every],
)
splits = {"new subjects": folds_of(subjects, 2, 0), "new relation": folds_of(relations, 10, 0)}
before, after = runs.read_answers(model, every, 16)
scores = {"relation alone": runs.share_in_group(right, relations, splits["new subjects"])}
for how, split in splits.items():
    for place, x in (("before", before), ("after", after)):
        score = knowledge.out_of_fold(x, right, split, lambda a, b: fit(a, b, 1.0))
        scores[f"{place} the answer, {how}"] = score
scores["answer probability, no probe"] = torch.tensor([sum(row.logprobs) for row in every])
rows, inside = runs.right_table(area, scores, right, relations, splits["new subjects"])
show.table(rows, ["AUROC, all together", "inside relations"])

# %% id="claims-left-out-seen" tags=["claims"]
moved_to = inside["after the answer, new relation"]
lesson.seen("relation-alone", rows["relation alone"][0], ".2f")
lesson.seen("before-all", rows["before the answer, new subjects"][0], ".2f")
lesson.seen("before-inside", rows["before the answer, new subjects"][1], ".2f")
lesson.seen("before-new", rows["before the answer, new relation"][1], ".2f")
lesson.seen("after-inside", rows["after the answer, new subjects"][1], ".2f")
lesson.seen("after-new", rows["after the answer, new relation"][1], ".2f")
lesson.seen("after-books", moved_to["books"], ".2f")
lesson.seen("after-low", min(moved_to.values()), ".2f")
lesson.seen("after-high", max(moved_to.values()), ".2f")
lesson.seen("inside-probability", rows["answer probability, no probe"][1], ".2f")
claim(
    "the relation alone has an AUROC above 0.68 on 540 questions, and one half inside relations",
    rows["relation alone"][0] > 0.68 and abs(rows["relation alone"][1] - 0.5) < 1e-6,
)
claim(
    "before the answer a left-out relation is hardly told: a mean inside ten relations below 0.65",
    rows["before the answer, new relation"][1] < 0.65,
)
claim(
    "after the answer it is told better, by 0.05",
    rows["after the answer, new relation"][1]
    > rows["before the answer, new relation"][1] + 0.05,
)
claim(
    "a new relation costs 0.02 or more",
    rows["after the answer, new subjects"][1]
    > rows["after the answer, new relation"][1] + 0.02,
)
claim(
    "the answer's probability beats the probe in new relations by 0.04",
    rows["answer probability, no probe"][1] > rows["after the answer, new relation"][1] + 0.04,
)

# %% [markdown] id="left-out-seen"
# <details><summary>What you should see</summary>
#
# Before the answer the probe has {{seen:before-all}} over all questions, which looks fine until you see that the relation alone has {{seen:relation-alone}}. Inside relations {{seen:before-inside}} is left, and in a relation that it was not fitted on {{seen:before-new}}. What it had learned is largely which kinds of question are hard.
#
# After the answer it is another matter. Inside relations it reaches {{seen:after-inside}}, and {{seen:after-new}} in new ones; from everything else to books {{seen:after-books}}, and between {{seen:after-low}} and {{seen:after-high}} in others. So something about being right is shared by all relations. But a single number that nobody had to fit, the probability of the answer, has {{seen:inside-probability}} inside relations. A probe must be held against what the model says anyway.
# </details>

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

# %% [markdown] id="use-calibration-intro"
# **Predict:** is the model over- or under-confident? And how large would the calibration error of a *perfectly* calibrated model come out, on as many questions?

# %% id="use-calibration"
ece, curve = lesson.use("calibration_error"), lesson.use("risk_coverage")
held, held_right = knowledge.signals(held_out=True)
odds, held_odds = (
    each["answer probability"].clamp(1e-6, 1 - 1e-6).logit() for each in (signals, held)
)
T = runs.fit_temperature(odds, correct)
w, b = fit(odds[:, None], correct, 1e-3)
scaled = {
    "as it is": held_odds,
    "temperature": held_odds / T,
    "slope and shift": held_odds * w + b,
}
rows = runs.calibration_table(
    ece, {name: x.sigmoid() for name, x in scaled.items()}, held_right
)
print(f"right: {held_right.float().mean():.2f}; temperature {T:.1f}")
show.table(rows, ["mean confidence", "calibration error", "if calibrated: mean", "95 % below"])

# %% id="risk-picture" tags=["not-compared"]
shown = {
    name: signals[name]
    for name in ("answer probability", "first-token probability", "P(true)")
}
shown["control: random order"] = torch.rand(270, generator=torch.Generator().manual_seed(0))
runs.draw_risk({name: curve(confidence, correct) for name, confidence in shown.items()})

# %% id="claims-calibration-seen" tags=["claims"]
as_is, tempered, shifted = rows.values()
draws = runs.resampled(lambda c, r: ece(c, r, 10), held_odds.sigmoid(), held_right, n=100)
agrees = float(held["samples that agree"].mean())
drawn = [
    knowledge.is_right(text, row.question.answers)
    for row in knowledge.half(True)
    for text in row.samples
]
lesson.seen("sample-agrees", agrees, ".2f")
lesson.seen("sample-right", sum(drawn) / len(drawn), ".2f")
lesson.seen("temperature", T, ".1f")
lesson.seen("confidence", as_is[0], ".2f")
lesson.seen("held-right", held_right.float().mean(), ".2f")
lesson.seen("ece", as_is[1], ".2f")
lesson.seen("ece-low", draws.quantile(0.05), ".2f")
lesson.seen("ece-high", draws.quantile(0.95), ".2f")
lesson.seen("ece-tempered", tempered[1], ".2f")
lesson.seen("ece-shifted", shifted[1], ".2f")
lesson.seen("ece-perfect", as_is[2], ".2f")
lesson.seen("ece-perfect-high", shifted[3], ".2f")
coverage, risk = curve(signals["answer probability"], correct)
at_half = risk[(coverage - 0.5).abs().argmin()]
lesson.seen("risk-half", at_half, ".2f")
lesson.seen("risk-all", risk[-1], ".2f")
claim(
    "the model is under-confident by at least 0.1",
    float(as_is[0]) < float(held_right.float().mean()) - 0.1,
)
claim(
    "samples agree with the likeliest answer as often as its probability says, within 0.08",
    abs(agrees - float(as_is[0])) < 0.08,
)
claim(
    "and are right less often than it, by 0.15",
    sum(drawn) / len(drawn) < float(held_right.float().mean()) - 0.15,
)
claim(
    "a calibrated model would show an error between 0.02 and 0.12",
    0.02 < float(as_is[2]) < 0.12,
)
claim(
    "the model's own error is above what 95 % of calibrated models show, by 0.05",
    as_is[1] > float(as_is[3]) + 0.05,
)
claim(
    "a temperature takes away less than a third of the error", tempered[1] > as_is[1] * 2 / 3
)
claim("slope and shift take away more than half of it", shifted[1] < as_is[1] / 2)
claim(
    "answering the surer half lowers the risk by at least 0.1",
    float(at_half) < float(risk[-1]) - 0.1,
)

# %% [markdown] id="calibration-seen"
# <details><summary>What you should see</summary>
#
# Mean confidence {{seen:confidence}}, right {{seen:held-right}}: the model is *under*-confident in its likeliest answer. Not because it knows other ways to say the same: of the stored samples {{seen:sample-agrees}} mean what the likeliest answer means, hardly more than its probability. And only {{seen:sample-right}} of the samples are right. The rest goes to many different wrong answers, and the likeliest beats each of them. Its calibration error is {{seen:ece}}; over samples of these questions it scatters from {{seen:ece-low}} to {{seen:ece-high}}. And it is never zero: a perfectly calibrated model would show {{seen:ece-perfect}} on as few questions. A calibration error without its sampling error says little.
#
# The usual cure is a temperature, one number for all (Guo et al. 2017). Here it is {{seen:temperature}}, and the error stays {{seen:ece-tempered}}. A temperature pulls confidences toward one half or away from it; these are too low on either side of it. A slope *and* a shift, which is your `fit_probe` with one column, bring the error down to {{seen:ece-shifted}}, and calibrated models show up to {{seen:ece-perfect-high}}: no more to be had. Neither can change which answers the model is surer of.
#
# That is what risk and coverage show. The model that answers only the surer half is wrong on {{seen:risk-half}} of these, instead of {{seen:risk-all}}. It has some idea of what it knows. It does not say so.
# </details>

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
lesson.seen("recap-best", max(invented), ".2f")
lesson.seen("recap-embedding", invented[0], ".2f")
lesson.seen("recap-shuffled", max(shuffled), ".2f")
claim(
    "words alone separate famous from invented above 0.85, and matched halves above 0.8 by layer 12",
    invented[0] > 0.85 and shuffled[4] > 0.8,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You found a probe with a splendid score, {{seen:recap-best}}, and took it apart: the words alone had {{seen:recap-embedding}}. With the same words on both sides {{seen:recap-shuffled}} is left. That is real: it holds on new names, it has a part in whether late heads look at a name, and adding it makes the model surer of people who never lived. It carries over to obscure people, and goes with what has to be known about them. It also goes with how much a name was expected, and with all controls at once our data cannot part the two. The model has a sense of being right, in the probability of whole answers and, once it has answered, in its stream. What it *says* about its knowledge, in section 1 and when it is asked whether an answer is true, does not follow that sense.
#
# **What a small model cannot show.** Its refusals follow the instruction and hardly the name, so there is no switch between knowing and refusing to be found. Ferrando et al. (2024) add a latent for unknown entities to a chat model (Gemma-2), and it refuses nearly every question, where random latents do little; their latents hold for players, movies, cities and songs alike, a test that our single kind of entity cannot make. Their best latent for wrong answers (AUROC 0.73, Ferrando et al. 2024) was measured with another model and other questions than ours; what to hold such a number against you have seen, the probability of the answer. Lindsey et al. (2025) trace in Claude the circuit that we can only guess at: "can't answer" is on by default, known entities switch it off, and some hallucinations are that switch misfiring on a name that is familiar and no more. Familiar and known: the confusion of section 5 is the one that they found at work.
#
# *Reflect.* Which result of this lesson would have convinced you that the direction is about knowledge, and not about familiarity?

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}} One paper: Ferrando et al. (2024), "Do I know this entity? Knowledge awareness and hallucinations in language models".
