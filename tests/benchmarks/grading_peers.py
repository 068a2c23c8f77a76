"""nbgrader 0.9.6, otter-grader 7.0.0 and ours: the same load, and the same faults, on this machine.

    python tests/benchmarks/grading_peers.py SCRATCH install         both, in environments of their own
    python tests/benchmarks/grading_peers.py SCRATCH load [N]        time for each exercise checked, and the ratios
    python tests/benchmarks/grading_peers.py SCRATCH faults [WHO] [SECONDS]   as many as fit; the next call goes on
    python tests/benchmarks/grading_peers.py SCRATCH report          writes docs/faults.md

Each peer has the assignment in its own form: nbgrader solutions and hidden tests in autograded cells, otter test files.
Both run behind bubblewrap, with limits on memory, processes and time that are ours: what a fault does to them it must
not do to this machine. They are slower there by what a bind mount costs, which is nothing that can be measured.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "grading"), str(Path(__file__).parent)]

PEERS = {"nbgrader": "nbgrader==0.9.6", "otter": "otter-grader==7.0.0"}
LIMIT_S = 60
"""For one faulty submission with a peer; what is not done by then hangs. nbgrader's own limit is 30 s for a cell."""
NAMES = """
infinite_loop swallows_interrupts os_exit kills_itself sys_exit eight_gigabytes segfault recursion fork_bomb
floods_output warns leaves_an_orphan leaves_a_thread unsendable_value error loop syntax magic
raises_unreadable unknown_escape_and_warning deletes_the_course writes_to_a_neighbor torch_comparisons tensor_eq
builtins ast_transformer lesson_check always_true_eq tensor_subclass looks_for_the_truth a_mock skip_execution
a_cell_twice empty truncated not_utf8 nested cells_of_nothing of_no_lesson
"""
SEVERAL = NAMES.split()
"""The faults that are shown to all three. Those that attack what only ours has are in the tests."""


# ---------------------------------------------------------------------------------------------------------------------
# The assignments


def code_cell(id: str, source: str, **metadata: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": None, "id": id, "metadata": metadata, "outputs": []}
    return {**cell, "source": source}


def document(cells: list[dict[str, Any]]) -> dict[str, Any]:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def nbgrader(id: str, **roles: Any) -> dict[str, Any]:
    plain = {"grade": False, "locked": False, "solution": False, "task": False}
    return {"nbgrader": {"grade_id": id, "schema_version": 3, **plain, **roles}}


SMALL_SETUP = "import torch\nfrom jaxtyping import Float\nfrom torch import Tensor\n"
SMALL_TESTS = {
    "top_next_tokens": """
for n in (7, 12):
    logits = torch.randn(5, n)
    values, ids = logits[-1].softmax(-1).topk(3)
    for (token, p), v, i in zip(top_next_tokens(logits.clone(), 3), values, ids):
        assert int(token) == int(i) and abs(float(p) - float(v)) < 1e-4
""",
    "zero_head": """
for head in (0, 2):
    z = torch.randn(2, 3, 4, 5)
    expected = z.clone()
    expected[:, :, head] = 0
    given = z.clone()
    seen = zero_head(given, None, head)
    seen = given if seen is None else seen
    assert seen.shape == expected.shape
    assert torch.allclose(seen, expected)
""",
}


class Assignment:
    """What a peer is given: setup, solved answers by name, and tests: points, and code that raises."""

    def __init__(self, setup: str, answers: dict[str, str], tests: dict[str, tuple[int, str]]) -> None:
        self.setup, self.answers, self.tests = setup, answers, tests

    def nbgrader(self, answers: dict[str, str], solved: bool = False) -> dict[str, Any]:
        cells = [code_cell("setup", self.setup, **nbgrader("setup", locked=True))]
        for name, text in self.answers.items():
            given = f"### BEGIN SOLUTION\n{text}\n### END SOLUTION" if solved else answers.get(name, text)
            cells.append(code_cell(f"answer-{name}", given, **nbgrader(f"answer-{name}", solution=True)))
            worth, test = self.tests[name]
            hidden = f"### BEGIN HIDDEN TESTS\n{test}\n### END HIDDEN TESTS" if solved else ""
            role = nbgrader(f"test-{name}", grade=True, locked=True, points=worth)
            cells.append(code_cell(f"test-{name}", f"# Tests of {name}\n{hidden}", **role))
        return document(cells)

    def otter(self, answers: dict[str, str]) -> dict[str, Any]:
        cells = [code_cell("otter", "import otter\ngrader = otter.Notebook()"), code_cell("setup", self.setup)]
        for name, text in self.answers.items():
            cells.append(code_cell(f"answer-{name}", answers.get(name, text)))
            cells.append(code_cell(f"check-{name}", f'grader.check("{name}")'))
        return document(cells)

    def otter_tests(self, folder: Path) -> None:
        for name, (worth, test) in self.tests.items():
            lines = "\n".join(f"    {line}" for line in test.strip().split("\n"))
            (folder / f"{name}.py").write_text(
                f'from otter.test_files import test_case\n\nOK_FORMAT = False\nname = "{name}"\npoints = {worth}\n\n'
                f"@test_case(hidden=True)\ndef test_it(env):\n    globals().update(env)\n{lines}\n"
            )


def small() -> Assignment:
    """Lesson 00's two exercises, with tests that a teacher would write."""
    from grading_kit import TOP, WORTH, ZERO, right

    answers = {id.partition(".")[2]: right(id) for id in (TOP, ZERO)}
    worth = {id.partition(".")[2]: points for id, points in WORTH.items()}
    return Assignment(SMALL_SETUP, answers, {name: (worth[name], text) for name, text in SMALL_TESTS.items()})


def large() -> Assignment:
    """Lesson 02's eleven functions, with our own checks as tests, so that all three do the same work."""
    from mi_course import content, lessons

    spec = lessons.load("induction_heads")
    solved = content.answer_cells(content.read_notebook(lessons.find("induction_heads"), solution=True))
    ids = [exercise.id for exercise in spec.exercises if exercise.kind == "function"]
    answers = {id.partition(".")[2]: content.solution_answer(id) for id in ids if id in solved}
    tests = {}
    for name in answers:
        text = (
            "from mi_course.course import check_exercise\nfrom mi_course import lessons\n"
            f'verdict = check_exercise(lessons.load("induction_heads").exercise("{name}"), {name}, seed=7)\n'
            "assert verdict.passed, verdict.message"
        )
        tests[name] = (1, text)
    return Assignment("import torch\nimport mi_course\n", answers, tests)


# ---------------------------------------------------------------------------------------------------------------------
# Running the peers


def install(scratch: Path) -> None:
    """Peers in environments of their own, with torch and the course taken from this one."""
    for who, what in PEERS.items():
        folder = scratch / who
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([folder / "bin" / "pip", "install", "-q", what, "ipykernel"], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        own = [path for path in sys.path if path.endswith("site-packages")]
        (site / "this_course.pth").write_text("\n".join([*own, str(ROOT)]) + "\n")


def sandboxed(scratch: Path, who: str, work: Path, command: list[str], limit_s: float) -> tuple[int | None, str]:
    """Runs a peer's command in a container that sees the machine read-only, and `work`. Exit status; None: it hangs."""
    root = os.geteuid() == 0
    binds = ["--tmpfs", "/root", "--chmod", "0755", "/root"] if root else []
    for path in dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT), str(scratch / who))):
        binds += ["--ro-bind", path, path]
        # bubblewrap makes the folders on the way for root alone.
        made = [str(one) for one in Path(path).parents if str(one).startswith(("/root/", "/tmp/"))] if root else []
        binds += [word for one in made for word in ("--chmod", "0755", one)]
    cage = ["bwrap", "--ro-bind", "/", "/", "--size", str(512 * 2**20), "--perms", "1777", "--tmpfs", "/tmp", *binds]
    cage += ["--bind", str(work), "/tmp/here", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--unshare-net"]
    cage += ["--unshare-ipc", "--die-with-parent", "--new-session", "--chdir", "/tmp/here", "--"]
    # As root, drop to nobody inside: a limit on processes does not hold for root.
    cage += ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if root else []
    cage += ["prlimit", "--nproc=400", f"--data={4 * 2**30}", f"--fsize={600 * 2**20}", "--core=0"]
    if root:
        subprocess.run(["chown", "-R", "65534:65534", str(work)], check=True)
    keep = {"PATH": f"{scratch / who / 'bin'}:{os.environ['PATH']}", "HOME": "/tmp", "LANG": "C.UTF-8"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*cage, *command], stdout=log, stderr=log, env=keep, start_new_session=True)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        log.seek(0)
        return status, log.read()[-4000:].decode(errors="replace")


class Nbgrader:
    name = "nbgrader"

    def __init__(self, scratch: Path, assignment: Assignment, limit_s: float = LIMIT_S) -> None:
        self.scratch, self.assignment, self.limit_s = scratch, assignment, limit_s
        self.template = Path(tempfile.mkdtemp(dir=scratch))
        source = self.template / "source" / "ps1"
        source.mkdir(parents=True)
        (source / "ps1.ipynb").write_text(json.dumps(assignment.nbgrader({}, solved=True)))
        (self.template / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'x'\n")
        status, log = sandboxed(scratch, "nbgrader", self.template, ["nbgrader", "generate_assignment", "ps1"], 120)
        if status:
            raise RuntimeError(f"nbgrader generate_assignment: {log}")

    def submit(self, work: Path, name: str, notebook: dict[str, Any] | bytes) -> None:
        folder = work / "submitted" / name / "ps1"
        folder.mkdir(parents=True)
        (folder / "ps1.ipynb").write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())

    def mark(self, notebooks: dict[str, Any]) -> tuple[dict[str, float | None], str, Path]:
        """Points by name (None: no result), and what it printed."""
        work = Path(tempfile.mkdtemp(dir=self.scratch))
        shutil.copytree(self.template, work, dirs_exist_ok=True)
        neighbor(work / "submitted" / "neighbour" / "ps1")
        for name, notebook in notebooks.items():
            self.submit(work, name, notebook)
        only = ["--student", next(iter(notebooks))] if len(notebooks) == 1 else []
        if not only:
            shutil.rmtree(work / "submitted" / "neighbour")
        command = ["nbgrader", "autograde", "ps1", *only]
        status, log = sandboxed(self.scratch, "nbgrader", work, command, self.limit_s)
        log = "hangs" if status is None else log
        points = {name: self._points(work, name) for name in notebooks}
        return {name: None if status and only else found for name, found in points.items()}, log, work

    def _points(self, work: Path, name: str) -> float | None:
        query = (
            "select sum(grade.auto_score) from grade join submitted_notebook on grade.notebook_id = "
            "submitted_notebook.id join submitted_assignment on submitted_notebook.assignment_id = "
            "submitted_assignment.id where submitted_assignment.student_id = ?"
        )
        if not (work / "autograded" / name).exists():
            return None
        with sqlite3.connect(work / "gradebook.db") as book:
            return book.execute(query, [name]).fetchone()[0]

    def notebook(self, answers: dict[str, str]) -> dict[str, Any]:
        released = json.loads((self.template / "release" / "ps1" / "ps1.ipynb").read_text())
        for cell in released["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "").removeprefix("answer-")
            if name in self.assignment.answers:
                cell["source"] = answers.get(name, self.assignment.answers[name])
        return released


class Otter:
    name = "otter"

    def __init__(self, scratch: Path, assignment: Assignment, limit_s: float = LIMIT_S) -> None:
        self.scratch, self.assignment, self.limit_s = scratch, assignment, limit_s
        self.template = Path(tempfile.mkdtemp(dir=scratch))
        (self.template / "tests").mkdir()
        assignment.otter_tests(self.template / "tests")
        command = ["otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"]
        status, log = sandboxed(scratch, "otter", self.template, command, 120)
        if status:
            raise RuntimeError(f"otter generate: {log}")

    def mark(self, notebooks: dict[str, Any]) -> tuple[dict[str, float | None], str, Path]:
        points, log = {}, ""
        work = Path(tempfile.mkdtemp(dir=self.scratch))
        neighbor(work / "neighbour")
        for name, notebook in notebooks.items():
            folder = work / name
            shutil.copytree(self.template, folder)
            raw = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
            (folder / "ps1.ipynb").write_bytes(raw)
            (folder / "out").mkdir()
            command = ["bash", "-c", f"cd {name} && otter run --no-logo -a autograder.zip -o out ps1.ipynb"]
            status, log = sandboxed(self.scratch, "otter", work, command, self.limit_s)
            log = "hangs" if status is None else log
            points[name] = None
            if (folder / "out" / "results.json").exists():
                tests = json.loads((folder / "out" / "results.json").read_text())["tests"]
                points[name] = sum(test.get("score", 0) for test in tests if test["name"] in self._names())
        return points, log, work

    def _names(self) -> set[str]:
        return {*self.assignment.tests, *(f"{name} - 1" for name in self.assignment.tests)}

    def notebook(self, answers: dict[str, str]) -> dict[str, Any]:
        return self.assignment.otter(answers)


def neighbor(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "canary.txt").write_text("sings")


def sings(work: Path) -> bool:
    return all(path.read_text() == "sings" for path in work.rglob("canary.txt"))


# ---------------------------------------------------------------------------------------------------------------------
# Load


def load(scratch: Path, count: int) -> None:
    import grading as ours

    from mi_course import content

    assignment = large()
    with tempfile.TemporaryDirectory() as folder:
        ours.make_class(Path(folder), count)
        learners = []
        for path in sorted(Path(folder).iterdir()):
            cells = content.code_cells(json.loads(path.read_text()))
            answers = {content.exercise_of(cell): content.source(cell) for cell in cells if content.exercise_of(cell)}
            learners.append({id.partition(".")[2]: plain(text) for id, text in answers.items()})
    exercises = count * len(assignment.answers)
    for peer in (Nbgrader(scratch, assignment, 900), Otter(scratch, assignment, 900)):
        notebooks = {f"learner{i}": peer.notebook(answers) for i, answers in enumerate(learners)}
        began = time.perf_counter()
        points, log, _ = peer.mark(notebooks)
        seconds = time.perf_counter() - began
        keep(scratch, "load", peer.name, {"seconds": seconds, "exercises": exercises, "points": points, "log": log})
        print(f"{peer.name}: {seconds / exercises * 1000:.0f} ms for each of {exercises} exercises; {points}")


def plain(source: str) -> str:
    """An answer cell without the course's own check, which a peer's notebook does not have."""
    return "\n".join(line for line in source.split("\n") if not line.startswith("lesson."))


def load_ours(scratch: Path, count: int) -> None:
    """A class, start included, with two workers."""
    import grading as ours

    from mi_course.grading import grade

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "submissions")
        place.mkdir()
        ours.make_class(place, count)
        began = time.perf_counter()
        report = grade(place, Path(folder, "marks"), workers=2)
        seconds = time.perf_counter() - began
    exercises = sum(len(row.exercises) for row in report.rows)
    keep(scratch, "load", "ours", {"seconds": seconds, "exercises": exercises})
    print(f"ours: {seconds / exercises * 1000:.0f} ms for each of {exercises} exercises, 2 workers, start included")


def ratios(scratch: Path) -> None:
    found = kept(scratch, "load")
    each = {who: one["seconds"] / one["exercises"] for who, one in found.items()}
    for who in PEERS:
        if who in each and "ours" in each:
            print(f"{who} takes {each[who] / each['ours']:.1f} times as long for an exercise as ours")


# ---------------------------------------------------------------------------------------------------------------------
# Faults


def faults(scratch: Path, who: str, seconds: float) -> None:
    from faults import every_fault

    chosen = {fault.name: fault for fault in reversed(list(every_fault())) if fault.name in SEVERAL}
    missing = set(SEVERAL) - set(chosen)
    assert not missing, missing
    done = kept(scratch, f"faults-{who}")
    todo = [chosen[name] for name in SEVERAL if name not in done]
    if who == "ours" and todo:
        ours_on(scratch, todo)
        return
    until = time.monotonic() + seconds
    peer = (Nbgrader if who == "nbgrader" else Otter)(scratch, small())
    for fault in todo:
        if time.monotonic() > until:
            print(f"{who}: more to do; call again")
            return
        began = time.monotonic()
        points, log, work = peer.mark({"student": for_peer(peer, fault)})
        outcome = {"points": points["student"], "seconds": time.monotonic() - began, "log": last_line(log)}
        keep(scratch, f"faults-{who}", fault.name, {**outcome, "deserves": fault.deserves, "canary": sings(work)})
        shutil.rmtree(work, ignore_errors=True)
        print(who, fault.name, outcome)
    print(f"{who}: all done")


def for_peer(peer: Nbgrader | Otter, fault: Any) -> dict[str, Any] | bytes:
    if fault.raw is not None:
        return fault.raw
    found = peer.notebook({"zero_head": fault.zero_head} if fault.zero_head else {})
    place = next(i for i, cell in enumerate(found["cells"]) if "setup" in cell["id"]) + 1
    if fault.before:
        found["cells"].insert(place, code_cell("mine", fault.before))
    for cell in found["cells"]:
        cell["metadata"]["tags"] = list(fault.tags)
    if fault.twice:
        found["cells"].append(next(cell for cell in found["cells"] if "zero_head" in cell["source"]))
    return found


def ours_on(scratch: Path, todo: list[Any]) -> None:
    from faults import write

    from mi_course.grading import grade

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        place = Path(folder, "submissions")
        neighbor(place / ".neighbour")
        names = {write(fault, place).name: fault for fault in todo}
        report = grade(place, Path(folder, "marks"), workers=2)
        for row in report.rows:
            fault = names[row.submission]
            outcome = {"points": row.points, "seconds": row.seconds, "log": row.reason[:200]}
            keep(scratch, "faults-ours", fault.name, {**outcome, "deserves": fault.deserves, "canary": sings(place)})
    print("ours: all done")


def last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def outcome_in_words(one: dict[str, Any] | None) -> str:
    if one is None:
        return "not run"
    if not one["canary"]:
        return "**changed a neighbor's file**"
    if one["points"] is None:
        if one["deserves"] == 0:
            return "no marks, error"
        return "**hangs**" if one["log"] == "hangs" else "**no marks**"
    points, deserves = round(one["points"]), one["deserves"]
    if points == deserves:
        return "right"
    return f"**{points}, too {'many' if points > deserves else 'few'}**"


def report(scratch: Path) -> None:
    found = {who: kept(scratch, f"faults-{who}") for who in ("ours", *PEERS)}
    names = [name for name in SEVERAL if name in found["ours"]]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    lines = [
        "# Faults, and what three graders make of them",
        "",
        f"Written by `tests/benchmarks/grading_peers.py` on {datetime.date.today()} ({machine}). Each row is one "
        "submission of a two-exercise assignment (5 points), right but for its fault; the sources are in "
        "`tests/grading/faults/`. *Deserves* is what the rest of it is worth. nbgrader 0.9.6 and otter-grader 7.0.0 "
        "(`otter run`) have the same assignment in their own form, with hidden tests, and ran in a container with "
        f"limits of ours (4 GB, 400 processes, 512 MB of /tmp, {LIMIT_S} s): what they survive there includes what the "
        "container kept from them.",
        "",
        "| fault | deserves | mi-course | nbgrader | otter |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        words = [outcome_in_words(found[who].get(name)) for who in ("ours", "nbgrader", "otter")]
        lines.append(f"| `{name}` | {found['ours'][name]['deserves']} | {' | '.join(words)} |")
    good = ("right", "no marks, error")
    shares = []
    for who in found:
        run = [outcome_in_words(found[who][name]) for name in names if name in found[who]]
        shares.append(f"{'mi-course' if who == 'ours' else who} {sum(word in good for word in run)} of {len(run)}")
    lines += ["", f"Right, or refused where nothing can be marked: {', '.join(shares)}."]
    times = kept(scratch, "load")
    if set(times) == {"ours", *PEERS}:
        each = {who: one["seconds"] / one["exercises"] * 1000 for who, one in times.items()}
        lines += [
            "",
            "## Time",
            "",
            "Submissions of lesson 02, each with its functions about 70 % right and 30 % wrong; the peers' tests are "
            "the course's own checks, so all three do the same work. "
            f"Ours, two workers, start included: {each['ours']:.0f} ms for each of {times['ours']['exercises']} "
            f"exercises. nbgrader, serial: {each['nbgrader']:.0f} ms, {each['nbgrader'] / each['ours']:.0f} times. "
            f"otter, serial: {each['otter']:.0f} ms, {each['otter'] / each['ours']:.0f} times.",
        ]
    from red_team import PAGE, section_of

    lines += ["", *section_of(PAGE.read_text(encoding="utf-8")).splitlines()]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def kept(scratch: Path, what: str) -> dict[str, Any]:
    path = scratch / "results" / f"{what}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(scratch: Path, what: str, name: str, value: Any) -> None:
    path = scratch / "results" / f"{what}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**kept(scratch, what), name: value}, indent=1))


def main() -> None:
    scratch, what, *rest = sys.argv[1:]
    place = Path(scratch).resolve()
    place.mkdir(parents=True, exist_ok=True)
    if what == "install":
        install(place)
    elif what == "load":
        load(place, int(rest[0]) if rest else 6)
        ratios(place)
    elif what == "load-ours":
        load_ours(place, int(rest[0]) if rest else 100)
        ratios(place)
    elif what == "faults":
        for who in [rest[0]] if rest else ["ours", *PEERS]:
            faults(place, who, float(rest[1]) if len(rest) > 1 else 3600)
    elif what == "report":
        report(place)


if __name__ == "__main__":
    main()
