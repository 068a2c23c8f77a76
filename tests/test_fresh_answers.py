"""Answers written from the statements alone that found holes: each once passed, or was told what it did not do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mi_course.testing.answers import exercises, reference
from mi_course.testing.checker import checker

BY_ID = {exercise.id: exercise for exercise in exercises()}


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


WRONG = [
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


@pytest.mark.parametrize(("id", "answer"), WRONG, ids=[f"{id}-{answer.__name__}" for id, answer in WRONG])
def test_wrong_answers_that_once_passed(id: str, answer):
    assert not checker(BY_ID[id]).passes(answer)


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


RIGHT = [
    ("steering_vectors.log_odds", masked_sum),
    ("activation_patching.direct_attribution", each_part_alone),
    ("activation_patching.path_patch_to_logits", all_frozen),
    ("sae_training.gated_loss", lambda *args: torch.stack(reference("sae_training.gated_loss")(*args))),
    ("sae_training.jumprelu", lambda pre, t: list(torch.where(pre > t, pre, 0.0))),
]


@pytest.mark.parametrize(("id", "answer"), RIGHT, ids=[f"{id}-{answer.__name__}" for id, answer in RIGHT])
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
