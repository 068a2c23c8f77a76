"""Run mypy once and compare its errors with scripts/type_errors.json, which counts those left in each folder.

A folder that is not listed has none, and none may gain any. `--update` writes lower numbers; it refuses higher ones.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parents[1]
COUNTS = ROOT / "scripts" / "type_errors.json"


def errors() -> list[tuple[str, str]]:
    """(folder, line of mypy's report) for each error."""
    cache = platformdirs.user_cache_path("mi-course") / "mypy"
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--no-error-summary", "--hide-error-context"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, encoding="utf-8")
    if done.returncode not in (0, 1) or done.stderr:
        raise SystemExit(f"mypy could not run: {done.stderr or done.stdout}")
    lines = [line.replace("\\", "/") for line in done.stdout.splitlines()]
    return [(match[1], line) for line in lines if (match := re.match(r"(\S+)/[^/]+\.py:\d+: error: ", line))]


def main(update: bool = False) -> int:
    seen = errors()
    now = Counter(folder for folder, _ in seen)
    allowed = Counter(json.loads(COUNTS.read_text(encoding="utf-8")))
    if update and now.total() <= allowed.total():
        COUNTS.write_text(json.dumps(dict(sorted(now.items())), indent=2) + "\n", encoding="utf-8")
        print(f"{allowed.total()} errors before, {now.total()} now")
        return 0
    risen, fallen = now - allowed, allowed - now
    for folder in sorted(risen):
        print(f"{folder}: {now[folder]} type errors, {allowed[folder]} allowed. Correct those that are new:")
        print("\n".join(f"  {line}" for where, line in seen if where == folder))
    for folder in sorted(fallen):
        print(f"{folder}: {now[folder]} type errors, {allowed[folder]} before.")
    if fallen and not risen:
        print("Fewer than before: `python scripts/check_types.py --update` keeps it so.")
    return 1 if risen or fallen else 0


if __name__ == "__main__":
    sys.exit(main("--update" in sys.argv[1:]))
