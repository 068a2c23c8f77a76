"""One sandbox for all tests of grading, with short limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from grading_kit import loaded, notebook
from require import require_sandbox

from mi_course.exercises import Plan
from mi_course.grading import marking, sandboxed_asking, workers
from mi_course.grading.marking import mark, prepare
from mi_course.grading.marks import Marks
from mi_course.grading.sandbox import Sandbox
from mi_course.submission import Submission

SECRET = bytes(32)
SHORT_S = 1.5


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
    """Short limits, of processor time; a long grace, by the clock."""
    real = marking.ask_all

    def ask_all(submission: Submission, plans: dict[str, Plan], *rest: Any) -> sandboxed_asking.Seen:
        return real(submission, {id: hurried(plan) for id, plan in plans.items()}, *rest)

    monkeypatch.setattr(marking, "ask_all", ask_all)
    monkeypatch.setattr(sandboxed_asking, "CELL_S", SHORT_S)
    monkeypatch.setattr(sandboxed_asking, "AFTER_TIME_OUT_S", 0.3)
    monkeypatch.setattr(sandboxed_asking, "GRACE_S", 10.0)


def hurried(plan: Plan) -> Plan:
    cases = [replace(one, ask=replace(one.ask, limit_s=SHORT_S)) for one in plan.cases]
    return replace(plan, cases=tuple(cases))


@pytest.fixture
def marked(sandbox: Sandbox) -> Callable[..., Marks]:
    """Marks lesson 00 with this answer, or these cells."""

    def mark_it(answers: dict[str, str] | None = None, **rest: Any) -> Marks:
        return mark("someone", loaded(notebook(answers, **rest)), sandbox, SECRET)

    return mark_it


@pytest.fixture
def here(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`grade` marks in this process's forks, in the sandbox that is there, instead of starting one."""

    def init(self: workers.LocalBackend, unsandboxed: bool = False, count: int | None = None) -> None:
        self.sandboxed, self.count, self.sandbox, self.prepared = True, count or 2, sandbox, True

    monkeypatch.setattr(workers.LocalBackend, "__init__", init)
    monkeypatch.setattr(workers.LocalBackend, "__exit__", lambda self, *exception: None)
