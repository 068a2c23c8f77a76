"""Seconds to mark a class: submissions of lesson 02, about 70 % of their functions right and 30 % mutated.

    python tests/benchmarks/grading.py [SUBMISSIONS] [WORKERS]      100 and 2 by default

Prints seconds for the class and for each submission, the peak memory of the grader and all its children, and the
exercises by status. A mutant that is equivalent to the right answer passes, rightly.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

RIGHT = 0.7


def make_class(folder: Path, count: int) -> int:
    """Write the submissions. Returns how many functions were mutated."""
    from mi_course import content, lessons
    from mi_course.testing.mutants import mutants

    info = lessons.find("induction_heads")
    solved = content.read_notebook(info, solution=True)
    answers = {id: content.solution_answer(id) for id in content.answer_cells(solved)}
    wrong = {id: list(mutants(text, id.partition(".")[2])) for id, text in answers.items() if "def " in text}
    draw = random.Random(0)
    mutated = 0
    for i in range(count):
        notebook = json.loads(json.dumps(solved))
        notebook["metadata"]["learner"] = i
        for cell in content.code_cells(notebook):
            id = content.exercise_of(cell)
            if id in wrong and draw.random() > RIGHT:
                cell["source"] = draw.choice(wrong[id]).source
                mutated += 1
        (folder / f"learner{i:03d}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return mutated


def memory() -> int:
    """Bytes held by this process and its descendants; shared pages count once."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:]]
    count, workers = [*numbers, *(100, 2)[len(numbers) :]]
    from mi_course.grading import grade

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            peak[0] = max(peak[0], memory())

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "submissions")
        folder.mkdir()
        mutated = make_class(folder, count)
        began = time.perf_counter()
        pid = os.fork()  # the grader forks, so it must not inherit the thread that watches
        if not pid:
            report = grade(folder, Path(scratch, "marks"), workers=workers)
            marks = [mark for row in report.rows for mark in row.exercises]
            summary = {
                "status": Counter(mark.status for mark in marks),
                "named": sum(mark.mistake is not None for mark in marks),
                "busy": sum(row.seconds for row in report.rows),
            }
            Path(scratch, "summary").write_text(json.dumps(summary))
            os._exit(0)
        watcher = threading.Thread(target=watch)
        watcher.start()
        os.waitpid(pid, 0)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        summary = json.loads(Path(scratch, "summary").read_text())
    print(f"{count} submissions, {workers} workers: {seconds:.1f} s, start included")
    print(f"one submission: {summary['busy'] / count * 1000:.0f} ms in its worker; {mutated} functions were mutated")
    print(f"peak memory of the grader and its descendants: {peak[0] / 2**30:.2f} GB")
    print(f"exercises: {summary['status']}; {summary['named']} with a named mistake")


if __name__ == "__main__":
    main()
