"""Right answers pass, and wrong ones are refused with the right message. `mi_course.testing` says how to run it."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mi_course import wire
from mi_course.asking import include_all, observe
from mi_course.course import check_exercise
from mi_course.exercises import Exercise
from mi_course.judging import judge
from mi_course.lessons import asking_modules
from mi_course.testing.answers import (
    alternatives,
    equivalent_kinds,
    equivalents,
    exercises,
    namespace,
    reference,
    reference_source,
    stub,
)
from mi_course.testing.checker import Checker, checker
from mi_course.testing.kinds import ACCEPTED, listed, try_kinds
from mi_course.testing.mutants import mutants

SEEDS = (0, 1, 2)

_KINDS: dict[str, Callable[[Exercise], bool]] = {
    "exercise": lambda exercise: True,
    "function": lambda exercise: exercise.kind == "function",
    "mutated": lambda exercise: exercise.kind == "function" and not exercise.outcome,
    "with_fallback": lambda exercise: exercise.kind == "function" and bool(exercise.fallback),
    "with_oracle": lambda exercise: exercise.kind == "function" and exercise.oracle is not None,
    "value": lambda exercise: exercise.kind == "value",
}
"""Argument of a test -> the exercises that it runs with."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    include_all(asking_modules())
    for argument, wanted in _KINDS.items():
        if argument in metafunc.fixturenames:
            chosen = filter(wanted, exercises(*metafunc.config.getoption("--mi-lesson", default=[])))
            metafunc.parametrize(argument, [pytest.param(exercise, id=exercise.id) for exercise in chosen])


# ---------------------------------------------------------------------------------------------------------------------
# Complete, and right answers pass


def test_it_is_complete(exercise: Exercise) -> None:
    assert isinstance(exercise.hints, tuple)
    assert len(exercise.hints) >= 2
    assert len(exercise.mistakes) >= (1 if exercise.trivial else 4)
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert exercise.task
    assert exercise.reveal
    assert exercise.minutes > 0
    assert exercise.difficulty in (1, 2, 3)
    assert all(isinstance(part.points, int) and part.points > 0 for part in exercise.parts)
    assert len({part.name for part in exercise.parts}) == len(exercise.parts)
    assert len(alternatives(exercise)) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_passes(function: Exercise, seed: int) -> None:
    verdict = checker(function, seed).verdict(reference(function.id))
    assert verdict.passed, verdict.message
    assert verdict.points == function.points


@pytest.mark.parametrize("seed", SEEDS)
def test_the_alternatives_pass(exercise: Exercise, seed: int) -> None:
    for alternative in alternatives(exercise):
        verdict = checker(exercise, seed).verdict(alternative)
        assert verdict.passed, f"{getattr(alternative, '__name__', alternative)}: {verdict.message}"


def test_the_fallback_passes(with_fallback: Exercise) -> None:
    """What `lesson.use` gives instead of the solution's own code."""
    verdict = checker(with_fallback).verdict(pkgutil.resolve_name(with_fallback.fallback))
    assert verdict.passed, verdict.message


def test_the_oracle_passes(with_oracle: Exercise) -> None:
    """This does not prove the oracle right, only tidy and reproducible."""
    assert check_exercise(with_oracle, with_oracle.oracle, size="small").passed


def test_the_stub_is_not_attempted(exercise: Exercise) -> None:
    verdict = check_exercise(exercise, stub(exercise), size="small")
    assert verdict.status == "not_attempted", verdict
    assert verdict.points == 0


# ---------------------------------------------------------------------------------------------------------------------
# Mistakes, guesses and wrong forms are refused


@pytest.mark.parametrize("seed", SEEDS)
def test_each_mistake_is_named(exercise: Exercise, seed: int) -> None:
    this = Checker(exercise, seed)
    for mistake in exercise.mistakes:
        verdict = this.verdict(mistake.implementation)
        assert not verdict.passed, mistake.name
        assert (verdict.mistake, verdict.message) == (mistake.name, mistake.message)
        assert verdict.points < exercise.points, mistake.name


GUESSES: dict[str, Callable[..., Any]] = {
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
def test_a_guess_earns_nothing(function: Exercise, guess: str) -> None:
    verdict = checker(function).verdict(GUESSES[guess], diagnosis_s=0)
    assert not verdict.passed
    assert verdict.points == 0, verdict


VALUES: list[Any] = [
    *(None, 0, 1.5, True, "x", [], [[]], [(0, 0)], {}, torch.zeros(3), torch.zeros(2, 2), [(0.5, 1)], [1, 2]),
    *(object(), {1}, lambda: 3, [(10**30, 1)]),
]


def test_a_guessed_value_earns_nothing(value: Exercise) -> None:
    for guess in VALUES:
        verdict = check_exercise(value, guess, size="small")
        assert verdict.points == 0
        assert "checker itself" not in verdict.message, f"{guess!r}: {verdict.message}"


def _floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _nested(value: Any) -> Any:
    return value.unsqueeze(0) if isinstance(value, torch.Tensor) else [value]


def _text(value: Any) -> Any:
    return str(value)


def _nan(value: Any) -> Any:
    return torch.full_like(value, torch.nan) if _floating(value) else float("nan")


def _other_kind(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bool else value.bool()
    return {"answer": value}


@pytest.mark.parametrize("change", [_nested, _text, _nan, _other_kind])
def test_a_wrong_form_gets_a_clear_message(function: Exercise, change: Callable[[Any], Any]) -> None:
    right = reference(function.id)
    verdict = checker(function).verdict(lambda *args: change(right(*args)))
    assert not verdict.passed
    assert verdict.message


def _in_precision(value: Any, dtype: torch.dtype) -> Any:
    """The value with every floating-point tensor in it in this dtype."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_in_precision(item, dtype) for item in value)
    return value.to(dtype) if _floating(value) else value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_precisions_are_judged_as_such(function: Exercise, dtype: torch.dtype) -> None:
    """Double passes. Half passes if it is exact enough; otherwise the message asks for float32 and names no mistake."""
    right = reference(function.id)
    verdict = checker(function).verdict(lambda *args: _in_precision(right(*args), dtype))
    assert verdict.mistake is None
    if dtype is torch.float64 or verdict.passed:
        assert verdict.passed, verdict.message
    else:
        assert verdict.status == "wrong"
        assert "Return float32" in verdict.message, verdict.message


FORMS: dict[str, Callable[[Any], Any]] = {
    "a tensor for a number": lambda v: torch.tensor(v) if type(v) in (int, float) else v,
    "a number for a tensor": lambda v: v.item() if isinstance(v, torch.Tensor) and not v.ndim else v,
    "a tuple for a list": lambda v: tuple(v) if type(v) is list else list(v) if type(v) is tuple else v,
    "a list for a tensor": lambda v: v.tolist() if isinstance(v, torch.Tensor) else v,
    "without a gradient": lambda v: v.detach() if isinstance(v, torch.Tensor) else v,
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_the_same_value_pass(function: Exercise, form: str) -> None:
    """A gradient matters where the statement asks for one, and a hook returns a tensor."""
    right, this = reference(function.id), checker(function)
    drivers = {call.driver for ask in this.plan.asks for call in ask.calls}
    if function.outcome or ("list for" in form and drivers & {"hook", "hook_factory"}):
        return
    if "gradients" in drivers and form != "a tuple for a list":
        return
    verdict = this.verdict(lambda *args: FORMS[form](right(*args)), diagnosis_s=0)
    assert verdict.passed, verdict.message


# ---------------------------------------------------------------------------------------------------------------------
# The same verdict, wherever and whenever


def test_the_same_answer_gets_the_same_words(function: Exercise) -> None:
    wrong = function.mistakes[0].implementation
    assert check_exercise(function, wrong, size="small") == check_exercise(function, wrong, size="small")


def test_the_verdict_is_the_same_through_the_wire(function: Exercise) -> None:
    """As in the grader: Asks and Observations cross as bytes."""
    size = "small" if function.outcome else "full"
    for answer in (reference(function.id), function.mistakes[-1].implementation):
        plan = function.plan(5, size)
        asks = [wire.decode(wire.encode(ask)) for ask in plan.asks]
        observations = [wire.decode(wire.encode(observe(answer, ask))) for ask in asks]
        far = judge(plan, observations, ask=observe)
        near = check_exercise(function, answer, seed=5, size=size)
        assert replace(far, printed="") == replace(near, printed="")


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers that nobody foresaw


@pytest.mark.slow
def test_mutants_are_refused(mutated: Exercise) -> None:
    """All but those that are listed as right, each of which must still exist and pass."""
    known = equivalents(mutated)
    this = Checker(mutated, size="full")
    assert this.verdict(reference(mutated.id)).passed  # and imports, without a mutant's time limit, what it uses
    passed = set()
    for mutant in mutants(reference_source(mutated.lesson)[mutated.name], mutated.name):
        if this.passes(namespace(mutated.lesson, {mutated.name: mutant.source})[mutated.name]):
            passed.add(mutant.change)
    new, gone = sorted(passed - set(known)), sorted(set(known) - passed)
    assert not new, f"wrong answers that pass; tighten the cases, or list them in EQUIVALENT with the reason: {new}"
    assert not gone, f"listed in EQUIVALENT, but refused now or no longer a mutant: {gone}"
    assert all(known.values()), "each needs its reason"


def test_kinds_are_refused(function: Exercise, record_property: Callable[[str, object], None]) -> None:
    """`.squeeze()`, floors, sorted indices, caches, unused seeds (`mi_course.testing.kinds`): all but those listed."""
    known = equivalent_kinds(function)
    this = Checker(function, size="small" if function.outcome else "full")
    tried = try_kinds(this, reference(function.id), reference_source(function.lesson)[function.name])
    survivors = {kind.name: kind for kind in tried if kind.survived and not kind.reason}
    named = {name: listed(name, known) for name in survivors}
    record_property("kinds", (function.lesson, len(tried), sum(kind.survived for kind in tried)))
    new = [
        f"{name}: {_HOLES[survivors[name].came_to == ACCEPTED]}" for name, entry in sorted(named.items()) if not entry
    ]
    gone = sorted(set(known) - set(named.values()))
    assert not new, "wrong answers that pass; add a case, or list them in EQUIVALENT_KINDS with the reason:\n" + (
        "\n".join(new)
    )
    assert not gone, f"listed in EQUIVALENT_KINDS, but refused now or no kind: {gone}"
    assert all([*known.values(), *function.fixed.values()]), "each needs its reason"


_HOLES = ("there is no case in which it would matter", "it changes what a case sees, and passes")


def test_parameters_have_the_names_of_the_statement(function: Exercise) -> None:
    """Messages and `Exercise.fixed` name arguments as the learner knows them."""
    assert function.parameters == tuple(inspect.signature(reference(function.id)).parameters)
