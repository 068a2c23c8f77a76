"""Where the course's own files are. Imports nothing of ours: a sandbox loads models without the lessons."""

from __future__ import annotations

from pathlib import Path

__all__ = ["course_root", "data_dir"]


def course_root() -> Path:
    """The folder of `notebooks/`, `solutions/` and `data/`: the clone's root, or `mi_course/_content` in a wheel."""
    package = Path(__file__).resolve().parents[2]
    shipped = package / "_content"
    return shipped if shipped.is_dir() else package.parent


def data_dir() -> Path:
    """Small models and data sets; `README.md` there gives each one's licence, size and SHA-256."""
    return course_root() / "data"
