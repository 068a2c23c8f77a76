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
# You will take a sentence that a language model gets right, find out which of its heads decide the answer and what each of them does, and test the circuit that you found against chance.
#
# About {{minutes}} minutes · {{points}} points · after lesson 02. The model is SmolLM2-135M-Instruct with its norms folded into the weights (compatibility mode), because direct attribution reads its matrices. Nobody has
# published the circuit that you are going to find. Sources: Wang et al. 2022, *Interpretability in the Wild*; Heimersheim and Nanda 2024, *How to Use and Interpret Activation Patching*; Zhang and Nanda 2023; Syed et al. 2023; Kramár
# et al. 2024; Conmy et al. 2023.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("activation_patching"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. Right, for reasons you cannot see
#
# *When Mary and John went to the store, John gave a drink to* … whom? You know at once. **Predict:** does a model with 135 million parameters? And if you exchange one single word, the second *John* for *Mary*?

# %% id="surprise"
TEMPLATE = "When {A} and {B} went to the store, {S} gave a drink to"

for subject in ("John", "Mary"):
    prompt = TEMPLATE.format(A="Mary", B="John", S=subject)
    with torch.no_grad():
        top = model(model.to_tokens(prompt))[0, -1].softmax(-1).topk(3)
    said = ", ".join(
        f"{model.tokenizer.decode(t)!r} {p:.2f}"
        for t, p in zip(top.indices, top.values, strict=True)
    )
    print(f"... {subject} gave a drink to -> {said}")

# %% [markdown] id="surprise-seen"
# It follows the sentence, not a habit. To answer, it has to find the name that was said *once*. Wang et al. (2022) call this indirect object identification and took it apart in GPT-2. Here it happens in another model, with rotary positions and shared keys and values. Is it done
# in the same way?
#
# First a ruler. A probability is a poor one: it saturates near 1, and it depends on every other word. The **logit difference** between the two names is linear in what the heads write.

# %% [markdown] id="ask-logit_difference"
# {{exercise logit_difference}}
#
# Right minus wrong, one value per prompt. Prompts may differ in length: `last` says where each one ends.

# %% id="answer-logit_difference"
from jaxtyping import Float, Int
from torch import Tensor


def logit_difference(
    logits: Float[Tensor, "batch pos vocab"],
    answers: Int[Tensor, "batch 2"],
    last: Int[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """Logit of the right answer minus that of the wrong one, at each prompt's last position.

    answers: token ids, (right, wrong) for each prompt. last: the position at which each prompt ends.
    """
    # BEGIN SOLUTION
    rows = torch.arange(len(logits))
    at_end = logits[rows, last]
    return at_end[rows, answers[:, 0]] - at_end[rows, answers[:, 1]]
    # END SOLUTION


lesson.check(logit_difference)

# %% [markdown] id="part-2"
# ## 2. A pair of prompts
#
# An experiment changes one thing and keeps the rest. Here that is one word: the **clean** prompt says *John gave*, the **corrupted** one *Mary gave*. Same length, same names, same template; only the answer turns round. Whatever the model does alike in both, grammar, the store,
# the fact that names are due, drops out of the difference.
#
# A good counterfactual changes the answer, lines up token by token, and is as natural as the original. Replacing *John* by random noise would change the answer too, and a hundred other things.

# %% [markdown] id="ask-ioi_prompts"
# {{exercise ioi_prompts}}
#
# Each pair of names gives two prompts: as it is, and exchanged. Then a model that likes the name Mary gains nothing. Mind templates in which {B} stands before {A}.


# %% id="answer-ioi_prompts"
def ioi_prompts(
    pairs: list[tuple[str, str]], template: str
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Clean prompts, corrupted prompts, and (indirect object, subject) names of the clean ones, without a space.

    For each pair (a, b): A=a, B=b, S=b with names (a, b); then a and b exchanged. Pair by pair.
    template: has {A}, {B} and {S}. In the corrupted prompt {S} is the indirect object, A.
    """
    # BEGIN SOLUTION
    clean, corrupted, names = [], [], []
    for pair in pairs:
        for a, b in (pair, pair[::-1]):
            clean.append(template.format(A=a, B=b, S=b))
            corrupted.append(template.format(A=a, B=b, S=a))
            names.append((a, b))
    return clean, corrupted, names
    # END SOLUTION


lesson.check(ioi_prompts)

# %% id="use-prompts"
from mi_course.interp.patching import answer_tokens

PAIRS = [("Mary", "John"), ("Sarah", "James"), ("Anna", "Paul"), ("Alice", "Tom")]
OTHER_TEMPLATE = "After {B} and {A} had lunch at the station, {S} handed the keys to"

clean_texts, corrupted_texts, names = lesson.use("ioi_prompts")(PAIRS, TEMPLATE)
clean, corrupted = model.to_tokens(clean_texts), model.to_tokens(corrupted_texts)
answers = answer_tokens(
    model, names
)  # raises an error that names the prompt if a name is several tokens
last = torch.full((len(clean),), clean.shape[1] - 1)
words = [model.tokenizer.decode(t) for t in clean[0]]

difference_of = lesson.use("logit_difference")
with torch.no_grad():
    clean_logits, clean_cache = model.run_with_cache(clean)
    corrupted_logits, corrupted_cache = model.run_with_cache(corrupted)
clean_difference = difference_of(clean_logits, answers, last)
corrupted_difference = difference_of(corrupted_logits, answers, last)
print(
    f"clean     {clean_difference.mean():+.1f} logits, right in {int((clean_difference > 0).sum())} of {len(clean)}"
)
print(
    f"corrupted {corrupted_difference.mean():+.1f} logits, right in {int((corrupted_difference > 0).sum())} of {len(clean)}"
)
differ = (clean != corrupted).any(0).nonzero().flatten().tolist()
print(f"the prompts differ at position {differ} of {clean.shape[1]}, {words[differ[0]]!r}")

# %% [markdown] id="prompts-seen"
# <details><summary>What you should see</summary>
#
# About +5.5 and −5. Every corrupted prompt is "wrong" because `answers` are those of the clean prompt: the sign turns round, all by one token at position 10. Every effect below is a share of the ten logits between the two.
# </details>

# %% [markdown] id="part-3"
# ## 3. Who writes the answer?
#
# The residual stream at the last position is a sum: embedding, every head's output, every MLP's. The final norm divides it by one number, the unembedding reads it. Freeze that number, and the logit difference splits exactly into contributions: **direct logit attribution**.
#
# **By hand, once.** A head writes (2, 1) into a stream of two dimensions. The columns of W_U are (1, 0) for *Mary* and (0, 3) for *John*, the scale is 2. What does it add to Mary minus John? Work it out before you go on: (2 · 1 − 1 · 3) / 2 = −0.5.

# %% [markdown] id="ask-direct_attribution"
# {{exercise direct_attribution}}
#
# `head_out` is what each head writes at the last position, z @ W_O. Divide it by the frozen scale.


# %% id="answer-direct_attribution"
def direct_attribution(
    head_out: Float[Tensor, "layer head batch d_model"],
    scale: Float[Tensor, "batch 1"],
    W_U: Float[Tensor, "d_model vocab"],
    answers: Int[Tensor, "batch 2"],
) -> Float[Tensor, "layer head"]:
    """Batch mean of what each head writes straight to the logit difference, in logits.

    head_out: each head's output at the last position. scale: what the final norm divides by, frozen; its weights are
    folded into W_U. answers: token ids, (right, wrong).
    """
    # BEGIN SOLUTION
    directions = W_U[:, answers[:, 0]] - W_U[:, answers[:, 1]]
    return torch.einsum("lhbd,db->lhb", head_out / scale, directions).mean(dim=-1)
    # END SOLUTION


lesson.check(direct_attribution)

# %% id="use-direct"
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads


def head_outputs(cache, position=-1):
    """What every head writes at one position, [layer, head, batch, d_model]."""
    out = [
        torch.einsum(
            "bhd,hdm->hbm", cache["z", layer][:, position], model.blocks[layer].attn.W_O
        )
        for layer in range(n_layers)
    ]
    return torch.stack(out)


with torch.no_grad():
    scale = clean_cache["ln_final.hook_scale"][:, -1]
    direct = lesson.use("direct_attribution")(
        head_outputs(clean_cache), scale, model.W_U, answers
    )

    # The control: do all parts together give the logit difference?
    directions = (model.W_U[:, answers[:, 0]] - model.W_U[:, answers[:, 1]]).T / scale
    mlps = torch.stack(
        [
            (clean_cache["mlp_out", la][:, -1] * directions).sum(-1).mean()
            for la in range(n_layers)
        ]
    )
    embedding = (clean_cache["resid_pre", 0][:, -1] * directions).sum(-1).mean()
print(f"heads {direct.sum():+.2f}, MLPs {mlps.sum():+.2f}, embedding {embedding:+.2f}")
print(
    f"sum {direct.sum() + mlps.sum() + embedding:.2f}, logit difference {clean_difference.mean():.2f}"
)
for head in direct.abs().flatten().argsort(descending=True)[:8].tolist():
    print(f"{head // n_heads}.{head % n_heads} {direct.flatten()[head]:+.2f}")

# %% id="direct-picture" tags=["not-compared"]
show.head_heatmap(
    direct,
    title="A few late heads write the answer, and some write against it",
    unit="direct effect (logits)",
    caption="Right minus wrong name, eight clean prompts. The MLPs and the embedding make up the rest.",
)

# %% [markdown] id="direct-seen"
# <details><summary>What you should see</summary>
#
# The parts sum to the logit difference, to the second digit: nothing was left out. 23.3 alone writes three of five and a half logits, then 29.1 and 23.0. 29.0 writes a whole logit *against* the right answer. Most of the 270 heads write nothing, and the MLPs add 1.5 of their own.
# </details>
#
# So these heads write the answer. But who told them? Direct attribution sees the last step only.

# %% [markdown] id="part-4"
# ## 4. Where is the information, and when does it move?
#
# Run the corrupted prompt, but at one layer and one position put in the residual stream of the clean run. If the answer turns round, what decides it was *there*. Meng et al. (2022) and Vig et al. (2020) introduced this as causal tracing or causal mediation; here it is **activation
# patching**.
#
# Results need a scale.

# %% [markdown] id="ask-recovery"
# {{exercise recovery}}
#
# 0 if the patch changes nothing, 1 if it brings back all of the clean run. A ratio of means over prompts.


# %% id="answer-recovery"
def recovery(
    patched: Float[Tensor, "batch"],
    clean: Float[Tensor, "batch"],
    corrupted: Float[Tensor, "batch"],
) -> float:
    """mean(patched - corrupted) / mean(clean - corrupted). ValueError when that denominator is 0."""
    # BEGIN SOLUTION
    whole = (clean - corrupted).mean().item()
    if whole == 0:
        raise ValueError(
            "clean and corrupted have the same mean: there is no effect to recover"
        )
    return (patched - corrupted).mean().item() / whole
    # END SOLUTION


lesson.check(recovery)

# %% [markdown] id="ask-patch_position"
# {{exercise patch_position}}
#
# `source` is the same activation in the clean run.


# %% id="answer-patch_position"
def patch_position(
    resid: Float[Tensor, "batch pos d_model"],
    hook,
    source: Float[Tensor, "batch pos d_model"],
    position: int,
) -> Float[Tensor, "batch pos d_model"]:
    """A hook: the residual stream with one position, in every prompt, taken from `source`."""
    # BEGIN SOLUTION
    resid[:, position] = source[:, position]
    return resid
    # END SOLUTION


lesson.check(patch_position)

# %% [markdown] id="ask-residual_sweep"
# {{exercise residual_sweep}}
#
# Return the raw metric values, [layer, position]. No hook may stay behind.

# %% id="answer-residual_sweep"
from functools import partial


def residual_sweep(
    model, corrupted_tokens: Int[Tensor, "batch pos"], clean_cache, metric
) -> Float[Tensor, "layer pos"]:
    """The metric after patching `blocks.{layer}.hook_resid_pre` at one position, for every layer and position.

    clean_cache: holds the clean run's activations by name. metric: maps logits to a float.
    """

    # BEGIN SOLUTION
    def patch(resid, hook, source, position):
        resid[:, position] = source[:, position]
        return resid

    result = torch.zeros(model.cfg.n_layers, corrupted_tokens.shape[1])
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.hook_resid_pre"
        for position in range(corrupted_tokens.shape[1]):
            hook = partial(patch, source=clean_cache[name], position=position)
            with torch.no_grad():
                logits = model.run_with_hooks(corrupted_tokens, fwd_hooks=[(name, hook)])
            result[layer, position] = metric(logits)
    return result
    # END SOLUTION


lesson.check(residual_sweep)

# %% [markdown] id="use-residual-intro"
# Your loop takes a forward pass for every cell: 450 of them here, two minutes. The engine in `mi_course.interp.patching` gives the same numbers in seconds, by computing only what a patch can change. Do not believe that: hold the two against each other, on the small model of lesson 02.

# %% id="use-residual-check"
from mi_course.interp.models import load_native
from mi_course.interp.patching import TokenMetric, sweep_residual

tiny = load_native("tiny-induction")
generator = torch.Generator().manual_seed(0)
one, other = (torch.randint(1, 64, (4, 7), generator=generator) for _ in range(2))
tiny_answers = torch.tensor([[5, 9]] * 4)
with torch.no_grad():
    _, tiny_cache = tiny.run_with_cache(one)
mine = lesson.use("residual_sweep")(
    tiny, other, tiny_cache, lambda logits: (logits[:, -1, 5] - logits[:, -1, 9]).mean().item()
)
fast = sweep_residual(
    tiny,
    one,
    other,
    TokenMetric(tiny_answers, lambda two: two[..., 0] - two[..., 1]),
    progress=False,
)
print(
    f"largest difference between your loop and the engine: {(mine - fast.per_prompt.mean(-1)).abs().max():.4f} logits"
)

# %% [markdown] id="predict-residual"
# Now SmolLM2. **Predict:** the prompts differ at position 10 only. In which layers will patching position 10 bring back the answer? At which positions will it never matter? In which layer will the last position take over?

# %% id="use-residual"
from mi_course.interp.patching import logit_difference as difference_metric

metric = difference_metric(answers)
residual = sweep_residual(model, clean_texts, corrupted_texts, metric, progress=False)
subject_at, end = differ[0], clean.shape[1] - 1
print(
    f"layer   at {words[subject_at]!r} (second subject)   at {words[end]!r} (end)   elsewhere, at most"
)
elsewhere = [p for p in range(end) if p != subject_at]
for layer in (0, 12, 18, 20, 22, 24, 26, 29):
    row = residual.values[layer]
    print(
        f"{layer:>5}   {row[subject_at]:z28.2f}   {row[end]:z12.2f}   {row[elsewhere].abs().max():18.2f}"
    )

# %% id="residual-picture" tags=["not-compared"]
residual.show(
    title="The answer sits at the second subject, and moves to the end between layers 19 and 25"
)

# %% [markdown] id="residual-seen"
# <details><summary>What you should see</summary>
#
# Up to layer 18 the second subject holds all of it (1.0) and no other position anything. By layer 22 it is shared, 0.57 to 0.40; by layer 26 the end holds 0.93. Positions before the second subject are exactly 0 in every layer: up to there the two prompts are the same, so
# there is nothing to patch. That is the control. No other position ever holds more than 0.07: the answer goes straight from the one place to the other.
#
# A 1.0 at layer 12 does not say that the answer has been *computed* by layer 12. At layer 0 it is 1.0 too, and there it is the word itself.
# </details>

# %% [markdown] id="part-5"
# ## 5. Which heads move it?
#
# Information moves between positions through attention only. So some heads in layers 17 to 25 must carry it. Patch them one at a time.

# %% [markdown] id="ask-patch_head"
# {{exercise patch_head}}


# %% id="answer-patch_head"
def patch_head(
    z: Float[Tensor, "batch pos head d_head"],
    hook,
    source: Float[Tensor, "batch pos head d_head"],
    head: int,
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook: z with one head, at every position, taken from `source`."""
    # BEGIN SOLUTION
    z[:, :, head] = source[:, :, head]
    return z
    # END SOLUTION


lesson.check(patch_head)

# %% [markdown] id="ask-head_sweep"
# {{exercise head_sweep}}


# %% id="answer-head_sweep"
def head_sweep(
    model, corrupted_tokens: Int[Tensor, "batch pos"], clean_cache, metric
) -> Float[Tensor, "layer head"]:
    """The metric after patching `blocks.{layer}.attn.hook_z` in one head, at all positions, for every head."""

    # BEGIN SOLUTION
    def patch(z, hook, source, head):
        z[:, :, head] = source[:, :, head]
        return z

    result = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_z"
        for head in range(model.cfg.n_heads):
            hook = partial(patch, source=clean_cache[name], head=head)
            with torch.no_grad():
                logits = model.run_with_hooks(corrupted_tokens, fwd_hooks=[(name, hook)])
            result[layer, head] = metric(logits)
    return result
    # END SOLUTION


lesson.check(head_sweep)

# %% id="use-heads"
from mi_course.interp.patching import sweep_heads

tiny_heads = lesson.use("head_sweep")(
    tiny, other, tiny_cache, lambda logits: (logits[:, -1, 5] - logits[:, -1, 9]).mean().item()
)
tiny_fast = sweep_heads(
    tiny,
    one,
    other,
    TokenMetric(tiny_answers, lambda two: two[..., 0] - two[..., 1]),
    progress=False,
)
print(
    f"tiny-induction: your loop and the engine differ by {(tiny_heads - tiny_fast.per_prompt.mean(-1)).abs().max():.4f} logits at most"
)

heads = sweep_heads(model, clean_texts, corrupted_texts, metric, progress=False)
low, high = heads.interval()
for (layer, head), value in heads.top(10):
    print(
        f"{layer}.{head} {value:+.2f}   (prompts resampled: {low[layer, head]:+.2f} to {high[layer, head]:+.2f})"
    )
lesson_recovery = lesson.use("recovery")
same = lesson_recovery(heads.per_prompt[23, 3], clean_difference, corrupted_difference)
print(f"your recovery for 23.3: {same:.2f}")

# %% id="heads-picture" tags=["not-compared"]
heads.show(title="A dozen heads of 270 matter; some bring the answer back, some push it away")

# %% [markdown] id="name-intro"
# ### Name them
#
# A number is not a role. For each head ask two things. Where does it *look*? And what does it *write*: does it raise the logit of the indirect object, or lower that of the subject? For the second we compare with names that do not occur in the prompt; otherwise a head that raises all names alike
# would seem to raise both.

# %% id="use-names"
every_name = answer_tokens(model, [(a, b) for a, b in PAIRS]).flatten()


def profile(tokens, cache, answers, layer, head):
    """Attention from the end to indirect object, first subject, second subject, BOS, the end itself; and writing on both names."""
    io_at, s1_at, s2_at = [], [], []
    for row, (right, wrong) in zip(tokens.tolist(), answers.tolist(), strict=True):
        io_at.append(row.index(right))
        s1_at.append(row.index(wrong))
        s2_at.append(row.index(wrong, row.index(wrong) + 1))
    rows, pattern = torch.arange(len(tokens)), cache["pattern", layer][:, head, -1]
    places = torch.tensor([io_at, s1_at, s2_at])
    looks = [pattern[rows, at].mean().item() for at in places] + [
        pattern[:, 0].mean().item(),
        pattern[:, -1].mean().item(),
    ]
    out = (
        cache["z", layer][:, -1, head]
        @ model.blocks[layer].attn.W_O[head]
        / cache["ln_final.hook_scale"][:, -1]
    )
    logits = out @ model.W_U[:, every_name]
    absent = (every_name[None] != answers[:, :1]) & (every_name[None] != answers[:, 1:])
    others = (logits * absent).sum(-1) / absent.sum(-1)
    on = [
        ((out * model.W_U[:, answers[:, i]].T).sum(-1) - others).mean().item() for i in (0, 1)
    ]
    return looks, on


print(
    "head   effect   looks from the end at: IO    S1    S2   BOS   end    writes on IO     S"
)
with torch.no_grad():
    for (layer, head), value in [*heads.top(9), ((23, 0), float(heads.values[23, 0]))]:
        looks, on = profile(clean, clean_cache, answers, layer, head)
        shown = " ".join(f"{x:5.2f}" for x in looks)
        print(
            f"{layer}.{head}   {value:+.2f}                          {shown}          {on[0]:+5.2f} {on[1]:+5.2f}"
        )

# %% [markdown] id="control-order"
# **Try to break it.** In this template the indirect object always comes first. A head that looks at the *first name* would show the same attention as one that looks at the indirect object. So take a template that names {B} before {A}.

# %% id="use-names-other"
other_texts, other_corrupted, other_names = lesson.use("ioi_prompts")(PAIRS, OTHER_TEMPLATE)
other_clean, other_answers = model.to_tokens(other_texts), answer_tokens(model, other_names)
print("head   looks from the end at: IO    S1    S2   BOS   end    writes on IO     S")
with torch.no_grad():
    _, other_cache = model.run_with_cache(other_clean)
    for layer, head in ((23, 3), (23, 0), (29, 1), (29, 0), (24, 4)):
        looks, on = profile(other_clean, other_cache, other_answers, layer, head)
        print(
            f"{layer}.{head}                         {' '.join(f'{x:5.2f}' for x in looks)}          {on[0]:+5.2f} {on[1]:+5.2f}"
        )

    # 17.4 and 20.0 act earlier: where do they look from the second subject?
    for layer, head in ((17, 4), (20, 0), (19, 2)):
        row = clean_cache["pattern", layer][:, head, subject_at].mean(0)
        best = row[1:].argsort(descending=True)[:3] + 1
        print(
            f"{layer}.{head} at the second subject looks at "
            + ", ".join(f"{words[i]!r} {row[i]:.2f}" for i in best.tolist())
        )

# %% id="attention-picture" tags=["not-compared"]
show.attention(
    torch.stack(
        [clean_cache["pattern", la][0, h] for la, h in ((23, 3), (23, 0), (17, 4), (29, 1))]
    ),
    words,
    heads=["23.3", "23.0", "17.4", "29.1"],
    title="23.3 looks at the subject, 23.0 at the indirect object",
    caption="The first clean prompt. Choose the last token: whom does each head look at?",
)

# %% [markdown] id="names-seen"
# <details><summary>What you should see</summary>
#
# - **23.3** looks at the second subject (0.6) and hardly at the indirect object (0.05). It writes the *subject down* (−2.8) rather than the indirect object up (+0.3). In the other template it does the same. GPT-2's largest heads are name movers; this one is a name remover.
# - **23.0** looks at the indirect object (0.6), also where that comes second, and raises it (+1.5, +1.2): a name mover of the classic kind.
# - **24.4** looks at the indirect object too, 0.9 of it in the other template, and writes it *down*: a negative head, as GPT-2 has them. **29.0** works against the answer as well.
# - **29.1** raises the indirect object, and looks mainly at the end itself. It does not fetch the name; it finds it in what earlier heads left there.
# - **20.0** and **19.2** look at the second subject (0.6, 0.5) and write nothing on either name. They do something else with what they find; section 7 asks what.
# - **17.4** does not act at the end at all: it rests on BOS. At the second subject it looks at *went*, the word after the *first* subject: an induction head, with a score to match in lesson 02.
#
# The order of names was worth a control: with one template you could not have told "looks at the indirect object" from "looks at the first name".
# </details>

# %% [markdown] id="part-6"
# ## 6. Two passes instead of hundreds
#
# A patch moves z from its corrupted to its clean value. For a small step the metric moves by the gradient times the step. Take the whole step at once, and you have an estimate of every patch from one backward pass: **attribution patching** (Nanda 2023; Syed et al. 2023).

# %% [markdown] id="ask-attribution_patching"
# {{exercise attribution_patching}}
#
# The metric is already a mean over the batch, so sum.


# %% id="answer-attribution_patching"
def attribution_patching(
    clean_z: Float[Tensor, "layer batch pos head d_head"],
    corrupted_z: Float[Tensor, "layer batch pos head d_head"],
    gradient: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, "layer head"]:
    """First-order estimate of the effect of patching each head, summed over batch, position and d_head.

    gradient: of the metric, which is a mean over the batch, at the corrupted run.
    """
    # BEGIN SOLUTION
    return ((clean_z - corrupted_z) * gradient).sum(dim=(1, 2, 4))
    # END SOLUTION


lesson.check(attribution_patching)

# %% [markdown] id="ask-agreement"
# How good is the estimate? What it is used for is ranking, so ask about ranks.
#
# {{exercise agreement}}
#
# Spearman's correlation: that of the ranks, ties at their average rank.


# %% id="answer-agreement"
def agreement(exact: Float[Tensor, "n"], estimate: Float[Tensor, "n"]) -> float:
    """Spearman's rank correlation with average ranks. ValueError if one of the two is constant."""

    # BEGIN SOLUTION
    def ranks(values):
        below = (values[:, None] > values[None]).sum(dim=1)
        equal = (values[:, None] == values[None]).sum(dim=1)
        return (below + (equal + 1) / 2).double()

    x, y = ranks(exact), ranks(estimate)
    x, y = x - x.mean(), y - y.mean()
    if x.norm() == 0 or y.norm() == 0:
        raise ValueError("a constant has no order that could agree with another")
    return float((x @ y) / (x.norm() * y.norm()))
    # END SOLUTION


lesson.check(agreement)


# %% id="use-attribution"
def z_and_gradient(tokens, answers):
    """z of every head, and the gradient of the mean logit difference with respect to it."""
    kept = {}

    def keep(z, hook):
        kept[hook.layer()] = z = z.detach().requires_grad_() if not z.requires_grad else z
        z.retain_grad()
        return z

    with torch.enable_grad():
        names = [(f"blocks.{block}.attn.hook_z", keep) for block in range(n_layers)]
        logits = model.run_with_hooks(tokens, fwd_hooks=names)
        ends = torch.full((len(tokens),), tokens.shape[1] - 1)
        difference_of(logits, answers, ends).mean().backward()
    model.zero_grad()
    z = torch.stack([kept[layer].detach() for layer in range(n_layers)])
    return z, torch.stack([kept[layer].grad for layer in range(n_layers)])


estimate_of, agree = lesson.use("attribution_patching"), lesson.use("agreement")
corrupted_z, corrupted_gradient = z_and_gradient(corrupted, answers)
clean_z, clean_gradient = z_and_gradient(clean, answers)
whole = (clean_difference - corrupted_difference).mean()
estimate = estimate_of(clean_z, corrupted_z, corrupted_gradient) / whole
print(
    f"rank agreement with the exact sweep: {agree(heads.values.flatten(), estimate.flatten()):.2f}"
)
top = sorted((la, h) for (la, h), _ in heads.top(30))
exact_top, estimate_top = (
    torch.stack([t[la, h] for la, h in top]) for t in (heads.values, estimate)
)
print(f"among the thirty largest:            {agree(exact_top, estimate_top):.2f}")
print("the largest errors:")
for index in (estimate - heads.values).abs().flatten().argsort(descending=True)[:4].tolist():
    layer, head = divmod(index, n_heads)
    print(
        f"  {layer}.{head}: exact {heads.values[layer, head]:+.2f}, estimated {estimate[layer, head]:+.2f}"
    )

# A control for the ruler: the gradient of the wrong run.
wrong = estimate_of(clean_z, corrupted_z, clean_gradient) / whole
print(
    f"with the gradient of the clean run:  {agree(heads.values.flatten(), wrong.flatten()):.2f}"
)

# %% id="attribution-picture" tags=["not-compared"]
labels = [f"{la}.{h}" for la in range(n_layers) for h in range(n_heads)]
show.scatter(
    heads.values.flatten(),
    estimate.flatten(),
    labels,
    xlabel="exact effect (share)",
    ylabel="estimate from one gradient (share)",
    title="Late heads are estimated well, 17.4 and 20.0 are not",
    diagonal=True,
    write=heads.values.abs().flatten().argsort(descending=True)[:8].tolist(),
    caption="One point for each of 270 heads; on the line the estimate is exact.",
)

# %% [markdown] id="attribution-seen"
# <details><summary>What you should see</summary>
#
# Ranks agree at 0.93, and 0.97 among the thirty largest: two forward passes and a backward one, for 270 runs. 17.4 is estimated at 0.08 where 0.27 is right, 20.0 at 0.09 for 0.25. Heads that write straight to the logits, 23.3 and 29.1, are estimated well.
#
# With the gradient of the *clean* run the agreement with this sweep falls to 0.3. That estimate answers another question, what is lost when the clean run is broken; section 8 asks it.
# </details>

# %% [markdown] id="why-estimates-fail"
# Why those two? The usual suspect is a softmax: a head that acts by moving *another* head's attention meets a curve that is flat at the ends, where one gradient sees little of what lies between (Kramár et al. 2024). A suspicion can be tested twice. **Hold the attention** of all heads where it was: such a head should lose its effect. And take the slope
# not only at the start but **all along the way** from corrupted to clean: it should change, and its mean should give the exact effect. That mean is *integrated gradients* (Sundararajan et al. 2017). 23.3 and 29.1 are the control.


# %% id="use-integrated"
def slopes_on_the_way(block, head, steps=4):
    """The first-order estimate at points on the way from corrupted (0) to clean (1), this head moved alone."""
    change, slopes = clean_z[block, :, :, head] - corrupted_z[block, :, :, head], []
    for step in range(steps):
        kept = {}

        def move(z, hook, share=(step + 0.5) / steps, kept=kept):
            z = z.detach().clone()
            z[:, :, head] += share * change
            kept["z"] = z = z.requires_grad_()
            return z

        with torch.enable_grad():
            hooks = [(f"blocks.{block}.attn.hook_z", move)]
            logits = model.run_with_hooks(corrupted, fwd_hooks=hooks)
            ends = torch.full((len(corrupted),), corrupted.shape[1] - 1)
            difference_of(logits, answers, ends).mean().backward()
        slopes.append(((kept["z"].grad[:, :, head] * change).sum() / whole).item())
    model.zero_grad()
    return slopes


def effect_without_new_attention(block, head):
    """The exact effect while every head looks where it looked in the corrupted run."""

    def hold(pattern, hook):
        return corrupted_patterns[hook.name]

    def put(z, hook):
        z[:, :, head] = clean_z[block, :, :, head]
        return z

    hooks = [(name, hold) for name in corrupted_patterns]
    logits = model.run_with_hooks(
        corrupted, fwd_hooks=[*hooks, (f"blocks.{block}.attn.hook_z", put)]
    )
    ends = torch.full((len(corrupted),), corrupted.shape[1] - 1)
    return (
        (difference_of(logits, answers, ends).mean() - corrupted_difference.mean()) / whole
    ).item()


_, corrupted_patterns = model.run_with_cache(
    corrupted, names_filter=lambda name: name.endswith("hook_pattern")
)
print("head   exact  attention held   slope on the way from corrupted to clean   their mean")
for layer, head in [(17, 4), (20, 0), (23, 3), (29, 1)]:
    slopes = slopes_on_the_way(layer, head)
    print(
        f"{layer}.{head}   {heads.values[layer, head]:+.2f}   {effect_without_new_attention(layer, head):+.2f}   "
        f"{' '.join(f'{slope:+.2f}' for slope in slopes)}   {sum(slopes) / len(slopes):+.2f}"
    )

# %% [markdown] id="integrated-seen"
# <details><summary>What you should see</summary>
#
# With attention held, 17.4 and 20.0 do nothing at all: 0.00 of 0.27, 0.00 of 0.25. Everything they do passes through somebody else's pattern. Their slope more than doubles on the way, from 0.13 to 0.35 and from 0.15 to 0.30, and four points along it recover the exact effect to two decimals. For 29.1 nothing changes: its path is a straight line.
# 23.3 teaches a second thing: with attention held its effect *grows*, from 0.50 to 0.78. Later heads look elsewhere once it has spoken, and take back a third.
#
# So the estimate is cheap where paths are straight and blind where they bend, and a few more gradients mend it: `mi_course.interp.patching.integrated_gradients` does this for a whole layer at once.
# </details>

# %% [markdown] id="part-7"
# ## 7. One path at a time
#
# Patching a head lets everything after it react. Which part of its effect goes *straight* to the logits? **Path patching** (Wang et al. 2022) sends the clean output along one path and holds everything beside it as it was.

# %% [markdown] id="ask-path_patch_to_logits"
# {{exercise path_patch_to_logits}}
#
# Later heads and MLPs stay frozen at the corrupted run; the final norm is computed anew.


# %% id="answer-path_patch_to_logits"
def path_patch_to_logits(
    model,
    tokens: Int[Tensor, "batch pos"],
    corrupted_cache,
    clean_cache,
    sender: tuple[int, int],
    metric,
) -> float:
    """The metric when only the sender's own contribution to the final residual stream comes from the clean run.

    tokens: the corrupted ones. sender: (layer, head). metric: maps logits to a float.
    """
    # BEGIN SOLUTION
    layer, head = sender
    name = f"blocks.{layer}.attn.hook_z"
    change = (clean_cache[name] - corrupted_cache[name])[:, :, head] @ model.blocks[
        layer
    ].attn.W_O[head]

    def add(resid, hook):
        return resid + change

    final = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        return metric(model.run_with_hooks(tokens, fwd_hooks=[(final, add)]))
    # END SOLUTION


lesson.check(path_patch_to_logits)

# %% id="use-paths"
from mi_course.interp.patching import path_patching

patch_path = lesson.use("path_patch_to_logits")
recomputed = path_patching(
    model, clean_texts, corrupted_texts, metric, mlps="recomputed", progress=False
)
before = corrupted_difference.mean().item()
print("head   patched whole   straight to the logits   MLPs recomputed (Wang et al.)")
for layer, head in ((23, 3), (29, 1), (29, 0), (23, 0), (20, 0), (17, 4), (19, 2)):
    value = patch_path(
        model,
        corrupted,
        corrupted_cache,
        clean_cache,
        (layer, head),
        lambda lo: difference_of(lo, answers, last).mean().item(),
    )
    straight = (value - before) / whole.item()
    print(
        f"{layer}.{head}   {heads.values[layer, head]:+13.2f}   {straight:+22.2f}   {recomputed.values[layer, head]:+15.2f}"
    )

# %% [markdown] id="paths-between"
# 17.4, 20.0 and 19.2 do not speak to the logits themselves. To whom, then? A path can end in another head: in its query, where it decides where that head looks, in its keys, or in its values, which decide what it carries. **Predict:** who tells 23.0 to look at the indirect object?

# %% id="use-paths-between"
edges = []
for receiver, part in (
    ((23, 3), "q"),
    ((23, 3), "v"),
    ((23, 0), "q"),
    ((20, 0), "k"),
    ((20, 0), "v"),
    ((19, 2), "v"),
):
    into = path_patching(
        model,
        clean_texts,
        corrupted_texts,
        metric,
        receivers=[receiver],
        part=part,
        progress=False,
    )
    best = [(sender, value) for sender, value in into.top(3) if abs(value) >= 0.02]
    edges += [(sender, receiver, value) for sender, value in best]
    said = (
        ", ".join(f"{la}.{h} {value:+.2f}" for (la, h), value in best) or "nobody above 0.02"
    )
    print(f"into the {part} of {receiver[0]}.{receiver[1]}: {said}")

# %% [markdown] id="paths-seen"
# <details><summary>What you should see</summary>
#
# 23.3, 29.1 and 29.0 act straight on the logits: the direct path has all of their effect. If the MLPs may react, 23.3's share grows from 0.53 to 0.70; Wang et al. let them react, so their numbers and ours are not the same quantity. 17.4, 20.0 and 19.2 write exactly nothing to the logits, though each is worth 0.20 to 0.27.
#
# Part of the answer is in the query of 23.0: 20.0 (+0.13) and 19.2 (+0.08) tell it where to look. They look at the second subject themselves. In GPT-2 such heads are called S-inhibition heads. Nobody steers 23.3's query or value in this way: it looks at the second subject in both runs, and reads the word that stands there.
# </details>

# %% [markdown] id="part-8"
# ## 8. What denoising cannot see
#
# So far you patched clean into corrupted: **denoising**. It shows which heads are *enough* to bring the difference back. A head that does the same in both runs can be indispensable, and its patch changes nothing, since it exchanges a thing for itself.
#
# **Noising** goes the other way: break the clean run. But with what? Exchanging clean and corrupted again shows differences between these two only. Wang et al. use prompts with three different names (**ABC**): nobody is named twice, so nobody is the answer. Put each head's mean over such prompts in its
# place, and whatever it knew about *this* prompt is gone.

# %% [markdown] id="ask-mean_ablate"
# {{exercise mean_ablate}}
#
# All heads of a layer but those in `keep`.


# %% id="answer-mean_ablate"
def mean_ablate(
    z: Float[Tensor, "batch pos head d_head"],
    hook,
    mean: Float[Tensor, "pos head d_head"],
    keep: list[int],
) -> Float[Tensor, "batch pos head d_head"]:
    """A hook: every head but those in `keep` set to its mean, in every prompt."""
    # BEGIN SOLUTION
    ablated = mean.expand_as(z).clone()
    ablated[:, :, keep] = z[:, :, keep]
    return ablated
    # END SOLUTION


lesson.check(mean_ablate)

# %% id="use-ablation"
from mi_course.interp.ioi import abc_prompts
from mi_course.interp.patching import head_means

people = [name for pair in PAIRS for name in pair]
abc_texts = abc_prompts(people, TEMPLATE)
abc_mean = head_means(model, abc_texts)  # layer pos head d_head
print(f"{len(abc_texts)} ABC prompts, such as {abc_texts[0]!r}")

ablate = lesson.use("mean_ablate")


def without(lost, mean=abc_mean, tokens=clean):
    """Logits when these heads are set to their mean, and the cache."""
    gone = [(la, h) for la, h in lost]
    hooks = [
        (
            f"blocks.{block}.attn.hook_z",
            partial(
                ablate,
                mean=mean[block],
                keep=[h for h in range(n_heads) if (block, h) not in gone],
            ),
        )
        for block in sorted({la for la, _ in gone})
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model.run_with_cache(tokens)


# First order, at the clean run: what would be lost if each head were set to its mean?
first_order = estimate_of(abc_mean[:, None].expand_as(clean_z), clean_z, clean_gradient)
ranked = [
    divmod(i, n_heads) for i in first_order.abs().flatten().argsort(descending=True).tolist()
]
print("head   denoising (share)   ABC mean, first order (logits)   ABC mean, exact (logits)")
for layer, head in ranked[:14]:
    logits, _ = without([(layer, head)])
    lost = difference_of(logits, answers, last).mean() - clean_difference.mean()
    print(
        f"{layer}.{head:<3} {heads.values[layer, head]:+14.2f} {first_order[layer, head]:+26.2f} {lost:+28.2f}"
    )

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# 23.3 stays first. But **23.7** and **23.1**, which denoising put at 0.00 and 0.02, are worth half a logit each: they do the same on clean and corrupted prompts, so exchanging one for the other shows nothing. Their sign is positive: without them the model does *better*.
#
# The last two columns are a second control. For late heads the first order is nearly exact. **8.1** is not worth +0.62 but +0.07, and 20.0 is worth three times its estimate. A ranking by first order will be wrong about such heads, in either direction.
# </details>

# %% [markdown] id="part-9"
# ## 9. A circuit, and how good it is
#
# A circuit is a claim: *these* heads do it. The test: set all others to their ABC mean. What is left?

# %% [markdown] id="ask-faithfulness"
# {{exercise faithfulness}}
#
# 0 for a model without any head, 1 for all of them. More than 1 is not better.


# %% id="answer-faithfulness"
def faithfulness(circuit: float, full: float, empty: float) -> float:
    """Share of what the full model scores above the empty circuit that this circuit keeps.

    All three are scores in logits. ValueError when full = empty.
    """
    # BEGIN SOLUTION
    if full == empty:
        raise ValueError(
            f"the full model and the empty circuit both score {full}: there is nothing to explain"
        )
    return (circuit - empty) / (full - empty)
    # END SOLUTION


lesson.check(faithfulness)

# %% id="use-faithfulness"
from mi_course.interp.ioi import ioi_task

ALL = [(la, h) for la in range(n_layers) for h in range(n_heads)]


def kept_by(circuit):
    """The mean logit difference when only these heads are left."""
    logits, _ = without([head for head in ALL if head not in circuit])
    return difference_of(logits, answers, last).mean().item()


full, empty = kept_by(ALL), kept_by([])
share = lesson.use("faithfulness")
print(f"all heads {full:+.2f}, no head {empty:+.2f} logits")

# The same for many circuits, on both templates.
task = ioi_task(model, [TEMPLATE, OTHER_TEMPLATE], PAIRS)
one_template = ioi_task(model, [TEMPLATE], PAIRS)
print(
    f"30 heads by your functions {share(kept_by(ranked[:30]), full, empty):.2f}, by the library {one_template.score(ranked[:30]):.2f}"
)

# %% [markdown] id="predict-rankings"
# Three ways of ranking heads. **Predict** which gives the most faithful circuit of thirty: by denoising, by the absolute first-order effect of ABC ablation, or by that effect with the sign, so that only heads that help come in?

# %% id="use-rankings"
other_mean = head_means(model, abc_prompts(people, OTHER_TEMPLATE))
other_z, other_gradient = z_and_gradient(other_clean, other_answers)
both = (
    first_order + estimate_of(other_mean[:, None].expand_as(other_z), other_z, other_gradient)
) / 2


def ranking(values):
    return [divmod(i, n_heads) for i in values.flatten().argsort(descending=True).tolist()]


rankings = {
    "denoising": ranking(heads.values.abs()),
    "ABC, absolute": ranking(both.abs()),
    "ABC, helping only": ranking(-both),
}
print(f"{'heads':<20}{10:>8}{20:>8}{30:>8}")
for name, order in rankings.items():
    print(f"{name:<20}" + "".join(f"{task.score(order[:n]):8.2f}" for n in (10, 20, 30)))
chance = task.random(30, n=20)
print(f"random sets of 30: {chance[0]:.2f} to {chance[-1]:.2f} (20 sets)")

# %% [markdown] id="ask-my_circuit"
# ### Your circuit
#
# {{exercise my_circuit}}
#
# Use what you like: a ranking, the roles that you found, trial and error. Judged on names and templates that you have not seen; the check takes up to a minute.

# %% id="answer-my_circuit"
# BEGIN SOLUTION
my_circuit = ranking(both.abs())[:30]
# END SOLUTION

lesson.check(my_circuit, name="my_circuit")

# %% id="use-circuit"
circuit = [tuple(head) for head in lesson.use("my_circuit")]
print(
    f"{len(circuit)} heads: faithfulness {task.score(circuit):.2f}, completeness {task.completeness(circuit):.2f}"
)

# %% id="circuit-picture" tags=["not-compared"]
roles = {
    (23, 3): "writes the subject down",
    (23, 0): "writes the indirect object up",
    (29, 1): "writes the indirect object up",
    (24, 4): "writes the indirect object down",
    (29, 0): "writes the indirect object down",
    (20, 0): "looks at the second subject",
    (19, 2): "looks at the second subject",
    (17, 4): "induction, at the second subject",
}
straight = path_patching(model, clean_texts, corrupted_texts, metric, progress=False)
speakers = [head for head, value in straight.top(20) if abs(value) >= 0.05]
members = sorted(
    {head for sender, receiver, _ in edges for head in (sender, receiver)} | set(speakers)
)
nodes = [{"id": f"{la}.{h}", "layer": la, "role": roles.get((la, h), "")} for la, h in members]
arrows = [(f"{s[0]}.{s[1]}", f"{r[0]}.{r[1]}", value) for s, r, value in edges]
arrows += [(f"{la}.{h}", "logits", float(straight.values[la, h])) for la, h in speakers]
show.graph(
    [*nodes, {"id": "logits", "layer": n_layers}],
    arrows,
    title="Two heads find out who is named twice; others raise one name and lower the other",
    weight_name="share of the effect along this path",
    caption="Paths to the logits of at least 0.05, and those that were followed in section 7. Red and dashed: away from the answer.",
)

# %% [markdown] id="circuit-seen"
# <details><summary>What you should see</summary>
#
# On the two templates of the lesson, heads ranked by denoising come to 0.58 with ten heads and *fall* to 0.45 with thirty. Ranked by the absolute effect of ABC ablation they rise from 0.61 to 0.77; only the helping ones give 0.97 with ten and 1.06 with thirty. Random sets of thirty reach from −0.32 to 0.71: a large part of the task
# can be had by chance, so a faithfulness without that control says little.
#
# On prompts that no ranking has seen the differences grow. There the thirty heads of the denoising ranking keep 0.08, those of the absolute one 0.89, and the ten and twenty best helpers 1.22 and 1.18: without 29.0 and 24.4, which work against the
# answer and which the model has, they overshoot. A score near 1 on the prompts you chose with is partly two errors that cancel. It is necessary, not enough. Look at the completeness as well: the heads outside should do nothing by themselves. Those outside
# the thirty of the absolute ranking score −0.40: heads that work against the answer are left among them.
# </details>

# %% [markdown] id="part-10"
# ## 10. Is there a backup?
#
# In GPT-2 other heads step in when a name mover is removed (Wang et al. 2022, section 3.4). If so, removing a head costs *less* than its direct effect says. Test it here: set 23.3 to its mean, and compare what is lost with what 23.3 wrote itself. What is left over is how others changed.

# %% id="use-backup"
logits, ablated_cache = without([(23, 3)])
after = difference_of(logits, answers, last).mean()
with torch.no_grad():
    now = lesson.use("direct_attribution")(
        head_outputs(ablated_cache), scale, model.W_U, answers
    )
predicted = clean_difference.mean() - direct[23, 3] + now[23, 3]
print(
    f"before {clean_difference.mean():.2f}, after {after:.2f}; if nobody reacted {predicted:.2f}"
)
change = now - direct
change[23, 3] = 0
for index in change.abs().flatten().argsort(descending=True)[:6].tolist():
    print(f"  {index // n_heads}.{index % n_heads} changes by {change.flatten()[index]:+.2f}")
print(f"all other heads together {change.sum():+.2f}")

# %% [markdown] id="backup-seen"
# <details><summary>What you should see</summary>
#
# Some, and not of the kind GPT-2 has. 23.3 is gone, and 24.4, which had written against the answer, does so much less (+1.2), 29.0 too (+0.5). But 29.1, which had helped, helps less (−0.7). So heads react in both directions; in sum they give back about one of three logits. What is lost in the end (5.50 to 2.56) is
# close to what the direct effect alone predicts (2.38): the rest, what MLPs and the final norm do differently, cancels most of it. We did not measure those two apart. Nobody takes over the work of 23.3. "No backup" would have been a wrong conclusion from the small difference alone: total minus direct hides what cancels.
# </details>

# %% [markdown] id="part-11"
# ## 11. How patching misleads
#
# Three ways to get a wrong result from a right program.

# %% id="use-misleads"
# The wrong mean: prompts with the subject in second place (ABB). They name nobody new, so the mean keeps part of the task.
abb_texts = [
    TEMPLATE.format(A=a, B=b, S=b)
    for i, a in enumerate(people)
    for b in (people[(i + 1) % 8], people[(i + 3) % 8])
]
abb_mean = head_means(model, abb_texts)


def faithful(circuit, mean):
    def left(kept):
        logits, _ = without([head for head in ALL if head not in kept], mean)
        return difference_of(logits, answers, last).mean().item()

    return share(left(circuit), left(ALL), left([])), left([])


for name, mean in (
    ("ABC mean", abc_mean),
    ("ABB mean", abb_mean),
    ("zero", torch.zeros_like(abc_mean)),
):
    value, nothing = faithful(ranked[:10], mean)
    print(f"{name:<9} top 10 heads score {value:+.2f}; without any head {nothing:+.2f} logits")

# The wrong metric: the probability of the right name saturates.


def probability(logits):
    return logits.softmax(-1).gather(-1, answers[:, :1]).squeeze(-1)


by_probability = sweep_heads(
    model, clean_texts, corrupted_texts, probability, layers=[23, 24, 29], progress=False
)
for row, layer, head in ((0, 23, 3), (0, 23, 0), (1, 24, 4), (2, 29, 0), (2, 29, 1)):
    print(
        f"{layer}.{head}: {heads.values[layer, head]:+.2f} of the logit difference, {by_probability.values[row, head]:+.2f} of the probability"
    )

# %% [markdown] id="misleads-seen"
# <details><summary>What you should see</summary>
#
# **The mean decides.** The same ten heads score 0.22 with the ABC mean and 0.56 with the ABB mean. A mean over prompts in which somebody *is* named twice hands part of the task to every head outside the circuit. Setting heads to zero, a state the model has never been in, leaves nothing: ten heads then score 0.00.
#
# **The metric decides.** By the probability of the right name, 23.0 and the negative heads have almost no effect (0.01), because nothing happens to a probability until the logit difference is near zero. A tenth of the way in logits is invisible.
#
# **The patch decides.** A corrupted run with one clean head is a state that no prompt produces. What it does there need not be what it does in any sentence.
# </details>
#
# *Reflect.* Your circuit passed on unseen names and templates, and beat random sets. What result would have made you say that it is *not* how the model does it?

# %% [markdown] id="online-intro"
# ### The published circuit, if you are online
#
# The same engine runs on GPT-2 small. Wang et al. name 9.9, 9.6 and 10.0 as name movers, 10.7 and 11.10 as negative ones, 7.3, 7.9, 8.6 and 8.10 as S-inhibition heads. Without network the cell says so.

# %% id="use-gpt2" tags=["online"]
try:
    gpt2 = mi_course.load_model("gpt2")
    gpt2_metric = difference_metric(names, gpt2)
    print(sweep_heads(gpt2, clean_texts, corrupted_texts, gpt2_metric, progress=False).top(9))
except Exception as error:
    print(
        f"GPT-2 is not here: {type(error).__name__}. This part needs a network; nothing else does."
    )

# %% [markdown] id="recap"
# ## What you have done
#
# You measured a behaviour with one number, built pairs of prompts that differ in one word, and saw where the deciding information sits and between which layers it moves. You found heads by patching, named them by where they look and by what they write, and saw that the largest one removes a name rather than moving one.
# You estimated hundreds of patches from one gradient and measured where that fails. You followed single paths, saw heads that denoising cannot see, and tested a circuit on prompts it was not made from, against chance.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Heimersheim and Nanda 2024, *How to Use and Interpret Activation Patching*. Twelve pages on what a patch does and does not show.
