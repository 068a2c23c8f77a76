# ruff: noqa: E402
"""Marks hand-ins that once got through, as root and as an ordinary user, with and without control groups.

    python tests/benchmarks/red_team_users.py CASES

CASES: a folder of hand-ins. Run it as root, from a clone that any user can read. Each way of running marks all of them
with `mi-course grade -j 2` on two cores, beside a right notebook of somebody else's and a canary. It prints a row for
each hand-in, and says what else was touched: the hand-ins, the canary, processes, folders and control groups left over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "grading")]

from grading_kit import notebook

NOBODY = 65534
WAYS = [(user, groups) for user in ("root", "nobody") for groups in ("with", "without")]


def main() -> None:
    cases = Path(sys.argv[1]).resolve()
    told: dict[str, dict[tuple[str, str], str]] = {}
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            rows, touched, seconds = run(way, cases, Path(folder))
        print(
            f"{way[0]}, {way[1]} control groups: {seconds:.0f} s; touched: {', '.join(touched) or 'nothing'}",
            flush=True,
        )
        for row in rows:
            told.setdefault(row["submission"], {})[way] = f"{row['points']:g}"
            if way == WAYS[0]:
                print(f"    {row['submission']}: {row['reason'][:150]}", flush=True)
            if not row["reason"]:
                told[row["submission"]][way] += " without a reason"
    print("| hand-in |" + "".join(f" {user}, {groups} |" for user, groups in WAYS))
    print("|---|" + "---|" * len(WAYS))
    for name, points in told.items():
        print(f"| `{name}` |" + "".join(f" {points.get(way, '?')} |" for way in WAYS))


def run(way: tuple[str, str], cases: Path, folder: Path) -> tuple[list[dict], list[str], float]:
    """The rows, what was touched, and the seconds that it took."""
    user, groups = way
    folder.chmod(0o755)
    submissions, out, home, scratch = (folder / name for name in ("submissions", "marks", "home", "scratch"))
    for path in (submissions, out, home, scratch):
        path.mkdir(mode=0o755)
    for path in sorted(cases.iterdir()):
        if path.is_dir():  # several hand-ins that concern each other
            shutil.copytree(path, submissions, dirs_exist_ok=True)
        elif path.suffix in (".ipynb", ".zip", ".py"):
            shutil.copyfile(path, submissions / path.name)
    (submissions / "somebody_else.ipynb").write_text(json.dumps(notebook()))
    (folder / "canary.txt").write_text("sings")
    for path in (submissions, out, home, scratch, folder / "canary.txt", *submissions.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if user == "nobody":
            os.chown(path, NOBODY, NOBODY)
    before = digest(submissions)
    command = [sys.executable, "-m", "mi_course", "grade", str(submissions), "--out", str(out), "-j", "2"]
    command += ["--similar", "--format", "feedback,junit,gradescope,classroom"]
    if user == "nobody":
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
    group = None
    if groups == "without":
        mount = 'mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, "sh", *command]
    elif user == "nobody":
        group = delegated()
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(TESTS.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    began = time.monotonic()
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 1):
        return [], [f"status {done.returncode}: {done.stderr[-300:]}"], seconds
    rows = json.loads((out / "marks.json").read_text())["submissions"]
    touched = []
    if digest(submissions) != before:
        touched.append("a hand-in")
    if (folder / "canary.txt").read_text() != "sings":
        touched.append("the canary")
    if len(list((out / "feedback").iterdir())) != len(rows):
        touched.append("a feedback page")
    time.sleep(1)
    touched += leftovers(scratch)
    if group:
        remains = [path for path in group.iterdir() if path.is_dir()]
        touched += [str(path) for path in remains]
        for path in (*remains, group):
            path.rmdir()
    return rows, touched, seconds


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path).encode("utf-8", "surrogateescape"))
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def leftovers(scratch: Path) -> list[str]:
    """What is left in this folder, where sandboxes are staged, and processes that were started with its name."""
    found = [str(path) for path in scratch.glob("mi-course*")]  # torch makes a folder of its own
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(scratch).encode() in path.read_bytes():
                found.append(str(path.parent))
        except OSError:
            continue
    return found


def delegated() -> Path:
    """A control group for memory below our own, in which an ordinary user may make others."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers == "memory":
            group = Path("/sys/fs/cgroup/memory", place.lstrip("/"), f"delegated-{os.getpid()}")
            break
        if controllers == "":
            group = Path("/sys/fs/cgroup", place.lstrip("/"), f"delegated-{os.getpid()}")
    group.mkdir()
    for path in (group, *group.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    return group


if __name__ == "__main__":
    main()
