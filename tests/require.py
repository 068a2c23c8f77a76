"""Skip a test where a tool that it needs is missing, or fail it where `MI_COURSE_REQUIRE=chromium,…` names the tool.

Continuous integration names them all, so that none is missing there unnoticed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from mi_course.grading.sandbox.diagnosis import sandbox_problem

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str | None:
    """Path of the browser to drive: `MI_COURSE_CHROMIUM`, or the first one on `PATH`."""
    path = os.environ.get("MI_COURSE_CHROMIUM")
    if path:
        return path if os.access(path, os.X_OK) else None
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


TOOLS: dict[str, tuple[Callable[[], bool], str]] = {
    "chromium": (
        lambda: chromium() is not None and find_spec("playwright") is not None,
        "Chromium or Playwright is missing: install Debian's `chromium` and the extra `test`, "
        "or set MI_COURSE_CHROMIUM to a browser.",
    ),
}


def require_sandbox() -> None:
    """`require` the sandbox, whose diagnosis says why it is missing."""
    problem = sandbox_problem()
    require("sandbox", problem is None, " ".join(problem or ()))


def require(tool: str, present: bool | None = None, why: str = "") -> None:
    """Return if `tool` is there. Otherwise skip the test, or fail it if `MI_COURSE_REQUIRE` names the tool.

    tool: one of `TOOLS`, or any other name together with `present` and `why` (what is missing, and what to do).
    """
    if present is None:
        is_present, why = TOOLS[tool]
        present = is_present()
    if present:
        return
    required = {name.strip() for name in os.environ.get("MI_COURSE_REQUIRE", "").split(",")}
    if tool in required:
        pytest.fail(f"MI_COURSE_REQUIRE names {tool}, but it is missing. {why}", pytrace=False)
    pytest.skip(why or f"{tool} is missing")
