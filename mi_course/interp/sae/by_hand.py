"""A sparse autoencoder by hand: the course's own implementations of the functions of lesson 06.

Latents are counted by F, inputs by d; W_enc [d, F], W_dec [F, d]. Plain and readable: what trains fast is
`mi_course.interp.sae.train`. Sources: Bricken et al. 2023 (ReLU, L1, decoder norms); Gao et al. 2024 (TopK, auxiliary
loss); Bussmann et al. 2024 (BatchTopK); Rajamanoharan et al. 2024a (gated) and 2024b (JumpReLU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

__all__ = [
    "auxiliary_loss",
    "batch_topk_activation",
    "decode",
    "encode",
    "gated_encode",
    "gated_loss",
    "jumprelu",
    "normalize_decoder",
    "project_gradient",
    "sae_loss",
    "threshold_gradient",
    "topk_activation",
    "train_sae",
]


def encode(
    x: Float[Tensor, "batch d"], W_enc: Float[Tensor, "d F"], b_enc: Float[Tensor, " F"], b_dec: Float[Tensor, " d"]
) -> Float[Tensor, "batch F"]:
    """ReLU((x − b_dec) W_enc + b_enc).

    >>> encode(torch.tensor([[3.0]]), torch.tensor([[1.0, -1.0]]), torch.zeros(2), torch.ones(1)).tolist()
    [[2.0, 0.0]]
    """
    return ((x - b_dec) @ W_enc + b_enc).relu()


def decode(
    f: Float[Tensor, "batch F"], W_dec: Float[Tensor, "F d"], b_dec: Float[Tensor, " d"]
) -> Float[Tensor, "batch d"]:
    """f W_dec + b_dec: a mixture of decoder rows, and the bias."""
    return f @ W_dec + b_dec


def sae_loss(
    x: Float[Tensor, "batch d"],
    x_hat: Float[Tensor, "batch d"],
    f: Float[Tensor, "batch F"],
    W_dec: Float[Tensor, "F d"],
    l1: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Squared error summed over d, and l1 · Σ_i f_i ‖W_dec,i‖₂; both averaged over the batch.

    Weighing by the decoder's norms makes the penalty blind to moving length between f and W_dec, so that these may stay
    free (Anthropic's "Circuits Updates", April 2024).
    """
    reconstruction = (x - x_hat).pow(2).sum(dim=-1).mean()
    sparsity = l1 * (f * W_dec.norm(dim=-1)).sum(dim=-1).mean()
    return reconstruction, sparsity


def normalize_decoder(W_dec: Float[Tensor, "F d"]) -> Float[Tensor, "F d"]:
    """Rows of norm 1; a zero row stays zero."""
    norms = W_dec.norm(dim=-1, keepdim=True)
    return W_dec / torch.where(norms > 0, norms, 1.0)


def project_gradient(W_dec: Float[Tensor, "F d"], grad: Float[Tensor, "F d"]) -> Float[Tensor, "F d"]:
    """The gradient without its component along each decoder row; a zero row leaves its gradient as it is."""
    unit = normalize_decoder(W_dec)
    return grad - (grad * unit).sum(dim=-1, keepdim=True) * unit


def topk_activation(pre: Float[Tensor, "batch F"], k: int) -> Float[Tensor, "batch F"]:
    """The k largest of each row where positive, zero elsewhere; at ties some choice, and never more than k."""
    top = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())


def batch_topk_activation(pre: Float[Tensor, "batch F"], k: int) -> Float[Tensor, "batch F"]:
    """The batch·k largest of the whole batch where positive, zero elsewhere."""
    flat = pre.flatten()
    top = flat.topk(pre.shape[0] * k)
    return torch.zeros_like(flat).scatter(0, top.indices, top.values.relu()).view_as(pre)


def jumprelu(pre: Float[Tensor, "batch F"], threshold: Float[Tensor, " F"]) -> Float[Tensor, "batch F"]:
    """pre where it exceeds its latent's threshold, else 0."""
    return torch.where(pre > threshold, pre, 0.0)


def threshold_gradient(
    pre: Float[Tensor, "batch F"], threshold: Float[Tensor, " F"], grad_out: Float[Tensor, "batch F"], bandwidth: float
) -> Float[Tensor, " F"]:
    """The straight-through estimate of the loss' gradient with respect to the thresholds of `jumprelu`.

    −(threshold/bandwidth) Σ_batch K((pre − threshold)/bandwidth) grad_out, with K(u) = 1 for |u| < ½ (Rajamanoharan et
    al. 2024b).
    """
    near = ((pre - threshold) / bandwidth).abs() < 0.5
    return -(threshold / bandwidth) * (near * grad_out).sum(dim=0)


def gated_encode(
    x: Float[Tensor, "batch d"],
    W_gate: Float[Tensor, "d F"],
    b_gate: Float[Tensor, " F"],
    r_mag: Float[Tensor, " F"],
    b_mag: Float[Tensor, " F"],
    b_dec: Float[Tensor, " d"],
) -> tuple[Float[Tensor, "batch F"], Float[Tensor, "batch F"]]:
    """Features 1[π > 0] · ReLU(z · exp(r_mag) + b_mag), and ReLU(π), with z = (x − b_dec) W_gate and π = z + b_gate."""
    z = (x - b_dec) @ W_gate
    gate = z + b_gate
    magnitude = (z * r_mag.exp() + b_mag).relu()
    return (gate > 0) * magnitude, gate.relu()


def gated_loss(
    x: Float[Tensor, "batch d"],
    f: Float[Tensor, "batch F"],
    gate: Float[Tensor, "batch F"],
    W_dec: Float[Tensor, "F d"],
    b_dec: Float[Tensor, " d"],
    l1: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Reconstruction, sparsity of the gate, and reconstruction from the gate alone through a detached decoder."""
    reconstruction = (x - f @ W_dec - b_dec).pow(2).sum(dim=-1).mean()
    sparsity = l1 * gate.sum(dim=-1).mean()
    auxiliary = (x - gate @ W_dec.detach() - b_dec.detach()).pow(2).sum(dim=-1).mean()
    return reconstruction, sparsity, auxiliary


def auxiliary_loss(
    residual: Float[Tensor, "batch d"],
    pre: Float[Tensor, "batch F"],
    dead: Bool[Tensor, " F"],
    k: int,
    W_dec: Float[Tensor, "F d"],
) -> Float[Tensor, ""]:
    """Squared error of the detached residual rebuilt from the k largest dead pre-activations, where positive.

    Summed over d, mean over the batch. Fewer than k dead latents: all of them. None: 0.
    """
    count = min(k, int(dead.sum()))
    if count == 0:
        return pre.new_zeros(())
    rebuilt = topk_activation(pre[:, dead], count) @ W_dec[dead]
    return (residual.detach() - rebuilt).pow(2).sum(dim=-1).mean()


def train_sae(
    x: Float[Tensor, "n d"], n_latents: int, k: int, seed: int, steps: int = 800, lr: float = 1e-2
) -> dict[str, Tensor]:
    """A TopK autoencoder of `n_latents` latents, of which k speak in each row; unit decoder rows.

    Returns W_enc [d F], b_enc [F], W_dec [F d] and b_dec [d], to be read with `topk_activation` of the encoder's
    pre-activations. All randomness comes from the seed. Made for small data: 20,000 rows of 32 take a second.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = normalize_decoder(torch.randn(n_latents, x.shape[1], generator=generator))
    sae = {
        "W_enc": directions.T.clone(),
        "b_enc": torch.zeros(n_latents),
        "W_dec": directions.clone(),
        "b_dec": x.mean(dim=0),
    }
    for parameter in sae.values():
        parameter.requires_grad_(True)
    # A scale for the step that does not depend on the data's: Adam's steps are as long as lr says.
    scale = float((x - x.mean(dim=0)).pow(2).sum(dim=-1).mean().sqrt()) or 1.0
    optimizer = torch.optim.Adam(sae.values(), lr=lr)
    last_spoke = torch.zeros(n_latents, dtype=torch.long)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 5 * (1 - step / steps))
        batch = x[torch.randint(len(x), (512,), generator=generator)]
        pre = (batch - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = topk_activation(pre, k)
        residual = batch - decode(f, sae["W_dec"], sae["b_dec"])
        last_spoke[(f > 0).any(dim=0)] = step
        dead = step - last_spoke > 20
        revive = auxiliary_loss(residual, pre, dead, 2 * k, sae["W_dec"])
        loss = (residual.pow(2).sum(dim=-1).mean() + revive / 32) / scale**2
        optimizer.zero_grad()
        loss.backward()
        W_dec = sae["W_dec"]
        W_dec.grad = project_gradient(W_dec.detach(), W_dec.grad)
        optimizer.step()
        with torch.no_grad():
            W_dec.copy_(normalize_decoder(W_dec))
    return {name: parameter.detach() for name, parameter in sae.items()}
