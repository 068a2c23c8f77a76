"""The functions of lesson 00."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mi_course.interp.basics import draw_softmax, logit_difference, top_next_tokens, zero_head
from mi_course.interp.models.small import small_model


@pytest.mark.parametrize("seed", range(3))
def test_top_next_tokens_are_those_of_a_sorted_softmax(seed):
    logits = torch.randn(4, 11, generator=torch.Generator().manual_seed(seed)) * 3
    exp = [float(torch.exp(x)) for x in logits[-1].double()]
    want = sorted(((i, e / sum(exp)) for i, e in enumerate(exp)), key=lambda pair: -pair[1])[:5]
    got = top_next_tokens(logits, k=5)
    assert [token for token, _ in got] == [token for token, _ in want]
    assert [p for _, p in got] == pytest.approx([p for _, p in want], rel=1e-5)
    assert all(type(token) is int and type(p) is float for token, p in got)


def test_zero_head_silences_one_head_and_leaves_its_input_alone():
    z = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    before = z.clone()
    out = zero_head(z, None, head=1)
    assert torch.equal(z, before)
    assert bool((out[:, :, 1] == 0).all())
    assert torch.equal(out[:, :, [0, 2]], z[:, :, [0, 2]])


def test_zero_head_as_a_hook_equals_zeroing_its_output_matrix():
    config = {"n_layers": 2, "n_heads": 3, "d_model": 12, "d_head": 4, "d_vocab": 20, "n_ctx": 16, "attn_only": True}
    model = small_model(config, seed=1)
    tokens = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        clean = model(tokens)
        hooked = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_z", partial(zero_head, head=2))])
        model.blocks[1].attn.W_O[2] = 0.0  # by a second way: through the weights
        want = model(tokens)
    if torch.equal(want, clean):  # W_O is a view in TransformerLens 4.3; were it a copy, this test would prove nothing
        pytest.fail("editing W_O in place did not change the model; zero the weight of attn.o instead")
    torch.testing.assert_close(hooked, want, atol=1e-5, rtol=1e-5)


def test_the_logit_difference_is_that_of_the_two_words_at_the_end():
    class Model:
        def run_with_hooks(self, text, fwd_hooks):
            assert text == "a text"
            logits = torch.zeros(1, 3, 5)
            logits[0, -1] = torch.tensor([0.0, 4.0, 1.5, 0.0, 0.0]) * (0.5 if fwd_hooks else 1)
            return logits

        def to_single_token(self, word):
            return {" yes": 1, " no": 2}[word]

    assert logit_difference(Model(), "a text", " yes", " no") == 2.5
    assert logit_difference(Model(), "a text", " yes", " no", hooks=[("x", print)]) == 1.25


def test_the_softmax_picture_says_each_probability():
    text = draw_softmax({" a": 1.0, " b": 1.0, " c": -40.0}).text
    assert text.count(": 0.5") == 2
    assert "logit −40" in text
