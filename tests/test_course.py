"""The lesson in a notebook: what `check` says, records and tells; and that no answer, disk or listener breaks it."""

from __future__ import annotations

import base64
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_plugin import plugin as plugin

import mi_course
from mi_course import content, course, lessons, wire
from mi_course.asking import limits, observe
from mi_course.content import ANSWER_BYTES, ANSWER_MIME
from mi_course.course import Card, ExerciseHandle, Lesson, check_exercise, guard, subscribe
from mi_course.errors import CourseError
from mi_course.exercises import Exercise, LessonSpec, Mistake, Part, Verdict, case
from mi_course.progress import Progress

# ---------------------------------------------------------------------------------------------------------------------
# A lesson of three exercises, and answers to it


def twice(x: float) -> float:
    return 2 * x


SPEC = LessonSpec(
    "lab",
    77,
    "Laboratory",
    5,
    (
        Exercise(
            "lab.double",
            "Double it.",
            (Part("small", 1, lambda draw, size: [case(draw.number(1, 2)) for _ in range(3)]),),
            (Mistake("square", "That is the square.", lambda x: x * x),),
            ("first hint", "second hint"),
            "Twice.",
            1,
            1,
            oracle=twice,
            fallback="math:fabs",
        ),
        Exercise(
            "lab.shift",
            "Add one to a tensor.",
            (Part("one", 2, lambda draw, size: [case(draw.normal(3), watch=("arguments", "random_state"))]),),
            (),
            ("h", "i"),
            "Plus one.",
            1,
            1,
            oracle=lambda x: x + 1,
        ),
        Exercise(
            "lab.my_list",
            "A list.",
            (Part("it", 1, lambda draw, size: [case(driver="value", truth=[[1, 2]])]),),
            (Mistake("turned", "Turn it round.", [2, 1]),),
            ("h", "i"),
            "One, two.",
            1,
            1,
            kind="value",
            fallback="builtins:list",
        ),
    ),
    "77_lab",
    aliases={"twofold": "double"},
)


@pytest.fixture
def lesson(tmp_path, monkeypatch) -> Lesson:
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path))
    return Lesson(SPEC)


@pytest.fixture(autouse=True)
def no_listeners():
    before, guards = list(course._subscribers), list(course._guards)
    yield
    course._subscribers[:], course._guards[:] = before, guards


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def test_a_lesson_is_found_by_id_number_and_notebook():
    for which in ("induction_heads", 2, "2", "02", "02_induction_heads"):
        assert mi_course.lesson(which).id == "induction_heads"
    with pytest.raises(KeyError, match="no lesson 'x'; there are: 0 start_here, 1 residual_stream, 2 induction_heads"):
        mi_course.lesson("x")
    handle = mi_course.exercise("start_here.zero_head")
    assert isinstance(handle, ExerciseHandle)
    with pytest.raises(KeyError, match=r"no exercise 'x' in lesson start_here; it has top_next_tokens, zero_head"):
        mi_course.exercise("start_here.x")
    assert repr(mi_course.lesson(0)).startswith("Lesson 00 · Start here · 2 exercises, ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("oracle=", "spec=", "unexpected keyword argument 'spec'. `spec` is called `oracle` now"),
        ("EXERCISES =", "LESSON =", "tiny_course_lesson has no EXERCISES"),
    ],
)
def test_an_outdated_plug_in_is_told_the_new_names(plugin, old, new, message):
    module = Path(plugin.folder, "tiny_course_lesson.py")
    module.write_text(module.read_text().replace(old, new))
    with pytest.raises(CourseError, match=message):
        lessons.load("tiny")


def test_the_name_says_which_exercise_is_meant(lesson):
    def double(x):
        return 2 * x

    assert lesson.check(double).passed
    assert lesson.check(lambda x: 2 * x, name="double").passed
    assert lesson.check(double, name="twofold").exercise == "lab.double"
    assert lesson.check(named("twofold", lambda x: 2 * x)).exercise == "lab.double"
    assert lesson.check([1, 2], name="my_list").passed


@pytest.mark.parametrize(
    ("answer", "name", "words"),
    [
        (lambda x: x, None, 'This is a lambda, which does not say which exercise it answers. Name the exercise'),
        (lambda x: x, None, 'name="double"'),
        ([1, 2], None, 'name="my_list"'),
        (None, None, "This is a NoneType"),
        (named("doubel", lambda x: x), None, "no exercise `doubel` in this lesson. Did you mean `double`?"),
        (twice, "my_lst", "Did you mean `my_list`?"),
        (named("unlike", lambda x: x), None, "Its exercises are `double`, `shift`, `my_list`"),
        (named("n" * 9999, lambda x: x), None, "Its exercises are"),
        (twice, torch.zeros(2), "no exercise `twice`"),
        (twice, 3, "no exercise `twice`"),
    ],
)  # fmt: skip
def test_an_unclear_name_is_told(lesson, answer, name, words):
    card = lesson.check(answer, name=name)
    assert words in repr(card)
    assert len(repr(card)) < 500
    assert lesson._progress.rows() == []


# ---------------------------------------------------------------------------------------------------------------------
# Cards


def test_a_card_shows_itself(lesson):
    card = lesson.check(lambda x: x * x, name="double")
    assert isinstance(card, Card)
    assert isinstance(card, Verdict)
    assert (card.status, card.mistake, card.points, card.max_points) == ("wrong", "square", 0, 1)
    bundle = card._repr_mimebundle_(include=None, exclude=None)
    assert "That is the square." in bundle["text/html"]
    assert bundle["text/plain"] == repr(card) == str(card)
    assert repr(card).startswith("Not yet · double · 0 of 1\nThat is the square.")
    assert 'lesson.hint("double")' in repr(card)
    json.dumps(bundle)


def test_the_plain_text_is_the_same_every_time(lesson):
    answers = [lambda x: x, lambda x: 2 * x, lambda x: 1 / 0, lambda x: ..., lambda x: torch.zeros(3), lambda x: {1}]
    for answer in answers:
        assert repr(lesson.check(answer, name="double")) == repr(lesson.check(answer, name="double"))


def test_what_was_printed_is_shown_with_a_wrong_answer(lesson):
    def loud(x):
        print("x is ``` 1.2345")
        return x

    card = lesson.check(loud, name="double")
    assert "It printed:" in repr(card)
    assert "1.2345" in card._repr_mimebundle_()["text/html"]
    assert "It printed" not in repr(lesson.check(lambda x: print("hello") or 2 * x, name="double"))


def test_html_in_an_answer_stays_text(lesson):
    def evil(x):
        print("<script>alert(1)</script>")
        raise ValueError("<img src=x onerror=alert(1)>")

    html = lesson.check(evil, name="double")._repr_mimebundle_()["text/html"]
    assert "<script" not in html
    assert "<img" not in html


def test_a_value_is_recorded_and_bounded(lesson):
    bundle = lesson.check([2, 1], name="my_list")._repr_mimebundle_()
    recorded = bundle[ANSWER_MIME]
    assert {key: recorded[key] for key in ("format", "exercise", "revision")} == {
        "format": 1,
        "exercise": "lab.my_list",
        "revision": 1,
    }
    assert wire.decode(base64.b64decode(recorded["value"])) == [2, 1]
    assert "Turn it round." in bundle["text/html"]
    for value in (torch.zeros(ANSWER_BYTES), "x" * ANSWER_BYTES, {1}, ["é" * 400_000]):
        assert ANSWER_MIME not in lesson.check(value, name="my_list")._repr_mimebundle_()
    for value in (None, ...):
        assert ANSWER_MIME not in lesson.check(value, name="my_list")._repr_mimebundle_()
    assert ANSWER_MIME not in lesson.check(twice, name="double")._repr_mimebundle_()


def test_an_answer_that_reads_a_demonstration_is_warned_of(plugin, monkeypatch):
    tiny = Lesson.find("tiny")
    monkeypatch.setattr(content, "demonstration_names", lambda info: frozenset({"shown"}))
    space: dict[str, Any] = {"shown": 2}
    exec("def double(x):\n    return [shown * x for _ in 'a'][0]", space)
    card = tiny.check(space["double"])
    assert card.passed
    assert "reads `shown`" in card.warnings[0]
    assert "reads `shown`" in repr(card)


# ---------------------------------------------------------------------------------------------------------------------
# Hints, solutions, use, status


def test_hints_come_one_by_one_and_are_remembered(lesson):
    assert "first hint" in lesson.hint("double").text
    assert "second hint" in Lesson(SPEC).hint("double").text
    third = lesson.hint("double").text
    assert "second hint" in third
    assert 'lesson.solution("double")' in third
    with pytest.raises(KeyError, match="it has double, shift, my_list"):
        lesson.hint("doubel")


def test_a_solution_has_its_reasons(plugin):
    tiny = Lesson.find("tiny")
    text = tiny.solution("double").text
    assert "def double" in text
    assert "Twice means added to itself." in text
    assert tiny._progress.rows()[0].solution_seen


def test_use_gives_the_learners_if_it_passed(lesson, capsys):
    import math

    assert lesson.use("double") is math.fabs
    assert "double has not passed yet, so this cell uses the course's own (math.fabs)" in capsys.readouterr().out
    lesson.check(lambda x: x, name="double")
    assert lesson.use("double") is math.fabs
    lesson.check(twice, name="double")
    capsys.readouterr()
    assert lesson.use("double") is twice
    assert capsys.readouterr().out == ""
    assert lesson.use("my_list") == []
    lesson.check([1, 2], name="my_list")
    assert lesson.use("my_list") == [1, 2]


def test_use_falls_back_on_the_solutions_code(plugin, capsys):
    tiny = Lesson.find("tiny")
    assert tiny.use("double")(21) == 42
    assert capsys.readouterr().out == "double has not passed yet, so this cell uses the solution's.\n"
    assert tiny.use("favorites") == [6, 28, 496], "a value whose cell runs on its own, with what the setup imports"
    content.notebook_path(plugin, solution=True).unlink()
    with pytest.raises(CourseError, match=r'lesson tiny has no solution of it\. Solve it first.*name="double"'):
        tiny.use("double")


def test_use_without_a_solution_says_what_to_solve(lesson):
    with pytest.raises(CourseError, match="shift has not passed yet, and lesson lab has no solution of it"):
        lesson.use("shift")


def test_a_solution_that_needs_the_notebook_is_not_used(plugin):
    path = content.notebook_path(plugin, solution=True)
    path.write_text(path.read_text().replace("math.fsum", "model.fsum"))
    with pytest.raises(CourseError, match=r"favorites does not run on its own .*NameError.* Solve it first"):
        Lesson.find("tiny").use("favorites")


@pytest.mark.parametrize("info", lessons.OURS, ids=lambda info: info.id)
def test_every_answer_of_ours_can_be_used_without_loading_a_model(info, tmp_path, monkeypatch):
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path))
    monkeypatch.setattr(mi_course, "load_model", lambda *args, **options: pytest.fail("a model was loaded"))
    lesson = Lesson.find(info.id)
    for exercise in lesson.spec.exercises:
        assert callable(lesson.use(exercise.name)) == (exercise.kind == "function")


def test_status_is_an_overview(lesson):
    lesson.check(twice, name="double")
    lesson.check([3], name="my_list")
    lesson.hint("my_list")
    html = json.dumps(lesson.status()._repr_mimebundle_(), default=str)
    assert all(name in html for name in ("double", "shift", "my_list"))
    rows = {row.exercise: row for row in Progress().rows("lab")}
    assert rows["lab.double"].status == "passed"
    assert (rows["lab.my_list"].status, rows["lab.my_list"].hints) == ("wrong", 1)


# ---------------------------------------------------------------------------------------------------------------------
# Events and progress


def test_whoever_subscribes_is_told(lesson):
    events: list[dict[str, Any]] = []
    end = subscribe(events.append)
    lesson.check(lambda x: x * x, name="double")
    end()
    end()
    lesson.check(twice, name="double")
    (event,) = events
    assert event.pop("at").endswith("+00:00")
    assert event == {
        "version": 2,
        "kind": "verdict",
        "lesson": "lab",
        "exercise": "lab.double",
        "revision": 1,
        "status": "wrong",
        "points": 0,
        "max_points": 1,
        "mistake": "square",
        "attempt": 1,
    }


def test_hints_and_solutions_are_events_too(lesson):
    events: list[dict[str, Any]] = []
    subscribe(events.append)
    lesson.check(lambda x: x * x, name="double")
    lesson.check(lambda x: x * x, name="double")
    lesson.hint("double")
    lesson.hint("double")
    mi_course.lesson("start_here").solution("zero_head")
    assert [(event["kind"], event.get("attempt"), event.get("hint")) for event in events] == [
        ("verdict", 1, None),
        ("verdict", 2, None),
        ("hint", None, 1),
        ("hint", None, 2),
        ("reveal", None, None),
    ]
    assert events[-1]["exercise"] == "start_here.zero_head"


def test_a_guard_is_asked_before_a_solution_is_shown():
    lesson = mi_course.lesson("start_here")
    events: list[dict[str, Any]] = []
    subscribe(events.append)
    remove = guard(lambda exercise: "At 15:30." if exercise == "start_here.zero_head" else None)
    guard(lambda exercise: 1 / 0)
    assert "At 15:30." in lesson.solution("zero_head").text
    assert events == []
    assert not any(row.solution_seen for row in Progress().rows("start_here"))
    remove()
    remove()
    assert "At 15:30." not in lesson.solution("zero_head").text
    assert [event["kind"] for event in events] == ["reveal"]


def test_a_listener_that_raises_is_called_again(lesson):
    heard: list[Any] = []

    def raises(event):
        heard.append("raises")
        event.clear()
        raise ValueError

    def ends_and_raises(event):
        end()
        raise ValueError

    subscribe(raises)
    end = subscribe(ends_and_raises)
    subscribe(heard.append)
    assert lesson.check(twice, name="double").passed
    assert lesson.check(twice, name="double").passed
    assert [item if item == "raises" else item["status"] for item in heard] == ["raises", "passed", "raises", "passed"]


@pytest.mark.filterwarnings("ignore::mi_course.progress.ProgressWarning")
def test_a_broken_record_does_not_break_a_check(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "file" / "below"))
    lesson = Lesson(SPEC)
    assert lesson.check(twice, name="double").passed
    assert "first hint" in lesson.hint("double").text
    assert lesson.status() is not None


# ---------------------------------------------------------------------------------------------------------------------
# Nothing raises


class Cruel(BaseException):
    pass


def cruel(*args: Any, **options: Any) -> Any:
    raise Cruel


def hostile(**methods: Any) -> Any:
    special = "__getattr__ __repr__ __str__ __eq__ __hash__ __bool__ __len__ __iter__ __getattribute__ __format__"
    return object.__new__(type("Hostile", (), {**dict.fromkeys(special.split(), cruel), **methods}))


class Meta(type):
    __eq__ = __hash__ = __repr__ = __getattribute__ = __instancecheck__ = cruel  # type: ignore


class Named:
    def __init__(self, name: Any) -> None:
        self.__name__ = name

    def __call__(self, *args: Any) -> Any:
        return 3


def raising(error: BaseException) -> Callable[..., Any]:
    def answer(*args: Any) -> Any:
        raise error

    return answer


def endless(*args: Any) -> Any:
    yield from iter(int, 1)


def recursive(*args: Any) -> Any:
    return recursive(*args)


def knot(*args: Any) -> Any:
    ring: list[Any] = []
    ring.append(ring)
    return ring


async def sleepy(*args: Any) -> Any:
    return args


class Property:
    __name__ = property(cruel)  # type: ignore


class Text(str):
    __eq__ = __hash__ = __len__ = __getitem__ = cruel  # type: ignore


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "dots": lambda: ...,
    "number": lambda: 3,
    "text": lambda: "double",
    "class": lambda: Named,
    "type": lambda: int,
    "module": lambda: json,
    "generator": endless,
    "generator function": lambda: endless,
    "hostile": hostile,
    "hostile callable": lambda: hostile(__call__=cruel),
    "hostile meta": lambda: Meta("M", (), {}),
    "hostile meta instance": lambda: object.__new__(Meta("M", (), {})),
    "name is cruel": lambda: named(Text("double"), lambda x: 3),
    "name None": lambda: Named(None),
    "name hostile": lambda: Named(hostile()),
    "name list": lambda: Named([]),
    "name property": Property,
    "returns hostile": lambda: lambda *a: hostile(),
    "returns itself": lambda: lambda x: Named("x"),
    "knot": lambda: knot,
    "SystemExit": lambda: raising(SystemExit(3)),
    "GeneratorExit": lambda: raising(GeneratorExit()),
    "Cruel": lambda: raising(Cruel()),
    "StopIteration": lambda: raising(StopIteration()),
    "recursion": lambda: recursive,
    "builtin": lambda: print,
    "partial": lambda: functools.partial(max, 9.0),
    "no arguments": lambda: lambda: 3,
    "coroutine": lambda: sleepy,
    "tensor": lambda: torch.zeros(3),
    "parameter": lambda: torch.nn.Linear(1, 1),
    "meta tensor": lambda: lambda x: torch.zeros(3, device="meta"),
    "complex": lambda: lambda x: 1j,
    "huge int": lambda: lambda x: 10**5000,
    "set": lambda: {1},
    "bytes": lambda: b"x",
    "nan": lambda: lambda x: float("nan"),
    "bound method": lambda: [].append,
    "property": lambda: property(cruel),
    "exception": lambda: Cruel(),
    "deletes": lambda: lambda x: globals().pop("nothing", 0),
}


@pytest.mark.parametrize("which", ODD)
def test_nothing_raises(lesson, which):
    answer = ODD[which]()
    for name in ("double", "shift", "my_list", None):
        card = lesson.check(answer, name=name)
        if isinstance(card, Verdict):
            assert not card.passed
            assert "The checker itself failed" not in card.message
            assert card.points == 0
        assert isinstance(repr(card), str)
        json.dumps(card._repr_mimebundle_(), default=str)


@pytest.mark.parametrize("id", ["start_here.top_next_tokens", "start_here.zero_head", "induction_heads.train_step"])
def test_nothing_raises_in_real_exercises(id):
    spec = mi_course.exercise(id).lesson.spec.exercise(id.partition(".")[2])
    for make in ODD.values():
        verdict = check_exercise(spec, make())
        assert not verdict.passed
        assert verdict.points == 0
        assert "The checker itself failed" not in verdict.message


def test_a_fault_of_ours_does_not_look_like_the_learners():
    broken = Exercise("lab.b", "b", (Part("p", 1, lambda draw, size: 1 / 0),), (), (), "", 1, 1)
    verdict = check_exercise(broken, twice)
    assert verdict.status == "crashed"
    assert "The checker itself failed, which says nothing about your answer: ZeroDivisionError" in verdict.message


@pytest.mark.timing
def test_once_out_of_time_later_asks_are_shorter():
    part = Part("p", 1, lambda draw, size: [case(float(n), limit_s=3) for n in range(4)])
    slow = Exercise("lab.s", "s", (part,), (), (), "", 1, 1, oracle=twice)

    def sometimes(x: float) -> float:
        while x != 1.0:
            pass
        return 2 * x

    began = time.monotonic()
    verdict = check_exercise(slow, sometimes)
    assert verdict.status == "timed_out"
    assert "still running after 3 seconds" in verdict.message
    assert time.monotonic() - began < 3 + 2 * course.AFTER_TIME_OUT_S + 2.5  # and not 3 * 3


@pytest.mark.parametrize("factor", [1.0, 2.5, 4.0])
def test_limits_are_multiplied_by_the_slowness_of_the_machine(factor: float, monkeypatch: pytest.MonkeyPatch):
    part = Part("p", 1, lambda draw, size: [case(1.0, limit_s=3), case(2.0)])
    asked = []
    monkeypatch.setattr(course, "slowness", lambda: factor)
    monkeypatch.setattr(course, "observe", lambda answer, ask: asked.append(ask.limit_s) or observe(answer, ask))
    assert check_exercise(Exercise("lab.s", "s", (part,), (), (), "", 1, 1, oracle=twice), twice).passed
    assert asked[:2] == [3 * factor, 5 * factor]


@pytest.mark.parametrize(("measured", "factor"), [(0.1, 1.0), (1.0, 1.0), (2.5, 2.5), (99.0, 4.0)])
def test_the_slowness_is_between_one_and_four(measured: float, factor: float, monkeypatch: pytest.MonkeyPatch):
    once = iter([99.0, measured * limits._USUAL_S, 99.0])
    monkeypatch.setattr(limits, "_measure", lambda: next(once))
    assert limits.slowness.__wrapped__() == pytest.approx(factor)


def test_the_slowness_is_measured_before_any_answer_runs(monkeypatch: pytest.MonkeyPatch):
    measured = []
    monkeypatch.setattr(course, "slowness", lambda: measured.append(1) or 1.0)
    mi_course.lesson("start_here")
    assert measured


def test_where_there_is_no_display_the_text_is_printed():
    code = "import mi_course; print(mi_course.lesson(0).check(lambda logits, k: [], name='top_next_tokens'))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.startswith("Not yet · top_next_tokens · 0 of 3\n")
