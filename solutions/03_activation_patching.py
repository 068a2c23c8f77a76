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
# About {{minutes}} minutes · {{points}} points · after lesson 02. The model is SmolLM2-135M-Instruct with its norms folded into the weights (compatibility mode), because direct attribution reads its matrices. Sources: Wang et al. 2022, *Interpretability in the Wild*; Heimersheim and Nanda 2024, *How to Use and Interpret Activation Patching*; McDougall et al. 2023, *Copy Suppression*; Zhang and Nanda 2023; Syed et al. 2023.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("activation_patching"), mi_course.load_model()

# %% [markdown] id="part-1"
# ## 1. Right, for reasons you cannot see
#
# *When Mary and John went to the store, John gave a drink to* … whom? You know at once. **Predict:** does a model with 135 million parameters? And what if one single word changes, the second *John* to *Mary*?

# %% id="surprise"
from mi_course.interp import ioi, patching
from mi_course.interp import ioi_study as study

TEMPLATE = "When {A} and {B} went to the store, {S} gave a drink to"
for subject in ("John", "Mary"):
    likeliest = study.likeliest(model, TEMPLATE.format(A="Mary", B="John", S=subject))
    print(f"... {subject} gave a drink to -> {likeliest}")

# %% id="claims-surprise-seen" tags=["claims"]
from mi_course import claim

with torch.no_grad():
    _said = model(
        model.to_tokens([TEMPLATE.format(A="Mary", B="John", S=s) for s in ("John", "Mary")])
    )
_sure = _said[:, -1].softmax(-1).max(-1)
lesson.seen("sure", _sure.values, ".1f")
claim(
    "the likeliest next word is the other name in both sentences",
    [model.tokenizer.decode(t) for t in _sure.indices] == [" Mary", " John"],
)

# %% [markdown] id="surprise-seen"
# It knows: the name that was *not* just mentioned comes first in both, with a probability of {{seen:sure}}. So it follows the sentence, not a habit. Wang et al. (2022) call this task indirect object identification and took it apart in GPT-2. In *When Mary and John went to the store, John gave a drink to*, Mary is the **indirect object** (IO) and John the **subject** (S). There are at least two ways to get it right: look for the name that was said *once*, or avoid the name that was said *last*. Which does this model use?
#
# First a ruler. A probability is a poor one: it saturates near $1$, and it depends on every other word. The **logit difference** between the two names is linear in what the heads write.

# %% [markdown] id="ask-logit_difference"
# {{exercise logit_difference}}
#
# One value per prompt, right minus wrong. Prompts may differ in length: `last` says where each one ends.

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
# An experiment changes one thing and keeps the rest. Here that is one word: the **clean** prompt says *John gave*, the **corrupted** one *Mary gave*. Same length, same names, same template; only the answer flips. Whatever the model does alike in both (grammar, the store, the fact that a name is due) drops out of the difference.
#
# A good counterfactual changes the answer, lines up token by token, and is as natural as the original. Replacing *John* by random noise would change the answer too, and a hundred other things.
#
# One trap is left. If the indirect object always comes first, a head that looks at the *first name* is indistinguishable from one that looks for the answer. So we need both orders: ABB (*Mary and John … John*) and ABA (*Mary and John … Mary*).

# %% [markdown] id="ask-ioi_prompts"
# {{exercise ioi_prompts}}


# %% id="answer-ioi_prompts"
def ioi_prompts(
    pairs: list[tuple[str, str]], template: str
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Clean prompts, corrupted prompts, and (indirect object, subject) names of the clean ones, without a space.

    For each pair (a, b), with A=a and B=b: first S=b and names (a, b), then S=a and names (b, a). Pair by pair.
    template: has {A}, {B} and {S}. The corrupted prompt has the indirect object in the place of S.
    """
    # BEGIN SOLUTION
    clean, corrupted, names = [], [], []
    for a, b in pairs:
        for io, subject in ((a, b), (b, a)):
            clean.append(template.format(A=a, B=b, S=subject))
            corrupted.append(template.format(A=a, B=b, S=io))
            names.append((io, subject))
    return clean, corrupted, names
    # END SOLUTION


lesson.check(ioi_prompts)

# %% [markdown] id="use-prompts-intro"
# Sixteen pairs of names, 32 prompts. In every other pair the man comes first, so that order and gender are not mixed up either. Whoever resamples these data should draw whole *pairs*: the two prompts of a pair share their names and are not independent.

# %% id="use-prompts"
from mi_course.interp.heads import named, ranking, strongest
from mi_course.interp.ioi_study import ORDERS, by_order

clean_texts, corrupted_texts, names = lesson.use("ioi_prompts")(ioi.NAME_PAIRS, TEMPLATE)
clean, corrupted = model.to_tokens(clean_texts), model.to_tokens(corrupted_texts)
answers, difference_of = patching.answer_tokens(model, names), lesson.use("logit_difference")
last = torch.full((len(clean),), clean.shape[1] - 1)
clean_logits, clean_cache = ioi.record(model, clean)
clean_difference = difference_of(clean_logits, answers, last)
corrupted_difference = difference_of(ioi.record(model, corrupted)[0], answers, last)
subject_at, end = int((clean != corrupted).any(0).nonzero()), clean.shape[1] - 1
print(f"the prompts of a pair differ at position {subject_at} of 0 to {end}")
rows = {"clean": by_order(clean_difference), "corrupted": by_order(corrupted_difference)}
show.table(rows, ["all 32", "IO first", "IO second"], title="Logit difference", sign=True)

# %% id="claims-prompts-seen" tags=["claims"]
lesson.seen("difference", clean_difference.mean(), ".1f")
lesson.seen("whole_way", 2 * clean_difference.mean(), ".0f")
claim(
    "all 32 clean prompts are right by half a logit or more",
    bool((clean_difference > 0.5).all()),
)
claim(
    "every corrupted prompt is the clean prompt of its twin",
    torch.equal(corrupted[0::2], clean[1::2]),
)

# %% [markdown] id="prompts-seen"
# <details><summary>What you should see</summary>
#
# All right, by {{seen:difference}} logits on average, a little more if the indirect object comes first. Every corrupted prompt is "wrong" because `answers` are those of the clean prompt. It is in fact the clean prompt of its twin, so the sign flips exactly. One token makes the difference, and every effect below is a share of the {{seen:whole_way}} logits between the two.
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
n_layers, n_heads, of = 30, 9, lesson.use("direct_attribution")
scale = clean_cache["ln_final.hook_scale"][:, -1]
parts = ioi.parts_at_end(model, clean_cache)  # 270 heads, 30 MLPs and the embedding
out, W_U = parts[:270].unflatten(0, (n_layers, n_heads)), model.W_U.detach()
direct, direct_1, direct_2 = (of(out[:, :, r], scale[r], W_U, answers[r]) for r in ORDERS)
rows = {named(h): [direct[h], direct_1[h], direct_2[h]] for h in strongest(direct, 9)}
print(show.table(rows, ["direct", "IO first", "IO second"], title="Logits", sign=True))

# The control: do all parts together give the logit difference?
directions = study.directions(model, answers)  # prompt d_model
shares = (parts * directions / scale).sum(-1).mean(-1)
sums = [direct.sum(), shares[270:300].sum(), shares[300]]
rows = {"all 32 prompts": [*sums, sum(sums), clean_difference.mean()]}
show.table(rows, ["heads", "MLPs", "embedding", "sum", "measured"], sign=True)

# %% id="direct-picture" tags=["not-compared"]
title = "What each head writes straight to the logit difference"
caption = "Right minus wrong name, 32 clean prompts. MLPs and embedding make up the rest."
show.head_heatmap(direct, title=title, unit="direct effect (logits)", caption=caption)

# %% id="claims-direct-seen" tags=["claims"]
_top = strongest(direct, 4)
lesson.seen("writers", [named(h) for h in _top if direct[h] > 0])
lesson.seen("writes_most", direct[_top[0]], ".1f")
lesson.seen("against", [named(h) for h in _top if direct[h] < 0])
lesson.seen("writes_against", -direct[next(h for h in _top if direct[h] < 0)], ".1f")
lesson.seen("mlps_write", sums[1], ".1f")
_flips = [h for h in strongest(direct_1 - direct_2, 5) if direct_1[h] * direct_2[h] < 0]
lesson.seen("flips", [named(h) for h in sorted(_flips)])
claim(
    "the parts sum to the logit difference within 0.01",
    abs(sum(sums) - clean_difference.mean()) < 0.01,
)
claim(
    "the first head writes half as much again as any other",
    direct[_top[0]] > 1.5 * direct[_top[1]],
)
claim(
    "three heads or more write for the answer in one order and against it in the other",
    len(_flips) >= 3,
)
claim(
    "fewer than 30 of 270 heads write a tenth of a logit", int((direct.abs() > 0.1).sum()) < 30
)

# %% [markdown] id="direct-seen"
# <details><summary>What you should see</summary>
#
# The parts sum to the logit difference, to the second digit: nothing was left out. The largest writers for the answer are {{seen:writers}}; the first alone writes {{seen:writes_most}} of {{seen:difference}} logits. {{seen:against}} writes {{seen:writes_against}} *against* the right answer. Most heads write next to nothing, and the MLPs together add {{seen:mlps_write}}.
#
# The last two columns are the control that both orders buy. {{seen:flips}} write for the answer in one order and against it in the other: they follow the *order* of the names, not their roles. With ABB prompts alone you would have given them a role.
# </details>
#
# So these heads write the answer. But who told them? Direct attribution sees the last step only.

# %% [markdown] id="part-4"
# ## 4. Where is the information, and when does it move?
#
# Run the corrupted prompt, but at one layer and one position put in the residual stream of the clean run. If the answer flips, what decides it was *there*. Vig et al. (2020) and Meng et al. (2022) introduced this as causal mediation or causal tracing; here it is **activation patching**. Results need a scale.

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
# Return the raw metric values, [layer, position]. No hook may stay behind, even if a forward pass fails.

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
# Your loop takes a forward pass for every cell: 450 of them here, minutes. The engine in `mi_course.interp.patching` gives the same numbers in seconds, by computing only what a patch can change. Do not believe that: hold the two against each other, on the small model of lesson 02.

# %% id="use-residual-check"
apart = study.against_engine(lesson.use("residual_sweep"))
print(f"largest difference between your loop and the engine: {apart:.4f} logits")

# %% [markdown] id="predict-where"
# To explore we take the first eight prompts; what we find is confirmed on all 32. **Predict:** the prompts differ at one position, and the answer is read at another. At which layers does the information leave the first, and does it travel by way of a third?

# %% id="use-residual"
FEW = slice(0, 8)  # four pairs, both orders
few = (clean_texts[FEW], corrupted_texts[FEW], patching.logit_difference(answers[FEW]))
residual = patching.sweep_residual(model, *few, progress=False)
attention = patching.sweep_attention_output(model, *few, progress=False)
mlp = patching.sweep_mlp_output(model, *few, progress=False)
places = study.by_place(residual.values, subject_at, end)
rows = {f"layer {layer}": places[layer] for layer in (0, 12, 18, 20, 22, 24, 26, 29)}
show.table(rows, ["at the second subject", "at the end", "elsewhere, at most"])

# %% id="residual-picture" tags=["not-compared"]
sweeps = {"residual stream": residual, "attention output": attention, "MLP output": mlp}
study.draw_positions(sweeps, model.to_str_tokens(clean_texts[0]), since=subject_at)

# %% id="claims-residual-seen" tags=["claims"]
_at, _end, elsewhere = places.T
lesson.seen("still_all", max(la for la in range(n_layers) if (_at[: la + 1] > 0.95).all()))
lesson.seen("arrived", min(la for la in range(n_layers) if (_end[la:] > 0.9).all()))
lesson.seen("third_place", elsewhere.max(), ".2f")
_movers = [la for la in range(n_layers) if attention.values[la, end] > 0.1]
lesson.seen("moving_layers", _movers)
lesson.seen("mlp_largest", mlp.values[12:, subject_at:].abs().max(), ".2f")
claim(
    "no third position ever holds more than a tenth",
    elsewhere.max() < 0.1,
)
claim(
    "positions before the second subject are exactly 0",
    bool((residual.values[:, :subject_at] == 0).all()),
)
claim(
    "the subject holds all of it through layer 17, the end holds 0.9 from layer 26",
    bool((_at[:18] > 0.95).all() and (_end[26:] > 0.9).all()),
)
claim(
    "attention at the end moves it in at most six layers, all between 19 and 29",
    len(_movers) <= 6 and min(_movers) >= 19,
)

# %% [markdown] id="residual-seen"
# <details><summary>What you should see</summary>
#
# Through layer {{seen:still_all}} the second subject holds all of it and no other position anything. From layer {{seen:arrived}} on it is at the end. Positions before the second subject are exactly $0$: up to there the two prompts are the same, and patching there changes nothing, because both runs hold the same value. No third position ever holds more than {{seen:third_place}}: the information goes straight from the one place to the other. (With other names and templates a third place has up to a seventh, and the last step to the end may come a few layers later.)
#
# The middle panel shows who moves it: attention at the last position, in layers {{seen:moving_layers}}. Attention at the second subject acts earlier, where the name itself is read.
#
# A $1.0$ at an early layer does not say that the answer has been *computed* by then. At layer $0$ it is $1.0$ too, and there it is the word itself.
# </details>

# %% [markdown] id="part-5"
# ## 5. Which heads, and by which part?
#
# Only attention moves information between positions, so some heads in the later layers must carry it. A head's output is z, one vector per position. Patch z of one head at a time, at every position: that is your sweep again with another hook, so the engine does it. And a head has parts: it may look elsewhere (its **q**uery or **k**ey has changed) or read something else in the same place (its **v**alue has).

# %% id="use-heads"
heads = patching.sweep_heads(model, *few, progress=False)
found, rows = [head for head, _ in heads.top(8)], {}

# Confirm on all 32 prompts, and draw whole pairs of names for the intervals.
metric, recovery_of = patching.logit_difference(answers), lesson.use("recovery")
confirmed = patching.patch_heads(model, clean_texts, corrupted_texts, metric, found)
by_z = dict(zip(found, confirmed.values.tolist(), strict=True))
low, high = confirmed.interval(groups=[i // 2 for i in range(32)])
for i, head in enumerate(found):
    runs = torch.stack([confirmed.per_prompt[i], clean_difference, corrupted_difference])
    orders = [recovery_of(*runs[:, r]) for r in ORDERS[1:]]
    rows[named(head)] = [heads.values[head], by_z[head], low[i], high[i], *orders]
columns = ["8 prompts", "32 prompts", "low", "high", "IO first", "IO second"]
show.table(rows, columns, title="Effect, and its 95 % interval (16 pairs drawn)", sign=True)

# %% id="use-parts"
late = range(17, n_layers)
by_part = study.sweep_parts(model, *few, late)

# %% id="parts-picture" tags=["not-compared"]
study.draw_parts(by_part, late, "Eight prompts. Three query heads share a key and a value.")

# %% [markdown] id="name-intro"
# ### Name them
#
# A number is not a role. For each head ask two things. Where does it *look* from the last position? And what does it *write*: does it raise the logit of the indirect object, or lower that of the subject? We compare with names that do not occur in the prompt; otherwise a head that raises all names alike would seem to raise both.

# %% id="use-names"
roles = {"IO": answers[:, 0], "S": answers[:, 1]}
profiles = {head: ioi.head_profile(model, clean_cache, clean, roles, head) for head in found}
print("\n".join(f"{named(head)}  {profile}" for head, profile in profiles.items()))

# %% id="attention-picture" tags=["not-compared"]
shown = torch.stack([clean_cache["pattern", layer][0, head] for layer, head in found])
tokens, title = model.to_str_tokens(clean_texts[0]), "Choose the last token: whom do they see?"
show.attention(shown, tokens, heads=found, title=title)

# %% [markdown] id="weights-intro"
# What a head writes on *these* prompts may depend on much else in the stream. So ask its weights alone. Suppose the head attends to nothing but one name: what would it write? Wang et al. (2022, section 3.1) send the name through the first layer, then through W_V and W_O, unembed, and look whether the name itself comes out on top.

# %% [markdown] id="ask-copying_score"
# {{exercise copying_score}}


# %% id="answer-copying_score"
def copying_score(
    inputs: Float[Tensor, "name d_model"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "d_head d_model"],
    W_U: Float[Tensor, "d_model vocab"],
    tokens: Int[Tensor, "name"],
    k: int,
) -> float:
    """Share of names that are among the k largest logits of what the head writes when it reads that name.

    inputs: what the head reads at each name. tokens: each name's own token.
    """
    # BEGIN SOLUTION
    logits = inputs @ W_V @ W_O @ W_U
    own = logits.gather(1, tokens[:, None])
    return ((logits > own).sum(dim=1) < k).double().mean().item()
    # END SOLUTION


lesson.check(copying_score)

# %% id="use-copying"
every_name, score = answers.flatten().unique(), lesson.use("copying_score")
others = [head for head in patching.random_circuits(model, 14, 1)[0] if head not in found][:12]
copying = study.copying_scores(model, score, every_name, [*found, *others])
most = [max(copying[head][i] for head in others) for i in (0, 1)]
rows = {named(head): copying[head] for head in found} | {"12 at random, at most": most}
show.table(rows, ["written up", "written down"], title="Share of 32 names")


# %% id="claims-names-seen" tags=["claims"]
def _q(part, head):
    return float(by_part[part][head[0] - 17, head[1]])


_S = max(found, key=lambda h: by_z[h])  # the largest effect
_by_value = [h for h in found if _q("value", h) > 0.1 and abs(_q("query", h)) < 0.05]
_by_query = [h for h in found if abs(_q("query", h)) > 0.05]
_movers = [h for h in found if copying[h][0] > 0.5]
_negative = [h for h in found if copying[h][1] > 0.5]
_s_lookers = [
    h for h in found if profiles[h].looks["S2"] > 0.35 and abs(profiles[h].writes["S"]) < 0.1
]
_at_end = [h for h in found if profiles[h].looks["end"] > 0.4]
_induction = [h for h in found if profiles[h].looks["BOS"] > 0.9]
lesson.seen("suppressor", named(_S))
lesson.seen("suppressor_share", by_z[_S], ".2f")
lesson.seen("suppressor_looks", profiles[_S].looks["S2"], ".1f")
lesson.seen("suppressor_looks_io", profiles[_S].looks["IO"], ".2f")
lesson.seen("suppressor_writes", profiles[_S].writes["S"], ".1f")
lesson.seen("suppressor_copies", [copying[_S][0], copying[_S][1]], ".2f")
lesson.seen("mover", [named(h) for h in _movers])
lesson.seen("mover_looks", profiles[_movers[0]].looks["IO"], ".1f")
lesson.seen("mover_copies", copying[_movers[0]][0], ".2f")
lesson.seen("negative", [named(h) for h in _negative if h != _S])
lesson.seen(
    "negative_writes",
    [profiles[next(h for h in _negative if h != _S)].writes[r] for r in ("IO", "S")],
    ".1f",
)
lesson.seen("at_end", [named(h) for h in _at_end])
lesson.seen("s_lookers", [named(h) for h in _s_lookers])
lesson.seen("induction", [named(h) for h in _induction])
_mentions = [int((row == s).nonzero()[0]) for row, s in zip(clean, answers[:, 1], strict=True)]
_la, _he = _induction[0]
_onward = torch.stack(
    [clean_cache["pattern", _la][i, _he, subject_at, at + 1] for i, at in enumerate(_mentions)]
)
lesson.seen("induction_onward", _onward.mean(), ".1f")
claim(
    "at the second subject the induction head looks at the word after the first mention, with half of its attention",
    len(_induction) == 1 and _onward.mean() > 0.5,
)
lesson.seen("by_value", [named(h) for h in _by_value])
lesson.seen("by_query", [named(h) for h in _by_query])
claim(
    "the head with the largest effect writes S down by more than 2 logits and IO by less than 0.3",
    profiles[_S].writes["S"] < -2 and abs(profiles[_S].writes["IO"]) < 0.3,
)
claim("its weights write down every one of 32 names, and copy none", copying[_S] == [0.0, 1.0])
claim(
    "one head of the eight is a name mover: it looks at IO and its weights copy",
    len(_movers) == 1 and profiles[_movers[0]].looks["IO"] > 0.5,
)
claim(
    "12 random heads neither copy nor suppress a fifth of the names, but for one",
    sum(max(copying[h]) > 0.2 for h in others) <= 1,
)
claim(
    "the negative head writes both names down, so it is no negative name mover",
    all(v < -0.4 for h in _negative if h != _S for v in profiles[h].writes.values()),
)
claim("the suppressor acts by value, not by where it looks", _S in _by_value)
claim(
    "the intervals of the eight exclude 0",
    ((low > 0) == (high > 0)).all(),
)

# %% [markdown] id="names-seen"
# <details><summary>What you should see</summary>
#
# - **{{seen:suppressor}}**, with {{seen:suppressor_share}} of the effect, looks at the second subject ({{seen:suppressor_looks}} of its attention) and hardly at the indirect object ({{seen:suppressor_looks_io}}). It writes the *subject down* ({{seen:suppressor_writes}} logits). Its weights say the same of any name: copying score and its opposite are {{seen:suppressor_copies}}. GPT-2's largest heads in this task are name movers; here it is a **copy-suppression** head (McDougall et al. 2023 describe one in GPT-2, L10H7).
# - **{{seen:mover}}** looks at the indirect object ({{seen:mover_looks}}) and raises it; its weights copy {{seen:mover_copies}} of the names. That is a **name mover** of the classic kind.
# - **{{seen:negative}}** suppresses names too, but no particular one: {{seen:negative_writes}} on indirect object and subject. What it costs depends on the order of the names.
# - **{{seen:at_end}}** look mainly at the last position itself, so what they read was put there by earlier layers, and they share one value: they read the same. By their weights they neither copy nor suppress; one works for the answer and one against it.
# - **{{seen:s_lookers}}** look at the second subject and write nothing on either name. They do something else with what they find; section $7$ asks what.
# - **{{seen:induction}}** rests on BOS at the end. It acts earlier, at the second subject, where it looks at the word that followed the *first* mention ({{seen:induction_onward}}): an induction head, as in lesson 02.
#
# The four panels separate two ways to carry the answer. {{seen:by_value}} act by *value*: they look at the same place in both runs and read what stands there. {{seen:by_query}} act by *query*: they look somewhere else. Keys and values are shared by three heads each, so a whole block lights up where only one head matters.
# </details>

# %% [markdown] id="part-6"
# ## 6. Repeated, or merely latest?
#
# It is tempting to say that the model looks for the name that was said twice and rules it out. But in our prompts the repeated name is also the *latest* one, in clean and corrupted runs alike. No patch between these two can tell the difference. **Predict:** in *When Mary and Paul went to the store, **Laura** gave a drink to*, nobody is repeated. Does the suppression head still write Laura down? And if Mary is repeated but Laura comes last? Or if a repeated name and a new one both come late, as in *Paul, who knew Laura, gave*?

# %% id="use-latest"
suppressor = max(found, key=by_z.get)
latest, name_logits = {}, {}
for form, template in study.FORMS.items():
    name_logits[form], latest[form] = study.three_names(model, template, suppressor)
    above = ", ".join(f"{role} {v.mean():.1f}" for role, v in name_logits[form].items())
    print(f"{template}: logits above the mean of 32 names {above}")
    print(f"    {named(suppressor)} {latest[form]}")

# %% id="claims-latest-seen" tags=["claims"]
_n = {
    form: {r: float(v.mean()) for r, v in values.items()}
    for form, values in name_logits.items()
}
_abb, _abc, _aac, _bbc, _, _ = _n.values()
_late = [latest[f"B repeated and {x}"] for x in ("acting, C latest", "latest, C acting")]
_margin_abb = _abb["A"] - _abb["B"]
_margin_abc = (_abc["A"] + _abc["B"]) / 2 - _abc["C"]
lesson.seen("latest_abb", _abb["B"], ".1f")
lesson.seen("latest_abc", _abc["C"], ".1f")
lesson.seen("others_abc", [_abc["A"], _abc["B"]], ".1f")
lesson.seen("repeated_not_latest", [_aac["A"], _bbc["B"]], ".1f")
lesson.seen("latest_there", [_aac["C"], _bbc["C"]], ".1f")
lesson.seen("suppresses_abb", latest["B repeated and latest"].writes["B"], ".1f")
lesson.seen("suppresses_abc", latest["nobody repeated, C latest"].writes["C"], ".1f")
lesson.seen("margin_abb", _margin_abb, ".1f")
lesson.seen("late_looks", [p.looks["B2"] for p in _late], ".1f")
lesson.seen("late_looks_new", [p.looks["C"] for p in _late], ".1f")
lesson.seen("late_writes", [p.writes["B"] for p in _late], ".1f")
lesson.seen("late_writes_new", [p.writes["C"] for p in _late], ".1f")
claim(
    "of two late names it looks more at the one that is said again, by half as much again, and writes it down by half a logit more, whoever acts",
    all(
        p.looks["B2"] > 1.5 * p.looks["C"] and p.writes["B"] < p.writes["C"] - 0.5
        for p in _late
    ),
)
lesson.seen("margin_abc", _margin_abc, ".1f")
claim(
    "with nobody repeated the latest name is lower than both others in 12 of 16 triples or more",
    int(
        (
            name_logits["nobody repeated, C latest"]["C"]
            < torch.minimum(
                name_logits["nobody repeated, C latest"]["A"],
                name_logits["nobody repeated, C latest"]["B"],
            )
        ).sum()
    )
    >= 12,
)
claim(
    "the suppressor writes a latest name down by more than a logit though nobody is repeated",
    latest["nobody repeated, C latest"].writes["C"] < -1,
)
claim(
    "a repeated name that is not the latest is the likeliest of the three, by half a logit",
    _aac["A"] > max(_aac["B"], _aac["C"]) + 0.5
    and _bbc["B"] > max(_bbc["A"], _bbc["C"]) + 0.5,
)
claim(
    "repetition adds to the margin: it is larger by more than a logit",
    _margin_abb > _margin_abc + 1,
)

# %% [markdown] id="latest-seen"
# <details><summary>What you should see</summary>
#
# With nobody repeated, the latest name is still pushed down: {{seen:latest_abc}} logits above an average name, while the other two have {{seen:others_abc}}. That is as low as the subject of the original task ({{seen:latest_abb}}). {{seen:suppressor}} writes it down by {{seen:suppresses_abc}} logits; with a repeated subject it was {{seen:suppresses_abb}}.
#
# And a repeated name that is *not* the latest is not ruled out at all. In the two forms with *friends* it becomes the model's first choice, with {{seen:repeated_not_latest}} logits, whichever of the two it is, and the latest, said once, is last ({{seen:latest_there}}). How far this goes depends on the sentence. In eight others of that kind the repeated name was above the latest every time, but in two of them the third name was above both.
#
# Is it the latest name, then? Not quite. In the last two forms a repeated name and a new one both come late, and each acts once. Both times {{seen:suppressor}} looks more at the *repeated* one ({{seen:late_looks}} of its attention, and {{seen:late_looks_new}} at the new one), and writes it down further ({{seen:late_writes}} logits, and {{seen:late_writes_new}}).
#
# So the largest head does not *wait* for a repetition: a late name is enough. But between late names, repetition decides, and who acts does not. In our task both point to the same name, and that gives the right answer. Over the whole model, repetition widens the margin between the names from {{seen:margin_abc}} to {{seen:margin_abb}} logits. The clean/corrupted pair alone could never have shown this, however many heads we had patched.
# </details>
#
# *Reflect.* What would the three numbers of the second line have been if the model looked for the name that was said twice?

# %% [markdown] id="part-7"
# ## 7. Who tells whom?
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
with torch.no_grad():
    few_clean, few_corrupted = (model.run_with_cache(x[FEW])[1] for x in (clean, corrupted))


def few_metric(logits):
    return difference_of(logits, answers[FEW], last[FEW]).mean().item()


def along_path(patch, *ends):
    """What your function gives for this path, as a share of the way from corrupted to clean."""
    value = patch(model, corrupted[FEW], few_corrupted, few_clean, *ends, few_metric)
    return study.share(value, corrupted_difference[FEW], clean_difference[FEW])


straight = {head: along_path(lesson.use("path_patch_to_logits"), head) for head in found}
held = dict(zip(found, patching.attention_held(model, *few, found), strict=True))
rows = {named(head): [heads.values[head], straight[head], held[head]] for head in found}
show.table(rows, ["whole", "straight to the logits", "attention held"], sign=True)

# %% [markdown] id="paths-between"
# Some heads do not speak to the logits at all, and have no effect while all attention is held where it was. Everything they do passes through somebody else's pattern. Whose? A path can end in another head: in its query, where it decides where that head looks, in its keys, or in its values, which decide what it carries.

# %% [markdown] id="ask-path_patch_to_query"
# {{exercise path_patch_to_query}}


# %% id="answer-path_patch_to_query"
def path_patch_to_query(
    model,
    tokens: Int[Tensor, "batch pos"],
    corrupted_cache,
    clean_cache,
    sender: tuple[int, int],
    receiver: tuple[int, int],
    metric,
) -> float:
    """The metric when the receiver's query sees the sender's clean output, directly and nothing else of it.

    tokens: the corrupted ones. sender, receiver: (layer, head). metric: maps logits to a float.
    """
    # BEGIN SOLUTION
    (layer, head), (at, receiving) = sender, receiver
    z, q = f"blocks.{layer}.attn.hook_z", f"blocks.{at}.attn.hook_q"
    change = (clean_cache[z] - corrupted_cache[z])[:, :, head] @ model.blocks[layer].attn.W_O[
        head
    ]
    kept = {}

    def add(resid, hook):
        return resid + change

    def record(query, hook):
        kept["q"] = query.clone()

    def replace(query, hook):
        query[:, :, receiving] = kept["q"][:, :, receiving]
        return query

    with torch.no_grad():
        model.run_with_hooks(
            tokens, fwd_hooks=[(f"blocks.{at}.hook_resid_pre", add), (q, record)]
        )
        return metric(model.run_with_hooks(tokens, fwd_hooks=[(q, replace)]))
    # END SOLUTION


lesson.check(path_patch_to_query)

# %% [markdown] id="predict-paths"
# **Predict:** the name mover looks at the indirect object. Who tells it where that is?

# %% id="use-paths-between"
mover = max(found, key=lambda head: copying[head][0])
to_query = lesson.use("path_patch_to_query")
print(f"into the query of the name mover {named(mover)}, by your function:")
for sender in [*[head for head in found if head[0] < mover[0]][:4], (14, 3)]:
    print(f"  from {named(sender)} {along_path(to_query, sender, mover):+.2f}")

# All senders at once, by the engine: into the mover's query, and into two values.
carrier, edges = max((h for h in found if abs(straight[h]) < 0.02), key=by_z.get), []
for receiver, part in ((mover, "q"), (carrier, "v"), (suppressor, "v")):
    best = study.paths_into(model, *few, receiver, part)
    edges += [(sender, receiver, value) for sender, value in best]
    said = ", ".join(f"{named(sender)} {value:+.2f}" for sender, value in best)
    print(f"into the {part} of {named(receiver)}: {said or 'nobody sends more than 0.02'}")

# %% id="claims-paths-seen" tags=["claims"]
_direct = [h for h in found if abs(straight[h]) > 0.8 * abs(heads.values[h])]
_silent = [h for h in found if abs(straight[h]) < 0.02]
_of_mover = [(s, v) for s, r, v in edges if r == mover]
_of_carrier = [(s, v) for s, r, v in edges if r == carrier]
lesson.seen("speak", [named(h) for h in _direct])
lesson.seen("silent", [named(h) for h in _silent])
lesson.seen("silent_worth", [heads.values[h] for h in _silent], ".2f")
lesson.seen("held_grows", held[suppressor], ".2f")
lesson.seen("held_whole", heads.values[suppressor], ".2f")
lesson.seen("tell_mover", [f"{named(s)} ({v:+.2f})" for s, v in _of_mover])
lesson.seen("carrier", named(carrier))
lesson.seen("tell_carrier", [f"{named(s)} ({v:+.2f})" for s, v in _of_carrier])
claim(
    "the silent heads write less than 0.02 to the logits and less than 0.05 with attention held, yet are worth 0.1 or more",
    all(abs(held[h]) < 0.05 and heads.values[h] > 0.1 for h in _silent) and len(_silent) == 3,
)
claim(
    "the suppressor's effect grows by a fifth if attention is held",
    held[suppressor] > 1.2 * heads.values[suppressor],
)
claim(
    "the carrier tells the name mover where to look", _of_mover and _of_mover[0][0] == carrier
)
claim(
    "no head sends 0.02 into the value of the suppressor",
    not [s for s, r, _ in edges if r == suppressor],
)

# %% [markdown] id="paths-seen"
# <details><summary>What you should see</summary>
#
# {{seen:speak}} act straight on the logits: the direct path has nearly all of their effect or more. {{seen:silent}} write nothing to the logits, though they are worth {{seen:silent_worth}}. With all attention held they do nothing at all.
#
# The query of the name mover hears from {{seen:tell_mover}}. Such heads look at the subject and tell the name mover where *not* to look; in GPT-2 they are called S-inhibition heads. {{seen:carrier}} in turn carries, by value, what others have written at the second subject: {{seen:tell_carrier}}. One of these is the induction head, which has nothing to find where no name comes again.
#
# And who informs {{seen:suppressor}}? No head sends more than $0.02$ into its value. It looks at the latest name in both runs and reads the word that stands there. With attention held its effect *grows*, from {{seen:held_whole}} to {{seen:held_grows}}: later heads look elsewhere once it has written, and take part of it back.
#
# A path into a value reaches all three heads that share it. And here MLPs are frozen as well. Wang et al. let them react, so their path effects and ours are not the same quantity.
# </details>

# %% [markdown] id="part-8"
# ## 8. A circuit, and how good it is
#
# So far you patched clean into corrupted: **denoising**. It shows which heads are *enough* to bring the difference back. A head that does the same in both runs can be indispensable all the same: patching it changes nothing, because both runs hold the same value.
#
# So break the clean run instead. But with what? Wang et al. use prompts with three different names (**ABC**): nobody is named twice. Put each head's mean over such prompts in its place, and whatever it knew about *this* prompt is gone.

# %% [markdown] id="ask-mean_ablate"
# {{exercise mean_ablate}}


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

# %% [markdown] id="estimate-intro"
# Ablating each of 270 heads takes 270 runs. An estimate takes two. For a small step the metric moves by the gradient times the step; take the whole step at once, and you have **attribution patching** (Nanda 2023; Syed et al. 2023). It works for any patch: clean into corrupted, or mean into clean.

# %% [markdown] id="ask-attribution_patching"
# {{exercise attribution_patching}}
#
# The names say clean and corrupted, but any two runs will do: `clean_z` is what is patched in, `corrupted_z` and `gradient` belong to the run that is patched into. The metric is already a mean over the batch, so sum.


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

# %% id="use-ablation"
abc_texts = ioi.abc_prompts([name for pair in ioi.NAME_PAIRS for name in pair], TEMPLATE)
abc_mean = patching.head_means(model, abc_texts)  # layer pos head d_head
estimate_of, ablate = lesson.use("attribution_patching"), lesson.use("mean_ablate")
estimates = study.first_orders(model, clean, metric, abc_mean, estimate_of)
first_order, between = estimates[0], estimates[1] - estimates[2]  # IO first, IO second
chosen = list(dict.fromkeys([*strongest(first_order, 6), *strongest(between, 6)]))[:9]
exact = patching.ablate_each(model, clean_texts, metric, chosen, means=abc_mean)
lost = dict(zip(chosen, exact - clean_difference, strict=True))
rows = {named(h): [*(x[h] for x in estimates), *by_order(lost[h])] for h in chosen}
columns = ["first order", "IO first", "IO second", "exact", "IO first", "IO second"]
print(show.table(rows, columns, title="What is lost without a head (logits)", sign=True))

pair = (mover, suppressor)
without = {h: study.run_without(model, clean, h, abc_mean, ablate) for h in pair}
by_hook = (difference_of(without[suppressor][0], answers, last) - clean_difference).mean()
print(f"{named(suppressor)} by your hook: {by_hook:+.2f}")

# %% id="use-slopes"
silent = min((h for h in found if abs(straight[h]) < 0.02), key=lambda h: h[0])
along = {head: patching.slopes(model, *few, head, steps=3) for head in (silent, found[1])}
rows = {named(head): [*along[head], heads.values[head]] for head in along}
columns = ["at the start", "half-way", "at the end", "exact"]
show.table(rows, columns, title="Clean into corrupted: the slope on the way", sign=True)

# %% id="claims-ablation-seen" tags=["claims"]
_late = [h for h in lost if h[0] >= 23]
_order = [h for h in _late if by_order(lost[h])[1] > 0.25 and by_order(lost[h])[2] < 0.1]
_early = max(
    (h for h in lost if h[0] < 16), key=lambda h: abs(first_order[h] - lost[h].mean())
)
_along = [along[silent][0], along[silent][-1]]
lesson.seen("order_heads", [named(h) for h in _order])
lesson.seen("order_1", [by_order(lost[h])[1] for h in _order], "+.1f")
lesson.seen("order_2", [by_order(lost[h])[2] for h in _order], "+.1f")
lesson.seen("wrong_estimate", named(_early))
lesson.seen("wrong_estimate_is", [first_order[_early], lost[_early].mean()], "+.1f")
lesson.seen("curved", named(silent))
lesson.seen("curved_slopes", _along, ".2f")
claim(
    "for late heads the first order is within 0.3 logits of the exact loss",
    all(abs(first_order[h] - lost[h].mean()) < 0.3 for h in _late),
)
claim(
    "at least one late head is better lost with IO first, by 0.25, and not with IO second",
    len(_order) >= 1,
)
claim(
    "the worst early estimate is off by more than 0.4 logits",
    abs(first_order[_early] - lost[_early].mean()) > 0.4,
)
claim(
    "the silent head's last slope is more than 1.4 times its first",
    _along[1] > 1.4 * _along[0],
)

# %% [markdown] id="ablation-seen"
# <details><summary>What you should see</summary>
#
# The control of section $2$ pays off once more. Without {{seen:order_heads}} the model does *better* if the indirect object comes first ({{seen:order_1}} logits), and not if it comes second ({{seen:order_2}}). With prompts of one order you would have called them heads that work against the answer.
#
# How good is the estimate? For late heads it is close. {{seen:wrong_estimate}} is the bad case: estimate and exact loss are {{seen:wrong_estimate_is}} logits. A head that acts by moving *another* head's attention meets a softmax, which is flat at the ends: one gradient sees little of what lies between (Kramár et al. 2024). {{seen:curved}} shows the bend: moved from its corrupted to its clean output, its first and last slope are {{seen:curved_slopes}}. The mean slope, the *integrated gradient* (Sundararajan et al. 2017), comes close to the exact effect.
# </details>

# %% [markdown] id="faithfulness-intro"
# A circuit is a claim: *these* heads do it. The test: set all others to their ABC mean, and see what is left. **Faithfulness** is your `recovery` with other ends: $0$ for a model without any head, $1$ for all of them. More than $1$ is not better.
#
# **Predict:** which ranking gives the most faithful circuits: by denoising, by the absolute first-order effect of ablation, or by that effect with its sign, so that only heads that help come in? And how many heads does it take?

# %% id="use-rankings"
task, sizes = ioi.ioi_task(model, [TEMPLATE], ioi.NAME_PAIRS[:4]), (2, 5, 12, 30)
rankings = {
    "denoising": ranking(heads.values.abs()),
    "ablation, absolute": ranking(first_order.abs()),
    "ablation, helping": ranking(-first_order),
}
rows = {name: task.scores([order[:n] for n in sizes]) for name, order in rankings.items()}
show.table(rows, [f"{n} heads" for n in sizes], title="Faithfulness on four pairs of names")

# %% [markdown] id="ask-my_circuit"
# ### Your circuit
#
# {{exercise my_circuit}}
#
# Use what you like: a ranking, the roles that you found, `task.score(heads)` on your own prompts.

# %% id="answer-my_circuit"
# BEGIN SOLUTION
my_circuit = ranking(-first_order)[:5]
# END SOLUTION

lesson.check(my_circuit, name="my_circuit")

# %% [markdown] id="held-out-intro"
# Now the truth about all of them, on the prompts that you were judged by: other names, other templates. And a control that is often left out. Random sets of heads come in two kinds, those that happen to contain the one strongest head and those that do not. `mi_course.interp.ioi.random_scores()` has ten of each size, measured on the same prompts.

# %% id="use-held-out"
held_out, chance = ioi.smollm2_held_out(), ioi.random_scores()
curve_sizes, curves = sorted(chance), {}
for name, order in rankings.items():
    curves[name] = held_out.scores([order[:n] for n in curve_sizes])
print(study.faithfulness_by_size(curve_sizes, curves))

circuit = [tuple(head) for head in lesson.use("my_circuit")]
alone, graph_score, my_score = held_out.scores([[suppressor], found, circuit])
drops, my_rest = held_out.drops(found), held_out.completeness(circuit)
print(f"your {len(circuit)} heads {my_score:.2f}, all others without them {my_rest:.2f}")
print(f"the eight with roles {graph_score:.2f}, {named(suppressor)} alone {alone:.2f}")
print(
    "lost without one of the eight:", {named(h): f"{drop:+.2f}" for h, drop in drops.items()}
)
further = {name: task.score(circuit) for name, task in ioi.further_tasks().items()}
show.table(further, ["your circuit keeps"], title="Is that a number of the circuit?")

# %% id="held-out-picture" tags=["not-compared"]
title = "Faithfulness by size: three rankings, and chance"
study.draw_sizes(curve_sizes, curves | ioi.chance_bands(), title)

# %% id="circuit-picture" tags=["not-compared"]
title = f"These eight heads keep {graph_score:.2f}, {named(suppressor)} alone {alone:.2f} of the task"
caption = "Paths as measured in section 7. Red: against the answer."
study.draw_circuit(found, copying, straight, edges, title=title, caption=caption)

# %% id="claims-circuit-seen" tags=["claims"]
_at = {n: i for i, n in enumerate(curve_sizes)}
_help, _abs, _den = (
    curves["ablation, helping"],
    curves["ablation, absolute"],
    curves["denoising"],
)
lesson.seen("alone", alone, ".2f")
lesson.seen("mine", my_score, ".2f")
lesson.seen("mine_size", len(circuit))
lesson.seen("mine_rest", my_rest, ".2f")
lesson.seen("mine_further", list(further.values()), ".2f")
lesson.seen("helping_curve", [_help[_at[n]] for n in (3, 20, 40)], ".2f")
lesson.seen("absolute_curve", [_abs[_at[n]] for n in (3, 10, 40)], ".2f")
lesson.seen("denoising_curve", [_den[_at[n]] for n in (3, 40)], ".2f")
lesson.seen("chance_without", max(chance[20][0]), ".2f")
lesson.seen("chance_with", [min(chance[20][1]), max(chance[20][1])], ".2f")
lesson.seen("eight", graph_score, ".2f")
lesson.seen("needed", [named(h) for h in found if drops[h] > 0.1])
lesson.seen("not_needed", [named(h) for h in found if abs(drops[h]) < 0.05])
_idle = [h for h in found if abs(drops[h]) < 0.05 and h in lost]
lesson.seen("idle", [named(h) for h in _idle])
lesson.seen("idle_lost", [lost[h].mean() for h in _idle], "+.1f")
claim(
    "two heads that the eight can do without cost the whole model more than a logit each",
    len(_idle) >= 2 and all(lost[h].mean() < -1 for h in _idle),
)
claim("one head alone keeps more than half of the task on held-out prompts", alone > 0.6)
claim(
    "the circuit of the solution is within 0.15 of 1, and all other heads without it keep nothing: they score below 0",
    abs(my_score - 1) < 0.15 and my_rest < 0,
)
claim(
    "on two further sets of prompts it keeps 0.6 to 1.3, and on one of them 0.1 less than held out",
    0.6 < min(further.values()) < my_score - 0.1 and max(further.values()) < 1.3,
)
claim(
    "no random set of 20 without the strongest head reaches a random set's best with it; the bands' medians are 0.2 apart",
    max(chance[20][0]) < max(chance[20][1]) and chance[20][1][5] - chance[20][0][5] > 0.2,
)
claim("the helping ranking overshoots at 40 heads", _help[_at[40]] > 1.2)
claim(
    "the absolute ranking falls by 0.1 or more between 3 and 10 heads",
    _abs[_at[3]] - _abs[_at[10]] > 0.1,
)
claim(
    "denoising is worse with forty heads than with three", _den[_at[40]] < _den[_at[3]] - 0.3
)
claim(
    "three or more of the eight can go at a cost below 0.05",
    sum(abs(d) < 0.05 for d in drops.values()) >= 3,
)

# %% [markdown] id="circuit-seen"
# <details><summary>What you should see</summary>
#
# On prompts that no ranking has seen, **one head alone keeps {{seen:alone}} of the task**. That is the finding of section $6$ in another form: who suppresses the name said late has most of the answer. The solution's circuit has {{seen:mine_size}} heads and keeps {{seen:mine}}; all the other heads without it score {{seen:mine_rest}}: they do nothing for the task by themselves, and a little against it. But that number is one of circuit *and* prompts. With the names of the two templates exchanged, and with two more templates and other names, the same heads keep {{seen:mine_further}}. Read no more than a rough size from a single set, and nothing from differences of a tenth.
#
# More heads are not better. By denoising, three heads are better than $40$: {{seen:denoising_curve}}. By the absolute effect it falls and rises again, {{seen:absolute_curve}} at the sizes $3, 10, 40$, as heads that work against the answer come in before those that balance them. Helping heads only give {{seen:helping_curve}} at $3, 20, 40$: in the end they do the task more strongly than the model does.
#
# Chance needs its own control. Without the strongest head, no random set of $20$ keeps more than {{seen:chance_without}}. With it, the worst and the best keep {{seen:chance_with}}. A set that beats "random" may only contain that one head.
#
# The graph is what was tested, no more and no less: its eight heads keep {{seen:eight}}. {{seen:needed}} are needed; without {{seen:not_needed}} nothing is lost. But look again at the table of exact losses: to the *whole* model, {{seen:idle}} are worth {{seen:idle_lost}} logits. A circuit in which they are idle is not how the model uses them. Wang et al. (2022, section 4) call this test completeness: circuit and model should suffer alike from the loss of a head. These eight fail it. A number near $1$ is partly two errors that cancel: a small circuit leaves out the name mover and the heads that work against it, and loses neither. Faithfulness is necessary, not enough.
# </details>
#
# *Reflect.* Your circuit passed on unseen names and templates, and beat random sets. What result would have made you say that it is *not* how the model does it?

# %% [markdown] id="part-9"
# ## 9. Is there a backup?
#
# In GPT-2 other heads step in when a name mover is removed (Wang et al. 2022, section 3.4). If so, removing a head costs *less* than its direct effect says. To see who steps in, split what changes: each part's direct effect at the old scale, and the rest, which is the final norm's.

# %% [markdown] id="ask-self_repair"
# {{exercise self_repair}}


# %% id="answer-self_repair"
def self_repair(
    before: Float[Tensor, "part batch d_model"],
    after: Float[Tensor, "part batch d_model"],
    scale_before: Float[Tensor, "batch 1"],
    scale_after: Float[Tensor, "batch 1"],
    directions: Float[Tensor, "batch d_model"],
) -> tuple[Float[Tensor, "part"], float]:
    """How the logit difference changes: (by each part, by the final norm), batch means in logits.

    before, after: what each part writes at the last position, without and with the ablation. The logit difference is
    (sum of the parts · direction) / scale. Parts change at the old scale; then the scale changes.
    """
    # BEGIN SOLUTION
    changes = ((after - before) * directions / scale_before).sum(-1).mean(-1)
    total = (after.sum(0) * directions).sum(-1, keepdim=True)
    return changes, (total / scale_after - total / scale_before).mean().item()
    # END SOLUTION


lesson.check(self_repair)

# %% [markdown] id="predict-repair"
# **Predict:** remove the name mover, and remove the suppression head. In which case do others make up for it: heads, MLPs, the norm?

# %% id="use-backup"
repair, rows, repair_of = {}, {}, lesson.use("self_repair")
for head, (logits, ablated) in without.items():
    scales = (scale, ablated["ln_final.hook_scale"][:, -1])
    split = repair_of(parts, ioi.parts_at_end(model, ablated), *scales, directions)
    repair[head] = study.repair_of_parts(*split, head)
    *numbers, who = repair[head].values()
    measured = (difference_of(logits, answers, last) - clean_difference).mean()
    rows[f"without {named(head)}"] = [*numbers, sum(numbers), measured]
    print(f"without {named(head)}:", {named(h): f"{who[h]:+.2f}" for h in strongest(who, 3)})
show.table(rows, ["own", "other heads", "MLPs", "norm", "sum", "measured"], sign=True)

# %% id="claims-backup-seen" tags=["claims"]
_m, _s = repair[mover], repair[suppressor]
_first = strongest(_m["who"], 1)[0]
_three = strongest(_s["who"], 3)
lesson.seen("mover_own", _m["own"], "+.1f")
lesson.seen("mover_repair", [_m["heads"], _m["norm"]], "+.1f")
lesson.seen("mover_total", abs(sum(v for k, v in _m.items() if k != "who")), ".1f")
lesson.seen("repairer", named(_first))
lesson.seen("s_own", _s["own"], "+.1f")
lesson.seen("s_heads", _s["heads"], "+.1f")
lesson.seen("s_mlps", _s["MLPs"], "+.1f")
lesson.seen("s_total", sum(v for k, v in _s.items() if k != "who"), "+.1f")
lesson.seen("s_up", [named(h) for h in _three if _s["who"][h] > 0])
lesson.seen("s_down", [named(h) for h in _three if _s["who"][h] < 0])
claim(
    "removing the name mover costs less than a quarter of its direct effect",
    abs(sum(v for k, v in _m.items() if k != "who")) < 0.25 * abs(_m["own"]),
)
claim(
    "most of that repair is one negative head that writes less",
    _m["who"][_first] > 0.6 * _m["heads"] and copying[_first][1] > 0.5,
)
claim(
    "removing the suppressor costs at least its direct effect: the reactions cancel or worse",
    sum(v for k, v in _s.items() if k != "who") < _s["own"],
)
claim(
    "heads react to it in both directions, by half a logit each",
    max(_s["who"].flatten()) > 0.4 and min(_s["who"].flatten()) < -0.4,
)

# %% [markdown] id="backup-seen"
# <details><summary>What you should see</summary>
#
# **Without the name mover** the model loses its direct part ({{seen:mover_own}}) and gets nearly all of it back: other heads and the norm give {{seen:mover_repair}}. What is lost in the end is {{seen:mover_total}} logits. Nobody takes over its work. {{seen:repairer}}, which suppresses names that have been written already, finds less to suppress. In GPT-2 the same mechanism explains part of the self-repair (39 % in one narrow task, McDougall et al. 2023). The norm repairs too: without the head the stream is shorter, so everything else counts for more (Rushing and Nanda 2024).
#
# **Without the suppression head** there is no repair. The direct part is {{seen:s_own}}; other heads give back {{seen:s_heads}}, the MLPs take {{seen:s_mlps}}, and in sum the loss is {{seen:s_total}}. "No reaction" would be the wrong conclusion: {{seen:s_up}} write less against the answer, {{seen:s_down}} less for it. A total hides what cancels.
# </details>

# %% [markdown] id="part-10"
# ## 10. Three choices that decide the result
#
# Every number above rests on a choice. Change each, and look.

# %% id="use-misleads"
# The wrong mean: over prompts in which somebody is named twice. It keeps part of the task.
means = {"ABC mean": abc_mean, "clean mean": patching.head_means(model, clean_texts)}
means["zero"] = torch.zeros_like(abc_mean)
top, by_mean, rows = ranking(first_order.abs())[:10], {}, {}
for name, mean in means.items():
    kept, nothing = patching.mean_ablations(model, *few[::2], [top, []], means=mean)
    by_mean[name] = study.share(kept.mean(), nothing, clean_difference[FEW])
    rows[name] = [by_mean[name], *by_order(nothing)[1:]]
columns = ["ten heads keep", "no head: logits, IO first", "IO second"]
print(show.table(rows, columns, title="Mean taken over", sign=True))


# The wrong metric: the probability of the right name saturates.
def probability(logits):
    return logits.softmax(-1).gather(-1, answers[FEW][:, :1]).squeeze(-1)


by_probability = patching.patch_heads(model, *few[:2], probability, found).values
rows = {named(h): [heads.values[h], p] for h, p in zip(found, by_probability, strict=True)}
show.table(rows, ["of the logit difference", "of the probability"], sign=True)

# %% id="claims-misleads-seen" tags=["claims"]
_invisible = [h for h, p in zip(found, by_probability, strict=True) if abs(p) < 0.02]
lesson.seen("invisible", [named(h) for h in _invisible])
lesson.seen("invisible_worth", [heads.values[h] for h in _invisible], "+.2f")
lesson.seen("by_mean", list(by_mean.values()), ".2f")
claim(
    "three or more of the eight heads have less than 0.02 of the probability",
    len(_invisible) >= 3,
)
claim(
    "the clean mean keeps 0.1 more than the ABC mean, and that 0.3 more than zero",
    by_mean["clean mean"] - 0.1 > by_mean["ABC mean"] > by_mean["zero"] + 0.3,
)

# %% [markdown] id="misleads-seen"
# <details><summary>What you should see</summary>
#
# **What replaces a head decides.** The same ten heads score {{seen:by_mean}} with the ABC mean, the mean over the clean prompts themselves, and zero. (Other names and templates give other numbers, in the same order.) Zero is a state that the model has never been in; a mean over prompts in which somebody *is* named twice hands part of the task to every head outside the circuit.
#
# **The metric decides.** By the probability of the right name, {{seen:invisible}} have almost no effect, though they are worth {{seen:invisible_worth}} of the logit difference. Nothing happens to a probability until the logit difference is near zero.
#
# **The pair decides.** What clean and corrupted prompts share cannot show. That was section $6$.
# </details>

# %% [markdown] id="online-intro"
# ### The published circuit, if you are online
#
# The same engine runs on GPT-2 small. Wang et al. name 9.9, 9.6 and 10.0 as name movers, 10.7 and 11.10 as negative ones, 7.3, 7.9, 8.6 and 8.10 as S-inhibition heads. Without network the cell says so.

# %% id="use-gpt2" tags=["online"]
try:
    gpt2 = mi_course.load_model("gpt2")
    answers_gpt2 = patching.logit_difference(names[FEW], gpt2)
    print(patching.sweep_heads(gpt2, *few[:2], answers_gpt2, progress=False).top(9))
except Exception as error:
    print(f"GPT-2 is not here ({type(error).__name__}). This part alone needs a network.")

# %% id="claims-recap" tags=["claims"]
claim(
    "the largest effect belongs to a head that suppresses a late name, repeated or not",
    copying[suppressor][1] > 0.9
    and latest["nobody repeated, C latest"].writes["C"] < -1
    and alone > 0.6,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You measured a behavior with one number, built pairs of prompts that differ in one word, and saw where the deciding information sits and between which layers it moves. You found heads by patching, and named them by where they look, what they write and what their weights copy. The largest, {{seen:suppressor}}, does not move the answer: it suppresses a name said late, and alone it keeps {{seen:alone}} of the task on the held-out prompts. Experiments outside the clean/corrupted pair were needed to see that it does not wait for a repetition, though it prefers one.
#
# You followed single paths, estimated every patch from one gradient and saw where that fails, and tested circuits on prompts they were not made from, against chance with and without the strongest head. You removed a head and saw who made up for it.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Heimersheim and Nanda 2024, *How to Use and Interpret Activation Patching*. Twelve pages on what a patch does and does not show.
