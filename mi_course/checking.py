"""Checks a learner's own notebook outside Jupyter: `mi-course check NOTEBOOK`.

The cells run in a fresh Python process, without a kernel. An error stops only its cell. A cell that takes too long or
ends the process is left out, and the rest is run again. This is the learner's own code on the learner's own machine:
nothing here is a sandbox, and no marks should rest on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mi_course.errors import CourseError
from mi_course.submission import NOT_RECORDED, SETUP_POSITION, Submission

__all__ = ["Outcome", "Result", "check_submission"]

CELL_S = 300.0
RESTARTS = 3
"""How many cells may hang or end the process before the check stops."""


@dataclass(frozen=True)
class Result:
    """One exercise."""

    exercise: str
    status: str
    points: int
    max_points: int
    message: str


@dataclass
class Outcome:
    """What running and checking a notebook came to."""

    results: list[Result] = field(default_factory=list)
    """One for each exercise of the lesson, in order."""
    errors: dict[int, str] = field(default_factory=dict)
    """Position of a cell -> why it stopped."""

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.status == "passed" for result in self.results)


def check_submission(submission: Submission, folder: Path, cell_s: float = CELL_S) -> Outcome:
    """Run the cells of a submission in `folder`, and check every exercise of its lesson.

    cell_s: seconds without an event after which a cell counts as hanging.
    Raises CourseError if the course's own setup fails.
    """
    skip: dict[int, str] = {}
    while True:
        events, reason = _run(submission, folder, cell_s, skip)
        begun = [event["cell"] for event in events if event["kind"] == "begin"]
        if reason is None or len(skip) >= RESTARTS or not begun or begun[-1] == SETUP_POSITION:
            break
        skip[begun[-1]] = reason
    errors = dict(skip) | {event["cell"]: event["message"] for event in events if event["kind"] == "error"}
    if reason is not None:
        errors[begun[-1] if begun else SETUP_POSITION] = reason
    if SETUP_POSITION in errors:
        raise CourseError(
            f"The setup of lesson {submission.info.id} fails here: {errors[SETUP_POSITION]} Try `mi-course doctor`."
        )
    checked = {event["exercise"]: event for event in events if event["kind"] == "verdict"}
    max_points = {event["exercise"]: event["points"] for event in events if event["kind"] == "exercise"}
    values = {event["exercise"] for event in events if event["kind"] == "exercise" and event["is_value"]}
    outcome = Outcome(errors=errors)
    for exercise in submission.exercises:
        event = checked.get(exercise)
        if event is not None:
            outcome.results.append(
                Result(exercise, event["status"], event["points"], event["max_points"], event["message"])
            )
            continue
        name = exercise.partition(".")[2]
        stopped = next((c.position for c in submission.cells if name in c.answers and c.position in errors), None)
        status = "not_attempted" if stopped is None else "crashed"
        message = f"{name} is not defined." if stopped is None else f"Cell {stopped} stopped: {errors[stopped]}"
        if exercise in values:
            message += f" {NOT_RECORDED}"
        outcome.results.append(Result(exercise, status, 0, max_points.get(exercise, 0), message))
    return outcome


def _run(
    submission: Submission, folder: Path, cell_s: float, skip: dict[int, str]
) -> tuple[list[dict[str, Any]], str | None]:
    """Run one process. Returns its events, and why it ended early (None: it did not)."""
    with tempfile.TemporaryDirectory(prefix="mi-course-check-") as scratch:
        events_file, job = Path(scratch, "events"), Path(scratch, "job")
        cells = [asdict(cell) for cell in submission.cells if cell.position not in skip]
        job.write_text(
            json.dumps(
                {
                    "lesson": submission.info.id,
                    "setup": submission.setup,
                    "cells": cells,
                    "records": submission.records,
                }
            ),
            encoding="utf-8",
        )
        events_file.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "mi_course.checking", str(job), str(events_file), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("MI_COURSE_DEBUG") else subprocess.DEVNULL,
            env={**os.environ, "MPLBACKEND": "Agg"},
        )
        size, since, reason = 0, time.monotonic(), None
        while process.poll() is None:
            time.sleep(0.02)
            now = events_file.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > cell_s:
                reason = f"it was still running after {cell_s:.0f} seconds without a check."
                process.kill()
                break
        process.wait()
        events = [
            json.loads(line) for line in events_file.read_text(encoding="utf-8").splitlines() if line.endswith("}")
        ]
        if reason is None and not any(event["kind"] == "end" for event in events):
            reason = f"it ended the Python process (exit status {process.returncode})."
        return events, reason


# ---------------------------------------------------------------------------------------------------------------------
# In the child


def _child(job: dict[str, Any], events: Path) -> None:
    import mi_course
    from mi_course.asking.cells import main_namespace, run_cell
    from mi_course.course import Lesson
    from mi_course.exercises import Verdict
    from mi_course.recorded_values import recorded_values

    out = open(events, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  (open as long as the process lives)

    def report(kind: str, **event: Any) -> None:
        out.write(json.dumps({"kind": kind, **event}) + "\n")

    check = Lesson.check
    checked: dict[str, Any] = {}

    def check_and_report(self: Lesson, answer: Any, *, name: str | None = None) -> Any:
        card = check(self, answer, name=name)
        if isinstance(card, Verdict):
            checked[card.exercise] = answer
            fields = ("exercise", "status", "points", "max_points", "message")
            report("verdict", **{field: getattr(card, field) for field in fields})
        return card

    # Hints and solutions are for the notebook; here they would count as looked up.
    inert = dict.fromkeys(("hint", "solution", "status"), lambda self, *args, **options: None)
    for method, replacement in {"check": check_and_report, **inert}.items():
        setattr(Lesson, method, replacement)
    namespace = main_namespace()

    def run(position: int, source: str) -> bool:
        report("begin", cell=position)
        message = run_cell(source, position, namespace)
        if message:
            report("error", cell=position, message=message)
        return not message

    if not all(run(SETUP_POSITION, source) for source in job["setup"]):
        return
    lesson = mi_course.lesson(job["lesson"])
    for exercise in lesson.spec.exercises:
        report("exercise", exercise=exercise.id, points=exercise.points, is_value=exercise.kind == "value")
    namespace.setdefault("lesson", lesson)
    for cell in job["cells"]:
        run(cell["position"], cell["source"])
    recorded = recorded_values(job["records"])
    # A check of an earlier definition says nothing about the last one, and check lines may have been deleted.
    for exercise in lesson.spec.exercises:
        answer = namespace.get(exercise.name)
        if exercise.kind == "value" and exercise.id in recorded:  # what the grader judges
            lesson.check(recorded[exercise.id], name=exercise.name)
        elif exercise.name in namespace and (exercise.id not in checked or checked[exercise.id] is not answer):
            report("begin", cell=_defining_cell(job, exercise.name))
            lesson.check(answer, name=exercise.name)
    report("end")


def _defining_cell(job: dict[str, Any], name: str) -> int:
    return max((cell["position"] for cell in job["cells"] if name in cell["answers"]), default=SETUP_POSITION)


def _main() -> None:
    job, events, folder = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    work = json.loads(job.read_text(encoding="utf-8"))
    sys.argv = [sys.argv[0]]
    os.chdir(folder)
    sys.path[0] = ""  # as in a notebook: modules beside it can be imported
    _child(work, events)
    # Skip the learner's threads and exit hooks.
    os._exit(0)


if __name__ == "__main__":
    _main()
