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

lesson, model = mi_course.lesson("residual_stream"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. Attention by hand

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

# %% [markdown] id="part-2"
# ## 2. The residual stream is a sum

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

# %% [markdown] id="part-3"
# ## 3. The logit lens and the tuned lens

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

# %% [markdown] id="part-4"
# ## 4. Direct logit attribution

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

# %% [markdown] id="ask-my_agreement_heads"
# ### Your heads
#
# {{exercise my_agreement_heads}}
#
# The sentences are 96, with nouns and templates that this lesson does not use: distractors in prepositional phrases and in relative clauses whose subject is the noun itself ("that liked the guards"), each pair of nouns in all four combinations of number. Right minus wrong is averaged over all of them. A head's mean
# is over the sentences of a template, at each position, as in `ablated_difference`. A random set has as many heads of each layer as yours, and none of yours; what it takes is the sum of what each of its heads takes alone, so that the check does not run 200 sets. A pair that is there twice counts once.

# %% id="answer-my_agreement_heads"
# BEGIN SOLUTION
from mi_course.interp.agreement import TEMPLATES, agreement_prompts
from mi_course.interp.attribution import attributions, prompt_set

attribute, added = lesson.use("logit_attribution"), torch.zeros(30 * 9)
for template in TEMPLATES:
    prompts = prompt_set(model, *agreement_prompts(template))
    added += attributions(model, prompts, attribute)[: 30 * 9].mean(dim=1)
my_agreement_heads = [divmod(i, 9) for i in added.topk(4).indices.tolist()]
# END SOLUTION

lesson.check(my_agreement_heads, name="my_agreement_heads")

# %% [markdown] id="part-5"
# ## 5. Circuits in the weights

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

# %% [markdown] id="part-6"
# ## 6. A map

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
