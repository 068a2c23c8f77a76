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
# You will compute attention by hand, take a model's prediction apart into 61 things that were added up, read its mind layer by layer, ask which of its parts named the capital of France, and read what a small model knows straight out of its weights. Each time with a control, and
# some of what is often told about these methods will not survive it.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00. The model is SmolLM2-135M-Instruct with its norms folded into the weights (compatibility mode): the logit lens, attribution and the reading of weights need that. Sources: Elhage et al. 2021, *A Mathematical Framework for
# Transformer Circuits*; nostalgebraist 2020, *interpreting GPT: the logit lens*; Belrose et al. 2023, *Eliciting Latent Predictions from Transformers with the Tuned Lens*.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("residual_stream"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. Attention by hand
#
# Between reading a text and predicting its next word, this model computes at every position by itself, with one exception: **attention**. Only attention moves anything from one position to another. A layer has nine attention heads, and each does the same six steps.
#
# Take them on paper first. Five tokens: BOS, ` Anna`, ` met`, ` Tom`, ` she`. At ` she` one head looks for whoever ` she` might be. At every position the head makes three short lists of numbers from the residual stream: a **query** (what am I looking for?), a **key** (what is to be found here?) and a
# **value** (what do I hand over if I am looked at?). Let the four numbers of a query and a key stand for *anything at all*, *female*, *male* and *deed*, and the two of a value for *Anna* and *Tom*.
#
# | | query | key | value |
# |---|---|---|---|
# | BOS | 0 0 0 0 | 2 0 0 0 | 0 0 |
# | ` Anna` | 0 0 0 2 | 0 3 0 0 | 4 0 |
# | ` met` | 0 0 1 0 | 0 0 0 2 | 0 0 |
# | ` Tom` | 0 0 0 2 | 0 0 3 0 | 0 4 |
# | ` she` | 1 2 0 0 | 0 1 0 0 | 1 0 |
#
# 1. **Scores.** The query of ` she` times each key: 2, 6, 0, 0, 2. Divide by $\sqrt{4} = 2$, the root of a query's length: 1, 3, 0, 0, 1.
# 2. **Mask.** A token may look at itself and back, never ahead. ` she` is last, so nothing is hidden from it.
# 3. **Softmax.** $e$ to each: 2.7, 20.1, 1, 1, 2.7, together 27.5. Divide: 0.10, 0.73, 0.04, 0.04, 0.10. That is the head's **attention pattern** at ` she`.
# 4. **Mean of the values**, weighted by it: 0.73 · 4 + 0.10 · 1 = 3.0 for Anna, 0.04 · 4 = 0.1 for Tom. Written $z$.
# 5. **Output.** A matrix $W_O$ makes 576 numbers of it, and
# 6. these are **added** to the residual stream at ` she`.
#
# **Predict**, before you write it: how is ` met`'s attention spread? And what becomes of 0.73 if the division by 2 is left out?

# %% [markdown] id="ask-attention_pattern"
# ### Who looks where
#
# {{exercise attention_pattern}}
#
# There are as many queries as keys: query i and key i belong to the token at position i, which may look at itself and at everything before it, and at nothing after it. Scale the scores by the root of `d`, the length of a query. Every row sums to 1, and
# what lies in the future is exactly 0. A single position works too, and scores may be so large that their exponentials overflow (PyTorch's `softmax` copes). `q` and `k` stay as they are.

# %% id="answer-attention_pattern"
from jaxtyping import Float, Int
from torch import Tensor


def attention_pattern(
    q: Float[Tensor, "query d"], k: Float[Tensor, "key d"]
) -> Float[Tensor, "query key"]:
    """Causal attention probabilities of one head on one sequence.

    q, k: its queries and keys, one row for each position. Scores are scaled by the root of d.
    Returns for each query how it shares out its attention over the keys; rows sum to 1.
    """
    # BEGIN SOLUTION
    scores = q @ k.T / q.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    # END SOLUTION


lesson.check(attention_pattern)

# %% id="use-by-hand"
attend = lesson.use("attention_pattern")
hand_q = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0], [0, 0, 0, 2], [1, 2, 0, 0.0]])
hand_k = torch.tensor([[2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 2], [0, 0, 3, 0], [0, 1, 0, 0.0]])
by_hand, undivided = attend(hand_q, hand_k), attend(2 * hand_q, hand_k)
for name, row in {
    "she": by_hand[4],
    "met": by_hand[2],
    "she, undivided": undivided[4],
}.items():
    print(f"{name:<15}", [f"{share:.2f}" for share in row])

# %% id="claims-by-hand-seen" tags=["claims"]
from mi_course import claim

lesson.seen("hand-anna", by_hand[4, 1], ".2f")
lesson.seen("hand-undivided", undivided[4, 1], ".2f")
lesson.seen("hand-met", by_hand[2, 0], ".2f")
claim("she gives Anna 0.73 of her attention, as on paper", abs(by_hand[4, 1] - 0.73) < 0.005)
claim("met spreads its attention evenly", (by_hand[2, :3] - 1 / 3).abs().max() < 1e-5)
claim("undivided, Anna gets more than 0.95", undivided[4, 1] > 0.95)

# %% [markdown] id="by-hand-seen"
# <details><summary>What you should see</summary>
#
# {{seen:hand-anna}}, as on paper. Undivided scores are twice as far apart, and a softmax of large differences is all or nothing: {{seen:hand-undivided}}. And ` met` has found nothing, so each of the three that it sees gets {{seen:hand-met}}: a softmax has to give its whole attention to somebody. Keep that in mind.
# </details>

# %% [markdown] id="ask-head_output"
# ### What they bring back
#
# {{exercise head_output}}
#
# Each head takes the mean of its values, weighted by its pattern, and carries it into the stream with its own `W_O`. There are as many query heads as key/value heads, or a whole multiple: consecutive query heads share one. With 6 and 3, heads 0 and 1 read
# key/value head 0, heads 2 and 3 read 1, heads 4 and 5 read 2. The heads' outputs stay apart, one for each head. There may be fewer queries than keys, and every axis may have size one.


# %% id="answer-head_output"
def head_output(
    pattern: Float[Tensor, "head query key"],
    v: Float[Tensor, "kv_head key d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
) -> Float[Tensor, "head query d_model"]:
    """What each head writes into the residual stream at each query position.

    pattern: attention probabilities of each query head. v: values of each key/value head, of which there may be fewer;
    query head h reads v[h // (heads per key/value head)].
    """
    # BEGIN SOLUTION
    group = pattern.shape[0] // v.shape[0]
    z = pattern @ v.repeat_interleave(group, dim=0)
    return z @ W_O
    # END SOLUTION


lesson.check(head_output)

# %% [markdown] id="use-real-head-intro"
# Two exercises, and you have written all of attention. SmolLM2 does it with **grouped queries**: nine heads ask with queries of their own, but heads 0 to 2 share one set of keys and values, 3 to 5 the next and 6 to 8 the last. That saves memory when it writes long texts.
#
# Hold your functions against a layer of the real model: its queries and keys (after a rotation that we come to), its values and its $W_O$. And **predict**: are the patterns of two heads that share their keys much more alike than those of two heads that do not?

# %% id="use-real-head"
from mi_course.interp.attention import all_patterns, likeness

text = "When the old clock in the hall struck nine, Anna put down her book and went to the window. The rain had stopped, and the street was full of light."
tokens = model.to_tokens(text)
with torch.no_grad():
    logits, cache = model.run_with_cache(tokens)
rotated_q, rotated_k = (cache[f"blocks.5.attn.hook_rot_{name}"][0] for name in "qk")
mine = torch.stack([attend(rotated_q[:, h], rotated_k[:, h // 3]) for h in range(9)])
written = lesson.use("head_output")(
    mine, cache["v", 5][0].transpose(0, 1), model.blocks[5].attn.W_O
)
patterns = all_patterns(model, tokens)
sharing, apart = likeness(patterns, group=3)
print("the model's patterns to 1e-4:", torch.allclose(mine, cache["pattern", 5][0], atol=1e-4))
print("its output:", torch.allclose(written.sum(0), cache["attn_out", 5][0], atol=1e-4))
print(f"correlation of patterns: shared keys {sharing.mean():.2f}, others {apart.mean():.2f}")

# %% [markdown] id="rotary"
# ### Where does "before" come from?
#
# Nothing so far knows the order of the words: shuffle the keys, and the scores are shuffled with them. SmolLM2 brings order in by **rotary positions** (Su et al. 2021): each query and each key is turned by an angle that grows with its position, pair by pair of its 64 numbers, each pair at a speed of its own. The
# product of a turned query and a turned key depends on what they contain and on the **distance** between them, and on nothing else.
#
# So keep the contents fixed and vary the distance. The next cell takes the mean query and key of a text, for each of the 270 heads, moves them apart, and looks at the two heads whose score changes most and least. **Predict:** how much can distance alone change a score? One unit more is 2.7 times the
# attention.

# %% id="use-rotary"
from mi_course.interp.attention import content_scores

distances = torch.arange(1, 33)
by_distance = content_scores(model, tokens, distances)
reach = by_distance.amax(-1) - by_distance.amin(-1)
most, least = (divmod(int(i), 9) for i in (reach.argmax(), reach.argmin()))
middle = divmod(int(reach.flatten().argsort()[135]), 9)
peaks = distances[by_distance.argmax(-1)]
print(f"reach of the score: {reach.max():.1f}, median {reach.median():.1f}, {reach.min():.1f}")

# %% id="rotary-picture" tags=["not-compared"]
shown = {"most": most, "median": middle, "least": least}
show.lines(
    distances,
    {
        f"{word}: {at[0]}.{at[1]}": by_distance[at] - by_distance[at].mean()
        for word, at in shown.items()
    },
    xlabel="distance from query back to key (tokens)",
    ylabel="score above its mean",
    title="The same two contents at growing distance: for one head the score swings by twenty",
)

# %% [markdown] id="sink-intro"
# ### Where heads look when there is nothing to see
#
# ` met` had to give its attention to somebody. What do real heads do? Much of SmolLM2's attention goes to BOS, and lesson 00 showed that BOS is marked by a residual stream a hundred times as long as any other. So BOS must have learned to be the place to rest. Or must it? **Predict:** what happens
# to that attention if you leave BOS out? If you put another word in its place? If you put BOS in the middle?

# %% id="use-sink"
from mi_course.interp.attention import value_lengths

bos, rest, the = tokens[:, :1], tokens[:, 1:], model.to_tokens(" the", prepend_bos=False)
orders = {"BOS first": [bos, rest], "without BOS": [rest], "'the' first": [the, rest]}
orders["BOS in the middle"] = [rest[:, :14], bos, rest[:, 14:]]
received = {}
for name, parts in orders.items():
    received[name] = all_patterns(model, torch.cat(parts, dim=1))[:, :, 20:].mean((0, 1, 2))
    first, next_best = received[name][0], received[name][1:].max()
    print(
        f"{name:<18} the first token gets {first:.2f} of all attention, the next best {next_best:.2f}"
    )
at_bos = received["BOS in the middle"][14]
lengths = value_lengths(model, tokens)
short = lengths[:, 0] / lengths[:, 1:].median(1).values
print(
    f"BOS in the middle gets {at_bos:.2f}. Its values, in layers 12 to 29: {short[12:].mean():.2f}"
)

# %% id="claims-attention-seen" tags=["claims"]
firsts = [share[0] for share in received.values()]
lesson.seen("like-shared", sharing.mean(), ".1f")
lesson.seen("like-apart", apart.mean(), ".1f")
lesson.seen("reach-most", reach.max(), ".0f")
lesson.seen("reach-median", reach.median(), ".1f")
lesson.seen("far-peaks", int((peaks[reach > 8] == 1).sum()))
lesson.seen("far-heads", int((reach > 8).sum()))
lesson.seen("sink", received["BOS first"][0], ".0%")
lesson.seen("sink-without", received["without BOS"][0], ".0%")
lesson.seen("sink-the", received["'the' first"][0], ".0%")
lesson.seen("sink-middle", at_bos, ".0%")
lesson.seen("sink-values", short[12:].mean(), ".1f")
claim(
    "my patterns and outputs are the layer's own to 1e-4",
    (written.sum(0) - cache["attn_out", 5][0]).abs().max() < 1e-4,
)
claim(
    "sharing keys adds less than 0.2 to the mean correlation",
    0 < sharing.mean() - apart.mean() < 0.2,
)
claim(
    "for some head distance alone is worth more than 15, for the median head less than 4",
    bool(reach.max() > 15) and bool(reach.median() < 4),
)
claim(
    "nine in ten of the heads with a reach above 8 peak at distance 1",
    (peaks[reach > 8] == 1).float().mean() > 0.9,
)
claim(
    "whoever stands first gets above 30 % of the attention, in all four orders",
    min(firsts) > 0.3,
)
claim("the four differ by less than 10 points", max(firsts) - min(firsts) < 0.1)
claim("in the middle BOS gets less than 5 %", at_bos < 0.05)
claim(
    "from layer 12 on the first token's values are less than half as long as others",
    short[12:].mean() < 0.5,
)

# %% [markdown] id="attention-seen"
# <details><summary>What you should see</summary>
#
# Your two functions are the model's attention, to rounding. Heads that share keys are hardly more alike (correlation {{seen:like-shared}}) than heads that do not ({{seen:like-apart}}): what a head attends to is decided by its query.
#
# Distance alone can change a score by {{seen:reach-most}}, that is, from all of the attention to none; for the median head it is {{seen:reach-median}}. Of the {{seen:far-heads}} heads that depend on it most, {{seen:far-peaks}} peak at a distance of one: a cheap way to look at the token before. (The swings farther out are pairs of numbers that have turned once around; an exponential leaves little of a lower peak.)
#
# And the sink is not BOS. It is whoever stands **first**: {{seen:sink}} of the attention with BOS, {{seen:sink-without}} without it, {{seen:sink-the}} with ` the` in its place, and BOS in the middle gets {{seen:sink-middle}}. The first token sees nothing but itself, so whatever it is, it can be recognized, and its values are short ({{seen:sink-values}} of the
# usual length in the later layers): attending there brings back little. Resting is what these heads do where the ` met` of our example had to guess.
# </details>

# %% [markdown] id="part-2"
# ## 2. The residual stream is a sum
#
# Nothing in this model is overwritten. The embedding of a token begins the **residual stream**, and each of 30 layers adds two things to it: what its attention brings, and what its MLP makes of the result. So the last stream is a sum of 61 parts. Take it apart.

# %% [markdown] id="ask-residual_parts"
# ### Take it apart
#
# {{exercise residual_parts}}
#
# `cache` is that of one sequence, so its tensors have a batch axis of length one: `cache["resid_pre", 0]` (what enters layer 0), `cache["attn_out", layer]` and `cache["mlp_out", layer]` are `[1, pos, d_model]`. Row 0 is what enters layer 0 at that
# position, then come attention and MLP of layer 0, attention and MLP of layer 1, and so on. `n_layers` may be fewer than the model has, also 0; then the parts of the first layers are asked for. `pos` may be negative, and then counts from the end. The cache stays as it is.


# %% id="answer-residual_parts"
def residual_parts(cache, n_layers: int, pos: int) -> Float[Tensor, "1+2*layer d_model"]:
    """What was added up to make the residual stream at one position, in the order of computation.

    cache: of one sequence. Returns the embedding, then the outputs of attention and MLP of each of the first n_layers
    layers; their sum is the stream after these layers.
    """
    # BEGIN SOLUTION
    parts = [cache["resid_pre", 0][0, pos]]
    for layer in range(n_layers):
        parts += [cache["attn_out", layer][0, pos], cache["mlp_out", layer][0, pos]]
    return torch.stack(parts)
    # END SOLUTION


lesson.check(residual_parts)

# %% [markdown] id="ask-rms_norm"
# ### The norm before every reader
#
# {{exercise rms_norm}}
#
# The mean is taken over the last axis; there may be any number of axes before it, also none. `eps` is positive and stands under the root, so that a vector of zeros stays a vector of zeros. Nothing is subtracted.


# %% id="answer-rms_norm"
def rms_norm(
    x: Float[Tensor, "... d"], w: Float[Tensor, "d"], eps: float
) -> Float[Tensor, "... d"]:
    """Divide each vector by its root mean square, and multiply by a weight for each dimension.

    w · x / √(mean of x² + eps), with the mean over the last axis (Zhang and Sennrich 2019, section 3).
    """
    # BEGIN SOLUTION
    mean_square = x.pow(2).mean(dim=-1, keepdim=True)
    return x / (mean_square + eps).sqrt() * w
    # END SOLUTION


lesson.check(rms_norm)

# %% [markdown] id="use-parts-intro"
# Now add the 61 parts up again, and compute what the model would say: norm, then the unembedding $W_U$. (The weights of the norm are folded into $W_U$, so here they are ones.) Do the logits come out?
#
# And **predict**, with the token's embedding in mind, whose length is about 2.5: how long is the last stream? Which part is the longest? How much of the embedding's direction is left in the end?

# %% id="use-parts"
from functools import partial

parts_of, ones = lesson.use("residual_parts"), torch.ones(model.cfg.d_model)
norm = partial(lesson.use("rms_norm"), w=ones, eps=model.cfg.eps)
parts = torch.stack([parts_of(cache, 30, pos) for pos in range(tokens.shape[1])])
streams = parts.cumsum(dim=1)[:, ::2]  # before layer 0, after layer 0, ..., after layer 29
rebuilt = norm(streams[:, -1]) @ model.W_U
print("the model's own logits to 1e-3:", torch.allclose(rebuilt, logits[0], atol=1e-3))
sizes, along = parts.norm(dim=-1), streams.norm(dim=-1)
print(f"embedding {sizes[1:, 0].median():.1f}, last stream {along[1:, -1].median():.0f}")
print(
    "BOS by stream:", [f"{length:.0f}" for length in along[0, [0, 5, 10, 11, 12, 20, 28, 30]]]
)

# %% id="writes-picture" tags=["not-compared"]
middle_of = sizes[1:].median(0).values
show.lines(
    range(30),
    {
        "attention": middle_of[1::2],
        "MLP": middle_of[2::2],
        "stream before": along[1:, :-1].median(0).values,
    },
    xlabel="layer",
    ylabel="length (median over tokens without BOS)",
    title="Who writes how much: the stream grows, and so does what is written",
    log_y=True,
)

# %% id="use-persist"
others = streams[1:].roll(7, dims=0)  # the control: the stream of another token of the text
alike = torch.cosine_similarity(streams[1:, :, None], streams[1:, None], dim=-1).mean(0)
strangers = torch.cosine_similarity(streams[1:, :, None], others[:, None], dim=-1).mean(0)
for start, end in ((0, 1), (0, 30), (1, 10), (10, 20), (5, 30)):
    print(
        f"stream {start} and {end}: {alike[start, end]:.2f}, another token's {strangers[start, end]:.2f}"
    )

# %% id="persist-picture" tags=["not-compared"]
show.heatmaps(
    {"the same token": alike, "control: another token": strangers},
    xlabel="stream",
    ylabel="stream",
    title="Directions persist over ten layers or so, and the embedding's not at all",
    unit="cosine",
)

# %% id="claims-stream-seen" tags=["claims"]
writer = sizes[0, 2::2].argmax()
lesson.seen("length-first", sizes[1:, 0].median(), ".1f")
lesson.seen("length-last", along[1:, -1].median(), ".0f")
lesson.seen("mlp-zero", middle_of[2], ".0f")
lesson.seen("left", alike[0, 30].abs(), ".2f")
lesson.seen("one-ten", alike[1, 10], ".1f")
lesson.seen("one-ten-control", strangers[1, 10], ".1f")
lesson.seen("five-thirty", alike[5, 30], ".1f")
lesson.seen("bos-writer", int(writer))
lesson.seen("bos-length", round(float(along[0, 20]), -3), ",.0f")
lesson.seen("bos-before", round(float(along[0, int(writer)]), -1), ".0f")
lesson.seen("bos-end", round(float(along[0, 30]), -3), ",.0f")
claim("the logits are rebuilt to 1e-3", (rebuilt - logits[0]).abs().max() < 1e-3)
claim(
    "the first MLP writes more than 10 times the embedding's length",
    middle_of[2] > 10 * middle_of[0],
)
claim(
    "the embedding's direction has a cosine below 0.1 with every later stream",
    alike[0, 1:].abs().max() < 0.1,
)
claim(
    "streams 1 and 10 of a token are alike, 0.2 above another token's",
    alike[1, 10] > strangers[1, 10] + 0.2,
)
claim("streams 5 and 30 have a cosine below 0.15", alike[5, 30] < 0.15)
claim(
    "one MLP writes more than 90 % of BOS's length", sizes[0, 2::2].max() > 0.9 * along[0, 20]
)
claim(
    "after the last two layers BOS's stream is less than a third as long as before",
    along[0, 30] < along[0, 28] / 3,
)

# %% [markdown] id="stream-seen"
# <details><summary>What you should see</summary>
#
# The parts give the model's own logits, to less than a thousandth. Nothing else goes into them.
#
# "Embedding plus small corrections" would be the wrong picture, though. The embedding has a length of {{seen:length-first}}; the first MLP alone adds {{seen:mlp-zero}}, and from then on the embedding's direction is all but gone (cosine {{seen:left}} in the end). What the first layer writes persists: nine layers apart, the streams of a token have a cosine of {{seen:one-ten}}, those of two
# tokens {{seen:one-ten-control}}. But only so far: between an early stream and the last it is {{seen:five-thirty}}. The stream is rewritten slowly, by adding longer and longer parts, up to a length of {{seen:length-last}}.
#
# And BOS? Its stream is {{seen:bos-before}} long until **one** MLP, that of layer {{seen:bos-writer}}, makes it {{seen:bos-length}}. It stays so for most of the model, and the last two layers take most of it away again (to {{seen:bos-end}}). The sink is built, used and pulled down.
# </details>
#
# *Reflect.* A part may be long and matter to nobody, if no later layer reads its direction. What would you measure to find out?

# %% [markdown] id="part-3"
# ## 3. The logit lens and the tuned lens
#
# The last stream goes through the norm and $W_U$ and becomes a prediction. Earlier streams have the same 576 numbers. So read them **as if they were the last** (nostalgebraist 2020). At which layer will ` Paris` appear after "The capital of France is"? **Predict** it: in the first third, the second or the last?

# %% [markdown] id="ask-logit_lens"
# ### Read every layer as if it were the last
#
# {{exercise logit_lens}}
#
# `norm` is the model's final norm, a function of a tensor whose last axis is the model's dimension: `norm(resid)`. Log-probabilities are natural logarithms, over the whole vocabulary. Logits may lie hundreds apart; the logarithm of a softmax would then be −∞, so use
# `log_softmax`. `resid` stays as it is.


# %% id="answer-logit_lens"
def logit_lens(
    resid: Float[Tensor, "layer pos d"], norm, W_U: Float[Tensor, "d vocab"]
) -> Float[Tensor, "layer pos vocab"]:
    """Log-probabilities of the next token that each layer's residual stream would give (nostalgebraist 2020), in nats.

    norm: the model's final norm, a function that works on the last axis.
    """
    # BEGIN SOLUTION
    return (norm(resid) @ W_U).log_softmax(dim=-1)
    # END SOLUTION


lesson.check(logit_lens)

# %% [markdown] id="lens-table-intro"
# Rows are streams, from the embedding (0) at the bottom up to what leaves layer 29 (30); columns are positions. Each cell has the likeliest next token there. Point at a cell to see the next four.

# %% id="lens-table" tags=["not-compared"]
from mi_course.interp.lenses import top_words

lens, prompt = lesson.use("logit_lens"), "The capital of France is"
with torch.no_grad():
    _, cache = model.run_with_cache(prompt)
stack = torch.stack(
    [cache["resid_pre", 0][0], *(cache["resid_post", layer][0] for layer in range(30))]
)
chances, words, hover = top_words(model, lens(stack, norm, model.W_U)[:, 1:])
show.heatmap(
    chances,
    x=model.to_str_tokens(prompt)[1:],
    text=words,
    hover=hover,
    xlabel="position",
    ylabel="stream",
    unit="probability of the top token",
    center=None,
    title="The logit lens: nonsense for twenty streams and more, then the answer",
)

# %% [markdown] id="ask-settle"
# One prompt proves little. When is an answer *settled*?

# %% [markdown] id="ask-answer_layer"
# ### Where the answer is settled
#
# {{exercise answer_layer}}
#
# A token is on top where its log-probability is strictly larger than every other; a tie does not count. If the answer is not on top in the last layer there is no such layer: return `None`. There may be a single layer.


# %% id="answer-answer_layer"
def answer_layer(logprobs: Float[Tensor, "layer vocab"], answer: int) -> int | None:
    """The first layer from which the answer is the top token and stays so, or None.

    logprobs: what each layer says of one position. Layers count from 0.
    """
    # BEGIN SOLUTION
    others = logprobs.clone()
    others[:, answer] = -torch.inf
    on_top = logprobs[:, answer] > others.max(dim=-1).values
    settled = None
    for layer in reversed(range(len(on_top))):
        if not on_top[layer]:
            break
        settled = layer
    return settled
    # END SOLUTION


lesson.check(answer_layer)

# %% [markdown] id="use-settle-intro"
# Three kinds of answers: a **fact** (30 capitals), a **repetition** (random tokens written twice, in the second copy), and **grammar** ("It depends" … ` on`). Only prompts that the model gets right in the end have such a layer. The control asks for another prompt's answer.
#
# **Predict:** which of the three is settled first?

# %% id="use-settle"
from mi_course.interp.lenses import lens_questions

settle, settled = lesson.use("answer_layer"), {}
for kind, (at_end, answers) in lens_questions(model).items():
    says = [lens(at_end[:, [i]], norm, model.W_U)[:, 0] for i in range(len(answers))]
    settled[kind] = [settle(*pair) for pair in zip(says, answers, strict=True)]
    if kind == "fact":  # capitals of other countries
        settled["control"] = list(map(settle, says, answers[1:] + answers[:1]))
for kind, layers in settled.items():
    known = sorted(layer for layer in layers if layer is not None)
    middle_one = f"median stream {known[len(known) // 2]}" if known else ""
    print(f"{kind:<11} {len(known)} of {len(layers)} settled", middle_one)

# %% id="claims-lens-seen" tags=["claims"]
found = {
    kind: sorted(layer for layer in layers if layer is not None)
    for kind, layers in settled.items()
}
median = {kind: layers[len(layers) // 2] for kind, layers in found.items() if layers}
paris = settled["fact"][0]
lesson.seen("paris", paris)
lesson.seen("facts-right", len(found["fact"]))
lesson.seen("copies-right", len(found["repetition"]))
lesson.seen("median-fact", median["fact"])
lesson.seen("median-repetition", median["repetition"])
lesson.seen("median-grammar", median["grammar"])
lesson.seen("earliest", min(layers[0] for layers in found.values() if layers))
claim("Paris is settled in the last third", paris > 20)
claim(
    "of 30 capitals 20 are right in the end, of 16 words of grammar 8, of 20 repetitions 8",
    len(found["fact"]) >= 20 and len(found["grammar"]) >= 8 and len(found["repetition"]) >= 8,
)
claim(
    "grammar is settled earlier than facts, by three streams in the median",
    median["grammar"] <= median["fact"] - 3,
)
claim("no control prompt settles on another country's capital", not found["control"])
claim(
    "half of the answers of each kind are settled in the last third", min(median.values()) > 20
)

# %% [markdown] id="lens-seen"
# <details><summary>What you should see</summary>
#
# ` Paris` is settled at stream {{seen:paris}}: in the last third, after a long line of commas and nonsense. It is even early, for a fact: the median of the {{seen:facts-right}} capitals that come out right is stream {{seen:median-fact}}, and of the {{seen:copies-right}} repetitions {{seen:median-repetition}}. Grammar is settled before: its median is stream {{seen:median-grammar}}, and one word of it at stream {{seen:earliest}}. No prompt settles on the capital of another country.
# </details>
#
# So the model knows nothing until the end, and then it knows? That is one reading. The other: it knows, but not *in the coordinates of the last layer*. You have seen that directions do not persist that long. How would you tell the two apart?

# %% [markdown] id="tuned-intro"
# ### Learn each layer's coordinates
#
# The **tuned lens** (Belrose et al. 2023) gives each stream a translator of its own: an affine map, fitted so that it lands as close as possible to the last stream of the same token. They train theirs on the difference of the predictions; least squares, which has a closed form, is enough here.

# %% [markdown] id="ask-fit_translator"
# ### One affine map for each layer
#
# {{exercise fit_translator}}
#
# With row vectors: `resid @ A + b` shall be close to `final`. The sum that is made smallest has the squares of all its errors and `ridge` times the squares of all entries of A; not those of b. `ridge` is not negative. There may be fewer rows than dimensions, even a single
# row; where `ridge` is 0 there are enough. Results count as right to three digits.


# %% id="answer-fit_translator"
def fit_translator(
    resid: Float[Tensor, "n d"], final: Float[Tensor, "n d"], ridge: float
) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d"]]:
    """The affine map from a layer's residual stream to the last one that least squares gives.

    Returns A and b for which Σ ‖resid[i] @ A + b − final[i]‖² + ridge · ‖A‖² is smallest.
    """
    # BEGIN SOLUTION
    x_mean, y_mean = resid.mean(dim=0), final.mean(dim=0)
    x, y = resid - x_mean, final - y_mean
    A = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ y)
    return A, y_mean - x_mean @ A
    # END SOLUTION


lesson.check(fit_translator)

# %% [markdown] id="use-tuned-intro"
# 6,000 tokens of text that SmolLM2 wrote serve to fit, and 500 of other rows to judge. The streams differ in length a hundredfold, so each goes through the norm first, and so does the last one, which is the target: what $W_U$ reads. (Belrose et al. apply the norm after the translator. That stretches an unsure answer to full
# length, and makes it sure of itself.)
#
# A fair control has the same number of parameters: translators fitted to last streams of **other** tokens, shuffled. They can learn what the model says on average, and nothing of this token. A second control is the best guess of that kind, the mean of all the model's distributions.
#
# The measure is the cross-entropy of what the lens says with what the model says in the end; for the model itself it is its entropy. **Predict:** where does the logit lens stand at stream 15, compared with an even guess among 49,152 tokens, 10.8 nats?

# %% id="use-tuned"
from mi_course.interp.lenses import lens_quality, read_streams, sampled_text

fit, W_U = lesson.use("fit_translator"), model.W_U.detach()
training, held = (read_streams(model, sampled_text(*rows, 64)) for rows in ((0, 96), (700, 8)))
numbers, target = range(0, 31, 3), norm(training.resid[-1])
shuffled = target[torch.randperm(len(target), generator=torch.Generator().manual_seed(0))]
ridge = 0.01 * len(target)
tuned = {i: fit(norm(training.resid[i]), target, ridge) for i in numbers}
controls = {i: fit(norm(training.resid[i]), shuffled, ridge) for i in numbers}
final = lens(held.resid[-1:], norm, W_U)[0]
entropy = float(-(final.exp() * final).sum(-1).mean())
mean_guess = final.exp().mean(0)
constant = float(-(mean_guess * mean_guess.clamp(min=1e-30).log()).sum())


def translated(maps):
    def read(number, x):
        A, b = maps[number]
        return lens((norm(x) @ A + b)[None], lambda y: y, W_U)[0]

    return lens_quality(held, read, final, numbers)


quality = {
    "logit lens": lens_quality(held, lambda _, x: lens(x[None], norm, W_U)[0], final, numbers)
}
quality |= {"tuned lens": translated(tuned), "control: shuffled": translated(controls)}
for name, (nats, bias) in quality.items():
    print(
        f"{name:<18} stream 15: {nats[5]:.1f} nats, bias {bias[5]:.1f}; stream 6: {nats[2]:.1f} nats"
    )
print(
    f"the model itself {entropy:.1f} nats, the best constant guess {constant:.1f}, an even one 10.8"
)

# %% id="tuned-picture" tags=["not-compared"]
show.lines(
    numbers,
    {
        **{name: nats for name, (nats, _) in quality.items()},
        "control: best constant guess": [constant] * len(numbers),
        "the model itself": [entropy] * len(numbers),
    },
    xlabel="stream",
    ylabel="cross-entropy (nats)",
    title="The logit lens is worse than no lens for most of the model; the tuned lens is not",
    log_y=True,
)

# %% id="claims-tuned-seen" tags=["claims"]
raw, adapted, mixed = (nats for nats, _ in quality.values())
won = float((raw[5] - adapted[5]) / (raw[5] - entropy))
worse = [number for number, nats in zip(numbers, raw, strict=True) if nats > constant]
lesson.seen("raw-middle", raw[5], ".0f")
lesson.seen("tuned-middle", adapted[5], ".1f")
lesson.seen("tuned-early", adapted[2], ".1f")
lesson.seen("mixed-middle", mixed[5], ".1f")
lesson.seen("entropy", entropy, ".1f")
lesson.seen("constant", constant, ".1f")
lesson.seen("won", won, ".0%")
lesson.seen("worse-until", max(worse))
lesson.seen("raw-bias", quality["logit lens"][1][5], ".0f")
lesson.seen("tuned-bias", quality["tuned lens"][1][5], ".1f")
claim(
    "the tuned lens makes up for more than three quarters of the logit lens's excess at stream 15",
    won > 0.75,
)
claim("at stream 15 the logit lens is worse than an even guess, by 5 nats", raw[5] > 15.8)
claim(
    "it is worse than the best constant guess up to stream 24 at least",
    max(worse) >= 24 and len(worse) >= 9,
)
claim(
    "the tuned lens beats the shuffled control by 1 nat at stream 15 and by half a nat at stream 6",
    bool(mixed[5] - adapted[5] > 1) and bool(mixed[2] - adapted[2] > 0.5),
)
claim(
    "the tuned lens gets better with every third stream from 3 on",
    (adapted[1:-1] > adapted[2:]).all(),
)
claim(
    "the logit lens's bias at stream 15 is 4 nats more than the tuned lens's",
    quality["logit lens"][1][5] > quality["tuned lens"][1][5] + 4,
)

# %% [markdown] id="tuned-seen"
# <details><summary>What you should see</summary>
#
# In the middle, half-way up, the logit lens stands at {{seen:raw-middle}} nats: not merely ignorant, but sure of the wrong things, and far worse than an even guess. Up to stream {{seen:worse-until}} it is worse than a constant guess ({{seen:constant}} nats). The tuned lens reads {{seen:tuned-middle}} nats off the very same stream; the model's own entropy is {{seen:entropy}}. It removes
# {{seen:won}} of the excess, and nearly all of the bias: {{seen:raw-bias}} nats for the logit lens, {{seen:tuned-bias}} for the tuned one.
#
# The shuffled control says what that is worth. It has as many parameters, and stands at {{seen:mixed-middle}} nats. What the tuned lens has beyond that, it has read from this token's stream. So the prediction is *not* made suddenly in the last third. It grows all the way, from {{seen:tuned-early}} nats in the first fifth, in coordinates that the last layer does not
# share.
# </details>
#
# *Reflect.* A translator is fitted to predict the end. Could it add knowledge of its own that the layer did not have? The shuffled control excludes one kind of that. Which kind does it not exclude?

# %% [markdown] id="part-4"
# ## 4. Direct logit attribution
#
# A logit is one more product with the last stream, and that is a sum. So a logit, too, is a sum over parts, if the norm does not get in the way: it divides the *whole* stream by one number. Hold that number fixed, and each part has its share.

# %% [markdown] id="ask-logit_attribution"
# ### Who pushed the right token up?
#
# {{exercise logit_attribution}}
#
# `scale` is what the final norm divided the *whole* stream by (TransformerLens caches it as `ln_final.hook_scale`). It is positive, and the same for all parts, so that the attributions add up to the logit. `direction` is a column of `W_U`, or the difference of two; use it as
# it is.


# %% id="answer-logit_attribution"
def logit_attribution(
    parts: Float[Tensor, "part d"], scale: float, direction: Float[Tensor, "d"]
) -> Float[Tensor, "part"]:
    """How much each part of the residual stream adds to a logit, or to a difference of logits.

    scale: by which the final norm divided the sum of all parts, held fixed. direction: W_U[:, right] − W_U[:, wrong], say.
    """
    # BEGIN SOLUTION
    return parts @ direction / scale
    # END SOLUTION


lesson.check(logit_attribution)

# %% [markdown] id="use-attribution-intro"
# The parts are now all 270 heads, 30 MLPs and the embedding. The question is a difference: the right word's logit minus a wrong one's of the same kind, so that what is good for all capitals alike cancels. Two tasks: **capitals** (right: its own, wrong: another country's), and **agreement** ("The author near the guards" … ` is`,
# not ` are`).
#
# **Predict:** do heads name the capital, or MLPs? And who chooses between ` is` and ` are`?

# %% id="use-attribution"
from mi_course.interp.agreement import NOUNS, TEMPLATES, agreement_prompts
from mi_course.interp.attribution import attributions, component_names, prompt_set
from mi_course.interp.lenses import CAPITALS

attribute, names = lesson.use("logit_attribution"), component_names(model)
lands, cities = zip(*CAPITALS, strict=True)
wrong_cities = cities[5:] + cities[:5]
pairs = list(zip(cities, wrong_cities, strict=True))
tasks = {
    "capitals": prompt_set(model, [f"The capital of {land} is" for land in lands], pairs),
    "agreement": prompt_set(model, *agreement_prompts(TEMPLATES[0], NOUNS[::2])),
}
direct = {task: attributions(model, prompts, attribute) for task, prompts in tasks.items()}
for task, table in direct.items():
    mean = table.mean(1)
    best = ", ".join(f"{names[i]} {mean[i]:+.2f}" for i in mean.abs().topk(6).indices)
    print(
        f"{task}: difference {mean.sum():.2f} = heads {mean[:270].sum():.2f} + MLPs {mean[270:300].sum():.2f}; {best}"
    )

# %% id="attribution-picture" tags=["not-compared"]
show.heatmaps(
    {task: table.mean(1)[:270].reshape(30, 9).T for task, table in direct.items()},
    xlabel="layer",
    ylabel="head",
    title="Direct attribution of the heads: both tasks are decided late, by different heads",
    unit="logits",
    across=1,
)

# %% [markdown] id="ablated-intro"
# Adding up is not causing. An attribution counts what a part writes straight to the logits. If a later layer reads what a head wrote and acts on it, that is not counted; and if later layers would step in when the head is gone, it is counted in full. So take parts away and look.

# %% [markdown] id="ask-ablated_difference"
# ### And if they had not?
#
# {{exercise ablated_difference}}
#
# The prompts are one batch of tokens of equal length. Each of `heads`, (layer, head) pairs, has its z (`blocks.{layer}.attn.hook_z`, `[prompt, pos, head, d_head]`) replaced, at every position, by the mean of its z at that position over these prompts, as it is when *nothing* is ablated.
# So with heads in several layers the means have to be taken first. Row p of `answers` holds the right and the wrong token of prompt p; its difference is right minus wrong, of the logits at the last position. `heads` may be empty, and may name a head twice; with a
# single prompt nothing changes. No hook is left on the model, also when it raises an error.


# %% id="answer-ablated_difference"
def ablated_difference(
    model,
    tokens: Int[Tensor, "prompt pos"],
    heads: list[tuple[int, int]],
    answers: Int[Tensor, "prompt 2"],
) -> Float[Tensor, "prompt"]:
    """Logit difference of each prompt, right minus wrong, with these heads at their mean over the prompts.

    tokens: prompts of one length. heads: (layer, head) pairs. answers: right and wrong token of each prompt.
    """
    # BEGIN SOLUTION
    names = {f"blocks.{layer}.attn.hook_z" for layer, _ in heads}
    with torch.no_grad():
        _, clean = model.run_with_cache(tokens, names_filter=lambda name: name in names)

        def at_mean(z, hook):
            for layer, head in heads:
                if layer == hook.layer():
                    z[:, :, head] = clean["z", layer][:, :, head].mean(dim=0)
            return z

        logits = model.run_with_hooks(tokens, fwd_hooks=[(name, at_mean) for name in names])[
            :, -1
        ]
    right, wrong = logits.gather(1, answers).T
    return right - wrong
    # END SOLUTION


lesson.check(ablated_difference)

# %% [markdown] id="use-ablated-intro"
# Now for every head and every MLP: what it adds, against what is lost when its output at the last position is its mean over the prompts. (The library does it a hundred times faster than your function, from the layer on; the first line checks it against yours, for one head in the last layer.) The **control** is random components: for each head and MLP one
# that deviates from its mean just as much, in a random direction.
#
# **Predict:** on which of the two tasks will the two measures agree better? And where would you look for parts that matter much and add nothing?

# %% id="use-ablated"
from mi_course.interp.attribution import ablation_drops, random_rotation

ablated, last = lesson.use("ablated_difference"), "last position"
drops, adds = {}, {}
for task, prompts in tasks.items():
    lost, added = ablation_drops(model, prompts, where=last)
    drops[task], adds[task] = lost.mean(1), added.mean(1)
turned = ablation_drops(
    model, tasks["agreement"], where=last, rotation=random_rotation(576, 0)
)
drops["control"], adds["control"] = (table.mean(1) for table in turned)
for task in drops:
    x, y = adds[task], drops[task]
    far = ", ".join(
        f"{names[i]} adds {x[i]:.2f}, costs {y[i]:.2f}" for i in (x - y).abs().topk(4).indices
    )
    print(f"{task}: correlation {torch.corrcoef(torch.stack([x, y]))[0, 1]:.2f}; {far}")

# %% id="ablated-picture" tags=["not-compared"]
show.scatter(
    adds["capitals"],
    drops["capitals"],
    names[:300],
    xlabel="direct attribution (logits)",
    ylabel="lost by ablation (logits)",
    title="Capitals: what a part adds, and what is lost without it",
    diagonal=True,
    write=(adds["capitals"] - drops["capitals"]).abs().topk(6).indices.tolist(),
)

# %% [markdown] id="use-later-intro"
# Where do they part, and why? Take the head that parts most on capitals, ablate it, and attribute again: which *other* parts now add something else?

# %% id="use-later"
gap = drops["capitals"] - adds["capitals"]
loud = divmod(int(gap[:270].abs().argmax()), 9)
again = attributions(model, tasks["capitals"], attribute, without=[loud])
moved = (direct["capitals"] - again).mean(1)
print("{}.{} ablated:".format(*loud), f"{moved.sum():.2f} lost in all")
for i in moved.abs().topk(7).indices:
    print(f"  {names[i]:<9} adds {moved[i]:.2f} less")


# %% id="claims-attribution-seen" tags=["claims"]
def share(task, rows):
    return float(direct[task].mean(1)[rows].sum() / direct[task].mean(1).sum())


agree = {task: torch.corrcoef(torch.stack([adds[task], drops[task]]))[0, 1] for task in drops}
heads3 = direct["agreement"].mean(1)[:270].topk(3)
small = torch.ones(270, dtype=torch.bool)
small[heads3.indices] = False
rest_agree = torch.corrcoef(
    torch.stack([adds["agreement"][:270][small], drops["agreement"][:270][small]])
)[0, 1]
silent = int((drops["agreement"] - adds["agreement"]).argmax())
spread = adds["agreement"][:270].std() / adds["control"][:270].std()
lesson.seen("capital-mlps", share("capitals", slice(270, 300)), ".0%")
lesson.seen("agreement-heads", [names[i] for i in heads3.indices])
lesson.seen("agreement-three", heads3.values.sum(), ".1f")
lesson.seen("agreement-all", direct["agreement"].mean(1).sum(), ".1f")
lesson.seen("agree-capitals", agree["capitals"], ".2f")
lesson.seen("agree-rest", rest_agree, ".1f")
lesson.seen("silent", names[silent])
lesson.seen("silent-adds", adds["agreement"][silent].abs(), ".1f")
lesson.seen("silent-costs", drops["agreement"][silent], ".1f")
lesson.seen("loud", "{}.{}".format(*loud))
lesson.seen("loud-adds", adds["capitals"][loud[0] * 9 + loud[1]], ".1f")
lesson.seen("loud-costs", drops["capitals"][loud[0] * 9 + loud[1]], ".1f")
lesson.seen("spread", spread, ".0f")
meek = int((-gap[:270]).masked_fill(adds["capitals"][:270] < 0, -1).argmax())
lesson.seen("meek", names[meek])
lesson.seen("meek-adds", adds["capitals"][meek], ".1f")
lesson.seen("meek-costs", drops["capitals"][meek], ".1f")
later = moved[270 + loud[0] : 300].sum() / moved.sum()
lesson.seen("later-mlps", later, ".0%")
claim(
    "the parts add up to the model's own differences, to 1e-3",
    all(
        abs(
            direct[t].mean(1).sum()
            - ablated(model, tasks[t].tokens, [], tasks[t].answers).mean()
        )
        < 1e-3
        for t in tasks
    ),
)
claim(
    "MLPs add 30 to 70 % of the difference between capitals",
    0.3 < share("capitals", slice(270, 300)) < 0.7,
)
claim(
    "three heads add more than 80 % of the difference in agreement",
    heads3.values.sum() > 0.8 * direct["agreement"].mean(1).sum(),
)
claim(
    "over all parts of the capitals the measures correlate above 0.8", agree["capitals"] > 0.8
)
claim(
    "without the three strongest the heads' measures for agreement correlate below 0.5",
    rest_agree < 0.5,
)
claim(
    "one MLP adds less than 0.1 to agreement and costs more than 0.3",
    silent >= 270
    and bool(adds["agreement"][silent] < 0.1)
    and bool(drops["agreement"][silent] > 0.3),
)
claim("the loudest head costs 1 logit more than it adds", gap[:270].abs().max() > 1)
claim("heads' attributions spread 5 times as far as random components'", spread > 5)

# %% [markdown] id="attribution-seen"
# <details><summary>What you should see</summary>
#
# MLPs add {{seen:capital-mlps}} of the difference between capitals. Agreement is another matter: three heads, {{seen:agreement-heads}}, add {{seen:agreement-three}} logits, more than the whole difference of {{seen:agreement-all}}, and the rest nearly cancels.
#
# Over all parts of the capitals, what a part adds and what is lost without it correlate at {{seen:agree-capitals}}: the large parts agree. But take the three strong heads out of agreement, and for the other heads the two measures have little to do with one another ({{seen:agree-rest}}). Random components of the same size do next to nothing by either measure; the
# heads' attributions spread {{seen:spread}} times as far.
#
# Two cases of disagreement. {{seen:silent}} adds {{seen:silent-adds}} and costs {{seen:silent-costs}}: nobody reads it at the end, and everybody reads it on the way, because, as you saw, it is what replaces the embedding. (How much it costs depends on the sentence: try `TEMPLATES[1]` and `TEMPLATES[2]`, where it is far less.) And {{seen:loud}} adds {{seen:loud-adds}} but costs {{seen:loud-costs}}. When it is silent, the parts after it add less, too: {{seen:later-mlps}} of all that is
# lost is lost in later MLPs. They amplified it. You may have read that later parts *make up* for a missing head (self-repair). Something of the kind is there for other heads: {{seen:meek}} adds {{seen:meek-adds}} and costs {{seen:meek-costs}}. It is no rule.
# </details>

# %% [markdown] id="ask-my_agreement_heads"
# ### Your heads
#
# {{exercise my_agreement_heads}}
#
# The sentences are 96, with nouns and templates that this lesson does not use: distractors in prepositional phrases and in relative clauses whose subject is the noun itself ("that met the guards"), each pair of nouns in all four combinations of number. Right minus wrong is averaged over all of them. A head's mean
# is over the sentences of a template, at each position, as in `ablated_difference`. A random set has as many heads of each layer as yours, and none of yours; what it takes is the sum of what each of its heads takes alone, so that the check does not run 200 sets (for 40 that were run, the sum was right to 0.01 logits). A pair that is there twice counts once.

# %% id="answer-my_agreement_heads"
# BEGIN SOLUTION
agreeing = [prompt_set(model, *agreement_prompts(template)) for template in TEMPLATES]
added = sum(attributions(model, prompts, attribute)[:270].mean(dim=1) for prompts in agreeing)
my_agreement_heads = [divmod(i, 9) for i in added.topk(4).indices.tolist()]
# END SOLUTION

lesson.check(my_agreement_heads, name="my_agreement_heads")

# %% [markdown] id="use-failure-intro"
# Your list passed on sentences where the noun beside the verb is in a phrase, or the object of another verb. In "The author that the guards liked" it is the *subject* of one, and the model often fails. **Predict:** do your heads fail there, by pulling towards the wrong noun? Or are they still right, and outvoted?

# %% id="use-failure"
from mi_course.interp.agreement import OBJECT_RELATIVES
from mi_course.interp.attribution import pull_of_heads

mine4, pulls = lesson.use("my_agreement_heads"), {}
for kind, template in {"phrase": TEMPLATES[0], "object relative": OBJECT_RELATIVES[0]}.items():
    prompts = prompt_set(model, *agreement_prompts(template))
    for number, pull in pull_of_heads(model, prompts, attribute, mine4).items():
        pulls[f"{kind}, {number}"] = pull
        right, whole, ours = pull
        print(
            f"{kind}, {number}: {right:.0%} right, difference {whole:+.1f}, your heads {ours:+.1f}"
        )

# %% id="failure-picture" tags=["not-compared"]
show.bars(
    list(pulls),
    [ours for *_, ours in pulls.values()],
    title="What your heads add for the right verb, by kind of sentence",
    xlabel="sentence, and the other noun's number: like the subject's, or unlike",
    ylabel="added (logits)",
)

# %% id="claims-failure-seen" tags=["claims"]
easy, hard = pulls["phrase, unlike"], pulls["object relative, unlike"]
lesson.seen("easy-right", easy[0], ".0%")
lesson.seen("hard-right", hard[0], ".0%")
lesson.seen("easy-pull", easy[2], ".1f")
lesson.seen("hard-pull", hard[2], ".1f")
lesson.seen("like-pull", pulls["object relative, like"][2], ".1f")
claim(
    "with unlike nouns fewer object relatives are right than prepositional phrases",
    hard[0] < easy[0],
)
claim(
    "your heads add less in them with unlike nouns than with like ones, by 0.5 logits",
    hard[2] < pulls["object relative, like"][2] - 0.5,
)

# %% [markdown] id="failure-seen"
# <details><summary>What you should see</summary>
#
# With nouns of different number, {{seen:easy-right}} of the phrases are right and {{seen:hard-right}} of the object relatives. Your heads add {{seen:easy-pull}} logits for the right verb in the phrases and {{seen:hard-pull}} in the object relatives, where with like nouns they add {{seen:like-pull}}. They are not outvoted: they carry whichever number reached them, and in these sentences it is often
# the wrong noun's. Subject relatives such as `TEMPLATES[2]` lie in between. Who decides that sits before them, and direct attribution does not see it.
# </details>

# %% [markdown] id="part-5"
# ## 5. Circuits in the weights
#
# So far every answer came from running the model. But a head is four matrices, and two products of them are all that it does (Elhage et al. 2021): $W_{QK} = W_Q W_K^\top$ says who attends to whom, and $W_{OV} = W_V W_O$ says what is written when it does. Both are 576 × 576 and of rank 64 at most. Can one read a head without running it?
#
# For instance, does it **copy**: does attending to a token raise that token's own logit? Then $W_E W_{OV} W_U$, from tokens to logits, tends to be positive along its diagonal, whatever the tokens, and its eigenvalues λ tend to be positive too. Elhage et al. summarize them as Σ Re λ / Σ |λ|.

# %% [markdown] id="ask-ov_copying"
# ### Does a head copy?
#
# {{exercise ov_copying}}
#
# `W_OV` comes as its two factors, `(W_V, W_O)`, as is usual for a matrix of low rank. `W_E @ W_V @ W_O @ W_U` is vocab × vocab, far too large to be made: AB and BA have the same eigenvalues but for zeros, so that a matrix of d_head × d_head will do. No tensor on the way may be larger than 4 times
# the largest of the four that are given. A head may be weak, and still copy; only for a head of zeros the score is 0.


# %% id="answer-ov_copying"
def ov_copying(
    W_E: Float[Tensor, "vocab d_model"],
    W_OV: tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]],
    W_U: Float[Tensor, "d_model vocab"],
) -> float:
    """Σ Re λ / Σ |λ| over the eigenvalues of W_E W_OV W_U: 1 if a head copies, −1 if it suppresses what it attends to.

    W_OV: its factors (W_V, W_O). The score of Elhage et al. (2021); 0 if all eigenvalues are zero.
    """
    # BEGIN SOLUTION
    W_V, W_O = W_OV
    eigenvalues = torch.linalg.eigvals((W_O @ W_U) @ (W_E @ W_V))
    size = eigenvalues.abs().sum().item()
    return eigenvalues.real.sum().item() / size if size else 0.0
    # END SOLUTION


lesson.check(ov_copying)

# %% [markdown] id="use-copying-intro"
# All 270 heads. One step is saved once for all of them: by the same argument, the vocabulary enters only through the product $W_U W_E$, a 576 × 576 matrix, so your function is given that for `W_E`, and ones for `W_U`. The **control**: matrices with each head's own singular values, between random directions.
#
# The second measure runs the model after all. If this head attended to the tokens of a text, *as the stream has them before its layer*, how far would it raise each token's own logit? **Predict:** the heads that do it most, what are their copying scores?

# %% id="use-copying"
from mi_course.interp.circuits import copying_in_text, copying_scores

score, sample = lesson.use("ov_copying"), sampled_text(600, 8, 63)
copying, random_copying = (copying_scores(model, score, seed=seed) for seed in (None, 0))
in_text, from_embeddings = (
    copying_in_text(model, sample, embeddings=flag) for flag in (False, True)
)
by_name = [divmod(int(i), 9) for i in in_text.flatten().argsort(descending=True)]
print(
    f"scores above 0.5: {(copying > 0.5).float().mean():.0%}; random ones within {random_copying.abs().max():.2f}"
)
for head in by_name[:5]:
    print(
        "{}.{}".format(*head),
        f"copies {in_text[head]:.1f} deviations in text, score {copying[head]:+.2f}",
    )


def likeness_of(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


print(
    f"correlation of the score with copying: from W_E {likeness_of(copying, from_embeddings):.2f}, in text {likeness_of(copying, in_text):.2f}"
)

# %% id="copying-picture" tags=["not-compared"]
show.scatter(
    copying.flatten(),
    in_text.flatten(),
    names[:270],
    xlabel="copying score of the weights",
    ylabel="copying in text (standard deviations)",
    title="The heads that copy in text are not those whose weights say so",
    write=[layer * 9 + head for layer, head in by_name[:5]],
)

# %% id="claims-copying-seen" tags=["claims"]
top5 = torch.tensor([float(copying[head]) for head in by_name[:5]])
symmetric = model.W_U @ model.W_E
with torch.no_grad():
    eigen = torch.linalg.eigvals(symmetric)
    plain = copying_scores(model, lambda E, factors, U: score(U, factors, U))
positive = float(eigen.real.sum() / eigen.abs().sum())
lesson.seen("above-half", (copying > 0.5).float().mean(), ".0%")
lesson.seen("random-copying", random_copying.abs().flatten().quantile(0.95), ".1f")
lesson.seen("top-copiers", ["{}.{}".format(*head) for head in by_name[:5]])
lesson.seen("top-low", top5.min(), ".1f")
lesson.seen("top-high", top5.max(), ".1f")
lesson.seen("from-embeddings", likeness_of(copying, from_embeddings), ".2f")
lesson.seen("in-text", likeness_of(copying, in_text), ".1f")
lesson.seen("tied", positive, ".2f")
lesson.seen("plain", likeness_of(copying, plain), ".2f")
claim(
    "more than 30 % of the heads exceed 0.5, and less than 1 % of random ones",
    bool((copying > 0.5).float().mean() > 0.3)
    and bool((random_copying > 0.5).float().mean() < 0.01),
)
claim("the five heads that copy most in text have a mean score below 0.2", top5.mean() < 0.2)
claim(
    "the score correlates above 0.85 with copying from W_E, and below 0.4 with copying in text",
    likeness_of(copying, from_embeddings) > 0.85 and likeness_of(copying, in_text) < 0.4,
)
claim("the eigenvalues of W_U W_E are nearly all positive", positive > 0.95)
claim(
    "the score without the vocabulary correlates above 0.9 with the score",
    likeness_of(copying, plain) > 0.9,
)

# %% [markdown] id="copying-seen"
# <details><summary>What you should see, and a warning</summary>
#
# {{seen:above-half}} of the heads score above one half, and random matrices stay within {{seen:random-copying}}: there is structure in the weights. But which? The five heads that would copy most in a text, {{seen:top-copiers}}, have scores between {{seen:top-low}} and {{seen:top-high}}. The score predicts copying very well ({{seen:from-embeddings}}) *if heads read embeddings*, and hardly ({{seen:in-text}}) if they
# read what there is to read. You know why: after the first MLP next to nothing of the embedding's direction is left. The score was made for models of one or two layers without MLPs, and there it tells the truth.
#
# One more thing. SmolLM2's embeddings are **tied**: before the norm's weights were folded in, $W_U$ was $W_E^\top$, and a matrix times its own transpose has no negative eigenvalue. Of $W_U W_E$ as it is here the score is {{seen:tied}}. So the vocabulary hardly matters: leave it out, take the eigenvalues of $W_{OV}$ alone, and the scores of the heads are
# nearly the same (correlation {{seen:plain}}). What looked like a statement about tokens is one about $W_{OV}$: whether it tends to return a vector along itself.
# </details>

# %% [markdown] id="ask-skip_trigrams"
# ### Read a whole model
#
# {{exercise skip_trigrams}}
#
# The circuits come as their factors: `W_QK` is `(W_Q, W_K)`, and the score of a destination for a source is `(W_E @ W_Q)[destination] · (W_E @ W_K)[source]`; `W_OV` is `(W_V, W_O)`, and what attending to a source adds to the logits is row `source` of `W_E @ W_V @ W_O @ W_U`. Center the scores of each
# destination over all sources, and the logits of each source over all predictions: what is added to all alike changes no softmax. The effect is the product of the two. Return the `n` triples with the largest effect, largest first; no two effects are equal.


# %% id="answer-skip_trigrams"
def skip_trigrams(
    W_E: Float[Tensor, "vocab d_model"],
    W_QK: tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]],
    W_OV: tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]],
    W_U: Float[Tensor, "d_model vocab"],
    n: int,
) -> list[tuple[int, int, int]]:
    """The n strongest skip-trigrams (source ... destination → prediction) of one head, strongest first.

    W_QK: its factors (W_Q, W_K). W_OV: its factors (W_V, W_O). Effect: attention score of the destination for the source,
    times what the source adds to the logit of the prediction; each centered, over sources and over predictions.
    """
    # BEGIN SOLUTION
    (W_Q, W_K), (W_V, W_O) = W_QK, W_OV
    scores = (W_E @ W_Q) @ (W_E @ W_K).T  # [destination, source]
    logits = (W_E @ W_V) @ (W_O @ W_U)  # [source, prediction]
    scores = scores - scores.mean(dim=1, keepdim=True)
    logits = logits - logits.mean(dim=1, keepdim=True)
    effects = scores.T[:, :, None] * logits[:, None, :]  # [source, destination, prediction]
    best = effects.flatten().topk(n).indices
    vocab = len(W_E)
    return [(i // vocab**2, i // vocab % vocab, i % vocab) for i in best.tolist()]
    # END SOLUTION


lesson.check(skip_trigrams)

# %% [markdown] id="use-market-intro"
# In a model with one layer, the embedding *is* what heads read, and its weights can be read to the end. `tiny-market` is ours: one layer, one head, no MLP, norm or position, trained on sentences such as `. baker often gladly sells bread`. Each of five traders sells one thing and buys another. Fillers in between say nothing, so the model has to look back:
# **baker … sells → bread** is a *skip-trigram*.
#
# Its logits are three tables: what each token predicts by itself ($W_E W_U$), whom it attends to ($W_E W_{QK} W_E^\top$), what is predicted from there ($W_E W_{OV} W_U$). Are these really all? And **predict:** in the head's own list of skip-trigrams, how many of the first eight are rules of the market?

# %% id="use-market"
from mi_course.interp.models import load_native
from mi_course.interp.skip_trigrams import (
    FALSE_TRIGRAMS,
    TRUE_TRIGRAMS,
    WORDS,
    market_sentences,
    read_tables,
    untrained_market_model,
)

market, read_trigrams = load_native("tiny-market"), lesson.use("skip_trigrams")


def trigrams_of(model, n):
    head = model.blocks[0].attn
    factors = (head.W_Q[0], head.W_K[0]), (head.W_V[0], head.W_O[0])
    with torch.no_grad():
        return [
            tuple(WORDS[i] for i in row)
            for row in read_trigrams(model.W_E, *factors, model.W_U, n)
        ]


sentences = market_sentences(500, 3, seed=0)
with torch.no_grad():
    said = market(sentences)
tables = read_tables(market)
right = (said[:, -2].argmax(-1) == sentences[:, -1]).float().mean()
same = torch.allclose(tables.logits(sentences), said, atol=1e-3)
print(f"right: {right:.0%}; the tables alone give its logits, to 1e-3: {same}")
for source, destination, prediction in trigrams_of(market, 8):
    rule = "a rule" if (source, destination, prediction) in TRUE_TRIGRAMS else "NOT a rule"
    print(f"{source} … {destination} → {prediction}: {rule}")

# %% [markdown] id="use-market-cut-intro"
# Half of the head's list is wrong, and the model is right every time. What a source predicts does not depend on the destination: a head that has learned *baker → bread* and *baker → flour* says both after either verb (Elhage et al. 2021 call these skip-trigram "bugs"). So who tells ` sells` from ` buys`? If you have read the weights rightly, it can only be the direct table. **Predict**
# what happens when its rows for the two verbs are replaced by their mean.

# %% id="use-market-cut"
from dataclasses import replace

verbs = [WORDS.index("sells"), WORDS.index("buys")]
blurred = tables.direct.clone()
blurred[verbs] = tables.direct[verbs].mean(0)
cut = replace(tables, direct=blurred).logits(sentences)[:, -2]
goods = {
    (source, destination): prediction for source, destination, prediction in FALSE_TRIGRAMS
}
bug = torch.tensor([WORDS.index(goods[WORDS[row[1]], WORDS[row[-2]]]) for row in sentences])
chances = {"whole": said[:, -2].softmax(-1), "verbs blurred": cut.softmax(-1)}
for name, p in chances.items():
    sold, other = (p.gather(1, ids[:, None]).mean() for ids in (sentences[:, -1], bug))
    print(f"{name:<13} the right good {sold:.2f}, the same trader's other good {other:.2f}")
control = sum(
    row in TRUE_TRIGRAMS + FALSE_TRIGRAMS for row in trigrams_of(untrained_market_model(), 8)
)
print(f"control: of an untrained model's first 8 skip-trigrams {control} are a trader's")

# %% id="claims-market-seen" tags=["claims"]
eight = trigrams_of(market, 8)
scores_m = tables.scores[0] - tables.scores[0].mean(1, keepdim=True)
writes_m = tables.writes[0] - tables.writes[0].mean(1, keepdim=True)
effects_m = scores_m.T[:, :, None] * writes_m[:, None]
both = {}
for source, destination, prediction in TRUE_TRIGRAMS + FALSE_TRIGRAMS:
    both.setdefault((source, destination), set()).add(prediction)
exact = sum(
    {WORDS[i] for i in effects_m[WORDS.index(s), WORDS.index(d)].topk(2).indices} == goods_of
    for (s, d), goods_of in both.items()
)
kept_right, kept_bug = (
    chances["verbs blurred"].gather(1, ids[:, None]).mean() for ids in (sentences[:, -1], bug)
)
lesson.seen("eight-true", sum(row in TRUE_TRIGRAMS for row in eight))
lesson.seen("eight-false", sum(row in FALSE_TRIGRAMS for row in eight))
lesson.seen("exact", exact)
lesson.seen("blurred-right", kept_right, ".2f")
lesson.seen("blurred-bug", kept_bug, ".2f")
claim(
    "the tables give the model's logits to 1e-3",
    (tables.logits(sentences) - said).abs().max() < 1e-3,
)
claim("the model is right on all 500 sentences", right == 1)
claim(
    "of the first eight half are rules and half the same with the other verb",
    sum(r in TRUE_TRIGRAMS for r in eight) == 4 == sum(r in FALSE_TRIGRAMS for r in eight),
)
claim(
    "for each of ten pairs of trader and verb the head's two strongest predictions are the trader's two goods",
    exact == 10,
)
claim(
    "with the verbs blurred both goods get 0.35 to 0.65",
    0.35 < kept_right < 0.65 and 0.35 < kept_bug < 0.65,
)
claim("an untrained model's first eight hold at most one of a trader's goods", control <= 1)

# %% [markdown] id="market-seen"
# <details><summary>What you should see</summary>
#
# The tables are all: they give the model's logits to rounding. Of the head's first eight skip-trigrams {{seen:eight-true}} are rules and {{seen:eight-false}} are the same with the wrong verb; and in every one of the {{seen:exact}} pairs of trader and verb, its two strongest predictions are that trader's two goods. So the head says *what this trader deals in*, and the direct table says *what is
# sold, what is bought*. Together they are right; blur the second, and the right good gets {{seen:blurred-right}}, the wrong one {{seen:blurred-bug}}, as the weights foretold.
#
# Nothing in a skip-trigram list is wrong. But a list is one of three tables, and to say what a model does with it takes the others.
# </details>

# %% [markdown] id="part-6"
# ## 6. A map
#
# You have used a dozen of the model's hooks. Here are all that a layer has, from top to bottom in the order in which they are computed. The blue line is the residual stream. **Predict**, before you run the cell: how many of them are the stream itself, how many read it, how many write to it?

# %% id="map" tags=["not-compared"]
from mi_course.interp.hook_map import map_rows, names_table

title = "One layer of SmolLM2, in the order of computation"
caption = "b: batch, p: position, q and k: a query's and a key's. Within layer l, names begin with blocks.l."
show.layer_map(map_rows(), title=title, caption=caption)

# %% [markdown] id="map-names"
# Other libraries have the same activations under other names. TransformerLens 2, 3 and 4 share those of the map; `docs/hooks.md` in the course's repository also has the bridge's own, and how to ask for each.
# In Hugging Face's model the modules below are those of `model.model.layers[l]`, and you hook their input or output. nnsight has the same inside `with model.trace(text):`, there as `model.model.layers[l].self_attn.q_proj.output`, say.

# %% id="map-table" tags=["not-compared"]
show.table(names_table(), ["Hugging Face", "nnsight"], left=True)

# %% id="claims-map-seen" tags=["claims"]
kinds = [
    row["stream"] for row in map_rows() if row["part"] != "end" and row["name"] != "hook_embed"
]
lesson.seen("map-is", kinds.count("is"))
lesson.seen("map-reads", kinds.count("reads"))
lesson.seen("map-adds", kinds.count("adds"))
claim(
    "a layer reads the stream twice and adds to it twice",
    kinds.count("reads") == kinds.count("adds") == 2,
)

# %% [markdown] id="map-seen"
# Within a layer {{seen:map-is}} hooks are the stream itself, at its beginning, middle and end. It is read {{seen:map-reads}} times, both times through a norm, and added to {{seen:map-adds}} times. Everything else happens beside it.

# %% id="claims-recap" tags=["claims"]
claim(
    "the tuned lens beats its control where the logit lens loses against it, at stream 15",
    bool(adapted[5] < mixed[5] < raw[5]),
)
claim(
    "from a text's view and from the weights' the five best copiers differ",
    not set(by_name[:5]) & {divmod(int(i), 9) for i in copying.flatten().topk(5).indices},
)

# %% [markdown] id="recap"
# ## What you have done
#
# You computed attention by hand and found the model's own numbers; you saw that its resting place is whoever stands first. You took a prediction apart into everything that was added up, and put it together again. You read every layer with the logit lens, found it worse than guessing for most of the model, and learned why by fitting a lens that is not. You asked who
# named the capital, and checked the answer by taking parts away: large parts agree, and the rest need not. You scored all heads by their weights, and saw that a score answers the question it was made for and no other. And you read one model's weights to the end.
#
# Four of these methods said something untrue on the way, and each time a control or a second measure showed it. That is the habit to keep.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*. Read "Transformer Overview" and "One-Layer Attention-Only Transformers": you have done most of it.
