"""What tests of several rooms share."""

from __future__ import annotations

import tempfile

import pytest
from tiny_plugin import built_plugin, plugin

__all__ = ["built_plugin", "plugin"]


@pytest.fixture(scope="session", autouse=True)
def _own_home():
    """No test reads or writes what the person who runs it has learned. Models stay in their cache."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MI_COURSE_HOME", home)
        yield
