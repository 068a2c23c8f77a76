"""Marks one submission, from bytes to points. Runs outside the sandbox; no code of the learner's runs here."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

from mi_course import lessons
from mi_course.asking import include_all, observe
from mi_course.asking.limits import TimeUp, processor_limit, slowness
from mi_course.exercises import Exercise, Plan, Verdict
from mi_course.grading.intake import Loaded
from mi_course.grading.jobs import content_hash
from mi_course.grading.library import library_functions
from mi_course.grading.marks import ExerciseMark, Marks, failed
from mi_course.grading.reflections import reflections_in
from mi_course.grading.sandbox import Sandbox
from mi_course.grading.sandboxed_asking import (
    PATIENCE,
    TOTAL_S,
    Seen,
    ask_all,
    capped,
    recorded_observations,
    shortened,
)
from mi_course.judging import judge
from mi_course.recorded_values import recorded_values
from mi_course.submission import NOT_RECORDED, SETUP_POSITION, Submission, SubmissionError, parse, select_cells
from mi_course.wire import Ask, Call, Observation, Ref

__all__ = ["mark", "prepare"]

UNSANDBOXED = "Marked WITHOUT a sandbox: what the submission ran could read and change whatever the grader can."
NO_SECCOMP = (
    "system calls were not filtered (no seccomp filter for this processor); namespaces and limits held the submission"
)
JUDGE_S = 60.0
"""Processor time for judging one answer."""


def mark(
    name: str,
    loaded: Loaded,
    sandbox: Sandbox,
    secret: bytes,
    lesson: str | int | None = None,
    total_s: float = TOTAL_S,
) -> Marks:
    """Mark one submission. Raises SandboxError only: whatever is wrong with a submission ends in its row.

    secret: seeds the inputs, together with the content, so that nobody can know them beforehand.
    total_s: seconds for asking all answers, on a machine of the usual speed.
    """
    began = time.monotonic()
    notes = list(loaded.notes)
    if sandbox.sandboxed and not sandbox.seccomp:
        notes.append(NO_SECCOMP)
    if loaded.problem:
        return failed(name, loaded.problem, sandbox.sandboxed, map(shortened, notes))
    chosen, problems, chosen_notes = choose(loaded.files, lesson)
    notes += chosen_notes
    if not chosen:
        row = failed(name, " ".join(capped(problems)) or "Nothing to mark.", sandbox.sandboxed, map(shortened, notes))
        return replace(row, content=content_hash(loaded))
    marks: list[ExerciseMark] = []
    reasons, own, time_out = list(problems), list[str](), ""
    content = content_hash(loaded)
    seed = seed_of(secret, content)
    for file, submission, _ in chosen.values():
        notes += submission.notes
        left_s = total_s * slowness() - (time.monotonic() - began)  # one deadline for all lessons of a submission
        lesson_marks, why, seen = _mark_lesson(submission, sandbox, seed, max(left_s, 0.0))
        marks += lesson_marks
        own += seen.own
        time_out = max(time_out, seen.time_out)
        reasons += [f"{file}: {reason}" if len(chosen) > 1 else reason for reason in why]
    passed = sum(one.status == "passed" for one in marks)
    reasons = capped(reasons)
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
        notes=tuple(shortened(note) for note in notes),
        sandboxed=sandbox.sandboxed,
        seconds=round(time.monotonic() - began, 3),
        files=tuple(shortened(file) for file, *_ in chosen.values()),
        reflections=tuple(one for *_, reflections in chosen.values() for one in reflections),
        reasons=tuple(reasons),
        content=content,
        time_out=time_out,
        own=tuple(own),
    )


_Candidate = tuple[str, Submission, list[dict[str, str]]]


def choose(
    files: Iterable[tuple[str, bytes]], lesson: str | int | None = None
) -> tuple[dict[str, _Candidate], list[str], list[str]]:
    """Lesson -> the notebook that is marked; what could not be read; what to note of the choice."""
    problems, notes = list[str](), list[str]()
    candidates: dict[str, list[_Candidate]] = {}
    for file, raw in files:
        try:
            notebook = parse(raw, file.rpartition("/")[2])
            submission = select_cells(notebook, file.rpartition("/")[2], lesson)
            reflections = reflections_in(notebook, submission.info, file.lower().endswith(".py"))
        except SubmissionError as error:
            problems.append(str(error))
            continue
        except Exception as error:
            problems.append(f"{file} cannot be read as a notebook ({type(error).__name__}).")
            continue
        candidates.setdefault(submission.info.id, []).append((file, submission, reflections))
    chosen: dict[str, _Candidate] = {}
    for id, of_lesson in candidates.items():
        of_lesson.sort(key=lambda one: rank(one[0], one[1]))
        chosen[id] = of_lesson[-1]
        if len(of_lesson) > 1:
            others = ", ".join(file for file, *_ in of_lesson[:-1][:MAX_NAMED])
            notes.append(f"of the notebooks of lesson {id}, {of_lesson[-1][0]} counts; not marked: {others}")
    return chosen, problems, notes


_BACKUP = re.compile(r"(^|/)backups/|\.\d{4}-\d\d-\d\d-\d{6}(-\d+)?\.ipynb$")
MAX_NAMED = 10


def rank(file: str, submission: Submission) -> tuple[Any, ...]:
    """Sorts the notebooks of one lesson in a submission; the last is the learner's latest work, as far as that shows.

    One with work in it before an untouched one, any other before what `mi-course` put into `backups/`, then the one
    with more answers, then the last by name, with numbers as numbers.
    """
    backup = bool(_BACKUP.search(file.replace("\\", "/")))
    name = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,30})", file.lower())]
    return bool(submission.attempted), not backup, len(submission.attempted), name


def seed_of(secret: bytes, content: str) -> int:
    """The seed of all inputs of a submission, from the secret and the hash of its content."""
    return int.from_bytes(hmac.new(secret, content.encode(), hashlib.sha256).digest()[:7], "little")


def _mark_lesson(
    submission: Submission, sandbox: Sandbox, seed: int, total_s: float
) -> tuple[list[ExerciseMark], list[str], Seen]:
    """The marks of one lesson's exercises, and what to say about them."""
    exercises = lessons.load(submission.info.id).exercises
    plans = {exercise.id: exercise.plan(seed) for exercise in exercises}
    values = recorded_values(submission.records)
    # A recorded value is what `check` saw. Without one the name itself is asked; it may be a list written by hand.
    recorded = {
        id: recorded_observations(plan, values[id])
        for id, plan in plans.items()
        if plan.exercise.kind == "value" and id in values
    }
    seen = ask_all(submission, {id: plan for id, plan in plans.items() if id not in recorded}, sandbox, total_s)
    observed = recorded | seen.observations
    marks = [_mark_exercise(plan, observed.get(id), submission, seen) for id, plan in plans.items()]
    return marks, list(_reasons(submission, seen, set(recorded))), seen


def _reasons(submission: Submission, seen: Seen, recorded: set[str]) -> Iterator[str]:
    """What stopped. recorded: exercises whose recorded value counts, so that it does not matter if their cell stops
    here for want of SmolLM2."""
    names = {id.partition(".")[2] for id in recorded}
    ignored = {cell.position for cell in submission.cells if cell.answers and names.issuperset(cell.answers)}
    yield from seen.reached
    for position, why in sorted(seen.stopped.items()):
        if position not in ignored:
            where = "The course's setup" if position == SETUP_POSITION else f"Cell {position}"
            yield f"{where} stopped: {why}"
    for id, why in seen.lost.items():
        yield f"{id.partition('.')[2]}: {why}."
    for id in seen.own:
        yield f"{id.partition('.')[2]} calls the course's own implementation."


def _mark_exercise(
    plan: Plan, observations: list[Observation] | None, submission: Submission, seen: Seen
) -> ExerciseMark:
    if observations is None:
        return _undefined(plan.exercise, submission, seen)
    verdict = _judge(plan, observations)
    return ExerciseMark(
        verdict.exercise,
        verdict.revision,
        verdict.status,
        verdict.points,
        verdict.max_points,
        verdict.message,
        verdict.mistake,
        details=tuple(asdict(part) for part in verdict.details),
        printed=verdict.printed,
    )


def _judge(plan: Plan, observations: list[Observation]) -> Verdict:
    try:
        with processor_limit(JUDGE_S):
            return judge(plan, observations, ask=_ask_ours)
    except TimeUp:
        message = f"Judging this answer took more than {JUDGE_S:g} seconds."
    except Exception as error:
        message = (
            f"This answer could not be judged ({type(error).__name__}: {str(error)[:300]}). Look at it by hand, and "
            "please report it."
        )
    exercise = plan.exercise
    return Verdict(exercise.id, exercise.revision, "crashed", 0, exercise.points, message)


def _ask_ours(answer: Any, ask: Ask) -> Observation:
    """Ask an oracle or a mistake, without the watches that see how tidy it is: nobody looks at these.

    By the clock it may take several times as long as an answer, since neighbors may keep the processor busy.
    """
    calls = (replace(call, watch=tuple(watch for watch in call.watch if watch not in _TIDINESS)) for call in ask.calls)
    return observe(answer, replace(ask, calls=tuple(calls), limit_s=PATIENCE * ask.limit_s))


_TIDINESS = ("arguments", "model", "hooks")


def _undefined(exercise: Exercise, submission: Submission, seen: Seen) -> ExerciseMark:
    """The mark for a name that is not defined: its cell stopped, or there is none."""
    positions = [cell.position for cell in submission.cells if exercise.name in cell.answers]
    stopped = next((position for position in positions if position in seen.stopped), None)
    if stopped is None:
        status = "not_attempted"
        message = f"{exercise.name} is not defined any more." if positions else f"{exercise.name} is not defined."
    else:
        status = "timed_out" if stopped in seen.late else "crashed"
        message = f"Cell {stopped} stopped: {seen.stopped[stopped]}"
        if exercise.kind == "value":
            message += f" {NOT_RECORDED}"
    return ExerciseMark(exercise.id, exercise.revision, status, 0, exercise.points, message)


# ---------------------------------------------------------------------------------------------------------------------
# Starting


def prepare(sandbox: Sandbox) -> None:
    """Wait for the sandbox's server. Boots the models that the lessons ask about, in the server and here, for judging.

    Raises SandboxError.
    """
    torch.set_num_threads(1)  # workers are forked later, and a fork after a product with several threads hangs
    slowness()  # before any answer runs, and once for all workers
    library_functions()  # before the workers fork: they share what it read
    include_all(lessons.asking_modules())
    configs: dict[str, dict[str, Any]] = {}
    for info in lessons.catalogue():
        for exercise in lessons.load(info.id).exercises:
            if exercise.kind == "function":
                for ask in exercise.plan(0).asks:
                    configs |= {repr(config): config for config in _configs(ask.calls)}
    sandbox.wait(list(configs.values()), lessons.asking_modules())
    for config in configs.values():
        observe(lambda model: 0, Ask((Call((Ref("model", {"config": config, "seed": 0}),)),)))


def _configs(value: Any) -> list[dict[str, Any]]:
    """The configurations of all models that calls refer to."""
    if isinstance(value, Ref):
        own = [value.options["config"]] if value.kind == "model" and "config" in value.options else []
        return own + _configs(value.options)
    if isinstance(value, Call):
        return _configs([value.args, value.options])
    if isinstance(value, dict):
        value = list(value.values())
    return [config for item in value for config in _configs(item)] if isinstance(value, (list, tuple)) else []
