"""The tools of lesson 02 compared with slow, readable loops."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
import torch

from mi_course.content import data_dir
from mi_course.interp import circuits, induction, induction_training
from mi_course.interp.models import native
from mi_course.interp.models.small import small_model

CONFIG = {
    "n_layers": 3,
    "n_heads": 4,
    "d_model": 20,
    "d_head": 5,
    "d_vocab": 23,
    "n_ctx": 32,
    "attn_only": True,
    "normalization_type": None,
}
GROUPED = {
    **CONFIG,
    "d_head": 6,
    "n_key_value_heads": 2,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMSPRE",
}
SEEDS = range(3)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pattern(seed: int, heads: int, length: int) -> torch.Tensor:
    scores = torch.randn(heads, length, length, generator=rng(seed)) * 2
    return scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf).softmax(-1)


# --- tokens and losses


def test_repeated_tokens_are_bos_and_two_equal_copies():
    state = torch.random.get_rng_state()
    tokens = induction.repeated_tokens(6, 9, low=5, high=40, bos=2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert tokens.shape == (6, 19)
    assert tokens.dtype == torch.int64
    for row in tokens.tolist():
        assert row[0] == 2
        assert row[1:10] == row[10:]
        assert all(5 <= token < 40 for token in row[1:])
    assert len({tuple(row) for row in tokens.tolist()}) == 6
    assert torch.equal(tokens, induction.repeated_tokens(6, 9, low=5, high=40, bos=2, seed=3))
    assert not torch.equal(tokens, induction.repeated_tokens(6, 9, low=5, high=40, bos=2, seed=4))


def test_repeated_tokens_reach_both_ends_of_the_range():
    assert set(induction.repeated_tokens(50, 20, low=5, high=8, bos=0, seed=0)[:, 1:].flatten().tolist()) == {5, 6, 7}


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_per_token_is_minus_log_probability_in_nats(seed):
    logits = torch.randn(2, 6, 7, generator=rng(seed)) * 3
    tokens = torch.randint(0, 7, (2, 6), generator=rng(seed + 10))
    got = induction.loss_per_token(logits, tokens)
    assert got.shape == (2, 5)
    for b in range(2):
        for i in range(5):
            weights = [math.exp(x) for x in logits[b, i].tolist()]
            p = weights[tokens[b, i + 1]] / sum(weights)
            assert float(got[b, i]) == pytest.approx(-math.log(p), rel=1e-4)


# --- scores


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_the_means_a_loop_finds(seed):
    period = 5 + seed
    pattern = random_pattern(seed, heads=3, length=1 + 2 * period)
    previous = induction.previous_token_score(pattern)
    followed = induction.induction_score(pattern, period)
    same = induction.duplicate_token_score(pattern, period)
    for head, p in enumerate(pattern.tolist()):
        queries = range(period + 1, 2 * period + 1)
        assert float(previous[head]) == pytest.approx(sum(p[q][q - 1] for q in range(1, len(p))) / (len(p) - 1))
        assert float(followed[head]) == pytest.approx(sum(p[q][q - period + 1] for q in queries) / period)
        assert float(same[head]) == pytest.approx(sum(p[q][q - period] for q in queries) / period)


def test_a_planted_induction_head_scores_one():
    period = 7
    pattern = torch.zeros(2, 15, 15)
    for query in range(15):
        pattern[0, query, max(0, query - period + 1)] = 1.0
        pattern[1, query, max(0, query - 1)] = 1.0
    assert induction.induction_score(pattern, period).tolist() == [1.0, 0.0]
    assert induction.previous_token_score(pattern)[1] == 1.0


def test_scores_keep_leading_batch_dimensions():
    pattern = torch.stack([random_pattern(s, 3, 13) for s in range(4)])
    for score in (induction.previous_token_score, lambda p: induction.induction_score(p, 6)):
        torch.testing.assert_close(score(pattern), torch.stack([score(p) for p in pattern]))


def test_top_heads_are_strictly_above_the_threshold_highest_first():
    scores = torch.tensor([[0.5, 0.9, 0.1], [0.7, 0.5, 0.95]])
    assert induction.top_heads(scores, 0.5) == [(1, 2), (0, 1), (1, 0)]
    assert induction.top_heads(scores, 0.99) == []


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_score_hook_and_head_scores_equal_scores_of_a_cache(config):
    model, period = small_model(config, seed=4), 6
    tokens = induction.repeated_tokens(3, period, 1, 23, 0, seed=5)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    scores = torch.full((3, 4), -1.0)
    hook = induction.score_hook(scores, period)
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{i}.attn.hook_pattern", hook) for i in range(3)])
    measures = {
        "induction": lambda p: induction.induction_score(p, period),
        "previous_token": induction.previous_token_score,
        "duplicate_token": lambda p: induction.duplicate_token_score(p, period),
    }
    for kind, measure in measures.items():
        want = torch.stack([sum(measure(row) for row in cache["pattern", layer]) / 3 for layer in range(3)])
        torch.testing.assert_close(induction.head_scores(model, tokens, period, kind), want)
    torch.testing.assert_close(scores, induction.head_scores(model, tokens, period))


def test_head_scores_refuse_what_would_score_the_wrong_diagonal():
    model = small_model(CONFIG, seed=0)
    tokens = induction.repeated_tokens(1, 6, 1, 23, 0, seed=0)
    with pytest.raises(ValueError, match="length 13, expected 11"):
        induction.head_scores(model, tokens, period=5)
    with pytest.raises(ValueError, match="previous_token"):
        induction.head_scores(model, tokens, 6, "previous")


# --- ablation


def test_loss_without_heads_equals_a_model_whose_heads_write_nothing():
    model, heads = small_model(CONFIG, seed=6), [(0, 1), (2, 0), (2, 3)]
    tokens = induction.repeated_tokens(2, 6, 1, 23, 0, seed=7)
    with torch.no_grad():
        clean = induction.loss_per_token(model(tokens), tokens)
    got = induction.loss_without_heads(model, tokens, heads)
    with torch.no_grad():
        assert torch.equal(induction.loss_per_token(model(tokens), tokens), clean)  # no hook is left
        for layer, head in heads:
            # The columns of the output projection that read this head.
            model.blocks[layer].attn.o.weight[:, head * 5 : (head + 1) * 5] = 0.0
        want = induction.loss_per_token(model(tokens), tokens)
    assert not torch.allclose(want, clean, atol=1e-3)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_loss_without_no_heads_is_the_loss():
    model = small_model(CONFIG, seed=6)
    tokens = induction.repeated_tokens(2, 6, 1, 23, 0, seed=7)
    with torch.no_grad():
        want = induction.loss_per_token(model(tokens), tokens)
    torch.testing.assert_close(induction.loss_without_heads(model, tokens, []), want)


def test_no_hook_is_left_after_an_error():
    model = small_model(CONFIG, seed=6)
    tokens = torch.randint(0, 23, (2, 9), generator=rng(0))
    with torch.no_grad():
        before = model(tokens)
    with pytest.raises(IndexError):
        induction.loss_without_heads(model, tokens, [(0, 1), (1, 77)])
    with torch.no_grad():
        assert torch.equal(model(tokens), before)


def test_random_heads_differ_are_not_excluded_and_follow_the_seed():
    excluded = [(0, 0), (1, 2)]
    sets = [induction.random_heads(3, 4, 5, seed, excluded) for seed in range(20)]
    assert all(len(set(heads)) == 5 and not set(heads) & set(excluded) for heads in sets)
    assert set().union(*map(set, sets)) == {(la, he) for la in range(3) for he in range(4)} - set(excluded)
    assert induction.random_heads(3, 4, 5, 7, excluded) == sets[7]
    with pytest.raises(ValueError, match="only 10 are left"):
        induction.random_heads(3, 4, 11, 0, excluded)


# --- circuits


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_circuits_are_what_the_running_model_computes(config):
    """A head's output on one row vector is that vector through W_OV; scores likewise. Biases are set to zero for it."""
    model = small_model(config, seed=8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        tokens = torch.tensor([[3]])  # one position: it attends to itself, and rotation by position 0 is none
        _, cache = model.run_with_cache(tokens)
        for layer in range(3):
            x = cache[f"blocks.{layer}.ln1.hook_out"][0, 0] if config is GROUPED else cache["resid_pre", layer][0, 0]
            z = cache[f"blocks.{layer}.attn.hook_z"].reshape(4, -1)
            for head in range(4):
                out = z[head] @ model.blocks[layer].attn.W_O[head]
                torch.testing.assert_close(x @ circuits.ov_circuit(model, layer, head), out, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_qk_circuit_gives_the_scores_before_scaling(config):
    model, layer = small_model(config, seed=9), 1
    q, k = model.blocks[layer].attn.q.weight, model.blocks[layer].attn.k.weight  # rows: (head, d_head)
    x = torch.randn(2, 20, generator=rng(1))
    d_head, group = model.cfg.d_head, 4 // (config.get("n_key_value_heads") or 4)
    for head in range(4):
        kv = head // group
        query = x[0] @ q[head * d_head : (head + 1) * d_head].T
        key = x[1] @ k[kv * d_head : (kv + 1) * d_head].T
        torch.testing.assert_close(x[0] @ circuits.qk_circuit(model, layer, head) @ x[1], query @ key)


def test_circuits_refuse_norms_that_are_not_folded():
    model = small_model({**CONFIG, "normalization_type": "RMS"}, seed=0)
    with pytest.raises(ValueError, match="compatibility"):
        circuits.ov_circuit(model, 0, 0)
    with pytest.raises(ValueError, match="compatibility"):
        circuits.qk_circuit(model, 0, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_copying_score_equals_a_loop_over_tokens_with_any_chunk(seed, monkeypatch):
    W_E, W_U = torch.randn(13, 6, generator=rng(seed)), torch.randn(6, 13, generator=rng(seed + 50))
    W_OV = torch.randn(6, 6, generator=rng(seed + 100)) + W_E.T @ W_U.T / 8
    copied = 0
    for token in range(13):
        row = (W_E[token] @ W_OV @ W_U).tolist()
        copied += all(row[token] > x for other, x in enumerate(row) if other != token)
    for chunk in (1, 4, 13, 256):
        monkeypatch.setattr(circuits, "CHUNK", chunk)
        assert circuits.copying_score(W_E, W_OV, W_U) == pytest.approx(copied / 13)
    assert 0 < copied < 13


def test_copying_score_counts_no_ties():
    assert circuits.copying_score(torch.eye(3), torch.zeros(3, 3), torch.eye(3)) == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_composition_score_equals_a_loop_and_ignores_scale(seed):
    A, B = torch.randn(3, 5, generator=rng(seed)), torch.randn(5, 4, generator=rng(seed + 9))
    product = sum(sum(float(A[i, k] * B[k, j]) for k in range(5)) ** 2 for i in range(3) for j in range(4)) ** 0.5
    norms = math.sqrt(sum(float(x) ** 2 for x in A.flatten()) * sum(float(x) ** 2 for x in B.flatten()))
    assert circuits.composition_score(A, B) == pytest.approx(product / norms, rel=1e-5)
    assert circuits.composition_score(7 * A, B / 3) == pytest.approx(product / norms, rel=1e-5)
    assert circuits.composition_score(torch.zeros(3, 5), B) == 0.0


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_k_composition_of_all_earlier_heads_equals_one_at_a_time(config):
    model = small_model(config, seed=10)
    scores = circuits.k_composition_scores(model, (2, 3))
    assert scores.shape == (2, 4)
    for layer in range(2):
        for head in range(4):
            product = circuits.ov_circuit(model, layer, head) @ circuits.qk_circuit(model, 2, 3).T
            norms = circuits.ov_circuit(model, layer, head).norm() * circuits.qk_circuit(model, 2, 3).norm()
            want = float(product.norm() / norms)
            assert float(scores[layer, head]) == pytest.approx(want, rel=1e-4)
            assert circuits.k_composition(model, (layer, head), (2, 3)) == pytest.approx(want, rel=1e-4)
    with pytest.raises(ValueError, match="earlier layer"):
        circuits.k_composition(model, (2, 0), (2, 3))


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_direct_copying_effect_equals_a_loop_over_queries(config):
    model, period = small_model(config, seed=11), 5
    tokens = induction.repeated_tokens(2, period, 1, 23, 0, seed=1)
    tokens[1, 1:] = torch.tensor([4, 9, 4, 7, 9, 4, 9, 4, 7, 9])  # tokens that occur twice in a copy
    effect, share = circuits.direct_copying_effect(model, tokens, period)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        model.requires_grad_(False)
    for layer, head in [(0, 1), (2, 3)]:
        differences, best = [], []
        for b in range(2):
            for query in range(period + 1, 2 * period):
                followed = int(tokens[b, query - period + 1])
                z = cache[f"blocks.{layer}.attn.hook_z"].reshape(2, 1 + 2 * period, 4, -1)[b, query, head]
                x = cache["resid_post", 2][b, query]
                scale = (x.pow(2).mean() + model.cfg.eps).sqrt() if config is GROUPED else 1.0
                logits = (z @ model.blocks[layer].attn.W_O[head]) / scale @ model.W_U
                others = [float(logits[t]) for t in tokens[b, 1 : period + 1].tolist() if t != followed]
                differences.append(float(logits[followed]) - sum(others) / len(others))
                best.append(float(logits[followed]) > max(others))
        assert float(effect[layer, head]) == pytest.approx(sum(differences) / len(differences), abs=1e-4)
        assert float(share[layer, head]) == pytest.approx(sum(best) / len(best))


def test_total_copying_effect_is_the_margin_lost_without_the_heads_weights():
    model, period, heads = small_model(CONFIG, seed=12), 5, [(0, 2), (2, 1)]
    tokens = induction.repeated_tokens(2, period, 1, 23, 0, seed=1)
    tokens[1, 1:] = torch.tensor([4, 9, 4, 7, 9, 4, 9, 4, 7, 9])

    def margin() -> float:
        with torch.no_grad():
            logits, margins = model(tokens), []
        for b in range(2):
            for query in range(period + 1, 2 * period):
                followed = int(tokens[b, query - period + 1])
                others = [float(logits[b, query, t]) for t in tokens[b, 1 : period + 1].tolist() if t != followed]
                margins.append(float(logits[b, query, followed]) - sum(others) / len(others))
        return sum(margins) / len(margins)

    got, clean = circuits.total_copying_effect(model, tokens, period, heads), margin()
    for effect, (layer, head) in zip(got, heads, strict=True):
        weight = model.blocks[layer].attn.o.weight
        before = weight.detach().clone()
        with torch.no_grad():
            weight[:, head * 5 : (head + 1) * 5] = 0.0
        assert effect == pytest.approx(clean - margin(), abs=1e-4)
        with torch.no_grad():
            weight.copy_(before)


# --- growing


def test_train_step_is_one_step_of_the_optimizer_on_the_mean_loss():
    model = small_model(CONFIG, seed=12)
    tokens = induction.repeated_tokens(4, 6, 1, 23, 0, seed=2)
    weight = model.unembed.weight
    before = weight.detach().clone()
    model(tokens).sum().backward()  # an old gradient that must not count
    weight_grad = torch.autograd.grad(induction.loss_per_token(model(tokens), tokens).mean(), weight)[0]
    want_loss = induction.loss_per_token(model(tokens), tokens).mean().item()
    loss = induction.train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), tokens)
    assert type(loss) is float
    assert loss == pytest.approx(want_loss, rel=1e-5)
    torch.testing.assert_close(weight.detach(), before - 0.1 * weight_grad)


@pytest.mark.parametrize(
    ("scores", "want"),
    [
        ([0.1, 0.2, 0.6, 0.7], 20),
        ([0.9, 0.2, 0.6, 0.7], 20),
        ([0.1, 0.6, 0.5, 0.7], 30),  # exactly the threshold is not above it
        ([0.6, 0.7, 0.8, 0.9], 0),
        ([0.6, 0.7, 0.8, 0.2], None),
        ([], None),
    ],
)
def test_emergence_step(scores, want):
    assert induction.emergence_step(list(range(0, 10 * len(scores), 10)), scores, 0.5) == want


def test_training_is_reproducible_and_leaves_the_random_state_alone():
    state = torch.random.get_rng_state()
    runs = []
    for _ in range(2):
        model = induction_training.untrained_tiny_model(n_layers=1, seed=3)
        records = induction_training.train_induction(
            model, steps=7, periods=(4, 6), test_period=5, every=3, batch=4, seed=1
        )
        runs.append([(g.step, g.loss_first, g.loss_second, g.best_induction, g.best_previous_token) for g in records])
    assert runs[0] == runs[1]
    assert [record[0] for record in runs[0]] == [0, 3, 6, 7]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_puts_the_number_of_threads_back_also_after_an_error():
    threads = torch.get_num_threads()

    def broken(model, optimizer, tokens):
        assert torch.get_num_threads() == 1
        raise RuntimeError("a learner's step")

    run = induction_training.train_induction(
        induction_training.untrained_tiny_model(n_layers=1), periods=(4,), test_period=5, step_fn=broken
    )
    next(run)
    with pytest.raises(RuntimeError, match="a learner's step"):
        next(run)
    assert torch.get_num_threads() == threads


def test_growth_measures_the_losses_it_names():
    model, period = induction_training.untrained_tiny_model(seed=1).eval(), 6
    growth = induction_training.measure_growth(model, 5, period, batch=3, seed=2)
    tokens = induction.repeated_tokens(3, period, 1, induction_training.VOCAB, induction_training.BOS, seed=2)
    with torch.no_grad():
        logp = model(tokens).log_softmax(-1)
    first, second = [], []
    for row in range(3):
        for position in range(1, 2 * period + 1):  # the token that is predicted
            loss = -float(logp[row, position - 1, tokens[row, position]])
            (first if position <= period + 1 else second).append(loss)
    assert growth.loss_first == pytest.approx(sum(first) / len(first), rel=1e-5)
    assert growth.loss_second == pytest.approx(sum(second) / len(second), rel=1e-5)


def test_training_refuses_a_period_that_does_not_fit():
    model = induction_training.untrained_tiny_model(n_layers=1)
    with pytest.raises(ValueError, match="asks for 141 positions; the model has 128"):
        next(induction_training.train_induction(model, periods=(70,)))


def test_the_unseen_periods_are_never_trained_on():
    assert not set(induction_training.UNSEEN_PERIODS) & set(induction_training.TRAIN_PERIODS)


# --- what the models in data/ are for


@pytest.mark.parametrize("name", ["tiny-induction", "tiny-induction-seed1", "tiny-induction-seed2"])
def test_the_tiny_models_hold_an_induction_circuit(name):
    model = native.load_native(name)
    for period in (induction_training.UNSEEN_PERIODS[2], 12):
        growth = induction_training.measure_growth(model, 0, period)
        assert growth.loss_second < 0.2 < 4 < growth.loss_first
        assert growth.best_induction > 0.75
        assert growth.best_previous_token > 0.8
    # The previous-token head is what the induction head's keys read most.
    reader = int(growth.induction[1].argmax())
    assert int(circuits.k_composition_scores(model, (1, reader))[0].argmax()) == int(growth.previous_token[0].argmax())


def test_one_layer_cannot_and_a_fixed_period_teaches_an_offset():
    one = induction_training.measure_growth(native.load_native("tiny-one-layer"), 0, 20)
    assert one.loss_second > 0.7 * one.loss_first
    assert one.best_induction < 0.2
    fixed = native.load_native("tiny-fixed-period")
    at_home, elsewhere = (
        induction_training.measure_growth(fixed, 0, 24),
        induction_training.measure_growth(fixed, 0, 20),
    )
    assert at_home.loss_second < 0.1 < 4 < elsewhere.loss_second
    assert at_home.best_induction > 0.9 > 0.2 > elsewhere.best_induction
    assert at_home.best_previous_token < 0.3


def test_the_checkpoints_show_the_phase_change():
    checkpoints = native.load_checkpoints("tiny-induction")
    model, scores = checkpoints.boot(), []
    for state in checkpoints.values():
        native.load_state(model, state)
        scores.append(induction_training.measure_growth(model, 0, 20, batch=16).best_induction)
    emerged = induction.emergence_step(list(checkpoints), scores, 0.5)
    assert emerged is not None
    assert 200 < emerged < 600
    curve = json.loads((data_dir() / "tiny-induction-growth.json").read_text())["runs"]["tiny-induction"]
    measured = [max(max(layer) for layer in scores) for scores in curve["induction"]]
    assert induction.emergence_step(curve["step"], measured, 0.5) == pytest.approx(emerged, abs=25)


def test_the_readme_names_every_file_with_its_hash():
    table = (data_dir() / "README.md").read_text(encoding="utf-8")
    for path in sorted(data_dir().glob("tiny-*")):
        if path.suffix in (".safetensors", ".json"):
            row = next((line for line in table.splitlines() if f"`{path.name}`" in line), None)
            assert row is not None, f"data/README.md does not list {path.name}"
            assert hashlib.sha256(path.read_bytes()).hexdigest() in row, path.name
