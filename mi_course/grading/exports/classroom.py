"""GitHub Classroom: a workflow that marks each push, and the older list of tests.

.github/workflows/classroom.yml          marks with one command and passes the result to Classroom's reporter
.github/classroom/autograding.json       one test for each part of an exercise, for Classroom's older runner
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mi_course import lessons

__all__ = ["export"]

WORKFLOW = """\
# Written by `mi-course export classroom`. Marks lesson @LESSON@ on each push.
name: Marks
"on":
  push:
  workflow_dispatch:
permissions:
  checks: write
  actions: read
  contents: read
jobs:
  marks:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - name: Sandbox
        run: |
          sudo apt-get update -qq && sudo apt-get install -y -qq bubblewrap
          sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 || true
      - name: Course
        run: |
          pip install -q @INSTALL@
          mi-course models fetch smollm2 || true
      - name: Marks
        id: course
        run: |
          mi-course grade . --single --lesson @LESSON@ --out "$RUNNER_TEMP/marks" --format classroom,feedback
          echo "result=$(base64 -w0 "$RUNNER_TEMP"/marks/classroom/*.json)" >> "$GITHUB_OUTPUT"
      - name: Feedback
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: feedback
          path: ${{ runner.temp }}/marks/feedback
      - name: Classroom
        uses: classroom-resources/autograding-grading-reporter@v1
        env:
          COURSE_RESULTS: ${{ steps.course.outputs.result }}
        with:
          runners: course
"""
MARKS = "/tmp/mi-course-marks"
GRADE = f"mi-course grade . --single --lesson {{lesson}} --out {MARKS}"
EARNED = f"python -m mi_course.grading.exports.earned {MARKS} {{exercise}} {{part}}"


def export(folder: Path, lesson: str | int, install: str = "mi-course") -> list[Path]:
    """Write both files for one lesson. install: what pip installs the course from.

    Raises KeyError for an unknown lesson, ValueError if a shell would not take `install` literally.
    """
    info = lessons.find(lesson)
    if not re.fullmatch(r"[\w\s./:=+@~\[\],<>!-]+", install):
        raise ValueError(f"{install!r} is nothing that pip installs; use a name, a file or a URL.")
    tests: list[dict[str, Any]] = []
    for exercise in lessons.load(info.id).exercises:
        for i, part in enumerate(exercise.parts):
            tests.append(
                {
                    "name": f"{exercise.name}: {part.name}",
                    "setup": GRADE.format(lesson=info.id) if not tests else "",
                    "run": EARNED.format(exercise=exercise.id, part=i),
                    "input": "",
                    "output": "",
                    "comparison": "included",
                    "timeout": 30,
                    "points": part.points,
                }
            )
    texts = {
        "workflows/classroom.yml": WORKFLOW.replace("@LESSON@", info.id).replace("@INSTALL@", f"'{install}'"),
        "classroom/autograding.json": json.dumps({"tests": tests}, indent=2) + "\n",
    }
    written = []
    for name, text in texts.items():
        path = folder / ".github" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
