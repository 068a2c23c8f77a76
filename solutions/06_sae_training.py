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
# You will build sparse autoencoders of five kinds, train them until they find directions that you have hidden yourself, learn which numbers about them lie, and then train one on a real language model, splice it in, and look at what it found.
#
# About {{minutes}} minutes · {{points}} points · after lesson 05. The last part uses SmolLM2-135M-Instruct; its residual stream is the same with and without compatibility mode. Sources: Bricken et al. 2023; Conerly et al. 2024 (the penalty weighted by norms); Rajamanoharan et al. 2024a (Gated) and 2024b (JumpReLU); Gao et al. 2024 (TopK); Bussmann et al. 2024 (BatchTopK); Chanin et al. 2024 (absorption).

# %% id="setup"
import torch
import mi_course

lesson = mi_course.lesson("sae_training")

# %% [markdown] id="part-1"
# ## 1. Sixty-four directions in thirty-two dimensions
#
# A model with d dimensions can use more than d directions, as long as few are in use at a time (lesson 05). From outside we only see the sums. Can the directions be found again?
#
# With a real model nobody knows the answer, so begin where we do. Here are 40,000 activations of 32 numbers. Each is a sum of about four out of 64 hidden unit directions, some ten times as common as others, plus a fixed vector and a little noise. The features come and go independently of each other: that is the easy case, and section 9 has a harder one. **Predict:** will principal components find the directions?

# %% id="planted"
from mi_course.interp.sae import experiments as runs

D, FEATURES, LATENTS = runs.D, runs.FEATURES, runs.LATENTS  # 32, 64, 96
seen, held_out = runs.planted()
dictionary = seen.dictionary
present = (held_out.codes > 0).float().sum(dim=1)
print(f"activations {tuple(seen.x.shape)}, dictionary {tuple(dictionary.shape)}")
print(
    f"features present in a row: {present.mean():.1f} on average, at most {present.max():.0f}"
)

# %% [markdown] id="ask-mean_max_cosine"
# To judge a finding you need a number. Sharkey et al. (2022) take, for each true direction, the latent that points most nearly the same way.
#
# {{exercise mean_max_cosine}}
#
# The latents are the rows of `W_dec`. Several directions may share one latent. Rows of both may have any length. Signs matter: the opposite direction is not a find, and the best cosine may be negative.

# %% id="answer-mean_max_cosine"
from jaxtyping import Bool, Float
from torch import Tensor


def mean_max_cosine(W_dec: Float[Tensor, "F d"], dictionary: Float[Tensor, "G d"]) -> float:
    """Mean over the dictionary's rows of the best signed cosine among the latents. A zero latent counts as cosine 0."""
    # BEGIN SOLUTION
    latents = torch.nn.functional.normalize(W_dec, dim=-1)
    features = torch.nn.functional.normalize(dictionary, dim=-1)
    return float((features @ latents.T).max(dim=-1).values.mean())
    # END SOLUTION


lesson.check(mean_max_cosine)

# %% id="use-mean_max_cosine"
cosine_with = lesson.use("mean_max_cosine")
guesses = {name: cosine_with(rows, dictionary) for name, rows in runs.candidates(seen).items()}
for name, cosine in guesses.items():
    print(f"{name:<34} {cosine:.2f}")

# %% id="claims-planted-seen" tags=["claims"]
from mi_course import claim

random, principal, rows_of_x, _ = guesses.values()
lesson.seen("cosine_random", random, ".2f")
lesson.seen("cosine_principal", principal, ".2f")
claim(
    "principal components score at most 0.1 more than random directions",
    principal < random + 0.1,
)
claim("activations come closer than both, by 0.1", rows_of_x > max(random, principal) + 0.1)

# %% [markdown] id="planted-seen"
# <details><summary>What you should see</summary>
#
# Random directions have {{seen:cosine_random}}: with so many in so few dimensions, they are never far from anything. Principal components hardly do better ({{seen:cosine_principal}}). They are at right angles to each other, and there are more directions than dimensions. Activations themselves come closer, because a row that holds one or two features resembles them. Remember the first number. It is what *nothing* scores here.
# </details>

# %% [markdown] id="part-2"
# ## 2. The ReLU autoencoder, term by term
#
# Each row is a sum of a few directions, never with a negative sign. So let an encoder say how much of each of F directions is present, and a decoder add them up: $\hat x = f\,W_{dec} + b_{dec}$, where row i of $W_{dec}$ is the direction of latent i. A latent is **active** in a row where its $f_i$ is above zero.
#
# **By hand, once.** x = (3, 1), b_dec = (1, 1), two latents. The columns of W_enc are (1, 0) and (0, 1), b_enc = (−0.5, −0.5), and the rows of W_dec are (1, 0) and (0, 1). Then x − b_dec = (2, 0), the pre-activations are (1.5, −0.5), f = (1.5, 0), and the reconstruction is (2.5, 1). It is too short by 0.5 in the one direction that was there. Keep that in mind.

# %% [markdown] id="ask-encode"
# {{exercise encode}}
#
# The result has the shape (batch, F). There may be a single row, one latent, one dimension.


# %% id="answer-encode"
def encode(
    x: Float[Tensor, "batch d"],
    W_enc: Float[Tensor, "d F"],
    b_enc: Float[Tensor, "F"],
    b_dec: Float[Tensor, "d"],
) -> Float[Tensor, "batch F"]:
    """How strongly each latent is present in each row: never negative, mostly zero."""
    # BEGIN SOLUTION
    return ((x - b_dec) @ W_enc + b_enc).relu()
    # END SOLUTION


lesson.check(encode)

# %% [markdown] id="ask-sae_loss"
# Two wishes: rebuild x, and use few latents. The number of active latents has no gradient, so the sum of their activations stands in for it (L1).
#
# {{exercise sae_loss}}
#
# Return both terms, as scalar tensors with gradients, the error first. Each is **summed** over its last axis, d or latents, and then a **mean** over the batch. ‖W_dec,i‖ is the norm of row i. Why the norms (Conerly et al. 2024)? Try to cheat the penalty without them; in a moment you will see a model do it.


# %% id="answer-sae_loss"
def sae_loss(
    x: Float[Tensor, "batch d"],
    x_hat: Float[Tensor, "batch d"],
    f: Float[Tensor, "batch F"],
    W_dec: Float[Tensor, "F d"],
    l1: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(reconstruction, sparsity), each a mean over the batch, and differentiable.

    reconstruction: squared error summed over d. sparsity: l1 times the sum over latents of f_i times the norm of row i.
    """
    # BEGIN SOLUTION
    error = (x - x_hat).pow(2).sum(dim=-1).mean()
    penalty = l1 * (f * W_dec.norm(dim=-1)).sum(dim=-1).mean()
    return error, penalty
    # END SOLUTION


lesson.check(sae_loss)

# %% [markdown] id="two-numbers"
# ### Two numbers to watch
#
# **L0**, the mean number of active latents in a row, is one line: `(f > 0).float().sum(dim=1).mean()`. The other is yours.

# %% [markdown] id="ask-explained_variance"
# {{exercise explained_variance}}
#
# The sums run over all rows and dimensions, so there is one ratio. It may be negative. The rows of x are never all the same.


# %% id="answer-explained_variance"
def explained_variance(x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"]) -> float:
    """Share of the variance that is rebuilt: 1 is perfect, 0 is as good as the mean row, below 0 is worse."""
    # BEGIN SOLUTION
    error = (x - x_hat).pow(2).sum()
    total = (x - x.mean(dim=0)).pow(2).sum()
    return float(1 - error / total)
    # END SOLUTION


lesson.check(explained_variance)

# %% [markdown] id="fit-intro"
# Now train, with your functions and Adam: 700 steps of 1,024 rows. Nobody tells the model what the directions are. The picture shows the mean max cosine on the way, which only we can know. It should begin where random directions are. (In the first draft of this lesson it began at 1.00: dictionary and autoencoder had been drawn with the same seed, so the start *was* the answer, and every table below looked splendid. The left end of this curve is the control.)

# %% id="fit" tags=["not-compared"]
encode, loss_of = lesson.use("encode"), lesson.use("sae_loss")
explained = lesson.use("explained_variance")
relu_sae = runs.watch_fit(encode, loss_of, seen, l1=0.2)


# %% id="fit-table" tags=["not-compared"]
def describe(name, sae):
    """One line of numbers on held-out rows."""
    f, _ = runs.rebuilt(encode, sae, held_out.x)
    measured = runs.measure(f, sae["W_dec"], sae["b_dec"], held_out)
    print(f"{name:<24} {measured}, cosine {cosine_with(sae['W_dec'], dictionary):.2f}")
    return measured


saes = {
    l1: relu_sae if l1 == 0.2 else runs.fit(encode, loss_of, seen.x, l1)
    for l1 in (0.0, 0.05, 0.2, 0.5)
}
table = {l1: describe(f"l1 = {l1}", sae) for l1, sae in saes.items()}

# %% id="claims-fit-seen" tags=["claims"]
cosines_of = [cosine_with(sae["W_dec"], dictionary) for sae in saes.values()]
lesson.seen("l0_free", table[0.0].l0, ".0f")
lesson.seen("cosine_free", cosines_of[0], ".2f")
lesson.seen("cosine_best", cosines_of[-1], ".2f")
lesson.seen("explained_best", table[0.5].explained, ".2f")
lesson.seen("l0_best", table[0.5].l0, ".1f")
lesson.seen("present", present.mean(), ".1f")
claim(
    "without a penalty more than half of the latents are active, and more than 0.99 is explained",
    table[0.0].l0 > 48 and table[0.0].explained > 0.99,
)
claim("and the cosine is within 0.1 of random directions", abs(cosines_of[0] - random) < 0.1)
claim("cosines rise with l1 over the four values", cosines_of == sorted(cosines_of))
explained_of = [row.explained for row in table.values()]
claim(
    "explained variance falls with l1 over the four values",
    explained_of == sorted(explained_of, reverse=True),
)
claim(
    "with l1 = 0.5 the cosine is above 0.97, and L0 above the number of present features by 2",
    cosines_of[-1] > 0.97 and table[0.5].l0 > present.mean() + 2,
)

# %% [markdown] id="fit-seen"
# <details><summary>What you should see</summary>
#
# Without a penalty the reconstruction is nearly perfect and nothing was found: {{seen:l0_free}} latents are active in a row, and the cosine, {{seen:cosine_free}}, is hardly better than that of random directions. With a penalty the cosine rises to {{seen:cosine_best}}: the directions are found, from sums alone. But the better the directions, the worse the reconstruction, down to {{seen:explained_best}}. (Double the penalty once more and the directions get worse again, too.) And L0 is {{seen:l0_best}}, where {{seen:present}} features are really there.
# </details>
#
# *Reflect.* The data were made the way the autoencoder assumes. What would the cosine be if the features came in fixed pairs? Would the loss tell you? (Section 9 comes back to this.)

# %% [markdown] id="part-2b"
# ### The loophole
#
# Leave the decoder's norms out of the penalty and let the decoder be free. **Predict:** what will the model do to f, and to W_dec? The third row is the other cure: no norms in the penalty, but rows of W_dec that are scaled to norm 1 after every step.

# %% id="loophole" tags=["not-compared"]
cheat, norms = {}, {}
for name, options in runs.PENALTIES.items():
    cheat[name] = runs.fit(encode, loss_of, seen.x, 0.5, **options)
    norms[name] = float(cheat[name]["W_dec"].norm(dim=1).mean())
    print(f"mean norm of a row {norms[name]:.1f}", end="   ")
    describe(name, cheat[name])

# %% id="claims-loophole-seen" tags=["claims"]
lesson.seen("long_rows", norms["norms are free"], ".1f")
f_free, _ = runs.rebuilt(encode, cheat["norms are free"], held_out.x)
f_held, _ = runs.rebuilt(encode, cheat["norms count"], held_out.x)
active_free, active_held = f_free[f_free > 0].mean(), f_held[f_held > 0].mean()
claim(
    "free rows are at least twice as long as held ones",
    norms["norms are free"] > 2 * norms["norms count"],
)
claim("and the activations less than half as large", active_free < active_held / 2)
claim(
    "more than twice as many latents are active", (f_free > 0).sum() > 2 * (f_held > 0).sum()
)

# %% [markdown] id="loophole-seen"
# Smaller f, longer rows (a mean norm of {{seen:long_rows}}): the same product, less to pay, and the penalty is on its way to meaning nothing. Two cures are in use. Weigh f_i by the norm of its row, as you did. Or keep the rows at norm $1$, as Bricken et al. (2023) do; they also take the component along the row out of the decoder's gradient, so that Adam's moments do not remember steps that the scaling undoes. Try whether that makes a difference here.

# %% [markdown] id="part-3"
# ## 3. What the penalty costs: shrinkage
#
# In the example by hand the one active latent came out at 1.5 instead of 2. Here we know every true strength, so look. **Predict:** will what the latents write lie above the line, below, or around it?

# %% id="shrinkage-picture" tags=["not-compared"]
honest = saes[0.5]
f, x_hat = runs.rebuilt(encode, honest, held_out.x)
runs.draw_strengths({"ReLU, l1 = 0.5": (f, honest["W_dec"])}, held_out)

# %% [markdown] id="ask-shrinkage"
# Without a known truth there is still a number. If all reconstructions are too short, multiplying them by something above 1 brings them nearer to x.
#
# {{exercise shrinkage}}
#
# Rajamanoharan et al. (2024a) call it relative reconstruction bias. One number for all rows; not centered, as in the paper. Raise ValueError when x_hat is zero in every entry; single zeros are allowed.


# %% id="answer-shrinkage"
def shrinkage(x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"]) -> float:
    """The γ that minimises the mean squared norm of x_hat/γ − x. Raises ValueError when x_hat is zero throughout."""
    # BEGIN SOLUTION
    if not x_hat.any():
        raise ValueError("x_hat is zero everywhere, so there is nothing to rescale.")
    return float(x_hat.pow(2).sum() / (x_hat * x).sum())
    # END SOLUTION


lesson.check(shrinkage)

# %% id="use-shrinkage" tags=["not-compared"]
gamma, mean = lesson.use("shrinkage"), held_out.x.mean(dim=0)
far = 40 * torch.nn.functional.normalize(torch.ones(D), dim=0)
gammas = [gamma(held_out.x - shift, x_hat - shift) for shift in (torch.zeros(D), mean, -far)]
print(f"as the paper defines it:               {gammas[0]:.3f}")
print(f"on centered data:                      {gammas[1]:.3f}")
print(f"the same autoencoder, mean moved by 40: {gammas[2]:.3f}")

# %% id="claims-shrinkage-seen" tags=["claims"]
lesson.seen("gamma_paper", gammas[0], ".2f")
lesson.seen("gamma_centered", gammas[1], ".2f")
lesson.seen("gamma_far", gammas[2], ".2f")
claim(
    "centered γ is below 0.85, the paper's above 0.9, and far from the origin it reads above 0.99",
    gammas[1] < 0.85 and gammas[0] > 0.9 and gammas[2] > 0.99,
)

# %% [markdown] id="shrinkage-seen"
# <details><summary>What you should see</summary>
#
# Nearly every feature comes out too weak. On centered data γ is {{seen:gamma_centered}}; by the paper's definition {{seen:gamma_paper}}, because the mean, which b_dec rebuilds without any latent, is in the average too. Move all activations far from the origin and it reads {{seen:gamma_far}}: all is well, with nothing changed in the autoencoder but one bias. Real activations are far from the origin. So center, or look at single features.
# </details>

# %% [markdown] id="cause-intro"
# ### Who shrinks, the penalty or the bias?
#
# Both are suspects. A bias of −0.5 took 0.5 off in the example by hand, and there was no penalty in it. But the encoder could have made up for that: with 1.25 in the place of 1 the latent comes out at 2. **Predict:** what happens to γ when the bias is held at zero and the penalty stays? When the penalty is lifted, and the negative biases stay?

# %% id="cause" tags=["not-compared"]
no_bias = runs.fit(encode, loss_of, seen.x, 0.5, frozen=["b_enc"])  # it starts at zero
held = {"steps": 300, "weights": honest, "frozen": ["b_enc", "W_dec", "b_dec"]}
no_penalty = runs.fit(encode, loss_of, seen.x, 0.0, **held)
cause, gain = {}, {}
for name, sae in {"both": honest, "no bias": no_bias, "penalty lifted": no_penalty}.items():
    cause[name] = describe(name, sae)
    gain[name] = float((sae["W_enc"].T * sae["W_dec"]).sum(dim=1).median())
    print(f"    encoder times decoder row: {gain[name]:.2f}")

# %% id="claims-cause-seen" tags=["claims"]
lesson.seen("gamma_no_bias", cause["no bias"].gamma, ".2f")
lesson.seen("gamma_lifted", cause["penalty lifted"].gamma, ".2f")
lesson.seen("gain_both", gain["both"], ".2f")
lesson.seen("gain_no_bias", gain["no bias"], ".2f")
lesson.seen("gain_lifted", gain["penalty lifted"], ".2f")
claim("with the penalty and no bias γ is below 0.85", cause["no bias"].gamma < 0.85)
claim(
    "with the biases and no penalty γ is above 0.97",
    cause["penalty lifted"].gamma > 0.97,
)
claim(
    "the biases that are held are negative in most latents",
    (honest["b_enc"] < 0).float().mean() > 0.6,
)
claim(
    "the encoder's gain is lowest without a bias and highest without a penalty",
    gain["no bias"] < gain["both"] < gain["penalty lifted"],
)

# %% [markdown] id="cause-seen"
# <details><summary>What you should see</summary>
#
# The penalty. Without any bias γ is just as low ({{seen:gamma_no_bias}}): the encoder then shrinks by its weights (encoder times decoder row: {{seen:gain_no_bias}}). Keep the negative biases but lift the penalty, and within a few steps the encoder makes up for them (from {{seen:gain_both}} to {{seen:gain_lifted}}), and γ returns to {{seen:gamma_lifted}}. Each unit of f costs `l1`, so the optimum is a little short; weights and biases are the two ways to get there.
#
# What remains of a bias even then: it takes the same amount off strong and weak features, and a weight cannot give that back to both.
# </details>

# %% [markdown] id="ask-undo_shrinkage"
# ### Give it back
#
# If everything is too short by about the same factor, divide by it.
#
# {{exercise undo_shrinkage}}
#
# Return `(s * W_dec, b)`: all rows of `W_dec` times *one* number s, and a bias b of shape (d,), such that $f\,(s\,W_{dec}) + b$ is nearest to x over all rows. (On centered data s is 1/γ.) s may be negative. Some latents may never be active, and d or F may be 1.


# %% id="answer-undo_shrinkage"
def undo_shrinkage(
    x: Float[Tensor, "batch d"], f: Float[Tensor, "batch F"], W_dec: Float[Tensor, "F d"]
) -> tuple[Float[Tensor, "F d"], Float[Tensor, "d"]]:
    """(s · W_dec, b): the number s and the bias b that rebuild x from f with the least squared error.

    Raises ValueError when no latent is active in any row.
    """
    # BEGIN SOLUTION
    if not f.any():
        raise ValueError("no latent is active, so there is nothing to rescale.")
    written = f @ W_dec
    away = written - written.mean(dim=0)
    s = (away * x).sum() / away.pow(2).sum()
    return s * W_dec, x.mean(dim=0) - s * written.mean(dim=0)
    # END SOLUTION


lesson.check(undo_shrinkage)

# %% id="use-undo_shrinkage" tags=["not-compared"]
undo = lesson.use("undo_shrinkage")
f_seen, _ = runs.rebuilt(encode, honest, seen.x)  # fitted on training rows, judged on others
W, b = undo(seen.x, f_seen, honest["W_dec"])
undone = describe("divided by γ", {**honest, "W_dec": W, "b_dec": b})

# %% [markdown] id="part-4"
# ## 4. Two answers: JumpReLU and Gated
#
# A ReLU with a bias answers two questions with one number: *is it there?* and *how much of it?* A penalty on the second is a bad substitute for a penalty on the first. So separate the two.

# %% [markdown] id="ask-jumprelu"
# {{exercise jumprelu}}
#
# What exceeds the threshold passes unchanged. Each latent has its own threshold, which may be zero or negative; a value equal to it does not pass. The gradient reaches the pre that is kept.


# %% id="answer-jumprelu"
def jumprelu(
    pre: Float[Tensor, "batch F"], threshold: Float[Tensor, "F"]
) -> Float[Tensor, "batch F"]:
    """pre where it exceeds its latent's threshold, 0 elsewhere."""
    # BEGIN SOLUTION
    return torch.where(pre > threshold, pre, 0.0)
    # END SOLUTION


lesson.check(jumprelu)

# %% [markdown] id="ask-threshold_gradient"
# How does a threshold learn? A tiny change of θ changes nothing for almost every input, so autograd says 0. But *on average over inputs* raising θ does something: latents whose pre-activation lies just above it become inactive. Rajamanoharan et al. (2024b) estimate that from the inputs within a small window around θ.
#
# {{exercise threshold_gradient}}
#
# K is 0 elsewhere, and ε is `bandwidth`. **Summed** over the batch. For θ itself (the paper learns log θ, which adds a factor θ by the chain rule).


# %% id="answer-threshold_gradient"
def threshold_gradient(
    pre: Float[Tensor, "batch F"],
    threshold: Float[Tensor, "F"],
    grad_out: Float[Tensor, "batch F"],
    bandwidth: float,
) -> Float[Tensor, "F"]:
    """Straight-through estimate of the loss' gradient with respect to the thresholds of JumpReLU.

    grad_out: the loss' gradient with respect to the output of JumpReLU. bandwidth: ε, the width of the window.
    """
    # BEGIN SOLUTION
    near = ((pre - threshold) / bandwidth).abs() < 0.5
    return -(threshold / bandwidth) * (near * grad_out).sum(dim=0)
    # END SOLUTION


lesson.check(threshold_gradient)

# %% [markdown] id="use-threshold-intro"
# Is the estimate any good? For one latent with normally distributed pre-activations the true gradient of the expected output is known: −θ times the density at θ. Take batches of 4,000 and windows of different width. **Predict:** which width is best?

# %% id="use-threshold_gradient"
widths = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
estimates, exact = runs.threshold_estimates(lesson.use("threshold_gradient"), widths)
rms = (estimates - exact).square().mean(dim=0).sqrt()
for width, column, error in zip(widths, estimates.T, rms, strict=True):
    print(f"window {width:4.2f}: {column.mean():+.3f} ± {column.std():.3f}, error {error:.3f}")
print(f"exact: {exact:+.3f}")

# %% id="threshold-picture" tags=["not-compared"]
runs.draw_threshold(widths, estimates, exact)

# %% id="claims-threshold-seen" tags=["claims"]
lesson.seen("best_width", widths[int(rms.argmin())], "g")
lesson.seen("rms_best", rms.min(), ".3f")
lesson.seen("rms_narrow", rms[0], ".3f")
claim(
    "the error is largest at the narrowest window, by a factor of 3 over the best, and grows again at the widest",
    rms[0] > 3 * rms.min() and rms[-1] > 2 * rms.min(),
)

# %% [markdown] id="threshold-seen"
# <details><summary>What you should see</summary>
#
# Here {{seen:best_width}} is best, with an error of {{seen:rms_best}} against {{seen:rms_narrow}} of the narrowest. A narrow window sees few inputs and is noisy; a wide one averages over a density that is not flat, and is wrong however many inputs there are. So the best width depends on how smooth the density is and how large the batch, and there is no number to learn by heart. Rajamanoharan et al. (2024b) use $0.001$ where thresholds start at $0.001$ too; this lesson uses $0.2$ on its planted data.
# </details>

# %% [markdown] id="ask-gated_encode"
# The other answer (Rajamanoharan et al. 2024a): two paths that share their directions. One opens gates, the other measures.
#
# {{exercise gated_encode}}
#
# Return a pair, the features and $\mathrm{ReLU}(\pi)$, both (batch, F):
# $$\pi = (x - b_{dec})W_{gate} + b_{gate}, \qquad f = 1[\pi > 0]\cdot\mathrm{ReLU}\big(((x - b_{dec})W_{gate})\,e^{r_{mag}} + b_{mag}\big)$$
# Where π is exactly 0 the gate is shut.


# %% id="answer-gated_encode"
def gated_encode(
    x: Float[Tensor, "batch d"],
    W_gate: Float[Tensor, "d F"],
    b_gate: Float[Tensor, "F"],
    r_mag: Float[Tensor, "F"],
    b_mag: Float[Tensor, "F"],
    b_dec: Float[Tensor, "d"],
) -> tuple[Float[Tensor, "batch F"], Float[Tensor, "batch F"]]:
    """(features, ReLU of the gate's pre-activations)."""
    # BEGIN SOLUTION
    shared = (x - b_dec) @ W_gate
    gate = shared + b_gate
    magnitude = (shared * r_mag.exp() + b_mag).relu()
    return (gate > 0) * magnitude, gate.relu()
    # END SOLUTION


lesson.check(gated_encode)

# %% [markdown] id="ask-gated_loss"
# The step 1[π > 0] has no gradient, so who teaches the gate? A second reconstruction, from ReLU(π) alone, through a decoder that it may not change.
#
# {{exercise gated_loss}}
#
# Scalar tensors in this order, each summed over its last axis and averaged over the batch. Gradients of f, gate, W_dec and b_dec are checked.


# %% id="answer-gated_loss"
def gated_loss(
    x: Float[Tensor, "batch d"],
    f: Float[Tensor, "batch F"],
    gate: Float[Tensor, "batch F"],
    W_dec: Float[Tensor, "F d"],
    b_dec: Float[Tensor, "d"],
    l1: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """(reconstruction, sparsity, auxiliary). gate: ReLU(π). No gradient of the third term reaches W_dec or b_dec."""

    # BEGIN SOLUTION
    def error(code, directions, bias):
        return (x - code @ directions - bias).pow(2).sum(dim=-1).mean()

    sparsity = l1 * gate.sum(dim=-1).mean()
    return error(f, W_dec, b_dec), sparsity, error(gate, W_dec.detach(), b_dec.detach())
    # END SOLUTION


lesson.check(gated_loss)

# %% [markdown] id="compare-intro"
# From here on the course's own trainer does the work, with gradients derived by hand, several times as fast. It minimizes the losses that you have written, and here does four things more: an auxiliary loss for dead latents (section 6) with a coefficient of 1/32, gradients clipped at norm 1, activations scaled to a mean norm of √d during training, and a start scaled so that the first reconstruction has the right size. `SAEConfig` has a field for each of the first three. By default the first two are on only for the kinds whose papers have them; this lesson sets them alike for all, so that the kinds differ in nothing else. Three kinds on the same data, with settings that give about the same L0:

# %% id="compare-kinds" tags=["not-compared"]
kinds = {name: runs.train_kind(name, seen.x, **own) for name, own in runs.KINDS.items()}
compared = {name: runs.measure_sae(sae, held_out) for name, sae in kinds.items()}
f_relu, f_seen = (kinds["relu"].encode(data.x) for data in (held_out, seen))
compared["relu, divided by γ"] = runs.measure(
    f_relu, *undo(seen.x, f_seen, kinds["relu"].W_dec), held_out
)
for name, measured in compared.items():
    print(f"{name:<20} {measured}")
gated = kinds["gated"].tensors()
names = ("W_enc", "b_gate", "r_mag", "b_mag", "b_dec")
yours, gate = lesson.use("gated_encode")(held_out.x, *(gated[name] for name in names))
print(
    "yours is the same:", torch.allclose(yours, kinds["gated"].encode(held_out.x), atol=1e-4)
)
terms = lesson.use("gated_loss")(held_out.x, yours, gate, gated["W_dec"], gated["b_dec"], 1.0)
print(f"error of f {terms[0]:.2f}, error of the gate alone {terms[2]:.2f}")

# %% id="kinds-picture" tags=["not-compared"]
runs.draw_strengths(
    {name: (sae.encode(held_out.x), sae.W_dec) for name, sae in kinds.items()}, held_out, n=80
)

# %% id="claims-kinds-seen" tags=["claims"]
lesson.seen("relu_explained", compared["relu"].explained, ".2f")
lesson.seen("relu_undone", compared["relu, divided by γ"].explained, ".2f")
lesson.seen("jump_explained", compared["jumprelu"].explained, ".2f")
lesson.seen("gated_explained", compared["gated"].explained, ".2f")
lesson.seen("relu_gamma", compared["relu"].gamma, ".2f")
lesson.seen("gate_error", float(terms[2] / terms[0]), ".0f")
three = [compared[name] for name in ("relu", "jumprelu", "gated")]
left_out = [runs.left_out(kinds[name], held_out) for name in ("relu", "jumprelu")]
lesson.seen("out_relu", left_out[0], ".0%")
lesson.seen("out_jump", left_out[1], ".0%")
claim(
    "the ReLU leaves out more of the present features than JumpReLU, by 8 points",
    left_out[0] > left_out[1] + 0.08,
)
claim(
    "L0 of the three lies within 1.0",
    max(m.l0 for m in three) - min(m.l0 for m in three) < 1.0,
)
claim("each recovers more than 85% of the dictionary", min(m.recovered for m in three) > 0.85)
claim(
    "JumpReLU and Gated explain 0.15 more than the ReLU, and still 0.05 more when it is divided by γ",
    min(m.explained for m in three[1:])
    > max(three[0].explained + 0.15, compared["relu, divided by γ"].explained + 0.05),
)
claim(
    "dividing by γ gains more than 0.05",
    compared["relu, divided by γ"].explained > three[0].explained + 0.05,
)
claim(
    "γ of JumpReLU and Gated is within 0.03 of 1",
    all(abs(m.gamma - 1) < 0.03 for m in three[1:]),
)
claim("the gate alone makes more than twice the error", terms[2] > 2 * terms[0])

# %% [markdown] id="kinds-seen"
# <details><summary>What you should see</summary>
#
# At about the same L0 the ReLU explains {{seen:relu_explained}}, JumpReLU {{seen:jump_explained}} and Gated {{seen:gated_explained}}. The directions are good in all three; it is the *strengths* that differ. Dividing by γ gives back a good part ({{seen:relu_undone}}) and leaves a gap: with its γ of {{seen:relu_gamma}} the ReLU also leaves out weak features altogether ({{seen:out_relu}} of those that are present, JumpReLU {{seen:out_jump}}), and a factor does not bring those back. And the gated autoencoder's two errors: rebuilt from the gate alone, which pays the penalty, x is {{seen:gate_error}} times as far off as from f, which does not.
# </details>

# %% [markdown] id="part-5"
# ## 5. No penalty at all: TopK and BatchTopK
#
# If few latents should be active, let only k be active (Gao et al. 2024; the idea is older: Makhzani and Frey 2013).

# %% [markdown] id="ask-topk_activation"
# {{exercise topk_activation}}
#
# Where values are equal there are still no more than k; among equal ones any choice is right. k is between 1 and F. Large negative values do not count. The gradient reaches what is kept.


# %% id="answer-topk_activation"
def topk_activation(pre: Float[Tensor, "batch F"], k: int) -> Float[Tensor, "batch F"]:
    """The k largest of each row where positive, 0 elsewhere."""
    # BEGIN SOLUTION
    top = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    # END SOLUTION


lesson.check(topk_activation)

# %% [markdown] id="ask-batch_topk_activation"
# But rows differ: here some hold no feature and some ten. Bussmann et al. (2024) let the rows of a batch compete.
#
# {{exercise batch_topk_activation}}
#
# A row may keep more than k, or none. The gradient reaches what is kept.


# %% id="answer-batch_topk_activation"
def batch_topk_activation(pre: Float[Tensor, "batch F"], k: int) -> Float[Tensor, "batch F"]:
    """The batch · k largest values of the whole batch where positive, 0 elsewhere."""
    # BEGIN SOLUTION
    flat = pre.flatten()
    top = flat.topk(pre.shape[0] * k)
    kept = torch.zeros_like(flat).scatter(0, top.indices, top.values.relu())
    return kept.view_as(pre)
    # END SOLUTION


lesson.check(batch_topk_activation)

# %% id="use-topk" tags=["not-compared"]
for name in ("topk", "batch_topk"):
    kinds[name] = runs.train_kind(name, seen.x, k=5)
    compared[name] = runs.measure_sae(kinds[name], held_out)
    print(f"{name:<20} {compared[name]}")
# One row among 63 poor ones, among 63 rich ones, and with a fixed threshold.
choose = lesson.use("batch_topk_activation")
keeps = runs.in_company(choose, kinds["batch_topk"], held_out)
print(f"the same row keeps {keeps[0]} latents among poor rows, {keeps[1]} among rich ones,")
print(f"and {keeps[2]} with the fixed threshold {kinds['batch_topk'].threshold:.2f}")

# %% id="claims-topk-seen" tags=["claims"]
lesson.seen("topk_explained", compared["topk"].explained, ".2f")
lesson.seen("batch_explained", compared["batch_topk"].explained, ".2f")
lesson.seen("keeps_poor", keeps[0])
lesson.seen("keeps_rich", keeps[1])
claim(
    "γ of both is within 0.02 of 1",
    all(abs(compared[name].gamma - 1) < 0.02 for name in ("topk", "batch_topk")),
)
claim(
    "at L0 within 0.3 BatchTopK explains 0.02 more",
    abs(compared["topk"].l0 - compared["batch_topk"].l0) < 0.3
    and compared["batch_topk"].explained > compared["topk"].explained + 0.02,
)
claim(
    "the same row keeps at least twice as many among poor neighbors",
    keeps[0] >= 2 * max(keeps[1], 1),
)

# %% [markdown] id="topk-seen"
# <details><summary>What you should see</summary>
#
# TopK has a γ of one and exactly k active latents, too many for poor rows and too few for rich ones. BatchTopK spends the same number where it is needed, and explains more ({{seen:batch_explained}} against {{seen:topk_explained}}). Its price shows in the last lines: the same row keeps {{seen:keeps_poor}} latents in one company and {{seen:keeps_rich}} in another. That must not be so when the autoencoder is *used*, so a threshold is kept from training: a running mean of the smallest value that passed.
# </details>

# %% [markdown] id="part-6"
# ## 6. Dead latents
#
# A latent that is never active gets no gradient, so it will never become active. Whether one is dead is easily asked wrongly.

# %% [markdown] id="ask-dead_latents"
# {{exercise dead_latents}}
#
# `batches` is a list of at least one tensor, which may differ in the number of rows. True where a latent is above 0 in no row of any batch: subtraction in float32 leaves numbers like −0.00001, which are not active. A Boolean tensor of shape (F,).


# %% id="answer-dead_latents"
def dead_latents(batches: list[Float[Tensor, "batch F"]]) -> Bool[Tensor, "F"]:
    """Which latents are active in no row of any batch."""
    # BEGIN SOLUTION
    alive = torch.stack([(f > 0).any(dim=0) for f in batches]).any(dim=0)
    return ~alive
    # END SOLUTION


lesson.check(dead_latents)

# %% id="use-dead_latents" tags=["not-compared"]
find_dead, f = lesson.use("dead_latents"), kinds["topk"].encode(held_out.x)
dead_after = {n: float(find_dead([f[:n]]).float().mean()) for n in (20, 100, 500, 2000, 8000)}
for n, share in dead_after.items():
    print(f"looked at {n:5d} rows: {share:4.0%} dead")

# %% id="claims-dead-seen" tags=["claims"]
lesson.seen("dead_few", dead_after[20], ".0%")
lesson.seen("dead_all", dead_after[8000], ".0%")
claim(
    "after 20 rows at least twice as many look dead as after all",
    dead_after[20] > 2 * dead_after[8000],
)

# %% [markdown] id="dead-seen"
# <details><summary>What you should see</summary>
#
# After the fewest rows {{seen:dead_few}} look dead, after all of them {{seen:dead_all}}. The rest are rare ones that had not been asked. (What remains is mostly surplus: there are more latents than features.) A share of dead latents without its window means nothing.
# </details>

# %% [markdown] id="dead-intro"
# Now make dying easy: start with b_dec at zero, encoder and decoder unrelated, and only as many latents as there are features, so that each that dies costs something. Two rescues are in use. Bricken et al. (2023) **resample**: inputs are drawn with a probability proportional to the square of their loss; a dead latent's decoder row becomes such an input, its encoder the same at a fifth of the mean norm of the living, its bias 0, and Adam's moments of it are forgotten. Gao et al. (2024) give the dead a task of their own.

# %% [markdown] id="ask-auxiliary_loss"
# {{exercise auxiliary_loss}}
#
# The dead latents rebuild through their rows of `W_dec`. The error is summed over d, averaged over the batch, and not divided by anything else; a scalar tensor. Fewer than k dead: all of them. `dead` is True where a latent is dead. Gradients of pre and W_dec are checked, and that none reaches the residual.


# %% id="answer-auxiliary_loss"
def auxiliary_loss(
    residual: Float[Tensor, "batch d"],
    pre: Float[Tensor, "batch F"],
    dead: Bool[Tensor, "F"],
    k: int,
    W_dec: Float[Tensor, "F d"],
) -> Float[Tensor, ""]:
    """Squared error of rebuilding the residual x − x_hat from the k largest dead latents of each row.

    No gradient reaches the residual; those of pre and W_dec reach the dead latents only.
    """
    # BEGIN SOLUTION
    count = min(k, int(dead.sum()))
    if count == 0:
        return torch.zeros(())
    dead_pre = pre[:, dead]
    top = dead_pre.topk(count, dim=-1)
    code = torch.zeros_like(dead_pre).scatter(-1, top.indices, top.values.relu())
    return (residual.detach() - code @ W_dec[dead]).pow(2).sum(dim=-1).mean()
    # END SOLUTION


lesson.check(auxiliary_loss)


# %% id="rescue" tags=["not-compared"]
rescued = runs.rescues(
    lesson.use("topk_activation"), lesson.use("auxiliary_loss"), seen, held_out, seeds=range(2)
)
for name, results in rescued.items():
    dead, variance, recovered = results.mean(dim=0)
    print(
        f"{name:<26} {dead:4.1f} of {FEATURES} dead, explained {variance:.2f}, recovered {recovered:.0%}"
    )

# %% id="claims-rescue-seen" tags=["claims"]
middle = {name: results.mean(dim=0) for name, results in rescued.items()}
weak, full = (middle[f"resampling, encoder at {norm}"] for norm in ("0.2", "1"))
lesson.seen("dead_nothing", middle["nothing"][0], ".0f")
lesson.seen("found_nothing", middle["nothing"][2], ".0%")
lesson.seen("found_encoder", middle["a better encoder"][2], ".0%")
lesson.seen("found_bias", middle["a better bias"][2], ".0%")
lesson.seen("dead_weak", weak[0], ".0f")
lesson.seen("dead_full", full[0], ".0f")
lesson.seen("found_full", full[2], ".0%")
lesson.seen("found_both", middle["that, and a better bias"][2], ".0%")
claim(
    "from the better bias the same resampling finds 20 points more, from both seeds",
    bool(
        (
            rescued["that, and a better bias"][:, 2]
            > rescued["resampling, encoder at 1"][:, 2] + 0.2
        ).all()
    ),
)
lesson.seen("dead_small", middle["auxiliary / 32"][0], ".0f")
lesson.seen("dead_large", middle["auxiliary"][0], ".0f")
lesson.seen("found_large", middle["auxiliary"][2], ".0%")
claim(
    "from the bad start fewer than half of the features are found, from both seeds",
    bool((rescued["nothing"][:, 2] < 0.5).all()),
)
claim(
    "a better encoder, or a better bias, finds 20 points more, from both seeds",
    all(
        bool((rescued[name][:, 2] > rescued["nothing"][:, 2] + 0.2).all())
        for name in ("a better encoder", "a better bias")
    ),
)
claim(
    "resampling with a weak encoder leaves more dead than nothing does",
    weak[0] > middle["nothing"][0],
)
claim(
    "with a full one fewer than a tenth die, from both seeds",
    bool((rescued["resampling, encoder at 1"][:, 0] < 6.4).all()),
)
claim(
    "and it finds 5 points less than the larger auxiliary loss",
    full[2] < middle["auxiliary"][2] - 0.05,
)
claim(
    "a larger coefficient of the auxiliary loss leaves fewer dead",
    middle["auxiliary"][0] < middle["auxiliary / 32"][0],
)
claim(
    "no rescue finds more than the better encoder, by more than 5 points",
    max(full[2], weak[2], middle["auxiliary"][2]) < middle["a better encoder"][2] + 0.05,
)

# %% [markdown] id="rescue-seen"
# <details><summary>What you should see</summary>
#
# From this start {{seen:dead_nothing}} latents die, and the others find {{seen:found_nothing}} of the features. Two things are wrong with it, and mending either is enough to change that: with the encoder as the decoder's transpose {{seen:found_encoder}} are found, with b_dec at the mean {{seen:found_bias}}.
#
# The rescues depend on their settings. Resampling with the published encoder norm leaves *more* dead ({{seen:dead_weak}}). It was made for a ReLU; in TopK a latent with a fifth of the usual encoder is hardly ever among the k largest. With an encoder as long as the others' {{seen:dead_full}} are dead, and yet only {{seen:found_full}} is found: to be active is not to be right. The same resampling brings {{seen:found_both}} if b_dec starts at the mean. The auxiliary loss with a coefficient of $1/32$, as in Gao et al. (2024), leaves {{seen:dead_small}} dead, undivided {{seen:dead_large}}, and finds {{seen:found_large}}. From the bad start none does more than starting well.
# </details>
#
# *Reflect.* A rescued latent is active. Does that make it worth having? How would you tell on a real model?

# %% [markdown] id="part-7"
# ## 7. Your own
#
# You have every piece. Now put them together for data that you have not seen, with a dictionary that only the judge knows.

# %% [markdown] id="ask-train_sae"
# {{exercise train_sae}}
#
# Train on `x` and return a dict of `W_enc` [d, F], `b_enc` [F], `W_dec` [F, d] and `b_dec` [d]; rows of W_dec may have any norm. The judge encodes 2,000 unseen rows by ReLU((x − b_dec) W_enc + b_enc), keeps the k largest of each row, decodes, and asks for three things **together**: at least **0.8** of the variance explained, at least **70 %** of its dictionary with a latent of cosine above **0.9**, and an L0 of at least **half** the number of features that are present in a row. You get 20,000 rows of 32 numbers that are sums of about four of 64 directions, 96 latents and k = 6. Any kind of training is welcome. `x` and the global random state are left alone; all randomness comes from the seed: with the same seed it gives the same result, which is tried twice on fewer rows. It may take at most 90 seconds (up to four times that on a slow machine), and the two short ones together as long; fifteen are plenty.


# %% id="answer-train_sae"
def train_sae(x: Float[Tensor, "n d"], n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    """A sparse autoencoder of x: W_enc [d F], b_enc [F], W_dec [F d], b_dec [d]. k latents may be active in a row."""
    # BEGIN SOLUTION
    rng = torch.Generator()
    rng.manual_seed(seed)
    rows = torch.randn(n_latents, x.shape[1], generator=rng)
    rows = rows / rows.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": rows.t().contiguous(),
        "b_enc": x.new_zeros(n_latents),
        "W_dec": rows.clone(),
        "b_dec": x.mean(dim=0),
    }
    for parameter in weights.values():
        parameter.requires_grad_()
    adam = torch.optim.Adam(weights.values(), lr=1e-2)
    inactive_for = torch.zeros(n_latents, dtype=torch.long)
    for turn in range(800):
        adam.param_groups[0]["lr"] = 1e-2 * min(1, 5 * (1 - turn / 800))
        some = x[torch.randint(len(x), (512,), generator=rng)]
        before = (some - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
        code = topk_activation(before, k)
        left = some - code @ weights["W_dec"] - weights["b_dec"]
        inactive_for = torch.where((code > 0).any(dim=0), 0, inactive_for + 1)
        total = left.pow(2).sum(dim=-1).mean()
        total = (
            total
            + auxiliary_loss(left, before, inactive_for > 20, 2 * k, weights["W_dec"]) / 32
        )
        adam.zero_grad()
        total.backward()
        adam.step()
        with torch.no_grad():
            weights["W_dec"] /= weights["W_dec"].norm(dim=1, keepdim=True)
    return {name: parameter.detach() for name, parameter in weights.items()}
    # END SOLUTION


lesson.check(train_sae)

# %% [markdown] id="simple-intro"
# To compare with yours, here is the course's own trainer at its plainest: autograd, Adam, a ReLU with an L1 penalty or the k largest. With its extras switched off, the fast trainer that you have used since section 4 takes the same steps; a test compares the two.

# %% id="simple-source"
import inspect

from mi_course.interp.sae import train_simple

print(inspect.getsource(train_simple))

# %% [markdown] id="part-8"
# ## 8. Numbers that lie
#
# **One autoencoder, five numbers.** All of these have been called "variance explained". "Of the whole" is yours. The others leave the mean in the denominator; take the variance of the error (dictionary_learning's `frac_variance_explained`); average a ratio over tokens (SAELens' `explained_variance_legacy`); or average one over dimensions (scikit-learn's `r2_score`). Take the TopK autoencoder, as it is, and with a constant error added, as a stale b_dec makes. **Predict:** how far apart can five definitions of one thing be?

# %% id="five-definitions" tags=["not-compared"]
from mi_course.interp.sae import explained_variance_variants

x_hat, stale = kinds["topk"](held_out.x), 0.12 * torch.ones(D)
fresh, off = (explained_variance_variants(held_out.x, out) for out in (x_hat, x_hat + stale))
for name in fresh:
    print(f"{name:<22} {fresh[name]:.3f}, with a constant error {off[name]:.3f}")

# %% id="claims-five-seen" tags=["claims"]
lesson.seen("of_the_whole", fresh["of the whole"], ".2f")
lesson.seen("not_centered", fresh["not centred"], ".2f")
lesson.seen("spread_fresh", max(fresh.values()) - min(fresh.values()), ".2f")
ahead = compared["batch_topk"].explained - compared["topk"].explained
lesson.seen("ahead", ahead, ".2f")
claim(
    "the five spread over more than BatchTopK is ahead of TopK",
    max(fresh.values()) - min(fresh.values()) > 1.3 * ahead,
)
lesson.seen("spread_off", max(off.values()) - min(off.values()), ".2f")
claim(
    "not centering the denominator adds more than 0.05",
    fresh["not centred"] > fresh["of the whole"] + 0.05,
)
claim(
    "the variance of the error does not see a constant error (to 0.001), and the whole loses 0.05",
    abs(off["variance of the error"] - fresh["variance of the error"]) < 0.001
    and off["of the whole"] < fresh["of the whole"] - 0.05,
)
claim(
    "the spread is above 0.05, and above 0.1 with the constant error",
    max(fresh.values()) - min(fresh.values()) > 0.05
    and max(off.values()) - min(off.values()) > 0.1,
)

# %% [markdown] id="five-seen"
# <details><summary>What you should see</summary>
#
# Not centering the denominator turns {{seen:of_the_whole}} into {{seen:not_centered}}: the mean is rebuilt for free. The variance of the error cannot see a constant error at all. Averages of ratios, over tokens or over dimensions, give some tokens or dimensions more weight than they have. The five spread over {{seen:spread_fresh}}, with the constant error over {{seen:spread_off}}. BatchTopK was ahead of TopK by {{seen:ahead}}: a change of definition can be worth more than a change of kind.
# </details>
#
# **A dead autoencoder.** Take one that has found everything, and let its encoder die.

# %% id="dead-cosine" tags=["not-compared"]
corpse = {**kinds["topk"].tensors(), "b_enc": kinds["topk"].b_enc - 100.0}
dead_f, dead_x_hat = runs.rebuilt(encode, corpse, held_out.x)
dead_cosine = cosine_with(corpse["W_dec"], dictionary)
dead_explained = explained(held_out.x, dead_x_hat)
active = int((dead_f > 0).sum())
print(f"cosine {dead_cosine:.3f}, active {active}, explained {dead_explained:+.3f}")
crowd, few = (runs.planted_dictionary(n, 8, seed=n) for n in (30_000, 20))  # random rows
easy_cosine = cosine_with(crowd, few)
print(f"30,000 random latents in 8 dimensions: cosine {easy_cosine:.2f}")

# %% id="claims-dead-cosine-seen" tags=["claims"]
lesson.seen("dead_cosine", dead_cosine, ".2f")
lesson.seen("easy_cosine", easy_cosine, ".2f")
claim(
    "a cosine above 0.97 with less than nothing explained",
    dead_cosine > 0.97 and dead_explained < 0,
)
claim("random latents in few dimensions score above 0.9", easy_cosine > 0.9)

# %% [markdown] id="dead-cosine-seen"
# A cosine of {{seen:dead_cosine}}, and it explains nothing. In few dimensions many random directions score {{seen:easy_cosine}} as well. A cosine says that directions exist, not that they are used. Judge explained variance, L0 and recovery together; that is why the judge of section 7 did.
#
# *Reflect.* Somebody reports "our autoencoder explains almost all of the variance". Which three questions do you ask?

# %% [markdown] id="part-hierarchy"
# ## 9. When features come in company
#
# Independent features are the easy case. Real ones have hierarchies: a text that is about a dog is about an animal. Here are six parents, each present in 15 % of the rows. Each has three children, present only with their parent, in 35 % of its rows. All 24 directions are at right angles; nothing is crowded. And the autoencoders have as many latents as there are features, or twice as many.
#
# A sparsity penalty has a temptation here. If a child's latent writes "child *and* parent", the parent's own latent need not be active in these rows: one latent fewer, and the reconstruction stays perfect. Chanin et al. (2024) call this **absorption**: the parent's latent looks like "animal", and is inactive on dogs. And where there are latents to spare, several may share a parent. **Predict:** will an L1 penalty do it? TopK? The controls have the same features, as often and as strong, but independent of each other.

# %% id="hierarchy" tags=["not-compared"]
families = {
    "ReLU, l1 = 0.4": runs.family("relu", l1=0.4, n_latents=24),
    "ReLU, l1 = 1": runs.family("relu", l1=1.0, n_latents=24),
    "TopK, k = 3": runs.family("topk", k=3, n_latents=24),
    "TopK, k = 4": runs.family("topk", k=4, n_latents=24),
    "ReLU, 48 latents": runs.family("relu", l1=0.4, n_latents=48),
    "control: TopK, k = 3": runs.family("topk", k=3, n_latents=24, related=False),
    "control: ReLU, 48": runs.family("relu", l1=0.4, n_latents=48, related=False),
}
for name, found in families.items():
    print(f"{name:<20} {found}")

# %% id="claims-hierarchy-seen" tags=["claims"]
mild, strong, few, more, wide, few_free, wide_free = families.values()
lesson.seen("absorbed_mild", mild.absorbed, ".0%")
lesson.seen("absorbed_strong", strong.absorbed, ".0%")
lesson.seen("absorbed_few", few.absorbed, ".0%")
lesson.seen("absorbed_more", more.absorbed, ".0%")
lesson.seen("family_explained", strong.explained, ".2f")
lesson.seen("split", [wide.latents_per_parent, wide_free.latents_per_parent], ".1f")
lesson.seen("absorbed_free", few_free.absorbed, ".0%")
lesson.seen("recovered_free", wide_free.recovered, ".0%")
claim(
    "independent features: at most 5% absorbed, and more than 90% recovered with either setting",
    max(few_free.absorbed, wide_free.absorbed) <= 0.05
    and min(few_free.recovered, wide_free.recovered) > 0.9,
)
claim(
    "with twice as many latents independent features have more than one each as well, by 0.2",
    wide_free.latents_per_parent > 1.2,
)
lesson.seen("recovered_mild", mild.recovered, ".0%")
lesson.seen("recovered_wide", wide.recovered, ".0%")
claim(
    "a stronger penalty absorbs more, by 5 points, and so does a smaller k",
    strong.absorbed > mild.absorbed + 0.05 and few.absorbed > more.absorbed + 0.05,
)
claim(
    "the ReLU's parents are hardly ever missed when they come alone: below 3%",
    max(mild.missed, strong.missed) < 0.03,
)
claim("more than 0.95 is explained with the stronger penalty", strong.explained > 0.95)
claim(
    "as many latents as features: one for each parent; twice as many: more, by 0.2",
    mild.latents_per_parent < 1.1 and wide.latents_per_parent > mild.latents_per_parent + 0.2,
)
claim(
    "twice as many latents recover 20 points less, and absorb more",
    wide.recovered < mild.recovered - 0.2 and wide.absorbed > mild.absorbed,
)

# %% [markdown] id="hierarchy-seen"
# <details><summary>What you should see</summary>
#
# Both do it. With the milder penalty the parent's latent is inactive, and another writes the parent, in {{seen:absorbed_mild}} of the rows that have a child, with the stronger one in {{seen:absorbed_strong}}, while a parent that comes alone is hardly ever missed. TopK, which has no penalty, absorbs more ({{seen:absorbed_few}} with `k=3`, {{seen:absorbed_more}} with `k=4`): whatever asks for few active latents pays for hiding the parent. Without families there is nothing to hide: the control's {{seen:absorbed_free}}. And the reconstruction does not tell, with {{seen:family_explained}} explained.
#
# More latents do not help here. With twice as many, fewer of the planted features have a latent of their own, {{seen:recovered_wide}} instead of {{seen:recovered_mild}}; of independent ones {{seen:recovered_free}} have. Several latents write the same parent, but that is no sign of a family: with families and without, there are {{seen:split}} for each on average. So a latent named "animal" that is inactive on dogs is no accident of one run: it is what the loss asks for. Chanin et al. (2024) find it in autoencoders of real models.
# </details>

# %% [markdown] id="part-9"
# ## 10. Sparsity against fidelity
#
# Any autoencoder rebuilds better with more active latents. So comparisons are made along a curve: for each L0, how much is explained (a Pareto picture). Five kinds, three settings each; and the control, latents that were never trained. **Predict:** does the kind that rebuilds best also find the most features?

# %% id="pareto" tags=["not-compared"]
curve = runs.pareto(seen, held_out)
for kind, point in curve:
    print(f"{kind:<19} {point}")

# %% id="pareto-picture" tags=["not-compared"]
runs.draw_pareto(curve, float(present.mean()))

# %% id="widths" tags=["not-compared"]
by_width = runs.widths(seen, held_out)
for width, (measured, dead) in by_width.items():
    print(f"{width:4d} latents, {dead:3d} dead: {measured}")

# %% id="claims-pareto-seen" tags=["claims"]
points = {kind: [point for name, point in curve if name == kind] for kind, _ in curve}
relu_wide, jump_wide = (
    max(points[kind], key=lambda point: point.l0) for kind in ("relu", "jumprelu")
)
lesson.seen("jump_l0", jump_wide.l0, ".0f")
lesson.seen("jump_wide_explained", jump_wide.explained, ".2f")
lesson.seen("jump_found", jump_wide.recovered, ".0%")
lesson.seen("relu_l0", relu_wide.l0, ".0f")
lesson.seen("relu_wide_explained", relu_wide.explained, ".2f")
lesson.seen("relu_found", relu_wide.recovered, ".0%")
loose = table[0.05]
lesson.seen("relu_loose_explained", loose.explained, ".2f")
lesson.seen("relu_loose_l0", loose.l0, ".0f")
lesson.seen("relu_loose_found", loose.recovered, ".0%")
claim(
    "a ReLU with a weak penalty has an L0 above 20 and recovers less than half",
    loose.l0 > 20 and loose.recovered < 0.5,
)
lesson.seen("width_64", by_width[64][0].recovered, ".0%")
lesson.seen("width_96", by_width[96][0].recovered, ".0%")
lesson.seen("width_256", by_width[256][0].recovered, ".0%")
lesson.seen("explained_96", by_width[96][0].explained, ".2f")
lesson.seen("explained_512", by_width[512][0].explained, ".2f")
trained = [point for name, point in curve if not name.startswith("control")]
best = max(trained, key=lambda point: point.explained)
worst = min(trained, key=lambda point: point.recovered)
claim(
    "of the trained points the one that explains most recovers least, by 20 points at least",
    best is worst and sorted(p.recovered for p in trained)[1] > best.recovered + 0.2,
)
claim(
    "the ReLU at its highest L0 recovers more than 95%, with 0.03 less explained than that",
    relu_wide.recovered > 0.95 and relu_wide.explained < best.explained - 0.03,
)
for kind in ("gated", "jumprelu", "batch_topk"):
    by_l0 = sorted(points[kind], key=lambda point: point.l0)
    claim(
        f"{kind}: from the middle L0 to the highest, more is explained and 10 points less recovered",
        by_l0[2].explained > by_l0[1].explained
        and by_l0[2].recovered < by_l0[1].recovered - 0.1,
    )
near_five = {
    kind: min(points[kind], key=lambda point: abs(point.l0 - 5)) for kind in runs.CURVES
}
claim(
    "near L0 = 5 the ReLU explains least, by 0.1 at least",
    near_five["relu"].explained
    < min(point.explained for kind, point in near_five.items() if kind != "relu") - 0.1,
)
claim(
    "TopK recovers 5 points more with 96 latents than with 64, and explains within 0.02 of it from 96 to 512",
    by_width[96][0].recovered > by_width[64][0].recovered + 0.05
    and abs(by_width[512][0].explained - by_width[96][0].explained) < 0.02,
)

# %% [markdown] id="pareto-seen"
# <details><summary>What you should see</summary>
#
# No. The point that rebuilds best, JumpReLU at an L0 of {{seen:jump_l0}} with {{seen:jump_wide_explained}} explained, recovers {{seen:jump_found}} of the features, less than any other. The ReLU at an L0 of {{seen:relu_l0}} recovers {{seen:relu_found}} and explains {{seen:relu_wide_explained}}. All kinds lose features when L0 rises well above the number that is present: more latents rebuild the row together, and none of them needs to be a feature. They differ in when. JumpReLU, Gated and BatchTopK already do at about twice that number. The ReLU still finds all there. With a weaker penalty it loses them too: in section 2, `l1=0.05` explained {{seen:relu_loose_explained}} with an L0 of {{seen:relu_loose_l0}}, and recovered {{seen:relu_loose_found}}. Near the right L0 the ReLU rebuilds worst and all kinds find nearly everything. On a real model the column "recovered" does not exist, and only the other one is drawn.
#
# Latents to spare help: TopK recovers {{seen:width_64}} with as many latents as features, {{seen:width_96}} with half as many again, {{seen:width_256}} with four times as many, while explained variance hardly moves ({{seen:explained_96}} and {{seen:explained_512}}). The surplus dies, because there is nothing more to find. On real data both curves go on rising as far as anybody has trained.
# </details>

# %% [markdown] id="part-10"
# ## 11. A real model
#
# Now SmolLM2. Nobody planted anything, and nobody knows the answer. `sampled_tokens` holds 200,704 tokens that the model wrote itself; we take a part of them and the residual stream after layer 5.
#
# One warning first. Some tokens are several times as long as the others: the first of each row, and about one in a hundred of the rest. We call a token massive when its norm is above three times the median. (Sun et al. (2024), who named massive activations, mean something narrower: single numbers, in a few fixed dimensions, a hundred or a thousand times as large as the median.) **Predict:** which share of the variance is theirs?

# %% id="activations" tags=["not-compared"]
from mi_course.interp.sae.activations import sampled_tokens

LAYER, model, tokens = 5, mi_course.load_model(), sampled_tokens()
train_on, unseen = (runs.harvest(model, rows, LAYER) for rows in (tokens[:160], tokens[-32:]))
every, norms = unseen.everything, unseen.resid.norm(dim=-1)
spread = (every - every.mean(dim=0)).pow(2).sum(dim=1)
odd = float((~unseen.ordinary).float().mean())
their_share = float(spread[~unseen.ordinary.flatten()].sum() / spread.sum())
print(f"median norm: ordinary {norms[unseen.ordinary].median():.0f}, ", end="")
print(f"massive {norms[unseen.massive].median():.0f}, BOS {norms[:, 0].median():.0f}")
print(f"BOS and massive: {odd:.1%} of the tokens, {their_share:.0%} of the variance")

# %% id="real-train" tags=["not-compared"]
from mi_course.interp.sae import SAEConfig

config = SAEConfig(d_in=576, n_latents=2304, k=32, **runs.REAL)  # 300 steps of 1,024 tokens
real = runs.train_live(config, train_on.x, "SmolLM2, layer 5: 2,304 latents, 32 at a time")

# %% id="real-numbers" tags=["not-compared"]
untrained = runs.untrained(config, train_on.x)
print("trained:           ", runs.on_real(real, unseen.x))
print("control: untrained:", runs.on_real(untrained, unseen.x))
of_all = explained(every, real(every))
print(f"trained, BOS and massive tokens counted too: explained {of_all:.2f}")
both = runs.with_and_without(train_on, unseen)
print(f"60 steps on ordinary tokens: {both[0]:.3f} of these; on all tokens: {both[1]:.3f}")

# %% id="claims-massive-seen" tags=["claims"]
lesson.seen("odd", odd, ".1%")
lesson.seen("their_share", their_share, ".0%")
of_ordinary = explained(unseen.x, real(unseen.x))
lesson.seen("of_ordinary", of_ordinary, ".2f")
lesson.seen("of_all", of_all, ".2f")
claim(
    "fewer than 3% of the tokens hold more than 20% of the variance",
    odd < 0.03 and their_share > 0.2,
)
claim("counting them raises explained variance by 0.03 at least", of_all > of_ordinary + 0.03)
claim(
    "training on all tokens costs the ordinary ones less than 0.05",
    abs(both[0] - both[1]) < 0.05,
)
untrained_explained = explained(unseen.x, untrained(unseen.x))
claim("the untrained control explains less than half", untrained_explained < 0.5 * of_ordinary)

# %% [markdown] id="massive-seen"
# <details><summary>What you should see</summary>
#
# {{seen:odd}} of the tokens hold {{seen:their_share}} of the variance. So a share of variance that includes them is to that extent about them: the same autoencoder explains {{seen:of_ordinary}} of the ordinary tokens and {{seen:of_all}} of all. That is why they are left out of every number below, and pass unchanged when we splice. Does training have to leave them out as well? Here it makes little difference, as the last line shows. They are few. At layers where they are longer, and with fewer latents, look again.
# </details>
#
# ### Does the model still work with it?
#
# Put the reconstruction in the place of the residual stream and let the model read on: its loss will rise. That takes a hook, which gets the activations of all tokens and returns those that the model goes on with.

# %% [markdown] id="ask-splice"
# {{exercise splice}}
#
# `resid` has an entry for each row, position and dimension; `ordinary` is True at the tokens to be replaced by `sae.decode(sae.encode(...))`. All others (BOS and massive tokens) stay as they are, and where no token is ordinary nothing changes. You may work in place or return a new tensor. `sae` encodes and decodes tensors of any leading shape; `hook` is TransformerLens' hook point, and not needed. Batch, positions and dimensions may be 1.


# %% id="answer-splice"
def splice(
    resid: Float[Tensor, "batch pos d"], hook, sae, ordinary: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d"]:
    """A hook: the activations, with those of ordinary tokens replaced by sae.decode(sae.encode(...))."""
    # BEGIN SOLUTION
    out = resid.clone()
    out[ordinary] = sae.decode(sae.encode(resid[ordinary]))
    return out
    # END SOLUTION


lesson.check(splice)

# %% id="use-splice" tags=["not-compared"]
from functools import partial

text, hook_name = unseen.tokens[:8], f"blocks.{LAYER}.hook_resid_post"
nats = {"nothing": runs.loss_in_nats(model, text)}
for name, sae in runs.stand_ins(real, untrained, train_on.x).items():
    hook = partial(lesson.use("splice"), sae=sae, ordinary=unseen.ordinary[:8])
    nats[name] = runs.loss_in_nats(model, text, hook_name, hook)
back = {
    name: (nats["zeros"] - n) / (nats["zeros"] - nats["nothing"]) for name, n in nats.items()
}
for name, loss in nats.items():
    print(f"{name:<19} {loss:5.2f} nats, loss recovered {back[name]:.2f}")

# %% id="claims-loss-seen" tags=["claims"]
lesson.seen("back_trained", back["trained"], ".0%")
lesson.seen("worse", nats["trained"] - nats["nothing"], ".1f")
lesson.seen("back_untrained", back["control: untrained"], ".0%")
lesson.seen("back_mean", back["control: the mean"], ".0%")
claim(
    "more than 85% is recovered, and the model is at least 0.2 nats worse",
    back["trained"] > 0.85 and nats["trained"] > nats["nothing"] + 0.2,
)
claim(
    "untrained latents recover more than 40%, the mean more than 15%",
    back["control: untrained"] > 0.4 and back["control: the mean"] > 0.15,
)
from mi_course.interp.sae import loss_with_sae

ours = loss_with_sae(model, real, text[:2], LAYER, exclude_massive=True)
again = partial(lesson.use("splice"), sae=real, ordinary=unseen.ordinary[:2])
claim(
    "the library's splice gives the same loss, to 0.01 nats",
    abs(ours.spliced - runs.loss_in_nats(model, text[:2], hook_name, again)) < 0.01,
)

# %% [markdown] id="loss-seen"
# <details><summary>What you should see</summary>
#
# **Loss recovered** is the share of the way back from zeros. {{seen:back_trained}} sounds like nearly everything. In nats the model got worse by {{seen:worse}}. Zeros are so bad a replacement that random, untrained latents recover {{seen:back_untrained}}, and the mean activation, which says nothing about the token, {{seen:back_mean}}. Report the nats, and what was replaced.
# </details>

# %% [markdown] id="features-intro"
# ### What are its latents about?
#
# People look at latents on a dashboard. Write a row of it.

# %% [markdown] id="ask-dashboard_row"
# {{exercise dashboard_row}}
#
# `f` has a row for each token and a column for each latent. Return a dict of three: `"density"`, the share of tokens on which latent number `latent` is active (above 0); `"strongest"`, the numbers of the n tokens on which it is strongest, strongest first, among equal ones the earlier first, and only tokens on which it is active, so there may be fewer than n, or none; `"promotes"`, the n token ids with the highest logits, highest first (a logit is what the latent's decoder row adds, read by a token's column of `W_U`), among equal ones the smaller id first (all of them, if the vocabulary is smaller than n).


# %% id="answer-dashboard_row"
def dashboard_row(
    f: Float[Tensor, "tokens F"],
    latent: int,
    W_dec: Float[Tensor, "F d"],
    W_U: Float[Tensor, "d vocab"],
    n: int,
) -> dict:
    """{"density": share of tokens, "strongest": numbers of up to n tokens, "promotes": n token ids}."""
    # BEGIN SOLUTION
    strength = f[:, latent]
    order = strength.argsort(descending=True, stable=True)
    logits = W_dec[latent] @ W_U
    return {
        "density": float((strength > 0).float().mean()),
        "strongest": [int(token) for token in order[:n] if strength[token] > 0],
        "promotes": logits.argsort(descending=True, stable=True)[:n].tolist(),
    }
    # END SOLUTION


lesson.check(dashboard_row)

# %% [markdown] id="blind-intro"
# Before you read meaning into latents: random directions have strongest tokens as well, and people find meaning in those, too. Bricken et al. (2023) had latents and neurons rated blind. So here are eight rows on tokens that the training has not seen. Some are latents drawn by lot from those that are active on 0.3 to 3 % of tokens. The others are **random directions**, with thresholds that make each active as often as one of the latents. **Predict:** which are which? Write it down before you open what follows.

# %% id="features" tags=["not-compared"]
row_of, f = lesson.use("dashboard_row"), real.encode(unseen.x)
often, chosen = (f > 0).float().mean(dim=0), runs.drawn_alive(f, 200, seed=6)
random_f, directions = runs.matched_random(unseen.x, often[chosen], seed=0)
order = torch.randperm(
    8, generator=torch.Generator().manual_seed(7)
).tolist()  # below 4: a latent
for letter, i in zip("ABCDEFGH", order, strict=True):
    latent = (f, chosen[i], real.W_dec) if i < 4 else (random_f, i, directions)
    runs.print_dashboard(letter, row_of(*latent, model.W_U, 5), unseen, model.tokenizer)

# %% id="feature-text" tags=["not-compared"]
latent = chosen[min(order)]
runs.draw_text(latent, f, unseen, model.tokenizer)

# %% id="same-token" tags=["not-compared"]
letters = [letter for letter, i in zip("ABCDEFGH", order, strict=True) if i >= 4]
ids = unseen.tokens[unseen.ordinary]
same = runs.same_token(f, ids, chosen), runs.same_token(random_f, ids, range(200))
print("random directions:", *letters)
print(f"one token among a latent's ten strongest: trained {same[0]:.0%}, random {same[1]:.0%}")

# %% id="claims-features-seen" tags=["claims"]
lesson.seen("random_letters", letters)
lesson.seen("same_trained", same[0], ".0%")
lesson.seen("same_random", same[1], ".0%")
densities = (random_f > 0).float().mean(dim=0)
claim(
    "the random directions are active as often as the latents, within 0.1% of tokens",
    bool((densities - often[chosen]).abs().max() < 0.001),
)
claim(
    "trained latents and random directions differ by less than 25 points in how often one token fills the top ten",
    abs(same[0] - same[1]) < 0.25,
)

# %% [markdown] id="features-seen"
# <details><summary>What you should see</summary>
#
# The random directions are {{seen:random_letters}}. (On another machine training may find another dictionary, since it depends on the last digits; the letters stay.) How many did you get right? Guessing gets half of them.
#
# Five examples from so few tokens support no name. They support a guess, which has to be tested on tokens that the guess has not seen: does the latent become active where the name says, and nowhere else? One crude count of this kind is how often a single token fills a latent's top ten: {{seen:same_trained}} for the trained latents, {{seen:same_random}} for random directions that are as often active. Both are high, because a few common tokens stick out in every direction. What promotes and what activates need not agree, either. The better test is to change a latent and see what the model then *does*; Templeton et al. (2024) did so with a Golden Gate Bridge.
# </details>

# %% [markdown] id="part-shipped"
# ### Beside one that was trained for longer
#
# The course ships seven autoencoders that were trained before you came. `early` is one of the same place and width as yours, with 60 latents at a time instead of 32, on text of other people's: textbooks, novels, code. Its card says on how much, and how it does on documents that its training did not read. Here it reads what you have measured yours on. It has two advantages, more tokens and more latents at a time, so there is a control: your run once more, with 60.
#
# **Predict:** how many of the nats that yours costs the model does it win back? And does more training make a latent's ten strongest tokens more alike, or less?

# %% id="shipped" tags=["not-compared"]
from mi_course import show
from mi_course.interp.sae import load_shipped

sixty = runs.train_live(
    SAEConfig(d_in=576, n_latents=2304, k=60, **runs.REAL),
    train_on.x,
    "The same, 60 at a time",
)
beside = {"yours": real, "control: yours, with 60": sixty, "early": load_shipped("early")}
rises, rows = {}, {}
for name, sae in beside.items():
    hook = partial(lesson.use("splice"), sae=sae, ordinary=unseen.ordinary[:8])
    rises[name] = runs.loss_in_nats(model, text, hook_name, hook) - nats["nothing"]
    active = sae.encode(unseen.x)
    alive = runs.drawn_alive(active, 200, seed=6)
    rows[name] = (
        float((active > 0).sum(dim=1).float().mean()),
        explained(unseen.x, sae(unseen.x)),
        rises[name],
        runs.same_token(active, ids, alive),
    )
trained_on = beside["early"].about["training_tokens"]
print(f"early was trained on {trained_on:,} tokens, yours on {config.steps * config.batch:,}")
show.table(
    rows, ["L0", "explained variance", "rise of the loss (nats)", "one token in the top ten"]
)

# %% id="claims-shipped-seen" tags=["claims"]
for name, key in (("yours", "own"), ("control: yours, with 60", "sixty"), ("early", "early")):
    lesson.seen(f"rise_{key}", rises[name], ".2f")
    lesson.seen(f"same_{key}", rows[name][3], ".0%")
lesson.seen("times", trained_on / (config.steps * config.batch), ".0f")
claim(
    "with 60 latents at a time yours costs less, and early less than half of that",
    rises["control: yours, with 60"] < rises["yours"]
    and rises["early"] < 0.5 * rises["control: yours, with 60"],
)

# %% [markdown] id="shipped-seen"
# <details><summary>What you should see</summary>
#
# Yours costs the model {{seen:rise_own}} nats, the control {{seen:rise_sixty}}, and `early` {{seen:rise_early}}: most of the gain is training, on {{seen:times}} times as many tokens, and not the larger number of latents. On this text `early` is even at a disadvantage: yours learned from nothing but text of this source, and of what `early` read it is less than a hundredth.
#
# The crude count of how often one token fills a latent's top ten is {{seen:same_own}}, {{seen:same_sixty}} and {{seen:same_early}}. A better reconstruction is one thing, and latents that deserve a name are another. Lesson 07 takes one that was trained like this, at a later layer, and asks which of its latents do.
# </details>

# %% [markdown] id="part-11"
# ## 12. How far is this from the state of the art?

# %% id="distance"
runs.print_distance(config.n_latents, config.steps * config.batch)

# %% id="claims-distance-seen" tags=["claims"]
import math

ours_tokens = config.steps * config.batch
lesson.seen("epochs", ours_tokens / len(train_on.x), ".0f")
smallest = min(n for _, _, n in runs.RUNS)
lesson.seen("fewer", f"{round(smallest / ours_tokens, -3):,.0f}")
farthest = max(n * latents for _, latents, n in runs.RUNS) / (ours_tokens * config.n_latents)
lesson.seen("magnitudes", math.log10(farthest), ".0f")
claim("thousands of times fewer tokens than the smallest", smallest / ours_tokens > 5000)

# %% [markdown] id="distance-seen"
# <details><summary>What you should see</summary>
#
# Our run saw about {{seen:fewer}} times fewer tokens than the smallest of these, and each of its tokens {{seen:epochs}} times. In tokens times latents, which is what an encoder's arithmetic grows with (their activations are also wider than ours), the distance to Gao et al. (2024) is {{seen:magnitudes}} orders of magnitude. Gemma Scope (Lieberum et al. 2024) is more than $400$ such autoencoders, on every layer, and public.
#
# What carries over from a laptop is not the dictionary but the judgment: the same shrinkage, the same dead latents, the same five definitions are in papers at every scale.
# </details>
#
# *Reflect.* Which result in this lesson rests on knowing the truth, and has no counterpart on a real model? What would you accept in its place?

# %% id="claims-recap" tags=["claims"]
claim(
    "found again: the autoencoder's cosine is 0.4 above that of random directions",
    cosines_of[-1] > random + 0.4,
)
claim(
    "the counted kinds explain more than the ReLU at about the same L0",
    min(compared[name].explained for name in ("jumprelu", "gated", "topk", "batch_topk"))
    > compared["relu"].explained,
)

# %% [markdown] id="recap"
# ## What you have done
#
# You hid directions where there were not enough dimensions for them, and found them again. You wrote the loss term by term, saw what each term does when it is wrong, watched L1 shrink what it should measure, gave a part of it back, and separated presence from strength in two ways. You replaced the penalty by a count, revived dead latents, and trained an autoencoder that passed a judge who knew the truth.
#
# You saw five definitions disagree about one reconstruction, a dead autoencoder with a perfect score, and a good one that hides a parent behind its children. Then you did it where nobody knows the truth: you spliced it in, paid in nats, and read a dashboard blind.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Gao et al. 2024, *Scaling and evaluating sparse autoencoders*. Read section 4 on what else to measure when there is no dictionary to compare with, and ask which of its metrics a dead autoencoder would pass.
