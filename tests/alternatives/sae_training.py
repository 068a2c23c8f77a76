"""Other right answers to lesson 06."""

from __future__ import annotations

import einops
import numpy as np
import torch
import torch.nn.functional as F

# ---------------------------------------------------------------------------------------------------------------------
# The ReLU autoencoder


def encode_folded(x, W_enc, b_enc, b_dec):
    return F.relu(x @ W_enc + (b_enc - b_dec @ W_enc))


def encode_by_rows(x, W_enc, b_enc, b_dec):
    return torch.stack([torch.clamp(torch.addmv(b_enc, W_enc.T, row - b_dec), min=0) for row in x])


def loss_by_mse(x, x_hat, f, W_dec, l1):
    mse = F.mse_loss(x_hat, x, reduction="sum") / len(x)
    return mse, l1 * torch.einsum("bi,i->b", f, torch.linalg.norm(W_dec, dim=1)).mean()


def loss_as_list(x, x_hat, f, W_dec, l1):
    lengths = (W_dec * W_dec).sum(1).sqrt()
    return [((x_hat - x) ** 2).sum(1).mean(0), (f @ lengths).mean() * l1]


# ---------------------------------------------------------------------------------------------------------------------
# TopK and BatchTopK


def topk_by_ranks(pre, k):
    ranks = pre.argsort(dim=-1, descending=True).argsort(dim=-1)
    return torch.where((ranks < k) & (pre > 0), pre, 0.0)


def topk_by_mask(pre, k):
    mask = torch.zeros_like(pre, dtype=torch.bool)
    mask.scatter_(1, torch.relu(pre).topk(k, sorted=False).indices, True)
    return pre.relu() * mask


def topk_by_rows(pre, k):
    out = pre.new_zeros(pre.shape)
    for row in range(len(pre)):
        index = pre[row].sort(descending=True).indices[:k]
        out[row, index] = pre[row, index].clamp(min=0)
    return out


def batch_topk_by_ranks(pre, k):
    flat = pre.reshape(-1)
    ranks = torch.empty_like(flat, dtype=torch.long)
    ranks[flat.argsort(descending=True)] = torch.arange(len(flat))
    return (flat * (ranks < k * len(pre))).relu().reshape(pre.shape)


def batch_topk_by_mask(pre, k):
    mask = torch.zeros(pre.numel())
    mask[pre.view(-1).topk(k * pre.size(0)).indices] = 1
    return F.relu(pre) * mask.view_as(pre)


# ---------------------------------------------------------------------------------------------------------------------
# JumpReLU and Gated


def jump_by_mask(pre, threshold):
    return pre * (pre > threshold)


def jump_by_fill(pre, threshold):
    return pre.masked_fill(pre <= threshold[None, :], 0)


def ste_by_loop(pre, threshold, grad_out, bandwidth):
    total = torch.zeros_like(threshold)
    for row, g in zip(pre, grad_out, strict=True):
        inside = (row > threshold - bandwidth / 2) & (row < threshold + bandwidth / 2)
        total -= torch.where(inside, g * threshold / bandwidth, 0)
    return total


def ste_by_autograd(pre, threshold, grad_out, bandwidth):
    """As the paper's pseudocode has it: a function of its own, and autograd does the sum."""

    class Jump(torch.autograd.Function):
        @staticmethod
        def forward(ctx, pre, threshold):
            ctx.save_for_backward(pre, threshold)
            return pre * (pre > threshold)

        @staticmethod
        def backward(ctx, grad):
            pre, threshold = ctx.saved_tensors
            u = (pre - threshold) / bandwidth
            rectangle = ((u > -0.5) & (u < 0.5)).to(pre.dtype)
            return (pre > threshold) * grad, (-(threshold / bandwidth) * rectangle * grad).sum(0)

    theta = threshold.clone().requires_grad_()
    Jump.apply(pre, theta).backward(grad_out)
    return theta.grad


def gated_with_weights(x, W_gate, b_gate, r_mag, b_mag, b_dec):
    W_mag = W_gate * torch.exp(r_mag)
    pi = (x - b_dec) @ W_gate + b_gate
    magnitude = F.relu((x - b_dec) @ W_mag + b_mag)
    return torch.where(pi > 0, magnitude, torch.zeros_like(magnitude)), F.relu(pi)


def gated_by_where(x, W_gate, b_gate, r_mag, b_mag, b_dec):
    z = einops.einsum(x - b_dec, W_gate, "b d, d f -> b f")
    f = ((z * torch.exp(r_mag)) + b_mag).clamp(min=0)
    f[z + b_gate <= 0] = 0
    return [f, (z + b_gate).clamp(min=0)]


def gated_loss_by_no_grad_copy(x, f, gate, W_dec, b_dec, l1):
    kept_W, kept_b = W_dec.data, b_dec.data
    main = ((f @ W_dec + b_dec - x) ** 2).sum(1).mean()
    return main, gate.sum() * l1 / len(x), ((gate @ kept_W + kept_b - x) ** 2).sum(1).mean()


def gated_loss_by_mse(x, f, gate, W_dec, b_dec, l1):
    def error(code, W, b):
        return F.mse_loss(torch.addmm(b, code, W), x, reduction="none").sum(-1).mean()

    return [error(f, W_dec, b_dec), l1 * gate.norm(p=1, dim=-1).mean(), error(gate, W_dec.detach(), b_dec.detach())]


# ---------------------------------------------------------------------------------------------------------------------
# Metrics


def variance_by_numpy(x, x_hat):
    x, x_hat = x.numpy().astype(np.float64), x_hat.numpy().astype(np.float64)
    return float(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def variance_by_var(x, x_hat):
    return 1 - (x - x_hat).square().mean(0).sum() / x.var(dim=0, unbiased=False).sum()


def dead_by_flags(batches):
    alive = torch.zeros(batches[0].shape[1], dtype=torch.bool)
    for f in batches:
        alive |= (f > 0).any(dim=0)
    return ~alive


def dead_by_maximum(batches):
    return torch.cat(batches).max(dim=0).values <= 0


def shrinkage_by_lstsq(x, x_hat):
    if float(x_hat.norm()) == 0:
        raise ValueError("there is no reconstruction")
    stretch = torch.linalg.lstsq(x_hat.reshape(-1, 1).double(), x.reshape(-1, 1).double()).solution
    return 1 / stretch.item()


def shrinkage_by_sums(x, x_hat):
    energy = (x_hat**2).sum()
    if not energy:
        raise ValueError("zero")
    return energy / torch.einsum("bd,bd->", x, x_hat)


def cosine_by_torch(W_dec, dictionary):
    return F.cosine_similarity(dictionary[:, None], W_dec[None], dim=-1).max(dim=1).values.mean()


def cosine_by_loop(W_dec, dictionary):
    best = []
    for g in dictionary:
        scores = [float(w @ g / (w.norm() * g.norm())) if w.norm() > 0 else 0.0 for w in W_dec]
        best.append(max(scores))
    return np.mean(best).item()


# ---------------------------------------------------------------------------------------------------------------------
# Dead latents


def auxiliary_by_masking(residual, pre, dead, k, W_dec):
    if not dead.any():
        return torch.tensor(0.0)
    top = pre.masked_fill(~dead, float("-inf")).topk(min(k, int(dead.sum())), dim=-1)
    code = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    return ((residual.detach() - code @ W_dec) ** 2).sum(-1).mean()


def auxiliary_by_rows(residual, pre, dead, k, W_dec):
    asleep = dead.nonzero()[:, 0]
    if len(asleep) == 0:
        return 0.0
    total = 0.0
    for target, row in zip(residual.detach(), pre, strict=True):
        chosen = asleep[row[asleep].argsort(descending=True)[:k]]
        total = total + (target - F.relu(row[chosen]) @ W_dec[chosen]).pow(2).sum()
    return total / len(pre)


# ---------------------------------------------------------------------------------------------------------------------
# Rescaling, splicing, a dashboard


def undo_by_lstsq(x, f, W_dec):
    if float(f.abs().sum()) == 0:
        raise ValueError("nothing is active")
    y = (f @ W_dec).double()
    n, d = y.shape
    A = torch.cat([y.reshape(-1, 1), torch.eye(d, dtype=y.dtype).repeat(n, 1)], dim=1)
    solution = torch.linalg.lstsq(A, x.double().reshape(-1, 1)).solution[:, 0]
    return [W_dec * solution[0].float(), solution[1:].float()]


def undo_by_gamma(x, f, W_dec):
    if not (f > 0).any():
        raise ValueError("no latent is active")
    x_hat = f @ W_dec
    short, wanted = x_hat - x_hat.mean(0), x - x.mean(0)
    gamma = (short * short).sum() / torch.einsum("bd,bd->", short, wanted)
    return W_dec / gamma, (x - x_hat / gamma).mean(0)


def splice_by_where(resid, hook, sae, ordinary):
    return torch.where(ordinary.unsqueeze(-1), sae.decode(sae.encode(resid)), resid)


def splice_in_place(resid, hook, sae, ordinary):
    rebuilt = sae.decode(sae.encode(resid))
    resid[ordinary] = rebuilt[ordinary]


def splice_token_by_token(resid, hook, sae, ordinary):
    out = resid.clone()
    for row, position in ordinary.nonzero().tolist():
        out[row, position] = sae.decode(sae.encode(resid[row, position]))
    return out


def row_by_topk(f, latent, W_dec, W_U, n):
    column = f[:, latent]
    order = sorted(range(len(column)), key=lambda token: -column[token].item())
    logits = torch.einsum("d,dv->v", W_dec[latent], W_U)
    return {
        "strongest": torch.tensor([token for token in order if column[token] > 0][:n]),
        "promotes": logits.sort(descending=True, stable=True).indices[:n],
        "density": (column > 0).double().mean(),
    }


def row_by_numpy(f, latent, W_dec, W_U, n):
    column, logits = f.numpy()[:, latent], W_dec[latent].numpy() @ W_U.numpy()
    strongest = np.argsort(-column, kind="stable")[:n]
    return {
        "density": float(np.count_nonzero(column > 0) / len(column)),
        "strongest": strongest[column[strongest] > 0].tolist(),
        "promotes": np.argsort(-logits, kind="stable")[:n].tolist(),
    }


# ---------------------------------------------------------------------------------------------------------------------
# The outcome


def train_without_projection(x, n_latents, k, seed):
    """No auxiliary loss, no projected gradient: dead latents are put where the error is large; weights left to Adam."""
    g = torch.Generator().manual_seed(seed)
    mean, scale = x.mean(0), (x - x.mean(0)).norm(dim=1).mean()
    y = (x - mean) / scale
    rows = F.normalize(torch.randn(n_latents, x.shape[1], generator=g), dim=1)
    W_enc, W_dec = torch.nn.Parameter(rows.T.clone()), torch.nn.Parameter(rows.clone())
    b_enc, b_dec = torch.nn.Parameter(torch.zeros(n_latents)), torch.nn.Parameter(torch.zeros(x.shape[1]))
    optimizer = torch.optim.Adam([W_enc, W_dec, b_enc, b_dec], lr=8e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=1200)
    fired = torch.zeros(n_latents, dtype=torch.bool)
    for step in range(1200):
        batch = y[torch.randint(len(y), (512,), generator=g)]
        f = topk_by_mask((batch - b_dec) @ W_enc + b_enc, k)
        error = batch - f @ W_dec - b_dec
        optimizer.zero_grad()
        error.pow(2).sum(1).mean().backward()
        optimizer.step()
        schedule.step()
        fired |= (f > 0).any(0)
        with torch.no_grad():
            W_dec /= W_dec.norm(dim=1, keepdim=True)
            if step % 100 == 99 and step < 900:
                dead, worst = (~fired).nonzero()[:, 0], error.norm(dim=1).topk(int((~fired).sum())).indices
                W_dec[dead] = F.normalize(error[worst], dim=1)
                W_enc[:, dead] = W_dec[dead].T
                b_enc[dead] = 0.0
                fired[:] = False
    with torch.no_grad():
        return {"W_enc": W_enc / scale, "b_enc": b_enc, "W_dec": W_dec * scale, "b_dec": b_dec * scale + mean}


def train_with_l1(x, n_latents, k, seed):
    """ReLU and an L1 penalty that fades; in the end k of each row are active, without the shrinkage that L1 left."""
    g = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(n_latents, x.shape[1], generator=g), dim=1)
    W_enc, W_dec = rows.T.clone().requires_grad_(), rows.clone().requires_grad_()
    b_enc, b_dec = torch.zeros(n_latents).requires_grad_(), x.mean(0).clone().requires_grad_()
    optimizer = torch.optim.Adam([W_enc, b_enc, W_dec, b_dec], lr=1e-2)
    steps = 1200
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, 4 * (1 - step / steps))
        batch = x[torch.randint(len(x), (512,), generator=g)]
        pre = ((batch - b_dec) @ W_enc + b_enc).relu()
        late = step > steps // 2
        f = topk_by_mask(pre, k) if late else pre
        l1 = 0.0 if late else 0.6
        loss = (batch - f @ W_dec - b_dec).pow(2).sum(1).mean() + l1 * (f * W_dec.norm(dim=1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"W_enc": W_enc.detach(), "b_enc": b_enc.detach(), "W_dec": W_dec.detach(), "b_dec": b_dec.detach()}


ANSWERS = {
    "mean_max_cosine": [cosine_by_torch, cosine_by_loop],
    "encode": [encode_folded, encode_by_rows],
    "sae_loss": [loss_by_mse, loss_as_list],
    "explained_variance": [variance_by_numpy, variance_by_var],
    "shrinkage": [shrinkage_by_lstsq, shrinkage_by_sums],
    "undo_shrinkage": [undo_by_lstsq, undo_by_gamma],
    "jumprelu": [jump_by_mask, jump_by_fill],
    "threshold_gradient": [ste_by_loop, ste_by_autograd],
    "gated_encode": [gated_with_weights, gated_by_where],
    "gated_loss": [gated_loss_by_no_grad_copy, gated_loss_by_mse],
    "topk_activation": [topk_by_ranks, topk_by_mask, topk_by_rows],
    "batch_topk_activation": [batch_topk_by_ranks, batch_topk_by_mask],
    "dead_latents": [dead_by_flags, dead_by_maximum],
    "auxiliary_loss": [auxiliary_by_masking, auxiliary_by_rows],
    "train_sae": [train_without_projection, train_with_l1],
    "splice": [splice_by_where, splice_in_place, splice_token_by_token],
    "dashboard_row": [row_by_topk, row_by_numpy],
}


# Mutants of the reference that are right: the changed statement, and why.

AXIS = "the same axis, counted from the other side"
ZERO = "a zero vector stays zero, whatever it is divided by"
DEFAULT_AXIS = "the axis that is taken where none is named"
SQUARED = "a square does not care about the sign"

EQUIVALENT = {
    "mean_max_cosine": {
        "latents = torch.nn.functional.normalize(W_dec)": DEFAULT_AXIS,
        "features = torch.nn.functional.normalize(dictionary)": DEFAULT_AXIS,
        "latents = torch.nn.functional.normalize(W_dec, dim=1)": AXIS,
        "features = torch.nn.functional.normalize(dictionary, dim=1)": AXIS,
        "return float((features @ latents.T).max(dim=1).values.mean())": AXIS,
    },
    "sae_loss": {
        "error = (x - x_hat).pow(2).sum(dim=1).mean()": AXIS,
        "penalty = l1 * (f * W_dec.norm(dim=-1)).sum(dim=1).mean()": AXIS,
        "penalty = l1 * (f * W_dec.norm(dim=1)).sum(dim=-1).mean()": AXIS,
        "error = (x_hat - x).pow(2).sum(dim=-1).mean()": SQUARED,
    },
    "explained_variance": {
        "error = (x_hat - x).pow(2).sum()": SQUARED,
        "total = (x.mean(dim=0) - x).pow(2).sum()": SQUARED,
    },
    "threshold_gradient": {
        "near = ((threshold - pre) / bandwidth).abs() < 0.5": "the window has two equal sides",
    },
    "gated_loss": {
        "return (x - code @ directions - bias).pow(2).sum(dim=1).mean()": AXIS,
        "sparsity = l1 * gate.sum(dim=1).mean()": AXIS,
        "return (bias - (x - code @ directions)).pow(2).sum(dim=-1).mean()": SQUARED,
    },
    "splice": {"out = resid": "a hook may work in place"},
    "topk_activation": {
        "top = pre.topk(k)": DEFAULT_AXIS,
        "top = pre.topk(k, dim=1)": AXIS,
        "return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())": AXIS,
    },
    "batch_topk_activation": {
        "kept = torch.zeros_like(flat).scatter(-1, top.indices, top.values.relu())": AXIS,
    },
    "auxiliary_loss": {
        "count = min(int(dead.sum()), k)": "a minimum, in either order",
        "top = dead_pre.topk(count)": DEFAULT_AXIS,
        "top = dead_pre.topk(count, dim=1)": AXIS,
        "code = torch.zeros_like(dead_pre).scatter(1, top.indices, top.values.relu())": AXIS,
        "return (residual.detach() - code @ W_dec[dead]).pow(2).sum(dim=1).mean()": AXIS,
        "return (code @ W_dec[dead] - residual.detach()).pow(2).sum(dim=-1).mean()": SQUARED,
    },
}

EQUIVALENT_KINDS = {
    "train_sae": {
        "the seed ignored": "a training that draws no random numbers is right",
    },
    "mean_max_cosine": {
        "equal entries of `dictionary` counted once": "entries of a vector are not ranked",
    },
    "sae_loss": {
        "short vectors of `x_hat` made zero": "x − 0 and x − 0.01 are the same but for rounding",
    },
}
