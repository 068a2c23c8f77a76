"""Labels, intervals, tables and pictures of a sweep; and the engine against the answers of lesson 03."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.models import small_model
from mi_course.interp.patching import faithfulness, logit_difference, path_patching, sweep_heads, sweep_residual
from mi_course.interp.patching.gradients import attribution_patching
from mi_course.testing.answers import reference

CONFIG = {
    "n_layers": 2,
    "n_heads": 3,
    "d_model": 12,
    "d_head": 4,
    "d_vocab": 20,
    "n_ctx": 8,
    "normalization_type": "RMS",
}
ANSWERS = torch.tensor([[3, 4], [5, 6], [1, 2]])


def answer(name: str):
    return reference(f"activation_patching.{name}")


@pytest.fixture(scope="module")
def model():
    return small_model(CONFIG, seed=3)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.randint(20, (3, 5), generator=torch.Generator().manual_seed(1))
    corrupted = clean.clone()
    corrupted[:, 2] = (clean[:, 2] + 1) % 20
    return clean, corrupted


def test_a_sweep_is_labeled_and_becomes_a_table_and_a_picture(model, pair) -> None:
    sweep = sweep_residual(model, *pair, logit_difference(ANSWERS), progress=False)
    assert sweep.axes == ("layer", "position")
    assert sweep.names[1][2] == f"2 {pair[1][0, 2]}"
    low, high = sweep.interval()
    assert (low <= high).all()
    frame = sweep.to_frame()
    assert list(frame.columns) == ["layer", "layer_name", "position", "position_name", "value", "low", "high"]
    assert len(frame) == 2 * 5
    (index, value), *_ = sweep.top(1)
    assert value == float(sweep.values[index])
    assert frame.value.abs().max() == pytest.approx(abs(value))
    assert "Residual stream" in repr(sweep)
    assert sweep.show() is not None
    by_position = sweep_heads(model, *pair, logit_difference(ANSWERS), by_position=True, progress=False)
    assert by_position.axes == ("layer", "position", "head")
    assert by_position.show(at=0) is not None


def test_the_engine_agrees_with_the_answers_of_the_lesson(model, pair) -> None:
    clean, corrupted = pair
    last = torch.full((3,), 4)

    def metric(logits):
        return float(answer("logit_difference")(logits, ANSWERS, last).mean())

    with torch.no_grad():
        clean_logits, clean_cache = model.run_with_cache(clean)
        corrupted_logits, corrupted_cache = model.run_with_cache(corrupted)
    ours = {"metric": logit_difference(ANSWERS), "progress": False}
    residual = sweep_residual(model, *pair, **ours)
    plain = answer("residual_sweep")(model, corrupted, clean_cache, metric)
    torch.testing.assert_close(plain, residual.per_prompt.mean(-1), atol=1e-4, rtol=1e-4)
    values = [answer("logit_difference")(x, ANSWERS, last) for x in (clean_logits, corrupted_logits)]
    assert answer("recovery")(residual.per_prompt[0, 2], *values) == pytest.approx(
        float(residual.values[0, 2]), abs=1e-4
    )
    path = answer("path_patch_to_logits")(model, corrupted, corrupted_cache, clean_cache, (0, 1), metric)
    paths = path_patching(model, *pair, **ours)
    assert path == pytest.approx(float(paths.per_prompt[0, 1].mean()), abs=1e-4)
    caches = (corrupted_cache, clean_cache)
    path = answer("path_patch_to_query")(model, corrupted, *caches, (0, 1), (1, 2), metric)
    paths = path_patching(model, *pair, receivers=[(1, 2)], part="q", **ours)
    assert path == pytest.approx(float(paths.per_prompt[0, 1].mean()), abs=1e-4)


def test_attribution_agrees_with_the_answer_of_the_lesson(model, pair) -> None:
    clean, corrupted = pair
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(2)]
    kept = {}

    def keep(z, hook, name):
        kept[name] = z
        return z

    hooks = [(n, lambda z, hook, n=n: keep(z, hook, n)) for n in names]
    metric = logit_difference(ANSWERS)
    value = metric(model.run_with_hooks(corrupted, fwd_hooks=hooks)[:, -1]).mean()
    gradient = torch.stack(torch.autograd.grad(value, [kept[n] for n in names]))
    with torch.no_grad():
        _, clean_cache = model.run_with_cache(clean)
    clean_z, corrupted_z = torch.stack([clean_cache[n] for n in names]), torch.stack([kept[n].detach() for n in names])
    estimate = answer("attribution_patching")(clean_z, corrupted_z, gradient)
    engine = attribution_patching(model, clean, corrupted, metric)
    torch.testing.assert_close(estimate, (engine.per_prompt - engine.before).mean(-1), atol=1e-4, rtol=1e-4)


def test_faithfulness() -> None:
    assert faithfulness(2.0, 3.0, 1.0) == 0.5
    with pytest.raises(ValueError, match="both score"):
        faithfulness(1.0, 2.0, 2.0)


def test_prompts_of_one_group_are_drawn_together(model, pair) -> None:
    """Doubling every prompt within its group changes nothing; drawn one by one, the interval would shrink."""
    clean, corrupted = (tokens.repeat_interleave(2, dim=0) for tokens in pair)
    one = sweep_heads(model, *pair, logit_difference(ANSWERS), progress=False)
    doubled = sweep_heads(
        model, clean, corrupted, logit_difference(ANSWERS.repeat_interleave(2, dim=0)), progress=False
    )
    for a, b in zip(one.interval(), doubled.interval(groups=[7, 7, 2, 2, 5, 5]), strict=True):
        assert a.shape == b.shape
    low, high = doubled.interval(groups=[0, 0, 1, 1, 2, 2])
    expected_low, expected_high = one.interval()
    assert torch.allclose(low, expected_low, atol=1e-4)
    assert torch.allclose(high, expected_high, atol=1e-4)
    with pytest.raises(ValueError, match="one for each of 6 prompts"):
        doubled.interval(groups=[0, 1])
