"""`run_bare` against the bridge, with and without hooks."""

import gc
import weakref

import pytest
import torch

from mi_course.interp.models import run_bare, small_model
from mi_course.lessons.activation_patching.sweeps import ATTENTION_ONLY, GROUPED, WITH_MLPS

POINTS = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
POINTS += tuple(f"attn.hook_{part}" for part in "qkvz")


@pytest.mark.parametrize("config", [ATTENTION_ONLY, WITH_MLPS, GROUPED])
def test_a_bare_run_gives_what_the_bridge_gives(config: dict) -> None:
    model = small_model(config, seed=3)
    tokens = torch.arange(14).reshape(2, 7) % config["d_vocab"]
    with torch.no_grad():
        torch.testing.assert_close(run_bare(model, tokens), model(tokens))
    for point in POINTS:
        name = f"blocks.1.{point}"
        if name not in model.hook_dict:
            continue
        seen: list = []

        def change(x: torch.Tensor, hook: object, seen: list = seen) -> torch.Tensor:
            seen.append((x.clone(), hook))
            return x.roll(1, 1) * 1.5

        with torch.no_grad():
            expected = model.run_with_hooks(tokens, fwd_hooks=[(name, change)])
        torch.testing.assert_close(run_bare(model, tokens, [(name, change)]), expected, msg=point)
        (theirs, _), (ours, hook) = seen
        torch.testing.assert_close(ours, theirs, msg=point)
        assert hook is model.hook_dict[name]


def test_weights_are_shared_and_no_hook_stays() -> None:
    model = small_model(GROUPED, seed=1)
    tokens = torch.arange(6)[None]
    before = run_bare(model, tokens)
    looked: list = []
    run_bare(model, tokens, [("blocks.0.attn.hook_z", lambda z, hook: looked.append(z))])
    with pytest.raises(ZeroDivisionError):
        run_bare(model, tokens, [("blocks.0.attn.hook_z", lambda z, hook: 1 / 0)])
    assert torch.equal(run_bare(model, tokens), before)
    assert len(looked) == 1
    with torch.no_grad():
        model.blocks[0].attn.o.weight.mul_(2.0)
        torch.testing.assert_close(run_bare(model, tokens), model(tokens))


def test_gradients_reach_the_models_parameters() -> None:
    model = small_model(WITH_MLPS, seed=2)
    tokens = torch.arange(6)[None]
    assert not run_bare(model, tokens).requires_grad
    parameters = list(model.parameters())
    ours, theirs = (
        torch.autograd.grad(logits.square().mean(), parameters)
        for logits in (run_bare(model, tokens, grad=True), model(tokens))
    )
    torch.testing.assert_close(ours, theirs)


def test_an_error_in_the_unembedding_passes_through() -> None:
    model = small_model(GROUPED, seed=1)
    trap = model.unembed.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_bare(model, torch.arange(6)[None])
    trap.remove()


def test_an_unknown_hook_point_is_named() -> None:
    with pytest.raises(ValueError, match="hook_pattern"):
        run_bare(small_model(GROUPED, 1), torch.arange(6)[None], [("blocks.0.attn.hook_pattern", lambda x, hook: x)])


def test_a_model_is_not_kept() -> None:
    model = small_model(GROUPED, 1)
    run_bare(model, torch.arange(6)[None])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
