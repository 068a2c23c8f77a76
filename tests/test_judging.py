"""Comparing, parts and points, statuses, naming the mistake; and observations that somebody forged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mi_course import judging, wire
from mi_course.asking import observe
from mi_course.exercises import Case, Complaint, Exercise, Mistake, Part, Verdict, case, judge_each
from mi_course.judging import compare, degenerate, judge, same
from mi_course.wire import Ask, Call, Error, Observation, Reply

NAN, INF = math.nan, math.inf
F, D = torch.float32, torch.float64
t = torch.tensor

# ---------------------------------------------------------------------------------------------------------------------
# Comparing


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (1.0, 1.0), (1, 1.0), (1.0, 1), (t(1.0), 1.0), (t([1.0]), 1.0), (1.0, t(1.0)), (t(1), 1), (t(1.0), 1),
        (0.1 + 1e-7, 0.1), (t(0.1, dtype=D), t(0.1)), (t([0.5]).half(), t([0.5])),
        (NAN, NAN), (INF, INF), (-INF, -INF), (True, True), (t(True), True), (None, None), ("a", "a"),
        (t([NAN, INF, 1.0]), t([NAN, INF, 1.0])), ([0.5, 0.25], t([0.5, 0.25])), ([0, 1], t([0.0, 1.0])),
        ([[1, 2]], t([[1, 2]])), ([t(1.0), t(2.0)], t([1.0, 2.0])), ([t([1.0]), t([2.0])], t([1.0, 2.0])),
        ([t([1.0, 2.0])], t([[1.0, 2.0]])), ([], t([])), ([], torch.empty(0, dtype=torch.int64)),
        ([1, 2], (1, 2)), (t([1, 2]), [1, 2]), (t([[1, 2]]), [(1, 2)]), ([(1, t(0.5))], [(1, 0.5)]),
        ({"a": 1.0}, {"a": 1}), (t([1], dtype=torch.int32), t([1])), (2**62, 2**62), (t([2**62]), t([2**62])),
    ],
)  # fmt: skip
def test_what_is_right_in_another_form_passes(seen, expected):
    assert compare(seen, expected) is None
    assert same(seen, expected)


@pytest.mark.parametrize(
    ("seen", "expected", "kind", "words"),
    [
        (0.5, 0.25, "value", "the result is 0.5, expected 0.25"),
        (5.0, INF, "value", "5, expected inf"),
        (INF, 5.0, "value", "inf, expected 5"),
        (-INF, INF, "value", "-inf, expected inf"),
        (5.0, NAN, "value", "expected nan"),
        (NAN, 5.0, "nan", "NaN, expected 5"),
        (0.12345, 0.12348, "value", "0.12345, expected 0.12348"),
        (15001, 15000, "value", "15001, expected 15000"),
        (15001.0, 15000, "value", "15001, expected 15000"),
        (True, 1, "dtype", "expected a number"),
        (1, True, "dtype", "expected True or False"),
        (None, 1.0, "type", "None, expected a single number"),
        ("1", 1, "type", "'1', expected a single number"),
        ([1.0], 1.0, "type", "expected a single number"),
        (t([1.0, 2.0]), 1.0, "shape", "a tensor of shape (2,), expected a single number"),
        (t([1.0, 2.0]), t([[1.0, 2.0]]), "shape", "has shape (2,), expected (1, 2)"),
        (t([1, 2]), t([1.0, 2.0]), "dtype", "whole numbers (int64), expected floating point (float32)"),
        (t([1.0]), t([True]), "dtype", "expected bool"),
        ([1.9, 2.3], t([1, 2]), "dtype", "floating point"),
        ([5, 0], t([True, False]), "dtype", "expected bool"),
        ([True, False], t([1.0, 0.0]), "dtype", "bool"),
        (["a"], t([1.0]), "type", "expected a tensor"),
        ([[1.0], [1.0, 2.0]], t([[1.0], [2.0]]), "type", "expected a tensor"),
        ({}, t([1.0]), "type", "a dict, expected a tensor"),
        (t([[1.0, 2.0], [3.0, 9.0]]), t([[1.0, 2.0], [3.5, 4.0]]), "value", "[1, 1] is 9, expected 4; 2 of 4 values"),
        (t([1.0, NAN]), t([1.0, 2.0]), "nan", "[1] is NaN, expected 2; 1 of 2 values are NaN"),
        (t([1.0, 2.0]), t([1.0, NAN]), "value", "[1] is 2, expected nan"),
        (t([1.0, 2.0]), t([1.0, INF]), "value", "[1] is 2, expected inf"),
        (t([15001]), t([15000]), "value", "[0] is 15001, expected 15000"),
        (t([2**62 + 1]), t([2**62]), "value", str(2**62 + 1)),
        ([1, 2, 3], [1, 2], "shape", "has 3 entries ([1, 2, 3]), expected 2"),
        ([(1, 2)], [(2, 1)], "value", "the result[0][0] is 1, expected 2"),
        (3, [3], "type", "3, expected a list of 1"),
        ({"a": 1}, {"b": 1}, "shape", "a dict with ['a'], expected a dict with ['b']"),
        ({"losses": [1.0]}, {"losses": [2.0]}, "value", "the loss of each step[0] is 1, expected 2"),
        ("a", "b", "value", "'a', expected 'b'"),
        (1, None, "type", "1, expected None"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_what_was_seen_and_where(seen, expected, kind, words):
    complaint = compare(seen, expected)
    assert complaint.kind == kind
    assert words in complaint.message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("expected", [t([0.1, 0.7, 1.3]), t(0.1), 0.1, [t([0.1]), 3], {"a": t([[0.1, 7.3]])}])
def test_half_precision_is_refused_with_what_to_do(dtype, expected):
    def cast(value: Any, off: float = 0.0) -> Any:
        if isinstance(value, (list, dict)):
            return [cast(v, off) for v in value] if isinstance(value, list) else {k: cast(value[k], off) for k in value}
        return (torch.as_tensor(value) + off).to(dtype) if not isinstance(value, int) else value

    complaint = compare(cast(expected), expected)
    assert complaint.kind == "precision"
    assert f"right to half precision: {str(dtype)[6:]} keeps" in complaint.message
    assert "Return float32" in complaint.message
    wrong = compare(cast(expected, off=0.5), expected)
    assert wrong.kind == "value"
    assert compare(cast([1.0, 0.5, 512.0]), [1.0, 0.5, 512.0]) is None, "exact is right in any precision"


numbers = st.floats(width=32) | st.booleans() | st.integers(-9, 9)
full = st.builds(torch.full, st.lists(st.integers(0, 2), max_size=3), numbers)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=4) | full,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(anything, anything)
def test_comparing_never_raises_and_agrees_with_itself(a, b):
    assert compare(a, a) is None
    complaint = compare(a, b)
    assert complaint is None or (complaint.message and complaint.kind in ("value", "shape", "dtype", "nan", "type"))
    degenerate(a)


def test_messages_stay_short():
    wide: Any = 1
    for _ in range(10):
        wide = [wide] * 4
    assert len(compare(wide, [1]).message) < 500
    assert len(compare({f"k{i}": 1 for i in range(5000)}, {"a": 1}).message) < 500
    assert len(compare("x" * 10**6, "y").message) < 200


@pytest.mark.parametrize(
    "value",
    [None, [], (), {}, 0, 0.0, NAN, torch.zeros(3), t([1.0, NAN]), torch.empty(0), [0.0, 0], {"a": torch.zeros(1)}],
)
def test_degenerate(value):
    assert degenerate(value)


@pytest.mark.parametrize(
    "value", [1, -0.5, True, False, "", t([0.0, 1.0]), [0, 1], [(0, 0.5)], {"a": 1.0}, [torch.zeros(1), torch.ones(1)]]
)
def test_not_degenerate(value):
    assert not degenerate(value)


# ---------------------------------------------------------------------------------------------------------------------
# Judging


def exercise(
    *parts: Part, mistakes: tuple[Mistake, ...] = (), oracle: Any = lambda x: 2 * x + 1, **rest: Any
) -> Exercise:
    parts = parts or (
        Part("small", 1, lambda draw, size: [case(draw.number(1, 2), about=f"case {i}") for i in range(2)]),
        Part("large", 2, lambda draw, size: [case(draw.number(50, 90), about="a large one")]),
    )
    return Exercise("lab.f", "Do it.", parts, mistakes, ("h", "h"), "r", 1, 1, oracle=oracle, **rest)


DOUBLE = Mistake("no_one", "Add one.", lambda x: 2 * x)
SQUARE = Mistake("square", "That is the square.", lambda x: x * x)


def check(checked: Exercise, answer: Any) -> Verdict:
    plan = checked.plan(0)
    return judge(plan, [observe(answer, ask) for ask in plan.asks], ask=observe)


def test_points_belong_to_parts():
    verdict = check(exercise(), lambda x: 2 * x + 1)
    assert (verdict.status, verdict.points, verdict.max_points) == ("passed", 3, 3)
    verdict.raise_if_not_passed()
    half = check(exercise(), lambda x: 2 * x + (x < 10))
    assert (half.status, half.points) == ("wrong", 1)
    assert [d.earned for d in half.details] == [1, 0]
    assert "Asked with a large one" in half.message
    assert check(exercise(), lambda x: 2 * x + (x > 10)).points == 2
    with pytest.raises(AssertionError, match=r"lab\.f: wrong"):
        half.raise_if_not_passed()


def stub(x):
    raise NotImplementedError


def half_stub(x):
    if x > 10:
        raise NotImplementedError
    return 2 * x + 1


def half_stub_half_crash(x):
    if x > 10:
        raise NotImplementedError
    raise ValueError("no")


def crashes_late(x):
    return 2 * x + 1 if x < 10 else 1 / 0


@pytest.mark.parametrize(
    ("answer", "status", "points"),
    [
        (stub, "not_attempted", 0),
        (half_stub, "wrong", 1),
        (half_stub_half_crash, "crashed", 0),
        (crashes_late, "crashed", 1),
        (3, "crashed", 0),
        (None, "not_attempted", 0),
    ],
)
def test_statuses(answer, status, points):
    verdict = check(exercise(), answer)
    assert (verdict.status, verdict.points) == (status, points)
    assert verdict.message


def test_a_mistake_is_named_only_if_it_reproduces_everything_that_was_returned():
    named = exercise(mistakes=(SQUARE, DOUBLE))
    assert check(named, lambda x: 2 * x).mistake == "no_one"
    assert check(named, lambda x: 2 * x).message == "Add one."
    assert check(named, lambda x: 2 * x if x < 10 else 3.0).mistake is None
    assert check(named, lambda x: 2 * x if x < 10 else 1 / 0).mistake == "no_one"
    assert check(named, lambda x: 2 * x + 1).mistake is None


def test_half_precision_is_no_mistake():
    near = Mistake("near", "It is off by a thousandth.", lambda x: torch.tensor(2 * x + 1).half().float())
    seen = Mistake("seen", "Recognized by its record.", None, detect=lambda case, observation: True)
    verdict = check(exercise(mistakes=(near, seen)), lambda x: torch.tensor(2 * x + 1).half())
    assert (verdict.status, verdict.points, verdict.mistake) == ("wrong", 0, None)
    assert "Return float32" in verdict.message

    def exactly(case: Case, observation: Observation) -> Complaint | None:
        right = 2 * case.calls[0].args[0] + 1
        return None if abs(float(observation.replies[0].value) - right) < 1e-6 else Complaint("", mistake="near")

    part = Part("judged", 1, lambda draw, size: [case(draw.number(1, 2), judge=exactly)])
    verdict = check(exercise(part, mistakes=(near,)), lambda x: torch.tensor(2 * x + 1).bfloat16())
    assert verdict.mistake is None
    assert verdict.message.startswith("The result is in bfloat16")
    assert check(exercise(part, mistakes=(near,)), lambda x: 2 * x).mistake == "near"


def test_replies_are_judged_one_after_the_other():
    def complaint(value: int, x: int) -> Complaint | None:
        return None if value == 2 * x else Complaint(f"{x}: {value}")

    two = Case(tuple(Call((x, "seed")) for x in (3, 4)), judge=judge_each(complaint, 1))
    assert two.judge
    for factor, message in ((2, None), (3, "3: 9")):
        seen = observe(lambda x, seed, factor=factor: factor * x, Ask(two.calls))
        found = two.judge(two, seen)
        assert (found and found.message) == message
    with pytest.raises(TypeError, match="positional"):
        judge_each(complaint)(two, seen)


def test_ours_is_asked_once_and_only_where_the_verdict_needs_it():
    def asked(answer: Any) -> list[Any]:
        part = Part("all", 1, lambda draw, size: [case(draw.number(1, 2)) for _ in range(4)])
        plan = replace(exercise(part, mistakes=two), fixed={"x": "not varied"}).plan(0)
        ours: list[Any] = []
        observations = [observe(answer, ask) for ask in plan.asks]
        judge(plan, observations, ask=lambda mine, ask: ours.append((mine, ask.id)) or observe(mine, ask))
        assert len(set(ours)) == len(ours)
        return [mine for mine, _ in ours]

    two = (SQUARE, DOUBLE)
    assert len(asked(lambda x: 2 * x + 1)) == 4, "each case is compared"
    wrong = asked(lambda x: x - 7)
    assert len(wrong) == 3, "the part is lost in its first case, and each mistake differs there"
    assert len(asked(lambda x: 2 * x)) == 1 + 1 + 4, "a mistake that explains one case is asked about all"


def test_degenerate_values_get_no_name():
    zero, nan = Mistake("zero", "Zero.", lambda x: 0.0), Mistake("nan", "NaN.", lambda x: NAN)
    assert check(exercise(mistakes=(zero, nan)), lambda x: 0.0).mistake is None
    assert check(exercise(mistakes=(zero, nan)), lambda x: NAN).mistake is None
    assert check(exercise(mistakes=(replace(zero, degenerate=True),)), lambda x: 0.0).mistake == "zero"


def test_a_wrong_value_of_a_value_exercise_is_named():
    part = Part("it", 1, lambda draw, size: [case(driver="value", truth=[[1, 2]], judge_data=[5, 6])])
    mistakes = (
        Mistake("turned", "Turn it.", [2, 1]),
        Mistake("secret", "From the case.", lambda case: case.judge_data),
    )
    value = exercise(part, mistakes=mistakes, oracle=None, kind="value")
    assert [check(value, v).mistake for v in ([2, 1], [5, 6], [9, 9])] == ["turned", "secret", None]
    assert check(value, [1, 2]).passed


def test_diagnosis_has_a_budget():
    slow = [Mistake(f"slow{i}", "Slow.", lambda x: sum(range(3_000_000)) and 3 * x) for i in range(50)]
    plan = exercise(mistakes=(*slow, DOUBLE)).plan(0)
    asked = []
    seen = [observe(lambda x: 2 * x, ask) for ask in plan.asks]
    verdict = judge(plan, seen, ask=lambda *a: asked.append(1) or observe(*a), diagnosis_s=0.1)
    assert verdict.status == "wrong"
    assert verdict.mistake is None
    assert len(asked) < 30


# ---------------------------------------------------------------------------------------------------------------------
# Tidiness


def watched(*names: str, driver: str = "call") -> Exercise:
    return exercise(
        Part("p", 2, lambda draw, size: [case(draw.normal(3), driver=driver, watch=names)]), mistakes=(DOUBLE,)
    )


def test_tidiness_deducts_and_never_earns():
    def untidy(x):
        result = 2 * x + 1
        x.zero_()
        return result

    verdict = check(watched("arguments"), untidy)
    assert (verdict.status, verdict.points, verdict.mistake) == ("wrong", 0, None)
    assert "`x` was changed" in verdict.message
    assert check(watched("arguments"), lambda x: 2 * x).points == 0
    assert check(watched("random_state"), lambda x: 2 * x + 1 + 0 * torch.rand(())).points == 0
    assert check(watched("arguments", "random_state"), lambda x: 2 * x + 1).points == 2


FORGED_WATCHES = [
    {"arguments": 5}, {"arguments": [5]}, {"arguments": "[0]"}, {"random_state": 3}, {"random_state": {"torch": []}},
    {"model": 1}, {"model": [1]}, {"model": [{}]}, {"model": [{"hooks": 3}]}, {"model": [{"hooks": [0, "x"]}]},
    {"model": [{"hooks": [0, 0], "logits": 1}]}, {"hooks": [None]}, {"calls": 5}, {"calls": [["x"]]},
    {"arguments": None},
    {"model": [{"hooks": [0, 0], "logits": [torch.zeros(2), None]}]},
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED_WATCHES, ids=str)
def test_forged_watches_earn_nothing_and_break_nothing(forged):
    plan = watched("arguments").plan(0)
    for right in (True, False):
        value = [2 * ask.calls[0].args[0] + right for ask in plan.asks]
        seen = [
            Observation(a.id, (Reply("returned", v, watched=forged),)) for a, v in zip(plan.asks, value, strict=True)
        ]
        assert judge(plan, seen, ask=observe).points in ((0, 2) if right else (0,))


# ---------------------------------------------------------------------------------------------------------------------
# Forged, doubled, missing observations


def test_the_first_reply_counts_and_replies_to_other_asks_do_not():
    plan = exercise().plan(0)
    right = [observe(lambda x: 2 * x + 1, ask) for ask in plan.asks]
    wrong = [observe(lambda x: x, ask) for ask in plan.asks]
    assert judge(plan, right + wrong, ask=observe).passed
    assert judge(plan, wrong + right, ask=observe).points == 0
    assert judge(plan, right[::-1], ask=observe).passed
    assert judge(plan, [replace(r, ask="other") for r in right], ask=observe).status == "crashed"
    assert judge(plan, right[:1], ask=observe).status == "crashed"
    assert judge(plan, right[2:], ask=observe).points == 2
    assert judge(plan, [], ask=observe).points == 0
    assert judge(plan, [5, None, "x", *right], ask=observe).passed
    same_answer = [replace(right[0], ask=ask.id) for ask in plan.asks]
    assert judge(plan, same_answer, ask=observe).points == 0


def test_too_many_and_too_few_replies():
    calls = (Call((1.0,)), Call((2.0,)))
    plan = exercise(Part("p", 1, lambda draw, size: [Case(calls=calls)]), mistakes=(SQUARE,)).plan(0)
    (ask,) = plan.asks
    good = [Reply("returned", 3.0), Reply("returned", 5.0)]
    for replies, points in ((good, 1), (good[:1], 0), (good[::-1], 0), ([], 0), ([*good, Reply("raised")], 1)):
        assert judge(plan, [Observation(ask.id, tuple(replies))], ask=observe).points == points


VALUES = [
    None,
    True,
    5,
    2**62,
    NAN,
    "x" * 100_000,
    [],
    [[[[]]]],
    {},
    {"raised": 5},
    {"raised": ["ValueError"]},
    torch.zeros(0),
    torch.zeros(3, 3),
    t(True),
]


@pytest.mark.parametrize("driver", ["call", "hook", "expects_error", "gradients"])
@pytest.mark.parametrize("value", VALUES, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("judged", [False, True])
def test_forged_values_earn_nothing_and_break_nothing(driver, value, judged):
    truth = {"raised": ["OSError"], "message": "", "returned": None} if driver == "expects_error" else {"a": 1.5}

    def by_properties(case: Case, observation: Observation) -> Complaint | None:
        return None if observation.replies[0].value.get("k") == 1.5 else Complaint("no")

    made = Case((Call((), driver),), truth=[truth], judge=by_properties if judged else None)
    strange = Mistake("strange", "m", None, lambda case, observation: observation.replies[0].value[3].x)
    plan = exercise(Part("p", 1, lambda draw, size: [made]), mistakes=(SQUARE, strange)).plan(0)
    verdict = judge(plan, [Observation(plan.asks[0].id, (Reply("returned", value),), "p" * 10**6)], ask=observe)
    assert (verdict.status, verdict.points) == ("wrong", 0)
    assert len(verdict.message) <= 4000
    assert len(verdict.printed) <= 4000


@pytest.mark.parametrize("status", sorted(wire.REPLY_STATUSES))
@pytest.mark.parametrize("error", [None, Error("", (), ""), Error("E" * 9999, ("E",) * 9999, "m" * 10**6, "w" * 10**6)])
def test_every_reply_becomes_a_verdict(status, error):
    plan = exercise(mistakes=(DOUBLE,)).plan(0)
    verdict = judge(plan, [Observation(a.id, (Reply(status, None, error),)) for a in plan.asks], ask=observe)
    assert verdict.status in ("wrong", "crashed", "timed_out", "not_attempted")
    assert verdict.points == 0
    assert all(len(text) <= 4000 for text in (verdict.message, *(d.message for d in verdict.details)))


def test_a_fault_of_the_spec_is_not_the_learners():
    plan = exercise(oracle=stub).plan(0)
    with pytest.raises(RuntimeError, match="the oracle itself came to not_attempted"):
        judge(plan, [observe(lambda x: x, ask) for ask in plan.asks], ask=observe)


def test_only_our_code_is_run_by_judging():
    plan = exercise(mistakes=(SQUARE, DOUBLE)).plan(0)
    seen = [observe(lambda x: 2 * x, ask) for ask in plan.asks]
    ran: list[Any] = []

    def asker(answer: Any, ask: Ask) -> Observation:
        ran.append(answer)
        return observe(answer, ask)

    judge(plan, seen, ask=asker)
    ours = [plan.exercise.oracle, *(m.implementation for m in plan.exercise.mistakes)]
    assert all(any(answer is mine for mine in ours) for answer in ran)
    assert judging.DIAGNOSIS_S <= 5
