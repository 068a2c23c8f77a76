"""Every hand-written gradient against autograd, in float64, on losses written out plainly here."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.sae import SAE, SAEConfig, matmul
from mi_course.interp.sae import base as base_module

D, F, ROWS = 6, 32, 24


class Step(torch.autograd.Function):
    """pre > threshold, with the straight-through gradient of the paper for the threshold and none for pre."""

    @staticmethod
    def forward(context, pre, threshold, bandwidth):
        context.save_for_backward(pre, threshold)
        context.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(context, grad):
        pre, threshold = context.saved_tensors
        near = ((pre - threshold).abs() < context.bandwidth / 2).to(pre.dtype)
        return None, (-near * grad / context.bandwidth).sum(0), None


class Jump(torch.autograd.Function):
    """pre where it exceeds the threshold, with the paper's gradients."""

    @staticmethod
    def forward(context, pre, threshold, bandwidth):
        context.save_for_backward(pre, threshold)
        context.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(context, grad):
        pre, threshold = context.saved_tensors
        near = ((pre - threshold).abs() < context.bandwidth / 2).to(pre.dtype)
        return grad * (pre > threshold), (-(threshold / context.bandwidth) * near * grad).sum(0), None


def plain_loss(sae, x, target, dead, scale):
    """(reconstruction, sparsity, auxiliary): the loss as the papers write it, differentiable."""
    c = sae.config
    centered = x - sae.b_dec if c.subtract_decoder_bias else x
    bias = sae.b_gate if c.architecture == "gated" else sae.b_enc
    pre = centered @ sae.W_enc + bias
    norms = sae.W_dec.norm(dim=1) if c.decoder_norm == "free" else 1.0
    sparsity = auxiliary = torch.zeros((), dtype=x.dtype)
    if c.architecture == "relu":
        f = pre.relu()
        sparsity = c.l1 * (f * norms).sum(1).mean()
    elif c.architecture == "topk":
        kept = torch.zeros_like(pre).scatter(1, pre.topk(c.k).indices, 1.0)
        f = (pre * kept).relu()
    elif c.architecture in ("batch_topk", "matryoshka"):
        kept = torch.zeros(pre.numel(), dtype=x.dtype)
        kept[pre.flatten().topk(c.k * len(x)).indices] = 1.0
        f = (pre * kept.view_as(pre)).relu()
    elif c.architecture == "jumprelu":
        threshold = sae.threshold
        f = Jump.apply(pre, threshold, c.bandwidth)
        if c.sparsity == "tanh":
            sparsity = c.l0 * (c.tanh_scale * f * norms).tanh().sum(1).mean()
        else:
            l0 = Step.apply(pre, threshold, c.bandwidth).sum(1).mean()
            sparsity = c.l0 * (l0 if c.target_l0 is None else (l0 / c.target_l0 - 1) ** 2)
    else:
        f = (pre > 0) * ((centered @ sae.W_enc) * sae.r_mag.exp() + sae.b_mag).relu()
        gate = pre.relu()
        sparsity = c.l1 * gate.sum(1).mean()
        auxiliary = (gate @ sae.W_dec.detach() + sae.b_dec.detach() - target).square().sum(1).mean()
    error = f @ sae.W_dec + sae.b_dec - target
    if dead is not None and dead.any():
        left = -error.detach()
        chosen = pre[:, dead]
        values, which = chosen.topk(min(c.k_aux, chosen.shape[1]))
        g = torch.zeros_like(chosen).scatter(1, which, values.relu())
        auxiliary = auxiliary + c.auxiliary * (g @ sae.W_dec[dead] - left).square().sum(1).mean()
    nested = [f[:, :m] @ sae.W_dec[:m] + sae.b_dec - target for m in c.prefixes or (c.n_latents,)]
    reconstruction = sum(e.square().sum(1).mean() for e in nested) / len(nested)
    return reconstruction, scale * sparsity, auxiliary


CASES = {
    "relu-free": {"architecture": "relu", "l1": 0.3},
    "relu-unit": {"architecture": "relu", "l1": 0.3, "decoder_norm": "unit"},
    "topk": {"architecture": "topk", "k": 3},
    "topk-larger-than-what-is-positive": {"architecture": "topk", "k": 30},
    "batch_topk": {"architecture": "batch_topk", "k": 3},
    "matryoshka": {"architecture": "matryoshka", "k": 3},
    "matryoshka-of-one": {"architecture": "matryoshka", "k": 3, "prefixes": (32,)},
    "matryoshka-of-two": {"architecture": "matryoshka", "k": 5, "prefixes": (5, 32)},
    "jumprelu-step": {"architecture": "jumprelu", "l0": 0.2, "bandwidth": 0.6, "threshold_init": 0.5},
    "jumprelu-target": {"architecture": "jumprelu", "target_l0": 4.0, "bandwidth": 0.6, "threshold_init": 0.5},
    "jumprelu-tanh": {"architecture": "jumprelu", "sparsity": "tanh", "bandwidth": 0.6, "threshold_init": 0.5},
    "jumprelu-tanh-free": {
        "architecture": "jumprelu",
        "sparsity": "tanh",
        "bandwidth": 0.6,
        "threshold_init": 0.5,
        "decoder_norm": "free",
        "decoder_init_norm": 0.8,
    },
    "gated": {"architecture": "gated", "l1": 0.3},
}


@pytest.mark.parametrize("dead_latents", [0, 5, 20])
@pytest.mark.parametrize("products", ["dense", "sparse", "dense-in-blocks", "sparse-in-blocks"])
@pytest.mark.parametrize("d_out", [None, 4])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd(case, d_out, products, dead_latents, monkeypatch):
    monkeypatch.setattr(base_module, "sparse_below", lambda device: 0.0 if products.startswith("dense") else 1.0)
    if products.endswith("blocks"):
        monkeypatch.setattr(matmul, "BLOCK_BYTES", 7 * F * 8)
    sae = randomized(SAEConfig(d_in=D, n_latents=F, d_out=d_out, k_aux=6, auxiliary=1 / 32, **CASES[case]))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, D, generator=generator, dtype=torch.float64) + 0.3
    target = x if d_out is None else torch.randn(ROWS, d_out, generator=generator, dtype=torch.float64)
    dead = torch.zeros(F, dtype=torch.bool)
    dead[torch.randperm(F, generator=generator)[:dead_latents]] = True

    parts = plain_loss(sae, x, target, dead, scale=0.7)
    expected = dict(zip(names(sae), torch.autograd.grad(sum(parts), list(sae.parameters())), strict=True))
    step = sae.gradients(x, None if d_out is None else target, dead, scale=0.7)

    for value, part in zip((step.reconstruction, step.sparsity, step.auxiliary), parts, strict=True):
        assert value == pytest.approx(part.item(), rel=1e-10)
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(sae.named_parameters())[name].grad, gradient, rtol=1e-9, atol=1e-12, msg=name)


def names(sae):
    return [name for name, _ in sae.named_parameters()]


def randomized(config):
    """An SAE none of whose weights is at its first value."""
    sae = SAE.build(config, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name == "threshold":
                parameter.clamp_(min=0.2)
    return sae
