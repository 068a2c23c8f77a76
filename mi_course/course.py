"""The lesson in a notebook: asks and judges in this kernel, remembers what was done, tells whoever listens.

    lesson = mi_course.lesson("induction_heads")
    lesson.check(induction_score)

Joins asking, judging, lessons and progress. Nothing below this module knows of any of the others' insides.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import importlib
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mi_course import content, lessons, show, wire
from mi_course.asking import include, observe
from mi_course.asking.limits import AFTER_TIME_OUT_S
from mi_course.exercises import Exercise, LessonSpec, Verdict
from mi_course.judging import judge
from mi_course.progress import Progress

__all__ = ["Card", "ExerciseHandle", "Lesson", "check_exercise", "subscribe"]

ANSWER_MIME = "application/vnd.mi-course.answer+json"
ANSWER_BYTES = 2**20
"""A recorded answer larger than this is not kept in the notebook."""

SEED = 0
"""In self-study the same answer meets the same inputs every time, so that a message can be worked on."""


# ---------------------------------------------------------------------------------------------------------------------
# Checking one exercise


def check_exercise(exercise: Exercise, answer: Any, *, seed: int = SEED, size: str = "full") -> Verdict:
    """Ask the answer and judge it, here, in this process. Records nothing and raises nothing.

    form: "small" asks an outcome exercise in its quick form.
    """
    try:
        plan = exercise.plan(seed, size)
        observations, late = [], False
        for ask in plan.asks:
            if late:
                ask = replace(ask, limit_s=min(ask.limit_s, AFTER_TIME_OUT_S))
            observations.append(observe(answer, ask))
            late = late or any(reply.status == wire.TIMED_OUT for reply in observations[-1].replies)
            if observations[-1].replies[0].status == wire.NOT_ATTEMPTED and len(observations) == 1:
                observations += [replace(observations[0], ask=other.id) for other in plan.asks[1:]]
                break
        return judge(plan, observations, ask=observe)
    except Exception as error:
        # A fault of ours must not look like one of the learner's, and must not stop "Run All".
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"The checker itself failed, which says nothing about your answer: {type(error).__name__}: {error} "
            f"({last.filename.rpartition('mi_course')[2]}:{last.lineno}). Please report it together with your answer."
        )
        return Verdict(exercise.id, exercise.revision, "crashed", 0, exercise.points, message)


class Card(Verdict):
    """A verdict that shows itself: a card in Jupyter, plain text elsewhere."""

    answer: bytes | None = None

    def _fields(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in Verdict.__dataclass_fields__}
        fields["details"] = [
            {"name": d.name, "points": d.points, "earned": d.earned, "message": d.message} for d in self.details
        ]
        name = self.exercise.partition(".")[2]
        fields["next"] = _NEXT.get(self.status, "").format(name=name)
        if self.printed.strip():
            fence = "```"
            printed = self.printed.strip("\n").replace(fence, "")
            fields["message"] += f"\n\nIt printed:\n\n{fence}\n{printed}\n{fence}"
        for warning in self.warnings:
            fields["message"] += f"\n\n**Mind:** {warning}"
        return fields

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = show.verdict_card(self._fields())._repr_mimebundle_()
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        if self.answer is not None:
            bundle[ANSWER_MIME] = {
                "format": 1,
                "exercise": self.exercise,
                "revision": self.revision,
                "value": base64.b64encode(self.answer).decode("ascii"),
            }
        return bundle

    def __repr__(self) -> str:
        return show.verdict_card(self._fields()).text

    __str__ = __repr__


_NEXT = {
    "wrong": 'Stuck? `lesson.hint("{name}")`',
    "crashed": 'Stuck? `lesson.hint("{name}")`',
    "timed_out": 'Stuck? `lesson.hint("{name}")`',
    "not_attempted": 'For a first step: `lesson.hint("{name}")`',
}


# ---------------------------------------------------------------------------------------------------------------------
# Events


_subscribers: list[Callable[[dict[str, Any]], None]] = []


def subscribe(listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Call `listener(event)` after every check; returns a function that ends it.

    An event has version, lesson, exercise, revision, status, points, max_points, mistake and at (UTC, ISO 8601).
    A listener that raises is dropped: telling others must never break a check.
    """
    _subscribers.append(listener)

    def unsubscribe() -> None:
        if listener in _subscribers:
            _subscribers.remove(listener)

    return unsubscribe


def _publish(lesson: str, verdict: Verdict, at: str) -> None:
    event = {
        "version": 1,
        "lesson": lesson,
        "exercise": verdict.exercise,
        "revision": verdict.revision,
        "status": verdict.status,
        "points": verdict.points,
        "max_points": verdict.max_points,
        "mistake": verdict.mistake,
        "at": at,
    }
    for listener in list(_subscribers):
        try:
            listener(dict(event))
        except Exception:
            with contextlib.suppress(ValueError):  # it may have ended its subscription before it raised
                _subscribers.remove(listener)


# ---------------------------------------------------------------------------------------------------------------------
# The lesson


class Lesson:
    """A lesson's exercises, as a notebook uses them."""

    def __init__(self, spec: LessonSpec, progress: Progress | None = None) -> None:
        self.spec = spec
        self.id, self.number, self.title = spec.id, spec.number, spec.title
        self._progress = progress or Progress()
        self._passed: dict[str, Any] = {}

    @classmethod
    def find(cls, which: str | int) -> Lesson:
        """By id, number or notebook name. Raises KeyError that lists what there is."""
        for module in lessons.asking_modules():
            include(module)
        return cls(lessons.load(which))

    def __repr__(self) -> str:
        points = sum(exercise.points for exercise in self.spec.exercises)
        return f"Lesson {self.number:02d} · {self.title} · {len(self.spec.exercises)} exercises, {points} points"

    def check(self, answer: Any, *, name: str | None = None) -> Card | Any:
        """Ask the answer, judge it, and show the verdict. Never raises.

        answer: the function, or the value together with `name="..."`. The name comes from the function's own.
        """
        exercise = self._which(answer, name)
        if not isinstance(exercise, Exercise):
            return exercise
        verdict = check_exercise(exercise, answer)
        if exercise.kind == "function":
            verdict = replace(verdict, warnings=_leaks(exercise, answer))
        card = Card(**{field: getattr(verdict, field) for field in Verdict.__dataclass_fields__})
        if exercise.kind == "value" and verdict.status != "not_attempted":
            object.__setattr__(card, "answer", _recorded(answer))
        if verdict.passed:
            self._passed[exercise.name] = answer
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._progress.record_check(
            exercise.id, exercise.revision, verdict.status, verdict.points, verdict.max_points, verdict.mistake, at
        )
        _publish(self.id, verdict, at)
        return card

    def hint(self, name: str) -> Any:
        """The next hint for an exercise. Which were shown is remembered."""
        exercise = self.spec.exercise(name)
        n = min(self._progress.record_hint(exercise.id), len(exercise.hints))
        more = f'`lesson.hint("{exercise.name}")` shows the next.' if n < len(exercise.hints) else ""
        more = more or f'That was the last. `lesson.solution("{exercise.name}")` shows the answer with its reasons.'
        title = f"Hint {n} of {len(exercise.hints)} · {exercise.name}"
        return show.note_card(title, f"{exercise.hints[n - 1]}\n\n{more}", kind="hint")

    def solution(self, name: str) -> Any:
        """The course's answer, with its reasons."""
        exercise = self.spec.exercise(name)
        self._progress.record_solution(exercise.id)
        answer = content.solution_answer(exercise.id)
        return show.note_card(
            f"Solution · {exercise.name}", f"```python\n{answer}\n```\n\n{exercise.reveal}", kind="solution"
        )

    def use(self, name: str) -> Any:
        """The learner's answer if it passed in this kernel, else the course's own, saying so."""
        exercise = self.spec.exercise(name)
        if exercise.name in self._passed:
            return self._passed[exercise.name]
        module, _, attribute = exercise.fallback.partition(":")
        own = getattr(importlib.import_module(module), attribute)
        print(f"{exercise.name} has not passed yet, so this cell uses the course's own ({module}.{attribute}).")
        return own() if exercise.kind == "value" else own

    def status(self) -> Any:
        """What is passed, tried and looked up, as an overview."""
        rows = {row.exercise: row for row in self._progress.rows(self.id)}
        return show.progress_overview(
            [_progress_row(self.title, exercise, rows.get(exercise.id)) for exercise in self.spec.exercises],
            title=f"Lesson {self.number:02d} · {self.title}",
        )

    def _which(self, answer: Any, name: str | None) -> Exercise | Any:
        """The exercise that is meant; where that is unclear, a card that says how to make it clear."""
        known = [exercise.name for exercise in self.spec.exercises]
        wanted = name if type(name) is str else _own_name(answer)
        wanted = self.spec.aliases.get(wanted, wanted)
        if wanted in known:
            return self.spec.exercise(wanted)
        if not wanted or wanted == "<lambda>":
            kind = vars(type)["__name__"].__get__(type(answer))[:100]
            what = "lambda" if wanted else kind
            values = [exercise.name for exercise in self.spec.exercises if exercise.kind == "value"]
            example = (known if callable(answer) or not values else values)[0]
            article = "an" if what[:1] in "aeiou" else "a"
            seen = f"This is {article} {what}, which has no name of its own."
            todo = f'Say which exercise it answers: `lesson.check(..., name="{example}")`.'
        else:
            wanted = wanted[:60]
            near = difflib.get_close_matches(wanted, known, n=1)
            seen = f"There is no exercise `{wanted}` in this lesson."
            todo = f"Did you mean `{near[0]}`?" if near else f"Its exercises are {', '.join(f'`{k}`' for k in known)}."
        return show.note_card("Which exercise is this?", f"{seen} {todo}", kind="warning")


@dataclass(frozen=True)
class ExerciseHandle:
    """One exercise, by its id: `mi_course.exercise("induction_heads.induction_score").check(f)`."""

    lesson: Lesson
    name: str

    @classmethod
    def find(cls, id: str) -> ExerciseHandle:
        """Raises KeyError that lists the lessons, or the lesson's exercises."""
        lesson_id, _, name = id.partition(".")
        lesson = Lesson.find(lesson_id)
        return cls(lesson, lesson.spec.exercise(name).name)

    def check(self, answer: Any) -> Card:
        return self.lesson.check(answer, name=self.name)

    def hint(self) -> Any:
        return self.lesson.hint(self.name)

    def solution(self) -> Any:
        return self.lesson.solution(self.name)

    def use(self) -> Any:
        return self.lesson.use(self.name)


_NAMED = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)


def _own_name(answer: Any) -> str:
    """The name that a function or class was defined with. Other objects may run code of their own when asked."""
    kind = type(answer)
    return str.__str__(answer.__name__) if any(kind is one for one in _NAMED) else ""


def _progress_row(title: str, exercise: Exercise, row: Any) -> dict[str, Any]:
    return {
        "lesson": title,
        "exercise": exercise.name,
        "status": row.status if row else "not_attempted",
        "points": row.points if row else 0,
        "max_points": exercise.points,
        "minutes": exercise.minutes,
        "attempts": row.attempts if row else 0,
        "hints": row.hints if row else 0,
    }


def _recorded(answer: Any) -> bytes | None:
    try:
        limits = wire.Limits(bytes=ANSWER_BYTES)
        return wire.encode(wire.plain(answer, limits), limits)
    except wire.WireError:
        return None


def _leaks(exercise: Exercise, answer: Any) -> tuple[str, ...]:
    """Warns of names that only a demonstration cell defines: those cells are not run when the answer is marked."""
    try:
        only_there = content.demonstration_names(lessons.find(exercise.lesson))
    except Exception:
        return ()
    code = answer.__code__ if type(answer) is types.FunctionType else None
    used = sorted(_global_names(code) & set(only_there))
    if not used:
        return ()
    names = ", ".join(f"`{name}`" for name in used)
    return (
        f"Your answer reads {names}, which a cell of the course defines. That cell is not run when answers are marked: "
        "make it an argument, or define it inside the function.",
    )


def _global_names(code: Any) -> set[str]:
    """Names a function looks up outside itself, inner functions included."""
    import dis

    if code is None:
        return set()
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            names |= _global_names(constant)
    return names
