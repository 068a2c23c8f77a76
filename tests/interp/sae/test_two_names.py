"""Names of a latent from two kinds of text."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.sae.two_names import two_names

N, POS = 60, 12
KINDS = ["books" if i < N // 2 else "code" for i in range(N)]


def _words(shared, books, code):
    """The first token of a passage is one of the words of its kind or of both; the rest is filler."""
    rows = []
    for i in range(N):
        own = shared + (books if KINDS[i] == "books" else code)
        rows.append([f" {own[i % len(own)].title()}"] + [f" filler{(i * POS + j) % 97}" for j in range(1, POS)])
    return rows


def _peaks():
    f = torch.zeros(N, POS)
    f[:, 0] = torch.rand(N, generator=torch.Generator().manual_seed(1)) + 0.5
    return f


def test_one_name_for_both_kinds():
    found = two_names(_peaks(), _words(["ship", "boat"], [], []), KINDS, n=20)
    assert {*found.names["books"]} == {*found.names["code"]} == {"ship", "boat"}
    assert found.between == found.within == 1.0
    assert found.absent == found.absent_by_chance == 0.0


def test_two_names_where_vocabularies_differ():
    found = two_names(_peaks(), _words([], ["ship", "boat"], ["float", "int"]), KINDS, n=20)
    assert {*found.names["books"]} == {"ship", "boat"}
    assert found.between == 0.0
    assert found.within == 1.0
    assert found.absent == 1.0
    assert 0 < found.absent_by_chance < 0.5


def test_what_is_never_active_has_no_name():
    found = two_names(torch.zeros(N, POS), _words(["ship"], [], []), KINDS)
    assert found.names == {"books": [], "code": []}
    assert found.absent == 0.0


def test_names_start_with_the_strongest():
    f = torch.zeros(2, 3)
    f[0] = torch.tensor([0.0, 1.0, 2.0])
    f[1, 1] = 0.5
    found = two_names(f, [[" a", " b", " c"], [" d", " e", " f"]], ["x", "y"], n=5, splits=1)
    assert found.names == {"x": ["c", "b"], "y": ["e"]}


def test_another_number_of_kinds_is_refused():
    with pytest.raises(ValueError, match="1 kinds of text"):
        two_names(torch.zeros(1, 2), [["a", "b"]], ["books"])
