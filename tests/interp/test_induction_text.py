"""Induction in real text: scores against loops, and what the stories and lists are made of."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import circuits, induction, induction_text, induction_training
from mi_course.interp.models.small import small_model

GROUPED = {
    "n_layers": 3,
    "n_heads": 4,
    "n_key_value_heads": 2,
    "d_model": 20,
    "d_head": 6,
    "d_vocab": 23,
    "n_ctx": 32,
    "attn_only": True,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMSPRE",
}


class Tokenizer:
    """One token for each word with its space, as many as there are letters for a name."""

    bos_token_id = 0

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        words = [f" {word}" for word in text.split()] if text.strip() else [text]
        return [self.ids.setdefault(word, len(self.ids) + 1) for word in words]


class Model:
    def __init__(self) -> None:
        self.tokenizer = Tokenizer()

    def to_tokens(self, text: str) -> torch.Tensor:
        return torch.tensor([[0, *self.tokenizer.encode(text.replace(".", " .").replace(",", " ,"))]])


def test_text_induction_score_by_a_loop():
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 9, 16):
        tokens = torch.randint(0, 4, (length,), generator=generator)
        pattern = torch.rand(3, length, length, generator=generator)
        want, queries = torch.zeros(3), 0
        for q in range(length):
            earlier = [j for j in range(q) if tokens[j] == tokens[q]]
            queries += bool(earlier)
            want += sum((pattern[:, q, j + 1] for j in earlier), torch.zeros(3))
        assert torch.allclose(induction.text_induction_score(pattern, tokens), want / max(queries, 1))


def test_scores_without_heads_leave_no_hook():
    model = small_model(GROUPED, seed=1)
    tokens = induction.repeated_tokens(2, 5, 1, 23, 0, 0)
    whole = induction.head_scores(model, tokens, 5)
    without = induction.scores_without_heads(model, tokens, 5, [(0, 1), (1, 2)])
    assert torch.allclose(without[0], whole[0])
    assert not torch.allclose(without[1:], whole[1:])
    assert torch.equal(induction.head_scores(model, tokens, 5), whole)


def test_composition_table_of_keys_queries_and_values():
    model = small_model(GROUPED, seed=2)
    reader = (2, 3)
    tables = {part: circuits.composition_table(model, reader, part) for part in "qkv"}
    keys = circuits.k_composition_scores(model, reader)
    for (layer, head), value in tables["k"].items():
        assert value == pytest.approx(float(keys[layer, head]), abs=1e-5)
    writes = circuits.ov_circuit(model, 0, 1)
    reads = circuits.qk_circuit(model, *reader), circuits.ov_circuit(model, *reader)
    for part, W in zip("qv", reads, strict=True):
        assert tables[part][0, 1] == pytest.approx(circuits.composition_score(writes, W))
    with pytest.raises(ValueError, match="part is 'o'"):
        circuits.composition_table(model, reader, "o")
    chance = circuits.random_compositions(model, count=5)
    assert len(chance) == 5
    assert chance == circuits.random_compositions(model, count=5)


def test_recorded_growth_and_the_circuit_it_ends_in():
    runs = induction_training.recorded_growth()
    assert runs["tiny-one-layer"].induction_at is None
    assert runs["tiny-induction"].induction_at in runs["tiny-induction"].steps


@pytest.mark.parametrize("story", induction_text.STORIES, ids=lambda story: story.name)
def test_each_story_says_its_name_three_times(story):
    tokens, places = induction_text.occurrences(Model(), story)
    assert len(places) == 3
    first, *later = [tokens[0, list(place)].tolist() for place in places]
    assert len(first) == 2
    assert all(first == other for other in later)


def test_related_lists_and_their_control():
    model = Model()
    related, control = induction_text.related_lists(model, " {}s".format, count=7, batch=3)
    words = {number: word for word, number in model.tokenizer.ids.items()}
    assert related.shape == control.shape == (3, 15)
    for row, other in zip(related.tolist(), control.tolist(), strict=True):
        assert [words[token] + "s" for token in row[1:8]] == [words[token] for token in row[8:]]
        assert row[:8] == other[:8]
        assert sorted(row[8:]) == sorted(other[8:])
        assert row[8:] != other[8:]
    with pytest.raises(ValueError, match="0 nouns are one token"):
        induction_text.related_lists(model, lambda noun: f" {noun} {noun}")


def test_examples_ask_for_the_color_of_the_same_noun():
    model = Model()
    tokens, entries = induction_text.examples(model, str.upper, count=6, batch=2)
    words = {number: word.strip() for word, number in model.tokenizer.ids.items()}
    for row in tokens.tolist():
        said = [words[token] for token in row[1:]]
        colors = {noun.upper(): color for noun, color in zip(said[0:18:3], said[1:18:3], strict=True)}
        for entry in entries:  # entry i is the loss of token i + 1
            assert words[row[entry + 1]] == colors[words[row[entry]]]


def test_name_losses_are_those_of_the_tokens_that_complete_it():
    def loss(model, tokens, heads):
        return torch.arange(1.0, tokens.shape[1])[None]  # each token's position

    model = Model()
    once, again, _ = induction_text.name_losses(model, loss, [])
    places = [induction_text.occurrences(model, story)[1] for story in induction_text.STORIES]
    assert once == pytest.approx(sum(first[1] for first, *_ in places) / 3)
    assert again == pytest.approx(sum(place[1] for _, *later in places for place in later) / 6)
