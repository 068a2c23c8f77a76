"""`mi-course build`: writes notebooks, executed solutions, syllabus and hashes where they are stale."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mi_course.authoring.claims import Held, fill, held, review_claims, review_held, table
from mi_course.authoring.execute import CELL_S, execute, outputs_hash, reuse
from mi_course.authoring.generate import dump, learner_notebook, solution_notebook
from mi_course.authoring.review import leaks, review, review_catalogue
from mi_course.authoring.source import BuildError, Finding, SourceCell, read_source
from mi_course.authoring.syllabus import release, syllabus
from mi_course.content import notebook_path, notebooks_dir, releases_dir, root, solutions_dir, source
from mi_course.exercises import LessonSpec
from mi_course.interp.atomic_write import atomic_write
from mi_course.lessons import LessonInfo, catalogue, join
from mi_course.version import __version__

__all__ = ["Report", "build", "check", "claims_table"]


@dataclass
class Report:
    """What a build did."""

    written: list[Path] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: str = ""
    """How far prose is held against outputs, per lesson."""


@dataclass
class _Lesson:
    info: LessonInfo
    spec: LessonSpec
    cells: list[SourceCell]
    learner: dict[str, Any]
    solution: dict[str, Any]
    held: Held
    """What the stored solution has seen; `_fill` puts it into both notebooks."""


def ours() -> tuple[LessonInfo, ...]:
    """The lessons of this package. A plug-in's are built in its own folder, by name."""
    return tuple(info for info in catalogue() if not info.folder)


def build(
    infos: Sequence[LessonInfo] | None = None,
    *,
    only: Sequence[LessonInfo] | None = None,
    force: bool = False,
    run: bool = True,
    cell_s: int = CELL_S,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Build the lessons, or `only` some of them; syllabus and hashes cover all `infos`.

    force: execute all solutions, not only stale ones. run: execute at all. Raises BuildError after the last lesson, so
    that one broken lesson does not stop the others.
    """
    infos = list(infos if infos is not None else ours())
    if any(root(info).name == "_content" for info in infos):
        raise BuildError([Finding(str(root()), 1, "is an installed course; lessons are built in a clone")])
    report, findings, lessons = Report(), [], []
    for info in infos:
        try:
            lesson = _read(info)
            if only is None or info in only:
                _build_one(lesson, report, force, run, cell_s, say)
            else:
                _fill(lesson)
            lessons.append(lesson)
        except BuildError as error:
            if only is None or info in only:
                findings += error.findings
            else:
                report.notes.append(f"{error.findings[0]}; syllabus and hashes were not updated")
    if findings:
        raise BuildError(findings)
    report.table = table([(lesson.info, lesson.cells, lesson.held) for lesson in lessons])
    if len(lessons) == len(infos):
        for path, text in _shared(lessons).items():
            _write(path, text, report)
    return report


def _build_one(
    lesson: _Lesson, report: Report, force: bool, run: bool, cell_s: int, say: Callable[[str], None]
) -> None:
    info = lesson.info
    if findings := list(review_claims(lesson.cells)):
        raise BuildError(findings)
    target = notebook_path(info, solution=True)
    old = _load(target)
    notebook = None if force or old is None else reuse(lesson.solution, old)
    if notebook is None and run:
        say(f"executing solutions/{info.notebook}.ipynb")
        executed = execute(info, lesson.solution, lesson.cells, cell_s)
        notebook = executed.notebook
        report.executed.append(info.id)
        report.notes += executed.notes
        # nbval has not passed these outputs yet.
        (root(info) / "tests" / "keys" / f"{info.notebook}.json").unlink(missing_ok=True)
    if notebook is not None:
        lesson.solution, lesson.held = notebook, held(notebook)
        if findings := list(review_held(lesson.held, lesson.cells)):
            raise BuildError(findings)
    else:
        report.notes.append(f"solutions/{info.notebook}.ipynb is stale and was not executed")
    _fill(lesson)
    _write(notebook_path(info), dump(lesson.learner), report)
    if notebook is not None:
        _write(target, dump(lesson.solution), report)


def check(infos: Sequence[LessonInfo] | None = None) -> list[Finding]:
    """All that keeps the lessons from being delivered; empty if nothing does. Executes nothing."""
    infos = list(infos if infos is not None else ours())
    findings, lessons = list(review_catalogue(infos)), []
    for info in infos:
        try:
            cells = _cells(info)
            findings += review(info, _spec(info), cells)
            findings += review_claims(cells)
            lesson = _read(info)
        except BuildError as error:
            findings += error.findings
            continue
        findings += review_held(lesson.held, cells)
        try:
            _fill(lesson)
        except BuildError as error:  # what else is wrong can be said all the same
            findings += error.findings
        lessons.append(lesson)
        findings += leaks(lesson.cells, lesson.learner, lesson.spec)
        findings += _stale(lesson)
    if len(lessons) == len(infos):
        for path, text in _shared(lessons).items():
            if _text(path) != text:
                findings.append(Finding(_relative(path), 1, "is stale; run `mi-course build`"))
    findings += _orphans(infos)
    return sorted(set(findings))


def claims_table(infos: Sequence[LessonInfo] | None = None) -> str:
    """Per lesson: cells that conclude, claims, numbers filled in, citations. Executes nothing."""
    rows = []
    for info in infos if infos is not None else ours():
        with contextlib.suppress(BuildError):  # `check` says so
            rows.append((info, _cells(info), held(_load(notebook_path(info, solution=True)))))
    return table(rows)


# ---------------------------------------------------------------------------------------------------------------------


def _cells(info: LessonInfo) -> list[SourceCell]:
    path = solutions_dir(info) / f"{info.notebook}.py"
    return read_source(path, _relative(path))


def _spec(info: LessonInfo) -> LessonSpec:
    try:
        return join(info)
    except Exception as error:
        where = info.module.replace(".", "/") + ".py"
        raise BuildError([Finding(where, 1, f"cannot be loaded: {type(error).__name__}: {error}")]) from error


def _read(info: LessonInfo) -> _Lesson:
    cells, spec = _cells(info), _spec(info)
    learner, solution = learner_notebook(info, spec, cells), solution_notebook(info, spec, cells)
    return _Lesson(info, spec, cells, learner, solution, held(_load(notebook_path(info, solution=True))))


def _fill(lesson: _Lesson) -> None:
    """Fill in what the run has seen. Raises BuildError."""
    lesson.learner = fill(lesson.learner, lesson.cells, lesson.held.seen)
    lesson.solution = fill(lesson.solution, lesson.cells, lesson.held.seen)


def _shared(lessons: Sequence[_Lesson]) -> dict[Path, str]:
    """Path -> text of the syllabus and the hashes of each folder with lessons."""
    texts = {}
    for folder in dict.fromkeys(lesson.info.folder for lesson in lessons):
        group = sorted((lesson for lesson in lessons if lesson.info.folder == folder), key=_number)
        first = group[0].info
        texts[notebooks_dir(first) / "README.md"] = syllabus((item.info, item.spec, item.learner) for item in group)
        texts[releases_dir(first) / f"{__version__}.json"] = release((item.info, item.learner) for item in group)
    return texts


def _number(lesson: _Lesson) -> int:
    return lesson.info.number


def _stale(lesson: _Lesson) -> list[Finding]:
    info, findings = lesson.info, []
    learner, executed = notebook_path(info), notebook_path(info, solution=True)
    if _text(learner) != dump(lesson.learner):
        state = "is stale, or was edited by hand" if learner.is_file() else "is missing"
        findings.append(Finding(_relative(learner), 1, f"{state}; run `mi-course build`"))
    old, where = _load(executed), _relative(executed)
    if old is None:
        state = "is not a notebook" if executed.is_file() else "is missing"
        return [*findings, Finding(where, 1, f"{state}; run `mi-course build`")]
    current = reuse(lesson.solution, old)
    if current is None or dump(current) != _text(executed):
        findings.append(Finding(where, 1, f"{_why_stale(lesson, old)}; run `mi-course build`"))
        return findings
    for cell in old["cells"]:
        line = _line_of(executed, cell["id"])
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                findings.append(Finding(where, line, f"cell {cell['id']!r} contains an error: {output.get('ename')}"))
            if " at 0x" in json.dumps(output):
                findings.append(
                    Finding(where, line, f"cell {cell['id']!r} contains a memory address, which differs in every run")
                )
    verdicts = old["metadata"]["mi_course"]["verdicts"]
    for exercise in lesson.spec.exercises:
        status = verdicts.get(exercise.id, "never checked")
        if status != "passed":
            line = _line_of(executed, f"answer-{exercise.name}")
            findings.append(Finding(where, line, f"the solution's {exercise.id} did not pass: {status}"))
    return findings


def _why_stale(lesson: _Lesson, old: dict[str, Any]) -> str:
    try:
        if old["metadata"]["mi_course"]["source_hash"] == lesson.solution["metadata"]["mi_course"]["source_hash"]:
            now = {cell["id"]: cell["source"] for cell in lesson.solution["cells"]}
            for cell in old["cells"]:
                if now.get(cell["id"]) != source(cell):
                    return f"cell {cell['id']!r} is stale, or was edited by hand"
            if old["metadata"]["mi_course"]["outputs_hash"] != outputs_hash(old):
                return "was executed by hand: its outputs are not those of the build"
    except (KeyError, TypeError, AttributeError):
        return "was not made by `mi-course build`"
    return "is stale"


def _orphans(infos: Sequence[LessonInfo]) -> list[Finding]:
    """Notebooks that belong to no lesson: a learner's that was saved here, or a renamed lesson's."""
    findings = []
    for folder in dict.fromkeys(directory(info) for info in infos for directory in (notebooks_dir, solutions_dir)):
        known = {info.notebook for info in infos if folder in (notebooks_dir(info), solutions_dir(info))}
        for path in sorted(folder.glob("*.ipynb")):
            if path.stem not in known:
                findings.append(Finding(_relative(path), 1, "belongs to no lesson of the catalogue; remove it"))
    return findings


def _line_of(path: Path, id: str) -> int:
    for number, line in enumerate((_text(path) or "").splitlines(), 1):
        if f'"id": "{id}"' in line:
            return number
    return 1


def _load(path: Path) -> dict[str, Any] | None:
    try:
        notebook = json.loads(_text(path) or "")
    except ValueError:
        return None
    return notebook if isinstance(notebook, dict) and isinstance(notebook.get("cells"), list) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str, report: Report) -> None:
    """Write the file unless it has this text already."""
    if _text(path) != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
        report.written.append(path)


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
