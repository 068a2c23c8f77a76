"""Options, fixtures and scheduling for all tests."""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from pathlib import Path

import passed
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: several workers share the cores, and a fork after a product on two threads deadlocks.
    os.environ["OMP_NUM_THREADS"] = "1"

from tiny_plugin import built_plugin, plugin

from mi_course import lessons

__all__ = ["built_plugin", "plugin"]

LONGEST_FIRST = ("nbval", "measured", "proofs", "sandbox", "browser")
"""How the names of the longest groups begin. They start first, so that no worker ends with one of them alone."""

LESSONS = {info.id for info in lessons.OURS}

_seconds: defaultdict[str, float] = defaultdict(float)
_verified: defaultdict[str, list[int]] = defaultdict(list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="Skip nothing to save time. A release needs it.")
    parser.addoption("--write-keys", action="store_true", help="Write tests/keys of what passes.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the exercises where test_proofs.py runs them, which is slow; never asked about a file that is named."""
    return True if collection_path.name == "test_exercises.py" and "not slow" not in config.option.markexpr else None


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what another test runs; give each the group in which xdist keeps it (`--dist loadgroup`).

    One group runs in one worker, in order.
    """
    if any(item.name.startswith("test_measured[") for item in items):
        measured = [item for item in items if item.get_closest_marker("measured")]
        config.hook.pytest_deselected(items=measured)
        items[:] = [item for item in items if not item.get_closest_marker("measured")]
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(groups[item].partition(":")[0], len(rank)))


def group_of(item: pytest.Item) -> str:
    """The file, so that its fixtures are made once; what must not run twice at once has a group across files.

    Tests of one exercise share caches; a file that tests all exercises is split by lesson.
    """
    marker = item.get_closest_marker("xdist_group")
    if marker:
        return str(marker.args[0])
    if item.get_closest_marker("browser"):
        return "browser"
    if "needs_sandbox" in getattr(item, "fixturenames", ()):
        return "sandbox"
    lesson = re.search(r"[\[-]([a-z_]+)\.", item.name)
    return f"{item.path.stem}:{lesson[1]}" if lesson and lesson[1] in LESSONS else item.path.stem


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.partition("::")[0]] += report.duration
    if report.when == "call":
        test = report.nodeid.partition("::")[2].partition("[")[0]
        _verified[test] += [value for name, value in report.user_properties if name == passed.VERIFIED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    slowest = sorted(_seconds.items(), key=lambda item: -item[1])[:10]
    if len(_seconds) > len(slowest):
        terminalreporter.section("slowest files")
        for file, seconds in slowest:
            terminalreporter.line(f"{seconds:7.1f} s  {file}")
    if any(_verified.values()):
        terminalreporter.section("not run: nothing that they depend on has changed since they passed")
    for test, counts in _verified.items():
        if counts:
            terminalreporter.line(f"{sum(counts):7} tests in {len(counts)} of {test}")


@pytest.fixture(scope="session", autouse=True)
def _own_home():
    """Tests neither read nor write the progress of whoever runs them. Models stay in their cache."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MI_COURSE_HOME", home)
        yield
