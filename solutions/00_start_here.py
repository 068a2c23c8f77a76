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
# Where does " Paris" come from? The model does not see letters. It sees **tokens**, and after each token it gives every token of its vocabulary a score, its **logit**: the larger, the more it is expected
# next. The **softmax** makes probabilities of the logits: raise e to each, and divide by the sum of all, so that one logit more means e = 2.7 times the probability.
#
# The next picture does it for three tokens. **Predict:** the logits 3 and 1 lie two apart. How many times as likely is the first?

# %% id="softmax-picture" tags=["not-compared"]
from mi_course.interp import basics, induction
from mi_course.interp import induction_study as study

basics.draw_softmax({" Paris": 3.0, " Lyon": 1.0, " banana": -2.0})

# %% [markdown] id="softmax-answer"
# Two logits apart is $e^2 = 7.4$ times as likely, whatever the other tokens are. Only differences of logits matter: add 100 to all three and the picture stays the same. Now the real ones.

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
# Return a list of `k` pairs (token id, probability). The probabilities are over the whole vocabulary, so the `k` of them need not sum to 1. There may be a single position; `k` may be as large as the vocabulary; logits may be so large that their
# exponentials overflow (PyTorch's `softmax` copes). Equal logits come in any order. `logits` stays as it is.

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
for token, probability in lesson.use("top_next_tokens")(logits, 8):
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
norms = resid.norm(dim=-1)
print("residual stream after layer 14:", tuple(resid.shape), "= (positions, d_model)")
print(f"at BOS {norms[0]:,.0f}, elsewhere {norms[1:].min():.0f} to {norms[1:].max():.0f}")

# %% id="claims-bos-surprise" tags=["claims"]
from mi_course import claim

_patterns = torch.stack([cache["pattern", layer][0] for layer in range(30)])
_sink = _patterns[:, :, 1:, 0].mean()
lesson.seen("sink", _sink, ".0%")
claim("BOS gets more than 40 % of all attention from the tokens after it", _sink > 0.4)
lesson.seen("bos-ratio", round(float(norms[0] / norms[1:].median()), -1), ".0f")
claim(
    "at BOS the stream is more than 50 times as long as at any other of 15 tokens",
    norms[0] > 50 * norms[1:].max(),
)

# %% [markdown] id="bos-surprise"
# A surprise: at BOS it is {{seen:bos-ratio}} times as long as at a typical token. And the tokens after it
# spend {{seen:sink}} of all their attention there: heads that find nothing to attend to rest at BOS. People call it an attention sink. It is left out of the next picture; where a lesson leaves it out of an average, it says so.

# %% id="norms-picture" tags=["not-compared"]
title = "How long is the residual stream at each token? (without BOS)"
show.tokens(model.to_str_tokens(story)[1:], norms[1:], title=title, unit="norm after layer 14")

# %% [markdown] id="attention-intro"
# ## One head at a time
#
# Attention heads are what moves information between positions. Each head at each position spreads its attention over the positions before it. Here are three
# of the nine heads of layer 23. Hover over a token to see what it attends to. How do the three differ?

# %% id="attention-picture" tags=["not-compared"]
three, caption = [(23, 0), (23, 3), (23, 6)], "Head h of layer l is written l.h."
study.draw_attention(model, model.to_tokens(story), three, "Three heads of layer 23", caption)

# %% [markdown] id="ask-zero-head"
# ### Your turn: switch one head off
#
# To learn what a part does, take it away and see what breaks. A **hook** is a function that TransformerLens calls with an activation while the model runs.
# What the hook returns takes the activation's place. `z` is what the heads of a layer have gathered, before it is written into the residual stream.
#
# {{exercise zero_head}}
#
# Every position and every row of the batch; the other heads stay as they were. Change `z` in place or return a new tensor, as you like, but do return it.


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
# **logit difference**, how much higher the logit of " Mary" is than that of " John", and switch the nine heads of layer 23 off, one after the other. Each is a control for the others.
#
# Predict first: will a single one of 270 heads make a difference?

# %% id="use-zero-head"
from functools import partial

sentence, names = (
    "When Mary and John went to the store, John gave a drink to",
    (" Mary", " John"),
)
silence, whole = lesson.use("zero_head"), basics.logit_difference(model, sentence, *names)
print(f"whole model: {whole:.1f} logits in favor of Mary")
change = {}
for h in range(9):
    hook = ("blocks.23.attn.hook_z", partial(silence, head=h))
    change[f"23.{h}"] = basics.logit_difference(model, sentence, *names, hooks=[hook]) - whole
show.table(change, ["change without it (logits)"], digits=1, sign=True)

# %% id="zero-head-picture" tags=["not-compared"]
worst, title = min(change, key=change.get), "How much of it is lost without one head"
axes = {"xlabel": "head that is switched off", "ylabel": "change of the logit difference"}
show.bars(list(change), list(change.values()), title=title, **axes)

# %% id="claims-zero-head-seen" tags=["claims"]
others = [value for head, value in change.items() if head != worst]
lesson.seen("whole", whole, ".1f")
lesson.seen("odds", round(2.718281828**whole, -1), ".0f")
lesson.seen("worst", worst)
lesson.seen("worst-change", -change[worst], ".1f")
lesson.seen("other-change", max(map(abs, others)), ".1f")
claim("the model favors Mary by more than 4 logits", whole > 4)
claim("one head costs more than 1.5 logits", change[worst] < -1.5)
claim("no other head of the layer moves it by 1 logit", max(map(abs, others)) < 1)
claim("without some head the model is surer, by 0.2 logits", max(others) > 0.2)

# %% [markdown] id="zero-head-seen"
# <details><summary>What you should see</summary>
#
# With everything in place the model favors Mary by {{seen:whole}} logits: odds of about {{seen:odds}} to one. Without {{seen:worst}} it loses {{seen:worst-change}} of them; no other head of the layer moves it by more than {{seen:other-change}}, and without some of them it is even surer.
# One sentence proves little: the two names, their order, or the shop might be what matters. Lesson 03 does it properly.
# </details>

# %% [markdown] id="zero-head-reflect"
# *Reflect.* Which result would have told you that single heads do not matter for this sentence?

# %% [markdown] id="first-induction-head"
# ## Your first induction head
#
# One last picture. We take random tokens, repeat them, and look at head 18.6. Hover over a token in the second half: what does it attend to?

# %% id="induction-picture" tags=["not-compared"]
repeated = induction.repeated_tokens(1, 12, 1000, 40_000, model.tokenizer.bos_token_id, seed=3)
caption = "The stripe off the diagonal is the head at work."
study.draw_attention(model, repeated, [(18, 6)], "12 random tokens, written twice", caption)

# %% id="claims-recap" tags=["claims"]
with torch.no_grad():
    _, on_repeated = model.run_with_cache(repeated, names_filter="blocks.18.attn.hook_pattern")
# Without the first token of the second copy.
stripe = on_repeated["pattern", 18][0, 6].diagonal(-11)[-11:]
lesson.seen("stripe", stripe.mean(), ".0%")
claim(
    "each token of the second copy but the first gives what followed more than half its attention",
    stripe.min() > 0.5,
)
_many = induction.repeated_tokens(20, 12, 1000, 40_000, model.tokenizer.bos_token_id, seed=4)
with torch.no_grad():
    _, _on_many = model.run_with_cache(_many, names_filter="blocks.18.attn.hook_pattern")
_stripes = _on_many["pattern", 18][:, 6].diagonal(-11, -2, -1)[:, -11:]
lesson.seen("stripe-others", _stripes.mean(), ".0%")
claim(
    "on 20 other rows it is more than half of the attention on average", _stripes.mean() > 0.5
)
claim("there some tokens give it less than a tenth", _stripes.min() < 0.1)

# %% [markdown] id="recap"
# In the second copy each token but the first attends to one place past its own first occurrence: to what came *next* last time, with {{seen:stripe}} of its attention on average. (Other random tokens look less tidy: over more rows it is {{seen:stripe-others}}, and some tokens miss altogether.) Nobody programmed that. Lesson 02 finds all the heads that do it, takes
# the mechanism apart, and grows one from nothing.
#
# **You have** loaded a language model, read its predictions, looked at its residual stream and its attention, and changed what it does by switching off a head.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*: the residual stream as a place that every layer reads from and adds to.
