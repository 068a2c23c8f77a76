"""The command line, `mi-course`. Each command imports what it needs when it is called.

Errors are one paragraph on standard error, with a non-zero exit status. `MI_COURSE_DEBUG=1` shows the traceback.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from mi_course.errors import CourseError

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
    help="List models, and fetch one for work without network.",
    epilog="Example: mi-course models fetch smollm2",
)
export_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
sae_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    sae_app,
    name="sae",
    help="Train sparse autoencoders on a model of your own, without a notebook.",
    epilog="Example: mi-course sae train sae.toml",
)
new_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    new_app,
    name="new",
    help="Write the files of a new lesson or exercise (for authors).",
    epilog="Example: mi-course new exercise induction_heads.my_function",
)
workshop_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    workshop_app,
    name="workshop",
    help="A live board for a room: begin one, join one, leave it.",
    epilog="Example: mi-course workshop serve",
)
app.add_typer(
    export_app,
    name="export",
    help="Export the exercises to other graders: nbgrader, Gradescope, GitHub Classroom.",
    epilog="Example: mi-course export gradescope autograder.zip --lesson 2",
)

Folder = Annotated[Path, typer.Option("--dir", help="The folder with your notebooks.")]
DEFAULT_FOLDER = Path("mi-course")
USAGE_ERROR = 2
"""The exit status of a command that could not be carried out. 1: it was, and something did not pass."""


def main() -> None:
    """The entry point of `mi-course`."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "●" still shows the rest
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
        # `mi-course status | head`: the reader has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `mi-course` alone; typer does not export the class
            typer.echo(error.format_message())
            sys.exit(0)
        sys.stderr.write(_paragraph(error) + "\n")
        sys.exit(USAGE_ERROR)


def _paragraph(error: Exception) -> str:
    """What standard error shows of an exception: the message of an expected error, the type of any other too."""
    if hasattr(error, "format_message"):  # typer's own: an unknown command or option
        command = getattr(getattr(error, "ctx", None), "command_path", "mi-course")
        error = CourseError(f"{error.format_message()} `{command} --help` shows what there is.")
    if type(error) is OSError or isinstance(error, PermissionError):
        return f"mi-course: {error.filename or ''}: {error.strerror or error}"
    text = str(error)
    if not isinstance(error, CourseError | OSError):
        text = f"{type(error).__name__}: {text} (set MI_COURSE_DEBUG=1 to see where it was raised)"
    return f"mi-course: {text}" if "\n" in text else textwrap.fill(f"mi-course: {text}", 100, break_long_words=False)


# ---------------------------------------------------------------------------------------------------------------------
# Learning


@app.command(epilog="Example: mi-course lab --lesson 2")
def lab(
    folder: Folder = DEFAULT_FOLDER,
    lesson: Annotated[str | None, typer.Option(help="Open this lesson (number or id).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Carry your answers over into newer notebooks.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Copy the notebooks, do not start JupyterLab.")] = False,
) -> None:
    """Copy the notebooks into a folder of yours, and open JupyterLab there.

    Your work is never overwritten: a newer notebook is put beside one that you changed.
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
    lesson: Annotated[str | None, typer.Option(help="The lesson, if the file does not say.")] = None,
    seconds: Annotated[float, typer.Option(help="Time limit for each cell.")] = 300.0,
) -> None:
    """Check your own notebooks outside Jupyter.

    Runs the answers, and the cells that you added or changed, in a fresh Python process. The exit status is 0 if
    everything passed, 1 if not, 2 if a file is not a notebook of the course.
    """
    from mi_course.checking import check_submission
    from mi_course.submission import SubmissionError, read

    status = 0
    for path in notebooks:
        try:
            submission = read(path, lesson)
        except SubmissionError as error:
            sys.stderr.write(_paragraph(error) + "\n")
            status = USAGE_ERROR
            continue
        outcome = check_submission(submission, path.resolve().parent, seconds)
        _show_check(path, submission, outcome)
        status = status or (0 if outcome.passed else 1)
    raise typer.Exit(status)


def _show_check(path: Path, submission: Any, outcome: Any) -> None:
    earned = sum(result.points for result in outcome.results)
    available = sum(result.max_points for result in outcome.results)
    typer.echo(f"{path.name} · {submission.info.title} · {earned} of {available} points")
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
    lesson: Annotated[str | None, typer.Option(help="Only this lesson (number or id).")] = None,
) -> None:
    """Show what you have passed, tried and looked up."""
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
    """Show the next hint for an exercise. The hints shown are recorded."""
    typer.echo(str(_exercise(id).hint()))


@app.command(epilog="Example: mi-course solution induction_heads.induction_score")
def solution(id: Annotated[str, typer.Argument(metavar="ID", help="The exercise: lesson.name.")]) -> None:
    """Show the course's answer to an exercise and the reasons for it."""
    typer.echo(str(_exercise(id).solution()))


def _exercise(id: str) -> Any:
    import mi_course
    from mi_course.lessons import find

    lesson, _, name = id.partition(".")
    find(lesson)
    if not name:
        raise CourseError(f"{id} is a lesson. Name one of its exercises: {id}.NAME. `mi-course status` lists yours.")
    return mi_course.exercise(id)


@app.command(epilog="Example: mi-course reset 02 induction_score")
def reset(
    lesson: Annotated[str, typer.Argument(metavar="NN", help="The lesson (number or id).")],
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this exercise, not the whole notebook.")] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Reset a notebook, or the cell of one exercise, to its original state. Yours is kept in backups/."""
    from mi_course.workspace import BACKUPS, Workspace

    for change in Workspace(folder.expanduser().resolve()).reset(lesson, id):
        what = f"The cell of {change.message} in {change.path.name}" if change.message else change.path.name
        typer.echo(f"{what} is back to its original state. Your version is in {folder / BACKUPS}.")


# ---------------------------------------------------------------------------------------------------------------------
# The machine


@models_app.command("list", epilog="Example: mi-course models list")
def list_() -> None:
    """List the models that load by name, and whether they are on this machine; and the SAEs that ship."""
    from mi_course.interp.models import cache_dir, list_models
    from mi_course.interp.shipped_saes import shipped_card, shipped_names

    rows = [
        (
            model.name,
            model.kind,
            f"{model.bytes / 1e6:,.1f} MB",
            "present" if model.present else "not fetched",
            model.license,
        )
        for model in list_models()
    ]
    _table(("model", "from", "size", "", "license"), rows)
    typer.echo(f"Fetched models are in {cache_dir()}.")
    if saes := shipped_names():
        typer.echo("\nSparse autoencoders that ship with the course, for load_shipped(name); cards in docs/saes.md:\n")
        _table(
            ("SAE", "place", "latents", "L0", "explained", "loss rises by"),
            [_sae_row(name, shipped_card(name)) for name in saes],
        )


def _sae_row(name: str, card: dict[str, Any]) -> tuple[str, ...]:
    from mi_course.interp.shipped_saes import mean_rise

    return (
        name,
        f"{card['hook']} → {card['target']}" if card["target"] else card["hook"],
        f"{card['n_latents']:,}",
        f"{card['l0']:.1f}",
        f"{card['explained_variance']:.1%}",
        f"{mean_rise(card):.3f} nats",
    )


@models_app.command(epilog="Example: mi-course models fetch smollm2")
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="smollm2, or a Hugging Face name.")]) -> None:
    """Fetch a model, so that loading it needs no network afterwards."""
    from mi_course.interp.models import fetch

    typer.echo(f"{name} is in {fetch(name)}")


@app.command(epilog="Example: mi-course doctor")
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Also load the model and check an exercise, without network.")
    ] = False,
    send: Annotated[
        bool,
        typer.Option("--send", help="Tell the workshop that you have joined: the names of the checks, and ok or not."),
    ] = False,
) -> None:
    """Show what works on this machine, and how to fix the rest. The exit status is 1 if something is missing."""
    from mi_course.doctor import examine, to_json
    from mi_course.doctor import offline as examine_offline
    from mi_course.grading.sandbox.diagnosis import sandbox

    findings = examine(sandbox, *([examine_offline] if offline else []))
    if json:
        typer.echo(to_json(findings))
    else:
        rows = [(f.state, f.what, f"{f.seen}\n→ {f.todo}" if f.todo else f.seen) for f in findings]
        _table(("", "what", "seen"), rows)
    if send:
        from mi_course.workshop.client import report_ready

        # A grader's sandbox is no learner's concern.
        typer.echo(report_ready({f.what: f.state for f in findings if f.what != "sandbox"}), err=json)
    raise typer.Exit(int(any(finding.state == "missing" for finding in findings)))


# ---------------------------------------------------------------------------------------------------------------------
# Teaching


@app.command(epilog="Example: mi-course grade submissions --out marks -j 2")
def grade(
    submissions: Annotated[Path, typer.Argument(metavar="SUBMISSIONS", help="A folder of notebooks, folders or zips.")],
    out: Annotated[Path, typer.Option(help="The folder for marks.csv and marks.json.")],
    lesson: Annotated[str | None, typer.Option(help="The lesson of all files, if they do not say.")] = None,
    workers: Annotated[int | None, typer.Option("-j", "--workers", min=1, help="Default: one per core.")] = None,
    unsandboxed: Annotated[
        bool, typer.Option("--unsandboxed", help="Run submissions with your own rights. Every result says so.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option("--format", help="Further formats, separated by commas: junit,gradescope,classroom,feedback."),
    ] = "",
    similar: Annotated[bool, typer.Option("--similar", help="List similar answers.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Mark on the workers of this Dask scheduler."),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="SUBMISSIONS is one submission, not a folder of them.")
    ] = False,
) -> None:
    """Mark a folder of untrusted submissions, each in a sandbox.

    Every submission gets one row. If interrupted, the same command continues where it stopped; unchanged submissions
    are not marked again.
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
        raise CourseError(f"{submissions}: {error.strerror}" if isinstance(error, OSError) else str(error)) from None
    if unsandboxed:
        sys.stderr.write("Marked WITHOUT a sandbox: whatever was in the submissions ran with your rights.\n")
    unreadable = sum(row.status != "marked" for row in report.rows)
    counts = f"{len(report.rows)} submissions, {report.cached} of them as marked before, {unreadable} unreadable"
    files = ", ".join(str(path) for path in (out / "marks.csv", out / "marks.json", *report.files))
    typer.echo(f"{counts}, in {report.seconds:.0f} s: {files}")
    if report.similar is not None:
        _show_similar(report.similar)
    for problem in report.problems:
        sys.stderr.write(_paragraph(CourseError(problem)) + "\n")
    raise typer.Exit(int(bool(report.problems)))


def _show_similar(pairs: Any) -> None:
    shown = 30
    if not pairs:
        typer.echo("No answers are more similar than short or common ones must be.")
        return
    typer.echo("Similar answers, for you to look at; similarity alone proves nothing:")
    rows = [
        (
            pair.exercise,
            f"{pair.similarity:.0%}",
            "same names" if pair.same_names else "",
            f"{_printable(pair.first)} · {_printable(pair.second)}",
        )
        for pair in pairs[:shown]
    ]
    _table(("exercise", "similarity", "", "submissions"), rows)
    if len(pairs) > shown:
        typer.echo(f"and {len(pairs) - shown} more in similar.csv")


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


# ---------------------------------------------------------------------------------------------------------------------
# A workshop

Database = Annotated[
    str, typer.Option("--database", metavar="FILE", help="Another file, or postgresql://… for several servers.")
]


@workshop_app.command("serve", epilog='Example: mi-course workshop serve --title "Interpretability in a day"')
def workshop_serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8765,
    database: Database = "",
    title: Annotated[str, typer.Option(help="What the board is called.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Begin a new workshop; otherwise the last one goes on.")] = False,
    address: Annotated[
        str, typer.Option(metavar="URL", help="Where learners reach it, if a proxy or another name is in front.")
    ] = "",
    prefix: Annotated[str, typer.Option(help="A path that the proxy in front does not take away.")] = "",
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Serve HTTPS (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Forwarded-For of a proxy on this machine.")
    ] = False,
    hub: Annotated[bool, typer.Option("--hub", help="Run as a service that JupyterHub manages.")] = False,
    code: Annotated[
        str, typer.Option(envvar="MI_COURSE_WORKSHOP_CODE", help="A join code of your own, for a JupyterHub.")
    ] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Delete workshops this many days after their end.")] = 30,
    lead: Annotated[str, typer.Option(help="Your name, for those whose hand you take.")] = "lead",
) -> None:
    """Open the board, and print the address, the join code and your link. Ctrl-C closes it and loses nothing."""
    try:
        from mi_course.workshop.serve import Options, serve

        options = Options(
            host,
            port,
            database,
            title,
            new,
            address,
            prefix,
            tls_certificate,
            tls_key,
            behind_proxy,
            hub,
            code,
            days,
            lead,
        )
        serve(options, typer.echo)
    except ModuleNotFoundError as error:
        raise CourseError(f"The board needs {error.name}: pip install 'mi-course[workshop]'.") from None


@workshop_app.command("lead", epilog="Example: mi-course workshop lead Ana --address http://192.168.1.20:8765")
def workshop_lead(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lead's name.")],
    address: Annotated[str, typer.Option(metavar="URL", help="The board's address.")] = "http://127.0.0.1:8765",
    database: Database = "",
) -> None:
    """Print a link that makes whoever opens it first a lead. The board can do this too."""
    from mi_course.workshop.serve import lead

    typer.echo(lead(database, name, address))


@workshop_app.command("join", epilog="Example: mi-course workshop join K7QD-2M4X@192.168.1.20:8765")
def workshop_join(
    invitation: Annotated[str, typer.Argument(metavar="CODE@ADDRESS", help="What stands on the wall.")],
    name: Annotated[str | None, typer.Option(help="A pseudonym of your own; otherwise you get one.")] = None,
    table: Annotated[str, typer.Option(help="Your table or group.")] = "",
    return_key: Annotated[
        str | None, typer.Option(help="What you got when you joined, to come back under your name.")
    ] = None,
) -> None:
    """Take part in a workshop. From then on your notebooks report verdicts, and nothing else."""
    from mi_course.workshop.client import join

    typer.echo(str(join(invitation, name, table=table, return_key=return_key)))


@workshop_app.command("leave", epilog="Example: mi-course workshop leave")
def workshop_leave() -> None:
    """Leave the workshop: nothing is reported any more."""
    from mi_course.workshop.client import leave

    typer.echo(str(leave()))


@workshop_app.command("status", epilog="Example: mi-course workshop status")
def workshop_status() -> None:
    """Show whether this machine takes part in a workshop, and what was sent."""
    from mi_course.workshop.client import status

    typer.echo(str(status()))


@workshop_app.command("export", epilog="Example: mi-course workshop export afterwards")
def workshop_export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.")], database: Database = ""
) -> None:
    """Write the last workshop's summary as a page, CSV and JSON."""
    from mi_course.workshop.serve import export

    _wrote(export(database, folder))


@workshop_app.command("forget", epilog='Example: mi-course workshop forget "swift-otter-27"')
def workshop_forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name on the board.")], database: Database = ""
) -> None:
    """Delete all that is stored of one participant, also while the board is open."""
    from mi_course.workshop.serve import forget

    typer.echo(forget(database, name))


@workshop_app.command("purge", epilog="Example: mi-course workshop purge --yes")
def workshop_purge(
    database: Database = "",
    everything: Annotated[bool, typer.Option("--all", help="All workshops, not only the last one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the last workshop, with everything that was stored of everyone."""
    from mi_course.workshop.serve import purge

    if not yes:
        typer.confirm("Delete it? This cannot be undone.", abort=True)
    typer.echo(purge(database, everything))


# ---------------------------------------------------------------------------------------------------------------------
# Sparse autoencoders

SaeFile = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The run; docs/train-an-sae.md explains it.")]


@sae_app.command("harvest", epilog="Example: mi-course sae harvest sae.toml")
def sae_harvest(config: SaeFile) -> None:
    """Tokenize the text of a run, and write activations if its file asks for them.

    If it is cut short, the same command goes on where it was.
    """
    from tqdm import tqdm

    from mi_course.interp.sae import run_file

    run, last = run_file.RunFile.read(config), 0
    with tqdm(unit="activation", unit_scale=True, disable=None) as bar:

        def show(done: int, total: int) -> None:
            nonlocal last
            bar.total = total
            bar.update(done - last)
            last = done

        _sae(lambda: run_file.harvest(run, bar.write, show))


@sae_app.command("train", epilog="Example: mi-course sae train sae.toml")
def sae_train(config: SaeFile) -> None:
    """Train all SAEs of a run on one stream of activations, and save them in SAELens's format.

    If it is cut short, the same command goes on from the last checkpoint, and ends with the same weights. Each SAE's
    folder has a log.jsonl to draw plots from.
    """
    from tqdm import tqdm

    from mi_course.interp.sae import run_file

    run, last = run_file.RunFile.read(config), 0
    with tqdm(unit="step", disable=None) as bar:

        def show(name: str, progress: Any) -> None:
            nonlocal last
            bar.total = max(bar.total or 0, progress.steps)
            if progress.step > last:
                bar.update(progress.step - last)
                last = progress.step
            bar.set_postfix_str(f"{name}: L0 {progress.l0:.1f}, explained {progress.explained_variance:.3f}")

        _sae(lambda: run_file.train(run, bar.write, show))


@sae_app.command("evaluate", epilog="Example: mi-course sae evaluate sae.toml")
def sae_evaluate(config: SaeFile) -> None:
    """Judge the SAEs of a run on held-out text, with the mean activation and zeros as controls."""
    from mi_course.interp.sae import run_file

    run = run_file.RunFile.read(config)
    _sae(lambda: run_file.evaluate(run, typer.echo))


def _sae(work: Any) -> None:
    """What a wrong file, folder or model leads to is the user's to mend: no traceback."""
    try:
        work()
    except CourseError:
        raise
    except ValueError as error:
        raise CourseError(str(error)) from None


OneLesson = Annotated[str | None, typer.Option("--lesson", help="The lesson (number or id).")]


@export_app.command("nbgrader", epilog="Example: mi-course export nbgrader course --lesson 0")
def export_nbgrader(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="nbgrader's course folder.")],
    lesson: Annotated[list[str] | None, typer.Option(help="Only this lesson (number or id); repeatable.")] = None,
) -> None:
    """Write nbgrader assignments, with solutions and hidden tests, to DIR/source.

    nbgrader runs submissions without a sandbox; docs/grading.md lists the risks.
    """
    from mi_course.grading.exports.nbgrader import export

    _wrote(export(folder, lesson or ()))


@export_app.command("gradescope", epilog="Example: mi-course export gradescope autograder.zip --lesson 2")
def export_gradescope(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="The zip to upload.")],
    lesson: OneLesson = None,
    torch_options: Annotated[
        str, typer.Option(help="Options for `pip install torch`, such as the index of CPU builds.")
    ] = "",
) -> None:
    """Write a Gradescope autograder as a zip. It contains the solutions: do not give it to learners."""
    from mi_course.grading.exports.gradescope import export

    try:
        _wrote([export(file, lesson, torch_options)])
    except ValueError as error:
        raise CourseError(str(error)) from None


@export_app.command("classroom", epilog="Example: mi-course export classroom template-repository --lesson 2")
def export_classroom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The assignment's template repository.")],
    lesson: Annotated[str, typer.Option(help="The lesson (number or id).")],
    install: Annotated[str, typer.Option(help="The requirement that pip installs the course from.")] = "mi-course",
) -> None:
    """Write a GitHub Classroom workflow that marks each push."""
    from mi_course.grading.exports.classroom import export

    try:
        _wrote(export(folder, lesson, install))
    except ValueError as error:
        raise CourseError(str(error)) from None


def _wrote(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {os.path.relpath(path)}")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@app.command(epilog="Example: mi-course build --check")
def build(
    lesson: Annotated[list[str] | None, typer.Option(help="Only this lesson (number or id); repeatable.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Build nothing; list what is missing or stale.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Execute all solutions, not only stale ones.")] = False,
    no_execute: Annotated[bool, typer.Option("--no-execute", help="Execute nothing; write notebooks/ only.")] = False,
) -> None:
    """Build notebooks/ and the executed solutions from solutions/*.py (for authors).

    Only stale solutions are executed. A plug-in's lessons are built in their own folder when they are named.
    """
    from mi_course.lessons import catalogue, find

    try:
        from mi_course.authoring import build as building
        from mi_course.authoring.source import BuildError
    except ModuleNotFoundError as error:
        raise CourseError(f"Building needs {error.name}: pip install 'mi-course[author]'.") from None

    chosen = [find(name) for name in lesson] if lesson else None
    folders = {info.folder for info in chosen} if chosen else {""}
    infos = [info for info in catalogue() if info.folder in folders]
    if check:
        findings = building.check(infos)
        for finding in findings:
            typer.echo(str(finding))
        typer.echo(building.claims_table(infos))
        count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        typer.echo(count if findings else "all in order")
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
    typer.echo(report.table)
    if not report.written:
        typer.echo("nothing was stale")


@new_app.command("lesson", epilog="Example: mi-course new lesson my_lesson --number 20")
def new_lesson(
    id: Annotated[str, typer.Argument(metavar="ID", help="The lesson's id, such as my_lesson.")],
    number: Annotated[int | None, typer.Option(min=0, help="Default: the next free one.")] = None,
    title: Annotated[str, typer.Option(help="Default: from the id.")] = "",
    minutes: Annotated[int, typer.Option(min=1, help="How long the lesson takes.")] = 60,
) -> None:
    """Write the files of a lesson, and add it to the catalogue."""
    from mi_course.authoring.new import new_lesson

    _wrote(new_lesson(id, number, title, minutes))


@new_app.command("exercise", epilog="Example: mi-course new exercise induction_heads.my_function")
def new_exercise(
    id: Annotated[str, typer.Argument(metavar="LESSON.NAME", help="NAME is what the learner defines.")],
) -> None:
    """Write all that an exercise needs, and add it to its lesson.

    Whatever is left to write says "not written yet"; `mi-course build --check` lists it, and the tests fail.
    """
    from mi_course.authoring.new import new_exercise

    _wrote(new_exercise(id))


# ---------------------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns that fit the terminal; the last one takes the remaining width and wraps."""
    width = shutil.get_terminal_size((120, 24)).columns
    sizes = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    indent = sum(sizes) + 2 * len(sizes)
    for row in [head, *rows]:
        first = "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False))
        paragraphs = row[-1].splitlines()
        lines = [line for text in paragraphs for line in textwrap.wrap(text, max(width - indent, 30))] or [""]
        typer.echo(f"{first}  {lines[0]}".rstrip())
        for line in lines[1:]:
            typer.echo(" " * indent + line)
