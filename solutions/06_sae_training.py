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
# You will build sparse autoencoders of five kinds, train them until they find directions that you have hidden yourself, learn which numbers about them lie, and then train one on a real language model and look at what it found.
#
# About {{minutes}} minutes · {{points}} points · after lesson 05. The last part uses SmolLM2-135M-Instruct; its residual stream is the same with and without compatibility mode. Sources: Bricken et al. 2023; Rajamanoharan et al. 2024a (Gated) and 2024b (JumpReLU); Gao et al. 2024 (TopK);
# Bussmann et al. 2024 (BatchTopK); Lieberum et al. 2024 (Gemma Scope).

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson = mi_course.lesson("sae_training")

# %% [markdown] id="part-1"
# ## 1. Sixty-four directions in thirty-two dimensions
#
# A model with d dimensions can use more than d directions, as long as few are in use at a time (lesson 05). From outside we only see the sums. Can the directions be found again?
#
# With a real model nobody knows the answer, so begin where we do. Here are 40,000 activations of 32 numbers. Each is a sum of about four out of 64 hidden unit directions, some ten times as common as others, plus a fixed vector and a little noise. **Predict:** will principal components find the directions?

# %% id="planted"
from mi_course.interp.sae.planted import planted_activations, planted_dictionary

D, FEATURES, LATENTS = 32, 64, 96
dictionary = planted_dictionary(FEATURES, D, seed=2026)
rates = 0.055 * torch.logspace(-0.5, 0.5, FEATURES)
offset = 0.5 * torch.randn(D, generator=torch.Generator().manual_seed(1))
seen, held_out = (
    planted_activations(dictionary, n, rates, seed=seed, bias=offset, noise=0.03)
    for n, seed in ((40_000, 1), (8_000, 2))
)
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
# The latents are the rows of `W_dec`. Rows of both may have any length; a zero latent counts as cosine 0. Signs matter: the opposite direction is not a find.

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
generator = torch.Generator().manual_seed(2)
centered = seen.x - seen.x.mean(dim=0)
axes = torch.linalg.eigh(centered.T @ centered).eigenvectors.T
candidates = {
    "96 random directions": torch.randn(LATENTS, D, generator=generator),
    "principal components, both signs": torch.cat([axes, -axes]),
    "96 of the activations, centred": centered[:LATENTS],
    "the dictionary itself": dictionary,
}
for name, rows in candidates.items():
    print(f"{name:<34} {cosine_with(rows, dictionary):.2f}")

# %% [markdown] id="planted-seen"
# <details><summary>What you should see</summary>
#
# About 0.45 for random directions: in 32 dimensions 96 of them are never far from anything. Principal components do hardly better. They are at right angles to each other, and 64 directions in 32 dimensions cannot be. Activations themselves come closer, because a row that holds one or two features resembles them. Remember 0.45. It is what *nothing* scores here.
# </details>

# %% [markdown] id="part-2"
# ## 2. The ReLU autoencoder, term by term
#
# What was used to build the data can be used to take it apart: few directions at a time, never with a negative sign. So let an encoder say how much of each of F directions is present, and a decoder add them up.
#
# **By hand, once.** x = (3, 1), b_dec = (1, 1), two latents. The columns of W_enc are (1, 0) and (0, 1), b_enc = (−0.5, −0.5), and the rows of W_dec are (1, 0) and (0, 1). Then x − b_dec = (2, 0), the pre-activations are (1.5, −0.5), f = (1.5, 0), and the reconstruction is (2.5, 1). It is too short by 0.5 in the one direction that was there. Keep that in mind.

# %% [markdown] id="ask-encode"
# {{exercise encode}}
#
# $f = \mathrm{ReLU}((x - b_{dec})\,W_{enc} + b_{enc})$


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

# %% [markdown] id="ask-decode"
# {{exercise decode}}
#
# Row i of `W_dec` is the direction of latent i.


# %% id="answer-decode"
def decode(
    f: Float[Tensor, "batch F"], W_dec: Float[Tensor, "F d"], b_dec: Float[Tensor, "d"]
) -> Float[Tensor, "batch d"]:
    """The activations rebuilt: each latent's direction times its strength, added up, plus the bias."""
    # BEGIN SOLUTION
    return f @ W_dec + b_dec
    # END SOLUTION


lesson.check(decode)

# %% [markdown] id="ask-sae_loss"
# Two wishes: rebuild x, and use few latents. The number of active latents has no gradient, so the sum of their strengths stands in for it (L1).
#
# {{exercise sae_loss}}
#
# Return both terms. Reconstruction: squared error, **summed** over d. Sparsity: `l1` · Σ_i f_i ‖W_dec,i‖, **summed** over latents. Each is then a **mean** over the batch. Why the norms? Try to cheat the penalty without them; in a moment you will see a model do it.


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

# %% [markdown] id="ask-l0"
# ### Two numbers to watch
#
# {{exercise l0}}
#
# How many latents are active in a row, on average over rows.


# %% id="answer-l0"
def l0(f: Float[Tensor, "batch F"]) -> float:
    """Mean number of latents above zero in a row."""
    # BEGIN SOLUTION
    return float((f > 0).float().sum(dim=-1).mean())
    # END SOLUTION


lesson.check(l0)

# %% [markdown] id="ask-explained_variance"
# {{exercise explained_variance}}
#
# $1 - \sum\lVert x - \hat x\rVert^2 \,/\, \sum\lVert x - \bar x\rVert^2$, both sums over all rows; $\bar x$ is the mean row.


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
# Now train, with your functions and Adam. Nobody tells the model what the directions are. The picture shows the mean max cosine on the way, which only we can know. It should begin where random directions are. (In the first draft of this lesson it began at 1.00: dictionary and autoencoder had been drawn with the
# same seed, so the start *was* the answer, and every table below looked splendid. The left end of this curve is the control.)


# %% id="fit" tags=["not-compared"]
encode_, decode_, loss_of = (lesson.use(name) for name in ("encode", "decode", "sae_loss"))
count, explained = lesson.use("l0"), lesson.use("explained_variance")


def start(seed=0, n_latents=LATENTS):
    """Random unit rows as the decoder, their transpose as the encoder, b_dec at the mean."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(
        torch.randn(n_latents, D, generator=generator), dim=-1
    )
    sae = {
        "W_enc": rows.T.clone(),
        "b_enc": torch.zeros(n_latents),
        "W_dec": rows,
        "b_dec": seen.x.mean(dim=0),
    }
    return {name: tensor.clone().requires_grad_() for name, tensor in sae.items()}, generator


def fit(l1, steps=1000, watch=None, after_step=None, penalize_norms=True):
    """A ReLU autoencoder on the planted activations, by plain autograd."""
    sae, generator = start()
    optimizer = torch.optim.Adam(sae.values(), lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, 5 * (1 - step / steps))
        x = seen.x[torch.randint(len(seen.x), (1024,), generator=generator)]
        f = encode_(x, sae["W_enc"], sae["b_enc"], sae["b_dec"])
        rows = sae["W_dec"] if penalize_norms else torch.ones(LATENTS, 1)
        x_hat = decode_(f, sae["W_dec"], sae["b_dec"])
        reconstruction, sparsity = loss_of(x, x_hat, f, rows, l1)
        optimizer.zero_grad()
        (reconstruction + sparsity).backward()
        optimizer.step()
        if after_step:
            after_step(sae)
        if watch and step % 20 == 0:
            watch(step, sae)
    return {name: tensor.detach() for name, tensor in sae.items()}


def rebuilt(sae, x):
    """Activations of the latents, and the reconstruction."""
    f = encode_(x, sae["W_enc"], sae["b_enc"], sae["b_dec"])
    return f, decode_(f, sae["W_dec"], sae["b_dec"])


picture = show.live_lines(
    xlabel="training step",
    ylabel="mean max cosine",
    title="It finds the hidden directions",
    caption="It begins where random directions are.",
)
relu_sae = fit(
    0.2,
    watch=lambda step, sae: picture.update(
        step, found=cosine_with(sae["W_dec"].detach(), dictionary)
    ),
)
picture.close()

# %% id="fit-table" tags=["not-compared"]
print("   l1     L0   explained  cosine")
for l1 in (0.0, 0.05, 0.2, 0.5):
    sae = relu_sae if l1 == 0.2 else fit(l1)
    f, x_hat = rebuilt(sae, held_out.x)
    print(
        f"{l1:5.2f}  {count(f):5.1f}  {explained(held_out.x, x_hat):8.3f}  {cosine_with(sae['W_dec'], dictionary):7.2f}"
    )

# %% [markdown] id="fit-seen"
# <details><summary>What you should see</summary>
#
# Without a penalty the reconstruction is nearly perfect and nothing was found: two thirds of all latents are active, and the cosine is no better than that of random directions. With a penalty the cosine rises to nearly 1: the directions are found, from sums alone. But look at the columns in the middle. The better the directions, the worse the reconstruction, and L0 is above the 4.4 features that are really there.
# </details>
#
# *Reflect.* The data were made the way the autoencoder assumes. What would the cosine be if the features came in fixed pairs? Would the loss tell you?

# %% [markdown] id="part-2b"
# ### The loophole
#
# Leave the decoder's norms out of the penalty and let the decoder be free. **Predict:** what will the model do to f, and to W_dec?

# %% id="loophole" tags=["not-compared"]
cheat = fit(0.5, penalize_norms=False)
honest = fit(0.5)
print("              mean row norm   mean f    L0   explained")
for name, sae in (("norms count", honest), ("norms are free", cheat)):
    f, x_hat = rebuilt(sae, held_out.x)
    strength = f.sum(dim=1).mean() / count(f)
    print(
        f"{name:<15} {sae['W_dec'].norm(dim=1).mean():9.2f}  {strength:9.2f}  {count(f):5.1f}  {explained(held_out.x, x_hat):8.2f}"
    )

# %% [markdown] id="loophole-seen"
# Smaller f, longer rows: the same product, less to pay, and the penalty is on its way to meaning nothing. Two cures are in use. Weigh f_i by the norm of its row, as you did. Or keep the rows at norm 1, as Bricken et al. (2023) do. For the second you need two small tools.

# %% [markdown] id="ask-normalize_decoder"
# {{exercise normalize_decoder}}
#
# A row is a latent's direction. A zero row stays zero.


# %% id="answer-normalize_decoder"
def normalize_decoder(W_dec: Float[Tensor, "F d"]) -> Float[Tensor, "F d"]:
    """The decoder with rows of norm 1; a zero row stays zero. The argument is left as it is."""
    # BEGIN SOLUTION
    norms = W_dec.norm(dim=-1, keepdim=True)
    return W_dec / torch.where(norms > 0, norms, 1.0)
    # END SOLUTION


lesson.check(normalize_decoder)

# %% [markdown] id="ask-project_gradient"
# A step along a row only changes its length, which the normalisation undoes. So take that part out of the gradient first.
#
# {{exercise project_gradient}}
#
# Rows of `W_dec` may have any norm here; the component along a row does not depend on it. A zero row leaves its gradient as it is.


# %% id="answer-project_gradient"
def project_gradient(
    W_dec: Float[Tensor, "F d"], grad: Float[Tensor, "F d"]
) -> Float[Tensor, "F d"]:
    """The gradient without its component along each row of W_dec. A zero row leaves its gradient as it is."""
    # BEGIN SOLUTION
    norms = W_dec.norm(dim=-1, keepdim=True)
    unit = W_dec / torch.where(norms > 0, norms, 1.0)
    return grad - (grad * unit).sum(dim=-1, keepdim=True) * unit
    # END SOLUTION


lesson.check(project_gradient)

# %% id="use-normalize" tags=["not-compared"]
normalize, project = lesson.use("normalize_decoder"), lesson.use("project_gradient")


def keep_unit(sae):
    with torch.no_grad():
        sae["W_dec"].copy_(normalize(sae["W_dec"]))


unit = fit(0.5, penalize_norms=False, after_step=keep_unit)
f, x_hat = rebuilt(unit, held_out.x)
print(
    f"rows of norm {unit['W_dec'].norm(dim=1).mean():.2f}: L0 {count(f):.1f}, explained {explained(held_out.x, x_hat):.2f}"
)
gradient = torch.randn(LATENTS, D, generator=generator)
along = (project(unit["W_dec"], gradient) * unit["W_dec"]).sum(dim=1)
print(f"largest component along a row after projection: {along.abs().max():.0e}")

# %% [markdown] id="part-3"
# ## 3. What the penalty costs: shrinkage
#
# In the example by hand the one active latent came out at 1.5 instead of 2. That is no accident: each unit of f costs l1, so the optimum is always a little short. Here we know every true strength, so look.

# %% id="shrinkage-picture" tags=["not-compared"]
from mi_course.interp.sae import match_dictionary


def strengths(name, f, W_dec, n=150):
    """True and found strength of present features, for features that were recovered: two lists and a name for each."""
    match = match_dictionary(W_dec, dictionary)
    rows, features = (held_out.codes > 0).nonzero().T
    good = match.cosines[features] > 0.9
    rows, features = rows[good][:n], features[good][:n]
    true = held_out.codes[rows, features]
    # What a latent writes along its feature: its activation times the norm of its row.
    wrote = f[rows, match.latents[features]] * W_dec.norm(dim=1)[match.latents[features]]
    return true.tolist(), wrote.tolist(), [name] * len(rows)


f, x_hat = rebuilt(honest, held_out.x)
true, wrote, names = strengths("ReLU, l1 = 0.5", f, honest["W_dec"])
show.scatter(
    true,
    wrote,
    groups=names,
    diagonal=True,
    xlabel="true strength of the feature",
    ylabel="what its latent writes",
    title="Nearly every feature comes out too weak",
    caption="150 present features of held-out rows; the line is what was planted.",
)

# %% [markdown] id="ask-shrinkage"
# Without a known truth there is still a number. If all reconstructions are too short, multiplying them by something above 1 brings them nearer to x.
#
# {{exercise shrinkage}}
#
# Rajamanoharan et al. (2024a) call it relative reconstruction bias: the γ that minimises $E\lVert \hat x/\gamma - x\rVert^2$. Below 1 the reconstruction is too short. Not centred, as in the paper.


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
gamma = lesson.use("shrinkage")
mean = held_out.x.mean(dim=0)
far = 40 * torch.nn.functional.normalize(torch.ones(D), dim=0)
print(f"as the paper defines it:               {gamma(held_out.x, x_hat):.3f}")
print(f"on centred data:                       {gamma(held_out.x - mean, x_hat - mean):.3f}")
print(f"the same autoencoder, mean moved by 40: {gamma(held_out.x + far, x_hat + far):.3f}")

# %% [markdown] id="shrinkage-seen"
# <details><summary>What you should see</summary>
#
# The features in the picture lose four tenths of their strength or so (some of that is written by other latents), the centred reconstruction is 22 % too short, and the definition of the paper says 7 %: the mean, which b_dec rebuilds without any latent, is in the average too. Move all activations far from the origin and the number says that all is well, with nothing changed in the autoencoder but one bias. Real activations are far from the origin. So centre, or look at single features.
# </details>

# %% [markdown] id="ask-undo_shrinkage"
# {{exercise undo_shrinkage}}
#
# todo


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

# %% [markdown] id="part-4"
# ## 4. Two answers: JumpReLU and Gated
#
# A ReLU with a bias answers two questions with one number: *is it there?* and *how much of it?* To keep noise out, the bias must be negative; and then every activation is short by it. So part the two.

# %% [markdown] id="ask-jumprelu"
# {{exercise jumprelu}}
#
# What passes the threshold passes unchanged. Each latent has its own threshold; a value equal to it does not pass.


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
# How does a threshold learn? A tiny change of θ changes nothing for almost every input, so autograd says 0. But *on average over inputs* raising θ does something: it silences those that lie just above it. Rajamanoharan et al. (2024b) estimate that from the inputs within a small window around θ.
#
# {{exercise threshold_gradient}}
#
# $-\frac{\theta}{\varepsilon}\sum_{batch} K\!\left(\frac{pre - \theta}{\varepsilon}\right) \cdot grad\_out$ with $K(u) = 1$ for $|u| < \frac12$, else 0. For θ itself (the paper learns log θ, which adds a factor θ by the chain rule).


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
import math

estimate, theta, widths = (
    lesson.use("threshold_gradient"),
    torch.tensor([0.8]),
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
)
generator = torch.Generator().manual_seed(3)
runs = []
for _ in range(40):
    pre = torch.randn(4000, 1, generator=generator)
    share = torch.full_like(pre, 1 / len(pre))  # the loss is the mean output
    runs.append([float(estimate(pre, theta, share, width)) for width in widths])
exact = -0.8 * math.exp(-(0.8**2) / 2) / math.sqrt(2 * math.pi)
runs = torch.tensor(runs)
for width, column in zip(widths, runs.T, strict=True):
    print(
        f"window {width:4.2f}: {column.mean():+.3f} ± {column.std():.3f}   (exact {exact:+.3f})"
    )

# %% id="threshold-picture" tags=["not-compared"]
show.lines(
    widths,
    {"estimate (median, range of 40 batches)": runs, "control: exact": [exact] * len(widths)},
    xlabel="width of the window",
    ylabel="gradient for θ",
    title="A narrow window is noisy, a wide one is wrong",
    log_x=True,
)

# %% [markdown] id="ask-gated_encode"
# The other answer (Rajamanoharan et al. 2024a): two paths that share their directions. One opens gates, the other measures.
#
# {{exercise gated_encode}}
#
# Return the features and $\mathrm{ReLU}(\pi)$:
# $$\pi = (x - b_{dec})W_{gate} + b_{gate}, \qquad f = 1[\pi > 0]\cdot\mathrm{ReLU}\big(((x - b_{dec})W_{gate})\,e^{r_{mag}} + b_{mag}\big)$$


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
# Three terms, each summed over its last axis and averaged over the batch: the squared error of f through the decoder; `l1` times the sum of `gate`; the squared error of `gate` through the **detached** decoder and bias.


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
# From here on the course's own trainer does the work. It computes what you have written, with gradients derived by hand, several times as fast. All three kinds on the same data, with about the same L0:

# %% id="compare-kinds" tags=["not-compared"]
from mi_course.interp.sae import SAEConfig, train

base = dict(
    d_in=D, n_latents=LATENTS, steps=800, batch=1024, lr=1e-2, decay=160, dead_window=20_000
)
settings = {
    "relu": dict(l1=1.3),
    "jumprelu": dict(l0=0.3, bandwidth=0.2, threshold_init=0.1),
    "gated": dict(l1=2.0),
}
kinds = {
    name: train(SAEConfig(architecture=name, **{**base, **own}), seen.x)
    for name, own in settings.items()
}


def describe(name, sae):
    """One line of numbers on held-out rows."""
    f = sae.encode(held_out.x)
    x_hat = sae.decode(f)
    print(
        f"{name:<22} {count(f):5.1f} {explained(held_out.x, x_hat):9.3f} {gamma(held_out.x - mean, x_hat - mean):9.3f} "
        f"{cosine_with(sae.W_dec, dictionary):8.3f}"
    )


print("kind                      L0  explained  γ centred  cosine")
for name, sae in kinds.items():
    describe(name, sae)

gated = kinds["gated"].tensors()
yours, gate = lesson.use("gated_encode")(
    held_out.x,
    gated["W_enc"],
    *(gated[name] for name in ("b_gate", "r_mag", "b_mag", "b_dec")),
)
same = torch.allclose(yours, kinds["gated"].encode(held_out.x), atol=1e-4)
terms = lesson.use("gated_loss")(held_out.x, yours, gate, gated["W_dec"], gated["b_dec"], 1.0)
print(f"your gated_encode gives the same activations: {same}")
print(f"error of f {terms[0]:.2f}, error of the gate alone {terms[2]:.2f}")

# %% id="kinds-picture" tags=["not-compared"]
points = [
    strengths(name, sae.encode(held_out.x), sae.W_dec, n=80) for name, sae in kinds.items()
]
show.scatter(
    *([value for part in points for value in part[i]] for i in range(2)),
    groups=[name for part in points for name in part[2]],
    diagonal=True,
    xlabel="true strength of the feature",
    ylabel="what its latent writes",
    title="ReLU lies below the line; JumpReLU and Gated scatter around it",
    caption="80 present features of held-out rows for each kind.",
)

# %% [markdown] id="kinds-seen"
# <details><summary>What you should see</summary>
#
# The ReLU explains some 77 % of the variance, the other two about 90 %, with fewer active latents. The directions are as good in all three; it is the *strengths* that differ. And the gated autoencoder's two errors: rebuilt from the gate alone, which pays the penalty, x is much further off than from f, which does not.
# </details>

# %% [markdown] id="part-5"
# ## 5. No penalty at all: TopK and BatchTopK
#
# If few latents should speak, let only k speak (Gao et al. 2024; the idea is older: Makhzani and Frey 2013).

# %% [markdown] id="ask-topk_activation"
# {{exercise topk_activation}}
#
# The k largest of each row, at their places, where they are positive. Never more than k; among equal values any choice is right.


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
# The batch · k largest values of the whole batch, at their places, where they are positive.


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
    kinds[name] = train(SAEConfig(architecture=name, k=5, **base), seen.x)
print("kind                      L0  explained  γ centred  cosine")
for name, sae in kinds.items():
    describe(name, sae)

# One row among poor neighbours and among rich ones.
choose = lesson.use("batch_topk_activation")
pre = kinds["batch_topk"].pre_activations(held_out.x)
order = present.argsort()
row = pre[order[4000]]
for company, rows in (("poor", order[:63]), ("rich", order[-63:])):
    batch = torch.cat([row[None], pre[rows]])
    print(
        f"the same row among {company} neighbours keeps {int((choose(batch, 5)[0] > 0).sum())} latents"
    )
alone = int((kinds["batch_topk"].encode(held_out.x[order[4000]][None]) > 0).sum())
print(
    f"with the fixed threshold {kinds['batch_topk'].threshold:.2f}, whoever its neighbours are: {alone}"
)

# %% [markdown] id="topk-seen"
# <details><summary>What you should see</summary>
#
# TopK has γ = 1 and exactly k latents, too many for poor rows and too few for rich ones. BatchTopK spends the same number where it is needed, and explains more. Its price shows in the last lines: what a row keeps depends on its neighbours. That must not be so when the autoencoder is *used*, so a threshold is kept from training: the mean of the smallest value that passed.
# </details>

# %% [markdown] id="part-6"
# ## 6. Dead latents
#
# A latent that never fires gets no gradient, so it will never fire. Whether one is dead is easily asked wrongly.

# %% [markdown] id="ask-dead_latents"
# {{exercise dead_latents}}
#
# True where a latent is 0 in every row of every batch. Batches may differ in size.


# %% id="answer-dead_latents"
def dead_latents(batches: list[Float[Tensor, "batch F"]]) -> Bool[Tensor, "F"]:
    """Which latents are active in no row of any batch."""
    # BEGIN SOLUTION
    alive = torch.stack([(f > 0).any(dim=0) for f in batches]).any(dim=0)
    return ~alive
    # END SOLUTION


lesson.check(dead_latents)

# %% id="use-dead_latents" tags=["not-compared"]
find_dead = lesson.use("dead_latents")
f = kinds["topk"].encode(held_out.x)
for rows in (20, 100, 500, 2000, 8000):
    print(f"looked at {rows:5d} rows: {find_dead([f[:rows]]).float().mean():4.0%} dead")

# %% [markdown] id="dead-intro"
# Two thirds of those that look dead after 20 rows are rare ones that had not been asked. (What remains at the end is surplus: there are 96 latents for 64 features.) A share of dead latents without its window means nothing.
#
# Now make dying easy: start with b_dec at zero, encoder and decoder as strangers, and only as many latents as there are features, so that each that dies costs something. Two rescues are in use. Bricken et al. (2023) **resample**: a dead latent is put where the error is large. Gao et al. (2024) give the dead a task of their own.

# %% [markdown] id="ask-auxiliary_loss"
# {{exercise auxiliary_loss}}
#
# The k largest **dead** pre-activations of each row (positive only) rebuild the **detached** residual through their rows of `W_dec`, without bias. Squared error, summed over d, averaged over the batch. Fewer than k dead: all of them. None: 0.


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
    asleep = pre[:, dead]
    top = asleep.topk(count, dim=-1)
    code = torch.zeros_like(asleep).scatter(-1, top.indices, top.values.relu())
    return (residual.detach() - code @ W_dec[dead]).pow(2).sum(dim=-1).mean()
    # END SOLUTION


lesson.check(auxiliary_loss)


# %% id="rescue" tags=["not-compared"]
keep, auxiliary = lesson.use("topk_activation"), lesson.use("auxiliary_loss")


def hard_start(rescue, seed, steps=700, k=5):
    """TopK from a bad start. rescue: None, "auxiliary" or "resample"."""
    sae, generator = start(seed, n_latents=FEATURES)
    with torch.no_grad():
        sae["b_dec"].zero_()
        sae["W_enc"].copy_(torch.randn(D, FEATURES, generator=generator) / D**0.5)
    optimizer = torch.optim.Adam(sae.values(), lr=1e-2)
    silent = torch.zeros(FEATURES, dtype=torch.long)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, 4 * (1 - step / steps))
        x = seen.x[torch.randint(len(seen.x), (512,), generator=generator)]
        pre = (x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = keep(pre, k)
        residual = x - decode_(f, sae["W_dec"], sae["b_dec"])
        silent = torch.where((f > 0).any(dim=0), 0, silent + 1)
        dead = silent > 20
        loss = residual.pow(2).sum(dim=1).mean()
        if rescue == "auxiliary":
            loss = loss + auxiliary(residual, pre, dead, 2 * k, sae["W_dec"]) / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        keep_unit(sae)
        if rescue == "resample" and step % 50 == 49 and step < steps - 150:
            worst = normalize(
                residual.detach()[residual.norm(dim=1).topk(int(dead.sum())).indices]
            )
            with torch.no_grad():
                sae["W_dec"][dead], sae["W_enc"][:, dead], sae["b_enc"][dead] = (
                    worst,
                    worst.T,
                    0.0,
                )
            silent[dead] = 0
    sae = {name: tensor.detach() for name, tensor in sae.items()}
    f = keep((held_out.x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"], k)
    return sae, f


for rescue in (None, "resample", "auxiliary"):
    lines = []
    for seed in range(3):
        sae, f = hard_start(rescue, seed)
        x_hat = decode_(f, sae["W_dec"], sae["b_dec"])
        lines.append(
            (
                float(find_dead([f]).sum()),
                explained(held_out.x, x_hat),
                match_dictionary(sae["W_dec"], dictionary).recovered(),
            )
        )
    dead, variance, recovered = torch.tensor(lines).mean(dim=0)
    print(
        f"{rescue or 'no rescue':<10} {dead:4.1f} of {FEATURES} dead, explained {variance:.3f}, recovered {recovered:.0%}"
    )

# %% [markdown] id="rescue-seen"
# <details><summary>What you should see</summary>
#
# From this start a quarter of the latents die, and what lives has found little: it was busy rebuilding the mean that b_dec should hold. Resampling brings nearly all of them back, the auxiliary loss half, and both more than double what is recovered. Neither makes up for the bad start: from a good one
# (b_dec at the mean, the encoder as the decoder's transpose) 64 latents recover nearly nine tenths, and hardly any die (section 9). What is known about dead latents is mostly how not to make them.
# </details>
#
# *Reflect.* A rescued latent fires. Does that make it worth having? How would you tell on a real model?

# %% [markdown] id="part-7"
# ## 7. Your own
#
# You have every piece. Now put them together for data that you have not seen, with a dictionary that only the judge knows.

# %% [markdown] id="ask-train_sae"
# {{exercise train_sae}}
#
# Train on `x` and return `W_enc`, `b_enc`, `W_dec`, `b_dec`. The judge encodes unseen rows by ReLU((x − b_dec) W_enc + b_enc), keeps the k largest of each row, decodes, and looks at three numbers **together**: explained variance, the share of its dictionary that has a latent with a cosine above 0.9, and L0. Any kind of
# training is welcome. All randomness from the seed; a minute is plenty.


# %% id="answer-train_sae"
def train_sae(x: Float[Tensor, "n d"], n_latents: int, k: int, seed: int) -> dict[str, Tensor]:
    """A sparse autoencoder of x: W_enc [d F], b_enc [F], W_dec [F d], b_dec [d]. k latents may speak in a row."""
    # BEGIN SOLUTION
    rng = torch.Generator()
    rng.manual_seed(seed)
    rows = normalize_decoder(torch.randn(n_latents, x.shape[1], generator=rng))
    weights = {
        "W_enc": rows.t().contiguous(),
        "b_enc": x.new_zeros(n_latents),
        "W_dec": rows.clone(),
        "b_dec": x.mean(dim=0),
    }
    for parameter in weights.values():
        parameter.requires_grad_()
    adam = torch.optim.Adam(weights.values(), lr=1e-2)
    quiet = torch.zeros(n_latents, dtype=torch.long)
    for turn in range(800):
        adam.param_groups[0]["lr"] = 1e-2 * min(1, 5 * (1 - turn / 800))
        some = x[torch.randint(len(x), (512,), generator=rng)]
        before = (some - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
        code = topk_activation(before, k)
        left = some - decode(code, weights["W_dec"], weights["b_dec"])
        quiet = torch.where((code > 0).any(dim=0), 0, quiet + 1)
        total = left.pow(2).sum(dim=-1).mean()
        total = total + auxiliary_loss(left, before, quiet > 20, 2 * k, weights["W_dec"]) / 32
        adam.zero_grad()
        total.backward()
        weights["W_dec"].grad = project_gradient(
            weights["W_dec"].detach(), weights["W_dec"].grad
        )
        adam.step()
        with torch.no_grad():
            weights["W_dec"].copy_(normalize_decoder(weights["W_dec"]))
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
# **One autoencoder, five numbers.** All of these have been called "variance explained", in papers or libraries. Take the TopK autoencoder, on data moved away from the origin as real activations are, and with a constant error added, as a stale b_dec makes. **Predict:** how far apart can five definitions of one thing be?

# %% id="five-definitions" tags=["not-compared"]
from mi_course.interp.sae import explained_variance_variants

x_hat = kinds["topk"](held_out.x)
stale = 0.12 * torch.ones(D)
print(f"{'':<24} as trained   with a constant error of norm {stale.norm():.2f}")
fresh, off = (explained_variance_variants(held_out.x, out) for out in (x_hat, x_hat + stale))
for name in fresh:
    print(f"{name:<24} {fresh[name]:10.3f}   {off[name]:10.3f}")

# %% [markdown] id="five-seen"
# <details><summary>What you should see</summary>
#
# "Of the whole" is yours. Not centring the denominator turns 0.88 into 0.95: the mean is rebuilt for free. The variance of the error cannot see a constant error at all. Averages of ratios, over tokens or over dimensions, give some tokens or dimensions more weight than they have. The spread within a column is as large as what papers report as progress.
# </details>
#
# **A dead autoencoder.** Take one that has found everything, and let its encoder die.

# %% id="dead-cosine" tags=["not-compared"]
living = kinds["topk"]
corpse = {**living.tensors(), "b_enc": living.b_enc - 100.0}
f, x_hat = rebuilt(corpse, held_out.x)
print(
    f"mean max cosine {cosine_with(corpse['W_dec'], dictionary):.3f}, L0 {count(f):.1f}, explained {explained(held_out.x, x_hat):+.3f}"
)

# And with plenty of latents and few dimensions even random ones look found.
for width in (96, 1000, 30_000):
    rows = torch.randn(width, 8, generator=torch.Generator().manual_seed(width))
    print(
        f"{width:6d} random latents in 8 dimensions: cosine {cosine_with(rows, planted_dictionary(20, 8, seed=1)):.2f}"
    )

# %% [markdown] id="dead-cosine-seen"
# Nearly 1, and it explains nothing. In 8 dimensions 30,000 random directions score 0.96 as well. A cosine says that directions exist, not that they are used. Judge explained variance, L0 and recovery together; that is why the judge of section 7 did.
#
# *Reflect.* Somebody reports "our autoencoder explains 97 % of the variance". Which three questions do you ask?

# %% [markdown] id="part-9"
# ## 9. Sparsity against fidelity
#
# Any autoencoder looks better with more active latents. So comparisons are made along a curve: for each L0, how much is explained (a Pareto picture). Five kinds, three settings each; and the control, latents that were never trained.

# %% id="pareto" tags=["not-compared"]
from tqdm.auto import tqdm

grid = {
    "relu": [dict(l1=v) for v in (0.5, 1.0, 1.6)],
    "gated": [dict(l1=v) for v in (0.8, 1.5, 3.0)],
    "jumprelu": [dict(l0=v, bandwidth=0.2, threshold_init=0.1) for v in (0.08, 0.2, 0.5)],
    "topk": [dict(k=v) for v in (3, 5, 9)],
    "batch_topk": [dict(k=v) for v in (3, 5, 9)],
}
curve = []
quick = {**base, "steps": 500, "decay": 100}
for kind, own in tqdm([(name, own) for name in grid for own in grid[name]], leave=False):
    sae = train(SAEConfig(architecture=kind, **{**quick, **own}), seen.x)
    f = sae.encode(held_out.x)
    curve.append(
        (
            kind,
            count(f),
            explained(held_out.x, sae.decode(f)),
            match_dictionary(sae.W_dec, dictionary).recovered(),
        )
    )
hasty = train(SAEConfig(architecture="gated", **{**quick, "l1": 0.8, "lr": 2e-3}), seen.x)
f = hasty.encode(held_out.x)
recovered = match_dictionary(hasty.W_dec, dictionary).recovered()
curve.append(("gated, hasty", count(f), explained(held_out.x, hasty.decode(f)), recovered))
tied = {**start()[0]}
for k in (3, 5, 9):
    with torch.no_grad():
        f = keep((held_out.x - tied["b_dec"]) @ tied["W_enc"], k)
        x_hat = decode_(f, tied["W_dec"], tied["b_dec"])
    curve.append(("control: untrained", count(f), explained(held_out.x, x_hat), 0.0))
for kind, sparsity, fidelity, recovered in curve:
    print(
        f"{kind:<19} L0 {sparsity:5.1f}   explained {fidelity:6.3f}   recovered {recovered:4.0%}"
    )

# %% id="pareto-picture" tags=["not-compared"]
shown = [point for point in curve if point[2] > 0]
show.scatter(
    [point[1] for point in shown],
    [point[2] for point in shown],
    groups=[point[0] for point in shown],
    xlabel="L0 (active latents in a row)",
    ylabel="explained variance",
    title="Up and to the left is better: the ReLU pays for shrinkage",
    caption=f"Held-out rows; {present.mean():.1f} features are present in a row. The control was never trained.",
)

# %% id="widths" tags=["not-compared"]
print("latents   explained  recovered  dead")
for width in (32, 64, 96, 256, 512):
    sae = train(SAEConfig(architecture="topk", k=5, **{**quick, "n_latents": width}), seen.x)
    f = sae.encode(held_out.x)
    recovered = match_dictionary(sae.W_dec, dictionary).recovered()
    print(
        f"{width:7d} {explained(held_out.x, sae.decode(f)):10.3f} {recovered:10.0%} {int(find_dead([f]).sum()):5d}"
    )

# %% [markdown] id="pareto-seen"
# <details><summary>What you should see</summary>
#
# At the same L0 the ReLU explains least, since it shrinks what it finds; TopK, Gated, JumpReLU and BatchTopK do better, about in this order. The differences between the last three are small enough that another seed may change them. BatchTopK and JumpReLU let rows differ in how many latents they use. And more latents at a time are not better: where twice as many speak as there are features, more is explained and less is recovered.
#
# Then look at the line "gated, hasty", trained with a fifth of the learning rate. It explains more than most of the others, and recovered next to nothing: it rebuilds with many latents what it did not find with few. On a real model the last column does not exist.
#
# With too few latents features are missed or merged. With more than 64 nothing is gained here, and the surplus dies or doubles, because there is nothing more to find. On real data the curve goes on rising as far as anybody has trained.
# </details>

# %% [markdown] id="part-10"
# ## 10. A real model
#
# Now SmolLM2. Nobody planted anything, and nobody knows the answer. `sampled_tokens` holds 200,704 tokens that the model wrote itself; we take a part of them and the residual stream after layer 8.
#
# One warning first. Some tokens have *massive* activations, several times as long as others: the first of each row, and about one in a hundred of the rest. **Predict:** which share of the variance is theirs?

# %% id="activations" tags=["not-compared"]
from mi_course.interp.sae.activations import (
    collect_activations,
    run_to,
    sampled_tokens,
    HookSite,
)

LAYER = 8
model = mi_course.load_model()
tokens = sampled_tokens()
few = tokens[:8]
(resid,), ordinary, massive = run_to(
    model, HookSite.of(model, LAYER), few, torch.ones_like(few, dtype=torch.bool)
)
every = resid.flatten(0, 1)
spread = (every - every.mean(dim=0)).pow(2).sum(dim=1)
odd = massive.clone()
odd[:, 0] = True
norms = resid.norm(dim=-1)
print(
    f"median norm: ordinary {norms[ordinary].median():.0f}, massive {norms[massive].median():.0f}, BOS {norms[:, 0].median():.0f}"
)
print(
    f"BOS and massive: {odd.float().mean():.1%} of the tokens, {spread[odd.flatten()].sum() / spread.sum():.1%} of the variance"
)

train_rows, test_rows = tokens[:240], tokens[-16:]
activations, left_out = collect_activations(model, train_rows, LAYER)
unseen, _ = collect_activations(model, test_rows, LAYER)
print(f"training: {left_out}")

# %% [markdown] id="massive-seen"
# An autoencoder that is trained on them learns them and little else, and any share of variance that includes them is about them. So they are left out of training and of every number below, and pass unchanged when we splice.

# %% id="real-train" tags=["not-compared"]
config = SAEConfig(
    d_in=576,
    n_latents=2304,
    architecture="topk",
    k=32,
    steps=400,
    batch=1024,
    lr=2e-3,
    decay=100,
    dead_window=50_000,
)
picture = show.live_lines(
    xlabel="training step",
    ylabel="share",
    title="SmolLM2, layer 8: 2,304 latents, 32 at a time",
    caption="Explained variance of each batch, and latents silent for 50,000 tokens.",
)
with picture:
    real = train(
        config,
        activations,
        on_progress=lambda p: picture.update(
            p.step, explained_variance=p.explained_variance, dead=p.dead_share
        ),
    )

# %% id="real-numbers" tags=["not-compared"]
from mi_course.interp.sae import SAE

untrained = SAE.build(config)
with torch.no_grad():
    untrained.b_dec.copy_(activations.mean(dim=0))
    far = unseen.mean(dim=0)
    print("                     L0   explained   γ centred   dead on unseen tokens")
    for name, sae in (("trained", real), ("control: untrained", untrained)):
        f = torch.cat([sae.encode(part) for part in unseen.split(1024)])
        x_hat = sae.decode(f)
        print(
            f"{name:<19} {count(f):4.1f} {explained(unseen, x_hat):10.3f} {gamma(unseen - far, x_hat - far):11.3f} {find_dead([f]).float().mean():10.0%}"
        )

# %% [markdown] id="ask-splice"
# {{exercise splice}}
#
# todo


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

# %% [markdown] id="ask-loss_recovered"
# ### Does the model still work with it?
#
# Put the reconstruction in the place of the residual stream and let the model read on. Its loss will rise. Compare with the loss when zeros are put there.
#
# {{exercise loss_recovered}}
#
# 1 where the reconstruction costs nothing, 0 where it is no better than zeros. ValueError when zeros cost nothing.


# %% id="answer-loss_recovered"
def loss_recovered(clean: float, spliced: float, zero: float) -> float:
    """Share of the loss that zero ablation costs and the reconstruction does not. All three in nats.

    Raises ValueError when zero equals clean.
    """
    # BEGIN SOLUTION
    if zero == clean:
        raise ValueError(f"zero ablation costs nothing (both losses are {clean}).")
    return (zero - spliced) / (zero - clean)
    # END SOLUTION


lesson.check(loss_recovered)


# %% id="use-loss_recovered" tags=["not-compared"]
from types import SimpleNamespace

from mi_course.interp.sae.splicing import loss_with_sae


# The cheapest reconstruction: the mean activation, whatever comes in.
mean_only = SimpleNamespace(
    encode=lambda x: x, decode=lambda f: activations.mean(dim=0).expand_as(f)
)
recovered_share = lesson.use("loss_recovered")
for name, sae in (
    ("trained", real),
    ("control: untrained", untrained),
    ("control: the mean", mean_only),
):
    with torch.no_grad():
        losses = loss_with_sae(model, sae, test_rows[:8, :128], LAYER)
    share = recovered_share(losses.clean, losses.spliced, losses.zero)
    print(
        f"{name:<19} clean {losses.clean:.2f}, spliced {losses.spliced:.2f}, zeros {losses.zero:.2f} nats: recovered {share:.2f}"
    )

# %% [markdown] id="loss-seen"
# <details><summary>What you should see</summary>
#
# More than nine tenths recovered sounds like nearly everything. In nats the model got worse by four tenths. Zeros are so bad a replacement that random, untrained latents recover more than half of the way, and the mean activation, which
# says nothing about the token, more than a quarter. Report the nats.
# </details>

# %% [markdown] id="features-intro"
# ### What its latents fire on
#
# For eight latents, drawn by lot from those that fire on 0.3 to 3 % of tokens, the five unseen tokens on which they are strongest. Before you read meaning into them: random directions have strongest tokens as well, and people find meaning in those, too. So the same for random directions.

# %% [markdown] id="ask-dashboard_row"
# {{exercise dashboard_row}}
#
# todo


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

# %% id="features" tags=["not-compared"]
from collections import Counter

with torch.no_grad():
    (stream,), usable, _ = run_to(
        model,
        HookSite.of(model, LAYER),
        test_rows,
        torch.ones_like(test_rows, dtype=torch.bool),
    )
where = usable.nonzero().tolist()
inputs = stream[usable]
with torch.no_grad():
    fired = real.encode(inputs)
directions = torch.randn(2304, 576, generator=torch.Generator().manual_seed(0))
projected = (inputs - inputs.mean(dim=0)) @ directions.T


def context(index, width=5):
    """The token in brackets, after what came before it."""
    row, position = where[index]
    ids = test_rows[row]
    before = model.tokenizer.decode(ids[max(1, position - width) : position])
    return f"…{before}[{model.tokenizer.decode(ids[position])}]".replace("\n", "⏎")


def same_token(values, units):
    """Mean share of the ten strongest places that hold the commonest token among them."""
    shares = []
    for unit in units:
        ids = [int(test_rows[tuple(where[i])]) for i in values[:, unit].topk(10).indices]
        shares.append(Counter(ids).most_common(1)[0][1] / 10)
    return sum(shares) / len(shares)


often = (fired > 0).float().mean(dim=0)
chosen = ((often > 0.003) & (often < 0.03)).nonzero()[:, 0]
chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(6))]
for latent in chosen[:8].tolist():
    print(f"latent {latent} ({often[latent]:.1%} of tokens)")
    print(*(f"    {context(i)}" for i in fired[:, latent].topk(5).indices.tolist()), sep="\n")
print("\nrandom directions")
for unit in range(3):
    print(
        *(f"    {context(i)}" for i in projected[:, unit].topk(5).indices.tolist()), sep="\n"
    )
    print()
with torch.no_grad():
    unlearned = untrained.encode(inputs)
print(
    f"same token among a latent's ten strongest: trained {same_token(fired, chosen[:200].tolist()):.0%}, ",
    end="",
)
print(
    f"untrained {same_token(unlearned, range(200)):.0%}, random directions {same_token(projected, range(200)):.0%}"
)

# %% id="feature-text" tags=["not-compared"]
latent = int(chosen[0])
row, peak = where[int(fired[:, latent].argmax())]
at = [(i, site) for i, (r, site) in enumerate(where) if r == row and abs(site - peak) < 60]
show.tokens(
    [model.tokenizer.decode(test_rows[row][site]) for _, site in at],
    [float(fired[i, latent]) for i, _ in at],
    title=f"Latent {latent} on one text that it has not seen",
    unit="activation",
)

# %% [markdown] id="features-seen"
# <details><summary>What you should see</summary>
#
# Some latents are about something that can be named. In the run that is printed with the solution: the beginning of a user's turn, line breaks after a colon, helping, tokens that begin with "sw" or "sm". (Another machine may train another dictionary: which latents there are depends on the last digits.) Others look like nothing, and several are about a single token. Among random directions a name is harder to find, but try, and notice how ready you are to find one. The count at the end is a warning of its own: by this crude number trained latents and random
# directions hardly differ, because a few common tokens stick out in every direction. Bricken et al. (2023) had people rate latents without knowing where they came from, and used that. Lesson 07 tests a latent by what it *does*.
# </details>

# %% [markdown] id="part-11"
# ## 11. How far is this from the state of the art?

# %% id="distance"
runs = [
    ("this notebook", 2304, 400 * 1024),
    ("Bricken et al. 2023, A/1", 4096, 8e9),
    ("Bricken et al. 2023, widest", 131_072, 8e9),
    ("Gemma Scope 2024, narrowest", 2**14, 4e9),
    ("Gemma Scope 2024, widest", 2**20, 16e9),
    ("Gao et al. 2024, on GPT-4", 16_000_000, 40e9),
]
print("                               latents      tokens   tokens × latents, ours = 1")
for name, latents, n in runs:
    print(f"{name:<28} {latents:>10,} {n:>11.1e}   {n * latents / (2304 * 400 * 1024):.1e}")

# %% [markdown] id="distance-seen"
# <details><summary>What you should see</summary>
#
# Our run saw ten thousand times fewer tokens than the smallest of these, and each of its tokens seven times. In tokens times latents, which is what an encoder's arithmetic grows with (their activations are also wider than 576), the distance to Gao et al. is about nine orders of magnitude. Gemma Scope is more than 400 such autoencoders, on every layer. It is public, and lesson 07 could be done with it.
#
# What carries over from a laptop is not the dictionary but the judgement: the same shrinkage, the same dead latents, the same five definitions are in papers at every scale.
# </details>
#
# *Reflect.* Which result in this lesson rests on knowing the truth, and has no counterpart on a real model? What would you accept in its place?

# %% [markdown] id="recap"
# ## What you have done
#
# You hid 64 directions in 32 dimensions and found them again. You wrote the loss term by term, saw what each term does when it is wrong, watched L1 shrink what it should measure, and parted presence from strength in two ways. You replaced the penalty by a count, woke dead latents, and trained an autoencoder that passed a judge who knew the truth.
# You saw five definitions disagree about one reconstruction, and a dead autoencoder with a perfect score. Then you did it where nobody knows the truth, with controls.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
#
# **One paper:** Gao et al. 2024, *Scaling and evaluating sparse autoencoders*. Read section 4 on what else to measure when there is no dictionary to compare with, and ask which of its metrics a dead autoencoder would pass.
