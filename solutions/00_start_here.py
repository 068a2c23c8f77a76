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
# In ten minutes you will run a real language model on this machine, read what it expects next, look inside one of its activations, switch one of its
# 270 attention heads off, and see your first induction head. Every answer you write is checked, and a wrong one is told what is wrong with it.
#
# About {{minutes}} minutes · {{points}} points · needs Python and no machine learning.

# %% [markdown] id="how-it-works"
# **How this works.** Run the cells from top to bottom with <kbd>Shift</kbd> + <kbd>Enter</kbd>. In an answer cell, replace the line
# `raise NotImplementedError("your turn")`. The last line of the cell checks your answer. Stuck? `lesson.hint("name")`.
#
# The first time, the next cell downloads the model (93 MB) and converts it, once. After that nothing leaves this machine.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("start_here"), mi_course.load_model()

# %% [markdown] id="the-model"
# The model is SmolLM2-135M-Instruct: 30 layers of 9 attention heads each, 135 million numbers, trained on two trillion tokens. It is small, and it is real.
#
# ## It continues a text
#
# Before you run the next cell: what would you say comes next?

# %% id="continue-a-text"
prompt = "The capital of France is"
print(model.generate(prompt, max_new_tokens=8, do_sample=False, verbose=False))

# %% [markdown] id="tokens-and-logits"
# Where does " Paris" come from? The model does not see letters. It sees **tokens**, and for each token it returns one row of **logits**: a number for
# every token of its vocabulary, large where it expects that token next.

# %% id="look-at-logits"
tokens = model.to_tokens(prompt)
with torch.no_grad():
    logits = model(tokens)[0]
print("tokens:", model.to_str_tokens(prompt))
print("logits:", tuple(logits.shape), "= (positions, vocabulary)")

# %% [markdown] id="bos"
# The first token, `<|im_start|>`, marks the beginning. It is put in front by the tokenizer and is called **BOS**, beginning of sequence.

# %% [markdown] id="ask-top-next-tokens"
# ### Your turn: what does it expect next?
#
# {{exercise top_next_tokens}}
#
# Return the `k` likeliest next tokens after the **last** position as (token id, probability), likeliest first.

# %% id="answer-top_next_tokens"
from jaxtyping import Float
from torch import Tensor


def top_next_tokens(logits: Float[Tensor, "pos vocab"], k: int) -> list[tuple[int, float]]:
    """The k likeliest next tokens after the last position.

    logits: for each position a score for every token of the vocabulary.
    Returns (token id, probability) pairs, likeliest first. Probabilities are over the whole vocabulary.
    """
    # BEGIN SOLUTION
    probabilities = logits[-1].softmax(dim=-1)
    top = probabilities.topk(k)
    return [(int(token), float(p)) for token, p in zip(top.indices, top.values, strict=True)]
    # END SOLUTION


lesson.check(top_next_tokens)

# %% id="use-top-next-tokens"
best = lesson.use("top_next_tokens")(logits, 8)
for token, probability in best:
    print(f"{model.tokenizer.decode(token)!r:>12}  {probability:.2f}")

# %% [markdown] id="after-top-next-tokens"
# It is not certain, and it is not guessing: most of the 49,152 tokens get next to nothing. Change `prompt` above and run again. What does it expect after
# `"Once upon a"`? After `"My name is"`?
#
# ## Look inside
#
# Between input and output there are 30 layers. Each reads a list of numbers at every position, the **residual stream**, and adds to it. TransformerLens
# keeps everything that was computed on the way in a cache. Here is how large the residual stream is at each token, half-way through.

# %% id="look-inside"
story = "Mary and John went to the lake. Mary dived in, and John"
with torch.no_grad():
    _, cache = model.run_with_cache(story)
resid = cache["resid_post", 14][0]
print("residual stream after layer 14:", tuple(resid.shape), "= (positions, d_model)")
norms = resid.norm(dim=-1)
print(
    f"at BOS: {norms[0]:,.0f}, elsewhere between {norms[1:].min():.0f} and {norms[1:].max():.0f}"
)

# %% [markdown] id="bos-surprise"
# A surprise: at BOS it is about a hundred times as long as anywhere else. Heads that have nothing to do attend there, and the model keeps a
# marker in that place. People call it an attention sink. It is left out of the next picture, and out of every average in this course.

# %% id="norms-picture" tags=["not-compared"]
show.tokens(
    model.to_str_tokens(story)[1:],
    norms[1:],
    title="How long is the residual stream at each token?",
    unit="norm after layer 14",
    caption="BOS is left out: it is longer than all others together.",
)

# %% [markdown] id="attention-intro"
# ## One head at a time
#
# Attention heads are what moves information between positions. Each head at each position spreads its attention over the positions before it. Here are three
# of the nine heads of layer 23. Hover over a token to see where it looks.

# %% id="attention-picture" tags=["not-compared"]
story_tokens = model.to_str_tokens(story)
heads = [0, 3, 6]
show.attention(
    cache["pattern", 23][0, heads],
    story_tokens,
    heads=[f"23.{h}" for h in heads],
    title="Three heads of layer 23 look at different things",
    caption="Head h of layer l is written l.h. Rows are the looking tokens (queries), columns the tokens looked at (keys).",
)

# %% [markdown] id="ask-zero-head"
# ### Your turn: switch one head off
#
# To learn what a part does, take it away and see what breaks. A **hook** is a function that TransformerLens calls with an activation while the model runs.
# What the hook returns takes the activation's place. `z` is what the heads of a layer have gathered, before it is written into the residual stream.
#
# {{exercise zero_head}}
#
# Return `z` with head `head` set to zero, at every position, and the other heads as they were.


# %% id="answer-zero_head"
def zero_head(
    z: Float[Tensor, "batch pos head d_head"], hook, head: int
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook for `hook_z` that silences one head.

    z: what each head gathered at each position. hook: where we are (`hook.layer()` is the layer's number).
    Returns z with that head zero everywhere.
    """
    # BEGIN SOLUTION
    z[:, :, head] = 0.0
    return z
    # END SOLUTION


lesson.check(zero_head)

# %% [markdown] id="use-zero-head-intro"
# Does it matter? Here is a sentence with an obvious ending. The model should prefer " Mary", who has not been named twice, to " John". We measure the
# **logit difference**, how much higher the logit of " Mary" is than that of " John", and switch the nine heads of layer 23 off, one after the other. Eight of them are
# the control for the ninth.
#
# Predict first: will any single one of 270 heads make a difference?

# %% id="use-zero-head"
from functools import partial

sentence = "When Mary and John went to the store, John gave a drink to"
mary, john = model.to_single_token(" Mary"), model.to_single_token(" John")
silence = lesson.use("zero_head")


def logit_difference(hooks=()):
    with torch.no_grad():
        last = model.run_with_hooks(sentence, fwd_hooks=list(hooks))[0, -1]
    return float(last[mary] - last[john])


whole = logit_difference()
without = [
    logit_difference([("blocks.23.attn.hook_z", partial(silence, head=h))]) for h in range(9)
]
print(f"whole model: {whole:.1f} logits in favour of Mary")
for h, value in enumerate(without):
    print(f"without 23.{h}: {value:.1f}")

# %% id="zero-head-picture" tags=["not-compared"]
show.bars(
    [f"23.{h}" for h in range(9)],
    [value - whole for value in without],
    title="Without 23.3 the model loses two logits; no other head here costs more than 0.6",
    xlabel="head that is switched off",
    ylabel="change of the logit difference (logits)",
    caption="Below zero: without this head the model is less sure of Mary.",
)

# %% [markdown] id="zero-head-reflect"
# <details><summary>What you should see</summary>
#
# With everything in place the model favours Mary by about five logits: odds of some two hundred to one. Without 23.3 more than two logits of that are gone; without any other head of the
# layer it moves by 0.6 at most, and sometimes up.
# One sentence proves little: the two names, their order, or the shop might be what matters. Lesson 03 does it properly.
# </details>
#
# *Reflect.* Which result would have told you that single heads do not matter for this sentence?

# %% [markdown] id="first-induction-head"
# ## Your first induction head
#
# One last picture. We take random tokens, repeat them, and look at head 18.6. Hover over a token in the second half: where does it look?

# %% id="induction-picture" tags=["not-compared"]
generator = torch.Generator().manual_seed(3)
half = torch.randint(1000, 40_000, (1, 12), generator=generator)
repeated = torch.cat([torch.tensor([[model.tokenizer.bos_token_id]]), half, half], dim=1)
with torch.no_grad():
    _, cache = model.run_with_cache(repeated)
show.attention(
    cache["pattern", 18][0, [6]],
    [model.tokenizer.decode(t) for t in repeated[0]],
    heads=["18.6"],
    title="In the second copy, 18.6 looks at the token that came next the first time",
    caption="A sequence of 12 random tokens, twice. The stripe off the diagonal is the head at work.",
)

# %% [markdown] id="recap"
# In the second copy each token looks one past its own first occurrence: at what came *next* last time. Nobody programmed that. Lesson 02 finds all the heads that do it, takes
# the mechanism apart, and grows one from nothing.
#
# **You have** loaded a language model, read its predictions, looked at its residual stream and its attention, and changed what it does by silencing a head.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*: the residual stream as a place that every layer reads from and adds to.
