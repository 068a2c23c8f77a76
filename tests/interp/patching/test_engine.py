"""The batched engine against the reference backend: one hook and one full forward pass per patch."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from mi_course.interp.models import small_model
from mi_course.interp.patching import ablation, decoder, gradients, hook_backend, one_head, paths, sweeps
from mi_course.interp.patching.metrics import logit_difference
from mi_course.interp.patching.pairs import DIRECTIONS
from mi_course.interp.prompts import read_prompts

SHAPE = {"n_layers": 2, "n_heads": 4, "d_model": 24, "d_head": 6, "d_vocab": 20, "n_ctx": 16}
LLAMA = {
    "n_key_value_heads": 2,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMS",
    "gated_mlp": True,
    "act_fn": "silu",
}
CONFIGS = {
    "llama": SHAPE | LLAMA,
    "gpt": SHAPE | {"normalization_type": "LN"},
    "attention-only": SHAPE | {"normalization_type": "LN", "attn_only": True},
}
BY_COLUMN = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
BY_HEAD = ("z", "q", "k", "v", "pattern")
PADDING = {
    "none": None,
    "left": torch.tensor([[1] * 8, [0, 0] + [1] * 6, [0] + [1] * 7]),
    "right": torch.tensor([[1] * 8, [1] * 6 + [0] * 2, [1] * 7 + [0]]),
}
ANSWERS = torch.tensor([[3, 4], [0, 19], [7, 2]])


@cache
def model_of(name: str, compatibility: bool = False):
    model = small_model(CONFIGS[name], seed=1)
    if compatibility:
        model.enable_compatibility_mode(disable_warnings=True)
    return model


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(0))
    corrupted = clean.clone()
    for prompt, position in [(0, 5), (1, 3), (2, 2), (2, 4)]:  # unequal shared beginnings
        corrupted[prompt, position] = (clean[prompt, position] + 3) % 20
    return clean, corrupted


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models are slower on two threads, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def slowly(monkeypatch):
    """Call a function with the batched engine switched off."""

    def call(function, *args, **options):
        with monkeypatch.context() as patch:
            for module in (sweeps, paths, ablation):
                patch.setattr(module, "open_model", lambda *_: None)
            return function(*args, **options)

    return call


def assert_same(fast, slow) -> None:
    whole = (slow.after - slow.before).mean().abs()
    torch.testing.assert_close(fast.per_prompt / whole, slow.per_prompt / whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)
    assert fast.names == slow.names
    assert fast.axes == slow.axes


@pytest.mark.parametrize(
    ("name", "compatibility", "padding"),
    [("llama", False, "none"), ("llama", False, "left"), ("llama", True, "right"), ("gpt", False, "left")],
)
@pytest.mark.parametrize("activation", [*BY_COLUMN, *BY_HEAD])
def test_sweeps_equal_one_hook_per_patch(slowly, name, compatibility, activation, padding) -> None:
    model, (clean, corrupted), metric = model_of(name, compatibility), tokens(), logit_difference(ANSWERS)
    assert decoder.open_model(model, read_prompts(model, clean, PADDING[padding])) is not None
    direction = "denoising" if padding == "none" else "noising"
    for by_position in (False, True)[: 1 if activation in BY_COLUMN else 2]:
        options = {"direction": direction, "by_position": by_position, "mask": PADDING[padding], "progress": False}
        fast = sweeps.sweep(model, clean, corrupted, metric, activation, **options)
        slow = slowly(sweeps.sweep, model, clean, corrupted, metric, activation, **options)
        assert_same(fast, slow)


@pytest.mark.parametrize("activation", ["resid_pre", "resid_post", "attn_out", *BY_HEAD])
def test_sweeps_of_an_attention_only_model(slowly, activation) -> None:
    model, (clean, corrupted), metric = model_of("attention-only"), tokens(), logit_difference(ANSWERS)
    fast = sweeps.sweep(model, clean, corrupted, metric, activation, progress=False)
    assert_same(fast, slowly(sweeps.sweep, model, clean, corrupted, metric, activation, progress=False))


@pytest.mark.parametrize("max_batch", [1, 2, 7])
def test_small_batches_change_nothing(max_batch) -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    for activation in ("resid_post", "k"):
        whole = sweeps.sweep(model, clean, corrupted, metric, activation, by_position=True, progress=False)
        parts = sweeps.sweep(
            model, clean, corrupted, metric, activation, by_position=True, progress=False, max_batch=max_batch
        )
        assert_same(parts, whole)


def test_a_metric_on_all_logits_and_some_layers() -> None:
    model, (clean, corrupted), metric = model_of("gpt"), tokens(), logit_difference(ANSWERS)
    few = sweeps.sweep_heads(model, clean, corrupted, metric, progress=False)
    full = sweeps.sweep_heads(model, clean, corrupted, lambda logits: metric(logits), layers=[1], progress=False)
    torch.testing.assert_close(full.values, few.values[1:])
    assert full.names[0] == ("1",)


def test_a_loop_written_by_hand_agrees() -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    _, cache_ = model.run_with_cache(clean)
    swept = sweeps.sweep_heads(model, clean, corrupted, metric, by_position=True, progress=False)

    def hook(z, hook):
        z = z.clone()
        z[:, 5, 2] = cache_["blocks.1.attn.hook_z"][:, 5, 2]
        return z

    logits = model.run_with_hooks(corrupted, fwd_hooks=[("blocks.1.attn.hook_z", hook)])[:, -1]
    torch.testing.assert_close(swept.per_prompt[1, 5, 2], metric(logits).detach(), atol=1e-4, rtol=1e-4)


def test_patching_everything_gives_one_and_the_shared_beginning_zero() -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    for direction in DIRECTIONS:
        post = sweeps.sweep_residual(model, clean, corrupted, metric, site="post", direction=direction, progress=False)
        torch.testing.assert_close(post.values[-1, -1], torch.tensor(1.0), atol=1e-5, rtol=0)
        assert (post.values[:, :2] == 0).all()


@pytest.mark.parametrize("mlps", ["frozen", "recomputed"])
@pytest.mark.parametrize(
    ("receivers", "part"), [(None, "q"), ([(1, 0), (1, 3)], "q"), ([(1, 1)], "k"), ([(1, 2)], "v")]
)
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_paths_equal_hooks_that_freeze(slowly, mlps, receivers, part, padding) -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    options = {"receivers": receivers, "part": part, "mlps": mlps, "mask": PADDING[padding], "progress": False}
    fast = paths.path_patching(model, clean, corrupted, metric, **options, max_batch=5)
    slow = slowly(paths.path_patching, model, clean, corrupted, metric, **options)
    assert_same(fast, slow)
    if receivers is not None:
        assert (fast.values[1] == 0).all()  # a head of the receivers' layer cannot send to them


def test_a_key_receiver_stands_for_its_group() -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    one, other = (
        paths.path_patching(model, clean, corrupted, metric, receivers=[(1, head)], part="k", progress=False)
        for head in (2, 3)
    )
    torch.testing.assert_close(one.values, other.values)


def test_ablation_equals_hooks(slowly) -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    for mask in PADDING.values():
        means = ablation.head_means(model, corrupted, mask)
        keep = [(0, 1), (1, 2), (1, 3)]
        for options in ({"means": means}, {"source": corrupted}):
            function = ablation.mean_ablation if "means" in options else ablation.resample_ablation
            fast = function(model, clean, metric, keep=keep, mask=mask, **options)
            slow = slowly(function, model, clean, metric, keep=keep, mask=mask, **options)
            torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


def test_circuits_that_start_in_different_layers(slowly) -> None:
    """The empty one, the whole model, and those that leave the one or the other in the first or second layer."""
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    every = [(layer, head) for layer in range(2) for head in range(4)]
    circuits = [[], every, [(1, 2)], [(0, 1)], every[1:], every[:-1], every[2:5]]
    for mask in PADDING.values():
        options = {"means": ablation.head_means(model, corrupted, mask), "mask": mask}
        fast = ablation.mean_ablations(model, clean, metric, circuits, **options)
        slow = slowly(ablation.mean_ablations, model, clean, metric, circuits, **options)
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", [[(1, 3)], [(0, 0), (1, 2), (0, 3)]])
def test_a_few_heads_equal_the_sweep(heads) -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    some = one_head.patch_heads(model, clean, corrupted, metric, heads)
    every = sweeps.sweep_heads(model, clean, corrupted, metric, progress=False)
    rows, columns = zip(*heads, strict=True)
    torch.testing.assert_close(some.values, every.values[rows, columns], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(some.per_prompt, every.per_prompt[rows, columns], atol=1e-4, rtol=1e-4)
    assert some.names == (tuple(f"{layer}.{head}" for layer, head in heads),)


def test_a_circuit_is_scored_beside_random_ones() -> None:
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    means = ablation.head_means(model, corrupted)
    every = [(layer, head) for layer in range(2) for head in range(4)]
    score = ablation.score_circuit(model, clean, metric, every, means, random=5, progress=False)
    assert score.faithfulness == pytest.approx(1)
    assert score.completeness == pytest.approx(0, abs=1e-5)
    assert len(score.random) == 5
    half = ablation.score_circuit(model, clean, metric, every[:4], means, random=5, progress=False)
    low, high = half.interval()
    assert low <= half.faithfulness <= high
    assert all(len(c) == 4 == len(set(c)) for c in ablation.random_circuits(model, 4, 10))


def test_attribution_is_the_derivative_of_the_sweep() -> None:
    model, (clean, corrupted), metric = model_of("gpt"), tokens(), logit_difference(ANSWERS)
    name, eps = "blocks.1.attn.hook_z", 1e-2
    estimate = gradients.attribution_patching(model, clean, corrupted, metric, "z")
    base, other = (hook_backend.activations(model, read_prompts(model, t), [name])[name] for t in (corrupted, clean))

    def nudge(z, hook):
        z = z.clone()
        z[:, :, 2] += eps * (other - base)[:, :, 2]
        return z

    with torch.no_grad():
        moved = metric(hook_backend.last_logits(model, read_prompts(model, corrupted), [(name, nudge)]))
    torch.testing.assert_close(
        estimate.per_prompt[1, 2] - estimate.before, (moved - estimate.before) / eps, atol=2e-2, rtol=2e-2
    )
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("activation", ["z", "k", "resid_pre"])
def test_integrated_gradients_add_up(padding, activation) -> None:
    """At the last layer, what all heads contribute together is what moving them all does (completeness)."""
    model, (clean, corrupted), metric = model_of("llama"), tokens(), logit_difference(ANSWERS)
    estimate = gradients.integrated_gradients(
        model, clean, corrupted, metric, activation, steps=64, mask=PADDING[padding]
    )
    name = hook_backend.HOOKS[activation].format(1)
    into, source = (read_prompts(model, t, PADDING[padding]) for t in (corrupted, clean))
    target = hook_backend.activations(model, source, [name])[name]
    with torch.no_grad():
        moved = metric(hook_backend.last_logits(model, into, [(name, lambda value, hook: target)]))
    total = (estimate.per_prompt[1] - estimate.before).sum(0)
    torch.testing.assert_close(total, moved - estimate.before, atol=0.05, rtol=0.05)


def test_a_model_with_hooks_of_its_own_takes_the_plain_road() -> None:
    model, (clean, corrupted) = small_model(CONFIGS["gpt"], seed=2), tokens()
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0.5)
    assert decoder.open_model(model, read_prompts(model, clean)) is None
    swept = sweeps.sweep_residual(model, clean, corrupted, logit_difference(ANSWERS), progress=False)
    torch.testing.assert_close(
        swept.before, logit_difference(ANSWERS)(model(corrupted)[:, -1]).detach(), atol=1e-5, rtol=1e-5
    )
    model.reset_hooks()


@pytest.mark.parametrize("backend", ["batched", "hooks"])
def test_an_interrupt_leaves_no_hook_and_no_change(slowly, backend) -> None:
    model, (clean, corrupted) = model_of("llama"), tokens()
    weights = {name: p.clone() for name, p in model.named_parameters()}
    count = sum(len(m._forward_hooks) for m in model.modules())
    calls = []

    def metric(logits):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return logits[:, 0]

    run = sweeps.sweep_heads if backend == "batched" else lambda *a, **k: slowly(sweeps.sweep_heads, *a, **k)
    with pytest.raises(KeyboardInterrupt):
        run(model, clean, corrupted, metric, progress=False)

    def stop(z, hook):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hook_backend.last_logits(model, read_prompts(model, clean), [("blocks.1.attn.hook_z", stop)])
    assert sum(len(m._forward_hooks) for m in model.modules()) == count
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
