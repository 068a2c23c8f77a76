"""What data/ holds is what its scripts measure."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.induction import head_scores, repeated_tokens, smollm2_scores


@pytest.mark.real_model
@pytest.mark.slow
def test_held_out_scores_are_smollm2s():
    """One of the four runs that were averaged: the strong heads are the same, to what sequences differ by."""
    import mi_course

    model = mi_course.load_model("smollm2")
    table = torch.tensor(smollm2_scores()["induction"])
    seen = head_scores(model, repeated_tokens(4, 45, 1000, 40_000, 1, 90_001), 45)
    assert (seen - table).abs().max() < 0.3
    assert set(map(tuple, (table > 0.38).nonzero().tolist())) == set(map(tuple, (seen > 0.35).nonzero().tolist()))


@pytest.mark.real_model
def test_sampled_tokens_are_what_smollm2_says_at_temperature_one():
    """A model's loss on its own samples is the entropy of its predictions, up to chance; greedy text's is far below."""
    import mi_course
    from mi_course.interp.sae import sampled_tokens

    model, tokens = mi_course.load_model("smollm2", compatibility=False), sampled_tokens()
    with torch.no_grad():
        logp = model(tokens[:4], return_type="logits")[:, 20:-1].log_softmax(-1)  # behind every opening
    losses = -logp.gather(-1, tokens[:4, 21:, None])[..., 0]
    entropies = -(logp.exp() * logp).sum(-1)
    chance = float((losses - entropies).std()) / losses.numel() ** 0.5
    assert abs(float(losses.mean() - entropies.mean())) < 5 * chance
    assert float(entropies.mean()) > 1.5


@pytest.mark.real_model
def test_sampled_tokens_begin_as_the_script_says():
    import importlib.util

    from transformers import AutoTokenizer

    from mi_course.interp.models import smollm2
    from mi_course.interp.models.where import data_dir
    from mi_course.interp.sae import sampled_tokens

    spec = importlib.util.spec_from_file_location("sample_smollm2", data_dir() / "sample_smollm2.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = sampled_tokens().tolist()
    for row, begin in zip(rows, script.beginnings(AutoTokenizer.from_pretrained(smollm2.fetch())), strict=True):
        assert row[: len(begin)] == begin
