"""One sandbox for all tests of grading, with short limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from grading_kit import loaded, notebook
from require import require_sandbox

from mi_course.grading import sandboxed_asking
from mi_course.grading.marking import mark, prepare
from mi_course.grading.marks import Marks
from mi_course.grading.sandbox import Sandbox

SECRET = bytes(32)


@pytest.fixture(scope="session")
def needs_sandbox() -> None:
    require_sandbox()


@pytest.fixture(scope="session")
def sandbox(needs_sandbox: None) -> Iterator[Sandbox]:
    torch.set_num_threads(1)
    with Sandbox.start() as sandbox:
        prepare(sandbox)
        yield sandbox


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxed_asking, "CELL_S", 3.0)
    monkeypatch.setattr(sandboxed_asking, "GRACE_S", 10.0)


@pytest.fixture
def marked(sandbox: Sandbox) -> Callable[..., Marks]:
    """Marks lesson 00 with this answer, or these cells."""

    def mark_it(answers: dict[str, str] | None = None, **rest: Any) -> Marks:
        return mark("someone", loaded(notebook(answers, **rest)), sandbox, SECRET)

    return mark_it
