"""The two looks at a wrong estimate: attention held, and slopes along the way."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.models import small_model
from mi_course.interp.patching import (
    attention_held,
    attribution_patching,
    logit_difference,
    slopes,
    sweep_heads,
)

CONFIG = {
    "n_layers": 3,
    "n_heads": 2,
    "d_model": 12,
    "d_head": 6,
    "d_vocab": 20,
    "n_ctx": 8,
    "normalization_type": "RMS",
}
METRIC = logit_difference(torch.tensor([[3, 4], [5, 6], [1, 2]]))


@pytest.fixture(scope="module")
def model():
    return small_model(CONFIG, seed=3)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.randint(20, (3, 6), generator=torch.Generator().manual_seed(1))
    corrupted = clean.clone()
    corrupted[:, 2] = (clean[:, 2] + 1) % 20
    return clean, corrupted


def test_in_the_last_layer_no_attention_can_react(model, pair) -> None:
    exact = sweep_heads(model, *pair, METRIC, progress=False).values
    held = attention_held(model, *pair, METRIC, [(2, 0), (2, 1)])
    assert held == pytest.approx(exact[2].tolist(), abs=1e-5)


def test_earlier_heads_lose_what_passes_through_later_patterns(model, pair) -> None:
    """Against a run with every later pattern put back by hand."""
    clean, corrupted = pair
    _, cache = model.run_with_cache(corrupted)
    _, source = model.run_with_cache(clean)

    def put(z, hook):
        z[:, :, 1] = source["z", 0][:, :, 1]
        return z

    hooks = [("blocks.0.attn.hook_z", put)]
    hooks += [(f"blocks.{la}.attn.hook_pattern", lambda p, hook: cache[hook.name].clone()) for la in (1, 2)]
    ends = [
        METRIC(model.run_with_hooks(t, fwd_hooks=h)[:, -1]).mean().item()
        for t, h in ((corrupted, hooks), (corrupted, []), (clean, []))
    ]
    expected = (ends[0] - ends[1]) / (ends[2] - ends[1])
    (held,) = attention_held(model, clean, corrupted, METRIC, [(0, 1)])
    assert held == pytest.approx(expected, abs=1e-5)
    assert held != pytest.approx(float(sweep_heads(model, *pair, METRIC, progress=False).values[0, 1]), abs=1e-3)


def test_the_mean_slope_is_the_exact_effect_and_the_first_is_the_estimate(model, pair) -> None:
    exact = sweep_heads(model, *pair, METRIC, progress=False).values
    estimate = attribution_patching(model, *pair, METRIC).values
    along = slopes(model, *pair, METRIC, (0, 1), steps=24)
    assert sum(along) / len(along) == pytest.approx(float(exact[0, 1]), abs=1e-3)
    assert slopes(model, *pair, METRIC, (0, 1), steps=60)[0] == pytest.approx(float(estimate[0, 1]), abs=0.1)
    with pytest.raises(ValueError, match="steps"):
        slopes(model, *pair, METRIC, (0, 1), steps=0)
