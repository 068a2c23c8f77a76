"""The files in data/ hold what their scripts would make again."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.induction import head_scores, repeated_tokens, smollm2_scores


@pytest.mark.real_model
@pytest.mark.measured
def test_held_out_scores_are_smollm2s():
    """One of the four runs whose mean is stored: scores agree up to the variation between sequences."""
    import mi_course

    model = mi_course.load_model("smollm2")
    table = torch.tensor(smollm2_scores()["induction"])
    scores = head_scores(model, repeated_tokens(4, 45, 1000, 40_000, 1, 90_001), 45)
    assert (scores - table).abs().max() < 0.3
    assert (table > 0.38).nonzero().tolist() == (scores > 0.35).nonzero().tolist()


@pytest.mark.real_model
@pytest.mark.measured
def test_tokens_were_sampled_from_smollm2_at_temperature_one():
    """A model's mean loss on its own samples equals its mean entropy, up to chance; on greedy text it is far lower."""
    import mi_course
    from mi_course.interp.sae import sampled_tokens

    model, tokens = mi_course.load_model("smollm2", compatibility=False), sampled_tokens()
    with torch.no_grad():
        logp = model(tokens[:4], return_type="logits")[:, 20:-1].log_softmax(-1)  # after the openings
    losses = -logp.gather(-1, tokens[:4, 21:, None])[..., 0]
    entropies = -(logp.exp() * logp).sum(-1)
    standard_error = float((losses - entropies).std()) / losses.numel() ** 0.5
    assert abs(float(losses.mean() - entropies.mean())) < 5 * standard_error
    assert float(entropies.mean()) > 1.5


@pytest.mark.real_model
def test_sampled_tokens_begin_with_the_openings_of_the_script():
    import importlib.util

    from transformers import AutoTokenizer

    from mi_course.interp.models import smollm2
    from mi_course.interp.models.where import data_dir
    from mi_course.interp.sae import sampled_tokens

    spec = importlib.util.spec_from_file_location("sample_smollm2", data_dir() / "sample_smollm2.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = sampled_tokens().tolist()
    for row, opening in zip(rows, script.beginnings(AutoTokenizer.from_pretrained(smollm2.fetch())), strict=True):
        assert row[: len(opening)] == opening
