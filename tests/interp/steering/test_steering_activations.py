"""Activations compared with one prompt at a time, Hugging Face's hidden states, and hand-written masks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from mi_course.interp.steering import (
    activations_at,
    collect,
    last_token_index,
    massive_tokens,
    ordinary_activations,
    token_activations,
    token_ids,
)

PROMPTS = ["the cat sat on a mat", "a dog ran", "the dog", "cat and dog and cat sat on the mat", "a mat was good"]


def test_last_token_index_of_every_mask_without_gaps():
    for width in range(1, 6):
        for left, length in itertools.product(range(width), range(1, width + 1)):
            if left + length > width:
                continue
            row = [0] * left + [1] * length + [0] * (width - left - length)
            assert last_token_index(torch.tensor([row])).tolist() == [left + length - 1]


def test_last_token_index_refuses_a_row_of_padding():
    with pytest.raises(ValueError, match="Row 1"):
        last_token_index(torch.tensor([[1, 0], [0, 0]]))


def test_activations_at_is_a_loop_over_the_batch():
    resid, index = torch.randn(4, 5, 3), torch.tensor([4, 0, 2, 2])
    got = activations_at(resid, index)
    for b in range(4):
        assert torch.equal(got[b], resid[b, index[b]])


def test_massive_tokens_by_hand():
    norms = torch.tensor([[900.0, 2, 2, 7, 1], [900.0, 1, 5, 1, 50]])
    real = torch.tensor([[False, True, True, True, True], [False, True, True, True, False]])
    # medians 2 (lower of the middle two) and 1
    want = [[False, False, False, True, False], [False, False, True, False, False]]
    assert massive_tokens(norms, real).tolist() == want


def one_by_one(model, prompt, layer):
    ids = torch.tensor(token_ids(model, [prompt]))
    with torch.no_grad():
        _, cache = model.run_with_cache(ids)
    return cache["resid_post", layer][0]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("position", [-1, -2, 1, 2, "mean"])
def test_collect_equals_one_prompt_at_a_time(llama, batch_size, position):
    for layer in (0, 1, 2):
        got = collect(llama, PROMPTS, layer, position=position, batch_size=batch_size)
        assert got.shape == (5, 16)
        for row, prompt in zip(got, PROMPTS, strict=True):
            resid = one_by_one(llama, prompt, layer)
            if position == "mean":
                norms = resid[1:].norm(dim=-1)
                median = sorted(norms.tolist())[(len(norms) - 1) // 2]
                kept = [r for r, n in zip(resid[1:], norms.tolist(), strict=True) if n <= 3 * median]
                want = sum(kept) / len(kept)
            else:
                want = resid[position]
            torch.testing.assert_close(row, want, rtol=1e-4, atol=1e-4)


def test_layers_come_in_the_order_asked(llama):
    both = collect(llama, PROMPTS, [2, 0])
    assert both.shape == (2, 5, 16)
    torch.testing.assert_close(both[0], collect(llama, PROMPTS, 2))
    torch.testing.assert_close(both[1], collect(llama, PROMPTS, 0))


def test_layer_l_is_hidden_state_l_plus_one_of_hugging_face(llama, llama_folder):
    # hidden_states[0] is the embedding; the last one is after the final norm, so it equals no resid_post.
    raw = AutoModelForCausalLM.from_pretrained(llama_folder, attn_implementation="eager")
    for prompt in PROMPTS:
        with torch.no_grad():
            states = raw(torch.tensor(token_ids(llama, [prompt])), output_hidden_states=True).hidden_states
        for layer in (0, 1):
            torch.testing.assert_close(
                collect(llama, [prompt], layer)[0], states[layer + 1][0, -1], rtol=1e-3, atol=1e-3
            )
        assert not torch.allclose(collect(llama, [prompt], 2)[0], states[3][0, -1], rtol=0.1, atol=0.1)


def test_token_activations_leave_bos_and_massive_tokens_out(llama):
    want = []
    for prompt in PROMPTS:
        resid = one_by_one(llama, prompt, 1)[1:]
        norms = resid.norm(dim=-1)
        median = sorted(norms.tolist())[(len(norms) - 1) // 2]
        want += [r for r, n in zip(resid, norms.tolist(), strict=True) if n <= 3 * median]
    got = token_activations(llama, PROMPTS, 1, batch_size=2)
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(token_activations(llama, PROMPTS, 1, limit=7), got[:7], rtol=1e-4, atol=1e-4)


def test_ordinary_activations_of_several_layers_are_those_of_each(llama):
    together = ordinary_activations(llama, PROMPTS, [2, 0], batch_size=2)
    assert sorted(together) == [0, 2]
    for layer, got in together.items():
        torch.testing.assert_close(got, token_activations(llama, PROMPTS, layer), rtol=1e-4, atol=1e-4)
    assert {len(got) for got in ordinary_activations(llama, PROMPTS, [0, 2], limit=7).values()} == {7}


def test_layers_above_are_not_run(llama):
    ran = []
    with llama.hooks(fwd_hooks=[("blocks.2.hook_resid_post", lambda x, hook: ran.append(1))]):
        collect(llama, PROMPTS, 1)
    assert ran == []


def test_bos_is_put_first_once(llama):
    assert token_ids(llama, ["the cat", "<bos> the cat", [0, 3, 4]]) == [[0, 3, 4]] * 3


def test_a_model_without_a_tokenizer_takes_ids(native):
    rows = [[0, 3, 4], [0, 5]]
    got = collect(native, rows, 1)
    for row, ids in zip(got, rows, strict=True):
        with torch.no_grad():
            _, cache = native.run_with_cache(torch.tensor([ids]))
        torch.testing.assert_close(row, cache["resid_post", 1][0, -1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no tokenizer"):
        collect(native, ["the"], 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1), "prompts is empty"),
        (("the cat", 1), "one string"),
        ((PROMPTS, 3), "no layer 3.*0 to 2"),
        ((PROMPTS, -1), "no layer -1"),
        ((PROMPTS, 1.0), "layers is 1.0"),
        ((PROMPTS, [True]), "bool"),
        ((PROMPTS, []), "layers is empty"),
        (([""], 1), "Position -1 of prompt 0 is BOS"),
        (([[]], 1), "holds no tokens"),
        (([[0, 99]], 1), "outside 0"),
        (([[0] * 49], 1), "49 tokens"),
    ],
)
def test_bad_input_is_named(llama, arguments, message):
    with pytest.raises(ValueError, match=message):
        collect(llama, *arguments)


@pytest.mark.parametrize(
    ("position", "message"),
    [(0, "is BOS"), (-3, "is BOS"), (3, "no position 3"), (math.nan, "whole"), ("last", "whole")],
)
def test_bad_positions_are_named(llama, position, message):
    with pytest.raises(ValueError, match=message):
        collect(llama, ["the dog"], 1, position=position)
