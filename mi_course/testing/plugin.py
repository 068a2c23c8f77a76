"""The pytest plug-in: the option `--mi-lesson`. `mi_course.testing` says how to use it."""

from __future__ import annotations

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
