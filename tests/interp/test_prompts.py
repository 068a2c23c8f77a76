"""Prompts in every accepted form, on tiny models; the errors name the prompt."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.models import small_model
from mi_course.interp.prompts import answer_tokens, last_logits, pad, read_prompts, token_ids, word_ids

CONFIG = {"n_layers": 2, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 8}
ROWS = [[1, 2, 3], [4, 5, 6, 7, 8]]


class Words:
    """A tokenizer of words; an unknown one is a token for each letter."""

    bos_token, bos_token_id, pad_token_id = "<bos>", 1, 0
    words = (" cat", " dog", "the")

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        if text.startswith("<bos>"):
            return [1, *self.encode(text.removeprefix("<bos>"))]
        return [10 + self.words.index(text)] if text in self.words else [20] * len(text)

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(f"<{i}>" for i in ids)


@pytest.fixture(scope="module")
def model():
    return small_model(CONFIG, seed=0)


@pytest.fixture
def speaking(model):
    model.tokenizer = Words()
    yield model
    model.tokenizer = None


@pytest.mark.parametrize("side", ["left", "right", "either"])
def test_lists_are_padded_on_the_side_asked_for(model, side):
    batch = read_prompts(model, ROWS, side=side)
    short = [1, 2, 3, 0, 0] if side == "right" else [0, 0, 1, 2, 3]
    assert batch.tokens.tolist() == [short, ROWS[1]]
    assert batch.last.tolist() == [2 if side == "right" else 4, 4]
    assert batch.texts == ("1 2 3", "4 5 6 7 8")
    assert batch.labels == ("0 4", "1 5", "2 6", "3 7", "4 8")
    assert batch.rows([1]).tokens.tolist() == [ROWS[1]]
    assert batch.name(0) == "prompt 0 ('1 2 3')"


@pytest.mark.parametrize("side", ["left", "right"])
def test_last_logits_are_those_of_each_prompt_alone(model, side):
    with torch.no_grad():
        together = last_logits(model, read_prompts(model, ROWS, side=side))
        for row, logits in zip(ROWS, together, strict=True):
            torch.testing.assert_close(logits, model(torch.tensor([row]))[0, -1], rtol=1e-4, atol=1e-5)


def test_padding_ids_of_a_tensor_may_be_anything(model):
    tokens, mask = torch.tensor([[1, 2, -100], [3, 4, 5]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert read_prompts(model, tokens, mask, side="right").tokens.tolist() == [[1, 2, 0], [3, 4, 5]]


def test_texts_get_bos_once(speaking):
    assert token_ids(speaking, ["the", "<bos>the", [12]]) == [[1, 12], [1, 12], [12]]


def test_words_are_single_tokens(speaking):
    assert word_ids(speaking, ["cat", " dog "]) == [10, 11]
    assert answer_tokens(speaking, [("cat", "dog"), ("dog", "cat")]).tolist() == [[10, 11], [11, 10]]
    with pytest.raises(ValueError, match=r"answers of prompt 1 are \('cat', 'horse'\), but 'horse' is 6 tokens"):
        answer_tokens(speaking, [("cat", "dog"), ("cat", "horse")])
    with pytest.raises(ValueError, match="words is one string"):
        word_ids(speaking, "cat")
    with pytest.raises(ValueError, match=r"Prompt 0 .* padding .* no mask"):
        read_prompts(speaking, torch.tensor([[1, 2, 0]]))
    assert read_prompts(speaking, torch.tensor([[1, 2, 0]]), side="right").last.tolist() == [2]


def mask(*rows):
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("the cat", {}, "prompts is one string"),
        ([], {}, "prompts is empty"),
        (["the"], {}, "Prompt 0 is a text, but this model has no tokenizer"),
        ([[1], []], {}, "Prompt 1 holds no tokens"),
        ([[1], [30]], {}, "Prompt 1 holds token ids outside 0 … 29"),
        ([[1], [2] * 9], {}, "Prompt 1 has 9 tokens, the model's context holds 8"),
        ([[1, 2]], {"mask": mask([1, 1])}, "mask goes with a tensor"),
        (torch.tensor([[1.0, 2.0]]), {}, "expected whole numbers"),
        (torch.tensor([[1, 2], [3, 30]]), {}, "Prompt 1 holds token ids outside"),
        (torch.ones(1, 9, dtype=torch.long), {}, "has 9 tokens"),
        (torch.tensor([[1, 2, 3]]), {"mask": mask([1, 1])}, "mask has shape"),
        (torch.tensor([[1, 2, 3]]), {"mask": mask([1, 0, 1])}, "mask of prompt 0"),
        (torch.tensor([[1, 2, 3]]), {"mask": mask([0, 0, 0])}, "mask of prompt 0"),
        (torch.tensor([[1, 2], [3, 4]]), {"mask": mask([1, 1], [0, 1]), "side": "right"}, "Prompt 1 has padding"),
        (torch.tensor([[1, 2], [3, 4]]), {"mask": mask([1, 1], [1, 0]), "side": "left"}, "Prompt 1 has padding"),
    ],
)
def test_bad_prompts_are_named(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(model, prompts, **options)


def test_the_mask_says_which_tokens_are_real():
    tokens, real = pad([[5], [6, 0]], "left")
    assert tokens.tolist() == [[0, 5], [6, 0]]
    assert real.tolist() == [[0, 1], [1, 1]]
