"""Mutants that are right answers after all, set aside by hand, each with the reason.

Keys are the changed statement as `tests/mutants.py` writes it.
"""

_STRICT = "both sides have the same length"
_IN_PLACE = "a hook that works in place may return None: TransformerLens then goes on with the tensor it gave"
_GATHER = "gather reads only as many rows of logits as there are target tokens"
_AXIS = "the same axis, counted from the other side"
_OVERWRITTEN = "every entry is written afterwards"
_SYMMETRIC = "a correlation does not care which comes first"
_REVERSED = "both orders are reversed, which leaves their correlation as it is"
_SHIFTED = "ranks may start anywhere: a correlation subtracts the mean"
_ZERO = "a zero vector stays zero, whatever it is divided by"
_HARDLY_EVER = "a random number is hardly ever just the probability"
_REPLACED = "the NaN of a feature that is zero stays in its own row, and the last line puts 0 in its place"
_DEFAULT_AXIS = "the axis that is taken where none is named"
_SQUARED = "a square does not care about the sign"

EQUIVALENT: dict[str, dict[str, str]] = {
    "start_here.top_next_tokens": {
        "return [(int(token), float(p)) for token, p in zip(top.indices, top.values)]": _STRICT,
        "return [(int(token), float(p)) for token, p in zip(top.indices, top.values, strict=False)]": _STRICT,
        "probabilities = logits[-1].softmax(dim=-0)": _AXIS,
    },
    "start_here.zero_head": {"return None": _IN_PLACE},
    "induction_heads.loss_per_token": {"log_probs = logits[:, :].log_softmax(dim=-1)": _GATHER},
    "induction_heads.induction_score": {"return stripe[..., -period:].mean(dim=1)": _AXIS},
    "induction_heads.score_hook": {
        "stripe = pattern.diagonal(offset=-(period - 1), dim1=2, dim2=-1)": _AXIS,
        "scores[hook.layer()] = stripe[..., -period:].mean(dim=(-1, 0))": "a mean over two axes, in either order",
    },
    "induction_heads.previous_token_score": {
        "return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=1)": _AXIS,
    },
    "induction_heads.copying_score": {
        "return float((own > others.max(dim=1).values).float().mean())": _AXIS,
    },
    "induction_heads.loss_without_heads": {
        "return None": _IN_PLACE,
        "z[:, :-1, head] = 0.0": "what a head writes at the last position reaches no logits that are read",
        "log_probs = logits[:, :].log_softmax(dim=-1)": _GATHER,
    },
    "induction_heads.train_step": {"log_probs = model(tokens)[:, :].log_softmax(dim=-1)": _GATHER},
    "induction_heads.emergence_step": {
        "for step, score in zip(reversed(steps), reversed(scores)):": _STRICT,
        "for step, score in zip(reversed(steps), reversed(scores), strict=False):": _STRICT,
    },
    "steering_vectors.last_token_index": {"return (attention_mask * positions).argmax(dim=1)": _AXIS},
    "steering_vectors.mass_mean_probe": {"return (w, float(-((up + down) @ w) / 2))": "a dot product, in either order"},
    "steering_vectors.log_odds": {
        "return logits[:, positive_ids].logsumexp(dim=1) - logits[:, negative_ids].logsumexp(dim=-1)": _AXIS,
        "return logits[:, positive_ids].logsumexp(dim=-1) - logits[:, negative_ids].logsumexp(dim=1)": _AXIS,
    },
    "steering_vectors.add_vector": {"return None": _IN_PLACE},
    "steering_vectors.kl_divergence": {
        "base = base_logits.log_softmax(dim=1)": _AXIS,
        "steered = steered_logits.log_softmax(dim=1)": _AXIS,
        "return (base.exp() * (base - steered)).sum(dim=1)": _AXIS,
    },
    "steering_vectors.random_controls": {
        "noise = torch.randn(n, vector.shape[-1], generator=generator)": _AXIS,
        "return noise / noise.norm(dim=1, keepdim=True) * vector.norm()": _AXIS,
    },
    "steering_vectors.cosine_similarities": {
        "norms = vectors.norm(dim=1, keepdim=True)": _AXIS,
        "unit = vectors / torch.where(norms > 0, norms, 2.0)": "a zero vector stays zero, whatever it is divided by",
    },
    "steering_vectors.ablate_direction": {"return None": _IN_PLACE},
    "activation_patching.patch_position": {"return None": _IN_PLACE},
    "activation_patching.patch_head": {"return None": _IN_PLACE},
    "activation_patching.residual_sweep": {
        "return None": _IN_PLACE,
        "result = torch.ones(model.cfg.n_layers, corrupted_tokens.shape[1])": _OVERWRITTEN,
    },
    "activation_patching.head_sweep": {
        "return None": _IN_PLACE,
        "result = torch.ones(model.cfg.n_layers, model.cfg.n_heads)": _OVERWRITTEN,
    },
    "activation_patching.attribution_patching": {
        "return ((clean_z - corrupted_z) * gradient).sum(dim=(2, 1, 4))": "a sum over three axes, in any order",
    },
    "activation_patching.agreement": {
        "x, y = (ranks(estimate), ranks(exact))": _SYMMETRIC,
        "x, y = (y - y.mean(), x - x.mean())": _SYMMETRIC,
        "return float(y @ x / (x.norm() * y.norm()))": _SYMMETRIC,
        "below = (values[:, None] < values[None]).sum(dim=1)": _REVERSED,
        "below = (values[:, None] > values[None]).sum(dim=0)": _REVERSED,
        "equal = (values[:, None] == values[None]).sum(dim=0)": "equality is symmetric",
        "return (below + (equal - 1) / 2).double()": _SHIFTED,
        "return (below + equal / 2).double()": _SHIFTED,
        "return (below + (equal + 2) / 2).double()": _SHIFTED,
        "return (below + (equal + 0) / 2).double()": _SHIFTED,
    },
    "superposition.sample_features": {
        "present = torch.rand(batch, n_features, generator=generator) <= probability": _HARDLY_EVER,
    },
    "superposition.importance_loss": {
        "return (importance * (x - x_hat) ** 2).sum(dim=1).mean()": _AXIS,
        "return (importance * (x_hat - x) ** 2).sum(dim=-1).mean()": "a square does not care about the sign",
    },
    "superposition.interference": {"unit = W / torch.where(norms > 0, norms, 2.0)": _ZERO},
    "superposition.feature_dimensionality": {
        "unit = W / torch.where(norms > 0, norms, 2.0)": _ZERO,
        "unit = W / torch.where(norms >= 0, norms, 1.0)": _REPLACED,
        "unit = W / torch.where(norms > -1, norms, 1.0)": _REPLACED,
    },
    "superposition.feature_groups": {
        "while (new := ({j for j in left if any((linked[j, i] for i in group))} - group)):": "links go both ways",
    },
    "sae_training.mean_max_cosine": {
        "latents = torch.nn.functional.normalize(W_dec)": _DEFAULT_AXIS,
        "features = torch.nn.functional.normalize(dictionary)": _DEFAULT_AXIS,
        "latents = torch.nn.functional.normalize(W_dec, dim=1)": _AXIS,
        "features = torch.nn.functional.normalize(dictionary, dim=1)": _AXIS,
        "return float((features @ latents.T).max(dim=1).values.mean())": _AXIS,
    },
    "sae_training.sae_loss": {
        "error = (x - x_hat).pow(2).sum(dim=1).mean()": _AXIS,
        "penalty = l1 * (f * W_dec.norm(dim=-1)).sum(dim=1).mean()": _AXIS,
        "penalty = l1 * (f * W_dec.norm(dim=1)).sum(dim=-1).mean()": _AXIS,
        "error = (x_hat - x).pow(2).sum(dim=-1).mean()": _SQUARED,
    },
    "sae_training.normalize_decoder": {
        "norms = W_dec.norm(dim=1, keepdim=True)": _AXIS,
        "return W_dec / torch.where(norms > 0, norms, 2.0)": _ZERO,
    },
    "sae_training.project_gradient": {
        "norms = W_dec.norm(dim=1, keepdim=True)": _AXIS,
        "unit = W_dec / torch.where(norms > 0, norms, 2.0)": _ZERO,
        "return grad - (grad * unit).sum(dim=1, keepdim=True) * unit": _AXIS,
    },
    "sae_training.l0": {"return float((f > 0).float().sum(dim=1).mean())": _AXIS},
    "sae_training.explained_variance": {
        "error = (x_hat - x).pow(2).sum()": _SQUARED,
        "total = (x.mean(dim=0) - x).pow(2).sum()": _SQUARED,
    },
    "sae_training.threshold_gradient": {
        "near = ((threshold - pre) / bandwidth).abs() < 0.5": "the window has two equal sides",
        "near = ((pre - threshold) / bandwidth).abs() <= 0.5": "rounding decides who is on the edge",
    },
    "sae_training.gated_loss": {
        "return (x - code @ directions - bias).pow(2).sum(dim=1).mean()": _AXIS,
        "sparsity = l1 * gate.sum(dim=1).mean()": _AXIS,
        "return (bias - (x - code @ directions)).pow(2).sum(dim=-1).mean()": _SQUARED,
    },
    "sae_training.topk_activation": {
        "top = pre.topk(k)": _DEFAULT_AXIS,
        "top = pre.topk(k, dim=1)": _AXIS,
        "return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())": _AXIS,
    },
    "sae_training.batch_topk_activation": {
        "kept = torch.zeros_like(flat).scatter(-1, top.indices, top.values.relu())": _AXIS,
    },
    "sae_training.auxiliary_loss": {
        "count = min(int(dead.sum()), k)": "a minimum, in either order",
        "top = asleep.topk(count)": _DEFAULT_AXIS,
        "top = asleep.topk(count, dim=1)": _AXIS,
        "code = torch.zeros_like(asleep).scatter(1, top.indices, top.values.relu())": _AXIS,
        "return (residual.detach() - code @ W_dec[dead]).pow(2).sum(dim=1).mean()": _AXIS,
        "return (code @ W_dec[dead] - residual.detach()).pow(2).sum(dim=-1).mean()": _SQUARED,
    },
}
