"""Marks for a folder of untrusted submissions.

    report = grade(Path("submissions"), Path("marks"))

Answers run in a sandbox that holds no truth (`sandbox/`), and are judged here, where none of their code runs. `intake`
reads files, `mi_course.submission` selects the cells to run, `sandboxed_asking` asks and survives crashes, `marking`
judges; `workers` and `cluster` are the backends, for this machine and for many; `store` keeps finished marks, `outputs`
writes the reports.

Duplicates: of several definitions of one name the last in the notebook counts, and of several notebooks of one lesson
in a submission the learner's latest work (`marking.rank`); a note in the row says so. The value of an outcome exercise
is the last one that `check` recorded in the notebook; if there is none, the sandbox evaluates the name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mi_course.grading import similar as similarity
from mi_course.grading.cluster import DaskBackend
from mi_course.grading.intake import Entry, find, load
from mi_course.grading.jobs import Backend, Job, content_hash
from mi_course.grading.marks import Failure, Marks, failed, printable_name
from mi_course.grading.outputs import finish
from mi_course.grading.store import Store
from mi_course.grading.workers import LocalBackend
from mi_course.lessons import find as find_lesson

__all__ = ["Report", "grade"]

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Report:
    """The result of a run of the grader."""

    rows: tuple[Marks, ...]
    """One per submission, sorted by name, with an instructor's overrides applied."""
    cached: int
    """How many of them were kept from an earlier run."""
    seconds: float
    files: tuple[Path, ...] = ()
    """The files and folders written beyond marks.csv and marks.json."""
    problems: tuple[str, ...] = ()
    """Which of the instructor's overrides could not be applied, and why."""
    similar: tuple[similarity.Pair, ...] | None = None
    """Pairs of similar answers; None unless asked for."""


def grade(
    submissions: Path,
    out: Path,
    *,
    lesson: str | int | None = None,
    workers: int | None = None,
    unsandboxed: bool = False,
    single: bool = False,
    formats: Sequence[str] = (),
    similar: bool = False,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Mark every submission in a folder (or one file), and write `out/marks.csv` and `out/marks.json`.

    single: the folder is one submission, not a folder of them.
    formats: names from `formats.FORMATS`.
    similar: compare the answers too, and write `out/similar.csv`.
    lesson: which lesson all submissions answer; by default each notebook says so.
    workers: processes on this machine; by default one for each core.
    cluster: address of a Dask scheduler, whose workers mark instead.
    progress: called with (done, all, seconds still to go) after each submission.

    Finished marks are kept in `out/.grading`: after an interruption, the same call continues.
    Raises FileNotFoundError or ValueError without submissions, SandboxError without a sandbox,
    ClusterError without a working cluster, and KeyError for an unknown lesson.
    """
    began = time.monotonic()
    if lesson is not None:
        find_lesson(lesson)
    if cluster and workers:
        raise ValueError("Choose either local workers (-j) or those of a cluster (--cluster), not both.")
    entries = [Entry(submissions.resolve().name, submissions)] if single else find(submissions, out)
    with DaskBackend(cluster, unsandboxed) if cluster else LocalBackend(unsandboxed, workers) as backend:
        rows, cached = _mark(entries, lesson, Store(out), backend, progress)
    final, problems, files = finish(rows, out, formats)
    pairs = None
    if similar:
        pairs = tuple(similarity.similar(entries, lesson, final))
        similarity.write(out / "similar.csv", pairs)
        files.append(out / "similar.csv")
    return Report(final, cached, time.monotonic() - began, tuple(files), tuple(problems), pairs)


def _mark(
    entries: Sequence[Entry], lesson: str | int | None, store: Store, backend: Backend, progress: Progress | None
) -> tuple[list[Marks], int]:
    """The rows of all entries, in order, and how many of them were kept from an earlier run."""
    jobs = [Job(printable_name(entry.name), partial(load, entry), lesson, store.secret) for entry in entries]
    rows: dict[int, Marks] = {}
    unreadable, vanished = set(), set()
    for i, job in enumerate(jobs):
        loaded = job.load()
        if loaded.problem:
            unreadable.add(i)
        elif row := store.get(store.key(content_hash(loaded), lesson, backend.sandboxed), job.name):
            rows[i] = row
    cached, todo = len(rows), [i for i in range(len(jobs)) if i not in rows]

    def mark_all(numbers: Sequence[int], alone: bool = False) -> Iterator[None]:
        for number, result in backend.mark_all([jobs[i] for i in numbers], alone):
            i = numbers[number]
            if isinstance(result, Failure):
                rows[i] = failed(jobs[i].name, result.reason, backend.sandboxed)
            else:
                rows[i] = result
                if not result.content and i not in unreadable:
                    vanished.add(i)
                # Under the hash of what was marked, whatever the file held before. Neither a time-out nor a file that
                # could not be read is kept: the next run may have more luck.
                if result.status == "marked" and not result.time_out:
                    store.put(store.key(result.content, lesson, backend.sandboxed), result)
            yield

    began = time.monotonic()
    for done, _ in enumerate(mark_all(todo), 1):
        if progress:
            progress(done, len(todo), (time.monotonic() - began) / done * (len(todo) - done))
    # What waited for a processor is asked again while nobody else is; so is what vanished after it had been read.
    again = [i for i in todo if rows[i].time_out == "waiting" or i in vanished]
    for _ in mark_all(again, alone=True):
        pass
    return [rows[i] for i in range(len(jobs))], cached
