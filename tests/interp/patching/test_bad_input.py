"""What the engine refuses, and that the message names the prompt."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.models import small_model
from mi_course.interp.patching import path_patching, resample_ablation, sweep, sweep_heads, sweep_residual
from mi_course.interp.patching.metrics import logit_difference
from mi_course.interp.prompts import answer_tokens

CLEAN = [[1, 2, 3, 4], [1, 5, 6, 7]]
CORRUPTED = [[1, 2, 9, 4], [1, 5, 8, 7]]
METRIC = logit_difference(torch.tensor([[3, 4], [5, 6]]))


class Words:
    """A tokenizer of whole words, letter by letter for those it does not know."""

    pad_token_id = 0

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        known = {" Mary": [11], " John": [12]}
        return known.get(text, list(range(len(text))))

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(f"w{i}" for i in ids)


@pytest.fixture(scope="module")
def model():
    config = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 20, "n_ctx": 16}
    return small_model({**config, "attn_only": True, "normalization_type": "LN"}, seed=0)


def run(model, clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, **options):
    return sweep_heads(model, clean, corrupted, metric, progress=False, **options)


def test_unequal_lengths_of_a_pair(model) -> None:
    with pytest.raises(ValueError, match=r"Prompt 1 .* has 4 tokens, its corrupted form .* 3"):
        run(model, corrupted=[CORRUPTED[0], [1, 5, 8]])


def test_tensors_of_unequal_length(model) -> None:
    with pytest.raises(ValueError, match=r"prompt 0|Prompt 0"):
        run(model, clean=torch.tensor(CLEAN), corrupted=torch.tensor(CORRUPTED)[:, :3])


def test_padding_without_a_mask(model) -> None:
    model.tokenizer = Words()
    try:
        with pytest.raises(ValueError, match=r"Prompt 1 .* padding .* no mask"):
            run(model, clean=torch.tensor([[1, 2, 3, 4], [1, 5, 6, 0]]), corrupted=torch.tensor(CORRUPTED))
        with pytest.raises(ValueError, match=r"prompt 1 are .*'Bartholomew' is 12 tokens"):
            answer_tokens(model, [("Mary", "John"), ("Mary", "Bartholomew")])
        assert answer_tokens(model, [("Mary", " John")]).tolist() == [[11, 12]]
    finally:
        model.tokenizer = None


def test_identical_prompts(model) -> None:
    with pytest.raises(ValueError, match=r"Prompt 1 \('1 5 6 7'\) is the same clean and corrupted"):
        run(model, corrupted=[CORRUPTED[0], CLEAN[1]])


def test_a_mask_with_a_gap(model) -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])
    with pytest.raises(ValueError, match="mask of prompt 1"):
        run(model, clean=torch.tensor(CLEAN), corrupted=torch.tensor(CORRUPTED), mask=mask)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda logits: logits, r"returned \(2, 20\), expected shape \(2,\).*prompts 0 \('1 2"),
        (lambda logits: logits[:, 0].mean(), r"returned \(\), expected shape \(2,\)"),
        (lambda logits: 1.0, "returned float"),
        (lambda logits: torch.tensor([0.0, torch.nan]), r"is nan on prompt 1 \('1 5"),
        (logit_difference(torch.tensor([[3, 4]])), "for 1 prompts, but there are 2: prompt 0"),
        (logit_difference(torch.tensor([[3, 4], [5, 20]])), "answers of prompt 1 .* vocabulary is 0 to 19"),
    ],
)
def test_a_metric_of_the_wrong_kind(model, metric, message) -> None:
    with pytest.raises(ValueError, match=message):
        run(model, metric=metric)


def test_a_metric_blind_to_the_difference(model) -> None:
    with pytest.raises(ValueError, match="alike, so no"):
        run(model, metric=lambda logits: torch.zeros(2))


def test_unknown_activations(model) -> None:
    with pytest.raises(ValueError, match="no activation 'zz' to patch; there are resid_pre"):
        sweep(model, CLEAN, CORRUPTED, METRIC, "zz", progress=False)
    with pytest.raises(ValueError, match=r"no hook 'blocks.0.hook_resid_mid'.*It has no MLPs"):
        sweep_residual(model, CLEAN, CORRUPTED, METRIC, site="mid", progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "up"}, "direction is 'up'"),
        ({"layers": [2]}, "expected some of 0 to 1"),
        ({"max_batch": 0}, "max_batch is 0"),
    ],
)
def test_options(model, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        run(model, **options)


def test_a_receiver_that_does_not_exist(model) -> None:
    with pytest.raises(ValueError, match=r"receiver \(1, 2\) does not exist"):
        path_patching(model, CLEAN, CORRUPTED, METRIC, receivers=[(1, 2)], progress=False)


def test_a_source_that_does_not_line_up(model) -> None:
    with pytest.raises(ValueError, match=r"prompt 1 .* do not line up"):
        resample_ablation(model, CLEAN, METRIC, keep=[], source=[CORRUPTED[0], [1, 2]])


def test_training_mode(model) -> None:
    model.train()
    try:
        with pytest.raises(ValueError, match="training mode"):
            run(model)
    finally:
        model.eval()
