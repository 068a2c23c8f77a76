"""Skip a test, visibly, where a part of the machine is missing; fail instead where that part was promised.

`MI_COURSE_REQUIRE=chromium,…` names what must be there: continuous integration sets it, so that nothing is skipped
there without anyone noticing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str | None:
    """Path of the browser to drive: `MI_COURSE_CHROMIUM`, or the first one found on the path."""
    named = os.environ.get("MI_COURSE_CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    return next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


def _playwright() -> bool:
    from importlib.util import find_spec

    return find_spec("playwright") is not None


PARTS: dict[str, tuple[Callable[[], bool], str]] = {
    "chromium": (
        lambda: chromium() is not None and _playwright(),
        "Chromium or Playwright is missing: install Debian's `chromium` and the extra `test`, "
        "or set MI_COURSE_CHROMIUM to a browser.",
    ),
}


def require(part: str, present: bool | None = None, why: str = "") -> None:
    """Go on if `part` is there. Otherwise skip the test, or fail it if `MI_COURSE_REQUIRE` names the part.

    part: one of `PARTS`, or any other name together with `present` (whether it is there) and `why` (what is missing).
    """
    if present is None:
        look, why = PARTS[part]
        present = look()
    if present:
        return
    promised = {name.strip() for name in os.environ.get("MI_COURSE_REQUIRE", "").split(",")}
    if part in promised:
        pytest.fail(f"MI_COURSE_REQUIRE names {part}, but it is not there. {why}", pytrace=False)
    pytest.skip(why or f"{part} is missing")
