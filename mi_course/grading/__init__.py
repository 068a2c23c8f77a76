"""Marks for a folder of untrusted submissions.

    report = grade(Path("submissions"), Path("marks"))

Answers run in a sandbox that knows no truth (`sandbox/`), and are judged here, where no code of theirs ever runs. What
is where: `intake` reads files, `mi_course.submission` says which cells are run, `sandboxed_asking` asks and survives,
`marking` judges, `workers` spreads the load over this machine's cores and `cluster` over many machines, `store` keeps
and writes.

The rule for duplicates: of several definitions of one name the last counts, in the order of the notebook, and of
several notebooks of one lesson in one submission the last by name; both are noted in the row. Values that an outcome
exercise judges are taken from the last record that `check` left in the notebook; where there is none, the name itself
is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mi_course.grading.marking import Marks
    from mi_course.grading.similar import Pair

__all__ = ["Report", "grade"]


@dataclass(frozen=True)
class Report:
    """What a run of the grader came to."""

    rows: tuple[Marks, ...]
    """One for each submission, by name."""
    cached: int
    """How many of them were taken from an earlier run."""
    seconds: float
    files: tuple[Path, ...] = ()
    """What was written beyond marks.csv and marks.json."""
    problems: tuple[str, ...] = ()
    """What of an instructor's overrides could not be applied."""
    similar: tuple[Pair, ...] | None = None
    """Answers that are alike, where that was asked."""


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
    progress: Callable[[int, int, float], None] | None = None,
) -> Report:
    """Marks every submission in a folder (or one file) and writes `out/marks.csv` and `out/marks.json`.

    single: the folder is one submission, not a folder of them. formats: of `formats.FORMATS`. similar: compare
    answers and write `out/similar.csv`.
    lesson: the lesson that all are of; otherwise each notebook tells. workers: by default one for each core.
    cluster: the address of a Dask scheduler, whose workers mark in place of workers here.
    progress: called with (done, all, seconds still to go) after each submission. Killed at any point, a second call
    goes on where the first one ended.
    Raises FileNotFoundError or ValueError without submissions, SandboxError without a sandbox,
    ClusterError without a cluster that works, and KeyError for an unknown lesson.
    """
    import time

    from mi_course.grading import intake
    from mi_course.grading.cluster import Cluster
    from mi_course.grading.sandbox import Sandbox
    from mi_course.lessons import find

    began = time.monotonic()
    if lesson is not None:
        find(lesson)
    entries = [intake.Entry(submissions.resolve().name, submissions)] if single else intake.find(submissions)
    if cluster and workers:
        raise ValueError("Either workers here (-j), or those of a cluster (--cluster), not both.")
    with Cluster(cluster, unsandboxed) if cluster else Sandbox.start(unsandboxed) as place:
        # The sandbox' server imports torch in one process while this one does.
        import torch

        torch.set_num_threads(1)
        from mi_course.grading.outputs import finish
        from mi_course.grading.store import Store

        store = Store(out)
        run = _Run(entries, store, place, lesson)
        rows = run.cached()
        cached = len(rows)
        todo = [i for i in range(len(entries)) if i not in rows]
        if todo:
            spread = run.on_cluster(todo) if cluster else run.here(todo, workers or os.cpu_count() or 1)
            run.mark(spread, len(todo), rows, progress)
    found, problems, files = finish([rows[i] for i in range(len(entries))], out, formats)
    pairs = None
    if similar:
        from mi_course.grading import similar as likeness

        pairs = tuple(likeness.similar(entries, lesson, [row.submission for row in found]))
        likeness.write(out / "similar.csv", pairs)
        files.append(out / "similar.csv")
    return Report(found, cached, time.monotonic() - began, tuple(files), tuple(problems), pairs)


class _Run:
    """place: the sandbox, or the cluster, where it is marked."""

    def __init__(self, entries: list[Any], store: Any, place: Any, lesson: str | int | None) -> None:
        self.entries, self.store, self.place, self.lesson = entries, store, place, lesson
        self.keys: dict[int, str] = {}

    def cached(self) -> dict[int, Marks]:
        """The submissions that were marked before, just as they are now."""
        from mi_course.grading.intake import load
        from mi_course.grading.marking import content_hash

        rows = {}
        for i, entry in enumerate(self.entries):
            self.keys[i] = self.store.key(content_hash(load(entry)), self.lesson, self.place.sandboxed)
            found = self.store.get(self.keys[i], printable_name(entry.name))
            if found is not None:
                rows[i] = found
        return rows

    def mark(
        self,
        spread: Iterator[tuple[int, str]],
        count: int,
        rows: dict[int, Marks],
        progress: Callable[[int, int, float], None] | None,
    ) -> None:
        """Takes in `count` submissions as `spread` finishes them, with what was in the way of each."""
        import time

        from mi_course.grading.marking import failed

        began = time.monotonic()
        for done, (i, trouble) in enumerate(spread, 1):
            name = printable_name(self.entries[i].name)
            found = None if trouble else self.store.get(self.keys[i], name)
            rows[i] = found or failed(name, trouble or "Its marks could not be stored.", self.place.sandboxed)
            if progress:
                progress(done, count, (time.monotonic() - began) / done * (count - done))

    def here(self, todo: list[int], workers: int) -> Iterator[tuple[int, str]]:
        from mi_course.grading.workers import run

        prepare(self.place)
        return run(workers, self._one, todo, limit_s=1800.0)

    def on_cluster(self, todo: list[int]) -> Iterator[tuple[int, str]]:
        from mi_course.grading.cluster_worker import job_of
        from mi_course.grading.intake import load
        from mi_course.grading.store import course_fingerprint, marks_of

        def job(i: int) -> str:
            entry = self.entries[i]
            return job_of(printable_name(entry.name), load(entry), self.lesson, self.store.secret, course_fingerprint())

        for i, marks, trouble in self.place.run(job, todo):
            if not trouble:
                self.store.put(self.keys[i], marks_of(marks, printable_name(self.entries[i].name)))
            yield i, trouble

    def _one(self, i: int) -> None:
        """In a worker."""
        import warnings

        from mi_course.grading.intake import load
        from mi_course.grading.marking import mark

        warnings.simplefilter("ignore")  # Python warns of what it parses: a learner's `"\\d"` is no concern of ours
        entry = self.entries[i]
        marks = mark(printable_name(entry.name), load(entry), self.place, self.store.secret, self.lesson)
        self.store.put(self.keys[i], marks)


def prepare(sandbox: Any) -> None:
    """Waits for the server, and has it boot the models that the lessons ask about. Boots them here too, for judging."""
    from mi_course import lessons
    from mi_course.asking import include, observe
    from mi_course.wire import Ask, Call, Ref

    for module in lessons.asking_modules():
        include(module)
    configs: dict[str, dict[str, Any]] = {}
    for info in lessons.catalogue():
        for exercise in lessons.load(info.id).exercises:
            if exercise.kind == "function":
                for ask in exercise.plan(0).asks:
                    for config in _configs(ask.calls):
                        configs[repr(config)] = config
    sandbox.wait(list(configs.values()), lessons.asking_modules())
    for config in configs.values():
        observe(lambda model: 0, Ask((Call((Ref("model", {"config": config, "seed": 0}),)),)))


def _configs(value: Any) -> list[dict[str, Any]]:
    """Configurations of the models that calls refer to."""
    from mi_course.wire import Call, Ref

    if isinstance(value, Ref):
        own = [value.options["config"]] if value.kind == "model" and "config" in value.options else []
        return own + _configs(value.options)
    if isinstance(value, Call):
        return _configs([value.args, value.options])
    if isinstance(value, dict):
        value = list(value.values())
    return [config for item in value for config in _configs(item)] if isinstance(value, (list, tuple)) else []


def printable_name(name: str) -> str:
    """A file's name as text that can be written anywhere."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
