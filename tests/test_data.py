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
