"""Databases and boards."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import workshop_kit
from require import require


@pytest.fixture(scope="session")
def postgres_server():
    require("postgresql", workshop_kit.has_postgres(), "PostgreSQL is missing: install Debian's `postgresql`.")
    with tempfile.TemporaryDirectory(prefix="mi-postgres-") as folder, workshop_kit.postgres(Path(folder)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """An empty database of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "board.sqlite3")
    return request.getfixturevalue("postgres_server").create()


@pytest.fixture
def board(tmp_path):
    """A board on SQLite."""
    with workshop_kit.board(tmp_path / "board.sqlite3") as running:
        yield running
