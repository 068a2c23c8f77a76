"""How long a learner waits: to import the course, load the model, check an answer, run a lesson.

    python tests/benchmarks/foundation.py [--notebooks]      on an idle machine; prints medians and their bars

Each figure is the median over several fresh processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORT = "import time; t = time.perf_counter(); import mi_course; print(time.perf_counter() - t)"

LOAD = """
import time
t = time.perf_counter()
import torch, transformers, transformer_lens.model_bridge
imports = time.perf_counter() - t
import mi_course
t = time.perf_counter()
model = mi_course.load_model()
print(imports, time.perf_counter() - t)
"""

CHECKS = """
import time
from mi_course.course import check_exercise
from mi_course.testing.answers import exercises, reference
for exercise in exercises():
    if exercise.kind != "function":
        continue
    answer = reference(exercise.id)
    for label, function in (("right", answer), ("wrong", exercise.mistakes[-1].implementation)):
        t = time.perf_counter()
        check_exercise(exercise, function)
        print(exercise.id, label, time.perf_counter() - t)
"""

FIRST = """
import time
t = time.perf_counter()
import mi_course
{before}
def zero_head(z, hook, head):
    z[:, :, head] = 0
    return z
mi_course.lesson(0).check(zero_head)
print(time.perf_counter() - t)
"""


def lines(code: str) -> list[str]:
    """What `code` prints in a fresh process, by line."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "MI_COURSE_HOME": home}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=True
        )
    return result.stdout.strip().splitlines()


def timed(code: str) -> tuple[float, list[str]]:
    start = time.perf_counter()
    printed = lines(code)
    return time.perf_counter() - start, printed


def report(label: str, seconds: float, bar: float) -> None:
    print(f"{label:<58} {seconds:7.2f} s   (bar {bar:g} s){'' if seconds <= bar else '   MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notebooks", action="store_true", help="also run the executed solutions (minutes)")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print("load average:", *(f"{x:.1f}" for x in os.getloadavg()))

    report("import mi_course", statistics.median(float(lines(IMPORT)[-1]) for _ in range(options.repeat)), 0.3)
    runs = [timed(LOAD) for _ in range(options.repeat)]
    report("load_model, after the imports", statistics.median(float(printed[-1].split()[1]) for _, printed in runs), 6)
    report("load_model, from a cold process", statistics.median(wall for wall, _ in runs), 13)
    report(
        "first check in a process (zero_head), imports included",
        statistics.median(timed(FIRST.format(before=""))[0] for _ in range(options.repeat)),
        3,
    )
    after_setup = FIRST.format(before="mi_course.load_model(); t = time.perf_counter()")
    report(
        "first check after the notebook's setup cell",
        statistics.median(float(lines(after_setup)[-1]) for _ in range(options.repeat)),
        3,
    )
    checks = [line.split() for line in lines(CHECKS)]
    # The first checks pay for imports, which have their own line above.
    name, label, slowest = max(((n, la, float(s)) for n, la, s in checks[4:]), key=lambda row: row[2])
    report(f"slowest later check: {name}, {label}", slowest, 1)
    if options.notebooks:
        for number, bar in (("00", 60), ("02", 150), ("03", 180), ("04", 180), ("05", 120), ("06", 240)):
            start = time.perf_counter()
            path = next((ROOT / "solutions").glob(f"{number}_*.ipynb"))
            with tempfile.TemporaryDirectory() as folder:
                command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", folder, str(path)]
                env = {**os.environ, "MI_COURSE_HOME": folder}
                subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, env=env)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            report(
                f"solution notebook {number} (largest process so far {peak:.1f} GB)", time.perf_counter() - start, bar
            )


if __name__ == "__main__":
    main()
