"""The machinery that makes wrong answers of some kinds, on answers that are known to be right or wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mi_course import wire
from mi_course.exercises import Complaint, Exercise, Mistake, Part, case
from mi_course.testing.checker import Checker
from mi_course.testing.kinds import ACCEPTED, HARMLESS, REFUSED, UNSEEN, listed, try_kinds
from mi_course.variations import vary
from mi_course.wire import Call


def _mean(x: Tensor, k: int) -> Tensor:
    """Oracle."""
    return torch.stack([row.sum() / x.shape[-1] for row in x]) + k


def _exercise(*cases: Any, oracle: Any = _mean, fixed: dict[str, str] | None = None) -> Exercise:
    return Exercise(
        id="numbers.mean",
        task="The mean of each row, plus k.",
        parts=(Part("one", 1, lambda draw, size: list(cases)),),
        mistakes=(Mistake("zero", "zero", lambda x, k: torch.zeros(len(x))),),
        hints=("one", "two"),
        reveal="because",
        minutes=1,
        difficulty=1,
        oracle=oracle,
        fixed=fixed or {},
    )


def _came_to(exercise: Exercise, answer: Any = None) -> dict[str, str]:
    tried = try_kinds(Checker(exercise), answer or (lambda x, k: x.mean(-1) + k), "x.mean(-1).topk(1)")
    return {kind.name: kind.came_to for kind in tried}


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_cases_that_every_exercise_gets_show_most_kinds():
    came_to = _came_to(_exercise(case(X, 3)))
    for name in (
        "squeeze(0) on `x`",
        "squeeze() on the result",
        "abs on `x`",
        "short vectors of `x` made zero",
        "large entries of `x` cut off",
        "rows of zeros left out of `x`",
        "a cache that forgets `x`",
        "a cache that forgets `k`",
        "a cache by shape alone",
        "`x` changed in place",
    ):
        assert came_to[name] == REFUSED, name


def test_what_cannot_vary_leaves_its_kinds_unseen():
    fixed = {"x": "probabilities", "x[0]": "three of them", "k": "always three"}
    came_to = _came_to(_exercise(case(X, 3), fixed=fixed))
    for name in ("squeeze(0) on `x`", "short vectors of `x` made zero", "a cache that forgets `k`"):
        assert came_to[name] == UNSEEN, name
    tried = try_kinds(Checker(_exercise(case(X, 3), fixed=fixed)), lambda x, k: x.mean(-1) + k)
    reasons = {kind.name: kind.reason for kind in tried}
    assert reasons["squeeze(0) on `x`"] == "three of them"
    assert reasons["short vectors of `x` made zero"] == "probabilities"
    assert reasons["a cache that forgets `k`"] == "always three"
    assert reasons["a cache by shape alone"] is None


def test_a_kind_that_gives_the_same_everywhere_is_harmless():
    sums = lambda x, k: x.sum()  # noqa: E731
    assert _came_to(_exercise(case(X[:1], 3), oracle=sums), sums)["squeeze(0) on `x`"] == HARMLESS


def test_a_case_that_judges_too_little_is_noticed():
    lenient = case(X, 3, judge=lambda case, observation: None)
    assert _came_to(_exercise(lenient, oracle=None))["the result rounded"] == ACCEPTED


def test_ties_are_asked_for_where_the_answer_ranks():
    assert _came_to(_exercise(case(X, 3)))["equal entries of `x` counted once"] == REFUSED  # the row of zeros
    assert _came_to(_exercise(case(X, 3), fixed={"x=0": "no"}))["equal entries of `x` counted once"] == UNSEEN


@pytest.mark.parametrize("same_seed_twice", [True, False])
def test_a_fresh_seed_needs_the_same_seed_twice(same_seed_twice):
    def answer(n: int, seed: int) -> Tensor:
        return torch.rand(n, generator=torch.Generator().manual_seed(seed))

    def judge(case: Any, observation: Any) -> Any:
        first, second = (reply.value for reply in observation.replies)
        return None if torch.equal(first, second) or not same_seed_twice else Complaint("differs")

    calls = tuple(Call((3, 5), "call") for _ in range(2))
    exercise = _exercise(replace(case(3, 5), calls=calls, judge=judge), oracle=None)
    exercise = replace(exercise, mistakes=(Mistake("zero", "zero", lambda n, seed: torch.zeros(n)),))
    assert _came_to(exercise, answer)["a fresh seed"] == (REFUSED if same_seed_twice else ACCEPTED)


def test_a_call_is_varied_in_one_respect_at_a_time():
    call = Call((X, torch.arange(4), 3, 0.5), "call")
    varied = dict(vary(call, ("x", "tokens", "k", "p"), ()))
    assert list(varied) == [
        "short vectors in `x`",
        "long vectors in `x`",
        "zeros in `x[0]`",
        "another `tokens`",
        "`k` = 2",
        "`p` = 0.375",
        "only one along `x[0]`",
        "only one along `x[1]`, `tokens[0]`",
    ]
    one = varied["only one along `x[1]`, `tokens[0]`"]
    assert [tuple(arg.shape) for arg in one.args[:2]] == [(3, 1), (1,)]
    assert torch.equal(one.args[0], X[:, :1])
    for words, other in varied.items():
        changed = [wire.encode(new) != wire.encode(old) for new, old in zip(other.args, call.args, strict=True)]
        assert sum(changed) == (2 if "only one along `x[1]`" in words else 1)


def test_lists_of_equivalents_may_use_a_star():
    assert listed("squeeze(0) on `x`", ["* on `x`"]) == "* on `x`"
    assert listed("squeeze(0) on `x`", ["squeeze(1) on `x`"]) is None
