"""The pytest plug-in: the option `--mi-lesson`. `mi_course.testing` says how to use it."""

from __future__ import annotations

from collections import defaultdict
from typing import cast

import pytest

pytest.register_assert_rewrite("mi_course.testing.test_exercises")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("mi_course").addoption(
        "--mi-lesson",
        action="append",
        default=[],
        metavar="ID",
        help="prove the exercises of this lesson (id or number; may be repeated). Default: every lesson of the course",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


_kinds: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "kinds":
                lesson, tried, listed = cast("tuple[str, int, int]", value)
                _kinds[lesson][0] += tried
                _kinds[lesson][1] += listed if report.passed else 0
                _open[lesson] += not report.passed


_open: defaultdict[str, int] = defaultdict(int)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _kinds:
        terminalreporter.section("kinds of wrong answers")
    for lesson, (tried, listed) in _kinds.items():
        left = f"{_open[lesson]} exercises let one pass" if _open[lesson] else "all refused"
        terminalreporter.line(f"{lesson:<22} {tried:>5} tried, {listed} listed as right or impossible, {left}")
