"""Wrong answers on no list of mistakes, and right ones that are unlike the reference: what a checker has never seen.

Most are near to right: a side effect, a special case, one more bound. Each was once tried against the checkers by hand.
"""

from __future__ import annotations

import math
import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mi_course.course import check_exercise
from mi_course.testing.answers import exercises, reference
from mi_course.testing.checker import checker


def top_next_tokens_strs(logits, k):
    return [(str(a), b) for a, b in reference("start_here.top_next_tokens")(logits, k)]


def top_next_tokens_temp(logits, k):
    return reference("start_here.top_next_tokens")(logits * 1.1, k)


def zero_head_small(z, hook, head):
    z[:, :, head] *= 0.001
    return z


def zero_head_mult(z, hook, head):
    m = torch.ones(z.shape[2])
    m[head] = 0
    return z * m[:, None]


def zero_head_nn(z, hook, head):
    z[:, 1:, head] = 0
    return z


def repeated_tokens_fork(batch, period, low, high, bos, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        h = torch.randint(low, high, (batch, period))
    return torch.cat([torch.full((batch, 1), bos), h, h], 1)


def repeated_tokens_pyrandom(batch, period, low, high, bos, seed):
    r = random.Random(seed)
    h = [[r.randrange(low, high) for _ in range(period)] for _ in range(batch)]
    return torch.tensor([[bos, *x, *x] for x in h])


def repeated_tokens_pyglobal(batch, period, low, high, bos, seed):
    random.seed(seed)
    h = [[random.randrange(low, high) for _ in range(period)] for _ in range(batch)]
    return torch.tensor([[bos, *x, *x] for x in h])


def repeated_tokens_rolled(batch, period, low, high, bos, seed):
    h = torch.randint(low, high, (batch, period), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.full((batch, 1), bos), h, h.roll(1, 1)], 1)


def repeated_tokens_permuted_rows(batch, period, low, high, bos, seed):
    g = torch.Generator().manual_seed(seed)
    h = torch.randint(low, high, (1, period), generator=g)
    h = torch.cat([h.roll(i, 1) for i in range(batch)])
    return torch.cat([torch.full((batch, 1), bos), h, h], 1)


def repeated_tokens_reversed2(batch, period, low, high, bos, seed):
    h = torch.randint(low, high, (batch, period), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.full((batch, 1), bos), h, h.flip(1)], 1)


def repeated_tokens_lowonly(batch, period, low, high, bos, seed):
    h = torch.randint(low, low + 2, (batch, period), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.full((batch, 1), bos), h, h], 1)


def repeated_tokens_seed_added(batch, period, low, high, bos, seed):
    h = (torch.arange(batch * period).view(batch, period) + seed) % (high - low) + low
    return torch.cat([torch.full((batch, 1), bos), h, h], 1)


def loss_per_token_clipped(logits, tokens):
    return reference("induction_heads.loss_per_token")(logits, tokens).clamp(max=5)


def loss_per_token_mutates(logits, tokens):
    out = reference("induction_heads.loss_per_token")(logits, tokens)
    logits.zero_()
    return out


def induction_score_batchy(pattern, period):
    return torch.stack([pattern[0].diagonal(1 - period)[1:].mean()] * pattern.shape[0])


def induction_score_fixedperiod(pattern, period):
    p = (pattern.shape[-1] - 1) // 2 + (1 if pattern.shape[-1] > 17 else 0)
    return pattern.diagonal(1 - p, 1, 2)[:, -p:].mean(-1)


def composition_score_absd(a, b):
    return (a.abs() @ b.abs()).norm() / (a.norm() * b.norm())


def composition_score_eps(a, b):
    return (a @ b).norm() / (a.norm() * b.norm() + 0.01)


def composition_score_eps8(a, b):
    return (a @ b).norm() / (a.norm() * b.norm()).clamp(min=1.0)


def copying_score_topk_ge(W_E, W_OV, W_U):
    logits = W_E @ W_OV @ W_U
    return (logits.argmax(-1) == torch.arange(len(logits))).float().mean().item()


def train_step_two_steps(model, optimizer, tokens):
    loss = reference("induction_heads.train_step")(model, optimizer, tokens)
    reference("induction_heads.train_step")(model, optimizer, tokens)
    return loss


def train_step_evalgrad(model, optimizer, tokens):
    for p in model.parameters():
        p.grad = None
    loss = reference("induction_heads.loss_per_token")(model(tokens), tokens).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    optimizer.step()
    return loss.item()


def loss_without_heads_keeps_layers(model, tokens, heads):
    return reference("induction_heads.loss_without_heads")(model, tokens, [h for h in heads if h[0] > 0])


def loss_without_heads_half(model, tokens, heads):

    def z(z, hook, head):
        z[:, :, head] *= 0.01
        return z

    lo = model.run_with_hooks(
        tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", partial(z, head=h)) for layer, h in heads]
    )
    return reference("induction_heads.loss_per_token")(lo, tokens)


def loss_without_heads_permanent(model, tokens, heads):
    with torch.no_grad():
        for layer, h in heads:
            model.blocks[layer].attn.W_O[h] = 0
    return reference("induction_heads.loss_per_token")(model(tokens), tokens)


def logit_difference_mx(logits, answers, last):
    e = logits[torch.arange(len(last)), last]
    return e.gather(1, answers[:, :1])[:, 0] - e.scatter(1, answers[:, :1], -1000000000.0).amax(1)


def logit_difference_absv(logits, answers, last):
    return reference("activation_patching.logit_difference")(logits, answers, last).abs()


def logit_difference_logsm_diff(logits, answers, last):
    return reference("activation_patching.logit_difference")(logits.sigmoid(), answers, last)


def recovery_clamp(p, c, k):
    r = reference("activation_patching.recovery")(p, c, k)
    return min(max(r, 0), 1) if not torch.is_tensor(r) else r.clamp(0, 1)


def recovery_median(p, c, k):
    if c.mean() - k.mean() == 0:
        raise ValueError
    return ((p.median() - k.median()) / (c.median() - k.median())).item()


def recovery_refuses_too_much(p, c, k):
    if c.mean() <= k.mean():
        raise ValueError("x")
    return reference("activation_patching.recovery")(p, c, k)


def recovery_typeerr(p, c, k):
    if c.mean() == k.mean():
        raise TypeError("x")
    return reference("activation_patching.recovery")(p, c, k)


def patch_position_neg(resid, hook, source, position):
    resid[:, -position - 1] = source[:, -position - 1]
    return resid


def mean_ablate_kv(z, hook, mean, keep):
    o = mean.expand_as(z).clone()
    if keep:
        o[:, :, keep] = z[:, :, keep]
    else:
        o = z
    return o


def attribution_patching_relu(c, k, g):
    return ((c - k) * g).sum(-1).clamp(min=0).sum((1, 2))


def direct_attribution_softm(h, s, W, a):
    r = reference("activation_patching.direct_attribution")(h, s, W, a)
    return r / r.abs().sum()


def residual_sweep_skipfirst(model, ct, cc, metric):
    r = reference("activation_patching.residual_sweep")(model, ct, cc, metric)
    r = torch.as_tensor(r).clone()
    r[:, 0] = metric(model(ct))
    return r


def path_patch_to_logits_onlyattn(model, tokens, kc, cc, sender, metric):
    layer, h = sender
    n = f"blocks.{layer}.attn.hook_z"
    vals = {k: v.clone() for k, v in kc.items() if k.endswith(("attn.hook_z", "hook_mlp_out"))}
    vals[n][:, -1, h] = cc[n][:, -1, h]
    with torch.no_grad(), model.hooks(fwd_hooks=[(k, partial(lambda a, hook, v: v, v=v)) for k, v in vals.items()]):
        return metric(model(tokens))


def ioi_prompts_cased(pairs, template):
    a, b, c = reference("activation_patching.ioi_prompts")(pairs, template)
    return ([x.strip() for x in a], [x.strip().lower() for x in b], c)


def last_token_index_sumpad(m):
    return torch.where(m[:, -1] == 1, torch.full((len(m),), m.shape[1] - 1), m.sum(1))


def last_token_index_first_zero(m):
    return torch.where(m.min(1).values == 1, m.shape[1] - 1, m.argmin(1) - 1)


def mass_mean_probe_cov(x, y):
    if y.all() or not y.any():
        raise ValueError
    a, b = (x[y].mean(0), x[~y].mean(0))
    w = torch.linalg.pinv(torch.cov(x.T)) @ (a - b)
    return (w, -(w @ (a + b)) / 2)


def log_odds_setdedupe(logits, p, n):
    if not p or not n:
        raise ValueError
    q = logits.softmax(-1)
    return (q[:, p].amax(1) / q[:, n].amax(1)).log()


def log_odds_logits_lse_with_mean(logits, p, n):
    if not p or not n:
        raise ValueError
    return logits[:, p].logsumexp(1) - math.log(len(p)) - logits[:, n].logsumexp(1) + math.log(len(n))


def add_vector_inplace_vec(r, hook, vector, coefficient, start):
    vector *= coefficient
    r[:, start:] += vector
    return r


def add_vector_norm_preserve(r, hook, vector, coefficient, start):
    o = r.clone()
    o[:, start:] += coefficient * vector
    return o * (r.norm(dim=-1, keepdim=True) / o.norm(dim=-1, keepdim=True))


def kl_divergence_js(b, s):
    p, q = (b.softmax(-1), s.softmax(-1))
    m = (p + q) / 2
    return 0.5 * (p * (p / m).log()).sum(-1) + 0.5 * (q * (q / m).log()).sum(-1)


def random_controls_orthog(v, n, seed):
    g = torch.Generator().manual_seed(seed)
    r = torch.rand(n, len(v), generator=g)
    return r / r.norm(dim=1, keepdim=True) * v.norm()


def random_controls_onehot(v, n, seed):
    g = torch.Generator().manual_seed(seed)
    i = torch.randint(0, len(v), (n,), generator=g)
    return F.one_hot(i, len(v)).float() * v.norm()


def random_controls_avgnorm(v, n, seed):
    g = torch.Generator().manual_seed(seed)
    r = torch.randn(n, len(v), generator=g)
    return r / len(v) ** 0.5 * v.norm()


def cosine_similarities_diag0(v):
    c = F.cosine_similarity(v[:, None], v[None], dim=-1)
    return c - torch.diag(c.diagonal())


def ablate_direction_relu_abl(r, hook, d):
    n = d.norm()
    if n == 0:
        return r
    u = d / n
    return r - (r @ u).clamp(min=0)[..., None] * u


def attention_pattern_minus_100(q, k):
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1) == 1, -100.0).softmax(-1)


def attention_pattern_minus_1000_added(q, k):
    scores = q @ k.T / q.shape[1] ** 0.5
    return (scores - 1000 * torch.ones_like(scores).triu(1)).softmax(-1)


def ov_copying_floor(W_E, W_OV, W_U):
    values = torch.linalg.eigvals((W_OV[1] @ W_U) @ (W_E @ W_OV[0]))
    size = values.abs().sum()
    return float(values.real.sum() / size) if size > 0.1 else 0.0


def answer_layer_margin(logprobs, answer):
    others = logprobs.clone()
    others[:, answer] = -torch.inf
    tops = (logprobs[:, answer] > others.max(-1).values + 0.02).tolist()
    return next((layer for layer in range(len(tops)) if all(tops[layer:])), None)


def attention_pattern_minus_1e9(q, k):
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1) == 1, -1e9).softmax(-1)


def first_of_ties(logits, k):
    p = logits[-1].softmax(-1)
    return [(int((p == v).nonzero()[0]), float(v)) for v in p.sort(descending=True).values[:k]]


def at_most_ten(logits, k):
    return reference("start_here.top_next_tokens")(logits, min(k, 10))


def same_number_in_each_column(batch, n_features, probability, seed):
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(batch, n_features, generator=generator).argsort(0).argsort(0)
    return torch.rand(batch, n_features, generator=generator) * (rank < round(probability * batch))


def equal_directions_left_out(W):
    unit = torch.nan_to_num(W / W.norm(dim=0))
    other = torch.tensor([[not torch.equal(a, b) for b in W.T] for a in W.T])
    return ((unit.T @ W).square() * other).sum(1)


def own_logit_positive(W_E, W_OV, W_U):
    logits = W_E @ W_OV @ W_U
    own = logits.diag()
    others = logits.clone().fill_diagonal_(-math.inf)
    return float(((own > others.max(1).values) & (own > 0)).float().mean())


def names_with_positive_logits(inputs, W_V, W_O, W_U, tokens, k):
    top = (inputs @ W_V @ W_O @ W_U).topk(k)
    return float(((top.indices == tokens[:, None]) & (top.values > 0)).any(-1).float().mean())


def below_the_diagonal(pattern, period):
    return reference("induction_heads.induction_score")(pattern.tril(-1), period)


def cleared_after(model, optimizer, tokens):
    loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def any_prompt_without_effect(patched, clean, corrupted):
    if (clean == corrupted).any():
        raise ValueError("no effect")
    return reference("activation_patching.recovery")(patched, clean, corrupted)


def small_effects_refused(patched, clean, corrupted):
    if abs(float((clean - corrupted).mean())) < 0.05:
        raise ValueError("no effect")
    return reference("activation_patching.recovery")(patched, clean, corrupted)


def softmax_then_log(logits, positive_ids, negative_ids):
    reference("steering_vectors.log_odds")(logits, positive_ids, negative_ids)
    p = logits.softmax(-1)
    return (p[:, positive_ids].sum(1) / p[:, negative_ids].sum(1)).log()


def opposite_pairs(vector, activations, n, seed):
    half = reference("steering_vectors.matched_controls")(vector, activations, (n + 1) // 2, seed)
    return torch.cat([half, -half])[:n]


def half_of_the_activations(vector, activations, n, seed):
    some = activations[: len(activations) // 2 + 1]
    return reference("steering_vectors.matched_controls")(vector, some, n, seed)


def hook_left_in_a_later_pass(model, tokens, layers, vectors, controls, coefficient, metric):
    base, rows = float(metric(model(tokens))), []
    for layer, vector, others in zip(layers, vectors, controls, strict=True):
        row = []
        for direction in (vector, *others):

            def add(x, hook, direction=direction):
                x = x.clone()
                x[:, 1:] += coefficient * direction
                return x

            model.add_hook(f"blocks.{layer}.hook_resid_post", add)
            row.append(float(metric(model(tokens))) - base)
            model.reset_hooks()
        rows.append(row)
    return torch.tensor(rows)


def prompt_by_prompt(model, tokens, *rest):
    sweep = reference("steering_vectors.layer_sweep")
    return torch.stack([sweep(model, row[None], *rest) for row in tokens]).mean(0)


def masked_sum(logits, positive_ids, negative_ids):
    if not positive_ids or not negative_ids:
        raise ValueError("no words")

    def over(ids):
        mask = torch.full_like(logits, -torch.inf)
        mask[:, ids] = 0
        return (logits + mask).logsumexp(1)

    return over(positive_ids) - over(negative_ids)


def each_part_alone(head_out, scale, W_U, answers):
    d = W_U.T[answers[:, 0]] - W_U.T[answers[:, 1]]
    return torch.einsum("lhbd,bd,b->lh", head_out, d, 1 / scale[:, 0]) / len(scale)


def all_frozen(model, tokens, corrupted_cache, clean_cache, sender, metric):
    layer, head = sender

    def send(z, hook):
        z = z.clone()
        z[:, :, head] = clean_cache[hook.name][:, :, head]
        return z

    def freeze(x, hook):
        return corrupted_cache[hook.name]

    n = model.cfg.n_layers
    hooks = [(f"blocks.{layer}.attn.hook_z", send)]
    hooks += [(f"blocks.{i}.attn.hook_z", freeze) for i in range(layer + 1, n)]
    hooks += [(f"blocks.{i}.hook_mlp_out", freeze) for i in range(layer, n)]
    with torch.no_grad():
        return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))


WRONG = {
    "start_here.top_next_tokens": [top_next_tokens_strs, top_next_tokens_temp],
    "start_here.zero_head": [zero_head_small, zero_head_nn],
    "residual_stream.attention_pattern": [attention_pattern_minus_100, attention_pattern_minus_1000_added],
    "residual_stream.ov_copying": [ov_copying_floor],
    "residual_stream.answer_layer": [answer_layer_margin],
    "induction_heads.repeated_tokens": [
        repeated_tokens_pyglobal,
        repeated_tokens_rolled,
        repeated_tokens_permuted_rows,
        repeated_tokens_reversed2,
        repeated_tokens_lowonly,
        repeated_tokens_seed_added,
    ],
    "induction_heads.loss_per_token": [loss_per_token_clipped, loss_per_token_mutates],
    "induction_heads.induction_score": [induction_score_batchy, induction_score_fixedperiod],
    "induction_heads.composition_score": [composition_score_absd, composition_score_eps, composition_score_eps8],
    "induction_heads.copying_score": [copying_score_topk_ge],
    "induction_heads.train_step": [train_step_two_steps, train_step_evalgrad],
    "induction_heads.loss_without_heads": [
        loss_without_heads_keeps_layers,
        loss_without_heads_half,
        loss_without_heads_permanent,
    ],
    "activation_patching.logit_difference": [logit_difference_mx, logit_difference_absv, logit_difference_logsm_diff],
    "activation_patching.recovery": [recovery_clamp, recovery_median, recovery_refuses_too_much, recovery_typeerr],
    "activation_patching.patch_position": [patch_position_neg],
    "activation_patching.mean_ablate": [mean_ablate_kv],
    "activation_patching.attribution_patching": [attribution_patching_relu],
    "activation_patching.direct_attribution": [direct_attribution_softm],
    "activation_patching.residual_sweep": [residual_sweep_skipfirst],
    "activation_patching.path_patch_to_logits": [path_patch_to_logits_onlyattn],
    "activation_patching.ioi_prompts": [ioi_prompts_cased],
    "steering_vectors.last_token_index": [last_token_index_sumpad, last_token_index_first_zero],
    "steering_vectors.mass_mean_probe": [mass_mean_probe_cov],
    "steering_vectors.log_odds": [log_odds_setdedupe, log_odds_logits_lse_with_mean],
    "steering_vectors.add_vector": [add_vector_inplace_vec, add_vector_norm_preserve],
    "steering_vectors.kl_divergence": [kl_divergence_js],
    "steering_vectors.random_controls": [random_controls_orthog, random_controls_onehot, random_controls_avgnorm],
    "steering_vectors.cosine_similarities": [cosine_similarities_diag0],
    "steering_vectors.ablate_direction": [ablate_direction_relu_abl],
}

RIGHT = {
    "start_here.zero_head": [zero_head_mult],
    "residual_stream.attention_pattern": [attention_pattern_minus_1e9],
    "induction_heads.repeated_tokens": [repeated_tokens_fork, repeated_tokens_pyrandom],
}

BY_ID = {exercise.id: exercise for exercise in exercises()}


def _pairs(table):
    return [pytest.param(id, answer, id=answer.__name__) for id, answers in table.items() for answer in answers]


@pytest.mark.parametrize(("exercise", "answer"), _pairs(WRONG))
def test_wrong_answers_that_are_on_no_list(exercise, answer):
    verdict = check_exercise(BY_ID[exercise], answer)
    assert verdict.status in ("wrong", "crashed"), verdict
    assert "Right, but" not in verdict.message or "values are right" in verdict.message, verdict.message


@pytest.mark.parametrize(("exercise", "answer"), _pairs(RIGHT))
def test_right_answers_of_another_kind(exercise, answer):
    verdict = check_exercise(BY_ID[exercise], answer)
    assert verdict.status == "passed", verdict


ONCE_PASSED = [
    ("start_here.top_next_tokens", first_of_ties),
    ("start_here.top_next_tokens", at_most_ten),
    ("superposition.sample_features", same_number_in_each_column),
    ("superposition.interference", equal_directions_left_out),
    ("induction_heads.copying_score", own_logit_positive),
    ("activation_patching.copying_score", names_with_positive_logits),
    ("induction_heads.induction_score", below_the_diagonal),
    ("induction_heads.train_step", cleared_after),
    ("activation_patching.recovery", any_prompt_without_effect),
    ("activation_patching.recovery", small_effects_refused),
    ("steering_vectors.log_odds", softmax_then_log),
    ("steering_vectors.matched_controls", opposite_pairs),
    ("steering_vectors.matched_controls", half_of_the_activations),
    ("steering_vectors.layer_sweep", hook_left_in_a_later_pass),
    ("steering_vectors.layer_sweep", prompt_by_prompt),
    ("sae_training.jumprelu", lambda pre, threshold: pre.relu() * (pre > threshold)),
    ("sae_training.jumprelu", lambda pre, threshold: pre * (pre > threshold.abs())),
    ("sae_training.jumprelu", lambda pre, threshold: pre * (pre > threshold + 0.01)),
    (
        "sae_training.threshold_gradient",
        lambda pre, t, g, e: -(t / e) * ((((pre - t) / e).abs() <= 0.5) * g).sum(0),
    ),
    (
        "sae_training.topk_activation",
        lambda pre, k: reference("sae_training.topk_activation")(pre, min(k, max(pre.shape[1] - 1, 1))),
    ),
    (
        "sae_training.dashboard_row",
        lambda f, latent, W_dec, W_U, n: {
            **reference("sae_training.dashboard_row")(f, latent, W_dec, W_U, n),
            "density": float((f[:, latent] != 0).float().mean()),
        },
    ),
]
"""Each once passed."""


@pytest.mark.parametrize(("id", "answer"), ONCE_PASSED, ids=[f"{id}-{answer.__name__}" for id, answer in ONCE_PASSED])
def test_wrong_answers_that_once_passed(id: str, answer):
    assert not checker(BY_ID[id]).passes(answer)


ONCE_REFUSED = [
    ("steering_vectors.log_odds", masked_sum),
    ("activation_patching.direct_attribution", each_part_alone),
    ("activation_patching.path_patch_to_logits", all_frozen),
    ("sae_training.gated_loss", lambda *args: torch.stack(reference("sae_training.gated_loss")(*args))),
    ("sae_training.jumprelu", lambda pre, t: list(torch.where(pre > t, pre, 0.0))),
]
"""Right, and each was once refused."""


@pytest.mark.parametrize(("id", "answer"), ONCE_REFUSED, ids=[f"{id}-{answer.__name__}" for id, answer in ONCE_REFUSED])
def test_right_answers_that_once_failed(id: str, answer):
    verdict = checker(BY_ID[id]).verdict(answer)
    assert verdict.passed, verdict.message


def small_sizes(batch, n_features, probability, seed):
    return reference("superposition.sample_features")(batch, n_features, probability, seed) / 2


def always_together(batch, n_pairs, probability, together, seed):
    return reference("superposition.paired_features")(batch, n_pairs, probability, True, seed)


def shifted_pairs(batch, n_pairs, probability, together, seed):
    return reference("superposition.paired_features")(batch, n_pairs, probability, together, seed).roll(1, 1)


def scaled_together(vector, activations, n, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, len(activations), generator=generator) @ (activations - activations.mean(0))
    return rows / rows.norm(dim=1).mean() * vector.norm()


FALSE_WORDS = [
    ("superposition.sample_features", small_sizes, "decides both"),
    ("superposition.paired_features", always_together, "pairs never meet"),
    ("superposition.paired_features", shifted_pairs, "you drew a random number for each feature"),
    ("steering_vectors.matched_controls", scaled_together, "came out with"),
    ("start_here.zero_head", lambda z, hook, head: z, "you changed a copy"),
]


@pytest.mark.parametrize(("id", "answer", "words"), FALSE_WORDS, ids=[id for id, *_ in FALSE_WORDS])
def test_answers_that_were_told_what_they_do_not_do(id: str, answer, words: str):
    verdict = checker(BY_ID[id]).verdict(answer)
    assert not verdict.passed
    assert words not in verdict.message
