"""Where the course's own files are: notebooks, solutions and data, in a clone or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path


def root() -> Path:
    """What holds `notebooks/`, `solutions/` and `data/`: the clone's root, or `mi_course/_content` in a wheel."""
    package = Path(__file__).resolve().parent
    shipped = package / "_content"
    return shipped if shipped.is_dir() else package.parent


def data_dir() -> Path:
    """Small models and data sets; `README.md` there gives each one's licence, size and SHA-256."""
    return root() / "data"


def notebooks_dir() -> Path:
    """What a learner opens: generated, without answers."""
    return root() / "notebooks"


def solutions_dir() -> Path:
    """Where lessons are written, and their executed form."""
    return root() / "solutions"
