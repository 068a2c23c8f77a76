"""A lesson of a school's own (`tests/plugin/`), installed as a package would be, for tests that need a whole lesson.

It is built once for all tests, with a kernel, and each test gets a copy, so that it may change what it likes.
`tests/conftest.py` offers the fixture `plugin`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mi_course import content, lessons

SOURCE = Path(__file__).parent / "plugin"


def install(folder: Path, patch: pytest.MonkeyPatch) -> lessons.LessonInfo:
    """Makes `folder` an installed distribution, here and in processes that are started from here."""
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "ruff.toml"))
    metadata = folder / "tiny_course-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-course\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mi_course.lessons]\ntiny = tiny_course:PLUGIN\n")
    patch.syspath_prepend(str(folder))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    forget()
    return lessons.find("tiny")


def forget() -> None:
    """Forgets what was read of the lessons."""
    for name in [name for name in sys.modules if name.startswith("tiny_course")]:
        sys.modules.pop(name, None)
    lessons._plugins.cache_clear()
    content._read_release.cache_clear()


@pytest.fixture(scope="session")
def built_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lesson, built; once for all workers of pytest-xdist, whose temporary folders lie side by side."""
    from mi_course.authoring.build import build

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built-plugin"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            building = folder.with_name("plugin-being-built")
            shutil.rmtree(building, ignore_errors=True)
            with pytest.MonkeyPatch.context() as patch:
                info = install(building, patch)
                assert build([info]).executed == ["tiny"]
            forget()
            building.rename(folder)
    return folder


@pytest.fixture
def plugin(built_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[lessons.LessonInfo]:
    """The lesson, installed and built, in a folder of this test's; with a `MI_COURSE_HOME` of this test's too."""
    shutil.copytree(built_plugin, tmp_path / "plugin")
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "home"))
    yield install(tmp_path / "plugin", monkeypatch)
    monkeypatch.undo()
    forget()


def cell(notebook: dict[str, Any], id: str) -> dict[str, Any]:
    """The cell with this id."""
    (match,) = (cell for cell in notebook["cells"] if cell.get("id") == id)
    return match


def code(source: str, **rest: Any) -> dict[str, Any]:
    """A code cell of a learner's."""
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source, **rest}
