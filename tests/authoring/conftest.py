from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mi_course.lessons import LessonInfo

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def tiny(monkeypatch):
    """The spec of the fixture lesson."""
    monkeypatch.syspath_prepend(str(FIXTURES))
    import tiny_lesson

    yield tiny_lesson.LESSON
    sys.modules.pop("tiny_lesson", None)


@pytest.fixture
def info(tiny, tmp_path) -> LessonInfo:
    """The fixture lesson, written in a folder of its own; nothing is built yet."""
    (tmp_path / "solutions").mkdir()
    shutil.copy(FIXTURES / "good.py", tmp_path / "solutions" / "07_tiny.py")
    return replace(LessonInfo(7, "tiny", "Tiny numbers", 3, "07_tiny", "tiny_lesson"), folder=str(tmp_path))
