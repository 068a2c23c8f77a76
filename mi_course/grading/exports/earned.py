"""Whether a part of an exercise was earned: `python -m mi_course.grading.exports.earned MARKS EXERCISE PART`.

Status 0 if it was, 1 if not. For graders that know passed and failed only. Reads MARKS/marks.json of one submission.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(marks: str, exercise: str, part: str) -> int:
    (row,) = json.loads(Path(marks, "marks.json").read_text(encoding="utf-8"))["submissions"]
    one = next((one for one in row["exercises"] if one["exercise"] == exercise), None)
    if one is None or not one["details"]:
        print(one["message"] if one else row["reason"])
        return 1
    found = one["details"][int(part)]
    earned = found["earned"] == found["points"]
    print(found["name"] if earned else one["message"])
    return 0 if earned else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
