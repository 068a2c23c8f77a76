"""`mi-course`: thin verbs over the rooms of the course. Each imports what it needs when it is called.

Errors are one paragraph on standard error, and a status that is not zero. `MI_COURSE_DEBUG=1` shows where they were
raised.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="mi-course",
    help="Take a real language model apart, with every answer checked and every wrong answer explained.",
    epilog="Begin with: mi-course lab",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    models_app,
    name="models",
    help="Models: which there are, and fetching one for work without network.",
    epilog="Example: mi-course models fetch smollm2",
)
export_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    export_app,
    name="export",
    help="The exercises for other people's graders: nbgrader, Gradescope, GitHub Classroom.",
    epilog="Example: mi-course export gradescope autograder.zip --lesson 2",
)

Folder = Annotated[Path, typer.Option("--dir", help="The folder with your notebooks.")]
HERE = Path("mi-course")
USAGE = 2
"""The exit status for a command that cannot be carried out as it was given. 1: it was, and something did not pass."""


class Stop(Exception):
    """An error of the user's or of the machine's, in one paragraph."""


def main() -> None:
    """The entry point of `mi-course`."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no "●" still shows the rest
        sys.stderr.reconfigure(errors="replace")
    if os.environ.get("MI_COURSE_DEBUG"):
        app(prog_name="mi-course")
        return
    try:
        status = app(prog_name="mi-course", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `mi-course status | head`: whoever reads has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `mi-course` alone: its message is the help
            typer.echo(error.format_message())
            sys.exit(0)
        sys.stderr.write(_paragraph(error) + "\n")
        sys.exit(USAGE)


def _paragraph(error: Exception) -> str:
    if hasattr(error, "format_message"):  # typer's own: a word or an option that it does not know
        asked = getattr(getattr(error, "ctx", None), "command_path", "mi-course")
        error = Stop(f"{error.format_message()} `{asked} --help` shows what there is.")
    expected = isinstance(error, Stop | OSError) or type(error).__name__ in (
        "BuildError",
        "ClusterError",
        "LabError",
        "ModelError",
        "RuntimeError",
        "SandboxError",
        "SubmissionError",
    )
    if type(error) is OSError or isinstance(error, PermissionError):
        return f"mi-course: {error.filename or ''}: {error.strerror or error}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if not expected and not isinstance(error, KeyError):
        text = f"{type(error).__name__}: {text} (set MI_COURSE_DEBUG=1 to see where it comes from)"
    return f"mi-course: {text}" if "\n" in text else textwrap.fill(f"mi-course: {text}", 100, break_long_words=False)


# ---------------------------------------------------------------------------------------------------------------------
# Learning


@app.command(epilog="Example: mi-course lab --lesson 2")
def lab(
    folder: Folder = HERE,
    lesson: Annotated[str | None, typer.Option(help="Open this lesson, by number or id.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Carry your answers over into newer notebooks.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Bring the notebooks, do not open JupyterLab.")] = False,
) -> None:
    """Bring the notebooks into a folder of yours, and open JupyterLab there.

    Your own work is never overwritten: a newer notebook is put beside one that you changed.
    """
    if no_start:
        from mi_course.workspace import Workspace

        for change in Workspace(folder.expanduser().resolve()).update(upgrade):
            typer.echo(f"{change.what:>8}  {change.path.name}{': ' + change.message if change.message else ''}")
        return
    from mi_course.lab import open_lab

    raise typer.Exit(open_lab(folder, lesson, browser=not no_browser, upgrade=upgrade, say=typer.echo))


@app.command(epilog="Example: mi-course check mi-course/02_induction_heads.ipynb")
def check(
    notebooks: Annotated[list[Path], typer.Argument(metavar="NOTEBOOK", help="Your notebooks (.ipynb or .py).")],
    lesson: Annotated[str | None, typer.Option(help="Which lesson it is, if the file does not tell.")] = None,
    seconds: Annotated[float, typer.Option(help="How long a cell may take without a check.")] = 300.0,
) -> None:
    """Check your own notebook outside Jupyter.

    Runs the answers, and the cells that you added or changed, in a fresh Python process. Ends with status 0 if
    everything passed, 1 if not, 2 if a file is no notebook of the course.
    """
    from mi_course.checking import check_submission
    from mi_course.submission import SubmissionError, read

    status = 0
    for path in notebooks:
        try:
            submission = read(path, lesson)
        except SubmissionError as error:
            sys.stderr.write(_paragraph(error) + "\n")
            status = USAGE
            continue
        outcome = check_submission(submission, path.resolve().parent, seconds)
        _show_check(path, submission, outcome)
        status = status or (0 if outcome.passed else 1)
    raise typer.Exit(status)


def _show_check(path: Path, submission: Any, outcome: Any) -> None:
    earned = sum(result.points for result in outcome.results)
    worth = sum(result.max_points for result in outcome.results)
    typer.echo(f"{path.name} · {submission.info.title} · {earned} of {worth} points")
    rows = [
        (
            result.exercise.partition(".")[2],
            result.status.replace("_", " "),
            f"{result.points}/{result.max_points}",
            "" if result.status == "passed" else result.message,
        )
        for result in outcome.results
    ]
    _table(("exercise", "status", "points", "message"), rows)
    answered = {cell.position: cell.answers for cell in submission.cells}
    for position, message in sorted(outcome.errors.items()):
        if not answered.get(position):
            typer.echo(f"Cell {position} stopped: {message}")
    for note in submission.notes:
        typer.echo(f"Note: {note}.")


@app.command(epilog="Example: mi-course status --lesson 2")
def status(
    lesson: Annotated[str | None, typer.Option(help="One lesson, by number or id.")] = None,
) -> None:
    """What you have passed, tried and looked up."""
    from mi_course.lessons import find
    from mi_course.progress import Progress

    rows = Progress().rows(find(lesson).id if lesson is not None else None)
    if not rows:
        typer.echo("Nothing tried yet. `mi-course lab` opens the course.")
        return
    shown = [
        (
            row.exercise,
            row.status.replace("_", " "),
            f"{row.points}/{row.max_points}" if row.revision else "",
            str(row.attempts or ""),
            f"{row.hints or ''}{' + solution' if row.solution_seen else ''}".removeprefix(" + "),
        )
        for row in rows
    ]
    _table(("exercise", "status", "points", "tries", "hints seen"), shown)
    passed = sum(row.status == "passed" for row in rows)
    typer.echo(f"{passed} passed, {sum(row.points for row in rows)} points")


@app.command(epilog="Example: mi-course hint induction_heads.induction_score")
def hint(id: Annotated[str, typer.Argument(metavar="ID", help="The exercise: lesson.name.")]) -> None:
    """The next hint for an exercise. Which were shown is remembered."""
    typer.echo(str(_exercise(id).hint()))


@app.command(epilog="Example: mi-course solution induction_heads.induction_score")
def solution(id: Annotated[str, typer.Argument(metavar="ID", help="The exercise: lesson.name.")]) -> None:
    """The course's answer to an exercise, with its reasons."""
    typer.echo(str(_exercise(id).solution()))


def _exercise(id: str) -> Any:
    import mi_course
    from mi_course.lessons import find

    lesson, _, name = id.partition(".")
    find(lesson)
    if not name:
        raise Stop(f"{id} is a lesson. Name one of its exercises too: {id}.NAME; `mi-course status` lists yours.")
    return mi_course.exercise(id)


@app.command(epilog="Example: mi-course reset 02 induction_score")
def reset(
    lesson: Annotated[str, typer.Argument(metavar="NN", help="The lesson, by number or id.")],
    id: Annotated[str | None, typer.Argument(metavar="ID", help="One exercise; else the whole notebook.")] = None,
    folder: Folder = HERE,
) -> None:
    """A notebook, or the cell of one exercise, as it was at first. Yours is kept in backups/."""
    from mi_course.workspace import BACKUPS, Workspace

    for change in Workspace(folder.expanduser().resolve()).reset(lesson, id):
        what = f"The cell of {change.message} in {change.path.name}" if change.message else change.path.name
        typer.echo(f"{what} is as it was at first. What it was before is in {folder / BACKUPS}.")


# ---------------------------------------------------------------------------------------------------------------------
# The machine


@models_app.command("list", epilog="Example: mi-course models list")
def list_() -> None:
    """The models that load by name, and which of them are on this machine."""
    from mi_course.interp.models import cache_dir, list_models

    rows = [
        (
            model.name,
            model.kind,
            f"{model.bytes / 1e6:,.1f} MB",
            "here" if model.present else "not fetched",
            model.license,
        )
        for model in list_models()
    ]
    _table(("model", "from", "size", "", "licence"), rows)
    typer.echo(f"Fetched models are in {cache_dir()}")


@models_app.command(epilog="Example: mi-course models fetch smollm2")
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="smollm2, or a Hugging Face name.")]) -> None:
    """Fetch a model, so that loading it needs no network afterwards."""
    from mi_course.interp.models import fetch

    typer.echo(f"{name} is in {fetch(name)}")


@app.command(epilog="Example: mi-course doctor")
def doctor(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """What works on this machine, and what to do about the rest. Status 1 if something is missing."""
    from mi_course.doctor import examine, table, to_json
    from mi_course.grading.sandbox.diagnosis import sandbox

    findings = examine(sandbox)
    if json:
        typer.echo(to_json(findings))
    else:
        from rich.console import Console

        Console(highlight=False).print(table(findings))
    raise typer.Exit(int(any(finding.state == "missing" for finding in findings)))


# ---------------------------------------------------------------------------------------------------------------------
# Teaching


@app.command(epilog="Example: mi-course grade submissions --out marks -j 2")
def grade(
    submissions: Annotated[Path, typer.Argument(metavar="SUBMISSIONS", help="A folder of notebooks, folders or zips.")],
    out: Annotated[Path, typer.Option(help="The folder for marks.csv and marks.json.")],
    lesson: Annotated[str | None, typer.Option(help="Which lesson all are of, if the files do not tell.")] = None,
    workers: Annotated[int | None, typer.Option("-j", "--workers", min=1, help="By default one for each core.")] = None,
    unsandboxed: Annotated[
        bool, typer.Option("--unsandboxed", help="Run submissions with your own rights. Every result will say so.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option("--format", help="More than csv and json: junit,gradescope,classroom,feedback (any, by comma)."),
    ] = "",
    similar: Annotated[bool, typer.Option("--similar", help="List answers that are alike.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Mark on the workers of this Dask scheduler."),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="SUBMISSIONS is one submission, not a folder of them.")
    ] = False,
) -> None:
    """Mark a folder of untrusted submissions, each answer in a sandbox.

    Every submission ends in one row. Interrupted, the same command goes on where it stopped; what has not changed is
    not marked again.
    """
    from mi_course.grading import grade as marking
    from mi_course.grading.formats import chosen

    def progress(done: int, of: int, left_s: float) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\r{done} of {of} marked, about {left_s:.0f} s to go \033[K" + ("\n" if done == of else "")
            )
            sys.stderr.flush()
        elif done == of or done % 10 == 0:
            sys.stderr.write(f"{done} of {of} marked, about {left_s:.0f} s to go\n")

    try:
        report = marking(
            submissions,
            out,
            lesson=lesson,
            workers=workers,
            unsandboxed=unsandboxed,
            single=single,
            formats=chosen(formats),
            similar=similar,
            cluster=cluster,
            progress=progress,
        )
    except (ValueError, FileNotFoundError) as error:
        raise Stop(f"{submissions}: {error.strerror}" if isinstance(error, OSError) else str(error)) from None
    if unsandboxed:
        sys.stderr.write("Marked WITHOUT a sandbox: whatever was in the submissions ran with your rights.\n")
    unreadable = sum(row.status != "marked" for row in report.rows)
    told = f"{len(report.rows)} submissions, {report.cached} of them as marked before, {unreadable} unreadable"
    files = ", ".join(str(path) for path in (out / "marks.csv", out / "marks.json", *report.files))
    typer.echo(f"{told}, in {report.seconds:.0f} s: {files}")
    if report.similar is not None:
        _show_similar(report.similar)
    for problem in report.problems:
        sys.stderr.write(_paragraph(Stop(problem)) + "\n")
    raise typer.Exit(int(bool(report.problems)))


def _show_similar(pairs: Any) -> None:
    most = 30
    if not pairs:
        typer.echo("No answers are alike beyond what short or common ones must be.")
        return
    typer.echo("Alike, for you to look at; it proves nothing by itself:")
    rows = [
        (
            pair.exercise,
            f"{pair.similarity:.0%}",
            "same names" if pair.same_names else "",
            f"{_line(pair.first)} · {_line(pair.second)}",
        )
        for pair in pairs[:most]
    ]
    _table(("exercise", "alike", "", "submissions"), rows)
    if len(pairs) > most:
        typer.echo(f"and {len(pairs) - most} more in similar.csv")


def _line(name: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


OneLesson = Annotated[str | None, typer.Option("--lesson", help="By number or id.")]


@export_app.command("nbgrader", epilog="Example: mi-course export nbgrader course --lesson 0")
def export_nbgrader(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="nbgrader's course folder.")],
    lesson: Annotated[list[str] | None, typer.Option(help="Only this lesson, by number or id; repeatable.")] = None,
) -> None:
    """nbgrader assignments, with solutions and hidden tests, in DIR/source.

    nbgrader runs submissions without a sandbox: docs/grading.md says what that costs.
    """
    from mi_course.grading.exports.nbgrader import export

    _wrote(export(folder, lesson or ()))


@export_app.command("gradescope", epilog="Example: mi-course export gradescope autograder.zip --lesson 2")
def export_gradescope(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="The zip to upload.")],
    lesson: OneLesson = None,
    torch_options: Annotated[
        str, typer.Option(help="For pip when it installs torch: where PyTorch's CPU builds are.")
    ] = "",
) -> None:
    """A Gradescope autograder as a zip. It holds the solutions: do not hand it to learners."""
    from mi_course.grading.exports.gradescope import export

    try:
        _wrote([export(file, lesson, torch_options)])
    except ValueError as error:
        raise Stop(str(error)) from None


@export_app.command("classroom", epilog="Example: mi-course export classroom template-repository --lesson 2")
def export_classroom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The assignment's template repository.")],
    lesson: Annotated[str, typer.Option(help="By number or id.")],
    install: Annotated[str, typer.Option(help="What pip installs the course from.")] = "mi-course",
) -> None:
    """A GitHub Classroom workflow, which marks each push."""
    from mi_course.grading.exports.classroom import export

    try:
        _wrote(export(folder, lesson, install))
    except ValueError as error:
        raise Stop(str(error)) from None


def _wrote(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@app.command(epilog="Example: mi-course build --check")
def build(
    lesson: Annotated[list[str] | None, typer.Option(help="Only this lesson, by number or id; repeatable.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Build nothing; list what is not in order.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Execute solutions that are not stale too.")] = False,
    no_execute: Annotated[bool, typer.Option("--no-execute", help="Make notebooks/ only.")] = False,
) -> None:
    """Make notebooks/ and the executed solutions from solutions/*.py (for authors).

    Only what is stale is executed. Other people's lessons are built where they live when they are named.
    """
    from mi_course.authoring import build as building
    from mi_course.authoring.source import BuildError
    from mi_course.lessons import catalogue, find

    chosen = [find(one) for one in lesson] if lesson else None
    folders = {info.folder for info in chosen} if chosen else {""}
    infos = [info for info in catalogue() if info.folder in folders]
    if check:
        findings = building.check(infos)
        for finding in findings:
            typer.echo(str(finding))
        many = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        typer.echo(many if findings else "all in order")
        raise typer.Exit(int(bool(findings)))
    try:
        report = building.build(infos, only=chosen, force=force, run=not no_execute, say=typer.echo)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    for path in report.written:
        typer.echo(f"wrote {os.path.relpath(path)}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    if not report.written:
        typer.echo("nothing was stale")


# ---------------------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns that fit a terminal; the last one takes the rest and wraps. Plain text where nobody looks."""
    import shutil

    width = shutil.get_terminal_size((120, 24)).columns
    sizes = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    indent = sum(sizes) + 2 * len(sizes)
    for row in [head, *rows]:
        first = "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False))
        lines = [one for part in row[-1].splitlines() for one in textwrap.wrap(part, max(width - indent, 30))] or [""]
        typer.echo(f"{first}  {lines[0]}".rstrip())
        for line in lines[1:]:
            typer.echo(" " * indent + line)
