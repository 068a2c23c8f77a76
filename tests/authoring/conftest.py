from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mi_course.lessons import LessonInfo, join

FIXTURES = Path(__file__).parent / "fixtures"
INFO = LessonInfo(7, "tiny", "Tiny numbers", 3, "07_tiny", "tiny_lesson")


@pytest.fixture
def tiny(monkeypatch):
    """The fixture lesson and its exercises."""
    monkeypatch.syspath_prepend(str(FIXTURES))
    yield join(INFO)
    sys.modules.pop("tiny_lesson", None)


@pytest.fixture
def info(tiny, tmp_path) -> LessonInfo:
    """The fixture lesson, written in a folder of its own; nothing is built yet."""
    (tmp_path / "solutions").mkdir()
    shutil.copy(FIXTURES / "good.py", tmp_path / "solutions" / "07_tiny.py")
    return replace(INFO, folder=str(tmp_path))
