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
# You will find the heads with which a language model repeats what it has seen, explain how they work from their weights, prove it by taking them away, grow
# the same circuit from nothing, and look for it in other models.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00. The model is SmolLM2-135M-Instruct with its norms folded into the weights (compatibility mode), because we read its
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
# Each row: BOS, then `period` random tokens, then the same `period` tokens again. Every row has its own tokens, from `low` up to but not including `high`. The same seed gives the same
# tokens, and the global random state is left alone.

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
# The loss of a token is −log of the probability that the model gave it *before* seeing it. Nats, at each position of each row.


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
PERIOD = 40
BOS = model.tokenizer.bos_token_id
make_tokens, loss_of = lesson.use("repeated_tokens"), lesson.use("loss_per_token")

tokens = make_tokens(8, PERIOD, 1000, 40_000, BOS, seed=0)
unrepeated = torch.cat(
    [
        tokens[:, : PERIOD + 1],
        make_tokens(8, PERIOD, 1000, 40_000, BOS, seed=1)[:, 1 : PERIOD + 1],
    ],
    dim=1,
)
with torch.no_grad():
    loss = loss_of(model(tokens), tokens)
    control = loss_of(model(unrepeated), unrepeated)

# Entry i is the loss of token i + 1. The first token of the second copy comes as a surprise too.
first, second = loss[:, : PERIOD + 1], loss[:, PERIOD + 1 :]
print(f"first copy:           {first.mean():5.1f} nats")
print(f"second copy:          {second.mean():5.1f} nats")
print(f"never repeated, late: {control[:, PERIOD + 1 :].mean():5.1f} nats")

# %% id="loss-picture" tags=["not-compared"]
positions = list(range(1, 2 * PERIOD + 1))
show.lines(
    positions,
    {"repeated": loss, "control: not repeated": control},
    xlabel="position of the predicted token",
    ylabel="loss (nats)",
    title="The loss collapses a few tokens into the second copy",
    caption="Median and range over eight sequences. The second copy begins at 41.",
    marks=[(PERIOD + 1, "second copy")],
)

# %% [markdown] id="loss-seen"
# <details><summary>What you should see</summary>
#
# About 14 nats in the first copy, about 3 in the second, and no fall at all without the repetition. 14 is *worse* than spreading the guess evenly (10.8): the model expects text, and random tokens are not.
# In the second copy it goes from e⁻¹⁴ to about e⁻³ for the right token, from a single earlier occurrence.
# </details>
#
# Somewhere in this model is a part that looks back, finds where the present token stood before, and says what came next. Elhage et al. (2021) found such a part in two-layer models, and called it an
# **induction head**. Where is it here?

# %% [markdown] id="part-2"
# ## 2. Which heads?
#
# A head is told apart by where it looks. At the second `A` of `A B … A` an induction head looks at `B`, the token that **followed** the first `A`.
#
# **By hand, once.** Take `BOS a b c a b c`, a period of 3. The second `a` stands at position 4, the token after the first `a` at position 2. So query 4 should look at key 2, query 5 at key 3, query 6 at key 4.
# Write the key as a formula of the query and the period before you go on.

# %% id="by-hand" tags=["not-compared"]
looks_at = {
    0: 0,
    1: 0,
    2: 0,
    3: 0,
    4: 2,
    5: 3,
    6: 4,
}  # with nothing to induce, a head rests at BOS
ideal = torch.zeros(7, 7)
for query, key in looks_at.items():
    ideal[query, key] = 1.0
show.heatmap(
    ideal,
    x=["BOS", "a", "b", "c", "a", "b", "c"],
    y=["BOS", "a", "b", "c", "a", "b", "c"],
    xlabel="key (token looked at)",
    ylabel="query (token that looks)",
    title="An ideal induction head: a stripe below the diagonal, in the second copy only",
    unit="attention",
    center=None,
    down=True,
)

# %% [markdown] id="ask-induction_score"
# {{exercise induction_score}}
#
# For each head: the mean, over the queries of the second copy (positions period + 1 to 2 · period), of the attention to the token that followed the query's first occurrence.


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

# %% [markdown] id="ask-score_hook"
# ### All heads in one pass
#
# Keeping the patterns of 270 heads takes memory. A hook needs none: it sees each layer's pattern as it is computed, writes down the scores, and lets it go.
#
# {{exercise score_hook}}
#
# Return a hook for `hook_pattern` that writes the batch mean of its layer's induction scores into `scores`. The layer's number is `hook.layer()`.


# %% id="answer-score_hook"
def score_hook(scores: Float[Tensor, "layer head"], period: int):
    """A hook for `hook_pattern` that writes induction scores into row `hook.layer()` of `scores`.

    The pattern that the hook gets is Float["batch head query key"]. What it writes is the mean over the batch.
    The pattern itself stays as it is.
    """

    # BEGIN SOLUTION
    def write_scores(pattern, hook):
        stripe = pattern.diagonal(offset=-(period - 1), dim1=-2, dim2=-1)
        scores[hook.layer()] = stripe[..., -period:].mean(dim=(0, -1))

    return write_scores
    # END SOLUTION


lesson.check(score_hook)


# %% id="use-score-hook"
def score_all(tokens, period, make_hook=lesson.use("score_hook"), fwd_hooks=()):
    """Scores of every head in one forward pass, [layer, head]."""
    scores = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    hooks = [
        (f"blocks.{layer}.attn.hook_pattern", make_hook(scores, period))
        for layer in range(model.cfg.n_layers)
    ]
    with torch.no_grad():
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=[*fwd_hooks, *hooks])
    return scores


scores = score_all(tokens, PERIOD)
print(f"highest {scores.max():.2f}, median of all 270 heads {scores.median():.2f}")

# %% id="score-picture" tags=["not-compared"]
show.head_heatmap(
    scores,
    title="A handful of heads in layers 17 to 24 do it",
    unit="induction score",
    center=None,
    caption="Mean attention to the token after the first occurrence, eight sequences of period 40.",
)

# %% [markdown] id="ask-top_heads"
# {{exercise top_heads}}
#
# The heads above a threshold as (layer, head) pairs, highest first.


# %% id="answer-top_heads"
def top_heads(scores: Float[Tensor, "layer head"], threshold: float) -> list[tuple[int, int]]:
    """(layer, head) of every head whose score is above the threshold, highest first."""
    # BEGIN SOLUTION
    found = [
        (float(scores[layer, head]), layer, head)
        for layer in range(scores.shape[0])
        for head in range(scores.shape[1])
        if scores[layer, head] > threshold
    ]
    return [(layer, head) for _, layer, head in sorted(found, reverse=True)]
    # END SOLUTION


lesson.check(top_heads)

# %% [markdown] id="ask-my_induction_heads"
# ### Your induction heads
#
# {{exercise my_induction_heads}}
#
# Which heads do *you* call induction heads? Look at the picture and choose a threshold. Your list is judged on sequences with other tokens and other periods.

# %% id="answer-my_induction_heads"
# BEGIN SOLUTION
my_induction_heads = lesson.use("top_heads")(scores, 0.35)
# END SOLUTION

lesson.check(my_induction_heads, name="my_induction_heads")

# %% id="use-my-heads"
found = lesson.use("my_induction_heads")
print(", ".join(f"{layer}.{head} ({scores[layer, head]:.2f})" for layer, head in found))

# %% [markdown] id="control-period"
# **Try to break it.** A head that always looks 39 back would have the same score. It would not know anything about repetition. So change the period, without changing the heads.

# %% id="use-other-period"
other = score_all(make_tokens(8, 25, 1000, 40_000, BOS, seed=2), 25)
for layer, head in found:
    print(
        f"{layer}.{head}: {scores[layer, head]:.2f} at period 40, {other[layer, head]:.2f} at period 25"
    )

# %% id="attention-picture" tags=["not-compared"]
short = make_tokens(1, 12, 1000, 40_000, BOS, seed=3)
with torch.no_grad():
    _, cache = model.run_with_cache(short)
layer, head = found[0]
show.attention(
    cache["pattern", layer][0, [head]],
    [model.tokenizer.decode(t) for t in short[0]],
    heads=[f"{layer}.{head}"],
    title="What your strongest head looks at",
    caption="12 random tokens, twice. Choose a token of the second copy: its attention goes to what came next the first time.",
)

# %% [markdown] id="part-3"
# ## 3. How can it know?
#
# Here is a puzzle. A head compares a *query*, made at the present token, with *keys*, made at earlier positions. At the position of `B` the key has to say: "the token **before** me was `A`". But what is
# known at the position of `B` is `B`. Who told it about `A`?
#
# Another head, in an earlier layer, that looks one position back and writes what it saw. Elhage et al. (2021, section "Two-Layer Attention-Only Transformers") call the pair an induction circuit:
#
# 1. A **previous-token head** copies `A` from the first `A` to the place of `B`.
# 2. The induction head's keys read what it wrote (**K-composition**), so the query `A` finds the place of `B`.
# 3. The induction head's value and output (its **OV circuit**) raise the logit of `B`.
#
# Three claims, three tests. First: are there heads that look one back?

# %% [markdown] id="ask-previous_token_score"
# {{exercise previous_token_score}}
#
# For each head: the mean attention from each query after the first to the position just before it.


# %% id="answer-previous_token_score"
def previous_token_score(pattern: Float[Tensor, "head query key"]) -> Float[Tensor, "head"]:
    """Mean attention from each query after the first to the position just before it."""
    # BEGIN SOLUTION
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)
    # END SOLUTION


lesson.check(previous_token_score)

# %% id="use-previous-token-score"
score_previous = lesson.use("previous_token_score")


def write_previous(table, period):
    def write(pattern, hook):
        table[hook.layer()] = torch.stack([score_previous(one) for one in pattern]).mean(0)

    return write


previous = score_all(tokens, PERIOD, write_previous)
previous_heads = lesson.use("top_heads")(previous, 0.6)
print(
    ", ".join(
        f"{layer}.{head} ({previous[layer, head]:.2f})" for layer, head in previous_heads
    )
)

# %% id="previous-picture" tags=["not-compared"]
show.head_heatmap(
    previous,
    title="Previous-token heads are spread over the layers; 16.0 is the strongest",
    unit="previous-token score",
    center=None,
    highlight=found,
    caption="Framed: your induction heads. The strongest previous-token head lies in the layer right below the first of them.",
)

# %% [markdown] id="composition-intro"
# Several candidates. Which of them does an induction head listen to? Ask the weights.
#
# A head writes through its matrix $W_{OV} = W_V W_O$, and compares through $W_{QK} = W_Q W_K^\top$. With row vectors, a query $q$ and a key $k$ from the residual stream score $q\,W_{QK}\,k^\top$, so keys enter
# $W_{QK}$ from the right. If the later head's keys read what the earlier head wrote, the product $W_{OV}^{\text{earlier}}\,(W_{QK}^{\text{later}})^\top$ is large for its size.

# %% [markdown] id="ask-composition_score"
# {{exercise composition_score}}
#
# $\lVert W_1 W_2\rVert_F \,/\, (\lVert W_1\rVert_F \lVert W_2\rVert_F)$; 0 if either matrix is zero.


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
# Nine query heads of SmolLM2 share three key/value heads, so query head `h` reads through key/value head `h // 3`. For each of your four strongest heads we compute the composition of **every** head in an earlier layer into its keys.
# The heads that do not matter are the control.

# %% id="use-composition"
composition = lesson.use("composition_score")


def key_value(W, head):
    """The matrix of the key/value head that this query head reads through."""
    return W[head * W.shape[0] // model.cfg.n_heads]


def k_composition_into(layer, head):
    """K-composition of every earlier head into this one, [layer, head]."""
    attn = model.blocks[layer].attn
    W_QK = attn.W_Q[head] @ key_value(attn.W_K, head).T
    table = torch.zeros(layer, model.cfg.n_heads)
    for earlier in range(layer):
        before = model.blocks[earlier].attn
        for h in range(model.cfg.n_heads):
            table[earlier, h] = composition(key_value(before.W_V, h) @ before.W_O[h], W_QK.T)
    return table


into = {}
with torch.no_grad():
    for layer, head in found[:4]:
        into[layer, head] = table = k_composition_into(layer, head)
        best = lesson.use("top_heads")(table, 0.0)
        rank = best.index((16, 0)) + 1
        print(
            f"into {layer}.{head}: 16.0 has {table[16, 0]:.2f}, rank {rank} of {table.numel()}; median {table.median():.3f}"
        )

# %% id="composition-picture" tags=["not-compared"]
strongest = found[0]
show.head_heatmap(
    into[strongest],
    title=f"Of all earlier heads, a few stand out in the keys of {strongest[0]}.{strongest[1]}",
    unit="K-composition",
    center=None,
    highlight=[head for head in previous_heads if head[0] < strongest[0]],
    caption="Framed: the previous-token heads. Random matrices of this size would score 0.04.",
)

# %% [markdown] id="composition-seen"
# <details><summary>What you should see</summary>
#
# 16.0 comes first or second of more than 150 earlier heads for each of the four, at more than three times the median. Other heads that look one back, such as 11.1 and 2.1, do not stand out like this. Attention alone did not tell
# them apart; the weights do. (Where 16.0 is second, 17.8 is first. It looks partly one back and mostly at BOS.)
#
# A caution, which section 6 bears out: a high score says that a path is wide, not what travels along it.
# </details>

# %% [markdown] id="ask-copying_score"
# ### Does it copy?
#
# The third claim: the OV circuit raises the logit of the token that is attended to. In a small model that can be read off the weights: $W_E W_{OV} W_U$ has a row for each attended token and a column for each logit.
#
# {{exercise copying_score}}
#
# The share of tokens whose own logit is strictly larger than every other in its row.


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
from mi_course.interp.circuits import ov_circuit
from mi_course.interp.models import load_native

tiny = load_native("tiny-induction")
copying = lesson.use("copying_score")
with torch.no_grad():
    for layer in (0, 1):
        shares = [
            copying(tiny.W_E, ov_circuit(tiny, layer, head), tiny.W_U) for head in range(4)
        ]
        print(f"layer {layer}: copying scores {', '.join(f'{share:.2f}' for share in shares)}")

# %% [markdown] id="copying-smollm"
# On SmolLM2 the same product would have 49,152² entries, and it would be the wrong question: its vocabulary goes in through one set of directions and comes out through another, and thirteen more layers read what an induction head of
# layer 17 writes. So ask the model itself. On repeated tokens, at the second copy: by how much does each head's own output, read through the final norm and the unembedding, raise the logit of the token that **followed**, compared with the other tokens
# of the sequence? That is its **direct** effect.

# %% id="use-direct-copying"
from mi_course.interp.circuits import direct_copying_effect

with torch.no_grad():
    direct, _ = direct_copying_effect(model, tokens[:4], PERIOD)
for layer, head in [*found, (16, 0), (29, 1)]:
    print(
        f"{layer}.{head}: induction score {scores[layer, head]:.2f}, direct effect {direct[layer, head]:+.2f} logits"
    )

# %% id="direct-picture" tags=["not-compared"]
show.head_heatmap(
    direct,
    title="Who writes the answer: not the heads with the highest induction scores",
    unit="direct effect (logits)",
    center=0.0,
    highlight=found,
    caption="Framed: your induction heads. Logit of the token that followed, minus the mean over the sequence's other tokens.",
)

# %% [markdown] id="direct-seen"
# <details><summary>What you should see, and an honest complication</summary>
#
# In the tiny model every head of layer 1 copies straight to the logits. In SmolLM2 the strongest induction heads, in layers 17 and 18, write almost nothing to the logits directly. 23.2 and 23.7 do. So does 29.1, which is no induction head by its attention.
# "Induction heads copy" is true of the *circuit*. Head by head, the early ones hand their finding on to later layers. Whether they matter at all is therefore a question for the next section, not for this one.
# </details>

# %% [markdown] id="part-4"
# ## 4. Proof: take them away
#
# Attention patterns and weights suggest. An **ablation** tests: set the outputs of some heads to zero, and see whether the model can still do it.

# %% [markdown] id="ask-loss_without_heads"
# {{exercise loss_without_heads}}
#
# The loss per token with the outputs (`hook_z`) of these heads set to zero, all at once, at every position. Leave no hook behind, even if the forward pass fails.

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
# **Predict** before you run: which will hurt more, removing your four strongest induction heads, or removing the one previous-token head that they read?
#
# The control: sets of four heads drawn at random from all the others.

# %% id="use-ablation"
from tqdm.auto import tqdm

from mi_course.interp.induction import random_heads

few = tokens[:2]
without = lesson.use("loss_without_heads")


def second_copy_loss(heads):
    return float(without(model, few, heads)[:, PERIOD + 1 :].mean())


n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
sets = {
    "no head": [],
    "11.1 (looks one back)": [(11, 1)],
    "16.0 (looks one back)": [(16, 0)],
    "four induction heads": found[:4],
}
controls = [
    random_heads(n_layers, n_heads, 4, seed, exclude=[*found, *previous_heads])
    for seed in range(8)
]
losses = {name: second_copy_loss(heads) for name, heads in tqdm(sets.items(), leave=False)}
random_losses = sorted(second_copy_loss(heads) for heads in tqdm(controls, leave=False))
for name, value in losses.items():
    print(f"without {name:<24} {value:5.1f} nats")
print(
    f"without four random heads        {random_losses[0]:.1f} to {random_losses[-1]:.1f} nats (8 sets)"
)

# %% id="ablation-picture" tags=["not-compared"]
show.bars(
    list(losses),
    list(losses.values()),
    control=sum(random_losses) / len(random_losses),
    control_name="four random heads, mean of 8 sets",
    title="One previous-token head carries most of the second copy",
    xlabel="what is set to zero",
    ylabel="loss in the second copy (nats)",
    caption="Two sequences of period 40. Random sets: "
    f"{random_losses[0]:.1f} to {random_losses[-1]:.1f} nats.",
)

# %% [markdown] id="ablation-heads-intro"
# If 16.0 serves the induction heads, then without it they should no longer know where to look. Their scores can tell. The control this time is 11.1, which looks one back almost as faithfully as 16.0, and which their keys do not read.

# %% id="use-ablation-scores"
from mi_course.interp.basics import zero_head


def score_without(layer, head):
    return score_all(
        few, PERIOD, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", partial(zero_head, head=head))]
    )


clean, no_16_0, no_11_1 = score_all(few, PERIOD), score_without(16, 0), score_without(11, 1)
print("head   clean  without 11.1  without 16.0")
for layer, head in found:
    print(
        f"{layer}.{head}   {clean[layer, head]:5.2f}  {no_11_1[layer, head]:12.2f}  {no_16_0[layer, head]:12.2f}"
    )

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# Without 16.0 the induction heads lose sight of what they look for: 17.3 falls to nearly nothing, 18.6 to a fifth or so. The loss of the second copy rises from 3.6 to almost 10 nats. Without 11.1, an attention pattern of the same kind,
# hardly anything changes. Random sets of four cost up to one and a half nats, mostly less.
#
# So a head that looks one back need not be part of the circuit, and a head without any induction score of its own can be its most important part.
# </details>
#
# *Reflect.* Setting a head to zero puts the model in a state it has never been in. Which of the conclusions above would you still draw if the random sets had cost 6 nats each?

# %% [markdown] id="part-5"
# ## 5. Watch one grow
#
# Where does this circuit come from? Olsson et al. (2022, "Argument 1") saw it appear suddenly, early in training, at the same time as models learn to use their context. You can see that happen in half a minute.
#
# The model: two layers of four heads, nothing else. The data: your `repeated_tokens`, with a period that **varies** from batch to batch. Why must it vary? Because with a fixed one there is an easier way: always look back by the same distance.
#
# One training step is yours.

# %% [markdown] id="ask-train_step"
# {{exercise train_step}}
#
# One step on the mean next-token loss: old gradients cleared, the loss from before the step returned as a number.


# %% id="answer-train_step"
def train_step(model, optimizer, tokens: Int[Tensor, "batch pos"]) -> float:
    """One optimiser step on the mean next-token loss. Returns that loss, in nats, as it was before the step."""
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
# Now train. The picture follows the loss on the second copy at a period of 20, which the training never shows, and the best induction and previous-token scores. About 15 seconds.

# %% id="train" tags=["not-compared"]
from mi_course.interp.induction_training import untrained_tiny_model, train_induction

picture = show.live_lines(
    xlabel="training step",
    ylabel="loss (nats)",
    title="Two layers, live: the loss on a period never trained on",
)
scores_picture = show.live_lines(
    xlabel="training step",
    ylabel="score",
    title="Two layers, live: best scores",
    caption="Both heads of the circuit appear together.",
)
grown = []
for record in train_induction(
    untrained_tiny_model(2, seed=0), steps=500, step_fn=lesson.use("train_step")
):
    grown.append(record)
    picture.update(record.step, first_copy=record.loss_first, second_copy=record.loss_second)
    scores_picture.update(
        record.step, induction=record.best_induction, previous_token=record.best_previous_token
    )
picture.close()
scores_picture.close()

# %% [markdown] id="ask-emergence_step"
# For three hundred steps little happens, and then it falls. When, exactly? A curve may cross a threshold and come back, so ask for the step from which it **stays** above.
#
# {{exercise emergence_step}}
#
# The first step at which the score exceeds the threshold and never falls to it or below again; None if there is none.


# %% id="answer-emergence_step"
def emergence_step(steps: list[int], scores: list[float], threshold: float) -> int | None:
    """First training step from which every later score, this one included, exceeds the threshold. None if there is none."""
    # BEGIN SOLUTION
    emerged = None
    for step, score in zip(reversed(steps), reversed(scores), strict=True):
        if score <= threshold:
            break
        emerged = step
    return emerged
    # END SOLUTION


lesson.check(emergence_step)

# %% [markdown] id="use-emergence-intro"
# Your run is one seed. Here are the recorded curves of five: three seeds of the same model, one with a single layer, and one trained with a fixed period of 24.

# %% id="use-emergence"
import json

from mi_course.content import data_dir

emerged_at = lesson.use("emergence_step")
growth = json.loads((data_dir() / "tiny-induction-growth.json").read_text())["runs"]
for name, run in growth.items():
    best_induction = torch.tensor(run["induction"]).flatten(1).max(1).values.tolist()
    best_previous = torch.tensor(run["previous_token"])[:, 0].max(1).values.tolist()
    induction = emerged_at(run["step"], best_induction, 0.5)
    before = emerged_at(run["step"], best_previous, 0.5)
    print(
        f"{name:<22} induction at {induction!s:>4}, previous-token at {before!s:>4}, final loss {run['loss_second'][-1]:5.2f} nats"
    )

# %% id="emergence-picture" tags=["not-compared"]
steps = growth["tiny-induction"]["step"]
show.lines(
    steps,
    {
        name: run["loss_second"][: len(steps)]
        for name, run in growth.items()
        if len(run["step"]) == len(steps)
    },
    xlabel="training step",
    ylabel="loss in the second copy (nats)",
    title="Three seeds fall at different steps; one layer never does",
    caption="Test period 20, never trained on. Tokens guessed evenly cost log 63 = 4.1 nats.",
)

# %% [markdown] id="emergence-seen"
# <details><summary>What you should see</summary>
#
# All three seeds make the jump, and within each the induction head and the previous-token head rise within 25 steps of one another: neither is of use without the other. *When* it happens differs by more than a hundred steps.
#
# One layer cannot build it, because nothing tells its keys what came before. It learns a little from counting: tokens that occurred once will occur again.
#
# The model with the fixed period is the trap. On its own period its loss is almost zero and its "induction score" is perfect. On a period of 20 it is far worse than guessing. A score on the training distribution does not say which algorithm has been learned.
# </details>

# %% [markdown] id="part-6"
# ## 6. Universal?
#
# The same circuit was found in models of every size that were looked at, at different depths and in different numbers (Olsson et al. 2022). Biologists know the pattern: eyes evolved many times, because light is there to be used and few designs
# use it well. It is called convergent evolution. Repetition in text is there to be used, and attention offers one cheap way.
#
# Test it on what is here: three seeds that share nothing but their training data, and SmolLM2, which was trained on text by somebody else.

# %% id="use-universality"
from mi_course.interp.circuits import k_composition
from mi_course.interp.induction import head_scores

rows = []
for name in (
    "tiny-induction",
    "tiny-induction-seed1",
    "tiny-induction-seed2",
    "tiny-one-layer",
    "tiny-fixed-period",
):
    other_model = load_native(name)
    sample = make_tokens(64, 20, 1, 64, 0, seed=5)
    induction, looks_back = (
        head_scores(other_model, sample, 20),
        head_scores(other_model, sample, 20, "previous_token"),
    )
    later, earlier = (
        (len(induction) - 1, int(induction[-1].argmax())),
        (0, int(looks_back[0].argmax())),
    )
    path = (
        f"{k_composition(other_model, earlier, later):.2f}"
        if later[0] > 0
        else "none: no layer below"
    )
    rows.append(
        (name, earlier, float(looks_back[0].max()), later, float(induction[-1].max()), path)
    )
best_back, best = previous_heads[0], found[0]
rows.append(
    (
        "SmolLM2",
        best_back,
        float(previous[best_back]),
        best,
        float(scores[best]),
        f"{into[best][best_back]:.2f}",
    )
)
print(f"{'model':<22} previous-token   induction      K-composition")
for name, earlier, back, later, score, path in rows:
    print(
        f"{name:<22} {earlier[0]}.{earlier[1]:<3} {back:.2f}       {later[0]:>2}.{later[1]} {score:.2f}        {path}"
    )

# %% [markdown] id="universality-seen"
# <details><summary>What you should see</summary>
#
# The parts are the same in all three seeds, in other places: which head of layer 0 looks back is an accident of the seed. In SmolLM2 they sit in layers 16 to 23 of 30. The two controls lack the circuit: one layer has no induction score, and the fixed-period model has
# none on a period it was not trained on. (Its K-composition is as high as anybody's: the path is wide, and carries positions. Chance for these small models is 1/√64 = 0.125.)
#
# Where the evidence is thin: "universal" here means *these* models, all transformers, all with attention that can do it this way. Three seeds of one small model are three seeds of one small model. That induction heads cause most in-context
# learning was shown by ablation in small attention-only models; for large models with MLPs the authors themselves call their evidence correlational. And what counts as "the same circuit" was decided by us, when we chose the scores.
# </details>
#
# *Reflect.* Which finding in one more model would make you say that induction heads are **not** universal? Would a model that does the same by other means count?

# %% [markdown] id="recap"
# ## What you have done
#
# You saw the loss collapse on repeated random tokens. You found the heads, confirmed them at another period, and traced their keys to a previous-token head by composition. You saw that an attention pattern of the right kind is not enough (11.1), that a head without the pattern
# can be the most important one (16.0), and that a perfect score can come from the wrong algorithm (a fixed period). You grew the circuit yourself.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Olsson et al. 2022, *In-context Learning and Induction Heads*. Read its table of arguments first: for each claim it says how strong the evidence is, and for which models.
