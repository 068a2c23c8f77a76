"""The parts of lessons 02 and 03 that are given: how heads are listed, and what is added up."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp import heads, induction_study, ioi_study
from mi_course.interp.induction import induction_score
from mi_course.testing.answers import reference


def test_heads_are_listed_by_value_or_by_size():
    values = torch.tensor([[0.1, -0.9], [0.5, 0.0]])
    assert heads.ranking(values) == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert heads.strongest(values, 2) == [(0, 1), (1, 0)]


def test_prompts_of_even_number_name_the_indirect_object_first():
    values = torch.tensor([[1.0, 10.0, 3.0, 30.0], [0.0, 0.0, 2.0, 2.0]])
    assert ioi_study.by_order(values).tolist() == [[11.0, 1.0], [2.0, 1.0], [20.0, 1.0]]


def test_the_parts_of_a_repair_add_up():
    changes = torch.arange(7.0)  # two layers of two heads, two MLPs, the embedding
    repair = ioi_study.repair_of_parts(changes, 0.5, (1, 0), n_heads=2)
    assert (repair["own"], repair["heads"], repair["MLPs"], repair["norm"]) == (2.0, 4.0, 15.0, 0.5)
    assert repair["who"].tolist() == [[0.0, 1.0], [0.0, 3.0]]


def test_a_right_sweep_agrees_with_the_engine_and_a_wrong_one_does_not():
    sweep = reference("activation_patching.residual_sweep")
    assert ioi_study.against_engine(sweep) < 1e-3
    assert ioi_study.against_engine(lambda *arguments: sweep(*arguments).flip(0)) > 0.01


def test_a_circuit_is_drawn_with_the_paths_between_its_heads_only():
    copying = {(1, 0): [0.0, 0.9], (2, 1): [0.9, 0.0], (0, 2): [0.0, 0.0], (2, 2): [0.0, 0.0]}
    straight = {(1, 0): 0.6, (2, 1): 0.2, (0, 2): 0.0, (2, 2): -0.1}
    edges = [((0, 2), (1, 0), 0.3), ((0, 9), (1, 0), 0.5)]
    text = ioi_study.draw_circuit(list(copying), copying, straight, edges, n_layers=3, title="t").text
    assert "4 edges" in text
    for words in ("1.0 (suppresses names)", "2.1 (moves the name", "0.2 (acts through", "2.2 (lowers the answer)"):
        assert words in text


def test_ranks_and_random_sets():
    table = {(0, 0): 0.1, (0, 1): 0.7, (1, 0): 0.3}
    assert [induction_study.rank(head, table) for head in table] == [3, 1, 2]
    sets = induction_study.random_sets([(0, 0)], (1, 3), range(2), n_layers=2, n_heads=3)
    assert {count: [len(some) for some in of_count] for count, of_count in sets.items()} == {1: [1, 1], 3: [3, 3]}
    assert all((0, 0) not in some for of_count in sets.values() for some in of_count)


def test_the_surprise_at_the_start_of_the_second_copy_counts_with_the_first():
    loss = torch.tensor([[6.0, 6.0, 6.0, 2.0]]).repeat(3, 1)  # BOS and two copies of two tokens
    assert induction_study.by_copy(loss, 2) == (6.0, 2.0)


@pytest.mark.parametrize("period", [2, 3])
def test_the_ideal_pattern_is_one_of_an_induction_head(period):
    picture = induction_study.draw_ideal(["BOS", *"abc"[:period], *"abc"[:period]], period)
    (cells,) = [mark for mark in picture.chart.marks if hasattr(mark, "table")]
    pattern = torch.tensor(cells.table)[None]
    assert induction_score(pattern, period) == 1
    assert pattern.sum(-1).eq(1).all()
