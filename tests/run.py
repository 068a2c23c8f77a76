"""Run all tests: first those that can share the machine, in two processes, then those that measure seconds, alone.

    python tests/run.py [pytest options]       for example --all, which a release needs, or -k doctor

The last line sums both parts: "N passed, N failed, N skipped". The line before says how many tests did not run because
their keys hold. Exits with 0 only if no test failed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from passed import VERIFIED

# Without restarts, because with loadgroup xdist 3.8 waits forever after it has replaced a worker that died.
WORKERS = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", "--max-worker-restart", "0"]
PARTS = {"parallel": ["-m", "not timing", *WORKERS], "timing": ["-m", "timing", "-n", "0"]}
NO_TESTS, USAGE = 5, 4
"""Exit codes of pytest."""


def main(options: list[str]) -> int:
    interrupts: list[int] = []
    # Ctrl-C reaches pytest too, which stops its workers and reports; wait for it, and start nothing more.
    signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that pytest does not outlive this
    total: Counter[str] = Counter()
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, selection in PARTS.items():
            report = Path(folder, f"{name}.xml")
            command = [sys.executable, "-m", "pytest", *selection, f"--junitxml={report}", *options]
            codes.append(subprocess.run(command, cwd=Path(__file__).parents[1]).returncode)
            total += counts(report)
            if interrupts or codes[-1] == USAGE:
                break
    print(f"\n{total['verified']} tests were not run: nothing that they depend on has changed since they passed")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    if total["failed"] or interrupts or not (total["passed"] or total["verified"]):
        return next(filter(None, codes), 1)
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


def counts(report: Path) -> Counter[str]:
    """Tests by outcome, from a JUnit report; none if pytest ended before it wrote one."""
    found: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).iter("testsuite"):
            number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            failed = number["failures"] + number["errors"]
            found.update(failed=failed, skipped=number["skipped"])
            found.update(passed=number["tests"] - failed - number["skipped"])
            properties = suite.iterfind(f"testcase/properties/property[@name='{VERIFIED}']")
            found.update(verified=sum(int(item.get("value", 0)) for item in properties))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
