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
# You will find the heads with which a language model repeats what it has seen, explain how they work from their weights, test the explanation by cutting it, look for them in ordinary
# text, grow the same circuit from nothing, and look for it in other models.
#
# About {{minutes}} minutes · {{points}} points · after [lesson 01](01_residual_stream.ipynb). The model is SmolLM2-135M-Instruct with its norms folded into the weights (compatibility mode), because we read its
# matrices. Sources: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Olsson et al. 2022, *In-context Learning and Induction Heads*.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("induction_heads"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. A surprise
#
# A language model predicts text because text has structure. So give it something without any: random tokens. Nothing before tells what comes next, and a guess among
# 49,152 tokens costs log 49,152 = 10.8 nats if it is spread evenly.
#
# Now write the same random tokens a second time. There is still no grammar, no meaning, nothing that was in the training data. **Predict:** will the loss in the second copy be
# lower? By how much?
#
# To find out you need the tokens, and you need the loss.

# %% [markdown] id="ask-repeated_tokens"
# ### The tokens
#
# {{exercise repeated_tokens}}
#
# Each row is BOS, then `period` random tokens, then the same tokens in the same order. Every row has its own tokens, whole numbers from `low` up to but not including `high`, and uses that whole
# range; a token may come up twice. The same seed gives the same tokens and another seed others. PyTorch's global random state is left as it was.

# %% id="answer-repeated_tokens"
from jaxtyping import Float, Int
from torch import Tensor


def repeated_tokens(
    batch: int, period: int, low: int, high: int, bos: int, seed: int
) -> Int[Tensor, "batch 1+2*period"]:
    """BOS, `period` random tokens, and the same tokens again.

    low, high: tokens are drawn from [low, high). bos: the token at position 0 of every row.
    seed: the same seed gives the same tokens; the global random state is untouched.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(low, high, (batch, period), generator=generator)
    start = torch.full((batch, 1), bos)
    return torch.cat([start, half, half], dim=1)
    # END SOLUTION


lesson.check(repeated_tokens)

# %% [markdown] id="ask-loss_per_token"
# ### The loss
#
# {{exercise loss_per_token}}
#
# The loss of a token is −log of the probability that the model gave it *before* seeing it, so it is never negative. A batch of one and a text of two tokens work too, and logits may be so large
# that their exponentials overflow.


# %% id="answer-loss_per_token"
def loss_per_token(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos-1"]:
    """Next-token loss at each position, in nats.

    Entry p is the loss of token p + 1, predicted from position p.
    """
    # BEGIN SOLUTION
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return -log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    # END SOLUTION


lesson.check(loss_per_token)

# %% [markdown] id="use-loss-intro"
# Eight sequences with a period of 40, and beside them a **control**: 80 random tokens that do not repeat.

# %% id="use-loss"
from mi_course.interp import circuits, induction, induction_text
from mi_course.interp import induction_study as study

PERIOD, BOS = 40, model.tokenizer.bos_token_id
make_tokens, loss_of = lesson.use("repeated_tokens"), lesson.use("loss_per_token")
tokens, others = (make_tokens(8, PERIOD, 1000, 40_000, BOS, seed) for seed in (0, 1))
unrepeated = torch.cat([tokens[:, : PERIOD + 1], others[:, 1 : PERIOD + 1]], dim=1)
with torch.no_grad():
    loss, control = loss_of(model(tokens), tokens), loss_of(model(unrepeated), unrepeated)

# The first token of the second copy comes as a surprise too, so it counts with the first copy.
rows = {
    "repeated": study.by_copy(loss, PERIOD),
    "not repeated": study.by_copy(control, PERIOD),
}
show.table(rows, ["first copy", "second copy, or its place"], title="Loss (nats)", digits=1)

# %% id="loss-picture" tags=["not-compared"]
study.draw_losses({"repeated": loss, "control: not repeated": control}, PERIOD)

# %% id="claims-loss-seen" tags=["claims"]
from mi_course import claim

first, second = loss[:, : PERIOD + 1].mean(1), loss[:, PERIOD + 1 :].mean(1)
never = control[:, PERIOD + 1 :].mean(1)
lesson.seen("first", first.mean(), ".0f")
lesson.seen("second", second.mean(), ".0f")
lesson.seen("even", torch.tensor(49_152.0).log(), ".1f")
with torch.no_grad():
    _likeliest = model(tokens[:3])[:, PERIOD + 1 : -1].argmax(-1)
    _short = make_tokens(8, 10, 1000, 40_000, BOS, 0)
    _short_loss = loss_of(model(_short), _short)[:, 11:].mean()
_right = (_likeliest == tokens[:3, PERIOD + 2 :]).float().mean()
lesson.seen("right", _right, ".0%")
lesson.seen("short", _short_loss, ".0f")
claim(
    "in the second copy the right token is the likeliest in more than half of the places",
    _right > 0.5,
)
claim("with a period of 10 the second copy costs 2 nats more", _short_loss > second.mean() + 2)
claim(
    "the second copy costs 8 nats less than the first, in each of 8 rows",
    (first - second > 8).all(),
)
claim("without repetition no row falls by 3 nats", (first - never < 3).all())
claim("random text is worse than an even guess, by 1 nat in each row", (first > 11.8).all())

# %% [markdown] id="loss-seen"
# <details><summary>What you should see</summary>
#
# About {{seen:first}} nats in the first copy, about {{seen:second}} in the second, and no such fall without the repetition. The first copy costs *more* than an evenly spread guess ({{seen:even}}): the model expects text, and random
# tokens are none. In {{seen:right}} of the places one earlier occurrence makes the right token the likeliest of all. It takes some run-up: with a period of $10$ in the place of $40$ the second copy still costs {{seen:short}} nats.
# </details>
#
# Some part of this model looks back, finds where the present token stood before, and says what came next. Elhage et al. (2021) found such a part in two-layer models, and called it an
# **induction head**. Where is it here?

# %% [markdown] id="part-2"
# ## 2. Which heads?
#
# You recognize a head by what it attends to. At the second `A` of `A B … A` an induction head attends to `B`, the token that **followed** the first `A`.
#
# **By hand, once.** Take `BOS a b c a b c`, a period of 3. The second `a` stands at position 4, the token after the first `a` at position 2. So query 4 should attend to key 2, query 5 to key 3, query 6 to key 4.
# Write the key as a formula of the query and the period before you go on. With nothing to find, a head rests at BOS.

# %% id="by-hand" tags=["not-compared"]
study.draw_ideal(["BOS", "a", "b", "c", "a", "b", "c"], period=3)

# %% [markdown] id="ask-induction_score"
# {{exercise induction_score}}
#
# The queries are the tokens of the second copy, positions period + 1 to 2 · period. A token that comes up again by chance is no special case. One head gives one score. Patterns may lack a causal
# mask: only the entries named count.


# %% id="answer-induction_score"
def induction_score(
    pattern: Float[Tensor, "head query key"], period: int
) -> Float[Tensor, "head"]:
    """Mean attention from each token of the second copy to the token that followed its first copy.

    pattern: attention probabilities on BOS + a random sequence of `period` tokens + the same sequence again.
    """
    # BEGIN SOLUTION
    stripe = pattern.diagonal(offset=-(period - 1), dim1=-2, dim2=-1)
    return stripe[..., -period:].mean(dim=-1)
    # END SOLUTION


lesson.check(induction_score)

# %% [markdown] id="use-induction-score-intro"
# Now score all 270 heads, on the eight sequences.

# %% id="use-induction-score"
score = lesson.use("induction_score")
scores = induction.score_heads(model, tokens, lambda pattern: score(pattern, PERIOD))
print(f"highest {scores.max():.2f}, median of all 270 heads {scores.median():.2f}")

# %% id="score-picture" tags=["not-compared"]
title = "Attention to the token that followed, for each head"
show.head_heatmap(scores, title=title, unit="induction score", center=None)

# %% [markdown] id="ask-my_induction_heads"
# ### Your induction heads
#
# {{exercise my_induction_heads}}
#
# A list of different (layer, head) pairs. Look at the picture and choose a threshold: `top_heads(scores, threshold)` gives the heads above it, strongest first. The list is judged on sequences with other tokens and other
# periods: it passes with **at least four heads, each of which scores 0.2 or more there**. Missing some does no harm.

# %% id="answer-my_induction_heads"
from mi_course.interp.heads import named
from mi_course.interp.induction import top_heads

# BEGIN SOLUTION
my_induction_heads = top_heads(scores, 0.35)
# END SOLUTION

lesson.check(my_induction_heads, name="my_induction_heads")

# %% [markdown] id="control-period"
# **Try to break it.** A head that always attends 39 back would have the same score, and would know nothing about repetition. So change the period, and keep the heads.

# %% id="use-other-period"
found = lesson.use("my_induction_heads")
at = {n: make_tokens(8, n, 1000, 40_000, BOS, seed=2) for n in (25, 15, 8)}
other = {period: induction.head_scores(model, it, period) for period, it in at.items()}
rows = {named(head): [scores[head], *(it[head] for it in other.values())] for head in found}
show.table(rows, ["at period 40", "at 25", "at 15", "at 8"])

# %% id="attention-picture" tags=["not-compared"]
short = make_tokens(1, 12, 1000, 40_000, BOS, seed=3)
study.draw_attention(model, short, found[:1], "Choose a token of the second copy")

# %% id="claims-heads-seen" tags=["claims"]
strong = [pair for pair in found if scores[pair] > 0.35]
lesson.seen("strong", len(strong))
lesson.seen("strongest", named(found[0]))
claim(
    "the heads found score above 0.3 at periods of 25 and 15, with other tokens",
    all(other[period][pair] > 0.3 for period in (25, 15) for pair in strong),
)
claim(
    "at a period of 8 each scores lower by 0.1 than at 25",
    all(other[8][pair] < other[25][pair] - 0.1 for pair in strong),
)
claim(
    "there the four strongest of all heads are among them",
    all(pair in strong for pair in top_heads(other[8], 0.0)[:4]),
)
lesson.seen("short-low", min(other[8][pair] for pair in strong), ".1f")
lesson.seen("short-high", max(other[8][pair] for pair in strong), ".1f")
claim(
    "the median head scores below 0.05 at periods of 40, 25 and 15",
    max(float(it.median()) for it in (scores, other[25], other[15])) < 0.05,
)

# %% [markdown] id="heads-seen"
# <details><summary>What you should see</summary>
#
# {{seen:strong}} heads stand out, {{seen:strongest}} above all, and half of all heads have next to no score. At periods of $25$ and $15$, with other tokens, the same heads do it. What they have learned is no fixed distance. At a period of $8$ the strongest of all are still among them, but they score {{seen:short-low}} to {{seen:short-high}}: with so little text before it, the pattern is weaker, and so is its effect on the loss.
# </details>

# %% [markdown] id="part-3"
# ## 3. How can it know?
#
# Here is a puzzle. A head compares a *query*, made at the present token, with *keys*, made at earlier positions. At the position of `B` the key has to say: "the token **before** me was `A`". But what is
# known at the position of `B` is `B`. Who told it about `A`?
#
# Another head, in an earlier layer, that attends one position back and writes what it saw. Elhage et al. (2021, section "Two-Layer Attention-Only Transformers") call the pair an induction circuit:
#
# 1. A **previous-token head** copies `A` from the first `A` to the place of `B`.
# 2. The induction head's keys read what it wrote (**K-composition**), so the query `A` finds the place of `B`.
# 3. The induction head's value and output (its **OV circuit**) raise the logit of `B`.
#
# Three claims, three tests. First: are there heads that attend one back?

# %% [markdown] id="ask-previous_token_score"
# {{exercise previous_token_score}}
#
# Two positions are enough, and so is one head. Patterns may lack a causal mask.


# %% id="answer-previous_token_score"
def previous_token_score(pattern: Float[Tensor, "head query key"]) -> Float[Tensor, "head"]:
    """Mean attention from each query after the first to the position just before it."""
    # BEGIN SOLUTION
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)
    # END SOLUTION


lesson.check(previous_token_score)

# %% id="use-previous-token-score"
previous = induction.score_heads(model, tokens, lesson.use("previous_token_score"))
previous_heads = top_heads(previous, 0.6)
print({named(head): f"{previous[head]:.2f}" for head in previous_heads})

# %% id="previous-picture" tags=["not-compared"]
look = {"unit": "previous-token score", "center": None, "highlight": found}
show.head_heatmap(previous, title="Attention one back. Framed: your induction heads", **look)

# %% [markdown] id="composition-intro"
# Several candidates. Which of them does an induction head listen to? Ask the weights.
#
# A head writes through $W_{OV} = W_V W_O$ and compares through $W_{QK} = W_Q W_K^\top$, which queries enter from the left and keys from the right ([lesson 01](01_residual_stream.ipynb), section 5; rotary positions are left out here). If queries, keys or values read what an earlier head wrote, the product
# of their matrix with $W_{OV}^{\text{earlier}}$ is large for its size: with $W_{QK}^\top$ for K-composition, with $W_{QK}$ for Q-composition, with $W_{OV}$ for V-composition.

# %% [markdown] id="ask-composition_score"
# {{exercise composition_score}}
#
# $\lVert W_1 W_2\rVert_F \,/\, (\lVert W_1\rVert_F \lVert W_2\rVert_F)$, and 0 if either matrix is zero. The matrices need not be square, and their scale does not matter. A float or a tensor without axes will do.


# %% id="answer-composition_score"
def composition_score(W_first: Float[Tensor, "a b"], W_second: Float[Tensor, "b c"]) -> float:
    """How much of what the first matrix writes the second one reads: Frobenius norms of product over factors.

    Between 0 and 1; 0 for a zero matrix. Two random d × d matrices score about 1/√d.
    """
    # BEGIN SOLUTION
    norms = W_first.norm() * W_second.norm()
    return float((W_first @ W_second).norm() / norms) if norms > 0 else 0.0
    # END SOLUTION


lesson.check(composition_score)

# %% [markdown] id="use-composition-intro"
# In each layer nine query heads share three pairs of keys and values: query heads 0 to 2 the first, 3 to 5 the second, 6 to 8 the third. Induction heads that share their keys are therefore **one** test of K-composition, not
# several. The next cell takes one reader for each key matrix among your four strongest heads, and computes how **every** head of an earlier layer composes with its keys, queries and values. The heads that do not matter are one control. Random
# matrices of the same shape and rank are another.
#
# **Predict:** by which of the three is the previous-token head read?

# %% id="use-composition"
composition = lesson.use("composition_score")
readers = study.one_for_each_key_matrix(found[:4])
into = circuits.composition_tables(model, readers, composition)
chance = max(circuits.random_compositions(model, composition))
before = [head for head in previous_heads if head[0] < readers[0][0]]
source = max(before, key=into[readers[0], "k"].get)  # of these, the best read
bystander = next(head for head in before if head != source)
print(f"source {named(source)}, bystander {named(bystander)}, random up to {chance:.3f}")
study.composition_table(into, source, bystander)

# %% id="composition-picture" tags=["not-compared"]
study.draw_composition(into, readers[0], source, chance)

# %% id="claims-composition-seen" tags=["claims"]
keys, queries, values = (into[readers[0], part] for part in "kqv")
lesson.seen("source", named(source))
lesson.seen("bystander", named(bystander))
lesson.seen("key-matrices", [named(reader) for reader in readers])
lesson.seen("earlier", len(keys))
lesson.seen("k", keys[source], ".2f")
lesson.seen("k-bystander", keys[bystander], ".2f")
lesson.seen("chance", chance, ".2f")
_later = next(head for head in found if head[0] > readers[-1][0] + 2)
_keys = circuits.composition_table(model, _later, "k", composition)
_best = max(_keys, key=_keys.get)
lesson.seen("later", named(_later))
lesson.seen("later-best", named(_best))
claim(
    "the keys of a later induction head read another head best, and it attends one back too",
    _best != source and previous[_best] > 0.5,
)
claim(
    "in keys the source ranks first or second, for each key matrix",
    all(study.rank(source, into[r, "k"]) <= 2 for r in readers),
)
claim(
    "in keys the source has three times the median",
    all(
        into[r, "k"][source] > 3 * sorted(into[r, "k"].values())[len(into[r, "k"]) // 2]
        for r in readers
    ),
)
claim(
    "in keys the source has 1.5 times the bystander, for each key matrix",
    all(into[r, "k"][source] > 1.5 * into[r, "k"][bystander] for r in readers),
)
claim(
    "in keys it has 1.5 times what it has in queries or values",
    all(
        into[r, "k"][source] > 1.5 * max(into[r, "q"][source], into[r, "v"][source])
        for r in readers
    ),
)
claim(
    "for one reader at least the source ranks first in values",
    any(study.rank(source, into[r, "v"]) == 1 for r in readers),
)
claim(
    "the median head is within 15 % of the highest of 20 random pairs, in keys",
    all(
        abs(sorted(into[r, "k"].values())[len(into[r, "k"]) // 2] / chance - 1) < 0.15
        for r in readers
    ),
)

# %% [markdown] id="composition-seen"
# <details><summary>What you should see</summary>
#
# {{seen:source}} comes first or second of all earlier heads in the keys of {{seen:key-matrices}}: {{seen:k}} for the first of them, more than three times the median. {{seen:bystander}} attends one back almost as faithfully, and has {{seen:k-bystander}}. Attention alone did not tell
# them apart; the weights do. The typical earlier head composes about as random matrices do ({{seen:chance}} at most). And it is the *keys* that read {{seen:source}} best, as the explanation asks: queries and values compose with it far less, though for one of the two readers the values, too, read no other head better. This is about your four strongest: the keys of {{seen:later}} read {{seen:later-best}} best, another head that attends one back.
#
# A caution. A high score says that a path is wide, not what travels along it. So it is a reason to cut the path, in section 4.
# </details>

# %% [markdown] id="ask-copying_score"
# ### Does it copy?
#
# The third claim: the OV circuit raises the logit of the token that is attended to. In a small model that can be read off the weights: $W_E W_{OV} W_U$ has a row for each attended token and a column for each logit.
#
# {{exercise copying_score}}
#
# A token counts if its own logit is **strictly** larger than every other in its row, so a tie does not count, and a zero matrix copies nothing. A float or a tensor without axes will do.


# %% id="answer-copying_score"
def copying_score(
    W_E: Float[Tensor, "vocab d_model"],
    W_OV: Float[Tensor, "d_model d_model"],
    W_U: Float[Tensor, "d_model vocab"],
) -> float:
    """Share of tokens that a head, attending to them, raises above every other token.

    Row vectors: a token's embedding is a row of W_E, and passes through W_OV and then W_U.
    """
    # BEGIN SOLUTION
    logits = W_E @ W_OV @ W_U
    own = logits.diagonal()
    others = logits.clone().fill_diagonal_(float("-inf"))
    return float((own > others.max(dim=-1).values).float().mean())
    # END SOLUTION


lesson.check(copying_score)

# %% [markdown] id="use-copying-intro"
# `tiny-induction` is a model of ours: two layers of four heads, no MLPs, 64 tokens, trained on repeated random tokens as you will do below. Its second layer holds the induction heads. The first layer is the control.

# %% id="use-copying"
from mi_course.interp.models import load_native

tiny, copying = load_native("tiny-induction"), lesson.use("copying_score")
for layer in (0, 1):
    ov = [circuits.ov_circuit(tiny, layer, head) for head in range(4)]
    shares = [copying(tiny.W_E, W_OV, tiny.W_U) for W_OV in ov]
    print(f"layer {layer}: copying scores", [f"{share:.2f}" for share in shares])

# %% [markdown] id="copying-smollm"
# On SmolLM2 that table would have 49,152² entries, and a whole stack of layers still reads what an induction head writes. So ask the model itself. On repeated tokens, at the second copy: by how much does each head's own output, read through the final norm and the unembedding, raise the
# logit of the token that **followed**, compared with the other tokens of the sequence? That is its **direct** effect. **Predict:** which heads write most of the answer?

# %% id="use-direct-copying"
direct, _ = circuits.direct_copying_effect(model, tokens[:4], PERIOD)
writers = top_heads(direct, 0.4)
listed = list(dict.fromkeys([*found, *writers]))
rows = {named(head): [scores[head], direct[head]] for head in listed}
show.table(rows, ["induction score", "direct effect (logits)"])

# %% id="direct-picture" tags=["not-compared"]
title = "Direct effect on the token that followed. Framed: your induction heads"
show.head_heatmap(direct, title=title, unit="logits", highlight=found)

# %% id="claims-direct-seen" tags=["claims"]
first_two = [head for head in found if head in readers]
lesson.seen("writer", named(writers[0]))
lesson.seen("writer-effect", direct[writers[0]], ".1f")
lesson.seen("writer-score", scores[writers[0]], ".2f")
lesson.seen("copying-low", min(shares), ".1f")
claim("every head of the second layer copies more than half of the tokens", min(shares) > 0.5)
claim(
    "the strongest heads with keys of their own write less than 0.3 logits directly",
    all(abs(direct[head]) < 0.3 for head in first_two),
)
claim(
    "the strongest writer's induction score is below 0.05, and it writes three times as much",
    scores[writers[0]] < 0.05
    and bool(direct[writers[0]] > 3 * max(direct[head] for head in first_two)),
)

# %% [markdown] id="direct-seen"
# <details><summary>What you should see, and an honest complication</summary>
#
# In the tiny model every head of the second layer copies straight to the logits. In SmolLM2 the heads with the highest induction scores write next to nothing there. The largest direct effect, {{seen:writer-effect}} logits, is that of {{seen:writer}}, whose induction score is {{seen:writer-score}}.
#
# Olsson et al. (2022) call a head an induction head if it matches the prefix *and* copies. By attention alone, as we chose them, yours do the first; whether their output arrives at the logits by way of later layers, this table cannot say. Whether they matter at all is a question for an
# experiment: take them away.
# </details>

# %% [markdown] id="part-4"
# ## 4. Take them away, and cut the wire
#
# Attention patterns and weights suggest. An **ablation** tests: set the outputs of some heads to zero, and see whether the model can still do it.

# %% [markdown] id="ask-loss_without_heads"
# {{exercise loss_without_heads}}
#
# All heads of the list are silent in the same forward pass, at every position of every row: the hook point is `blocks.{layer}.attn.hook_z`, [batch, pos, head, d_head]. The list may be empty, and may name several heads of a layer. The weights stay as they are, no gradients are
# needed, and no hook is left on the model, even if the forward pass fails.

# %% id="answer-loss_without_heads"
from functools import partial


def loss_without_heads(
    model, tokens: Int[Tensor, "batch pos"], heads: list[tuple[int, int]]
) -> Float[Tensor, "batch pos-1"]:
    """Next-token loss, in nats, with the outputs of these (layer, head) pairs set to zero.

    The hook point is `blocks.{layer}.attn.hook_z`, [batch, pos, head, d_head]. No hook is left on the model.
    """

    # BEGIN SOLUTION
    def silence(z, hook, head):
        z[:, :, head] = 0.0
        return z

    hooks = [
        (f"blocks.{layer}.attn.hook_z", partial(silence, head=head)) for layer, head in heads
    ]
    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return -log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    # END SOLUTION


lesson.check(loss_without_heads)

# %% [markdown] id="use-ablation-intro"
# **Predict** before you run: which will hurt more, removing your four strongest induction heads together, or removing the one previous-token head that their keys read? And any one of the four alone?
#
# Three controls: heads drawn at random from all the others, one and four at a time; the loss on the *first* copy, where there is nothing to induce; and an ordinary passage, to see whether the model is hurt in general.

# %% id="use-ablation"
without, few = lesson.use("loss_without_heads"), tokens[:2]
passage, four = model.to_tokens(induction_text.PASSAGE), found[:4]
sets = {"nothing": [], "the source": [source], "the bystander": [bystander], "all four": four}
sets |= {f"{named(head)} alone": [head] for head in four}
losses = {k: study.by_copy(without(model, few, heads), PERIOD) for k, heads in sets.items()}
texts = {k: without(model, passage, sets[k]).mean() for k in list(sets)[:4]}
rows, randoms = {name: [*losses[name], texts.get(name, "")] for name in sets}, {}
drawn = study.random_sets([*found, *previous_heads], counts=(1, 4), seeds=range(4))
for n, some in drawn.items():
    randoms[n] = sorted(study.by_copy(without(model, few, it), PERIOD)[1] for it in some)
    rows[f"{n} at random, worst of 4"] = ["", randoms[n][-1], ""]
show.table(rows, ["first copy", "second copy", "passage"], title="Loss (nats) without …")

# %% id="ablation-picture" tags=["not-compared"]
control = {"control": sum(randoms[4][1:3]) / 2, "control_name": "four random heads (median)"}
study.draw_second_copy({k: v[1] for k, v in losses.items()}, "what is set to zero", **control)

# %% id="claims-ablation-seen" tags=["claims"]
clean_loss, no_source, no_bystander, no_four = (losses[name] for name in list(sets)[:4])
alone = {head: losses[f"{named(head)} alone"][1] - clean_loss[1] for head in four}
worst = max(alone, key=alone.get)
lesson.seen("clean", clean_loss[1], ".1f")
lesson.seen("no-source", no_source[1], ".1f")
lesson.seen("no-four", no_four[1], ".1f")
lesson.seen("worst-alone", named(worst))
lesson.seen("worst-alone-loss", clean_loss[1] + alone[worst], ".1f")
four_random = randoms[4]
lesson.seen("random-four", four_random[-1], ".1f")
claim(
    "four induction heads together cost most, by half a nat over the source",
    no_four[1] > no_source[1] + 0.5,
)
claim(
    "the source alone costs more than 5 nats in the second copy",
    no_source[1] > clean_loss[1] + 5,
)
claim(
    "the source costs less than 0.7 nats in the first copy", no_source[0] < clean_loss[0] + 0.7
)
claim(
    "the source and the bystander cost less than 0.1 nats on the passage",
    max(texts["the source"], texts["the bystander"]) < texts["nothing"] + 0.1,
)
claim("no random set of four costs 2 nats", four_random[-1] < clean_loss[1] + 2)
claim(
    "the source costs 1.5 times as much as any of the four alone",
    no_source[1] - clean_loss[1] > 1.5 * alone[worst],
)
claim(
    "the four together cost 1 nat more than the sum of each alone",
    no_four[1] - clean_loss[1] > 1 + sum(alone.values()),
)

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# Without the four, the second copy rises from {{seen:clean}} to {{seen:no-four}} nats; without the one head that their keys read, to {{seen:no-source}}. Random sets of four end at {{seen:random-four}} at most. And the damage is specific: without the source the first copy and the ordinary passage are nearly
# as before.
#
# No induction head alone is that important: the worst to lose is {{seen:worst-alone}}, at {{seen:worst-alone-loss}} nats. Together they cost more than the sum of each alone, so they stand in for one another to a degree. A head without any induction score of its own is harder to replace than any of them.
# </details>
#
# *Reflect.* Setting a head to zero puts the model in a state it has never been in. Which of the conclusions above would you still draw if the random sets had cost as much as the source?

# %% [markdown] id="path-intro"
# ### Cut one wire
#
# The ablation shows that the source matters. It does not show *how*: its output goes everywhere. The explanation says that it acts through the **keys** of the induction heads. So leave the head alone, and change only what their keys know of it: run the model once without the source, keep the
# keys of the induction heads' layers, and put these keys into a run that is otherwise clean. Queries and values are the comparison.

# %% [markdown] id="ask-loss_without_path"
# {{exercise loss_without_path}}
#
# In a first run the output (`hook_z`) of `source`, a pair (layer, head), is zero at every position. Keep `blocks.{layer}.attn.hook_{part}`, [batch, pos, head, d_head], of each of `layers`; `part` is `"q"`, `"k"` or `"v"`. In a second run nothing is silenced, and these kept activations take
# the place of the model's own, at all positions and for all heads. Return the loss of the second run. `layers` may be empty; then it is the loss of the whole model. The weights stay as they are, no gradients are needed, and no hook is left on the model, even if a forward pass fails.


# %% id="answer-loss_without_path"
def loss_without_path(
    model,
    tokens: Int[Tensor, "batch pos"],
    source: tuple[int, int],
    part: str,
    layers: list[int],
) -> Float[Tensor, "batch pos-1"]:
    """Next-token loss, in nats, with the `part` of these layers as it would be without `source`.

    source: (layer, head). part: "q", "k" or "v". layers: whose queries, keys or values are exchanged.
    """

    # BEGIN SOLUTION
    def silence(z, hook):
        z[:, :, source[1]] = 0.0
        return z

    def keep(x, hook):
        kept[hook.name] = x.clone()

    def put(x, hook):
        return kept[hook.name]

    kept = {}
    names = [f"blocks.{layer}.attn.hook_{part}" for layer in layers]
    first = [(f"blocks.{source[0]}.attn.hook_z", silence), *((name, keep) for name in names)]
    with torch.no_grad():
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=first)
        logits = model.run_with_hooks(tokens, fwd_hooks=[(name, put) for name in names])
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return -log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    # END SOLUTION


lesson.check(loss_without_path)

# %% id="use-path"
cut, layers = lesson.use("loss_without_path"), sorted({layer for layer, _ in four})
drawn = study.random_sets(previous_heads, counts=[1], seeds=range(3), n_layers=layers[0])[1]
ends = {part: (source, part) for part in "kqv"} | {"k, bystander": (bystander, "k")}
ends |= {f"k, {named(head)} (random)": (head, "k") for (head,) in drawn}
paths = {k: study.by_copy(cut(model, few, *it, layers), PERIOD)[1] for k, it in ends.items()}
rows = {name: losses[name][1] for name in ("nothing", "the source")} | paths
title = f"Without …; below: its part in layers {layers}"
show.table(rows, ["second copy (nats)"], title=title)

# %% id="path-picture" tags=["not-compared"]
control = {"control": losses["nothing"][1], "control_name": "clean run"}
study.draw_second_copy(paths, "what is exchanged", **control)

# %% id="claims-path-seen" tags=["claims"]
lesson.seen("cut-k", paths["k"], ".1f")
lesson.seen("cut-q", paths["q"], ".1f")
lesson.seen("cut-v", paths["v"], ".1f")
lesson.seen("layers", layers)
share = (paths["k"] - clean_loss[1]) / (no_source[1] - clean_loss[1])
lesson.seen("share", share, ".0%")
claim("cutting the keys costs at least 80 % of what the whole head costs", share > 0.8)
claim(
    "cutting queries or values costs less than 1.5 nats each",
    max(paths["q"], paths["v"]) < clean_loss[1] + 1.5,
)
claim(
    "keys without the bystander, or without a random head, cost less than 1 nat",
    max(list(paths.values())[3:]) < clean_loss[1] + 1,
)

# %% [markdown] id="path-seen"
# <details><summary>What you should see</summary>
#
# With nothing changed but the keys of layers {{seen:layers}}, the loss rises to {{seen:cut-k}} nats, {{seen:share}} of the damage of losing the head altogether. The same exchange of queries gives {{seen:cut-q}} and of values {{seen:cut-v}}. Keys without the bystander, or without a random head, do next to nothing.
#
# So this is K-composition, shown by experiment: the source acts through the keys of these layers. What you exchanged is *all* that the missing head changes in these keys, also by way of what lies between; to separate that takes path patching (lesson 03).
# </details>

# %% [markdown] id="part-5"
# ## 5. In real text
#
# Random tokens isolate the mechanism. But nobody writes them. Does the model use these heads where text repeats itself for a reason? Start with a measure that needs no period.

# %% [markdown] id="ask-text_induction_score"
# {{exercise text_induction_score}}
#
# The queries are the positions whose token has occurred before, strictly earlier. For each of them add up the attention to the positions right **after** all its earlier occurrences; if a token stands twice in a row, what followed the first is the query itself, and counts. The score is the
# mean over these queries, and 0 for every head if no token is repeated. The text may be a single token, and patterns may lack a causal mask.


# %% id="answer-text_induction_score"
def text_induction_score(
    pattern: Float[Tensor, "head query key"], tokens: Int[Tensor, "pos"]
) -> Float[Tensor, "head"]:
    """Mean attention of repeated tokens to what followed their earlier occurrences; 0 if there are none."""
    # BEGIN SOLUTION
    earlier = (tokens[:, None] == tokens).tril(-1)
    follows = earlier.roll(1, dims=1)  # the last column of `earlier` is empty
    attention = (pattern * follows).sum(dim=(1, 2))
    return attention / earlier.any(dim=1).sum().clamp(min=1)
    # END SOLUTION


lesson.check(text_induction_score)

# %% [markdown] id="use-text-intro"
# Three stories of ours, each with an invented name that comes three times. The model can know the rest of the name from the story only. **Predict:** will the heads that lead on random tokens lead here? And what will their loss do to the *second* half of a name, once its first half stands there?

# %% id="use-text"
in_text = induction_text.heads_in_text(model, lesson.use("text_induction_score"))
leaders = top_heads(in_text, 0.0)[:5]
print("lead in stories:", {named(head): f"{in_text[head]:.2f}" for head in leaders})
some = {name: sets[name] for name in list(sets)[:4]}
some["all you found"] = found
some["four at random"] = induction.random_heads(30, 9, 4, 0, [*found, *previous_heads])
for_names = {k: induction_text.name_losses(model, without, heads) for k, heads in some.items()}
show.table(for_names, ["name once", "name again", "all else"], title="Loss (nats) without …")

# %% id="claims-names-seen" tags=["claims"]
clean_names, no_source_names, _, no_four_names, none_names, random_names = for_names.values()
lesson.seen("leaders", [named(head) for head in leaders[:3]])
lesson.seen("name-once", clean_names[0], ".1f")
lesson.seen("name-again", clean_names[1], ".2f")
lesson.seen("name-no-four", no_four_names[1], ".2f")
lesson.seen("name-no-source", no_source_names[1], ".2f")
lesson.seen("name-random", random_names[1], ".2f")
lesson.seen("name-none", none_names[1], ".2f")
claim(
    "without all heads found the later times cost half a nat more than without the four",
    none_names[1] > no_four_names[1] + 0.5,
)
claim(
    "the five heads that lead in stories are among those found on random tokens",
    all(head in found for head in leaders),
)
claim(
    "a name's completion falls by more than 5 nats when it comes again",
    clean_names[0] - clean_names[1] > 5,
)
claim(
    "without the four its later times cost 1 nat more than without four random heads",
    no_four_names[1] > random_names[1] + 1,
)
claim(
    "without the source they cost 0.7 nats more than without the bystander",
    no_source_names[1] > for_names["the bystander"][1] + 0.7,
)
claim(
    "even without the four, a name costs 3 nats less again than once",
    no_four_names[0] - no_four_names[1] > 3,
)
claim(
    "four random heads change them by less than 0.2 nats",
    abs(random_names[1] - clean_names[1]) < 0.2,
)
claim(
    "without the four, or the source, all else costs less than 0.1 nats more",
    max(no_four_names[2], no_source_names[2]) < clean_names[2] + 0.1,
)

# %% [markdown] id="names-seen"
# <details><summary>What you should see</summary>
#
# The heads that lead in stories, {{seen:leaders}} first, are heads that you found on random tokens. The completion of an invented name falls from {{seen:name-once}} nats the first time to {{seen:name-again}} later, and they have a part in that: without your four it costs {{seen:name-no-four}} nats, without the
# source {{seen:name-no-source}}, without four random heads {{seen:name-random}}. Everything else in the stories is as before. So the circuit is used in ordinary text, for what it can do: complete what has been said.
#
# But only a part: without the four, a name is still far cheaper the second time than the first. The other heads that you found share the work: without them all it costs {{seen:name-none}} nats.
# </details>

# %% [markdown] id="use-fuzzy-intro"
# ### Must it be the same token?
#
# A mechanism that matches tokens would be of little use where words change their form. Olsson et al. (2022, "Argument 4") show single heads that match more loosely. So write a list of nouns, and then the same nouns in the same order but **in another form**: at ` cats` an induction head that matches loosely attends
# to what followed ` cat`. The control has the same forms in another order. Then the same question in a list of examples, a noun and a color in each line: does the model give ` cats` the color that ` cat` had? **Predict** both, for plurals and for capitals.

# %% id="use-fuzzy"
changes = {"cat": " {}".format, "cats": " {}s".format, "Cat": lambda noun: f" {noun.title()}"}
silent = {name: some[name] for name in ("nothing", "the source", "all four", "four at random")}
fuzzy, shown, rows = {}, {}, {}
for form, change in changes.items():
    fuzzy[form] = same, control = induction_text.matching_scores(model, change)
    shown[form] = induction_text.color_losses(model, change, without, silent)
    rows[form] = [f"{same[head]:.2f} ({control[head]:.2f})" for head in four]
print(show.table(rows, list(map(named, four)), title="Scores of your four (control)"))
rows = {form: list(by_set.values()) for form, by_set in shown.items()}
show.table(rows, list(silent), title="Loss of the color (nats) without …")

# %% id="claims-fuzzy-seen" tags=["claims"]
above = {
    form: [float(table[0][head] - table[1][head]) for head in four]
    for form, table in fuzzy.items()
}
guess = float(torch.tensor(13.0).log())
lesson.seen("same-form", [min(above["cat"]), max(above["cat"])], ".1f")
lesson.seen("capital-low", min(above["Cat"]), ".1f")
lesson.seen("capital-high", max(above["Cat"]), ".1f")
lesson.seen("plural-high", max(above["cats"]), ".1f")
lesson.seen("color-same", shown["cat"]["nothing"], ".1f")
lesson.seen("color-capital", shown["Cat"]["nothing"], ".1f")
lesson.seen("color-plural", shown["cats"]["nothing"], ".1f")
lesson.seen("color-capital-no-four", shown["Cat"]["all four"], ".1f")
lesson.seen("color-guess", guess, ".1f")
claim("each of the four matches capitals 0.2 above the control", min(above["Cat"]) > 0.2)
claim("none of the four matches plurals 0.2 above the control", max(above["cats"]) < 0.2)
claim(
    "at each head the same form scores highest",
    all(
        exact > max(capital, plural)
        for exact, capital, plural in zip(
            *(above[form] for form in ("cat", "Cat", "cats")), strict=True
        )
    ),
)
claim(
    "for the same form and for capitals the color costs 0.7 nats less than an even guess among 13",
    max(shown[form]["nothing"] for form in ("cat", "Cat")) < guess - 0.7,
)
claim("for plurals it costs no less than an even guess", shown["cats"]["nothing"] > guess)
claim(
    "without the four these colors cost 1 nat more than without random heads",
    all(
        shown[form]["all four"] > shown[form]["four at random"] + 1 for form in ("cat", "Cat")
    ),
)

# %% [markdown] id="fuzzy-seen"
# <details><summary>What you should see</summary>
#
# A capital letter hides little: between ` cat` and ` Cat` the heads score {{seen:capital-low}} to {{seen:capital-high}} above the control (the lowest and the highest for the same form: {{seen:same-form}}), and the model gives the color at {{seen:color-capital}} nats (same form: {{seen:color-same}}), which without your four becomes {{seen:color-capital-no-four}}. These are different tokens, so it is not tokens that are matched, but
# something that both share.
#
# Not everything, though. Between ` cat` and ` cats` the best of the four scores {{seen:plural-high}}, and the color costs {{seen:color-plural}} nats, no better than an even guess among the colors ({{seen:color-guess}}). A larger model might well match them; this is a claim about these four heads.
# </details>
#
# *Reflect.* "Induction heads match tokens" and "induction heads match meanings" are both wrong here. Which lists would you write to find out what they do match?

# %% [markdown] id="part-6"
# ## 6. Watch one grow
#
# Where does this circuit come from? Olsson et al. (2022, "Argument 1") saw it appear suddenly, early in training, at the same time as models learn to use their context. You can see that happen in half a minute.
#
# The model: two layers of four heads, nothing else. The data: your `repeated_tokens`, with a period that **varies** from batch to batch. Why must it vary? Because with a fixed one there is an easier way: always attend back by the same distance.
#
# One training step is yours.

# %% [markdown] id="ask-train_step"
# {{exercise train_step}}
#
# The loss is the mean over all positions and rows of the batch. Gradients from before the call must not count, whatever the optimizer is. Return the loss from before the step as a number (a float, or a tensor without axes). No hook is left on the model.


# %% id="answer-train_step"
def train_step(model, optimizer, tokens: Int[Tensor, "batch pos"]) -> float:
    """One optimizer step on the mean next-token loss. Returns that loss, in nats, as it was before the step."""
    # BEGIN SOLUTION
    optimizer.zero_grad()
    log_probs = model(tokens)[:, :-1].log_softmax(dim=-1)
    loss = -log_probs.gather(-1, tokens[:, 1:, None]).mean()
    loss.backward()
    optimizer.step()
    return loss.item()
    # END SOLUTION


lesson.check(train_step)

# %% [markdown] id="train-intro"
# Now train. The picture follows the loss on the second copy at a period of 20, which the training never shows, and the best induction and previous-token scores. About 15 seconds. **Predict:** will the two scores rise one after the other, or together?

# %% id="train" tags=["not-compared"]
from mi_course.interp.induction_training import recorded_growth, watch_induction_grow

grown = watch_induction_grow(step_fn=lesson.use("train_step"), seed=0)

# %% [markdown] id="use-emergence-intro"
# Your run is one seed. Here are the recorded curves of five: three seeds of the same model, one with a single layer, and one trained with a fixed period of 24. A head has *emerged* at the step from which its score stays above 0.5.

# %% id="use-emergence"
growth = recorded_growth()
study.emergence(growth)

# %% id="emergence-picture" tags=["not-compared"]
study.draw_growth(growth)

# %% id="claims-emergence-seen" tags=["claims"]
_fixed = {}
for _n in (8, 15):
    _row = make_tokens(64, _n, 1, 64, 0, seed=5)
    _fixed[_n] = float(without(load_native("tiny-fixed-period"), _row, [])[:, _n + 1 :].mean())
lesson.seen("fixed-15", _fixed[15], ".0f")
claim(
    "at a period of 8 the fixed-period model is within half a nat of an even guess, at 15 it is worse by 2",
    abs(_fixed[8] - 4.14) < 0.5 and _fixed[15] > 6.1,
)
seeds = [run for name, run in growth.items() if "induction" in name]
gaps = [abs(run.induction_at - run.previous_token_at) for run in seeds]
jumps = [run.induction_at for run in seeds]
lesson.seen("seeds", len(seeds))
lesson.seen("gap", max(gaps))
lesson.seen("earliest", min(jumps))
lesson.seen("latest", max(jumps))
lesson.seen("one-layer", growth["tiny-one-layer"].loss_second[-1], ".1f")
lesson.seen("fixed", growth["tiny-fixed-period"].loss_second[-1], ".0f")
claim(
    "both heads rise within 50 steps of one another, in three seeds",
    len(seeds) == 3 and max(gaps) <= 50,
)
claim("the seeds jump more than 100 steps apart", max(jumps) - min(jumps) > 100)
claim(
    "the model with one layer never jumps, and gains less than half a nat on guessing",
    growth["tiny-one-layer"].induction_at is None
    and 3.6 < growth["tiny-one-layer"].loss_second[-1] < 4.1,
)
claim(
    "the fixed-period model is worse than guessing by 3 nats at another period",
    growth["tiny-fixed-period"].loss_second[-1] > 7.1,
)

# %% [markdown] id="emergence-seen"
# <details><summary>What you should see</summary>
#
# All {{seen:seeds}} seeds make the jump, and within each the induction head and the previous-token head rise within {{seen:gap}} steps of one another, as they should if neither is of use without the other. *When* it happens is an accident of the seed: step {{seen:earliest}} in one, {{seen:latest}} in another.
#
# One layer does not build it: nothing tells its keys what came before. It ends at {{seen:one-layer}} nats, little better than guessing.
#
# The model with the fixed period is the trap: at a period of $20$ it costs {{seen:fixed}} nats, far worse than guessing, and at $15$ still {{seen:fixed-15}}. (At $8$ the whole text is shorter than its distance, and it guesses.) What has it learned instead?
# </details>

# %% [markdown] id="use-fixed-period-intro"
# Ask it on its own period, 24, and then silence all four heads of its first layer. An induction head cannot do without them. **Predict:** can this model?

# %% id="use-fixed-period"
first_layer, own = [(0, head) for head in range(4)], {}
sample = make_tokens(64, 24, 1, 64, 0, seed=5)
for name in ("tiny-induction", "tiny-fixed-period"):
    for words, off in ((name, []), (f"{name}, without layer 0", first_layer)):
        best = induction.scores_without_heads(load_native(name), sample, 24, off)[1].max()
        loss = without(load_native(name), sample, off)[:, 25:].mean()
        own[words] = float(best), float(loss)
show.table(own, ["best score", "second copy (nats)"])

# %% id="claims-fixed-seen" tags=["claims"]
real, real_cut, fixed, fixed_cut = own.values()
for kind, (score_24, nats) in {
    "fixed": fixed,
    "fixed-cut": fixed_cut,
    "real-cut": real_cut,
}.items():
    lesson.seen(f"{kind}-score", score_24, ".2f")
    lesson.seen(f"{kind}-loss", nats, ".1f")
claim(
    "on its own period the fixed-period model scores above 0.9 and loses less than 0.3 nats",
    fixed[0] > 0.9 and fixed[1] < 0.3,
)
claim(
    "without layer 0 the fixed-period model still scores above 0.6 and loses less than 1 nat",
    fixed_cut[0] > 0.6 and fixed_cut[1] < 1,
)
claim(
    "without layer 0 the real circuit scores below 0.05 and loses more than 3 nats",
    real_cut[0] < 0.05 and real_cut[1] > 3,
)

# %% [markdown] id="fixed-seen"
# <details><summary>What you should see</summary>
#
# On its own period the fixed-period model scores {{seen:fixed-score}}, as good as any induction head. Without its first layer it still scores {{seen:fixed-cut-score}}, and its loss is {{seen:fixed-cut-loss}} nats. So its second layer needs no other head to tell it where to look: the position is enough. `tiny-induction`, treated
# alike, falls to {{seen:real-cut-score}} and {{seen:real-cut-loss}} nats.
#
# A score on the training distribution does not say which algorithm has been learned. A change of the period did, and so did an ablation.
# </details>

# %% [markdown] id="part-7"
# ## 7. Universal?
#
# Olsson et al. (2022) find heads that match prefixes in models of every size they looked at, at different depths and in different numbers. Biologists know the pattern: eyes evolved many times, because light is there to be used and few designs
# use it well. It is called convergent evolution. Repetition in text is there to be used, and attention offers one cheap way.
#
# Test it on what is here: three seeds that share nothing but their training data, and SmolLM2, which was trained on text by somebody else. The controls are the two small models that learned something else.

# %% id="use-universality"
sample = make_tokens(64, 20, 1, 64, 0, seed=5)
in_models = {n: induction.find_circuit(load_native(n), sample, 20) for n in growth}
strongest, path = (readers[0], scores[readers[0]]), into[readers[0], "k"][source]
in_models["SmolLM2"] = (source, previous[source], *strongest, path)
rows = {n: [named(a), b, named(c), d, e or "none"] for n, (a, b, c, d, e) in in_models.items()}
show.table(rows, ["one back", "score", "induction", "score", "K-composition"])

# %% id="claims-universality-seen" tags=["claims"]
same = [circuit for name, circuit in in_models.items() if "induction" in name]
backs = [named(circuit[0]) for circuit in same]
lesson.seen("backs", backs)
lesson.seen("fixed-path", in_models["tiny-fixed-period"][4], ".2f")
lesson.seen("seed-path", max(circuit[4] for circuit in same), ".2f")
claim(
    "three seeds have a previous-token head above 0.8 and an induction head above 0.7",
    len(same) == 3 and all(c[1] > 0.8 and c[3] > 0.7 for c in same),
)
claim("their K-composition is 1.5 times chance, 0.125", all(c[4] > 0.1875 for c in same))
claim("not all seeds use the same head of layer 0", len(set(backs)) > 1)
claim(
    "the two controls score below 0.1 at this period",
    all(in_models[f"tiny-{name}"][3] < 0.1 for name in ("one-layer", "fixed-period")),
)
claim(
    "the fixed-period model's K-composition is above that of the seeds",
    in_models["tiny-fixed-period"][4] > max(c[4] for c in same),
)

# %% [markdown] id="universality-seen"
# <details><summary>What you should see</summary>
#
# The parts are the same in all three seeds, in other places: the head that attends one back is {{seen:backs}}, an accident of the seed. In SmolLM2 they lie in the upper half of its layers. The two controls lack the circuit: neither has an induction score at this period.
#
# And a warning about the weights: the fixed-period model has a K-composition of {{seen:fixed-path}}, more than any of the three seeds ({{seen:seed-path}} at most), and you have seen that it does not need that path. A wide path is not a used one.
#
# Where the evidence is thin: "universal" here means *these* models, all transformers, all with attention that can do it this way. Three seeds of one small model are three seeds of one small model. That induction heads cause most in-context
# learning was shown by ablation in small attention-only models; for large models with MLPs the authors themselves call their evidence correlational (Olsson et al. 2022). And what counts as "the same circuit" was decided by us, when we chose the scores.
# </details>
#
# *Reflect.* Which finding in one more model would make you say that induction heads are **not** universal? Would a model that does the same by other means count?

# %% id="claims-recap" tags=["claims"]
claim("the source has no induction score of its own (below 0.05)", scores[source] < 0.05)
claim("the bystander attends one back above 0.7", previous[bystander] > 0.7)

# %% [markdown] id="recap"
# ## What you have done
#
# You saw the loss collapse on repeated random tokens. You found the heads, confirmed them at another period, and traced their keys to a previous-token head by its weights and then by experiment: the keys alone carry most of its effect. You saw that an attention pattern of the right kind
# is not enough ({{seen:bystander}}), that a head without the pattern can be the hardest to replace ({{seen:source}}), and that a perfect score can come from the wrong algorithm (a fixed period). You met the same heads in stories and lists, and grew the circuit yourself.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Olsson et al. 2022, *In-context Learning and Induction Heads*. Read its table of arguments first: for each claim it says how strong the evidence is, and for which models.
