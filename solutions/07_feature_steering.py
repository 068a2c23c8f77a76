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
# You will find a feature in a sparse autoencoder of a real language model, name it, test the name, and turn it up.
#
# About {{minutes}} minutes · {{points}} points.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("feature_steering"), mi_course.load_model(compatibility=False)

# %% [markdown] id="ask-splice"
# ### The autoencoder in the model
#
# {{exercise splice}}
#
# At every position from 1 on, the result is the reconstruction $\hat{x}' = $ `sae.decode(edit(f))` with `f = sae.encode(x)`; without an edit (`None`) it is $\hat{x} = $ `sae.decode(f)`. With `keep_error`, what the autoencoder does not reconstruct, $x - \hat{x}$, is added to it. So without an edit and with the error nothing changes (but for rounding). `edit` takes latents of any leading shape, with the
# latents in the last axis, returns new ones, and leaves its argument alone. Position 0 passes unchanged: it is the attention sink, with a norm that the autoencoder was never trained on. `sae` has `encode`, `decode`, `W_enc`, `b_enc`, `W_dec` and `b_dec`, and is not changed. Change `resid` in place and return it or nothing, or return a new tensor; all of these are right.

# %% id="answer-splice"
from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor


def splice(
    resid: Float[Tensor, "batch pos d"],
    hook: Any,
    sae: Any,
    edit: Callable[[Tensor], Tensor] | None,
    keep_error: bool,
) -> Float[Tensor, "batch pos d"]:
    """A hook: the autoencoder's reconstruction from edited latents, at every position but the first.

    edit: a function of the latents [..., F] that returns new ones; None leaves them as they are.
    keep_error: whether what the autoencoder does not reconstruct is added back.
    """
    # BEGIN SOLUTION
    out = resid.clone()
    f = sae.encode(resid)
    new = sae.decode(f if edit is None else edit(f))
    if keep_error:
        new = new + (resid - sae.decode(f))
    out[:, 1:] = new[:, 1:]
    return out
    # END SOLUTION


lesson.check(splice)

# %% [markdown] id="ask-clamp_feature"
# ### One latent, turned up
#
# {{exercise clamp_feature}}
#
# At every position from 1 on, the result is $x + (v - f_i)\, W_{dec}[i]$: $v$ is `value`, $i$ is `index`, and $f_i$ is what latent $i$ is at that position, by `sae.encode`. Value and decoder are in the autoencoder's stored units: nothing is scaled to length 1. Any value may come, below zero too; clamping a latent to what it is already changes nothing. The error of the reconstruction and all other latents stay as they are.
# Position 0, the attention sink, passes unchanged. In place or not is up to you.


# %% id="answer-clamp_feature"
def clamp_feature(
    resid: Float[Tensor, "batch pos d"], hook: Any, sae: Any, index: int, value: float
) -> Float[Tensor, "batch pos d"]:
    """A hook: the activations with latent `index` set to `value`, in the SAE's stored units, but for position 0.

    sae: has `encode` (latents in the last axis) and `W_dec` [F d].
    """
    # BEGIN SOLUTION
    out = resid.clone()
    missing = value - sae.encode(resid[:, 1:])[..., index]
    out[:, 1:] += missing[..., None] * sae.W_dec[index]
    return out
    # END SOLUTION


lesson.check(clamp_feature)

# %% [markdown] id="use-concept-intro"
# Now it is your turn, with another concept. This one was chosen by a rule that reads no held-out prompt and no held-out word (`mi_course.interp.sae.clamp_choice`): of eight candidates, but for the one that you have just seen, it is the one that the texts of the rule's latent mention most, on the training prompts.

# %% id="use-concept"
from mi_course.interp.sae import clamp_choice, clamp_texts

to_write_about = clamp_choice.steered().concept
print("Write about:", to_write_about)
print("words to search with:", *clamp_texts.CONCEPTS[to_write_about].words)
print(*clamp_texts.CONCEPTS[to_write_about].sentences[:2], sep="\n")

# %% [markdown] id="ask-my_clamp"
# ### Your clamp
#
# {{exercise my_clamp}}
#
# `index` is from 0 to 4,607, and `value` is in the autoencoder's stored units; the latent is set to it at every position but the first, with the error kept, as `clamp_feature` does. Search with the concept's `sentences` and `words` and with `clamp_texts.PROMPTS`. You are judged on ten other prompts, `clamp_texts.HELD_OUT_PROMPTS`, and on the concept's twelve `held_out` words, of which none stands in the sentences. The latent passes if
#
# 1. the log-odds that the next word after a prompt is one of the held-out words rise, on average over the prompts, by at least 1 nat more than 95 % of 60 random latents reach. These are about as often active (within a factor of four), and each is clamped so that it adds a vector of the same norm;
# 2. of 20 continuations (24 tokens, two for each prompt, temperature 0.8), the share with at least one of the held-out words is at least 0.2 above that of unsteered continuations;
# 3. the text holds together: under the unsteered model its loss is less than 1.5 nats per token above that of unsteered continuations, and the mean share of different pairs among its neighboring words is less than 0.15 below theirs (a loop of one word is predictable, and no text).
#
# Judging takes less than a minute.

# %% id="answer-my_clamp"
# my_clamp = (index, value)
# BEGIN SOLUTION
from mi_course.interp.sae import clamp_choice, clamp_study, clamp_texts, load_shipped

steered = clamp_choice.steered().concept
about = clamp_texts.CONCEPTS[steered]
elsewhere = [
    sentence
    for name, other in clamp_texts.CONCEPTS.items()
    if name != steered
    for sentence in other.sentences
]
study = clamp_study.ClampStudy.of(model, load_shipped("middle-4608"))
candidates = clamp_study.latents_for(study, about.sentences, elsewhere)
norm = clamp_choice.SEARCH_NORM
index, _ = clamp_study.choose_latent(study, candidates, clamp_texts.PROMPTS, about.words, norm)
my_clamp = (index, norm / float(study.sae.W_dec[index].detach().norm()))
# END SOLUTION

lesson.check(my_clamp, name="my_clamp")
