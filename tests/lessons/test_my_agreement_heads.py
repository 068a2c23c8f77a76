"""The outcome of lesson 01: messages for malformed answers; and the full size, on SmolLM2 itself."""

from __future__ import annotations

import pytest
import torch

from mi_course.course import check_exercise
from mi_course.interp.agreement import smollm2_agreement_heads, smollm2_drops
from mi_course.lessons.residual_stream.outcome import MY_AGREEMENT_HEADS

BAD = {
    "nothing": ([], "is empty"),
    "a number": (26, "expected a list"),
    "one pair": ((26, 0), "(layer, head) pair"),
    "triples": ([(26, 0, 1)], "(layer, head) pair"),
    "names": (["26.0"], "(layer, head) pair"),
    "fractions": ([(26.5, 0)], "(layer, head) pair"),
    "no such head": ([(26, 9)], "no head (26, 9)"),
    "no such layer": ([(30, 0)], "no head (30, 0)"),
    "negative": ([(-4, 0)], "no head (-4, 0)"),
    "five heads": ([(layer, 0) for layer in range(5)], "more than 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_answers_have_messages_of_their_own_and_load_no_model(name, monkeypatch):
    monkeypatch.setattr("mi_course.lessons.residual_stream.outcome.smollm2_held_out", None)
    answer, words = BAD[name]
    verdict = check_exercise(MY_AGREEMENT_HEADS, answer)
    assert verdict.status == "wrong"
    assert verdict.points == 0
    assert words in verdict.message
    assert "checker itself" not in verdict.message


@pytest.mark.measured
@pytest.mark.real_model
def test_on_smollm2():
    from mi_course.interp.models import smollm2

    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    right = smollm2_agreement_heads()
    for answer in (right, right[:1], torch.tensor(right), [*right, right[0]]):
        verdict = check_exercise(MY_AGREEMENT_HEADS, answer)
        assert verdict.passed, verdict.message
    assert check_exercise(MY_AGREEMENT_HEADS, [(head, layer) for layer, head in right]).mistake is not None
    drops = torch.tensor(smollm2_drops().single)
    worst = [divmod(int(i), 9) for i in drops.flatten().argsort()[:2]]
    assert check_exercise(MY_AGREEMENT_HEADS, worst).mistake == "against_it"
    # The best head of four layers in which none matters: more than chance there, and still not enough.
    order = drops.amax(1).argsort()[:4].tolist()
    quiet = [(layer, int(drops[layer].argmax())) for layer in order]
    assert not check_exercise(MY_AGREEMENT_HEADS, quiet).passed
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        heads = [divmod(int(i), 9) for i in torch.randperm(270, generator=generator)[:4]]
        assert not check_exercise(MY_AGREEMENT_HEADS, heads).passed
