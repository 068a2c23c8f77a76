"""Text on disk as rows of tokens: what is in them, what is kept out, and how they reach a trainer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mi_course.interp.models.small import small_model
from mi_course.interp.sae import ModelBatches, TextGroup, TokenRows, write_rows


class Letters:
    """A tokenizer with a token for each lower-case letter: a is 3."""

    bos_token_id, eos_token_id, unk_token_id = 1, 2, 0

    def __len__(self):
        return 30

    def __call__(self, texts, **options):
        return {"input_ids": [[ord(c) - 94 for c in text if c.isalpha()] for text in texts]}

    def get_vocab(self):
        return {"<unknown>": 0, "<begin>": 1, "<end>": 2}

    def convert_tokens_to_ids(self, token):
        return self.get_vocab().get(token, 0)


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text("abc\n<|doc|>\ndefg\n<|doc|>\n")
    (tmp_path / "b" / "two.txt").write_text("hij\n<|doc|>\n")
    (tmp_path / "code.py").write_text("xyz")
    (tmp_path / "unseen.txt").write_text("zzzzzzzz")
    return tmp_path


def test_documents_follow_each_other_in_rows_that_begin_with_bos(texts):
    groups = {
        "b": TextGroup(("b/*.txt",), separator="<|doc|>", licence="CC0"),
        "code": TextGroup(("*.py", str(texts / "unseen.txt")), held_out_files=("unseen.txt",)),
    }
    folder = write_rows(Letters(), groups, texts / "rows", 5, base=texts, between="<end>")
    train, held_out = TokenRows(folder), TokenRows(folder, "held_out")
    assert train.tokens.dtype == np.uint16
    assert train.rows(slice(None)).tokens.tolist() == [
        [1, 3, 4, 5, 2],  # abc
        [1, 6, 7, 8, 9],  # defg
        [1, 2, 10, 11, 12],  # the end of it, and hij
        [1, 26, 27, 28, 2],  # xyz; what filled no row of group b is dropped
    ]
    assert held_out.rows([0, 1]).tokens.tolist() == [[1, 28, 28, 28, 28]] * 2
    assert len(TokenRows(folder, group="code")) == 1
    assert len(TokenRows(folder, "held_out", "b")) == 0
    about = json.loads((folder / "manifest.json").read_text())
    assert about["groups"]["b"]["licence"] == "CC0"
    assert about["groups"]["b"]["train"] == {"documents": 3, "characters": 10, "tokens": 10, "rows": 3}
    assert about["largest"] == 28


def test_the_token_between_documents_may_be_the_unknown_one(texts):
    """So it is in SmolLM2, whose <|endoftext|> is its unknown token too."""
    groups = {"b": TextGroup(("b/*.txt",), separator="<|doc|>")}
    folder = write_rows(Letters(), groups, texts / "rows", 5, base=texts, between="<unknown>")
    assert json.loads((folder / "manifest.json").read_text())["between"] == 0
    assert 0 in TokenRows(folder).rows(slice(None)).tokens


def test_a_share_of_the_documents_is_held_out(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    documents = [a + b for a in letters for b in letters]
    (tmp_path / "all.txt").write_text("\n--\n".join(documents))
    groups = {"all": TextGroup(("all.txt",), held_out=0.25, separator="--")}
    folder = write_rows(Letters(), groups, tmp_path / "rows", 4, base=tmp_path)
    parts = [
        {tuple(row[1:3]) for row in TokenRows(folder, part).rows(slice(None)).tokens.tolist()}
        for part in ("train", "held_out")
    ]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 26 * 26
    assert 0.2 < len(parts[1]) / 26**2 < 0.3


def test_a_source_reads_rows_from_disk(texts):
    groups = {"b": TextGroup(("b/*.txt",), separator="<|doc|>")}
    rows = TokenRows(write_rows(Letters(), groups, texts / "rows", 5, base=texts))
    shape = {"n_layers": 1, "n_heads": 1, "d_model": 8, "d_head": 8, "d_mlp": 8, "n_ctx": 8}
    model = small_model({**shape, "d_vocab": 30}, seed=0)
    in_memory = ModelBatches(model, rows.rows(slice(None)).tokens, 0, batch=7)
    on_disk = ModelBatches(model, rows, 0, batch=7)
    for _ in range(4):
        assert torch.equal(on_disk.next_batch(), in_memory.next_batch())
    with pytest.raises(ValueError, match="holds token 12, outside 0 … 9"):
        ModelBatches(small_model({**shape, "d_vocab": 10}, seed=0), rows, 0)


def test_what_is_missing_is_named(texts, tmp_path):
    with pytest.raises(ValueError, match=r"no file 'c/\*\.txt'"):
        write_rows(Letters(), {"c": TextGroup(("c/*.txt",))}, tmp_path / "rows", 5, base=texts)
    with pytest.raises(ValueError, match="'<stop>', which is not a token"):
        write_rows(Letters(), {"b": TextGroup(("b/*.txt",))}, tmp_path / "rows", 5, base=texts, between="<stop>")
    with pytest.raises(ValueError, match="holds no tokens, or writing them was cut short"):
        TokenRows(tmp_path / "rows")
    folder = write_rows(Letters(), {"b": TextGroup(("b/*.txt",))}, tmp_path / "rows", 5, base=texts)
    with pytest.raises(ValueError, match="no group 'books'; it has b"):
        TokenRows(folder, group="books")
