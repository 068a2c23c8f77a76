"""Every exercise of every lesson: what must pass passes, and what must not is refused in the right words."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from answers import SEEDS, alternatives, as_answer, every_exercise, functions, reference, stub

from mi_course import wire
from mi_course.asking import observe
from mi_course.course import check_exercise
from mi_course.exercises import Exercise, Verdict
from mi_course.judging import judge

EVERY = [pytest.param(exercise, id=exercise.id) for exercise in every_exercise()]
FUNCTIONS = [pytest.param(exercise, id=exercise.id) for exercise in functions()]
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{exercise.id}-{mistake.name}")
    for exercise in every_exercise()
    for mistake in exercise.mistakes
]


def check(exercise: Exercise, thing: object, seed: int = 0) -> Verdict:
    case = exercise.plan(seed, "small").cases[0].case
    return check_exercise(exercise, as_answer(exercise, thing, case), seed=seed, size="small")


@pytest.mark.parametrize("exercise", EVERY)
def test_it_is_complete(exercise):
    assert len(exercise.hints) >= 2
    assert len(exercise.mistakes) >= (1 if exercise.trivial else 4)
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert exercise.task
    assert exercise.reveal
    assert exercise.fallback
    assert exercise.minutes > 0
    assert exercise.difficulty in (1, 2, 3)
    assert all(isinstance(part.points, int) and part.points > 0 for part in exercise.parts)
    assert len({part.name for part in exercise.parts}) == len(exercise.parts)
    assert len(alternatives(exercise)) >= 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_the_reference_passes(exercise, seed):
    verdict = check(exercise, reference(exercise.id), seed)
    assert verdict.passed, verdict.message
    assert verdict.points == exercise.points


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exercise", EVERY)
def test_other_right_answers_pass(exercise, seed):
    for alternative in alternatives(exercise):
        verdict = check(exercise, alternative, seed)
        assert verdict.passed, f"{alternative.__name__}: {verdict.message}"


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_the_courses_own_passes(exercise):
    module, _, name = exercise.fallback.partition(":")
    verdict = check(exercise, getattr(importlib.import_module(module), name))
    assert verdict.passed, verdict.message


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_the_spec_passes_itself(exercise):
    """Not a proof of the spec, but of its tidiness and determinism."""
    if exercise.oracle is not None:
        assert check(exercise, exercise.oracle).passed


@pytest.mark.parametrize("exercise", EVERY)
def test_the_stub_is_not_attempted(exercise):
    verdict = check_exercise(exercise, stub(exercise), size="small")
    assert verdict.status == "not_attempted", verdict
    assert verdict.points == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_the_mistake_is_named(exercise, mistake, seed):
    verdict = check(exercise, mistake.implementation, seed)
    assert not verdict.passed
    assert verdict.mistake == mistake.name, f"{verdict.mistake}: {verdict.message}"
    assert verdict.message == mistake.message
    assert verdict.points < exercise.points


GUESSES = {
    "none": lambda *args: None,
    "zero": lambda *args: 0,
    "one": lambda *args: 1,
    "minus_one": lambda *args: -1.0,
    "half": lambda *args: 0.5,
    "true": lambda *args: True,
    "empty_list": lambda *args: [],
    "empty_dict": lambda *args: {},
    "text": lambda *args: "seven",
    "first_argument": lambda *args: args[0],
    "last_argument": lambda *args: args[-1],
    "zeros": lambda *args: torch.zeros_like(args[0]) if isinstance(args[0], torch.Tensor) else torch.zeros(3),
    "ones": lambda *args: torch.ones_like(args[0]) if isinstance(args[0], torch.Tensor) else torch.ones(3),
    "zeros_per_row": lambda *args: torch.zeros(len(args[0])) if isinstance(args[0], torch.Tensor) else 0.0,
    "noise": lambda *args: torch.randn(3, 4),
    "an_inert_hook": lambda *args: lambda activation, hook: None,
    "always_raises": lambda *args: (_ for _ in ()).throw(ValueError("no")),
    "exits": lambda *args: (_ for _ in ()).throw(SystemExit(0)),
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_a_guess_earns_nothing(exercise, guess):
    verdict = check(exercise, GUESSES[guess])
    assert not verdict.passed
    assert verdict.points == 0, verdict


VALUES = [
    None,
    0,
    1.5,
    True,
    "x",
    [],
    [[]],
    [(0, 0)],
    {},
    torch.zeros(3),
    torch.zeros(2, 2),
    [(0.5, 1)],
    [1, 2],
    object(),
    {1},
    lambda: 3,
    [(10**30, 1)],
]


@pytest.mark.parametrize("exercise", [p for p in EVERY if p.values[0].kind == "value"])
def test_a_guessed_value_earns_nothing(exercise):
    for value in VALUES:
        verdict = check_exercise(exercise, value, size="small")
        assert verdict.points == 0
        assert "checker itself" not in verdict.message, f"{value!r}: {verdict.message}"


def _reshaped(value):
    return value.unsqueeze(0) if isinstance(value, torch.Tensor) else [value]


def _as_text(value):
    return str(value)


def _as_nan(value):
    return (
        torch.full_like(value, torch.nan)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else float("nan")
    )


def _as_bool(value):
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bool else value.bool()
    return {"answer": value}


@pytest.mark.parametrize("change", [_reshaped, _as_text, _as_nan, _as_bool])
@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_a_wrong_form_gets_a_clear_message(exercise, change):
    right = reference(exercise.id)
    verdict = check(exercise, lambda *args: change(right(*args)))
    assert not verdict.passed
    assert verdict.message
    assert "checker itself" not in verdict.message, verdict.message


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_half_precision_results_are_judged_not_crashed(exercise):
    right = reference(exercise.id)

    def in_double(*args):
        value = right(*args)
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    assert check(exercise, in_double).passed


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_the_same_answer_gets_the_same_words(exercise):
    wrong = exercise.mistakes[0].implementation
    assert check(exercise, wrong) == check(exercise, wrong)


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_the_verdict_is_the_same_through_the_wire(exercise):
    """As in the grader: what is asked and what is seen cross as bytes."""
    size = "small" if exercise.outcome else "full"
    for answer in (reference(exercise.id), exercise.mistakes[-1].implementation):
        plan = exercise.plan(5, size)
        asks = [wire.decode(wire.encode(ask)) for ask in plan.asks]
        seen = [wire.decode(wire.encode(observe(answer, ask))) for ask in asks]
        far = judge(plan, seen, ask=observe)
        near = check_exercise(exercise, answer, seed=5, size=size)
        assert replace(far, printed="") == replace(near, printed="")
