"""One submission from bytes to marks. Runs outside the sandbox; no code of the learner's runs here."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mi_course import lessons
from mi_course.asking import observe
from mi_course.asking.limits import TimeUp, time_limit
from mi_course.exercises import Exercise, Plan, Verdict
from mi_course.grading.intake import Loaded
from mi_course.grading.recorded_values import claims_in
from mi_course.grading.reflections import reflections_in
from mi_course.grading.sandbox import Sandbox
from mi_course.grading.sandboxed_asking import SETUP, TOTAL_S, Seen, ask_all, claimed
from mi_course.judging import judge
from mi_course.submission import Submission, SubmissionError, parse, select_cells
from mi_course.wire import Observation

__all__ = ["ExerciseMark", "Marks", "content_hash", "failed", "mark"]

UNSANDBOXED = "Marked WITHOUT a sandbox: what the submission ran could read and change whatever the grader can."
JUDGE_S = 60.0


@dataclass(frozen=True)
class ExerciseMark:
    """One exercise of one submission."""

    exercise: str
    revision: int
    status: str
    points: float
    """Whole, but where an instructor gave others."""
    max_points: int
    message: str = ""
    mistake: str | None = None
    details: tuple[dict[str, Any], ...] = ()
    printed: str = ""
    """What the answer printed in the first case that failed. It may hold inputs: for instructors only."""
    given: float | None = None
    """The points that the course gave, where an instructor's override took their place."""
    comment: str = ""
    """An instructor's."""


@dataclass(frozen=True)
class Marks:
    """One row: a submission, whatever it contains."""

    submission: str
    status: str
    """marked, or unreadable."""
    reason: str
    """Why it has the marks that it has, in a sentence or several."""
    points: float = 0
    max_points: int = 0
    exercises: tuple[ExerciseMark, ...] = ()
    lessons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sandboxed: bool = True
    seconds: float = 0.0
    files: tuple[str, ...] = field(default=())
    reflections: tuple[dict[str, str], ...] = ()
    """What was written below the reflect questions: lesson, question, answer. For reading; no points depend on it."""
    comment: str = ""
    """An instructor's."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def content_hash(loaded: Loaded) -> str:
    """Of names and bytes, so that any change is another submission."""
    told = hashlib.sha256()
    for name, raw in loaded.files:
        for part in (name.encode("utf-8", "surrogateescape"), raw):
            told.update(len(part).to_bytes(8, "little") + part)
    told.update(loaded.problem.encode("utf-8", "surrogatepass"))
    return told.hexdigest()


def failed(name: str, reason: str, sandboxed: bool = True, notes: Sequence[str] = ()) -> Marks:
    """The row of a submission that cannot be marked."""
    return Marks(name, "unreadable", reason, notes=tuple(notes), sandboxed=sandboxed)


def mark(
    name: str,
    loaded: Loaded,
    sandbox: Sandbox,
    secret: bytes,
    lesson: str | int | None = None,
    total_s: float = TOTAL_S,
) -> Marks:
    """Marks one submission. Raises SandboxError only: whatever is wrong with a submission ends in its row.

    secret: with the content it seeds the inputs that the answers are asked with, so nobody can know them beforehand.
    """
    began = time.monotonic()
    if loaded.problem:
        return failed(name, loaded.problem, sandbox.sandboxed, loaded.notes)
    notes, problems = list(loaded.notes), []
    chosen: dict[str, tuple[str, Submission, dict[str, Any]]] = {}
    written: dict[str, list[dict[str, str]]] = {}
    for file, raw in loaded.files:
        try:
            notebook = parse(raw, file.rpartition("/")[2])
            submission = select_cells(notebook, file.rpartition("/")[2], lesson)
            claims = claims_in(notebook)
            reflections = reflections_in(notebook, submission.info, file.lower().endswith(".py"))
        except SubmissionError as error:
            problems.append(str(error))
            continue
        except (ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
            problems.append(f"{file} cannot be read as a notebook ({type(error).__name__}).")
            continue
        id = submission.info.id
        if id in chosen:
            notes.append(f"{chosen[id][0]} and {file} are both of lesson {id}; the last one counts")
        chosen[id] = (file, submission, claims)
        written[id] = reflections
    if not chosen:
        return failed(name, " ".join(problems) or "Nothing to mark.", sandbox.sandboxed, notes)
    marks: list[ExerciseMark] = []
    reasons = list(problems)
    seed = seed_of(secret, content_hash(loaded))
    for file, submission, claims in chosen.values():
        notes += submission.notes
        found, why = _mark_lesson(submission, claims, sandbox, seed, total_s)
        marks += found
        reasons += [f"{file}: {one}" if len(chosen) > 1 else one for one in why]
    passed = sum(one.status == "passed" for one in marks)
    reason = " ".join([f"{passed} of {len(marks)} exercises passed.", *reasons])
    if not sandbox.sandboxed:
        reason = f"{UNSANDBOXED} {reason}"
    return Marks(
        submission=name,
        status="marked",
        reason=reason,
        points=sum(one.points for one in marks),
        max_points=sum(one.max_points for one in marks),
        exercises=tuple(marks),
        lessons=tuple(chosen),
        notes=tuple(notes),
        sandboxed=sandbox.sandboxed,
        seconds=round(time.monotonic() - began, 3),
        files=tuple(file for file, _, _ in chosen.values()),
        reflections=tuple(one for found in written.values() for one in found),
    )


def seed_of(secret: bytes, content: str) -> int:
    return int.from_bytes(hmac.new(secret, content.encode(), hashlib.sha256).digest()[:7], "little")


def _mark_lesson(
    submission: Submission, claims: dict[str, Any], sandbox: Sandbox, seed: int, total_s: float
) -> tuple[list[ExerciseMark], list[str]]:
    exercises = lessons.load(submission.info.id).exercises
    plans = {exercise.id: exercise.plan(seed) for exercise in exercises}
    observed: dict[str, list[Observation]] = {}
    for id, plan in plans.items():
        # A recorded value is what `check` saw; where there is none the name itself is asked, a list written down say.
        if plan.exercise.kind == "value" and id in claims:
            observed[id] = claimed(plan, claims[id])
    seen = ask_all(submission, {id: plan for id, plan in plans.items() if id not in observed}, sandbox, total_s)
    observed.update(seen.observations)
    marks = [_mark(exercise, plans[exercise.id], observed.get(exercise.id), submission, seen) for exercise in exercises]
    return marks, list(_reasons(submission, seen, set(observed) - set(seen.observations)))


def _reasons(submission: Submission, seen: Seen, recorded: set[str]) -> list[str]:
    """recorded: exercises whose recorded value was taken; that their cell needs SmolLM2 and stops here is no matter."""
    told = []
    names = {id.partition(".")[2] for id in recorded}
    idle = {cell.position for cell in submission.cells if cell.answers and names.issuperset(cell.answers)}
    for position, why in sorted(seen.stopped.items()):
        if position in idle:
            continue
        told.append(f"The course's setup stopped: {why}" if position == SETUP else f"Cell {position} stopped: {why}")
    told += [f"{id.partition('.')[2]}: {why}." for id, why in seen.lost.items()]
    return told


def _mark(
    exercise: Exercise, plan: Plan, observations: list[Observation] | None, submission: Submission, seen: Seen
) -> ExerciseMark:
    if observations is None:
        return _undefined(exercise, submission, seen)
    verdict = _judged(exercise, plan, observations)
    details = tuple(asdict(one) for one in verdict.details)
    names = ("exercise", "revision", "status", "points", "max_points", "message", "mistake", "printed")
    return ExerciseMark(**{one: getattr(verdict, one) for one in names}, details=details)


def _judged(exercise: Exercise, plan: Plan, observations: list[Observation]) -> Verdict:
    try:
        with time_limit(JUDGE_S):
            return judge(plan, observations, ask=observe)
    except TimeUp:
        message = f"Judging this answer took more than {JUDGE_S:g} seconds."
    except Exception as error:
        message = (
            f"This answer could not be judged ({type(error).__name__}: {str(error)[:300]}). Look at it by hand, and "
            "please report it."
        )
    return Verdict(exercise.id, exercise.revision, "crashed", 0, exercise.points, message)


def _undefined(exercise: Exercise, submission: Submission, seen: Seen) -> ExerciseMark:
    """The name is not there: its cell stopped, or there is none."""
    where = [cell.position for cell in submission.cells if exercise.name in cell.answers]
    stopped = next((position for position in where if position in seen.stopped), None)
    if SETUP in seen.stopped and not where:
        stopped = None
    if stopped is None:
        message = f"{exercise.name} is not defined." if not where else f"{exercise.name} is not defined any more."
        return ExerciseMark(exercise.id, exercise.revision, "not_attempted", 0, exercise.points, message)
    why = seen.stopped[stopped]
    status = "timed_out" if "still running" in why else "crashed"
    message = f"Cell {stopped} stopped: {why}"
    return ExerciseMark(exercise.id, exercise.revision, status, 0, exercise.points, message)
