"""Whether a part of an exercise was earned: `python -m mi_course.grading.exports.earned MARKS EXERCISE PART`.

Exit status 0 if it was, 1 if not, for graders that know only passed and failed. Reads MARKS/marks.json, which must hold
a single submission. PART counts from 0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(marks: str, exercise: str, part: str) -> int:
    (row,) = json.loads(Path(marks, "marks.json").read_text(encoding="utf-8"))["submissions"]
    mark = next((mark for mark in row["exercises"] if mark["exercise"] == exercise), None)
    if mark is None or not mark["details"]:
        print(mark["message"] if mark else row["reason"])
        return 1
    detail = mark["details"][int(part)]
    earned = detail["earned"] == detail["points"]
    print(detail["name"] if earned else mark["message"])
    return 0 if earned else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
