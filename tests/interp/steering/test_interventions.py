"""Steering and ablation compared with hand-written hooks and loops, other ways to generate, and weights."""

from __future__ import annotations

import math

import pytest
import torch
from steering_models import CONFIG, module_hooks

from mi_course.interp.models import load_model, small_model
from mi_course.interp.steering import (
    Ablate,
    Steer,
    ablate_direction,
    add_vector,
    generate,
    generate_ids,
    orthogonalize,
    orthogonalized,
    steering,
    token_ids,
)
from mi_course.interp.steering._checks import check_coefficient

PROMPTS = ["the cat sat on a mat", "a dog ran", "the dog was"]
SEEDS = range(3)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vector(seed: int, size: float = 30.0) -> torch.Tensor:
    v = torch.randn(16, generator=rng(seed))
    return v / v.norm() * size


def by_hand(model, ids, layer, v, coefficient, start, stop=None):
    """Logits of one unpadded prompt with a hook written here."""

    def hook_fn(resid, hook):
        for p in range(resid.shape[1]):
            if p >= start and (stop is None or p < stop):
                resid[:, p] = resid[:, p] + coefficient * v
        return resid

    with torch.no_grad():
        return model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(f"blocks.{layer}.hook_resid_post", hook_fn)])[0]


def greedy_by_hand(model, ids, n, **steer):
    """One prompt, one token at a time, everything read again each time."""
    ids, new = list(ids), []
    for _ in range(n):
        token = int(by_hand(model, ids, **steer)[-1].argmax())
        if token == 1:
            break
        new.append(token)
        ids.append(token)
    return new


# --- the learner's functions


@pytest.mark.parametrize("start", [0, 1, 3, 5, 9])
def test_add_vector_is_a_loop(start):
    resid, v = torch.randn(2, 5, 4, generator=rng(0)), torch.randn(4, generator=rng(1))
    before = resid.clone()
    got = add_vector(resid, None, v, -1.5, start)
    assert torch.equal(resid, before)
    for b in range(2):
        for p in range(5):
            want = resid[b, p] - 1.5 * v if p >= start else resid[b, p]
            torch.testing.assert_close(got[b, p], want)


def test_add_vector_refuses_a_negative_start():
    with pytest.raises(ValueError, match="start is -1"):
        add_vector(torch.zeros(1, 2, 3), None, torch.zeros(3), 1.0, -1)


@pytest.mark.parametrize("seed", SEEDS)
def test_ablation_leaves_no_component_and_nothing_else_changed(seed):
    resid, v = torch.randn(2, 5, 8, generator=rng(seed)), 7 * torch.randn(8, generator=rng(seed + 5))
    got = ablate_direction(resid, None, v)
    assert float((got @ v).abs().max()) < 1e-4
    # a basis of the rest: what is orthogonal to v stays
    others = torch.linalg.svd(v[None], full_matrices=True)[2][1:]
    torch.testing.assert_close(got @ others.T, resid @ others.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ablate_direction(got, None, -3 * v), got)
    assert torch.equal(ablate_direction(resid, None, torch.zeros(8)), resid)


def test_orthogonalized_rows_write_nothing_along_the_direction():
    W, v = torch.randn(5, 8, generator=rng(0)), torch.randn(8, generator=rng(1))
    x = torch.randn(3, 5, generator=rng(2))
    assert float((x @ orthogonalize(W, v) @ v).abs().max()) < 1e-5
    torch.testing.assert_close(x @ orthogonalize(W, v), orthogonalize(x @ W, v))
    assert torch.equal(orthogonalize(W, torch.zeros(8)), W)


# --- on a model


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("start", "stop"), [(1, None), (0, None), (2, 4), (3, None), (40, None)])
def test_steering_equals_a_hook_by_hand(llama, seed, start, stop):
    ids, v = token_ids(llama, PROMPTS[:1])[0], vector(seed)
    with torch.no_grad(), steering(llama, Steer(v, 1, 0.7, start, stop)):
        got = llama(torch.tensor([ids]))[0]
    torch.testing.assert_close(got, by_hand(llama, ids, 1, v, 0.7, start, stop), rtol=1e-4, atol=1e-3)


def test_several_layers_and_several_vectors_add_up(llama):
    ids, v, w = torch.tensor(token_ids(llama, PROMPTS[:1])), vector(0), vector(1)
    with torch.no_grad():
        with steering(llama, Steer(v, [0, 2], 0.5), Steer(w, 0)):
            got = llama(ids)
        with llama.hooks(
            fwd_hooks=[
                ("blocks.0.hook_resid_post", lambda x, hook: add_vector(x, hook, 0.5 * v + w, 1.0, 1)),
                ("blocks.2.hook_resid_post", lambda x, hook: add_vector(x, hook, v, 0.5, 1)),
            ]
        ):
            want = llama(ids)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-3)


def test_a_vector_of_its_own_for_each_prompt(llama):
    ids, v = token_ids(llama, PROMPTS[:1])[0], torch.stack([vector(0), vector(1), torch.zeros(16)])
    with torch.no_grad(), steering(llama, Steer(v, 1, -1.0)):
        got = llama(torch.tensor([ids] * 3))
    for row, one in zip(got, v, strict=True):
        torch.testing.assert_close(row, by_hand(llama, ids, 1, one, -1.0, 1), rtol=1e-4, atol=1e-3)
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match="3 vectors, but the batch has 2"),
        steering(llama, Steer(v, 1, -1.0)),
    ):
        llama(torch.tensor([ids] * 2))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("start", [0, 1, 3, 6])
def test_generation_equals_one_token_at_a_time_without_a_cache(llama, use_cache, start):
    for seed in range(2):
        v = vector(seed, 20.0)
        got = generate_ids(llama, PROMPTS, [Steer(v, 1, 1.0, start)], max_new_tokens=12, use_cache=use_cache)
        for new, ids in zip(got, token_ids(llama, PROMPTS), strict=True):
            assert new == greedy_by_hand(llama, ids, 12, layer=1, v=v, coefficient=1.0, start=start)


def test_these_vectors_do_change_what_is_written(llama):
    plain = generate_ids(llama, PROMPTS, max_new_tokens=12)
    assert plain == [
        greedy_by_hand(llama, i, 12, layer=0, v=0.0, coefficient=0.0, start=0) for i in token_ids(llama, PROMPTS)
    ]
    changed = [generate_ids(llama, PROMPTS, [Steer(vector(s, 20.0), 1)], max_new_tokens=12) != plain for s in range(6)]
    assert sum(changed) >= 4
    assert generate_ids(llama, PROMPTS, [Steer(vector(0), 1, 0.0)], max_new_tokens=12) == plain


def test_only_what_is_generated_can_be_steered(llama):
    rows, v = token_ids(llama, PROMPTS), vector(1, 20.0)
    got = generate_ids(llama, PROMPTS, [Steer(v, 1, 1.0, [len(r) for r in rows])], max_new_tokens=8)
    for new, ids in zip(got, rows, strict=True):
        assert new == greedy_by_hand(llama, ids, 8, layer=1, v=v, coefficient=1.0, start=len(ids))


def test_the_prompt_is_read_once_and_a_step_reads_one_token(llama):
    widths = []
    with llama.hooks(fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: widths.append(x.shape[1]))]):
        new = generate_ids(llama, PROMPTS[:1], [Steer(vector(0), 1)], max_new_tokens=6)[0]
    assert widths[0] == 7
    assert set(widths[1:]) <= {1}
    assert len(widths) >= len(new)


def test_each_position_is_steered_exactly_once(llama):
    v, plain, steered = vector(0), [], []
    # The hook of `steering` is added last, so this one sees the stream before it, and that of the next block after it.
    hooks = [
        ("blocks.1.hook_resid_post", lambda x, hook: plain.append(x.clone())),
        ("blocks.2.hook_resid_pre", lambda x, hook: steered.append(x.clone())),
    ]
    with llama.hooks(fwd_hooks=hooks):
        generate_ids(llama, PROMPTS[:1], [Steer(v, 1, 0.5)], max_new_tokens=5)
    moved = (torch.cat(steered, 1) - torch.cat(plain, 1))[0]
    assert float(moved[0].abs().max()) == 0
    torch.testing.assert_close(moved[1:], (0.5 * v).expand(len(moved) - 1, -1), rtol=1e-3, atol=1e-3)


def test_other_generations_are_steered_alike(llama):
    ids, v = token_ids(llama, PROMPTS[:1]), vector(2, 20.0)
    ours = generate_ids(llama, ids, [Steer(v, 1)], max_new_tokens=8)[0]
    with steering(llama, Steer(v, 1)):
        theirs = llama.generate(
            torch.tensor(ids), max_new_tokens=8, do_sample=False, verbose=False, return_type="tokens"
        )
    assert theirs[0, len(ids[0]) :].tolist()[: len(ours)] == ours


def test_a_model_without_a_cache_generates_the_same_way(native):
    rows, v = [[0, 3, 4, 7], [0, 5]], vector(1, 20.0)
    got = generate_ids(native, rows, [Steer(v, 1)], max_new_tokens=6)
    for new, ids in zip(got, rows, strict=True):
        want = list(ids)
        for _ in range(6):
            want.append(int(by_hand(native, want, 1, v, 1.0, 1)[-1].argmax()))
        assert new == want[len(ids) :]


def test_sampling_depends_on_the_seed_and_leaves_the_global_state_alone(llama):
    state = torch.random.get_rng_state()
    a, b, c = (generate(llama, PROMPTS, max_new_tokens=10, temperature=3.0, seed=s) for s in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert a == b != c


# --- ablation and its twin


def written(model):
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
    return model.run_with_cache(torch.tensor(token_ids(model, [[0, 3, 4, 9, 5]])), names_filter=names)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_ablated_direction_is_nowhere_and_at_one_layer_it_comes_back(llama, seed):
    v = vector(seed)
    with torch.no_grad():
        with steering(llama, Ablate(v)):
            _, cache = written(llama)
        for layer in range(3):
            assert float((cache["resid_post", layer] @ v / v.norm()).abs().max()) < 1e-3
        with steering(llama, Ablate(v, layers=0)):
            _, cache = written(llama)
        assert float((cache["resid_post", 0] @ v / v.norm()).abs().max()) < 1e-3
        assert float((cache["resid_post", 2] @ v / v.norm()).abs().max()) > 0.1


def test_ablation_may_leave_bos_alone(llama):
    v, seen = vector(0), []
    hooks = [
        (name, lambda x, hook: seen.append(x[0] @ v / v.norm()))
        for name in ("blocks.0.hook_resid_pre", "blocks.2.hook_resid_post")
    ]
    rows = token_ids(llama, PROMPTS)
    with torch.no_grad(), steering(llama, Ablate(v, start=1)), llama.hooks(fwd_hooks=hooks):
        llama(torch.tensor(rows[:1]))
    for along in seen:
        assert float(along[1:].abs().max()) < 1e-3
        assert float(along[0].abs()) > 0.1
    # left padding and a cache change nothing
    together = generate_ids(llama, PROMPTS, [Ablate(v, start=1)], max_new_tokens=6)
    alone = [generate_ids(llama, [r], [Ablate(v, start=1)], max_new_tokens=6, use_cache=False)[0] for r in rows]
    assert together == alone
    with pytest.raises(ValueError, match="start is -1"):
        Ablate(v, start=-1)


def models(llama):
    yield llama
    for config in (
        CONFIG,
        {**CONFIG, "attn_only": True},
        {**CONFIG, "normalization_type": "RMSPRE", "positional_embedding_type": "rotary"},
    ):
        for compatibility in (False, True):
            model = small_model(config, seed=1)
            if compatibility:
                model.enable_compatibility_mode(disable_warnings=True)
            yield model


@pytest.mark.parametrize("seed", SEEDS)
def test_orthogonalized_weights_equal_ablation_everywhere(llama, seed):
    tokens, v = torch.randint(2, 15, (2, 6), generator=rng(seed)), vector(seed)
    tokens[:, 0] = 0
    for model in models(llama):
        state = {k: t.clone() for k, t in model.state_dict().items()}
        with torch.no_grad():
            plain = model(tokens)
            with steering(model, Ablate(v)):
                ablated = model(tokens)
            with orthogonalized(model, v):
                twin = model(tokens)
            torch.testing.assert_close(twin, ablated, rtol=1e-3, atol=1e-3)
            assert not torch.allclose(plain, ablated, atol=0.05)
            assert torch.equal(model(tokens), plain)
        assert all(torch.equal(t, state[k]) for k, t in model.state_dict().items())


def test_tied_embeddings_are_refused_raw_and_work_in_compatibility_mode(tied_folder):
    v, tokens = vector(0), torch.tensor([[0, 3, 4, 5]])
    raw = load_model(tied_folder, compatibility=False)
    with pytest.raises(ValueError, match="compatibility=True"), orthogonalized(raw, v):
        pass
    with torch.no_grad(), steering(raw, Ablate(v)):
        want = raw(tokens).log_softmax(-1)
    model = load_model(tied_folder)
    with torch.no_grad(), orthogonalized(model, v):
        torch.testing.assert_close(model(tokens).log_softmax(-1), want, rtol=1e-3, atol=2e-3)


# --- tidiness and bad input


def test_no_hook_is_left_behind_also_after_an_error(llama):
    tokens = torch.tensor([[0, 3, 4]])
    with torch.no_grad():
        plain = llama(tokens)  # in its first forward pass the bridge adds hooks of its own
        before = module_hooks(llama)
        with steering(llama, Steer(vector(0), 1), Ablate(vector(1))):
            assert module_hooks(llama) > before
            llama(tokens)
        assert module_hooks(llama) == before
        with pytest.raises(KeyError), steering(llama, Steer(vector(0), 1)):
            raise KeyError
        with pytest.raises(RuntimeError), orthogonalized(llama, vector(0)):
            raise RuntimeError
        assert module_hooks(llama) == before
        assert torch.equal(llama(tokens), plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Steer(torch.tensor([1.0, math.nan]), 1), "1 numbers that are NaN"),
        (lambda: Steer(torch.ones(2, 2, 2), 1), "shape"),
        (lambda: Steer(torch.ones(2, dtype=torch.int64), 1), "int64"),
        (lambda: Steer([1.0], 1), "is a list"),
        (lambda: Steer(torch.ones(16), 1, math.inf), "finite"),
        (lambda: Steer(torch.ones(16), 1, math.nan), "finite"),
        (lambda: Steer(torch.ones(16), 1, 10**400), "one finite number"),
        (lambda: Steer(torch.ones(16), 1, 1e30), "overflows torch.float32"),
        (lambda: Steer(torch.ones(16), 1, "big"), "one finite number"),
        (lambda: Steer(torch.ones(16), -1), "no layer -1"),
        (lambda: Steer(torch.ones(16), "1"), "layer '1' is a str"),
        (lambda: Steer(torch.ones(16), None), "layers is None"),
        (lambda: Steer(torch.ones(16), 1, 1.0, -2), "start is -2"),
        (lambda: Steer(torch.ones(16), 1, 1.0, 1, -2), "stop is -2"),
        (lambda: Ablate(torch.ones(2, 16)), "direction has shape"),
        (lambda: Ablate(torch.ones(16), []), "layers is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_fit_the_model_is_refused(llama):
    for one, message in (
        (Steer(torch.ones(8), 1), "8 components.*d_model = 16"),
        (Ablate(torch.ones(8)), "8 components"),
        (Steer(torch.ones(16), 3), "no layer 3.*0 to 2"),
        (Ablate(torch.ones(16), 9), "no layer 9"),
        ("vector", "is a str"),
    ):
        with pytest.raises(ValueError, match=message), steering(llama, one):
            pass
    with pytest.raises(ValueError, match="prompts is empty"):
        generate(llama, [])
    with pytest.raises(ValueError, match="holds 48"):
        generate(llama, PROMPTS, max_new_tokens=45)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        generate(llama, PROMPTS, max_new_tokens=0)
    with pytest.raises(ValueError, match="temperature is -1"):
        generate(llama, PROMPTS, temperature=-1)


def test_useful_coefficients_fit_into_half_precision():
    """A component of 60 is what a difference of means has at layer 15 of SmolLM2."""
    vector = torch.full((576,), 60.0)
    for coefficient in (1, 3, 20):
        assert check_coefficient(coefficient, vector, torch.float16) == coefficient
    with pytest.raises(ValueError, match=r"overflows torch\.float16: at most 3\.3e\+04"):
        check_coefficient(1000, vector, torch.float16)
