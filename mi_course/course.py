"""A lesson in a notebook: checks answers in this kernel, records progress, publishes events.

    lesson = mi_course.lesson("induction_heads")
    lesson.check(induction_score)

Joins asking, judging, lessons and progress, which do not know each other.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import dis
import importlib
import re
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mi_course import content, lessons, show, wire
from mi_course.asking import include_all, observe
from mi_course.asking.limits import AFTER_TIME_OUT_S, slowness
from mi_course.asking.settings import default_settings
from mi_course.content import ANSWER_BYTES, ANSWER_MIME
from mi_course.errors import CourseError, UnknownName
from mi_course.exercises import Exercise, LessonSpec, Verdict
from mi_course.judging import judge
from mi_course.progress import Progress

__all__ = ["Card", "ClaimFailed", "ExerciseHandle", "Lesson", "check_exercise", "claim", "guard", "subscribe"]

SEED = 0
"""In self-study an answer gets the same inputs every time, so that the learner can work on a message."""


# ---------------------------------------------------------------------------------------------------------------------
# Checking one exercise


def check_exercise(exercise: Exercise, answer: Any, *, seed: int = SEED, size: str = "full") -> Verdict:
    """Ask the answer and judge it in this process. Records nothing and never raises.

    size: "small" asks an outcome exercise in its quick form.
    """
    try:
        plan = exercise.plan(seed, size)
        observations, timed_out = [], False
        for ask in plan.asks:
            ask = replace(ask, limit_s=ask.limit_s * slowness())
            if timed_out:
                ask = replace(ask, limit_s=min(ask.limit_s, AFTER_TIME_OUT_S))
            observations.append(observe(answer, ask))
            timed_out = timed_out or any(reply.status == wire.TIMED_OUT for reply in observations[-1].replies)
            if observations[-1].replies[0].status == wire.NOT_ATTEMPTED and len(observations) == 1:
                observations += [replace(observations[0], ask=other.id) for other in plan.asks[1:]]
                break
        return judge(plan, observations, ask=observe)
    except Exception as error:
        # A bug of ours must not look like the learner's mistake, and must not stop "Run All".
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
_guards: list[Callable[[str], str | None]] = []


def subscribe(listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Call `listener(event)` after every check, hint and reveal. Returns a function that unsubscribes it.

    An event has version, kind ("verdict", "hint" or "reveal"), lesson, exercise, revision and at (UTC, ISO 8601). A
    verdict also has status, points, max_points, mistake and attempt; a hint has hint, its number from 1.
    A listener that raises is called again next time: it can break neither a check nor itself.
    """
    return _register(_subscribers, listener)


def guard(reason: Callable[[str], str | None]) -> Callable[[], None]:
    """Ask `reason(exercise id)` before a solution is shown; if it returns text, that is shown instead.

    Returns a function that removes it. A guard that raises closes nothing.
    """
    return _register(_guards, reason)


def _register(registry: list[Any], function: Any) -> Callable[[], None]:
    registry.append(function)

    def remove() -> None:
        if function in registry:
            registry.remove(function)

    return remove


def _publish(kind: str, exercise: Exercise, at: str | None = None, **fields: Any) -> None:
    event = {
        "version": 2,
        "kind": kind,
        "lesson": exercise.lesson,
        "exercise": exercise.id,
        "revision": exercise.revision,
        "at": at or _now(),
        **fields,
    }
    for listener in list(_subscribers):
        with contextlib.suppress(Exception):
            listener(dict(event))


def _closed(exercise: Exercise) -> str | None:
    """Why the solution is not shown now; None if nothing is against it."""
    for reason in list(_guards):
        with contextlib.suppress(Exception):
            if said := reason(exercise.id):
                return said
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------------------------------------------------------------
# Claims: prose held against outputs. `mi-course build` reads the lines that these print.


SEEN_LINE = re.compile(r"seen (?P<name>[a-z0-9_-]+): (?P<text>.+)")
CLAIM_LINE = re.compile(r"holds: .+")


class ClaimFailed(AssertionError):
    """The prose says something that this run does not bear out."""


def claim(sentence: str, condition: Any) -> None:
    """Hold a sentence of the lesson against this run's numbers. For a claims cell.

    sentence: what the prose concludes, with the margin and the seeds or prompts that it holds over.
    condition: a truth value (also a tensor without axes). Raises ClaimFailed if it is false, TypeError if it is no
    truth value: a comparison of tensors needs `.all()` or `.any()`.
    """
    condition = condition.tolist() if hasattr(condition, "tolist") else condition
    if not isinstance(condition, bool):
        raise TypeError(f"claim({sentence!r}, ...) needs True or False, not {type(condition).__name__}: {condition!r}")
    if not condition:
        raise ClaimFailed(sentence)
    print(f"holds: {' '.join(sentence.split())}")


def _formatted(value: Any, fmt: str) -> str:
    """The text of a number, a text or a list of these, with a true minus sign and no minus before a zero."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        *most, last = [_formatted(item, fmt) for item in value]
        return f"{', '.join(most)} and {last}" if most else last
    text = format(value, fmt)
    if isinstance(value, str):
        return " ".join(text.split())
    return text.replace("-", "−" if re.search("[1-9]", text) else "")


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
        """By id, number or notebook name. Raises UnknownName, which lists the lessons."""
        include_all(lessons.asking_modules())
        slowness()  # before any answer runs
        return cls(lessons.load(which))

    def __repr__(self) -> str:
        points = sum(exercise.points for exercise in self.spec.exercises)
        return f"Lesson {self.number:02d} · {self.title} · {len(self.spec.exercises)} exercises, {points} points"

    def check(self, answer: Any, *, name: str | None = None) -> Card | Any:
        """Check an answer and show the verdict. Never raises.

        answer: a function, which is named by itself, or a value together with `name="..."`.
        """
        with default_settings():
            return self._check(answer, name)

    def _check(self, answer: Any, name: str | None) -> Card | Any:
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
        at = _now()
        attempt = self._progress.record_check(
            exercise.id, exercise.revision, verdict.status, verdict.points, verdict.max_points, verdict.mistake, at
        )
        _publish(
            "verdict",
            exercise,
            at,
            status=verdict.status,
            points=verdict.points,
            max_points=verdict.max_points,
            mistake=verdict.mistake,
            attempt=attempt,
        )
        return card

    def hint(self, name: str) -> Any:
        """The next hint for an exercise. The hints shown are recorded."""
        exercise = self.spec.exercise(name)
        n = min(self._progress.record_hint(exercise.id), len(exercise.hints))
        more = f'`lesson.hint("{exercise.name}")` shows the next.' if n < len(exercise.hints) else ""
        more = more or f'That was the last. `lesson.solution("{exercise.name}")` shows the answer with its reasons.'
        _publish("hint", exercise, hint=n)
        title = f"Hint {n} of {len(exercise.hints)} · {exercise.name}"
        return show.note_card(title, f"{exercise.hints[n - 1]}\n\n{more}", kind="hint")

    def solution(self, name: str) -> Any:
        """The course's answer and the reasons for it. Recorded."""
        exercise = self.spec.exercise(name)
        if reason := _closed(exercise):
            return show.note_card(f"Not open yet · {exercise.name}", reason, kind="note")
        self._progress.record_solution(exercise.id)
        _publish("reveal", exercise)
        answer = content.solution_answer(exercise.id)
        return show.note_card(
            f"Solution · {exercise.name}", f"```python\n{answer}\n```\n\n{exercise.reveal}", kind="solution"
        )

    def use(self, name: str) -> Any:
        """The learner's answer if it passed in this kernel; else the course's own, and a line is printed that says so.

        The course's own is the exercise's `fallback`, or what the solution's code defines. Raises CourseError, which
        says what to solve first, if there is neither.
        """
        exercise = self.spec.exercise(name)
        if exercise.name in self._passed:
            return self._passed[exercise.name]
        if exercise.fallback:
            module, _, attribute = exercise.fallback.partition(":")
            answer = getattr(importlib.import_module(module), attribute)
            answer = answer() if exercise.kind == "value" else answer
            origin = f"the course's own ({module}.{attribute})"
        else:
            answer, origin = self._solution_answer(exercise), "the solution's"
        print(f"{exercise.name} has not passed yet, so this cell uses {origin}.")
        return answer

    def _solution_answer(self, exercise: Exercise) -> Any:
        """What the solution's code defines, in a namespace of its own. Raises CourseError."""
        todo = f'Solve it first, and check it: `lesson.check(..., name="{exercise.name}")`.'
        try:
            code = content.solution_code(lessons.find(self.id))
        except (UnknownName, FileNotFoundError):
            code = []
        others = {other.id for other in self.spec.exercises if other.kind == "value"} - {exercise.id}
        namespace = {"lesson": self, "__name__": "__main__"}
        for cell, text in code:
            if cell in others:  # a value of another exercise may need a model
                continue
            try:
                exec(compile(text, f"<solution of {cell}>", "exec", dont_inherit=True), namespace)
            except Exception as error:
                seen = f"The solution's cell of {cell} does not run on its own ({type(error).__name__}: {error})."
                raise CourseError(f"{seen} {todo}") from error
            if cell == exercise.id:
                return namespace[exercise.name]
        raise CourseError(f"{exercise.name} has not passed yet, and lesson {self.id} has no solution of it. {todo}")

    @staticmethod
    def seen(name: str, value: Any, fmt: str = "") -> None:
        """Print a result of this run, for prose that says `{{seen:name}}`. For a claims cell.

        value: a number (also a tensor with one element), a text, or a list of these, which is joined with "and".
        fmt: a format such as ".2f". Raises ValueError for a name that is not made of a-z, 0-9, _ and -.
        """
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise ValueError(f"{name!r} is no name for what was seen: use a-z, 0-9, _ and -.")
        print(f"seen {name}: {_formatted(value, fmt)}")

    def status(self) -> Any:
        """An overview of what was passed, tried and looked up."""
        rows = {row.exercise: row for row in self._progress.rows(self.id)}
        return show.progress_overview(
            [_progress_row(self.title, exercise, rows.get(exercise.id)) for exercise in self.spec.exercises],
            title=f"Lesson {self.number:02d} · {self.title}",
        )

    def _which(self, answer: Any, name: str | None) -> Exercise | Any:
        """The exercise that the answer belongs to; if that is unclear, a card that says how to name it."""
        known = [exercise.name for exercise in self.spec.exercises]
        wanted = name if type(name) is str else _defined_name(answer)
        wanted = self.spec.aliases.get(wanted, wanted)
        if wanted in known:
            return self.spec.exercise(wanted)
        if not wanted or wanted == "<lambda>":
            kind = vars(type)["__name__"].__get__(type(answer))[:100]
            what = "lambda" if wanted else kind
            values = [exercise.name for exercise in self.spec.exercises if exercise.kind == "value"]
            example = (known if callable(answer) or not values else values)[0]
            article = "an" if what[:1] in "aeiou" else "a"
            seen = f"This is {article} {what}, which does not say which exercise it answers."
            todo = f'Name the exercise: `lesson.check(..., name="{example}")`.'
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
        """Raises UnknownName, which lists the lessons, or the lesson's exercises."""
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


def _defined_name(answer: Any) -> str:
    """The name that a function or class was defined with. Other objects could run code when asked for it."""
    kind = type(answer)
    return str.__str__(answer.__name__) if any(kind is named for named in _NAMED) else ""


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
    """A warning of names that only a demonstration cell defines; the grader does not run those cells."""
    try:
        demonstrated = content.demonstration_names(lessons.find(exercise.lesson))
    except Exception:
        return ()
    # A function of a module of the learner's own reads that module's names.
    space = answer.__globals__ if type(answer) is types.FunctionType else {}
    elsewhere = "__file__" in space and space.get("__name__") != "__main__"
    code = None if not space or elsewhere else answer.__code__
    used = sorted(_global_names(code) & set(demonstrated))
    if not used:
        return ()
    names = ", ".join(f"`{name}`" for name in used)
    return (
        f"Your answer reads {names}, which a cell of the course defines. That cell is not run when answers are marked: "
        "make it an argument, or define it inside the function.",
    )


def _global_names(code: Any) -> set[str]:
    """The global names that a function and its inner functions read."""
    if code is None:
        return set()
    names = {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            names |= _global_names(constant)
    return names
